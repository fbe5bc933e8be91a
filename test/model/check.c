/*
 * check.c - what consumer.md promises, asked after every step.
 */
#include "model.h"

static bool
done(const Webhook *webhook, int64_t id)
{
	return webhook->attempt[id].final != 0 || webhook->queue[id].present || id <= webhook->skip;
}

/* Nothing has to be done about it (any more). */
static bool
settled(const Webhook *webhook, int64_t id)
{
	return done(webhook, id) || refused(webhook, id);
}

static bool
late_has(const DmshookConsumer *consumer, int64_t id)
{
	for (int i = 0; i < consumer->nlate; i++)
		if (consumer->late[i] == id)
			return true;
	return false;
}

static bool
in_window(const DmshookConsumer *consumer, int64_t id)
{
	DmshookEntry *entry;

	dmshook_consumer_held(consumer, id, &entry);
	return entry && entry->origin == DMSHOOK_FROM_LOG;
}

/* Every event up to next is done, or open in memory, or missing; every one up to low is done. */
static void
check_place(int w)
{
	const Webhook *webhook = &db.webhook[w];
	const DmshookConsumer *consumer = life.consumer[w];
	int64_t		next = dmshook_consumer_next(consumer);
	int64_t		low = dmshook_consumer_low(consumer);

	for (int64_t id = 1; id <= next; id++)
	{
		if (db.event[id].status != COMMITTED || !subscribed(webhook, id) || life.missing[id] || settled(webhook, id))
			continue;
		CHECK(in_window(consumer, id) || late_has(consumer, id), "%d of %d is lost: next %d", (int) id, w, (int) next);
		CHECK(id > low, "low of %d is %d, but %d is not done", w, (int) low, (int) id);
	}
	CHECK(low <= next, "low of %d is %d, above next, %d", w, (int) low, (int) next);
	CHECK(consumer->nlate <= DMSHOOK_LATE_CAP, "%d late ids", consumer->nlate);
	for (int i = 1; i < consumer->nlate; i++)
		CHECK(consumer->late[i - 1] < consumer->late[i], "late ids of %d out of order", w);
}

/* What waits is not done already; the numbers add up. */
static void
check_entries(int w)
{
	const Webhook *webhook = &db.webhook[w];
	DmshookConsumer *consumer = life.consumer[w];
	int			window = 0,
				flying = 0,
				finished = 0,
				n = 0;

	for (DmshookEntry *entry = consumer->all_first; entry; entry = entry->all_next)
	{
		n++;
		window += entry->origin == DMSHOOK_FROM_LOG;
		flying += entry->state == DMSHOOK_FLYING;
		finished += entry->state > DMSHOOK_FLYING;
		if (entry->origin == DMSHOOK_FROM_LOG && entry->state < DMSHOOK_FLYING)
			CHECK(!done(webhook, entry->id), "%d of %d is done and waits", (int) entry->id, w);
		if (entry->origin == DMSHOOK_FROM_LOG)
			CHECK(entry->id <= dmshook_consumers_high(life.set) && db.event[entry->id].status == COMMITTED,
				  "%d of %d is beyond the log", (int) entry->id, w);
	}
	CHECK(n == consumer->nentries && window == consumer->window && flying == consumer->flying &&
		  finished == consumer->finished, "entries of %d do not add up", w);
}

/* The lists that spare it to walk all webhooks: each says what asking all of them would. */
static void
check_lists(void)
{
	int			waiting = 0;

	for (int w = 0; w < db.nwebhooks; w++)
	{
		const DmshookConsumer *c = life.consumer[w];
		bool		hungry = (!c->live || c->nlate > 0) && c->settings.may_send && c->window < c->settings.window;

		CHECK(hungry == c->in_hungry, "%d is%s hungry, and it is%s listed", w, hungry ? "" : " not", c->in_hungry ? "" : " not");
		waiting += c->window > c->flying ? c->window - c->flying : 0;
	}
	CHECK(waiting == dmshook_consumers_waiting(life.set), "%d wait, not %d", waiting, dmshook_consumers_waiting(life.set));
}

/* What is to be stored, as asking all webhooks says it; persist NULL: nothing. */
void
check_persist(const DmshookPersist *persist, int64_t reader_low, bool all)
{
	int64_t		high = dmshook_consumers_high(life.set);
	int64_t		most = reader_low < high ? reader_low : high;
	int64_t		place = most;
	int			nplaces = 0;

	if (persist == NULL && life.set->places_size < life.set->nconsumers)
		return;					/* there was no memory for it */
	for (int w = 0; w < db.nwebhooks && !all; w++)
	{
		int64_t		low = dmshook_consumer_low(life.consumer[w]);

		if (low >= life.set->stored_high && low >= most - DMSHOOK_ROW_SLACK && low < place)
			place = low;
	}
	if (place < life.set->stored_high)
		place = life.set->stored_high;
	for (int w = 0; w < db.nwebhooks; w++)
	{
		const DmshookConsumer *c = life.consumer[w];
		int64_t		low = dmshook_consumer_low(c);
		bool		store = all || low < place;

		nplaces += store != c->stored || (store && low != c->stored_low);
	}
	CHECK((persist ? persist->low : life.set->stored_high) == place, "R becomes %d, not %d", (int) (persist ? persist->low : 0), (int) place);
	CHECK((persist ? persist->nplaces : 0) == nplaces, "%d places are stored, not %d", persist ? persist->nplaces : 0, nplaces);
}

void
check_memory(void)
{
	int			flying = 0;

	check_lists();

	for (int w = 0; w < db.nwebhooks; w++)
	{
		check_place(w);
		check_entries(w);
		flying += life.consumer[w]->flying;
	}
	CHECK(flying == life.nflying && flying == dmshook_consumers_flying(life.set), "%d fly, not %d", flying, life.nflying);
}

/* An ordered webhook's rows of an entity: one due, and it may not be parked alone. */
static void
check_queue(int w)
{
	const Webhook *webhook = &db.webhook[w];

	for (int entity = 0; webhook->ordered && entity < MAX_ENTITIES; entity++)
	{
		int			due = 0,
					parked = 0;

		for (int64_t id = 1; id <= db.last_value; id++)
		{
			const QueueRow *row = &webhook->queue[id];

			if (row->present && row->kind == 'd' && db.event[id].entity == entity)
				row->due ? due++ : parked++;
		}
		CHECK(due <= 1 || webhook->switched, "%d due rows of entity %d of %d", due, entity, w);
		CHECK(parked == 0 || due >= 1, "entity %d of %d is parked for ever", entity, w);
	}
}

/* What is stored: a crash now loses nothing. */
void
check_database(void)
{
	for (int w = 0; w < db.nwebhooks; w++)
	{
		const Webhook *webhook = &db.webhook[w];
		int64_t		start = webhook->has_row && webhook->low < db.reader_low ? webhook->low : db.reader_low;

		check_queue(w);
		for (int64_t id = 1; id <= start; id++)
			if ((db.event[id].status == COMMITTED || db.event[id].status == OPEN) && subscribed(webhook, id))
				CHECK(settled(webhook, id), "a crash now loses %d of %d: it starts at %d", (int) id, w, (int) start);
	}
}

/* No earlier event of the same row without an end, and one at a time. */
static void
check_order(int w, int64_t id)
{
	const Webhook *webhook = &db.webhook[w];
	int			entity = db.event[id].entity;

	for (int64_t other = 1; other <= db.last_value; other++)
	{
		if (other == id || db.event[other].entity != entity)
			continue;
		CHECK(!webhook->in_flight[other] || webhook->flight_kind[other] != 'd',
			  "%d of %d goes while %d is not committed", (int) id, w, (int) other);
		CHECK(!(webhook->queue[other].present && webhook->queue[other].kind == 'd' && webhook->queue[other].due),
			  "%d of %d overtakes %d, which is in the queue", (int) id, w, (int) other);
		if (LOCKED(entity) && other < id && db.event[other].status == COMMITTED && subscribed(webhook, other))
			CHECK(webhook->attempt[other].final != 0 || other <= webhook->skip || refused(webhook, other),
				  "%d of %d goes before %d", (int) id, w, (int) other);
	}
}

void
check_send(int w, const DmshookEntry *entry)
{
	const Webhook *webhook = &db.webhook[w];
	int64_t		id = entry->id;
	const Attempts *attempt = &webhook->attempt[id];

	CHECK(webhook->enabled && !webhook->paused, "%d of %d is sent though paused", (int) id, w);
	CHECK(dmshook_consumer_flying(life.consumer[w]) <= webhook->max_in_flight, "too many in flight of %d", w);
	CHECK(db.event[id].status == COMMITTED && subscribed(webhook, id), "%d is nothing for %d", (int) id, w);
	CHECK(!webhook->in_flight[id], "%d of %d is in flight twice", (int) id, w);
	switch (entry->origin)
	{
		case DMSHOOK_FROM_LOG:
			CHECK(webhook->sent[id] == 0 || refused(webhook, id), "%d of %d is sent twice", (int) id, w);
			CHECK(!done(webhook, id), "%d of %d is done and sent again", (int) id, w);
			break;
		case DMSHOOK_FROM_QUEUE:
			CHECK(webhook->queue[id].present && webhook->queue[id].due && !webhook->queue[id].cancelled,
				  "%d of %d is not due", (int) id, w);
			break;
		case DMSHOOK_FROM_REPLAY:
			CHECK(attempt->final != 0 && !webhook->queue[id].present, "%d of %d is open and replayed", (int) id, w);
			CHECK(!(attempt->commands & (UINT32_C(1) << entry->command)), "%d of %d is replayed twice", (int) id, w);
			break;
	}
	if (webhook->ordered && !webhook->switched && entry->kind == 'd')
		check_order(w, id);
}

/* All is quiet: everything has an end, and a replay sent what it took. */
void
check_end(void)
{
	for (int w = 0; w < db.nwebhooks; w++)
	{
		const Webhook *webhook = &db.webhook[w];

		for (int64_t id = 1; id <= db.last_value; id++)
		{
			if (db.event[id].status != COMMITTED || !subscribed(webhook, id))
			{
				CHECK(webhook->attempt[id].n == 0, "%d was sent to %d, whom it does not concern", (int) id, w);
				continue;
			}
			if (refused(webhook, id))
				continue;
			CHECK(webhook->attempt[id].final != 0 || id <= webhook->skip, "%d never reached %d", (int) id, w);
			for (int i = 0; i < MAX_REPLAYS; i++)
				CHECK(!webhook->replay[i].accepted[id] || id <= webhook->skip ||
					  (webhook->attempt[id].commands & (UINT32_C(1) << webhook->replay[i].command)),
					  "replay %d of %d forgot %d", webhook->replay[i].command, w, (int) id);
		}
	}
}
