/*
 * Event types and patterns. An input is a line with a pattern and one with a type.
 *
 * sources: src/match.c
 */
#include "match.h"

#include "fuzz.h"

/* A copy without a zero byte behind it. */
static char *
exactly(const char *text, size_t len)
{
	char	   *copy = malloc(len > 0 ? len : 1);

	memcpy(copy, text, len);
	return copy;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *pattern_text = fuzz_line(&data, &size);
	char	   *type_text = fuzz_line(&data, &size);
	size_t		plen = strlen(pattern_text),
				tlen = strlen(type_text);
	char	   *pattern = exactly(pattern_text, plen),
			   *type = exactly(type_text, tlen);
	bool		pattern_valid = dmshook_pattern_valid(pattern, plen);
	bool		type_valid = dmshook_type_valid(type, tlen);
	bool		matches = dmshook_pattern_matches(pattern, plen, type, tlen);
	const char *candidates[2] = {type_text, pattern_text};
	int			distance;

	if (type_valid)
	{
		MUST(tlen <= 100 && tlen >= 3 && memchr(type, '.', tlen) != NULL);
		MUST(type_text[strspn(type_text, "abcdefghijklmnopqrstuvwxyz0123456789_.")] == '\0');
		/* a type is a pattern, of itself */
		MUST(dmshook_pattern_valid(type, tlen) && dmshook_pattern_matches(type, tlen, type, tlen));
		MUST(dmshook_pattern_matches("*", 1, type, tlen) == (strncmp(type_text, "webhook.", 8) != 0));
	}
	if (pattern_valid && type_valid)
	{
		bool		wanted;

		if (strcmp(pattern_text, "*") == 0)
			wanted = strncmp(type_text, "webhook.", 8) != 0;
		else if (plen > 2 && strcmp(pattern_text + plen - 2, ".*") == 0)
			wanted = tlen > plen - 1 && strncmp(pattern_text, type_text, plen - 1) == 0;
		else
			wanted = strcmp(pattern_text, type_text) == 0;
		MUST(matches == wanted);
	}

	distance = dmshook_edit_distance(pattern, plen, type, tlen, 3);
	MUST(distance >= 0 && distance <= 4);
	MUST(distance == dmshook_edit_distance(type, tlen, pattern, plen, 3));
	MUST((distance == 0) == (plen == tlen && memcmp(pattern, type, plen) == 0));
	dmshook_edit_distance(pattern, plen, type, tlen, 300);
	MUST(dmshook_nearest(pattern_text, candidates, 2) < 2);
	MUST(dmshook_nearest(pattern_text, candidates, 0) == -1);
	free(pattern);
	free(type);
	free(pattern_text);
	free(type_text);
	return 0;
}
