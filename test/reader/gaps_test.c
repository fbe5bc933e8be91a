/*
 * gaps_test.c - the sets and epochs of gaps.c, without a server: test only.
 *
 * First the set of missing ids against an array of bools. Then a small model of
 * PostgreSQL (xids, subtransactions, snapshots as GetSnapshotData() makes them, a
 * sequence, transactions that hold ids, roll back, and end while a round is
 * under way) with a reader on top that does what reader.c does. It starts just below
 * xid 2^32. Everything is random from a seed, which a failure prints.
 *
 * usage: gaps_test [runs] [seed]
 */
#include "gaps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition, ...) \
	do { if (!(condition)) { printf("not ok: unit: seed %llu: ", (unsigned long long) seed); \
		printf(__VA_ARGS__); printf(" (line %d)\n", __LINE__); exit(1); } } while (0)

static uint64_t seed;
static uint64_t state;
static long allocated;

static uint32_t
rnd(uint32_t n)
{
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t) (state >> 33) % n;
}

static void *
resize(void *arg, void *old, size_t size)
{
	(void) arg;
	if (old == NULL)
		allocated++;
	if (size == 0)
	{
		allocated--;
		free(old);
		return NULL;
	}
	return realloc(old, size);
}

/* ------------------------------------------------------------------ the set */

#define SET_IDS	300000

static bool set[SET_IDS + 1];

static void
test_set(void)
{
	DmshookGaps *gaps = dmshook_gaps_create(resize, NULL);
	int64_t		top = rnd(20000);
	uint64_t	count = 0;

	memset(set, 0, sizeof(set));
	while (top < SET_IDS)
	{
		int			n = rnd(8) == 0 ? rnd(60000) : rnd(3) == 0 ? rnd(3000) : rnd(4);
		int64_t		first = top + 1 + (rnd(5) == 0 ? rnd(20000) : rnd(50));
		int64_t		last = first + n;

		if (rnd(6) == 0)
			first = (first + 8191) / 8192 * 8192;	/* exactly at a chunk's edge */
		if (rnd(6) == 0)
			last = (last + 8192) / 8192 * 8192 - 1;
		if (last > SET_IDS || first > last)
			break;
		dmshook_gaps_add(gaps, first, last);
		for (int64_t id = first; id <= last; id++)
			set[id] = true;
		count += last - first + 1;
		top = last;
		for (int i = 0; i < 40; i++)
		{
			int64_t		id = 1 + rnd(top);

			if (set[id])
				count--;
			set[id] = false;
			dmshook_gaps_take(gaps, id);
		}
		CHECK(dmshook_gaps_count(gaps) == count, "count");
	}
	for (int64_t id = 1, next = 0; id <= SET_IDS; id++)
	{
		CHECK(dmshook_gaps_has(gaps, id) == set[id], "has %lld", (long long) id);
		if (next < id)
			for (next = id; next <= SET_IDS && !set[next];)
				next++;
		if (id % 7 == 0 || set[id])
			CHECK(dmshook_gaps_next(gaps, id) == (next > SET_IDS ? 0 : next), "next of %lld", (long long) id);
	}
	dmshook_gaps_free(gaps);
	CHECK(allocated == 0, "memory");
}

/* ---------------------------------------------------------------- the model */

#define MAX_IDS		40000
#define MAX_TX		40

typedef struct Tx
{
	bool		open;
	uint64_t	xid;			/* 0: none yet */
	uint64_t	last_xid;		/* of its subtransactions */
	int			nids;
	int64_t		ids[64];
	int64_t		bulk_first;		/* a bulk insert's ids, contiguous or not */
	int64_t		bulk_last;
} Tx;

static uint64_t next_xid;
static uint64_t latest_completed;
static uint64_t time_now;		/* counts ends of transactions */
static int64_t last_id;
static uint64_t committed_at[MAX_IDS + 1];	/* 0: not */
static bool handed[MAX_IDS + 1];
static Tx	txs[MAX_TX];

typedef struct Snap
{
	uint64_t	time;
	uint64_t	xmax;
	uint32_t	running[MAX_TX];
	int			nrunning;
} Snap;

static void
end_tx(Tx *tx, bool commit)
{
	if (tx->xid)
	{
		time_now++;
		if (commit)
		{
			for (int i = 0; i < tx->nids; i++)
				committed_at[tx->ids[i]] = time_now;
			for (int64_t id = tx->bulk_first; id && id <= tx->bulk_last; id++)
				committed_at[id] = time_now;
		}
		if (tx->last_xid > latest_completed)
			latest_completed = tx->last_xid;
	}
	memset(tx, 0, sizeof(*tx));
}

static void
need_xid(Tx *tx)
{
	if (tx->xid == 0)
		tx->xid = tx->last_xid = next_xid++;
}

/* Something happens in the database. */
static void
step(int max_tx, int hold)
{
	int			i = rnd(max_tx);
	Tx		   *tx = &txs[i];

	if (!tx->open)
	{
		tx->open = true;
		if (rnd(3) == 0)
			need_xid(tx);
		return;
	}
	switch (rnd(i < hold ? 60 : 8))
	{
		case 0:
		case 1:
			end_tx(tx, true);
			break;
		case 2:
			if (rnd(2) == 0)
				end_tx(tx, false);
			break;
		case 3:
			/* a subtransaction; maybe one that rolls back, with what it took */
			need_xid(tx);
			tx->last_xid = next_xid++;
			if (rnd(3) == 0)
			{
				if (last_id < MAX_IDS)
					last_id++;
				if (tx->last_xid > latest_completed)
					latest_completed = tx->last_xid;
			}
			break;
		case 4:
			need_xid(tx);
			break;
		case 5:
			if (rnd(200) == 0 && tx->bulk_first == 0 && last_id + 9000 < MAX_IDS)
			{
				need_xid(tx);
				tx->bulk_first = last_id + 1;
				last_id += 1 + rnd(9000);
				tx->bulk_last = last_id;
				break;
			}
			/* FALLTHROUGH */
		default:
			if (tx->nids < 64 && last_id < MAX_IDS)
			{
				need_xid(tx);
				tx->ids[tx->nids++] = ++last_id;
			}
			break;
	}
}

static void
take_snapshot(Snap *snap, DmshookXids *xids)
{
	snap->time = time_now;
	snap->xmax = latest_completed + 1;
	snap->nrunning = 0;
	for (int i = 0; i < MAX_TX; i++)
		if (txs[i].open && txs[i].xid && txs[i].xid < snap->xmax)
			snap->running[snap->nrunning++] = (uint32_t) txs[i].xid;
	xids->xmax = snap->xmax;
	xids->running = snap->running;
	xids->nrunning = snap->nrunning;
}

static bool
visible(const Snap *snap, int64_t id)
{
	return committed_at[id] != 0 && committed_at[id] <= snap->time;
}

static void
hand_out(int64_t id)
{
	CHECK(!handed[id], "id %lld handed out twice", (long long) id);
	handed[id] = true;
}

static void
test_reader(int steps)
{
	DmshookGaps *gaps = dmshook_gaps_create(resize, NULL);
	int			max_tx = 2 + rnd(MAX_TX - 1);
	int			hold = rnd(3) == 0 ? rnd(max_tx) : 0;
	int			pace = 1 + rnd(60);
	int			limit = rnd(3) == 0 ? 1 + rnd(20) : 1000000;
	int			budget_all = rnd(3) == 0 ? 1 + rnd(30) : 1000000;
	bool		starting = true;
	int64_t		high = 0;
	uint64_t	last_pass = 0;

	next_xid = (1ULL << 32) - rnd(3000);
	latest_completed = next_xid - 1;
	time_now = 0;
	last_id = 0;
	memset(committed_at, 0, sizeof(committed_at));
	memset(handed, 0, sizeof(handed));
	memset(txs, 0, sizeof(txs));

	for (int round = 0; last_pass < 3; round++)
	{
		Snap		snap;
		DmshookXids xids;
		DmshookLook look;
		int			budget = budget_all;
		int			n = 0;
		int64_t		first_new = high + 1;
		int64_t		id;
		bool		more = false;

		if (round < steps)
			for (int i = rnd(pace); i >= 0; i--)
				step(max_tx, hold);
		else if (round == steps)
			for (int i = 0; i < MAX_TX; i++)
				if (txs[i].open)
					end_tx(&txs[i], rnd(3) > 0);

		take_snapshot(&snap, &xids);
		if (round < steps && rnd(2) == 0)
			for (int i = rnd(6); i > 0; i--)
				step(max_tx, hold);
		xids.next = next_xid;

		/* gaps */
		dmshook_gaps_begin(gaps, &xids);
		while (dmshook_gaps_look(gaps, &look))
		{
			int64_t		upto = look.last;

			CHECK(look.first <= look.last && look.last <= high, "look");
			if (budget <= 0)
				break;
			for (id = look.first; id <= look.last; id++)
			{
				if (look.solid)
					CHECK(dmshook_gaps_has(gaps, id), "solid");
				if (dmshook_gaps_has(gaps, id) && visible(&snap, id))
				{
					dmshook_gaps_take(gaps, id);
					hand_out(id);
				}
				if (--budget <= 0)
				{
					upto = id;
					break;
				}
			}
			dmshook_gaps_looked(gaps, upto);
		}
		CHECK(dmshook_gaps_looking(gaps) == dmshook_gaps_look(gaps, &look), "looking");

		/* new rows */
		for (id = first_new; id <= last_id; id++)
		{
			if (!visible(&snap, id))
				continue;
			if (n == limit)
			{
				more = true;
				break;
			}
			if (id > high + 1)
				dmshook_gaps_add(gaps, high + 1, id - 1);
			high = id;
			hand_out(id);
			n++;
		}
		if (round < steps && rnd(2) == 0)
			for (int i = rnd(6); i > 0; i--)
				step(max_tx, hold);
		xids.next = next_xid;
		dmshook_gaps_fence(gaps, high, &xids, starting, round + 1);
		CHECK(dmshook_gaps_epochs(gaps) <= 24, "epochs");
		if (n < limit)
			starting = false;

		/* what is visible was handed out in this very round */
		if (!more && !dmshook_gaps_looking(gaps))
			for (id = 1; id <= last_id; id++)
				if (visible(&snap, id))
					CHECK(handed[id], "id %lld was visible, and not handed out", (long long) id);
		for (id = dmshook_gaps_next(gaps, 1); id; id = dmshook_gaps_next(gaps, id + 1))
			CHECK(id < high && !handed[id], "missing id %lld", (long long) id);

		/* another life, from its low */
		if (round < steps && rnd(150) == 0)
		{
			id = dmshook_gaps_next(gaps, 1);
			high = id ? id - 1 : high;
			dmshook_gaps_free(gaps);
			CHECK(allocated == 0, "memory");
			gaps = dmshook_gaps_create(resize, NULL);
			starting = true;
			for (id = high + 1; id <= last_id; id++)
				handed[id] = false;
		}
		if (round >= steps && !more && !dmshook_gaps_looking(gaps))
			last_pass++;
		CHECK(round < steps + 200000, "no end");
	}
	CHECK(dmshook_gaps_count(gaps) == 0 && dmshook_gaps_epochs(gaps) == 0, "gaps stay open");
	for (int64_t id = 1; id <= last_id; id++)
		CHECK(handed[id] == (committed_at[id] != 0), "id %lld", (long long) id);
	dmshook_gaps_free(gaps);
	CHECK(allocated == 0, "memory");
}

int
main(int argc, char **argv)
{
	int			runs = argc > 1 ? atoi(argv[1]) : 200;
	uint64_t	base = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

	for (int i = 0; i < runs; i++)
	{
		seed = base + i;
		state = seed * 0x9E3779B97F4A7C15ULL;
		if (i % 10 == 0)
			test_set();
		test_reader(100 + rnd(500));
	}
	printf("ok: reader unit, %d runs of the model: 1 done, 0 failures\n", runs);
	return 0;
}
