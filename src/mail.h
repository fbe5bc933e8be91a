/*
 * mail.h - failure notices by e-mail. See mail.c.
 */
#ifndef DMSHOOK_MAIL_H
#define DMSHOOK_MAIL_H

#include "postgres.h"

#include "utils/timestamp.h"

/* The dispatcher, once. */
extern void dmshook_mail_init(MemoryContext parent);

/* When dmshook_mail_run() has something to do; the past: now; DT_NOEND: until something happens. */
extern TimestampTz dmshook_mail_due(void);

/*
 * In a transaction: write what was sent, and prepare the next mail. After it has
 * ended, dmshook_mail_end() begins to send that.
 */
extern void dmshook_mail_run(void);
extern void dmshook_mail_end(bool committed);

/* A backend: can the password file be used? NULL: yes, or none is named; else a palloc'd sentence. */
extern char *dmshook_mail_password_problem(void);

/* Settings have changed: what failed is tried again at once. */
extern void dmshook_mail_reload(void);

#endif							/* DMSHOOK_MAIL_H */
