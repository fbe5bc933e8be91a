/*
 * cert.c - client certificates and their keys: do they fit together, and until
 * when are they good?
 *
 * Pure but for OpenSSL: no PostgreSQL, no clock. Runs in backends when a webhook is
 * created or altered, and in the dispatcher when it loads one, so that what
 * libcurl is given later is what was tried here. Nothing is kept; OpenSSL wipes
 * keys when it frees them. Never asks anybody for a passphrase, and never leaves an
 * error in OpenSSL's queue for others to find.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "cert.h"

#define HINT_CERTIFICATE "Pass it in PEM format, -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, those of intermediate authorities behind it."
#define HINT_KEY "Pass it in PEM format, -----BEGIN PRIVATE KEY----- to -----END PRIVATE KEY-----."
#define HINT_ENCRYPTED "Nobody is there to type a passphrase. Take it away with: openssl pkey -in key.pem -out plain.pem; then pass that, and delete the file."
#define HINT_PAIR "Compare: openssl x509 -in certificate.pem -noout -pubkey; openssl pkey -in key.pem -pubout. The client's certificate comes first, then those of authorities."
#define HINT_WEAK "It needs at least 2048 bits of RSA, or a curve such as P-256, and SHA-256."

/* What the steps work on. */
typedef struct Reading
{
	X509	   *leaf;
	EVP_PKEY   *key;
	char	   *problem;
	size_t		size;
	const char **hint;
} Reading;

static int
no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void) buf;
	(void) size;
	(void) writing;
	(void) arg;
	return -1;
}

static bool fail(Reading *r, const char *hint, const char *problem,...) __attribute__((format(printf, 3, 4)));

static bool
fail(Reading *r, const char *hint, const char *problem,...)
{
	va_list		args;

	va_start(args, problem);
	vsnprintf(r->problem, r->size, problem, args);
	va_end(args);
	*r->hint = hint;
	return false;
}

/* The first one is the client's; those behind it must be readable, too. */
static bool
read_certificates(Reading *r, const char *pem)
{
	BIO		   *bio;
	X509	   *next;
	unsigned long error;
	int			n = 0;

	if (strstr(pem, "PRIVATE KEY-----") != NULL)
		return fail(r, "Pass the key as \"key\", and leave it out of \"certificate\".", "there is a private key in \"certificate\"");
	if ((bio = BIO_new_mem_buf(pem, -1)) == NULL)
		return fail(r, "", "out of memory");
	ERR_clear_error();
	while ((next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL)
	{
		if (n++ == 0)
			r->leaf = next;
		else
			X509_free(next);
	}
	BIO_free(bio);
	/* the end of it is an error, too, and the only one there may be */
	error = ERR_peek_last_error();
	ERR_clear_error();
	if (n == 0 || ERR_GET_LIB(error) != ERR_LIB_PEM || ERR_GET_REASON(error) != PEM_R_NO_START_LINE)
		return fail(r, HINT_CERTIFICATE, n == 0 ? "\"certificate\" is none" : "a certificate behind the first cannot be read");
	return true;
}

static bool
read_key(Reading *r, const char *pem)
{
	BIO		   *bio;

	if (strstr(pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----") != NULL || strstr(pem, "Proc-Type: 4,ENCRYPTED") != NULL)
		return fail(r, HINT_ENCRYPTED, "\"key\" is encrypted");
	if ((bio = BIO_new_mem_buf(pem, -1)) == NULL)
		return fail(r, "", "out of memory");
	r->key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	ERR_clear_error();
	return r->key != NULL || fail(r, HINT_KEY, "\"key\" is no private key");
}

/* As libcurl does it later: a key that is too weak is refused here already. */
static bool
try_both(Reading *r)
{
	SSL_CTX    *context;
	const char *reason = NULL;

	if (X509_check_private_key(r->leaf, r->key) != 1)
		return fail(r, HINT_PAIR, "\"key\" does not belong to \"certificate\"");
	if ((context = SSL_CTX_new(TLS_client_method())) == NULL)
		return fail(r, "", "out of memory");
	if (SSL_CTX_use_certificate(context, r->leaf) != 1 || SSL_CTX_use_PrivateKey(context, r->key) != 1)
	{
		reason = ERR_reason_error_string(ERR_peek_last_error());
		fail(r, HINT_WEAK, "OpenSSL refuses the client certificate or its key: %s", reason ? reason : "it does not say why");
	}
	SSL_CTX_free(context);
	return *r->hint == NULL;
}

static bool
read_time(const ASN1_TIME *time, int64_t *seconds)
{
	struct tm	tm;

	if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1)
		return false;
	*seconds = (int64_t) timegm(&tm);
	return true;
}

bool
dmshook_certificate_read(const char *certificate, const char *key, DmshookCertificate *out,
						 char *problem, size_t size, const char **hint)
{
	Reading		r = {.problem = problem, .size = size, .hint = hint};
	bool		ok;

	*hint = NULL;
	memset(out, 0, sizeof(*out));
	ok = read_certificates(&r, certificate) && read_key(&r, key) && try_both(&r);
	if (ok && !(read_time(X509_get0_notBefore(r.leaf), &out->not_before) && read_time(X509_get0_notAfter(r.leaf), &out->not_after)))
		ok = fail(&r, HINT_CERTIFICATE, "\"certificate\" has no valid dates");
	X509_free(r.leaf);
	EVP_PKEY_free(r.key);
	ERR_clear_error();
	return ok;
}
