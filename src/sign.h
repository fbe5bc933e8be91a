/*
 * sign.h - secrets and signatures: Standard Webhooks 1.0.0 (v1, v1a) and
 * GitHub's. See sign.c, sign_ed25519.c. They build without a server.
 */
#ifndef DMSHOOK_SIGN_H
#define DMSHOOK_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DmshookSigner DmshookSigner; /* a key, made ready once */

#define DMSHOOK_V1_LEN		(3 + 44)	/* "v1," and base64 of 32 bytes */
#define DMSHOOK_V1A_LEN		(4 + 88)	/* "v1a," and base64 of 64 bytes */
#define DMSHOOK_GITHUB_LEN	(7 + 64)	/* "sha256=" and 32 bytes in hexadecimal */
#define DMSHOOK_PUBLIC_KEY_LEN	(5 + 44)	/* "whpk_" and base64 of 32 bytes */
#define DMSHOOK_SECRET_SIZE	96	/* what a new secret of any kind fits into, with its zero byte */
#define DMSHOOK_MAX_SECRET_TEXT	1024	/* bytes of a secret that is just text */

/* What a secret is, by how it begins. */
typedef enum DmshookSecretKind
{
	DMSHOOK_SECRET_SHARED,		/* whsec_: v1, and as text GitHub's */
	DMSHOOK_SECRET_PRIVATE,		/* whsk_: v1a */
	DMSHOOK_SECRET_PUBLIC,		/* whpk_: verifies v1a */
	DMSHOOK_SECRET_TEXT			/* GitHub's */
} DmshookSecretKind;

extern DmshookSecretKind dmshook_secret_kind(const char *secret);

/*
 * Signers. Each is NULL when the secret is malformed (then *problem, if asked for, is a
 * constant sentence that holds no part of the secret) or memory is short. Freed
 * by dmshook_signer_free, which wipes.
 *
 * v1: "whsec_" and base64 of 24 to 64 bytes of key.
 * github: 1 to 1024 bytes of text, which are the key as they stand.
 * ed25519: "whsk_" and base64 of 64 bytes (seed and public key) or of 32 (the seed),
 * which signs and verifies, or "whpk_" and base64 of 32, which verifies.
 */
extern DmshookSigner *dmshook_signer_create(const char *secret, const char **problem);
extern DmshookSigner *dmshook_signer_create_github(const char *secret, const char **problem);
extern DmshookSigner *dmshook_signer_create_ed25519(const char *secret, const char **problem);
extern void dmshook_signer_free(DmshookSigner *signer);

/*
 * Signatures of id "." timestamp "." body (timestamp: seconds since 1970) to out,
 * which has room for the length above and a zero byte; of github: of the body
 * alone. False, and "", on failure inside OpenSSL, and for a signer of another scheme.
 */
extern bool dmshook_sign_v1(DmshookSigner *signer, const char *id, int64_t timestamp,
							const void *body, size_t len, char *out);
extern bool dmshook_sign_v1a(DmshookSigner *signer, const char *id, int64_t timestamp,
							 const void *body, size_t len, char *out);
extern bool dmshook_sign_github(DmshookSigner *signer, const void *body, size_t len, char *out);

/* "whpk_..." of an Ed25519 signer; DMSHOOK_PUBLIC_KEY_LEN + 1 bytes. False, and "": it is none. */
extern bool dmshook_signer_public_key(DmshookSigner *signer, char *out);

/*
 * The timestamp as it stands in a header: digits, nothing else (no sign, no
 * fraction, no blank). And is it at most tolerance seconds away from now, either way?
 */
extern bool dmshook_timestamp_parse(const char *text, int64_t *timestamp);
extern bool dmshook_timestamp_fresh(int64_t timestamp, int64_t now, int64_t tolerance);

/*
 * Is there a right v1 (v1a) among the space-separated signatures? Constant time;
 * unknown versions and malformed ones are passed over. A negative timestamp is
 * never right. How old it is, is the caller's to ask (dmshook_timestamp_fresh).
 * Of v1a at most DMSHOOK_MAX_VERIFIED are tried: each costs a curve's arithmetic.
 */
#define DMSHOOK_MAX_VERIFIED	16
extern bool dmshook_verify_v1(DmshookSigner *signer, const char *id, int64_t timestamp,
							  const void *body, size_t len, const char *signatures);
extern bool dmshook_verify_v1a(DmshookSigner *signer, const char *id, int64_t timestamp,
							   const void *body, size_t len, const char *signatures);

/* Is it "sha256=" and the right 64 hexadecimal digits (upper or lower case)? Constant time. */
extern bool dmshook_verify_github(DmshookSigner *signer, const void *body, size_t len, const char *signature);

/*
 * A new secret: "whsec_" and base64 of 32 random bytes; "whsk_" and base64 of a new
 * Ed25519 key. out holds DMSHOOK_SECRET_SIZE. False, and "": no randomness, or no room.
 */
extern bool dmshook_secret_generate(char *out, size_t size);
extern bool dmshook_secret_generate_ed25519(char *out, size_t size);

#endif							/* DMSHOOK_SIGN_H */
