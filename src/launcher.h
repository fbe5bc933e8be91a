/*
 * launcher.h - the life of the dispatchers. See launcher.c, worker.c, hooks.c.
 */
#ifndef DMSHOOK_LAUNCHER_H
#define DMSHOOK_LAUNCHER_H

#include "postgres.h"

/* shared_preload_libraries only: register the launcher. */
extern void dmshook_launcher_init(void);

/* shared_preload_libraries only: object access and utility hooks. */
extern void dmshook_hooks_init(void);

/* What the launcher hands to a worker in bgw_extra; the slot's index is its argument. */
typedef struct DmshookLaunch
{
	Oid			database;
	uint32		life;
} DmshookLaunch;

/* Entry points of the background workers. */
extern PGDLLEXPORT void dmshook_launcher_main(Datum arg);
extern PGDLLEXPORT void dmshook_worker_main(Datum arg);

/*
 * Is the extension (still) there? A look at the catalog, under a snapshot of
 * its own; in the open transaction, or else in one of its own.
 */
extern bool dmshook_extension_exists(void);

#endif							/* DMSHOOK_LAUNCHER_H */
