/*
 * The key file: lines that an administrator wrote. The first byte of an input says for how many keys there is room.
 *
 * sources: src/keyfile.c
 * libs: -lcrypto
 */
#include <ctype.h>
#include <openssl/err.h>

#include "keyfile.h"

#include "fuzz.h"

#define ROOM	4

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const DmshookVaultKey none;
	DmshookVaultKey	keys[ROOM] = {0};
	int			room = size > 0 ? data[0] % (ROOM + 1) : 0;
	char	   *text = size > 0 ? fuzz_text(data + 1, size - 1) : fuzz_text(data, 0);
	int			line = -1;
	int			n = dmshook_keyfile_parse(text, keys, room, &line);
	unsigned char bytes[64 + 2];

	MUST(n >= -1 && n <= room && line >= 0);
	for (int i = 0; i < n; i++)
	{
		MUST(strlen(keys[i].id) == DMSHOOK_KEY_ID_LEN);
		for (int k = 0; k < i; k++)
			MUST(strcmp(keys[i].id, keys[k].id) != 0 && memcmp(keys[i].bytes, keys[k].bytes, DMSHOOK_KEY_LEN) != 0);
	}
	/* where something is wrong nothing stays */
	for (int i = 0; n < 0 && i < room; i++)
		MUST(memcmp(&keys[i], &none, sizeof(none)) == 0);
	if (n < 0 && line > 0)
	{
		int			lines = 1;

		for (const char *c = text; *c; c++)
			lines += *c == '\n';
		MUST(line <= lines);
	}
	n = dmshook_keyfile_base64(text, strlen(text), bytes, 64);
	MUST(n >= -1 && n <= 64);
	if (n >= 0)
		MUST((int) strlen(text) == (n + 2) / 3 * 4 && strpbrk(text, " \t\r\n-") == NULL);
	MUST(ERR_peek_error() == 0);
	free(text);
	return 0;
}
