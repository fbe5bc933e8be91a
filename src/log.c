/*
 * log.c - the log: rows of dmshook.attempt, inserted many at a time.
 *
 * Runs in the dispatcher, in its commit transaction. It writes heap and index
 * directly (table_multi_insert, half the cost of SQL): the table has no
 * constraints but NOT NULL, no triggers, no partitions. What a peer
 * sent is made into text of this database here, and nowhere else; no byte of it
 * can make a row fail.
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "log.h"

/* columns of dmshook.attempt, as in src/sql/10_tables.sql */
enum
{
	COL_ID,
	COL_WEBHOOK,
	COL_EVENT,
	COL_NONCE,
	COL_AT,
	COL_VERSION,
	COL_ATTEMPT,
	COL_KIND,
	COL_OUTCOME,
	COL_FINAL,
	COL_STATUS,
	COL_HTTP_VERSION,
	COL_COMMAND,
	COL_DURATION,
	COL_DNS,
	COL_CONNECT,
	COL_TLS,
	COL_FIRST_BYTE,
	COL_TLS_CIPHER,
	COL_TLS_VERSION,
	COL_LOCAL_ADDRESS,
	COL_REMOTE_ADDRESS,
	COL_RESPONSE_HEADERS,
	COL_RESPONSE_BODY,
	COL_ERROR,
	COL_HINT,
	COL_BODY,
	N_COLS
};

#define MULTI_INSERT_ROWS	200 /* one call of table_multi_insert */

/*
 * Bytes that claim to be UTF-8 to text of this database: what is not valid
 * becomes U+FFFD, zero bytes go, what this encoding lacks becomes '?'.
 */
static text *
clean_text(const char *bytes, int len)
{
	StringInfoData buf;
	text	   *result;

	if (memchr(bytes, '\0', len) == NULL && pg_encoding_verifymbstr(PG_UTF8, bytes, len) == len)
	{
		if (GetDatabaseEncoding() == PG_UTF8)
			return cstring_to_text_with_len(bytes, len);
	}
	initStringInfo(&buf);
	while (len > 0)
	{
		int			valid = pg_encoding_verifymbstr(PG_UTF8, bytes, len);

		appendBinaryStringInfo(&buf, bytes, valid);
		bytes += valid;
		len -= valid;
		if (len > 0)
		{
			if (*bytes != '\0')
				appendStringInfoString(&buf, "\xef\xbf\xbd");
			bytes++;
			len--;
		}
	}
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		StringInfoData own;
		const unsigned char *c = (const unsigned char *) buf.data;

		Oid			proc = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());

		/*
		 * One character at a time: conversion raises an error for what the
		 * target lacks, and where there is no conversion only ASCII is safe.
		 */
		initStringInfo(&own);
		while (*c)
		{
			int			clen = pg_utf_mblen(c);
			char		converted[32];

			if (clen == 1)
				appendStringInfoChar(&own, *c);
			else if (OidIsValid(proc) &&
					 pg_do_encoding_conversion_buf(proc, PG_UTF8, GetDatabaseEncoding(),
												   (unsigned char *) c, clen,
												   (unsigned char *) converted, sizeof(converted), true) == clen)
				appendStringInfoString(&own, converted);
			else
				appendStringInfoChar(&own, '?');
			c += clen;
		}
		buf = own;
	}
	result = cstring_to_text_with_len(buf.data, buf.len);
	pfree(buf.data);
	return result;
}

static void
set_text(TupleTableSlot *slot, int col, const char *bytes, int len)
{
	slot->tts_isnull[col] = bytes == NULL;
	if (bytes)
		slot->tts_values[col] = PointerGetDatum(clean_text(bytes, len));
}

static void
set_int(TupleTableSlot *slot, int col, int value)
{
	slot->tts_isnull[col] = value < 0;
	slot->tts_values[col] = Int32GetDatum(value);
}

/* The address that a column got last: most of a batch are alike. */
typedef struct LastAddress
{
	char		text[64];
	bool		valid;
	inet		value;
} LastAddress;

/* An address as curl prints it; what inet does not know becomes NULL. */
static void
set_address(TupleTableSlot *slot, int col, const char *address)
{
	static LastAddress seen[2];
	LastAddress *last = &seen[col == COL_REMOTE_ADDRESS];
	inet	   *value;

	slot->tts_isnull[col] = true;
	if (address == NULL || address[0] == '\0')
		return;
	if (strcmp(last->text, address) != 0)
	{
		int			family = strchr(address, ':') ? AF_INET6 : AF_INET;

		strlcpy(last->text, address, sizeof(last->text));
		memset(&last->value, 0, sizeof(last->value));
		last->valid = inet_pton(family, address, ip_addr(&last->value)) == 1;
		ip_family(&last->value) = family == AF_INET6 ? PGSQL_AF_INET6 : PGSQL_AF_INET;
		ip_bits(&last->value) = ip_maxbits(&last->value);
		SET_INET_VARSIZE(&last->value);
	}
	if (!last->valid)
		return;
	value = palloc(sizeof(inet));
	*value = last->value;
	slot->tts_values[col] = InetPGetDatum(value);
	slot->tts_isnull[col] = false;
}

static void
fill_slot(TupleTableSlot *slot, DmshookAttempt *a, Oid sequence)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, 0, sizeof(bool) * N_COLS);
	/* columns that somebody may have added */
	for (int i = N_COLS; i < slot->tts_tupleDescriptor->natts; i++)
		slot->tts_isnull[i] = true;
	a->id = nextval_internal(sequence, false);
	slot->tts_values[COL_ID] = Int64GetDatum(a->id);
	slot->tts_values[COL_WEBHOOK] = Int32GetDatum(a->webhook);
	slot->tts_values[COL_EVENT] = Int64GetDatum(a->event);
	slot->tts_values[COL_NONCE] = Int64GetDatum(a->nonce);
	slot->tts_values[COL_AT] = TimestampTzGetDatum(a->at);
	slot->tts_values[COL_VERSION] = Int32GetDatum(a->version);
	slot->tts_values[COL_ATTEMPT] = Int32GetDatum(a->attempt);
	slot->tts_values[COL_KIND] = CharGetDatum(a->kind);
	slot->tts_values[COL_OUTCOME] = CharGetDatum(a->outcome);
	slot->tts_isnull[COL_OUTCOME] = a->outcome == 0;
	slot->tts_values[COL_FINAL] = CharGetDatum(a->final);
	slot->tts_isnull[COL_FINAL] = a->final == 0;
	slot->tts_values[COL_STATUS] = Int16GetDatum(a->status);
	slot->tts_isnull[COL_STATUS] = a->status == 0;
	slot->tts_values[COL_HTTP_VERSION] = Int16GetDatum(a->http_version);
	slot->tts_isnull[COL_HTTP_VERSION] = a->http_version == 0;
	slot->tts_values[COL_COMMAND] = Int64GetDatum(a->command);
	slot->tts_isnull[COL_COMMAND] = a->command == 0;
	set_int(slot, COL_DURATION, a->duration_us);
	set_int(slot, COL_DNS, a->dns_us);
	set_int(slot, COL_CONNECT, a->connect_us);
	set_int(slot, COL_TLS, a->tls_us);
	set_int(slot, COL_FIRST_BYTE, a->first_byte_us);
	slot->tts_values[COL_TLS_CIPHER] = Int16GetDatum((int16) a->tls_cipher);
	slot->tts_isnull[COL_TLS_CIPHER] = a->tls_cipher == 0;
	set_text(slot, COL_TLS_VERSION, a->tls_version, a->tls_version ? strlen(a->tls_version) : 0);
	set_address(slot, COL_LOCAL_ADDRESS, a->local_address);
	set_address(slot, COL_REMOTE_ADDRESS, a->remote_address);
	set_text(slot, COL_RESPONSE_HEADERS, a->response_headers, a->response_headers_len);
	set_text(slot, COL_RESPONSE_BODY, a->response_body, a->response_body_len);
	set_text(slot, COL_ERROR, a->error, a->error ? strlen(a->error) : 0);
	set_text(slot, COL_HINT, a->hint, a->hint ? strlen(a->hint) : 0);
	set_text(slot, COL_BODY, a->body, a->body_len);
	ExecStoreVirtualTuple(slot);
}

void
dmshook_log_attempts(DmshookAttempt *attempts, int n)
{
	MemoryContext context;
	MemoryContext old;
	Oid			namespace = get_namespace_oid("dmshook", false);
	Oid			sequence = get_relname_relid("attempt_id", namespace);
	Relation	rel = table_open(get_relname_relid("attempt", namespace), RowExclusiveLock);
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot **slots;
	CommandId	cid = GetCurrentCommandId(true);
	int			nslots = Min(n, MULTI_INSERT_ROWS);

	if (RelationGetNumberOfAttributes(rel) < N_COLS)
		elog(ERROR, "unexpected number of columns in dmshook.attempt: %d", RelationGetNumberOfAttributes(rel));
	context = AllocSetContextCreate(CurrentMemoryContext, "dmshook attempts", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);

	estate = CreateExecutorState();
	rri = makeNode(ResultRelInfo);
	InitResultRelInfo(rri, rel, 0, NULL, 0);
	ExecOpenIndices(rri, false);
	slots = palloc(sizeof(TupleTableSlot *) * nslots);
	for (int i = 0; i < nslots; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(rel), table_slot_callbacks(rel));

	for (int done = 0; done < n;)
	{
		int			batch = Min(n - done, nslots);

		MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
		for (int i = 0; i < batch; i++)
			fill_slot(slots[i], &attempts[done + i], sequence);
		table_multi_insert(rel, slots, batch, cid, 0, NULL);
		for (int i = 0; i < batch; i++)
			list_free(dmshook_insert_index_entries(rri, slots[i], estate));
		MemoryContextSwitchTo(context);
		for (int i = 0; i < batch; i++)
			ExecClearTuple(slots[i]);
		ResetPerTupleExprContext(estate);
		done += batch;
	}

	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	ExecCloseIndices(rri);
	FreeExecutorState(estate);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
