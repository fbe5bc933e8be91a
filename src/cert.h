/*
 * cert.h - client certificates and their keys, in PEM. See cert.c. Builds without a server.
 */
#ifndef DMSHOOK_CERT_H
#define DMSHOOK_CERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DmshookCertificate
{
	int64_t		not_before;		/* seconds since 1970 */
	int64_t		not_after;
} DmshookCertificate;

/*
 * Can a TLS client use this certificate (and those of intermediate authorities behind it) with this
 * key? Also one that has expired. False: what is wrong goes to problem, a part of a sentence, and a
 * constant one to *hint; neither holds anything of the key.
 */
extern bool dmshook_certificate_read(const char *certificate, const char *key, DmshookCertificate *out,
									 char *problem, size_t size, const char **hint);

#endif							/* DMSHOOK_CERT_H */
