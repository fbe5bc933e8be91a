/*
 * event.h - an event as it stands in the log, and its message id.
 *
 * Shared by those who write the row (capture.c) and those who read it
 * (reader.c, payload.c). Column numbers of dmshook.event are here and in
 * src/sql/10_tables.sql, nowhere else.
 */
#ifndef DMSHOOK_EVENT_H
#define DMSHOOK_EVENT_H

#include "postgres.h"

#include "access/htup.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* columns of dmshook.event */
#define Anum_event_id			1
#define Anum_event_nonce		2
#define Anum_event_at			3
#define Anum_event_type			4
#define Anum_event_tenant		5
#define Anum_event_old_tenant	6
#define Anum_event_entity		7
#define Anum_event_key			8
#define Anum_event_who			9
#define Anum_event_source		10
#define Anum_event_data			11
#define Anum_event_erased_at	12
#define Natts_event				12

/* Bytes that somebody else owns, not zero-terminated; data NULL: SQL NULL. */
typedef struct DmshookSpan
{
	const char *data;
	int			len;
} DmshookSpan;

/* A row of dmshook.event; texts in the server encoding. */
typedef struct DmshookEvent
{
	int64		id;
	int64		nonce;
	TimestampTz at;
	bool		erased;
	DmshookSpan type;
	DmshookSpan tenant;
	DmshookSpan old_tenant;		/* the tenant it left, if it changed */
	DmshookSpan entity;
	Jsonb	   *key;
	DmshookSpan who;
	DmshookSpan source;
	DmshookSpan data;
} DmshookEvent;

/*
 * A message id: "msg_", 11 digits of the event's id and 11 of its nonce, both
 * as unsigned 64-bit numbers in base 62 (0-9 A-Z a-z).
 */
#define DMSHOOK_MESSAGE_ID_LEN	26

/* Write the message id and a zero byte to buf (DMSHOOK_MESSAGE_ID_LEN + 1). */
extern void dmshook_message_id(int64 id, int64 nonce, char *buf);

/* Read one; false when it is none. Does not raise errors. */
extern bool dmshook_parse_message_id(const char *text, int len, int64 *id, int64 *nonce);

/* "2026-11-23T07:25:00.123456Z" and a zero byte; in UTC whatever the session's time zone. */
#define DMSHOOK_TIMESTAMP_SIZE	48
extern void dmshook_format_timestamp(TimestampTz at, char *buf);

/*
 * An event from the columns of its row; toasted values are fetched into the
 * current memory context, all else points into the row.
 */
extern void dmshook_event_from_datums(const Datum *values, const bool *isnull, DmshookEvent *event);

/* The same from a composite value (a function's argument). False: the row is all NULL (an outer join). */
extern bool dmshook_event_from_argument(HeapTupleHeader header, DmshookEvent *event);

#endif							/* DMSHOOK_EVENT_H */
