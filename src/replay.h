/*
 * replay.h - replays: stretches of the log that a webhook is sent again. See
 * replay.c.
 */
#ifndef DMSHOOK_REPLAY_H
#define DMSHOOK_REPLAY_H

#include "postgres.h"

#include "consumer.h"
#include "reader.h"
#include "roster.h"
#include "store.h"

/* At start, in the first transaction: those that were under way. */
extern void dmshook_replays_load(MemoryContext context);

/* A command: its row in position, in the current transaction; then, committed, its place in memory. */
extern void dmshook_replay_write(DmshookWebhook *webhook, const DmshookCommand *command);
extern void dmshook_replay_command_done(DmshookWebhook *webhook, const DmshookCommand *command);

/* A webhook's replays end (cancelled, dropped): their rows, in the current transaction. */
extern void dmshook_replays_cancel(int webhook);

/* Under S: feed those that have room, until a deadline (dmshook_feed's). True: there is more. */
extern bool dmshook_replays_feed(DmshookReader *reader, int64 deadline_us);

/* In the transaction of positions: where they are; then, committed, those at their end leave. */
extern void dmshook_replays_persist(void);
extern void dmshook_replays_persisted(void);

#endif							/* DMSHOOK_REPLAY_H */
