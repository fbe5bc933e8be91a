/*
 * payload.h - from an event row to the bytes on the wire. See payload.c.
 */
#ifndef DMSHOOK_PAYLOAD_H
#define DMSHOOK_PAYLOAD_H

#include "lib/stringinfo.h"

#include "event.h"

/*
 * Append the JSON body of an event to buf, in UTF-8. test: with "test": true.
 * May raise an error (a character that UTF-8 conversion does not know).
 */
extern void dmshook_payload_append(StringInfo buf, const DmshookEvent *event, bool test);

/* The same in the server encoding. Raises no error but for memory. */
extern void dmshook_payload_append_server(StringInfo buf, const DmshookEvent *event, bool test);

/*
 * Append "?id=...&type=..." (or "&id=..." where the URL has a query already),
 * for methods without a body.
 */
extern void dmshook_payload_query(StringInfo buf, const DmshookEvent *event, bool test, bool has_query);

/* Hash of (entity, key): what "the same vehicle" means for ordering. */
extern uint64 dmshook_entity_hash(const DmshookEvent *event);

#endif							/* DMSHOOK_PAYLOAD_H */
