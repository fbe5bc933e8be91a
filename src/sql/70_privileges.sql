/*
 * Who may what. dmshook._rights() is the one list; a function or view that is
 * not in it fails a test (sql/privileges.sql), and one without letters is its
 * owner's alone. Nothing here, and nothing that is granted, gives a table.
 */

CREATE VIEW dmshook.event_types AS
	SELECT t.name, t.entity, t.description, t.builtin FROM dmshook.event_type t;
COMMENT ON VIEW dmshook.event_types IS 'the event types there are; dmshook.define_event_type() adds one';

/*
 * v viewer, a admin, e emitter. Functions with an underscore are for views (they are called
 * with the rights of whoever reads the view) and for watch_...() and the like, which run
 * as their caller; each of them is harmless by itself or takes the caller's note (caller.c).
 */
CREATE FUNCTION dmshook._rights(OUT name text, OUT who text) RETURNS SETOF record
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT n, w FROM (VALUES
		-- views
		('va', '{webhooks, deliveries, attempts, dead_letters, waiting, events, health, dispatchers, alerts, changes, watched, event_types, grants}'::text[]),
		('', '{_subscribed, _open, _ahead, _skipped, _finished}'),
		-- what people call
		('va', '{explain, retry_schedule, check, sequence_of}'),
		('a', '{watch_vehicle, watch_deal, watch_job, watch_customer, watch, unwatch, unwatch_all, define_event_type}'),
		('a', '{create_webhook, alter_webhook, enable_webhook, disable_webhook, pause_webhook, resume_webhook, drop_webhook}'),
		('a', '{test_webhook, preview, signing_secret, rotate_secret, reencrypt_secrets, sign, verify, acknowledge}'),
		('a', '{redeliver, redeliver_dead, replay, cancel, cancel_all, erase}'),
		('ae', '{emit}'),
		('', '{grant_viewer, grant_admin, grant_emitter, revoke_all, claim_database}'),
		-- what views call
		('va', '{_message_id, _message_sequence, _payload, _query, _url_with_query, _has_body, _matches, _filter_holds, _request_headers, _version}'),
		('va', '{_show_options, _sees_payloads, _why_held, _clock, _rates, _latency, _backlog, _sparkline, _slots, _last_event_id, _gap_holder, _tls_cipher, _certificate_hint}'),
		('va', '{_quotes_data, _cut_error, _shown_error, _caller, _trigger_args, _rules, _schemes, _signature_headers}'),
		('a', '{_payloads_right}'),
		-- what functions without SECURITY DEFINER call
		('a', '{_note_caller, _create_webhook, _alter_webhook, _reencrypt_secrets, _set_triggers, _claim_if_new, _warn_not_preloaded}'),
		('a', '{_watchable, _column_refs, _quote_item, _rule_test, _event_entity, _related_args, _watch_head, _watch, _watch_one, _rows_now, _as_owner, _trigger_rules, _without_type}'),
		-- its owner's
		('', '{capture, _rights, _grant, _noted_caller, _set_trigger}'),
		('', '{_check_url, _check_options, _check_auth, _check_headers, _check_secret, _check_name, _check_events, _check_types, _check_method, _check_filter, _check_transform}'),
		('', '{_check_dispatcher, _check_identity, _publications, _warn_published, _check_publications, _check_backlog, _check_scrub, _check_alerts, _check_mail, _mail_state, _check_webhooks, _pattern_valid, _distance, _nearest}'),
		('', '{_secret_kind, _secret_kinds, _public_key, _check_signature_headers, _fit_secrets, _shown_secret, _main_scheme, _receiver_hint, _made_hint, _replace_secret, _remove_expired_secrets}'),
		('', '{_auth_files, _auth_expiry, _url_origin, _check_move, _ca_expires, _ca_hint}'),
		('', '{_generate_secret, _secret_put, _secrets, _secret, _put_secret, _seal, _unseal, _unseal_problem, _vault, _check_vault, _check_certificates, _retry_delays, _timeout, _preloaded, _wake, _is_own, _test, _attempt_row}'),
		('', '{_identity, _identity_matches, _advance_sequence, _repair, _disarm, _unsent_hint, _method_hint, _count_skipped, _count_expired, _count_words, _proven, _untested_hint, _check_body}'),
		('', '{_webhook, _webhook_ever, _write_version, _write_subscription, _changed, _disable_failing, _notice, _sample, _test_event, _try_filter}'),
		('', '{_places, _to_scrub, _all_to_scrub, _scrub_page, _scrub, _blanked, _erase_matches, _erase_events, _erase_log, _erase_rest, _erase_test, _erase_tests, _blank_old}'),
		('', '{_filter_verdict, _ordered, _event_of, _state, _delivery_state, _explain_subscription, _explain_attempts}')
	) AS list (w, names), unnest(list.names) AS n
$$;
COMMENT ON FUNCTION dmshook._rights IS 'which function and which view is for whom: v viewer, a admin, e emitter; none: its owner';

/* Who reads what was sent, and who administers: as granted by the functions below, without what a role inherits. */
CREATE VIEW dmshook.grants AS
	SELECT r.rolname AS role, bool_or(g.what = 'viewer') AS viewer, bool_or(g.what = 'payloads') AS payloads,
		bool_or(g.what = 'admin') AS admin, bool_or(g.what = 'emitter') AS emitter
	FROM (
		SELECT a.grantee, 'viewer' AS what FROM pg_class c, aclexplode(c.relacl) a
			WHERE c.oid = 'dmshook.webhooks'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
		UNION ALL
		SELECT a.grantee, CASE p.proname WHEN '_payloads_right' THEN 'payloads' WHEN 'emit' THEN 'emitter' ELSE 'admin' END
			FROM pg_proc p, aclexplode(p.proacl) a
			WHERE p.pronamespace = 'dmshook'::regnamespace AND p.proname IN ('_payloads_right', 'emit', 'create_webhook') AND a.grantee <> p.proowner
	) AS g JOIN pg_roles r ON r.oid = g.grantee
	GROUP BY r.rolname;
COMMENT ON VIEW dmshook.grants IS 'roles that were granted something of dmshook; members of them inherit it';
COMMENT ON COLUMN dmshook.grants.viewer IS 'reads the views: dmshook.grant_viewer()';
COMMENT ON COLUMN dmshook.grants.payloads IS 'sees in them records, payloads and responses, too: grant_viewer(role, payloads => true), grant_admin()';
COMMENT ON COLUMN dmshook.grants.admin IS 'calls the functions that change and send: dmshook.grant_admin()';
COMMENT ON COLUMN dmshook.grants.emitter IS 'may call dmshook.emit(): dmshook.grant_emitter(), grant_admin()';

/* The functions below run as their caller: to grant takes the owner's rights. */
CREATE FUNCTION dmshook._grant(role name, letter text, what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	functions text;
	views     text;
BEGIN
	IF role IS NULL OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role) THEN
		RAISE EXCEPTION 'role "%" does not exist', coalesce(role, 'NULL') USING ERRCODE = 'undefined_object',
			HINT = 'CREATE ROLE makes one; to grant to everybody, make a role that everybody is a member of.';
	END IF;
	SELECT string_agg(p.oid::regprocedure::text, ', ') INTO functions
		FROM pg_proc p JOIN dmshook._rights() r ON r.name = p.proname AND strpos(r.who, letter) > 0
		WHERE p.pronamespace = 'dmshook'::regnamespace AND (p.proname <> '_payloads_right' OR letter = 'a');
	SELECT string_agg(c.oid::regclass::text, ', ') INTO views
		FROM pg_class c JOIN dmshook._rights() r ON r.name = c.relname AND strpos(r.who, letter) > 0
		WHERE c.relnamespace = 'dmshook'::regnamespace AND c.relkind = 'v';
	EXECUTE format('GRANT USAGE ON SCHEMA dmshook TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', functions, role);
	IF views IS NOT NULL THEN
		EXECUTE format('GRANT SELECT ON TABLE %s TO %I', views, role);
	END IF;
	INSERT INTO dmshook.change (what) VALUES (format('granted to role %I: %s', role, what));
END
$$;
COMMENT ON FUNCTION dmshook._grant IS 'grant what is for those with a letter of dmshook._rights()';

CREATE FUNCTION dmshook.grant_viewer(role name, payloads boolean = false) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM dmshook._grant(role, 'v', 'viewer' || CASE WHEN payloads THEN ' with payloads' ELSE '' END);
	IF payloads THEN
		EXECUTE format('GRANT EXECUTE ON FUNCTION dmshook._payloads_right() TO %I', role);
	ELSIF NOT (SELECT g.admin FROM dmshook.grants g WHERE g.role = grant_viewer.role) THEN
		EXECUTE format('REVOKE EXECUTE ON FUNCTION dmshook._payloads_right() FROM %I', role);
	END IF;
	RETURN format('Role %I may read the views', role)
		|| CASE WHEN has_function_privilege(role, 'dmshook._payloads_right()', 'EXECUTE') THEN ', with records, payloads and responses.'
			ELSE '; records, payloads and responses are NULL to it (payloads => true shows them).' END;
END
$$;
COMMENT ON FUNCTION dmshook.grant_viewer IS 'let a role read the views, with records, payloads and responses only where asked';

CREATE FUNCTION dmshook.grant_admin(role name) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM dmshook._grant(role, 'a', 'admin');
	RETURN format('Role %I may read the views and call the functions. It watches tables that it owns.', role);
END
$$;
COMMENT ON FUNCTION dmshook.grant_admin IS 'let a role read the views and call the functions: it can send what happens to any public address';

CREATE FUNCTION dmshook.grant_emitter(role name) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM dmshook._grant(role, 'e', 'emitter');
	RETURN format('Role %I may call dmshook.emit(). Triggers need no right.', role);
END
$$;
COMMENT ON FUNCTION dmshook.grant_emitter IS 'let a role raise events by hand, and nothing else';

CREATE FUNCTION dmshook.revoke_all(role name) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	others text;
BEGIN
	IF role IS NULL OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role) THEN
		RAISE EXCEPTION 'role "%" does not exist', coalesce(role, 'NULL') USING ERRCODE = 'undefined_object';
	END IF;
	EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA dmshook FROM %I', role);
	EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA dmshook FROM %I', role);
	EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA dmshook FROM %I', role);
	EXECUTE format('REVOKE ALL ON SCHEMA dmshook FROM %I', role);
	INSERT INTO dmshook.change (what) VALUES (format('revoked from role %I: all', role));
	SELECT string_agg(quote_ident(g.role), ', ' ORDER BY g.role) INTO others
		FROM dmshook.grants g WHERE g.role <> revoke_all.role AND pg_has_role(revoke_all.role, g.role, 'USAGE');
	RETURN format('Role %I has no rights of its own in dmshook.', role) || coalesce(' It inherits those of: ' || others || '.', '')
		|| CASE WHEN (SELECT rolsuper FROM pg_roles r WHERE r.rolname = role) THEN ' It is a superuser.' ELSE '' END;
END
$$;
COMMENT ON FUNCTION dmshook.revoke_all IS 'take from a role all that it was granted in dmshook';
