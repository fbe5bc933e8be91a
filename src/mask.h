/*
 * mask.h - secrets that a receiver sends back to us. See mask.c. Builds without a
 * server.
 */
#ifndef DMSHOOK_MASK_H
#define DMSHOOK_MASK_H

#include <stdbool.h>
#include <stddef.h>

#define DMSHOOK_MASK_MAX	80
#define DMSHOOK_MASK_PAIRS	4096
#define DMSHOOK_MASK_LEAST	4	/* bytes: a shorter secret is none, and would be found everywhere */

typedef struct DmshookMask
{
	int			n;
	struct
	{
		const char *text;		/* the caller's, as long as the mask */
		size_t		len;
		bool		odd;		/* has what escapes begin with */
	}			secret[DMSHOOK_MASK_MAX];
	unsigned char pairs[DMSHOOK_MASK_PAIRS / 8];	/* bits: two bytes that one, or its escape, may begin with */
} DmshookMask;

/* Add one; too short ones and those beyond DMSHOOK_MASK_MAX are left out (false). */
extern bool dmshook_mask_add(DmshookMask *mask, const char *text, size_t len);

/*
 * Put "***" for each secret in a text of len bytes, in place: also where it is escaped as in JSON, a URL or
 * HTML, and where the text ends in the middle of one. Returns the new length, which is
 * never above len; where it is below, a zero byte is put behind.
 */
extern size_t dmshook_mask_apply(const DmshookMask *mask, char *text, size_t len);

#endif							/* DMSHOOK_MASK_H */
