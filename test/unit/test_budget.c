/* Tests of src/budget.c: how much of the dispatcher's time a filter may take. */
#include "unit.h"

#include "budget.h"

#define SECOND	INT64_C(1000000)
#define START	(INT64_C(1) << 40)

/* Events that take us each, every so often, for so long: how many of them were evaluated here, and the time that took. */
static int64_t
run(DmshookBudget *budget, int64_t *now, int64_t us, int64_t every, int64_t seconds, int64_t *taken)
{
	int64_t		end = *now + seconds * SECOND;
	int64_t		n = 0;

	*taken = 0;
	for (; *now < end; *now += every)
	{
		if (!dmshook_budget_may(budget, *now))
			continue;
		n++;
		*taken += us;
		dmshook_budget_spend(budget, *now + us, us, false);
	}
	return n;
}

static void
quick_ones_stay(void)
{
	DmshookBudget budget = {0};
	int64_t		now = START;
	int64_t		taken;
	int64_t		n = run(&budget, &now, 20, 100, 60, &taken);

	CHECK(n == 600000, "10,000 a second of 20 us: %" PRId64, n);
	n = run(&budget, &now, DMSHOOK_BUDGET_FREE_US, 200, 60, &taken);
	CHECK(n == 300000, "5,000 a second of a tenth of a millisecond: %" PRId64, n);

	/* only what is beyond that counts: 50 us of 150 */
	n = run(&budget, &now, 150, 1100, 60, &taken);
	CHECK(n == 54546, "%" PRId64, n);

	/* slow, but rare: 2 ms, ten a second */
	n = run(&budget, &now, 2000, 100000, 600, &taken);
	CHECK(n == 6000, "%" PRId64, n);
}

static void
slow_ones_go(void)
{
	for (int64_t us = 500; us <= 50000; us *= 10)
	{
		DmshookBudget budget = {0};
		int64_t		now = START;
		int64_t		taken;
		int64_t		n = run(&budget, &now, us, us + 100, 3600, &taken);

		/* a bucket for each pause, and the pauses grow to ten minutes: some dozen in an hour */
		CHECK(taken < 14 * (DMSHOOK_BUDGET_ONCE_US * 2 + us), "%" PRId64 " us each: %" PRId64 " us in an hour", us, taken);
		CHECK(n > 0, "%" PRId64, n);
		/* at once: one bucket */
		budget = (DmshookBudget)
		{
			0
		};
		now = START;
		run(&budget, &now, us, us, 1, &taken);
		CHECK(taken <= 2 * DMSHOOK_BUDGET_ONCE_US + us, "%" PRId64 " us each: %" PRId64 " us in a second", us, taken);
	}
}

static void
pauses(void)
{
	DmshookBudget budget = {0};
	int64_t		now = START;
	int64_t		pause = DMSHOOK_BUDGET_PAUSE_US;

	CHECK(dmshook_budget_may(&budget, now), "at first");
	/* one that was cancelled goes at once, however short */
	for (int i = 0; i < 12; i++)
	{
		dmshook_budget_spend(&budget, now, 1, true);
		CHECK(!dmshook_budget_may(&budget, now), "%d", i);
		CHECK(!dmshook_budget_may(&budget, now + pause - 1) && dmshook_budget_may(&budget, now + pause), "%d: %" PRId64, i, pause);
		now += pause;
		pause = pause * 2 < DMSHOOK_BUDGET_PAUSE_MAX_US ? pause * 2 : DMSHOOK_BUDGET_PAUSE_MAX_US;
	}
	/* having behaved for as long as the pause was, it begins anew */
	dmshook_budget_spend(&budget, now + DMSHOOK_BUDGET_PAUSE_MAX_US, 1, true);
	CHECK(dmshook_budget_may(&budget, now + DMSHOOK_BUDGET_PAUSE_MAX_US + DMSHOOK_BUDGET_PAUSE_US), "forgotten");
}

int
main(void)
{
	unit_group("quick filters are evaluated by the dispatcher, however many events there are", quick_ones_stay);
	unit_group("slow ones take next to nothing of its time", slow_ones_go);
	unit_group("pauses grow, and begin anew", pauses);
	return unit_done();
}
