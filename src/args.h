/*
 * args.h - members of a JSON object, with defaults. See args.c.
 */
#ifndef DMSHOOK_ARGS_H
#define DMSHOOK_ARGS_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/timestamp.h"

extern bool dmshook_arg_bool(Jsonb *object, const char *key);
extern int64 dmshook_arg_int8(Jsonb *object, const char *key, int64 otherwise);
extern TimestampTz dmshook_arg_time(Jsonb *object, const char *key, TimestampTz otherwise);

/* An array's strings, palloc'd; *n is 0 and the result NULL where there is none. */
extern char **dmshook_arg_texts(Jsonb *object, const char *key, int *n);

#endif							/* DMSHOOK_ARGS_H */
