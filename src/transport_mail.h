/*
 * transport_mail.h - one mail at a time to an SMTP server, beside the requests.
 * See transport_mail.c.
 */
#ifndef DMSHOOK_TRANSPORT_MAIL_H
#define DMSHOOK_TRANSPORT_MAIL_H

#include "postgres.h"

#include "mailtext.h"

/* Copied where it is needed for longer than the call, but for the message, which is taken over. */
typedef struct DmshookMail
{
	const char *url;
	const char *user;			/* NULL: no authentication */
	const char *password;
	bool		starttls;		/* smtp://: no mail and no password without TLS */
	const char *from;
	const DmshookMailAddresses *to;
	char	   *message;		/* malloc'ed */
	size_t		len;
} DmshookMail;

typedef struct DmshookMailResult
{
	bool		ok;				/* accepted for one recipient at least */
	uint32		refused;		/* bit i: to->address[i] was not accepted */
	char		error[384];		/* why it failed, or why some were refused */
} DmshookMailResult;

/* The dispatcher: begin. False: memory is short, or one is under way. */
extern bool dmshook_transport_mail_start(const DmshookMail *mail);

/* Has it ended, and is its result to be taken? */
extern bool dmshook_transport_mail_ended(void);

/* Take the result; only after dmshook_transport_mail_ended(). */
extern void dmshook_transport_mail_take(DmshookMailResult *result);

#endif							/* DMSHOOK_TRANSPORT_MAIL_H */
