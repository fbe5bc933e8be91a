/*
 * URLs that people type.
 *
 * sources: src/transport_parse.c src/guard.c
 * server
 */
#include "postgres.h"

#include <curl/curl.h>

#include "transport_private.h"

#include "fuzz.h"

char	   *dmshook_allowed_ports = "443, 8443, 1024-65535";

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *url = fuzz_text(data, size);
	const char *hint = NULL;
	const char *problem = dmshook_url_check(url, false, &hint);
	char		host[300];
	int			port = -1;
	bool		https = false;

	MUST(problem == NULL || hint != NULL);
	if (problem == NULL)
	{
		MUST(strlen(url) <= 2000 && strpbrk(url, " \r\n\t\"<>\\^`{|}#") == NULL);
		MUST(transport_url_host(url, host, sizeof(host), &port, &https));
		MUST(https && host[0] != '\0' && port > 0 && port < 65536);
		MUST(strpbrk(host, "/?@#") == NULL);
		/* what is fine without plain http is fine with it */
		MUST(dmshook_url_check(url, true, &hint) == NULL);
	}
	if (dmshook_url_check(url, true, &hint) == NULL)
		MUST(transport_url_host(url, host, sizeof(host), &port, &https));
	else
		transport_url_host(url, host, 8, &port, &https);
	transport_ip_literal(url);
	free(url);
	return 0;
}
