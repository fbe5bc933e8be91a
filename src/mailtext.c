/*
 * mailtext.c - a mail as it goes over the wire (RFC 5322, 2045, 2047), and
 * addresses.
 *
 * Pure: runs anywhere. The subject is one line of printable text, ASCII or
 * encoded words; the body is quoted-printable, so that the message is ASCII
 * with short lines for every server. What is not UTF-8, or a control
 * character, becomes '?': a webhook's name or a receiver's error text decides about
 * no header. Addresses are ASCII (no SMTPUTF8), without quoted local parts.
 */
#include "mailtext.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_WORD	45			/* bytes in an encoded word: 60 of base64, 72 with its frame */
#define MAX_LINE	75			/* quoted-printable, without the soft break */

#define DIGITS		"0123456789"
#define LETTERS		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* Text that grows; failed: memory was short once. */
typedef struct Text
{
	char	   *data;
	size_t		len;
	size_t		size;
	bool		failed;
} Text;

static void
put(Text *text, const char *bytes, size_t n)
{
	if (text->failed)
		return;
	if (text->len + n + 1 > text->size)
	{
		size_t		size = (text->len + n + 1) * 2;
		char	   *bigger = realloc(text->data, size);

		if (bigger == NULL)
		{
			text->failed = true;
			return;
		}
		text->data = bigger;
		text->size = size;
	}
	memcpy(text->data + text->len, bytes, n);
	text->len += n;
	text->data[text->len] = '\0';
}

static void
put_string(Text *text, const char *string)
{
	put(text, string, strlen(string));
}

/* Bytes of the UTF-8 character that begins here; 0: it is none, or a control character. */
static int
character(const unsigned char *s)
{
	int			n;

	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f ? 1 : 0;
	n = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
	for (int i = 1; i < n; i++)
	{
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	/* overlong, surrogates, beyond the last one, and the controls U+0080 to U+009F */
	if ((n == 2 && s[0] == 0xc2 && s[1] < 0xa0) ||
		(n == 3 && s[0] == 0xe0 && s[1] < 0xa0) || (n == 3 && s[0] == 0xed && s[1] > 0x9f) ||
		(n == 4 && s[0] == 0xf0 && s[1] < 0x90) || (n == 4 && s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static void
put_base64(Text *text, const unsigned char *s, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3)
	{
		uint32_t	v = (uint32_t) s[i] << 16 | (i + 1 < n ? (uint32_t) s[i + 1] << 8 : 0) | (i + 2 < n ? s[i + 2] : 0);
		char		out[4] = {digits[v >> 18], digits[v >> 12 & 63], digits[v >> 6 & 63], digits[v & 63]};

		if (i + 1 >= n)
			out[2] = '=';
		if (i + 2 >= n)
			out[3] = '=';
		put(text, out, 4);
	}
}

/* Clean, cut to size, and encoded where it is not plain ASCII or could be taken for encoded. */
static void
put_subject(Text *text, const char *subject)
{
	char		clean[DMSHOOK_MAIL_MAX_SUBJECT + 8];
	size_t		len = 0;
	size_t		word = 0;
	bool		ascii = true;

	for (const unsigned char *s = (const unsigned char *) subject; *s != '\0';)
	{
		int			n = character(s);

		if (len + (size_t) (n > 0 ? n : 1) > DMSHOOK_MAIL_MAX_SUBJECT)
		{
			memcpy(clean + len, "...", 3);
			len += 3;
			break;
		}
		if (n == 0)
			clean[len++] = '?';
		else
			memcpy(clean + len, s, (size_t) n);
		len += (size_t) n;
		ascii &= n <= 1;
		s += n > 0 ? n : 1;
	}
	clean[len] = '\0';

	put_string(text, "Subject: ");
	if (ascii && strstr(clean, "=?") == NULL)
		put(text, clean, len);
	else
	{
		for (size_t at = 0; at < len; at += word)
		{
			/* no character is torn apart */
			for (word = 0; at + word < len;)
			{
				int			n = character((unsigned char *) clean + at + word);

				if (word + (size_t) n > MAX_WORD)
					break;
				word += (size_t) n;
			}
			put_string(text, at > 0 ? "\r\n =?UTF-8?B?" : "=?UTF-8?B?");
			put_base64(text, (unsigned char *) clean + at, word);
			put_string(text, "?=");
		}
	}
	put_string(text, "\r\n");
}

/* RFC 2045, 6.7. */
static void
put_body(Text *text, const char *body)
{
	size_t		column = 0;

	for (const unsigned char *s = (const unsigned char *) body; *s != '\0';)
	{
		int			n = *s == '\t' ? 1 : character(s);
		bool		plain = n == 0 || (n == 1 && *s != '=' && !((*s == ' ' || *s == '\t') && (s[1] == '\n' || s[1] == '\0')));
		char		out[16];
		size_t		len = 0;

		if (*s == '\n')
		{
			put_string(text, "\r\n");
			column = 0;
			s++;
			continue;
		}
		if (column + (plain ? 1 : 3 * (size_t) n) > MAX_LINE)
		{
			put_string(text, "=\r\n");
			column = 0;
		}
		/* servers mangle a dot or "From " where a line begins */
		if (column == 0 && (*s == '.' || *s == 'F'))
			plain = false;
		if (plain)
			out[len++] = n == 0 ? '?' : (char) *s;
		for (int i = 0; i < n && !plain; i++)
			len += (size_t) snprintf(out + len, sizeof(out) - len, "=%02X", s[i]);
		put(text, out, len);
		column += len;
		s += n > 0 ? n : 1;
	}
	if (column > 0)
		put_string(text, "\r\n");
}

char *
dmshook_mail_compose(const DmshookMailText *mail, size_t *len)
{
	static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	Text		text = {0};
	time_t		date = (time_t) mail->date;
	struct tm	tm = {0};
	char		line[128];
	const char *domain = strrchr(mail->from, '@');

	gmtime_r(&date, &tm);
	snprintf(line, sizeof(line), "Date: %s, %d %s %d %02d:%02d:%02d +0000\r\n", days[tm.tm_wday % 7], tm.tm_mday,
			 months[tm.tm_mon % 12], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
	put_string(&text, line);
	put_string(&text, "Message-ID: <");
	put_string(&text, mail->id);
	put_string(&text, domain != NULL ? domain : "@localhost");
	put_string(&text, ">\r\nFrom: ");
	put_string(&text, mail->from);
	put_string(&text, "\r\nTo: ");
	for (int i = 0; i < mail->to->n; i++)
	{
		put_string(&text, i > 0 ? ",\r\n " : "");
		put_string(&text, mail->to->address[i]);
	}
	put_string(&text, "\r\n");
	put_subject(&text, mail->subject);
	put_string(&text, "MIME-Version: 1.0\r\n"
			   "Content-Type: text/plain; charset=UTF-8\r\n"
			   "Content-Transfer-Encoding: quoted-printable\r\n"
			   "Auto-Submitted: auto-generated\r\n"
			   "\r\n");
	put_body(&text, mail->body);
	if (text.failed)
	{
		free(text.data);
		return NULL;
	}
	*len = text.len;
	return text.data;
}

/* A dot-atom of some characters: dots stand between others. */
static bool
dot_atom(const char *s, size_t len, const char *characters)
{
	if (len == 0 || s[0] == '.' || s[len - 1] == '.')
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (s[i] == '.' ? s[i - 1] == '.' : s[i] == '\0' || strchr(characters, s[i]) == NULL)
			return false;
	}
	return true;
}

static bool
address_is_fine(const char *s, size_t len)
{
	const char *at = memchr(s, '@', len);
	size_t		local = at != NULL ? (size_t) (at - s) : 0;

	/* a leading hyphen would be an option to programs that are given it */
	return at != NULL && len < DMSHOOK_MAIL_ADDRESS_SIZE && local <= 64 && s[0] != '-' && at[1] != '-' &&
		dot_atom(s, local, LETTERS DIGITS "!#$%&'*+-/=?^_`{|}~") &&
		dot_atom(at + 1, len - local - 1, LETTERS DIGITS "-");
}

const char *
dmshook_mail_addresses(const char *list, DmshookMailAddresses *out)
{
	int			n = 0;

	if (out != NULL)
		out->n = 0;
	if (list[strspn(list, " ")] == '\0')
		return NULL;
	for (;;)
	{
		size_t		len;
		const char *next;

		list += strspn(list, " ");
		len = strcspn(list, ",");
		next = list + len;
		while (len > 0 && list[len - 1] == ' ')
			len--;
		if (!address_is_fine(list, len))
			return "An address is a name, @, and a domain, such as alerts@example.com; separate several by commas.";
		if (n == DMSHOOK_MAIL_MAX_ADDRESSES)
			return "There may be 20 addresses.";
		if (out != NULL)
		{
			memcpy(out->address[n], list, len);
			out->address[n][len] = '\0';
			out->n = n + 1;
		}
		n++;
		if (*next == '\0')
			return NULL;
		list = next + 1;
	}
}

const char *
dmshook_mail_url(const char *url, bool *local, bool *tls)
{
	bool		secure = strncmp(url, "smtps://", 8) == 0;
	const char *host = url + (secure ? 8 : 7);
	const char *p;
	size_t		len;
	bool		loopback;

	if (!secure && strncmp(url, "smtp://", 7) != 0)
		return "It begins with smtp:// or smtps://, such as smtp://mail.example.com:587.";
	if (strlen(url) > 500)
		return "It is too long.";
	if (strchr(url, '@') != NULL)
		return "User and password stand in the file that dmshook.smtp_password_file names.";
	if (host[0] == '[')
	{
		len = strspn(host + 1, "0123456789abcdefABCDEF:.");
		if (len == 0 || host[len + 1] != ']')
			return "The address in brackets is malformed.";
		loopback = len == 3 && strncmp(host + 1, "::1", 3) == 0;
		p = host + len + 2;
	}
	else
	{
		size_t		digits = strspn(host, DIGITS ".");

		len = strspn(host, LETTERS DIGITS "-._");
		if (len == 0 || host[0] == '-')
			return "There is no host.";
		loopback = (len == 9 && strncmp(host, "localhost", 9) == 0) ||
			(digits == len && strncmp(host, "127.", 4) == 0);
		p = host + len;
	}
	if (*p == ':')
	{
		len = strspn(p + 1, DIGITS);
		if (len == 0 || len > 5 || atoi(p + 1) < 1 || atoi(p + 1) > 65535)
			return "The port is not a number from 1 to 65535.";
		p += len + 1;
	}
	/* what is behind the slash says EHLO */
	if (*p == '/')
		p += 1 + strspn(p + 1, LETTERS DIGITS "-.");
	if (*p != '\0')
		return "It has nothing but a host, a port and a name for EHLO: smtp://mail.example.com:587/db.example.com.";
	if (local != NULL)
		*local = loopback;
	if (tls != NULL)
		*tls = secure;
	return NULL;
}
