/*
 * gaps.h - ids that are missing from the log, and when to look for them. See
 * gaps.c. Builds without a server: C library only, no I/O, no clock.
 *
 * For reader.c alone, which reads the log and brings in the snapshots.
 */
#ifndef DMSHOOK_GAPS_H
#define DMSHOOK_GAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DmshookGaps DmshookGaps;

/*
 * Memory: old NULL allocates, size 0 frees, else resizes. Never returns NULL
 * but for size 0: it raises an error, after which this object must not be used
 * any more.
 */
typedef void *(*DmshookResize) (void *arg, void *old, size_t size);

/* What a snapshot says of transactions, and the next xid, read after it was taken. */
typedef struct DmshookXids
{
	uint64_t	next;			/* 64-bit */
	uint64_t	xmax;			/* 64-bit; at most next */
	const uint32_t *running;	/* top-level xids below xmax that were running */
	int			nrunning;
} DmshookXids;

/* Ids to be read next: every missing one of them in [first, last]. */
typedef struct DmshookLook
{
	int64_t		first;
	int64_t		last;
	bool		solid;			/* each id of the range is missing */
} DmshookLook;

extern DmshookGaps *dmshook_gaps_create(DmshookResize resize, void *arg);
extern void dmshook_gaps_free(DmshookGaps *gaps);

/* ------------------------------------------------------------ missing ids */

/* Ids first..last are missing; above all that were added before. */
extern void dmshook_gaps_add(DmshookGaps *gaps, int64_t first, int64_t last);

/* An id was found: no longer missing. */
extern void dmshook_gaps_take(DmshookGaps *gaps, int64_t id);

extern bool dmshook_gaps_has(const DmshookGaps *gaps, int64_t id);

/* The first missing id >= id; 0: none. */
extern int64_t dmshook_gaps_next(const DmshookGaps *gaps, int64_t id);

extern uint64_t dmshook_gaps_count(const DmshookGaps *gaps);

/* ----------------------------------------------------------------- epochs */

/* How many transactions below the fence may still be running. */
extern uint64_t dmshook_gaps_live(const DmshookXids *xids, uint64_t fence);

/* Were ids added since the last dmshook_gaps_fence()? */
extern bool dmshook_gaps_unfenced(const DmshookGaps *gaps);

/*
 * All that was added since the last call gets the fence xids->next, or is
 * dropped at once when nothing below it runs. xids: of the snapshot of the
 * reads that found them missing, next read after those. again: look at them
 * once more in any case, in the next round (after a restart). since: any time
 * stamp, given back by dmshook_gaps_oldest().
 */
extern void dmshook_gaps_fence(DmshookGaps *gaps, int64_t high, const DmshookXids *xids,
							   bool again, int64_t since);

/* A round begins: see which epochs are to be looked at under its snapshot. */
extern void dmshook_gaps_begin(DmshookGaps *gaps, const DmshookXids *xids);

/*
 * What to look at next, ids ascending, oldest epoch first; false: nothing
 * any more. Closes what was looked at to the end and can no longer be filled.
 * Found ids are told by dmshook_gaps_take() before dmshook_gaps_looked().
 */
extern bool dmshook_gaps_look(DmshookGaps *gaps, DmshookLook *look);

/* The range was read, up to and including upto (<= look->last). */
extern void dmshook_gaps_looked(DmshookGaps *gaps, int64_t upto);

/* Is a look open, that is, is there more for dmshook_gaps_look()? */
extern bool dmshook_gaps_looking(const DmshookGaps *gaps);

/* The oldest epoch's fence and time stamp; false: there is none. */
extern bool dmshook_gaps_oldest(const DmshookGaps *gaps, uint64_t *fence, int64_t *since);

extern int	dmshook_gaps_epochs(const DmshookGaps *gaps);

#endif							/* DMSHOOK_GAPS_H */
