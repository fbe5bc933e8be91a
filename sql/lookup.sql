-- what a message id, and what failures of late, are found by: the plans, for large logs
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set ON_ERROR_ROLLBACK on
BEGIN;
DELETE FROM dmshook.event; DELETE FROM dmshook.attempt;
SELECT count(*) FROM dmshook.create_webhook('lookup', 'https://example.com/', '{*}', enabled => true);
INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	SELECT 5000000 + i, -i, '2026-11-23 07:00:00+00'::timestamptz + i * interval '1 minute', 'vehicle.sold', 'vehicle', jsonb_build_object('id', i), '{}', '{}', '{}' FROM generate_series(1, 20) i;
INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, final)
	SELECT e.id, w.id, e.id, e.nonce, e.at, w.version, 1, 'd', CASE WHEN e.id % 5 = 0 THEN 'h' ELSE 'o' END, CASE WHEN e.id % 5 = 0 THEN 'x' ELSE 'd' END FROM dmshook.event e, dmshook.webhook w WHERE w.name = 'lookup';
-- conditions of the scans by index of a query's plan
CREATE FUNCTION pg_temp.by_index(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ 'Index Cond: .*= (.500000[0-9]|NULL)|attempt_failed|One-Time Filter: false' THEN
			RETURN NEXT btrim(line, ' ->');
		END IF;
	END LOOP;
END
$$;
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off;
SELECT dmshook._message_id(5000007, -7) AS id \gset
SELECT pg_temp.by_index('SELECT * FROM dmshook.events WHERE message_id = ' || quote_literal(:'id'));
SELECT pg_temp.by_index('SELECT * FROM dmshook.deliveries WHERE ' || quote_literal(:'id') || ' = message_id');
SELECT pg_temp.by_index('SELECT * FROM dmshook.attempts WHERE message_id = ' || quote_literal(:'id'));
SELECT pg_temp.by_index('SELECT * FROM dmshook.dead_letters WHERE webhook = ''lookup'' AND message_id = ' || quote_literal(:'id'));
PREPARE named(text) AS SELECT message_id, state FROM dmshook.deliveries WHERE message_id = $1;
SELECT pg_temp.by_index(format('EXECUTE named(%L)', :'id'));
-- and they are right: what there is, another nonce, what is no message id
EXECUTE named(:'id');
EXECUTE named(dmshook._message_id(5000007, -8));
EXECUTE named('msg_');
EXECUTE named(NULL);
SELECT pg_temp.by_index('SELECT * FROM dmshook.events WHERE message_id = ''msg_''');
SELECT e.sequence FROM dmshook.events e JOIN (SELECT dmshook._message_id(5000003, -3) AS m) AS x ON x.m = e.message_id AND e.message_id <> :'id';
SELECT count(*) FROM dmshook.attempts WHERE message_id = :'id' OR message_id = dmshook._message_id(5000009, -9);
-- others' functions and operators are let alone
CREATE FUNCTION pg_temp._message_id(id bigint, nonce bigint) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'msg_0000000000100000000001' $$;
SELECT count(*) FROM dmshook.event WHERE pg_temp._message_id(id, nonce) = 'msg_0000000000100000000001';
SELECT count(*) FROM dmshook.event WHERE dmshook._message_id(id, nonce) > 'msg_';
-- failures, of a time
SELECT pg_temp.by_index($$SELECT webhook, at, outcome, error FROM dmshook.attempts WHERE outcome <> 'ok' AND at > '2026-11-23 07:12:00+00' ORDER BY at$$);
SELECT pg_temp.by_index($$SELECT webhook, at, outcome, error FROM dmshook.attempts WHERE outcome = 'timeout' AND at > '2026-11-23 07:12:00+00'$$);
SELECT pg_temp.by_index($$SELECT webhook, at, outcome, error FROM dmshook.attempts WHERE at > '2026-11-23 07:12:00+00'$$);
-- how few there are of many the planner knows by statistics, of the very same expression
SELECT regexp_replace(pg_get_expr(i.indpred, i.indrelid), '[\s()]', '', 'g') = regexp_replace((pg_get_statisticsobjdef_expressions(s.oid))[1], '[\s()]', '', 'g') || '<>''ok''::text' AS same
	FROM pg_index i, pg_statistic_ext s WHERE i.indexrelid = 'dmshook.attempt_failed'::regclass AND s.stxname = 'attempt_outcome';
SELECT sequence FROM dmshook.attempts WHERE outcome <> 'ok' AND at > '2026-11-23 07:12:00+00' ORDER BY at;
ROLLBACK;
