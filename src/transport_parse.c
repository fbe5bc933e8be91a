/*
 * transport_parse.c - reading URLs that people type and Retry-After headers
 * that receivers send.
 *
 * Runs in any backend (dmshook_url_check) and in the dispatcher. Pure but for
 * the setting dmshook.allowed_ports: no state, nothing is allocated beyond the call, nothing is ereported. A URL is taken apart by
 * curl's own parser, so that what is checked is what is connected to.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <time.h>

#include "guard.h"
#include "settings.h"
#include "transport_private.h"

#define URL_MAX_LEN		2000

/* A receiver may ask for any time; more than this is the same to us. */
#define RETRY_AFTER_MAX	(INT64CONST(365) * 24 * 3600 * 1000)

static const char *url_check_text(const char *url, const char **hint);
static const char *url_check_parts(const char *url, const char **hint);

const char *
dmshook_url_check(const char *url, bool allow_http, const char **hint)
{
	const char *problem;

	*hint = "A URL looks like https://dms.example.com/hooks?key=value.";
	if ((problem = url_check_text(url, hint)) != NULL)
		return problem;

	if (pg_strncasecmp(url, "http://", 7) == 0)
	{
		if (!allow_http)
		{
			*hint = "Use an https URL. A superuser can permit plain http with the setting dmshook.allow_http.";
			return "The URL is not https.";
		}
	}
	else if (pg_strncasecmp(url, "https://", 8) != 0)
		return "The URL does not begin with https://.";

	return url_check_parts(url, hint);
}

/* The bytes of it, before anything is made of them. */
static const char *
url_check_text(const char *url, const char **hint)
{
	const char *authority;

	if (url == NULL || url[0] == '\0')
		return "The URL is empty.";
	if (strlen(url) > URL_MAX_LEN)
	{
		*hint = "What depends on the event belongs in the body.";
		return "The URL is longer than 2000 bytes.";
	}
	for (const unsigned char *c = (const unsigned char *) url; *c != '\0'; c++)
	{
		if (*c < 0x20 || *c == 0x7f)
			return "The URL holds a control character.";
		if (*c >= 0x80)
		{
			*hint = "Write a host name in its ASCII form (xn--...), and other characters as %XX of their UTF-8 bytes.";
			return "The URL holds a character that is not ASCII.";
		}
		if (strchr(" \"<>\\^`{|}", *c) != NULL)
		{
			*hint = "Write such characters as %XX, a space as %20.";
			return "The URL holds a space or one of \" < > \\ ^ ` { | }.";
		}
	}
	if (strchr(url, '#') != NULL)
	{
		*hint = "What follows \"#\" is never sent to a receiver. Write a literal \"#\" as %23.";
		return "The URL has a fragment.";
	}
	authority = strstr(url, "://");
	if (authority != NULL)
	{
		size_t		len = strcspn(authority + 3, "/?");

		if (memchr(authority + 3, '@', len) != NULL)
		{
			*hint = "Pass credentials as auth, such as '{\"kind\": \"basic\", \"username\": \"...\", \"password\": \"...\"}'.";
			return "The URL holds a user name or password.";
		}
		if (len == 0 || authority[3] == ':')
			return "The URL has no host.";
	}
	return NULL;
}

/* What curl makes of it. */
static const char *
url_check_parts(const char *url, const char **hint)
{
	CURLU	   *parts = curl_url();
	CURLUcode	code;
	char	   *host = NULL;
	char	   *port = NULL;
	const char *problem = NULL;

	if (parts == NULL)
		return "The URL could not be checked: out of memory.";

	code = curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER);
	if (code == CURLUE_OK)
		code = curl_url_get(parts, CURLUPART_HOST, &host, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
	if (code == CURLUE_OK && atoi(port) == 0)
		code = CURLUE_BAD_PORT_NUMBER;
	switch (code)
	{
		case CURLUE_OK:
			if (strlen(host) >= TRANSPORT_HOST_SIZE - 2)
				problem = "The host in the URL is too long.";
			else if (strchr(host, '%') != NULL)
				problem = "The host in the URL is not valid.";
			else if (!dmshook_guard_port(atoi(port), dmshook_allowed_ports))
			{
				*hint = "A superuser can permit it: add it to the setting dmshook.allowed_ports.";
				problem = "The port in the URL is not among those of dmshook.allowed_ports.";
			}
			break;
		case CURLUE_NO_HOST:
			problem = "The URL has no host.";
			break;
		case CURLUE_BAD_PORT_NUMBER:
			*hint = "A port is a number from 1 to 65535; leave it out for the usual one.";
			problem = "The port in the URL is not valid.";
			break;
		case CURLUE_OUT_OF_MEMORY:
			problem = "The URL could not be checked: out of memory.";
			break;
		default:
			problem = "The URL is malformed.";
			break;
	}
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(parts);
	return problem;
}

/*
 * Host (without brackets), port and scheme, for messages. False when the URL
 * cannot be taken apart.
 */
bool
transport_url_host(const char *url, char *host, size_t size, int *port, bool *https)
{
	CURLU	   *parts = curl_url();
	char	   *text = NULL;
	bool		ok = false;

	host[0] = '\0';
	*port = 0;
	*https = false;
	if (parts == NULL)
		return false;
	if (curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_HOST, &text, 0) == CURLUE_OK)
	{
		size_t		len = strlen(text);

		if (text[0] == '[' && len > 2 && text[len - 1] == ']')
		{
			text[len - 1] = '\0';
			strlcpy(host, text + 1, size);
		}
		else
			strlcpy(host, text, size);
		curl_free(text);
		text = NULL;
		if (curl_url_get(parts, CURLUPART_PORT, &text, CURLU_DEFAULT_PORT) == CURLUE_OK)
		{
			*port = atoi(text);
			curl_free(text);
			text = NULL;
			if (curl_url_get(parts, CURLUPART_SCHEME, &text, 0) == CURLUE_OK)
			{
				*https = strcmp(text, "https") == 0;
				ok = true;
			}
		}
	}
	curl_free(text);
	curl_url_cleanup(parts);
	return ok;
}

bool
dmshook_url_origin(const char *url, char *out, size_t size)
{
	char		host[TRANSPORT_HOST_SIZE];
	int			port;
	bool		https;

	if (!transport_url_host(url, host, sizeof(host), &port, &https))
		return false;
	for (char *c = host; *c != '\0'; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	snprintf(out, size, "%s://%s:%d", https ? "https" : "http", host, port);
	return true;
}

/* Is the host an address, and no name? */
bool
transport_ip_literal(const char *host)
{
	struct in_addr v4;
	struct in6_addr v6;

	return inet_pton(AF_INET, host, &v4) == 1 || inet_pton(AF_INET6, host, &v6) == 1;
}

/*
 * The value of a Retry-After header: seconds, or a date (RFC 9110, 10.2.3). In
 * ms from now on, never negative; -1 when it is neither.
 */
int64
transport_retry_after(const char *value, size_t len)
{
	char		text[64];
	char	   *end;

	while (len > 0 && (*value == ' ' || *value == '\t'))
		value++, len--;
	while (len > 0 && strchr(" \t\r\n", value[len - 1]) != NULL && value[len - 1] != '\0')
		len--;
	if (len == 0 || len >= sizeof(text) || memchr(value, '\0', len) != NULL)
		return -1;
	memcpy(text, value, len);
	text[len] = '\0';

	if (strspn(text, "0123456789") == len)
	{
		int64		seconds;

		if (len > 15)
			return RETRY_AFTER_MAX;
		seconds = strtoll(text, &end, 10);
		return Min(seconds, RETRY_AFTER_MAX / 1000) * 1000;
	}
	if (text[0] >= 'A' && strchr(text, ':') != NULL)
	{
		int64		then = curl_getdate(text, NULL);
		int64		now = time(NULL);

		if (then == -1)
			return -1;
		/* the year may be any: in milliseconds it would not fit */
		return then <= now ? 0 : Min(then - now, RETRY_AFTER_MAX / 1000) * 1000;
	}
	return -1;
}
