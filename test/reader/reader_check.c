/*
 * reader_check.c - the reader of the log against a server: test only.
 *
 * A libpq client. `cases` runs interleavings of sessions step by step, and says
 * of each round exactly which ids it must hand out. `stress` runs many writers
 * at once, crashes the server under them, and in the end compares what was
 * committed with what was handed out, as sets of (id, nonce); each once within
 * a life of the reader.
 *
 * usage: reader_check cases|stress CONNINFO [CRASH-COMMAND]
 * CRASH-COMMAND stops the server at once, and starts it.
 * environment: READER_STRESS_SECONDS (10), READER_STRESS_WRITERS (12),
 * READER_STRESS_CRASHES (2), READER_STRESS_SEED, READER_FIRST (end at the first failure)
 */
#include <errno.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *conninfo;
static const char *crash_command;
static int	failures;
static int	done;
static const char *doing = "";

static void
fail(const char *format,...)
{
	va_list		args;

	printf("not ok: %s: ", doing);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	failures++;
	if (getenv("READER_FIRST"))
		exit(1);
}

static void
silent(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

static PGconn *
open_session(const char *name)
{
	char		text[1000];
	PGconn	   *conn;

	snprintf(text, sizeof(text), "%s application_name=%s", conninfo, name);
	conn = PQconnectdb(text);
	PQsetNoticeProcessor(conn, silent, NULL);
	return conn;
}

/* One value, or "" where there is none, or "error: ..."; lives until the next call in this thread. */
static const char *
ask(PGconn *conn, const char *format,...)
{
	static __thread char answer[4000];
	char		sql[2000];
	va_list		args;
	PGresult   *result;

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	result = PQexec(conn, sql);
	answer[0] = 0;
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0)
		snprintf(answer, sizeof(answer), "%s", PQgetvalue(result, 0, 0));
	else if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		snprintf(answer, sizeof(answer), "error: %s", PQresultErrorMessage(result));
	PQclear(result);
	return answer;
}

/* The same, and must not fail. */
#define must(conn, ...) \
	do { const char *a_ = ask(conn, __VA_ARGS__); if (strncmp(a_, "error", 5) == 0) fail("line %d: %s", __LINE__, a_); } while (0)

#define expect(conn, wanted, ...) \
	do { const char *a_ = ask(conn, __VA_ARGS__); \
		if (strcmp(a_, wanted) != 0) fail("line %d: \"%s\", not \"%s\"", __LINE__, a_, wanted); } while (0)

/* -------------------------------------------------------------------- cases */

static PGconn *reader, *a, *b, *c, *other;
static int64_t base;			/* ids are told relative to it */

/* Ids of a round of at most limit, relative to base, late ones with an L: "1L 3 4". */
static const char *
round_of(int limit)
{
	return ask(reader, "SELECT coalesce(string_agg((id - %lld) || CASE WHEN late THEN 'L' ELSE '' END, ' '), '') "
			   "FROM test.reader_round(%d)", (long long) base, limit);
}

#define expect_round(wanted) \
	do { const char *a_ = round_of(1000); \
		if (strcmp(a_, wanted) != 0) fail("line %d: the round gave \"%s\", not \"%s\"", __LINE__, a_, wanted); } while (0)

/* missing, and low relative to base */
#define expect_gaps(missing, low) \
	do { long long h_, l_, m_; const char *s_ = ask(reader, "SELECT test.reader_state()"); \
		if (sscanf(s_, "%lld %lld %lld", &h_, &l_, &m_) != 3) fail("line %d: %s", __LINE__, s_); \
		else if (m_ != missing || l_ - base != low) fail("line %d: %lld missing, low %lld; not %d, %d", __LINE__, m_, \
														 l_ - (long long) base, (int) missing, (int) low); } while (0)

static void
begin_case(const char *name)
{
	PGconn	   *all[] = {a, b, c, other};

	doing = name;
	done++;
	for (int i = 0; i < 4; i++)
		if (PQtransactionStatus(all[i]) != PQTRANS_IDLE)
			must(all[i], "ROLLBACK");
	must(a, "SELECT test.emit()");	/* the reader's low is one that is there */
	base = strtoll(ask(a, "SELECT max(id) FROM dmshook.event"), NULL, 10);
	must(reader, "SELECT test.reader_open(%lld)", (long long) base);
	expect_round("");
	expect_gaps(0, 0);
}

static void
connect_all(void)
{
	reader = open_session("reader");
	a = open_session("a");
	b = open_session("b");
	c = open_session("c");
	other = PQconnectdb(ask(a, "SELECT 'host=' || current_setting('unix_socket_directories') || ' user=postgres dbname=template1'"));
	if (PQstatus(reader) != CONNECTION_OK || PQstatus(a) != CONNECTION_OK || PQstatus(b) != CONNECTION_OK ||
		PQstatus(c) != CONNECTION_OK || PQstatus(other) != CONNECTION_OK)
	{
		printf("not ok: no connection: %s%s%s", PQerrorMessage(reader), PQerrorMessage(a), PQerrorMessage(other));
		exit(1);
	}
}

static void
disconnect_all(void)
{
	PQfinish(reader);
	PQfinish(a);
	PQfinish(b);
	PQfinish(c);
	PQfinish(other);
}

/*
 * The hole to keep out of: B gets its xid, A the next one; A takes id 1 and stays
 * open, B takes id 2 and commits. The snapshot lists nobody, for its xmax is A's xid.
 */
static void
case_hole(void)
{
	begin_case("the hole: A runs at xmax, listed nowhere");
	must(b, "BEGIN");
	must(b, "SELECT pg_current_xact_id()");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(b, "SELECT test.emit()");
	must(b, "COMMIT");
	expect_round("2");
	expect_gaps(1, 0);
	expect_round("");
	must(a, "COMMIT");
	expect_round("1L");
	expect_gaps(0, 2);
	expect_round("");
}

static void
case_order(void)
{
	begin_case("a lower id commits later");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(b, "SELECT test.emit()");
	expect_round("2");
	must(b, "SELECT test.emit()");
	expect_round("3");
	must(a, "SELECT test.emit()");
	must(a, "COMMIT");
	must(b, "SELECT test.emit()");
	expect_round("1L 4 5");
	expect_gaps(0, 5);

	begin_case("an id is held before its row is written");
	must(a, "BEGIN");
	must(a, "SELECT test.take()");
	must(b, "SELECT test.emit()");
	expect_round("2");
	expect_round("");
	must(a, "SELECT test.put(%lld)", (long long) base + 1);
	expect_round("");
	must(a, "COMMIT");
	expect_round("1L");
	expect_gaps(0, 2);
}

static void
case_rollback(void)
{
	begin_case("rolled back: the gap is closed");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(b, "SELECT test.emit()");
	expect_round("2");
	expect_gaps(1, 0);
	must(a, "ROLLBACK");
	expect_round("");
	expect_gaps(0, 2);
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(a, "ROLLBACK");
	must(b, "SELECT test.emit()");
	expect_round("4");
	expect_gaps(0, 4);

	begin_case("savepoints");
	must(a, "BEGIN");
	must(a, "SAVEPOINT one");
	must(a, "SELECT test.emit()");
	must(a, "RELEASE one");
	must(a, "SAVEPOINT two");
	must(a, "SELECT test.emit()");
	must(a, "ROLLBACK TO two");
	must(a, "SAVEPOINT three");
	must(a, "SELECT test.emit()");
	must(b, "SELECT test.emit()");
	expect_round("4");
	must(a, "SELECT test.emit()");
	must(b, "SELECT test.emit()");
	expect_round("6");
	expect_gaps(4, 0);
	must(a, "COMMIT");
	expect_round("1L 3L 5L");
	expect_gaps(0, 6);
}

static void
case_others(void)
{
	begin_case("late rows do not wait for older transactions that have nothing to do with them");
	must(c, "BEGIN");
	must(c, "SELECT pg_current_xact_id()");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(a, "SAVEPOINT s");
	must(a, "SELECT test.emit()");
	must(a, "ROLLBACK TO s");
	must(b, "SELECT test.emit()");
	expect_round("3");
	must(a, "COMMIT");
	expect_round("1L");
	expect_gaps(1, 1);			/* 2 stays: c might hold it */
	must(c, "COMMIT");
	expect_round("");
	expect_gaps(0, 3);

	begin_case("an xid of another database keeps the fence, a transaction without one does not");
	must(c, "BEGIN ISOLATION LEVEL REPEATABLE READ");
	must(c, "SELECT count(*) FROM dmshook.event");
	must(other, "BEGIN");
	must(other, "SELECT pg_current_xact_id()");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(b, "SELECT test.emit()");
	expect_round("2");
	must(a, "ROLLBACK");
	expect_round("");
	expect_gaps(1, 0);
	must(other, "ROLLBACK");
	expect_round("");
	expect_gaps(0, 2);
}

static void
case_prepared(void)
{
	begin_case("prepared, then committed");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(a, "PREPARE TRANSACTION 'one'");
	must(b, "SELECT test.emit()");
	expect_round("2");
	expect_round("");
	must(b, "SELECT test.emit()");
	expect_round("3");
	must(c, "COMMIT PREPARED 'one'");
	expect_round("1L");
	expect_gaps(0, 3);

	begin_case("prepared, then rolled back");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(a, "PREPARE TRANSACTION 'one'");
	must(b, "SELECT test.emit()");
	expect_round("2");
	expect_gaps(1, 0);
	must(c, "ROLLBACK PREPARED 'one'");
	expect_round("");
	expect_gaps(0, 2);
}

static void
case_restart(void)
{
	begin_case("a new life of the reader, at its low");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(b, "SELECT test.emit()");
	must(c, "BEGIN");
	must(c, "SELECT test.emit()");
	must(b, "SELECT test.emit()");
	expect_round("2 4");
	must(reader, "SELECT test.reader_open(%lld)", (long long) base);
	must(c, "COMMIT");
	expect_round("2 3 4");
	expect_round("");
	expect_gaps(1, 0);
	must(a, "COMMIT");
	expect_round("1L");
	expect_gaps(0, 4);

	begin_case("a crash: prepared transactions and gaps");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(a, "PREPARE TRANSACTION 'one'");
	must(c, "BEGIN");
	must(c, "SELECT test.emit()");
	must(b, "SELECT test.emit()");
	expect_round("3");
	expect_gaps(2, 0);
	if (system(crash_command) != 0)
		fail("could not crash the server");
	disconnect_all();
	connect_all();
	must(reader, "SELECT test.reader_open(%lld)", (long long) base);
	expect_round("3");
	expect_gaps(2, 0);
	expect_round("");
	must(c, "COMMIT PREPARED 'one'");
	expect_round("1L");
	expect_gaps(0, 3);
}

static void
case_limits(void)
{
	begin_case("limit");
	for (int i = 0; i < 7; i++)
		must(a, "SELECT test.emit()");
	expect(reader, "3", "SELECT count(*) FROM test.reader_round(3)");
	expect(reader, "1", "SELECT split_part(test.reader_state(), ' ', 6)");
	expect(reader, "4", "SELECT count(*) FROM test.reader_round(4)");
	expect(reader, "1", "SELECT split_part(test.reader_state(), ' ', 6)");
	expect_round("");
	expect(reader, "0", "SELECT split_part(test.reader_state(), ' ', 6)");
}

static void
case_scan(void)
{
	begin_case("a webhook that is behind reads what is not missing");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	for (int i = 0; i < 4; i++)
		must(b, "SELECT test.emit()");
	expect_round("2 3 4 5");
	must(a, "COMMIT");
	/* the last row is the id up to which was read */
#define SCAN "SELECT string_agg((id - %lld)::text, ' ') FROM test.reader_scan(%lld, %lld, %d)", \
		(long long) base, (long long) base
	expect(reader, "2 3 4 5 5", SCAN, (long long) base + 5, 10);
	expect(reader, "2 3 3", SCAN, (long long) base + 5, 2);
	expect(reader, "2 3 3", SCAN, (long long) base + 3, 2);
	expect(reader, "1", SCAN, (long long) base + 1, 2);
	expect(reader, "f", "SELECT test.reader_fetch(%lld)", (long long) base + 6);
	expect(reader, "t", "SELECT test.reader_fetch(%lld)", (long long) base + 5);
	expect_round("1L");
	expect(reader, "1 2 3 4 5 5", SCAN, (long long) base + 5, 10);
	must(a, "SELECT test.emit(1000000)");
	expect_round("6");
}

/* More gaps that stay open at once than there are epochs. */
static void
case_epochs(void)
{
	PGconn	   *writers[40];
	char		wanted[1000] = "";

	begin_case("more open gaps than epochs");
	for (int i = 0; i < 40; i++)
	{
		writers[i] = open_session("writer");
		must(writers[i], "BEGIN");
		must(writers[i], "SELECT test.emit()");
		must(b, "SELECT test.emit()");
		must(b, "SELECT pg_current_xact_id()");
		snprintf(wanted, sizeof(wanted), "%d", 2 * i + 2);
		expect_round(wanted);
	}
	expect_gaps(40, 0);
	for (int i = 0; i < 40; i++)
	{
		int			k = (i * 7 + 3) % 40;

		must(writers[k], i % 5 == 0 ? "ROLLBACK" : "COMMIT");
		snprintf(wanted, sizeof(wanted), i % 5 == 0 ? "" : "%dL", 2 * k + 1);
		expect_round(wanted);
		PQfinish(writers[k]);
	}
	expect_gaps(0, 80);
}

static void
case_imports(void)
{
	int			n = 0;
	int			rounds = 0;
	int64_t		last = 0;

	begin_case("a rolled-back import");
	must(a, "BEGIN");
	must(a, "SELECT test.emit_many(60000)");
	must(b, "SELECT test.emit()");
	expect_round("60001");
	expect_gaps(60000, 0);
	must(a, "ROLLBACK");
	for (int i = 0; i < 20; i++)
		expect_round("");
	expect_gaps(0, 60001);

	begin_case("an import that commits late comes in order, in several rounds, each row once");
	must(a, "BEGIN");
	must(a, "SELECT test.emit_many(50000)");
	must(b, "SELECT test.emit()");
	expect_round("50001");
	must(a, "COMMIT");
	must(b, "SELECT test.emit()");
	while (n < 50001 && rounds++ < 50)
	{
		PGresult   *result = PQexec(reader, "SELECT id, late FROM test.reader_round(1000)");

		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			fail("%s", PQresultErrorMessage(result));
		if (rounds == 1 && PQntuples(result) > 40000)
			fail("%d rows in a round: its length is not bounded", PQntuples(result));
		for (int i = 0; i < PQntuples(result); i++)
		{
			int64_t		id = strtoll(PQgetvalue(result, i, 0), NULL, 10);

			n++;
			if (*PQgetvalue(result, i, 1) == 'f')
			{
				if (id != base + 50002)
					fail("id %lld is new", (long long) id);
				continue;
			}
			if (id <= last)
				fail("late id %lld after %lld", (long long) id, (long long) last);
			last = id;
		}
		PQclear(result);
		if (n < 50001)
			expect(reader, "1 1", "SELECT substr(test.reader_state(), length(test.reader_state()) - 2)");
	}
	if (n != 50001)
		fail("%d rows", n);
	expect_round("");
	expect_gaps(0, 50002);
}

/* Rows above high that are written and not committed: not read again while nobody ended. */
static void
case_tail(void)
{
	begin_case("an import above all that is committed");
	must(c, "BEGIN");
	must(c, "SELECT pg_current_xact_id()");
	must(a, "BEGIN");
	must(a, "SELECT test.emit_many(5000)");
	expect_round("");
	expect_round("");
	expect_gaps(0, 0);
	must(c, "COMMIT");
	expect_round("");
	must(a, "SELECT test.emit_many(10)");
	expect_round("");
	must(a, "COMMIT");
	expect(reader, "5010 5010 0", "SELECT concat_ws(' ', count(*), max(id) - %lld, count(*) FILTER (WHERE late)) "
		   "FROM test.reader_round(10000)", (long long) base);
	expect_gaps(0, 5010);

	begin_case("the same, and somebody commits above it");
	must(a, "BEGIN");
	must(a, "SELECT test.emit_many(3000)");
	expect_round("");
	must(b, "SELECT test.emit()");
	expect_round("3001");
	expect_gaps(3000, 0);
	must(a, "COMMIT");
	expect(reader, "3000 3000 3000", "SELECT concat_ws(' ', count(*), max(id) - %lld, count(*) FILTER (WHERE late)) "
		   "FROM test.reader_round(10000)", (long long) base);
	expect_gaps(0, 3001);

	begin_case("the same, an id below it, and rolled back");
	must(b, "BEGIN");
	must(b, "SELECT test.take()");
	must(a, "BEGIN");
	must(a, "SELECT test.emit_many(3000)");
	expect_round("");
	must(b, "SELECT test.put(%lld)", (long long) base + 1);
	must(b, "COMMIT");
	expect_round("1");
	expect_round("");
	must(a, "ROLLBACK");
	expect_round("");
	must(b, "SELECT test.emit()");
	expect_round("3002");
	expect_gaps(0, 3002);
}

static void
case_own_xid(void)
{
	const char *answer;

	begin_case("a transaction with an xid of its own must not read");
	must(reader, "BEGIN");
	must(reader, "SELECT test.emit()");
	answer = round_of(10);
	if (strstr(answer, "without an xid") == NULL)
		fail("\"%s\", and no error", answer);
	must(reader, "ROLLBACK");
}

static void
case_sequence(void)
{
	const char *answer;
	int64_t		first;

	begin_case("ids above the sequence: it is put above them");
	must(a, "BEGIN");
	must(a, "SELECT test.emit()");
	must(b, "SELECT test.put(%lld)", (long long) base + 100);
	expect_round("100");
	expect(reader, ask(a, "SELECT %lld", (long long) base + 100), "SELECT test.reader_explicit()");
	expect(reader, "0", "SELECT test.reader_explicit()");
	first = strtoll(ask(b, "SELECT test.emit()"), NULL, 10);
	if (first <= base + 100)
		fail("the next id is %lld", (long long) first);
	answer = round_of(10);
	if (strtoll(answer, NULL, 10) != first - base || strstr(answer, " "))
		fail("\"%s\", not %lld", answer, (long long) (first - base));
	must(a, "COMMIT");
	expect_round("1L");
	expect_gaps(0, first - base);

	begin_case("the sequence was set back");
	must(a, "SELECT setval('dmshook.event_id', %lld)", (long long) base - 20000);
	/* it is looked at once a second */
	for (int i = 0; i < 100; i++)
	{
		expect_round("");
		if (strcmp(ask(reader, "SELECT test.reader_explicit()"), "0") != 0)
			break;
		usleep(50000);
	}
	first = strtoll(ask(b, "SELECT test.emit()"), NULL, 10);
	if (first <= base)
		fail("the next id is %lld", (long long) first);

	begin_case("a sequence that caches");
	must(a, "ALTER SEQUENCE dmshook.event_id CACHE 20");
	answer = round_of(10);
	if (strstr(answer, "CACHE 1") == NULL)
		fail("\"%s\", and no error", answer);
	must(a, "ALTER SEQUENCE dmshook.event_id CACHE 1");
	expect_round("");
}

static void
case_durable(void)
{
	begin_case("WAL is flushed where a commit was not");
	must(a, "SET synchronous_commit = on");
	must(a, "SELECT test.emit()");
	expect(reader, "0/0", "SELECT test.reader_flush()");
	must(a, "SET synchronous_commit = off");
	/* several times: now and then an event is the first of its page, or WAL is just being flushed */
	for (int i = 0; i < 4; i++)
	{
		char		before[40];

		snprintf(before, sizeof(before), "%s", ask(b, "SELECT pg_current_wal_insert_lsn()"));
		must(a, "SELECT test.emit()");
		if (i >= 2)
		{
			/* its hint is set, though not flushed: later WAL, of a rolled-back event, is on its page */
			must(a, "BEGIN");
			must(a, "SELECT test.emit()");
			must(a, "ROLLBACK");
			must(b, "SELECT count(*) FROM dmshook.event");
		}
		expect(reader, "t", "SELECT greatest(f, pg_current_wal_flush_lsn()) > '%s' FROM test.reader_flush() f", before);
	}
	must(a, "SET synchronous_commit = on");
}

static void
run_cases(void)
{
	connect_all();
	case_hole();
	case_order();
	case_rollback();
	case_others();
	case_prepared();
	case_limits();
	case_scan();
	case_epochs();
	case_imports();
	case_tail();
	case_own_xid();
	case_sequence();
	case_durable();
	case_restart();
	disconnect_all();
}

/* ------------------------------------------------------------------- stress */

#define MAX_ID		20000000
#define MAX_WRITERS	100

static volatile bool stop_writers;
static volatile bool stop_reader;
static int64_t *handed;			/* the nonce by id, in this life of the reader or below its low */
static int64_t *ever_id;		/* all that was handed out, in all lives */
static int64_t *ever_nonce;
static int64_t ever;
static int64_t top;
static long lives;
static long late_rows;
static long rounds;
static long reader_errors;
static unsigned base_seed;

static bool
run(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);
	bool		good = PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;

	PQclear(result);
	return good;
}

static void
pause_ms(double ms)
{
	struct timespec t = {(time_t) (ms / 1000), (long) ((ms - (long) (ms / 1000) * 1000) * 1e6)};

	nanosleep(&t, NULL);
}

/* One transaction. Any error ends it; the connection is then looked at by the caller. */
static bool
write_one(PGconn *conn, unsigned *seed, const char *gid)
{
	char		sql[200];
	char		held[40];
	int			steps;
	int			kind = rand_r(seed) % 100;

	if (kind < 55)
		return run(conn, "SELECT test.emit()");
	if (kind < 60)
		return run(conn, "SELECT pg_current_xact_id()");
	if (!run(conn, "BEGIN"))
		return false;
	if (kind < 75 && !run(conn, "SELECT pg_current_xact_id()"))
		return false;
	steps = 1 + rand_r(seed) % 4;
	for (int i = 0; i < steps; i++)
	{
		bool		good = true;
		PGresult   *result;

		switch (rand_r(seed) % 6)
		{
			case 0:
				good = run(conn, "SAVEPOINT s") && run(conn, "SELECT test.emit()") && run(conn, "ROLLBACK TO s");
				break;
			case 1:
				good = run(conn, "SAVEPOINT s") && run(conn, "SELECT test.emit()") && run(conn, "RELEASE s");
				break;
			case 2:
				/* an id, held for a while */
				result = PQexec(conn, "SELECT test.take()");
				good = PQresultStatus(result) == PGRES_TUPLES_OK;
				snprintf(held, sizeof(held), "%s", good ? PQgetvalue(result, 0, 0) : "");
				PQclear(result);
				pause_ms(rand_r(seed) % 300 == 0 ? 1000 + rand_r(seed) % 2000 : rand_r(seed) % 4);
				snprintf(sql, sizeof(sql), "SELECT test.put(%s)", held);
				good = good && run(conn, sql);
				break;
			default:
				good = run(conn, "SELECT test.emit()");
				break;
		}
		if (!good)
			return false;
	}
	switch (rand_r(seed) % 10)
	{
		case 0:
		case 1:
			return run(conn, "ROLLBACK");
		case 2:
			snprintf(sql, sizeof(sql), "PREPARE TRANSACTION '%s'", gid);
			if (!run(conn, sql))
				return false;
			if (rand_r(seed) % 3 == 0)
				pause_ms(rand_r(seed) % 50);
			snprintf(sql, sizeof(sql), "%s PREPARED '%s'", rand_r(seed) % 4 ? "COMMIT" : "ROLLBACK", gid);
			return run(conn, sql);
		default:
			return run(conn, "COMMIT");
	}
}

static void *
writer_main(void *arg)
{
	int			me = (int) (intptr_t) arg;
	unsigned	seed = base_seed + me * 7919;
	PGconn	   *conn = NULL;
	char		gid[40];

	for (long n = 0; !stop_writers; n++)
	{
		if (conn == NULL)
		{
			conn = open_session("writer");
			if (PQstatus(conn) != CONNECTION_OK ||
				!run(conn, me % 2 ? "SET synchronous_commit = off" : "SET synchronous_commit = on"))
			{
				PQfinish(conn);
				conn = NULL;
				pause_ms(20);
				continue;
			}
		}
		snprintf(gid, sizeof(gid), "w%d_%ld", me, n);
		if (!write_one(conn, &seed, gid))
		{
			if (PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) != PQTRANS_IDLE)
				run(conn, "ROLLBACK");
			if (PQstatus(conn) != CONNECTION_OK)
			{
				PQfinish(conn);
				conn = NULL;
			}
		}
	}
	if (conn)
		PQfinish(conn);
	return NULL;
}

static void
take_rows(PGresult *result)
{
	for (int i = 0; i < PQntuples(result); i++)
	{
		int64_t		id = strtoll(PQgetvalue(result, i, 0), NULL, 10);

		if (id >= MAX_ID)
		{
			fail("more ids than this test has room for");
			exit(1);
		}
		if (handed[id])
			fail("id %lld was handed out twice in a life", (long long) id);
		handed[id] = strtoll(PQgetvalue(result, i, 1), NULL, 10);
		if (id > top)
			top = id;
		ever_id[ever] = id;
		ever_nonce[ever++] = handed[id];
		if (*PQgetvalue(result, i, 2) == 't')
			late_rows++;
	}
}

/* A reader's rounds until told to stop, and nothing is left: a new life after each crash, and now and then. */
static void *
reader_main(void *arg)
{
	unsigned	seed = base_seed;
	PGconn	   *conn = NULL;
	int			quiet = 0;

	(void) arg;
	for (long n = 1; quiet < 3; n++)
	{
		static const int limits[] = {1, 10, 100, 1000, 1000, 1000};
		char		sql[200];
		PGresult   *result;

		if (conn == NULL)
		{
			int64_t		low;

			conn = open_session("reader");
			if (PQstatus(conn) != CONNECTION_OK)
			{
				PQfinish(conn);
				conn = NULL;
				pause_ms(20);
				continue;
			}
			low = strtoll(ask(conn, "SELECT low FROM test.position"), NULL, 10);
			snprintf(sql, sizeof(sql), "SELECT test.reader_open(%lld)", (long long) low);
			run(conn, sql);
			memset(&handed[low + 1], 0, (top + 1) * sizeof(int64_t));
			lives++;
		}
		snprintf(sql, sizeof(sql), "SELECT * FROM test.reader_round(%d)", limits[rand_r(&seed) % 6]);
		result = PQexec(conn, sql);
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			if (PQstatus(conn) == CONNECTION_OK)
			{
				if (reader_errors++ < 3)
					fail("a round: %s", PQresultErrorMessage(result));
				if (reader_errors > 20)
					exit(1);
			}
			PQclear(result);
			PQfinish(conn);
			conn = NULL;
			continue;
		}
		rounds++;
		take_rows(result);
		quiet = stop_reader && PQntuples(result) == 0 &&
			strstr(ask(conn, "SELECT test.reader_state()"), " 0 0 0 0") ? quiet + 1 : 0;
		PQclear(result);
		if (n % 40 == 0)
			run(conn, "UPDATE test.position SET low = split_part(test.reader_state(), ' ', 2)::bigint");
		if (n % 3000 == 0)
		{
			PQfinish(conn);
			conn = NULL;
		}
		if (rand_r(&seed) % 3 == 0)
			pause_ms(rand_r(&seed) % 3);
	}
	PQfinish(conn);
	return NULL;
}

/* Both ways: what was committed was handed out, and what ever was handed out is there. */
static void
compare(void)
{
	PGconn	   *conn = open_session("compare");
	PGresult   *result = PQexec(conn, "SELECT id, nonce FROM dmshook.event ORDER BY id");
	int64_t    *committed = calloc(MAX_ID, sizeof(int64_t));
	long		missed = 0;
	long		invented = 0;

	for (int i = 0; i < PQntuples(result); i++)
	{
		int64_t		id = strtoll(PQgetvalue(result, i, 0), NULL, 10);

		committed[id] = strtoll(PQgetvalue(result, i, 1), NULL, 10);
		if (handed[id] != committed[id] && missed++ < 3)
			fail("id %lld was never handed out", (long long) id);
	}
	for (int64_t i = 0; i < ever; i++)
		if (committed[ever_id[i]] != ever_nonce[i] && invented++ < 3)
			fail("id %lld was handed out, and is not there", (long long) ever_id[i]);
	if (missed || invented)
		fail("%ld missed, %ld invented", missed, invented);
	if (PQntuples(result) < 1000 || late_rows < 10)
		fail("only %d events, %ld of them late: this says nothing", PQntuples(result), late_rows);
	printf("reader.stress: events %d, late %ld, rounds %ld, lives %ld, missed %ld, invented %ld\n",
		   PQntuples(result), late_rows, rounds, lives, missed, invented);
	PQclear(result);
	PQfinish(conn);
	free(committed);
}

static int
setting(const char *name, int value)
{
	const char *text = getenv(name);

	return text && *text ? atoi(text) : value;
}

static void
run_stress(void)
{
	int			seconds = setting("READER_STRESS_SECONDS", 10);
	int			nwriters = setting("READER_STRESS_WRITERS", 12);
	int			crashes = setting("READER_STRESS_CRASHES", 2);
	pthread_t	writers[MAX_WRITERS];
	pthread_t	reader_thread;
	PGconn	   *conn;
	PGresult   *result;
	unsigned	seed;

	doing = "stress";
	done++;
	base_seed = setting("READER_STRESS_SEED", (int) time(NULL));
	seed = base_seed + 1;
	printf("reader.stress: seed %u\n", base_seed);
	handed = calloc(2 * MAX_ID, sizeof(int64_t));
	ever_id = calloc(MAX_ID, sizeof(int64_t));
	ever_nonce = calloc(MAX_ID, sizeof(int64_t));
	if (nwriters > MAX_WRITERS)
		nwriters = MAX_WRITERS;
	pthread_create(&reader_thread, NULL, reader_main, NULL);
	for (int i = 0; i < nwriters; i++)
		pthread_create(&writers[i], NULL, writer_main, (void *) (intptr_t) i);
	for (int i = 0; i < crashes; i++)
	{
		pause_ms(1000.0 * seconds / (crashes + 1));
		if (system(crash_command) != 0)
			fail("could not crash the server");
	}
	pause_ms(1000.0 * seconds / (crashes + 1));
	stop_writers = true;
	for (int i = 0; i < nwriters; i++)
		pthread_join(writers[i], NULL);

	/* prepared transactions that a crash left without an owner */
	conn = open_session("end");
	result = PQexec(conn, "SELECT gid FROM pg_prepared_xacts");
	for (int i = 0; i < PQntuples(result); i++)
		must(conn, "%s PREPARED '%s'", rand_r(&seed) % 2 ? "COMMIT" : "ROLLBACK", PQgetvalue(result, i, 0));
	PQclear(result);
	PQfinish(conn);
	stop_reader = true;
	pthread_join(reader_thread, NULL);
	compare();
}

int
main(int argc, char **argv)
{
	if (argc < 3)
	{
		fprintf(stderr, "usage: reader_check cases|stress CONNINFO [CRASH-COMMAND]\n");
		return 2;
	}
	conninfo = argv[2];
	crash_command = argc > 3 ? argv[3] : "false";
	if (strcmp(argv[1], "cases") == 0)
		run_cases();
	else
		run_stress();
	printf("%s: reader %s, %d done, %d failures\n", failures ? "not ok" : "ok", argv[1], done, failures);
	return failures != 0;
}
