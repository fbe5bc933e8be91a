/*
 * feed.c - from the log and the queue to the consumers: what a turn reads.
 *
 * Runs in the dispatcher. Everything that reads here does so under the turn's one
 * snapshot, so that what is open, done and new is judged by one state of the
 * database. Nothing is written and nothing is sent here; what was picked from the
 * queue and the tests that were posted wait in a list until the transaction is over.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "deliver.h"
#include "feed.h"
#include "replay.h"
#include "roster.h"
#include "store.h"
#include "wake.h"

#define ROUND_ROWS		2000	/* new rows in a turn */
#define SCAN_ROWS		1000	/* rows of one scan for a webhook that is behind */
#define SCAN_LEAST		64
#define HUNGRY_US		5000	/* a turn feeds those that are behind so long */
#define HANDLED_IDS		4096	/* ids that one look at attempt and queue covers */
#define QUEUE_ROWS		256
#define CACHE_LIMIT		((Size) 128 * 1024 * 1024)	/* bodies in memory */

/* A test that waits for its turn to be sent. */
typedef struct PendingTest
{
	DmshookWebhook *webhook;
	DmshookCached *event;
	int			ticket;
	struct PendingTest *next;
} PendingTest;

static MemoryContext feed_context = NULL;
static List *picked = NIL;		/* DmshookEntry, in feed_context */
static List *orphans = NIL;		/* DmshookQueueRow, in the turn's memory */
static PendingTest *pending_tests = NULL;

/* Posted tests, taken before a snapshot. */
#define MAX_TESTS		16
static struct
{
	DmshookTest test;
	int			ticket;
}			tickets[MAX_TESTS];
static int	ntickets = 0;

/* One look at what is done and open, for a range of ids; valid for a turn. */
static DmshookHandled handled;
static int64 handled_from = 0;
static int64 handled_upto = -1;

static void *
call_alloc(void *arg, size_t size)
{
	return MemoryContextAllocExtended(arg, size, MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
}

static void
call_free(void *arg pg_attribute_unused(), void *pointer)
{
	pfree(pointer);
}

static bool
call_matches(void *arg pg_attribute_unused(), void *cookie, const DmshookLogEvent *event)
{
	return dmshook_roster_matches(cookie, event->payload);
}

static bool
call_handled(void *arg pg_attribute_unused(), void *cookie, int64_t id)
{
	DmshookWebhook *webhook = cookie;

	if (id < handled_from || id > handled_upto)
	{
		handled = dmshook_store_handled(id, id + HANDLED_IDS - 1);
		handled_from = id;
		handled_upto = id + HANDLED_IDS - 1;
	}
	return dmshook_handled_has(&handled, id, webhook->id);
}

static int
call_candidates(void *arg pg_attribute_unused(), const DmshookLogEvent *event, DmshookConsumer ***list)
{
	return dmshook_roster_candidates(event->payload, list);
}

static void
call_keep(void *arg pg_attribute_unused(), void *payload)
{
	dmshook_cache_keep(payload);
}

static void
call_drop(void *arg pg_attribute_unused(), void *payload)
{
	dmshook_cache_drop(payload);
}

void
dmshook_feed_calls(DmshookConsumerCalls *calls, MemoryContext context)
{
	memset(calls, 0, sizeof(*calls));
	calls->arg = AllocSetContextCreate(context, "dmshook deliveries", ALLOCSET_DEFAULT_SIZES);
	calls->alloc = call_alloc;
	calls->free = call_free;
	calls->matches = call_matches;
	calls->handled = call_handled;
	calls->candidates = call_candidates;
	calls->keep = call_keep;
	calls->drop = call_drop;
	feed_context = AllocSetContextCreate(context, "dmshook picked", ALLOCSET_DEFAULT_SIZES);
	picked = NIL;
	orphans = NIL;
	pending_tests = NULL;
}

/* ------------------------------------------------------------ from the log */

typedef struct Round
{
	DmshookReader *reader;
	DmshookConsumers *set;
	DmshookConsumer *consumer;	/* of a scan */
	DmshookReplay *replay;
	bool		fresh;			/* the first new row has come */
	bool		full;			/* the scan's webhook has no room left */
	uint64		rows;
} Round;

/* Make the event known to consumer.c for the time of a call. */
static DmshookCached *
begin_event(const DmshookEvent *row, DmshookLogEvent *event)
{
	DmshookCached *cached = dmshook_cache_begin(row);

	event->id = row->id;
	event->entity = cached->entity;
	event->payload = cached;
	return cached;
}

static void
late_row(const DmshookEvent *row, void *arg)
{
	Round	   *round = arg;
	DmshookLogEvent event;
	DmshookCached *cached = begin_event(row, &event);

	round->rows++;
	dmshook_consumers_late(round->set, &event);
	dmshook_cache_end(cached);
}

static void
fresh_row(const DmshookEvent *row, void *arg)
{
	Round	   *round = arg;
	DmshookLogEvent event;
	DmshookCached *cached;

	if (!round->fresh)
	{
		dmshook_consumers_set_looking(round->set, dmshook_reader_looking(round->reader));
		round->fresh = true;
	}
	cached = begin_event(row, &event);
	round->rows++;
	dmshook_consumers_fresh(round->set, &event);
	dmshook_cache_end(cached);
}

static void
scanned_row(const DmshookEvent *row, void *arg)
{
	Round	   *round = arg;
	DmshookLogEvent event;
	DmshookCached *cached;

	if (round->full)
		return;
	cached = begin_event(row, &event);
	round->full = !dmshook_consumer_feed(round->consumer, &event);
	dmshook_cache_end(cached);
}

/*
 * Bodies in memory: windows follow their size; and when they take too much,
 * webhooks that do not get on give back what waits, and read it again later.
 */
static void
mind_memory(void)
{
	static Size applied = 1024;
	static bool was_full = false;
	DmshookWebhook *webhook = NULL;
	Size		average = dmshook_cache_average();
	bool		full = dmshook_cache_size() >= CACHE_LIMIT / 2;
	TimestampTz recently = GetCurrentTimestamp() - USECS_PER_SEC;

	if (average > 64 * 1024 && average > applied * 2)
		applied = average;
	else if (average < applied / 2)
		applied = average;
	else if (!full && !was_full)
		return;
	was_full = full;
	while ((webhook = dmshook_roster_iterate(webhook)) != NULL)
	{
		webhook->squeezed = full && webhook->state.last_success_at < recently;
		if (webhook->squeezed &&
			dmshook_consumer_window(webhook->consumer) > dmshook_consumer_flying(webhook->consumer) + DMSHOOK_WINDOW_LEAST)
			dmshook_consumer_shed(webhook->consumer);
		dmshook_roster_apply(webhook);
	}
}

bool
dmshook_feed_round(DmshookReader *reader, DmshookConsumers *set)
{
	Round		round = {.reader = reader, .set = set};
	DmshookStats *stats = dmshook_wake_my_stats();
	int64		explicit;
	bool		more;

	handled_upto = -1;			/* a new snapshot: look again */
	mind_memory();
	dmshook_consumers_set_room(set, dmshook_cache_size() < CACHE_LIMIT);
	dmshook_consumers_set_looking(set, dmshook_reader_looking(reader));
	more = dmshook_reader_round(reader, GetActiveSnapshot(), ROUND_ROWS, late_row, fresh_row, &round);
	dmshook_consumers_set_looking(set, dmshook_reader_looking(reader));
	stats->events += round.rows;

	explicit = dmshook_reader_take_explicit(reader);
	if (explicit != 0)
	{
		char		detail[64];

		snprintf(detail, sizeof(detail), "{\"id\": " INT64_FORMAT "}", explicit);
		dmshook_store_notice(0, "sequence_behind", detail);
	}
	return more;
}

static void
late_fetched(const DmshookEvent *row, void *arg)
{
	DmshookConsumer *consumer = arg;
	DmshookLogEvent event;
	DmshookCached *cached = begin_event(row, &event);

	dmshook_consumer_feed_late(consumer, row->id, &event);
	dmshook_cache_end(cached);
}

static int64
now_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/* One webhook that is behind: its late ids, then the next stretch of the log. */
static void
feed_consumer(DmshookReader *reader, DmshookConsumers *set, DmshookConsumer *consumer, int64 deadline)
{
	Snapshot	snapshot = GetActiveSnapshot();
	int64		id;
	int64		after;
	int64		upto;
	int			room;

	while ((id = dmshook_consumer_wants_late(consumer)) != 0)
	{
		if (!dmshook_reader_fetch(snapshot, id, late_fetched, consumer))
			dmshook_consumer_feed_late(consumer, id, NULL);
		if (now_us() > deadline)
			return;
	}
	while (dmshook_consumer_wants(consumer, &after, &upto, &room))
	{
		Round		round = {.reader = reader, .set = set, .consumer = consumer};
		int			limit = Min(Max(room, SCAN_LEAST), SCAN_ROWS);
		int64		reached = dmshook_reader_scan(reader, snapshot, after, upto, limit, scanned_row, &round);

		if (round.full)
			return;
		dmshook_consumer_fed(consumer, reached);
		if (now_us() > deadline)
			return;
	}
}

bool
dmshook_feed_hungry(DmshookReader *reader, DmshookConsumers *set)
{
	int64		deadline = now_us() + HUNGRY_US;
	DmshookConsumer *consumer;

	dmshook_consumers_start_hungry(set);
	while ((consumer = dmshook_consumers_next_hungry(set)) != NULL)
	{
		feed_consumer(reader, set, consumer, deadline);
		if (now_us() > deadline)
			return true;
	}
	return dmshook_replays_feed(reader, deadline);
}

/* ---------------------------------------------------------- from the queue */

typedef struct QueuePick
{
	DmshookWebhook *webhook;
	const DmshookQueueRow *row;
	DmshookEntry *entry;
} QueuePick;

static void
queue_fetched(const DmshookEvent *row, void *arg)
{
	QueuePick  *pick = arg;
	DmshookLogEvent event;
	DmshookCached *cached = begin_event(row, &event);

	dmshook_roster_recheck(pick->webhook, cached, pick->row->kind != 'd');
	pick->entry = dmshook_consumer_pick(pick->webhook->consumer, &event, pick->row->kind,
										pick->row->command, pick->row->attempts);
	if (pick->entry)
		pick->entry->quick = pick->row->quick;
	dmshook_cache_end(cached);
}

/* Rows are due that it may not send now. */
static void
block(DmshookWebhook *webhook)
{
	dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOEND);
	dmshook_roster_block(webhook, true);
}

/* Take what is due of one webhook, as far as it may send. */
static void
feed_queue_of(DmshookWebhook *webhook, TimestampTz now)
{
	/* one that fails begins one at a time: more would be read for nothing */
	bool		one = dmshook_deliver_in_turn(webhook, now);
	int			limit = (one ? 1 : QUEUE_ROWS) + dmshook_consumer_flying(webhook->consumer) + dmshook_consumer_window(webhook->consumer);
	bool		taken = false;
	TimestampTz until;
	List	   *rows;
	ListCell   *cell;

	if (!dmshook_consumer_may_send(webhook->consumer))
	{
		block(webhook);			/* asked again when results were committed, or its gate opens */
		return;
	}
	until = dmshook_deliver_hold(webhook, now);
	if (until != 0)
	{
		dmshook_roster_gate(webhook, now, until);
		block(webhook);
		return;
	}
	rows = dmshook_store_queue_due(webhook->id, webhook->due_from, limit);
	dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, list_length(rows) < limit ? DT_NOEND : now);
	foreach(cell, rows)
	{
		QueuePick	pick = {.webhook = webhook, .row = lfirst(cell)};
		MemoryContext old;

		if (pick.row->due_at > now)
		{
			dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, pick.row->due_at);
			return;
		}
		if (!dmshook_consumer_may_send(webhook->consumer))
		{
			block(webhook);
			return;
		}
		if (one && taken)
		{
			dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, now);
			return;
		}
		if (dmshook_consumer_held(webhook->consumer, pick.row->event, NULL) != DMSHOOK_HELD_NOT)
			continue;			/* in flight: its row stands until that is committed */
		if (!dmshook_reader_fetch(GetActiveSnapshot(), pick.row->event, queue_fetched, &pick))
		{
			orphans = lappend(orphans, (void *) pick.row);
			continue;
		}
		if (pick.entry == NULL)
		{
			/* another of its entity is in flight, or memory is short: from here again, later */
			block(webhook);
			return;
		}
		taken = true;
		webhook->due_from = pick.row->due_at;
		old = MemoryContextSwitchTo(feed_context);
		picked = lappend(picked, pick.entry);
		MemoryContextSwitchTo(old);
	}
}

void
dmshook_feed_queue(DmshookConsumers *set pg_attribute_unused())
{
	DmshookWebhook *webhook;
	DmshookWebhook *next;
	TimestampTz now = GetCurrentTimestamp();

	orphans = NIL;
	for (webhook = dmshook_agenda_iterate(DMSHOOK_TODO_BLOCKED, NULL); webhook; webhook = next)
	{
		next = dmshook_agenda_iterate(DMSHOOK_TODO_BLOCKED, webhook);
		if (dmshook_consumer_may_send(webhook->consumer))
		{
			dmshook_roster_block(webhook, false);
			dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOBEGIN);
		}
	}
	/* each is looked at once, whatever comes of it */
	while ((webhook = dmshook_agenda_due(DMSHOOK_ALARM_QUEUE, now)) != NULL)
	{
		dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOEND);
		dmshook_agenda_add(webhook, DMSHOOK_TODO_DUE);
	}
	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_DUE, NULL)) != NULL)
	{
		dmshook_agenda_drop(webhook, DMSHOOK_TODO_DUE);
		if (!webhook->dropped)
			feed_queue_of(webhook, now);
	}
}

List *
dmshook_feed_take_orphans(void)
{
	List	   *result = orphans;

	orphans = NIL;
	return result;
}

bool
dmshook_feed_has_orphans(void)
{
	return orphans != NIL;
}

bool
dmshook_feed_wanted(DmshookConsumers *set)
{
	DmshookWebhook *webhook = NULL;

	if (dmshook_consumers_any_hungry(set))
		return true;
	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_BLOCKED, webhook)) != NULL)
	{
		if (dmshook_consumer_may_send(webhook->consumer))
			return true;
	}
	return false;
}

DmshookEntry *
dmshook_feed_next_picked(void)
{
	DmshookEntry *entry;

	if (picked == NIL)
	{
		MemoryContextReset(feed_context);
		return NULL;
	}
	entry = linitial(picked);
	picked = list_delete_first(picked);
	if (picked == NIL)
		MemoryContextReset(feed_context);
	return entry;
}

TimestampTz
dmshook_feed_next_due(void)
{
	return dmshook_agenda_next(DMSHOOK_ALARM_QUEUE);
}

static bool
test_pending(const DmshookWebhook *webhook)
{
	for (PendingTest *test = pending_tests; test; test = test->next)
	{
		if (test->webhook == webhook)
			return true;
	}
	return false;
}

void
dmshook_feed_remove_dropped(void)
{
	DmshookWebhook *webhook;
	DmshookWebhook *next;

	for (webhook = dmshook_agenda_iterate(DMSHOOK_TODO_DROPPED, NULL); webhook; webhook = next)
	{
		next = dmshook_agenda_iterate(DMSHOOK_TODO_DROPPED, webhook);
		if (!dmshook_consumer_busy(webhook->consumer) &&
			!dmshook_deliver_busy(webhook) && !test_pending(webhook))
			dmshook_roster_remove(webhook);
	}
}

/* -------------------------------------------------------------------- tests */

typedef struct TestRow
{
	const DmshookTest *test;
	DmshookCached *event;
} TestRow;

/*
 * The event of a test: a sample out of the log, or one made up; it has an id of
 * its own (0 and the test's nonce), so that no receiver takes it for the sample.
 */
static void
test_row(const DmshookEvent *row, void *arg)
{
	TestRow    *test = arg;
	DmshookEvent event = *row;
	MemoryContext old = MemoryContextSwitchTo(feed_context);

	event.id = 0;
	event.nonce = test->test->nonce;
	event.type.data = test->test->type;
	event.type.len = strlen(test->test->type);
	test->event = dmshook_cache_begin(&event);
	dmshook_cache_copy(test->event, true);
	test->event->row = NULL;
	MemoryContextSwitchTo(old);
}

static void
set_span(DmshookSpan *span, const char *text)
{
	span->data = text;
	span->len = strlen(text);
}

static void
made_up_row(TestRow *test)
{
	DmshookEvent event = {0};
	StringInfoData source;
	StringInfoData data;
	char	   *entity = pstrdup(test->test->type);
	char	   *dot = strchr(entity, '.');

	if (dot)
		*dot = '\0';
	initStringInfo(&source);
	appendStringInfoString(&source, "{\"database\":");
	escape_json(&source, get_database_name(MyDatabaseId));
	appendStringInfoString(&source, ",\"schema\":null,\"table\":null}");
	initStringInfo(&data);
	appendStringInfoString(&data, "{\"entity\":");
	escape_json(&data, entity);
	appendStringInfoString(&data, ",\"key\":{},\"record\":{\"message\":\"This is a test of dmshook: nothing has happened.\"}}");

	event.at = GetCurrentTimestamp();
	set_span(&event.type, test->test->type);
	set_span(&event.entity, entity);
	event.key = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	set_span(&event.who, "{\"name\":null,\"role\":null,\"application\":\"dmshook\"}");
	event.source.data = source.data;
	event.source.len = source.len;
	event.data.data = data.data;
	event.data.len = data.len;
	test_row(&event, test);
}

void
dmshook_feed_take_tests(void)
{
	while (ntickets < MAX_TESTS && (tickets[ntickets].ticket = dmshook_wake_take_test(&tickets[ntickets].test)) >= 0)
		ntickets++;
}

void
dmshook_feed_tests(void)
{
	while (ntickets > 0)
	{
		const DmshookTest *posted = &tickets[--ntickets].test;
		DmshookWebhook *webhook = dmshook_roster_find(posted->webhook);
		TestRow		test = {.test = posted};
		PendingTest *pending;

		if (webhook == NULL || webhook->dropped)
		{
			dmshook_wake_answer_test(tickets[ntickets].ticket, DMSHOOK_TEST_UNKNOWN_WEBHOOK, 0);
			continue;
		}
		if (posted->event == 0 || !dmshook_reader_fetch(GetActiveSnapshot(), posted->event, test_row, &test))
			made_up_row(&test);
		pending = MemoryContextAlloc(TopMemoryContext, sizeof(PendingTest));
		pending->webhook = webhook;
		pending->event = test.event;
		pending->ticket = tickets[ntickets].ticket;
		pending->next = pending_tests;
		pending_tests = pending;
	}
}

void
dmshook_feed_start_tests(void)
{
	while (pending_tests)
	{
		PendingTest *test = pending_tests;

		if (!dmshook_deliver_start_test(test->webhook, test->event, test->ticket))
			return;
		pending_tests = test->next;
		dmshook_cache_drop(test->event);
		pfree(test);
	}
}

void
dmshook_feed_erase_tests(void)
{
	for (PendingTest *test = pending_tests; test; test = test->next)
		test->event->erased = true;
}
