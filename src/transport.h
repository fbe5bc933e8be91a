/*
 * transport.h - HTTPS requests, many at a time, without waiting. See
 * transport.c; only transport*.c include curl.
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
	const char *allowed_addresses;	/* the only networks it may be sent to, separated by commas; NULL: any that the settings permit */
	const char *certificate;	/* the client's, PEM, with its key; or NULL */
	const char *key;
	size_t		private_response;	/* the response's body is a secret: so much of it is kept, and wiped; 0: it is none */
	DmshookStatusList success;
} DmshookEndpoint;

#define DMSHOOK_DYNAMIC_HEADERS	10
#define DMSHOOK_HEADER_SIZE		704 /* of the longest line: signature.c, four signatures of each scheme, under a name of 100 characters */

/*
 * One request and what came of it. Allocated by dmshook_transport_get() and given
 * back with dmshook_transport_put(); buffers are reused.
 */
typedef struct DmshookTransfer
{
	/* the request, set by the caller */
	const DmshookEndpoint *endpoint;
	const char *query;			/* appended to the URL with ? or & as is right, which it may begin with; NULL: none; lives until the transfer has
								 * finished */
	char		header[DMSHOOK_DYNAMIC_HEADERS][DMSHOOK_HEADER_SIZE];	/* "webhook-id: msg_..." */
	int			nheaders;
	const char *credential;		/* a header line of any length, or NULL; must live until the transfer has finished */
	bool		token;			/* it asks for an access token: oauth.c's, no delivery */
	const char *body;			/* NULL: none; must live until the transfer has finished */
	size_t		body_len;
	void	   *owner;			/* the caller's */

	/*
	 * The result. The outcome of a whole response is that of its status, also
	 * when its body was too long to be read to the end (beyond 1 MB the
	 * connection is ended). DMSHOOK_TOO_LARGE is headers without end;
	 * DMSHOOK_TIMEOUT is any step that took too long, and may have a status
	 * (the body did not end); DMSHOOK_CONNECT_ERROR is also a connection that broke
	 * before the response.
	 */
	DmshookOutcome outcome;
	int			status;			/* 0: no response */
	int			duration_us;	/* of the whole; the others are steps: -1 where not finished, 0 on a kept connection */
	int			dns_us;
	int			connect_us;
	int			tls_us;			/* 0 also for plain http */
	int			first_byte_us;	/* from the sending to the first byte of the response */
	char		local_address[64];	/* without port; "" when never connected (some of libcurl 8: nor before TLS was ready) */
	char		remote_address[64];
	int			http_version;	/* 10, 11, 20; 0: no response */
	char		tls_version[12];	/* "TLSv1.3" */
	int			tls_cipher;		/* its number in IANA's registry; 0: none */
	int64		certificate_expires;	/* the receiver's, seconds since 1970; 0: not known, or looked at before */
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

/*
 * Take a transfer to fill in; its endpoint is set, its request empty. NULL when
 * max_connections are under way (taken or started, and not yet handed out
 * by dmshook_transport_finished: what waits to be logged does not count), or when
 * memory is short.
 */
extern DmshookTransfer *dmshook_transport_get(const DmshookEndpoint *endpoint);

/*
 * Start it. Never fails: what cannot be built finishes with internal_error.
 * No byte goes out before the next dmshook_transport_run().
 */
extern void dmshook_transport_start(DmshookTransfer *transfer);

/* Give it back, finished (or never started). */
extern void dmshook_transport_put(DmshookTransfer *transfer);

/*
 * End all transfers of an owner predicate at once, without results, and take them
 * back. NULL: all. Those that dmshook_transport_finished() has handed out, and
 * those not started, stay with the caller. Not within the predicate.
 */
extern void dmshook_transport_abort(bool (*which) (DmshookTransfer *transfer, void *arg), void *arg);

/*
 * Descriptor for the WaitEventSet (readable: there is work), and ms until
 * the next timer, rounded up (-1: none; 0 also when results wait to be taken).
 */
extern int	dmshook_transport_fd(void);
extern long dmshook_transport_timeout(void);

/* Do what is to be done now; wait at most wait_ms in epoll (0 when called after the WaitEventSet). */
extern void dmshook_transport_run(int wait_ms);

/* The next finished transfer, or NULL. */
extern DmshookTransfer *dmshook_transport_finished(void);

/* Idle handles that were set up for this endpoint go: they hold its header lines. When it is used no more. */
extern void dmshook_transport_forget(uint64 serial);

/* How many are started and not yet handed out by dmshook_transport_finished(). */
extern int	dmshook_transport_in_flight(void);

/*
 * After SIGHUP. Where ca_file (the setting or the file), allowed_networks, allowed_ports,
 * allow_http, source_address, proxy (or its password file) or max_connections have changed, they hold for every request started from now
 * on, on kept connections too.
 */
extern void dmshook_transport_reload(void);

/*
 * Check a webhook's URL as it is typed in: absolute, https (or http where
 * allow_http), a host, a port of dmshook.allowed_ports, no credentials, no fragment,
 * no control characters, at most 2,000 bytes. NULL when fine; else a constant sentence, and *hint.
 */
extern const char *dmshook_url_check(const char *url, bool allow_http, const char **hint);

/*
 * The name of a cipher by its number, as IANA has it (TLS_AES_256_GCM_SHA384): a constant string. NULL: this
 * OpenSSL does not know it. In any backend.
 */
extern const char *dmshook_tls_cipher_name(int number);

/* Who a URL leads to: "https://example.com:443", lower case. False: it cannot be taken apart. */
#define DMSHOOK_ORIGIN_SIZE	300
extern bool dmshook_url_origin(const char *url, char *out, size_t size);

#endif							/* DMSHOOK_TRANSPORT_H */
