/*
 * results.h - what a turn writes: attempts, queue rows, positions, health. See
 * results.c.
 */
#ifndef DMSHOOK_RESULTS_H
#define DMSHOOK_RESULTS_H

#include "postgres.h"

#include "consumer.h"
#include "store.h"

/* In the turn's transaction: write what ended. */
extern void dmshook_results_write(DmshookConsumers *set);

/*
 * The transaction committed (failure NULL), or not: tell the consumers, answer tests; or keep
 * all for the next try, with fewer. True: it did, or it is known that the one row is at fault
 * and not the writing as such.
 */
extern bool dmshook_results_end(DmshookConsumers *set, const char *failure);

/* When to try a result again that failed alone: DT_NOBEGIN as soon as may be, DT_NOEND none. */
extern TimestampTz dmshook_results_due(void);

/*
 * Nothing but results that failed alone waits to be logged: only another one can tell
 * whether they are at fault or the log is. May one request go out for that?
 */
extern bool dmshook_results_on_trial(const DmshookConsumers *set);

/*
 * In the transaction of positions: the reader's place and those of webhooks.
 * force: write the reader's place in any case (does writing work?).
 */
extern void dmshook_results_positions(const DmshookPersist *persist, DmshookStoredPlace *reader, bool force);

/* Health of webhooks that changed, and how many of their requests went well. */
extern void dmshook_results_health(void);
extern void dmshook_results_health_end(bool committed);

/* That transaction failed: remembered TIDs are of no use. */
extern void dmshook_results_forget(void);

#endif							/* DMSHOOK_RESULTS_H */
