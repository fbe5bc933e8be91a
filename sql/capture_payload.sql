-- what is sent, of whom, and who did it
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE TABLE vehicle (id int PRIMARY KEY, status text, branch text, cost int, editor text);
SELECT event_type FROM dmshook.watch_vehicle('vehicle', include => '{status,branch}', exclude => '{branch}', tenant_column => 'branch', key_names => '{vehicle}');
INSERT INTO vehicle VALUES (1, 'a', 'Leeds', 1, 'ed'), (2, 'a', NULL, 1, NULL);
UPDATE vehicle SET status = 'sold', cost = 2;
UPDATE vehicle SET status = 'b', branch = 'York' WHERE id = 1;
UPDATE vehicle SET status = 'b', branch = 'York' WHERE id = 2;
UPDATE vehicle SET status = 'c', branch = NULL WHERE id = 2;
SELECT type, tenant, old_tenant, key, data FROM pg_temp.events();

-- keys: composite, of text, of other columns than the primary key, of none
CREATE TABLE sale (branch text, no numeric(6,1), at timestamptz, vehicle_id bigint, status text, PRIMARY KEY (no, branch, at));
SELECT event_type FROM dmshook.watch_vehicle('sale');
INSERT INTO sale VALUES ('Leeds "1"', 7.0, '2026-11-23 07:25+00', 1152921504606846976, 'x');
SELECT type, key, data -> 'key' AS sent FROM pg_temp.events();
SELECT event_type FROM dmshook.watch_vehicle('sale', key_columns => '{vehicle_id}', key_names => '{id}');
INSERT INTO sale VALUES ('Leeds', 8, 'infinity', 1152921504606846977, 'x'), ('Leeds', 9, 'infinity', NULL, 'x');
SELECT type, key, data -> 'key' AS sent FROM pg_temp.events();
CREATE TABLE odd_key (u uuid, b bool, f float8, j jsonb, d date, a int[], status text);
SELECT event_type FROM dmshook.watch_vehicle('odd_key');
SELECT event_type FROM dmshook.watch_vehicle('odd_key', key_columns => '{u,b,f,j,d,a}');
INSERT INTO odd_key VALUES ('00112233-4455-6677-8899-aabbccddeeff', true, 0.1, '{"a": [1]}', '2026-11-23', '{1,2}');
INSERT INTO odd_key VALUES (NULL, false, 'NaN', 'null', 'infinity', NULL);
SELECT type, key, data -> 'key' AS sent FROM pg_temp.events();

-- who ("user" is a word of SQL: it must be quoted in SET): the setting, another setting, the row's column, the session user
SET application_name = 'dms-web "1"';
CREATE ROLE dmshook_clerk;
SELECT event_type FROM dmshook.watch_vehicle('vehicle', user_column => 'editor');
GRANT ALL ON vehicle TO dmshook_clerk;
GRANT USAGE ON SCHEMA dealer TO dmshook_clerk;
INSERT INTO vehicle (id, editor) VALUES (10, 'row'), (11, NULL), (12, 'row2');
BEGIN;
SET LOCAL dmshook."user" = 'jane.smith';
INSERT INTO vehicle (id, editor) VALUES (13, 'row');
COMMIT;
INSERT INTO vehicle (id) VALUES (14);
SET dmshook.user_setting = 'dms.user';
INSERT INTO vehicle (id, editor) VALUES (15, 'row');
SET dms."user" = 'max "m" m';
INSERT INTO vehicle (id, editor) VALUES (16, 'row');
SET dmshook."user" = 'first';
INSERT INTO vehicle (id, editor) VALUES (17, 'row');
RESET dmshook."user"; RESET dmshook.user_setting;
SET ROLE dmshook_clerk;
SET application_name = 'other';
INSERT INTO vehicle (id) VALUES (18);
RESET ROLE;
ALTER ROLE dmshook_clerk RENAME TO dmshook_manager;
SET ROLE dmshook_manager;
INSERT INTO vehicle (id) VALUES (19);
RESET ROLE;
RESET application_name;
SELECT key, replace(who ->> 'name', session_user, 'SESSION USER') AS name, replace(who ->> 'role', session_user, 'SESSION USER') AS role, who ->> 'application' AS application FROM pg_temp.events();

-- the schema is the tenant where no column says; names that change
SELECT event_type FROM dmshook.watch_vehicle('vehicle');
INSERT INTO vehicle VALUES (30);
ALTER SCHEMA dealer RENAME TO "other Dealer";
SET search_path = "other Dealer";
INSERT INTO vehicle VALUES (31);
ALTER TABLE vehicle RENAME TO car;
INSERT INTO car VALUES (32);
ALTER SCHEMA "other Dealer" RENAME TO dealer;
SET search_path = dealer;
SELECT key, tenant, source ->> 'schema' AS schema, source ->> 'table' AS table FROM pg_temp.events();
SELECT source ->> 'database' = current_database() AS database, nonce <> 0 AS nonce, at BETWEEN now() - interval '10 minutes' AND clock_timestamp() AS at, erased_at FROM dmshook.event ORDER BY id DESC LIMIT 1;
SELECT count(*) = count(DISTINCT nonce) AS nonces_differ FROM dmshook.event;

-- emit()
SELECT dmshook.define_event_type('part.ordered', 'part', 'A part was ordered');
SELECT dmshook.emit('part.ordered', NULL, '{"id": 7}', '{"name": "filter", "price": 9.50}') AS message_id \gset
SELECT :'message_id' = (SELECT dmshook._message_id(id, nonce) FROM dmshook.event ORDER BY id DESC LIMIT 1) AS message_id_is_the_events;
SELECT length(dmshook.emit('deal.created', 'contract', '{"no": "A-1", "b": [1, 2.0]}', NULL, NULL, 'Leeds'));
SELECT length(dmshook.emit(event_type => 'part.ordered', entity => 'part', key => '{}', record => '{"a": 1}', previous => '{"a": 2}', tenant => 'York'));
SELECT type, entity, key, tenant, source -> 'table' AS "table", data FROM pg_temp.events();
SELECT dmshook.emit('part.orderd', NULL, '{"id": 7}', '{}');
SELECT dmshook.emit('nothing like it', NULL, '{"id": 7}', '{}');
SELECT dmshook.emit('webhook.failing', NULL, '{"id": 7}', '{}');
SELECT dmshook.emit('part.ordered', NULL, '[7]', '{}');
SELECT dmshook.emit('part.ordered', NULL, NULL, '{}');
SELECT dmshook.emit(NULL, NULL, '{}', '{}');
SELECT dmshook.emit('part.ordered', NULL, '{}', '7');
BEGIN READ ONLY; SELECT dmshook.emit('part.ordered', NULL, '{}', '{}'); ROLLBACK;
SELECT dmshook.define_event_type('part.ordered', 'part', 'Ordered at last');
SELECT entity, description, builtin FROM dmshook.event_type WHERE name = 'part.ordered';
SELECT dmshook.define_event_type('vehicle.sold', 'vehicle', 'x');
SELECT dmshook.define_event_type('webhook.mine', 'webhook', 'x');
SELECT dmshook.define_event_type('Part', 'part', 'x');
SELECT dmshook.define_event_type('part.x', 'the part', 'x');
SELECT dmshook.define_event_type('part.x', NULL, 'x');
SELECT count(*) FROM pg_temp.events();
SET client_min_messages = warning;
DROP SCHEMA dealer CASCADE;
DELETE FROM dmshook.event_type WHERE name = 'part.ordered';
DROP ROLE dmshook_manager;
