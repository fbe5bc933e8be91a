/*
 * store_private.h - what the files of store share: the statements by name, and
 * how one is run. See store_sql.c.
 */
#ifndef DMSHOOK_STORE_PRIVATE_H
#define DMSHOOK_STORE_PRIVATE_H

#include "postgres.h"

#include "utils/jsonb.h"

typedef enum StoreQuery
{
	Q_CLAIM,
	Q_CLAIM_USED,
	Q_CLAIM_UPGRADED,
	Q_START,
	Q_LAST_VALUE,
	Q_SETVAL,
	Q_WEBHOOKS,
	Q_SECRETS,
	Q_SUBSCRIPTIONS,
	Q_COMMANDS,
	Q_COMMAND_DONE,
	Q_HANDLED,
	Q_QUEUE_PUT,
	Q_QUEUE_REMOVE,
	Q_QUEUE_DUE,
	Q_QUEUE_CANCELLED,
	Q_QUEUE_PARK,
	Q_QUEUE_ENTITIES,
	Q_QUEUE_PROMOTE,
	Q_QUEUE_PROMOTE_ALL,
	Q_QUEUE_RELEASE,
	Q_QUEUE_MOVE_TIMES,
	Q_QUEUE_CANCEL_MARK,
	Q_QUEUE_CANCEL,
	Q_QUEUE_EXPIRE,
	Q_REDELIVER,
	Q_REDELIVER_DEAD,
	Q_FINAL,
	Q_NONCE,
	Q_SKIP,
	Q_PLACE_UPDATE,
	Q_PLACE_PUT,
	Q_PLACE_REMOVE,
	Q_REPLAYS,
	Q_REPLAY_PUT,
	Q_REPLAY_MOVE,
	Q_REPLAY_REMOVE,
	Q_PAST,
	Q_STATE_UPDATE,
	Q_STATE_PUT,
	Q_STATE_MOVE_TIMES,
	Q_STATE_AHEAD,
	Q_LAST_OLDER,
	Q_REMOVE_OLD,
	Q_REMOVE_TESTS,
	Q_REMOVE_COMMANDS,
	Q_REMOVE_COUNTS,
	Q_REMOVE_ALERTS,
	Q_REMOVE_SECRETS,
	Q_BLANK_OLD,
	Q_ERASE_REST,
	Q_SCRUB,
	Q_COUNT,
	Q_DISABLE,
	Q_NOTICE,
	Q_COUNT_EXPIRED,
	Q_ALERTS_UNSENT,
	Q_ALERTS_SENT,
	N_QUERIES
} StoreQuery;

/*
 * Run a statement. Between SPI_connect() and SPI_finish(); rows are in
 * SPI_tuptable; returns their number. read_only: under the active snapshot, so
 * that all that is read in a round is read under the same one.
 */
extern uint64 dmshook_store_run(StoreQuery query, const Datum *values, const char *nulls, bool read_only);

/* A column of a result row; *isnull may be NULL where the column cannot be. */
extern Datum dmshook_store_column(uint64 row, int col, bool *isnull);

/* The same in the caller's memory, which SPI_finish() leaves alone. */
extern char *dmshook_store_column_text(MemoryContext context, uint64 row, int col);
extern Jsonb *dmshook_store_column_jsonb(MemoryContext context, uint64 row, int col);
extern int64 dmshook_store_column_int8(uint64 row, int col, int64 otherwise);

/* A one-dimensional array, for unnest(). nulls may be NULL. */
extern Datum dmshook_store_array(const Datum *elems, const bool *nulls, int n, Oid type, int len, bool byval, char align);

#endif							/* DMSHOOK_STORE_PRIVATE_H */
