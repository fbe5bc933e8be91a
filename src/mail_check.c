/*
 * mail_check.c - what dmshook.check() asks of mail: can the password file be used, and since when has
 * no mail gone out?
 *
 * Runs in backends, which read files as the server's user, as the dispatcher does. What the dispatcher
 * knows of its last mail is in shared memory. No error message holds the password.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "mail.h"
#include "slot.h"
#include "wake.h"

PGDLLEXPORT Datum dmshook_sql_mail_state(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(dmshook_sql_mail_state);

/* _mail_state(): (password_problem text, failing_since timestamptz, error text) */
Datum
dmshook_sql_mail_state(PG_FUNCTION_ARGS)
{
	DmshookSlotInfo *slots = palloc(sizeof(DmshookSlotInfo) * DMSHOOK_MAX_SLOTS);
	int			n = dmshook_wake_available() ? dmshook_wake_slots(slots, DMSHOOK_MAX_SLOTS) : 0;
	char	   *problem = dmshook_mail_password_problem();
	TupleDesc	tupdesc;
	Datum		values[3] = {0};
	bool		nulls[3] = {problem == NULL, true, true};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (problem)
		values[0] = CStringGetTextDatum(problem);
	for (int i = 0; i < n; i++)
	{
		char	   *error = slots[i].stats.mail_error;

		if (slots[i].database != MyDatabaseId || slots[i].pid == 0 || slots[i].stats.mail_failing_since == 0)
			continue;
		values[1] = TimestampTzGetDatum(slots[i].stats.mail_failing_since);
		nulls[1] = false;
		error[sizeof(slots[i].stats.mail_error) - 1] = '\0';
		error[pg_mbcliplen(error, strlen(error), strlen(error))] = '\0';
		if (pg_verifymbstr(error, strlen(error), true))
		{
			values[2] = CStringGetTextDatum(error);
			nulls[2] = false;
		}
	}
	pfree(slots);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
