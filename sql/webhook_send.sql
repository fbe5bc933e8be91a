-- redeliver, redeliver_dead, replay, cancel, cancel_all: what they order
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
-- what other tests left is not seen here
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.change; DELETE FROM dmshook.command;
SELECT setval('dmshook.event_id', greatest(dmshook._last_event_id(), 1000000)) > 0;
SELECT count(*) FROM dmshook.create_webhook('A', 'https://example.com/a', '{vehicle.*}', enabled => true);
SELECT count(*) FROM dmshook.create_webhook('B', 'https://example.com/b', '{deal.*}', enabled => true, tenant => 'Leeds');
CREATE TEMP TABLE hook AS SELECT name, id FROM dmshook.webhook;
-- ids from 2000001 on, so that message ids are the same in every run
INSERT INTO dmshook.event (id, nonce, at, type, tenant, entity, key, who, source, data)
	SELECT 2000000 + i, i, '2026-11-23 07:00:00+00'::timestamptz + i * interval '1 minute', t, CASE WHEN i < 5 THEN 'Leeds' ELSE 'York' END,
		split_part(t, '.', 1), jsonb_build_object('id', i), '{}', '{}', '{}'
	FROM unnest('{vehicle.sold,vehicle.sold,vehicle.added,vehicle.sold,vehicle.sold,deal.created,vehicle.sold,vehicle.sold}'::text[]) WITH ORDINALITY AS x (t, i);
CREATE FUNCTION pg_temp.msg(i int) RETURNS text LANGUAGE sql AS 'SELECT dmshook._message_id(2000000 + i, i)';
CREATE FUNCTION pg_temp.attempted(webhook text, i int, attempt_id bigint, final "char", at timestamptz = '2026-11-23 09:00+00') RETURNS void LANGUAGE sql AS $$
	INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, final, status)
	SELECT attempt_id, w.id, 2000000 + i, i, at, w.version, 1, 'd', CASE WHEN final = 'd' THEN 'o' WHEN final = 'c' THEN NULL ELSE 'h' END, final, CASE WHEN final = 'd' THEN 200 ELSE 500 END
	FROM dmshook.webhook w WHERE w.name = webhook
$$;
-- 1 delivered, 2 given up, 3 given up later, 4 cancelled, 5 retrying, 6 not for A, 7 waiting, 8 given up, then delivered
SELECT pg_temp.attempted('A', 1, 11, 'd'), pg_temp.attempted('A', 2, 12, 'x'), pg_temp.attempted('A', 3, 13, 'x', '2026-11-23 10:00+00'),
	pg_temp.attempted('A', 4, 14, 'c'), pg_temp.attempted('A', 5, 15, NULL), pg_temp.attempted('A', 8, 18, 'x'), pg_temp.attempted('A', 8, 19, 'd');
INSERT INTO dmshook.queue (event, webhook, due_at, attempts, kind, entity) SELECT 2000005, id, '2026-11-23 11:00+00', 1, 'd', 5 FROM hook WHERE name = 'A';
SELECT webhook, (entity_key->>'id')::int AS i, state FROM dmshook.deliveries ORDER BY 2, 1;
CREATE TEMP VIEW ordered AS SELECT h.name, c.kind, c.event, c.upto, c.args FROM dmshook.command c LEFT JOIN hook h ON h.id = c.webhook
	WHERE c.kind <> 'reload' ORDER BY c.id;

-- ok
SELECT dmshook.redeliver('A', pg_temp.msg(i)) FROM unnest('{1,2,4,8}'::int[]) i;
SELECT dmshook.redeliver('A', '  ' || pg_temp.msg(3) || ' ');
TABLE ordered;
-- fail: open, of another, of nobody, no such, none at all
SELECT dmshook.redeliver('A', pg_temp.msg(5));
SELECT dmshook.redeliver('A', pg_temp.msg(7));
SELECT dmshook.redeliver('A', pg_temp.msg(6));
SELECT dmshook.redeliver('B', pg_temp.msg(1));
SELECT dmshook.redeliver('A', dmshook._message_id(2000001, 99));
SELECT dmshook.redeliver('A', dmshook._message_id(3000001, 1));
SELECT dmshook.redeliver('A', 'msg_1');
SELECT dmshook.redeliver('A', NULL);
SELECT dmshook.redeliver('C', pg_temp.msg(1));
DELETE FROM dmshook.command;

-- the dead
SELECT dmshook.redeliver_dead('A');
SELECT dmshook.redeliver_dead();
SELECT dmshook.redeliver_dead('A', since => '2026-11-23 09:30+00');
SELECT dmshook.redeliver_dead('A', event_types => '{vehicle.sold}');
SELECT dmshook.redeliver_dead('A', event_types => '{vehicle.*}', since => '2026-11-23 09:30+00');
SELECT dmshook.redeliver_dead('B');
SELECT dmshook.redeliver_dead('A', since => '2030-01-01 00:00+00');
TABLE ordered;
-- fail
SELECT dmshook.redeliver_dead('C');
SELECT dmshook.redeliver_dead('A', event_types => '{vehicle.solt}');
DELETE FROM dmshook.command;

-- replay: what is open is left out, and what is not for it
SELECT dmshook.replay('A', '2026-11-23 07:00+00');
SELECT dmshook.replay('A', '2026-11-23 07:00+00', missing => true);
SELECT dmshook.replay('A', '2026-11-23 07:02+00', '2026-11-23 07:03+00');
SELECT dmshook.replay('A', '2026-11-23 07:00+00', '2026-11-24 07:00+00', event_types => '{vehicle.added}');
SELECT dmshook.replay('A', '2026-11-22 07:00+00', '2026-11-22 08:00+00');
-- another tenant's
SELECT dmshook.replay('B', '2026-11-23 07:00+00');
SELECT name, kind, upto, args - 'until' AS args FROM ordered;
-- fail
SELECT dmshook.replay('A', NULL);
SELECT dmshook.replay('A', '2026-11-23 07:00+00', '2026-11-22 07:00+00');
SELECT dmshook.replay('A', '2026-11-23 07:00+00', event_types => '{}');
SELECT dmshook.replay('C', '2026-11-23 07:00+00');
DELETE FROM dmshook.command;

-- cancel
SELECT i, dmshook.cancel('A', pg_temp.msg(i)) FROM unnest('{1,2,5,7}'::int[]) i;
TABLE ordered;
-- fail
SELECT dmshook.cancel('A', pg_temp.msg(6));
SELECT dmshook.cancel('A', 'x');
SELECT dmshook.cancel('C', pg_temp.msg(1));
DELETE FROM dmshook.command;
-- of those that were there; the log goes to 2000008, the sequence was at 1000000
SELECT setval('dmshook.event_id', 2000008) > 0;
SELECT dmshook.cancel_all('A');
SELECT dmshook.cancel_all('B');
TABLE ordered;
-- fail
SELECT dmshook.cancel_all('C');
SELECT webhook, regexp_replace(what, ' to .*', ' to ...') AS what FROM dmshook.changes WHERE what ~ 'redeliver|replay|cancel' ORDER BY id;
ROLLBACK;
