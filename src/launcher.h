/*
 * launcher.h - the life of the dispatchers. See launcher.c and worker.c.
 */
#ifndef DMSHOOK_LAUNCHER_H
#define DMSHOOK_LAUNCHER_H

#include "postgres.h"

/* shared_preload_libraries only: register the launcher. */
extern void dmshook_launcher_init(void);

/* Every backend that loads the library: object access and utility hooks. */
extern void dmshook_hooks_init(void);

/* Entry points of the background workers. */
extern PGDLLEXPORT void dmshook_launcher_main(Datum arg);
extern PGDLLEXPORT void dmshook_worker_main(Datum arg);

#endif							/* DMSHOOK_LAUNCHER_H */
