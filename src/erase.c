/*
 * erase.c - the dispatcher's part of dmshook.erase(): what it holds in memory of
 * erased events is neither sent nor logged, and pages are cleaned.
 *
 * Runs in the dispatcher. erase() itself blanks the tables, in the caller's
 * transaction, and orders what waits to be cancelled. But the dispatcher may have events in its cache,
 * requests in flight whose responses come later, bodies that a transform made, and errors
 * that quote them. So the command that erase() appends is looked at twice: when it is read
 * (mark: memory only, before anything of that turn is logged), and when it is carried out
 * (rows that were logged between the caller's snapshot and the mark are blanked). From the
 * mark on an event is not sent (deliver.c: ended_before) and its attempts are logged without bodies.
 * A request under way is not recalled.
 *
 * Memory: marks are in the cached events. Nothing here waits for a lock (75_erase.sql).
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "cache.h"
#include "deliver.h"
#include "erase.h"
#include "feed.h"
#include "notice.h"
#include "roster.h"

#define SCRUB_PAGES		100		/* cleaned in a transaction */
#define SCRUB_MS		20		/* pause while there is work */
#define SCRUB_WAIT_MS	10000	/* longest pause while somebody's snapshot is in the way */

static TimestampTz next_scrub = DT_NOBEGIN;
static int64 pages_left = 0;	/* after the last run.. */
static int64 pages_before = 0;	/* ..and the one before */
static int	scrub_pause = SCRUB_MS;

/* Ids of the events that a command names. */
static int64 *
events_of(const DmshookCommand *command, int *n)
{
	JsonbIterator *it = JsonbIteratorInit(&command->args->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	int			size = 64;
	int64	   *ids = palloc(sizeof(int64) * size);

	*n = 0;
	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		if (token != WJB_ELEM || value.type != jbvNumeric)
			continue;
		if (*n == size)
			ids = repalloc_huge(ids, sizeof(int64) * (size *= 2));
		ids[(*n)++] = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value.val.numeric)));
	}
	return ids;
}

/* What memory holds of events: neither sent nor logged any more. */
static void
mark(const int64 *ids, int n)
{
	DmshookWebhook *webhook = NULL;

	while ((webhook = dmshook_roster_iterate(webhook)) != NULL)
	{
		for (int i = 0; i < n; i++)
		{
			DmshookEntry *entry;

			if (dmshook_consumer_held(webhook->consumer, ids[i], &entry) != DMSHOOK_HELD_NOT)
				((DmshookCached *) entry->payload)->erased = true;
		}
	}
}

void
dmshook_erase_mark(const DmshookCommand *command)
{
	DmshookWebhook *webhook = NULL;
	int			n;
	int64	   *ids = events_of(command, &n);

	mark(ids, n);
	while ((webhook = dmshook_roster_iterate(webhook)) != NULL)
	{
		/* whose data it is cannot be told; that of a request whose result is yet to be logged may be the person's */
		if (webhook->state.quotes)
		{
			strlcpy(webhook->state.last_error, "erased", sizeof(webhook->state.last_error));
			webhook->state.last_hint[0] = '\0';
			webhook->state.quotes = false;
		}
	}
	dmshook_feed_erase_tests();
	dmshook_deliver_erase();
	dmshook_notice_erase();
	pfree(ids);
}

bool
dmshook_erase_command(const DmshookCommand *command)
{
	List	   *failed;
	ListCell   *cell;
	int64	   *told;
	int			ntold;
	bool		done = dmshook_store_erase_rest(command->args, &failed, &told, &ntold);

	/* notices of what failed in the meantime; those that erase() itself found came with the command */
	mark(told, ntold);
	dmshook_deliver_erase();

	/* what they said last is 'erased' in the table now, and stays so */
	foreach(cell, failed)
	{
		DmshookWebhook *webhook = dmshook_roster_find(lfirst_int(cell));

		if (webhook)
			webhook->state.last_error[0] = webhook->state.last_hint[0] = '\0';
	}
	next_scrub = DT_NOBEGIN;
	scrub_pause = SCRUB_MS;
	return done;
}

TimestampTz
dmshook_erase_due(void)
{
	return next_scrub;
}

void
dmshook_erase_run(void)
{
	pages_before = pages_left;
	pages_left = dmshook_store_scrub(SCRUB_PAGES);
}

void
dmshook_erase_end(bool committed)
{
	if (committed && pages_left == 0)
	{
		next_scrub = DT_NOEND;
		scrub_pause = SCRUB_MS;
		return;
	}
	/* nothing got on: a transaction is open that began before */
	scrub_pause = committed && pages_left < pages_before ? SCRUB_MS : Min(scrub_pause * 2, SCRUB_WAIT_MS);
	next_scrub = GetCurrentTimestamp() + scrub_pause * INT64CONST(1000);
}
