/*
 * dispatch.h - the loop of a dispatcher. See dispatch.c.
 */
#ifndef DMSHOOK_DISPATCH_H
#define DMSHOOK_DISPATCH_H

/*
 * Runs in the dispatcher's process, connected to its database, outside a
 * transaction, its settings pinned, its shared slot taken and the database
 * claimed. Returns when ShutdownRequestPending is set or the extension is gone,
 * true when another process is to go on at once (the clock was set back);
 * errors end the process (worker.c says what then).
 */
extern bool dmshook_dispatch(void);

#endif							/* DMSHOOK_DISPATCH_H */
