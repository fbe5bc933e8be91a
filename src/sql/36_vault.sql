/*
 * Secrets at rest: encrypted, where dmshook.secret_key_file is set (src/vault.c).
 *
 * dmshook.webhook_secret holds value and key_id; key_id NULL: the value is the
 * secret itself. Only 35_secrets.sql and this file read or write value.
 */

CREATE FUNCTION dmshook._seal(webhook_id int, secret_kind text, secret text, OUT value text, OUT key_id text)
	AS 'MODULE_PATHNAME', 'dmshook_sql_seal' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._seal IS 'a secret as it is to be stored: encrypted with the first key of dmshook.secret_key_file, where that is set';

CREATE FUNCTION dmshook._unseal(webhook_id int, secret_kind text, value text, key_id text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_unseal' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION dmshook._unseal IS 'a secret out of what is stored; an error with a hint when it cannot be decrypted';

CREATE FUNCTION dmshook._unseal_problem(webhook_id int, secret_kind text, value text, key_id text, OUT problem text, OUT hint text)
	AS 'MODULE_PATHNAME', 'dmshook_sql_unseal_problem' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION dmshook._unseal_problem IS 'why a secret cannot be decrypted; NULL when it can';

CREATE FUNCTION dmshook._vault(OUT key_id text, OUT problem text, OUT hint text)
	AS 'MODULE_PATHNAME', 'dmshook_sql_vault' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION dmshook._vault IS 'id of the key that encrypts, or what is wrong with dmshook.secret_key_file';

/* Webhooks are locked as by whoever changes one, so that no secret is replaced at the same time. */
CREATE FUNCTION dmshook._reencrypt_secrets(plaintext boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
	caller CONSTANT text := dmshook._noted_caller();	-- first of all
	vault  record;
	s      dmshook.webhook_secret;
	target text;
	look   record;
	secret text;
	n      bigint := 0;
	lost   text[] := '{}';
BEGIN
	SELECT * INTO vault FROM dmshook._vault();
	IF vault.problem IS NOT NULL THEN
		RAISE EXCEPTION 'secrets cannot be encrypted: %', vault.problem USING ERRCODE = 'config_file_error', HINT = vault.hint;
	ELSIF vault.key_id IS NULL THEN
		IF EXISTS (SELECT FROM dmshook.webhook_secret t WHERE t.key_id IS NOT NULL) THEN
			RAISE EXCEPTION 'there are encrypted secrets, but dmshook.secret_key_file is empty' USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Set it to the file that has their key, then SELECT pg_reload_conf(). To store them as they are, call dmshook.reencrypt_secrets(plaintext => true) before you empty it.';
		END IF;
		RETURN 0;
	ELSIF plaintext AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = caller) THEN
		RAISE EXCEPTION 'only a superuser may store secrets in plain text' USING ERRCODE = 'insufficient_privilege';
	END IF;
	target := CASE WHEN plaintext THEN NULL ELSE vault.key_id END;

	PERFORM FROM dmshook.webhook w ORDER BY w.id FOR UPDATE;
	FOR s IN SELECT * FROM dmshook.webhook_secret t WHERE t.key_id IS DISTINCT FROM target ORDER BY t.id LOOP
		SELECT * INTO look FROM dmshook._unseal_problem(s.webhook, s.kind, s.value, s.key_id);
		IF look.problem IS NOT NULL THEN
			lost := lost || (SELECT w.name FROM dmshook.webhook w WHERE w.id = s.webhook);
			CONTINUE;
		END IF;
		secret := dmshook._unseal(s.webhook, s.kind, s.value, s.key_id);
		IF plaintext THEN
			UPDATE dmshook.webhook_secret t SET value = secret, key_id = NULL WHERE t.id = s.id;
		ELSE
			UPDATE dmshook.webhook_secret t SET value = k.value, key_id = k.key_id
				FROM dmshook._seal(s.webhook, s.kind, secret) k WHERE t.id = s.id;
		END IF;
		CONTINUE WHEN NOT FOUND;	-- it expired meanwhile
		INSERT INTO dmshook.command (webhook, kind) SELECT s.webhook, 'reload'
			WHERE NOT EXISTS (SELECT FROM dmshook.command c WHERE c.webhook = s.webhook AND c.kind = 'reload' AND c.done_at IS NULL);
		n := n + 1;
	END LOOP;

	IF n > 0 THEN
		INSERT INTO dmshook.change (what) VALUES (CASE WHEN plaintext THEN format('%s secrets decrypted: they are stored in plain text', n)
			ELSE format('%s secrets encrypted with key %s', n, target) END);
		PERFORM dmshook._wake();
	END IF;
	IF lost <> '{}' THEN
		RAISE WARNING '% secrets cannot be decrypted and stay as they are', cardinality(lost)
			USING DETAIL = format('Of: %s.', (SELECT string_agg(DISTINCT l, ', ' ORDER BY l) FROM unnest(lost) l)),
				HINT = 'SELECT * FROM dmshook.check() says why.';
	END IF;
	RETURN n;
END
$$;
COMMENT ON FUNCTION dmshook._reencrypt_secrets IS 'dmshook.reencrypt_secrets() behind the door where the caller is noted';

CREATE FUNCTION dmshook.reencrypt_secrets(plaintext boolean = false) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM dmshook._note_caller();
	RETURN dmshook._reencrypt_secrets(plaintext);
END
$$;
COMMENT ON FUNCTION dmshook.reencrypt_secrets IS
	'encrypt all secrets with the first key of dmshook.secret_key_file; returns how many were not. plaintext => true stores them as they are (superuser)';

CREATE FUNCTION dmshook._check_vault(OUT level text, OUT subject text, OUT problem text, OUT hint text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	vault record;
	n     record;
BEGIN
	SELECT * INTO vault FROM dmshook._vault();
	SELECT count(DISTINCT s.webhook) FILTER (WHERE s.key_id IS NOT NULL) AS encrypted, count(*) FILTER (WHERE s.key_id IS NULL) AS plain,
		count(*) FILTER (WHERE s.key_id <> vault.key_id) AS old INTO n
		FROM dmshook.webhook_secret s;
	level := 'error';
	subject := 'secrets';
	IF vault.problem IS NOT NULL THEN
		problem := vault.problem || CASE WHEN n.encrypted = 0 THEN '; no secret can be stored'
			ELSE format('; %s %s encrypted secrets and cannot send', n.encrypted, CASE WHEN n.encrypted = 1 THEN 'webhook has' ELSE 'webhooks have' END) END;
		hint := vault.hint;
		RETURN NEXT;
		RETURN;
	END IF;
	FOR subject, problem, hint IN
		SELECT DISTINCT ON (w.name) w.name, p.problem || ': it cannot send', p.hint
		FROM dmshook.webhook_secret s JOIN dmshook.webhook w ON w.id = s.webhook, dmshook._unseal_problem(s.webhook, s.kind, s.value, s.key_id) p
		WHERE p.problem IS NOT NULL AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
		ORDER BY w.name, s.id DESC
	LOOP
		RETURN NEXT;
	END LOOP;
	level := 'warning';
	subject := 'secrets';
	IF vault.key_id IS NOT NULL AND (current_setting('dmshook.secret_key_file') !~ '^/'
		OR starts_with(current_setting('dmshook.secret_key_file'), current_setting('data_directory') || '/')) THEN
		problem := 'dmshook.secret_key_file is in the data directory: each base backup has the key beside what it encrypts';
		hint := 'Move the file, set dmshook.secret_key_file to its new place, then SELECT pg_reload_conf().';
		RETURN NEXT;
	END IF;
	hint := 'SELECT dmshook.reencrypt_secrets()';
	IF vault.key_id IS NOT NULL AND n.plain > 0 THEN
		problem := format('dmshook.secret_key_file is set, but %s stored in plain text', dmshook._count_words(n.plain, 1000000, 'secret') || CASE WHEN n.plain = 1 THEN ' is' ELSE ' are' END);
		RETURN NEXT;
	END IF;
	IF n.old > 0 THEN
		problem := format('%s encrypted with another key than the first of dmshook.secret_key_file', dmshook._count_words(n.old, 1000000, 'secret') || CASE WHEN n.old = 1 THEN ' is' ELSE ' are' END);
		RETURN NEXT;
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._check_vault IS 'the part of dmshook.check() about secrets at rest';
