-- who may what: the list, the grants, what viewers, admins, emitters and everybody can and cannot do
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on

--
-- The catalogue. A row here is a mistake: a function or view without an entry
-- in dmshook._rights() (70_privileges.sql), or an entry for nothing
--
SELECT coalesce(p.proname, r.name) AS name, CASE WHEN r.name IS NULL THEN 'is not in dmshook._rights()' ELSE 'is only in dmshook._rights()' END AS problem
	FROM (SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 'dmshook'::regnamespace
		UNION SELECT relname::text FROM pg_class WHERE relnamespace = 'dmshook'::regnamespace AND relkind IN ('v', 'm')) p
	FULL JOIN (SELECT DISTINCT name FROM dmshook._rights()) r ON r.name = p.proname
	WHERE p.proname IS NULL OR r.name IS NULL ORDER BY 1;
SELECT name FROM dmshook._rights() GROUP BY name HAVING count(*) > 1;
-- search_path is pinned, first pg_catalog, last pg_temp; or there is no SQL in it that is read under one
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'dmshook'::regnamespace AND p.prosqlbody IS NULL AND (l.lanname <> 'c' OR p.prosecdef)
	AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
	-- written for the caller's search_path; they run as their caller, and all names in them are qualified
	AND p.proname NOT IN ('watch_vehicle', 'watch_deal', 'watch_job', 'watch_customer', 'watch') ORDER BY 1;
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'dmshook'::regnamespace AND p.prosecdef AND p.proname LIKE 'watch%';
-- nothing for PUBLIC, nor for anybody: a function without an ACL would be everybody's
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'dmshook'::regnamespace
	AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee <> p.proowner));
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'dmshook'::regnamespace
	AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner);
SELECT a.grantee::regrole, a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'dmshook' AND a.grantee <> n.nspowner;
-- settings that anybody may set
SELECT name FROM pg_settings WHERE name LIKE 'dmshook.%' AND context = 'user';
-- what must not run as its owner does not: these judge their caller
SELECT proname FROM pg_proc WHERE pronamespace = 'dmshook'::regnamespace AND prosecdef
	AND proname IN ('claim_database', 'create_webhook', 'alter_webhook', 'grant_admin', 'grant_viewer', 'grant_emitter', 'revoke_all', '_note_caller', '_rows_now');
-- and what takes a note takes it first of all
SELECT proname FROM pg_proc WHERE pronamespace = 'dmshook'::regnamespace AND prosrc LIKE '%_noted_caller()%' AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c')
	AND (NOT prosecdef OR prosrc !~ '^\s*(#variable_conflict use_variable\s+)?DECLARE\s+caller\s+CONSTANT text := dmshook._noted_caller\(\)');

BEGIN;
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.change; DELETE FROM dmshook.command; DELETE FROM dmshook.attempt;
CREATE ROLE reg_viewer; CREATE ROLE reg_reader; CREATE ROLE "reg ""admin"""; CREATE ROLE reg_other_admin; CREATE ROLE reg_emitter; CREATE ROLE reg_nobody;
CREATE ROLE reg_member IN ROLE reg_viewer;
SELECT dmshook.grant_viewer('reg_viewer');
SELECT dmshook.grant_viewer('reg_reader', payloads => true);
SELECT dmshook.grant_admin('reg "admin"');
SELECT dmshook.grant_admin('reg_other_admin');
SELECT dmshook.grant_emitter('reg_emitter');
SELECT * FROM dmshook.grants ORDER BY role;
-- fail
SELECT dmshook.grant_viewer('reg_nowhere');
SELECT dmshook.grant_admin('public');
SELECT dmshook.grant_admin(NULL);
SELECT dmshook.revoke_all('reg_nowhere');
-- no table, no sequence, nothing beyond the list (but the payloads of who was granted them)
SELECT r.rolname, c.relname FROM pg_roles r, pg_class c WHERE r.rolname LIKE 'reg\_%' AND c.relnamespace = 'dmshook'::regnamespace AND c.relkind IN ('r', 'S', 'p', 't')
	AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(r.oid, c.oid, 'USAGE,SELECT,UPDATE')
		ELSE has_table_privilege(r.oid, c.oid, 'SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER') OR has_any_column_privilege(r.oid, c.oid, 'SELECT,INSERT,UPDATE,REFERENCES') END;
SELECT g.rolname, p.proname FROM (VALUES ('reg_viewer', 'v'), ('reg_reader', 'v'), ('reg "admin"', 'a'), ('reg_emitter', 'e'), ('reg_nobody', 'x')) AS g (rolname, letter), pg_proc p
	LEFT JOIN dmshook._rights() r ON r.name = p.proname
	WHERE p.pronamespace = 'dmshook'::regnamespace AND has_function_privilege(g.rolname, p.oid, 'EXECUTE') <> (strpos(r.who, g.letter) > 0);
SELECT rolname FROM pg_roles r WHERE rolname LIKE 'reg%' AND has_schema_privilege(r.oid, 'dmshook', 'CREATE');

CREATE FUNCTION pg_temp.as_role(role name, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', role);
	EXECUTE query INTO result;
	RESET ROLE;
	RETURN coalesce(result, '(null)');
EXCEPTION WHEN insufficient_privilege THEN
	RETURN sqlerrm;
END
$$;
CREATE TABLE public.reg_car (id int PRIMARY KEY, status text);
ALTER TABLE public.reg_car OWNER TO reg_other_admin;
SELECT count(*) FROM dmshook.create_webhook('A', 'https://example.com/a', '{*}', auth => '{"kind": "bearer", "token": "canary1"}', headers => '{"X-Key": "canary2"}', secret => 'whsec_Y2FuYXJ5M2NhbmFyeTNjYW5hcnkzY2FuYXJ5Mw==', enabled => true);
SELECT setval('dmshook.event_id', dmshook._last_event_id() + 1) AS id \gset
INSERT INTO dmshook.event (id, nonce, at, type, tenant, entity, key, who, source, data) VALUES
	(:id, 1, now(), 'customer.updated', 'Leeds', 'customer', '{"id": 7}', '{"name": "jane"}', '{}', '{"entity": "customer", "key": {"id": 7}, "record": {"email": "canary4"}, "previous": {"email": "canary5"}, "related": {"x": "canary6"}}');
INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, final, status, response_headers, response_body, duration_us)
	SELECT 1, w.id, :id, 1, now(), w.version, 1, 'd', 'o', 'd', 200, 'x-echo: canary7', 'canary8', 1000 FROM dmshook.webhook w;
INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, final, status, response_body, body)
	SELECT 2, w.id, 0, 1, now(), w.version, 1, 't', 'h', NULL, 500, 'canary8', '{"id": "canary9"}' FROM dmshook.webhook w;
-- errors of transforms and filters may quote what they were given
INSERT INTO dmshook.attempt (id, webhook, event, nonce, at, version, attempt, kind, outcome, final, error)
	SELECT 3, w.id, :id, 1, now(), w.version, 1, 'r', 'i', 'x', 'the transform public.f(jsonb) failed: no place for canary10' FROM dmshook.webhook w;
INSERT INTO dmshook.webhook_state (webhook, failures, failing_since, last_error) SELECT w.id, 1, now(), 'the filter failed: canary11' FROM dmshook.webhook w;
INSERT INTO dmshook.alert (webhook, kind, detail) SELECT w.id, 'failing', '{"error": "the filter failed: canary11"}' FROM dmshook.webhook w;

--
-- every view, by each: it works, and shows canaries only to whom payloads are shown
--
SELECT r.role, v.relname, left(pg_temp.as_role(r.role, format('SELECT (SELECT count(*) FROM dmshook.%1$I) >= 0 AND coalesce(bool_or(v::text ~ ''canary''), false) FROM dmshook.%1$I v', v.relname)), 60) AS sees_canaries
	FROM unnest('{reg_viewer,reg_member,reg_reader,"reg \"admin\"",reg_emitter,reg_nobody}'::name[]) WITH ORDINALITY AS r (role, n), pg_class v
	WHERE v.relnamespace = 'dmshook'::regnamespace AND v.relkind = 'v' AND v.relname NOT LIKE '\_%' ORDER BY r.n, v.relname;
SET ROLE reg_viewer;
SELECT webhook, state, payload FROM dmshook.deliveries;
SELECT webhook, kind, status, response_headers, response_body, payload FROM dmshook.attempts ORDER BY id;
SELECT entity_key, record, previous, related FROM dmshook.events;
-- a condition of its own sees no more
CREATE FUNCTION pg_temp.peep(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN IF $1 ~ 'canary' THEN RAISE NOTICE 'seen: %', $1; END IF; RETURN true; END $$;
SELECT count(*) FROM dmshook.deliveries d WHERE pg_temp.peep(d::text) AND pg_temp.peep(payload);
SELECT count(*) FROM dmshook.attempts d WHERE pg_temp.peep(d::text) AND pg_temp.peep(response_body);
SELECT count(*) FROM dmshook.events d WHERE pg_temp.peep(d::text) AND pg_temp.peep(record::text);
SELECT step, ok, detail FROM dmshook.explain('A', dmshook._message_id(:id, 1)) WHERE step LIKE 'attempt%' OR step LIKE 'redel%';
SELECT count(*) > 0 AS says, bool_or(c::text ~ 'canary') AS canary FROM dmshook.check() c;
SELECT error FROM dmshook.dead_letters;
SELECT detail FROM dmshook.alerts;
SELECT count(*) > 0 FROM dmshook.retry_schedule('A');
RESET ROLE;
-- every function, by each that may not: refused at once
SELECT r.role, count(*) > 15 AS several, string_agg(p.proname, ', ' ORDER BY p.proname) FILTER (WHERE a.answer !~ '^permission denied for (function|schema)') AS not_refused
	FROM (VALUES ('reg_viewer', 'v'), ('reg "admin"', 'a'), ('reg_emitter', 'e'), ('reg_nobody', 'x')) AS r (role, letter), pg_proc p JOIN dmshook._rights() k ON k.name = p.proname,
	LATERAL (SELECT pg_temp.as_role(r.role, format('SELECT dmshook.%I(%s)::text', p.proname, (SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ' ORDER BY o) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u (t, o)))) AS answer) a
	WHERE p.pronamespace = 'dmshook'::regnamespace AND strpos(k.who, r.letter) = 0 AND p.prorettype <> 'trigger'::regtype
	AND NOT p.proisstrict		-- NULL is their answer before they are called
	GROUP BY 1 ORDER BY 1;
-- tables
SELECT r.role, count(*) FILTER (WHERE pg_temp.as_role(r.role, format('SELECT count(*) FROM dmshook.%I', c.relname)) !~ '^permission denied') AS can_read
	FROM unnest('{reg_viewer,reg_reader,"reg \"admin\"",reg_emitter,reg_nobody}'::name[]) AS r (role), pg_class c
	WHERE c.relnamespace = 'dmshook'::regnamespace AND c.relkind = 'r' GROUP BY 1 ORDER BY 1;

--
-- an admin, who is neither owner nor superuser: everything works
--
SET ROLE "reg ""admin""";
SELECT webhook, hint FROM dmshook.create_webhook('B', 'https://example.com/b', '{vehicle.*}', auth => '{"kind": "bearer", "token": "canary"}', filter => '$.data.record.price > 1', enabled => true);
SELECT dmshook.alter_webhook('B', url => 'https://EXAMPLE.com/elsewhere');
-- fail: credentials are not taken elsewhere by who cannot read them (nor by anybody)
SELECT dmshook.alter_webhook('B', url => 'https://example.com:8443/b');
SELECT dmshook.alter_webhook('B', url => 'https://example.org/b', auth => NULL, headers => '{}');
SELECT dmshook.alter_webhook('A', url => 'https://example.org/b', auth => '{"kind": "none"}');
-- ok: all given again
SELECT dmshook.alter_webhook('B', url => 'https://example.org/b', auth => '{"kind": "bearer", "token": "other"}');
SELECT dmshook.pause_webhook('B'), dmshook.resume_webhook('B'), dmshook.disable_webhook('B');
SELECT dmshook.enable_webhook('B');
SELECT length(dmshook.signing_secret('B'));
SELECT method, url FROM dmshook.preview('B', 'customer.updated');
SELECT ok FROM dmshook.test_webhook('B');
SELECT left(dmshook.redeliver('A', dmshook._message_id(:id, 1)), 12);
SELECT dmshook.redeliver_dead('A'), dmshook.replay('A', now() - interval '1 hour'), dmshook.cancel('A', dmshook._message_id(:id, 1)), dmshook.cancel_all('A');
SELECT dmshook.define_event_type('part.ordered', 'part', 'A part was ordered');
SELECT length(dmshook.emit('part.ordered', 'part', '{"id": 1}', '{}'));
SELECT dmshook.acknowledge(0);
SELECT count(*) > 0 FROM dmshook.check();
SELECT dmshook.drop_webhook('B');
-- fail: not its own
SELECT dmshook.claim_database('takeover');
SELECT dmshook.grant_admin('reg_nobody');
SELECT event_type FROM dmshook.watch_vehicle('public.reg_car');
SELECT dmshook.unwatch('public.reg_car');
SELECT dmshook._set_triggers('public.reg_car', '{"vehicle.added: always"}', '{}', '{}');
SELECT dmshook._note_caller(), dmshook._set_triggers('public.reg_car', '{"entity: vehicle", "vehicle.added: always"}', '{}', '{}');
SELECT dmshook._create_webhook('C', 'https://example.com', '{*}', 'POST', NULL, NULL, NULL, NULL, NULL, false, NULL);
RESET ROLE;
SELECT by_role, webhook, regexp_replace(what, 'msg_\w+', 'msg_') AS what FROM dmshook.changes WHERE by_role LIKE 'reg%' AND what NOT LIKE 'replay%' ORDER BY id;
SELECT count(*) FROM dmshook.changes WHERE what ~ 'canary';
-- a table of its own; the trigger's condition is the owner's, so TRIGGER on the table is not enough
SET ROLE reg_other_admin;
SELECT event_type, trigger_name FROM dmshook.watch_vehicle('public.reg_car');
GRANT TRIGGER ON public.reg_car TO "reg ""admin""";
RESET ROLE;
SET ROLE "reg ""admin""";
CREATE TRIGGER mine AFTER INSERT ON public.reg_car FOR EACH ROW EXECUTE FUNCTION dmshook.capture('entity: vehicle', 'vehicle.added: always');
RESET ROLE;
SET ROLE reg_other_admin;
INSERT INTO public.reg_car VALUES (1, 'sold');
SELECT dmshook.unwatch('public.reg_car');
RESET ROLE;
SELECT event_type, user_role FROM dmshook.events WHERE entity = 'vehicle' ORDER BY sequence;
SELECT user_role IS NOT NULL FROM dmshook.events WHERE event_type = 'part.ordered';

--
-- transforms run as the role that set them last, at the door
--
CREATE FUNCTION public.reg_shape(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION public.reg_mine(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
ALTER FUNCTION public.reg_mine(jsonb) OWNER TO reg_other_admin;
SET ROLE "reg ""admin""";
SELECT webhook FROM dmshook.create_webhook('T', 'https://example.com/t', '{*}', options => '{"transform": "public.reg_shape"}');
-- fail: whom it belongs to could do as the role that sets it
SELECT dmshook.alter_webhook('T', options => '{"transform": "public.reg_mine"}');
RESET ROLE;
SELECT transform_role FROM dmshook.webhook WHERE name = 'T';
-- the same function by another admin: another role, and another version
SET ROLE reg_other_admin;
SELECT dmshook.alter_webhook('T', options => '{"transform": "public.reg_shape"}');
SELECT dmshook.alter_webhook('T', options => '{"transform": "public.reg_shape"}');
RESET ROLE;
SELECT w.transform_role, count(*) AS versions FROM dmshook.webhook w JOIN dmshook.webhook_version v ON v.webhook = w.id WHERE w.name = 'T' GROUP BY 1;
SELECT what FROM dmshook.changes WHERE webhook = 'T' ORDER BY id;
-- fail: a superuser would run what another may change
CREATE ROLE reg_super SUPERUSER;
SET ROLE reg_super;
SELECT dmshook.alter_webhook('T', options => '{"transform": "public.reg_mine"}');
RESET ROLE;
-- as a function of somebody else, called by a superuser: that somebody's role, not the superuser's
SET ROLE reg_other_admin;
CREATE FUNCTION pg_temp.trap() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT dmshook.alter_webhook('T', options => '{"transform": "public.reg_mine"}') $$;
RESET ROLE;
SELECT pg_temp.trap();
SELECT transform_role FROM dmshook.webhook WHERE name = 'T';
-- a note is taken once, and not out of another subtransaction
SET ROLE reg_other_admin;
SAVEPOINT s;
SELECT dmshook._note_caller();
RELEASE s;
SELECT dmshook._set_triggers('public.reg_car', '{}', '{}', '{}');
RESET ROLE;

--
-- an emitter
--
SET ROLE reg_emitter;
SELECT length(dmshook.emit('vehicle.sold', 'vehicle', '{"id": 1}', '{"price": 1}'));
-- fail
SELECT dmshook.emit('webhook.disabled', 'webhook', '{}', '{}');
SELECT * FROM dmshook.events;
SELECT dmshook.check();
RESET ROLE;

--
-- taken away
--
SELECT dmshook.grant_viewer('reg_reader'), dmshook.grant_viewer('reg "admin"');
SELECT dmshook.revoke_all('reg_other_admin');
SELECT dmshook.revoke_all('reg_emitter'), dmshook.revoke_all('reg_member');
SELECT * FROM dmshook.grants ORDER BY role;
SELECT pg_temp.as_role('reg_other_admin', 'SELECT count(*) FROM dmshook.webhooks'), pg_temp.as_role('reg_reader', 'SELECT payload FROM dmshook.deliveries WHERE sequence = ' || :id);
ROLLBACK;
