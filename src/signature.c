/*
 * signature.c - the signature headers of a webhook's requests: which of its
 * secrets sign what.
 *
 * Runs in the dispatcher: keys are made when a profile is (inside the transaction that
 * loads it), used outside of transactions, and freed with the profile. Memory
 * of keys is OpenSSL's (sign.c). A secret of the past signs until its time is over to
 * the microsecond, for that is asked of each request; its row and its key go later
 * (dmshook._remove_expired_secrets). Nothing here is logged.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "signature.h"

#define STANDARD_SIZE	(DMSHOOK_MAX_KEYS * (DMSHOOK_V1_LEN + 1 + DMSHOOK_V1A_LEN + 1))

static DmshookSigner *
make_signer(DmshookSigner *(*create) (const char *secret, const char **problem), const char *secret)
{
	const char *problem = NULL;
	DmshookSigner *signer = create(secret, &problem);

	if (signer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("signing secret cannot be used: %s", problem ? problem : "out of memory")));
	return signer;
}

/* The keys of a kind; rows are sorted, the newest first. More than there should be: the oldest do not sign. */
static int
make_keys(DmshookKey *keys, int *n, const DmshookWebhookRow *row, const char *kind,
		  DmshookSigner *(*create) (const char *secret, const char **problem))
{
	for (int i = 0; i < row->nsecrets && *n < DMSHOOK_MAX_KEYS; i++)
	{
		const DmshookSecretRow *secret = &row->secrets[i];

		if (strcmp(secret->kind, kind) != 0)
			continue;
		keys[*n].signer = make_signer(create, secret->value);
		keys[*n].until = secret->until;
		(*n)++;
	}
	return *n;
}

/*
 * GitHub's header has room for one signature, so none of an overlap is there:
 * of those that stay the text that was given for it, else the newest.
 */
static DmshookSigner *
make_github(const DmshookWebhookRow *row)
{
	const DmshookSecretRow *best = NULL;

	for (int i = 0; i < row->nsecrets; i++)
	{
		const DmshookSecretRow *secret = &row->secrets[i];
		bool		text = strcmp(secret->kind, "signing_github") == 0;

		if ((text || strcmp(secret->kind, "signing") == 0) && TIMESTAMP_IS_NOEND(secret->until) &&
			(best == NULL || (text && strcmp(best->kind, "signing_github") != 0)))
			best = secret;
	}
	return best ? make_signer(dmshook_signer_create_github, best->value) : NULL;
}

void
dmshook_keys_make(DmshookKeys *keys, const DmshookWebhookRow *row, const DmshookOptions *options)
{
	bool		complete = true;

	keys->header = options->signature_header ? psprintf("%s: ", options->signature_header) : NULL;
	if (options->signature & DMSHOOK_SIGNATURE_STANDARD)
		complete &= make_keys(keys->v1, &keys->n_v1, row, "signing", dmshook_signer_create) > 0;
	if (options->signature & DMSHOOK_SIGNATURE_ED25519)
		complete &= make_keys(keys->v1a, &keys->n_v1a, row, "signing_ed25519", dmshook_signer_create_ed25519) > 0;
	if (options->signature & DMSHOOK_SIGNATURE_GITHUB)
		complete &= (keys->github = make_github(row)) != NULL;
	if (!complete)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("there is no signing secret")));
}

void
dmshook_keys_free(DmshookKeys *keys)
{
	for (int i = 0; i < keys->n_v1; i++)
		dmshook_signer_free(keys->v1[i].signer);
	for (int i = 0; i < keys->n_v1a; i++)
		dmshook_signer_free(keys->v1a[i].signer);
	dmshook_signer_free(keys->github);
	memset(keys, 0, sizeof(*keys));
}

void
dmshook_request_header(DmshookTransfer *transfer, const char *name, const char *value, int len)
{
	char	   *at = transfer->header[transfer->nheaders++];
	int			n = (int) strlen(name);

	Assert(transfer->nheaders <= DMSHOOK_DYNAMIC_HEADERS);
	len = Min(len, DMSHOOK_HEADER_SIZE - 1 - n);
	memcpy(at, name, n);
	memcpy(at + n, value, len);
	at[n + len] = '\0';
}

bool
dmshook_keys_sign(const DmshookKeys *keys, DmshookTransfer *transfer, const char *id, TimestampTz at,
				  int64 seconds, const void *body, size_t len)
{
	char		standard[STANDARD_SIZE];
	char		github[DMSHOOK_GITHUB_LEN + 1];
	char	   *end = standard;

	*end = github[0] = '\0';
	for (int i = 0; i < keys->n_v1; i++)
	{
		if (keys->v1[i].until <= at)
			continue;
		if (end > standard)
			*end++ = ' ';
		if (!dmshook_sign_v1(keys->v1[i].signer, id, seconds, body, len, end))
			return false;
		end += DMSHOOK_V1_LEN;
	}
	for (int i = 0; i < keys->n_v1a; i++)
	{
		if (keys->v1a[i].until <= at)
			continue;
		if (end > standard)
			*end++ = ' ';
		if (!dmshook_sign_v1a(keys->v1a[i].signer, id, seconds, body, len, end))
			return false;
		end += DMSHOOK_V1A_LEN;
	}
	if (keys->github && !dmshook_sign_github(keys->github, body, len, github))
		return false;
	if (standard[0] == '\0' && github[0] == '\0')
		return false;			/* the newest has no end, so there is one */

	if (standard[0] != '\0')
		dmshook_request_header(transfer, "webhook-signature: ", standard, end - standard);
	if (github[0] != '\0')
		dmshook_request_header(transfer, "x-hub-signature-256: ", github, DMSHOOK_GITHUB_LEN);
	if (keys->header && github[0] != '\0')
		dmshook_request_header(transfer, keys->header, github, DMSHOOK_GITHUB_LEN);
	else if (keys->header)
		dmshook_request_header(transfer, keys->header, standard, end - standard);
	return true;
}
