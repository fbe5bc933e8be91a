/*
 * transport_handle.c - one curl handle: its options, its request, and what
 * curl calls back while it is busy.
 *
 * Runs in the dispatcher, outside transactions. A handle is set up for an
 * endpoint from nothing (curl_easy_reset, every option again), so that no
 * credential of another endpoint can stay behind; for further requests of the same
 * endpoint only pointers are exchanged. Memory is malloc's: the callbacks may
 * not ereport, for longjmp through curl's frames would wreck it, and what is
 * allocated lives as long as its handle or transfer. What a peer sends is bounded here:
 * TRANSPORT_KEEP_HEADERS and dmshook.response_limit are kept, TRANSPORT_MAX_HEADERS and
 * TRANSPORT_MAX_RESPONSE read.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "guard.h"
#include "settings.h"
#include "transport_private.h"
#include "wipe.h"

/*
 * Seconds. A kept connection that was idle for longer is not used again:
 * receivers and firewalls forget theirs silently, most of them after a minute or
 * more. One that never is idle ends all the same, so that a receiver that moved
 * in DNS is followed. transport.c relies on the latter (recheck_until).
 */
#define MAX_IDLE	90
#define MAX_LIFE	TRANSPORT_MAX_CONNECTION_LIFE

#define UPLOAD_BUFFER	(32 * 1024)

/* Bytes. curl asks a receiver whether it wants a body beyond 1 MB; each header costs time, also one that says not to. */
#define EXPECT_BODY	(256 * 1024)

/* Seconds. The guard looks at every address, so a longer time would be safe; a shorter one costs lookups. */
#define DNS_CACHE	20

static const char *header_problem(const char *line, size_t size);
static bool same_header_name(const char *line, const char *name, size_t len);
static bool endpoint_has_header(const DmshookEndpoint *endpoint, const char *name);
static const char *setup_headers(TransportHandle *handle, const DmshookEndpoint *endpoint);
static bool setup_options(TransportHandle *handle, const DmshookEndpoint *endpoint);
static bool setup_tls(TransportHandle *handle, const DmshookEndpoint *endpoint);
static bool setup_method(TransportHandle *handle, const DmshookEndpoint *endpoint);
static bool set_url(TransportHandle *handle, TransportTransfer *transfer);
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
static void listen_to_curl(TransportHandle *handle);
static int	begin_lookup(void *resolver, void *reserved, void *arg);
static CURLcode begin_tls(CURL *easy, void *context, void *arg);
static int	close_socket(void *arg, curl_socket_t fd);
static int	before_request(void *arg, char *remote, char *local, int remote_port, int local_port);
static size_t receive_header(char *line, size_t size, size_t n, void *arg);
static bool is_chunked(const char *value, size_t len);
static size_t receive_body(char *data, size_t size, size_t n, void *arg);
static bool keep(char **buf, size_t *size, size_t *len, const char *data, size_t n, size_t limit);
static bool may_stay(TransportHandle *handle, const char *remote);
static TransportRefusal refusal(const TransportHandle *handle, const struct sockaddr *address, int port, const char **why);
static bool address_of(const char *text, struct sockaddr_storage *address);

TransportHandle *
transport_handle_create(void)
{
	TransportHandle *handle = calloc(1, sizeof(TransportHandle));

	if (handle == NULL)
		return NULL;
	handle->easy = curl_easy_init();
	if (handle->easy == NULL)
	{
		free(handle);
		return NULL;
	}
	return handle;
}

void
transport_handle_free(TransportHandle *handle)
{
	curl_easy_cleanup(handle->easy);
	curl_url_cleanup(handle->url);
	if (handle->own_text != NULL)
		explicit_bzero(handle->own_text, handle->own_size);
	free(handle->own_text);
	free(handle->own);
	free(handle);
}

const char *
transport_handle_setup(TransportHandle *handle, const DmshookEndpoint *endpoint)
{
	const char *problem;

	handle->generation = 0;
	curl_easy_reset(handle->easy);
	if (!transport_url_host(endpoint->url, handle->host, sizeof(handle->host), &handle->port, &handle->https))
		return "the URL is malformed";
	curl_url_cleanup(handle->url);
	handle->url = curl_url();
	if (handle->url == NULL)
		return "memory is short";
	if (curl_url_set(handle->url, CURLUPART_URL, endpoint->url, CURLU_PATH_AS_IS | CURLU_DISALLOW_USER) != CURLUE_OK)
		return "the URL is malformed";
	if ((problem = setup_headers(handle, endpoint)) != NULL)
		return problem;
	if (transport_egress.problem != NULL)
		return "dmshook.proxy cannot be used, for its password file is at fault: see the server log";
	if (!setup_method(handle, endpoint) || !setup_options(handle, endpoint) || !setup_tls(handle, endpoint) ||
		!transport_egress_setup(handle))
		return "libcurl refused an option, or memory is short";

	transport_egress_bar(handle, endpoint);
	handle->certificate_unseen = true;
	handle->url_has_query = false;
	handle->patience = Max(Min(endpoint->connect_timeout, endpoint->timeout), 1000);
	handle->serial = endpoint->serial;
	handle->generation = transport_settings.generation;
	return NULL;
}

/*
 * What would break the request apart, or out of curl's framing of it. The lines were
 * checked where they were entered; this is where it would hurt.
 */
static const char *
header_problem(const char *line, size_t size)
{
	static const char *const framing[] = {"content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"};
	size_t		len = strnlen(line, size);
	const char *colon;

	if (len == size)
		return "a header is too long";
	colon = memchr(line, ':', len);
	if (colon == NULL || colon == line)
		return "a header has no name";
	if (memchr(line, '\r', len) != NULL || memchr(line, '\n', len) != NULL)
		return "a header holds a line break";
	for (size_t i = 0; i < lengthof(framing); i++)
	{
		/* most differ in the first letter */
		if ((line[0] | 0x20) == framing[i][0] && same_header_name(line, framing[i], (size_t) (colon - line)))
			return "a header would interfere with the framing of the request";
	}
	return NULL;
}

static bool
same_header_name(const char *line, const char *name, size_t len)
{
	return strlen(name) == len && pg_strncasecmp(line, name, len) == 0;
}

static bool
endpoint_has_header(const DmshookEndpoint *endpoint, const char *name)
{
	for (int i = 0; i < endpoint->nheaders; i++)
	{
		if (same_header_name(endpoint->headers[i], name, strcspn(endpoint->headers[i], ":")))
			return true;
	}
	return false;
}

/*
 * The fixed headers and the endpoint's own. The text is copied: curl writes
 * an empty value as "name;", and the endpoint may go while an idle handle stays.
 */
static const char *
setup_headers(TransportHandle *handle, const DmshookEndpoint *endpoint)
{
	bool		has_body = strcmp(endpoint->method, "GET") != 0 && strcmp(endpoint->method, "DELETE") != 0;
	static char content_type[] = "content-type: application/json";
	static char user_agent[] = "user-agent: dmshook/" DMSHOOK_VERSION;
	size_t		size = 0;
	char	   *text;

	if (handle->own_text != NULL)
		explicit_bzero(handle->own_text, handle->own_size);
	free(handle->own_text);
	free(handle->own);
	handle->own_text = NULL;
	handle->own = NULL;

	handle->nfixed = 0;
	if (has_body && !endpoint_has_header(endpoint, "content-type"))
		handle->fixed[handle->nfixed++].data = content_type;
	if (!endpoint_has_header(endpoint, "user-agent"))
		handle->fixed[handle->nfixed++].data = user_agent;

	if (endpoint->nheaders == 0)
		return NULL;
	for (int i = 0; i < endpoint->nheaders; i++)
	{
		const char *problem = header_problem(endpoint->headers[i], 64 * 1024);

		if (problem != NULL)
			return problem;
		size += strlen(endpoint->headers[i]) + 2;
	}
	handle->own_text = malloc(size);
	handle->own = calloc((size_t) endpoint->nheaders, sizeof(struct curl_slist));
	handle->own_size = size;
	if (handle->own_text == NULL || handle->own == NULL)
	{
		free(handle->own_text);
		handle->own_text = NULL;
		return "memory is short";
	}
	text = handle->own_text;
	for (int i = 0; i < endpoint->nheaders; i++)
	{
		const char *line = endpoint->headers[i];
		const char *value = strchr(line, ':') + 1;

		handle->own[i].data = text;
		handle->own[i].next = i + 1 < endpoint->nheaders ? &handle->own[i + 1] : NULL;
		if (value[strspn(value, " \t")] == '\0')
			text += sprintf(text, "%.*s;", (int) (value - line - 1), line) + 1;
		else
		{
			strcpy(text, line);
			text += strlen(line) + 1;
		}
	}
	return NULL;
}

#define SET(option, value) \
	do { \
		if (curl_easy_setopt(handle->easy, option, value) != CURLE_OK) \
			return false; \
	} while (0)

/*
 * POSTFIELDS makes it a POST whose body has a length; CUSTOMREQUEST gives it
 * the name. DELETE is a GET by another name: no body, no content-length.
 */
static bool
setup_method(TransportHandle *handle, const DmshookEndpoint *endpoint)
{
	handle->has_body = strcmp(endpoint->method, "GET") != 0 && strcmp(endpoint->method, "DELETE") != 0;
	if (handle->has_body)
	{
		SET(CURLOPT_POST, 1L);
		if (strcmp(endpoint->method, "POST") != 0)
			SET(CURLOPT_CUSTOMREQUEST, endpoint->method);
	}
	else
	{
		SET(CURLOPT_HTTPGET, 1L);
		if (strcmp(endpoint->method, "GET") != 0)
			SET(CURLOPT_CUSTOMREQUEST, endpoint->method);
	}
	return true;
}

static bool
setup_options(TransportHandle *handle, const DmshookEndpoint *endpoint)
{
	SET(CURLOPT_CURLU, handle->url);
	SET(CURLOPT_PRIVATE, handle);
	SET(CURLOPT_SHARE, transport_settings.share);

	/* nothing that the environment or a file of the server's owner could add */
	SET(CURLOPT_PROTOCOLS_STR, transport_settings.allow_http ? "http,https" : "https");
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);

	/* no signal for timeouts, no join of a resolver thread after one */
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_TIMEOUT_MS, (long) Max(endpoint->timeout, 1));
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) Max(Min(endpoint->connect_timeout, endpoint->timeout), 1));

	/* curl copies what it sends through TLS; a buffer of 64 kB, its default, makes free() tidy up the heap with each request */
	SET(CURLOPT_UPLOAD_BUFFERSIZE, (long) UPLOAD_BUFFER);
	SET(CURLOPT_DNS_CACHE_TIMEOUT, (long) DNS_CACHE);
	SET(CURLOPT_MAXAGE_CONN, (long) MAX_IDLE);
	SET(CURLOPT_MAXLIFETIME_CONN, (long) MAX_LIFE);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, 30L);
	SET(CURLOPT_TCP_KEEPINTVL, 15L);

	if (endpoint->http_version == 20)
	{
		SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
		SET(CURLOPT_PIPEWAIT, 1L);	/* one connection for many requests, rather than many at once */
	}
	else
		SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);

	SET(CURLOPT_RESOLVER_START_FUNCTION, begin_lookup);
	SET(CURLOPT_RESOLVER_START_DATA, handle);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, handle);
	SET(CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	SET(CURLOPT_PREREQFUNCTION, before_request);
	SET(CURLOPT_PREREQDATA, handle);
	SET(CURLOPT_HEADERFUNCTION, receive_header);
	SET(CURLOPT_HEADERDATA, handle);
	SET(CURLOPT_WRITEFUNCTION, receive_body);
	SET(CURLOPT_WRITEDATA, handle);
	return true;
}

/*
 * Whom to believe. curl keeps connections and TLS sessions of different authorities apart
 * by these very options (those of client certificates, too: cert_blob is among what it
 * compares, and a key belongs to one certificate only). CAPATH must be NULL: with Debian's default each
 * new connection costs 21 ms of CPU.
 */
static bool
setup_tls(TransportHandle *handle, const DmshookEndpoint *endpoint)
{
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long) (CURL_SSLVERSION_TLSv1_2 | CURL_SSLVERSION_MAX_DEFAULT));
	SET(CURLOPT_SSL_CTX_FUNCTION, begin_tls);
	SET(CURLOPT_SSL_CTX_DATA, handle);
	SET(CURLOPT_CAPATH, NULL);
	if (endpoint->ca_certificate != NULL)
	{
		struct curl_blob blob;
		size_t		len = strlen(endpoint->ca_certificate);
		size_t		breaks = transport_egress.epoch % 16;
		char	   *text = malloc(len + breaks);
		bool		ok;

		/* the same authorities, told apart from those before the source changed: see transport_egress.c */
		if (text == NULL)
			return false;
		memcpy(text, endpoint->ca_certificate, len);
		memset(text + len, '\n', breaks);
		blob.data = text;
		blob.len = len + breaks;
		blob.flags = CURL_BLOB_COPY;
		ok = curl_easy_setopt(handle->easy, CURLOPT_CAINFO_BLOB, &blob) == CURLE_OK;
		free(text);
		if (!ok)
			return false;
	}
	else if (transport_settings.ca_path != NULL)
		SET(CURLOPT_CAINFO, transport_settings.ca_path);
	if (endpoint->certificate != NULL)
	{
		struct curl_blob certificate = {unconstify(char *, endpoint->certificate), strlen(endpoint->certificate), CURL_BLOB_COPY};

		/* no copy of the key that nobody would wipe: a handle is used for an endpoint only while that lives */
		struct curl_blob key = {unconstify(char *, endpoint->key), strlen(endpoint->key), CURL_BLOB_NOCOPY};

		SET(CURLOPT_SSLCERT_BLOB, &certificate);
		SET(CURLOPT_SSLKEY_BLOB, &key);
	}
	return true;
}

/* Where in libcurl's buffers its secrets are: in the head; of a request for a token in all of it, and in the answer. */
static void
mind_secrets(const DmshookTransfer *request, const struct curl_slist *line)
{
	/* the method, what curl adds, a password for the proxy; the URL, which may be spelt out three times as long */
	size_t		size = 2048 + 3 * (strlen(request->endpoint->url) + (request->query ? strlen(request->query) : 0));

	for (; line != NULL; line = line->next)
		size += strlen(line->data) + 2;
	if (request->token || request->endpoint->private_response > 0)
		size += request->body_len + request->endpoint->private_response + 64 * 1024;
	dmshook_wipe_most(size);
}

const char *
transport_handle_prepare(TransportHandle *handle, TransportTransfer *transfer)
{
	static char expect[] = "Expect:";	/* empty: curl does not ask before it sends a long body */
	DmshookTransfer *request = &transfer->pub;
	struct curl_slist first;
	struct curl_slist *last = &first;

	if (request->nheaders < 0 || request->nheaders > DMSHOOK_DYNAMIC_HEADERS)
		return "there are too many headers";
	for (int i = 0; i < handle->nfixed; i++)
		last = last->next = &handle->fixed[i];
	for (int i = 0; i < request->nheaders; i++)
	{
		const char *problem = header_problem(request->header[i], DMSHOOK_HEADER_SIZE);

		if (problem != NULL)
			return problem;
		handle->dynamic[i].data = request->header[i];
		last = last->next = &handle->dynamic[i];
	}
	if (request->body_len > EXPECT_BODY)
	{
		handle->expect.data = expect;
		last = last->next = &handle->expect;
	}
	if (request->credential != NULL)
	{
		const char *problem = header_problem(request->credential, 64 * 1024);

		if (problem != NULL)
			return problem;
		handle->dynamic[DMSHOOK_DYNAMIC_HEADERS].data = unconstify(char *, request->credential);
		last->next = &handle->dynamic[DMSHOOK_DYNAMIC_HEADERS];
		last = last->next;
	}
	last->next = handle->own;
	mind_secrets(request, first.next);

	if (!set_url(handle, transfer))
		return "the URL could not be built";
	if (handle->has_body)
	{
		const char *body = request->body != NULL ? request->body : "";
		curl_off_t	len = request->body != NULL ? (curl_off_t) request->body_len : 0;

		if (curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDS, body) != CURLE_OK ||
			curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDSIZE_LARGE, len) != CURLE_OK)
			return "the body is too long for libcurl";
	}

	if (curl_easy_setopt(handle->easy, CURLOPT_HTTPHEADER, first.next) != CURLE_OK ||
		curl_easy_setopt(handle->easy, CURLOPT_ERRORBUFFER, NULL) != CURLE_OK ||	/* see listen_to_curl() */
		curl_easy_setopt(handle->easy, CURLOPT_FRESH_CONNECT, 0L) != CURLE_OK)	/* see before_request() */
		return "libcurl refused an option";

	handle->transfer = transfer;
	transport_handle_begin(handle);
	return NULL;
}

void
transport_handle_begin(TransportHandle *handle)
{
	handle->errbuf[0] = '\0';
	handle->refusal = TRANSPORT_NOT_REFUSED;
	handle->tried.ss_family = AF_UNSPEC;
	handle->opened = handle->sent = false;
	handle->started_at = transport_now();
	handle->tls_begun_at = 0;
}

/* Most requests have no query of their own: then curl has the URL already. */
static bool
set_url(TransportHandle *handle, TransportTransfer *transfer)
{
	const char *url = transfer->pub.endpoint->url;
	const char *query = transfer->pub.query;
	const char *separator;
	size_t		size;
	char	   *whole;
	CURLcode	code;

	if (query == NULL || query[0] == '\0')
	{
		if (!handle->url_has_query)
			return true;
		handle->url_has_query = false;
		return curl_easy_setopt(handle->easy, CURLOPT_CURLU, handle->url) == CURLE_OK;
	}

	if (query[0] == '?' || query[0] == '&')
		query++;
	separator = strchr(url, '?') == NULL ? "?" : (strchr("?&", url[strlen(url) - 1]) == NULL ? "&" : "");
	size = strlen(url) + strlen(query) + 2;
	whole = malloc(size);
	if (whole == NULL)
		return false;
	snprintf(whole, size, "%s%s%s", url, separator, query);
	code = curl_easy_setopt(handle->easy, CURLOPT_CURLU, NULL);
	if (code == CURLE_OK)
		code = curl_easy_setopt(handle->easy, CURLOPT_URL, whole);	/* copies it */
	free(whole);
	handle->url_has_query = true;
	return code == CURLE_OK;
}

/*
 * From here on curl's words are about this request. Before, while it looks for a connection, it
 * says what became of dead ones that it finds and drops; and the first word is
 * the one that it keeps.
 */
static void
listen_to_curl(TransportHandle *handle)
{
	handle->errbuf[0] = '\0';
	(void) curl_easy_setopt(handle->easy, CURLOPT_ERRORBUFFER, handle->errbuf);
}

/* No kept connection was found, the name is looked up. */
static int
begin_lookup(void *resolver pg_attribute_unused(), void *reserved pg_attribute_unused(), void *arg)
{
	listen_to_curl(arg);
	return 0;
}

/*
 * The guard. curl calls this with the very address that it connects to next,
 * for each new connection, after DNS: so neither rebinding nor an odd way to write an
 * address can pass it. Refused: curl tries the name's next address.
 */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose pg_attribute_unused(), struct curl_sockaddr *address)
{
	TransportHandle *handle = arg;
	const char *why = NULL;
	size_t		len = Min(address->addrlen, sizeof(struct sockaddr_storage));
	TransportRefusal refused = refusal(handle, &address->addr, handle->port, &why);
	curl_socket_t fd;

	if (refused != TRANSPORT_NOT_REFUSED)
	{
		memcpy(&handle->blocked, &address->addr, len);
		handle->refusal = refused;
		handle->blocked_why = why;
		return CURL_SOCKET_BAD;
	}
	memcpy(&handle->tried, &address->addr, len);
	handle->tls_begun_at = 0;
	handle->opened = true;
	handle->opened_fd = CURL_SOCKET_BAD;
	handle->sent = false;		/* a kept connection had died, and curl begins again */
	listen_to_curl(handle);
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd < 0)
	{
		if (handle->transfer != NULL && (errno == EMFILE || errno == ENFILE))
			handle->transfer->out_of_files = true;
		return CURL_SOCKET_BAD;
	}

	/*
	 * A firewall that forgot a kept connection drops what is sent on it, without a
	 * word. Then curl takes it for dead and sends the request on a new one,
	 * well within the time of the whole.
	 */
	(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &handle->patience, sizeof(handle->patience));
	transport_socket_opened(fd);
	handle->opened_fd = fd;
	return fd;
}

/*
 * May this request go to that address and port? The address is the one that is connected to; the
 * port is the URL's, for nothing leads to another one.
 */
static TransportRefusal
refusal(const TransportHandle *handle, const struct sockaddr *address, int port, const char **why)
{
	const char *only = handle->transfer->pub.endpoint->allowed_addresses;

	if (handle->proxied)
		return TRANSPORT_NOT_REFUSED;	/* that is the proxy: transport_egress_bar() has looked at the URL */
	*why = "not an internet address";
	if (!dmshook_guard_port(port, transport_settings.allowed_ports))
		return TRANSPORT_BAD_PORT;
	if (!dmshook_guard_allows(address, transport_settings.allowed_networks, why))
		return TRANSPORT_NOT_PUBLIC;
	if (only != NULL && !dmshook_guard_in_networks(address, only))
		return TRANSPORT_NOT_ALLOWED;
	return TRANSPORT_NOT_REFUSED;
}

/*
 * TCP is connected, TLS begins. curl tells the time of the former only when the latter
 * has ended well, too; whoever looks for what hangs wants to know which it is.
 */
static CURLcode
begin_tls(CURL *easy pg_attribute_unused(), void *context pg_attribute_unused(), void *arg)
{
	((TransportHandle *) arg)->tls_begun_at = transport_now();
	return CURLE_OK;
}

static int
close_socket(void *arg pg_attribute_unused(), curl_socket_t fd)
{
	transport_socket_closed(fd);
	return close(fd);
}

/*
 * Connected, TLS done, the request goes out next; also on a kept connection.
 * After a change of dmshook.allowed_networks or allowed_ports a kept one may lead where nobody
 * may go any more, and one that another webhook left behind may lead where this one may not
 * (allowed_addresses): then curl closes it, and the request fails.
 */
static int
before_request(void *arg, char *remote, char *local pg_attribute_unused(), int remote_port pg_attribute_unused(),
			   int local_port)
{
	TransportHandle *handle = arg;
	struct curl_tlssessioninfo *tls = NULL;
	void	   *ssl = NULL;

	if ((transport_settings.recheck_until != 0 || handle->transfer->pub.endpoint->allowed_addresses != NULL) &&
		!may_stay(handle, remote))
		return CURL_PREREQFUNC_ABORT;

	/*
	 * If this connection turns out to have died, curl sends the request again: on
	 * a new one, please, for with many kept ones that all die it would send it six
	 * times.
	 */
	if (curl_easy_setopt(handle->easy, CURLOPT_FRESH_CONNECT, 1L) != CURLE_OK)
		return CURL_PREREQFUNC_ABORT;
	listen_to_curl(handle);
	handle->sent = true;
	if (curl_easy_getinfo(handle->easy, CURLINFO_TLS_SSL_PTR, &tls) == CURLE_OK &&
		tls != NULL && tls->backend == CURLSSLBACKEND_OPENSSL)
		ssl = tls->internals;
	if (ssl != NULL)
	{
		DmshookTransfer *pub = &handle->transfer->pub;

		strlcpy(pub->tls_version, transport_tls_version(ssl, &pub->tls_cipher), sizeof(pub->tls_version));
		if (handle->tls_begun_at != 0 || handle->certificate_unseen)
			pub->certificate_expires = transport_tls_expires(ssl);
		handle->certificate_unseen = false;
	}
	transport_kept_begin(handle, ssl, local_port);
	return CURL_PREREQFUNC_OK;
}

/* The connection leads to this address: is that still permitted? */
static bool
may_stay(TransportHandle *handle, const char *remote)
{
	struct sockaddr_storage address;
	const char *why = NULL;
	TransportRefusal refused = TRANSPORT_NOT_PUBLIC;

	if (address_of(remote, &address))
		refused = refusal(handle, (struct sockaddr *) &address, handle->port, &why);
	if (refused == TRANSPORT_NOT_REFUSED)
		return true;
	handle->blocked = address;
	handle->refusal = refused;
	handle->blocked_why = why != NULL ? why : "not an internet address";
	handle->tried.ss_family = AF_UNSPEC;
	return false;
}

static bool
address_of(const char *text, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *) address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) address;

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		address->ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
		address->ss_family = AF_INET6;
	return address->ss_family != AF_UNSPEC;
}

/*
 * A line of the response's headers, its line break included. curl bounds a line
 * and most responses; it does not bound a row of interim responses (1xx).
 */
static size_t
receive_header(char *line, size_t size, size_t n, void *arg)
{
	TransportTransfer *transfer = ((TransportHandle *) arg)->transfer;
	size_t		len = size * n;
	static const char retry_after[] = "retry-after:";
	static const char coding[] = "transfer-encoding:";

	transfer->header_total += len;
	if (transfer->header_total > TRANSPORT_MAX_HEADERS)
	{
		transfer->headers_endless = true;
		return 0;
	}

	/* the final response is the one that counts: forget an interim one */
	if (len > 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		transfer->pub.response_headers_len = 0;
		transfer->pub.retry_after_ms = -1;
		transfer->headers_done = transfer->coded = false;
	}
	else if (line[0] == '\r' || line[0] == '\n')
		transfer->headers_done = true;
	else if (len >= sizeof(coding) && pg_strncasecmp(line, coding, sizeof(coding) - 1) == 0)
		transfer->coded |= !is_chunked(line + sizeof(coding) - 1, len - (sizeof(coding) - 1));
	else if (len >= sizeof(retry_after) && pg_strncasecmp(line, retry_after, sizeof(retry_after) - 1) == 0)
		transfer->pub.retry_after_ms = transport_retry_after(line + sizeof(retry_after) - 1, len - (sizeof(retry_after) - 1));

	if (!keep(&transfer->header_buf, &transfer->header_size, &transfer->pub.response_headers_len, line, len, TRANSPORT_KEEP_HEADERS))
	{
		transfer->out_of_memory = true;
		return 0;
	}

	/*
	 * curl would unpack what is coded so, layer upon layer: a few kilobytes can keep it
	 * busy for minutes without a byte that comes out. The answer is known, that is enough.
	 */
	if (transfer->coded && transfer->headers_done)
	{
		transfer->body_cut = true;
		return 0;
	}
	return len;
}

/* The value of transfer-encoding, with its line break: the one that is for all to understand? */
static bool
is_chunked(const char *value, size_t len)
{
	static const char chunked[] = "chunked";

	while (len > 0 && (*value == ' ' || *value == '\t'))
		value++, len--;
	while (len > 0 && isspace((unsigned char) value[len - 1]))
		len--;
	return len == sizeof(chunked) - 1 && pg_strncasecmp(value, chunked, len) == 0;
}

static size_t
receive_body(char *data, size_t size, size_t n, void *arg)
{
	TransportTransfer *transfer = ((TransportHandle *) arg)->transfer;
	size_t		len = size * n;
	size_t		limit = transfer->pub.endpoint->private_response;

	/* all its room at once: growing would leave pieces behind */
	if (limit > 0 && transfer->body_size <= limit)
	{
		free(transfer->body_buf);
		transfer->body_buf = malloc(limit + 1);
		transfer->body_size = transfer->body_buf != NULL ? limit + 1 : 0;
	}
	else if (limit == 0)
		limit = (size_t) dmshook_response_limit;
	transfer->body_total += len;
	if (!keep(&transfer->body_buf, &transfer->body_size, &transfer->pub.response_body_len, data, len, limit))
	{
		transfer->out_of_memory = true;
		return 0;
	}
	if (transfer->body_total > (size_t) Max(TRANSPORT_MAX_RESPONSE, dmshook_response_limit))
	{
		transfer->body_cut = true;
		return 0;
	}
	return len;
}

/* Append as much as the limit lets, and a zero byte behind it. False: no memory. */
static bool
keep(char **buf, size_t *size, size_t *len, const char *data, size_t n, size_t limit)
{
	size_t		room = limit > *len ? limit - *len : 0;

	n = Min(n, room);
	if (n == 0)
		return true;
	if (*len + n + 1 > *size)
	{
		size_t		more = Min(Max(*size * 2, Max(*len + n + 1, 512)), limit + 1);
		char	   *bigger = realloc(*buf, more);

		if (bigger == NULL)
			return false;
		*buf = bigger;
		*size = more;
	}
	memcpy(*buf + *len, data, n);
	*len += n;
	(*buf)[*len] = '\0';
	return true;
}
