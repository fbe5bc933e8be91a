/*
 * roster_mask.c - which secrets of a webhook must not be logged when its receiver
 * sends them back.
 *
 * Runs in the dispatcher, while a profile is built, in the profile's context, after
 * its header lines are there. What is remembered points into these lines, or is a copy in
 * the same context; both are wiped with the profile.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "roster.h"

/* Header values may be no secret at all ("gzip", "true", a branch): short ones are left alone. */
#define HEADER_LEAST	8

/* Members of auth that are secret, of whatever kind; client_id, username, header, scope and URLs are not. */
static const char *const auth_members[] = {"password", "token", "key", "client_secret", "secret"};

/* Headers of ours and of HTTP that say nothing secret. */
static const char *const open_headers[] = {"dmshook-", "content-type:", "accept", "cache-control:", "prefer:"};

static void
add(DmshookMask *mask, const char *text, size_t least)
{
	size_t		len = strlen(text);

	if (len >= least)
		(void) dmshook_mask_add(mask, text, len);
}

/* "name: value", "name: Scheme value" */
static void
add_header_line(DmshookMask *mask, const char *line)
{
	const char *value = strchr(line, ':');

	for (size_t i = 0; i < lengthof(open_headers); i++)
	{
		if (pg_strncasecmp(line, open_headers[i], strlen(open_headers[i])) == 0)
			return;
	}
	if (value == NULL)
		return;
	value += 1 + strspn(value + 1, " ");
	if (pg_strncasecmp(value, "basic ", 6) == 0)
		value += 6;
	else if (pg_strncasecmp(value, "bearer ", 7) == 0)
		value += 7;
	add(mask, value, HEADER_LEAST);
}

static void
add_auth(DmshookMask *mask, Jsonb *auth)
{
	for (size_t i = 0; i < lengthof(auth_members); i++)
	{
		JsonbValue	buf;
		JsonbValue *value = getKeyJsonValueFromContainer(&auth->root, auth_members[i], strlen(auth_members[i]), &buf);

		if (value && value->type == jbvString)
		{
			char	   *text = pnstrdup(value->val.string.val, value->val.string.len);

			add(mask, pg_server_to_any(text, strlen(text), PG_UTF8), DMSHOOK_MASK_LEAST);
		}
	}
}

void
dmshook_roster_mask(DmshookProfile *profile, const DmshookWebhookRow *row)
{
	DmshookMask *mask = palloc0(sizeof(DmshookMask));

	for (int i = 0; i < profile->endpoint.nheaders; i++)
		add_header_line(mask, profile->endpoint.headers[i]);
	if (row->auth)
		add_auth(mask, row->auth);
	for (int i = 0; i < row->nsecrets; i++)
	{
		char	   *secret = pstrdup(row->secrets[i].value);
		char	   *bare = strchr(secret, '_');

		/* "whsec_...", and what follows */
		add(mask, secret, HEADER_LEAST);
		if (bare && bare - secret < 6)
			add(mask, bare + 1, HEADER_LEAST);
	}
	profile->mask = mask;
}

void
dmshook_roster_mask_wipe(DmshookProfile *profile)
{
	if (profile->mask == NULL)
		return;
	for (int i = 0; i < profile->mask->n; i++)
		explicit_bzero(unconstify(char *, profile->mask->secret[i].text), profile->mask->secret[i].len);
}
