/*
 * Sending by hand, and calling off.  These functions only append to
 * dmshook.command; the dispatcher carries it out, after commit, and is never
 * made to wait by a transaction that stays open here.
 */

CREATE FUNCTION dmshook._ordered(webhook_id int, webhook_name text, kind text, event bigint, upto bigint, args jsonb, what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO dmshook.command (webhook, kind, event, upto, args) VALUES (webhook_id, kind, event, upto, args);
	INSERT INTO dmshook.change (webhook, what) VALUES (webhook_name, what);
	PERFORM dmshook._wake();
END
$$;
COMMENT ON FUNCTION dmshook._ordered IS 'append a command for the dispatcher, and say so in dmshook.changes';

/* The event that a message id names. */
CREATE FUNCTION dmshook._event_of(message_id text) RETURNS dmshook.event
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	e dmshook.event;
BEGIN
	IF message_id IS NULL OR dmshook._message_sequence(btrim(message_id)) IS NULL THEN
		RAISE EXCEPTION '"%" is not a message id', coalesce(message_id, 'NULL') USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Message ids are such as dmshook.deliveries shows, and as the receiver gets in the header webhook-id: "msg_" and 22 characters.';
	END IF;
	SELECT * INTO e FROM dmshook.event v
		WHERE v.id = dmshook._message_sequence(btrim(message_id)) AND dmshook._message_id(v.id, v.nonce) = btrim(message_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'message "%" is not in the log', btrim(message_id) USING ERRCODE = 'no_data_found',
			HINT = 'It may be a test, of another database, or older than what is kept.';
	END IF;
	RETURN e;
END
$$;
COMMENT ON FUNCTION dmshook._event_of IS 'the event that a message id names; an error with a hint when there is none';

/* What has become of an event on its way to a webhook: a state of dmshook.deliveries, or NULL: it was not meant for it. */
CREATE FUNCTION dmshook._state(webhook_id int, event_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT state FROM (
		SELECT state FROM dmshook._open d WHERE d.webhook_id = _state.webhook_id AND d.sequence = event_id
		UNION ALL SELECT state FROM dmshook._finished d WHERE d.webhook_id = _state.webhook_id AND d.sequence = event_id
		UNION ALL SELECT state FROM dmshook._ahead d WHERE d.webhook_id = _state.webhook_id AND d.sequence = event_id
		UNION ALL SELECT state FROM dmshook._skipped d WHERE d.webhook_id = _state.webhook_id AND d.sequence = event_id
	) AS s LIMIT 1
$$;
COMMENT ON FUNCTION dmshook._state IS 'state of one delivery; NULL: the event was not for this webhook';

/* An error unless an event was for a webhook. */
CREATE FUNCTION dmshook._delivery_state(w dmshook.webhook, e dmshook.event) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	state  text := dmshook._state(w.id, e.id);
	others text;
BEGIN
	IF state IS NULL THEN
		SELECT string_agg(DISTINCT quote_ident(o.name), ', ') INTO others
			FROM dmshook.webhook o WHERE o.dropped_at IS NULL AND dmshook._state(o.id, e.id) IS NOT NULL;
		RAISE EXCEPTION 'message "%" was not for webhook "%"', dmshook._message_id(e.id, e.nonce), w.name USING ERRCODE = 'no_data_found',
			HINT = CASE WHEN others IS NOT NULL THEN format('It was for: %s.', others)
				ELSE format('It is an event "%s" of %s; dmshook.replay() sends events that a webhook did not get.', e.type, date_trunc('second', e.at)) END;
	END IF;
	RETURN state;
END
$$;
COMMENT ON FUNCTION dmshook._delivery_state IS 'state of one delivery; an error with a hint when the event was not for this webhook';

CREATE FUNCTION dmshook.redeliver(name text, message_id text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w     dmshook.webhook := dmshook._webhook(redeliver.name, lock => false);
	e     dmshook.event := dmshook._event_of(message_id);
	state text := dmshook._delivery_state(w, e);
BEGIN
	IF state IN ('waiting', 'retrying') THEN
		RAISE EXCEPTION 'message "%" is still open', btrim(message_id) USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('It is %s at webhook "%s".', state, w.name),
			HINT = 'It is sent without this; SELECT * FROM dmshook.waiting says when.';
	END IF;
	IF e.erased_at IS NOT NULL THEN
		RAISE EXCEPTION 'message "%" was erased', btrim(message_id) USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('Its data were blanked at %s.', date_trunc('second', e.erased_at)), HINT = 'There is nothing left that could be sent.';
	END IF;
	PERFORM dmshook._ordered(w.id, w.name, 'redeliver', e.id, NULL, '{}', format('redeliver %s (%s, was %s)', btrim(message_id), e.type, state));
	RETURN format('Message %s (%s, was %s) is sent again to webhook "%s"', btrim(message_id), e.type, state, w.name)
		|| CASE WHEN NOT w.enabled THEN ' when it is enabled.' WHEN w.paused THEN ' when it is resumed.' ELSE '.' END || dmshook._unsent_hint();
END
$$;
COMMENT ON FUNCTION dmshook.redeliver IS 'send one message again, which was delivered, given up, cancelled or expired; with the same message id';

CREATE FUNCTION dmshook._check_types(event_types text[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF event_types IS NOT NULL THEN
		PERFORM dmshook._check_events(event_types);
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._check_types IS 'raise an error with a hint unless these are event types or patterns, or NULL';

CREATE FUNCTION dmshook.redeliver_dead(name text = NULL, since timestamptz = NULL, event_types text[] = NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w    dmshook.webhook;
	n    bigint;
	last bigint;
BEGIN
	IF name IS NOT NULL THEN
		w := dmshook._webhook(name, lock => false);
	END IF;
	PERFORM dmshook._check_types(event_types);
	-- one statement, one snapshot: what is counted is what is sent
	SELECT count(*), max(f.attempt_id) INTO n, last
		FROM dmshook._finished f JOIN dmshook.webhook o ON o.id = f.webhook_id
		WHERE f.final = 'x' AND o.dropped_at IS NULL AND (w.id IS NULL OR f.webhook_id = w.id) AND (since IS NULL OR f.at >= since)
			AND (event_types IS NULL OR dmshook._matches(event_types, f.event_type))
			AND NOT EXISTS (SELECT FROM dmshook.event e WHERE e.id = f.sequence AND e.erased_at IS NOT NULL);
	IF n > 0 THEN
		PERFORM dmshook._ordered(w.id, w.name, 'redeliver_dead', NULL, NULL,
			jsonb_build_object('since', since, 'types', event_types, 'upto_attempt', last),
			format('redeliver %s%s%s', dmshook._count_words(n, n + 1, 'dead letter'), ' since ' || since, ' of ' || array_to_string(event_types, ', ')));
	END IF;
	RETURN n;
END
$$;
COMMENT ON FUNCTION dmshook.redeliver_dead IS 'send dead letters again, of one webhook or of all (NULL), given up since then, of these event types and patterns; returns how many';

CREATE FUNCTION dmshook.replay(name text, since timestamptz, until timestamptz = now(), event_types text[] = NULL, missing boolean = false) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w     dmshook.webhook := dmshook._webhook(replay.name, lock => false);
	n     bigint;
	first bigint;
	last  bigint;
BEGIN
	IF since IS NULL OR until IS NULL OR since > until THEN
		RAISE EXCEPTION 'a replay needs a time to begin at, and one to end at that is not earlier' USING ERRCODE = 'invalid_parameter_value',
			HINT = format('Such as: SELECT dmshook.replay(%L, since => now() - interval ''1 day'').', w.name);
	END IF;
	PERFORM dmshook._check_types(event_types);
	SELECT count(*), min(e.id), max(e.id) INTO n, first, last
		FROM dmshook.event e
		WHERE e.at >= since AND e.at <= until AND e.erased_at IS NULL AND dmshook._matches(w.events, e.type)
			AND (w.tenant IS NULL OR w.tenant = e.tenant OR w.tenant = e.old_tenant)
			AND (w.filter IS NULL OR dmshook._filter_holds(w.filter, e))
			AND (event_types IS NULL OR dmshook._matches(event_types, e.type))
			AND NOT EXISTS (SELECT FROM dmshook.queue q WHERE q.event = e.id AND q.webhook = w.id)
			AND (NOT coalesce(missing, false)
				OR NOT EXISTS (SELECT FROM dmshook.attempt a WHERE a.event = e.id AND a.webhook = w.id AND a.final = 'd'));
	IF n > 0 THEN
		PERFORM dmshook._ordered(w.id, w.name, 'replay', NULL, last,
			jsonb_build_object('from', first - 1, 'types', event_types, 'missing', coalesce(missing, false), 'since', since, 'until', until),
			format('replay %s from %s to %s%s%s', dmshook._count_words(n, n + 1, 'event'), since, until, ' of ' || array_to_string(event_types, ', '),
				CASE WHEN missing THEN ', what it never got' END));
	END IF;
	RETURN n;
END
$$;
COMMENT ON FUNCTION dmshook.replay IS
	'send the events of a time again, as far as the webhook subscribes to them now (missing: only what it never got); with the same message ids. Returns how many';

CREATE FUNCTION dmshook.cancel(name text, message_id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w     dmshook.webhook := dmshook._webhook(cancel.name, lock => false);
	e     dmshook.event := dmshook._event_of(message_id);
	state text := dmshook._delivery_state(w, e);
BEGIN
	IF state NOT IN ('waiting', 'retrying') THEN
		RETURN false;
	END IF;
	PERFORM dmshook._ordered(w.id, w.name, 'cancel', e.id, NULL, '{}', format('cancel %s (%s, was %s)', btrim(message_id), e.type, state));
	RETURN true;
END
$$;
COMMENT ON FUNCTION dmshook.cancel IS 'call off a delivery that waits or is retried; false: it has ended already. A request under way is not recalled';

CREATE FUNCTION dmshook.cancel_all(name text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w    dmshook.webhook := dmshook._webhook(cancel_all.name, lock => false);
	last bigint := dmshook._last_event_id();	-- before counting: nothing is cancelled that was not counted, but what commits meanwhile
	n    bigint;
BEGIN
	SELECT count(*) INTO n FROM dmshook.waiting d WHERE d.webhook = w.name AND d.sequence <= last;
	PERFORM dmshook._ordered(w.id, w.name, 'cancel_all', NULL, last, '{}', format('cancel all: %s', n || CASE WHEN n = 1 THEN ' delivery' ELSE ' deliveries' END));
	RETURN n;
END
$$;
COMMENT ON FUNCTION dmshook.cancel_all IS 'call off all that waits for a webhook now; returns how many. Requests under way are not recalled';

CREATE FUNCTION dmshook.sequence_of(message_id text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'dmshook_sql_message_sequence' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook.sequence_of IS
	'the sequence in a message id, NULL when it is none: WHERE sequence = dmshook.sequence_of(''msg_...'') finds a message in a big log by an index';
