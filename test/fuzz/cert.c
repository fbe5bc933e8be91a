/*
 * A client certificate and its key, in PEM. The first byte of an input is odd: the rest is both, with
 * a line "==" between them. Even: a pair made at the start, edited: two bytes say where, a third what.
 *
 * sources: src/cert.c
 * libs: -lssl -lcrypto
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "cert.h"

#include "fuzz.h"

extern int	LLVMFuzzerInitialize(int *argc, char ***argv);

static char made[8192];
static size_t made_len;

static void
keep(BIO *bio)
{
	char	   *text;
	long		len = BIO_get_mem_data(bio, &text);

	MUST(len > 0 && made_len + (size_t) len < sizeof(made));
	memcpy(made + made_len, text, (size_t) len);
	made_len += (size_t) len;
	BIO_free(bio);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	EVP_PKEY   *key = EVP_EC_gen("P-256");
	X509	   *certificate = X509_new();
	BIO		   *bio = BIO_new(BIO_s_mem());

	(void) argc;
	(void) argv;
	MUST(key && certificate && bio);
	X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
	X509_set_pubkey(certificate, key);
	MUST(X509_sign(certificate, key, EVP_sha256()) > 0);
	MUST(PEM_write_bio_X509(bio, certificate) == 1);
	keep(bio);
	bio = BIO_new(BIO_s_mem());
	BIO_puts(bio, "==\n");
	MUST(PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
	keep(bio);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool		whole = size > 0 && (data[0] & 1);
	char	   *text = whole ? fuzz_text(data + 1, size - 1) : fuzz_text((uint8_t *) made, made_len);
	char	   *middle;
	char		problem[200] = "";
	const char *hint = NULL;
	DmshookCertificate out;
	bool		fits;

	for (size_t i = 1; !whole && i + 2 < size; i += 3)
		text[(data[i] * 256u + data[i + 1]) % made_len] = (char) data[i + 2];
	middle = strstr(text, "\n==\n");
	if (middle)
		*middle = '\0';
	fits = dmshook_certificate_read(text, middle ? middle + 4 : "", &out, problem, sizeof(problem), &hint);
	MUST(fits == (hint == NULL));
	MUST(fits == (problem[0] == '\0'));
	MUST(!fits || (middle && out.not_after >= out.not_before - INT64_C(1000000000000)));
	MUST(fits || whole || size > 3);	/* the pair as it was made */
	MUST(ERR_peek_error() == 0);
	free(text);
	return 0;
}
