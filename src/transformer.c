/*
 * transformer.c - the helper process that calls the functions of webhooks with
 * a transform, and evaluates filters that take long.
 *
 * A background worker of one database, launched by its dispatcher (transform.c)
 * and gone when that goes. Each call is a transaction of its own: read only, rolled
 * back at its end, so that nothing of it (settings, locks) meets the next; as the role that set
 * the option, under SECURITY_RESTRICTED_OPERATION, with a search_path of pg_catalog, under the
 * call's time limit. An error is an answer. Memory: a context for each call.
 */
#include "postgres.h"

#include <signal.h>
#include <time.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "storage/shm_toc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "compat.h"
#include "transform.h"

extern PGDLLEXPORT void dmshook_transformer_main(Datum arg);

static volatile sig_atomic_t calling = false;

/* Between calls it ends by itself, without a word; a call is ended as a backend's would be. */
static void
transformer_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (calling)
#if PG_VERSION_NUM >= 190000
		die(postgres_signal_arg, pg_siginfo);
#else
		die(postgres_signal_arg);
#endif
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
pin_settings(void)
{
	static const char *const pinned[][2] = {
		{"application_name", "dmshook transformer"},
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "on"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"row_security", "on"},
		{"timezone", "UTC"},
		{"datestyle", "ISO, YMD"},
		{"intervalstyle", "iso_8601"},
		{"extra_float_digits", "1"},
		{"bytea_output", "hex"},
		{"standard_conforming_strings", "on"},
		{"max_parallel_workers_per_gather", "0"},
	};

	for (size_t i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

static int64
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* The function, if the role may call it and it has the right shape; it may have changed since the option was set. */
static Oid
find_function(const char *name, Oid role, Oid *result_type)
{
	Oid			function = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(name)));
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	Oid			owner;
	bool		definer;
	bool		fits;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s does not exist", name)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	*result_type = proc->prorettype;
	owner = proc->proowner;
	definer = proc->prosecdef;
	fits = proc->prokind == PROKIND_FUNCTION && !proc->proretset && proc->pronargs == 1 &&
		proc->proargtypes.values[0] == JSONBOID && (proc->prorettype == JSONBOID || proc->prorettype == TEXTOID);
	ReleaseSysCache(tuple);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s no longer takes jsonb and returns jsonb or text", name)));
	if (pg_proc_aclcheck(function, role, ACL_EXECUTE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not call function %s", GetUserNameFromId(role, false), name)));
	/* what its owner puts into it would be done as somebody else */
	if (!definer && !has_privs_of_role(owner, role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("function %s now belongs to role \"%s\", who could do as role \"%s\" with it",
						name, GetUserNameFromId(owner, false), GetUserNameFromId(role, false))));
	return function;
}

/* In a transaction; the body that the function makes, in UTF-8, in the context of the call. */
static char *
call_function(const char *name, const char *role_name, const char *body, int len, int *result_len)
{
	Oid			role = get_role_oid(role_name, false);
	char	   *own = pg_any_to_server(pnstrdup(body, len), len, PG_UTF8);
	Datum		payload = DirectFunctionCall1(jsonb_in, CStringGetDatum(own));
	Oid			result_type;
	Oid			function = find_function(name, role, &result_type);
	FmgrInfo	info;
	Datum		result;
	Oid			save_user;
	int			save_context;
	char	   *made;
	char	   *utf8;

	LOCAL_FCINFO(fcinfo, 1);

	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(role, save_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	fmgr_info(function, &info);
	InitFunctionCallInfoData(*fcinfo, &info, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = payload;
	fcinfo->args[0].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("function %s returned null", name)));
	if (result_type == JSONBOID)
	{
		Jsonb	   *json = DatumGetJsonbP(result);

		made = JsonbToCString(NULL, &json->root, VARSIZE(json));
	}
	else
		made = TextDatumGetCString(result);
	SetUserIdAndSecContext(save_user, save_context);
	utf8 = pg_server_to_any(made, strlen(made), PG_UTF8);
	*result_len = strlen(utf8);
	return utf8;
}

/* What a filter says of a payload; where it fails, what the second one does. */
static DmshookFilterVerdict
ask_filter(const DmshookTransformRequest *request, const char *filter, const char *second, const char *body, char **error, int *len)
{
	char	   *own = pg_any_to_server(pnstrdup(body, request->body_len), request->body_len, PG_UTF8);
	Jsonb	   *payload = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(own)));
	DmshookFilterVerdict verdict;
	bool		timed_out;

	verdict = dmshook_filter_evaluate(dmshook_filter_compile(filter), payload, 0, error, &timed_out);
	if (verdict == DMSHOOK_FILTER_ERROR && request->has_second)
	{
		*error = NULL;
		verdict = second[0] == '\0' ? DMSHOOK_FILTER_TRUE :
			dmshook_filter_evaluate(dmshook_filter_compile(second), payload, 0, error, &timed_out);
	}
	*len = *error ? (int) strlen(*error) : 0;
	return verdict;
}

/* One call: a transaction, rolled back whatever comes; the answer in buf. */
static void
answer(const DmshookTransformRequest *request, const char *data, StringInfo buf)
{
	MemoryContext context = CurrentMemoryContext;
	const char *function = data;
	const char *role = data + request->function_len;
	const char *body = role + request->role_len;
	int64		begun = now_us();
	volatile DmshookTransformStatus status = DMSHOOK_TRANSFORM_OK;
	volatile DmshookFilterVerdict verdict = DMSHOOK_FILTER_ERROR;
	DmshookTransformAnswer head = {0};

	resetStringInfo(buf);
	appendBinaryStringInfo(buf, (char *) &head, sizeof(head));
	calling = true;
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, function);
	PG_TRY();
	{
		char	   *result;
		int			len = 0;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		enable_timeout_after(STATEMENT_TIMEOUT, request->limit_ms);
		if (request->filter)
			verdict = ask_filter(request, function, role, body, &result, &len);
		else
			result = call_function(function, role, body, request->body_len, &len);
		disable_timeout(STATEMENT_TIMEOUT, false);
		if (verdict == DMSHOOK_FILTER_ERROR && request->filter)
			status = DMSHOOK_TRANSFORM_ERROR;
		if (result)
			appendBinaryStringInfo(buf, result, len);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		disable_timeout(STATEMENT_TIMEOUT, false);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		status = error->sqlerrcode == ERRCODE_QUERY_CANCELED ? DMSHOOK_TRANSFORM_TIMEOUT : DMSHOOK_TRANSFORM_ERROR;
		if (request->filter && status == DMSHOOK_TRANSFORM_TIMEOUT)
			appendStringInfo(buf, "it took longer than %d ms", request->limit_ms);
		else if (request->filter)
			appendStringInfoString(buf, error->message);
		else if (status == DMSHOOK_TRANSFORM_TIMEOUT)
			appendStringInfo(buf, "the transform %s took longer than %d ms", function, request->limit_ms);
		else
			appendStringInfo(buf, "the transform %s failed: %s", function, error->message);
	}
	PG_END_TRY();

	/* never committed: what it set, wrote or locked is gone */
	AbortCurrentTransaction();
	LockReleaseSession(USER_LOCKMETHOD);
	calling = false;
	QueryCancelPending = false;
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(false);

	head.status = status;
	head.verdict = verdict;
	head.len = buf->len - sizeof(head);
	head.duration_us = now_us() - begun;
	memcpy(buf->data, &head, sizeof(head));
}

/* The next request; false: the dispatcher is gone, or we are told to end. */
static bool
next_request(shm_mq_handle *requests, Size *size, void **data)
{
	for (;;)
	{
		shm_mq_result result = shm_mq_receive(requests, size, data, true);

		if (result == SHM_MQ_SUCCESS)
			return true;
		if (result == SHM_MQ_DETACHED || ShutdownRequestPending)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
dmshook_transformer_main(Datum arg)
{
	dsm_segment *segment;
	shm_toc    *toc;
	shm_mq	   *requests;
	shm_mq	   *answers;
	shm_mq_handle *in;
	shm_mq_handle *out;
	MemoryContext context;
	StringInfoData buf;
	Oid			database;
	Size		size;
	void	   *data;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(database));
	pqsignal(SIGTERM, transformer_sigterm);
	BackgroundWorkerUnblockSignals();

	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0);			/* the dispatcher has gone */
	dsm_pin_mapping(segment);
	toc = shm_toc_attach(DMSHOOK_TRANSFORM_MAGIC, dsm_segment_address(segment));
	if (toc == NULL)
		proc_exit(0);
	requests = shm_toc_lookup(toc, DMSHOOK_TRANSFORM_KEY_REQUESTS, false);
	answers = shm_toc_lookup(toc, DMSHOOK_TRANSFORM_KEY_ANSWERS, false);
	shm_mq_set_receiver(requests, MyProc);
	shm_mq_set_sender(answers, MyProc);
	in = shm_mq_attach(requests, segment, NULL);
	out = shm_mq_attach(answers, segment, NULL);

	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pin_settings();
	initStringInfo(&buf);
	context = AllocSetContextCreate(TopMemoryContext, "dmshook transform", ALLOCSET_DEFAULT_SIZES);

	while (next_request(in, &size, &data))
	{
		DmshookTransformRequest request;

		memcpy(&request, data, sizeof(request));
		MemoryContextSwitchTo(context);
		answer(&request, (char *) data + sizeof(request), &buf);
		if (shm_mq_send(out, buf.len + 1, buf.data, false, true) != SHM_MQ_SUCCESS)
			break;
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(context);
		if (buf.maxlen > 1024 * 1024)
		{
			pfree(buf.data);
			initStringInfo(&buf);
		}
	}
	proc_exit(0);
}
