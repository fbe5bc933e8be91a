/*
 * log.h - rows of dmshook.attempt. See log.c.
 */
#ifndef DMSHOOK_LOG_H
#define DMSHOOK_LOG_H

#include "postgres.h"

#include "utils/timestamp.h"

/* One request, or (outcome 0) an end without one. Strings may be NULL. */
typedef struct DmshookAttempt
{
	int			webhook;
	int64		event;			/* 0: a test without one */
	int64		nonce;
	TimestampTz at;				/* when it started */
	int			version;
	int			attempt;		/* 1: the first */
	char		kind;			/* d, t, p, r, y */
	char		outcome;		/* 0: none */
	char		final;			/* 0: not final */
	int			status;			/* 0: none; so the next */
	int			http_version;
	int64		command;		/* 0: none */
	int			duration_us;	/* -1: not known; so the next four */
	int			dns_us;
	int			connect_us;
	int			tls_us;
	int			first_byte_us;
	int			tls_cipher;		/* its number; 0: none */
	const char *tls_version;
	const char *local_address;
	const char *remote_address;
	const char *response_headers;	/* bytes of the peer, whatever they are */
	int			response_headers_len;
	const char *response_body;
	int			response_body_len;
	const char *error;			/* UTF-8 */
	const char *hint;
	const char *body;			/* UTF-8; NULL: it can be built again */
	int			body_len;
	int64		id;				/* set by the insert */
} DmshookAttempt;

/*
 * Insert n of them in the current transaction, without SPI. Bytes that are no
 * text of this database become U+FFFD or '?'. Sets id of each.
 */
extern void dmshook_log_attempts(DmshookAttempt *attempts, int n);

#endif							/* DMSHOOK_LOG_H */
