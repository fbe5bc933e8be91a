/*
 * consumer.h - how each webhook consumes the log: its place, its window, its
 * late ids, its order. See consumer.c, and src/README.md for the rule.
 *
 * Pure: C library only, no server, no I/O, no clock. It is passive: the
 * dispatcher feeds it, asks it what to do, does that, and tells it what came of
 * it. One thread; no callback may call back into this file, except where it
 * says so. Nothing here raises an error. When memory runs out an entry is simply
 * not taken, as if there was no room: the place in the log stays, nothing is lost.
 *
 * The dispatcher's turn, in short (S is one snapshot, taken after the last
 * commit of results was told to dmshook_commit_end()):
 *
 *   under S: undone commands, configuration
 *     dmshook_reader_round: late row  -> dmshook_consumers_late()
 *                           fresh row -> dmshook_consumers_fresh()
 *     dmshook_consumers_set_looking(dmshook_reader_looking())
 *     each dmshook_consumers_next_hungry():
 *       dmshook_consumer_wants_late() -> fetch it -> dmshook_consumer_feed_late()
 *       dmshook_consumer_wants()      -> scan     -> dmshook_consumer_feed()..., dmshook_consumer_fed()
 *     each replay: dmshook_replay_wants() -> scan -> dmshook_replay_feed()..., dmshook_replay_fed()
 *   then, without a snapshot (WAL flushed):
 *     due queue rows: dmshook_consumer_pick();  others: dmshook_consumer_send()
 *     a transfer ended: dmshook_entry_finish()
 *   when results are due: dmshook_commit_begin(), SQL, COMMIT, dmshook_commit_end()
 *   once a second: dmshook_persist_begin(), SQL, COMMIT, dmshook_persist_end()
 */
#ifndef DMSHOOK_CONSUMER_H
#define DMSHOOK_CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DmshookConsumers DmshookConsumers;	/* all webhooks of a dispatcher */
typedef struct DmshookConsumer DmshookConsumer; /* a webhook */
typedef struct DmshookReplay DmshookReplay; /* a replay of a webhook, under way */

/* What is known here of an event. payload is the dispatcher's, opaque. */
typedef struct DmshookLogEvent
{
	int64_t		id;
	uint64_t	entity;			/* hash of entity and key */
	void	   *payload;
} DmshookLogEvent;

/*
 * What the dispatcher answers. alloc may return NULL and must not throw; free
 * gets what alloc returned. cookie is the one of dmshook_consumer_add().
 */
typedef struct DmshookConsumerCalls
{
	void	   *arg;
	void	   *(*alloc) (void *arg, size_t size);
	void		(*free) (void *arg, void *pointer);

	/* Is the event for this webhook, by the subscription version that holds its id, and not erased? */
	bool		(*matches) (void *arg, void *cookie, const DmshookLogEvent *event);

	/*
	 * Has the event, for this webhook, a final attempt or a queue row (of any
	 * kind), seen under S? Asked only for ids at or below the webhook's redo
	 * and after matches() said yes; ids mostly ascend, so one range scan of
	 * attempt and queue can answer for all webhooks and the next thousand ids.
	 */
	bool		(*handled) (void *arg, void *cookie, int64_t id);

	/*
	 * Optional (NULL: every webhook is asked by matches): webhooks that may want the
	 * event, a superset, each once; so that an event costs as many webhooks as
	 * want its type, not as many as there are. *list lives until the next call.
	 */
	int			(*candidates) (void *arg, const DmshookLogEvent *event, DmshookConsumer ***list);

	/* An entry now refers to the payload / no longer does. May be NULL. */
	void		(*keep) (void *arg, void *payload);
	void		(*drop) (void *arg, void *payload);
} DmshookConsumerCalls;

typedef enum DmshookEntryState
{
	DMSHOOK_PENDING,			/* waits for being sent */
	DMSHOOK_PARKING,			/* becomes a parked queue row at the next commit */
	DMSHOOK_FLYING,				/* handed out by send() or pick() */
	DMSHOOK_ENDED_OK,			/* ended, not committed yet; so the next two */
	DMSHOOK_FAILED,				/* to be tried again */
	DMSHOOK_DEAD				/* not to be tried again */
} DmshookEntryState;

typedef enum DmshookOrigin
{
	DMSHOOK_FROM_LOG,			/* window entry: has no queue row */
	DMSHOOK_FROM_QUEUE,			/* picked: has one */
	DMSHOOK_FROM_REPLAY			/* has none */
} DmshookOrigin;

/* What the commit writes for an ended entry. */
typedef enum DmshookFate
{
	DMSHOOK_FATE_DELIVERED,		/* attempt, final d; queue row (FROM_QUEUE) deleted */
	DMSHOOK_FATE_EXHAUSTED,		/* attempt, final x; queue row deleted */
	DMSHOOK_FATE_CANCELLED,		/* attempt, final c: failed, and cancelled meanwhile; queue row deleted */
	DMSHOOK_FATE_RETRY			/* attempt, not final; queue row inserted, or (FROM_QUEUE) updated, with its due time */
} DmshookFate;

/* An open delivery in memory. Read-only for the dispatcher but for the last four. */
typedef struct DmshookEntry
{
	int64_t		id;
	uint64_t	entity;
	void	   *payload;
	DmshookConsumer *consumer;
	DmshookReplay *replay;		/* FROM_REPLAY: whose; NULL when the replay was removed */
	DmshookEntryState state;
	DmshookOrigin origin;
	DmshookFate fate;			/* set by dmshook_commit_begin() */
	char		kind;			/* attempt.kind: 'd', 'r', 'y' */
	bool		cancelled;		/* if it fails, it is final */
	int64_t		command;		/* of redelivery and replay; else 0 */

	int			attempts;		/* the dispatcher's: made so far */
	int			quick;			/* the dispatcher's: of these, not counted by the plan */
	int64_t		due;			/* the dispatcher's: when to try again, FATE_RETRY */
	void	   *data;			/* the dispatcher's: its transfer, then its result; it frees it */

	/* consumer.c's */
	uint64_t	arrival;
	struct DmshookEntry *hash_next;
	struct DmshookEntry *all_prev,
			   *all_next;		/* of the webhook */
	struct DmshookEntry *list_prev,
			   *list_next;		/* ready or finished */
	struct DmshookEntry *entity_prev,
			   *entity_next;	/* same entity, by arrival */
	struct DmshookEntityQueue *owner;
	bool		listed;			/* is in the list of ready, or of finished, ones */
} DmshookEntry;

/* ---------------------------------------------------------------- the set */

/* high: the stored low R of the reader, where it starts. NULL: out of memory. */
extern DmshookConsumers *dmshook_consumers_create(const DmshookConsumerCalls *calls, int64_t high);

/* Drops everything; payloads are given back; data of entries is the dispatcher's. */
extern void dmshook_consumers_free(DmshookConsumers *set);

/*
 * A reader's round: rows found in gaps, ids ascending, oldest epoch first; then
 * rows above high, ascending, every one of them. Looking (dmshook_reader_looking()) is told
 * before each fresh one, for the reader knows it only after its look at the gaps, and again after
 * the round: while a look at gaps is open, ordered webhooks take nothing new.
 */
extern void dmshook_consumers_set_looking(DmshookConsumers *set, bool looking);
extern void dmshook_consumers_late(DmshookConsumers *set, const DmshookLogEvent *event);
extern void dmshook_consumers_fresh(DmshookConsumers *set, const DmshookLogEvent *event);
extern int64_t dmshook_consumers_high(const DmshookConsumers *set);

/* Memory for cached bodies ran out (false), or is there again. Nothing is taken meanwhile. */
extern void dmshook_consumers_set_room(DmshookConsumers *set, bool room);

/* Walk all webhooks: NULL starts, NULL ends. To remove one, first take the next. */
extern DmshookConsumer *dmshook_consumers_iterate(const DmshookConsumers *set, const DmshookConsumer *previous);
extern DmshookConsumer *dmshook_consumers_find(const DmshookConsumers *set, int webhook);

/* --------------------------------------------------------------- a webhook */

typedef struct DmshookConsumerSettings
{
	bool		may_send;		/* enabled, not paused, circuit closed: else nothing is sent and nothing new taken */
	bool		ordered;		/* one at a time per entity */
	int			window;			/* entries taken from the log and not yet committed, in all states */
	int			max_in_flight;	/* of all origins */
} DmshookConsumerSettings;

/*
 * Add a webhook.
 *  At start: next is its stored low, or R where it has no row; stored says
 *   whether it has one; redo is event_id's last_value; skip its skip.upto or 0.
 *   For an ordered one, dmshook_consumer_row_added() then counts each queue row.
 *  Later (created): next is its first from_id - 1, at most high; redo 0 (it has no past). Its row
 *   must be stored (persist) in the transaction that marks its command done.
 * NULL: out of memory.
 */
extern DmshookConsumer *dmshook_consumer_add(DmshookConsumers *set, int webhook, void *cookie,
											 int64_t next, int64_t redo, int64_t skip, bool stored);

/*
 * Forget a webhook (dropped and nothing of it is flying or finished; see
 * dmshook_consumer_busy()); replays too. Its rows in position are the caller's to delete.
 */
extern void dmshook_consumer_remove(DmshookConsumer *consumer);
extern bool dmshook_consumer_busy(const DmshookConsumer *consumer);

extern int	dmshook_consumer_webhook(const DmshookConsumer *consumer);
extern void *dmshook_consumer_cookie(const DmshookConsumer *consumer);

/*
 * Change settings at any time; starts with nothing allowed. ordered switched on:
 * before, the dispatcher has parked all queue rows of an entity (kind d) but the
 * least; after, it counts them with dmshook_consumer_row_added(). Switched off: before,
 * it has made all parked rows due. Entries that wait become parking or
 * pending by themselves. false: no memory for ordering: it is left unordered; try again.
 */
extern bool dmshook_consumer_set(DmshookConsumer *consumer, const DmshookConsumerSettings *settings);

/*
 * Read again from id + 1 on: what is done or open is not sent again. For a new subscription
 * version whose from_id is not above high (rewind to from_id - 1): it was committed later than
 * it says. Only to be made durable (persist) in the transaction that marks its command done.
 */
extern void dmshook_consumer_rewind(DmshookConsumer *consumer, int64_t id);

/* Give back the memory of all that is pending (a paused webhook): it is read again later. */
extern void dmshook_consumer_shed(DmshookConsumer *consumer);

/*
 * Behind the reader, or with late ids, and room: walk those webhooks fairly. Starts
 * after the one that was last returned in the previous walk; NULL: each was
 * returned once since dmshook_consumers_start_hungry().
 */
extern void dmshook_consumers_start_hungry(DmshookConsumers *set);
extern DmshookConsumer *dmshook_consumers_next_hungry(DmshookConsumers *set);

/* Would a walk return any? It is nobody's turn by that. */
extern bool dmshook_consumers_any_hungry(const DmshookConsumers *set);

/*
 * The least late id, if it is to be fetched now; else 0. The answer: the event, or NULL when it
 * is gone. Again until it says 0 (or the dispatcher's turn has been long enough).
 */
extern int64_t dmshook_consumer_wants_late(const DmshookConsumer *consumer);
extern void dmshook_consumer_feed_late(DmshookConsumer *consumer, int64_t id, const DmshookLogEvent *event);

/*
 * Behind: which ids are to be read, (*after, *upto], upto being high; and how many entries have
 * room (a hint for the scan's limit: more rows may be fed, for not all match). false: none now.
 * Then feed visible events that are not missing, ascending, every one in the
 * range; false: no room, it stands before this one, feed no more of this scan. In the end, if all
 * were eaten: fed(upto as dmshook_reader_scan() returned it).
 */
extern bool dmshook_consumer_wants(DmshookConsumer *consumer, int64_t *after, int64_t *upto, int *room);
extern bool dmshook_consumer_feed(DmshookConsumer *consumer, const DmshookLogEvent *event);
extern void dmshook_consumer_fed(DmshookConsumer *consumer, int64_t upto);

/* ----------------------------------------------------------------- sending */

/* Walk webhooks that have something to send now, fairly, as with hungry: call send() once (or a few times) on each. NULL: none. */
extern DmshookConsumer *dmshook_consumers_next_ready(DmshookConsumers *set);

/* The next entry to send (log or replay), now flying; NULL: none allowed. */
extern DmshookEntry *dmshook_consumer_send(DmshookConsumer *consumer);

/* It could not be started after all (no connection free): pending again, first in line. Not for picked ones: dmshook_entry_unpick(). */
extern void dmshook_entry_unsend(DmshookEntry *entry);

/*
 * A queue row that is due and not cancelled: now flying; NULL when it may not be sent now (not
 * allowed, too many in flight, or this event is in flight; ask again later). kind, command and attempts are the row's.
 */
extern DmshookEntry *dmshook_consumer_pick(DmshookConsumer *consumer, const DmshookLogEvent *event,
										   char kind, int64_t command, int attempts);

/*
 * It could not be started: its row is due as before. Not one that was cancelled meanwhile
 * (entry->cancelled: its row is marked and will not be picked again): that one is to be finished as FAILED,
 * with an attempt that made no request.
 */
extern void dmshook_entry_unpick(DmshookEntry *entry);

/* Has it read the event, and holds nothing of it? Then nothing of it will come by itself. */
extern bool dmshook_consumer_passed(const DmshookConsumer *consumer, int64_t id);

/*
 * Ids of all entries that have a queue row and are held (picked, in flight, or ended and not
 * committed), at most max of them to ids; returns how many there are. cancel and cancel_all mark
 * these rows and delete none of them, also before their requests have begun.
 */
extern int	dmshook_consumer_picked(const DmshookConsumer *consumer, int64_t *ids, int max);

/* May one more be sent (settings, in flight)? */
extern bool dmshook_consumer_may_send(const DmshookConsumer *consumer);

/*
 * One from the log or of a replay flew only to be judged, and is not for the webhook: it goes as if matches() had said so.
 * Should it be read again, it is judged again. A picked one has a row, and is to be finished as FAILED, cancelled.
 */
extern void dmshook_entry_reject(DmshookEntry *entry);

/* A flying one ended: state is OK, FAILED (due set by the dispatcher) or DEAD. */
extern void dmshook_entry_finish(DmshookEntry *entry, DmshookEntryState state);

/* ------------------------------------------------------------ group commit */

typedef struct DmshookEntityRef
{
	DmshookConsumer *consumer;
	uint64_t	entity;
} DmshookEntityRef;

/*
 * What one transaction is to write, in this order:
 *  results: as their fate says (attempts = made so far, now including this one);
 *  parks: queue rows with due_at NULL, kind 'd', attempts 0: all of an entity;
 *  promotes: where the entity has no queue row of kind 'd' with a due_at: the least of its
 *    parked ones (by event id) becomes due now.
 */
typedef struct DmshookCommit
{
	DmshookEntry **results;
	int			nresults;
	DmshookEntry **parks;
	int			nparks;
	DmshookEntityRef *promotes;
	int			npromotes;
} DmshookCommit;

/* How many ended entries wait for a commit, and is there anything to be written (results or parks)? */
extern int	dmshook_consumers_finished(const DmshookConsumers *set);
extern bool dmshook_consumers_dirty(const DmshookConsumers *set);

/*
 * Begin: at most max results, oldest first (and parks, at most about as many, at least
 * one entity). No other call of this file until end. End with committed: the entries are
 * freed (data must have been taken by the caller), followers may go. Not committed: everything is as
 * it was; begin again with fewer (half), down to 1; the one that cannot be logged
 * is then to be made loggable by the caller, or put last by dmshook_entry_postpone().
 * NULL: nothing to write (or no memory: try again).
 */
extern const DmshookCommit *dmshook_commit_begin(DmshookConsumers *set, int max);
extern void dmshook_commit_end(DmshookConsumers *set, bool committed);
extern void dmshook_entry_postpone(DmshookEntry *entry);

/*
 * An ended entry that cannot be logged, while others can: no commit has it until it is taken back,
 * then the next one has it first. It stays in its window, and low below it. Not between begin and end.
 */
extern void dmshook_entry_set_aside(DmshookEntry *entry);
extern void dmshook_entry_take_back(DmshookEntry *entry);

/*
 * Queue rows of kind 'd' that appear or go outside a commit (start, commands, ordering
 * switched), told after their transaction committed. No-ops where it is not ordered. false: out of memory, the
 * count is not kept: restart the dispatcher.
 */
extern bool dmshook_consumer_row_added(DmshookConsumer *consumer, uint64_t entity);
extern void dmshook_consumer_row_removed(DmshookConsumer *consumer, uint64_t entity);

/* ---------------------------------------------------------------- commands */

/*
 * Where is it? For the SQL of commands: see dmshook_consumer_cancel(). redeliver: only when
 * HELD_NOT (else leave the command undone until it is), there is a final attempt and no queue row.
 */
typedef enum DmshookHeld
{
	DMSHOOK_HELD_NOT,
	DMSHOOK_HELD_WAITING,		/* pending or parking: from the log or a replay */
	DMSHOOK_HELD_FLYING,		/* in flight or ended, without a queue row */
	DMSHOOK_HELD_PICKED			/* in flight or ended, with a queue row */
} DmshookHeld;

/* entry: the entry, where it is held; may be NULL. A late id is not held. */
extern DmshookHeld dmshook_consumer_held(const DmshookConsumer *consumer, int64_t id, DmshookEntry **entry);

/*
 * cancel(e). The transaction: PICKED: queue.cancelled = true. Else, a queue row: final c, row
 * deleted, entity promoted (and row_removed()). Else, no final attempt, or held by a replay: a final c attempt
 * (of the replay's command then). After COMMIT this call.
 */
extern void dmshook_consumer_cancel(DmshookConsumer *consumer, int64_t id);

/*
 * cancel_all. The transaction: skip row = upto (last_value of event_id when it was asked, at most
 * what the command says); queue rows <= upto: those held PICKED marked, the others final c, deleted; entities promoted;
 * replays of this webhook end (their position rows deleted). After COMMIT, row_removed() for each deleted row and
 * this call, which also removes the replays. Also for expiry (upto = the last expired id)
 * with replays = false.
 */
extern void dmshook_consumer_cancel_all(DmshookConsumer *consumer, int64_t upto, bool replays);

/* drop = may_send false and cancel_all(INT64_MAX); remove it when it is no longer busy. */

/* What cancel_all would drop: pending, parking and late ones <= upto; for the returned count. */
extern int64_t dmshook_consumer_waiting(const DmshookConsumer *consumer, int64_t upto);

/* ------------------------------------------------------------------ replay */

/*
 * until: as stored; for a new one the webhook's dmshook_consumer_next() (and at most what was asked
 * for). low: as stored, or where it begins. NULL: out of memory.
 */
extern DmshookReplay *dmshook_replay_add(DmshookConsumer *consumer, int64_t command, int64_t low,
										 int64_t until, void *cookie);

/* Its entries that wait are dropped; what flies ends by itself, as cancelled if it fails. */
extern void dmshook_replay_remove(DmshookReplay *replay);
extern DmshookReplay *dmshook_replay_iterate(const DmshookConsumer *consumer, const DmshookReplay *previous);
extern int64_t dmshook_replay_command(const DmshookReplay *replay);
extern void *dmshook_replay_cookie(const DmshookReplay *replay);

/*
 * As wants, feed, fed of a webhook. The caller feeds only what the replay asks for (types, time), that has a final
 * attempt, no queue row, and no attempt with this command, under S; what is held in memory is left out here.
 */
extern bool dmshook_replay_wants(DmshookReplay *replay, int64_t *after, int64_t *upto, int *room);
extern bool dmshook_replay_feed(DmshookReplay *replay, const DmshookLogEvent *event);
extern void dmshook_replay_fed(DmshookReplay *replay, int64_t upto);

/* Everything sent and committed: delete its position row, then remove it. */
extern bool dmshook_replay_done(const DmshookReplay *replay);

/* Where it would start again: for its position row. */
extern int64_t dmshook_replay_low(const DmshookReplay *replay);

/* ----------------------------------------------------------------- persist */

typedef struct DmshookPlace
{
	DmshookConsumer *consumer;
	bool		store;			/* write its row; false: delete it */
	int64_t		low;
} DmshookPlace;

typedef struct DmshookPersist
{
	int64_t		low;			/* the reader's R' */
	bool		low_changed;
	DmshookPlace *places;		/* rows to write or delete, only those that changed */
	int			nplaces;
} DmshookPersist;

/*
 * At most once a second, not between commit_begin and commit_end; one transaction for all
 * (replays' lows: dmshook_replay_low()). reader_low: dmshook_reader_low(), now. all: a row for every webhook that
 * changed, also where it is not behind (the number of dispatchers is about to change).
 * NULL: nothing to write.
 */
extern const DmshookPersist *dmshook_persist_begin(DmshookConsumers *set, int64_t reader_low, bool all);
extern void dmshook_persist_end(DmshookConsumers *set, bool committed);

/* -------------------------------------------------------------- statistics */

extern int64_t dmshook_consumer_next(const DmshookConsumer *consumer);
extern int64_t dmshook_consumer_low(const DmshookConsumer *consumer);
extern int64_t dmshook_consumer_redo(const DmshookConsumer *consumer);
extern int64_t dmshook_consumer_skip(const DmshookConsumer *consumer);
extern bool dmshook_consumer_live(const DmshookConsumer *consumer); /* next is the reader's high */
extern int	dmshook_consumer_window(const DmshookConsumer *consumer);	/* entries from the log */
extern int	dmshook_consumer_flying(const DmshookConsumer *consumer);	/* of all origins */
extern int	dmshook_consumer_late_count(const DmshookConsumer *consumer);
extern int	dmshook_consumers_flying(const DmshookConsumers *set);
extern int	dmshook_consumers_waiting(const DmshookConsumers *set); /* entries from the log that are not under way */

#endif							/* DMSHOOK_CONSUMER_H */
