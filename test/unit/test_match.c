/* Tests of src/match.c: event types, patterns, "did you mean". */
#include "match.h"

#include "unit.h"

#define LONG_100	"a.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void
types_and_patterns(void)
{
	static const struct
	{
		const char *text;
		bool		type;
		bool		pattern;
	}			cases[] = {
		{"vehicle.sold", true, true},
		{"deal.enquiry_created", true, true},
		{"a.b", true, true},
		{"a.b.c.d", true, true},
		{"a1.b_2", true, true},
		{LONG_100, true, true},
		{LONG_100 "b", false, false},
		{"vehicle.*", false, true},
		{"a.b.*", false, true},
		{"*", false, true},
		{"", false, false},
		{".", false, false},
		{"vehicle", false, false},
		{"vehicle.", false, false},
		{".sold", false, false},
		{"a..b", false, false},
		{"a.b.", false, false},
		{"1a.b", false, false},
		{"a.1b", false, false},
		{"_a.b", false, false},
		{"Vehicle.sold", false, false},
		{"vehicle.Sold", false, false},
		{"vehicle sold", false, false},
		{"vehicle.sold ", false, false},
		{" vehicle.sold", false, false},
		{"vehicle-x.sold", false, false},
		{"v\xc3\xa9hicule.vendu", false, false},
		{"a.b\n", false, false},
		{"**", false, false},
		{".*", false, false},
		{"a*", false, false},
		{"*.sold", false, false},
		{"a.*.b", false, false},
		{"a.**", false, false},
		{"a..*", false, false},
		{"a.b*", false, false},
		{"1.*", false, false},
		{"A.*", false, false},
		{"*.*", false, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		size_t		len = strlen(cases[i].text);
		char	   *copy = unit_exact(cases[i].text, len);

		CHECK(dmshook_type_valid(copy, len) == cases[i].type, "type \"%s\"", cases[i].text);
		CHECK(dmshook_pattern_valid(copy, len) == cases[i].pattern, "pattern \"%s\"", cases[i].text);
		free(copy);
	}
	CHECK(strlen(LONG_100) == 100, "%zu", strlen(LONG_100));
	CHECK(!dmshook_type_valid("a.b\0c", 5), "a zero byte");
	CHECK(dmshook_type_valid("a.bX", 3), "only the length counts");
}

static void
matching(void)
{
	static const struct
	{
		const char *pattern;
		const char *type;
		bool		matches;
	}			cases[] = {
		{"vehicle.sold", "vehicle.sold", true},
		{"vehicle.sold", "vehicle.sol", false},
		{"vehicle.sol", "vehicle.sold", false},
		{"vehicle.sold", "vehicle.sols", false},
		{"vehicle.*", "vehicle.sold", true},
		{"vehicle.*", "vehicle.a.b", true},
		{"vehicle.*", "vehicle", false},
		{"vehicle.*", "vehicle.", false},
		{"vehicle.*", "vehicles.sold", false},
		{"vehicle.*", "deal.sold", false},
		{"a.b.*", "a.b.c", true},
		{"a.b.*", "a.b", false},
		{"a.b.*", "a.bc.d", false},
		{"*", "vehicle.sold", true},
		{"*", "webhook.test", false},
		{"*", "webhook.failing", false},
		{"*", "webhooks.test", true},
		{"*", "webhook_x.test", true},
		{"*", "my.webhook.test", true},
		{"webhook.*", "webhook.test", true},
		{"webhook.test", "webhook.test", true},
		{"", "vehicle.sold", false},
		{"", "", false},
		{"vehicle*", "vehicle.sold", false},
		{"**", "vehicle.sold", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		size_t		plen = strlen(cases[i].pattern);
		size_t		tlen = strlen(cases[i].type);
		char	   *pattern = unit_exact(cases[i].pattern, plen);
		char	   *type = unit_exact(cases[i].type, tlen);

		CHECK(dmshook_pattern_matches(pattern, plen, type, tlen) == cases[i].matches,
			  "\"%s\" and \"%s\"", cases[i].pattern, cases[i].type);
		free(pattern);
		free(type);
	}
}

/* Optimal string alignment by its definition, slow and without a limit. */
static int
reference_distance(const char *a, int alen, const char *b, int blen)
{
	int			d[32][32];

	for (int i = 0; i <= alen; i++)
		for (int j = 0; j <= blen; j++)
		{
			int			best;

			if (i == 0 || j == 0)
			{
				d[i][j] = i + j;
				continue;
			}
			best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	return d[alen][blen];
}

static void
edit_distance(void)
{
	static const struct
	{
		const char *a;
		const char *b;
		int			distance;
	}			cases[] = {
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"vehicle.sold", "vehicle.sold", 0},
		{"vehicle.slod", "vehicle.sold", 1},
		{"vehicle.sld", "vehicle.sold", 1},
		{"vehicle.soldd", "vehicle.sold", 1},
		{"vehicle.sald", "vehicle.sold", 1},
		{"vehicel.slod", "vehicle.sold", 2},
		{"ca", "abc", 3},
		{"kitten", "sitting", 3},
		{"A", "a", 1},
	};
	char	   *big = malloc(100000);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		size_t		alen = strlen(cases[i].a);
		size_t		blen = strlen(cases[i].b);
		char	   *a = unit_exact(cases[i].a, alen);
		char	   *b = unit_exact(cases[i].b, blen);

		for (int limit = 0; limit < 10; limit++)
		{
			int			d = dmshook_edit_distance(a, alen, b, blen, limit);
			int			expected = cases[i].distance > limit ? limit + 1 : cases[i].distance;

			CHECK(d == expected, "\"%s\" and \"%s\", limit %d: %d", cases[i].a, cases[i].b, limit, d);
		}
		free(a);
		free(b);
	}

	for (int round = 0; round < 30000; round++)
	{
		char		a[12];
		char		b[12];
		int			alen = (int) (unit_random() % 12);
		int			blen = (int) (unit_random() % 12);
		int			limit = (int) (unit_random() % 13);
		int			expected;
		int			d;

		for (int i = 0; i < alen; i++)
			a[i] = (char) ('a' + unit_random() % 3);
		for (int i = 0; i < blen; i++)
			b[i] = (char) ('a' + unit_random() % 3);
		expected = reference_distance(a, alen, b, blen);
		d = dmshook_edit_distance(a, (size_t) alen, b, (size_t) blen, limit);
		CHECK(d == (expected > limit ? limit + 1 : expected), "\"%.*s\" and \"%.*s\", limit %d: %d", alen, a, blen, b, limit, d);
	}

	/* long names neither overflow the rows nor take long */
	memset(big, 'x', 100000);
	CHECK(dmshook_edit_distance(big, 100000, big, 99999, 5) == 6, "too long");
	CHECK(dmshook_edit_distance(big, 100000, big, 100000, 5) == 0, "too long, and equal");
	CHECK(dmshook_edit_distance(big, 255, big, 250, 300) == 5, "just short enough");
	CHECK(dmshook_edit_distance(big, 256, big, 250, 300) == 301, "too long, and the limit longer");
	CHECK(dmshook_edit_distance(big, 256, big, 250, 2147483647) == 2147483647, "the greatest limit");
	CHECK(dmshook_edit_distance("a", 1, "b", 1, -5) == 1, "a negative limit is none");
	CHECK(dmshook_edit_distance("abc", 3, "", 0, 2000000000) == 3, "no limit");
	free(big);
}

static void
nearest(void)
{
	static const char *const types[] = {
		"vehicle.added", "vehicle.status_changed", "vehicle.sold", "deal.enquiry_created", "deal.created",
		"deal.status_changed", "deal.completed", "job.created", "job.invoiced", "job.completed", "customer.created", "customer.updated"
	};
	static const struct
	{
		const char *name;
		const char *expected;
	}			cases[] = {
		{"vehicle.slod", "vehicle.sold"},
		{"vehicles.sold", "vehicle.sold"},
		{"Vehicle.Sold", "vehicle.sold"},
		{"VEHICLE.SOLD", "vehicle.sold"},
		{"vehicle.sold", "vehicle.sold"},
		{"job.invoice", "job.invoiced"},
		{"job.creatd", "job.created"},
		{"deal.creatde", "deal.created"},
		{"costumer.updated", "customer.updated"},
		{"sold", "vehicle.sold"},
		{"Invoiced", "job.invoiced"},
		{"created", NULL},		/* three end so */
		{"status_changed", NULL},
		{"spaceship.launched", NULL},
		{"", NULL},
		{"x", NULL},
	};
	int			n = (int) (sizeof(types) / sizeof(types[0]));
	char		huge[2000];
	static const char *const same[] = {"abcx", "abcy", "abcz"};
	static const char *const one[] = {"b"};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int			found = dmshook_nearest(cases[i].name, types, n);
		const char *name = found < 0 ? NULL : types[found];

		CHECK((name == NULL) == (cases[i].expected == NULL) && (name == NULL || strcmp(name, cases[i].expected) == 0),
			  "\"%s\": %s", cases[i].name, name == NULL ? "nothing" : name);
	}
	CHECK(dmshook_nearest("vehicle.sold", types, 0) == -1, "no candidates");
	CHECK(dmshook_nearest("abcw", same, 3) == 0, "the first of equals");
	CHECK(dmshook_nearest("abcz", same, 3) == 2, "the right one");
	CHECK(dmshook_nearest("a", one, 1) == -1, "all of the name is wrong");
	memset(huge, 'x', sizeof(huge));
	huge[sizeof(huge) - 1] = '\0';
	CHECK(dmshook_nearest(huge, types, n) == -1, "a huge name");
}

int
main(void)
{
	unit_group("types and patterns", types_and_patterns);
	unit_group("patterns match types", matching);
	unit_group("edit distance", edit_distance);
	unit_group("did you mean", nearest);
	return unit_done();
}
