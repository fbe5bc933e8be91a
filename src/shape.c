/*
 * shape.c - a body in another form: as a CloudEvent (structured mode of
 * CloudEvents 1.0), and with numbers as strings where a receiver's JSON would
 * round them.
 *
 * Runs in the dispatcher, outside transactions, when a request of a webhook with such
 * options is first made for an event; and in backends that look at views. It
 * works on the bytes that payload.c wrote, in UTF-8, token by token: values are copied
 * as they stand, so that all forms say the same. Nothing is parsed into anything,
 * nothing can fail but memory: text that is not as expected is left as it is.
 */
#include "postgres.h"

#include "shape.h"

/* An integer beyond it may be rounded by a receiver that knows doubles only: 2^53 - 1. */
#define SAFE_INTEGER	"9007199254740991"

/* A value within the body: its bytes; NULL: there is none. */
typedef struct Value
{
	const char *at;
	const char *end;
} Value;

static const char *
skip_space(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	return at;
}

/* at is on the opening quote; returns what follows the closing one. */
static const char *
skip_string(const char *at, const char *end)
{
	for (at++; at < end && *at != '"'; at++)
	{
		if (*at == '\\' && at + 1 < end)
			at++;
	}
	return at < end ? at + 1 : end;
}

/* Returns what follows the value that begins at at. */
static const char *
skip_value(const char *at, const char *end)
{
	int			depth = 0;

	while (at < end)
	{
		char		c = *at;

		if (c == '"')
		{
			at = skip_string(at, end);
			if (depth == 0)
				return at;
			continue;
		}
		if (depth == 0 && (c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\n' || c == '\r'))
			return at;			/* the end of a number or word */
		if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
		{
			if (--depth == 0)
				return at + 1;
		}
		at++;
	}
	return end;
}

/*
 * Walk an object: *at begins on its brace, or on what followed the last member;
 * false: there is no further one. Names come with their quotes.
 */
static bool
next_member(const char **at, const char *end, Value *name, Value *value)
{
	const char *p = skip_space(*at, end);

	if (p >= end || (*p != '{' && *p != ','))
		return false;
	p = skip_space(p + 1, end);
	if (p >= end || *p != '"')
		return false;
	name->at = p;
	name->end = p = skip_string(p, end);
	p = skip_space(p, end);
	if (p >= end || *p != ':')
		return false;
	value->at = p = skip_space(p + 1, end);
	value->end = *at = skip_value(p, end);
	return true;
}

/* The value of a member of an object. */
static Value
member(Value object, const char *wanted)
{
	const char *at = object.at;
	size_t		len = strlen(wanted);
	Value		name;
	Value		value;
	Value		none = {NULL, NULL};

	while (object.at && next_member(&at, object.end, &name, &value))
	{
		if ((size_t) (name.end - name.at) == len + 2 && memcmp(name.at + 1, wanted, len) == 0)
			return value;
	}
	return none;
}

static bool
is_string(Value value)
{
	return value.at && value.end - value.at >= 2 && *value.at == '"';
}

/* A number that a receiver might round: with a fraction or exponent, or beyond 2^53 - 1. */
static bool
is_delicate(const char *at, const char *end)
{
	int			digits;

	if (*at == '-')
		at++;
	digits = end - at;
	for (const char *p = at; p < end; p++)
	{
		if (*p < '0' || *p > '9')
			return true;
	}
	return digits > (int) strlen(SAFE_INTEGER) ||
		(digits == (int) strlen(SAFE_INTEGER) && memcmp(at, SAFE_INTEGER, digits) > 0);
}

/* JSON as it stands; strings: with delicate numbers between quotes. */
static void
append_json(StringInfo buf, Value json, bool strings)
{
	const char *at = json.at;
	const char *copied = json.at;

	while (strings && at < json.end)
	{
		const char *begin = at;

		if (*at == '"')
			at = skip_string(at, json.end);
		else if (*at == '-' || (*at >= '0' && *at <= '9'))
		{
			while (at < json.end && strchr("+-.eE0123456789", *at) && *at != '\0')
				at++;
			if (!is_delicate(begin, at))
				continue;
			appendBinaryStringInfo(buf, copied, begin - copied);
			appendStringInfoChar(buf, '"');
			appendBinaryStringInfo(buf, begin, at - begin);
			appendStringInfoChar(buf, '"');
			copied = at;
		}
		else
			at++;
	}
	appendBinaryStringInfo(buf, copied, json.end - copied);
}

/* The four digits of an escape \uXXXX. */
static unsigned
hex4(const char *at)
{
	char		digits[] = {at[0], at[1], at[2], at[3], '\0'};

	return strtoul(digits, NULL, 16);
}

/*
 * What is between the quotes of a string, as part of another one: a CloudEvents String
 * has no control characters (written out or escaped), so they become U+FFFD.
 */
static void
append_inner(StringInfo buf, Value string)
{
	const char *at = string.at + 1;
	const char *end = string.end - 1;

	while (at < end)
	{
		unsigned char c = *at;
		unsigned char next = at + 1 < end ? at[1] : 0;

		if (c == '\\' && next == 'u' && end - at >= 6)
		{
			unsigned	code = hex4(at + 2);

			if (code < 0x20 || (code >= 0x7f && code < 0xa0))
				appendStringInfoString(buf, "\xef\xbf\xbd");
			else
				appendBinaryStringInfo(buf, at, 6);
			at += 6;
		}
		else if (c == '\\' && next)
		{
			if (strchr("bfnrt", next))
				appendStringInfoString(buf, "\xef\xbf\xbd");
			else
				appendBinaryStringInfo(buf, at, 2);
			at += 2;
		}
		else if (c < 0x20 || c == 0x7f)
		{
			appendStringInfoString(buf, "\xef\xbf\xbd");
			at++;
		}
		else if (c == 0xc2 && next >= 0x80 && next < 0xa0)
		{
			appendStringInfoString(buf, "\xef\xbf\xbd");
			at += 2;
		}
		else
		{
			appendStringInfoChar(buf, c);
			at++;
		}
	}
}

/* An attribute whose value is a string; none where that is null or empty, as the specification wants. */
static void
append_attribute(StringInfo buf, const char *name, Value string)
{
	if (!is_string(string) || string.end - string.at == 2)
		return;
	appendStringInfo(buf, ",\"%s\":\"", name);
	append_inner(buf, string);
	appendStringInfoChar(buf, '"');
}

/* A part of the path of a URI: all but unreserved characters percent-encoded; escapes of JSON are undone first. */
static void
append_path(StringInfo buf, Value string)
{
	if (!is_string(string))
		return;
	appendStringInfoChar(buf, '/');
	for (const char *at = string.at + 1; at < string.end - 1; at++)
	{
		unsigned char c = *at;

		if (c == '\\' && at + 2 < string.end)
		{
			static const char escapes[] = "b\bf\fn\nr\rt\t";
			const char *known;

			c = *++at;
			known = strchr(escapes, c);
			if (c == 'u' && string.end - at > 5)
			{
				/* only control characters are written so by the server */
				c = hex4(at + 1);
				at += 4;
			}
			else if (known)
				c = known[1];
		}
		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '.' || c == '_' || c == '~')
			appendStringInfoChar(buf, c);
		else
			appendStringInfo(buf, "%%%02X", c);
	}
}

/* "vehicle/42": the entity and the values of its key. */
static void
append_subject(StringInfo buf, Value data)
{
	Value		entity = member(data, "entity");
	Value		key = member(data, "key");
	const char *at = key.at;
	Value		name;
	Value		value;

	if (!is_string(entity) || entity.end - entity.at == 2)
		return;
	appendStringInfoString(buf, ",\"subject\":\"");
	append_inner(buf, entity);
	while (key.at && next_member(&at, key.end, &name, &value))
	{
		appendStringInfoChar(buf, '/');
		if (is_string(value))
			append_inner(buf, value);
		else if (*value.at != '{' && *value.at != '[')
			appendBinaryStringInfo(buf, value.at, value.end - value.at);
	}
	appendStringInfoChar(buf, '"');
}

/*
 * Our members under the names of CloudEvents. What it has no attribute for are
 * extension attributes: their names are of lower-case letters and digits, and an Integer
 * there has 32 bits, so that sequence is a String of digits that sorts (as the
 * documented extension "sequence" wants it).
 */
static void
append_cloudevent(StringInfo buf, Value body, bool strings)
{
	Value		source = member(body, "source");
	Value		user = member(body, "user");
	Value		sequence = member(body, "sequence");
	Value		test = member(body, "test");
	Value		data = member(body, "data");
	int			begin;

	appendStringInfoString(buf, "{\"specversion\":\"1.0\"");
	append_attribute(buf, "id", member(body, "id"));
	appendStringInfoString(buf, ",\"source\":\"");
	begin = buf->len;
	append_path(buf, member(source, "database"));
	append_path(buf, member(source, "schema"));
	append_path(buf, member(source, "table"));
	if (buf->len == begin)
		appendStringInfoString(buf, "/dmshook");	/* it may not be empty */
	appendStringInfoChar(buf, '"');
	append_attribute(buf, "type", member(body, "type"));
	append_subject(buf, data);
	append_attribute(buf, "time", member(body, "timestamp"));
	appendStringInfoString(buf, ",\"datacontenttype\":\"application/json\"");
	if (sequence.at)
	{
		int			digits = sequence.end - sequence.at;

		appendStringInfoString(buf, ",\"sequence\":\"");
		appendStringInfoSpaces(buf, Max(19 - digits, 0));
		memset(buf->data + buf->len - Max(19 - digits, 0), '0', Max(19 - digits, 0));
		appendBinaryStringInfo(buf, sequence.at, digits);
		appendStringInfoChar(buf, '"');
	}
	append_attribute(buf, "tenant", member(body, "tenant"));
	append_attribute(buf, "username", member(user, "name"));
	append_attribute(buf, "userrole", member(user, "role"));
	append_attribute(buf, "application", member(user, "application"));
	if (test.at)
		appendStringInfoString(buf, ",\"test\":true");
	if (data.at)
	{
		appendStringInfoString(buf, ",\"data\":");
		append_json(buf, data, strings);
	}
	appendStringInfoChar(buf, '}');
}

void
dmshook_shape_append(StringInfo buf, const char *body, int len, int shape)
{
	Value		all = {body, body + len};
	bool		strings = (shape & DMSHOOK_SHAPE_STRINGS) != 0;

	enlargeStringInfo(buf, len + 256);
	if (shape & DMSHOOK_SHAPE_CLOUDEVENTS)
		append_cloudevent(buf, all, strings);
	else
		append_json(buf, all, strings);
}
