/*
 * sign.c - secrets, and signatures that are an HMAC-SHA256: Standard Webhooks'
 * v1 and GitHub's. Ed25519 is in sign_ed25519.c.
 *
 * Used by the dispatcher for every request and by SQL functions. No PostgreSQL;
 * memory is OpenSSL's and is given back by dmshook_signer_free(). A signer
 * belongs to one process and is used by one thread at a time. Keys are
 * wiped when they are done with, no message holds any part of one, and what is compared
 * with a peer's bytes is compared in constant time.
 */
#include "sign_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#define MIN_KEY				24
#define MAX_KEY				64
#define NEW_KEY				32

static DmshookSigner *create_hmac(SignerScheme scheme, const void *key, size_t len, const char **why);
static bool mac_start(DmshookSigner *signer, const void *key, size_t len);
static int	base64_value(char c);

static bool
begins_with(const char *secret, const char *prefix)
{
	return strncmp(secret, prefix, strlen(prefix)) == 0;
}

DmshookSecretKind
dmshook_secret_kind(const char *secret)
{
	if (begins_with(secret, SHARED_PREFIX))
		return DMSHOOK_SECRET_SHARED;
	if (begins_with(secret, PRIVATE_PREFIX))
		return DMSHOOK_SECRET_PRIVATE;
	if (begins_with(secret, PUBLIC_PREFIX))
		return DMSHOOK_SECRET_PUBLIC;
	return DMSHOOK_SECRET_TEXT;
}

/*
 * The secret must be the one spelling that its key has (padded, no blanks, no
 * stray bits): receivers' libraries differ in what else they take, and a
 * secret that two sides read differently is found only when nothing verifies.
 */
DmshookSigner *
dmshook_signer_create(const char *secret, const char **problem)
{
	uint8_t		key[MAX_KEY + 1];
	const char *text;
	size_t		len;
	DmshookSigner *signer = NULL;
	const char *why = NULL;

	if (!begins_with(secret, SHARED_PREFIX))
		why = "A signing secret begins with \"" SHARED_PREFIX "\".";
	else
	{
		text = secret + strlen(SHARED_PREFIX);
		len = dmshook_base64_decode(text, strlen(text), key, sizeof(key));
		if (len == 0)
			why = "What follows \"" SHARED_PREFIX "\" must be standard base64, with its padding.";
		else if (len < MIN_KEY || len > MAX_KEY)
			why = "The key of a signing secret has 24 to 64 bytes.";
		else
			signer = create_hmac(SIGNER_V1, key, len, &why);
		OPENSSL_cleanse(key, sizeof(key));
	}
	if (problem != NULL)
		*problem = why;
	return signer;
}

/* GitHub's secret is whatever both sides wrote into a field: its bytes are the key, a prefix's too. */
DmshookSigner *
dmshook_signer_create_github(const char *secret, const char **problem)
{
	size_t		len = strlen(secret);
	DmshookSigner *signer = NULL;
	const char *why = NULL;

	if (len == 0 || len > DMSHOOK_MAX_SECRET_TEXT)
		why = "A secret that is just text has 1 to 1024 bytes.";
	else
		signer = create_hmac(SIGNER_GITHUB, secret, len, &why);
	if (problem != NULL)
		*problem = why;
	return signer;
}

static DmshookSigner *
create_hmac(SignerScheme scheme, const void *key, size_t len, const char **why)
{
	DmshookSigner *signer = OPENSSL_zalloc(sizeof(*signer));

	if (signer == NULL || !mac_start(signer, key, len))
	{
		dmshook_signer_free(signer);
		*why = "OpenSSL could not make a key for HMAC-SHA256.";
		return NULL;
	}
	signer->scheme = scheme;
	return signer;
}

/* OpenSSL wipes the key of each of these contexts, and the states that were made of it. */
void
dmshook_signer_free(DmshookSigner *signer)
{
	if (signer == NULL)
		return;
	EVP_MAC_CTX_free(signer->mac);
	EVP_MD_CTX_free(signer->context);
	EVP_PKEY_free(signer->key);
	OPENSSL_free(signer->message);
	OPENSSL_cleanse(signer, sizeof(*signer));
	OPENSSL_free(signer);
}

int
dmshook_sign_middle(int64_t timestamp, char *out)
{
	return snprintf(out, MIDDLE_SIZE, ".%" PRId64 ".", timestamp);
}

/* Starting again with the key that the context has costs 0.56 us; with the key anew, 1.4. */
bool
dmshook_sign_v1(DmshookSigner *signer, const char *id, int64_t timestamp,
				const void *body, size_t len, char *out)
{
	EVP_MAC_CTX *context = signer->mac;
	char		middle[MIDDLE_SIZE];
	int			n = dmshook_sign_middle(timestamp, middle);
	uint8_t		mac[MAC_LEN];
	size_t		mac_len = 0;

	if (signer->scheme != SIGNER_V1 || !EVP_MAC_init(context, NULL, 0, NULL) ||
		!EVP_MAC_update(context, (const unsigned char *) id, strlen(id)) ||
		!EVP_MAC_update(context, (const unsigned char *) middle, (size_t) n) ||
		(len > 0 && !EVP_MAC_update(context, body, len)) ||
		!EVP_MAC_final(context, mac, &mac_len, sizeof(mac)) ||
		mac_len != sizeof(mac))
	{
		ERR_clear_error();
		out[0] = '\0';
		return false;
	}
	memcpy(out, "v1,", 3);
	EVP_EncodeBlock((unsigned char *) out + 3, mac, (int) sizeof(mac));
	return true;
}

bool
dmshook_sign_github(DmshookSigner *signer, const void *body, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t		mac[MAC_LEN];
	size_t		mac_len = 0;

	out[0] = '\0';
	if (signer->scheme != SIGNER_GITHUB || !EVP_MAC_init(signer->mac, NULL, 0, NULL) ||
		(len > 0 && !EVP_MAC_update(signer->mac, body, len)) ||
		!EVP_MAC_final(signer->mac, mac, &mac_len, sizeof(mac)) ||
		mac_len != sizeof(mac))
	{
		ERR_clear_error();
		return false;
	}
	memcpy(out, "sha256=", 7);
	for (int i = 0; i < MAC_LEN; i++)
	{
		out[7 + 2 * i] = digits[mac[i] >> 4];
		out[8 + 2 * i] = digits[mac[i] & 15];
	}
	out[DMSHOOK_GITHUB_LEN] = '\0';
	return true;
}

size_t
dmshook_next_signature(const char **p, const char **signature)
{
	size_t		n;

	*p += strspn(*p, " ");
	*signature = *p;
	n = strcspn(*p, " ");
	*p += n;
	return n;
}

/*
 * The texts are compared, not the bytes: base64 of 32 bytes has one right
 * spelling, and whatever is cut short or longer is none. Every signature is
 * looked at, also after a right one.
 */
bool
dmshook_verify_v1(DmshookSigner *signer, const char *id, int64_t timestamp,
				  const void *body, size_t len, const char *signatures)
{
	char		right[DMSHOOK_V1_LEN + 1];
	const char *signature;
	size_t		n;
	int			found = 0;

	if (timestamp < 0 || !dmshook_sign_v1(signer, id, timestamp, body, len, right))
		return false;
	while ((n = dmshook_next_signature(&signatures, &signature)) > 0)
	{
		if (n == DMSHOOK_V1_LEN)
			found |= CRYPTO_memcmp(signature, right, DMSHOOK_V1_LEN) == 0;
	}
	OPENSSL_cleanse(right, sizeof(right));
	return found != 0;
}

/* Which digits are letters is no secret: it is the peer's own text that is folded. */
bool
dmshook_verify_github(DmshookSigner *signer, const void *body, size_t len, const char *signature)
{
	char		right[DMSHOOK_GITHUB_LEN + 1];
	char		given[DMSHOOK_GITHUB_LEN];
	bool		found;

	if (strlen(signature) != DMSHOOK_GITHUB_LEN || !dmshook_sign_github(signer, body, len, right))
		return false;
	for (int i = 0; i < DMSHOOK_GITHUB_LEN; i++)
		given[i] = i >= 7 && signature[i] >= 'A' && signature[i] <= 'F' ? signature[i] + ('a' - 'A') : signature[i];
	found = CRYPTO_memcmp(given, right, DMSHOOK_GITHUB_LEN) == 0;
	OPENSSL_cleanse(right, sizeof(right));
	return found;
}

bool
dmshook_timestamp_parse(const char *text, int64_t *timestamp)
{
	int64_t		value = 0;
	size_t		digits = strspn(text, "0123456789");

	/* 12 digits are the year 33658; the sum with a tolerance cannot overflow */
	if (digits == 0 || digits > 12 || text[digits] != '\0')
		return false;
	for (size_t i = 0; i < digits; i++)
		value = value * 10 + (text[i] - '0');
	*timestamp = value;
	return true;
}

bool
dmshook_timestamp_fresh(int64_t timestamp, int64_t now, int64_t tolerance)
{
	/* unsigned: no difference of two int64 overflows there */
	uint64_t	age = timestamp > now ? (uint64_t) timestamp - (uint64_t) now
	: (uint64_t) now - (uint64_t) timestamp;

	return tolerance >= 0 && age <= (uint64_t) tolerance;
}

bool
dmshook_secret_generate(char *out, size_t size)
{
	uint8_t		key[NEW_KEY];
	bool		ok = false;

	if (size > strlen(SHARED_PREFIX) + BASE64_LEN(NEW_KEY) && RAND_bytes(key, sizeof(key)) == 1)
	{
		memcpy(out, SHARED_PREFIX, strlen(SHARED_PREFIX));
		EVP_EncodeBlock((unsigned char *) out + strlen(SHARED_PREFIX), key, (int) sizeof(key));
		ok = true;
	}
	else
	{
		ERR_clear_error();
		if (size > 0)
			out[0] = '\0';
	}
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}

/*
 * The algorithm is looked up once a process and kept: looking it up costs
 * more than a signature.
 */
static bool
mac_start(DmshookSigner *signer, const void *key, size_t len)
{
	static EVP_MAC *hmac = NULL;
	char		digest[] = "SHA256";
	OSSL_PARAM	params[2];

	if (hmac == NULL)
		hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (hmac != NULL)
		signer->mac = EVP_MAC_CTX_new(hmac);
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0);
	params[1] = OSSL_PARAM_construct_end();
	if (signer->mac == NULL || !EVP_MAC_init(signer->mac, key, len, params))
	{
		ERR_clear_error();
		return false;
	}
	return true;
}

static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	if (c == '/')
		return 63;
	return -1;
}

size_t
dmshook_base64_decode(const char *text, size_t len, uint8_t *out, size_t size)
{
	size_t		n = 0;
	size_t		pad;
	uint32_t	bits = 0;

	if (len == 0 || len % 4 != 0)
		return 0;
	pad = text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1 : 2;
	for (size_t i = 0; i < len - pad; i++)
	{
		int			value = base64_value(text[i]);

		if (value < 0)
			return 0;
		bits = bits << 6 | (uint32_t) value;
		if (i % 4 == 0)
			continue;
		/* 12, 10, 8 bits are there: the upper 8 of them are a byte */
		if (n < size)
			out[n++] = (uint8_t) (bits >> (6 - i % 4 * 2));
		bits &= (1U << (6 - i % 4 * 2)) - 1;
	}
	/* what is left over of the last byte must be zero */
	return bits == 0 ? n : 0;
}
