/* sign_private.h - what the files of sign share. See sign.c. */
#ifndef DMSHOOK_SIGN_PRIVATE_H
#define DMSHOOK_SIGN_PRIVATE_H

#include "sign.h"

#include <openssl/evp.h>

#define SHARED_PREFIX	"whsec_"
#define PRIVATE_PREFIX	"whsk_"
#define PUBLIC_PREFIX	"whpk_"

#define MAC_LEN			32
#define SEED_LEN		32
#define PUBLIC_LEN		32
#define ED25519_LEN		64

#define BASE64_LEN(n)	(((n) + 2) / 3 * 4)

typedef enum SignerScheme
{
	SIGNER_V1,
	SIGNER_GITHUB,
	SIGNER_ED25519
} SignerScheme;

struct DmshookSigner
{
	SignerScheme scheme;
	EVP_MAC_CTX *mac;			/* of v1 and github: keyed, used again and again */
	EVP_PKEY   *key;			/* of ed25519 */
	EVP_MD_CTX *context;		/* for it */
	bool		can_sign;		/* it has the private half */
	uint8_t    *message;		/* where "id.timestamp.body" is put in one piece */
	size_t		message_size;
};

/* "." timestamp "." to out; its length. */
#define MIDDLE_SIZE		24
extern int	dmshook_sign_middle(int64_t timestamp, char *out);

/*
 * Number of bytes; 0 when text is empty or not canonical base64. What does not
 * fit is not kept: the answer then is size.
 */
extern size_t dmshook_base64_decode(const char *text, size_t len, uint8_t *out, size_t size);

/* The next of space-separated signatures from *p on, which moves behind it; 0: there is none. */
extern size_t dmshook_next_signature(const char **p, const char **signature);

#endif							/* DMSHOOK_SIGN_PRIVATE_H */
