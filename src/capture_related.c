/*
 * capture_related.c - the rows behind a row's foreign keys, read by their index.
 *
 * Runs in the backend that writes the row, inside its trigger, as whoever
 * writes. The arguments of the trigger name the referenced table by OID and
 * name, its key and the columns wanted; what that means now (index, operators,
 * types) is looked up at the first row and again when the table changed, each
 * time in a memory context of its own, below that of the relation's rules.
 *
 * "related" is there in full or not at all. It is left out when a column, the
 * table or its unique index is gone, when the owner of the watched table may
 * not read it (the writer need not be able to, but nobody reads more of the
 * database through a trigger than the owner could), and when a lock cannot be
 * had at once: the table's AccessShare lock is tried, never waited for, for a
 * DMS that must wait for a lock because of us can deadlock because of us. It is
 * given back after the row.
 *
 * A row is looked for under the statement's snapshot; where that has none, once
 * more among what is committed now or was written by this very command, which
 * is how a foreign key sees it. Under SERIALIZABLE only so: a read under the
 * snapshot could be the one that makes the DMS's transaction fail. That look is
 * done twice, for an update that commits under it can hide both of its versions.
 *
 * Many rows of a statement have few rows behind them: of which status they are,
 * of which branch. What was found under the statement's snapshot is kept as
 * JSON as long as that very snapshot is used, 64 rows of a table at most.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "capture_batch.h"
#include "capture_related.h"
#include "compat.h"

/* Related rows add no more than this: what is larger is no name of a status. */
#define MAX_RELATED	((Size) 1024 * 1024)

/* Rows that are kept of a table; those whose JSON is longer are not, nor those with a longer key. */
#define KEPT_ROWS	64
#define KEPT_JSON	1024
#define KEPT_KEY	24

/* A row that was found: its key's bytes, or its value. */
typedef struct KeptRow
{
	int			key_len;		/* 0: none */
	char		key[KEPT_KEY];
	int			len;
	char	   *json;
} KeptRow;

/* What was found, and under which snapshot. */
typedef struct KeptRows
{
	MemoryContext context;		/* of the JSON */
	uint64		statement;
	Snapshot	snapshot;		/* which may be another one at the same place, so: */
	CommandId	command;
	TransactionId xmin;
	TransactionId xmax;
	uint32		running;		/* between them; these only become fewer */
	KeptRow		rows[KEPT_ROWS];
} KeptRows;

/* A column of the index that is searched, in the index's order. */
typedef struct RelatedKey
{
	AttrNumber	from;			/* the foreign key's column */
	Oid			subtype;
	Oid			collation;
	FmgrInfo	equal;
} RelatedKey;

/* A referenced table as it is now. */
typedef struct RelatedTarget
{
	Oid			relid;
	uint64		generation;		/* of the look-up; 0: never */
	MemoryContext context;		/* of all below */
	char	   *problem;		/* NULL: it can be read */
	Oid			index;
	bool		current_only;	/* old snapshots may not use the index */
	RelatedKey *keys;
	int			nkeys;
	CaptureColumn *columns;
	int			ncolumns;
	KeptRows   *kept;			/* NULL: nothing yet */
} RelatedTarget;

struct CaptureRelated
{
	CaptureRelated *next;
	const DmshookRelated *spec;
	MemoryContext context;		/* of the relation's rules */
	bool		by_oid;			/* the arguments were written for this table: numbers count */
	Oid			owner;			/* of the watched table */
	AttrNumber *from;			/* the foreign key's columns, as many as spec->key */
	Oid		   *types;			/* and their types */
	char	   *label;			/* "status_id": */
	RelatedTarget target;
};

/* Tables that were ever looked up here: a change of one makes all look-ups stale. */
static HTAB *referenced = NULL;
static uint64 generation = 1;

static void table_changed(Datum arg, Oid relid);
static Oid	find_table(CaptureRelated *related);
static bool is_known(Relation rel, const DmshookGroup *group);
static void look_up(CaptureRelated *related, Relation table);
static char *look_up_columns(CaptureRelated *related, RelatedTarget *target, Relation table);
static char *look_up_index(CaptureRelated *related, RelatedTarget *target, Relation table);
static bool is_btree(Oid index);
static bool match_index(CaptureRelated *related, RelatedTarget *target, Oid index, const AttrNumber *key);
static bool match_key(RelatedKey *key, Oid type, Oid opclass);
static char *may_not_read(CaptureRelated *related, RelatedTarget *target, Relation table);
static bool append_row(StringInfo buf, CaptureRelated *related, TupleTableSlot *row);
static KeptRow *kept_row(RelatedTarget *target, TupleTableSlot *row, KeptRow *wanted);
static void keep_row(RelatedTarget *target, KeptRow *place, const KeptRow *wanted, const char *json, int len);
static bool find_row(Relation table, Relation index, ScanKey keys, int nkeys, bool current_only, TupleTableSlot *slot,
					 bool *by_snapshot);
static bool append_found(StringInfo buf, RelatedTarget *target, TupleTableSlot *slot);

void
dmshook_related_init(void)
{
	CacheRegisterRelcacheCallback(table_changed, (Datum) 0);
}

static void
table_changed(Datum arg pg_attribute_unused(), Oid relid)
{
	if (referenced != NULL &&
		(relid == InvalidOid || hash_search(referenced, &relid, HASH_FIND, NULL) != NULL))
		generation++;
}

/* From here on changes of a table count. */
static void
remember_table(Oid relid)
{
	if (referenced == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(Oid)};

		referenced = hash_create("dmshook related tables", 16, &control, HASH_ELEM | HASH_BLOBS);
	}
	(void) hash_search(referenced, &relid, HASH_ENTER, NULL);
}

/* Were the arguments written for this very table, or one above it? */
static bool
is_known(Relation rel, const DmshookGroup *group)
{
	return group->table == RelationGetRelid(rel) ||
		(rel->rd_rel->relispartition &&
		 list_member_oid(get_partition_ancestors(RelationGetRelid(rel)), group->table));
}

CaptureRelated *
dmshook_related_compile(Relation rel, Oid root, const DmshookGroup *group)
{
	TupleDesc	desc = RelationGetDescr(rel);
	CaptureRelated *first = NULL;
	CaptureRelated **place = &first;
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(root));
	Oid			owner = HeapTupleIsValid(tuple) ? ((Form_pg_class) GETSTRUCT(tuple))->relowner : InvalidOid;
	ListCell   *lc;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	ReleaseSysCache(tuple);
	foreach(lc, group->related)
	{
		const DmshookRelated *spec = lfirst(lc);
		CaptureRelated *related = palloc0(sizeof(CaptureRelated));
		StringInfoData name;
		StringInfoData label;
		ListCell   *from;

		related->spec = spec;
		related->context = CurrentMemoryContext;
		related->by_oid = is_known(rel, group);
		related->owner = owner;
		related->from = palloc0(sizeof(AttrNumber) * list_length(spec->from));
		related->types = palloc0(sizeof(Oid) * list_length(spec->from));
		initStringInfo(&name);
		foreach(from, spec->from)
		{
			AttrNumber	number = dmshook_capture_column(rel, group->table, lfirst(from));
			int			i = foreach_current_index(from);

			if (number == 0)
				return NULL;
			related->from[i] = number;
			related->types[i] = getBaseType(TupleDescAttr(desc, number - 1)->atttypid);
			appendStringInfo(&name, "%s%s", i > 0 ? "," : "", NameStr(TupleDescAttr(desc, number - 1)->attname));
		}
		initStringInfo(&label);
		dmshook_json_string(&label, name.data, name.len);
		appendStringInfoChar(&label, ':');
		related->label = label.data;
		*place = related;
		place = &related->next;
	}
	return first;
}

/* The table that the arguments mean; InvalidOid: gone. */
static Oid
find_table(CaptureRelated *related)
{
	Oid			schema;

	if (related->by_oid)
		return related->spec->relid;
	schema = get_namespace_oid(related->spec->schema, true);
	return OidIsValid(schema) ? get_relname_relid(related->spec->table, schema) : InvalidOid;
}

/* Find out what the arguments mean in the table as it is now. */
static void
look_up(CaptureRelated *related, Relation table)
{
	RelatedTarget *target = &related->target;
	RelatedTarget fresh = {.relid = RelationGetRelid(table)};
	MemoryContext old;

	/* what news arrive meanwhile make it stale again, at the next row */
	remember_table(fresh.relid);
	fresh.generation = generation;
	fresh.context = AllocSetContextCreate(CurrentMemoryContext, "dmshook related", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(fresh.context);
	if (table->rd_rel->relkind != RELKIND_RELATION)
		fresh.problem = psprintf("\"%s\" is not a plain table", RelationGetRelationName(table));
	if (fresh.problem == NULL)
		fresh.problem = look_up_columns(related, &fresh, table);
	if (fresh.problem == NULL)
		fresh.problem = look_up_index(related, &fresh, table);
	if (fresh.problem == NULL)
		fresh.problem = may_not_read(related, &fresh, table);
	MemoryContextSwitchTo(old);

	/* a cast to json may write, and so be at work on the old one further up the stack */
	if (target->context != NULL)
		MemoryContextSetParent(target->context, TopTransactionContext);
	MemoryContextSetParent(fresh.context, related->context);
	*target = fresh;
}

/* The columns that are sent; returns what is wrong. */
static char *
look_up_columns(CaptureRelated *related, RelatedTarget *target, Relation table)
{
	ListCell   *lc;

	target->columns = palloc0(sizeof(CaptureColumn) * Max(list_length(related->spec->columns), 1));
	foreach(lc, related->spec->columns)
	{
		DmshookColumnRef *ref = lfirst(lc);
		AttrNumber	number = dmshook_capture_column(table, related->by_oid ? target->relid : InvalidOid, ref);

		if (number == 0)
			return psprintf("column \"%s\" of table \"%s\" is not there", ref->name, RelationGetRelationName(table));
		dmshook_capture_set_column(&target->columns[target->ncolumns++], table, number,
								   NameStr(TupleDescAttr(RelationGetDescr(table), number - 1)->attname));
	}
	return NULL;
}

/* The index by which a row is found; returns what is wrong. */
static char *
look_up_index(CaptureRelated *related, RelatedTarget *target, Relation table)
{
	AttrNumber	key[INDEX_MAX_KEYS];
	List	   *indexes;
	ListCell   *lc;

	foreach(lc, related->spec->key)
	{
		DmshookColumnRef *ref = lfirst(lc);
		AttrNumber	number = dmshook_capture_column(table, related->by_oid ? target->relid : InvalidOid, ref);

		if (number == 0)
			return psprintf("column \"%s\" of table \"%s\" is not there", ref->name, RelationGetRelationName(table));
		key[foreach_current_index(lc)] = number;
	}
	target->nkeys = list_length(related->spec->key);
	target->keys = palloc0(sizeof(RelatedKey) * target->nkeys);
	indexes = RelationGetIndexList(table);
	foreach(lc, indexes)
		if (match_index(related, target, lfirst_oid(lc), key))
			return NULL;
	return psprintf("table \"%s\" has no unique index by which its rows could be found", RelationGetRelationName(table));
}

static bool
is_btree(Oid index)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(index));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_class) GETSTRUCT(tuple))->relam == BTREE_AM_OID;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* Is this a unique index of just the key's columns? Then it is the target's. */
static bool
match_index(CaptureRelated *related, RelatedTarget *target, Oid index, const AttrNumber *key)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	int			nkeys = list_length(related->spec->key);
	Form_pg_index form;
	bool		matches;
	bool		isnull;
	oidvector  *opclasses;
	oidvector  *collations;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_index) GETSTRUCT(tuple);
	matches = is_btree(index) && form->indisunique && form->indimmediate && form->indisvalid && form->indislive &&
		form->indnkeyatts == nkeys &&
		heap_attisnull(tuple, Anum_pg_index_indpred, NULL);
	opclasses = (oidvector *) DatumGetPointer(SysCacheGetAttr(INDEXRELID, tuple, Anum_pg_index_indclass, &isnull));
	collations = (oidvector *) DatumGetPointer(SysCacheGetAttr(INDEXRELID, tuple, Anum_pg_index_indcollation, &isnull));
	for (int i = 0; matches && i < nkeys; i++)
	{
		int			at = 0;

		while (at < nkeys && key[at] != form->indkey.values[i])
			at++;
		matches = at < nkeys &&
			match_key(&target->keys[i], related->types[at], opclasses->values[i]);
		if (!matches)
			break;
		target->keys[i].from = related->from[at];
		target->keys[i].collation = collations->values[i];
	}
	target->index = index;
	target->current_only = form->indcheckxmin;
	ReleaseSysCache(tuple);
	return matches;
}

/* The operator that compares an index's column with a value of a type. */
static bool
match_key(RelatedKey *key, Oid type, Oid opclass)
{
	Oid			input = get_opclass_input_type(opclass);
	Oid			family = get_opclass_family(opclass);
	Oid			operator = get_opfamily_member(family, input, type, BTEqualStrategyNumber);

	key->subtype = type;
	if (!OidIsValid(operator) && IsBinaryCoercible(type, input))
	{
		key->subtype = input;
		operator = get_opfamily_member(family, input, input, BTEqualStrategyNumber);
	}
	if (!OidIsValid(operator))
		return false;
	fmgr_info_cxt(get_opcode(operator), &key->equal, CurrentMemoryContext);
	return true;
}

/* May the watched table's owner read what is sent? Returns why not. */
static char *
may_not_read(CaptureRelated *related, RelatedTarget *target, Relation table)
{
	char	   *owner = GetUserNameFromId(related->owner, true);

	if (owner == NULL)
		return pstrdup("the table has no owner");
	if (check_enable_rls(target->relid, related->owner, true) == RLS_ENABLED &&
		!pg_class_ownercheck(target->relid, related->owner))
		return psprintf("row security keeps \"%s\", who owns the table, from reading all of table \"%s\"",
						owner, RelationGetRelationName(table));
	if (pg_class_aclcheck(target->relid, related->owner, ACL_SELECT) == ACLCHECK_OK)
		return NULL;
	for (int i = 0; i < target->ncolumns; i++)
		if (pg_attribute_aclcheck(target->relid, target->columns[i].number, related->owner, ACL_SELECT) != ACLCHECK_OK)
			return psprintf("\"%s\", who owns the table, may not read column \"%s\" of table \"%s\"",
							owner, target->columns[i].name, RelationGetRelationName(table));
	return NULL;
}

void
dmshook_related_append(StringInfo buf, CaptureGroup *group, TupleTableSlot *row)
{
	int			start = buf->len;
	char		separator = '{';

	appendStringInfoString(buf, ",\"related\":");
	for (CaptureRelated *related = group->related; related != NULL; related = related->next, separator = ',')
	{
		appendStringInfoChar(buf, separator);
		appendStringInfoString(buf, related->label);
		if (append_row(buf, related, row) && (Size) (buf->len - start) <= MAX_RELATED)
			continue;
		buf->len = start;
		buf->data[start] = '\0';
		return;
	}
	appendStringInfoChar(buf, '}');
}

/* One related row as JSON, or null where there is none; false: it cannot be read now. */
static bool
append_row(StringInfo buf, CaptureRelated *related, TupleTableSlot *row)
{
	RelatedTarget *target = &related->target;
	Oid			relid = target->generation == generation ? target->relid : find_table(related);
	Relation	table;
	Relation	index = NULL;
	bool		done = false;
	KeptRow		wanted;
	KeptRow    *kept = target->generation == generation ? kept_row(target, row, &wanted) : NULL;

	if (kept != NULL && kept->key_len == wanted.key_len && memcmp(kept->key, wanted.key, wanted.key_len) == 0)
	{
		dmshook_json_put(buf, kept->json, kept->len);
		return true;
	}

	/* taking the lock takes in news, so what is looked at below is not stale */
	if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	table = try_relation_open(relid, NoLock);
	if (table == NULL)
	{
		UnlockRelationOid(relid, AccessShareLock);
		return false;
	}
	if (target->generation != generation || target->relid != relid)
		look_up(related, table);
	if (target->problem == NULL && ConditionalLockRelationOid(target->index, AccessShareLock))
	{
		Oid			locked = target->index;

		index = try_relation_open(locked, NoLock);
		if (index != NULL && index->rd_rel->relkind == RELKIND_INDEX)
		{
			RelatedTarget now = *target;	/* a cast to json may write, and so come back here */
			int			nkeys = list_length(related->spec->key);
			ScanKeyData keys[INDEX_MAX_KEYS];
			TupleTableSlot *slot = table_slot_create(table, NULL);
			bool		isnull = false;
			bool		by_snapshot = false;
			int			start = buf->len;

			for (int i = 0; i < nkeys && !isnull; i++)
			{
				Datum		value = slot_getattr(row, now.keys[i].from, &isnull);

				ScanKeyEntryInitializeWithInfo(&keys[i], 0, i + 1, BTEqualStrategyNumber, now.keys[i].subtype,
											   now.keys[i].collation, &now.keys[i].equal, value);
			}
			done = true;
			if (!isnull && find_row(table, index, keys, nkeys, now.current_only, slot, &by_snapshot))
				done = append_found(buf, &now, slot);
			else
				appendStringInfoString(buf, "null");
			ExecDropSingleTupleTableSlot(slot);
			if (done && by_snapshot && target->generation == now.generation &&
				(kept = kept_row(target, row, &wanted)) != NULL)
				keep_row(target, kept, &wanted, buf->data + start, buf->len - start);
		}
		if (index != NULL)
			relation_close(index, NoLock);
		UnlockRelationOid(locked, AccessShareLock);
	}
	relation_close(table, AccessShareLock);
	return done;
}

/*
 * Where the row is kept if it is; NULL: it cannot be. What is kept is
 * forgotten here when another snapshot is in use. Sets the wanted row's key.
 */
static KeptRow *
kept_row(RelatedTarget *target, TupleTableSlot *row, KeptRow *wanted)
{
	KeptRows   *kept = target->kept;
	uint64		statement = dmshook_batch_statement();
	AttrNumber	from;
	Form_pg_attribute att;
	Snapshot	snapshot;
	Datum		value;
	bool		isnull;
	const char *bytes;

	if (target->problem != NULL || target->nkeys != 1 || statement == 0 || !ActiveSnapshotSet())
		return NULL;
	from = target->keys[0].from;
	att = TupleDescAttr(row->tts_tupleDescriptor, from - 1);
	value = slot_getattr(row, from, &isnull);
	if (isnull)
		return NULL;
	if (att->attbyval)
	{
		bytes = (const char *) &value;
		wanted->key_len = sizeof(value);
	}
	else if (att->attlen > 0)
	{
		bytes = DatumGetPointer(value);
		wanted->key_len = att->attlen;
	}
	else if (att->attlen == -1 && !VARATT_IS_EXTERNAL(DatumGetPointer(value)) && !VARATT_IS_COMPRESSED(DatumGetPointer(value)))
	{
		bytes = VARDATA_ANY(DatumGetPointer(value));
		wanted->key_len = VARSIZE_ANY_EXHDR(DatumGetPointer(value));
	}
	else
		return NULL;
	if (wanted->key_len < 1 || wanted->key_len > KEPT_KEY)
		return NULL;
	memcpy(wanted->key, bytes, wanted->key_len);

	snapshot = GetActiveSnapshot();
	if (kept == NULL)
	{
		kept = target->kept = MemoryContextAllocZero(target->context, sizeof(KeptRows));
		kept->context = AllocSetContextCreate(target->context, "dmshook related rows", ALLOCSET_SMALL_SIZES);
	}
	if (kept->statement != statement || kept->snapshot != snapshot || kept->command != snapshot->curcid ||
		kept->xmin != snapshot->xmin || kept->xmax != snapshot->xmax || kept->running != snapshot->xcnt)
	{
		MemoryContextReset(kept->context);
		for (int i = 0; i < KEPT_ROWS; i++)
			kept->rows[i].key_len = 0;
		kept->statement = statement;
		kept->snapshot = snapshot;
		kept->command = snapshot->curcid;
		kept->xmin = snapshot->xmin;
		kept->xmax = snapshot->xmax;
		kept->running = snapshot->xcnt;
	}
	return &kept->rows[(att->attbyval ? (uint64) value : hash_bytes((const unsigned char *) wanted->key, wanted->key_len)) % KEPT_ROWS];
}

/* Keep a row's JSON in its place, for what was there. */
static void
keep_row(RelatedTarget *target, KeptRow *place, const KeptRow *wanted, const char *json, int len)
{
	if (len > KEPT_JSON)
		return;
	if (place->key_len == 0)
		place->json = MemoryContextAlloc(target->kept->context, KEPT_JSON);
	place->key_len = wanted->key_len;
	memcpy(place->key, wanted->key, wanted->key_len);
	place->len = len;
	memcpy(place->json, json, len);
}

/* Look for the row: see the head of this file for the snapshots. */
static bool
find_row(Relation table, Relation index, ScanKey keys, int nkeys, bool current_only, TupleTableSlot *slot,
		 bool *by_snapshot)
{
	bool		found = false;
	int			first = current_only || IsolationIsSerializable() || !ActiveSnapshotSet() ? 1 : 0;

	for (int tries = first; tries < 3 && !found; tries++)
	{
		IndexScanDesc scan = dmshook_index_beginscan(table, index, tries == 0 ? GetActiveSnapshot() : SnapshotSelf, nkeys);

		index_rescan(scan, keys, nkeys, NULL, 0);
		found = index_getnext_slot(scan, ForwardScanDirection, slot);
		if (found)
			ExecMaterializeSlot(slot);
		index_endscan(scan);
		*by_snapshot = found && tries == 0;
	}
	return found;
}

/* The columns asked for; false: too large. */
static bool
append_found(StringInfo buf, RelatedTarget *target, TupleTableSlot *slot)
{
	Size		sum = 0;

	slot_getallattrs(slot);
	for (int i = 0; i < target->ncolumns; i++)
	{
		AttrNumber	number = target->columns[i].number;

		if (TupleDescAttr(slot->tts_tupleDescriptor, number - 1)->attlen == -1 && !slot->tts_isnull[number - 1])
			sum += toast_raw_datum_size(slot->tts_values[number - 1]);
	}
	if (sum > MAX_RELATED)
		return false;
	for (int i = 0; i < target->ncolumns; i++)
		dmshook_capture_append_column(buf, &target->columns[i], slot, i == 0 ? '{' : ',');
	appendStringInfoString(buf, target->ncolumns > 0 ? "}" : "{}");
	return true;
}

char *
dmshook_related_problem(Relation rel, const DmshookGroup *group)
{
	List	   *ancestors = rel->rd_rel->relispartition ? get_partition_ancestors(RelationGetRelid(rel)) : NIL;
	CaptureRelated *related;
	char	   *problem = NULL;

	if (group->related == NIL)
		return NULL;
	related = dmshook_related_compile(rel, ancestors != NIL ? llast_oid(ancestors) : RelationGetRelid(rel), group);
	if (related == NULL)
		return pstrdup("a column with a foreign key is not there");
	for (; related != NULL && problem == NULL; related = related->next)
	{
		Oid			relid = find_table(related);
		Relation	table = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;

		if (table == NULL)
			return psprintf("table \"%s.%s\" is not there", related->spec->schema, related->spec->table);
		look_up(related, table);
		if (related->target.problem != NULL)
			problem = pstrdup(related->target.problem);
		relation_close(table, AccessShareLock);
	}
	return problem;
}
