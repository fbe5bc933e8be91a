/*
 * reader.c - which events are next: commit-safe reading of the log.
 *
 * Ids come from a sequence, so a lower id can become visible after a higher
 * one. This reads each committed event once, and none too few, without a lock
 * on writers.
 *
 * Writer: GetTopTransactionId(), then nextval (CACHE 1; ids for the rows at hand
 * and none for later), then the inserts, all in one top-level transaction
 * (capture_log.c).
 *
 * Reader: a gap noticed under the snapshot S gets the fence F =
 * ReadNextFullTransactionId(), read after S was taken. It is closed only when
 * a snapshot S' with xmin >= F was used for a read of the gap that found
 * nothing (S' may be S).
 *
 * Why that is right. Let A take the id g, and B the visible b > g. A's xid is
 * in the ProcArray before XidGenLock is released; A takes g, then B takes b
 * (the lock on the sequence's buffer puts these in order); B leaves the
 * ProcArray; then S is taken; then F is read, under XidGenLock. So xid(A) < F
 * <= S'.xmin: A had ended before S', and S' sees its row or nobody ever will,
 * for no later transaction may hold g, and nextval never returns it again. A
 * subtransaction's parent has its xid first. A prepared transaction's dummy
 * process is there before the backend's xid goes. Crash: a closed gap lies
 * below a committed id, the WAL of the sequence precedes that commit, so the
 * id is never issued again.
 *
 * Not right, each shown by losing events: F read before S; S.xmax for F (it is
 * one more than the last xid that ended, not the next one); an id taken before
 * the writer has its xid; a sequence that caches; ids above the sequence.
 *
 * Ids only are kept, never xids, beyond the life of a process. When a gap is
 * worth a look is in gaps.c.
 *
 * Process: the dispatcher, which runs rounds; any backend may fetch one event.
 * Transaction: the caller's, short, without an xid of its own in a round (own
 * rows would be seen before they are committed, and S lists no own xid).
 * Locks: AccessShareLock on the log, its index and its sequence. Memory: the
 * reader's in the caller's context; rows live in a context that is reset for each.
 * Never here: a write (but setval, when ids above the sequence were found),
 * SQL text, waiting.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "gaps.h"
#include "reader.h"

/*
 * At most this much of looking at gaps in a round, some two milliseconds: in
 * keys met in the index; a descent costs as much as several of them.
 */
#define LOOK_BUDGET		16384
#define DESCENT_COST	8

/*
 * So many entries of the index above high whose rows are not visible (an import
 * in an open transaction, or one that was rolled back) are remembered.
 */
#define TAIL_LENGTH		2048

/* How far above ids that did not come from it the sequence is set. */
#define SEQUENCE_LEAP	1000000

/* How often it is compared though no row was read; microseconds. */
#define SEQUENCE_EVERY	1000000

struct DmshookReader
{
	int64		high;			/* everything up to here was handed out, or is missing, or closed */
	bool		starting;		/* has not yet read to the end of the log once */
	TimestampTz sequence_at;	/* when its sequence was last compared */
	DmshookGaps *gaps;
	int64		tail;			/* > high: nothing above high up to here is visible.. */
	uint64		tail_fence;		/* ..as long as, of the xids below this.. */
	uint64		tail_live;		/* ..so many run: see note_tail() */
	int64		explicit_id;	/* found above the sequence; 0: none */
};

/* A scan of the log by id. */
typedef struct LogScan
{
	Relation	heap;
	Relation	index;
	IndexScanDesc scan;
	Snapshot	snapshot;
	TupleTableSlot *slot;		/* made when there is a row */
	MemoryContext context;		/* for what a row needs; likewise */
	XLogRecPtr	flushed;		/* at least this much of WAL is */
} LogScan;

/* Who is who, until an invalidation says that it may have changed. */
static Oid	log_heap = InvalidOid;
static Oid	log_index = InvalidOid;
static Oid	log_sequence = InvalidOid;
static bool sequence_checked = false;
static bool callbacks_registered = false;

/* WAL up to here holds the commits of all rows that were handed out. */
static XLogRecPtr flush_upto = InvalidXLogRecPtr;
static TransactionId flush_xid = InvalidTransactionId;

static void *reader_resize(void *arg, void *old, size_t size);
static void forget_relations(Datum arg, Oid relid);
static void forget_sequence(Datum arg, int cacheid, uint32 hashvalue);
static void find_relations(void);
static void log_open(LogScan *log, Snapshot snapshot);
static void log_range(LogScan *log, int64 first, int64 last, bool keys);
static bool log_next(LogScan *log, ScanDirection direction);
static int64 log_key(LogScan *log);
static int64 log_last(LogScan *log, int64 above);
static bool log_row(LogScan *log);
static int64 log_id(LogScan *log);
static void log_hand_out(LogScan *log, DmshookRowCallback callback, void *arg);
static void log_close(LogScan *log);
static DmshookSpan row_span(TupleTableSlot *slot, int attnum);
static void note_commit(LogScan *log);
static void snapshot_xids(Snapshot snapshot, DmshookXids *xids);
static void look_at_gaps(DmshookReader *reader, LogScan *log, DmshookRowCallback late, void *arg);
static int64 skip_tail(DmshookReader *reader, LogScan *log);
static void note_tail(DmshookReader *reader, LogScan *log);
static bool read_new(DmshookReader *reader, LogScan *log, int limit, DmshookRowCallback fresh, void *arg);
static void check_sequence(void);
static int64 sequence_last(void);
static void mend_sequence(DmshookReader *reader, LogScan *log);

DmshookReader *
dmshook_reader_create(MemoryContext context, int64 low)
{
	DmshookReader *reader = MemoryContextAllocZero(context, sizeof(DmshookReader));

	reader->high = low;
	reader->starting = true;
	reader->gaps = dmshook_gaps_create(reader_resize, context);
	return reader;
}

static void *
reader_resize(void *arg, void *old, size_t size)
{
	if (size == 0)
	{
		pfree(old);
		return NULL;
	}
	if (old == NULL)
		return MemoryContextAllocExtended(arg, size, MCXT_ALLOC_HUGE);
	return repalloc_huge(old, size);
}

/* ------------------------------------------------------------ the relations */

static void
forget_relations(Datum arg pg_attribute_unused(), Oid relid)
{
	if (relid == InvalidOid || relid == log_heap || relid == log_index || relid == log_sequence)
	{
		log_heap = InvalidOid;
		sequence_checked = false;
	}
}

static void
forget_sequence(Datum arg pg_attribute_unused(), int cacheid pg_attribute_unused(),
				uint32 hashvalue pg_attribute_unused())
{
	sequence_checked = false;
}

static void
find_relations(void)
{
	Oid			schema;
	Oid			heap_oid;
	Oid			index_oid;
	Oid			sequence_oid;
	Relation	heap;

	if (!callbacks_registered)
	{
		CacheRegisterRelcacheCallback(forget_relations, (Datum) 0);
		CacheRegisterSyscacheCallback(SEQRELID, forget_sequence, (Datum) 0);
		callbacks_registered = true;
	}
	schema = get_namespace_oid("dmshook", true);
	heap_oid = OidIsValid(schema) ? get_relname_relid("event", schema) : InvalidOid;
	sequence_oid = OidIsValid(schema) ? get_relname_relid("event_id", schema) : InvalidOid;
	if (!OidIsValid(heap_oid) || !OidIsValid(sequence_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("dmshook's log of events does not exist in this database"),
				 errhint("Run CREATE EXTENSION dmshook.")));
	heap = table_open(heap_oid, AccessShareLock);
	index_oid = dmshook_primary_key(heap);
	table_close(heap, NoLock);
	if (!OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table dmshook.event has no primary key"),
				 errhint("Run ALTER TABLE dmshook.event ADD PRIMARY KEY (id).")));

	/* kept only now: what was locked above may have brought in an invalidation */
	log_heap = heap_oid;
	log_index = index_oid;
	log_sequence = sequence_oid;
}

/* ------------------------------------------------------------------- a scan */

static void
log_open(LogScan *log, Snapshot snapshot)
{
	/* getting the lock may tell that the index is another one by now (REINDEX CONCURRENTLY) */
	for (;;)
	{
		if (!OidIsValid(log_heap))
			find_relations();
		log->heap = table_open(log_heap, AccessShareLock);
		if (OidIsValid(log_heap))
			break;
		table_close(log->heap, AccessShareLock);
	}
	log->index = index_open(log_index, AccessShareLock);
	log->scan = dmshook_index_beginscan(log->heap, log->index, snapshot, 2);
	log->snapshot = snapshot;
	log->slot = NULL;
	log->context = NULL;
	log->flushed = InvalidXLogRecPtr;
}

/* keys: log_key() is to be asked, before the row or instead of it; costs a little. */
static void
log_range(LogScan *log, int64 first, int64 last, bool keys)
{
	ScanKeyData key[2];

	ScanKeyInit(&key[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first));
	ScanKeyInit(&key[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
	log->scan->xs_want_itup = keys;
	index_rescan(log->scan, key, 2, NULL, 0);
}

/* The next entry in the range; its row may be invisible, or dead. */
static bool
log_next(LogScan *log, ScanDirection direction)
{
	CHECK_FOR_INTERRUPTS();
	return index_getnext_tid(log->scan, direction) != NULL;
}

static int64
log_key(LogScan *log)
{
	bool		isnull;

	return DatumGetInt64(index_getattr(log->scan->xs_itup, 1, log->scan->xs_itupdesc, &isnull));
}

/* The highest key there is, visible or not, or `above` when none is above that. */
static int64
log_last(LogScan *log, int64 above)
{
	if (above == PG_INT64_MAX)
		return above;
	log_range(log, above + 1, PG_INT64_MAX, true);
	return log_next(log, BackwardScanDirection) ? log_key(log) : above;
}

/* Get the row of that entry into the slot; false: it is not visible. */
static bool
log_row(LogScan *log)
{
	if (log->slot == NULL)
	{
		log->slot = table_slot_create(log->heap, NULL);
		log->context = AllocSetContextCreate(CurrentMemoryContext, "dmshook event", ALLOCSET_DEFAULT_SIZES);
		log->flushed = GetFlushRecPtr(NULL);
	}
	return index_fetch_heap(log->scan, log->slot);
}

/* The id of the row in the slot. */
static int64
log_id(LogScan *log)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(log->slot, Anum_event_id, &isnull));
}

static DmshookSpan
row_span(TupleTableSlot *slot, int attnum)
{
	DmshookSpan span = {NULL, 0};

	if (!slot->tts_isnull[attnum - 1])
	{
		struct varlena *value = PG_DETOAST_DATUM_PACKED(slot->tts_values[attnum - 1]);

		span.data = VARDATA_ANY(value);
		span.len = VARSIZE_ANY_EXHDR(value);
	}
	return span;
}

/* Give the row in the slot to the caller. */
static void
log_hand_out(LogScan *log, DmshookRowCallback callback, void *arg)
{
	TupleTableSlot *slot = log->slot;
	MemoryContext caller = MemoryContextSwitchTo(log->context);
	DmshookEvent event;

	note_commit(log);
	slot_getsomeattrs(slot, Natts_event);
	event.id = DatumGetInt64(slot->tts_values[Anum_event_id - 1]);
	event.nonce = DatumGetInt64(slot->tts_values[Anum_event_nonce - 1]);
	event.at = DatumGetTimestampTz(slot->tts_values[Anum_event_at - 1]);
	event.erased = !slot->tts_isnull[Anum_event_erased_at - 1];
	event.type = row_span(slot, Anum_event_type);
	event.tenant = row_span(slot, Anum_event_tenant);
	event.old_tenant = row_span(slot, Anum_event_old_tenant);
	event.entity = row_span(slot, Anum_event_entity);
	event.key = DatumGetJsonbP(slot->tts_values[Anum_event_key - 1]);
	event.who = row_span(slot, Anum_event_who);
	event.source = row_span(slot, Anum_event_source);
	event.data = row_span(slot, Anum_event_data);
	MemoryContextSwitchTo(caller);
	callback(&event, arg);
	MemoryContextReset(log->context);
}

static void
log_close(LogScan *log)
{
	if (log->slot)
	{
		ExecDropSingleTupleTableSlot(log->slot);
		MemoryContextDelete(log->context);
	}
	index_endscan(log->scan);
	index_close(log->index, NoLock);
	table_close(log->heap, NoLock);
}

/* -------------------------------------------------------- durable before sent */

/*
 * With synchronous_commit = off a row can be visible that a crash will take
 * back. Note up to where WAL must be flushed before the row in the slot may
 * leave this machine.
 *
 * A row whose xmin has no hint yet: TransactionIdGetCommitLSN(xmin). It is
 * zero for a synchronous commit, which flushed before it became visible, so
 * nothing is asked for; else it is at or a little behind the commit record
 * (a group of xids shares one); and when its page of the commit log left memory, WAL
 * was flushed up to it first.
 *
 * The hint bit alone says nothing: SetHintBits() sets it when the commit is
 * flushed, or when the page's LSN is at or behind the commit's anyway. So a hint and a
 * page whose LSN is flushed (the common case when reading older rows, and cheap)
 * means: durable. Otherwise ask as above, which a frozen row does not allow, its
 * xid may be too old to be asked for: then the page's LSN.
 *
 * A row that was written by UPDATE (erase) carries the xid of that, which
 * began after the insert's commit was visible: its commit record lies behind.
 */
static void
note_commit(LogScan *log)
{
	HeapTupleHeader tuple;
	XLogRecPtr	lsn;

	if (!TTS_IS_BUFFERTUPLE(log->slot))
	{
		/* not a heap: everything so far */
		lsn = GetXLogInsertRecPtr();
	}
	else
	{
		BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) log->slot;

		tuple = slot->base.tuple->t_data;
		if (HeapTupleHeaderXminCommitted(tuple))
		{
			lsn = BufferGetLSNAtomic(slot->buffer);
			if (lsn <= log->flushed)
				return;
			if (!HeapTupleHeaderXminFrozen(tuple))
				lsn = InvalidXLogRecPtr;
		}
		else
			lsn = InvalidXLogRecPtr;
		if (lsn == InvalidXLogRecPtr)
		{
			TransactionId xid = HeapTupleHeaderGetRawXmin(tuple);

			if (xid == flush_xid)
				return;			/* its LSN was noted, with an earlier row */
			flush_xid = xid;
			lsn = TransactionIdGetCommitLSN(xid);
		}
	}
	if (lsn > flush_upto)
		flush_upto = lsn;
}

XLogRecPtr
dmshook_reader_take_flush(DmshookReader *reader pg_attribute_unused())
{
	XLogRecPtr	lsn = flush_upto;

	flush_upto = InvalidXLogRecPtr;
	flush_xid = InvalidTransactionId;
	return lsn;
}

/* ------------------------------------------------------------------ a round */

/* The caller has taken the snapshot before: what is read here is the fence. */
static void
snapshot_xids(Snapshot snapshot, DmshookXids *xids)
{
	xids->next = U64FromFullTransactionId(ReadNextFullTransactionId());
	xids->xmax = xids->next - (uint32) ((uint32) xids->next - snapshot->xmax);
	xids->running = snapshot->xip;
	xids->nrunning = snapshot->xcnt;
}

bool
dmshook_reader_round(DmshookReader *reader, Snapshot snapshot, int limit,
					 DmshookRowCallback late, DmshookRowCallback fresh, void *arg)
{
	DmshookXids xids;
	LogScan		log;
	int64		high = reader->high;
	TimestampTz now;
	bool		more;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		elog(ERROR, "the log of events is to be read in a transaction without an xid");
	Assert(IsMVCCSnapshot(snapshot) && !snapshot->takenDuringRecovery);

	log_open(&log, snapshot);
	if (!sequence_checked)
		check_sequence();

	/*
	 * What sits in older gaps goes out first. The gaps that new rows will show
	 * need no look now: that they are missing is seen under the same snapshot.
	 */
	if (dmshook_gaps_epochs(reader->gaps) > 0)
	{
		snapshot_xids(snapshot, &xids);
		dmshook_gaps_begin(reader->gaps, &xids);
		look_at_gaps(reader, &log, late, arg);
	}
	more = read_new(reader, &log, limit, fresh, arg);

	/*
	 * An id above the sequence means that lower ids will be issued later, by
	 * transactions above any fence: before the fence is read the sequence must be put
	 * above it. Where nothing was read once a second will do, to notice
	 * who sets it back to below what was read, and so hides all that follows.
	 */
	now = GetCurrentTransactionStartTimestamp();
	if (reader->high != high || now - reader->sequence_at >= SEQUENCE_EVERY)
	{
		if (sequence_last() < reader->high)
			mend_sequence(reader, &log);
		reader->sequence_at = now;
	}

	/* the fence: after the reads, hence after the snapshot */
	if (dmshook_gaps_unfenced(reader->gaps))
	{
		snapshot_xids(snapshot, &xids);
		dmshook_gaps_fence(reader->gaps, reader->high, &xids, reader->starting, now);
	}
	log_close(&log);
	if (!more)
		reader->starting = false;
	return more || dmshook_gaps_looking(reader->gaps);
}

/* Read missing ids where something may have come, as much as a round may take. */
static void
look_at_gaps(DmshookReader *reader, LogScan *log, DmshookRowCallback late, void *arg)
{
	DmshookLook look;
	int			budget = LOOK_BUDGET;

	while (dmshook_gaps_look(reader->gaps, &look))
	{
		int64		upto = look.last;

		if (budget <= 0)
			return;
		budget -= DESCENT_COST;
		log_range(log, look.first, look.last, true);
		while (log_next(log, ForwardScanDirection))
		{
			int64		id = log_key(log);

			if ((look.solid || dmshook_gaps_has(reader->gaps, id)) && log_row(log))
			{
				dmshook_gaps_take(reader->gaps, id);
				log_hand_out(log, late, arg);
			}
			if (--budget <= 0)
			{
				upto = id;
				break;
			}
		}
		dmshook_gaps_looked(reader->gaps, upto);
	}
}

/*
 * Rows that are written and not committed, above high, would be met again in
 * every round, for as long as nobody commits a higher id. So once there were
 * many, their end is noted with a fence, which all that can fill ids up to there are below, and
 * the number of those that ran; while that stays the same, none of them ended.
 * (The taker of the last id had its row in the index before this was read, so the
 * takers of lower ids had their xids.) An end of any of them: read all again.
 */
static void
note_tail(DmshookReader *reader, LogScan *log)
{
	int64		tail;
	DmshookXids xids;

	/* entries that came since they were read belong to transactions that S sees as running */
	tail = log_last(log, Max(reader->high, reader->tail));
	if (tail > sequence_last())
	{
		reader->tail = 0;		/* lower ids are still to be issued */
		return;
	}
	reader->tail = tail;
	snapshot_xids(log->snapshot, &xids);
	reader->tail_fence = xids.next;
	reader->tail_live = dmshook_gaps_live(&xids, xids.next);
}

/* Up to where nothing can be visible that was not in the last round. */
static int64
skip_tail(DmshookReader *reader, LogScan *log)
{
	if (reader->tail > reader->high)
	{
		DmshookXids xids;

		snapshot_xids(log->snapshot, &xids);
		if (dmshook_gaps_live(&xids, reader->tail_fence) == reader->tail_live)
			return reader->tail;
	}
	return reader->high;
}

/* Rows above high; the ids between them become missing. Returns whether the limit ended it. */
static bool
read_new(DmshookReader *reader, LogScan *log, int limit, DmshookRowCallback fresh, void *arg)
{
	int			n = 0;
	int			invisible = 0;

	log_range(log, skip_tail(reader, log) + 1, PG_INT64_MAX, false);
	while (n < limit && log_next(log, ForwardScanDirection))
	{
		int64		id;

		if (!log_row(log))
		{
			invisible++;
			continue;
		}
		invisible = 0;
		id = log_id(log);
		if (id > reader->high + 1)
			dmshook_gaps_add(reader->gaps, reader->high + 1, id - 1);
		reader->high = id;
		log_hand_out(log, fresh, arg);
		n++;
	}
	if (n >= limit)
		return true;
	if (invisible > TAIL_LENGTH || reader->tail > reader->high)
		note_tail(reader, log);
	return false;
}

/* ------------------------------------------------------------- the sequence */

/* Its parameters are part of the proof. */
static void
check_sequence(void)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(log_sequence));
	Form_pg_sequence form;
	bool		good;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("dmshook.event_id is not a sequence")));
	form = (Form_pg_sequence) GETSTRUCT(tuple);
	good = form->seqcache == 1 && form->seqincrement == 1 && !form->seqcycle;
	ReleaseSysCache(tuple);
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence dmshook.event_id must have CACHE 1, INCREMENT 1 and NO CYCLE"),
				 errdetail("Events that commit with ids out of order could be missed."),
				 errhint("Run ALTER SEQUENCE dmshook.event_id CACHE 1 INCREMENT 1 NO CYCLE, and end sessions that have used it before.")));
	sequence_checked = true;
}

/* The last id that was issued; 0: none. */
static int64
sequence_last(void)
{
	Relation	sequence = relation_open(log_sequence, AccessShareLock);
	Buffer		buffer = ReadBuffer(sequence, 0);
	HeapTupleData tuple;
	Page		page;
	ItemId		item;
	Form_pg_sequence_data data;
	int64		last;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, FirstOffsetNumber);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple.t_len = ItemIdGetLength(item);
	data = (Form_pg_sequence_data) GETSTRUCT(&tuple);
	last = data->is_called ? data->last_value : data->last_value - 1;
	UnlockReleaseBuffer(buffer);
	relation_close(sequence, NoLock);
	return last;
}

/*
 * There are ids that the sequence did not issue, or it was set back: put it
 * well above all there are, visible or not.
 */
static void
mend_sequence(DmshookReader *reader, LogScan *log)
{
	int64		last = sequence_last();
	int64		most = log_last(log, reader->high);

	reader->explicit_id = most;
	most = most > PG_INT64_MAX - SEQUENCE_LEAP ? PG_INT64_MAX : most + SEQUENCE_LEAP;
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(log_sequence), Int64GetDatum(most));
	ereport(WARNING,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("sequence dmshook.event_id stood at %lld, below the id %lld that was found in dmshook.event",
					(long long) last, (long long) reader->explicit_id),
			 errdetail("It was set to %lld.", (long long) most),
			 errhint("Ids of events must come from the sequence: write events with dmshook's triggers and dmshook.emit() only.")));
}

int64
dmshook_reader_take_explicit(DmshookReader *reader)
{
	int64		id = reader->explicit_id;

	reader->explicit_id = 0;
	return id;
}

/* ------------------------------------------------------------ other readers */

int64
dmshook_reader_scan(DmshookReader *reader, Snapshot snapshot, int64 after, int64 upto,
					int limit, DmshookRowCallback row, void *arg)
{
	LogScan		log;
	int64		end = upto;
	int64		missing = dmshook_gaps_next(reader->gaps, after + 1);
	bool		holes = missing != 0 && missing <= upto;
	int			n = 0;

	Assert(upto <= reader->high);
	if (after >= upto)
		return upto;
	if (limit <= 0)
		return after;
	log_open(&log, snapshot);
	log_range(&log, after + 1, upto, holes);
	while (log_next(&log, ForwardScanDirection))
	{
		if ((holes && dmshook_gaps_has(reader->gaps, log_key(&log))) || !log_row(&log))
			continue;
		log_hand_out(&log, row, arg);
		if (++n >= limit)
		{
			end = log_id(&log);
			break;
		}
	}
	log_close(&log);
	return end;
}

bool
dmshook_reader_fetch(Snapshot snapshot, int64 id, DmshookRowCallback row, void *arg)
{
	LogScan		log;
	bool		found = false;

	log_open(&log, snapshot);
	log_range(&log, id, id, false);
	while (!found && log_next(&log, ForwardScanDirection))
	{
		if (log_row(&log))
		{
			log_hand_out(&log, row, arg);
			found = true;
		}
	}
	log_close(&log);
	return found;
}

/* -------------------------------------------------------------------- state */

int64
dmshook_reader_high(const DmshookReader *reader)
{
	return reader->high;
}

int64
dmshook_reader_low(const DmshookReader *reader)
{
	int64		missing = dmshook_gaps_next(reader->gaps, 1);

	return missing != 0 ? missing - 1 : reader->high;
}

bool
dmshook_reader_looking(const DmshookReader *reader)
{
	return dmshook_gaps_looking(reader->gaps);
}

bool
dmshook_reader_missing(const DmshookReader *reader, int64 id)
{
	return id > 0 && dmshook_gaps_has(reader->gaps, id);
}

void
dmshook_reader_gaps(const DmshookReader *reader, uint64 *missing, TimestampTz *since, uint64 *fence)
{
	*missing = dmshook_gaps_count(reader->gaps);
	*since = 0;
	*fence = 0;
	dmshook_gaps_oldest(reader->gaps, fence, since);
}

bool
dmshook_reader_has_gaps(const DmshookReader *reader)
{
	return dmshook_gaps_epochs(reader->gaps) > 0;
}
