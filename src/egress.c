/*
 * egress.c - how requests leave this machine: reading dmshook.source_address and
 * dmshook.proxy, and telling names from addresses in what a proxy is asked for.
 *
 * Runs in every process that checks a setting, and in the dispatcher. Pure: no
 * PostgreSQL, no allocation, no errors, no look-up of names.
 *
 * Behind a proxy the guard does not see the address that is connected to: the proxy
 * looks the name up. What can be seen is an address in the URL itself, in whatever
 * spelling; and a spelling that is no address for us may be one for the proxy. So a host whose
 * last part is a number is never a name here (as in the WHATWG's URL standard), and
 * "localhost" is what it is everywhere.
 */
#include "egress.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define LETTERS_AND_DIGITS	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

/* Longest host in a URL, brackets and zone included, and its zero byte. */
#define MAX_HOST_LEN	256

static bool read_address(const char *text, struct sockaddr_storage *address);
static bool is_number(const char *label);
static bool always_loopback(const char *host);

DmshookSource
dmshook_egress_source(const char *text)
{
	struct sockaddr_storage address;
	size_t		len = text != NULL ? strlen(text) : 0;

	if (len == 0)
		return DMSHOOK_SOURCE_NONE;
	if (read_address(text, &address))
		return address.ss_family == AF_INET ? DMSHOOK_SOURCE_IPV4 : DMSHOOK_SOURCE_IPV6;
	/* "10.0.0" is an address with a mistake, no interface */
	if (len >= IF_NAMESIZE || strspn(text, LETTERS_AND_DIGITS "_-.@") != len ||
		strspn(text, "0123456789.") == len || text[0] == '.' || text[0] == '-')
		return DMSHOOK_SOURCE_BAD;
	return DMSHOOK_SOURCE_INTERFACE;
}

bool
dmshook_egress_proxy(const char *text, char *host, size_t size, int *port)
{
	const char *end;
	size_t		len;

	*port = 0;
	if (strncasecmp(text, "http://", 7) == 0)
		text += 7;
	if (text[0] == '[')
	{
		char		inner[INET6_ADDRSTRLEN];
		struct sockaddr_storage address;

		end = strchr(text, ']');
		len = end != NULL ? (size_t) (end - text) - 1 : 0;
		if (len == 0 || len >= sizeof(inner))
			return false;
		memcpy(inner, text + 1, len);
		inner[len] = '\0';
		if (!read_address(inner, &address) || address.ss_family != AF_INET6)
			return false;
		end++;
	}
	else
	{
		end = text + strspn(text, LETTERS_AND_DIGITS "-_.");
		if (end == text || text[0] == '.' || text[0] == '-')
			return false;
	}
	len = (size_t) (end - text);
	if (*end++ != ':' || len >= size || len >= MAX_HOST_LEN)
		return false;
	memcpy(host, text, len);
	host[len] = '\0';

	len = strspn(end, "0123456789");
	for (size_t i = 0; i < len && *port <= 65535; i++)
		*port = *port * 10 + (end[i] - '0');
	end += len;
	if (*end == '/')
		end++;
	return *end == '\0' && *port >= 1 && *port <= 65535;
}

DmshookHost
dmshook_egress_host(const char *host, struct sockaddr_storage *address)
{
	char		plain[MAX_HOST_LEN];
	size_t		len = strlen(host);
	const char *last;

	if (len > 1 && host[0] == '[' && host[len - 1] == ']')
	{
		host++;
		len -= 2;
	}
	while (len > 0 && host[len - 1] == '.')
		len--;
	if (len == 0 || len >= sizeof(plain))
		return DMSHOOK_HOST_ODD;
	memcpy(plain, host, len);
	plain[len] = '\0';
	/* a zone says by which interface: the address is the same */
	if (strchr(plain, ':') != NULL)
		plain[strcspn(plain, "%")] = '\0';

	if (read_address(plain, address))
		return DMSHOOK_HOST_ADDRESS;
	if (always_loopback(plain))
		return read_address("127.0.0.1", address) ? DMSHOOK_HOST_ADDRESS : DMSHOOK_HOST_ODD;
	last = strrchr(plain, '.');
	if (is_number(last != NULL ? last + 1 : plain) || strspn(plain, LETTERS_AND_DIGITS "-_.") != strlen(plain))
		return DMSHOOK_HOST_ODD;
	return DMSHOOK_HOST_NAME;
}

static bool
read_address(const char *text, struct sockaddr_storage *address)
{
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
		memcpy(address, &four, sizeof(four));
	else if (inet_pton(AF_INET6, text, &six.sin6_addr) == 1)
		memcpy(address, &six, sizeof(six));
	else
		return false;
	return true;
}

/* Decimal, octal or hexadecimal, as inet_aton() takes it. */
static bool
is_number(const char *label)
{
	size_t		len = strlen(label);

	if (len > 1 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X'))
		return strspn(label + 2, "0123456789abcdefABCDEF") == len - 2;
	return len > 0 && strspn(label, "0123456789") == len;
}

/* RFC 6761, and what hosts files have. */
static bool
always_loopback(const char *host)
{
	static const char *const names[] = {"localhost", "localhost.localdomain", "localhost6", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback"};
	size_t		len = strlen(host);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (strcasecmp(host, names[i]) == 0)
			return true;
	}
	return len > 10 && strcasecmp(host + len - 10, ".localhost") == 0;
}
