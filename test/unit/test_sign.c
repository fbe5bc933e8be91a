/*
 * Tests of src/sign.c and src/sign_ed25519.c: secrets, signatures (v1, v1a, GitHub's), timestamps.
 *
 * The public vectors are read from signature-vectors.tsv (secret, id,
 * timestamp, body, signature), named by the first argument.
 */
#include "sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "unit.h"

#define SECRET	"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID		"msg_p5jXN8AQM9LWM0D4loKWxJek"
#define TIME	INT64_C(1614265330)
#define BODY	"{\"test\": 2432232314}"
#define RIGHT	"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define WRONG	"v1,h0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

/* The public vector of v1a; the public key is the private one's second half. */
#define PRIVATE	"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
#define SEED	"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="
#define PUBLIC	"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
#define RIGHT_A	"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
#define WRONG_A	"v1a,inO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="

/* What GitHub's documentation has. */
#define TEXT	"It's a Secret to Everybody"
#define HELLO	"Hello, World!"
#define RIGHT_H	"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

static const char *vectors_file;

/* A signature made another way: the message in one piece, HMAC() instead of EVP_MAC. */
static void
sign_plainly(const unsigned char *key, size_t keylen, const char *id, int64_t timestamp,
			 const char *body, size_t len, char *out)
{
	char	   *message = malloc(len + strlen(id) + 100);
	int			n = sprintf(message, "%s.%lld.", id, (long long) timestamp);
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned int maclen;

	memcpy(message + n, body, len);
	HMAC(EVP_sha256(), key, (int) keylen, (unsigned char *) message, (size_t) n + len, mac, &maclen);
	strcpy(out, "v1,");
	EVP_EncodeBlock((unsigned char *) out + 3, mac, (int) maclen);
	free(message);
}

static void
vectors(void)
{
	FILE	   *file = fopen(vectors_file, "r");
	char		line[2000];
	int			n = 0;

	if (!CHECK(file != NULL, "cannot open %s", vectors_file))
		return;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		char	   *field[5];
		char	   *rest = line;
		char		out[DMSHOOK_V1_LEN + 1];
		const char *problem;
		DmshookSigner *signer;
		int64_t		timestamp;

		line[strcspn(line, "\n")] = '\0';
		for (int i = 0; i < 5; i++)
			field[i] = strsep(&rest, "\t");
		if (!CHECK(field[4] != NULL && rest == NULL, "line %d", n + 1))
			break;
		n++;
		signer = dmshook_signer_create(field[0], &problem);
		if (!CHECK(signer != NULL, "vector %d: %s", n, problem))
			continue;
		CHECK(dmshook_timestamp_parse(field[2], &timestamp), "vector %d: %s", n, field[2]);
		/* the second time with the context that the first one left behind */
		for (int round = 0; round < 2; round++)
		{
			CHECK(dmshook_sign_v1(signer, field[1], timestamp, field[3], strlen(field[3]), out) && strcmp(out, field[4]) == 0,
				  "vector %d: %s", n, out);
			CHECK(dmshook_verify_v1(signer, field[1], timestamp, field[3], strlen(field[3]), field[4]), "vector %d", n);
		}
		dmshook_signer_free(signer);
	}
	CHECK(n >= 1, "no vectors in %s", vectors_file);
	fclose(file);
}

/* Keys of all lengths and bodies of many, from several signers in turn, against HMAC(). */
static void
against_hmac(void)
{
	unsigned char key[100];
	char		secret[200];
	char	   *big = malloc(1000000);
	char		expected[DMSHOOK_V1_LEN + 1];
	char		out[DMSHOOK_V1_LEN + 1];

	for (int i = 0; i < 1000000; i++)
		big[i] = (char) unit_random();
	for (size_t keylen = 1; keylen <= 100; keylen++)
	{
		const char *problem = "not set";
		DmshookSigner *signer;

		for (size_t i = 0; i < keylen; i++)
			key[i] = (unsigned char) unit_random();
		strcpy(secret, "whsec_");
		EVP_EncodeBlock((unsigned char *) secret + 6, key, (int) keylen);
		signer = dmshook_signer_create(secret, &problem);
		CHECK((signer != NULL) == (keylen >= 24 && keylen <= 64), "%zu bytes", keylen);
		CHECK((signer == NULL) == (problem != NULL), "%zu bytes: %s", keylen, problem ? problem : "no problem");
		if (signer == NULL)
			continue;
		for (int i = 0; i < 20; i++)
		{
			size_t		len = i == 0 ? 0 : i == 19 ? 1000000 : unit_random() % 5000;
			int64_t		timestamp = i == 1 ? 0 : (int64_t) (unit_random() % 4000000000u);

			CHECK(dmshook_sign_v1(signer, ID, timestamp, len > 0 ? big : NULL, len, out), "%zu bytes", keylen);
			sign_plainly(key, keylen, ID, timestamp, big, len, expected);
			CHECK(strcmp(out, expected) == 0, "key of %zu, body of %zu bytes", keylen, len);
		}
		dmshook_signer_free(signer);
	}
	free(big);
	dmshook_signer_free(NULL);
}

static void
malformed_secrets(void)
{
	static const char *const secrets[] = {
		"", "whsec", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",	/* a letter short */
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw ", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
		"whsec_MfKQ9r8GKYqrTwjU PD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-w",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa_w", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw====",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA=",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAB==",	/* stray bits */
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAB=", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA===",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA=A=", "whsec_=fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"whsec_====", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw==A=", "whsec_\xc3\xa9KQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	};
	static const char *const fine[] = {
		SECRET, SECRET "AA==", SECRET "AAA=", SECRET "AAAA", SECRET "//++"
	};
	char	   *long_secret = malloc(1000007);
	const char *problem;

	for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++)
	{
		char	   *copy = unit_exact(secrets[i], strlen(secrets[i]) + 1);
		DmshookSigner *signer;

		problem = NULL;
		signer = dmshook_signer_create(copy, &problem);
		CHECK(signer == NULL && problem != NULL, "\"%s\"", secrets[i]);
		CHECK(problem == NULL || strstr(problem, "KQ9r8") == NULL, "the problem shows the secret");
		dmshook_signer_free(signer);
		CHECK(dmshook_signer_create(copy, NULL) == NULL, "\"%s\", the problem not asked for", secrets[i]);
		free(copy);
	}
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
	{
		DmshookSigner *signer = dmshook_signer_create(fine[i], &problem);

		CHECK(signer != NULL && problem == NULL, "\"%s\": %s", fine[i], problem ? problem : "");
		dmshook_signer_free(signer);
	}

	strcpy(long_secret, "whsec_");
	memset(long_secret + 6, 'A', 1000000);
	long_secret[1000006] = '\0';
	CHECK(dmshook_signer_create(long_secret, &problem) == NULL && strstr(problem, "24 to 64") != NULL, "%s", problem);
	free(long_secret);
}

/* What must be accepted and refused: the lists of the vectors' file, and around them. */
static void
verifying(void)
{
	static const struct
	{
		const char *signatures;
		bool		right;
	}			cases[] = {
		{RIGHT, true},
		{WRONG " " RIGHT, true},
		{RIGHT " " WRONG, true},
		{"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== v2,abc " WRONG " " RIGHT " v1,", true},
		{"  " RIGHT "  ", true},
		{"x " RIGHT, true},
		{"", false},
		{" ", false},
		{"v1,", false},
		{"v1", false},
		{"v1,g0hM9SsE", false}, /* the first 8 characters */
		{"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE", false},
		{RIGHT "=", false},
		{RIGHT "," RIGHT, false},
		{WRONG, false},
		{WRONG " " WRONG, false},
		{"v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
		{"V1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
		{"v1=g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
		{"g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
		{"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=", false}, /* stray bits */
		{"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1oE=", false},
		{"v1,G0HM9SSE+OTPJTGT/TMIKTSYZLE3UFJELVLNIOLJ1OE=", false},
		{"v1,g0hM9SsE-OTPJTGt_tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
		{RIGHT "\t", false},
		{"v1, g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", false},
	};
	DmshookSigner *signer = dmshook_signer_create(SECRET, NULL);
	DmshookSigner *other = dmshook_signer_create(SECRET "BBBB", NULL);
	char		sent[DMSHOOK_V1_LEN + 1];

	/* (zero bytes at a key's end would make no difference: HMAC pads with them) */
	if (!CHECK(signer != NULL && other != NULL, "no signer"))
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = unit_exact(cases[i].signatures, strlen(cases[i].signatures) + 1);

		CHECK(dmshook_verify_v1(signer, ID, TIME, BODY, strlen(BODY), copy) == cases[i].right, "\"%s\"", cases[i].signatures);
		free(copy);
	}
	/* each letter counts */
	for (size_t i = 0; i < strlen(RIGHT); i++)
	{
		char		broken[] = RIGHT;

		broken[i] = broken[i] == 'x' ? 'y' : 'x';
		CHECK(!dmshook_verify_v1(signer, ID, TIME, BODY, strlen(BODY), broken), "letter %zu", i);
	}
	CHECK(!dmshook_verify_v1(other, ID, TIME, BODY, strlen(BODY), RIGHT), "another secret");
	CHECK(!dmshook_verify_v1(signer, "msg_x", TIME, BODY, strlen(BODY), RIGHT), "another id");
	CHECK(!dmshook_verify_v1(signer, ID, TIME + 1, BODY, strlen(BODY), RIGHT), "another time");
	CHECK(!dmshook_verify_v1(signer, ID, TIME, BODY, strlen(BODY) - 1, RIGHT), "another body");
	CHECK(!dmshook_verify_v1(signer, ID, TIME, BODY " ", strlen(BODY) + 1, RIGHT), "a longer body");

	CHECK(dmshook_sign_v1(signer, ID, -1, BODY, strlen(BODY), sent), "a time before 1970");
	CHECK(!dmshook_verify_v1(signer, ID, -1, BODY, strlen(BODY), sent), "a negative timestamp, rightly signed");
	dmshook_signer_free(signer);
	dmshook_signer_free(other);
}

static void
timestamps(void)
{
	static const char *const refused[] = {
		"", "-1", "-1614265330", "+1614265330", "1614265330.5", "1614265330.0", " 1614265330", "1614265330 ", "1614265330s",
		"0x60", "1e9", "1,614,265,330", "9223372036854775808", "99999999999999999999", "1000000000000"
	};
	int64_t		value;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		CHECK(!dmshook_timestamp_parse(refused[i], &value), "\"%s\"", refused[i]);
	CHECK(dmshook_timestamp_parse("1614265330", &value) && value == TIME, "%" PRId64, value);
	CHECK(dmshook_timestamp_parse("0", &value) && value == 0, "%" PRId64, value);
	CHECK(dmshook_timestamp_parse("999999999999", &value) && value == INT64_C(999999999999), "%" PRId64, value);

	for (int64_t age = -310; age <= 310; age++)
		CHECK(dmshook_timestamp_fresh(TIME - age, TIME, 300) == (age >= -300 && age <= 300), "%" PRId64 " s", age);
	CHECK(dmshook_timestamp_fresh(TIME, TIME, 0), "now");
	CHECK(!dmshook_timestamp_fresh(TIME, TIME, -1), "a negative tolerance");
	CHECK(!dmshook_timestamp_fresh(INT64_MIN, INT64_MAX, 300), "the ends of time");
	CHECK(!dmshook_timestamp_fresh(INT64_MAX, INT64_MIN, 300), "the ends of time");
	CHECK(!dmshook_timestamp_fresh(INT64_MAX, INT64_MIN, INT64_MAX), "the ends of time, with all the tolerance there is");
}

static void
new_secrets(void)
{
	char		secrets[200][64];
	char	   *exact = malloc(51);

	for (int i = 0; i < 200; i++)
	{
		DmshookSigner *signer;

		CHECK(dmshook_secret_generate(secrets[i], sizeof(secrets[i])), "no randomness");
		CHECK(strlen(secrets[i]) == 50, "%zu", strlen(secrets[i]));
		signer = dmshook_signer_create(secrets[i], NULL);
		CHECK(signer != NULL, "%s", secrets[i]);
		dmshook_signer_free(signer);
		for (int k = 0; k < i; k++)
			CHECK(strcmp(secrets[i], secrets[k]) != 0, "the same twice");
	}
	CHECK(dmshook_secret_generate(exact, 51), "just room enough");
	CHECK(!dmshook_secret_generate(exact, 50) && exact[0] == '\0', "a byte too few");
	CHECK(!dmshook_secret_generate(exact, 0), "no room");
	free(exact);
}

static void
kinds(void)
{
	CHECK(dmshook_secret_kind(SECRET) == DMSHOOK_SECRET_SHARED, "whsec_");
	CHECK(dmshook_secret_kind(PRIVATE) == DMSHOOK_SECRET_PRIVATE, "whsk_");
	CHECK(dmshook_secret_kind(PUBLIC) == DMSHOOK_SECRET_PUBLIC, "whpk_");
	CHECK(dmshook_secret_kind("whsec") == DMSHOOK_SECRET_TEXT, "a letter short");
	CHECK(dmshook_secret_kind("WHSEC_AAAA") == DMSHOOK_SECRET_TEXT, "capitals");
	CHECK(dmshook_secret_kind("") == DMSHOOK_SECRET_TEXT, "nothing");
}

/* A v1a verified another way: the message in one piece, the key out of its text. */
static bool
verify_plainly(const char *public, const char *id, int64_t timestamp, const char *body, size_t len, const char *signature)
{
	char	   *message = malloc(len + strlen(id) + 100);
	int			n = sprintf(message, "%s.%lld.", id, (long long) timestamp);
	unsigned char key[40];
	unsigned char sig[100];
	EVP_PKEY   *pkey;
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool		right;

	EVP_DecodeBlock(key, (const unsigned char *) public + 5, 44);
	EVP_DecodeBlock(sig, (const unsigned char *) signature + 4, 88);
	memcpy(message + n, body, len);
	pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32);
	right = EVP_DigestVerifyInit(context, NULL, NULL, NULL, pkey) == 1 &&
		EVP_DigestVerify(context, sig, 64, (unsigned char *) message, (size_t) n + len) == 1;
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(pkey);
	free(message);
	return right;
}

static void
ed25519(void)
{
	static const char *const secrets[] = {PRIVATE, SEED, PUBLIC};
	char		out[DMSHOOK_V1A_LEN + 1];
	char		public[DMSHOOK_PUBLIC_KEY_LEN + 1];
	char	   *big = malloc(1000000);

	for (int i = 0; i < 1000000; i++)
		big[i] = (char) unit_random();
	for (int i = 0; i < 3; i++)
	{
		const char *problem = "not set";
		DmshookSigner *signer = dmshook_signer_create_ed25519(secrets[i], &problem);

		if (!CHECK(signer != NULL && problem == NULL, "%s: %s", secrets[i], problem ? problem : ""))
			continue;
		CHECK(dmshook_signer_public_key(signer, public) && strcmp(public, PUBLIC) == 0, "%s", public);
		for (int round = 0; round < 2; round++)
		{
			if (i < 2)
				CHECK(dmshook_sign_v1a(signer, ID, TIME, BODY, strlen(BODY), out) && strcmp(out, RIGHT_A) == 0, "%s", out);
			else
				CHECK(!dmshook_sign_v1a(signer, ID, TIME, BODY, strlen(BODY), out) && out[0] == '\0', "signed with a public key");
			CHECK(dmshook_verify_v1a(signer, ID, TIME, BODY, strlen(BODY), RIGHT_A), "round %d", round);
			CHECK(!dmshook_sign_v1(signer, ID, TIME, BODY, strlen(BODY), out) && out[0] == '\0', "v1 by a pair");
			CHECK(!dmshook_sign_github(signer, BODY, strlen(BODY), out) && out[0] == '\0', "github by a pair");
		}
		dmshook_signer_free(signer);
	}
	/* new keys, bodies of many lengths, one after the other */
	for (int i = 0; i < 20; i++)
	{
		char		secret[DMSHOOK_SECRET_SIZE];
		DmshookSigner *signer;

		CHECK(dmshook_secret_generate_ed25519(secret, sizeof(secret)) && strlen(secret) == 93, "%s", secret);
		signer = dmshook_signer_create_ed25519(secret, NULL);
		if (!CHECK(signer != NULL && dmshook_signer_public_key(signer, public), "%s", secret))
			continue;
		for (int k = 0; k < 6; k++)
		{
			size_t		len = k == 0 ? 0 : k == 3 ? 1000000 : unit_random() % 5000;

			CHECK(dmshook_sign_v1a(signer, ID, TIME + k, len > 0 ? big : NULL, len, out), "%zu bytes", len);
			CHECK(strlen(out) == DMSHOOK_V1A_LEN && verify_plainly(public, ID, TIME + k, big, len, out), "%zu bytes: %s", len, out);
			CHECK(dmshook_verify_v1a(signer, ID, TIME + k, big, len, out), "%zu bytes", len);
			CHECK(!dmshook_verify_v1a(signer, ID, TIME, BODY, strlen(BODY), out), "of another body");
		}
		dmshook_signer_free(signer);
	}
	CHECK(!dmshook_secret_generate_ed25519(out, 93) && out[0] == '\0', "a byte too few");
	free(big);
}

static void
malformed_keys(void)
{
	static const char *const secrets[] = {
		"", "whsk_", "whpk_", SECRET, TEXT, "whsk_c2hvcnQ=", "whpk_c2hvcnQ=",
		"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbd=",	/* stray bits */
		"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc",
		"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4",
		"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4AAA==",
		"whpk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
		/* 48 and 65 bytes; the public half of another key */
		"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dR",
		"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6KvgA=",
		"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvw=="
	};

	for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++)
	{
		char	   *copy = unit_exact(secrets[i], strlen(secrets[i]) + 1);
		const char *problem = NULL;

		CHECK(dmshook_signer_create_ed25519(copy, &problem) == NULL && problem != NULL, "\"%s\"", secrets[i]);
		CHECK(problem == NULL || strstr(problem, "6Xb/") == NULL, "the problem shows the key");
		CHECK(dmshook_signer_create_ed25519(copy, NULL) == NULL, "\"%s\", the problem not asked for", secrets[i]);
		free(copy);
	}
}

static void
verifying_v1a(void)
{
	char		many[(DMSHOOK_MAX_VERIFIED + 1) * (DMSHOOK_V1A_LEN + 1) + 1] = "";
	DmshookSigner *signer = dmshook_signer_create_ed25519(PUBLIC, NULL);
	DmshookSigner *other = dmshook_signer_create_ed25519("whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", NULL);
	static const struct
	{
		const char *signatures;
		bool		right;
	}			cases[] = {
		{RIGHT_A, true}, {WRONG_A " " RIGHT_A, true}, {RIGHT " v2,x v1a, v1a,x " RIGHT_A " " WRONG_A, true}, {"  " RIGHT_A " ", true},
		{"", false}, {"v1a,", false}, {WRONG_A, false}, {RIGHT, false}, {RIGHT_A "=", false}, {RIGHT_A "," RIGHT_A, false},
		{"v1a,hnO3f9T8", false}, {"v1b,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==", false},
		{"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAh==", false},	/* stray bits */
		{"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAgA=", false},	/* 65 bytes */
	};

	if (!CHECK(signer != NULL && other != NULL, "no signer"))
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = unit_exact(cases[i].signatures, strlen(cases[i].signatures) + 1);

		CHECK(dmshook_verify_v1a(signer, ID, TIME, BODY, strlen(BODY), copy) == cases[i].right, "\"%s\"", cases[i].signatures);
		free(copy);
	}
	CHECK(!dmshook_verify_v1a(other, ID, TIME, BODY, strlen(BODY), RIGHT_A), "another key");
	CHECK(!dmshook_verify_v1a(signer, "msg_x", TIME, BODY, strlen(BODY), RIGHT_A), "another id");
	CHECK(!dmshook_verify_v1a(signer, ID, TIME + 1, BODY, strlen(BODY), RIGHT_A), "another time");
	CHECK(!dmshook_verify_v1a(signer, ID, TIME, BODY, strlen(BODY) - 1, RIGHT_A), "another body");
	/* costly ones are tried up to a number; a v1 signer is none */
	for (int i = 0; i < DMSHOOK_MAX_VERIFIED - 1; i++)
		strcat(many, WRONG_A " ");
	strcat(many, RIGHT_A);
	CHECK(dmshook_verify_v1a(signer, ID, TIME, BODY, strlen(BODY), many), "the last of those that are tried");
	strcpy(many, WRONG_A);
	for (int i = 0; i < DMSHOOK_MAX_VERIFIED - 1; i++)
		strcat(many, " " WRONG_A);
	strcat(many, " " RIGHT_A);
	CHECK(!dmshook_verify_v1a(signer, ID, TIME, BODY, strlen(BODY), many), "one that is not tried any more");
	dmshook_signer_free(signer);
	dmshook_signer_free(other);

	signer = dmshook_signer_create(SECRET, NULL);
	CHECK(!dmshook_verify_v1a(signer, ID, TIME, BODY, strlen(BODY), RIGHT_A), "by a shared secret");
	CHECK(!dmshook_signer_public_key(signer, many) && many[0] == '\0', "its public key");
	dmshook_signer_free(signer);

	signer = dmshook_signer_create_ed25519(PRIVATE, NULL);
	CHECK(dmshook_sign_v1a(signer, ID, -1, BODY, strlen(BODY), many), "a time before 1970");
	CHECK(!dmshook_verify_v1a(signer, ID, -1, BODY, strlen(BODY), many), "a negative timestamp, rightly signed");
	CHECK(!dmshook_verify_v1(signer, ID, TIME, BODY, strlen(BODY), RIGHT), "v1 by a pair");
	dmshook_signer_free(signer);
}

static void
github(void)
{
	char		out[DMSHOOK_GITHUB_LEN + 1];
	char		text[DMSHOOK_MAX_SECRET_TEXT + 2];
	const char *problem = "not set";
	DmshookSigner *signer = dmshook_signer_create_github(TEXT, &problem);
	static const struct
	{
		const char *signature;
		bool		right;
	}			cases[] = {
		{RIGHT_H, true}, {"sha256=757107EA0EB2509FC211221CCE984B8A37570B6D7586C22C46F4379C8B043E17", true},
		{"", false}, {"sha256=", false}, {"757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", false},
		{"SHA256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", false}, {"shA256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", false},
		{RIGHT_H " ", false}, {" " RIGHT_H, false},
		{"sha256=757107ea", false}, {RIGHT_H RIGHT_H, false}, {"sha1=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e1700", false},
	};

	if (!CHECK(signer != NULL && problem == NULL, "no signer"))
		return;
	for (int round = 0; round < 2; round++)
		CHECK(dmshook_sign_github(signer, HELLO, strlen(HELLO), out) && strcmp(out, RIGHT_H) == 0, "%s", out);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char	   *copy = unit_exact(cases[i].signature, strlen(cases[i].signature) + 1);

		CHECK(dmshook_verify_github(signer, HELLO, strlen(HELLO), copy) == cases[i].right, "\"%s\"", cases[i].signature);
		free(copy);
	}
	for (size_t i = 0; i < strlen(RIGHT_H); i++)
	{
		char		broken[] = RIGHT_H;

		broken[i] = broken[i] == '0' ? '1' : '0';
		CHECK(!dmshook_verify_github(signer, HELLO, strlen(HELLO), broken), "letter %zu", i);
	}
	CHECK(!dmshook_verify_github(signer, HELLO, strlen(HELLO) - 1, RIGHT_H), "another body");
	CHECK(!dmshook_sign_v1(signer, ID, TIME, BODY, strlen(BODY), text) && text[0] == '\0', "v1 by a text");
	dmshook_signer_free(signer);

	/* one byte to 1024; a prefix is part of the key; every one against HMAC() */
	for (size_t len = 0; len <= DMSHOOK_MAX_SECRET_TEXT + 1; len += len < 70 ? 1 : len < 1020 ? 95 : 1)
	{
		unsigned char mac[EVP_MAX_MD_SIZE];
		unsigned int maclen;
		char		hex[65];

		memset(text, 0, sizeof(text));
		for (size_t i = 0; i < len; i++)
			text[i] = (char) (1 + unit_random() % 255);
		if (len >= 6)
			memcpy(text, "whsec_", 6);
		signer = dmshook_signer_create_github(text, &problem);
		CHECK((signer != NULL) == (len >= 1 && len <= DMSHOOK_MAX_SECRET_TEXT) && (signer == NULL) == (problem != NULL), "%zu bytes", len);
		if (signer == NULL)
			continue;
		HMAC(EVP_sha256(), text, (int) len, (const unsigned char *) BODY, strlen(BODY), mac, &maclen);
		for (int i = 0; i < 32; i++)
			sprintf(hex + 2 * i, "%02x", mac[i]);
		CHECK(dmshook_sign_github(signer, BODY, strlen(BODY), out) && strcmp(out + 7, hex) == 0, "%zu bytes: %s", len, out);
		CHECK(dmshook_sign_github(signer, NULL, 0, out) && strcmp(out + 7, hex) != 0, "no body");
		dmshook_signer_free(signer);
	}
}

int
main(int argc, char **argv)
{
	if (argc != 2)
	{
		fprintf(stderr, "usage: test_sign signature-vectors.tsv\n");
		return 2;
	}
	vectors_file = argv[1];
	unit_group("public vectors", vectors);
	unit_group("the same as HMAC() makes", against_hmac);
	unit_group("malformed secrets", malformed_secrets);
	unit_group("signatures accepted and refused", verifying);
	unit_group("timestamps", timestamps);
	unit_group("new secrets", new_secrets);
	unit_group("kinds of secrets", kinds);
	unit_group("Ed25519: the public vector, and against EVP_DigestVerify()", ed25519);
	unit_group("Ed25519: malformed keys", malformed_keys);
	unit_group("Ed25519: signatures accepted and refused", verifying_v1a);
	unit_group("GitHub's", github);
	return unit_done();
}
