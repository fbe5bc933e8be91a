-- vehicle.added, vehicle.status_changed, vehicle.sold
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include

CREATE TABLE vehicle (id int PRIMARY KEY, vin text, status text, price numeric(10,2));
SELECT * FROM dmshook.watch_vehicle('vehicle');
SELECT relation, event_type, operation, condition, columns, trigger_name, enabled, hint FROM dmshook.watched;

-- added; inserted as already sold: added, then sold
INSERT INTO vehicle VALUES (1, 'WVW1', 'In stock', 10000), (2, 'WVW2', 'SOLD', 9000);
SELECT * FROM pg_temp.raised();

-- the same value again, and another column: nothing
UPDATE vehicle SET status = 'In stock' WHERE id = 1;
UPDATE vehicle SET price = 9999.99 WHERE id = 1;
SELECT * FROM pg_temp.raised();

-- status_changed, then sold
UPDATE vehicle SET status = 'sold', price = 9500 WHERE id = 1;
SELECT * FROM pg_temp.raised();

-- NULL to a value and back, and NULL to sold
INSERT INTO vehicle VALUES (3, 'WVW3', NULL);
UPDATE vehicle SET status = 'In stock' WHERE id = 3;
UPDATE vehicle SET status = NULL WHERE id = 3;
UPDATE vehicle SET status = 'sold' WHERE id = 3;
SELECT * FROM pg_temp.raised();

-- sold to another sold value, also by case alone: status_changed alone
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_vehicle('vehicle', sold_values => '{sold,delivered,"Handed over, paid"}');
UPDATE vehicle SET status = 'delivered' WHERE id = 3;
UPDATE vehicle SET status = 'Delivered' WHERE id = 3;
UPDATE vehicle SET status = 'handed OVER, paid' WHERE id = 3;
SELECT * FROM pg_temp.raised();
-- and out of it and in again
UPDATE vehicle SET status = 'In stock' WHERE id = 3;
UPDATE vehicle SET status = 'Handed over, paid' WHERE id = 3;
SELECT * FROM pg_temp.raised();

-- a status that a BEFORE trigger sets
CREATE FUNCTION sell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.price = 0 THEN NEW.status := 'sold'; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER sell BEFORE INSERT OR UPDATE ON vehicle FOR EACH ROW EXECUTE FUNCTION sell();
INSERT INTO vehicle VALUES (4, 'WVW4', 'In stock', 1);
UPDATE vehicle SET price = 0 WHERE id = 4;
SELECT * FROM pg_temp.raised();
-- an AFTER trigger of the DMS that updates the row again: its change comes after
CREATE FUNCTION deliver() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE vehicle SET status = 'delivered' WHERE id = NEW.id;
	RETURN NULL;
END $$;
CREATE TRIGGER a_deliver AFTER INSERT ON vehicle FOR EACH ROW WHEN (NEW.price = 7) EXECUTE FUNCTION deliver();
INSERT INTO vehicle VALUES (5, 'WVW5', 'In stock', 7);
SELECT * FROM pg_temp.raised();
DROP TRIGGER a_deliver ON vehicle;
DROP TRIGGER sell ON vehicle;

-- added by a status
SELECT event_type, operation, condition, rows_now FROM dmshook.watch_vehicle('vehicle', added_values => '{"in stock"}');
INSERT INTO vehicle VALUES (6, 'WVW6', 'ordered'), (7, 'WVW7', 'In stock');
UPDATE vehicle SET status = 'In Stock' WHERE id = 6;
SELECT * FROM pg_temp.raised();

-- conditions instead of values; no status column
ALTER TABLE vehicle ADD sold_at timestamptz, ADD arrived date;
SELECT event_type, operation, condition, rows_now FROM dmshook.watch_vehicle('vehicle', status_column => NULL,
	sold_when => 'sold_at IS NOT NULL', added_when => 'NEW.arrived <= date ''2026-11-23'' AND price > 0');
SELECT event_type, condition, columns FROM dmshook.watched WHERE operation = 'insert';
UPDATE vehicle SET sold_at = '2026-11-23 10:00+00' WHERE id = 1;
UPDATE vehicle SET sold_at = '2026-11-23 11:00+00', status = 'gone' WHERE id = 1;
UPDATE vehicle SET sold_at = NULL WHERE id = 1;
UPDATE vehicle SET arrived = '2026-11-24' WHERE id = 1;
UPDATE vehicle SET arrived = '2026-11-22' WHERE id = 1;
INSERT INTO vehicle VALUES (8, 'WVW8', 'x', 1, '2026-11-23 10:00+00', '2026-11-01');
SELECT * FROM pg_temp.raised();

-- what is sent
SELECT data, who ->> 'name' AS name, source FROM pg_temp.events();
UPDATE vehicle SET sold_at = NULL;
UPDATE vehicle SET sold_at = '2026-11-23 10:00+00', price = 2 WHERE id = 8;
SELECT type, entity, key, tenant, source, data FROM pg_temp.events();

-- a DELETE raises nothing; unwatch ends it
DELETE FROM vehicle WHERE id = 8;
SELECT dmshook.unwatch('vehicle');
INSERT INTO vehicle VALUES (9);
SELECT * FROM pg_temp.raised();
SELECT * FROM dmshook.watched;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'vehicle'::regclass;
DROP SCHEMA dealer CASCADE;
