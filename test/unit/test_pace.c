/* Tests of src/policy.c: in flight, pace, rate. */
#include "hook.h"

/* ---------------------------------------------------------------------- pace */

static void
slows_down(void)
{
	Hook		hook;
	int			limit = 32;

	for (int status = 429; status <= 503; status += 74)
	{
		begin(&hook);
		hook.policy.rate_limit = 100;
		hook.policy.breaker = false;
		hook.policy.disable_after = 0;
		limit = 32;
		for (int i = 0; i < 6; i++)
		{
			hook.now += MINUTE;
			exchange(&hook, status);
			limit = limit > 1 ? limit / 2 : 1;
			CHECK(dmshook_policy_in_flight(&hook.policy, &hook.state) == limit, "%d: %d", limit, dmshook_policy_in_flight(&hook.policy, &hook.state));
			CHECK(fabs(dmshook_policy_rate(&hook.policy, &hook.state) - 100 / pow(2, i + 1)) < 1e-6, "%f", dmshook_policy_rate(&hook.policy, &hook.state));
		}
		for (int i = 0; i < 100; i++)
		{
			hook.now += MINUTE;
			exchange(&hook, status);
		}
		CHECK(dmshook_policy_in_flight(&hook.policy, &hook.state) == 1, "never none");
		CHECK(fabs(dmshook_policy_rate(&hook.policy, &hook.state) - 1.0) < 1e-6, "%f", dmshook_policy_rate(&hook.policy, &hook.state));
	}

	/* others do not */
	begin(&hook);
	fail(&hook, 10, 500);
	CHECK(dmshook_policy_in_flight(&hook.policy, &hook.state) == 32, "%d", dmshook_policy_in_flight(&hook.policy, &hook.state));

	/* 32 in flight that are all refused are one refusal */
	begin(&hook);
	hook.policy.breaker = false;
	for (int i = 0; i < 32; i++)
		CHECK(take(&hook), "%d", i);
	hook.now += 10 * MS;
	for (int i = 0; i < 32; i++)
	{
		hook.now += MS;
		ended(&hook, START, false, 429);
	}
	CHECK(dmshook_policy_in_flight(&hook.policy, &hook.state) == 16, "%d", dmshook_policy_in_flight(&hook.policy, &hook.state));
	CHECK(fabs(dmshook_policy_rate(&hook.policy, &hook.state) - 16) < 1e-6, "half of what it sent: %f", dmshook_policy_rate(&hook.policy, &hook.state));
	hook.now += SECOND;
	exchange(&hook, 429);
	CHECK(dmshook_policy_in_flight(&hook.policy, &hook.state) == 8, "%d", dmshook_policy_in_flight(&hook.policy, &hook.state));

	/* and a tenth more for each success, up to what was configured, and then no rate at all */
	hook.now += MINUTE;
	exchange(&hook, 200);
	CHECK(fabs(hook.state.pace - 0.25 * 1.1) < 1e-6, "%f", hook.state.pace);
	for (int i = 0; i < 100; i++)
	{
		double		before = hook.state.pace;

		hook.now += MINUTE;
		exchange(&hook, 200);
		CHECK(hook.state.pace <= before * 1.1 + 1e-6 && hook.state.pace >= before && hook.state.pace <= 1, "%f", hook.state.pace);
	}
	CHECK(dmshook_policy_in_flight(&hook.policy, &hook.state) == 32, "%d", dmshook_policy_in_flight(&hook.policy, &hook.state));
	CHECK(dmshook_policy_rate(&hook.policy, &hook.state) == 0, "%f", dmshook_policy_rate(&hook.policy, &hook.state));
}

/*
 * A receiver that takes 10 a second and answers 429 to the rest, and a webhook that
 * knows of no limit and has any number of events: it finds the rate, and
 * wastes little. In virtual time, each answer after 2 ms.
 */
static void
finds_the_rate(void)
{
	Hook		hook;
	double		receiver = 10;
	int			good = 0;
	int			bad = 0;
	int64_t		end = START + 10 * MINUTE;

	begin(&hook);
	hook.policy.disable_after = 0;
	while (hook.now < end)
	{
		int64_t		next;
		int64_t		before = hook.now;
		bool		probe;

		if (!dmshook_policy_take(&hook.policy, &hook.state, hook.now, &probe))
		{
			gate(&hook, NULL, &next);
			CHECK(next > hook.now && next != DMSHOOK_NEVER, "%" PRId64, next);
			hook.now = next;
		}
		else
		{
			hook.now += 2 * MS;
			hook.attempts = 1;
			good += receiver >= 1;
			bad += receiver < 1;
			ended(&hook, before, probe, receiver >= 1 ? 200 : 429);
			receiver -= receiver >= 1;
		}
		receiver = fmin(10, receiver + (double) (hook.now - before) / SECOND * 10);
	}
	printf("# policy: a receiver of 10/s: %.1f good and %.1f refused a second\n", good / 600.0, bad / 600.0);
	CHECK(good >= 6000 * 0.6, "%d delivered of 6000", good);
	CHECK(bad <= good * 0.2, "%d refused, %d delivered", bad, good);
}

/* ---------------------------------------------------------------------- rate */

/*
 * Saturated, asked as soon as dmshook_policy_gate() says, or up to 20 ms later:
 * in any minute within 2 % of the limit (or one request), bursts of at most a second's worth.
 */
static void
rate_limit(void)
{
	static const double rates[] = {0.05, 0.1, 0.5, 1, 1.5, 2, 3, 10, 33.3, 100, 999, 5000};

	for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++)
		for (int late = 0; late < 2; late++)
		{
			Hook		hook;
			int64_t		minute = START + DAY;
			int			minutes = rates[r] > 500 ? 2 : 20;
			int			burst = 0;
			int			n = 0;
			int			total = 0;

			begin(&hook);
			hook.policy.rate_limit = rates[r];
			hook.policy.max_in_flight = 10000;
			hook.now = minute;	/* after a day of silence: the bucket is full */
			while (hook.now < START + DAY + minutes * MINUTE)
			{
				int64_t		next;
				int			room;
				DmshookGate g = gate(&hook, &room, &next);
				bool		probe;

				if (g == DMSHOOK_PASS)
				{
					for (int i = 0; i < room; i++)
						CHECK(dmshook_policy_take(&hook.policy, &hook.state, hook.now, &probe), "%d of %d", i, room);
					CHECK(!dmshook_policy_take(&hook.policy, &hook.state, hook.now, &probe), "more than %d", room);
					n += room;
					total += room;
					burst = room > burst ? room : burst;
					hook.state.flying = 0;
					continue;
				}
				CHECK(g == DMSHOOK_WAIT_RATE && next > hook.now && room == 0, "gate %d", (int) g);
				CHECK(next - hook.now <= SECOND / rates[r] + 2, "at %f: %" PRId64, rates[r], next - hook.now);
				hook.now = next + (late ? (int64_t) (uniform() * 20 * MS) : 0);
				if (hook.now >= minute + MINUTE)
				{
					double		wanted = rates[r] * 60;

					CHECK(fabs(n - wanted) <= fmax(1, wanted * 0.02), "at %f a second: %d in a minute", rates[r], n);
					n = 0;
					minute += MINUTE;
				}
			}
			CHECK(burst <= fmax(1, rates[r]), "at %f: %d at once", rates[r], burst);
			CHECK(fabs(total - rates[r] * 60 * minutes) <= fmax(1, rates[r] * 60 * minutes * 0.01), "at %f: %d in %d minutes", rates[r], total, minutes);
		}
}

/* After silence of any length: no more than a second's worth at once; and what was not made is given back. */
static void
bursts(void)
{
	Hook		hook;

	for (int i = 0; i < 2000; i++)
	{
		int			n = 0;
		int			k;

		begin(&hook);
		hook.policy.rate_limit = 0.1 + uniform() * 200;
		hook.policy.max_in_flight = 10000;
		hook.now += (int64_t) (uniform() * 3 * SECOND);
		while (take(&hook))
			n++;
		CHECK(n <= fmax(1, hook.policy.rate_limit), "%d at %f", n, hook.policy.rate_limit);
		for (k = 0; k < n; k++)
			dmshook_policy_untake(&hook.policy, &hook.state, false);
		CHECK(hook.state.flying == 0, "%d", hook.state.flying);
		for (k = 0; take(&hook); k++)
			;
		CHECK(k == n, "%d, then %d", n, k);
	}

	/* a restart is no source of bursts */
	begin(&hook);
	hook.policy.rate_limit = 100;
	CHECK(take(&hook) && !take(&hook), "one at start");

	/* probes are counted, too */
	begin(&hook);
	hook.policy.rate_limit = 0.01;
	for (int i = 0; i < 20; i++)
	{
		hook.now += 200 * SECOND;
		exchange(&hook, 500);
	}
	CHECK(is_open(&hook), "open");
	hook.now = hook.state.stored.next_probe_at;
	CHECK(gate(&hook, NULL, NULL) == DMSHOOK_WAIT_RATE, "%d", (int) gate(&hook, NULL, NULL));
}

/* Without a limit: as many as may be in flight, and a result makes room. */
static void
in_flight(void)
{
	Hook		hook;
	int			room;
	int64_t		next;

	begin(&hook);
	CHECK(gate(&hook, &room, &next) == DMSHOOK_PASS && room == 32 && next == hook.now, "%d", room);
	for (int i = 0; i < 32; i++)
		CHECK(take(&hook), "%d", i);
	CHECK(!take(&hook), "a 33rd");
	CHECK(gate(&hook, &room, &next) == DMSHOOK_WAIT_RESULT && room == 0 && next == DMSHOOK_NEVER, "%d", room);
	ended(&hook, hook.now, false, 200);
	CHECK(gate(&hook, &room, &next) == DMSHOOK_PASS && room == 1, "%d", room);
	dmshook_policy_untake(&hook.policy, &hook.state, false);
	CHECK(gate(&hook, &room, &next) == DMSHOOK_PASS && room == 2, "%d", room);
	hook.policy.max_in_flight = 5;
	CHECK(gate(&hook, &room, &next) == DMSHOOK_WAIT_RESULT && room == 0, "%d", room);
}

int
main(void)
{
	unit_group("429 and 503 slow down", slows_down);
	unit_group("a rate that nobody named is found", finds_the_rate);
	unit_group("rate limit", rate_limit);
	unit_group("bursts", bursts);
	unit_group("in flight", in_flight);
	return unit_done();
}
