/*
 * dispatch.c - the loop of a dispatcher: read, match, send, log.
 *
 * Runs in the dispatcher's process. One round ("turn") is a short transaction
 * that reads the log under one snapshot and writes the results that are due;
 * commands and positions are a second one. No transaction is open while
 * anything waits on the network: requests are started and collected between
 * turns. The loop sleeps on the latch (a commit with events), libcurl's sockets
 * and the next timer, and never longer than what is due.
 *
 * Nothing is sent that might be taken back (WAL is flushed up to what was read),
 * nor while results cannot be logged: after a failed write the gate is
 * closed until one has committed, also at start.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "clock.h"
#include "command.h"
#include "consumer.h"
#include "deliver.h"
#include "dispatch.h"
#include "erase.h"
#include "feed.h"
#include "housekeeping.h"
#include "launcher.h"
#include "mail.h"
#include "notice.h"
#include "oauth.h"
#include "reader.h"
#include "replay.h"
#include "results.h"
#include "roster.h"
#include "store.h"
#include "transform.h"
#include "transport.h"
#include "vault.h"
#include "wake.h"

#define PACE_US				1000	/* the log is read at most that often */
#define FEED_US				4000	/* for those that are behind, while they still have something in flight */
#define COMMIT_DELAY_US		5000	/* results are written that long after the first */
#define COMMIT_RESULTS		1000	/* or when there are so many */
#define PERSIST_US			1000000 /* positions and health are stored at most that often */
#define GAP_POLL_US			1000000 /* a rollback that closes a gap wakes nobody */
#define CLOCK_SET_US		1000000 /* the clock was set by more than that */
#define RETRY_WRITE_MAX_US	5000000 /* longest pause after a write that failed */

static struct
{
	MemoryContext context;
	MemoryContext turn;			/* reset at each turn */
	WaitEventSet *events;
	DmshookReader *reader;
	DmshookConsumers *set;
	DmshookStoredPlace place;	/* the reader's, as stored */
	bool		open;			/* results can be logged: requests may go out */
	bool		more;			/* there is more to read at once */
	bool		results_failed; /* the last results could not be written */
	bool		gone;			/* the extension is */
	int64		set_back;		/* the clock was, by so many us */
	bool		keys_changed;	/* the secrets of all webhooks are to be opened again */
	bool		feeding;		/* somebody is behind and has room */
	int64		last_turn;		/* monotonic us; so the others */
	int64		first_result;	/* 0: none waits */
	int64		last_persist;
	int64		failed_until;	/* no write before that */
	int64		failure_pause;
	int64		last_stats;
	uint64		last_events;
	uint64		last_deliveries;
	uint64		persisted_work; /* events and deliveries, and the reader's low, when positions were last stored */
	int64		persisted_low;
}			loop;

/* When those that are behind are fed: not for a handful of rows each, unless they run dry. */
static int64
feed_at(void)
{
	return loop.last_turn + (dmshook_consumers_flying(loop.set) > 0 ? FEED_US : PACE_US);
}

static void
publish_stats(int64 now)
{
	DmshookStats *stats = dmshook_wake_my_stats();
	uint64		missing;
	TimestampTz since;
	uint64		fence;

	dmshook_reader_gaps(loop.reader, &missing, &since, &fence);
	stats->high = dmshook_reader_high(loop.reader);
	stats->low = loop.place.low;
	stats->in_flight = dmshook_transport_in_flight();
	stats->gaps = (uint32) Min(missing, PG_UINT32_MAX);
	stats->oldest_gap = since;
	stats->gap_fence = fence;
	if (now - loop.last_stats >= PERSIST_US)
	{
		double		seconds = (now - loop.last_stats) / 1000000.0;

		stats->events_per_s = (stats->events - loop.last_events) / seconds;
		stats->deliveries_per_s = (stats->deliveries - loop.last_deliveries) / seconds;
		stats->waiting = dmshook_consumers_waiting(loop.set);
		loop.last_events = stats->events;
		loop.last_deliveries = stats->deliveries;
		loop.last_stats = now;
	}
}

/* Has anything happened since positions and health were stored? */
static bool
persist_pending(void)
{
	DmshookStats *stats = dmshook_wake_my_stats();

	return stats->events + stats->deliveries != loop.persisted_work ||
		dmshook_reader_low(loop.reader) != loop.persisted_low;
}

static bool
persist_due(int64 now)
{
	return (now - loop.last_persist >= PERSIST_US || ShutdownRequestPending) && now >= loop.failed_until && persist_pending();
}

/*
 * The gate is closed, and all that waits to be logged failed alone: is it these, or the log?
 * One request that is sent and logged tells.
 */
static bool
on_trial(void)
{
	return !loop.open && loop.results_failed && dmshook_results_on_trial(loop.set);
}

/* Start what the last turn picked from the queue, and tests. */
static void
start_picked(void)
{
	DmshookEntry *entry;
	bool		one = on_trial();

	while ((entry = dmshook_feed_next_picked()) != NULL)
	{
		if (entry->cancelled)
			dmshook_deliver_cancelled(entry);
		else if ((loop.open || one) && dmshook_deliver_start(entry) == DMSHOOK_STARTED)
			one = false;
		else
		{
			DmshookWebhook *webhook = dmshook_consumer_cookie(entry->consumer);

			webhook->due_from = DT_NOBEGIN;
			dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOBEGIN);
			dmshook_entry_unpick(entry);
		}
	}
	if (loop.open)
		dmshook_feed_start_tests();
}

/* Send what may be sent. */
static void
send_ready(void)
{
	DmshookConsumer *consumer;
	DmshookEntry *entry;

	if (!loop.open && !on_trial())
		return;
	while ((consumer = dmshook_consumers_next_ready(loop.set)) != NULL)
	{
		entry = dmshook_consumer_send(consumer);
		if (entry == NULL)
			continue;
		switch (dmshook_deliver_start(entry))
		{
			case DMSHOOK_STARTED:
				if (!loop.open)
					return;
				break;
			case DMSHOOK_NOT_NOW:
				dmshook_entry_unsend(entry);
				break;
			case DMSHOOK_NO_CONNECTION:
				dmshook_entry_unsend(entry);
				return;
		}
	}
}

/* Collect what ended. */
static void
collect(void)
{
	DmshookTransfer *transfer;
	bool		rejected = false;

	while ((transfer = dmshook_transport_finished()) != NULL)
		dmshook_deliver_finished(transfer);
	dmshook_deliver_prepared(loop.open, &rejected);
	if (rejected)
	{
		/* no result will say that there is room again, and that places have moved */
		loop.feeding = true;
		loop.persisted_low = -1;
	}
	if (loop.first_result == 0 && (dmshook_consumers_dirty(loop.set) || dmshook_deliver_has_tests()))
		loop.first_result = dmshook_clock();
}

/* Are results to be written now? */
static bool
results_due(int64 now)
{
	return loop.first_result != 0 && now >= loop.failed_until &&
		(now - loop.first_result >= COMMIT_DELAY_US ||
		 dmshook_consumers_finished(loop.set) >= COMMIT_RESULTS);
}

/* When a result that failed alone is to be tried again. */
static int64
retry_at(int64 now)
{
	TimestampTz due = dmshook_results_due();

	if (due == DT_NOEND)
		return PG_INT64_MAX;
	return Max(loop.failed_until, due == DT_NOBEGIN ? now : now + Max(due - GetCurrentTimestamp(), 0));
}

/*
 * A write failed: the transaction is gone, memory is as before it. Say so once
 * a streak, wait a growing while, and let nothing out meanwhile.
 */
static void
write_failed(ErrorData *error)
{
	int64		now = dmshook_clock();

	loop.open = false;
	loop.gone = !dmshook_extension_exists();
	if (loop.gone)
	{
		FreeErrorData(error);
		return;
	}
	strlcpy(dmshook_wake_my_stats()->last_error, error->message, sizeof(((DmshookStats *) 0)->last_error));
	if (loop.failure_pause == 0)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("results could not be logged: %s", error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 errhint("Nothing is sent until the log can be written again; dmshook keeps trying.")));
	loop.failure_pause = Min(Max(loop.failure_pause * 2, 20000), RETRY_WRITE_MAX_US);
	loop.failed_until = now + loop.failure_pause;
	FreeErrorData(error);
}

static void
write_succeeded(void)
{
	loop.open = true;
	if (loop.failure_pause != 0)
	{
		ereport(LOG, (errmsg("results can be logged again")));
		dmshook_wake_my_stats()->last_error[0] = '\0';
	}
	loop.failure_pause = 0;
	loop.failed_until = 0;
}

/* What failed is over: take the error out of the way, end the transaction. */
static ErrorData *
take_error(void)
{
	ErrorData  *error;

	MemoryContextSwitchTo(loop.context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(loop.turn);
	return error;
}

/* Commands and positions: a transaction of its own, after the results. */
static void
write_positions(List *commands, int64 now)
{
	const DmshookPersist *volatile persist = NULL;
	List	   *volatile effects = NIL;
	ErrorData  *volatile error = NULL;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(loop.turn);
	PG_TRY();
	{
		if (commands != NIL)
			effects = dmshook_commands_run(loop.set, commands);
		dmshook_commands_reorder();
		persist = dmshook_persist_begin(loop.set, dmshook_reader_low(loop.reader), false);
		dmshook_results_positions(persist, &loop.place, !loop.open);
		dmshook_replays_persist();
		dmshook_results_health();
		dmshook_notices_write();
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(loop.turn);
	}
	PG_CATCH();
	{
		error = take_error();
	}
	PG_END_TRY();

	if (persist)
		dmshook_persist_end(loop.set, error == NULL);
	dmshook_notices_end(error == NULL);
	dmshook_results_health_end(error == NULL);
	loop.last_persist = now;
	if (error)
	{
		dmshook_results_forget();
		write_failed(error);
		return;
	}
	if (!loop.results_failed)
		write_succeeded();
	loop.persisted_work = dmshook_wake_my_stats()->events + dmshook_wake_my_stats()->deliveries;
	loop.persisted_low = dmshook_reader_low(loop.reader);
	dmshook_replays_persisted();
	dmshook_commands_committed(effects);
	if (effects != NIL)
		loop.more = true;		/* a replay may have begun: nothing else wakes us for it */
	dmshook_feed_remove_dropped();
}

/* Something beside events and results, in a transaction of its own: an error there is its own. */
static ErrorData *
aside(void (*run) (void))
{
	ErrorData  *volatile error = NULL;

	MemoryContextReset(loop.turn);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(loop.turn);
	PG_TRY();
	{
		run();
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(loop.turn);
	}
	PG_CATCH();
	{
		error = take_error();
	}
	PG_END_TRY();
	return error;
}

/* Nobody waits for it, so it is a warning; error may be NULL. */
static void
warn(ErrorData *error, const char *what, const char *hint)
{
	if (error == NULL)
		return;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("%s: %s", what, error->message),
			 errhint("%s", hint)));
	FreeErrorData(error);
}

static void
run_housekeeping(void)
{
	dmshook_housekeeping_run(loop.set);
}

/* What is old goes, a batch at a time. */
static void
keep_house(void)
{
	ErrorData  *error = aside(run_housekeeping);

	/* what expired lets places move on, though nothing else may happen for long */
	if (dmshook_housekeeping_end(error == NULL))
		loop.persisted_low = -1;
	warn(error, "old events could not be removed", "dmshook tries it again in a minute.");
}

/* Failure notices by e-mail: what was sent is written, and the next mail begins. */
static void
keep_mail(void)
{
	ErrorData  *error = aside(dmshook_mail_run);

	dmshook_mail_end(error == NULL);
	warn(error, "failure notifications could not be prepared for mail", "dmshook tries it again in a minute.");
}

/* Pages of what was erased are cleaned. */
static void
keep_clean(void)
{
	ErrorData  *error = aside(dmshook_erase_run);

	dmshook_erase_end(error == NULL);
	warn(error, "erased data could not be cleaned out of the files of the tables", "dmshook tries it again.");
}

/*
 * The clock was set back: what is stored as due later than now moves with it. Memory is full of
 * times, too, so this process then ends, and a new one loads what is stored.
 */
static void
move_times(void)
{
	ereport(LOG,
			(errmsg("the system's clock was set back by %.0f seconds: retries and probes of dmshook move with it",
					loop.set_back / 1000000.0)));
	dmshook_store_move_times(GetCurrentTimestamp(), loop.set_back);
}

/* Was it while there was no dispatcher? Then requests ended later than now. */
static void
move_times_at_start(void)
{
	loop.set_back = dmshook_store_ahead(GetCurrentTimestamp());
	if (loop.set_back >= DMSHOOK_CLOCK_STEP)
		move_times();
}

static void
follow_clock(bool start)
{
	warn(aside(start ? move_times_at_start : move_times), "retries could not be moved with the clock that was set back",
		 "They are made when the clock gets there.");
}

/*
 * One turn: read under one snapshot, then write what is due. An error while reading
 * ends the process (memory and log may no longer agree); one while writing does not.
 */
static void
turn(int64 now)
{
	List	   *volatile commands = NIL;
	volatile bool write;
	ErrorData  *volatile error = NULL;
	XLogRecPtr	flush;

	MemoryContextReset(loop.turn);
	/* before the snapshot: it then sees the webhooks that tests speak of */
	dmshook_feed_take_tests();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(loop.turn);
	Assert(!TransactionIdIsValid(GetTopTransactionIdIfAny()));

	if (dmshook_store_has_commands())
	{
		commands = dmshook_store_commands();
		dmshook_commands_reload(loop.set, commands);
	}
	if (loop.keys_changed)
		dmshook_roster_reload(loop.set);
	loop.keys_changed = false;
	loop.more = dmshook_feed_round(loop.reader, loop.set);
	loop.feeding = dmshook_feed_hungry(loop.reader, loop.set);
	/* while the gate is closed what is due would only be put back */
	if (loop.open || on_trial())
		dmshook_feed_queue(loop.set);
	dmshook_feed_tests();

	/* half due is due, when there is a transaction anyway */
	write = now >= loop.failed_until &&
		((loop.first_result != 0 && (now - loop.first_result >= COMMIT_DELAY_US / 2 || results_due(now) || ShutdownRequestPending)) ||
		 dmshook_feed_has_orphans() || retry_at(now) <= now);

	PG_TRY();
	{
		if (write)
			dmshook_results_write(loop.set);
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(loop.turn);
	}
	PG_CATCH();
	{
		error = take_error();
	}
	PG_END_TRY();

	if (error)
	{
		loop.results_failed = !dmshook_results_end(loop.set, error->message);
		if (loop.results_failed)
			write_failed(error);
		else
			loop.first_result = dmshook_consumers_dirty(loop.set) ? now : 0;
	}
	else if (write)
	{
		dmshook_results_end(loop.set, NULL);
		loop.results_failed = false;
		write_succeeded();
		loop.first_result = dmshook_consumers_dirty(loop.set) ? now : 0;
	}

	/* nothing leaves that a crash could take back; free where commits are synchronous */
	flush = dmshook_reader_take_flush(loop.reader);
	if (!XLogRecPtrIsInvalid(flush))
		XLogFlush(flush);

	if (now >= loop.failed_until &&
		(commands != NIL || persist_due(now) || !loop.open || dmshook_notices_due() <= GetCurrentTimestamp()))
		write_positions(commands, now);
	/* what was written has made room */
	loop.feeding |= dmshook_feed_wanted(loop.set);
	loop.last_turn = now;
	publish_stats(now);
}

/* Is a turn due? latch: a commit (or an admin) woke us. */
static bool
turn_due(int64 now, bool latch)
{
	if (now - loop.last_turn < PACE_US)
		return false;
	if (latch || loop.more || (loop.feeding && now >= feed_at()) || results_due(now) || persist_due(now))
		return true;
	if (loop.open && dmshook_feed_next_due() <= GetCurrentTimestamp())
		return true;
	if (retry_at(now) <= now)
		return true;
	if (!loop.open && now >= loop.failed_until)
		return true;
	if (loop.open && dmshook_notices_due() <= GetCurrentTimestamp())
		return true;
	return dmshook_reader_has_gaps(loop.reader) && now - loop.last_turn >= GAP_POLL_US;
}

/* Milliseconds until something is due, rounded up; -1: nothing. */
static long
sleep_ms(int64 now)
{
	int64		until = PG_INT64_MAX;
	TimestampTz due = loop.open ? dmshook_feed_next_due() : DT_NOEND;
	long		curl = dmshook_transport_timeout();

	due = Min(due, dmshook_agenda_next(DMSHOOK_ALARM_GATE));
	if (loop.open)
		due = Min(due, Min(dmshook_housekeeping_due(), Min(dmshook_notices_due(), Min(dmshook_mail_due(), dmshook_erase_due()))));
	if (loop.more)
		until = loop.last_turn + PACE_US;
	else if (loop.feeding)
		until = feed_at();
	if (loop.first_result != 0)
		until = Min(until, Max(loop.first_result + COMMIT_DELAY_US, loop.failed_until));
	if (!loop.open)
		until = Min(until, Max(loop.failed_until, now + 1000));
	until = Min(until, Min(retry_at(now), dmshook_oauth_due()));
	if (dmshook_reader_has_gaps(loop.reader))
		until = Min(until, loop.last_turn + GAP_POLL_US);
	if (persist_pending())
		until = Min(until, Max(loop.last_persist + PERSIST_US, loop.failed_until));
	if (!TIMESTAMP_NOT_FINITE(due))
		until = Min(until, now + Max(due - GetCurrentTimestamp(), 0));
	else if (due == DT_NOBEGIN)
		until = now;
	if (curl >= 0)
		until = Min(until, now + curl * 1000);
	if (dmshook_transform_busy())
		until = Min(until, now + PERSIST_US);	/* a helper that hangs wakes nobody */
	if (until == PG_INT64_MAX)
		return -1;
	return Min((Max(until - now, 0) + 999) / 1000, 60 * 1000);
}

/* A clock that was set makes nonsense of the times at which webhooks are to be asked again. */
static void
mind_clock(int64 now)
{
	static int64 difference = 0;
	int64		is = GetCurrentTimestamp() - now;

	if (llabs((long long) (is - difference)) > CLOCK_SET_US)
		dmshook_roster_clock_set();
	difference = is;
}

/* Sleep until there is something to do. */
static void
sleep_until_due(int64 now)
{
	WaitEvent	event[2];
	long		ms;

	if (MyLatch->is_set && now - loop.last_turn < PACE_US)
	{
		/* woken too early: leave the latch set, which makes waking free, and serve the network */
		dmshook_transport_run(1);
		return;
	}
	/* requests were started and ended since the last turn */
	dmshook_wake_my_stats()->in_flight = dmshook_transport_in_flight();
	ms = sleep_ms(now);
	if (ms < 0 || ms > 100)
		pgstat_report_stat(ms < 0);
	if (ms != 0)
	{
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitEventSetWait(loop.events, ms, event, lengthof(event), PG_WAIT_EXTENSION);
	}
}

static void
init(void)
{
	DmshookConsumerCalls calls;
	int64		last_value;

	loop.context = AllocSetContextCreate(TopMemoryContext, "dmshook dispatcher", ALLOCSET_DEFAULT_SIZES);
	loop.turn = AllocSetContextCreate(loop.context, "dmshook turn", ALLOCSET_DEFAULT_SIZES);
	dmshook_cache_init(loop.context);
	dmshook_roster_init(loop.context);
	dmshook_deliver_init(loop.context);
	dmshook_mail_init(loop.context);
	dmshook_transport_init();
	dmshook_vault_reload();

	/*
	 * What a crash can take back is the record that a request was made, and
	 * at-least-once allows to make it again, with the same webhook-id.
	 * Nothing that an admin or the DMS wrote depends on our commits.
	 */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);

	/* plans are kept: one made while a table was empty must do for millions of rows */
	SetConfigOption("enable_seqscan", "off", PGC_SUSET, PGC_S_OVERRIDE);

#if PG_VERSION_NUM >= 170000
	loop.events = CreateWaitEventSet(NULL, 3);	/* for as long as the process lives */
#else
	loop.events = CreateWaitEventSet(loop.context, 3);
#endif
	AddWaitEventToSet(loop.events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(loop.events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(loop.events, WL_SOCKET_READABLE, dmshook_transport_fd(), NULL, NULL);

	follow_clock(true);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(loop.turn);
	dmshook_store_start(&loop.place, &last_value);
	loop.reader = dmshook_reader_create(loop.context, loop.place.low);
	dmshook_feed_calls(&calls, loop.context);
	loop.set = dmshook_consumers_create(&calls, loop.place.low);
	if (loop.set == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	dmshook_roster_load(loop.set, 0, true, last_value);
	dmshook_replays_load(loop.context);
	dmshook_commands_start();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(loop.context);
	loop.last_stats = dmshook_clock();
}

bool
dmshook_dispatch(void)
{
	init();
	while (!ShutdownRequestPending && !loop.gone && (loop.set_back = dmshook_clock_set_back()) == 0)
	{
		int64		now;
		bool		queue_first;

		CHECK_FOR_INTERRUPTS();
		/* who never sleeps never learns it from the latch; nothing may go out of a dead server */
		if (!PostmasterIsAlive())
			proc_exit(1);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			dmshook_transport_reload();
			dmshook_housekeeping_reload();
			dmshook_mail_reload();
			if (dmshook_vault_reload())
				loop.keys_changed = loop.more = true;
		}

		dmshook_transport_run(0);
		collect();
		now = dmshook_clock();
		mind_clock(now);
		if (dmshook_roster_regate(GetCurrentTimestamp(), now - loop.last_turn >= PACE_US, dmshook_deliver_hold, &queue_first))
			loop.feeding |= dmshook_feed_wanted(loop.set);
		if (!queue_first)
			send_ready();
		now = dmshook_clock();
		if (queue_first || turn_due(now, MyLatch->is_set))
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
			pgstat_report_activity(STATE_RUNNING, NULL);
			turn(now);
			start_picked();
			send_ready();
			continue;
		}
		if (loop.open && dmshook_housekeeping_due() <= GetCurrentTimestamp())
		{
			keep_house();
			continue;
		}
		if (loop.open && dmshook_erase_due() <= GetCurrentTimestamp())
		{
			keep_clean();
			continue;
		}
		if (loop.open && dmshook_mail_due() <= GetCurrentTimestamp())
		{
			keep_mail();
			continue;
		}
		sleep_until_due(now);
	}

	/* what came back is logged, what is under way will be sent again */
	dmshook_transport_run(0);
	collect();
	if ((loop.first_result != 0 || persist_pending()) && !loop.gone)
		turn(dmshook_clock());
	if (loop.set_back != 0 && !loop.gone)
		follow_clock(false);
	return loop.set_back != 0;
}
