/*
 * judge.c - what a webhook's filter says of an event, and who finds out.
 *
 * Runs in the dispatcher: while a row is being read, inside its transaction, and (asking a helper) outside. Most filters
 * take microseconds and are evaluated here. One that overspends its budget (budget.h), or runs into the clock once, is asked of the
 * helper process (transform.c) for a while: its events are taken unjudged, each goes to the helper when it is its turn to be sent, and
 * what the helper rejects leaves as if it had never matched: no row, no trace, also after a crash, for a filter
 * says the same of the same event again (consumer.h: dmshook_entry_reject()). One that is too slow even for the helper fails, and rests.
 *
 * Where no helper can be had, filters are evaluated here, under the clock. Memory: a context for each evaluation.
 */
#include "postgres.h"

#include "access/xact.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "filter.h"
#include "judge.h"
#include "roster.h"
#include "settings.h"
#include "transform.h"

/* A filter that took too long rests so long: at first, and at most (each time twice as long). */
#define REST_MS			10000
#define REST_MAX_MS		300000

/* What a body has beside its data, at most, near enough. */
#define ENVELOPE		4096

static MemoryContext judge_context = NULL;	/* of one evaluation */

void
dmshook_judge_init(MemoryContext parent)
{
	judge_context = AllocSetContextCreate(parent, "dmshook filter", ALLOCSET_DEFAULT_SIZES);
}

/* A filter to a path, in the row's context; one that is none says why at each event. */
static void
compile(DmshookSubscription *version, MemoryContext context)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		version->path = dmshook_filter_compile(version->filter);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		version->filter_problem = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
}

/* That of the version before is shared where it is the same. */
void
dmshook_judge_compile(DmshookWebhookRow *row, MemoryContext context)
{
	for (int i = 0; i < row->nsubscriptions; i++)
	{
		DmshookSubscription *version = &row->subscriptions[i];

		if (version->filter == NULL)
			continue;
		if (i > 0 && version[-1].filter && strcmp(version[-1].filter, version->filter) == 0)
		{
			version->path = version[-1].path;
			version->filter_problem = version[-1].filter_problem;
		}
		else
			compile(version, context);
	}
}

static int64
now_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/* It took too long: a filter that is always too slow takes a tenth of a process's time, then less. */
static void
rest(DmshookJudge *judge)
{
	judge->pause = Min(Max(judge->pause * 2, REST_MS), REST_MAX_MS);
	judge->rests = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), judge->pause);
}

/* Does it rest? The reason, in the current context; else NULL. */
static char *
resting(const DmshookJudge *judge, int limit_ms)
{
	if (judge->rests == 0 || GetCurrentTimestamp() >= judge->rests)
		return NULL;
	return psprintf("it took longer than %d ms before, and rests for %d s", limit_ms, judge->pause / 1000);
}

/* Can a helper be asked? It gets the body, so there must be one. */
static bool
may_ask(const DmshookCached *event)
{
	return dmshook_transform_available() && event->row->data.len + ENVELOPE <= dmshook_max_body;
}

/* A filter's verdict on an event; of an error the reason, which lives until the next call. */
static DmshookFilterVerdict
judge(DmshookWebhook *webhook, const DmshookSubscription *version, DmshookCached *event, char **error)
{
	DmshookJudge *state = &webhook->judge;
	DmshookFilterVerdict verdict;
	MemoryContext old;
	int64		begun = now_us();
	Jsonb	   *payload;
	bool		timed_out;

	MemoryContextReset(judge_context);
	*error = version->filter_problem;
	if (version->path == NULL)
		return DMSHOOK_FILTER_ERROR;
	if (!dmshook_budget_may(&state->budget, begun))
	{
		if (may_ask(event))
			return DMSHOOK_FILTER_UNASKED;
		old = MemoryContextSwitchTo(judge_context);
		*error = resting(state, DMSHOOK_FILTER_LIMIT_MS);
		MemoryContextSwitchTo(old);
		if (*error)
			return DMSHOOK_FILTER_ERROR;
	}
	payload = dmshook_cache_jsonb(event, error);
	if (payload == NULL)
		return DMSHOOK_FILTER_ERROR;
	old = MemoryContextSwitchTo(judge_context);
	begun = now_us();
	verdict = dmshook_filter_evaluate(version->path, payload, DMSHOOK_FILTER_LIMIT_MS, error, &timed_out);
	dmshook_budget_spend(&state->budget, now_us(), now_us() - begun, timed_out);
	MemoryContextSwitchTo(old);
	if (timed_out && may_ask(event))
		return DMSHOOK_FILTER_UNASKED;
	if (timed_out)
		rest(state);
	else if (verdict != DMSHOOK_FILTER_ERROR)
		state->pause = 0;
	return verdict;
}

static void
set_failed(DmshookWebhook *webhook, DmshookCached *event, const char *error)
{
	MemoryContext old = MemoryContextSwitchTo(judge_context);

	dmshook_cache_set_fault(event, webhook->id, psprintf("the filter failed: %s", error), false);
	MemoryContextSwitchTo(old);
}

bool
dmshook_judge_admits(DmshookWebhook *webhook, const DmshookSubscription *version, DmshookCached *event)
{
	char	   *error;

	if (event->faults)
		dmshook_cache_set_fault(event, webhook->id, NULL, false);
	if (version->filter == NULL)
		return true;
	switch (judge(webhook, version, event, &error))
	{
		case DMSHOOK_FILTER_TRUE:
			return true;
		case DMSHOOK_FILTER_FALSE:
		case DMSHOOK_FILTER_UNKNOWN:
			return false;
		case DMSHOOK_FILTER_UNASKED:
			dmshook_cache_set_unjudged(event, webhook->id);
			return true;
		case DMSHOOK_FILTER_ERROR:
			break;
	}
	set_failed(webhook, event, error);
	return true;
}

void
dmshook_judge_again(DmshookWebhook *webhook, const DmshookSubscription *version, DmshookCached *event, bool by_hand)
{
	const DmshookSubscription *newest = &webhook->row->subscriptions[webhook->row->nsubscriptions - 1];
	DmshookFilterVerdict verdict;
	char	   *error;

	if (version == NULL || version->filter == NULL)
		return;
	verdict = judge(webhook, version, event, &error);
	if (verdict == DMSHOOK_FILTER_ERROR && newest != version)
		verdict = newest->filter ? judge(webhook, newest, event, &error) : DMSHOOK_FILTER_TRUE;
	if (verdict == DMSHOOK_FILTER_UNASKED)
		dmshook_cache_set_unjudged(event, webhook->id);
	else if (verdict == DMSHOOK_FILTER_ERROR)
		set_failed(webhook, event, error);
	else if (verdict != DMSHOOK_FILTER_TRUE && !by_hand)
		dmshook_cache_set_fault(event, webhook->id, DMSHOOK_REJECTED, true);
}

bool
dmshook_judge_ask(DmshookWebhook *webhook, const DmshookEntry *entry, DmshookCached *event, void *owner, char **error)
{
	const DmshookSubscription *newest = &webhook->row->subscriptions[webhook->row->nsubscriptions - 1];
	const DmshookSubscription *version = entry->origin == DMSHOOK_FROM_REPLAY ? newest : dmshook_roster_version(webhook, event->id);
	const char *second = NULL;
	int			len;
	const char *body = dmshook_cache_body(event, 0, &len);

	*error = NULL;
	/* altered meanwhile; or there is no body, which the attempt will say */
	if (version == NULL || version->filter == NULL || body == NULL)
		return false;
	*error = resting(&webhook->judge, DMSHOOK_TRANSFORM_LIMIT_MS);
	if (*error)
		return false;
	if (entry->origin == DMSHOOK_FROM_QUEUE && newest != version)
		second = newest->filter ? newest->filter : "";
	dmshook_transform_ask_filter(owner, webhook->id, webhook->judge.slow, version->filter, second, body, len);
	return true;
}

void
dmshook_judge_answered(DmshookWebhook *webhook, int64 duration_us, bool timed_out)
{
	DmshookJudge *state = &webhook->judge;

	state->helper_us += (duration_us - state->helper_us) / 8;
	if (timed_out || state->helper_us > DMSHOOK_TRANSFORM_SLOW_US)
		state->slow = true;
	else if (state->helper_us < DMSHOOK_TRANSFORM_SLOW_US / 4)
		state->slow = false;
	if (timed_out)
	{
		char	   *error;

		/* those that wait for their turn would take as long */
		rest(state);
		error = resting(state, DMSHOOK_TRANSFORM_LIMIT_MS);
		dmshook_transform_call_off(webhook->id, error);
		pfree(error);
	}
	else
		state->pause = 0;
}
