/*
 * notice.c - failure notifications: a webhook that fails, recovers, is disabled,
 * a delivery that was given up, deliveries that waited too long.
 *
 * Runs in the dispatcher. What is to be told is noted when a request ends, and written
 * in the next transaction of positions: a row of dmshook.alert, NOTIFY dmshook, and
 * an event to webhooks that subscribe to such (dmshook._notice does these). Deliveries that were given up
 * are told at once for the first, then gathered for a minute: a dead receiver with ten thousand of
 * them is one notice a minute. What expires is gathered for an hour. A notice never causes a notice about itself (policy.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/ilist.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "notice.h"
#include "store.h"

#define DIGEST_MS		60000	/* deliveries given up: at most one notice in so long */
#define EXPIRED_MS		3600000 /* and expired: of a webhook that was forgotten, some each second, perhaps */
#define MAX_PENDING		1000	/* while writing fails: no more than so many */

typedef struct Notice
{
	dlist_node	node;
	int			webhook;
	const char *kind;
	char	   *detail;			/* a JSON object */
	bool		quotes;			/* its error may quote data of an event */
} Notice;

static dlist_head pending = DLIST_STATIC_INIT(pending);
static int	npending = 0;
static bool something = false;	/* a webhook is to be disabled, or has notices gathered */
static bool changed = false;	/* next_due is to be found out again */
static TimestampTz next_due = DT_NOEND; /* of these */
static TimestampTz retry_disable_at = 0;

static void
append_member(StringInfo buf, const char *name, const char *value)
{
	appendStringInfo(buf, "%s\"%s\": ", buf->len > 1 ? ", " : "", name);
	escape_json(buf, value);
}

static void
add(int webhook, unsigned notice, const char *detail, bool quotes)
{
	Notice	   *n;

	if (npending >= MAX_PENDING)
		return;
	n = MemoryContextAlloc(TopMemoryContext, sizeof(Notice));
	n->webhook = webhook;
	n->kind = dmshook_notice_name(notice);
	n->detail = MemoryContextStrdup(TopMemoryContext, detail);
	n->quotes = quotes;
	dlist_push_tail(&pending, &n->node);
	npending++;
}

/* After erase(): what waits to be told does not quote what it erased, nor, for it is not known which does, anything else. */
void
dmshook_notice_erase(void)
{
	static const char erased[] = "{\"error\": \"erased\"}";
	dlist_iter	iter;

	dlist_foreach(iter, &pending)
	{
		Notice	   *n = dlist_container(Notice, node, iter.cur);

		if (!n->quotes)
			continue;
		n->quotes = false;
		pfree(n->detail);
		n->detail = MemoryContextStrdup(TopMemoryContext, erased);
	}
}

/* It has something to be told, or is to be disabled. */
static void
note(DmshookWebhook *webhook)
{
	dmshook_agenda_add(webhook, DMSHOOK_TODO_NOTICE);
	something = changed = true;
}

void
dmshook_notice_add(DmshookWebhook *webhook, const DmshookFlight *flight, const DmshookVerdict *verdict)
{
	const DmshookAttempt *a = &flight->attempt;
	StringInfoData detail;
	char		text[DMSHOOK_TIMESTAMP_SIZE];

	if (verdict->disable != DMSHOOK_DISABLE_NOT)
	{
		webhook->to_disable = true;
		note(webhook);
	}
	if (verdict->notices == 0)
		return;
	if (verdict->notices & DMSHOOK_NOTICE_EXHAUSTED)
	{
		dmshook_digest_add(&webhook->exhausted, 1);
		webhook->exhausted_event = a->event;
		webhook->exhausted_nonce = a->nonce;
		note(webhook);
	}

	initStringInfo(&detail);
	appendStringInfoChar(&detail, '{');
	if (a->error)
		append_member(&detail, "error", a->error);
	if (a->hint)
		append_member(&detail, "hint", a->hint);
	if (verdict->failing_since != 0)
	{
		dmshook_format_timestamp(verdict->failing_since, text);
		append_member(&detail, "failing_since", text);
	}
	if (verdict->open_since != 0)
	{
		dmshook_format_timestamp(verdict->open_since, text);
		append_member(&detail, "open_since", text);
	}
	appendStringInfoChar(&detail, '}');
	for (int i = 0; i < DMSHOOK_NOTICES; i++)
	{
		unsigned	notice = verdict->notices & (1u << i);

		/* given up: gathered; disabled: told by what disables it */
		if (notice != 0 && notice != DMSHOOK_NOTICE_EXHAUSTED && notice != DMSHOOK_NOTICE_DISABLED)
			add(webhook->id, notice, detail.data, a->outcome == DMSHOOK_INTERNAL_ERROR);
	}
	pfree(detail.data);
}

void
dmshook_notice_expired(DmshookWebhook *webhook, int64 n)
{
	dmshook_digest_add(&webhook->expired, n);
	note(webhook);
}

TimestampTz
dmshook_notices_due(void)
{
	DmshookWebhook *webhook;
	DmshookWebhook *next;
	TimestampTz now;

	if (npending > 0)
		return DT_NOBEGIN;
	if (!changed)
		return next_due;
	next_due = DT_NOEND;
	changed = false;
	now = GetCurrentTimestamp();
	for (webhook = dmshook_agenda_iterate(DMSHOOK_TODO_NOTICE, NULL); webhook; webhook = next)
	{
		int64_t		due = Min(dmshook_digest_due(&webhook->exhausted, DIGEST_MS, now),
							  dmshook_digest_due(&webhook->expired, EXPIRED_MS, now));

		next = dmshook_agenda_iterate(DMSHOOK_TODO_NOTICE, webhook);
		if (webhook->dropped || (!webhook->to_disable && due == DMSHOOK_NEVER))
		{
			dmshook_agenda_drop(webhook, DMSHOOK_TODO_NOTICE);
			continue;
		}
		if (webhook->to_disable)
			next_due = Min(next_due, retry_disable_at);
		if (due != DMSHOOK_NEVER)
			next_due = Min(next_due, due);
	}
	something = next_due != DT_NOEND;
	return next_due;
}

/* Deliveries given up since the last notice of that. */
static void
write_exhausted(DmshookWebhook *webhook, TimestampTz now)
{
	StringInfoData detail;
	char		id[DMSHOOK_MESSAGE_ID_LEN + 1];

	webhook->exhausted_written = 0;
	if (dmshook_digest_due(&webhook->exhausted, DIGEST_MS, now) > now)
		return;
	dmshook_message_id(webhook->exhausted_event, webhook->exhausted_nonce, id);
	initStringInfo(&detail);
	appendStringInfo(&detail, "{\"count\": " INT64_FORMAT, webhook->exhausted.waiting);
	append_member(&detail, "message_id", id);
	append_member(&detail, "error", webhook->state.last_error);
	append_member(&detail, "hint", webhook->state.last_hint);
	appendStringInfoChar(&detail, '}');
	dmshook_store_notice(webhook->id, dmshook_notice_name(DMSHOOK_NOTICE_EXHAUSTED), detail.data);
	webhook->exhausted_written = webhook->exhausted.waiting;
}

static void
write_expired(DmshookWebhook *webhook, TimestampTz now)
{
	StringInfoData detail;

	webhook->expired_written = 0;
	if (dmshook_digest_due(&webhook->expired, EXPIRED_MS, now) > now)
		return;
	initStringInfo(&detail);
	appendStringInfo(&detail, "{\"count\": " INT64_FORMAT, webhook->expired.waiting);
	append_member(&detail, "error", "they waited for longer than dmshook.max_wait, and are not sent any more");
	append_member(&detail, "hint", "dmshook.check() says why nothing was sent; dmshook.replay() sends what is still in the log.");
	appendStringInfoChar(&detail, '}');
	dmshook_store_notice(webhook->id, "expired", detail.data);
	webhook->expired_written = webhook->expired.waiting;
}

/* Its receiver wants no more: disabled, with the reason and a notice. */
static void
write_disabled(DmshookWebhook *webhook, TimestampTz now)
{
	const char *reason = dmshook_disable_reason(webhook->policy.disable);
	StringInfoData detail;

	webhook->disabled_written = false;
	if (!webhook->to_disable || retry_disable_at > now || reason == NULL)
		return;
	if (!dmshook_store_disable(webhook->id, reason))
	{
		retry_disable_at = now + USECS_PER_SEC;
		return;
	}
	initStringInfo(&detail);
	appendStringInfoChar(&detail, '{');
	append_member(&detail, "reason", reason);
	appendStringInfoChar(&detail, '}');
	dmshook_store_notice(webhook->id, dmshook_notice_name(DMSHOOK_NOTICE_DISABLED), detail.data);
	webhook->disabled_written = true;
}

static void
write_all(void)
{
	DmshookWebhook *webhook = NULL;
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	iter;

	dlist_foreach(iter, &pending)
	{
		Notice	   *notice = dlist_container(Notice, node, iter.cur);

		dmshook_store_notice(notice->webhook, notice->kind, notice->detail);
	}
	if (!something)
		return;
	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_NOTICE, webhook)) != NULL)
	{
		if (webhook->dropped)
			continue;
		write_exhausted(webhook, now);
		write_expired(webhook, now);
		write_disabled(webhook, now);
	}
}

void
dmshook_notices_write(void)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	if (npending == 0 && !something)
		return;
	/* positions are worth more than notices: an error here is theirs alone */
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		write_all();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("a failure notification could not be written: %s", error->message)));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

void
dmshook_notices_end(bool committed)
{
	DmshookWebhook *webhook = NULL;
	TimestampTz now = GetCurrentTimestamp();
	dlist_mutable_iter iter;

	if (!committed)
		return;
	dlist_foreach_modify(iter, &pending)
	{
		Notice	   *notice = dlist_container(Notice, node, iter.cur);

		dlist_delete(&notice->node);
		pfree(notice->detail);
		pfree(notice);
	}
	npending = 0;
	if (!something)
		return;
	changed = true;
	while ((webhook = dmshook_agenda_iterate(DMSHOOK_TODO_NOTICE, webhook)) != NULL)
	{
		if (webhook->exhausted_written > 0)
			dmshook_digest_told(&webhook->exhausted, webhook->exhausted_written, now);
		if (webhook->expired_written > 0)
			dmshook_digest_told(&webhook->expired, webhook->expired_written, now);
		webhook->exhausted_written = webhook->expired_written = 0;
		if (webhook->disabled_written)
			webhook->to_disable = webhook->disabled_written = false;
	}
}
