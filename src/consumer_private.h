/*
 * consumer_private.h - what consumer.c, consumer_window.c and
 * consumer_commit.c share; nobody else includes it.
 */
#ifndef DMSHOOK_CONSUMER_PRIVATE_H
#define DMSHOOK_CONSUMER_PRIVATE_H

#include "consumer.h"

/* More late ids than this of one webhook: it reads the log again instead. */
#ifndef DMSHOOK_LATE_CAP
#define DMSHOOK_LATE_CAP	4096
#endif

/* A webhook that is more ids than this behind gets a row, and no longer holds the reader's low. */
#ifndef DMSHOOK_ROW_SLACK
#define DMSHOOK_ROW_SLACK	10000
#endif

/* Unused entries kept for the next ones. */
#define FREE_ENTRIES		4096

typedef struct EntryList
{
	DmshookEntry *first,
			   *last;
	int			n;
} EntryList;

/*
 * An entity of an ordered webhook: exists while the window or the queue holds
 * something of it.
 */
typedef struct DmshookEntityQueue
{
	uint64_t	entity;
	DmshookConsumer *consumer;
	DmshookEntry *first,
			   *last;			/* window entries, by arrival */
	int64_t		rows;			/* committed queue rows of kind d */
	int			picked;			/* of these, how many are in memory */
	int			parking;		/* how many window entries are to be parked */
	bool		promoting;		/* already in this commit's list */
	struct DmshookEntityQueue *hash_next;
	struct DmshookEntityQueue *park_prev,
			   *park_next;		/* while parking > 0 */
} EntityQueue;

struct DmshookReplay
{
	DmshookConsumer *consumer;
	DmshookReplay *prev,
			   *next;
	int64_t		command;
	int64_t		place;			/* read up to here */
	int64_t		until;
	void	   *cookie;
	int			entries;		/* in memory */
	bool		stopped;		/* a scan met what has no room */
};

struct DmshookConsumer
{
	DmshookConsumers *set;
	DmshookConsumer *prev,
			   *next_consumer;
	int			webhook;
	void	   *cookie;
	DmshookConsumerSettings settings;

	/* the place in the log */
	bool		live;			/* next is the reader's high, whatever that is */
	int64_t		next;			/* where not live */
	int64_t		redo;			/* up to here something may have been done before */
	int64_t		skip;			/* up to here nothing is taken */
	int64_t    *late;			/* ascending */
	int			nlate,
				late_size;
	bool		stopped;		/* a scan met what has no room */
	bool		in_hungry;		/* in the set's list of those that are behind, or have late ids, and may take something */
	DmshookConsumer *hungry_prev,
			   *hungry_next;
	unsigned	round;			/* the walk of hungry ones that returned it last */
	bool		in_moving;		/* in the set's list of those whose place is to be looked at when places are stored */
	DmshookConsumer *moving_prev,
			   *moving_next;
	int			waiting;		/* its part of set->waiting */

	/* entries of all origins */
	DmshookEntry **entries;		/* hash by id */
	size_t		nbuckets;
	DmshookEntry *all_first,
			   *all_last;		/* by arrival */
	int			nentries;
	int			window;			/* those from the log */
	int			flying;
	int			finished;
	EntryList	ready;			/* from the log, may be sent */
	EntryList	ready_replay;
	unsigned	sends;
	bool		in_ready;		/* in the set's list */
	DmshookConsumer *ready_prev,
			   *ready_next;

	/* ordered webhooks */
	EntityQueue **entities;
	size_t		entity_buckets;
	size_t		nentities;

	DmshookReplay *replays;

	/* what position has */
	bool		stored;
	int64_t		stored_low;
};

struct DmshookConsumers
{
	DmshookConsumerCalls calls;
	DmshookConsumer *first,
			   *last;
	int			nconsumers;
	int64_t		high;
	int64_t		stored_high;	/* R */
	bool		looking;
	bool		room;
	int			flying;
	uint64_t	arrivals;
	unsigned	round;
	int			waiting;		/* entries from the log that are not under way, of all webhooks */
	DmshookConsumer *hungry_first,	/* next in turn */
			   *hungry_last;
	DmshookConsumer *moving_first,
			   *moving_last;
	DmshookConsumer *ready_first,
			   *ready_last;
	EntryList	finished;
	EntityQueue *park_first,
			   *park_last;
	DmshookEntry *unused;
	int			nunused;

	bool		committing;
	DmshookCommit commit;
	int			results_size,
				parks_size,
				promotes_size;

	DmshookPersist persist;
	int			places_size;
};

/* consumer.c */
extern bool dmshook__has_room(const DmshookConsumer *c);
extern void dmshook__rewind(DmshookConsumer *c, int64_t id);
extern void dmshook__moved(DmshookConsumer *c);
extern bool dmshook__settled(const DmshookConsumer *c);
extern void dmshook__list_moving(DmshookConsumer *c, bool wanted);
extern void *dmshook__alloc(DmshookConsumers *set, size_t size);
extern void dmshook__free(DmshookConsumers *set, void *pointer);
extern bool dmshook__grow(DmshookConsumers *set, void *array, int *size, int need, size_t element);

/* consumer_window.c */
extern DmshookEntry *dmshook__find_entry(const DmshookConsumer *c, int64_t id);
extern DmshookEntry *dmshook__add_entry(DmshookConsumer *c, const DmshookLogEvent *event, DmshookOrigin origin,
										char kind, int64_t command, DmshookReplay *replay);
extern void dmshook__remove_entry(DmshookEntry *entry);
extern EntityQueue *dmshook__find_entity(const DmshookConsumer *c, uint64_t entity);
extern void dmshook__settle_entity(EntityQueue *queue);
extern void dmshook__add_rows(EntityQueue *queue, int n);
extern void dmshook__forget_entities(DmshookConsumer *c);
extern void dmshook__update_ready(DmshookConsumer *c);
extern void dmshook__list_remove(EntryList *list, DmshookEntry *entry);
extern void dmshook__list_append(EntryList *list, DmshookEntry *entry);
extern void dmshook__list_prepend(EntryList *list, DmshookEntry *entry);

#endif							/* DMSHOOK_CONSUMER_PRIVATE_H */
