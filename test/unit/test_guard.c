/*
 * Tests of src/guard.c: which addresses are public, and lists of networks.
 *
 * The file under test is included, to see that its tables hold nothing which
 * the list of blocks here does not test, entry by entry at both edges.
 */
#include "../../src/guard.c"

#include <sys/un.h>

#include "unit.h"

/* A sockaddr of a literal address, as getaddrinfo would give it, at the end of its memory. */
static struct sockaddr *
address_of(const char *text)
{
	struct sockaddr *address;

	if (strchr(text, ':') != NULL)
	{
		struct sockaddr_in6 six = {.sin6_family = AF_INET6,.sin6_port = htons(443)};

		if (inet_pton(AF_INET6, text, &six.sin6_addr) != 1)
			abort();
		address = malloc(sizeof(six));
		memcpy(address, &six, sizeof(six));
	}
	else
	{
		struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(443)};

		if (inet_pton(AF_INET, text, &four.sin_addr) != 1)
			abort();
		address = malloc(sizeof(four));
		memcpy(address, &four, sizeof(four));
	}
	return address;
}

static bool
is_public(const char *text, const char **why)
{
	struct sockaddr *address = address_of(text);
	bool		result = dmshook_guard_public(address, why);

	free(address);
	return result;
}

static bool
in_networks(const char *text, const char *networks)
{
	struct sockaddr *address = address_of(text);
	bool		result = dmshook_guard_in_networks(address, networks);

	free(address);
	return result;
}

/*
 * Each block with its edges, and the addresses just outside; a "!" before one
 * says that it is not public either (another block begins there).
 */
static const struct
{
	const char *name;			/* how the reason begins */
	const char *first;
	const char *last;
	const char *before;			/* NULL: there is none */
	const char *after;
	const char *first_name;		/* where an inner block begins with the same address; else NULL */
	const char *last_name;
}			blocks[] = {
	{"this network", "0.0.0.0", "0.255.255.255", NULL, "1.0.0.0", NULL, NULL},
	{"private use", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0", NULL, NULL},
	{"shared address space", "100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0", NULL, NULL},
	{"metadata service of Alibaba", "100.100.100.200", "100.100.100.200", "!100.100.100.199", "!100.100.100.201", NULL, NULL},
	{"loopback", "127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0", NULL, NULL},
	{"platform service of Microsoft Azure", "168.63.129.16", "168.63.129.16", "168.63.129.15", "168.63.129.17", NULL, NULL},
	{"link-local", "169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0", NULL, NULL},
	{"link-local, RFC 3927: metadata", "169.254.169.254", "169.254.169.254", "!169.254.169.253", "!169.254.169.255", NULL, NULL},
	{"private use", "172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0", NULL, NULL},
	{"IPv4 service continuity", "192.0.0.0", "192.0.0.7", "191.255.255.255", "!192.0.0.8", NULL, NULL},
	{"IETF protocol", "192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0", "IPv4 service", NULL},
	{"documentation", "192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0", NULL, NULL},
	{"AS112", "192.31.196.0", "192.31.196.255", "192.31.195.255", "192.31.197.0", NULL, NULL},
	{"multicast tunneling", "192.52.193.0", "192.52.193.255", "192.52.192.255", "192.52.194.0", NULL, NULL},
	{"6to4 relay", "192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0", NULL, NULL},
	{"private use", "192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0", NULL, NULL},
	{"AS112", "192.175.48.0", "192.175.48.255", "192.175.47.255", "192.175.49.0", NULL, NULL},
	{"benchmarking", "198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0", NULL, NULL},
	{"documentation", "198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0", NULL, NULL},
	{"documentation", "203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0", NULL, NULL},
	{"multicast", "224.0.0.0", "239.255.255.255", "223.255.255.255", "!240.0.0.0", NULL, NULL},
	{"reserved", "240.0.0.0", "255.255.255.255", "!239.255.255.255", NULL, NULL, "limited broadcast"},
	{"limited broadcast", "255.255.255.255", "255.255.255.255", "!255.255.255.254", NULL, NULL, NULL},

	{"unspecified", "::", "::", NULL, "!::1", NULL, NULL},
	{"loopback", "::1", "::1", "!::", "!::2", NULL, NULL},
	{"IPv4-compatible", "::", "::ffff:ffff", NULL, "!::1:0:0", "unspecified", NULL},
	{"IPv4-mapped", "::ffff:0:0", "::ffff:ffff:ffff", "!::fffe:ffff:ffff", "!::1:0:0:0", NULL, NULL},
	{"IPv4-translated", "::ffff:0:0:0", "::ffff:0:ffff:ffff", "!::fffe:ffff:ffff:ffff", "!::ffff:1:0:0", NULL, NULL},
	{"IPv4/IPv6 translation (NAT64), RFC 6052", "64:ff9b::", "64:ff9b::ffff:ffff", "!64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "!64:ff9b::1:0:0", NULL, NULL},
	{"IPv4/IPv6 translation (NAT64), RFC 8215", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "!64:ff9b:0:ffff:ffff:ffff:ffff:ffff", "!64:ff9b:2::", NULL, NULL},
	{"discard-only", "100::", "100::ffff:ffff:ffff:ffff", "!ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!100:0:0:1::", NULL, NULL},
	{"dummy prefix", "100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", "!100::ffff:ffff:ffff:ffff", "!100:0:0:2::", NULL, NULL},
	{"Teredo", "2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:1::", NULL, NULL},
	{"benchmarking", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "!2001:1:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:2:1::", NULL, NULL},
	{"multicast tunneling", "2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:2:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:4::", NULL, NULL},
	{"AS112", "2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff", "!2001:4:111:ffff:ffff:ffff:ffff:ffff", "!2001:4:113::", NULL, NULL},
	{"ORCHID,", "2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:f:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:20::", NULL, NULL},
	{"ORCHIDv2", "2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:30::", NULL, NULL},
	{"drone", "2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", "!2001:40::", NULL, NULL},
	{"IETF protocol", "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::", "Teredo", NULL},
	{"documentation", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", NULL, NULL},
	{"6to4", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::", NULL, NULL},
	{"AS112", "2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8001::", NULL, NULL},
	{"documentation", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::", NULL, NULL},
	{"segment routing", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!5f01::", NULL, NULL},
	{"unique local, RFC 4193: metadata", "fd00:ec2::254", "fd00:ec2::254", "!fd00:ec2::253", "!fd00:ec2::255", NULL, NULL},
	{"unique local", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!fe00::", NULL, NULL},
	{"link-local", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!fec0::", NULL, NULL},
	{"site-local", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!ff00::", NULL, NULL},
	{"multicast", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL, NULL, NULL},
	/* below and above 2000::/3 */
	{"not assigned", "200::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!1ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2000::", NULL, NULL},
	{"not assigned", "4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!5f00::", NULL, NULL},
	{"not assigned", "5f01::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "!fc00::", NULL, NULL},
};

static const size_t nblocks = sizeof(blocks) / sizeof(blocks[0]);

static void
refused(const char *address, const char *name)
{
	const char *why = NULL;

	CHECK(!is_public(address, &why), "%s", address);
	CHECK(why != NULL && strncmp(why, name, strlen(name)) == 0, "%s: %s", address, why == NULL ? "no reason" : why);
}

static void
edges(void)
{
	for (size_t i = 0; i < nblocks; i++)
	{
		const char *outside[] = {blocks[i].before, blocks[i].after};

		refused(blocks[i].first, blocks[i].first_name != NULL ? blocks[i].first_name : blocks[i].name);
		refused(blocks[i].last, blocks[i].last_name != NULL ? blocks[i].last_name : blocks[i].name);
		for (int k = 0; k < 2; k++)
		{
			const char *why = "not set";

			if (outside[k] == NULL)
				continue;
			if (outside[k][0] == '!')
				CHECK(!is_public(outside[k] + 1, &why) && why != NULL, "%s", outside[k] + 1);
			else
				CHECK(is_public(outside[k], &why) && why == NULL, "%s: %s", outside[k], why);
		}
	}
}

/* A table entry that is not among the blocks above is one without a test. */
static void
every_entry_is_tested(void)
{
	static const struct
	{
		const GuardBlock *entries;
		size_t		n;
		int			width;
	}			tables[] = {
		{blocks4, sizeof(blocks4) / sizeof(blocks4[0]), 32},
		{blocks6, sizeof(blocks6) / sizeof(blocks6[0]), 128},
	};

	for (int t = 0; t < 2; t++)
	{
		int			family = tables[t].width == 32 ? AF_INET : AF_INET6;

		for (size_t i = 0; i < tables[t].n; i++)
		{
			const GuardBlock *entry = &tables[t].entries[i];
			uint8_t		last[16];
			char		first_text[INET6_ADDRSTRLEN];
			char		last_text[INET6_ADDRSTRLEN];
			int			found = 0;

			memcpy(last, entry->bytes, 16);
			for (int bit = entry->bits; bit < tables[t].width; bit++)
			{
				CHECK((entry->bytes[bit / 8] & (0x80 >> bit % 8)) == 0, "%s: bit %d behind the mask", entry->name, bit);
				last[bit / 8] |= (uint8_t) (0x80 >> bit % 8);
			}
			inet_ntop(family, entry->bytes, first_text, sizeof(first_text));
			inet_ntop(family, last, last_text, sizeof(last_text));
			for (size_t k = 0; k < nblocks; k++)
			{
				uint8_t		a[16];
				uint8_t		b[16];

				if (inet_pton(family, blocks[k].first, a) == 1 && inet_pton(family, blocks[k].last, b) == 1 &&
					memcmp(a, entry->bytes, (size_t) tables[t].width / 8) == 0 &&
					memcmp(b, last, (size_t) tables[t].width / 8) == 0)
					found++;
			}
			CHECK(found == 1, "%s, %s to %s: %d tests", entry->name, first_text, last_text, found);
			for (size_t k = 0; k < i; k++)
				CHECK(!(tables[t].entries[k].bits <= entry->bits &&
						prefix_equal(entry->bytes, tables[t].entries[k].bytes, tables[t].entries[k].bits)),
					  "%s is never reached, for %s stands before it", entry->name, tables[t].entries[k].name);
		}
	}
}

/* How much of the address space is public: a mask that is too wide or too short is seen here. */
static void
census(void)
{
	static const struct sockaddr_in template4 = {.sin_family = AF_INET};
	static const struct sockaddr_in6 template6 = {.sin6_family = AF_INET6};
	struct sockaddr_in four = template4;
	struct sockaddr_in6 six = template6;
	int			refused4 = 0;
	int			public6 = 0;

	/* one address of each IPv4 /24 */
	for (uint32_t net = 0; net < 1u << 24; net++)
	{
		four.sin_addr.s_addr = htonl(net << 8 | 77);
		refused4 += !dmshook_guard_public((struct sockaddr *) &four, NULL);
	}
	CHECK(refused4 == 3 * 65536 /* 0, 10, 127 */
		  + 16384				/* 100.64/10 */
		  + 256 + 256			/* 169.254/16, 192.168/16 */
		  + 4096				/* 172.16/12 */
		  + 512					/* 198.18/15 */
		  + 2 * 1048576			/* 224/4, 240/4 */
		  + 8,					/* 192.0.0 192.0.2 192.31.196 192.52.193 192.88.99 192.175.48 198.51.100 203.0.113 */
		  "%d", refused4);

	/* one address of each IPv6 /16: 2000::/3 without 2001:0::, 2002::, 3fff:0:: */
	six.sin6_addr.s6_addr[15] = 9;
	for (int group = 0; group < 65536; group++)
	{
		six.sin6_addr.s6_addr[0] = (uint8_t) (group >> 8);
		six.sin6_addr.s6_addr[1] = (uint8_t) group;
		public6 += dmshook_guard_public((struct sockaddr *) &six, NULL);
	}
	CHECK(public6 == 8192 - 3, "%d", public6);
}

static void
public_addresses(void)
{
	static const char *const addresses[] = {
		"1.1.1.1", "8.8.8.8", "9.9.9.9", "93.184.216.34", "100.0.0.1", "172.15.0.1", "172.217.16.142", "192.1.0.1",
		"198.41.0.4", "203.0.112.1", "223.255.255.254", "2000::1", "2001:4860:4860::8888", "2001:500:2f::f",
		"2606:4700:4700::1111", "2620:fe::fe", "2a00:1450:4001:828::200e", "2003::1", "3ffe::1", "3fff:ffff::1"
	};

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
	{
		const char *why = "not set";

		CHECK(is_public(addresses[i], &why) && why == NULL, "%s: %s", addresses[i], why);
		CHECK(is_public(addresses[i], NULL), "%s, the reason not asked for", addresses[i]);
	}
}

/* An IPv4 address inside an IPv6 one is never public, not even when it is public by itself. */
static void
hidden_ipv4(void)
{
	static const char *const forms[] = {
		"::ffff:%s", "::%s", "::ffff:0:%s", "64:ff9b::%s", "64:ff9b:1::%s", "2001:0:%s::", "2002:0808:0808::%s"
	};
	static const char *const inner[] = {"8.8.8.8", "127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0"};

	for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++)
		for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++)
		{
			char		text[64];
			const char *why = NULL;
			bool		public;

			if (strstr(forms[f], "2001:0:") != NULL)
				strcpy(text, "2001:0:7f00:1::");
			else
			{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
				snprintf(text, sizeof(text), forms[f], inner[i]);
#pragma GCC diagnostic pop
			}
			public = is_public(text, &why);
			CHECK(!public && why != NULL, "%s", text);
		}
}

static void
other_families(void)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/run/x"};
	struct sockaddr_storage other;
	const char *why = NULL;

	CHECK(!dmshook_guard_public((struct sockaddr *) &local, &why) && why != NULL, "AF_UNIX");
	CHECK(!dmshook_guard_allows((struct sockaddr *) &local, "0.0.0.0/0,::/0", &why) && why != NULL, "AF_UNIX, all networks open");
	for (int family = 0; family < 64; family++)
	{
		if (family == AF_INET || family == AF_INET6)
			continue;
		memset(&other, 8, sizeof(other));
		other.ss_family = (sa_family_t) family;
		CHECK(!dmshook_guard_allows((struct sockaddr *) &other, "0.0.0.0/0,::/0", NULL), "family %d", family);
	}
	CHECK(!dmshook_guard_allows(NULL, "0.0.0.0/0", &why) && why != NULL, "no address at all");
	CHECK(!dmshook_guard_in_networks(NULL, "0.0.0.0/0"), "no address at all");
}

static void
network_lists(void)
{
	static const struct
	{
		const char *networks;
		const char *bad;		/* NULL: fine */
	}			cases[] = {
		{"", NULL},
		{"  ", NULL},
		{"10.20.0.0/16", NULL},
		{"10.20.0.0/16,127.0.0.1", NULL},
		{" 10.20.0.0/16 ,\t127.0.0.1\n, fd00::/8 ", NULL},
		{"0.0.0.0/0", NULL},
		{"::/0", NULL},
		{"255.255.255.255/32", NULL},
		{"::1/128", NULL},
		{"::ffff:10.0.0.0/104", NULL},
		{"::ffff:0.0.0.0/96", NULL},
		{"128.0.0.0/1", NULL},
		{"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128", NULL},	/* the longest */
		{"::ffff:0:0/95", "::ffff:0:0/95"},
		{"10.20.0.1/16", "10.20.0.1/16"},
		{"10.0.0.1/31", "10.0.0.1/31"},
		{"fd00::1/127", "fd00::1/127"},
		{"fd00::1/8", "fd00::1/8"},
		{"128.0.0.0/0", "128.0.0.0/0"},
		{"10.0.0.0/33", "10.0.0.0/33"},
		{"::/129", "::/129"},
		{"10.0.0.0/", "10.0.0.0/"},
		{"10.0.0.0/8x", "10.0.0.0/8x"},
		{"10.0.0.0/08", "10.0.0.0/08"},
		{"10.0.0.0/+8", "10.0.0.0/+8"},
		{"10.0.0.0/-8", "10.0.0.0/-8"},
		{"10.0.0.0/ 8", "10.0.0.0/ 8"},
		{"10.0.0.0 /8", "10.0.0.0 /8"},
		{"10.0.0.0/8/8", "10.0.0.0/8/8"},
		{"10.0.0.0/4294967304", "10.0.0.0/4294967304"},
		{"10.0.0.0/255.0.0.0", "10.0.0.0/255.0.0.0"},
		{"10.0.0", "10.0.0"},
		{"10/8", "10/8"},
		{"010.0.0.0/8", "010.0.0.0/8"},
		{"0x0a.0.0.0/8", "0x0a.0.0.0/8"},
		{"167772160/8", "167772160/8"},
		{"256.0.0.0/8", "256.0.0.0/8"},
		{"localhost", "localhost"},
		{"fe80::1%eth0", "fe80::1%eth0"},
		{"[::1]", "[::1]"},
		{"/8", "/8"},
		{",", ""},
		{"10.0.0.0/8,", ""},
		{",10.0.0.0/8", ""},
		{"10.0.0.0/8,,127.0.0.1", ""},
		{"10.0.0.0/8;127.0.0.1", "10.0.0.0/8;127.0.0.1"},
		{"10.0.0.0/8 127.0.0.1", "10.0.0.0/8 127.0.0.1"},
		{"127.0.0.1,nonsense,10.0.0.1/8", "nonsense"},
	};
	char		bad[64];
	char		small[5];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = unit_exact(cases[i].networks, strlen(cases[i].networks) + 1);
		bool		ok;

		strcpy(bad, "not set");
		ok = dmshook_guard_check_networks(copy, bad, sizeof(bad));
		CHECK(ok == (cases[i].bad == NULL), "\"%s\"", cases[i].networks);
		CHECK(ok || strcmp(bad, cases[i].bad) == 0, "\"%s\": \"%s\"", cases[i].networks, bad);
		/* what is not well-formed matches nothing, the rest of the list does */
		if (cases[i].bad != NULL && strchr(cases[i].networks, ',') == NULL)
		{
			CHECK(!in_networks("10.0.0.0", copy), "\"%s\"", cases[i].networks);
			CHECK(!in_networks("127.0.0.1", copy), "\"%s\"", cases[i].networks);
			CHECK(!in_networks("::1", copy), "\"%s\"", cases[i].networks);
		}
		free(copy);
	}
	CHECK(dmshook_guard_check_networks(NULL, bad, sizeof(bad)), "NULL is an empty list");
	CHECK(!dmshook_guard_check_networks("nonsense", small, sizeof(small)) && strcmp(small, "nons") == 0, "cut to size");
	CHECK(!dmshook_guard_check_networks("nonsense", NULL, 0), "no room at all");
}

static void
membership(void)
{
	static const struct
	{
		const char *address;
		const char *networks;
		bool		in;
	}			cases[] = {
		{"10.20.0.0", "10.20.0.0/16", true},
		{"10.20.255.255", "10.20.0.0/16", true},
		{"10.19.255.255", "10.20.0.0/16", false},
		{"10.21.0.0", "10.20.0.0/16", false},
		{"10.20.3.4", "192.168.0.0/16, 10.20.0.0/16", true},
		{"10.20.3.4", "nonsense,,10.20.0.0/16", true},
		{"10.20.3.4", "10.20.0.1/16", false},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.2", "127.0.0.1", false},
		{"127.0.0.1", "", false},
		{"172.16.0.0", "172.16.0.0/12", true},
		{"172.31.255.255", "172.16.0.0/12", true},
		{"172.32.0.0", "172.16.0.0/12", false},
		{"128.0.0.0", "128.0.0.0/1", true},
		{"127.255.255.255", "128.0.0.0/1", false},
		{"1.2.3.4", "0.0.0.0/0", true},
		{"fd12::1", "fd00::/8", true},
		{"fc12::1", "fd00::/8", false},
		{"fd12::1", "fd12::/127", true},
		{"fd12::2", "fd12::/127", false},
		{"::1", "::1", true},
		{"::2", "::1", false},
		/* one family is not in the other's networks */
		{"::1", "0.0.0.0/0", false},
		{"127.0.0.1", "::/0", false},
		{"10.0.0.1", "a00::/8", false},
		{"a00:1::", "10.0.0.0/8", false},
		/* but the mapped form is the same address */
		{"::ffff:10.20.3.4", "10.20.0.0/16", true},
		{"::ffff:10.21.3.4", "10.20.0.0/16", false},
		{"10.20.3.4", "::ffff:10.20.0.0/112", true},
		{"10.20.128.0", "::ffff:10.20.0.0/112", true},
		{"10.20.255.255", "::ffff:10.20.0.0/112", true},
		{"10.21.3.4", "::ffff:10.20.0.0/112", false},
		{"10.21.0.0", "::ffff:10.20.0.0/111", true},
		{"10.22.0.0", "::ffff:10.20.0.0/111", false},
		{"::ffff:10.20.3.4", "::ffff:10.20.0.0/112", true},
		{"::ffff:10.20.3.4", "::ffff:10.20.3.4", true},
		{"10.20.3.4", "::ffff:0:0/96", true},
		{"::ffff:10.20.3.4", "::/0", true},
		{"64:ff9b::a14:304", "10.20.0.0/16", false},
		{"::10.20.3.4", "10.20.0.0/16", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(in_networks(cases[i].address, cases[i].networks) == cases[i].in, "%s in %s", cases[i].address, cases[i].networks);
	CHECK(!in_networks("127.0.0.1", NULL), "no list");
}

static void
allows(void)
{
	static const struct
	{
		const char *address;
		const char *networks;
		bool		allowed;
	}			cases[] = {
		{"8.8.8.8", "", true},
		{"8.8.8.8", "10.0.0.0/8", true},
		{"127.0.0.1", "", false},
		{"127.0.0.1", "10.0.0.0/8", false},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.2", "127.0.0.1", false},
		{"::1", "127.0.0.1", false},
		{"::ffff:127.0.0.1", "127.0.0.1", true},
		{"::ffff:8.8.8.8", "", false},
		{"fd00:ec2::254", "", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		struct sockaddr *address = address_of(cases[i].address);
		const char *why = "not set";
		bool		allowed = dmshook_guard_allows(address, cases[i].networks, &why);

		CHECK(allowed == cases[i].allowed, "%s with %s", cases[i].address, cases[i].networks);
		CHECK(allowed == (why == NULL), "%s with %s: %s", cases[i].address, cases[i].networks, why == NULL ? "no reason" : why);
		CHECK(dmshook_guard_allows(address, cases[i].networks, NULL) == allowed, "%s, the reason not asked for", cases[i].address);
		free(address);
	}
}

/*
 * IANA's registries themselves, every row of them as it stands there (also those inside another row, and those
 * that are globally reachable), first and last address. No knowledge of guard.c's table is in this list.
 */
static void
registries(void)
{
	static const char *const rows[] = {
		/* iana-ipv4-special-registry */
		"0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32", "192.0.0.171/32",
		"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32", "192.168.0.0/16",
		"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32",
		/* iana-ipv6-special-registry */
		"::1/128", "::/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23",
		"2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48",
		"2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
		"5f00::/16", "fc00::/7", "fe80::/10",
		/* what is no unicast: the multicast registries, and deprecated forms */
		"224.0.0.0/4", "ff00::/8", "::/96", "::ffff:0:0:0/96", "fec0::/10"
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		GuardNetwork row;
		char		text[INET6_ADDRSTRLEN];
		const char *slash = strchr(rows[i], '/');
		int			family = strchr(rows[i], ':') != NULL ? AF_INET6 : AF_INET;
		int			width = family == AF_INET6 ? 128 : 32;
		uint8_t		last[16] = {0};
		const char *why = NULL;

		snprintf(text, sizeof(text), "%.*s", (int) (slash - rows[i]), rows[i]);
		row.bits = atoi(slash + 1);
		if (inet_pton(family, text, last) != 1)
			abort();
		CHECK(!is_public(text, &why) && why != NULL, "%s: first", rows[i]);
		for (int bit = row.bits; bit < width; bit++)
			last[bit / 8] |= (uint8_t) (0x80 >> bit % 8);
		inet_ntop(family, last, text, sizeof(text));
		CHECK(!is_public(text, &why) && why != NULL, "%s: last, %s", rows[i], text);
	}
}

/* Where clouds tell a machine who it is, and give it credentials. */
static void
metadata(void)
{
	static const char *const addresses[] = {
		"169.254.169.254",		/* Amazon, Google, Azure, Oracle, DigitalOcean, OpenStack, Hetzner ... */
		"169.254.169.253", "169.254.169.123", "169.254.170.2", "169.254.170.23",	/* Amazon: DNS, time, containers, EKS */
		"fd00:ec2::254", "fd00:ec2::253", "fd00:ec2::23",	/* the same over IPv6 */
		"fd20:ce::254",			/* Google */
		"168.63.129.16",		/* Azure */
		"100.100.100.200",		/* Alibaba */
		"192.0.0.192",			/* Oracle, of old */
		"169.254.0.23", "169.254.10.10",	/* Tencent */
		"169.254.42.42", "fd00:42::42", /* Scaleway */
		"fe80::a9fe:a9fe",		/* OpenStack */
		"::ffff:169.254.169.254", "::ffff:168.63.129.16", "::ffff:100.100.100.200", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1"
	};

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
		CHECK(!is_public(addresses[i], NULL), "%s", addresses[i]);
}

static void
port_lists(void)
{
	static const struct
	{
		const char *ports;
		const char *bad;		/* NULL: fine */
	}			lists[] = {
		{"443", NULL}, {"443,8443,1024-", NULL}, {" 443 , 1-65535 ", NULL}, {"65535-", NULL}, {"8000-8000", NULL}, {"080", NULL},
		{"", ""}, {" ", ""}, {",", ""}, {"443,", ""}, {"0", "0"}, {"65536", "65536"}, {"443,70000", "70000"}, {"9000-8000", "9000-8000"},
		{"-443", "-443"}, {"-", "-"}, {"1-2-3", "1-2-3"}, {"1--2", "1--2"}, {"https", "https"}, {"443 8443", "443 8443"}, {"+443", "+443"},
		{"4294967739", "4294967739"}, {"0-443", "0-443"}, {"443;8443", "443;8443"}
	};
	static const struct
	{
		const char *ports;
		int			port;
		bool		in;
	}			cases[] = {
		{"443,8443,1024-", 443, true}, {"443,8443,1024-", 442, false}, {"443,8443,1024-", 444, false}, {"443,8443,1024-", 1023, false},
		{"443,8443,1024-", 1024, true}, {"443,8443,1024-", 65535, true}, {"443,8443,1024-", 22, false}, {"443,8443,1024-", 0, false},
		{"443", 443, true}, {"443", 8443, false}, {"8000-8999", 7999, false}, {"8000-8999", 8000, true}, {"8000-8999", 8999, true},
		{"8000-8999", 9000, false}, {"nonsense,443", 443, true}, {"nonsense", 443, false}, {"", 443, false}, {"1-", 1, true}, {"0-", 1, false},
		{"443", 443 + 65536, false}, {"1024-", 65536, false}
	};
	char		bad[64];

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
	{
		char	   *copy = unit_exact(lists[i].ports, strlen(lists[i].ports) + 1);
		bool		ok;

		strcpy(bad, "not set");
		ok = dmshook_guard_check_ports(copy, bad, sizeof(bad));
		CHECK(ok == (lists[i].bad == NULL), "\"%s\"", lists[i].ports);
		CHECK(ok || strcmp(bad, lists[i].bad) == 0, "\"%s\": \"%s\"", lists[i].ports, bad);
		free(copy);
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(dmshook_guard_port(cases[i].port, cases[i].ports) == cases[i].in, "%d in \"%s\"", cases[i].port, cases[i].ports);
	CHECK(!dmshook_guard_port(443, NULL) && !dmshook_guard_check_ports(NULL, bad, sizeof(bad)), "no list at all");
	CHECK(!dmshook_guard_check_ports("nonsense", NULL, 0), "no room at all");
}

int
main(void)
{
	unit_group("each block at its edges and just outside", edges);
	unit_group("every entry of the tables is tested, and reached", every_entry_is_tested);
	unit_group("census of the address spaces", census);
	unit_group("public addresses", public_addresses);
	unit_group("IPv4 inside IPv6", hidden_ipv4);
	unit_group("other address families", other_families);
	unit_group("lists of networks, well-formed or not", network_lists);
	unit_group("addresses in networks", membership);
	unit_group("what may be reached", allows);
	unit_group("IANA's registries", registries);
	unit_group("metadata services of clouds", metadata);
	unit_group("lists of ports", port_lists);
	return unit_done();
}
