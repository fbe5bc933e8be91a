-- conditions: what they may be, and what becomes of those that fail
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE TABLE vehicle (id int PRIMARY KEY, status text, price int, parts int, sold_on date, at timestamptz);
\set watch 'SELECT event_type, operation, condition FROM dmshook.watch(''vehicle'', ''vehicle.sold'', '
-- refused, with a hint
:watch 'update', condition => 'prise > 0');
:watch 'update', condition => 'OLD.price < price');
:watch 'update', condition => 'vehicle.price > 1');
:watch 'update', condition => 'price');
:watch 'update', condition => 'price >');
:watch 'update', condition => 'true; DROP TABLE vehicle');
:watch 'update', condition => 'price > 0 FROM vehicle');
:watch 'update', condition => 'true), (false');
:watch 'update', condition => '(SELECT true)');
:watch 'update', condition => 'count(*) > 0');
:watch 'update', condition => 'price > $1');
:watch 'update', condition => 'NEW.* IS NOT NULL');
:watch 'update', condition => '');
SELECT count(*) FROM dmshook.watched;

-- on update: becomes true; with columns: true at a change of these; on insert and delete: is true
:watch 'insert or update, delete', condition => 'NEW.price < 100');
INSERT INTO vehicle VALUES (1, 'a', 200), (2, 'a', 50), (3, 'a', NULL);
UPDATE vehicle SET price = 90;
UPDATE vehicle SET price = 80;
UPDATE vehicle SET price = 100 WHERE id = 1;
DELETE FROM vehicle WHERE id IN (1, 2);
SELECT type, key, record ->> 'price' AS price, previous FROM pg_temp.events();
:watch 'update', columns => '{price,status}', condition => 'price < 100');
UPDATE vehicle SET price = 90;
UPDATE vehicle SET parts = 1;
UPDATE vehicle SET price = 100;
UPDATE vehicle SET status = 'b';
UPDATE vehicle SET price = 91;
SELECT type, key, record ->> 'price' AS price, previous FROM pg_temp.events();

-- a condition that fails for a row is not true, and says so once; the statement goes on
:watch 'insert or update', condition => 'price / parts > 10');
INSERT INTO vehicle VALUES (10, 'a', 100, 0);
INSERT INTO vehicle VALUES (11, 'a', 100, 0), (12, 'a', 100, 5);
UPDATE vehicle SET parts = 5 WHERE id = 10;
SELECT type, key FROM pg_temp.events();
SELECT count(*) FROM vehicle WHERE id > 9;

-- functions: found by the search_path of who wrote it, whatever the session's is; inlined ones may change
CREATE FUNCTION cheap(p int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT p < 100';
:watch 'insert', condition => 'cheap(price)');
SET search_path = pg_temp, pg_catalog;
INSERT INTO dealer.vehicle VALUES (20, 'a', 99), (21, 'a', 101);
CREATE OR REPLACE FUNCTION dealer.cheap(p int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT p < 1000';
INSERT INTO dealer.vehicle VALUES (22, 'a', 101);
SET search_path = dealer;
SELECT type, key FROM pg_temp.events();
-- it runs as the table's owner
CREATE FUNCTION who_am_i() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN current_user; END $$;
CREATE ROLE dmshook_clerk;
GRANT USAGE ON SCHEMA dealer TO dmshook_clerk;
GRANT ALL ON vehicle TO dmshook_clerk;
REVOKE ALL ON FUNCTION who_am_i() FROM PUBLIC;
:watch 'insert', condition => 'who_am_i() <> ''dmshook_clerk''');
SET ROLE dmshook_clerk;
INSERT INTO vehicle VALUES (30);
SELECT current_user;
RESET ROLE;
SELECT type, key FROM pg_temp.events();
-- one that goes, or no longer makes sense
DROP FUNCTION who_am_i();
INSERT INTO vehicle VALUES (31);
INSERT INTO vehicle VALUES (32);
:watch 'insert', condition => 'price > 1');
ALTER TABLE vehicle ALTER price TYPE text;
INSERT INTO vehicle VALUES (33, 'a', '7');
ALTER TABLE vehicle ALTER price TYPE bigint USING price::bigint;
INSERT INTO vehicle VALUES (34, 'a', 7);
ALTER TABLE vehicle RENAME price TO cost;
INSERT INTO vehicle VALUES (35, 'a', 7);
ALTER TABLE vehicle DROP cost;
INSERT INTO vehicle VALUES (36, 'a', 7);
SELECT type, key FROM pg_temp.events();
SELECT event_type, condition, hint FROM dmshook.watched;
-- one that writes, also to the same table
CREATE TABLE log (id int);
CREATE FUNCTION writes(n int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF n < 100 THEN RETURN false; END IF;
	INSERT INTO dealer.log VALUES (n);
	IF n < 103 THEN INSERT INTO dealer.vehicle VALUES (n + 1); END IF;
	RETURN true;
END $$;
:watch 'insert', condition => 'writes(id)');
INSERT INTO vehicle VALUES (101);
SELECT type, key FROM pg_temp.events();
SELECT * FROM log;

-- dates and intervals mean what they meant
SET DateStyle = 'German, DMY'; SET TimeZone = 'Asia/Kolkata'; SET IntervalStyle = 'sql_standard';
:watch 'insert', condition => 'sold_on = date ''03.02.2026'' AND at > ''23.11.2026 00:00'' AND at - interval ''1-2 -3 4:05:06'' IS NOT NULL');
RESET DateStyle; RESET TimeZone; RESET IntervalStyle;
INSERT INTO vehicle (id, sold_on, at) VALUES (40, '2026-02-03', '2026-11-22 18:30:01+00'), (41, '2026-03-02', '2026-11-23'), (42, '2026-02-03', '2026-11-22 18:30:00+00');
SET DateStyle = 'SQL, MDY'; SET TimeZone = 'America/New_York';
INSERT INTO vehicle (id, sold_on, at) VALUES (43, '2026-02-03', '2026-11-22 18:30:01+00');
RESET DateStyle; RESET TimeZone;
SELECT type, key FROM pg_temp.events();
-- a cancelled statement is cancelled
:watch 'insert', condition => 'pg_sleep(CASE id WHEN 600 THEN 600 ELSE 0 END)::text = ''''');
SET statement_timeout = '100ms';
INSERT INTO vehicle VALUES (600);
RESET statement_timeout;
SELECT type, key FROM pg_temp.events();
SET client_min_messages = warning;
DROP SCHEMA dealer CASCADE;
DROP ROLE dmshook_clerk;
