/*
 * store.h - the SQL of the dispatcher: configuration, commands, queue,
 * positions. See store.c; attempts are in log.h.
 *
 * All of it runs in the dispatcher. Unless it says otherwise a function wants an
 * open transaction with an active snapshot: those that read use it, those that
 * write see what was committed when they are called. Results are
 * allocated in the context that is current at the call.
 */
#ifndef DMSHOOK_STORE_H
#define DMSHOOK_STORE_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"
#include "utils/jsonpath.h"
#include "utils/timestamp.h"

#define DMSHOOK_READER_POSITION	0	/* position.webhook of the reader */

/* One version of what a webhook subscribes to. */
typedef struct DmshookSubscription
{
	int64		from_id;
	int			nevents;
	char	  **events;			/* types and patterns */
	char	   *tenant;			/* NULL: any */
	char	   *filter;			/* NULL: none */
	bool		enabled;
	JsonPath   *path;			/* of the filter: the roster's, as the next; NULL: not compiled */
	char	   *filter_problem; /* it cannot be compiled: why */
} DmshookSubscription;

/* A signing secret; its kind is one of webhook_secret. */
typedef struct DmshookSecretRow
{
	char	   *kind;
	char	   *value;
	TimestampTz until;			/* DT_NOEND: it stays */
} DmshookSecretRow;

/* A webhook's configuration as it stands in the tables. */
typedef struct DmshookWebhookRow
{
	int			id;
	char	   *name;
	char	   *url;
	char	   *method;
	bool		enabled;
	bool		paused;
	int			version;
	Jsonb	   *options;
	char	   *transform_role; /* NULL: no transform */
	Jsonb	   *auth;			/* NULL: none */
	Jsonb	   *headers;		/* NULL: none */
	int			nsecrets;
	char	   *secret_problem; /* a secret cannot be decrypted: why; NULL: all can */
	const char *secret_hint;
	DmshookSecretRow *secrets;	/* those that sign, the newest first */
	int			nsubscriptions;
	DmshookSubscription *subscriptions; /* ascending: the last with from_id <= id counts */
	int64		low;			/* its position row; -1: none */
	int64		skip;			/* what waits up to here was cancelled; 0: nothing */
	/* from webhook_state */
	int64		delivered;
	int64		failed;
	int			failures;
	TimestampTz failing_since;	/* 0: NULL; so the next two */
	TimestampTz circuit_open_since;
	TimestampTz next_probe_at;
	int			probes;
} DmshookWebhookRow;

typedef struct DmshookCommand
{
	int64		id;
	int			webhook;		/* 0: none */
	char	   *kind;
	int64		event;			/* 0: none */
	int64		upto;			/* 0: none */
	Jsonb	   *args;
	char	   *by_role;
} DmshookCommand;

/* A row of the queue. */
typedef struct DmshookQueueRow
{
	int64		event;
	int			webhook;
	TimestampTz due_at;			/* DT_NOEND: parked (NULL in the table) */
	int			attempts;
	char		kind;			/* as attempt.kind */
	int64		command;
	uint64		entity;
	int			quick;
	int64		nonce;			/* of the event; set by dmshook_store_queue_cancel() only */
} DmshookQueueRow;

/* A place in the log that is written again and again, by remembered TID. */
typedef struct DmshookStoredPlace
{
	int			webhook;
	int64		low;			/* as stored; -1: no row */
	ItemPointerData tid;		/* invalid: not known */
} DmshookStoredPlace;

/* (event, webhook), sorted. */
typedef struct DmshookHandled
{
	int			n;
	struct DmshookHandledKey
	{
		int64		event;
		int			webhook;
	}		   *key;
} DmshookHandled;

/*
 * In a transaction of its own: is this database the one that may send? A
 * pg_upgraded cluster is recognized, and its row put right. When not, *copy says
 * whether it was restored or copied from another one; else dmshook was never
 * used in it.
 */
extern bool dmshook_store_claimed(bool *copy);

/*
 * At start: the stored low of the reader and the sequence's last value, after
 * putting right a sequence that is behind the log (then with an alert). Raises
 * an error when the sequence hands out ids in blocks.
 */
extern void dmshook_store_start(DmshookStoredPlace *reader, int64 *last_value);

/* The sequence's last value. */
extern int64 dmshook_store_last_value(void);

/* Ids above the sequence were found (inserted by hand): move it beyond them, with an alert. */
extern void dmshook_store_advance_sequence(int64 high);

/* The webhook (0: all), unless it is dropped, as DmshookWebhookRow, ascending. */
extern List *dmshook_store_webhooks(int webhook);

/* Is there an undone command? Under the active snapshot; an index probe without SPI. */
extern bool dmshook_store_has_commands(void);

/* The undone commands, oldest first, as DmshookCommand; and marking one done. */
extern List *dmshook_store_commands(void);
extern void dmshook_store_command_done(int64 id);

/* What of the ids from..upto has a final attempt or a queue row. */
extern DmshookHandled dmshook_store_handled(int64 from, int64 upto);
extern bool dmshook_handled_has(const DmshookHandled *handled, int64 event, int webhook);

/* Queue: a batch of rows is inserted, or updated where (event, webhook) is there; removed. */
extern void dmshook_store_queue_put(const DmshookQueueRow *rows, int n);
extern void dmshook_store_queue_remove(const DmshookQueueRow *rows, int n);

/* The rows of a webhook that have a due time >= from, earliest first, at most limit. */
extern List *dmshook_store_queue_due(int webhook, TimestampTz from, int limit);

/* Remove and return the rows that were marked as cancelled while in flight. */
extern List *dmshook_store_queue_cancelled(int webhook);

/* Ordered webhooks: all rows of an entity but the least lose their due time. */
extern void dmshook_store_queue_park(int webhook);

/* Ordered webhooks: how many rows each entity has (kind delivery), as DmshookQueueRow with attempts = count. */
extern List *dmshook_store_queue_entities(int webhook);

/*
 * Ordered webhooks: unless a row of the entity has a due time, its least
 * parked row becomes due. True when one did.
 */
extern bool dmshook_store_queue_promote(int webhook, uint64 entity, TimestampTz due_at);

/* The same for every entity of the webhook without a due row; or, not ordered any more, all of them. */
extern void dmshook_store_queue_promote_all(int webhook, TimestampTz due_at, bool every_row);

/*
 * The clock was set back: what is due later than now (retries, probes) is due that much
 * earlier. The caller forgets what it knows of these rows.
 */
extern void dmshook_store_move_times(TimestampTz now, int64 back_us);

/* By how much requests that are stored ended later than now (0: they did not): the clock was set back since, at least so far. */
extern int64 dmshook_store_ahead(TimestampTz now);

/*
 * Cancel the queue rows of a webhook up to an event (event_only: of that one
 * event): those of in_flight (n of them) are marked, the others removed and
 * returned, so that they get a final attempt.
 */
extern List *dmshook_store_queue_cancel(int webhook, int64 upto, bool event_only,
										const int64 *in_flight, int n);

/*
 * Remove and return deliveries of events older than a time, among the first `rows` of a
 * webhook; not those of in_flight (n of them), nor what is sent again by hand.
 */
extern List *dmshook_store_queue_expire(int webhook, TimestampTz than, const int64 *in_flight, int n, int rows);

/*
 * Queue what is final and not open: one event (0: all dead ones) of a webhook.
 * since: 0 or the least time of the last attempt. types: NULL or a text array.
 * Returns how many.
 */
extern int64 dmshook_store_redeliver(int webhook, int64 event, int64 command, Jsonb *args,
									 TimestampTz due_at);

/* The nonce of an event; false: there is no such event. */
extern bool dmshook_store_nonce(int64 event, int64 *nonce);

/* Has (event, webhook) a final attempt? */
extern bool dmshook_store_final(int64 event, int webhook);

/* Remember that what waits for a webhook up to an id was cancelled ("cancelled", "dropped", "expired"). */
extern void dmshook_store_skip(int webhook, int64 upto, const char *reason);

/* A replay under way: its row in position. */
typedef struct DmshookReplayRow
{
	int			webhook;
	int64		command;
	int64		low;
	int64		until;
	Jsonb	   *args;			/* of the command */
} DmshookReplayRow;

extern List *dmshook_store_replays(void);
extern void dmshook_store_replay_put(const DmshookReplayRow *row);
extern void dmshook_store_replay_move(int webhook, int64 command, int64 low);
extern void dmshook_store_replay_remove(int webhook, int64 command);	/* 0: all of the webhook */

/* What became of events of a webhook, ids in (after, upto], sorted. */
typedef struct DmshookPastKey
{
	int64		event;
	bool		final;			/* it has ended */
	bool		delivered;		/* well */
	bool		open;			/* it has a queue row */
	bool		by_command;		/* it has an attempt of that command */
} DmshookPastKey;

typedef struct DmshookPast
{
	int			n;
	DmshookPastKey *key;
} DmshookPast;

extern DmshookPast dmshook_store_past(int webhook, int64 after, int64 upto, int64 command);
extern const DmshookPastKey *dmshook_past_find(const DmshookPast *past, int64 event);

/*
 * Retention. Among the next `rows` events above an id: the last that is older than a
 * time; 0: none.
 */
extern int64 dmshook_store_last_older(int64 after, TimestampTz than, int rows);

/*
 * Look at the next `rows` events above *cursor, below all stored places: remove those that are
 * older than the one time (dead letters: the other) with their attempts; also commands long
 * done. Returns how many were looked at; *cursor is the last of them, *oldest the time of the first that stayed.
 */
extern int	dmshook_store_remove_old(int64 *cursor, TimestampTz than, TimestampTz dead_than, int rows, TimestampTz *oldest);

/*
 * Blank the next `rows` events above *cursor that are older than a time, with what was logged of
 * them; as dmshook_store_remove_old() otherwise.
 */
extern int	dmshook_store_blank_old(int64 *cursor, TimestampTz than, int rows, TimestampTz *oldest);

/* What a command 'erase' left for the dispatcher. False: not all yet. failed: ids of webhooks whose last error was one of theirs. told: events that are notices and were blanked, ntold of them. */
extern bool dmshook_store_erase_rest(Jsonb *args, List **failed, int64 **told, int *ntold);

/* Clean pages of what was erased, at most so many; how many are left. */
extern int64 dmshook_store_scrub(int pages);

/* Write place->low, or remove the row (low < 0). */
extern void dmshook_store_place(DmshookStoredPlace *place, int64 low);

/* Health of a webhook; tid as in DmshookStoredPlace. */
typedef struct DmshookState
{
	int			webhook;
	int64		delivered;
	int64		failed;
	int			failures;		/* in a row */
	TimestampTz failing_since;	/* 0: not failing; so the next two */
	TimestampTz circuit_open_since;
	TimestampTz next_probe_at;
	int			probes;
	TimestampTz last_success_at;
	TimestampTz last_failure_at;
	TimestampTz certificate_expires_at; /* 0: not looked at in this life; DT_NOEND: not known any more */
	char		last_error[384];
	char		last_hint[384];
	bool		quotes;			/* the error may quote data of an event */
	ItemPointerData tid;
} DmshookState;

extern void dmshook_store_state(DmshookState *state);

/* Requests of a webhook that ended, to be added to those of the five minutes that "at" is in. */
extern void dmshook_store_count(int webhook, TimestampTz at, int64 ok, int64 failed);

/*
 * What expired: deliveries of a webhook from after one id up to another that are neither queued nor ended
 * (its filters are not asked), and those of these queue rows; notices about webhooks are not counted.
 */
extern int64 dmshook_store_count_expired(int webhook, int64 after, int64 upto, List *rows);

/*
 * Disable a webhook; false: its row is locked by somebody's open transaction,
 * try again later.
 */
extern bool dmshook_store_disable(int webhook, const char *reason);

/* A failure notice to everybody who wants it: alert, NOTIFY, event. webhook 0: of none; detail is a JSON object. */
extern void dmshook_store_notice(int webhook, const char *kind, const char *detail);

/* Grows with each: somebody may want to look at the alerts. */
extern uint64 dmshook_store_alerts_written(void);

/* An alert that nobody was mailed. */
typedef struct DmshookAlertRow
{
	int64		id;
	TimestampTz at;
	int			webhook;		/* 0: none */
	char	   *name;			/* of the webhook; NULL: none */
	char	   *kind;
	Jsonb	   *detail;
} DmshookAlertRow;

/* Those since a time, the newest first, at most limit; not those of circuits, which "failing" and "recovered" tell. */
extern List *dmshook_store_alerts_unsent(TimestampTz since, int limit);

/*
 * Write sent_to. Rows that somebody has locked (dmshook.acknowledge) are left
 * out: returns how many were written, whose ids are then the first of the array.
 */
extern int	dmshook_store_alerts_sent(int64 *ids, int n, const char *sent_to);

#endif							/* DMSHOOK_STORE_H */
