/*
 * dispatcher.c - does with consumer.h what src/dispatch.c does, in random order, against
 * tables in memory, and dies at random. With misuse > 0 it makes one of the
 * mistakes that consumer.h warns of; the checks must find each.
 */
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* ---------------------------------------------------------- what it answers */

static void *
answer_alloc(void *arg, size_t size)
{
	(void) arg;
	if (!calm && scarcity > 0 && chance((uint32_t) scarcity))
		return NULL;
	life.allocated++;
	return malloc(size);
}

static void
answer_free(void *arg, void *pointer)
{
	(void) arg;
	CHECK(pointer != NULL, "free(NULL)");
	life.allocated--;
	free(pointer);
}

static bool
answer_matches(void *arg, void *cookie, const DmshookLogEvent *event)
{
	(void) arg;
	CHECK(event->payload == &db.event[event->id], "payload of %d is another's", (int) event->id);
	return subscribed(cookie, event->id);
}

static bool
answer_handled(void *arg, void *cookie, int64_t id)
{
	Webhook    *webhook = cookie;

	(void) arg;
	return (webhook->attempt[id].final != 0 && misuse != 4) || (webhook->queue[id].present && misuse != 5);
}

/* A superset, in no order. */
static int
answer_candidates(void *arg, const DmshookLogEvent *event, DmshookConsumer ***list)
{
	static DmshookConsumer *candidates[MAX_WEBHOOKS];
	int			n = 0;

	(void) arg;
	for (int w = db.nwebhooks - 1; w >= 0; w--)
		if (subscribed(&db.webhook[w], event->id) || event->id % 3 == 0)
			candidates[n++] = life.consumer[w];
	*list = candidates;
	return n;
}

static int64_t
payload_id(void *payload)
{
	return (Event *) payload - db.event;
}

static void
answer_keep(void *arg, void *payload)
{
	(void) arg;
	life.kept[payload_id(payload)]++;
}

static void
answer_drop(void *arg, void *payload)
{
	(void) arg;
	CHECK(--life.kept[payload_id(payload)] >= 0, "payload of %d dropped too often", (int) payload_id(payload));
}

/* ------------------------------------------------------------ small things */

static int
number_of(const DmshookConsumer *consumer)
{
	return dmshook_consumer_webhook(consumer);
}

static DmshookLogEvent
log_event(int64_t id)
{
	return (DmshookLogEvent)
	{
		id, (uint64_t) db.event[id].entity, &db.event[id]
	};
}

/* Read under S: committed, at most upto, not missing. */
static bool
readable(int64_t id)
{
	return db.event[id].status == COMMITTED && (!life.missing[id] || misuse == 6);
}

/* False: there was no memory for it, and this is another life. */
static bool
apply_settings(int w)
{
	Webhook    *webhook = &db.webhook[w];
	DmshookConsumerSettings settings = {
		.may_send = webhook->enabled && !webhook->paused,
		.ordered = webhook->ordered,
		.window = webhook->window,
		.max_in_flight = webhook->max_in_flight
	};

	if (dmshook_consumer_set(life.consumer[w], &settings))
		return true;
	crash();
	return false;
}

/* The statement for one entity: the least parked row becomes due, where none is. */
static void
promote(Webhook *webhook, int entity)
{
	int64_t		least = 0;

	for (int64_t id = db.last_value; id >= 1; id--)
		if (webhook->queue[id].present && webhook->queue[id].kind == 'd' && db.event[id].entity == entity)
		{
			if (webhook->queue[id].due)
				return;
			least = id;
		}
	if (least > 0)
	{
		webhook->queue[least].due = true;
		trace("  promote %d", (int) least);
	}
}

static void
log_attempt(Webhook *webhook, int64_t id, char final, int command)
{
	Attempts   *attempt = &webhook->attempt[id];

	attempt->n++;
	if (final)
		attempt->final = final;
	if (command && misuse != 7)
		attempt->commands |= UINT32_C(1) << command;
}

/* A final attempt `cancelled`, its row deleted, the entity promoted; true: a row of kind d went. */
static bool
cancel_row(Webhook *webhook, int64_t id)
{
	QueueRow   *row = &webhook->queue[id];
	bool		delivery = row->kind == 'd';

	log_attempt(webhook, id, 'c', row->command);
	row->present = false;
	if (webhook->ordered && delivery && misuse != 8)
		promote(webhook, db.event[id].entity);
	return delivery;
}

/* ------------------------------------------------------------ start and end */

static void
forget_life(void)
{
	if (life.set)
		dmshook_consumers_free(life.set);
	CHECK(life.allocated == 0, "%d pieces of memory left", life.allocated);
	for (int id = 0; id <= MAX_EVENTS; id++)
		CHECK(life.kept[id] == 0, "payload of %d is still kept", id);
	memset(&life, 0, sizeof(life));
	for (int w = 0; w < db.nwebhooks; w++)
	{
		memset(db.webhook[w].sent, 0, sizeof(db.webhook[w].sent));
		memset(db.webhook[w].in_flight, 0, sizeof(db.webhook[w].in_flight));
	}
}

/* The transaction of start: cancelled rows are final, each entity has a due row. */
static void
tidy_queue(Webhook *webhook)
{
	for (int64_t id = 1; id <= db.last_value; id++)
		if (webhook->queue[id].present && webhook->queue[id].cancelled)
			cancel_row(webhook, id);
	for (int entity = 0; webhook->ordered && entity < MAX_ENTITIES; entity++)
		promote(webhook, entity);
}

void
start(void)
{
	int			scarce = scarcity;
	DmshookConsumerCalls calls = {
		.alloc = answer_alloc, .free = answer_free, .matches = answer_matches, .handled = answer_handled,
		.candidates = seed % 2 ? answer_candidates : NULL, .keep = answer_keep, .drop = answer_drop
	};

	trace("start at %d", (int) db.reader_low);
	scarcity = 0;
	forget_life();
	life.set = dmshook_consumers_create(&calls, db.reader_low);
	for (int w = 0; w < db.nwebhooks; w++)
	{
		Webhook    *webhook = &db.webhook[w];

		tidy_queue(webhook);
		life.consumer[w] = dmshook_consumer_add(life.set, w, webhook, webhook->has_row ? webhook->low : db.reader_low,
												misuse == 9 ? 0 : db.last_value, webhook->skip, webhook->has_row);
		apply_settings(w);
		for (int64_t id = 1; id <= db.last_value; id++)
			if (webhook->queue[id].present && webhook->queue[id].kind == 'd')
				dmshook_consumer_row_added(life.consumer[w], (uint64_t) db.event[id].entity);
		for (int i = 0; i < MAX_REPLAYS; i++)
			if (webhook->replay[i].present)
				dmshook_replay_add(life.consumer[w], webhook->replay[i].command, webhook->replay[i].low,
								   webhook->replay[i].until, &webhook->replay[i]);
	}
	scarcity = scarce;
}

void
crash(void)
{
	trace("crash");
	start();
}

/* ---------------------------------------------------------------- reading */

/* A scan that gives up after so many rows says how far it came. */
static int64_t
scan(int64_t after, int64_t upto, int limit, bool (*row) (void *, const DmshookLogEvent *), void *arg, bool *eaten)
{
	*eaten = true;
	for (int64_t id = after + 1; id <= upto && id <= db.last_value; id++)
	{
		DmshookLogEvent event = log_event(id);

		if (!readable(id))
			continue;
		if (!row(arg, &event))
		{
			*eaten = false;
			return upto;
		}
		if (--limit == 0)
			return id;
	}
	return upto;
}

/* As for a version whose transaction was open: at any time, to anywhere. */
static void
rewind_some(int w)
{
	int64_t		next = dmshook_consumer_next(life.consumer[w]);
	int64_t		to = rnd((uint32_t) next + 1);

	trace("rewind %d from %d to %d", w, (int) next, (int) to);
	dmshook_consumer_rewind(life.consumer[w], to);
}

static bool
feed_row(void *arg, const DmshookLogEvent *event)
{
	DmshookConsumer *consumer = arg;
	Webhook    *webhook = dmshook_consumer_cookie(consumer);
	int			before = dmshook_consumer_window(consumer);
	bool		eaten = dmshook_consumer_feed(consumer, event);
	int			now = dmshook_consumer_window(consumer);

	CHECK(now <= before || now <= webhook->window, "window of %d grew to %d", webhook->window, now);
	trace("feed %d to %d: %s", (int) event->id, number_of(consumer), eaten ? "eaten" : "no room");
	return eaten;
}

static void
feed_hungry(void)
{
	DmshookConsumer *consumer;
	bool		was_hungry[MAX_WEBHOOKS];

	for (int w = 0; w < db.nwebhooks; w++)
		was_hungry[w] = life.consumer[w]->in_hungry;
	dmshook_consumers_start_hungry(life.set);
	while ((consumer = dmshook_consumers_next_hungry(life.set)) != NULL)
	{
		int64_t		id,
					after,
					upto;
		int			room;
		bool		eaten;

		for (int i = (int) rnd(4); i < 3 && (id = dmshook_consumer_wants_late(consumer)) != 0; i++)
		{
			DmshookLogEvent event = log_event(id);

			CHECK(db.event[id].status == COMMITTED, "late id %d is not there", (int) id);
			trace("late %d to %d", (int) id, number_of(consumer));
			dmshook_consumer_feed_late(consumer, id, &event);
		}
		if (dmshook_consumer_wants(consumer, &after, &upto, &room))
		{
			upto = scan(after, upto, calm ? 0 : (int) rnd(5), feed_row, consumer, &eaten);
			if (!calm && chance(3))
				rewind_some(number_of(consumer));
			if (!calm && chance(3))
				dmshook_consumer_shed(consumer);
			if (eaten || chance(50))
				dmshook_consumer_fed(consumer, upto);
		}
	}
	for (int w = 0; w < db.nwebhooks; w++)
		CHECK(!was_hungry[w] || !life.consumer[w]->in_hungry || life.consumer[w]->round == life.set->round, "%d had no turn", w);
}

static bool
replay_row(void *arg, const DmshookLogEvent *event)
{
	DmshookReplay *replay = arg;
	StoredReplay *stored = dmshook_replay_cookie(replay);
	Webhook    *webhook = dmshook_consumer_cookie(replay->consumer);
	Attempts   *attempt = &webhook->attempt[event->id];
	DmshookEntry *before,
			   *after;

	/* open otherwise: that is its delivery, though before a crash it was taken here */
	if (webhook->queue[event->id].present)
		stored->accepted[event->id] = false;
	if (!(stored->types & (1 << db.event[event->id].type)) || attempt->final == 0 ||
		(webhook->queue[event->id].present && misuse != 10) ||
		(attempt->commands & (UINT32_C(1) << stored->command)))
		return true;
	dmshook_consumer_held(replay->consumer, event->id, &before);
	if (!dmshook_replay_feed(replay, event))
	{
		stored->accepted[event->id] = true; /* later, then */
		return false;
	}
	dmshook_consumer_held(replay->consumer, event->id, &after);
	CHECK(after, "replay lost %d", (int) event->id);
	CHECK(before == NULL || before == after, "replay replaced %d", (int) event->id);
	stored->accepted[event->id] = before == NULL;
	trace("replay %d of %d: %s", (int) event->id, stored->command, before ? "open" : "taken");
	return true;
}

static void
feed_replays(void)
{
	for (int w = 0; w < db.nwebhooks; w++)
		for (DmshookReplay *replay = dmshook_replay_iterate(life.consumer[w], NULL); replay;
			 replay = dmshook_replay_iterate(life.consumer[w], replay))
		{
			int64_t		after,
						upto;
			int			room;
			bool		eaten;

			if (!dmshook_replay_wants(replay, &after, &upto, &room))
				continue;
			upto = scan(after, upto, calm ? 0 : (int) rnd(5), replay_row, replay, &eaten);
			if (eaten || chance(50))
				dmshook_replay_fed(replay, upto);
		}
}

/* ---------------------------------------------------------------- sending */

static void
fly(DmshookEntry *entry)
{
	int			w = number_of(entry->consumer);

	check_send(w, entry);
	db.webhook[w].in_flight[entry->id] = true;
	db.webhook[w].flight_kind[entry->id] = entry->kind;
	if (entry->origin == DMSHOOK_FROM_LOG)
		db.webhook[w].sent[entry->id]++;
	life.flying[life.nflying++] = entry;
	trace("send %d to %d, %c, origin %d", (int) entry->id, w, entry->kind, entry->origin);
}

static void
send_some(void)
{
	DmshookConsumer *consumer;

	for (int i = 0; i < 1 + (int) rnd(6); i++)
	{
		DmshookEntry *entry;

		if (life.nflying == MAX_FLYING || (consumer = dmshook_consumers_next_ready(life.set)) == NULL)
			return;
		entry = dmshook_consumer_send(consumer);
		CHECK(entry, "%d was ready to send nothing", number_of(consumer));
		if (!calm && chance(5))
		{
			trace("unsend %d", (int) entry->id);
			dmshook_entry_unsend(entry);
			return;
		}
		fly(entry);
	}
}

static void
pick_some(void)
{
	for (int w = 0; w < db.nwebhooks; w++)
		for (int64_t id = 1; id <= db.last_value; id++)
		{
			QueueRow   *row = &db.webhook[w].queue[id];
			DmshookLogEvent event = log_event(id);
			DmshookEntry *entry;

			if (!row->present || !row->due || row->cancelled || life.nflying == MAX_FLYING || (!calm && chance(60)))
				continue;
			entry = dmshook_consumer_pick(life.consumer[w], &event, row->kind, row->command, row->attempts);
			if (entry && !calm && chance(5))
				dmshook_entry_unpick(entry);
			else if (entry)
				fly(entry);
		}
}

static void
finish_one(void)
{
	int			i = (int) rnd((uint32_t) life.nflying);
	DmshookEntry *entry = life.flying[i];
	DmshookEntryState state = DMSHOOK_ENDED_OK;

	life.flying[i] = life.flying[--life.nflying];
	if (refused(dmshook_consumer_cookie(entry->consumer), entry->id))
	{
		Webhook    *webhook = dmshook_consumer_cookie(entry->consumer);

		trace("%d of %d is rejected", (int) entry->id, number_of(entry->consumer));
		if (entry->origin == DMSHOOK_FROM_QUEUE && misuse != 16)
		{
			entry->cancelled = true;
			dmshook_entry_finish(entry, DMSHOOK_FAILED);
			return;
		}
		webhook->in_flight[entry->id] = false;
		dmshook_entry_reject(entry);
		return;
	}
	if (!calm && chance(45))
		state = entry->attempts >= 3 || chance(15) ? DMSHOOK_DEAD : DMSHOOK_FAILED;
	entry->attempts++;
	trace("%d of %d ends as %d", (int) entry->id, number_of(entry->consumer), state);
	dmshook_entry_finish(entry, state);
}

/* ------------------------------------------------------------ group commit */

static void
write_result(const DmshookEntry *entry)
{
	Webhook    *webhook = dmshook_consumer_cookie(entry->consumer);
	QueueRow   *row = &webhook->queue[entry->id];
	bool		picked = entry->origin == DMSHOOK_FROM_QUEUE;
	static const char finals[] = {
		[DMSHOOK_FATE_DELIVERED] = 'd',[DMSHOOK_FATE_EXHAUSTED] = 'x',[DMSHOOK_FATE_CANCELLED] = 'c',[DMSHOOK_FATE_RETRY] = 0
	};

	CHECK(picked == row->present, "%d of %d: origin %d, but %s queue row", (int) entry->id,
		  number_of(entry->consumer), entry->origin, row->present ? "a" : "no");
	CHECK(entry->fate != DMSHOOK_FATE_RETRY || !row->present || !row->cancelled, "%d was cancelled and is tried again", (int) entry->id);
	CHECK(entry->fate != DMSHOOK_FATE_RETRY || entry->origin != DMSHOOK_FROM_LOG ||
		  (entry->id > webhook->skip && webhook->attempt[entry->id].final == 0), "%d is final and tried again", (int) entry->id);
	log_attempt(webhook, entry->id, finals[entry->fate], (int) entry->command);
	row->present = entry->fate == DMSHOOK_FATE_RETRY;
	row->due = true;
	row->attempts = entry->attempts;
	row->kind = entry->kind;
	row->command = (int) entry->command;
	if (!picked)
		row->cancelled = false;
	trace("  %d of %d: fate %d", (int) entry->id, number_of(entry->consumer), entry->fate);
}

static void
write_parks(const DmshookCommit *commit)
{
	for (int i = 0; i < commit->nparks; i++)
	{
		DmshookEntry *entry = commit->parks[i];
		Webhook    *webhook = dmshook_consumer_cookie(entry->consumer);

		CHECK(webhook->ordered && entry->origin == DMSHOOK_FROM_LOG, "%d parked", (int) entry->id);
		CHECK(!webhook->queue[entry->id].present, "%d parked twice", (int) entry->id);
		webhook->queue[entry->id] = (QueueRow)
		{
			.present = true, .kind = 'd'
		};
		trace("  park %d of %d", (int) entry->id, number_of(entry->consumer));
	}
}

static void
write_promotes(const DmshookCommit *commit)
{
	for (int i = 0; i < commit->npromotes; i++)
		promote(dmshook_consumer_cookie(commit->promotes[i].consumer), (int) commit->promotes[i].entity);
}

static void
commit_some(void)
{
	const DmshookCommit *commit;
	Database	before = db;
	bool		die = !calm && chance(4);
	bool		rolled_back = !calm && chance(8);

	if ((commit = dmshook_commit_begin(life.set, calm ? 1000 : 1 + (int) rnd(5))) == NULL)
		return;
	trace("commit %d results, %d parks, %d promotes", commit->nresults, commit->nparks, commit->npromotes);
	for (int i = 0; i < commit->nresults; i++)
		write_result(commit->results[i]);
	if (misuse == 11)
		write_promotes(commit);
	write_parks(commit);
	if (misuse != 11)
		write_promotes(commit);
	if (rolled_back)
	{
		trace("rolled back");
		db = before;
	}
	else
	{
		check_database();
		for (int i = 0; i < commit->nresults && !die; i++)
			db.webhook[number_of(commit->results[i]->consumer)].in_flight[commit->results[i]->id] = false;
	}
	dmshook_commit_end(life.set, !rolled_back || misuse == 12);
	if (rolled_back && !die && chance(30) && life.set->finished.n > 0)
		dmshook_entry_postpone(life.set->finished.first);
	if (die)
		crash();
}

static void
persist(void)
{
	int64_t		least = reader_least_missing();
	int64_t		high = dmshook_consumers_high(life.set);
	bool		all = !calm && chance(5);
	const DmshookPersist *persist = dmshook_persist_begin(life.set, least <= high ? least - 1 : high, all);
	bool		rolled_back = !calm && chance(10);

	check_persist(persist, least <= high ? least - 1 : high, all);
	if (persist && !rolled_back)
	{
		CHECK(persist->low >= db.reader_low, "R goes back from %d to %d", (int) db.reader_low, (int) persist->low);
		db.reader_low = persist->low;
		for (int i = 0; i < persist->nplaces && misuse != 13; i++)
		{
			Webhook    *webhook = dmshook_consumer_cookie(persist->places[i].consumer);

			webhook->has_row = persist->places[i].store;
			webhook->low = persist->places[i].low;
		}
		trace("persist R = %d", (int) db.reader_low);
	}
	if (persist)
		dmshook_persist_end(life.set, !rolled_back);
	if (rolled_back)
		return;
	for (int w = 0; w < db.nwebhooks; w++)
		for (DmshookReplay *replay = dmshook_replay_iterate(life.consumer[w], NULL), *next; replay; replay = next)
		{
			StoredReplay *stored = dmshook_replay_cookie(replay);

			next = dmshook_replay_iterate(life.consumer[w], replay);
			stored->low = dmshook_replay_low(replay);
			if (!dmshook_replay_done(replay))
				continue;
			trace("replay %d is done", stored->command);
			stored->present = false;
			dmshook_replay_remove(replay);
		}
	check_database();
}

/* --------------------------------------------------------------- commands */

/* Somebody asks; the dispatcher does it later, perhaps in another life. */
void
ask(int w)
{
	Webhook    *webhook = &db.webhook[w];
	int			i = (int) rnd(MAX_COMMANDS);
	static const char kinds[] = "ccccaerrryyy";

	if (webhook->command[i].kind || db.next_command > 31 || db.last_value == 0)
		return;
	webhook->command[i] = (Command)
	{
		.kind = kinds[rnd(sizeof(kinds) - 1)], .id = db.next_command++,
			.event = 1 + rnd((uint32_t) db.last_value), .upto = db.last_value
	};
	if (webhook->command[i].kind == 'e')
		webhook->command[i].upto = webhook->command[i].event;
	trace("ask %c of %d, event %d", webhook->command[i].kind, w, (int) webhook->command[i].event);
}

static void
do_cancel(int w, Command *command)
{
	Webhook    *webhook = &db.webhook[w];
	int64_t		id = command->event;
	DmshookEntry *entry;
	DmshookHeld held = dmshook_consumer_held(life.consumer[w], id, &entry);
	bool		removed = false;

	if (db.event[id].status == COMMITTED && subscribed(webhook, id))
	{
		if (held == DMSHOOK_HELD_PICKED && misuse != 14)
			webhook->queue[id].cancelled = true;
		else if (webhook->queue[id].present)
			removed = cancel_row(webhook, id);
		else if (webhook->attempt[id].final == 0 || (entry && entry->origin == DMSHOOK_FROM_REPLAY))
			log_attempt(webhook, id, 'c', entry ? (int) entry->command : 0);
		check_database();
		if (removed)
			dmshook_consumer_row_removed(life.consumer[w], (uint64_t) db.event[id].entity);
		dmshook_consumer_cancel(life.consumer[w], id);
	}
	command->kind = 0;
}

/* Or expiry, which leaves replays alone. */
static void
do_cancel_all(int w, Command *command)
{
	Webhook    *webhook = &db.webhook[w];
	DmshookConsumer *consumer = life.consumer[w];
	bool		removed[MAX_EVENTS + 1] = {false};
	bool		replays = command->kind == 'a';
	int64_t		picked[MAX_FLYING];
	int			npicked = dmshook_consumer_picked(consumer, picked, MAX_FLYING);

	for (int i = 0; i < npicked && i < MAX_FLYING; i++)
		CHECK(dmshook_consumer_held(consumer, picked[i], NULL) == DMSHOOK_HELD_PICKED, "%d is not picked", (int) picked[i]);
	if (webhook->skip < command->upto)
		webhook->skip = command->upto;
	for (int64_t id = 1; id <= command->upto; id++)
		if (webhook->queue[id].present)
		{
			if (dmshook_consumer_held(consumer, id, NULL) == DMSHOOK_HELD_PICKED)
				webhook->queue[id].cancelled = true;
			else
				removed[id] = cancel_row(webhook, id);
		}
	for (int i = 0; i < MAX_REPLAYS && replays; i++)
		webhook->replay[i].present = false;
	command->kind = 0;
	check_database();
	for (int64_t id = 1; id <= command->upto; id++)
		if (removed[id])
			dmshook_consumer_row_removed(consumer, (uint64_t) db.event[id].entity);
	dmshook_consumer_cancel_all(consumer, command->upto, replays);
}

static void
do_redeliver(int w, Command *command)
{
	Webhook    *webhook = &db.webhook[w];
	int64_t		id = command->event;

	if (dmshook_consumer_held(life.consumer[w], id, NULL) != DMSHOOK_HELD_NOT && misuse != 15)
		return;
	if (webhook->attempt[id].final != 0 && !webhook->queue[id].present)
		webhook->queue[id] = (QueueRow)
	{
		.present = true, .due = true, .kind = 'r', .command = command->id
	};
	command->kind = 0;
}

static void
do_replay(int w, Command *command)
{
	Webhook    *webhook = &db.webhook[w];
	int			i = 0;
	int64_t		until = dmshook_consumer_next(life.consumer[w]);

	while (i < MAX_REPLAYS && webhook->replay[i].present)
		i++;
	if (i == MAX_REPLAYS)
		return;
	if (until == 0)
	{
		command->kind = 0;
		return;
	}
	webhook->replay[i] = (StoredReplay)
	{
		.present = true, .low = rnd((uint32_t) until), .until = until, .command = command->id, .types = 1 + (int) rnd(3)
	};
	command->kind = 0;
	trace("replay %d of %d: %d to %d", webhook->replay[i].command, w, (int) webhook->replay[i].low, (int) until);
	if (!dmshook_replay_add(life.consumer[w], webhook->replay[i].command, webhook->replay[i].low, until, &webhook->replay[i]))
		crash();
}

static void
do_commands(int w)
{
	for (int i = 0; i < MAX_COMMANDS; i++)
	{
		Command    *command = &db.webhook[w].command[i];

		switch (command->kind)
		{
			case 'c':
				do_cancel(w, command);
				break;
			case 'a':
			case 'e':
				do_cancel_all(w, command);
				break;
			case 'r':
				do_redeliver(w, command);
				break;
			case 'y':
				do_replay(w, command);
				break;
		}
	}
}

/*
 * Ordering switched: what is under way then keeps no order, but nothing may be
 * lost, doubled or parked for ever.
 */
static void
switch_ordering(int w)
{
	Webhook    *webhook = &db.webhook[w];

	trace("ordering of %d is switched", w);
	webhook->switched = true;
	webhook->ordered = !webhook->ordered;
	for (int entity = 0; entity < MAX_ENTITIES; entity++)
	{
		bool		head = true;

		for (int64_t id = 1; id <= db.last_value; id++)
		{
			QueueRow   *row = &webhook->queue[id];

			if (!row->present || row->kind != 'd' || db.event[id].entity != entity)
				continue;
			row->due = !webhook->ordered || head;
			head = head && row->cancelled;
		}
	}
	if (!apply_settings(w))
		return;
	for (int64_t id = 1; id <= db.last_value && webhook->ordered; id++)
		if (webhook->queue[id].present && webhook->queue[id].kind == 'd' &&
			!dmshook_consumer_row_added(life.consumer[w], (uint64_t) db.event[id].entity))
		{
			crash();
			return;
		}
}

/* Somebody changes the configuration; the dispatcher reloads at once. */
static void
configure(int w)
{
	Webhook    *webhook = &db.webhook[w];

	switch (rnd(7))
	{
		case 2:
			if (db.switches && chance(70))
			{
				switch_ordering(w);
				return;
			}
			webhook->window = 1 + (int) rnd(4);
			break;
		case 6:
			rewind_some(w);
			return;
		case 0:
		case 1:
			webhook->paused = !webhook->paused;
			break;
		case 3:
			webhook->max_in_flight = 1 + (int) rnd(3);
			break;
		case 4:
		case 5:
			if (webhook->nversions == MAX_VERSIONS)
				return;
			if (chance(50))
				webhook->enabled = !webhook->enabled;
			webhook->from_id[webhook->nversions] = db.last_value + 1;
			webhook->types[webhook->nversions++] = webhook->enabled ? 1 + (int) rnd(3) : 0;
			break;
	}
	apply_settings(w);
	if (webhook->paused && chance(50))
	{
		trace("shed %d", w);
		dmshook_consumer_shed(life.consumer[w]);
	}
}

/* ----------------------------------------------------------------- its turn */

void
dispatcher_step(void)
{
	int			w = (int) rnd((uint32_t) db.nwebhooks);

	switch (rnd(26))
	{
		case 0:
		case 1:
		case 2:
		case 3:
			do_commands(w);
			reader_round(1 + (int) rnd(4), 1 + (int) rnd(3));
			break;
		case 4:
		case 5:
		case 6:
			feed_hungry();
			break;
		case 7:
			feed_replays();
			break;
		case 8:
		case 9:
		case 10:
		case 11:
			send_some();
			break;
		case 12:
			pick_some();
			break;
		case 13:
		case 14:
		case 15:
		case 16:
			if (life.nflying > 0)
				finish_one();
			break;
		case 17:
		case 18:
		case 19:
		case 20:
			commit_some();
			break;
		case 21:
			persist();
			break;
		case 22:
			configure(w);
			break;
		case 23:
			ask(w);
			break;
		case 24:
			if (chance(20))
				crash();
			break;
		case 25:
			dmshook_consumers_set_room(life.set, chance(70));
			break;
	}
}

/* Everything enabled, the receivers well: a turn of everything. */
void
dispatcher_drain(void)
{
	dmshook_consumers_set_room(life.set, true);
	for (int w = 0; w < db.nwebhooks; w++)
	{
		db.webhook[w].paused = false;
		db.webhook[w].enabled = true;
		apply_settings(w);
		do_commands(w);
	}
	reader_round(1000, 1000);
	feed_hungry();
	feed_replays();
	send_some();
	pick_some();
	while (life.nflying > 0)
		finish_one();
	commit_some();
	persist();
}

bool
dispatcher_idle(void)
{
	for (int w = 0; w < db.nwebhooks; w++)
	{
		DmshookConsumer *consumer = life.consumer[w];

		if (consumer->nentries > 0 || !consumer->live || consumer->nlate > 0 || consumer->replays || consumer->nentities > 0)
			return false;
		for (int64_t id = 1; id <= db.last_value; id++)
			if (db.webhook[w].queue[id].present)
				return false;
		for (int i = 0; i < MAX_COMMANDS; i++)
			if (db.webhook[w].command[i].kind)
				return false;
	}
	for (int64_t id = dmshook_consumers_high(life.set) + 1; id <= db.last_value; id++)
		if (db.event[id].status == COMMITTED)
			return false;
	return db.reader_low == dmshook_consumers_high(life.set) && life.nflying == 0;
}
