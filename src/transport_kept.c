/*
 * transport_kept.c - kept connections that turn out to be dead, or worse.
 *
 * Runs in the dispatcher, outside transactions: transport_kept_begin() within a callback of
 * curl, the other when a transfer ends. No ereport, nothing is allocated.
 *
 * A receiver may close a connection that it kept for us at any moment, also while the next
 * request is on its way. That is nobody's failure, so it must not cost the delivery an
 * attempt: the request goes out again, once, on a new connection, with the same webhook-id (the
 * receiver may have handled it). curl does so where it notices while it begins to send, or
 * reads; not where the connection breaks under the rest of a long body. We do, then.
 *
 * A receiver may also say something that nobody asked for: a second answer, or 408 before it
 * closes. libcurl 7.88 takes that for the answer to the next request, which is then
 * believed to have arrived: an event would be lost. So a kept connection on which anything
 * waits is not used.
 */
#include "postgres.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "transport_private.h"

#define LEAST_PATIENCE	1000	/* ms; less would take one lost packet for a dead peer */

static bool stirred(curl_socket_t fd, void *ssl);

/*
 * A connection was found or made, the request goes out next. ssl: OpenSSL's, or NULL; without TLS
 * curl itself looks whether anything waits.
 */
void
transport_kept_begin(TransportHandle *handle, void *ssl, int local_port)
{
	curl_socket_t fd;

	if (handle->opened)
	{
		/* should a firewall forget it, there must be time for the request to go out again */
		int			patience = Max(handle->transfer->pub.endpoint->timeout / 2, LEAST_PATIENCE);

		fd = transport_socket_at(handle->opened_fd, local_port);
		if (fd == CURL_SOCKET_BAD)
			return;
		if (patience < handle->patience)
			(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof(patience));
		if (ssl != NULL)
			transport_tls_remember(ssl, fd);
	}
	else if (ssl != NULL)
	{
		fd = transport_tls_remembered(ssl);
		if (fd != CURL_SOCKET_BAD && stirred(fd, ssl))
			(void) shutdown(fd, SHUT_RDWR); /* curl fails to send, and takes a new one */
	}
}

/* Has the receiver said anything since its last answer, or ended the connection? With HTTP/2 it may say a lot. */
static bool
stirred(curl_socket_t fd, void *ssl)
{
	char		byte;

	if (transport_tls_multiplexed(ssl))
		return false;
	return transport_tls_waits(ssl) || recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/*
 * It failed: on a kept connection, before the first byte of an answer, while there is time? Then the handle
 * is made ready to do it again; the caller takes it out of its lane and adds it anew.
 */
bool
transport_kept_again(TransportHandle *handle, TransportTransfer *transfer, CURLcode code)
{
	const DmshookEndpoint *endpoint = transfer->pub.endpoint;
	int64		now = transport_now();
	int64		left;

	if (code != CURLE_SEND_ERROR && code != CURLE_RECV_ERROR && code != CURLE_GOT_NOTHING &&
		code != CURLE_PARTIAL_FILE && code != CURLE_HTTP2)
		return false;
	if (transfer->again || !handle->sent || handle->opened || transfer->header_total > 0)
		return false;
	left = endpoint->timeout - (now - handle->started_at) / 1000;
	if (left <= 0 ||
		curl_easy_setopt(handle->easy, CURLOPT_TIMEOUT_MS, (long) left) != CURLE_OK ||
		curl_easy_setopt(handle->easy, CURLOPT_CONNECTTIMEOUT_MS, (long) Max(Min(endpoint->connect_timeout, left), 1)) != CURLE_OK ||
	/* of many streams that died together the first makes a connection for all */
		curl_easy_setopt(handle->easy, CURLOPT_FRESH_CONNECT, endpoint->http_version == 20 ? 0L : 1L) != CURLE_OK)
		return false;
	transfer->again = true;
	transfer->before_us = now - handle->started_at;
	transport_handle_begin(handle);
	handle->generation = 0;		/* its times are not the endpoint's any more */
	return true;
}
