/*
 * rowjson.c - values to JSON: what to_json() writes, under settings that are
 * always the same.
 *
 * Runs in the backend that writes a row, inside its statement. How a type is
 * written is looked up once and kept with the relation's rules
 * (capture_cache.c), which is what makes this two to five times as fast as
 * row_to_json(). Nothing here reads tables; the catalog caches are asked when
 * a type is looked up, and per value only for composites and enums.
 *
 * Differences from to_json(), all wanted: timestamptz is always in UTC,
 * intervals are ISO 8601, bytea is hex, floats are the shortest that reads
 * back, names of types and relations are always qualified, and money is
 * written as in the C locale, whatever the session has set.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/cash.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "rowjson.h"

#define HEX_DIGITS	"0123456789abcdef"

/* Room for a number, or for "2026-11-23T07:25:00.123456+00:00" and its quotes. */
#define SHORT_VALUE	40

typedef enum JsonKind
{
	/* those that short_value() writes */
	JSON_BOOL,
	JSON_INT2,
	JSON_INT4,
	JSON_INT8,
	JSON_DATE,
	JSON_TIMESTAMP,
	JSON_TIMESTAMPTZ,
	JSON_LAST_SHORT = JSON_TIMESTAMPTZ,
	JSON_OUTPUT,				/* the output function's text, quoted */
	JSON_FLOAT4,
	JSON_FLOAT8,
	JSON_NUMERIC,
	JSON_TEXT,
	JSON_BPCHAR,
	JSON_NAME,
	JSON_INTERVAL,
	JSON_BYTEA,
	JSON_UUID,
	JSON_MONEY,
	JSON_JSON,
	JSON_JSONB,
	JSON_REG,					/* regclass and its like: search_path matters */
	JSON_CAST,					/* a type of an extension that has a cast to json */
	JSON_ARRAY,
	JSON_COMPOSITE
} JsonKind;

struct DmshookJsonType
{
	JsonKind	kind;
	Oid			type;			/* below domains */
	FmgrInfo	function;		/* output function, or the cast */
	DmshookJsonType *element;	/* of an array */
	int16		len;			/* of an element */
	bool		byval;
	char		align;
};

static JsonKind json_kind(Oid type, Oid *cast);
static void json_array(StringInfo buf, DmshookJsonType *type, Datum value);
static void json_dimension(StringInfo buf, DmshookJsonType *element, int dim, int ndim, int *dims,
						   Datum *values, bool *nulls, int *at);
static void json_composite(StringInfo buf, Datum value);
static char *json_reg(DmshookJsonType *type, Datum value);
static void json_hex(StringInfo buf, const char *bytes, int len);
static char *json_money(Cash value, char *buf);
static void json_uuid(StringInfo buf, const pg_uuid_t *uuid);
static void json_datetime(StringInfo buf, DmshookJsonType *type, Datum value);
static char *short_value(char *out, JsonKind kind, Datum value);
static char *plain_datetime(char *p, JsonKind kind, Datum value);

/* Which kind is it? Sets *cast for JSON_CAST. */
static JsonKind
json_kind(Oid type, Oid *cast)
{
	switch (type)
	{
		case BOOLOID:
			return JSON_BOOL;
		case INT2OID:
			return JSON_INT2;
		case INT4OID:
			return JSON_INT4;
		case INT8OID:
			return JSON_INT8;
		case FLOAT4OID:
			return JSON_FLOAT4;
		case FLOAT8OID:
			return JSON_FLOAT8;
		case NUMERICOID:
			return JSON_NUMERIC;
		case TEXTOID:
		case VARCHAROID:
			return JSON_TEXT;
		case BPCHAROID:
			return JSON_BPCHAR;
		case NAMEOID:
			return JSON_NAME;
		case DATEOID:
			return JSON_DATE;
		case TIMESTAMPOID:
			return JSON_TIMESTAMP;
		case TIMESTAMPTZOID:
			return JSON_TIMESTAMPTZ;
		case INTERVALOID:
			return JSON_INTERVAL;
		case BYTEAOID:
			return JSON_BYTEA;
		case UUIDOID:
			return JSON_UUID;
		case MONEYOID:
			return JSON_MONEY;
		case JSONOID:
			return JSON_JSON;
		case JSONBOID:
			return JSON_JSONB;
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
			return JSON_REG;
		default:
			break;
	}
	if (OidIsValid(get_element_type(type)))
		return JSON_ARRAY;
	if (type_is_rowtype(type))
		return JSON_COMPOSITE;
	/* as to_json() does: built-in types have none, so do not search for them */
	if (type >= FirstNormalObjectId &&
		find_coercion_pathway(JSONOID, type, COERCION_EXPLICIT, cast) == COERCION_PATH_FUNC)
		return JSON_CAST;
	return JSON_OUTPUT;
}

DmshookJsonType *
dmshook_json_type(Oid type, MemoryContext context)
{
	DmshookJsonType *result = MemoryContextAllocZero(context, sizeof(DmshookJsonType));
	Oid			function = InvalidOid;
	bool		varlena;

	check_stack_depth();

	result->type = getBaseType(type);
	result->kind = json_kind(result->type, &function);
	if (result->kind == JSON_ARRAY)
	{
		Oid			element = get_element_type(result->type);

		result->element = dmshook_json_type(element, context);
		get_typlenbyvalalign(element, &result->len, &result->byval, &result->align);
	}
	if (result->kind != JSON_CAST)
		getTypeOutputInfo(result->type, &function, &varlena);
	fmgr_info_cxt(function, &result->function, context);
	return result;
}

void
dmshook_json_pin(DmshookJsonSettings *saved)
{
	static pg_tz *utc = NULL;

	if (utc == NULL)
		utc = pg_tzset("GMT");
	saved->date_style = DateStyle;
	saved->date_order = DateOrder;
	saved->interval_style = IntervalStyle;
	saved->float_digits = extra_float_digits;
	saved->bytea_output = bytea_output;
	saved->timezone = session_timezone;
	DateStyle = USE_ISO_DATES;
	DateOrder = DATEORDER_MDY;
	IntervalStyle = INTSTYLE_ISO_8601;
	extra_float_digits = 1;
	bytea_output = BYTEA_OUTPUT_HEX;
	if (utc != NULL)
		session_timezone = utc;
}

void
dmshook_json_unpin(const DmshookJsonSettings *saved)
{
	DateStyle = saved->date_style;
	DateOrder = saved->date_order;
	IntervalStyle = saved->interval_style;
	extra_float_digits = saved->float_digits;
	bytea_output = saved->bytea_output;
	session_timezone = saved->timezone;
}

/* Of eight bytes, does one need an escape: below a space, a quote, a backslash? */
static inline bool
needs_escape(uint64 bytes)
{
	const uint64 ones = UINT64CONST(0x0101010101010101);
	const uint64 quotes = bytes ^ (ones * '"');
	const uint64 slashes = bytes ^ (ones * '\\');

	return (((bytes - ones * ' ') & ~bytes) | ((quotes - ones) & ~quotes) | ((slashes - ones) & ~slashes)) & (ones << 7);
}

/*
 * Copy bytes until one of the eight at hand needs an escape: returns how many
 * that are, all of them when none does. A rest of less than eight is copied
 * together with some before it. Room for len bytes is there, no more.
 */
static inline int
copy_clean(char *out, const char *text, int len)
{
	int			i = 0;

	if (len >= 8)
	{
		uint64		bytes;

		for (; i + 8 <= len; i += 8)
		{
			memcpy(&bytes, text + i, 8);
			if (unlikely(needs_escape(bytes)))
				return i;
			memcpy(out + i, &bytes, 8);
		}
		memcpy(&bytes, text + len - 8, 8);
		if (unlikely(needs_escape(bytes)))
			return i;
		memcpy(out + len - 8, &bytes, 8);
		return len;
	}
	if (len >= 4)
	{
		uint32		first;
		uint32		last;

		memcpy(&first, text, 4);
		memcpy(&last, text + len - 4, 4);
		if (unlikely(needs_escape(((uint64) last << 32) | first)))
			return 0;
		memcpy(out, &first, 4);
		memcpy(out + len - 4, &last, 4);
		return len;
	}
	for (; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (unlikely(c < ' ' || c == '"' || c == '\\'))
			break;
		out[i] = c;
	}
	return i;
}

void
dmshook_json_string(StringInfo buf, const char *text, int len)
{
	const char *end = text + len;
	const char *run;			/* start of what needs no escape */
	int			clean;
	char	   *out;

	/* all of it at once in the common case: one check for room */
	if (unlikely(buf->maxlen - buf->len <= len + 2))
		enlargeStringInfo(buf, len + 2);
	out = buf->data + buf->len;
	*out++ = '"';
	clean = copy_clean(out, text, len);
	out += clean;
	if (likely(clean == len))
	{
		*out++ = '"';
		*out = '\0';
		buf->len = out - buf->data;
		return;
	}
	buf->len = out - buf->data;
	run = text + clean;
	for (const char *p = run; p < end; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (likely(c >= ' ' && c != '"' && c != '\\'))
			continue;
		appendBinaryStringInfo(buf, run, p - run);
		run = p + 1;
		switch (c)
		{
			case '\b':
				appendStringInfoString(buf, "\\b");
				break;
			case '\f':
				appendStringInfoString(buf, "\\f");
				break;
			case '\n':
				appendStringInfoString(buf, "\\n");
				break;
			case '\r':
				appendStringInfoString(buf, "\\r");
				break;
			case '\t':
				appendStringInfoString(buf, "\\t");
				break;
			case '"':
				appendStringInfoString(buf, "\\\"");
				break;
			case '\\':
				appendStringInfoString(buf, "\\\\");
				break;
			default:
				{
					char		code[6] = {'\\', 'u', '0', '0', HEX_DIGITS[c >> 4], HEX_DIGITS[c & 0x0F]};

					appendBinaryStringInfo(buf, code, sizeof(code));
					break;
				}
		}
	}
	appendBinaryStringInfo(buf, run, end - run);
	appendStringInfoChar(buf, '"');
}

/* A number's text; NaN and the infinities are strings in JSON. */
static void
json_number(StringInfo buf, const char *text, int len)
{
	char		last = text[len - 1];

	/* "NaN", "Infinity", "-Infinity" end in a letter; no number does */
	if (last >= '0' && last <= '9')
		dmshook_json_put(buf, text, len);
	else
		dmshook_json_string(buf, text, len);
}

void
dmshook_json_value(StringInfo buf, DmshookJsonType *type, Datum value)
{
	char		small[64];
	char	   *out;

	if (type->kind <= JSON_LAST_SHORT)
	{
		if (unlikely(buf->maxlen - buf->len <= SHORT_VALUE))
			enlargeStringInfo(buf, SHORT_VALUE);
		out = short_value(buf->data + buf->len, type->kind, value);
		if (likely(out != NULL))
		{
			*out = '\0';
			buf->len = out - buf->data;
			return;
		}
	}
	switch (type->kind)
	{
		case JSON_BOOL:
		case JSON_INT2:
		case JSON_INT4:
		case JSON_INT8:
			break;
		case JSON_FLOAT4:
			json_number(buf, small, float_to_shortest_decimal_buf(DatumGetFloat4(value), small));
			break;
		case JSON_FLOAT8:
			json_number(buf, small, double_to_shortest_decimal_buf(DatumGetFloat8(value), small));
			break;
		case JSON_NUMERIC:
			out = OutputFunctionCall(&type->function, value);
			json_number(buf, out, strlen(out));
			break;
		case JSON_TEXT:
		case JSON_BPCHAR:
			{
				struct varlena *datum = (struct varlena *) DatumGetPointer(value);

				if (unlikely(VARATT_IS_EXTERNAL(datum) || VARATT_IS_COMPRESSED(datum)))
					datum = PG_DETOAST_DATUM_PACKED(value);
				dmshook_json_string(buf, VARDATA_ANY(datum), VARSIZE_ANY_EXHDR(datum));
				break;
			}
		case JSON_NAME:
			dmshook_json_string(buf, NameStr(*DatumGetName(value)), strlen(NameStr(*DatumGetName(value))));
			break;
		case JSON_DATE:
		case JSON_TIMESTAMP:
		case JSON_TIMESTAMPTZ:
			json_datetime(buf, type, value);
			break;
		case JSON_INTERVAL:
			out = OutputFunctionCall(&type->function, value);
			dmshook_json_string(buf, out, strlen(out));
			break;
		case JSON_BYTEA:
			{
				struct varlena *datum = PG_DETOAST_DATUM_PACKED(value);

				appendBinaryStringInfo(buf, "\"\\\\x", 4);
				json_hex(buf, VARDATA_ANY(datum), VARSIZE_ANY_EXHDR(datum));
				appendStringInfoChar(buf, '"');
				break;
			}
		case JSON_UUID:
			json_uuid(buf, DatumGetUUIDP(value));
			break;
		case JSON_MONEY:
			out = json_money(DatumGetCash(value), small);
			dmshook_json_string(buf, out, strlen(out));
			break;
		case JSON_JSON:
			{
				struct varlena *datum = PG_DETOAST_DATUM_PACKED(value);

				appendBinaryStringInfo(buf, VARDATA_ANY(datum), VARSIZE_ANY_EXHDR(datum));
				break;
			}
		case JSON_JSONB:
			{
				Jsonb	   *datum = DatumGetJsonbP(value);

				JsonbToCString(buf, &datum->root, VARSIZE(datum));
				break;
			}
		case JSON_CAST:
			value = FunctionCall1(&type->function, value);
			{
				struct varlena *datum = PG_DETOAST_DATUM_PACKED(value);

				appendBinaryStringInfo(buf, VARDATA_ANY(datum), VARSIZE_ANY_EXHDR(datum));
				break;
			}
		case JSON_ARRAY:
			json_array(buf, type, value);
			break;
		case JSON_COMPOSITE:
			json_composite(buf, value);
			break;
		case JSON_REG:
			out = json_reg(type, value);
			dmshook_json_string(buf, out, strlen(out));
			break;
		case JSON_OUTPUT:
			out = OutputFunctionCall(&type->function, value);
			dmshook_json_string(buf, out, strlen(out));
			break;
	}
}

bool
dmshook_json_scalar(DmshookJsonType *type, Datum value, JsonbValue *scalar)
{
	struct varlena *datum;
	int64		number;

	switch (type->kind)
	{
		case JSON_INT2:
			number = DatumGetInt16(value);
			break;
		case JSON_INT4:
			number = DatumGetInt32(value);
			break;
		case JSON_INT8:
			number = DatumGetInt64(value);
			break;
		case JSON_TEXT:
			datum = PG_DETOAST_DATUM_PACKED(value);
			scalar->type = jbvString;
			scalar->val.string.val = VARDATA_ANY(datum);
			scalar->val.string.len = VARSIZE_ANY_EXHDR(datum);
			return scalar->val.string.len < 1024 * 1024;
		default:
			return false;
	}
	scalar->type = jbvNumeric;
	scalar->val.numeric = int64_to_numeric(number);
	return true;
}

const char *
dmshook_json_bytes(DmshookJsonType *type, Datum value, int *len)
{
	struct varlena *datum;

	if (type->kind != JSON_TEXT)
		return NULL;
	datum = PG_DETOAST_DATUM_PACKED(value);
	*len = VARSIZE_ANY_EXHDR(datum);
	return VARDATA_ANY(datum);
}

char *
dmshook_json_plain(DmshookJsonType *type, Datum value, int *len)
{
	char		small[64];
	char	   *out;

	switch (type->kind)
	{
		case JSON_BOOL:
			out = pstrdup(DatumGetBool(value) ? "true" : "false");	/* as the cast to text, not as boolout() */
			break;
		case JSON_TEXT:
		case JSON_BPCHAR:
			out = TextDatumGetCString(value);
			break;
		case JSON_REG:
			out = json_reg(type, value);
			break;
		case JSON_MONEY:
			out = pstrdup(json_money(DatumGetCash(value), small));
			break;
		case JSON_CAST:
			{
				Oid			function;
				bool		varlena;

				getTypeOutputInfo(type->type, &function, &varlena);
				out = OidOutputFunctionCall(function, value);
				break;
			}
		default:
			out = OutputFunctionCall(&type->function, value);
			break;
	}
	*len = strlen(out);
	if (type->kind == JSON_BPCHAR)
	{
		while (*len > 0 && out[*len - 1] == ' ')
			(*len)--;
		out[*len] = '\0';
	}
	return out;
}

static void
json_array(StringInfo buf, DmshookJsonType *type, Datum value)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *values;
	bool	   *nulls;
	int			n;
	int			at = 0;

	if (ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) <= 0)
	{
		appendBinaryStringInfo(buf, "[]", 2);
		return;
	}
	deconstruct_array(array, ARR_ELEMTYPE(array), type->len, type->byval, type->align,
					  &values, &nulls, &n);
	json_dimension(buf, type->element, 0, ARR_NDIM(array), ARR_DIMS(array), values, nulls, &at);
	pfree(values);
	pfree(nulls);
}

/* One dimension of an array, and through it those below. */
static void
json_dimension(StringInfo buf, DmshookJsonType *element, int dim, int ndim, int *dims,
			   Datum *values, bool *nulls, int *at)
{
	appendStringInfoChar(buf, '[');
	for (int i = 0; i < dims[dim]; i++)
	{
		if (i > 0)
			appendStringInfoChar(buf, ',');
		if (dim + 1 < ndim)
		{
			json_dimension(buf, element, dim + 1, ndim, dims, values, nulls, at);
			continue;
		}
		if (nulls[*at])
			appendBinaryStringInfo(buf, "null", 4);
		else
			dmshook_json_value(buf, element, values[*at]);
		(*at)++;
	}
	appendStringInfoChar(buf, ']');
}

/*
 * A row inside a row. Its type can be altered without any notice to the
 * relation that has the column, so nothing about it is kept.
 */
static void
json_composite(StringInfo buf, Datum value)
{
	HeapTupleHeader header;
	HeapTupleData tuple;
	TupleDesc	desc;
	bool		first = true;

	check_stack_depth();

	header = DatumGetHeapTupleHeader(value);
	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	memset(&tuple, 0, sizeof(tuple));
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	tuple.t_data = header;

	appendStringInfoChar(buf, '{');
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		bool		isnull;
		Datum		field;

		if (att->attisdropped)
			continue;
		if (!first)
			appendStringInfoChar(buf, ',');
		first = false;
		dmshook_json_string(buf, NameStr(att->attname), strlen(NameStr(att->attname)));
		appendStringInfoChar(buf, ':');
		field = heap_getattr(&tuple, i + 1, desc, &isnull);
		if (isnull)
			appendBinaryStringInfo(buf, "null", 4);
		else
			dmshook_json_value(buf, dmshook_json_type(att->atttypid, CurrentMemoryContext), field);
	}
	appendStringInfoChar(buf, '}');
}

/* Names of relations, types, functions: qualified unless of pg_catalog. */
static char *
json_reg(DmshookJsonType *type, Datum value)
{
	int			level = NewGUCNestLevel();
	char	   *out;

	/* an error in between is undone with the (sub)transaction */
	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	out = OutputFunctionCall(&type->function, value);
	AtEOXact_GUC(true, level);
	return out;
}

static void
json_hex(StringInfo buf, const char *bytes, int len)
{
	enlargeStringInfo(buf, Min((Size) len * 2, MaxAllocSize));
	buf->len += (int) hex_encode(bytes, len, buf->data + buf->len);
	buf->data[buf->len] = '\0';
}

/*
 * money as in the C locale: "-$1,234.56". buf holds 64 bytes; the result
 * points into it.
 */
static char *
json_money(Cash value, char *buf)
{
	uint64		rest = value < 0 ? -(uint64) value : (uint64) value;
	char	   *p = buf + 63;
	int			digits = 0;

	*p = '\0';
	do
	{
		if (digits == 2)
			*--p = '.';
		else if (digits > 2 && (digits - 2) % 3 == 0)
			*--p = ',';
		*--p = '0' + rest % 10;
		rest /= 10;
		digits++;
	} while (rest > 0 || digits < 3);
	*--p = '$';
	if (value < 0)
		*--p = '-';
	return p;
}

static void
json_uuid(StringInfo buf, const pg_uuid_t *uuid)
{
	char		text[2 * UUID_LEN + 4 + 2];
	char	   *p = text;

	*p++ = '"';
	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = HEX_DIGITS[uuid->data[i] >> 4];
		*p++ = HEX_DIGITS[uuid->data[i] & 0x0F];
	}
	*p++ = '"';
	appendBinaryStringInfo(buf, text, p - text);
}

/* A date that is not plain_datetime()'s. */
static void
json_datetime(StringInfo buf, DmshookJsonType *type, Datum value)
{
	char		text[MAXDATELEN + 1];
	int			utc = 0;

	JsonEncodeDateTime(text, value, type->type, type->kind == JSON_TIMESTAMPTZ ? &utc : NULL);
	dmshook_json_string(buf, text, strlen(text));
}

/* Numbers, truth and dates, to where there is room for SHORT_VALUE bytes: returns the end, or NULL if it is not so simple. */
static inline char *
short_value(char *out, JsonKind kind, Datum value)
{
	switch (kind)
	{
		case JSON_BOOL:
			if (DatumGetBool(value))
			{
				memcpy(out, "true", 4);
				return out + 4;
			}
			memcpy(out, "false", 5);
			return out + 5;
		case JSON_INT2:
			return out + pg_ltoa(DatumGetInt16(value), out);
		case JSON_INT4:
			return out + pg_ltoa(DatumGetInt32(value), out);
		case JSON_INT8:
			return out + pg_lltoa(DatumGetInt64(value), out);
		case JSON_DATE:
		case JSON_TIMESTAMP:
		case JSON_TIMESTAMPTZ:
			return plain_datetime(out, kind, value);
		default:
			return NULL;
	}
}

static inline char *
two_digits(char *p, int number)
{
	static const char pairs[] =
	"00010203040506070809" "10111213141516171819" "20212223242526272829" "30313233343536373839" "40414243444546474849"
	"50515253545556575859" "60616263646566676869" "70717273747576777879" "80818283848586878889" "90919293949596979899";

	memcpy(p, pairs + 2 * number, 2);
	return p + 2;
}

/*
 * Dates in the years 1 to 9999, as all are that a DMS has, are written here;
 * NULL for the others and the infinities. JsonEncodeDateTime() does the same in
 * four times the instructions.
 */
static char *
plain_datetime(char *p, JsonKind kind, Datum value)
{
	int64		day;
	int64		time = 0;
	int			year;
	int			month;
	int			date;

	if (kind == JSON_DATE)
		day = DatumGetDateADT(value);
	else
	{
		int64		stamp = DatumGetTimestamp(value);

		day = stamp / USECS_PER_DAY;
		time = stamp % USECS_PER_DAY;
		if (time < 0)
		{
			time += USECS_PER_DAY;
			day--;
		}
	}
	/* 0001-01-01 to 9999-12-31; the infinities are far outside */
	if (day < -730119 || day > 2921939)
		return NULL;
	j2date((int) day + POSTGRES_EPOCH_JDATE, &year, &month, &date);

	*p++ = '"';
	p = two_digits(p, year / 100);
	p = two_digits(p, year % 100);
	*p++ = '-';
	p = two_digits(p, month);
	*p++ = '-';
	p = two_digits(p, date);
	if (kind != JSON_DATE)
	{
		int			second = (int) (time / USECS_PER_SEC);
		int			fraction = (int) (time % USECS_PER_SEC);

		*p++ = 'T';
		p = two_digits(p, second / SECS_PER_HOUR);
		*p++ = ':';
		p = two_digits(p, second / SECS_PER_MINUTE % MINS_PER_HOUR);
		*p++ = ':';
		p = two_digits(p, second % SECS_PER_MINUTE);
		if (fraction != 0)
		{
			*p++ = '.';
			p = two_digits(p, fraction / 10000);
			p = two_digits(p, fraction / 100 % 100);
			p = two_digits(p, fraction % 100);
			while (p[-1] == '0')
				p--;
		}
		if (kind == JSON_TIMESTAMPTZ)
		{
			memcpy(p, "+00:00", 6);
			p += 6;
		}
	}
	*p++ = '"';
	return p;
}
