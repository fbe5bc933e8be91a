/*
 * bare_curl.c - what libcurl alone can do here: the yardstick of the dispatcher.
 *
 * Sends the same requests (same size of body, same headers, a Standard
 * Webhooks v1 signature each) over the same number of kept connections, with
 * libcurl set up as the dispatcher sets it up: curl_multi_socket_action, one
 * epoll descriptor, descriptors left registered between requests, a handle
 * used again at once, its header buffers rewritten in place.  No database, no
 * log, no retry.
 */
#define _GNU_SOURCE
#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ID_LEN			26
#define FIRST_DYNAMIC	3		/* webhook-id, webhook-timestamp, webhook-signature */

typedef struct Slot
{
	CURL	   *easy;
	struct curl_slist header[16];
	char		dynamic[FIRST_DYNAMIC][256];
	char	   *body;
	char	   *response;
	size_t		response_len;
} Slot;

static CURLM *multi;
static int	epoll_fd;
static long timer_ms = -1;
static char *body;
static size_t body_len;
static size_t id_at;			/* where the body holds its message id */
static EVP_MAC_CTX *mac;
static long started,
			done,
			ok,
			wanted = 10000;

static void
die(const char *what)
{
	fprintf(stderr, "bare_curl: %s\n", what);
	exit(1);
}

static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Descriptors stay in epoll after CURL_POLL_REMOVE: the next request wants them again. */
static int
on_socket(CURL *easy, curl_socket_t s, int what, void *arg, void *known)
{
	struct epoll_event ev = {.data.fd = s};

	(void) easy;
	(void) arg;
	if (what == CURL_POLL_REMOVE)
		return 0;
	ev.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (known == NULL || epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s, &ev) != 0)
	{
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s, &ev) != 0 && errno == EEXIST)
			epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s, &ev);
		curl_multi_assign(multi, s, &epoll_fd);
	}
	return 0;
}

static int
on_close(void *arg, curl_socket_t s)
{
	(void) arg;
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, s, NULL);
	return close(s);
}

static int
on_timer(CURLM *m, long ms, void *arg)
{
	(void) m;
	(void) arg;
	timer_ms = ms;
	return 0;
}

static size_t
on_data(char *data, size_t size, size_t n, void *arg)
{
	Slot	   *slot = arg;
	size_t		len = size * n;

	if (slot->response_len + len <= 16384)
		memcpy(slot->response + slot->response_len, data, len);
	slot->response_len += len;
	return len;
}

static void
start(Slot *slot)
{
	unsigned char hash[32];
	size_t		len;
	char		id[64];
	char		at[24];
	int			at_len = snprintf(at, sizeof(at), "%ld", (long) time(NULL));

	snprintf(id, sizeof(id), "msg_%011ld%011ld", started, started * 7919 % 99999999999);
	started++;
	memcpy(slot->body + id_at, id, ID_LEN);
	EVP_MAC_init(mac, NULL, 0, NULL);
	EVP_MAC_update(mac, (unsigned char *) id, ID_LEN);
	EVP_MAC_update(mac, (unsigned char *) ".", 1);
	EVP_MAC_update(mac, (unsigned char *) at, at_len);
	EVP_MAC_update(mac, (unsigned char *) ".", 1);
	EVP_MAC_update(mac, (unsigned char *) slot->body, body_len);
	EVP_MAC_final(mac, hash, &len, sizeof(hash));
	snprintf(slot->dynamic[0], 256, "webhook-id: %s", id);
	snprintf(slot->dynamic[1], 256, "webhook-timestamp: %s", at);
	strcpy(slot->dynamic[2], "webhook-signature: v1,");
	EVP_EncodeBlock((unsigned char *) slot->dynamic[2] + 22, hash, 32);
	slot->response_len = 0;
	curl_multi_add_handle(multi, slot->easy);
}

static void
slot_init(Slot *slot, const char *url, const char *ca, char **headers, int nheaders)
{
	int			n = 0;

	slot->easy = curl_easy_init();
	slot->body = malloc(body_len);
	slot->response = malloc(16384);
	memcpy(slot->body, body, body_len);
	for (int i = 0; i < nheaders; i++)
		slot->header[n++].data = headers[i];
	for (int i = 0; i < FIRST_DYNAMIC; i++)
		slot->header[n++].data = slot->dynamic[i];
	for (int i = 0; i + 1 < n; i++)
		slot->header[i].next = &slot->header[i + 1];
	curl_easy_setopt(slot->easy, CURLOPT_URL, url);
	curl_easy_setopt(slot->easy, CURLOPT_CAINFO, ca);
	curl_easy_setopt(slot->easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(slot->easy, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(slot->easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_TIMEOUT_MS, 15000L);
	curl_easy_setopt(slot->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, slot->body);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE, (long) body_len);
	curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->header);
	curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(slot->easy, CURLOPT_WRITEDATA, slot);
	curl_easy_setopt(slot->easy, CURLOPT_HEADERFUNCTION, on_data);
	curl_easy_setopt(slot->easy, CURLOPT_HEADERDATA, slot);
	curl_easy_setopt(slot->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
}

static void
finish_all(void)
{
	CURLMsg    *msg;
	int			left;

	while ((msg = curl_multi_info_read(multi, &left)) != NULL)
	{
		Slot	   *slot;
		long		status = 0;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &slot);
		if (msg->data.result == CURLE_OK)
			curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
		else if (done == ok)
			fprintf(stderr, "bare_curl: %s\n", curl_easy_strerror(msg->data.result));
		curl_multi_remove_handle(multi, slot->easy);
		done++;
		ok += status == 200;
		if (started < wanted)
			start(slot);
	}
}

static void
loop(void)
{
	int			running = 1;

	curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	while (done < wanted)
	{
		struct epoll_event events[256];
		int			n = epoll_wait(epoll_fd, events, 256, timer_ms < 0 ? 1000 : (int) timer_ms);

		for (int i = 0; i < n; i++)
			curl_multi_socket_action(multi, events[i].data.fd,
									 (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
									 (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0), &running);
		if (n == 0 || timer_ms == 0)
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
		finish_all();
	}
}

static void
read_body(const char *path)
{
	FILE	   *f = fopen(path, "r");
	char	   *id;

	if (f == NULL)
		die(path);
	body = calloc(1, 1024 * 1024 + 1);
	body_len = fread(body, 1, 1024 * 1024, f);
	fclose(f);
	if ((id = strstr(body, "msg_")) == NULL)
		die("the body holds no message id");
	id_at = id - body;
}

static void
key_init(const char *secret)
{
	OSSL_PARAM	params[] = {OSSL_PARAM_construct_utf8_string("digest", "SHA256", 0), OSSL_PARAM_construct_end()};
	unsigned char key[256];
	size_t		len;

	secret += strncmp(secret, "whsec_", 6) == 0 ? 6 : 0;
	len = strlen(secret);
	if (len > 200 || len % 4 != 0 || EVP_DecodeBlock(key, (const unsigned char *) secret, len) < 0)
		die("--secret is not base64");
	mac = EVP_MAC_CTX_new(EVP_MAC_fetch(NULL, "HMAC", NULL));
	len = len / 4 * 3 - (secret[len - 1] == '=') - (secret[len - 2] == '=');
	if (!EVP_MAC_init(mac, key, len, params))
		die("HMAC");
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"url", 1, NULL, 'u'}, {"ca", 1, NULL, 'c'}, {"connections", 1, NULL, 'n'}, {"requests", 1, NULL, 'r'},
		{"body", 1, NULL, 'b'}, {"secret", 1, NULL, 's'}, {"header", 1, NULL, 'h'}, {0}
	};
	const char *url = NULL;
	const char *ca = NULL;
	char	   *headers[12];
	int			nheaders = 0;
	int			connections = 64;
	double		begin,
				wall;
	struct rusage usage;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
		switch (c)
		{
			case 'u':
				url = optarg;
				break;
			case 'c':
				ca = optarg;
				break;
			case 'n':
				connections = atoi(optarg);
				break;
			case 'r':
				wanted = atol(optarg);
				break;
			case 'b':
				read_body(optarg);
				break;
			case 's':
				key_init(optarg);
				break;
			case 'h':
				if (nheaders == 12)
					die("too many headers");
				headers[nheaders++] = optarg;
				break;
			default:
				exit(2);
		}
	if (url == NULL || ca == NULL || body == NULL || mac == NULL)
		die("--url, --ca, --body and --secret are needed");
	curl_global_init(CURL_GLOBAL_ALL);
	multi = curl_multi_init();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) connections);
	begin = seconds();
	for (int i = 0; i < connections && started < wanted; i++)
	{
		Slot	   *slot = calloc(1, sizeof(Slot));

		slot_init(slot, url, ca, headers, nheaders);
		start(slot);
	}
	loop();
	wall = seconds() - begin;
	getrusage(RUSAGE_SELF, &usage);
	printf("requests %ld\nok %ld\nseconds %.3f\nrate %.0f\ncpu_us %.1f\n", done, ok, wall, ok / wall,
		   ((usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / done);
	return ok == wanted ? 0 : 1;
}
