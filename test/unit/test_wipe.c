/* Tests of src/wipe.c: what was freed is looked for in the process's own memory. Built without a sanitizer, whose malloc() this is not about. */
#include "wipe.h"

#include <fcntl.h>
#include <unistd.h>

#include "unit.h"

/* How often a text stands in the heap. It is given in two halves, so that the question is no answer. */
static int
in_heap(const char *one, const char *two)
{
	size_t		n = strlen(one),
				m = strlen(two);
	FILE	   *maps = fopen("/proc/self/maps", "r");
	int			mem = open("/proc/self/mem", O_RDONLY);
	char		line[512];
	int			found = 0;

	while (maps && mem >= 0 && fgets(line, sizeof(line), maps))
	{
		unsigned long from,
					to;

		if (strstr(line, "[heap]") == NULL || sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		for (unsigned long at = from; at + n + m <= to; at++)
		{
			const char *c = (const char *) at;

			if (*c == *one && memcmp(c, one, n) == 0 && memcmp(c + n, two, m) == 0)
				found++;
		}
	}
	fclose(maps);
	close(mem);
	return found;
}

/* A block of a memory context, which held a text here and there. */
static char *
block(const char *one, const char *two)
{
	char	   *text = malloc(8192);

	for (int i = 64; i < 8000; i += 1000)
		sprintf(text + i, "%s%s", one, two);
	return text;
}

static void
freed(void)
{
	char	   *stays = block("can", "ary-that-stays");
	char	   *keep = block("can", "ary-that-lives");
	char	   *goes = block("can", "ary-that-goes");
	char	   *grows = block("can", "ary-that-moves");
	char	   *after = malloc(64);
	char	   *late;

	CHECK(in_heap("can", "ary-that-goes") == 8, "%d", in_heap("can", "ary-that-goes"));
	free(stays);
	CHECK(in_heap("can", "ary-that-stays") > 0, "nothing to wipe: the test sees nothing");
	dmshook_wipe_freed(true);
	dmshook_wipe_freed(true);
	free(goes);
	grows = realloc(grows, 100000);
	dmshook_wipe_freed(false);
	CHECK(in_heap("can", "ary-that-goes") == 0, "%d", in_heap("can", "ary-that-goes"));
	CHECK(in_heap("can", "ary-that-moves") == 8, "%d", in_heap("can", "ary-that-moves"));
	free(grows);
	CHECK(in_heap("can", "ary-that-moves") == 0, "%d: still on", in_heap("can", "ary-that-moves"));
	CHECK(in_heap("can", "ary-that-lives") == 8, "%d", in_heap("can", "ary-that-lives"));
	dmshook_wipe_freed(false);
	late = block("can", "ary-at-the-end");
	free(keep);
	free(after);
	free(late);
	CHECK(in_heap("can", "ary-at-the-end") > 0, "it is off");
}

static void
library(void)
{
	char	   *goes = block("can", "ary-of-a-request");
	char	   *grows = block("can", "ary-that-grows");
	char	   *small = malloc(40);
	void	   *none;
	char	   *long_one = block("can", "ary-of-a-body");
	int			before = in_heap("can", "ary-of-a-body");

	/* a head may reach so far that secrets are in all of it */
	dmshook_wipe_free(long_one);
	CHECK(in_heap("can", "ary-of-a-body") > 0 && in_heap("can", "ary-of-a-body") < before, "beyond any head, it is left: %d of %d", in_heap("can", "ary-of-a-body"), before);
	dmshook_wipe_most(100000);
	dmshook_wipe_most(10);
	dmshook_wipe_free(goes);
	CHECK(in_heap("can", "ary-of-a-request") == 0, "%d", in_heap("can", "ary-of-a-request"));
	grows = dmshook_wipe_realloc(grows, 50000);
	CHECK(in_heap("can", "ary-that-grows") == 8, "%d", in_heap("can", "ary-that-grows"));
	CHECK(memcmp(grows + 64, "canary-that-grows", 17) == 0, "it was not copied");
	grows = dmshook_wipe_realloc(grows, 3000);
	CHECK(in_heap("can", "ary-that-grows") == 3, "%d", in_heap("can", "ary-that-grows"));
	dmshook_wipe_free(grows);
	CHECK(in_heap("can", "ary-that-grows") == 0, "%d", in_heap("can", "ary-that-grows"));
	dmshook_wipe_free(NULL);
	none = dmshook_wipe_realloc(NULL, 10);
	strcpy(small, "as it was");
	small = dmshook_wipe_realloc(small, 4000);
	CHECK(none != NULL && strcmp(small, "as it was") == 0, "%s", small);
	dmshook_wipe_free(none);
	dmshook_wipe_free(small);
}

int
main(void)
{
	unit_group("what is freed", freed);
	unit_group("what a library frees", library);
	return unit_done();
}
