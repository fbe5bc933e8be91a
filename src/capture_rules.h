/*
 * capture_rules.h - the arguments of a capture trigger: which rows raise which
 * events. See capture_rules.c for the grammar.
 */
#ifndef DMSHOOK_CAPTURE_RULES_H
#define DMSHOOK_CAPTURE_RULES_H

#include "postgres.h"
#include "nodes/pg_list.h"

/* A column as the arguments name it: "status#4". */
typedef struct DmshookColumnRef
{
	char	   *name;
	int			number;			/* attnum in the group's table; 0: not given */
	char	   *as;				/* in "key:" only, the name that is sent */
} DmshookColumnRef;

typedef enum DmshookClauseKind
{
	DMSHOOK_CLAUSE_ALWAYS,
	DMSHOOK_CLAUSE_CHANGED,		/* one of the columns, or (none given) any */
	DMSHOOK_CLAUSE_BECOMES,		/* the test is true now and was not before */
	DMSHOOK_CLAUSE_LEAVES,		/* the test was true before and is not now */
	DMSHOOK_CLAUSE_IS,			/* the test is true now */
	DMSHOOK_CLAUSE_NOT			/* the test is not true now */
} DmshookClauseKind;

typedef struct DmshookClause
{
	DmshookClauseKind kind;
	List	   *columns;		/* of DmshookColumnRef: changed ones, the tested
								 * one, or those that the condition names */
	List	   *values;			/* of char *: the tested column is one of these */
	char	   *condition;		/* SQL instead of values */
} DmshookClause;

typedef struct DmshookRule
{
	char	   *type;			/* event type */
	List	   *clauses;		/* of DmshookClause, all must hold */
	char	   *text;			/* what follows the type, as written */
} DmshookRule;

/* Rows that a foreign key points to. */
typedef struct DmshookRelated
{
	List	   *from;			/* of DmshookColumnRef: the foreign key */
	char	   *schema;			/* of the referenced table */
	char	   *table;
	Oid			relid;			/* its OID, where the group's table is the one written for */
	List	   *key;			/* its columns that the foreign key refers to, in from's order */
	List	   *columns;		/* its columns that are sent */
} DmshookRelated;

typedef struct DmshookGroup
{
	char	   *entity;
	Oid			table;			/* whose column numbers these are */
	List	   *key;			/* of DmshookColumnRef, as are the next */
	List	   *include;
	bool		has_include;
	List	   *exclude;
	DmshookColumnRef *tenant;
	DmshookColumnRef *user;
	List	   *related;		/* of DmshookRelated */
	List	   *rules;			/* of DmshookRule */
} DmshookGroup;

/*
 * Parse a trigger's arguments into a list of DmshookGroup, in the current
 * memory context. Returns the first argument that makes no sense in *bad (it
 * is left out; what it would have restricted fails closed), else NULL. Does
 * not raise errors.
 */
extern List *dmshook_rules_parse(char *const *args, int nargs, const char **bad);

/* A rule as people read it: without the columns' numbers. */
extern char *dmshook_rule_describe(const DmshookRule *rule);

/* Parse "a#1, b#2"; false when malformed. */
extern bool dmshook_rules_columns(const char *text, List **columns);

#endif							/* DMSHOOK_CAPTURE_RULES_H */
