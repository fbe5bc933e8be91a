/*
 * notice.h - failure notifications. See notice.c.
 */
#ifndef DMSHOOK_NOTICE_H
#define DMSHOOK_NOTICE_H

#include "postgres.h"

#include "deliver.h"
#include "policy.h"
#include "roster.h"

/* A request ended, and this follows: remember what is to be told. */
extern void dmshook_notice_erase(void);
extern void dmshook_notice_add(DmshookWebhook *webhook, const DmshookFlight *flight, const DmshookVerdict *verdict);

/* So many of its deliveries have expired (committed). */
extern void dmshook_notice_expired(DmshookWebhook *webhook, int64 n);

/* When there is something to be written; DT_NOEND: nothing. */
extern TimestampTz dmshook_notices_due(void);

/* In the transaction of positions: alerts, NOTIFY, events; and webhooks that are to be disabled. */
extern void dmshook_notices_write(void);
extern void dmshook_notices_end(bool committed);

#endif							/* DMSHOOK_NOTICE_H */
