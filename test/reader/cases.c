/*
 * cases.c - interleavings of sessions, step by step, and of each round of the
 * reader exactly which ids it must hand out: test only.
 */
#include "check.h"

#include <unistd.h>

static PGconn *reader,
		   *a,
		   *b,
		   *c,
		   *other;
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
		else if (m_ != missing || l_ - base != low) fail("line %d: %lld missing, low %lld; not %lld, %lld", __LINE__, m_, \
														 l_ - (long long) base, (long long) (missing), (long long) (low)); } while (0)

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
case_relations(void)
{
	begin_case("the index becomes another one");
	must(a, "REINDEX INDEX CONCURRENTLY dmshook.event_pkey");
	must(a, "SELECT test.emit()");
	expect_round("1");
	must(a, "VACUUM FULL dmshook.event");
	must(a, "SELECT test.emit()");
	expect_round("2");
	expect_gaps(0, 2);
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

void
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
	case_relations();
	case_durable();
	case_restart();
	disconnect_all();
}
