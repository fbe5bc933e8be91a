/*
 * unit.h - a harness for tests of the parts that build without a server.
 *
 * Each test program counts its checks, prints one TAP line for each group of them
 * ("not ok" lines are followed by what failed) and exits 1 when any failed.
 */
#ifndef UNIT_H
#define UNIT_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int	unit_groups = 0;
static int	unit_failed_groups = 0;
static int	unit_checks = 0;
static int	unit_failures = 0;

/* Count a check; when it fails, say where, and what was seen. */
#define CHECK(condition, ...) \
	unit_check((condition), __FILE__, __LINE__, #condition, __VA_ARGS__)

static bool
__attribute__((format(printf, 5, 6)))
unit_check(bool ok, const char *file, int line, const char *what, const char *format,...)
{
	unit_checks++;
	if (!ok && ++unit_failures <= 20)
	{
		va_list		args;

		printf("# %s:%d: %s: ", file, line, what);
		va_start(args, format);
		vprintf(format, args);
		va_end(args);
		printf("\n");
	}
	return ok;
}

/* Run a function that CHECKs. A group without a single check is a failure. */
static void
unit_group(const char *name, void (*run) (void))
{
	bool		ok;

	unit_checks = unit_failures = 0;
	run();
	ok = unit_failures == 0 && unit_checks > 0;
	unit_groups++;
	unit_failed_groups += !ok;
	printf("%s %d - %s (%d checks", ok ? "ok" : "not ok", unit_groups, name, unit_checks);
	printf(unit_failures > 0 ? ", %d failed)\n" : ")\n", unit_failures);
	fflush(stdout);
}

static int
unit_done(void)
{
	printf("1..%d\n", unit_groups);
	return unit_failed_groups == 0 ? 0 : 1;
}

/* Random numbers that are the same in every run. */
static inline uint64_t
unit_random(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/*
 * A copy that ends where its memory ends, so that the sanitizer sees a read
 * beyond the length. Free it.
 */
static inline char *
unit_exact(const char *text, size_t len)
{
	char	   *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, text, len);
	return copy;
}

#endif							/* UNIT_H */
