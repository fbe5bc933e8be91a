/*
 * judge.h - what a webhook's filter says of an event, and who finds out: the
 * dispatcher, or a helper. See judge.c.
 */
#ifndef DMSHOOK_JUDGE_H
#define DMSHOOK_JUDGE_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "budget.h"
#include "cache.h"
#include "consumer.h"
#include "store.h"

struct DmshookWebhook;

/* What an attempt says that ended since a filter that had failed says no at last. */
#define DMSHOOK_REJECTED	"the filter failed before, and now rejects the event"

/* Of a webhook. Zeroed at start, and when its configuration was loaded. */
typedef struct DmshookJudge
{
	DmshookBudget budget;		/* of the dispatcher's time */
	int64		helper_us;		/* how long the helper takes, on average */
	bool		slow;			/* it is served by the second one */
	TimestampTz rests;			/* it ran out of the helper's time: not asked before that */
	int			pause;			/* ms, of the last such rest; 0: none */
} DmshookJudge;

/* Dispatcher, once. */
extern void dmshook_judge_init(MemoryContext parent);

/* The filters of all versions of a row, in its context; one that is none says why at each event. */
extern void dmshook_judge_compile(DmshookWebhookRow *row, MemoryContext context);

/*
 * While the event is being read, inside its transaction; raises no error. Is it for the webhook, as far as the
 * version's filter goes? One that fails leaves a fault in the event and says yes, one that is too slow for us leaves the event
 * unjudged and says yes: a helper is asked before it is sent.
 */
extern bool dmshook_judge_admits(struct DmshookWebhook *webhook, const DmshookSubscription *version, DmshookCached *event);

/*
 * The same of a delivery out of the queue, which the filter let through, or failed on; where that still fails, the newest
 * one is asked. by_hand: it was asked for by name, so a filter that says no is no matter.
 */
extern void dmshook_judge_again(struct DmshookWebhook *webhook, const DmshookSubscription *version, DmshookCached *event, bool by_hand);

/*
 * Outside transactions: have an unjudged entry's filter asked, of a helper that will name the owner. False: it is not
 * asked, for it rests (*error, in the current context), or there is nothing to ask any more (*error NULL).
 */
extern bool dmshook_judge_ask(struct DmshookWebhook *webhook, const DmshookEntry *entry, DmshookCached *event, void *owner, char **error);

/* What came of that. */
extern void dmshook_judge_answered(struct DmshookWebhook *webhook, int64 duration_us, bool timed_out);

#endif							/* DMSHOOK_JUDGE_H */
