/*
 * wake.h - shared memory: who dispatches for which database, waking it, tests
 * asked of it. See wake.c.
 */
#ifndef DMSHOOK_WAKE_H
#define DMSHOOK_WAKE_H

#include "postgres.h"
#include "utils/timestamp.h"

#define DMSHOOK_MAX_SLOTS	64	/* databases with a dispatcher, at most */

typedef enum DmshookSlotState
{
	DMSHOOK_SLOT_FREE = 0,
	DMSHOOK_SLOT_STARTING,		/* the launcher has asked for a worker */
	DMSHOOK_SLOT_RUNNING,
	DMSHOOK_SLOT_UNCLAIMED,		/* running, but this is a copy: nothing is sent */
	DMSHOOK_SLOT_FAILED			/* ended with an error; started again after a pause */
} DmshookSlotState;

/* What a dispatcher tells about itself; plain numbers, written by it alone. */
typedef struct DmshookStats
{
	uint64		events;			/* read from the log */
	uint64		deliveries;		/* attempts logged */
	int64		high;			/* last event id read */
	int64		low;			/* stored position */
	uint32		in_flight;
	uint32		waiting;		/* taken, not yet sent */
	uint32		gaps;			/* ids missing */
	TimestampTz oldest_gap;		/* when the oldest was seen; 0: none */
	uint64		gap_fence;		/* FullTransactionId below which somebody still runs */
	double		events_per_s;
	double		deliveries_per_s;
	char		last_error[256];
	TimestampTz mail_failing_since; /* since then no mail has gone out; 0: the last one did */
	char		mail_error[256];
} DmshookStats;

/* A copy of a slot, for the view dmshook.dispatchers. */
typedef struct DmshookSlotInfo
{
	Oid			database;
	int			pid;			/* 0: none */
	DmshookSlotState state;
	TimestampTz since;
	DmshookStats stats;
} DmshookSlotInfo;

/* shared_preload_libraries only: ask for memory, install the startup hook. */
extern void dmshook_wake_init(void);

/* Is there shared memory, that is: was the library preloaded? */
extern bool dmshook_wake_available(void);

/*
 * Any backend: set the latch of this database's dispatcher when the current
 * transaction commits. Cheap when called again in the same transaction;
 * cleared by abort; does nothing where the library was not preloaded. At
 * PREPARE TRANSACTION nothing is set: COMMIT PREPARED wakes by the utility
 * hook (launcher.c).
 */
extern void dmshook_wake_at_commit(void);

/* Any backend: set the latch of this database's dispatcher now. */
extern void dmshook_wake_now(Oid database);

/* The dispatcher of MyDatabaseId: its own statistics, to be written in place. */
extern DmshookStats *dmshook_wake_my_stats(void);

/* The dispatcher: change its own state (RUNNING, UNCLAIMED). */
extern void dmshook_wake_set_state(DmshookSlotState state);

/* Copy all slots in use; returns their number. */
extern int	dmshook_wake_slots(DmshookSlotInfo *out, int max);

/*
 * Tests: a backend asks this database's dispatcher to send one request at
 * once and to log it. Everything about the request that is not in the
 * webhook's configuration is here; the result is the id of the attempt row,
 * committed before it is handed back.
 */
typedef struct DmshookTest
{
	int			webhook;
	int64		event;			/* a sample from the log, or 0 */
	int64		nonce;			/* of the message id (with event 0), chosen by the backend */
	char		type[128];
} DmshookTest;

typedef enum DmshookTestResult
{
	DMSHOOK_TEST_DONE,
	DMSHOOK_TEST_NO_DISPATCHER,
	DMSHOOK_TEST_UNKNOWN_WEBHOOK,	/* not (yet) known to the dispatcher */
	DMSHOOK_TEST_UNCLAIMED,
	DMSHOOK_TEST_BUSY,			/* too many tests at once */
	DMSHOOK_TEST_TIMEOUT
} DmshookTestResult;

/*
 * Backend: post it, wait on the latch at most timeout_ms; interruptible. A
 * dispatcher that is just starting, or unclaimed, is waited for: it looks anew
 * before it answers, so a test right after the first create_webhook() or
 * claim_database() is not refused. NO_DISPATCHER also when none took the test in
 * time, or when it ended meanwhile.
 */
extern DmshookTestResult dmshook_wake_test(const DmshookTest *test, int timeout_ms, int64 *attempt);

/*
 * Dispatcher: take the next posted test of this database (returns a ticket
 * >= 0, or -1), and later answer it. A ticket whose backend has gone is
 * answered into the void.
 */
extern int	dmshook_wake_take_test(DmshookTest *test);
extern void dmshook_wake_answer_test(int ticket, DmshookTestResult result, int64 attempt);

#endif							/* DMSHOOK_WAKE_H */
