/*
 * dmshook.c - module entry: what happens when the library is loaded.
 *
 * Runs in the postmaster (preloaded) or in a backend that calls one of our
 * functions without that. Nothing but the order of initialization is here.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "capture.h"
#include "launcher.h"
#include "lookup.h"
#include "settings.h"
#include "wake.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	dmshook_settings_init();
	dmshook_capture_init();
	dmshook_lookup_init();
	if (process_shared_preload_libraries_in_progress)
	{
		dmshook_wake_init();
		dmshook_hooks_init();
		dmshook_launcher_init();
	}
}
