/*
 * roster.c - the webhooks of a dispatcher in memory.
 *
 * Runs in the dispatcher; loads under the snapshot with which events are then
 * read, so that no event is matched by a configuration older than itself. A
 * configuration that cannot be used (written by a newer version, say) is kept as the
 * reason why, which every attempt of that webhook then says: it stops nobody
 * else. Secrets live in a profile's context alone and are wiped with it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "auth.h"
#include "roster.h"
#include "wipe.h"

/* Entries from the log beside those in flight: what a commit interval uses up, and more. */
#define WINDOW_SPARE	64
#define WINDOW_MAX		8192
#define WINDOW_BYTES	((Size) 8 * 1024 * 1024)	/* about as much as a window's bodies may take */

static MemoryContext roster_context = NULL;
static HTAB *webhooks = NULL;
static dlist_head roster = DLIST_STATIC_INIT(roster);
static uint64 next_serial = 1;

typedef struct WebhookEntry
{
	int			id;				/* hash key */
	DmshookWebhook *webhook;
} WebhookEntry;

void
dmshook_roster_init(MemoryContext parent)
{
	HASHCTL		ctl = {0};

	roster_context = AllocSetContextCreate(parent, "dmshook webhooks", ALLOCSET_DEFAULT_SIZES);
	dmshook_judge_init(roster_context);
	dmshook_agenda_init(roster_context);
	ctl.keysize = sizeof(int);
	ctl.entrysize = sizeof(WebhookEntry);
	ctl.hcxt = roster_context;
	webhooks = hash_create("dmshook webhooks", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&roster);
	dmshook_roster_types_init(roster_context);
}

DmshookWebhook *
dmshook_roster_find(int webhook)
{
	WebhookEntry *entry = hash_search(webhooks, &webhook, HASH_FIND, NULL);

	return entry ? entry->webhook : NULL;
}

DmshookWebhook *
dmshook_roster_iterate(DmshookWebhook *previous)
{
	if (previous == NULL)
		return dlist_is_empty(&roster) ? NULL : dlist_head_element(DmshookWebhook, node, &roster);
	if (!dlist_has_next(&roster, &previous->node))
		return NULL;
	return dlist_container(DmshookWebhook, node, dlist_next_node(&roster, &previous->node));
}

void
dmshook_profile_keep(DmshookProfile *profile)
{
	profile->refs++;
}

void
dmshook_profile_drop(DmshookProfile *profile)
{
	Assert(profile->refs > 0);
	if (--profile->refs > 0)
		return;
	dmshook_keys_free(&profile->keys);
	if (profile->oauth)
		dmshook_oauth_free(profile->oauth);
	/* header lines hold credentials; these are in the context, with copies that nobody knows of */
	for (int i = 0; i < profile->endpoint.nheaders; i++)
		explicit_bzero((char *) profile->endpoint.headers[i], strlen(profile->endpoint.headers[i]));
	if (profile->endpoint.key)
		explicit_bzero((char *) profile->endpoint.key, strlen(profile->endpoint.key));
	dmshook_roster_mask_wipe(profile);
	dmshook_wipe_freed(true);
	dmshook_transport_forget(profile->endpoint.serial);
	MemoryContextDelete(profile->context);
	dmshook_wipe_freed(false);
}

/* A webhook's name in a header: what is not printable ASCII is percent-encoded UTF-8. */
static void
format_name_header(const char *name, char *out, size_t size)
{
	StringInfoData buf;
	char	   *utf8 = pg_server_to_any(name, strlen(name), PG_UTF8);

	initStringInfo(&buf);
	appendStringInfoString(&buf, "dmshook-webhook: ");
	for (const unsigned char *c = (const unsigned char *) utf8; *c; c++)
	{
		if (*c >= 0x20 && *c < 0x7f && *c != '%')
			appendStringInfoChar(&buf, *c);
		else
			appendStringInfo(&buf, "%%%02X", *c);
	}
	strlcpy(out, buf.data, size);
	pfree(buf.data);
}

/* Custom headers to lines "name: value". */
static void
add_headers(DmshookProfile *profile, Jsonb *headers)
{
	JsonbIterator *it = JsonbIteratorInit(&headers->root);
	JsonbValue	v;
	JsonbIteratorToken token;
	char	   *name = NULL;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && v.type == jbvString)
		{
			char	   *line = psprintf("%s: %.*s", name, v.val.string.len, v.val.string.val);

			profile->endpoint.headers[profile->endpoint.nheaders++] = pg_server_to_any(line, strlen(line), PG_UTF8);
		}
	}
}

/* How it shows who is calling; the rest of the endpoint is filled in. */
static void
add_auth(DmshookProfile *profile, Jsonb *auth)
{
	DmshookEndpoint *endpoint = &profile->endpoint;
	char	   *line = dmshook_auth_header(auth);

	if (line)
		endpoint->headers[endpoint->nheaders++] = line;
	else if (dmshook_auth_is(auth, "oauth2"))
		profile->oauth = dmshook_oauth_create(auth, endpoint, next_serial++);
	else if (dmshook_auth_is(auth, "mtls"))
	{
		endpoint->certificate = dmshook_auth_member(auth, "certificate");
		endpoint->key = dmshook_auth_member(auth, "key");
	}
}

/* Fill in a profile; may raise errors. In its context. */
static void
build_profile(DmshookProfile *profile, const DmshookWebhookRow *row)
{
	DmshookEndpoint *endpoint = &profile->endpoint;

	if (row->secret_problem)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg_internal("%s", row->secret_problem),
				 errhint("%s", row->secret_hint)));
	dmshook_options_parse(row->options, &profile->options);
	if (profile->options.transform && row->transform_role == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("nobody is named to call the transform")));
	profile->transform_role = row->transform_role ? pstrdup(row->transform_role) : NULL;
	format_name_header(row->name, profile->name_header, sizeof(profile->name_header));

	endpoint->serial = next_serial++;
	endpoint->url = pstrdup(row->url);
	endpoint->method = pstrdup(row->method);
	endpoint->timeout = profile->options.timeout;
	endpoint->connect_timeout = profile->options.connect_timeout;
	endpoint->http_version = profile->options.http_version;
	endpoint->ca_certificate = profile->options.ca_certificate;
	endpoint->allowed_addresses = profile->options.allowed_addresses;
	endpoint->success = profile->options.plan.success;
	endpoint->headers = palloc0(sizeof(char *) * (3 + (row->headers ? JB_ROOT_COUNT(row->headers) : 0)));
	endpoint->headers[endpoint->nheaders++] = profile->name_header;
	if (profile->options.shape & DMSHOOK_SHAPE_CLOUDEVENTS)
		endpoint->headers[endpoint->nheaders++] = pstrdup("content-type: application/cloudevents+json");
	if (row->auth)
		add_auth(profile, row->auth);
	if (row->headers)
		add_headers(profile, row->headers);
	dmshook_roster_mask(profile, row);

	profile->url_has_query = strchr(row->url, '?') != NULL;
	if (!profile->has_body)
		dmshook_cache_want_query();

	dmshook_keys_make(&profile->keys, row, &profile->options);
}

/* A profile for a row; one that cannot be used says why. */
static DmshookProfile *
make_profile(const DmshookWebhookRow *row)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext context = AllocSetContextCreate(roster_context, "dmshook profile", DMSHOOK_SECRET_SIZES);
	DmshookProfile *profile = MemoryContextAllocZero(context, sizeof(DmshookProfile));

	profile->refs = 1;
	profile->context = context;
	profile->version = row->version;
	/* also of one that cannot be used: its attempts are read by its method */
	profile->has_body = strcmp(row->method, "GET") != 0 && strcmp(row->method, "DELETE") != 0;
	dmshook_plan_default(&profile->options.plan);
	profile->options.max_in_flight = 1;
	dmshook_policy_default(&profile->options.policy);

	dmshook_wipe_freed(true);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		build_profile(profile, row);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		profile->problem = error->message;
		profile->problem_hint = error->hint;
	}
	PG_END_TRY();
	dmshook_wipe_freed(false);
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	return profile;
}

static bool
same_profile(const DmshookWebhookRow *a, const DmshookWebhookRow *b)
{
	if (a->version != b->version || a->nsecrets != b->nsecrets)
		return false;
	if (strcmp(a->secret_problem ? a->secret_problem : "", b->secret_problem ? b->secret_problem : "") != 0)
		return false;
	for (int i = 0; i < a->nsecrets; i++)
	{
		if (strcmp(a->secrets[i].value, b->secrets[i].value) != 0 || a->secrets[i].until != b->secrets[i].until ||
			strcmp(a->secrets[i].kind, b->secrets[i].kind) != 0)
			return false;
	}
	return true;
}

static void
wipe(void *bytes, Size size)
{
	if (bytes)
		explicit_bzero(bytes, size);
}

/* Secrets of a configuration that is no longer used. */
static void
wipe_row(DmshookWebhookRow *row)
{
	for (int i = 0; i < row->nsecrets; i++)
		wipe(row->secrets[i].value, strlen(row->secrets[i].value));
	wipe(row->auth, row->auth ? VARSIZE(row->auth) : 0);
	wipe(row->headers, row->headers ? VARSIZE(row->headers) : 0);
}

void
dmshook_roster_apply(DmshookWebhook *webhook)
{
	DmshookConsumerSettings settings;
	const DmshookOptions *options = &webhook->profile->options;
	int			wanted = options->max_in_flight + WINDOW_SPARE + 3 * webhook->committed;

	webhook->window = Min(wanted, WINDOW_MAX);
	webhook->window = Min(webhook->window, Max(DMSHOOK_WINDOW_LEAST, (int) (WINDOW_BYTES / Max(dmshook_cache_average(), 1024))));
	if (webhook->squeezed)
		webhook->window = dmshook_consumer_flying(webhook->consumer) + DMSHOOK_WINDOW_LEAST;
	settings.may_send = webhook->row->enabled && !webhook->row->paused && !webhook->dropped && !webhook->gated;
	settings.ordered = webhook->ordered;
	settings.window = webhook->window;
	settings.max_in_flight = dmshook_policy_in_flight(&options->policy, &webhook->policy);
	/* held back otherwise, it is looked at when that ends */
	if (webhook->due_blocked && settings.may_send)
		dmshook_agenda_add(webhook, DMSHOOK_TODO_BLOCKED);
	else
		dmshook_agenda_drop(webhook, DMSHOOK_TODO_BLOCKED);
	if (!dmshook_consumer_set(webhook->consumer, &settings))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

void
dmshook_roster_gate(DmshookWebhook *webhook, TimestampTz now, TimestampTz until)
{
	int64_t		next = DMSHOOK_NEVER;
	DmshookGate gate = dmshook_policy_gate(&webhook->profile->options.policy, &webhook->policy, now, NULL, &next);

	if (until != 0 && gate <= DMSHOOK_PASS_PROBE)
		next = until;
	else if (gate <= DMSHOOK_PASS_PROBE)
		next = now;
	dmshook_agenda_set(webhook, DMSHOOK_ALARM_GATE, next == DMSHOOK_NEVER ? DT_NOEND : next);
	webhook->gated = true;
	dmshook_roster_apply(webhook);
}

void
dmshook_roster_block(DmshookWebhook *webhook, bool blocked)
{
	webhook->due_blocked = blocked;
	if (!blocked)
		dmshook_agenda_drop(webhook, DMSHOOK_TODO_BLOCKED);
	else if (webhook->row->enabled && !webhook->row->paused && !webhook->dropped && !webhook->gated)
		dmshook_agenda_add(webhook, DMSHOOK_TODO_BLOCKED);
}

static void
ungate(DmshookWebhook *webhook)
{
	if (!webhook->gated)
		return;
	webhook->gated = false;
	dmshook_agenda_set(webhook, DMSHOOK_ALARM_GATE, DT_NOEND);
	/* no result is to come that would make the feed look at its queue again */
	if (webhook->due_blocked)
	{
		dmshook_roster_block(webhook, false);
		dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOBEGIN);
	}
}

void
dmshook_roster_ask_again(DmshookWebhook *webhook)
{
	if (webhook->gated)
		dmshook_agenda_set(webhook, DMSHOOK_ALARM_GATE, DT_NOBEGIN);
}

void
dmshook_roster_clock_set(void)
{
	DmshookWebhook *webhook = NULL;

	while ((webhook = dmshook_roster_iterate(webhook)) != NULL)
		dmshook_roster_ask_again(webhook);
}

/* One that may send again: are its retries to go first? */
static bool
retries_first(DmshookWebhook *webhook, DmshookGate gate, TimestampTz now, bool may_turn)
{
	if (!webhook->due_blocked && webhook->agenda.at[DMSHOOK_ALARM_QUEUE] > now)
		return false;
	if (gate == DMSHOOK_PASS_PROBE)
		return !dmshook_policy_probe_fresh(&webhook->policy);
	if (may_turn)
		webhook->queue_turn = !webhook->queue_turn;
	return may_turn && webhook->queue_turn;
}

bool
dmshook_roster_regate(TimestampTz now, bool may_turn, DmshookHold hold, bool *queue_first)
{
	DmshookWebhook *webhook;
	bool		opened = false;

	*queue_first = false;
	/* each is asked once, whatever it answers */
	while ((webhook = dmshook_agenda_due(DMSHOOK_ALARM_GATE, now)) != NULL)
	{
		dmshook_agenda_set(webhook, DMSHOOK_ALARM_GATE, DT_NOEND);
		dmshook_agenda_add(webhook, DMSHOOK_TODO_GATE);
	}
	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_GATE, NULL)) != NULL)
	{
		int64_t		next = DMSHOOK_NEVER;
		DmshookGate gate;

		dmshook_agenda_drop(webhook, DMSHOOK_TODO_GATE);
		gate = dmshook_policy_gate(&webhook->profile->options.policy, &webhook->policy, now, NULL, &next);
		if (gate <= DMSHOOK_PASS_PROBE && (next = hold(webhook, now)) != 0)
			dmshook_agenda_set(webhook, DMSHOOK_ALARM_GATE, next);
		else if (gate <= DMSHOOK_PASS_PROBE)
		{
			ungate(webhook);
			dmshook_roster_apply(webhook);
			opened = true;
			if (retries_first(webhook, gate, now, may_turn))
				*queue_first = true;
		}
		else
			dmshook_agenda_set(webhook, DMSHOOK_ALARM_GATE, next == DMSHOOK_NEVER ? DT_NOEND : next);
	}
	return opened;
}

/* Where it left off in an earlier life. */
static void
load_policy(DmshookWebhook *webhook, const DmshookWebhookRow *row)
{
	DmshookPolicyStored stored = {
		.failures = row->failures,
		.failing_since = row->failing_since,
		.circuit_open_since = row->circuit_open_since,
		.next_probe_at = row->next_probe_at,
		.probes = row->probes
	};

	dmshook_policy_load(&webhook->policy, &stored, GetCurrentTimestamp());
}

/* What a change of its row means for the pace. */
static void
policy_changed(DmshookWebhook *webhook, const DmshookWebhookRow *row)
{
	TimestampTz now = GetCurrentTimestamp();

	/* another receiver, maybe: its certificate is not known */
	if (strcmp(row->url, webhook->row->url) != 0)
		webhook->state.certificate_expires_at = DT_NOEND;

	/* disabled by us and enabled again before we had read that: it was never seen disabled */
	if ((row->enabled && (!webhook->row->enabled ||
						  (webhook->policy.disable != DMSHOOK_DISABLE_NOT && !webhook->to_disable))) ||
		strcmp(row->url, webhook->row->url) != 0)
	{
		dmshook_policy_reset(&webhook->policy, now);
		webhook->to_disable = false;
		dmshook_agenda_add(webhook, DMSHOOK_TODO_STATE);
	}
	else if (webhook->row->paused && !row->paused)
		dmshook_policy_nudge(&webhook->policy, now);
	else if (webhook->row->version == row->version)
		return;
	ungate(webhook);
}

/* A webhook that was not there: its consumer, state and place. */
static DmshookWebhook *
add_webhook(DmshookConsumers *set, const DmshookWebhookRow *row, bool start, int64 last_value)
{
	DmshookWebhook *webhook = MemoryContextAllocZero(roster_context, sizeof(DmshookWebhook));
	WebhookEntry *entry;
	int64		high = dmshook_consumers_high(set);
	int64		next = high;
	bool		stored = start && row->low >= 0;
	bool		found;

	webhook->id = row->id;
	dmshook_agenda_begin(webhook);
	webhook->due_from = DT_NOBEGIN;
	if (start)
		dmshook_agenda_set(webhook, DMSHOOK_ALARM_QUEUE, DT_NOBEGIN);
	webhook->state.webhook = webhook->place.webhook = row->id;
	webhook->state.delivered = row->delivered;
	webhook->state.failed = row->failed;
	webhook->state.failures = row->failures;
	webhook->place.low = row->low;
	load_policy(webhook, row);
	ItemPointerSetInvalid(&webhook->place.tid);
	ItemPointerSetInvalid(&webhook->state.tid);

	if (stored)
		next = row->low;
	else if (!start && row->nsubscriptions > 0)
		next = Min(next, row->subscriptions[0].from_id - 1);
	webhook->consumer = dmshook_consumer_add(set, row->id, webhook, next, start ? last_value : 0,
											 row->skip, stored);
	if (webhook->consumer == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	entry = hash_search(webhooks, &row->id, HASH_ENTER, &found);
	entry->webhook = webhook;
	dlist_push_tail(&roster, &webhook->node);
	return webhook;
}

void
dmshook_roster_load(DmshookConsumers *set, int webhook_id, bool start, int64 last_value)
{
	MemoryContext context = AllocSetContextCreate(roster_context, "dmshook webhook row", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *rows = dmshook_store_webhooks(webhook_id);
	ListCell   *cell;

	MemoryContextSwitchTo(old);
	foreach(cell, rows)
	{
		DmshookWebhookRow *row = lfirst(cell);
		DmshookWebhook *webhook = dmshook_roster_find(row->id);

		if (webhook == NULL)
			webhook = add_webhook(set, row, start, last_value);
		if (webhook->profile == NULL || !same_profile(webhook->row, row))
		{
			DmshookProfile *before = webhook->profile;

			webhook->profile = make_profile(row);
			webhook->transform_us = 0;
			webhook->transform_slow = false;
			if (before)
			{
				/* what waits may lack what the new method needs: it is read again */
				if (before->has_body && !webhook->profile->has_body)
					dmshook_consumer_shed(webhook->consumer);
				dmshook_profile_drop(before);
			}
		}
		dmshook_judge_compile(row, context);
		memset(&webhook->judge, 0, sizeof(webhook->judge));
		if (webhook->row)
		{
			policy_changed(webhook, row);
			wipe_row(webhook->row);
		}
		webhook->row = row;
		if (start)
			webhook->ordered = webhook->profile->options.ordered;
		dmshook_roster_apply(webhook);

		/* each row may outlive the others: a context for each, but for the first load */
		if (webhook->context && list_length(rows) == 1)
			MemoryContextDelete(webhook->context);
		webhook->context = list_length(rows) == 1 ? context : NULL;
	}
	if (rows == NIL)
		MemoryContextDelete(context);
	dmshook_roster_types_changed();
}

/* One by one: each row gets a context of its own. */
void
dmshook_roster_reload(DmshookConsumers *set)
{
	DmshookWebhook *webhook = NULL;

	while ((webhook = dmshook_roster_iterate(webhook)) != NULL)
		dmshook_roster_load(set, webhook->id, false, 0);
}

void
dmshook_roster_remove(DmshookWebhook *webhook)
{
	dmshook_consumer_remove(webhook->consumer);
	dmshook_profile_drop(webhook->profile);
	wipe_row(webhook->row);
	hash_search(webhooks, &webhook->id, HASH_REMOVE, NULL);
	dlist_delete(&webhook->node);
	dmshook_agenda_forget(webhook);
	if (webhook->context)
		MemoryContextDelete(webhook->context);
	pfree(webhook);
	dmshook_roster_types_changed();
}

static bool
span_equals(DmshookSpan span, const char *text)
{
	return span.data != NULL && strlen(text) == (size_t) span.len && memcmp(span.data, text, span.len) == 0;
}

/* Type and tenant, by one version. */
static bool
version_wants(const DmshookSubscription *version, const DmshookCached *event)
{
	if (version->tenant && !span_equals(event->tenant, version->tenant) &&
		!span_equals(event->old_tenant, version->tenant))
		return false;
	return dmshook_roster_version_wants_type(version, event->type);
}

/* Type, tenant and filter, by one version. */
static bool
version_matches(DmshookWebhook *webhook, const DmshookSubscription *version, DmshookCached *event)
{
	return version_wants(version, event) && dmshook_judge_admits(webhook, version, event);
}

bool
dmshook_roster_subscribes(DmshookWebhook *webhook, DmshookCached *event)
{
	int			n = webhook->row->nsubscriptions;

	return n > 0 && version_matches(webhook, &webhook->row->subscriptions[n - 1], event);
}

/* The last version that begins at or before the event; most events meet the newest. */
const DmshookSubscription *
dmshook_roster_version(const DmshookWebhook *webhook, int64 event)
{
	for (int i = webhook->row->nsubscriptions - 1; i >= 0; i--)
	{
		if (webhook->row->subscriptions[i].from_id <= event)
			return &webhook->row->subscriptions[i];
	}
	return NULL;
}

bool
dmshook_roster_matches(DmshookWebhook *webhook, DmshookCached *event)
{
	const DmshookSubscription *version = dmshook_roster_version(webhook, event->id);

	return version && version->enabled && !event->erased && version_matches(webhook, version, event);
}

void
dmshook_roster_recheck(DmshookWebhook *webhook, DmshookCached *event, bool by_hand)
{
	dmshook_judge_again(webhook, dmshook_roster_version(webhook, event->id), event, by_hand);
}
