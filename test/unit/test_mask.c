/* Tests of src/mask.c: secrets that come back. */
#include "mask.h"

#include "unit.h"

#define TOKEN	"s3cr3t/To+ken=="
#define ODD		"a\\b%\"<&c d"

static DmshookMask mask;

static void
set_up(void)
{
	memset(&mask, 0, sizeof(mask));
	dmshook_mask_add(&mask, TOKEN, strlen(TOKEN));
	dmshook_mask_add(&mask, ODD, strlen(ODD));
	dmshook_mask_add(&mask, "longer", 6);
	dmshook_mask_add(&mask, "longer than the other", 21);
	dmshook_mask_add(&mask, "pc%25end", 8);
	dmshook_mask_add(&mask, " blank", 6);
	dmshook_mask_add(&mask, "\"quoted", 7);
	dmshook_mask_add(&mask, "\xc3\xa9t\xc3\xa9", 5);
}

static void
texts(void)
{
	static const struct
	{
		const char *in;
		const char *out;
	}			cases[] = {
		{"", ""},
		{"nothing of it", "nothing of it"},
		{TOKEN, "***"},
		{"Bearer " TOKEN "\r\n", "Bearer ***\r\n"},
		{TOKEN TOKEN, "******"},
		{"x" TOKEN "y" TOKEN "z", "x***y***z"},
		/* nearly */
		{"s3cr3t/To+ken=-", "s3cr3t/To+ken=-"},
		{"S3cr3t/To+ken==", "S3cr3t/To+ken=="},
		{"s3cr3s3cr3t/To+ken==", "s3cr3***"},
		/* JSON, as PHP and others write it */
		{"{\"a\":\"Bearer s3cr3t\\/To+ken==\"}", "{\"a\":\"Bearer ***\"}"},
		{"\\u0073\\u0033cr3t\\/To\\u002Bken\\u003d=", "***"},
		{"a\\\\b%\\\"<&c d", "***"},
		/* URL */
		{"?t=s3cr3t%2FTo%2bken%3D%3D&x=1", "?t=***&x=1"},
		{"a%5Cb%25%22%3C%26c+d", "***"},
		{"+blank.", "***."},
		{"pc%25end pc%2525end", "*** ***"},
		/* HTML */
		{"<td>s3cr3t&#47;To&#x2b;ken&#x3D;=</td>", "<td>***</td>"},
		{"a\\b%&quot;&lt;&amp;c d", "***"},
		{"a&#92;b%&#34;&lt;&#38;c&#32;d;", "***;"},
		{ODD, "***"},
		{"&#115;3cr3t/To+ken==", "***"},
		/* the first byte is escaped */
		{"\\\"quoted &quot;quoted \\u0022quoted", "*** *** ***"},
		{"\xc3\xa9t\xc3\xa9 %c3%a9t%c3%a9 %C3%A9t%C3%A9", "*** *** ***"},
		/* the longest one wins */
		{"longer than the other", "***"},
		{"longer than the others", "***s"},
		{"longer than that", "*** than that"},
		/* cut off by the end */
		{"... s3cr", "... ***"},
		{"... s3c", "... s3c"},
		{"... s3cr3t%2", "... ***"},
		{"... s3cr3t\\u002", "... ***"},
		{"... s3cr3t&#4", "... ***"},
		{"... s3cr?", "... s3cr?"},
		{"... %733c", "... %733c"},
		{"... s3%6", "... s3%6"},
		/* escapes that are none */
		{"s3cr3t%2GTo", "s3cr3t%2GTo"},
		{"s&#4b;cr3t/To+ken==", "s&#4b;cr3t/To+ken=="},
		{"s3cr3t&#x;To+ken==", "s3cr3t&#x;To+ken=="},
		{"s3cr3t&#99999999;To+ken==", "s3cr3t&#99999999;To+ken=="},
		{"s3cr3t\\u00ggTo+ken==", "s3cr3t\\u00ggTo+ken=="},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		/* of its very size, so that the sanitizer sees a look beyond the end */
		size_t		len = strlen(cases[i].in);
		char	   *text = malloc(len + (len == 0));
		size_t		n;

		memcpy(text, cases[i].in, len);
		n = dmshook_mask_apply(&mask, text, len);
		CHECK(n == strlen(cases[i].out) && memcmp(text, cases[i].out, n) == 0, "\"%s\" became \"%.*s\"", cases[i].in, (int) n, text);
		for (size_t k = n; k < len; k++)
			CHECK(text[k] == '\0', "\"%s\": something is left behind the end", cases[i].in);
		free(text);
	}
}

static void
limits(void)
{
	DmshookMask many = {0};
	char		text[] = "abc abcd abcde";

	CHECK(!dmshook_mask_add(&many, "abc", 3), "too short");
	CHECK(dmshook_mask_apply(&many, text, strlen(text)) == 14 && strcmp(text, "abc abcd abcde") == 0, "%s", text);
	CHECK(dmshook_mask_add(&many, "abcd", 4), "long enough");
	CHECK(dmshook_mask_apply(&many, text, strlen(text)) == 12 && strcmp(text, "abc *** ***e") == 0, "%s", text);
	while (many.n < DMSHOOK_MASK_MAX)
		dmshook_mask_add(&many, "abcd", 4);
	CHECK(!dmshook_mask_add(&many, "abcdef", 6) && many.n == DMSHOOK_MASK_MAX, "%d", many.n);
}

/* Any bytes: no look outside, never longer, and nothing of a secret that stands there as it is. */
static void
any_bytes(void)
{
	static const char some[] = "s3cr3t/To+ken==\\u002%&#x;abcd\"<> ";
	uint32_t	random = 4711;

	for (int round = 0; round < 20000; round++)
	{
		size_t		len = round % 40;
		char	   *text = malloc(len + 1);
		size_t		n;

		for (size_t i = 0; i < len; i++)
		{
			random = random * 1103515245 + 12345;
			text[i] = some[(random >> 16) % (sizeof(some) - 1)];
		}
		if (round % 3 == 0 && len >= sizeof(TOKEN))
			memcpy(text + (random >> 16) % (len - strlen(TOKEN)), TOKEN, strlen(TOKEN));
		n = dmshook_mask_apply(&mask, text, len);
		text[len] = '\0';
		CHECK(n <= len && strstr(text, TOKEN) == NULL, "%s", text);
		free(text);
	}
}

int
main(void)
{
	set_up();
	unit_group("texts with secrets", texts);
	unit_group("short ones and many", limits);
	unit_group("any bytes", any_bytes);
	return unit_done();
}
