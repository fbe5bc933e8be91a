/* hook.h - one webhook in virtual time, for tests of src/policy.c. */
#ifndef HOOK_H
#define HOOK_H

#include "policy.h"

#include <math.h>

#include "unit.h"

#define MS		INT64_C(1000)
#define SECOND	(1000 * MS)
#define MINUTE	(60 * SECOND)
#define HOUR	(60 * MINUTE)
#define DAY		(24 * HOUR)
#define START	(INT64_C(800000) * HOUR)

/* What an answer is, in short: a status, or one of these. */
#define REFUSED	1				/* connect_error, at once */
#define LATE	2				/* connect_error, after a second */
#define TIMEOUT	3

/* One webhook, its clock, and the last verdict. */
typedef struct Hook
{
	DmshookPolicy policy;
	DmshookPlan plan;
	DmshookPolicyState state;
	DmshookVerdict verdict;
	int64_t		now;
	int64_t		event;			/* next delivery */
	int64_t		retry_after;
	int			attempts;
	int			quick;
	bool		notice;
	double		random;
} Hook;

static inline double
uniform(void)
{
	return (double) (unit_random() >> 11) / 9007199254740992.0;
}

static inline void
begin(Hook *hook)
{
	memset(hook, 0, sizeof(*hook));
	dmshook_policy_default(&hook->policy);
	dmshook_plan_default(&hook->plan);
	hook->now = START;
	hook->event = 1;
	hook->retry_after = -1;
	hook->attempts = 1;
	hook->random = 0.5;
	dmshook_policy_load(&hook->state, NULL, hook->now);
}

static inline DmshookGate
gate(Hook *hook, int *room, int64_t *next)
{
	return dmshook_policy_gate(&hook->policy, &hook->state, hook->now, room, next);
}

static inline bool
take(Hook *hook)
{
	bool		probe;

	return dmshook_policy_take(&hook->policy, &hook->state, hook->now, &probe);
}

/* A request that began `began` ends now. */
static inline unsigned
ended(Hook *hook, int64_t began, bool probe, int answer)
{
	DmshookEnd	end = {.event = hook->event++, .started = began, .retry_after = hook->retry_after, .attempts = hook->attempts, .quick = hook->quick,
	.probe = probe, .notice = hook->notice, .random = {hook->random, hook->random}};

	end.outcome = answer >= 200 && answer < 300 ? DMSHOOK_OK : answer >= 100 ? DMSHOOK_HTTP_ERROR :
		answer == TIMEOUT ? DMSHOOK_TIMEOUT : DMSHOOK_CONNECT_ERROR;
	end.status = answer >= 100 ? answer : 0;
	memset(&hook->verdict, 0x55, sizeof(hook->verdict));
	dmshook_policy_end(&hook->policy, &hook->plan, &hook->state, hook->now, &end, &hook->verdict);
	return hook->verdict.notices;
}

/*
 * Send one, as soon as the rate allows it, and have it answered 10 ms later (a second, where that
 * is the point). Returns the notices.
 */
static inline unsigned
exchange(Hook *hook, int answer)
{
	int64_t		began;
	int64_t		next;
	bool		probe;
	DmshookGate g = gate(hook, NULL, &next);

	if (g == DMSHOOK_WAIT_RATE || g == DMSHOOK_WAIT_HOLD)
		hook->now = next;
	began = hook->now;
	CHECK(dmshook_policy_take(&hook->policy, &hook->state, hook->now, &probe), "gate %d", (int) gate(hook, NULL, NULL));
	hook->now += answer == LATE ? SECOND : answer == TIMEOUT ? 15 * SECOND : 10 * MS;
	return ended(hook, began, probe, answer);
}

/* So many failures of as many deliveries. */
static inline unsigned
fail(Hook *hook, int n, int answer)
{
	unsigned	notices = 0;

	for (int i = 0; i < n; i++)
		notices |= exchange(hook, answer);
	return notices;
}

static inline bool
is_open(const Hook *hook)
{
	return hook->state.stored.circuit_open_since != 0;
}

#endif							/* HOOK_H */
