/*
 * fuzz.h - what the targets share. A target is a program of libFuzzer: it gets bytes,
 * hands them to one of our parsers, and asks afterwards what must hold of the answer. The bytes
 * stand in a block of just their size (and a zero byte where texts are wanted), so that
 * the address sanitizer sees a read beyond them.
 */
#ifndef DMSHOOK_FUZZ_H
#define DMSHOOK_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Must hold; else the input is kept and the run fails. */
#define MUST(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* The bytes as text, to be freed. It ends at the first zero byte in them. */
static inline char *
fuzz_text(const uint8_t *data, size_t size)
{
	char	   *text = malloc(size + 1);

	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

/*
 * Cut a text off the front, up to a line feed or the end; to be freed. The
 * corpus stays readable that way.
 */
static inline char *
fuzz_line(const uint8_t **data, size_t *size)
{
	const uint8_t *end = *size > 0 ? memchr(*data, '\n', *size) : NULL;
	size_t		len = end ? (size_t) (end - *data) : *size;
	char	   *text = fuzz_text(*data, len);

	*data += len;
	*size -= len;
	if (end)
	{
		(*data)++;
		(*size)--;
	}
	return text;
}

#endif							/* DMSHOOK_FUZZ_H */
