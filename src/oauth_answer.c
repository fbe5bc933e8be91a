/*
 * oauth_answer.c - what a token endpoint answered: a JSON object out of which
 * five members are taken.
 *
 * Pure: no PostgreSQL, no memory but the caller's, no recursion; runs in the
 * dispatcher. The bytes are a stranger's and hold a secret, so there is no
 * parser between that would copy them to places that nobody wipes. It is lenient
 * about what is between the members, and strict about what it takes.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "oauth_answer.h"

typedef struct Scan
{
	const char *at;
	const char *end;
} Scan;

static void
skip_blanks(Scan *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\r' || *s->at == '\n'))
		s->at++;
}

static bool
take(Scan *s, char c)
{
	skip_blanks(s);
	if (s->at == s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

/* \uXXXX: the character where it is ASCII. */
static bool
take_unicode(Scan *s, char *c)
{
	unsigned int code = 0;

	if (s->end - s->at < 4)
		return false;
	for (int i = 0; i < 4; i++, s->at++)
	{
		const char *digits = "0123456789abcdef";
		const char *digit = *s->at ? strchr(digits, *s->at | 0x20) : NULL;

		if (digit == NULL)
			return false;
		code = code * 16 + (unsigned int) (digit - digits);
	}
	*c = code >= 0x20 && code < 0x7f ? (char) code : '?';
	return true;
}

static bool
take_escape(Scan *s, char *c)
{
	if (s->at == s->end)
		return false;
	switch (*s->at++)
	{
		case 'u':
			return take_unicode(s, c);
		case '"':
		case '\\':
		case '/':
			*c = s->at[-1];
			return true;
		case 'b':
		case 'f':
		case 'n':
		case 'r':
		case 't':
			*c = ' ';
			return true;
		default:
			return false;
	}
}

/* A string, as much of it as out holds; size 0: into nothing. *changed: it was longer, or not ASCII. */
static bool
take_string(Scan *s, char *out, size_t size, bool *changed)
{
	size_t		n = 0;

	*changed = false;
	if (!take(s, '"'))
		return false;
	while (s->at < s->end && *s->at != '"')
	{
		char		c = *s->at++;

		if (c == '\\')
		{
			if (!take_escape(s, &c))
				return false;
			*changed |= c == '?' || c == ' ';
		}
		else if ((unsigned char) c < 0x20 || (unsigned char) c >= 0x7f)
		{
			c = '?';
			*changed = true;
		}
		if (n + 1 < size)
			out[n++] = c;
		else
			*changed = true;
	}
	if (size > 0)
		out[n] = '\0';
	return take(s, '"');
}

/* A value of any kind: nothing of it is kept. */
static bool
skip_value(Scan *s)
{
	int			depth = 0;
	bool		changed;

	skip_blanks(s);
	do
	{
		if (s->at == s->end)
			return false;
		switch (*s->at)
		{
			case '"':
				if (!take_string(s, NULL, 0, &changed))
					return false;
				break;
			case '{':
			case '[':
				depth++;
				s->at++;
				break;
			case '}':
			case ']':
				/* of the object around it: there was no value */
				if (depth-- == 0)
					return false;
				s->at++;
				break;
			case ',':
			case ':':
				if (depth == 0)
					return false;
				s->at++;
				break;
			default:
				/* a number, a word, blanks */
				s->at += 1;
				while (s->at < s->end && strchr("\"{}[],:", *s->at) == NULL)
					s->at++;
				break;
		}
	} while (depth > 0);
	return true;
}

/* Seconds, as a number or (some servers) as a string of digits; a fraction is cut off. */
static bool
take_seconds(Scan *s, int64_t *seconds)
{
	bool		quoted;
	int64_t		n = 0;
	const char *begin;

	skip_blanks(s);
	quoted = s->at < s->end && *s->at == '"';
	if (quoted)
		s->at++;
	begin = s->at;
	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
	{
		if (n < INT64_C(1000000000000))
			n = n * 10 + (*s->at - '0');
		s->at++;
	}
	if (s->at > begin)
		*seconds = n;
	if (quoted)
	{
		while (s->at < s->end && *s->at != '"')
			s->at++;
		return take(s, '"');
	}
	return s->at > begin ? s->at == s->end || strchr(",}", *s->at) != NULL || skip_value(s) : skip_value(s);
}

static bool
take_member(Scan *s, DmshookTokenAnswer *out)
{
	char		name[32];
	bool		changed;

	if (!take_string(s, name, sizeof(name), &changed) || !take(s, ':'))
		return false;
	skip_blanks(s);
	if (changed || s->at == s->end)
		return skip_value(s);
	if (strcmp(name, "expires_in") == 0)
		return take_seconds(s, &out->expires_in);
	if (*s->at != '"')
		return skip_value(s);
	if (strcmp(name, "access_token") == 0)
		return take_string(s, out->token, sizeof(out->token), &out->unfit);
	if (strcmp(name, "token_type") == 0)
		return take_string(s, out->type, sizeof(out->type), &changed);
	if (strcmp(name, "error") == 0)
		return take_string(s, out->error, sizeof(out->error), &changed);
	if (strcmp(name, "error_description") == 0)
		return take_string(s, out->description, sizeof(out->description), &changed);
	return skip_value(s);
}

bool
dmshook_oauth_answer(const char *json, size_t len, DmshookTokenAnswer *out)
{
	Scan		s = {json, json + len};

	memset(out, 0, sizeof(*out));
	out->expires_in = -1;
	if (!take(&s, '{'))
		return false;
	if (take(&s, '}'))
		return true;
	do
	{
		if (!take_member(&s, out))
			return false;
	} while (take(&s, ','));
	return take(&s, '}');
}

bool
dmshook_oauth_token_fit(const char *token)
{
	if (*token == '\0')
		return false;
	for (; *token != '\0'; token++)
	{
		if (*token <= 0x20 || *token >= 0x7f || *token == '"' || *token == '\\' || *token == ',')
			return false;
	}
	return true;
}
