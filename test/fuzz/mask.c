/*
 * Secrets in what a receiver answers. An input is two lines, each a secret, and the response.
 *
 * sources: src/mask.c
 */
#include "mask.h"

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *secret[2] = {fuzz_line(&data, &size), fuzz_line(&data, &size)};
	char	   *text = malloc(size > 0 ? size : 1);
	DmshookMask mask = {0};
	bool		added[2];
	size_t		n;

	for (int i = 0; i < 2; i++)
	{
		size_t		len = strlen(secret[i]);

		/* without the zero byte behind it */
		char	   *exact = malloc(len > 0 ? len : 1);

		memcpy(exact, secret[i], len);
		added[i] = dmshook_mask_add(&mask, exact, len);
		MUST(added[i] == (len >= DMSHOOK_MASK_LEAST));
		free(secret[i]);
		secret[i] = exact;
	}
	if (size > 0)
		memcpy(text, data, size);
	n = dmshook_mask_apply(&mask, text, size);
	MUST(n <= size);
	for (size_t i = n; i < size; i++)
		MUST(text[i] == '\0');
	for (int i = 0; i < mask.n; i++)
	{
		/* one with the mask's own characters may come about anew */
		if (memchr(mask.secret[i].text, '*', mask.secret[i].len) == NULL)
			MUST(memmem(text, n, mask.secret[i].text, mask.secret[i].len) == NULL);
	}
	if (mask.n == 0 && size > 0)
		MUST(n == size && memcmp(text, data, size) == 0);
	free(secret[0]);
	free(secret[1]);
	free(text);
	return 0;
}
