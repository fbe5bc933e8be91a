-- preview(), test_webhook() where it is refused, signing_secret()
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
SET application_name = 'test';
BEGIN;
-- what other tests left is not seen here
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.change; DELETE FROM dmshook.command;
SELECT count(*) FROM dmshook.create_webhook('A', 'https://example.com/a', '{vehicle.*}', auth => '{"kind": "bearer", "token": "hush"}',
	headers => '{"X-Dealer": "hush"}', secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
SELECT count(*) FROM dmshook.create_webhook('Leeds', 'https://example.com/l', '{vehicle.*}', tenant => 'Leeds', method => 'PUT');
SELECT count(*) FROM dmshook.create_webhook('G', 'https://example.com/g?a=b', '{vehicle.*}', method => 'GET', auth => '{"kind": "api_key", "header": "X-Key", "key": "hush"}');
INSERT INTO dmshook.event (id, nonce, at, type, tenant, entity, key, who, source, data) VALUES
	(1000001, 1, '2026-11-23 07:25:00.123456+00', 'vehicle.sold', 'Leeds', 'vehicle', '{"id": 41}', '{"name":"jane"}', '{"table":"vehicle"}', '{"entity":"vehicle","key":{"id":41}}'),
	(1000002, 2, '2026-11-23 07:26:00+00', 'vehicle.sold', 'York', 'vehicle', '{"id": 42}', '{"name":"jane"}', '{"table":"vehicle"}', '{"entity":"vehicle","key":{"id":42}}'),
	(1000003, 3, '2026-11-23 07:27:00+00', 'vehicle.added', 'York', 'vehicle', '{"id": 43}', '{"name":"jane"}', '{"table":"vehicle"}', '{"entity":"vehicle","key":{"id":43}}');

-- the latest of the type, or the one with that key
SELECT method, url, jsonb_pretty(headers - 'webhook-timestamp') AS headers, body FROM dmshook.preview('A', 'vehicle.sold') \gx
SELECT body::jsonb->'data'->'key' AS key FROM dmshook.preview('A', 'vehicle.sold', '{"id": 41}');
-- a webhook of one tenant shows nothing of another's
SELECT method, body::jsonb->'data'->'key' AS key FROM dmshook.preview('Leeds', 'vehicle.sold');
SELECT body FROM dmshook.preview('Leeds', 'vehicle.sold', '{"id": 42}');
-- made up: the test event, and types that have none in the log
SELECT body::jsonb->>'type' AS type, body::jsonb->'test' AS test, body::jsonb->'data' AS data FROM dmshook.preview('A');
SELECT body::jsonb->>'type' AS type, body::jsonb->>'tenant' AS tenant, body::jsonb->'data' AS data FROM dmshook.preview('Leeds', 'vehicle.added');
-- no body
SELECT method, url, body, headers->>'x-key' AS key FROM dmshook.preview('G', 'vehicle.sold');
-- fail
SELECT dmshook.preview('B');
SELECT dmshook.preview('A', 'vehicle.soled');
SELECT dmshook.preview('A', NULL);
SELECT dmshook.preview('A', 'vehicle.sold', '{"id": 99}');

-- fail: not committed
SELECT * FROM dmshook.test_webhook('A');
SELECT * FROM dmshook.test_webhook('B');

-- ok, and it is written down
SELECT dmshook.signing_secret('A');
SELECT webhook, what, by_role = session_user AS mine FROM dmshook.changes ORDER BY id DESC LIMIT 1;
-- fail
SELECT dmshook.signing_secret('B');
ROLLBACK;

-- fail: committed, but nobody is there to send
SELECT webhook FROM dmshook.create_webhook('webhook_try', 'https://example.com/a', '{vehicle.*}');
SELECT * FROM dmshook.test_webhook('webhook_try');
SELECT * FROM dmshook.test_webhook('webhook_try', timeout => '-1 second');
SELECT * FROM dmshook.test_webhook('webhook_try', 'vehicle.soled');
SELECT * FROM dmshook.test_webhook('webhook_try', 'vehicle.sold', '{"no": "such"}');
-- fail: altered in this transaction, also in a savepoint of it
BEGIN;
SAVEPOINT s;
SELECT dmshook.alter_webhook('webhook_try', method => 'PUT');
RELEASE s;
SELECT * FROM dmshook.test_webhook('webhook_try');
ROLLBACK;
SELECT dmshook.drop_webhook('webhook_try');
