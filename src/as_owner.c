/*
 * as_owner.c - what a table's types and conditions are asked runs as the owner of the table.
 *
 * watch_...() count rows, for their hints: that calls casts, output functions and
 * conditions that the table's owner chose, and must not run them as the superuser or the admin who
 * calls. They are called later, by the triggers, as the owner (capture_condition.c); so here, too,
 * in a security-restricted operation: no SET ROLE out of it, no temporary tables, settings
 * are as before afterwards.
 *
 * Runs in backends, inside the caller's transaction; changes nothing, for the query is a read-only one.
 * Who could not become the owner anyway stays who he is, so that nothing is gained by calling this.
 */
#include "postgres.h"

#include "access/relation.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"

PGDLLEXPORT Datum dmshook_sql_as_owner(PG_FUNCTION_ARGS);

static bool
may_become(Oid role, Oid owner)
{
#if PG_VERSION_NUM >= 160000
	return member_can_set_role(role, owner);
#else
	return is_member_of_role(role, owner);
#endif
}

static Oid
owner_of(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	relation_close(rel, NoLock);
	return owner;
}

/* _as_owner(rel, query): the text that a query of one row gives, asked as the table's owner. */
PG_FUNCTION_INFO_V1(dmshook_sql_as_owner);
Datum
dmshook_sql_as_owner(PG_FUNCTION_ARGS)
{
	Oid			owner = owner_of(PG_GETARG_OID(0));
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	MemoryContext context = CurrentMemoryContext;
	text	   *result = NULL;
	Oid			user;
	int			security;
	int			settings = 0;
	bool		other;

	GetUserIdAndSecContext(&user, &security);
	other = user != owner && may_become(user, owner);
	if (other)
	{
		SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
		settings = NewGUCNestLevel();
	}
	SPI_connect();
	if (SPI_execute(query, true, 1) != SPI_OK_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("this is no query")));
	if (SPI_processed > 0)
	{
		char	   *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		if (value)
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			result = cstring_to_text(value);
			MemoryContextSwitchTo(old);
		}
	}
	SPI_finish();
	if (other)
	{
		AtEOXact_GUC(false, settings);
		SetUserIdAndSecContext(user, security);
	}
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}
