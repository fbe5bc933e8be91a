-- auth: OAuth 2.0 and client certificates as they are typed in, secrets from files, and what happens when a webhook moves
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
-- what other tests left is not seen here
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.webhook_version; DELETE FROM dmshook.webhook_secret; DELETE FROM dmshook.subscription; DELETE FROM dmshook.change; DELETE FROM dmshook.command;
CREATE TEMP VIEW stored AS
	SELECT w.name, w.auth_kind, s.secret::jsonb AS auth FROM dmshook.webhook w CROSS JOIN LATERAL dmshook._secrets(w.id, 'auth') s;

--
-- OAuth 2.0 client credentials
--
SELECT count(*) FROM dmshook.create_webhook('O', 'https://example.com/o', '{vehicle.sold}', auth => '{"kind": "oauth2", "token_url": "https://login.example.com/token",
	"client_id": "dms", "client_secret": "hush", "scope": "a b", "audience": "https://example.com/", "client_auth": "body"}');
SELECT v.auth_kind, v.headers FROM dmshook.webhook w JOIN dmshook.webhook_version v ON v.id = w.version WHERE w.name = 'O';
SELECT headers->>'authorization' AS shown FROM dmshook.preview('O');
SELECT dmshook.alter_webhook('O', auth => '{"kind": "oauth2", "token_url": "https://login.example.com:8443/token", "client_id": "dms", "client_secret": "hush"}');

-- fail: no value is shown
SELECT dmshook.alter_webhook('O', auth => '{"kind": "oauth2", "token_url": "http://login.example.com/", "client_id": "dms", "client_secret": "hush"}');
SELECT dmshook.alter_webhook('O', auth => '{"kind": "oauth2", "token_url": "https://dms:hush@login.example.com/", "client_id": "dms", "client_secret": "hush"}');
SELECT dmshook.alter_webhook('O', auth => '{"kind": "oauth2", "token_url": "https://login.example.com/", "client_id": "dms"}');
SELECT dmshook.alter_webhook('O', auth => '{"kind": "oauth2", "token_url": "https://login.example.com/", "client_id": "dms", "client_secret": ""}');
SELECT dmshook.alter_webhook('O', auth => '{"kind": "oauth2", "token_url": "https://login.example.com/", "client_id": "dms", "client_secret": "hüsh"}');
SELECT dmshook.alter_webhook('O', auth => '{"kind": "oauth2", "token_url": "https://login.example.com/", "client_id": "dms", "client_secret": "hush", "scope": "\"hush\""}');
SELECT dmshook.alter_webhook('O', auth => '{"kind": "oauth2", "token_url": "https://login.example.com/", "client_id": "dms", "client_secret": "hush", "client_auth": "jwt"}');
SELECT dmshook.alter_webhook('O', auth => '{"kind": "oauth2", "token_url": "https://login.example.com/", "client_id": "dms", "client_secret": "hush", "grant": "password"}');
SELECT dmshook.alter_webhook('O', headers => '{"AUTHORIZATION": "hush"}');

--
-- Client certificates
--
\set key `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 2>/dev/null`
\set other_key `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null`
\set weak_key `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:512 2>/dev/null`
\setenv KEY :key
\setenv OTHER_KEY :other_key
\setenv WEAK_KEY :weak_key
\set sealed_key `echo "$KEY" | openssl pkcs8 -topk8 -passout pass:hush 2>/dev/null`
\set old_sealed_key `echo "$KEY" | openssl ec -aes128 -passout pass:hush 2>/dev/null`
\set certificate `echo "$KEY" | openssl req -x509 -key /dev/stdin -subj /CN=client -days 400 2>/dev/null`
\set soon `echo "$KEY" | openssl req -x509 -key /dev/stdin -subj /CN=client -days 10 2>/dev/null`
\set authority `echo "$OTHER_KEY" | openssl req -x509 -key /dev/stdin -subj /CN=authority -days 400 2>/dev/null`
\set weak `echo "$WEAK_KEY" | openssl req -x509 -key /dev/stdin -subj /CN=weak -days 400 2>/dev/null`
\setenv CERTIFICATE :certificate
\getenv dir PG_ABS_BUILDDIR
\set file :dir '/auth_secret'
\setenv AUTH_FILE :file
\set expired `echo "$KEY" > "$AUTH_FILE"; openssl pkey -in "$AUTH_FILE" -pubout -out "$AUTH_FILE.pub" && { openssl x509 -new -force_pubkey "$AUTH_FILE.pub" -signkey "$AUTH_FILE" -subj /CN=client -days -1 2>/dev/null || openssl x509 -new -force_pubkey "$AUTH_FILE.pub" -signkey "$AUTH_FILE" -subj /CN=client -not_before 20200101000000Z -not_after 20200102000000Z 2>/dev/null; }; rm -f "$AUTH_FILE" "$AUTH_FILE.pub"`
SELECT count(*) FROM dmshook.create_webhook('M', 'https://example.com/m', '{vehicle.sold}',
	auth => jsonb_build_object('kind', 'mtls', 'certificate', :'certificate' || E'\n' || :'authority', 'key', :'key'));
SELECT auth_kind, headers FROM dmshook.webhooks WHERE name = 'M';
SELECT webhook, certificate_expires_at > now() + interval '399 days' AND certificate_expires_at < now() + interval '401 days' AS right FROM dmshook.health ORDER BY 1;
SELECT level, subject, regexp_replace(problem, ' at .*', ' at ...') AS problem FROM dmshook.check() WHERE subject = 'M' AND problem ~ 'certificate';
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'soon', 'key', :'key'));
SELECT level, subject, regexp_replace(problem, ' at .*', ' at ...') AS problem, hint FROM dmshook.check() WHERE subject = 'M' AND problem ~ 'certificate';
UPDATE dmshook.webhook SET certificate_expires_at = now() - interval '1 day' WHERE name = 'M';
SELECT level, subject, regexp_replace(problem, ' at .*', ' at ...') AS problem FROM dmshook.check() WHERE subject = 'M' AND problem ~ 'certificate';
SELECT auth->>'key' = :'key' AS key, auth->>'certificate' = :'soon' AS certificate FROM stored WHERE name = 'M';
SELECT dmshook.alter_webhook('M', auth => '{"kind": "none"}');
SELECT certificate_expires_at FROM dmshook.health WHERE webhook = 'M';

-- fail
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', 'hush', 'key', :'key'));
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'certificate', 'key', 'hush'));
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'certificate', 'key', :'other_key'));
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'authority' || E'\n' || :'certificate', 'key', :'key'));
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'certificate', 'key', :'sealed_key'));
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'certificate', 'key', :'old_sealed_key'));
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'certificate' || E'\n' || :'key', 'key', :'key'));
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'certificate' || E'\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', 'key', :'key'));
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'weak', 'key', :'weak_key'));
\set VERBOSITY terse
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'expired', 'key', :'key'));
\set VERBOSITY default
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate', :'certificate'));

--
-- Secrets in files of the server
--
\! printf 'hush hush' > "$AUTH_FILE"
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'basic', 'username', 'u', 'password_file', :'file'));
SELECT auth FROM stored WHERE name = 'M';
\! printf 'to-ken\r\n\n' > "$AUTH_FILE"
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'bearer', 'token_file', :'file'));
SELECT auth FROM stored WHERE name = 'M';
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'api_key', 'header', 'X-Key', 'key_file', :'file'));
SELECT auth FROM stored WHERE name = 'M';
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'oauth2', 'token_url', 'https://example.com/t', 'client_id', 'c', 'client_secret_file', :'file'));
SELECT auth FROM stored WHERE name = 'M';
\! echo "$KEY" > "$AUTH_FILE"; echo "$CERTIFICATE" > "$AUTH_FILE.pem"
SELECT dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'mtls', 'certificate_file', :'file' || '.pem', 'key_file', :'file'));
SELECT auth->>'key' = :'key' AS key, auth->>'certificate' = :'certificate' AS certificate FROM stored WHERE name = 'M';
-- fail
CREATE FUNCTION pg_temp.says(path text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	PERFORM dmshook.alter_webhook('M', auth => jsonb_build_object('kind', 'bearer', 'token_file', path));
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || replace(SQLERRM, path, 'FILE');
END $$;
\! printf 'hush\nhush' > "$AUTH_FILE"
SELECT pg_temp.says(:'file');
\! printf 'hush\0hush' > "$AUTH_FILE"
SELECT pg_temp.says(:'file');
\! printf 'hush\377' > "$AUTH_FILE"
SELECT pg_temp.says(:'file');
\! : > "$AUTH_FILE"
SELECT pg_temp.says(:'file');
\! head -c 70000 /dev/zero | tr '\0' x > "$AUTH_FILE"
SELECT pg_temp.says(:'file');
\! rm -f "$AUTH_FILE" "$AUTH_FILE.pem"
SELECT pg_temp.says('/dev/zero'), pg_temp.says('/tmp');
SELECT dmshook.alter_webhook('M', auth => '{"kind": "bearer", "token_file": "/nonexistent/token"}');
SELECT dmshook.alter_webhook('M', auth => '{"kind": "bearer", "token_file": "postgresql.conf"}');
SELECT dmshook.alter_webhook('M', auth => '{"kind": "bearer", "token_file": 7}');
SELECT dmshook.alter_webhook('M', auth => '{"kind": "bearer", "token": "hush", "token_file": "/nonexistent/token"}');
SELECT dmshook.alter_webhook('M', auth => '{"kind": "bearer", "password_file": "/nonexistent/token"}');
-- fail: who may not read the server's files, though the function runs as its owner
CREATE ROLE auth_admin;
GRANT USAGE ON SCHEMA dmshook TO auth_admin;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dmshook TO auth_admin;
SET ROLE auth_admin;
SELECT dmshook.alter_webhook('M', auth => '{"kind": "bearer", "token_file": "/nonexistent/token"}');
RESET ROLE;
GRANT pg_read_server_files TO auth_admin;
SET ROLE auth_admin;
SELECT dmshook.alter_webhook('M', auth => '{"kind": "bearer", "token_file": "/nonexistent/token"}');
RESET ROLE;

--
-- A webhook that moves takes no credentials along
--
SELECT dmshook.alter_webhook('M', auth => '{"kind": "bearer", "token": "hush"}', headers => '{"X-A": "hush"}');
SELECT dmshook.alter_webhook('M', url => 'https://EXAMPLE.com:443/elsewhere?x=1');
-- fail
SELECT dmshook.alter_webhook('M', url => 'https://example.org/m');
SELECT dmshook.alter_webhook('M', url => 'https://example.com:8443/m', auth => '{"kind": "bearer", "token": "hush"}');
SELECT dmshook.alter_webhook('M', url => 'https://example.com.example.org/m', headers => '{}');
SELECT dmshook.alter_webhook('M', url => 'https://example.com\@example.org/m');
-- ok
SELECT dmshook.alter_webhook('M', url => 'https://example.org/m', auth => '{"kind": "bearer", "token": "hush"}', headers => '{"X-A": "hush"}');
SELECT dmshook.alter_webhook('M', url => 'https://example.net/m', auth => '{"kind": "none"}', headers => '{}');
SELECT dmshook.alter_webhook('M', url => 'https://example.com/m');

-- none of it is told
SELECT webhook, what FROM dmshook.changes ORDER BY id;
SELECT count(*) FROM dmshook.changes c WHERE c::text ~ 'hush|to-ken|PRIVATE|CERTIFICATE';
SELECT count(*) FROM dmshook.webhook_version v WHERE v::text ~ 'hush|to-ken|PRIVATE|CERTIFICATE';
ROLLBACK;
