/*
 * signature.h - the signature headers of a webhook's requests. See signature.c.
 */
#ifndef DMSHOOK_SIGNATURE_H
#define DMSHOOK_SIGNATURE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "options.h"
#include "sign.h"
#include "store.h"
#include "transport.h"

/* Keys of a scheme that sign at once: the newest, and those of an overlap. SQL keeps to it, too. */
#define DMSHOOK_MAX_KEYS	4

typedef struct DmshookKey
{
	DmshookSigner *signer;
	TimestampTz until;			/* from then on it signs no more; DT_NOEND: it stays */
} DmshookKey;

/* The keys of a profile, the newest first. */
typedef struct DmshookKeys
{
	int			n_v1;
	DmshookKey	v1[DMSHOOK_MAX_KEYS];
	int			n_v1a;
	DmshookKey	v1a[DMSHOOK_MAX_KEYS];
	DmshookSigner *github;		/* NULL: does not sign so */
	const char *header;			/* options.signature_header, and ": " */
} DmshookKeys;

/*
 * Make the keys that the options want out of the secrets of a row. Dispatcher; raises an error, without any
 * part of a secret, when there is none of a kind or one cannot be used: what was made by then is in *keys.
 */
extern void dmshook_keys_make(DmshookKeys *keys, const DmshookWebhookRow *row, const DmshookOptions *options);
extern void dmshook_keys_free(DmshookKeys *keys);

/*
 * Append the signature headers of a request: webhook-signature, x-hub-signature-256, the header of the option.
 * at: when it is sent; seconds: the same, as in webhook-timestamp. False: it cannot be signed.
 */
extern bool dmshook_keys_sign(const DmshookKeys *keys, DmshookTransfer *transfer, const char *id, TimestampTz at,
							  int64 seconds, const void *body, size_t len);

/* Append a header line to a request. name: with its colon and blank. What does not fit is cut off, as the transport will say. */
extern void dmshook_request_header(DmshookTransfer *transfer, const char *name, const char *value, int len);

#endif							/* DMSHOOK_SIGNATURE_H */
