-- enable, disable, pause, resume, drop: what each says and writes
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
-- what other tests left is not seen here
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.change; DELETE FROM dmshook.command;
-- events of this test have ids far above those of others; nothing of it is committed
CREATE FUNCTION pg_temp.happen(n int, type text = 'vehicle.sold', tenant text = NULL) RETURNS void LANGUAGE sql AS $$
	SELECT setval('dmshook.event_id', greatest(dmshook._last_event_id(), 1000000));
	INSERT INTO dmshook.event (id, nonce, at, type, tenant, entity, key, who, source, data)
	SELECT nextval('dmshook.event_id'), 7, clock_timestamp(), type, tenant, split_part(type, '.', 1), jsonb_build_object('id', i), '{}', '{}', '{}' FROM generate_series(1, n) i
$$;
CREATE TEMP VIEW now_is AS SELECT name, enabled, state, why FROM dmshook.webhooks;
CREATE TEMP VIEW holds AS SELECT s.from_id - min(s.from_id) OVER (ORDER BY s.id) AS from_id, s.to_id - s.from_id AS ids, s.enabled
FROM (SELECT *, lead(from_id) OVER (ORDER BY id) AS to_id FROM dmshook.subscription) s;
SELECT count(*) FROM dmshook.create_webhook('A', 'https://example.com/a', '{vehicle.*}', tenant => 'Leeds');
TABLE now_is;
-- what happened before it was enabled for the first time was not skipped: it was not for it
SELECT pg_temp.happen(3, tenant => 'Leeds');
SELECT dmshook.enable_webhook('A');
SELECT dmshook.enable_webhook('A');
TABLE now_is;
SELECT pg_temp.happen(2, tenant => 'Leeds');
SELECT dmshook.disable_webhook('A', 'stocktaking');
SELECT dmshook.disable_webhook('A');
TABLE now_is;
-- while it is disabled: four for it, one of another type, one of another tenant
SELECT pg_temp.happen(4, tenant => 'Leeds');
SELECT pg_temp.happen(1, 'deal.created', 'Leeds');
SELECT pg_temp.happen(1, tenant => 'York');
SELECT dmshook.pause_webhook('A');
SELECT dmshook.enable_webhook('A');
TABLE now_is;
SELECT dmshook.pause_webhook('A');
SELECT pg_temp.happen(1, tenant => 'Leeds');
SELECT why, count(*) FROM dmshook.waiting GROUP BY why;
SELECT dmshook.resume_webhook('A');
SELECT dmshook.resume_webhook('A');
TABLE now_is;
SELECT * FROM holds;
-- paused and disabled, each apart
SELECT dmshook.pause_webhook('A');
SELECT dmshook.disable_webhook('A');
SELECT why = 'by ' || session_user AS by_me FROM now_is;
SELECT dmshook.enable_webhook('A');
SELECT dmshook.disable_webhook('A');
SELECT dmshook.resume_webhook('A');
SELECT dmshook.pause_webhook('A');
-- dropped: the name is free, the secrets are gone, the rest stays
SELECT dmshook.drop_webhook('A');
SELECT count(*) FROM dmshook.webhooks;
SELECT count(*) FROM dmshook.webhook_secret;
SELECT count(*) FROM dmshook.waiting;
SELECT name, dropped_at IS NOT NULL AS dropped, enabled FROM dmshook.webhook;
SELECT webhook, what FROM dmshook.changes WHERE what !~ 'created' ORDER BY id;
SELECT kind, count(*) FROM dmshook.command GROUP BY kind ORDER BY kind;
-- ok: a new one of that name is another one
SELECT webhook FROM dmshook.create_webhook('A', 'https://example.com/a', '{vehicle.*}', enabled => true);
SELECT count(*) FROM dmshook.waiting;
SELECT pg_temp.happen(1);
SELECT count(*) FROM dmshook.waiting;
SELECT dmshook.drop_webhook('A');
-- fail
SELECT dmshook.drop_webhook('A');
SELECT dmshook.enable_webhook('A');
SELECT count(*) FROM dmshook.create_webhook('Accounting', 'https://example.com/a', '{vehicle.*}');
SELECT dmshook.enable_webhook('Acounting');
SELECT dmshook.disable_webhook('accounting');
SELECT dmshook.pause_webhook('Web site');
SELECT dmshook.resume_webhook('');
SELECT dmshook.drop_webhook(NULL);
ROLLBACK;
