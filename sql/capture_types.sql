-- values as PostgreSQL's own functions write them, whatever the session has set
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE TYPE colour AS ENUM ('red', 'blue "sky"');
CREATE DOMAIN mileage AS int CHECK (VALUE >= 0);
CREATE DOMAIN tags AS text[];
CREATE TYPE owner AS (name text, since timestamptz, "Odd ""name" float8, tags tags);
CREATE TABLE things (
	id bigint PRIMARY KEY, b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric, t text, v varchar(20), c char(8), nm name, ch "char",
	d date, ts timestamp, tz timestamptz, tm time, tt timetz, iv interval, by bytea, u uuid, j json, jb jsonb, x xml,
	e colour, dom mileage, ip inet, cd cidr, mac macaddr, bits varbit, pt point, o oid, ia int[], ta text[], tza timestamptz[], ja jsonb[], fa float8[], ea colour[],
	own owner, owns owner[], r int4range, tr tstzrange, mr int4multirange, dr daterange, tv tsvector, jp jsonpath, tg tags, dropped int, g int GENERATED ALWAYS AS (i4 * 2) STORED);
ALTER TABLE things DROP dropped;
SELECT event_type FROM dmshook.watch_customer('things');
-- what record must equal: the row by PostgreSQL's own function under the fixed settings
CREATE FUNCTION expected(id bigint) RETURNS text LANGUAGE sql SET TimeZone = 'UTC' SET DateStyle = 'ISO, MDY' SET IntervalStyle = 'iso_8601'
	SET bytea_output = 'hex' SET extra_float_digits = 1 AS 'SELECT row_to_json(one)::text FROM dealer.things one WHERE one.id = expected.id';

SET TimeZone = 'Asia/Kolkata';
SET DateStyle = 'German, DMY';
SET IntervalStyle = 'sql_standard';
SET bytea_output = 'escape';
SET extra_float_digits = -5;
INSERT INTO things (id) VALUES (1);
INSERT INTO things VALUES (2, true, -7, 1073741823, 1152921504606846976, 0.1, 1e300, 1234.5600, E'quote " back \\ tab \t nl \n cr \r bs \b ff \f bell \x07 del \x7f e\u0301 \U0001F697', 'Käfer', 'ab', 'nm"x', 'z',
	'23.11.2026', '23.11.2026 07:25:00.123456', '2026-11-23 07:25:00.123456+00', '07:25', '07:25:00+05:30', '1 year 2 mons -3 days 04:05:06.789', '\x00ff10', '00112233-4455-6677-8899-aabbccddeeff',
	'{"a" : [1, 2.50, "x"]}', '{"a" : [1, 2.50, "x"], "b": null}', '<a b="1">t</a>',
	'blue "sky"', 5, '10.1.2.3/8', '10.0.0.0/8', '08:00:2b:01:02:03', B'10110', '(1.5,-2)', 4294967295, '{{1,2},{3,NULL}}', '{"a","b\"c",NULL,""}', '{"2026-11-23 07:25:00+00",NULL}', ARRAY['{"k": 1}'::jsonb], '{1.5,NaN}', '{red,"blue \"sky\""}',
	ROW('Jane', '2026-11-23 07:25:00+00', 'Infinity', '{x}'), ARRAY[ROW('J', NULL, 0.1, NULL)::owner], '[1,5)', '["2026-11-23 07:25:00+00",)', '{[1,3),[5,7)}', '[2026-11-23,infinity)', 'a b', '$.a', '{p,q}');
INSERT INTO things (id, f4, f8, n, d, ts, tz, ia, ta, iv, by, t, c) VALUES
	(3, 'NaN', 'Infinity', 'NaN', 'infinity', '-infinity', 'infinity', '{}', '{}', '-1 day', '', '', ''),
	(4, '-Infinity', '-0', '-Infinity', '0044-03-15 BC', '9999-12-31 23:59:59.999999', '0001-01-01 00:00:00+00 BC', '[2:3]={7,8}', NULL, '0', '\xdeadbeef', 'null', 'x'),
	(5, 3.4028235e38, 4.9e-324, 1e-20, '2000-02-29', '2000-01-01', '1883-11-18 12:03:58-05', NULL, NULL, 'P178000000Y', NULL, E'\u0001\u001f', NULL);
UPDATE things SET tz = tz, f8 = 0.30000000000000004, iv = '1 mon' WHERE id = 2;
SHOW DateStyle;
SELECT '2026-11-23'::date, 0.1::float8 + 0.2 AS f, '1 day'::interval, '\xff'::bytea;
RESET TimeZone; RESET DateStyle; RESET IntervalStyle; RESET bytea_output; RESET extra_float_digits;
CREATE TEMP TABLE e AS SELECT * FROM pg_temp.events();
SELECT id - min(id) OVER () AS n, type, key, record::text = expected((key ->> 'id')::bigint) AS same FROM e WHERE type = 'customer.created' AND key <> '{"id": 2}' ORDER BY id;
SELECT record::text = expected(2) AS same, previous FROM e WHERE type = 'customer.updated';
SELECT record FROM e WHERE key = '{"id": 2}' AND type = 'customer.created';
SELECT record ->> 'f4' AS f4, record ->> 'f8' AS f8, record ->> 'n' AS n, record ->> 'd' AS d, record ->> 'tz' AS tz, record ->> 'iv' AS iv FROM e WHERE type = 'customer.created' ORDER BY id;

-- money and names of relations look the same in every session
CREATE TABLE odd (id int PRIMARY KEY, m money, rc regclass, rt regtype[], neg money);
SELECT event_type FROM dmshook.watch_customer('odd');
INSERT INTO odd VALUES (1, 1234567.89, 'odd', '{dealer.colour,int}', -0.5), (2, 0, 'pg_class', '{}', '-1234.5');
SET search_path = pg_catalog;
UPDATE dealer.odd SET m = '7';
SET search_path = dealer;
SELECT record FROM pg_temp.events();
SHOW search_path;

-- a type of an extension's kind, with a cast to json
CREATE TYPE grade AS ENUM ('a', 'b');
CREATE FUNCTION grade_json(g grade) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('grade', g::text) $$;
CREATE CAST (grade AS json) WITH FUNCTION grade_json(grade);
CREATE TABLE cast_table (id int PRIMARY KEY, g grade, gs grade[]);
SELECT event_type FROM dmshook.watch_customer('cast_table');
INSERT INTO cast_table VALUES (1, 'b', '{a,b}');
SELECT record::text = (SELECT row_to_json(c)::text FROM cast_table c) AS same, record FROM pg_temp.events();

-- rows of 1 MB in TOAST: whole, compared without regard to how they are stored, and not fetched to be compared
CREATE TABLE big (id int PRIMARY KEY, status text, doc text, raw bytea);
ALTER TABLE big ALTER doc SET STORAGE EXTERNAL;
SELECT event_type FROM dmshook.watch_vehicle('big');
INSERT INTO big VALUES (1, 'new', (SELECT string_agg(md5(i::text), '"' ORDER BY i) FROM generate_series(1, 32000) i), decode(repeat('00ff', 300000), 'hex'));
UPDATE big SET status = 'sold';
UPDATE big SET doc = doc || '', raw = raw || '', status = 'gone';
UPDATE big SET doc = doc || '!', status = 'back';
SELECT type, length(record ->> 'doc') AS doc, md5(record ->> 'doc') = md5(b.doc) AS same_doc, (record ->> 'raw')::bytea = b.raw AS same_raw, length(previous::text) AS previous FROM pg_temp.events(), big b;

-- statuses of other types
CREATE TYPE state AS ENUM ('In stock', 'Sold', 'Delivered');
CREATE DOMAIN state_domain AS state;
CREATE TABLE by_enum (id int PRIMARY KEY, status state);
CREATE TABLE by_domain (id int PRIMARY KEY, status state_domain NOT NULL);
CREATE TABLE by_lookup (id int PRIMARY KEY, status int);
CREATE TABLE by_char (id int PRIMARY KEY, status char(12));
CREATE TABLE by_bool (id int PRIMARY KEY, status boolean);
INSERT INTO by_lookup VALUES (9, 1), (8, 1), (7, 3), (6, NULL);
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_vehicle('by_enum', sold_values => '{gone,"handed over"}');
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_vehicle('by_enum', sold_values => '{sold,delivered}');
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_vehicle('by_domain');
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_vehicle('by_lookup');
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_vehicle('by_lookup', sold_values => '{5,3}');
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_vehicle('by_char');
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_vehicle('by_bool', sold_values => '{true}');
INSERT INTO by_enum VALUES (1, 'In stock'); UPDATE by_enum SET status = 'Sold'; UPDATE by_enum SET status = 'Delivered';
INSERT INTO by_domain VALUES (2, 'In stock'); UPDATE by_domain SET status = 'Sold';
INSERT INTO by_lookup VALUES (3, 1); UPDATE by_lookup SET status = 5 WHERE id = 3;
INSERT INTO by_char VALUES (4, 'stock'); UPDATE by_char SET status = 'Sold';
INSERT INTO by_bool VALUES (5, false); UPDATE by_bool SET status = true;
SELECT * FROM pg_temp.raised();
-- letters beyond ASCII, by case too
CREATE TABLE by_word (id int PRIMARY KEY, status text);
SELECT event_type, condition FROM dmshook.watch_vehicle('by_word', sold_values => '{geprüft}');
INSERT INTO by_word VALUES (1, 'Geprüft');
SELECT * FROM pg_temp.raised();
SET client_min_messages = warning;
DROP SCHEMA dealer CASCADE;
