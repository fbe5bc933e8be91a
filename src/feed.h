/*
 * feed.h - from the log and the queue to the consumers: what is read in a turn.
 * See feed.c.
 */
#ifndef DMSHOOK_FEED_H
#define DMSHOOK_FEED_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "consumer.h"
#include "reader.h"

/* What consumer.c asks of the dispatcher. */
extern void dmshook_feed_calls(DmshookConsumerCalls *calls, MemoryContext context);

/* Before the turn's snapshot is taken: tests that were posted. */
extern void dmshook_feed_take_tests(void);

/* All of these under the turn's active snapshot, in the turn's memory. */

/* A round of the reader. True: there is more at once. */
extern bool dmshook_feed_round(DmshookReader *reader, DmshookConsumers *set);

/* Webhooks behind the reader that have room, fairly, a bounded time. True: somebody is still hungry. */
extern bool dmshook_feed_hungry(DmshookReader *reader, DmshookConsumers *set);

/* Queue rows that are due become entries; and tests that were posted become requests. */
extern void dmshook_feed_queue(DmshookConsumers *set);
extern void dmshook_feed_tests(void);

/* Outside a transaction: the picked entries, one by one; start tests. */
extern DmshookEntry *dmshook_feed_next_picked(void);
extern void dmshook_feed_start_tests(void);

/* Queue rows whose event is gone: to be ended by results.c in this turn; a List of DmshookQueueRow, in the turn's memory. */
extern struct List *dmshook_feed_take_orphans(void);
extern bool dmshook_feed_has_orphans(void);

/* Is somebody behind who has room now, or a due row that may now be sent? */
extern bool dmshook_feed_wanted(DmshookConsumers *set);

/* When the queue is to be looked at next; DT_NOEND: never. */
extern TimestampTz dmshook_feed_next_due(void);

/* Webhooks that were dropped and have nothing under way leave memory. */
extern void dmshook_feed_remove_dropped(void);

/* Tests that wait to be sent may be made of an event that was erased: they are logged without their bodies. */
extern void dmshook_feed_erase_tests(void);

#endif							/* DMSHOOK_FEED_H */
