/*
 * transport_mail.c - one mail at a time to an SMTP server, through the loop of
 * the requests.
 *
 * Runs in the dispatcher, outside transactions. A curl handle of its own, made
 * for the mail and freed after it, in the multi handle of transport.c; memory is malloc's, and
 * callbacks do not ereport. The server is the DBA's setting, so no guard looks at its
 * address; its certificate is checked as a receiver's is.
 *
 * What must not happen here: waiting. When a connection ends, libcurl says QUIT and
 * waits for the answer, up to the time of a response, with everything else standing still.
 * So the connection is shut down as soon as QUIT has gone out (on_debug): the read
 * that follows ends at once.
 */
#include "postgres.h"

#include <unistd.h>

#include "transport_mail.h"
#include "transport_private.h"

#define TIMEOUT_MS			120000	/* of the whole */
#define CONNECT_TIMEOUT_MS	20000
#define RESPONSE_TIMEOUT	60L /* seconds; servers let strangers wait */
#define MAX_SOCKETS			8	/* addresses of a name tried side by side */

static struct
{
	CURL	   *easy;			/* NULL: none is under way */
	struct curl_slist *to;
	char	   *message;
	size_t		len;
	size_t		sent;
	curl_socket_t socket[MAX_SOCKETS];	/* open; CURL_SOCKET_BAD: none */
	int			rcpt;			/* so many RCPT have been said */
	bool		rcpt_last;		/* and it is what was said last */
	bool		quit;			/* what the server says now is of no interest */
	uint32		refused;
	char		reply[200];		/* the server's last refusal */
	char		errbuf[CURL_ERROR_SIZE];
	bool		ended;
	DmshookMailResult result;
}			mail;

static bool setup(const DmshookMail *what);
static size_t on_read(char *buffer, size_t size, size_t n, void *arg);
static int	on_seek(void *arg, curl_off_t offset, int origin);
static size_t on_response(char *line, size_t size, size_t n, void *arg);
static int	on_debug(CURL *easy, curl_infotype type, char *data, size_t size, void *arg);
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
static int	close_socket(void *arg, curl_socket_t fd);
static size_t discard(char *data, size_t size, size_t n, void *arg);
static void clear(void);

bool
dmshook_transport_mail_start(const DmshookMail *what)
{
	if (mail.easy != NULL || mail.ended)
	{
		free(what->message);
		return false;
	}
	memset(&mail, 0, sizeof(mail));
	for (int i = 0; i < MAX_SOCKETS; i++)
		mail.socket[i] = CURL_SOCKET_BAD;
	mail.message = what->message;
	mail.len = what->len;
	mail.easy = curl_easy_init();
	if (mail.easy != NULL && setup(what) && transport_lane_add(0, mail.easy))
		return true;
	clear();
	return false;
}

static void
clear(void)
{
	if (mail.easy != NULL)
		curl_easy_cleanup(mail.easy);
	mail.easy = NULL;
	curl_slist_free_all(mail.to);
	mail.to = NULL;
	free(mail.message);
	mail.message = NULL;
}

#define SET(option, value) \
	do { \
		if (curl_easy_setopt(mail.easy, option, value) != CURLE_OK) \
			return false; \
	} while (0)

static bool
setup(const DmshookMail *what)
{
	char		from[DMSHOOK_MAIL_ADDRESS_SIZE + 2];

	for (int i = 0; i < what->to->n; i++)
	{
		char		to[DMSHOOK_MAIL_ADDRESS_SIZE + 2];
		struct curl_slist *more;

		snprintf(to, sizeof(to), "<%s>", what->to->address[i]);
		more = curl_slist_append(mail.to, to);
		if (more == NULL)
			return false;
		mail.to = more;
	}
	snprintf(from, sizeof(from), "<%s>", what->from);
	SET(CURLOPT_URL, what->url);
	SET(CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	SET(CURLOPT_MAIL_FROM, from);
	SET(CURLOPT_MAIL_RCPT, mail.to);
	SET(CURLOPT_MAIL_RCPT_ALLLOWFAILS, 1L); /* one address that is wrong does not silence the others */
	SET(CURLOPT_UPLOAD, 1L);
	SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t) mail.len);
	if (what->user != NULL)
	{
		SET(CURLOPT_USERNAME, what->user);
		SET(CURLOPT_PASSWORD, what->password);
	}

	SET(CURLOPT_USE_SSL, (long) (what->starttls ? CURLUSESSL_ALL : CURLUSESSL_NONE));
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long) (CURL_SSLVERSION_TLSv1_2 | CURL_SSLVERSION_MAX_DEFAULT));
	SET(CURLOPT_CAPATH, NULL);
	if (transport_settings.ca_path != NULL)
		SET(CURLOPT_CAINFO, transport_settings.ca_path);

	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_TIMEOUT_MS, (long) TIMEOUT_MS);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) CONNECT_TIMEOUT_MS);
	SET(CURLOPT_SERVER_RESPONSE_TIMEOUT, RESPONSE_TIMEOUT);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_FORBID_REUSE, 1L);

	SET(CURLOPT_ERRORBUFFER, mail.errbuf);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	SET(CURLOPT_READFUNCTION, on_read);
	SET(CURLOPT_SEEKFUNCTION, on_seek);
	SET(CURLOPT_HEADERFUNCTION, on_response);
	SET(CURLOPT_WRITEFUNCTION, discard);
	SET(CURLOPT_DEBUGFUNCTION, on_debug);
	SET(CURLOPT_VERBOSE, 1L);	/* else on_debug is never called */
	return true;
}

static size_t
on_read(char *buffer, size_t size, size_t n, void *arg pg_attribute_unused())
{
	size_t		len = Min(size * n, mail.len - mail.sent);

	memcpy(buffer, mail.message + mail.sent, len);
	mail.sent += len;
	return len;
}

static int
on_seek(void *arg pg_attribute_unused(), curl_off_t offset, int origin)
{
	if (origin != SEEK_SET || offset < 0 || (size_t) offset > mail.len)
		return CURL_SEEKFUNC_CANTSEEK;
	mail.sent = (size_t) offset;
	return CURL_SEEKFUNC_OK;
}

/* A line of the server. Which recipients does it refuse, and in which words? */
static size_t
on_response(char *line, size_t size, size_t n, void *arg pg_attribute_unused())
{
	size_t		len = size * n;
	size_t		keep;

	if (len < 4 || line[3] != ' ' || mail.quit)
		return len;
	if (line[0] != '4' && line[0] != '5')
	{
		/* what it refused before (EHLO, say) was not the end of it */
		if (mail.refused == 0)
			mail.reply[0] = '\0';
		return len;
	}
	if (mail.rcpt_last && mail.rcpt <= DMSHOOK_MAIL_MAX_ADDRESSES)
		mail.refused |= 1u << (mail.rcpt - 1);
	for (keep = 0; keep < len && keep < sizeof(mail.reply) - 1; keep++)
	{
		unsigned char c = (unsigned char) line[keep];

		if (c == '\r' || c == '\n')
			break;
		mail.reply[keep] = c >= 0x20 && c < 0x7f ? (char) c : '?';
	}
	mail.reply[keep] = '\0';
	return len;
}

/* What is said to the server, passwords too: nothing of it is kept. */
static int
on_debug(CURL *easy pg_attribute_unused(), curl_infotype type, char *data, size_t size, void *arg pg_attribute_unused())
{
	if (type != CURLINFO_HEADER_OUT)
		return 0;
	mail.rcpt_last = size > 8 && memcmp(data, "RCPT TO:", 8) == 0;
	if (mail.rcpt_last)
		mail.rcpt++;
	else if (size >= 4 && memcmp(data, "QUIT", 4) == 0)
	{
		mail.quit = true;
		for (int i = 0; i < MAX_SOCKETS; i++)
		{
			if (mail.socket[i] != CURL_SOCKET_BAD)
				(void) shutdown(mail.socket[i], SHUT_RDWR);
		}
	}
	return 0;
}

static curl_socket_t
open_socket(void *arg pg_attribute_unused(), curlsocktype purpose pg_attribute_unused(), struct curl_sockaddr *address)
{
	for (int i = 0; i < MAX_SOCKETS; i++)
	{
		curl_socket_t fd;

		if (mail.socket[i] != CURL_SOCKET_BAD)
			continue;
		fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
		if (fd < 0)
			return CURL_SOCKET_BAD;
		mail.socket[i] = fd;
		transport_socket_opened(fd);
		return fd;
	}
	return CURL_SOCKET_BAD;
}

static int
close_socket(void *arg pg_attribute_unused(), curl_socket_t fd)
{
	for (int i = 0; i < MAX_SOCKETS; i++)
	{
		if (mail.socket[i] == fd)
			mail.socket[i] = CURL_SOCKET_BAD;
	}
	transport_socket_closed(fd);
	return close(fd);
}

static size_t
discard(char *data pg_attribute_unused(), size_t size, size_t n, void *arg pg_attribute_unused())
{
	return size * n;
}

bool
transport_mail_end(CURL *easy, CURLcode code)
{
	DmshookMailResult *result = &mail.result;

	if (mail.easy == NULL || easy != mail.easy)
		return false;
	memset(result, 0, sizeof(*result));
	result->ok = code == CURLE_OK;
	result->refused = mail.refused;
	/* the server's words say more than curl's, but where it said nothing wrong */
	if (code != CURLE_OK && (mail.reply[0] == '\0' || code == CURLE_OPERATION_TIMEDOUT))
		strlcpy(result->error, mail.errbuf[0] != '\0' ? mail.errbuf : curl_easy_strerror(code), sizeof(result->error));
	else if (code != CURLE_OK && code != CURLE_LOGIN_DENIED)
		snprintf(result->error, sizeof(result->error), "%s; the mail server said: %s", curl_easy_strerror(code), mail.reply);
	else if (mail.reply[0] != '\0')
		snprintf(result->error, sizeof(result->error), "%sthe mail server said: %s",
				 code == CURLE_LOGIN_DENIED ? "user or password were refused; " : "", mail.reply);
	transport_lane_remove(0, easy);
	clear();
	mail.ended = true;
	return true;
}

bool
dmshook_transport_mail_ended(void)
{
	return mail.ended;
}

void
dmshook_transport_mail_take(DmshookMailResult *result)
{
	*result = mail.result;
	mail.ended = false;
}
