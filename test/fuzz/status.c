/*
 * Lists of status codes, "200-299,404".
 *
 * sources: src/schedule.c
 */
#include "schedule.h"

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text = fuzz_text(data, size);
	DmshookStatusList list;
	size_t		fault = (size_t) -1;

	memset(&list, 0x55, sizeof(list));
	if (dmshook_status_list_parse(text, &list, &fault))
	{
		MUST(list.n > 0 && list.n <= DMSHOOK_MAX_RANGES);
		for (int i = 0; i < list.n; i++)
		{
			MUST(list.range[i].from >= 100 && list.range[i].from <= list.range[i].to && list.range[i].to <= 599);
			MUST(dmshook_status_list_has(&list, list.range[i].from) && dmshook_status_list_has(&list, list.range[i].to));
		}
		/* in it is what is in a range of it, and nothing else */
		for (int status = 0; status < 700; status++)
		{
			bool		in = false;

			for (int i = 0; i < list.n; i++)
				in |= status >= list.range[i].from && status <= list.range[i].to;
			MUST(dmshook_status_list_has(&list, status) == in);
		}
		/* only these characters can be in one */
		MUST(text[strspn(text, "0123456789-, \t\r\n")] == '\0');
	}
	else
	{
		MUST(list.n == 0 && fault <= strlen(text));
		MUST(!dmshook_status_list_has(&list, 200));
	}
	MUST(!dmshook_status_list_parse(text, &list, NULL) || list.n > 0);
	free(text);
	return 0;
}
