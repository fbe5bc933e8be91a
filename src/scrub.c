/*
 * scrub.c - what was erased leaves the files of the tables, too.
 *
 * An UPDATE leaves the old version of a row on its page. VACUUM takes it from there by
 * moving the others together: its bytes stay in what is now the free space of the
 * page, or of a page of the TOAST table, until something is written over them. So erase()
 * notes the pages (_places()), and here, once no snapshot can see the old version any
 * more, the page is pruned and all bytes that belong to no row are zeroed (_scrub_page()):
 * its free space, and the up to seven between two rows that alignment leaves, for a
 * row that is put where an older one stood is not written over those.
 *
 * Runs in the dispatcher (by dmshook._scrub()), in a short transaction; locks
 * a page as an ordinary writer does. The page is written to WAL as the full image of a generic
 * record: a standby's page is clean, too. WAL and backups of before
 * are not touched. Nothing here decides what is erased.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/generic_xlog.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/toast_internals.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PGDLLEXPORT Datum dmshook_sql_places(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum dmshook_sql_scrub_page(PG_FUNCTION_ARGS);

/* 19 hands the visibility map's page along */
#if PG_VERSION_NUM >= 190000
static void
prune(Relation rel, Buffer buffer)
{
	Buffer		map = InvalidBuffer;

	heap_page_prune_opt(rel, buffer, &map, false);
	if (BufferIsValid(map))
		ReleaseBuffer(map);
}
#else
#define prune(rel, buffer) heap_page_prune_opt(rel, buffer)
#endif

static void
put_place(ReturnSetInfo *result, Oid rel, BlockNumber block)
{
	Datum		values[2] = {ObjectIdGetDatum(rel), Int64GetDatum((int64) block)};
	bool		nulls[2] = {false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* The pages of a value that is stored out of line; all versions of it, whoever sees them. */
static void
put_toast_places(ReturnSetInfo *result, struct varlena *value)
{
	struct varatt_external pointer;
	Relation	toast;
	Relation   *indexes;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int			valid;
	int			n;

	VARATT_EXTERNAL_GET_POINTER(pointer, value);
	toast = table_open(pointer.va_toastrelid, AccessShareLock);
	valid = toast_open_indexes(toast, AccessShareLock, &indexes, &n);
	ScanKeyInit(&key, (AttrNumber) 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(pointer.va_valueid));
	scan = systable_beginscan_ordered(toast, indexes[valid], SnapshotAny, 1, &key);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
		put_place(result, RelationGetRelid(toast), ItemPointerGetBlockNumber(&tuple->t_self));
	systable_endscan_ordered(scan);
	toast_close_indexes(indexes, n, AccessShareLock);
	table_close(toast, AccessShareLock);
}

/* _places(tab regclass, rows tid[]): setof (rel oid, block bigint), some of them more than once. */
PG_FUNCTION_INFO_V1(dmshook_sql_places);
Datum
dmshook_sql_places(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel;
	TupleTableSlot *slot;
	Datum	   *tids;
	bool	   *nulls;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT, &tids, &nulls, &n);
	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	slot = table_slot_create(rel, NULL);
	for (int i = 0; i < n; i++)
	{
		ItemPointer tid = (ItemPointer) DatumGetPointer(tids[i]);

		if (nulls[i] || !table_tuple_fetch_row_version(rel, tid, SnapshotAny, slot))
			continue;
		put_place(result, RelationGetRelid(rel), ItemPointerGetBlockNumber(tid));
		slot_getallattrs(slot);
		for (int col = 0; col < slot->tts_tupleDescriptor->natts; col++)
		{
			struct varlena *value = (struct varlena *) DatumGetPointer(slot->tts_values[col]);

			if (!slot->tts_isnull[col] && TupleDescAttr(slot->tts_tupleDescriptor, col)->attlen == -1 && VARATT_IS_EXTERNAL_ONDISK(value))
				put_toast_places(result, value);
		}
		ExecClearTuple(slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	PG_RETURN_NULL();
}

/* Is there a version of a row that somebody has deleted or replaced, and did not abort? */
static bool
holds_old_version(Page page)
{
	OffsetNumber last = PageGetMaxOffsetNumber(page);

	for (OffsetNumber i = FirstOffsetNumber; i <= last; i++)
	{
		ItemId		item = PageGetItemId(page, i);
		HeapTupleHeader tuple;
		TransactionId xid;

		if (!ItemIdIsNormal(item))
			continue;
		tuple = (HeapTupleHeader) PageGetItem(page, item);
		if ((tuple->t_infomask & HEAP_XMAX_INVALID) || HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask))
			continue;
		xid = HeapTupleHeaderGetUpdateXid(tuple);
		if (TransactionIdIsValid(xid) &&
			((tuple->t_infomask & HEAP_XMAX_COMMITTED) || TransactionIdIsInProgress(xid) || TransactionIdDidCommit(xid)))
			return true;
	}
	return false;
}

/* Zero what belongs to no row, between the line pointers and the end; or only say whether there is something. */
static bool
zero_unused(Page page, bool zero)
{
	PageHeader	header = (PageHeader) page;
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	bool		used[BLCKSZ] = {false};
	bool		found = false;

	for (OffsetNumber i = FirstOffsetNumber; i <= last; i++)
	{
		ItemId		item = PageGetItemId(page, i);

		if (ItemIdHasStorage(item))
			memset(used + ItemIdGetOffset(item), true, ItemIdGetLength(item));
	}
	for (int i = header->pd_lower; i < header->pd_special; i++)
	{
		if (used[i] || ((char *) page)[i] == 0)
			continue;
		found = true;
		if (!zero)
			break;
		((char *) page)[i] = 0;
	}
	return found;
}

/* _scrub_page(rel oid, block bigint): true: nothing of old versions is left there, or there is no such page. */
PG_FUNCTION_INFO_V1(dmshook_sql_scrub_page);
Datum
dmshook_sql_scrub_page(PG_FUNCTION_ARGS)
{
	Relation	rel = try_relation_open(PG_GETARG_OID(0), RowExclusiveLock);
	int64		block = PG_GETARG_INT64(1);
	Buffer		buffer;
	Page		page;
	bool		clean;

	if (rel == NULL)
		PG_RETURN_BOOL(true);
	if ((rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_TOASTVALUE) ||
		block < 0 || block >= RelationGetNumberOfBlocks(rel))
	{
		relation_close(rel, RowExclusiveLock);
		PG_RETURN_BOOL(true);
	}

	/* heap_page_prune_opt() looks at full pages only: a hint says that this is one */
	buffer = ReadBuffer(rel, (BlockNumber) block);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(buffer);
	if (!PageIsNew(page))
	{
		PageSetFull(page);
		MarkBufferDirtyHint(buffer, true);
	}
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (!PageIsNew(page))
		prune(rel, buffer);

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	clean = PageIsNew(page) || !holds_old_version(page);
	if (!PageIsNew(page) && zero_unused(page, false))
	{
		GenericXLogState *state = GenericXLogStart(rel);

		zero_unused(GenericXLogRegisterBuffer(state, buffer, GENERIC_XLOG_FULL_IMAGE), true);
		GenericXLogFinish(state);
	}
	UnlockReleaseBuffer(buffer);
	relation_close(rel, RowExclusiveLock);
	PG_RETURN_BOOL(clean);
}
