/*
 * capture_index.c - a batch's entries in the log's primary key, put there together.
 *
 * Runs in the backend that writes events, inside its statement, called by
 * capture_log.c when several rows have been written. Ids rise, so the entries
 * of a batch belong onto the last leaf page of the index, nearly always behind
 * all that is there. index_insert() searches that page, looks for duplicates
 * and writes WAL for each row, a third of what an event costs; here the page is
 * locked once and changed by one generic WAL record.
 *
 * What comes out is what btree itself would have written: plain entries in
 * order. It is done only where that is certain, and left to index_insert()
 * otherwise:
 *
 * - the index is a btree on one bigint, ascending;
 * - the page is a leaf, alive and the last one, and its first entry is below
 *   the id: then no other page may hold the id (btree's own short cut for
 *   rising keys rests on the same, nbtinsert.c: _bt_search_insert);
 * - no entry has the id yet, dead or alive; one that has is found there, under
 *   the lock that everybody needs who would add one;
 * - there is room: a page is never split here.
 *
 * One page is locked, and nothing is waited for meanwhile. The change is made
 * in a copy, so that an error leaves the page as it was. Memory: the copy, in
 * the caller's context.
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/itup.h"
#include "access/nbtree.h"
#include "catalog/pg_am.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/predicate.h"
#include "utils/rel.h"

#include "capture_index.h"

/* Copying a page and looking for what has changed costs as much as so many calls of index_insert(). */
#define WORTH_WHILE	8

/* An entry of a btree on one bigint. */
typedef struct IndexEntry
{
	IndexTupleData head;
	int64		id;
} IndexEntry;

#if PG_VERSION_NUM >= 170000
#define last_leaf(index) _bt_get_endpoint(index, 0, true)
#else
#define last_leaf(index) _bt_get_endpoint(index, 0, true, NULL)
#endif

static bool is_plain(Relation index);
static Buffer lock_last_page(Relation index, int64 id);
static bool takes(Page page, int64 id);
static int64 id_at(Page page, OffsetNumber at);
static OffsetNumber place_of(Page page, int64 id);

int
dmshook_index_append(Relation index, TupleTableSlot **slots, const int64 *ids, int n)
{
	Buffer		buffer;
	GenericXLogState *state;
	Page		page;
	int			done = 0;

	if (n < WORTH_WHILE || !is_plain(index))
		return 0;
	buffer = lock_last_page(index, ids[0]);
	if (!BufferIsValid(buffer))
		return 0;
	/* as each insert does, for those who read under SERIALIZABLE */
	CheckForSerializableConflictIn(index, NULL, BufferGetBlockNumber(buffer));

	state = GenericXLogStart(index);
	page = GenericXLogRegisterBuffer(state, buffer, 0);
	for (; done < n; done++)
	{
		IndexEntry	entry = {.id = ids[done]};
		OffsetNumber at;

		if (PageGetFreeSpace(page) < sizeof(entry))
			break;
		at = place_of(page, ids[done]);
		if (at == InvalidOffsetNumber)
			break;
		entry.head.t_tid = slots[done]->tts_tid;
		entry.head.t_info = sizeof(entry);
		if (PageAddItem(page, (void *) &entry, sizeof(entry), at, false, false) == InvalidOffsetNumber)
			elog(ERROR, "could not add an entry to index \"%s\"", RelationGetRelationName(index));
	}
	if (done > 0)
		GenericXLogFinish(state);
	else
		GenericXLogAbort(state);
	UnlockReleaseBuffer(buffer);
	return done;
}

/* Is it as the install script makes it? */
static bool
is_plain(Relation index)
{
	return index->rd_rel->relam == BTREE_AM_OID && RelationGetDescr(index)->natts == 1 &&
		TupleDescAttr(RelationGetDescr(index), 0)->atttypid == INT8OID &&
		index->rd_opfamily[0] == INTEGER_BTREE_FAM_OID && index->rd_indoption[0] == 0 &&
		index->rd_index->indisvalid;
}

/* The last leaf page, locked, if the id belongs onto it; it is remembered where btree remembers it. */
static Buffer
lock_last_page(Relation index, int64 id)
{
	for (int tries = 0; tries < 2; tries++)
	{
		BlockNumber block = RelationGetTargetBlock(index);
		Buffer		buffer;

		if (block == InvalidBlockNumber)
		{
			buffer = last_leaf(index);
			if (!BufferIsValid(buffer))
				break;
			block = BufferGetBlockNumber(buffer);
			_bt_relbuf(index, buffer);
			RelationSetTargetBlock(index, block);
		}
		buffer = ReadBuffer(index, block);
		LockBuffer(buffer, BT_WRITE);
		_bt_checkpage(index, buffer);
		if (takes(BufferGetPage(buffer), id))
			return buffer;
		UnlockReleaseBuffer(buffer);
		/* another page is the last one by now */
		RelationSetTargetBlock(index, InvalidBlockNumber);
	}
	return InvalidBuffer;
}

/* Is it the last leaf, and can no page before it hold the id? */
static bool
takes(Page page, int64 id)
{
	BTPageOpaque opaque = BTPageGetOpaque(page);

	return P_ISLEAF(opaque) && P_RIGHTMOST(opaque) && !P_IGNORE(opaque) &&
		PageGetMaxOffsetNumber(page) >= P_HIKEY && id_at(page, P_HIKEY) < id;
}

static int64
id_at(Page page, OffsetNumber at)
{
	int64		id;

	memcpy(&id, (char *) PageGetItem(page, PageGetItemId(page, at)) + sizeof(IndexTupleData), sizeof(id));
	return id;
}

/* Where in the order the id's entry goes; InvalidOffsetNumber: there is one. The first entry is below it. */
static OffsetNumber
place_of(Page page, int64 id)
{
	OffsetNumber low = P_HIKEY;
	OffsetNumber high = PageGetMaxOffsetNumber(page);

	/* behind all others, unless other sessions were quicker */
	if (likely(id_at(page, high) < id))
		return high + 1;
	/* low's id is below, high's is not */
	while (high - low > 1)
	{
		OffsetNumber middle = low + (high - low) / 2;

		if (id_at(page, middle) < id)
			low = middle;
		else
			high = middle;
	}
	return id_at(page, high) == id ? InvalidOffsetNumber : high;
}
