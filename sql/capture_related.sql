-- related: the rows behind foreign keys
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE TYPE fuel AS ENUM ('diesel', 'petrol');
CREATE TABLE status (id int PRIMARY KEY, code text UNIQUE, name text, secret text, since date, doc json);
CREATE TABLE customer (branch varchar(9), no int, name text, balance numeric, PRIMARY KEY (no, branch));
CREATE TABLE engine (kind fuel PRIMARY KEY, name text);
CREATE TABLE vehicle (id int PRIMARY KEY, status_id bigint REFERENCES status, status_code varchar(5) REFERENCES status (code), branch text, customer_no smallint, engine fuel REFERENCES engine,
	price int, twin int REFERENCES vehicle, plain int, FOREIGN KEY (customer_no, branch) REFERENCES customer (no, branch));
INSERT INTO status VALUES (1, 'IN', 'In stock', 'x', '2026-01-02', '{"a": [1]}'), (2, 'SOLD', 'So"ld', 'y', NULL, NULL);
INSERT INTO customer VALUES ('Leeds', 7, 'Jane', 10.50), ('York', 7, 'Joe', 0);
INSERT INTO engine VALUES ('diesel', 'Diesel 2.0');
-- refused, with a hint
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{}');
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '["status_id"]');
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{"status_id": "name"}');
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{"status_id": []}');
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{"status_id": ["name", 1]}');
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{"status": ["name"]}');
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{"statusid": ["name"]}');
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{"status_id": ["nam"]}');
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{"plain": ["name"]}');
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{"branch": ["name"]}');
SELECT dmshook.watch('status', 'vehicle.added', 'insert', related => '{"id": ["name"]}');
ALTER TABLE vehicle ADD FOREIGN KEY (plain) REFERENCES status, ADD FOREIGN KEY (plain) REFERENCES vehicle;
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert', related => '{"plain": ["id"]}');
SELECT count(*) FROM dmshook.watched WHERE relation = 'vehicle'::regclass;

-- one and several columns, other types, a table of its own, NULL, the row of this very statement
SELECT event_type, operation, hint FROM dmshook.watch('vehicle', 'vehicle.added', 'insert or update or delete',
	related => '{"status_id": ["code", "name", "since", "doc"], "status_code": ["id"], "branch, customer_no": ["name", "balance"], "engine": ["name", "kind"], "twin": ["price"]}');
SELECT regexp_replace(a, '#\d{3,}', '#', 'g') FROM unnest(dmshook._trigger_args((SELECT tgargs FROM pg_trigger WHERE tgname = '00_dmshook_insert' AND tgrelid = 'vehicle'::regclass))) a WHERE a LIKE 'related%';
INSERT INTO vehicle VALUES (1, 1, 'SOLD', 'Leeds', 7, 'diesel', 100, NULL), (2, 2, 'IN', 'York', 7, NULL, 200, 1), (3, NULL, NULL, 'York', NULL, NULL, 300, 3), (4, NULL, NULL, NULL, 7, NULL, 400, NULL);
UPDATE vehicle SET status_id = 2 WHERE id = 1;
DELETE FROM vehicle WHERE id = 2;
SELECT key, data -> 'related' AS related FROM pg_temp.events();
SELECT event_type, related -> 'status_id' ->> 'name' AS related FROM dmshook.events ORDER BY sequence DESC LIMIT 1;
-- the payload has it
SELECT (dmshook._payload(e, false)::json -> 'data' -> 'related' -> 'status_id' ->> 'name') AS name FROM dmshook.event e ORDER BY e.id DESC LIMIT 1;
-- written by the same command, and by one before it in the same transaction
WITH s AS (INSERT INTO status VALUES (3, 'NEW', 'New') RETURNING id) INSERT INTO vehicle (id, status_id) SELECT 5, id FROM s;
BEGIN;
INSERT INTO status VALUES (4, 'OLD', 'Old');
UPDATE status SET name = 'Older' WHERE id = 4;
INSERT INTO vehicle (id, status_id) VALUES (6, 4);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE vehicle SET status_id = 1 WHERE id = 6;
COMMIT;
SELECT key, data -> 'related' -> 'status_id' AS status FROM pg_temp.events();
-- a row that is missing: the foreign key is gone, the index is there
ALTER TABLE vehicle DROP CONSTRAINT vehicle_status_id_fkey;
UPDATE vehicle SET status_id = 99 WHERE id = 6;
SELECT key, data -> 'related' -> 'status_id' AS status FROM pg_temp.events();
-- settings of the session do not show
SET datestyle = german;
UPDATE vehicle SET status_id = 1 WHERE id = 6;
RESET datestyle;
SELECT data -> 'related' -> 'status_id' ->> 'since' AS since FROM pg_temp.events();

-- the writer needs no right, and no row security counts for it
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_related_dms, regress_related_owner;
RESET client_min_messages;
CREATE ROLE regress_related_dms;
CREATE ROLE regress_related_owner;
GRANT USAGE ON SCHEMA dealer TO regress_related_dms, regress_related_owner;
GRANT ALL ON vehicle TO regress_related_dms;
ALTER TABLE status ENABLE ROW LEVEL SECURITY;
SET ROLE regress_related_dms;
UPDATE vehicle SET price = 7 WHERE id = 6;
RESET ROLE;
SELECT data -> 'related' -> 'status_id' ->> 'name' AS name FROM pg_temp.events();
ALTER TABLE status DISABLE ROW LEVEL SECURITY;

-- renamed: known by number, as are the names that are sent
ALTER TABLE status RENAME TO state;
ALTER TABLE state RENAME name TO label;
ALTER TABLE state ADD name text DEFAULT 'wrong';
ALTER TABLE vehicle RENAME status_id TO state_id;
UPDATE vehicle SET price = 8 WHERE id = 6;
SELECT data -> 'related' -> 'state_id' AS state FROM pg_temp.events();
SELECT DISTINCT hint FROM dmshook.watched WHERE relation = 'vehicle'::regclass;
-- another type, another index
ALTER TABLE state ALTER id TYPE smallint, DROP CONSTRAINT status_pkey CASCADE;
CREATE UNIQUE INDEX ON state (id) WHERE id > 0;
CREATE INDEX ON state (id);
UPDATE vehicle SET price = 9 WHERE id = 6;
SELECT DISTINCT hint FROM dmshook.watched WHERE relation = 'vehicle'::regclass;
CREATE UNIQUE INDEX ON state (id) INCLUDE (code);
UPDATE vehicle SET price = 10 WHERE id = 6;
SELECT data ->> 'related' IS NOT NULL AS related, data -> 'related' -> 'state_id' ->> 'code' AS code FROM pg_temp.events();

-- fails closed: a column that is sent, one of the foreign key, the table
ALTER TABLE state DROP doc;
UPDATE vehicle SET price = 11 WHERE id = 6;
SELECT data ->> 'related' AS related, record ->> 'price' AS price FROM pg_temp.events();
SELECT DISTINCT hint FROM dmshook.watched WHERE relation = 'vehicle'::regclass;
SELECT problem FROM dmshook.check() WHERE subject LIKE '%vehicle%' LIMIT 1;
SELECT event_type FROM dmshook.watch('vehicle', 'vehicle.added', 'update', related => '{"status_code": ["label"]}');
UPDATE vehicle SET status_code = 'IN' WHERE id = 6;
ALTER TABLE vehicle DROP status_code;
UPDATE vehicle SET price = 12 WHERE id = 6;
SELECT data ->> 'related' AS related, record ->> 'price' AS price FROM pg_temp.events();
SELECT DISTINCT hint FROM dmshook.watched WHERE relation = 'vehicle'::regclass;
SELECT event_type FROM dmshook.watch('vehicle', 'vehicle.added', 'update', related => '{"engine": ["name"]}');
UPDATE vehicle SET engine = 'diesel' WHERE id = 6;
DROP TABLE engine CASCADE;
CREATE TABLE engine (kind fuel PRIMARY KEY, name text);
UPDATE vehicle SET price = 13 WHERE id = 6;
SELECT data ->> 'related' AS related, record ->> 'price' AS price FROM pg_temp.events();
SELECT DISTINCT hint FROM dmshook.watched WHERE relation = 'vehicle'::regclass;

-- what the owner may not read is not sent
CREATE TABLE job (id int PRIMARY KEY, state_id int);
ALTER TABLE job OWNER TO regress_related_owner;
CREATE TABLE person (id int PRIMARY KEY, name text, salary int);
INSERT INTO person VALUES (1, 'Jim', 5);
ALTER TABLE job ADD person_id int REFERENCES person;
SELECT dmshook.watch('job', 'job.created', 'insert', related => '{"person_id": ["name", "salary"]}');
GRANT SELECT (id, name) ON person TO regress_related_owner;
SELECT dmshook.watch('job', 'job.created', 'insert', related => '{"person_id": ["name", "salary"]}');
SELECT event_type FROM dmshook.watch('job', 'job.created', 'insert', related => '{"person_id": ["name"]}');
INSERT INTO job VALUES (1, 1, 1);
REVOKE SELECT (name) ON person FROM regress_related_owner;
INSERT INTO job VALUES (2, 1, 1);
GRANT SELECT ON person TO regress_related_owner;
ALTER TABLE person ENABLE ROW LEVEL SECURITY;
INSERT INTO job VALUES (3, 1, 1);
SELECT hint FROM dmshook.watched WHERE relation = 'job'::regclass;
ALTER TABLE person OWNER TO regress_related_owner;
INSERT INTO job VALUES (4, 1, 1);
SELECT key, data ->> 'related' AS related FROM pg_temp.events();

-- large rows are left out, and partitioned tables refused; a watched one works
UPDATE person SET name = repeat('x', 3000000);
INSERT INTO job VALUES (5, 1, 1);
SELECT key, data ->> 'related' AS related FROM pg_temp.events();
CREATE TABLE branch (id int PRIMARY KEY, name text) PARTITION BY LIST (id);
CREATE TABLE branch_1 PARTITION OF branch FOR VALUES IN (1);
CREATE TABLE site (id int PRIMARY KEY, name text);
INSERT INTO site VALUES (1, 'Leeds'), (2, 'York');
CREATE TABLE deal (id int, branch_id int REFERENCES branch, site_id int REFERENCES site, status text, PRIMARY KEY (id, site_id)) PARTITION BY LIST (site_id);
CREATE TABLE deal_1 PARTITION OF deal FOR VALUES IN (1);
CREATE TABLE deal_2 (status text, site_id int NOT NULL, id int NOT NULL, branch_id int);
ALTER TABLE deal ATTACH PARTITION deal_2 FOR VALUES IN (2);
SELECT dmshook.watch_deal('deal', related => '{"branch_id": ["name"]}');
SELECT count(*) FROM dmshook.watch_deal('deal', related => '{"site_id": ["name"]}');
INSERT INTO deal VALUES (1, NULL, 1, 'new'), (2, NULL, 2, 'new');
UPDATE deal SET status = 'moved', site_id = 2 WHERE id = 1;
SELECT type, key, data -> 'related' AS related FROM pg_temp.events();
UPDATE deal SET status = 'completed';
SELECT type, key, data -> 'related' AS related FROM pg_temp.events();

-- restored from a dump: names count, numbers and OIDs do not
CREATE TABLE "Si.te" (x int, name text, id int PRIMARY KEY);
INSERT INTO "Si.te" VALUES (5, 'Hull', 1);
CREATE TABLE restored (site_id int, id int PRIMARY KEY);
CREATE TRIGGER "00_dmshook_insert" AFTER INSERT ON restored FOR EACH ROW EXECUTE FUNCTION dmshook.capture('entity: deal', 'table: 1', 'key: id#1',
	'related: site_id#4 = dealer."Si.te"#1259; id#1; name#1', 'deal.created: always');
INSERT INTO restored VALUES (1, 1);
DROP TABLE "Si.te";
INSERT INTO restored VALUES (1, 2);
CREATE TABLE "Si.te" (id int PRIMARY KEY, name text);
INSERT INTO "Si.te" VALUES (1, 'Hull again');
INSERT INTO restored VALUES (1, 3);
-- arguments that make no sense: nothing but the key
CREATE OR REPLACE TRIGGER "00_dmshook_insert" AFTER INSERT ON restored FOR EACH ROW EXECUTE FUNCTION dmshook.capture('entity: deal', 'table: 1', 'key: id#1',
	'related: site_id#4 = dealer.site; id#1; name#1', 'deal.created: always');
INSERT INTO restored VALUES (1, 4);
SELECT data FROM pg_temp.events();

-- many rows with few behind them: each gets its own, whatever was kept of the others; keys of text, short and long, and of numbers
CREATE TABLE kind (id text PRIMARY KEY, name text);
CREATE TABLE place (id int PRIMARY KEY, name text);
CREATE TABLE thing (id int PRIMARY KEY, kind text REFERENCES kind, place int REFERENCES place, state text);
INSERT INTO kind SELECT repeat('k', g), 'Kind ' || g FROM generate_series(1, 60) g;
INSERT INTO place SELECT g - 50, 'Place ' || g - 50 FROM generate_series(1, 200) g;
SELECT count(*) FROM dmshook.watch('thing', 'deal.created', 'insert or update', entity => 'deal', related => '{"kind": ["id", "name"], "place": ["name"]}');
INSERT INTO thing SELECT g, CASE WHEN g % 7 > 0 THEN repeat('k', g % 60 + 1) END, CASE WHEN g % 11 > 0 THEN g * 37 % 200 - 49 END FROM generate_series(1, 1000) g;
SELECT count(*), bool_and((data -> 'related' -> 'kind' ->> 'id') IS NOT DISTINCT FROM (record ->> 'kind') AND
	(data -> 'related' -> 'kind' ->> 'name') IS NOT DISTINCT FROM ('Kind ' || length(record ->> 'kind')) AND
	(data -> 'related' -> 'place' ->> 'name') IS NOT DISTINCT FROM ('Place ' || (record ->> 'place'))) AS each_its_own FROM pg_temp.events();
-- as the statement sees it: changed between two, by a trigger between two of its own, in a savepoint that is rolled back
BEGIN;
UPDATE thing SET state = 'a' WHERE id = 1;
UPDATE kind SET name = 'Other' WHERE id = 'kk';
UPDATE thing SET state = 'b' WHERE id = 1;
SAVEPOINT s;
UPDATE kind SET name = 'Undone' WHERE id = 'kk';
UPDATE thing SET state = 'c' WHERE id = 1;
ROLLBACK TO s;
UPDATE thing SET state = 'd' WHERE id = 1;
COMMIT;
CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE thing SET state = 'first' WHERE id = 1;
	UPDATE kind SET name = 'Between' WHERE id = 'kk';
	UPDATE thing SET state = 'second' WHERE id = 1;
	RETURN NULL;
END $$;
CREATE TRIGGER twice AFTER UPDATE ON thing FOR EACH ROW WHEN (NEW.state = 'twice') EXECUTE FUNCTION twice();
UPDATE thing SET state = 'twice' WHERE id = 121;
SELECT key ->> 'id' AS id, record ->> 'state' AS state, data -> 'related' -> 'kind' ->> 'name' AS kind FROM pg_temp.events();
-- a column goes between two statements, and comes back
BEGIN;
UPDATE thing SET state = 'e' WHERE id = 61;
ALTER TABLE kind RENAME name TO title;
UPDATE thing SET state = 'f' WHERE id = 61;
ALTER TABLE kind DROP title;
UPDATE thing SET state = 'g' WHERE id = 61;
SELECT record ->> 'state' AS state, data -> 'related' AS related FROM pg_temp.events();
ROLLBACK;
UPDATE thing SET state = 'h' WHERE id = 61;
SELECT record ->> 'state' AS state, data -> 'related' -> 'kind' ->> 'name' AS kind, data -> 'related' -> 'place' AS place FROM pg_temp.events();
SET client_min_messages = warning;
DROP SCHEMA dealer CASCADE;
DROP ROLE regress_related_dms, regress_related_owner;
