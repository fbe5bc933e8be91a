/*
 * wipe.h - memory that held secrets is zeroed when it is given back. See wipe.c.
 */
#ifndef DMSHOOK_WIPE_H
#define DMSHOOK_WIPE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Sizes of an AllocSet for secrets: no sizes of which PostgreSQL keeps deleted contexts, with what is in
 * them, for the next; and blocks so large that malloc() keeps no lists of its own of them.
 */
#define DMSHOOK_SECRET_SIZES	0, 2 * 1024, 64 * 1024

/*
 * On: whatever this process gives back from now on is overwritten, until as many calls have turned it off. For a while only,
 * for it costs time.
 */
extern void dmshook_wipe_freed(bool on);

/* free() and realloc() for a library that is handed secrets; blocks that are too small for a request's head stay as they are. */
extern void dmshook_wipe_free(void *block);

/* Secrets may stand in the first so many bytes of the blocks that the library gives back. Only ever more: the most of all calls counts. */
extern void dmshook_wipe_most(size_t size);
extern void *dmshook_wipe_realloc(void *block, size_t size);

#endif							/* DMSHOOK_WIPE_H */
