/*
 * transport.c - HTTPS requests, many at a time, without waiting.
 *
 * Runs in the dispatcher, outside transactions. Nothing here waits longer than it is
 * told to, and nothing needs a lock. Requests are spread over a few of curl's multi
 * handles, the lanes (transport_lanes.c).
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
 * transport_lanes.c has curl's multi handles, sockets and timers,
 * transport_handle.c a single curl handle and its callbacks,
 * transport_kept.c what to do about kept connections that are dead,
 * transport_mail.c a mail,
 * transport_settings.c and transport_egress.c what the settings say, transport_result.c the words for
 * what went wrong, transport_parse.c URLs.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "transport_private.h"
#include "wipe.h"

/* Bytes: of free heap that the process keeps, and that it grows by. */
#define HEAP_TO_KEEP	(4 * 1024 * 1024)
#define HEAP_STEP		(256 * 1024)

#define SERIAL_BUCKETS	64		/* power of two */
#define HOST_BUCKETS	256

/* So many handles are made before one of another endpoint is set up anew; more where there may be many connections. */
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

static int	taken = 0;			/* transfers taken, not started */
static int	started = 0;
static int	waiting = 0;		/* finished, not handed out */
static int	nhandles = 0;
static int	busy[HOST_BUCKETS][TRANSPORT_LANES];	/* handles under way, by where they go */
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
static void collect(void);
static void close_old(TransportHandle *handle);
static void finish(TransportTransfer *transfer);
static TransportHandle *take_handle(uint64 serial);
static void give_handle(TransportHandle *handle);
static dlist_head * bucket(uint64 serial);
static int	handles_to_keep(void);
static int	choose_lane(TransportHandle *handle, const DmshookEndpoint *endpoint);
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
#ifdef __GLIBC__
	/*
	 * What a turn and curl take and give back stays with the process: glibc would
	 * return it to the kernel, and get it again zeroed, some hundred times a second.
	 */
	(void) mallopt(M_TRIM_THRESHOLD, HEAP_TO_KEEP);
	(void) mallopt(M_TOP_PAD, HEAP_STEP);
#endif
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, dmshook_wipe_free, dmshook_wipe_realloc, strdup, calloc) != CURLE_OK ||
		(transport_settings.share = curl_share_init()) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not initialize libcurl")));

	/* a TLS session is resumed, and a looked-up address used, by whichever handle connects next */
	if (curl_share_setopt(transport_settings.share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK ||
		curl_share_setopt(transport_settings.share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) != CURLSHE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("libcurl refused to share between its handles"),
				 errhint("libcurl 7.85 or later is needed.")));
	transport_lanes_init();
	transport_settings_init();
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

int
dmshook_transport_fd(void)
{
	return transport_lanes_fd();
}

long
dmshook_transport_timeout(void)
{
	int64		timer_at;
	int64		left;

	if (waiting > 0)
		return 0;
	timer_at = transport_lanes_timer();
	if (timer_at < 0)
		return -1;
	left = timer_at - transport_now();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

void
dmshook_transport_run(int wait_ms)
{
	struct epoll_event events[TRANSPORT_EVENTS];
	sigset_t	before;
	int64		timer;
	int			n;

	/* what was started since goes out now, before any waiting */
	timer = transport_lanes_timer();
	if (timer >= 0 && timer <= transport_now())
	{
		block_signals(&before);
		transport_lanes_run_timers();
		collect();
		allow_signals(&before);
	}
	if (wait_ms > 0)
	{
		timer = dmshook_transport_timeout();
		if (timer >= 0 && timer < wait_ms)
			wait_ms = (int) timer;
	}
	n = transport_lanes_wait(wait_ms, events);

	block_signals(&before);
	transport_lanes_run_events(events, n);
	transport_lanes_run_timers();
	collect();
	allow_signals(&before);

	if (transport_settings.recheck_until != 0 && transport_settings.recheck_until < transport_now())
		transport_settings.recheck_until = 0;
	if (transport_lanes_broken())
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

	while ((message = transport_lanes_message()) != NULL)
	{
		TransportHandle *handle = NULL;
		TransportTransfer *transfer;
		CURLcode	code = message->data.result;

		if (transport_mail_end(message->easy_handle, code) ||
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &handle) != CURLE_OK || handle == NULL)
			continue;
		transfer = handle->transfer;
		if (transport_kept_again(handle, transfer, code))
		{
			transport_lane_remove(handle->lane, handle->easy);
			if (transport_lane_add(handle->lane, handle->easy))
				continue;
		}
		transport_result(handle, transfer, code);
		if (handle->generation != transport_settings.generation && !handle->https)
			close_old(handle);
		if (code == CURLE_OPERATION_TIMEDOUT)
			note_lookup(handle);
		if (transfer->pub.response_headers_len > 0)
			transfer->pub.response_headers = transfer->header_buf;
		if (transfer->pub.response_body_len > 0)
			transfer->pub.response_body = transfer->body_buf;
		transport_lane_remove(handle->lane, handle->easy);
		busy[handle->host_hash % HOST_BUCKETS][handle->lane]--;
		give_handle(handle);
		transfer->handle = NULL;
		dlist_delete(&transfer->node);
		started--;
		finish(transfer);
	}
}

/* The settings have changed under a request without TLS: nobody is to use its connection again. */
static void
close_old(TransportHandle *handle)
{
	curl_socket_t fd = CURL_SOCKET_BAD;

	if (curl_easy_getinfo(handle->easy, CURLINFO_ACTIVESOCKET, &fd) == CURLE_OK && fd != CURL_SOCKET_BAD)
		(void) shutdown(fd, SHUT_RDWR);
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
	pub->credential = NULL;
	pub->token = false;
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
	transfer->before_us = 0;
	transfer->again = transfer->headers_done = transfer->coded = false;
	transfer->headers_endless = transfer->body_cut = transfer->out_of_memory = transfer->out_of_files = false;
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
		{
			problem = transport_handle_setup(handle, pub->endpoint);
			if (problem == NULL)
				handle->lane = choose_lane(handle, pub->endpoint);
		}
		if (problem == NULL && handle->barred != TRANSPORT_NOT_REFUSED)
		{
			transport_result_barred(handle, transfer);
			give_handle(handle);
			finish(transfer);
			return;
		}
		if (problem == NULL)
			problem = transport_handle_prepare(handle, transfer);
		if (problem == NULL && !transport_lane_add(handle->lane, handle->easy))
			problem = "libcurl refused it";
	}
	if (problem == NULL)
	{
		transfer->handle = handle;
		transfer->state = TRANSPORT_STARTED;
		busy[handle->host_hash % HOST_BUCKETS][handle->lane]++;
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
	if (transfer->pub.endpoint->private_response > 0 && transfer->body_buf != NULL)
		explicit_bzero(transfer->body_buf, transfer->body_size);
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
		transport_lane_remove(transfer->handle->lane, transfer->handle->easy);
		busy[transfer->handle->host_hash % HOST_BUCKETS][transfer->handle->lane]--;
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

/*
 * The lane in which fewest requests are under way to this host: there most likely is a kept
 * connection. A lone request always begins at the same one, so it finds what the last
 * one left, also another webhook's. HTTP/2 has one connection for many.
 */
static int
choose_lane(TransportHandle *handle, const DmshookEndpoint *endpoint)
{
	const int  *there;
	int			first;
	int			best;

	handle->host_hash = (uint32) handle->port;
	for (const char *c = handle->host; *c != '\0'; c++)
		handle->host_hash = handle->host_hash * 31 + (unsigned char) *c;
	there = busy[handle->host_hash % HOST_BUCKETS];
	first = best = (int) (handle->host_hash % TRANSPORT_LANES);
	for (int i = 1; i < TRANSPORT_LANES && endpoint->http_version != 20; i++)
	{
		int			lane = (first + i) % TRANSPORT_LANES;

		if (there[lane] < there[best])
			best = lane;
	}
	return best;
}

static int
handles_to_keep(void)
{
	return Max(HANDLES_TO_KEEP, transport_settings.connections * 2);
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
	if (handle == NULL && nhandles < handles_to_keep())
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

void
dmshook_transport_forget(uint64 serial)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, bucket(serial))
	{
		TransportHandle *handle = dlist_container(TransportHandle, by_serial, iter.cur);

		if (handle->serial != serial)
			continue;
		dlist_delete(&handle->by_age);
		dlist_delete(&handle->by_serial);
		transport_handle_free(handle);
		nhandles--;
	}
}

static void
give_handle(TransportHandle *handle)
{
	handle->transfer = NULL;
	if (nhandles > handles_to_keep())
	{
		nhandles--;
		transport_handle_free(handle);
		return;
	}
	dlist_push_head(&idle_by_age, &handle->by_age);
	dlist_push_head(bucket(handle->serial), &handle->by_serial);
}
