-- a statement's events are written together: in the order of the changes all the same, and none too many or too few
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
-- what was raised, and whether ids are in the order in which things happened
CREATE FUNCTION pg_temp.told(OUT events bigint, OUT in_order boolean, OUT by_type text) LANGUAGE sql AS $$
	WITH last AS (UPDATE pg_temp.mark m SET id = GREATEST((SELECT max(id) FROM dmshook.event), m.id) FROM pg_temp.mark o RETURNING o.id),
		e AS (SELECT type, at >= lag(at, 1, '-infinity') OVER (ORDER BY id) AS ordered FROM dmshook.event WHERE id > (SELECT id FROM last)),
		t AS (SELECT type, count(*) AS n, bool_and(ordered) AS ordered FROM e GROUP BY type)
	SELECT sum(n), bool_and(ordered), string_agg(type || ' ' || n, ', ' ORDER BY type) FROM t
$$;
CREATE TEMP TABLE since AS SELECT id FROM pg_temp.mark;
CREATE TABLE branch (id int PRIMARY KEY, name text);
CREATE TABLE vehicle (id int PRIMARY KEY, status text, note text, branch int REFERENCES branch ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE job (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text, vehicle int REFERENCES vehicle ON DELETE CASCADE);
INSERT INTO branch VALUES (1, 'Leeds'), (2, 'York'), (3, 'Hull');
SELECT count(*) FROM dmshook.watch_vehicle('vehicle'), dmshook.watch_job('job');
SELECT count(*) FROM dmshook.watch('vehicle', 'vehicle.gone', 'delete', entity => 'vehicle');

-- less than a batch, a batch, one more; batches that end by their size
INSERT INTO vehicle SELECT g, 'a', NULL, g % 3 + 1 FROM generate_series(1, 63) g;
SELECT * FROM pg_temp.told();
INSERT INTO vehicle SELECT g, 'a', NULL, g % 3 + 1 FROM generate_series(64, 127) g;
SELECT * FROM pg_temp.told();
INSERT INTO vehicle SELECT g, 'a', NULL, g % 3 + 1 FROM generate_series(128, 1000) g;
SELECT * FROM pg_temp.told();
INSERT INTO vehicle SELECT g, 'a', repeat('long ', 1000 + g), 1 FROM generate_series(1001, 1200) g;
SELECT count(*), bool_and((record ->> 'note') = repeat('long ', 1000 + (key ->> 'id')::int)) AS whole FROM pg_temp.events();
UPDATE vehicle SET status = 'sold' WHERE id <= 200;
SELECT * FROM pg_temp.told();

-- two watched tables in one statement, and the rows that go by a foreign key
WITH v AS (INSERT INTO vehicle SELECT g, 'b' FROM generate_series(2001, 2100) g RETURNING id)
	INSERT INTO job (status, vehicle) SELECT 'open', id - 2000 FROM v;
SELECT * FROM pg_temp.told();
DELETE FROM branch WHERE id = 3;
SELECT * FROM pg_temp.told();
UPDATE branch SET id = 20 WHERE id = 2;
SELECT * FROM pg_temp.told();

-- an error: nothing, and what a savepoint kept
BEGIN;
INSERT INTO vehicle SELECT g, 'c' FROM generate_series(3001, 3100) g;
SAVEPOINT s;
INSERT INTO vehicle SELECT CASE WHEN g = 3190 THEN 3001 ELSE g END, 'c' FROM generate_series(3101, 3200) g;
ROLLBACK TO s;
INSERT INTO vehicle SELECT g, 'c' FROM generate_series(3201, 3210) g;
COMMIT;
SELECT * FROM pg_temp.told();

-- a trigger of the DMS after ours, that changes the row again, emits, fails and catches it, and looks
CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	seen bigint;
BEGIN
	IF NEW.note = 'looks' THEN
		SELECT count(*) INTO seen FROM dmshook.event WHERE id > (SELECT id FROM pg_temp.mark) AND type = 'vehicle.added' AND (key ->> 'id')::int = NEW.id;
		IF seen <> 1 THEN RAISE EXCEPTION 'the event of this row is seen % times', seen; END IF;
	ELSIF NEW.note = 'again' THEN
		UPDATE vehicle SET status = 'again' WHERE id = NEW.id;
	ELSIF NEW.note = 'caught' THEN
		BEGIN
			UPDATE vehicle SET status = 'kept' WHERE id = NEW.id;
			INSERT INTO job (status, vehicle) SELECT 'kept', NEW.id FROM generate_series(1, 3);
			BEGIN
				UPDATE vehicle SET status = 'lost' WHERE id = NEW.id;
				PERFORM dmshook.emit('vehicle.lost', 'vehicle', jsonb_build_object('id', NEW.id), '{}');
				RAISE EXCEPTION 'no';
			EXCEPTION WHEN raise_exception THEN
				PERFORM dmshook.emit('vehicle.kept', 'vehicle', jsonb_build_object('id', NEW.id), '{}');
			END;
			UPDATE vehicle SET status = 'kept too' WHERE id = NEW.id;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	ELSIF NEW.note = 'fails' THEN
		RAISE EXCEPTION 'no %', NEW.id;
	ELSIF NEW.note = 'lost' THEN
		BEGIN
			INSERT INTO job (status, vehicle) SELECT 'lost', NEW.id FROM generate_series(1, 100);
			PERFORM 1 / 0;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END IF;
	RETURN NULL;
END $$;
SELECT dmshook.define_event_type('vehicle.' || e, 'vehicle', e) FROM unnest('{lost,kept}'::text[]) e;
CREATE TRIGGER busy AFTER INSERT ON vehicle FOR EACH ROW EXECUTE FUNCTION busy();
INSERT INTO vehicle SELECT g, 'd', (ARRAY['again', 'quiet', 'caught', 'quiet', 'lost', 'quiet', 'looks', 'caught', 'lost'])[g % 9 + 1] FROM generate_series(4005, 4013) g;
SELECT e.type, e.key ->> 'id' AS id, COALESCE(e.record ->> 'status', '') AS status FROM pg_temp.events() e ORDER BY e.id;
INSERT INTO vehicle SELECT g, 'd', (ARRAY['again', 'quiet', 'caught', 'quiet', 'lost', 'quiet', 'looks', 'caught', 'lost'])[g % 9 + 1] FROM generate_series(4101, 4400) g;
SELECT * FROM pg_temp.told();
-- the same, in a subtransaction that is rolled back, and in one that stays
DO $$
BEGIN
	BEGIN
		INSERT INTO vehicle SELECT g, 'd', (ARRAY['again', 'quiet', 'caught', 'quiet', 'lost', 'quiet', 'looks', 'caught', 'lost'])[g % 9 + 1] FROM generate_series(4501, 4600) g;
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
		INSERT INTO vehicle SELECT g, 'd', (ARRAY['again', 'quiet', 'caught', 'quiet', 'lost', 'quiet', 'looks', 'caught', 'lost'])[g % 9 + 1] FROM generate_series(4601, 4609) g;
	END;
END $$;
SELECT * FROM pg_temp.told();
-- a trigger that fails while events wait: they are gone, those before and after are not
INSERT INTO vehicle SELECT g, 'd', CASE g WHEN 4720 THEN 'fails' ELSE 'quiet' END FROM generate_series(4701, 4730) g;
INSERT INTO vehicle SELECT g, 'd', 'quiet' FROM generate_series(4731, 4732) g;
SELECT * FROM pg_temp.told();
DO $$
BEGIN
	INSERT INTO vehicle SELECT g, 'd', 'quiet' FROM generate_series(4741, 4743) g;
	FOR i IN 1..3 LOOP
		BEGIN
			INSERT INTO vehicle SELECT g, 'd', CASE g WHEN 4790 THEN 'fails' ELSE 'quiet' END FROM generate_series(4751, 4790 + i) g;
		EXCEPTION WHEN raise_exception THEN
			INSERT INTO vehicle SELECT i * 10 + g, 'd', 'quiet' FROM generate_series(4801, 4805) g;
		END;
	END LOOP;
END $$;
SELECT * FROM pg_temp.told();
DO $$
BEGIN
	BEGIN
		INSERT INTO vehicle SELECT g, 'd', 'quiet' FROM generate_series(4901, 4903) g;
	EXCEPTION WHEN division_by_zero THEN NULL;
	END;
END $$;
SELECT * FROM pg_temp.told();
-- each row that is there was added once, and no other one
SELECT count(*) AS differ FROM (SELECT (key ->> 'id')::int AS id FROM dmshook.event WHERE id > (SELECT id FROM pg_temp.since) AND type = 'vehicle.added' AND (key ->> 'id')::int > 3000) e
	FULL JOIN (SELECT id FROM vehicle WHERE id > 3000) v USING (id) FULL JOIN (SELECT (key ->> 'id')::int AS id, count(*) FROM dmshook.event
	WHERE id > (SELECT id FROM pg_temp.since) AND type = 'vehicle.added' AND (key ->> 'id')::int > 3000 GROUP BY 1) n USING (id) WHERE e IS NULL OR v IS NULL OR n.count <> 1;
DROP TRIGGER busy ON vehicle;

-- COPY, alone and from inside a function; a function that writes and looks
COPY vehicle (id, status) FROM PROGRAM 'seq 5001 5150 | sed "s/$/\tcopied/"';
SELECT * FROM pg_temp.told();
CREATE FUNCTION write_and_look() RETURNS TABLE (added bigint, more bigint) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO vehicle SELECT g, 'e' FROM generate_series(6001, 6010) g;
	SELECT count(*) INTO added FROM dmshook.events WHERE event_type = 'vehicle.added' AND (entity_key ->> 'id')::int BETWEEN 6001 AND 6020;
	EXECUTE $c$COPY vehicle (id, status) FROM PROGRAM 'seq 6011 6020 | sed "s/$/\tcopied/"'$c$;
	SELECT count(*) INTO more FROM dmshook.events WHERE event_type = 'vehicle.added' AND (entity_key ->> 'id')::int BETWEEN 6001 AND 6020;
	RETURN NEXT;
END $$;
SELECT * FROM write_and_look();
SELECT * FROM pg_temp.told();

-- a trigger that waits for the commit; a cursor that was opened before
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO job (status, vehicle) VALUES (''late'', NEW.id); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON vehicle DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
BEGIN;
DECLARE before CURSOR FOR SELECT count(*) FROM dmshook.event WHERE id > (SELECT id FROM pg_temp.mark);
INSERT INTO vehicle SELECT g, 'f' FROM generate_series(7001, 7100) g;
FETCH before;
COMMIT;
SELECT * FROM pg_temp.told();
DROP TRIGGER late ON vehicle;

-- a condition that may fail is judged in a subtransaction of its own
SELECT event_type, condition FROM dmshook.watch('job', 'job.even', 'insert', condition => '12 / (id % 2) > 100 OR id % 2 = 1', entity => 'job');
INSERT INTO job (status, vehicle) SELECT 'x', 7001 FROM generate_series(1, 200);
SELECT * FROM pg_temp.told();

-- an index of the admin's is filled, too
CREATE INDEX admins_own ON dmshook.event (type, (key ->> 'id'));
INSERT INTO vehicle SELECT g, 'g' FROM generate_series(8001, 8100) g;
SET enable_seqscan = off;
SELECT count(*) FROM dmshook.event WHERE type = 'vehicle.added' AND key ->> 'id' IN ('8001', '8050', '8100');
RESET enable_seqscan;
DROP INDEX dmshook.admins_own;
SELECT * FROM pg_temp.told();

-- the log changes its shape between two statements of a session
BEGIN;
ALTER TABLE dmshook.event ADD COLUMN admins_own int;
INSERT INTO vehicle SELECT g, 'h' FROM generate_series(9001, 9100) g;
ALTER TABLE dmshook.event DROP COLUMN admins_own;
INSERT INTO vehicle SELECT g, 'h' FROM generate_series(9101, 9200) g;
SELECT * FROM pg_temp.told();
ROLLBACK;
INSERT INTO vehicle SELECT g, 'h' FROM generate_series(9201, 9250) g;
SELECT * FROM pg_temp.told();
SET client_min_messages = warning;
SELECT dmshook.unwatch_all();
DROP SCHEMA dealer CASCADE;
