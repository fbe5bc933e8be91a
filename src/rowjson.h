/*
 * rowjson.h - values to JSON, the same in every session. See rowjson.c.
 */
#ifndef DMSHOOK_ROWJSON_H
#define DMSHOOK_ROWJSON_H

#include "postgres.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/*
 * Append bytes; what appendBinaryStringInfo() does without the two calls,
 * which for the short pieces of a row cost more than the bytes.
 */
static inline void
dmshook_json_put(StringInfo buf, const char *bytes, int len)
{
	if (unlikely(buf->maxlen - buf->len <= len))
		enlargeStringInfo(buf, len);
	memcpy(buf->data + buf->len, bytes, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

/* How values of one type are written. Looked up once, kept by the caller. */
typedef struct DmshookJsonType DmshookJsonType;

/* Look a type up; all its memory is in context. */
extern DmshookJsonType *dmshook_json_type(Oid type, MemoryContext context);

/* What sessions may set and output functions look at. */
typedef struct DmshookJsonSettings
{
	int			date_style;
	int			date_order;
	int			interval_style;
	int			float_digits;
	int			bytea_output;
	void	   *timezone;
} DmshookJsonSettings;

/*
 * Put the fixed settings in force (UTC, ISO dates, ISO 8601 intervals, hex,
 * shortest floats) and remember the session's. The caller must call unpin on
 * every way out, errors too (PG_FINALLY): the variables are set behind the
 * back of guc.c, which costs nothing and has no other clean-up.
 */
extern void dmshook_json_pin(DmshookJsonSettings *saved);
extern void dmshook_json_unpin(const DmshookJsonSettings *saved);

/*
 * Append a value that is not NULL as JSON, in the server encoding, under
 * pinned settings. Detoasted copies go to the current memory context.
 */
extern void dmshook_json_value(StringInfo buf, DmshookJsonType *type, Datum value);

/*
 * The same for the usual types of keys (integers, text), as a scalar of
 * jsonb, which saves parsing the text; false for the others.
 */
extern bool dmshook_json_scalar(DmshookJsonType *type, Datum value, JsonbValue *scalar);

/*
 * The value's bytes where they are its text already (text, varchar), without a
 * copy unless it must be detoasted; NULL for the other types.
 */
extern const char *dmshook_json_bytes(DmshookJsonType *type, Datum value, int *len);

/* The value as plain text, palloc'd, under pinned settings; char(n) without its padding. */
extern char *dmshook_json_plain(DmshookJsonType *type, Datum value, int *len);

/* Append a string in quotes, escaped. */
extern void dmshook_json_string(StringInfo buf, const char *text, int len);

#endif							/* DMSHOOK_ROWJSON_H */
