/*
 * wake.c - shared memory: waking a dispatcher, its statistics, tests asked of it.
 *
 * Runs in every process. Waking takes no lock and can neither fail nor wait,
 * since it happens after the commit (an error there would be a PANIC). The
 * rest takes one LWLock for a few instructions. Where the library was not
 * preloaded, there is no memory and everything here does nothing.
 *
 * Never here: a catalog access, a transaction, a pointer to another process.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "clock.h"
#include "slot.h"
#include "wake.h"

static void wake_shmem_request(void);
static void wake_shmem_startup(void);
static void wake_xact_callback(XactEvent event, void *arg);
static int	wake_post(const DmshookTest *test, DmshookTestResult *result);
static bool wake_look(int ticket, DmshookTestResult *result, int64 *attempt);
static void wake_forget(int code, Datum arg);
static DmshookTicket *wake_ticket(int ticket);

DmshookShared *dmshook_shared = NULL;
LWLock	   *dmshook_lock = NULL;
DmshookSlot *dmshook_my_slot = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* Wake this database's dispatcher when the transaction commits? */
static bool wake_at_commit = false;

/* The ticket this backend waits for, or -1. */
static int	wake_my_ticket = -1;

void
dmshook_wake_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = wake_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = wake_shmem_startup;
}

static void
wake_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(DmshookShared)));
	RequestNamedLWLockTranche("dmshook", 1);
}

/* Also after a crash: everything starts anew, the launcher looks at all databases again. */
static void
wake_shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	dmshook_shared = ShmemInitStruct("dmshook", sizeof(DmshookShared), &found);
	dmshook_lock = &GetNamedLWLockTranche("dmshook")->lock;
	if (!found)
	{
		memset(dmshook_shared, 0, sizeof(DmshookShared));
		pg_atomic_init_u32(&dmshook_shared->launcher, 0);
		for (int i = 0; i < DMSHOOK_MAX_SLOTS; i++)
			pg_atomic_init_u64(&dmshook_shared->slots[i].target, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

bool
dmshook_wake_available(void)
{
	return dmshook_shared != NULL;
}

int
dmshook_my_proc(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

void
dmshook_set_latch(int proc)
{
	if (proc >= 0 && (uint32) proc < ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[proc].procLatch);
}

/* ---- waking ---- */

void
dmshook_wake_now(Oid database)
{
	static int	last = 0;		/* where it was found the last time */

	if (dmshook_shared == NULL || !OidIsValid(database))
		return;

	for (int i = 0; i < DMSHOOK_MAX_SLOTS; i++)
	{
		int			at = (last + i) % DMSHOOK_MAX_SLOTS;
		uint64		target = pg_atomic_read_u64(&dmshook_shared->slots[at].target);

		if ((Oid) (target >> 32) == database)
		{
			dmshook_set_latch((int) (uint32) target - 1);
			last = at;
			return;
		}
	}
}

void
dmshook_wake_at_commit(void)
{
	static bool registered = false;

	if (wake_at_commit || dmshook_shared == NULL)
		return;

	/* Once per backend: callbacks are kept in a list that all transactions walk. */
	if (!registered)
	{
		RegisterXactCallback(wake_xact_callback, NULL);
		registered = true;
	}
	wake_at_commit = true;
}

/*
 * A rolled-back savepoint may leave the flag set: a wake-up for nothing is
 * harmless. By COMMIT, the transaction is visible to new snapshots.
 */
static void
wake_xact_callback(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			if (wake_at_commit)
				dmshook_wake_now(MyDatabaseId);
			wake_at_commit = false;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			wake_at_commit = false;
			break;
		default:
			break;
	}
}

/* ---- statistics ---- */

DmshookStats *
dmshook_wake_my_stats(void)
{
	static DmshookStats nobody; /* where there is no slot: tests of the loop */

	return dmshook_my_slot ? &dmshook_my_slot->stats : &nobody;
}

void
dmshook_wake_set_state(DmshookSlotState state)
{
	Assert(state == DMSHOOK_SLOT_RUNNING || state == DMSHOOK_SLOT_UNCLAIMED);
	if (dmshook_my_slot == NULL || dmshook_my_slot->state == state)
		return;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	dmshook_my_slot->state = state;
	dmshook_my_slot->since = GetCurrentTimestamp();
	dmshook_my_slot->settled_at = dmshook_clock();
	LWLockRelease(dmshook_lock);

	/* the launcher takes its databases one by one and waits for this one */
	dmshook_slot_wake_launcher();
}

int
dmshook_wake_slots(DmshookSlotInfo *out, int max)
{
	int			n = 0;

	if (dmshook_shared == NULL)
		return 0;

	LWLockAcquire(dmshook_lock, LW_SHARED);
	for (int i = 0; i < DMSHOOK_MAX_SLOTS && n < max; i++)
	{
		DmshookSlot *slot = &dmshook_shared->slots[i];

		if (!OidIsValid(slot->database) || slot->state == DMSHOOK_SLOT_FREE)
			continue;
		out[n].database = slot->database;
		out[n].pid = slot->pid;
		out[n].state = slot->state;
		out[n].since = slot->since;
		out[n].stats = slot->stats;
		n++;
	}
	LWLockRelease(dmshook_lock);

	/* The dispatcher writes its text without the lock: it may be half a text, or another encoding's. */
	for (int i = 0; i < n; i++)
	{
		char	   *text = out[i].stats.last_error;

		text[sizeof(out[i].stats.last_error) - 1] = '\0';
		if (!pg_verifymbstr(text, strlen(text), true))
			for (; *text; text++)
				if (IS_HIGHBIT_SET(*text))
					*text = '?';
	}
	return n;
}

/* ---- tests ---- */

/*
 * A ticket's number is generation * DMSHOOK_MAX_TESTS + index. The caller
 * holds the lock. NULL: whoever asked has gone.
 */
static DmshookTicket *
wake_ticket(int ticket)
{
	DmshookTicket *t;

	if (ticket < 0)
		return NULL;
	t = &dmshook_shared->tickets[ticket % DMSHOOK_MAX_TESTS];
	if (t->state == DMSHOOK_TICKET_FREE || t->generation != (uint32) ticket / DMSHOOK_MAX_TESTS)
		return NULL;
	return t;
}

DmshookTestResult
dmshook_wake_test(const DmshookTest *test, int timeout_ms, int64 *attempt)
{
	DmshookTestResult result = DMSHOOK_TEST_TIMEOUT;
	int64		end = TimestampTzPlusMilliseconds(dmshook_clock(), timeout_ms);

	*attempt = 0;
	if (dmshook_shared == NULL)
		return DMSHOOK_TEST_NO_DISPATCHER;

	Assert(wake_my_ticket < 0);
	PG_ENSURE_ERROR_CLEANUP(wake_forget, (Datum) 0);
	{
		wake_my_ticket = wake_post(test, &result);
		if (wake_my_ticket >= 0)
			dmshook_wake_now(MyDatabaseId);

		while (wake_my_ticket >= 0 && !wake_look(wake_my_ticket, &result, attempt))
		{
			long		ms = TimestampDifferenceMilliseconds(dmshook_clock(), end);

			if (ms <= 0)
				break;
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(wake_forget, (Datum) 0);
	wake_forget(0, (Datum) 0);

	return result;
}

/* Post it; or -1, and why not. */
static int
wake_post(const DmshookTest *test, DmshookTestResult *result)
{
	int			ticket = -1;
	bool		wanted = false;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);

	/* One that is just starting, or unclaimed, will look and answer. */
	for (int i = 0; i < DMSHOOK_MAX_SLOTS; i++)
	{
		DmshookSlot *slot = &dmshook_shared->slots[i];

		if (slot->database == MyDatabaseId && slot->holders == 0 &&
			(slot->state == DMSHOOK_SLOT_STARTING || slot->state == DMSHOOK_SLOT_RUNNING ||
			 slot->state == DMSHOOK_SLOT_UNCLAIMED))
			wanted = true;
	}

	*result = wanted ? DMSHOOK_TEST_BUSY : DMSHOOK_TEST_NO_DISPATCHER;
	for (int i = 0; wanted && i < DMSHOOK_MAX_TESTS; i++)
	{
		DmshookTicket *t = &dmshook_shared->tickets[i];

		if (t->state != DMSHOOK_TICKET_FREE)
			continue;
		t->state = DMSHOOK_TICKET_POSTED;
		t->generation = (t->generation + 1) % (PG_INT32_MAX / DMSHOOK_MAX_TESTS);
		t->database = MyDatabaseId;
		t->proc = dmshook_my_proc();
		t->test = *test;
		t->attempt = 0;
		ticket = (int) t->generation * DMSHOOK_MAX_TESTS + i;
		break;
	}
	LWLockRelease(dmshook_lock);
	return ticket;
}

/* Has it been answered? Until then *result is what a timeout would mean. */
static bool
wake_look(int ticket, DmshookTestResult *result, int64 *attempt)
{
	DmshookTicket *t;
	bool		done;

	LWLockAcquire(dmshook_lock, LW_SHARED);
	t = wake_ticket(ticket);
	Assert(t != NULL);
	done = (t->state == DMSHOOK_TICKET_ANSWERED);
	if (done)
	{
		*result = t->result;
		*attempt = t->attempt;
	}
	else
		*result = t->state == DMSHOOK_TICKET_POSTED ? DMSHOOK_TEST_NO_DISPATCHER : DMSHOOK_TEST_TIMEOUT;
	LWLockRelease(dmshook_lock);
	return done;
}

/* Give the ticket back: at the end, after an error, at exit. */
static void
wake_forget(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	DmshookTicket *t;

	if (wake_my_ticket < 0)
		return;
	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	t = wake_ticket(wake_my_ticket);
	if (t)
		t->state = DMSHOOK_TICKET_FREE;
	LWLockRelease(dmshook_lock);
	wake_my_ticket = -1;
}

int
dmshook_wake_take_test(DmshookTest *test)
{
	int			ticket = -1;
	bool		any = false;

	if (dmshook_shared == NULL)
		return -1;

	/* The loop asks at every turn: nothing posted is seen without the lock (the poster sets our latch after). */
	for (int i = 0; i < DMSHOOK_MAX_TESTS && !any; i++)
		any = ((volatile DmshookTicket *) &dmshook_shared->tickets[i])->state == DMSHOOK_TICKET_POSTED;
	if (!any)
		return -1;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	for (int i = 0; i < DMSHOOK_MAX_TESTS; i++)
	{
		DmshookTicket *t = &dmshook_shared->tickets[i];

		if (t->state == DMSHOOK_TICKET_POSTED && t->database == MyDatabaseId)
		{
			t->state = DMSHOOK_TICKET_TAKEN;
			*test = t->test;
			ticket = (int) t->generation * DMSHOOK_MAX_TESTS + i;
			break;
		}
	}
	LWLockRelease(dmshook_lock);
	return ticket;
}

void
dmshook_wake_answer_test(int ticket, DmshookTestResult result, int64 attempt)
{
	DmshookTicket *t;
	int			proc = -1;

	if (dmshook_shared == NULL)
		return;
	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	t = wake_ticket(ticket);
	if (t && t->state != DMSHOOK_TICKET_ANSWERED)
	{
		t->state = DMSHOOK_TICKET_ANSWERED;
		t->result = result;
		t->attempt = attempt;
		proc = t->proc;
	}
	LWLockRelease(dmshook_lock);
	dmshook_set_latch(proc);
}

int
dmshook_wake_posted_tests(int *tickets, int max)
{
	int			n = 0;

	LWLockAcquire(dmshook_lock, LW_SHARED);
	for (int i = 0; i < DMSHOOK_MAX_TESTS && n < max; i++)
	{
		DmshookTicket *t = &dmshook_shared->tickets[i];

		if (t->state == DMSHOOK_TICKET_POSTED && t->database == MyDatabaseId)
			tickets[n++] = (int) t->generation * DMSHOOK_MAX_TESTS + i;
	}
	LWLockRelease(dmshook_lock);
	return n;
}

void
dmshook_wake_refuse_tests(Oid database, bool all)
{
	Assert(LWLockHeldByMeInMode(dmshook_lock, LW_EXCLUSIVE));
	for (int i = 0; i < DMSHOOK_MAX_TESTS; i++)
	{
		DmshookTicket *t = &dmshook_shared->tickets[i];

		if (t->database != database)
			continue;
		if (t->state == DMSHOOK_TICKET_TAKEN || (all && t->state == DMSHOOK_TICKET_POSTED))
		{
			t->state = DMSHOOK_TICKET_ANSWERED;
			t->result = DMSHOOK_TEST_NO_DISPATCHER;
			t->attempt = 0;
			dmshook_set_latch(t->proc);
		}
	}
}
