/*
 * Tests of src/egress.c: what dmshook.source_address and dmshook.proxy may be, and
 * which hosts of URLs are addresses.
 */
#include "egress.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "unit.h"

static void
sources(void)
{
	static const struct
	{
		const char *text;
		DmshookSource is;
	}			cases[] = {
		{"", DMSHOOK_SOURCE_NONE}, {NULL, DMSHOOK_SOURCE_NONE},
		{"10.0.0.5", DMSHOOK_SOURCE_IPV4}, {"0.0.0.0", DMSHOOK_SOURCE_IPV4}, {"fd00::5", DMSHOOK_SOURCE_IPV6}, {"::1", DMSHOOK_SOURCE_IPV6},
		{"eth0", DMSHOOK_SOURCE_INTERFACE}, {"eth0.100", DMSHOOK_SOURCE_INTERFACE}, {"wg-dms_1", DMSHOOK_SOURCE_INTERFACE},
		{"veth12@if7", DMSHOOK_SOURCE_INTERFACE}, {"abcdefghijklmno", DMSHOOK_SOURCE_INTERFACE},
		{"abcdefghijklmnop", DMSHOOK_SOURCE_BAD}, {"10.0.0", DMSHOOK_SOURCE_BAD}, {"10.0.0.5/24", DMSHOOK_SOURCE_BAD}, {"10.0.0.256", DMSHOOK_SOURCE_BAD},
		{"10.0.0.5 ", DMSHOOK_SOURCE_BAD}, {"eth0,eth1", DMSHOOK_SOURCE_BAD}, {"if!eth0", DMSHOOK_SOURCE_BAD}, {"host!10.0.0.5", DMSHOOK_SOURCE_BAD},
		{"eth 0", DMSHOOK_SOURCE_BAD}, {"../x", DMSHOOK_SOURCE_BAD}, {"-x", DMSHOOK_SOURCE_BAD}, {"fe80::1%eth0", DMSHOOK_SOURCE_BAD}, {"eth0:1", DMSHOOK_SOURCE_BAD}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = cases[i].text != NULL ? unit_exact(cases[i].text, strlen(cases[i].text) + 1) : NULL;

		CHECK(dmshook_egress_source(copy) == cases[i].is, "\"%s\": %d", cases[i].text != NULL ? cases[i].text : "NULL", dmshook_egress_source(copy));
		free(copy);
	}
}

static void
proxies(void)
{
	static const struct
	{
		const char *text;
		const char *host;		/* NULL: malformed */
		int			port;
	}			cases[] = {
		{"http://proxy.example.com:3128", "proxy.example.com", 3128}, {"proxy:8080", "proxy", 8080}, {"HTTP://10.0.0.1:1/", "10.0.0.1", 1},
		{"http://[fd00::1]:65535", "[fd00::1]", 65535}, {"[::1]:3128", "[::1]", 3128}, {"http://my_proxy:03128", "my_proxy", 3128},
		{"", NULL, 0}, {"http://", NULL, 0}, {"proxy", NULL, 0}, {"http://proxy", NULL, 0}, {"http://proxy:", NULL, 0}, {"http://proxy:0", NULL, 0},
		{"http://proxy:65536", NULL, 0}, {"http://proxy:99999999999999999999", NULL, 0}, {"http://:3128", NULL, 0}, {"https://proxy:3128", NULL, 0},
		{"socks5://proxy:1080", NULL, 0}, {"http://user:secret@proxy:3128", NULL, 0}, {"http://proxy:3128/path", NULL, 0}, {"http://proxy:3128?x", NULL, 0},
		{"http://proxy:3128 ", NULL, 0}, {"http://pro xy:3128", NULL, 0}, {"http://proxy:31x", NULL, 0}, {"http://[::1:3128", NULL, 0}, {"http://[]:1", NULL, 0},
		{"http://[10.0.0.1]:1", NULL, 0}, {"http://::1:3128", NULL, 0}, {"http://[fe80::1%eth0]:3128", NULL, 0}, {"http://-x:1", NULL, 0}, {"http://.x:1", NULL, 0},
		{"http://pr\303\266xy:1", NULL, 0}, {"http://proxy\r\nx:1", NULL, 0}
	};
	char		host[256];
	char		small[6];
	int			port;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = unit_exact(cases[i].text, strlen(cases[i].text) + 1);
		bool		ok = dmshook_egress_proxy(copy, host, sizeof(host), &port);

		CHECK(ok == (cases[i].host != NULL), "\"%s\"", cases[i].text);
		CHECK(!ok || (strcmp(host, cases[i].host) == 0 && port == cases[i].port), "\"%s\": %s %d", cases[i].text, host, port);
		free(copy);
	}
	CHECK(dmshook_egress_proxy("proxy:1", small, sizeof(small), &port) && !dmshook_egress_proxy("proxy2:1", small, sizeof(small), &port), "room");
}

static void
hosts(void)
{
	static const struct
	{
		const char *host;
		DmshookHost is;
		const char *address;
	}			cases[] = {
		{"example.com", DMSHOOK_HOST_NAME, NULL}, {"example.com.", DMSHOOK_HOST_NAME, NULL}, {"a", DMSHOOK_HOST_NAME, NULL}, {"1and1.com", DMSHOOK_HOST_NAME, NULL},
		{"127.0.0.1.example.com", DMSHOOK_HOST_NAME, NULL}, {"xn--bcher-kva.example", DMSHOOK_HOST_NAME, NULL}, {"0x", DMSHOOK_HOST_ODD, NULL}, {"notlocalhost", DMSHOOK_HOST_NAME, NULL},
		{"127.0.0.1", DMSHOOK_HOST_ADDRESS, "127.0.0.1"}, {"127.0.0.1.", DMSHOOK_HOST_ADDRESS, "127.0.0.1"}, {"127.0.0.1...", DMSHOOK_HOST_ADDRESS, "127.0.0.1"},
		{"8.8.8.8", DMSHOOK_HOST_ADDRESS, "8.8.8.8"}, {"::1", DMSHOOK_HOST_ADDRESS, "::1"}, {"[::1]", DMSHOOK_HOST_ADDRESS, "::1"},
		{"::ffff:127.0.0.1", DMSHOOK_HOST_ADDRESS, "::ffff:127.0.0.1"}, {"fe80::1%25eth0", DMSHOOK_HOST_ADDRESS, "fe80::1"}, {"fe80::1%eth0", DMSHOOK_HOST_ADDRESS, "fe80::1"},
		{"localhost", DMSHOOK_HOST_ADDRESS, "127.0.0.1"}, {"LocalHost.", DMSHOOK_HOST_ADDRESS, "127.0.0.1"}, {"foo.localhost", DMSHOOK_HOST_ADDRESS, "127.0.0.1"},
		{"localhost.localdomain", DMSHOOK_HOST_ADDRESS, "127.0.0.1"}, {"ip6-localhost", DMSHOOK_HOST_ADDRESS, "127.0.0.1"},
		{"2130706433", DMSHOOK_HOST_ODD, NULL}, {"0x7f000001", DMSHOOK_HOST_ODD, NULL}, {"0X7F.1", DMSHOOK_HOST_ODD, NULL}, {"017700000001", DMSHOOK_HOST_ODD, NULL},
		{"0177.0.0.1", DMSHOOK_HOST_ODD, NULL}, {"127.1", DMSHOOK_HOST_ODD, NULL}, {"127.0.0.1.1", DMSHOOK_HOST_ODD, NULL}, {"256.0.0.1", DMSHOOK_HOST_ODD, NULL},
		{"example.0x1", DMSHOOK_HOST_ODD, NULL}, {"", DMSHOOK_HOST_ODD, NULL}, {".", DMSHOOK_HOST_ODD, NULL}, {"...", DMSHOOK_HOST_ODD, NULL}, {"[]", DMSHOOK_HOST_ODD, NULL},
		{"exa%6dple.com", DMSHOOK_HOST_ODD, NULL}, {"a b", DMSHOOK_HOST_ODD, NULL}, {"\303\274.example", DMSHOOK_HOST_ODD, NULL}, {"::1::", DMSHOOK_HOST_ODD, NULL}, {"a\r\nb", DMSHOOK_HOST_ODD, NULL}
	};
	char		longest[300];
	struct sockaddr_storage address;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = unit_exact(cases[i].host, strlen(cases[i].host) + 1);
		DmshookHost is = dmshook_egress_host(copy, &address);
		char		text[INET6_ADDRSTRLEN] = "";

		CHECK(is == cases[i].is, "\"%s\": %d", cases[i].host, is);
		if (is == DMSHOOK_HOST_ADDRESS && cases[i].address != NULL)
		{
			const void *bytes = address.ss_family == AF_INET ? (void *) &((struct sockaddr_in *) &address)->sin_addr : (void *) &((struct sockaddr_in6 *) &address)->sin6_addr;

			inet_ntop(address.ss_family, bytes, text, sizeof(text));
			CHECK(strcmp(text, cases[i].address) == 0, "\"%s\": %s", cases[i].host, text);
		}
		free(copy);
	}
	memset(longest, 'a', sizeof(longest));
	longest[255] = '\0';
	CHECK(dmshook_egress_host(longest, &address) == DMSHOOK_HOST_NAME, "255 bytes");
	longest[255] = 'a';
	longest[256] = '\0';
	CHECK(dmshook_egress_host(longest, &address) == DMSHOOK_HOST_ODD, "256 bytes");
}

int
main(void)
{
	unit_group("source addresses", sources);
	unit_group("proxies", proxies);
	unit_group("hosts of URLs, as a proxy may read them", hosts);
	return unit_done();
}
