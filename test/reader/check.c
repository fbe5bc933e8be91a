/*
 * check.c - the reader of the log against a server: test only. A libpq client;
 * here its main, and what its two halves share: cases.c and stress.c.
 *
 * usage: reader_check cases|stress CONNINFO CRASH-COMMAND
 * CRASH-COMMAND stops the server at once, and starts it.
 * READER_FIRST in the environment: end at the first failure.
 */
#include "check.h"

#include <stdarg.h>

const char *conninfo;
const char *crash_command;
int			failures;
int			done;
const char *doing = "";

void
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

PGconn *
open_session(const char *name)
{
	char		text[1000];
	PGconn	   *conn;

	snprintf(text, sizeof(text), "%s application_name=%s", conninfo, name);
	conn = PQconnectdb(text);
	PQsetNoticeProcessor(conn, silent, NULL);
	return conn;
}

const char *
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
