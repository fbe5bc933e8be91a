/*
 * oauth.h - access tokens of webhooks whose auth is oauth2. See oauth.c.
 *
 * Runs in the dispatcher, outside transactions, but for dmshook_oauth_create().
 */
#ifndef DMSHOOK_OAUTH_H
#define DMSHOOK_OAUTH_H

#include "postgres.h"

#include "lib/ilist.h"
#include "utils/jsonb.h"

#include "transport.h"

typedef struct DmshookOauth DmshookOauth;

#define DMSHOOK_TOKEN_HEADER "authorization: Bearer "

/* A token, kept by those that send it. */
typedef struct DmshookToken
{
	int			refs;
	bool		renewal;		/* got because a receiver refused the one before */
	bool		accepted;		/* a receiver has answered something else than 401 to it */
	int64		got;			/* us, monotonic */
	int64		until;			/* so long it is used for what starts */
	char	   *line;			/* DMSHOOK_TOKEN_HEADER and the token */
} DmshookToken;

/* What came of asking for one. */
typedef struct DmshookOauthEnd
{
	dlist_head	waited;			/* nodes that dmshook_oauth_wait() was given, to be taken out */
	DmshookToken *token;		/* NULL: there is none, because: */
	DmshookOutcome outcome;
	char		error[512];
	const char *hint;			/* a constant */
} DmshookOauthEnd;

/*
 * In the current memory context, which is to live as long as it is used. endpoint: of the
 * webhook; timeouts and authorities are the same. serial: for an endpoint of its own. Raises errors.
 */
extern DmshookOauth *dmshook_oauth_create(Jsonb *auth, const DmshookEndpoint *endpoint, uint64 serial);

/* It goes: what is under way is ended, secrets are wiped. Nobody may be waiting. */
extern void dmshook_oauth_free(DmshookOauth *oauth);

/* The token to send, kept for the caller; NULL: wait for one. */
extern DmshookToken *dmshook_oauth_token(DmshookOauth *oauth);
extern void dmshook_token_drop(DmshookToken *token);

/* Wait for the next one. now: though it failed a moment ago (an admin asks). */
extern void dmshook_oauth_wait(DmshookOauth *oauth, dlist_node *node, bool now);

/* A receiver answered with this status to a token. True: 401, and it makes sense to send again with another token. */
extern bool dmshook_oauth_refused(DmshookOauth *oauth, DmshookToken *token, int status);

/* Ask for the tokens that somebody waits for, one request at a time for each webhook. */
extern void dmshook_oauth_run(void);

/* When dmshook_oauth_run() has something to do: monotonic us; PG_INT64_MAX: when something happens. */
extern int64 dmshook_oauth_due(void);

/* A transfer with ->token ended: what came of it; gives the transfer back. */
extern void dmshook_oauth_finished(DmshookTransfer *transfer, DmshookOauthEnd *end);

#endif							/* DMSHOOK_OAUTH_H */
