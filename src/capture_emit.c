/*
 * capture_emit.c - dmshook.emit(): an event that the DMS raises itself.
 *
 * Runs in the backend that calls it, in its transaction; whoever may execute
 * the function needs no other right. The catalogue of event types is read
 * directly, for the same reason; it has a few dozen rows.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "capture_catalogue.h"
#include "capture_log.h"
#include "compat.h"
#include "event.h"
#include "match.h"
#include "rowjson.h"

PGDLLEXPORT Datum dmshook_emit(PG_FUNCTION_ARGS);

static void append_member(StringInfo buf, const char *label, FunctionCallInfo fcinfo, int arg);
static void require(FunctionCallInfo fcinfo, int arg, const char *name);
static Jsonb *require_object(FunctionCallInfo fcinfo, int arg, const char *name);

text *
dmshook_catalogue_entity(text *type)
{
	Oid			relid = get_relname_relid("event_type", get_namespace_oid("dmshook", false));
	char	   *wanted = text_to_cstring(type);
	char	   *nearest = NULL;
	int			best = 6;
	text	   *result = NULL;
	Relation	rel = table_open(relid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = dmshook_beginscan(rel, snapshot);

	while (result == NULL && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		char	   *name = TextDatumGetCString(slot_getattr(slot, 1, &isnull));
		int			distance;

		if (strcmp(name, wanted) == 0)
		{
			result = DatumGetTextPCopy(slot_getattr(slot, 2, &isnull));
			break;
		}
		distance = dmshook_edit_distance(wanted, strlen(wanted), name, strlen(name), 5);
		if (distance < best)
		{
			best = distance;
			nearest = name;
		}
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);

	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event type \"%s\" does not exist", wanted),
				 nearest ? errhint("Did you mean \"%s\"? New types are made with dmshook.define_event_type().", nearest) :
				 errhint("See dmshook.event_types, or make it with dmshook.define_event_type().")));
	/* failure notifications are raised by the dispatcher (notice.c) alone */
	if (strncmp(wanted, "webhook.", 8) == 0 && MyBackendType != B_BG_WORKER)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("event type \"%s\" is dmshook's own", wanted),
				 errhint("Make a type of your own with dmshook.define_event_type().")));
	return result;
}

static void
require(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

static Jsonb *
require_object(FunctionCallInfo fcinfo, int arg, const char *name)
{
	Jsonb	   *value = PG_GETARG_JSONB_P(arg);

	if (!JB_ROOT_IS_OBJECT(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a JSON object", name),
				 errhint("Pass, for example, '{\"id\": 42}'.")));
	return value;
}

/* ,"label":{...}, where the argument is given. */
static void
append_member(StringInfo buf, const char *label, FunctionCallInfo fcinfo, int arg)
{
	Jsonb	   *value;

	if (PG_ARGISNULL(arg))
		return;
	value = require_object(fcinfo, arg, label);
	appendStringInfo(buf, ",\"%s\":", label);
	JsonbToCString(buf, &value->root, VARSIZE(value));
}

/* emit(event_type, entity, key, record, previous, tenant): the message id. */
PG_FUNCTION_INFO_V1(dmshook_emit);
Datum
dmshook_emit(PG_FUNCTION_ARGS)
{
	DmshookNewEvent event;
	StringInfoData data;
	StringInfoData source;
	char	   *database;
	char		id[DMSHOOK_MESSAGE_ID_LEN + 1];
	int64		number;
	int64		nonce;
	char	   *entity;

	PreventCommandIfReadOnly("dmshook.emit()");
	PreventCommandIfParallelMode("dmshook.emit()");
	require(fcinfo, 0, "event_type");
	require(fcinfo, 2, "key");
	event.type = PG_GETARG_TEXT_PP(0);
	event.entity = dmshook_catalogue_entity(event.type);
	if (!PG_ARGISNULL(1))
		event.entity = PG_GETARG_TEXT_PP(1);
	event.key = require_object(fcinfo, 2, "key");

	entity = text_to_cstring(event.entity);
	initStringInfo(&data);
	appendStringInfoSpaces(&data, VARHDRSZ);
	appendStringInfoString(&data, "{\"entity\":");
	dmshook_json_string(&data, entity, strlen(entity));
	append_member(&data, "key", fcinfo, 2);
	append_member(&data, "record", fcinfo, 3);
	append_member(&data, "previous", fcinfo, 4);
	appendStringInfoChar(&data, '}');
	SET_VARSIZE(data.data, data.len);
	event.data = (text *) data.data;

	database = get_database_name(MyDatabaseId);
	initStringInfo(&source);
	appendStringInfoSpaces(&source, VARHDRSZ);
	appendStringInfoString(&source, "{\"database\":");
	dmshook_json_string(&source, database, strlen(database));
	appendStringInfoString(&source, ",\"schema\":null,\"table\":null}");
	SET_VARSIZE(source.data, source.len);
	event.source = (text *) source.data;

	event.tenant = PG_ARGISNULL(5) ? NULL : PG_GETARG_TEXT_PP(5);
	event.old_tenant = NULL;
	event.who = dmshook_log_who(NULL, 0);
	number = dmshook_log_event(&event, &nonce);
	dmshook_message_id(number, nonce, id);
	PG_RETURN_TEXT_P(cstring_to_text(id));
}
