/*
 * store_queue.c - open deliveries and the past of those that ended, in the tables:
 * queue, final attempts, replays.
 *
 * Runs in the dispatcher, inside transactions that dispatch.c opens. The
 * statements are in store_sql.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "store.h"
#include "store_private.h"

DmshookHandled
dmshook_store_handled(int64 from, int64 upto)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2] = {Int64GetDatum(from), Int64GetDatum(upto)};
	DmshookHandled result;

	SPI_connect();
	result.n = dmshook_store_run(Q_HANDLED, values, NULL, true);
	result.key = MemoryContextAllocHuge(context, sizeof(*result.key) * Max(result.n, 1));
	for (int i = 0; i < result.n; i++)
	{
		result.key[i].event = dmshook_store_column_int8(i, 1, 0);
		result.key[i].webhook = DatumGetInt32(dmshook_store_column(i, 2, NULL));
	}
	SPI_finish();
	return result;
}

bool
dmshook_handled_has(const DmshookHandled *handled, int64 event, int webhook)
{
	int			lo = 0;
	int			hi = handled->n;

	while (lo < hi)
	{
		int			mid = lo + (hi - lo) / 2;

		if (handled->key[mid].event < event ||
			(handled->key[mid].event == event && handled->key[mid].webhook < webhook))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < handled->n && handled->key[lo].event == event && handled->key[lo].webhook == webhook;
}

static Datum
int8_array(const Datum *elems, int n)
{
	return dmshook_store_array(elems, NULL, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

static Datum
int4_array(const Datum *elems, int n)
{
	return dmshook_store_array(elems, NULL, n, INT4OID, 4, true, TYPALIGN_INT);
}

void
dmshook_store_queue_put(const DmshookQueueRow *rows, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * n);
	bool	   *nulls = palloc0(sizeof(bool) * n);
	Datum		values[8];

#define FILL(expression) for (int i = 0; i < n; i++) elems[i] = (expression)
	FILL(Int64GetDatum(rows[i].event));
	values[0] = int8_array(elems, n);
	FILL(Int32GetDatum(rows[i].webhook));
	values[1] = int4_array(elems, n);
	for (int i = 0; i < n; i++)
	{
		nulls[i] = rows[i].due_at == DT_NOEND;
		elems[i] = TimestampTzGetDatum(rows[i].due_at);
	}
	values[2] = dmshook_store_array(elems, nulls, n, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	FILL(Int32GetDatum(rows[i].attempts));
	values[3] = int4_array(elems, n);
	FILL(CharGetDatum(rows[i].kind));
	values[4] = dmshook_store_array(elems, NULL, n, CHAROID, 1, true, TYPALIGN_CHAR);
	FILL(Int64GetDatum(rows[i].command));
	values[5] = int8_array(elems, n);
	FILL(Int64GetDatum((int64) rows[i].entity));
	values[6] = int8_array(elems, n);
	FILL(Int16GetDatum(rows[i].quick));
	values[7] = dmshook_store_array(elems, NULL, n, INT2OID, 2, true, TYPALIGN_SHORT);
	SPI_connect();
	dmshook_store_run(Q_QUEUE_PUT, values, NULL, false);
	SPI_finish();
}

void
dmshook_store_queue_remove(const DmshookQueueRow *rows, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * n);
	Datum		values[2];

	FILL(Int64GetDatum(rows[i].event));
	values[0] = int8_array(elems, n);
	FILL(Int32GetDatum(rows[i].webhook));
	values[1] = int4_array(elems, n);
#undef FILL
	SPI_connect();
	dmshook_store_run(Q_QUEUE_REMOVE, values, NULL, false);
	SPI_finish();
}

/* A row of (event, due_at, attempts, kind, command, entity, quick[, nonce]). */
static DmshookQueueRow *
queue_row(MemoryContext context, int webhook, uint64 row)
{
	DmshookQueueRow *result = MemoryContextAllocZero(context, sizeof(DmshookQueueRow));
	bool		isnull;
	Datum		due_at = dmshook_store_column(row, 2, &isnull);

	result->event = dmshook_store_column_int8(row, 1, 0);
	result->webhook = webhook;
	result->due_at = isnull ? DT_NOEND : DatumGetTimestampTz(due_at);
	result->attempts = DatumGetInt32(dmshook_store_column(row, 3, NULL));
	result->kind = DatumGetChar(dmshook_store_column(row, 4, NULL));
	result->command = dmshook_store_column_int8(row, 5, 0);
	result->entity = (uint64) dmshook_store_column_int8(row, 6, 0);
	result->quick = DatumGetInt16(dmshook_store_column(row, 7, NULL));
	if (SPI_tuptable->tupdesc->natts > 7)
		result->nonce = dmshook_store_column_int8(row, 8, 0);
	return result;
}

static List *
queue_rows(MemoryContext context, int webhook, uint64 n)
{
	List	   *result = NIL;
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 i = 0; i < n; i++)
		result = lappend(result, queue_row(context, webhook, i));
	MemoryContextSwitchTo(old);
	return result;
}

List *
dmshook_store_queue_due(int webhook, TimestampTz from, int limit)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3] = {Int32GetDatum(webhook), TimestampTzGetDatum(from), Int32GetDatum(limit)};
	List	   *result;

	SPI_connect();
	result = queue_rows(context, webhook, dmshook_store_run(Q_QUEUE_DUE, values, NULL, true));
	SPI_finish();
	return result;
}

List *
dmshook_store_queue_cancelled(int webhook)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		value = Int32GetDatum(webhook);
	List	   *result;

	SPI_connect();
	result = queue_rows(context, webhook, dmshook_store_run(Q_QUEUE_CANCELLED, &value, NULL, false));
	SPI_finish();
	return result;
}

void
dmshook_store_queue_park(int webhook)
{
	Datum		value = Int32GetDatum(webhook);

	SPI_connect();
	dmshook_store_run(Q_QUEUE_PARK, &value, NULL, false);
	SPI_finish();
}

List *
dmshook_store_queue_entities(int webhook)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	Datum		value = Int32GetDatum(webhook);
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = dmshook_store_run(Q_QUEUE_ENTITIES, &value, NULL, true);
	old = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
	{
		DmshookQueueRow *row = palloc0(sizeof(DmshookQueueRow));

		row->webhook = webhook;
		row->entity = (uint64) dmshook_store_column_int8(i, 1, 0);
		row->attempts = DatumGetInt32(dmshook_store_column(i, 2, NULL));
		result = lappend(result, row);
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	return result;
}

bool
dmshook_store_queue_promote(int webhook, uint64 entity, TimestampTz due_at)
{
	Datum		values[3] = {Int32GetDatum(webhook), Int64GetDatum((int64) entity), TimestampTzGetDatum(due_at)};
	bool		result;

	SPI_connect();
	result = dmshook_store_run(Q_QUEUE_PROMOTE, values, NULL, false) > 0;
	SPI_finish();
	return result;
}

void
dmshook_store_queue_promote_all(int webhook, TimestampTz due_at, bool every_row)
{
	Datum		values[2] = {Int32GetDatum(webhook), TimestampTzGetDatum(due_at)};

	SPI_connect();
	dmshook_store_run(every_row ? Q_QUEUE_RELEASE : Q_QUEUE_PROMOTE_ALL, values, NULL, false);
	SPI_finish();
}

int64
dmshook_store_ahead(TimestampTz now)
{
	int64		ahead = 0;
	bool		null;

	SPI_connect();
	if (dmshook_store_run(Q_STATE_AHEAD, NULL, NULL, true) == 1)
	{
		Datum		latest = dmshook_store_column(0, 1, &null);

		if (!null)
			ahead = Max(DatumGetTimestampTz(latest) - now, 0);
	}
	SPI_finish();
	return ahead;
}

void
dmshook_store_move_times(TimestampTz now, int64 back_us)
{
	Datum		values[2] = {TimestampTzGetDatum(now), Float8GetDatum(back_us / 1000000.0)};

	SPI_connect();
	dmshook_store_run(Q_QUEUE_MOVE_TIMES, values, NULL, false);
	dmshook_store_run(Q_STATE_MOVE_TIMES, values, NULL, false);
	SPI_finish();
}

List *
dmshook_store_queue_cancel(int webhook, int64 upto, bool event_only, const int64 *in_flight, int n)
{
	MemoryContext context = CurrentMemoryContext;
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));
	Datum		values[4];
	List	   *result;

	for (int i = 0; i < n; i++)
		elems[i] = Int64GetDatum(in_flight[i]);
	values[0] = Int32GetDatum(webhook);
	values[1] = Int64GetDatum(event_only ? upto : PG_INT64_MIN);
	values[2] = Int64GetDatum(upto);
	values[3] = int8_array(elems, n);
	SPI_connect();
	if (n > 0)
		dmshook_store_run(Q_QUEUE_CANCEL_MARK, values, NULL, false);
	result = queue_rows(context, webhook, dmshook_store_run(Q_QUEUE_CANCEL, values, NULL, false));
	SPI_finish();
	return result;
}

List *
dmshook_store_queue_expire(int webhook, TimestampTz than, const int64 *in_flight, int n, int rows)
{
	MemoryContext context = CurrentMemoryContext;
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));
	Datum		values[4];
	List	   *result;

	for (int i = 0; i < n; i++)
		elems[i] = Int64GetDatum(in_flight[i]);
	values[0] = Int32GetDatum(webhook);
	values[1] = TimestampTzGetDatum(than);
	values[2] = int8_array(elems, n);
	values[3] = Int32GetDatum(rows);
	SPI_connect();
	result = queue_rows(context, webhook, dmshook_store_run(Q_QUEUE_EXPIRE, values, NULL, false));
	SPI_finish();
	return result;
}

int64
dmshook_store_redeliver(int webhook, int64 event, int64 command, Jsonb *args, TimestampTz due_at)
{
	int64		result;

	SPI_connect();
	if (event != 0)
	{
		Datum		values[4] = {Int32GetDatum(webhook), Int64GetDatum(event), Int64GetDatum(command), TimestampTzGetDatum(due_at)};

		result = dmshook_store_run(Q_REDELIVER, values, NULL, false);
	}
	else
	{
		Datum		values[4] = {Int32GetDatum(webhook), Int64GetDatum(command), TimestampTzGetDatum(due_at), JsonbPGetDatum(args)};

		result = dmshook_store_run(Q_REDELIVER_DEAD, values, NULL, false);
	}
	SPI_finish();
	return result;
}

bool
dmshook_store_final(int64 event, int webhook)
{
	Datum		values[2] = {Int64GetDatum(event), Int32GetDatum(webhook)};
	bool		result;

	SPI_connect();
	result = dmshook_store_run(Q_FINAL, values, NULL, true) > 0;
	SPI_finish();
	return result;
}

bool
dmshook_store_nonce(int64 event, int64 *nonce)
{
	Datum		value = Int64GetDatum(event);
	bool		found;

	SPI_connect();
	found = dmshook_store_run(Q_NONCE, &value, NULL, true) > 0;
	if (found)
		*nonce = dmshook_store_column_int8(0, 1, 0);
	SPI_finish();
	return found;
}

List *
dmshook_store_replays(void)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = dmshook_store_run(Q_REPLAYS, NULL, NULL, true);
	for (uint64 i = 0; i < n; i++)
	{
		DmshookReplayRow *row = MemoryContextAllocZero(context, sizeof(DmshookReplayRow));

		row->webhook = DatumGetInt32(dmshook_store_column(i, 1, NULL));
		row->command = dmshook_store_column_int8(i, 2, 0);
		row->low = dmshook_store_column_int8(i, 3, 0);
		row->until = dmshook_store_column_int8(i, 4, 0);
		row->args = dmshook_store_column_jsonb(context, i, 5);
		old = MemoryContextSwitchTo(context);
		result = lappend(result, row);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

void
dmshook_store_replay_put(const DmshookReplayRow *row)
{
	Datum		values[4] = {Int32GetDatum(row->webhook), Int64GetDatum(row->command), Int64GetDatum(row->low), Int64GetDatum(row->until)};

	SPI_connect();
	dmshook_store_run(Q_REPLAY_PUT, values, NULL, false);
	SPI_finish();
}

void
dmshook_store_replay_move(int webhook, int64 command, int64 low)
{
	Datum		values[3] = {Int32GetDatum(webhook), Int64GetDatum(command), Int64GetDatum(low)};

	SPI_connect();
	dmshook_store_run(Q_REPLAY_MOVE, values, NULL, false);
	SPI_finish();
}

void
dmshook_store_replay_remove(int webhook, int64 command)
{
	Datum		values[2] = {Int32GetDatum(webhook), Int64GetDatum(command)};

	SPI_connect();
	dmshook_store_run(Q_REPLAY_REMOVE, values, NULL, false);
	SPI_finish();
}

DmshookPast
dmshook_store_past(int webhook, int64 after, int64 upto, int64 command)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[4] = {Int32GetDatum(webhook), Int64GetDatum(after), Int64GetDatum(upto), Int64GetDatum(command)};
	DmshookPast result;

	SPI_connect();
	result.n = dmshook_store_run(Q_PAST, values, NULL, true);
	result.key = MemoryContextAlloc(context, sizeof(DmshookPastKey) * Max(result.n, 1));
	for (int i = 0; i < result.n; i++)
	{
		result.key[i].event = dmshook_store_column_int8(i, 1, 0);
		result.key[i].final = DatumGetBool(dmshook_store_column(i, 2, NULL));
		result.key[i].delivered = DatumGetBool(dmshook_store_column(i, 3, NULL));
		result.key[i].open = DatumGetBool(dmshook_store_column(i, 4, NULL));
		result.key[i].by_command = DatumGetBool(dmshook_store_column(i, 5, NULL));
	}
	SPI_finish();
	return result;
}

static int
compare_past(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = ((const DmshookPastKey *) b)->event;

	return x < y ? -1 : x > y;
}

const DmshookPastKey *
dmshook_past_find(const DmshookPast *past, int64 event)
{
	return bsearch(&event, past->key, past->n, sizeof(DmshookPastKey), compare_past);
}
