/*
 * transport_tls.c - what OpenSSL knows about a connection: version, cipher, until when the
 * receiver's certificate is valid.
 *
 * A file of its own, so that the others need not include OpenSSL: curl tells
 * these of a connection only by handing out OpenSSL's object. In the dispatcher, within
 * a callback of curl: no ereport, nothing is allocated that is not OpenSSL's. The names of
 * ciphers are asked for in backends, by whoever reads dmshook.attempts.
 */
#include "postgres.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <time.h>

#include "transport_private.h"

const char *
transport_tls_version(void *ssl, int *cipher)
{
	const SSL_CIPHER *current = SSL_get_current_cipher(ssl);

	*cipher = current != NULL ? SSL_CIPHER_get_protocol_id(current) : 0;
	return SSL_get_version(ssl);
}

int64
transport_tls_expires(void *ssl)
{
	X509	   *certificate = SSL_get1_peer_certificate(ssl);
	struct tm	end;
	int64		result = 0;

	if (certificate != NULL && ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1)
		result = (int64) timegm(&end);
	X509_free(certificate);
	return result;
}

bool
transport_tls_multiplexed(void *ssl)
{
	const unsigned char *protocol = NULL;
	unsigned int len = 0;

	SSL_get0_alpn_selected(ssl, &protocol, &len);
	return len == 2 && memcmp(protocol, "h2", 2) == 0;
}

bool
transport_tls_waits(void *ssl)
{
	return SSL_pending(ssl) > 0;
}

/* One more than the descriptor, for what nobody has set is NULL. */
static int
descriptor_index(void)
{
	static int	index = -1;

	if (index < 0)
		index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	return index;
}

void
transport_tls_remember(void *ssl, curl_socket_t fd)
{
	(void) SSL_set_ex_data(ssl, descriptor_index(), (void *) (intptr_t) (fd + 1));
}

curl_socket_t
transport_tls_remembered(void *ssl)
{
	return (curl_socket_t) (intptr_t) SSL_get_ex_data(ssl, descriptor_index()) - 1;
}

const char *
dmshook_tls_cipher_name(int number)
{
	static struct
	{
		int			number;
		const char *name;
	}			known[32];
	static int	n = 0;
	unsigned char id[2] = {(unsigned char) (number >> 8), (unsigned char) number};
	const SSL_CIPHER *cipher = NULL;
	const char *name = NULL;
	SSL_CTX    *context;
	SSL		   *ssl;

	for (int i = 0; i < n; i++)
	{
		if (known[i].number == number)
			return known[i].name;
	}
	/* a connection that is none is all that can be asked */
	context = SSL_CTX_new(TLS_method());
	ssl = context != NULL ? SSL_new(context) : NULL;
	if (ssl != NULL)
		cipher = SSL_CIPHER_find(ssl, id);
	if (cipher != NULL)
		name = SSL_CIPHER_standard_name(cipher);
	SSL_free(ssl);
	SSL_CTX_free(context);
	if (name != NULL && n < (int) lengthof(known))
	{
		known[n].number = number;
		known[n++].name = name;
	}
	return name;
}
