-- A morning at a dealership: plain SQL of the DMS, as the DMS's role, which has no right on schema dmshook.
-- 09:02 A car comes in.
BEGIN;
SET LOCAL dmshook."user" = 'karl.berg';
INSERT INTO vehicle (stock_number, vin, registration, make, model, derivative, colour, fuel, mileage, first_registered, purchase_price, retail_price, branch)
VALUES ('L1044', 'WBA5V72070AJ45678', 'YF22 OPA', 'BMW', '320i', 'M Sport 4dr', 'Portimao Blue', 'Petrol', 18400, '2022-03-18', 21300, 24495, 'Leeds');
COMMIT;
-- 09:15 A walk-in asks for it; 09:40 it becomes an order.
BEGIN;
SET LOCAL dmshook."user" = 'jane.smith';
INSERT INTO customer (title, first_name, last_name, email, mobile, address, postcode, branch)
VALUES ('Ms', 'Zoë', 'Müller', 'zoe.mueller@mail.example', '07700 900789', '27 Harrogate Road', 'LS7 3PD', 'Leeds');
INSERT INTO deal (deal_number, customer_id, vehicle_id, part_exchange, salesperson, price, branch)
VALUES ('D5001', 3, 4, 'YA16 XYZ', 'jane.smith', 24495, 'Leeds');
COMMIT;
BEGIN;
SET LOCAL dmshook."user" = 'jane.smith';
UPDATE deal SET status = 'Ordered', deposit = 500, finance = '{"product": "PCP", "months": 48, "apr": 8.9}' WHERE deal_number = 'D5001';
UPDATE vehicle SET status = 'Reserved' WHERE stock_number = 'L1044';
COMMIT;
-- 10:05 She has moved house.  Saving the form again without a change is no event.
BEGIN;
SET LOCAL dmshook."user" = 'reception';
UPDATE customer SET address = '2 Park Row', postcode = 'LS1 5HD', updated_at = now() WHERE id = 3;
COMMIT;
UPDATE customer SET address = address WHERE id = 3;
-- 10:20 Pre-delivery inspection in the workshop, invoiced and done by noon.
BEGIN;
SET LOCAL dmshook."user" = 'workshop';
INSERT INTO job (job_number, vehicle_id, customer_id, kind, labour_hours, parts, total, branch, due_at)
VALUES ('J7001', 4, 3, 'Pre-delivery inspection', 1.5, '{"oil filter","wiper blades"}', 148.20, 'Leeds', now() + interval '2 hours');
COMMIT;
UPDATE job SET status = 'In progress' WHERE job_number = 'J7001';
BEGIN;
SET LOCAL dmshook."user" = 'workshop';
UPDATE job SET status = 'Invoiced' WHERE job_number = 'J7001';
COMMIT;
UPDATE job SET status = 'Completed' WHERE job_number = 'J7001';
-- 11:30 A mistake, taken back: nobody is told.
BEGIN;
UPDATE vehicle SET status = 'Sold' WHERE stock_number = 'L1043';
ROLLBACK;
-- 11:55 Handed over.
BEGIN;
SET LOCAL dmshook."user" = 'jane.smith';
UPDATE deal SET status = 'Completed' WHERE deal_number = 'D5001';
UPDATE vehicle SET status = 'Sold', mileage = 18405 WHERE stock_number = 'L1044';
COMMIT;
