/*
 * The value of a Retry-After header: a receiver's bytes.
 *
 * sources: src/transport_parse.c src/guard.c
 * server
 */
#include "postgres.h"

#include <curl/curl.h>

#include "transport_private.h"

#include "fuzz.h"

char	   *dmshook_allowed_ports = "443, 8443, 1024-65535";

static bool
all_digits(const char *value, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (value[i] < '0' || value[i] > '9')
			return false;
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *value = malloc(size > 0 ? size : 1);
	int64		ms;

	memcpy(value, data, size);
	ms = transport_retry_after(value, size);
	MUST(ms >= -1 && ms <= INT64CONST(366) * 24 * 3600 * 1000);

	/* digits are seconds, up to a year */
	if (size > 0 && size < 9 && all_digits(value, size))
	{
		char	   *text = fuzz_text(data, size);

		MUST(ms == Min(atoll(text), 365 * 24 * 3600) * 1000);
		free(text);
	}
	/* nothing that begins with a sign is one */
	if (size > 0 && (value[0] == '-' || value[0] == '+'))
		MUST(ms == -1);
	free(value);
	return 0;
}
