-- columns that are renamed, dropped, altered, quoted; what fails closed
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE TABLE vehicle (id int PRIMARY KEY, old int, status text, cost int, margin int, branch text, editor text);
ALTER TABLE vehicle DROP old;
SELECT event_type, hint FROM dmshook.watch_vehicle('vehicle', exclude => '{cost,margin}', tenant_column => 'branch', user_column => 'editor');
INSERT INTO vehicle VALUES (1, 'sold', 100, 7, 'Leeds', 'jane');
SELECT type, key, tenant, who ->> 'name' AS by, record FROM pg_temp.events();

-- RENAME: they are known by number; a new column of an excluded one's old name stays out too
ALTER TABLE vehicle RENAME status TO state;
ALTER TABLE vehicle RENAME cost TO purchase_price;
ALTER TABLE vehicle RENAME branch TO site;
ALTER TABLE vehicle RENAME editor TO changed_by;
ALTER TABLE vehicle RENAME id TO no;
ALTER TABLE vehicle ADD cost int DEFAULT 3, ADD status text DEFAULT 'sold';
INSERT INTO vehicle VALUES (2, 'Sold', 100, 7, 'Leeds', 'jane');
UPDATE vehicle SET state = 'back', site = 'York' WHERE no = 2;
SELECT type, key, tenant, old_tenant, who ->> 'name' AS by, record, previous FROM pg_temp.events();
SELECT event_type, operation, condition, columns, excluded, tenant_column, hint FROM dmshook.watched;

-- ALTER TYPE of a watched and of an excluded column, of the key and the tenant
ALTER TABLE vehicle ALTER state TYPE varchar(20), ALTER purchase_price TYPE text, ALTER no TYPE bigint, ALTER site TYPE varchar(9);
CREATE TYPE state AS ENUM ('back', 'Sold', 'sold');
ALTER TABLE vehicle ALTER state TYPE state USING state::state;
UPDATE vehicle SET state = 'Sold' WHERE no = 2;
SELECT type, key, tenant, record, previous FROM pg_temp.events();

-- DROP of the watched column: its events are not raised, the others are
ALTER TABLE vehicle DROP state;
ALTER TABLE vehicle RENAME status TO other;
INSERT INTO vehicle (no, site) VALUES (3, 'Hull');
UPDATE vehicle SET other = 'sold!';
SELECT type, key, record FROM pg_temp.events();
SELECT event_type, operation, condition, hint FROM dmshook.watched;
SELECT event_type, condition FROM dmshook.watch_vehicle('vehicle', status_column => 'other', exclude => '{purchase_price,margin}', tenant_column => 'site', user_column => 'changed_by');

-- DROP of an excluded column: who knows where it went; only the key is sent
ALTER TABLE vehicle DROP margin;
INSERT INTO vehicle (no, site, other) VALUES (4, 'Hull', 'x');
UPDATE vehicle SET other = 'sold' WHERE no = 4;
SELECT type, tenant, old_tenant, data FROM pg_temp.events();
SELECT event_type, hint FROM dmshook.watched;
SELECT event_type FROM dmshook.watch_vehicle('vehicle', status_column => 'other', exclude => '{purchase_price}', tenant_column => 'site', user_column => 'changed_by');

-- DROP of the tenant and of the user column
ALTER TABLE vehicle DROP site, DROP changed_by;
INSERT INTO vehicle (no, other) VALUES (5, 'x');
SELECT type, tenant, who ->> 'name' = session_user AS by, record FROM pg_temp.events();
SELECT event_type, hint FROM dmshook.watched;

-- DROP of a key column
ALTER TABLE vehicle DROP no;
INSERT INTO vehicle (other) VALUES ('x');
SELECT type, data FROM pg_temp.events();
SELECT event_type, hint FROM dmshook.watched;

-- include: what is added later stays out; an included one that goes closes it
CREATE TABLE customer (id int PRIMARY KEY, name text, email text);
SELECT event_type FROM dmshook.watch_customer('customer', include => '{id,name}');
ALTER TABLE customer ADD card text;
INSERT INTO customer VALUES (1, 'Jane', 'j@example.com', '4711');
UPDATE customer SET email = 'jj@example.com';
UPDATE customer SET name = 'Janet';
SELECT type, record, previous FROM pg_temp.events();
SELECT event_type, excluded FROM dmshook.watched WHERE relation = 'customer'::regclass;
ALTER TABLE customer RENAME name TO full_name;
UPDATE customer SET full_name = 'Jane';
ALTER TABLE customer DROP full_name;
UPDATE customer SET email = 'j@example.com';
SELECT type, data FROM pg_temp.events();

-- restored from a dump: numbers of another table mean nothing, names count
CREATE TABLE restored (a int, id int PRIMARY KEY, secret text, status text, name text);
CREATE TRIGGER "00_dmshook_insert" AFTER INSERT ON restored FOR EACH ROW EXECUTE FUNCTION dmshook.capture('entity: vehicle', 'table: 1', 'key: id#1',
	'exclude: secret#5', 'tenant: name#2', 'vehicle.added: always', 'vehicle.sold: becomes status#3 = sold', 'vehicle.status_changed: becomes if [status#1, id#2] status = ''sold'' AND id > 0');
INSERT INTO restored VALUES (1, 2, 'secret', 'sold', 'Leeds');
SELECT type, key, tenant, record FROM pg_temp.events();
ALTER TABLE restored RENAME secret TO hidden;
INSERT INTO restored VALUES (1, 3, 'secret', 'sold', 'Leeds');
SELECT type, tenant, data FROM pg_temp.events();

-- arguments that make no sense: no error; nothing but the key
CREATE TRIGGER "00_dmshook_update" AFTER UPDATE ON restored FOR EACH ROW EXECUTE FUNCTION dmshook.capture('entity: vehicle', 'key: id',
	'exclde: hidden', 'vehicle.sold: becoms status = sold', 'vehicle.added: always', 'vehicle.status_changed: changed status,');
CREATE TRIGGER "00_dmshook_delete" AFTER DELETE ON restored FOR EACH ROW EXECUTE FUNCTION dmshook.capture('vehicle.sold: always', '', ':', 'nonsense');
UPDATE restored SET name = 'York' WHERE id = 2;
DELETE FROM restored;
SELECT type, data FROM pg_temp.events();
SELECT event_type, operation, condition, hint FROM dmshook.watched WHERE relation = 'restored'::regclass;
CREATE TRIGGER wrong BEFORE INSERT ON restored FOR EACH ROW EXECUTE FUNCTION dmshook.capture('entity: vehicle');
INSERT INTO restored VALUES (1, 1);
DROP TRIGGER wrong ON restored;
SELECT dmshook.capture();

-- quoted and mixed-case names, and values that the arguments must quote
CREATE TABLE "Fahr""zeuge, alle" ("Id Nr#1" int, "a=b" text, "Sta;tus]" text, "if [" text, PRIMARY KEY ("Id Nr#1", "a=b"));
SELECT event_type, condition FROM dmshook.watch_vehicle('"Fahr""zeuge, alle"', status_column => 'Sta;tus]', sold_values => ARRAY['so;ld', 'a "quoted" one', ' blank ', 'x=y', '', 'it''s \back', 'Verkauft, bezahlt'],
	added_when => '"if [" <> '']; always'' AND NEW."a=b" IS NOT NULL', key_names => '{id,"B \"x"}', exclude => '{"if ["}');
INSERT INTO "Fahr""zeuge, alle" VALUES (1, 'a', 'so;ld', 'x'), (2, 'b', 'A "Quoted" one', ']; always'), (3, 'c', ' blank ', 'x'), (4, 'd', 'blank', NULL), (5, 'e', '', NULL), (6, 'f', 'IT''s \back', NULL), (7, 'g', 'verkauft, bezahlt', NULL), (8, 'h', 'verkauft', NULL);
SELECT type, key, source ->> 'table' AS source, record FROM pg_temp.events();
SELECT event_type, operation, condition, columns, excluded, hint FROM dmshook.watched WHERE relation = '"Fahr""zeuge, alle"'::regclass;
SET client_min_messages = warning;
DROP SCHEMA dealer CASCADE;
