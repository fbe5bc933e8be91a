/*
 * hooks.c - what backends notice, for the launcher and the dispatchers.
 *
 * Runs in every backend of a server that preloads the library. Object access:
 * the extension was created, altered or dropped (also by CASCADE, DROP OWNED or
 * DROP SCHEMA), a database created or altered; told after the commit, by a
 * callback that cannot fail. Utility: commands that need a database without
 * anybody in it hold its slot, and its dispatcher is gone when they begin; the
 * end of the transaction releases it, whatever the end is. COMMIT PREPARED,
 * for which no transaction callback comes, wakes the dispatcher.
 *
 * Never here: a change of what a command does, or an error that it would not
 * have raised itself (but for PREPARE TRANSACTION after CREATE EXTENSION).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "launcher.h"
#include "slot.h"
#include "wake.h"

/* How long a command waits for a dispatcher that does not end: as long as DROP DATABASE waits for others. */
#define GONE_TIMEOUT_MS		5000

/* A database that this transaction holds, has made, or has altered. */
typedef struct Touched
{
	struct Touched *next;
	Oid			database;
	bool		held;
	bool		dropped;
	bool		check;
} Touched;

static void hooks_object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg);
static void hooks_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
						  ProcessUtilityContext context, ParamListInfo params,
						  QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc);
static void hooks_before_utility(Node *stmt);
static void hooks_xact(XactEvent event, void *arg);
static bool is_our_extension(Oid extension);
static Touched *touch(Oid database);
static void watch_transaction(void);
static void hold(const char *name, bool even_here);
static bool may_create_databases(void);
static DefElem *option(List *options, const char *name);

static object_access_hook_type prev_object_access_hook = NULL;
static ProcessUtility_hook_type prev_utility_hook = NULL;

/* Of the current transaction. */
static bool extension_changed = false;
static Touched *touched = NULL;

void
dmshook_hooks_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = hooks_object_access;
	prev_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = hooks_utility;
}

/* ---- the transaction ---- */

static void
watch_transaction(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(hooks_xact, NULL);
	registered = true;
}

/* Find or make the transaction's note on a database. */
static Touched *
touch(Oid database)
{
	Touched    *t;

	watch_transaction();
	for (t = touched; t; t = t->next)
		if (t->database == database)
			return t;
	t = MemoryContextAllocZero(TopMemoryContext, sizeof(Touched));
	t->database = database;
	t->next = touched;
	touched = t;
	return t;
}

/*
 * What a rolled-back savepoint did is told too: to look for nothing is
 * harmless.
 */
static void
hooks_xact(XactEvent event, void *arg pg_attribute_unused())
{
	bool		committed = (event == XACT_EVENT_COMMIT);

	if (event == XACT_EVENT_PRE_PREPARE && extension_changed)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has created, altered or dropped the extension \"dmshook\"")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;

	if (extension_changed && committed)
		(void) dmshook_slot_look(MyDatabaseId, true);
	extension_changed = false;

	while (touched)
	{
		Touched    *t = touched;

		touched = t->next;
		if (t->held)
			dmshook_slot_release(t->database, t->dropped && committed);
		if (t->check && committed && !t->dropped)
			dmshook_slot_check(t->database);
		pfree(t);
	}
}

/* ---- object access ---- */

static void
hooks_object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, classId, objectId, subId, arg);

	if (dmshook_shared == NULL || (access != OAT_POST_CREATE && access != OAT_POST_ALTER && access != OAT_DROP))
		return;

	if (classId == ExtensionRelationId)
	{
		if (!extension_changed && is_our_extension(objectId))
		{
			watch_transaction();
			extension_changed = true;
		}
	}
	else if (classId == DatabaseRelationId)
	{
		if (access == OAT_DROP)
			touch(objectId)->dropped = true;
		else
			touch(objectId)->check = true;
	}
}

/* The row of an extension that is being created is seen by SnapshotSelf alone. */
static bool
is_our_extension(Oid extension)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		ours;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	ours = HeapTupleIsValid(tuple) &&
		strcmp(NameStr(((Form_pg_extension) GETSTRUCT(tuple))->extname), "dmshook") == 0;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ours;
}

/* ---- utility commands ---- */

static void
hooks_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;
	bool		prepared = IsA(stmt, TransactionStmt) &&
		(castNode(TransactionStmt, stmt)->kind == TRANS_STMT_COMMIT_PREPARED ||
		 castNode(TransactionStmt, stmt)->kind == TRANS_STMT_ROLLBACK_PREPARED);

	if (dmshook_shared != NULL)
		hooks_before_utility(stmt);

	if (prev_utility_hook)
		prev_utility_hook(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);

	/* It has ended by now, whatever becomes of this transaction; its end may fill or close a gap. */
	if (prepared)
		dmshook_wake_now(MyDatabaseId);
}

/*
 * Commands that fail when somebody else is in the database. Those of them that
 * cannot run in a transaction block fail there anyway.
 */
static void
hooks_before_utility(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			if (!IsTransactionBlock())
				hold(castNode(DropdbStmt, stmt)->dbname, false);
			break;
		case T_RenameStmt:
			if (castNode(RenameStmt, stmt)->renameType == OBJECT_DATABASE)
				hold(castNode(RenameStmt, stmt)->subname, false);
			break;
		case T_AlterDatabaseStmt:
			if (!IsTransactionBlock() && option(castNode(AlterDatabaseStmt, stmt)->options, "tablespace"))
				hold(castNode(AlterDatabaseStmt, stmt)->dbname, false);
			break;
		case T_CreatedbStmt:
			{
				DefElem    *from = option(castNode(CreatedbStmt, stmt)->options, "template");

				if (!IsTransactionBlock() && from && from->arg && may_create_databases())
					hold(defGetString(from), true);
				break;
			}
		default:
			break;
	}
}

/* As the server asks itself; its own function for that is not in each minor release of 15. */
static bool
may_create_databases(void)
{
	bool		may = superuser();
	HeapTuple	role = may ? NULL : SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));

	if (HeapTupleIsValid(role))
	{
		may = ((Form_pg_authid) GETSTRUCT(role))->rolcreatedb;
		ReleaseSysCache(role);
	}
	return may;
}

static DefElem *
option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
		if (strcmp(lfirst_node(DefElem, lc)->defname, name) == 0)
			return lfirst_node(DefElem, lc);
	return NULL;
}

/*
 * Until the end of the transaction this database has no dispatcher. Only for
 * those who may do what they ask for: nobody else can stop a dispatcher by a
 * command that fails. (A template that is not one's own may be copied too, but
 * templates have no dispatcher.) even_here: this session's own database does not
 * make the command fail.
 */
static void
hold(const char *name, bool even_here)
{
	Oid			database = get_database_oid(name, true);
	Touched    *t;

	if (!OidIsValid(database) || (database == MyDatabaseId && !even_here))
		return;
	if (!pg_database_ownercheck(database, GetUserId()))
		return;

	t = touch(database);
	if (!t->held)
		t->held = dmshook_slot_hold(database);
	if (t->held)
		dmshook_slot_wait_gone(database, GONE_TIMEOUT_MS);
}
