/*
 * commit_client.c - writes rows at a steady pace, and says when each COMMIT
 * was sent and when it returned.
 *
 *   commit_client CONNINFO RATE COUNT [FIRST]     prints "id sent_us returned_us" for each
 */
#define _GNU_SOURCE
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
run(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "commit_client: %s", PQerrorMessage(conn));
		exit(1);
	}
	PQclear(result);
}

int
main(int argc, char **argv)
{
	bool		fit = argc == 4 || argc == 5;
	PGconn	   *conn = fit ? PQconnectdb(argv[1]) : NULL;
	int64_t		begin = now_us();
	int			count = fit ? atoi(argv[3]) : 0;
	int			first = argc == 5 ? atoi(argv[4]) : 1;

	if (conn == NULL || PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "commit_client: %s", conn ? PQerrorMessage(conn) : "three or four arguments are needed\n");
		return 1;
	}
	srandom(first);
	for (int i = 1; i <= count; i++)
	{
		/* each at a random moment of its slot, so that it meets no rhythm of the dispatcher's */
		int64_t		slot = 1000000 / atoi(argv[2]);
		int64_t		pause = begin + i * slot + random() % slot - now_us();
		struct timespec ts = {.tv_sec = pause > 0 ? pause / 1000000 : 0, .tv_nsec = pause > 0 ? pause % 1000000 * 1000 : 0};
		char		sql[256];
		int64_t		sent;

		nanosleep(&ts, NULL);
		run(conn, "BEGIN");
		snprintf(sql, sizeof(sql), "INSERT INTO vehicle (id, registration, status) VALUES (%d, 'AB%04d', 'In stock')", first + i - 1, i % 10000);
		run(conn, sql);
		sent = now_us();
		run(conn, "COMMIT");
		printf("%d %lld %lld\n", first + i - 1, (long long) sent, (long long) now_us());
	}
	PQfinish(conn);
	return 0;
}
