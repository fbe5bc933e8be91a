/*
 * policy.h - whether and when a webhook may send: breaker, pace, rate, and what
 * becomes of a request that ended. See policy.c.
 *
 * Pure: no PostgreSQL, no curl, no clock, no memory, no random numbers of its own. Times
 * are microseconds of one clock (the dispatcher's: TimestampTz), 0: none. Options
 * are milliseconds, as in schedule.h. One DmshookPolicyState per webhook.
 *
 *   may one go?    dmshook_policy_gate()  how many, and else why not and until when
 *   it goes        dmshook_policy_take()  for each request but tests
 *   it did not     dmshook_policy_untake()
 *   it ended       dmshook_policy_end()   verdict: delivered, again when, dead; and notices
 */
#ifndef DMSHOOK_POLICY_H
#define DMSHOOK_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "schedule.h"

#define DMSHOOK_NEVER				INT64_MAX
#define DMSHOOK_BREAKER_DELIVERIES	100 /* highest value of breaker.deliveries */
#define DMSHOOK_NOTICE_FAILURES		3	/* so many failures in a row are told as "failing" */

/* Options of a webhook, beside its plan. */
typedef struct DmshookPolicy
{
	int			max_in_flight;	/* >= 1 */
	double		rate_limit;		/* per second; 0: none */
	bool		breaker;		/* false: none */
	int			breaker_failures;	/* failed attempts in a row, >= 1, */
	int			breaker_deliveries; /* on so many deliveries, 1 to DMSHOOK_BREAKER_DELIVERIES, open it */
	int64_t		probe_initial;	/* ms */
	int64_t		probe_max;		/* ms, before jitter of up to a tenth */
	int64_t		disable_after;	/* ms of nothing but failures; 0: never */
} DmshookPolicy;

/* What survives a restart: columns of dmshook.webhook_state. */
typedef struct DmshookPolicyStored
{
	int			failures;		/* in a row */
	int64_t		failing_since;
	int64_t		circuit_open_since; /* 0: closed */
	int64_t		next_probe_at;
	int			probes;			/* that failed since it opened; kept until the drain is at full pace again */
} DmshookPolicyStored;

/* Why it is to be disabled. */
typedef enum DmshookDisable
{
	DMSHOOK_DISABLE_NOT,
	DMSHOOK_DISABLE_GONE,		/* it answered 410 */
	DMSHOOK_DISABLE_FAILING		/* nothing but failures for disable_after */
} DmshookDisable;

typedef struct DmshookPolicyState
{
	DmshookPolicyStored stored;
	DmshookDisable disable;		/* stays until dmshook_policy_reset(): nothing goes meanwhile */

	/* policy.c's */
	int			flying;			/* taken, and not ended */
	int			excused;		/* of the failures in a row: broken connections during the hold */
	bool		probing;		/* one of them is the probe */
	bool		told_failing;	/* of this streak "failing" was told */
	int64_t		owed_since;		/* "failing" was told, "recovered" not yet: it failed since; 0: nothing is owed */
	int64_t		begun_at;		/* last reset: requests started before it say nothing about the webhook */
	int			ndeliveries;	/* distinct ones among the failures in a row */
	int64_t		delivery[DMSHOOK_BREAKER_DELIVERIES];
	int64_t		closed_at;		/* when the circuit was last closed by a success */
	int64_t		hold_until;		/* a pause after the first broken connection in a row; 0: there was none */
	double		pace;			/* (0, 1]: share of max_in_flight and of the rate */
	double		base_rate;		/* slowed without a rate_limit: the rate of which pace is a share; 0: none */
	int64_t		slowed_at;
	double		tokens;
	int64_t		tokens_at;
	int64_t		second;			/* requests of this second and of the one before */
	int			sent;
	int			sent_before;
} DmshookPolicyState;

/* May a request go? */
typedef enum DmshookGate
{
	DMSHOOK_PASS,
	DMSHOOK_PASS_PROBE,			/* the circuit is open: one, as the probe */
	DMSHOOK_WAIT_RESULT,		/* enough are under way: the next result may change that */
	DMSHOOK_WAIT_RATE,			/* rate limit, or slowed down */
	DMSHOOK_WAIT_HOLD,			/* connections break: a pause of a quarter second */
	DMSHOOK_WAIT_PROBE,			/* the circuit is open */
	DMSHOOK_WAIT_DISABLED
} DmshookGate;

/* A request that ended. */
typedef struct DmshookEnd
{
	int64_t		event;			/* which delivery */
	DmshookOutcome outcome;
	int			status;
	int64_t		started;		/* us; INT64_MIN: it failed by our own fault, which says nothing about the receiver */
	int64_t		retry_after;	/* ms, as the response asked; -1: it did not */
	int			attempts;		/* of this delivery, with this one */
	int			quick;			/* of these: quick retries, which the plan does not count (0 or 1; queue.quick) */
	bool		probe;			/* as dmshook_policy_take() said */
	bool		notice;			/* the event is a failure notification itself (webhook.failing, ...): no notice comes of it but circuit and disabled */
	double		random[2];		/* uniform in [0, 1), independent */
} DmshookEnd;

typedef enum DmshookFurther
{
	DMSHOOK_FURTHER_DELIVERED,
	DMSHOOK_FURTHER_RETRY,
	DMSHOOK_FURTHER_DEAD
} DmshookFurther;

/* Things to be told; bits of DmshookVerdict.notices. */
#define DMSHOOK_NOTICE_FAILING			0x01
#define DMSHOOK_NOTICE_RECOVERED		0x02
#define DMSHOOK_NOTICE_CIRCUIT_OPEN		0x04
#define DMSHOOK_NOTICE_CIRCUIT_CLOSED	0x08
#define DMSHOOK_NOTICE_DISABLED			0x10
#define DMSHOOK_NOTICE_EXHAUSTED		0x20
#define DMSHOOK_NOTICES					6

typedef struct DmshookVerdict
{
	DmshookFurther further;
	int64_t		due;			/* RETRY: not before, us */
	int			quick;			/* RETRY: to be kept with the delivery */
	unsigned	notices;
	DmshookDisable disable;		/* disable the webhook now (the delivery stays as `further` says) */
	int64_t		failing_since;	/* RECOVERED, DISABLED: it failed since */
	int64_t		open_since;		/* CIRCUIT_CLOSED: it was open since */
} DmshookVerdict;

/* 32 in flight, no rate limit, breaker 20/5/30 s/15 min, disabled after 5 days. */
extern void dmshook_policy_default(DmshookPolicy *policy);

/* At start: as stored (NULL: a new webhook). What is not stored begins anew; the bucket with one token. */
extern void dmshook_policy_load(DmshookPolicyState *state, const DmshookPolicyStored *stored, int64_t now);

/*
 * May requests go now? PASS...: *room says how many, at least 1 (the next
 * gate after a take may say less). WAIT...: *room is 0, *next when to ask
 * again; DMSHOOK_NEVER: only after a result or a change. room and next may be
 * NULL. It only looks, but for what a clock that was set back, or an option, has made impossible.
 */
extern DmshookGate dmshook_policy_gate(const DmshookPolicy *policy, DmshookPolicyState *state,
									   int64_t now, int *room, int64_t *next);

/* Take leave for one request; false: not now. *probe goes into its DmshookEnd. */
extern bool dmshook_policy_take(const DmshookPolicy *policy, DmshookPolicyState *state, int64_t now, bool *probe);

/*
 * Which delivery is to be the probe? One that was tried before and is due (the
 * longest due one), so that deliveries end one by one; true: one that was never tried, if there
 * is any, so that a few that fail by themselves do not keep the circuit open.
 */
extern bool dmshook_policy_probe_fresh(const DmshookPolicyState *state);

/* It was not made (no connection free, cancelled): give the leave back. */
extern void dmshook_policy_untake(const DmshookPolicy *policy, DmshookPolicyState *state, bool probe);

/* It ended (not: a test). The state changes at once; the verdict is to be carried out. */
extern void dmshook_policy_end(const DmshookPolicy *policy, const DmshookPlan *plan, DmshookPolicyState *state,
							   int64_t now, const DmshookEnd *end, DmshookVerdict *verdict);

/* Enabled again, or a new url: closed, at full pace, nothing failed. What flies decides about its delivery only. */
extern void dmshook_policy_reset(DmshookPolicyState *state, int64_t now);

/* Resumed after a pause, or a test succeeded: a probe may go now, and disable_after begins anew. */
extern void dmshook_policy_nudge(DmshookPolicyState *state, int64_t now);

/* ms from one probe to the next after so many failed ones; random as in dmshook_plan_delay (0.5: without jitter). */
extern int64_t dmshook_policy_probe_delay(const DmshookPolicy *policy, int probes, double random);

/* In flight, and per second (0: unlimited), as of now: slowed down, or growing after an outage. */
extern int	dmshook_policy_in_flight(const DmshookPolicy *policy, const DmshookPolicyState *state);
extern double dmshook_policy_rate(const DmshookPolicy *policy, const DmshookPolicyState *state);

/* "failing", "recovered", "circuit_open", "circuit_closed", "disabled", "delivery_exhausted"; NULL: no single notice. */
extern const char *dmshook_notice_name(unsigned notice);

/* A sentence for webhook.reason and the alert; NULL for DISABLE_NOT. */
extern const char *dmshook_disable_reason(DmshookDisable disable);

/*
 * Digest of many notices of one kind and webhook: the first is told at once,
 * what follows is gathered. Zeroed at start.
 */
typedef struct DmshookDigest
{
	int64_t		told_at;		/* 0: never */
	int64_t		waiting;		/* to be told */
} DmshookDigest;

/* n more happened. */
extern void dmshook_digest_add(DmshookDigest *digest, int64_t n);

/* When is it to be told next? DMSHOOK_NEVER: nothing waits. interval: at most one in so many ms. */
extern int64_t dmshook_digest_due(const DmshookDigest *digest, int64_t interval, int64_t now);

/* Told (committed): so many. */
extern void dmshook_digest_told(DmshookDigest *digest, int64_t n, int64_t now);

#endif							/* DMSHOOK_POLICY_H */
