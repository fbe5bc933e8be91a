/* Tests of src/schedule.c: plans, delays, status lists, what is tried again. */
#include "schedule.h"

#include <math.h>

#include "unit.h"

#define HOUR	(INT64_C(3600) * 1000)
#define DAY		(24 * HOUR)

static int64_t
span(const DmshookPlan *plan, double (*random) (void), int *delays)
{
	int64_t		sum = 0;
	int64_t		delay;

	*delays = 0;
	while ((delay = dmshook_plan_delay(plan, *delays + 1, random())) >= 0 && *delays < 100000)
	{
		sum += delay;
		(*delays)++;
	}
	return sum;
}

static double
half(void)
{
	return 0.5;
}

static double
uniform(void)
{
	return (double) (unit_random() >> 11) / 9007199254740992.0;
}

static double
highest(void)
{
	return 1.0 - 1.0 / 9007199254740992.0;
}

static double
lowest(void)
{
	return 0;
}

static void
default_plan(void)
{
	static const int64_t expected[] = {5, 20, 80, 320, 1280, 5120, 20480, 43200, 43200, 43200, 43200, 43200, 43200};
	DmshookPlan plan;
	int			n = (int) (sizeof(expected) / sizeof(expected[0]));
	int			delays;
	int64_t		total;

	memset(&plan, 0xff, sizeof(plan));
	dmshook_plan_default(&plan);
	CHECK(plan.max_attempts == 14, "%d", plan.max_attempts);
	CHECK(plan.n_intervals == 0, "%d", plan.n_intervals);
	CHECK(plan.jitter == 0.2, "%f", plan.jitter);
	CHECK(plan.no_retry.n == 0, "%d", plan.no_retry.n);
	for (int i = 0; i < n; i++)
	{
		int64_t		delay = dmshook_plan_delay(&plan, i + 1, 0.5);

		CHECK(delay == expected[i] * 1000, "delay %d: %" PRId64, i + 1, delay);
	}
	CHECK(dmshook_plan_delay(&plan, 14, 0.5) == -1, "a fifteenth attempt");
	CHECK(dmshook_plan_delay(&plan, 1000, 0.5) == -1, "an attempt far beyond");

	total = span(&plan, half, &delays);
	CHECK(total == 286505 * 1000, "%" PRId64, total);
	CHECK(delays == 13, "%d", delays);
	CHECK(total >= 72 * HOUR && total / HOUR == 79, "the plan spans %" PRId64 " h", total / HOUR);

	for (int status = 0; status < 700; status++)
		CHECK(dmshook_status_list_has(&plan.success, status) == (status >= 200 && status <= 299), "%d", status);
}

/* At least 72 h, whatever the dice say; and never beyond the plan by more than the jitter. */
static void
default_plan_spans_72_hours(void)
{
	double		(*extremes[]) (void) = {half, lowest, highest};
	DmshookPlan plan;
	int			delays;

	dmshook_plan_default(&plan);
	for (int i = 0; i < 3; i++)
	{
		int64_t		total = span(&plan, extremes[i], &delays);

		CHECK(total >= 72 * HOUR, "extreme %d: %" PRId64 " ms", i, total);
	}
	for (int i = 0; i < 20000; i++)
	{
		int64_t		total = span(&plan, uniform, &delays);

		CHECK(total >= 79 * HOUR && total <= 96 * HOUR && delays == 13, "%" PRId64 " ms", total);
	}
}

static void
jitter(void)
{
	DmshookPlan plan;
	int			slot[10] = {0};

	dmshook_plan_default(&plan);
	plan.initial = 1000000;
	plan.factor = 1;
	for (int i = 0; i < 100000; i++)
	{
		int64_t		delay = dmshook_plan_delay(&plan, 1, uniform());

		if (CHECK(delay >= 1000000 && delay < 1200000, "%" PRId64, delay))
			slot[(delay - 1000000) / 20000]++;
	}
	/* spread evenly: 10,000 in each tenth, 5 standard deviations allowed */
	for (int i = 0; i < 10; i++)
		CHECK(slot[i] > 9500 && slot[i] < 10500, "tenth %d: %d", i, slot[i]);

	/* also the delays of a list, and those at the cap */
	plan.n_intervals = 1;
	plan.interval[0] = 1000;
	CHECK(dmshook_plan_delay(&plan, 1, 0) == 1200, "%" PRId64, dmshook_plan_delay(&plan, 1, 0));
	plan.n_intervals = 0;
	plan.max = 2000;
	CHECK(dmshook_plan_delay(&plan, 1, 0) == 2400, "%" PRId64, dmshook_plan_delay(&plan, 1, 0));

	plan.jitter = 0;
	for (int i = 0; i < 100; i++)
		CHECK(dmshook_plan_delay(&plan, 1, uniform()) == 2000, "no jitter was asked for");
	plan.jitter = 1;
	CHECK(dmshook_plan_delay(&plan, 1, 0) == 4000, "%" PRId64, dmshook_plan_delay(&plan, 1, 0));
}

static void
intervals(void)
{
	DmshookPlan plan;

	dmshook_plan_default(&plan);
	plan.n_intervals = 4;
	plan.interval[0] = 5000;
	plan.interval[1] = 300000;
	plan.interval[2] = 1800000;
	plan.interval[3] = 7200000;
	plan.max = 1;				/* a cap is the backoff's, not the list's */
	for (int i = 1; i < 14; i++)
	{
		int64_t		expected = plan.interval[i > 4 ? 3 : i - 1];

		CHECK(dmshook_plan_delay(&plan, i, 0.5) == expected, "delay %d: %" PRId64, i, dmshook_plan_delay(&plan, i, 0.5));
	}
	CHECK(dmshook_plan_delay(&plan, 14, 0.5) == -1, "max_attempts counts for a list, too");

	plan.n_intervals = DMSHOOK_MAX_INTERVALS;
	plan.max_attempts = 100;
	for (int i = 0; i < DMSHOOK_MAX_INTERVALS; i++)
		plan.interval[i] = i * 10;
	CHECK(dmshook_plan_delay(&plan, 1, 0.5) == 0, "at once");
	CHECK(dmshook_plan_delay(&plan, 50, 0.5) == 490, "%" PRId64, dmshook_plan_delay(&plan, 50, 0.5));
	CHECK(dmshook_plan_delay(&plan, 99, 0.5) == 490, "%" PRId64, dmshook_plan_delay(&plan, 99, 0.5));
}

/* Retry-After: what was asked, from our own delay to a day, spread like the plan's. */
static void
asked(void)
{
	static const struct
	{
		int			attempts;
		double		random;
		int64_t		asked;		/* s */
		int64_t		expected;	/* s */
	}			cases[] = {
		{1, 0.5, 0, 5}, {1, 0.5, -1, 5}, {1, 0.5, 4, 5}, {1, 0.5, 5, 5}, {1, 0.5, 60, 60},
		{1, 0, 60, 72}, {1, 0, 4, 6}, {3, 0.5, 60, 80}, {3, 0.5, 81, 81},
		{1, 0.5, 86400, 86400}, {1, 0.5, 86401, 86400}, {1, 0, 80000, 86400}, {1, 0, 86400, 86400}, {1, 0.5, INT64_MAX / 1000, 86400},
		{13, 0.5, 60, 43200}, {13, 0.5, 50000, 50000}, {14, 0.5, 60, -1}, {20, 0.5, 1000000, -1},
	};
	DmshookPlan plan;

	dmshook_plan_default(&plan);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int64_t		delay = dmshook_plan_delay_asked(&plan, cases[i].attempts, cases[i].random, cases[i].asked * 1000);
		int64_t		expected = cases[i].expected < 0 ? -1 : cases[i].expected * 1000;

		CHECK(delay == expected, "case %zu: %" PRId64, i, delay);
	}

	/* never earlier than asked, nor than the plan, and never beyond both */
	for (int i = 0; i < 100000; i++)
	{
		int			attempts = 1 + (int) (unit_random() % 13);
		int64_t		wanted = (int64_t) (unit_random() % (25 * HOUR));
		double		random = uniform();
		int64_t		own = dmshook_plan_delay(&plan, attempts, random);
		int64_t		delay = dmshook_plan_delay_asked(&plan, attempts, random, wanted);

		CHECK(delay >= own && delay >= (wanted < DAY ? wanted : DAY), "%" PRId64 " of %" PRId64, delay, wanted);
		CHECK(delay <= DAY || delay == own, "%" PRId64, delay);
	}

	/* a plan of our own that is longer than a day stays so */
	plan.n_intervals = 1;
	plan.interval[0] = 3 * DAY;
	CHECK(dmshook_plan_delay_asked(&plan, 1, 0.5, 2 * DAY) == 3 * DAY, "three days");
}

/*
 * 100,000 deliveries that fail in the same moment: their retries come back
 * spread over a fifth of the delay, evenly; printed for the first and the last delay.
 */
static void
no_spike(void)
{
	enum
	{
		DELIVERIES = 100000, SLOTS = 20
	};
	DmshookPlan plan;

	dmshook_plan_default(&plan);
	for (int attempts = 1; attempts < plan.max_attempts; attempts++)
		for (int told = 0; told < 2; told++)
		{
			int64_t		base = told ? 13 * HOUR : dmshook_plan_delay(&plan, attempts, 0.5);
			double		width = (double) base * plan.jitter / SLOTS;
			int			slot[SLOTS] = {0};
			int			most = 0;
			int			least = DELIVERIES;

			for (int i = 0; i < DELIVERIES; i++)
			{
				int64_t		delay = dmshook_plan_delay_asked(&plan, attempts, uniform(), told ? base : -1);
				int			at = (int) ((double) (delay - base) / width);

				if (CHECK(at >= 0 && at < SLOTS, "%" PRId64, delay))
					slot[at]++;
			}
			for (int i = 0; i < SLOTS; i++)
			{
				most = slot[i] > most ? slot[i] : most;
				least = slot[i] < least ? slot[i] : least;
			}
			CHECK(most < DELIVERIES / SLOTS * 1.1 && least > DELIVERIES / SLOTS * 0.9, "after %d: from %d to %d a slot", attempts, least, most);
			if (!told && (attempts == 1 || attempts == plan.max_attempts - 1))
			{
				printf("# %d deliveries fail at once for the %d. time; retries in each %.3g s, from %" PRId64 " s on:\n#", DELIVERIES, attempts, width / 1000, base / 1000);
				for (int i = 0; i < SLOTS; i++)
					printf(" %d", slot[i]);
				printf("\n");
			}
		}
}

/* Whatever stands in a plan: a delay from 0 to a year, or -1, and no undefined behaviour. */
static void
extremes(void)
{
	static const int64_t times[] = {INT64_MIN, -1, 0, 1, 5000, DAY, INT64_MAX};
	static const double factors[] = {-INFINITY, -1, 0, 0.5, 1, 1.0000001, 4, 1e300, INFINITY, NAN};
	static const double jitters[] = {-1, 0, 0.2, 1, 5, INFINITY, NAN};
	static const double randoms[] = {-1, 0, 0.5, 0.999999, 1, 2, NAN};
	static const int counts[] = {INT32_MIN, 0, 1, 2, 63, 64, 65, 1000, INT32_MAX - 1, INT32_MAX};
	DmshookPlan plan;

	dmshook_plan_default(&plan);
	for (size_t a = 0; a < 7; a++)
		for (size_t b = 0; b < 7; b++)
			for (size_t c = 0; c < 10; c++)
				for (size_t d = 0; d < 7; d++)
					for (size_t e = 0; e < 7; e++)
						for (size_t f = 0; f < 10; f++)
						{
							int64_t		delay;

							plan.initial = times[a];
							plan.max = times[b];
							plan.factor = factors[c];
							plan.jitter = jitters[d];
							plan.max_attempts = INT32_MAX;
							delay = dmshook_plan_delay(&plan, counts[f], randoms[e]);
							CHECK(delay >= -1 && delay <= 365 * DAY, "%" PRId64, delay);
							CHECK((delay == -1) == (counts[f] >= plan.max_attempts), "%d attempts: %" PRId64, counts[f], delay);
						}

	/* 4^n beyond any int64 is the cap, not a small or negative number */
	dmshook_plan_default(&plan);
	plan.max_attempts = 10000;
	for (int i = 8; i < 10000; i++)
		CHECK(dmshook_plan_delay(&plan, i, 0.5) == 12 * HOUR, "attempt %d: %" PRId64, i, dmshook_plan_delay(&plan, i, 0.5));

	/* delays never shrink as attempts grow, and a factor below 1 counts as 1 */
	plan.factor = 1.3;
	for (int i = 2; i < 100; i++)
		CHECK(dmshook_plan_delay(&plan, i, 0.5) >= dmshook_plan_delay(&plan, i - 1, 0.5), "attempt %d", i);
	plan.factor = 0.5;
	CHECK(dmshook_plan_delay(&plan, 5, 0.5) == 5000, "%" PRId64, dmshook_plan_delay(&plan, 5, 0.5));
	plan.max_attempts = 1;
	CHECK(dmshook_plan_delay(&plan, 1, 0.5) == -1, "one attempt, and no more");
	plan.max_attempts = 2;
	CHECK(dmshook_plan_delay(&plan, 1, 0.5) == 5000, "one retry");
	CHECK(dmshook_plan_delay(&plan, 2, 0.5) == -1, "and no second");
}

static void
retryable(void)
{
	static const DmshookOutcome outcomes[] = {
		DMSHOOK_HTTP_ERROR, DMSHOOK_TIMEOUT, DMSHOOK_DNS_ERROR, DMSHOOK_CONNECT_ERROR, DMSHOOK_TLS_ERROR,
		DMSHOOK_BLOCKED_ADDRESS, DMSHOOK_REDIRECT, DMSHOOK_TOO_LARGE, DMSHOOK_PROTOCOL_ERROR, DMSHOOK_INTERNAL_ERROR
	};
	DmshookPlan plan;
	size_t		fault;

	dmshook_plan_default(&plan);
	for (int round = 0; round < 2; round++)
	{
		CHECK(!dmshook_plan_retryable(&plan, DMSHOOK_OK, 200), "a success");
		for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++)
		{
			DmshookOutcome o = outcomes[i];
			bool		answered = o == DMSHOOK_HTTP_ERROR || o == DMSHOOK_REDIRECT;

			for (int status = 100; status < 600; status++)
			{
				bool		listed = round == 1 && (status == 302 || status == 404 || (status >= 410 && status <= 412));

				CHECK(dmshook_plan_retryable(&plan, o, status) == !(answered && listed), "%s %d", dmshook_outcome_name(o), status);
			}
			CHECK(dmshook_plan_retryable(&plan, o, 0), "%s without a response", dmshook_outcome_name(o));
		}
		CHECK(dmshook_status_list_parse("302,404,410-412", &plan.no_retry, &fault), "fault at %zu", fault);
	}
}

static void
status_lists(void)
{
	static const struct
	{
		const char *text;
		int			fault;		/* -1: fine */
		const char *has;
		const char *has_not;
	}			cases[] = {
		{"200-299", -1, "200 250 299", "199 300 0"},
		{"200", -1, "200", "199 201"},
		{"200,202,410-499", -1, "200 202 410 450 499", "201 203 409 500"},
		{" 200 , 300 - 304\t,599 ", -1, "200 300 304 599", "299 305 598"},
		{"100-599", -1, "100 599", "99 600 0 -1"},
		{"404-404", -1, "404", "403 405"},
		{"", 0, "", "0 200"},
		{"   ", 3, "", "200"},
		{"20", 0, "", "20 200"},
		{"2000", 0, "", "200"},
		{"099", 0, "", "99"},
		{"99", 0, "", "99"},
		{"600", 0, "", "600"},
		{"200-", 4, "", "200"},
		{"200-600", 4, "", "200"},
		{"299-200", 0, "", "200 250"},
		{"200,299-200", 4, "", "200"},
		{"200,", 4, "", "200"},
		{",200", 0, "", "200"},
		{"200,,201", 4, "", "200 201"},
		{"200 201", 4, "", "200 201"},
		{"200;201", 3, "", "200 201"},
		{"200-299-300", 7, "", "200"},
		{"2xx", 0, "", "200"},
		{"-200", 0, "", "200"},
		{"+200", 0, "", "200"},
		{"200\n", 3, "", "200"},
		{"0200", 0, "", "200"},
		{"\xd9\xa2\xd9\xa0\xd9\xa0", 0, "", "200"},
	};
	DmshookStatusList list;
	char		text[1000];
	size_t		fault;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		const char *lists[] = {cases[i].has, cases[i].has_not};
		char	   *copy = unit_exact(cases[i].text, strlen(cases[i].text) + 1);
		bool		ok;

		fault = 12345;
		memset(&list, 0x55, sizeof(list));
		ok = dmshook_status_list_parse(copy, &list, &fault);
		free(copy);
		CHECK(ok == (cases[i].fault < 0), "\"%s\"", cases[i].text);
		CHECK(ok || fault == (size_t) cases[i].fault, "\"%s\": fault at %zu", cases[i].text, fault);
		CHECK(ok || list.n == 0, "\"%s\": %d ranges", cases[i].text, list.n);
		for (int k = 0; k < 2; k++)
		{
			for (const char *p = lists[k]; *p != '\0';)
			{
				char	   *end;
				int			status = (int) strtol(p, &end, 10);

				CHECK(dmshook_status_list_has(&list, status) == (k == 0), "\"%s\": %d", cases[i].text, status);
				p = end + (*end == ' ');
			}
		}
	}
	CHECK(!dmshook_status_list_parse("x", &list, NULL), "where the fault is need not be asked");

	/* as many as there is room for, and one more */
	text[0] = '\0';
	for (int i = 0; i < DMSHOOK_MAX_RANGES; i++)
		sprintf(text + strlen(text), "%s%d", i > 0 ? "," : "", 300 + i);
	CHECK(dmshook_status_list_parse(text, &list, &fault), "fault at %zu", fault);
	CHECK(list.n == DMSHOOK_MAX_RANGES && dmshook_status_list_has(&list, 300 + DMSHOOK_MAX_RANGES - 1), "%d", list.n);
	strcat(text, ",599");
	CHECK(!dmshook_status_list_parse(text, &list, &fault), "%d ranges", list.n);
	CHECK(fault == strlen(text) - 3, "fault at %zu", fault);
}

static void
outcome_names(void)
{
	static const char *const names[] = {
		"o ok", "h http_error", "t timeout", "d dns_error", "c connect_error", "s tls_error", "b blocked_address",
		"r redirect", "l too_large", "p protocol_error", "i internal_error"
	};
	int			known = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		const char *name = dmshook_outcome_name((DmshookOutcome) names[i][0]);

		CHECK(name != NULL && strcmp(name, names[i] + 2) == 0, "%s", names[i]);
	}
	for (int c = 0; c < 256; c++)
		known += dmshook_outcome_name((DmshookOutcome) c) != NULL;
	CHECK(known == 11, "%d", known);
}

int
main(void)
{
	unit_group("the default plan", default_plan);
	unit_group("the default plan spans at least 72 hours at any jitter", default_plan_spans_72_hours);
	unit_group("jitter lengthens, evenly, and never shortens", jitter);
	unit_group("a list of intervals", intervals);
	unit_group("Retry-After", asked);
	unit_group("a burst of failures comes back spread", no_spike);
	unit_group("extreme plans", extremes);
	unit_group("what is tried again", retryable);
	unit_group("status lists", status_lists);
	unit_group("names of outcomes", outcome_names);
	return unit_done();
}
