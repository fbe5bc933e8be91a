/*
 * slot.c - the life of a slot: every change of its state is made here.
 *
 * Backends (through hooks.c) say what they want, the launcher acts on it, a
 * dispatcher takes its slot and leaves it. Each function is one transition,
 * or a question, under the LWLock, for a few instructions. A signal to a
 * dispatcher is sent under the lock too: it leaves the slot under the lock
 * before it ends, so the number cannot be another process's.
 *
 * Never here: a catalog access, a transaction, a wait (but for
 * dmshook_slot_wait_gone, without the lock).
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "slot.h"

#define LAUNCH_TIMEOUT_MS	10000	/* a registered worker that has not come by then never will */
#define STARTING_MS			2000	/* a worker that has not settled by then does not hold up the next */
#define STOP_AGAIN_MS		100 /* one that has not ended by then is told again */
#define HEALTHY_MS			60000	/* after that long, a failure is the first one */
#define MAX_PAUSE_S			60

static DmshookSlot *slot_find(Oid database);
static DmshookSlot *slot_get(Oid database);
static void slot_set(DmshookSlot *slot, DmshookSlotState state);
static void slot_clear(DmshookSlot *slot);
static void slot_forget(DmshookSlot *slot);
static void slot_failed(DmshookSlot *slot);
static bool slot_end(DmshookSlot *slot, int64 now);

/* ---- under the lock ---- */

static DmshookSlot *
slot_find(Oid database)
{
	for (int i = 0; i < DMSHOOK_MAX_SLOTS; i++)
		if (dmshook_shared->slots[i].database == database)
			return &dmshook_shared->slots[i];
	return NULL;
}

/* Find or make; NULL when none is left. */
static DmshookSlot *
slot_get(Oid database)
{
	DmshookSlot *slot = slot_find(database);

	if (slot)
		return slot;
	slot = slot_find(InvalidOid);
	if (slot)
	{
		slot->database = database;
		slot_set(slot, DMSHOOK_SLOT_FREE);
	}
	return slot;
}

static void
slot_set(DmshookSlot *slot, DmshookSlotState state)
{
	slot->state = state;
	slot->since = GetCurrentTimestamp();
	slot->settled_at = dmshook_clock();
}

/* Its life goes on, so that a worker of before finds that it is not meant. */
static void
slot_clear(DmshookSlot *slot)
{
	Assert(slot->pid == 0 && slot->holders == 0);
	pg_atomic_write_u64(&slot->target, 0);
	slot->database = InvalidOid;
	slot->state = DMSHOOK_SLOT_FREE;
	slot->life++;
	slot->changed = slot->check = false;
	slot->launched_at = slot->stopped_at = slot->retry_at = 0;
	slot->failures = 0;
	slot->failure = 0;
	memset(&slot->stats, 0, sizeof(slot->stats));
}

/* No dispatcher is wanted. */
static void
slot_forget(DmshookSlot *slot)
{
	Assert(slot->pid == 0);
	dmshook_wake_refuse_tests(slot->database, true);
	slot->launched_at = 0;
	slot->changed = slot->check = false;
	slot_set(slot, DMSHOOK_SLOT_FREE);
	if (slot->holders == 0)
		slot_clear(slot);
}

/* The pause doubles with each failure in a row, from 1 s. */
static void
slot_failed(DmshookSlot *slot)
{
	int64		now = dmshook_clock();

	if ((slot->state == DMSHOOK_SLOT_RUNNING || slot->state == DMSHOOK_SLOT_UNCLAIMED) &&
		TimestampDifferenceExceeds(slot->settled_at, now, HEALTHY_MS))
		slot->failures = 0;
	slot->retry_at = TimestampTzPlusMilliseconds(now, 1000 * Min(MAX_PAUSE_S, 1 << Min(slot->failures, 10)));
	slot->failures++;
	slot_set(slot, DMSHOOK_SLOT_FAILED);
}

/*
 * Tell the slot's dispatcher to end: SIGTERM, which it looks at in its loop;
 * later SIGINT, which also ends a statement that waits for somebody's lock.
 * Returns whether there is one.
 */
static bool
slot_end(DmshookSlot *slot, int64 now)
{
	if (slot->pid == 0)
		return false;
	if (slot->stopped_at == 0)
		kill(slot->pid, SIGTERM);
	else if (TimestampDifferenceExceeds(slot->stopped_at, now, STOP_AGAIN_MS))
		kill(slot->pid, SIGINT);
	else
		return true;
	slot->stopped_at = now;
	return true;
}

/* ---- any backend ---- */

void
dmshook_slot_wake_launcher(void)
{
	if (dmshook_shared)
		dmshook_set_latch((int) pg_atomic_read_u32(&dmshook_shared->launcher) - 1);
}

bool
dmshook_slot_look(Oid database, bool changed)
{
	DmshookSlot *slot;

	if (dmshook_shared == NULL)
		return false;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	slot = slot_get(database);
	if (slot == NULL)
		dmshook_shared->rescan = true;
	else if (slot->state == DMSHOOK_SLOT_FREE)
		slot_set(slot, DMSHOOK_SLOT_STARTING);
	else if (changed)
	{
		slot->changed = true;
		slot->failures = 0;
		slot->retry_at = 0;
	}
	LWLockRelease(dmshook_lock);
	dmshook_slot_wake_launcher();
	return slot != NULL;
}

void
dmshook_slot_check(Oid database)
{
	DmshookSlot *slot;

	if (!dmshook_slot_look(database, false))
		return;
	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	slot = slot_find(database);
	if (slot)
		slot->check = true;
	LWLockRelease(dmshook_lock);
	dmshook_slot_wake_launcher();
}

bool
dmshook_slot_hold(Oid database)
{
	DmshookSlot *slot;

	if (dmshook_shared == NULL)
		return false;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	slot = slot_get(database);
	if (slot)
		slot->holders++;
	LWLockRelease(dmshook_lock);
	return slot != NULL;
}

void
dmshook_slot_release(Oid database, bool dropped)
{
	DmshookSlot *slot;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	slot = slot_find(database);
	if (slot && slot->holders > 0)
	{
		slot->holders--;
		if (slot->pid == 0 && (dropped || slot->state == DMSHOOK_SLOT_FREE))
			slot_forget(slot);
	}
	LWLockRelease(dmshook_lock);
	dmshook_slot_wake_launcher();
}

/*
 * A worker that was launched but has not come yet is not waited for: it does
 * not take a slot that is held, and connects to no database before.
 */
void
dmshook_slot_wait_gone(Oid database, int timeout_ms)
{
	int64		end = TimestampTzPlusMilliseconds(dmshook_clock(), timeout_ms);
	int			pid = 0;

	for (;;)
	{
		int64		now = dmshook_clock();
		DmshookSlot *slot;
		bool		runs;

		LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
		slot = slot_find(database);
		runs = slot && slot_end(slot, now);
		if (runs)
			pid = slot->pid;
		LWLockRelease(dmshook_lock);

		/* It leaves the slot a moment before it leaves the database. */
		if ((!runs && (pid == 0 || BackendPidGetProc(pid) == NULL)) || now >= end)
			return;

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 2, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---- the launcher ---- */

DmshookSlotTodo
dmshook_slot_step(int i, int64 now, Oid *database, int64 *next)
{
	DmshookSlot *slot = &dmshook_shared->slots[i];
	DmshookSlotTodo todo = DMSHOOK_TODO_NOTHING;
	int64		when = DT_NOEND;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	*database = slot->database;

	if (slot->launched_at && TimestampDifferenceExceeds(slot->launched_at, now, LAUNCH_TIMEOUT_MS))
	{
		slot->life++;
		slot->launched_at = 0;
		slot_failed(slot);
	}

	if (!OidIsValid(slot->database))
		 /* not in use */ ;
	else if (slot->pid != 0 && (slot->changed || slot->holders > 0))
	{
		(void) slot_end(slot, now);
		when = TimestampTzPlusMilliseconds(slot->stopped_at, STOP_AGAIN_MS);
	}
	else if (slot->pid != 0 && slot->check)
	{
		slot->check = false;
		todo = DMSHOOK_TODO_CHECK;
	}
	else if (slot->pid != 0)
		 /* it runs */ ;
	else if (slot->launched_at)
		when = TimestampTzPlusMilliseconds(slot->launched_at, LAUNCH_TIMEOUT_MS);
	else if (slot->holders > 0 || slot->state == DMSHOOK_SLOT_FREE)
		 /* whoever releases it, or wants a dispatcher, wakes us */ ;
	else if (slot->state == DMSHOOK_SLOT_FAILED && slot->retry_at > now)
		when = slot->retry_at;
	else
		todo = DMSHOOK_TODO_LAUNCH;

	LWLockRelease(dmshook_lock);
	*next = Min(*next, when);
	return todo;
}

uint32
dmshook_slot_launched(int i, Oid database)
{
	DmshookSlot *slot = &dmshook_shared->slots[i];
	uint32		life = 0;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	if (slot->database == database && slot->pid == 0 && slot->launched_at == 0 && slot->holders == 0 &&
		(slot->state == DMSHOOK_SLOT_STARTING || slot->state == DMSHOOK_SLOT_FAILED))
	{
		if (++slot->life == 0)
			slot->life = 1;
		life = slot->life;
		slot_set(slot, DMSHOOK_SLOT_STARTING);
		slot->launched_at = slot->settled_at;
		slot->changed = slot->check = false;
	}
	LWLockRelease(dmshook_lock);
	return life;
}

void
dmshook_slot_not_launched(int i, uint32 life, bool failed)
{
	DmshookSlot *slot = &dmshook_shared->slots[i];

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	if (slot->life == life && slot->launched_at)
	{
		slot->launched_at = 0;
		if (failed)
			slot_failed(slot);
	}
	LWLockRelease(dmshook_lock);
}

void
dmshook_slot_unwanted(int i, Oid database)
{
	DmshookSlot *slot = &dmshook_shared->slots[i];

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	if (slot->database == database)
	{
		if (slot->pid != 0)
			slot->changed = true;
		else
			slot_forget(slot);
	}
	LWLockRelease(dmshook_lock);
}

bool
dmshook_slot_stop_all(int64 now)
{
	bool		runs = false;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	for (int i = 0; i < DMSHOOK_MAX_SLOTS; i++)
	{
		DmshookSlot *slot = &dmshook_shared->slots[i];

		if (!OidIsValid(slot->database))
			continue;
		if (slot_end(slot, now))
			runs = true;
		else
			slot_forget(slot);
	}
	LWLockRelease(dmshook_lock);
	return runs;
}

bool
dmshook_slot_starting(int64 now)
{
	bool		starting = false;

	LWLockAcquire(dmshook_lock, LW_SHARED);
	for (int i = 0; i < DMSHOOK_MAX_SLOTS && !starting; i++)
	{
		DmshookSlot *slot = &dmshook_shared->slots[i];

		starting = OidIsValid(slot->database) && slot->state == DMSHOOK_SLOT_STARTING &&
			(slot->pid != 0 || slot->launched_at) &&
			!TimestampDifferenceExceeds(slot->settled_at, now, STARTING_MS);
	}
	LWLockRelease(dmshook_lock);
	return starting;
}

bool
dmshook_slot_missed(void)
{
	bool		missed;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	missed = dmshook_shared->rescan && slot_find(InvalidOid) != NULL;
	if (missed)
		dmshook_shared->rescan = false;
	LWLockRelease(dmshook_lock);
	return missed;
}

/* ---- the dispatcher ---- */

bool
dmshook_slot_attach(int i, Oid database, uint32 life)
{
	DmshookSlot *slot = &dmshook_shared->slots[i];
	bool		ours;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	ours = slot->database == database && slot->life == life && slot->launched_at && slot->pid == 0;
	if (ours)
	{
		slot->launched_at = 0;
		ours = slot->holders == 0;
	}
	if (ours)
	{
		char		error[sizeof(slot->stats.last_error)];

		memcpy(error, slot->stats.last_error, sizeof(error));
		memset(&slot->stats, 0, sizeof(slot->stats));
		memcpy(slot->stats.last_error, error, sizeof(error));

		slot->pid = MyProcPid;
		slot->stopped_at = 0;
		dmshook_my_slot = slot;
		pg_atomic_write_u64(&slot->target, (uint64) database << 32 | (uint32) (dmshook_my_proc() + 1));
	}
	LWLockRelease(dmshook_lock);
	if (!ours)
		dmshook_slot_wake_launcher();
	return ours;
}

void
dmshook_slot_detach(DmshookSlotEnd end)
{
	DmshookSlot *slot = dmshook_my_slot;

	if (slot == NULL)
		return;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	Assert(slot->pid == MyProcPid);
	pg_atomic_write_u64(&slot->target, 0);
	slot->pid = 0;
	dmshook_my_slot = NULL;
	dmshook_wake_refuse_tests(slot->database, end != DMSHOOK_END_TOLD);

	/* The extension may have come just after we looked for it. */
	if (slot->changed)
		slot_set(slot, DMSHOOK_SLOT_STARTING);
	else if (end == DMSHOOK_END_UNWANTED)
		slot_forget(slot);
	else if (end == DMSHOOK_END_TOLD || slot->stopped_at)
		slot_set(slot, DMSHOOK_SLOT_STARTING);
	else
		slot_failed(slot);
	slot->stopped_at = 0;
	LWLockRelease(dmshook_lock);

	dmshook_slot_wake_launcher();
}

bool
dmshook_slot_new_failure(uint32 failure, const char *message)
{
	DmshookSlot *slot = dmshook_my_slot;
	bool		new;

	if (slot == NULL)
		return true;

	LWLockAcquire(dmshook_lock, LW_EXCLUSIVE);
	new = slot->failures == 0 || slot->failure != failure ||
		(slot->state != DMSHOOK_SLOT_STARTING && TimestampDifferenceExceeds(slot->settled_at, dmshook_clock(), HEALTHY_MS));
	slot->failure = failure;
	LWLockRelease(dmshook_lock);

	strlcpy(slot->stats.last_error, message, sizeof(slot->stats.last_error));
	return new;
}
