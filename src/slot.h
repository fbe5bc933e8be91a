/*
 * slot.h - the shared memory itself, and the life of a slot. See slot.c.
 *
 * For wake.c, launcher.c, worker.c and hooks.c alone; everybody else uses
 * wake.h.
 *
 * A slot belongs to a database. Its states:
 *
 *	FREE		nobody wants a dispatcher (held, or not in use at all)
 *	STARTING	one is wanted: it was launched, or will be as soon as may be
 *	RUNNING, UNCLAIMED
 *				a dispatcher has the slot
 *	FAILED		one is wanted, the last one failed: not before retry_at
 *
 * A slot whose holders is not 0 gets no dispatcher, and one that runs ends: a
 * backend is dropping, renaming, moving or copying the database.
 *
 * No pointer to a process is kept here, but indexes into the PGPROC array,
 * which are checked before use; a latch set for the wrong process does no harm.
 */
#ifndef DMSHOOK_SLOT_H
#define DMSHOOK_SLOT_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

#include "wake.h"

#define DMSHOOK_MAX_TESTS	16	/* test requests under way, in all databases */

typedef struct DmshookSlot
{
	Oid			database;		/* InvalidOid: not in use */
	DmshookSlotState state;
	uint32		life;			/* number of the last launch; an older worker must not take the slot */
	int			pid;			/* of the dispatcher that has the slot, or 0 */
	int			holders;		/* backends that need the database without a dispatcher */
	bool		changed;		/* the extension came, went or changed: what runs must end, then look again */
	bool		check;			/* the database was altered: may it still have a dispatcher? */
	TimestampTz since;			/* of the state, for people; the further ones are of dmshook_clock() */
	int64		settled_at;		/* since when it has this state */
	int64		launched_at;	/* a worker was registered and has not come yet; 0: none */
	int64		stopped_at;		/* when it was last told to end; 0: it was not */
	int64		retry_at;		/* FAILED: not before */
	int			failures;		/* in a row */
	uint32		failure;		/* hash of the last one, to log a streak once */

	/* database << 32 | PGPROC index + 1 of whom to wake; 0: nobody. Read without the lock. */
	pg_atomic_uint64 target;

	DmshookStats stats;			/* written by the dispatcher, without the lock */
} DmshookSlot;

typedef enum DmshookTicketState
{
	DMSHOOK_TICKET_FREE = 0,
	DMSHOOK_TICKET_POSTED,
	DMSHOOK_TICKET_TAKEN,
	DMSHOOK_TICKET_ANSWERED
} DmshookTicketState;

typedef struct DmshookTicket
{
	DmshookTicketState state;
	uint32		generation;		/* so that a late answer meets nobody else */
	Oid			database;
	int			proc;			/* PGPROC index of the backend that waits */
	DmshookTest test;
	DmshookTestResult result;
	int64		attempt;
} DmshookTicket;

typedef struct DmshookShared
{
	pg_atomic_uint32 launcher;	/* its PGPROC index + 1; 0: none runs */
	bool		rescan;			/* a database found no slot: look at all of them again */
	DmshookSlot slots[DMSHOOK_MAX_SLOTS];
	DmshookTicket tickets[DMSHOOK_MAX_TESTS];
} DmshookShared;

/* NULL where the library was not preloaded. The lock guards all but target, launcher and stats. */
extern DmshookShared *dmshook_shared;
extern LWLock *dmshook_lock;

/* The slot of this process, in a dispatcher; else NULL. */
extern DmshookSlot *dmshook_my_slot;

/* Index of this process in the PGPROC array. */
extern int	dmshook_my_proc(void);

/* Set a latch by index into the PGPROC array; an index out of range, or of nobody, does nothing. */
extern void dmshook_set_latch(int proc);

/* The tests that nobody has taken yet, of this database; returns their number. */
extern int	dmshook_wake_posted_tests(int *tickets, int max);

/* With the lock held: answer this database's tests, those taken or all, before the dispatcher goes. */
extern void dmshook_wake_refuse_tests(Oid database, bool all);

/*
 * Any backend, after the commit of what it tells: this database may want a
 * dispatcher now (changed: or may not any more, or another one). False when
 * no slot is left; the launcher then looks again when one is.
 */
extern bool dmshook_slot_look(Oid database, bool changed);

/* Any backend, after commit: this database was made or altered; may it have a dispatcher? */
extern void dmshook_slot_check(Oid database);

/*
 * Any backend: hold and release. Returns false when the database has no
 * dispatcher and can get none (no slot is left); then do not release.
 * dropped: forget the database.
 */
extern bool dmshook_slot_hold(Oid database);
extern void dmshook_slot_release(Oid database, bool dropped);

/*
 * A holder: tell the dispatcher to end and wait until its process is gone, or
 * for timeout_ms at most (then the command itself says who is in its way).
 * Interruptible.
 */
extern void dmshook_slot_wait_gone(Oid database, int timeout_ms);

/* Any process: set the launcher's latch. */
extern void dmshook_slot_wake_launcher(void);

/* ---- the launcher ---- */

typedef enum DmshookSlotTodo
{
	DMSHOOK_TODO_NOTHING,		/* not before *next, which is only ever made earlier */
	DMSHOOK_TODO_CHECK,			/* look whether the database may have a dispatcher */
	DMSHOOK_TODO_LAUNCH			/* that, and launch one */
} DmshookSlotTodo;

/* What is to be done for this slot; tells a dispatcher to end where it has to. */
extern DmshookSlotTodo dmshook_slot_step(int i, int64 now, Oid *database, int64 *next);

/* Before a worker is registered: its life, or 0 when there is nothing to launch any more. */
extern uint32 dmshook_slot_launched(int i, Oid database);

/* It was not registered, or (failed) it ended: does nothing when it had taken the slot. */
extern void dmshook_slot_not_launched(int i, uint32 life, bool failed);

/* The database may have no dispatcher: end it, or forget the slot. */
extern void dmshook_slot_unwanted(int i, Oid database);

/* There shall be no dispatcher at all: end them, forget the slots. True while some are left. */
extern bool dmshook_slot_stop_all(int64 now);

/* Is a worker just starting (and not hanging)? */
extern bool dmshook_slot_starting(int64 now);

/* Is a slot free, and did a database miss one since the last call that said so? */
extern bool dmshook_slot_missed(void);

/* ---- the dispatcher ---- */

typedef enum DmshookSlotEnd
{
	DMSHOOK_END_FAILED,			/* start again, after a pause */
	DMSHOOK_END_TOLD,			/* was told to end: start again, if still wanted */
	DMSHOOK_END_UNWANTED		/* there is no extension */
} DmshookSlotEnd;

/* Take the slot, before connecting to the database. False: not wanted (any more). */
extern bool dmshook_slot_attach(int i, Oid database, uint32 life);

/* At exit. */
extern void dmshook_slot_detach(DmshookSlotEnd end);

/* Remember a failure; is it another one than the last time? */
extern bool dmshook_slot_new_failure(uint32 failure, const char *message);

#endif							/* DMSHOOK_SLOT_H */
