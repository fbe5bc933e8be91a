/*
 * filter.h - a webhook's filter: a jsonpath over the payload. See filter.c.
 */
#ifndef DMSHOOK_FILTER_H
#define DMSHOOK_FILTER_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/jsonpath.h"

#include "event.h"

typedef enum DmshookFilterVerdict
{
	DMSHOOK_FILTER_TRUE,
	DMSHOOK_FILTER_FALSE,
	DMSHOOK_FILTER_UNKNOWN,		/* a predicate over what is not there, or of another type */
	DMSHOOK_FILTER_ERROR,
	DMSHOOK_FILTER_UNASKED		/* never of an evaluation: it is left to a helper (judge.c) */
} DmshookFilterVerdict;

/* How long the dispatcher lets one evaluation take. */
#define DMSHOOK_FILTER_LIMIT_MS	100

/*
 * The path in the current context. Raises an error with a hint when it is none, or neither a
 * predicate nor of the form ... ? (...).
 */
extern JsonPath *dmshook_filter_compile(const char *text);

/*
 * The payload that filters see: the body as jsonb, in the current context; NULL and *problem:
 * it is none (a character that jsonb does not know). Within a subtransaction; raises no error.
 */
extern Jsonb *dmshook_filter_payload(const DmshookEvent *event, char **problem);

/*
 * Does the filter hold? Within a subtransaction; raises no error: an error is a verdict, and *error a
 * sentence in the current context. limit_ms > 0 (in the dispatcher only, where no other
 * statement_timeout runs): cancelled after that, *timed_out.
 */
extern DmshookFilterVerdict dmshook_filter_evaluate(JsonPath *path, Jsonb *payload, int limit_ms,
													char **error, bool *timed_out);

#endif							/* DMSHOOK_FILTER_H */
