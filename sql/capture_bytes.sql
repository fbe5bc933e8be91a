-- what is written by hand, for speed, is what PostgreSQL's own functions write, to the last byte: keys as jsonb, dates and times, escapes, numbers
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include
CREATE TABLE numbers (id bigint PRIMARY KEY);
CREATE TABLE small (i int PRIMARY KEY);
CREATE TABLE smaller ("a name of some ""length""" smallint PRIMARY KEY);
CREATE TABLE texts (abc text PRIMARY KEY);
CREATE TABLE names (abcd varchar(40) PRIMARY KEY);
CREATE TABLE uuids (id uuid PRIMARY KEY);
CREATE TABLE decimals (id numeric PRIMARY KEY);
CREATE TABLE pairs (branch text, id bigint, PRIMARY KEY (id, branch));
SELECT count(*) FROM unnest('{numbers,small,smaller,texts,names,uuids,decimals,pairs}'::regclass[]) t, dmshook.watch_customer(t);
INSERT INTO numbers SELECT DISTINCT n FROM (
	SELECT sign * ((2::numeric ^ p)::numeric(40) + d) FROM generate_series(0, 63) p, generate_series(-1, 1) d, unnest('{1,-1}'::int[]) sign
	UNION SELECT sign * (10::numeric ^ p + d) FROM generate_series(0, 18) p, generate_series(-1, 1) d, unnest('{1,-1}'::int[]) sign
	UNION SELECT g FROM generate_series(-300, 10300, 7) g) x(n) WHERE n BETWEEN -9223372036854775808 AND 9223372036854775807;
INSERT INTO small VALUES (0), (-1), (2147483647), (-2147483648), (9999), (10000), (99990000);
INSERT INTO smaller VALUES (0), (-32768), (32767), (100);
INSERT INTO texts VALUES (''), ('a'), ('ab'), ('abc'), ('abcd'), (E'quote " back \\ tab \t nl \n'), ('Käfer'), (repeat('x', 126)), (repeat('x', 127)), (repeat('long ', 400));
INSERT INTO names VALUES ('AB 123'), ('null'), ('42');
INSERT INTO uuids VALUES ('00112233-4455-6677-8899-aabbccddeeff');
INSERT INTO decimals VALUES (1.50), (-0.001), (1e30);
INSERT INTO pairs VALUES ('Leeds', 1), ('', -1), ('York', 2::numeric ^ 60);
INSERT INTO pairs SELECT 'Leeds', g FROM generate_series(2, 20) g;
CREATE TEMP TABLE e AS SELECT * FROM pg_temp.events();
-- compared by their bytes
SELECT source ->> 'table' AS source, count(*), bool_and(record_image_eq(ROW(key), ROW((data -> 'key')::text::jsonb))) AS same,
	bool_and(record_image_eq(ROW(key), ROW((SELECT jsonb_object_agg(k, (data -> 'record') -> k) FROM jsonb_object_keys(key) k)))) AS same_as_record
FROM e GROUP BY 1 ORDER BY 1;
SELECT key FROM e WHERE source ->> 'table' IN ('smaller', 'names', 'uuids', 'decimals') OR (source ->> 'table' = 'pairs' AND tenant IS NOT NULL AND (key ->> 'id')::bigint NOT BETWEEN 2 AND 20) ORDER BY id;
SELECT count(*) = (SELECT count(*) FROM numbers) AS all_numbers FROM e WHERE source ->> 'table' = 'numbers' AND (key ->> 'id')::bigint IN (SELECT id FROM numbers);
SELECT count(*) FROM e WHERE source ->> 'table' = 'texts' AND key ->> 'abc' IN (SELECT abc FROM texts);

-- records: each beside row_to_json() under the same settings
CREATE TABLE rows (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, d date, ts timestamp, tz timestamptz, t text, v varchar, c char(20), i2 int2, i4 int4, i8 int8, n numeric, b bool);
CREATE FUNCTION differ() RETURNS TABLE (what text, rows bigint, differ bigint, example text) LANGUAGE sql
	SET TimeZone = 'UTC' SET DateStyle = 'ISO, MDY' SET IntervalStyle = 'iso_8601' SET bytea_output = 'hex' SET extra_float_digits = 1 AS $$
	SELECT e.type, count(*), count(*) FILTER (WHERE differs), min(record::text || ' for ' || row_to_json(r)) FILTER (WHERE differs)
	FROM pg_temp.events() e JOIN dealer.rows r ON r.id = (e.key ->> 'id')::int, LATERAL (SELECT record::text IS DISTINCT FROM row_to_json(r)::text AS differs) x GROUP BY 1
$$;
SELECT count(*) FROM dmshook.watch_customer('rows');
SET TimeZone = 'America/St_Johns';
SET DateStyle = 'SQL, DMY';
-- every day of some years, the first and last that are written by hand and their neighbours, fractions
INSERT INTO rows (d, ts, tz) SELECT day, day + (g % 86400) * interval '1 s' + (g * 7919 % 1000000) * interval '1 us', (day + g * interval '1.000001 s') AT TIME ZONE 'UTC'
	FROM generate_series(0, 1500) g, unnest(ARRAY[date '0001-01-01' + g, date '9999-12-31' - g, date '1999-01-01' + g, date '0099-06-01' + g]) day;
INSERT INTO rows (d, ts, tz) SELECT (ts AT TIME ZONE 'UTC')::date, ts AT TIME ZONE 'UTC', ts FROM unnest('{0001-01-01 00:00:00+00,0001-12-31 23:59:59.999999+00 BC,9999-12-31 23:59:59.999999+00,10000-01-01 00:00:00+00,
	4713-01-01 00:00:00+00 BC,294276-12-31 23:59:59.999999+00,infinity,-infinity,2000-01-01 00:00:00+00,1999-12-31 23:59:59.999999+00,1999-12-31 23:59:59.9+00,1970-01-01 00:00:00.000001+00,
	2026-11-23 07:25:00.1+00,2026-11-23 07:25:00.12+00,2026-11-23 07:25:00.10002+00,2026-11-23 07:25:00.00001+00}'::timestamptz[]) ts;
INSERT INTO rows (d) VALUES ('5874897-12-31'), ('4713-11-24 BC'), ('infinity'), ('-infinity'), ('0001-12-31 BC'), ('10000-01-01');
-- a character that needs an escape, and some that do not, at every place of texts of every short length
INSERT INTO rows (t, v, c) SELECT x, x, left(x, 20) FROM generate_series(1, 35) len, generate_series(1, 35) at, unnest(ARRAY['"', '\', chr(1), chr(31), ' ', '!', '#', '[', ']', chr(127), chr(10), 'ä', chr(128), chr(8364), chr(128663)]) what,
	LATERAL (SELECT overlay(repeat('a', len) PLACING what FROM at) AS x) y WHERE at <= len;
INSERT INTO rows (t) VALUES (''), (repeat('"', 100)), (repeat('x', 5000) || '"'), ('"' || repeat('x', 5000)), (repeat(chr(9) || 'ab', 3000));
INSERT INTO rows (i2, i4, i8, n, b) SELECT (n % 32768)::int2, (n % 2147483648)::int4, n, n / 1000.0, n > 0 FROM (SELECT key ->> 'id' FROM e WHERE source ->> 'table' = 'numbers') x(s), LATERAL (SELECT s::bigint AS n) y;
INSERT INTO rows (n) VALUES ('NaN'), ('Infinity'), ('-Infinity'), (0.00), (-0.5), (1e-30), (14995.00), (1e100);
INSERT INTO rows (i2, i4, i8) VALUES (-32768, -2147483648, -9223372036854775808), (32767, 2147483647, 9223372036854775807), (0, 0, 0);
SELECT * FROM differ();

-- what changed: by the value, however it is stored
UPDATE rows SET t = t || '', v = v || '', c = c || '', n = n + 0, d = d + 0 WHERE id <= 3000;
SELECT count(*) FROM pg_temp.events();
CREATE TABLE stored (id int PRIMARY KEY, t text, c text COMPRESSION pglz, x text);
ALTER TABLE stored ALTER x SET STORAGE EXTERNAL;
SELECT count(*) FROM dmshook.watch_customer('stored');
INSERT INTO stored SELECT g, repeat('x', g), repeat('x', g), repeat('x', g) FROM unnest('{1,126,127,128,1999,2500,9000}'::int[]) g;
UPDATE stored SET t = c, c = x, x = t;
SELECT type, count(*) FROM pg_temp.events() GROUP BY 1;
UPDATE stored SET t = left(t, -1) || 'y', c = left(c, -1) || 'z', x = 'w' || right(x, -1);
SELECT type, count(*), bool_and(previous ->> 't' = repeat('x', (key ->> 'id')::int) AND previous ->> 'c' = previous ->> 't' AND previous ->> 'x' = previous ->> 't') AS all_changed FROM pg_temp.events() GROUP BY 1;
SET client_min_messages = warning;
DROP SCHEMA dealer CASCADE;
