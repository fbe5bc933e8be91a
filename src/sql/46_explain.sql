/*
 * Why an event did or did not reach a webhook: each thing that was asked of it,
 * in the order in which it is asked, then what was sent, then how it stands.
 */

/* A time as people say it: "10:02" today, else with its date. */
CREATE FUNCTION dmshook._clock(at timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN at::date = clock_timestamp()::date THEN to_char(at, 'HH24:MI') ELSE to_char(at, 'YYYY-MM-DD HH24:MI') END
$$;
COMMENT ON FUNCTION dmshook._clock IS 'a time in words';

/* Of a name that several webhooks had in the course of time: the one that is there, else the one dropped last. */
CREATE FUNCTION dmshook._webhook_ever(webhook_name text) RETURNS dmshook.webhook
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w dmshook.webhook;
BEGIN
	SELECT * INTO w FROM dmshook.webhook h WHERE h.name = webhook_name ORDER BY h.dropped_at DESC NULLS FIRST LIMIT 1;
	IF w.id IS NULL THEN
		w := dmshook._webhook(webhook_name, lock => false);	-- the error says which names are near
	END IF;
	RETURN w;
END
$$;
COMMENT ON FUNCTION dmshook._webhook_ever IS 'a webhook by its name, also one that was dropped';

/* Was the event for the webhook? Each question and its answer, up to the first no. */
CREATE FUNCTION dmshook._explain_subscription(w dmshook.webhook, e dmshook.event,
	OUT at timestamptz, OUT step text, OUT ok boolean, OUT detail text) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	v     dmshook.subscription;
	later dmshook.subscription;
	found record;
BEGIN
	SELECT * INTO v FROM dmshook.subscription s WHERE s.webhook = w.id AND s.from_id <= e.id ORDER BY s.from_id DESC, s.id DESC LIMIT 1;
	IF v.id IS NULL THEN
		at := w.created_at;
		step := 'created';
		ok := false;
		detail := 'the event is from before the webhook was created; dmshook.replay() sends such events';
		RETURN NEXT;
		RETURN;
	END IF;

	at := v.at;
	step := 'enabled';
	ok := v.enabled;
	IF v.enabled THEN
		detail := 'the webhook was enabled';
	ELSE
		SELECT * INTO later FROM dmshook.subscription s WHERE s.webhook = w.id AND s.enabled AND (s.from_id, s.id) > (v.from_id, v.id)
			ORDER BY s.from_id, s.id LIMIT 1;
		IF w.dropped_at IS NOT NULL AND later.id IS NULL THEN
			detail := 'the webhook was dropped';
		ELSIF EXISTS (SELECT FROM dmshook.subscription s WHERE s.webhook = w.id AND s.enabled AND (s.from_id, s.id) < (v.from_id, v.id)) THEN
			detail := 'the webhook was disabled, and events of that time are skipped; '
				|| CASE WHEN later.id IS NOT NULL THEN format('it was enabled again at %s; dmshook.replay(..., missing => true) sends them', dmshook._clock(later.at))
					ELSE 'it still is' || coalesce(': ' || w.disabled_reason, '') END;
		ELSE
			detail := 'the webhook was not enabled yet, and events of that time are skipped'
				|| CASE WHEN later.id IS NOT NULL THEN format('; it was at %s', dmshook._clock(later.at)) ELSE '; it still is not' END;
		END IF;
	END IF;
	RETURN NEXT;
	IF NOT ok THEN
		RETURN;
	END IF;

	step := 'subscribed';
	ok := dmshook._matches(v.events, e.type);
	detail := format(CASE WHEN ok THEN '%s is among its events: %s' ELSE '%s is not among its events: %s' END, e.type, array_to_string(v.events, ', '));
	RETURN NEXT;
	IF NOT ok THEN
		RETURN;
	END IF;

	IF v.tenant IS NOT NULL THEN
		step := 'tenant';
		ok := coalesce(v.tenant = e.tenant OR v.tenant = e.old_tenant, false);
		detail := CASE WHEN ok THEN format('the event is of tenant "%s", as the webhook', v.tenant)
			WHEN e.tenant IS NULL THEN format('the event has no tenant, and the webhook gets those of "%s"', v.tenant)
			ELSE format('the event is of tenant "%s", and the webhook gets those of "%s"', e.tenant, v.tenant) END;
		RETURN NEXT;
		IF NOT ok THEN
			RETURN;
		END IF;
	END IF;

	IF v.filter IS NOT NULL THEN
		step := 'filter';
		SELECT * INTO found FROM dmshook._filter_verdict(v.filter, e);
		ok := found.verdict = 'true';
		detail := CASE found.verdict WHEN 'true' THEN 'the filter holds: ' WHEN 'false' THEN 'the filter does not hold: '
			WHEN 'unknown' THEN 'the filter has no answer for this event, which counts as no: '
			ELSE format('the filter fails (%s), which is a failed attempt: ', dmshook._shown_error('the filter failed: ' || found.error)) END || v.filter;
		RETURN NEXT;
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._explain_subscription IS 'the part of dmshook.explain() about who gets what';

/* What was sent, or ended without being sent. */
CREATE FUNCTION dmshook._explain_attempts(w dmshook.webhook, e dmshook.event,
	OUT at timestamptz, OUT step text, OUT ok boolean, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT a.at,
		CASE WHEN a.outcome IS NULL THEN CASE a.final WHEN 'c' THEN 'cancelled' WHEN 'e' THEN 'expired' ELSE 'ended' END
			ELSE CASE a.kind WHEN 'p' THEN 'probe' WHEN 't' THEN 'test' WHEN 'r' THEN 'redelivery' WHEN 'y' THEN 'replay' ELSE 'attempt' END || ' ' || a.attempt END,
		coalesce(a.outcome = 'o', false),
		CASE WHEN a.outcome IS NULL THEN CASE a.final WHEN 'c' THEN 'it waited, and was cancelled' WHEN 'e' THEN 'it waited longer than dmshook.max_wait allows' END
			WHEN a.outcome = 'o' THEN format('delivered: HTTP %s after %s ms', a.status, round(a.duration_us / 1000.0, 1))
			ELSE coalesce(dmshook._shown_error(a.error), 'no error was logged') || CASE a.final WHEN 'x' THEN '; given up' WHEN 'c' THEN '; cancelled' WHEN 'e' THEN '; expired' ELSE '' END END
	FROM dmshook.attempt a
	WHERE a.event = e.id AND a.webhook = w.id AND a.nonce = e.nonce
	ORDER BY a.id
$$;
COMMENT ON FUNCTION dmshook._explain_attempts IS 'the part of dmshook.explain() about requests';

CREATE FUNCTION dmshook.explain(name text, message_id text,
	OUT at timestamptz, OUT step text, OUT ok boolean, OUT detail text) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	w    dmshook.webhook := dmshook._webhook_ever(explain.name);
	e    dmshook.event := dmshook._event_of(explain.message_id);
	k    dmshook.skip;
	now_is text := dmshook._state(w.id, e.id);
	line record;
	for_it boolean := true;
	sent   boolean := false;
BEGIN
	at := e.at;
	step := 'event';
	ok := true;
	detail := format('%s of %s %s%s, by %s', e.type, e.entity, e.key, ', tenant "' || e.tenant || '"', coalesce(e.who->>'name', e.who->>'role', 'nobody known'));
	RETURN NEXT;
	FOR line IN SELECT * FROM dmshook._explain_subscription(w, e) LOOP
		at := line.at;
		step := line.step;
		ok := line.ok;
		detail := line.detail;
		for_it := ok;
		RETURN NEXT;
	END LOOP;
	FOR line IN SELECT * FROM dmshook._explain_attempts(w, e) LOOP
		at := line.at;
		step := line.step;
		ok := line.ok;
		detail := line.detail;
		sent := true;
		RETURN NEXT;
	END LOOP;

	IF now_is IN ('waiting', 'retrying') THEN
		SELECT v.next_attempt_at, v.why INTO at, detail FROM dmshook.waiting v
			WHERE v.webhook = w.name AND v.sequence = e.id AND v.message_id = btrim(explain.message_id) LIMIT 1;
		step := now_is;
		ok := NULL;
		RETURN NEXT;
	ELSIF now_is IN ('cancelled', 'expired') AND NOT sent THEN
		SELECT * INTO k FROM dmshook.skip s WHERE s.webhook = w.id;
		at := k.at;
		step := CASE k.reason WHEN 'dropped' THEN 'dropped' ELSE now_is END;
		ok := false;
		detail := CASE k.reason WHEN 'dropped' THEN 'it waited, and its webhook was dropped'
			WHEN 'expired' THEN 'it waited longer than dmshook.max_wait allows' ELSE 'it waited, and was cancelled' END;
		RETURN NEXT;
	ELSIF for_it AND NOT sent AND now_is IS NULL THEN
		at := NULL;
		step := 'unknown';
		ok := NULL;
		detail := 'nothing is logged of it: its attempts were removed, being older than dmshook.retention, or its transaction overlapped with a change of the webhook';
		RETURN NEXT;
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook.explain IS 'why a webhook did or did not get an event: was it subscribed, enabled, of the tenant, did the filter hold, what was sent, what does it wait for';
