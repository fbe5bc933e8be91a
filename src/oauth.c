/*
 * oauth.c - OAuth 2.0 access tokens (RFC 6749, 4.4: client credentials) for
 * webhooks whose auth is oauth2.
 *
 * Runs in the dispatcher, outside transactions; nothing here waits. A webhook's profile has
 * one of these. Deliveries that find no token wait in its list, with their place in the
 * webhook's window; one request for all of them goes through the multi handle of
 * all requests, so guard, URL rules, authorities and limits are those of any
 * request. Its end serves them all: with the token, or with the same failure. After
 * a failure the endpoint is left alone for a pause that grows from FIRST_PAUSE_US
 * to MAX_PAUSE_US; who comes meanwhile waits.
 *
 * A token is used until shortly before it ends. It is in memory only, and goes with
 * the profile. A receiver that refuses one (401) makes it be forgotten and another fetched;
 * a receiver that refuses that, too, gets no third within RENEW_AGAIN_US.
 *
 * What never happens here: a redirect followed, a token or secret in an error or a
 * log. What a token endpoint says about a failure is shown, but for secrets that it repeats.
 */
#include "postgres.h"

#include <time.h>

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "auth.h"
#include "mask.h"
#include "oauth.h"
#include "oauth_answer.h"

#define FIRST_PAUSE_US	INT64CONST(1000000)
#define MAX_PAUSE_US	INT64CONST(10000000)
#define MAX_RETRY_AFTER_US	INT64CONST(30000000)	/* who waits holds a place in the window */
#define NO_CONNECTION_US	INT64CONST(20000)
#define RENEW_AGAIN_US	INT64CONST(10000000)
#define DEFAULT_LIFE_S	300		/* of a token whose endpoint does not say */
#define MAX_LIFE_S		86400
#define SPARE_S			60		/* before its end a token is used no more; a fifth of its life at most */
#define MAX_ANSWER		65536

struct DmshookOauth
{
	DmshookEndpoint endpoint;
	MemoryContext context;
	char	   *host;			/* for messages */
	char	   *body;
	char	   *secret[3];		/* as typed, percent-encoded, and in base64: never to be shown */
	DmshookToken *token;		/* NULL: none */
	bool		renewal;		/* the next one is, because the last was refused */
	bool		asking;			/* a request is under way */
	int			failures;		/* in a row */
	int64		not_before;		/* us: the next request */
	dlist_head	waiting;
	bool		listed;
	dlist_node	node;			/* of needed */
};

/* Those that somebody waits for. */
static dlist_head needed = DLIST_STATIC_INIT(needed);

static int64
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
wipe(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
}

/* ------------------------------------------------------------------------
 * One of them
 * ------------------------------------------------------------------------ */

/* application/x-www-form-urlencoded, but with %20 for a space: every server reads that. */
static char *
encoded(const char *text)
{
	StringInfoData buf;

	initStringInfo(&buf);
	enlargeStringInfo(&buf, 3 * strlen(text));
	for (const unsigned char *c = (const unsigned char *) text; *c; c++)
	{
		if ((*c >= '0' && *c <= '9') || ((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z') || strchr("-._~", *c) != NULL)
			appendStringInfoChar(&buf, *c);
		else
			appendStringInfo(&buf, "%%%02X", *c);
	}
	return buf.data;
}

/* Both as they are encoded; NULL: they go in a header. */
static char *
make_body(Jsonb *auth, const char *id, const char *secret)
{
	char	   *scope = dmshook_auth_member(auth, "scope");
	char	   *audience = dmshook_auth_member(auth, "audience");
	StringInfoData buf;

	initStringInfo(&buf);
	/* room at once, so that no piece with a secret is left behind */
	enlargeStringInfo(&buf, 128 + (id ? strlen(id) + strlen(secret) : 0) + 3 * ((scope ? strlen(scope) : 0) + (audience ? strlen(audience) : 0)));
	appendStringInfoString(&buf, "grant_type=client_credentials");
	if (scope)
		appendStringInfo(&buf, "&scope=%s", encoded(scope));
	if (audience)
		appendStringInfo(&buf, "&audience=%s", encoded(audience));
	if (id)
		appendStringInfo(&buf, "&client_id=%s&client_secret=%s", id, secret);
	return buf.data;
}

/* The host of a URL that was checked: what is between :// and port, path or query. */
static char *
host_of(const char *url)
{
	const char *host = strstr(url, "://") + 3;
	size_t		len = strcspn(host, "/?");

	if (host[0] == '[')
		len = strcspn(host, "]") + 1;
	else
		len = Min(len, strcspn(host, ":"));
	return pnstrdup(host, len);
}

DmshookOauth *
dmshook_oauth_create(Jsonb *auth, const DmshookEndpoint *webhook, uint64 serial)
{
	DmshookOauth *oauth = palloc0(sizeof(DmshookOauth));
	DmshookEndpoint *endpoint = &oauth->endpoint;
	char	   *how;
	char	   *id;
	char	   *basic;
	bool		in_body;
	int			n = 0;

	(void) dmshook_auth_check(auth);
	dlist_init(&oauth->waiting);
	oauth->context = CurrentMemoryContext;
	endpoint->serial = serial;
	endpoint->url = dmshook_auth_member(auth, "token_url");
	endpoint->method = "POST";
	endpoint->timeout = webhook->timeout;
	endpoint->connect_timeout = webhook->connect_timeout;
	endpoint->http_version = 11;
	endpoint->ca_certificate = webhook->ca_certificate;
	endpoint->private_response = MAX_ANSWER;
	dmshook_status_list_parse("200-299", &endpoint->success, NULL);
	oauth->host = host_of(endpoint->url);

	/* RFC 6749, 2.3.1: both are form-encoded before they become a user name and a password */
	id = encoded(dmshook_auth_member(auth, "client_id"));
	oauth->secret[0] = dmshook_auth_member(auth, "client_secret");
	oauth->secret[1] = encoded(oauth->secret[0]);
	basic = dmshook_auth_basic(id, oauth->secret[1]);
	oauth->secret[2] = pstrdup(basic + strlen("Basic "));
	how = dmshook_auth_member(auth, "client_auth");
	in_body = how != NULL && strcmp(how, "body") == 0;
	endpoint->headers = palloc0(sizeof(char *) * 3);
	endpoint->headers[n++] = "content-type: application/x-www-form-urlencoded";
	endpoint->headers[n++] = "accept: application/json";
	if (!in_body)
		endpoint->headers[n++] = psprintf("authorization: %s", basic);
	endpoint->nheaders = n;
	wipe(basic);
	oauth->body = make_body(auth, in_body ? id : NULL, oauth->secret[1]);
	return oauth;
}

static bool
is_ours(DmshookTransfer *transfer, void *arg)
{
	return transfer->token && transfer->owner == arg;
}

void
dmshook_oauth_free(DmshookOauth *oauth)
{
	Assert(dlist_is_empty(&oauth->waiting));
	if (oauth->asking)
		dmshook_transport_abort(is_ours, oauth);
	if (oauth->listed)
		dlist_delete(&oauth->node);
	dmshook_transport_forget(oauth->endpoint.serial);
	if (oauth->token)
		dmshook_token_drop(oauth->token);
	for (int i = 0; i < (int) lengthof(oauth->secret); i++)
		wipe(oauth->secret[i]);
	wipe(oauth->body);
	if (oauth->endpoint.nheaders > 2)
		wipe(unconstify(char *, oauth->endpoint.headers[2]));
}

/* ------------------------------------------------------------------------
 * Tokens, and who waits for them
 * ------------------------------------------------------------------------ */

void
dmshook_token_drop(DmshookToken *token)
{
	Assert(token->refs > 0);
	if (--token->refs > 0)
		return;
	wipe(token->line);
	pfree(token->line);
	pfree(token);
}

static void
forget(DmshookOauth *oauth)
{
	if (oauth->token)
		dmshook_token_drop(oauth->token);
	oauth->token = NULL;
}

DmshookToken *
dmshook_oauth_token(DmshookOauth *oauth)
{
	if (oauth->token == NULL || now_us() >= oauth->token->until)
		return NULL;
	oauth->token->refs++;
	return oauth->token;
}

void
dmshook_oauth_wait(DmshookOauth *oauth, dlist_node *node, bool now)
{
	dlist_push_tail(&oauth->waiting, node);
	if (now)
		oauth->not_before = 0;
	if (!oauth->listed)
		dlist_push_tail(&needed, &oauth->node);
	oauth->listed = true;
}

bool
dmshook_oauth_refused(DmshookOauth *oauth, DmshookToken *token, int status)
{
	if (status != 401)
	{
		token->accepted |= status != 0;
		return false;
	}
	/* a new one was refused like the one before: it is not the token */
	if (token->renewal && !token->accepted && now_us() - token->got < RENEW_AGAIN_US)
		return false;
	if (oauth->token == token)
	{
		forget(oauth);
		oauth->renewal = true;
	}
	return true;
}

static void
ask(DmshookOauth *oauth)
{
	DmshookTransfer *transfer = dmshook_transport_get(&oauth->endpoint);

	if (transfer == NULL)
	{
		oauth->not_before = now_us() + NO_CONNECTION_US;
		return;
	}
	transfer->body = oauth->body;
	transfer->body_len = strlen(oauth->body);
	transfer->owner = oauth;
	transfer->token = true;
	oauth->asking = true;
	dmshook_transport_start(transfer);
}

void
dmshook_oauth_run(void)
{
	int64		now;
	dlist_iter	iter;

	if (dlist_is_empty(&needed))
		return;
	now = now_us();
	dlist_foreach(iter, &needed)
	{
		DmshookOauth *oauth = dlist_container(DmshookOauth, node, iter.cur);

		if (!oauth->asking && now >= oauth->not_before)
			ask(oauth);
	}
}

int64
dmshook_oauth_due(void)
{
	int64		due = PG_INT64_MAX;
	dlist_iter	iter;

	dlist_foreach(iter, &needed)
	{
		DmshookOauth *oauth = dlist_container(DmshookOauth, node, iter.cur);

		if (!oauth->asking)
			due = Min(due, oauth->not_before);
	}
	return due;
}

/* ------------------------------------------------------------------------
 * What the token endpoint answered
 * ------------------------------------------------------------------------ */

static void
			fail(DmshookOauthEnd *end, DmshookOutcome outcome, const char *hint, const char *error,...) pg_attribute_printf(4, 5);

static void
fail(DmshookOauthEnd *end, DmshookOutcome outcome, const char *hint, const char *error,...)
{
	va_list		args;

	end->outcome = outcome;
	end->hint = hint;
	va_start(args, error);
	vsnprintf(end->error, sizeof(end->error), error, args);
	va_end(args);
}

/* " (invalid_client: Unknown client)", or less; without secrets that it repeats. */
static void
in_its_words(DmshookOauth *oauth, DmshookTokenAnswer *answer, char *out, size_t size)
{
	DmshookMask mask = {0};

	out[0] = '\0';
	if (answer->error[0] == '\0')
		return;
	for (int i = 0; i < (int) lengthof(oauth->secret); i++)
		dmshook_mask_add(&mask, oauth->secret[i], strlen(oauth->secret[i]));
	dmshook_mask_apply(&mask, answer->error, strlen(answer->error));
	dmshook_mask_apply(&mask, answer->description, strlen(answer->description));
	snprintf(out, size, " (%s%s%s)", answer->error, answer->description[0] ? ": " : "", answer->description);
}

/* No response that counts: what any request may meet. */
static void
explain_transport(DmshookOauth *oauth, const DmshookTransfer *transfer, DmshookOauthEnd *end)
{
	const char *hint = "See the server log, and the log of the token endpoint.";

	switch (transfer->outcome)
	{
		case DMSHOOK_DNS_ERROR:
			hint = "Check the host in the token_url of auth, and the name resolution of the database server (getent hosts NAME).";
			break;
		case DMSHOOK_CONNECT_ERROR:
		case DMSHOOK_TIMEOUT:
		case DMSHOOK_PROTOCOL_ERROR:
			hint = "It is the token endpoint that fails, not the receiver: check the token_url of auth, and that the database server may connect to it.";
			break;
		case DMSHOOK_TLS_ERROR:
			hint = "It is the token endpoint that fails, not the receiver. The option ca_certificate counts for it, too: it may name several authorities.";
			break;
		case DMSHOOK_BLOCKED_ADDRESS:
			hint = "The token_url of auth is under the rules of any URL: a superuser opens a network with dmshook.allowed_networks.";
			break;
		case DMSHOOK_REDIRECT:
			hint = "Redirects are not followed: set token_url in auth to where the token endpoint really is.";
			break;
		default:
			break;
	}
	fail(end, transfer->outcome, hint, "No access token from %s. %s", oauth->host, transfer->error);
}

static void
explain_status(DmshookOauth *oauth, const DmshookTransfer *transfer, DmshookTokenAnswer *answer, DmshookOauthEnd *end)
{
	const char *hint = "It is the token endpoint that fails, not the receiver: look there. It is asked again.";
	char		words[sizeof(answer->error) + sizeof(answer->description) + 64];

	in_its_words(oauth, answer, words, sizeof(words));
	if (strcmp(answer->error, "invalid_scope") == 0)
		hint = "Check scope (and audience) in auth.";
	else if (strcmp(answer->error, "unauthorized_client") == 0 || strcmp(answer->error, "unsupported_grant_type") == 0)
		hint = "The client must be allowed the grant client_credentials where it is registered.";
	else if (strcmp(answer->error, "invalid_client") == 0 || transfer->status == 401 || transfer->status == 403)
		hint = "Check client_id and client_secret in auth; some servers want \"client_auth\": \"body\".";
	else if (transfer->status == 404 || transfer->status == 405)
		hint = "Check token_url in auth.";
	else if (transfer->status >= 400 && transfer->status < 500)
		hint = "Check scope and audience in auth; some servers want \"client_auth\": \"body\".";
	fail(end, DMSHOOK_HTTP_ERROR, hint, "No access token: the token endpoint at %s answered %d%s.", oauth->host, transfer->status, words);
}

/* A status of success: is there a token that can be used? */
static void
take_token(DmshookOauth *oauth, DmshookTokenAnswer *answer, int status, DmshookOauthEnd *end)
{
	static const char *const not_one = "Check token_url in auth: it must be an OAuth 2.0 token endpoint that grants client_credentials.";
	int64		life = answer->expires_in < 0 ? DEFAULT_LIFE_S : Min(answer->expires_in, MAX_LIFE_S);
	int64		now = now_us();
	DmshookToken *token;

	if (answer->token[0] == '\0')
	{
		char		words[sizeof(answer->error) + sizeof(answer->description) + 64];

		in_its_words(oauth, answer, words, sizeof(words));
		fail(end, DMSHOOK_PROTOCOL_ERROR, not_one, "No access token: the answer %d of the token endpoint at %s has none%s.", status, oauth->host, words);
		return;
	}
	if (answer->type[0] != '\0' && pg_strcasecmp(answer->type, "bearer") != 0)
	{
		fail(end, DMSHOOK_PROTOCOL_ERROR, "Ask for bearer tokens where the client is registered.",
			 "No access token: the token endpoint at %s gives tokens of another type than bearer.", oauth->host);
		return;
	}
	if (answer->unfit || !dmshook_oauth_token_fit(answer->token))
	{
		fail(end, DMSHOOK_PROTOCOL_ERROR, not_one, "No access token: that of the token endpoint at %s is too long, or not fit for a header.", oauth->host);
		return;
	}
	token = MemoryContextAllocZero(oauth->context, sizeof(DmshookToken));
	token->line = MemoryContextAlloc(oauth->context, strlen(answer->token) + 32);
	sprintf(token->line, DMSHOOK_TOKEN_HEADER "%s", answer->token);
	token->refs = 1;
	token->renewal = oauth->renewal;
	token->got = now;
	token->until = now + life * 1000000 - Min(life * 1000000 / 5, SPARE_S * INT64CONST(1000000));
	forget(oauth);
	oauth->token = token;
	end->token = token;
}

static void
judge(DmshookOauth *oauth, const DmshookTransfer *transfer, DmshookOauthEnd *end)
{
	DmshookTokenAnswer answer;
	bool		read;

	if (transfer->outcome != DMSHOOK_OK && transfer->outcome != DMSHOOK_HTTP_ERROR)
	{
		explain_transport(oauth, transfer, end);
		return;
	}
	read = dmshook_oauth_answer(transfer->response_body ? transfer->response_body : "", transfer->response_body_len, &answer);
	if (transfer->outcome == DMSHOOK_HTTP_ERROR)
		explain_status(oauth, transfer, &answer, end);
	else if (!read)
		fail(end, DMSHOOK_PROTOCOL_ERROR, "Check token_url in auth: it must be an OAuth 2.0 token endpoint that grants client_credentials.",
			 "No access token: the token endpoint at %s answered %d with something else than a JSON object.", oauth->host, transfer->status);
	else
		take_token(oauth, &answer, transfer->status, end);
	explicit_bzero(&answer, sizeof(answer));
}

static void
pause_after_failure(DmshookOauth *oauth, int64 retry_after_ms)
{
	int64		pause = Min(FIRST_PAUSE_US << Min(oauth->failures, 10), MAX_PAUSE_US);

	oauth->failures++;
	if (retry_after_ms > 0)
		pause = Max(pause, Min(retry_after_ms * 1000, MAX_RETRY_AFTER_US));
	oauth->not_before = now_us() + pause;
}

void
dmshook_oauth_finished(DmshookTransfer *transfer, DmshookOauthEnd *end)
{
	DmshookOauth *oauth = transfer->owner;

	memset(end, 0, sizeof(*end));
	dlist_init(&end->waited);
	judge(oauth, transfer, end);
	oauth->asking = false;
	if (end->token)
	{
		oauth->failures = 0;
		oauth->not_before = 0;
		oauth->renewal = false;
	}
	else
		pause_after_failure(oauth, transfer->retry_after_ms);
	while (!dlist_is_empty(&oauth->waiting))
		dlist_push_tail(&end->waited, dlist_pop_head_node(&oauth->waiting));
	if (oauth->listed)
		dlist_delete(&oauth->node);
	oauth->listed = false;
	dmshook_transport_put(transfer);
}
