/*
 * capture.c - the trigger that turns a row's change into events.
 *
 * Runs in the backend that writes the row, inside its statement, AFTER ROW, as
 * whoever writes: it needs no right on schema dmshook. The rules are the
 * trigger's arguments (grammar: capture_rules.c), compiled once per session
 * (capture_cache.c). A row that matches none costs a look-up and a comparison
 * or two; one that does is written as JSON once for all its events, and each
 * event is one heap and one index insert (capture_log.c), done for many rows of
 * a statement together (capture_batch.c). Memory is the trigger manager's
 * context of the row, reset by it after each.
 *
 * What never happens here: SPI, network, waiting for a lock that another
 * transaction may hold for long, an error because of a rule, a condition, a
 * webhook or a missing worker. Errors of storage do come through: an event
 * that cannot be written must take its change with it.
 *
 * A row that moves between partitions fires DELETE there and INSERT here, one
 * right after the other. The tuple header tells such a DELETE from a real one;
 * its row is kept until the INSERT comes, and the two are judged together by
 * the rules for UPDATE.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "capture.h"
#include "capture_batch.h"
#include "capture_cache.h"
#include "capture_key.h"
#include "capture_log.h"
#include "capture_related.h"
#include "rowjson.h"
#include "settings.h"

/* A row with more than this in TOAST is sent as its key: JSON has an end at 1 GB. */
#define MAX_TOASTED	((Size) 64 * 1024 * 1024)

/* Texts up to this length, as statuses are, are folded without allocating. */
#define SHORT_TEXT	40

/* A row's JSON is given this much room at first, at most; longer ones grow as they are written. */
#define MAX_USUAL_SIZE	6000

typedef enum Operation
{
	OP_INSERT,
	OP_UPDATE,
	OP_DELETE
} Operation;

/* The change at hand. */
typedef struct Change
{
	Operation	operation;
	Relation	rel;
	TupleDesc	desc;
	TupleTableSlot *old;		/* NULL on INSERT */
	TupleTableSlot *new;		/* NULL on DELETE */
	TupleTableSlot *row;		/* the new one, or on DELETE the old one */
	int			any_changed;	/* -1: not yet looked at */

	/* texts of the column that was tested last */
	AttrNumber	tested;
	const char *text[2];		/* old, new; NULL: SQL NULL */
	int			length[2];
	char		folded[2][SHORT_TEXT];
} Change;

/* What all events of a row have in common, as far as one group says it. */
typedef struct Body
{
	CaptureGroup *group;
	Jsonb	   *key;
	text	   *data;
	text	   *who;
	text	   *tenant;
	text	   *old_tenant;
} Body;

/* The first half of a move between partitions, one per depth of triggers. */
typedef struct Move
{
	HeapTuple	tuple;			/* NULL: none */
	Oid			relid;
	Oid			root;
	CommandId	command;
	LocalTransactionId transaction;
	int			depth;
} Move;

#define MOVES 4
static Move moves[MOVES];

#if PG_VERSION_NUM >= 170000
#define MY_LXID (MyProc->vxid.lxid)
#else
#define MY_LXID (MyProc->lxid)
#endif

PGDLLEXPORT Datum dmshook_capture(PG_FUNCTION_ARGS);

static CaptureTrigger *find_trigger(CaptureRelation *relation, Oid oid);
static void raise_events(CaptureRelation *relation, CaptureTrigger *trigger, Change *change);
static bool rule_matches(CaptureRule *rule, Change *change);
static bool clause_matches(CaptureClause *clause, CaptureRule *rule, Change *change);
static bool test_row(CaptureClause *clause, CaptureRule *rule, Change *change, bool new);
static bool fold_ascii(char *folded, const char *text, int len);
static void tested_text(CaptureClause *clause, Change *change, bool new);
static bool column_changed(Change *change, AttrNumber number);
static bool any_changed(Change *change, CaptureClause *clause);
static void make_body(CaptureRelation *relation, CaptureGroup *group, Change *change, Body *body);
static void append_record(StringInfo buf, CaptureGroup *group, Change *change);
static bool too_large(TupleTableSlot *slot, CaptureGroup *group);
static text * column_text(CaptureColumn *column, TupleTableSlot *slot);
static bool keep_move(CaptureRelation *relation, TriggerData *trigdata);
static TupleTableSlot *take_move(CaptureRelation *relation, TriggerData *trigdata);
static int	trigger_depth(void);

void
dmshook_capture_init(void)
{
	dmshook_capture_cache_init();
	dmshook_related_init();
	dmshook_log_init();
}

PG_FUNCTION_INFO_V1(dmshook_capture);
Datum
dmshook_capture(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	CaptureRelation *relation;
	CaptureTrigger *trigger;
	Change		change;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("dmshook.capture() must be called as a trigger AFTER INSERT, UPDATE or DELETE FOR EACH ROW"),
				 errhint("Make such triggers with dmshook.watch_vehicle() and its like.")));
	if (!dmshook_capture_enabled)
		return PointerGetDatum(NULL);

	/* not cleared as a whole: it has room for texts */
	change.old = change.new = NULL;
	change.any_changed = -1;
	change.tested = 0;
	change.rel = trigdata->tg_relation;
	change.desc = RelationGetDescr(change.rel);
	relation = dmshook_capture_rules(change.rel, fcinfo->flinfo->fn_oid);
	trigger = find_trigger(relation, trigdata->tg_trigger->tgoid);
	if (trigger == NULL)
		return PointerGetDatum(NULL);

	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
	{
		change.operation = OP_INSERT;
		change.new = change.row = trigdata->tg_trigslot;
		if (unlikely(change.rel->rd_rel->relispartition) &&
			(change.old = take_move(relation, trigdata)) != NULL)
		{
			change.operation = OP_UPDATE;
			for (int i = 0; i < relation->ntriggers; i++)
				if (relation->triggers[i].on_update)
					raise_events(relation, &relation->triggers[i], &change);
			ExecDropSingleTupleTableSlot(change.old);
			return PointerGetDatum(NULL);
		}
	}
	else if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
	{
		change.operation = OP_UPDATE;
		change.old = trigdata->tg_trigslot;
		change.new = change.row = trigdata->tg_newslot;
	}
	else
	{
		change.operation = OP_DELETE;
		change.old = change.row = trigdata->tg_trigslot;
		if (unlikely(change.rel->rd_rel->relispartition) && keep_move(relation, trigdata))
			return PointerGetDatum(NULL);
	}
	raise_events(relation, trigger, &change);
	return PointerGetDatum(NULL);
}

static CaptureTrigger *
find_trigger(CaptureRelation *relation, Oid oid)
{
	for (int i = 0; i < relation->ntriggers; i++)
		if (relation->triggers[i].oid == oid)
			return &relation->triggers[i];
	return NULL;
}

static void
raise_events(CaptureRelation *relation, CaptureTrigger *trigger, Change *change)
{
	Body		body = {NULL};

	for (int i = 0; i < trigger->nrules; i++)
	{
		CaptureRule *rule = &trigger->rules[i];
		DmshookNewEvent event;

		if (!rule_matches(rule, change))
			continue;
		if (body.group != rule->group)
			make_body(relation, rule->group, change, &body);
		event.type = rule->type;
		event.tenant = body.tenant;
		event.old_tenant = body.old_tenant;
		event.entity = rule->group->entity;
		event.key = body.key;
		event.who = body.who;
		event.source = relation->source;
		event.data = body.data;
		dmshook_batch_event(&event);
	}
}

static bool
rule_matches(CaptureRule *rule, Change *change)
{
	for (int i = 0; i < rule->nclauses; i++)
		if (!clause_matches(&rule->clauses[i], rule, change))
			return false;
	return rule->nclauses > 0;
}

static bool
clause_matches(CaptureClause *clause, CaptureRule *rule, Change *change)
{
	bool		value_test = clause->condition == NULL;

	if (clause->kind == DMSHOOK_CLAUSE_ALWAYS)
		return true;
	if (clause->broken)
		return false;
	switch (clause->kind)
	{
		case DMSHOOK_CLAUSE_CHANGED:
			return change->operation != OP_UPDATE || any_changed(change, clause);
		case DMSHOOK_CLAUSE_BECOMES:
			if (change->operation != OP_UPDATE)
				return test_row(clause, rule, change, change->new != NULL);
			if (value_test && !column_changed(change, clause->column.number))
				return false;
			return test_row(clause, rule, change, true) && !test_row(clause, rule, change, false);
		case DMSHOOK_CLAUSE_LEAVES:
			if (change->operation != OP_UPDATE)
				return false;
			if (value_test && !column_changed(change, clause->column.number))
				return false;
			return !test_row(clause, rule, change, true) && test_row(clause, rule, change, false);
		case DMSHOOK_CLAUSE_IS:
			return test_row(clause, rule, change, change->new != NULL);
		case DMSHOOK_CLAUSE_NOT:
			return !test_row(clause, rule, change, change->new != NULL);
		default:
			return false;
	}
}

/* Is a clause's test true of the new, or the old row? NULL is not true. */
static bool
test_row(CaptureClause *clause, CaptureRule *rule, Change *change, bool new)
{
	if (clause->condition != NULL)
		return dmshook_condition_true(clause->condition, new ? change->new : change->old,
									  change->rel, rule->label);

	tested_text(clause, change, new);
	if (change->text[new] == NULL)
		return false;
	for (int i = 0; i < clause->nvalues; i++)
		if (clause->lengths[i] == change->length[new] &&
			memcmp(clause->values[i], change->text[new], change->length[new]) == 0)
			return true;
	return false;
}

/* Fold a short text of ASCII letters; false: it is none. */
static bool
fold_ascii(char *folded, const char *text, int len)
{
	if (len > SHORT_TEXT)
		return false;
	for (int i = 0; i < len; i++)
	{
		if (IS_HIGHBIT_SET(text[i]))
			return false;
		folded[i] = text[i] >= 'A' && text[i] <= 'Z' ? text[i] + ('a' - 'A') : text[i];
	}
	return true;
}

/* The tested column as folded text; kept, as several rules test the same one. */
static void
tested_text(CaptureClause *clause, Change *change, bool new)
{
	Datum		value;
	bool		isnull;
	const char *plain;
	int			len;

	if (change->tested != clause->column.number)
	{
		change->tested = clause->column.number;
		change->length[0] = change->length[1] = -1;
	}
	if (change->length[new] >= 0)
		return;
	change->length[new] = 0;
	change->text[new] = NULL;
	value = slot_getattr(new ? change->new : change->old, clause->column.number, &isnull);
	if (isnull)
		return;
	plain = dmshook_json_bytes(clause->column.json, value, &len);
	if (plain != NULL && fold_ascii(change->folded[new], plain, len))
	{
		change->text[new] = change->folded[new];
		change->length[new] = len;
		return;
	}
	if (plain == NULL)
		plain = dmshook_json_plain(clause->column.json, value, &len);
	change->text[new] = dmshook_capture_fold(plain, len, &change->length[new]);
}

/* What memcmp() says, without the call for texts as short as most are. */
static inline bool
same_bytes(const char *a, const char *b, Size len)
{
	uint64		first[2];
	uint64		last[2];

	if (len < 8 || len > 16)
		return memcmp(a, b, len) == 0;
	memcpy(&first[0], a, 8);
	memcpy(&first[1], b, 8);
	memcpy(&last[0], a + len - 8, 8);
	memcpy(&last[1], b + len - 8, 8);
	return first[0] == first[1] && last[0] == last[1];
}

/* Has a column another image? Never by its type's "=": json, xml and point have none. */
static inline bool
value_changed(Form_pg_attribute att, Datum old, bool old_null, Datum new, bool new_null)
{
	if (old_null || new_null)
		return old_null != new_null;
	if (att->attbyval)
		return old != new;
	if (att->attlen == -1)
	{
		struct varlena *a = (struct varlena *) DatumGetPointer(old);
		struct varlena *b = (struct varlena *) DatumGetPointer(new);

		/* neither compressed nor elsewhere: what is there is the value */
		if (!VARATT_IS_EXTERNAL(a) && !VARATT_IS_COMPRESSED(a) && !VARATT_IS_EXTERNAL(b) && !VARATT_IS_COMPRESSED(b))
			return VARSIZE_ANY_EXHDR(a) != VARSIZE_ANY_EXHDR(b) ||
				!same_bytes(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a));
		/* the same bytes, or the same value in TOAST: not fetched to compare */
		if (VARSIZE_ANY(a) == VARSIZE_ANY(b) && memcmp(a, b, VARSIZE_ANY(a)) == 0)
			return false;
	}
	return !datum_image_eq(old, new, att->attbyval, att->attlen);
}

static bool
column_changed(Change *change, AttrNumber number)
{
	bool		old_null;
	bool		new_null;
	Datum		old = slot_getattr(change->old, number, &old_null);
	Datum		new = slot_getattr(change->new, number, &new_null);

	return value_changed(TupleDescAttr(change->desc, number - 1), old, old_null, new, new_null);
}

/* Has one of the clause's columns changed, or, where it names none, any? */
static bool
any_changed(Change *change, CaptureClause *clause)
{
	if (clause->ncolumns > 0)
	{
		for (int i = 0; i < clause->ncolumns; i++)
			if (column_changed(change, clause->columns[i]))
				return true;
		return false;
	}
	if (change->any_changed < 0)
	{
		change->any_changed = 0;
		for (int i = 0; i < change->desc->natts && !change->any_changed; i++)
			if (!TupleDescAttr(change->desc, i)->attisdropped && column_changed(change, i + 1))
				change->any_changed = 1;
	}
	return change->any_changed;
}

/* Key, record, tenant and user of the row, under fixed settings. */
static void
make_body(CaptureRelation *relation, CaptureGroup *group, Change *change, Body *body)
{
	DmshookJsonSettings saved;
	text	   *volatile user = NULL;

	body->group = group;
	body->old_tenant = NULL;
	dmshook_json_pin(&saved);
	PG_TRY();
	{
		StringInfoData data;

		/* rows of a table are about as long as one another */
		data.maxlen = group->usual_size;
		data.data = palloc(data.maxlen);
		data.len = VARHDRSZ;
		data.cursor = 0;
		dmshook_json_put(&data, group->head, group->head_len);
		body->key = dmshook_capture_key(&data, group, change->row);
		if (!group->key_only && !too_large(change->row, group) &&
			(change->operation != OP_UPDATE || !too_large(change->old, group)))
		{
			append_record(&data, group, change);
			if (unlikely(group->related != NULL))
				dmshook_related_append(&data, group, change->row);
		}
		dmshook_json_put(&data, "}", 1);
		SET_VARSIZE(data.data, data.len);
		body->data = (text *) data.data;
		if (unlikely(data.len > group->usual_size) && data.len < MAX_USUAL_SIZE)
			group->usual_size = data.len + data.len / 8;

		if (!group->has_tenant)
			body->tenant = relation->schema;
		else
			body->tenant = column_text(&group->tenant, change->row);
		if (group->tenant.number != 0 && change->operation == OP_UPDATE &&
			column_changed(change, group->tenant.number))
			body->old_tenant = column_text(&group->tenant, change->old);
		user = column_text(&group->user, change->row);
	}
	PG_FINALLY();
	{
		dmshook_json_unpin(&saved);
	}
	PG_END_TRY();
	body->who = dmshook_log_who(user ? VARDATA_ANY(user) : NULL, user ? VARSIZE_ANY_EXHDR(user) : 0);
}

/* "record" and, for an update, "previous". */
static void
append_record(StringInfo buf, CaptureGroup *group, Change *change)
{
	char		separator = '{';

	dmshook_json_put(buf, ",\"record\":", 10);
	slot_getallattrs(change->row);
	for (int i = 0; i < group->ncolumns; i++, separator = ',')
		dmshook_capture_append_column(buf, &group->columns[i], change->row, separator);
	if (group->ncolumns == 0)
		dmshook_json_put(buf, "{", 1);
	dmshook_json_put(buf, "}", 1);
	if (change->operation != OP_UPDATE)
		return;

	dmshook_json_put(buf, ",\"previous\":", 12);
	separator = '{';
	slot_getallattrs(change->old);
	for (int i = 0; i < group->ncolumns; i++)
	{
		int			at = group->columns[i].number - 1;

		if (!value_changed(TupleDescAttr(change->desc, at), change->old->tts_values[at], change->old->tts_isnull[at],
						   change->new->tts_values[at], change->new->tts_isnull[at]))
			continue;
		dmshook_capture_append_column(buf, &group->columns[i], change->old, separator);
		separator = ',';
	}
	if (separator == '{')
		dmshook_json_put(buf, "{", 1);
	dmshook_json_put(buf, "}", 1);
}

/* Would the JSON come near the end of what a datum can hold? */
static bool
too_large(TupleTableSlot *slot, CaptureGroup *group)
{
	Size		sum = 0;

	/* hardly any row has something in TOAST, and its header says so */
	if ((TTS_IS_BUFFERTUPLE(slot) || TTS_IS_HEAPTUPLE(slot)) &&
		!HeapTupleHasExternal(ExecFetchSlotHeapTuple(slot, false, NULL)))
		return false;
	for (int i = 0; i < group->ncolumns; i++)
	{
		AttrNumber	number = group->columns[i].number;
		Datum		value;
		bool		isnull;

		if (TupleDescAttr(slot->tts_tupleDescriptor, number - 1)->attlen != -1)
			continue;
		value = slot_getattr(slot, number, &isnull);
		if (!isnull && VARATT_IS_EXTERNAL(DatumGetPointer(value)))
			sum += toast_raw_datum_size(value);
	}
	return sum > MAX_TOASTED;
}

/* A column as text; NULL where there is no column or no value. */
static text *
column_text(CaptureColumn *column, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		value;
	char	   *plain;
	int			len;

	if (column->number == 0)
		return NULL;
	value = slot_getattr(slot, column->number, &isnull);
	if (isnull)
		return NULL;
	plain = dmshook_json_plain(column->json, value, &len);
	return cstring_to_text_with_len(plain, len);
}

static int
trigger_depth(void)
{
	LOCAL_FCINFO(fcinfo, 0);

	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	return DatumGetInt32(pg_trigger_depth(fcinfo));
}

/*
 * A DELETE in a partition: if it is the first half of a move, keep the row and
 * return true. Only the heap tells; with another access method a move is a
 * DELETE and an INSERT.
 */
static bool
keep_move(CaptureRelation *relation, TriggerData *trigdata)
{
	HeapTuple	tuple = trigdata->tg_trigtuple;
	int			depth;
	Move	   *move;
	MemoryContext old;

	if (trigdata->tg_relation->rd_rel->relam != HEAP_TABLE_AM_OID ||
		!HeapTupleHeaderIndicatesMovedPartitions(tuple->t_data))
		return false;
	depth = trigger_depth();
	move = &moves[depth % MOVES];
	if (move->tuple != NULL)
		heap_freetuple(move->tuple);
	move->tuple = NULL;
	move->relid = relation->relid;
	move->root = relation->root;
	move->command = HeapTupleHeaderGetCmax(tuple->t_data);
	move->transaction = MY_LXID;
	move->depth = depth;
	old = MemoryContextSwitchTo(TopMemoryContext);
	move->tuple = heap_copytuple(tuple);
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * An INSERT in a partition: if it is the second half of a move, return the old
 * row in a slot of this partition's shape, for the caller to drop.
 */
static TupleTableSlot *
take_move(CaptureRelation *relation, TriggerData *trigdata)
{
	int			depth = trigger_depth();
	Move	   *move = &moves[depth % MOVES];
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	TupleTableSlot *slot;
	TupleConversionMap *map;
	HeapTuple	tuple;
	Relation	from;

	if (move->tuple == NULL || move->depth != depth || move->root != relation->root ||
		move->transaction != MY_LXID || trigdata->tg_relation->rd_rel->relam != HEAP_TABLE_AM_OID ||
		move->command != HeapTupleHeaderGetCmin(trigdata->tg_trigtuple->t_data))
		return NULL;

	/* the statement holds its lock */
	from = relation_open(move->relid, NoLock);
	map = convert_tuples_by_name(RelationGetDescr(from), desc);
	tuple = map ? execute_attr_map_tuple(move->tuple, map) : heap_copytuple(move->tuple);
	if (map)
		free_conversion_map(map);
	relation_close(from, NoLock);
	heap_freetuple(move->tuple);
	move->tuple = NULL;

	slot = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	ExecStoreHeapTuple(tuple, slot, false);
	return slot;
}
