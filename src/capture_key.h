/*
 * capture_key.h - a row's key. See capture_key.c.
 */
#ifndef DMSHOOK_CAPTURE_KEY_H
#define DMSHOOK_CAPTURE_KEY_H

#include "postgres.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "capture_cache.h"

/*
 * Append the row's key as JSON text, under pinned settings, and return it as
 * jsonb, palloc'd.
 */
extern Jsonb *dmshook_capture_key(StringInfo buf, CaptureGroup *group, TupleTableSlot *row);

#endif							/* DMSHOOK_CAPTURE_KEY_H */
