-- job.created, job.invoiced, job.completed; customer.created, customer.updated
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include

CREATE TABLE job (id int PRIMARY KEY, status text);
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_job('job');
INSERT INTO job VALUES (1, 'booked'), (2, 'invoiced'), (3, 'completed');
SELECT * FROM pg_temp.raised();
UPDATE job SET status = 'Invoiced' WHERE id = 1;
UPDATE job SET status = 'completed' WHERE id = 1;
UPDATE job SET status = 'booked' WHERE id = 1;
SELECT * FROM pg_temp.raised();
-- invoiced and completed by one value: in this order
SELECT event_type, operation, condition, rows_now FROM dmshook.watch_job('job', invoiced_values => '{paid}', completed_values => '{paid,completed}');
UPDATE job SET status = 'paid' WHERE id = 1;
SELECT * FROM pg_temp.raised();
ALTER TABLE job ADD invoice int;
SELECT event_type, operation, condition, rows_now FROM dmshook.watch_job('job', invoiced_when => 'NEW.invoice > 0', completed_values => '{}');
UPDATE job SET invoice = id * 100, status = 'completed';
SELECT * FROM pg_temp.raised();

CREATE TABLE customer (id int PRIMARY KEY, name text, email text, prefs json, place point, note xml, seen timestamptz);
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_customer('customer');
INSERT INTO customer VALUES (1, 'Jane', 'j@example.com', '{"a": 1}', '(1,2)', '<a/>');
SELECT type, previous FROM pg_temp.raised();
-- no change: nothing, for types without "=" too
UPDATE customer SET name = name;
UPDATE customer SET prefs = '{"a": 1}', place = '(1,2)', note = '<a/>', email = 'j@example.com';
SELECT type, previous FROM pg_temp.raised();
UPDATE customer SET prefs = '{"a":1}';
UPDATE customer SET place = '(1,3)', note = NULL;
SELECT type, previous FROM pg_temp.raised();
-- changes of some columns only
SELECT event_type, operation, condition FROM dmshook.watch_customer('customer', columns => '{name,email}');
UPDATE customer SET seen = '2026-11-23 10:00+00';
UPDATE customer SET seen = NULL, email = NULL;
SELECT type, previous FROM pg_temp.raised();
DROP SCHEMA dealer CASCADE;
