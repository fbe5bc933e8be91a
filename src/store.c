/*
 * store.c - configuration, commands, positions and health: what the dispatcher
 * knows of them from the tables, and writes there.
 *
 * Runs in the dispatcher, inside transactions that dispatch.c opens (but for
 * dmshook_store_claimed). The statements are in store_sql.c, the queue and the
 * past of deliveries in store_queue.c. Nothing here touches the network, or a
 * table of the DMS.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "utils/lsyscache.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "store.h"
#include "store_private.h"
#include "vault.h"
#include "wipe.h"

bool
dmshook_store_claimed(bool *copy)
{
	bool		claimed = false;
	int			major = PG_VERSION_NUM / 10000;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (dmshook_store_run(Q_CLAIM, NULL, NULL, true) == 1 && DatumGetBool(dmshook_store_column(0, 4, NULL)) &&
		DatumGetObjectId(dmshook_store_column(0, 2, NULL)) == MyDatabaseId)
	{
		int64		here = (int64) GetSystemIdentifier();

		if (DatumGetInt64(dmshook_store_column(0, 1, NULL)) == here)
			claimed = true;
		else if (DatumGetInt32(dmshook_store_column(0, 3, NULL)) < major)
		{
			/* pg_upgrade makes a new system identifier and keeps the OID */
			Datum		values[2] = {Int64GetDatum(here), Int32GetDatum(major)};

			dmshook_store_run(Q_CLAIM_UPGRADED, values, NULL, false);
			claimed = true;
		}
	}
	*copy = !claimed && dmshook_store_run(Q_CLAIM_USED, NULL, NULL, true) == 1 &&
		DatumGetBool(dmshook_store_column(0, 1, NULL));
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return claimed;
}

void
dmshook_store_start(DmshookStoredPlace *reader, int64 *last_value)
{
	int64		newest;

	SPI_connect();
	if (dmshook_store_run(Q_START, NULL, NULL, true) != 1)
		elog(ERROR, "position of the reader is missing");
	reader->webhook = DMSHOOK_READER_POSITION;
	reader->low = dmshook_store_column_int8(0, 1, 0);
	reader->tid = *(ItemPointer) DatumGetPointer(dmshook_store_column(0, 2, NULL));
	*last_value = dmshook_store_column_int8(0, 3, 0);
	newest = Max(dmshook_store_column_int8(0, 4, 0), reader->low);
	if (dmshook_store_column_int8(0, 5, 1) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence dmshook.event_id hands out ids in blocks"),
				 errdetail("Events could be lost: commit-safe reading needs ids one by one."),
				 errhint("Run: ALTER SEQUENCE dmshook.event_id CACHE 1;")));
	SPI_finish();

	if (*last_value < newest)
	{
		dmshook_store_advance_sequence(newest);
		*last_value = dmshook_store_last_value();
	}
}

int64
dmshook_store_last_value(void)
{
	int64		result;

	SPI_connect();
	dmshook_store_run(Q_LAST_VALUE, NULL, NULL, true);
	result = dmshook_store_column_int8(0, 1, 0);
	SPI_finish();
	return result;
}

void
dmshook_store_advance_sequence(int64 high)
{
	Datum		value = Int64GetDatum(high + 1000000);
	char		detail[128];

	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("sequence dmshook.event_id was behind the events that there are"),
			 errdetail("It was moved beyond id " INT64_FORMAT ".", high),
			 errhint("Rows of dmshook.event are written by dmshook alone; restore the sequence together with them.")));
	SPI_connect();
	dmshook_store_run(Q_SETVAL, &value, NULL, false);
	SPI_finish();
	snprintf(detail, sizeof(detail), "{\"id\": " INT64_FORMAT "}", high);
	dmshook_store_notice(0, "sequence_behind", detail);
}

static char **
text_array(MemoryContext context, Datum value, int *n)
{
	Datum	   *elems;
	char	  **result;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, n);
	result = MemoryContextAlloc(context, sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		result[i] = MemoryContextStrdup(context, TextDatumGetCString(elems[i]));
	return result;
}

/*
 * A JSON object out of the text of a secret, which is wiped, as are the copies that parsing makes. NULL: it is
 * none, somebody has written to the table by hand; that is no reason to end, nor to say what stands there.
 */
static Jsonb *
secret_jsonb(MemoryContext context, char *value)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(context, "dmshook secret", DMSHOOK_SECRET_SIZES);
	ResourceOwner owner = CurrentResourceOwner;
	Jsonb	   *volatile result = NULL;

	dmshook_wipe_freed(true);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(scratch);
	PG_TRY();
	{
		Jsonb	   *parsed = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(value)));

		result = MemoryContextAlloc(context, VARSIZE(parsed));
		memcpy(result, parsed, VARSIZE(parsed));
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		result = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	MemoryContextDelete(scratch);
	dmshook_wipe_freed(false);
	explicit_bzero(value, strlen(value));
	return result && JB_ROOT_IS_OBJECT(result) ? result : NULL;
}

/*
 * The rows of a table that is sorted by webhook go to their webhooks, which are
 * sorted too: *at is where the last one was found.
 */
static DmshookWebhookRow *
webhook_of_row(List *webhooks, int *at, int webhook)
{
	while (*at < list_length(webhooks))
	{
		DmshookWebhookRow *row = list_nth(webhooks, *at);

		if (row->id == webhook)
			return row;
		if (row->id > webhook)
			return NULL;
		(*at)++;
	}
	return NULL;
}

/*
 * A row of Q_SECRETS, as it is used: the one place of the dispatcher where what
 * is at rest is opened (in SQL: dmshook._secrets). NULL: it cannot be, and the webhook is told why.
 */
static char *
secret_value(MemoryContext context, uint64 row, DmshookWebhookRow *webhook, const char *kind)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	char	   *stored = dmshook_store_column_text(context, row, 3);
	char	   *key_id = dmshook_store_column_text(context, row, 4);
	char	   *problem;
	const char *hint;
	char	   *result = dmshook_vault_open(webhook->id, kind, stored, key_id, &problem, &hint);

	MemoryContextSwitchTo(old);
	explicit_bzero(stored, strlen(stored));
	if (result == NULL && webhook->secret_problem == NULL)
	{
		webhook->secret_problem = problem;
		webhook->secret_hint = hint;
	}
	return result;
}

static Jsonb *
secret_object(MemoryContext context, char *value, DmshookWebhookRow *webhook, const char *kind)
{
	Jsonb	   *result = secret_jsonb(context, value);

	if (result == NULL && webhook->secret_problem == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		webhook->secret_problem = psprintf("its secret \"%s\" is not what was stored: it is no JSON object", kind);
		webhook->secret_hint = "Somebody has written to dmshook.webhook_secret: set the secret again.";
		MemoryContextSwitchTo(old);
	}
	return result;
}

static void
load_secrets(List *webhooks, MemoryContext context, const Datum *range)
{
	uint64		n = dmshook_store_run(Q_SECRETS, range, NULL, true);
	int			at = 0;

	for (uint64 i = 0; i < n; i++)
	{
		DmshookWebhookRow *row = webhook_of_row(webhooks, &at, DatumGetInt32(dmshook_store_column(i, 1, NULL)));
		char	   *kind;
		char	   *value;

		if (row == NULL)
			continue;
		kind = TextDatumGetCString(dmshook_store_column(i, 2, NULL));
		value = secret_value(context, i, row, kind);
		if (value == NULL)
			continue;
		if (strcmp(kind, "auth") == 0 && row->auth == NULL)
			row->auth = secret_object(context, value, row, kind);
		else if (strcmp(kind, "headers") == 0 && row->headers == NULL)
			row->headers = secret_object(context, value, row, kind);
		else if (strncmp(kind, "signing", strlen("signing")) == 0)
		{
			DmshookSecretRow *secret;

			if (row->secrets == NULL)
				row->secrets = MemoryContextAlloc(context, sizeof(DmshookSecretRow) * n);
			secret = &row->secrets[row->nsecrets++];
			secret->kind = MemoryContextStrdup(context, kind);
			secret->value = value;
			secret->until = dmshook_store_column_int8(i, 5, DT_NOEND);
		}
	}
}

static void
load_subscriptions(List *webhooks, MemoryContext context, const Datum *range)
{
	uint64		n = dmshook_store_run(Q_SUBSCRIPTIONS, range, NULL, true);
	int			at = 0;

	for (uint64 i = 0; i < n; i++)
	{
		DmshookWebhookRow *row = webhook_of_row(webhooks, &at, DatumGetInt32(dmshook_store_column(i, 1, NULL)));
		DmshookSubscription *version;

		if (row == NULL)
			continue;
		if (row->nsubscriptions == 0)
			row->subscriptions = MemoryContextAlloc(context, sizeof(DmshookSubscription));
		else
			row->subscriptions = repalloc(row->subscriptions,
										  sizeof(DmshookSubscription) * (row->nsubscriptions + 1));
		version = &row->subscriptions[row->nsubscriptions++];
		version->from_id = dmshook_store_column_int8(i, 2, 0);
		version->events = text_array(context, dmshook_store_column(i, 3, NULL), &version->nevents);
		version->tenant = dmshook_store_column_text(context, i, 4);
		version->enabled = DatumGetBool(dmshook_store_column(i, 5, NULL));
		version->filter = dmshook_store_column_text(context, i, 6);
		version->path = NULL;
		version->filter_problem = NULL;
	}
}

List *
dmshook_store_webhooks(int webhook)
{
	/* a range, so that one plan is good for one (by index, however many there are) and for all */
	Datum		range[2] = {Int32GetDatum(webhook), Int32GetDatum(webhook == 0 ? PG_INT32_MAX : webhook)};
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = dmshook_store_run(Q_WEBHOOKS, range, NULL, true);
	for (uint64 i = 0; i < n; i++)
	{
		DmshookWebhookRow *row = MemoryContextAllocZero(context, sizeof(DmshookWebhookRow));

		row->id = DatumGetInt32(dmshook_store_column(i, 1, NULL));
		row->name = dmshook_store_column_text(context, i, 2);
		row->url = dmshook_store_column_text(context, i, 3);
		row->method = dmshook_store_column_text(context, i, 4);
		row->enabled = DatumGetBool(dmshook_store_column(i, 5, NULL));
		row->paused = DatumGetBool(dmshook_store_column(i, 6, NULL));
		row->version = DatumGetInt32(dmshook_store_column(i, 7, NULL));
		row->options = dmshook_store_column_jsonb(context, i, 8);
		row->low = dmshook_store_column_int8(i, 9, -1);
		row->skip = dmshook_store_column_int8(i, 10, 0);
		row->delivered = dmshook_store_column_int8(i, 11, 0);
		row->failed = dmshook_store_column_int8(i, 12, 0);
		row->failures = DatumGetInt32(dmshook_store_column(i, 13, NULL));
		row->failing_since = (TimestampTz) dmshook_store_column_int8(i, 14, 0);
		row->circuit_open_since = (TimestampTz) dmshook_store_column_int8(i, 15, 0);
		row->next_probe_at = (TimestampTz) dmshook_store_column_int8(i, 16, 0);
		row->probes = DatumGetInt32(dmshook_store_column(i, 17, NULL));
		row->transform_role = dmshook_store_column_text(context, i, 18);
		old = MemoryContextSwitchTo(context);
		result = lappend(result, row);
		MemoryContextSwitchTo(old);
	}
	load_secrets(result, context, range);
	load_subscriptions(result, context, range);
	SPI_finish();
	return result;
}

/* Where commands are; REINDEX CONCURRENTLY makes the index another one. */
static Oid	command_heap = InvalidOid;
static Oid	command_index = InvalidOid;

static void
forget_commands(Datum arg pg_attribute_unused(), Oid relid)
{
	if (relid == InvalidOid || relid == command_heap || relid == command_index)
		command_heap = InvalidOid;
}

bool
dmshook_store_has_commands(void)
{
	static bool registered = false;
	Relation	heap;
	SysScanDesc scan;
	bool		found;

	if (!registered)
		CacheRegisterRelcacheCallback(forget_commands, (Datum) 0);
	registered = true;

	/* getting the lock may tell that what was known is so no more */
	for (;;)
	{
		if (!OidIsValid(command_heap))
		{
			Oid			namespace = get_namespace_oid("dmshook", false);

			command_index = get_relname_relid("command_undone", namespace);
			command_heap = get_relname_relid("command", namespace);
		}
		heap = table_open(command_heap, AccessShareLock);
		if (OidIsValid(command_heap))
			break;
		table_close(heap, AccessShareLock);
	}
	/* by the active snapshot: what is found is what this round's events were written beside */
	scan = systable_beginscan(heap, command_index, OidIsValid(command_index), GetActiveSnapshot(), 0, NULL);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(heap, AccessShareLock);
	return found;
}

List *
dmshook_store_commands(void)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = dmshook_store_run(Q_COMMANDS, NULL, NULL, true);
	for (uint64 i = 0; i < n; i++)
	{
		DmshookCommand *command = MemoryContextAllocZero(context, sizeof(DmshookCommand));

		command->id = dmshook_store_column_int8(i, 1, 0);
		command->webhook = DatumGetInt32(dmshook_store_column(i, 2, NULL));
		command->kind = dmshook_store_column_text(context, i, 3);
		command->event = dmshook_store_column_int8(i, 4, 0);
		command->upto = dmshook_store_column_int8(i, 5, 0);
		command->args = dmshook_store_column_jsonb(context, i, 6);
		command->by_role = dmshook_store_column_text(context, i, 7);
		old = MemoryContextSwitchTo(context);
		result = lappend(result, command);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

void
dmshook_store_command_done(int64 id)
{
	Datum		value = Int64GetDatum(id);

	SPI_connect();
	dmshook_store_run(Q_COMMAND_DONE, &value, NULL, false);
	SPI_finish();
}

void
dmshook_store_skip(int webhook, int64 upto, const char *reason)
{
	Datum		values[3] = {Int32GetDatum(webhook), Int64GetDatum(upto), CStringGetTextDatum(reason)};

	SPI_connect();
	dmshook_store_run(Q_SKIP, values, NULL, false);
	SPI_finish();
}

/* Did a statement return a ctid? Then remember it. */
static bool
remember_tid(uint64 n, ItemPointer tid)
{
	if (n == 0)
	{
		ItemPointerSetInvalid(tid);
		return false;
	}
	*tid = *(ItemPointer) DatumGetPointer(dmshook_store_column(0, 1, NULL));
	return true;
}

/*
 * A row that is written once a second is found by its TID: under an old
 * snapshot the way to it through the index grows with every version.
 */
void
dmshook_store_place(DmshookStoredPlace *place, int64 low)
{
	SPI_connect();
	if (low < 0)
	{
		Datum		value = Int32GetDatum(place->webhook);

		dmshook_store_run(Q_PLACE_REMOVE, &value, NULL, false);
		ItemPointerSetInvalid(&place->tid);
	}
	else
	{
		Datum		update[3] = {PointerGetDatum(&place->tid), Int32GetDatum(place->webhook), Int64GetDatum(low)};
		Datum		put[2] = {Int32GetDatum(place->webhook), Int64GetDatum(low)};

		if (!ItemPointerIsValid(&place->tid) ||
			!remember_tid(dmshook_store_run(Q_PLACE_UPDATE, update, NULL, false), &place->tid))
			remember_tid(dmshook_store_run(Q_PLACE_PUT, put, NULL, false), &place->tid);
	}
	SPI_finish();
	place->low = low;
}

/* A time, or NULL for 0. */
static void
set_time(Datum *values, char *nulls, int i, TimestampTz time)
{
	values[i] = TimestampTzGetDatum(time);
	nulls[i] = time == 0 ? 'n' : ' ';
}

bool
dmshook_store_disable(int webhook, const char *reason)
{
	Datum		values[2] = {Int32GetDatum(webhook), CStringGetTextDatum(reason)};
	bool		result;

	SPI_connect();
	dmshook_store_run(Q_DISABLE, values, NULL, false);
	result = DatumGetBool(dmshook_store_column(0, 1, NULL));
	SPI_finish();
	return result;
}

void
dmshook_store_state(DmshookState *state)
{
	Datum		texts[2] = {CStringGetTextDatum(state->last_error), CStringGetTextDatum(state->last_hint)};
	bool		text_nulls[2] = {state->last_error[0] == '\0', state->last_error[0] == '\0'};
	Datum		values[13];
	char		nulls[13];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = PointerGetDatum(&state->tid);
	values[1] = Int32GetDatum(state->webhook);
	values[2] = Int64GetDatum(state->delivered);
	values[3] = Int64GetDatum(state->failed);
	values[4] = Int32GetDatum(state->failures);
	set_time(values, nulls, 5, state->failing_since);
	set_time(values, nulls, 6, state->last_success_at);
	set_time(values, nulls, 7, state->last_failure_at);
	set_time(values, nulls, 9, state->circuit_open_since);
	set_time(values, nulls, 10, state->next_probe_at);
	values[11] = Int32GetDatum(state->probes);
	set_time(values, nulls, 12, state->certificate_expires_at);
	values[8] = dmshook_store_array(texts, text_nulls, 2, TEXTOID, -1, false, TYPALIGN_INT);
	SPI_connect();
	if (!ItemPointerIsValid(&state->tid) ||
		!remember_tid(dmshook_store_run(Q_STATE_UPDATE, values, nulls, false), &state->tid))
		remember_tid(dmshook_store_run(Q_STATE_PUT, values + 1, nulls + 1, false), &state->tid);
	SPI_finish();
}

static uint64 alerts_written = 0;

uint64
dmshook_store_alerts_written(void)
{
	return alerts_written;
}

List *
dmshook_store_alerts_unsent(TimestampTz since, int limit)
{
	Datum		values[2] = {TimestampTzGetDatum(since), Int32GetDatum(limit)};
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = dmshook_store_run(Q_ALERTS_UNSENT, values, NULL, true);
	for (uint64 i = 0; i < n; i++)
	{
		DmshookAlertRow *row = MemoryContextAllocZero(context, sizeof(DmshookAlertRow));
		bool		isnull;
		Datum		webhook = dmshook_store_column(i, 3, &isnull);

		row->id = dmshook_store_column_int8(i, 1, 0);
		row->at = DatumGetTimestampTz(dmshook_store_column(i, 2, NULL));
		row->webhook = isnull ? 0 : DatumGetInt32(webhook);
		row->name = dmshook_store_column_text(context, i, 4);
		row->kind = dmshook_store_column_text(context, i, 5);
		row->detail = dmshook_store_column_jsonb(context, i, 6);
		old = MemoryContextSwitchTo(context);
		result = lappend(result, row);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

int
dmshook_store_alerts_sent(int64 *ids, int n, const char *sent_to)
{
	Datum	   *elems = palloc(sizeof(Datum) * n);
	Datum		values[2];
	uint64		written;
	int			first = 0;

	for (int i = 0; i < n; i++)
		elems[i] = Int64GetDatum(ids[i]);
	values[0] = dmshook_store_array(elems, NULL, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	values[1] = CStringGetTextDatum(sent_to);
	SPI_connect();
	written = dmshook_store_run(Q_ALERTS_SENT, values, NULL, false);
	for (uint64 i = 0; i < written; i++)
	{
		int64		id = dmshook_store_column_int8(i, 1, 0);

		for (int k = first; k < n; k++)
		{
			if (ids[k] == id)
			{
				ids[k] = ids[first];
				ids[first++] = id;
				break;
			}
		}
	}
	SPI_finish();
	return first;
}

void
dmshook_store_count(int webhook, TimestampTz at, int64 ok, int64 failed)
{
	Datum		values[4] = {Int32GetDatum(webhook), TimestampTzGetDatum(at), Int64GetDatum(ok), Int64GetDatum(failed)};

	SPI_connect();
	dmshook_store_run(Q_COUNT, values, NULL, false);
	SPI_finish();
}

int64
dmshook_store_count_expired(int webhook, int64 after, int64 upto, List *rows)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(list_length(rows), 1));
	Datum		values[4] = {Int32GetDatum(webhook), Int64GetDatum(after), Int64GetDatum(upto)};
	int64		result;

	for (int i = 0; i < list_length(rows); i++)
		elems[i] = Int64GetDatum(((DmshookQueueRow *) list_nth(rows, i))->event);
	values[3] = dmshook_store_array(elems, NULL, list_length(rows), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	SPI_connect();
	dmshook_store_run(Q_COUNT_EXPIRED, values, NULL, false);
	result = dmshook_store_column_int8(0, 1, 0);
	SPI_finish();
	return result;
}

int64
dmshook_store_last_older(int64 after, TimestampTz than, int rows)
{
	Datum		values[3] = {Int64GetDatum(after), TimestampTzGetDatum(than), Int32GetDatum(rows)};
	int64		result;

	SPI_connect();
	dmshook_store_run(Q_LAST_OLDER, values, NULL, true);
	result = dmshook_store_column_int8(0, 1, 0);
	SPI_finish();
	return result;
}

int
dmshook_store_remove_old(int64 *cursor, TimestampTz than, TimestampTz dead_than, int rows, TimestampTz *oldest)
{
	Datum		values[4] = {Int64GetDatum(*cursor), TimestampTzGetDatum(than), TimestampTzGetDatum(dead_than), Int32GetDatum(rows)};
	Datum		time = TimestampTzGetDatum(than);
	Datum		dead_time = TimestampTzGetDatum(dead_than);
	bool		isnull;
	Datum		stayed;
	int			seen;

	SPI_connect();
	dmshook_store_run(Q_REMOVE_OLD, values, NULL, false);
	seen = (int) dmshook_store_column_int8(0, 1, 0);
	*cursor = dmshook_store_column_int8(0, 2, *cursor);
	stayed = dmshook_store_column(0, 3, &isnull);
	*oldest = isnull ? DT_NOEND : DatumGetTimestampTz(stayed);
	if (seen < rows)
	{
		/* the end of a pass */
		dmshook_store_run(Q_REMOVE_TESTS, &time, NULL, false);
		dmshook_store_run(Q_REMOVE_COMMANDS, &time, NULL, false);
		dmshook_store_run(Q_REMOVE_COUNTS, NULL, NULL, false);
		dmshook_store_run(Q_REMOVE_ALERTS, &dead_time, NULL, false);
		dmshook_store_run(Q_REMOVE_SECRETS, NULL, NULL, false);
	}
	SPI_finish();
	return seen;
}

int
dmshook_store_blank_old(int64 *cursor, TimestampTz than, int rows, TimestampTz *oldest)
{
	Datum		values[3] = {Int64GetDatum(*cursor), TimestampTzGetDatum(than), Int32GetDatum(rows)};
	bool		isnull;
	Datum		stayed;
	int			seen;

	SPI_connect();
	dmshook_store_run(Q_BLANK_OLD, values, NULL, false);
	seen = (int) dmshook_store_column_int8(0, 1, 0);
	*cursor = dmshook_store_column_int8(0, 2, *cursor);
	stayed = dmshook_store_column(0, 3, &isnull);
	*oldest = isnull ? DT_NOEND : DatumGetTimestampTz(stayed);
	SPI_finish();
	return seen;
}

bool
dmshook_store_erase_rest(Jsonb *args, List **failed, int64 **told, int *ntold)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	Datum		value = JsonbPGetDatum(args);
	Datum	   *webhooks;
	Datum	   *events;
	bool		done;
	int			n;

	*failed = NIL;
	SPI_connect();
	dmshook_store_run(Q_ERASE_REST, &value, NULL, false);
	done = DatumGetBool(dmshook_store_column(0, 1, NULL));
	deconstruct_array(DatumGetArrayTypeP(dmshook_store_column(0, 2, NULL)), INT4OID, sizeof(int32), true, TYPALIGN_INT, &webhooks, NULL, &n);
	deconstruct_array(DatumGetArrayTypeP(dmshook_store_column(0, 3, NULL)), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &events, NULL, ntold);
	old = MemoryContextSwitchTo(context);
	for (int i = 0; i < n; i++)
		*failed = lappend_int(*failed, DatumGetInt32(webhooks[i]));
	*told = palloc(sizeof(int64) * (*ntold + 1));
	for (int i = 0; i < *ntold; i++)
		(*told)[i] = DatumGetInt64(events[i]);
	MemoryContextSwitchTo(old);
	SPI_finish();
	return done;
}

int64
dmshook_store_scrub(int pages)
{
	Datum		value = Int32GetDatum(pages);
	int64		result;

	SPI_connect();
	dmshook_store_run(Q_SCRUB, &value, NULL, false);
	result = dmshook_store_column_int8(0, 1, 0);
	SPI_finish();
	return result;
}

void
dmshook_store_notice(int webhook, const char *kind, const char *detail)
{
	Datum		values[3] = {Int32GetDatum(webhook), CStringGetTextDatum(kind), CStringGetTextDatum(detail)};

	alerts_written++;
	SPI_connect();
	dmshook_store_run(Q_NOTICE, values, NULL, false);
	SPI_finish();
}
