-- A small dealer management system: what its own developers wrote, without a thought of webhooks.
CREATE TABLE customer (
	id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	title       text,
	first_name  text NOT NULL,
	last_name   text NOT NULL,
	company     text,
	email       text,
	mobile      text,
	address     text,
	postcode    text,
	marketing   boolean NOT NULL DEFAULT false,
	branch      text NOT NULL,
	created_at  timestamptz NOT NULL DEFAULT now(),
	updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE vehicle (
	id               int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stock_number     text UNIQUE NOT NULL,
	vin              char(17) UNIQUE NOT NULL,
	registration     text,
	make             text NOT NULL,
	model            text NOT NULL,
	derivative       text,
	colour           text,
	fuel             text,
	mileage          int,
	first_registered date,
	status           text NOT NULL DEFAULT 'In stock' CHECK (status IN ('Due in', 'In stock', 'Reserved', 'Sold', 'Delivered')),
	purchase_price   numeric(10,2),
	retail_price     numeric(10,2),
	branch           text NOT NULL,
	created_at       timestamptz NOT NULL DEFAULT now(),
	updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE deal (
	id            int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	deal_number   text UNIQUE NOT NULL,
	customer_id   int NOT NULL REFERENCES customer,
	vehicle_id    int REFERENCES vehicle,
	part_exchange text,
	salesperson   text NOT NULL,
	status        text NOT NULL DEFAULT 'Enquiry' CHECK (status IN ('Enquiry', 'Quoted', 'Ordered', 'Completed', 'Lost')),
	price         numeric(10,2),
	deposit       numeric(10,2),
	finance       jsonb,
	branch        text NOT NULL,
	created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE job (
	id           int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	job_number   text UNIQUE NOT NULL,
	vehicle_id   int NOT NULL REFERENCES vehicle,
	customer_id  int REFERENCES customer,
	kind         text NOT NULL,
	status       text NOT NULL DEFAULT 'Booked' CHECK (status IN ('Booked', 'In progress', 'Invoiced', 'Completed')),
	labour_hours numeric(5,2),
	parts        text[],
	total        numeric(10,2),
	branch       text NOT NULL,
	due_at       timestamptz
);
-- The DMS stamps its rows, as most do.
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON vehicle FOR EACH ROW EXECUTE FUNCTION touch();

-- What has been there before today
INSERT INTO customer (title, first_name, last_name, email, mobile, address, postcode, branch) VALUES
	('Mr', 'Tom', 'Hargreaves', 'tom.hargreaves@mail.example', '07700 900123', '14 Otley Road', 'LS6 2AL', 'Leeds'),
	('Mrs', 'Priya', 'Nair', 'priya.nair@mail.example', '07700 900456', '3 Mill Lane', 'YO1 7HH', 'York');
INSERT INTO vehicle (stock_number, vin, registration, make, model, derivative, colour, fuel, mileage, first_registered, status, purchase_price, retail_price, branch) VALUES
	('L1042', 'WVWZZZCDZMW123456', 'YC71 KFD', 'Volkswagen', 'Golf', '1.5 TSI Life 5dr', 'Atlantic Blue', 'Petrol', 31250, '2021-09-30', 'In stock', 14200, 16995, 'Leeds'),
	('L1043', 'SALYA2BN7KA234567', 'YD19 RTO', 'Land Rover', 'Range Rover Velar', 'D240 R-Dynamic SE', 'Santorini Black', 'Diesel', 48810, '2019-05-14', 'In stock', 25100, 28950, 'Leeds'),
	('Y2007', 'VF1RJA00966345678', 'YE20 LMN', 'Renault', 'Clio', '1.0 TCe Iconic 5dr', 'Flame Red', 'Petrol', 22140, '2020-07-02', 'In stock', 8100, 9995, 'York');
CREATE ROLE dms_app LOGIN;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO dms_app;
