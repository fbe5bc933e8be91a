/*
 * Webhooks: making, changing, enabling, testing and dropping them.
 *
 * Each of these functions locks the webhook's row, changes it, and appends:
 * a webhook_version where requests will look otherwise from now on, a
 * subscription version where other events will be sent, a change, and a
 * command that makes the dispatcher read the configuration again.  Nothing
 * that the dispatcher writes is touched here.
 */

/* What only C can do, src/sqlapi.c. */
CREATE FUNCTION dmshook._check_url(url text) RETURNS void
	AS 'MODULE_PATHNAME', 'dmshook_sql_check_url' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._check_url IS 'raise an error with a hint unless a webhook may have this URL';

CREATE FUNCTION dmshook._matches(patterns text[], event_type text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'dmshook_sql_matches' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION dmshook._matches IS 'does a webhook with these events get this type?';

CREATE FUNCTION dmshook._pattern_valid(pattern text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'dmshook_sql_pattern_valid' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._pattern_valid IS 'is it an event type or a pattern of event types?';

CREATE FUNCTION dmshook._distance(a text, b text, "limit" int) RETURNS int
	AS 'MODULE_PATHNAME', 'dmshook_sql_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._distance IS 'edit distance of two names; more than the limit: limit + 1';

CREATE FUNCTION dmshook._check_options(options jsonb) RETURNS void
	AS 'MODULE_PATHNAME', 'dmshook_sql_check_options' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._check_options IS 'raise an error with a hint unless these are options of a webhook';

CREATE FUNCTION dmshook._check_auth(auth jsonb) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_check_auth' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._check_auth IS 'kind of authentication; an error with a hint when it is malformed';

CREATE FUNCTION dmshook._auth_files(auth jsonb, caller text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'dmshook_sql_auth_files' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._auth_files IS 'auth with the content of the files that it names; the role must be allowed to read the server''s files';

CREATE FUNCTION dmshook._auth_expiry(auth jsonb) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'dmshook_sql_auth_expiry' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._auth_expiry IS 'when the client certificate of auth ends; NULL: there is none';

CREATE FUNCTION dmshook._url_origin(url text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_url_origin' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION dmshook._url_origin IS 'scheme, host and port of a URL, in one spelling';

CREATE FUNCTION dmshook._check_headers(headers jsonb, auth jsonb) RETURNS void
	AS 'MODULE_PATHNAME', 'dmshook_sql_check_headers' LANGUAGE C STABLE;
COMMENT ON FUNCTION dmshook._check_headers IS 'raise an error with a hint unless these are headers of a webhook with this auth';

CREATE FUNCTION dmshook._retry_delays(options jsonb, OUT attempt int, OUT delay_ms bigint) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'dmshook_sql_retry_delays' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._retry_delays IS 'attempts that a webhook with these options makes, and the pause before each';

CREATE FUNCTION dmshook._timeout(options jsonb) RETURNS int
	AS 'MODULE_PATHNAME', 'dmshook_sql_timeout' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._timeout IS 'timeout of one request in milliseconds';

CREATE FUNCTION dmshook._preloaded() RETURNS boolean
	AS 'MODULE_PATHNAME', 'dmshook_sql_preloaded' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._preloaded IS 'is dmshook in shared_preload_libraries?';

CREATE FUNCTION dmshook._version() RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_version' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dmshook._version IS 'version of the library';

CREATE FUNCTION dmshook._wake() RETURNS void
	AS 'MODULE_PATHNAME', 'dmshook_sql_wake' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._wake IS 'wake the dispatcher when this transaction commits';

CREATE FUNCTION dmshook._slots(OUT database oid, OUT pid int, OUT state text, OUT since timestamptz, OUT events_per_s float8,
	OUT deliveries_per_s float8, OUT in_flight int, OUT waiting int, OUT high bigint, OUT low bigint, OUT gaps bigint,
	OUT oldest_gap timestamptz, OUT gap_fence xid8, OUT last_error text) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'dmshook_sql_slots' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._slots IS 'dispatchers of all databases, from shared memory';

CREATE FUNCTION dmshook._is_own(writer xid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'dmshook_sql_is_own' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._is_own IS 'was a row with this xmin written by the current transaction?';

CREATE FUNCTION dmshook._test(webhook int, event bigint, nonce bigint, type text, timeout_ms int, OUT result text, OUT attempt bigint)
	AS 'MODULE_PATHNAME', 'dmshook_sql_test' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._test IS 'ask the dispatcher to send one request now, and wait for it';

CREATE FUNCTION dmshook._attempt_row(webhook int, id bigint) RETURNS dmshook.attempt
	AS 'MODULE_PATHNAME', 'dmshook_sql_attempt_row' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._attempt_row IS 'row of an attempt as of now, whatever the transaction''s snapshot';

CREATE FUNCTION dmshook._identity(OUT system_identifier bigint, OUT database oid, OUT major int)
	AS 'MODULE_PATHNAME', 'dmshook_sql_identity' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._identity IS 'what tells this database from a copy of it';

/* ------------------------------------------------------------------------
 * Helpers
 * ------------------------------------------------------------------------ */

CREATE FUNCTION dmshook._nearest(given text, candidates text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT c
	FROM unnest(candidates) AS c, LATERAL (SELECT greatest(2, length(given) / 3) AS far) AS f,
		LATERAL (SELECT dmshook._distance(lower(given), lower(c), far) AS distance) AS d
	WHERE distance <= far AND distance < length(given)
	ORDER BY distance, c
	LIMIT 1
$$;
COMMENT ON FUNCTION dmshook._nearest IS 'the name that was probably meant, or NULL';

/* FOR UPDATE also where nothing of the row changes: what is appended is appended in turn. */
CREATE FUNCTION dmshook._webhook(webhook_name text, lock boolean = true) RETURNS dmshook.webhook
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w    dmshook.webhook;
	near text;
BEGIN
	IF lock THEN
		SELECT * INTO w FROM dmshook.webhook WHERE name = webhook_name AND dropped_at IS NULL FOR UPDATE;
	ELSE
		SELECT * INTO w FROM dmshook.webhook WHERE name = webhook_name AND dropped_at IS NULL;
	END IF;
	IF FOUND THEN
		RETURN w;
	END IF;
	IF webhook_name IS NULL THEN
		RAISE EXCEPTION 'no webhook is named' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'SELECT name FROM dmshook.webhooks shows those there are.';
	END IF;
	near := dmshook._nearest(webhook_name, ARRAY(SELECT name FROM dmshook.webhook WHERE dropped_at IS NULL));
	RAISE EXCEPTION 'webhook "%" does not exist', webhook_name USING ERRCODE = 'undefined_object',
		HINT = CASE WHEN near IS NOT NULL THEN format('Did you mean "%s"?', near)
			WHEN EXISTS (SELECT FROM dmshook.webhook WHERE name = webhook_name) THEN 'It was dropped; create it again with dmshook.create_webhook().'
			ELSE 'SELECT name FROM dmshook.webhooks shows those there are.' END;
END
$$;
COMMENT ON FUNCTION dmshook._webhook IS 'a webhook by its name; an error with the nearest name when there is none';

CREATE FUNCTION dmshook._check_name(webhook_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF coalesce(webhook_name, '') = '' OR length(webhook_name) > 100 OR webhook_name <> btrim(webhook_name)
		OR webhook_name COLLATE "C" ~ '[\x01-\x1f\x7f]' THEN	-- [:cntrl:] takes quotes of WIN1252 for control characters
		RAISE EXCEPTION 'invalid name of a webhook' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'A name has 1 to 100 characters, no control characters, and no space at its begin or end.';
	END IF;
	IF EXISTS (SELECT FROM dmshook.webhook WHERE name = webhook_name AND dropped_at IS NULL) THEN
		RAISE EXCEPTION 'webhook "%" already exists', webhook_name USING ERRCODE = 'duplicate_object',
			HINT = 'Choose another name, or change that one with dmshook.alter_webhook().';
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._check_name IS 'raise an error with a hint unless a webhook may get this name';

CREATE FUNCTION dmshook._check_events(events text[]) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	p    text;
	near text;
BEGIN
	IF coalesce(cardinality(events), 0) = 0 THEN
		RAISE EXCEPTION 'no events are named' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Name event types and patterns, such as ''{vehicle.sold, deal.*}'', or ''{*}'' for all.';
	END IF;
	FOREACH p IN ARRAY events LOOP
		IF p IS NULL OR NOT dmshook._pattern_valid(p) THEN
			RAISE EXCEPTION 'invalid event type or pattern "%"', coalesce(p, 'NULL') USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Types are such as vehicle.sold; patterns are vehicle.* and *.';
		END IF;
		CONTINUE WHEN EXISTS (SELECT FROM dmshook.event_type t WHERE dmshook._matches(ARRAY[p], t.name));
		IF p LIKE '%*' THEN
			near := dmshook._nearest(p, ARRAY(SELECT DISTINCT entity || '.*' FROM dmshook.event_type));
			RAISE EXCEPTION 'no event type matches "%"', p USING ERRCODE = 'undefined_object',
				HINT = CASE WHEN near IS NOT NULL THEN format('Did you mean "%s"?', near)
					ELSE 'SELECT name FROM dmshook.event_types shows those there are; dmshook.define_event_type() adds one.' END;
		END IF;
		near := dmshook._nearest(p, ARRAY(SELECT name FROM dmshook.event_type));
		RAISE EXCEPTION 'unknown event type "%"', p USING ERRCODE = 'undefined_object',
			HINT = CASE WHEN near IS NOT NULL THEN format('Did you mean "%s"?', near)
				ELSE 'SELECT name FROM dmshook.event_types shows those there are; dmshook.define_event_type() adds one.' END;
	END LOOP;
	RETURN events;
END
$$;
COMMENT ON FUNCTION dmshook._check_events IS 'the events, when there are such; an error with the nearest ones when not';

CREATE FUNCTION dmshook._check_method(method text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF upper(method) IN ('POST', 'PUT', 'PATCH', 'GET', 'DELETE') THEN
		RETURN upper(method);
	END IF;
	RAISE EXCEPTION 'unknown method "%"', coalesce(method, 'NULL') USING ERRCODE = 'invalid_parameter_value',
		HINT = 'There are: POST, PUT, PATCH, GET, DELETE.';
END
$$;
COMMENT ON FUNCTION dmshook._check_method IS 'the method in upper case; an error with a hint when there is none such';

/* What only methods with a body can have. */
CREATE FUNCTION dmshook._check_body(method text, options jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF method IN ('GET', 'DELETE') AND options->>'transform' IS NOT NULL THEN
		RAISE EXCEPTION 'a % request has no body that a transform could make', method USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use POST, PUT or PATCH; or remove the transform: options => ''{"transform": null}''.';
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._check_body IS 'raise an error with a hint where options need a body, and the method has none';

CREATE FUNCTION dmshook._check_filter(filter text) RETURNS void
	AS 'MODULE_PATHNAME', 'dmshook_sql_check_filter' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._check_filter IS 'raise an error with a hint unless it is a jsonpath with a condition';

/* The latest events that a webhook would get are shown to its filter: at most 50, of the last 10,000, for at most a second. */
CREATE FUNCTION dmshook._try_filter(filter text, events text[], tenant text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	e       dmshook.event;
	found   record;
	begun   timestamptz;
	started timestamptz := clock_timestamp();
	n       int := 0;
	yes     int := 0;
	unknown int := 0;
BEGIN
	IF coalesce(filter, '') = '' THEN
		RETURN '';
	END IF;
	PERFORM dmshook._check_filter(filter);
	FOR e IN
		SELECT v.* FROM dmshook.event v
		WHERE v.id > dmshook._last_event_id() - 10000 AND v.erased_at IS NULL AND dmshook._matches(events, v.type)
			AND (nullif(tenant, '') IS NULL OR tenant IN (v.tenant, v.old_tenant))
		ORDER BY v.id DESC LIMIT 50
	LOOP
		begun := clock_timestamp();
		found := dmshook._filter_verdict(filter, e);
		CONTINUE WHEN found.error LIKE 'the payload cannot be read%';	-- no filter's fault
		IF found.verdict = 'error' THEN
			RAISE EXCEPTION 'the filter fails on event % (%): %', dmshook._message_id(e.id, e.nonce), e.type, found.error
				USING ERRCODE = 'invalid_parameter_value', HINT = format('SELECT * FROM dmshook.events WHERE message_id = %L shows it.', dmshook._message_id(e.id, e.nonce));
		ELSIF clock_timestamp() > begun + interval '100 ms' THEN
			RAISE EXCEPTION 'the filter took % ms on event % (%)', round(extract(epoch FROM clock_timestamp() - begun) * 1000), dmshook._message_id(e.id, e.nonce), e.type
				USING ERRCODE = 'query_canceled', HINT = 'It may take 100 ms: look at fewer members (no .**), and at shorter patterns.';
		END IF;
		n := n + 1;
		yes := yes + (found.verdict = 'true')::int;
		unknown := unknown + (found.verdict = 'unknown')::int;
		EXIT WHEN clock_timestamp() > started + interval '1 second';
	END LOOP;
	RETURN CASE WHEN n = 0 THEN ' No such event was in the log to try the filter on.'
		WHEN yes = 0 THEN format(' The filter holds for none of the last %s%s', CASE WHEN n = 1 THEN 'such event' ELSE n || ' such events' END,
			CASE WHEN unknown > 0 THEN ': is a value of another type?' ELSE ': is a name misspelt?' END)
		ELSE format(' The filter holds for %s of the last %s.', yes, CASE WHEN n = 1 THEN 'such event' ELSE n || ' such events' END) END;
END
$$;
COMMENT ON FUNCTION dmshook._try_filter IS 'what a filter says of recent events, as a sentence; an error with a hint where it fails';

/* The function's name with its schema and argument, as it is kept; it is called as the role that set it last. */
CREATE FUNCTION dmshook._check_transform(name text, role text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	f oid := coalesce(to_regprocedure(CASE WHEN name LIKE '%(%)' THEN name END)::oid, to_regprocedure(CASE WHEN name NOT LIKE '%(%' THEN name || '(jsonb)' END)::oid);
	p pg_proc;
BEGIN
	SELECT * INTO p FROM pg_proc WHERE oid = f;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no function "%" that takes jsonb', name USING ERRCODE = 'undefined_function',
			HINT = 'Name it with its schema, such as "public.for_accounting"; it takes the payload as jsonb and returns the body as jsonb or text.';
	ELSIF p.prokind <> 'f' OR p.proretset OR p.pronargs <> 1 OR p.proargtypes[0] <> 'jsonb'::regtype OR p.prorettype NOT IN ('jsonb'::regtype, 'text'::regtype) THEN
		RAISE EXCEPTION 'function % cannot be a transform', f::regprocedure USING ERRCODE = 'invalid_function_definition',
			HINT = 'It must take one argument of type jsonb and return one value of type jsonb or text.';
	ELSIF NOT has_function_privilege(role, f, 'EXECUTE') THEN
		RAISE EXCEPTION 'permission denied for function %', f::regprocedure USING ERRCODE = 'insufficient_privilege',
			HINT = format('It is called as role %I: GRANT EXECUTE ON FUNCTION %s TO %I.', role, f::regprocedure, role);
	ELSIF NOT p.prosecdef AND NOT pg_has_role(p.proowner, role, 'USAGE') THEN
		RAISE EXCEPTION 'function % belongs to role "%", who could do as role "%" with it', f::regprocedure, pg_get_userbyid(p.proowner), role
			USING ERRCODE = 'insufficient_privilege',
			HINT = format('It is called as the role that sets it, and its owner can put anything into it: SET ROLE %I first, or ALTER FUNCTION %s OWNER TO %I.',
				pg_get_userbyid(p.proowner), f::regprocedure, role);
	END IF;
	RETURN f::regprocedure::text;
END
$$;
COMMENT ON FUNCTION dmshook._check_transform IS 'the function''s full name; an error with a hint unless it can be a transform';

CREATE FUNCTION dmshook._has_body(method text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN method OPERATOR(pg_catalog.=) ANY (ARRAY['POST'::text, 'PUT', 'PATCH']);
COMMENT ON FUNCTION dmshook._has_body IS 'does a request with this method carry a body?';

/* Where the library was not preloaded, all works but the sending. */
CREATE FUNCTION dmshook._warn_not_preloaded() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT dmshook._preloaded() THEN
		RAISE WARNING 'dmshook is not preloaded: events are kept, but nothing is sent'
			USING HINT = format('Put this line into postgresql.conf and restart the server: shared_preload_libraries = ''%s''',
				concat_ws(', ', nullif(current_setting('shared_preload_libraries'), ''), 'dmshook'));
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._warn_not_preloaded IS 'a WARNING with the line for postgresql.conf, where the library is not preloaded';

CREATE FUNCTION dmshook._last_event_id() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM dmshook.event_id
$$;
COMMENT ON FUNCTION dmshook._last_event_id IS 'the highest event id given out so far';

/* A version of what requests look like: header values masked, what auth adds too. */
CREATE FUNCTION dmshook._write_version(webhook_id int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	w       dmshook.webhook;
	auth    jsonb;
	v       int := nextval('dmshook.version_id');
	headers jsonb;
BEGIN
	SELECT * INTO STRICT w FROM dmshook.webhook WHERE id = webhook_id;
	auth := dmshook._secret(webhook_id, 'auth', unreadable => '{"header": "(unreadable)"}')::jsonb;
	headers := coalesce((SELECT jsonb_object_agg(lower(n), '***') FROM unnest(w.header_names) AS n), '{}')
		|| CASE w.auth_kind
			WHEN 'basic' THEN '{"authorization": "Basic ***"}'
			WHEN 'bearer' THEN '{"authorization": "Bearer ***"}'
			WHEN 'oauth2' THEN '{"authorization": "Bearer ***"}'
			WHEN 'api_key' THEN jsonb_build_object(lower(auth->>'header'), '***')
			ELSE '{}' END::jsonb;
	INSERT INTO dmshook.webhook_version (id, webhook, name, url, method, auth_kind, headers, options)
		VALUES (v, w.id, w.name, w.url, w.method, w.auth_kind, headers, w.options);
	UPDATE dmshook.webhook SET version = v, changed_at = clock_timestamp() WHERE id = webhook_id;
END
$$;
COMMENT ON FUNCTION dmshook._write_version IS 'append what a webhook''s requests look like from now on';

/*
 * Events above the last id of now are judged by the webhook as it now is. By the time
 * this commits the dispatcher may be beyond that id: the command tells it from where
 * to judge again (command.c).
 */
CREATE FUNCTION dmshook._write_subscription(webhook_id int) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	WITH version AS (
		INSERT INTO dmshook.subscription (webhook, from_id, events, tenant, filter, enabled)
		SELECT w.id, dmshook._last_event_id() + 1, w.events, w.tenant, w.filter, w.enabled AND w.dropped_at IS NULL
		FROM dmshook.webhook w WHERE w.id = webhook_id
		RETURNING webhook, from_id)
	INSERT INTO dmshook.command (webhook, kind, upto) SELECT webhook, 'reload', from_id FROM version
$$;
COMMENT ON FUNCTION dmshook._write_subscription IS 'append what a webhook subscribes to from now on';

CREATE FUNCTION dmshook._changed(webhook_id int, webhook_name text, what text, command text = 'reload') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO dmshook.command (webhook, kind) VALUES (webhook_id, command);
	INSERT INTO dmshook.change (webhook, what) VALUES (webhook_name, what);
	PERFORM dmshook._wake();
END
$$;
COMMENT ON FUNCTION dmshook._changed IS 'tell the dispatcher and dmshook.changes of a change of a webhook';

/* Options for dmshook.changes and dmshook.webhooks: a certificate is no secret, but long. */
CREATE FUNCTION dmshook._show_options(options jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN options->>'ca_certificate' IS NOT NULL THEN options || '{"ca_certificate": "(PEM)"}' ELSE options END
$$;
COMMENT ON FUNCTION dmshook._show_options IS 'options with a certificate cut short';

CREATE FUNCTION dmshook._ca_expires(pem text) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'dmshook_sql_ca_expires' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION dmshook._ca_expires IS 'when the first of these certificates ends; NULL: they are none';

CREATE FUNCTION dmshook._ca_hint(options jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce((SELECT format(' Its ca_certificate (or one of them) %s at %s (UTC): ask the receiver''s owner for the new one.',
			CASE WHEN e.at <= clock_timestamp() THEN 'expired' ELSE 'expires' END, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'))
		FROM (SELECT dmshook._ca_expires(options->>'ca_certificate')) AS e (at) WHERE e.at <= clock_timestamp() + interval '14 days'), '')
$$;
COMMENT ON FUNCTION dmshook._ca_hint IS 'what to know about authorities that have expired, or will within 14 days';

CREATE FUNCTION dmshook._method_hint(method text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN method IN ('GET', 'DELETE') THEN
		format(' A %s request has no body: id, type, timestamp, sequence, entity and key go in the query string, and the signature covers an empty body.', method)
		ELSE '' END
$$;
COMMENT ON FUNCTION dmshook._method_hint IS 'what to know about methods without a body';

/* What keeps a claimed, enabled webhook's requests from leaving, in a sentence; '' when nothing does. */
CREATE FUNCTION dmshook._unsent_hint() RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT dmshook._identity_matches() THEN
		RETURN ' This database is not claimed (it is a copy): nothing is sent until a superuser calls dmshook.claim_database().';
	ELSIF dmshook._preloaded() AND current_setting('dmshook.dispatchers') = '0' THEN
		RETURN ' dmshook.dispatchers is 0: nothing is sent.';
	END IF;
	RETURN '';
END
$$;
COMMENT ON FUNCTION dmshook._unsent_hint IS 'why nothing is sent at all, for hints';

/* ------------------------------------------------------------------------
 * Life of a webhook
 * ------------------------------------------------------------------------ */

CREATE FUNCTION dmshook._create_webhook(name text, url text, events text[], method text, auth jsonb,
	headers jsonb, filter text, tenant text, secret text, enabled boolean,
	options jsonb, OUT webhook text, OUT signing_secret text, OUT hint text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
	caller CONSTANT text := dmshook._noted_caller();	-- first of all
	kind text;
	id   int;
	opts jsonb;
	hdrs jsonb := coalesce(headers, '{}');
	said text;
	schemes text[];
	given text;			-- kind of the secret
	made text[];		-- kinds of the others
BEGIN
	PERFORM dmshook._check_name(_create_webhook.name);
	IF url IS NULL THEN
		RAISE EXCEPTION 'a webhook needs a URL' USING ERRCODE = 'null_value_not_allowed', HINT = 'Such as https://example.com/hooks/dms.';
	END IF;
	PERFORM dmshook._check_url(url);
	events := dmshook._check_events(events);
	method := dmshook._check_method(method);
	auth := dmshook._auth_files(coalesce(auth, '{"kind": "none"}'), caller);
	kind := dmshook._check_auth(auth);
	PERFORM dmshook._check_headers(hdrs, auth);
	said := dmshook._try_filter(filter, events, tenant);
	PERFORM dmshook._check_options(coalesce(options, '{}'));
	opts := (SELECT coalesce(jsonb_object_agg(o.key, o.value), '{}') FROM jsonb_each(coalesce(options, '{}')) o WHERE o.value <> 'null' OR o.key = 'breaker');
	PERFORM dmshook._check_body(method, opts);
	IF opts ? 'transform' THEN
		opts := opts || jsonb_build_object('transform', dmshook._check_transform(opts->>'transform', caller));
	END IF;
	PERFORM dmshook._check_signature_headers(opts, ARRAY(SELECT k FROM jsonb_object_keys(hdrs) k), auth);
	schemes := dmshook._schemes(opts);
	IF secret IS NOT NULL THEN
		given := dmshook._check_secret(secret, schemes, NOT schemes @> '{standard}' AND schemes @> '{github}');
	END IF;

	PERFORM dmshook._warn_not_preloaded();
	PERFORM dmshook._claim_if_new();
	BEGIN
		INSERT INTO dmshook.webhook AS w (name, url, method, events, tenant, filter, auth_kind, header_names, options, transform_role, certificate_expires_at, enabled, version, owner)
			VALUES (_create_webhook.name, url, method, events, nullif(tenant, ''), nullif(filter, ''), kind,
				ARRAY(SELECT k FROM jsonb_object_keys(hdrs) k), opts, CASE WHEN opts ? 'transform' THEN caller END, dmshook._auth_expiry(auth), coalesce(enabled, false), 0, dmshook._caller())
			RETURNING w.id INTO id;
	EXCEPTION WHEN unique_violation THEN	-- somebody made it just now
		RAISE EXCEPTION 'webhook "%" already exists', _create_webhook.name USING ERRCODE = 'duplicate_object',
			HINT = 'Choose another name, or change that one with dmshook.alter_webhook().';
	END;
	IF secret IS NOT NULL THEN
		PERFORM dmshook._put_secret(id, given, secret);
	END IF;
	made := dmshook._fit_secrets(id);
	PERFORM dmshook._put_secret(id, 'auth', CASE WHEN kind <> 'none' THEN auth::text END);
	PERFORM dmshook._put_secret(id, 'headers', CASE WHEN hdrs <> '{}' THEN hdrs::text END);
	PERFORM dmshook._write_version(id);
	PERFORM dmshook._write_subscription(id);
	PERFORM dmshook._changed(id, _create_webhook.name, format('created: %s %s, events %s%s%s, auth %s%s%s%s', method, url,
		array_to_string(events, ', '), ', tenant ' || nullif(tenant, ''), ', filter ' || nullif(filter, ''), kind,
		(SELECT ', headers ' || string_agg(k, ', ') FROM jsonb_object_keys(hdrs) k),
		CASE WHEN opts <> '{}' THEN ', options ' || dmshook._show_options(opts)::text END,
		CASE WHEN enabled THEN ', enabled' ELSE ', not enabled' END));

	webhook := _create_webhook.name;
	signing_secret := coalesce(secret, dmshook._shown_secret(id, dmshook._main_scheme(schemes)));
	hint := CASE WHEN enabled THEN
			format('Events that commit from now on are sent. Test it: SELECT * FROM dmshook.test_webhook(%1$L).', webhook)
		ELSE
			dmshook._receiver_hint(id) || format(' Test it: SELECT * FROM dmshook.test_webhook(%1$L); then SELECT dmshook.enable_webhook(%1$L).', webhook)
		END || CASE WHEN secret IS NOT NULL THEN dmshook._made_hint(id, webhook, made) ELSE '' END || said || dmshook._method_hint(method) || dmshook._ca_hint(opts) || dmshook._unsent_hint();
END
$$;
COMMENT ON FUNCTION dmshook._create_webhook IS 'dmshook.create_webhook() behind the door where the caller is noted';

CREATE FUNCTION dmshook.create_webhook(name text, url text, events text[], method text = 'POST', auth jsonb = NULL,
	headers jsonb = '{}', filter text = NULL, tenant text = NULL, secret text = NULL, enabled boolean = false,
	options jsonb = '{}', OUT webhook text, OUT signing_secret text, OUT hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
	PERFORM dmshook._note_caller();
	SELECT c.webhook, c.signing_secret, c.hint INTO create_webhook.webhook, create_webhook.signing_secret, create_webhook.hint
		FROM dmshook._create_webhook(name, url, events, method, auth, headers, filter, tenant, secret, enabled, options) AS c;
END
$$;
COMMENT ON FUNCTION dmshook.create_webhook IS 'make a webhook; shows its signing secret once. Then test it, then enable it';

/*
 * Credentials are one receiver's. Who may alter a webhook is not to learn them by pointing
 * it at a host of their own, nor to send them elsewhere by mistake: for another host, port or scheme they are given again.
 */
CREATE FUNCTION dmshook._check_move(w dmshook.webhook, new_url text, auth_given boolean, headers_given boolean) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	to_auth    boolean := w.auth_kind <> 'none' AND NOT auth_given;
	to_headers boolean := w.header_names <> '{}' AND NOT headers_given;
BEGIN
	IF dmshook._url_origin(new_url) IS NOT DISTINCT FROM dmshook._url_origin(w.url) OR NOT (to_auth OR to_headers) THEN
		RETURN;
	END IF;
	RAISE EXCEPTION 'the new URL leads to another receiver, and the % of webhook "%" would go there',
			CASE WHEN to_auth AND to_headers THEN 'credentials and headers' WHEN to_auth THEN 'credentials' ELSE 'headers' END, w.name
		USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('It was %s, and would be %s.', dmshook._url_origin(w.url), dmshook._url_origin(new_url)),
			HINT = format('Give them again in the same call: %s.', concat_ws(', ',
				CASE WHEN to_auth THEN 'auth => ''{...}'' (or ''{"kind": "none"}'' for none)' END,
				CASE WHEN to_headers THEN 'headers => ''{...}'' (or ''{}'' for none)' END));
END
$$;
COMMENT ON FUNCTION dmshook._check_move IS 'raise an error with a hint where a new URL would take credentials to another host';

CREATE FUNCTION dmshook._alter_webhook(name text, url text, events text[], method text, auth jsonb,
	headers jsonb, filter text, tenant text, options jsonb, new_name text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
	caller   CONSTANT text := dmshook._noted_caller();	-- first of all
	w        dmshook.webhook := dmshook._webhook(_alter_webhook.name);
	n        dmshook.webhook := w;			-- as it will be
	old_auth jsonb;
	old_hdrs jsonb;
	new_auth jsonb;
	new_hdrs jsonb;
	what     text[] := '{}';
	said     text := '';
	unreadable CONSTANT jsonb := '{"": ""}';
	made     text[] := '{}';			-- kinds of signing secrets
BEGIN
	-- what cannot be decrypted (its key is lost) is none that anybody may give, so that anything replaces it
	old_auth := coalesce(dmshook._secret(w.id, 'auth', unreadable => '{"kind": "none", "unreadable": true}'), '{"kind": "none"}');
	old_hdrs := coalesce(dmshook._secret(w.id, 'headers', unreadable => unreadable::text), '{}');
	new_auth := old_auth;
	new_hdrs := old_hdrs;

	IF new_name IS DISTINCT FROM w.name AND new_name IS NOT NULL THEN
		PERFORM dmshook._check_name(new_name);
		n.name := new_name;
		what := what || format('renamed from "%s"', w.name);
	END IF;
	IF url IS NOT NULL THEN
		PERFORM dmshook._check_url(url);
		n.url := url;
		what := what || CASE WHEN url <> w.url THEN format('url %s (was %s)', url, w.url) END;
	END IF;
	IF events IS NOT NULL THEN
		n.events := dmshook._check_events(events);
		what := what || CASE WHEN events <> w.events THEN
			format('events %s (were %s)', array_to_string(events, ', '), array_to_string(w.events, ', ')) END;
	END IF;
	IF method IS NOT NULL THEN
		n.method := dmshook._check_method(method);
		what := what || CASE WHEN n.method <> w.method THEN format('method %s (was %s)', n.method, w.method) END;
	END IF;
	IF filter IS NOT NULL THEN
		n.filter := nullif(filter, '');
		what := what || CASE WHEN n.filter IS DISTINCT FROM w.filter THEN
			format('filter %s (was %s)', coalesce(n.filter, 'none'), coalesce(w.filter, 'none')) END;
	END IF;
	IF tenant IS NOT NULL THEN
		n.tenant := nullif(tenant, '');
		what := what || CASE WHEN n.tenant IS DISTINCT FROM w.tenant THEN
			format('tenant %s (was %s)', coalesce(n.tenant, 'any'), coalesce(w.tenant, 'any')) END;
	END IF;
	IF (n.filter, n.events, n.tenant) IS DISTINCT FROM (w.filter, w.events, w.tenant) THEN
		said := dmshook._try_filter(n.filter, n.events, n.tenant);
	END IF;
	IF auth IS NOT NULL THEN
		new_auth := dmshook._auth_files(auth, caller);
		n.auth_kind := dmshook._check_auth(new_auth);
		n.certificate_expires_at := dmshook._auth_expiry(new_auth);
		what := what || CASE WHEN new_auth <> old_auth THEN format('auth %s (was %s)', n.auth_kind, w.auth_kind) END;
	END IF;
	IF headers IS NOT NULL THEN
		new_hdrs := headers;
	END IF;
	PERFORM dmshook._check_headers(CASE WHEN new_hdrs <> unreadable THEN new_hdrs END, new_auth);
	PERFORM dmshook._check_move(w, n.url, auth IS NOT NULL, headers IS NOT NULL);
	IF new_hdrs <> old_hdrs THEN
		n.header_names := ARRAY(SELECT k FROM jsonb_object_keys(new_hdrs) k);
		what := what || ('headers ' || coalesce(nullif(array_to_string(n.header_names, ', '), ''), 'removed'));
	END IF;
	IF options IS NOT NULL THEN
		PERFORM dmshook._check_options(options);
		n.options := (SELECT coalesce(jsonb_object_agg(o.key, o.value), '{}') FROM jsonb_each(w.options || options) o WHERE o.value <> 'null' OR o.key = 'breaker');
		IF options->>'transform' IS NOT NULL THEN
			n.options := n.options || jsonb_build_object('transform', dmshook._check_transform(options->>'transform', caller));
			n.transform_role := caller;
		ELSIF options ? 'transform' THEN
			n.transform_role := NULL;
		END IF;
		PERFORM dmshook._check_options(n.options);	-- what fits alone may not fit together
		what := what || CASE WHEN n.options <> w.options THEN format('options %s', dmshook._show_options(options)) END
			|| CASE WHEN n.transform_role <> w.transform_role THEN format('transform is called as role %s (was %s)', n.transform_role, w.transform_role) END;
	END IF;

	PERFORM dmshook._check_signature_headers(n.options, n.header_names, new_auth);

	PERFORM dmshook._check_body(n.method, n.options);
	what := array_remove(what, NULL);
	IF what = '{}' THEN
		RETURN format('Nothing has changed: webhook "%s" was so already.', w.name);
	END IF;
	BEGIN
		UPDATE dmshook.webhook t SET name = n.name, url = n.url, method = n.method, events = n.events, tenant = n.tenant, filter = n.filter,
			auth_kind = n.auth_kind, header_names = n.header_names, options = n.options, transform_role = n.transform_role, certificate_expires_at = n.certificate_expires_at, changed_at = clock_timestamp(),
			secret_changed_at = CASE WHEN new_auth <> old_auth THEN clock_timestamp() ELSE t.secret_changed_at END
			WHERE t.id = w.id;
	EXCEPTION WHEN unique_violation THEN
		RAISE EXCEPTION 'webhook "%" already exists', n.name USING ERRCODE = 'duplicate_object', HINT = 'Choose another name.';
	END;
	IF new_auth <> old_auth THEN
		PERFORM dmshook._put_secret(w.id, 'auth', CASE WHEN n.auth_kind <> 'none' THEN new_auth::text END);
	END IF;
	IF new_hdrs <> old_hdrs THEN
		PERFORM dmshook._put_secret(w.id, 'headers', CASE WHEN new_hdrs <> '{}' THEN new_hdrs::text END);
	END IF;
	IF dmshook._schemes(n.options) <> dmshook._schemes(w.options) THEN
		made := dmshook._fit_secrets(w.id);
	END IF;
	IF (n.name, n.url, n.method, n.options, n.transform_role, new_auth, new_hdrs) IS DISTINCT FROM (w.name, w.url, w.method, w.options, w.transform_role, old_auth, old_hdrs) THEN
		PERFORM dmshook._write_version(w.id);
	END IF;
	IF (n.events, n.tenant, n.filter) IS DISTINCT FROM (w.events, w.tenant, w.filter) THEN
		PERFORM dmshook._write_subscription(w.id);
	END IF;
	PERFORM dmshook._changed(w.id, n.name, 'altered: ' || array_to_string(what, '; ') || CASE WHEN made <> '{}' THEN '; new signing secret' ELSE '' END);
	RETURN format('Webhook "%s" is altered; it counts from the next attempt on, for waiting deliveries too.', n.name)
		|| CASE WHEN (n.events, n.tenant, n.filter) IS DISTINCT FROM (w.events, w.tenant, w.filter) THEN ' Events, tenant and filter count for events that commit from now on.' ELSE '' END || said
		|| dmshook._made_hint(w.id, n.name, made)
		|| CASE WHEN w.public_key IS NOT NULL AND NOT dmshook._schemes(n.options) @> '{standard-ed25519}' THEN ' Its key pair is gone.' ELSE '' END
		|| CASE WHEN n.method <> w.method THEN dmshook._method_hint(n.method) ELSE '' END
		|| CASE WHEN n.options->'ca_certificate' IS DISTINCT FROM w.options->'ca_certificate' THEN dmshook._ca_hint(n.options) ELSE '' END;
END
$$;
COMMENT ON FUNCTION dmshook._alter_webhook IS 'dmshook.alter_webhook() behind the door where the caller is noted';

CREATE FUNCTION dmshook.alter_webhook(name text, url text = NULL, events text[] = NULL, method text = NULL, auth jsonb = NULL,
	headers jsonb = NULL, filter text = NULL, tenant text = NULL, options jsonb = NULL, new_name text = NULL) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
	PERFORM dmshook._note_caller();
	RETURN dmshook._alter_webhook(name, url, events, method, auth, headers, filter, tenant, options, new_name);
END
$$;
COMMENT ON FUNCTION dmshook.alter_webhook IS
	'change a webhook. NULL leaves as it was; '''' and {"kind":"none"} remove; headers are replaced as a whole; options merge by key, JSON null is the default again (of breaker: none)';

/* Events that a webhook would have got while it was disabled; counted up to a limit. */
CREATE FUNCTION dmshook._count_skipped(webhook_id int, upto bigint, stop_at bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH v AS (
		SELECT s.*, lead(s.from_id) OVER (ORDER BY s.from_id, s.id) AS to_id,
			row_number() OVER (ORDER BY s.from_id DESC, s.id DESC) AS age
		FROM dmshook.subscription s WHERE s.webhook = webhook_id
	), last_enabled AS (
		SELECT min(age) AS age FROM v WHERE enabled
	)
	SELECT count(*) FROM (
		SELECT FROM v, last_enabled l, dmshook.event e
		WHERE v.age < l.age AND e.id >= v.from_id AND e.id < coalesce(v.to_id, upto + 1) AND e.id <= upto
			AND dmshook._matches(v.events, e.type) AND (v.tenant IS NULL OR v.tenant IN (e.tenant, e.old_tenant))
			AND (v.filter IS NULL OR dmshook._filter_holds(v.filter, e))
		LIMIT stop_at
	) AS skipped
$$;
COMMENT ON FUNCTION dmshook._count_skipped IS 'how many events a webhook missed since it was disabled last';

CREATE FUNCTION dmshook._count_words(n bigint, stop_at bigint, thing text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN n >= stop_at THEN format('%s or more %s', stop_at, thing || 's') WHEN n = 1 THEN '1 ' || thing ELSE format('%s %s', n, thing || 's') END
$$;
COMMENT ON FUNCTION dmshook._count_words IS 'a number that was counted up to a limit, in words';

CREATE FUNCTION dmshook.enable_webhook(name text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w       dmshook.webhook := dmshook._webhook(enable_webhook.name);
	skipped bigint;
	waits   bigint;
	stop_at CONSTANT bigint := 100000;
BEGIN
	IF w.enabled THEN
		RETURN format('Webhook "%s" was enabled already%s.', w.name,
			CASE WHEN w.paused THEN format('; it is paused: SELECT dmshook.resume_webhook(%L)', w.name) END);
	END IF;
	PERFORM dmshook._warn_not_preloaded();
	skipped := dmshook._count_skipped(w.id, dmshook._last_event_id(), stop_at);
	SELECT count(*) INTO waits FROM (SELECT FROM dmshook.waiting v WHERE v.webhook = w.name LIMIT stop_at) AS v;
	UPDATE dmshook.webhook SET enabled = true, disabled_reason = NULL, changed_at = clock_timestamp() WHERE id = w.id;
	PERFORM dmshook._write_subscription(w.id);
	PERFORM dmshook._changed(w.id, w.name, 'enabled');
	RETURN format('Webhook "%s" is enabled: events that commit from now on are sent.', w.name)
		|| CASE WHEN skipped > 0 THEN format(' %s skipped while it was disabled; dmshook.replay(%L, since => ..., missing => true) sends them.',
			dmshook._count_words(skipped, stop_at, 'event') || CASE WHEN skipped = 1 THEN ' was' ELSE ' were' END, w.name) ELSE '' END
		|| CASE WHEN waits > 0 AND NOT w.paused THEN format(' %s that waited %s sent now.', dmshook._count_words(waits, stop_at, 'event'),
			CASE WHEN waits = 1 THEN 'is' ELSE 'are' END) ELSE '' END
		|| CASE WHEN w.paused THEN format(' It is paused: events queue until SELECT dmshook.resume_webhook(%L).', w.name) ELSE '' END
		|| dmshook._untested_hint(w)
		|| dmshook._unsent_hint();
END
$$;
COMMENT ON FUNCTION dmshook.enable_webhook IS 'send the events that commit from now on, and what waited; says how many were skipped while it was disabled';

CREATE FUNCTION dmshook.disable_webhook(name text, reason text = NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w dmshook.webhook := dmshook._webhook(disable_webhook.name);
BEGIN
	IF NOT w.enabled THEN
		RETURN format('Webhook "%s" was disabled already.', w.name);
	END IF;
	UPDATE dmshook.webhook SET enabled = false, disabled_reason = coalesce(nullif(reason, ''), 'by ' || dmshook._caller()), changed_at = clock_timestamp()
		WHERE id = w.id;
	PERFORM dmshook._write_subscription(w.id);
	PERFORM dmshook._changed(w.id, w.name, 'disabled' || coalesce(': ' || nullif(reason, ''), ''));
	RETURN format('Webhook "%s" is disabled: new events are skipped; what waits stays, and is sent when it is enabled again.', w.name);
END
$$;
COMMENT ON FUNCTION dmshook.disable_webhook IS 'skip new events; what waits stays';

/* The dispatcher's: it waits for nobody's open transaction. */
CREATE FUNCTION dmshook._disable_failing(webhook_id int, reason text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w dmshook.webhook;
BEGIN
	SELECT * INTO w FROM dmshook.webhook WHERE id = webhook_id FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN false;
	ELSIF w.enabled THEN
		UPDATE dmshook.webhook SET enabled = false, disabled_reason = reason, changed_at = clock_timestamp() WHERE id = w.id;
		PERFORM dmshook._write_subscription(w.id);
		INSERT INTO dmshook.change (by_role, webhook, what) VALUES ('dmshook', w.name, 'disabled: ' || reason);
		PERFORM dmshook._wake();
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION dmshook._disable_failing IS 'disable a webhook for its receiver''s sake; false: somebody has it locked, try again later';

CREATE FUNCTION dmshook.pause_webhook(name text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w dmshook.webhook := dmshook._webhook(pause_webhook.name);
BEGIN
	IF w.paused THEN
		RETURN format('Webhook "%s" was paused already.', w.name);
	END IF;
	UPDATE dmshook.webhook SET paused = true, changed_at = clock_timestamp() WHERE id = w.id;
	PERFORM dmshook._changed(w.id, w.name, 'paused');
	RETURN format('Webhook "%s" is paused: new events queue, and nothing is sent until SELECT dmshook.resume_webhook(%L).', w.name, w.name)
		|| CASE WHEN NOT w.enabled THEN ' It is also disabled: new events are skipped.' ELSE '' END;
END
$$;
COMMENT ON FUNCTION dmshook.pause_webhook IS 'send nothing, and let new events queue';

CREATE FUNCTION dmshook.resume_webhook(name text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w       dmshook.webhook := dmshook._webhook(resume_webhook.name);
	waits   bigint;
	stop_at CONSTANT bigint := 100000;
BEGIN
	IF NOT w.paused THEN
		RETURN format('Webhook "%s" was not paused.', w.name);
	END IF;
	SELECT count(*) INTO waits FROM (SELECT FROM dmshook.waiting v WHERE v.webhook = w.name LIMIT stop_at) AS v;
	UPDATE dmshook.webhook SET paused = false, changed_at = clock_timestamp() WHERE id = w.id;
	PERFORM dmshook._changed(w.id, w.name, 'resumed');
	RETURN format('Webhook "%s" is resumed', w.name) || CASE
		WHEN NOT w.enabled THEN format('. It is disabled: nothing is sent until SELECT dmshook.enable_webhook(%L).', w.name)
		WHEN waits > 0 THEN format(': %s that waited %s sent now.', dmshook._count_words(waits, stop_at, 'event'), CASE WHEN waits = 1 THEN 'is' ELSE 'are' END)
		ELSE '; nothing waited.' END || dmshook._unsent_hint();
END
$$;
COMMENT ON FUNCTION dmshook.resume_webhook IS 'send again, first what waited';

CREATE FUNCTION dmshook.drop_webhook(name text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w dmshook.webhook := dmshook._webhook(drop_webhook.name);
BEGIN
	UPDATE dmshook.webhook SET enabled = false, disabled_reason = 'dropped', dropped_at = clock_timestamp(), changed_at = clock_timestamp()
		WHERE id = w.id;
	PERFORM dmshook._write_subscription(w.id);
	DELETE FROM dmshook.webhook_secret WHERE webhook = w.id;
	PERFORM dmshook._changed(w.id, w.name, 'dropped', 'drop');
	RETURN format('Webhook "%s" is dropped: what waited is cancelled; its log stays under this name.', w.name);
END
$$;
COMMENT ON FUNCTION dmshook.drop_webhook IS 'remove a webhook: cancel what waits; its log stays under the old name';

/* ------------------------------------------------------------------------
 * Looking at one, and trying it
 * ------------------------------------------------------------------------ */

CREATE FUNCTION dmshook.retry_schedule(name text, OUT attempt int, OUT delay interval, OUT elapsed interval) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w dmshook.webhook := dmshook._webhook(retry_schedule.name, lock => false);
BEGIN
	RETURN QUERY
		SELECT d.attempt, make_interval(secs => d.delay_ms / 1000.0),
			make_interval(secs => sum(d.delay_ms) OVER (ORDER BY d.attempt)::float8 / 1000.0)
		FROM dmshook._retry_delays(w.options) d ORDER BY d.attempt;
END
$$;
COMMENT ON FUNCTION dmshook.retry_schedule IS 'when a delivery that goes on failing is sent: the pause before each attempt, without jitter, and the sum of them';

/* Has anything ever got through to this webhook? Tests come first, as a rule; no look through millions of failures. */
CREATE FUNCTION dmshook._proven(webhook_id int) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT EXISTS (SELECT FROM dmshook.webhook_state s WHERE s.webhook = webhook_id AND s.last_success_at IS NOT NULL)
		OR EXISTS (SELECT FROM (SELECT a.outcome FROM dmshook.attempt a WHERE a.webhook = webhook_id ORDER BY a.id LIMIT 1000) AS first WHERE outcome = 'o')
		OR EXISTS (SELECT FROM (SELECT a.outcome FROM dmshook.attempt a WHERE a.webhook = webhook_id ORDER BY a.id DESC LIMIT 1000) AS last WHERE outcome = 'o')
$$;
COMMENT ON FUNCTION dmshook._proven IS 'has a test or a delivery of this webhook ever succeeded?';

/* For hints: has nothing got through to it yet, and why? */
CREATE FUNCTION dmshook._untested_hint(w dmshook.webhook) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	a dmshook.attempt;
BEGIN
	IF dmshook._proven(w.id) THEN
		RETURN '';
	END IF;
	SELECT * INTO a FROM dmshook.attempt t WHERE t.webhook = w.id AND t.outcome IS NOT NULL ORDER BY t.id DESC LIMIT 1;
	IF NOT FOUND THEN
		RETURN format(' It was never tested: SELECT * FROM dmshook.test_webhook(%L).', w.name);
	END IF;
	RETURN format(' Nothing has got through yet; the last %s failed at %s (%s): SELECT * FROM dmshook.test_webhook(%L).',
		CASE a.kind WHEN 't' THEN 'test' ELSE 'request' END, dmshook._clock(a.at), coalesce(rtrim(a.error, '.'), 'no error was logged'), w.name);
END
$$;
COMMENT ON FUNCTION dmshook._untested_hint IS 'for hints: that a webhook was never tested, or that its test failed; empty when something got through';

/* The event of a test that is not taken from the log, as the dispatcher makes it up (feed.c). */
CREATE FUNCTION dmshook._test_event(event_type text) RETURNS dmshook.event
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT 0::bigint, 0::bigint, clock_timestamp(), event_type, NULL::text, NULL::text, split_part(event_type, '.', 1), '{}'::jsonb,
		'{"name":null,"role":null,"application":"dmshook"}'::json,
		format('{"database":%s,"schema":null,"table":null}', to_json(current_database()))::json,
		format('{"entity":%s,"key":{},"record":{"message":"This is a test of dmshook: nothing has happened."}}', to_json(split_part(event_type, '.', 1)))::json,
		NULL::timestamptz
$$;
COMMENT ON FUNCTION dmshook._test_event IS 'a made-up event, for previews of types that have none in the log';

/* The event that a test or preview shows: the latest of the type (and key); all NULL: none. */
CREATE FUNCTION dmshook._sample(w dmshook.webhook, event_type text, key jsonb) RETURNS dmshook.event
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	e    dmshook.event;
	near text;
BEGIN
	IF event_type IS NULL OR NOT EXISTS (SELECT FROM dmshook.event_type t WHERE t.name = event_type) THEN
		near := dmshook._nearest(event_type, ARRAY(SELECT t.name FROM dmshook.event_type t));
		RAISE EXCEPTION 'unknown event type "%"', coalesce(event_type, 'NULL') USING ERRCODE = 'undefined_object',
			HINT = CASE WHEN near IS NOT NULL THEN format('Did you mean "%s"?', near)
				ELSE 'SELECT name FROM dmshook.event_types shows those there are.' END;
	END IF;
	IF event_type = 'webhook.test' THEN
		RETURN NULL;
	END IF;
	-- another tenant's event is none of this receiver's business, in a test as little as otherwise
	SELECT * INTO e FROM dmshook.event v
		WHERE v.type = event_type AND (key IS NULL OR v.key = key) AND v.erased_at IS NULL AND (w.tenant IS NULL OR w.tenant = v.tenant)
		ORDER BY v.id DESC LIMIT 1;
	IF NOT FOUND AND key IS NOT NULL THEN
		RAISE EXCEPTION 'no event "%" with key % is in the log%', event_type, key, CASE WHEN w.tenant IS NOT NULL THEN format(' for tenant "%s"', w.tenant) ELSE '' END
			USING ERRCODE = 'no_data_found', HINT = 'Leave the key out to use the latest event of this type, or a made-up one where there is none.';
	END IF;
	RETURN e;
END
$$;
COMMENT ON FUNCTION dmshook._sample IS 'the event from the log that a test or preview shows';

CREATE FUNCTION dmshook._schemes(options jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE jsonb_typeof(options->'signature')
		WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(options->'signature'))
		WHEN 'string' THEN ARRAY[options->>'signature']
		ELSE '{standard}' END
$$;
COMMENT ON FUNCTION dmshook._schemes IS 'how a webhook with these (checked) options signs';

/* The signature's, as signature.c sends them; in the overlap after a rotation each is there more than once. */
CREATE FUNCTION dmshook._signature_headers(options jsonb) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH made AS (
		SELECT nullif(concat_ws(' ', CASE WHEN s @> '{standard}' THEN 'v1,***' END, CASE WHEN s @> '{standard-ed25519}' THEN 'v1a,***' END), '') AS standard,
			CASE WHEN s @> '{github}' THEN 'sha256=***' END AS github
		FROM (SELECT dmshook._schemes(options)) AS o (s))
	SELECT jsonb_strip_nulls(jsonb_build_object('webhook-signature', standard, 'x-hub-signature-256', github))
		|| CASE WHEN options->>'signature_header' IS NOT NULL THEN jsonb_build_object(lower(options->>'signature_header'), coalesce(github, standard)) ELSE '{}' END
	FROM made
$$;
COMMENT ON FUNCTION dmshook._signature_headers IS 'headers of the signature, masked';

/* Headers of a request as people may see them. Version: dmshook.webhook_version.headers, masked already. */
CREATE FUNCTION dmshook._request_headers(headers jsonb, webhook text, method text, message_id text, event_type text,
	at timestamptz, attempt int, test boolean, options jsonb) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT headers
		|| CASE WHEN NOT dmshook._has_body(method) THEN '{}'::jsonb
			WHEN options->>'format' = 'cloudevents' THEN '{"content-type": "application/cloudevents+json"}'
			ELSE '{"content-type": "application/json"}' END
		|| jsonb_build_object('user-agent', 'dmshook/' || dmshook._version(), 'webhook-id', message_id,
			'webhook-timestamp', floor(extract(epoch FROM at))::bigint::text,
			'dmshook-event', event_type, 'dmshook-webhook', webhook, 'dmshook-attempt', attempt::text)
		|| dmshook._signature_headers(options)
		|| CASE WHEN test THEN '{"dmshook-test": "1"}'::jsonb ELSE '{}' END
$$;
COMMENT ON FUNCTION dmshook._request_headers IS 'headers of a request, credentials and signature masked';

CREATE FUNCTION dmshook.preview(name text, event_type text = 'webhook.test', key jsonb = NULL,
	OUT method text, OUT url text, OUT headers jsonb, OUT body text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w dmshook.webhook := dmshook._webhook(preview.name, lock => false);
	v dmshook.webhook_version;
	e dmshook.event := dmshook._sample(w, event_type, key);
BEGIN
	SELECT * INTO STRICT v FROM dmshook.webhook_version t WHERE t.id = w.version;
	IF e.id IS NULL THEN
		e := dmshook._test_event(event_type);
	END IF;
	e.id := 0;			-- a test has a message id of its own
	e.nonce := 0;
	method := v.method;
	headers := dmshook._request_headers(v.headers, v.name, v.method, dmshook._message_id(e.id, e.nonce), event_type, now(), 1, true, v.options);
	IF dmshook._has_body(v.method) THEN
		url := v.url;
		body := dmshook._payload(e, true, v.options - 'transform');
		IF v.options ? 'transform' THEN
			-- not called here: it would run in the session of whoever looks, and it is not theirs
			RAISE NOTICE 'this is the body before the transform %', v.options->>'transform'
				USING HINT = format('SELECT %s(%L::jsonb) shows what would be sent; dmshook.test_webhook(%L) sends it.',
					regexp_replace(v.options->>'transform', '\(.*', ''), body, w.name);
		END IF;
	ELSE
		url := dmshook._url_with_query(v.url, e, true);
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook.preview IS 'the request that dmshook.test_webhook() would send, credentials masked; sends nothing. Of a webhook with a transform: the body before it, with a notice';

CREATE FUNCTION dmshook.test_webhook(name text, event_type text = 'webhook.test', key jsonb = NULL, timeout interval = NULL,
	OUT ok boolean, OUT status int, OUT duration_ms numeric, OUT remote_address inet, OUT message_id text, OUT response text,
	OUT error text, OUT hint text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w     dmshook.webhook := dmshook._webhook(test_webhook.name, lock => false);
	e     dmshook.event;
	a     dmshook.attempt;
	ms    numeric;
	nonce bigint;
	sent  record;
BEGIN
	IF (SELECT dmshook._is_own(t.xmin) FROM dmshook.webhook t WHERE t.id = w.id) THEN
		RAISE EXCEPTION 'webhook "%" was made or altered in this transaction', w.name USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'The dispatcher cannot see it yet: commit first.';
	END IF;
	-- a little more than a request may take: the dispatcher's answer is better than none
	ms := coalesce(extract(epoch FROM timeout) * 1000, dmshook._timeout(w.options) * CASE WHEN w.auth_kind = 'oauth2' THEN 2 ELSE 1 END + 5000);
	IF ms < 1 OR ms > 3600000 THEN
		RAISE EXCEPTION 'invalid timeout %', timeout USING ERRCODE = 'invalid_parameter_value', HINT = 'It must be from 1 ms to 1 hour.';
	END IF;
	e := dmshook._sample(w, event_type, key);
	nonce := ('x' || replace(gen_random_uuid()::text, '-', ''))::bit(64)::bigint;

	sent := dmshook._test(w.id, coalesce(e.id, 0), nonce, event_type, ms::int);
	CASE sent.result
		WHEN 'done' THEN
			NULL;
		WHEN 'no dispatcher' THEN
			RAISE EXCEPTION 'no dispatcher is running for this database' USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'SELECT * FROM dmshook.check() says why.';
		WHEN 'unclaimed' THEN
			RAISE EXCEPTION 'this database is not claimed: nothing is sent' USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'It is a copy of another one: a superuser calls dmshook.claim_database(''copy'') or (''takeover'').';
		WHEN 'unknown webhook' THEN
			RAISE EXCEPTION 'the dispatcher does not know webhook "%" yet', w.name USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Wait a moment, and test it again.';
		WHEN 'busy' THEN
			RAISE EXCEPTION 'too many tests are under way' USING ERRCODE = 'too_many_connections', HINT = 'Test it again in a moment.';
		ELSE
			ok := false;
			error := format('no result within %s', make_interval(secs => ms::float8 / 1000));
			hint := format('The request may still be under way: SELECT * FROM dmshook.attempts WHERE webhook = %L AND kind = ''test'' shows it later.', w.name);
			RETURN;
	END CASE;

	a := dmshook._attempt_row(w.id, sent.attempt);
	IF a.id IS NULL THEN
		RAISE EXCEPTION 'the test of webhook "%" was sent, but its row is not in the log', w.name USING ERRCODE = 'internal_error';
	END IF;
	ok := coalesce(a.outcome = 'o', false);
	status := a.status;
	duration_ms := round(a.duration_us / 1000.0, 3);
	remote_address := a.remote_address;
	message_id := dmshook._message_id(a.event, a.nonce);
	response := a.response_body;
	error := a.error;
	hint := CASE WHEN NOT ok THEN a.hint
		WHEN NOT w.enabled THEN format('It works. It is disabled: SELECT dmshook.enable_webhook(%L).', w.name)
		ELSE 'It works.' END;
END
$$;
COMMENT ON FUNCTION dmshook.test_webhook IS
	'send one request now, marked as a test, and show what came back; it takes the path of every delivery, and is in dmshook.attempts. Also while the webhook is disabled or paused';
