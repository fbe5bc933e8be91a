/*
 * header.c - names and values of headers that people choose: what may stand in a
 * request without becoming another header, another request, or one that is ours.
 *
 * Pure: no PostgreSQL, no memory of its own, any process. options.c and auth.c make
 * errors of what is found here; a value never gets into one.
 */
#include "header.h"

#include <string.h>

#define LENGTH_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Set by HTTP or by dmshook in each request, so that nobody else may. */
static const char *const reserved[] = {
	"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "keep-alive",
	"proxy-connection", "proxy-authorization", "upgrade", "te", "trailer", "expect", "user-agent",
};
static const char *const prefixes[] = {"webhook-", "dmshook-"};

/* ASCII, whatever the locale is. */
static int
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : (unsigned char) c;
}

/* Does a name begin with lower case letters, in whichever case? */
static bool
begins_with(const char *name, const char *prefix)
{
	for (; *prefix != '\0'; name++, prefix++)
	{
		if (lower(*name) != *prefix)
			return false;
	}
	return true;
}

/* RFC 9110: a token. */
static bool
is_token(const char *name)
{
	return *name != '\0' &&
		strspn(name, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == strlen(name);
}

bool
dmshook_header_same(const char *a, const char *b)
{
	while (*a != '\0' && lower(*a) == lower(*b))
	{
		a++;
		b++;
	}
	return lower(*a) == lower(*b);
}

DmshookHeaderFault
dmshook_header_name_fault(const char *name, const char **prefix)
{
	*prefix = NULL;
	if (!is_token(name) || strlen(name) > DMSHOOK_HEADER_MAX_NAME)
		return DMSHOOK_HEADER_NO_NAME;
	for (size_t i = 0; i < LENGTH_OF(reserved); i++)
	{
		if (dmshook_header_same(name, reserved[i]))
			return DMSHOOK_HEADER_RESERVED;
	}
	for (size_t i = 0; i < LENGTH_OF(prefixes); i++)
	{
		if (begins_with(name, prefixes[i]))
		{
			*prefix = prefixes[i];
			return DMSHOOK_HEADER_PREFIX;
		}
	}
	return DMSHOOK_HEADER_FINE;
}

bool
dmshook_has_control(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c < 0x20 || c == 0x7f)
			return true;
	}
	return false;
}

DmshookHeaderFault
dmshook_header_value_fault(const char *value, size_t len)
{
	if (dmshook_has_control(value, len))
		return DMSHOOK_HEADER_CONTROL;
	if (len == 0 || len > DMSHOOK_HEADER_MAX_VALUE || value[0] == ' ' || value[len - 1] == ' ')
		return DMSHOOK_HEADER_LENGTH;
	return DMSHOOK_HEADER_FINE;
}
