/*
 * transport_tls.c - the name of the TLS version of a connection.
 *
 * A file of its own, so that transport.c need not include OpenSSL: curl tells
 * the version of a connection only by handing out OpenSSL's object.
 */
#include "postgres.h"

#include <openssl/ssl.h>

#include "transport_private.h"

const char *
transport_tls_version(void *ssl)
{
	return SSL_get_version((const SSL *) ssl);
}
