/*
 * capture_condition.h - SQL conditions on a row. See capture_condition.c.
 */
#ifndef DMSHOOK_CAPTURE_CONDITION_H
#define DMSHOOK_CAPTURE_CONDITION_H

#include "postgres.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

typedef struct DmshookCondition DmshookCondition;

/*
 * A name that a condition may use, and the column that it stands for. Where a
 * list of these is given, no other names are known.
 */
typedef struct DmshookConditionName
{
	const char *name;
	AttrNumber	number;			/* 0: the column is gone */
} DmshookConditionName;

/*
 * Compile canonical text (dmshook_condition_canonical()) for the relation, as
 * its owner. NULL, and a palloc'd *problem, when it no longer makes sense.
 * The result is in context.
 */
extern DmshookCondition *dmshook_condition_compile(Relation rel, const char *sql, List *names,
												   MemoryContext context, char **problem);

/*
 * Is it true of the row? One that fails is not true; it says so once, in a
 * WARNING, and label (what for) is part of that.
 */
extern bool dmshook_condition_true(DmshookCondition *condition, TupleTableSlot *slot,
								   Relation rel, const char *label);

/*
 * Check a condition as a person wrote it, under the session's search_path, and
 * write it so that its meaning depends on no search_path. *columns: the
 * AttrNumbers that it names. Raises errors.
 */
extern char *dmshook_condition_canonical(Relation rel, const char *sql, List **columns);

#endif							/* DMSHOOK_CAPTURE_CONDITION_H */
