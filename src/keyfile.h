/*
 * keyfile.h - the lines of dmshook.secret_key_file. See keyfile.c.
 */
#ifndef DMSHOOK_KEYFILE_H
#define DMSHOOK_KEYFILE_H

#include <stddef.h>

#define DMSHOOK_KEY_LEN		32
#define DMSHOOK_KEY_ID_LEN	16	/* hexadecimal digits */

typedef struct DmshookVaultKey
{
	unsigned char bytes[DMSHOOK_KEY_LEN];
	char		id[DMSHOOK_KEY_ID_LEN + 1];
} DmshookVaultKey;

/*
 * The keys of a file, the first of each: how many. -1: *line is no key, or, where that is 0, there
 * are more than the room is for; then no key is left in the room.
 */
extern int	dmshook_keyfile_parse(const char *text, DmshookVaultKey *keys, int room, int *line);

/* base64 with its padding to bytes: how many; -1: it is none, or longer than the room. out holds room + 2. */
extern int	dmshook_keyfile_base64(const char *text, size_t len, unsigned char *out, size_t room);

#endif							/* DMSHOOK_KEYFILE_H */
