/*
 * clock.c - how much time has passed, whatever is done to the system's clock.
 *
 * What waits for a moment of the system's clock waits an hour too long when the clock is
 * set back by an hour. Processes pause and give up by dmshook_clock(), which no one
 * can set. Times that are stored, and shown to people, are the system's: the
 * dispatcher asks dmshook_clock_set_back() and moves them with it (dispatch.c). A clock set
 * forward needs nobody: things are due too early, once.
 *
 * Runs in every process; no transaction, no memory.
 */
#include "postgres.h"

#include <time.h>

#include "utils/timestamp.h"

#include "clock.h"

#define READ_AT_ONCE_US 100000	/* between two looks at one clock, for the other one to be read at that time */

int64
dmshook_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64
dmshook_clock_set_back(void)
{
	static bool known = false;
	static int64 ahead;			/* of the system's clock, when it was asked last */
	int64		before = dmshook_clock();
	int64		now = GetCurrentTimestamp() - before;
	int64		back;

	/* we did not get to run in between: that is no sign of anything */
	if (dmshook_clock() - before > READ_AT_ONCE_US)
		return 0;
	back = known ? ahead - now : 0;
	known = true;
	ahead = now;
	return back >= DMSHOOK_CLOCK_STEP ? back : 0;
}
