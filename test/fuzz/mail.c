/*
 * Mails: addresses, the relay's URL, and texts that end up in subject and body. An
 * input is a list of addresses, a subject, and the rest.
 *
 * sources: src/mailtext.c
 */
#include "mailtext.h"

#include "fuzz.h"

static DmshookMailAddresses out;

/* CR and LF come as a pair, lines have at most 998 bytes, all is 7 bit, headers are those we write. */
static void
look(const char *mail, size_t len)
{
	size_t		line = 0;
	bool		head = true;
	int			headers = 0;

	MUST(strlen(mail) == len && len > 2 && memcmp(mail + len - 2, "\r\n", 2) == 0);
	for (size_t i = 0; i < len; i++)
	{
		if (mail[i] == '\r')
		{
			size_t		n = i - line;

			MUST(mail[i + 1] == '\n');
			MUST(n <= 998);
			if (n == 0)
				head = false;
			else if (head && mail[line] != ' ' && mail[line] != '\t')
			{
				const char *colon = memchr(mail + line, ':', n);

				MUST(colon != NULL && strcspn(mail + line, " ") > (size_t) (colon - mail) - line);
				headers++;
			}
			i++;
			line = i + 1;
		}
		else
			MUST(mail[i] != '\n' && (unsigned char) mail[i] < 0x80);
	}
	MUST(!head);
	{
		static int	usual = 0;

		if (usual == 0)
			usual = headers;
		MUST(headers == usual); /* whatever the texts are */
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const DmshookMailAddresses to = {.n = 1, .address = {"dba@example.com"}};
	char	   *list = fuzz_line(&data, &size);
	char	   *subject = fuzz_line(&data, &size);
	char	   *body = fuzz_text(data, size);
	DmshookMailText mail = {.date = 1764000000, .id = "1.2", .from = "a@example.com", .to = &to, .subject = subject, .body = body};
	size_t		len = 0;
	char	   *text;
	bool		local,
				tls;

	if (dmshook_mail_addresses(list, &out) == NULL)
	{
		MUST(out.n >= 0 && out.n <= DMSHOOK_MAIL_MAX_ADDRESSES);
		for (int i = 0; i < out.n; i++)
			MUST(strchr(out.address[i], '@') != NULL && strpbrk(out.address[i], " \r\n\t<>,;") == NULL);
	}
	dmshook_mail_addresses(list, NULL);
	if (dmshook_mail_url(list, &local, &tls) == NULL)
		MUST(strncmp(list, "smtp", 4) == 0 && strpbrk(list, " \r\n\t@") == NULL);
	dmshook_mail_url(list, NULL, NULL);

	text = dmshook_mail_compose(&mail, &len);
	MUST(text != NULL);
	look(text, len);
	free(text);

	/* a line feed in a subject */
	mail.subject = body;
	mail.body = subject;
	text = dmshook_mail_compose(&mail, &len);
	MUST(text != NULL);
	look(text, len);
	free(text);
	free(list);
	free(subject);
	free(body);
	return 0;
}
