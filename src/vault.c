/*
 * vault.c - secrets at rest: AES-256-GCM with the keys of dmshook.secret_key_file.
 *
 * Runs in the dispatcher, which opens what it loads, and in backends, whose
 * functions seal what they store (36_vault.sql). A value is base64 of nonce (96 random bits), ciphertext and tag;
 * the webhook's id and the kind of secret are associated data, so that no row's
 * value works in another row. The id of a key is the begin of its SHA-256. The first
 * key of the file encrypts, each decrypts.
 *
 * The file is read when a process first needs it, and again after a reload of the configuration;
 * beside that only when a secret names a key that is not known and the file is another than the one
 * that was read (a key was added, and nobody has reloaded yet). Never for a request. The
 * postmaster never reads it, so that no process has keys but those that need them. Keys
 * stand in a page of their own that no core file has.
 *
 * What never happens here: a secret, or a part of a key, in a message; a secret stored in plain text
 * because a key is missing.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "keyfile.h"
#include "private_file.h"
#include "settings.h"
#include "vault.h"

#define NONCE_LEN	12
#define TAG_LEN		16
#define MAX_KEYS	32
#define FILE_MAX	8192

/* All that is secret of the file, in pages of its own. */
typedef struct VaultPages
{
	DmshookVaultKey	key[MAX_KEYS];
	char		file[FILE_MAX];
} VaultPages;

static VaultPages *pages = NULL;
static int	nkeys = 0;
static char problem_text[512] = ""; /* the file cannot be used; "": it can, or none is set */
static bool loaded = false;
static TimestampTz loaded_conf; /* PgReloadTime then */
static struct stat loaded_stat; /* of the file; zeroed: there was none */

static const char *const file_hint = "Put the file right, then SELECT pg_reload_conf(). A key is a line of 32 bytes in base64 or hex: openssl rand -base64 32.";

/* ------------------------------------------------------------------------
 * The key file
 * ------------------------------------------------------------------------ */

static void
get_pages(void)
{
	if (pages)
		return;
	pages = mmap(NULL, sizeof(VaultPages), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
	{
		pages = NULL;
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	/* best effort, both */
	(void) madvise(pages, sizeof(VaultPages), MADV_DONTDUMP);
	(void) mlock(pages, sizeof(VaultPages));
}

static DmshookVaultKey *
find_key(const char *id)
{
	for (int i = 0; i < nkeys; i++)
	{
		if (strcmp(pages->key[i].id, id) == 0)
			return &pages->key[i];
	}
	return NULL;
}

/* The lines of pages->file. What is wrong with them goes to problem_text; then there is no key. */
static void
parse_file(void)
{
	int			line;

	nkeys = dmshook_keyfile_parse(pages->file, pages->key, MAX_KEYS, &line);
	if (nkeys == 0)
		snprintf(problem_text, sizeof(problem_text), "key file \"%s\" has no key", dmshook_secret_key_file);
	else if (nkeys < 0 && line == 0)
		snprintf(problem_text, sizeof(problem_text), "key file \"%s\" has more than %d keys", dmshook_secret_key_file, MAX_KEYS);
	else if (nkeys < 0)
		snprintf(problem_text, sizeof(problem_text), "line %d of key file \"%s\" is not a key of 32 bytes in base64 or hex",
				 line, dmshook_secret_key_file);
	nkeys = Max(nkeys, 0);
}

static void
load(void)
{
	char	   *problem;
	size_t		len;

	get_pages();
	explicit_bzero(pages, sizeof(VaultPages));
	nkeys = 0;
	problem_text[0] = '\0';
	memset(&loaded_stat, 0, sizeof(loaded_stat));
	if (dmshook_secret_key_file[0] != '\0')
	{
		problem = dmshook_private_file_read(dmshook_secret_key_file, "key file", pages->file, sizeof(pages->file), &len, &loaded_stat);
		if (problem)
		{
			strlcpy(problem_text, problem, sizeof(problem_text));
			pfree(problem);
		}
		else
			parse_file();
	}
	explicit_bzero(pages->file, sizeof(pages->file));
	loaded = true;
	loaded_conf = PgReloadTime;
}

static void
need_keys(void)
{
	if (!loaded || loaded_conf != PgReloadTime)
		load();
}

/* Is there another file than the one that was read? Then read it. */
static void
look_again(void)
{
	struct stat st;

	if (dmshook_secret_key_file[0] == '\0')
		return;
	if (stat(dmshook_secret_key_file, &st) != 0)
		memset(&st, 0, sizeof(st));
	if (st.st_ino != loaded_stat.st_ino || st.st_dev != loaded_stat.st_dev || st.st_size != loaded_stat.st_size ||
		st.st_mtim.tv_sec != loaded_stat.st_mtim.tv_sec || st.st_mtim.tv_nsec != loaded_stat.st_mtim.tv_nsec ||
		st.st_ctim.tv_sec != loaded_stat.st_ctim.tv_sec || st.st_ctim.tv_nsec != loaded_stat.st_ctim.tv_nsec)
		load();
}

bool
dmshook_vault_reload(void)
{
	DmshookVaultKey   *before = NULL;
	int			n = nkeys;
	char		said[sizeof(problem_text)];
	bool		same;

	strlcpy(said, problem_text, sizeof(said));
	if (n > 0)
	{
		before = palloc(sizeof(DmshookVaultKey) * n);
		for (int i = 0; i < n; i++)
			strcpy(before[i].id, pages->key[i].id);
	}
	load();
	same = n == nkeys && strcmp(said, problem_text) == 0;
	for (int i = 0; same && i < n; i++)
		same = strcmp(before[i].id, pages->key[i].id) == 0;
	if (before)
		pfree(before);
	if (problem_text[0] != '\0' && strcmp(said, problem_text) != 0)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("secrets that are encrypted cannot be used: %s", problem_text),
				 errhint("%s", file_hint)));
	return !same;
}

/* ------------------------------------------------------------------------
 * Encrypting and decrypting
 * ------------------------------------------------------------------------ */

static int
associated_data(int webhook, const char *kind, char *out, size_t size)
{
	return snprintf(out, size, "dmshook 1 %d %s", webhook, kind);
}

/* nonce and ciphertext and tag to out, or, opening, from it. False: OpenSSL says no. */
static bool
encrypt(const DmshookVaultKey *key, const char *aad, int aad_len, const char *secret, int len, unsigned char *out)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	unsigned char *cipher = out + NONCE_LEN;
	int			n;
	int			rest;
	bool		ok;

	ok = context && pg_strong_random(out, NONCE_LEN) &&
		EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, out) == 1 &&
		EVP_EncryptUpdate(context, NULL, &n, (const unsigned char *) aad, aad_len) == 1 &&
		EVP_EncryptUpdate(context, cipher, &n, (const unsigned char *) secret, len) == 1 && n == len &&
		EVP_EncryptFinal_ex(context, cipher + n, &rest) == 1 && rest == 0 &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_LEN, cipher + len) == 1;
	EVP_CIPHER_CTX_free(context);
	ERR_clear_error();
	return ok;
}

static bool
decrypt(const DmshookVaultKey *key, const char *aad, int aad_len, const unsigned char *in, int len, char *secret)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	const unsigned char *cipher = in + NONCE_LEN;
	int			n;
	int			rest;
	bool		ok;

	ok = context &&
		EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, in) == 1 &&
		EVP_DecryptUpdate(context, NULL, &n, (const unsigned char *) aad, aad_len) == 1 &&
		EVP_DecryptUpdate(context, (unsigned char *) secret, &n, cipher, len) == 1 && n == len &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_LEN, unconstify(unsigned char *, cipher) + len) == 1 &&
		EVP_DecryptFinal_ex(context, (unsigned char *) secret + n, &rest) == 1;
	EVP_CIPHER_CTX_free(context);
	ERR_clear_error();
	return ok;
}

char *
dmshook_vault_seal(int webhook, const char *kind, const char *secret, char *key_id)
{
	size_t		len = strlen(secret);
	size_t		sealed = NONCE_LEN + len + TAG_LEN;
	unsigned char *bytes;
	char	   *result;
	char		aad[128];
	int			aad_len = associated_data(webhook, kind, aad, sizeof(aad));

	need_keys();
	if (nkeys == 0)
		look_again();
	if (problem_text[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("a secret cannot be encrypted: %s", problem_text),
				 errhint("%s", file_hint)));
	if (nkeys == 0)
		return NULL;
	bytes = palloc(sealed);
	if (!encrypt(&pages->key[0], aad, aad_len, secret, (int) len, bytes))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("a secret could not be encrypted")));
	result = palloc((sealed + 2) / 3 * 4 + 1);
	EVP_EncodeBlock((unsigned char *) result, bytes, (int) sealed);
	strcpy(key_id, pages->key[0].id);
	pfree(bytes);
	return result;
}

/* What is wrong with the key that a value names? */
static void
explain_key(const char *kind, const char *key_id, char **problem, const char **hint)
{
	if (dmshook_secret_key_file[0] == '\0')
	{
		*problem = psprintf("its secret \"%s\" is encrypted with key %s, but dmshook.secret_key_file is empty", kind, key_id);
		*hint = "Set dmshook.secret_key_file to the file that has this key, then SELECT pg_reload_conf().";
	}
	else if (problem_text[0] != '\0')
	{
		*problem = psprintf("its secret \"%s\" cannot be decrypted: %s", kind, problem_text);
		*hint = file_hint;
	}
	else
	{
		*problem = psprintf("its secret \"%s\" is encrypted with key %s, which is not in dmshook.secret_key_file", kind, key_id);
		*hint = "Add this key to the file as a further line, then SELECT pg_reload_conf(). If it is lost, set the secret again.";
	}
}

char *
dmshook_vault_open(int webhook, const char *kind, const char *value, const char *key_id,
				   char **problem, const char **hint)
{
	size_t		size = strlen(value) / 4 * 3;
	DmshookVaultKey   *key;
	unsigned char *bytes;
	char	   *secret;
	char		aad[128];
	int			aad_len;
	int			len;

	*problem = NULL;
	*hint = NULL;
	if (key_id == NULL)
		return pstrdup(value);
	need_keys();
	key = find_key(key_id);
	if (key == NULL)
	{
		look_again();
		key = find_key(key_id);
	}
	if (key == NULL)
	{
		explain_key(kind, key_id, problem, hint);
		return NULL;
	}
	aad_len = associated_data(webhook, kind, aad, sizeof(aad));
	bytes = palloc(size + 2);
	secret = palloc(size + 1);
	len = dmshook_keyfile_base64(value, strlen(value), bytes, size) - NONCE_LEN - TAG_LEN;
	if (len < 0 || !decrypt(key, aad, aad_len, bytes, len, secret))
	{
		explicit_bzero(secret, size);
		pfree(secret);
		secret = NULL;
		*problem = psprintf("its secret \"%s\" is not what was stored: it cannot be decrypted with key %s", kind, key_id);
		*hint = "Somebody has written to dmshook.webhook_secret: set the secret again.";
	}
	else
		secret[len] = '\0';
	pfree(bytes);
	return secret;
}

/* ------------------------------------------------------------------------
 * Entry points: 36_vault.sql
 * ------------------------------------------------------------------------ */

#define ENTRY(name) \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

ENTRY(dmshook_sql_seal);
ENTRY(dmshook_sql_unseal);
ENTRY(dmshook_sql_unseal_problem);
ENTRY(dmshook_sql_vault);

static Datum
row_of_texts(FunctionCallInfo fcinfo, const char *first, const char *second, const char *third)
{
	const char *texts[3] = {first, second, third};
	TupleDesc	tupdesc;
	Datum		values[3];
	bool		nulls[3];

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE || tupdesc->natts > 3)
		elog(ERROR, "return type must be a row type");
	for (int i = 0; i < tupdesc->natts; i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}

/* _seal(webhook int, kind text, secret text): (value text, key_id text), as they are stored */
Datum
dmshook_sql_seal(PG_FUNCTION_ARGS)
{
	char		key_id[DMSHOOK_KEY_ID_LEN + 1];
	char	   *secret = text_to_cstring(PG_GETARG_TEXT_PP(2));
	char	   *value = dmshook_vault_seal(PG_GETARG_INT32(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), secret, key_id);
	Datum		result = row_of_texts(fcinfo, value ? value : secret, value ? key_id : NULL, NULL);

	explicit_bzero(secret, strlen(secret));
	PG_RETURN_DATUM(result);
}

static char *
open_arguments(FunctionCallInfo fcinfo, char **problem, const char **hint)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		return NULL;
	return dmshook_vault_open(PG_GETARG_INT32(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), text_to_cstring(PG_GETARG_TEXT_PP(2)),
							  PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)), problem, hint);
}

/* _unseal(webhook int, kind text, value text, key_id text): the secret; an error with a hint where it cannot be had */
Datum
dmshook_sql_unseal(PG_FUNCTION_ARGS)
{
	char	   *problem = NULL;
	const char *hint = NULL;
	char	   *secret = open_arguments(fcinfo, &problem, &hint);
	text	   *result;

	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("the secret of a webhook cannot be read"),
				 errdetail_internal("%s", problem),
				 errhint("%s", hint)));
	if (secret == NULL)
		PG_RETURN_NULL();
	result = cstring_to_text(secret);
	explicit_bzero(secret, strlen(secret));
	PG_RETURN_TEXT_P(result);
}

/* _unseal_problem(webhook int, kind text, value text, key_id text): (problem text, hint text); NULL, NULL: it can be had */
Datum
dmshook_sql_unseal_problem(PG_FUNCTION_ARGS)
{
	char	   *problem = NULL;
	const char *hint = NULL;
	char	   *secret = open_arguments(fcinfo, &problem, &hint);

	if (secret)
		explicit_bzero(secret, strlen(secret));
	PG_RETURN_DATUM(row_of_texts(fcinfo, problem, hint, NULL));
}

/* _vault(): (key_id text, problem text, hint text): which key encrypts (NULL: none); what is wrong with the file */
Datum
dmshook_sql_vault(PG_FUNCTION_ARGS)
{
	bool		bad;

	need_keys();
	bad = problem_text[0] != '\0';
	PG_RETURN_DATUM(row_of_texts(fcinfo, nkeys > 0 ? pages->key[0].id : NULL, bad ? problem_text : NULL, bad ? file_hint : NULL));
}
