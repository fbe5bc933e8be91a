/*
 * sqlapi.c - Entry points in C of the functions that admins call.
 *
 * Runs in backends, inside the caller's transaction.  The functions proper are
 * plpgsql (src/sql/30_webhooks.sql and after it): they hold all SQL; here is what
 * SQL cannot do, or what must be judged by the same code that the dispatcher
 * uses (patterns, options, retry plans).  Nothing here writes to a table, and
 * nothing waits but dmshook_sql_test(), which waits interruptibly on a latch.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/xid8.h"

#include "auth.h"
#include "authority.h"
#include "compat.h"
#include "match.h"
#include "options.h"
#include "settings.h"
#include "transport.h"
#include "wake.h"

#define ENTRY(name) \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

ENTRY(dmshook_sql_check_url);
ENTRY(dmshook_sql_tls_cipher);
ENTRY(dmshook_sql_ca_expires);
ENTRY(dmshook_sql_matches);
ENTRY(dmshook_sql_pattern_valid);
ENTRY(dmshook_sql_distance);
ENTRY(dmshook_sql_check_options);
ENTRY(dmshook_sql_check_auth);
ENTRY(dmshook_sql_auth_files);
ENTRY(dmshook_sql_auth_expiry);
ENTRY(dmshook_sql_url_origin);
ENTRY(dmshook_sql_check_headers);
ENTRY(dmshook_sql_retry_delays);
ENTRY(dmshook_sql_timeout);
ENTRY(dmshook_sql_preloaded);
ENTRY(dmshook_sql_version);
ENTRY(dmshook_sql_wake);
ENTRY(dmshook_sql_slots);
ENTRY(dmshook_sql_is_own);
ENTRY(dmshook_sql_test);
ENTRY(dmshook_sql_attempt_row);
ENTRY(dmshook_sql_identity);

/* ------------------------------------------------------------------------
 * What was typed in
 * ------------------------------------------------------------------------ */

/* _check_url(text): an error with a hint, or nothing. The URL is not shown: it may hold credentials. */
Datum
dmshook_sql_check_url(PG_FUNCTION_ARGS)
{
	const char *hint = NULL;
	const char *problem = dmshook_url_check(text_to_cstring(PG_GETARG_TEXT_PP(0)), dmshook_allow_http, &hint);

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid URL of a webhook"),
				 errdetail("%s", problem),
				 hint != NULL ? errhint("%s", hint) : 0));
	PG_RETURN_VOID();
}

/* _ca_expires(text): when the first of these authorities ends; NULL: they are none */
Datum
dmshook_sql_ca_expires(PG_FUNCTION_ARGS)
{
	const char *problem;
	int64_t		expires;

	if (!dmshook_authority_read(text_to_cstring(PG_GETARG_TEXT_PP(0)), &expires, &problem))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(time_t_to_timestamptz((pg_time_t) expires));
}

/* _tls_cipher(smallint): its name, or its number where this OpenSSL has none */
Datum
dmshook_sql_tls_cipher(PG_FUNCTION_ARGS)
{
	int			number = (uint16) PG_GETARG_INT16(0);
	const char *name = dmshook_tls_cipher_name(number);

	PG_RETURN_TEXT_P(cstring_to_text(name != NULL ? name : psprintf("0x%04X", number)));
}

/* _matches(patterns text[], type text): does a webhook with these patterns get this type? */
Datum
dmshook_sql_matches(PG_FUNCTION_ARGS)
{
	ArrayType  *patterns = PG_GETARG_ARRAYTYPE_P(0);
	text	   *type = PG_GETARG_TEXT_PP(1);
	ArrayIterator it = array_create_iterator(patterns, 0, NULL);
	Datum		pattern;
	bool		isnull;
	bool		result = false;

	while (!result && array_iterate(it, &pattern, &isnull))
	{
		text	   *p;

		if (isnull)
			continue;
		p = DatumGetTextPP(pattern);
		result = dmshook_pattern_matches(VARDATA_ANY(p), VARSIZE_ANY_EXHDR(p),
										 VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
	}
	array_free_iterator(it);
	PG_RETURN_BOOL(result);
}

/* _pattern_valid(text) */
Datum
dmshook_sql_pattern_valid(PG_FUNCTION_ARGS)
{
	text	   *pattern = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(dmshook_pattern_valid(VARDATA_ANY(pattern), VARSIZE_ANY_EXHDR(pattern)));
}

/* _distance(text, text, limit): edit distance, or limit + 1 */
Datum
dmshook_sql_distance(PG_FUNCTION_ARGS)
{
	text	   *a = PG_GETARG_TEXT_PP(0);
	text	   *b = PG_GETARG_TEXT_PP(1);

	PG_RETURN_INT32(dmshook_edit_distance(VARDATA_ANY(a), VARSIZE_ANY_EXHDR(a),
										  VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b), PG_GETARG_INT32(2)));
}

/* _check_options(jsonb) */
Datum
dmshook_sql_check_options(PG_FUNCTION_ARGS)
{
	DmshookOptions options;

	dmshook_options_parse(PG_GETARG_JSONB_P(0), &options);
	PG_RETURN_VOID();
}

/* _check_auth(jsonb): the kind */
Datum
dmshook_sql_check_auth(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(dmshook_auth_check(PG_GETARG_JSONB_P(0))));
}

/* _auth_files(jsonb, role): the same auth, with what the files hold that it names, if the role may read them */
Datum
dmshook_sql_auth_files(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(dmshook_auth_read_files(PG_GETARG_JSONB_P(0), get_role_oid(text_to_cstring(PG_GETARG_TEXT_PP(1)), false)));
}

/* _auth_expiry(jsonb): when the client certificate ends; NULL: there is none */
Datum
dmshook_sql_auth_expiry(PG_FUNCTION_ARGS)
{
	TimestampTz expiry = dmshook_auth_expiry(PG_GETARG_JSONB_P(0));

	if (expiry == DT_NOEND)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(expiry);
}

/* _url_origin(url text): scheme, host and port, in one spelling */
Datum
dmshook_sql_url_origin(PG_FUNCTION_ARGS)
{
	char		origin[DMSHOOK_ORIGIN_SIZE];

	if (!dmshook_url_origin(text_to_cstring(PG_GETARG_TEXT_PP(0)), origin, sizeof(origin)))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(origin));
}

/* _check_headers(headers jsonb, auth jsonb): also that they do not set what auth sets */
Datum
dmshook_sql_check_headers(PG_FUNCTION_ARGS)
{
	Jsonb	   *headers;
	char	   *name;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (PG_ARGISNULL(0))
		PG_RETURN_VOID();
	headers = PG_GETARG_JSONB_P(0);
	dmshook_headers_check(headers);
	if (PG_ARGISNULL(1) || (name = dmshook_auth_header_name(PG_GETARG_JSONB_P(1))) == NULL)
		PG_RETURN_VOID();
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY && value.val.string.len == (int) strlen(name) &&
			pg_strncasecmp(value.val.string.val, name, strlen(name)) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("header \"%s\" is set by auth", name),
					 errhint("Leave it out of the headers, or remove auth with {\"kind\": \"none\"}.")));
	}
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Plans
 * ------------------------------------------------------------------------ */

/* _retry_delays(options jsonb): setof (attempt int, delay_ms bigint), without jitter */
Datum
dmshook_sql_retry_delays(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DmshookOptions options;

	dmshook_options_parse(PG_GETARG_JSONB_P(0), &options);
	InitMaterializedSRF(fcinfo, 0);
	for (int attempt = 1;; attempt++)
	{
		int64		delay = attempt == 1 ? 0 : dmshook_plan_delay(&options.plan, attempt - 1, 0.5);
		Datum		values[2] = {Int32GetDatum(attempt), Int64GetDatum(delay)};
		bool		nulls[2] = {false, false};

		if (delay < 0)
			break;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* _timeout(options jsonb): of one request, in ms */
Datum
dmshook_sql_timeout(PG_FUNCTION_ARGS)
{
	DmshookOptions options;

	dmshook_options_parse(PG_GETARG_JSONB_P(0), &options);
	PG_RETURN_INT32(options.timeout);
}

/* ------------------------------------------------------------------------
 * The dispatcher
 * ------------------------------------------------------------------------ */

/* _preloaded() */
Datum
dmshook_sql_preloaded(PG_FUNCTION_ARGS pg_attribute_unused())
{
	PG_RETURN_BOOL(dmshook_wake_available());
}

/* _version(): of the library */
Datum
dmshook_sql_version(PG_FUNCTION_ARGS pg_attribute_unused())
{
	PG_RETURN_TEXT_P(cstring_to_text(DMSHOOK_VERSION));
}

/* _wake(): set the dispatcher's latch when this transaction commits */
Datum
dmshook_sql_wake(PG_FUNCTION_ARGS pg_attribute_unused())
{
	dmshook_wake_at_commit();
	PG_RETURN_VOID();
}

static const char *
slot_state_name(DmshookSlotState state)
{
	switch (state)
	{
		case DMSHOOK_SLOT_FREE:
			break;
		case DMSHOOK_SLOT_STARTING:
			return "starting";
		case DMSHOOK_SLOT_RUNNING:
			return "running";
		case DMSHOOK_SLOT_UNCLAIMED:
			return "unclaimed";
		case DMSHOOK_SLOT_FAILED:
			return "failed";
	}
	return "unknown";
}

/* What a dispatcher wrote about itself is in the server encoding of its database; not so another's. */
static Datum
own_text(const DmshookSlotInfo *slot, bool *isnull)
{
	*isnull = slot->database != MyDatabaseId || slot->stats.last_error[0] == '\0' ||
		!pg_verifymbstr(slot->stats.last_error, strlen(slot->stats.last_error), true);
	return *isnull ? (Datum) 0 : CStringGetTextDatum(slot->stats.last_error);
}

/*
 * _slots(): the dispatchers of all databases; the view shows this one's.
 * (database oid, pid int, state text, since, events_per_s, deliveries_per_s, in_flight int, waiting int, high bigint,
 * low bigint, gaps bigint, oldest_gap timestamptz, gap_fence xid8, last_error)
 */
Datum
dmshook_sql_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DmshookSlotInfo *slots;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (!dmshook_wake_available())
		return (Datum) 0;
	slots = palloc(sizeof(DmshookSlotInfo) * DMSHOOK_MAX_SLOTS);
	n = dmshook_wake_slots(slots, DMSHOOK_MAX_SLOTS);
	for (int i = 0; i < n; i++)
	{
		const DmshookSlotInfo *slot = &slots[i];
		const DmshookStats *stats = &slot->stats;
		Datum		values[14];
		bool		nulls[14] = {false};

		values[0] = ObjectIdGetDatum(slot->database);
		values[1] = Int32GetDatum(slot->pid);
		nulls[1] = slot->pid == 0;
		values[2] = CStringGetTextDatum(slot_state_name(slot->state));
		values[3] = TimestampTzGetDatum(slot->since);
		nulls[3] = slot->since == 0;
		values[4] = Float8GetDatum(stats->events_per_s);
		values[5] = Float8GetDatum(stats->deliveries_per_s);
		values[6] = Int32GetDatum((int32) stats->in_flight);
		values[7] = Int32GetDatum((int32) stats->waiting);
		values[8] = Int64GetDatum(stats->high);
		values[9] = Int64GetDatum(stats->low);
		values[10] = Int64GetDatum((int64) stats->gaps);
		values[11] = TimestampTzGetDatum(stats->oldest_gap);
		nulls[11] = stats->oldest_gap == 0;
		values[12] = FullTransactionIdGetDatum(FullTransactionIdFromU64(stats->gap_fence));
		nulls[12] = stats->gap_fence == 0;
		values[13] = own_text(slot, &nulls[13]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	pfree(slots);
	return (Datum) 0;
}

/* _is_own(xid): was it the current transaction (or a part of it) that wrote a row with this xmin? */
Datum
dmshook_sql_is_own(PG_FUNCTION_ARGS)
{
	TransactionId xid = PG_GETARG_TRANSACTIONID(0);

	PG_RETURN_BOOL(TransactionIdIsNormal(xid) && TransactionIdIsCurrentTransactionId(xid));
}

/*
 * _test(webhook int, event bigint, nonce bigint, type text, timeout_ms int): (result text, attempt bigint).
 * Waits for the dispatcher; holds whatever snapshot and locks the caller holds.
 */
Datum
dmshook_sql_test(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {
		[DMSHOOK_TEST_DONE] = "done",
		[DMSHOOK_TEST_NO_DISPATCHER] = "no dispatcher",
		[DMSHOOK_TEST_UNKNOWN_WEBHOOK] = "unknown webhook",
		[DMSHOOK_TEST_UNCLAIMED] = "unclaimed",
		[DMSHOOK_TEST_BUSY] = "busy",
		[DMSHOOK_TEST_TIMEOUT] = "timeout",
	};
	DmshookTest test;
	DmshookTestResult result;
	int64		attempt = 0;
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	memset(&test, 0, sizeof(test));
	test.webhook = PG_GETARG_INT32(0);
	test.event = PG_GETARG_INT64(1);
	test.nonce = PG_GETARG_INT64(2);
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(3), test.type, sizeof(test.type));

	result = dmshook_wake_available() ?
		dmshook_wake_test(&test, PG_GETARG_INT32(4), &attempt) : DMSHOOK_TEST_NO_DISPATCHER;

	values[0] = CStringGetTextDatum(names[result]);
	values[1] = Int64GetDatum(attempt);
	nulls[1] = result != DMSHOOK_TEST_DONE;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

/*
 * _attempt_row(webhook int, id bigint): the row of dmshook.attempt, as of now:
 * what the dispatcher has just committed is not in the snapshot of a repeatable
 * read transaction, nor in that of the query that waited for it.  NULL: not there.
 */
Datum
dmshook_sql_attempt_row(PG_FUNCTION_ARGS)
{
	Oid			namespace = get_namespace_oid("dmshook", false);
	Oid			relid = get_relname_relid("attempt", namespace);
	Relation	rel;
	Oid			index;
	ScanKeyData key[2];
	SysScanDesc scan;
	Snapshot	snapshot;
	HeapTuple	tuple;
	Datum		result = (Datum) 0;

	if (!OidIsValid(relid))
		elog(ERROR, "table dmshook.attempt does not exist");
	rel = table_open(relid, AccessShareLock);
	index = dmshook_primary_key(rel);
	ScanKeyInit(&key[0], get_attnum(relid, "webhook"), BTEqualStrategyNumber, F_INT4EQ, PG_GETARG_DATUM(0));
	ScanKeyInit(&key[1], get_attnum(relid, "id"), BTEqualStrategyNumber, F_INT8EQ, PG_GETARG_DATUM(1));
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(rel, index, OidIsValid(index), snapshot, 2, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		result = heap_copy_tuple_as_datum(tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	if (result == (Datum) 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/* ------------------------------------------------------------------------
 * Identity
 * ------------------------------------------------------------------------ */

/* _identity(): (system_identifier bigint, database oid, major int) of this very database */
Datum
dmshook_sql_identity(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	values[2] = Int32GetDatum(PG_VERSION_NUM / 10000);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
