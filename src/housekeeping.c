/*
 * housekeeping.c - what is old enough goes: waiting deliveries expire, events and
 * attempts are removed, payloads blanked.
 *
 * Runs in the dispatcher, in a transaction of its own, a batch at a time between
 * turns (a fifth of the time, while requests are under way), and sleeps until the
 * oldest event comes of age. An event is removed when it
 * is older than dmshook.retention, every webhook and replay has gone past it as stored, nothing of it is
 * queued, and its attempts are as old; a dead letter stays for
 * dmshook.dead_letter_retention. Never anything that is still to be delivered; that ends
 * first, as expired, after dmshook.max_wait. Rows are deleted, no table is
 * truncated, dropped or detached: the DMS writes there.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "command.h"
#include "housekeeping.h"
#include "notice.h"
#include "roster.h"
#include "settings.h"
#include "store.h"
#include "transport.h"

#define BATCH_ROWS		1000	/* events looked at in a batch: some milliseconds in which nothing is sent */
#define BLANK_ROWS		500		/* events blanked in a batch */
#define EXPIRE_ROWS		10000	/* events of a webhook's backlog that expire at once */
#define BUSY_PAUSE		4		/* pause between batches while requests are under way, in times of what the batch took */
#define LOOKS			100		/* at most so many looks at everything in the shortest of the times */
#define IDLE_MS			(60 * 60 * 1000)	/* longest time between two looks */

static TimestampTz next_look = DT_NOBEGIN;
static int64 cursor = 0;		/* events up to here have been looked at in this pass */
static int64 blank_cursor = 0;	/* likewise, for payloads */
static bool expiring = false;	/* there was something to expire, and may be more */
static List *effects = NIL;
static List *expired = NIL;		/* Expired, in the current transaction */

/* To be told, once that has committed. */
typedef struct Expired
{
	DmshookWebhook *webhook;
	int64		n;
} Expired;

/* Seconds ago. */
static TimestampTz
ago(TimestampTz now, int seconds)
{
	return now - (int64) seconds * USECS_PER_SEC;
}

TimestampTz
dmshook_housekeeping_due(void)
{
	return next_look;
}

void
dmshook_housekeeping_reload(void)
{
	next_look = DT_NOBEGIN;
}

static void
remember(DmshookWebhook *webhook, int64 after, int64 upto, List *rows)
{
	Expired    *one = palloc(sizeof(Expired));

	one->webhook = webhook;
	one->n = dmshook_store_count_expired(webhook->id, after, upto, rows);
	if (one->n > 0)
		expired = lappend(expired, one);
}

/* What has waited for longer than max_wait ends. True: there may be more. */
static bool
expire(const DmshookConsumers *set, DmshookWebhook *webhook, TimestampTz now)
{
	int64		low = dmshook_consumer_low(webhook->consumer);
	int64		upto;
	List	   *rows;

	/* nothing is sent meanwhile, so thousands that have nothing before them are not asked, and of those behind the first event only */
	if (low >= dmshook_consumers_high(set) || dmshook_store_last_older(low, ago(now, dmshook_max_wait), 1) <= low)
		return false;
	upto = dmshook_store_last_older(low, ago(now, dmshook_max_wait), EXPIRE_ROWS);
	effects = lappend(effects, dmshook_commands_expire(webhook, upto, &rows));
	remember(webhook, low, upto, rows);
	return true;
}

/*
 * So does what was tried, and is to be tried again: of a disabled webhook it would never end. What is
 * sent again by hand stays, for its event may be as old as a dead letter.
 */
static bool
expire_queue(DmshookWebhook *webhook, TimestampTz now)
{
	List	   *rows;

	void	   *effect = dmshook_commands_expire_queue(webhook, ago(now, dmshook_max_wait), EXPIRE_ROWS, &rows);

	if (rows == NIL)
		return false;
	effects = lappend(effects, effect);
	remember(webhook, 0, 0, rows);
	return list_length(rows) == EXPIRE_ROWS;
}

/* Payloads that are old enough go before their events do. True: there may be more. */
static bool
blank_payloads(TimestampTz now, TimestampTz *oldest)
{
	TimestampTz stays;
	int			seen;

	if (dmshook_payload_retention < 0)
		return false;
	seen = dmshook_store_blank_old(&blank_cursor, ago(now, dmshook_payload_retention), BLANK_ROWS, &stays);
	*oldest = Min(*oldest, stays);
	if (seen < BLANK_ROWS)
		blank_cursor = 0;
	return seen == BLANK_ROWS;
}

void
dmshook_housekeeping_run(DmshookConsumers *set)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz oldest = DT_NOEND;
	DmshookWebhook *webhook = NULL;
	bool		more = false;
	bool		first = cursor == 0 || expiring;
	int			payloads = dmshook_payload_retention < 0 ? PG_INT32_MAX : Max(dmshook_payload_retention, 1);
	int			seen;

	effects = expired = NIL;
	/* once a pass: with thousands of webhooks it takes longer than a batch */
	while (first && (webhook = dmshook_roster_iterate(webhook)) != NULL)
	{
		if (webhook->dropped)
			continue;
		more |= expire(set, webhook, now);
		if (cursor == 0)
			more |= expire_queue(webhook, now);
	}
	expiring = more;

	seen = dmshook_store_remove_old(&cursor, ago(now, dmshook_retention),
									ago(now, dmshook_dead_letter_retention), BATCH_ROWS, &oldest);
	if (seen == BATCH_ROWS)
		more = true;
	else
		cursor = 0;				/* from the beginning again, the next time */

	more |= blank_payloads(now, &oldest);

	if (more)
	{
		TimestampTz done = GetCurrentTimestamp();

		next_look = done + (dmshook_transport_in_flight() > 0 ? BUSY_PAUSE * Max(done - now, 0) : 0);
	}
	else
	{
		TimestampTz comes_of_age = TIMESTAMP_NOT_FINITE(oldest) ? DT_NOEND :
		oldest + (int64) Min(payloads, Min(dmshook_retention, dmshook_max_wait)) * USECS_PER_SEC;

		/* dead letters stay for long, and must not make it look at all the others again and again */
		int			shortest = Min(payloads, Min(Min(dmshook_retention, dmshook_max_wait), dmshook_dead_letter_retention));
		int64		pause = Max(shortest / LOOKS, 1) * USECS_PER_SEC;

		/* events that come while it sleeps may be due by then, too */
		next_look = Min(Max(comes_of_age, now + pause), now + Min(shortest * USECS_PER_SEC, IDLE_MS * INT64CONST(1000)));
	}
}

bool
dmshook_housekeeping_end(bool committed)
{
	bool		moved = committed && effects != NIL;
	ListCell   *cell;

	if (committed)
	{
		dmshook_commands_committed(effects);
		foreach(cell, expired)
			dmshook_notice_expired(((Expired *) lfirst(cell))->webhook, ((Expired *) lfirst(cell))->n);
	}
	else
		next_look = GetCurrentTimestamp() + 60 * USECS_PER_SEC;
	effects = expired = NIL;
	return moved;
}
