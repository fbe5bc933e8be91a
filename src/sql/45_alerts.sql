/*
 * Failure notifications: what the dispatcher tells when a webhook fails,
 * recovers, is disabled, or a delivery was given up.
 */

-- what is still to be mailed; where mail is not set up, these are all
CREATE INDEX alert_unsent ON dmshook.alert (at) WHERE sent_to IS NULL;

/* A notice: a row, NOTIFY dmshook, and an event for webhooks that subscribe to such. */
CREATE FUNCTION dmshook._notice(webhook_id int, kind text, detail jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	webhook_name text := (SELECT w.name FROM dmshook.webhook w WHERE w.id = webhook_id);
	alert_id     bigint;
BEGIN
	INSERT INTO dmshook.alert AS a (webhook, kind, detail) VALUES (nullif(webhook_id, 0), _notice.kind, _notice.detail) RETURNING a.id INTO alert_id;
	PERFORM pg_notify('dmshook', left(jsonb_build_object('alert', alert_id, 'webhook', webhook_name, 'kind', kind,
		-- anybody may LISTEN
		'detail', CASE WHEN dmshook._quotes_data(detail->>'error') THEN detail - 'hint' || jsonb_build_object('error', dmshook._cut_error(detail->>'error')) ELSE detail END)::text, 7900));
	IF EXISTS (SELECT FROM dmshook.event_type t WHERE t.name = 'webhook.' || kind) THEN
		PERFORM dmshook.emit('webhook.' || kind, 'webhook', jsonb_build_object('name', webhook_name), detail || jsonb_build_object('alert', alert_id));
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._notice IS 'write a failure notification: alert, NOTIFY, operational event';

/*
 * The dispatcher's, before it says that deliveries expired: how many? Those after one id up to another that
 * have neither ended nor been tried (were they filtered out? Filters are not asked, they may be slow), and those of
 * events that it names. Notices about webhooks are not counted, for a notice never causes one.
 */
CREATE FUNCTION dmshook._count_expired(webhook_id int, after bigint, upto bigint, tried bigint[]) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT (SELECT count(*)
			FROM dmshook.event e
			CROSS JOIN LATERAL (
				SELECT s.events, s.tenant, s.enabled FROM dmshook.subscription s
				WHERE s.webhook = webhook_id AND s.from_id <= e.id ORDER BY s.from_id DESC, s.id DESC LIMIT 1) AS v
			WHERE e.id > after AND e.id <= upto AND e.type NOT LIKE 'webhook.%' AND v.enabled AND dmshook._matches(v.events, e.type)
				AND (v.tenant IS NULL OR v.tenant = e.tenant OR v.tenant = e.old_tenant)
				AND NOT EXISTS (SELECT FROM dmshook.queue q WHERE q.event = e.id AND q.webhook = webhook_id)
				AND NOT EXISTS (SELECT FROM dmshook.attempt a WHERE a.event = e.id AND a.webhook = webhook_id AND a.final IS NOT NULL))
		+ (SELECT count(*) FROM dmshook.event e WHERE e.id = ANY (tried) AND e.type NOT LIKE 'webhook.%')
$$;
COMMENT ON FUNCTION dmshook._count_expired IS 'how many deliveries expired, for the notice that says so';

CREATE VIEW dmshook.alerts AS
	SELECT a.id, a.at, w.name AS webhook, a.kind,
		CASE WHEN dmshook._quotes_data(a.detail->>'error') THEN a.detail || jsonb_build_object('error', dmshook._shown_error(a.detail->>'error')) ELSE a.detail END AS detail, a.sent_to, a.acknowledged_at IS NOT NULL AS acknowledged,
		a.acknowledged_at, a.acknowledged_by
	FROM dmshook.alert a LEFT JOIN dmshook.webhook w ON w.id = a.webhook;
COMMENT ON VIEW dmshook.alerts IS 'failure notifications; also as NOTIFY dmshook, by e-mail (dmshook.smtp_url), and as events webhook.failing, .recovered, .disabled, .delivery_exhausted, .expired to webhooks that subscribe to them';
COMMENT ON COLUMN dmshook.alerts.kind IS 'failing, recovered, circuit_open, circuit_closed, disabled, delivery_exhausted, expired, sequence_behind, command_failed';
COMMENT ON COLUMN dmshook.alerts.sent_to IS 'the addresses that a mail server accepted it for; NULL: it was not mailed';

CREATE FUNCTION dmshook._mail_state(OUT password_problem text, OUT failing_since timestamptz, OUT error text)
	AS 'MODULE_PATHNAME', 'dmshook_sql_mail_state' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._mail_state IS 'is something wrong with the password file, and since when has no mail gone out?';

/* Would anybody be mailed? */
CREATE FUNCTION dmshook._check_mail(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	has_server boolean := current_setting('dmshook.smtp_url') <> '';
	everybody  boolean := btrim(current_setting('dmshook.alert_mail_to')) <> '';
	own        bigint := (SELECT count(*) FROM dmshook.webhook w WHERE w.dropped_at IS NULL AND w.options->>'alert_to' IS NOT NULL);
	m          record;
BEGIN
	level := 'warning';
	IF has_server AND NOT everybody THEN
		subject := 'dmshook.alert_mail_to';
		problem := CASE WHEN own = 0 THEN 'dmshook.smtp_url is set, but nobody is named to mail failure notifications to'
			ELSE 'failure notifications of webhooks without the option alert_to are mailed to nobody' END;
		hint := 'ALTER SYSTEM SET dmshook.alert_mail_to = ''ops@example.com''; SELECT pg_reload_conf();';
		RETURN NEXT;
	ELSIF NOT has_server AND (everybody OR own > 0) THEN
		subject := 'dmshook.smtp_url';
		problem := 'addresses for failure notifications are named, but no mail server: nothing is mailed';
		hint := 'ALTER SYSTEM SET dmshook.smtp_url = ''smtp://mail.example.com:587''; SELECT pg_reload_conf();';
		RETURN NEXT;
	END IF;
	IF NOT has_server THEN
		RETURN;
	END IF;
	SELECT * INTO m FROM dmshook._mail_state();
	IF m.password_problem IS NOT NULL THEN
		level := 'error';
		subject := 'dmshook.smtp_password_file';
		problem := 'failure notifications cannot be mailed: ' || m.password_problem;
		hint := 'A line user:password in a file of the server''s user, which nobody else may read (chmod 0600).';
		RETURN NEXT;
	ELSIF m.failing_since IS NOT NULL THEN
		level := 'error';
		subject := 'dmshook.smtp_url';
		problem := format('failure notifications cannot be mailed since %s: %s', date_trunc('second', m.failing_since), coalesce(m.error, 'no error was kept'));
		hint := 'Look at dmshook.smtp_url, dmshook.smtp_password_file and dmshook.ca_file; after a reload of the configuration it is tried again.';
		RETURN NEXT;
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._check_mail IS 'the part of dmshook.check() about mail';

CREATE FUNCTION dmshook.acknowledge(alert_id bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	a dmshook.alert;
BEGIN
	SELECT * INTO a FROM dmshook.alert t WHERE t.id = alert_id FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no alert %', coalesce(alert_id::text, 'NULL') USING ERRCODE = 'undefined_object',
			HINT = 'See: SELECT * FROM dmshook.alerts WHERE NOT acknowledged.';
	ELSIF a.acknowledged_at IS NOT NULL THEN
		RETURN format('Alert %s was acknowledged already, by %s.', a.id, a.acknowledged_by);
	END IF;
	UPDATE dmshook.alert t SET acknowledged_at = clock_timestamp(), acknowledged_by = dmshook._caller() WHERE t.id = alert_id;
	RETURN format('Alert %s is acknowledged.', a.id);
END
$$;
COMMENT ON FUNCTION dmshook.acknowledge IS 'mark an alert as seen';
