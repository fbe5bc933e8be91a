/*
 * clock.h - how much time has passed, whatever is done to the system's clock. See clock.c.
 */
#ifndef DMSHOOK_CLOCK_H
#define DMSHOOK_CLOCK_H

#include "postgres.h"

/* Microseconds that only go forward, the same in all processes; for pauses and timeouts. */
extern int64 dmshook_clock(void);

/* So little is not worth to be followed: NTP's steps. */
#define DMSHOOK_CLOCK_STEP	INT64CONST(5000000)

/*
 * By how many microseconds the system's clock was set back since this process asked last; 0: it
 * was not, or by less than DMSHOOK_CLOCK_STEP.
 */
extern int64 dmshook_clock_set_back(void);

#endif							/* DMSHOOK_CLOCK_H */
