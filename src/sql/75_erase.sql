/*
 * Personal data: what is erased, and by whom.
 *
 * erase() blanks rows in the caller's transaction and leaves two things to the
 * dispatcher: what it holds in memory (a command, src/erase.c), and the
 * bytes of the rows' old versions, which VACUUM takes out of the tables but not out of
 * the files (dmshook.scrub, src/scrub.c).
 *
 * Locks: whoever blanks or removes rows of an event holds the event's row first, and the
 * dispatcher leaves out (SKIP LOCKED) what somebody's open transaction holds.
 */

CREATE SEQUENCE dmshook.scrub_id;
CREATE TABLE dmshook.scrub (
	id    bigint PRIMARY KEY DEFAULT pg_catalog.nextval('dmshook.scrub_id'),
	rel   oid NOT NULL,
	block bigint NOT NULL,
	at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON COLUMN dmshook.scrub.at IS 'when it was tried last';
COMMENT ON TABLE dmshook.scrub IS 'pages of tables that still hold bytes of what was erased; the dispatcher cleans them as soon as no transaction can see it';

-- ANALYZE would keep copies of bodies and errors in pg_statistic
ALTER TABLE dmshook.attempt ALTER response_headers SET STATISTICS 0, ALTER response_body SET STATISTICS 0, ALTER body SET STATISTICS 0,
	ALTER error SET STATISTICS 0, ALTER hint SET STATISTICS 0;
ALTER TABLE dmshook.event ALTER data SET STATISTICS 0, ALTER who SET STATISTICS 0;
ALTER TABLE dmshook.alert ALTER detail SET STATISTICS 0;
ALTER TABLE dmshook.webhook_state ALTER last_error SET STATISTICS 0, ALTER last_hint SET STATISTICS 0;

CREATE FUNCTION dmshook._places(tab regclass, rows tid[], OUT rel oid, OUT block bigint) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'dmshook_sql_places' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._places IS 'pages that rows of a table stand on, with those of their long values';

CREATE FUNCTION dmshook._scrub_page(rel oid, block bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'dmshook_sql_scrub_page' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._scrub_page IS 'take what is dead off a page and zero its free space; false: something dead is there still';

/* What a blanked row was, to be cleaned from its page. */
CREATE FUNCTION dmshook._to_scrub(tab regclass, rows tid[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	INSERT INTO dmshook.scrub (rel, block) SELECT DISTINCT p.rel, p.block FROM dmshook._places(tab, rows) p
$$;
COMMENT ON FUNCTION dmshook._to_scrub IS 'remember pages that are to be cleaned';

/* All pages of a table of which other rows' old versions may hold the same, with those of its long values. */
CREATE FUNCTION dmshook._all_to_scrub(tab regclass) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	INSERT INTO dmshook.scrub (rel, block)
		SELECT r.oid, b FROM (SELECT tab::oid UNION ALL SELECT c.reltoastrelid FROM pg_class c WHERE c.oid = tab AND c.reltoastrelid <> 0) AS r (oid),
			generate_series(0, pg_relation_size(r.oid) / current_setting('block_size')::bigint - 1) AS b
		WHERE NOT EXISTS (SELECT FROM dmshook.scrub s WHERE s.rel = r.oid AND s.block = b)
$$;
COMMENT ON FUNCTION dmshook._all_to_scrub IS 'remember all pages of a table that are to be cleaned';

/* The dispatcher's: some pages. Returns how many are left. */
CREATE FUNCTION dmshook._scrub(most int) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s dmshook.scrub;
	n bigint;
BEGIN
	FOR s IN SELECT * FROM dmshook.scrub t ORDER BY t.at, t.id LIMIT most FOR UPDATE SKIP LOCKED LOOP
		IF dmshook._scrub_page(s.rel, s.block) THEN
			DELETE FROM dmshook.scrub t WHERE t.id = s.id;
		ELSE
			UPDATE dmshook.scrub t SET at = clock_timestamp() WHERE t.id = s.id;	-- after the others
		END IF;
	END LOOP;
	SELECT count(*) INTO n FROM dmshook.scrub;
	RETURN n;
END
$$;
COMMENT ON FUNCTION dmshook._scrub IS 'clean pages of what was erased; returns how many are left';

CREATE FUNCTION dmshook._check_scrub(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'warning', 'erase', format('what was erased since %s is still in the files of the tables (%s)', dmshook._clock(min(s.since)), dmshook._count_words(count(*), count(*) + 1, 'page')),
		'Either no dispatcher runs, or a transaction is open that began before: SELECT pid, usename, xact_start FROM pg_stat_activity WHERE backend_xmin IS NOT NULL ORDER BY xact_start; see pg_prepared_xacts and pg_replication_slots, too.'
	FROM dmshook.scrub s HAVING min(s.since) < clock_timestamp() - interval '1 minute'
$$;
COMMENT ON FUNCTION dmshook._check_scrub IS 'the part of dmshook.check() about what was erased';

/* Does a jsonpath hold for an event? One that fails is an error, for it would leave out what it was to find. */
CREATE FUNCTION dmshook._erase_matches(match text, e dmshook.event) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	found record;
BEGIN
	found := dmshook._filter_verdict(match, e);
	IF found.verdict = 'error' AND found.error NOT LIKE 'the payload cannot be read%' THEN
		RAISE EXCEPTION 'match fails on event % (%)', dmshook._message_id(e.id, e.nonce), e.type USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Nothing was erased. In lax mode, and without conversions such as .double(), a path only fails to match.';
	END IF;
	RETURN found.verdict = 'true';
END
$$;
COMMENT ON FUNCTION dmshook._erase_matches IS 'does a jsonpath hold for an event''s payload? An error where it fails';

/* An event without its data; the row, its key and when it happened stay; who did it, too, unless that is what matches. */
CREATE FUNCTION dmshook._blanked(e dmshook.event, match text) RETURNS dmshook.event
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nameless dmshook.event;
BEGIN
	e.data := format('{"entity":%s,"key":%s}', to_json(e.entity), coalesce(e.data->'key', '{}'))::json;
	IF match IS NOT NULL AND dmshook._erase_matches(match, e) THEN
		nameless := e;
		nameless.who := '{"name":null,"role":null,"application":null}';
		IF NOT dmshook._erase_matches(match, nameless) THEN
			e := nameless;
		END IF;
	END IF;
	RETURN e;
END
$$;
COMMENT ON FUNCTION dmshook._blanked IS 'an event without its data';

CREATE FUNCTION dmshook._erase_events(ids bigint[], match text, scrub boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
	IF scrub THEN
		PERFORM dmshook._to_scrub('dmshook.event', ARRAY(SELECT e.ctid FROM dmshook.event e WHERE e.id = ANY (ids)));
	END IF;
	UPDATE dmshook.event AS e SET (data, who, erased_at) = (SELECT b.data, b.who, clock_timestamp() FROM dmshook._blanked(e, match) AS b)
		WHERE e.id = ANY (ids);
END
$$;
COMMENT ON FUNCTION dmshook._erase_events IS 'blank the data of events';

/*
 * Blank what is logged of events: bodies, responses, and errors that may quote them, wherever these were
 * copied to. rest: some are locked, and are to be done later. failed: webhooks whose last error may be one of them.
 * told: the notices that quoted them, blanked as well.
 */
CREATE FUNCTION dmshook._erase_log(ids bigint[], scrub boolean, OUT payloads bigint, OUT rest boolean, OUT failed int[], OUT told bigint[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	errors text[];
	tids   tid[];
BEGIN
	told := '{}';
	SELECT coalesce(array_agg(DISTINCT a.error), '{}') INTO errors
		FROM dmshook.attempt a WHERE a.event = ANY (ids) AND dmshook._quotes_data(a.error);
	IF errors <> '{}' THEN
		told := ARRAY(SELECT e.id FROM dmshook.event e
			WHERE e.type LIKE 'webhook.%' AND e.erased_at IS NULL AND e.data #>> '{record,error}' = ANY (errors) ORDER BY e.id FOR UPDATE SKIP LOCKED);
		PERFORM dmshook._erase_events(told, NULL, scrub);
		ids := ids || told;
		tids := ARRAY(SELECT a.ctid FROM dmshook.alert a WHERE a.detail->>'error' = ANY (errors) FOR UPDATE SKIP LOCKED);
		IF scrub THEN
			PERFORM dmshook._to_scrub('dmshook.alert', tids);
		END IF;
		UPDATE dmshook.alert a SET detail = a.detail - 'hint' || '{"error": "erased"}' WHERE a.ctid = ANY (tids);
	END IF;

	tids := ARRAY(SELECT a.ctid FROM dmshook.attempt a WHERE a.event = ANY (ids)
		AND (a.response_headers IS NOT NULL OR a.response_body IS NOT NULL OR a.body IS NOT NULL OR dmshook._quotes_data(a.error))
		FOR UPDATE SKIP LOCKED);
	payloads := cardinality(tids);
	IF scrub THEN
		PERFORM dmshook._to_scrub('dmshook.attempt', tids);
	END IF;
	UPDATE dmshook.attempt a SET response_headers = NULL, response_body = NULL, body = NULL,
			error = CASE WHEN dmshook._quotes_data(a.error) THEN 'erased' ELSE a.error END,
			hint = CASE WHEN dmshook._quotes_data(a.error) THEN NULL ELSE a.hint END
		WHERE a.ctid = ANY (tids);
	rest := EXISTS (SELECT FROM dmshook.attempt a WHERE a.event = ANY (ids)
		AND (a.response_headers IS NOT NULL OR a.response_body IS NOT NULL OR a.body IS NOT NULL OR dmshook._quotes_data(a.error)));
	failed := ARRAY(SELECT DISTINCT a.webhook FROM dmshook.attempt a WHERE a.event = ANY (ids) AND a.error = 'erased');
END
$$;
COMMENT ON FUNCTION dmshook._erase_log IS 'blank bodies, responses and errors that are logged of events';

/* The dispatcher's part of erase(): what was logged since, and the states of webhooks, which it alone writes. False: again, later. told: notices that were blanked. */
CREATE FUNCTION dmshook._erase_rest(ids bigint[], OUT done boolean, OUT failed int[], OUT told bigint[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	log     record;
	recent  timestamptz := clock_timestamp() - interval '10 minutes';
	notices bigint[];
	tids    tid[];
BEGIN
	log := dmshook._erase_log(ids, true);
	done := NOT log.rest;
	failed := log.failed;
	told := log.told;
	-- what was told while erase() ran, of errors that it took out of the log or that never come there: it is not known any more which, so all
	IF cardinality(failed) > 0 OR EXISTS (SELECT FROM dmshook.alert a WHERE a.at > recent AND dmshook._quotes_data(a.detail->>'error')) THEN
		notices := ARRAY(SELECT e.id FROM dmshook.event e
			WHERE e.type LIKE 'webhook.%' AND e.erased_at IS NULL AND e.at > recent AND dmshook._quotes_data(e.data #>> '{record,error}') ORDER BY e.id FOR UPDATE SKIP LOCKED);
		PERFORM dmshook._erase_events(notices, NULL, true);
		PERFORM dmshook._erase_log(notices, true);
		told := told || notices;
		tids := ARRAY(SELECT a.ctid FROM dmshook.alert a WHERE a.at > recent AND dmshook._quotes_data(a.detail->>'error') FOR UPDATE SKIP LOCKED);
		PERFORM dmshook._to_scrub('dmshook.alert', tids);
		UPDATE dmshook.alert a SET detail = a.detail - 'hint' || '{"error": "erased"}' WHERE a.ctid = ANY (tids);
	END IF;
	UPDATE dmshook.webhook_state s SET last_error = 'erased', last_hint = NULL WHERE dmshook._quotes_data(s.last_error);
	-- these are updated for other reasons, too: old versions may quote what the new one does not
	PERFORM dmshook._all_to_scrub('dmshook.webhook_state'), dmshook._all_to_scrub('dmshook.alert');
END
$$;
COMMENT ON FUNCTION dmshook._erase_rest IS 'the dispatcher''s part of dmshook.erase()';

/* The body of a test was taken from an event, too. What cannot be judged (a transform made it, or it is no JSON) counts as a match. */
CREATE FUNCTION dmshook._erase_test(body text, options jsonb, entity text, key jsonb, match jsonpath) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b jsonb;
BEGIN
	IF options ? 'transform' OR options->>'numbers' = 'string' THEN
		RETURN true;
	END IF;
	b := body::jsonb;
	RETURN coalesce(b->'data'->>'entity' = entity AND b->'data'->'key' = key, false)
		OR coalesce(jsonb_path_query_first(b, match, silent => true) NOT IN ('false', 'null'), false);
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
	RETURN true;
END
$$;
COMMENT ON FUNCTION dmshook._erase_test IS 'is the body of a test to be erased?';

CREATE FUNCTION dmshook._erase_tests(entity text, key jsonb, match jsonpath) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	tids tid[] := ARRAY(SELECT a.ctid FROM dmshook.attempt a LEFT JOIN dmshook.webhook_version v ON v.id = a.version
		WHERE a.event = 0 AND a.body IS NOT NULL AND dmshook._erase_test(a.body, v.options, entity, key, match) FOR UPDATE OF a);
BEGIN
	PERFORM dmshook._to_scrub('dmshook.attempt', tids);
	UPDATE dmshook.attempt a SET response_headers = NULL, response_body = NULL, body = NULL,
			error = CASE WHEN dmshook._quotes_data(a.error) THEN 'erased' ELSE a.error END,
			hint = CASE WHEN dmshook._quotes_data(a.error) THEN NULL ELSE a.hint END
		WHERE a.ctid = ANY (tids);
	RETURN cardinality(tids);
END
$$;
COMMENT ON FUNCTION dmshook._erase_tests IS 'blank tests that were made from a person''s events';

CREATE FUNCTION dmshook.erase(entity text, key jsonb, match jsonpath = NULL, OUT events bigint, OUT payloads bigint, OUT cancelled bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	ids bigint[];
	log record;
BEGIN
	IF entity IS NULL OR key IS NULL OR jsonb_typeof(key) <> 'object' OR key = '{}' THEN
		RAISE EXCEPTION 'an entity and its key are needed to erase' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Such as: SELECT * FROM dmshook.erase(''customer'', ''{"id": 42}'', ''$.data.record.customer_id == 42''); the keys are those that dmshook.events shows.';
	END IF;
	PERFORM dmshook._check_filter(match::text);
	ids := ARRAY(SELECT e.id FROM dmshook.event e
		WHERE CASE WHEN e.erased_at IS NULL THEN e.entity = entity AND e.key = key OR match IS NOT NULL AND dmshook._erase_matches(match::text, e)
			-- erased for somebody else, by whom this one was there too
			ELSE match IS NOT NULL AND (dmshook._blanked(e, match::text)).who::text <> e.who::text END
		ORDER BY e.id FOR UPDATE);
	events := cardinality(ids);

	-- what waits is judged by its payload: so first of all. The dispatcher looks again where it stands then
	WITH w AS (
		SELECT d.webhook_id, d.sequence FROM dmshook._open d WHERE d.sequence = ANY (ids)
		UNION SELECT d.webhook_id, d.sequence FROM dmshook._ahead d WHERE d.sequence = ANY (ids)
	), ordered AS (
		INSERT INTO dmshook.command (webhook, kind, event) SELECT w.webhook_id, 'cancel', w.sequence FROM w ORDER BY w.sequence, w.webhook_id RETURNING id
	)
	SELECT count(*) INTO cancelled FROM ordered;

	PERFORM dmshook._erase_events(ids, match::text, true);
	log := dmshook._erase_log(ids, true);
	payloads := log.payloads + dmshook._erase_tests(entity, key, match);
	-- notices that quoted them may be under way, too
	INSERT INTO dmshook.command (kind, args) VALUES ('erase', jsonb_build_object('events', to_jsonb(ids || log.told)));
	-- what matched is not said: it may well be a name
	INSERT INTO dmshook.change (what) VALUES (format('erased %s %s%s: %s events, %s payloads; %s cancelled', entity, key,
		CASE WHEN match IS NOT NULL THEN ', and what matched' ELSE '' END, events, payloads, cancelled));
	PERFORM dmshook._wake();
	IF events + payloads = 0 THEN
		RAISE NOTICE 'nothing of % % is in the log', entity, key USING HINT = 'Keys are compared as they are: {"id": "42"} is not {"id": 42}.';
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook.erase IS
	'blank what is known of a person (record, previous, related, payloads, responses): the events of an entity and key, and those for whose payload match (a jsonpath) holds; cancels what waits. The rows stay, with erased_at';

/* The dispatcher's, for dmshook.payload_retention: the next events above "after", as far as every webhook and replay has gone past them. */
CREATE FUNCTION dmshook._blank_old(after bigint, than timestamptz, most int, OUT seen bigint, OUT last bigint, OUT oldest timestamptz)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	ids bigint[];
BEGIN
	SELECT count(*), max(e.id), min(e.at) FILTER (WHERE e.at >= than AND e.erased_at IS NULL) INTO seen, last, oldest
		FROM (SELECT v.id, v.at, v.erased_at FROM dmshook.event v
			WHERE v.id > after AND v.id <= (SELECT min(p.low) FROM dmshook.position p) ORDER BY v.id LIMIT most) AS e;
	ids := ARRAY(SELECT e.id FROM dmshook.event e
		WHERE e.id > after AND e.id <= last AND e.at < than AND e.erased_at IS NULL
			AND NOT EXISTS (SELECT FROM dmshook.queue q WHERE q.event = e.id)
			AND NOT EXISTS (SELECT FROM dmshook.attempt a WHERE a.event = e.id AND a.at >= than)
		ORDER BY e.id FOR UPDATE SKIP LOCKED);
	IF ids <> '{}' THEN
		PERFORM dmshook._erase_events(ids, NULL, false);
		PERFORM dmshook._erase_log(ids, false);
	END IF;
	IF after = 0 THEN
		UPDATE dmshook.attempt a SET response_headers = NULL, response_body = NULL, body = NULL
			WHERE a.ctid = ANY (ARRAY(SELECT t.ctid FROM dmshook.attempt t WHERE t.event = 0 AND t.at < than
				AND (t.response_headers IS NOT NULL OR t.response_body IS NOT NULL OR t.body IS NOT NULL) LIMIT most FOR UPDATE SKIP LOCKED));
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._blank_old IS 'blank events and what was logged of them that are older than a time';
