/*
 * policy.c - whether and when a webhook may send, and what becomes of a request
 * that ended.
 *
 * Pure logic, like schedule.c: no PostgreSQL, no curl, no clock, no memory, no
 * random numbers of its own; it never fails. The dispatcher asks before each
 * request, and tells the end of each.
 *
 * Four things hold a webhook back, and dmshook_policy_gate() knows them all:
 *
 * Circuit. Closed; open after `failures` failed attempts in a row on at least
 *  `deliveries` deliveries; then one probe at a time, at growing intervals. A probe is a
 *  waiting delivery, and an attempt of it. Any success closes it, also one of a
 *  request that was under way when it opened.
 * Pace. A share of max_in_flight and of the rate. 429 and 503 halve it, once a
 *  round trip: a response counts only if its request began after the last
 *  halving, or 32 in flight would halve it 32 times. A success adds a tenth. The
 *  same share makes the drain grow from one in flight when the circuit closes.
 *  A webhook without a rate_limit that is slowed down gets a rate for as long, a
 *  share of what it sent in the last second: one request in flight may still be a
 *  thousand a second.
 * Rate. A token bucket; see tokens_now().
 * Hold. When the first connection in a row breaks, nothing goes for a quarter second, and
 *  what breaks meanwhile does not count for the circuit: a receiver that restarts
 *  in that time costs its deliveries one quick retry each, and no outage.
 *
 * Quick retry: when the first attempt of a delivery ends with connect_error
 * within a second of its begin, the circuit is closed and the plan has further
 * attempts, then it is sent again 0.25 to 1 s later. That is an attempt like others in the
 * log, but the plan does not count it: neither its delays nor max_attempts.
 *
 * Notices are raised where something changes, never by a state that lasts; and
 * the delivery of a notice raises none that would be delivered in turn.
 */
#include "policy.h"

#include <limits.h>
#include <string.h>

#define US_PER_MS		INT64_C(1000)
#define US_PER_S		INT64_C(1000000)

#define QUICK_WITHIN	US_PER_S	/* a connect failure that came so soon is tried again */
#define QUICK_LEAST		(250 * US_PER_MS)	/* after at least */
#define QUICK_MOST		US_PER_S	/* and at most */
#define HOLD			QUICK_LEAST

#define BURST_S			0.5		/* the bucket holds so many seconds' worth */
#define LATE_S			0.05	/* see tokens_now() */
#define LEAST_RATE		1.0		/* slowed down: at least one request a second; a receiver that wants fewer says Retry-After */
#define LEAST_PACE		1e-6
#define RAMP_PACE		0.125	/* after an outage: at most this share, at least one in flight */
#define GROWTH			1.1
#define MOST_PROBES		40		/* 2^40 of any interval is beyond its cap */
#define PROBE_JITTER	0.1
#define FRESH_EVERY		16		/* of so many probes one is a delivery that was never tried, */
#define FRESH_FIRST		4		/* and also after so many (a quarter of an hour), */
#define FRESH_SECOND	8		/* and so many (an hour) */
#define EPSILON			1e-9

static int64_t us(int64_t ms);
static void set_next_probe(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now, const DmshookEnd *end);
static bool is_open(const DmshookPolicy *policy, const DmshookPolicyState *state);
static void mend(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now);
static double base_rate(const DmshookPolicy *policy, const DmshookPolicyState *state);
static double tokens_now(const DmshookPolicy *policy, const DmshookPolicyState *state, int64_t now);
static int64_t token_at(const DmshookPolicy *policy, const DmshookPolicyState *state, int64_t now);
static void count_sent(DmshookPolicyState *state, int64_t now);
static double measured_rate(const DmshookPolicyState *state, int64_t now);
static void succeeded(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now,
					  const DmshookEnd *end, DmshookVerdict *verdict);
static void failed(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now,
				   const DmshookEnd *end, bool quick, DmshookVerdict *verdict);
static void decide(const DmshookPlan *plan, int64_t now, const DmshookEnd *end, bool quick, DmshookVerdict *verdict);

void
dmshook_policy_default(DmshookPolicy *policy)
{
	memset(policy, 0, sizeof(*policy));
	policy->max_in_flight = 32;
	policy->breaker = true;
	policy->breaker_failures = 20;
	policy->breaker_deliveries = 5;
	policy->probe_initial = 30 * 1000;
	policy->probe_max = 15 * 60 * 1000;
	policy->disable_after = INT64_C(5) * 24 * 3600 * 1000;
}

/*
 * How many deliveries failed is not stored: after a restart the circuit opens
 * when that many have failed again. An open one stays open.
 */
void
dmshook_policy_load(DmshookPolicyState *state, const DmshookPolicyStored *stored, int64_t now)
{
	DmshookPolicyStored copy;

	memset(&copy, 0, sizeof(copy));
	if (stored != NULL)
		copy = *stored;			/* it may be the state's own */
	memset(state, 0, sizeof(*state));
	state->stored = copy;
	state->pace = 1;
	state->tokens = 1;
	state->tokens_at = now;
	if (state->stored.failures < 0)
		state->stored.failures = 0;
	if (state->stored.probes < 0)
		state->stored.probes = 0;
	if (state->stored.failures >= DMSHOOK_NOTICE_FAILURES || state->stored.circuit_open_since != 0)
	{
		state->told_failing = true;
		state->owed_since = state->stored.failing_since != 0 ? state->stored.failing_since : now;
	}

	/* it was draining: go on carefully */
	if (state->stored.circuit_open_since == 0 && state->stored.probes > 0)
	{
		state->closed_at = now;
		state->pace = RAMP_PACE;
	}
}

DmshookGate
dmshook_policy_gate(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now, int *room, int64_t *next)
{
	double		tokens;
	int			free;
	int			unused_room;
	int64_t		unused_next;

	if (room == NULL)
		room = &unused_room;
	if (next == NULL)
		next = &unused_next;
	*room = 0;
	*next = DMSHOOK_NEVER;
	if (state->disable != DMSHOOK_DISABLE_NOT)
		return DMSHOOK_WAIT_DISABLED;
	mend(policy, state, now);
	tokens = tokens_now(policy, state, now);

	if (is_open(policy, state))
	{
		if (state->probing)
			return DMSHOOK_WAIT_PROBE;
		if (state->stored.next_probe_at > now)
		{
			*next = state->stored.next_probe_at;
			return DMSHOOK_WAIT_PROBE;
		}
		free = 1;
	}
	else
	{
		if (state->hold_until > now)
		{
			*next = state->hold_until;
			return DMSHOOK_WAIT_HOLD;
		}
		free = dmshook_policy_in_flight(policy, state) - state->flying;
		if (free <= 0)
			return DMSHOOK_WAIT_RESULT;
	}
	if (tokens < 1)
	{
		*next = token_at(policy, state, now);
		return DMSHOOK_WAIT_RATE;
	}
	*room = tokens < free ? (int) tokens : free;
	*next = now;
	return is_open(policy, state) ? DMSHOOK_PASS_PROBE : DMSHOOK_PASS;
}

bool
dmshook_policy_take(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now, bool *probe)
{
	DmshookGate gate = dmshook_policy_gate(policy, state, now, NULL, NULL);

	*probe = gate == DMSHOOK_PASS_PROBE;
	if (gate != DMSHOOK_PASS && gate != DMSHOOK_PASS_PROBE)
		return false;
	if (dmshook_policy_rate(policy, state) > 0)
	{
		double		tokens = tokens_now(policy, state, now) - 1;

		state->tokens = tokens > 0 ? tokens : 0;
		state->tokens_at = now;
	}
	count_sent(state, now);
	state->flying++;
	if (*probe)
		state->probing = true;
	return true;
}

/*
 * Not more often: each delivery that is tried for the first time wants thirteen more
 * attempts, and an outage would begin deliveries instead of ending them.
 */
bool
dmshook_policy_probe_fresh(const DmshookPolicyState *state)
{
	int			probes = state->stored.probes;

	return probes == FRESH_FIRST || probes == FRESH_SECOND || (probes > 0 && probes % FRESH_EVERY == 0);
}

void
dmshook_policy_untake(const DmshookPolicy *policy, DmshookPolicyState *state, bool probe)
{
	if (state->flying > 0)
		state->flying--;
	if (probe)
		state->probing = false;
	if (dmshook_policy_rate(policy, state) > 0)
		state->tokens += 1;		/* tokens_now() caps it */
	if (state->sent > 0)
		state->sent--;
}

void
dmshook_policy_end(const DmshookPolicy *policy, const DmshookPlan *plan, DmshookPolicyState *state,
				   int64_t now, const DmshookEnd *end, DmshookVerdict *verdict)
{
	bool		speaks;
	bool		quick;

	memset(verdict, 0, sizeof(*verdict));
	mend(policy, state, now);
	speaks = end->started >= state->begun_at;
	if (state->flying > 0)
		state->flying--;
	if (end->probe)
		state->probing = false;

	quick = speaks && end->outcome == DMSHOOK_CONNECT_ERROR && now - end->started < QUICK_WITHIN &&
		end->attempts == 1 && end->quick == 0 && plan->max_attempts > 1 &&
		!end->probe && !is_open(policy, state);
	decide(plan, now, end, quick, verdict);

	if (!speaks)
	{
		/* it went where the webhook went before, or nowhere; the next probe comes as if this one had not been */
		if (end->probe && is_open(policy, state))
			set_next_probe(policy, state, now, end);
	}
	else if (end->outcome == DMSHOOK_OK)
		succeeded(policy, state, now, end, verdict);
	else
		failed(policy, state, now, end, quick, verdict);

	if (verdict->further == DMSHOOK_FURTHER_DEAD && !end->notice)
		verdict->notices |= DMSHOOK_NOTICE_EXHAUSTED;
}

void
dmshook_policy_reset(DmshookPolicyState *state, int64_t now)
{
	memset(&state->stored, 0, sizeof(state->stored));
	state->disable = DMSHOOK_DISABLE_NOT;
	state->probing = false;
	state->excused = 0;
	state->told_failing = false;
	state->begun_at = now;
	state->ndeliveries = 0;
	state->closed_at = 0;
	state->hold_until = 0;
	state->pace = 1;
	state->base_rate = 0;
	state->slowed_at = 0;
}

void
dmshook_policy_nudge(DmshookPolicyState *state, int64_t now)
{
	if (state->stored.failing_since != 0)
		state->stored.failing_since = now;
	if (state->stored.circuit_open_since != 0)
		state->stored.next_probe_at = now;
}

int64_t
dmshook_policy_probe_delay(const DmshookPolicy *policy, int probes, double random)
{
	DmshookPlan plan;

	dmshook_plan_default(&plan);
	plan.max_attempts = INT_MAX;
	plan.initial = policy->probe_initial > 1 ? policy->probe_initial : 1;
	plan.factor = 2;
	plan.max = policy->probe_max > plan.initial ? policy->probe_max : plan.initial;
	plan.jitter = PROBE_JITTER;
	return dmshook_plan_delay(&plan, probes < MOST_PROBES ? probes + 1 : MOST_PROBES, random);
}

int
dmshook_policy_in_flight(const DmshookPolicy *policy, const DmshookPolicyState *state)
{
	int			share = (int) (policy->max_in_flight * state->pace + EPSILON);

	return share > 1 ? share : 1;
}

double
dmshook_policy_rate(const DmshookPolicy *policy, const DmshookPolicyState *state)
{
	double		base = base_rate(policy, state);
	double		least = base < LEAST_RATE ? base : LEAST_RATE;
	double		rate = base * state->pace;

	return rate > least ? rate : least;
}

const char *
dmshook_notice_name(unsigned notice)
{
	switch (notice)
	{
		case DMSHOOK_NOTICE_FAILING:
			return "failing";
		case DMSHOOK_NOTICE_RECOVERED:
			return "recovered";
		case DMSHOOK_NOTICE_CIRCUIT_OPEN:
			return "circuit_open";
		case DMSHOOK_NOTICE_CIRCUIT_CLOSED:
			return "circuit_closed";
		case DMSHOOK_NOTICE_DISABLED:
			return "disabled";
		case DMSHOOK_NOTICE_EXHAUSTED:
			return "delivery_exhausted";
	}
	return NULL;
}

const char *
dmshook_disable_reason(DmshookDisable disable)
{
	switch (disable)
	{
		case DMSHOOK_DISABLE_NOT:
			break;
		case DMSHOOK_DISABLE_GONE:
			return "the receiver answered 410 Gone: it wants no more webhooks at this URL";
		case DMSHOOK_DISABLE_FAILING:
			return "every request has failed for as long as the option disable_after allows";
	}
	return NULL;
}

void
dmshook_digest_add(DmshookDigest *digest, int64_t n)
{
	digest->waiting += n;
}

int64_t
dmshook_digest_due(const DmshookDigest *digest, int64_t interval, int64_t now)
{
	if (digest->waiting <= 0)
		return DMSHOOK_NEVER;
	if (digest->told_at == 0 || digest->told_at > now || now - digest->told_at >= us(interval))
		return now;
	return digest->told_at + us(interval);
}

void
dmshook_digest_told(DmshookDigest *digest, int64_t n, int64_t now)
{
	digest->waiting = digest->waiting > n ? digest->waiting - n : 0;
	digest->told_at = now;
}

/* ----------------------------------------------------------- what it stands at */

/* Milliseconds to microseconds, without overflow. */
static int64_t
us(int64_t ms)
{
	return ms < INT64_MAX / 4 / US_PER_MS ? ms * US_PER_MS : INT64_MAX / 4;
}

static bool
is_open(const DmshookPolicy *policy, const DmshookPolicyState *state)
{
	return policy->breaker && state->stored.circuit_open_since != 0;
}

/*
 * The clock may be set back, and the breaker switched off while it is open: no time of ours may
 * then lie further ahead than it can have been meant to.
 */
static void
mend(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now)
{
	DmshookPolicyStored *stored = &state->stored;

	if (!policy->breaker && stored->circuit_open_since != 0)
	{
		stored->circuit_open_since = stored->next_probe_at = 0;
		stored->probes = 0;
		state->probing = false;
	}
	if (stored->next_probe_at > now)
	{
		int64_t		longest = us(dmshook_policy_probe_delay(policy, MOST_PROBES, 0));

		if (stored->next_probe_at - now > longest)
			stored->next_probe_at = now + longest;
	}
	if (stored->failing_since > now)
		stored->failing_since = now;
	if (stored->circuit_open_since > now)
		stored->circuit_open_since = now;
	if (state->hold_until > now && state->hold_until - now > HOLD)
		state->hold_until = now;
	if (state->closed_at > now)
		state->closed_at = now;
	if (state->slowed_at > now)
		state->slowed_at = now;
	if (state->begun_at > now)
		state->begun_at = now;
	if (state->tokens_at > now)
		state->tokens_at = now;
}

/* ---------------------------------------------------------------------- rate */

static double
base_rate(const DmshookPolicy *policy, const DmshookPolicyState *state)
{
	return policy->rate_limit > 0 ? policy->rate_limit : state->base_rate;
}

/*
 * What the bucket holds now; without a rate, more than anybody takes. It holds half a second's
 * worth, so that a minute that begins with a full one is 0.8 % above the limit;
 * a whole second's would be 1.7 %.
 *
 * Who asks is always a little late. Below two a second the bucket holds a single
 * token, and each millisecond that a full one waits would be lost: at
 * two a second 5 ms are one per cent. So what came in while it was full for less than LATE_S
 * is kept; what came in while nobody wanted it is not.
 */
static double
tokens_now(const DmshookPolicy *policy, const DmshookPolicyState *state, int64_t now)
{
	double		rate = dmshook_policy_rate(policy, state);
	double		most = rate * BURST_S > 1 ? rate * BURST_S : 1;
	double		tokens;

	if (rate <= 0)
		return INT_MAX;
	tokens = state->tokens + (now > state->tokens_at ? (double) (now - state->tokens_at) / US_PER_S * rate : 0) + EPSILON;
	return tokens <= most + rate * LATE_S ? tokens : most;
}

/* When it holds a token. */
static int64_t
token_at(const DmshookPolicy *policy, const DmshookPolicyState *state, int64_t now)
{
	double		missing = 1 - tokens_now(policy, state, now);

	return now + 1 + (int64_t) (missing / dmshook_policy_rate(policy, state) * US_PER_S);
}

static void
count_sent(DmshookPolicyState *state, int64_t now)
{
	int64_t		second = now / US_PER_S;

	if (second != state->second)
	{
		state->sent_before = second == state->second + 1 ? state->sent : 0;
		state->sent = 0;
		state->second = second;
	}
	state->sent++;
}

/* Requests in the last whole second or in this one, whichever are more; at least one. */
static double
measured_rate(const DmshookPolicyState *state, int64_t now)
{
	int64_t		second = now / US_PER_S;
	int			rate = 1;

	if (second == state->second)
		rate = state->sent > state->sent_before ? state->sent : state->sent_before;
	else if (second == state->second + 1)
		rate = state->sent;
	return rate > 1 ? rate : 1;
}

/* A new pace, from now on: what the bucket has so far it has at the old one. */
static void
set_pace(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now, double pace)
{
	state->tokens = tokens_now(policy, state, now);
	state->tokens_at = now;
	state->pace = pace;
	if (pace >= 1)
		state->base_rate = 0;
}

/* The receiver asks to be spared. */
static void
slow_down(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now, int64_t started)
{
	double		base;
	double		least;
	double		pace;

	if (state->slowed_at != 0 && started <= state->slowed_at)
		return;
	if (policy->rate_limit <= 0 && state->base_rate <= 0)
	{
		state->base_rate = measured_rate(state, now) / state->pace;
		state->tokens = 0;
		state->tokens_at = now;
	}
	base = base_rate(policy, state);
	least = 1.0 / policy->max_in_flight;
	if (LEAST_RATE / base < least)
		least = LEAST_RATE / base;
	if (least < LEAST_PACE)
		least = LEAST_PACE;
	pace = state->pace / 2;
	set_pace(policy, state, now, pace > least ? pace : least);
	state->slowed_at = now;
}

/* ------------------------------------------------------------------- circuit */

static void
set_next_probe(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now, const DmshookEnd *end)
{
	int64_t		delay = dmshook_policy_probe_delay(policy, state->stored.probes, end->random[1]);
	int64_t		asked = end->retry_after < policy->probe_max ? end->retry_after : policy->probe_max;

	state->stored.next_probe_at = now + us(asked > delay ? asked : delay);
}

/*
 * A receiver that answers a few requests and fails again is not asked every 30 s
 * for ever: while it is still draining from the last outage, the intervals
 * go on growing from where they were.
 */
static void
open_circuit(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now, const DmshookEnd *end)
{
	bool		again = state->closed_at != 0 && now - state->closed_at <= us(policy->probe_max);

	if (!again || state->pace >= 1)
		state->stored.probes = 0;
	state->stored.circuit_open_since = now;
	state->probing = false;
	set_next_probe(policy, state, now, end);
}

static void
close_circuit(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now)
{
	double		pace = 1.0 / policy->max_in_flight;

	if (pace > RAMP_PACE)
		pace = RAMP_PACE;
	if (pace < state->pace)
		set_pace(policy, state, now, pace);
	state->stored.circuit_open_since = state->stored.next_probe_at = 0;
	state->probing = false;
	state->closed_at = now;
}

/* Is the delivery one more among those that failed in a row? */
static void
note_delivery(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t event)
{
	if (state->ndeliveries >= policy->breaker_deliveries || state->ndeliveries >= DMSHOOK_BREAKER_DELIVERIES)
		return;
	for (int i = 0; i < state->ndeliveries; i++)
	{
		if (state->delivery[i] == event)
			return;
	}
	state->delivery[state->ndeliveries++] = event;
}

/* ------------------------------------------------------- a request that ended */

static void
succeeded(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now,
		  const DmshookEnd *end, DmshookVerdict *verdict)
{
	verdict->open_since = state->stored.circuit_open_since;
	if (is_open(policy, state))
	{
		close_circuit(policy, state, now);
		verdict->notices |= DMSHOOK_NOTICE_CIRCUIT_CLOSED;
	}
	else if (state->pace < 1)
		set_pace(policy, state, now, state->pace * GROWTH < 1 ? state->pace * GROWTH : 1);
	if (state->pace >= 1)
		state->stored.probes = 0;

	if (state->owed_since != 0 && !end->notice)
	{
		verdict->notices |= DMSHOOK_NOTICE_RECOVERED;
		verdict->failing_since = state->owed_since;
		state->owed_since = 0;
		state->told_failing = false;
	}
	state->stored.failures = state->excused = 0;
	state->stored.failing_since = 0;
	state->ndeliveries = 0;
	state->hold_until = 0;
}

/* Is the webhook to be disabled? Said once. */
static void
consider_disabling(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now,
				   const DmshookEnd *end, DmshookVerdict *verdict)
{
	if (state->disable != DMSHOOK_DISABLE_NOT)
		return;
	if (end->outcome == DMSHOOK_HTTP_ERROR && end->status == 410)
		state->disable = DMSHOOK_DISABLE_GONE;
	else if (policy->disable_after > 0 && now - state->stored.failing_since >= us(policy->disable_after))
		state->disable = DMSHOOK_DISABLE_FAILING;
	else
		return;
	verdict->disable = state->disable;
	verdict->failing_since = state->stored.failing_since;
	verdict->notices |= DMSHOOK_NOTICE_DISABLED;
}

static void
failed(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now,
	   const DmshookEnd *end, bool quick, DmshookVerdict *verdict)
{
	DmshookPolicyStored *stored = &state->stored;
	int			told_at = DMSHOOK_NOTICE_FAILURES;
	int			counted;

	if (stored->failures < INT_MAX)
		stored->failures++;
	if (stored->failing_since == 0)
		stored->failing_since = now;
	if (quick && state->hold_until == 0)
		state->hold_until = now + HOLD;
	if (quick && now < state->hold_until)
		state->excused++;
	else
		note_delivery(policy, state, end->event);
	counted = stored->failures - state->excused;

	if (end->outcome == DMSHOOK_HTTP_ERROR && (end->status == 429 || end->status == 503))
		slow_down(policy, state, now, end->started);

	if (is_open(policy, state))
	{
		if (end->probe)
		{
			if (stored->probes < INT_MAX)
				stored->probes++;
			set_next_probe(policy, state, now, end);
		}
	}
	else if (policy->breaker && counted >= policy->breaker_failures && state->ndeliveries >= policy->breaker_deliveries)
	{
		open_circuit(policy, state, now, end);
		verdict->notices |= DMSHOOK_NOTICE_CIRCUIT_OPEN;
	}

	if (policy->breaker && policy->breaker_failures < told_at)
		told_at = policy->breaker_failures;
	if (!state->told_failing && counted >= told_at && !end->notice)
	{
		state->told_failing = true;
		if (state->owed_since == 0)
			state->owed_since = stored->failing_since;
		verdict->notices |= DMSHOOK_NOTICE_FAILING;
		verdict->failing_since = stored->failing_since;
	}
	consider_disabling(policy, state, now, end, verdict);
}

/* What becomes of the delivery. */
static void
decide(const DmshookPlan *plan, int64_t now, const DmshookEnd *end, bool quick, DmshookVerdict *verdict)
{
	bool		answered = end->outcome == DMSHOOK_HTTP_ERROR || end->outcome == DMSHOOK_REDIRECT;
	int64_t		delay = -1;

	verdict->quick = end->quick;
	if (end->outcome == DMSHOOK_OK)
	{
		verdict->further = DMSHOOK_FURTHER_DELIVERED;
		return;
	}
	if (quick)
	{
		verdict->further = DMSHOOK_FURTHER_RETRY;
		verdict->quick = 1;
		verdict->due = now + QUICK_LEAST + (int64_t) (end->random[0] * (QUICK_MOST - QUICK_LEAST));
		return;
	}
	if (dmshook_plan_retryable(plan, end->outcome, end->status))
		delay = dmshook_plan_delay_asked(plan, end->attempts - end->quick, end->random[0],
										 answered ? end->retry_after : -1);
	verdict->further = delay >= 0 ? DMSHOOK_FURTHER_RETRY : DMSHOOK_FURTHER_DEAD;
	if (delay >= 0)
		verdict->due = now + us(delay);
}
