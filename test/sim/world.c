/*
 * world.c - webhooks that send to receivers in virtual time, by the very code
 * that the dispatcher runs (src/policy.c, src/schedule.c).
 *
 * What the dispatcher does with the policy's answers is done here in a few lines: due
 * retries first, then the log, a place in which is a number. Time jumps from one request's end or
 * timer to the next. Each request is checked against what must always hold.
 */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Something that happens: a request ends, or (flight < 0) a webhook looks again. */
typedef struct Item
{
	int64_t		at;
	int			hook;
	int			flight;
} Item;

typedef struct Flight
{
	Row			row;
	int64_t		started;
	int			hook;
	int			life;
	bool		busy;
	bool		probe;
	DmshookOutcome outcome;
	int			status;
	int64_t		retry_after;
	int			next_free;
} Flight;

int			world_failures = 0;

static Item *items = NULL;
static int	nitems = 0;
static int	items_size = 0;
static Flight *flights = NULL;
static int	nflights = 0;
static int	flights_size = 0;
static int	free_flight = -1;

static void *
grow(void *array, int *size, size_t element)
{
	*size = *size < 64 ? 64 : *size * 2;
	array = realloc(array, (size_t) *size * element);
	if (array == NULL)
		abort();
	return array;
}

void
world_check(bool ok, const char *file, int line, const char *what, const char *format,...)
{
	va_list		args;

	if (ok || ++world_failures > 20)
		return;
	printf("# %s:%d: %s: ", file, line, what);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

/* The same in every run. */
double
world_random(void)
{
	static uint64_t state = UINT64_C(88172645463325252);

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double) (state >> 11) / 9007199254740992.0;
}

/* ---------------------------------------------------------------------- heaps */

static void
push_item(int64_t at, int hook, int flight)
{
	Item		item = {at, hook, flight};
	int			i;

	if (nitems == items_size)
		items = grow(items, &items_size, sizeof(Item));
	for (i = nitems++; i > 0 && items[(i - 1) / 2].at > item.at; i = (i - 1) / 2)
		items[i] = items[(i - 1) / 2];
	items[i] = item;
}

static Item
pop_item(void)
{
	Item		first = items[0];
	Item		last = items[--nitems];
	int			i = 0;

	for (int child; (child = 2 * i + 1) < nitems; i = child)
	{
		if (child + 1 < nitems && items[child + 1].at < items[child].at)
			child++;
		if (items[child].at >= last.at)
			break;
		items[i] = items[child];
	}
	items[i] = last;
	return first;
}

static void
push_row(Hook *hook, int64_t due, int64_t event, int attempts, int quick)
{
	Row			row = {due, event, attempts, quick};
	int			i;

	if (hook->nqueue == hook->queue_size)
		hook->queue = grow(hook->queue, &hook->queue_size, sizeof(Row));
	for (i = hook->nqueue++; i > 0 && hook->queue[(i - 1) / 2].due > row.due; i = (i - 1) / 2)
		hook->queue[i] = hook->queue[(i - 1) / 2];
	hook->queue[i] = row;
}

static Row
pop_row(Hook *hook)
{
	Row			first = hook->queue[0];
	Row			last = hook->queue[--hook->nqueue];
	int			i = 0;

	for (int child; (child = 2 * i + 1) < hook->nqueue; i = child)
	{
		if (child + 1 < hook->nqueue && hook->queue[child + 1].due < hook->queue[child].due)
			child++;
		if (hook->queue[child].due >= last.due)
			break;
		hook->queue[i] = hook->queue[child];
	}
	hook->queue[i] = last;
	return first;
}

/* ------------------------------------------------------------------- receivers */

static bool
is_down(const Receiver *receiver, int64_t now)
{
	int64_t		from = receiver->down_from;

	if (now < from)
		return false;
	if (receiver->period > 0)
		now = from + (now - from) % receiver->period;
	return now < receiver->down_upto;
}

/* What it answers to a request that comes now, and how long that takes. */
static int64_t
answer(Receiver *receiver, int64_t now, Flight *flight)
{
	flight->outcome = DMSHOOK_HTTP_ERROR;
	flight->retry_after = -1;
	if (receiver->gone_at != 0 && now >= receiver->gone_at)
	{
		flight->status = 410;
		return 50 * MS;
	}
	if (is_down(receiver, now))
	{
		switch (receiver->fault)
		{
			case REFUSES:
				flight->outcome = DMSHOOK_CONNECT_ERROR;
				flight->status = 0;
				return MS;
			case HANGS:
				flight->outcome = DMSHOOK_TIMEOUT;
				flight->status = 0;
				return 15 * SECOND;
			case ANSWERS_503:
				flight->status = 503;
				flight->retry_after = 120 * 1000;
				return 20 * MS;
			case ANSWERS_429:
				flight->status = 429;
				return 20 * MS;
			default:
				flight->status = 500;
				return 100 * MS;
		}
	}
	if (receiver->capacity > 0)
	{
		receiver->tokens += (double) (now - receiver->tokens_at) / SECOND * receiver->capacity;
		if (receiver->tokens > receiver->capacity)
			receiver->tokens = receiver->capacity;
		receiver->tokens_at = now;
		if (receiver->tokens < 1)
		{
			flight->status = 429;
			return 5 * MS;
		}
		receiver->tokens -= 1;
	}
	if (flight->row.event >= receiver->poison_from && flight->row.event < receiver->poison_upto)
	{
		flight->status = 422;
		return 20 * MS;
	}
	if (receiver->flaky > 0 && world_random() < receiver->flaky)
	{
		flight->status = 500;
		return 100 * MS;
	}
	flight->outcome = DMSHOOK_OK;
	flight->status = 200;
	return 20 * MS + (int64_t) (world_random() * 60 * MS);
}

/* --------------------------------------------------------------------- sending */

int64_t
world_emitted(const Hook *hook, int64_t now)
{
	if (now > hook->until)
		now = hook->until;
	return now <= START ? 0 : (now - START) / hook->interval;
}

static void
wake(Hook *hook, int index, int64_t at)
{
	if (at == DMSHOOK_NEVER || (hook->wake_at != 0 && hook->wake_at <= at))
		return;
	hook->wake_at = at;
	push_item(at, index, -1);
}

static void
start(Hook *hook, int index, int64_t now, Row row, bool probe)
{
	Flight	   *flight;
	int			number = free_flight;

	if (number < 0)
	{
		if (nflights == flights_size)
			flights = grow(flights, &flights_size, sizeof(Flight));
		number = nflights++;
		flights[number].next_free = -1;
	}
	flight = &flights[number];
	free_flight = flight->next_free;
	row.attempts++;
	flight->row = row;
	flight->started = now;
	flight->hook = index;
	flight->life = hook->life;
	flight->probe = probe;
	flight->busy = true;
	hook->flying++;
	hook->attempts++;
	if (hook->minute != now / MINUTE)
	{
		hook->minute = now / MINUTE;
		hook->in_minute = 0;
	}
	if (++hook->in_minute > hook->most_in_minute)
		hook->most_in_minute = hook->in_minute;
	CHECK(hook->flying <= hook->policy.max_in_flight + 1, "%d flying", hook->flying);
	CHECK(row.attempts <= hook->plan.max_attempts + row.quick, "attempt %d of event %lld", row.attempts, (long long) row.event);
	push_item(now + answer(&hook->receiver, now, flight), index, number);
}

/* Send what may be sent. */
static void
pump(Hook *hook, int index, int64_t now, Watcher watcher)
{
	for (;;)
	{
		int64_t		next;
		DmshookGate gate = dmshook_policy_gate(&hook->policy, &hook->state, now, NULL, &next);
		bool		due = hook->nqueue > 0 && hook->queue[0].due <= now;
		Row			fresh = {now, hook->next, 0, 0};
		bool		probe;

		if (gate != DMSHOOK_PASS && gate != DMSHOOK_PASS_PROBE)
		{
			wake(hook, index, next);
			return;
		}
		if (!due && hook->next >= world_emitted(hook, now))
		{
			/* nothing to send: when there will be */
			if (hook->nqueue > 0)
				wake(hook, index, hook->queue[0].due);
			next = START + (hook->next + 1) * hook->interval;
			if (next <= hook->until)
				wake(hook, index, next);
			return;
		}
		if (!dmshook_policy_take(&hook->policy, &hook->state, now, &probe))
		{
			CHECK(false, "gate %d, and no leave", (int) gate);
			return;
		}
		if (watcher)
			watcher(hook, now);
		if (due && !(probe && hook->next < world_emitted(hook, now) && dmshook_policy_probe_fresh(&hook->state)))
			start(hook, index, now, pop_row(hook), probe);
		else
		{
			hook->next++;
			start(hook, index, now, fresh, probe);
		}
	}
}

static void
count_notices(Hook *hook, unsigned notices)
{
	for (int bit = 0; bit < DMSHOOK_NOTICES; bit++)
		hook->told[bit] += (notices >> bit) & 1;
	CHECK(hook->told[2] - hook->told[3] == 0 || hook->told[2] - hook->told[3] == 1, "circuit opened %d, closed %d times", hook->told[2], hook->told[3]);
	CHECK(hook->told[0] - hook->told[1] == 0 || hook->told[0] - hook->told[1] == 1, "failing %d, recovered %d times", hook->told[0], hook->told[1]);
}

static void
finish(Hook *hook, int number, int64_t now)
{
	Flight	   *flight = &flights[number];
	DmshookEnd	end = {.event = flight->row.event, .outcome = flight->outcome, .status = flight->status, .started = flight->started};
	DmshookVerdict verdict;

	flight->busy = false;
	flight->next_free = free_flight;
	free_flight = number;
	if (flight->life != hook->life)
		return;					/* its result was lost with the process */
	hook->flying--;
	end.retry_after = flight->retry_after;
	end.attempts = flight->row.attempts;
	end.quick = flight->row.quick;
	end.probe = flight->probe;
	end.random[0] = world_random();
	end.random[1] = world_random();
	dmshook_policy_end(&hook->policy, &hook->plan, &hook->state, now, &end, &verdict);
	count_notices(hook, verdict.notices);
	CHECK(hook->state.flying == hook->flying, "%d, %d", hook->state.flying, hook->flying);
	if (verdict.disable != DMSHOOK_DISABLE_NOT)
		hook->disabled_at = now;
	switch (verdict.further)
	{
		case DMSHOOK_FURTHER_DELIVERED:
			hook->delivered++;
			if (hook->first_success == 0 && now > hook->since)
				hook->first_success = now;
			break;
		case DMSHOOK_FURTHER_DEAD:
			hook->dead++;
			break;
		case DMSHOOK_FURTHER_RETRY:
			push_row(hook, verdict.due, flight->row.event, flight->row.attempts, verdict.quick);
			break;
	}
}

void
world_begin(Hook *hooks, int n)
{
	memset(hooks, 0, sizeof(Hook) * (size_t) n);
	for (int i = 0; i < n; i++)
	{
		dmshook_policy_default(&hooks[i].policy);
		dmshook_plan_default(&hooks[i].plan);
		dmshook_policy_load(&hooks[i].state, NULL, START);
		hooks[i].interval = MINUTE;
	}
}

void
world_run(Hook *hooks, int n, int64_t from, int64_t upto, Watcher watcher)
{
	for (int i = 0; i < n; i++)
		pump(&hooks[i], i, from, watcher);
	while (nitems > 0 && items[0].at < upto)
	{
		Item		item = pop_item();
		Hook	   *hook = &hooks[item.hook];

		if (item.flight >= 0)
			finish(hook, item.flight, item.at);
		else if (item.at != hook->wake_at)
			continue;			/* an earlier one came in between */
		else
			hook->wake_at = 0;
		pump(hook, item.hook, item.at, watcher);
	}
}

/* The process dies: what was stored is loaded; of what flew nothing is known, and it is sent again. */
void
world_restart(Hook *hooks, int index, int64_t now)
{
	Hook	   *hook = &hooks[index];
	DmshookDisable disable = hook->state.disable;

	for (int i = 0; i < nflights; i++)
	{
		Flight	   *flight = &flights[i];

		if (!flight->busy || flight->hook != index || flight->life != hook->life)
			continue;
		hook->repeated += flight->outcome == DMSHOOK_OK;
		push_row(hook, now, flight->row.event, flight->row.attempts - 1, flight->row.quick);
	}
	hook->life++;
	hook->flying = 0;
	hook->wake_at = 0;
	dmshook_policy_load(&hook->state, &hook->state.stored, now);
	hook->state.disable = disable;	/* in the dispatcher: webhook.enabled */
}

void
world_end(Hook *hooks, int n)
{
	for (int i = 0; i < n; i++)
		free(hooks[i].queue);
	free(items);
	free(flights);
	items = NULL;
	flights = NULL;
	nitems = items_size = nflights = flights_size = 0;
	free_flight = -1;
}
