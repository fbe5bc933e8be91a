/*
 * world.h - webhooks, receivers and a clock for the simulation of the delivery policy.
 * See world.c.
 */
#ifndef WORLD_H
#define WORLD_H

#include "policy.h"

#define MS		INT64_C(1000)
#define SECOND	(1000 * MS)
#define MINUTE	(60 * SECOND)
#define HOUR	(60 * MINUTE)
#define DAY		(24 * HOUR)
#define START	(INT64_C(230000) * HOUR)	/* some day of 2026 */

/* What a receiver does while it is down. */
typedef enum Fault
{
	REFUSES,					/* connect_error, at once */
	HANGS,						/* timeout */
	ANSWERS_500,
	ANSWERS_503,				/* Retry-After: 120 */
	ANSWERS_429,
	FAULTS
} Fault;

typedef struct Receiver
{
	Fault		fault;
	int64_t		down_from;		/* it is down from .. upto, and again each `period` (0: once) */
	int64_t		down_upto;
	int64_t		period;
	double		flaky;			/* else: a 500 this often */
	double		capacity;		/* else: a 429 beyond so many a second; 0: any number */
	int64_t		gone_at;		/* 410 from then on; 0: never */
	int64_t		poison_from;	/* it refuses these events, */
	int64_t		poison_upto;	/* from .. upto - 1, by 422 */
	double		tokens;
	int64_t		tokens_at;
} Receiver;

/* A delivery that failed: a row of the queue. */
typedef struct Row
{
	int64_t		due;
	int64_t		event;
	int			attempts;
	int			quick;
} Row;

typedef struct Hook
{
	DmshookPolicy policy;
	DmshookPlan plan;
	DmshookPolicyState state;
	Receiver	receiver;

	int64_t		interval;		/* an event each so many us */
	int64_t		until;			/* the last one before that */
	int64_t		next;			/* the first event that was never tried */
	Row		   *queue;			/* a heap by due */
	int			nqueue;
	int			queue_size;
	int			flying;
	int			life;			/* counts restarts */
	int64_t		wake_at;

	/* what came of it */
	int64_t		attempts;
	int64_t		delivered;
	int64_t		dead;
	int64_t		repeated;		/* delivered, and its result lost in a restart */
	int			told[DMSHOOK_NOTICES];
	int64_t		disabled_at;
	int64_t		first_success;	/* after since */
	int64_t		since;
	int64_t		minute;			/* the running minute's requests, for rate_limit */
	int			in_minute;
	int			most_in_minute;
} Hook;

/* Called at the start of each request; may be NULL. */
typedef void (*Watcher) (const Hook *hook, int64_t now);

extern void world_begin(Hook *hooks, int n);
extern void world_run(Hook *hooks, int n, int64_t from, int64_t upto, Watcher watcher);
extern void world_restart(Hook *hooks, int index, int64_t now); /* between two calls of world_run */
extern void world_end(Hook *hooks, int n);
extern int64_t world_emitted(const Hook *hook, int64_t now);
extern double world_random(void);
extern void world_check(bool ok, const char *file, int line, const char *what, const char *format,...) __attribute__((format(printf, 5, 6)));
extern int	world_failures;

#define CHECK(condition, ...) \
	world_check((condition), __FILE__, __LINE__, #condition, __VA_ARGS__)

#endif							/* WORLD_H */
