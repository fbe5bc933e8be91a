/*
 * sqlapi_sign.c - signatures in SQL: dmshook.sign(), dmshook.verify(), and what
 * 35_secrets.sql needs to know of a secret.
 *
 * Runs in backends, inside the caller's transaction; no table, no network. What
 * is signed is UTF-8, as on the wire, whatever the database's encoding. Copies of
 * secrets made here are wiped, and no message holds a part of one.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "sign.h"

#define ENTRY(name) \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

ENTRY(dmshook_sql_secret_kind);
ENTRY(dmshook_sql_generate_secret);
ENTRY(dmshook_sql_public_key);
ENTRY(dmshook_sql_sign);
ENTRY(dmshook_sql_verify);

static void bad_secret(const char *detail) pg_attribute_noreturn();

/* A text as UTF-8, palloc'd. */
static char *
to_utf8(text * value)
{
	char	   *native = text_to_cstring(value);
	char	   *utf8 = pg_server_to_any(native, strlen(native), PG_UTF8);

	if (utf8 != native)
	{
		explicit_bzero(native, strlen(native));
		pfree(native);
	}
	return utf8;
}

static void
wipe(char *secret)
{
	explicit_bzero(secret, strlen(secret));
	pfree(secret);
}

static void
bad_secret(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid signing secret"),
			 errdetail("%s", detail ? detail : "Memory is short."),
			 errhint("A secret is \"whsec_\" and the base64 form of 24 to 64 bytes, or \"whsk_\" and that of an Ed25519 key; for GitHub's signature alone it may be any text.")));
}

/* A signer for a secret of any kind; an error when it is malformed. The secret is wiped. */
static DmshookSigner *
open_signer(char *secret)
{
	const char *problem = NULL;
	DmshookSigner *signer = NULL;

	switch (dmshook_secret_kind(secret))
	{
		case DMSHOOK_SECRET_SHARED:
			signer = dmshook_signer_create(secret, &problem);
			break;
		case DMSHOOK_SECRET_PRIVATE:
		case DMSHOOK_SECRET_PUBLIC:
			signer = dmshook_signer_create_ed25519(secret, &problem);
			break;
		case DMSHOOK_SECRET_TEXT:
			signer = dmshook_signer_create_github(secret, &problem);
			break;
	}
	wipe(secret);
	if (signer == NULL)
		bad_secret(problem);
	return signer;
}

/* _secret_kind(secret): the kind that webhook_secret has for it; an error when it cannot sign */
Datum
dmshook_sql_secret_kind(PG_FUNCTION_ARGS)
{
	char	   *secret = to_utf8(PG_GETARG_TEXT_PP(0));
	DmshookSecretKind kind = dmshook_secret_kind(secret);

	if (kind == DMSHOOK_SECRET_PUBLIC)
	{
		wipe(secret);
		bad_secret("This is a public key: it verifies, but cannot sign.");
	}
	dmshook_signer_free(open_signer(secret));
	PG_RETURN_TEXT_P(cstring_to_text(kind == DMSHOOK_SECRET_SHARED ? "signing" :
									 kind == DMSHOOK_SECRET_PRIVATE ? "signing_ed25519" : "signing_github"));
}

/* _generate_secret(kind) */
Datum
dmshook_sql_generate_secret(PG_FUNCTION_ARGS)
{
	char	   *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char		secret[DMSHOOK_SECRET_SIZE];
	bool		done;
	text	   *result;

	done = strcmp(kind, "signing_ed25519") == 0 ? dmshook_secret_generate_ed25519(secret, sizeof(secret)) :
		dmshook_secret_generate(secret, sizeof(secret));
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a signing secret")));
	result = cstring_to_text(secret);
	explicit_bzero(secret, sizeof(secret));
	PG_RETURN_TEXT_P(result);
}

/* _public_key(secret): "whpk_..." of "whsk_..." */
Datum
dmshook_sql_public_key(PG_FUNCTION_ARGS)
{
	DmshookSigner *signer = open_signer(to_utf8(PG_GETARG_TEXT_PP(0)));
	char		public[DMSHOOK_PUBLIC_KEY_LEN + 1];
	bool		done = dmshook_signer_public_key(signer, public);

	dmshook_signer_free(signer);
	if (!done)
		bad_secret("It has no public key.");
	PG_RETURN_TEXT_P(cstring_to_text(public));
}

/* The time in a signature; an error where there can be none. */
static int64
seconds_of(TimestampTz at)
{
	const int64 unix_epoch = (int64) (UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;

	if (TIMESTAMP_NOT_FINITE(at) || at < unix_epoch)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("a signature cannot be of this time"),
				 errhint("It counts seconds since 1970-01-01 00:00:00 UTC.")));
	return (at - unix_epoch) / USECS_PER_SEC;
}

/* sign(secret, message_id, at, body): what stands in the header; NULL of a secret or a body is NULL */
Datum
dmshook_sql_sign(PG_FUNCTION_ARGS)
{
	char		signature[Max(DMSHOOK_V1A_LEN, DMSHOOK_GITHUB_LEN) + 1];
	DmshookSecretKind kind;
	DmshookSigner *signer;
	char	   *secret;
	char	   *id = NULL;
	char	   *body;
	int64		seconds = 0;
	bool		done;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	secret = to_utf8(PG_GETARG_TEXT_PP(0));
	kind = dmshook_secret_kind(secret);
	if (kind == DMSHOOK_SECRET_PUBLIC)
	{
		wipe(secret);
		bad_secret("This is a public key: it verifies, but cannot sign.");
	}
	if (kind != DMSHOOK_SECRET_TEXT)
	{
		if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a Standard Webhooks signature covers a message id and a time"),
					 errhint("Only GitHub's, with a secret that is just text, is of the body alone.")));
		id = to_utf8(PG_GETARG_TEXT_PP(1));
		seconds = seconds_of(PG_GETARG_TIMESTAMPTZ(2));
	}
	body = to_utf8(PG_GETARG_TEXT_PP(3));

	/* no error between here and free: the signer is not PostgreSQL's memory */
	signer = open_signer(secret);
	done = kind == DMSHOOK_SECRET_SHARED ? dmshook_sign_v1(signer, id, seconds, body, strlen(body), signature) :
		kind == DMSHOOK_SECRET_PRIVATE ? dmshook_sign_v1a(signer, id, seconds, body, strlen(body), signature) :
		dmshook_sign_github(signer, body, strlen(body), signature);
	dmshook_signer_free(signer);
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not sign")));
	PG_RETURN_TEXT_P(cstring_to_text(signature));
}

/* Headers that verify() looks at. */
typedef struct GivenHeaders
{
	char	   *id;
	char	   *timestamp;
	char	   *signature;
	char	   *github;
	bool		ambiguous;		/* one of them is there twice, or is no text */
} GivenHeaders;

static char **
header_place(GivenHeaders *given, const JsonbValue *name)
{
	const struct
	{
		const char *name;
		char	  **place;
	}			wanted[] = {
		{"webhook-id", &given->id}, {"webhook-timestamp", &given->timestamp},
		{"webhook-signature", &given->signature}, {"x-hub-signature-256", &given->github}
	};

	for (int i = 0; i < (int) lengthof(wanted); i++)
	{
		if (name->val.string.len == (int) strlen(wanted[i].name) &&
			pg_strncasecmp(name->val.string.val, wanted[i].name, name->val.string.len) == 0)
			return wanted[i].place;
	}
	return NULL;
}

/*
 * A name that is there in two spellings makes nothing right: another reader
 * of the same headers may take the other one. A number is as good as a string, for a timestamp.
 */
static void
read_headers(Jsonb *headers, GivenHeaders *given)
{
	JsonbIterator *it = JsonbIteratorInit(&headers->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	  **place = NULL;

	memset(given, 0, sizeof(*given));
	if (!JB_ROOT_IS_OBJECT(headers))
	{
		given->ambiguous = true;
		return;
	}
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			place = header_place(given, &value);
		else if (token == WJB_VALUE && place != NULL)
		{
			if (*place != NULL || (value.type != jbvString && value.type != jbvNumeric))
				given->ambiguous = true;
			else if (value.type == jbvNumeric)
				*place = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
			else
				*place = to_utf8(cstring_to_text_with_len(value.val.string.val, value.val.string.len));
		}
	}
}

/* Whole seconds; a month has 30 days. */
static int64
tolerance_seconds(const Interval *tolerance)
{
	double		seconds = (double) tolerance->month * 30 * SECS_PER_DAY + (double) tolerance->day * SECS_PER_DAY +
	(double) tolerance->time / USECS_PER_SEC;

	if (seconds < 0)
		return -1;
	return seconds >= (double) INT32_MAX * 1000 ? INT64CONST(1000) * INT32_MAX : (int64) seconds;
}

/*
 * Is it right by Standard Webhooks, and fresh (tolerance NULL: of any age)?
 * A v1a by a signer of Ed25519, else a v1.
 */
static bool
standard_right(DmshookSigner *signer, bool ed25519, const GivenHeaders *given, const char *body, const Interval *tolerance)
{
	int64_t		timestamp;

	if (!given->id || !given->timestamp || !given->signature ||
		!dmshook_timestamp_parse(given->timestamp, &timestamp))
		return false;
	if (tolerance && !dmshook_timestamp_fresh(timestamp, (int64) timestamptz_to_time_t(GetCurrentTimestamp()),
											  tolerance_seconds(tolerance)))
		return false;
	if (ed25519)
		return dmshook_verify_v1a(signer, given->id, timestamp, body, strlen(body), given->signature);
	return dmshook_verify_v1(signer, given->id, timestamp, body, strlen(body), given->signature);
}

/*
 * verify(secret, headers, body, tolerance). Never NULL, for NOT NULL is not true.
 *
 * GitHub's signature covers no time: whoever caught a request can send it again for
 * ever. So it is taken where nothing else can be (the secret is just text), and with
 * a "whsec_" secret only when any age is right. Else taking the other headers
 * away would take the tolerance away.
 */
Datum
dmshook_sql_verify(PG_FUNCTION_ARGS)
{
	const Interval *tolerance = PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3);
	GivenHeaders given;
	DmshookSecretKind kind;
	DmshookSigner *signer;
	char	   *secret;
	char	   *body;
	bool		right;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);
	read_headers(PG_GETARG_JSONB_P(1), &given);
	body = to_utf8(PG_GETARG_TEXT_PP(2));
	secret = to_utf8(PG_GETARG_TEXT_PP(0));
	kind = dmshook_secret_kind(secret);

	if (kind == DMSHOOK_SECRET_SHARED && tolerance == NULL && given.github && !given.signature)
	{
		dmshook_signer_free(open_signer(pstrdup(secret)));	/* an error when it is malformed */
		signer = dmshook_signer_create_github(secret, NULL);
		wipe(secret);
		if (signer == NULL)
			bad_secret(NULL);
		kind = DMSHOOK_SECRET_TEXT;
	}
	else
		signer = open_signer(secret);
	if (given.ambiguous)
		right = false;
	else if (kind == DMSHOOK_SECRET_TEXT)
		right = given.github && dmshook_verify_github(signer, body, strlen(body), given.github);
	else
		right = standard_right(signer, kind != DMSHOOK_SECRET_SHARED, &given, body, tolerance);
	dmshook_signer_free(signer);
	PG_RETURN_BOOL(right);
}
