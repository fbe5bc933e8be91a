/*
 * Secrets and signature headers. An input is a secret, a list of signatures, a
 * timestamp, an id, and the body.
 *
 * sources: src/sign*.c
 * libs: -lcrypto
 */
#include "sign.h"

#include "fuzz.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

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
	free(secret);
	free(signatures);
	free(stamp);
	free(id);
	free(body);
	return 0;
}
