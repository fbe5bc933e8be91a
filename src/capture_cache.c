/*
 * capture_cache.c - a relation's rules, compiled from its triggers' arguments.
 *
 * Runs in the backend that writes a row, the first time in its session and
 * again when the relation, a schema's name or (where there are conditions) a
 * function changed. Each relation's rules are in a memory context of their
 * own. Rules that became stale may still be in use further up the stack (a
 * condition's function can write to the same table), so their context is handed
 * to the transaction rather than freed.
 *
 * A column is known by name and number. In the table for which a trigger was
 * written (the arguments hold its OID) the number counts, so that RENAME
 * changes nothing. In a table that was restored from a dump numbers mean
 * nothing, and the name counts. A partition finds the number's present name
 * in the table above it, and its own column by that name. What cannot be
 * found fails closed: an exclusion that is gone may have moved anywhere.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "capture_cache.h"
#include "capture_related.h"

/* Labels have at least this many bytes, so that they can be copied without looking at their length. */
#define LABEL_ROOM	32

static HTAB *relations = NULL;

/* The one that was asked for last, mostly the one that is asked for next. */
static CaptureRelation *latest = NULL;

static void relation_changed(Datum arg, Oid relid);
static void schema_changed(Datum arg, int cacheid, uint32 hashvalue);
static void function_changed(Datum arg, int cacheid, uint32 hashvalue);
static void sweep(void);
static Oid	find_root(Relation rel);
static void compile_relation(CaptureRelation *entry, Relation rel, Oid function, MemoryContext context);
static void compile_trigger(CaptureRelation *entry, Relation rel, Trigger *trigger, CaptureTrigger *result);
static CaptureGroup *compile_group(CaptureRelation *entry, Relation rel, const DmshookGroup *group);
static void compile_columns(Relation rel, const DmshookGroup *group, CaptureGroup *result);
static void compile_rule(CaptureRelation *entry, Relation rel, const DmshookGroup *group,
						 const DmshookRule *rule, CaptureRule *result);
static void compile_clause(CaptureRelation *entry, Relation rel, const DmshookGroup *group,
						   const DmshookClause *clause, CaptureClause *result);
static void compile_condition(CaptureRelation *entry, Relation rel, const DmshookGroup *group,
							  const DmshookClause *clause, CaptureClause *result);
static AttrNumber column_by_name(Relation rel, const char *name);
static text * make_source(Oid root);

void
dmshook_capture_cache_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, function_changed, (Datum) 0);
}

/* Mark what depends on a relation; relid InvalidOid: on any. */
static void
relation_changed(Datum arg pg_attribute_unused(), Oid relid)
{
	HASH_SEQ_STATUS status;
	CaptureRelation *entry;

	if (relations == NULL)
		return;
	hash_seq_init(&status, relations);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (relid == InvalidOid || entry->relid == relid || entry->root == relid)
			entry->valid = false;
}

/* The schema's name is in the source, and may be the tenant. */
static void
schema_changed(Datum arg, int cacheid pg_attribute_unused(), uint32 hashvalue pg_attribute_unused())
{
	relation_changed(arg, InvalidOid);
}

/* A compiled condition may hold a function's body inlined. */
static void
function_changed(Datum arg pg_attribute_unused(), int cacheid pg_attribute_unused(),
				 uint32 hashvalue pg_attribute_unused())
{
	HASH_SEQ_STATUS status;
	CaptureRelation *entry;

	if (relations == NULL)
		return;
	hash_seq_init(&status, relations);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (entry->has_conditions)
			entry->valid = false;
}

CaptureRelation *
dmshook_capture_rules(Relation rel, Oid function)
{
	Oid			relid = RelationGetRelid(rel);
	CaptureRelation *entry;
	CaptureRelation fresh;
	bool		found;

	if (likely(latest != NULL && latest->relid == relid && latest->valid))
		return latest;
	if (relations == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(CaptureRelation)};

		relations = hash_create("dmshook capture rules", 32, &control, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(relations, &relid, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) entry + sizeof(Oid), 0, sizeof(CaptureRelation) - sizeof(Oid));
		sweep();
	}
	latest = entry;
	if (likely(entry->valid))
		return entry;

	/*
	 * Compiling reads catalogs, and so may take in news that make the result
	 * stale again: the flag is set first, and looked at afterwards. What is
	 * built meanwhile belongs to the caller's context; an error frees it.
	 */
	for (int tries = 0; tries < 10; tries++)
	{
		MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dmshook capture rules",
													  ALLOCSET_SMALL_SIZES);

		memset(&fresh, 0, sizeof(fresh));
		fresh.relid = relid;
		fresh.root = entry->root = find_root(rel);	/* news of it count from here on */
		entry->has_conditions = true;
		entry->valid = true;
		PG_TRY();
		{
			compile_relation(&fresh, rel, function, context);
		}
		PG_CATCH();
		{
			entry->valid = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
		if (entry->valid)
			break;
		if (tries < 9)
			MemoryContextDelete(context);
	}

	/* compiling may have come back here, for a condition's function wrote too */
	if (entry->context != NULL)
		MemoryContextSetParent(entry->context, TopTransactionContext);
	fresh.valid = entry->valid;
	memcpy(entry, &fresh, sizeof(fresh));
	MemoryContextSetParent(entry->context, CacheMemoryContext);
	return entry;
}

/*
 * Forget relations that are gone, so that a session which lives for months in
 * a database whose partitions come and go does not keep them all. Nobody can
 * be at work on the rules of a relation that has been dropped.
 */
static void
sweep(void)
{
	HASH_SEQ_STATUS status;
	CaptureRelation *entry;
	Oid			gone[32];
	int			n = 0;

	/* the catalog is asked after the scan: asking can bring news, and with them another scan */
	latest = NULL;
	hash_seq_init(&status, relations);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (!entry->valid && n < (int) lengthof(gone))
			gone[n++] = entry->relid;
	while (n-- > 0)
	{
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(gone[n])))
			continue;
		entry = hash_search(relations, &gone[n], HASH_FIND, NULL);
		if (entry->context != NULL)
			MemoryContextSetParent(entry->context, TopTransactionContext);
		hash_search(relations, &gone[n], HASH_REMOVE, NULL);
	}
}

/* The table at the top of a partition tree; a table that is no partition is its own. */
static Oid
find_root(Relation rel)
{
	List	   *ancestors;

	if (!rel->rd_rel->relispartition)
		return RelationGetRelid(rel);
	ancestors = get_partition_ancestors(RelationGetRelid(rel));
	return ancestors != NIL ? llast_oid(ancestors) : RelationGetRelid(rel);
}

static void
compile_relation(CaptureRelation *entry, Relation rel, Oid function, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	TriggerDesc *triggers = rel->trigdesc;
	char	   *schema;

	entry->context = context;
	entry->source = make_source(entry->root);
	schema = get_namespace_name(get_rel_namespace(entry->root));
	entry->schema = cstring_to_text(schema ? schema : "");
	entry->triggers = palloc0(sizeof(CaptureTrigger) * (triggers ? triggers->numtriggers : 1));
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (triggers->triggers[i].tgfoid == function)
			compile_trigger(entry, rel, &triggers->triggers[i], &entry->triggers[entry->ntriggers++]);
	MemoryContextSwitchTo(old);
}

static text *
make_source(Oid root)
{
	StringInfoData buf;
	char	   *names[3];
	static const char *const labels[] = {"{\"database\":", ",\"schema\":", ",\"table\":"};

	names[0] = get_database_name(MyDatabaseId);
	names[1] = get_namespace_name(get_rel_namespace(root));
	names[2] = get_rel_name(root);
	initStringInfo(&buf);
	appendStringInfoSpaces(&buf, VARHDRSZ);
	for (int i = 0; i < 3; i++)
	{
		appendStringInfoString(&buf, labels[i]);
		if (names[i] != NULL)
			dmshook_json_string(&buf, names[i], strlen(names[i]));
		else
			appendStringInfoString(&buf, "null");
	}
	appendStringInfoChar(&buf, '}');
	SET_VARSIZE(buf.data, buf.len);
	return (text *) buf.data;
}

static void
compile_trigger(CaptureRelation *entry, Relation rel, Trigger *trigger, CaptureTrigger *result)
{
	const char *bad;
	List	   *groups = dmshook_rules_parse(trigger->tgargs, trigger->tgnargs, &bad);
	ListCell   *lc;
	int			n = 0;

	result->oid = trigger->tgoid;
	result->on_update = TRIGGER_FOR_UPDATE(trigger->tgtype) &&
		(trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN || trigger->tgenabled == TRIGGER_FIRES_ALWAYS);
	foreach(lc, groups)
		n += list_length(((DmshookGroup *) lfirst(lc))->rules);
	result->rules = palloc0(sizeof(CaptureRule) * Max(n, 1));
	foreach(lc, groups)
	{
		DmshookGroup *group = lfirst(lc);
		CaptureGroup *compiled = compile_group(entry, rel, group);
		ListCell   *rule;

		foreach(rule, group->rules)
		{
			CaptureRule *place = &result->rules[result->nrules++];

			place->group = compiled;
			compile_rule(entry, rel, group, lfirst(rule), place);
		}
	}
}

static AttrNumber
column_by_name(Relation rel, const char *name)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped && strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i + 1;
	return 0;
}

AttrNumber
dmshook_capture_column(Relation rel, Oid table, const DmshookColumnRef *ref)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (table == RelationGetRelid(rel))
	{
		if (ref->number > 0 && ref->number <= desc->natts && !TupleDescAttr(desc, ref->number - 1)->attisdropped)
			return ref->number;
	}
	else if (rel->rd_rel->relispartition && ref->number > 0 &&
			 list_member_oid(get_partition_ancestors(RelationGetRelid(rel)), table))
	{
		char	   *name = get_attname(table, ref->number, true);

		if (name != NULL)
			return column_by_name(rel, name);
	}
	return column_by_name(rel, ref->name);
}

void
dmshook_capture_set_column(CaptureColumn *column, Relation rel, AttrNumber number, const char *name)
{
	StringInfoData buf;

	column->number = number;
	if (number == 0)
		return;
	column->json = dmshook_json_type(TupleDescAttr(RelationGetDescr(rel), number - 1)->atttypid,
									 CurrentMemoryContext);
	initStringInfo(&buf);
	appendStringInfoChar(&buf, ',');
	dmshook_json_string(&buf, name, strlen(name));
	appendStringInfoChar(&buf, ':');
	column->name = pstrdup(name);
	/* not the buffer, which is a kilobyte */
	column->label = palloc0(Max(buf.len, LABEL_ROOM));
	memcpy(column->label, buf.data, buf.len);
	column->label_len = buf.len;
	pfree(buf.data);
}

void
dmshook_capture_append_column(StringInfo buf, CaptureColumn *column, TupleTableSlot *slot, char separator)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column->number, &isnull);

	/* a few bytes too many are copied quicker than just the right ones */
	if (likely(column->label_len <= LABEL_ROOM && buf->maxlen - buf->len > LABEL_ROOM))
	{
		memcpy(buf->data + buf->len, column->label, LABEL_ROOM);
		buf->len += column->label_len;
	}
	else
		dmshook_json_put(buf, column->label, column->label_len);
	buf->data[buf->len - column->label_len] = separator;
	if (isnull)
		dmshook_json_put(buf, "null", 4);
	else
		dmshook_json_value(buf, column->json, value);
}

static CaptureGroup *
compile_group(CaptureRelation *entry, Relation rel, const DmshookGroup *group)
{
	CaptureGroup *result = palloc0(sizeof(CaptureGroup));
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData buf;
	ListCell   *lc;

	result->usual_size = 256;
	result->entity = cstring_to_text(group->entity);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "{\"entity\":");
	dmshook_json_string(&buf, group->entity, strlen(group->entity));
	appendStringInfoString(&buf, ",\"key\":");
	result->head = buf.data;
	result->head_len = buf.len;

	result->key = palloc0(sizeof(CaptureColumn) * Max(list_length(group->key), 1));
	foreach(lc, group->key)
	{
		DmshookColumnRef *ref = lfirst(lc);
		AttrNumber	number = dmshook_capture_column(rel, group->table, ref);

		if (number != 0)
			dmshook_capture_set_column(&result->key[result->nkey++], rel, number,
					   ref->as == ref->name ? NameStr(TupleDescAttr(desc, number - 1)->attname) : ref->as);
		else
			result->key_only = true;
	}
	/* an empty list stands for an argument that could not be read */
	if (group->key == NIL || (group->has_include && group->include == NIL))
		result->key_only = true;
	compile_columns(rel, group, result);

	if (group->related != NIL && !result->key_only)
		result->related = dmshook_related_compile(rel, entry->root, group);
	result->has_tenant = group->tenant != NULL;
	if (group->tenant != NULL)
		dmshook_capture_set_column(&result->tenant, rel, dmshook_capture_column(rel, group->table, group->tenant), "");
	if (group->user != NULL)
		dmshook_capture_set_column(&result->user, rel, dmshook_capture_column(rel, group->table, group->user), "");
	return result;
}

/* Which columns are sent. */
static void
compile_columns(Relation rel, const DmshookGroup *group, CaptureGroup *result)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Bitmapset  *included = NULL;
	Bitmapset  *excluded = NULL;
	ListCell   *lc;

	foreach(lc, group->include)
	{
		AttrNumber	number = dmshook_capture_column(rel, group->table, lfirst(lc));

		if (number == 0)
			result->key_only = true;
		else
			included = bms_add_member(included, number);
	}
	foreach(lc, group->exclude)
	{
		DmshookColumnRef *ref = lfirst(lc);
		AttrNumber	number = dmshook_capture_column(rel, group->table, ref);

		if (number == 0)
			result->key_only = true;
		else
			excluded = bms_add_member(excluded, number);
		/* renamed, and another column has taken the name: neither is sent */
		number = column_by_name(rel, ref->name);
		if (number != 0)
			excluded = bms_add_member(excluded, number);
	}

	result->columns = palloc0(sizeof(CaptureColumn) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || bms_is_member(i + 1, excluded) ||
			(group->has_include && !bms_is_member(i + 1, included)))
			continue;
		dmshook_capture_set_column(&result->columns[result->ncolumns++], rel, i + 1, NameStr(att->attname));
	}
}

static void
compile_rule(CaptureRelation *entry, Relation rel, const DmshookGroup *group,
			 const DmshookRule *rule, CaptureRule *result)
{
	ListCell   *lc;

	result->type = cstring_to_text(rule->type);
	result->label = rule->type;
	result->clauses = palloc0(sizeof(CaptureClause) * Max(list_length(rule->clauses), 1));
	foreach(lc, rule->clauses)
		compile_clause(entry, rel, group, lfirst(lc), &result->clauses[result->nclauses++]);
}

static void
compile_clause(CaptureRelation *entry, Relation rel, const DmshookGroup *group,
			   const DmshookClause *clause, CaptureClause *result)
{
	ListCell   *lc;

	result->kind = clause->kind;
	if (clause->kind == DMSHOOK_CLAUSE_ALWAYS)
		return;
	if (clause->kind == DMSHOOK_CLAUSE_CHANGED)
	{
		result->columns = palloc0(sizeof(AttrNumber) * Max(list_length(clause->columns), 1));
		foreach(lc, clause->columns)
		{
			AttrNumber	number = dmshook_capture_column(rel, group->table, lfirst(lc));

			if (number != 0)
				result->columns[result->ncolumns++] = number;
		}
		result->broken = clause->columns != NIL && result->ncolumns == 0;
		return;
	}
	if (clause->condition != NULL)
	{
		compile_condition(entry, rel, group, clause, result);
		return;
	}
	dmshook_capture_set_column(&result->column, rel,
			   dmshook_capture_column(rel, group->table, linitial(clause->columns)), "");
	result->broken = result->column.number == 0;
	result->values = palloc(sizeof(char *) * list_length(clause->values));
	result->lengths = palloc(sizeof(int) * list_length(clause->values));
	foreach(lc, clause->values)
	{
		char	   *value = lfirst(lc);

		result->values[result->nvalues] =
			dmshook_capture_fold(value, strlen(value), &result->lengths[result->nvalues]);
		result->nvalues++;
	}
}

static void
compile_condition(CaptureRelation *entry, Relation rel, const DmshookGroup *group,
				  const DmshookClause *clause, CaptureClause *result)
{
	List	   *names = NIL;
	char	   *problem;
	ListCell   *lc;

	entry->has_conditions = true;
	foreach(lc, clause->columns)
	{
		DmshookColumnRef *ref = lfirst(lc);
		DmshookConditionName *name = palloc(sizeof(DmshookConditionName));

		name->name = ref->name;
		name->number = dmshook_capture_column(rel, group->table, ref);
		names = lappend(names, name);
	}
	result->condition = dmshook_condition_compile(rel, clause->condition, names,
												  CurrentMemoryContext, &problem);
	if (result->condition == NULL)
	{
		result->broken = true;
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("dmshook: a condition on table \"%s\" no longer makes sense: %s",
						RelationGetRelationName(rel), clause->condition),
				 errdetail("%s", problem),
				 errhint("Its events are not raised until it is corrected with dmshook.watch...().")));
	}
}

char *
dmshook_capture_fold(const char *text, int len, int *folded_len)
{
	bool		ascii = true;
	char	   *result;

	for (int i = 0; i < len && ascii; i++)
		ascii = !IS_HIGHBIT_SET(text[i]);
	if (ascii)
	{
		result = pnstrdup(text, len);
		for (int i = 0; i < len; i++)
			if (result[i] >= 'A' && result[i] <= 'Z')
				result[i] += 'a' - 'A';
		*folded_len = len;
	}
	else
	{
		result = str_tolower(text, len, DEFAULT_COLLATION_OID);
		*folded_len = strlen(result);
	}
	return result;
}
