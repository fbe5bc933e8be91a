/*
 * capture_index.h - the log's primary key, for several new rows at once. See capture_index.c.
 */
#ifndef DMSHOOK_CAPTURE_INDEX_H
#define DMSHOOK_CAPTURE_INDEX_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/relcache.h"

/*
 * Add the index entries of n rows, in slots and in the table, whose ids rise.
 * Returns for how many of them, from the first on, that was done; the rest is
 * for index_insert(). Errors are those of storage, and serialization failures.
 */
extern int	dmshook_index_append(Relation index, TupleTableSlot **slots, const int64 *ids, int n);

#endif							/* DMSHOOK_CAPTURE_INDEX_H */
