/*
 * options.h - a webhook's options and headers, from JSON to
 * numbers. See options.c.
 */
#ifndef DMSHOOK_OPTIONS_H
#define DMSHOOK_OPTIONS_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "policy.h"
#include "schedule.h"

/* Schemes of signatures, several at once. */
#define DMSHOOK_SIGNATURE_STANDARD	1
#define DMSHOOK_SIGNATURE_ED25519	2
#define DMSHOOK_SIGNATURE_GITHUB	4

typedef struct DmshookOptions
{
	int			timeout;		/* ms, whole request */
	int			connect_timeout;	/* ms */
	int			max_in_flight;
	int			http_version;	/* 11 or 20 */
	char	   *ca_certificate; /* PEM or NULL */
	char	   *allowed_addresses;	/* networks, separated by commas, or NULL: any */
	bool		ordered;		/* ordering: entity */
	int			shape;			/* of the body: shape.h */
	char	   *transform;		/* function that makes the body, with its schema; NULL: none */
	int			signature;		/* DMSHOOK_SIGNATURE_... */
	char	   *signature_header;	/* the signature goes under this name, too; NULL: it does not */
	char	   *alert_to;		/* addresses, or NULL: dmshook.alert_mail_to */
	DmshookPlan plan;
	DmshookPolicy policy;
} DmshookOptions;

/*
 * Read options; absent keys have their defaults, JSON null too. A backoff that
 * lists n intervals, without max_attempts, makes n + 1 attempts. Raises an error
 * with a hint for an unknown key or a malformed value (ERRCODE_INVALID_PARAMETER_VALUE),
 * and for a key of later versions (ERRCODE_FEATURE_NOT_SUPPORTED).
 * Strings are allocated in the current context.
 */
extern void dmshook_options_parse(Jsonb *options, DmshookOptions *out);

/*
 * Check custom headers: an object of strings; names are RFC 9110 tokens, no
 * value has a control character, no name is one that dmshook or HTTP sets.
 */
extern void dmshook_headers_check(Jsonb *headers);

/* One name; raises an error with a hint. */
extern void dmshook_header_name_check(const char *name);

#endif							/* DMSHOOK_OPTIONS_H */
