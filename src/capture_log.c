/*
 * capture_log.c - appending a row to dmshook.event, and who did it.
 *
 * Runs in the backend that raises an event, inside its statement, for roles
 * that have no right on schema dmshook: neither SPI nor the executor's checks
 * are involved, heap and index inserts are done by hand. dmshook_log_event()
 * writes one row at once, with everything opened and closed, since each belongs
 * to the resource owner of the (sub)transaction at hand; capture_batch.c writes
 * a statement's rows together, by the same functions. Memory is the caller's.
 *
 * Commit-safe reading (reader.c) rests on the order kept here: the top
 * transaction has its xid before an id is taken, none is taken for later, and
 * id and row belong to the same top transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#if PG_VERSION_NUM >= 190000
#include "commands/sequence_xlog.h"
#endif
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "capture_batch.h"
#include "capture_index.h"
#include "capture_log.h"
#include "compat.h"
#include "event.h"
#include "rowjson.h"
#include "settings.h"
#include "wake.h"

/* As many ids as one WAL record of the sequence covers; nextval()'s figure. */
#define LOG_AHEAD	32

#if PG_VERSION_NUM >= 170000
#define MY_LXID (MyProc->vxid.lxid)
#else
#define MY_LXID (MyProc->lxid)
#endif

/* Found by name once, forgotten when either changes. */
static Oid	event_table = InvalidOid;
static Oid	event_sequence = InvalidOid;

/* The last answer of dmshook_log_who(), and what it was made from. */
static struct
{
	bool		valid;
	Oid			session_user;
	Oid			outer_user;
	char	   *name;			/* NULL: the session user's */
	char	   *application;
	text	   *who;
}			who_cache;

static void find_relations(void);
static void log_sequence(Relation rel, Buffer buffer, HeapTuple tuple);
static void insert_keys(Relation rel, Relation index, TupleTableSlot **slots, const int64 *ids, int n);
static const char *setting_user(void);
static void append_text(StringInfo buf, const char *label, const char *text, int len);
static void forget_relations(Datum arg, Oid relid);
static void forget_who(Datum arg, int cacheid, uint32 hashvalue);

void
dmshook_log_init(void)
{
	dmshook_batch_init();
	CacheRegisterRelcacheCallback(forget_relations, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget_who, (Datum) 0);
}

static void
forget_relations(Datum arg pg_attribute_unused(), Oid relid)
{
	if (relid == InvalidOid || relid == event_table || relid == event_sequence)
		event_table = event_sequence = InvalidOid;
}

static void
forget_who(Datum arg pg_attribute_unused(), int cacheid pg_attribute_unused(),
		   uint32 hashvalue pg_attribute_unused())
{
	who_cache.valid = false;
}

static void
find_relations(void)
{
	Oid			schema = get_namespace_oid("dmshook", false);
	Oid			table = get_relname_relid("event", schema);
	Oid			sequence = get_relname_relid("event_id", schema);

	if (!OidIsValid(table) || !OidIsValid(sequence))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table dmshook.event or sequence dmshook.event_id does not exist"),
				 errhint("The extension dmshook is damaged; create it again.")));
	event_table = table;
	event_sequence = sequence;
}

Oid
dmshook_log_table(void)
{
	if (!OidIsValid(event_table))
		find_relations();
	return event_table;
}

int64
dmshook_log_event(const DmshookNewEvent *event, int64 *nonce)
{
	Relation	rel;
	TupleTableSlot *slot;
	int64		id;

	dmshook_batch_write();
	rel = table_open(dmshook_log_table(), RowExclusiveLock);

	/* the writer's rule: an xid, then an id, then the row */
	(void) GetTopTransactionId();
	id = dmshook_log_take_ids(1);

	slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	*nonce = dmshook_log_fill(event, RelationGetDescr(rel), slot->tts_values, slot->tts_isnull);
	slot->tts_values[Anum_event_id - 1] = Int64GetDatum(id);
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(rel, slot, GetCurrentCommandId(true), 0, NULL);
	dmshook_log_index(rel, &slot, &id, 1);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);

	dmshook_wake_at_commit();
	return id;
}

int64
dmshook_log_fill(const DmshookNewEvent *event, TupleDesc desc, Datum *values, bool *nulls)
{
	int64		nonce = dmshook_log_nonce();

	memset(nulls, false, sizeof(bool) * Natts_event);
	values[Anum_event_id - 1] = Int64GetDatum(0);
	values[Anum_event_nonce - 1] = Int64GetDatum(nonce);
	values[Anum_event_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_event_type - 1] = PointerGetDatum(event->type);
	values[Anum_event_tenant - 1] = PointerGetDatum(event->tenant);
	nulls[Anum_event_tenant - 1] = event->tenant == NULL;
	values[Anum_event_old_tenant - 1] = PointerGetDatum(event->old_tenant);
	nulls[Anum_event_old_tenant - 1] = event->old_tenant == NULL;
	values[Anum_event_entity - 1] = PointerGetDatum(event->entity);
	values[Anum_event_key - 1] = PointerGetDatum(event->key);
	values[Anum_event_who - 1] = PointerGetDatum(event->who);
	values[Anum_event_source - 1] = PointerGetDatum(event->source);
	values[Anum_event_data - 1] = PointerGetDatum(event->data);
	/* erased_at, and columns that somebody may have added */
	for (int i = Anum_event_erased_at - 1; i < desc->natts; i++)
		nulls[i] = true;
	return nonce;
}

/*
 * The next ids. Not nextval(): that would change what lastval() gives to the
 * DMS, whose next statement may well be SELECT lastval() (drivers do that to
 * tell an application which id its INSERT took). What is done to the sequence
 * is the same: under the exclusive lock of its only page, one WAL record for
 * 32 ids ahead, always a new one after a checkpoint.
 *
 * The lock on the sequence is the top transaction's, as nextval() has it.
 */
int64
dmshook_log_take_ids(int n)
{
	static LocalTransactionId locked_in = InvalidLocalTransactionId;
	static Oid	locked = InvalidOid;
	Relation	rel;
	Buffer		buffer;
	Page		page;
	ItemId		item;
	HeapTupleData tuple;
	Form_pg_sequence_data state;
	int64		first;
	int64		last;
	bool		log;
	Oid			sequence;

	/*
	 * A copy: taking a lock reads invalidations, and one for the log or its
	 * sequence (any VACUUM or ANALYZE sends it) forgets the Oids under us.
	 */
	(void) dmshook_log_table();
	sequence = event_sequence;
	if (locked != sequence || locked_in != MY_LXID)
	{
		ResourceOwner owner = CurrentResourceOwner;

		CurrentResourceOwner = TopTransactionResourceOwner;
		LockRelationOid(sequence, RowExclusiveLock);
		CurrentResourceOwner = owner;
		locked = sequence;
		locked_in = MY_LXID;
	}
	rel = relation_open(sequence, NoLock);
	buffer = ReadBuffer(rel, 0);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, FirstOffsetNumber);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple.t_len = ItemIdGetLength(item);
	state = (Form_pg_sequence_data) GETSTRUCT(&tuple);

	first = state->is_called ? state->last_value + 1 : state->last_value;
	last = first + n - 1;
	log = state->log_cnt < n || !state->is_called || PageGetLSN(page) <= GetRedoRecPtr();

	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	if (log)
	{
		/* what recovery is to find: all the ids ahead are used up */
		state->last_value = last + LOG_AHEAD;
		state->is_called = true;
		state->log_cnt = 0;
		log_sequence(rel, buffer, &tuple);
		state->log_cnt = LOG_AHEAD + n;
	}
	state->last_value = last;
	state->log_cnt -= n;
	END_CRIT_SECTION();

	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);
	return first;
}

/* The record that replay of sequences expects: where, and the whole tuple. */
static void
log_sequence(Relation rel, Buffer buffer, HeapTuple tuple)
{
	xl_seq_rec	record;
	XLogRecPtr	end;

	if (!RelationNeedsWAL(rel))
		return;
	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT);
#if PG_VERSION_NUM >= 160000
	record.locator = rel->rd_locator;
#else
	record.node = rel->rd_node;
#endif
	XLogRegisterData((char *) &record, sizeof(record));
	XLogRegisterData((char *) tuple->t_data, tuple->t_len);
	end = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
	PageSetLSN(BufferGetPage(buffer), end);
}

/*
 * The table has its primary key and nothing else, and that is done without an
 * executor state, which costs as much as the insert; an index that an admin
 * added, or a key of more columns, goes the long way.
 */
void
dmshook_log_index(Relation rel, TupleTableSlot **slots, const int64 *ids, int n)
{
	List	   *indexes = RelationGetIndexList(rel);
	bool		done = false;

	if (list_length(indexes) == 1 && linitial_oid(indexes) == rel->rd_pkindex)
	{
		Relation	index = index_open(rel->rd_pkindex, RowExclusiveLock);

		done = RelationGetDescr(index)->natts == 1;
		if (done)
			insert_keys(rel, index, slots, ids, n);
		index_close(index, NoLock);
	}
	if (!done)
	{
		EState	   *estate = CreateExecutorState();
		ResultRelInfo *result = makeNode(ResultRelInfo);

		InitResultRelInfo(result, rel, 0, NULL, 0);
		ExecOpenIndices(result, false);
		for (int i = 0; i < n; i++)
			(void) dmshook_insert_index_entries(result, slots[i], estate);
		ExecCloseIndices(result);
		FreeExecutorState(estate);
	}
	list_free(indexes);
}

/* The entries of the key: many together where that can be done, the others one by one. */
static void
insert_keys(Relation rel, Relation index, TupleTableSlot **slots, const int64 *ids, int n)
{
	IndexInfo  *info = NULL;
	int			misses = 0;

	for (int i = 0; i < n; i++)
	{
		Datum		value;
		bool		isnull = false;

		/* a page that is full is split by index_insert(), and then it goes on */
		if (misses < 2)
		{
			int			done = dmshook_index_append(index, slots + i, ids + i, n - i);

			misses = done > 0 ? 0 : misses + 1;
			i += done;
			if (i == n)
				break;
		}
		if (info == NULL)
			info = BuildIndexInfo(index);
		value = Int64GetDatum(ids[i]);
		index_insert(index, &value, &isnull, &slots[i]->tts_tid, rel, UNIQUE_CHECK_YES, false, info);
	}
}

/*
 * The random part of a message id: it keeps ids apart that are issued again
 * after a restore, so it need not be secret, only different.
 */
int64
dmshook_log_nonce(void)
{
	static pg_prng_state state;
	static bool seeded = false;

	/* never in the postmaster: its children would draw the same numbers */
	if (!seeded)
	{
		/* a source of randomness that fails must not fail the DMS */
		if (!pg_prng_strong_seed(&state))
			pg_prng_seed(&state, (uint64) GetCurrentTimestamp() ^ ((uint64) MyProcPid << 44));
		seeded = true;
	}
	return (int64) pg_prng_uint64(&state);
}

/* Who triggered it, as far as settings say; NULL: they do not. */
static const char *
setting_user(void)
{
	const char *name = dmshook_user;

	if ((name == NULL || *name == '\0') &&
		dmshook_user_setting != NULL && *dmshook_user_setting != '\0')
		name = GetConfigOption(dmshook_user_setting, true, false);
	return name != NULL && *name != '\0' ? name : NULL;
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* "label":"text"; bytes that are no characters (of a configuration file) become "?". */
static void
append_text(StringInfo buf, const char *label, const char *text, int len)
{
	appendStringInfo(buf, "%c\"%s\":", buf->len == VARHDRSZ ? '{' : ',', label);
	if (!pg_verifymbstr(text, len, true))
	{
		char	   *copy = pnstrdup(text, len);

		for (char *p = copy; *p; p++)
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
		text = copy;
	}
	dmshook_json_string(buf, text, len);
}

/* For the caller: while it logs, a condition's function may set another user, and so replace the cached one. */
static text *
who_copy(void)
{
	text	   *copy = palloc(VARSIZE(who_cache.who));

	memcpy(copy, who_cache.who, VARSIZE(who_cache.who));
	return copy;
}

/* The name of a role; one that was dropped while its session goes on must not stop it from writing. */
static char *
role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name ? name : psprintf("%u", role);
}

text *
dmshook_log_who(const char *name, int len)
{
	const char *setting = setting_user();
	Oid			session = GetSessionUserId();
	Oid			outer = GetOuterUserId();
	StringInfoData buf;
	const char *application = application_name ? application_name : "";
	char	   *role;
	bool		from_row = setting == NULL && name != NULL;

	if (!from_row && who_cache.valid && who_cache.session_user == session &&
		who_cache.outer_user == outer && same_text(who_cache.name, setting) &&
		same_text(who_cache.application, application))
		return who_copy();

	initStringInfo(&buf);
	appendStringInfoSpaces(&buf, VARHDRSZ);
	role = role_name(outer);
	if (setting != NULL)
		append_text(&buf, "name", setting, strlen(setting));
	else if (name != NULL)
		append_text(&buf, "name", name, len);
	else
	{
		char	   *user = role_name(session);

		append_text(&buf, "name", user, strlen(user));
	}
	append_text(&buf, "role", role, strlen(role));
	append_text(&buf, "application", application, strlen(application));
	appendStringInfoChar(&buf, '}');
	SET_VARSIZE(buf.data, buf.len);
	if (from_row)
		return (text *) buf.data;

	who_cache.valid = false;
	if (who_cache.who != NULL)
		pfree(who_cache.who);
	if (who_cache.name != NULL)
		pfree(who_cache.name);
	if (who_cache.application != NULL)
		pfree(who_cache.application);
	who_cache.who = NULL;
	who_cache.name = who_cache.application = NULL;
	who_cache.who = MemoryContextAlloc(TopMemoryContext, buf.len);
	memcpy(who_cache.who, buf.data, buf.len);
	who_cache.name = setting ? MemoryContextStrdup(TopMemoryContext, setting) : NULL;
	who_cache.application = MemoryContextStrdup(TopMemoryContext, application);
	who_cache.session_user = session;
	who_cache.outer_user = outer;
	who_cache.valid = true;
	return who_copy();
}
