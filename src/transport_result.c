/*
 * transport_result.c - what came of a request, for people: outcome, one
 * sentence that says what happened, and one that says what to do.
 *
 * Runs in the dispatcher, after curl is done with a transfer. Pure but for
 * reading from the curl handle; allocates nothing. No secret gets in: of the URL
 * only host and port are told, of the response only status and where it
 * redirects to (without query), and bytes of others are made printable.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "settings.h"
#include "transport_private.h"

#define FILES_SHORT_US	INT64CONST(1000000)
#define FILES_TOLD_US	(60 * INT64CONST(1000000))	/* that files have run out is logged no more often */

/* X509_V_ERR_...: the numbers are fixed; only sign.c, cert.c and transport_tls.c include OpenSSL. */
#define VERIFY_NO_LOCAL_ISSUER		20
#define VERIFY_NO_LEAF_SIGNATURE	21
#define VERIFY_NOT_YET_VALID		9
#define VERIFY_EXPIRED				10
#define VERIFY_SELF_SIGNED			18
#define VERIFY_SELF_SIGNED_CHAIN	19
#define VERIFY_REVOKED				23
#define VERIFY_PURPOSE				26
#define VERIFY_WEAK_KEY				66
#define VERIFY_WEAK_CA_KEY			67
#define VERIFY_WEAK_DIGEST			68

/* What the explaining functions work on. */
typedef struct Failure
{
	TransportHandle *handle;
	TransportTransfer *transfer;
	DmshookTransfer *pub;
	CURLcode	code;
	const char *host;
	int			port;
	int			timeout;		/* ms, of the whole */
	int			connect_timeout;
	char		address[INET6_ADDRSTRLEN + 4];	/* " (192.0.2.1)", or "" where the host is one or none was tried */
	char		detail[160];	/* what curl says, printable */
} Failure;

static bool answered(TransportHandle *handle, TransportTransfer *transfer, CURLcode code);
static void say(Failure *f, DmshookOutcome outcome, const char *hint, const char *error,...) pg_attribute_printf(4, 5);
static void read_times(TransportHandle *handle, DmshookTransfer *pub, int64 before_us);
static void read_connection(TransportHandle *handle, DmshookTransfer *pub);
static int	step(curl_off_t from, curl_off_t to);
static void address_text(const struct sockaddr_storage *address, char *out, size_t size);
static void printable(char *out, size_t size, const char *in);
static void explain_status(Failure *f);
static void explain_redirect(Failure *f);
static void explain_code(Failure *f);
static void explain_timeout(Failure *f);
static void explain_connect(Failure *f);
static void explain_blocked(Failure *f);
static void explain_proxy(Failure *f);
static void explain_certificate(Failure *f);
static void explain_tls(Failure *f);
static void explain_broken(Failure *f);
static void explain_rest(Failure *f);
static bool says(Failure *f, const char *text);

void
transport_result(TransportHandle *handle, TransportTransfer *transfer, CURLcode code)
{
	DmshookTransfer *pub = &transfer->pub;
	Failure		f = {.handle = handle, .transfer = transfer, .pub = pub, .code = code};
	long		status = 0;

	curl_easy_getinfo(handle->easy, CURLINFO_RESPONSE_CODE, &status);
	pub->status = (int) status;
	read_times(handle, pub, transfer->before_us);
	read_connection(handle, pub);

	f.host = handle->host;
	f.port = handle->port;
	f.timeout = pub->endpoint->timeout;
	f.connect_timeout = Min(pub->endpoint->connect_timeout, pub->endpoint->timeout);
	if (handle->tried.ss_family != AF_UNSPEC && !handle->proxied && !transport_ip_literal(handle->host))
	{
		char		text[INET6_ADDRSTRLEN];

		address_text(&handle->tried, text, sizeof(text));
		snprintf(f.address, sizeof(f.address), " (%s)", text);
	}

	if (answered(handle, transfer, code))
	{
		if (dmshook_status_list_has(&pub->endpoint->success, pub->status))
			pub->outcome = DMSHOOK_OK;
		else
			explain_status(&f);
		return;
	}
	printable(f.detail, sizeof(f.detail), handle->errbuf[0] != '\0' ? handle->errbuf : curl_easy_strerror(code));
	explain_code(&f);
}

void
transport_result_barred(TransportHandle *handle, TransportTransfer *transfer)
{
	Failure		f = {.handle = handle, .transfer = transfer, .pub = &transfer->pub, .host = handle->host, .port = handle->port};

	handle->refusal = handle->barred;
	explain_blocked(&f);
}

void
transport_result_internal(TransportTransfer *transfer, const char *problem)
{
	DmshookTransfer *pub = &transfer->pub;

	pub->outcome = DMSHOOK_INTERNAL_ERROR;
	snprintf(pub->error, sizeof(pub->error), "The request could not be built: %s.", problem);
	strlcpy(pub->hint, "Look at the webhook's url, headers and auth, and at the server log.", sizeof(pub->hint));
}

/*
 * Did the receiver answer? A body that we did not read to its end does not matter, nor
 * one of ours that it did not read, once the whole of its answer is there. The end of the
 * connection within the headers is no end of theirs, though libcurl 7.88 thinks so.
 */
static bool
answered(TransportHandle *handle, TransportTransfer *transfer, CURLcode code)
{
	curl_off_t	length = -1;

	if (code == CURLE_WRITE_ERROR && transfer->body_cut)
		return true;
	if (!transfer->headers_done || transfer->pub.status < 200)
		return false;
	if (code == CURLE_OK)
		return true;
	if (code != CURLE_SEND_ERROR && code != CURLE_RECV_ERROR && code != CURLE_OPERATION_TIMEDOUT)
		return false;
	return curl_easy_getinfo(handle->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) == CURLE_OK &&
		length >= 0 && (curl_off_t) transfer->body_total >= length;
}

static void
say(Failure *f, DmshookOutcome outcome, const char *hint, const char *error,...)
{
	va_list		args;

	f->pub->outcome = outcome;
	va_start(args, error);
	vsnprintf(f->pub->error, sizeof(f->pub->error), error, args);
	va_end(args);
	strlcpy(f->pub->hint, hint, sizeof(f->pub->hint));
}

/* curl's times all count from the beginning, and are 0 where it did not get there. */
static void
read_times(TransportHandle *handle, DmshookTransfer *pub, int64 before_us)
{
	CURL	   *easy = handle->easy;
	curl_off_t	total = 0,
				dns = 0,
				connect = 0,
				tls = 0,
				sent = 0,
				first = 0;
	long		connections = 0;

	curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &total);
	curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &dns);
	curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connect);
	curl_easy_getinfo(easy, CURLINFO_APPCONNECT_TIME_T, &tls);
	curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &sent);
	curl_easy_getinfo(easy, CURLINFO_STARTTRANSFER_TIME_T, &first);
	curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connections);

	pub->duration_us = step(0, total + before_us);
	if (handle->sent && connections == 0)
		pub->dns_us = pub->connect_us = pub->tls_us = 0;
	else
	{
		pub->dns_us = dns > 0 ? step(0, dns) : -1;
		if (connect > 0)
			pub->connect_us = step(dns, connect);
		else if (handle->tls_begun_at != 0)
			pub->connect_us = step(handle->started_at + dns, handle->tls_begun_at);
		else
			pub->connect_us = -1;
		if (handle->https)
			pub->tls_us = tls > 0 ? step(connect, tls) : -1;
		else
			pub->tls_us = connect > 0 ? 0 : -1;
	}
	pub->first_byte_us = handle->sent && first > 0 && pub->status != 0 ? step(sent, first) : -1;
}

static int
step(curl_off_t from, curl_off_t to)
{
	return (int) Max(0, Min(to - from, (curl_off_t) PG_INT32_MAX));
}

static void
read_connection(TransportHandle *handle, DmshookTransfer *pub)
{
	char	   *text = NULL;
	long		version = 0;

	if (curl_easy_getinfo(handle->easy, CURLINFO_PRIMARY_IP, &text) == CURLE_OK && text != NULL)
		strlcpy(pub->remote_address, text, sizeof(pub->remote_address));
	if (curl_easy_getinfo(handle->easy, CURLINFO_LOCAL_IP, &text) == CURLE_OK && text != NULL)
		strlcpy(pub->local_address, text, sizeof(pub->local_address));
	if (pub->remote_address[0] == '\0')
	{
		if (handle->tried.ss_family != AF_UNSPEC)
			address_text(&handle->tried, pub->remote_address, sizeof(pub->remote_address));
		else if (handle->refusal != TRANSPORT_NOT_REFUSED)
			address_text(&handle->blocked, pub->remote_address, sizeof(pub->remote_address));
	}

	if (pub->status == 0)
		return;
	curl_easy_getinfo(handle->easy, CURLINFO_HTTP_VERSION, &version);
	pub->http_version = version == CURL_HTTP_VERSION_2_0 ? 20 : version == CURL_HTTP_VERSION_1_0 ? 10 : 11;
}

static void
address_text(const struct sockaddr_storage *address, char *out, size_t size)
{
	const void *bytes;

	if (address->ss_family == AF_INET)
		bytes = &((const struct sockaddr_in *) address)->sin_addr;
	else
		bytes = &((const struct sockaddr_in6 *) address)->sin6_addr;
	if (inet_ntop(address->ss_family, bytes, out, (socklen_t) size) == NULL)
		strlcpy(out, "?", size);
}

/* Others' words within ours: ASCII only, on one line, without a period at the end. */
static void
printable(char *out, size_t size, const char *in)
{
	size_t		n = 0;

	for (; *in != '\0' && n + 1 < size; in++)
		out[n++] = *in >= 0x20 && *in < 0x7f ? *in : '?';
	while (n > 0 && (out[n - 1] == '.' || out[n - 1] == ' '))
		n--;
	out[n] = '\0';
}

static bool
says(Failure *f, const char *text)
{
	return strstr(f->handle->errbuf, text) != NULL;
}

/*
 * A response came, and its status is none of those that mean success.
 */
static const struct
{
	int			status;
	const char *phrase;
	const char *hint;
}			status_table[] =

{
	{400, "Bad Request", "The receiver does not take this body: see response_body for what it says, and payload for what was sent."},
	{401, "Unauthorized", "The receiver does not accept the credentials, or the signature: check auth and the signing secret."},
	{402, "Payment Required", "See response_body for what the receiver says."},
	{403, "Forbidden", "The receiver knows who is calling and says no: check auth, and whether it admits the database server's address."},
	{404, "Not Found", "Check the path of the webhook's url."},
	{405, "Method Not Allowed", "Check the webhook's method, and the path of its url."},
	{406, "Not Acceptable", "See response_body for what the receiver says; it may want another accept header."},
	{408, "Request Timeout", "The receiver did not get the request in time: the network or the receiver is overloaded."},
	{409, "Conflict", "See response_body: a receiver that has seen this webhook-id before should answer 2xx."},
	{410, "Gone", "The receiver wants no more requests at this URL: ask it for the new one."},
	{411, "Length Required", "See response_body for what the receiver says."},
	{413, "Content Too Large", "The receiver limits the size of requests: raise its limit, or leave large columns out with exclude or include."},
	{414, "URI Too Long", "The receiver limits the length of URLs: use the method POST."},
	{415, "Unsupported Media Type", "The receiver does not take application/json: check its documentation, and headers of the webhook."},
	{421, "Misdirected Request", "The server at this address does not serve this host name: check its configuration."},
	{422, "Unprocessable Content", "The receiver read the body and refuses what it says: see response_body and payload."},
	{425, "Too Early", "It will be sent again."},
	{429, "Too Many Requests", "The receiver wants fewer requests: set the options rate_limit or max_in_flight."},
	{431, "Request Header Fields Too Large", "The receiver limits the size of headers: check headers of the webhook."},
	{500, "Internal Server Error", "The receiver failed: see response_body, and its own log."},
	{501, "Not Implemented", "The receiver does not know the webhook's method."},
	{502, "Bad Gateway", "The proxy before the receiver cannot reach it: look there."},
	{503, "Service Unavailable", "The receiver is overloaded or being maintained."},
	{504, "Gateway Timeout", "The receiver did not answer the proxy before it: it should answer 2xx at once and work afterwards."},
};

static void
explain_status(Failure *f)
{
	int			status = f->pub->status;
	const char *hint;

	if (status >= 300 && status <= 399)
	{
		explain_redirect(f);
		return;
	}
	for (size_t i = 0; i < lengthof(status_table); i++)
	{
		if (status_table[i].status == status)
		{
			say(f, DMSHOOK_HTTP_ERROR, status_table[i].hint, "The receiver answered %d %s.", status, status_table[i].phrase);
			return;
		}
	}
	if (status >= 200 && status <= 299)
		hint = "This status is not in the webhook's option success.";
	else if (status >= 500)
		hint = "The receiver failed: see response_body, and its own log.";
	else
		hint = "See response_body for what the receiver says.";
	say(f, DMSHOOK_HTTP_ERROR, hint, "The receiver answered %d.", status);
}

/* Where to, without query and credentials: those may be secrets of the receiver. */
static void
explain_redirect(Failure *f)
{
	char	   *location = NULL;
	char		target[200];

	target[0] = '\0';
	if (curl_easy_getinfo(f->handle->easy, CURLINFO_REDIRECT_URL, &location) == CURLE_OK && location != NULL)
	{
		const char *authority = strstr(location, "://");
		const char *at = NULL;
		char		plain[200];
		size_t		len;

		if (authority != NULL)
			at = memchr(authority, '@', strcspn(authority + 3, "/?#") + 3);
		if (at == NULL)
			strlcpy(plain, location, sizeof(plain));
		else
			snprintf(plain, sizeof(plain), "%.*s%s", (int) Min(authority + 3 - location, 20), location, at + 1);
		len = strcspn(plain, "?#");
		plain[len] = '\0';
		printable(target, sizeof(target), plain);
	}
	if (target[0] != '\0')
		say(f, DMSHOOK_REDIRECT, "Redirects are not followed: set the webhook's url to where the receiver really is.",
			"The receiver answered %d, a redirect to %s.", f->pub->status, target);
	else
		say(f, DMSHOOK_REDIRECT, "Redirects are not followed: set the webhook's url to where the receiver really is.",
			"The receiver answered %d, a redirect.", f->pub->status);
}

/*
 * Were there descriptors for it? curl tells of a socket only; of a name or of the authorities' file it
 * says that they could not be read, which is taken for the same while sockets fail, too.
 */
static bool
out_of_files(Failure *f)
{
	static int64 last = 0;
	int64		now = transport_now();

	if (f->transfer->out_of_files)
		last = now;
	return f->transfer->out_of_files ||
		(last != 0 && now - last < FILES_SHORT_US &&
		 (f->code == CURLE_COULDNT_RESOLVE_HOST || f->code == CURLE_SSL_CACERT_BADFILE));
}

/* It concerns all webhooks, so the log has it, too; now and then. */
static void
explain_files(Failure *f)
{
	static int64 told = 0;
	int64		now = transport_now();

	say(f, DMSHOOK_INTERNAL_ERROR, "Raise the limit of open files (ulimit -n, LimitNOFILE), or lower dmshook.max_connections.",
		"No file descriptor was left for the connection to %s.", f->host);
	if (told != 0 && now - told < FILES_TOLD_US)
		return;
	told = now;
	ereport(WARNING,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("no file descriptor was left for a request of dmshook"),
			 errdetail("Such requests fail, and are made again."),
			 errhint("Raise the limit of open files (ulimit -n, LimitNOFILE), or lower dmshook.max_connections.")));
}

/*
 * No whole response came.
 */
static void
explain_code(Failure *f)
{
	/* of a header line beyond 100 kB curl says that memory is short, or, from 8.6 on, CURLE_TOO_LARGE (100) */
	bool		long_line = (f->code == CURLE_OUT_OF_MEMORY || (int) f->code == 100) &&
	f->transfer->header_total > 0 && f->transfer->body_total == 0;

	if (f->transfer->headers_endless || (long_line && !f->transfer->out_of_memory) || says(f, "Too large response headers"))
		say(f, DMSHOOK_TOO_LARGE, "The receiver sends headers without end: look at what answers at that address.",
			"The headers of the response are too long.");
	else if (f->transfer->out_of_memory || f->code == CURLE_OUT_OF_MEMORY)
		say(f, DMSHOOK_INTERNAL_ERROR, "Look at the memory of the database server.", "Memory ran out during the request.");
	else if (out_of_files(f))
		explain_files(f);
	else if (f->handle->refusal != TRANSPORT_NOT_REFUSED && f->handle->tried.ss_family == AF_UNSPEC)
		explain_blocked(f);
	else if (f->handle->proxied && !f->handle->sent && f->handle->tls_begun_at == 0)
		explain_proxy(f);
	else
	{
		switch (f->code)
		{
			case CURLE_INTERFACE_FAILED:
				say(f, DMSHOOK_INTERNAL_ERROR, "It must be an address or an interface of the database server that is up: check dmshook.source_address against \"ip address\".",
					"No connection can be made from dmshook.source_address, \"%s\".", dmshook_source_address);
				break;
			case CURLE_OPERATION_TIMEDOUT:
				explain_timeout(f);
				break;
			case CURLE_COULDNT_RESOLVE_HOST:
				say(f, DMSHOOK_DNS_ERROR,
					"Check the host in the webhook's url, and the name resolution of the database server (getent hosts NAME).",
					"The name \"%s\" could not be resolved.", f->host);
				break;
			case CURLE_COULDNT_CONNECT:
				explain_connect(f);
				break;
			case CURLE_PEER_FAILED_VERIFICATION:
				explain_certificate(f);
				break;
			case CURLE_SSL_CONNECT_ERROR:
			case CURLE_SSL_CACERT_BADFILE:
			case CURLE_SSL_CERTPROBLEM:
			case CURLE_SSL_CIPHER:
			case CURLE_SSL_ISSUER_ERROR:
			case CURLE_SSL_CLIENTCERT:
				explain_tls(f);
				break;
			case CURLE_OK:		/* it ended within the headers */
			case CURLE_GOT_NOTHING:
			case CURLE_SEND_ERROR:
			case CURLE_RECV_ERROR:
			case CURLE_PARTIAL_FILE:
				explain_broken(f);
				break;
			default:
				explain_rest(f);
				break;
		}
	}
}

/* curl says only "timed out": how far it had come tells what it waited for. */
static void
explain_timeout(Failure *f)
{
	DmshookTransfer *pub = f->pub;

	if (f->handle->sent && pub->status >= 100 && pub->status < 200)
		say(f, DMSHOOK_TIMEOUT, "An answer below 200 is an interim one: the final one did not come. Look at what answers at that address.",
			"%s answered %d, and no more within %d ms.", f->host, pub->status, f->timeout);
	else if (f->handle->sent && pub->status != 0)
		say(f, DMSHOOK_TIMEOUT, "The receiver began to answer, but did not end: it should answer 2xx with a short body at once.",
			"The response of %s was not complete within %d ms.", f->host, f->timeout);
	else if (f->handle->sent)
		say(f, DMSHOOK_TIMEOUT,
			"The receiver should answer 2xx at once and work afterwards; else raise the option timeout. It may have handled the request, and gets it again with the same webhook-id.",
			"%s did not answer within %d ms.", f->host, f->timeout);
	else if (says(f, "Resolving timed out") || says(f, "name lookup timed out"))
		say(f, DMSHOOK_TIMEOUT, "The name servers of the database server do not answer: check /etc/resolv.conf and the network.",
			"The name \"%s\" was not resolved within %d ms.", f->host, f->connect_timeout);
	else if (pub->dns_us < 0)
		say(f, DMSHOOK_TIMEOUT, "Other requests held all connections, or their connection was not made in time: see the other attempts.",
			"The request to %s did not get a connection within %d ms.", f->host, f->timeout);
	else if (pub->connect_us < 0)
		say(f, DMSHOOK_TIMEOUT, "A firewall on the way may drop the packets: check that the database server may reach that address and port.",
			"No connection to %s%s port %d within %d ms.", f->host, f->address, f->port, f->connect_timeout);
	else
		say(f, DMSHOOK_TIMEOUT, "The port takes connections, but no TLS came up: check that it is an HTTPS port, and that the receiver is not overloaded.",
			"The TLS handshake with %s%s port %d was not done within %d ms.", f->host, f->address, f->port, f->connect_timeout);
}

static void
explain_connect(Failure *f)
{
	long		number = 0;

	curl_easy_getinfo(f->handle->easy, CURLINFO_OS_ERRNO, &number);
	if (number == ECONNREFUSED)
		say(f, DMSHOOK_CONNECT_ERROR, "Nothing listens there: check the port in the webhook's url, and that the receiver is running.",
			"The connection to %s%s port %d was refused.", f->host, f->address, f->port);
	else if (number != 0)
		say(f, DMSHOOK_CONNECT_ERROR, "Check the network, the routes and the firewall between the database server and the receiver.",
			"The connection to %s%s port %d failed: %s.", f->host, f->address, f->port, strerror((int) number));
	else
		say(f, DMSHOOK_CONNECT_ERROR, "Check the network, the routes and the firewall between the database server and the receiver.",
			"The connection to %s%s port %d failed.", f->host, f->address, f->port);
}

static void
explain_blocked(Failure *f)
{
	char		text[INET6_ADDRSTRLEN];
	char		hint[200];

	if (f->handle->blocked.ss_family != AF_INET && f->handle->blocked.ss_family != AF_INET6)
		strlcpy(text, "?", sizeof(text));
	else
		address_text(&f->handle->blocked, text, sizeof(text));
	if (f->handle->refusal == TRANSPORT_ODD_HOST)
	{
		say(f, DMSHOOK_BLOCKED_ADDRESS, "Write the address the usual way, such as 203.0.114.7, or the name.",
			"The host \"%s\" is no name, and dmshook.proxy might read it as an address.", f->host);
		return;
	}
	if (f->handle->refusal == TRANSPORT_NOT_KNOWN)
	{
		say(f, DMSHOOK_BLOCKED_ADDRESS, "Leave out the option allowed_addresses, and limit the receiver's addresses at the proxy; or write an address into the url.",
			"dmshook.proxy looks up \"%s\", so the webhook's option allowed_addresses cannot be kept.", f->host);
		return;
	}
	if (f->handle->refusal == TRANSPORT_BAD_PORT)
	{
		say(f, DMSHOOK_BLOCKED_ADDRESS, "If this receiver is meant, a superuser can permit it: add the port to the setting dmshook.allowed_ports.",
			"The port %d is not among those of dmshook.allowed_ports.", f->port);
		return;
	}
	if (f->handle->refusal == TRANSPORT_NOT_ALLOWED)
	{
		say(f, DMSHOOK_BLOCKED_ADDRESS, "If the receiver has moved there, add the address to the webhook's option allowed_addresses; if not, somebody may have changed its name in DNS.",
			"\"%s\" has the address %s, which is not in the webhook's option allowed_addresses.", f->host, text);
		return;
	}
	snprintf(hint, sizeof(hint), "If this receiver is meant, a superuser can permit it: add %s, or its network, to the setting dmshook.allowed_networks.", text);
	if (transport_ip_literal(f->host))
		say(f, DMSHOOK_BLOCKED_ADDRESS, hint, "The address %s is not public (%s) and not in dmshook.allowed_networks.",
			text, f->handle->blocked_why);
	else
		say(f, DMSHOOK_BLOCKED_ADDRESS, hint, "\"%s\" has the address %s, which is not public (%s) and not in dmshook.allowed_networks.",
			f->host, text, f->handle->blocked_why);
}

/* There is no tunnel to the receiver. The password is in none of what curl says. */
static void
explain_proxy(Failure *f)
{
	static const char *const check = "Check dmshook.proxy, and the network between the database server and the proxy.";
	const char *proxy = transport_egress.proxy_host;
	long		answer = 0;

	curl_easy_getinfo(f->handle->easy, CURLINFO_HTTP_CONNECTCODE, &answer);
	if (answer == 407)
		say(f, DMSHOOK_CONNECT_ERROR, "Put a line user:password that the proxy knows into the file that dmshook.proxy_password_file names, then reload the configuration.",
			"The proxy %s answered 407 Proxy Authentication Required.", proxy);
	else if (answer >= 300)
		say(f, DMSHOOK_CONNECT_ERROR, "The proxy does not permit this host and port, or cannot reach it: look at its rules and its log.",
			"The proxy %s answered %ld to CONNECT %s:%d.", proxy, answer, f->host, f->port);
	else if (f->code == CURLE_COULDNT_RESOLVE_PROXY)
		say(f, DMSHOOK_DNS_ERROR, check, "The name of the proxy \"%s\" could not be resolved.", proxy);
	else if (f->code == CURLE_OPERATION_TIMEDOUT)
		say(f, DMSHOOK_TIMEOUT, check, "The proxy %s port %d made no connection to %s within %d ms.", proxy, transport_egress.proxy_port, f->host, f->connect_timeout);
	else
		say(f, DMSHOOK_CONNECT_ERROR, check, "The connection to %s through the proxy %s port %d failed: %s.", f->host, proxy, transport_egress.proxy_port, f->detail);
}

static void
explain_certificate(Failure *f)
{
	static const char *const trust =
	"If the authority is your own, pass its certificate as the option ca_certificate, or put it into dmshook.ca_file; if it is a public one, the receiver must send its intermediate certificates too.";
	long		result = 0;

	curl_easy_getinfo(f->handle->easy, CURLINFO_SSL_VERIFYRESULT, &result);
	if (says(f, "subject name"))
	{
		say(f, DMSHOOK_TLS_ERROR, "Write the name that the certificate is for into the webhook's url, or have a certificate issued for this one.",
			"The certificate of the receiver is not for the name \"%s\".", f->host);
		return;
	}
	switch (result)
	{
		case VERIFY_EXPIRED:
			say(f, DMSHOOK_TLS_ERROR, "The receiver must renew its certificate. Check the clock of the database server, too.",
				"The certificate of %s has expired.", f->host);
			break;
		case VERIFY_NOT_YET_VALID:
			say(f, DMSHOOK_TLS_ERROR, "Check the clock of the database server.",
				"The certificate of %s is not valid yet.", f->host);
			break;
		case VERIFY_SELF_SIGNED:
			say(f, DMSHOOK_TLS_ERROR, "To trust it, pass it as the option ca_certificate, or put it into dmshook.ca_file.",
				"The certificate of %s is self-signed and not among the trusted ones.", f->host);
			break;
		case VERIFY_SELF_SIGNED_CHAIN:
		case VERIFY_NO_LOCAL_ISSUER:
		case VERIFY_NO_LEAF_SIGNATURE:
			say(f, DMSHOOK_TLS_ERROR, trust, "The certificate of %s was issued by an unknown authority.", f->host);
			break;
		case VERIFY_REVOKED:
			say(f, DMSHOOK_TLS_ERROR, "The receiver must get a new certificate.", "The certificate of %s was revoked.", f->host);
			break;
		case VERIFY_PURPOSE:
			say(f, DMSHOOK_TLS_ERROR, "The receiver must get a certificate for TLS servers.", "The certificate of %s is not one for a server.", f->host);
			break;
		case VERIFY_WEAK_KEY:
		case VERIFY_WEAK_CA_KEY:
		case VERIFY_WEAK_DIGEST:
			say(f, DMSHOOK_TLS_ERROR, "The receiver must get a certificate with at least 2048 bits of RSA and SHA-256.",
				"The certificate of %s, or its authority's, is too weak: %s.", f->host, f->detail);
			break;
		default:
			say(f, DMSHOOK_TLS_ERROR, trust, "The certificate of %s was not accepted: %s.", f->host, f->detail);
			break;
	}
}

static void
explain_tls(Failure *f)
{
	if (f->code == CURLE_SSL_CACERT_BADFILE)
	{
		if (f->pub->endpoint->ca_certificate != NULL)
			say(f, DMSHOOK_TLS_ERROR, "It must be one or more certificates in PEM format, -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.",
				"The option ca_certificate could not be read.");
		else
			say(f, DMSHOOK_TLS_ERROR, "Check that the file named by dmshook.ca_file (or the system's bundle, package ca-certificates) is there, in PEM format and readable by the server.",
				"The file of trusted authorities could not be read.");
	}
	else if (f->code == CURLE_SSL_CERTPROBLEM)
		say(f, DMSHOOK_TLS_ERROR, "Set it again with dmshook.alter_webhook().",
			"The client certificate of auth, or its key, could not be used: %s.", f->detail);
	else if (f->pub->endpoint->certificate != NULL && says(f, " alert ") &&
			 (says(f, "certificate") || says(f, "unknown ca") || says(f, "access denied")))
		say(f, DMSHOOK_TLS_ERROR, "Ask the receiver's owner which authority it accepts client certificates of; if they are issued by an intermediate one, that certificate must stand behind the client's in auth.",
			"%s%s port %d refused the client certificate: %s.", f->host, f->address, f->port, f->detail);
	else if (says(f, "wrong version number") || says(f, "http request") || says(f, "packet length too long") || says(f, "record layer failure"))
		say(f, DMSHOOK_TLS_ERROR, "Check the port in the webhook's url: it may be the plain http one.",
			"What listens at %s%s port %d does not speak TLS.", f->host, f->address, f->port);
	else if (says(f, "unsupported protocol") || says(f, "protocol version"))
		say(f, DMSHOOK_TLS_ERROR, "The receiver must offer TLS 1.2 or 1.3.",
			"%s%s port %d offers no TLS version that is safe.", f->host, f->address, f->port);
	else if (says(f, "certificate required") || says(f, "handshake failure") || says(f, "bad certificate"))
		say(f, DMSHOOK_TLS_ERROR, "The receiver may want a client certificate (auth kind mtls), or has no cipher in common, or does not know this host name.",
			"%s%s port %d refused the TLS handshake: %s.", f->host, f->address, f->port, f->detail);
	else if (says(f, "SSL_ERROR_SYSCALL") || says(f, "Connection reset") || says(f, "unexpected eof") || says(f, "Broken pipe"))
		say(f, DMSHOOK_TLS_ERROR, "Check that it is an HTTPS port, and the receiver's or its proxy's log; a firewall may end such connections, too, and so may a receiver that wants (another) client certificate.",
			"%s%s port %d ended the connection during the TLS handshake.", f->host, f->address, f->port);
	else
		say(f, DMSHOOK_TLS_ERROR, "See the receiver's or its proxy's log for its side.",
			"The TLS handshake with %s%s port %d failed: %s.", f->host, f->address, f->port, f->detail);
}

/* It was connected, and the connection ended too early. */
static void
explain_broken(Failure *f)
{
	static const char *const again = "The receiver, or a proxy before it, failed or restarted: see its log. It may have handled the request, and gets it again with the same webhook-id.";

	if (says(f, " alert "))
		explain_tls(f);			/* TLS 1.3 refuses a client after the handshake */
	else if (f->pub->status != 0)
		say(f, DMSHOOK_PROTOCOL_ERROR, again, "%s ended the connection in the middle of its response.", f->host);
	else if (f->code == CURLE_GOT_NOTHING || says(f, "unexpected eof") || says(f, "Connection died"))
		say(f, DMSHOOK_PROTOCOL_ERROR, again, "%s ended the connection without a response.", f->host);
	else
		say(f, DMSHOOK_CONNECT_ERROR, again, "The connection to %s broke before the response: %s.", f->host, f->detail);
}

static void
explain_rest(Failure *f)
{
	switch (f->code)
	{
		case CURLE_HTTP2:
		case CURLE_HTTP2_STREAM:
			say(f, DMSHOOK_PROTOCOL_ERROR, "It will be sent again; if it happens often, set the option http_version to '1.1'.",
				"%s broke off the HTTP/2 stream: %s.", f->host, f->detail);
			break;
		case CURLE_UNSUPPORTED_PROTOCOL:
			if (!f->handle->https && !f->handle->sent)
			{
				say(f, DMSHOOK_INTERNAL_ERROR, "Set the webhook's url to an https one, or have a superuser turn on dmshook.allow_http.",
					"Plain http is not permitted.");
				break;
			}
			__attribute__((fallthrough));	/* 19 accepts no comment for it */
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_BAD_CONTENT_ENCODING:
		case CURLE_READ_ERROR:
		case CURLE_WRITE_ERROR:
			say(f, DMSHOOK_PROTOCOL_ERROR, "Check the port in the webhook's url, and what listens there.",
				"What %s answered is not valid HTTP: %s.", f->host, f->detail);
			break;
		default:
			say(f, DMSHOOK_INTERNAL_ERROR, "This should not happen; please report it with the text of this error.",
				"libcurl failed with code %d: %s.", (int) f->code, f->detail);
			break;
	}
}
