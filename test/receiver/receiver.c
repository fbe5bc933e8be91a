/*
 * receiver.c - a scripted HTTPS receiver: what happens to a request is in its path.
 *
 * Epoll and OpenSSL, HTTP/1.1 with keep-alive, one thread unless asked for
 * more; fast enough (over 30,000 requests/s on a core) to stand at the end of
 * a benchmark.  Nothing of the product is in here, so that both cannot share
 * a mistake.  Everything is on loopback; it ends on SIGTERM, when its standard
 * input closes (--stdin), or when told to (/quit at the control port).
 *
 *   /ok                200                     /status/N        that status
 *   /fail/N[/S]        the first N requests of each webhook-id get S (500), then 200
 *   /switch/NAME       500, or as set at the control port by /set/NAME/STATUS
 *   /slow/MS           200 after that time     /hang            never an answer
 *   /gate/NAME         an answer once /set/NAME/STATUS was told at the control port: that status
 *   /close             closes without answer   /reset           a TCP reset
 *   /drop              200, then closes unannounced (a kept connection goes away)
 *   /redirect[/N[/P]]  302 (N) to /ok, or to that of port P; and /gone: 410
 *   /retry-after/V[/S] 503 (S) with Retry-After: V (percent-encoded)
 *   /big/N             200 and N bytes         /header/N        200 and a header of N bytes
 *   /endless           200 and a body without end
 *   /drip[/MS[/N]]     200, N (20) bytes of body, one each MS (50)
 *   /early             200 when the header has come, before the body
 *   /garbage           bytes that are no HTTP  /truncated       100 bytes promised, 10 sent
 *   /chunked           a chunked answer        /nolength        an answer that ends with the connection
 *   /binary            an answer that is neither text nor UTF-8, with a zero byte
 *   /cookie            200 and Set-Cookie      /continue        100 first, then 200
 *   /echo              200 and the request's body
 *   /mirror[/S]        S (200) and the request's headers as JSON; its authorization also as header X-Mirror and Location
 *   /token/NAME[/S[/MS]]  an OAuth 2.0 token endpoint: after MS (0) a token that lives S (3600) seconds, NAME.1, NAME.2, ...;
 *                      once /set/token-NAME/STATUS was told, that status and an error that repeats what it was sent
 *   /protected/NAME    200 to a bearer token of /token/NAME, unless /revoke/NAME was told since; else 401
 *
 * More path segments are labels: counts are kept by path.  The control port
 * (plain http): /stats (lines "name value"), /clear, /set/NAME/STATUS, /revoke/NAME, /quit.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_HEADERS		64
#define MAX_REQUEST		(256 * 1024 * 1024)
#define MAX_SECRETS		4
#define TABLE_SIZE		65536

typedef struct Buffer
{
	char	   *data;
	size_t		len;
	size_t		size;
} Buffer;

typedef struct Header
{
	const char *name;			/* lower case, zero-terminated */
	const char *value;
	size_t		value_len;
} Header;

typedef struct Request
{
	const char *method;
	const char *target;			/* with the query */
	const char *path;
	Header		header[MAX_HEADERS];
	int			nheaders;
	const char *body;
	size_t		body_len;
	int64_t		at;				/* us since 1970, when its last byte was read */
} Request;

typedef enum Doing
{
	READING,					/* the next request is parsed as it comes */
	WAITING,					/* an answer is due later, or never */
	DRIPPING,
	CLOSING						/* what is in out is written, then the connection ends */
} Doing;

typedef struct Conn
{
	int			fd;
	SSL		   *ssl;			/* NULL: plain */
	bool		control;
	bool		shaken;			/* the handshake is done */
	bool		want_write;		/* EPOLLOUT is registered */
	bool		early;			/* the present request has its answer */
	bool		endless;
	Doing		doing;
	Buffer		in;
	Buffer		out;
	size_t		out_done;
	uint64_t	number;			/* of the connection */
	int			requests;
	int			later_status;	/* WAITING: what to answer when due */
	struct Entry *gate;			/* ... and not before this switch is set */
	Buffer		later;			/* and its body, if any */
	int			drips;
	int			drip_ms;
	int64_t		due;			/* 0: no timer */
	struct Conn *next_timer;
	struct Conn *next_dead;
	bool		dead;
} Conn;

/* counts of a path, or how often a message was refused, or a switch */
typedef struct Entry
{
	char	   *name;
	long		requests;
	long		ok;
	int64_t		first;
	int64_t		last;
	struct Entry *next;
} Entry;

typedef struct Thread
{
	pthread_t	id;
	int			epoll;
	Conn	   *timers;			/* unordered: few tests have many */
	Conn	   *dead;
	Buffer		line;			/* of the log */
	EVP_MAC_CTX *mac[MAX_SECRETS];
} Thread;

static SSL_CTX *tls;
static int	listener = -1;
static int	control_listener = -1;
static int	log_fd = -1;
static bool mute;
static struct
{
	unsigned char key[128];
	int			len;
}			secrets[MAX_SECRETS];
static int	nsecrets;

/* shared by the threads, under this lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Entry *paths[TABLE_SIZE];
static Entry *messages[TABLE_SIZE];
static Entry *switches[TABLE_SIZE];
static Entry *tokens[TABLE_SIZE];	/* requests: how many were issued; ok: how many of them are revoked */
static bool client_asked;		/* for a certificate */
static long by_status[1000];
static long signature_ok;
static long signature_bad;
static long signature_none;
static long requests_seen;
static long abandoned;
static long conns_open;
static long conns_seen;
static long handshakes_failed;

static void conn_process(Thread *thread, Conn *conn);

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
die(const char *what)
{
	fprintf(stderr, "receiver: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- buffers ---- */

static void
buffer_room(Buffer *buffer, size_t more)
{
	size_t		size = buffer->size ? buffer->size : 4096;

	if (buffer->len + more <= buffer->size)
		return;
	while (size < buffer->len + more)
		size *= 2;
	buffer->data = realloc(buffer->data, size);
	if (buffer->data == NULL)
		die("memory");
	buffer->size = size;
}

static void
buffer_add(Buffer *buffer, const void *data, size_t len)
{
	buffer_room(buffer, len);
	memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
}

static void
buffer_text(Buffer *buffer, const char *text)
{
	buffer_add(buffer, text, strlen(text));
}

static void buffer_format(Buffer *buffer, const char *format,...) __attribute__((format(printf, 2, 3)));

static void
buffer_format(Buffer *buffer, const char *format,...)
{
	char		text[4096];
	va_list		args;
	int			len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	buffer_add(buffer, text, len < (int) sizeof(text) ? (size_t) len : sizeof(text) - 1);
}

/* Whether bytes are UTF-8 as JSON allows it: no overlong forms, no surrogates. */
static bool
is_utf8(const char *data, size_t len)
{
	const unsigned char *p = (const unsigned char *) data;
	const unsigned char *end = p + len;

	while (p < end)
	{
		int			more = *p < 0x80 ? 0 : *p >= 0xC2 && *p < 0xE0 ? 1 : *p >= 0xE0 && *p < 0xF0 ? 2 : *p >= 0xF0 && *p < 0xF5 ? 3 : -1;

		if (more < 0 || end - p <= more)
			return false;
		if ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] > 0x9F) || (*p == 0xF0 && p[1] < 0x90) || (*p == 0xF4 && p[1] > 0x8F))
			return false;
		for (p++; more > 0; more--, p++)
			if ((*p & 0xC0) != 0x80)
				return false;
	}
	return true;
}

static void
buffer_json(Buffer *buffer, const char *data, size_t len)
{
	buffer_text(buffer, "\"");
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = data[i];

		if (c == '"' || c == '\\')
			buffer_format(buffer, "\\%c", c);
		else if (c < 0x20 || c == 0x7F)
			buffer_format(buffer, "\\u%04x", c);
		else
			buffer_add(buffer, &data[i], 1);
	}
	buffer_text(buffer, "\"");
}

static void
buffer_base64(Buffer *buffer, const char *data, size_t len)
{
	buffer_room(buffer, len * 4 / 3 + 8);
	buffer->len += EVP_EncodeBlock((unsigned char *) buffer->data + buffer->len, (const unsigned char *) data, len);
}

/* ---- shared tables; the lock is held ---- */

static Entry *
entry(Entry **table, const char *name, size_t len)
{
	uint32_t	hash = 2166136261u;
	Entry	   *e;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char) name[i]) * 16777619u;
	for (e = table[hash % TABLE_SIZE]; e != NULL; e = e->next)
		if (strncmp(e->name, name, len) == 0 && e->name[len] == '\0')
			return e;
	e = calloc(1, sizeof(Entry));
	if (e == NULL || (e->name = strndup(name, len)) == NULL)
		die("memory");
	e->next = table[hash % TABLE_SIZE];
	table[hash % TABLE_SIZE] = e;
	return e;
}

static void
clear_table(Entry **table)
{
	for (int i = 0; i < TABLE_SIZE; i++)
		for (Entry *e = table[i], *next; e != NULL; e = next)
		{
			next = e->next;
			free(e->name);
			free(e);
			table[i] = next;
		}
}

/* ---- connections ---- */

static void
conn_want(Thread *thread, Conn *conn, bool write)
{
	struct epoll_event ev = {.events = EPOLLIN | (write ? EPOLLOUT : 0),.data.ptr = conn};

	if (conn->want_write != write)
		epoll_ctl(thread->epoll, EPOLL_CTL_MOD, conn->fd, &ev);
	conn->want_write = write;
}

static void
timer_off(Thread *thread, Conn *conn)
{
	for (Conn **p = &thread->timers; conn->due != 0 && *p != NULL; p = &(*p)->next_timer)
		if (*p == conn)
		{
			*p = conn->next_timer;
			conn->due = 0;
			return;
		}
}

static void
timer_on(Thread *thread, Conn *conn, int ms)
{
	timer_off(thread, conn);
	conn->due = now_us() + (int64_t) ms * 1000;
	conn->next_timer = thread->timers;
	thread->timers = conn;
}

/* End a connection; its memory goes after this round of events. */
static void
conn_end(Thread *thread, Conn *conn)
{
	if (conn->dead)
		return;
	conn->dead = true;
	timer_off(thread, conn);
	if (conn->ssl != NULL)
	{
		if (conn->shaken && conn->doing == CLOSING)
			SSL_shutdown(conn->ssl);
		SSL_free(conn->ssl);
	}
	close(conn->fd);
	conn->next_dead = thread->dead;
	thread->dead = conn;
	if (!conn->control)
	{
		pthread_mutex_lock(&lock);
		conns_open--;
		if (conn->doing == WAITING || conn->doing == DRIPPING)
			abandoned++;
		pthread_mutex_unlock(&lock);
	}
}

/* Write what is in out as far as it goes. */
static void
conn_flush(Thread *thread, Conn *conn)
{
	int			rounds = 0;

	while (!conn->dead)
	{
		size_t		left = conn->out.len - conn->out_done;
		ssize_t		n;

		if (left == 0 && conn->endless)
		{
			if (++rounds > 16)
			{
				conn_want(thread, conn, true);	/* the others, too */
				return;
			}
			conn->out.len = conn->out_done = 0;
			for (int i = 0; i < 1024; i++)
				buffer_text(&conn->out, "10\r\n0123456789abcdef\r\n");
			continue;
		}
		if (left == 0)
		{
			conn->out.len = conn->out_done = 0;
			conn_want(thread, conn, false);
			if (conn->doing == CLOSING)
				conn_end(thread, conn);
			return;
		}
		if (conn->ssl != NULL)
			n = SSL_write(conn->ssl, conn->out.data + conn->out_done, left > 1 << 20 ? 1 << 20 : left);
		else
			n = send(conn->fd, conn->out.data + conn->out_done, left, MSG_NOSIGNAL);
		if (n > 0)
		{
			conn->out_done += n;
			continue;
		}
		if (conn->ssl != NULL ? SSL_get_error(conn->ssl, n) == SSL_ERROR_WANT_WRITE : errno == EAGAIN)
			conn_want(thread, conn, true);
		else
		{
			ERR_clear_error();
			conn_end(thread, conn);
		}
		return;
	}
}

static const char *
reason(int status)
{
	switch (status)
	{
		case 200:
			return "OK";
		case 302:
			return "Found";
		case 410:
			return "Gone";
		case 429:
			return "Too Many Requests";
		case 500:
			return "Internal Server Error";
		case 503:
			return "Service Unavailable";
		default:
			return "Status";
	}
}

/* Answer; extra: further header lines, each with CR LF. */
static void
reply(Conn *conn, int status, const char *extra, const char *body, size_t len)
{
	buffer_format(&conn->out, "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\n", status, reason(status));
	if (status != 204 && status != 304 && status >= 200)
		buffer_format(&conn->out, "Content-Length: %zu\r\n", len);
	if (extra != NULL)
		buffer_text(&conn->out, extra);
	buffer_text(&conn->out, "\r\n");
	if (status != 204 && status != 304)
		buffer_add(&conn->out, body, len);
}

static void
reply_status(Conn *conn, int status)
{
	char		text[64];
	int			len = snprintf(text, sizeof(text), status < 300 ? "ok\n" : "receiver says %d\n", status);

	reply(conn, status, NULL, text, len);
}

/* ---- what a request is, and what is kept of it ---- */

static const Header *
find_header(const Request *request, const char *name)
{
	for (int i = 0; i < request->nheaders; i++)
		if (strcmp(request->header[i].name, name) == 0)
			return &request->header[i];
	return NULL;
}

/* 1: one of the secrets signed it (v1); 0: none did; -1: there is no signature. */
static int
verify(Thread *thread, const Request *request)
{
	const Header *id = find_header(request, "webhook-id");
	const Header *at = find_header(request, "webhook-timestamp");
	const Header *signature = find_header(request, "webhook-signature");

	if (id == NULL || at == NULL || signature == NULL)
		return -1;
	for (int i = 0; i < nsecrets; i++)
	{
		unsigned char mac[32];
		char		expected[64] = "v1,";
		size_t		len;
		const char *found = signature->value;

		EVP_MAC_init(thread->mac[i], NULL, 0, NULL);
		EVP_MAC_update(thread->mac[i], (const unsigned char *) id->value, id->value_len);
		EVP_MAC_update(thread->mac[i], (const unsigned char *) ".", 1);
		EVP_MAC_update(thread->mac[i], (const unsigned char *) at->value, at->value_len);
		EVP_MAC_update(thread->mac[i], (const unsigned char *) ".", 1);
		EVP_MAC_update(thread->mac[i], (const unsigned char *) request->body, request->body_len);
		EVP_MAC_final(thread->mac[i], mac, &len, sizeof(mac));
		EVP_EncodeBlock((unsigned char *) expected + 3, mac, 32);
		while ((found = strstr(found, expected)) != NULL)
		{
			if ((found == signature->value || found[-1] == ' ') && (found[47] == ' ' || found[47] == '\0'))
				return 1;
			found++;
		}
	}
	return 0;
}

static void
write_log(Thread *thread, const Conn *conn, const Request *request, int status, int signature)
{
	Buffer	   *line = &thread->line;
	struct sockaddr_in peer;
	socklen_t	peer_len = sizeof(peer);
	char		from[INET_ADDRSTRLEN];

	line->len = 0;
	buffer_format(line, "{\"at\": %lld, \"connection\": %llu, \"request\": %d, \"method\": ", (long long) request->at,
				  (unsigned long long) conn->number, conn->requests);
	buffer_json(line, request->method, strlen(request->method));
	buffer_text(line, ", \"path\": ");
	buffer_json(line, request->target, strlen(request->target));
	buffer_format(line, ", \"status\": %d, \"tls\": \"%s\"", status, conn->ssl ? SSL_get_version(conn->ssl) : "");
	if (getpeername(conn->fd, (struct sockaddr *) &peer, &peer_len) == 0 && peer.sin_family == AF_INET)
		buffer_format(line, ", \"from\": \"%s\"", inet_ntop(AF_INET, &peer.sin_addr, from, sizeof(from)));
	if (client_asked)
	{
		X509	   *client = SSL_get1_peer_certificate(conn->ssl);
		char		name[256] = "";

		if (client != NULL)
			X509_NAME_get_text_by_NID(X509_get_subject_name(client), NID_commonName, name, sizeof(name));
		X509_free(client);
		buffer_text(line, ", \"client\": ");
		buffer_json(line, name, strlen(name));
		buffer_format(line, ", \"resumed\": %d", SSL_session_reused(conn->ssl));
	}
	if (nsecrets > 0)
		buffer_format(line, ", \"signature\": \"%s\"", signature > 0 ? "ok" : signature < 0 ? "none" : "bad");
	buffer_text(line, ", \"headers\": {");
	for (int i = 0; i < request->nheaders; i++)
	{
		buffer_text(line, i ? ", " : "");
		buffer_json(line, request->header[i].name, strlen(request->header[i].name));
		buffer_text(line, ": ");
		buffer_json(line, request->header[i].value, request->header[i].value_len);
	}
	if (is_utf8(request->body, request->body_len))
	{
		buffer_text(line, "}, \"body\": ");
		buffer_json(line, request->body, request->body_len);
		buffer_text(line, "}\n");
	}
	else
	{
		buffer_text(line, "}, \"body_base64\": \"");
		buffer_base64(line, request->body, request->body_len);
		buffer_text(line, "\"}\n");
	}
	if (write(log_fd, line->data, line->len) != (ssize_t) line->len)
		die("log file");
}

/* Count the request, log it: status 0 when no answer will come. */
static void
record(Thread *thread, Conn *conn, const Request *request, int status)
{
	size_t		path_len = strcspn(request->target, "?");
	int			signature = nsecrets > 0 ? verify(thread, request) : -1;
	Entry	   *path;

	pthread_mutex_lock(&lock);
	requests_seen++;
	by_status[status]++;
	if (nsecrets > 0)
		(*(signature > 0 ? &signature_ok : signature < 0 ? &signature_none : &signature_bad))++;
	path = entry(paths, request->target, path_len);
	path->requests++;
	if (status >= 200 && status < 300)
		path->ok++;
	if (path->first == 0)
		path->first = request->at;
	path->last = request->at;
	if (log_fd >= 0)
		write_log(thread, conn, request, status, signature);
	pthread_mutex_unlock(&lock);
}

/* How often this message has come to this path before. */
static long
seen_before(const Request *request)
{
	const Header *id = find_header(request, "webhook-id");
	char		name[1024];
	int			len = snprintf(name, sizeof(name), "%s %s", request->target, id ? id->value : "");
	long		before;

	pthread_mutex_lock(&lock);
	before = entry(messages, name, len < (int) sizeof(name) ? (size_t) len : sizeof(name) - 1)->requests++;
	pthread_mutex_unlock(&lock);
	return before;
}

/* The path's segments after the first, as numbers or text. */
static const char *
segment(const Request *request, int n)
{
	const char *p = request->path;

	for (; n > 0 && p != NULL; n--)
		p = strchr(p + 1, '/');
	return p != NULL && p[0] == '/' && p[1] != '\0' ? p + 1 : NULL;
}

static long
segment_number(const Request *request, int n, long otherwise)
{
	const char *text = segment(request, n);

	return text != NULL && text[0] >= '0' && text[0] <= '9' ? atol(text) : otherwise;
}

static bool
is(const Request *request, const char *name)
{
	size_t		len = strlen(name);

	return strncmp(request->path + 1, name, len) == 0 && (request->path[len + 1] == '/' || request->path[len + 1] == '\0');
}

static void
percent_decode(char *text)
{
	char	   *to = text;

	for (char *from = text; *from != '\0'; from++)
	{
		unsigned int c;

		if (*from == '%' && sscanf(from + 1, "%2x", &c) == 1)
		{
			*to++ = c;
			from += 2;
		}
		else
			*to++ = *from;
	}
	*to = '\0';
}

static int
checked_status(long status, int otherwise)
{
	return status >= 100 && status <= 999 ? status : otherwise;
}

/* The state of /token/NAME and /protected/NAME; the lock is held. */
static Entry *
token_entry(const Request *request)
{
	const char *name = segment(request, 1);

	return entry(tokens, name ? name : "", name ? strcspn(name, "/") : 0);
}

/* What the token endpoint answers, into conn->later. */
static int
make_token(Conn *conn, const Request *request)
{
	const Header *authorization = find_header(request, "authorization");
	char		name[256];
	Entry	   *e;
	int			status;

	conn->later.len = 0;
	pthread_mutex_lock(&lock);
	e = token_entry(request);
	snprintf(name, sizeof(name), "token-%s", e->name);
	status = checked_status(entry(switches, name, strlen(name))->requests, 200);
	if (status == 200)
		buffer_format(&conn->later, "{\"token_type\": \"Bearer\", \"nested\": [{\"access_token\": \"wrong\"}], \"access_token\": \"%s.%ld\", \"expires_in\": %ld}",
					  e->name, ++e->requests, segment_number(request, 2, 3600));
	pthread_mutex_unlock(&lock);
	if (status != 200)
	{
		buffer_text(&conn->later, "{\"error\": \"invalid_client\", \"error_description\": ");
		if (status == 400)
		{
			Buffer		said = {0};

			buffer_format(&said, "%s %.*s", authorization ? authorization->value : "", (int) request->body_len, request->body);
			buffer_json(&conn->later, said.data, said.len);
			free(said.data);
		}
		else
			buffer_text(&conn->later, "\"The client is unknown\"");
		buffer_text(&conn->later, "}");
	}
	return status;
}

/* Does it show a token that holds? */
static bool
has_token(const Request *request)
{
	const Header *authorization = find_header(request, "authorization");
	Entry	   *e;
	size_t		len;
	long		n = 0;

	pthread_mutex_lock(&lock);
	e = token_entry(request);
	len = strlen(e->name);
	if (authorization != NULL && strncmp(authorization->value, "Bearer ", 7) == 0 &&
		strncmp(authorization->value + 7, e->name, len) == 0 && authorization->value[7 + len] == '.')
		n = atol(authorization->value + 7 + len + 1);
	pthread_mutex_unlock(&lock);
	return n > e->ok && n <= e->requests;
}

/* Answers of which it is known at once what they are; the status, or -1: not one of these. */
static int
simple_answer(const Request *request)
{
	if (is(request, "ok"))
		return 200;
	if (is(request, "status"))
		return checked_status(segment_number(request, 1, 500), 500);
	if (is(request, "gone"))
		return 410;
	if (is(request, "protected"))
		return has_token(request) ? 200 : 401;
	if (is(request, "fail"))
		return seen_before(request) < segment_number(request, 1, 1) ? checked_status(segment_number(request, 2, 500), 500) : 200;
	if (is(request, "switch"))
	{
		const char *name = segment(request, 1);
		long		status;

		pthread_mutex_lock(&lock);
		status = entry(switches, name ? name : "", name ? strcspn(name, "/") : 0)->requests;
		pthread_mutex_unlock(&lock);
		return checked_status(status, 500);
	}
	return -1;
}

static void
mirror(Conn *conn, const Request *request, int status)
{
	Buffer		body = {0};
	Buffer		extra = {0};

	for (int i = 0; i < request->nheaders; i++)
	{
		const Header *header = &request->header[i];

		buffer_text(&body, i == 0 ? "{" : ", ");
		buffer_json(&body, header->name, strlen(header->name));
		buffer_text(&body, ": ");
		buffer_json(&body, header->value, header->value_len);
		if (strcmp(header->name, "authorization") == 0)
		{
			buffer_format(&extra, "X-Mirror: %.*s\r\nLocation: /", (int) header->value_len, header->value);
			for (size_t k = 0; k < header->value_len; k++)
				buffer_add(&extra, header->value[k] == ' ' ? "/" : &header->value[k], 1);
			buffer_text(&extra, "\r\n");
		}
	}
	buffer_text(&body, "}\n");
	buffer_add(&extra, "", 1);
	reply(conn, status, extra.data, body.data, body.len);
	free(body.data);
	free(extra.data);
}

/* Answers that are well-formed, if unusual; false: not one of these. */
static bool
proper_answer(Thread *thread, Conn *conn, const Request *request)
{
	char		text[1024];
	int			status = 200;

	if (is(request, "redirect"))
	{
		long		port = segment_number(request, 2, 0);

		if (port > 0)
			snprintf(text, sizeof(text), "Location: https://localhost:%ld/ok\r\n", port);
		else
			strcpy(text, "Location: /ok\r\n");
		reply(conn, status = checked_status(segment_number(request, 1, 302), 302), text, "", 0);
	}
	else if (is(request, "retry-after"))
	{
		const char *value = segment(request, 1);
		char		decoded[512];

		snprintf(decoded, sizeof(decoded), "%.*s", value ? (int) strcspn(value, "/") : 0, value ? value : "");
		percent_decode(decoded);
		snprintf(text, sizeof(text), "Retry-After: %s\r\n", decoded);
		reply(conn, status = checked_status(segment_number(request, 2, 503), 503), text, "later\n", 6);
	}
	else if (is(request, "big"))
	{
		long		len = segment_number(request, 1, 1000000);
		char	   *body = malloc(len + 1);

		if (body == NULL)
			die("memory");
		memset(body, 'x', len);
		reply(conn, 200, NULL, body, len);
		free(body);
	}
	else if (is(request, "header"))
	{
		long		len = segment_number(request, 1, 1000);

		buffer_text(&conn->out, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Big: ");
		for (long i = 0; i < len; i++)
			buffer_text(&conn->out, "h");
		buffer_text(&conn->out, "\r\n\r\nok\n");
	}
	else if (is(request, "chunked"))
		buffer_text(&conn->out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\n two\r\n0\r\n\r\n");
	else if (is(request, "nolength"))
	{
		buffer_text(&conn->out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end\n");
		conn->doing = CLOSING;
	}
	else if (is(request, "binary"))
		reply(conn, 200, "X-Bytes: \xff\xfe\r\n", "\xff\xfe\0\x80text\xc3(", 10);
	else if (is(request, "cookie"))
		reply(conn, 200, "Set-Cookie: session=receiver; Path=/\r\n", "ok\n", 3);
	else if (is(request, "continue"))
	{
		buffer_text(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
		reply_status(conn, 200);
	}
	else if (is(request, "echo"))
		reply(conn, 200, NULL, request->body, request->body_len);
	else if (is(request, "mirror"))
		mirror(conn, request, status = checked_status(segment_number(request, 1, 200), 200));
	else if (is(request, "drop"))
	{
		reply_status(conn, 200);
		conn->doing = CLOSING;
	}
	else if (is(request, "slow"))
	{
		conn->doing = WAITING;
		conn->later_status = 200;
		timer_on(thread, conn, segment_number(request, 1, 1000));
	}
	else if (is(request, "gate"))
	{
		const char *name = segment(request, 1);

		pthread_mutex_lock(&lock);
		conn->gate = entry(switches, name ? name : "", name ? strcspn(name, "/") : 0);
		pthread_mutex_unlock(&lock);
		conn->doing = WAITING;
		conn->later_status = 200;
		timer_on(thread, conn, 0);
	}
	else if (is(request, "token"))
	{
		conn->doing = WAITING;
		status = conn->later_status = make_token(conn, request);
		timer_on(thread, conn, segment_number(request, 3, 0));
	}
	else if (is(request, "drip"))
	{
		conn->doing = DRIPPING;
		conn->drip_ms = segment_number(request, 1, 50);
		conn->drips = segment_number(request, 2, 20);
		buffer_format(&conn->out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", conn->drips);
		timer_on(thread, conn, conn->drip_ms);
	}
	else
		return false;
	record(thread, conn, request, status);
	return true;
}

/* Answers that break the rules. */
static void
improper_answer(Thread *thread, Conn *conn, const Request *request)
{
	int			status = 0;

	if (is(request, "hang"))
		conn->doing = WAITING;
	else if (is(request, "close"))
		conn->doing = CLOSING;
	else if (is(request, "reset"))
	{
		struct linger linger = {.l_onoff = 1, .l_linger = 0};

		setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		record(thread, conn, request, 0);
		conn_end(thread, conn);
		return;
	}
	else if (is(request, "garbage"))
	{
		buffer_text(&conn->out, "\x01\x02 this is no HTTP\r\n\r\n");
		conn->doing = CLOSING;
	}
	else if (is(request, "truncated"))
	{
		buffer_text(&conn->out, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly ten\r\n");
		conn->doing = CLOSING;
	}
	else if (is(request, "endless"))
	{
		buffer_text(&conn->out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		conn->endless = true;
		status = 200;
	}
	else
		reply_status(conn, status = 404);
	record(thread, conn, request, status);
}

static void
answer(Thread *thread, Conn *conn, const Request *request)
{
	int			status;

	if (conn->early)
	{
		conn->early = false;
		record(thread, conn, request, 200);
	}
	else if ((status = simple_answer(request)) >= 0)
	{
		reply_status(conn, status);
		record(thread, conn, request, status);
	}
	else if (!proper_answer(thread, conn, request))
		improper_answer(thread, conn, request);
}

/* ---- the control port ---- */

static void
stats_table(Buffer *out)
{
	for (int i = 0; i < TABLE_SIZE; i++)
		for (Entry *e = paths[i]; e != NULL; e = e->next)
			buffer_format(out, "path.%s.requests %ld\npath.%s.ok %ld\npath.%s.first_us %lld\npath.%s.last_us %lld\n", e->name, e->requests,
						  e->name, e->ok, e->name, (long long) e->first, e->name, (long long) e->last);
}

static void
answer_control(Thread *thread, Conn *conn, const Request *request)
{
	Buffer		text = {0};
	int			status = 200;

	(void) thread;
	pthread_mutex_lock(&lock);
	if (is(request, "stats"))
	{
		struct rusage usage;

		getrusage(RUSAGE_SELF, &usage);
		buffer_format(&text, "requests %ld\nabandoned %ld\nconnections.open %ld\nconnections.total %ld\nhandshakes_failed %ld\n", requests_seen,
					  abandoned, conns_open, conns_seen, handshakes_failed);
		buffer_format(&text, "signature.ok %ld\nsignature.bad %ld\nsignature.none %ld\n", signature_ok, signature_bad, signature_none);
		buffer_format(&text, "cpu_us %lld\n", (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
		for (int i = 0; i < 1000; i++)
			if (by_status[i] > 0)
				buffer_format(&text, "status.%d %ld\n", i, by_status[i]);
		stats_table(&text);
	}
	else if (is(request, "clear"))
	{
		requests_seen = abandoned = signature_ok = signature_bad = signature_none = 0;
		memset(by_status, 0, sizeof(by_status));
		clear_table(paths);
		clear_table(messages);
	}
	else if (is(request, "set") && segment(request, 2) != NULL)
	{
		const char *name = segment(request, 1);

		entry(switches, name, strcspn(name, "/"))->requests = segment_number(request, 2, 500);
	}
	else if (is(request, "revoke") && segment(request, 1) != NULL)
		token_entry(request)->ok = token_entry(request)->requests;
	else if (is(request, "quit"))
		_exit(0);
	else
		status = 404;
	pthread_mutex_unlock(&lock);
	reply(conn, status, "Connection: close\r\n", text.data, text.len);
	free(text.data);
	conn->doing = CLOSING;
}

/* ---- reading ---- */

/* Take the header lines apart, in place; false: it is no HTTP. */
static bool
parse_header(char *text, Request *request)
{
	char	   *line;
	char	   *space;

	request->nheaders = 0;
	request->method = text;
	line = strstr(text, "\r\n");
	*line = '\0';
	line += 2;
	if ((space = strchr(text, ' ')) == NULL)
		return false;
	*space = '\0';
	request->target = space + 1;
	if ((space = strchr(space + 1, ' ')) == NULL || strncmp(space, " HTTP/1.", 8) != 0 || request->target[0] != '/')
		return false;
	*space = '\0';
	while (line[0] != '\r')
	{
		char	   *colon = strchr(line, ':');
		char	   *end = strstr(line, "\r\n");
		Header	   *header = &request->header[request->nheaders];

		if (colon == NULL || colon > end || request->nheaders == MAX_HEADERS)
			return false;
		*colon = '\0';
		*end = '\0';
		for (char *c = line; *c != '\0'; c++)
			if (*c >= 'A' && *c <= 'Z')
				*c += 'a' - 'A';
		header->name = line;
		header->value = colon + 1 + strspn(colon + 1, " \t");
		header->value_len = end - header->value;
		request->nheaders++;
		line = end + 2;
	}
	return true;
}

/* Length of a chunked body at data once it is whole, decoded in place; -1: not yet; -2: wrong. */
static long
dechunk(char *data, size_t len, size_t *decoded)
{
	char	   *p = data;
	char	   *end = data + len;
	char	   *to = data;
	bool		whole = false;

	/* first a look whether all is there, for decoding destroys it */
	for (int pass = 0; pass < 2; pass++)
	{
		p = data;
		for (;;)
		{
			char	   *eol = memmem(p, end - p, "\r\n", 2);
			char	   *rest;
			unsigned long size;

			if (eol == NULL)
				return -1;
			size = strtoul(p, &rest, 16);
			if (rest == p || size > MAX_REQUEST)
				return -2;
			if ((size_t) (end - eol - 2) < size + 2)
				return -1;
			if (whole)
			{
				memmove(to, eol + 2, size);
				to += size;
			}
			p = eol + 2 + size + 2;
			if (size == 0)
				break;
		}
		whole = true;
	}
	*decoded = to - data;
	return p - data;
}

/*
 * Take one request from the buffer, if it is there: number of bytes taken, 0
 * for not yet, -1 for wrong.
 */
static long
take_request(Thread *thread, Conn *conn, Request *request, char *path, size_t path_size)
{
	char	   *end = memmem(conn->in.data, conn->in.len, "\r\n\r\n", 4);
	size_t		header_len;
	const Header *header;
	char	   *copy;
	long		taken;

	if (end == NULL)
		return conn->in.len > 1024 * 1024 ? -1 : 0;
	header_len = end + 4 - conn->in.data;

	/* parsed in a copy, for the body may not be there yet */
	copy = memcpy(malloc(header_len + 1), conn->in.data, header_len);
	copy[header_len] = '\0';
	if (strlen(copy) != header_len || !parse_header(copy, request))
	{
		free(copy);
		return -1;
	}
	snprintf(path, path_size, "%.*s", (int) strcspn(request->target, "?"), request->target);
	request->path = path;
	if (is(request, "early") && !conn->early)
	{
		conn->early = true;
		reply_status(conn, 200);
		conn_flush(thread, conn);
	}
	header = find_header(request, "expect");
	if (header != NULL && conn->in.len == header_len && strcasecmp(header->value, "100-continue") == 0)
	{
		buffer_text(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
		conn_flush(thread, conn);
	}
	if (conn->dead)
	{
		free(copy);
		return 0;
	}
	request->body = conn->in.data + header_len;
	if (find_header(request, "transfer-encoding") != NULL)
	{
		taken = dechunk(conn->in.data + header_len, conn->in.len - header_len, &request->body_len);
		taken = taken < 0 ? (taken == -1 ? 0 : -1) : taken + (long) header_len;
	}
	else
	{
		header = find_header(request, "content-length");
		request->body_len = header ? strtoul(header->value, NULL, 10) : 0;
		taken = conn->in.len - header_len >= request->body_len ? (long) (header_len + request->body_len) : 0;
	}
	if (taken <= 0)
		free(copy);
	return taken;
}

/* Answer all that is there. */
static void
conn_process(Thread *thread, Conn *conn)
{
	while (!conn->dead && conn->doing == READING && conn->in.len > 0)
	{
		Request		request;
		char		path[4096];
		long		taken = take_request(thread, conn, &request, path, sizeof(path));
		const Header *connection;

		if (taken == 0)
			return;
		if (taken < 0)
		{
			reply(conn, 400, "Connection: close\r\n", "", 0);
			conn->doing = CLOSING;
			break;
		}
		request.at = now_us();
		conn->requests++;
		connection = find_header(&request, "connection");
		if (conn->control)
			answer_control(thread, conn, &request);
		else
			answer(thread, conn, &request);
		if (connection != NULL && strcasecmp(connection->value, "close") == 0 && conn->doing == READING)
			conn->doing = CLOSING;
		free((char *) request.method);
		memmove(conn->in.data, conn->in.data + taken, conn->in.len - taken);
		conn->in.len -= taken;
	}
	conn_flush(thread, conn);
}

static void
conn_readable(Thread *thread, Conn *conn)
{
	if (!conn->shaken && conn->ssl != NULL)
	{
		int			rc = SSL_accept(conn->ssl);
		int			error = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(conn->ssl, rc);

		if (rc != 1)
		{
			ERR_clear_error();
			if (error == SSL_ERROR_WANT_WRITE)
				conn_want(thread, conn, true);
			else if (error != SSL_ERROR_WANT_READ)
			{
				pthread_mutex_lock(&lock);
				handshakes_failed++;
				pthread_mutex_unlock(&lock);
				conn_end(thread, conn);
			}
			return;
		}
		conn->shaken = true;
	}
	for (;;)
	{
		ssize_t		n;

		buffer_room(&conn->in, 16384);
		if (conn->ssl != NULL)
			n = SSL_read(conn->ssl, conn->in.data + conn->in.len, conn->in.size - conn->in.len);
		else
			n = recv(conn->fd, conn->in.data + conn->in.len, conn->in.size - conn->in.len, 0);
		if (n <= 0)
		{
			bool		again = conn->ssl != NULL ? SSL_get_error(conn->ssl, n) == SSL_ERROR_WANT_READ : n < 0 && errno == EAGAIN;

			ERR_clear_error();
			if (!again || conn->in.len > MAX_REQUEST)
				conn_end(thread, conn);
			return;
		}
		conn->in.len += n;
		conn_process(thread, conn);
		/* level-triggered: what is still in the socket comes again, what is in OpenSSL does not */
		if (conn->dead || conn->ssl == NULL || !SSL_has_pending(conn->ssl))
			return;
	}
}

static void
accept_all(Thread *thread, bool control)
{
	int			fd;

	while ((fd = accept4(control ? control_listener : listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
	{
		Conn	   *conn = calloc(1, sizeof(Conn));
		struct epoll_event ev = {.events = EPOLLIN,.data.ptr = conn};
		int			one = 1;

		if (conn == NULL)
			die("memory");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		conn->fd = fd;
		conn->control = control;
		conn->shaken = control || tls == NULL;
		if (!control)
		{
			pthread_mutex_lock(&lock);
			conn->number = ++conns_seen;
			conns_open++;
			pthread_mutex_unlock(&lock);
			if (tls != NULL)
			{
				conn->ssl = SSL_new(tls);
				SSL_set_fd(conn->ssl, fd);
			}
			if (mute)
				ev.events = EPOLLRDHUP; /* the client gives up: see handle_event */
		}
		epoll_ctl(thread->epoll, EPOLL_CTL_ADD, fd, &ev);
	}
}

static void
timer_fires(Thread *thread, Conn *conn)
{
	timer_off(thread, conn);
	if (conn->doing == WAITING && conn->gate != NULL)
	{
		long		status;

		pthread_mutex_lock(&lock);
		status = conn->gate->requests;
		pthread_mutex_unlock(&lock);
		if (status == 0)
		{
			timer_on(thread, conn, 20);
			return;
		}
		conn->later_status = checked_status(status, 200);
		conn->gate = NULL;
	}
	if (conn->doing == WAITING)
	{
		conn->doing = READING;
		if (conn->later.len > 0)
			reply(conn, conn->later_status, NULL, conn->later.data, conn->later.len);
		else
			reply_status(conn, conn->later_status);
		conn->later.len = 0;
	}
	else if (conn->doing == DRIPPING)
	{
		buffer_text(&conn->out, "d");
		if (--conn->drips > 0)
			timer_on(thread, conn, conn->drip_ms);
		else
			conn->doing = READING;
	}
	conn_flush(thread, conn);
	if (!conn->dead)
		conn_process(thread, conn);
}

static int
next_timer_ms(Thread *thread)
{
	int64_t		least = INT64_MAX;
	int64_t		now;

	if (thread->timers == NULL)
		return -1;
	for (Conn *c = thread->timers; c != NULL; c = c->next_timer)
		if (c->due < least)
			least = c->due;
	now = now_us();
	return least <= now ? 0 : (least - now + 999) / 1000;
}

static void
run_timers(Thread *thread)
{
	int64_t		now = thread->timers ? now_us() : 0;
	Conn	   *next;

	for (Conn *c = thread->timers; c != NULL; c = next)
	{
		next = c->next_timer;
		if (c->due <= now)
		{
			timer_fires(thread, c);
			next = thread->timers;	/* the list has changed */
		}
	}
}

static void
handle_event(Thread *thread, const struct epoll_event *event)
{
	Conn	   *conn = event->data.ptr;

	if (event->data.ptr == &listener)
		accept_all(thread, false);
	else if (event->data.ptr == &control_listener)
		accept_all(thread, true);
	else if (conn->dead)
		return;
	else if (mute && !conn->control)
		conn_end(thread, conn);
	else
	{
		if ((event->events & EPOLLOUT) && conn->shaken)
			conn_flush(thread, conn);
		if (!conn->dead && ((event->events & ~EPOLLOUT) || !conn->shaken))
			conn_readable(thread, conn);
	}
}

static void *
thread_main(void *arg)
{
	Thread	   *thread = arg;

	for (;;)
	{
		struct epoll_event events[256];
		int			n = epoll_wait(thread->epoll, events, 256, next_timer_ms(thread));

		for (int i = 0; i < n; i++)
			handle_event(thread, &events[i]);
		run_timers(thread);
		while (thread->dead != NULL)
		{
			Conn	   *conn = thread->dead;

			thread->dead = conn->next_dead;
			free(conn->in.data);
			free(conn->out.data);
			free(conn->later.data);
			free(conn);
		}
	}
	return NULL;
}

/* ---- starting ---- */

static int
listen_on(const char *address, int port, int *bound)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6,.sin6_port = htons(port)};
	bool		v6 = inet_pton(AF_INET6, address, &sin6.sin6_addr) == 1;
	struct sockaddr *sa = v6 ? (struct sockaddr *) &sin6 : (struct sockaddr *) &sin;
	socklen_t	len = v6 ? sizeof(sin6) : sizeof(sin);
	int			fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int			one = 1;

	if (!v6 && inet_pton(AF_INET, address, &sin.sin_addr) != 1)
	{
		errno = EINVAL;
		die(address);
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, sa, len) != 0 || listen(fd, 1024) != 0)
		die("listen");
	getsockname(fd, sa, &len);
	*bound = ntohs(v6 ? sin6.sin6_port : sin.sin_port);
	return fd;
}

static void
add_secret(const char *text)
{
	unsigned char *key = secrets[nsecrets].key;
	int			len;
	size_t		in = strlen(text);

	if (strncmp(text, "whsec_", 6) == 0)
	{
		text += 6;
		in -= 6;
	}
	if (nsecrets == MAX_SECRETS || in % 4 != 0 || in > 160 || (len = EVP_DecodeBlock(key, (const unsigned char *) text, in)) < 0)
	{
		errno = EINVAL;
		die("--secret");
	}
	len -= in >= 2 && text[in - 2] == '=' ? 2 : in >= 1 && text[in - 1] == '=' ? 1 : 0;
	secrets[nsecrets++].len = len;
}

static void
thread_init(Thread *thread, bool first)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLEXCLUSIVE,.data.ptr = &listener};
	EVP_MAC    *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);

	thread->epoll = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(thread->epoll, EPOLL_CTL_ADD, listener, &ev);
	ev.data.ptr = &control_listener;
	if (first)
		epoll_ctl(thread->epoll, EPOLL_CTL_ADD, control_listener, &ev);
	for (int i = 0; i < nsecrets; i++)
	{
		OSSL_PARAM	params[] = {OSSL_PARAM_construct_utf8_string("digest", "SHA256", 0), OSSL_PARAM_construct_end()};

		thread->mac[i] = EVP_MAC_CTX_new(hmac);
		if (!EVP_MAC_init(thread->mac[i], secrets[i].key, secrets[i].len, params))
			die("HMAC");
	}
}

static void
tls_init(const char *cert, const char *key, int max_version, const char *client_ca, bool client_optional)
{
	tls = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_min_proto_version(tls, max_version && max_version < TLS1_2_VERSION ? max_version : TLS1_2_VERSION);
	if (max_version)
		SSL_CTX_set_max_proto_version(tls, max_version);
	if (max_version && max_version < TLS1_2_VERSION)
		SSL_CTX_set_security_level(tls, 0);
	SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(tls, 1);
	if (SSL_CTX_use_certificate_chain_file(tls, cert) != 1 || SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
	{
		ERR_print_errors_fp(stderr);
		exit(1);
	}
	if (client_ca != NULL)
	{
		SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | (client_optional ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT), NULL);
		SSL_CTX_set_session_id_context(tls, (const unsigned char *) "receiver", 8);
		if (SSL_CTX_load_verify_locations(tls, client_ca, NULL) != 1)
			die(client_ca);
		client_asked = true;
	}
}

static void
usage(void)
{
	fprintf(stderr, "receiver --cert FILE --key FILE | --plain | --mute  [--address 127.0.0.1] [--port 0] [--control-port 0]\n"
			"  [--client-ca FILE (a client certificate is required) [--client-optional]]\n"
			"  [--threads 1] [--log FILE] [--secret whsec_...]... [--tls 1.1|1.2|1.3 (at most)] [--stdin (end with it)]\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"cert", 1, NULL, 'c'}, {"key", 1, NULL, 'k'}, {"plain", 0, NULL, 'p'}, {"mute", 0, NULL, 'm'},
		{"address", 1, NULL, 'a'}, {"port", 1, NULL, 'P'}, {"control-port", 1, NULL, 'C'}, {"threads", 1, NULL, 't'},
		{"log", 1, NULL, 'l'}, {"secret", 1, NULL, 's'}, {"tls", 1, NULL, 'T'}, {"stdin", 0, NULL, 'i'},
		{"client-ca", 1, NULL, 'A'}, {"client-optional", 0, NULL, 'O'}, {0}
	};
	const char *cert = NULL;
	const char *key = NULL;
	const char *client_ca = NULL;
	bool		client_optional = false;
	const char *address = "127.0.0.1";
	bool		plain = false;
	bool		until_eof = false;
	int			port = 0;
	int			control_port = 0;
	int			nthreads = 1;
	int			max_version = 0;
	struct rlimit files;
	Thread	   *threads;
	char		ignored;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
		switch (c)
		{
			case 'c':
				cert = optarg;
				break;
			case 'k':
				key = optarg;
				break;
			case 'p':
				plain = true;
				break;
			case 'm':
				mute = true;
				break;
			case 'a':
				address = optarg;
				break;
			case 'P':
				port = atoi(optarg);
				break;
			case 'C':
				control_port = atoi(optarg);
				break;
			case 't':
				nthreads = atoi(optarg);
				break;
			case 'l':
				if ((log_fd = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) < 0)
					die(optarg);
				break;
			case 's':
				add_secret(optarg);
				break;
			case 'T':
				max_version = strcmp(optarg, "1.1") == 0 ? TLS1_1_VERSION : strcmp(optarg, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
				break;
			case 'i':
				until_eof = true;
				break;
			case 'A':
				client_ca = optarg;
				break;
			case 'O':
				client_optional = true;
				break;
			default:
				usage();
		}
	if (optind < argc || nthreads < 1 || (!plain && !mute && (cert == NULL || key == NULL)))
		usage();
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
	{
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (!plain && !mute)
		tls_init(cert, key, max_version, client_ca, client_optional);
	listener = listen_on(address, port, &port);
	control_listener = listen_on("127.0.0.1", control_port, &control_port);
	threads = calloc(nthreads, sizeof(Thread));
	for (int i = 0; i < nthreads; i++)
	{
		thread_init(&threads[i], i == 0);
		if (pthread_create(&threads[i].id, NULL, thread_main, &threads[i]) != 0)
			die("thread");
	}
	printf("port: %d\ncontrol: %d\n", port, control_port);
	fflush(stdout);
	if (until_eof)
	{
		while (read(0, &ignored, 1) > 0)
			;
		_exit(0);
	}
	pthread_join(threads[0].id, NULL);
	return 0;
}
