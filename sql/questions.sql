-- the ten questions of README.md, one query each: these work; what the views say is looked at by others
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
SET jit = off;
BEGIN;
-- what other tests left is not seen here
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.change; DELETE FROM dmshook.command; DELETE FROM dmshook.attempt; DELETE FROM dmshook.queue;
SELECT webhook, at, outcome, error, hint FROM dmshook.attempts WHERE outcome <> 'ok' AND at > now() - interval '1 hour' ORDER BY at;
SELECT state, attempts, finished_at FROM dmshook.deliveries WHERE webhook = 'Accounting' AND event_type = 'vehicle.sold' AND entity_key = '{"id": 42}';
SELECT x.* FROM dmshook.events e, dmshook.explain('Accounting', e.message_id) x WHERE e.event_type = 'vehicle.sold' AND e.entity_key = '{"id": 42}';
SELECT webhook, state, success_1h, last_error, hint FROM dmshook.health WHERE state <> 'active';
SELECT webhook, message_id, since, next_attempt_at, why FROM dmshook.waiting ORDER BY since;
SELECT at, method, url, request_headers, payload, status, response_body FROM dmshook.attempts WHERE message_id = 'msg_0000000000000000000000';
SELECT webhook, error, count(*) FROM dmshook.dead_letters WHERE finished_at > current_date GROUP BY 1, 2 ORDER BY 3 DESC;
SELECT at, by_role, what FROM dmshook.changes WHERE webhook = 'Accounting' ORDER BY at;
SELECT at, event_type, entity_key FROM dmshook.events WHERE user_name = 'jane.smith' AND at >= current_date ORDER BY at;
SELECT state, behind_events, behind, gaps, gap_holder FROM dmshook.dispatchers;
ROLLBACK;
