/*
 * command.h - what admins asked the dispatcher to do. See command.c.
 */
#ifndef DMSHOOK_COMMAND_H
#define DMSHOOK_COMMAND_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "consumer.h"
#include "store.h"

/*
 * At start, in a transaction, after the webhooks were loaded: rows of the queue that were
 * cancelled while in flight end, and the order that webhooks want is restored.
 */
extern void dmshook_commands_start(void);

/*
 * Under S, before events are matched: load what reload commands speak of, and mark what was erased. The
 * transaction that runs dmshook_commands_run() must store positions too.
 */
extern void dmshook_commands_reload(DmshookConsumers *set, List *commands);

/*
 * Carry them out in the current transaction: their statements, and done_at.
 * Each is a subtransaction: one that fails is done, with an alert. Returns what is to be
 * told to the consumers by dmshook_commands_committed() once the transaction
 * has committed; or forgotten when it has not.
 */
extern List *dmshook_commands_run(DmshookConsumers *set, List *commands);
extern void dmshook_commands_committed(List *effects);

/*
 * In the transaction of positions: after ordering was switched on, what was in flight
 * then puts its rows back with due times of their own: the queue is put in order again until all of it has ended.
 */
extern void dmshook_commands_reorder(void);

struct DmshookWebhook;

/*
 * In the current transaction: what waits for a webhook up to an id ends as
 * expired; *rows: DmshookQueueRow, those that had been tried. Returns an element for dmshook_commands_committed().
 */
extern void *dmshook_commands_expire(struct DmshookWebhook *webhook, int64 upto, List **rows);

/* The same for what is in its queue, of events older than a time, at most limit. */
extern void *dmshook_commands_expire_queue(struct DmshookWebhook *webhook, TimestampTz than, int limit, List **rows);

#endif							/* DMSHOOK_COMMAND_H */
