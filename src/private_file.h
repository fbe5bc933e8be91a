/*
 * private_file.h - reading a file that holds a secret. See private_file.c.
 */
#ifndef DMSHOOK_PRIVATE_FILE_H
#define DMSHOOK_PRIVATE_FILE_H

#include "postgres.h"

#include <sys/stat.h>

/*
 * Read the whole file into buf, which gets a zero byte at its end (so *len is below size).
 * what: the file in words, "password file". Permissions are those that PostgreSQL
 * wants of ssl_key_file. NULL when fine; else a palloc'd sentence that says what is wrong, and
 * buf holds nothing of the file. *seen (may be NULL): the file's state, zeroed where there is none.
 * The caller wipes buf.
 */
extern char *dmshook_private_file_read(const char *path, const char *what, char *buf, size_t size, size_t *len, struct stat *seen);

#endif							/* DMSHOOK_PRIVATE_FILE_H */
