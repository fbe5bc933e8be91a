-- explain(), health, why things wait, and what check() makes of it: on rows as the dispatcher would write them
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
SET TimeZone = 'UTC';
SET DateStyle = ISO;
SET jit = off;
BEGIN;
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.change; DELETE FROM dmshook.command; DELETE FROM dmshook.alert;
SELECT setval('dmshook.event_id', 2000000);
CREATE FUNCTION pg_temp.happen(type text, key int, tenant text = NULL) RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO dmshook.event (id, nonce, at, type, tenant, entity, key, who, source, data)
	SELECT nextval('dmshook.event_id'), key, '2020-11-20 07:00+00', type, tenant, split_part(type, '.', 1), jsonb_build_object('id', key), '{"name": "jane.smith"}', '{}',
		json_build_object('entity', split_part(type, '.', 1), 'key', json_build_object('id', key), 'record', json_build_object('price', key))
	RETURNING id
$$;
CREATE FUNCTION pg_temp.tried(hook text, sequence bigint, no int, kind "char", outcome "char", final "char", status int = NULL, error text = NULL) RETURNS void LANGUAGE sql AS $$
	INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, final, status, error, duration_us)
	SELECT nextval('dmshook.attempt_id'), w.id, e.id, e.nonce, '2020-11-20 07:01+00'::timestamptz + no * interval '1 s', w.version, no, kind, outcome, final, status, error, 12345
	FROM dmshook.webhook w, dmshook.event e WHERE w.name = hook AND e.id = sequence
$$;
CREATE VIEW pg_temp.said AS SELECT NULL::text AS step, NULL::boolean AS ok, NULL::text AS detail;
CREATE FUNCTION pg_temp.why(hook text, sequence bigint) RETURNS SETOF pg_temp.said LANGUAGE sql AS $$
	SELECT step, ok, regexp_replace(detail, 'at ([0-9-]{10} )?[0-9][0-9]:[0-9][0-9]', 'at HH:MM') FROM dmshook.explain(hook, (SELECT dmshook._message_id(id, nonce) FROM dmshook.event WHERE id = sequence))
$$;

-- before the webhook was made, before it was enabled, enabled, disabled, enabled again
SELECT pg_temp.happen('vehicle.sold', 1) AS before \gset
SELECT count(*) FROM dmshook.create_webhook('A', 'https://example.com/a', '{vehicle.*}');
SELECT pg_temp.happen('vehicle.sold', 2) AS early \gset
SELECT dmshook.enable_webhook('A') IS NOT NULL;
SELECT count(*) FROM dmshook.create_webhook('Leeds', 'https://example.com/l', '{*}', tenant => 'Leeds', enabled => true, options => '{"rate_limit": 5}');
SELECT pg_temp.happen('vehicle.sold', 3, 'York') AS sold, pg_temp.happen('deal.created', 4) AS deal, pg_temp.happen('vehicle.sold', 5, 'Leeds') AS given_up,
	pg_temp.happen('vehicle.sold', 6) AS cancelled, pg_temp.happen('vehicle.sold', 7) AS retrying, pg_temp.happen('vehicle.sold', 8) AS parked \gset
SELECT dmshook.disable_webhook('A', 'stocktaking') IS NOT NULL;
SELECT pg_temp.happen('vehicle.sold', 9) AS disabled \gset
SELECT * FROM pg_temp.why('A', :disabled);
SELECT dmshook.enable_webhook('A') IS NOT NULL;
SELECT pg_temp.happen('vehicle.sold', 10) AS waiting \gset

SELECT pg_temp.tried('A', :sold, 1, 'd', 'h', NULL, 500, 'the receiver answered 500'), pg_temp.tried('A', :sold, 2, 'p', 't', NULL, NULL, 'no response in 15 s'),
	pg_temp.tried('A', :sold, 3, 'd', 'o', 'd', 200) \gset x
SELECT pg_temp.tried('A', :given_up, 1, 'd', 'h', 'x', 400, 'the receiver answered 400'), pg_temp.tried('A', :cancelled, 0, 'd', NULL, 'c'),
	pg_temp.tried('A', :retrying, 1, 'd', 'h', NULL, 500, 'the receiver answered 500') \gset x
INSERT INTO dmshook.queue (event, webhook, due_at, attempts, kind, entity) SELECT e, id, due, n, 'd', 1
FROM dmshook.webhook, (VALUES (:retrying, '2020-11-20 08:00+00'::timestamptz, 1), (:parked, NULL, 0)) AS q (e, due, n) WHERE name = 'A';
UPDATE dmshook.position SET low = :disabled WHERE webhook = 0;

SELECT * FROM pg_temp.why('A', :before);
SELECT * FROM pg_temp.why('A', :early);
SELECT * FROM pg_temp.why('A', :disabled);
SELECT * FROM pg_temp.why('A', :deal);
SELECT * FROM pg_temp.why('A', :sold);
SELECT * FROM pg_temp.why('A', :given_up);
SELECT * FROM pg_temp.why('A', :cancelled);
SELECT * FROM pg_temp.why('A', :retrying);
SELECT * FROM pg_temp.why('A', :parked);
SELECT * FROM pg_temp.why('A', :waiting);
SELECT * FROM pg_temp.why('Leeds', :sold);
SELECT * FROM pg_temp.why('Leeds', :deal);
-- a filter: it holds, it does not, it cannot say
SAVEPOINT s;
SELECT count(*) FROM dmshook.create_webhook('Filtered', 'https://example.com/f', '{*}', enabled => true, filter => '$.data.record.price > 30');
SELECT pg_temp.happen('vehicle.sold', 31) AS dear, pg_temp.happen('vehicle.sold', 30) AS cheap, pg_temp.happen('vehicle.sold', 29) AS priceless \gset
UPDATE dmshook.event SET data = '{"record": {"price": "on request"}}' WHERE id = :priceless;
SELECT * FROM pg_temp.why('Filtered', :dear) WHERE step IN ('filter', 'waiting');
SELECT * FROM pg_temp.why('Filtered', :cheap) WHERE step NOT IN ('event', 'enabled', 'subscribed');
SELECT * FROM pg_temp.why('Filtered', :priceless) WHERE step NOT IN ('event', 'enabled', 'subscribed');
ROLLBACK TO s;
-- it was read, and nothing of it is logged
SELECT * FROM pg_temp.why('Leeds', :given_up);
-- when all was asked and said
SELECT at, step FROM dmshook.explain('A', (SELECT dmshook._message_id(id, nonce) FROM dmshook.event WHERE id = :sold)) WHERE step NOT IN ('enabled', 'subscribed');
-- fail
SELECT * FROM dmshook.explain('B', 'msg_1');
SELECT * FROM dmshook.explain('A', 'msg_1');
SELECT * FROM dmshook.explain('A', dmshook._message_id(:sold, 4711));
SELECT * FROM dmshook.explain(NULL, NULL);

-- the same event, while the webhook is held back
SAVEPOINT s;
SELECT dmshook.pause_webhook('A') IS NOT NULL;
SELECT * FROM pg_temp.why('A', :waiting) WHERE step = 'waiting';
SELECT * FROM pg_temp.why('A', :retrying) WHERE step = 'retrying';
ROLLBACK TO s;
INSERT INTO dmshook.webhook_state (webhook, failures, failing_since, circuit_open_since, next_probe_at, last_error, last_hint, last_success_at, last_failure_at)
	SELECT id, 30, '2020-11-20 10:00+00', '2020-11-20 10:02+00', '2020-11-20 10:17+00', 'the receiver answered 500', 'Ask its owner.', '2020-11-20 09:00+00', '2020-11-20 10:01+00' FROM dmshook.webhook WHERE name = 'A';
SELECT * FROM pg_temp.why('A', :waiting) WHERE step = 'waiting';
UPDATE dmshook.webhook_state SET next_probe_at = '2999-11-20 10:17+00';
SELECT why FROM dmshook.waiting WHERE webhook = 'A' ORDER BY sequence;
SELECT dmshook._clock(clock_timestamp()) ~ '^..:..$' AS today, dmshook._clock('2020-11-20 10:17+00') AS another_day;
SELECT level, subject, problem, hint FROM dmshook.check() WHERE subject = 'A';
SELECT dmshook.pause_webhook('A') IS NOT NULL;
UPDATE dmshook.skip SET upto = 0;
INSERT INTO dmshook.skip SELECT id, :waiting, 'expired', now() FROM dmshook.webhook WHERE name = 'A';
SELECT * FROM pg_temp.why('A', :waiting) WHERE step = 'expired';
UPDATE dmshook.skip SET reason = 'cancelled';
SELECT * FROM pg_temp.why('A', :waiting) WHERE step = 'cancelled';
SELECT dmshook.drop_webhook('A') IS NOT NULL;
SELECT pg_temp.happen('vehicle.sold', 11) AS dropped \gset
UPDATE dmshook.skip SET reason = 'dropped', upto = 9223372036854775807;
SELECT * FROM pg_temp.why('A', :waiting) WHERE step NOT IN ('event', 'enabled', 'subscribed');
SELECT * FROM pg_temp.why('A', :dropped);
ROLLBACK TO s;

-- health
SELECT webhook, state, success_1h, success_24h, p50_ms, waiting, oldest_waiting, last_error, hint, certificate_expires_at, trend FROM dmshook.health ORDER BY 1;
DELETE FROM dmshook.queue; DELETE FROM dmshook.event;
INSERT INTO dmshook.webhook_state (webhook, failures, last_error, last_hint, last_success_at, last_failure_at)
	SELECT id, 1, 'the receiver answered 500', 'Ask its owner.', '2020-11-20 09:00+00', '2020-11-20 10:01+00' FROM dmshook.webhook WHERE name = 'A';
INSERT INTO dmshook.webhook_count SELECT id, date_bin('5 minutes', clock_timestamp() - ago, '2000-01-01 00:00+00'), ok, failed
FROM dmshook.webhook, (VALUES (interval '1 minute', 90, 10), ('30 minutes', 5, 0), ('150 minutes', 25, 5), ('5 hours', 1, 2), ('20 hours', 100, 0), ('25 hours', 0, 1000)) AS c (ago, ok, failed) WHERE name = 'A';
-- of 3000 requests the latest 2000 count, tests and those of days ago do not
INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, duration_us)
	SELECT 10000000 + i, id, 1, 1, clock_timestamp() - CASE WHEN i > 2900 THEN interval '2 days' ELSE interval '1 minute' END, version, 1,
		(CASE WHEN i BETWEEN 2801 AND 2900 THEN 't' ELSE 'd' END)::"char", 'o', CASE WHEN i <= 1000 THEN 9000000 WHEN i > 2800 THEN 7000000 ELSE (i - 1000) * 1000 + 250 END
	FROM dmshook.webhook, generate_series(1, 3000) AS i WHERE name = 'A';
SELECT webhook, state, success_1h, success_24h, p50_ms, p95_ms, p99_ms, waiting, oldest_waiting, last_success_at, last_failure_at, last_error, hint FROM dmshook.health ORDER BY 1;
-- 24 hours, the present one last; where an hour begins depends on the minute
SELECT length(trend), right(trend, 1) ~ '^[^.x]$' AS now, trend ~ 'x' AS more_failed, position('█' IN trend) > 0 AS best, trim(trend, '.') <> trend AS nothing FROM dmshook.health WHERE webhook = 'A';
SELECT dmshook._sparkline('{0,1,4,8,NULL,0}'), dmshook._sparkline('{0,0}'), dmshook._sparkline('{NULL,NULL}'), dmshook._sparkline('{1000000000000,1}');
ROLLBACK TO s;

-- check(): a backlog that is too old, one that its rate_limit makes, a receiver that wants no more, alerts
INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome) SELECT nextval('dmshook.attempt_id'), id, 0, 0, now(), version, 1, 't', 'o' FROM dmshook.webhook;
SELECT level, subject, problem, hint FROM dmshook.check() WHERE subject IN ('A', 'Leeds', 'alerts') ORDER BY subject, problem;
SELECT pg_temp.happen('vehicle.sold', 12, 'Leeds') > 0;
SELECT level, subject, problem, hint FROM dmshook.check() WHERE subject IN ('Leeds') ORDER BY subject, problem;
INSERT INTO dmshook.alert (webhook, kind) SELECT id, kind FROM dmshook.webhook, unnest('{failing,delivery_exhausted,delivery_exhausted}'::text[]) AS kind WHERE name = 'A';
SELECT level, subject, problem, hint FROM dmshook.check() WHERE subject = 'alerts';
INSERT INTO dmshook.alert (webhook, kind) SELECT id, 'recovered' FROM dmshook.webhook WHERE name = 'A';
SELECT problem FROM dmshook.check() WHERE subject = 'alerts';
SELECT count(dmshook.acknowledge(id)) FROM dmshook.alerts WHERE NOT acknowledged;
SELECT problem FROM dmshook.check() WHERE subject = 'alerts';
SELECT dmshook._disable_failing(id, 'the receiver answered 410 Gone') FROM dmshook.webhook WHERE name = 'Leeds';
INSERT INTO dmshook.alert (webhook, kind, detail) SELECT id, 'disabled', '{"reason": "the receiver answered 410 Gone"}' FROM dmshook.webhook WHERE name = 'Leeds';
SELECT level, subject, problem, hint FROM dmshook.check() WHERE subject IN ('Leeds', 'alerts') ORDER BY subject, problem;
ROLLBACK;
