/*
 * payload.c - from an event row to the bytes on the wire: the envelope around what
 * capture wrote, and message ids.
 *
 * Runs in the dispatcher, once per event and inside the transaction that read it,
 * and in backends that look at views, so that both show the same bytes. All
 * memory is the caller's StringInfo. The row's own JSON (who, source, data) is
 * copied, never parsed; nothing here depends on a setting of the session.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/typcache.h"

#include "payload.h"
#include "shape.h"

#define ID_DIGITS	11			/* 62^11 > 2^64 */

static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

PGDLLEXPORT Datum dmshook_sql_payload(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(dmshook_sql_payload);
PGDLLEXPORT Datum dmshook_sql_query(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(dmshook_sql_query);
PGDLLEXPORT Datum dmshook_sql_message_id(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(dmshook_sql_message_id);
PGDLLEXPORT Datum dmshook_sql_message_sequence(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(dmshook_sql_message_sequence);

static void
encode_base62(uint64 value, char *buf)
{
	for (int i = ID_DIGITS - 1; i >= 0; i--)
	{
		buf[i] = base62[value % 62];
		value /= 62;
	}
}

/* False for a character that is no digit, and for a number beyond 64 bits. */
static bool
decode_base62(const char *text, uint64 *value)
{
	uint64		result = 0;

	for (int i = 0; i < ID_DIGITS; i++)
	{
		const char *digit = text[i] ? strchr(base62, text[i]) : NULL;

		if (digit == NULL || result > (PG_UINT64_MAX - (digit - base62)) / 62)
			return false;
		result = result * 62 + (digit - base62);
	}
	*value = result;
	return true;
}

void
dmshook_message_id(int64 id, int64 nonce, char *buf)
{
	memcpy(buf, "msg_", 4);
	encode_base62((uint64) id, buf + 4);
	encode_base62((uint64) nonce, buf + 4 + ID_DIGITS);
	buf[DMSHOOK_MESSAGE_ID_LEN] = '\0';
}

bool
dmshook_parse_message_id(const char *text, int len, int64 *id, int64 *nonce)
{
	return len == DMSHOOK_MESSAGE_ID_LEN && memcmp(text, "msg_", 4) == 0 &&
		decode_base62(text + 4, (uint64 *) id) &&
		decode_base62(text + 4 + ID_DIGITS, (uint64 *) nonce);
}

/* So many digits of a number, leading zeros too. */
static char *
put_digits(char *at, int value, int digits)
{
	for (int i = digits - 1; i >= 0; i--)
	{
		at[i] = (char) ('0' + value % 10);
		value /= 10;
	}
	return at + digits;
}

/* By hand: snprintf costs ten times as much, and each event has one. */
void
dmshook_format_timestamp(TimestampTz at, char *buf)
{
	struct pg_tm tm;
	fsec_t		fsec;

	/* without a time zone to convert to, a timestamptz is taken apart in UTC */
	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "timestamp out of range");
	if (tm.tm_year < 0 || tm.tm_year > 9999)
	{
		snprintf(buf, DMSHOOK_TIMESTAMP_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
				 tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fsec);
		return;
	}
	buf = put_digits(buf, tm.tm_year, 4);
	*buf++ = '-';
	buf = put_digits(buf, tm.tm_mon, 2);
	*buf++ = '-';
	buf = put_digits(buf, tm.tm_mday, 2);
	*buf++ = 'T';
	buf = put_digits(buf, tm.tm_hour, 2);
	*buf++ = ':';
	buf = put_digits(buf, tm.tm_min, 2);
	*buf++ = ':';
	buf = put_digits(buf, tm.tm_sec, 2);
	*buf++ = '.';
	buf = put_digits(buf, (int) fsec, 6);
	*buf++ = 'Z';
	*buf = '\0';
}

static void
append_span(StringInfo buf, DmshookSpan span)
{
	appendBinaryStringInfo(buf, span.data, span.len);
}

/* Nothing in it that JSON escapes? */
static bool
is_plain(DmshookSpan span)
{
	for (int i = 0; i < span.len; i++)
	{
		unsigned char c = (unsigned char) span.data[i];

		if (c < ' ' || c == '"' || c == '\\')
			return false;
	}
	return true;
}

/* A JSON string, or null. */
static void
append_json_string(StringInfo buf, DmshookSpan span)
{
	char	   *text;

	if (span.data == NULL)
	{
		appendStringInfoString(buf, "null");
		return;
	}
	if (is_plain(span))
	{
		appendStringInfoCharMacro(buf, '"');
		append_span(buf, span);
		appendStringInfoCharMacro(buf, '"');
		return;
	}
	text = pnstrdup(span.data, span.len);
	escape_json(buf, text);
	pfree(text);
}

void
dmshook_payload_append_server(StringInfo buf, const DmshookEvent *event, bool test)
{
	char		text[DMSHOOK_MESSAGE_ID_LEN + 1];
	char		at[DMSHOOK_TIMESTAMP_SIZE];
	char		sequence[MAXINT8LEN + 1];

	enlargeStringInfo(buf, event->data.len + event->who.len + event->source.len + 256);
	dmshook_message_id(event->id, event->nonce, text);
	dmshook_format_timestamp(event->at, at);
	appendStringInfoString(buf, "{\"id\":\"");
	appendBinaryStringInfo(buf, text, DMSHOOK_MESSAGE_ID_LEN);
	appendStringInfoString(buf, "\",\"type\":");
	append_json_string(buf, event->type);
	appendStringInfoString(buf, ",\"version\":1");
	if (test)
		appendStringInfoString(buf, ",\"test\":true");
	appendStringInfoString(buf, ",\"timestamp\":\"");
	appendStringInfoString(buf, at);
	appendStringInfoString(buf, "\",\"sequence\":");
	appendBinaryStringInfo(buf, sequence, pg_lltoa(event->id, sequence));
	appendStringInfoString(buf, ",\"source\":");
	append_span(buf, event->source);
	appendStringInfoString(buf, ",\"tenant\":");
	append_json_string(buf, event->tenant);
	appendStringInfoString(buf, ",\"user\":");
	append_span(buf, event->who);
	appendStringInfoString(buf, ",\"data\":");
	append_span(buf, event->data);
	appendStringInfoChar(buf, '}');
}

void
dmshook_payload_append(StringInfo buf, const DmshookEvent *event, bool test)
{
	StringInfoData own;
	char	   *utf8;

	if (GetDatabaseEncoding() == PG_UTF8)
	{
		dmshook_payload_append_server(buf, event, test);
		return;
	}
	initStringInfo(&own);
	dmshook_payload_append_server(&own, event, test);
	utf8 = pg_server_to_any(own.data, own.len, PG_UTF8);
	appendStringInfoString(buf, utf8);
	if (utf8 != own.data)
		pfree(utf8);
	pfree(own.data);
}

/* Percent-encoding of RFC 3986: all but unreserved characters. */
static void
append_query_value(StringInfo buf, const char *name, const char *value, int len)
{
	if (buf->len > 0)
		appendStringInfoChar(buf, '&');
	appendStringInfo(buf, "%s=", name);
	for (int i = 0; i < len; i++)
	{
		unsigned char c = value[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '.' || c == '_' || c == '~')
			appendStringInfoChar(buf, c);
		else
			appendStringInfo(buf, "%%%02X", c);
	}
}

/* The same for text in the server encoding. */
static void
append_query_text(StringInfo buf, const char *name, const char *text, int len)
{
	char	   *utf8 = pg_server_to_any(text, len, PG_UTF8);

	append_query_value(buf, name, utf8, utf8 == text ? len : (int) strlen(utf8));
	if (utf8 != text)
		pfree(utf8);
}

void
dmshook_payload_query(StringInfo buf, const DmshookEvent *event, bool test, bool has_query)
{
	char		text[DMSHOOK_MESSAGE_ID_LEN + 1];
	char		at[DMSHOOK_TIMESTAMP_SIZE];
	StringInfoData own;
	char	   *key;

	dmshook_message_id(event->id, event->nonce, text);
	dmshook_format_timestamp(event->at, at);

	initStringInfo(&own);
	append_query_value(&own, "id", text, DMSHOOK_MESSAGE_ID_LEN);
	append_query_value(&own, "type", event->type.data, event->type.len);
	append_query_value(&own, "timestamp", at, strlen(at));
	appendStringInfo(&own, "&sequence=" INT64_FORMAT, event->id);
	append_query_text(&own, "entity", event->entity.data, event->entity.len);
	key = JsonbToCString(NULL, &event->key->root, VARSIZE(event->key));
	append_query_text(&own, "key", key, strlen(key));
	if (test)
		appendStringInfoString(&own, "&test=true");

	appendStringInfoChar(buf, has_query ? '&' : '?');
	appendBinaryStringInfo(buf, own.data, own.len);
	pfree(key);
	pfree(own.data);
}

uint64
dmshook_entity_hash(const DmshookEvent *event)
{
	uint64		entity = hash_bytes_extended((const unsigned char *) event->entity.data, event->entity.len, 0);

	/* jsonb's own hash: 1 and 1.0, which it holds to be equal, are one key */
	return hash_combine64(entity, DatumGetUInt64(DirectFunctionCall2(jsonb_hash_extended,
																	 JsonbPGetDatum(event->key),
																	 Int64GetDatum(0))));
}

static DmshookSpan
span_of_text(Datum value, bool isnull)
{
	DmshookSpan span = {NULL, 0};

	if (!isnull)
	{
		text	   *t = DatumGetTextPP(value);

		span.data = VARDATA_ANY(t);
		span.len = VARSIZE_ANY_EXHDR(t);
	}
	return span;
}

void
dmshook_event_from_datums(const Datum *values, const bool *isnull, DmshookEvent *event)
{
	event->id = DatumGetInt64(values[Anum_event_id - 1]);
	event->nonce = DatumGetInt64(values[Anum_event_nonce - 1]);
	event->at = DatumGetTimestampTz(values[Anum_event_at - 1]);
	event->erased = !isnull[Anum_event_erased_at - 1];
	event->type = span_of_text(values[Anum_event_type - 1], false);
	event->tenant = span_of_text(values[Anum_event_tenant - 1], isnull[Anum_event_tenant - 1]);
	event->old_tenant = span_of_text(values[Anum_event_old_tenant - 1], isnull[Anum_event_old_tenant - 1]);
	event->entity = span_of_text(values[Anum_event_entity - 1], false);
	event->key = DatumGetJsonbP(values[Anum_event_key - 1]);
	event->who = span_of_text(values[Anum_event_who - 1], false);
	event->source = span_of_text(values[Anum_event_source - 1], false);
	event->data = span_of_text(values[Anum_event_data - 1], false);
}

bool
dmshook_event_from_argument(HeapTupleHeader header, DmshookEvent *event)
{
	HeapTupleData tuple;
	TupleDesc	desc;
	Datum	   *values;
	bool	   *isnull;

	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	/* more: columns that somebody added */
	if (desc->natts < Natts_event)
		elog(ERROR, "unexpected number of columns in an event: %d", desc->natts);
	values = palloc(sizeof(Datum) * desc->natts);
	isnull = palloc(sizeof(bool) * desc->natts);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, values, isnull);
	ReleaseTupleDesc(desc);
	if (isnull[Anum_event_id - 1])
		return false;
	/* a row that never was in the table */
	for (int i = 0; i < Natts_event; i++)
	{
		if (isnull[i] && i != Anum_event_tenant - 1 && i != Anum_event_old_tenant - 1 && i != Anum_event_erased_at - 1)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("column %d of an event is null", i + 1)));
	}
	dmshook_event_from_datums(values, isnull, event);
	return true;
}

/* The shape that options ask for; of options that only another version knows: none. */
static int
shape_of(Jsonb *options)
{
	JsonbValue	buf;
	JsonbValue *value;
	int			shape = 0;

	value = getKeyJsonValueFromContainer(&options->root, "format", strlen("format"), &buf);
	if (value && value->type == jbvString && value->val.string.len == (int) strlen("cloudevents") &&
		memcmp(value->val.string.val, "cloudevents", value->val.string.len) == 0)
		shape |= DMSHOOK_SHAPE_CLOUDEVENTS;
	value = getKeyJsonValueFromContainer(&options->root, "numbers", strlen("numbers"), &buf);
	if (value && value->type == jbvString && value->val.string.len == (int) strlen("string") &&
		memcmp(value->val.string.val, "string", value->val.string.len) == 0)
		shape |= DMSHOOK_SHAPE_STRINGS;
	return shape;
}

/* dmshook._payload(event, test boolean, options jsonb): the body, as text of this database. */
Datum
dmshook_sql_payload(PG_FUNCTION_ARGS)
{
	DmshookEvent event;
	StringInfoData buf;
	int			shape;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	/* what a function makes of it stands in the attempt alone */
	if (!PG_ARGISNULL(2) && getKeyJsonValueFromContainer(&PG_GETARG_JSONB_P(2)->root, "transform", strlen("transform"), NULL))
		PG_RETURN_NULL();
	shape = PG_ARGISNULL(2) ? 0 : shape_of(PG_GETARG_JSONB_P(2));
	if (!dmshook_event_from_argument(PG_GETARG_HEAPTUPLEHEADER(0), &event))
		PG_RETURN_NULL();
	initStringInfo(&buf);
	dmshook_payload_append_server(&buf, &event, PG_GETARG_BOOL(1));
	if (shape != 0)
	{
		StringInfoData shaped;
		char	   *utf8 = pg_server_to_any(buf.data, buf.len, PG_UTF8);
		char	   *own;

		initStringInfo(&shaped);
		dmshook_shape_append(&shaped, utf8, utf8 == buf.data ? buf.len : (int) strlen(utf8), shape);
		own = pg_any_to_server(shaped.data, shaped.len, PG_UTF8);
		PG_RETURN_TEXT_P(cstring_to_text_with_len(own, own == shaped.data ? shaped.len : (int) strlen(own)));
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}

/* dmshook._query(event, test boolean, has_query boolean): what follows the URL of a GET or DELETE. */
Datum
dmshook_sql_query(PG_FUNCTION_ARGS)
{
	DmshookEvent event;
	StringInfoData buf;

	if (!dmshook_event_from_argument(PG_GETARG_HEAPTUPLEHEADER(0), &event))
		PG_RETURN_NULL();
	initStringInfo(&buf);
	dmshook_payload_query(&buf, &event, PG_GETARG_BOOL(1), PG_GETARG_BOOL(2));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}

/* dmshook._message_id(id bigint, nonce bigint) */
Datum
dmshook_sql_message_id(PG_FUNCTION_ARGS)
{
	char		buf[DMSHOOK_MESSAGE_ID_LEN + 1];

	dmshook_message_id(PG_GETARG_INT64(0), PG_GETARG_INT64(1), buf);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf, DMSHOOK_MESSAGE_ID_LEN));
}

/* dmshook._message_sequence(message_id text): the event's id; NULL when it is no message id. */
Datum
dmshook_sql_message_sequence(PG_FUNCTION_ARGS)
{
	text	   *t = PG_GETARG_TEXT_PP(0);
	int64		id;
	int64		nonce;

	if (!dmshook_parse_message_id(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), &id, &nonce))
		PG_RETURN_NULL();
	PG_RETURN_INT64(id);
}
