/*
 * housekeeping.h - what is old enough goes. See housekeeping.c.
 */
#ifndef DMSHOOK_HOUSEKEEPING_H
#define DMSHOOK_HOUSEKEEPING_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "consumer.h"

/* When to look next; the past: now. */
extern TimestampTz dmshook_housekeeping_due(void);

/* Settings have changed: look again. */
extern void dmshook_housekeeping_reload(void);

/*
 * In a transaction: one small batch. What of it memory has to hear of is told by
 * dmshook_housekeeping_end(), when the transaction has committed, or not. True: webhooks' places have moved,
 * and are to be stored.
 */
extern void dmshook_housekeeping_run(DmshookConsumers *set);
extern bool dmshook_housekeeping_end(bool committed);

#endif							/* DMSHOOK_HOUSEKEEPING_H */
