/*
 * deliver.h - from an open delivery to a request, and from its end to a row of
 * the log. See deliver.c.
 */
#ifndef DMSHOOK_DELIVER_H
#define DMSHOOK_DELIVER_H

#include "postgres.h"

#include "lib/ilist.h"

#include "consumer.h"
#include "log.h"
#include "roster.h"
#include "transport.h"
#include "wake.h"

/*
 * A request under way, and then what came of it until that is committed:
 * entry->data of a delivery; by itself for a test.
 */
typedef struct DmshookFlight
{
	DmshookWebhook *webhook;
	DmshookProfile *profile;
	DmshookCached *event;
	DmshookEntry *entry;		/* NULL: a test */
	bool		probe;			/* it tells whether an open circuit may close */
	int			ticket;			/* of a test */
	DmshookTransfer *transfer;	/* NULL: ended */
	DmshookAttempt attempt;		/* filled when it ended; its strings are in text */
	char	   *text;
	char	   *query;			/* where the URL has one of its own */
	char	   *body;			/* what the webhook's transform made; NULL: nothing (yet) */
	int			body_len;
	bool		judged;			/* a helper was asked whether it is for the webhook, and it is */
	DmshookToken *token;		/* the access token that goes with it; NULL: none (yet) */
	bool		renewed;		/* it was sent before, and the receiver refused the token of then */
	dlist_node	ready;			/* of those that wait for a token, or for a connection with token and body */
	dlist_node	node;			/* of all flights */
	struct DmshookFlight *next; /* ended tests */
} DmshookFlight;

/* Dispatcher, once. */
extern void dmshook_deliver_init(MemoryContext parent);

typedef enum DmshookStart
{
	DMSHOOK_STARTED,
	DMSHOOK_NO_CONNECTION,		/* none is free */
	DMSHOOK_NOT_NOW				/* its webhook may send no more for now; its gate is closed */
} DmshookStart;

/* Must the webhook wait with a further request, so that others are served? Until when; 0: it need not. What asks first saves itself reading what could not be sent. */
extern TimestampTz dmshook_deliver_hold(DmshookWebhook *webhook, TimestampTz now);

/* Does it begin its requests one by one, for it fails? */
extern bool dmshook_deliver_in_turn(const DmshookWebhook *webhook, TimestampTz now);

/* Send an entry that is flying; unless it was started, take it back. */
extern DmshookStart dmshook_deliver_start(DmshookEntry *entry);

/* A picked entry that was cancelled before it could be sent: it ends without a request. */
extern void dmshook_deliver_cancelled(DmshookEntry *entry);

/* Send a test; the event holds its body. Answered after its attempt was committed. False: as above. */
extern bool dmshook_deliver_start_test(DmshookWebhook *webhook, DmshookCached *event, int ticket);

/*
 * What helpers have answered, and those that waited for an access token: requests start, unless nothing may go out now. *rejected is set
 * where an entry has gone without a request, and without a result.
 */
extern void dmshook_deliver_prepared(bool open, bool *rejected);

/* A transfer ended: note the result, finish its entry, give the transfer back. */
extern void dmshook_deliver_finished(DmshookTransfer *transfer);

/* Ended tests, not committed yet; a list that the caller takes over. */
extern DmshookFlight *dmshook_deliver_take_tests(void);
extern bool dmshook_deliver_has_tests(void);

/* Is anything of the webhook under way, tests included? */
extern bool dmshook_deliver_busy(const DmshookWebhook *webhook);

/* Is a delivery of the webhook under way, or not committed, that started before a time? */
extern bool dmshook_deliver_busy_since(const DmshookWebhook *webhook, TimestampTz before);

/* Events were marked as erased: what has ended and is not committed yet forgets what it quotes of them, and so do all tests. */
extern void dmshook_deliver_erase(void);

/* It was committed (or is of no use any more). */
extern void dmshook_flight_free(DmshookFlight *flight);

/* A row that cannot be written as it is: without what the peer sent. */
extern void dmshook_flight_strip(DmshookFlight *flight);

#endif							/* DMSHOOK_DELIVER_H */
