/*
 * keyfile.c - the lines of dmshook.secret_key_file: keys of 32 bytes in base64 or hex, blank
 * lines, and comments.
 *
 * Pure but for OpenSSL: no PostgreSQL, no memory of its own; any process (vault.c). What is read
 * stays where the caller put it and where the caller wants it, and in no other place.
 */
#include "keyfile.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int
dmshook_keyfile_base64(const char *text, size_t len, unsigned char *out, size_t room)
{
	int			padding = 0;
	int			n;

	if (len == 0 || len % 4 != 0 || len / 4 * 3 > room + 2)
		return -1;
	while (padding < 2 && text[len - 1 - padding] == '=')
		padding++;
	/* it skips blanks, ends of lines and '-' at both ends and takes '=' for zero bits anywhere */
	if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") < len - (size_t) padding)
		return -1;
	n = EVP_DecodeBlock(out, (const unsigned char *) text, (int) len);
	ERR_clear_error();
	return n < 0 || n - padding > (int) room ? -1 : n - padding;
}

static bool
decode_key(const char *text, size_t len, unsigned char *out)
{
	unsigned char bytes[DMSHOOK_KEY_LEN + 2];
	bool		ok;

	if (len == 2 * DMSHOOK_KEY_LEN)
	{
		for (int i = 0; i < DMSHOOK_KEY_LEN; i++)
		{
			int			high = hex_value(text[2 * i]);
			int			low = hex_value(text[2 * i + 1]);

			if (high < 0 || low < 0)
				return false;
			out[i] = (unsigned char) (high << 4 | low);
		}
		return true;
	}
	ok = dmshook_keyfile_base64(text, len, bytes, DMSHOOK_KEY_LEN) == DMSHOOK_KEY_LEN;
	if (ok)
		memcpy(out, bytes, DMSHOOK_KEY_LEN);
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return ok;
}

/* The begin of its SHA-256. */
static bool
set_id(DmshookVaultKey *key)
{
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (EVP_Digest(key->bytes, DMSHOOK_KEY_LEN, digest, NULL, EVP_sha256(), NULL) != 1)
		return false;
	for (int i = 0; i < DMSHOOK_KEY_ID_LEN / 2; i++)
		snprintf(key->id + 2 * i, 3, "%02x", digest[i]);
	return true;
}

static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
known(const DmshookVaultKey *keys, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(keys[i].id, keys[n].id) == 0)
			return true;
	}
	return false;
}

int
dmshook_keyfile_parse(const char *text, DmshookVaultKey *keys, int room, int *line)
{
	int			n = 0;

	*line = 0;
	while (text)
	{
		const char *next = strchr(text, '\n');
		const char *end = next ? next : text + strlen(text);

		(*line)++;
		while (text < end && is_blank(*text))
			text++;
		while (end > text && is_blank(end[-1]))
			end--;
		if (end != text && *text != '#')
		{
			if (n == room)
				*line = 0;
			if (n == room || !decode_key(text, (size_t) (end - text), keys[n].bytes) || !set_id(&keys[n]))
			{
				OPENSSL_cleanse(keys, sizeof(DmshookVaultKey) * (size_t) room);
				return -1;
			}
			if (!known(keys, n))
				n++;
		}
		text = next ? next + 1 : NULL;
	}
	return n;
}
