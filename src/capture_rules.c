/*
 * capture_rules.c - reading the arguments of a capture trigger.
 *
 * Runs in backends, when a relation's rules are compiled (capture_cache.c)
 * or shown (capture_watch.c). Pure text work: no catalogs, no errors; what is
 * malformed is reported to the caller. Memory is the caller's context.
 *
 * The arguments are written by dmshook.watch_vehicle() and its like, carried
 * by pg_dump as part of the trigger, and seen in psql's \d. The grammar:
 *
 *	argument := 'entity: vehicle'			begins a group; what follows is about it
 *			  | 'table: 16403'				OID of the table whose numbers follow "#"
 *			  | 'key: COLUMN [as NAME], ...'
 *			  | 'include: COLUMNS'			only these are sent
 *			  | 'exclude: COLUMNS'			these are not
 *			  | 'tenant: COLUMN'
 *			  | 'user: COLUMN'
 *			  | 'related: COLUMNS = schema.table#16410; COLUMNS; COLUMNS'
 *										a foreign key, the table it points to with its OID, the
 *										columns there that it points to, and those that are sent
 *			  | 'moves: paired'				no rule: halves of moves between partitions
 *			  | 'TYPE: CLAUSE; CLAUSE ...'	a rule: an event type has a dot in it
 *	CLAUSE   := always
 *			  | changed [COLUMNS]			one of these (of all) has another image
 *			  | becomes TEST				true now, and not true before (or INSERT)
 *			  | leaves TEST					true before, and not true now
 *			  | is TEST | not TEST			true, or not true, now
 *	TEST     := COLUMN = VALUE, VALUE ...	compared as text without regard to case
 *			  | if [COLUMNS] SQL			to the end of the argument
 *	COLUMN   := name#number
 *
 * Names and values are bare, or in double quotes with quotes doubled. The
 * clauses of a rule must all hold; rules raise their events in the order in
 * which they stand.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "capture_rules.h"

/* A place in a text. */
typedef struct Scan
{
	const char *p;
} Scan;

static void skip_blanks(Scan *scan);
static bool take_char(Scan *scan, char c);
static bool take_word(Scan *scan, const char *word);
static bool take_item(Scan *scan, const char *stop, char **item);
static bool take_column(Scan *scan, DmshookColumnRef **column);
static bool take_columns(Scan *scan, List **columns);
static bool take_values(Scan *scan, List **values);
static bool take_test(Scan *scan, DmshookClause *clause);
static bool take_clause(Scan *scan, DmshookClause **result);
static bool parse_rule(const char *type, int len, const char *text, DmshookRule **result);
static bool parse_option(DmshookGroup *group, const char *arg);
static bool parse_key(const char *text, List **columns);
static bool parse_related(const char *text, DmshookRelated **result);

static void
skip_blanks(Scan *scan)
{
	while (*scan->p == ' ')
		scan->p++;
}

static bool
take_char(Scan *scan, char c)
{
	skip_blanks(scan);
	if (*scan->p != c)
		return false;
	scan->p++;
	return true;
}

/* A keyword, followed by a blank, a separator or the end. */
static bool
take_word(Scan *scan, const char *word)
{
	size_t		len = strlen(word);
	char		next;

	skip_blanks(scan);
	if (strncmp(scan->p, word, len) != 0)
		return false;
	next = scan->p[len];
	if (next != '\0' && next != ' ' && next != ';' && next != ',')
		return false;
	scan->p += len;
	return true;
}

/*
 * A quoted item, or a bare one up to one of the stop characters (or the end),
 * without blanks at its ends. An empty bare item is malformed.
 */
static bool
take_item(Scan *scan, const char *stop, char **item)
{
	StringInfoData buf;
	const char *start;
	const char *end;

	skip_blanks(scan);
	if (*scan->p != '"')
	{
		start = scan->p;
		scan->p += strcspn(scan->p, stop);
		end = scan->p;
		while (end > start && end[-1] == ' ')
			end--;
		*item = pnstrdup(start, end - start);
		return end > start;
	}

	initStringInfo(&buf);
	for (scan->p++; *scan->p != '\0'; scan->p++)
	{
		if (*scan->p == '"')
		{
			if (scan->p[1] != '"')
			{
				scan->p++;
				*item = buf.data;
				return true;
			}
			scan->p++;
		}
		appendStringInfoChar(&buf, *scan->p);
	}
	return false;				/* no closing quote */
}

static bool
take_column(Scan *scan, DmshookColumnRef **result)
{
	DmshookColumnRef *column = palloc0(sizeof(DmshookColumnRef));

	*result = column;
	if (!take_item(scan, "#,;=] ", &column->name))
		return false;
	if (*scan->p == '#')
	{
		char	   *end;
		long		number = strtol(scan->p + 1, &end, 10);

		if (end == scan->p + 1 || number <= 0 || number > PG_INT16_MAX)
			return false;
		column->number = (int) number;
		scan->p = end;
	}
	return true;
}

/* One or more columns. */
static bool
take_columns(Scan *scan, List **columns)
{
	*columns = NIL;
	do
	{
		DmshookColumnRef *column;

		if (!take_column(scan, &column))
			return false;
		*columns = lappend(*columns, column);
	} while (take_char(scan, ','));
	skip_blanks(scan);
	return true;
}

static bool
take_values(Scan *scan, List **values)
{
	*values = NIL;
	do
	{
		char	   *value;

		if (!take_item(scan, ",;", &value))
			return false;
		*values = lappend(*values, value);
	} while (take_char(scan, ','));
	return true;
}

static bool
take_test(Scan *scan, DmshookClause *clause)
{
	DmshookColumnRef *column;

	skip_blanks(scan);
	if (strncmp(scan->p, "if [", 4) == 0)
	{
		scan->p += 4;
		if (*scan->p != ']' && !take_columns(scan, &clause->columns))
			return false;
		if (!take_char(scan, ']'))
			return false;
		skip_blanks(scan);
		clause->condition = pstrdup(scan->p);
		scan->p += strlen(scan->p);
		return clause->condition[0] != '\0';
	}
	if (!take_column(scan, &column) || !take_char(scan, '='))
		return false;
	clause->columns = list_make1(column);
	return take_values(scan, &clause->values);
}

static bool
take_clause(Scan *scan, DmshookClause **result)
{
	DmshookClause *clause = palloc0(sizeof(DmshookClause));

	*result = clause;
	if (take_word(scan, "always"))
	{
		clause->kind = DMSHOOK_CLAUSE_ALWAYS;
		return true;
	}
	if (take_word(scan, "changed"))
	{
		clause->kind = DMSHOOK_CLAUSE_CHANGED;
		skip_blanks(scan);
		if (*scan->p == '\0' || *scan->p == ';')
			return true;
		return take_columns(scan, &clause->columns);
	}
	if (take_word(scan, "becomes"))
		clause->kind = DMSHOOK_CLAUSE_BECOMES;
	else if (take_word(scan, "leaves"))
		clause->kind = DMSHOOK_CLAUSE_LEAVES;
	else if (take_word(scan, "is"))
		clause->kind = DMSHOOK_CLAUSE_IS;
	else if (take_word(scan, "not"))
		clause->kind = DMSHOOK_CLAUSE_NOT;
	else
		return false;
	return take_test(scan, clause);
}

static bool
parse_rule(const char *type, int len, const char *text, DmshookRule **result)
{
	DmshookRule *rule = palloc0(sizeof(DmshookRule));
	Scan		scan = {text};

	*result = rule;
	rule->type = pnstrdup(type, len);
	rule->text = pstrdup(text);
	do
	{
		DmshookClause *clause;

		if (!take_clause(&scan, &clause))
			return false;
		rule->clauses = lappend(rule->clauses, clause);
	} while (take_char(&scan, ';'));
	skip_blanks(&scan);
	return *scan.p == '\0';
}

bool
dmshook_rules_columns(const char *text, List **columns)
{
	Scan		scan = {text};

	return take_columns(&scan, columns) && *scan.p == '\0';
}

/* "vehicle_id#2 as id, branch#3" */
static bool
parse_key(const char *text, List **columns)
{
	Scan		scan = {text};

	*columns = NIL;
	do
	{
		DmshookColumnRef *column;

		if (!take_column(&scan, &column))
			return false;
		column->as = column->name;
		if (take_word(&scan, "as") && !take_item(&scan, ",", &column->as))
			return false;
		*columns = lappend(*columns, column);
	} while (take_char(&scan, ','));
	skip_blanks(&scan);
	return *scan.p == '\0';
}

/* "status_id#4 = public.status#16410; id#1; code#2, name#3" */
static bool
parse_related(const char *text, DmshookRelated **result)
{
	Scan		scan = {text};
	DmshookRelated *related = palloc0(sizeof(DmshookRelated));
	char	   *end;

	*result = related;
	if (!take_columns(&scan, &related->from) || !take_char(&scan, '=') ||
		!take_item(&scan, ".#,;=] ", &related->schema) || !take_char(&scan, '.') ||
		!take_item(&scan, ".#,;=] ", &related->table) || !take_char(&scan, '#'))
		return false;
	related->relid = (Oid) strtoul(scan.p, &end, 10);
	if (end == scan.p)
		return false;
	scan.p = end;
	return take_char(&scan, ';') && take_columns(&scan, &related->key) &&
		take_char(&scan, ';') && take_columns(&scan, &related->columns) && *scan.p == '\0' &&
		list_length(related->key) == list_length(related->from) && list_length(related->key) <= INDEX_MAX_KEYS;
}

/* Any argument but a rule and "entity:". */
static bool
parse_option(DmshookGroup *group, const char *arg)
{
	List	   *columns;

	if (strncmp(arg, "table: ", 7) == 0)
	{
		group->table = (Oid) strtoul(arg + 7, NULL, 10);
		return OidIsValid(group->table);
	}
	if (strncmp(arg, "key: ", 5) == 0)
		return parse_key(arg + 5, &group->key);
	if (strncmp(arg, "include: ", 9) == 0)
	{
		group->has_include = true;
		return dmshook_rules_columns(arg + 9, &group->include);
	}
	if (strncmp(arg, "exclude: ", 9) == 0)
		return dmshook_rules_columns(arg + 9, &group->exclude);
	if (strncmp(arg, "tenant: ", 8) == 0 && dmshook_rules_columns(arg + 8, &columns))
	{
		group->tenant = linitial(columns);
		return list_length(columns) == 1;
	}
	if (strncmp(arg, "user: ", 6) == 0 && dmshook_rules_columns(arg + 6, &columns))
	{
		group->user = linitial(columns);
		return list_length(columns) == 1;
	}
	if (strncmp(arg, "related: ", 9) == 0)
	{
		DmshookRelated *related;

		if (!parse_related(arg + 9, &related))
			return false;
		group->related = lappend(group->related, related);
		return true;
	}
	return strcmp(arg, "moves: paired") == 0;
}

List *
dmshook_rules_parse(char *const *args, int nargs, const char **bad)
{
	List	   *groups = NIL;
	DmshookGroup *group = NULL;

	*bad = NULL;
	for (int i = 0; i < nargs; i++)
	{
		const char *arg = args[i];
		int			word = strcspn(arg, ":");
		bool		good = true;

		if (strncmp(arg, "entity: ", 8) == 0)
		{
			group = palloc0(sizeof(DmshookGroup));
			group->entity = pstrdup(arg + 8);
			groups = lappend(groups, group);
		}
		else if (strcmp(arg, "moves: paired") == 0)
			continue;
		else if (group == NULL)
			good = false;
		else if (memchr(arg, '.', word) != NULL)
		{
			DmshookRule *rule;

			good = arg[word] == ':' && arg[word + 1] == ' ' &&
				parse_rule(arg, word, arg + word + 2, &rule);
			if (good)
				group->rules = lappend(group->rules, rule);
		}
		else if (!parse_option(group, arg))
		{
			/* it may have been an exclusion: send no more than the key */
			good = false;
			group->has_include = true;
			group->include = NIL;
		}
		if (!good && *bad == NULL)
			*bad = arg;
	}
	return groups;
}

static void
describe_columns(StringInfo buf, List *columns)
{
	ListCell   *lc;

	foreach(lc, columns)
		appendStringInfo(buf, "%s%s", foreach_current_index(lc) > 0 ? ", " : "",
						 ((DmshookColumnRef *) lfirst(lc))->name);
}

char *
dmshook_rule_describe(const DmshookRule *rule)
{
	static const char *const verb[] = {"always", "changed", "becomes", "leaves", "is", "not"};
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, rule->clauses)
	{
		DmshookClause *clause = lfirst(lc);
		ListCell   *value;

		appendStringInfo(&buf, "%s%s", foreach_current_index(lc) > 0 ? "; " : "", verb[clause->kind]);
		if (clause->kind == DMSHOOK_CLAUSE_ALWAYS ||
			(clause->kind == DMSHOOK_CLAUSE_CHANGED && clause->columns == NIL))
			continue;
		appendStringInfoChar(&buf, ' ');
		if (clause->condition != NULL)
		{
			appendStringInfo(&buf, "if %s", clause->condition);
			continue;
		}
		describe_columns(&buf, clause->columns);
		foreach(value, clause->values)
			appendStringInfo(&buf, "%s%s", foreach_current_index(value) > 0 ? ", " : " = ",
							 (char *) lfirst(value));
	}
	return buf.data;
}
