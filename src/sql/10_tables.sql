/*
 * The tables. Internal: people read the views (50_views.sql) and call the
 * functions. No foreign keys among the hot tables; every table has a primary
 * key, since a publication FOR ALL TABLES would publish them.
 */

-- complain if the script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION dmshook" to load this file. \quit

/*
 * Ids of events. Taken by dmshook's C code only, in the transaction that
 * inserts the row and after it has its xid: commit-safe reading (reader.c)
 * rests on that and on CACHE 1.  Neither IDENTITY nor OWNED BY, so that
 * pg_dump carries its value as configuration.
 */
CREATE SEQUENCE dmshook.event_id CACHE 1;
CREATE SEQUENCE dmshook.attempt_id CACHE 1000;
CREATE SEQUENCE dmshook.webhook_id AS int;
CREATE SEQUENCE dmshook.version_id AS int;
CREATE SEQUENCE dmshook.subscription_id;
CREATE SEQUENCE dmshook.secret_id;
CREATE SEQUENCE dmshook.command_id;
CREATE SEQUENCE dmshook.alert_id;
CREATE SEQUENCE dmshook.change_id;

CREATE TABLE dmshook.event_type (
	name        text PRIMARY KEY,
	entity      text NOT NULL,
	description text NOT NULL,
	builtin     boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE dmshook.event_type IS 'catalogue of event types; written by the install script and dmshook.define_event_type()';

INSERT INTO dmshook.event_type VALUES
	('vehicle.added',          'vehicle',  'A vehicle appeared (or, where asked, its status first became an in-stock one)', true),
	('vehicle.status_changed', 'vehicle',  'The status of a vehicle changed', true),
	('vehicle.sold',           'vehicle',  'The status of a vehicle became one of the sold values', true),
	('deal.enquiry_created',   'deal',     'An enquiry appeared', true),
	('deal.created',           'deal',     'A deal appeared, or an enquiry became a deal', true),
	('deal.status_changed',    'deal',     'The status of a deal changed', true),
	('deal.completed',         'deal',     'The status of a deal became one of the completed values', true),
	('job.created',            'job',      'A job appeared', true),
	('job.invoiced',           'job',      'The status of a job became one of the invoiced values', true),
	('job.completed',          'job',      'The status of a job became one of the completed values', true),
	('customer.created',       'customer', 'A customer appeared', true),
	('customer.updated',       'customer', 'A customer''s row really changed', true),
	('webhook.test',           'webhook',  'A test was asked for with dmshook.test_webhook()', true),
	('webhook.failing',        'webhook',  'A webhook started to fail', true),
	('webhook.recovered',      'webhook',  'A failing webhook works again', true),
	('webhook.disabled',       'webhook',  'A webhook was disabled', true),
	('webhook.delivery_exhausted', 'webhook', 'A delivery was given up', true),
	('webhook.expired',        'webhook',  'Deliveries waited for longer than dmshook.max_wait', true);

/*
 * One thing that happened. Append-only; written by dmshook.capture() and
 * dmshook.emit() alone. Column order is known to src/event.h.
 */
CREATE TABLE dmshook.event (
	id         bigint PRIMARY KEY,
	nonce      bigint NOT NULL,
	at         timestamptz NOT NULL,
	type       text NOT NULL,
	tenant     text,
	old_tenant text,
	entity     text NOT NULL,
	key        jsonb NOT NULL,
	who        json NOT NULL,
	source     json NOT NULL,
	data       json NOT NULL,
	erased_at  timestamptz
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE dmshook.event IS 'one thing that happened; append-only, written by triggers and dmshook.emit(); read it as dmshook.events';
COMMENT ON COLUMN dmshook.event.nonce IS 'random part of the message id: ids are issued again after a restore or failover';
COMMENT ON COLUMN dmshook.event.old_tenant IS 'the tenant that the row left, when it changed: told to both';
COMMENT ON COLUMN dmshook.event.who IS 'the "user" member of the payload, as sent';
COMMENT ON COLUMN dmshook.event.source IS 'the "source" member of the payload, as sent';
COMMENT ON COLUMN dmshook.event.data IS 'the "data" member of the payload, as sent';

CREATE TABLE dmshook.webhook (
	id                int PRIMARY KEY DEFAULT pg_catalog.nextval('dmshook.webhook_id'),
	name              text NOT NULL,
	url               text NOT NULL,
	method            text NOT NULL,
	events            text[] NOT NULL,
	tenant            text,
	filter            text,
	auth_kind         text NOT NULL,
	header_names      text[] NOT NULL DEFAULT '{}',
	options           jsonb NOT NULL DEFAULT '{}',
	transform_role    text,
	enabled           boolean NOT NULL DEFAULT false,
	paused            boolean NOT NULL DEFAULT false,
	disabled_reason   text,
	version           int NOT NULL,
	public_key        text,
	owner             text NOT NULL,
	created_at        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	changed_at        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	secret_changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	certificate_expires_at timestamptz,
	dropped_at        timestamptz
);
CREATE UNIQUE INDEX webhook_name ON dmshook.webhook (name) WHERE dropped_at IS NULL;
COMMENT ON TABLE dmshook.webhook IS 'a receiver; a dropped one keeps its row, for the log names it; read it as dmshook.webhooks';
COMMENT ON COLUMN dmshook.webhook.certificate_expires_at IS 'when the client certificate of auth ends; NULL: there is none';

CREATE TABLE dmshook.webhook_version (
	id        int PRIMARY KEY DEFAULT pg_catalog.nextval('dmshook.version_id'),
	webhook   int NOT NULL,
	at        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	name      text NOT NULL,
	url       text NOT NULL,
	method    text NOT NULL,
	auth_kind text NOT NULL,
	headers   jsonb NOT NULL,
	options   jsonb NOT NULL
);
COMMENT ON TABLE dmshook.webhook_version IS 'what a webhook''s requests looked like; append-only, named by each attempt, header values masked';

CREATE TABLE dmshook.subscription (
	id      bigint PRIMARY KEY DEFAULT pg_catalog.nextval('dmshook.subscription_id'),
	webhook int NOT NULL,
	from_id bigint NOT NULL,
	at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	events  text[] NOT NULL,
	tenant  text,
	filter  text,
	enabled boolean NOT NULL
);
CREATE INDEX subscription_webhook ON dmshook.subscription (webhook, from_id, id);
COMMENT ON TABLE dmshook.subscription IS 'versions of what a webhook subscribes to; append-only. An event is judged by the last version (by from_id, then id) whose from_id is not above the event''s id';

CREATE TABLE dmshook.webhook_secret (
	id         bigint PRIMARY KEY DEFAULT pg_catalog.nextval('dmshook.secret_id'),
	webhook    int NOT NULL,
	kind       text NOT NULL CHECK (kind IN ('signing', 'signing_ed25519', 'signing_github', 'auth', 'headers')),
	value      text NOT NULL,
	key_id     text,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	expires_at timestamptz
);
CREATE INDEX webhook_secret_webhook ON dmshook.webhook_secret (webhook);
COMMENT ON COLUMN dmshook.webhook_secret.key_id IS 'the key of dmshook.secret_key_file that decrypts value; NULL: value is the secret itself';
COMMENT ON COLUMN dmshook.webhook_secret.kind IS 'signing: whsec_, for v1 and (without one of its own) GitHub''s; signing_ed25519: whsk_; signing_github: just text; auth and headers: JSON';
COMMENT ON COLUMN dmshook.webhook_secret.expires_at IS 'of a signing secret that was rotated: until then it signs beside the new one';
COMMENT ON TABLE dmshook.webhook_secret IS 'signing keys, credentials and header values; no view shows them';

/* Who is it that calls? src/caller.c says when to ask which. */
CREATE FUNCTION dmshook._caller() RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_caller' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._caller IS 'the role of the session (SET ROLE, else who logged in), for people to read';

CREATE FUNCTION dmshook._note_caller() RETURNS void
	AS 'MODULE_PATHNAME', 'dmshook_sql_note_caller' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._note_caller IS 'note the current role, for the SECURITY DEFINER function that is called next';

CREATE FUNCTION dmshook._noted_caller() RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_noted_caller' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._noted_caller IS 'take the role that was noted: whose rights count in a SECURITY DEFINER function; an error when there is none';

CREATE TABLE dmshook.command (
	id      bigint PRIMARY KEY DEFAULT pg_catalog.nextval('dmshook.command_id'),
	at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	by_role text NOT NULL DEFAULT dmshook._caller(),
	webhook int,
	kind    text NOT NULL CHECK (kind IN ('reload', 'redeliver', 'redeliver_dead', 'replay', 'cancel', 'cancel_all', 'drop', 'erase')),
	event   bigint,
	upto    bigint,
	args    jsonb NOT NULL DEFAULT '{}',
	done_at timestamptz
);
CREATE INDEX command_undone ON dmshook.command (id) WHERE done_at IS NULL;
COMMENT ON TABLE dmshook.command IS 'something for the dispatcher to do; functions append, the dispatcher marks it done';

CREATE TABLE dmshook.position (
	webhook int,
	command bigint,
	low     bigint NOT NULL,
	until   bigint,
	PRIMARY KEY (webhook, command)
) WITH (fillfactor = 50);
COMMENT ON TABLE dmshook.position IS 'places in the log: of the reader (webhook 0), of a webhook that is behind it, of a replay (command > 0)';

CREATE TABLE dmshook.skip (
	webhook int PRIMARY KEY,
	upto    bigint NOT NULL,
	reason  text NOT NULL,
	at      timestamptz NOT NULL
);
COMMENT ON TABLE dmshook.skip IS 'up to which event id what waited for a webhook was cancelled, expired or dropped';

CREATE TABLE dmshook.queue (
	event     bigint,
	webhook   int,
	due_at    timestamptz,
	attempts  int NOT NULL,
	kind      "char" NOT NULL,
	command   bigint NOT NULL DEFAULT 0,
	entity    bigint NOT NULL,
	cancelled boolean NOT NULL DEFAULT false,
	quick     smallint NOT NULL DEFAULT 0,
	PRIMARY KEY (event, webhook)
);
CREATE INDEX queue_due ON dmshook.queue (webhook, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX queue_entity ON dmshook.queue (webhook, entity, event);
COMMENT ON TABLE dmshook.queue IS 'open deliveries that were tried, are sent again by hand, or (due_at NULL) wait behind such a one of the same entity';
COMMENT ON COLUMN dmshook.queue.quick IS 'of the attempts: quick retries after a broken connection, which the plan does not count';
COMMENT ON COLUMN dmshook.queue.entity IS 'hash of entity and key';

/* One HTTP request, or (outcome NULL) an end without one. Append-only. */
CREATE TABLE dmshook.attempt (
	id               bigint,
	webhook          int,
	event            bigint NOT NULL,
	nonce            bigint NOT NULL,
	at               timestamptz NOT NULL,
	version          int NOT NULL,
	attempt          int NOT NULL,
	kind             "char" NOT NULL,
	outcome          "char",
	final            "char",
	status           smallint,
	http_version     smallint,
	command          bigint,
	duration_us      int,
	dns_us           int,
	connect_us       int,
	tls_us           int,
	first_byte_us    int,
	tls_cipher       smallint,
	tls_version      text,
	local_address    inet,
	remote_address   inet,
	response_headers text,
	response_body    text,
	error            text,
	hint             text,
	body             text,
	PRIMARY KEY (webhook, id)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX attempt_event ON dmshook.attempt (event, webhook);
CREATE INDEX attempt_dead ON dmshook.attempt (webhook, id) WHERE final = 'x';
-- "outcome" of dmshook.attempts (50_views.sql), letter for letter, so that its condition is this one; no request that went well is in it
CREATE INDEX attempt_failed ON dmshook.attempt (at) WHERE
	CASE outcome WHEN 'o' THEN 'ok' WHEN 'h' THEN 'http_error' WHEN 't' THEN 'timeout' WHEN 'd' THEN 'dns_error' WHEN 'c' THEN 'connect_error'
		WHEN 's' THEN 'tls_error' WHEN 'b' THEN 'blocked_address' WHEN 'r' THEN 'redirect' WHEN 'l' THEN 'too_large'
		WHEN 'p' THEN 'protocol_error' WHEN 'i' THEN 'internal_error' END <> 'ok';
-- and how rare failures are: else their events would be joined by reading all there are
CREATE STATISTICS dmshook.attempt_outcome ON (
	CASE outcome WHEN 'o' THEN 'ok' WHEN 'h' THEN 'http_error' WHEN 't' THEN 'timeout' WHEN 'd' THEN 'dns_error' WHEN 'c' THEN 'connect_error'
		WHEN 's' THEN 'tls_error' WHEN 'b' THEN 'blocked_address' WHEN 'r' THEN 'redirect' WHEN 'l' THEN 'too_large'
		WHEN 'p' THEN 'protocol_error' WHEN 'i' THEN 'internal_error' END) FROM dmshook.attempt;
COMMENT ON TABLE dmshook.attempt IS 'one HTTP request; append-only, written by the dispatcher; read it as dmshook.attempts';
COMMENT ON COLUMN dmshook.attempt.kind IS 'd delivery, t test, p probe, r redelivery, y replay';
COMMENT ON COLUMN dmshook.attempt.outcome IS 'o ok, h http_error, t timeout, d dns_error, c connect_error, s tls_error, b blocked_address, r redirect, l too_large, p protocol_error, i internal_error; NULL: no request was made';
COMMENT ON COLUMN dmshook.attempt.final IS 'd delivered, x exhausted, c cancelled, e expired; NULL: it will be tried again, or a test';
COMMENT ON COLUMN dmshook.attempt.tls_cipher IS 'number in IANA''s registry of TLS cipher suites, its 16 bits with a sign';
COMMENT ON COLUMN dmshook.attempt.body IS 'the body sent, where it cannot be built again from the event; of a test without a body its query string';

CREATE TABLE dmshook.webhook_state (
	webhook         int PRIMARY KEY,
	delivered       bigint NOT NULL DEFAULT 0,
	failed          bigint NOT NULL DEFAULT 0,
	failures        int NOT NULL DEFAULT 0,
	failing_since   timestamptz,
	last_success_at timestamptz,
	last_failure_at timestamptz,
	last_error      text,
	last_hint       text,
	circuit_open_since timestamptz,
	next_probe_at   timestamptz,
	probes          int NOT NULL DEFAULT 0,
	certificate_expires_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE dmshook.webhook_state IS 'health of a webhook; written by the dispatcher at most once a second';

COMMENT ON COLUMN dmshook.webhook_state.certificate_expires_at IS 'of the receiver''s certificate, as of the last TLS handshake; infinity: not known again since the url changed';

CREATE TABLE dmshook.webhook_count (
	webhook int,
	at      timestamptz,
	ok      bigint NOT NULL,
	failed  bigint NOT NULL,
	PRIMARY KEY (webhook, at)
) WITH (fillfactor = 50);
COMMENT ON TABLE dmshook.webhook_count IS 'requests of a webhook in the five minutes from "at"; written by the dispatcher at most once a second, kept for two days';

CREATE TABLE dmshook.alert (
	id              bigint PRIMARY KEY DEFAULT pg_catalog.nextval('dmshook.alert_id'),
	at              timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	webhook         int,
	kind            text NOT NULL,
	detail          jsonb NOT NULL DEFAULT '{}',
	sent_to         text,
	acknowledged_at timestamptz,
	acknowledged_by text
);
COMMENT ON TABLE dmshook.alert IS 'a failure notification; kept as long as dead letters';

CREATE TABLE dmshook.change (
	id      bigint PRIMARY KEY DEFAULT pg_catalog.nextval('dmshook.change_id'),
	at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	by_role text NOT NULL DEFAULT dmshook._caller(),
	webhook text,
	what    text NOT NULL
);
COMMENT ON TABLE dmshook.change IS 'a configuration change or a sending by hand; secrets masked';

/*
 * Which database this is. pg_dump does not carry it (it is not among the
 * configuration tables below), so a restored copy sends nothing until
 * dmshook.claim_database().
 */
CREATE TABLE dmshook.instance (
	one               boolean PRIMARY KEY DEFAULT true CHECK (one),
	system_identifier bigint NOT NULL,
	database          oid NOT NULL,
	major             int NOT NULL,
	claimed_at        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dmshook.instance IS 'the identity of the database that may send; not dumped';

-- one statement each: two updates of the extension's row in one would be refused
DO $$
DECLARE
	s text;
BEGIN
	FOREACH s IN ARRAY ARRAY[
		'event_id', 'attempt_id', 'webhook_id', 'version_id', 'subscription_id', 'secret_id', 'command_id', 'alert_id', 'change_id',
		'event', 'webhook', 'webhook_version', 'subscription', 'webhook_secret', 'command', 'position', 'skip', 'queue', 'attempt',
		'webhook_state', 'webhook_count', 'alert', 'change']
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(('dmshook.' || s)::pg_catalog.regclass, '');
	END LOOP;
END
$$;
SELECT pg_catalog.pg_extension_config_dump('dmshook.event_type', 'WHERE NOT builtin');
