/*
 * How webhooks are. Everything here reads a bounded part of the log, however
 * large it is: counts of five minutes that the dispatcher keeps, the latest 2,000
 * requests of each webhook, and what waits only up to 100,000.
 */

/* Latency of the latest requests, in ms. */
CREATE FUNCTION dmshook._latency(webhook_id int) RETURNS numeric[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT (SELECT array_agg(round(p / 1000.0, 3) ORDER BY o) FROM unnest(percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY a.duration_us)) WITH ORDINALITY AS u (p, o))
	FROM (
		SELECT l.duration_us, l.kind, l.at FROM dmshook.attempt l WHERE l.webhook = webhook_id ORDER BY l.id DESC LIMIT 2000
	) AS a
	WHERE a.kind <> 't' AND a.duration_us IS NOT NULL AND a.at > clock_timestamp() - interval '1 day'
$$;
COMMENT ON FUNCTION dmshook._latency IS 'median, 95th and 99th percentile of the latest 2,000 requests of a webhook, in ms';

/*
 * What waits: in the queue, and before the webhook in the log. One that has come to the end of the log is not
 * asked for more, so that ten thousand of these are quickly told; one that is behind costs a read of the log from its place on,
 * by index whatever the statistics say.
 */
CREATE FUNCTION dmshook._backlog(webhook_id int, stop_at bigint, OUT n bigint, OUT oldest timestamptz) RETURNS record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	ahead bigint := 0;
	since timestamptz;
BEGIN
	SELECT count(*) INTO n FROM (SELECT FROM dmshook.queue q WHERE q.webhook = webhook_id LIMIT stop_at) AS q;
	-- ids ascend with time, near enough
	IF n > 0 THEN
		SELECT e.at INTO oldest FROM dmshook.event e WHERE e.id = (SELECT min(q.event) FROM dmshook.queue q WHERE q.webhook = webhook_id);
	END IF;
	IF n < stop_at AND coalesce((SELECT p.low FROM dmshook.position p WHERE p.webhook = webhook_id AND p.command = 0),
			(SELECT p.low FROM dmshook.position p WHERE p.webhook = 0 AND p.command = 0), 0) < (SELECT max(e.id) FROM dmshook.event e) THEN
		SELECT count(*), min(a.created_at) INTO ahead, since
		FROM (SELECT a.created_at FROM dmshook._ahead a WHERE a.webhook_id = _backlog.webhook_id ORDER BY a.sequence LIMIT stop_at - n) AS a;
		n := n + ahead;
		oldest := least(oldest, since);
	ELSIF n >= stop_at THEN
		SELECT least(oldest, (SELECT a.created_at FROM dmshook._ahead a WHERE a.webhook_id = _backlog.webhook_id ORDER BY a.sequence LIMIT 1)) INTO oldest;
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._backlog IS 'how many events wait for a webhook (counted up to a limit), and since when the oldest does';

/*
 * A character for each value, its height relative to the largest; NULL: 'x'. By their
 * numbers, for a database in LATIN1 has no such characters, and gets digits.
 */
CREATE FUNCTION dmshook._sparkline(v bigint[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT string_agg(CASE WHEN u.x IS NULL THEN 'x' WHEN u.x = 0 THEN '.'
			WHEN current_setting('server_encoding') = 'UTF8' THEN chr(9600 + ceil(8.0 * u.x / m.x)::int)
			ELSE ceil(8.0 * u.x / m.x)::text END, '' ORDER BY u.o)
	FROM unnest(v) WITH ORDINALITY AS u (x, o), (SELECT max(x) AS x FROM unnest(v) AS x) AS m
$$;
COMMENT ON FUNCTION dmshook._sparkline IS 'a small chart of one line';

/* Requests of the last hour and of the last day, and by the hour. */
CREATE FUNCTION dmshook._rates(webhook_id int, OUT success_1h numeric, OUT success_24h numeric, OUT trend text) RETURNS record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- most webhooks of many
	IF NOT EXISTS (SELECT FROM dmshook.webhook_count k WHERE k.webhook = webhook_id AND k.at >= clock_timestamp() - interval '1 day 5 minutes') THEN
		trend := repeat('.', 24);
		RETURN;
	END IF;
	WITH c AS (
		SELECT k.ok, k.failed, k.at >= date_bin('5 minutes', clock_timestamp() - interval '1 hour', '2000-01-01 00:00+00') AS last_hour,
			floor(extract(epoch FROM clock_timestamp() - k.at) / 3600)::int AS hours_ago
		FROM dmshook.webhook_count k
		WHERE k.webhook = webhook_id AND k.at >= date_bin('5 minutes', clock_timestamp() - interval '1 day', '2000-01-01 00:00+00')
	), h AS (
		SELECT g.h, coalesce(sum(c.ok), 0)::bigint AS ok, coalesce(sum(c.failed), 0)::bigint AS failed
		FROM generate_series(0, 23) AS g (h) LEFT JOIN c ON least(c.hours_ago, 23) = g.h GROUP BY g.h
	)
	SELECT
		(SELECT round(100.0 * sum(c.ok) / nullif(sum(c.ok + c.failed), 0), 2) FROM c WHERE c.last_hour),
		(SELECT round(100.0 * sum(c.ok) / nullif(sum(c.ok + c.failed), 0), 2) FROM c),
		(SELECT dmshook._sparkline(array_agg(CASE WHEN h.failed > h.ok THEN NULL ELSE h.ok END ORDER BY h.h DESC)) FROM h)
	INTO success_1h, success_24h, trend;
END
$$;
COMMENT ON FUNCTION dmshook._rates IS 'share of requests that went well, and a chart of the last 24 hours';

/* How certificates that expire within 14 days are warned of, the receiver's and the client's; NULL: no need. */
CREATE FUNCTION dmshook._certificate_hint(at timestamptz, client_at timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT nullif(concat_ws(' ',
		CASE WHEN at <= clock_timestamp() THEN format('The certificate of the receiver expired at %s: it must be renewed there.', dmshook._clock(at))
			WHEN at <= clock_timestamp() + interval '14 days' THEN format('The certificate of the receiver expires at %s: it must be renewed there, or deliveries will fail.', dmshook._clock(at)) END,
		CASE WHEN client_at <= clock_timestamp() THEN format('The client certificate of auth expired at %s: set a new one with dmshook.alter_webhook().', dmshook._clock(client_at))
			WHEN client_at <= clock_timestamp() + interval '14 days' THEN format('The client certificate of auth expires at %s: set a new one with dmshook.alter_webhook(), or deliveries will fail.', dmshook._clock(client_at)) END), '')
$$;
COMMENT ON FUNCTION dmshook._certificate_hint IS 'what health says of certificates that expire within 14 days';

CREATE FUNCTION dmshook._check_certificates(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'warning', w.name, format(CASE WHEN s.certificate_expires_at <= clock_timestamp() THEN 'the certificate of its receiver expired at %s'
			ELSE 'the certificate of its receiver expires at %s' END, dmshook._clock(s.certificate_expires_at)),
		'Ask the receiver''s owner to renew it, or deliveries will fail (tls_error). A renewed one is seen with the next new connection, ten minutes later at most.'
	FROM dmshook.webhook w JOIN dmshook.webhook_state s ON s.webhook = w.id
	WHERE w.dropped_at IS NULL AND w.enabled AND s.certificate_expires_at <= clock_timestamp() + interval '14 days'
	UNION ALL
	SELECT 'warning', w.name, format(CASE WHEN w.certificate_expires_at <= clock_timestamp() THEN 'its client certificate expired at %s'
			ELSE 'its client certificate expires at %s' END, dmshook._clock(w.certificate_expires_at)),
		format('Get a new one where it came from; then SELECT dmshook.alter_webhook(%L, auth => ''{"kind": "mtls", ...}'').', w.name)
	FROM dmshook.webhook w
	WHERE w.dropped_at IS NULL AND w.certificate_expires_at <= clock_timestamp() + interval '14 days'
	ORDER BY 2, 3
$$;
COMMENT ON FUNCTION dmshook._check_certificates IS 'the part of dmshook.check() about certificates that expire within 14 days';

CREATE VIEW dmshook.health AS
	SELECT w.name AS webhook,
		CASE WHEN NOT w.enabled THEN 'disabled' WHEN w.paused THEN 'paused' WHEN s.circuit_open_since IS NOT NULL THEN 'circuit_open'
			WHEN s.failures > 0 THEN 'failing' ELSE 'active' END AS state,
		r.success_1h, r.success_24h, l.ms[1] AS p50_ms, l.ms[2] AS p95_ms, l.ms[3] AS p99_ms,
		b.n AS waiting, b.oldest AS oldest_waiting, s.last_success_at, s.last_failure_at, dmshook._shown_error(s.last_error) AS last_error,
		nullif(concat_ws(' ', s.last_hint, dmshook._certificate_hint(x.at, w.certificate_expires_at)), '') AS hint,
		least(x.at, w.certificate_expires_at) AS certificate_expires_at, r.trend
	FROM dmshook.webhook w
	LEFT JOIN dmshook.webhook_state s ON s.webhook = w.id
	CROSS JOIN LATERAL (SELECT nullif(s.certificate_expires_at, 'infinity')) AS x (at)
	CROSS JOIN LATERAL dmshook._rates(w.id) AS r
	CROSS JOIN LATERAL dmshook._latency(w.id) AS l (ms)
	CROSS JOIN LATERAL dmshook._backlog(w.id, 100000) AS b
	WHERE w.dropped_at IS NULL;
COMMENT ON VIEW dmshook.health IS 'how each webhook is, now';
COMMENT ON COLUMN dmshook.health.state IS 'active, paused, failing (the last request failed), circuit_open, disabled; dmshook.webhooks.why says why';
COMMENT ON COLUMN dmshook.health.success_1h IS 'percent of the requests of the last hour (to five minutes) that succeeded; NULL: there were none';
COMMENT ON COLUMN dmshook.health.success_24h IS 'the same of the last 24 hours';
COMMENT ON COLUMN dmshook.health.p50_ms IS 'median duration of the latest requests: at most 2,000, and of the last 24 hours';
COMMENT ON COLUMN dmshook.health.waiting IS 'events that are to be sent still; counted up to 100000';
COMMENT ON COLUMN dmshook.health.oldest_waiting IS 'when the oldest of them happened';
COMMENT ON COLUMN dmshook.health.last_error IS 'of the last request that failed, at last_failure_at';
COMMENT ON COLUMN dmshook.health.hint IS 'what to do about it, and about a certificate that is about to expire';
COMMENT ON COLUMN dmshook.health.certificate_expires_at IS 'until when the receiver''s certificate is valid, as it was at the last TLS handshake, and the client certificate of auth, where there is one: the earlier of both';
COMMENT ON COLUMN dmshook.health.trend IS 'the last 24 hours, an hour a character, the present one last: requests that succeeded, relative to the best hour; . none, x more failed than succeeded';
