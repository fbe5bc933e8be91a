/*
 * worker.c - the life of one dispatcher: from its launch to its end.
 *
 * A background worker of one database. It takes its slot, connects, pins its
 * settings, makes sure that it is the only one, that the extension is there
 * and that this database may send, and then runs the loop (dispatch.c). It
 * leaves its slot at exit with a word on how it ended; the launcher then starts
 * another one, at once, after a pause, or not at all.
 *
 * Transactions: short ones of its own, before and after the loop. It always
 * exits with code 0 where it can: what there is to say it says itself, a streak
 * of the same failure once.
 */
#include "postgres.h"

#include <signal.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "dispatch.h"
#include "launcher.h"
#include "slot.h"
#include "store.h"
#include "wake.h"

/*
 * Our advisory lock. SQL functions can only take those with 1 or 2 in the
 * last field, so nobody else holds it by accident or to stop us.
 */
#define LOCK_KEY			0x646d7368
#define LOCK_FIELD4			3

/* A copy in which much is written wakes us for each event: look no more often than this. */
#define UNCLAIMED_PACE_MS	100

static void worker_sigterm(SIGNAL_ARGS);
static void worker_exit(int code, Datum arg);
static DmshookSlotEnd worker_run(Oid database);
static void worker_pin_settings(void);
static bool worker_begin(void);
static bool worker_wait_for_claim(void);
static bool worker_failed(ErrorData *error);

static DmshookSlotEnd worker_end = DMSHOOK_END_FAILED;
static bool worker_connected = false;
static char *worker_database = NULL;	/* its name, for the log */

void
dmshook_worker_main(Datum arg)
{
	int			slot = DatumGetInt32(arg);
	DmshookLaunch launch;
	MemoryContext context = CurrentMemoryContext;

	memcpy(&launch, MyBgworkerEntry->bgw_extra, sizeof(launch));

#ifdef PR_SET_DUMPABLE
	/* secrets will be in memory: no core file, and no debugger but root's */
	(void) prctl(PR_SET_DUMPABLE, 0);
#endif

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, worker_sigterm);
	BackgroundWorkerUnblockSignals();

	/* first, so that it runs last: the advisory lock is released before the slot is */
	before_shmem_exit(worker_exit, (Datum) 0);
	if (!dmshook_slot_attach(slot, launch.database, launch.life))
		proc_exit(0);

	PG_TRY();
	{
		worker_end = worker_run(launch.database);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (worker_failed(error))
			worker_end = DMSHOOK_END_FAILED;
	}
	PG_END_TRY();

	proc_exit(0);
}

/*
 * End soon: the loop looks at ShutdownRequestPending. Who waits for somebody's
 * lock, or is told again, has the statement cancelled too; an error then ends
 * it just so. Not die(): results that were gathered shall be logged first, and
 * each ordinary stop would be a FATAL in the log.
 */
static void
worker_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	(void) postgres_signal_arg;
	if (ShutdownRequestPending || (MyProc && MyProc->waitStatus == PROC_WAIT_STATUS_WAITING))
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
	ShutdownRequestPending = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
worker_exit(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	dmshook_slot_detach(worker_end);
}

static DmshookSlotEnd
worker_run(Oid database)
{
	bool		again;

	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	worker_connected = true;
	worker_pin_settings();

	if (!worker_begin())
		return DMSHOOK_END_UNWANTED;
	if (!worker_wait_for_claim())
		return DMSHOOK_END_TOLD;

	dmshook_wake_set_state(DMSHOOK_SLOT_RUNNING);
	again = dmshook_dispatch();

	if (ShutdownRequestPending || again)
		return DMSHOOK_END_TOLD;
	if (!dmshook_extension_exists())
		return DMSHOOK_END_UNWANTED;

	/* dropped and created again: look anew */
	return DMSHOOK_END_FAILED;
}

/*
 * ALTER DATABASE ... SET and ALTER ROLE ... SET reach background workers too,
 * and a reload of the configuration does. What our statements rest on is
 * pinned; PGC_S_OVERRIDE is above all of these.
 */
static void
worker_pin_settings(void)
{
	static const char *const pinned[][2] = {
		{"role", "none"},
		{"search_path", "pg_catalog, pg_temp"},
		{"application_name", "dmshook dispatcher"},

		/* each statement sees what was committed before it, and writes */
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},

		/* a commit that waits for a missing standby would stop the loop */
		{"synchronous_commit", "local"},
		{"commit_delay", "0"},

		/* how long anything may take is the loop's to say */
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
		{"transaction_timeout", "0"},
#endif

		/* against DROP EXTENSION it is we who give way, not the user's command */
		{"deadlock_timeout", "100ms"},

		/* nobody's triggers and rules on our tables */
		{"session_replication_role", "replica"},
		{"row_security", "on"},

		/* the form of values in payloads */
		{"timezone", "UTC"},
		{"datestyle", "ISO, YMD"},
		{"intervalstyle", "iso_8601"},
		{"extra_float_digits", "1"},
		{"bytea_output", "hex"},
		{"xmlbinary", "base64"},
		{"quote_all_identifiers", "off"},

		/* the text of our statements means what it says */
		{"standard_conforming_strings", "on"},
		{"array_nulls", "on"},
		{"transform_null_equals", "off"},
		{"default_tablespace", ""},

		/* index probes, each a few microseconds; a plan made while a table was empty is kept */
		{"enable_seqscan", "off"},
		{"jit", "off"},
		{"plan_cache_mode", "auto"},
		{"max_parallel_workers_per_gather", "0"},
		{"enable_indexscan", "on"},
		{"enable_indexonlyscan", "on"},
		{"enable_bitmapscan", "on"},
		{"enable_nestloop", "on"},
		{"enable_sort", "on"},
	};

	for (size_t i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

bool
dmshook_extension_exists(void)
{
	bool		own = !IsTransactionState();
	bool		exists;

	if (own)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
	}
	exists = OidIsValid(get_extension_oid("dmshook", true));
	if (own)
		CommitTransactionCommand();
	return exists;
}

/* Is there an extension here? And nobody else dispatching for it (an error)? */
static bool
worker_begin(void)
{
	LOCKTAG		tag;
	bool		exists;
	bool		alone = true;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	worker_database = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	exists = dmshook_extension_exists();
	if (exists)
	{
		SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_KEY, 0, LOCK_FIELD4);
		alone = LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
	}
	CommitTransactionCommand();

	if (!alone)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another process dispatches for this database")));
	return exists;
}

/*
 * Wait until this database is the one that may send: it is not a copy, and
 * something has been set up in it. Returns false when told to end.
 */
static bool
worker_wait_for_claim(void)
{
	bool		told = false;

	for (;;)
	{
		bool		copy;
		int			tickets[DMSHOOK_MAX_TESTS];
		int			ntickets;
		TimestampTz looked;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending)
			return false;
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		/* before the look: a test that was asked for after the claim is not refused */
		ntickets = dmshook_wake_posted_tests(tickets, DMSHOOK_MAX_TESTS);
		looked = GetCurrentTimestamp();
		if (dmshook_store_claimed(&copy))
			return true;
		if (copy && !told)
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("database \"%s\" is not claimed by dmshook: nothing is sent", worker_database),
					 errdetail("It was restored or copied from another one. Its events are kept."),
					 errhint("A superuser calls dmshook.claim_database('takeover') in it, when it takes the place of the original, or dmshook.claim_database('copy').")));
		told |= copy;

		dmshook_wake_set_state(DMSHOOK_SLOT_UNCLAIMED);
		for (int i = 0; i < ntickets; i++)
			dmshook_wake_answer_test(tickets[i], DMSHOOK_TEST_UNCLAIMED, 0);

		pgstat_report_stat(true);
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);

		while (!ShutdownRequestPending && dmshook_wake_posted_tests(tickets, DMSHOOK_MAX_TESTS) == 0)
		{
			long		ms = UNCLAIMED_PACE_MS - TimestampDifferenceMilliseconds(looked, GetCurrentTimestamp());

			if (ms <= 0)
				break;
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
		}
	}
}

/*
 * An error ended it. Was it really one? Not when it was told to end, nor when
 * the extension was dropped under its hands. A further failure of the same
 * kind is only logged at DEBUG1.
 */
static bool
worker_failed(ErrorData *error)
{
	uint32		failure;

	if (ShutdownRequestPending)
	{
		worker_end = DMSHOOK_END_TOLD;
		return false;
	}
	AbortCurrentTransaction();
	if (worker_connected && !dmshook_extension_exists())
	{
		worker_end = DMSHOOK_END_UNWANTED;
		return false;
	}

	failure = DatumGetUInt32(hash_any((const unsigned char *) error->message, (int) strlen(error->message)));
	ereport(dmshook_slot_new_failure(failure, error->message) ? LOG : DEBUG1,
			(errcode(error->sqlerrcode),
			 errmsg("dmshook dispatcher of database \"%s\" failed: %s",
					worker_database ? worker_database : "?", error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : errhint("It is started again after a pause."),
			 errcontext("%s, %s:%d", error->funcname ? error->funcname : "?",
						error->filename ? error->filename : "?", error->lineno)));
	return true;
}
