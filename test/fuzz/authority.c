/*
 * Certificates of authorities, in PEM (option ca_certificate). The first byte of an input is odd: the rest is all.
 * Even: two certificates made at the start, edited: two bytes say where, a third what.
 *
 * sources: src/authority.c
 * libs: -lcrypto
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "authority.h"

#include "fuzz.h"

extern int	LLVMFuzzerInitialize(int *argc, char ***argv);

static char made[8192];
static size_t made_len;

static void
make(EVP_PKEY *key, long days)
{
	X509	   *certificate = X509_new();
	BIO		   *bio = BIO_new(BIO_s_mem());
	char	   *text;
	long		len;

	MUST(key && certificate && bio);
	X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
	X509_gmtime_adj(X509_getm_notAfter(certificate), days * 86400);
	X509_set_pubkey(certificate, key);
	MUST(X509_sign(certificate, key, EVP_sha256()) > 0);
	MUST(PEM_write_bio_X509(bio, certificate) == 1);
	len = BIO_get_mem_data(bio, &text);
	MUST(len > 0 && made_len + (size_t) len < sizeof(made));
	memcpy(made + made_len, text, (size_t) len);
	made_len += (size_t) len;
	BIO_free(bio);
	X509_free(certificate);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	EVP_PKEY   *key = EVP_EC_gen("P-256");

	(void) argc;
	(void) argv;
	make(key, 30);
	make(key, 10);
	EVP_PKEY_free(key);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool		whole = size > 0 && (data[0] & 1);
	char	   *text = whole ? fuzz_text(data + 1, size - 1) : fuzz_text((uint8_t *) made, made_len);
	int64_t		expires = -1;
	const char *problem = NULL;
	bool		ok;

	for (size_t i = 1; !whole && i + 2 < size; i += 3)
		text[(data[i] * 256u + data[i + 1]) % made_len] = (char) data[i + 2];
	ok = dmshook_authority_read(text, &expires, &problem);
	MUST(ok || problem != NULL);
	if (ok)
	{
		MUST(expires != INT64_MAX && strstr(text, "-----BEGIN CERTIFICATE-----") != NULL);
		/* nothing secret may be taken for a certificate */
		MUST(strstr(text, "-----BEGIN PRIVATE KEY") == NULL);
	}
	MUST(ok || whole || size > 3);	/* as they were made */
	MUST(ERR_peek_error() == 0);
	free(text);
	return 0;
}
