/*
 * schedule.h - whether and when to send again. Pure: no PostgreSQL, no curl, no
 * clock (the caller passes the time). See schedule.c.
 */
#ifndef DMSHOOK_SCHEDULE_H
#define DMSHOOK_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DMSHOOK_MAX_INTERVALS	50
#define DMSHOOK_MAX_RANGES		32

/* What became of a request; the character is attempt.outcome. */
typedef enum DmshookOutcome
{
	DMSHOOK_OK = 'o',
	DMSHOOK_HTTP_ERROR = 'h',
	DMSHOOK_TIMEOUT = 't',
	DMSHOOK_DNS_ERROR = 'd',
	DMSHOOK_CONNECT_ERROR = 'c',
	DMSHOOK_TLS_ERROR = 's',
	DMSHOOK_BLOCKED_ADDRESS = 'b',
	DMSHOOK_REDIRECT = 'r',
	DMSHOOK_TOO_LARGE = 'l',
	DMSHOOK_PROTOCOL_ERROR = 'p',
	DMSHOOK_INTERNAL_ERROR = 'i'
} DmshookOutcome;

/* "200-299", "200,202,410-499": inclusive ranges of status codes. */
typedef struct DmshookStatusList
{
	int			n;
	struct
	{
		uint16_t	from;
		uint16_t	to;
	}			range[DMSHOOK_MAX_RANGES];
} DmshookStatusList;

/* A retry plan. Times in milliseconds. */
typedef struct DmshookPlan
{
	int			max_attempts;	/* 1: never again */
	int64_t		initial;		/* delay after the first failure */
	double		factor;			/* each further one is that much longer */
	int64_t		max;			/* cap, before jitter */
	double		jitter;			/* 0..1: a delay d becomes one of [d, d * (1 + jitter)), never shorter */
	int			n_intervals;	/* > 0: this list instead; the last one repeats */
	int64_t		interval[DMSHOOK_MAX_INTERVALS];
	DmshookStatusList success;
	DmshookStatusList no_retry;
} DmshookPlan;

/* The default: 14 attempts, 5 s * 4^n up to 12 h, jitter 0.2: 79 h in all (95 h at most); success 200-299. */
extern void dmshook_plan_default(DmshookPlan *plan);

/*
 * Delay in ms before the next attempt, after `attempts` of them have failed
 * (>= 1); -1: there is no next one. random: uniform in [0, 1); pass 0.5 for
 * the plan without jitter.
 */
extern int64_t dmshook_plan_delay(const DmshookPlan *plan, int attempts, double random);

/*
 * Likewise where the response said Retry-After: asked ms (-1: it did not). Not
 * before that, by the same jitter, and not beyond 24 h for its sake; but never
 * earlier than the plan.
 */
extern int64_t dmshook_plan_delay_asked(const DmshookPlan *plan, int attempts, double random, int64_t asked);

/*
 * Is a failure with this outcome and status to be tried again at all? Yes, but for a
 * status in no_retry (with http_error and redirect); max_attempts is
 * dmshook_plan_delay()'s matter. False for DMSHOOK_OK.
 */
extern bool dmshook_plan_retryable(const DmshookPlan *plan, DmshookOutcome outcome, int status);

/*
 * Parse a list; false and the offset of the fault (or NULL) when malformed: empty, codes
 * outside 100-599, a range backwards, more than DMSHOOK_MAX_RANGES. *list is
 * empty then.
 */
extern bool dmshook_status_list_parse(const char *text, DmshookStatusList *list, size_t *fault);
extern bool dmshook_status_list_has(const DmshookStatusList *list, int status);

/* "http_error", ... as the views have it; NULL when unknown. */
extern const char *dmshook_outcome_name(DmshookOutcome outcome);

#endif							/* DMSHOOK_SCHEDULE_H */
