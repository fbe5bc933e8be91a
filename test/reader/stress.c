/*
 * stress.c - many writers at once, with rollbacks, savepoints, held ids, prepared
 * transactions and crashes of the server: test only.
 *
 * In the end what was committed is compared with what was handed out, as sets of
 * (id, nonce), both ways; each once within a life of the reader.
 *
 * environment: READER_STRESS_SECONDS (10), READER_STRESS_WRITERS (12),
 * READER_STRESS_CRASHES (2), READER_STRESS_SEED
 */
#include "check.h"

#include <pthread.h>
#include <time.h>

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
			/* without an SQLSTATE it is libpq that speaks: the server was crashed, though the status may not say so yet */
			if (PQstatus(conn) == CONNECTION_OK && PQresultErrorField(result, PG_DIAG_SQLSTATE) != NULL)
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

void
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
