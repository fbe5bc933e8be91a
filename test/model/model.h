/*
 * model.h - a database, a reader and a dispatcher in miniature, which drive the
 * real consumer*.c through random schedules. See main.c.
 *
 * What is in Database survives a crash; what is in Life does not.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/consumer_private.h"

#define MAX_EVENTS		40
#define MAX_WEBHOOKS	3
#define MAX_TX			5
#define MAX_ENTITIES	4
#define MAX_VERSIONS	8
#define MAX_REPLAYS		6
#define MAX_COMMANDS	8
#define MAX_EPOCHS		MAX_EVENTS
#define MAX_FLYING		64
#define TYPES			2

/* Entities from here on are written without a row lock, as emit() does. */
#define LOCKED(entity)	((entity) < MAX_ENTITIES - 1)

typedef enum EventStatus
{
	NOT_TAKEN, OPEN, COMMITTED, ABORTED
} EventStatus;

typedef struct Event
{
	EventStatus status;
	int			entity;
	int			type;
	int			tx;
} Event;

typedef struct Tx
{
	bool		open;
	int64_t		xid;
	bool		locks[MAX_ENTITIES];
} Tx;

typedef struct QueueRow
{
	bool		present;
	bool		due;			/* false: parked */
	bool		cancelled;
	int			attempts;
	char		kind;
	int			command;
} QueueRow;

typedef struct Attempts
{
	int			n;
	char		final;			/* the last one; 0: none */
	uint32_t	commands;		/* of which commands there are attempts */
} Attempts;

typedef struct StoredReplay
{
	bool		present;
	int64_t		low,
				until;
	int			command;
	int			types;
	bool		accepted[MAX_EVENTS + 1];	/* the replay took it, or wanted to: it has to come */
} StoredReplay;

typedef struct Command
{
	char		kind;			/* c cancel, a cancel_all, e expire, r redeliver, y replay; 0: done */
	int			id;
	int64_t		event;
	int64_t		upto;
} Command;

typedef struct Webhook
{
	/* configuration */
	bool		ordered;
	bool		judges;			/* some of what is sent goes to a helper, which rejects it */
	bool		switched;		/* ordered was switched: what was under way has no order */
	bool		paused;
	bool		enabled;
	int			window,
				max_in_flight;
	int			nversions;
	int64_t		from_id[MAX_VERSIONS];
	int			types[MAX_VERSIONS];	/* bits; 0: disabled then */

	/* our tables */
	bool		has_row;
	int64_t		low;
	int64_t		skip;
	QueueRow	queue[MAX_EVENTS + 1];
	Attempts	attempt[MAX_EVENTS + 1];
	StoredReplay replay[MAX_REPLAYS];
	Command		command[MAX_COMMANDS];

	/* what the receiver saw in this life */
	int			sent[MAX_EVENTS + 1];	/* of the log */
	bool		in_flight[MAX_EVENTS + 1];	/* or ended and not committed */
	char		flight_kind[MAX_EVENTS + 1];
} Webhook;

typedef struct Database
{
	int			max_events;
	int			nentities;
	int			nwebhooks;
	int64_t		last_value;
	int64_t		next_xid;
	int			next_command;
	bool		switches;		/* ordering may be switched in this schedule */
	Event		event[MAX_EVENTS + 1];
	Tx			tx[MAX_TX];
	Webhook		webhook[MAX_WEBHOOKS];
	int64_t		reader_low;		/* R */
} Database;

typedef struct Epoch
{
	int64_t		start,
				end;			/* ids from start to end */
	int64_t		fence;
	int			count;
	int64_t		cursor;			/* 0: no look open */
} Epoch;

typedef struct Life
{
	DmshookConsumers *set;
	DmshookConsumer *consumer[MAX_WEBHOOKS];
	bool		missing[MAX_EVENTS + 2];
	Epoch		epoch[MAX_EPOCHS];
	int			nepochs;
	DmshookEntry *flying[MAX_FLYING];
	int			nflying;
	int			kept[MAX_EVENTS + 1];	/* references to payloads */
	int			allocated;
} Life;

extern Database db;
extern Life life;
extern uint64_t seed;
extern int	misuse;				/* which mistake the dispatcher makes; 0: none */
extern bool calm;				/* the end: all goes well now */
extern int	scarcity;			/* percent of allocations that fail */
extern bool verbose;

/* main.c */
extern uint32_t rnd(uint32_t n);	/* 0 .. n - 1 */
extern bool chance(uint32_t percent);
extern void fail(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));
extern void trace(const char *format,...) __attribute__((format(printf, 1, 2)));

#define CHECK(condition, ...) do { if (!(condition)) fail(__VA_ARGS__); } while (0)

/* world.c: writers, the reader */
extern void world_init(void);
extern void world_step(void);
extern void world_end_all(void);
extern bool subscribed(const Webhook *webhook, int64_t id);
extern bool refused(const Webhook *webhook, int64_t id);
extern int64_t reader_least_missing(void);
extern bool reader_looking(void);
extern void reader_round(int limit, int probes);

/* dispatcher.c */
extern void start(void);
extern void crash(void);
extern void dispatcher_step(void);
extern void dispatcher_drain(void);
extern bool dispatcher_idle(void);
extern void ask(int w);

/* check.c */
extern void check_memory(void);
extern void check_persist(const DmshookPersist *persist, int64_t reader_low, bool all);
extern void check_database(void);
extern void check_send(int w, const DmshookEntry *entry);
extern void check_end(void);

#endif							/* MODEL_H */
