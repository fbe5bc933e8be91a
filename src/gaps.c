/*
 * gaps.c - ids that are missing from the log, and when to look for them.
 *
 * Ids come from a sequence, so a lower id may become visible after a higher
 * one; or never, when its transaction rolled back. Which of the two it is, the
 * fence tells: the next xid, read after the snapshot under which the gap was
 * found. The writer of the gap's id has an xid below it (it gets its xid
 * before its id, and its id before the visible higher one was taken). So once
 * a snapshot, in which everything below the fence has ended, was used for a
 * look at the gap that found nothing, nothing will ever come: it is closed.
 *
 * Only a transaction that ends can fill a gap, and only one below its fence.
 * So gaps are kept in a few epochs, each with its fence and with the number of
 * transactions below it that may run, and are looked at only when that number
 * falls. It never rises: an xid is first at or above a snapshot's xmax, then
 * listed as running, then gone.
 *
 * Missing ids are a sparse bitmap, in chunks of 8192; a run of chunks in which
 * every id is missing (a rolled-back import of a million rows) is one entry.
 *
 * Pure: any process, no transaction, no server, no clock; memory from the
 * caller's function. Nothing here reads the log.
 */
#include "gaps.h"

#include <string.h>

#define CHUNK_IDS	8192
#define CHUNK_WORDS	(CHUNK_IDS / 64)
#define MAX_EPOCHS	24

/*
 * In a stretch where more than one id in this many is missing, one scan of the
 * index over all of it is cheaper than a probe for each.
 */
#define DENSE		15

/* Chunks [first, first + n); n > 1 or no bits: every id in them is missing. */
typedef struct Part
{
	int64_t		first;
	int64_t		n;
	uint64_t   *bits;
	int			count;			/* bits set */
} Part;

/* The missing ids above the previous epoch's high, up to this one's. */
typedef struct Epoch
{
	int64_t		high;
	uint64_t	fence;
	uint64_t	live;			/* as of the last snapshot */
	int64_t		cursor;			/* the next id to look at; 0: no look is open */
	int64_t		since;
} Epoch;

struct DmshookGaps
{
	DmshookResize resize;
	void	   *arg;
	Part	   *parts;			/* ascending, not overlapping */
	int			nparts;
	int			room;
	uint64_t	count;
	bool		unfenced;		/* ids were added after the youngest epoch */
	Epoch		epoch[MAX_EPOCHS + 1];	/* fences ascending, highs too */
	int			nepochs;
	int			looked;			/* the epoch of the last look */
};

static int	find_part(const DmshookGaps *gaps, int64_t chunk);
static Part *insert_part(DmshookGaps *gaps, int at);
static void delete_parts(DmshookGaps *gaps, int at, int n);
static uint64_t *new_bits(DmshookGaps *gaps, int fill);
static void split_run(DmshookGaps *gaps, int at, int64_t chunk);
static int	set_bits(uint64_t *bits, int first, int last, bool value);
static int	next_bit(const uint64_t *bits, int from);
static int	last_bit(const uint64_t *bits, int upto);
static int	count_bits(const uint64_t *bits, int first, int last);
static void add_in_chunk(DmshookGaps *gaps, int64_t chunk, int first, int last);
static void remove_upto(DmshookGaps *gaps, int64_t last);
static void remove_range(DmshookGaps *gaps, int64_t first, int64_t last);
static void drop_epoch(DmshookGaps *gaps, int at);
static void join_epochs(DmshookGaps *gaps, uint64_t next);
static void describe(const DmshookGaps *gaps, int64_t first, int64_t high, DmshookLook *look);

DmshookGaps *
dmshook_gaps_create(DmshookResize resize, void *arg)
{
	DmshookGaps *gaps = resize(arg, NULL, sizeof(DmshookGaps));

	memset(gaps, 0, sizeof(*gaps));
	gaps->resize = resize;
	gaps->arg = arg;
	return gaps;
}

void
dmshook_gaps_free(DmshookGaps *gaps)
{
	delete_parts(gaps, 0, gaps->nparts);
	if (gaps->parts)
		gaps->resize(gaps->arg, gaps->parts, 0);
	gaps->resize(gaps->arg, gaps, 0);
}

/* ------------------------------------------------------------ missing ids */

/* Index of the first part that ends after the chunk begins. */
static int
find_part(const DmshookGaps *gaps, int64_t chunk)
{
	int			low = 0;
	int			high = gaps->nparts;

	/* what is looked for is nearly always the first or the last one */
	if (high > 0 && gaps->parts[high - 1].first <= chunk)
		return chunk < gaps->parts[high - 1].first + gaps->parts[high - 1].n ? high - 1 : high;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (gaps->parts[middle].first + gaps->parts[middle].n <= chunk)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static Part *
insert_part(DmshookGaps *gaps, int at)
{
	if (gaps->nparts == gaps->room)
	{
		int			room = gaps->room ? gaps->room * 2 : 16;

		gaps->parts = gaps->resize(gaps->arg, gaps->parts, room * sizeof(Part));
		gaps->room = room;
	}
	memmove(&gaps->parts[at + 1], &gaps->parts[at], (gaps->nparts - at) * sizeof(Part));
	gaps->nparts++;
	memset(&gaps->parts[at], 0, sizeof(Part));
	return &gaps->parts[at];
}

static void
delete_parts(DmshookGaps *gaps, int at, int n)
{
	for (int i = at; i < at + n; i++)
		if (gaps->parts[i].bits)
			gaps->resize(gaps->arg, gaps->parts[i].bits, 0);
	if (n > 0)
		memmove(&gaps->parts[at], &gaps->parts[at + n], (gaps->nparts - at - n) * sizeof(Part));
	gaps->nparts -= n;
}

static uint64_t *
new_bits(DmshookGaps *gaps, int fill)
{
	uint64_t   *bits = gaps->resize(gaps->arg, NULL, CHUNK_WORDS * sizeof(uint64_t));

	memset(bits, fill, CHUNK_WORDS * sizeof(uint64_t));
	return bits;
}

/* Make this chunk of a run a part of its own, with bits; what it becomes is at `at` or after it. */
static void
split_run(DmshookGaps *gaps, int at, int64_t chunk)
{
	int64_t		before = chunk - gaps->parts[at].first;
	int64_t		after = gaps->parts[at].first + gaps->parts[at].n - chunk - 1;
	Part	   *part;

	if (after > 0)
	{
		part = insert_part(gaps, at + 1);
		part->first = chunk + 1;
		part->n = after;
	}
	if (before > 0)
	{
		part = insert_part(gaps, at);
		part->first = chunk - before;
		part->n = before;
		at++;
	}
	part = &gaps->parts[at];
	part->first = chunk;
	part->n = 1;
	part->bits = new_bits(gaps, 0xff);
	part->count = CHUNK_IDS;
}

/* Set bits first..last to value; how many changed. */
static int
set_bits(uint64_t *bits, int first, int last, bool value)
{
	int			changed = 0;

	for (int word = first / 64; word <= last / 64; word++)
	{
		int			from = word == first / 64 ? first % 64 : 0;
		int			to = word == last / 64 ? last % 64 : 63;
		uint64_t	mask = (UINT64_MAX >> (63 - (to - from))) << from;
		uint64_t	old = bits[word];

		bits[word] = value ? old | mask : old & ~mask;
		changed += __builtin_popcountll(bits[word] ^ old);
	}
	return changed;
}

/* The first bit set at or after from; -1: none. */
static int
next_bit(const uint64_t *bits, int from)
{
	for (int word = from / 64; word < CHUNK_WORDS; word++)
	{
		uint64_t	b = bits[word];

		if (word == from / 64)
			b &= UINT64_MAX << (from % 64);
		if (b)
			return word * 64 + __builtin_ctzll(b);
	}
	return -1;
}

/* The last bit set at or before upto; -1: none. */
static int
last_bit(const uint64_t *bits, int upto)
{
	for (int word = upto / 64; word >= 0; word--)
	{
		uint64_t	b = bits[word];

		if (word == upto / 64)
			b &= UINT64_MAX >> (63 - upto % 64);
		if (b)
			return word * 64 + 63 - __builtin_clzll(b);
	}
	return -1;
}

static int
count_bits(const uint64_t *bits, int first, int last)
{
	int			n = 0;

	for (int word = first / 64; word <= last / 64; word++)
	{
		uint64_t	b = bits[word];

		if (word == first / 64)
			b &= UINT64_MAX << (first % 64);
		if (word == last / 64)
			b &= UINT64_MAX >> (63 - last % 64);
		n += __builtin_popcountll(b);
	}
	return n;
}

/* Bits first..last of the chunk, which is the last part's or a later one. */
static void
add_in_chunk(DmshookGaps *gaps, int64_t chunk, int first, int last)
{
	Part	   *part = gaps->nparts ? &gaps->parts[gaps->nparts - 1] : NULL;
	int			n;

	if (!part || part->first + part->n <= chunk)
	{
		part = insert_part(gaps, gaps->nparts);
		part->first = chunk;
		part->n = 1;
		part->bits = new_bits(gaps, 0);
	}
	n = set_bits(part->bits, first, last, true);
	part->count += n;
	gaps->count += n;
}

void
dmshook_gaps_add(DmshookGaps *gaps, int64_t first, int64_t last)
{
	int64_t		a = first / CHUNK_IDS;
	int64_t		b = last / CHUNK_IDS;
	int64_t		run = first % CHUNK_IDS == 0 ? a : a + 1;	/* whole chunks run.. */
	int64_t		end = last % CHUNK_IDS == CHUNK_IDS - 1 ? b + 1 : b;	/* ..end - 1 */

	gaps->unfenced = true;
	if (a == b && run >= end)
	{
		add_in_chunk(gaps, a, first % CHUNK_IDS, last % CHUNK_IDS);
		return;
	}
	if (a < run)
		add_in_chunk(gaps, a, first % CHUNK_IDS, CHUNK_IDS - 1);
	if (run < end)
	{
		Part	   *part = gaps->nparts ? &gaps->parts[gaps->nparts - 1] : NULL;

		if (part && !part->bits && part->first + part->n == run)
			part->n += end - run;
		else
		{
			part = insert_part(gaps, gaps->nparts);
			part->first = run;
			part->n = end - run;
		}
		gaps->count += (uint64_t) (end - run) * CHUNK_IDS;
	}
	if (end <= b)
		add_in_chunk(gaps, b, 0, last % CHUNK_IDS);
}

void
dmshook_gaps_take(DmshookGaps *gaps, int64_t id)
{
	remove_range(gaps, id, id);
}

bool
dmshook_gaps_has(const DmshookGaps *gaps, int64_t id)
{
	int64_t		chunk = id / CHUNK_IDS;
	int			at = find_part(gaps, chunk);
	int			bit = id % CHUNK_IDS;

	if (at == gaps->nparts || gaps->parts[at].first > chunk)
		return false;
	return !gaps->parts[at].bits || (gaps->parts[at].bits[bit / 64] >> (bit % 64) & 1);
}

int64_t
dmshook_gaps_next(const DmshookGaps *gaps, int64_t id)
{
	int64_t		chunk = id / CHUNK_IDS;

	for (int at = find_part(gaps, chunk); at < gaps->nparts; at++)
	{
		const Part *part = &gaps->parts[at];
		int64_t		start = part->first * CHUNK_IDS;
		int			bit;

		if (!part->bits)
			return id > start ? id : start;
		bit = next_bit(part->bits, id > start ? id - start : 0);
		if (bit >= 0)
			return start + bit;
	}
	return 0;
}

uint64_t
dmshook_gaps_count(const DmshookGaps *gaps)
{
	return gaps->count;
}

/* first..last are no longer missing, whether they were or not. */
static void
remove_range(DmshookGaps *gaps, int64_t first, int64_t last)
{
	int			at = find_part(gaps, first / CHUNK_IDS);

	while (at < gaps->nparts && gaps->parts[at].first <= last / CHUNK_IDS)
	{
		Part	   *part = &gaps->parts[at];
		int64_t		start = part->first * CHUNK_IDS;
		int			n;

		if (!part->bits)
		{
			int64_t		from = first <= start ? part->first : first / CHUNK_IDS;

			/* whole chunks from the front, or else a chunk that is touched in part */
			if (first <= start && last / CHUNK_IDS > part->first)
			{
				int64_t		whole = last / CHUNK_IDS - part->first;

				if (whole > part->n)
					whole = part->n;
				part->first += whole;
				part->n -= whole;
				gaps->count -= (uint64_t) whole * CHUNK_IDS;
				if (part->n == 0)
					delete_parts(gaps, at, 1);
			}
			else
			{
				split_run(gaps, at, from);
				if (from > start / CHUNK_IDS)
					at++;
			}
			continue;
		}
		n = set_bits(part->bits, first > start ? first - start : 0,
					 last < start + CHUNK_IDS - 1 ? last - start : CHUNK_IDS - 1, false);
		part->count -= n;
		gaps->count -= n;
		if (part->count == 0)
			delete_parts(gaps, at, 1);
		else
			at++;
	}
}

/* Nothing up to last is missing any more: whole parts go at once. */
static void
remove_upto(DmshookGaps *gaps, int64_t last)
{
	int			n = 0;

	while (n < gaps->nparts && (gaps->parts[n].first + gaps->parts[n].n) <= last / CHUNK_IDS)
	{
		gaps->count -= gaps->parts[n].bits ? (uint64_t) gaps->parts[n].count
			: (uint64_t) gaps->parts[n].n * CHUNK_IDS;
		n++;
	}
	delete_parts(gaps, 0, n);
	if (gaps->nparts > 0)
		remove_range(gaps, gaps->parts[0].first * CHUNK_IDS, last);
}

/* ----------------------------------------------------------------- epochs */

uint64_t
dmshook_gaps_live(const DmshookXids *xids, uint64_t fence)
{
	/*
	 * At or above xmax any xid may be running: the snapshot's xmax is one more
	 * than the last that ended, and whatever got its xid after that is in no
	 * list. To leave these out is the classic mistake.
	 */
	uint64_t	live = fence > xids->xmax ? fence - xids->xmax : 0;
	uint64_t	back = xids->next - fence;

	/* all xids are within 2^31 of next: count their distance back from it */
	for (int i = 0; i < xids->nrunning; i++)
		if ((uint32_t) ((uint32_t) xids->next - xids->running[i]) > back)
			live++;
	return live;
}

static void
drop_epoch(DmshookGaps *gaps, int at)
{
	memmove(&gaps->epoch[at], &gaps->epoch[at + 1], (gaps->nepochs - at - 1) * sizeof(Epoch));
	gaps->nepochs--;
}

/*
 * Too many: the one that is closest to its younger neighbour, for its age,
 * joins that one. A later fence only closes later. Both live counts are of the same
 * snapshot, so the younger one's goes on to tell when to look; a look
 * that is open in either is open in what they become, from where the older stands.
 */
static void
join_epochs(DmshookGaps *gaps, uint64_t next)
{
	int			best = 0;
	double		least = 0;
	Epoch	   *older;
	Epoch	   *younger;

	for (int i = 0; i + 1 < gaps->nepochs; i++)
	{
		double		distance = (double) (gaps->epoch[i + 1].fence - gaps->epoch[i].fence);
		double		ratio = distance / (double) (next - gaps->epoch[i].fence + 1);

		if (i == 0 || ratio < least)
		{
			best = i;
			least = ratio;
		}
	}
	older = &gaps->epoch[best];
	younger = &gaps->epoch[best + 1];
	if (older->cursor)
		younger->cursor = older->cursor;
	younger->since = older->since;
	drop_epoch(gaps, best);
}

bool
dmshook_gaps_unfenced(const DmshookGaps *gaps)
{
	return gaps->unfenced;
}

void
dmshook_gaps_fence(DmshookGaps *gaps, int64_t high, const DmshookXids *xids, bool again, int64_t since)
{
	Epoch	   *epoch;
	uint64_t	live;

	if (!gaps->unfenced)
		return;
	gaps->unfenced = false;
	live = dmshook_gaps_live(xids, xids->next);
	if (live == 0 && !again)
	{
		/* the very snapshot that found them missing says that nobody can fill them */
		if (gaps->nepochs == 0)
			remove_upto(gaps, high);
		else
			remove_range(gaps, gaps->epoch[gaps->nepochs - 1].high + 1, high);
		return;
	}
	epoch = &gaps->epoch[gaps->nepochs++];
	epoch->high = high;
	epoch->fence = xids->next;
	epoch->live = live;
	epoch->cursor = 0;
	if (again)
		epoch->cursor = gaps->nepochs == 1 ? 1 : gaps->epoch[gaps->nepochs - 2].high + 1;
	epoch->since = since;
	if (gaps->nepochs > MAX_EPOCHS)
		join_epochs(gaps, xids->next);
}

void
dmshook_gaps_begin(DmshookGaps *gaps, const DmshookXids *xids)
{
	for (int i = 0; i < gaps->nepochs; i++)
	{
		Epoch	   *epoch = &gaps->epoch[i];
		uint64_t	live = dmshook_gaps_live(xids, epoch->fence);

		if (live < epoch->live)
		{
			epoch->live = live;
			epoch->cursor = i == 0 ? 1 : gaps->epoch[i - 1].high + 1;
		}
	}
}

/* The stretch to read that begins at the missing id first, in an epoch up to high. */
static void
describe(const DmshookGaps *gaps, int64_t first, int64_t high, DmshookLook *look)
{
	const Part *part = &gaps->parts[find_part(gaps, first / CHUNK_IDS)];
	int64_t		start = part->first * CHUNK_IDS;
	int			from = first - start;
	int			to;
	int			upto;

	look->first = first;
	look->solid = true;
	if (!part->bits)
	{
		int64_t		end = (part->first + part->n - 1) * CHUNK_IDS + (CHUNK_IDS - 1);

		look->last = end < high ? end : high;
		return;
	}
	upto = high - start < CHUNK_IDS - 1 ? high - start : CHUNK_IDS - 1;
	to = last_bit(part->bits, upto);
	if (count_bits(part->bits, from, to) * DENSE > to - from + 1)
	{
		look->last = start + to;
		look->solid = count_bits(part->bits, from, to) == to - from + 1;
		return;
	}
	/* few: this one and those that follow it without a break */
	for (to = from; to < upto && (part->bits[(to + 1) / 64] >> ((to + 1) % 64) & 1);)
		to++;
	look->last = start + to;
}

bool
dmshook_gaps_look(DmshookGaps *gaps, DmshookLook *look)
{
	int			i = 0;

	while (i < gaps->nepochs)
	{
		Epoch	   *epoch = &gaps->epoch[i];
		int64_t		first;

		if (epoch->cursor == 0)
		{
			i++;
			continue;
		}
		first = dmshook_gaps_next(gaps, epoch->cursor);
		if (first != 0 && first <= epoch->high)
		{
			describe(gaps, first, epoch->high, look);
			gaps->looked = i;
			return true;
		}
		/* the look came to its end */
		epoch->cursor = 0;
		if (epoch->live == 0)
		{
			if (i == 0)
				remove_upto(gaps, epoch->high);
			else
				remove_range(gaps, gaps->epoch[i - 1].high + 1, epoch->high);
			drop_epoch(gaps, i);
		}
		else
			i++;
	}
	return false;
}

void
dmshook_gaps_looked(DmshookGaps *gaps, int64_t upto)
{
	gaps->epoch[gaps->looked].cursor = upto + 1;
}

bool
dmshook_gaps_looking(const DmshookGaps *gaps)
{
	for (int i = 0; i < gaps->nepochs; i++)
		if (gaps->epoch[i].cursor != 0)
			return true;
	return false;
}

bool
dmshook_gaps_oldest(const DmshookGaps *gaps, uint64_t *fence, int64_t *since)
{
	if (gaps->nepochs == 0)
		return false;
	*fence = gaps->epoch[0].fence;
	*since = gaps->epoch[0].since;
	return true;
}

int
dmshook_gaps_epochs(const DmshookGaps *gaps)
{
	return gaps->nepochs;
}
