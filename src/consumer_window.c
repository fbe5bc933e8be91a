/*
 * consumer_window.c - what a webhook has in memory, and in which order it may go.
 *
 * Entries (of the log, picked from the queue, of replays) of a webhook, found
 * by id: at most one per event. For an ordered webhook the entries from the log also
 * stand in line per entity, by arrival: one that comes late from a gap was
 * not visible when those before it were taken, so it does not belong before them.
 * Only the head of a line may be sent, and only while the queue table has no
 * row of that entity; where it has, the whole line is parked.
 *
 * Pure, as consumer.h says. Nothing here reads the log, moves a place in it, or knows what a
 * transaction is.
 */
#include "consumer_private.h"

/* ------------------------------------------------------------------ lists */

void
dmshook__list_append(EntryList *list, DmshookEntry *entry)
{
	entry->list_prev = list->last;
	entry->list_next = NULL;
	if (list->last)
		list->last->list_next = entry;
	else
		list->first = entry;
	list->last = entry;
	list->n++;
	entry->listed = true;
}

void
dmshook__list_prepend(EntryList *list, DmshookEntry *entry)
{
	entry->list_prev = NULL;
	entry->list_next = list->first;
	if (list->first)
		list->first->list_prev = entry;
	else
		list->last = entry;
	list->first = entry;
	list->n++;
	entry->listed = true;
}

void
dmshook__list_remove(EntryList *list, DmshookEntry *entry)
{
	if (entry->list_prev)
		entry->list_prev->list_next = entry->list_next;
	else
		list->first = entry->list_next;
	if (entry->list_next)
		entry->list_next->list_prev = entry->list_prev;
	else
		list->last = entry->list_prev;
	list->n--;
	entry->listed = false;
}

static EntryList *
ready_list(DmshookEntry *entry)
{
	return entry->origin == DMSHOOK_FROM_REPLAY ? &entry->consumer->ready_replay : &entry->consumer->ready;
}

/* ------------------------------------------- webhooks that may send now */

/* The one gate of the set's list of webhooks that have something to send and may. */
void
dmshook__update_ready(DmshookConsumer *c)
{
	DmshookConsumers *set = c->set;
	bool		wanted = (c->ready.n > 0 || c->ready_replay.n > 0) && dmshook_consumer_may_send(c);

	dmshook__moved(c);
	if (wanted == c->in_ready)
		return;
	if (wanted)
	{
		c->ready_prev = set->ready_last;
		c->ready_next = NULL;
		if (set->ready_last)
			set->ready_last->ready_next = c;
		else
			set->ready_first = c;
		set->ready_last = c;
	}
	else
	{
		if (c->ready_prev)
			c->ready_prev->ready_next = c->ready_next;
		else
			set->ready_first = c->ready_next;
		if (c->ready_next)
			c->ready_next->ready_prev = c->ready_prev;
		else
			set->ready_last = c->ready_prev;
	}
	c->in_ready = wanted;
}

bool
dmshook_consumer_may_send(const DmshookConsumer *c)
{
	return c->settings.may_send && c->flying < c->settings.max_in_flight;
}

/* The first one goes to the end of the list, so that all have their turn. */
DmshookConsumer *
dmshook_consumers_next_ready(DmshookConsumers *set)
{
	DmshookConsumer *c = set->ready_first;

	if (c && c->ready_next)
	{
		set->ready_first = c->ready_next;
		set->ready_first->ready_prev = NULL;
		c->ready_prev = set->ready_last;
		c->ready_next = NULL;
		set->ready_last->ready_next = c;
		set->ready_last = c;
	}
	return c;
}

/* --------------------------------------------------------------- entities */

static size_t
bucket_of(uint64_t key, size_t nbuckets)
{
	return (size_t) ((key * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (nbuckets - 1);
}

EntityQueue *
dmshook__find_entity(const DmshookConsumer *c, uint64_t entity)
{
	EntityQueue *queue = NULL;

	if (c->entities)
		for (queue = c->entities[bucket_of(entity, c->entity_buckets)]; queue; queue = queue->hash_next)
			if (queue->entity == entity)
				break;
	return queue;
}

/* A bigger table, where there is memory for it; the old one does, too. */
static void
grow_entities(DmshookConsumer *c)
{
	size_t		nbuckets = c->entities ? c->entity_buckets * 2 : 64;
	EntityQueue **table = dmshook__alloc(c->set, nbuckets * sizeof(EntityQueue *));

	if (table == NULL)
		return;
	for (size_t i = 0; i < nbuckets; i++)
		table[i] = NULL;
	for (size_t i = 0; c->entities && i < c->entity_buckets; i++)
		for (EntityQueue *queue = c->entities[i], *next; queue; queue = next)
		{
			EntityQueue **bucket = &table[bucket_of(queue->entity, nbuckets)];

			next = queue->hash_next;
			queue->hash_next = *bucket;
			*bucket = queue;
		}
	if (c->entities)
		dmshook__free(c->set, c->entities);
	c->entities = table;
	c->entity_buckets = nbuckets;
}

static EntityQueue *
get_entity(DmshookConsumer *c, uint64_t entity)
{
	EntityQueue *queue = dmshook__find_entity(c, entity);
	EntityQueue **bucket;

	if (queue)
		return queue;
	if (c->entities == NULL || c->nentities >= c->entity_buckets)
		grow_entities(c);
	if (c->entities == NULL || (queue = dmshook__alloc(c->set, sizeof(EntityQueue))) == NULL)
		return NULL;
	*queue = (EntityQueue)
	{
		.entity = entity, .consumer = c
	};
	bucket = &c->entities[bucket_of(entity, c->entity_buckets)];
	queue->hash_next = *bucket;
	*bucket = queue;
	c->nentities++;
	return queue;
}

static void
release_entity(EntityQueue *queue)
{
	DmshookConsumer *c = queue->consumer;
	EntityQueue **link = &c->entities[bucket_of(queue->entity, c->entity_buckets)];

	if (queue->first || queue->rows > 0 || queue->picked > 0)
		return;
	while (*link != queue)
		link = &(*link)->hash_next;
	*link = queue->hash_next;
	c->nentities--;
	dmshook__free(c->set, queue);
}

/* The set's list of entities that have something to be parked. */
static void
count_parking(EntityQueue *queue, int change)
{
	DmshookConsumers *set = queue->consumer->set;
	bool		before = queue->parking > 0;

	queue->parking += change;
	if (before == (queue->parking > 0))
		return;
	if (!before)
	{
		queue->park_prev = set->park_last;
		queue->park_next = NULL;
		if (set->park_last)
			set->park_last->park_next = queue;
		else
			set->park_first = queue;
		set->park_last = queue;
	}
	else
	{
		if (queue->park_prev)
			queue->park_prev->park_next = queue->park_next;
		else
			set->park_first = queue->park_next;
		if (queue->park_next)
			queue->park_next->park_prev = queue->park_prev;
		else
			set->park_last = queue->park_prev;
	}
}

static void
line_append(EntityQueue *queue, DmshookEntry *entry)
{
	entry->owner = queue;
	entry->entity_prev = queue->last;
	entry->entity_next = NULL;
	if (queue->last)
		queue->last->entity_next = entry;
	else
		queue->first = entry;
	queue->last = entry;
}

static void
line_remove(EntityQueue *queue, DmshookEntry *entry)
{
	if (entry->entity_prev)
		entry->entity_prev->entity_next = entry->entity_next;
	else
		queue->first = entry->entity_next;
	if (entry->entity_next)
		entry->entity_next->entity_prev = entry->entity_prev;
	else
		queue->last = entry->entity_prev;
	if (entry->state == DMSHOOK_PARKING)
		count_parking(queue, -1);
	entry->owner = NULL;
}

static void
park(EntityQueue *queue, DmshookEntry *entry)
{
	if (entry->listed)
		dmshook__list_remove(ready_list(entry), entry);
	entry->state = DMSHOOK_PARKING;
	count_parking(queue, 1);
}

/*
 * After anything changed about an entity: while the queue table holds it, or
 * some of its line are about to go there, all that waits goes there,
 * together; else the head, if it waits, may be sent. May free the entity.
 */
void
dmshook__settle_entity(EntityQueue *queue)
{
	DmshookConsumer *c = queue->consumer;

	if (queue->rows > 0 || queue->parking > 0)
	{
		for (DmshookEntry *entry = queue->first; entry; entry = entry->entity_next)
			if (entry->state == DMSHOOK_PENDING)
				park(queue, entry);
	}
	else if (queue->first && queue->first->state == DMSHOOK_PENDING && !queue->first->listed)
		dmshook__list_append(&c->ready, queue->first);
	dmshook__update_ready(c);
	release_entity(queue);
}

/* Queue rows came (n > 0) or went; the caller settles the entity afterwards. */
void
dmshook__add_rows(EntityQueue *queue, int n)
{
	queue->rows += n;
	if (queue->rows < 0)
		queue->rows = 0;
}

bool
dmshook_consumer_row_added(DmshookConsumer *c, uint64_t entity)
{
	EntityQueue *queue;

	if (!c->settings.ordered)
		return true;
	if ((queue = get_entity(c, entity)) == NULL)
		return false;
	dmshook__add_rows(queue, 1);
	dmshook__settle_entity(queue);
	return true;
}

void
dmshook_consumer_row_removed(DmshookConsumer *c, uint64_t entity)
{
	EntityQueue *queue = dmshook__find_entity(c, entity);

	if (queue == NULL)
		return;
	dmshook__add_rows(queue, -1);
	dmshook__settle_entity(queue);
}

/* No longer ordered, or going away: everything that waits is just pending. */
void
dmshook__forget_entities(DmshookConsumer *c)
{
	for (DmshookEntry *entry = c->all_first; entry; entry = entry->all_next)
	{
		if (entry->owner)
			line_remove(entry->owner, entry);
		if (entry->state == DMSHOOK_PARKING)
			entry->state = DMSHOOK_PENDING;
		if (entry->state == DMSHOOK_PENDING && !entry->listed)
			dmshook__list_append(ready_list(entry), entry);
	}
	for (size_t i = 0; c->entities && i < c->entity_buckets; i++)
		for (EntityQueue *queue = c->entities[i], *next; queue; queue = next)
		{
			next = queue->hash_next;
			dmshook__free(c->set, queue);
		}
	if (c->entities)
		dmshook__free(c->set, c->entities);
	c->entities = NULL;
	c->entity_buckets = c->nentities = 0;
	dmshook__update_ready(c);
}

/* Now ordered: what is under way stands before what waits. */
static bool
make_entities(DmshookConsumer *c)
{
	for (DmshookEntry *entry = c->all_first; entry; entry = entry->all_next)
		if (entry->kind == 'd' && get_entity(c, entry->entity) == NULL)
		{
			dmshook__forget_entities(c);
			return false;
		}
	for (int waits = 0; waits < 2; waits++)
		for (DmshookEntry *entry = c->all_first; entry; entry = entry->all_next)
		{
			if (entry->kind != 'd' || (entry->state == DMSHOOK_PENDING) != (waits == 1))
				continue;
			if (entry->origin == DMSHOOK_FROM_QUEUE)
				get_entity(c, entry->entity)->picked++;
			else
				line_append(get_entity(c, entry->entity), entry);
			if (entry->state == DMSHOOK_PENDING && entry->listed)
				dmshook__list_remove(&c->ready, entry);
		}
	for (size_t i = 0; c->entities && i < c->entity_buckets; i++)
		for (EntityQueue *queue = c->entities[i], *next; queue; queue = next)
		{
			next = queue->hash_next;
			dmshook__settle_entity(queue);
		}
	return true;
}

bool
dmshook_consumer_set(DmshookConsumer *c, const DmshookConsumerSettings *settings)
{
	bool		was_ordered = c->settings.ordered;
	bool		ok = true;

	c->settings = *settings;
	if (settings->ordered && !was_ordered)
		ok = c->settings.ordered = make_entities(c);
	else if (!settings->ordered && was_ordered)
		dmshook__forget_entities(c);
	dmshook__update_ready(c);
	return ok;
}

/* ---------------------------------------------------------------- entries */

DmshookEntry *
dmshook__find_entry(const DmshookConsumer *c, int64_t id)
{
	DmshookEntry *entry = NULL;

	if (c->entries)
		for (entry = c->entries[bucket_of((uint64_t) id, c->nbuckets)]; entry; entry = entry->hash_next)
			if (entry->id == id)
				break;
	return entry;
}

static void
grow_entries(DmshookConsumer *c)
{
	size_t		nbuckets = c->entries ? c->nbuckets * 2 : 16;
	DmshookEntry **table = dmshook__alloc(c->set, nbuckets * sizeof(DmshookEntry *));

	if (table == NULL)
		return;
	for (size_t i = 0; i < nbuckets; i++)
		table[i] = NULL;
	for (DmshookEntry *entry = c->all_first; entry; entry = entry->all_next)
	{
		DmshookEntry **bucket = &table[bucket_of((uint64_t) entry->id, nbuckets)];

		entry->hash_next = *bucket;
		*bucket = entry;
	}
	if (c->entries)
		dmshook__free(c->set, c->entries);
	c->entries = table;
	c->nbuckets = nbuckets;
}

static DmshookEntry *
new_entry(DmshookConsumers *set)
{
	DmshookEntry *entry = set->unused;

	if (entry == NULL)
		return dmshook__alloc(set, sizeof(DmshookEntry));
	set->unused = entry->hash_next;
	set->nunused--;
	return entry;
}

static void
free_entry(DmshookConsumers *set, DmshookEntry *entry)
{
	if (set->nunused >= FREE_ENTRIES)
	{
		dmshook__free(set, entry);
		return;
	}
	entry->hash_next = set->unused;
	set->unused = entry;
	set->nunused++;
}

/* Hold an event, pending. NULL: no memory, and nothing changed. */
DmshookEntry *
dmshook__add_entry(DmshookConsumer *c, const DmshookLogEvent *event, DmshookOrigin origin,
				   char kind, int64_t command, DmshookReplay *replay)
{
	EntityQueue *queue = NULL;
	DmshookEntry *entry;
	DmshookEntry **bucket;

	if (c->entries == NULL || (size_t) c->nentries >= c->nbuckets)
		grow_entries(c);
	if (c->entries == NULL)
		return NULL;
	if (c->settings.ordered && kind == 'd' && (queue = get_entity(c, event->entity)) == NULL)
		return NULL;
	if ((entry = new_entry(c->set)) == NULL)
	{
		if (queue)
			release_entity(queue);
		return NULL;
	}
	*entry = (DmshookEntry)
	{
		.id = event->id, .entity = event->entity, .payload = event->payload, .consumer = c, .replay = replay,
			.state = DMSHOOK_PENDING, .origin = origin, .kind = kind, .command = command,
			.arrival = ++c->set->arrivals, .all_prev = c->all_last
	};
	if (c->all_last)
		c->all_last->all_next = entry;
	else
		c->all_first = entry;
	c->all_last = entry;
	bucket = &c->entries[bucket_of((uint64_t) entry->id, c->nbuckets)];
	entry->hash_next = *bucket;
	*bucket = entry;
	c->nentries++;
	if (c->set->calls.keep)
		c->set->calls.keep(c->set->calls.arg, entry->payload);

	if (origin == DMSHOOK_FROM_LOG)
		c->window++;
	if (origin == DMSHOOK_FROM_REPLAY)
		replay->entries++;
	if (origin == DMSHOOK_FROM_QUEUE)
	{
		if (queue)
			queue->picked++;
	}
	else if (queue)
	{
		line_append(queue, entry);
		dmshook__settle_entity(queue);
	}
	else
	{
		dmshook__list_append(ready_list(entry), entry);
		dmshook__update_ready(c);
	}
	return entry;
}

/* Let go of it, whatever its state; its entity is settled. */
void
dmshook__remove_entry(DmshookEntry *entry)
{
	DmshookConsumer *c = entry->consumer;
	DmshookEntry **link = &c->entries[bucket_of((uint64_t) entry->id, c->nbuckets)];
	EntityQueue *queue = entry->owner;

	if (entry->listed)
		dmshook__list_remove(entry->state == DMSHOOK_PENDING ? ready_list(entry) : &c->set->finished, entry);
	if (entry->state == DMSHOOK_FLYING)
	{
		c->flying--;
		c->set->flying--;
	}
	else if (entry->state >= DMSHOOK_ENDED_OK)
		c->finished--;
	while (*link != entry)
		link = &(*link)->hash_next;
	*link = entry->hash_next;
	if (entry->all_prev)
		entry->all_prev->all_next = entry->all_next;
	else
		c->all_first = entry->all_next;
	if (entry->all_next)
		entry->all_next->all_prev = entry->all_prev;
	else
		c->all_last = entry->all_prev;
	c->nentries--;
	if (entry->origin == DMSHOOK_FROM_LOG)
		c->window--;
	else if (entry->origin == DMSHOOK_FROM_REPLAY && entry->replay)
		entry->replay->entries--;

	if (queue)
		line_remove(queue, entry);
	else if (entry->origin == DMSHOOK_FROM_QUEUE && entry->kind == 'd' &&
			 (queue = dmshook__find_entity(c, entry->entity)) != NULL)
		queue->picked--;
	if (queue)
		dmshook__settle_entity(queue);
	else
		dmshook__update_ready(c);
	if (c->set->calls.drop)
		c->set->calls.drop(c->set->calls.arg, entry->payload);
	free_entry(c->set, entry);
}

/* ---------------------------------------------------------------- sending */

static void
take_off(DmshookEntry *entry)
{
	entry->state = DMSHOOK_FLYING;
	entry->consumer->flying++;
	entry->consumer->set->flying++;
	dmshook__update_ready(entry->consumer);
}

static void
come_back(DmshookEntry *entry)
{
	entry->consumer->flying--;
	entry->consumer->set->flying--;
	dmshook__update_ready(entry->consumer);
}

DmshookEntry *
dmshook_consumer_send(DmshookConsumer *c)
{
	EntryList  *list = &c->ready;
	DmshookEntry *entry;

	if (!dmshook_consumer_may_send(c))
		return NULL;
	/* a replay has every fourth turn, or all where nothing else is to be sent */
	if (c->ready_replay.n > 0 && (list->n == 0 || ++c->sends % 4 == 0))
		list = &c->ready_replay;
	if ((entry = list->first) == NULL)
		return NULL;
	dmshook__list_remove(list, entry);
	take_off(entry);
	return entry;
}

void
dmshook_entry_unsend(DmshookEntry *entry)
{
	if (entry->cancelled)
	{
		/* cancelled while it was flying: its end is written, or its place is behind skip */
		dmshook__remove_entry(entry);
		return;
	}
	come_back(entry);
	entry->state = DMSHOOK_PENDING;
	if (entry->owner && (entry->owner->first != entry || entry->owner->rows > 0))
		dmshook__settle_entity(entry->owner);
	else
		dmshook__list_prepend(ready_list(entry), entry);
	dmshook__update_ready(entry->consumer);
}

DmshookEntry *
dmshook_consumer_pick(DmshookConsumer *c, const DmshookLogEvent *event, char kind, int64_t command, int attempts)
{
	EntityQueue *queue;
	DmshookEntry *entry;

	if (!dmshook_consumer_may_send(c) || dmshook__find_entry(c, event->id))
		return NULL;

	/* one at a time also where ordering was switched on while some were under way */
	if (c->settings.ordered && kind == 'd' && (queue = dmshook__find_entity(c, event->entity)) != NULL &&
		(queue->picked > 0 || (queue->first && queue->first->state >= DMSHOOK_FLYING)))
		return NULL;
	if ((entry = dmshook__add_entry(c, event, DMSHOOK_FROM_QUEUE, kind, command, NULL)) == NULL)
		return NULL;
	entry->attempts = attempts;
	take_off(entry);
	return entry;
}

void
dmshook_entry_unpick(DmshookEntry *entry)
{
	dmshook__remove_entry(entry);
}

int
dmshook_consumer_picked(const DmshookConsumer *c, int64_t *ids, int max)
{
	int			n = 0;

	if (c->nentries == c->window)
		return 0;
	for (const DmshookEntry *entry = c->all_first; entry; entry = entry->all_next)
		if (entry->origin == DMSHOOK_FROM_QUEUE && n++ < max)
			ids[n - 1] = entry->id;
	return n;
}

void
dmshook_entry_reject(DmshookEntry *entry)
{
	dmshook__remove_entry(entry);
}

void
dmshook_entry_finish(DmshookEntry *entry, DmshookEntryState state)
{
	come_back(entry);
	entry->state = state;
	entry->consumer->finished++;
	dmshook__list_append(&entry->consumer->set->finished, entry);
}

DmshookHeld
dmshook_consumer_held(const DmshookConsumer *c, int64_t id, DmshookEntry **found)
{
	DmshookEntry *entry = dmshook__find_entry(c, id);

	if (found)
		*found = entry;
	if (entry == NULL)
		return DMSHOOK_HELD_NOT;
	if (entry->origin == DMSHOOK_FROM_QUEUE)
		return DMSHOOK_HELD_PICKED;
	return entry->state >= DMSHOOK_FLYING ? DMSHOOK_HELD_FLYING : DMSHOOK_HELD_WAITING;
}
