/*
 * capture_related.h - rows behind foreign keys, for "related" in an event's
 * data. See capture_related.c.
 */
#ifndef DMSHOOK_CAPTURE_RELATED_H
#define DMSHOOK_CAPTURE_RELATED_H

#include "postgres.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"

#include "capture_cache.h"

/* Every process that loads the library: the relcache callback. */
extern void dmshook_related_init(void);

/*
 * Compile a group's related rows for rel, whose partition tree has root at its
 * top, in the current memory context, which must be that of the relation's
 * rules. NULL where one cannot be read from here: then none is sent.
 */
extern CaptureRelated *dmshook_related_compile(Relation rel, Oid root, const DmshookGroup *group);

/*
 * Append ,"related":{...} for a row, under pinned settings; nothing where one of
 * the rows cannot be read now. Never waits.
 */
extern void dmshook_related_append(StringInfo buf, CaptureGroup *group, TupleTableSlot *row);

/* What keeps a group's related rows from being sent, palloc'd; NULL: nothing. Waits for locks. */
extern char *dmshook_related_problem(Relation rel, const DmshookGroup *group);

#endif							/* DMSHOOK_CAPTURE_RELATED_H */
