/*
 * What admins read.
 *
 * A delivery's state is derived, for on the happy path nothing is updated: it
 * is in the queue, or before its webhook in the log, or was cancelled there,
 * or has a final attempt.  Each of these four is a view of its own (with a
 * leading underscore, and what the public ones need), so that the planner can
 * push a condition into each, and order each by an index.
 */

/* Which events each version of a subscription holds, and where its webhook is in the log. */
CREATE VIEW dmshook._subscribed AS
	SELECT s.webhook, s.from_id, lead(s.from_id) OVER (PARTITION BY s.webhook ORDER BY s.from_id, s.id) AS to_id,
		s.events, s.tenant, s.enabled, s.filter
	FROM dmshook.subscription s;
COMMENT ON VIEW dmshook._subscribed IS 'versions of subscriptions with the range of event ids that they hold; to_id NULL: to the end';

CREATE VIEW dmshook._open AS
	SELECT w.id AS webhook_id, w.name AS webhook, dmshook._message_id(e.id, e.nonce) AS message_id, e.type AS event_type, e.tenant, e.entity,
		e.key AS entity_key,
		CASE WHEN q.due_at IS NULL OR q.attempts = 0 THEN 'waiting' ELSE 'retrying' END AS state,
		q.attempts, l.status::int AS status, dmshook._shown_error(l.error) AS error, e.at AS created_at, l.at AS last_attempt_at, q.due_at AS next_attempt_at,
		NULL::timestamptz AS finished_at,
		CASE WHEN (SELECT dmshook._sees_payloads()) AND e.erased_at IS NULL AND dmshook._has_body(coalesce(l.method, w.method))
			THEN coalesce(l.body, dmshook._payload(e, false, coalesce(l.options, w.options))) END AS payload,
		e.id AS sequence, q.kind, l.hint
	FROM dmshook.queue q
	JOIN dmshook.webhook w ON w.id = q.webhook
	JOIN dmshook.event e ON e.id = q.event
	LEFT JOIN LATERAL (
		SELECT a.status, a.error, a.hint, a.at, a.body, v.method, v.options
		FROM dmshook.attempt a LEFT JOIN dmshook.webhook_version v ON v.id = a.version
		WHERE a.event = q.event AND a.webhook = q.webhook AND a.outcome IS NOT NULL AND a.kind <> 't'
		ORDER BY a.id DESC LIMIT 1) AS l ON true;
COMMENT ON VIEW dmshook._open IS 'deliveries in the queue: tried and to be tried again, parked behind such a one, or sent again by hand';

CREATE VIEW dmshook._ahead AS
	SELECT w.id AS webhook_id, w.name AS webhook, dmshook._message_id(e.id, e.nonce) AS message_id, e.type AS event_type, e.tenant, e.entity,
		e.key AS entity_key, 'waiting' AS state, 0 AS attempts, NULL::int AS status, NULL::text AS error, e.at AS created_at,
		NULL::timestamptz AS last_attempt_at, NULL::timestamptz AS next_attempt_at, NULL::timestamptz AS finished_at,
		CASE WHEN (SELECT dmshook._sees_payloads()) AND e.erased_at IS NULL AND dmshook._has_body(w.method) THEN dmshook._payload(e, false, w.options) END AS payload,
		e.id AS sequence
	FROM dmshook.webhook w
	JOIN dmshook._subscribed s ON s.webhook = w.id
	JOIN dmshook.event e ON e.id >= s.from_id AND (e.id < s.to_id OR s.to_id IS NULL)
	WHERE w.dropped_at IS NULL AND s.enabled AND e.erased_at IS NULL AND dmshook._matches(s.events, e.type)
		AND (s.tenant IS NULL OR s.tenant = e.tenant OR s.tenant = e.old_tenant)
		AND (s.filter IS NULL OR dmshook._filter_holds(s.filter, e))
		AND e.id > greatest(
			coalesce((SELECT p.low FROM dmshook.position p WHERE p.webhook = w.id AND p.command = 0),
				(SELECT p.low FROM dmshook.position p WHERE p.webhook = 0 AND p.command = 0), 0),
			(SELECT k.upto FROM dmshook.skip k WHERE k.webhook = w.id))
		AND NOT EXISTS (SELECT FROM dmshook.queue q WHERE q.event = e.id AND q.webhook = w.id)
		AND NOT EXISTS (SELECT FROM dmshook.attempt a WHERE a.event = e.id AND a.webhook = w.id AND a.final IS NOT NULL);
COMMENT ON VIEW dmshook._ahead IS 'deliveries that their webhook has still before it in the log';

CREATE VIEW dmshook._skipped AS
	SELECT w.id AS webhook_id, w.name AS webhook, dmshook._message_id(e.id, e.nonce) AS message_id, e.type AS event_type, e.tenant, e.entity,
		e.key AS entity_key, CASE k.reason WHEN 'expired' THEN 'expired' ELSE 'cancelled' END AS state, 0 AS attempts, NULL::int AS status,
		NULL::text AS error, e.at AS created_at, NULL::timestamptz AS last_attempt_at, NULL::timestamptz AS next_attempt_at,
		k.at AS finished_at,
		CASE WHEN (SELECT dmshook._sees_payloads()) AND e.erased_at IS NULL AND dmshook._has_body(w.method) THEN dmshook._payload(e, false, w.options) END AS payload,
		e.id AS sequence
	FROM dmshook.skip k
	JOIN dmshook.webhook w ON w.id = k.webhook
	JOIN dmshook._subscribed s ON s.webhook = w.id
	JOIN dmshook.event e ON e.id >= s.from_id AND (e.id < s.to_id OR s.to_id IS NULL) AND e.id <= k.upto
	WHERE s.enabled AND dmshook._matches(s.events, e.type)
		AND (s.tenant IS NULL OR s.tenant = e.tenant OR s.tenant = e.old_tenant)
		AND (s.filter IS NULL OR dmshook._filter_holds(s.filter, e))
		AND NOT EXISTS (SELECT FROM dmshook.queue q WHERE q.event = e.id AND q.webhook = w.id)
		AND NOT EXISTS (SELECT FROM dmshook.attempt a WHERE a.event = e.id AND a.webhook = w.id AND a.final IS NOT NULL);
COMMENT ON VIEW dmshook._skipped IS 'deliveries that waited in the log and were cancelled or expired there, all up to one event';

CREATE VIEW dmshook._finished AS
	SELECT w.id AS webhook_id, w.name AS webhook, dmshook._message_id(e.id, e.nonce) AS message_id, e.type AS event_type, e.tenant, e.entity,
		e.key AS entity_key,
		CASE a.final WHEN 'd' THEN 'delivered' WHEN 'x' THEN 'exhausted' WHEN 'c' THEN 'cancelled' WHEN 'e' THEN 'expired' END AS state,
		a.attempt AS attempts, a.status::int AS status, dmshook._shown_error(a.error) AS error, e.at AS created_at,
		CASE WHEN a.outcome IS NOT NULL THEN a.at END AS last_attempt_at, NULL::timestamptz AS next_attempt_at,
		a.at + make_interval(secs => coalesce(a.duration_us, 0) / 1000000.0) AS finished_at,
		CASE WHEN (SELECT dmshook._sees_payloads()) AND e.erased_at IS NULL AND dmshook._has_body(coalesce(v.method, w.method))
			THEN coalesce(a.body, dmshook._payload(e, false, coalesce(v.options, w.options))) END AS payload,
		e.id AS sequence, a.final, a.hint, a.id AS attempt_id, a.at
	FROM dmshook.attempt a
	JOIN dmshook.webhook w ON w.id = a.webhook
	JOIN dmshook.event e ON e.id = a.event
	LEFT JOIN dmshook.webhook_version v ON v.id = a.version
	WHERE a.final IS NOT NULL
		AND NOT EXISTS (SELECT FROM dmshook.attempt b WHERE b.event = a.event AND b.webhook = a.webhook AND b.id > a.id AND b.final IS NOT NULL)
		AND NOT EXISTS (SELECT FROM dmshook.queue q WHERE q.event = a.event AND q.webhook = a.webhook);
COMMENT ON VIEW dmshook._finished IS 'deliveries that ended, with the latest final attempt of each';

/* ------------------------------------------------------------------------ */

CREATE VIEW dmshook.webhooks AS
	SELECT w.name, w.url, w.events, w.tenant, w.method, w.auth_kind,
		(SELECT coalesce(jsonb_object_agg(n, '***'), '{}') FROM unnest(w.header_names) AS n) AS headers,
		w.filter, w.enabled,
		CASE WHEN NOT w.enabled THEN 'disabled' WHEN w.paused THEN 'paused' WHEN s.circuit_open_since IS NOT NULL THEN 'circuit_open'
			WHEN s.failures > 0 THEN 'failing' ELSE 'active' END AS state,
		CASE WHEN NOT w.enabled THEN coalesce(w.disabled_reason, 'never enabled') WHEN w.paused THEN 'paused by hand'
			WHEN s.circuit_open_since IS NOT NULL OR s.failures > 0 THEN dmshook._shown_error(s.last_error) END AS why,
		w.owner, w.public_key, w.secret_changed_at, w.created_at, w.changed_at, dmshook._show_options(w.options) AS options
	FROM dmshook.webhook w
	LEFT JOIN dmshook.webhook_state s ON s.webhook = w.id
	WHERE w.dropped_at IS NULL;
COMMENT ON VIEW dmshook.webhooks IS 'the webhooks there are; change them with dmshook.create_webhook(), alter_webhook(), enable_webhook(), ...';
COMMENT ON COLUMN dmshook.webhooks.events IS 'event types and patterns that it subscribes to';
COMMENT ON COLUMN dmshook.webhooks.tenant IS 'it gets the events of this tenant only; NULL: of all';
COMMENT ON COLUMN dmshook.webhooks.headers IS 'custom headers; values are secrets and masked';
COMMENT ON COLUMN dmshook.webhooks.filter IS 'jsonpath: it gets the events whose payload it holds for; NULL: all';
COMMENT ON COLUMN dmshook.webhooks.state IS 'active, paused, failing (the last request failed), circuit_open, disabled';
COMMENT ON COLUMN dmshook.webhooks.why IS 'why it is disabled or paused, or the last error where it is failing';
COMMENT ON COLUMN dmshook.webhooks.owner IS 'role that made it';
COMMENT ON COLUMN dmshook.webhooks.public_key IS 'key to verify signatures with, where they are made with a private one';
COMMENT ON COLUMN dmshook.webhooks.secret_changed_at IS 'when the signing secret or the credentials changed last';
COMMENT ON COLUMN dmshook.webhooks.options IS 'options that are not the default';

/*
 * Driven by the event: whatever of it the query names (a message id, a key, a
 * time, or the latest fifty) is chosen first, and only for those events are the
 * four possible fates looked up, each by an index.
 */
CREATE VIEW dmshook.deliveries AS
	SELECT d.webhook, dmshook._message_id(e.id, e.nonce) AS message_id, e.type AS event_type, e.tenant, e.entity, e.key AS entity_key,
		d.state, d.attempts, d.status, dmshook._shown_error(d.error) AS error, e.at AS created_at, d.last_attempt_at, d.next_attempt_at, d.finished_at,
		CASE WHEN (SELECT dmshook._sees_payloads()) AND e.erased_at IS NULL AND dmshook._has_body(d.method)
			THEN coalesce(d.body, dmshook._payload(e, false, d.options)) END AS payload,
		e.id AS sequence, e.erased_at
	FROM dmshook.event e CROSS JOIN LATERAL (
		-- ended
		SELECT w.name AS webhook,
			CASE a.final WHEN 'd' THEN 'delivered' WHEN 'x' THEN 'exhausted' WHEN 'c' THEN 'cancelled' WHEN 'e' THEN 'expired' END AS state,
			a.attempt AS attempts, a.status::int AS status, a.error, CASE WHEN a.outcome IS NOT NULL THEN a.at END AS last_attempt_at,
			NULL::timestamptz AS next_attempt_at, a.at + make_interval(secs => coalesce(a.duration_us, 0) / 1000000.0) AS finished_at,
			coalesce(v.method, w.method) AS method, coalesce(v.options, w.options) AS options, a.body
		FROM dmshook.attempt a
		JOIN dmshook.webhook w ON w.id = a.webhook
		LEFT JOIN dmshook.webhook_version v ON v.id = a.version
		WHERE a.event = e.id AND a.final IS NOT NULL
			AND NOT EXISTS (SELECT FROM dmshook.attempt b WHERE b.event = e.id AND b.webhook = a.webhook AND b.id > a.id AND b.final IS NOT NULL)
			AND NOT EXISTS (SELECT FROM dmshook.queue q WHERE q.event = e.id AND q.webhook = a.webhook)
		UNION ALL
		-- in the queue
		SELECT w.name, CASE WHEN q.due_at IS NULL OR q.attempts = 0 THEN 'waiting' ELSE 'retrying' END, q.attempts, l.status::int, l.error, l.at,
			q.due_at, NULL::timestamptz, coalesce(l.method, w.method), coalesce(l.options, w.options), l.body
		FROM dmshook.queue q
		JOIN dmshook.webhook w ON w.id = q.webhook
		LEFT JOIN LATERAL (
			SELECT a.status, a.error, a.at, a.body, v.method, v.options
			FROM dmshook.attempt a LEFT JOIN dmshook.webhook_version v ON v.id = a.version
			WHERE a.event = e.id AND a.webhook = q.webhook AND a.outcome IS NOT NULL AND a.kind <> 't'
			ORDER BY a.id DESC LIMIT 1) AS l ON true
		WHERE q.event = e.id
		UNION ALL
		-- still before its webhook in the log, or cancelled there; where neither can be, no webhook is looked at
		-- (OFFSET 0 and no anti-joins: the cheap conditions go first)
		SELECT w.name, w.state, 0, NULL::int, NULL::text, NULL::timestamptz, NULL::timestamptz, w.skipped_at, w.method, w.options, NULL::text
		FROM (
			SELECT w.id, w.name, w.method, w.options, CASE WHEN e.id <= k.upto THEN k.at END AS skipped_at,
				CASE WHEN e.id > coalesce(k.upto, 0) THEN 'waiting' WHEN k.reason = 'expired' THEN 'expired' ELSE 'cancelled' END AS state
			FROM dmshook.webhook w
			LEFT JOIN dmshook.position p ON p.webhook = w.id AND p.command = 0
			LEFT JOIN dmshook.skip k ON k.webhook = w.id
			WHERE (e.id > (SELECT min(p.low) FROM dmshook.position p WHERE p.command = 0)
					OR e.id <= (SELECT max(CASE WHEN h.dropped_at IS NULL THEN k.upto ELSE (
							SELECT max(v.from_id) FROM dmshook.subscription v WHERE v.webhook = k.webhook) END)	-- a dropped one got nothing after that
						FROM dmshook.skip k JOIN dmshook.webhook h ON h.id = k.webhook))
				AND (w.dropped_at IS NULL AND e.id > coalesce(p.low, (SELECT p.low FROM dmshook.position p WHERE p.webhook = 0 AND p.command = 0), 0)
					OR e.id <= k.upto)
			OFFSET 0) AS w
		CROSS JOIN LATERAL (
			SELECT v.events, v.tenant, v.enabled, v.filter FROM dmshook.subscription v
			WHERE v.webhook = w.id AND v.from_id <= e.id ORDER BY v.from_id DESC, v.id DESC LIMIT 1) AS s
		WHERE s.enabled AND dmshook._matches(s.events, e.type)
			AND (s.tenant IS NULL OR s.tenant = e.tenant OR s.tenant = e.old_tenant)
			AND (s.filter IS NULL OR dmshook._filter_holds(s.filter, e))
			AND coalesce((SELECT false FROM dmshook.queue q WHERE q.event = e.id AND q.webhook = w.id), true)
			AND coalesce((SELECT false FROM dmshook.attempt a WHERE a.event = e.id AND a.webhook = w.id AND a.final IS NOT NULL LIMIT 1), true)
	) AS d;
COMMENT ON VIEW dmshook.deliveries IS 'events going to webhooks, one row for each event and webhook, whatever became of it';
COMMENT ON COLUMN dmshook.deliveries.message_id IS 'the webhook-id header, which the receiver knows too; message_id = ''msg_...'' is found by an index';
COMMENT ON COLUMN dmshook.deliveries.entity IS 'what the event is about: vehicle, deal, job, customer, ...';
COMMENT ON COLUMN dmshook.deliveries.entity_key IS 'and which one: {"id": 42}; no index has it, unless the DBA makes one: CREATE INDEX CONCURRENTLY ON dmshook.event USING hash (key)';
COMMENT ON COLUMN dmshook.deliveries.state IS 'waiting, retrying, delivered, exhausted (given up, see dmshook.dead_letters), cancelled, expired';
COMMENT ON COLUMN dmshook.deliveries.attempts IS 'requests made so far';
COMMENT ON COLUMN dmshook.deliveries.status IS 'HTTP status of the last response; NULL: none came';
COMMENT ON COLUMN dmshook.deliveries.error IS 'why the last request failed';
COMMENT ON COLUMN dmshook.deliveries.created_at IS 'when the event happened';
COMMENT ON COLUMN dmshook.deliveries.finished_at IS 'when it was delivered, given up, cancelled or expired';
COMMENT ON COLUMN dmshook.deliveries.payload IS 'the body, byte for byte; NULL for methods without one, for roles that do not see payloads (dmshook.grants), and once erased';
COMMENT ON COLUMN dmshook.deliveries.erased_at IS 'when the event''s personal data were erased: dmshook.erase(), dmshook.payload_retention';
COMMENT ON COLUMN dmshook.deliveries.sequence IS 'id of the event; ORDER BY sequence DESC LIMIT 50 shows the latest ones, by an index';

CREATE FUNCTION dmshook._tls_cipher(number smallint) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_tls_cipher' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._tls_cipher IS 'the name of a TLS cipher suite, by its number';

-- outcome: the index attempt_failed and the statistics attempt_outcome (10_tables.sql) have this expression, letter for letter
CREATE VIEW dmshook.attempts AS
	SELECT w.name AS webhook, dmshook._message_id(a.event, a.nonce) AS message_id,
		coalesce(e.type, CASE WHEN a.kind = 't' THEN coalesce(CASE WHEN NOT dmshook._has_body(v.method) THEN substring(a.body FROM '[?&]type=([^&]*)') WHEN NOT v.options ? 'transform' THEN a.body::json->>'type' END, 'webhook.test') END) AS event_type,
		a.attempt,
		CASE a.kind WHEN 'd' THEN 'delivery' WHEN 't' THEN 'test' WHEN 'p' THEN 'probe' WHEN 'r' THEN 'redelivery' WHEN 'y' THEN 'replay' END AS kind,
		CASE a.outcome WHEN 'o' THEN 'ok' WHEN 'h' THEN 'http_error' WHEN 't' THEN 'timeout' WHEN 'd' THEN 'dns_error' WHEN 'c' THEN 'connect_error'
			WHEN 's' THEN 'tls_error' WHEN 'b' THEN 'blocked_address' WHEN 'r' THEN 'redirect' WHEN 'l' THEN 'too_large'
			WHEN 'p' THEN 'protocol_error' WHEN 'i' THEN 'internal_error' END AS outcome,
		a.status::int AS status, a.at, v.method,
		CASE WHEN dmshook._has_body(v.method) THEN v.url
			WHEN a.kind = 't' AND a.body IS NOT NULL THEN v.url || CASE WHEN strpos(v.url, '?') > 0 THEN '&' || substr(a.body, 2) ELSE a.body END	-- a test's id is its own
			ELSE dmshook._url_with_query(v.url, e, a.kind = 't') END AS url,
		round(a.duration_us / 1000.0, 3) AS duration_ms, round(a.dns_us / 1000.0, 3) AS dns_ms, round(a.connect_us / 1000.0, 3) AS connect_ms,
		round(a.tls_us / 1000.0, 3) AS tls_ms, round(a.first_byte_us / 1000.0, 3) AS first_byte_ms,
		a.local_address, a.remote_address,
		CASE a.http_version WHEN 10 THEN '1.0' WHEN 11 THEN '1.1' WHEN 20 THEN '2' WHEN 30 THEN '3' END AS http_version, a.tls_version,
		dmshook._tls_cipher(a.tls_cipher) AS tls_cipher,
		dmshook._request_headers(v.headers, v.name, v.method, dmshook._message_id(a.event, a.nonce),
			coalesce(e.type, CASE WHEN a.kind = 't' THEN coalesce(CASE WHEN NOT dmshook._has_body(v.method) THEN substring(a.body FROM '[?&]type=([^&]*)') WHEN NOT v.options ? 'transform' THEN a.body::json->>'type' END, 'webhook.test') END),
			a.at, a.attempt, a.kind = 't', v.options) AS request_headers,
		CASE WHEN (SELECT dmshook._sees_payloads()) THEN a.response_headers END AS response_headers,
		CASE WHEN (SELECT dmshook._sees_payloads()) THEN a.response_body END AS response_body, dmshook._shown_error(a.error) AS error, a.hint,
		CASE WHEN (SELECT dmshook._sees_payloads()) AND e.erased_at IS NULL AND dmshook._has_body(v.method)
			THEN coalesce(a.body, dmshook._payload(e, a.kind = 't', v.options)) END AS payload,
		a.id, a.event AS sequence, e.erased_at
	FROM dmshook.attempt a
	JOIN dmshook.webhook w ON w.id = a.webhook
	LEFT JOIN dmshook.webhook_version v ON v.id = a.version
	LEFT JOIN dmshook.event e ON e.id = a.event
	WHERE a.outcome IS NOT NULL;
COMMENT ON VIEW dmshook.attempts IS 'HTTP requests, each with what was sent and what came back';
COMMENT ON COLUMN dmshook.attempts.message_id IS 'the webhook-id header; the same on every retry';
COMMENT ON COLUMN dmshook.attempts.attempt IS 'number of the request for this event and webhook, from 1';
COMMENT ON COLUMN dmshook.attempts.kind IS 'delivery, test, probe, redelivery, replay';
COMMENT ON COLUMN dmshook.attempts.outcome IS
	'ok, http_error, timeout, dns_error, connect_error, tls_error, blocked_address, redirect, too_large, protocol_error, internal_error';
COMMENT ON COLUMN dmshook.attempts.status IS 'HTTP status; NULL: no response came';
COMMENT ON COLUMN dmshook.attempts.at IS 'when the request started';
COMMENT ON COLUMN dmshook.attempts.url IS 'where it went then, with the query string of methods without a body';
COMMENT ON COLUMN dmshook.attempts.dns_ms IS 'resolving the host; this and the others are 0 on a kept connection, NULL where that step was not reached';
COMMENT ON COLUMN dmshook.attempts.request_headers IS 'headers of the request; credentials, custom values and signature masked';
COMMENT ON COLUMN dmshook.attempts.response_body IS 'the response, up to dmshook.response_limit';
COMMENT ON COLUMN dmshook.attempts.hint IS 'what to do about the error';
COMMENT ON COLUMN dmshook.attempts.payload IS 'the body, byte for byte; NULL for methods without one, for roles that do not see payloads (dmshook.grants), and once erased';
COMMENT ON COLUMN dmshook.attempts.erased_at IS 'when the event''s personal data were erased: dmshook.erase(), dmshook.payload_retention';
COMMENT ON COLUMN dmshook.attempts.id IS 'grows with time within a webhook; in a big log ask by message_id, sequence, or failures by time, or dmshook.deliveries for the latest';
COMMENT ON COLUMN dmshook.attempts.sequence IS 'id of the event; 0 for a test that was not taken from the log';

CREATE VIEW dmshook.dead_letters AS
	SELECT webhook, message_id, event_type, tenant, entity, entity_key, state, attempts, status, error, hint, created_at, last_attempt_at,
		next_attempt_at, finished_at, payload, sequence
	FROM dmshook._finished WHERE final = 'x';
COMMENT ON VIEW dmshook.dead_letters IS 'deliveries that were given up; dmshook.redeliver() and redeliver_dead() send them again';
COMMENT ON COLUMN dmshook.dead_letters.error IS 'the last error';
COMMENT ON COLUMN dmshook.dead_letters.hint IS 'what to do about it';
COMMENT ON COLUMN dmshook.dead_letters.created_at IS 'when the event happened';
COMMENT ON COLUMN dmshook.dead_letters.finished_at IS 'when it was given up';

/* What holds back all that waits for a webhook, in words; NULL: nothing does. */
CREATE FUNCTION dmshook._why_held(w dmshook.webhook, s dmshook.webhook_state) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN w.dropped_at IS NOT NULL THEN 'its webhook was dropped'
		WHEN NOT w.enabled THEN 'its webhook is disabled: ' || coalesce(w.disabled_reason, 'never enabled')
		WHEN w.paused THEN 'its webhook is paused'
		WHEN s.circuit_open_since IS NOT NULL THEN format('circuit open since %s, %s', dmshook._clock(s.circuit_open_since),
			CASE WHEN s.next_probe_at > clock_timestamp() THEN 'probe at ' || dmshook._clock(s.next_probe_at) ELSE 'probe is due' END) END
$$;
COMMENT ON FUNCTION dmshook._why_held IS 'why nothing of a webhook is sent, in words';

CREATE VIEW dmshook.waiting AS
	SELECT o.webhook, o.message_id, o.event_type, o.entity, o.entity_key, o.created_at AS since, o.next_attempt_at,
		coalesce(nullif(concat_ws('; ', dmshook._why_held(w, s),
			CASE WHEN o.next_attempt_at IS NULL THEN 'an earlier event of the same ' || o.entity || ' is not delivered yet'
				WHEN o.kind IN ('r', 'y') AND o.attempts = 0 THEN 'sent again by hand'
				WHEN o.attempts > 0 THEN format('attempt %s failed: %s', o.attempts, coalesce(o.error, 'no error was logged')) END), ''),
			'it is being sent, or others are before it') AS why,
		o.sequence
	FROM dmshook._open o JOIN dmshook.webhook w ON w.id = o.webhook_id LEFT JOIN dmshook.webhook_state s ON s.webhook = w.id
	UNION ALL
	SELECT o.webhook, o.message_id, o.event_type, o.entity, o.entity_key, o.created_at AS since, o.next_attempt_at,
		coalesce(dmshook._why_held(w, s) || CASE WHEN s.circuit_open_since IS NOT NULL AND w.enabled AND NOT w.paused
					THEN coalesce('; its receiver fails: ' || dmshook._shown_error(s.last_error), '') ELSE '' END,
			'it is being sent, or others are before it: at most ' || (w.options->>'rate_limit') || ' a second go (rate_limit)',
			'it is being sent, or others are before it') AS why,
		o.sequence
	FROM dmshook._ahead o JOIN dmshook.webhook w ON w.id = o.webhook_id LEFT JOIN dmshook.webhook_state s ON s.webhook = w.id;
COMMENT ON VIEW dmshook.waiting IS 'deliveries that wait, and why; dmshook.check() says what holds up all of them';
COMMENT ON COLUMN dmshook.waiting.since IS 'when the event happened';
COMMENT ON COLUMN dmshook.waiting.next_attempt_at IS 'when it is tried again; NULL: as soon as may be';
COMMENT ON COLUMN dmshook.waiting.why IS 'why it waits, in words';

CREATE VIEW dmshook.events AS
	SELECT dmshook._message_id(e.id, e.nonce) AS message_id, e.id AS sequence, e.type AS event_type, e.tenant, e.entity, e.key AS entity_key, e.at,
		e.who->>'name' AS user_name, e.who->>'role' AS user_role, e.who->>'application' AS application,
		CASE WHEN (SELECT dmshook._sees_payloads()) THEN e.data->'record' END AS record,
		CASE WHEN (SELECT dmshook._sees_payloads()) THEN e.data->'previous' END AS previous,
		CASE WHEN (SELECT dmshook._sees_payloads()) THEN e.data->'related' END AS related,
		e.erased_at
	FROM dmshook.event e;
COMMENT ON VIEW dmshook.events IS 'what happened, whether or not a webhook was told';
COMMENT ON COLUMN dmshook.events.sequence IS 'grows for one row; ORDER BY sequence DESC LIMIT 50 shows the latest events, by an index';
COMMENT ON COLUMN dmshook.events.at IS 'the clock at the change';
COMMENT ON COLUMN dmshook.events.user_name IS 'who did it: dmshook.user, dmshook.user_setting, the row''s own column, or the session user';
COMMENT ON COLUMN dmshook.events.previous IS 'values of the changed columns before the change';
COMMENT ON COLUMN dmshook.events.related IS 'rows that foreign keys point to, where asked for';
COMMENT ON COLUMN dmshook.events.record IS 'the row; this, previous and related are NULL for roles that do not see payloads (dmshook.grants), and once erased';
COMMENT ON COLUMN dmshook.events.erased_at IS 'when the personal data in it were erased: dmshook.erase(), dmshook.payload_retention';

/* Who keeps a gap in the log open: whoever still runs with an xid below the fence. */
CREATE FUNCTION dmshook._gap_holder(fence xid8) RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH f AS (
		SELECT (fence::text::numeric % 4294967296)::bigint AS x
	), holder AS (
		SELECT a.backend_xid::text::bigint AS x, a.xact_start AS since,
			format('process %s (role %s, database %s, application "%s"), %s since %s', a.pid, a.usename, a.datname, a.application_name, a.state,
				date_trunc('second', a.xact_start)) AS who
		FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL
		UNION ALL
		SELECT p.transaction::text::bigint, p.prepared,
			format('prepared transaction "%s" (role %s, database %s) of %s', p.gid, p.owner, p.database, date_trunc('second', p.prepared))
		FROM pg_prepared_xacts p
	)
	SELECT h.who FROM holder h, f
	WHERE mod(f.x - h.x + 4294967296, 4294967296) BETWEEN 1 AND 2147483647	-- older, on the circle of xids
	ORDER BY h.since LIMIT 1
$$;
COMMENT ON FUNCTION dmshook._gap_holder IS 'the oldest transaction that keeps a gap in the log open';

CREATE VIEW dmshook.dispatchers AS
	SELECT s.pid, s.state, s.since, s.events_per_s, s.deliveries_per_s, s.in_flight, s.waiting,
		greatest(dmshook._last_event_id() - s.high, 0) AS behind_events,
		clock_timestamp() - (SELECT e.at FROM dmshook.event e WHERE e.id > s.high ORDER BY e.id LIMIT 1) AS behind,
		s.gaps, clock_timestamp() - s.oldest_gap AS oldest_gap_age,
		CASE WHEN s.gaps > 0 THEN dmshook._gap_holder(s.gap_fence) END AS gap_holder,
		s.last_error
	FROM dmshook._slots() s
	WHERE s.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
COMMENT ON VIEW dmshook.dispatchers IS 'the dispatchers of this database, and how far they are';
COMMENT ON COLUMN dmshook.dispatchers.state IS 'starting, running, unclaimed (this is a copy: nothing is sent), failed (started again after a pause)';
COMMENT ON COLUMN dmshook.dispatchers.waiting IS 'deliveries that were taken from the log and are not sent yet';
COMMENT ON COLUMN dmshook.dispatchers.behind_events IS 'event ids given out that it has not read';
COMMENT ON COLUMN dmshook.dispatchers.behind IS 'age of the first event that it has not read; NULL: there is none';
COMMENT ON COLUMN dmshook.dispatchers.gaps IS 'event ids that it has not seen though later ones are there: of transactions still open, or rolled back';
COMMENT ON COLUMN dmshook.dispatchers.gap_holder IS 'the oldest transaction that may still bring one of these';

CREATE VIEW dmshook.changes AS
	SELECT c.at, c.by_role, c.webhook, c.what, c.id FROM dmshook.change c;
COMMENT ON VIEW dmshook.changes IS 'who changed what, and who sent what by hand; secrets masked';
COMMENT ON COLUMN dmshook.changes.by_role IS 'the role of the session';
COMMENT ON COLUMN dmshook.changes.webhook IS 'name of the webhook then';

/*
 * A table that was never analyzed counts as ten pages at least, and autovacuum
 * does not come to one of a few rows: these would make the views above look
 * dear enough for JIT compilation, seconds of it.  Not so event, attempt and
 * queue, which grow: plans kept from when they were empty must use indexes.
 */
ANALYZE dmshook.webhook, dmshook.webhook_version, dmshook.webhook_state, dmshook.subscription, dmshook.position, dmshook.skip;
