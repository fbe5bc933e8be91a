/*
 * capture_condition.c - SQL conditions on a row: "sold_at IS NOT NULL".
 *
 * Runs in the backend that writes a row, inside its statement; compiled once
 * per relation and session (capture_cache.c), evaluated on a row by the
 * expression evaluator, without SPI. Memory is the context that the caller
 * gives, and a per-tuple context of the condition's own.
 *
 * A condition must never fail the statement of the DMS. So everything that may
 * raise an error (a function's body, a division, a cast) runs in a
 * subtransaction, as the table's owner, whose condition it is; an error makes
 * the condition not true, with one WARNING. Comparisons that cannot fail
 * (leakproof functions, IS NULL) do without, which is the usual case and
 * costs a tenth of a microsecond.
 *
 * The text is stored with every name qualified and dates in ISO style, and is
 * parsed again under search_path = pg_catalog and the same style: it means what
 * it meant to the person who wrote it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/ruleutils.h"

#include "capture_condition.h"
#include "compat.h"
#include "match.h"
#include "rowjson.h"

struct DmshookCondition
{
	Expr	   *expr;			/* planned */
	ExprState  *state;
	ExprContext *econtext;
	bool		may_fail;		/* needs a subtransaction */
	bool		busy;			/* being evaluated */
	bool		warned;
};

/* What the parser's hook needs. */
typedef struct NameScope
{
	Relation	rel;
	List	   *names;			/* of DmshookConditionName; NIL with any: the relation's own */
	bool		any;
	List	   *used;			/* AttrNumbers */
} NameScope;

/* A subtransaction around something that must not fail the statement. */
typedef struct Guarded
{
	MemoryContext context;
	ResourceOwner owner;
	int			level;			/* of settings */
} Guarded;

static Node *resolve_name(ParseState *pstate, ColumnRef *ref);
static AttrNumber find_name(NameScope *scope, const char *name);
static void unknown_name(NameScope *scope, const char *name) pg_attribute_noreturn();
static Node *parse_condition(NameScope *scope, const char *sql);
static void condition_error_context(void *arg);
static void guarded_begin(Guarded *guarded, Relation rel);
static void guarded_end(Guarded *guarded);
static char *guarded_failed(Guarded *guarded);
static bool evaluate(ExprState *state, ExprContext *econtext, TupleTableSlot *slot);
static bool evaluate_guarded(DmshookCondition *condition, TupleTableSlot *slot, Relation rel, char **problem);

static void
unknown_name(NameScope *scope, const char *name)
{
	TupleDesc	desc = RelationGetDescr(scope->rel);
	const char *nearest = NULL;
	int			best = 4;

	for (int i = 0; i < desc->natts; i++)
	{
		const char *other = NameStr(TupleDescAttr(desc, i)->attname);
		int			distance;

		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		distance = dmshook_edit_distance(name, strlen(name), other, strlen(other), 3);
		if (distance < best)
		{
			best = distance;
			nearest = other;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of table \"%s\" does not exist", name, RelationGetRelationName(scope->rel)),
			 nearest ? errhint("Did you mean \"%s\"?", nearest) : 0));
}

static AttrNumber
find_name(NameScope *scope, const char *name)
{
	TupleDesc	desc = RelationGetDescr(scope->rel);
	ListCell   *lc;

	if (scope->any)
	{
		for (int i = 0; i < desc->natts; i++)
			if (!TupleDescAttr(desc, i)->attisdropped &&
				strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
				return i + 1;
		return 0;
	}
	foreach(lc, scope->names)
	{
		DmshookConditionName *known = lfirst(lc);

		if (strcmp(known->name, name) == 0)
			return known->number;
	}
	return 0;
}

/* The parser meets a name: a column, bare or as NEW.x. */
static Node *
resolve_name(ParseState *pstate, ColumnRef *ref)
{
	NameScope  *scope = pstate->p_ref_hook_state;
	const char *name = NULL;
	AttrNumber	number;
	Form_pg_attribute att;

	if (list_length(ref->fields) == 1 && IsA(linitial(ref->fields), String))
		name = strVal(linitial(ref->fields));
	else if (list_length(ref->fields) == 2 && IsA(linitial(ref->fields), String) &&
			 IsA(lsecond(ref->fields), String) && strcmp(strVal(linitial(ref->fields)), "new") == 0)
		name = strVal(lsecond(ref->fields));
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a condition can name columns of the row only"),
				 errhint("Write a column bare or as NEW.x; the condition is tried on the old and on the new row.")));
	number = find_name(scope, name);
	if (number == 0)
		unknown_name(scope, name);
	scope->used = list_append_unique_int(scope->used, number);
	att = TupleDescAttr(RelationGetDescr(scope->rel), number - 1);
	return (Node *) makeVar(1, number, att->atttypid, att->atttypmod, att->attcollation, 0);
}

/* Errors are about the condition's text, not about the statement that is running. */
static void
condition_error_context(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) arg);
	}
	errcontext("condition \"%s\"", (const char *) arg);
}

/* Parse and analyze. Raises errors. */
static Node *
parse_condition(NameScope *scope, const char *sql)
{
	ErrorContextCallback callback;
	ParseState *pstate;
	List	   *parsed;
	SelectStmt *select;
	Node	   *expr;

	callback.callback = condition_error_context;
	callback.arg = unconstify(char *, sql);
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	parsed = raw_parser(sql, RAW_PARSE_PLPGSQL_EXPR);
	select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	/* that mode also takes what may follow in a SELECT */
	if (!IsA(select, SelectStmt) || list_length(select->targetList) != 1 ||
		select->distinctClause || select->fromClause || select->whereClause ||
		select->groupClause || select->havingClause || select->windowClause ||
		select->sortClause || select->limitCount || select->limitOffset ||
		select->lockingClause || select->op != SETOP_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("a condition must be one SQL expression")));

	pstate = make_parsestate(NULL);
	pstate->p_sourcetext = sql;
	pstate->p_pre_columnref_hook = resolve_name;
	pstate->p_ref_hook_state = scope;
	/* as in CREATE TRIGGER ... WHEN: no subqueries, no aggregates */
	expr = transformExpr(pstate, linitial_node(ResTarget, select->targetList)->val, EXPR_KIND_TRIGGER_WHEN);
	expr = coerce_to_boolean(pstate, expr, "condition");
	assign_expr_collations(pstate, expr);
	free_parsestate(pstate);

	error_context_stack = callback.previous;
	return expr;
}

char *
dmshook_condition_canonical(Relation rel, const char *sql, List **columns)
{
	NameScope	scope = {.rel = rel, .any = true};
	Node	   *expr = parse_condition(&scope, sql);
	DmshookJsonSettings saved;
	int			level;
	char	   *volatile text = NULL;

	level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	/* dates and times are written, and will be read, in one style */
	dmshook_json_pin(&saved);
	PG_TRY();
	{
		text = deparse_expression(expr, deparse_context_for(RelationGetRelationName(rel), RelationGetRelid(rel)),
								  false, false);
		/* it will be read again under the same path, and must still make sense */
		scope.used = NIL;
		(void) parse_condition(&scope, text);
	}
	PG_FINALLY();
	{
		dmshook_json_unpin(&saved);
	}
	PG_END_TRY();
	AtEOXact_GUC(true, level);
	*columns = scope.used;
	return text;
}

/* Enter a subtransaction, as the owner of the table. */
static void
guarded_begin(Guarded *guarded, Relation rel)
{
	guarded->context = CurrentMemoryContext;
	guarded->owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	/* ending the subtransaction, either way, ends this too */
	SetUserIdAndSecContext(rel->rd_rel->relowner, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	/*
	 * The owner's functions must not meet names that the writer has put into
	 * a search_path of its own: they would run as the owner.
	 */
	guarded->level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	MemoryContextSwitchTo(guarded->context);
}

static void
guarded_end(Guarded *guarded)
{
	AtEOXact_GUC(true, guarded->level);
	ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(guarded->context);
	CurrentResourceOwner = guarded->owner;
}

/*
 * Leave it after an error, and return what the error said. A cancelled query
 * or a session told to end goes on failing.
 */
static char *
guarded_failed(Guarded *guarded)
{
	ErrorData  *error;
	char	   *message;

	MemoryContextSwitchTo(guarded->context);
	error = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(guarded->context);
	CurrentResourceOwner = guarded->owner;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_OUT_OF_MEMORY)
		ReThrowError(error);
	message = pstrdup(error->message ? error->message : "unknown error");
	FreeErrorData(error);
	return message;
}

DmshookCondition *
dmshook_condition_compile(Relation rel, const char *sql, List *names, MemoryContext context, char **problem)
{
	Guarded		guarded;
	DmshookJsonSettings saved;
	DmshookCondition *volatile result = NULL;
	Oid			user;
	int			security;

	*problem = NULL;
	GetUserIdAndSecContext(&user, &security);
	guarded_begin(&guarded, rel);
	dmshook_json_pin(&saved);
	PG_TRY();
	{
		NameScope	scope = {.rel = rel, .names = names, .any = false};
		DmshookCondition *condition;
		Node	   *expr;
		MemoryContext old;

		expr = parse_condition(&scope, sql);

		old = MemoryContextSwitchTo(context);
		condition = palloc0(sizeof(DmshookCondition));
		expr = (Node *) expression_planner((Expr *) copyObject(expr));
		condition->may_fail = contain_leaked_vars(expr) || contain_mutable_functions(expr);
		condition->expr = (Expr *) expr;
		condition->state = ExecInitExpr(condition->expr, NULL);
		condition->econtext = CreateStandaloneExprContext();
		MemoryContextSwitchTo(old);
		dmshook_json_unpin(&saved);
		SetUserIdAndSecContext(user, security);
		guarded_end(&guarded);
		result = condition;
	}
	PG_CATCH();
	{
		dmshook_json_unpin(&saved);
		*problem = guarded_failed(&guarded);
	}
	PG_END_TRY();
	return result;
}

/* Evaluate it; may raise an error. */
static bool
evaluate(ExprState *state, ExprContext *econtext, TupleTableSlot *slot)
{
	Datum		value;
	bool		isnull;

	ResetExprContext(econtext);
	econtext->ecxt_scantuple = slot;
	value = ExecEvalExprSwitchContext(state, econtext, &isnull);
	return !isnull && DatumGetBool(value);
}

/*
 * Evaluate it inside a subtransaction. A function that writes to the same
 * table may come back here while the first evaluation goes on: then it
 * gets a state of its own, since those cannot be entered twice.
 */
static bool
evaluate_guarded(DmshookCondition *condition, TupleTableSlot *slot, Relation rel, char **problem)
{
	bool		again = condition->busy;
	volatile bool result = false;
	Guarded		guarded;
	Oid			user;
	int			security;

	GetUserIdAndSecContext(&user, &security);
	guarded_begin(&guarded, rel);
	PG_TRY();
	{
		ExprState  *state = again ? ExecInitExpr(condition->expr, NULL) : condition->state;
		ExprContext *econtext = again ? CreateStandaloneExprContext() : condition->econtext;

		condition->busy = true;
		result = evaluate(state, econtext, slot);
		ReScanExprContext(econtext);	/* functions may have left something to close */
		condition->busy = again;
		if (again)
			FreeExprContext(econtext, true);
		SetUserIdAndSecContext(user, security);
		guarded_end(&guarded);
	}
	PG_CATCH();
	{
		condition->busy = again;
		if (!again)
			condition->econtext->ecxt_callbacks = NULL; /* what they would close went with the subtransaction */
		*problem = guarded_failed(&guarded);
	}
	PG_END_TRY();
	return result;
}

bool
dmshook_condition_true(DmshookCondition *condition, TupleTableSlot *slot, Relation rel, const char *label)
{
	char	   *problem = NULL;
	bool		result;

	if (!condition->may_fail)
		return evaluate(condition->state, condition->econtext, slot);

	result = evaluate_guarded(condition, slot, rel, &problem);
	if (problem != NULL && !condition->warned)
	{
		condition->warned = true;
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("dmshook: a condition failed, so \"%s\" was not raised for a row of table \"%s\"",
						label, RelationGetRelationName(rel)),
				 errdetail("%s", problem),
				 errhint("Correct the condition with dmshook.watch...(); further rows are passed over in silence.")));
	}
	return result;
}
