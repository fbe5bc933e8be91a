/*
 * Secrets: signing keys, credentials and header values.
 *
 * The one place that reads and writes dmshook.webhook_secret.value (beside reencrypt_secrets(),
 * 36_vault.sql): what is at rest is made by _secret_put() and opened by _secrets() and _secret() (and by
 * store.c: load_secrets() for the dispatcher). Rows are added and removed,
 * never updated but for expires_at. Internal functions run as their caller, a
 * SECURITY DEFINER function; nobody else can reach the table.
 *
 * Functions that are given a secret are plpgsql and pin plan_cache_mode: a custom plan has
 * its parameters as constants, which auto_explain shows, and a function in SQL hands it parameters that it may log.
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
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
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
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
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
 *
 * Kinds: signing (whsec_) for 'standard', signing_ed25519 (whsk_) for
 * 'standard-ed25519'. 'github' takes signing_github (just text) where there
 * is one, else signing, as text. A webhook has those that it needs, no others;
 * one that was rotated stays until expires_at and signs beside the new one
 * (src/signature.c).
 * ------------------------------------------------------------------------ */

CREATE FUNCTION dmshook._secret_kind(secret text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_secret_kind' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._secret_kind IS 'which kind of signing secret it is; an error with a hint unless it can sign';

CREATE FUNCTION dmshook._generate_secret(kind text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_generate_secret' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION dmshook._generate_secret IS 'a new signing secret of a kind';

CREATE FUNCTION dmshook._public_key(secret text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_public_key' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._public_key IS 'the public key (whpk_) of a private one (whsk_)';

CREATE FUNCTION dmshook.sign(secret text, message_id text, at timestamptz, body text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_sign' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION dmshook.sign IS
	'the signature of a request: v1 by a secret "whsec_...", v1a by "whsk_...", GitHub''s (of the body alone) by any other text';

CREATE FUNCTION dmshook.verify(secret text, headers jsonb, body text, tolerance interval = '5 minutes') RETURNS boolean
	AS 'MODULE_PATHNAME', 'dmshook_sql_verify' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION dmshook.verify IS
	'is a request signed with this secret ("whsec_...", "whsk_...", "whpk_...", or GitHub''s text), and no older or newer than the tolerance (NULL: any age)? Never NULL';

/* Names of headers that the options send are nobody else's. */
CREATE FUNCTION dmshook._check_signature_headers(options jsonb, header_names text[], auth jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	h text;
BEGIN
	FOREACH h IN ARRAY ARRAY[CASE WHEN 'github' = ANY (dmshook._schemes(options)) THEN 'x-hub-signature-256' END, options->>'signature_header'] LOOP
		IF lower(h) = ANY (SELECT lower(n) FROM unnest(header_names) AS n) THEN
			RAISE EXCEPTION 'header "%" is set by the signature', h USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Leave it out of the headers, or change the options "signature" and "signature_header".';
		ELSIF lower(h) = lower(CASE WHEN auth->>'kind' = 'api_key' THEN auth->>'header' WHEN auth->>'kind' IN ('basic', 'bearer', 'oauth2') THEN 'authorization' END) THEN
			RAISE EXCEPTION 'header "%" is set by the signature and by auth', h USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Name another one in auth, or change the options "signature" and "signature_header".';
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION dmshook._check_signature_headers IS 'raise an error with a hint when headers or auth set a header of the signature';

/* The kind of a secret that was given; for_github: just text is right. */
CREATE FUNCTION dmshook._check_secret(secret text, schemes text[], for_github boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	kind CONSTANT text := dmshook._secret_kind(secret);
BEGIN
	IF (CASE kind WHEN 'signing' THEN schemes && '{standard,github}' WHEN 'signing_ed25519' THEN schemes @> '{standard-ed25519}' ELSE for_github END) THEN
		RETURN kind;
	END IF;
	RAISE EXCEPTION 'invalid signing secret' USING ERRCODE = 'invalid_parameter_value',
		DETAIL = CASE kind WHEN 'signing' THEN 'The option "signature" asks for none that begins with "whsec_".'
			WHEN 'signing_ed25519' THEN 'The option "signature" asks for no private key ("whsk_").'
			ELSE 'A signing secret begins with "whsec_".' END,
		HINT = CASE kind WHEN 'signing_github' THEN 'A secret is "whsec_" and the base64 form of 24 to 64 bytes; leave it out to get a new one.'
			ELSE 'Leave it out to get a new one, or set the option "signature".' END;
END
$$;
COMMENT ON FUNCTION dmshook._check_secret IS 'the kind of a signing secret, when these schemes have use for it; an error with a hint when not';

/* The kinds that a webhook needs, and those that sign now and stay. */
CREATE FUNCTION dmshook._secret_kinds(webhook_id int, schemes text[], OUT needed text[], OUT there text[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	there := ARRAY(SELECT DISTINCT s.kind FROM dmshook.webhook_secret s
		WHERE s.webhook = webhook_id AND s.kind LIKE 'signing%' AND s.expires_at IS NULL);
	needed := array_remove(ARRAY[
		CASE WHEN schemes @> '{standard}' OR (schemes @> '{github}' AND NOT there @> '{signing_github}') THEN 'signing' END,
		CASE WHEN schemes @> '{standard-ed25519}' THEN 'signing_ed25519' END,
		CASE WHEN schemes @> '{github}' AND there @> '{signing_github}' THEN 'signing_github' END], NULL);
END
$$;
COMMENT ON FUNCTION dmshook._secret_kinds IS 'kinds of signing secrets that a webhook needs with these schemes, and has';

/* Make the secrets that the webhook's options ask for and are not there; remove those that have become useless. */
CREATE FUNCTION dmshook._fit_secrets(webhook_id int) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	schemes CONSTANT text[] := (SELECT dmshook._schemes(w.options) FROM dmshook.webhook w WHERE w.id = webhook_id);
	kinds   CONSTANT record := dmshook._secret_kinds(webhook_id, schemes);
	k       text;
	made    text[] := '{}';
BEGIN
	DELETE FROM dmshook.webhook_secret s WHERE s.webhook = webhook_id AND s.kind LIKE 'signing%' AND s.kind <> ALL (kinds.needed);
	FOREACH k IN ARRAY kinds.needed LOOP
		CONTINUE WHEN k = ANY (kinds.there);
		PERFORM dmshook._secret_put(webhook_id, k, dmshook._generate_secret(k));
		made := made || k;
	END LOOP;
	UPDATE dmshook.webhook w SET public_key = CASE WHEN NOT kinds.needed @> '{signing_ed25519}' THEN NULL
			WHEN made @> '{signing_ed25519}' OR w.public_key IS NULL THEN dmshook._public_key(dmshook._secret(webhook_id, 'signing_ed25519')) ELSE w.public_key END,
		secret_changed_at = CASE WHEN made <> '{}' THEN clock_timestamp() ELSE w.secret_changed_at END
		WHERE w.id = webhook_id;
	RETURN made;
END
$$;
COMMENT ON FUNCTION dmshook._fit_secrets IS 'give a webhook the signing secrets that its options ask for, and its public key; the kinds that were made';

/* The one that people are shown: what they share with the receiver, else the private key. */
CREATE FUNCTION dmshook._shown_secret(webhook_id int, scheme text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE scheme WHEN 'standard-ed25519' THEN dmshook._secret(webhook_id, 'signing_ed25519')
		WHEN 'standard' THEN dmshook._secret(webhook_id, 'signing')
		ELSE (SELECT coalesce((SELECT s.secret FROM dmshook._secrets(webhook_id, 'signing_github') s WHERE s.expires_at IS NULL),
			dmshook._secret(webhook_id, 'signing'))) END;
END
$$;
COMMENT ON FUNCTION dmshook._shown_secret IS 'the newest secret of a webhook for a scheme';

CREATE FUNCTION dmshook._main_scheme(schemes text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN schemes @> '{standard}' THEN 'standard' WHEN schemes @> '{github}' THEN 'github' ELSE 'standard-ed25519' END
$$;
COMMENT ON FUNCTION dmshook._main_scheme IS 'the scheme whose secret is meant when none is named';

/* What the receiver is to be given, in a sentence. */
CREATE FUNCTION dmshook._receiver_hint(webhook_id int) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN w.public_key IS NULL THEN 'Give the secret to the receiver.'
		WHEN dmshook._main_scheme(dmshook._schemes(w.options)) = 'standard-ed25519' THEN format('Give the receiver the public key %s; the secret is for nobody else.', w.public_key)
		ELSE format('Give the receiver the secret, or to verify v1a the public key %s.', w.public_key) END
	FROM dmshook.webhook w WHERE w.id = webhook_id
$$;
COMMENT ON FUNCTION dmshook._receiver_hint IS 'what the receiver is to be given';

/* What alter_webhook() says of secrets that its options needed. */
CREATE FUNCTION dmshook._made_hint(webhook_id int, name text, made text[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN made @> '{signing}' THEN format(' A new signing secret was made for it: SELECT dmshook.signing_secret(%L).', name) ELSE '' END
		|| CASE WHEN made @> '{signing_ed25519}' THEN format(' A new key pair was made for it: give the receiver the public key %s (also in dmshook.webhooks).', w.public_key) ELSE '' END
	FROM dmshook.webhook w WHERE w.id = webhook_id
$$;
COMMENT ON FUNCTION dmshook._made_hint IS 'how to get the secrets that were made';

CREATE FUNCTION dmshook.signing_secret(name text, signature text = NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	w       dmshook.webhook := dmshook._webhook(signing_secret.name, lock => false);
	schemes CONSTANT text[] := dmshook._schemes(w.options);
	secret  text;
BEGIN
	IF signature <> ALL (schemes) THEN
		RAISE EXCEPTION 'webhook "%" has no signature "%"', w.name, signature USING ERRCODE = 'invalid_parameter_value',
			HINT = format('It has: %s.', array_to_string(schemes, ', '));
	END IF;
	secret := dmshook._shown_secret(w.id, coalesce(signature, dmshook._main_scheme(schemes)));
	INSERT INTO dmshook.change (webhook, what) VALUES (w.name, 'signing secret read');
	RAISE LOG 'the signing secret of webhook "%" was read by role "%"', w.name, dmshook._caller();
	RETURN secret;
END
$$;
COMMENT ON FUNCTION dmshook.signing_secret IS
	'the signing secret of a webhook (where it signs in several ways: of the one named); that it was read is written to dmshook.changes and to the server log';

/*
 * Replace what is there of some kinds. Those of before sign on for a while beside
 * the new one; at most three of a kind, for a header has an end.
 */
CREATE FUNCTION dmshook._replace_secret(webhook_id int, old_kinds text[], kind text, secret text, keep_old interval) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
	until CONSTANT timestamptz := clock_timestamp() + keep_old;
	o     dmshook.webhook_secret;
	n     int;
BEGIN
	FOR o IN SELECT * FROM dmshook.webhook_secret s WHERE s.webhook = webhook_id AND s.kind = ANY (old_kinds || kind) LOOP
		-- what cannot be decrypted cannot sign on; and one that was on its way out may come back
		IF (SELECT p.problem IS NOT NULL FROM dmshook._unseal_problem(o.webhook, o.kind, o.value, o.key_id) p)
			OR (o.kind = kind AND dmshook._unseal(o.webhook, o.kind, o.value, o.key_id) = secret) THEN
			DELETE FROM dmshook.webhook_secret s WHERE s.id = o.id;
		END IF;
	END LOOP;
	DELETE FROM dmshook.webhook_secret s WHERE s.webhook = webhook_id AND s.kind = ANY (old_kinds) AND (keep_old = interval '0' OR s.kind = 'signing_github');
	IF keep_old > interval '0' THEN
		UPDATE dmshook.webhook_secret s SET expires_at = least(s.expires_at, until) WHERE s.webhook = webhook_id AND s.kind = ANY (old_kinds);
		DELETE FROM dmshook.webhook_secret s WHERE s.id IN (SELECT t.id FROM dmshook.webhook_secret t
			WHERE t.webhook = webhook_id AND t.kind = kind AND t.expires_at > clock_timestamp() ORDER BY t.id DESC OFFSET 3);
		GET DIAGNOSTICS n = ROW_COUNT;
		IF n > 0 THEN
			RAISE WARNING 'the oldest secret does not sign any more'
				USING DETAIL = 'Beside the new one three older ones sign at most.';
		END IF;
	END IF;
	PERFORM dmshook._secret_put(webhook_id, kind, secret);
END
$$;
COMMENT ON FUNCTION dmshook._replace_secret IS 'a new signing secret in place of those of some kinds, which sign on beside it for a while';

CREATE FUNCTION dmshook.rotate_secret(name text, keep_old interval = '24 hours', secret text = NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
	w       dmshook.webhook := dmshook._webhook(rotate_secret.name);
	schemes CONSTANT text[] := dmshook._schemes(w.options);
	kinds   CONSTANT record := dmshook._secret_kinds(w.id, schemes);
	result  text := secret;
	kind    text;
	replaced text[];
	-- GitHub's header has room for one signature: an old secret would only lie there
	keep_shared CONSTANT interval := CASE WHEN schemes @> '{standard}' THEN keep_old ELSE interval '0' END;
BEGIN
	IF keep_old IS NULL OR keep_old < interval '0' OR keep_old > interval '365 days' THEN
		RAISE EXCEPTION 'invalid time to keep the old secret' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is from ''0'' (the old one stops at once) to ''365 days''.';
	END IF;
	IF secret IS NULL THEN
		IF kinds.needed && '{signing,signing_github}' THEN
			result := dmshook._generate_secret('signing');
			PERFORM dmshook._replace_secret(w.id, '{signing,signing_github}', 'signing', result, keep_shared);
		END IF;
		IF kinds.needed @> '{signing_ed25519}' THEN
			secret := dmshook._generate_secret('signing_ed25519');
			PERFORM dmshook._replace_secret(w.id, '{signing_ed25519}', 'signing_ed25519', secret, keep_old);
			result := coalesce(result, secret);
		END IF;
	ELSE
		kind := dmshook._check_secret(secret, schemes, schemes @> '{github}' AND (kinds.there @> '{signing_github}' OR NOT schemes @> '{standard}'));
		IF dmshook._secret(w.id, kind, unreadable => '') = secret THEN
			RAISE EXCEPTION 'this is the signing secret of webhook "%" already', w.name USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Leave it out to get a new one.';
		END IF;
		-- where both 'standard' and 'github' have one of their own, only that of its kind is replaced
		replaced := CASE WHEN kind = 'signing_ed25519' OR kinds.needed @> '{signing,signing_github}' THEN ARRAY[kind] ELSE '{signing,signing_github}' END;
		PERFORM dmshook._replace_secret(w.id, replaced, kind, secret, CASE WHEN kind = 'signing_ed25519' THEN keep_old ELSE keep_shared END);
	END IF;
	UPDATE dmshook.webhook SET public_key = NULL WHERE id = w.id;
	PERFORM dmshook._fit_secrets(w.id);
	UPDATE dmshook.webhook SET secret_changed_at = clock_timestamp(), changed_at = clock_timestamp() WHERE id = w.id;
	PERFORM dmshook._changed(w.id, w.name, 'signing secret rotated; ' || CASE WHEN keep_old = interval '0' THEN 'the old one signs no more'
		ELSE format('the old one signs for %s more', keep_old) END);
	IF schemes @> '{github}' AND keep_old > interval '0' THEN
		RAISE NOTICE 'X-Hub-Signature-256 has room for one signature: the new secret''s, from now on';
	END IF;
	IF schemes @> '{standard-ed25519}' AND coalesce(kind, 'signing_ed25519') = 'signing_ed25519' THEN
		RAISE NOTICE 'give the receiver the public key %', (SELECT t.public_key FROM dmshook.webhook t WHERE t.id = w.id);
	END IF;
	RETURN result;
END
$$;
COMMENT ON FUNCTION dmshook.rotate_secret IS
	'a new signing secret (or the one given); for keep_old both sign, so that the receiver can change over, then the old one stops by itself. ''0'': it stops at once';

/* The dispatcher's (housekeeping): it waits for nobody's open transaction. */
CREATE FUNCTION dmshook._remove_expired_secrets() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	WITH gone AS (
		DELETE FROM dmshook.webhook_secret s
		WHERE s.id IN (SELECT o.id FROM dmshook.webhook_secret o WHERE o.expires_at <= clock_timestamp() FOR UPDATE SKIP LOCKED)
		RETURNING s.webhook)
	INSERT INTO dmshook.command (webhook, kind) SELECT DISTINCT g.webhook, 'reload' FROM gone g;
	IF FOUND THEN
		PERFORM dmshook._wake();
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._remove_expired_secrets IS 'remove secrets that sign no more, from the table and from the dispatcher''s memory';
