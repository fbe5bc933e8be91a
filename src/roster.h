/*
 * roster.h - the webhooks of a dispatcher in memory: configuration, endpoint,
 * keys, and who gets what. See roster.c.
 */
#ifndef DMSHOOK_ROSTER_H
#define DMSHOOK_ROSTER_H

#include "postgres.h"

#include "lib/ilist.h"

#include "agenda.h"
#include "cache.h"
#include "consumer.h"
#include "judge.h"
#include "mask.h"
#include "oauth.h"
#include "options.h"
#include "policy.h"
#include "signature.h"
#include "store.h"
#include "transport.h"

#define DMSHOOK_WINDOW_LEAST 4

/*
 * How requests of a webhook look: immutable, made anew when its configuration
 * changes; the old one lives until its last request has ended.
 */
typedef struct DmshookProfile
{
	int			refs;
	MemoryContext context;
	int			version;		/* webhook_version.id */
	DmshookEndpoint endpoint;
	DmshookOptions options;
	bool		has_body;		/* POST, PUT, PATCH */
	bool		url_has_query;
	char		name_header[DMSHOOK_HEADER_SIZE];
	DmshookKeys keys;
	DmshookMask *mask;			/* secrets not to be logged when they come back; NULL: none */
	DmshookOauth *oauth;		/* where access tokens come from; NULL: none are needed */
	char	   *transform_role; /* who calls options.transform */
	char	   *problem;		/* it cannot be used: why */
	char	   *problem_hint;	/* what to do; NULL: the usual */
} DmshookProfile;

typedef struct DmshookWebhook
{
	int			id;
	MemoryContext context;		/* of row; replaced at each load */
	DmshookWebhookRow *row;
	DmshookProfile *profile;
	DmshookConsumer *consumer;
	bool		ordered;		/* options.ordered, once the queue has been put in that order */
	TimestampTz ordered_at;		/* switched on then; DMSHOOK_TODO_ORDER while what was in flight has not all ended */
	bool		dropped;		/* to be removed when its consumer is no longer busy */
	int			window;
	bool		squeezed;		/* memory is short and it does not get on: the least window */
	int			committed;		/* results in one of the last commits, decaying */
	int			in_commit;		/* counts them during one */
	DmshookAgenda agenda;		/* what is to be done, and when */
	uint64		asked;			/* roster_types.c: the last event that it may want */
	TimestampTz due_from;		/* queue rows due before it have been picked */
	bool		due_blocked;	/* rows are due, but it may not send more now */
	bool		queue_turn;		/* limited: the last request was a retry's */
	DmshookPolicyState policy;
	bool		gated;			/* nothing may go until DMSHOOK_ALARM_GATE, or until a result of it */
	TimestampTz turn;			/* deliver.c: when it may begin another request, while it fails; 0: it has not asked */
	bool		to_disable;		/* its receiver says so; the row is still to be written */
	DmshookDigest exhausted;	/* notices of deliveries given up */
	int64		exhausted_event;	/* the last of them */
	int64		exhausted_nonce;
	int64		exhausted_written;	/* told in the current transaction; so the next */
	DmshookDigest expired;		/* notices of deliveries that waited too long */
	int64		expired_written;
	bool		disabled_written;
	int64		transform_us;	/* how long its transform takes, on average */
	bool		transform_slow; /* it is served by the second helper */
	DmshookJudge judge;			/* its filter's time */
	DmshookState state;
	int64		count_ok;		/* requests that ended and are not in webhook_count yet */
	int64		count_failed;
	int64		count_ok_written;	/* of these: in the current transaction; so the next */
	int64		count_failed_written;
	DmshookStoredPlace place;
	dlist_node	node;
} DmshookWebhook;

/* Dispatcher, once. */
extern void dmshook_roster_init(MemoryContext parent);

/*
 * Under S: load one webhook (0: all) from the tables. New ones get a consumer that begins
 * where `next` says (in a life that is under way, created: their first from_id - 1). At start: their
 * stored low, or high. Dropped ones are left as they are.
 */
extern void dmshook_roster_load(DmshookConsumers *set, int webhook, bool start, int64 last_value);

/* Load again all that are there: their secrets may be decrypted now, or not any more. Under S. */
extern void dmshook_roster_reload(DmshookConsumers *set);

extern DmshookWebhook *dmshook_roster_find(int webhook);

/* Walk: NULL starts, NULL ends. */
extern DmshookWebhook *dmshook_roster_iterate(DmshookWebhook *previous);

/* Forget a dropped one. */
extern void dmshook_roster_remove(DmshookWebhook *webhook);

/* Settings of its consumer: may it send, window, in flight. */
extern void dmshook_roster_apply(DmshookWebhook *webhook);

/* It may send no more for now: until then, or (0) as its policy says, which refused. */
extern void dmshook_roster_gate(DmshookWebhook *webhook, TimestampTz now, TimestampTz until);

/* A request of it ended, or was not made after all: its policy may say something else. */
extern void dmshook_roster_ask_again(DmshookWebhook *webhook);

/* The clock was set: times at which to ask again mean nothing any more. */
extern void dmshook_roster_clock_set(void);

/* Must a webhook whose policy lets it send wait for others' sake? Until when; 0: it need not (dmshook_deliver_hold()). */
typedef TimestampTz (*DmshookHold) (DmshookWebhook *webhook, TimestampTz now);

/*
 * Open the gates of those that may send again by now, and need not hold back. True: any was
 * opened. *queue_first: a turn is to come before anything else is sent, for one of them has retries that are due
 * and it is their turn: probes are theirs (dmshook_policy_probe_fresh()), and every other time where the rate
 * is limited, or a backlog would keep them waiting. Those of the rate only where may_turn.
 */
extern bool dmshook_roster_regate(TimestampTz now, bool may_turn, DmshookHold hold, bool *queue_first);

/* Queue rows are due, and it may not send more now: look again when it may; or no longer so. */
extern void dmshook_roster_block(DmshookWebhook *webhook, bool blocked);

/*
 * Is the event for the webhook, by the version that holds its id? While the event is being read,
 * inside its transaction; raises no error. A filter that fails, or is left to a helper, leaves a fault in the event and says yes:
 * the delivery ends as an attempt that says why.
 */
extern bool dmshook_roster_matches(DmshookWebhook *webhook, DmshookCached *event);

/* The version of the subscription that holds an event's id; NULL: none. */
extern const DmshookSubscription *dmshook_roster_version(const DmshookWebhook *webhook, int64 event);

/* Does the webhook, as it now is, subscribe to such events (enabled or not)? Otherwise the same. */
extern bool dmshook_roster_subscribes(DmshookWebhook *webhook, DmshookCached *event);

/*
 * A delivery out of the queue is about to be tried again: should its filter have failed, that is seen
 * (and mended, where the filter was altered since) here. by_hand: asked for by name, so a filter that now says no is no matter.
 */
extern void dmshook_roster_recheck(DmshookWebhook *webhook, DmshookCached *event, bool by_hand);

/*
 * roster_types.c: the webhooks that may want an event, each once; valid until the next call or load.
 * changed: a webhook was loaded, or has gone.
 */
extern void dmshook_roster_types_init(MemoryContext parent);
extern void dmshook_roster_types_changed(void);
extern int	dmshook_roster_candidates(const DmshookCached *event, DmshookConsumer ***list);
extern bool dmshook_roster_version_wants_type(const DmshookSubscription *version, DmshookSpan type);

/* roster_mask.c: fill in profile->mask, once its header lines are there; and wipe what it points to. */
extern void dmshook_roster_mask(DmshookProfile *profile, const DmshookWebhookRow *row);
extern void dmshook_roster_mask_wipe(DmshookProfile *profile);

extern void dmshook_profile_keep(DmshookProfile *profile);
extern void dmshook_profile_drop(DmshookProfile *profile);

#endif							/* DMSHOOK_ROSTER_H */
