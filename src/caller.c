/*
 * caller.c - who is it that calls? For functions that run as their owner
 * (SECURITY DEFINER) and must judge, or remember, who called them.
 *
 * Runs in backends, inside the caller's transaction; touches no table.
 *
 * Two answers. _caller() is for people to read: the role that the session has
 * taken (SET ROLE, else who logged in), whatever function of whomever called us.
 * What that role may do is no measure of what the call may do: a superuser
 * who runs ANALYZE runs the functions of other people's indexes, as these people, and
 * is _caller() all the while. So where a right is judged, or a role is kept to run
 * something later, it is the current role at the door: a function without
 * SECURITY DEFINER calls _note_caller(), and the one behind it takes the note, once, in the same
 * subtransaction. Nobody can note a role that is not at that moment his own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"

PGDLLEXPORT Datum dmshook_sql_caller(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum dmshook_sql_note_caller(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum dmshook_sql_noted_caller(PG_FUNCTION_ARGS);

/* The note: who, and the (sub)transaction in which it holds. */
static Oid	noted = InvalidOid;
static LocalTransactionId noted_in = InvalidLocalTransactionId;
static SubTransactionId noted_sub = InvalidSubTransactionId;

static LocalTransactionId
my_transaction(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* _caller(): name of the role that the session has taken. */
PG_FUNCTION_INFO_V1(dmshook_sql_caller);
Datum
dmshook_sql_caller(PG_FUNCTION_ARGS pg_attribute_unused())
{
	PG_RETURN_TEXT_P(cstring_to_text(GetUserNameFromId(GetOuterUserId(), false)));
}

/* _note_caller(): to be called by a function that runs as its caller. */
PG_FUNCTION_INFO_V1(dmshook_sql_note_caller);
Datum
dmshook_sql_note_caller(PG_FUNCTION_ARGS pg_attribute_unused())
{
	noted = GetUserId();
	noted_in = my_transaction();
	noted_sub = GetCurrentSubTransactionId();
	PG_RETURN_VOID();
}

/* _noted_caller(): the role that was noted; the note is gone then. */
PG_FUNCTION_INFO_V1(dmshook_sql_noted_caller);
Datum
dmshook_sql_noted_caller(PG_FUNCTION_ARGS pg_attribute_unused())
{
	Oid			result = noted;

	noted = InvalidOid;
	if (!OidIsValid(result) || noted_in != my_transaction() || noted_sub != GetCurrentSubTransactionId())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("this function of dmshook is not to be called by itself"),
				 errhint("Call the function of the same name without the underscore.")));
	PG_RETURN_TEXT_P(cstring_to_text(GetUserNameFromId(result, false)));
}
