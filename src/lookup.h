/*
 * lookup.h - message_id = 'msg_...' finds its event by an index.
 */
#ifndef DMSHOOK_LOOKUP_H
#define DMSHOOK_LOOKUP_H

/* Installs a planner hook; in _PG_init(), preloaded or not. */
extern void dmshook_lookup_init(void);

#endif							/* DMSHOOK_LOOKUP_H */
