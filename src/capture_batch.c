/*
 * capture_batch.c - the events of a statement, gathered and written together.
 *
 * Runs in the backend that writes the rows, inside its statement. Up to 64
 * events wait as finished tuples without an id; then, and when the statement
 * ends, they get ids (one look at the sequence), a multi-insert and their index
 * entries. That halves what an event costs in a bulk statement.
 *
 * A statement ends where ExecutorFinish (which fires its row triggers) or COPY
 * returns; hooks tell. Outside of these, and in the first statement of a session
 * that had to load the library, events are written one by one.
 *
 * Nothing may be seen to be late, and nothing may be lost or invented:
 *
 * - Order. Ids are taken in the order in which events were gathered, and before
 *   anything else takes one: dmshook_log_event() writes what waits first.
 * - Subtransactions. What waits belongs to one subtransaction and is written in
 *   it. When another begins while something waits (a trigger of the same
 *   statement catches exceptions, or a condition may fail), that gets its ids,
 *   so the order stands, and waits on; the inner one writes its events singly.
 *   A subtransaction that ends with events of its own writes them, one that is
 *   rolled back drops them.
 * - Visibility. A query inside the statement (of a trigger) that names the log,
 *   and whatever writes, makes them be written; they carry the command id of
 *   the first, so such a query sees them. Only one in an inner subtransaction
 *   does not see what the outer one has not written.
 * - Ids after the xid: the xid is assigned when the first is gathered.
 * - The transaction ends: nothing can be waiting then; should it be, it is
 *   written before the commit.
 *
 * Memory: a context of the backend's, emptied at each write, 256 kB of events
 * at most (or one that is larger). The slots live as long as the log's shape.
 *
 * Never here: an event that outlives its statement, or is written in another
 * subtransaction than its change.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "tcop/utility.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "capture_batch.h"
#include "capture_tuple.h"
#include "event.h"
#include "wake.h"

#define BATCH_EVENTS	64
#define BATCH_BYTES		((Size) 256 * 1024)

/* Room for a batch of usual events, kept: the operating system gives only the pages that are used. */
#define FIRST_BLOCK		(128 * 1024)

/* What waits. */
static struct
{
	MemoryContext context;		/* of the tuples */
	int			n;
	int			numbered;		/* so many of them have an id */
	Size		bytes;
	Oid			table;			/* the log */
	SubTransactionId subtransaction;
	CommandId	command;
	bool		writing;		/* an error may have left the slots as they were */
	HeapTuple	tuples[BATCH_EVENTS];
	int64		ids[BATCH_EVENTS];
}			batch;

/* The log's columns, and slots of that shape, as they are when "table" is its Oid. */
static struct
{
	MemoryContext context;
	Oid			table;
	TupleDesc	desc;
	bool		plain;			/* capture_tuple.c knows it; else the next two are used */
	Datum	   *values;
	bool	   *nulls;
	TupleTableSlot *slots[BATCH_EVENTS];
	int			nslots;			/* so many are made */
}			shape;

/* How many statements that tell their end are at work. */
static int	statements = 0;
static uint64 statement_number = 0; /* of the outermost */

static ExecutorStart_hook_type prev_start = NULL;
static ExecutorFinish_hook_type prev_finish = NULL;
static ProcessUtility_hook_type prev_utility = NULL;

static void find_shape(void);
static void make_slots(int n);
static void forget_shape(Datum arg, Oid relid);
static void number_events(void);
static void drop_events(void);
static void watch_transactions(void);
static void batch_xact(XactEvent event, void *arg);
static void batch_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg);
static void batch_start(QueryDesc *query, int flags);
static void batch_finish(QueryDesc *query);
static void batch_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
						  ProcessUtilityContext context, ParamListInfo params,
						  QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc);

void
dmshook_batch_init(void)
{
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = batch_start;
	prev_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = batch_finish;
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = batch_utility;
	CacheRegisterRelcacheCallback(forget_shape, (Datum) 0);
}

/* ---- gathering and writing ---- */

void
dmshook_batch_event(const DmshookNewEvent *event)
{
	MemoryContext old;

	/* nobody would tell of an end; or what waits is an outer subtransaction's */
	if (statements == 0 || batch.writing ||
		(batch.n > 0 && batch.subtransaction != GetCurrentSubTransactionId()))
	{
		int64		nonce;

		(void) dmshook_log_event(event, &nonce);
		return;
	}

	find_shape();
	if (batch.n == 0)
	{
		watch_transactions();
		/* the writer's rule: an xid, then an id, then the row */
		(void) GetTopTransactionId();
		batch.table = shape.table;
		batch.subtransaction = GetCurrentSubTransactionId();
		batch.command = GetCurrentCommandId(true);
		dmshook_wake_at_commit();
	}
	old = MemoryContextSwitchTo(batch.context);
	if (likely(shape.plain))
		batch.tuples[batch.n] = dmshook_tuple_form(event, dmshook_log_nonce());
	else
	{
		(void) dmshook_log_fill(event, shape.desc, shape.values, shape.nulls);
		batch.tuples[batch.n] = heap_form_tuple(shape.desc, shape.values, shape.nulls);
	}
	MemoryContextSwitchTo(old);
	batch.bytes += batch.tuples[batch.n]->t_len;
	batch.n++;
	if (batch.n == BATCH_EVENTS || batch.bytes > BATCH_BYTES)
		dmshook_batch_write();
}

void
dmshook_batch_write(void)
{
	Relation	rel;
	MemoryContext old;

	/* nothing can be written while a parallel query is at work */
	if (batch.n == 0 || batch.writing || batch.subtransaction != GetCurrentSubTransactionId() || IsInParallelMode())
		return;

	rel = table_open(dmshook_log_table(), RowExclusiveLock);
	find_shape();
	old = MemoryContextSwitchTo(batch.context);
	number_events();
	make_slots(batch.n);
	batch.writing = true;
	for (int i = 0; i < batch.n; i++)
		ExecStoreHeapTuple(batch.tuples[i], shape.slots[i], true);
	table_multi_insert(rel, shape.slots, batch.n, batch.command, 0, NULL);
	dmshook_log_index(rel, shape.slots, batch.ids, batch.n);
	for (int i = 0; i < batch.n; i++)
		ExecClearTuple(shape.slots[i]);
	batch.writing = false;
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
	drop_events();
}

/* Ids for those that have none. The id is the first column, and never NULL. */
static void
number_events(void)
{
	int64		id;

	if (batch.numbered == batch.n)
		return;
	id = dmshook_log_take_ids(batch.n - batch.numbered);
	for (; batch.numbered < batch.n; batch.numbered++, id++)
	{
		HeapTupleHeader header = batch.tuples[batch.numbered]->t_data;

		memcpy((char *) header + header->t_hoff, &id, sizeof(id));
		batch.ids[batch.numbered] = id;
	}
}

static void
drop_events(void)
{
	batch.n = batch.numbered = 0;
	batch.bytes = 0;
	if (batch.context != NULL)
		MemoryContextReset(batch.context);
	if (batch.writing)
	{
		/* the slots point to what is gone now */
		batch.writing = false;
		shape.table = InvalidOid;
	}
}

/* ---- the log's shape ---- */

static void
find_shape(void)
{
	Oid			table = dmshook_log_table();
	Relation	rel;
	MemoryContext old;

	if (likely(shape.table == table))
		return;
	if (batch.context == NULL)
		batch.context = AllocSetContextCreate(TopMemoryContext, "dmshook events", 0, FIRST_BLOCK, ALLOCSET_DEFAULT_MAXSIZE);
	if (shape.context == NULL)
		shape.context = AllocSetContextCreate(TopMemoryContext, "dmshook log", ALLOCSET_SMALL_SIZES);
	else
		MemoryContextReset(shape.context);
	shape.table = InvalidOid;

	rel = table_open(table, RowExclusiveLock);
	old = MemoryContextSwitchTo(shape.context);
	shape.desc = CreateTupleDescCopy(RelationGetDescr(rel));
	shape.plain = dmshook_tuple_is_plain(shape.desc);
	shape.values = palloc0(sizeof(Datum) * shape.desc->natts);
	shape.nulls = palloc0(sizeof(bool) * shape.desc->natts);
	shape.nslots = 0;
	MemoryContextSwitchTo(old);
	table_close(rel, NoLock);
	shape.table = table;
}

/* Most sessions never write many rows in a statement. */
static void
make_slots(int n)
{
	MemoryContext old = MemoryContextSwitchTo(shape.context);

	for (; shape.nslots < n; shape.nslots++)
		shape.slots[shape.nslots] = MakeSingleTupleTableSlot(shape.desc, &TTSOpsHeapTuple);
	MemoryContextSwitchTo(old);
}

/* Not freed: it may be in use. */
static void
forget_shape(Datum arg pg_attribute_unused(), Oid relid)
{
	if (relid == InvalidOid || relid == shape.table)
		shape.table = InvalidOid;
}

/* ---- the ends of transactions ---- */

static void
watch_transactions(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(batch_xact, NULL);
	RegisterSubXactCallback(batch_subxact, NULL);
	registered = true;
}

static void
batch_xact(XactEvent event, void *arg pg_attribute_unused())
{
	if (batch.n == 0)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			dmshook_batch_write();
			break;
		case XACT_EVENT_ABORT:
			drop_events();
			break;
		default:
			break;
	}
}

static void
batch_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent pg_attribute_unused(),
			  void *arg pg_attribute_unused())
{
	if (batch.n == 0)
		return;
	switch (event)
	{
		case SUBXACT_EVENT_START_SUB:
			number_events();
			break;
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			if (batch.subtransaction == mine)
				dmshook_batch_write();
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			if (batch.subtransaction == mine)
				drop_events();
			break;
		default:
			break;
	}
}

/* ---- the ends of statements ---- */

uint64
dmshook_batch_statement(void)
{
	return statements > 0 ? statement_number : 0;
}

static void
batch_start(QueryDesc *query, int flags)
{
	if (unlikely(batch.n > 0))
	{
		ListCell   *lc;

		foreach(lc, query->plannedstmt->rtable)
		{
			if (lfirst_node(RangeTblEntry, lc)->relid != batch.table)
				continue;
			dmshook_batch_write();
			break;
		}
	}
	if (prev_start)
		prev_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
batch_finish(QueryDesc *query)
{
	if (statements++ == 0)
		statement_number++;
	PG_TRY();
	{
		if (prev_finish)
			prev_finish(query);
		else
			standard_ExecutorFinish(query);
	}
	PG_FINALLY();
	{
		statements--;
	}
	PG_END_TRY();
	/* checks of foreign keys are SELECTs inside the statement, one a row: what waits may wait on */
	if (unlikely(batch.n > 0) &&
		(statements == 0 || query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE))
		dmshook_batch_write();
}

static void
batch_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	/* volatile: so that compilers do not fear for it across the longjmp */
	ProcessUtility_hook_type volatile next = prev_utility ? prev_utility : standard_ProcessUtility;

	if (!IsA(pstmt->utilityStmt, CopyStmt) || !castNode(CopyStmt, pstmt->utilityStmt)->is_from)
	{
		next(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
		return;
	}
	if (statements++ == 0)
		statement_number++;
	PG_TRY();
	{
		next(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	}
	PG_FINALLY();
	{
		statements--;
	}
	PG_END_TRY();
	dmshook_batch_write();
}
