/*
 * sim.c - weeks of the delivery policy in seconds: what an outage costs, what
 * survives it, and how it ends. Prints "name: value unit", and exits 1 when a bound or
 * an invariant is broken.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOOKS_MAX	1000
#define WITHOUT		10			/* webhooks without a breaker: they send two hundred times as much */
#define OUTAGE		(START + HOUR)	/* begins */
#define WAITING		100000

static Hook hooks[HOOKS_MAX];
static int	nhooks = HOOKS_MAX;

static int	seconds[60];		/* requests in each of the first seconds, */
static int	minutes[24 * 60];	/* and minutes, after */
static int64_t watched_from;	/* 0: the first success */

static void
watch(const Hook *hook, int64_t now)
{
	if (watched_from == 0)
		watched_from = hook->first_success; /* still 0: the circuit is open */
	if (watched_from == 0 || now < watched_from)
		return;
	if ((now - watched_from) / SECOND < 60)
		seconds[(now - watched_from) / SECOND]++;
	if ((now - watched_from) / MINUTE < 24 * 60)
		minutes[(now - watched_from) / MINUTE]++;
}

/* Nothing lost, nothing invented. */
static void
check_complete(const Hook *hook, int64_t now)
{
	int64_t		known = hook->delivered + hook->dead + hook->nqueue + hook->flying;

	CHECK(hook->next == known, "%lld begun, %lld known", (long long) hook->next, (long long) known);
	CHECK(hook->next <= world_emitted(hook, now), "%lld begun", (long long) hook->next);
	CHECK(hook->attempts >= hook->next, "%lld attempts", (long long) hook->attempts);
}

static void
outage(Hook *hook, int i, int64_t upto)
{
	hook->receiver.fault = (Fault) (i % FAULTS);
	hook->receiver.down_from = OUTAGE;
	hook->receiver.down_upto = upto;
	hook->interval = (int64_t) ((0.5 + world_random()) * MINUTE);
	hook->until = START + 7 * DAY;
}

static void
report(const char *name, double value, const char *unit)
{
	printf("sim.%s: %.6g %s\n", name, value, unit);
}

/*
 * A week of outage of a thousand webhooks with an event a minute each. As shipped; and never
 * disabled, then with the end of the outage; and without a breaker.
 */
static void
week_of_outage(void)
{
	int64_t		end = OUTAGE + 7 * DAY;
	double		failed = 0;
	double		most = 0;
	double		least = 1e9;
	double		dead = 0;

	world_begin(hooks, nhooks);
	for (int i = 0; i < nhooks; i++)
		outage(&hooks[i], i, INT64_MAX);
	world_run(hooks, nhooks, START, end, NULL);
	for (int i = 0; i < nhooks; i++)
	{
		Hook	   *hook = &hooks[i];
		double		after = (double) (hook->disabled_at - OUTAGE) / DAY;

		check_complete(hook, end);
		failed += (double) (hook->attempts - hook->delivered);
		CHECK(after >= 5 && after < 5.02, "webhook %d (fault %d) was disabled after %.3f days", i, i % FAULTS, after);
		CHECK(hook->told[0] == 1 && hook->told[1] == 0 && hook->told[2] == 1 && hook->told[3] == 0 && hook->told[4] == 1,
			  "webhook %d: told %d %d %d %d %d", i, hook->told[0], hook->told[1], hook->told[2], hook->told[3], hook->told[4]);
	}
	world_end(hooks, nhooks);
	report("webhooks", nhooks, "count");
	report("attempts_until_disabled", failed / nhooks, "attempts per webhook");

	world_begin(hooks, nhooks);
	for (int i = 0; i < nhooks; i++)
	{
		outage(&hooks[i], i, end);
		hooks[i].policy.disable_after = 0;
	}
	world_run(hooks, nhooks, START, end, NULL);
	failed = 0;
	for (int i = 0; i < nhooks; i++)
	{
		double		n = (double) (hooks[i].attempts - hooks[i].delivered);

		check_complete(&hooks[i], end);
		failed += n;
		dead += (double) hooks[i].dead;
		most = n > most ? n : most;
		least = n < least ? n : least;
		hooks[i].since = end;
		hooks[i].first_success = 0;
		/* an outage longer than the plan ends in dead letters, one by one */
		CHECK(hooks[i].dead >= 10 && hooks[i].dead <= 60, "webhook %d: %lld dead letters", i, (long long) hooks[i].dead);
		CHECK(hooks[i].told[2] == 1 && hooks[i].told[5] == hooks[i].dead, "webhook %d: opened %d times", i, hooks[i].told[2]);
	}
	report("attempts_per_webhook", failed / nhooks, "attempts in a week of outage");
	report("attempts_per_webhook_least", least, "attempts");
	report("attempts_per_webhook_most", most, "attempts");
	report("dead_letters_per_webhook", dead / nhooks, "deliveries in a week of outage");
	CHECK(least >= 500 && most <= 800, "from %.0f to %.0f attempts", least, most);

	/* it ends: found by a probe, drained */
	world_run(hooks, nhooks, end, end + 4 * DAY, NULL);
	{
		double		slowest = 0;

		for (int i = 0; i < nhooks; i++)
		{
			double		found = (double) (hooks[i].first_success - end) / SECOND;

			check_complete(&hooks[i], end + 4 * DAY);
			CHECK(hooks[i].next == world_emitted(&hooks[i], end) && hooks[i].nqueue == 0 && hooks[i].flying == 0,
				  "webhook %d: %d wait", i, hooks[i].nqueue);
			CHECK(hooks[i].told[0] == 1 && hooks[i].told[1] == 1 && hooks[i].told[3] == 1, "webhook %d: told recovered %d times", i, hooks[i].told[1]);
			CHECK(hooks[i].first_success > end && found <= 15 * 60 * 1.1 + 16, "webhook %d was found well after %.0f s", i, found);
			slowest = found > slowest ? found : slowest;
		}
		report("found_well_after_most", slowest, "s");
	}
	world_end(hooks, nhooks);

	world_begin(hooks, WITHOUT);
	for (int i = 0; i < WITHOUT; i++)
	{
		outage(&hooks[i], i, INT64_MAX);
		hooks[i].policy.disable_after = 0;
		hooks[i].policy.breaker = false;
	}
	world_run(hooks, WITHOUT, START, end, NULL);
	{
		double		without = 0;

		for (int i = 0; i < WITHOUT; i++)
		{
			check_complete(&hooks[i], end);
			without += (double) (hooks[i].attempts - hooks[i].delivered);
		}
		report("attempts_without_breaker", without / WITHOUT, "attempts per webhook in a week of outage");
		CHECK(without / WITHOUT > 50 * failed / nhooks, "the breaker spares %.0f%%", 100 - 100 * (failed / nhooks) / (without / WITHOUT));
	}
	world_end(hooks, WITHOUT);
}

/* ------------------------------------------------------------ mixed receivers */

typedef enum Kind
{
	HEALTHY,
	FLAKY,						/* a tenth of the answers are 500 */
	BLINKS,						/* refuses for 200 ms every 6 hours, just when an event comes */
	HOURLY,						/* down 10 minutes of each hour */
	ONE_DAY,					/* down for a day */
	THREE_DAYS,					/* from Friday evening to Monday evening */
	SMALL,						/* takes three a second, and gets four: 429 */
	LIMITED,					/* a webhook with a rate_limit */
	GONE,						/* 410 after three days */
	POISON,						/* 422 for its first events, enough to open the circuit */
	KINDS
} Kind;

static const char *const kind_names[] = {"healthy", "flaky", "blinks", "hourly", "one_day", "three_days", "small", "limited", "gone", "poison"};

static void
make_kind(Hook *hook, Kind kind)
{
	Receiver   *receiver = &hook->receiver;

	hook->until = START + 7 * DAY;
	hook->interval = (int64_t) ((0.5 + world_random()) * 2 * MINUTE);
	receiver->fault = (Fault) (world_random() * FAULTS);
	receiver->down_from = INT64_MAX;
	switch (kind)
	{
		case HEALTHY:
		case KINDS:
			break;
		case FLAKY:
			receiver->flaky = 0.1;
			break;
		case BLINKS:
			hook->interval = 10 * SECOND;
			hook->until = START + DAY;
			receiver->fault = REFUSES;
			receiver->down_from = START + HOUR - 50 * MS;
			receiver->down_upto = receiver->down_from + 200 * MS;
			receiver->period = 6 * HOUR;
			break;
		case HOURLY:
			receiver->down_from = START + HOUR;
			receiver->down_upto = receiver->down_from + 10 * MINUTE;
			receiver->period = HOUR;
			break;
		case ONE_DAY:
			receiver->down_from = START + DAY;
			receiver->down_upto = receiver->down_from + DAY;
			break;
		case THREE_DAYS:
			receiver->down_from = START + DAY;
			receiver->down_upto = receiver->down_from + 3 * DAY;
			break;
		case SMALL:
			hook->interval = SECOND / 4;
			hook->until = START + 20 * MINUTE;
			receiver->capacity = 3;
			break;
		case LIMITED:
			hook->interval = SECOND / 10;
			hook->until = START + 10 * MINUTE;
			hook->policy.rate_limit = 2 + (int) (world_random() * 6);
			break;
		case GONE:
			receiver->gone_at = START + 3 * DAY;
			break;
		case POISON:
			receiver->poison_upto = 6;
			break;
	}
}

/*
 * A thousand webhooks whose receivers do what receivers do, for a week and a few
 * days; the dispatcher is restarted every eight hours. Nothing of it is lost but
 * what was answered 410, and what is refused for its own sake: no outage here is longer than the plan.
 */
static void
mixed(void)
{
	int64_t		end = START + 11 * DAY;
	double		attempts[KINDS] = {0};
	double		delivered[KINDS] = {0};
	double		opened[KINDS] = {0};
	int			n[KINDS] = {0};

	world_begin(hooks, nhooks);
	for (int i = 0; i < nhooks; i++)
		make_kind(&hooks[i], (Kind) (i % KINDS));
	for (int64_t now = START; now < end; now += 8 * HOUR)
	{
		for (int i = 0; i < nhooks && now > START; i++)
			world_restart(hooks, i, now);
		world_run(hooks, nhooks, now, now + 8 * HOUR, NULL);
	}
	for (int i = 0; i < nhooks; i++)
	{
		Hook	   *hook = &hooks[i];
		Kind		kind = (Kind) (i % KINDS);

		check_complete(hook, end);
		n[kind]++;
		attempts[kind] += (double) hook->attempts;
		delivered[kind] += (double) hook->delivered;
		opened[kind] += hook->told[2];
		CHECK(hook->dead == (kind == POISON ? 6 : 0), "webhook %d (%s): %lld dead letters", i, kind_names[kind], (long long) hook->dead);
		if (kind == GONE)
		{
			CHECK(hook->disabled_at >= START + 3 * DAY && hook->disabled_at < START + 3 * DAY + HOUR && hook->told[4] >= 1, "webhook %d", i);
			continue;
		}
		CHECK(hook->disabled_at == 0, "webhook %d (%s) was disabled", i, kind_names[kind]);
		if (kind == POISON)
			CHECK(hook->first_success < START + 150 * MINUTE, "webhook %d waited %.0f s for its poison", i, (double) (hook->first_success - START) / SECOND);
		CHECK(hook->delivered + hook->dead == world_emitted(hook, end), "webhook %d (%s): %lld of %lld delivered", i, kind_names[kind],
			  (long long) hook->delivered, (long long) world_emitted(hook, end));
		CHECK(hook->told[0] == hook->told[1] && hook->told[2] == hook->told[3], "webhook %d (%s)", i, kind_names[kind]);
		if (kind == LIMITED)
			CHECK(hook->most_in_minute <= hook->policy.rate_limit * 60 * 1.02 + 1, "%d in a minute at %.0f/s", hook->most_in_minute, hook->policy.rate_limit);
	}
	for (int kind = 0; kind < KINDS; kind++)
	{
		double		per = attempts[kind] / delivered[kind];

		printf("sim.attempts_per_delivery_%s: %.4f attempts\n", kind_names[kind], per);
		CHECK(kind == HOURLY || per < 1.25, "%s: %.3f", kind_names[kind], per);
	}
	CHECK(opened[HEALTHY] + opened[FLAKY] + opened[BLINKS] + opened[LIMITED] == 0, "an outage where there is none");
	CHECK(opened[ONE_DAY] == n[ONE_DAY] && opened[THREE_DAYS] == n[THREE_DAYS], "%.0f and %.0f outages", opened[ONE_DAY], opened[THREE_DAYS]);
	world_end(hooks, nhooks);
}

/* ---------------------------------------------------------------- 100,000 wait */

/* A histogram: a line for each slot that has any. each: counts in a slot. */
static void
histogram(const char *name, const int *counts, int n, int each)
{
	for (int i = 0; i < n; i++)
	{
		int			sum = 0;
		char		line[64];

		for (int k = 0; k < each; k++)
			sum += counts[i * each + k];
		if (sum == 0)
			continue;
		snprintf(line, sizeof(line), "%s_%03d_to_%03d", name, i * each, (i + 1) * each);
		report(line, sum, "requests");
	}
}

static int
most_of(const int *counts, int n)
{
	int			most = 0;

	for (int i = 0; i < n; i++)
		most = counts[i] > most ? counts[i] : most;
	return most;
}

/* 100,000 deliveries fail for six hours, and then the receiver is well. */
static void
burst(bool breaker)
{
	Hook	   *hook = &hooks[0];
	int64_t		well = START + 6 * HOUR;
	int			most;

	memset(seconds, 0, sizeof(seconds));
	memset(minutes, 0, sizeof(minutes));
	world_begin(hooks, 1);
	hook->interval = 10;
	hook->until = START + WAITING * hook->interval;
	hook->receiver.fault = ANSWERS_500;
	hook->receiver.down_upto = well;
	hook->policy.breaker = breaker;
	world_run(hooks, 1, START, well, NULL);
	CHECK(world_emitted(hook, well) == WAITING && hook->delivered == 0, "%lld", (long long) hook->delivered);
	CHECK(breaker ? hook->attempts < 100 : hook->nqueue == WAITING, "%lld attempts, %d have failed", (long long) hook->attempts, hook->nqueue);
	hook->since = well;
	watched_from = breaker ? 0 : well;
	world_run(hooks, 1, well, well + DAY, watch);
	if (breaker)
	{
		/* the others waited as a place in the log; they are drained at a pace that grows */
		histogram("outage_of_100000_then_second", seconds, 20, 1);
		most = most_of(seconds, 60);
		report("drain_first_second", seconds[0], "requests");
		report("drain_most_in_a_second", most, "requests");
		CHECK(seconds[0] < most / 2 && most < 32 * 25, "%d, then up to %d a second", seconds[0], most);
	}
	else
	{
		/* all have failed eight or nine times */
		histogram("outage_of_100000_without_breaker_then_minute", minutes, 20, 15);
		most = most_of(minutes, 24 * 60);
		report("burst_most_in_a_minute", most, "requests");
		CHECK(most < WAITING / 50, "%d in a minute", most);
	}
	check_complete(hook, well + DAY);
	CHECK(hook->delivered == WAITING && hook->dead == 0, "%lld delivered", (long long) hook->delivered);
	world_end(hooks, 1);
}

/* sim [webhooks]: fewer than a thousand where the sanitizers make it slow. */
int
main(int argc, char **argv)
{
	clock_t		begin = clock();

	if (argc > 1)
		nhooks = atoi(argv[1]);
	if (nhooks < 50 || nhooks > HOOKS_MAX)
		return 2;
	week_of_outage();
	mixed();
	burst(false);
	burst(true);
	printf("sim.cpu: %.1f s\n", (double) (clock() - begin) / CLOCKS_PER_SEC);
	printf("sim.broken: %d checks\n", world_failures);
	return world_failures == 0 ? 0 : 1;
}
