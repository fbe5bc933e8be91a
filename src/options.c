/*
 * options.c - Reading what an admin typed: a webhook's options and
 * its headers (auth.c: its authentication).
 *
 * Runs in backends, when a webhook is created or altered, and in the
 * dispatcher, when it loads a webhook (then everything was checked before, and an
 * error means that somebody wrote to the tables by hand).  No access to
 * tables, no transaction needed beyond what ereport() needs.  Results live in
 * the caller's memory context.  A header's value is never part
 * of an error message here.
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/numeric.h"

#include "authority.h"
#include "compat.h"
#include "guard.h"
#include "header.h"
#include "mailtext.h"
#include "match.h"
#include "options.h"
#include "shape.h"

#define MS_PER_SECOND	INT64CONST(1000)
#define MS_PER_DAY		(86400 * MS_PER_SECOND)

#define MAX_TIMEOUT		(3600 * MS_PER_SECOND)
#define MAX_DELAY		(30 * MS_PER_DAY)
#define MAX_HEADERS		50

typedef void (*OptionReader) (const char *name, const JsonbValue *value, DmshookOptions *out);

typedef struct Option
{
	const char *name;
	OptionReader read;
} Option;

typedef void (*MemberCallback) (const char *name, const JsonbValue *value, void *arg);

static void bad_option(const char *name, const char *wanted) pg_attribute_noreturn();
static void unknown_option(const char *name) pg_attribute_noreturn();
static void each_member(Jsonb *object, MemberCallback callback, void *arg);
static void each_member_of(JsonbContainer *container, MemberCallback callback, void *arg);
static void read_timeout(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_connect_timeout(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_max_attempts(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_backoff(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_max_in_flight(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_ordering(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_signature(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_signature_header(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_format(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_numbers(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_transform(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_http_version(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_ca_certificate(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_allowed_addresses(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_success(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_no_retry(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_breaker(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_rate_limit(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_disable_after(const char *name, const JsonbValue *value, DmshookOptions *out);
static void read_alert_to(const char *name, const JsonbValue *value, DmshookOptions *out);

/* Those of this version, in the order of the documentation. */
static const Option known_options[] = {
	{"timeout", read_timeout},
	{"connect_timeout", read_connect_timeout},
	{"max_attempts", read_max_attempts},
	{"backoff", read_backoff},
	{"breaker", read_breaker},
	{"rate_limit", read_rate_limit},
	{"max_in_flight", read_max_in_flight},
	{"ordering", read_ordering},
	{"signature", read_signature},
	{"signature_header", read_signature_header},
	{"format", read_format},
	{"numbers", read_numbers},
	{"transform", read_transform},
	{"http_version", read_http_version},
	{"ca_certificate", read_ca_certificate},
	{"allowed_addresses", read_allowed_addresses},
	{"success", read_success},
	{"no_retry", read_no_retry},
	{"disable_after", read_disable_after},
	{"alert_to", read_alert_to},
};

/* Documented for later versions: refused, never accepted and ignored. */
static const char *const later_options[] = {
	"retention",
};

/* ------------------------------------------------------------------------
 * JSON
 * ------------------------------------------------------------------------ */

/* Call back for each member of an object, whose names are zero-terminated copies. */
static void
each_member(Jsonb *object, MemberCallback callback, void *arg)
{
	each_member_of(&object->root, callback, arg);
}

static void
each_member_of(JsonbContainer *container, MemberCallback callback, void *arg)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
		{
			callback(name, &value, arg);
			pfree(name);
		}
	}
}

static bool
is_object(Jsonb *jsonb)
{
	return JB_ROOT_IS_OBJECT(jsonb);
}

/* ------------------------------------------------------------------------
 * Values of options
 * ------------------------------------------------------------------------ */

static void
bad_option(const char *name, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for webhook option \"%s\"", name),
			 errhint("It must be %s.", wanted)));
}

static char *
option_string(const char *name, const JsonbValue *value, const char *wanted)
{
	if (value->type != jbvString)
		bad_option(name, wanted);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static double
option_number(const char *name, const JsonbValue *value, double min, double max, const char *wanted)
{
	double		number;

	if (value->type != jbvNumeric)
		bad_option(name, wanted);
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												NumericGetDatum(value->val.numeric)));
	if (isnan(number) || number < min || number > max)
		bad_option(name, wanted);
	return number;
}

static int
option_int(const char *name, const JsonbValue *value, int min, int max, const char *wanted)
{
	double		number = option_number(name, value, min, max, wanted);

	if (number != floor(number))
		bad_option(name, wanted);
	return (int) number;
}

/* '30 days', '30d', '15s', 'PT15S' in milliseconds; false: malformed. A month has 30 days. */
static bool
parse_interval(const char *text, int64 *ms)
{
	char		workbuf[256];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			nf;
	int			dtype;
	struct pg_itm_in itm;
	double		days;
	double		result;
	int			err;

	memset(&itm, 0, sizeof(itm));
	err = ParseDateTime(text, workbuf, sizeof(workbuf), field, ftype, MAXDATEFIELDS, &nf);
	if (err == 0)
		err = DecodeInterval(field, ftype, nf, INTERVAL_FULL_RANGE, &dtype, &itm);
	if (err == DTERR_BAD_FORMAT)
	{
		char	   *copy = pstrdup(text);

		err = DecodeISO8601Interval(copy, &dtype, &itm);
		pfree(copy);
	}
	if (err != 0 || dtype != DTK_DELTA)
		return false;

	days = (double) itm.tm_year * 360 + (double) itm.tm_mon * 30 + itm.tm_mday;
	result = days * MS_PER_DAY + (double) itm.tm_usec / 1000;
	if (fabs(result) > (double) PG_INT64_MAX / 2)
		return false;
	*ms = (int64) result;
	return true;
}

static int64
option_interval(const char *name, const JsonbValue *value, int64 min, int64 max, const char *wanted)
{
	char	   *text = option_string(name, value, wanted);
	int64		ms;

	if (!parse_interval(text, &ms) || ms < min || ms > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for webhook option \"%s\": \"%s\"", name, text),
				 errhint("It must be %s.", wanted)));
	pfree(text);
	return ms;
}

/* ------------------------------------------------------------------------
 * The options
 * ------------------------------------------------------------------------ */

#define WANTED_TIMEOUT	"an interval from 1 ms to 1 hour, such as \"15s\""
#define WANTED_DELAY	"an interval from 1 ms to 30 days, such as \"5s\" or \"12 hours\""

static void
read_timeout(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	out->timeout = (int) option_interval(name, value, 1, MAX_TIMEOUT, WANTED_TIMEOUT);
}

static void
read_connect_timeout(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	out->connect_timeout = (int) option_interval(name, value, 1, MAX_TIMEOUT, WANTED_TIMEOUT);
}

static void
read_max_attempts(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	out->plan.max_attempts = option_int(name, value, 1, 1000, "a whole number from 1 (never again) to 1000");
}

static void
read_max_in_flight(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	out->max_in_flight = option_int(name, value, 1, 10000, "a whole number from 1 to 10000");
}

static void
read_ordering(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	const char *wanted = "\"none\", or \"entity\" to send the events of one vehicle, deal, job or customer one at a time and in order";
	char	   *text = option_string(name, value, wanted);

	if (strcmp(text, "entity") != 0 && strcmp(text, "none") != 0)
		bad_option(name, wanted);
	out->ordered = strcmp(text, "entity") == 0;
}

#define WANTED_SIGNATURE \
	"\"standard\" (Standard Webhooks, v1), \"standard-ed25519\" (v1a, with a key pair), \"github\" (X-Hub-Signature-256), or a list of these, each once"

/* One or several. */
static void
read_signature(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	static const struct
	{
		const char *name;
		int			flag;
	}			schemes[] = {
		{"standard", DMSHOOK_SIGNATURE_STANDARD},
		{"standard-ed25519", DMSHOOK_SIGNATURE_ED25519},
		{"github", DMSHOOK_SIGNATURE_GITHUB}
	};
	JsonbContainer *array = NULL;
	int			n = 1;

	if (value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data))
	{
		array = value->val.binary.data;
		n = JsonContainerSize(array);
	}
	out->signature = 0;
	for (int i = 0; i < n; i++)
	{
		char	   *text = option_string(name, array ? getIthJsonbValueFromContainer(array, i) : value, WANTED_SIGNATURE);
		int			flag = 0;

		for (int k = 0; k < (int) lengthof(schemes); k++)
		{
			if (strcmp(text, schemes[k].name) == 0)
				flag = schemes[k].flag;
		}
		if (flag == 0 || (out->signature & flag))
			bad_option(name, WANTED_SIGNATURE);
		out->signature |= flag;
	}
	if (out->signature == 0)
		bad_option(name, WANTED_SIGNATURE);
}

/* A name as that of any custom header, and not that of a signature already. */
static void
read_signature_header(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	char	   *text = option_string(name, value, "the name of a header, such as \"X-Signature\"");

	dmshook_header_name_check(text);
	if (pg_strcasecmp(text, "x-hub-signature-256") == 0)
		bad_option(name, "another name: X-Hub-Signature-256 is sent where \"signature\" has \"github\"");
	out->signature_header = text;
}

static void
read_format(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	const char *wanted = "\"dmshook\" or \"cloudevents\" (CloudEvents 1.0, structured JSON)";
	char	   *text = option_string(name, value, wanted);

	if (strcmp(text, "cloudevents") == 0)
		out->shape |= DMSHOOK_SHAPE_CLOUDEVENTS;
	else if (strcmp(text, "dmshook") != 0)
		bad_option(name, wanted);
}

static void
read_numbers(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	const char *wanted = "\"json\", or \"string\" to send as strings what a receiver may round: numbers with a fraction or exponent, and integers beyond 2^53 - 1";
	char	   *text = option_string(name, value, wanted);

	if (strcmp(text, "string") == 0)
		out->shape |= DMSHOOK_SHAPE_STRINGS;
	else if (strcmp(text, "json") != 0)
		bad_option(name, wanted);
}

/* Whether there is such a function is looked at in SQL (_check_transform), and by the process that calls it. */
static void
read_transform(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	const char *wanted = "the name of a function with its schema, such as \"public.for_accounting\"; it takes the payload as jsonb and returns the body as jsonb or text";

	out->transform = option_string(name, value, wanted);
	if (out->transform[0] == '\0' || strlen(out->transform) > 300)
		bad_option(name, wanted);
}

static void
read_http_version(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	const char *wanted = "\"1.1\" or \"2\"";
	char	   *text = option_string(name, value, wanted);

	if (strcmp(text, "1.1") == 0)
		out->http_version = 11;
	else if (strcmp(text, "2") == 0)
		out->http_version = 20;
	else
		bad_option(name, wanted);
}

static void
read_ca_certificate(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	const char *wanted = "one or more certificates in PEM format, from \"-----BEGIN CERTIFICATE-----\" to \"-----END CERTIFICATE-----\", and no key";
	char	   *text = option_string(name, value, wanted);
	const char *problem;
	int64_t		expires;

	if (!dmshook_authority_read(text, &expires, &problem))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for webhook option \"%s\": %s", name, problem),
				 errhint("It must be %s.", wanted)));
	out->ca_certificate = text;
}

/* A list, or as one string like the settings. Never empty: that would be the same as a webhook that may go nowhere. */
static void
read_allowed_addresses(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	const char *wanted = "a list of 1 to 100 networks or addresses, such as [\"203.0.114.0/24\", \"2a00:1450::/32\"], without bits to the right of the mask";
	StringInfoData buf;
	char		bad[64];

	initStringInfo(&buf);
	if (value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data) && !JsonContainerIsScalar(value->val.binary.data))
	{
		JsonbContainer *array = value->val.binary.data;
		int			n = JsonContainerSize(array);

		if (n > 100)
			bad_option(name, wanted);
		for (int i = 0; i < n; i++)
		{
			char	   *entry = option_string(name, getIthJsonbValueFromContainer(array, i), wanted);

			if (strchr(entry, ',') != NULL)
				bad_option(name, wanted);
			appendStringInfo(&buf, "%s%s", i > 0 ? "," : "", entry);
		}
	}
	else
		appendStringInfoString(&buf, option_string(name, value, wanted));
	if (strspn(buf.data, " \t\r\n") == (size_t) buf.len || buf.len > 6400)
		bad_option(name, wanted);
	if (!dmshook_guard_check_networks(buf.data, bad, sizeof(bad)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for webhook option \"%s\": \"%s\"", name, bad),
				 errhint("It must be %s.", wanted)));
	out->allowed_addresses = buf.data;
}

static void
read_status_list(const char *name, const JsonbValue *value, DmshookStatusList *list)
{
	const char *wanted = "a list of status codes from 100 to 599, such as \"200-299\" or \"400,404,410-499\"";
	char	   *text = option_string(name, value, wanted);
	size_t		fault;

	if (!dmshook_status_list_parse(text, list, &fault))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for webhook option \"%s\": \"%s\", at character %d", name, text, (int) fault + 1),
				 errhint("It must be %s.", wanted)));
}

static void
read_success(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	read_status_list(name, value, &out->plan.success);
	if (out->plan.success.n == 0)
		bad_option(name, "a list with at least one status code, such as \"200-299\"");
}

static void
read_no_retry(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	read_status_list(name, value, &out->plan.no_retry);
}

#define WANTED_BACKOFF \
	"{\"initial\": \"5s\", \"factor\": 4, \"max\": \"12h\", \"jitter\": 0.2} or {\"intervals\": [\"5s\", \"5m\", \"30m\", \"2h\"], \"jitter\": 0.2}"

static void
read_intervals(const JsonbValue *value, DmshookPlan *plan)
{
	JsonbContainer *array;
	int			n;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data) ||
		JsonContainerIsScalar(value->val.binary.data))
		bad_option("backoff", WANTED_BACKOFF);
	array = value->val.binary.data;
	n = JsonContainerSize(array);
	if (n < 1 || n > DMSHOOK_MAX_INTERVALS)
		bad_option("backoff", psprintf("a list of 1 to %d intervals", DMSHOOK_MAX_INTERVALS));
	for (int i = 0; i < n; i++)
		plan->interval[i] = option_interval("backoff", getIthJsonbValueFromContainer(array, i),
											1, MAX_DELAY, WANTED_DELAY);
	plan->n_intervals = n;
}

typedef struct Backoff
{
	DmshookPlan *plan;
	bool		exponential;	/* a member of the one form was there */
	bool		list;			/* or of the other */
} Backoff;

static void
read_backoff_member(const char *name, const JsonbValue *value, void *arg)
{
	Backoff    *backoff = arg;
	DmshookPlan *plan = backoff->plan;

	if (value->type == jbvNull)
		return;
	if (strcmp(name, "initial") == 0)
	{
		plan->initial = option_interval("backoff.initial", value, 1, MAX_DELAY, WANTED_DELAY);
		backoff->exponential = true;
	}
	else if (strcmp(name, "max") == 0)
	{
		plan->max = option_interval("backoff.max", value, 1, MAX_DELAY, WANTED_DELAY);
		backoff->exponential = true;
	}
	else if (strcmp(name, "factor") == 0)
	{
		plan->factor = option_number("backoff.factor", value, 1, 1000, "a number from 1 to 1000");
		backoff->exponential = true;
	}
	else if (strcmp(name, "jitter") == 0)
		plan->jitter = option_number("backoff.jitter", value, 0, 1, "a number from 0 to 1");
	else if (strcmp(name, "intervals") == 0)
	{
		read_intervals(value, plan);
		backoff->list = true;
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown member \"%s\" of webhook option \"backoff\"", name),
				 errhint("It must be %s.", WANTED_BACKOFF)));
}

static void
read_backoff(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	Backoff		backoff = {.plan = &out->plan};

	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		bad_option(name, WANTED_BACKOFF);
	each_member_of(value->val.binary.data, read_backoff_member, &backoff);
	if (backoff.exponential && backoff.list)
		bad_option(name, WANTED_BACKOFF);
	if (!backoff.list && out->plan.max < out->plan.initial)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("webhook option \"backoff\": \"max\" is shorter than \"initial\"")));
}

#define WANTED_BREAKER \
	"{\"failures\": 20, \"deliveries\": 5, \"probe\": {\"initial\": \"30s\", \"max\": \"15m\"}}, or null for none"

static void
read_probe_member(const char *name, const JsonbValue *value, void *arg)
{
	DmshookPolicy *policy = arg;

	if (value->type == jbvNull)
		return;
	if (strcmp(name, "initial") == 0)
		policy->probe_initial = option_interval("breaker.probe.initial", value, 1, MAX_DELAY, WANTED_DELAY);
	else if (strcmp(name, "max") == 0)
		policy->probe_max = option_interval("breaker.probe.max", value, 1, MAX_DELAY, WANTED_DELAY);
	else
		bad_option("breaker", WANTED_BREAKER);
}

static void
read_breaker_member(const char *name, const JsonbValue *value, void *arg)
{
	DmshookPolicy *policy = arg;

	if (value->type == jbvNull)
		return;
	if (strcmp(name, "failures") == 0)
		policy->breaker_failures = option_int("breaker.failures", value, 1, 1000000, "a whole number from 1 to 1000000");
	else if (strcmp(name, "deliveries") == 0)
		policy->breaker_deliveries = option_int("breaker.deliveries", value, 1, DMSHOOK_BREAKER_DELIVERIES,
												psprintf("a whole number from 1 to %d", DMSHOOK_BREAKER_DELIVERIES));
	else if (strcmp(name, "probe") == 0 && value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
		each_member_of(value->val.binary.data, read_probe_member, policy);
	else
		bad_option("breaker", WANTED_BREAKER);
}

/* JSON null is a value of this one: no breaker. {} is the default. */
static void
read_breaker(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	if (value->type == jbvNull)
	{
		out->policy.breaker = false;
		return;
	}
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		bad_option(name, WANTED_BREAKER);
	each_member_of(value->val.binary.data, read_breaker_member, &out->policy);
	if (out->policy.probe_max < out->policy.probe_initial)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("webhook option \"breaker\": \"probe.max\" is shorter than \"probe.initial\"")));
}

static void
read_rate_limit(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	out->policy.rate_limit = option_number(name, value, 0.001, 1000000, "a number of requests per second, from 0.001 to 1000000");
}

static void
read_disable_after(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	out->policy.disable_after = option_interval(name, value, 1000, 3650 * MS_PER_DAY,
												"an interval from 1 second to 10 years, such as \"5 days\"");
}

static void
read_alert_to(const char *name, const JsonbValue *value, DmshookOptions *out)
{
	const char *wanted = "up to 20 e-mail addresses, separated by commas, such as \"integrations@example.com\"; \"\" for no mail";
	char	   *text = option_string(name, value, wanted);

	if (dmshook_mail_addresses(text, NULL) != NULL)
		bad_option(name, wanted);
	out->alert_to = text;
}

/* The list that an error shows. */
static char *
option_names(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < (int) lengthof(known_options); i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", known_options[i].name);
	return buf.data;
}

static void
unknown_option(const char *name)
{
	const char *nearest = NULL;
	int			best = 3;

	for (int i = 0; i < (int) lengthof(later_options); i++)
	{
		if (strcmp(name, later_options[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("webhook option \"%s\" is not supported in this version", name),
					 errhint("There are: %s.", option_names())));
	}
	for (int i = 0; i < (int) lengthof(known_options); i++)
	{
		int			distance = dmshook_edit_distance(name, strlen(name), known_options[i].name,
													 strlen(known_options[i].name), best);

		if (distance < best)
		{
			best = distance;
			nearest = known_options[i].name;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown webhook option \"%s\"", name),
			 nearest != NULL ?
			 errhint("Did you mean \"%s\"? There are: %s.", nearest, option_names()) :
			 errhint("There are: %s.", option_names())));
}

static void
read_option(const char *name, const JsonbValue *value, void *arg)
{
	for (int i = 0; i < (int) lengthof(known_options); i++)
	{
		if (strcmp(name, known_options[i].name) == 0)
		{
			/* null is the default, but for breaker: none */
			if (value->type != jbvNull || strcmp(name, "breaker") == 0)
				known_options[i].read(name, value, arg);
			return;
		}
	}
	unknown_option(name);
}

void
dmshook_options_parse(Jsonb *options, DmshookOptions *out)
{
	JsonbValue	buf;
	JsonbValue *max_attempts;

	memset(out, 0, sizeof(*out));
	out->timeout = 15000;
	out->connect_timeout = 5000;
	out->max_in_flight = 32;
	out->http_version = 11;
	out->signature = DMSHOOK_SIGNATURE_STANDARD;
	dmshook_plan_default(&out->plan);
	dmshook_policy_default(&out->policy);

	if (options == NULL)
		return;
	if (!is_object(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("webhook options are not a JSON object"),
				 errhint("Write them as {\"timeout\": \"15s\", ...}. There are: %s.", option_names())));
	each_member(options, read_option, out);
	out->policy.max_in_flight = out->max_in_flight;

	/* A list of four intervals asks for five attempts, unless it is said otherwise. */
	max_attempts = getKeyJsonValueFromContainer(&options->root, "max_attempts", strlen("max_attempts"), &buf);
	if (out->plan.n_intervals > 0 && (max_attempts == NULL || max_attempts->type == jbvNull))
		out->plan.max_attempts = out->plan.n_intervals + 1;
}

/* ------------------------------------------------------------------------
 * Headers
 * ------------------------------------------------------------------------ */

void
dmshook_header_name_check(const char *name)
{
	const char *prefix;

	switch (dmshook_header_name_fault(name, &prefix))
	{
		case DMSHOOK_HEADER_FINE:
			return;
		case DMSHOOK_HEADER_NO_NAME:
			/* Not shown when it is no token: it may be a whole "Name: secret" line. */
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid header name"),
					 errhint("Names have letters, digits and -_.!#$%%&'*+^`|~ only, at most %d of them; write headers as {\"X-Name\": \"value\"}.",
							 DMSHOOK_HEADER_MAX_NAME)));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("header \"%s\" is set by dmshook or by HTTP itself", name),
					 prefix == NULL ? errhint("Leave it out.") :
					 errhint("Names that begin with \"%s\" are dmshook's own: choose another.", prefix)));
	}
}

typedef struct HeaderNames
{
	char	   *seen[MAX_HEADERS];
	int			n;
} HeaderNames;

static void
check_header(const char *name, const JsonbValue *value, void *arg)
{
	HeaderNames *names = arg;
	dmshook_header_name_check(name);
	for (int i = 0; i < names->n; i++)
	{
		if (dmshook_header_same(names->seen[i], name))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("header \"%s\" is given twice", name),
					 errhint("Names of headers are the same in upper and lower case.")));
	}
	if (names->n == MAX_HEADERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("more than %d headers", MAX_HEADERS)));
	names->seen[names->n++] = pstrdup(name);

	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the value of header \"%s\" is not a string", name),
				 errhint("Write headers as {\"X-Name\": \"value\"}.")));
	switch (dmshook_header_value_fault(value->val.string.val, value->val.string.len))
	{
		case DMSHOOK_HEADER_FINE:
			return;
		case DMSHOOK_HEADER_CONTROL:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the value of header \"%s\" has a line break or another control character", name),
					 errhint("A header's value is one line of visible characters.")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the value of header \"%s\" is empty, longer than %d bytes, or begins or ends with a space",
							name, DMSHOOK_HEADER_MAX_VALUE)));
	}
}

void
dmshook_headers_check(Jsonb *headers)
{
	HeaderNames names = {.n = 0};

	if (!is_object(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers are not a JSON object"),
				 errhint("Write headers as {\"X-Name\": \"value\"}.")));
	each_member(headers, check_header, &names);
}
