/*
 * store.c - the SQL of the dispatcher, all of it.
 *
 * Runs in the dispatcher, inside transactions that dispatch.c opens (but for
 * dmshook_store_claimed). Statements are prepared once and kept; every name is
 * qualified, every argument typed. No statement here waits for a row that an
 * admin's open transaction may hold: functions append to command, subscription,
 * change and webhook_version and update webhook, which this file only reads
 * (and command.done_at, which they do not touch). Nothing here touches the
 * network, or a table of the DMS.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "utils/lsyscache.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "store.h"

typedef enum StoreQuery
{
	Q_CLAIM,
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
	Q_QUEUE_CANCEL_MARK,
	Q_QUEUE_CANCEL,
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
	Q_ALERT,
	N_QUERIES
} StoreQuery;

#define MAX_ARGS 9

typedef struct QueryDef
{
	const char *sql;
	Oid			args[MAX_ARGS]; /* InvalidOid: no more */
} QueryDef;

static const QueryDef query_defs[N_QUERIES] = {
	[Q_CLAIM] = {
		"SELECT i.system_identifier, i.database, i.major,"
		" EXISTS (SELECT FROM dmshook.position AS p WHERE p.webhook OPERATOR(pg_catalog.=) 0 AND p.command OPERATOR(pg_catalog.=) 0)"
		" FROM dmshook.instance AS i"
	},
	[Q_CLAIM_UPGRADED] = {
		"UPDATE dmshook.instance SET system_identifier = $1, major = $2", {INT8OID, INT4OID}
	},
	[Q_START] = {
		"SELECT p.low, p.ctid,"
		" (SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value OPERATOR(pg_catalog.-) 1 END FROM dmshook.event_id AS s),"
		" (SELECT pg_catalog.max(e.id) FROM dmshook.event AS e),"
		" (SELECT q.seqcache FROM pg_catalog.pg_sequence AS q WHERE q.seqrelid OPERATOR(pg_catalog.=) 'dmshook.event_id'::pg_catalog.regclass)"
		" FROM dmshook.position AS p WHERE p.webhook OPERATOR(pg_catalog.=) 0 AND p.command OPERATOR(pg_catalog.=) 0"
	},
	[Q_LAST_VALUE] = {
		"SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value OPERATOR(pg_catalog.-) 1 END FROM dmshook.event_id AS s"
	},
	[Q_SETVAL] = {
		"SELECT pg_catalog.setval('dmshook.event_id', $1)", {INT8OID}
	},
	[Q_WEBHOOKS] = {
		"SELECT w.id, w.name, w.url, w.method, w.enabled, w.paused, w.version, w.options,"
		" p.low, s.upto, t.delivered, t.failed, t.failures"
		" FROM dmshook.webhook AS w"
		" LEFT JOIN dmshook.position AS p ON p.webhook OPERATOR(pg_catalog.=) w.id AND p.command OPERATOR(pg_catalog.=) 0"
		" LEFT JOIN dmshook.skip AS s ON s.webhook OPERATOR(pg_catalog.=) w.id"
		" LEFT JOIN dmshook.webhook_state AS t ON t.webhook OPERATOR(pg_catalog.=) w.id"
		" WHERE w.dropped_at IS NULL AND ($1 OPERATOR(pg_catalog.=) 0 OR w.id OPERATOR(pg_catalog.=) $1) ORDER BY w.id", {INT4OID}
	},
	[Q_SECRETS] = {
		"SELECT x.webhook, x.kind, x.value FROM dmshook.webhook_secret AS x"
		" WHERE (x.expires_at IS NULL OR x.expires_at OPERATOR(pg_catalog.>) pg_catalog.now())"
		" AND ($1 OPERATOR(pg_catalog.=) 0 OR x.webhook OPERATOR(pg_catalog.=) $1)"
		" ORDER BY x.webhook, x.id DESC", {INT4OID}
	},
	[Q_SUBSCRIPTIONS] = {
		"SELECT v.webhook, v.from_id, v.events, v.tenant, v.enabled FROM dmshook.subscription AS v"
		" WHERE $1 OPERATOR(pg_catalog.=) 0 OR v.webhook OPERATOR(pg_catalog.=) $1"
		" ORDER BY v.webhook, v.from_id, v.id", {INT4OID}
	},
	[Q_COMMANDS] = {
		"SELECT c.id, c.webhook, c.kind, c.event, c.upto, c.args, c.by_role FROM dmshook.command AS c"
		" WHERE c.done_at IS NULL ORDER BY c.id"
	},
	[Q_COMMAND_DONE] = {
		"UPDATE dmshook.command SET done_at = pg_catalog.clock_timestamp() WHERE id OPERATOR(pg_catalog.=) $1", {INT8OID}
	},
	[Q_HANDLED] = {
		"SELECT a.event, a.webhook FROM dmshook.attempt AS a"
		" WHERE a.event OPERATOR(pg_catalog.>=) $1 AND a.event OPERATOR(pg_catalog.<=) $2 AND a.final IS NOT NULL"
		" UNION ALL SELECT q.event, q.webhook FROM dmshook.queue AS q"
		" WHERE q.event OPERATOR(pg_catalog.>=) $1 AND q.event OPERATOR(pg_catalog.<=) $2"
		" ORDER BY 1, 2", {INT8OID, INT8OID}
	},
	[Q_QUEUE_PUT] = {
		"INSERT INTO dmshook.queue AS q (event, webhook, due_at, attempts, kind, command, entity)"
		" SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
		" pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7)) AS r"
		" ON CONFLICT (event, webhook) DO UPDATE SET due_at = EXCLUDED.due_at, attempts = EXCLUDED.attempts,"
		" kind = EXCLUDED.kind, command = EXCLUDED.command",
		{INT8ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID, CHARARRAYOID, INT8ARRAYOID, INT8ARRAYOID}
	},
	[Q_QUEUE_REMOVE] = {
		"DELETE FROM dmshook.queue AS q USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS r (event, webhook)"
		" WHERE q.event OPERATOR(pg_catalog.=) r.event AND q.webhook OPERATOR(pg_catalog.=) r.webhook",
		{INT8ARRAYOID, INT4ARRAYOID}
	},
	[Q_QUEUE_DUE] = {
		"SELECT q.event, q.due_at, q.attempts, q.kind, q.command, q.entity FROM dmshook.queue AS q"
		" WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.due_at OPERATOR(pg_catalog.>=) $2 AND NOT q.cancelled"
		" ORDER BY q.due_at LIMIT $3", {INT4OID, TIMESTAMPTZOID, INT4OID}
	},
	[Q_QUEUE_CANCELLED] = {
		"DELETE FROM dmshook.queue AS q WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.cancelled"
		" RETURNING q.event, q.due_at, q.attempts, q.kind, q.command, q.entity,"
		" coalesce((SELECT e.nonce FROM dmshook.event AS e WHERE e.id OPERATOR(pg_catalog.=) q.event), 0)",
		{INT4OID}
	},
	[Q_QUEUE_PARK] = {
		"UPDATE dmshook.queue AS q SET due_at = NULL WHERE q.webhook OPERATOR(pg_catalog.=) $1"
		" AND q.kind OPERATOR(pg_catalog.=) 'd' AND q.due_at IS NOT NULL"
		" AND EXISTS (SELECT FROM dmshook.queue AS o WHERE o.webhook OPERATOR(pg_catalog.=) $1"
		"      AND o.entity OPERATOR(pg_catalog.=) q.entity AND o.event OPERATOR(pg_catalog.<) q.event AND o.kind OPERATOR(pg_catalog.=) 'd')",
		{INT4OID}
	},
	[Q_QUEUE_ENTITIES] = {
		"SELECT q.entity, pg_catalog.count(*)::int4 FROM dmshook.queue AS q"
		" WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.kind OPERATOR(pg_catalog.=) 'd' GROUP BY q.entity", {INT4OID}
	},
	[Q_QUEUE_PROMOTE] = {
		"UPDATE dmshook.queue AS q SET due_at = $3 FROM (SELECT o.event FROM dmshook.queue AS o"
		" WHERE o.webhook OPERATOR(pg_catalog.=) $1 AND o.entity OPERATOR(pg_catalog.=) $2 AND o.kind OPERATOR(pg_catalog.=) 'd'"
		" ORDER BY o.webhook, o.entity, o.event LIMIT 1) AS head"
		" WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.event OPERATOR(pg_catalog.=) head.event AND q.due_at IS NULL"
		" AND NOT EXISTS (SELECT FROM dmshook.queue AS d WHERE d.webhook OPERATOR(pg_catalog.=) $1"
		"      AND d.entity OPERATOR(pg_catalog.=) $2 AND d.kind OPERATOR(pg_catalog.=) 'd' AND d.due_at IS NOT NULL)",
		{INT4OID, INT8OID, TIMESTAMPTZOID}
	},
	[Q_QUEUE_PROMOTE_ALL] = {
		"UPDATE dmshook.queue AS q SET due_at = $2 FROM (SELECT DISTINCT ON (o.entity) o.event FROM dmshook.queue AS o"
		" WHERE o.webhook OPERATOR(pg_catalog.=) $1 AND o.kind OPERATOR(pg_catalog.=) 'd' ORDER BY o.entity, o.event) AS head"
		" WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.event OPERATOR(pg_catalog.=) head.event AND q.due_at IS NULL"
		" AND NOT EXISTS (SELECT FROM dmshook.queue AS d WHERE d.webhook OPERATOR(pg_catalog.=) $1"
		"      AND d.entity OPERATOR(pg_catalog.=) q.entity AND d.kind OPERATOR(pg_catalog.=) 'd' AND d.due_at IS NOT NULL)",
		{INT4OID, TIMESTAMPTZOID}
	},
	[Q_QUEUE_RELEASE] = {
		"UPDATE dmshook.queue AS q SET due_at = $2 WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.due_at IS NULL",
		{INT4OID, TIMESTAMPTZOID}
	},
	[Q_QUEUE_CANCEL_MARK] = {
		"UPDATE dmshook.queue AS q SET cancelled = true WHERE q.webhook OPERATOR(pg_catalog.=) $1"
		" AND q.event OPERATOR(pg_catalog.>=) $2 AND q.event OPERATOR(pg_catalog.<=) $3 AND q.event OPERATOR(pg_catalog.=) ANY ($4)",
		{INT4OID, INT8OID, INT8OID, INT8ARRAYOID}
	},
	[Q_QUEUE_CANCEL] = {
		"DELETE FROM dmshook.queue AS q WHERE q.webhook OPERATOR(pg_catalog.=) $1"
		" AND q.event OPERATOR(pg_catalog.>=) $2 AND q.event OPERATOR(pg_catalog.<=) $3 AND q.event OPERATOR(pg_catalog.<>) ALL ($4)"
		" RETURNING q.event, q.due_at, q.attempts, q.kind, q.command, q.entity,"
		" coalesce((SELECT e.nonce FROM dmshook.event AS e WHERE e.id OPERATOR(pg_catalog.=) q.event), 0)",
		{INT4OID, INT8OID, INT8OID, INT8ARRAYOID}
	},
	[Q_REDELIVER] = {
		"INSERT INTO dmshook.queue (event, webhook, due_at, attempts, kind, command, entity)"
		" SELECT $2, $1, $4, 0, 'r', $3, 0 WHERE EXISTS (SELECT FROM dmshook.attempt AS a"
		" WHERE a.event OPERATOR(pg_catalog.=) $2 AND a.webhook OPERATOR(pg_catalog.=) $1 AND a.final IS NOT NULL)"
		" ON CONFLICT (event, webhook) DO NOTHING",
		{INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID}
	},
	[Q_REDELIVER_DEAD] = {
		"INSERT INTO dmshook.queue (event, webhook, due_at, attempts, kind, command, entity)"
		" SELECT DISTINCT a.event, $1, $3, 0, 'r'::\"char\", $2, 0::int8 FROM dmshook.attempt AS a"
		" JOIN dmshook.event AS e ON e.id OPERATOR(pg_catalog.=) a.event"
		" WHERE a.webhook OPERATOR(pg_catalog.=) $1 AND a.final OPERATOR(pg_catalog.=) 'x' AND a.event OPERATOR(pg_catalog.>) 0"
		" AND a.id OPERATOR(pg_catalog.<=) coalesce(($4 OPERATOR(pg_catalog.->>) 'upto_attempt')::int8, 9223372036854775807)"
		" AND ($4 OPERATOR(pg_catalog.->>) 'since' IS NULL OR a.at OPERATOR(pg_catalog.>=) ($4 OPERATOR(pg_catalog.->>) 'since')::timestamptz)"
		" AND (coalesce(pg_catalog.jsonb_typeof($4 OPERATOR(pg_catalog.->) 'types'), 'null') OPERATOR(pg_catalog.=) 'null'"
		"      OR dmshook._matches(ARRAY(SELECT pg_catalog.jsonb_array_elements_text($4 OPERATOR(pg_catalog.->) 'types')), e.type))"
		" AND NOT EXISTS (SELECT FROM dmshook.attempt AS later WHERE later.event OPERATOR(pg_catalog.=) a.event"
		"      AND later.webhook OPERATOR(pg_catalog.=) $1 AND later.final IS NOT NULL AND later.id OPERATOR(pg_catalog.>) a.id)"
		" ON CONFLICT (event, webhook) DO NOTHING",
		{INT4OID, INT8OID, TIMESTAMPTZOID, JSONBOID}
	},
	[Q_FINAL] = {
		"SELECT FROM dmshook.attempt AS a"
		" WHERE a.event OPERATOR(pg_catalog.=) $1 AND a.webhook OPERATOR(pg_catalog.=) $2 AND a.final IS NOT NULL LIMIT 1",
		{INT8OID, INT4OID}
	},
	[Q_NONCE] = {
		"SELECT e.nonce FROM dmshook.event AS e WHERE e.id OPERATOR(pg_catalog.=) $1", {INT8OID}
	},
	[Q_SKIP] = {
		"INSERT INTO dmshook.skip AS s (webhook, upto, reason, at) VALUES ($1, $2, $3, pg_catalog.clock_timestamp())"
		" ON CONFLICT (webhook) DO UPDATE SET upto = EXCLUDED.upto, reason = EXCLUDED.reason, at = EXCLUDED.at"
		" WHERE s.upto OPERATOR(pg_catalog.<) EXCLUDED.upto",
		{INT4OID, INT8OID, TEXTOID}
	},
	[Q_PLACE_UPDATE] = {
		"UPDATE dmshook.position AS p SET low = $3 WHERE p.ctid OPERATOR(pg_catalog.=) $1"
		" AND p.webhook OPERATOR(pg_catalog.=) $2 AND p.command OPERATOR(pg_catalog.=) 0 RETURNING p.ctid",
		{TIDOID, INT4OID, INT8OID}
	},
	[Q_PLACE_PUT] = {
		"INSERT INTO dmshook.position AS p (webhook, command, low) VALUES ($1, 0, $2)"
		" ON CONFLICT (webhook, command) DO UPDATE SET low = EXCLUDED.low RETURNING p.ctid",
		{INT4OID, INT8OID}
	},
	[Q_PLACE_REMOVE] = {
		"DELETE FROM dmshook.position AS p WHERE p.webhook OPERATOR(pg_catalog.=) $1 AND p.command OPERATOR(pg_catalog.=) 0",
		{INT4OID}
	},
	[Q_REPLAYS] = {
		"SELECT p.webhook, p.command, p.low, p.until, c.args FROM dmshook.position AS p"
		" JOIN dmshook.command AS c ON c.id OPERATOR(pg_catalog.=) p.command WHERE p.command OPERATOR(pg_catalog.>) 0"
	},
	[Q_REPLAY_PUT] = {
		"INSERT INTO dmshook.position (webhook, command, low, until) VALUES ($1, $2, $3, $4)",
		{INT4OID, INT8OID, INT8OID, INT8OID}
	},
	[Q_REPLAY_MOVE] = {
		"UPDATE dmshook.position AS p SET low = $3"
		" WHERE p.webhook OPERATOR(pg_catalog.=) $1 AND p.command OPERATOR(pg_catalog.=) $2", {INT4OID, INT8OID, INT8OID}
	},
	[Q_REPLAY_REMOVE] = {
		"DELETE FROM dmshook.position AS p WHERE p.webhook OPERATOR(pg_catalog.=) $1 AND p.command OPERATOR(pg_catalog.>) 0"
		" AND ($2 OPERATOR(pg_catalog.=) 0 OR p.command OPERATOR(pg_catalog.=) $2)", {INT4OID, INT8OID}
	},
	[Q_PAST] = {
		"SELECT x.event, pg_catalog.bool_or(x.final), pg_catalog.bool_or(x.delivered), pg_catalog.bool_or(x.open), pg_catalog.bool_or(x.mine) FROM ("
		"SELECT a.event, a.final IS NOT NULL, coalesce(a.final OPERATOR(pg_catalog.=) 'd', false), false, coalesce(a.command OPERATOR(pg_catalog.=) $4, false)"
		" FROM dmshook.attempt AS a WHERE a.webhook OPERATOR(pg_catalog.=) $1"
		" AND a.event OPERATOR(pg_catalog.>) $2 AND a.event OPERATOR(pg_catalog.<=) $3"
		" UNION ALL SELECT q.event, false, false, true, false FROM dmshook.queue AS q WHERE q.webhook OPERATOR(pg_catalog.=) $1"
		" AND q.event OPERATOR(pg_catalog.>) $2 AND q.event OPERATOR(pg_catalog.<=) $3)"
		" AS x (event, final, delivered, open, mine) GROUP BY x.event ORDER BY x.event",
		{INT4OID, INT8OID, INT8OID, INT8OID}
	},
	[Q_STATE_UPDATE] = {
		"UPDATE dmshook.webhook_state AS t SET delivered = $3, failed = $4, failures = $5, failing_since = $6,"
		" last_success_at = coalesce($7, t.last_success_at), last_failure_at = coalesce($8, t.last_failure_at),"
		" last_error = coalesce(($9)[1], t.last_error), last_hint = coalesce(($9)[2], t.last_hint)"
		" WHERE t.ctid OPERATOR(pg_catalog.=) $1 AND t.webhook OPERATOR(pg_catalog.=) $2 RETURNING t.ctid",
		{TIDOID, INT4OID, INT8OID, INT8OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID}
	},
	[Q_STATE_PUT] = {
		"INSERT INTO dmshook.webhook_state AS t (webhook, delivered, failed, failures, failing_since,"
		" last_success_at, last_failure_at, last_error, last_hint)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, ($8)[1], ($8)[2])"
		" ON CONFLICT (webhook) DO UPDATE SET delivered = $2, failed = $3, failures = $4, failing_since = $5,"
		" last_success_at = coalesce($6, t.last_success_at), last_failure_at = coalesce($7, t.last_failure_at),"
		" last_error = coalesce(($8)[1], t.last_error), last_hint = coalesce(($8)[2], t.last_hint) RETURNING t.ctid",
		{INT4OID, INT8OID, INT8OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID}
	},
	[Q_ALERT] = {
		"INSERT INTO dmshook.alert (webhook, kind, detail) VALUES ($1, $2, $3::pg_catalog.jsonb)", {INT4OID, TEXTOID, TEXTOID}
	},
};

static SPIPlanPtr plans[N_QUERIES];

/*
 * Run a query. Between SPI_connect() and SPI_finish(); rows are in
 * SPI_tuptable. read_only: under the active snapshot, so that all that is
 * read in a round is read under the same one.
 */
static uint64
run(StoreQuery query, const Datum *values, const char *nulls, bool read_only)
{
	const QueryDef *def = &query_defs[query];
	int			expected;

	if (plans[query] == NULL)
	{
		int			nargs = 0;
		SPIPlanPtr	plan;

		while (nargs < MAX_ARGS && OidIsValid(def->args[nargs]))
			nargs++;
		plan = SPI_prepare(def->sql, nargs, (Oid *) def->args);
		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed for query %d: %s", query, SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		plans[query] = plan;
	}
	expected = SPI_execute_plan(plans[query], (Datum *) values, nulls, read_only, 0);
	if (expected < 0)
		elog(ERROR, "query %d failed: %s", query, SPI_result_code_string(expected));
	return SPI_processed;
}

/* A column of a result row; *isnull may be ignored where it cannot be NULL. */
static Datum
column(uint64 row, int col, bool *isnull)
{
	bool		null;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, &null);

	if (isnull)
		*isnull = null;
	return null ? (Datum) 0 : value;
}

/* The same in the caller's memory, which SPI_finish() leaves alone. */
static char *
column_text(MemoryContext context, uint64 row, int col)
{
	bool		isnull;
	Datum		value = column(row, col, &isnull);

	return isnull ? NULL : MemoryContextStrdup(context, TextDatumGetCString(value));
}

static Jsonb *
column_jsonb(MemoryContext context, uint64 row, int col)
{
	bool		isnull;
	Datum		value = column(row, col, &isnull);
	MemoryContext old;
	Jsonb	   *result = NULL;

	if (!isnull)
	{
		old = MemoryContextSwitchTo(context);
		result = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(old);
	}
	return result;
}

static int64
column_int8(uint64 row, int col, int64 otherwise)
{
	bool		isnull;
	Datum		value = column(row, col, &isnull);

	return isnull ? otherwise : DatumGetInt64(value);
}

bool
dmshook_store_claimed(void)
{
	bool		claimed = false;
	int			major = PG_VERSION_NUM / 10000;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (run(Q_CLAIM, NULL, NULL, true) == 1 && DatumGetBool(column(0, 4, NULL)) &&
		DatumGetObjectId(column(0, 2, NULL)) == MyDatabaseId)
	{
		int64		here = (int64) GetSystemIdentifier();

		if (DatumGetInt64(column(0, 1, NULL)) == here)
			claimed = true;
		else if (DatumGetInt32(column(0, 3, NULL)) < major)
		{
			/* pg_upgrade makes a new system identifier and keeps the OID */
			Datum		values[2] = {Int64GetDatum(here), Int32GetDatum(major)};

			run(Q_CLAIM_UPGRADED, values, NULL, false);
			claimed = true;
		}
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return claimed;
}

void
dmshook_store_start(DmshookStoredPlace *reader, int64 *last_value)
{
	int64		newest;

	SPI_connect();
	if (run(Q_START, NULL, NULL, true) != 1)
		elog(ERROR, "position of the reader is missing");
	reader->webhook = DMSHOOK_READER_POSITION;
	reader->low = column_int8(0, 1, 0);
	reader->tid = *(ItemPointer) DatumGetPointer(column(0, 2, NULL));
	*last_value = column_int8(0, 3, 0);
	newest = Max(column_int8(0, 4, 0), reader->low);
	if (column_int8(0, 5, 1) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence dmshook.event_id hands out ids in blocks"),
				 errdetail("Events could be lost: commit-safe reading needs ids one by one."),
				 errhint("Run: ALTER SEQUENCE dmshook.event_id CACHE 1;")));
	SPI_finish();

	if (*last_value < newest)
	{
		dmshook_store_advance_sequence(newest);
		*last_value = dmshook_store_last_value();
	}
}

int64
dmshook_store_last_value(void)
{
	int64		result;

	SPI_connect();
	run(Q_LAST_VALUE, NULL, NULL, true);
	result = column_int8(0, 1, 0);
	SPI_finish();
	return result;
}

void
dmshook_store_advance_sequence(int64 high)
{
	Datum		value = Int64GetDatum(high + 1000000);
	char		detail[128];

	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("sequence dmshook.event_id was behind the events that there are"),
			 errdetail("It was moved beyond id " INT64_FORMAT ".", high),
			 errhint("Rows of dmshook.event are written by dmshook alone; restore the sequence together with them.")));
	SPI_connect();
	run(Q_SETVAL, &value, NULL, false);
	SPI_finish();
	snprintf(detail, sizeof(detail), "{\"id\": " INT64_FORMAT "}", high);
	dmshook_store_alert(0, "sequence_behind", detail);
}

static char **
text_array(MemoryContext context, Datum value, int *n)
{
	Datum	   *elems;
	char	  **result;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, n);
	result = MemoryContextAlloc(context, sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		result[i] = MemoryContextStrdup(context, TextDatumGetCString(elems[i]));
	return result;
}

/* A JSON object out of the text of a secret. */
static Jsonb *
secret_jsonb(MemoryContext context, const char *value)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Jsonb	   *result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(value)));

	MemoryContextSwitchTo(old);
	return result;
}

/*
 * The rows of a table that is sorted by webhook go to their webhooks, which are
 * sorted too: *at is where the last one was found.
 */
static DmshookWebhookRow *
webhook_of_row(List *webhooks, int *at, int webhook)
{
	while (*at < list_length(webhooks))
	{
		DmshookWebhookRow *row = list_nth(webhooks, *at);

		if (row->id == webhook)
			return row;
		if (row->id > webhook)
			return NULL;
		(*at)++;
	}
	return NULL;
}

static void
load_secrets(List *webhooks, MemoryContext context, Datum only)
{
	uint64		n = run(Q_SECRETS, &only, NULL, true);
	int			at = 0;

	for (uint64 i = 0; i < n; i++)
	{
		DmshookWebhookRow *row = webhook_of_row(webhooks, &at, DatumGetInt32(column(i, 1, NULL)));
		char	   *kind;
		char	   *value;

		if (row == NULL)
			continue;
		kind = TextDatumGetCString(column(i, 2, NULL));
		value = column_text(context, i, 3);
		if (strcmp(kind, "auth") == 0 && row->auth == NULL)
			row->auth = secret_jsonb(context, value);
		else if (strcmp(kind, "headers") == 0 && row->headers == NULL)
			row->headers = secret_jsonb(context, value);
		else if (strcmp(kind, "signing") == 0)
		{
			if (row->secrets == NULL)
				row->secrets = MemoryContextAlloc(context, sizeof(char *) * n);
			row->secrets[row->nsecrets++] = value;
		}
	}
}

static void
load_subscriptions(List *webhooks, MemoryContext context, Datum only)
{
	uint64		n = run(Q_SUBSCRIPTIONS, &only, NULL, true);
	int			at = 0;

	for (uint64 i = 0; i < n; i++)
	{
		DmshookWebhookRow *row = webhook_of_row(webhooks, &at, DatumGetInt32(column(i, 1, NULL)));
		DmshookSubscription *version;

		if (row == NULL)
			continue;
		if (row->nsubscriptions == 0)
			row->subscriptions = MemoryContextAlloc(context, sizeof(DmshookSubscription));
		else
			row->subscriptions = repalloc(row->subscriptions,
										  sizeof(DmshookSubscription) * (row->nsubscriptions + 1));
		version = &row->subscriptions[row->nsubscriptions++];
		version->from_id = column_int8(i, 2, 0);
		version->events = text_array(context, column(i, 3, NULL), &version->nevents);
		version->tenant = column_text(context, i, 4);
		version->enabled = DatumGetBool(column(i, 5, NULL));
	}
}

List *
dmshook_store_webhooks(int webhook)
{
	Datum		only = Int32GetDatum(webhook);
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = run(Q_WEBHOOKS, &only, NULL, true);
	for (uint64 i = 0; i < n; i++)
	{
		DmshookWebhookRow *row = MemoryContextAllocZero(context, sizeof(DmshookWebhookRow));

		row->id = DatumGetInt32(column(i, 1, NULL));
		row->name = column_text(context, i, 2);
		row->url = column_text(context, i, 3);
		row->method = column_text(context, i, 4);
		row->enabled = DatumGetBool(column(i, 5, NULL));
		row->paused = DatumGetBool(column(i, 6, NULL));
		row->version = DatumGetInt32(column(i, 7, NULL));
		row->options = column_jsonb(context, i, 8);
		row->low = column_int8(i, 9, -1);
		row->skip = column_int8(i, 10, 0);
		row->delivered = column_int8(i, 11, 0);
		row->failed = column_int8(i, 12, 0);
		row->failures = DatumGetInt32(column(i, 13, NULL));
		old = MemoryContextSwitchTo(context);
		result = lappend(result, row);
		MemoryContextSwitchTo(old);
	}
	load_secrets(result, context, only);
	load_subscriptions(result, context, only);
	SPI_finish();
	return result;
}

bool
dmshook_store_has_commands(void)
{
	static Oid	heap_oid = InvalidOid;
	static Oid	index_oid = InvalidOid;
	Relation	heap;
	SysScanDesc scan;
	bool		found;

	if (!OidIsValid(heap_oid))
	{
		Oid			namespace = get_namespace_oid("dmshook", false);

		index_oid = get_relname_relid("command_undone", namespace);
		heap_oid = get_relname_relid("command", namespace);
	}
	heap = table_open(heap_oid, AccessShareLock);
	/* by the active snapshot: what is found is what this round's events were written beside */
	scan = systable_beginscan(heap, index_oid, true, GetActiveSnapshot(), 0, NULL);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(heap, AccessShareLock);
	return found;
}

List *
dmshook_store_commands(void)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = run(Q_COMMANDS, NULL, NULL, true);
	for (uint64 i = 0; i < n; i++)
	{
		DmshookCommand *command = MemoryContextAllocZero(context, sizeof(DmshookCommand));

		command->id = column_int8(i, 1, 0);
		command->webhook = DatumGetInt32(column(i, 2, NULL));
		command->kind = column_text(context, i, 3);
		command->event = column_int8(i, 4, 0);
		command->upto = column_int8(i, 5, 0);
		command->args = column_jsonb(context, i, 6);
		command->by_role = column_text(context, i, 7);
		old = MemoryContextSwitchTo(context);
		result = lappend(result, command);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

void
dmshook_store_command_done(int64 id)
{
	Datum		value = Int64GetDatum(id);

	SPI_connect();
	run(Q_COMMAND_DONE, &value, NULL, false);
	SPI_finish();
}

DmshookHandled
dmshook_store_handled(int64 from, int64 upto)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2] = {Int64GetDatum(from), Int64GetDatum(upto)};
	DmshookHandled result;

	SPI_connect();
	result.n = run(Q_HANDLED, values, NULL, true);
	result.key = MemoryContextAllocHuge(context, sizeof(*result.key) * Max(result.n, 1));
	for (int i = 0; i < result.n; i++)
	{
		result.key[i].event = column_int8(i, 1, 0);
		result.key[i].webhook = DatumGetInt32(column(i, 2, NULL));
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

/* Arrays, column by column, for unnest(). */
static Datum
build_array(const Datum *elems, const bool *nulls, int n, Oid type, int len, bool byval, char align)
{
	int			dims[1] = {n};
	int			lbs[1] = {1};

	return PointerGetDatum(construct_md_array((Datum *) elems, (bool *) nulls, 1, dims, lbs,
											  type, len, byval, align));
}

static Datum
int8_array(const Datum *elems, int n)
{
	return build_array(elems, NULL, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

static Datum
int4_array(const Datum *elems, int n)
{
	return build_array(elems, NULL, n, INT4OID, 4, true, TYPALIGN_INT);
}

void
dmshook_store_queue_put(const DmshookQueueRow *rows, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * n);
	bool	   *nulls = palloc0(sizeof(bool) * n);
	Datum		values[7];

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
	values[2] = build_array(elems, nulls, n, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	FILL(Int32GetDatum(rows[i].attempts));
	values[3] = int4_array(elems, n);
	FILL(CharGetDatum(rows[i].kind));
	values[4] = build_array(elems, NULL, n, CHAROID, 1, true, TYPALIGN_CHAR);
	FILL(Int64GetDatum(rows[i].command));
	values[5] = int8_array(elems, n);
	FILL(Int64GetDatum((int64) rows[i].entity));
	values[6] = int8_array(elems, n);
	SPI_connect();
	run(Q_QUEUE_PUT, values, NULL, false);
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
	run(Q_QUEUE_REMOVE, values, NULL, false);
	SPI_finish();
}

/* A row of (event, due_at, attempts, kind, command, entity). */
static DmshookQueueRow *
queue_row(MemoryContext context, int webhook, uint64 row)
{
	DmshookQueueRow *result = MemoryContextAllocZero(context, sizeof(DmshookQueueRow));
	bool		isnull;
	Datum		due_at = column(row, 2, &isnull);

	result->event = column_int8(row, 1, 0);
	result->webhook = webhook;
	result->due_at = isnull ? DT_NOEND : DatumGetTimestampTz(due_at);
	result->attempts = DatumGetInt32(column(row, 3, NULL));
	result->kind = DatumGetChar(column(row, 4, NULL));
	result->command = column_int8(row, 5, 0);
	result->entity = (uint64) column_int8(row, 6, 0);
	if (SPI_tuptable->tupdesc->natts > 6)
		result->nonce = column_int8(row, 7, 0);
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
	result = queue_rows(context, webhook, run(Q_QUEUE_DUE, values, NULL, true));
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
	result = queue_rows(context, webhook, run(Q_QUEUE_CANCELLED, &value, NULL, false));
	SPI_finish();
	return result;
}

void
dmshook_store_queue_park(int webhook)
{
	Datum		value = Int32GetDatum(webhook);

	SPI_connect();
	run(Q_QUEUE_PARK, &value, NULL, false);
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
	n = run(Q_QUEUE_ENTITIES, &value, NULL, true);
	old = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
	{
		DmshookQueueRow *row = palloc0(sizeof(DmshookQueueRow));

		row->webhook = webhook;
		row->entity = (uint64) column_int8(i, 1, 0);
		row->attempts = DatumGetInt32(column(i, 2, NULL));
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
	result = run(Q_QUEUE_PROMOTE, values, NULL, false) > 0;
	SPI_finish();
	return result;
}

void
dmshook_store_queue_promote_all(int webhook, TimestampTz due_at, bool every_row)
{
	Datum		values[2] = {Int32GetDatum(webhook), TimestampTzGetDatum(due_at)};

	SPI_connect();
	run(every_row ? Q_QUEUE_RELEASE : Q_QUEUE_PROMOTE_ALL, values, NULL, false);
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
		run(Q_QUEUE_CANCEL_MARK, values, NULL, false);
	result = queue_rows(context, webhook, run(Q_QUEUE_CANCEL, values, NULL, false));
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

		result = run(Q_REDELIVER, values, NULL, false);
	}
	else
	{
		Datum		values[4] = {Int32GetDatum(webhook), Int64GetDatum(command), TimestampTzGetDatum(due_at), JsonbPGetDatum(args)};

		result = run(Q_REDELIVER_DEAD, values, NULL, false);
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
	result = run(Q_FINAL, values, NULL, true) > 0;
	SPI_finish();
	return result;
}

bool
dmshook_store_nonce(int64 event, int64 *nonce)
{
	Datum		value = Int64GetDatum(event);
	bool		found;

	SPI_connect();
	found = run(Q_NONCE, &value, NULL, true) > 0;
	if (found)
		*nonce = column_int8(0, 1, 0);
	SPI_finish();
	return found;
}

void
dmshook_store_skip(int webhook, int64 upto, const char *reason)
{
	Datum		values[3] = {Int32GetDatum(webhook), Int64GetDatum(upto), CStringGetTextDatum(reason)};

	SPI_connect();
	run(Q_SKIP, values, NULL, false);
	SPI_finish();
}

/* Did a statement return a ctid? Then remember it. */
static bool
remember_tid(uint64 n, ItemPointer tid)
{
	if (n == 0)
	{
		ItemPointerSetInvalid(tid);
		return false;
	}
	*tid = *(ItemPointer) DatumGetPointer(column(0, 1, NULL));
	return true;
}

/*
 * A row that is written once a second is found by its TID: under an old
 * snapshot the way to it through the index grows with every version.
 */
void
dmshook_store_place(DmshookStoredPlace *place, int64 low)
{
	SPI_connect();
	if (low < 0)
	{
		Datum		value = Int32GetDatum(place->webhook);

		run(Q_PLACE_REMOVE, &value, NULL, false);
		ItemPointerSetInvalid(&place->tid);
	}
	else
	{
		Datum		update[3] = {PointerGetDatum(&place->tid), Int32GetDatum(place->webhook), Int64GetDatum(low)};
		Datum		put[2] = {Int32GetDatum(place->webhook), Int64GetDatum(low)};

		if (!ItemPointerIsValid(&place->tid) ||
			!remember_tid(run(Q_PLACE_UPDATE, update, NULL, false), &place->tid))
			remember_tid(run(Q_PLACE_PUT, put, NULL, false), &place->tid);
	}
	SPI_finish();
	place->low = low;
}

void
dmshook_store_state(DmshookState *state)
{
	Datum		texts[2] = {CStringGetTextDatum(state->last_error), CStringGetTextDatum(state->last_hint)};
	bool		text_nulls[2] = {state->last_error[0] == '\0', state->last_error[0] == '\0'};
	Datum		values[9];
	char		nulls[9];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(&state->tid);
	values[1] = Int32GetDatum(state->webhook);
	values[2] = Int64GetDatum(state->delivered);
	values[3] = Int64GetDatum(state->failed);
	values[4] = Int32GetDatum(state->failures);
	values[5] = TimestampTzGetDatum(state->failing_since);
	nulls[5] = state->failing_since == 0 ? 'n' : ' ';
	values[6] = TimestampTzGetDatum(state->last_success_at);
	nulls[6] = state->last_success_at == 0 ? 'n' : ' ';
	values[7] = TimestampTzGetDatum(state->last_failure_at);
	nulls[7] = state->last_failure_at == 0 ? 'n' : ' ';
	values[8] = build_array(texts, text_nulls, 2, TEXTOID, -1, false, TYPALIGN_INT);
	SPI_connect();
	if (!ItemPointerIsValid(&state->tid) ||
		!remember_tid(run(Q_STATE_UPDATE, values, nulls, false), &state->tid))
		remember_tid(run(Q_STATE_PUT, values + 1, nulls + 1, false), &state->tid);
	SPI_finish();
}

void
dmshook_store_alert(int webhook, const char *kind, const char *detail)
{
	Datum		values[3] = {Int32GetDatum(webhook), CStringGetTextDatum(kind), CStringGetTextDatum(detail)};
	char		nulls[3] = {webhook == 0 ? 'n' : ' ', ' ', ' '};

	SPI_connect();
	run(Q_ALERT, values, nulls, false);
	SPI_finish();
}

List *
dmshook_store_replays(void)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = run(Q_REPLAYS, NULL, NULL, true);
	for (uint64 i = 0; i < n; i++)
	{
		DmshookReplayRow *row = MemoryContextAllocZero(context, sizeof(DmshookReplayRow));

		row->webhook = DatumGetInt32(column(i, 1, NULL));
		row->command = column_int8(i, 2, 0);
		row->low = column_int8(i, 3, 0);
		row->until = column_int8(i, 4, 0);
		row->args = column_jsonb(context, i, 5);
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
	run(Q_REPLAY_PUT, values, NULL, false);
	SPI_finish();
}

void
dmshook_store_replay_move(int webhook, int64 command, int64 low)
{
	Datum		values[3] = {Int32GetDatum(webhook), Int64GetDatum(command), Int64GetDatum(low)};

	SPI_connect();
	run(Q_REPLAY_MOVE, values, NULL, false);
	SPI_finish();
}

void
dmshook_store_replay_remove(int webhook, int64 command)
{
	Datum		values[2] = {Int32GetDatum(webhook), Int64GetDatum(command)};

	SPI_connect();
	run(Q_REPLAY_REMOVE, values, NULL, false);
	SPI_finish();
}

DmshookPast
dmshook_store_past(int webhook, int64 after, int64 upto, int64 command)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[4] = {Int32GetDatum(webhook), Int64GetDatum(after), Int64GetDatum(upto), Int64GetDatum(command)};
	DmshookPast result;

	SPI_connect();
	result.n = run(Q_PAST, values, NULL, true);
	result.key = MemoryContextAlloc(context, sizeof(DmshookPastKey) * Max(result.n, 1));
	for (int i = 0; i < result.n; i++)
	{
		result.key[i].event = column_int8(i, 1, 0);
		result.key[i].final = DatumGetBool(column(i, 2, NULL));
		result.key[i].delivered = DatumGetBool(column(i, 3, NULL));
		result.key[i].open = DatumGetBool(column(i, 4, NULL));
		result.key[i].by_command = DatumGetBool(column(i, 5, NULL));
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

/* ------------------------------------------------- members of a command's args */

static JsonbValue *
jsonb_member(Jsonb *object, const char *key)
{
	JsonbValue *value;

	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	value = getKeyJsonValueFromContainer(&object->root, key, strlen(key), NULL);
	return value && value->type != jbvNull ? value : NULL;
}

bool
dmshook_store_jsonb_bool(Jsonb *object, const char *key)
{
	JsonbValue *value = jsonb_member(object, key);

	return value && value->type == jbvBool && value->val.boolean;
}

int64
dmshook_store_jsonb_int8(Jsonb *object, const char *key, int64 otherwise)
{
	JsonbValue *value = jsonb_member(object, key);

	if (value == NULL || value->type != jbvNumeric)
		return otherwise;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
}

TimestampTz
dmshook_store_jsonb_time(Jsonb *object, const char *key, TimestampTz otherwise)
{
	JsonbValue *value = jsonb_member(object, key);

	if (value == NULL || value->type != jbvString)
		return otherwise;
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(pnstrdup(value->val.string.val, value->val.string.len)),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

char **
dmshook_store_jsonb_texts(Jsonb *object, const char *key, int *n)
{
	JsonbValue *value = jsonb_member(object, key);
	char	  **result = NULL;

	*n = 0;
	if (value == NULL || value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return NULL;
	result = palloc(sizeof(char *) * (JsonContainerSize(value->val.binary.data) + 1));
	for (uint32 i = 0; i < JsonContainerSize(value->val.binary.data); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(value->val.binary.data, i);

		if (element && element->type == jbvString)
			result[(*n)++] = pnstrdup(element->val.string.val, element->val.string.len);
	}
	return result;
}
