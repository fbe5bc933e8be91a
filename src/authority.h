/*
 * authority.h - the authorities that a webhook trusts, in PEM. See authority.c. Builds without a server.
 */
#ifndef DMSHOOK_AUTHORITY_H
#define DMSHOOK_AUTHORITY_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Is it one or more certificates in PEM and no key, each of which can be read? *expires: when the first of
 * them ends, seconds since 1970. False: *problem is a constant part of a sentence.
 */
extern bool dmshook_authority_read(const char *pem, int64_t *expires, const char **problem);

#endif							/* DMSHOOK_AUTHORITY_H */
