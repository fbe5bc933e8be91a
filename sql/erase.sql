-- erase(): what is blanked, what is cancelled, what is refused; without a dispatcher (test/t/075_erase.pl has one)
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.change; DELETE FROM dmshook.command; DELETE FROM dmshook.attempt; DELETE FROM dmshook.scrub; DELETE FROM dmshook.position; DELETE FROM dmshook.queue;
CREATE ROLE reg_eraser;
SELECT count(dmshook.grant_admin('reg_eraser'));
SELECT count(*) FROM dmshook.create_webhook('A', 'https://example.com/a', '{*}', enabled => true);
SELECT count(*) FROM dmshook.create_webhook('T', 'https://example.com/a', '{job.*}', options => '{"numbers": "string"}', enabled => true);
SELECT setval('dmshook.event_id', dmshook._last_event_id() + 10) AS last \gset
INSERT INTO dmshook.position VALUES (0, 0, :last - 3) ON CONFLICT (webhook, command) DO UPDATE SET low = EXCLUDED.low;
INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	SELECT :last - 9 + i, i, '2026-11-23 07:00+00', t, split_part(t, '.', 1), k::jsonb, format('{"name":"%s","role":"dms","application":null}', u)::json, '{}', format('{"entity":"%s","key":%s,"record":%s,"previous":{"x":"secret"}}', split_part(t, '.', 1), k, r)::json
	FROM (VALUES (1, 'customer.created', '{"id": 42}', 'jane', '{"email": "ann@example.com"}'),
		(2, 'customer.updated', '{"id": 42}', 'jane', '{"email": "ann@example.org"}'),
		(3, 'customer.created', '{"id": "42"}', 'jane', '{"email": "not.ann"}'),
		(4, 'deal.created', '{"id": 1}', 'jane', '{"customer": {"id": 42, "email": "ann@example.com"}, "price": "many"}'),
		(5, 'deal.created', '{"id": 2}', 'ann', '{"customer": {"id": 43}, "price": 5}'),
		(6, 'deal.completed', '{"id": 1}', 'jane', '{"customer": {"id": 42}, "price": 7}'),
		(7, 'customer.updated', '{"id": 42}', 'jane', '{"email": "ann@example.net"}')) v (i, t, k, u, r);
-- 1 delivered, 2 delivered, 4 given up, 5 delivered, 6 retrying; 7 waits in the log
INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, final, status, response_headers, response_body, error)
	SELECT i, w.id, :last - 9 + i, i, now(), w.version, 1, 'd', CASE f WHEN 'd' THEN 'o' ELSE 'h' END::"char", f::"char", 200, 'x: y', 'thanks', CASE f WHEN 'd' THEN NULL ELSE 'HTTP 500' END
	FROM dmshook.webhook w, (VALUES (1, 'd'), (2, 'd'), (3, 'd'), (4, 'x'), (5, 'd'), (6, NULL)) v (i, f) WHERE w.name = 'A';
INSERT INTO dmshook.queue (event, webhook, due_at, attempts, kind, entity) SELECT :last - 9 + 6, id, '2026-11-23 11:00+00', 1, 'd', 5 FROM dmshook.webhook WHERE name = 'A';
-- tests: of the customer, of a deal that matches, of another deal; and one that cannot be judged
INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, status, response_body, body)
	SELECT 10 + i, w.id, 0, i, now(), w.version, 1, 't', 'o', 200, 'thanks', b FROM dmshook.webhook w, (VALUES
		(1, 'A', '{"data": {"entity": "customer", "key": {"id": 42}, "record": {}}}'), (2, 'A', '{"data": {"entity": "deal", "key": {"id": 1}, "record": {"customer": {"id": 42}}}}'),
		(3, 'A', '{"data": {"entity": "deal", "key": {"id": 2}, "record": {"customer": {"id": 43}}}}'), (4, 'T', '{"data": {"entity": "job", "key": {"id": 9}, "record": {}}}')) v (i, n, b) WHERE w.name = v.n;

-- fail
SELECT dmshook.erase('customer', NULL);
SELECT dmshook.erase('customer', '[42]');
SELECT dmshook.erase('customer', '{}');
SELECT dmshook.erase(NULL, '{"id": 42}');
SELECT dmshook.erase('customer', '{"id": 42}', '$.data.record.customer.id');
DO $$ BEGIN PERFORM dmshook.erase('customer', '{"id": 42}', '$.data.record.price.double() ? (@ > 0)'); EXCEPTION WHEN invalid_parameter_value THEN RAISE NOTICE '%', regexp_replace(sqlerrm, 'msg_\w+', 'msg_'); END $$;
SELECT count(*) FROM dmshook.event WHERE erased_at IS NOT NULL;
-- nothing of it
SELECT * FROM dmshook.erase('customer', '{"id": 99}');

SET ROLE reg_eraser;
SELECT * FROM dmshook.erase('customer', '{"id": 42}', '$.data.record.customer.id == 42');
SELECT sequence - :last + 9 AS i, event_type, entity_key, user_name, record, previous, erased_at IS NOT NULL AS erased FROM dmshook.events ORDER BY sequence;
SELECT id, webhook, kind, payload IS NOT NULL AS payload, response_headers, response_body, error FROM dmshook.attempts ORDER BY id;
SELECT sequence - :last + 9 AS i, webhook, state, payload IS NOT NULL AS payload, erased_at IS NOT NULL AS erased FROM dmshook.deliveries ORDER BY 1, 2;
RESET ROLE;
SELECT kind, event - :last + 9 AS i, jsonb_array_length(args->'events') AS events FROM dmshook.command WHERE kind <> 'reload' ORDER BY id;
SELECT by_role = session_user AS superuser, what FROM dmshook.changes WHERE what LIKE 'erased%' ORDER BY id;
SELECT DISTINCT s.rel::regclass FROM dmshook.scrub s ORDER BY 1;
-- again: there is nothing
SELECT * FROM dmshook.erase('customer', '{"id": 42}', '$.data.record.customer.id == 42');
-- who did it, where that is what matches
SELECT * FROM dmshook.erase('employee', '{"name": "ann"}', '$.user.name == "ann"');
SELECT sequence - :last + 9 AS i, user_name, user_role, record FROM dmshook.events WHERE erased_at IS NOT NULL AND user_name IS NULL;
-- in what was erased already, too
SELECT events FROM dmshook.erase('employee', '{"name": "jane"}', '$.user.name == "jane"');
SELECT events FROM dmshook.erase('employee', '{"name": "jane"}', '$.user.name == "jane"');
SELECT count(*) FROM dmshook.event WHERE who->>'name' IS NOT NULL;
-- it is not sent again, nor shown to a filter or a test
SELECT dmshook.replay('A', '2026-11-23 06:00+00', '2026-11-23 08:00+00'), dmshook.redeliver_dead('A');
SELECT body::json->'data' FROM dmshook.preview('A', 'deal.completed');
-- what is left is said, once it has lasted
SELECT count(*) FROM dmshook.check() WHERE subject = 'erase';
UPDATE dmshook.scrub SET since = now() - interval '2 minutes';
SELECT level, problem ~ '^what was erased since .* is still in the files of the tables \(\d+ pages\)$' AS says FROM dmshook.check() WHERE subject = 'erase';
ROLLBACK;
