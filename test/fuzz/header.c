/*
 * Headers that people choose: a name, another one, and a value with any bytes. What is fine
 * is put into a request here, which must still be one request with just these headers.
 *
 * sources: src/header.c
 */
#include "header.h"

#include "fuzz.h"

/* How often a line of a request begins with a name and a colon; its lines. */
static int
lines(const char *request, size_t len, int *n)
{
	int			colons = 0;

	*n = 0;
	for (size_t i = 0; i < len;)
	{
		const char *end = memchr(request + i, '\n', len - i);
		size_t		line = end ? (size_t) (end - request) - i : len - i;

		(*n)++;
		if (memchr(request + i, ':', line) != NULL)
			colons++;
		i += line + 1;
	}
	return colons;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const ours[] = {"host", "content-length", "Transfer-Encoding", "webhook-id", "WEBHOOK-signature", "Dmshook-Event", "te"};
	char	   *name = fuzz_line(&data, &size);
	char	   *other = fuzz_line(&data, &size);
	char	   *value = malloc(size + 1);
	const char *prefix;
	bool		fine;

	if (size > 0)
		memcpy(value, data, size);
	fine = dmshook_header_name_fault(name, &prefix) == DMSHOOK_HEADER_FINE;
	if (fine)
	{
		MUST(name[0] != '\0' && strlen(name) <= DMSHOOK_HEADER_MAX_NAME);
		for (const char *c = name; *c; c++)
			MUST(*c > ' ' && *c < 0x7f && strchr("()<>@,;:\\\"/[]?={}", *c) == NULL);
		for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
			MUST(!dmshook_header_same(name, ours[i]));
	}
	MUST(dmshook_header_same(name, name));
	MUST(dmshook_header_same(name, other) == dmshook_header_same(other, name));
	if (dmshook_header_same(name, other))
		MUST(strlen(name) == strlen(other) && fine == (dmshook_header_name_fault(other, &prefix) == DMSHOOK_HEADER_FINE));

	if (dmshook_header_value_fault(value, size) == DMSHOOK_HEADER_FINE)
	{
		MUST(size > 0 && size <= DMSHOOK_HEADER_MAX_VALUE && memchr(value, '\0', size) == NULL && memchr(value, '\r', size) == NULL);
		if (fine)
		{
			size_t		len = strlen(name) + 2 + size;
			char	   *request = malloc(len);
			int			n;

			memcpy(request, name, strlen(name));
			memcpy(request + strlen(name), ": ", 2);
			memcpy(request + strlen(name) + 2, value, size);
			MUST(lines(request, len, &n) == 1 && n == 1);
			free(request);
		}
	}
	free(name);
	free(other);
	free(value);
	return 0;
}
