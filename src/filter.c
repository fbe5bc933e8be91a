/*
 * filter.c - a webhook's filter: a jsonpath over the payload, as PostgreSQL has it.
 *
 * Runs in the dispatcher, while a row is being read and inside its transaction,
 * and in backends that check a filter or look at views. A predicate ($.data.record.price > 10000) holds when
 * it is true; a path with ? (...) holds when it finds something. Whatever goes
 * wrong in an evaluation is caught here, in a subtransaction: one webhook's filter
 * stops nobody. Memory is the caller's current context.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timeout.h"

#include "filter.h"
#include "payload.h"

PGDLLEXPORT Datum dmshook_sql_check_filter(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(dmshook_sql_check_filter);
PGDLLEXPORT Datum dmshook_sql_filter_holds(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(dmshook_sql_filter_holds);
PGDLLEXPORT Datum dmshook_sql_filter_verdict(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(dmshook_sql_filter_verdict);

#define FILTER_HINT \
	"Write a predicate, such as $.data.record.price > 10000, or a path with a condition, such as $.data.record ? (@.price > 10000 && @.status == \"sold\")."

/* Is the path a predicate, whose one item is true, false or null? */
static bool
is_predicate(JsonPath *path)
{
	JsonPathItem item;

	jspInit(&item, path);
	if (jspHasNext(&item))
		return false;
	switch (item.type)
	{
		case jpiAnd:
		case jpiOr:
		case jpiNot:
		case jpiIsUnknown:
		case jpiEqual:
		case jpiNotEqual:
		case jpiLess:
		case jpiGreater:
		case jpiLessOrEqual:
		case jpiGreaterOrEqual:
		case jpiExists:
		case jpiStartsWith:
		case jpiLikeRegex:
			return true;
		default:
			return false;
	}
}

static bool
has_condition(JsonPath *path)
{
	JsonPathItem item;
	JsonPathItem next;

	jspInit(&item, path);
	for (;;)
	{
		if (item.type == jpiFilter)
			return true;
		if (!jspGetNext(&item, &next))
			return false;
		item = next;
	}
}

JsonPath *
dmshook_filter_compile(const char *text)
{
	MemoryContext context = CurrentMemoryContext;
	JsonPath   *path = NULL;

	PG_TRY();
	{
		path = DatumGetJsonPathP(DirectFunctionCall1(jsonpath_in, CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* only said in our words: the caller's transaction ends as it would have */
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(ERROR,
				(errcode(error->sqlerrcode),
				 errmsg("invalid filter: %s", error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 errhint(FILTER_HINT)));
	}
	PG_END_TRY();

	/* $.data.record.sold would hold for any record that has a "sold", be it false */
	if (!is_predicate(path) && !has_condition(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid filter: \"%s\" has no condition", text),
				 errhint(FILTER_HINT)));
	return path;
}

/* An error was caught: out of the subtransaction; its message in a context, and of what it was made. */
static char *
leave_failed(MemoryContext context, ResourceOwner owner, int *code, const char **format)
{
	ErrorData  *error;
	char	   *message;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	*code = error->sqlerrcode;
	*format = error->message_id;
	message = pstrdup(error->message);
	FreeErrorData(error);
	return message;
}

/*
 * What an error says without the value that it was about: from 13 on some quote one ("datetime format is not
 * recognized: ..."), from 17 on most do. What the filter itself has, a key or a literal, may be said. format is the
 * message's own, in English: where it was translated, and may quote in other ways, that is shown with no value at all.
 */
static char *
without_values(char *message, const char *format, JsonPath *path)
{
	char	   *first = strchr(message, '"');
	char	   *last = strrchr(message, '"');
	StringInfoData buf;

	if (format != NULL && strchr(format, '%') == NULL)
		return message;
	if (format != NULL && strncmp(message, format, strcspn(format, "%")) == 0)
	{
		char	   *own = DatumGetCString(DirectFunctionCall1(jsonpath_out, PointerGetDatum(path)));

		if (first == NULL || strstr(own, pnstrdup(first, last - first + 1)) != NULL)
			return message;
		return psprintf("%.*s\"...\"%s", (int) (first - message), message, last + 1);
	}
	initStringInfo(&buf);
	for (const char *c = format ? format : "the jsonpath cannot be evaluated"; *c; c++)
	{
		if (*c != '%')
			appendStringInfoChar(&buf, *c);
		else
		{
			appendStringInfoString(&buf, "...");
			while (c[1] != '\0' && strchr("-0123456789.lz", c[1]) != NULL)
				c++;
			if (c[1] != '\0')
				c++;
		}
	}
	return buf.data;
}

Jsonb *
dmshook_filter_payload(const DmshookEvent *event, char **problem)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Jsonb	   *volatile result = NULL;
	const char *format;
	int			code;

	*problem = NULL;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		StringInfoData buf;

		initStringInfo(&buf);
		dmshook_payload_append_server(&buf, event, false);
		result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data)));
		pfree(buf.data);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		char	   *message = leave_failed(context, owner, &code, &format);

		*problem = psprintf("the payload cannot be read as jsonb: %s", message);
	}
	PG_END_TRY();
	return result;
}

static DmshookFilterVerdict
call(JsonPath *path, Jsonb *payload)
{
	static Jsonb *no_variables = NULL;
	bool		predicate = is_predicate(path);
	Datum		result;

	LOCAL_FCINFO(fcinfo, 4);

	if (no_variables == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		no_variables = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
		MemoryContextSwitchTo(old);
	}
	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(payload);
	fcinfo->args[1].value = PointerGetDatum(path);
	fcinfo->args[2].value = JsonbPGetDatum(no_variables);
	fcinfo->args[3].value = BoolGetDatum(false);	/* errors are told, not swallowed */
	for (int i = 0; i < 4; i++)
		fcinfo->args[i].isnull = false;
	result = predicate ? jsonb_path_match(fcinfo) : jsonb_path_exists(fcinfo);
	if (fcinfo->isnull)
		return DMSHOOK_FILTER_UNKNOWN;
	return DatumGetBool(result) ? DMSHOOK_FILTER_TRUE : DMSHOOK_FILTER_FALSE;
}

static void
start_clock(int limit_ms)
{
	if (limit_ms > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, limit_ms);
}

/* A cancel that came too late to cancel anything is forgotten, unless we are told to end. */
static void
stop_clock(int limit_ms)
{
	if (limit_ms <= 0)
		return;
	disable_timeout(STATEMENT_TIMEOUT, false);
	if (!ShutdownRequestPending)
		QueryCancelPending = false;
}

DmshookFilterVerdict
dmshook_filter_evaluate(JsonPath *path, Jsonb *payload, int limit_ms, char **error, bool *timed_out)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile DmshookFilterVerdict verdict = DMSHOOK_FILTER_ERROR;
	const char *format;
	int			code;

	*error = NULL;
	*timed_out = false;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		start_clock(limit_ms);
		verdict = call(path, payload);
		stop_clock(limit_ms);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		stop_clock(limit_ms);
		*error = leave_failed(context, owner, &code, &format);
		*error = without_values(*error, format, path);
		verdict = DMSHOOK_FILTER_ERROR;
		if (code == ERRCODE_QUERY_CANCELED && limit_ms > 0)
		{
			*timed_out = true;
			*error = psprintf("it took longer than %d ms", limit_ms);
		}
		else if (code == ERRCODE_QUERY_CANCELED)
		{
			/* the user's own: a cancel, or statement_timeout */
			ereport(ERROR, (errcode(code), errmsg("%s", *error)));
		}
	}
	PG_END_TRY();
	return verdict;
}

/* ---------------------------------------------------------------------- SQL */

/* The last path that a call site compiled: a query asks for the same again and again. */
typedef struct Compiled
{
	char	   *text;
	JsonPath   *path;
	MemoryContext context;
} Compiled;

static JsonPath *
compiled(FunctionCallInfo fcinfo, text *filter)
{
	Compiled   *last = fcinfo->flinfo->fn_extra;
	char	   *text = text_to_cstring(filter);
	MemoryContext old;

	if (last && last->path && strcmp(last->text, text) == 0)
		return last->path;
	if (last == NULL)
	{
		last = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Compiled));
		last->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "dmshook filter", ALLOCSET_SMALL_SIZES);
		fcinfo->flinfo->fn_extra = last;
	}
	last->path = NULL;
	MemoryContextReset(last->context);
	old = MemoryContextSwitchTo(last->context);
	last->text = pstrdup(text);
	last->path = dmshook_filter_compile(text);
	MemoryContextSwitchTo(old);
	return last->path;
}

static DmshookFilterVerdict
verdict_of(FunctionCallInfo fcinfo, char **error)
{
	JsonPath   *path = compiled(fcinfo, PG_GETARG_TEXT_PP(0));
	DmshookEvent event;
	Jsonb	   *payload;
	bool		timed_out;

	if (!dmshook_event_from_argument(PG_GETARG_HEAPTUPLEHEADER(1), &event))
		return DMSHOOK_FILTER_UNKNOWN;
	payload = dmshook_filter_payload(&event, error);
	if (payload == NULL)
		return DMSHOOK_FILTER_ERROR;
	return dmshook_filter_evaluate(path, payload, 0, error, &timed_out);
}

/* dmshook._check_filter(filter): an error with a hint, or nothing. */
Datum
dmshook_sql_check_filter(PG_FUNCTION_ARGS)
{
	(void) dmshook_filter_compile(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/* dmshook._filter_holds(filter, event): is there a delivery? As the dispatcher has it: also where the filter fails. */
Datum
dmshook_sql_filter_holds(PG_FUNCTION_ARGS)
{
	char	   *error;
	DmshookFilterVerdict verdict = verdict_of(fcinfo, &error);

	PG_RETURN_BOOL(verdict == DMSHOOK_FILTER_TRUE || verdict == DMSHOOK_FILTER_ERROR);
}

/* dmshook._filter_verdict(filter, event): (verdict 'true' | 'false' | 'unknown' | 'error', error). */
Datum
dmshook_sql_filter_verdict(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {
		[DMSHOOK_FILTER_TRUE] = "true",
		[DMSHOOK_FILTER_FALSE] = "false",
		[DMSHOOK_FILTER_UNKNOWN] = "unknown",
		[DMSHOOK_FILTER_ERROR] = "error",
	};
	char	   *error = NULL;
	DmshookFilterVerdict verdict = verdict_of(fcinfo, &error);
	TupleDesc	tupdesc;
	Datum		values[2] = {CStringGetTextDatum(names[verdict]), (Datum) 0};
	bool		nulls[2] = {false, error == NULL};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (error)
		values[1] = CStringGetTextDatum(error);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
