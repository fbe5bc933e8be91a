/*
 * replay.c - replays: stretches of the log that a webhook is sent again.
 *
 * Runs in the dispatcher. A replay is one more place in the log with an end, one
 * row however long it is. What it may send is decided by the tables under the turn's
 * snapshot (ended before, or never for this webhook; not open; not yet sent by this very
 * command) and by memory (consumer.c leaves out what is held). What was for the
 * webhook and has not ended comes the normal way, not twice.
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "args.h"
#include "cache.h"
#include "match.h"
#include "replay.h"

#define SPAN_IDS 2000			/* one look at attempt and queue, one scan */

/* What a replay was asked for: the cookie of a DmshookReplay. */
typedef struct ReplayRequest
{
	DmshookWebhook *webhook;
	int64		stored_low;
	bool		missing;
	TimestampTz since;
	TimestampTz until;
	int			ntypes;			/* 0: all */
	char	  **types;
	bool		ended;			/* its row was deleted in the current transaction */
} ReplayRequest;

static MemoryContext replay_context = NULL;

static void
read_request(ReplayRequest *request, Jsonb *args)
{
	request->missing = dmshook_arg_bool(args, "missing");
	request->since = dmshook_arg_time(args, "since", DT_NOBEGIN);
	request->until = dmshook_arg_time(args, "until", DT_NOEND);
	request->types = dmshook_arg_texts(args, "types", &request->ntypes);
}

static void
begin_replay(DmshookWebhook *webhook, int64 command, int64 low, int64 until, Jsonb *args)
{
	MemoryContext old = MemoryContextSwitchTo(replay_context);
	ReplayRequest *request = palloc0(sizeof(ReplayRequest));

	request->webhook = webhook;
	request->stored_low = low;
	read_request(request, args);
	if (dmshook_replay_add(webhook->consumer, command, low, until, request) == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	dmshook_agenda_add(webhook, DMSHOOK_TODO_REPLAY);
	MemoryContextSwitchTo(old);
}

void
dmshook_replays_load(MemoryContext context)
{
	ListCell   *cell;

	replay_context = AllocSetContextCreate(context, "dmshook replays", ALLOCSET_SMALL_SIZES);
	foreach(cell, dmshook_store_replays())
	{
		DmshookReplayRow *row = lfirst(cell);
		DmshookWebhook *webhook = dmshook_roster_find(row->webhook);

		if (webhook)
			begin_replay(webhook, row->command, row->low, row->until, row->args);
	}
}

/* Where a command's replay begins and ends: not beyond what the webhook itself has come to. */
static void
replay_range(DmshookWebhook *webhook, const DmshookCommand *command, int64 *low, int64 *until)
{
	*until = Min(command->upto, dmshook_consumer_next(webhook->consumer));
	*low = Min(dmshook_arg_int8(command->args, "from", 0), *until);
}

void
dmshook_replay_write(DmshookWebhook *webhook, const DmshookCommand *command)
{
	DmshookReplayRow row = {.webhook = webhook->id, .command = command->id};

	replay_range(webhook, command, &row.low, &row.until);
	dmshook_store_replay_put(&row);
}

void
dmshook_replay_command_done(DmshookWebhook *webhook, const DmshookCommand *command)
{
	int64		low;
	int64		until;

	replay_range(webhook, command, &low, &until);
	begin_replay(webhook, command->id, low, until, command->args);
}

void
dmshook_replays_cancel(int webhook)
{
	dmshook_store_replay_remove(webhook, 0);
}

/* ------------------------------------------------------------------- feed */

typedef struct Span
{
	DmshookReplay *replay;
	ReplayRequest *request;
	DmshookPast past;
	bool		full;
} Span;

static bool
request_wants(const ReplayRequest *request, const DmshookCached *event)
{
	if (event->at < request->since || event->at > request->until)
		return false;
	if (request->ntypes == 0)
		return true;
	for (int i = 0; i < request->ntypes; i++)
	{
		if (dmshook_pattern_matches(request->types[i], strlen(request->types[i]), event->type.data, event->type.len))
			return true;
	}
	return false;
}

static void
replayed_row(const DmshookEvent *row, void *arg)
{
	Span	   *span = arg;
	const DmshookPastKey *past;
	DmshookLogEvent event;
	DmshookCached *cached;
	const DmshookFault *fault;
	bool		was_for_it;
	bool		ended;

	if (span->full || row->erased)
		return;
	past = dmshook_past_find(&span->past, row->id);
	ended = past && past->final;
	if (past && (past->open || past->by_command || (past->delivered && span->request->missing)))
		return;
	cached = dmshook_cache_begin(row);
	event.id = row->id;
	event.entity = cached->entity;
	event.payload = cached;
	/* was it for the webhook, and will come by itself? One unjudged that it has passed was not */
	was_for_it = !ended && dmshook_roster_matches(span->request->webhook, cached);
	fault = dmshook_cache_fault(cached, span->request->webhook->id);
	if (was_for_it && fault && fault->unjudged)
		was_for_it = !dmshook_consumer_passed(span->request->webhook->consumer, row->id);
	/* the webhook as it now is comes last: the fault of its filter, if any, is the one that counts */
	if (request_wants(span->request, cached) &&
		!was_for_it &&
		dmshook_roster_subscribes(span->request->webhook, cached))
		span->full = !dmshook_replay_feed(span->replay, &event);
	dmshook_cache_end(cached);
}

static int64
now_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/* True: there is more to feed than time allowed. */
static bool
feed_replay(DmshookReader *reader, DmshookReplay *replay, int64 deadline_us)
{
	ReplayRequest *request = dmshook_replay_cookie(replay);
	int64		after;
	int64		upto;
	int			room;

	while (dmshook_replay_wants(replay, &after, &upto, &room))
	{
		Span		span = {.replay = replay, .request = request};
		int64		reached;

		upto = Min(upto, after + SPAN_IDS);
		span.past = dmshook_store_past(request->webhook->id, after, upto, dmshook_replay_command(replay));
		reached = dmshook_reader_scan(reader, GetActiveSnapshot(), after, upto, SPAN_IDS, replayed_row, &span);
		if (span.full)
			return false;
		dmshook_replay_fed(replay, reached);
		if (now_us() > deadline_us)
			return true;
	}
	return false;
}

bool
dmshook_replays_feed(DmshookReader *reader, int64 deadline_us)
{
	DmshookWebhook *webhook = NULL;
	bool		more = false;

	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_REPLAY, webhook)) != NULL)
	{
		DmshookReplay *replay = NULL;

		while ((replay = dmshook_replay_iterate(webhook->consumer, replay)) != NULL)
			more |= feed_replay(reader, replay, deadline_us);
	}
	return more;
}

/* ----------------------------------------------------------------- persist */

void
dmshook_replays_persist(void)
{
	DmshookWebhook *webhook = NULL;

	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_REPLAY, webhook)) != NULL)
	{
		DmshookReplay *replay = NULL;

		while ((replay = dmshook_replay_iterate(webhook->consumer, replay)) != NULL)
		{
			ReplayRequest *request = dmshook_replay_cookie(replay);
			int64		low = dmshook_replay_low(replay);

			request->ended = dmshook_replay_done(replay);
			if (request->ended)
				dmshook_store_replay_remove(webhook->id, dmshook_replay_command(replay));
			else if (low != request->stored_low)
				dmshook_store_replay_move(webhook->id, dmshook_replay_command(replay), low);
			request->stored_low = low;
		}
	}
}

void
dmshook_replays_persisted(void)
{
	DmshookWebhook *webhook;
	DmshookWebhook *following;

	for (webhook = dmshook_agenda_iterate(DMSHOOK_TODO_REPLAY, NULL); webhook; webhook = following)
	{
		DmshookReplay *replay = dmshook_replay_iterate(webhook->consumer, NULL);

		following = dmshook_agenda_iterate(DMSHOOK_TODO_REPLAY, webhook);
		while (replay)
		{
			DmshookReplay *next = dmshook_replay_iterate(webhook->consumer, replay);
			ReplayRequest *request = dmshook_replay_cookie(replay);

			if (request->ended)
				dmshook_replay_remove(replay);
			replay = next;
		}
		if (dmshook_replay_iterate(webhook->consumer, NULL) == NULL)
			dmshook_agenda_drop(webhook, DMSHOOK_TODO_REPLAY);
	}
}
