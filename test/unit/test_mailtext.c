/* Tests of src/mailtext.c: addresses, URLs, and that no text breaks a mail apart. */
#include "mailtext.h"

#include <strings.h>

#include "unit.h"

static DmshookMailAddresses to = {.n = 2, .address = {"a@example.com", "b@example.org"}};

static void
addresses(void)
{
	static const char *const good[] = {
		"a@b", "first.last+tag@mail.example.com", "x@127.0.0.1", "a@b,c@d", " a@b , c@d ", "", "  ", "o'brien@example.com"
	};
	static const char *const bad[] = {
		"a", "@b", "a@", "a@b,", ",a@b", "a@b c@d", "a@b;c@d", "A <a@b>", "<a@b>", "a@b\r\nBcc: c@d", "a@b\n", "a@@b", "a..b@c",
		".a@b", "a.@b", "a@.b", "a@b.", "a@b..c", "-a@b", "a@-b", "\"a b\"@c", "a@[::1]", "\xc3\xa4@b", "a@\xc3\xa4", "a@b\t",
		"a,b@c"
	};
	DmshookMailAddresses out;
	char		list[2048] = "";

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(dmshook_mail_addresses(good[i], &out) == NULL, "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(dmshook_mail_addresses(bad[i], &out) != NULL, "%s", bad[i]);
	CHECK(dmshook_mail_addresses(" a@b ,first@c.d", &out) == NULL && out.n == 2 &&
		  strcmp(out.address[0], "a@b") == 0 && strcmp(out.address[1], "first@c.d") == 0, "%d: %s", out.n, out.address[0]);
	CHECK(dmshook_mail_addresses("", &out) == NULL && out.n == 0, "%d", out.n);

	for (int i = 0; i < DMSHOOK_MAIL_MAX_ADDRESSES; i++)
		strcat(list, i == 0 ? "a@b" : ",a@b");
	CHECK(dmshook_mail_addresses(list, &out) == NULL && out.n == DMSHOOK_MAIL_MAX_ADDRESSES, "%d", out.n);
	strcat(list, ",a@b");
	CHECK(dmshook_mail_addresses(list, &out) != NULL, "one too many");
	memset(list, 'a', 300);
	strcpy(list + 64, "@b");
	CHECK(dmshook_mail_addresses(list, &out) == NULL, "64 before the @");
	memset(list, 'a', 300);
	strcpy(list + 65, "@b");
	CHECK(dmshook_mail_addresses(list, &out) != NULL, "65 before the @");
	memset(list, 'a', 400);
	list[1] = '@';
	list[254] = '\0';
	CHECK(dmshook_mail_addresses(list, &out) == NULL && strlen(out.address[0]) == 254, "254 in all");
	strcpy(list + 254, "a");
	CHECK(dmshook_mail_addresses(list, &out) != NULL, "255 in all");
}

static void
urls(void)
{
	static const struct
	{
		const char *url;
		bool		good,
					local,
					tls;
	}			cases[] = {
		{"smtp://mail.example.com", true, false, false}, {"smtp://mail.example.com:587", true, false, false},
		{"smtps://mail.example.com:465", true, false, true}, {"smtp://localhost:25", true, true, false},
		{"smtp://127.0.0.1", true, true, false}, {"smtp://127.9.8.7:2525", true, true, false}, {"smtp://[::1]:25", true, true, false},
		{"smtp://127.0.0.1.example.com", true, false, false}, {"smtp://localhost.example.com", true, false, false},
		{"smtp://[2001:db8::1]", true, false, false}, {"smtp://mail.example.com:587/db.example.com", true, false, false},
		{"http://mail.example.com", false, false, false}, {"mail.example.com", false, false, false}, {"smtp://", false, false, false},
		{"smtp://user:password@host", false, false, false}, {"smtp://host:0", false, false, false}, {"smtp://host:65536", false, false, false},
		{"smtp://host:", false, false, false}, {"smtp://ho st", false, false, false}, {"smtp://host\r\nQUIT", false, false, false},
		{"smtp://host/a b", false, false, false}, {"smtp://host?x", false, false, false}, {"smtp://[::1", false, false, false},
		{"smtp://-x", false, false, false}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		bool		local = false;
		bool		tls = false;
		bool		good = dmshook_mail_url(cases[i].url, &local, &tls) == NULL;

		CHECK(good == cases[i].good, "%s", cases[i].url);
		CHECK(!good || (local == cases[i].local && tls == cases[i].tls), "%s: local %d, tls %d", cases[i].url, local, tls);
	}
}

static char *
compose(const char *subject, const char *body, size_t *len)
{
	DmshookMailText text = {.date = 1790000000, .id = "id.1", .from = "dmshook@db.example.com", .to = &to, .subject = subject, .body = body};

	return dmshook_mail_compose(&text, len);
}

static void
whole(void)
{
	size_t		len;
	char	   *mail = compose("Accounting is failing", "one\n.two \nFrom three=3\n", &len);

	CHECK(strcmp(mail, "Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n"
				 "Message-ID: <id.1@db.example.com>\r\n"
				 "From: dmshook@db.example.com\r\n"
				 "To: a@example.com,\r\n b@example.org\r\n"
				 "Subject: Accounting is failing\r\n"
				 "MIME-Version: 1.0\r\n"
				 "Content-Type: text/plain; charset=UTF-8\r\n"
				 "Content-Transfer-Encoding: quoted-printable\r\n"
				 "Auto-Submitted: auto-generated\r\n"
				 "\r\n"
				 "one\r\n=2Etwo=20\r\n=46rom three=3D3\r\n") == 0, "%s", mail);
	CHECK(len == strlen(mail), "%zu", len);
	free(mail);
	mail = compose("M\xc3\xbcller", "\xe2\x82\xac\n", &len);
	CHECK(strstr(mail, "\r\nSubject: =?UTF-8?B?TcO8bGxlcg==?=\r\n") != NULL, "%s", mail);
	CHECK(strstr(mail, "\r\n\r\n=E2=82=AC\r\n") != NULL, "%s", mail);
	free(mail);
	mail = compose("=?UTF-8?B?TcO8bGxlcg==?=", "", &len);
	CHECK(strstr(mail, "\r\nSubject: =?UTF-8?B?PT9VVEY") != NULL, "what looks encoded is encoded: %s", mail);
	free(mail);
	mail = compose("a\r\nBcc: x@y", "a\r\n\r\nb\001\n", &len);
	CHECK(strstr(mail, "\r\nSubject: a??Bcc: x@y\r\n") != NULL, "%s", mail);
	CHECK(strstr(mail, "\r\n\r\na?\r\n?\r\nb?\r\n") != NULL, "%s", mail);
	free(mail);
}

/* Any bytes: the headers are always these nine, in ASCII, lines are short, and CR and LF come together. */
static void
any_text(void)
{
	static const char *const names[] = {"Date", "Message-ID", "From", "To", "Subject", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
	"Auto-Submitted"};

	for (int round = 0; round < 20000; round++)
	{
		char		subject[400];
		char		body[1200];
		size_t		nsubject = unit_random() % (sizeof(subject) - 1);
		size_t		nbody = unit_random() % (sizeof(body) - 1);
		int			kind = (int) (unit_random() % 3);
		size_t		len;
		char	   *mail;
		char	   *line;
		int			header = 0;
		bool		in_body = false;
		bool		fine = true;

		for (size_t i = 0; i < nsubject; i++)
			subject[i] = (char) (kind == 0 ? 1 + unit_random() % 255 : kind == 1 ? (unsigned char) "\r\n: aB=?.\xc3\xa4"[unit_random() % 11] : 32 + unit_random() % 95);
		subject[nsubject] = '\0';
		for (size_t i = 0; i < nbody; i++)
			body[i] = (char) (kind == 0 ? 1 + unit_random() % 255 : kind == 1 ? (unsigned char) "\r\n. =F\xe2\x82\xac"[unit_random() % 9] : 32 + unit_random() % 95);
		body[nbody] = '\0';
		mail = compose(subject, body, &len);

		fine = strlen(mail) == len && len > 2 && strcmp(mail + len - 2, "\r\n") == 0;
		for (size_t i = 0; i < len; i++)
			fine &= (mail[i] >= 0x20 && mail[i] < 0x7f) || mail[i] == '\t' || (mail[i] == '\r' && mail[i + 1] == '\n') ||
				(mail[i] == '\n' && i > 0 && mail[i - 1] == '\r');
		for (line = mail; fine && line < mail + len;)
		{
			char	   *end = strstr(line, "\r\n");

			*end = '\0';
			if (*line == '\0')
				in_body = true;
			else if (!in_body && *line != ' ')
			{
				fine &= header < 9 && strncmp(line, names[header], strlen(names[header])) == 0 && line[strlen(names[header])] == ':';
				header++;
			}
			fine &= end - line <= (in_body ? 76 : 200) && !(in_body && (line[0] == '.' || (end > line && end[-1] == ' ')));
			line = end + 2;
		}
		if (!CHECK(fine && header == 9 && in_body, "round %d, %d headers", round, header))
		{
			free(mail);
			return;
		}
		free(mail);
	}
}

int
main(void)
{
	unit_group("addresses", addresses);
	unit_group("URLs of mail servers", urls);
	unit_group("a whole mail", whole);
	unit_group("any text", any_text);
	return unit_done();
}
