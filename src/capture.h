/*
 * capture.h - triggers that write events. See capture.c.
 */
#ifndef DMSHOOK_CAPTURE_H
#define DMSHOOK_CAPTURE_H

/* Every process that loads the library: relcache callback, caches. */
extern void dmshook_capture_init(void);

#endif							/* DMSHOOK_CAPTURE_H */
