-- the entries of many events go into the log's key together: a sound index comes of it, whatever stands there
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE EXTENSION amcheck;
CREATE EXTENSION pg_walinspect;
CREATE TABLE vehicle (id int PRIMARY KEY, status text);
SELECT count(*) FROM dmshook.watch_vehicle('vehicle');
-- each row that was written is found by the key, and its entries are in order; did records of WAL hold many of them?
CREATE TEMP TABLE wal AS SELECT pg_current_wal_flush_lsn() AS at;
CREATE FUNCTION pg_temp.sound(OUT added bigint, OUT by_key bigint) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM bt_index_check('dmshook.event_pkey', true);
	SET LOCAL enable_seqscan = off;
	SELECT count(*) INTO by_key FROM pg_temp.mark m, generate_series(m.id + 1, (SELECT last_value FROM dmshook.event_id)) g WHERE EXISTS (SELECT FROM dmshook.event e WHERE e.id = g);
	SET LOCAL enable_seqscan = on;
	SET LOCAL enable_indexscan = off;
	SET LOCAL enable_indexonlyscan = off;
	SET LOCAL enable_bitmapscan = off;
	SELECT count(*) INTO added FROM dmshook.event WHERE id > (SELECT id FROM pg_temp.mark) AND id <= (SELECT last_value FROM dmshook.event_id);
	UPDATE pg_temp.mark SET id = (SELECT last_value FROM dmshook.event_id);
END $$;
CREATE FUNCTION pg_temp.together() RETURNS boolean LANGUAGE sql AS $$
	WITH here AS (SELECT pg_current_wal_flush_lsn() AS at), last AS (UPDATE pg_temp.wal w SET at = here.at FROM here, pg_temp.wal o RETURNING o.at)
	SELECT count(*) > 0 FROM last, here, pg_get_wal_records_info(last.at, here.at) WHERE resource_manager = 'Generic'
$$;
INSERT INTO vehicle SELECT g, 'a' FROM generate_series(700001, 700003) g;
SELECT * FROM pg_temp.sound();
SELECT pg_temp.together();
-- through some splits of the last page
INSERT INTO vehicle SELECT g, 'a' FROM generate_series(700004, 701500) g;
SELECT * FROM pg_temp.sound();
SELECT pg_temp.together();
UPDATE vehicle SET status = 'sold' WHERE id <= 700500;
SELECT * FROM pg_temp.sound();
SELECT pg_temp.together();
-- what is rolled back leaves entries without rows, as ever
BEGIN;
INSERT INTO vehicle SELECT g, 'b' FROM generate_series(702001, 702100) g;
SAVEPOINT s;
INSERT INTO vehicle SELECT g, 'b' FROM generate_series(702101, 702200) g;
ROLLBACK TO s;
COMMIT;
SELECT * FROM pg_temp.sound();

-- an entry far above the sequence (an admin's): the others go before it
INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	SELECT last_value + 5000, 0, now(), 'vehicle.added', 'vehicle', '{}', '{}', '{}', '{}' FROM dmshook.event_id;
INSERT INTO vehicle SELECT g, 'c' FROM generate_series(703001, 703150) g;
SELECT * FROM pg_temp.sound();
INSERT INTO vehicle SELECT g, 'c' FROM generate_series(703151, 704500) g;
SELECT * FROM pg_temp.sound();
SELECT pg_temp.together();
-- one that is in the way: the statement fails, as it would have with index_insert(), and the next one is beyond it
INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	SELECT last_value + 30, 0, now(), 'vehicle.in_the_way', 'vehicle', '{}', '{}', '{}', '{}' FROM dmshook.event_id;
\set VERBOSITY sqlstate
INSERT INTO vehicle SELECT g, 'd' FROM generate_series(705001, 705060) g;
\set VERBOSITY default
SELECT count(*) FROM vehicle WHERE status = 'd';
DELETE FROM dmshook.event WHERE type = 'vehicle.in_the_way';
INSERT INTO vehicle SELECT g, 'd' FROM generate_series(705001, 705060) g;
SELECT * FROM pg_temp.sound();
-- one that is dead is in nobody's way
INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	SELECT last_value + 30, 0, now(), 'vehicle.in_the_way', 'vehicle', '{}', '{}', '{}', '{}' FROM dmshook.event_id;
DELETE FROM dmshook.event WHERE type = 'vehicle.in_the_way';
INSERT INTO vehicle SELECT g, 'e' FROM generate_series(706001, 706060) g;
SELECT * FROM pg_temp.sound();

-- so many of them that the last page holds no others: it is not the place for ours
INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	SELECT last_value + 100000 + g, 0, now(), 'vehicle.added', 'vehicle', '{}', '{}', '{}', '{}' FROM dmshook.event_id, generate_series(1, 1000) g;
INSERT INTO vehicle SELECT g, 'e' FROM generate_series(706101, 706200) g;
SELECT * FROM pg_temp.sound();
DELETE FROM dmshook.event WHERE id > (SELECT last_value FROM dmshook.event_id);

-- another key, and the index made anew
REINDEX INDEX dmshook.event_pkey;
INSERT INTO vehicle SELECT g, 'f' FROM generate_series(707001, 707100) g;
SELECT * FROM pg_temp.sound();
BEGIN;
TRUNCATE dmshook.event;
INSERT INTO vehicle SELECT g, 'f' FROM generate_series(707101, 707200) g;
SELECT * FROM pg_temp.sound();
ROLLBACK;
INSERT INTO vehicle SELECT g, 'f' FROM generate_series(707301, 707400) g;
SELECT * FROM pg_temp.sound();
BEGIN;
ALTER TABLE dmshook.event DROP CONSTRAINT event_pkey, ADD CONSTRAINT event_pkey PRIMARY KEY (id, nonce);
INSERT INTO vehicle SELECT g, 'g' FROM generate_series(708001, 708100) g;
SELECT * FROM pg_temp.sound();
ROLLBACK;
DELETE FROM dmshook.event WHERE id > (SELECT last_value FROM dmshook.event_id);
SET client_min_messages = warning;
SELECT dmshook.unwatch_all();
DROP SCHEMA dealer CASCADE;
