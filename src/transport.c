/*
 * transport.c - HTTPS requests, many at a time, without waiting.
 *
 * Runs in the dispatcher, outside transactions. One curl multi handle, driven
 * by curl_multi_socket_action; its sockets are in an epoll descriptor of ours,
 * which stands in the dispatcher's WaitEventSet beside the latch. Nothing here waits
 * longer than it is told to, and nothing needs a lock.
 *
 * Memory: transfers and curl handles are malloc'ed and pooled for the life of the
 * process (a palloc that fails would longjmp through curl's callbacks).
 *
 * Signals: libcurl resolves names in threads. They inherit the signal mask, and
 * PostgreSQL's handlers must not run on them, so all signals are blocked
 * (sigfillset; PostgreSQL's BlockSig lets SIGQUIT through) while curl works. Adding
 * a handle starts no thread, so dmshook_transport_start() need not.
 *
 * What never happens here: an ereport inside a callback of curl; curl's
 * cleanup at exit (it may join threads).
 *
 * transport_handle.c has a single curl handle and its callbacks,
 * transport_mail.c a mail,
 * transport_settings.c what the settings say, transport_result.c the words for
 * what went wrong, transport_parse.c URLs.
 */
#include "postgres.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "transport_private.h"

#define EVENTS_A_ROUND	256
#define SERIAL_BUCKETS	64		/* power of two */

/* So many handles are made before one of another endpoint is set up anew. */
#define HANDLES_TO_KEEP 64

/* Transfers in the pool beyond these give their memory back; and buffers beyond this size. */
#define TRANSFERS_TO_KEEP	1024
#define BUFFER_TO_KEEP		(16 * 1024)

/*
 * A lookup that took too long is given up, not its thread: getaddrinfo() cannot be
 * ended, and goes on for as long as resolv.conf says. For LOOKUP_LIFE (us) such a
 * one counts as a connection under way, so that a name server that is down does
 * not fill the process with threads; at least a quarter of the connections stay
 * for others.
 */
#define LOOKUP_LIFE		INT64CONST(30000000)
#define LOOKUPS_TO_COUNT	1024

/* What epoll does for a descriptor. */
typedef struct Socket
{
	uint8		registered;		/* EPOLLIN | EPOLLOUT as epoll has it; 0: not there */
	uint8		wanted;			/* as curl wants it */
	bool		ours;			/* closed through close_socket(), so that it may stay registered */
} Socket;

CURLM	   *transport_multi = NULL;
static int	epoll_fd = -1;
static Socket *sockets = NULL;	/* by descriptor */
static int	nsockets = 0;
static int64 timer_at = -1;		/* us; -1: none */
static bool broken = false;		/* a callback failed; the process must start again */
static int	taken = 0;			/* transfers taken, not started */
static int	started = 0;
static int	waiting = 0;		/* finished, not handed out */
static int	nhandles = 0;
static int	idle_transfers = 0;

static int64 lookups[LOOKUPS_TO_COUNT]; /* when each ends to count; a ring, oldest at first_lookup */
static int	first_lookup = 0;
static int	nlookups = 0;

static dlist_head idle_by_age = DLIST_STATIC_INIT(idle_by_age);
static dlist_head idle_by_serial[SERIAL_BUCKETS];
static dlist_head started_list = DLIST_STATIC_INIT(started_list);
static dlist_head finished_list = DLIST_STATIC_INIT(finished_list);
static dlist_head idle_list = DLIST_STATIC_INIT(idle_list);

static void block_signals(sigset_t *before);
static void allow_signals(const sigset_t *before);
static bool make_room(curl_socket_t fd);
static void watch(curl_socket_t fd, uint8 wanted);
static int	on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg);
static int	on_timer(CURLM *m, long timeout_ms, void *arg);
static void act(curl_socket_t fd, int what);
static void collect(void);
static void finish(TransportTransfer *transfer);
static TransportHandle *take_handle(uint64 serial);
static void give_handle(TransportHandle *handle);
static dlist_head * bucket(uint64 serial);
static void note_lookup(TransportHandle *handle);
static int	usable_connections(void);
static void transfer_reset(TransportTransfer *transfer);
static void transfer_to_pool(TransportTransfer *transfer);

int64
transport_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void
dmshook_transport_init(void)
{
	for (int i = 0; i < SERIAL_BUCKETS; i++)
		dlist_init(&idle_by_serial[i]);

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not make an epoll descriptor: %m")));
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
		(transport_multi = curl_multi_init()) == NULL ||
		(transport_settings.share = curl_share_init()) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not initialize libcurl")));

	/* a TLS session is resumed by whichever handle connects next; connections are the multi handle's anyway */
	if (curl_share_setopt(transport_settings.share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK ||
		curl_multi_setopt(transport_multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
		curl_multi_setopt(transport_multi, CURLMOPT_TIMERFUNCTION, on_timer) != CURLM_OK ||
		curl_multi_setopt(transport_multi, CURLMOPT_PIPELINING, (long) CURLPIPE_MULTIPLEX) != CURLM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("libcurl refused an option of its multi handle"),
				 errhint("libcurl 7.85 or later is needed.")));
	transport_settings_init(transport_multi);
}

static void
block_signals(sigset_t *before)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

static void
allow_signals(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

/*
 * Sockets. A kept connection stays in epoll between two requests
 * (curl says REMOVE and, with the next request, IN: two system calls each time).
 * So a socket must be taken out before it is closed, or its number, used again,
 * would never wake; and an event that nobody waits for (the peer closed an
 * idle connection) takes it out, or epoll would report it for ever.
 */
static bool
make_room(curl_socket_t fd)
{
	int			size = Max(nsockets, 1024);
	Socket	   *bigger;

	if (fd < nsockets)
		return true;
	while (size <= fd)
		size *= 2;
	bigger = realloc(sockets, (size_t) size * sizeof(Socket));
	if (bigger == NULL)
		return false;
	memset(bigger + nsockets, 0, (size_t) (size - nsockets) * sizeof(Socket));
	sockets = bigger;
	nsockets = size;
	return true;
}

static void
watch(curl_socket_t fd, uint8 wanted)
{
	Socket	   *s = &sockets[fd];
	struct epoll_event event;

	s->wanted = wanted;
	if (s->registered == wanted)
		return;
	memset(&event, 0, sizeof(event));
	event.events = wanted;
	event.data.fd = fd;
	if (wanted == 0)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	else if (epoll_ctl(epoll_fd, s->registered == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) < 0 &&
			 ((errno != EEXIST && errno != ENOENT) ||
			  epoll_ctl(epoll_fd, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0))
		broken = true;
	s->registered = wanted;
}

void
transport_socket_opened(curl_socket_t fd)
{
	if (make_room(fd))
	{
		sockets[fd].registered = sockets[fd].wanted = 0;
		sockets[fd].ours = true;
	}
}

void
transport_socket_closed(curl_socket_t fd)
{
	if (fd >= nsockets)
		return;
	watch(fd, 0);
	sockets[fd].ours = false;
}

/* Descriptors of curl's own (the resolver's) are closed without a word: they leave epoll at once. */
static int
on_socket(CURL *easy pg_attribute_unused(), curl_socket_t fd, int what, void *arg pg_attribute_unused(),
		  void *socket_arg pg_attribute_unused())
{
	if (!make_room(fd))
	{
		broken = true;
		return 0;
	}
	if (what != CURL_POLL_REMOVE)
		watch(fd, (uint8) (((what & CURL_POLL_IN) ? EPOLLIN : 0) | ((what & CURL_POLL_OUT) ? EPOLLOUT : 0)));
	else if (sockets[fd].ours)
		sockets[fd].wanted = 0;
	else
		watch(fd, 0);
	return 0;
}

static int
on_timer(CURLM *m pg_attribute_unused(), long timeout_ms, void *arg pg_attribute_unused())
{
	timer_at = timeout_ms < 0 ? -1 : transport_now() + timeout_ms * INT64CONST(1000);
	return 0;
}

static void
act(curl_socket_t fd, int what)
{
	int			running;

	if (curl_multi_socket_action(transport_multi, fd, what, &running) != CURLM_OK)
		broken = true;
}

int
dmshook_transport_fd(void)
{
	return epoll_fd;
}

long
dmshook_transport_timeout(void)
{
	int64		left;

	if (waiting > 0)
		return 0;
	if (timer_at < 0)
		return -1;
	left = timer_at - transport_now();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

void
dmshook_transport_run(int wait_ms)
{
	struct epoll_event events[EVENTS_A_ROUND];
	sigset_t	before;
	int			n;

	/* what was started since goes out now, before any waiting */
	if (timer_at >= 0 && timer_at <= transport_now())
	{
		timer_at = -1;
		block_signals(&before);
		act(CURL_SOCKET_TIMEOUT, 0);
		collect();
		allow_signals(&before);
	}
	if (wait_ms > 0)
	{
		long		timer = dmshook_transport_timeout();

		if (timer >= 0 && timer < wait_ms)
			wait_ms = (int) timer;
	}
	n = epoll_wait(epoll_fd, events, EVENTS_A_ROUND, wait_ms);

	block_signals(&before);
	for (int i = 0; i < n; i++)
	{
		curl_socket_t fd = events[i].data.fd;
		uint32		got = events[i].events;

		/* an earlier event of this round may have closed it */
		if (fd >= nsockets || sockets[fd].registered == 0)
			continue;
		if (sockets[fd].wanted == 0)
			watch(fd, 0);
		else
			act(fd, ((got & (EPOLLIN | EPOLLHUP)) ? CURL_CSELECT_IN : 0) |
				((got & EPOLLOUT) ? CURL_CSELECT_OUT : 0) |
				((got & EPOLLERR) ? CURL_CSELECT_ERR : 0));
	}
	if (timer_at >= 0 && timer_at <= transport_now())
	{
		timer_at = -1;
		act(CURL_SOCKET_TIMEOUT, 0);
	}
	collect();
	allow_signals(&before);

	if (transport_settings.recheck_until != 0 && transport_settings.recheck_until < transport_now())
		transport_settings.recheck_until = 0;
	if (broken)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("libcurl or epoll failed in the dispatcher"),
				 errdetail("Memory or descriptors may have run out.")));
}

/*
 * Transfers. The one place where one ends, but for dmshook_transport_abort().
 */
static void
collect(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(transport_multi, &left)) != NULL)
	{
		TransportHandle *handle = NULL;
		TransportTransfer *transfer;
		CURLcode	code = message->data.result;

		if (message->msg != CURLMSG_DONE || transport_mail_end(message->easy_handle, code) ||
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &handle) != CURLE_OK || handle == NULL)
			continue;
		transfer = handle->transfer;
		transport_result(handle, transfer, code);
		if (code == CURLE_OPERATION_TIMEDOUT)
			note_lookup(handle);
		if (transfer->pub.response_headers_len > 0)
			transfer->pub.response_headers = transfer->header_buf;
		if (transfer->pub.response_body_len > 0)
			transfer->pub.response_body = transfer->body_buf;
		curl_multi_remove_handle(transport_multi, handle->easy);
		give_handle(handle);
		transfer->handle = NULL;
		dlist_delete(&transfer->node);
		started--;
		finish(transfer);
	}
}

static void
finish(TransportTransfer *transfer)
{
	transfer->state = TRANSPORT_FINISHED;
	dlist_push_tail(&finished_list, &transfer->node);
	waiting++;
}

DmshookTransfer *
dmshook_transport_get(const DmshookEndpoint *endpoint)
{
	TransportTransfer *transfer;

	if (taken + started + waiting >= usable_connections())
		return NULL;
	if (!dlist_is_empty(&idle_list))
	{
		transfer = dlist_container(TransportTransfer, node, dlist_pop_head_node(&idle_list));
		idle_transfers--;
	}
	else if ((transfer = calloc(1, sizeof(TransportTransfer))) == NULL)
		return NULL;

	transfer_reset(transfer);
	transfer->pub.endpoint = endpoint;
	transfer->state = TRANSPORT_TAKEN;
	taken++;
	return &transfer->pub;
}

static void
transfer_reset(TransportTransfer *transfer)
{
	DmshookTransfer *pub = &transfer->pub;

	pub->endpoint = NULL;
	pub->query = NULL;
	pub->nheaders = 0;
	pub->body = NULL;
	pub->body_len = 0;
	pub->owner = NULL;
	pub->priv = transfer;

	pub->outcome = DMSHOOK_INTERNAL_ERROR;
	pub->status = 0;
	pub->duration_us = 0;
	pub->dns_us = pub->connect_us = pub->tls_us = pub->first_byte_us = -1;
	pub->local_address[0] = pub->remote_address[0] = '\0';
	pub->http_version = 0;
	pub->tls_version[0] = '\0';
	pub->tls_cipher = 0;
	pub->certificate_expires = 0;
	pub->response_headers = pub->response_body = NULL;
	pub->response_headers_len = pub->response_body_len = 0;
	pub->error[0] = pub->hint[0] = '\0';
	pub->retry_after_ms = -1;

	transfer->handle = NULL;
	transfer->header_total = transfer->body_total = 0;
	transfer->headers_endless = transfer->body_cut = transfer->out_of_memory = false;
}

void
dmshook_transport_start(DmshookTransfer *pub)
{
	TransportTransfer *transfer = pub->priv;
	TransportHandle *handle = take_handle(pub->endpoint->serial);
	const char *problem = NULL;

	Assert(transfer->state == TRANSPORT_TAKEN);
	taken--;
	if (handle == NULL)
		problem = "memory is short";
	else
	{
		if (handle->serial != pub->endpoint->serial || handle->generation != transport_settings.generation)
			problem = transport_handle_setup(handle, pub->endpoint);
		if (problem == NULL)
			problem = transport_handle_prepare(handle, transfer);
		if (problem == NULL && curl_multi_add_handle(transport_multi, handle->easy) != CURLM_OK)
			problem = "libcurl refused it";
	}
	if (problem == NULL)
	{
		transfer->handle = handle;
		transfer->state = TRANSPORT_STARTED;
		dlist_push_tail(&started_list, &transfer->node);
		started++;
		return;
	}
	if (handle != NULL)
	{
		handle->generation = 0;
		give_handle(handle);
	}
	transport_result_internal(transfer, problem);
	finish(transfer);
}

DmshookTransfer *
dmshook_transport_finished(void)
{
	TransportTransfer *transfer;

	if (dlist_is_empty(&finished_list))
		return NULL;
	transfer = dlist_container(TransportTransfer, node, dlist_pop_head_node(&finished_list));
	waiting--;
	transfer->state = TRANSPORT_HANDED_OUT;
	return &transfer->pub;
}

void
dmshook_transport_put(DmshookTransfer *pub)
{
	TransportTransfer *transfer = pub->priv;

	Assert(transfer->state == TRANSPORT_TAKEN || transfer->state == TRANSPORT_HANDED_OUT);
	if (transfer->state == TRANSPORT_TAKEN)
		taken--;
	transfer_to_pool(transfer);
}

static void
transfer_to_pool(TransportTransfer *transfer)
{
	transfer->state = TRANSPORT_IDLE;
	if (idle_transfers >= TRANSFERS_TO_KEEP)
	{
		free(transfer->header_buf);
		free(transfer->body_buf);
		free(transfer);
		return;
	}
	if (transfer->body_size > BUFFER_TO_KEEP + 1)
	{
		free(transfer->body_buf);
		transfer->body_buf = NULL;
		transfer->body_size = 0;
	}
	dlist_push_head(&idle_list, &transfer->node);
	idle_transfers++;
}

void
dmshook_transport_abort(bool (*which) (DmshookTransfer *transfer, void *arg), void *arg)
{
	dlist_mutable_iter iter;
	sigset_t	before;

	block_signals(&before);
	dlist_foreach_modify(iter, &started_list)
	{
		TransportTransfer *transfer = dlist_container(TransportTransfer, node, iter.cur);

		if (which != NULL && !which(&transfer->pub, arg))
			continue;
		note_lookup(transfer->handle);
		curl_multi_remove_handle(transport_multi, transfer->handle->easy);
		give_handle(transfer->handle);
		transfer->handle = NULL;
		dlist_delete(&transfer->node);
		started--;
		transfer_to_pool(transfer);
	}
	dlist_foreach_modify(iter, &finished_list)
	{
		TransportTransfer *transfer = dlist_container(TransportTransfer, node, iter.cur);

		if (which != NULL && !which(&transfer->pub, arg))
			continue;
		dlist_delete(&transfer->node);
		waiting--;
		transfer_to_pool(transfer);
	}
	allow_signals(&before);
}

/* A transfer ends: if it was still looking for an address, its thread goes on. */
static void
note_lookup(TransportHandle *handle)
{
	if (handle->sent || handle->tried.ss_family != AF_UNSPEC || handle->refusal != TRANSPORT_NOT_REFUSED ||
		transport_ip_literal(handle->host) || nlookups == LOOKUPS_TO_COUNT)
		return;
	lookups[(first_lookup + nlookups) % LOOKUPS_TO_COUNT] = transport_now() + LOOKUP_LIFE;
	nlookups++;
}

static int
usable_connections(void)
{
	int			all = transport_settings.connections;

	if (nlookups == 0)
		return all;
	while (nlookups > 0 && lookups[first_lookup] < transport_now())
	{
		first_lookup = (first_lookup + 1) % LOOKUPS_TO_COUNT;
		nlookups--;
	}
	return Max(all - nlookups, (all + 3) / 4);
}

int
dmshook_transport_in_flight(void)
{
	return started + waiting;
}

/*
 * Handles. The one that served this endpoint last comes first: it needs no
 * setting up and is warm. Else a new one, until there are a good many;
 * then the one that was idle for longest.
 */
static dlist_head *
bucket(uint64 serial)
{
	return &idle_by_serial[serial & (SERIAL_BUCKETS - 1)];
}

static TransportHandle *
take_handle(uint64 serial)
{
	TransportHandle *handle = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, bucket(serial))
	{
		handle = dlist_container(TransportHandle, by_serial, iter.cur);
		if (handle->serial == serial)
			break;
		handle = NULL;
	}
	if (handle == NULL && nhandles < HANDLES_TO_KEEP)
	{
		handle = transport_handle_create();
		if (handle != NULL)
		{
			nhandles++;
			return handle;
		}
	}
	if (handle == NULL && !dlist_is_empty(&idle_by_age))
		handle = dlist_tail_element(TransportHandle, by_age, &idle_by_age);
	if (handle == NULL)
	{
		handle = transport_handle_create();
		if (handle != NULL)
			nhandles++;
		return handle;
	}
	dlist_delete(&handle->by_age);
	dlist_delete(&handle->by_serial);
	return handle;
}

static void
give_handle(TransportHandle *handle)
{
	handle->transfer = NULL;
	if (nhandles > Max(HANDLES_TO_KEEP, transport_settings.connections))
	{
		nhandles--;
		transport_handle_free(handle);
		return;
	}
	dlist_push_head(&idle_by_age, &handle->by_age);
	dlist_push_head(bucket(handle->serial), &handle->by_serial);
}
