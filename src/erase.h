/*
 * erase.h - the dispatcher's part of dmshook.erase(). See erase.c.
 */
#ifndef DMSHOOK_ERASE_H
#define DMSHOOK_ERASE_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "store.h"

/*
 * As soon as a command 'erase' is read: its events are marked where memory holds them, so that nothing of
 * them is sent or logged from then on. As often as it is read.
 */
extern void dmshook_erase_mark(const DmshookCommand *command);

/* In the transaction of commands: what was logged meanwhile. False: not all of it yet; the command stays undone. */
extern bool dmshook_erase_command(const DmshookCommand *command);

/* Pages that hold erased bytes: when to clean some; in a transaction: a few; and when that has ended. */
extern TimestampTz dmshook_erase_due(void);
extern void dmshook_erase_run(void);
extern void dmshook_erase_end(bool committed);

#endif							/* DMSHOOK_ERASE_H */
