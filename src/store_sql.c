/*
 * store_sql.c - the text of every SQL statement of the dispatcher, and how one is
 * run.
 *
 * Runs in the dispatcher. Statements are prepared once and kept; every name is
 * qualified, every argument typed. No statement here waits for a row that an
 * admin's open transaction may hold: functions append to command, subscription,
 * change and webhook_version and update webhook, which are only read here
 * (but for command.done_at, which they do not touch).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "store_private.h"

#define MAX_ARGS 13

typedef struct QueryDef
{
	const char *sql;
	Oid			args[MAX_ARGS]; /* InvalidOid: no more */
} QueryDef;

static const QueryDef query_defs[N_QUERIES] = {
	[Q_CLAIM] = {
		"SELECT i.system_identifier, i.database, i.major,"
		" EXISTS (SELECT FROM dmshook.position AS p WHERE p.webhook OPERATOR(pg_catalog.=) 0 AND p.command OPERATOR(pg_catalog.=) 0)"
		" FROM dmshook.instance AS i"
	},
	[Q_CLAIM_USED] = {
		"SELECT EXISTS (SELECT FROM dmshook.instance) OR EXISTS (SELECT FROM dmshook.webhook) OR EXISTS (SELECT FROM dmshook.position)"
	},
	[Q_CLAIM_UPGRADED] = {
		"UPDATE dmshook.instance SET system_identifier = $1, major = $2", {INT8OID, INT4OID}
	},
	[Q_START] = {
		"SELECT p.low, p.ctid,"
		" (SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value OPERATOR(pg_catalog.-) 1 END FROM dmshook.event_id AS s),"
		" (SELECT pg_catalog.max(e.id) FROM dmshook.event AS e),"
		" (SELECT q.seqcache FROM pg_catalog.pg_sequence AS q WHERE q.seqrelid OPERATOR(pg_catalog.=) 'dmshook.event_id'::pg_catalog.regclass)"
		" FROM dmshook.position AS p WHERE p.webhook OPERATOR(pg_catalog.=) 0 AND p.command OPERATOR(pg_catalog.=) 0"
	},
	[Q_LAST_VALUE] = {
		"SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value OPERATOR(pg_catalog.-) 1 END FROM dmshook.event_id AS s"
	},
	[Q_SETVAL] = {
		"SELECT pg_catalog.setval('dmshook.event_id', $1)", {INT8OID}
	},
	[Q_WEBHOOKS] = {
		"SELECT w.id, w.name, w.url, w.method, w.enabled, w.paused, w.version, w.options,"
		" p.low, s.upto, t.delivered, t.failed, t.failures,"
		" t.failing_since, t.circuit_open_since, t.next_probe_at, t.probes, w.transform_role"
		" FROM dmshook.webhook AS w"
		" LEFT JOIN dmshook.position AS p ON p.webhook OPERATOR(pg_catalog.=) w.id AND p.command OPERATOR(pg_catalog.=) 0"
		" LEFT JOIN dmshook.skip AS s ON s.webhook OPERATOR(pg_catalog.=) w.id"
		" LEFT JOIN dmshook.webhook_state AS t ON t.webhook OPERATOR(pg_catalog.=) w.id"
		" WHERE w.dropped_at IS NULL AND w.id OPERATOR(pg_catalog.>=) $1 AND w.id OPERATOR(pg_catalog.<=) $2 ORDER BY w.id", {INT4OID, INT4OID}
	},
	[Q_SECRETS] = {
		"SELECT x.webhook, x.kind, x.value, x.key_id, x.expires_at FROM dmshook.webhook_secret AS x"
		" WHERE (x.expires_at IS NULL OR x.expires_at OPERATOR(pg_catalog.>) pg_catalog.now())"
		" AND x.webhook OPERATOR(pg_catalog.>=) $1 AND x.webhook OPERATOR(pg_catalog.<=) $2"
		" ORDER BY x.webhook, x.id DESC", {INT4OID, INT4OID}
	},
	[Q_SUBSCRIPTIONS] = {
		"SELECT v.webhook, v.from_id, v.events, v.tenant, v.enabled, v.filter FROM dmshook.subscription AS v"
		" WHERE v.webhook OPERATOR(pg_catalog.>=) $1 AND v.webhook OPERATOR(pg_catalog.<=) $2"
		" ORDER BY v.webhook, v.from_id, v.id", {INT4OID, INT4OID}
	},
	[Q_COMMANDS] = {
		"SELECT c.id, c.webhook, c.kind, c.event, c.upto, c.args, c.by_role FROM dmshook.command AS c"
		" WHERE c.done_at IS NULL ORDER BY c.id"
	},
	[Q_COMMAND_DONE] = {
		"UPDATE dmshook.command SET done_at = pg_catalog.clock_timestamp() WHERE id OPERATOR(pg_catalog.=) $1", {INT8OID}
	},
	[Q_HANDLED] = {
		"SELECT a.event, a.webhook FROM dmshook.attempt AS a"
		" WHERE a.event OPERATOR(pg_catalog.>=) $1 AND a.event OPERATOR(pg_catalog.<=) $2 AND a.final IS NOT NULL"
		" UNION ALL SELECT q.event, q.webhook FROM dmshook.queue AS q"
		" WHERE q.event OPERATOR(pg_catalog.>=) $1 AND q.event OPERATOR(pg_catalog.<=) $2"
		" ORDER BY 1, 2", {INT8OID, INT8OID}
	},
	[Q_QUEUE_PUT] = {
		"INSERT INTO dmshook.queue AS q (event, webhook, due_at, attempts, kind, command, entity, quick)"
		" SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
		" pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8)) AS r"
		" ON CONFLICT (event, webhook) DO UPDATE SET due_at = EXCLUDED.due_at, attempts = EXCLUDED.attempts,"
		" kind = EXCLUDED.kind, command = EXCLUDED.command, quick = EXCLUDED.quick",
		{INT8ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID, CHARARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT2ARRAYOID}
	},
	[Q_QUEUE_REMOVE] = {
		"DELETE FROM dmshook.queue AS q USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS r (event, webhook)"
		" WHERE q.event OPERATOR(pg_catalog.=) r.event AND q.webhook OPERATOR(pg_catalog.=) r.webhook",
		{INT8ARRAYOID, INT4ARRAYOID}
	},
	[Q_QUEUE_DUE] = {
		"SELECT q.event, q.due_at, q.attempts, q.kind, q.command, q.entity, q.quick FROM dmshook.queue AS q"
		" WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.due_at OPERATOR(pg_catalog.>=) $2 AND NOT q.cancelled"
		" ORDER BY q.due_at LIMIT $3", {INT4OID, TIMESTAMPTZOID, INT4OID}
	},
	[Q_QUEUE_CANCELLED] = {
		"DELETE FROM dmshook.queue AS q WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.cancelled"
		" RETURNING q.event, q.due_at, q.attempts, q.kind, q.command, q.entity, q.quick,"
		" coalesce((SELECT e.nonce FROM dmshook.event AS e WHERE e.id OPERATOR(pg_catalog.=) q.event), 0)",
		{INT4OID}
	},
	[Q_QUEUE_PARK] = {
		"UPDATE dmshook.queue AS q SET due_at = NULL WHERE q.webhook OPERATOR(pg_catalog.=) $1"
		" AND q.kind OPERATOR(pg_catalog.=) 'd' AND q.due_at IS NOT NULL"
		" AND EXISTS (SELECT FROM dmshook.queue AS o WHERE o.webhook OPERATOR(pg_catalog.=) $1"
		"      AND o.entity OPERATOR(pg_catalog.=) q.entity AND o.event OPERATOR(pg_catalog.<) q.event AND o.kind OPERATOR(pg_catalog.=) 'd')",
		{INT4OID}
	},
	[Q_QUEUE_ENTITIES] = {
		"SELECT q.entity, pg_catalog.count(*)::int4 FROM dmshook.queue AS q"
		" WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.kind OPERATOR(pg_catalog.=) 'd' GROUP BY q.entity", {INT4OID}
	},
	[Q_QUEUE_PROMOTE] = {
		"UPDATE dmshook.queue AS q SET due_at = $3 FROM (SELECT o.event FROM dmshook.queue AS o"
		" WHERE o.webhook OPERATOR(pg_catalog.=) $1 AND o.entity OPERATOR(pg_catalog.=) $2 AND o.kind OPERATOR(pg_catalog.=) 'd'"
		" ORDER BY o.webhook, o.entity, o.event LIMIT 1) AS head"
		" WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.event OPERATOR(pg_catalog.=) head.event AND q.due_at IS NULL"
		" AND NOT EXISTS (SELECT FROM dmshook.queue AS d WHERE d.webhook OPERATOR(pg_catalog.=) $1"
		"      AND d.entity OPERATOR(pg_catalog.=) $2 AND d.kind OPERATOR(pg_catalog.=) 'd' AND d.due_at IS NOT NULL)",
		{INT4OID, INT8OID, TIMESTAMPTZOID}
	},
	[Q_QUEUE_PROMOTE_ALL] = {
		"UPDATE dmshook.queue AS q SET due_at = $2 FROM (SELECT DISTINCT ON (o.entity) o.event FROM dmshook.queue AS o"
		" WHERE o.webhook OPERATOR(pg_catalog.=) $1 AND o.kind OPERATOR(pg_catalog.=) 'd' ORDER BY o.entity, o.event) AS head"
		" WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.event OPERATOR(pg_catalog.=) head.event AND q.due_at IS NULL"
		" AND NOT EXISTS (SELECT FROM dmshook.queue AS d WHERE d.webhook OPERATOR(pg_catalog.=) $1"
		"      AND d.entity OPERATOR(pg_catalog.=) q.entity AND d.kind OPERATOR(pg_catalog.=) 'd' AND d.due_at IS NOT NULL)",
		{INT4OID, TIMESTAMPTZOID}
	},
	[Q_QUEUE_RELEASE] = {
		"UPDATE dmshook.queue AS q SET due_at = $2 WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.due_at IS NULL",
		{INT4OID, TIMESTAMPTZOID}
	},
	[Q_QUEUE_MOVE_TIMES] = {
		"UPDATE dmshook.queue AS q SET due_at = greatest($1, q.due_at OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $2))"
		" WHERE q.due_at OPERATOR(pg_catalog.>) $1", {TIMESTAMPTZOID, FLOAT8OID}
	},
	[Q_STATE_MOVE_TIMES] = {
		"UPDATE dmshook.webhook_state AS t SET next_probe_at = greatest($1, t.next_probe_at OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $2)),"
		" circuit_open_since = CASE WHEN t.circuit_open_since OPERATOR(pg_catalog.>) $1 THEN $1 ELSE t.circuit_open_since END,"
		" failing_since = CASE WHEN t.failing_since OPERATOR(pg_catalog.>) $1 THEN $1 ELSE t.failing_since END,"
		" last_success_at = CASE WHEN t.last_success_at OPERATOR(pg_catalog.>) $1 THEN $1 ELSE t.last_success_at END,"
		" last_failure_at = CASE WHEN t.last_failure_at OPERATOR(pg_catalog.>) $1 THEN $1 ELSE t.last_failure_at END"
		" WHERE greatest(t.next_probe_at, t.circuit_open_since, t.failing_since, t.last_success_at, t.last_failure_at) OPERATOR(pg_catalog.>) $1",
		{TIMESTAMPTZOID, FLOAT8OID}
	},
	[Q_STATE_AHEAD] = {
		"SELECT pg_catalog.max(greatest(t.last_success_at, t.last_failure_at)) FROM dmshook.webhook_state AS t"
	},
	[Q_QUEUE_CANCEL_MARK] = {
		"UPDATE dmshook.queue AS q SET cancelled = true WHERE q.webhook OPERATOR(pg_catalog.=) $1"
		" AND q.event OPERATOR(pg_catalog.>=) $2 AND q.event OPERATOR(pg_catalog.<=) $3 AND q.event OPERATOR(pg_catalog.=) ANY ($4)",
		{INT4OID, INT8OID, INT8OID, INT8ARRAYOID}
	},
	[Q_QUEUE_CANCEL] = {
		"DELETE FROM dmshook.queue AS q WHERE q.webhook OPERATOR(pg_catalog.=) $1"
		" AND q.event OPERATOR(pg_catalog.>=) $2 AND q.event OPERATOR(pg_catalog.<=) $3 AND q.event OPERATOR(pg_catalog.<>) ALL ($4)"
		" RETURNING q.event, q.due_at, q.attempts, q.kind, q.command, q.entity, q.quick,"
		" coalesce((SELECT e.nonce FROM dmshook.event AS e WHERE e.id OPERATOR(pg_catalog.=) q.event), 0)",
		{INT4OID, INT8OID, INT8OID, INT8ARRAYOID}
	},
	[Q_QUEUE_EXPIRE] = {
		"DELETE FROM dmshook.queue AS q USING (SELECT e.id, e.nonce FROM (SELECT o.event FROM dmshook.queue AS o"
		"  WHERE o.webhook OPERATOR(pg_catalog.=) $1 AND o.kind OPERATOR(pg_catalog.=) 'd' AND NOT o.cancelled ORDER BY o.event LIMIT $4) AS first"
		" JOIN dmshook.event AS e ON e.id OPERATOR(pg_catalog.=) first.event WHERE e.at OPERATOR(pg_catalog.<) $2) AS old"
		" WHERE q.webhook OPERATOR(pg_catalog.=) $1 AND q.event OPERATOR(pg_catalog.=) old.id AND q.event OPERATOR(pg_catalog.<>) ALL ($3)"
		" RETURNING q.event, q.due_at, q.attempts, q.kind, q.command, q.entity, q.quick, old.nonce",
		{INT4OID, TIMESTAMPTZOID, INT8ARRAYOID, INT4OID}
	},
	[Q_REDELIVER] = {
		"INSERT INTO dmshook.queue (event, webhook, due_at, attempts, kind, command, entity)"
		" SELECT $2, $1, $4, 0, 'r', $3, 0"
		" WHERE EXISTS (SELECT FROM dmshook.event AS e WHERE e.id OPERATOR(pg_catalog.=) $2 AND e.erased_at IS NULL)"
		" AND EXISTS (SELECT FROM dmshook.attempt AS a"
		" WHERE a.event OPERATOR(pg_catalog.=) $2 AND a.webhook OPERATOR(pg_catalog.=) $1 AND a.final IS NOT NULL)"
		" ON CONFLICT (event, webhook) DO NOTHING",
		{INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID}
	},
	[Q_REDELIVER_DEAD] = {
		"INSERT INTO dmshook.queue (event, webhook, due_at, attempts, kind, command, entity)"
		" SELECT DISTINCT a.event, $1, $3, 0, 'r'::\"char\", $2, 0::int8 FROM dmshook.attempt AS a"
		" JOIN dmshook.event AS e ON e.id OPERATOR(pg_catalog.=) a.event AND e.erased_at IS NULL"
		" WHERE a.webhook OPERATOR(pg_catalog.=) $1 AND a.final OPERATOR(pg_catalog.=) 'x' AND a.event OPERATOR(pg_catalog.>) 0"
		" AND a.id OPERATOR(pg_catalog.<=) coalesce(($4 OPERATOR(pg_catalog.->>) 'upto_attempt')::int8, 9223372036854775807)"
		" AND ($4 OPERATOR(pg_catalog.->>) 'since' IS NULL OR a.at OPERATOR(pg_catalog.>=) ($4 OPERATOR(pg_catalog.->>) 'since')::timestamptz)"
		" AND (coalesce(pg_catalog.jsonb_typeof($4 OPERATOR(pg_catalog.->) 'types'), 'null') OPERATOR(pg_catalog.=) 'null'"
		"      OR dmshook._matches(ARRAY(SELECT pg_catalog.jsonb_array_elements_text($4 OPERATOR(pg_catalog.->) 'types')), e.type))"
		" AND NOT EXISTS (SELECT FROM dmshook.attempt AS later WHERE later.event OPERATOR(pg_catalog.=) a.event"
		"      AND later.webhook OPERATOR(pg_catalog.=) $1 AND later.final IS NOT NULL AND later.id OPERATOR(pg_catalog.>) a.id)"
		" ON CONFLICT (event, webhook) DO NOTHING",
		{INT4OID, INT8OID, TIMESTAMPTZOID, JSONBOID}
	},
	[Q_FINAL] = {
		"SELECT FROM dmshook.attempt AS a"
		" WHERE a.event OPERATOR(pg_catalog.=) $1 AND a.webhook OPERATOR(pg_catalog.=) $2 AND a.final IS NOT NULL LIMIT 1",
		{INT8OID, INT4OID}
	},
	[Q_NONCE] = {
		"SELECT e.nonce FROM dmshook.event AS e WHERE e.id OPERATOR(pg_catalog.=) $1", {INT8OID}
	},
	[Q_SKIP] = {
		"INSERT INTO dmshook.skip AS s (webhook, upto, reason, at) VALUES ($1, $2, $3, pg_catalog.clock_timestamp())"
		" ON CONFLICT (webhook) DO UPDATE SET upto = EXCLUDED.upto, reason = EXCLUDED.reason, at = EXCLUDED.at"
		" WHERE s.upto OPERATOR(pg_catalog.<) EXCLUDED.upto",
		{INT4OID, INT8OID, TEXTOID}
	},
	[Q_PLACE_UPDATE] = {
		"UPDATE dmshook.position AS p SET low = $3 WHERE p.ctid OPERATOR(pg_catalog.=) $1"
		" AND p.webhook OPERATOR(pg_catalog.=) $2 AND p.command OPERATOR(pg_catalog.=) 0 RETURNING p.ctid",
		{TIDOID, INT4OID, INT8OID}
	},
	[Q_PLACE_PUT] = {
		"INSERT INTO dmshook.position AS p (webhook, command, low) VALUES ($1, 0, $2)"
		" ON CONFLICT (webhook, command) DO UPDATE SET low = EXCLUDED.low RETURNING p.ctid",
		{INT4OID, INT8OID}
	},
	[Q_PLACE_REMOVE] = {
		"DELETE FROM dmshook.position AS p WHERE p.webhook OPERATOR(pg_catalog.=) $1 AND p.command OPERATOR(pg_catalog.=) 0",
		{INT4OID}
	},
	[Q_REPLAYS] = {
		"SELECT p.webhook, p.command, p.low, p.until, c.args FROM dmshook.position AS p"
		" JOIN dmshook.command AS c ON c.id OPERATOR(pg_catalog.=) p.command WHERE p.command OPERATOR(pg_catalog.>) 0"
	},
	[Q_REPLAY_PUT] = {
		"INSERT INTO dmshook.position (webhook, command, low, until) VALUES ($1, $2, $3, $4)",
		{INT4OID, INT8OID, INT8OID, INT8OID}
	},
	[Q_REPLAY_MOVE] = {
		"UPDATE dmshook.position AS p SET low = $3"
		" WHERE p.webhook OPERATOR(pg_catalog.=) $1 AND p.command OPERATOR(pg_catalog.=) $2", {INT4OID, INT8OID, INT8OID}
	},
	[Q_REPLAY_REMOVE] = {
		"DELETE FROM dmshook.position AS p WHERE p.webhook OPERATOR(pg_catalog.=) $1 AND p.command OPERATOR(pg_catalog.>) 0"
		" AND ($2 OPERATOR(pg_catalog.=) 0 OR p.command OPERATOR(pg_catalog.=) $2)", {INT4OID, INT8OID}
	},
	[Q_PAST] = {
		"SELECT x.event, pg_catalog.bool_or(x.final), pg_catalog.bool_or(x.delivered), pg_catalog.bool_or(x.open), pg_catalog.bool_or(x.mine) FROM ("
		"SELECT a.event, a.final IS NOT NULL, coalesce(a.final OPERATOR(pg_catalog.=) 'd', false), false, coalesce(a.command OPERATOR(pg_catalog.=) $4, false)"
		" FROM dmshook.attempt AS a WHERE a.webhook OPERATOR(pg_catalog.=) $1"
		" AND a.event OPERATOR(pg_catalog.>) $2 AND a.event OPERATOR(pg_catalog.<=) $3"
		" UNION ALL SELECT q.event, false, false, true, false FROM dmshook.queue AS q WHERE q.webhook OPERATOR(pg_catalog.=) $1"
		" AND q.event OPERATOR(pg_catalog.>) $2 AND q.event OPERATOR(pg_catalog.<=) $3)"
		" AS x (event, final, delivered, open, mine) GROUP BY x.event ORDER BY x.event",
		{INT4OID, INT8OID, INT8OID, INT8OID}
	},
	[Q_STATE_UPDATE] = {
		"UPDATE dmshook.webhook_state AS t SET delivered = $3, failed = $4, failures = $5, failing_since = $6,"
		" last_success_at = coalesce($7, t.last_success_at), last_failure_at = coalesce($8, t.last_failure_at),"
		" last_error = coalesce(($9)[1], t.last_error), last_hint = coalesce(($9)[2], t.last_hint),"
		" circuit_open_since = $10, next_probe_at = $11, probes = $12,"
		" certificate_expires_at = coalesce($13, t.certificate_expires_at)"
		" WHERE t.ctid OPERATOR(pg_catalog.=) $1 AND t.webhook OPERATOR(pg_catalog.=) $2 RETURNING t.ctid",
		{TIDOID, INT4OID, INT8OID, INT8OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID}
	},
	[Q_STATE_PUT] = {
		"INSERT INTO dmshook.webhook_state AS t (webhook, delivered, failed, failures, failing_since,"
		" last_success_at, last_failure_at, last_error, last_hint, circuit_open_since, next_probe_at, probes,"
		" certificate_expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, ($8)[1], ($8)[2], $9, $10, $11, $12)"
		" ON CONFLICT (webhook) DO UPDATE SET delivered = $2, failed = $3, failures = $4, failing_since = $5,"
		" last_success_at = coalesce($6, t.last_success_at), last_failure_at = coalesce($7, t.last_failure_at),"
		" last_error = coalesce(($8)[1], t.last_error), last_hint = coalesce(($8)[2], t.last_hint),"
		" circuit_open_since = $9, next_probe_at = $10, probes = $11,"
		" certificate_expires_at = coalesce($12, t.certificate_expires_at) RETURNING t.ctid",
		{INT4OID, INT8OID, INT8OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID}
	},
	[Q_COUNT] = {
		"INSERT INTO dmshook.webhook_count AS c (webhook, at, ok, failed)"
		" VALUES ($1, pg_catalog.date_bin('5 minutes'::pg_catalog.interval, $2, '2000-01-01 00:00+00'::pg_catalog.timestamptz), $3, $4)"
		" ON CONFLICT (webhook, at) DO UPDATE SET ok = c.ok OPERATOR(pg_catalog.+) EXCLUDED.ok,"
		" failed = c.failed OPERATOR(pg_catalog.+) EXCLUDED.failed",
		{INT4OID, TIMESTAMPTZOID, INT8OID, INT8OID}
	},
	[Q_DISABLE] = {
		"SELECT dmshook._disable_failing($1, $2)", {INT4OID, TEXTOID}
	},
	[Q_LAST_OLDER] = {
		"SELECT pg_catalog.max(x.id) FROM (SELECT e.id, e.at FROM dmshook.event AS e WHERE e.id OPERATOR(pg_catalog.>) $1"
		" ORDER BY e.id LIMIT $3) AS x WHERE x.at OPERATOR(pg_catalog.<) $2", {INT8OID, TIMESTAMPTZOID, INT4OID}
	},
	[Q_REMOVE_OLD] = {
		/* ranges of attempts and of the queue are read once, rows are found again by ctid: 1.6 us a row, not 2.6 */
		"WITH bound AS (SELECT pg_catalog.min(p.low) AS low FROM dmshook.position AS p),"
		" seen AS MATERIALIZED (SELECT e.id, e.at, e.ctid AS tid FROM dmshook.event AS e"
		"  WHERE e.id OPERATOR(pg_catalog.>) $1 AND e.id OPERATOR(pg_catalog.<=) (SELECT b.low FROM bound AS b) ORDER BY e.id LIMIT $4),"
		" upto AS MATERIALIZED (SELECT pg_catalog.max(s.id) AS id FROM seen AS s),"
		" kept AS MATERIALIZED ("
		"  SELECT a.event FROM dmshook.attempt AS a WHERE a.event OPERATOR(pg_catalog.>) $1 AND a.event OPERATOR(pg_catalog.<=) (SELECT u.id FROM upto AS u)"
		"   AND a.at OPERATOR(pg_catalog.>=) CASE WHEN a.final OPERATOR(pg_catalog.=) 'x' THEN $3 ELSE $2 END"
		"  UNION ALL SELECT q.event FROM dmshook.queue AS q"
		"   WHERE q.event OPERATOR(pg_catalog.>) $1 AND q.event OPERATOR(pg_catalog.<=) (SELECT u.id FROM upto AS u)),"
		" old AS MATERIALIZED (SELECT l.ctid AS tid FROM dmshook.event AS l WHERE l.ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
		"   SELECT s.tid FROM seen AS s WHERE s.at OPERATOR(pg_catalog.<) $2"
		"    AND NOT EXISTS (SELECT FROM kept AS k WHERE k.event OPERATOR(pg_catalog.=) s.id)))"
		"  FOR UPDATE OF l SKIP LOCKED),"	/* somebody's erase() may be open */
		" gone AS (DELETE FROM dmshook.event AS e WHERE e.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT o.tid FROM old AS o)) RETURNING e.id),"
		" attempts AS (DELETE FROM dmshook.attempt AS a USING gone AS g WHERE a.event OPERATOR(pg_catalog.=) g.id)"
		" SELECT pg_catalog.count(*), pg_catalog.max(s.id), pg_catalog.min(s.at) FILTER (WHERE g.id IS NULL)"
		" FROM seen AS s LEFT JOIN gone AS g ON g.id OPERATOR(pg_catalog.=) s.id",
		{INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	},
	[Q_REMOVE_TESTS] = {
		"DELETE FROM dmshook.attempt AS a WHERE a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT t.ctid FROM dmshook.attempt AS t"
		" WHERE t.event OPERATOR(pg_catalog.=) 0 AND t.at OPERATOR(pg_catalog.<) $1 FOR UPDATE SKIP LOCKED))", {TIMESTAMPTZOID}
	},
	[Q_REMOVE_COMMANDS] = {
		"DELETE FROM dmshook.command AS c WHERE c.done_at OPERATOR(pg_catalog.<) $1"
		" AND NOT EXISTS (SELECT FROM dmshook.position AS p WHERE p.command OPERATOR(pg_catalog.=) c.id)", {TIMESTAMPTZOID}
	},
	[Q_REMOVE_COUNTS] = {
		"DELETE FROM dmshook.webhook_count AS c WHERE c.at OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) '2 days'::pg_catalog.interval)"
	},
	[Q_REMOVE_ALERTS] = {
		"DELETE FROM dmshook.alert AS a WHERE a.id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT t.id FROM dmshook.alert AS t"
		" WHERE t.at OPERATOR(pg_catalog.<) $1 FOR UPDATE SKIP LOCKED))", {TIMESTAMPTZOID}
	},
	[Q_BLANK_OLD] = {
		"SELECT b.seen, b.last, b.oldest FROM dmshook._blank_old($1, $2, $3) AS b", {INT8OID, TIMESTAMPTZOID, INT4OID}
	},
	[Q_ERASE_REST] = {
		"SELECT r.done, r.failed, r.told FROM dmshook._erase_rest("
		"ARRAY(SELECT pg_catalog.jsonb_array_elements_text($1 OPERATOR(pg_catalog.->) 'events')::pg_catalog.int8)) AS r", {JSONBOID}
	},
	[Q_SCRUB] = {
		"SELECT dmshook._scrub($1)", {INT4OID}
	},
	[Q_REMOVE_SECRETS] = {
		"SELECT dmshook._remove_expired_secrets()"
	},
	[Q_NOTICE] = {
		"SELECT dmshook._notice($1, $2, $3::pg_catalog.jsonb)", {INT4OID, TEXTOID, TEXTOID}
	},
	[Q_COUNT_EXPIRED] = {
		"SELECT dmshook._count_expired($1, $2, $3, $4)", {INT4OID, INT8OID, INT8OID, INT8ARRAYOID}
	},
	[Q_ALERTS_UNSENT] = {
		"SELECT a.id, a.at, a.webhook, w.name, a.kind, a.detail FROM dmshook.alert AS a"
		" LEFT JOIN dmshook.webhook AS w ON w.id OPERATOR(pg_catalog.=) a.webhook"
		" WHERE a.sent_to IS NULL AND a.at OPERATOR(pg_catalog.>) $1"
		" AND a.kind OPERATOR(pg_catalog.<>) ALL ('{circuit_open,circuit_closed}'::pg_catalog.text[])"
		" ORDER BY a.at DESC, a.id DESC LIMIT $2", {TIMESTAMPTZOID, INT4OID}
	},
	[Q_ALERTS_SENT] = {
		"WITH mine AS MATERIALIZED (SELECT a.id FROM dmshook.alert AS a WHERE a.id OPERATOR(pg_catalog.=) ANY ($1) FOR UPDATE SKIP LOCKED)"
		" UPDATE dmshook.alert AS a SET sent_to = $2 FROM mine WHERE a.id OPERATOR(pg_catalog.=) mine.id RETURNING a.id",
		{INT8ARRAYOID, TEXTOID}
	},
};

static SPIPlanPtr plans[N_QUERIES];

uint64
dmshook_store_run(StoreQuery query, const Datum *values, const char *nulls, bool read_only)
{
	const QueryDef *def = &query_defs[query];
	int			expected;

	if (plans[query] == NULL)
	{
		int			nargs = 0;
		SPIPlanPtr	plan;

		while (nargs < MAX_ARGS && OidIsValid(def->args[nargs]))
			nargs++;
		plan = SPI_prepare(def->sql, nargs, (Oid *) def->args);
		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed for query %d: %s", query, SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		plans[query] = plan;
	}
	expected = SPI_execute_plan(plans[query], (Datum *) values, nulls, read_only, 0);
	if (expected < 0)
		elog(ERROR, "query %d failed: %s", query, SPI_result_code_string(expected));
	return SPI_processed;
}

Datum
dmshook_store_column(uint64 row, int col, bool *isnull)
{
	bool		null;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, &null);

	if (isnull)
		*isnull = null;
	return null ? (Datum) 0 : value;
}

char *
dmshook_store_column_text(MemoryContext context, uint64 row, int col)
{
	bool		isnull;
	Datum		value = dmshook_store_column(row, col, &isnull);

	return isnull ? NULL : MemoryContextStrdup(context, TextDatumGetCString(value));
}

Jsonb *
dmshook_store_column_jsonb(MemoryContext context, uint64 row, int col)
{
	bool		isnull;
	Datum		value = dmshook_store_column(row, col, &isnull);
	MemoryContext old;
	Jsonb	   *result = NULL;

	if (!isnull)
	{
		old = MemoryContextSwitchTo(context);
		result = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(old);
	}
	return result;
}

int64
dmshook_store_column_int8(uint64 row, int col, int64 otherwise)
{
	bool		isnull;
	Datum		value = dmshook_store_column(row, col, &isnull);

	return isnull ? otherwise : DatumGetInt64(value);
}

Datum
dmshook_store_array(const Datum *elems, const bool *nulls, int n, Oid type, int len, bool byval, char align)
{
	int			dims[1] = {n};
	int			lbs[1] = {1};

	return PointerGetDatum(construct_md_array((Datum *) elems, (bool *) nulls, 1, dims, lbs,
											  type, len, byval, align));
}
