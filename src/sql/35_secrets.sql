/*
 * Secrets: signing keys, credentials and header values.
 *
 * The one place that reads and writes dmshook.webhook_secret.value (beside reencrypt_secrets(),
 * 36_vault.sql): what is at rest is made by _secret_put() and opened by _secrets() and _secret() (and by
 * store.c: load_secrets() for the dispatcher). Rows are added and removed,
 * never updated but for expires_at. Internal functions run as their caller, a
 * SECURITY DEFINER function; nobody else can reach the table.
 */

CREATE FUNCTION dmshook._secret_put(webhook_id int, secret_kind text, secret text, expires_at timestamptz = NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
	INSERT INTO dmshook.webhook_secret (webhook, kind, value, key_id, expires_at)
		SELECT webhook_id, secret_kind, k.value, k.key_id, _secret_put.expires_at FROM dmshook._seal(webhook_id, secret_kind, secret) k;
END
$$;
COMMENT ON FUNCTION dmshook._secret_put IS 'add a secret of a kind to a webhook';

CREATE FUNCTION dmshook._secrets(webhook_id int, secret_kind text, OUT id bigint, OUT secret text, OUT expires_at timestamptz) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT s.id, dmshook._unseal(s.webhook, s.kind, s.value, s.key_id), s.expires_at FROM dmshook.webhook_secret s
		WHERE s.webhook = webhook_id AND s.kind = secret_kind AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
		ORDER BY s.id DESC;
END
$$;
COMMENT ON FUNCTION dmshook._secrets IS 'the secrets of a kind that a webhook has, the newest first; an error with a hint when one cannot be decrypted';

CREATE FUNCTION dmshook._secret(webhook_id int, secret_kind text, unreadable text = NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s dmshook.webhook_secret;
BEGIN
	SELECT * INTO s FROM dmshook.webhook_secret t
		WHERE t.webhook = webhook_id AND t.kind = secret_kind AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())
		ORDER BY t.id DESC LIMIT 1;
	IF unreadable IS NOT NULL AND (SELECT p.problem IS NOT NULL FROM dmshook._unseal_problem(s.webhook, s.kind, s.value, s.key_id) p) THEN
		RETURN unreadable;
	END IF;
	RETURN dmshook._unseal(s.webhook, s.kind, s.value, s.key_id);
END
$$;
COMMENT ON FUNCTION dmshook._secret IS 'the newest secret of a kind, or NULL; one that cannot be decrypted is an error, or what is given for it';

/* Replaced, never updated: their ids tell the dispatcher one from the other. */
CREATE FUNCTION dmshook._put_secret(webhook_id int, secret_kind text, secret text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM dmshook.webhook_secret WHERE webhook = webhook_id AND kind = secret_kind;
	IF secret IS NOT NULL THEN
		PERFORM dmshook._secret_put(webhook_id, secret_kind, secret);
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._put_secret IS 'replace all secrets of a kind of a webhook; NULL removes them';

/* ------------------------------------------------------------------------
 * Signing secrets
 * ------------------------------------------------------------------------ */

CREATE FUNCTION dmshook.signing_secret(name text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w      dmshook.webhook := dmshook._webhook(signing_secret.name, lock => false);
	secret text;
BEGIN
	secret := dmshook._secret(w.id, 'signing');
	INSERT INTO dmshook.change (webhook, what) VALUES (w.name, 'signing secret read');
	RAISE LOG 'the signing secret of webhook "%" was read by role "%"', w.name, dmshook._caller();
	RETURN secret;
END
$$;
COMMENT ON FUNCTION dmshook.signing_secret IS 'the signing secret of a webhook; that it was read is written to dmshook.changes and to the server log';
