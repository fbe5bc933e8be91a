-- deal.enquiry_created, deal.created, deal.status_changed, deal.completed
\getenv srcdir PG_ABS_SRCDIR
\set include :srcdir '/test/regress/capture.psql'
\i :include

CREATE TABLE deal (id int PRIMARY KEY, customer text, status text);
SELECT * FROM dmshook.watch_deal('deal');

-- an enquiry: enquiry_created only; it becomes a deal: created, then status_changed
INSERT INTO deal VALUES (1, 'Smith', 'Enquiry');
SELECT * FROM pg_temp.raised();
UPDATE deal SET status = 'negotiating' WHERE id = 1;
SELECT * FROM pg_temp.raised();
-- it is completed; and completed again by another name of the same
UPDATE deal SET status = 'completed' WHERE id = 1;
UPDATE deal SET status = 'COMPLETED' WHERE id = 1;
SELECT * FROM pg_temp.raised();

-- an enquiry that is lost: status_changed only
INSERT INTO deal VALUES (2, 'Jones', 'enquiry');
UPDATE deal SET status = 'Lost' WHERE id = 2;
SELECT * FROM pg_temp.raised();
-- found again: an enquiry becomes a deal only out of the enquiry values
UPDATE deal SET status = 'negotiating' WHERE id = 2;
SELECT * FROM pg_temp.raised();

-- a deal from the start; without a status; completed from the start
INSERT INTO deal VALUES (3, 'Brown', 'negotiating'), (4, 'Green', NULL), (5, 'White', 'completed');
SELECT * FROM pg_temp.raised();
-- an enquiry that is completed at once: created, status_changed, completed
INSERT INTO deal VALUES (6, 'Black', 'enquiry');
UPDATE deal SET status = 'completed' WHERE id = 6;
SELECT * FROM pg_temp.raised();

-- created by values; several enquiry values
SELECT event_type, operation, condition, rows_now FROM dmshook.watch_deal('deal', enquiry_values => '{enquiry,lead}', created_values => '{agreed}');
INSERT INTO deal VALUES (7, 'Gray', 'lead'), (8, 'Blue', 'draft'), (9, 'Pink', 'agreed');
UPDATE deal SET status = 'enquiry' WHERE id = 7;
UPDATE deal SET status = 'draft' WHERE id = 7;
UPDATE deal SET status = 'agreed' WHERE id IN (7, 8);
SELECT * FROM pg_temp.raised();

-- by conditions
ALTER TABLE deal ADD is_lead boolean NOT NULL DEFAULT false, ADD signed_on date, ADD done boolean;
SELECT event_type, operation, condition FROM dmshook.watch_deal('deal', enquiry_when => 'is_lead', completed_when => 'done');
INSERT INTO deal (id, status, is_lead) VALUES (10, 'a', true), (11, 'a', false), (12, 'a', true);
UPDATE deal SET is_lead = false WHERE id = 10;
UPDATE deal SET is_lead = false, status = 'lost' WHERE id = 12;
UPDATE deal SET done = true WHERE id = 10;
UPDATE deal SET done = true, status = 'b' WHERE id = 10;
SELECT * FROM pg_temp.raised();
SELECT event_type, operation, condition FROM dmshook.watch_deal('deal', status_column => NULL, created_when => 'signed_on IS NOT NULL');
UPDATE deal SET signed_on = '2026-11-23' WHERE id = 11;
INSERT INTO deal (id) VALUES (13);
SELECT * FROM pg_temp.raised();

-- enquiries in a table of their own
CREATE TABLE enquiry (id int PRIMARY KEY, status text);
SELECT event_type, operation, condition, trigger_name, rows_now, hint FROM dmshook.watch('enquiry', 'deal.enquiry_created', 'insert', entity => 'enquiry');
INSERT INTO enquiry VALUES (1, 'new');
SELECT type, entity, key FROM pg_temp.events();
DROP SCHEMA dealer CASCADE;
