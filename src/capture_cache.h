/*
 * capture_cache.h - a relation's rules, compiled. See capture_cache.c.
 */
#ifndef DMSHOOK_CAPTURE_CACHE_H
#define DMSHOOK_CAPTURE_CACHE_H

#include "postgres.h"
#include "access/attnum.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "utils/reltrigger.h"
#include "utils/relcache.h"

#include "capture_condition.h"
#include "capture_rules.h"
#include "rowjson.h"

/* A column that is sent. */
typedef struct CaptureColumn
{
	AttrNumber	number;			/* 0: it is gone */
	DmshookJsonType *json;
	char	   *name;
	char	   *label;			/* ,"name": */
	int			label_len;
} CaptureColumn;

/* A row behind a foreign key: capture_related.c. */
typedef struct CaptureRelated CaptureRelated;

/* What is sent about a row, and how. */
typedef struct CaptureGroup
{
	text	   *entity;
	char	   *head;			/* {"entity":"vehicle","key": */
	int			head_len;
	int			usual_size;		/* of what is sent of a row; what its buffer starts with */
	bool		key_only;		/* a column that is named is gone: nothing but the key is sent */
	CaptureColumn *key;
	int			nkey;
	CaptureColumn *columns;
	int			ncolumns;
	CaptureColumn tenant;		/* number 0: none */
	CaptureColumn user;
	bool		has_tenant;		/* asked for, whether or not it is still there */
	CaptureRelated *related;	/* NULL: none */
} CaptureGroup;

typedef struct CaptureClause
{
	DmshookClauseKind kind;
	bool		broken;			/* names what is gone: never true */
	AttrNumber *columns;		/* CHANGED: these, or all */
	int			ncolumns;
	CaptureColumn column;		/* the tested one */
	char	  **values;			/* folded */
	int		   *lengths;
	int			nvalues;
	DmshookCondition *condition;
} CaptureClause;

typedef struct CaptureRule
{
	CaptureGroup *group;
	text	   *type;
	char	   *label;			/* the type as a C string */
	CaptureClause *clauses;
	int			nclauses;
} CaptureRule;

/* One of a relation's capture triggers. */
typedef struct CaptureTrigger
{
	Oid			oid;
	bool		on_update;		/* and not disabled */
	CaptureRule *rules;
	int			nrules;
} CaptureTrigger;

typedef struct CaptureRelation
{
	Oid			relid;			/* hash key */
	bool		valid;
	MemoryContext context;		/* all that follows is in it */
	Oid			root;			/* of its partition tree, or itself */
	bool		has_conditions;
	text	   *source;			/* "source" member of the payload */
	text	   *schema;			/* tenant, where no column says */
	CaptureTrigger *triggers;
	int			ntriggers;
} CaptureRelation;

/*
 * The compiled rules of a relation. function is the Oid of dmshook.capture().
 * They live to the end of the transaction at least.
 */
extern CaptureRelation *dmshook_capture_rules(Relation rel, Oid function);

/* The column that a reference means in the relation; 0: gone. */
extern AttrNumber dmshook_capture_column(Relation rel, Oid table, const DmshookColumnRef *ref);

/* Fold a text for comparison without regard to case; palloc'd. */
extern char *dmshook_capture_fold(const char *text, int len, int *folded_len);

/* Fill in a column of a relation; number 0: it is gone. In the current memory context. */
extern void dmshook_capture_set_column(CaptureColumn *column, Relation rel, AttrNumber number, const char *name);

/* Append a separator and a column as "name":value, under pinned settings. */
extern void dmshook_capture_append_column(StringInfo buf, CaptureColumn *column, TupleTableSlot *slot, char separator);

extern void dmshook_capture_cache_init(void);

#endif							/* DMSHOOK_CAPTURE_CACHE_H */
