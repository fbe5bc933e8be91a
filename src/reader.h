/*
 * reader.h - which events are next: commit-safe reading of the log. See
 * reader.c, whose head comment has the rule and why it is right.
 *
 * Runs in the dispatcher, inside a short transaction that has no xid of its
 * own, under one registered and active snapshot that the caller takes with
 * GetLatestSnapshot() or equivalent, and passes in. An error leaves a reader in
 * no state to go on: end the process, or make a new reader at the stored low.
 */
#ifndef DMSHOOK_READER_H
#define DMSHOOK_READER_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "utils/snapshot.h"

#include "event.h"

typedef struct DmshookReader DmshookReader;

/* A row; it lives for the call only. */
typedef void (*DmshookRowCallback) (const DmshookEvent *event, void *arg);

/* A reader that starts at a stored low. All its memory is in the given context. */
extern DmshookReader *dmshook_reader_create(MemoryContext context, int64 low);

/*
 * A round. The transaction has no xid of its own yet (else: an error). The
 * configuration is checked by the caller before, under the same snapshot.
 * What was found in gaps goes out before new rows (consumer.md says why): calls
 * late() for late rows (ids ascending, oldest epoch first; dmshook_reader_missing()
 * is false for them by then), then fresh() for rows > high, ascending, at most limit
 * of them. The callbacks run in the caller's memory context, must not run another
 * round, may scan and fetch. Returns true when another round at once has more to do
 * (new rows, or a look at gaps that is not at its end).
 */
extern bool dmshook_reader_round(DmshookReader *reader, Snapshot snapshot, int limit,
								 DmshookRowCallback late, DmshookRowCallback fresh, void *arg);

/*
 * Rows in (after, upto], upto <= high, skipping ids that are missing (they come
 * as late rows), ascending, at most limit; for a webhook that is behind. Returns the id up
 * to which the caller now has read: upto when the range was exhausted. The
 * snapshot must not be older than the last round's: what that round found late
 * is no longer missing, and only its snapshot or a newer one sees it.
 */
extern int64 dmshook_reader_scan(DmshookReader *reader, Snapshot snapshot, int64 after, int64 upto,
								 int limit, DmshookRowCallback row, void *arg);

/* One event by its id; false: not there. */
extern bool dmshook_reader_fetch(Snapshot snapshot, int64 id, DmshookRowCallback row, void *arg);

/*
 * WAL position up to which must be flushed (XLogFlush) before anything that
 * was read so far is sent; 0: nothing. Resets it.
 */
extern XLogRecPtr dmshook_reader_take_flush(DmshookReader *reader);

/*
 * The highest id in the log that the sequence had not issued, when a round met such
 * (inserted by hand, or the sequence was set back); 0: none. Resets it. The round
 * has put the sequence 1,000,000 above it (so the transaction has an xid now), and
 * logged a warning; the caller raises an alert.
 */
extern int64 dmshook_reader_take_explicit(DmshookReader *reader);

extern int64 dmshook_reader_high(const DmshookReader *reader);
extern int64 dmshook_reader_low(const DmshookReader *reader);	/* first missing - 1, or high */
extern bool dmshook_reader_looking(const DmshookReader *reader);	/* a look at gaps is open */
extern bool dmshook_reader_missing(const DmshookReader *reader, int64 id);

/* For the view: how many ids are missing, since when, and the oldest fence. */
extern void dmshook_reader_gaps(const DmshookReader *reader, uint64 *missing, TimestampTz *since,
								uint64 *fence);

/* Are there gaps, so that polling makes sense though no latch was set? */
extern bool dmshook_reader_has_gaps(const DmshookReader *reader);

#endif							/* DMSHOOK_READER_H */
