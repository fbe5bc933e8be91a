/*
 * capture_tuple.c - an event as a row of the log, byte by byte.
 *
 * Runs in the backend that raises an event, for capture_batch.c. It does what
 * heap_form_tuple() does, for the one shape that the log has: each column's
 * place is known, nothing needs to be measured first, and no byte is set
 * twice. That costs a fifth. Where an admin has altered the log, it is not
 * used. No catalog, no lock; memory is the caller's.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "capture_tuple.h"
#include "event.h"

/* id, nonce and time, then the columns of varying length up to erased_at, which is NULL. */
#define FIXED_SIZE	(3 * sizeof(int64))
#define FIRST_TEXT	Anum_event_type
#define TEXTS		(Anum_event_data - Anum_event_type + 1)
#define HEADER_SIZE	MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(Natts_event))

static char *put_text(char *place, const char *start, const struct varlena *value);

bool
dmshook_tuple_is_plain(TupleDesc desc)
{
	static const Oid types[Natts_event] = {
		INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONOID, JSONOID, JSONOID, TIMESTAMPTZOID
	};

	if (desc->natts != Natts_event)
		return false;
	for (int i = 0; i < Natts_event; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->atttypid != types[i] ||
			(att->attlen == -1 && att->attstorage == TYPSTORAGE_PLAIN))
			return false;
	}
	return true;
}

HeapTuple
dmshook_tuple_form(const DmshookNewEvent *event, int64 nonce)
{
	const void *const texts[TEXTS] = {
		event->type, event->tenant, event->old_tenant, event->entity, event->key, event->who, event->source, event->data
	};
	Size		room = HEADER_SIZE + FIXED_SIZE;
	int64		fixed[3] = {0, nonce, GetCurrentTimestamp()};
	HeapTuple	tuple;
	HeapTupleHeader header;
	char	   *start;
	char	   *place;

	for (int i = 0; i < TEXTS; i++)
		if (texts[i] != NULL)
			room += INTALIGN(VARSIZE(texts[i]));

	tuple = palloc(HEAPTUPLESIZE + room);
	header = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	memset(header, 0, HEADER_SIZE);
	header->t_hoff = HEADER_SIZE;
	header->t_infomask = HEAP_HASNULL | HEAP_HASVARWIDTH;
	HeapTupleHeaderSetNatts(header, Natts_event);
	ItemPointerSetInvalid(&header->t_ctid);
	header->t_bits[0] = 0x07;	/* the fixed ones are there */

	start = (char *) header + HEADER_SIZE;
	memcpy(start, fixed, FIXED_SIZE);
	place = start + FIXED_SIZE;
	for (int i = 0; i < TEXTS; i++)
	{
		int			number = FIRST_TEXT - 1 + i;

		if (texts[i] == NULL)
			continue;
		header->t_bits[number / BITS_PER_BYTE] |= 1 << (number % BITS_PER_BYTE);
		place = put_text(place, start, texts[i]);
	}

	tuple->t_len = place - (char *) header;
	ItemPointerSetInvalid(&tuple->t_self);
	tuple->t_tableOid = InvalidOid;
	tuple->t_data = header;
	return tuple;
}

/* A value with the short header if it fits, else with the long one at a multiple of four. */
static char *
put_text(char *place, const char *start, const struct varlena *value)
{
	Size		len = VARSIZE(value) - VARHDRSZ;

	Assert(VARATT_IS_4B_U(value));
	if (len + VARHDRSZ_SHORT <= VARATT_SHORT_MAX)
	{
		SET_VARSIZE_SHORT(place, len + VARHDRSZ_SHORT);
		memcpy(place + VARHDRSZ_SHORT, VARDATA(value), len);
		return place + VARHDRSZ_SHORT + len;
	}
	while ((place - start) % ALIGNOF_INT != 0)
		*place++ = '\0';
	memcpy(place, value, VARHDRSZ + len);
	return place + VARHDRSZ + len;
}
