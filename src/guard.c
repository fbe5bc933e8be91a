/*
 * guard.c - which addresses and ports may be reached.
 *
 * Asked by transport.c about the very address that a socket is about to be connected to,
 * after DNS: spellings of a host name (decimal, octal, a trailing dot) and answers
 * that change between two look-ups make no difference here. Pure: no
 * PostgreSQL, no allocation, no errors, no look-up of names. Safe inside curl's
 * callbacks.
 *
 * The source is IANA's special-purpose address registries for IPv4 and IPv6
 * (RFC 6890, as of 2025), taken whole: also the blocks that are globally reachable
 * (AS112, AMT, PCP anycast), for no webhook's receiver is in them. Added are
 * multicast, what IANA never assigned for unicast, forms in which an IPv4
 * address hides in an IPv6 one, and the addresses outside private blocks at which clouds
 * serve credentials. Not knowable from here: a network's own NAT64 prefix,
 * and public addresses that are routed to inner machines.
 */
#include "guard.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

/* Longest entry of a list of networks that can be well-formed, and its zero byte. */
#define MAX_NETWORK_LEN	(INET6_ADDRSTRLEN + 4)

#define BLANKS			" \t\r\n"

/* An address in network order; IPv4 uses the first four bytes. */
typedef struct GuardAddress
{
	int			family;
	uint8_t		bytes[16];
} GuardAddress;

typedef struct GuardNetwork
{
	GuardAddress address;
	int			bits;
} GuardNetwork;

typedef struct GuardBlock
{
	uint8_t		bytes[16];
	uint8_t		bits;
	const char *name;
} GuardBlock;

/* Of blocks inside each other the inner one comes first: its name says more. */
static const GuardBlock blocks4[] = {
	{{0}, 8, "this network, RFC 1122"},
	{{10}, 8, "private use, RFC 1918"},
	{{100, 100, 100, 200}, 32, "metadata service of Alibaba Cloud"},
	{{100, 64}, 10, "shared address space (carrier-grade NAT), RFC 6598"},
	{{127}, 8, "loopback, RFC 1122"},
	{{168, 63, 129, 16}, 32, "platform service of Microsoft Azure"},
	{{169, 254, 169, 254}, 32, "link-local, RFC 3927: metadata service of clouds"},
	{{169, 254}, 16, "link-local, RFC 3927"},
	{{172, 16}, 12, "private use, RFC 1918"},
	{{192, 0, 0, 0}, 29, "IPv4 service continuity (DS-Lite), RFC 7335"},
	{{192, 0, 0, 0}, 24, "IETF protocol assignments, RFC 6890"},
	{{192, 0, 2}, 24, "documentation (TEST-NET-1), RFC 5737"},
	{{192, 31, 196}, 24, "AS112, RFC 7535"},
	{{192, 52, 193}, 24, "multicast tunneling (AMT), RFC 7450"},
	{{192, 88, 99}, 24, "6to4 relay anycast, RFC 7526"},
	{{192, 168}, 16, "private use, RFC 1918"},
	{{192, 175, 48}, 24, "AS112, RFC 7534"},
	{{198, 18}, 15, "benchmarking, RFC 2544"},
	{{198, 51, 100}, 24, "documentation (TEST-NET-2), RFC 5737"},
	{{203, 0, 113}, 24, "documentation (TEST-NET-3), RFC 5737"},
	{{224}, 4, "multicast, RFC 5771"},
	{{255, 255, 255, 255}, 32, "limited broadcast, RFC 919"},
	{{240}, 4, "reserved, RFC 1112"},
};

static const GuardBlock blocks6[] = {
	{{0}, 128, "unspecified address, RFC 4291"},
	{{[15] = 1}, 128, "loopback, RFC 4291"},
	{{0}, 96, "IPv4-compatible IPv6 address, RFC 4291"},
	{{[10] = 0xff, [11] = 0xff}, 96, "IPv4-mapped IPv6 address, RFC 4291"},
	{{[8] = 0xff, [9] = 0xff}, 96, "IPv4-translated IPv6 address, RFC 2765"},
	{{0x00, 0x64, 0xff, 0x9b}, 96, "IPv4/IPv6 translation (NAT64), RFC 6052"},
	{{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48, "IPv4/IPv6 translation (NAT64), RFC 8215"},
	{{0x01, 0x00}, 64, "discard-only, RFC 6666"},
	{{0x01, 0x00, 0, 0, 0, 0, 0, 1}, 64, "dummy prefix, RFC 9780"},
	{{0x20, 0x01}, 32, "Teredo, RFC 4380"},
	{{0x20, 0x01, 0x00, 0x02}, 48, "benchmarking, RFC 5180"},
	{{0x20, 0x01, 0x00, 0x03}, 32, "multicast tunneling (AMT), RFC 7450"},
	{{0x20, 0x01, 0x00, 0x04, 0x01, 0x12}, 48, "AS112, RFC 7535"},
	{{0x20, 0x01, 0x00, 0x10}, 28, "ORCHID, RFC 4843"},
	{{0x20, 0x01, 0x00, 0x20}, 28, "ORCHIDv2, RFC 7343"},
	{{0x20, 0x01, 0x00, 0x30}, 28, "drone identifiers, RFC 9374"},
	{{0x20, 0x01}, 23, "IETF protocol assignments, RFC 2928"},
	{{0x20, 0x01, 0x0d, 0xb8}, 32, "documentation, RFC 3849"},
	{{0x20, 0x02}, 16, "6to4, RFC 3056"},
	{{0x26, 0x20, 0x00, 0x4f, 0x80, 0x00}, 48, "AS112, RFC 7534"},
	{{0x3f, 0xff}, 20, "documentation, RFC 9637"},
	{{0x5f, 0x00}, 16, "segment routing identifiers, RFC 9602"},
	{{0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}, 128, "unique local, RFC 4193: metadata service of Amazon"},
	{{0xfc}, 7, "unique local, RFC 4193"},
	{{0xfe, 0x80}, 10, "link-local, RFC 4291"},
	{{0xfe, 0xc0}, 10, "site-local, RFC 3879"},
	{{0xff}, 8, "multicast, RFC 4291"},
};

/* All public unicast addresses of IPv6 are in here, 2000::/3. */
static const GuardBlock unicast6 = {{0x20}, 3, "not assigned for unicast, RFC 4291"};

static bool address_read(const struct sockaddr *from, GuardAddress *to);
static bool address_unmap(const GuardAddress *from, GuardAddress *to);
static bool prefix_equal(const uint8_t *a, const uint8_t *b, int bits);
static const char *block_name(const GuardBlock *blocks, size_t n, const uint8_t *bytes);
static bool network_parse(const char *text, size_t len, GuardNetwork *network);
static bool network_has(const GuardNetwork *network, const GuardAddress *address);
static const char *entry_next(const char **rest, size_t *len);
static void entry_copy(const char *entry, size_t len, char *to, size_t size);
static bool port_parse(const char *text, size_t len, int *from, int *to);

bool
dmshook_guard_public(const struct sockaddr *address, const char **why)
{
	GuardAddress a;
	const char *name = NULL;

	if (!address_read(address, &a))
		name = "neither IPv4 nor IPv6";
	else if (a.family == AF_INET)
		name = block_name(blocks4, sizeof(blocks4) / sizeof(blocks4[0]), a.bytes);
	else
	{
		name = block_name(blocks6, sizeof(blocks6) / sizeof(blocks6[0]), a.bytes);
		if (name == NULL && !prefix_equal(a.bytes, unicast6.bytes, unicast6.bits))
			name = unicast6.name;
	}
	if (why != NULL)
		*why = name;
	return name == NULL;
}

bool
dmshook_guard_in_networks(const struct sockaddr *address, const char *networks)
{
	GuardAddress a;
	GuardAddress inner;
	bool		mapped;
	const char *entry;
	size_t		len;

	if (networks == NULL || !address_read(address, &a))
		return false;
	mapped = address_unmap(&a, &inner);

	while ((entry = entry_next(&networks, &len)) != NULL)
	{
		GuardNetwork network;

		if (network_parse(entry, len, &network) &&
			(network_has(&network, &a) || (mapped && network_has(&network, &inner))))
			return true;
	}
	return false;
}

bool
dmshook_guard_check_networks(const char *networks, char *bad, size_t size)
{
	const char *entry;
	size_t		len;

	if (networks == NULL || networks[strspn(networks, BLANKS)] == '\0')
		return true;

	while ((entry = entry_next(&networks, &len)) != NULL)
	{
		GuardNetwork network;

		if (network_parse(entry, len, &network))
			continue;
		entry_copy(entry, len, bad, size);
		return false;
	}
	return true;
}

bool
dmshook_guard_port(int port, const char *ports)
{
	const char *entry;
	size_t		len;

	while (ports != NULL && (entry = entry_next(&ports, &len)) != NULL)
	{
		int			from;
		int			to;

		if (port_parse(entry, len, &from, &to) && port >= from && port <= to)
			return true;
	}
	return false;
}

bool
dmshook_guard_check_ports(const char *ports, char *bad, size_t size)
{
	const char *entry;
	size_t		len;

	if (ports == NULL)
		return false;
	while ((entry = entry_next(&ports, &len)) != NULL)
	{
		int			from;
		int			to;

		if (port_parse(entry, len, &from, &to))
			continue;
		entry_copy(entry, len, bad, size);
		return false;
	}
	return true;
}

bool
dmshook_guard_allows(const struct sockaddr *address, const char *networks, const char **why)
{
	if (dmshook_guard_public(address, why))
		return true;
	if (!dmshook_guard_in_networks(address, networks))
		return false;
	if (why != NULL)
		*why = NULL;
	return true;
}

/*
 * Copied out, for a sockaddr in curl's buffers need not be aligned for its
 * true type.
 */
static bool
address_read(const struct sockaddr *from, GuardAddress *to)
{
	sa_family_t family;

	if (from == NULL)
		return false;
	memset(to, 0, sizeof(*to));
	memcpy(&family, (const char *) from + offsetof(struct sockaddr, sa_family), sizeof(family));
	to->family = family;
	if (family == AF_INET)
		memcpy(to->bytes, (const char *) from + offsetof(struct sockaddr_in, sin_addr), 4);
	else if (family == AF_INET6)
		memcpy(to->bytes, (const char *) from + offsetof(struct sockaddr_in6, sin6_addr), 16);
	else
		return false;
	return true;
}

/* The IPv4 address in ::ffff:a.b.c.d; the kernel connects to that. */
static bool
address_unmap(const GuardAddress *from, GuardAddress *to)
{
	static const uint8_t prefix[16] = {[10] = 0xff, [11] = 0xff};

	if (from->family != AF_INET6 || !prefix_equal(from->bytes, prefix, 96))
		return false;
	memset(to, 0, sizeof(*to));
	to->family = AF_INET;
	memcpy(to->bytes, from->bytes + 12, 4);
	return true;
}

static bool
prefix_equal(const uint8_t *a, const uint8_t *b, int bits)
{
	int			whole = bits / 8;
	int			rest = bits % 8;

	if (memcmp(a, b, (size_t) whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static const char *
block_name(const GuardBlock *blocks, size_t n, const uint8_t *bytes)
{
	for (size_t i = 0; i < n; i++)
	{
		if (prefix_equal(bytes, blocks[i].bytes, blocks[i].bits))
			return blocks[i].name;
	}
	return NULL;
}

/*
 * "10.20.0.0/16", "127.0.0.1", "fd00::/8". inet_pton takes nothing but the plain
 * spelling (no octal, no missing parts, no zone). A network inside
 * ::ffff:0:0/96 becomes the IPv4 network that it is.
 */
static bool
network_parse(const char *text, size_t len, GuardNetwork *network)
{
	char		buffer[MAX_NETWORK_LEN];
	char	   *slash;
	int			width;
	GuardAddress inner;

	if (len == 0 || len >= sizeof(buffer) || memchr(text, '\0', len) != NULL)
		return false;
	memcpy(buffer, text, len);
	buffer[len] = '\0';
	slash = strchr(buffer, '/');
	if (slash != NULL)
		*slash++ = '\0';

	memset(network, 0, sizeof(*network));
	network->address.family = strchr(buffer, ':') != NULL ? AF_INET6 : AF_INET;
	if (inet_pton(network->address.family, buffer, network->address.bytes) != 1)
		return false;
	width = network->address.family == AF_INET6 ? 128 : 32;

	network->bits = width;
	if (slash != NULL)
	{
		size_t		digits = strspn(slash, "0123456789");

		if (digits == 0 || digits > 3 || slash[digits] != '\0' || (digits > 1 && slash[0] == '0'))
			return false;
		network->bits = 0;
		for (size_t i = 0; i < digits; i++)
			network->bits = network->bits * 10 + (slash[i] - '0');
		if (network->bits > width)
			return false;
	}

	/* a bit behind the mask: the writer meant another network, or one address */
	for (int i = network->bits; i < width; i++)
	{
		if (network->address.bytes[i / 8] & (0x80 >> (i % 8)))
			return false;
	}

	/* (a shorter mask would have left the ffff behind it) */
	if (address_unmap(&network->address, &inner))
	{
		network->address = inner;
		network->bits -= 96;
	}
	return true;
}

static bool
network_has(const GuardNetwork *network, const GuardAddress *address)
{
	return network->address.family == address->family &&
		prefix_equal(network->address.bytes, address->bytes, network->bits);
}

/*
 * The next entry of a comma-separated list, without the blanks around it, and
 * *rest moved behind it (NULL after the last). NULL: there are no more.
 */
static const char *
entry_next(const char **rest, size_t *len)
{
	const char *entry = *rest;
	const char *end;

	if (entry == NULL)
		return NULL;
	end = entry + strcspn(entry, ",");
	*rest = *end == ',' ? end + 1 : NULL;
	entry += strspn(entry, BLANKS);
	while (end > entry && strchr(BLANKS, end[-1]) != NULL)
		end--;
	*len = end > entry ? (size_t) (end - entry) : 0;
	return entry;
}

static void
entry_copy(const char *entry, size_t len, char *to, size_t size)
{
	if (to == NULL || size == 0)
		return;
	if (len >= size)
		len = size - 1;
	memcpy(to, entry, len);
	to[len] = '\0';
}

/* "443", "1024-2000", or "1024-": that and all above. */
static bool
port_parse(const char *text, size_t len, int *from, int *to)
{
	int			bound[2] = {0, 65535};
	size_t		digits = 0;
	int			n = 0;

	for (size_t i = 0; i < len; i++)
	{
		if (text[i] == '-' && n == 0)
		{
			n = 1;
			digits = 0;
		}
		else if (text[i] >= '0' && text[i] <= '9' && ++digits <= 5)
			bound[n] = (digits == 1 ? 0 : bound[n] * 10) + (text[i] - '0');
		else
			return false;
	}
	if (n == 0)
		bound[1] = bound[0];
	*from = bound[0];
	*to = bound[1];
	return len > 0 && *from >= 1 && *to >= *from && *to <= 65535;
}
