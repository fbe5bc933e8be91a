/*
 * wipe.c - memory that held secrets is overwritten when it is given back.
 *
 * To parse JSON, print a header line or encode a password leaves copies in places that
 * the code that asks for it does not know: of a growing buffer, of a lexer. So these things are done in a
 * memory context of their own (DMSHOOK_SECRET_SIZES), which is deleted with this turned on: then free() and
 * realloc() overwrite the blocks. Blocks of PostgreSQL's contexts are malloc()'s.
 *
 * libcurl prints each request's head, with the credentials, into buffers of its own: it gets a free() and
 * realloc() that overwrite all but small blocks, as far as a head reaches: it has buffers of 16 and 32 kB
 * for each request, and to overwrite all of these took a twelfth of the dispatcher's time.
 *
 * Runs in the dispatcher, when a webhook is loaded or its configuration dropped, and below curl, there in threads that
 * look names up, too; pure. Only glibc can do it; elsewhere nothing happens here, and explicit_bzero() where we
 * know the place is what there is. OpenSSL wipes its own.
 */
#include "wipe.h"

#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

/* What is smaller holds pieces of a head before any credential: lines of ours come first. */
#define LEAST	128

static int	depth = 0;
static size_t most = 4096;

void
dmshook_wipe_freed(bool on)
{
	depth += on ? 1 : -1;
#ifdef M_PERTURB
	if (depth == (on ? 1 : 0))
		(void) mallopt(M_PERTURB, on ? 0xff : 0);
#endif
}

void
dmshook_wipe_most(size_t size)
{
	if (size > most)
		most = size;
}

#ifdef __GLIBC__
void
dmshook_wipe_free(void *block)
{
	size_t		size = block ? malloc_usable_size(block) : 0;

	if (size >= LEAST)
		explicit_bzero(block, size < most ? size : most);
	free(block);
}

void *
dmshook_wipe_realloc(void *block, size_t size)
{
	size_t		before = block ? malloc_usable_size(block) : 0;
	void	   *result;

	if (before < LEAST)
		return realloc(block, size);
	if (size <= before && size >= before / 2)
		return block;
	result = malloc(size);
	if (result == NULL)
		return NULL;
	memcpy(result, block, before < size ? before : size);
	dmshook_wipe_free(block);
	return result;
}
#else
void
dmshook_wipe_free(void *block)
{
	free(block);
}

void *
dmshook_wipe_realloc(void *block, size_t size)
{
	return realloc(block, size);
}
#endif
