/*
 * oauth_answer.h - what a token endpoint answered. See oauth_answer.c. Builds without a server.
 */
#ifndef DMSHOOK_OAUTH_ANSWER_H
#define DMSHOOK_OAUTH_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DMSHOOK_TOKEN_SIZE	16384	/* with its zero byte */

/* Strings are "" where the member is absent, and cut where they are too long. */
typedef struct DmshookTokenAnswer
{
	char		token[DMSHOOK_TOKEN_SIZE];
	bool		unfit;			/* of the token: too long, or has what no header may have */
	char		type[32];
	int64_t		expires_in;		/* seconds; -1: it does not say */
	char		error[64];
	char		description[300];
} DmshookTokenAnswer;

/*
 * Read the members of a JSON object (RFC 6749, 5.1 and 5.2). False: it is none, or breaks off. Strings
 * are printable ASCII afterwards, or have '?' in place of what is not; other members are passed over.
 */
extern bool dmshook_oauth_answer(const char *json, size_t len, DmshookTokenAnswer *out);

/* May the token stand in an Authorization header? (RFC 6750, 2.1: b64token, and what else servers use) */
extern bool dmshook_oauth_token_fit(const char *token);

#endif							/* DMSHOOK_OAUTH_ANSWER_H */
