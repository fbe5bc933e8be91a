/*
 * What a token endpoint answers: a stranger's JSON.
 *
 * sources: src/oauth_answer.c
 */
#include "oauth_answer.h"

#include "fuzz.h"

/* Ends within its room, and is printable ASCII all the way. */
static bool
printable(const char *text, size_t room)
{
	size_t		len = strnlen(text, room);

	for (size_t i = 0; i < len; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	return len < room;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static DmshookTokenAnswer answer;
	char	   *json = malloc(size > 0 ? size : 1);
	bool		read;

	if (size > 0)
		memcpy(json, data, size);
	memset(&answer, 0x5a, sizeof(answer));
	read = dmshook_oauth_answer(json, size, &answer);
	MUST(printable(answer.token, sizeof(answer.token)));
	MUST(printable(answer.type, sizeof(answer.type)));
	MUST(printable(answer.error, sizeof(answer.error)));
	MUST(printable(answer.description, sizeof(answer.description)));
	MUST(answer.expires_in >= -1);
	if (read)
		MUST(memchr(json, '{', size) && memchr(json, '}', size));
	if (dmshook_oauth_token_fit(answer.token))
		MUST(answer.token[0] != '\0' && strpbrk(answer.token, " \",\\") == NULL);
	free(json);
	return 0;
}
