/*
 * consumer_commit.c - what is to be made durable: results, parks, promotions,
 * places in the log; and the commands that cut into what waits.
 *
 * Each begin() says what one transaction has to write and changes nothing; end(true), after
 * COMMIT, changes the memory to match; end(false) leaves it as it was. So memory is never ahead
 * of what is committed: an entry leaves the window, a place moves, a follower
 * of an entity may go, only then.
 *
 * Pure, as consumer.h says.
 */
#include <assert.h>

#include "consumer_private.h"

/* ----------------------------------------------------------- group commit */

bool
dmshook_consumers_dirty(const DmshookConsumers *set)
{
	return set->finished.n > 0 || set->park_first != NULL;
}

static DmshookFate
fate_of(const DmshookEntry *entry)
{
	if (entry->state == DMSHOOK_ENDED_OK)
		return DMSHOOK_FATE_DELIVERED;
	if (entry->cancelled || (entry->origin == DMSHOOK_FROM_LOG && entry->id <= entry->consumer->skip))
		return DMSHOOK_FATE_CANCELLED;
	return entry->state == DMSHOOK_DEAD ? DMSHOOK_FATE_EXHAUSTED : DMSHOOK_FATE_RETRY;
}

/* An entity whose parked rows may need a new head after this commit. */
static void
add_promote(DmshookConsumers *set, DmshookConsumer *c, uint64_t entity)
{
	EntityQueue *queue = dmshook__find_entity(c, entity);

	if (queue)
	{
		if (queue->promoting)
			return;
		queue->promoting = true;
	}
	set->commit.promotes[set->commit.npromotes++] = (DmshookEntityRef)
	{
		c, entity
	};
}

/* Did a row of kind d of an ordered webhook end with this? */
static bool
head_gone(const DmshookEntry *entry)
{
	return entry->consumer->settings.ordered && entry->origin == DMSHOOK_FROM_QUEUE && entry->kind == 'd' &&
		entry->fate != DMSHOOK_FATE_RETRY;
}

const DmshookCommit *
dmshook_commit_begin(DmshookConsumers *set, int max)
{
	DmshookCommit *commit = &set->commit;
	int			nresults = set->finished.n < max ? set->finished.n : max;
	int			nparks = 0;
	EntityQueue *end;

	assert(!set->committing);
	for (end = set->park_first; end && (nparks == 0 || nparks + end->parking <= max); end = end->park_next)
		nparks += end->parking;
	if (nresults + nparks == 0 ||
		!dmshook__grow(set, &commit->results, &set->results_size, nresults, sizeof(DmshookEntry *)) ||
		!dmshook__grow(set, &commit->parks, &set->parks_size, nparks, sizeof(DmshookEntry *)) ||
		!dmshook__grow(set, &commit->promotes, &set->promotes_size, nresults + nparks, sizeof(DmshookEntityRef)))
		return NULL;

	commit->nresults = commit->nparks = commit->npromotes = 0;
	for (DmshookEntry *entry = set->finished.first; commit->nresults < nresults; entry = entry->list_next)
	{
		entry->fate = fate_of(entry);
		commit->results[commit->nresults++] = entry;
		if (head_gone(entry))
			add_promote(set, entry->consumer, entry->entity);
	}
	for (EntityQueue *queue = set->park_first; queue != end; queue = queue->park_next)
	{
		for (DmshookEntry *entry = queue->first; entry; entry = entry->entity_next)
			if (entry->state == DMSHOOK_PARKING)
				commit->parks[commit->nparks++] = entry;
		add_promote(set, queue->consumer, queue->entity);
	}
	for (int i = 0; i < commit->npromotes; i++)
	{
		EntityQueue *queue = dmshook__find_entity(commit->promotes[i].consumer, commit->promotes[i].entity);

		if (queue)
			queue->promoting = false;
	}
	set->committing = true;
	return commit;
}

/* Queue rows of its entity that this entry's end adds or takes away. */
static void
count_row(DmshookEntry *entry, EntityQueue *queue)
{
	if (entry->state == DMSHOOK_PARKING)
		dmshook__add_rows(queue, 1);
	else if (entry->origin == DMSHOOK_FROM_LOG && entry->fate == DMSHOOK_FATE_RETRY)
		dmshook__add_rows(queue, 1);
	else if (head_gone(entry))
		dmshook__add_rows(queue, -1);
}

void
dmshook_commit_end(DmshookConsumers *set, bool committed)
{
	DmshookCommit *commit = &set->commit;

	assert(set->committing);
	set->committing = false;
	if (!committed)
		return;

	/* first all rows, then each goes and its entity is settled, by the final count */
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < commit->nresults + commit->nparks; i++)
		{
			DmshookEntry *entry = i < commit->nresults ? commit->results[i] : commit->parks[i - commit->nresults];
			EntityQueue *queue;

			if (pass == 1)
				dmshook__remove_entry(entry);
			else if (entry->kind == 'd' && (queue = dmshook__find_entity(entry->consumer, entry->entity)) != NULL)
				count_row(entry, queue);
		}
	commit->nresults = commit->nparks = commit->npromotes = 0;
}

void
dmshook_entry_postpone(DmshookEntry *entry)
{
	EntryList  *list = &entry->consumer->set->finished;

	dmshook__list_remove(list, entry);
	dmshook__list_append(list, entry);
}

void
dmshook_entry_set_aside(DmshookEntry *entry)
{
	dmshook__list_remove(&entry->consumer->set->finished, entry);
}

void
dmshook_entry_take_back(DmshookEntry *entry)
{
	dmshook__list_prepend(&entry->consumer->set->finished, entry);
}

/* ---------------------------------------------------------------- commands */

void
dmshook_consumer_cancel(DmshookConsumer *c, int64_t id)
{
	DmshookEntry *entry = dmshook__find_entry(c, id);

	/* its end is written now: whoever reads it must look */
	if (c->redo < id)
		c->redo = id;
	if (entry == NULL)
		return;
	if (entry->state == DMSHOOK_PENDING || entry->state == DMSHOOK_PARKING)
		dmshook__remove_entry(entry);
	else
		entry->cancelled = true;
}

/* Does cancel_all reach it? */
static bool
reached(const DmshookEntry *entry, int64_t upto, bool replays)
{
	return entry->id <= upto && (replays || entry->origin != DMSHOOK_FROM_REPLAY);
}

static int
count_late(const DmshookConsumer *c, int64_t upto)
{
	int			n = 0;

	while (n < c->nlate && c->late[n] <= upto)
		n++;
	return n;
}

void
dmshook_consumer_cancel_all(DmshookConsumer *c, int64_t upto, bool replays)
{
	int			nlate = count_late(c, upto);
	int64_t		next = dmshook_consumer_next(c);
	int64_t		to = upto < c->set->high ? upto : c->set->high;

	if (c->skip < upto)
		c->skip = upto;
	while (replays && c->replays)
		dmshook_replay_remove(c->replays);
	for (DmshookEntry *entry = c->all_first, *following; entry; entry = following)
	{
		following = entry->all_next;
		if (!reached(entry, upto, replays))
			continue;
		if (entry->state == DMSHOOK_PENDING || entry->state == DMSHOOK_PARKING)
			dmshook__remove_entry(entry);
		else
			entry->cancelled = true;
	}
	c->nlate -= nlate;
	for (int i = 0; i < c->nlate; i++)
		c->late[i] = c->late[i + nlate];

	/* nothing up to there will be taken, so it need not be read */
	if (to > next)
	{
		c->next = to;
		c->live = to == c->set->high;
		c->stopped = true;
	}
	dmshook__moved(c);
}

int64_t
dmshook_consumer_waiting(const DmshookConsumer *c, int64_t upto)
{
	int64_t		n = count_late(c, upto);

	for (DmshookEntry *entry = c->all_first; entry; entry = entry->all_next)
		if (reached(entry, upto, true) && (entry->state == DMSHOOK_PENDING || entry->state == DMSHOOK_PARKING))
			n++;
	return n;
}

/* ----------------------------------------------------------------- persist */

/*
 * The reader's R' holds back for all that have no row, so those far behind get
 * one; one that is behind the R that is stored must have one.
 */
static int64_t
reader_place(const DmshookConsumers *set, int64_t reader_low, bool all)
{
	int64_t		most = reader_low < set->high ? reader_low : set->high;
	int64_t		place = most;

	for (const DmshookConsumer *c = set->moving_first; c && !all; c = c->moving_next)
	{
		int64_t		low = dmshook_consumer_low(c);

		if (low >= set->stored_high && low >= most - DMSHOOK_ROW_SLACK && low < place)
			place = low;
	}
	return place > set->stored_high ? place : set->stored_high;
}

const DmshookPersist *
dmshook_persist_begin(DmshookConsumers *set, int64_t reader_low, bool all)
{
	DmshookPersist *persist = &set->persist;

	assert(!set->committing);
	if (!dmshook__grow(set, &persist->places, &set->places_size, set->nconsumers, sizeof(DmshookPlace)))
		return NULL;
	persist->low = reader_place(set, reader_low, all);
	persist->low_changed = persist->low != set->stored_high;
	persist->nplaces = 0;
	for (DmshookConsumer *c = all ? set->first : set->moving_first, *next; c; c = next)
	{
		int64_t		low = dmshook_consumer_low(c);
		bool		store = all || low < persist->low;

		next = all ? c->next_consumer : c->moving_next;

		if (store != c->stored || (store && low != c->stored_low))
		{
			DmshookPlace place = {c, store, low};

			persist->places[persist->nplaces++] = place;
		}
		else if (dmshook__settled(c))
			dmshook__list_moving(c, false);
	}
	return persist->low_changed || persist->nplaces > 0 ? persist : NULL;
}

void
dmshook_persist_end(DmshookConsumers *set, bool committed)
{
	if (!committed)
		return;
	set->stored_high = set->persist.low;
	for (int i = 0; i < set->persist.nplaces; i++)
	{
		DmshookPlace *place = &set->persist.places[i];

		place->consumer->stored = place->store;
		place->consumer->stored_low = place->low;
		dmshook__moved(place->consumer);
	}
}
