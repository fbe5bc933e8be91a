/*
 * capture_batch.h - the events of a statement, written together. See capture_batch.c.
 */
#ifndef DMSHOOK_CAPTURE_BATCH_H
#define DMSHOOK_CAPTURE_BATCH_H

#include "postgres.h"

#include "capture_log.h"

/*
 * Append an event to the log, at once or by the end of the statement at hand;
 * what it points to is copied. Errors are those of dmshook_log_event().
 */
extern void dmshook_batch_event(const DmshookNewEvent *event);

/*
 * Write now what was gathered in this subtransaction: somebody is about to
 * append a row of its own, or to look.
 */
extern void dmshook_batch_write(void);

/* A number of the statement at hand, the outermost that writes; never again another's. 0: not known. */
extern uint64 dmshook_batch_statement(void);

/* Every process that loads the library: the hooks that tell where a statement ends. */
extern void dmshook_batch_init(void);

#endif							/* DMSHOOK_CAPTURE_BATCH_H */
