/*
 * transport_lanes.c - libcurl's multi handles ("lanes"), their sockets, and their
 * timers.
 *
 * Runs in the dispatcher, outside transactions. All sockets of all lanes are in one epoll
 * descriptor, which stands in the dispatcher's WaitEventSet beside the latch.
 *
 * Why several: to find a connection for a request, curl walks all that its multi
 * handle has to that host, busy ones too; with 64 of them that is a quarter of all its
 * work. Each lane has connections of its own, so with sixteen lanes a walk is over a
 * handful. Which lane a request takes is transport.c's choice; what they share is
 * in the curl share: TLS sessions and what names resolve to.
 *
 * Memory is malloc's, and nothing here raises an error inside a callback of curl: what goes
 * wrong there is remembered, for transport_lanes_broken().
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "transport_private.h"

/* us. Each new TLS handshake takes 2000: many at once would keep interrupts and everybody else waiting. */
#define RUN_AT_MOST		20000

typedef struct Lane
{
	CURLM	   *multi;
	int64		timer_at;		/* us; -1: none */
	bool		ended;			/* it may have messages */
} Lane;

/* What epoll does for a descriptor. */
typedef struct Socket
{
	uint8		registered;		/* EPOLLIN | EPOLLOUT as epoll has it; 0: not there */
	uint8		wanted;			/* as curl wants it */
	uint8		lane;
	bool		ours;			/* closed through close_socket(), so that it may stay registered */
} Socket;

static Lane lanes[TRANSPORT_LANES];
static int	epoll_fd = -1;
static Socket *sockets = NULL;	/* by descriptor */
static int	nsockets = 0;
static bool broken = false;		/* a callback failed; the process must start again */

static bool make_room(curl_socket_t fd);
static void watch(curl_socket_t fd, uint8 wanted);
static int	on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg);
static int	on_timer(CURLM *m, long timeout_ms, void *arg);
static void act(Lane *lane, curl_socket_t fd, int what);

void
transport_lanes_init(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not make an epoll descriptor: %m")));
	for (int i = 0; i < TRANSPORT_LANES; i++)
	{
		Lane	   *lane = &lanes[i];

		lane->timer_at = -1;
		lane->multi = curl_multi_init();
		if (lane->multi == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("could not initialize libcurl")));
		if (curl_multi_setopt(lane->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
			curl_multi_setopt(lane->multi, CURLMOPT_SOCKETDATA, lane) != CURLM_OK ||
			curl_multi_setopt(lane->multi, CURLMOPT_TIMERFUNCTION, on_timer) != CURLM_OK ||
			curl_multi_setopt(lane->multi, CURLMOPT_TIMERDATA, lane) != CURLM_OK ||
			curl_multi_setopt(lane->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_MULTIPLEX) != CURLM_OK)
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("libcurl refused an option of its multi handle"),
					 errhint("libcurl 7.85 or later is needed.")));
	}
}

/*
 * How many connections there may be is counted in transport.c, by requests. A lane keeps its
 * share of them and as many again, for requests do not spread evenly; a lane never
 * makes a request wait.
 */
void
transport_lanes_limit(int connections)
{
	long		keep = Max(8, (connections * 2 + TRANSPORT_LANES - 1) / TRANSPORT_LANES);

	for (int i = 0; i < TRANSPORT_LANES; i++)
	{
		curl_multi_setopt(lanes[i].multi, CURLMOPT_MAXCONNECTS, keep);
		curl_multi_setopt(lanes[i].multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) connections + keep + 1);
	}
}

bool
transport_lane_add(int lane, CURL *easy)
{
	return curl_multi_add_handle(lanes[lane].multi, easy) == CURLM_OK;
}

void
transport_lane_remove(int lane, CURL *easy)
{
	curl_multi_remove_handle(lanes[lane].multi, easy);
}

CURLMsg *
transport_lanes_message(void)
{
	for (int i = 0; i < TRANSPORT_LANES; i++)
	{
		CURLMsg    *message;
		int			left;

		if (!lanes[i].ended)
			continue;
		while ((message = curl_multi_info_read(lanes[i].multi, &left)) != NULL)
		{
			if (message->msg == CURLMSG_DONE)
				return message;
		}
		lanes[i].ended = false;
	}
	return NULL;
}

int
transport_lanes_fd(void)
{
	return epoll_fd;
}

int64
transport_lanes_timer(void)
{
	int64		first = -1;

	for (int i = 0; i < TRANSPORT_LANES; i++)
	{
		if (lanes[i].timer_at >= 0 && (first < 0 || lanes[i].timer_at < first))
			first = lanes[i].timer_at;
	}
	return first;
}

void
transport_lanes_run_timers(void)
{
	int64		now = transport_now();

	for (int i = 0; i < TRANSPORT_LANES; i++)
	{
		if (lanes[i].timer_at < 0 || lanes[i].timer_at > now)
			continue;
		lanes[i].timer_at = -1;
		act(&lanes[i], CURL_SOCKET_TIMEOUT, 0);
	}
}

int
transport_lanes_wait(int wait_ms, struct epoll_event *events)
{
	return epoll_wait(epoll_fd, events, TRANSPORT_EVENTS, wait_ms);
}

void
transport_lanes_run_events(const struct epoll_event *events, int n)
{
	int64		begin = n > 1 ? transport_now() : 0;

	for (int i = 0; i < n; i++)
	{
		curl_socket_t fd = events[i].data.fd;
		uint32		got = events[i].events;

		/* what is left is told again, behind what was done */
		if (i > 0 && transport_now() - begin > RUN_AT_MOST)
			break;
		/* an earlier event of this round may have closed it */
		if (fd >= nsockets || sockets[fd].registered == 0)
			continue;
		if (sockets[fd].wanted == 0)
			watch(fd, 0);
		else
			act(&lanes[sockets[fd].lane], fd,
				((got & (EPOLLIN | EPOLLHUP)) ? CURL_CSELECT_IN : 0) |
				((got & EPOLLOUT) ? CURL_CSELECT_OUT : 0) |
				((got & EPOLLERR) ? CURL_CSELECT_ERR : 0));
	}
}

bool
transport_lanes_broken(void)
{
	return broken;
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

static bool
leaves_from(curl_socket_t fd, int local_port)
{
	struct sockaddr_storage address = {0};
	socklen_t	len = sizeof(address);

	if (fd < 0 || fd >= nsockets || !sockets[fd].ours || getsockname(fd, (struct sockaddr *) &address, &len) != 0)
		return false;
	return local_port == ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &address)->sin6_port :
							   ((struct sockaddr_in *) &address)->sin_port);
}

curl_socket_t
transport_socket_at(curl_socket_t likely, int local_port)
{
	if (leaves_from(likely, local_port))
		return likely;
	for (int fd = 0; fd < nsockets; fd++)
	{
		if (leaves_from(fd, local_port))
			return fd;
	}
	return CURL_SOCKET_BAD;
}

/* curl finds them dead when it looks for one to use again. */
void
transport_lanes_close_idle(void)
{
	for (int fd = 0; fd < nsockets; fd++)
	{
		if (sockets[fd].ours && sockets[fd].wanted == 0)
			(void) shutdown(fd, SHUT_RDWR);
	}
}

/* Descriptors of curl's own (the resolver's) are closed without a word: they leave epoll at once. */
static int
on_socket(CURL *easy pg_attribute_unused(), curl_socket_t fd, int what, void *arg,
		  void *socket_arg pg_attribute_unused())
{
	if (!make_room(fd))
	{
		broken = true;
		return 0;
	}
	sockets[fd].lane = (uint8) ((Lane *) arg - lanes);
	if (what != CURL_POLL_REMOVE)
		watch(fd, (uint8) (((what & CURL_POLL_IN) ? EPOLLIN : 0) | ((what & CURL_POLL_OUT) ? EPOLLOUT : 0)));
	else if (sockets[fd].ours)
		sockets[fd].wanted = 0;
	else
		watch(fd, 0);
	return 0;
}

static int
on_timer(CURLM *m pg_attribute_unused(), long timeout_ms, void *arg)
{
	((Lane *) arg)->timer_at = timeout_ms < 0 ? -1 : transport_now() + timeout_ms * INT64CONST(1000);
	return 0;
}

static void
act(Lane *lane, curl_socket_t fd, int what)
{
	int			running;

	lane->ended = true;
	if (curl_multi_socket_action(lane->multi, fd, what, &running) != CURLM_OK)
		broken = true;
}
