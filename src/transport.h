/*
 * transport.h - HTTPS requests, many at a time, without waiting. See
 * transport.c, the only file that includes curl.
 *
 * Runs in the dispatcher (and, for dmshook_url_check, in any backend).
 */
#ifndef DMSHOOK_TRANSPORT_H
#define DMSHOOK_TRANSPORT_H

#include "postgres.h"

#include "schedule.h"

/*
 * Where to and how: one for each version of a webhook's configuration,
 * immutable. The caller owns it and keeps it until no transfer refers to it.
 */
typedef struct DmshookEndpoint
{
	uint64		serial;			/* unique in this process: a handle that last served another one is set up again */
	const char *url;
	const char *method;			/* POST, PUT, PATCH, GET, DELETE */
	const char **headers;		/* static lines "name: value", also the one for authentication */
	int			nheaders;
	int			timeout;		/* ms */
	int			connect_timeout;	/* ms */
	int			http_version;	/* 11 or 20 */
	const char *ca_certificate; /* PEM, or NULL: dmshook.ca_file or the system's bundle */
	DmshookStatusList success;
} DmshookEndpoint;

#define DMSHOOK_DYNAMIC_HEADERS	10
#define DMSHOOK_HEADER_SIZE		256

/*
 * One request and what came of it. Allocated by dmshook_transport_get() and given
 * back with dmshook_transport_put(); buffers are reused.
 */
typedef struct DmshookTransfer
{
	/* the request, set by the caller */
	const DmshookEndpoint *endpoint;
	const char *query;			/* appended to the URL, or NULL; lives until the transfer has finished */
	char		header[DMSHOOK_DYNAMIC_HEADERS][DMSHOOK_HEADER_SIZE];	/* "webhook-id: msg_..." */
	int			nheaders;
	const char *body;			/* NULL: none; must live until the transfer has finished */
	size_t		body_len;
	void	   *owner;			/* the caller's */

	/* the result */
	DmshookOutcome outcome;
	int			status;			/* 0: no response */
	int			duration_us;	/* of the whole; the others -1 where that step was not reached, 0 on a kept connection */
	int			dns_us;
	int			connect_us;
	int			tls_us;
	int			first_byte_us;
	char		local_address[64];	/* without port; "" when never connected */
	char		remote_address[64];
	int			http_version;	/* 11, 20; 0: no response */
	char		tls_version[12];	/* "TLSv1.3" */
	char	   *response_headers;	/* zero-terminated, capped, raw bytes of the peer; NULL: none */
	size_t		response_headers_len;
	char	   *response_body;	/* capped to dmshook.response_limit; raw bytes; NULL: none */
	size_t		response_body_len;
	char		error[384];		/* "" when ok: what happened, one sentence */
	char		hint[384];		/* what to do */
	int64		retry_after_ms; /* as the response asked; -1: it did not */

	void	   *priv;			/* transport.c's */
} DmshookTransfer;

/* The dispatcher, once: make the multi handle and its epoll descriptor. */
extern void dmshook_transport_init(void);

/* Take a transfer to fill in; NULL when max_connections are under way. */
extern DmshookTransfer *dmshook_transport_get(const DmshookEndpoint *endpoint);

/* Start it. Never fails: what cannot be built finishes with internal_error. */
extern void dmshook_transport_start(DmshookTransfer *transfer);

/* Give it back, finished (or never started). */
extern void dmshook_transport_put(DmshookTransfer *transfer);

/* End all transfers of an owner predicate at once, without results. NULL: all. */
extern void dmshook_transport_abort(bool (*which) (DmshookTransfer *transfer, void *arg), void *arg);

/* Descriptor for the WaitEventSet (readable: there is work), and ms until curl's next timer (-1: none). */
extern int	dmshook_transport_fd(void);
extern long dmshook_transport_timeout(void);

/* Do what is to be done now; wait at most wait_ms in epoll (0 when called after the WaitEventSet). */
extern void dmshook_transport_run(int wait_ms);

/* The next finished transfer, or NULL. */
extern DmshookTransfer *dmshook_transport_finished(void);

extern int	dmshook_transport_in_flight(void);

/* Settings (ca_file, max_connections, allowed_networks) have changed: handles are set up again. */
extern void dmshook_transport_reload(void);

/*
 * Check a webhook's URL as it is typed in: absolute, https (or http where
 * allow_http), a host, no credentials, no fragment, no control characters, at
 * most 2,000 bytes. NULL when fine; else a constant sentence, and *hint.
 */
extern const char *dmshook_url_check(const char *url, bool allow_http, const char **hint);

#endif							/* DMSHOOK_TRANSPORT_H */
