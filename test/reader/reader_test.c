/*
 * reader_test.c - the reader of the log, for a backend session: test only.
 *
 * Built by `run` together with reader.c and gaps.c into a module of its own, and
 * never installed. Every call takes one new snapshot, as the dispatcher does for
 * a round. One reader a session.
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "gaps.h"
#include "reader.h"

PG_MODULE_MAGIC;

#define ENTRY(name) PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); PG_FUNCTION_INFO_V1(name)

ENTRY(reader_open);
ENTRY(reader_round);
ENTRY(reader_scan);
ENTRY(reader_fetch);
ENTRY(reader_state);
ENTRY(reader_flush);
ENTRY(reader_explicit);
ENTRY(reader_bench);

static MemoryContext context;
static DmshookReader *reader;
static bool more;

/* What a callback needs; rows are checked against what the test's writer writes. */
typedef struct Rows
{
	ReturnSetInfo *result;
	int64		n;
	bool		late;
} Rows;

static void
row(const DmshookEvent *event, void *arg, bool late)
{
	Rows	   *rows = arg;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	rows->n++;
	if (rows->result == NULL)
		return;
	/* every column comes out as it went in */
	if (event->type.len != 8 || memcmp(event->type.data, "test.row", 8) != 0 ||
		event->tenant.data != NULL || event->erased || event->data.len < 2 ||
		event->data.data[0] != '"' || event->data.data[event->data.len - 1] != '"' ||
		event->entity.len != 4 || memcmp(event->entity.data, "test", 4) != 0 ||
		!JB_ROOT_IS_OBJECT(event->key) || JB_ROOT_COUNT(event->key) != 1 ||
		event->who.len != 2 || event->source.len != 2 || event->old_tenant.data != NULL)
		elog(ERROR, "event %lld does not come out as it went in", (long long) event->id);
	values[0] = Int64GetDatum(event->id);
	values[1] = Int64GetDatum(event->nonce);
	values[2] = BoolGetDatum(late);
	tuplestore_putvalues(rows->result->setResult, rows->result->setDesc, values, nulls);
}

static void
late_row(const DmshookEvent *event, void *arg)
{
	row(event, arg, true);
}

static void
fresh_row(const DmshookEvent *event, void *arg)
{
	row(event, arg, false);
}

static Snapshot
begin(void)
{
	if (reader == NULL)
		elog(ERROR, "no reader: call reader_open()");
	PushActiveSnapshot(GetLatestSnapshot());
	return GetActiveSnapshot();
}

Datum
reader_open(PG_FUNCTION_ARGS)
{
	if (context)
		MemoryContextDelete(context);
	context = AllocSetContextCreate(TopMemoryContext, "reader", ALLOCSET_DEFAULT_SIZES);
	reader = dmshook_reader_create(context, PG_GETARG_INT64(0));
	more = true;
	PG_RETURN_VOID();
}

/* A round; its rows are durable when it returns. */
Datum
reader_round(PG_FUNCTION_ARGS)
{
	Rows		rows = {(ReturnSetInfo *) fcinfo->resultinfo, 0, false};
	XLogRecPtr	flush;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	more = dmshook_reader_round(reader, begin(), PG_GETARG_INT32(0), late_row, fresh_row, &rows);
	PopActiveSnapshot();
	flush = dmshook_reader_take_flush(reader);
	if (flush != InvalidXLogRecPtr)
		XLogFlush(flush);
	return (Datum) 0;
}

Datum
reader_scan(PG_FUNCTION_ARGS)
{
	Rows		rows = {(ReturnSetInfo *) fcinfo->resultinfo, 0, false};
	Datum		values[3];
	bool		nulls[3] = {false, true, true};

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	values[0] = Int64GetDatum(dmshook_reader_scan(reader, begin(), PG_GETARG_INT64(0), PG_GETARG_INT64(1),
												  PG_GETARG_INT32(2), fresh_row, &rows));
	PopActiveSnapshot();
	tuplestore_putvalues(rows.result->setResult, rows.result->setDesc, values, nulls);
	return (Datum) 0;
}

Datum
reader_fetch(PG_FUNCTION_ARGS)
{
	Rows		rows = {NULL, 0, false};
	bool		found = dmshook_reader_fetch(begin(), PG_GETARG_INT64(0), fresh_row, &rows);

	PopActiveSnapshot();
	PG_RETURN_BOOL(found && rows.n == 1);
}

/* high low missing has_gaps looking more, as text */
Datum
reader_state(PG_FUNCTION_ARGS)
{
	uint64		missing;
	uint64		fence;
	TimestampTz since;

	(void) fcinfo;
	if (reader == NULL)
		elog(ERROR, "no reader: call reader_open()");
	dmshook_reader_gaps(reader, &missing, &since, &fence);
	if ((missing > 0) != dmshook_reader_has_gaps(reader) || (fence != 0) != (missing > 0) || (since != 0) != (missing > 0))
	{
		/* an epoch may be without ids until its look, but never the other way round */
		if (missing > 0)
			elog(ERROR, "missing ids without a fence");
	}
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%lld %lld %llu %d %d %d",
											  (long long) dmshook_reader_high(reader),
											  (long long) dmshook_reader_low(reader),
											  (unsigned long long) missing,
											  dmshook_reader_has_gaps(reader),
											  dmshook_reader_looking(reader), more)));
}

/* One round of which nothing is flushed: the LSN that it asks for. */
Datum
reader_flush(PG_FUNCTION_ARGS)
{
	Rows		rows = {NULL, 0, false};

	(void) fcinfo;
	dmshook_reader_round(reader, begin(), 1000, late_row, fresh_row, &rows);
	PopActiveSnapshot();
	PG_RETURN_LSN(dmshook_reader_take_flush(reader));
}

Datum
reader_explicit(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_INT64(dmshook_reader_take_explicit(reader));
}

static double
cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* Microseconds of CPU over n rounds of this limit; with a new snapshot each or not. */
Datum
reader_bench(PG_FUNCTION_ARGS)
{
	int			n = PG_GETARG_INT32(0);
	int			limit = PG_GETARG_INT32(1);
	bool		snapshots = PG_GETARG_BOOL(2);
	Rows		rows = {NULL, 0, false};
	double		us;

	begin();
	us = cpu_us();
	for (int i = 0; i < n; i++)
	{
		if (snapshots)
		{
			PopActiveSnapshot();
			begin();
		}
		dmshook_reader_round(reader, GetActiveSnapshot(), limit, late_row, fresh_row, &rows);
		CHECK_FOR_INTERRUPTS();
	}
	us = cpu_us() - us;
	PopActiveSnapshot();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%.2f us/round, %lld rows, %.3f us/row",
											  us / n, (long long) rows.n, rows.n ? us / rows.n : 0)));
}
