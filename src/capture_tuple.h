/*
 * capture_tuple.h - an event as a row of the log. See capture_tuple.c.
 */
#ifndef DMSHOOK_CAPTURE_TUPLE_H
#define DMSHOOK_CAPTURE_TUPLE_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"

#include "capture_log.h"

/* Is the log as the install script makes it, so that the next one knows its columns? */
extern bool dmshook_tuple_is_plain(TupleDesc desc);

/*
 * What heap_form_tuple() would make of it, with 0 for an id; palloc'd. The
 * event's values are plain: of four-byte headers, not compressed, not in TOAST.
 */
extern HeapTuple dmshook_tuple_form(const DmshookNewEvent *event, int64 nonce);

#endif							/* DMSHOOK_CAPTURE_TUPLE_H */
