/*
 * authority.c - the authorities that a webhook trusts (option ca_certificate): are
 * they certificates, and until when?
 *
 * Pure but for OpenSSL: no PostgreSQL, no clock. Runs in backends when a webhook is
 * created or altered, and in the dispatcher when it loads one. Whether a certificate signs
 * others is not asked: a receiver's own, pinned, is a good use of the option. Nothing is kept,
 * and no error is left in OpenSSL's queue for others to find.
 */
#include "authority.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <time.h>

#define BEGIN	"-----BEGIN "
#define CERTIFICATE	"-----BEGIN CERTIFICATE-----"

#define MAX_PEM	(256 * 1024)

static int	count(const char *text, const char *part);
static bool ends_at(const X509 *certificate, int64_t *expires);

bool
dmshook_authority_read(const char *pem, int64_t *expires, const char **problem)
{
	size_t		len = strlen(pem);
	int			wanted = count(pem, CERTIFICATE);
	int			n = 0;
	BIO		   *bio;
	X509	   *certificate;

	*expires = INT64_MAX;
	*problem = "it has no certificate";
	if (wanted == 0)
		return false;
	/* a key would be stored and shown as no secret */
	*problem = "it holds something else than certificates";
	if (count(pem, BEGIN) != wanted)
		return false;
	*problem = "it is too long";
	if (len > MAX_PEM)
		return false;

	*problem = "a certificate in it cannot be read";
	ERR_set_mark();
	bio = BIO_new_mem_buf(pem, (int) len);
	while (bio != NULL && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
	{
		int64_t		end;
		bool		ok = ends_at(certificate, &end);

		X509_free(certificate);
		if (!ok)
			break;
		n++;
		if (end < *expires)
			*expires = end;
	}
	BIO_free(bio);
	ERR_pop_to_mark();
	return n == wanted;
}

static int
count(const char *text, const char *part)
{
	int			n = 0;

	while ((text = strstr(text, part)) != NULL)
	{
		text += strlen(part);
		n++;
	}
	return n;
}

static bool
ends_at(const X509 *certificate, int64_t *expires)
{
	struct tm	end;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1)
		return false;
	*expires = (int64_t) timegm(&end);
	return true;
}
