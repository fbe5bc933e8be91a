/*
 * capture_key.c - a row's key: as JSON text for the payload, as jsonb for the log.
 *
 * Runs in the backend that writes a row, inside its trigger, under pinned
 * settings. Nothing is read from tables or catalogs; memory is the caller's.
 *
 * The key that nearly all tables have, one integer or text, is put together
 * here byte by byte: jsonb's own builder takes ten times as long. What comes
 * out is the same to the last byte (sql/capture_bytes.sql compares them).
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "capture_key.h"
#include "rowjson.h"

static Jsonb *one_member(CaptureColumn *column, TupleTableSlot *row);
static Jsonb *members(CaptureGroup *group, TupleTableSlot *row);

Jsonb *
dmshook_capture_key(StringInfo buf, CaptureGroup *group, TupleTableSlot *row)
{
	int			start = buf->len;
	Jsonb	   *result;

	if (group->nkey == 0)
		appendStringInfoChar(buf, '{');
	for (int i = 0; i < group->nkey; i++)
		dmshook_capture_append_column(buf, &group->key[i], row, i == 0 ? '{' : ',');
	dmshook_json_put(buf, "}", 1);

	result = group->nkey == 1 ? one_member(&group->key[0], row) : NULL;
	if (result == NULL)
		result = members(group, row);
	if (result == NULL)
		result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													CStringGetDatum(pnstrdup(buf->data + start, buf->len - start))));
	return result;
}

/*
 * An object of one member: header, an entry each for name and value, the name,
 * and the value, which if it is a number begins at a multiple of four.
 */
static Jsonb *
one_member(CaptureColumn *column, TupleTableSlot *row)
{
	bool		isnull;
	Datum		value = slot_getattr(row, column->number, &isnull);
	JsonbValue	item;
	const char *bytes;
	int			len;
	int			name_len = strlen(column->name);
	int			at = offsetof(Jsonb, root.children) + 2 * sizeof(JEntry) + name_len;
	int			padding = 0;
	Jsonb	   *result;
	JEntry		type;

	if (isnull || !dmshook_json_scalar(column->json, value, &item))
		return NULL;
	if (item.type == jbvNumeric)
	{
		bytes = (const char *) item.val.numeric;
		len = VARSIZE_ANY(item.val.numeric);
		padding = INTALIGN(at) - at;
		type = JENTRY_ISNUMERIC;
	}
	else
	{
		bytes = item.val.string.val;
		len = item.val.string.len;
		type = JENTRY_ISSTRING;
	}
	result = palloc(at + padding + len);
	SET_VARSIZE(result, at + padding + len);
	result->root.header = JB_FOBJECT | 1;
	result->root.children[0] = JENTRY_ISSTRING | JENTRY_HAS_OFF | name_len;
	result->root.children[1] = type | (padding + len);
	memcpy((char *) result + at - name_len, column->name, name_len);
	memset((char *) result + at, 0, padding);
	memcpy((char *) result + at + padding, bytes, len);
	return result;
}

/* The same of several columns, by jsonb's builder; NULL where their types are not that simple. */
static Jsonb *
members(CaptureGroup *group, TupleTableSlot *row)
{
#if PG_VERSION_NUM >= 190000
	JsonbInState state = {0};
#else
	JsonbParseState *state = NULL;
	JsonbValue *result;
#endif
	JsonbValue	item;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < group->nkey; i++)
	{
		CaptureColumn *column = &group->key[i];
		bool		isnull;
		Datum		value = slot_getattr(row, column->number, &isnull);

		item.type = jbvString;
		item.val.string.val = column->name;
		item.val.string.len = strlen(column->name);
		pushJsonbValue(&state, WJB_KEY, &item);
		if (isnull)
			item.type = jbvNull;
		else if (!dmshook_json_scalar(column->json, value, &item))
			return NULL;
		pushJsonbValue(&state, WJB_VALUE, &item);
	}
#if PG_VERSION_NUM >= 190000
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(state.result);
#else
	result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(result);
#endif
}
