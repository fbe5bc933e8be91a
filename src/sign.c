/*
 * sign.c - secrets and signatures (Standard Webhooks 1.0.0, scheme v1).
 *
 * Used by the dispatcher for every request and by SQL functions. No PostgreSQL;
 * memory is OpenSSL's and is given back by dmshook_signer_free(). A signer
 * belongs to one process and is used by one thread at a time. Keys are
 * wiped when they are done with, no message holds any part of one, and what is compared
 * with a peer's bytes is compared in constant time.
 */
#include "sign.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#define SECRET_PREFIX		"whsec_"
#define SECRET_PREFIX_LEN	(sizeof(SECRET_PREFIX) - 1)
#define MIN_KEY				24
#define MAX_KEY				64
#define NEW_KEY				32
#define MAC_LEN				32

#define BASE64_LEN(n)		(((n) + 2) / 3 * 4)

struct DmshookSigner
{
	EVP_MAC_CTX *context;
};

static bool mac_start(DmshookSigner *signer, const void *key, size_t len);
static int	base64_value(char c);
static size_t base64_decode(const char *text, size_t len, uint8_t *out, size_t size);

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

	if (strncmp(secret, SECRET_PREFIX, SECRET_PREFIX_LEN) != 0)
		why = "A signing secret begins with \"" SECRET_PREFIX "\".";
	else
	{
		text = secret + SECRET_PREFIX_LEN;
		len = base64_decode(text, strlen(text), key, sizeof(key));
		if (len == 0)
			why = "What follows \"" SECRET_PREFIX "\" must be standard base64, with its padding.";
		else if (len < MIN_KEY || len > MAX_KEY)
			why = "The key of a signing secret has 24 to 64 bytes.";
		else
		{
			signer = OPENSSL_zalloc(sizeof(*signer));
			if (signer == NULL || !mac_start(signer, key, len))
			{
				dmshook_signer_free(signer);
				signer = NULL;
				why = "OpenSSL could not make a key for HMAC-SHA256.";
			}
		}
		OPENSSL_cleanse(key, sizeof(key));
	}
	if (problem != NULL)
		*problem = why;
	return signer;
}

/* EVP_MAC_CTX_free wipes the key and the states that were made of it. */
void
dmshook_signer_free(DmshookSigner *signer)
{
	if (signer == NULL)
		return;
	EVP_MAC_CTX_free(signer->context);
	OPENSSL_cleanse(signer, sizeof(*signer));
	OPENSSL_free(signer);
}

/* Starting again with the key that the context has costs 0.56 us; with the key anew, 1.4. */
bool
dmshook_sign_v1(DmshookSigner *signer, const char *id, int64_t timestamp,
				const void *body, size_t len, char *out)
{
	EVP_MAC_CTX *context = signer->context;
	char		middle[24];
	int			n = snprintf(middle, sizeof(middle), ".%" PRId64 ".", timestamp);
	uint8_t		mac[MAC_LEN];
	size_t		mac_len = 0;

	if (!EVP_MAC_init(context, NULL, 0, NULL) ||
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
	int			found = 0;

	if (timestamp < 0 || !dmshook_sign_v1(signer, id, timestamp, body, len, right))
		return false;
	for (const char *p = signatures; *p != '\0';)
	{
		size_t		n;

		p += strspn(p, " ");
		n = strcspn(p, " ");
		if (n == DMSHOOK_V1_LEN)
			found |= CRYPTO_memcmp(p, right, DMSHOOK_V1_LEN) == 0;
		p += n;
	}
	OPENSSL_cleanse(right, sizeof(right));
	return found != 0;
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

	if (size > SECRET_PREFIX_LEN + BASE64_LEN(NEW_KEY) && RAND_bytes(key, sizeof(key)) == 1)
	{
		memcpy(out, SECRET_PREFIX, SECRET_PREFIX_LEN);
		EVP_EncodeBlock((unsigned char *) out + SECRET_PREFIX_LEN, key, (int) sizeof(key));
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
		signer->context = EVP_MAC_CTX_new(hmac);
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0);
	params[1] = OSSL_PARAM_construct_end();
	if (signer->context == NULL || !EVP_MAC_init(signer->context, key, len, params))
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

/*
 * Number of bytes; 0 when text is empty or not canonical base64. What does not
 * fit is counted but not kept: the answer then is size.
 */
static size_t
base64_decode(const char *text, size_t len, uint8_t *out, size_t size)
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
