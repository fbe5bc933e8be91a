-- create_webhook(): what it writes, and everything that it refuses
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
-- what other tests left is not seen here
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.webhook_version; DELETE FROM dmshook.webhook_secret; DELETE FROM dmshook.subscription; DELETE FROM dmshook.change; DELETE FROM dmshook.command;

-- ok
SELECT webhook, signing_secret ~ '^whsec_[A-Za-z0-9+/]{43}=$' AS secret, hint
FROM dmshook.create_webhook('Accounting', 'https://example.com/hooks/dms', '{vehicle.sold, deal.*}');
SELECT name, url, events, tenant, method, auth_kind, headers, filter, enabled, state, why, owner = session_user AS mine, options
FROM dmshook.webhooks;
-- ok: everything there is
SELECT webhook, signing_secret, hint FROM dmshook.create_webhook('Web site', 'https://example.com:8443/x?y=1', '{*}', method => 'delete',
	auth => '{"kind": "api_key", "header": "X-API-Key", "key": "k-e-y"}', headers => '{"X-Dealer": "17", "X-Other": "é"}', tenant => 'Leeds',
	secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', enabled => true, options => '{
		"timeout": "10s", "connect_timeout": "1500 ms", "max_attempts": 3, "backoff": {"initial": "1s", "factor": 2, "max": "1 hour", "jitter": 0},
		"max_in_flight": 4, "ordering": "entity", "http_version": "2", "success": "200,202-204", "no_retry": "400-404,410"}');
SELECT name, events, tenant, method, auth_kind, headers, enabled, state, why, options FROM dmshook.webhooks ORDER BY name DESC LIMIT 1;
SELECT name, url, method, auth_kind, headers FROM dmshook.webhook_version ORDER BY id DESC LIMIT 2;
SELECT w.name, s.events, s.tenant, s.enabled, s.from_id = dmshook._last_event_id() + 1 AS from_now
FROM dmshook.subscription s JOIN dmshook.webhook w ON w.id = s.webhook ORDER BY s.id;
SELECT w.name, c.kind, c.by_role = session_user AS mine FROM dmshook.command c JOIN dmshook.webhook w ON w.id = c.webhook ORDER BY c.id;
-- no secret is where people look
SELECT webhook, what FROM dmshook.changes ORDER BY id;
SELECT bool_or(t::text ~ 'k-e-y|MfKQ9|"17"') AS shown FROM (
	SELECT to_jsonb(w) FROM dmshook.webhooks w UNION ALL SELECT to_jsonb(c) FROM dmshook.changes c
	UNION ALL SELECT to_jsonb(v) FROM dmshook.webhook_version v UNION ALL SELECT to_jsonb(w) FROM dmshook.webhook w) AS t (t);
-- ok: options at their default are not kept, tenant '' is none, method NULL is refused below
SELECT count(*) FROM dmshook.create_webhook('plain', 'https://example.com/', '{vehicle.sold}', tenant => '', options => '{"timeout": null}');
SELECT tenant, options FROM dmshook.webhooks WHERE name = 'plain';

-- fail: names
SELECT dmshook.create_webhook('Accounting', 'https://example.com/', '{vehicle.sold}');
SELECT dmshook.create_webhook('', 'https://example.com/', '{vehicle.sold}');
SELECT dmshook.create_webhook(NULL, 'https://example.com/', '{vehicle.sold}');
SELECT dmshook.create_webhook(' x', 'https://example.com/', '{vehicle.sold}');
SELECT dmshook.create_webhook(E'x\ny', 'https://example.com/', '{vehicle.sold}');
SELECT dmshook.create_webhook(repeat('x', 101), 'https://example.com/', '{vehicle.sold}');

-- fail: URLs
SELECT dmshook.create_webhook('x', NULL, '{vehicle.sold}');
SELECT dmshook.create_webhook('x', '', '{vehicle.sold}');
SELECT dmshook.create_webhook('x', 'http://example.com/', '{vehicle.sold}');
SELECT dmshook.create_webhook('x', 'ftp://example.com/', '{vehicle.sold}');
SELECT dmshook.create_webhook('x', 'https://jane:secret@example.com/', '{vehicle.sold}');
SELECT dmshook.create_webhook('x', 'https:///hooks', '{vehicle.sold}');
SELECT dmshook.create_webhook('x', 'example.com/hooks', '{vehicle.sold}');
SELECT dmshook.create_webhook('x', 'https://example.com/#top', '{vehicle.sold}');
SELECT dmshook.create_webhook('x', E'https://example.com/\r\nx: y', '{vehicle.sold}');

-- fail: events
SELECT dmshook.create_webhook('x', 'https://example.com/', NULL);
SELECT dmshook.create_webhook('x', 'https://example.com/', '{}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold, vehicle.sould}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicel.*}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{something.completely_different}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{Vehicle}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold, NULL}');

-- fail: method, filter, secret
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', method => 'SEND');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', method => NULL);
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', filter => '$.data.record.price');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', secret => 'my secret');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', secret => 'whsec_c2hvcnQ=');

-- fail: auth; no value is shown
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '"basic"');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "digest"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "oauth2", "client_secret": "hush"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "basic", "username": "jane"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "basic", "username": "ja:ne", "password": "hush"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "basic", "user": "jane", "password": "hush"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "basic", "username": "jane", "password": 7}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "bearer", "token": ""}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "bearer", "token": "hush hush"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "bearer", "token": "hush\r\nx: y"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "api_key", "header": "Content-Length", "key": "hush"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "api_key", "header": "X Key", "key": "hush"}');

-- fail: headers
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '["X-A: hush"]');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"X-A": 1}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"X-A": "hush\r\nX-B: y"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"X-A\r\nX-B": "hush"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"X-A: hush": "y"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"": "hush"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"X-A": ""}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"X-A": "a", "x-a": "b"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"Host": "example.org"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"Webhook-Id": "1"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"Dmshook-Test": "1"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"Authorization": "Token hush"}',
	auth => '{"kind": "bearer", "token": "hush"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => (SELECT jsonb_object_agg('X-' || i, 'y') FROM generate_series(1, 51) i));
-- ok: one's own authorization, where auth sets none
SELECT webhook FROM dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"Authorization": "Token hush"}');

-- nothing of all that failed has left a trace
SELECT name FROM dmshook.webhooks ORDER BY name;
SELECT count(*) FROM dmshook.webhook_secret;
ROLLBACK;
