-- watch_...(), watch(), unwatch(): what they refuse and replace, and for whom
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE TABLE vehicle (id int PRIMARY KEY, state text, price int, doc json);
CREATE TABLE heap (id int, status text);
CREATE VIEW stock AS SELECT * FROM vehicle;
-- refused, with a hint
SELECT dmshook.watch_vehicle('vehicle');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'stat');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', exclude => '{prices}');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', include => '{prices}');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', include => '{}');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', tenant_column => 'branch');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', user_column => 'editor');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', key_columns => '{no}');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', key_columns => '{doc}');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', key_names => '{a,b}');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', key_columns => '{id,price}', key_names => '{a,a}');
SELECT dmshook.watch_vehicle('vehicle', status_column => 'state', related => '{}');
SELECT dmshook.watch_vehicle('heap');
SELECT dmshook.watch_vehicle('stock', status_column => 'state');
SELECT dmshook.watch_vehicle('pg_class', status_column => NULL);
SELECT dmshook.watch_vehicle('dmshook.event', status_column => NULL);
CREATE TEMP TABLE temporary (id int PRIMARY KEY);
SELECT dmshook.watch_vehicle('temporary', status_column => NULL);
SELECT dmshook.watch_vehicle(NULL);
SELECT dmshook.watch_vehicle('nowhere');
SELECT dmshook.watch('vehicle', 'vehicle.solt', 'insert');
SELECT dmshook.watch('vehicle', 'webhook.test', 'insert');
SELECT dmshook.watch('vehicle', 'vehicle.sold', 'truncate');
SELECT dmshook.watch('vehicle', 'vehicle.sold', NULL);
SELECT dmshook.watch('vehicle', NULL, 'insert');
SELECT dmshook.watch('vehicle', 'vehicle.sold', 'insert', columns => '{price}');
SELECT dmshook.watch('vehicle', 'vehicle.sold', 'update', columns => '{prize}');
SELECT dmshook.watch_customer('vehicle', columns => '{prize}');
SELECT dmshook.unwatch('vehicle');
SELECT dmshook.unwatch('vehicle', 'vehicle.sold');
SELECT count(*) FROM dmshook.watched;
SELECT event_type FROM dmshook.watch_vehicle('heap', key_columns => '{id}');
SELECT dmshook.unwatch('heap');

-- watch() replaces that type's rules, watch_...() the table's
SELECT event_type, operation, hint FROM dmshook.watch_vehicle('vehicle', status_column => 'state', exclude => '{price}');
SELECT * FROM dmshook.watch('vehicle', 'customer.updated', 'Insert OR update', entity => 'car', exclude => '{price}');
SELECT * FROM dmshook.watch('vehicle', 'customer.updated', 'update', columns => '{price}', condition => 'price < 10', entity => 'car');
SELECT event_type, operation, condition, excluded FROM dmshook.watched;
INSERT INTO vehicle VALUES (1, 'sold', 5);
UPDATE vehicle SET price = 6, state = 'x';
SELECT type, entity, data FROM pg_temp.events();
SELECT dmshook.unwatch('vehicle', 'vehicle.sold');
SELECT event_type, operation, condition FROM dmshook.watched;
SELECT event_type FROM dmshook.watch_customer('vehicle');
SELECT event_type, operation, condition FROM dmshook.watched;
SELECT tgname, regexp_replace(pg_get_triggerdef(oid), 'table: \d+', 'table: OID') FROM pg_trigger WHERE tgrelid = 'vehicle'::regclass ORDER BY 1;
SELECT dmshook.unwatch('vehicle', 'customer.created');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'vehicle'::regclass AND NOT tgisinternal;

-- the same rules again leave the triggers as they are; a disabled one is told of, and enabled again
SELECT oid AS before, xmin AS version FROM pg_trigger WHERE tgrelid = 'vehicle'::regclass \gset
SELECT event_type FROM dmshook.watch('vehicle', 'customer.updated', 'update');
SELECT event_type FROM dmshook.watch('vehicle', 'customer.updated', 'update');
SELECT oid = :before AS same FROM pg_trigger WHERE tgrelid = 'vehicle'::regclass;
ALTER TABLE vehicle DISABLE TRIGGER "00_dmshook_update";
UPDATE vehicle SET price = 7;
SELECT event_type, enabled, hint FROM dmshook.watched;
SELECT event_type FROM dmshook.watch('vehicle', 'customer.updated', 'update');
UPDATE vehicle SET price = 8;
SELECT event_type, enabled, hint FROM dmshook.watched;
SELECT type FROM pg_temp.events();
-- a rolled-back watch is none
BEGIN;
SELECT dmshook.unwatch('vehicle');
UPDATE vehicle SET price = 9;
ROLLBACK;
UPDATE vehicle SET price = 10;
SELECT type, previous FROM pg_temp.events();
-- in the middle of a transaction that wrote to the table
BEGIN;
UPDATE vehicle SET price = 11;
SELECT event_type FROM dmshook.watch('vehicle', 'customer.updated', 'update', columns => '{state}');
UPDATE vehicle SET price = 12;
UPDATE vehicle SET state = 'y';
COMMIT;
SELECT type, previous FROM pg_temp.events();

-- the owner may, others may not; who writes needs no right on dmshook
CREATE ROLE dmshook_dba;
ALTER TABLE vehicle OWNER TO dmshook_dba;
CREATE ROLE dmshook_owner;
CREATE ROLE dmshook_clerk;
GRANT USAGE ON SCHEMA dealer TO dmshook_owner, dmshook_clerk;
GRANT ALL ON vehicle TO dmshook_clerk;
SET ROLE dmshook_clerk;
UPDATE vehicle SET state = 'z';
SELECT * FROM dmshook.event;
RESET ROLE;
SELECT type, previous FROM pg_temp.events();
GRANT USAGE ON SCHEMA dmshook TO dmshook_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dmshook TO dmshook_owner;
GRANT SELECT ON dmshook.watched TO dmshook_owner;
SET ROLE dmshook_owner;
SELECT dmshook.watch_customer('vehicle');
RESET ROLE;
GRANT CREATE ON SCHEMA dealer TO dmshook_owner;
ALTER TABLE vehicle OWNER TO dmshook_owner;
SET ROLE dmshook_owner;
SELECT event_type, operation, condition, rows_now FROM dmshook.watch_customer('vehicle');
UPDATE vehicle SET state = 'zz';
SELECT dmshook.unwatch('vehicle');
RESET ROLE;
SELECT type, previous FROM pg_temp.events();

-- unwatch_all()
SELECT event_type FROM dmshook.watch_customer('vehicle');
SELECT event_type FROM dmshook.watch_customer('heap', key_columns => '{id}');
SELECT dmshook.unwatch_all();
SELECT * FROM dmshook.watched;
-- DROP EXTENSION does not take the triggers along unasked
SELECT event_type FROM dmshook.watch_customer('vehicle');
DROP EXTENSION dmshook;
SET client_min_messages = warning;
DROP SCHEMA dealer CASCADE;
DROP OWNED BY dmshook_owner, dmshook_clerk, dmshook_dba;
DROP ROLE dmshook_owner, dmshook_clerk, dmshook_dba;
