/*
 * auth.h - how a webhook shows its receiver who is calling: what an admin typed,
 * checked and taken apart. See auth.c.
 */
#ifndef DMSHOOK_AUTH_H
#define DMSHOOK_AUTH_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/*
 * Check auth: {"kind": "none" | "basic" | "bearer" | "api_key" | "oauth2" | "mtls", ...}. Raises an
 * error with a hint; never shows a value. Returns the kind, a constant.
 */
extern const char *dmshook_auth_check(Jsonb *auth);

/*
 * Backends: the same auth, with each member that names a file ("token_file") replaced by
 * one with the file's content ("token"). Raises an error with a hint where there is no such file, or the
 * role (the caller's, as it was noted: caller.c) may not read the server's files.
 */
extern Jsonb *dmshook_auth_read_files(Jsonb *auth, Oid role);

/* The name of the header that auth sets, palloc'd; NULL: none. auth has been checked before, here and below. */
extern char *dmshook_auth_header_name(Jsonb *auth);

/* The header line ("authorization: Basic ...") where it is always the same, palloc'd, in UTF-8; else NULL. */
extern char *dmshook_auth_header(Jsonb *auth);

/* A member as a palloc'd string in UTF-8; NULL: absent. */
extern char *dmshook_auth_member(Jsonb *auth, const char *name);

/* "Basic " + base64(user:password), palloc'd. */
extern char *dmshook_auth_basic(const char *user, const char *password);

extern bool dmshook_auth_is(Jsonb *auth, const char *kind);

/* When the client certificate ends; DT_NOEND where there is none. */
extern TimestampTz dmshook_auth_expiry(Jsonb *auth);

#endif							/* DMSHOOK_AUTH_H */
