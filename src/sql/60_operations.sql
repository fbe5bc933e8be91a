/*
 * Which database this is, and whether all is well.
 */

/*
 * The row of dmshook.instance is of this very database, or of the one that
 * pg_upgrade made it from (another system identifier, a higher major; OIDs of
 * databases are kept).  A dump restored, a CREATE DATABASE ... TEMPLATE and
 * a copy into another cluster are not.
 */
CREATE FUNCTION dmshook._identity_matches() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (
		SELECT FROM dmshook.instance i, dmshook._identity() n
		WHERE i.database = n.database
			AND (i.system_identifier = n.system_identifier OR i.major < n.major))
$$;
COMMENT ON FUNCTION dmshook._identity_matches IS 'is this the database that was claimed, and no copy of it?';

/* A fresh installation is nobody's copy. Anything that a dump would have brought along says otherwise. */
CREATE FUNCTION dmshook._claim_if_new() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM dmshook.instance) OR EXISTS (SELECT FROM dmshook.webhook) OR EXISTS (SELECT FROM dmshook.position) THEN
		RETURN;
	END IF;
	INSERT INTO dmshook.instance (system_identifier, database, major)
		SELECT n.system_identifier, n.database, n.major FROM dmshook._identity() n
		ON CONFLICT DO NOTHING;
	INSERT INTO dmshook.position (webhook, command, low) VALUES (0, 0, 0) ON CONFLICT DO NOTHING;
	PERFORM dmshook._wake();
END
$$;
COMMENT ON FUNCTION dmshook._claim_if_new IS 'claim a database in which dmshook was never used before';

/* A restored sequence may be behind its table (data without sequences): ids would be given out twice. */
CREATE FUNCTION dmshook._advance_sequence(sequence regclass, atleast bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	behind boolean;
BEGIN
	EXECUTE format('SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END < $1 FROM %s', sequence) INTO behind USING atleast;
	IF behind THEN
		PERFORM setval(sequence, atleast);
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._advance_sequence IS 'let a sequence go on above an id that is in use';

/* What a restore may have left wrong, put right before anything is written. */
CREATE FUNCTION dmshook._repair() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	last bigint;
BEGIN
	PERFORM dmshook._advance_sequence('dmshook.event_id', greatest((SELECT max(id) FROM dmshook.event), (SELECT max(event) FROM dmshook.attempt),
		(SELECT max(low) FROM dmshook.position)));
	PERFORM dmshook._advance_sequence('dmshook.attempt_id', (SELECT max(id) FROM dmshook.attempt));
	PERFORM dmshook._advance_sequence('dmshook.webhook_id', (SELECT max(id) FROM dmshook.webhook));
	PERFORM dmshook._advance_sequence('dmshook.version_id', (SELECT max(id) FROM dmshook.webhook_version));
	PERFORM dmshook._advance_sequence('dmshook.subscription_id', (SELECT max(id) FROM dmshook.subscription));
	PERFORM dmshook._advance_sequence('dmshook.secret_id', (SELECT max(id) FROM dmshook.webhook_secret));
	PERFORM dmshook._advance_sequence('dmshook.command_id', (SELECT max(id) FROM dmshook.command));
	PERFORM dmshook._advance_sequence('dmshook.alert_id', (SELECT max(id) FROM dmshook.alert));
	PERFORM dmshook._advance_sequence('dmshook.change_id', (SELECT max(id) FROM dmshook.change));
	-- without the log there is nothing to go back to: only what happens from now on is sent
	last := dmshook._last_event_id();
	INSERT INTO dmshook.position (webhook, command, low) VALUES (0, 0, last) ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION dmshook._repair IS 'put sequences and the reader''s position right after a restore';

/* Of a copy nothing must reach a real receiver: not what waits, not by an order left undone, not with a secret that it trusts. */
CREATE FUNCTION dmshook._disarm() RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w dmshook.webhook;
	n int := 0;
BEGIN
	UPDATE dmshook.command SET done_at = clock_timestamp() WHERE done_at IS NULL;
	DELETE FROM dmshook.position WHERE command > 0;
	DELETE FROM dmshook.webhook_secret;
	FOR w IN SELECT * FROM dmshook.webhook WHERE dropped_at IS NULL ORDER BY id FOR UPDATE LOOP
		UPDATE dmshook.webhook SET enabled = false, disabled_reason = 'this database is a copy', auth_kind = 'none', header_names = '{}', certificate_expires_at = NULL,
			secret_changed_at = clock_timestamp() WHERE id = w.id;
		PERFORM dmshook._fit_secrets(w.id);
		PERFORM dmshook._write_version(w.id);
		PERFORM dmshook._write_subscription(w.id);
		PERFORM dmshook._changed(w.id, w.name, 'disabled, new signing secret, auth and headers removed: this database is a copy');
		INSERT INTO dmshook.command (webhook, kind, upto) VALUES (w.id, 'cancel_all', dmshook._last_event_id());
		n := n + 1;
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION dmshook._disarm IS 'disable all webhooks, replace their secrets, cancel what waits';

/* SECURITY INVOKER: it is for superusers, who may everything. */
CREATE FUNCTION dmshook.claim_database(mode text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	result text;
BEGIN
	IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
		RAISE EXCEPTION 'only a superuser may claim a database for dmshook' USING ERRCODE = 'insufficient_privilege';
	END IF;
	IF mode IS NULL OR mode NOT IN ('takeover', 'copy') THEN
		RAISE EXCEPTION 'unknown mode "%"', coalesce(mode, 'NULL') USING ERRCODE = 'invalid_parameter_value',
			HINT = '''takeover'': this database takes the place of the one it was restored from, which must not send any more. ''copy'': it is one beside it, for tests, say: webhooks are disabled, secrets removed, and what waits is cancelled.';
	END IF;
	LOCK TABLE dmshook.instance IN SHARE UPDATE EXCLUSIVE MODE;	-- one at a time; the dispatcher may go on reading and writing it
	IF dmshook._identity_matches() THEN
		RAISE EXCEPTION 'this database is claimed already' USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'It is no copy: there is nothing to do.';
	END IF;
	PERFORM dmshook._repair();
	IF mode = 'copy' THEN
		result := format('This database is a copy of its own now. %s webhooks are disabled, their secrets are new, auth and headers are removed, and what waited is cancelled. Point them elsewhere with dmshook.alter_webhook() before you enable any.',
			dmshook._disarm());
	ELSE
		result := 'This database sends now, what waited first. The one it was restored from must not send any more: set dmshook.dispatchers = 0 there.';
	END IF;
	INSERT INTO dmshook.instance AS i (system_identifier, database, major)
		SELECT n.system_identifier, n.database, n.major FROM dmshook._identity() n
		ON CONFLICT (one) DO UPDATE SET system_identifier = excluded.system_identifier, database = excluded.database, major = excluded.major,
			claimed_at = excluded.claimed_at;
	INSERT INTO dmshook.change (webhook, what) VALUES (NULL, 'database claimed: ' || mode);
	PERFORM dmshook._wake();
	RETURN result;
END
$$;
COMMENT ON FUNCTION dmshook.claim_database IS
	'let a restored database send: ''takeover'' in place of the original, ''copy'' beside it (webhooks disabled, secrets removed, what waits cancelled)';

/* ------------------------------------------------------------------------
 * check()
 * ------------------------------------------------------------------------ */

/* Why nothing would be sent at all. */
CREATE FUNCTION dmshook._check_dispatcher(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s       record;
	workers int := current_setting('max_worker_processes')::int;
	used    bigint;		-- by dispatchers that are there or ought to be
	running bigint;
BEGIN
	IF NOT dmshook._preloaded() THEN
		level := 'error';
		subject := 'shared_preload_libraries';
		problem := 'dmshook is not preloaded: events are kept, but nothing is sent';
		hint := format('Put this line into postgresql.conf and restart the server: shared_preload_libraries = ''%s''',
			concat_ws(', ', nullif(current_setting('shared_preload_libraries'), ''), 'dmshook'));
		RETURN NEXT;
		RETURN;
	END IF;
	SELECT count(*), count(pid) INTO used, running FROM dmshook._slots();
	IF current_setting('dmshook.dispatchers') = '0' THEN
		level := 'error';
		subject := 'dmshook.dispatchers';
		problem := 'dmshook.dispatchers is 0: events are kept, but nothing is sent';
		hint := 'ALTER SYSTEM SET dmshook.dispatchers = 1; SELECT pg_reload_conf();';
		RETURN NEXT;
		RETURN;
	END IF;
	SELECT d.* INTO s FROM dmshook._slots() d WHERE d.database = (SELECT n.database FROM dmshook._identity() n)
		ORDER BY d.state NOT IN ('running', 'unclaimed') LIMIT 1;
	subject := 'dispatcher';
	IF NOT FOUND OR (s.state = 'starting' AND s.pid IS NULL AND workers - 2 <= running) THEN
		level := 'error';
		problem := 'no dispatcher is running for this database';
		hint := format('max_worker_processes is %s, and all may be in use: raise it to %s or more, and restart the server. The server log says more.',
			workers, used + 8);
		RETURN NEXT;
		RETURN;
	ELSIF s.state = 'starting' THEN
		level := 'notice';
		problem := 'the dispatcher is being started';
		hint := 'Look again in a moment. When it stays so, the server log says why.';
		RETURN NEXT;
	ELSIF s.state = 'failed' THEN
		level := 'error';
		problem := 'the dispatcher failed' || coalesce(': ' || s.last_error, '');
		hint := 'It is started again after a pause; the server log says more.';
		RETURN NEXT;
	END IF;
	IF workers - 2 - used < 2 THEN		-- ours, and the launchers of dmshook and of logical replication
		level := 'warning';
		subject := 'max_worker_processes';
		problem := format('max_worker_processes is %s, and dmshook uses %s of them: little is left for parallel queries and for dispatchers of further databases',
			workers, used + 1);
		hint := format('Raise it to %s or more, and restart the server.', used + 8);
		RETURN NEXT;
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._check_dispatcher IS 'the part of dmshook.check() about what sends';

/* Is this the database that may send, and are its numbers in order? */
CREATE FUNCTION dmshook._check_identity(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	used  boolean := EXISTS (SELECT FROM dmshook.webhook) OR EXISTS (SELECT FROM dmshook.position) OR EXISTS (SELECT FROM dmshook.instance);
	owner name;
BEGIN
	level := 'error';
	IF used AND NOT dmshook._identity_matches() THEN
		subject := 'database';
		problem := 'this database is not claimed (it was restored or copied): events are kept, but nothing is sent';
		hint := 'A superuser calls dmshook.claim_database(''takeover''), when it takes the place of the original, or dmshook.claim_database(''copy'').';
		RETURN NEXT;
	ELSIF used AND NOT EXISTS (SELECT FROM dmshook.position p WHERE p.webhook = 0 AND p.command = 0) THEN
		subject := 'dmshook.position';
		problem := 'the reader''s position is missing: nothing is sent';
		hint := 'Was a restore interrupted? Else: INSERT INTO dmshook.position (webhook, command, low) SELECT 0, 0, last_value FROM dmshook.event_id; what happened before is not sent then.';
		RETURN NEXT;
	END IF;
	IF dmshook._last_event_id() < greatest((SELECT max(e.id) FROM dmshook.event e), (SELECT max(p.low) FROM dmshook.position p)) THEN
		subject := 'dmshook.event_id';
		problem := 'the sequence of event ids is behind the events: ids would be given out twice';
		hint := format('SELECT setval(''dmshook.event_id'', %s);',
			greatest((SELECT max(e.id) FROM dmshook.event e), (SELECT max(p.low) FROM dmshook.position p)) + 1000000);
		RETURN NEXT;
	END IF;
	SELECT r.rolname INTO owner FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
		WHERE d.datname = current_database() AND NOT r.rolsuper AND NOT pg_has_role(r.oid, 'pg_read_all_data', 'USAGE');
	IF owner IS NOT NULL THEN
		level := 'notice';
		subject := 'pg_dump';
		problem := format('role "%s" owns this database but cannot dump the tables of dmshook', owner);
		hint := format('GRANT pg_read_all_data TO %I, or dump with --exclude-table-data ''dmshook.*''.', owner);
		RETURN NEXT;
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._check_identity IS 'the part of dmshook.check() about claims, sequences and dumps';

/* What waits too long for a webhook that sends. */
CREATE FUNCTION dmshook._check_backlog(w dmshook.webhook, OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	stop_at CONSTANT bigint := 10000;
	waits   record;
	behind  timestamptz;
	n       text;
BEGIN
	SELECT * INTO waits FROM dmshook._backlog(w.id, stop_at);
	IF waits.n = 0 THEN
		RETURN;
	END IF;
	level := 'warning';
	subject := w.name;
	n := dmshook._count_words(waits.n, stop_at, 'event') || CASE WHEN waits.n = 1 THEN ' waits' ELSE ' wait' END;
	IF w.options->>'rate_limit' IS NOT NULL THEN
		SELECT a.created_at INTO behind FROM dmshook._ahead a WHERE a.webhook_id = w.id ORDER BY a.sequence LIMIT 1;
	END IF;
	IF w.options->>'rate_limit' IS NOT NULL AND behind < clock_timestamp() - interval '5 minutes'
		AND NOT EXISTS (SELECT FROM dmshook.webhook_state s WHERE s.webhook = w.id AND s.failures > 0) THEN
		problem := format('%s, the oldest since %s: more happens than its rate_limit of %s a second lets through', n, dmshook._clock(behind), w.options->>'rate_limit');
		hint := format('Raise it: SELECT dmshook.alter_webhook(%L, options => ''{"rate_limit": ...}''); or subscribe it to less.', w.name);
		RETURN NEXT;
	ELSIF waits.oldest < clock_timestamp() - interval '1 day' THEN
		problem := format('%s, the oldest since %s', n, dmshook._clock(waits.oldest));
		hint := format('SELECT * FROM dmshook.waiting WHERE webhook = %L ORDER BY since LIMIT 10 says why; after dmshook.max_wait (%s) they expire.',
			w.name, current_setting('dmshook.max_wait'));
		RETURN NEXT;
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._check_backlog IS 'the part of dmshook.check() about what waits';

/* Failures that nobody has seen, and that are not over by themselves. */
CREATE FUNCTION dmshook._check_alerts(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'notice', 'alerts', format(CASE WHEN sum(k.n) = 1 THEN '%s alert is not acknowledged: %s' ELSE '%s alerts are not acknowledged: %s' END, sum(k.n),
			string_agg(CASE WHEN k.n = 1 THEN k.kind ELSE k.n || ' ' || k.kind END, ', ' ORDER BY k.kind)),
		'SELECT * FROM dmshook.alerts WHERE NOT acknowledged ORDER BY id; then SELECT dmshook.acknowledge(id) for each.'
	FROM (
		SELECT a.kind, count(*) AS n FROM dmshook.alert a
		WHERE a.acknowledged_at IS NULL AND a.kind NOT IN ('recovered', 'circuit_closed')
			AND NOT EXISTS (SELECT FROM dmshook.alert b WHERE b.webhook = a.webhook AND b.id > a.id
				AND b.kind = CASE a.kind WHEN 'failing' THEN 'recovered' WHEN 'circuit_open' THEN 'circuit_closed' END)
		GROUP BY a.kind) AS k
	HAVING count(*) > 0
$$;
COMMENT ON FUNCTION dmshook._check_alerts IS 'the part of dmshook.check() about failure notifications';

CREATE FUNCTION dmshook._check_webhooks(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w       record;
	waits   bigint;
	stop_at CONSTANT bigint := 10000;
BEGIN
	level := 'warning';
	FOR w IN SELECT h.id, h.name, h.enabled, h.paused, h.disabled_reason, h AS hook, s.failures, s.failing_since, s.last_error, s.last_hint,
			s.circuit_open_since, s.next_probe_at
		FROM dmshook.webhook h LEFT JOIN dmshook.webhook_state s ON s.webhook = h.id WHERE h.dropped_at IS NULL ORDER BY h.name
	LOOP
		subject := w.name;
		IF (SELECT NOT k.there @> k.needed FROM dmshook._secret_kinds(w.id, dmshook._schemes((w.hook).options)) k) THEN
			problem := 'it has no signing secret: was dmshook.webhook_secret left out of a dump?';
			hint := 'Drop it and create it again.';
			RETURN NEXT;
		END IF;
		IF NOT w.enabled AND EXISTS (SELECT FROM dmshook.alert a WHERE a.webhook = w.id AND a.kind = 'disabled' AND a.detail->>'reason' = w.disabled_reason) THEN
			problem := format('it was disabled by itself: %s', w.disabled_reason);
			hint := format('Ask the receiver''s owner; then SELECT * FROM dmshook.test_webhook(%L), and SELECT dmshook.enable_webhook(%L). Events of this time are skipped.', w.name, w.name);
			RETURN NEXT;
		ELSIF w.failing_since IS NOT NULL THEN
			problem := format('every request has failed since %s: %s', date_trunc('second', w.failing_since), coalesce(dmshook._shown_error(w.last_error), 'no error was logged'))
				|| CASE WHEN w.enabled AND NOT w.paused AND w.circuit_open_since IS NOT NULL THEN format('; its circuit is open since %s, and is probed %s',
					dmshook._clock(w.circuit_open_since), CASE WHEN w.next_probe_at > clock_timestamp() THEN 'at ' || dmshook._clock(w.next_probe_at) ELSE 'now' END) ELSE '' END;
			hint := coalesce(w.last_hint, format('SELECT * FROM dmshook.attempts WHERE webhook = %L ORDER BY id DESC LIMIT 10', w.name));
			RETURN NEXT;
		ELSIF w.enabled AND NOT dmshook._proven(w.id) THEN
			problem := 'it is enabled, but no test and no delivery has ever succeeded';
			hint := format('SELECT * FROM dmshook.test_webhook(%L)', w.name);
			RETURN NEXT;
		END IF;
		IF NOT w.enabled OR w.paused THEN
			SELECT count(*) INTO waits FROM (SELECT FROM dmshook.waiting v WHERE v.webhook = w.name LIMIT stop_at) AS v;
			IF waits > 0 THEN
				problem := format('it is %s, and %s', CASE WHEN w.enabled THEN 'paused' ELSE 'disabled' END,
					dmshook._count_words(waits, stop_at, 'event') || CASE WHEN waits = 1 THEN ' waits' ELSE ' wait' END);
				hint := CASE WHEN w.enabled THEN format('SELECT dmshook.resume_webhook(%L), or dmshook.cancel_all(%L)', w.name, w.name)
					ELSE format('SELECT dmshook.enable_webhook(%L), or dmshook.cancel_all(%L)', w.name, w.name) END;
				RETURN NEXT;
			END IF;
		ELSE
			RETURN QUERY SELECT * FROM dmshook._check_backlog(w.hook);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION dmshook._check_webhooks IS 'the part of dmshook.check() about each webhook';

CREATE FUNCTION dmshook.check(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT * FROM dmshook._check_dispatcher();
	RETURN QUERY SELECT * FROM dmshook._check_identity();
	RETURN QUERY SELECT * FROM dmshook._check_publications();
	RETURN QUERY SELECT 'warning'::text, concat_ws(' ', v.relation::text, v.event_type), v.hint, 'SELECT * FROM dmshook.watched shows the rules; call dmshook.watch_...() again to replace them.'::text
		FROM dmshook.watched v WHERE v.hint IS NOT NULL;
	RETURN QUERY SELECT * FROM dmshook._check_vault();
	RETURN QUERY SELECT * FROM dmshook._check_webhooks();
	RETURN QUERY SELECT * FROM dmshook._check_certificates();
	RETURN QUERY SELECT * FROM dmshook._check_alerts();
	RETURN QUERY SELECT * FROM dmshook._check_scrub();
	RETURN QUERY SELECT * FROM dmshook._check_mail();
END
$$;
COMMENT ON FUNCTION dmshook.check IS 'what is not as it should be, and what to do about it; no row when all is well';
