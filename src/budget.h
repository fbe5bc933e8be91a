/*
 * budget.h - how much of the dispatcher's time a webhook's filter may take. See
 * budget.c.
 *
 * Pure: no PostgreSQL, no clock. Times are in microseconds, on any clock that ascends.
 */
#ifndef DMSHOOK_BUDGET_H
#define DMSHOOK_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define DMSHOOK_BUDGET_FREE_US	100 /* of each evaluation; who takes no longer may as often as there are events */
#define DMSHOOK_BUDGET_ONCE_US	20000	/* beyond that: at once.. */
#define DMSHOOK_BUDGET_SHARE	20	/* ..and in the long run one part in so many of all time */
#define DMSHOOK_BUDGET_PAUSE_US	INT64_C(10000000)	/* overspent: nothing for so long, then twice as long.. */
#define DMSHOOK_BUDGET_PAUSE_MAX_US	INT64_C(600000000)	/* ..up to this */

/* Zeroed at start. */
typedef struct DmshookBudget
{
	int64_t		spent;			/* of DMSHOOK_BUDGET_ONCE_US, as of.. */
	int64_t		at;
	int64_t		until;			/* overspent: not before that; 0: never yet */
	int64_t		pause;			/* the last one */
} DmshookBudget;

/* May it be evaluated now? */
extern bool dmshook_budget_may(const DmshookBudget *budget, int64_t now);

/* It was, and took so long; over: it was cancelled, which overspends in any case. */
extern void dmshook_budget_spend(DmshookBudget *budget, int64_t now, int64_t us, bool over);

#endif							/* DMSHOOK_BUDGET_H */
