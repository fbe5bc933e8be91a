/*
 * match.c - event types, and the patterns that webhooks subscribe by.
 *
 * Pure logic over bytes, used by every process; no PostgreSQL, no memory of its
 * own, no errors. Names are compared as bytes: types are ASCII by their rule,
 * and a "did you mean" that counts a two-byte letter as two does no harm.
 */
#include "match.h"

#include <limits.h>
#include <string.h>

#define MAX_TYPE_LEN	100

/* Longer names than this are never "near" each other. */
#define MAX_NEAR_LEN	255

#define NO_CANDIDATE		(-1)
#define SEVERAL_CANDIDATES	(-2)

static const char WEBHOOK_PREFIX[] = "webhook.";

static int	valid_parts(const char *s, size_t len);
static unsigned char fold(char c);
static int	distance(const char *a, size_t alen, const char *b, size_t blen, int limit, bool folded);
static int	by_last_part(const char *name, size_t len, const char *const *candidates, int n);

bool
dmshook_type_valid(const char *type, size_t len)
{
	return len <= MAX_TYPE_LEN && valid_parts(type, len) >= 2;
}

bool
dmshook_pattern_valid(const char *pattern, size_t len)
{
	if (len == 1 && pattern[0] == '*')
		return true;
	if (len > MAX_TYPE_LEN)
		return false;
	if (len > 2 && pattern[len - 2] == '.' && pattern[len - 1] == '*')
		return valid_parts(pattern, len - 2) >= 1;
	return valid_parts(pattern, len) >= 2;
}

/*
 * "a.*" has everything below a, however deep. "*" leaves webhook.* out, so that
 * a webhook which wants all events is not told about other webhooks' troubles
 * (and a notice never causes a notice about itself).
 */
bool
dmshook_pattern_matches(const char *pattern, size_t plen, const char *type, size_t tlen)
{
	if (plen == 0 || pattern[plen - 1] != '*')
		return plen > 0 && plen == tlen && memcmp(pattern, type, plen) == 0;

	if (plen == 1)
		return !(tlen >= sizeof(WEBHOOK_PREFIX) - 1 &&
				 memcmp(type, WEBHOOK_PREFIX, sizeof(WEBHOOK_PREFIX) - 1) == 0);

	/* a star stands only behind a dot; the dot must match as well */
	return pattern[plen - 2] == '.' && tlen > plen - 1 && memcmp(pattern, type, plen - 1) == 0;
}

int
dmshook_edit_distance(const char *a, size_t alen, const char *b, size_t blen, int limit)
{
	return distance(a, alen, b, blen, limit, false);
}

int
dmshook_nearest(const char *name, const char *const *candidates, int n)
{
	size_t		len = strlen(name);
	int			best;
	int			limit;

	if (len == 0 || len > MAX_NEAR_LEN)
		return -1;

	best = by_last_part(name, len, candidates, n);
	if (best != NO_CANDIDATE)
		return best >= 0 ? best : -1;

	/* a third of the name may be wrong: more is another name */
	limit = (int) (len / 3) + 1;
	for (int i = 0; i < n; i++)
	{
		size_t		clen = strlen(candidates[i]);
		int			d = distance(name, len, candidates[i], clen, limit, true);

		if (d > limit || (size_t) d >= len)
			continue;
		best = i;
		if (d == 0)
			break;
		limit = d - 1;			/* the first of the nearest */
	}
	return best;
}

/* Number of parts of "a.b_2.c"; 0 when it is not of that form. */
static int
valid_parts(const char *s, size_t len)
{
	int			parts = 0;
	bool		begins = true;

	for (size_t i = 0; i < len; i++)
	{
		char		c = s[i];

		if (c == '.')
		{
			if (begins)
				return 0;
			begins = true;
			continue;
		}
		if (begins)
		{
			if (c < 'a' || c > 'z')
				return 0;
			parts++;
			begins = false;
		}
		else if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
			return 0;
	}
	return begins ? 0 : parts;
}

/* ASCII only: other bytes are not touched, whatever the encoding. */
static unsigned char
fold(char c)
{
	return (unsigned char) (c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/*
 * Three rows of the usual matrix; the row before the last is for
 * transpositions. Ends early when a whole row is beyond the limit.
 */
static int
distance(const char *a, size_t alen, const char *b, size_t blen, int limit, bool folded)
{
	int			rows[3][MAX_NEAR_LEN + 1];
	int		   *before = rows[0];
	int		   *last = rows[1];
	int		   *row = rows[2];
	int			too_far;

	if (limit < 0)
		limit = 0;
	too_far = limit < INT_MAX ? limit + 1 : INT_MAX;
	if (limit > MAX_NEAR_LEN)
		limit = MAX_NEAR_LEN;
	if ((alen > blen ? alen - blen : blen - alen) > (size_t) limit)
		return too_far;
	if (alen > MAX_NEAR_LEN || blen > MAX_NEAR_LEN)
		return alen == blen && memcmp(a, b, alen) == 0 ? 0 : too_far;

	for (size_t j = 0; j <= blen; j++)
		last[j] = (int) j;
	for (size_t i = 1; i <= alen; i++)
	{
		unsigned char ca = folded ? fold(a[i - 1]) : (unsigned char) a[i - 1];
		int			least = (int) i;
		int		   *spare;

		row[0] = (int) i;
		for (size_t j = 1; j <= blen; j++)
		{
			unsigned char cb = folded ? fold(b[j - 1]) : (unsigned char) b[j - 1];
			int			d = last[j - 1] + (ca != cb);

			if (last[j] + 1 < d)
				d = last[j] + 1;
			if (row[j - 1] + 1 < d)
				d = row[j - 1] + 1;
			if (i > 1 && j > 1)
			{
				unsigned char pa = folded ? fold(a[i - 2]) : (unsigned char) a[i - 2];
				unsigned char pb = folded ? fold(b[j - 2]) : (unsigned char) b[j - 2];

				if (ca == pb && pa == cb && before[j - 2] + 1 < d)
					d = before[j - 2] + 1;
			}
			row[j] = d;
			if (d < least)
				least = d;
		}
		/* a transposition reaches back two rows, at a cost of one */
		if (least > limit + 1)
			return too_far;
		spare = before;
		before = last;
		last = row;
		row = spare;
	}
	return last[blen] > limit ? too_far : last[blen];
}

/*
 * "sold" for "vehicle.sold": the only candidate that ends so, NO_CANDIDATE, or
 * SEVERAL_CANDIDATES ("created" may be that of any entity: no guess is better).
 */
static int
by_last_part(const char *name, size_t len, const char *const *candidates, int n)
{
	int			found = NO_CANDIDATE;

	for (int i = 0; i < n; i++)
	{
		const char *dot = strrchr(candidates[i], '.');

		if (dot == NULL || distance(name, len, dot + 1, strlen(dot + 1), 0, true) != 0)
			continue;
		if (found != NO_CANDIDATE)
			return SEVERAL_CANDIDATES;
		found = i;
	}
	return found;
}
