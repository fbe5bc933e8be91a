/*
 * mailtext.h - a mail as it goes over the wire, and addresses. See mailtext.c.
 *
 * Pure: no PostgreSQL, no curl, no clock.
 */
#ifndef DMSHOOK_MAILTEXT_H
#define DMSHOOK_MAILTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DMSHOOK_MAIL_ADDRESS_SIZE	255
#define DMSHOOK_MAIL_MAX_ADDRESSES	20
#define DMSHOOK_MAIL_MAX_SUBJECT	160 /* bytes, before it is encoded */

/* Addresses, without names and angle brackets. */
typedef struct DmshookMailAddresses
{
	int			n;
	char		address[DMSHOOK_MAIL_MAX_ADDRESSES][DMSHOOK_MAIL_ADDRESS_SIZE];
} DmshookMailAddresses;

/* Texts are UTF-8, whatever their content; the body's lines end in \n. */
typedef struct DmshookMailText
{
	int64_t		date;			/* seconds since 1970 */
	const char *id;				/* the left part of the Message-ID; ASCII */
	const char *from;			/* an address */
	const DmshookMailAddresses *to;
	const char *subject;
	const char *body;
} DmshookMailText;

/*
 * Addresses separated by commas. NULL when fine (out may be NULL; an empty
 * list is fine, and has none), else a constant sentence.
 */
extern const char *dmshook_mail_addresses(const char *list, DmshookMailAddresses *out);

/*
 * smtp://host[:port] or smtps://host[:port], optionally with /name-for-EHLO.
 * NULL when fine, else a constant sentence. *local: the host is this very
 * machine, by a loopback address or as localhost; *tls: smtps. Both may be NULL.
 */
extern const char *dmshook_mail_url(const char *url, bool *local, bool *tls);

/*
 * RFC 5322, with line ends CR LF. malloc'ed, zero-terminated; NULL: no memory.
 * Nothing in subject or body can become a header or end the message early.
 */
extern char *dmshook_mail_compose(const DmshookMailText *mail, size_t *len);

#endif							/* DMSHOOK_MAILTEXT_H */
