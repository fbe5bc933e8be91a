/*
 * capture_log.h - appending a row to dmshook.event. See capture_log.c.
 */
#ifndef DMSHOOK_CAPTURE_LOG_H
#define DMSHOOK_CAPTURE_LOG_H

#include "postgres.h"
#include "executor/tuptable.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

/* What an event says; id, nonce and time are given to it when it is logged. */
typedef struct DmshookNewEvent
{
	text	   *type;
	text	   *tenant;			/* NULL: none, as the next */
	text	   *old_tenant;
	text	   *entity;
	Jsonb	   *key;
	text	   *who;
	text	   *source;
	text	   *data;
} DmshookNewEvent;

/*
 * Append it to the log, in the current transaction, with the rights of nobody
 * asked for, and have the dispatcher woken at commit. Returns its id and
 * nonce. Errors are those of storage: a full disk, a corrupt page.
 */
extern int64 dmshook_log_event(const DmshookNewEvent *event, int64 *nonce);

/*
 * The "user" member of the payload. name: of the person, from the row (then
 * of length len), or NULL; the settings go before it, and the session user
 * after it. palloc'd.
 */
extern text *dmshook_log_who(const char *name, int len);

/*
 * For capture_batch.c, which writes several rows at once.
 *
 * The log's Oid; a nonce; the first of n ids (the caller's transaction must
 * have its xid); the columns of a row but its id, returning the nonce; the
 * index entries of rows that are in slots and in the table.
 */
extern Oid	dmshook_log_table(void);
extern int64 dmshook_log_nonce(void);
extern int64 dmshook_log_take_ids(int n);
extern int64 dmshook_log_fill(const DmshookNewEvent *event, TupleDesc desc, Datum *values, bool *nulls);
extern void dmshook_log_index(Relation rel, TupleTableSlot **slots, const int64 *ids, int n);

/* Forget Oids when they change; the hooks of capture_batch.c. */
extern void dmshook_log_init(void);

#endif							/* DMSHOOK_CAPTURE_LOG_H */
