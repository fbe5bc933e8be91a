/*
 * roster_types.c - which webhooks may want an event: by its type and tenant.
 *
 * Runs in the dispatcher. With ten thousand webhooks an event must not cost ten thousand
 * comparisons of patterns, nor, where each is a tenant's, of tenants. For each type that is met
 * there is a list of the webhooks that want it whatever the tenant, and one for each tenant; made anew at the
 * first event after any webhook has changed. They hold a webhook for any of its versions, for events of
 * the past are judged by that of then: a superset, of which dmshook_roster_matches() asks each.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "match.h"
#include "roster.h"

typedef struct ConsumerList
{
	int			n;
	int			size;
	DmshookConsumer **consumer;
} ConsumerList;

typedef struct TenantEntry
{
	uint64		hash;			/* hash key: of the tenant; two that share it share a list */
	ConsumerList list;
} TenantEntry;

typedef struct TypeEntry
{
	char		name[128];		/* hash key, zero-padded */
	uint64		generation;		/* of the roster, when the lists were made */
	MemoryContext context;		/* of the lists */
	ConsumerList any;			/* whatever the tenant */
	HTAB	   *tenants;		/* NULL: none */
} TypeEntry;

static MemoryContext types_context = NULL;
static HTAB *types = NULL;
static uint64 generation = 1;
static ConsumerList found;		/* the answer, where it comes out of several lists */
static uint64 asked = 0;

void
dmshook_roster_types_init(MemoryContext parent)
{
	HASHCTL		ctl = {0};

	types_context = AllocSetContextCreate(parent, "dmshook event types", ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(((TypeEntry *) 0)->name);
	ctl.entrysize = sizeof(TypeEntry);
	ctl.hcxt = types_context;
	types = hash_create("dmshook event types", 64, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	memset(&found, 0, sizeof(found));
}

void
dmshook_roster_types_changed(void)
{
	generation++;
}

bool
dmshook_roster_version_wants_type(const DmshookSubscription *version, DmshookSpan type)
{
	for (int i = 0; i < version->nevents; i++)
	{
		if (dmshook_pattern_matches(version->events[i], strlen(version->events[i]), type.data, type.len))
			return true;
	}
	return false;
}

static void
append(ConsumerList *list, MemoryContext context, DmshookConsumer *consumer)
{
	if (list->n == list->size)
	{
		list->size = Max(8, list->size * 2);
		if (list->consumer == NULL)
			list->consumer = MemoryContextAlloc(context, sizeof(DmshookConsumer *) * list->size);
		else
			list->consumer = repalloc(list->consumer, sizeof(DmshookConsumer *) * list->size);
	}
	list->consumer[list->n++] = consumer;
}

static ConsumerList *
list_of(TypeEntry *type, const char *tenant, size_t len, bool make)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) tenant, len, 0);
	TenantEntry *entry;
	bool		there;

	if (type->tenants == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(TenantEntry), .hcxt = type->context};

		if (!make)
			return NULL;
		type->tenants = hash_create("dmshook tenants", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(type->tenants, &hash, make ? HASH_ENTER : HASH_FIND, &there);
	if (entry && !there)
		memset(&entry->list, 0, sizeof(entry->list));
	return entry ? &entry->list : NULL;
}

/* Where does a webhook belong? */
static void
add_webhook(TypeEntry *entry, DmshookSpan type, const DmshookWebhook *webhook)
{
	const DmshookWebhookRow *row = webhook->row;

	for (int i = 0; i < row->nsubscriptions; i++)
	{
		const DmshookSubscription *version = &row->subscriptions[i];

		if (version->enabled && version->tenant == NULL && dmshook_roster_version_wants_type(version, type))
		{
			append(&entry->any, entry->context, webhook->consumer);
			return;
		}
	}
	for (int i = 0; i < row->nsubscriptions; i++)
	{
		const DmshookSubscription *version = &row->subscriptions[i];
		ConsumerList *list;

		if (!version->enabled || !dmshook_roster_version_wants_type(version, type))
			continue;
		list = list_of(entry, version->tenant, strlen(version->tenant), true);
		/* each once: what an earlier version added is the last in the list */
		if (list->n == 0 || list->consumer[list->n - 1] != webhook->consumer)
			append(list, entry->context, webhook->consumer);
	}
}

static TypeEntry *
find_type(DmshookSpan type)
{
	char		name[sizeof(((TypeEntry *) 0)->name)] = {0};
	TypeEntry  *entry;
	DmshookWebhook *webhook = NULL;
	bool		there;

	memcpy(name, type.data, Min(type.len, (int) sizeof(name) - 1));
	entry = hash_search(types, name, HASH_ENTER, &there);
	if (!there)
	{
		entry->generation = 0;
		entry->context = AllocSetContextCreate(types_context, "dmshook event type", ALLOCSET_SMALL_SIZES);
	}
	if (entry->generation == generation)
		return entry;
	entry->generation = 0;
	MemoryContextReset(entry->context);
	memset(&entry->any, 0, sizeof(entry->any));
	entry->tenants = NULL;
	while ((webhook = dmshook_roster_iterate(webhook)) != NULL)
		add_webhook(entry, type, webhook);
	/* a name that does not fit may be another's, too */
	if (type.len < (int) sizeof(name))
		entry->generation = generation;
	return entry;
}

/* Those of a list that are not in the answer yet. */
static void
add_list(const ConsumerList *list)
{
	for (int i = 0; list && i < list->n; i++)
	{
		DmshookWebhook *webhook = dmshook_consumer_cookie(list->consumer[i]);

		if (webhook->asked == asked)
			continue;
		webhook->asked = asked;
		append(&found, types_context, list->consumer[i]);
	}
}

int
dmshook_roster_candidates(const DmshookCached *event, DmshookConsumer ***list)
{
	TypeEntry  *type = find_type(event->type);

	if (type->tenants == NULL)
	{
		*list = type->any.consumer;
		return type->any.n;
	}
	asked++;
	found.n = 0;
	add_list(&type->any);
	if (event->tenant.data)
		add_list(list_of(type, event->tenant.data, event->tenant.len, false));
	if (event->old_tenant.data)
		add_list(list_of(type, event->old_tenant.data, event->old_tenant.len, false));
	*list = found.consumer;
	return found.n;
}
