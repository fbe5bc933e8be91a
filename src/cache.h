/*
 * cache.h - events in memory: the bytes to send, shared by all webhooks that
 * get them. See cache.c.
 */
#ifndef DMSHOOK_CACHE_H
#define DMSHOOK_CACHE_H

#include "postgres.h"

#include "event.h"
#include "shape.h"

/* Why a webhook's filter could not say whether the event is for it. */
typedef struct DmshookFault
{
	int			webhook;
	bool		rejected;		/* it said so in the end: not to be sent */
	bool		unjudged;		/* none yet: a helper is to be asked */
	char	   *message;
	struct DmshookFault *next;
} DmshookFault;

/*
 * An event as the dispatcher keeps it. Between dmshook_cache_begin() and
 * dmshook_cache_end() the spans point into the row that is being read; when
 * somebody keeps it, they and the body are copied.
 */
typedef struct DmshookCached
{
	int			refs;
	int64		id;
	int64		nonce;
	TimestampTz at;
	uint64		entity;			/* dmshook_entity_hash() */
	DmshookSpan type;
	DmshookSpan tenant;
	DmshookSpan old_tenant;
	const DmshookEvent *row;	/* while it is being read, else NULL */
	char	   *body;			/* UTF-8, zero-terminated; NULL: it could not be built */
	int			body_len;
	char	   *query;			/* "?id=...", for methods without a body */
	char	   *problem;		/* why there is no body */
	bool		too_large;		/* for it would be too large */
	bool		erased;			/* its data are not to be sent or logged any more (erase.c) */
	char	   *chunk;			/* the copy: all of the above is in it; NULL: not copied */
	Size		size;
	char	   *shaped[DMSHOOK_SHAPES]; /* the body in other shapes, each made when first asked for */
	int			shaped_len[DMSHOOK_SHAPES];
	Jsonb	   *jsonb;			/* what filters see; while it is being read, once one was asked */
	char	   *jsonb_problem;
	DmshookFault *faults;
	struct DmshookCached *next_free;
} DmshookCached;

/* Dispatcher, once. */
extern void dmshook_cache_init(MemoryContext parent);

/*
 * A row is being read: its event, not yet copied, with one reference, which
 * dmshook_cache_end() gives back. Not nested.
 */
extern DmshookCached *dmshook_cache_begin(const DmshookEvent *row);
extern void dmshook_cache_end(DmshookCached *cached);

/*
 * Copy it now (with "test": true where asked). Called by keep; for requests
 * that no webhook's window holds, by hand.
 */
extern void dmshook_cache_copy(DmshookCached *cached, bool test);

/*
 * The body in a shape (shape.h), in UTF-8, zero-terminated; NULL: it could not be built. Needs no
 * transaction; lives as long as the event.
 */
extern const char *dmshook_cache_body(DmshookCached *cached, int shape, int *len);

/*
 * While it is being read, inside its transaction: the payload as jsonb, made when first asked for; NULL: the
 * reason why there is none. Raises no error.
 */
extern Jsonb *dmshook_cache_jsonb(DmshookCached *cached, char **problem);

/* Note a webhook's fault, in place of an earlier one (message NULL: none), or that its filter was not asked; and look for it. */
extern void dmshook_cache_set_fault(DmshookCached *cached, int webhook, const char *message, bool rejected);
extern void dmshook_cache_set_unjudged(DmshookCached *cached, int webhook);
extern const DmshookFault *dmshook_cache_fault(const DmshookCached *cached, int webhook);

extern void dmshook_cache_keep(DmshookCached *cached);
extern void dmshook_cache_drop(DmshookCached *cached);

/* From now on queries are built too: there is a webhook whose method has no body. */
extern void dmshook_cache_want_query(void);

/* Size of what was lately copied, a moving average. */
extern Size dmshook_cache_average(void);

/* Bytes that all of them take. */
extern Size dmshook_cache_size(void);

#endif							/* DMSHOOK_CACHE_H */
