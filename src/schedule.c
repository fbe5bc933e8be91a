/*
 * schedule.c - whether and when to send again.
 *
 * Pure logic: no PostgreSQL, no curl, no clock, no memory of its own, no
 * random numbers (the caller passes them). The dispatcher asks it after every
 * request; SQL functions ask it to check options and to show a plan. Nothing
 * here ever raises an error or allocates.
 */
#include "schedule.h"

#include <string.h>

/* After so many steps a backoff grows no more: a factor next to 1 must not take seconds. */
#define MOST_STEPS		10000

/* No delay is longer than this, whatever a plan says (jitter included). */
#define LONGEST_DELAY	(INT64_C(365) * 24 * 3600 * 1000)

/* Retry-After is honoured so far. */
#define LONGEST_ASKED	(INT64_C(24) * 3600 * 1000)

static double lengthened(double delay, double jitter, double random);
static bool status_code_parse(const char **p, uint16_t *code);
static int64_t plan_base_delay(const DmshookPlan *plan, int attempts);

/*
 * The delays are 5 s, 20 s, 80 s, 5 min 20 s, 21 min 20 s, 1 h 25 min 20 s,
 * 5 h 41 min 20 s and six times 12 h: 79 h 35 min 5 s from the first attempt to the
 * last. A receiver that fails on Friday evening is still tried on Monday
 * afternoon; and since jitter only ever lengthens (dmshook_plan_delay), that
 * is the least.
 */
void
dmshook_plan_default(DmshookPlan *plan)
{
	memset(plan, 0, sizeof(*plan));
	plan->max_attempts = 14;
	plan->initial = 5 * 1000;
	plan->factor = 4;
	plan->max = INT64_C(12) * 3600 * 1000;
	plan->jitter = 0.2;
	plan->success.n = 1;
	plan->success.range[0].from = 200;
	plan->success.range[0].to = 299;
}

/*
 * Jitter is one-sided: of a delay d it makes one of [d, d * (1 + jitter)), so
 * that the plan is what an admin may count on, and never less. Were it drawn
 * from both sides, one delivery in seventy would be given up before 72 hours
 * under the default plan. |2r - 1| is uniform where r is, and 0 for r = 0.5.
 */
int64_t
dmshook_plan_delay(const DmshookPlan *plan, int attempts, double random)
{
	double		delay;

	if (attempts < 1)
		attempts = 1;
	if (attempts >= plan->max_attempts)
		return -1;

	delay = lengthened((double) plan_base_delay(plan, attempts), plan->jitter, random);
	if (delay >= (double) LONGEST_DELAY)
		return LONGEST_DELAY;
	return (int64_t) delay;
}

/*
 * A thousand deliveries that were all told "in a minute" come back spread, as
 * those do that were told nothing.
 */
int64_t
dmshook_plan_delay_asked(const DmshookPlan *plan, int attempts, double random, int64_t asked)
{
	int64_t		delay = dmshook_plan_delay(plan, attempts, random);
	double		spread;

	if (delay < 0 || asked <= 0)
		return delay;
	spread = lengthened((double) asked, plan->jitter, random);
	asked = spread >= (double) LONGEST_ASKED ? LONGEST_ASKED : (int64_t) spread;
	return asked > delay ? asked : delay;
}

/*
 * Everything that failed is tried again, but for the statuses that the webhook
 * lists in no_retry. There are failures that look final and are not:
 *
 * - blocked_address: DNS answered with a private address. Split-horizon
 *   resolvers and hijacking portals do so for minutes; nothing was sent.
 * - redirect, too_large, protocol_error: a receiver that is being deployed
 *   answers with its front end's pages.
 * - internal_error: a fault on our side, which an update or a new
 *   transform mends, and must not turn events into dead letters at once.
 * - 4xx: wrong credentials and lost routes are mended by people, in hours.
 *
 * A no_retry status counts only where the response is what failed: an answer
 * that broke off says nothing that can be relied on.
 */
bool
dmshook_plan_retryable(const DmshookPlan *plan, DmshookOutcome outcome, int status)
{
	if (outcome == DMSHOOK_OK)
		return false;
	if (outcome == DMSHOOK_HTTP_ERROR || outcome == DMSHOOK_REDIRECT)
		return !dmshook_status_list_has(&plan->no_retry, status);
	return true;
}

/*
 * Blanks are allowed around numbers, commas and dashes. An empty list is
 * malformed: as no_retry it would say nothing, as success it would fail all.
 */
bool
dmshook_status_list_parse(const char *text, DmshookStatusList *list, size_t *fault)
{
	const char *p = text;

	list->n = 0;
	for (;;)
	{
		const char *start;
		uint16_t	from;
		uint16_t	to;

		p += strspn(p, " \t");
		start = p;
		if (!status_code_parse(&p, &from))
			break;
		to = from;
		p += strspn(p, " \t");
		if (*p == '-')
		{
			p++;
			p += strspn(p, " \t");
			if (!status_code_parse(&p, &to))
				break;
			p += strspn(p, " \t");
		}
		if (to < from || list->n == DMSHOOK_MAX_RANGES)
		{
			p = start;
			break;
		}
		list->range[list->n].from = from;
		list->range[list->n].to = to;
		list->n++;
		if (*p == '\0')
			return true;
		if (*p != ',')
			break;
		p++;
	}

	list->n = 0;
	if (fault != NULL)
		*fault = (size_t) (p - text);
	return false;
}

bool
dmshook_status_list_has(const DmshookStatusList *list, int status)
{
	for (int i = 0; i < list->n; i++)
	{
		if (status >= list->range[i].from && status <= list->range[i].to)
			return true;
	}
	return false;
}

/* The names are those of dmshook.attempts.outcome. */
const char *
dmshook_outcome_name(DmshookOutcome outcome)
{
	switch (outcome)
	{
		case DMSHOOK_OK:
			return "ok";
		case DMSHOOK_HTTP_ERROR:
			return "http_error";
		case DMSHOOK_TIMEOUT:
			return "timeout";
		case DMSHOOK_DNS_ERROR:
			return "dns_error";
		case DMSHOOK_CONNECT_ERROR:
			return "connect_error";
		case DMSHOOK_TLS_ERROR:
			return "tls_error";
		case DMSHOOK_BLOCKED_ADDRESS:
			return "blocked_address";
		case DMSHOOK_REDIRECT:
			return "redirect";
		case DMSHOOK_TOO_LARGE:
			return "too_large";
		case DMSHOOK_PROTOCOL_ERROR:
			return "protocol_error";
		case DMSHOOK_INTERNAL_ERROR:
			return "internal_error";
	}
	return NULL;
}

/* A delay with jitter, which only ever lengthens it. */
static double
lengthened(double delay, double jitter, double random)
{
	if (jitter > 0 && random >= 0 && random < 1)
		delay += delay * (jitter < 1 ? jitter : 1) * (random < 0.5 ? 1 - 2 * random : 2 * random - 1);
	return delay;
}

/* Three digits, 100 to 599; *p is moved past them only when they are that. */
static bool
status_code_parse(const char **p, uint16_t *code)
{
	const char *s = *p;
	int			value = 0;

	for (int i = 0; i < 3; i++)
	{
		if (s[i] < '0' || s[i] > '9')
			return false;
		value = value * 10 + (s[i] - '0');
	}
	if (value < 100 || value > 599 || (s[3] >= '0' && s[3] <= '9'))
		return false;
	*code = (uint16_t) value;
	*p = s + 3;
	return true;
}

/*
 * The delay without jitter. Multiplied out step by step, so that it stops at
 * the cap: pow() of a large plan would be infinite, and a cast of that is
 * undefined.
 */
static int64_t
plan_base_delay(const DmshookPlan *plan, int attempts)
{
	int64_t		cap = plan->max;
	double		delay;

	if (plan->n_intervals > 0)
	{
		int			i = attempts - 1;

		if (i >= plan->n_intervals)
			i = plan->n_intervals - 1;
		delay = (double) plan->interval[i];
		cap = LONGEST_DELAY;
	}
	else
	{
		if (cap <= 0 || cap > LONGEST_DELAY)
			cap = LONGEST_DELAY;
		delay = (double) plan->initial;
		/* !(> 1) also holds for NaN: such a plan repeats its first delay */
		if (plan->factor > 1 && delay > 0)
		{
			for (int i = 1; i < attempts && i < MOST_STEPS && delay < (double) cap; i++)
				delay *= plan->factor;
		}
	}
	if (!(delay > 0))
		return 0;
	return delay >= (double) cap ? cap : (int64_t) delay;
}
