/*
 * cache.c - events in memory: a body is built once and shared by its webhooks.
 *
 * Runs in the dispatcher, while a row is being read, inside its transaction.
 * An event that no webhook wants costs nothing but a look at its type; its body is
 * never built. A body that cannot be built (a character that UTF-8 conversion
 * does not know, more than dmshook.max_body) is kept as the reason why, which becomes a failed
 * attempt: it stops nobody. Nothing here knows a webhook.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "cache.h"
#include "filter.h"
#include "payload.h"
#include "settings.h"

static MemoryContext cache_context = NULL;
static MemoryContext filter_context = NULL; /* of the row that is being read */
static Size cache_bytes = 0;
static DmshookCached *free_headers = NULL;
static bool query_wanted = false;
static Size average = 1024;

void
dmshook_cache_init(MemoryContext parent)
{
	cache_context = AllocSetContextCreate(parent, "dmshook events", ALLOCSET_DEFAULT_SIZES);
	filter_context = AllocSetContextCreate(cache_context, "dmshook payload of filters", ALLOCSET_DEFAULT_SIZES);
	free_headers = NULL;
	cache_bytes = 0;
}

void
dmshook_cache_want_query(void)
{
	query_wanted = true;
}

DmshookCached *
dmshook_cache_begin(const DmshookEvent *row)
{
	DmshookCached *cached = free_headers;

	if (cached)
		free_headers = cached->next_free;
	else
		cached = MemoryContextAlloc(cache_context, sizeof(DmshookCached));
	cached->refs = 1;
	cached->id = row->id;
	cached->nonce = row->nonce;
	cached->at = row->at;
	cached->entity = dmshook_entity_hash(row);
	cached->type = row->type;
	cached->tenant = row->tenant;
	cached->old_tenant = row->old_tenant;
	cached->row = row;
	cached->body = NULL;
	cached->body_len = 0;
	cached->query = NULL;
	cached->problem = NULL;
	cached->too_large = false;
	cached->erased = row->erased;
	cached->chunk = NULL;
	cached->size = 0;
	memset(cached->shaped, 0, sizeof(cached->shaped));
	cached->jsonb = NULL;
	cached->jsonb_problem = NULL;
	cached->faults = NULL;
	cached->next_free = NULL;
	return cached;
}

void
dmshook_cache_end(DmshookCached *cached)
{
	cached->row = NULL;
	if (cached->jsonb || cached->jsonb_problem)
	{
		cached->jsonb = NULL;
		cached->jsonb_problem = NULL;
		MemoryContextReset(filter_context);
	}
	dmshook_cache_drop(cached);
}

Jsonb *
dmshook_cache_jsonb(DmshookCached *cached, char **problem)
{
	Assert(cached->row != NULL);
	if (cached->jsonb == NULL && cached->jsonb_problem == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(filter_context);

		cached->jsonb = dmshook_filter_payload(cached->row, &cached->jsonb_problem);
		MemoryContextSwitchTo(old);
	}
	*problem = cached->jsonb_problem;
	return cached->jsonb;
}

static void
remove_fault(DmshookCached *cached, int webhook)
{
	for (DmshookFault **link = &cached->faults; *link; link = &(*link)->next)
	{
		DmshookFault *fault = *link;

		if (fault->webhook == webhook)
		{
			*link = fault->next;
			pfree(fault->message);
			pfree(fault);
			return;
		}
	}
}

void
dmshook_cache_set_fault(DmshookCached *cached, int webhook, const char *message, bool rejected)
{
	DmshookFault *fault;

	remove_fault(cached, webhook);
	if (message == NULL)
		return;
	fault = MemoryContextAlloc(cache_context, sizeof(DmshookFault));
	fault->webhook = webhook;
	fault->rejected = rejected;
	fault->unjudged = false;
	fault->message = MemoryContextStrdup(cache_context, message);
	fault->next = cached->faults;
	cached->faults = fault;
}

void
dmshook_cache_set_unjudged(DmshookCached *cached, int webhook)
{
	dmshook_cache_set_fault(cached, webhook, "", false);
	cached->faults->unjudged = true;
}

const DmshookFault *
dmshook_cache_fault(const DmshookCached *cached, int webhook)
{
	for (const DmshookFault *fault = cached->faults; fault; fault = fault->next)
	{
		if (fault->webhook == webhook)
			return fault;
	}
	return NULL;
}

/* Build body (NULL: not wanted) and query; an error is kept as a sentence. */
static void
build(const DmshookEvent *row, bool test, StringInfo body, StringInfo query, char **problem)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	if (GetDatabaseEncoding() == PG_UTF8)
	{
		/* nothing is converted, so nothing can fail */
		if (body)
			dmshook_payload_append(body, row, test);
		if (query_wanted || test)
			dmshook_payload_query(query, row, test, false);
		return;
	}

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (body)
			dmshook_payload_append(body, row, test);
		if (query_wanted || test)
			dmshook_payload_query(query, row, test, false);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		*problem = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

/* Append bytes and a zero to the chunk. */
static char *
put_bytes(char **at, const char *bytes, int len)
{
	char	   *copy = *at;

	memcpy(copy, bytes, len);
	copy[len] = '\0';
	*at += len + 1;
	return copy;
}

static void
put_span(char **at, DmshookSpan *span)
{
	if (span->data)
		span->data = put_bytes(at, span->data, span->len);
}

/* The buffers that bodies are built in, made again when one event was huge. */
static void
reset_buffer(StringInfo buf)
{
	if (buf->data != NULL && buf->maxlen > 1024 * 1024)
	{
		pfree(buf->data);
		buf->data = NULL;
	}
	if (buf->data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(cache_context);

		initStringInfo(buf);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(buf);
}

void
dmshook_cache_copy(DmshookCached *cached, bool test)
{
	static StringInfoData body;
	static StringInfoData query;
	char		too_large[128];
	char	   *problem = NULL;
	char	   *at;
	bool		fits = cached->row->data.len <= dmshook_max_body;
	int			size;

	Assert(cached->row != NULL && cached->chunk == NULL);
	reset_buffer(&body);
	reset_buffer(&query);
	/* the body is not even built when the row alone is too large; a query string has the key only */
	build(cached->row, test, fits ? &body : NULL, &query, &problem);
	size = fits ? body.len : cached->row->data.len;
	if (problem == NULL && size > dmshook_max_body)
	{
		snprintf(too_large, sizeof(too_large),
				 "the body has %d bytes, more than dmshook.max_body allows", size);
		problem = too_large;
		cached->too_large = true;
	}
	if (problem)
		resetStringInfo(&body);

	cached->size = body.len + query.len + (problem ? strlen(problem) : 0) +
		cached->type.len + cached->tenant.len + cached->old_tenant.len + 6;
	at = cached->chunk = MemoryContextAllocHuge(cache_context, cached->size);
	if (problem)
		cached->problem = put_bytes(&at, problem, strlen(problem));
	else
	{
		cached->body_len = body.len;
		cached->body = put_bytes(&at, body.data, body.len);
	}
	if (query.len > 0)
		cached->query = put_bytes(&at, query.data, query.len);
	put_span(&at, &cached->type);
	put_span(&at, &cached->tenant);
	put_span(&at, &cached->old_tenant);
	cache_bytes += cached->size;
	average += ((int64) cached->size - (int64) average) / 8;
}

const char *
dmshook_cache_body(DmshookCached *cached, int shape, int *len)
{
	static StringInfoData buf;

	if (shape == 0 || cached->body == NULL)
	{
		*len = cached->body_len;
		return cached->body;
	}
	if (cached->shaped[shape] == NULL)
	{
		char	   *at;

		reset_buffer(&buf);
		dmshook_shape_append(&buf, cached->body, cached->body_len, shape);
		at = cached->shaped[shape] = MemoryContextAllocHuge(cache_context, buf.len + 1);
		put_bytes(&at, buf.data, buf.len);
		cached->shaped_len[shape] = buf.len;
		cache_bytes += buf.len + 1;
	}
	*len = cached->shaped_len[shape];
	return cached->shaped[shape];
}

void
dmshook_cache_keep(DmshookCached *cached)
{
	cached->refs++;
	if (cached->chunk == NULL)
		dmshook_cache_copy(cached, false);
}

void
dmshook_cache_drop(DmshookCached *cached)
{
	Assert(cached->refs > 0);
	if (--cached->refs > 0)
		return;
	if (cached->chunk)
	{
		pfree(cached->chunk);
		cache_bytes -= cached->size;
	}
	for (int i = 0; i < DMSHOOK_SHAPES; i++)
	{
		if (cached->shaped[i])
		{
			pfree(cached->shaped[i]);
			cache_bytes -= cached->shaped_len[i] + 1;
		}
	}
	while (cached->faults)
		remove_fault(cached, cached->faults->webhook);
	cached->next_free = free_headers;
	free_headers = cached;
}

Size
dmshook_cache_average(void)
{
	return average;
}

Size
dmshook_cache_size(void)
{
	return cache_bytes;
}
