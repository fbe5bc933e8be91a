/*
 * transport_test.c - src/transport*.c against the receivers of server.js.
 *
 *   transport_test DIRECTORY-OF-CERTIFICATES NAME=PORT ...
 *
 * Prints each failure, and 'N passed, N failed' last.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "settings.h"
#include "shim.h"
#include "transport_test.h"

static int	passed = 0;
static int	failed = 0;
static int	nports = 0;
static struct
{
	char		name[32];
	int			port;
}			ports[32];
static char *certificates;
static char *read_file(const char *name);
static uint64 serial = 0;

void
check(bool ok, const char *what, int line, const char *fmt,...)
{
	va_list		args;

	if (ok)
	{
		passed++;
		return;
	}
	failed++;
	printf("FAILED line %d: %s\n    ", line, what);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
}

int
port_of(const char *name)
{
	for (int i = 0; i < nports; i++)
	{
		if (strcmp(ports[i].name, name) == 0)
			return ports[i].port;
	}
	fprintf(stderr, "no port for %s\n", name);
	exit(1);
}

/* An endpoint of its own; never freed, as a test ends soon. */
DmshookEndpoint *
endpoint(const char *method, const char *url)
{
	DmshookEndpoint *e = calloc(1, sizeof(DmshookEndpoint));

	e->serial = ++serial;
	e->url = strdup(url);
	e->method = method;
	e->timeout = 5000;
	e->connect_timeout = 3000;
	e->http_version = 11;
	e->success.n = 1;
	e->success.range[0].from = 200;
	e->success.range[0].to = 299;
	return e;
}

DmshookEndpoint *
at(const char *method, const char *host, const char *server, const char *path)
{
	char		url[512];

	snprintf(url, sizeof(url), "https://%s:%d%s", host, port_of(server), path);
	return endpoint(method, url);
}

DmshookTransfer *
start(const DmshookEndpoint *e, const char *body)
{
	DmshookTransfer *t = dmshook_transport_get(e);

	if (t == NULL)
		return NULL;
	strcpy(t->header[0], "webhook-id: msg_1");
	strcpy(t->header[1], "dmshook-event: vehicle.sold");
	t->nheaders = 2;
	t->body = body;
	t->body_len = body ? strlen(body) : 0;
	dmshook_transport_start(t);
	return t;
}

DmshookTransfer *
wait_finished(void)
{
	DmshookTransfer *t;
	int64		until = transport_now() + 20 * 1000000;

	while ((t = dmshook_transport_finished()) == NULL)
	{
		if (transport_now() > until)
		{
			fprintf(stderr, "nothing finished within 20 s\n");
			exit(1);
		}
		dmshook_transport_run(1000);
	}
	return t;
}

DmshookTransfer *
request(const DmshookEndpoint *e, const char *body)
{
	if (start(e, body) == NULL)
	{
		fprintf(stderr, "no transfer to be had\n");
		exit(1);
	}
	return wait_finished();
}

void
expect(const DmshookEndpoint *e, DmshookOutcome outcome, int status, const char *error, const char *hint, int line)
{
	DmshookTransfer *t = request(e, "{}");

	check(t->outcome == outcome && t->status == status && strstr(t->error, error) != NULL && strstr(t->hint, hint) != NULL &&
		  (outcome == DMSHOOK_OK ? t->error[0] == '\0' && t->hint[0] == '\0' : t->error[0] != '\0' && t->hint[0] != '\0'),
		  e->url, line, "outcome %c, status %d, error \"%s\", hint \"%s\"", t->outcome, t->status, t->error, t->hint);
	check(strstr(t->error, "canary") == NULL && strstr(t->hint, "canary") == NULL, "no secret in messages", line, "%s %s", t->error, t->hint);
	if (getenv("VERBOSE"))
		printf("%-10s %c %3d  %s\n                  %s\n", strrchr(e->url, '/'), t->outcome, t->status, t->error, t->hint);
	dmshook_transport_put(t);
}

bool
has(const char *text, const char *part)
{
	return text != NULL && strstr(text, part) != NULL;
}

int
open_files(void)
{
	DIR		   *d = opendir("/proc/self/fd");
	int			n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

long
private_kb(void)
{
	FILE	   *f = fopen("/proc/self/status", "r");
	char		line[256];
	long		kb = 0;

	while (fgets(line, sizeof(line), f) != NULL)
	{
		if (sscanf(line, "RssAnon: %ld", &kb) == 1)
			break;
	}
	fclose(f);
	return kb;
}

static void
test_request(void)
{
	DmshookEndpoint *e = at("POST", "good.test", "good", "/echo?x=1");
	static const char *const headers[] = {"authorization: Bearer canary", "x-empty:", "X-Name: a, b"};
	DmshookTransfer *t;
	const char *r;

	e->headers = (const char **) headers;
	e->nheaders = 3;
	t = request(e, "{\"a\": 1}");
	r = t->response_body ? t->response_body : "";
	CHECK(t->outcome == DMSHOOK_OK && t->status == 200, "%c %d %s", t->outcome, t->status, t->error);
	CHECK(strncmp(r, "POST /echo?x=1 HTTP/1.1\r\n", 25) == 0, "%s", r);
	CHECK(has(r, "\r\ncontent-type: application/json\r\n"), "%s", r);
	CHECK(has(r, "\r\nuser-agent: dmshook/" DMSHOOK_VERSION "\r\n"), "%s", r);
	CHECK(has(r, "\r\nwebhook-id: msg_1\r\n") && has(r, "\r\ndmshook-event: vehicle.sold\r\n"), "%s", r);
	CHECK(has(r, "\r\nauthorization: Bearer canary\r\n") && has(r, "\r\nX-Name: a, b\r\n") && has(r, "\r\nx-empty:"), "%s", r);
	CHECK(has(r, "\r\nContent-Length: 8\r\n"), "%s", r);
	CHECK(has(r, "\r\n\r\n{\"a\": 1}"), "%s", r);
	CHECK(!has(r, "Expect") && !has(r, "Accept-Encoding"), "%s", r);
	CHECK(has(t->response_headers, "HTTP/1.1 200") && has(t->response_headers, "Content-Type: text/plain"), "%s", t->response_headers);
	CHECK(t->http_version == 11 && strcmp(t->tls_version, "TLSv1.3") == 0, "%d %s", t->http_version, t->tls_version);
	CHECK(strcmp(t->remote_address, "127.0.0.1") == 0 && strcmp(t->local_address, "127.0.0.1") == 0, "%s %s", t->remote_address, t->local_address);
	CHECK(t->tls_cipher >= 0x1301 && t->tls_cipher <= 0x1303 && has(dmshook_tls_cipher_name(t->tls_cipher), "TLS_"), "%x", t->tls_cipher);
	CHECK(llabs(t->certificate_expires - (int64) time(NULL) - 10 * 86400) < 300, "%lld", (long long) t->certificate_expires);
	CHECK(t->dns_us >= 0 && t->connect_us > 0 && t->tls_us > 0 && t->first_byte_us > 0 && t->duration_us >= t->tls_us + t->first_byte_us,
		  "%d %d %d %d %d", t->dns_us, t->connect_us, t->tls_us, t->first_byte_us, t->duration_us);
	CHECK(t->retry_after_ms == -1, "%lld", (long long) t->retry_after_ms);
	dmshook_transport_put(t);

	/* again, on the same connection; another number of headers and another body */
	t = dmshook_transport_get(e);
	strcpy(t->header[0], "webhook-id: msg_2");
	t->nheaders = 1;
	t->body = "";
	t->body_len = 0;
	dmshook_transport_start(t);
	t = wait_finished();
	r = t->response_body ? t->response_body : "";
	CHECK(t->dns_us == 0 && t->connect_us == 0 && t->tls_us == 0 && t->first_byte_us > 0, "%d %d %d", t->dns_us, t->connect_us, t->tls_us);
	CHECK(t->tls_cipher >= 0x1301 && t->tls_cipher <= 0x1303 && t->certificate_expires == 0, "a kept connection's certificate is not looked at: %x %lld", t->tls_cipher, (long long) t->certificate_expires);
	CHECK(strcmp(t->tls_version, "TLSv1.3") == 0 && strcmp(t->remote_address, "127.0.0.1") == 0, "%s %s", t->tls_version, t->remote_address);
	CHECK(has(r, "\r\nwebhook-id: msg_2\r\n") && !has(r, "dmshook-event") && has(r, "\r\nauthorization: Bearer canary\r\n"), "%s", r);
	CHECK(has(r, "\r\nContent-Length: 0\r\n"), "%s", r);
	dmshook_transport_put(t);
}

static void
test_methods(void)
{
	static const char *const with_body[] = {"PUT", "PATCH"};
	static const char *const without[] = {"GET", "DELETE"};
	char	   *big = malloc(300001);
	DmshookTransfer *t;
	DmshookEndpoint *e;

	for (int i = 0; i < 2; i++)
	{
		char		line[128];

		t = request(at(with_body[i], "good.test", "good", "/echo"), "{\"b\": 2}");
		snprintf(line, sizeof(line), "%s /echo HTTP/1.1\r\n", with_body[i]);
		CHECK(t->outcome == DMSHOOK_OK && has(t->response_body, line) && has(t->response_body, "\r\n\r\n{\"b\": 2}"), "%s", t->response_body);
		CHECK(has(t->response_body, "content-type: application/json"), "%s", t->response_body);
		dmshook_transport_put(t);

		e = at(without[i], "good.test", "good", i == 0 ? "/echo" : "/echo?a=b");
		for (int round = 0; round < 3; round++)
		{
			/* with a query, without one, and with one again, on the same handle */
			t = dmshook_transport_get(e);
			strcpy(t->header[0], "webhook-id: msg_1");
			t->nheaders = 1;
			t->query = round == 1 ? NULL : round == 0 ? "id=msg_1&type=vehicle.sold" : "?id=msg_1&type=vehicle.sold";
			dmshook_transport_start(t);
			t = wait_finished();
			snprintf(line, sizeof(line), "%s /echo%s%s HTTP/1.1\r\n", without[i], i == 0 ? "" : "?a=b",
					 round == 1 ? "" : i == 0 ? "?id=msg_1&type=vehicle.sold" : "&id=msg_1&type=vehicle.sold");
			CHECK(t->outcome == DMSHOOK_OK && has(t->response_body, line) && has(t->response_body, "webhook-id"), "%s", t->response_body);
			CHECK(!has(t->response_body, "content-length") && !has(t->response_body, "Content-Length") && !has(t->response_body, "content-type"),
				  "%s", t->response_body);
			dmshook_transport_put(t);
		}
	}

	/* a body longer than curl sends at once */
	memset(big, 'b', 300000);
	big[300000] = '\0';
	dmshook_response_limit = 512 * 1024;
	t = request(at("POST", "good.test", "good", "/echo"), big);
	CHECK(t->outcome == DMSHOOK_OK && t->response_body_len > 300000 && has(t->response_body, big) && has(t->response_body, "Content-Length: 300000"),
		  "%c %s %d", t->outcome, t->error, (int) t->response_body_len);
	dmshook_transport_put(t);
	dmshook_response_limit = 16 * 1024;
	free(big);
}

static void
test_status(void)
{
	DmshookEndpoint *e;
	DmshookTransfer *t;
	static const struct
	{
		const char *value;
		int64		from;
		int64		to;
	}			retry[] = {{"120", 120000, 120000}, {"0", 0, 0}, {"soon", -1, -1}, {"-5", -1, -1}, {"99999999999999999999", INT64CONST(31536000000), INT64CONST(31536000000)},
	{"Thu,%2001%20Jan%201970%2000:00:00%20GMT", 0, 0}, {"1.5", -1, -1}, {"", -1, -1}};
	char		path[128];
	char		date[64];
	time_t		then = time(NULL) + 300;

	EXPECT(at("POST", "good.test", "good", "/status/200"), DMSHOOK_OK, 200, "", "");
	EXPECT(at("POST", "good.test", "good", "/status/202"), DMSHOOK_OK, 202, "", "");
	EXPECT(at("POST", "good.test", "good", "/empty"), DMSHOOK_OK, 204, "", "");
	EXPECT(at("POST", "good.test", "good", "/status/400"), DMSHOOK_HTTP_ERROR, 400, "The receiver answered 400 Bad Request.", "response_body");
	EXPECT(at("POST", "good.test", "good", "/status/401"), DMSHOOK_HTTP_ERROR, 401, "401 Unauthorized", "auth");
	EXPECT(at("POST", "good.test", "good", "/status/404"), DMSHOOK_HTTP_ERROR, 404, "404 Not Found", "path");
	EXPECT(at("POST", "good.test", "good", "/status/418"), DMSHOOK_HTTP_ERROR, 418, "answered 418.", "response_body");
	EXPECT(at("POST", "good.test", "good", "/status/410"), DMSHOOK_HTTP_ERROR, 410, "410 Gone", "new one");
	EXPECT(at("POST", "good.test", "good", "/status/500"), DMSHOOK_HTTP_ERROR, 500, "500 Internal Server Error", "log");
	EXPECT(at("POST", "good.test", "good", "/status/599"), DMSHOOK_HTTP_ERROR, 599, "599", "log");
	EXPECT(at("POST", "good.test", "good", "/redirect"), DMSHOOK_REDIRECT, 302, "302, a redirect to https://other.test/new.", "url");
	EXPECT(at("POST", "good.test", "good", "/relative"), DMSHOOK_REDIRECT, 308, "/elsewhere", "url");
	EXPECT(at("POST", "good.test", "good", "/status/304"), DMSHOOK_REDIRECT, 304, "304, a redirect.", "url");

	/* the list of successes decides, not the class */
	e = at("POST", "good.test", "good", "/status/404");
	e->success.range[0].from = e->success.range[0].to = 404;
	EXPECT(e, DMSHOOK_OK, 404, "", "");
	e = at("POST", "good.test", "good", "/status/200");
	e->success.range[0].from = e->success.range[0].to = 201;
	EXPECT(e, DMSHOOK_HTTP_ERROR, 200, "answered 200", "success");

	for (size_t i = 0; i < lengthof(retry); i++)
	{
		snprintf(path, sizeof(path), "/retry?value=%s", retry[i].value);
		t = request(at("POST", "good.test", "good", path), "{}");
		CHECK(t->status == 503 && t->retry_after_ms >= retry[i].from && t->retry_after_ms <= retry[i].to, "%s: %lld", retry[i].value, (long long) t->retry_after_ms);
		dmshook_transport_put(t);
	}
	strftime(date, sizeof(date), "%a,%%20%d%%20%b%%20%Y%%20%H:%M:%S%%20GMT", gmtime(&then));
	snprintf(path, sizeof(path), "/retry?value=%s", date);
	t = request(at("POST", "good.test", "good", path), "{}");
	CHECK(t->retry_after_ms > 290000 && t->retry_after_ms <= 300000, "%s: %lld", date, (long long) t->retry_after_ms);
	dmshook_transport_put(t);
	t = request(at("POST", "good.test", "good", "/interim"), "{}");
	CHECK(t->outcome == DMSHOOK_OK && t->status == 200 && t->retry_after_ms == -1 && !has(t->response_headers, "103"), "%d %s", t->status, t->response_headers);
	dmshook_transport_put(t);
}

static void
test_responses(void)
{
	DmshookEndpoint *e;
	DmshookTransfer *t;

	t = request(at("POST", "good.test", "good", "/nul"), "{}");
	CHECK(t->response_body_len == 4 && memcmp(t->response_body, "a\0\377b", 5) == 0, "%d", (int) t->response_body_len);
	CHECK(has(t->response_headers, "X-Raw: \377\376"), "%s", t->response_headers);
	dmshook_transport_put(t);

	t = request(at("POST", "good.test", "good", "/big/100000"), "{}");
	CHECK(t->outcome == DMSHOOK_OK && t->response_body_len == 16384 && t->response_body[16384] == '\0', "%d", (int) t->response_body_len);
	dmshook_transport_put(t);
	t = request(at("POST", "good.test", "good", "/big/5000000"), "{}");
	CHECK(t->outcome == DMSHOOK_OK && t->response_body_len == 16384, "%c %s", t->outcome, t->error);
	dmshook_transport_put(t);
	EXPECT(at("POST", "good.test", "good", "/bigerror/5000000"), DMSHOOK_HTTP_ERROR, 500, "500", "");
	EXPECT(at("POST", "good.test", "good", "/endlessbody"), DMSHOOK_OK, 200, "", "");
	dmshook_response_limit = 0;
	t = request(at("POST", "good.test", "good", "/big/1000"), "{}");
	CHECK(t->outcome == DMSHOOK_OK && t->response_body_len == 0 && t->response_body == NULL, "%d", (int) t->response_body_len);
	dmshook_transport_put(t);
	dmshook_response_limit = 16 * 1024;

	t = request(at("POST", "good.test", "good", "/longheaders"), "{}");
	CHECK(t->outcome == DMSHOOK_OK && t->response_headers_len == TRANSPORT_KEEP_HEADERS, "%d", (int) t->response_headers_len);
	dmshook_transport_put(t);
	EXPECT(at("POST", "good.test", "good", "/endlessheaders"), DMSHOOK_TOO_LARGE, 200, "headers", "without end");
	EXPECT(at("POST", "good.test", "good", "/endlessinterim"), DMSHOOK_TOO_LARGE, 103, "headers", "without end");
	t = request(at("POST", "good.test", "good", "/endlessline"), "{}");
	CHECK(t->outcome == DMSHOOK_TOO_LARGE, "%c %s %s", t->outcome, t->error, t->hint);
	dmshook_transport_put(t);

	EXPECT(at("POST", "good.test", "good", "/close"), DMSHOOK_PROTOCOL_ERROR, 0, "ended the connection without a response", "webhook-id");
	EXPECT(at("POST", "good.test", "good", "/half"), DMSHOOK_PROTOCOL_ERROR, 200, "in the middle of its response", "webhook-id");
	EXPECT(at("POST", "good.test", "good", "/reset"), DMSHOOK_CONNECT_ERROR, 0, "broke before the response", "webhook-id");
	EXPECT(at("POST", "good.test", "good", "/garbage"), DMSHOOK_PROTOCOL_ERROR, 0, "not valid HTTP", "port");
	EXPECT(at("POST", "good.test", "good", "/http0"), DMSHOOK_PROTOCOL_ERROR, 0, "not valid HTTP", "port");

	/* refused while the body was still being sent */
	{
		char	   *big = malloc(4000001);

		memset(big, 'b', 4000000);
		big[4000000] = '\0';
		t = request(at("POST", "good.test", "good", "/early"), big);
		CHECK(t->outcome == DMSHOOK_HTTP_ERROR && t->status == 413, "%c %d %s", t->outcome, t->status, t->error);
		dmshook_transport_put(t);
		free(big);
	}

	e = at("POST", "good.test", "good", "/drip");
	e->timeout = 400;
	EXPECT(e, DMSHOOK_TIMEOUT, 200, "was not complete within 400 ms", "short body");
	e = at("POST", "good.test", "good", "/slowbody");
	e->timeout = 300;
	EXPECT(e, DMSHOOK_TIMEOUT, 200, "was not complete within 300 ms", "short body");
	e = at("POST", "good.test", "good", "/hang");
	e->timeout = 300;
	EXPECT(e, DMSHOOK_TIMEOUT, 0, "good.test did not answer within 300 ms", "timeout");
}

static void
test_connect(void)
{
	DmshookEndpoint *e;
	DmshookTransfer *t;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t	len = sizeof(address);
	int			full = socket(AF_INET, SOCK_STREAM, 0);
	int			fill[8];
	char		url[128];
	int64		begin;
	int			files;

	/* a port with a full queue drops packets, as a firewall does */
	bind(full, (struct sockaddr *) &address, sizeof(address));
	getsockname(full, (struct sockaddr *) &address, &len);
	snprintf(url, sizeof(url), "https://good.test:%d/", ntohs(address.sin_port));
	e = endpoint("POST", url);
	t = request(e, "{}");
	CHECK(t->outcome == DMSHOOK_CONNECT_ERROR && t->status == 0 && has(t->error, "(127.0.0.1) port") && has(t->error, "was refused"), "%c %s", t->outcome, t->error);
	CHECK(t->dns_us >= 0 && t->connect_us == -1 && t->tls_us == -1 && t->first_byte_us == -1, "%d %d", t->dns_us, t->connect_us);
	CHECK(t->local_address[0] == '\0' && strcmp(t->remote_address, "127.0.0.1") == 0, "%s %s", t->local_address, t->remote_address);
	dmshook_transport_put(t);
	listen(full, 0);
	for (int i = 0; i < 8; i++)
	{
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void) connect(fill[i], (struct sockaddr *) &address, sizeof(address));
	}
	e = endpoint("POST", url);
	e->connect_timeout = 300;
	EXPECT(e, DMSHOOK_TIMEOUT, 0, "No connection to good.test (127.0.0.1) port", "firewall");
	for (int i = 0; i < 8; i++)
		close(fill[i]);
	close(full);

	EXPECT(endpoint("POST", "https://nowhere.test/"), DMSHOOK_DNS_ERROR, 0, "\"nowhere.test\" could not be resolved", "getent");
	e = endpoint("POST", "https://slow.test/");
	e->connect_timeout = 300;
	begin = transport_now();
	EXPECT(e, DMSHOOK_TIMEOUT, 0, "\"slow.test\" was not resolved within 300 ms", "name servers");
	CHECK(transport_now() - begin < 1000000, "%lld us: the resolver thread was joined", (long long) (transport_now() - begin));
	e = at("POST", "good.test", "deaf", "/");
	e->connect_timeout = 300;
	EXPECT(e, DMSHOOK_TIMEOUT, 0, "The TLS handshake with good.test (127.0.0.1) port", "HTTPS port");
	t = request(e, "{}");
	CHECK(t->connect_us > 0 && t->tls_us == -1, "%d %d", t->connect_us, t->tls_us);
	/* some of libcurl 8 do not tell it of a connection whose handshake did not end */
	CHECK(strcmp(t->local_address, "127.0.0.1") == 0 || (curl_version_info(CURLVERSION_NOW)->version_num >= 0x080000 && t->local_address[0] == '\0'),
		  "%s", t->local_address);
	dmshook_transport_put(t);
	EXPECT(at("POST", "good.test", "hangup", "/"), DMSHOOK_TLS_ERROR, 0, "during the TLS handshake", "log");

	/* addresses */
	EXPECT(endpoint("POST", "https://private.test/"), DMSHOOK_BLOCKED_ADDRESS, 0, "\"private.test\" has the address 10.1.2.3, which is not public", "dmshook.allowed_networks");
	EXPECT(endpoint("POST", "https://10.9.8.7/"), DMSHOOK_BLOCKED_ADDRESS, 0, "The address 10.9.8.7 is not public", "add 10.9.8.7");
	EXPECT(endpoint("POST", "https://[::1]/"), DMSHOOK_BLOCKED_ADDRESS, 0, "The address ::1 is not public", "add ::1");
	EXPECT(endpoint("POST", "https://169.254.169.254/latest"), DMSHOOK_BLOCKED_ADDRESS, 0, "169.254.169.254", "superuser");
	EXPECT(endpoint("POST", "https://0xA010203/"), DMSHOOK_BLOCKED_ADDRESS, 0, "10.1.2.3", "superuser");
	EXPECT(at("POST", "mixed.test", "good", "/status/200"), DMSHOOK_OK, 200, "", "");

	/* an address that was fine and is not any more: also on a kept connection */
	e = at("POST", "good.test", "good", "/status/200");
	EXPECT(e, DMSHOOK_OK, 200, "", "");
	dmshook_allowed_networks = "192.168.0.0/16,127.0.0.0/8";
	dmshook_transport_reload();
	t = request(e, "{}");
	CHECK(t->outcome == DMSHOOK_OK && t->connect_us == 0, "a connection that is still permitted is kept: %s %d", t->error, t->connect_us);
	dmshook_transport_put(t);
	dmshook_allowed_networks = "192.168.0.0/16";
	dmshook_transport_reload();
	files = open_files();
	EXPECT(e, DMSHOOK_BLOCKED_ADDRESS, 0, "127.0.0.1, which is not public", "superuser");
	EXPECT(e, DMSHOOK_BLOCKED_ADDRESS, 0, "127.0.0.1, which is not public", "superuser");
	CHECK(open_files() < files, "%d files, then %d: a connection that is not is closed", files, open_files());
	dmshook_allowed_networks = "192.168.0.0/16,127.0.0.0/8";
	dmshook_transport_reload();
	EXPECT(e, DMSHOOK_OK, 200, "", "");
}

/* The settings allowed_ports, the option allowed_addresses, and a name that changes between two connections. */
static void
test_guard(void)
{
	DmshookEndpoint *open = at("POST", "good.test", "good", "/status/200");
	DmshookEndpoint *narrow = at("POST", "good.test", "good", "/status/200");
	DmshookEndpoint *moving;
	DmshookTransfer *t;
	char		ports[32];
	int			port = port_of("good");

	narrow->allowed_addresses = "203.0.114.0/24, 127.0.0.1";
	EXPECT(narrow, DMSHOOK_OK, 200, "", "");
	narrow = at("POST", "good.test", "good", "/status/200");
	narrow->allowed_addresses = "203.0.114.0/24,127.0.0.2";
	EXPECT(open, DMSHOOK_OK, 200, "", "");
	EXPECT(narrow, DMSHOOK_BLOCKED_ADDRESS, 0, "\"good.test\" has the address 127.0.0.1, which is not in the webhook's option allowed_addresses", "allowed_addresses");
	EXPECT(narrow, DMSHOOK_BLOCKED_ADDRESS, 0, "127.0.0.1", "allowed_addresses");
	t = request(narrow, "{}");
	CHECK(strcmp(t->remote_address, "127.0.0.1") == 0, "%s", t->remote_address);
	dmshook_transport_put(t);
	/* it narrows, and opens nothing */
	narrow = endpoint("POST", "https://private.test/");
	narrow->allowed_addresses = "10.0.0.0/8";
	EXPECT(narrow, DMSHOOK_BLOCKED_ADDRESS, 0, "10.1.2.3, which is not public", "dmshook.allowed_networks");

	/* the name is looked up again for a new connection, and what it is then is what counts: curl remembers it for 20 s by name and port */
	strcpy(shim_moving, "127.0.0.1");
	moving = at("POST", "moving.test", "tls12", "/status/200");
	EXPECT(moving, DMSHOOK_OK, 200, "", "");
	strcpy(shim_moving, "169.254.169.254");
	moving = at("POST", "moving.test", "good", "/status/200");
	EXPECT(moving, DMSHOOK_BLOCKED_ADDRESS, 0, "\"moving.test\" has the address 169.254.169.254", "superuser");
	strcpy(shim_moving, "127.0.0.1");

	EXPECT(open, DMSHOOK_OK, 200, "", "");
	snprintf(ports, sizeof(ports), "443,%d-", port + 1);
	dmshook_allowed_ports = ports;
	dmshook_transport_reload();
	EXPECT(open, DMSHOOK_BLOCKED_ADDRESS, 0, "is not among those of dmshook.allowed_ports", "dmshook.allowed_ports");
	EXPECT(at("POST", "good.test", "good", "/status/200"), DMSHOOK_BLOCKED_ADDRESS, 0, "is not among those of dmshook.allowed_ports", "superuser");
	snprintf(ports, sizeof(ports), "443,%d", port);
	dmshook_transport_reload();
	EXPECT(open, DMSHOOK_OK, 200, "", "");
	dmshook_allowed_ports = "443,8443,1024-";
	dmshook_transport_reload();
	EXPECT(open, DMSHOOK_OK, 200, "", "");
}

/* Where a request comes from, and whether it made its connection. */
static void
expect_from(const DmshookEndpoint *e, const char *from, bool fresh, int line)
{
	DmshookTransfer *t = request(e, "{}");

	check(t->outcome == DMSHOOK_OK && strcmp(t->local_address, from) == 0 && (t->connect_us > 0) == fresh, "source", line,
		  "%s from %s (%s), connect %d us", t->error, t->local_address, from, t->connect_us);
	dmshook_transport_put(t);
}

static void
set_source(char *source)
{
	dmshook_source_address = source;
	dmshook_transport_reload();
}

/* dmshook.source_address: kept connections from another one are not used again, with and without TLS, HTTP/2 too. */
static void
test_source(void)
{
	DmshookEndpoint *e[4];
	char		url[128];
	DmshookTransfer *t;

	dmshook_allow_http = true;
	dmshook_transport_reload();
	e[0] = at("POST", "good.test", "good", "/status/200");
	e[1] = at("POST", "good.test", "h2", "/ok");
	e[1]->http_version = 20;
	e[2] = at("POST", "good.test", "selfsigned", "/status/200");
	e[2]->ca_certificate = read_file("selfsigned.crt");
	snprintf(url, sizeof(url), "http://good.test:%d/status/200", port_of("plain"));
	e[3] = endpoint("POST", url);
	for (int i = 0; i < 4; i++)
	{
		dmshook_transport_put(request(e[i], "{}"));
		expect_from(e[i], "127.0.0.1", false, __LINE__);
	}
	set_source("127.0.0.2");
	for (int i = 0; i < 4; i++)
	{
		expect_from(e[i], "127.0.0.2", true, __LINE__);
		expect_from(e[i], "127.0.0.2", false, __LINE__);
	}
	dmshook_transport_reload();
	for (int i = 0; i < 4; i++)
		expect_from(e[i], "127.0.0.2", false, __LINE__);
	set_source("127.0.0.3");
	for (int i = 0; i < 4; i++)
		expect_from(e[i], "127.0.0.3", true, __LINE__);
	set_source("");
	for (int i = 0; i < 4; i++)
	{
		expect_from(e[i], "127.0.0.1", true, __LINE__);
		expect_from(e[i], "127.0.0.1", false, __LINE__);
	}

	/* one that is under way during the change keeps its connection, and nobody after it */
	for (int i = 0; i < 4; i++)
	{
		set_source("127.0.0.2");
		dmshook_transport_put(request(e[i], "{}"));
		t = start(e[i], "{}");
		dmshook_transport_run(0);
		set_source("");
		t = wait_finished();
		CHECK(t->outcome == DMSHOOK_OK && strcmp(t->local_address, "127.0.0.2") == 0, "%s %s", t->error, t->local_address);
		dmshook_transport_put(t);
		expect_from(e[i], "127.0.0.1", true, __LINE__);
	}

	/* an interface; an address that is not ours; one of the other family */
	set_source("lo");
	expect_from(e[3], "127.0.0.1", true, __LINE__);
	set_source("192.0.2.77");
	EXPECT(e[3], DMSHOOK_INTERNAL_ERROR, 0, "from dmshook.source_address, \"192.0.2.77\"", "ip address");
	set_source("nosuch0");
	EXPECT(e[3], DMSHOOK_INTERNAL_ERROR, 0, "from dmshook.source_address, \"nosuch0\"", "ip address");
	set_source("");
	dmshook_allow_http = false;
	dmshook_transport_reload();
}

static char *
path_to(const char *name)
{
	char		path[1024];

	snprintf(path, sizeof(path), "%s/%s", certificates, name);
	return strdup(path);
}

static char *
read_file(const char *name)
{
	char	   *text = calloc(1, 65536);
	int			fd = open(path_to(name), O_RDONLY);

	if (fd < 0 || read(fd, text, 65535) <= 0)
		exit(1);
	close(fd);
	return text;
}

static void
test_tls(void)
{
	DmshookEndpoint *e;
	DmshookTransfer *t;
	char	   *system_file = dmshook_ca_file;

	EXPECT(at("POST", "good.test", "expired", "/status/200"), DMSHOOK_TLS_ERROR, 0, "The certificate of good.test has expired.", "renew");
	EXPECT(at("POST", "good.test", "future", "/status/200"), DMSHOOK_TLS_ERROR, 0, "not valid yet", "clock");
	EXPECT(at("POST", "good.test", "wrongname", "/status/200"), DMSHOOK_TLS_ERROR, 0, "not for the name \"good.test\"", "name");
	EXPECT(at("POST", "127.0.0.1", "wrongname", "/status/200"), DMSHOOK_TLS_ERROR, 0, "not for the name \"127.0.0.1\"", "name");
	EXPECT(at("POST", "127.0.0.1", "good", "/status/200"), DMSHOOK_OK, 200, "", "");
	EXPECT(at("POST", "good.test", "unknown", "/status/200"), DMSHOOK_TLS_ERROR, 0, "unknown authority", "ca_certificate");
	EXPECT(at("POST", "good.test", "selfsigned", "/status/200"), DMSHOOK_TLS_ERROR, 0, "self-signed", "ca_certificate");
	EXPECT(at("POST", "good.test", "client", "/status/200"), DMSHOOK_TLS_ERROR, 0, "refused the TLS handshake", "client certificate");
	EXPECT(at("POST", "good.test", "old", "/status/200"), DMSHOOK_TLS_ERROR, 0, "no TLS version that is safe", "TLS 1.2");
	EXPECT(at("POST", "good.test", "plain", "/status/200"), DMSHOOK_TLS_ERROR, 0, "does not speak TLS", "plain http");
	t = request(at("POST", "good.test", "tls12", "/status/200"), "{}");
	CHECK(t->outcome == DMSHOOK_OK && strcmp(t->tls_version, "TLSv1.2") == 0, "%s %s", t->error, t->tls_version);
	CHECK(has(dmshook_tls_cipher_name(t->tls_cipher), "TLS_ECDHE_ECDSA_WITH_"), "%x", t->tls_cipher);
	dmshook_transport_put(t);

	/* an authority of the webhook's own, instead of the bundle; kept connections are not shared across */
	e = at("POST", "good.test", "unknown", "/status/200");
	e->ca_certificate = read_file("other.crt");
	EXPECT(e, DMSHOOK_OK, 200, "", "");
	EXPECT(e, DMSHOOK_OK, 200, "", "");
	EXPECT(at("POST", "good.test", "unknown", "/status/200"), DMSHOOK_TLS_ERROR, 0, "unknown authority", "ca_certificate");
	e = at("POST", "good.test", "good", "/status/200");
	EXPECT(e, DMSHOOK_OK, 200, "", "");
	e = at("POST", "good.test", "good", "/status/200");
	e->ca_certificate = read_file("other.crt");
	EXPECT(e, DMSHOOK_TLS_ERROR, 0, "unknown authority", "ca_certificate");
	e = at("POST", "good.test", "selfsigned", "/status/200");
	e->ca_certificate = read_file("selfsigned.crt");
	EXPECT(e, DMSHOOK_OK, 200, "", "");
	e = at("POST", "good.test", "good", "/status/200");
	e->ca_certificate = "no certificate";
	EXPECT(e, DMSHOOK_TLS_ERROR, 0, "ca_certificate could not be read", "PEM");

	/* another bundle: kept connections and sessions of the old one are not used */
	e = at("POST", "good.test", "good", "/status/200");
	EXPECT(e, DMSHOOK_OK, 200, "", "");
	dmshook_ca_file = path_to("other.crt");
	dmshook_transport_reload();
	EXPECT(e, DMSHOOK_TLS_ERROR, 0, "unknown authority", "dmshook.ca_file");
	dmshook_ca_file = path_to("missing.crt");
	dmshook_transport_reload();
	EXPECT(e, DMSHOOK_TLS_ERROR, 0, "file of trusted authorities", "dmshook.ca_file");

	/* the same name, another content */
	{
		char	   *changing = path_to("changing.crt");

		CHECK(symlink(path_to("ca.crt"), changing) == 0, "%m");
		dmshook_ca_file = changing;
		dmshook_transport_reload();
		EXPECT(e, DMSHOOK_OK, 200, "", "");
		unlink(changing);
		CHECK(symlink(path_to("other.crt"), changing) == 0, "%m");
		dmshook_transport_reload();
		EXPECT(e, DMSHOOK_TLS_ERROR, 0, "unknown authority", "dmshook.ca_file");
	}
	dmshook_ca_file = system_file;
	dmshook_transport_reload();
	EXPECT(e, DMSHOOK_OK, 200, "", "");
}

static void
test_http(void)
{
	DmshookEndpoint *e = at("POST", "good.test", "h2", "/ok");
	DmshookTransfer *t;
	char		url[128];
	int			connected = 0;

	e->http_version = 20;
	t = request(e, "{}");
	CHECK(t->outcome == DMSHOOK_OK && t->http_version == 20 && has(t->response_body, "\"webhook-id\":\"msg_1\""), "%d %s %s", t->http_version, t->error, t->response_body);
	dmshook_transport_put(t);
	for (int i = 0; i < 20; i++)
		start(e, "{}");
	for (int i = 0; i < 20; i++)
	{
		t = wait_finished();
		connected += t->outcome == DMSHOOK_OK && t->connect_us == 0;
		dmshook_transport_put(t);
	}
	CHECK(connected == 20, "%d of 20 went over the one connection", connected);
	e = at("POST", "good.test", "h2", "/reset");
	e->http_version = 20;
	EXPECT(e, DMSHOOK_PROTOCOL_ERROR, 0, "HTTP/2 stream", "http_version");
	e = at("POST", "good.test", "h2", "/hang");
	e->http_version = 20;
	e->timeout = 300;
	EXPECT(e, DMSHOOK_TIMEOUT, 0, "did not answer within 300 ms", "timeout");
	/* asked for, not offered */
	e = at("POST", "good.test", "good", "/status/200");
	e->http_version = 20;
	t = request(e, "{}");
	CHECK(t->outcome == DMSHOOK_OK && t->http_version == 11, "%d %s", t->http_version, t->error);
	dmshook_transport_put(t);

	/* plain http only while it is permitted */
	snprintf(url, sizeof(url), "http://good.test:%d/status/200", port_of("plain"));
	e = endpoint("POST", url);
	EXPECT(e, DMSHOOK_INTERNAL_ERROR, 0, "Plain http is not permitted", "dmshook.allow_http");
	dmshook_allow_http = true;
	dmshook_transport_reload();
	t = request(e, "{}");
	CHECK(t->outcome == DMSHOOK_OK && t->tls_us == 0 && t->tls_version[0] == '\0', "%s %d %s", t->error, t->tls_us, t->tls_version);
	dmshook_transport_put(t);
	dmshook_allow_http = false;
	dmshook_transport_reload();
	EXPECT(e, DMSHOOK_INTERNAL_ERROR, 0, "Plain http is not permitted", "dmshook.allow_http");
}

static int
number_at(const char *path)
{
	DmshookTransfer *t = request(at("GET", "good.test", "good", path), NULL);
	int			n = t->response_body ? atoi(t->response_body) : -1;

	dmshook_transport_put(t);
	return n;
}

static void
test_kept(void)
{
	DmshookEndpoint *e = at("POST", "good.test", "good", "/leave");
	DmshookTransfer *t;
	int			files;
	struct timespec pause = {0, 30 * 1000000};

	/* the receiver closes the idle connection: the next request makes another */
	for (int i = 0; i < 3; i++)
	{
		EXPECT(e, DMSHOOK_OK, 200, "", "");
		nanosleep(&pause, NULL);
		dmshook_transport_run(0);
	}
	/* a closed idle connection costs nothing: no event is left */
	{
		int			rounds = 0;
		int64		begin;

		dmshook_transport_run(50);
		for (begin = transport_now(); transport_now() - begin < 200000; rounds++)
			dmshook_transport_run(50);
		CHECK(rounds <= 8, "%d rounds in 200 ms while nothing is to be done", rounds);
	}

	/* it closes while the request is on its way: sent again, on a new one, POST too */
	{
		int			before = number_at("/closed");
		int			after;

		for (int i = 0; i < 8; i++)
			start(at("POST", "good.test", "good", "/status/200"), "{}");
		for (int i = 0; i < 8; i++)
			dmshook_transport_put(wait_finished());
		EXPECT(at("POST", "good.test", "good", "/close"), DMSHOOK_PROTOCOL_ERROR, 0, "without a response", "webhook-id");
		after = number_at("/closed");
		CHECK(after == before + 2, "the request was sent %d times: twice, on a kept and on a new connection", after - before);
	}
	files = open_files();
	for (int i = 0; i < 4; i++)
	{
		t = request(at("POST", "good.test", "good", "/once"), "{}");
		CHECK(t->outcome == DMSHOOK_OK && t->status == 200, "%d %c %s", i, t->outcome, t->error);
		dmshook_transport_put(t);
	}
	CHECK(open_files() <= files + 1, "%d then %d files", files, open_files());
}

/* More endpoints than handles: what one had must never reach another. */
static void
test_leak(void)
{
	for (int i = 0; i < 140; i++)
	{
		DmshookEndpoint *e = at(i % 3 == 0 ? "POST" : i % 3 == 1 ? "GET" : "DELETE", "good.test", "good", "/echo");
		char		secret[64];
		const char *headers[1];
		DmshookTransfer *t;
		const char *r;

		snprintf(secret, sizeof(secret), "authorization: Bearer secret-%d-", i);
		headers[0] = secret;
		if (i % 2 == 0)
		{
			e->headers = headers;
			e->nheaders = 1;
		}
		t = request(e, i % 3 == 0 ? "{}" : NULL);
		r = t->response_body ? t->response_body : "";
		CHECK(t->outcome == DMSHOOK_OK && has(r, "Bearer") == (i % 2 == 0) && (i % 2 != 0 || has(r, secret)), "%s", r);
		CHECK(has(r, "content-type") == (i % 3 == 0), "%s", r);
		dmshook_transport_put(t);
	}
}

static void
test_invalid(void)
{
	static const char *const bad[] = {"x-a: b\r\nx-c: d", "x-a: b\nx-c: d", ": v", "no colon", "Content-Length: 3", "transfer-encoding: chunked"};
	DmshookEndpoint *e = at("POST", "good.test", "good", "/status/200");
	DmshookTransfer *t;

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		t = dmshook_transport_get(e);
		strcpy(t->header[0], bad[i]);
		t->nheaders = 1;
		t->body = "{}";
		t->body_len = 2;
		dmshook_transport_start(t);
		CHECK(dmshook_transport_timeout() == 0 && dmshook_transport_in_flight() == 1, "%ld", dmshook_transport_timeout());
		t = dmshook_transport_finished();
		CHECK(t != NULL && t->outcome == DMSHOOK_INTERNAL_ERROR && t->error[0] && t->hint[0], "%s", bad[i]);
		if (t)
			dmshook_transport_put(t);

		e = at("POST", "good.test", "good", "/status/200");
		e->headers = (const char **) &bad[i];
		e->nheaders = 1;
		EXPECT(e, DMSHOOK_INTERNAL_ERROR, 0, "could not be built", "headers");
		e = at("POST", "good.test", "good", "/status/200");
	}
	EXPECT(e, DMSHOOK_OK, 200, "", "");
	EXPECT(endpoint("POST", "https://user:canary@good.test/"), DMSHOOK_INTERNAL_ERROR, 0, "URL", "url");
	EXPECT(endpoint("POST", "ftp://good.test/"), DMSHOOK_INTERNAL_ERROR, 0, "", "");
	EXPECT(endpoint("POST", "good.test"), DMSHOOK_INTERNAL_ERROR, 0, "URL", "url");
}

static bool
owned_by(DmshookTransfer *transfer, void *arg)
{
	return transfer->owner == arg;
}

/* The resolver's threads must not take a signal: PostgreSQL's handlers would run on them. */
static void
check_threads(void)
{
	DIR		   *d = opendir("/proc/self/task");
	struct dirent *entry;
	int			threads = 0;

	while ((entry = readdir(d)) != NULL)
	{
		char		path[300];
		char		line[256];
		unsigned long long blocked = 0;
		const unsigned long long needed = 1ULL << (SIGTERM - 1) | 1ULL << (SIGQUIT - 1) | 1ULL << (SIGHUP - 1) |
		1ULL << (SIGUSR1 - 1) | 1ULL << (SIGINT - 1) | 1ULL << (SIGALRM - 1) | 1ULL << (SIGURG - 1);
		FILE	   *f;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		if ((f = fopen(path, "r")) == NULL)
			continue;
		while (fgets(line, sizeof(line), f) != NULL && sscanf(line, "SigBlk: %llx", &blocked) != 1);
		fclose(f);
		threads++;
		CHECK((blocked & needed) == needed, "a thread blocks %llx only", blocked);
	}
	closedir(d);
	CHECK(threads >= 8, "%d threads resolve names", threads);
}

static void
test_abort(void)
{
	DmshookEndpoint *hang = at("POST", "good.test", "good", "/hang");
	DmshookEndpoint *slow = endpoint("POST", "https://slow.test/");
	DmshookEndpoint *deaf = at("POST", "good.test", "deaf", "/");
	DmshookEndpoint *echo = at("POST", "good.test", "good", "/echo");
	DmshookTransfer *t;
	int			mine;
	int			files;
	int64		begin;

	CHECK(dmshook_transport_in_flight() == 0, "%d", dmshook_transport_in_flight());
	files = open_files();
	for (int i = 0; i < 8; i++)
	{
		start(hang, "{}")->owner = &mine;
		start(slow, "{}")->owner = &mine;
		start(deaf, "{}")->owner = &mine;
	}
	t = start(echo, "{\"mine\": true}");
	for (int i = 0; i < 10; i++)
		dmshook_transport_run(10);
	CHECK(dmshook_transport_in_flight() == 25, "%d", dmshook_transport_in_flight());
	check_threads();
	begin = transport_now();
	dmshook_transport_abort(owned_by, &mine);
	CHECK(transport_now() - begin < 100000, "%lld us", (long long) (transport_now() - begin));
	CHECK(dmshook_transport_in_flight() == 1, "%d", dmshook_transport_in_flight());
	CHECK(wait_finished() == t && t->outcome == DMSHOOK_OK && has(t->response_body, "mine"), "%s", t->error);
	dmshook_transport_put(t);
	start(hang, "{}");
	start(slow, "{}");
	dmshook_transport_run(10);
	dmshook_transport_abort(NULL, NULL);
	CHECK(dmshook_transport_in_flight() == 0 && dmshook_transport_finished() == NULL, "%d", dmshook_transport_in_flight());
	/* the resolver's threads end by and by; sockets are closed at once */
	EXPECT(echo, DMSHOOK_OK, 200, "", "");
	for (int i = 0; i < 40 && open_files() > files + 1; i++)
		dmshook_transport_run(100);
	CHECK(open_files() <= files + 1, "%d then %d files", files, open_files());

	/* a taken one that is not started */
	t = dmshook_transport_get(echo);
	CHECK(t != NULL && dmshook_transport_in_flight() == 0, "in flight");
	dmshook_transport_put(t);
}

static void
test_limit(void)
{
	DmshookEndpoint *e = at("POST", "good.test", "good", "/status/200");
	DmshookTransfer *held[64];
	int			n = 0;

	while (n < 64 && (held[n] = start(e, "{}")) != NULL)
		n++;
	CHECK(n == 64 && dmshook_transport_get(e) == NULL, "%d", n);
	for (int i = 0; i < n; i++)
	{
		held[i] = wait_finished();
		CHECK(held[i]->outcome == DMSHOOK_OK, "%s", held[i]->error);
	}
	/* results that are held do not count */
	EXPECT(e, DMSHOOK_OK, 200, "", "");
	for (int i = 0; i < n; i++)
		dmshook_transport_put(held[i]);

	dmshook_max_connections = 4;
	dmshook_transport_reload();
	for (n = 0; n < 64 && start(e, "{}") != NULL;)
		n++;
	CHECK(n == 4, "%d", n);
	for (int i = 0; i < n; i++)
		dmshook_transport_put(wait_finished());
	dmshook_max_connections = 64;
	dmshook_transport_reload();
}

/* Throughput, and that nothing grows. */
static void
test_load(void)
{
	DmshookEndpoint *e = at("POST", "good.test", "good", "/status/200");
	long		memory = 0;
	int			files = 0;
	int64		begin = 0;
	struct rusage used[2];

	for (int round = 0; round < 3; round++)
	{
		int			begun = 0;
		int			ok = 0;
		int			connects = 0;

		begin = transport_now();
		getrusage(RUSAGE_SELF, &used[0]);
		for (int done = 0; done < 2000;)
		{
			DmshookTransfer *t;

			while (begun < 2000 && dmshook_transport_in_flight() < 32 && start(e, "{\"some\": \"body\"}") != NULL)
				begun++;
			dmshook_transport_run(100);
			while ((t = dmshook_transport_finished()) != NULL)
			{
				done++;
				ok += t->outcome == DMSHOOK_OK && t->status == 200;
				connects += t->connect_us != 0;
				dmshook_transport_put(t);
			}
			if (transport_now() - begin > 20 * 1000000)
				break;
		}
		getrusage(RUSAGE_SELF, &used[1]);
		CHECK(ok == 2000, "%d of 2000", ok);
		CHECK(connects <= 32, "%d connections for 32 at a time", connects);
		if (round == 0)
		{
			memory = private_kb();
			files = open_files();
		}
	}
	printf("2000 requests, 32 at a time: %.1f s, %.1f us CPU each; %ld kB, then %ld kB; %d files, then %d\n",
		   (double) (transport_now() - begin) / 1e6,
		   ((double) (used[1].ru_utime.tv_sec - used[0].ru_utime.tv_sec + used[1].ru_stime.tv_sec - used[0].ru_stime.tv_sec) * 1e6 +
			(double) (used[1].ru_utime.tv_usec - used[0].ru_utime.tv_usec + used[1].ru_stime.tv_usec - used[0].ru_stime.tv_usec)) / 2000, memory, private_kb(), files, open_files());
#ifndef __SANITIZE_ADDRESS__	/* keeps what was freed */
	CHECK(private_kb() < memory + 1024, "%ld kB, then %ld kB", memory, private_kb());
#endif
	CHECK(open_files() <= files, "%d files, then %d", files, open_files());
}

/* Names that are not resolved leave threads behind: those are bounded. The last test, for it takes half a minute to forget. */
static void
test_lookups(void)
{
	DmshookEndpoint *slow = endpoint("POST", "https://slow.test/");
	DmshookEndpoint *e = at("POST", "good.test", "good", "/status/200");
	int			n = 0;

	slow->connect_timeout = 50;
	for (int round = 0; round < 3; round++)
	{
		for (n = 0; n < 64 && start(slow, "{}") != NULL;)
			n++;
		for (int i = 0; i < n; i++)
			dmshook_transport_put(wait_finished());
	}
	CHECK(n == 16, "%d at a time", n);
	for (int i = 0; i < 100; i++)
	{
		DmshookTransfer *t = request(e, "{}");

		CHECK(t->outcome == DMSHOOK_OK, "%s", t->error);
		dmshook_transport_put(t);
	}
}

static void
test_url_check(void)
{
	static const struct
	{
		const char *url;
		bool		http;
		const char *problem;	/* NULL: fine */
	}			urls[] = {
		{"https://dms.example.com/hooks", false, NULL},
		{"https://dms.example.com", false, NULL},
		{"HTTPS://DMS.example.com:8443/hooks?token=a%20b&c", false, NULL},
		{"https://[2001:db8::1]:8443/", false, NULL},
		{"https://192.0.2.1/", false, NULL},
		{"https://xn--bcher-kva.example/", false, NULL},
		{"https://example.com/a@b", false, NULL},
		{"http://example.com/", true, "not among those of dmshook.allowed_ports"},
		{"http://example.com/", false, "not https"},
		{"", false, "empty"},
		{"example.com", false, "does not begin with https://"},
		{"ftp://example.com/", true, "does not begin with https://"},
		{"https:/example.com", false, "does not begin with https://"},
		{"https://", false, "no host"},
		{"https:///path", false, "no host"},
		{"https://:443/", false, "no host"},
		{"https://user@example.com/", false, "user name or password"},
		{"https://user:secret@example.com/", false, "user name or password"},
		{"https://example.com/#part", false, "fragment"},
		{"https://example.com/a b", false, "space"},
		{"https://example.com\\@other.example/", false, "space or one of"},
		{"https://example.com/a\r\nx: y", false, "control character"},
		{"https://example.com/\177", false, "control character"},
		{"https://b\303\274cher.example/", false, "not ASCII"},
		{"https://example.com:0/", false, "port"},
		{"https://example.com:99999/", false, "port"},
		{"https://example.com:x/", false, "port"},
		{"https://example.com:22/", false, "not among those of dmshook.allowed_ports"},
		{"https://example.com:1023/", false, "not among those of dmshook.allowed_ports"},
		{"https://example.com:1024/", false, NULL},
		{"http://example.com:8080/", true, NULL},
		{"https://[::1/", false, "malformed"},
		{"https://exa%6dple.com/", false, NULL},
		{"https://example.com%2f.evil.example/", false, "malformed"},
	};
	char		longest[2100] = "https://example.com/";
	const char *hint;
	const char *problem;

	for (size_t i = 0; i < lengthof(urls); i++)
	{
		problem = dmshook_url_check(urls[i].url, urls[i].http, &hint);
		CHECK((problem == NULL) == (urls[i].problem == NULL) && (problem == NULL || (has(problem, urls[i].problem) && hint != NULL)),
			  "%s: %s", urls[i].url, problem ? problem : "fine");
	}
	memset(longest + 20, 'x', 1980);
	CHECK(dmshook_url_check(longest, false, &hint) == NULL, "2000 bytes");
	longest[2000] = 'x';
	CHECK(has(dmshook_url_check(longest, false, &hint), "longer than 2000 bytes"), "2001 bytes");
}

int
main(int argc, char **argv)
{
	static const struct
	{
		const char *name;
		void		(*run) (void);
	}			tests[] = {
		{"url_check", test_url_check},
		{"request", test_request},
		{"methods", test_methods},
		{"limit", test_limit},
		{"status", test_status},
		{"responses", test_responses},
		{"connect", test_connect},
		{"guard", test_guard},
		{"source", test_source},
		{"tls", test_tls},
		{"http", test_http},
		{"kept", test_kept},
		{"handshakes", test_handshakes},
		{"answers", test_answers},
		{"dead", test_dead},
		{"leak", test_leak},
		{"invalid", test_invalid},
		{"abort", test_abort},
		{"load", test_load},
		{"lookups", test_lookups},
	};

	certificates = argv[1];
	for (int i = 2; i < argc && nports < (int) lengthof(ports); i++)
	{
		if (sscanf(argv[i], "%31[^=]=%d", ports[nports].name, &ports[nports].port) == 2)
			nports++;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);	/* as PostgreSQL does */
	/* what the environment says must not matter */
	setenv("https_proxy", "http://127.0.0.1:9", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:9", 1);
	setenv("SSL_CERT_FILE", path_to("other.crt"), 1);

	dmshook_allowed_networks = "127.0.0.0/8";
	dmshook_ca_file = path_to("ca.crt");
	dmshook_transport_init();
	for (size_t i = 0; i < lengthof(tests); i++)
	{
		int64		begin = transport_now();

		if (getenv("ONLY") && strcmp(getenv("ONLY"), tests[i].name) != 0)
			continue;
		tests[i].run();
		printf("%-10s %.1f s\n", tests[i].name, (double) (transport_now() - begin) / 1e6);
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed == 0 && passed > 0 ? 0 : 1;
}
