/*
 * main.c - random schedules over the real consumer*.c.
 *
 *   model [-n schedules] [-s first seed] [-t seconds] [-m misuse] [-v]
 *
 * A schedule is a seed: writers, reader, dispatcher, receivers, admins and crashes take random
 * turns; then all becomes calm and must drain. Every step is checked
 * (check.c). A fault prints its seed; -s SEED -n 1 -v tells its story.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model.h"

Database	db;
Life		life;
uint64_t	seed;
int			misuse;
bool		calm;
int			scarcity;
bool		verbose;

static uint64_t state;

/* splitmix64: the same everywhere */
uint32_t
rnd(uint32_t n)
{
	uint64_t	z = (state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	z ^= z >> 31;
	return (uint32_t) ((z >> 32) % n);
}

bool
chance(uint32_t percent)
{
	return rnd(100) < percent;
}

void
fail(const char *format,...)
{
	va_list		args;

	printf("seed %llu: ", (unsigned long long) seed);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_Exit(1);
}

void
trace(const char *format,...)
{
	va_list		args;

	if (!verbose)
		return;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

static void
run_schedule(void)
{
	int			steps;
	int			writers;

	state = seed * UINT64_C(0x2545F4914F6CDD1D);
	calm = false;
	scarcity = chance(15) ? 1 + (int) rnd(20) : 0;
	world_init();
	start();
	steps = 50 + (int) rnd(500);
	writers = 10 + (int) rnd(50);
	for (int i = 0; i < steps; i++)
	{
		if (chance((uint32_t) writers))
			world_step();
		else
			dispatcher_step();
		check_memory();
	}
	if (chance(30))
		crash();
	calm = true;
	world_end_all();
	for (int i = 0; !dispatcher_idle(); i++)
	{
		CHECK(i < 2000, "it never drains");
		dispatcher_drain();
		check_memory();
	}
	check_end();
	if (chance(50))
	{
		/* and once more from what is stored: nothing is sent again */
		memset(&life.flying, 0, sizeof(life.flying));
		crash();
		for (int i = 0; i < 3; i++)
			dispatcher_drain();
		check_memory();
	}
	dmshook_consumers_free(life.set);
	CHECK(life.allocated == 0, "%d pieces of memory left", life.allocated);
	memset(&life, 0, sizeof(life));
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
	unsigned long long n = 1000;
	unsigned long long first = 1;
	double		seconds = 1e9;
	double		began = now();
	unsigned long long i;

	for (int a = 1; a < argc; a++)
	{
		if (strcmp(argv[a], "-v") == 0)
			verbose = true;
		else if (a + 1 == argc)
			return 2;
		else if (strcmp(argv[a], "-n") == 0)
			n = strtoull(argv[++a], NULL, 10);
		else if (strcmp(argv[a], "-s") == 0)
			first = strtoull(argv[++a], NULL, 10);
		else if (strcmp(argv[a], "-t") == 0)
			seconds = strtod(argv[++a], NULL);
		else if (strcmp(argv[a], "-m") == 0)
			misuse = atoi(argv[++a]);
		else
			return 2;
	}
	for (i = 0; i < n && now() - began < seconds; i++)
	{
		seed = first + i;
		run_schedule();
	}
	printf("%llu\n", i);
	return 0;
}
