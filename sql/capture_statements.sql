-- every kind of statement that writes rows
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE TABLE vehicle (id int PRIMARY KEY, status text, note text);
SELECT event_type, operation FROM dmshook.watch_vehicle('vehicle');

-- rolled back: nothing; a savepoint rolled back takes its own with it
BEGIN;
INSERT INTO vehicle VALUES (1, 'sold');
ROLLBACK;
BEGIN;
INSERT INTO vehicle VALUES (2, 'a');
SAVEPOINT s;
UPDATE vehicle SET status = 'sold' WHERE id = 2;
INSERT INTO vehicle VALUES (3, 'a');
ROLLBACK TO s;
UPDATE vehicle SET status = 'b' WHERE id = 2;
SAVEPOINT s2;
UPDATE vehicle SET status = 'c' WHERE id = 2;
RELEASE s2;
COMMIT;
SELECT * FROM pg_temp.raised();
DO $$
BEGIN
	INSERT INTO vehicle VALUES (4, 'a');
	BEGIN
		INSERT INTO vehicle VALUES (5, 'sold');
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
		INSERT INTO vehicle VALUES (6, 'a');
	END;
END $$;
SELECT * FROM pg_temp.raised();

-- ON CONFLICT: an insert is added, an update is not, nothing is nothing
INSERT INTO vehicle VALUES (2, 'sold'), (7, 'sold') ON CONFLICT (id) DO UPDATE SET status = excluded.status;
INSERT INTO vehicle VALUES (2, 'x') ON CONFLICT DO NOTHING;
SELECT * FROM pg_temp.raised();

-- MERGE
MERGE INTO vehicle v USING (VALUES (2, 'returned'), (8, 'sold'), (4, 'gone')) AS s(id, status) ON v.id = s.id
	WHEN MATCHED AND s.status = 'gone' THEN DELETE
	WHEN MATCHED THEN UPDATE SET status = s.status
	WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.status);
SELECT * FROM pg_temp.raised();

-- COPY
COPY vehicle (id, status) FROM stdin;
10	In stock
11	Sold
12	\N
\.
SELECT * FROM pg_temp.raised();

-- writable CTEs
WITH gone AS (DELETE FROM vehicle WHERE id = 10 RETURNING *), new AS (INSERT INTO vehicle SELECT id + 100, status FROM gone RETURNING *)
	UPDATE vehicle SET status = 'sold' WHERE id = 12;
SELECT * FROM pg_temp.raised();

-- UPDATE of the key; DELETE by watch(); TRUNCATE raises nothing
SELECT dmshook.define_event_type('vehicle.removed', 'vehicle', 'A vehicle is gone');
SELECT event_type, operation, condition FROM dmshook.watch('vehicle', 'vehicle.removed', 'delete');
UPDATE vehicle SET id = 13, status = 'x' WHERE id = 11;
DELETE FROM vehicle WHERE id = 13;
TRUNCATE vehicle;
SELECT type, key, record, previous FROM pg_temp.events();

-- rules and views of the DMS in between
CREATE VIEW stock AS SELECT id, status FROM vehicle;
INSERT INTO stock VALUES (20, 'sold');
SELECT * FROM pg_temp.raised();
-- a foreign key's action is a change like any other
CREATE TABLE job (id int PRIMARY KEY, vehicle int REFERENCES vehicle ON DELETE SET NULL, status text);
SELECT event_type FROM dmshook.watch('job', 'job.completed', 'update', columns => '{vehicle}');
INSERT INTO job VALUES (1, 20);
DELETE FROM vehicle;
SELECT type, key, record, previous FROM pg_temp.events();

-- a prepared transaction
BEGIN;
INSERT INTO vehicle VALUES (30, 'sold');
PREPARE TRANSACTION 'dealer';
SELECT * FROM pg_temp.raised();
COMMIT PREPARED 'dealer';
SELECT * FROM pg_temp.raised();

-- deferred constraint triggers of the DMS, and what they write at commit
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE vehicle SET status = 'late' WHERE id = NEW.id; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON vehicle DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION later();
INSERT INTO vehicle VALUES (31, 'a');
SELECT * FROM pg_temp.raised();

-- lastval() is the application's
CREATE TABLE serial_table (id bigserial PRIMARY KEY, status text);
SELECT event_type FROM dmshook.watch_vehicle('serial_table');
SELECT setval('serial_table_id_seq', 4711);
INSERT INTO serial_table (status) VALUES ('a');
SELECT lastval();
SELECT type, key FROM pg_temp.events();

-- nothing where triggers are off, and where capture is
SET session_replication_role = replica;
INSERT INTO vehicle VALUES (40, 'sold');
RESET session_replication_role;
SET dmshook.capture = off;
INSERT INTO vehicle VALUES (41, 'sold');
RESET dmshook.capture;
SELECT * FROM pg_temp.raised();
SET client_min_messages = warning;
DROP SCHEMA dealer CASCADE;
