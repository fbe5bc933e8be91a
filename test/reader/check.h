/*
 * check.h - what cases.c and stress.c share: sessions, questions, failures.
 */
#ifndef READER_CHECK_H
#define READER_CHECK_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const char *conninfo;
extern const char *crash_command;	/* stops the server at once, and starts it */
extern const char *doing;		/* the name of the test, for failures */
extern int	failures;
extern int	done;

extern void fail(const char *format,...) __attribute__((format(printf, 1, 2)));

/* A session of that name; look at PQstatus(). */
extern PGconn *open_session(const char *name);

/* One value, or "" where there is none, or "error: ..."; lives until the next call in this thread. */
extern const char *ask(PGconn *conn, const char *format,...) __attribute__((format(printf, 2, 3)));

/* The same, and must not fail. */
#define must(conn, ...) \
	do { const char *a_ = ask(conn, __VA_ARGS__); if (strncmp(a_, "error", 5) == 0) fail("line %d: %s", __LINE__, a_); } while (0)

#define expect(conn, wanted, ...) \
	do { const char *a_ = ask(conn, __VA_ARGS__); \
		if (strcmp(a_, wanted) != 0) fail("line %d: \"%s\", not \"%s\"", __LINE__, a_, wanted); } while (0)

extern void run_cases(void);
extern void run_stress(void);

#endif							/* READER_CHECK_H */
