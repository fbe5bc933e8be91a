/*
 * mail.c - failure notices by e-mail: which are due, to whom, and what became of
 * the last mail.
 *
 * Runs in the dispatcher. The queue is dmshook.alert: a row without sent_to, younger than a
 * day, is still to be mailed; so a restart forgets nothing. Each look sorts
 * these rows by recipients (a webhook's alert_to, else dmshook.alert_mail_to) and makes one mail of
 * all that one list of recipients is to get: dmshook.alert_mail_delay after the
 * oldest of them, but for deliveries given up, which alone are mailed once an
 * hour. One mail at a time is under way (transport_mail.c). sent_to is written when the
 * server has taken it; a crash before that sends it twice, with the same Message-ID.
 *
 * A mail that fails is tried again with growing pauses; after MAX_TRIES its
 * notices stay as rows that nobody was mailed. The server's log hears of a
 * streak of failures once. None of that raises a notice.
 *
 * What never happens here: waiting for the mail server, for a row that an admin has
 * locked, or an error message or mail with a secret.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "common/hashfn.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "event.h"
#include "mail.h"
#include "mailtext.h"
#include "payload.h"
#include "private_file.h"
#include "roster.h"
#include "settings.h"
#include "store.h"
#include "transport_mail.h"
#include "wake.h"

#define MAX_TRIES		10
#define MAX_PAUSE_US	(INT64CONST(3600) * USECS_PER_SEC)
#define EXHAUSTED_US	(INT64CONST(3600) * USECS_PER_SEC)	/* deliveries given up alone: a mail in so long */
#define MAX_AGE_US		(INT64CONST(86400) * USECS_PER_SEC)
#define LOCKED_US		(5 * USECS_PER_SEC) /* a row was locked: look again */
#define MAX_ALERTS		5000	/* in a look, the newest */
#define MAX_LISTED		100		/* in a mail, in full */

/* A list of recipients: all that is known of it is from this life of the dispatcher. */
typedef struct Recipient
{
	dlist_node	node;
	char	   *list;
	int			failures;		/* in a row */
	TimestampTz next_try;
	TimestampTz last_mail;		/* 0: none yet; so the next */
	TimestampTz last_exhausted; /* with deliveries given up */
	int64		given_up;		/* alerts up to this one */
	/* of the look that is under way */
	List	   *alerts;			/* DmshookAlertRow, oldest first */
	TimestampTz due;
} Recipient;

/* Sent, but sent_to is not written. */
typedef struct Sent
{
	dlist_node	node;
	TimestampTz at;
	char	   *to;
	int64	   *ids;
	int			n;
	int			written;		/* of them, the first, in the current transaction */
} Sent;

static MemoryContext mail_context = NULL;
static dlist_head recipients = DLIST_STATIC_INIT(recipients);
static dlist_head sent_list = DLIST_STATIC_INIT(sent_list);
static TimestampTz next_look = DT_NOBEGIN;
static TimestampTz next_write = DT_NOEND;	/* of sent_to */
static uint64 alerts_seen = 0;
static bool failing = false;	/* a failure was logged, and no mail has been sent since */
static char logged[384] = "";	/* which one; "": none since the settings changed */

/* The mail under way, or about to start. */
static struct
{
	bool		ready;			/* composed, not started */
	bool		busy;			/* started, result not taken */
	Recipient  *recipient;
	char		from[DMSHOOK_MAIL_ADDRESS_SIZE];
	DmshookMailAddresses to;
	char	   *message;		/* malloc'ed */
	size_t		len;
	int64	   *ids;
	int			n;
	bool		exhausted;
}			current;

static void take_result(TimestampTz now);
static void failed(TimestampTz now, const char *error);

static int64
delay_us(void)
{
	return dmshook_alert_mail_delay * INT64CONST(1000);
}

void
dmshook_mail_init(MemoryContext parent)
{
	mail_context = AllocSetContextCreate(parent, "dmshook mail", ALLOCSET_DEFAULT_SIZES);
}

void
dmshook_mail_reload(void)
{
	dlist_iter	iter;

	next_look = DT_NOBEGIN;
	logged[0] = '\0';
	dlist_foreach(iter, &recipients)
	{
		Recipient  *recipient = dlist_container(Recipient, node, iter.cur);

		recipient->failures = 0;
		recipient->next_try = 0;
		recipient->given_up = 0;
	}
}

TimestampTz
dmshook_mail_due(void)
{
	if (dmshook_transport_mail_ended())
		return DT_NOBEGIN;
	if (dmshook_smtp_url[0] == '\0')
		return next_write;
	if (dmshook_store_alerts_written() != alerts_seen)
	{
		alerts_seen = dmshook_store_alerts_written();
		next_look = Min(next_look, GetCurrentTimestamp() + delay_us());
	}
	return current.busy ? next_write : Min(next_write, next_look);
}

/* Which recipients hear of a webhook's alerts? "": nobody. */
static const char *
recipients_of(int id)
{
	DmshookWebhook *webhook = id != 0 ? dmshook_roster_find(id) : NULL;

	return webhook && webhook->profile->options.alert_to ? webhook->profile->options.alert_to : dmshook_alert_mail_to;
}

static Recipient *
recipient_for(const char *list)
{
	dlist_iter	iter;
	Recipient  *recipient;

	dlist_foreach(iter, &recipients)
	{
		recipient = dlist_container(Recipient, node, iter.cur);
		if (strcmp(recipient->list, list) == 0)
			return recipient;
	}
	recipient = MemoryContextAllocZero(mail_context, sizeof(Recipient));
	recipient->list = MemoryContextStrdup(mail_context, list);
	dlist_push_tail(&recipients, &recipient->node);
	return recipient;
}

static bool
was_sent(int64 id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &sent_list)
	{
		Sent	   *sent = dlist_container(Sent, node, iter.cur);

		for (int i = 0; i < sent->n; i++)
		{
			if (sent->ids[i] == id)
				return true;
		}
	}
	return false;
}

static bool
is_exhausted(const DmshookAlertRow *alert)
{
	return strcmp(alert->kind, "delivery_exhausted") == 0;
}

/* ------------------------------------------------------------------------
 * What a mail says
 * ------------------------------------------------------------------------ */

/* A value of detail as text; "": none. */
static char *
detail_text(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvBinary:
			return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
		default:
			return pstrdup("");
	}
}

static char *
detail_member(const DmshookAlertRow *alert, const char *name)
{
	JsonbValue	buf;
	JsonbValue *value = JB_ROOT_IS_OBJECT(alert->detail) ?
	getKeyJsonValueFromContainer(&alert->detail->root, name, strlen(name), &buf) : NULL;

	return value ? detail_text(value) : NULL;
}

/* Text of others in one line. */
static void
append_line(StringInfo buf, const char *text)
{
	for (; *text != '\0'; text++)
		appendStringInfoChar(buf, (unsigned char) *text < 0x20 ? ' ' : *text);
	appendStringInfoChar(buf, '\n');
}

/* What happened, in words; *weight: how much it matters for the subject. */
static char *
title(const DmshookAlertRow *alert, int *weight)
{
	const char *name = alert->name ? alert->name : "dmshook";
	char	   *count = detail_member(alert, "count");

	*weight = 1;
	if (strcmp(alert->kind, "disabled") == 0)
	{
		*weight = 5;
		return psprintf("%s was disabled", name);
	}
	if (strcmp(alert->kind, "failing") == 0)
	{
		*weight = 4;
		return psprintf("%s is failing", name);
	}
	if (is_exhausted(alert))
	{
		*weight = 3;
		if (count == NULL || strcmp(count, "1") == 0)
			return psprintf("%s: a delivery was given up", name);
		return psprintf("%s: %s deliveries were given up", name, count);
	}
	if (strcmp(alert->kind, "expired") == 0)
	{
		*weight = 3;
		return psprintf("%s: deliveries waited too long and have expired", name);
	}
	if (strcmp(alert->kind, "recovered") == 0)
		return psprintf("%s has recovered", name);
	*weight = 2;
	return psprintf("%s: %s", name, alert->kind);
}

static void
append_member(StringInfo body, const char *name, const char *text)
{
	if (text == NULL || *text == '\0')
		return;
	appendStringInfo(body, "    %s: ", name);
	append_line(body, text);
}

static void
append_alert(StringInfo body, const DmshookAlertRow *alert)
{
	char		at[DMSHOOK_TIMESTAMP_SIZE];
	int			weight;

	dmshook_format_timestamp(alert->at, at);
	appendStringInfo(body, "%s  ", at);
	append_line(body, title(alert, &weight));
	append_member(body, "error", detail_member(alert, "error"));
	append_member(body, "hint", detail_member(alert, "hint"));
	if (JB_ROOT_IS_OBJECT(alert->detail))
	{
		JsonbIterator *it = JsonbIteratorInit(&alert->detail->root);
		JsonbIteratorToken token;
		JsonbValue	value;
		char	   *name = NULL;

		while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		{
			if (token == WJB_KEY)
				name = pnstrdup(value.val.string.val, value.val.string.len);
			else if (token == WJB_VALUE && strcmp(name, "error") != 0 && strcmp(name, "hint") != 0)
				append_member(body, name, detail_text(&value));
		}
	}
	appendStringInfoChar(body, '\n');
}

static char *
to_utf8(char *text)
{
	return pg_server_to_any(text, strlen(text), PG_UTF8);
}

/* dmshook.alert_mail_from, or dmshook@this-machine. */
static void
sender(char *from)
{
	char		host[200] = "";
	DmshookMailAddresses parsed;

	if (dmshook_mail_addresses(dmshook_alert_mail_from, &parsed) == NULL && parsed.n == 1)
		strlcpy(from, parsed.address[0], DMSHOOK_MAIL_ADDRESS_SIZE);
	else
	{
		if (gethostname(host, sizeof(host) - 1) != 0)
			host[0] = '\0';
		snprintf(from, DMSHOOK_MAIL_ADDRESS_SIZE, "dmshook@%s", host);
		if (dmshook_mail_addresses(from, NULL) != NULL)
			strlcpy(from, "dmshook@localhost", DMSHOOK_MAIL_ADDRESS_SIZE);
	}
}

/* One mail of all that a list of recipients is to hear. */
static void
compose(Recipient *recipient, TimestampTz now)
{
	StringInfoData body;
	DmshookMailText text;
	const char *database = get_database_name(MyDatabaseId);
	int			n = list_length(recipient->alerts);
	char	   *subject = NULL;
	int			best = 0;
	ListCell   *cell;

	if (dmshook_mail_addresses(recipient->list, &current.to) != NULL)
		elog(ERROR, "malformed address list");
	initStringInfo(&body);
	appendStringInfo(&body, "Webhooks of database %s", database);
	append_line(&body, n == 1 ? ":" : psprintf(", %d notices:", n));
	appendStringInfoChar(&body, '\n');
	current.n = 0;
	current.exhausted = false;
	current.ids = MemoryContextAlloc(mail_context, sizeof(int64) * n);
	foreach(cell, recipient->alerts)
	{
		DmshookAlertRow *alert = lfirst(cell);
		int			weight;
		char	   *what = title(alert, &weight);

		current.ids[current.n++] = alert->id;
		current.exhausted |= is_exhausted(alert);
		/* of several that matter as much, the last */
		if (weight >= best)
		{
			subject = what;
			best = weight;
		}
		if (current.n <= MAX_LISTED)
			append_alert(&body, alert);
	}
	if (n > MAX_LISTED)
		appendStringInfo(&body, "%d more are not listed.\n\n", n - MAX_LISTED);
	appendStringInfoString(&body, "All notices:     SELECT * FROM dmshook.alerts ORDER BY id DESC;\n"
						   "What was given up: SELECT * FROM dmshook.dead_letters;\n"
						   "Seen:            SELECT dmshook.acknowledge(alert_id);\n");

	sender(current.from);
	text.date = now / USECS_PER_SEC + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	text.id = psprintf("dmshook." UINT64_FORMAT ".%u." INT64_FORMAT "." INT64_FORMAT ".%08x", GetSystemIdentifier(),
					   MyDatabaseId, current.ids[0], current.ids[n - 1], string_hash(recipient->list, strlen(recipient->list) + 1));
	text.from = current.from;
	text.to = &current.to;
	text.subject = to_utf8(n == 1 ? psprintf("[dmshook %s] %s", database, subject) :
						   psprintf("[dmshook %s] %s, and %d more", database, subject, n - 1));
	text.body = to_utf8(body.data);
	current.message = dmshook_mail_compose(&text, &current.len);
	if (current.message == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	current.recipient = recipient;
	current.ready = true;
}

/* ------------------------------------------------------------------------
 * Which mail is due
 * ------------------------------------------------------------------------ */

static void
add_alert(DmshookAlertRow *alert)
{
	const char *list = recipients_of(alert->webhook);
	Recipient  *recipient;
	TimestampTz due = alert->at + delay_us();

	if (list[strspn(list, " ")] == '\0' || was_sent(alert->id))
		return;
	recipient = recipient_for(list);
	if (alert->id <= recipient->given_up)
		return;
	if (is_exhausted(alert) && recipient->last_exhausted != 0)
		due = Max(due, recipient->last_exhausted + EXHAUSTED_US);
	recipient->alerts = lappend(recipient->alerts, alert);
	recipient->due = Min(recipient->due, due);
}

static void
forget_recipient(Recipient *recipient)
{
	dlist_delete(&recipient->node);
	pfree(recipient->list);
	pfree(recipient);
}

static void
look(TimestampTz now)
{
	List	   *alerts;
	Recipient  *first = NULL;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &recipients)
	{
		Recipient  *recipient = dlist_container(Recipient, node, iter.cur);

		recipient->alerts = NIL;
		recipient->due = DT_NOEND;
		/* nothing left to remember */
		if (recipient->failures == 0 && recipient->given_up == 0 && now - recipient->last_mail > EXHAUSTED_US)
			forget_recipient(recipient);
	}
	alerts = dmshook_store_alerts_unsent(now - MAX_AGE_US, MAX_ALERTS);
	for (int i = list_length(alerts) - 1; i >= 0; i--)
		add_alert(list_nth(alerts, i));

	next_look = DT_NOEND;
	dlist_foreach_modify(iter, &recipients)
	{
		Recipient  *recipient = dlist_container(Recipient, node, iter.cur);

		if (recipient->alerts == NIL)
			continue;
		recipient->due = Max(recipient->due, recipient->next_try);
		if (recipient->last_mail != 0)
			recipient->due = Max(recipient->due, recipient->last_mail + delay_us());
		if (recipient->due <= now && (first == NULL || recipient->due < first->due))
			first = recipient;
		next_look = Min(next_look, recipient->due);
	}
	if (first != NULL)
		compose(first, now);
}

void
dmshook_mail_run(void)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter	iter;

	if (dmshook_transport_mail_ended())
		take_result(now);
	dlist_foreach(iter, &sent_list)
	{
		Sent	   *sent = dlist_container(Sent, node, iter.cur);

		sent->written = dmshook_store_alerts_sent(sent->ids, sent->n, sent->to);
	}
	if (!current.busy && dmshook_smtp_url[0] != '\0' && next_look <= now)
		look(now);
}

/* ------------------------------------------------------------------------
 * Sending
 * ------------------------------------------------------------------------ */

static void
forget_current(void)
{
	if (current.ids)
		pfree(current.ids);
	free(current.message);
	memset(&current, 0, sizeof(current));
}

/* A line user:password. NULL when fine; else what is wrong. */
static char *
read_password_file(char *buf, size_t size, char **user, char **password)
{
	const char *path = dmshook_smtp_password_file;
	size_t		len;
	char	   *problem = dmshook_private_file_read(path, "password file", buf, size, &len, NULL);

	*user = *password = NULL;
	if (problem)
		return problem;
	buf[strcspn(buf, "\r\n")] = '\0';
	*password = strchr(buf, ':');
	if (*password == NULL || *password == buf)
		return psprintf("password file \"%s\" has no line user:password", path);
	*(*password)++ = '\0';
	*user = buf;
	return NULL;
}

char *
dmshook_mail_password_problem(void)
{
	char		line[1024];
	char	   *user;
	char	   *password;
	char	   *problem = NULL;

	if (dmshook_smtp_password_file[0] != '\0')
		problem = read_password_file(line, sizeof(line), &user, &password);
	explicit_bzero(line, sizeof(line));
	return problem;
}

/* For dmshook.check(). error NULL: a mail went out. */
static void
tell(TimestampTz now, const char *error)
{
	DmshookStats *stats = dmshook_wake_my_stats();

	if (error == NULL)
		stats->mail_failing_since = 0;
	else if (stats->mail_failing_since == 0)
		stats->mail_failing_since = now;
	strlcpy(stats->mail_error, error ? error : "", sizeof(stats->mail_error));
}

static void
start(TimestampTz now)
{
	DmshookMail mail = {0};
	char		line[1024];
	char	   *user = NULL;
	char	   *password = NULL;
	const char *problem = NULL;
	bool		local = false;
	bool		tls = false;

	current.ready = false;
	problem = dmshook_mail_url(dmshook_smtp_url, &local, &tls);
	if (problem == NULL && dmshook_smtp_password_file[0] != '\0')
		problem = read_password_file(line, sizeof(line), &user, &password);
	if (problem == NULL)
	{
		mail.url = dmshook_smtp_url;
		mail.user = user;
		mail.password = password;
		/* a relay on this machine often has a certificate that nobody can check */
		mail.starttls = tls || !local || user != NULL;
		mail.from = current.from;
		mail.to = &current.to;
		mail.message = current.message;
		mail.len = current.len;
		current.message = NULL; /* taken over */
		if (dmshook_transport_mail_start(&mail))
			current.busy = true;
		else
			problem = "memory is short";
	}
	explicit_bzero(line, sizeof(line));
	if (problem)
	{
		failed(now, problem);
		forget_current();
	}
}

static void
failed(TimestampTz now, const char *error)
{
	Recipient  *recipient = current.recipient;
	int64		pause = delay_us();

	tell(now, error);
	for (int i = 0; i < recipient->failures && pause < MAX_PAUSE_US; i++)
		pause *= 2;
	recipient->failures++;
	recipient->next_try = now + Min(pause, MAX_PAUSE_US);
	next_look = now;
	if (recipient->failures >= MAX_TRIES)
	{
		for (int i = 0; i < current.n; i++)
			recipient->given_up = Max(recipient->given_up, current.ids[i]);
		recipient->failures = 0;
		ereport(WARNING,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("%d failure notifications were not mailed to %s", current.n, recipient->list),
				 errdetail("%d tries failed; the last one: %s", MAX_TRIES, error),
				 errhint("They stand in dmshook.alerts, without sent_to. A reload of the configuration has them tried again.")));
	}
	else if (recipient->failures == 1 && strcmp(logged, error) != 0)
	{
		ereport(WARNING,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("failure notifications could not be mailed to %s", recipient->list),
				 errdetail("%s", error),
				 errhint("dmshook tries it again %d times, with growing pauses. Look at dmshook.smtp_url, dmshook.smtp_password_file and dmshook.ca_file.", MAX_TRIES - 1)));
		strlcpy(logged, error, sizeof(logged));
		failing = true;
	}
}

/* The server has taken it: whom for? */
static void
succeeded(TimestampTz now, const DmshookMailResult *result)
{
	Recipient  *recipient = current.recipient;
	Sent	   *sent = MemoryContextAllocZero(mail_context, sizeof(Sent));
	StringInfoData to;
	StringInfoData refused;

	initStringInfo(&to);
	initStringInfo(&refused);
	for (int i = 0; i < current.to.n; i++)
	{
		StringInfo	list = (result->refused & (1u << i)) ? &refused : &to;

		appendStringInfo(list, "%s%s", list->len > 0 ? ", " : "", current.to.address[i]);
	}
	if (refused.len > 0)
		ereport(WARNING,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("failure notifications could not be mailed to %s", refused.data),
				 errdetail("%s", result->error)));
	if (failing)
		ereport(LOG, (errmsg("failure notifications can be mailed again")));
	tell(now, NULL);
	failing = false;
	logged[0] = '\0';
	recipient->failures = 0;
	recipient->next_try = 0;
	recipient->last_mail = now;
	if (current.exhausted)
		recipient->last_exhausted = now;
	sent->at = now;
	sent->to = MemoryContextStrdup(mail_context, to.data);
	sent->ids = current.ids;
	sent->n = current.n;
	current.ids = NULL;
	dlist_push_tail(&sent_list, &sent->node);
	next_look = now;
}

static void
take_result(TimestampTz now)
{
	DmshookMailResult result;

	dmshook_transport_mail_take(&result);
	if (result.ok)
		succeeded(now, &result);
	else
		failed(now, result.error);
	forget_current();
}

void
dmshook_mail_end(bool committed)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_mutable_iter iter;

	if (!committed)
	{
		if (!current.busy)
			forget_current();
		next_look = next_write = now + 60 * USECS_PER_SEC;
		return;
	}
	next_write = DT_NOEND;
	dlist_foreach_modify(iter, &sent_list)
	{
		Sent	   *sent = dlist_container(Sent, node, iter.cur);

		sent->n -= sent->written;
		memmove(sent->ids, sent->ids + sent->written, sizeof(int64) * sent->n);
		sent->written = 0;
		/* rows that are gone are never written */
		if (sent->n > 0 && now - sent->at < MAX_AGE_US)
		{
			next_write = now + LOCKED_US;
			continue;
		}
		dlist_delete(&sent->node);
		pfree(sent->to);
		pfree(sent->ids);
		pfree(sent);
	}
	if (current.ready)
		start(now);
}
