/*
 * world.c - those who write events, and the reader that finds them.
 *
 * Transactions take ids from the sequence and end in any order; a row's lock
 * is held to the end of the transaction, so that no two write the same entity at a time
 * (but the last entity, which stands for emit()). The reader is position.md's,
 * with its epochs and looks, at most a few probes a round.
 */
#include <string.h>

#include "model.h"

static void
begin(Tx *tx)
{
	*tx = (Tx)
	{
		.open = true, .xid = db.next_xid++
	};
}

static void
end(int t, bool commit)
{
	for (int64_t id = 1; id <= db.last_value; id++)
		if (db.event[id].status == OPEN && db.event[id].tx == t)
			db.event[id].status = commit ? COMMITTED : ABORTED;
	db.tx[t].open = false;
	trace("tx %d %s", t, commit ? "commits" : "rolls back");
}

static void
take_id(int t)
{
	int			entity = (int) rnd((uint32_t) db.nentities);
	Event	   *event;

	if (db.nentities > 1 && chance(15))
		entity = MAX_ENTITIES - 1;
	if (db.last_value >= db.max_events)
		return;
	if (LOCKED(entity))
	{
		for (int i = 0; i < MAX_TX; i++)
			if (i != t && db.tx[i].open && db.tx[i].locks[entity])
				return;
		db.tx[t].locks[entity] = true;
	}
	event = &db.event[++db.last_value];
	*event = (Event)
	{
		.status = OPEN, .entity = entity, .type = (int) rnd(TYPES), .tx = t
	};
	trace("tx %d takes %d of entity %d, type %d", t, (int) db.last_value, entity, event->type);
}

/* A savepoint rolled back: the id is gone, the transaction goes on. */
static void
undo_one(int t)
{
	for (int64_t id = db.last_value; id >= 1; id--)
		if (db.event[id].status == OPEN && db.event[id].tx == t)
		{
			db.event[id].status = ABORTED;
			trace("tx %d undoes %d", t, (int) id);
			return;
		}
}

void
world_init(void)
{
	memset(&db, 0, sizeof(db));
	db.max_events = 4 + (int) rnd(MAX_EVENTS - 4 + 1);
	db.nentities = 1 + (int) rnd(MAX_ENTITIES - 1);
	db.nwebhooks = 1 + (int) rnd(MAX_WEBHOOKS);
	db.next_xid = 100;
	db.next_command = 1;
	db.switches = chance(20);
	for (int w = 0; w < db.nwebhooks; w++)
	{
		Webhook    *webhook = &db.webhook[w];

		webhook->ordered = chance(65);
		webhook->judges = chance(30);
		webhook->enabled = true;
		webhook->window = 1 + (int) rnd(4);
		webhook->max_in_flight = 1 + (int) rnd(3);
		webhook->nversions = 1;
		webhook->from_id[0] = 1;
		webhook->types[0] = chance(70) ? 3 : 1 + (int) rnd(2);
	}
}

void
world_step(void)
{
	int			t = (int) rnd(MAX_TX);
	Tx		   *tx = &db.tx[t];

	if (!tx->open)
	{
		begin(tx);
		take_id(t);
	}
	else if (chance(45))
		take_id(t);
	else if (chance(8))
		undo_one(t);
	else
		end(t, chance(80));
}

void
world_end_all(void)
{
	for (int t = 0; t < MAX_TX; t++)
		if (db.tx[t].open)
			end(t, chance(80));
}

/* By the last version whose from_id is not above the id. */
bool
subscribed(const Webhook *webhook, int64_t id)
{
	int			types = 0;

	for (int v = 0; v < webhook->nversions; v++)
		if (webhook->from_id[v] <= id)
			types = webhook->types[v];
	return (types & (1 << db.event[id].type)) != 0;
}

/* Will a helper say that it is not for the webhook? Always the same. */
bool
refused(const Webhook *webhook, int64_t id)
{
	return webhook->judges && ((uint64_t) id * 7 + seed + (uint64_t) (webhook - db.webhook)) % 4 == 0;
}

/* ----------------------------------------------------------------- reader */

/* Transactions that may still fill a gap that has this fence. */
static int
live(int64_t fence)
{
	int			n = 0;

	for (int t = 0; t < MAX_TX; t++)
		if (db.tx[t].open && db.tx[t].xid < fence)
			n++;
	return n;
}

int64_t
reader_least_missing(void)
{
	for (int64_t id = 1; id <= MAX_EVENTS; id++)
		if (life.missing[id])
			return id;
	return INT64_MAX;
}

bool
reader_looking(void)
{
	for (int i = 0; i < life.nepochs; i++)
		if (life.epoch[i].cursor != 0)
			return true;
	return false;
}

/* Probe missing ids, oldest epoch first; those that are there now go to found. */
static int
look(int probes, int64_t *found)
{
	int			n = 0;

	for (int i = 0; i < life.nepochs; i++)
	{
		Epoch	   *epoch = &life.epoch[i];
		int			count = live(epoch->fence);

		if (count < epoch->count)
		{
			epoch->count = count;
			epoch->cursor = epoch->start;
		}
	}
	for (int i = 0; i < life.nepochs && probes > 0; i++)
	{
		Epoch	   *epoch = &life.epoch[i];

		while (epoch->cursor != 0 && probes > 0)
		{
			int64_t		id = epoch->cursor++;

			if (life.missing[id])
			{
				probes--;
				if (db.event[id].status == COMMITTED)
				{
					life.missing[id] = false;
					found[n++] = id;
				}
			}
			if (epoch->cursor > epoch->end)
				epoch->cursor = 0;
		}
	}
	for (int i = 0; i < life.nepochs;)
	{
		Epoch	   *epoch = &life.epoch[i];

		if (epoch->count > 0 || epoch->cursor != 0)
		{
			i++;
			continue;
		}
		for (int64_t id = epoch->start; id <= epoch->end; id++)
			life.missing[id] = false;
		memmove(epoch, epoch + 1, sizeof(Epoch) * (size_t) (--life.nepochs - i));
	}
	return n;
}

static void
late_rows(const int64_t *found, int n)
{
	for (int i = 0; i < n; i++)
	{
		int64_t		id = found[misuse == 2 ? n - 1 - i : i];
		DmshookLogEvent event = {id, (uint64_t) db.event[id].entity, &db.event[id]};

		trace("late %d", (int) id);
		dmshook_consumers_late(life.set, &event);
	}
}

static void
fresh_rows(int64_t high, int64_t new_high)
{
	for (int64_t id = high + 1; id <= new_high; id++)
	{
		DmshookLogEvent event = {id, (uint64_t) db.event[id].entity, &db.event[id]};

		if (db.event[id].status != COMMITTED)
			continue;
		dmshook_consumers_set_looking(life.set, misuse == 3 ? false : reader_looking());
		trace("fresh %d", (int) id);
		dmshook_consumers_fresh(life.set, &event);
	}
}

void
reader_round(int limit, int probes)
{
	int64_t		high = dmshook_consumers_high(life.set);
	int64_t		new_high = high;
	int64_t		found[MAX_EVENTS + 1];
	int			n = look(probes, found);
	bool		holes = false;

	for (int64_t id = high + 1; id <= db.last_value && limit > 0; id++)
		if (db.event[id].status == COMMITTED)
		{
			new_high = id;
			limit--;
		}
	for (int64_t id = high + 1; id < new_high; id++)
		if (db.event[id].status != COMMITTED && live(db.next_xid) > 0)
			life.missing[id] = holes = true;
	if (holes)
		life.epoch[life.nepochs++] = (Epoch)
	{
		.start = high + 1, .end = new_high, .fence = db.next_xid, .count = live(db.next_xid)
	};
	if (misuse == 1)
	{
		fresh_rows(high, new_high);
		late_rows(found, n);
	}
	else
	{
		late_rows(found, n);
		fresh_rows(high, new_high);
	}
	dmshook_consumers_set_looking(life.set, misuse == 3 ? false : reader_looking());
	CHECK(dmshook_consumers_high(life.set) == new_high, "high is %d, not %d",
		  (int) dmshook_consumers_high(life.set), (int) new_high);
}
