/*
 * lookup.c - message_id = 'msg_...' finds its event by an index.
 *
 * The views show dmshook._message_id(id, nonce), which no index holds: one on it
 * would cost each captured row a third of what it costs now. But the id is in the
 * message id. So where the planner meets
 *
 *		dmshook._message_id(id, nonce) = 'msg_...'
 *
 * it is told what follows from that, id = the number in 'msg_...', and plans the
 * scan of that table once more. The condition itself stays, for the nonce is to
 * fit, too.
 *
 * Runs in every backend, for every table that a query names; for those without
 * such a condition it looks at the operators of the conditions, and no more.
 * Reads the system caches; takes no lock, opens nothing, raises nothing.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "event.h"
#include "lookup.h"

#define INT8_EQUAL	410			/* of pg_operator; the server's headers have no name for it */

static set_rel_pathlist_hook_type next_hook = NULL;

/* Is it _message_id(id, nonce), of columns of this table? Its first argument, or NULL. */
static Var *
id_of(Node *node, Index rti)
{
	FuncExpr   *call = (FuncExpr *) node;
	char	   *name;
	char	   *schema;
	Var		   *id;

	if (!IsA(node, FuncExpr) || call->funcid < FirstNormalObjectId || list_length(call->args) != 2)
		return NULL;
	id = linitial(call->args);
	if (!IsA(id, Var) || (Index) id->varno != rti || id->varlevelsup != 0 || id->vartype != INT8OID)
		return NULL;
	name = get_func_name(call->funcid);
	if (name == NULL || strcmp(name, "_message_id") != 0)
		return NULL;
	schema = get_namespace_name(get_func_namespace(call->funcid));
	return schema != NULL && strcmp(schema, "dmshook") == 0 ? id : NULL;
}

/* What follows from a condition, if it is one on a message id; else NULL. */
static RestrictInfo *
what_follows(PlannerInfo *root, Index rti, RestrictInfo *known)
{
	OpExpr	   *op = (OpExpr *) known->clause;
	Var		   *id;
	Const	   *message;
	Const	   *sequence;
	RestrictInfo *follows;
	text	   *value;
	int64		event = 0;
	int64		nonce;
	bool		valid;

	if (!IsA(op, OpExpr) || op->opno != TextEqualOperator)
		return NULL;
	id = id_of(linitial(op->args), rti);
	message = lsecond(op->args);
	if (id == NULL)
	{
		id = id_of(lsecond(op->args), rti);
		message = linitial(op->args);
	}
	/* a parameter is a constant here, but in a generic plan: which the planner finds dear, and makes no more */
	if (id == NULL || !IsA(message, Const) || message->constisnull)
		return NULL;
	value = DatumGetTextPP(message->constvalue);
	valid = dmshook_parse_message_id(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &event, &nonce);
	/* what is no message id has no event: id = NULL, and nothing is read */
	sequence = makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(event), !valid, FLOAT8PASSBYVAL);
	op = (OpExpr *) make_opclause(INT8_EQUAL, BOOLOID, false, (Expr *) copyObject(id), (Expr *) sequence, InvalidOid, InvalidOid);
	op->opfuncid = F_INT8EQ;
	follows = make_simple_restrictinfo(root, (Expr *) op);
	follows->security_level = known->security_level;
	return follows;
}

static void
add_lookup(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	RestrictInfo *follows = NULL;
	ListCell   *cell;

	if (next_hook)
		next_hook(root, rel, rti, rte);
	if (rte->rtekind != RTE_RELATION || rel->reloptkind != RELOPT_BASEREL || rte->inh || rel->indexlist == NIL)
		return;
	foreach(cell, rel->baserestrictinfo)
	{
		follows = what_follows(root, rti, lfirst_node(RestrictInfo, cell));
		if (follows != NULL)
			break;
	}
	if (follows == NULL)
		return;
	rel->baserestrictinfo = lappend(rel->baserestrictinfo, follows);
	set_baserel_size_estimates(root, rel);
	create_index_paths(root, rel);
}

void
dmshook_lookup_init(void)
{
	next_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = add_lookup;
}
