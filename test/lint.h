/*
 * lint.h - what cppcheck cannot see of PostgreSQL's headers, for it reads only ours:
 * macros that look like statements. Included in front of every file; test/lint.
 */
#define foreach(cell, list) for (cell = list_head(list); cell != NULL; cell = lnext(list, cell))
#define foreach_delete_current(list, cell) list_delete_cell(list, cell)
#define PG_TRY() if (1)
#define PG_CATCH() else
#define PG_FINALLY()
#define PG_END_TRY()
#define HOLD_INTERRUPTS()
#define RESUME_INTERRUPTS()
#define START_CRIT_SECTION()
#define END_CRIT_SECTION()
#define INT64_FORMAT "%ld"
#define UINT64_FORMAT "%lu"
#define INT64CONST(x) (x ## L)
#define PG_FUNCTION_ARGS FunctionCallInfo fcinfo
#define PG_FUNCTION_INFO_V1(name) extern Datum name(FunctionCallInfo fcinfo)
#define PG_MODULE_MAGIC extern int Pg_magic
#define Assert(condition) ((void) 0)
#define SIGNAL_ARGS int postgres_signal_arg
#define pg_attribute_noreturn() __attribute__((noreturn))
#define pg_attribute_printf(f, a) __attribute__((format(printf, f, a)))
#define pg_attribute_unused()
#define PGDLLEXPORT
#define ereport(level, rest) do { if ((level) >= 21) abort(); } while (0)
#define elog(level, ...) do { if ((level) >= 21) abort(); } while (0)
#define ERROR 21
#define FATAL 22
#define WARNING 19
#define LOG 15
#define DEBUG1 14
