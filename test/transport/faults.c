/*
 * faults.c - src/transport*.c against receivers that do what none must: faults.js. Part
 * of transport_test.c.
 */
#include "postgres.h"

#include "transport_test.h"

static DmshookEndpoint *
say(const char *what)
{
	char		path[64];

	snprintf(path, sizeof(path), "/say/%s", what);
	return at("POST", "good.test", "faulty", path);
}

/* On a connection of its own, for it is to another name. */
static int
fired(void)
{
	DmshookTransfer *t = request(at("GET", "127.0.0.1", "faulty", "/fired"), NULL);
	int			n = t->response_body ? atoi(t->response_body) : -1;

	dmshook_transport_put(t);
	return n;
}

/* Before TLS is up. Not a byte of HTTP goes out, and none of it takes longer than it may. */
void
test_handshakes(void)
{
	DmshookEndpoint *e;
	DmshookTransfer *t;

	EXPECT(at("POST", "good.test", "noise", "/"), DMSHOOK_TLS_ERROR, 0, "does not speak TLS", "plain http");
	EXPECT(at("POST", "good.test", "alert", "/"), DMSHOOK_TLS_ERROR, 0, "refused the TLS handshake", "cipher");
	EXPECT(at("POST", "good.test", "cut", "/"), DMSHOOK_TLS_ERROR, 0, "ended the connection during the TLS handshake", "log");
	EXPECT(at("POST", "good.test", "resetshake", "/"), DMSHOOK_TLS_ERROR, 0, "ended the connection during the TLS handshake", "log");
	EXPECT(at("POST", "good.test", "corrupt", "/"), DMSHOOK_TLS_ERROR, 0, "The TLS handshake with good.test", "log");
	e = at("POST", "good.test", "dripshake", "/");
	e->connect_timeout = 300;
	EXPECT(e, DMSHOOK_TIMEOUT, 0, "The TLS handshake with good.test", "HTTPS port");
	for (int i = 0; i < 2; i++)
	{
		/* records without end: what OpenSSL takes of them is bounded */
		long		before = private_kb();

		e = at("POST", "good.test", i == 0 ? "flood" : "warnings", "/");
		e->connect_timeout = 1000;
		t = request(e, "{}");
		CHECK(t->outcome == DMSHOOK_TLS_ERROR || t->outcome == DMSHOOK_TIMEOUT, "%c %s", t->outcome, t->error);
		CHECK(private_kb() < before + 4096, "%ld kB, then %ld kB", before, private_kb());
		dmshook_transport_put(t);
	}
}

/* What would go on for ever. Where the machine is too slow for the beginning of the answer, it has more time. */
static void
expect_endless(const char *what, const char *error, int status)
{
	for (int timeout = 500;; timeout *= 2)
	{
		DmshookEndpoint *e = say(what);
		DmshookTransfer *t;
		bool		begun;

		e->timeout = timeout;
		t = request(e, "{}");
		begun = t->status != 0;
		if (begun || timeout > 8000)
			CHECK(t->outcome == DMSHOOK_TIMEOUT && t->status == status && has(t->error, error), "%s: %c %d %s", e->url, t->outcome, t->status, t->error);
		dmshook_transport_put(t);
		if (begun || timeout > 8000)
			return;
	}
}

/* What is not HTTP, or is meant to harm. */
void
test_answers(void)
{
	static const struct
	{
		const char *what;
		DmshookOutcome outcome;
		int			status;
		const char *error;
		const char *hint;
	}			answers[] = {
		{"resetbody", DMSHOOK_PROTOCOL_ERROR, 200, "in the middle of its response", "webhook-id"},
		{"cutheaders", DMSHOOK_PROTOCOL_ERROR, 200, "in the middle of its response", "webhook-id"},
		{"resetheaders", DMSHOOK_PROTOCOL_ERROR, 200, "in the middle of its response", "webhook-id"},
		{"cutstatus", DMSHOOK_PROTOCOL_ERROR, 0, "without a response", "webhook-id"},
		{"cuthundred", DMSHOOK_PROTOCOL_ERROR, 100, "in the middle of its response", "webhook-id"},
		{"http09", DMSHOOK_PROTOCOL_ERROR, 0, "not valid HTTP", "port"},
		{"http09open", DMSHOOK_PROTOCOL_ERROR, 0, "not valid HTTP", "port"},
		{"nothing", DMSHOOK_PROTOCOL_ERROR, 0, "", ""},
		{"negative", DMSHOOK_PROTOCOL_ERROR, 200, "not valid HTTP", ""},
		{"words", DMSHOOK_PROTOCOL_ERROR, 200, "not valid HTTP", ""},
		{"twolengths", DMSHOOK_PROTOCOL_ERROR, 200, "", ""},
		{"hugelength", DMSHOOK_OK, 200, "", ""},	/* until the end of the connection */
		{"badchunk", DMSHOOK_PROTOCOL_ERROR, 200, "", ""},
		{"hugechunk", DMSHOOK_PROTOCOL_ERROR, 200, "", ""},
		{"nolastchunk", DMSHOOK_PROTOCOL_ERROR, 200, "in the middle of its response", "webhook-id"},
		{"both", DMSHOOK_OK, 200, "", ""},
		{"trailers", DMSHOOK_TOO_LARGE, 200, "headers", "without end"},
		{"tegzip", DMSHOOK_OK, 200, "", ""},
		{"tebomb", DMSHOOK_OK, 200, "", ""},
		{"emptylines", DMSHOOK_PROTOCOL_ERROR, 0, "not valid HTTP", "port"},
		{"gigabyte", DMSHOOK_OK, 200, "", ""},
		{"300", DMSHOOK_REDIRECT, 300, "300, a redirect.", "url"},
		{"307", DMSHOOK_REDIRECT, 307, "307, a redirect to http://169.254.169.254/.", "not followed"},
		{"nostatus", DMSHOOK_PROTOCOL_ERROR, 0, "", ""},
		{"999", DMSHOOK_HTTP_ERROR, 999, "", ""},
	};
	static const struct
	{
		const char *what;
		const char *error;
		int			status;
	}			endless[] = {
		{"extension", "The response of good.test was not complete", 200},
		{"slowheader", "The response of good.test was not complete", 200},
		{"switching", "good.test answered 101, and no more within ", 101},
		{"hundred", "good.test answered 100, and no more within ", 100},
		{"slowinterim", "good.test answered 102, and no more within ", 102},
	};
	DmshookTransfer *t;
	long		before = private_kb();
	char	   *big = malloc(4000001);

	for (size_t i = 0; i < lengthof(answers); i++)
		EXPECT(say(answers[i].what), answers[i].outcome, answers[i].status, answers[i].error, answers[i].hint);

	for (size_t i = 0; i < lengthof(endless); i++)
		expect_endless(endless[i].what, endless[i].error, endless[i].status);
	CHECK(private_kb() < before + 4096, "%ld kB, then %ld kB", before, private_kb());

	/* what comes beyond an answer is not the next one */
	for (int i = 0; i < 3; i++)
	{
		int			n;

		t = request(say("toolong"), "{}");
		CHECK(t->outcome == DMSHOOK_OK && has(t->response_body, "right"), "%s %s", t->error, t->response_body);
		dmshook_transport_put(t);
		n = fired();
		t = request(say("later"), "{}");
		CHECK(t->outcome == DMSHOOK_OK && has(t->response_body, "right"), "%s %s", t->error, t->response_body);
		dmshook_transport_put(t);
		while (fired() == n)
			dmshook_transport_run(5);
	}

	/* an answer while we still send: it counts, whatever becomes of the rest */
	memset(big, 'b', 4000000);
	big[4000000] = '\0';
	for (int i = 0; i < 6; i++)
	{
		static const char *const how[] = {"stall", "reset", "close", "stall/200", "reset/200", "close/200"};
		char		path[64];
		DmshookEndpoint *e;

		snprintf(path, sizeof(path), "/early/%s", how[i]);
		e = at("POST", "good.test", "faulty", path);
		e->timeout = i == 0 || i == 3 ? 3000 : 15000;	/* who stalls is waited for */
		t = request(e, big);
		if (i < 3)
			CHECK(t->outcome == DMSHOOK_HTTP_ERROR && t->status == 413, "%s: %c %d %s", how[i], t->outcome, t->status, t->error);
		else
			CHECK(t->outcome == DMSHOOK_OK && t->status == 200, "%s: %c %d %s", how[i], t->outcome, t->status, t->error);
		dmshook_transport_put(t);
	}
	t = request(at("POST", "good.test", "faulty", "/early/silent"), big);
	CHECK(t->outcome == DMSHOOK_CONNECT_ERROR && t->status == 0 && has(t->error, "broke before the response"), "%c %d %s", t->outcome, t->status, t->error);
	dmshook_transport_put(t);
	free(big);
}

/* A kept connection that ends, wherever it does, costs no attempt: the request goes out again, once, on a new one. */
void
test_dead(void)
{
	static const char *const points[] = {"idle", "first", "head", "whole"};
	static const char *const hows[] = {"end", "fin", "half", "reset"};
	char	   *big = malloc(4000001);
	DmshookEndpoint *h2 = at("POST", "good.test", "h2", "/ok");
	DmshookEndpoint *die = at("POST", "good.test", "h2", "/die");

	/* HTTP/2: many at once over the one that dies */
	h2->http_version = die->http_version = 20;
	EXPECT(h2, DMSHOOK_OK, 200, "", "");
	for (int i = 0; i < 5; i++)
		start(die, "{}");
	for (int i = 0; i < 5; i++)
	{
		DmshookTransfer *t = wait_finished();

		CHECK(t->outcome == DMSHOOK_OK && t->status == 200, "%c %d %s", t->outcome, t->status, t->error);
		dmshook_transport_put(t);
	}

	memset(big, 'b', 4000000);
	big[4000000] = '\0';
	for (size_t p = 0; p < lengthof(points); p++)
	{
		for (size_t h = 0; h < lengthof(hows); h++)
		{
			for (int large = 0; large < 2; large++)
			{
				char		path[64];
				DmshookTransfer *t;
				int			before;

				/* who does not read, and has said that it will not write, is found out by TCP only, which takes its time */
				if (h == 2 && large && p != 2)
					continue;
				snprintf(path, sizeof(path), "/kept/%s/%s", points[p], hows[h]);
				before = fired();
				for (int i = 0; i < 2; i++)
				{
					DmshookEndpoint *e = at("POST", "good.test", "faulty", path);

					e->connect_timeout = h == 2 ? 1000 : 3000;
					t = request(e, large ? big : "{}");
					CHECK(t->outcome == DMSHOOK_OK && t->status == 200, "%s, %s body: %c %d %s", path, large ? "large" : "small", t->outcome, t->status, t->error);
					dmshook_transport_put(t);
					while (p == 0 && fired() == before + i)
						dmshook_transport_run(5);
				}
				/* the first of all found no connection, or one that ended */
				CHECK(fired() >= before + 1 + (p == 0), "%s: %d connections ended", path, fired() - before);
			}
		}
	}
	free(big);
}
