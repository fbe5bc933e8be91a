/*
 * consumer.c - a webhook's place in the log.
 *
 * Every webhook has next: it has considered each event up to there that was
 * visible. Live is next == the reader's high; one that has no room keeps its
 * next, and reads on from there later. There are no modes and no hand-over. What
 * was found in a gap below next is late: taken at once, or remembered. What the
 * memory cannot hold is read again: rewind() sets next back, and up to redo
 * whatever was done before is looked up (in memory here, in attempt and queue
 * by the dispatcher) and not taken again; so a start after a crash is a rewind, too.
 *
 * low, below which a webhook needs nothing any more, counts what is committed only:
 * entries stay in the window until dmshook_commit_end().
 *
 * Runs in the dispatcher, one thread; builds without a server (test/model drives
 * it with random schedules). No I/O, no clock, no errors raised; nothing here sends, and
 * nothing here knows SQL. Memory comes from the caller's allocator; its end means "no room".
 */
#include <string.h>

#include "consumer_private.h"

static bool may_take(const DmshookConsumer *c);

/* ----------------------------------------------------------------- memory */

void *
dmshook__alloc(DmshookConsumers *set, size_t size)
{
	return set->calls.alloc(set->calls.arg, size);
}

void
dmshook__free(DmshookConsumers *set, void *pointer)
{
	set->calls.free(set->calls.arg, pointer);
}

/* Make *array (a pointer to a pointer) hold at least need elements. */
bool
dmshook__grow(DmshookConsumers *set, void *array, int *size, int need, size_t element)
{
	void	   *old;
	void	   *new;
	int			wanted = *size > 0 ? *size : 16;

	if (need <= *size)
		return true;
	while (wanted < need)
		wanted *= 2;
	if ((new = dmshook__alloc(set, (size_t) wanted * element)) == NULL)
		return false;
	memcpy(&old, array, sizeof(old));
	if (old)
	{
		memcpy(new, old, (size_t) *size * element);
		dmshook__free(set, old);
	}
	memcpy(array, &new, sizeof(new));
	*size = wanted;
	return true;
}

/* ------------------------------------- webhooks that are not just waiting */

/*
 * Most webhooks, most of the time, are live and hold nothing, or are held back
 * somewhere in the log: nobody walks these. The others stand in two lists, which
 * dmshook__moved() keeps: it is called whenever a place, the late ids, the window or settings
 * have changed.
 */
static void
list_hungry(DmshookConsumer *c, bool wanted)
{
	DmshookConsumers *set = c->set;

	if (wanted == c->in_hungry)
		return;
	if (wanted)
	{
		c->hungry_prev = set->hungry_last;
		c->hungry_next = NULL;
		if (set->hungry_last)
			set->hungry_last->hungry_next = c;
		else
			set->hungry_first = c;
		set->hungry_last = c;
	}
	else
	{
		if (c->hungry_prev)
			c->hungry_prev->hungry_next = c->hungry_next;
		else
			set->hungry_first = c->hungry_next;
		if (c->hungry_next)
			c->hungry_next->hungry_prev = c->hungry_prev;
		else
			set->hungry_last = c->hungry_prev;
	}
	c->in_hungry = wanted;
}

void
dmshook__list_moving(DmshookConsumer *c, bool wanted)
{
	DmshookConsumers *set = c->set;

	if (wanted == c->in_moving)
		return;
	if (wanted)
	{
		c->moving_prev = set->moving_last;
		c->moving_next = NULL;
		if (set->moving_last)
			set->moving_last->moving_next = c;
		else
			set->moving_first = c;
		set->moving_last = c;
	}
	else
	{
		if (c->moving_prev)
			c->moving_prev->moving_next = c->moving_next;
		else
			set->moving_first = c->moving_next;
		if (c->moving_next)
			c->moving_next->moving_prev = c->moving_prev;
		else
			set->moving_last = c->moving_prev;
	}
	c->in_moving = wanted;
}

/*
 * Does storing places not concern it, until it has moved? It follows high, and has no row; or its
 * row is right, and below the R that is stored, which never goes back.
 */
bool
dmshook__settled(const DmshookConsumer *c)
{
	if (c->live && c->window == 0 && c->nlate == 0)
		return !c->stored;
	return c->stored && c->stored_low < c->set->stored_high && c->stored_low == dmshook_consumer_low(c);
}

void
dmshook__moved(DmshookConsumer *c)
{
	int			waiting = c->window > c->flying ? c->window - c->flying : 0;

	c->set->waiting += waiting - c->waiting;
	c->waiting = waiting;
	list_hungry(c, (!c->live || c->nlate > 0) && may_take(c));
	/* whether it is settled is found out when places are stored, not each time */
	if (!c->live || c->window > 0 || c->nlate > 0 || c->stored)
		dmshook__list_moving(c, true);
}

/* ---------------------------------------------------------------- the set */

DmshookConsumers *
dmshook_consumers_create(const DmshookConsumerCalls *calls, int64_t high)
{
	DmshookConsumers *set = calls->alloc(calls->arg, sizeof(DmshookConsumers));

	if (set == NULL)
		return NULL;
	memset(set, 0, sizeof(*set));
	set->calls = *calls;
	set->high = set->stored_high = high;
	set->room = true;
	return set;
}

void
dmshook_consumers_free(DmshookConsumers *set)
{
	while (set->first)
		dmshook_consumer_remove(set->first);
	while (set->unused)
	{
		DmshookEntry *entry = set->unused;

		set->unused = entry->hash_next;
		dmshook__free(set, entry);
	}
	if (set->commit.results)
		dmshook__free(set, set->commit.results);
	if (set->commit.parks)
		dmshook__free(set, set->commit.parks);
	if (set->commit.promotes)
		dmshook__free(set, set->commit.promotes);
	if (set->persist.places)
		dmshook__free(set, set->persist.places);
	set->calls.free(set->calls.arg, set);
}

void
dmshook_consumers_set_looking(DmshookConsumers *set, bool looking)
{
	set->looking = looking;
}

void
dmshook_consumers_set_room(DmshookConsumers *set, bool room)
{
	set->room = room;
}

DmshookConsumer *
dmshook_consumers_iterate(const DmshookConsumers *set, const DmshookConsumer *previous)
{
	return previous ? previous->next_consumer : set->first;
}

DmshookConsumer *
dmshook_consumers_find(const DmshookConsumers *set, int webhook)
{
	for (DmshookConsumer *c = set->first; c; c = c->next_consumer)
		if (c->webhook == webhook)
			return c;
	return NULL;
}

/* --------------------------------------------------------------- a webhook */

DmshookConsumer *
dmshook_consumer_add(DmshookConsumers *set, int webhook, void *cookie,
					 int64_t next, int64_t redo, int64_t skip, bool stored)
{
	DmshookConsumer *c = dmshook__alloc(set, sizeof(DmshookConsumer));

	if (c == NULL)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->set = set;
	c->webhook = webhook;
	c->cookie = cookie;
	c->next = next < set->high ? next : set->high;
	c->live = c->next == set->high;
	c->redo = redo;
	c->skip = skip;
	c->stored = stored;
	c->stored_low = next;
	c->round = set->round - 1;
	c->prev = set->last;
	if (set->last)
		set->last->next_consumer = c;
	else
		set->first = c;
	set->last = c;
	set->nconsumers++;
	dmshook__moved(c);
	return c;
}

void
dmshook_consumer_remove(DmshookConsumer *c)
{
	DmshookConsumers *set = c->set;

	while (c->replays)
		dmshook_replay_remove(c->replays);
	dmshook__forget_entities(c);
	while (c->all_first)
		dmshook__remove_entry(c->all_first);
	list_hungry(c, false);
	dmshook__list_moving(c, false);
	if (c->prev)
		c->prev->next_consumer = c->next_consumer;
	else
		set->first = c->next_consumer;
	if (c->next_consumer)
		c->next_consumer->prev = c->prev;
	else
		set->last = c->prev;
	set->nconsumers--;
	if (c->entries)
		dmshook__free(set, c->entries);
	if (c->late)
		dmshook__free(set, c->late);
	dmshook__free(set, c);
}

bool
dmshook_consumer_busy(const DmshookConsumer *c)
{
	return c->flying > 0 || c->finished > 0;
}

/* ------------------------------------------------------------ the place */

static bool
may_take(const DmshookConsumer *c)
{
	return c->settings.may_send && c->window < c->settings.window;
}

bool
dmshook__has_room(const DmshookConsumer *c)
{
	return c->set->room && may_take(c);
}

static void
set_next(DmshookConsumer *c, int64_t id)
{
	c->next = id;
	c->live = id == c->set->high;
	dmshook__moved(c);
}

/*
 * Read again from id + 1 on. What is in the window stays there; late ids above
 * id are met by the reading.
 */
void
dmshook__rewind(DmshookConsumer *c, int64_t id)
{
	int64_t		next = dmshook_consumer_next(c);

	if (c->redo < next)
		c->redo = next;
	if (id < next)
		set_next(c, id);
	while (c->nlate > 0 && c->late[c->nlate - 1] > id)
		c->nlate--;
	c->stopped = true;
	dmshook__moved(c);
}

void
dmshook_consumer_rewind(DmshookConsumer *c, int64_t id)
{
	dmshook__rewind(c, id);
}

void
dmshook_consumer_shed(DmshookConsumer *c)
{
	int64_t		least = INT64_MAX;

	for (DmshookEntry *entry = c->all_first, *next; entry; entry = next)
	{
		next = entry->all_next;
		if (entry->origin != DMSHOOK_FROM_LOG || entry->state != DMSHOOK_PENDING)
			continue;
		if (least > entry->id)
			least = entry->id;
		dmshook__remove_entry(entry);
	}
	if (least < INT64_MAX)
		dmshook__rewind(c, least - 1);
}

/*
 * Take an event that matches, unless it was cancelled or, below redo, is
 * done or open already. false: there is no memory for it.
 */
static bool
take(DmshookConsumer *c, const DmshookLogEvent *event)
{
	DmshookConsumerCalls *calls = &c->set->calls;

	if (event->id <= c->skip)
		return true;
	if (event->id <= c->redo &&
		(dmshook__find_entry(c, event->id) || calls->handled(calls->arg, c->cookie, event->id)))
		return true;
	return dmshook__add_entry(c, event, DMSHOOK_FROM_LOG, 'd', 0, NULL) != NULL;
}

static bool
matches(DmshookConsumer *c, const DmshookLogEvent *event)
{
	return c->set->calls.matches(c->set->calls.arg, c->cookie, event);
}

/* Remember a late id; where that is too much, read the log again from the least one on. */
static void
add_late(DmshookConsumer *c, int64_t id)
{
	int			at = c->nlate;

	if (c->nlate >= DMSHOOK_LATE_CAP ||
		!dmshook__grow(c->set, &c->late, &c->late_size, c->nlate + 1, sizeof(int64_t)))
	{
		dmshook__rewind(c, (c->nlate > 0 && c->late[0] < id ? c->late[0] : id) - 1);
		return;
	}
	while (at > 0 && c->late[at - 1] > id)
		at--;
	memmove(&c->late[at + 1], &c->late[at], (size_t) (c->nlate - at) * sizeof(int64_t));
	c->late[at] = id;
	c->nlate++;
	dmshook__moved(c);
}

static void
late_for(DmshookConsumer *c, const DmshookLogEvent *event)
{
	/* one that has not come that far will read it itself */
	if (event->id > dmshook_consumer_next(c) || event->id <= c->skip || !matches(c, event))
		return;
	if (c->nlate > 0 || !dmshook__has_room(c) || !take(c, event))
		add_late(c, event->id);
}

static void
fresh_for(DmshookConsumer *c, const DmshookLogEvent *event)
{
	if (!c->live || event->id <= c->skip || !matches(c, event))
		return;
	if (c->nlate > 0 || (c->settings.ordered && c->set->looking) || !dmshook__has_room(c) || !take(c, event))
	{
		/* it stays where it is, and is no longer live */
		c->next = c->set->high;
		c->live = false;
		dmshook__moved(c);
	}
}

static void
for_candidates(DmshookConsumers *set, const DmshookLogEvent *event,
			   void (*one) (DmshookConsumer *, const DmshookLogEvent *))
{
	if (set->calls.candidates)
	{
		DmshookConsumer **list;
		int			n = set->calls.candidates(set->calls.arg, event, &list);

		for (int i = 0; i < n; i++)
			one(list[i], event);
	}
	else
		for (DmshookConsumer *c = set->first; c; c = c->next_consumer)
			one(c, event);
}

void
dmshook_consumers_late(DmshookConsumers *set, const DmshookLogEvent *event)
{
	for_candidates(set, event, late_for);
}

/*
 * Those that are live follow high by themselves, also past what is not for them
 * while they have late ids or a look is open: what they would have to wait
 * for is an event of theirs only.
 */
void
dmshook_consumers_fresh(DmshookConsumers *set, const DmshookLogEvent *event)
{
	for_candidates(set, event, fresh_for);
	set->high = event->id;
}

/* ---------------------------------------------------- those behind, or late */

static bool
may_read_on(const DmshookConsumer *c)
{
	return !c->live && c->nlate == 0 && dmshook__has_room(c) && !(c->settings.ordered && c->set->looking);
}

static bool
is_hungry(const DmshookConsumer *c)
{
	return may_read_on(c) || dmshook_consumer_wants_late(c) != 0;
}

void
dmshook_consumers_start_hungry(DmshookConsumers *set)
{
	set->round++;
}

DmshookConsumer *
dmshook_consumers_next_hungry(DmshookConsumers *set)
{
	DmshookConsumer *c;

	/* who had its turn stands at the end */
	while ((c = set->hungry_first) != NULL && c->round != set->round)
	{
		c->round = set->round;
		list_hungry(c, false);
		list_hungry(c, true);
		if (is_hungry(c))
			return c;
	}
	return NULL;
}

bool
dmshook_consumers_any_hungry(const DmshookConsumers *set)
{
	for (const DmshookConsumer *c = set->room ? set->hungry_first : NULL; c; c = c->hungry_next)
		if (is_hungry(c))
			return true;
	return false;
}

int64_t
dmshook_consumer_wants_late(const DmshookConsumer *c)
{
	return c->nlate > 0 && dmshook__has_room(c) ? c->late[0] : 0;
}

void
dmshook_consumer_feed_late(DmshookConsumer *c, int64_t id, const DmshookLogEvent *event)
{
	if (c->nlate == 0 || c->late[0] != id || !dmshook__has_room(c))
		return;
	if (event && matches(c, event) && !take(c, event))
		return;
	c->nlate--;
	memmove(&c->late[0], &c->late[1], (size_t) c->nlate * sizeof(int64_t));
	dmshook__moved(c);
}

bool
dmshook_consumer_wants(DmshookConsumer *c, int64_t *after, int64_t *upto, int *room)
{
	if (!may_read_on(c))
		return false;
	c->stopped = false;
	*after = c->next;
	*upto = c->set->high;
	*room = c->settings.window - c->window;
	return true;
}

bool
dmshook_consumer_feed(DmshookConsumer *c, const DmshookLogEvent *event)
{
	if (c->stopped)
		return false;
	if (event->id <= c->next)
		return true;
	if (event->id > c->skip && matches(c, event) && (!may_read_on(c) || !take(c, event)))
	{
		c->stopped = true;
		return false;
	}
	c->next = event->id;		/* live only by fed(): high itself may come here */
	dmshook__moved(c);
	return true;
}

void
dmshook_consumer_fed(DmshookConsumer *c, int64_t upto)
{
	if (!c->live && c->next == c->set->high)
		set_next(c, c->next);
	else if (!c->stopped && upto > dmshook_consumer_next(c) && upto <= c->set->high)
		set_next(c, upto);
}

/* ------------------------------------------------------------------ replay */

DmshookReplay *
dmshook_replay_add(DmshookConsumer *c, int64_t command, int64_t low, int64_t until, void *cookie)
{
	DmshookReplay *replay = dmshook__alloc(c->set, sizeof(DmshookReplay));

	if (replay == NULL)
		return NULL;
	*replay = (DmshookReplay)
	{
		.consumer = c, .command = command, .place = low, .until = until, .cookie = cookie, .next = c->replays
	};
	if (c->replays)
		c->replays->prev = replay;
	c->replays = replay;
	return replay;
}

void
dmshook_replay_remove(DmshookReplay *replay)
{
	DmshookConsumer *c = replay->consumer;

	for (DmshookEntry *entry = c->all_first, *next; entry; entry = next)
	{
		next = entry->all_next;
		if (entry->replay != replay)
			continue;
		if (entry->state == DMSHOOK_PENDING)
			dmshook__remove_entry(entry);
		else
		{
			entry->cancelled = true;
			entry->replay = NULL;
		}
	}
	if (replay->prev)
		replay->prev->next = replay->next;
	else
		c->replays = replay->next;
	if (replay->next)
		replay->next->prev = replay->prev;
	dmshook__free(c->set, replay);
}

DmshookReplay *
dmshook_replay_iterate(const DmshookConsumer *c, const DmshookReplay *previous)
{
	return previous ? previous->next : c->replays;
}

int64_t
dmshook_replay_command(const DmshookReplay *replay)
{
	return replay->command;
}

void *
dmshook_replay_cookie(const DmshookReplay *replay)
{
	return replay->cookie;
}

/* Enough in memory to keep the webhook busy; not more. */
static int
replay_room(const DmshookReplay *replay)
{
	const DmshookConsumer *c = replay->consumer;
	int			most = 2 * c->settings.max_in_flight;

	if (!c->settings.may_send || !c->set->room)
		return 0;
	return most > replay->entries ? most - replay->entries : 0;
}

bool
dmshook_replay_wants(DmshookReplay *replay, int64_t *after, int64_t *upto, int *room)
{
	int64_t		high = replay->consumer->set->high;

	*after = replay->place;
	*upto = replay->until < high ? replay->until : high;
	*room = replay_room(replay);
	replay->stopped = false;
	return *after < *upto && *room > 0;
}

bool
dmshook_replay_feed(DmshookReplay *replay, const DmshookLogEvent *event)
{
	if (replay->stopped)
		return false;
	if (event->id <= replay->place)
		return true;
	/* what is held is open: it comes by itself */
	if (dmshook__find_entry(replay->consumer, event->id) == NULL &&
		(replay_room(replay) == 0 ||
		 dmshook__add_entry(replay->consumer, event, DMSHOOK_FROM_REPLAY, 'y', replay->command, replay) == NULL))
	{
		replay->stopped = true;
		return false;
	}
	replay->place = event->id;
	return true;
}

void
dmshook_replay_fed(DmshookReplay *replay, int64_t upto)
{
	if (!replay->stopped && upto > replay->place)
		replay->place = upto;
}

bool
dmshook_replay_done(const DmshookReplay *replay)
{
	return replay->place >= replay->until && replay->entries == 0;
}

int64_t
dmshook_replay_low(const DmshookReplay *replay)
{
	int64_t		low = replay->place;

	if (replay->entries > 0)
		for (DmshookEntry *entry = replay->consumer->all_first; entry; entry = entry->all_next)
			if (entry->replay == replay && low > entry->id - 1)
				low = entry->id - 1;
	return low;
}

/* -------------------------------------------------------------- statistics */

int
dmshook_consumer_webhook(const DmshookConsumer *c)
{
	return c->webhook;
}

void *
dmshook_consumer_cookie(const DmshookConsumer *c)
{
	return c->cookie;
}

int64_t
dmshook_consumers_high(const DmshookConsumers *set)
{
	return set->high;
}

int64_t
dmshook_consumer_next(const DmshookConsumer *c)
{
	return c->live ? c->set->high : c->next;
}

/* What is at or below is finished with, committed, or somebody else's (the queue's). */
int64_t
dmshook_consumer_low(const DmshookConsumer *c)
{
	int64_t		low = dmshook_consumer_next(c);

	if (c->nlate > 0 && low > c->late[0] - 1)
		low = c->late[0] - 1;
	if (c->window > 0)
		for (DmshookEntry *entry = c->all_first; entry; entry = entry->all_next)
			if (entry->origin == DMSHOOK_FROM_LOG && low > entry->id - 1)
				low = entry->id - 1;
	return low;
}

bool
dmshook_consumer_passed(const DmshookConsumer *c, int64_t id)
{
	for (int i = 0; i < c->nlate; i++)
		if (c->late[i] == id)
			return false;
	return id <= dmshook_consumer_next(c) && dmshook__find_entry(c, id) == NULL;
}

int64_t
dmshook_consumer_redo(const DmshookConsumer *c)
{
	return c->redo;
}

int64_t
dmshook_consumer_skip(const DmshookConsumer *c)
{
	return c->skip;
}

bool
dmshook_consumer_live(const DmshookConsumer *c)
{
	return c->live;
}

int
dmshook_consumer_window(const DmshookConsumer *c)
{
	return c->window;
}

int
dmshook_consumer_flying(const DmshookConsumer *c)
{
	return c->flying;
}

int
dmshook_consumer_late_count(const DmshookConsumer *c)
{
	return c->nlate;
}

int
dmshook_consumers_flying(const DmshookConsumers *set)
{
	return set->flying;
}

int
dmshook_consumers_waiting(const DmshookConsumers *set)
{
	return set->waiting;
}

int
dmshook_consumers_finished(const DmshookConsumers *set)
{
	return set->finished.n;
}
