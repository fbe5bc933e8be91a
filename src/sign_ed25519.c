/*
 * sign_ed25519.c - signatures with a key pair: Standard Webhooks' v1a.
 *
 * Who runs it, memory and wiping: as in sign.c. The key and its context are made
 * ready once a signer; a signature is then one pass over the message, which
 * Ed25519 wants in one piece (it reads it twice), so it is put together in a
 * buffer that the signer keeps.
 */
#include "sign_private.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#define KEEP_MESSAGE	65536	/* a longer buffer is not kept */

static DmshookSigner *private_signer(const char *text, const char **why);
static DmshookSigner *public_signer(const char *text, const char **why);
static bool put_message(DmshookSigner *signer, const char *id, int64_t timestamp,
						const void *body, size_t len, size_t *total);
static void drop_message(DmshookSigner *signer);

DmshookSigner *
dmshook_signer_create_ed25519(const char *secret, const char **problem)
{
	DmshookSigner *signer = NULL;
	const char *why = NULL;

	switch (dmshook_secret_kind(secret))
	{
		case DMSHOOK_SECRET_PRIVATE:
			signer = private_signer(secret + strlen(PRIVATE_PREFIX), &why);
			break;
		case DMSHOOK_SECRET_PUBLIC:
			signer = public_signer(secret + strlen(PUBLIC_PREFIX), &why);
			break;
		case DMSHOOK_SECRET_SHARED:
		case DMSHOOK_SECRET_TEXT:
			why = "A private key begins with \"" PRIVATE_PREFIX "\", a public one with \"" PUBLIC_PREFIX "\".";
			break;
	}
	if (signer == NULL)
		ERR_clear_error();
	if (problem != NULL)
		*problem = why;
	return signer;
}

static DmshookSigner *
make_signer(EVP_PKEY *key, bool can_sign, const char **why)
{
	DmshookSigner *signer = key != NULL ? OPENSSL_zalloc(sizeof(*signer)) : NULL;

	if (signer == NULL)
	{
		EVP_PKEY_free(key);
		*why = "OpenSSL could not make a key for Ed25519.";
		return NULL;
	}
	signer->scheme = SIGNER_ED25519;
	signer->key = key;
	signer->can_sign = can_sign;
	signer->context = EVP_MD_CTX_new();
	if (signer->context == NULL)
	{
		dmshook_signer_free(signer);
		*why = "OpenSSL could not make a key for Ed25519.";
		return NULL;
	}
	return signer;
}

/* A key whose public half is another's is refused: it would sign what nobody can verify. */
static DmshookSigner *
private_signer(const char *text, const char **why)
{
	uint8_t		key[SEED_LEN + PUBLIC_LEN + 1];
	uint8_t		public[PUBLIC_LEN];
	size_t		public_len = sizeof(public);
	size_t		len = dmshook_base64_decode(text, strlen(text), key, sizeof(key));
	DmshookSigner *signer = NULL;

	if (len == 0)
		*why = "What follows \"" PRIVATE_PREFIX "\" must be standard base64, with its padding.";
	else if (len != SEED_LEN && len != SEED_LEN + PUBLIC_LEN)
		*why = "A private key has 64 bytes (the seed and the public key), or 32 (the seed alone).";
	else
		signer = make_signer(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key, SEED_LEN), true, why);
	if (signer != NULL && len > SEED_LEN &&
		(!EVP_PKEY_get_raw_public_key(signer->key, public, &public_len) || public_len != PUBLIC_LEN ||
		 CRYPTO_memcmp(public, key + SEED_LEN, PUBLIC_LEN) != 0))
	{
		dmshook_signer_free(signer);
		signer = NULL;
		*why = "The second half of a private key's 64 bytes is its public key; here it is that of another key.";
	}
	OPENSSL_cleanse(key, sizeof(key));
	return signer;
}

static DmshookSigner *
public_signer(const char *text, const char **why)
{
	uint8_t		key[PUBLIC_LEN + 1];
	size_t		len = dmshook_base64_decode(text, strlen(text), key, sizeof(key));

	if (len != PUBLIC_LEN)
	{
		*why = "What follows \"" PUBLIC_PREFIX "\" must be standard base64, with its padding, of 32 bytes.";
		return NULL;
	}
	return make_signer(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, len), false, why);
}

bool
dmshook_signer_public_key(DmshookSigner *signer, char *out)
{
	uint8_t		public[PUBLIC_LEN];
	size_t		len = sizeof(public);

	out[0] = '\0';
	if (signer->scheme != SIGNER_ED25519 || !EVP_PKEY_get_raw_public_key(signer->key, public, &len) ||
		len != sizeof(public))
	{
		ERR_clear_error();
		return false;
	}
	memcpy(out, PUBLIC_PREFIX, strlen(PUBLIC_PREFIX));
	EVP_EncodeBlock((unsigned char *) out + strlen(PUBLIC_PREFIX), public, (int) sizeof(public));
	return true;
}

/* A context is begun anew for each signature, as OpenSSL wants it from 3.2 on; the key in it stays. */
bool
dmshook_sign_v1a(DmshookSigner *signer, const char *id, int64_t timestamp,
				 const void *body, size_t len, char *out)
{
	uint8_t		signature[ED25519_LEN];
	size_t		signature_len = sizeof(signature);
	size_t		total;
	bool		ok;

	out[0] = '\0';
	if (signer->scheme != SIGNER_ED25519 || !signer->can_sign ||
		!put_message(signer, id, timestamp, body, len, &total))
		return false;
	ok = EVP_DigestSignInit(signer->context, NULL, NULL, NULL, signer->key) == 1 &&
		EVP_DigestSign(signer->context, signature, &signature_len, signer->message, total) == 1 &&
		signature_len == sizeof(signature);
	drop_message(signer);
	if (!ok)
	{
		ERR_clear_error();
		return false;
	}
	memcpy(out, "v1a,", 4);
	EVP_EncodeBlock((unsigned char *) out + 4, signature, (int) sizeof(signature));
	return true;
}

/* Nothing here is secret: the key is public, and the peer knows its own bytes. */
bool
dmshook_verify_v1a(DmshookSigner *signer, const char *id, int64_t timestamp,
				   const void *body, size_t len, const char *signatures)
{
	const char *text;
	size_t		n;
	size_t		total;
	int			tried = 0;
	bool		found = false;

	if (timestamp < 0 || signer->scheme != SIGNER_ED25519 ||
		!put_message(signer, id, timestamp, body, len, &total))
		return false;
	while (!found && tried < DMSHOOK_MAX_VERIFIED && (n = dmshook_next_signature(&signatures, &text)) > 0)
	{
		uint8_t		signature[ED25519_LEN + 1];

		if (n != DMSHOOK_V1A_LEN || memcmp(text, "v1a,", 4) != 0 ||
			dmshook_base64_decode(text + 4, n - 4, signature, sizeof(signature)) != ED25519_LEN)
			continue;
		tried++;
		found = EVP_DigestVerifyInit(signer->context, NULL, NULL, NULL, signer->key) == 1 &&
			EVP_DigestVerify(signer->context, signature, ED25519_LEN, signer->message, total) == 1;
	}
	drop_message(signer);
	ERR_clear_error();			/* of those that were wrong */
	return found;
}

bool
dmshook_secret_generate_ed25519(char *out, size_t size)
{
	uint8_t		key[SEED_LEN + PUBLIC_LEN];
	size_t		len = PUBLIC_LEN;
	EVP_PKEY   *pair = NULL;
	bool		ok = false;

	if (size > strlen(PRIVATE_PREFIX) + BASE64_LEN(sizeof(key)) && RAND_priv_bytes(key, SEED_LEN) == 1 &&
		(pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key, SEED_LEN)) != NULL &&
		EVP_PKEY_get_raw_public_key(pair, key + SEED_LEN, &len) == 1)
	{
		memcpy(out, PRIVATE_PREFIX, strlen(PRIVATE_PREFIX));
		EVP_EncodeBlock((unsigned char *) out + strlen(PRIVATE_PREFIX), key, (int) sizeof(key));
		ok = true;
	}
	else
	{
		ERR_clear_error();
		if (size > 0)
			out[0] = '\0';
	}
	EVP_PKEY_free(pair);
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}

/* "id.timestamp.body" in one piece. */
static bool
put_message(DmshookSigner *signer, const char *id, int64_t timestamp,
			const void *body, size_t len, size_t *total)
{
	char		middle[MIDDLE_SIZE];
	size_t		id_len = strlen(id);
	size_t		middle_len = (size_t) dmshook_sign_middle(timestamp, middle);

	*total = id_len + middle_len + len;
	if (*total > signer->message_size)
	{
		OPENSSL_free(signer->message);
		signer->message_size = *total < 2048 ? 2048 : *total;
		signer->message = OPENSSL_malloc(signer->message_size);
		if (signer->message == NULL)
		{
			signer->message_size = 0;
			ERR_clear_error();
			return false;
		}
	}
	memcpy(signer->message, id, id_len);
	memcpy(signer->message + id_len, middle, middle_len);
	if (len > 0)
		memcpy(signer->message + id_len + middle_len, body, len);
	return true;
}

static void
drop_message(DmshookSigner *signer)
{
	if (signer->message_size <= KEEP_MESSAGE)
		return;
	OPENSSL_free(signer->message);
	signer->message = NULL;
	signer->message_size = 0;
}
