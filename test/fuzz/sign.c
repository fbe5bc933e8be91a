/*
 * Secrets and signature headers. An input is a secret, a list of signatures, a
 * timestamp, an id, and the body.
 *
 * sources: src/sign.c src/sign_ed25519.c
 * libs: -lcrypto
 */
#include <strings.h>

#include "sign.h"

#include "fuzz.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define PRIVATE "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="

/* Its own signature is found among the others, and without it there is none. */
static void
verify(DmshookSigner *signer, const char *id, int64_t timestamp, const char *body, const char *signatures)
{
	char		right[DMSHOOK_V1_LEN + 1];
	char	   *list = malloc(strlen(signatures) + sizeof(right) + 1);

	MUST(dmshook_sign_v1(signer, id, timestamp, body, strlen(body), right));
	MUST(strlen(right) == DMSHOOK_V1_LEN);
	if (strstr(signatures, right) == NULL)
		MUST(!dmshook_verify_v1(signer, id, timestamp, body, strlen(body), signatures));
	sprintf(list, "%s %s", signatures, right);
	MUST(dmshook_verify_v1(signer, id, timestamp, body, strlen(body), list) == (timestamp >= 0));
	free(list);
}

/* The same of a key pair; at most DMSHOOK_MAX_VERIFIED are tried, so ours comes first. */
static void
verify_pair(DmshookSigner *signer, const char *id, int64_t timestamp, const char *body, const char *signatures)
{
	char		right[DMSHOOK_V1A_LEN + 1];
	char	   *list = malloc(strlen(signatures) + sizeof(right) + 1);

	MUST(dmshook_sign_v1a(signer, id, timestamp, body, strlen(body), right));
	MUST(strlen(right) == DMSHOOK_V1A_LEN);
	if (strstr(signatures, right) == NULL)
		MUST(!dmshook_verify_v1a(signer, id, timestamp, body, strlen(body), signatures));
	sprintf(list, "%s %s", right, signatures);
	MUST(dmshook_verify_v1a(signer, id, timestamp, body, strlen(body), list) == (timestamp >= 0));
	free(list);
}

/* A key as it is typed in, private or public. */
static void
keys(const char *secret, const char *id, int64_t timestamp, const char *body, const char *signatures)
{
	const char *problem = NULL;
	char		public[DMSHOOK_PUBLIC_KEY_LEN + 1];
	DmshookSigner *signer = dmshook_signer_create_ed25519(secret, &problem);

	MUST((signer == NULL) == (problem != NULL));
	if (signer == NULL)
		return;
	MUST(dmshook_signer_public_key(signer, public) && strlen(public) == DMSHOOK_PUBLIC_KEY_LEN);
	if (dmshook_secret_kind(secret) == DMSHOOK_SECRET_PRIVATE)
		verify_pair(signer, id, timestamp, body, signatures);
	else
	{
		MUST(dmshook_secret_kind(secret) == DMSHOOK_SECRET_PUBLIC && strcmp(secret, public) == 0);
		dmshook_verify_v1a(signer, id, timestamp, body, strlen(body), signatures);
	}
	dmshook_signer_free(signer);
}

/* GitHub's: any text is a key; what is right is one text, but for upper case. */
static void
github(const char *secret, const char *body, const char *signature)
{
	const char *problem = NULL;
	char		right[DMSHOOK_GITHUB_LEN + 1];
	DmshookSigner *signer = dmshook_signer_create_github(secret, &problem);

	MUST((signer == NULL) == (problem != NULL));
	MUST((signer == NULL) == (secret[0] == '\0' || strlen(secret) > DMSHOOK_MAX_SECRET_TEXT));
	if (signer == NULL)
		return;
	MUST(dmshook_sign_github(signer, body, strlen(body), right) && strlen(right) == DMSHOOK_GITHUB_LEN);
	MUST(dmshook_verify_github(signer, body, strlen(body), right));
	if (strcasecmp(signature, right) != 0)
		MUST(!dmshook_verify_github(signer, body, strlen(body), signature));
	dmshook_signer_free(signer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *secret = fuzz_line(&data, &size);
	char	   *signatures = fuzz_line(&data, &size);
	char	   *stamp = fuzz_line(&data, &size);
	char	   *id = fuzz_line(&data, &size);
	char	   *body = fuzz_text(data, size);
	const char *problem = NULL;
	int64_t		timestamp = 0;
	DmshookSigner *signer;

	if (dmshook_timestamp_parse(stamp, &timestamp))
	{
		MUST(timestamp >= 0 && stamp[0] != '\0' && stamp[strspn(stamp, "0123456789")] == '\0');
		MUST(dmshook_timestamp_fresh(timestamp, timestamp, 0));
		MUST(timestamp < 400 || !dmshook_timestamp_fresh(timestamp, timestamp - 301, 300));
	}
	dmshook_timestamp_fresh(timestamp, INT64_MIN, INT64_MAX);
	dmshook_timestamp_fresh(timestamp, INT64_MAX, 0);

	signer = dmshook_signer_create(SECRET, &problem);
	MUST(signer != NULL);
	verify(signer, id, timestamp, body, signatures);
	dmshook_signer_free(signer);

	problem = NULL;
	signer = dmshook_signer_create(secret, &problem);
	MUST((signer == NULL) == (problem != NULL));
	if (signer != NULL)
	{
		MUST(strncmp(secret, "whsec_", 6) == 0);
		verify(signer, id, timestamp, body, signatures);
		dmshook_signer_free(signer);
	}
	signer = dmshook_signer_create_ed25519(PRIVATE, NULL);
	MUST(signer != NULL);
	verify_pair(signer, id, timestamp, body, signatures);
	dmshook_signer_free(signer);
	keys(secret, id, timestamp, body, signatures);
	github(secret, body, signatures);
	free(secret);
	free(signatures);
	free(stamp);
	free(id);
	free(body);
	return 0;
}
