/*
 * auth.c - Reading how a webhook shows its receiver who is calling: kinds of
 * authentication, their members, and the files that secrets may be in.
 *
 * Runs in backends, when a webhook is created or altered, and in the
 * dispatcher, when it loads a webhook (then everything was checked before, and an
 * error means that somebody wrote to the tables by hand). No access to tables.
 * Files are read in backends only, once: what is stored is their content. Results
 * live in the caller's memory context. A value never becomes part of an error
 * message here; a file's name does.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <time.h>

#include "catalog/pg_authid.h"
#include "common/base64.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "auth.h"
#include "cert.h"
#include "compat.h"
#include "header.h"
#include "options.h"
#include "settings.h"
#include "transport.h"

#define MAX_VALUE		8192
#define MAX_PEM			65536
#define MAX_FILE		65536

#define OPTIONAL		1		/* may be left out */
#define EMPTY			2		/* may be "" */
#define PEM				4		/* has lines */

#define MAX_MEMBERS		6

typedef struct AuthMember
{
	const char *name;
	const char *file;			/* the member that names a file with it; NULL: none */
	int			flags;
} AuthMember;

typedef struct AuthKind
{
	const char *name;
	AuthMember	member[MAX_MEMBERS];
	const char *example;
} AuthKind;

static const AuthKind auth_kinds[] = {
	{"none", {{NULL, NULL, 0}}, "{\"kind\": \"none\"}"},
	/* the password of an API key used as a user name is often empty */
	{"basic", {{"username", NULL, 0}, {"password", "password_file", EMPTY}},
	"{\"kind\": \"basic\", \"username\": \"...\", \"password\": \"...\"}"},
	{"bearer", {{"token", "token_file", 0}}, "{\"kind\": \"bearer\", \"token\": \"...\"}"},
	{"api_key", {{"header", NULL, 0}, {"key", "key_file", 0}}, "{\"kind\": \"api_key\", \"header\": \"X-API-Key\", \"key\": \"...\"}"},
	{"oauth2", {{"token_url", NULL, 0}, {"client_id", NULL, 0}, {"client_secret", "client_secret_file", 0}, {"scope", NULL, OPTIONAL},
	{"audience", NULL, OPTIONAL}, {"client_auth", NULL, OPTIONAL}},
	"{\"kind\": \"oauth2\", \"token_url\": \"https://...\", \"client_id\": \"...\", \"client_secret\": \"...\", \"scope\": \"...\"}; "
	"scope, audience and client_auth (\"basic\" or \"body\") may be left out"},
	{"mtls", {{"certificate", "certificate_file", PEM}, {"key", "key_file", PEM}},
	"{\"kind\": \"mtls\", \"certificate\": \"-----BEGIN CERTIFICATE-----...\", \"key\": \"-----BEGIN PRIVATE KEY-----...\"}"},
};

#define KIND_NAMES "none, basic, bearer, api_key, oauth2, mtls"

static void bad_auth(const char *problem, const AuthKind *kind) pg_attribute_noreturn();

/* ------------------------------------------------------------------------
 * JSON
 * ------------------------------------------------------------------------ */

/* A string member as a zero-terminated copy; NULL when absent or no string. */
static char *
string_member(Jsonb *object, const char *name)
{
	JsonbValue	buf;
	JsonbValue *value = getKeyJsonValueFromContainer(&object->root, name, strlen(name), &buf);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* The server's encoding is what the JSON is in; a request is in UTF-8. */
static char *
to_utf8(char *text)
{
	return pg_server_to_any(text, strlen(text), PG_UTF8);
}

char *
dmshook_auth_member(Jsonb *auth, const char *name)
{
	char	   *value = string_member(auth, name);

	return value ? to_utf8(value) : NULL;
}

/* ------------------------------------------------------------------------
 * Checking
 * ------------------------------------------------------------------------ */

static void
bad_auth(const char *problem, const AuthKind *kind)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid auth: %s", problem),
			 errhint("Write it as %s.", kind->example)));
}

static const AuthKind *
auth_kind(Jsonb *auth)
{
	bool		object = JB_ROOT_IS_OBJECT(auth);
	char	   *name = object ? string_member(auth, "kind") : NULL;

	for (int i = 0; name != NULL && i < (int) lengthof(auth_kinds); i++)
	{
		if (strcmp(name, auth_kinds[i].name) == 0)
			return &auth_kinds[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 !object ? errmsg("invalid auth: not a JSON object") :
			 name == NULL ? errmsg("invalid auth: no \"kind\"") :
			 errmsg("unknown auth kind \"%.50s\"", name),
			 errhint("Write it as {\"kind\": ..., ...}. There are: %s.", KIND_NAMES)));
}

bool
dmshook_auth_is(Jsonb *auth, const char *kind)
{
	return strcmp(auth_kind(auth)->name, kind) == 0;
}

static bool
has_control_but_lines(const char *text, int len)
{
	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if ((c < 0x20 && c != '\n' && c != '\r' && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

/* A member must be one of the kind's, and a string fit for its place. */
static void
check_member(const char *name, const JsonbValue *value, const AuthKind *kind)
{
	for (int i = 0; i < MAX_MEMBERS && kind->member[i].name != NULL; i++)
	{
		const AuthMember *member = &kind->member[i];
		bool		pem = (member->flags & PEM) != 0;
		int			limit = pem ? MAX_PEM : MAX_VALUE;

		if (strcmp(name, member->name) != 0)
			continue;
		if (value->type != jbvString)
			bad_auth(psprintf("\"%s\" is not a string", name), kind);
		if (pem ? has_control_but_lines(value->val.string.val, value->val.string.len) :
			dmshook_has_control(value->val.string.val, value->val.string.len))
			bad_auth(psprintf(pem ? "\"%s\" has a control character" : "\"%s\" has a line break or another control character", name), kind);
		if (value->val.string.len > limit)
			bad_auth(psprintf("\"%s\" is longer than %d bytes", name, limit), kind);
		return;
	}
	bad_auth(psprintf("kind \"%s\" has no member \"%.50s\"", kind->name, name), kind);
}

static void
check_members(Jsonb *auth, const AuthKind *kind)
{
	JsonbIterator *it = JsonbIteratorInit(&auth->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE && strcmp(name, "kind") != 0)
			check_member(name, &value, kind);
	}
	for (int i = 0; i < MAX_MEMBERS && kind->member[i].name != NULL; i++)
	{
		const AuthMember *member = &kind->member[i];
		char	   *text = string_member(auth, member->name);

		if (text == NULL && (member->flags & OPTIONAL) == 0)
			bad_auth(psprintf("no \"%s\"", member->name), kind);
		if (text != NULL && *text == '\0' && (member->flags & EMPTY) == 0)
			bad_auth(psprintf("\"%s\" is empty", member->name), kind);
	}
}

/* RFC 6749, appendix A: printable ASCII; a scope also without quotes. */
static bool
is_printable(const char *text, const char *except)
{
	for (; *text != '\0'; text++)
	{
		if (*text < 0x20 || *text > 0x7e || strchr(except, *text) != NULL)
			return false;
	}
	return true;
}

static void
check_oauth(Jsonb *auth, const AuthKind *kind)
{
	const char *hint = NULL;
	const char *problem = dmshook_url_check(string_member(auth, "token_url"), dmshook_allow_http, &hint);
	char	   *scope = string_member(auth, "scope");
	char	   *how = string_member(auth, "client_auth");

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid auth: \"token_url\" cannot be used"),
				 errdetail("%s", problem),
				 hint != NULL ? errhint("%s", hint) : 0));
	if (!is_printable(string_member(auth, "client_id"), "") || !is_printable(string_member(auth, "client_secret"), ""))
		bad_auth("\"client_id\" and \"client_secret\" may have printable ASCII characters only", kind);
	if (scope != NULL && !is_printable(scope, "\"\\"))
		bad_auth("\"scope\" is not a list of names, separated by spaces", kind);
	if (how != NULL && strcmp(how, "basic") != 0 && strcmp(how, "body") != 0)
		bad_auth("\"client_auth\" is neither \"basic\" nor \"body\"", kind);
}

static void
check_certificate(Jsonb *auth)
{
	DmshookCertificate info;
	char		reason[200];
	const char *hint = NULL;
	int64		now = (int64) time(NULL);

	if (!dmshook_certificate_read(string_member(auth, "certificate"), string_member(auth, "key"), &info, reason, sizeof(reason), &hint))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid auth: %s", reason),
				 errhint("%s", hint)));
	if (info.not_after <= now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid auth: the client certificate has expired"),
				 errdetail("It ended at %s.", timestamptz_to_str(time_t_to_timestamptz((pg_time_t) info.not_after))),
				 errhint("Ask for a new one where this one came from.")));
}

const char *
dmshook_auth_check(Jsonb *auth)
{
	const AuthKind *kind = auth_kind(auth);

	check_members(auth, kind);
	if (strcmp(kind->name, "basic") == 0 && strchr(string_member(auth, "username"), ':') != NULL)
		bad_auth("\"username\" has a colon", kind);
	if (strcmp(kind->name, "bearer") == 0 && strchr(string_member(auth, "token"), ' ') != NULL)
		bad_auth("\"token\" has a space", kind);
	if (strcmp(kind->name, "api_key") == 0)
	{
		char	   *key = string_member(auth, "key");

		dmshook_header_name_check(string_member(auth, "header"));
		if (key[0] == ' ' || key[strlen(key) - 1] == ' ')
			bad_auth("\"key\" begins or ends with a space", kind);
	}
	if (strcmp(kind->name, "oauth2") == 0)
		check_oauth(auth, kind);
	if (strcmp(kind->name, "mtls") == 0)
		check_certificate(auth);
	return kind->name;
}

TimestampTz
dmshook_auth_expiry(Jsonb *auth)
{
	DmshookCertificate info;
	char		reason[200];
	const char *hint;

	if (!dmshook_auth_is(auth, "mtls") ||
		!dmshook_certificate_read(string_member(auth, "certificate"), string_member(auth, "key"), &info, reason, sizeof(reason), &hint))
		return DT_NOEND;
	return time_t_to_timestamptz((pg_time_t) info.not_after);
}

/* ------------------------------------------------------------------------
 * Files
 * ------------------------------------------------------------------------ */

static void
check_may_read(Oid role, const char *member)
{
	if (has_privs_of_role(role, ROLE_PG_READ_SERVER_FILES))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to read \"%s\" of auth", member),
			 errdetail("Only superusers and members of pg_read_server_files may have the server read a file."),
			 errhint("Pass the value itself (psql: \\getenv and a variable keep it out of files of commands), or have a superuser GRANT pg_read_server_files.")));
}

/* A file's content, without the line break at its end. */
static char *
read_file(const char *member, const char *path)
{
	FILE	   *file;
	struct stat st;
	char	   *text;
	size_t		len;

	if (!is_absolute_path(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" of auth is not an absolute path", member),
				 errhint("Name a file of the database server, such as /etc/dmshook/token.")));
	/* what is no file may never end, or block in open() */
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" of auth names no regular file: \"%s\"", member, path)));
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open the file \"%s\" that \"%s\" of auth names: %m", path, member),
				 errhint("It is read by the server's operating system user, on the database server, once: now.")));
	text = palloc(MAX_FILE + 2);
	len = fread(text, 1, MAX_FILE + 1, file);
	if (ferror(file))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", path)));
	FreeFile(file);
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	text[len] = '\0';
	if (len > MAX_FILE || memchr(text, '\0', len) != NULL || !pg_verifymbstr(text, (int) len, true))
	{
		explicit_bzero(text, MAX_FILE + 2);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("the file \"%s\" holds no text, or more than %d bytes", path, MAX_FILE)));
	}
	return text;
}

/* The member that a file is for; NULL: it names none. */
static const AuthMember *
file_member(const AuthKind *kind, const char *name)
{
	for (int i = 0; i < MAX_MEMBERS && kind->member[i].name != NULL; i++)
	{
		if (kind->member[i].file != NULL && strcmp(kind->member[i].file, name) == 0)
			return &kind->member[i];
	}
	return NULL;
}

Jsonb *
dmshook_auth_read_files(Jsonb *auth, Oid role)
{
	const AuthKind *kind = auth_kind(auth);
#if PG_VERSION_NUM >= 190000
	JsonbInState state = {0};
#else
	JsonbParseState *state = NULL;
#endif
	JsonbValue *result;
	JsonbIterator *it = JsonbIteratorInit(&auth->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	const AuthMember *member = NULL;
	char	   *name = NULL;
	int			nfiles = 0;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			name = pnstrdup(value.val.string.val, value.val.string.len);
			member = file_member(kind, name);
			if (member != NULL)
			{
				value.val.string.val = unconstify(char *, member->name);
				value.val.string.len = strlen(member->name);
			}
			pushJsonbValue(&state, WJB_KEY, &value);
		}
		else if (token == WJB_VALUE)
		{
			if (member != NULL)
			{
				if (string_member(auth, member->name) != NULL)
					bad_auth(psprintf("both \"%s\" and \"%s\"", member->name, name), kind);
				if (value.type != jbvString)
					bad_auth(psprintf("\"%s\" is not a string", name), kind);
				check_may_read(role, name);
				value.val.string.val = read_file(name, pnstrdup(value.val.string.val, value.val.string.len));
				value.val.string.len = strlen(value.val.string.val);
				nfiles++;
			}
			pushJsonbValue(&state, WJB_VALUE, &value);
		}
	}
	if (nfiles == 0)
		return auth;
#if PG_VERSION_NUM >= 190000
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	result = state.result;
#else
	result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
#endif
	return JsonbValueToJsonb(result);
}

/* ------------------------------------------------------------------------
 * What goes into a request
 * ------------------------------------------------------------------------ */

char *
dmshook_auth_basic(const char *user, const char *password)
{
	char	   *pair = psprintf("%s:%s", user, password);
	int			size = pg_b64_enc_len(strlen(pair)) + 1;
	char	   *encoded = palloc(size);
	int			len = pg_b64_encode((const void *) pair, strlen(pair), encoded, size - 1);
	char	   *result;

	if (len < 0)
		elog(ERROR, "could not encode credentials");
	encoded[len] = '\0';
	result = psprintf("Basic %s", encoded);
	explicit_bzero(pair, strlen(pair));
	explicit_bzero(encoded, len);
	return result;
}

char *
dmshook_auth_header_name(Jsonb *auth)
{
	const char *kind = auth_kind(auth)->name;

	if (strcmp(kind, "api_key") == 0)
		return string_member(auth, "header");
	if (strcmp(kind, "none") == 0 || strcmp(kind, "mtls") == 0)
		return NULL;
	return pstrdup("authorization");
}

char *
dmshook_auth_header(Jsonb *auth)
{
	const char *kind = auth_kind(auth)->name;

	if (strcmp(kind, "basic") == 0)
		return psprintf("authorization: %s", dmshook_auth_basic(dmshook_auth_member(auth, "username"), dmshook_auth_member(auth, "password")));
	if (strcmp(kind, "bearer") == 0)
		return psprintf("authorization: Bearer %s", dmshook_auth_member(auth, "token"));
	if (strcmp(kind, "api_key") == 0)
		return psprintf("%s: %s", string_member(auth, "header"), dmshook_auth_member(auth, "key"));
	return NULL;
}
