/*
 * launcher.c - sees to it that each database with the extension has a dispatcher.
 *
 * One static background worker, connected to no database (it sees shared
 * catalogs alone). At its start it looks at all databases, one at a time: only
 * a process within a database can tell whether the extension is there, so it
 * launches a dispatcher, which ends at once where it is not. From then on
 * backends tell it through shared memory (hooks.c) and its latch.
 *
 * It sleeps without a timeout unless something is to be tried again. What it
 * knows is in shared memory (slot.c), so that a restarted launcher goes on with
 * the dispatchers that there are; its own memory holds the list of databases
 * still to be looked at, and the handles of workers that were just registered.
 * Transactions: short ones, to read pg_database.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "launcher.h"
#include "settings.h"
#include "slot.h"
#include "wake.h"

#define RESTART_S			5	/* the launcher itself, after an error */
#define MAX_PAUSE_S			60

typedef struct Launched
{
	BackgroundWorkerHandle *handle; /* NULL: none */
	uint32		life;
} Launched;

static void launcher_exit(int code, Datum arg);
static int64 launcher_turn(void);
static void launcher_look_after_launched(void);
static void launcher_scan(void);
static void launcher_next_database(int64 now);
static bool launcher_may_dispatch(Form_pg_database db);
static bool launcher_is_eligible(Oid database);
static bool launcher_launch(int i, Oid database, int64 now);
static void launcher_no_worker(int64 now);

static Launched launched[DMSHOOK_MAX_SLOTS];
static List *databases = NIL;	/* still to be looked at */
static bool scan_wanted = true;

/* No background worker was free: until when not to try again, the pause, and whether it was said. */
static int64 shortage_until = 0;
static int	shortage_pause = 0;
static bool shortage_told = false;

void
dmshook_launcher_init(void)
{
	BackgroundWorker worker;

	/* pg_upgrade fails when somebody else is connected to a database */
	if (IsBinaryUpgrade)
		return;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_S;
	strlcpy(worker.bgw_library_name, "dmshook", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "dmshook_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "dmshook launcher", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "dmshook launcher", sizeof(worker.bgw_type));
	RegisterBackgroundWorker(&worker);
}

void
dmshook_launcher_main(Datum arg pg_attribute_unused())
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();

	before_shmem_exit(launcher_exit, (Datum) 0);
	pg_atomic_write_u32(&dmshook_shared->launcher, (uint32) (dmshook_my_proc() + 1));

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("dmshook launcher");

	for (;;)
	{
		int64		next;
		long		timeout;
		int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		/* 1: the postmaster starts it again, unless it is shutting down */
		if (ShutdownRequestPending)
			proc_exit(1);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		next = launcher_turn();
		timeout = -1;
		if (!TIMESTAMP_IS_NOEND(next))
		{
			timeout = TimestampDifferenceMilliseconds(dmshook_clock(), next) + 1;
			events |= WL_TIMEOUT;
		}
		(void) WaitLatch(MyLatch, events, timeout, PG_WAIT_EXTENSION);
	}
}

static void
launcher_exit(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	pg_atomic_write_u32(&dmshook_shared->launcher, 0);
}

/* Do what can be done; returns when there may be more to do (DT_NOEND: when the latch is set). */
static int64
launcher_turn(void)
{
	int64		now = dmshook_clock();
	int64		next = DT_NOEND;
	bool		waits = false;

	launcher_look_after_launched();

	if (dmshook_dispatchers == 0)
	{
		list_free(databases);
		databases = NIL;
		scan_wanted = true;
		return dmshook_slot_stop_all(now) ? TimestampTzPlusMilliseconds(now, 50) : DT_NOEND;
	}

	if (dmshook_slot_missed() || scan_wanted)
		launcher_scan();
	launcher_next_database(now);

	for (int i = 0; i < DMSHOOK_MAX_SLOTS; i++)
	{
		Oid			database;
		DmshookSlotTodo todo = dmshook_slot_step(i, now, &database, &next);

		if (todo == DMSHOOK_TODO_NOTHING)
			continue;
		if (!launcher_is_eligible(database))
		{
			dmshook_slot_unwanted(i, database);
			next = now;
		}
		else if (todo == DMSHOOK_TODO_LAUNCH)
		{
			if (shortage_until <= now && !dmshook_slot_starting(now) && launcher_launch(i, database, now))
				continue;
			waits = true;
			next = Min(next, shortage_until > now ? shortage_until : TimestampTzPlusMilliseconds(now, 2000));
		}
	}
	if (!waits)
		shortage_told = false;

	/* the end of the one that is starting, or its being ready, sets the latch; but it may hang */
	if (databases != NIL)
		next = Min(next, shortage_until > now ? shortage_until : TimestampTzPlusMilliseconds(now, 2000));
	return next;
}

/*
 * A worker that ended before it took its slot could not tell anybody. And one
 * that ended leaves a background worker free, which may be what others wait for.
 */
static void
launcher_look_after_launched(void)
{
	for (int i = 0; i < DMSHOOK_MAX_SLOTS; i++)
	{
		pid_t		pid;

		if (launched[i].handle == NULL || GetBackgroundWorkerPid(launched[i].handle, &pid) != BGWH_STOPPED)
			continue;
		dmshook_slot_not_launched(i, launched[i].life, true);
		pfree(launched[i].handle);
		launched[i].handle = NULL;
		shortage_until = 0;
	}
}

/* ---- databases ---- */

static bool
launcher_may_dispatch(Form_pg_database db)
{
	return db->datallowconn && !db->datistemplate && db->datconnlimit != DATCONNLIMIT_INVALID_DB;
}

/* All databases that may have a dispatcher, into the list. */
static void
launcher_scan(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	list_free(databases);
	databases = NIL;
	scan_wanted = false;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);

		if (launcher_may_dispatch(db))
		{
			MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

			databases = lappend_oid(databases, db->oid);
			MemoryContextSwitchTo(old);
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

/* One at a time: a hundred databases must not need a hundred workers at once. */
static void
launcher_next_database(int64 now)
{
	static bool told = false;

	if (databases == NIL || shortage_until > now || dmshook_slot_starting(now))
		return;

	if (dmshook_slot_look(linitial_oid(databases), false))
		databases = list_delete_first(databases);
	else
	{
		/* once one is free, all are looked at again */
		if (!told)
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("dmshook dispatches for at most %d databases", DMSHOOK_MAX_SLOTS),
					 errdetail("Events of the other databases wait."),
					 errhint("Drop the extension where it is not needed.")));
		told = true;
		list_free(databases);
		databases = NIL;
	}
}

/*
 * The table is read, not the system cache: whoever altered the database woke us
 * after its commit, but sends the invalidation of caches later still.
 */
static bool
launcher_is_eligible(Oid database)
{
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		eligible;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_database_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(database));
	/* no index: connected to no database, the server's first process may not open one yet */
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	eligible = HeapTupleIsValid(tuple) && launcher_may_dispatch((Form_pg_database) GETSTRUCT(tuple));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return eligible;
}

/* ---- launching ---- */

/* False when there was no background worker for it. */
static bool
launcher_launch(int i, Oid database, int64 now)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	DmshookLaunch launch = {.database = database};
	MemoryContext old;
	bool		registered;

	launch.life = dmshook_slot_launched(i, database);
	if (launch.life == 0)
		return true;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(i);
	StaticAssertStmt(sizeof(launch) <= BGW_EXTRALEN, "does not fit");
	memcpy(worker.bgw_extra, &launch, sizeof(launch));
	strlcpy(worker.bgw_library_name, "dmshook", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "dmshook_worker_main", sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "dmshook dispatcher for database %u", database);
	strlcpy(worker.bgw_type, "dmshook dispatcher", sizeof(worker.bgw_type));

	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(old);

	if (!registered)
	{
		dmshook_slot_not_launched(i, launch.life, false);
		launcher_no_worker(now);
		return false;
	}
	shortage_pause = 0;
	if (launched[i].handle)
		pfree(launched[i].handle);
	launched[i].handle = handle;
	launched[i].life = launch.life;
	return true;
}

/*
 * Nobody tells us when a background worker becomes free (but for our own): try
 * again, ever more rarely. Said at the second time: the postmaster may just not
 * have noticed the end of the one before.
 */
static void
launcher_no_worker(int64 now)
{
	if (!shortage_told && shortage_pause > 0)
	{
		shortage_told = true;
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker is free for a dmshook dispatcher"),
				 errdetail("Events wait until one is; it is tried again."),
				 errhint("Increase max_worker_processes: dmshook needs one for each database with the extension, and one more.")));
	}
	shortage_pause = Min(MAX_PAUSE_S, Max(1, shortage_pause * 2));
	shortage_until = TimestampTzPlusMilliseconds(now, shortage_pause * 1000);
}
