/*
 * sign.h - secrets and signatures (Standard Webhooks 1.0.0). See sign.c.
 * Builds without a server; the only file that includes OpenSSL.
 */
#ifndef DMSHOOK_SIGN_H
#define DMSHOOK_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DmshookSigner DmshookSigner;	/* a keyed HMAC-SHA256 context, reused */

#define DMSHOOK_V1_LEN	(3 + 44)	/* "v1," and base64 of 32 bytes */

/*
 * A signer for "whsec_" + base64 (24 to 64 bytes of key). NULL when the
 * secret is malformed (then *problem is a constant sentence that holds no part of
 * the secret) or memory is short. Freed by dmshook_signer_free, which wipes.
 */
extern DmshookSigner *dmshook_signer_create(const char *secret, const char **problem);
extern void dmshook_signer_free(DmshookSigner *signer);

/*
 * "v1," + base64(HMAC-SHA256(key, id "." timestamp "." body)) and a zero byte
 * to out (DMSHOOK_V1_LEN + 1). timestamp: seconds since 1970. False on
 * failure inside OpenSSL.
 */
extern bool dmshook_sign_v1(DmshookSigner *signer, const char *id, int64_t timestamp,
							const void *body, size_t len, char *out);

/*
 * The timestamp as it stands in a header: digits, nothing else (no sign, no
 * fraction, no blank). And is it at most tolerance seconds away from now, either way?
 */
extern bool dmshook_timestamp_parse(const char *text, int64_t *timestamp);
extern bool dmshook_timestamp_fresh(int64_t timestamp, int64_t now, int64_t tolerance);

/*
 * Is there a right v1 among the space-separated signatures? Constant time;
 * unknown versions and malformed ones are passed over. A negative timestamp is
 * never right. How old it is, is the caller's to ask (dmshook_timestamp_fresh).
 */
extern bool dmshook_verify_v1(DmshookSigner *signer, const char *id, int64_t timestamp,
							  const void *body, size_t len, const char *signatures);

/* A new secret: "whsec_" + base64 of 32 random bytes; out holds 64. False: no randomness. */
extern bool dmshook_secret_generate(char *out, size_t size);

#endif							/* DMSHOOK_SIGN_H */
