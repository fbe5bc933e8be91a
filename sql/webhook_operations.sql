-- claims and check()
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
-- a database in which dmshook was never used
DELETE FROM dmshook.instance; DELETE FROM dmshook.position; DELETE FROM dmshook.webhook; DELETE FROM dmshook.command;
DELETE FROM dmshook.event; DELETE FROM dmshook.attempt; DELETE FROM dmshook.queue;
SELECT count(*) >= 0 AS unwatched FROM (SELECT dmshook.unwatch_all()) AS x;
-- the owner of this one is a superuser; nothing is sent, since the servers of pg_regress say so
SELECT level, subject, problem, hint FROM dmshook.check();
SELECT dmshook._identity_matches();
-- the first webhook claims it
SELECT webhook FROM dmshook.create_webhook('A', 'https://example.com/a', '{vehicle.*}', enabled => true, auth => '{"kind": "bearer", "token": "hush"}', headers => '{"X-A": "hush"}');
SELECT dmshook._identity_matches();
SELECT database = (SELECT oid FROM pg_database WHERE datname = current_database()) AS this_one, major = current_setting('server_version_num')::int / 10000 AS this_major,
	system_identifier = (SELECT system_identifier FROM pg_control_system()) AS this_cluster FROM dmshook.instance;
SELECT webhook, command, low FROM dmshook.position;
SELECT level, subject, problem, hint FROM dmshook.check();
-- fail: there is nothing to claim
SELECT dmshook.claim_database('copy');
SELECT dmshook.claim_database('takeover');
SELECT dmshook.claim_database('mine');
SELECT dmshook.claim_database(NULL);

-- what check() finds
INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome) SELECT 1, id, 0, 0, now(), version, 1, 't', 'o' FROM dmshook.webhook;
SELECT subject, problem FROM dmshook.check() WHERE subject <> 'dmshook.dispatchers';
INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	SELECT dmshook._last_event_id() + i, 1, now(), 'vehicle.sold', 'vehicle', '{"id": 1}', '{}', '{}', '{}' FROM generate_series(1, 2) i;
SELECT subject, problem, regexp_replace(hint, '[0-9]+', 'N') AS hint FROM dmshook.check() WHERE subject <> 'dmshook.dispatchers';
SELECT setval('dmshook.event_id', (SELECT max(id) FROM dmshook.event)) > 0;
SELECT dmshook.pause_webhook('A');
SELECT subject, problem, hint FROM dmshook.check() WHERE subject <> 'dmshook.dispatchers';
SELECT count(*) FROM (SELECT dmshook.resume_webhook('A'), dmshook.disable_webhook('A')) AS x;
SELECT subject, problem, hint FROM dmshook.check() WHERE subject <> 'dmshook.dispatchers';
INSERT INTO dmshook.webhook_state (webhook, failures, failing_since, last_error, last_hint) SELECT id, 3, '2026-11-23 09:00:00+00', 'the receiver answered 500', 'Ask its owner.' FROM dmshook.webhook;
SELECT subject, problem, hint FROM dmshook.check() WHERE subject <> 'dmshook.dispatchers';
DELETE FROM dmshook.webhook_state;
SAVEPOINT s;
DELETE FROM dmshook.webhook_secret;
SELECT subject, problem, hint FROM dmshook.check() WHERE subject <> 'dmshook.dispatchers';
DELETE FROM dmshook.position WHERE webhook = 0;
SELECT subject, problem FROM dmshook.check() WHERE subject = 'dmshook.position';
ROLLBACK TO s;
SELECT dmshook.enable_webhook('A');

-- a dump restored elsewhere has no instance
SAVEPOINT s;
DELETE FROM dmshook.instance;
SELECT dmshook._claim_if_new();
SELECT count(*) FROM dmshook.instance;
SELECT subject, problem, hint FROM dmshook.check() WHERE subject = 'database';
SELECT hint FROM dmshook.create_webhook('B', 'https://example.com/b', '{vehicle.*}');
INSERT INTO dmshook.command (webhook, kind, event) SELECT id, 'redeliver', 1 FROM dmshook.webhook WHERE name = 'A';
-- takeover: all goes on
SAVEPOINT t;
SELECT dmshook.claim_database('takeover');
SELECT dmshook._identity_matches(), count(*) AS commands FROM dmshook.command WHERE kind = 'redeliver' AND done_at IS NULL;
SELECT name, enabled, auth_kind FROM dmshook.webhooks ORDER BY name;
SELECT webhook, what FROM dmshook.changes ORDER BY id DESC LIMIT 1;
ROLLBACK TO t;
-- copy: nothing reaches a receiver
CREATE TEMP TABLE secrets AS SELECT webhook, kind, value FROM dmshook.webhook_secret;
DELETE FROM dmshook.command WHERE kind = 'reload';
SELECT dmshook.claim_database('copy');
SELECT dmshook._identity_matches();
SELECT name, enabled, why, auth_kind, headers FROM dmshook.webhooks ORDER BY name;
SELECT w.name, k.kind, k.value ~ '^whsec_' AS secret, k.value IN (SELECT value FROM secrets) AS known FROM dmshook.webhook_secret k JOIN dmshook.webhook w ON w.id = k.webhook ORDER BY 1;
SELECT w.name, v.headers, v.auth_kind FROM dmshook.webhook w JOIN dmshook.webhook_version v ON v.id = w.version ORDER BY 1;
SELECT w.name, c.kind, c.upto = dmshook._last_event_id() AS all_of_it FROM dmshook.command c JOIN dmshook.webhook w ON w.id = c.webhook
WHERE done_at IS NULL AND c.kind <> 'reload' ORDER BY 1;
SELECT w.name, bool_and(NOT s.enabled) FILTER (WHERE s.id = m.id) AS nothing_new FROM dmshook.webhook w JOIN dmshook.subscription s ON s.webhook = w.id,
	LATERAL (SELECT max(id) AS id FROM dmshook.subscription m WHERE m.webhook = w.id) m GROUP BY 1 ORDER BY 1;
ROLLBACK TO s;

-- CREATE DATABASE ... TEMPLATE: another OID. Another cluster: another identifier. pg_upgrade: that, and a lower major in the table
SAVEPOINT s;
UPDATE dmshook.instance SET database = 1;
SELECT dmshook._identity_matches();
ROLLBACK TO s;
UPDATE dmshook.instance SET system_identifier = 1;
SELECT dmshook._identity_matches();
UPDATE dmshook.instance SET major = major - 1;
SELECT dmshook._identity_matches();
ROLLBACK TO s;
-- sequences that a restore left behind, and a position that it left out
DELETE FROM dmshook.instance;
DELETE FROM dmshook.position;
INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	SELECT dmshook._last_event_id() + 5, 1, now(), 'vehicle.sold', 'vehicle', '{"id": 1}', '{}', '{}', '{}';
SELECT count(*) FROM (SELECT dmshook.claim_database('takeover')) AS x;
SELECT p.low = e.id AS from_now, dmshook._last_event_id() >= e.id AS above FROM dmshook.position p, (SELECT max(id) AS id FROM dmshook.event) e WHERE p.webhook = 0;
ROLLBACK;

-- publications that take our tables along; columns that somebody added to them
BEGIN;
SELECT * FROM dmshook._publications();
SET LOCAL client_min_messages = error;	-- wal_level
CREATE PUBLICATION all_tables FOR ALL TABLES;
CREATE PUBLICATION ours FOR TABLE dmshook.webhook;
CREATE PUBLICATION our_schema FOR TABLES IN SCHEMA dmshook;
CREATE PUBLICATION theirs FOR TABLES IN SCHEMA public;
RESET client_min_messages;
SELECT dmshook._warn_published();
SELECT level, subject, problem FROM dmshook.check() WHERE subject LIKE 'publication%' ORDER BY subject;
ALTER TABLE dmshook.event ADD admins_own int;
SELECT count(*) FROM dmshook.emit('vehicle.sold', 'vehicle', '{"id": 1}', '{"a": 1}');
SELECT dmshook._payload(e, false)::json->'data' AS data FROM dmshook.event e ORDER BY e.id DESC LIMIT 1;
ROLLBACK;

-- fail: for superusers
CREATE ROLE regress_dmshook_owner;
BEGIN;
GRANT USAGE ON SCHEMA dmshook TO regress_dmshook_owner;
GRANT EXECUTE ON FUNCTION dmshook.claim_database(text) TO regress_dmshook_owner;
SET LOCAL ROLE regress_dmshook_owner;
SELECT dmshook.claim_database('takeover');
RESET ROLE;
-- the database's owner who is none is told about pg_dump
CREATE FUNCTION pg_temp.owned_by(name) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO %I', current_database(), $1); END $$;
SELECT current_user AS me \gset
SELECT pg_temp.owned_by('regress_dmshook_owner');
SELECT level, subject, problem, hint FROM dmshook.check() WHERE subject = 'pg_dump';
GRANT pg_read_all_data TO regress_dmshook_owner;
SELECT count(*) FROM dmshook.check() WHERE subject = 'pg_dump';
ROLLBACK;
DROP ROLE regress_dmshook_owner;
