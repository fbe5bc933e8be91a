/*
 * What the tests of the reader need beside the log: the reader as SQL functions,
 * and writers that keep the writer's rule (xid, then id, then row). :module is
 * the path of the module; the log itself comes from src/sql/10_tables.sql.
 */
CREATE SCHEMA test;
CREATE FUNCTION test.reader_open(low bigint) RETURNS void LANGUAGE c AS :'module', 'reader_open';
CREATE FUNCTION test.reader_round(lim int, OUT id bigint, OUT nonce bigint, OUT late boolean) RETURNS SETOF record LANGUAGE c AS :'module', 'reader_round';
CREATE FUNCTION test.reader_scan(after bigint, upto bigint, lim int, OUT id bigint, OUT nonce bigint, OUT late boolean) RETURNS SETOF record LANGUAGE c AS :'module', 'reader_scan';
CREATE FUNCTION test.reader_fetch(id bigint) RETURNS boolean LANGUAGE c AS :'module', 'reader_fetch';
CREATE FUNCTION test.reader_state() RETURNS text LANGUAGE c AS :'module', 'reader_state';
CREATE FUNCTION test.reader_flush() RETURNS pg_lsn LANGUAGE c AS :'module', 'reader_flush';
CREATE FUNCTION test.reader_explicit() RETURNS bigint LANGUAGE c AS :'module', 'reader_explicit';
CREATE FUNCTION test.reader_bench(rounds int, lim int, snapshots boolean) RETURNS text LANGUAGE c AS :'module', 'reader_bench';

-- xid, then id
CREATE FUNCTION test.take() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_current_xact_id();
	RETURN pg_catalog.nextval('dmshook.event_id');
END $$;

CREATE FUNCTION test.put(id bigint, size int DEFAULT 100) RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	VALUES ($1, (pg_catalog.random() * 9e18)::bigint, pg_catalog.clock_timestamp(), 'test.row', 'test',
			pg_catalog.jsonb_build_object('id', $1), '{}', '{}', pg_catalog.to_json(pg_catalog.repeat('x', size)))
	RETURNING id
$$;

CREATE FUNCTION test.emit(size int DEFAULT 100) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN test.put(test.take(), size);
END $$;

CREATE FUNCTION test.emit_many(n int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_current_xact_id();
	INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)
	SELECT pg_catalog.nextval('dmshook.event_id'), 1, pg_catalog.clock_timestamp(), 'test.row', 'test',
		   '{"id": 1}', '{}', '{}', '"x"' FROM pg_catalog.generate_series(1, n);
	RETURN n;
END $$;

-- the reader's low, as the dispatcher keeps it
CREATE TABLE test.position (low bigint);
INSERT INTO test.position VALUES (0);
