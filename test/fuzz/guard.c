/*
 * Addresses, networks and ports. An input is a line of networks or ports and the
 * bytes of an address: four or sixteen of them, the family first.
 *
 * sources: src/guard.c
 */
#include "guard.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "fuzz.h"

/* The same IPv4 address inside IPv6, in each way there is, is never public. */
static void
hidden(const struct in_addr *v4)
{
	static const uint8_t prefixes[][12] = {
		{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, /* mapped */
		{0},					/* compatible */
		{0, 0x64, 0xff, 0x9b},	/* NAT64 */
	};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	const char *why;

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
	{
		memcpy(&v6.sin6_addr, prefixes[i], 12);
		memcpy(v6.sin6_addr.s6_addr + 12, v4, 4);
		MUST(!dmshook_guard_public((struct sockaddr *) &v6, &why));
		MUST(why != NULL && why[0] != '\0');
	}
	memset(&v6.sin6_addr, 0, 16);
	v6.sin6_addr.s6_addr[0] = 0x20;
	v6.sin6_addr.s6_addr[1] = 0x02;
	memcpy(v6.sin6_addr.s6_addr + 2, v4, 4);	/* 6to4 */
	MUST(!dmshook_guard_public((struct sockaddr *) &v6, &why));
}

/* What is certainly not public, decided by hand and not by the table. */
static bool
certainly_inner(const uint8_t *b)
{
	return b[0] == 0 || b[0] == 10 || b[0] == 127 || b[0] >= 224 || (b[0] == 192 && b[1] == 168) ||
		(b[0] == 172 && (b[1] & 0xf0) == 16) || (b[0] == 169 && b[1] == 254) || (b[0] == 100 && (b[1] & 0xc0) == 64);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *list = fuzz_line(&data, &size);
	struct sockaddr_storage address = {0};
	const char *why = NULL;
	char		bad[64];
	bool		public,
				inside,
				good;

	memset(bad, 'x', sizeof(bad));
	good = dmshook_guard_check_networks(list, bad, sizeof(bad));
	if (!good)
		MUST(memchr(bad, '\0', sizeof(bad)) != NULL);
	dmshook_guard_check_ports(list, bad, sizeof(bad));
	for (int port = 0; port <= 65536; port += 4096)
		dmshook_guard_port(port, list);

	if (size > 0 && data[0] % 2 == 0 && size >= 5)
	{
		struct sockaddr_in *v4 = (struct sockaddr_in *) &address;

		v4->sin_family = AF_INET;
		memcpy(&v4->sin_addr, data + 1, 4);
		hidden(&v4->sin_addr);
		if (certainly_inner(data + 1))
			MUST(!dmshook_guard_public((struct sockaddr *) &address, &why));
	}
	else if (size >= 17)
	{
		struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &address;

		v6->sin6_family = AF_INET6;
		memcpy(&v6->sin6_addr, data + 1, 16);
		if ((data[1] & 0xe0) != 0x20)
			MUST(!dmshook_guard_public((struct sockaddr *) &address, &why));
	}
	else
		address.ss_family = size > 0 ? data[0] : AF_UNIX;

	public = dmshook_guard_public((struct sockaddr *) &address, &why);
	MUST(public || why != NULL);
	inside = dmshook_guard_in_networks((struct sockaddr *) &address, list);
	MUST(dmshook_guard_allows((struct sockaddr *) &address, list, &why) == (public || inside));
	MUST(!dmshook_guard_in_networks((struct sockaddr *) &address, ""));
	free(list);
	return 0;
}
