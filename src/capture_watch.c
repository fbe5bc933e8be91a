/*
 * capture_watch.c - what dmshook.watch_...() need from C: writing rules and
 * explaining them.
 *
 * Runs in the session of a DBA, called by the functions of 20_capture.sql and
 * by the view dmshook.watched. Nothing is written here; errors carry the hint
 * that a person at psql needs.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "capture_cache.h"
#include "capture_catalogue.h"
#include "capture_condition.h"
#include "capture_related.h"
#include "capture_rules.h"
#include "compat.h"
#include "match.h"

PGDLLEXPORT Datum dmshook_sql_watchable(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum dmshook_sql_column_refs(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum dmshook_sql_quote_item(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum dmshook_sql_rule_test(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum dmshook_sql_event_entity(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum dmshook_sql_trigger_args(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum dmshook_sql_rules(PG_FUNCTION_ARGS);

static Relation open_table(Oid relid);
static AttrNumber find_column(Relation rel, const char *name);
static void append_item(StringInfo buf, const char *text, const char *also);
static void append_ref(StringInfo buf, Relation rel, AttrNumber number);
static List *text_items(ArrayType *array);
static Datum names_array(List *names);
static Datum texts_array(List *texts);
static void resolve_columns(Relation rel, const DmshookGroup *group, List *columns, List **names, char **problem);
static void rule_predicate(StringInfo buf, const DmshookRule *rule);
static bool clause_predicate(StringInfo buf, const DmshookClause *clause);
static void emit_rule(ReturnSetInfo *result, Relation rel, const DmshookGroup *group, DmshookRule *rule);
static void emit_problem(ReturnSetInfo *result, const char *problem);
static List *resolve_group(Relation rel, const DmshookGroup *group, char **problem);

/* Items may be bare when nothing in them is a separator of the grammar. */
static void
append_item(StringInfo buf, const char *text, const char *also)
{
	size_t		len = strlen(text);
	bool		bare = len > 0 && text[0] != ' ' && text[len - 1] != ' ' &&
		strpbrk(text, "\",;") == NULL && strpbrk(text, also) == NULL;

	if (bare)
	{
		appendStringInfoString(buf, text);
		return;
	}
	appendStringInfoChar(buf, '"');
	for (const char *p = text; *p; p++)
	{
		if (*p == '"')
			appendStringInfoChar(buf, '"');
		appendStringInfoChar(buf, *p);
	}
	appendStringInfoChar(buf, '"');
}

static void
append_ref(StringInfo buf, Relation rel, AttrNumber number)
{
	append_item(buf, NameStr(TupleDescAttr(RelationGetDescr(rel), number - 1)->attname), "#= ]");
	appendStringInfo(buf, "#%d", number);
}

static List *
text_items(ArrayType *array)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
	List	   *result = NIL;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			result = lappend(result, TextDatumGetCString(values[i]));
	return result;
}

static Relation
open_table(Oid relid)
{
	return relation_open(relid, AccessShareLock);
}

/* A column by its name; an error that names the nearest one. */
static AttrNumber
find_column(Relation rel, const char *name)
{
	TupleDesc	desc = RelationGetDescr(rel);
	const char *nearest = NULL;
	int			best = 4;
	StringInfoData all;

	initStringInfo(&all);
	for (int i = 0; i < desc->natts; i++)
	{
		const char *other = NameStr(TupleDescAttr(desc, i)->attname);
		int			distance;

		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		if (strcmp(other, name) == 0)
			return i + 1;
		distance = dmshook_edit_distance(name, strlen(name), other, strlen(other), 3);
		if (distance < best)
		{
			best = distance;
			nearest = other;
		}
		appendStringInfo(&all, "%s%s", all.len > 0 ? ", " : "", other);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of table \"%s\" does not exist", name, RelationGetRelationName(rel)),
			 errdetail("Its columns are: %s.", all.data),
			 nearest ? errhint("Did you mean \"%s\"?", nearest) :
			 strcmp(name, "status") == 0 ?
			 errhint("Name the status column, or say status_column => NULL where there is none.") :
			 errhint("Name one of these.")));
	return 0;
}

/*
 * _watchable(rel): may this session watch the table, and can it be watched?
 * Returns its kind: 'table', 'parent' (with inheritance children) or 'partitioned'.
 */
PG_FUNCTION_INFO_V1(dmshook_sql_watchable);
Datum
dmshook_sql_watchable(PG_FUNCTION_ARGS)
{
	Relation	rel = open_table(PG_GETARG_OID(0));
	char	   *schema = get_namespace_name(RelationGetNamespace(rel));
	char		kind = rel->rd_rel->relkind;
	const char *result = kind == RELKIND_PARTITIONED_TABLE ? "partitioned" :
		rel->rd_rel->relhassubclass ? "parent" : "table";

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(rel)),
				 errhint("Events come from rows of tables; watch the tables under a view.")));
	if (IsCatalogRelation(rel) || strcmp(schema, "dmshook") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table \"%s\" cannot be watched", RelationGetRelationName(rel)),
				 errhint("Tables of the system and of dmshook itself raise no events.")));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("temporary table \"%s\" cannot be watched", RelationGetRelationName(rel)),
				 errhint("Watch a permanent table, or call dmshook.emit().")));
	if (!pg_class_ownercheck(RelationGetRelid(rel), GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table \"%s\" to watch it", RelationGetRelationName(rel)),
				 errhint("Call this as \"%s\" or as a superuser.",
						 GetUserNameFromId(rel->rd_rel->relowner, false))));
	relation_close(rel, AccessShareLock);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

/* _column_refs(rel, names): "status#4, branch#3"; NULL for an empty list. */
PG_FUNCTION_INFO_V1(dmshook_sql_column_refs);
Datum
dmshook_sql_column_refs(PG_FUNCTION_ARGS)
{
	Relation	rel = open_table(PG_GETARG_OID(0));
	List	   *names = text_items(PG_GETARG_ARRAYTYPE_P(1));
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, names)
	{
		if (buf.len > 0)
			appendStringInfoString(&buf, ", ");
		append_ref(&buf, rel, find_column(rel, lfirst(lc)));
	}
	relation_close(rel, AccessShareLock);
	if (buf.len == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}

/* _quote_item(text): as the grammar wants it. */
PG_FUNCTION_INFO_V1(dmshook_sql_quote_item);
Datum
dmshook_sql_quote_item(PG_FUNCTION_ARGS)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_item(&buf, text_to_cstring(PG_GETARG_TEXT_PP(0)), "#= ].");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}

/*
 * _rule_test(rel, column, values, condition): the condition as a test, or the
 * column and values as one; NULL when there is neither. Runs under the search_path of
 * the person who wrote the condition.
 */
PG_FUNCTION_INFO_V1(dmshook_sql_rule_test);
Datum
dmshook_sql_rule_test(PG_FUNCTION_ARGS)
{
	StringInfoData buf;
	Relation	rel;
	ListCell   *lc;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("rel must not be null"),
				 errhint("Name the table to watch.")));
	rel = open_table(PG_GETARG_OID(0));
	initStringInfo(&buf);
	if (!PG_ARGISNULL(3))
	{
		List	   *columns;
		char	   *sql = dmshook_condition_canonical(rel, text_to_cstring(PG_GETARG_TEXT_PP(3)), &columns);

		appendStringInfoString(&buf, "if [");
		foreach(lc, columns)
		{
			if (foreach_current_index(lc) > 0)
				appendStringInfoString(&buf, ", ");
			append_ref(&buf, rel, lfirst_int(lc));
		}
		appendStringInfo(&buf, "] %s", sql);
	}
	else if (!PG_ARGISNULL(1) && !PG_ARGISNULL(2))
	{
		List	   *values = text_items(PG_GETARG_ARRAYTYPE_P(2));

		append_ref(&buf, rel, find_column(rel, NameStr(*PG_GETARG_NAME(1))));
		foreach(lc, values)
		{
			appendStringInfoString(&buf, foreach_current_index(lc) > 0 ? ", " : " = ");
			append_item(&buf, lfirst(lc), "\"");
		}
		if (values == NIL)
			resetStringInfo(&buf);
	}
	relation_close(rel, AccessShareLock);
	if (buf.len == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}

/* _event_entity(type): the entity of a type in the catalogue, or an error. */
PG_FUNCTION_INFO_V1(dmshook_sql_event_entity);
Datum
dmshook_sql_event_entity(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(dmshook_catalogue_entity(PG_GETARG_TEXT_PP(0)));
}

/* _trigger_args(pg_trigger.tgargs): they are strings, each with a zero byte after it. */
PG_FUNCTION_INFO_V1(dmshook_sql_trigger_args);
Datum
dmshook_sql_trigger_args(PG_FUNCTION_ARGS)
{
	bytea	   *args = PG_GETARG_BYTEA_PP(0);
	const char *p = VARDATA_ANY(args);
	const char *end = p + VARSIZE_ANY_EXHDR(args);
	ArrayBuildState *state = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	while (p < end)
	{
		size_t		len = strnlen(p, end - p);

		state = accumArrayResult(state, PointerGetDatum(cstring_to_text_with_len(p, len)), false, TEXTOID,
								 CurrentMemoryContext);
		p += len + 1;
	}
	PG_RETURN_DATUM(makeArrayResult(state, CurrentMemoryContext));
}

static Datum
names_array(List *names)
{
	ArrayBuildState *state = initArrayResult(NAMEOID, CurrentMemoryContext, false);
	ListCell   *lc;

	foreach(lc, names)
		state = accumArrayResult(state, DirectFunctionCall1(namein, CStringGetDatum(lfirst(lc))), false,
								 NAMEOID, CurrentMemoryContext);
	return makeArrayResult(state, CurrentMemoryContext);
}

static Datum
texts_array(List *texts)
{
	ArrayBuildState *state = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	ListCell   *lc;

	foreach(lc, texts)
		state = accumArrayResult(state, CStringGetTextDatum(lfirst(lc)), false, TEXTOID, CurrentMemoryContext);
	return makeArrayResult(state, CurrentMemoryContext);
}

/* Give references the columns' present names; gather these; say what is gone. */
static void
resolve_columns(Relation rel, const DmshookGroup *group, List *columns, List **names, char **problem)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		DmshookColumnRef *ref = lfirst(lc);
		AttrNumber	number = dmshook_capture_column(rel, group->table, ref);

		if (number == 0)
		{
			if (*problem == NULL)
				*problem = psprintf("column \"%s\" is not there", ref->name);
			continue;
		}
		ref->name = pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), number - 1)->attname));
		*names = lappend(*names, ref->name);
	}
}

/* What is left out; *problem says so when no record is sent. */
static List *
resolve_group(Relation rel, const DmshookGroup *group, char **problem)
{
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *excluded = NIL;
	List	   *included = NIL;
	List	   *ignored = NIL;
	char	   *gone = NULL;

	resolve_columns(rel, group, group->key, &ignored, &gone);
	resolve_columns(rel, group, group->include, &included, &gone);
	resolve_columns(rel, group, group->exclude, &excluded, &gone);
	if (gone == NULL && group->has_include && group->include == NIL)
		gone = "an argument of the trigger makes no sense";
	if (gone != NULL)
		*problem = psprintf("%s: only the key is sent", gone);
	else if (group->tenant != NULL)
	{
		resolve_columns(rel, group, list_make1(group->tenant), &ignored, problem);
		if (*problem != NULL)
			*problem = psprintf("tenant %s: its events have no tenant", *problem);
	}
	if (*problem == NULL && (*problem = dmshook_related_problem(rel, group)) != NULL)
		*problem = psprintf("%s: related rows are not sent", *problem);
	if (!group->has_include)
		return excluded;

	excluded = NIL;
	for (int i = 0; i < desc->natts; i++)
	{
		char	   *name = NameStr(TupleDescAttr(desc, i)->attname);
		ListCell   *lc;
		bool		found = TupleDescAttr(desc, i)->attisdropped;

		foreach(lc, included)
			found |= strcmp(lfirst(lc), name) == 0;
		if (!found)
			excluded = lappend(excluded, name);
	}
	return excluded;
}

/* SQL that is true of the rows for which the clause's test is true now; false: none. */
static bool
clause_predicate(StringInfo buf, const DmshookClause *clause)
{
	ListCell   *lc;

	switch (clause->kind)
	{
		case DMSHOOK_CLAUSE_ALWAYS:
			appendStringInfoString(buf, "true");
			return true;
		case DMSHOOK_CLAUSE_CHANGED:
		case DMSHOOK_CLAUSE_LEAVES:
			return false;
		default:
			break;
	}
	if (clause->condition != NULL)
		appendStringInfo(buf, "(%s)", clause->condition);
	else
	{
		DmshookColumnRef *column = linitial(clause->columns);

		appendStringInfo(buf, "pg_catalog.lower((%s)::pg_catalog.text) OPERATOR(pg_catalog.=) ANY (ARRAY[",
						 quote_identifier(column->name));
		foreach(lc, clause->values)
			appendStringInfo(buf, "%spg_catalog.lower(%s)", foreach_current_index(lc) > 0 ? ", " : "",
							 quote_literal_cstr(lfirst(lc)));
		appendStringInfoString(buf, "])");
	}
	appendStringInfoString(buf, clause->kind == DMSHOOK_CLAUSE_NOT ? " IS NOT TRUE" : " IS TRUE");
	return true;
}

static void
rule_predicate(StringInfo buf, const DmshookRule *rule)
{
	ListCell   *lc;

	foreach(lc, rule->clauses)
	{
		appendStringInfoString(buf, buf->len > 0 ? " AND (" : "(");
		if (!clause_predicate(buf, lfirst(lc)))
		{
			resetStringInfo(buf);
			return;
		}
		appendStringInfoChar(buf, ')');
	}
}

/* One row of _rules(). */
static void
emit_rule(ReturnSetInfo *result, Relation rel, const DmshookGroup *group, DmshookRule *rule)
{
	Datum		values[9];
	bool		nulls[9] = {false};
	List	   *columns = NIL;
	List	   *excluded;
	char	   *tested = NULL;
	List	   *waited = NIL;
	char	   *problem = NULL;
	ListCell   *lc;
	StringInfoData predicate;

	excluded = resolve_group(rel, group, &problem);
	foreach(lc, rule->clauses)
	{
		DmshookClause *clause = lfirst(lc);
		char	   *gone = NULL;
		List	   *names = NIL;

		resolve_columns(rel, group, clause->columns, &names, &gone);
		if (gone != NULL)
			problem = psprintf("%s: the event is not raised", gone);
		if (clause->values != NIL && names != NIL)
		{
			tested = linitial(names);
			waited = clause->values;
		}
		columns = list_concat(columns, names);
	}
	initStringInfo(&predicate);
	rule_predicate(&predicate, rule);

	values[0] = CStringGetTextDatum(rule->type);
	values[1] = CStringGetTextDatum(dmshook_rule_describe(rule));
	values[2] = names_array(columns);
	values[3] = names_array(excluded);
	nulls[4] = group->tenant == NULL;
	values[4] = nulls[4] ? (Datum) 0 : DirectFunctionCall1(namein, CStringGetDatum(group->tenant->name));
	nulls[5] = predicate.len == 0;
	values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(predicate.data);
	nulls[6] = tested == NULL;
	values[6] = nulls[6] ? (Datum) 0 : DirectFunctionCall1(namein, CStringGetDatum(tested));
	nulls[7] = tested == NULL;
	values[7] = nulls[7] ? (Datum) 0 : texts_array(waited);
	nulls[8] = problem == NULL;
	values[8] = nulls[8] ? (Datum) 0 : CStringGetTextDatum(problem);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* A row of _rules() that is no rule. */
static void
emit_problem(ReturnSetInfo *result, const char *problem)
{
	Datum		values[9] = {0};
	bool		nulls[9] = {true, true, true, true, true, true, true, true, false};

	values[8] = CStringGetTextDatum(problem);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * _rules(rel, args, wait): the rules in a trigger's arguments, as people read them:
 * (event_type, condition, columns, excluded, tenant_column, predicate, tested, vals, problem).
 * Not wait: of a table that somebody holds (an ALTER TABLE, an unwatch() left open) only
 * that is told, for check() is asked just when something hangs.
 */
PG_FUNCTION_INFO_V1(dmshook_sql_rules);
Datum
dmshook_sql_rules(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel;
	List	   *items;
	char	  **args;
	const char *bad;
	ListCell   *lc;
	int			n = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_GETARG_BOOL(2))
		LockRelationOid(PG_GETARG_OID(0), AccessShareLock);
	else if (!ConditionalLockRelationOid(PG_GETARG_OID(0), AccessShareLock))
	{
		emit_problem(result, "another transaction holds a lock on the table: its rules cannot be read now");
		PG_RETURN_NULL();
	}
	rel = try_relation_open(PG_GETARG_OID(0), NoLock);
	if (rel == NULL)
	{
		UnlockRelationOid(PG_GETARG_OID(0), AccessShareLock);
		PG_RETURN_NULL();
	}
	items = text_items(PG_GETARG_ARRAYTYPE_P(1));
	args = palloc(sizeof(char *) * Max(list_length(items), 1));
	foreach(lc, items)
		args[n++] = lfirst(lc);
	foreach(lc, dmshook_rules_parse(args, n, &bad))
	{
		DmshookGroup *group = lfirst(lc);
		ListCell   *rule;

		foreach(rule, group->rules)
			emit_rule(result, rel, group, lfirst(rule));
	}
	if (bad != NULL)
		emit_problem(result, psprintf("this argument of the trigger makes no sense: %s", bad));
	relation_close(rel, AccessShareLock);
	PG_RETURN_NULL();
}
