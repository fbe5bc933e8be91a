/* Tests of src/policy.c: what becomes of requests that ended, circuit, disabling, notices. */
#include "hook.h"

/* ---------------------------------------------------------------- deliveries */

static void
deliveries(void)
{
	static const struct
	{
		int			answer;
		int			attempts;
		int			quick;
		int			retry_after;	/* s */
		DmshookFurther further;
		int64_t		due;		/* ms after now; of quick retries the middle */
	}			cases[] = {
		{200, 1, 0, -1, DMSHOOK_FURTHER_DELIVERED, 0},
		{299, 14, 0, -1, DMSHOOK_FURTHER_DELIVERED, 0},
		{500, 1, 0, -1, DMSHOOK_FURTHER_RETRY, 5000},
		{500, 2, 0, -1, DMSHOOK_FURTHER_RETRY, 20000},
		{500, 13, 0, -1, DMSHOOK_FURTHER_RETRY, 12 * 3600000},
		{500, 14, 0, -1, DMSHOOK_FURTHER_DEAD, 0},
		{404, 1, 0, -1, DMSHOOK_FURTHER_RETRY, 5000},
		{400, 1, 0, -1, DMSHOOK_FURTHER_DEAD, 0},	/* in no_retry */
		{TIMEOUT, 1, 0, -1, DMSHOOK_FURTHER_RETRY, 5000},
		/* a connection that breaks at once, before anything else was tried */
		{REFUSED, 1, 0, -1, DMSHOOK_FURTHER_RETRY, 625},
		{REFUSED, 2, 1, -1, DMSHOOK_FURTHER_RETRY, 5000},
		{500, 2, 1, -1, DMSHOOK_FURTHER_RETRY, 5000},
		{500, 3, 1, -1, DMSHOOK_FURTHER_RETRY, 20000},
		{500, 14, 1, -1, DMSHOOK_FURTHER_RETRY, 12 * 3600000},
		{500, 15, 1, -1, DMSHOOK_FURTHER_DEAD, 0},
		{REFUSED, 2, 0, -1, DMSHOOK_FURTHER_RETRY, 20000},
		{REFUSED, 14, 0, -1, DMSHOOK_FURTHER_DEAD, 0},
		{LATE, 1, 0, -1, DMSHOOK_FURTHER_RETRY, 5000},
		/* Retry-After: from our delay to a day */
		{429, 1, 0, 60, DMSHOOK_FURTHER_RETRY, 60000},
		{429, 1, 0, 0, DMSHOOK_FURTHER_RETRY, 5000},
		{429, 1, 0, 5, DMSHOOK_FURTHER_RETRY, 5000},
		{503, 1, 0, 6, DMSHOOK_FURTHER_RETRY, 6000},
		{503, 3, 0, 60, DMSHOOK_FURTHER_RETRY, 80000},
		{503, 1, 0, 86400, DMSHOOK_FURTHER_RETRY, 86400000},
		{503, 1, 0, 86401, DMSHOOK_FURTHER_RETRY, 86400000},
		{500, 1, 0, 2000000000, DMSHOOK_FURTHER_RETRY, 86400000},
		{503, 14, 0, 60, DMSHOOK_FURTHER_DEAD, 0},
		{TIMEOUT, 1, 0, 60, DMSHOOK_FURTHER_RETRY, 5000},	/* what broke off says nothing */
		{410, 1, 0, -1, DMSHOOK_FURTHER_RETRY, 5000},
	};
	size_t		fault;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Hook		hook;

		begin(&hook);
		CHECK(dmshook_status_list_parse("400", &hook.plan.no_retry, &fault), "%zu", fault);
		hook.attempts = cases[i].attempts;
		hook.quick = cases[i].quick;
		hook.retry_after = cases[i].retry_after < 0 ? -1 : cases[i].retry_after * INT64_C(1000);
		exchange(&hook, cases[i].answer);
		CHECK(hook.verdict.further == cases[i].further, "case %zu: %d", i, (int) hook.verdict.further);
		if (cases[i].further == DMSHOOK_FURTHER_RETRY)
			CHECK(hook.verdict.due - hook.now == cases[i].due * MS, "case %zu: %" PRId64 " us", i, hook.verdict.due - hook.now);
		CHECK(hook.verdict.quick == (cases[i].due == 625 ? 1 : cases[i].quick), "case %zu: %d", i, hook.verdict.quick);
		CHECK((hook.verdict.notices & DMSHOOK_NOTICE_EXHAUSTED ? 1 : 0) == (cases[i].further == DMSHOOK_FURTHER_DEAD), "case %zu", i);
	}
}

/* One quick retry, spread between 0.25 and 1 s; none where it would not help. */
static void
quick_retries(void)
{
	Hook		hook;
	int64_t		least = INT64_MAX;
	int64_t		most = 0;

	for (int i = 0; i < 10000; i++)
	{
		int64_t		after;

		begin(&hook);
		hook.random = uniform();
		exchange(&hook, REFUSED);
		after = hook.verdict.due - hook.now;
		least = after < least ? after : least;
		most = after > most ? after : most;
	}
	CHECK(least >= 250 * MS && least < 260 * MS, "%" PRId64, least);
	CHECK(most > 990 * MS && most <= SECOND, "%" PRId64, most);

	begin(&hook);
	hook.plan.max_attempts = 1;
	exchange(&hook, REFUSED);
	CHECK(hook.verdict.further == DMSHOOK_FURTHER_DEAD, "one attempt is one attempt");

	/* two: the quick one is not counted */
	begin(&hook);
	hook.plan.max_attempts = 2;
	exchange(&hook, REFUSED);
	CHECK(hook.verdict.further == DMSHOOK_FURTHER_RETRY && hook.verdict.quick == 1, "%d", hook.verdict.quick);
	hook.now = hook.verdict.due;
	hook.attempts = 2;
	hook.quick = 1;
	exchange(&hook, REFUSED);
	CHECK(hook.verdict.further == DMSHOOK_FURTHER_RETRY && hook.verdict.due == hook.now + 5 * SECOND, "%" PRId64, hook.verdict.due - hook.now);
	hook.attempts = 3;
	exchange(&hook, REFUSED);
	CHECK(hook.verdict.further == DMSHOOK_FURTHER_DEAD, "%d", (int) hook.verdict.further);

	/* a probe is paced by the circuit, and what was under way when it opened, too */
	begin(&hook);
	hook.attempts = 2;
	fail(&hook, 20, 500);
	CHECK(is_open(&hook), "20 failures");
	hook.now = hook.state.stored.next_probe_at;
	hook.attempts = 1;
	exchange(&hook, REFUSED);
	CHECK(hook.verdict.quick == 0 && hook.verdict.due == hook.now + 5 * SECOND, "a probe");
	ended(&hook, hook.now, false, REFUSED);
	CHECK(hook.verdict.quick == 0, "a leftover");
}

/* A receiver that restarts in a quarter second, under 32 in flight: no outage. */
static void
hold(void)
{
	Hook		hook;
	int64_t		next;
	unsigned	notices = 0;

	begin(&hook);
	for (int i = 0; i < 32; i++)
		CHECK(take(&hook), "%d", i);
	for (int i = 0; i < 32; i++)
	{
		hook.now += MS;
		notices |= ended(&hook, hook.now - 5 * MS, false, REFUSED);
		CHECK(hook.verdict.quick == 1, "%d", i);
	}
	CHECK(notices == 0 && !is_open(&hook), "%x", notices);
	CHECK(hook.state.stored.failures == 32 && hook.state.stored.failing_since == START + MS, "%d", hook.state.stored.failures);
	CHECK(gate(&hook, NULL, &next) == DMSHOOK_WAIT_HOLD && next == START + 251 * MS, "%" PRId64, next - START);
	CHECK(!take(&hook), "during the hold");
	hook.now = next;
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_PASS, "%d", (int) gate(&hook, NULL, NULL));

	/* once in a row: what breaks after it counts, up to the circuit */
	CHECK(fail(&hook, 2, REFUSED) == 0 && hook.verdict.quick == 1, "%d", hook.verdict.quick);
	CHECK(fail(&hook, 1, REFUSED) == DMSHOOK_NOTICE_FAILING, "the third that counts");
	CHECK(fail(&hook, 16, REFUSED) == 0 && !is_open(&hook), "19");
	CHECK(fail(&hook, 1, REFUSED) == DMSHOOK_NOTICE_CIRCUIT_OPEN, "20");
	CHECK(hook.state.stored.failures == 52, "%d", hook.state.stored.failures);

	/* a success forgets how many did not count, too */
	begin(&hook);
	for (int i = 0; i < 32; i++)
		CHECK(take(&hook), "%d", i);
	hook.now += MS;
	for (int i = 0; i < 32; i++)
		ended(&hook, hook.now - MS, false, REFUSED);
	exchange(&hook, 200);
	CHECK(fail(&hook, 20, 500) & DMSHOOK_NOTICE_CIRCUIT_OPEN, "20");

	/* after a success the next one holds again */
	begin(&hook);
	exchange(&hook, REFUSED);
	hook.now += SECOND;
	exchange(&hook, 200);
	exchange(&hook, REFUSED);
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_WAIT_HOLD, "%d", (int) gate(&hook, NULL, NULL));

	/* other failures hold nothing */
	begin(&hook);
	exchange(&hook, 500);
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_PASS, "%d", (int) gate(&hook, NULL, NULL));
}

/* ------------------------------------------------------------------- circuit */

static void
opens(void)
{
	static const struct
	{
		int			failures;	/* options */
		int			deliveries;
		int			distinct;	/* over how many deliveries it fails */
		int			at;			/* which failure opens it; 0: none of 1000 */
	}			cases[] = {
		{20, 5, 1000, 20},
		{20, 5, 5, 20},
		{20, 5, 4, 0},
		{20, 5, 1, 0},
		{1, 1, 1, 1},
		{1, 5, 1000, 5},
		{3, 100, 1000, 100},
		{3, 100, 100, 100},
		{3, 100, 99, 0},
		{500, 100, 100, 500},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Hook		hook;
		int			opened = 0;

		begin(&hook);
		hook.policy.breaker_failures = cases[i].failures;
		hook.policy.breaker_deliveries = cases[i].deliveries;
		hook.policy.disable_after = 0;
		for (int n = 1; n <= 1000 && opened == 0; n++)
		{
			hook.event = n % cases[i].distinct;
			if (exchange(&hook, 500) & DMSHOOK_NOTICE_CIRCUIT_OPEN)
				opened = n;
			CHECK(is_open(&hook) == (opened != 0), "case %zu, %d", i, n);
		}
		CHECK(opened == cases[i].at, "case %zu: %d", i, opened);
	}

	/* in a row: a success begins anew, for deliveries too */
	{
		Hook		hook;

		begin(&hook);
		for (int n = 0; n < 100; n++)
			CHECK((fail(&hook, 19, 500) & DMSHOOK_NOTICE_CIRCUIT_OPEN) == 0 && (exchange(&hook, 200) & DMSHOOK_NOTICE_CIRCUIT_CLOSED) == 0, "%d", n);
		hook.event = 1;
		fail(&hook, 4, 500);
		exchange(&hook, 200);
		for (int n = 0; n < 30; n++)
		{
			hook.event = 100;
			exchange(&hook, 500);
		}
		CHECK(!is_open(&hook), "one delivery");
	}
}

/* Without a breaker nothing opens, and one that was open closes when it is switched off. */
static void
no_breaker(void)
{
	Hook		hook;

	begin(&hook);
	hook.policy.breaker = false;
	fail(&hook, 1000, 500);
	CHECK(!is_open(&hook) && gate(&hook, NULL, NULL) == DMSHOOK_PASS, "%d", (int) gate(&hook, NULL, NULL));

	begin(&hook);
	fail(&hook, 20, 500);
	CHECK(is_open(&hook) && gate(&hook, NULL, NULL) == DMSHOOK_WAIT_PROBE, "open");
	hook.policy.breaker = false;
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_PASS && !is_open(&hook), "switched off");
	CHECK(hook.state.stored.next_probe_at == 0 && hook.state.stored.probes == 0, "%d", hook.state.stored.probes);
}

static void
probes(void)
{
	static const int expected[] = {30, 60, 120, 240, 480, 900, 900, 900};	/* s */
	Hook		hook;
	int64_t		next;
	int			room;

	begin(&hook);
	CHECK(fail(&hook, 20, 500) == (DMSHOOK_NOTICE_FAILING | DMSHOOK_NOTICE_CIRCUIT_OPEN), "%x", hook.verdict.notices);
	CHECK(hook.state.stored.circuit_open_since == hook.now, "%" PRId64, hook.state.stored.circuit_open_since);
	for (int i = 0; i < 8; i++)
	{
		int64_t		since = hook.state.stored.circuit_open_since;
		bool		probe;

		CHECK(gate(&hook, &room, &next) == DMSHOOK_WAIT_PROBE && room == 0, "probe %d", i);
		CHECK(next - hook.now == expected[i] * SECOND, "probe %d: %" PRId64, i, next - hook.now);
		CHECK(!take(&hook), "before its time");
		hook.now = next - 1;
		CHECK(!take(&hook), "a microsecond before its time");
		hook.now = next;
		CHECK(gate(&hook, &room, &next) == DMSHOOK_PASS_PROBE && room == 1, "probe %d: room for %d", i, room);
		CHECK(dmshook_policy_take(&hook.policy, &hook.state, hook.now, &probe) && probe, "probe %d", i);
		CHECK(gate(&hook, &room, &next) == DMSHOOK_WAIT_PROBE && next == DMSHOOK_NEVER && room == 0, "one at a time");

		/* it could not be made: another one may go at once */
		dmshook_policy_untake(&hook.policy, &hook.state, probe);
		CHECK(dmshook_policy_take(&hook.policy, &hook.state, hook.now, &probe) && probe, "again");

		/* what was under way when it opened neither counts as a probe nor lets one go */
		hook.state.flying++;
		ended(&hook, hook.now - HOUR, false, 500);
		CHECK(gate(&hook, &room, &next) == DMSHOOK_WAIT_PROBE && next == DMSHOOK_NEVER, "a leftover failed");

		hook.now += 10 * MS;
		CHECK(ended(&hook, hook.now - 10 * MS, true, 500) == 0, "%x", hook.verdict.notices);
		CHECK(hook.verdict.further == DMSHOOK_FURTHER_RETRY, "a probe is an attempt");
		CHECK(hook.state.stored.circuit_open_since == since, "still the same outage");
		CHECK(hook.state.stored.probes == i + 1, "%d", hook.state.stored.probes);
	}

	/* a probe may be the last attempt */
	hook.now = hook.state.stored.next_probe_at;
	hook.attempts = 14;
	CHECK(exchange(&hook, 500) == DMSHOOK_NOTICE_EXHAUSTED && hook.verdict.further == DMSHOOK_FURTHER_DEAD, "%x", hook.verdict.notices);

	/* intervals as retry_schedule() shows them, with jitter, and for strange options */
	for (int i = 0; i < 100000; i++)
	{
		int64_t		delay = dmshook_policy_probe_delay(&hook.policy, 100, uniform());

		CHECK(delay >= 900000 && delay < 990000, "%" PRId64, delay);
	}
	hook.policy.probe_initial = 3600000;
	CHECK(dmshook_policy_probe_delay(&hook.policy, 0, 0.5) == 3600000, "initial above max");
	hook.policy.probe_initial = 0;
	hook.policy.probe_max = 0;
	CHECK(dmshook_policy_probe_delay(&hook.policy, 1000000, 0.5) == 1, "never at once");
	hook.policy.probe_max = INT64_MAX;
	hook.policy.probe_initial = INT64_MAX;
	CHECK(dmshook_policy_probe_delay(&hook.policy, 1000000, 0) > 0, "endless");
}

/* A failure of our own says nothing: it opens nothing, and as a probe costs no more than its interval. */
static void
our_own_failures(void)
{
	Hook		hook;
	int			fresh = 0;

	begin(&hook);
	for (int i = 0; i < 100; i++)
	{
		CHECK(take(&hook), "%d", i);
		CHECK(ended(&hook, INT64_MIN, false, REFUSED) == 0 && hook.verdict.further == DMSHOOK_FURTHER_RETRY, "%d", i);
		CHECK(hook.verdict.due == hook.now + 5 * SECOND && hook.verdict.quick == 0, "%" PRId64, hook.verdict.due - hook.now);
	}
	CHECK(hook.state.stored.failures == 0 && hook.state.flying == 0, "%d", hook.state.stored.failures);
	fail(&hook, 20, 500);
	for (int i = 0; i < 10; i++)
	{
		hook.now = hook.state.stored.next_probe_at;
		CHECK(take(&hook), "%d", i);
		ended(&hook, INT64_MIN, true, 500);
		CHECK(gate(&hook, NULL, NULL) == DMSHOOK_WAIT_PROBE && hook.state.stored.next_probe_at == hook.now + 30 * SECOND, "probe %d", i);
	}

	/* now and then a probe is a delivery that was never tried, first after a quarter of an hour */
	for (int i = 0; i < 96; i++)
	{
		CHECK(dmshook_policy_probe_fresh(&hook.state) == (i == 4 || i == 8 || (i > 0 && i % 16 == 0)), "probe %d", i);
		fresh += dmshook_policy_probe_fresh(&hook.state);
		hook.now = hook.state.stored.next_probe_at;
		exchange(&hook, 500);
		if (i == 4)
			CHECK(hook.now - hook.state.stored.circuit_open_since < 25 * MINUTE, "probe %d", i);
	}
	CHECK(fresh == 7, "%d of 96", fresh);
}

/* Retry-After of a probe's response is heard, up to the longest interval. */
static void
probe_asked_to_wait(void)
{
	Hook		hook;

	begin(&hook);
	fail(&hook, 19, 503);
	hook.retry_after = 300000;
	exchange(&hook, 503);
	CHECK(hook.state.stored.next_probe_at == hook.now + 300 * SECOND, "%" PRId64, hook.state.stored.next_probe_at - hook.now);
	hook.now = hook.state.stored.next_probe_at;
	hook.retry_after = 86400000;
	exchange(&hook, 503);
	CHECK(hook.state.stored.next_probe_at == hook.now + 900 * SECOND, "%" PRId64, hook.state.stored.next_probe_at - hook.now);
	hook.now = hook.state.stored.next_probe_at;
	hook.retry_after = 1000;
	exchange(&hook, 503);
	CHECK(hook.state.stored.next_probe_at == hook.now + 120 * SECOND, "%" PRId64, hook.state.stored.next_probe_at - hook.now);
}

/* A success closes it, and the drain grows from one in flight to all. */
static void
closes(void)
{
	Hook		hook;
	int64_t		since;
	int			before = 0;
	int			n = 0;

	begin(&hook);
	fail(&hook, 20, 500);
	since = hook.state.stored.circuit_open_since;
	hook.now = hook.state.stored.next_probe_at;
	exchange(&hook, 500);
	hook.now = hook.state.stored.next_probe_at;
	CHECK(exchange(&hook, 200) == (DMSHOOK_NOTICE_CIRCUIT_CLOSED | DMSHOOK_NOTICE_RECOVERED), "%x", hook.verdict.notices);
	CHECK(hook.verdict.open_since == since && hook.verdict.failing_since == START + 10 * MS, "since");
	CHECK(!is_open(&hook) && hook.state.stored.next_probe_at == 0 && hook.state.stored.failures == 0 && hook.state.stored.failing_since == 0, "closed");
	CHECK(hook.state.stored.probes == 1, "kept while it drains: %d", hook.state.stored.probes);
	while (dmshook_policy_in_flight(&hook.policy, &hook.state) < 32 && n < 1000)
	{
		int			limit = dmshook_policy_in_flight(&hook.policy, &hook.state);

		CHECK(limit >= before && limit <= before + before / 8 + 1, "from %d to %d", before, limit);
		before = limit;
		exchange(&hook, 200);
		n++;
	}
	CHECK(n == 37, "full after %d", n);
	CHECK(hook.state.stored.probes == 0, "forgotten at full pace: %d", hook.state.stored.probes);

	/* one in flight at first, whatever the limit */
	for (int max = 1; max <= 10000; max = max * 2 + 1)
	{
		begin(&hook);
		hook.policy.max_in_flight = max;
		fail(&hook, 20, 500);
		hook.now = hook.state.stored.next_probe_at;
		exchange(&hook, 200);
		CHECK(dmshook_policy_in_flight(&hook.policy, &hook.state) == 1, "%d of %d", dmshook_policy_in_flight(&hook.policy, &hook.state), max);
		CHECK(take(&hook) && !take(&hook) && gate(&hook, NULL, NULL) == DMSHOOK_WAIT_RESULT, "one");
		for (n = 0; n < 1000; n++)
		{
			hook.state.flying = 0;
			exchange(&hook, 200);
		}
		CHECK(dmshook_policy_in_flight(&hook.policy, &hook.state) == max, "%d of %d", dmshook_policy_in_flight(&hook.policy, &hook.state), max);
	}

	/* a single one in flight leaves no share of itself: its rate grows, and it may flap, too */
	begin(&hook);
	hook.policy.max_in_flight = 1;
	hook.policy.rate_limit = 100;
	fail(&hook, 20, 500);
	hook.now = hook.state.stored.next_probe_at;
	exchange(&hook, 500);
	hook.now = hook.state.stored.next_probe_at;
	exchange(&hook, 200);
	CHECK(dmshook_policy_rate(&hook.policy, &hook.state) < 13 && hook.state.stored.probes == 1, "%f", dmshook_policy_rate(&hook.policy, &hook.state));

	/* and none is so slow that it would never grow */
	begin(&hook);
	hook.policy.rate_limit = 1;
	fail(&hook, 20, 500);
	hook.now = hook.state.stored.next_probe_at;
	exchange(&hook, 200);
	CHECK(fabs(dmshook_policy_rate(&hook.policy, &hook.state) - 1.0) < 1e-6, "%f", dmshook_policy_rate(&hook.policy, &hook.state));

	/* also the success of a request that began before it opened, with a probe under way */
	begin(&hook);
	fail(&hook, 20, 500);
	hook.now = hook.state.stored.next_probe_at;
	CHECK(take(&hook) && take(&hook) == false, "the probe");
	hook.state.flying++;
	CHECK(ended(&hook, hook.now - MINUTE, false, 200) & DMSHOOK_NOTICE_CIRCUIT_CLOSED, "%x", hook.verdict.notices);
	CHECK((ended(&hook, hook.now, true, 500) & DMSHOOK_NOTICE_CIRCUIT_OPEN) == 0 && hook.state.stored.failures == 1, "the probe is one failure now");
}

/* It answers one and fails again: the probes go on from where they were, until it has drained. */
static void
flaps(void)
{
	static const int expected[] = {30, 60, 120, 240, 480, 900, 900};
	Hook		hook;

	begin(&hook);
	fail(&hook, 20, 500);
	for (int i = 0; i < 6; i++)
	{
		CHECK(hook.state.stored.next_probe_at - hook.now == expected[i] * SECOND, "%d: %" PRId64, i, hook.state.stored.next_probe_at - hook.now);
		hook.now = hook.state.stored.next_probe_at;
		CHECK(exchange(&hook, 500) == 0, "%x", hook.verdict.notices);
		CHECK(hook.state.stored.next_probe_at - hook.now == expected[i + 1] * SECOND, "%d", i);
		hook.now = hook.state.stored.next_probe_at;
		CHECK(exchange(&hook, 200) & DMSHOOK_NOTICE_CIRCUIT_CLOSED, "%x", hook.verdict.notices);
		CHECK(fail(&hook, 20, 500) & DMSHOOK_NOTICE_CIRCUIT_OPEN, "again");
	}

	/* not for ever */
	hook.now = hook.state.stored.next_probe_at;
	exchange(&hook, 200);
	hook.now += 16 * MINUTE;
	fail(&hook, 20, 500);
	CHECK(hook.state.stored.next_probe_at - hook.now == 30 * SECOND, "%" PRId64, hook.state.stored.next_probe_at - hook.now);

	/* nor when it drained */
	begin(&hook);
	fail(&hook, 20, 500);
	hook.now = hook.state.stored.next_probe_at;
	exchange(&hook, 500);
	hook.now = hook.state.stored.next_probe_at;
	for (int i = 0; i < 38; i++)
		exchange(&hook, 200);
	fail(&hook, 20, 500);
	CHECK(hook.state.stored.next_probe_at - hook.now == 30 * SECOND, "%" PRId64, hook.state.stored.next_probe_at - hook.now);
}

static void
restarts(void)
{
	Hook		hook;
	Hook		after;
	int64_t		next;

	/* open: it stays open, and its probe's time stays */
	begin(&hook);
	fail(&hook, 20, 500);
	hook.now = hook.state.stored.next_probe_at;
	exchange(&hook, 500);
	hook.now = hook.state.stored.next_probe_at;
	exchange(&hook, 500);
	begin(&after);
	after.now = hook.now + 5 * SECOND;
	dmshook_policy_load(&after.state, &hook.state.stored, after.now);
	CHECK(gate(&after, NULL, &next) == DMSHOOK_WAIT_PROBE && next == hook.now + 120 * SECOND, "%" PRId64, next - hook.now);
	after.now = next;
	exchange(&after, 500);
	CHECK(after.state.stored.next_probe_at == after.now + 240 * SECOND, "%" PRId64, after.state.stored.next_probe_at - after.now);

	/* a probe was under way: another may go at once */
	CHECK(!take(&after), "not yet");
	after.now = after.state.stored.next_probe_at;
	CHECK(take(&after), "the probe");
	dmshook_policy_load(&hook.state, &after.state.stored, after.now);
	hook.now = after.now;
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_PASS_PROBE, "%d", (int) gate(&hook, NULL, NULL));
	CHECK(exchange(&hook, 200) == (DMSHOOK_NOTICE_CIRCUIT_CLOSED | DMSHOOK_NOTICE_RECOVERED), "told once: %x", hook.verdict.notices);
	CHECK(hook.verdict.failing_since == START + 10 * MS, "%" PRId64, hook.verdict.failing_since);

	/* it was draining: carefully on */
	dmshook_policy_load(&after.state, &hook.state.stored, hook.now);
	CHECK(dmshook_policy_in_flight(&after.policy, &after.state) == 4, "%d", dmshook_policy_in_flight(&after.policy, &after.state));
	CHECK(fail(&after, 20, 500) & DMSHOOK_NOTICE_CIRCUIT_OPEN, "again");
	CHECK(after.state.stored.next_probe_at == after.now + 240 * SECOND, "%" PRId64, after.state.stored.next_probe_at - after.now);

	/* 19 failures, and a restart: not told again, and it opens when five deliveries have failed */
	begin(&hook);
	fail(&hook, 19, 500);
	dmshook_policy_load(&hook.state, &hook.state.stored, hook.now);
	CHECK(fail(&hook, 4, 500) == 0, "%x", hook.verdict.notices);
	CHECK(fail(&hook, 1, 500) == DMSHOOK_NOTICE_CIRCUIT_OPEN, "%x", hook.verdict.notices);

	/* five days count on */
	begin(&hook);
	exchange(&hook, 500);
	hook.now += 5 * DAY;
	dmshook_policy_load(&hook.state, &hook.state.stored, hook.now);
	CHECK(exchange(&hook, 500) & DMSHOOK_NOTICE_DISABLED, "%x", hook.verdict.notices);

	/* rubbish */
	{
		DmshookPolicyStored stored = {-5, INT64_MAX, INT64_MAX, INT64_MAX, -7};

		begin(&hook);
		dmshook_policy_load(&hook.state, &stored, hook.now);
		CHECK(gate(&hook, NULL, &next) == DMSHOOK_WAIT_PROBE && next <= hook.now + 1000 * SECOND, "%" PRId64, next - hook.now);
		hook.now = next;
		CHECK(exchange(&hook, 500) == 0 && hook.state.stored.failures == 1, "%d", hook.state.stored.failures);
	}
}

/* ---------------------------------------------------------- disabled, notices */

static void
disables(void)
{
	Hook		hook;

	/* 410: at once, and said once */
	begin(&hook);
	CHECK(exchange(&hook, 410) == DMSHOOK_NOTICE_DISABLED && hook.verdict.disable == DMSHOOK_DISABLE_GONE, "%x", hook.verdict.notices);
	CHECK(hook.verdict.further == DMSHOOK_FURTHER_RETRY, "it stays, for the day it is enabled again");
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_WAIT_DISABLED && !take(&hook), "nothing goes");
	CHECK(ended(&hook, hook.now, false, 410) == 0 && hook.verdict.disable == DMSHOOK_DISABLE_NOT, "%x", hook.verdict.notices);
	dmshook_policy_reset(&hook.state, hook.now);
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_PASS, "enabled again");
	hook.now += MS;
	CHECK(exchange(&hook, 410) == DMSHOOK_NOTICE_DISABLED, "and gone again");

	/* what was answered before it was enabled again says nothing */
	dmshook_policy_reset(&hook.state, hook.now);
	CHECK(ended(&hook, hook.now - 1, false, 410) == 0 && hook.state.stored.failures == 0, "%x", hook.verdict.notices);
	CHECK(hook.verdict.further == DMSHOOK_FURTHER_RETRY, "%d", (int) hook.verdict.further);
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_PASS, "%d", (int) gate(&hook, NULL, NULL));

	/* where 410 is a success, it is one */
	begin(&hook);
	{
		DmshookEnd	end = {.event = 1, .outcome = DMSHOOK_OK, .status = 410, .started = START, .retry_after = -1, .attempts = 1};

		dmshook_policy_end(&hook.policy, &hook.plan, &hook.state, hook.now, &end, &hook.verdict);
		CHECK(hook.verdict.notices == 0 && hook.verdict.further == DMSHOOK_FURTHER_DELIVERED, "%x", hook.verdict.notices);
	}

	/* five days of nothing but failures */
	begin(&hook);
	hook.now += 10 * MS;
	for (int i = 0; i < 5 * 24; i++)
	{
		hook.now = START + i * HOUR;
		CHECK((exchange(&hook, 500) & DMSHOOK_NOTICE_DISABLED) == 0, "after %d h", i);
	}
	hook.now = START + 5 * DAY + 9 * MS;
	CHECK(ended(&hook, hook.now - MS, false, 500) == 0, "%x", hook.verdict.notices);
	hook.now = START + 5 * DAY + 10 * MS;
	CHECK(ended(&hook, hook.now - MS, false, 500) == DMSHOOK_NOTICE_DISABLED, "%x", hook.verdict.notices);
	CHECK(hook.verdict.disable == DMSHOOK_DISABLE_FAILING && hook.verdict.failing_since == START + 10 * MS, "%d", (int) hook.verdict.disable);

	/* a success, an enabling, a resuming begin it anew; 0 is never */
	for (int i = 0; i < 4; i++)
	{
		begin(&hook);
		exchange(&hook, 500);
		hook.now += 4 * DAY;
		if (i == 0)
			exchange(&hook, 200);
		else if (i == 1)
			dmshook_policy_reset(&hook.state, hook.now);
		else if (i == 2)
			dmshook_policy_nudge(&hook.state, hook.now);
		else
			hook.policy.disable_after = 0;
		hook.now += 4 * DAY;
		CHECK((exchange(&hook, 500) & DMSHOOK_NOTICE_DISABLED) == 0, "%d", i);
	}
	CHECK(dmshook_disable_reason(DMSHOOK_DISABLE_GONE) != NULL && dmshook_disable_reason(DMSHOOK_DISABLE_FAILING) != NULL &&
		  dmshook_disable_reason(DMSHOOK_DISABLE_NOT) == NULL, "reasons");
}

/* A resumed webhook, or one whose test succeeded, is probed at once. */
static void
nudges(void)
{
	Hook		hook;

	begin(&hook);
	fail(&hook, 20, 500);
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_WAIT_PROBE, "%d", (int) gate(&hook, NULL, NULL));
	dmshook_policy_nudge(&hook.state, hook.now);
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_PASS_PROBE, "%d", (int) gate(&hook, NULL, NULL));
	begin(&hook);
	dmshook_policy_nudge(&hook.state, hook.now);
	CHECK(hook.state.stored.failing_since == 0 && hook.state.stored.next_probe_at == 0, "nothing to do");

	/* a new url closes, and begins at full pace */
	begin(&hook);
	fail(&hook, 20, 503);
	dmshook_policy_reset(&hook.state, hook.now);
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_PASS && dmshook_policy_in_flight(&hook.policy, &hook.state) == 32 && dmshook_policy_rate(&hook.policy, &hook.state) == 0,
		  "%d", (int) gate(&hook, NULL, NULL));
}

/* A story in answers, and what is told of it. */
static void
notices(void)
{
	static const struct
	{
		const char *story;		/* o ok, f failure; upper case: of a notice; !: reset; x: the last attempt */
		const char *told;		/* at each: - nothing, F failing, R recovered, D exhausted, O opened, C closed with R, P opened and F */
	}			cases[] = {
		{"o", "-"},
		{"fo", "--"},
		{"ffo", "---"},
		{"fffo", "--FR"},
		{"ffffffo", "--F---R"},
		{"fffofffo", "--FR--FR"},
		{"fffooo", "--FR--"},
		{"x", "D"},
		{"xxx", "DDB"},			/* B: exhausted and failing */
		/* the delivery of a notice tells nothing of itself: the next other one does */
		{"FFF", "---"},
		{"FFFf", "---F"},
		{"FFFFFO", "------"},
		{"fffOo", "--F-R"},
		{"fffOfffo", "--F----R"},
		{"X", "-"},
		{"XXX", "---"},
		/* an admin mended it: failing is told anew, recovered when it is seen */
		{"fff!o", "--F-R"},
		{"fff!fffo", "--F---FR"},
		{"ff!fo", "-----"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Hook		hook;

		begin(&hook);
		CHECK(strlen(cases[i].story) == strlen(cases[i].told), "case %zu", i);
		for (size_t k = 0; cases[i].story[k]; k++)
		{
			char		c = cases[i].story[k];
			unsigned	told = 0;
			unsigned	expected = 0;

			hook.now += SECOND;
			hook.notice = c == 'F' || c == 'O' || c == 'X';
			hook.attempts = c == 'x' || c == 'X' ? 14 : 2;
			if (c == '!')
				dmshook_policy_reset(&hook.state, hook.now);
			else
				told = exchange(&hook, c == 'o' || c == 'O' ? 200 : 500);
			switch (cases[i].told[k])
			{
				case 'F':
					expected = DMSHOOK_NOTICE_FAILING;
					break;
				case 'R':
					expected = DMSHOOK_NOTICE_RECOVERED;
					break;
				case 'D':
					expected = DMSHOOK_NOTICE_EXHAUSTED;
					break;
				case 'B':
					expected = DMSHOOK_NOTICE_EXHAUSTED | DMSHOOK_NOTICE_FAILING;
					break;
			}
			CHECK(told == expected, "case %zu \"%s\", %zu: %x", i, cases[i].story, k, told);
		}
	}

	/* a breaker that opens earlier than that tells both */
	{
		Hook		hook;

		begin(&hook);
		hook.policy.breaker_failures = 1;
		hook.policy.breaker_deliveries = 1;
		hook.attempts = 2;
		CHECK(exchange(&hook, 500) == (DMSHOOK_NOTICE_FAILING | DMSHOOK_NOTICE_CIRCUIT_OPEN), "%x", hook.verdict.notices);
	}

	for (unsigned bit = 0; bit < 32; bit++)
		CHECK((dmshook_notice_name(1U << bit) != NULL) == (bit < DMSHOOK_NOTICES), "bit %u", bit);
	CHECK(dmshook_notice_name(0) == NULL && dmshook_notice_name(3) == NULL, "no single one");
	CHECK(strcmp(dmshook_notice_name(DMSHOOK_NOTICE_EXHAUSTED), "delivery_exhausted") == 0, "%s", dmshook_notice_name(DMSHOOK_NOTICE_EXHAUSTED));
}

static void
digests(void)
{
	DmshookDigest digest = {0};
	int64_t		hour = 3600000;

	CHECK(dmshook_digest_due(&digest, hour, START) == DMSHOOK_NEVER, "nothing");
	dmshook_digest_add(&digest, 1);
	CHECK(dmshook_digest_due(&digest, hour, START) == START, "the first at once");
	dmshook_digest_told(&digest, 1, START);
	CHECK(dmshook_digest_due(&digest, hour, START) == DMSHOOK_NEVER, "told");
	for (int i = 0; i < 10000; i++)
		dmshook_digest_add(&digest, 1);
	CHECK(dmshook_digest_due(&digest, hour, START + SECOND) == START + HOUR, "one an hour");
	CHECK(digest.waiting == 10000, "%" PRId64, digest.waiting);
	CHECK(dmshook_digest_due(&digest, hour, START + 2 * HOUR) == START + 2 * HOUR, "overdue");
	dmshook_digest_add(&digest, 5);
	dmshook_digest_told(&digest, 10000, START + 2 * HOUR);
	CHECK(digest.waiting == 5, "what came meanwhile: %" PRId64, digest.waiting);
	CHECK(dmshook_digest_due(&digest, hour, START) == START, "the clock was set back");
}

/* --------------------------------------------------------------------- clock */

/* Set back by a year: nothing waits for a year. */
static void
clock_set_back(void)
{
	Hook		hook;
	int64_t		next;

	begin(&hook);
	hook.policy.rate_limit = 10;
	hook.now += SECOND;
	exchange(&hook, 429);
	exchange(&hook, REFUSED);
	hook.now -= 365 * DAY;
	CHECK(gate(&hook, NULL, &next) == DMSHOOK_PASS || next - hook.now <= SECOND, "%" PRId64, next - hook.now);
	hook.now += SECOND;
	CHECK(exchange(&hook, 429) == 0, "%x", hook.verdict.notices);
	CHECK(dmshook_policy_in_flight(&hook.policy, &hook.state) == 8, "slowed again: %d", dmshook_policy_in_flight(&hook.policy, &hook.state));
	CHECK(exchange(&hook, 500) == DMSHOOK_NOTICE_FAILING, "the hold's does not count: %x", hook.verdict.notices);

	begin(&hook);
	fail(&hook, 20, 500);
	hook.now -= 365 * DAY;
	CHECK(gate(&hook, NULL, &next) == DMSHOOK_WAIT_PROBE && next - hook.now <= 1000 * SECOND, "%" PRId64, next - hook.now);
	hook.now = next;
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_PASS_PROBE, "it comes nearer");
	exchange(&hook, 200);
	hook.now -= 365 * DAY;
	fail(&hook, 20, 500);
	CHECK(is_open(&hook) && hook.state.stored.failing_since <= hook.now, "%d", (int) is_open(&hook));

	/* an empty bucket fills, and five days are five days */
	begin(&hook);
	hook.policy.rate_limit = 10;
	while (take(&hook))
		;
	hook.now -= 365 * DAY;
	CHECK(gate(&hook, NULL, &next) == DMSHOOK_WAIT_RATE && next - hook.now <= SECOND, "%" PRId64, next - hook.now);
	hook.now = next;
	CHECK(take(&hook), "%d", (int) gate(&hook, NULL, NULL));
	begin(&hook);
	exchange(&hook, 500);
	hook.now -= 3 * DAY;
	exchange(&hook, 500);
	hook.now += 5 * DAY;
	CHECK(exchange(&hook, 500) & DMSHOOK_NOTICE_DISABLED, "%x", hook.verdict.notices);

	/* results of requests that began in the future are results */
	begin(&hook);
	dmshook_policy_reset(&hook.state, hook.now);
	hook.now -= DAY;
	hook.attempts = 2;
	CHECK(fail(&hook, 20, 500) & DMSHOOK_NOTICE_CIRCUIT_OPEN, "%x", hook.verdict.notices);
}

/* ---------------------------------------------------------------- any options */

/*
 * Whatever the options, the answers and the clock: what may be in flight is,
 * waiting ends, one probe at a time, and no undefined behaviour.
 */
static void
anything(void)
{
	static const int answers[] = {200, 200, 204, 410, 429, 429, 500, 503, 404, REFUSED, LATE, TIMEOUT};

	for (int run = 0; run < 3000; run++)
	{
		Hook		hook;
		int			flying = 0;
		int			nprobes = 0;
		bool		opened = false;

		begin(&hook);
		hook.policy.max_in_flight = 1 + (int) (unit_random() % 50);
		hook.policy.rate_limit = unit_random() % 2 ? 0 : uniform() * 1000;
		hook.policy.breaker = unit_random() % 4 != 0;
		hook.policy.breaker_failures = 1 + (int) (unit_random() % 30);
		hook.policy.breaker_deliveries = 1 + (int) (unit_random() % 100);
		hook.policy.probe_initial = (int64_t) (unit_random() % 100000);
		hook.policy.probe_max = (int64_t) (unit_random() % 1000000);
		hook.policy.disable_after = (int64_t) (unit_random() % 10000000);
		for (int step = 0; step < 300; step++)
		{
			int			dice = (int) (unit_random() % 100);
			bool		probe;

			hook.random = uniform();
			hook.retry_after = unit_random() % 3 ? -1 : (int64_t) (unit_random() % 200000000);
			hook.attempts = 1 + (int) (unit_random() % 15);
			hook.quick = hook.attempts > 1 && unit_random() % 4 == 0;
			hook.notice = unit_random() % 10 == 0;
			if (dice < 45)
			{
				int			limit = dmshook_policy_in_flight(&hook.policy, &hook.state);

				if (dmshook_policy_take(&hook.policy, &hook.state, hook.now, &probe))
				{
					CHECK(probe == (is_open(&hook) && hook.policy.breaker), "probe");
					CHECK(probe ? nprobes == 0 : flying < limit, "%d flying of %d", flying, limit);
					flying++;
					nprobes += probe;
				}
			}
			else if (dice < 90)
			{
				if (flying > 0)
				{
					probe = nprobes > 0 && (flying == 1 || dice % 2);
					ended(&hook, hook.now - (int64_t) (unit_random() % (20 * SECOND)), probe, answers[unit_random() % 12]);
					nprobes -= probe;
					flying--;
					if (hook.verdict.further == DMSHOOK_FURTHER_RETRY)
						CHECK(hook.verdict.due > hook.now && hook.verdict.due <= hook.now + 2 * DAY, "%" PRId64, hook.verdict.due - hook.now);
					CHECK(!(hook.verdict.notices & DMSHOOK_NOTICE_CIRCUIT_OPEN) || !opened, "opened twice");
					CHECK(!(hook.verdict.notices & DMSHOOK_NOTICE_CIRCUIT_CLOSED) || opened, "closed twice");
					opened = is_open(&hook);
				}
			}
			else if (dice < 92)
			{
				dmshook_policy_reset(&hook.state, hook.now);
				nprobes = 0;
				opened = false;
			}
			else if (dice < 94)
				dmshook_policy_nudge(&hook.state, hook.now);
			else if (dice == 94)
				hook.now -= (int64_t) (unit_random() % HOUR);
			else
			{
				int64_t		next;
				DmshookGate g = gate(&hook, NULL, &next);

				if (next != DMSHOOK_NEVER && next > hook.now)
				{
					CHECK(next - hook.now < DAY, "%" PRId64, next - hook.now);
					hook.now = next;
					CHECK(gate(&hook, NULL, &next) != g || next > hook.now, "waited for nothing at gate %d", (int) g);
				}
				else
					CHECK(g == DMSHOOK_PASS || g == DMSHOOK_PASS_PROBE || flying > 0 || g == DMSHOOK_WAIT_DISABLED, "stuck at gate %d", (int) g);
				hook.now += (int64_t) (unit_random() % MINUTE);
			}
			if (!hook.state.probing)
				nprobes = 0;
			CHECK(hook.state.flying == flying, "%d, %d", hook.state.flying, flying);
			CHECK(hook.state.pace > 0 && hook.state.pace <= 1, "%f", hook.state.pace);
		}
	}
}

int
main(void)
{
	unit_group("what becomes of a delivery", deliveries);
	unit_group("quick retries", quick_retries);
	unit_group("a short break of connections", hold);
	unit_group("the circuit opens", opens);
	unit_group("no breaker", no_breaker);
	unit_group("probes", probes);
	unit_group("failures of our own", our_own_failures);
	unit_group("a probe that is asked to wait", probe_asked_to_wait);
	unit_group("the circuit closes, and the drain grows", closes);
	unit_group("a receiver that flaps", flaps);
	unit_group("restarts", restarts);
	unit_group("disabled", disables);
	unit_group("resumed, and a new url", nudges);
	unit_group("notices", notices);
	unit_group("digests", digests);
	unit_group("the clock is set back", clock_set_back);
	unit_group("any options, any answers", anything);
	return unit_done();
}
