-- the views: every state that a delivery may be in, attempts with what was sent, and the rest
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
SET TimeZone = 'UTC';
SET DateStyle = ISO;
SET jit = off;
BEGIN;
-- what other tests left is not seen here
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.change; DELETE FROM dmshook.command;
SELECT setval('dmshook.event_id', 1000000);
SELECT count(*) FROM dmshook.create_webhook('A', 'https://example.com/a', '{vehicle.*}', enabled => true, auth => '{"kind": "basic", "username": "u", "password": "hush"}',
	headers => '{"X-Dealer": "hush"}');
SELECT count(*) FROM dmshook.create_webhook('Leeds', 'https://example.com/l', '{*}', enabled => true, tenant => 'Leeds', method => 'PUT');
SELECT count(*) FROM dmshook.create_webhook('G', 'https://example.com/g?a=b', '{deal.*}', enabled => true, method => 'GET');
CREATE TEMP TABLE hook AS SELECT name, id, version FROM dmshook.webhook;
-- 1..9 are of the past, 11.. are not read yet
INSERT INTO dmshook.event (id, nonce, at, type, tenant, old_tenant, entity, key, who, source, data)
	SELECT 1000000 + i, i, '2026-11-23 07:00:00+00'::timestamptz + i * interval '1 minute', t, CASE WHEN i % 2 = 0 THEN 'Leeds' ELSE 'York' END,
		CASE WHEN i = 11 THEN 'Leeds' END, split_part(t, '.', 1), jsonb_build_object('id', i), json_build_object('name', 'jane.smith', 'role', 'dms', 'application', 'dms-web'), '{"schema":"public"}',
		json_build_object('entity', split_part(t, '.', 1), 'key', json_build_object('id', i), 'record', json_build_object('price', 1000 + i), 'previous', json_build_object('price', 0))
	FROM unnest('{vehicle.sold,vehicle.sold,vehicle.added,deal.created,vehicle.sold,vehicle.sold,vehicle.sold,vehicle.sold,vehicle.sold,webhook.failing,vehicle.sold,deal.created}'::text[])
		WITH ORDINALITY AS x (t, i);
SELECT setval('dmshook.event_id', 1000012);
UPDATE dmshook.position SET low = 1000010 WHERE webhook = 0;
CREATE FUNCTION pg_temp.attempted(hook text, i int, attempt_id bigint, no int, kind "char", outcome "char", final "char", status int, error text = NULL, body text = NULL) RETURNS void LANGUAGE sql AS $$
	INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, final, status, http_version, error, hint, body, duration_us, dns_us, connect_us,
		tls_us, first_byte_us, tls_version, local_address, remote_address, response_headers, response_body)
	SELECT attempt_id, h.id, CASE WHEN i > 0 THEN 1000000 + i ELSE 0 END, i, '2026-11-23 09:00:00.25+00'::timestamptz + attempt_id * interval '1 second', h.version, no, kind, outcome, final, status,
		CASE WHEN status IS NOT NULL THEN 11 END, error, 'hint: ' || error, body, 12345, 1000, 2000, 3000, 12000, 'TLSv1.3', '10.0.0.1', '192.0.2.1', 'content-type: text/plain', 'thanks'
	FROM hook h WHERE h.name = hook
$$;
SELECT FROM pg_temp.attempted('A', 1, 1, 1, 'd', 'o', 'd', 200);								-- delivered at once
SELECT FROM pg_temp.attempted('A', 2, 2, 1, 'd', 'h', NULL, 500, 'the receiver answered 500');
SELECT FROM pg_temp.attempted('A', 2, 3, 2, 'd', 'o', 'd', 204);										-- at the second try
SELECT FROM pg_temp.attempted('A', 3, 4, 1, 'd', 't', NULL, NULL, 'no response in 15 s');
SELECT FROM pg_temp.attempted('A', 3, 5, 2, 'd', 'h', 'x', 503, 'the receiver answered 503');			-- given up
SELECT FROM pg_temp.attempted('A', 5, 6, 1, 'd', 'h', NULL, 500, 'the receiver answered 500');	-- retrying
SELECT FROM pg_temp.attempted('A', 6, 7, 0, 'd', NULL, 'c', NULL);								-- cancelled before it was tried
SELECT FROM pg_temp.attempted('A', 7, 8, 1, 'd', 'h', 'x', 500, 'the receiver answered 500');
SELECT FROM pg_temp.attempted('A', 7, 9, 2, 'r', 'o', 'd', 200);										-- given up, then sent by hand
SELECT FROM pg_temp.attempted('A', 8, 10, 1, 'd', 'o', 'd', 200);								-- delivered, being sent again
SELECT FROM pg_temp.attempted('A', 9, 11, 1, 'd', 'o', 'd', 200, body => '{"as": "it was then"}');
SELECT FROM pg_temp.attempted('G', 4, 12, 1, 'd', 'o', 'd', 200);
SELECT FROM pg_temp.attempted('A', 0, 13, 1, 't', 'o', NULL, 200, body => '{"type": "webhook.test", "test": true}');
INSERT INTO dmshook.queue (event, webhook, due_at, attempts, kind, entity)
	SELECT 1000000 + i, id, due, n, kind, i FROM hook, (VALUES (5, '2026-11-23 10:00+00'::timestamptz, 1, 'd'::"char"), (8, '2026-11-23 08:30+00', 0, 'r')) AS q (i, due, n, kind) WHERE name = 'A';
-- Leeds: up to 8 was cancelled where it waited
INSERT INTO dmshook.skip SELECT id, 1000008, 'cancelled', '2026-11-23 09:30+00' FROM hook WHERE name = 'Leeds';
INSERT INTO dmshook.position SELECT id, 0, 1000003 FROM hook WHERE name = 'Leeds';

SELECT webhook, (entity_key->>'id')::int AS i, event_type, tenant, state, attempts, status, error, created_at, last_attempt_at, next_attempt_at, finished_at
FROM dmshook.deliveries ORDER BY 1, 2;
SELECT webhook, (entity_key->>'id')::int AS i, payload FROM dmshook.deliveries WHERE entity_key IN ('{"id": 1}', '{"id": 4}', '{"id": 9}', '{"id": 12}') ORDER BY 1, 2;
-- one by its message id, one by its key, the latest
SELECT webhook, state FROM dmshook.deliveries WHERE message_id = dmshook._message_id(1000007, 7);
SELECT webhook, state FROM dmshook.deliveries WHERE sequence = dmshook.sequence_of(dmshook._message_id(1000007, 7));
SELECT dmshook.sequence_of('msg_1');
SELECT webhook, state FROM dmshook.deliveries WHERE event_type = 'vehicle.sold' AND entity_key = '{"id": 2}' ORDER BY 1;
SELECT webhook, (entity_key->>'id')::int AS i FROM dmshook.deliveries ORDER BY created_at DESC, webhook LIMIT 3;
-- _open, _finished, _ahead and _skipped say the same in their own way
CREATE TEMP VIEW parts AS
	SELECT webhook, sequence, state, attempts, status, error, last_attempt_at, next_attempt_at, finished_at, payload FROM dmshook._open
	UNION ALL SELECT webhook, sequence, state, attempts, status, error, last_attempt_at, next_attempt_at, finished_at, payload FROM dmshook._finished
	UNION ALL SELECT webhook, sequence, state, attempts, status, error, last_attempt_at, next_attempt_at, finished_at, payload FROM dmshook._ahead
	UNION ALL SELECT webhook, sequence, state, attempts, status, error, last_attempt_at, next_attempt_at, finished_at, payload FROM dmshook._skipped;
CREATE TEMP VIEW whole AS SELECT webhook, sequence, state, attempts, status, error, last_attempt_at, next_attempt_at, finished_at, payload FROM dmshook.deliveries;
(TABLE whole EXCEPT ALL TABLE parts) UNION ALL (TABLE parts EXCEPT ALL TABLE whole);
SELECT count(*) FROM whole JOIN hook ON name = webhook WHERE dmshook._state(id, sequence) IS DISTINCT FROM state;

SELECT webhook, (entity_key->>'id')::int AS i, state, attempts, status, error, hint, last_attempt_at, finished_at FROM dmshook.dead_letters;
SELECT webhook, (entity_key->>'id')::int AS i, since, next_attempt_at, why FROM dmshook.waiting ORDER BY 1, 2;
-- why it waits, when nothing is sent
SELECT count(*) FROM (SELECT dmshook.pause_webhook('A'), dmshook.disable_webhook('Leeds', 'stocktaking')) AS x;
SELECT webhook, why, count(*) FROM dmshook.waiting GROUP BY webhook, why ORDER BY 1, 2;

SELECT webhook, event_type, attempt, kind, outcome, status, at, method, url, duration_ms, error, hint FROM dmshook.attempts ORDER BY id;
SELECT *, message_id AS id FROM (SELECT * FROM dmshook.attempts WHERE webhook = 'A' ORDER BY id DESC LIMIT 1) AS test \gx
SELECT payload, jsonb_pretty(request_headers) AS request_headers FROM dmshook.attempts WHERE id = 1 \gx
SELECT url, payload, request_headers ? 'content-type' AS content_type FROM dmshook.attempts WHERE webhook = 'G' \gx
-- what was sent then: the url of then, also when it was changed since
SELECT count(*) FROM dmshook.alter_webhook('A', url => 'https://example.org/new', auth => '{"kind": "none"}', headers => '{"X-Dealer": "hush"}', new_name => 'Alpha');
SELECT webhook, url, request_headers->>'authorization' AS authorization, request_headers->>'dmshook-webhook' AS name FROM dmshook.attempts WHERE id = 1;

SELECT * FROM dmshook.events WHERE sequence = 1000011 \gx
SELECT name, state, why FROM dmshook.webhooks ORDER BY 1;
INSERT INTO dmshook.webhook_state (webhook, failures, failing_since, last_error) SELECT id, 3, '2026-11-23 09:00+00', 'the receiver answered 500' FROM hook WHERE name = 'G';
SELECT name, state, why FROM dmshook.webhooks WHERE name = 'G';
-- a dropped one: its log stays under its name; what waited is gone once the dispatcher has carried it out
SELECT count(*) FROM (SELECT dmshook.drop_webhook('Leeds')) AS x;
UPDATE dmshook.skip SET upto = 9223372036854775807, reason = 'dropped';
SELECT webhook, (entity_key->>'id')::int AS i, state FROM dmshook.deliveries WHERE webhook = 'Leeds' ORDER BY 2;
(TABLE whole EXCEPT ALL TABLE parts) UNION ALL (TABLE parts EXCEPT ALL TABLE whole);
SELECT webhook, what FROM dmshook.changes ORDER BY id;
SELECT count(*) FROM dmshook.dispatchers;
ROLLBACK;

-- everything that people see says what it is
SELECT c.oid::regclass AS view FROM pg_class c WHERE c.relnamespace = 'dmshook'::regnamespace AND c.relkind IN ('r', 'v', 'p') AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT p.oid::regprocedure AS function FROM pg_proc p WHERE p.pronamespace = 'dmshook'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
-- nobody was granted anything
SELECT c.oid::regclass AS relation FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'dmshook'::regnamespace AND a.grantee = 0;
SELECT p.oid::regprocedure AS function FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE p.pronamespace = 'dmshook'::regnamespace AND a.grantee = 0;
-- SECURITY DEFINER never without a search_path of its own
SELECT p.oid::regprocedure AS function FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'dmshook'::regnamespace AND p.prosecdef AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%');
