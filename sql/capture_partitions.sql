-- partitions, rows that move between them, and inheritance
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE TABLE vehicle (id int, status text, branch text, price int, PRIMARY KEY (branch, id)) PARTITION BY LIST (branch);
CREATE TABLE vehicle_leeds PARTITION OF vehicle FOR VALUES IN ('Leeds');
-- of another shape than the table: other order, a dropped column
CREATE TABLE vehicle_york (gone int, price int, id int NOT NULL, branch text NOT NULL, status text);
ALTER TABLE vehicle_york DROP gone;
SELECT event_type, operation, condition, trigger_name, rows_now, hint FROM dmshook.watch_vehicle('vehicle', key_columns => '{id}', tenant_column => 'branch', exclude => '{price}');
ALTER TABLE vehicle ATTACH PARTITION vehicle_york FOR VALUES IN ('York');
CREATE TABLE vehicle_rest PARTITION OF vehicle DEFAULT PARTITION BY RANGE (id);
CREATE TABLE vehicle_rest_1 PARTITION OF vehicle_rest FOR VALUES FROM (0) TO (1000);
SELECT relation, event_type, operation, hint FROM dmshook.watched;

INSERT INTO vehicle VALUES (1, 'In stock', 'Leeds', 10), (2, 'sold', 'York', 20), (3, 'In stock', 'Hull', 30);
SELECT type, key, tenant, source ->> 'table' AS source, record FROM pg_temp.events();
UPDATE vehicle SET status = 'sold' WHERE id IN (1, 3);
SELECT * FROM pg_temp.raised();
UPDATE vehicle SET status = 'In stock';
SELECT count(*) FROM pg_temp.raised();

-- a move: what the UPDATE would have raised, told to both tenants, not added
UPDATE vehicle SET branch = 'York', status = 'sold' WHERE id = 1;
SELECT type, key, tenant, old_tenant, source ->> 'table' AS source, record, previous FROM pg_temp.events();
-- a move that changes nothing else: nothing; many at once; into and out of partitions below partitions
UPDATE vehicle SET branch = 'Hull' WHERE id = 1;
SELECT * FROM pg_temp.raised();
UPDATE vehicle SET branch = CASE branch WHEN 'Hull' THEN 'Leeds' ELSE 'Hull' END, status = status || '!';
SELECT type, key, tenant, old_tenant, previous FROM pg_temp.events();
-- a DELETE and an INSERT of the same row are what they are
WITH old AS (DELETE FROM vehicle WHERE id = 1 RETURNING *) INSERT INTO vehicle SELECT id, status, 'York', price FROM old;
BEGIN;
DELETE FROM vehicle WHERE id = 2;
INSERT INTO vehicle VALUES (2, 'In stock', 'Leeds', 20);
COMMIT;
SELECT * FROM pg_temp.raised();
-- a DELETE is told from a move
SELECT dmshook.define_event_type('vehicle.removed', 'vehicle', 'A vehicle is gone');
SELECT event_type, operation, condition, rows_now FROM dmshook.watch('vehicle', 'vehicle.removed', 'delete', key_columns => '{id}');
DELETE FROM vehicle WHERE id = 3;
UPDATE vehicle SET branch = 'Leeds', status = 'moved' WHERE id = 1;
MERGE INTO vehicle v USING (VALUES (1, 'York', 'merged')) s(id, branch, status) ON v.id = s.id WHEN MATCHED THEN UPDATE SET branch = s.branch, status = s.status;
SELECT type, key, record, previous FROM pg_temp.events();
-- with the whole primary key as key, which the move changes
SELECT event_type FROM dmshook.watch_vehicle('vehicle');
UPDATE vehicle SET branch = 'Hull', status = 'x' WHERE id = 1;
SELECT type, key, previous FROM pg_temp.events();
-- a trigger of the DMS that writes and moves rows in between
CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO vehicle VALUES (OLD.id + 100, 'new', 'York', 0);
	UPDATE vehicle SET branch = 'Leeds', status = 'followed' WHERE id = OLD.id + 100;
	RETURN NULL;
END $$;
CREATE TRIGGER zz_follow AFTER DELETE ON vehicle FOR EACH ROW WHEN (OLD.id < 100) EXECUTE FUNCTION follow();
UPDATE vehicle SET branch = 'York', status = 'y' WHERE id = 1;
DROP TRIGGER zz_follow ON vehicle;
SELECT type, key, previous FROM pg_temp.events();
-- a move that a savepoint takes back; a move that the other partition refuses
BEGIN;
SAVEPOINT s;
UPDATE vehicle SET branch = 'Hull', status = 'z' WHERE id = 1;
ROLLBACK TO s;
UPDATE vehicle SET branch = 'Leeds', status = 'zz' WHERE id = 1;
COMMIT;
SELECT type, key, previous FROM pg_temp.events();
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON vehicle_york FOR EACH ROW EXECUTE FUNCTION refuse();
UPDATE vehicle SET branch = 'York', status = 'refused' WHERE id = 1;
INSERT INTO vehicle VALUES (50, 'new', 'Hull', 0);
DROP TRIGGER refuse ON vehicle_york;
SELECT type, key, previous FROM pg_temp.events();
-- columns are renamed above, and tables
ALTER TABLE vehicle RENAME status TO state;
ALTER TABLE vehicle RENAME TO car;
INSERT INTO car VALUES (60, 'In stock', 'York', 1);
UPDATE car SET branch = 'Hull', state = 'Sold' WHERE id = 60;
SELECT type, key, source ->> 'table' AS source, record, previous FROM pg_temp.events();
-- what is a partition is watched by what it is part of
SELECT dmshook.watch_vehicle('vehicle_york', status_column => 'state');
ALTER TABLE car DETACH PARTITION vehicle_york;
INSERT INTO vehicle_york (id, branch) VALUES (70, 'York');
SELECT * FROM pg_temp.raised();
SELECT event_type FROM dmshook.watch_vehicle('vehicle_york', status_column => 'state', key_columns => '{id}');
INSERT INTO vehicle_york (id, branch) VALUES (71, 'York');
SELECT * FROM pg_temp.raised();
SELECT dmshook.unwatch('car');
SELECT relation, event_type, operation FROM dmshook.watched;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'vehicle%' AND NOT tgisinternal ORDER BY 1, 2;

-- inheritance: each table is watched for itself, and the hint says so
CREATE TABLE deal (id int PRIMARY KEY, status text);
CREATE TABLE deal_fleet (fleet int, PRIMARY KEY (id)) INHERITS (deal);
INSERT INTO deal_fleet VALUES (1, 'completed');
SELECT event_type, rows_now, hint FROM dmshook.watch_deal('deal') WHERE operation = 'insert';
INSERT INTO deal VALUES (1, 'x');
INSERT INTO deal_fleet VALUES (2, 'x');
UPDATE deal SET status = 'completed';
SELECT type, source ->> 'table' AS source, record FROM pg_temp.events();
SELECT event_type, rows_now, hint FROM dmshook.watch_deal('deal_fleet') WHERE operation = 'insert';
UPDATE deal SET status = 'y' WHERE id = 2;
SELECT type, source ->> 'table' AS source, record FROM pg_temp.events();

-- partitions that come and go leave nothing behind in a session
CREATE TABLE job (id int, status text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
SELECT event_type FROM dmshook.watch_job('job') WHERE operation = 'insert';
DO $$
BEGIN
	FOR i IN 1 .. 12 LOOP
		EXECUTE format('CREATE TABLE job_%s PARTITION OF job FOR VALUES FROM (%s) TO (%s)', i, i, i + 1);
		EXECUTE format('INSERT INTO job VALUES (%s, ''completed'')', i);
		EXECUTE format('DROP TABLE job_%s', i);
	END LOOP;
END $$;
CREATE TABLE job_20 PARTITION OF job FOR VALUES FROM (20) TO (21);
INSERT INTO job VALUES (20, 'invoiced');
SELECT count(*), count(DISTINCT key) FROM pg_temp.raised();
SELECT count(*) < 12 AS few FROM pg_backend_memory_contexts WHERE name = 'dmshook capture rules';
SET client_min_messages = warning;
DROP SCHEMA dealer CASCADE;
