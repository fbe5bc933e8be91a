/*
 * transport_private.h - what the files of transport share: a curl handle with
 * its surroundings, and a transfer with its buffers. Only for transport*.c.
 */
#ifndef DMSHOOK_TRANSPORT_PRIVATE_H
#define DMSHOOK_TRANSPORT_PRIVATE_H

#include "transport.h"

#include <curl/curl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/ilist.h"

#define TRANSPORT_KEEP_HEADERS	8192	/* bytes of response headers that are kept */
#define TRANSPORT_MAX_HEADERS	(128 * 1024)	/* beyond this they are without end */
#define TRANSPORT_MAX_RESPONSE	(1024 * 1024)	/* body read at most, most of it to be thrown away */
#define TRANSPORT_LANES			16
#define TRANSPORT_EVENTS		256 /* taken from epoll at once */
#define TRANSPORT_HOST_SIZE		256
#define TRANSPORT_MAX_CONNECTION_LIFE	600 /* seconds */

/* content-type, user-agent */
#define TRANSPORT_FIXED_HEADERS 2

typedef struct TransportTransfer TransportTransfer;

/* Why an address was not connected to. */
typedef enum TransportRefusal
{
	TRANSPORT_NOT_REFUSED,
	TRANSPORT_NOT_PUBLIC,		/* and not in allowed_networks */
	TRANSPORT_NOT_ALLOWED,		/* not in the webhook's allowed_addresses */
	TRANSPORT_BAD_PORT,			/* not in allowed_ports */
	TRANSPORT_ODD_HOST,			/* no name, and a proxy may read it as an address */
	TRANSPORT_NOT_KNOWN			/* a name that a proxy looks up, and there are allowed_addresses */
} TransportRefusal;

/* A curl easy handle, set up for one endpoint, busy with one transfer or idle. */
typedef struct TransportHandle
{
	CURL	   *easy;
	CURLU	   *url;			/* the endpoint's, taken apart once: curl would do it with every request */
	int			lane;
	uint32		host_hash;
	uint64		serial;			/* of the endpoint it is set up for */
	uint64		generation;		/* of the settings then; 0: not set up */
	TransportTransfer *transfer;	/* NULL: idle */
	dlist_node	by_age;			/* idle handles, last used first */
	dlist_node	by_serial;		/* the same, in the bucket of their serial */

	/*
	 * Request headers: nodes in here, so that a request allocates none. The
	 * fixed ones, then those of this request (the text is in the transfer), then the endpoint's.
	 */
	struct curl_slist fixed[TRANSPORT_FIXED_HEADERS];
	int			nfixed;
	struct curl_slist expect;
	struct curl_slist dynamic[DMSHOOK_DYNAMIC_HEADERS + 1]; /* the last: credential */
	struct curl_slist *own;		/* the endpoint's, nown of them */
	char	   *own_text;
	size_t		own_size;
	bool		has_body;		/* by the method */
	int			patience;		/* ms without an acknowledgement, then a connection is dead */
	bool		certificate_unseen; /* no request of this endpoint has looked at it: the next does, also on a kept connection (another webhook's) */
	bool		proxied;		/* it goes through dmshook.proxy */
	TransportRefusal barred;	/* never to be sent, by its URL alone: blocked and blocked_why say more */
	bool		url_has_query;	/* the URL that curl has is not the endpoint's alone */

	/* where to, for messages */
	char		host[TRANSPORT_HOST_SIZE];
	int			port;
	bool		https;

	/* of the request under way */
	char		errbuf[CURL_ERROR_SIZE];
	struct sockaddr_storage tried;	/* the last address that a connection was tried to */
	struct sockaddr_storage blocked;	/* the last one that was refused */
	TransportRefusal refusal;	/* of that one */
	const char *blocked_why;	/* the block it is in, where it is not public */
	bool		opened;			/* a connection was made for it; else it has a kept one, or waits for somebody's */
	curl_socket_t opened_fd;	/* the last one: of several addresses another may have won */
	bool		sent;			/* connected (and TLS done): the request went out */
	int64		started_at;		/* us */
	int64		tls_begun_at;	/* us; 0: TCP was not connected, or was before */
} TransportHandle;

typedef enum TransportState
{
	TRANSPORT_IDLE,				/* in the pool */
	TRANSPORT_TAKEN,			/* the caller fills it in */
	TRANSPORT_STARTED,			/* curl has it */
	TRANSPORT_FINISHED,			/* waits for dmshook_transport_finished() */
	TRANSPORT_HANDED_OUT		/* the caller has the result */
} TransportState;

struct TransportTransfer
{
	DmshookTransfer pub;		/* first */
	TransportState state;
	dlist_node	node;			/* idle, started or finished */
	TransportHandle *handle;	/* while started */
	char	   *header_buf;
	size_t		header_size;
	char	   *body_buf;
	size_t		body_size;
	size_t		header_total;	/* bytes received, also those not kept */
	size_t		body_total;
	int64		before_us;		/* what it took until it was begun again */
	bool		again;			/* it was, for its kept connection was dead */
	bool		headers_done;	/* of the latest response, interim or final */
	bool		coded;			/* its body is compressed, though nobody asked for that */
	bool		headers_endless;
	bool		body_cut;		/* we ended the connection, the body being too long, or compressed */
	bool		out_of_memory;
	bool		out_of_files;	/* no socket for it */
};

/* transport_lanes.c: called by the callbacks that curl has in transport_handle.c and transport_mail.c */
extern void transport_socket_opened(curl_socket_t fd);
extern void transport_socket_closed(curl_socket_t fd);
extern curl_socket_t transport_socket_at(curl_socket_t likely, int local_port); /* our end of a connection */

/* transport_lanes.c: curl's multi handles. Those that run curl want all signals blocked. */
extern void transport_lanes_init(void);
extern void transport_lanes_limit(int connections);
extern bool transport_lane_add(int lane, CURL *easy);
extern void transport_lane_remove(int lane, CURL *easy);
extern CURLMsg *transport_lanes_message(void);	/* the next one that is done; NULL: none */
extern int	transport_lanes_fd(void);
extern int64 transport_lanes_timer(void);	/* us of transport_now(); -1: none */
extern void transport_lanes_run_timers(void);
extern int	transport_lanes_wait(int wait_ms, struct epoll_event *events);
extern void transport_lanes_run_events(const struct epoll_event *events, int n);
extern bool transport_lanes_broken(void);
extern void transport_lanes_close_idle(void);	/* connections that nobody uses just now are not used again */

/* transport_settings.c: the settings as they are in force, and what goes with them */
typedef struct TransportSettings
{
	uint64		generation;		/* grows with each change of the others; never 0 */
	char	   *ca_path;		/* as it is given to curl; NULL: curl's own default */
	bool		allow_http;
	char	   *allowed_networks;
	char	   *allowed_ports;
	int64		recheck_until;	/* us; kept connections may be older than these: look at where they lead */
	int			connections;	/* dmshook_max_connections, as far as there are descriptors */
	CURLSH	   *share;
} TransportSettings;

extern TransportSettings transport_settings;

extern void transport_settings_init(void);

/* transport_egress.c: where requests leave from */
typedef struct TransportEgress
{
	char	   *interface;		/* as curl has it, "host!10.0.0.5"; NULL: the system chooses */
	long		family;			/* of addresses that can be reached from there */
	uint32		epoch;			/* how often the source was changed */
	char	   *proxy;			/* "http://host:port"; NULL: there is none */
	char		proxy_host[TRANSPORT_HOST_SIZE];
	int			proxy_port;
	char	   *user;			/* at the proxy; NULL: none */
	char	   *password;
	char	   *problem;		/* the proxy cannot be used: why */
} TransportEgress;

extern TransportEgress transport_egress;

/* Are the settings, or the password file, others than those in force? */
extern bool transport_egress_changed(void);

/* Take them over. True: the source is another one, and there was one before. */
extern bool transport_egress_load(void);

/* Options of a handle that is being set up; false: curl refused one. Then: may this URL be asked of a proxy? */
extern bool transport_egress_setup(TransportHandle *handle);
extern void transport_egress_bar(TransportHandle *handle, const DmshookEndpoint *endpoint);

/* transport_handle.c: a handle, and what curl calls back while it is busy. All without ereport. */
extern TransportHandle *transport_handle_create(void);
extern void transport_handle_free(TransportHandle *handle);

/* Make it fit to the endpoint. NULL, or a constant sentence that says what is wrong. */
extern const char *transport_handle_setup(TransportHandle *handle, const DmshookEndpoint *endpoint);

/* Put the request into a handle that is set up. As above. */
extern const char *transport_handle_prepare(TransportHandle *handle, TransportTransfer *transfer);

/* Nothing has happened to its request yet. */
extern void transport_handle_begin(TransportHandle *handle);

/* transport_kept.c: see there */
extern void transport_kept_begin(TransportHandle *handle, void *ssl, int local_port);
extern bool transport_kept_again(TransportHandle *handle, TransportTransfer *transfer, CURLcode code);

/* transport_mail.c: was it the mail that ended? Then its result is kept, and the handle is gone. */
extern bool transport_mail_end(CURL *easy, CURLcode code);

/* transport_result.c: what came of it: everything in pub from outcome on, but the response. */
extern void transport_result(TransportHandle *handle, TransportTransfer *transfer, CURLcode code);

/* For one whose handle is barred. */
extern void transport_result_barred(TransportHandle *handle, TransportTransfer *transfer);

/* For one that never reached curl. */
extern void transport_result_internal(TransportTransfer *transfer, const char *problem);

/* transport_parse.c */
extern int64 transport_retry_after(const char *value, size_t len);	/* ms; -1 malformed */
extern bool transport_url_host(const char *url, char *host, size_t size, int *port, bool *https);
extern bool transport_ip_literal(const char *host);

/*
 * transport_tls.c: OpenSSL's, where it is not sign.c's. ssl is curl's SSL *. The first is asked at each request and
 * costs nothing; the other one at each new connection (seconds since 1970; 0: there is no certificate).
 */
extern const char *transport_tls_version(void *ssl, int *cipher);
extern int64 transport_tls_expires(void *ssl);

/*
 * Is it HTTP/2? Has something come that curl has not read yet? And its descriptor, of which curl does not tell
 * before a request goes out; CURL_SOCKET_BAD: not known. All of it costs nothing.
 */
extern bool transport_tls_multiplexed(void *ssl);
extern bool transport_tls_waits(void *ssl);
extern void transport_tls_remember(void *ssl, curl_socket_t fd);
extern curl_socket_t transport_tls_remembered(void *ssl);

/* Microseconds of a clock that never goes back. */
extern int64 transport_now(void);

#endif							/* DMSHOOK_TRANSPORT_PRIVATE_H */
