/*
 * mask.c - what a receiver sends back of our secrets is not logged.
 *
 * Some receivers echo a request, for debugging or in their error page, and the log
 * shows what they answer. So a webhook's credentials, header values and signing secrets
 * are looked for in each response before it is logged. Runs in the dispatcher when a
 * request has ended; pure, no memory. Meant for receivers that are careless,
 * not for those that hide what they send: they know the secret anyway.
 */
#include "mask.h"

#include <string.h>

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n hex digits; -1: they are none. */
static int
hex(const char *text, int n)
{
	int			result = 0;

	for (int i = 0; i < n; i++)
	{
		int			digit = hex_value(text[i]);

		if (digit < 0)
			return -1;
		result = result * 16 + digit;
	}
	return result;
}

/* HTML: "&amp;", "&#43;", "&#x2B;". Its length, or 0. */
static size_t
entity(const char *text, size_t len, unsigned char wanted)
{
	static const struct
	{
		const char *name;
		char		c;
	}			named[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
	size_t		at = 2;
	unsigned	value = 0;
	bool		is_hex;

	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
	{
		size_t		n = strlen(named[i].name);

		if ((unsigned char) named[i].c == wanted && len >= n && memcmp(text, named[i].name, n) == 0)
			return n;
	}
	if (len < 4 || text[1] != '#')
		return 0;
	is_hex = text[2] == 'x' || text[2] == 'X';
	if (is_hex)
		at++;
	for (; at < len && at < 10 && text[at] != ';'; at++)
	{
		int			digit = hex_value(text[at]);

		if (digit < 0 || (!is_hex && digit > 9))
			return 0;
		value = value * (is_hex ? 16 : 10) + digit;
	}
	return at < len && text[at] == ';' && value == wanted ? at + 1 : 0;
}

/* An escape: how many bytes of the text stand for a byte? 0: they do not. */
static size_t
escape(const char *text, size_t len, unsigned char wanted)
{
	switch (text[0])
	{
		case '\\':
			if (len >= 6 && text[1] == 'u')
				return hex(text + 2, 4) == wanted ? 6 : 0;
			return len >= 2 && (unsigned char) text[1] == wanted ? 2 : 0;
		case '%':
			return len >= 3 && hex(text + 1, 2) == wanted ? 3 : 0;
		case '&':
			return entity(text, len, wanted);
		case '+':
			return wanted == ' ' ? 1 : 0;
		default:
			return 0;
	}
}

/* Is all that is left of the text the begin of an escape? */
static bool
cut_in_two(const char *text, size_t len)
{
	switch (text[0])
	{
		case '\\':
			return len == 1 || (text[1] == 'u' && len < 6 && hex(text + 2, (int) len - 2) >= 0);
		case '%':
			return len == 1 || (len == 2 && hex(text + 1, 1) >= 0);
		case '&':
			return len == 1 || (text[1] == '#' && len < 8 && memchr(text, ';', len) == NULL);
		default:
			return false;
	}
}

/*
 * A secret at the begin of the text: how long it is there, or 0. What the end of the
 * text cuts off counts, too. A secret may itself have what escapes begin with: escapes first, or last.
 */
static size_t
match(const char *text, size_t len, const char *secret, size_t secret_len, bool escapes_first)
{
	size_t		at = 0;

	for (size_t i = 0; i < secret_len; i++)
	{
		unsigned char wanted = (unsigned char) secret[i];
		size_t		n = 0;

		if (at == len)
			return i >= DMSHOOK_MASK_LEAST ? at : 0;
		if (escapes_first)
			n = escape(text + at, len - at, wanted);
		if (n == 0 && (unsigned char) text[at] == wanted)
			n = 1;
		if (n == 0)
			n = escape(text + at, len - at, wanted);
		if (n == 0)
			return i >= DMSHOOK_MASK_LEAST && cut_in_two(text + at, len - at) ? len : 0;
		at += n;
	}
	return at;
}

/* May an escape begin so? */
static inline bool
is_escape(char c)
{
	return c == '\\' || c == '%' || c == '&' || c == '+';
}

static size_t
longest_match(const DmshookMask *mask, const char *text, size_t len)
{
	size_t		longest = 0;

	for (int i = 0; i < mask->n; i++)
	{
		size_t		n = match(text, len, mask->secret[i].text, mask->secret[i].len, false);

		if (n < len && mask->secret[i].odd)
		{
			size_t		other = match(text, len, mask->secret[i].text, mask->secret[i].len, true);

			if (other > n)
				n = other;
		}
		if (n > longest)
			longest = n;
	}
	return longest;
}

/* Two bytes that a secret may begin with: nearly all texts are passed over by this alone. Different pairs may share a bit. */
static inline unsigned
pair_of(char first, char second)
{
	return (((unsigned) (unsigned char) first << 4) ^ (unsigned char) second) & (DMSHOOK_MASK_PAIRS - 1);
}

static void
set_pair(DmshookMask *mask, char first, char second)
{
	unsigned	pair = pair_of(first, second);

	mask->pairs[pair / 8] |= 1 << pair % 8;
}

/* The begin of a secret, escaped or not. */
static void
set_pairs(DmshookMask *mask, char first, char second)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	unsigned char high = (unsigned char) first >> 4;

	set_pair(mask, first, second);
	for (const char *e = "\\%&+"; *e; e++)
		set_pair(mask, first, *e);
	set_pair(mask, '\\', first);
	set_pair(mask, '\\', 'u');
	set_pair(mask, '%', digits[high]);
	set_pair(mask, '%', digits[16 + high]);
	for (const char *e = "#algq"; *e; e++)
		set_pair(mask, '&', *e);
	if (first == ' ')
	{
		set_pair(mask, '+', second);
		for (const char *e = "\\%&+"; *e; e++)
			set_pair(mask, '+', *e);
	}
}

bool
dmshook_mask_add(DmshookMask *mask, const char *text, size_t len)
{
	if (len < DMSHOOK_MASK_LEAST || mask->n == DMSHOOK_MASK_MAX)
		return false;
	mask->secret[mask->n].text = text;
	mask->secret[mask->n].len = len;
	mask->secret[mask->n].odd = false;
	for (size_t i = 0; i < len; i++)
		mask->secret[mask->n].odd |= is_escape(text[i]);
	mask->n++;
	set_pairs(mask, text[0], text[1]);
	return true;
}

size_t
dmshook_mask_apply(const DmshookMask *mask, char *text, size_t len)
{
	size_t		from = 0;
	size_t		to = 0;

	if (mask->n == 0)
		return len;
	while (from + DMSHOOK_MASK_LEAST <= len)
	{
		unsigned	pair = pair_of(text[from], text[from + 1]);
		size_t		longest = 0;

		if (mask->pairs[pair / 8] & 1 << pair % 8)
			longest = longest_match(mask, text + from, len - from);
		if (longest == 0)
		{
			/* nothing moves before the first one is found */
			if (to < from)
				text[to] = text[from];
			to++;
			from++;
			continue;
		}
		memcpy(text + to, "***", 3);
		to += 3;
		from += longest;
	}
	memmove(text + to, text + from, len - from);
	to += len - from;
	/* nothing of it stays behind the end */
	memset(text + to, 0, len - to);
	return to;
}
