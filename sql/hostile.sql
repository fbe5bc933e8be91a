-- what people of bad intent put in the way: schemas before pg_catalog, operators, types, temporary tables, names, row security
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
BEGIN;
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.change; DELETE FROM dmshook.command; DELETE FROM dmshook.attempt;
CREATE ROLE reg_evil; CREATE ROLE reg_clerk;
SELECT dmshook.grant_admin('reg_evil');
GRANT CREATE ON SCHEMA public TO reg_evil;

-- each of these says so when it is called, and as whom
CREATE SCHEMA evil AUTHORIZATION reg_evil;
SET ROLE reg_evil;
CREATE FUNCTION evil.shout(name text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'EVIL: %', name; END $$;
DO $$
DECLARE
	o record;
BEGIN
	-- comparisons and concatenation of every common type
	FOR o IN SELECT op, t FROM unnest('{=,<>,<,>,<=,>=}'::text[]) op, unnest('{text,int4,int8,name,bool,timestamptz,jsonb,oid}'::text[]) t LOOP
		EXECUTE pg_catalog.format('CREATE FUNCTION evil.%I(pg_catalog.%s, pg_catalog.%s) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.shout(%L); RETURN false; END $f$', 'op' || o.op || o.t, o.t, o.t, o.op || ' of ' || o.t);
		EXECUTE pg_catalog.format('CREATE OPERATOR evil.%s (LEFTARG = pg_catalog.%s, RIGHTARG = pg_catalog.%s, FUNCTION = evil.%I)', o.op, o.t, o.t, 'op' || o.op || o.t);
	END LOOP;
	FOR o IN SELECT op, l, r, x FROM (VALUES ('||', 'text', 'text', 'text'), ('||', 'jsonb', 'jsonb', 'jsonb'), ('->>', 'jsonb', 'text', 'text'), ('->', 'jsonb', 'text', 'jsonb'),
			('~', 'text', 'text', 'bool'), ('!~', 'text', 'text', 'bool'), ('~~', 'text', 'text', 'bool'), ('@>', 'jsonb', 'jsonb', 'bool'), ('?', 'jsonb', 'text', 'bool'), ('+', 'int8', 'int8', 'int8'), ('-', 'int8', 'int8', 'int8')) v (op, l, r, x) LOOP
		EXECUTE pg_catalog.format('CREATE FUNCTION evil.%I(pg_catalog.%s, pg_catalog.%s) RETURNS pg_catalog.%s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.shout(%L); RETURN NULL; END $f$', 'op' || o.op || o.l, o.l, o.r, o.x, o.op || ' of ' || o.l);
		EXECUTE pg_catalog.format('CREATE OPERATOR evil.%s (LEFTARG = pg_catalog.%s, RIGHTARG = pg_catalog.%s, FUNCTION = evil.%I)', o.op, o.l, o.r, 'op' || o.op || o.l);
	END LOOP;
	-- functions
	FOR o IN SELECT f, a, x FROM (VALUES ('lower', 'text', 'text'), ('btrim', 'text', 'text'), ('now', '', 'timestamptz'), ('clock_timestamp', '', 'timestamptz'), ('length', 'text', 'int'), ('concat_ws', 'text, variadic text[]', 'text'),
			('array_remove', 'text[], text', 'text[]'), ('array_to_string', 'text[], text', 'text'), ('format', 'text, variadic text[]', 'text'), ('cardinality', 'text[]', 'int'), ('to_json', 'text', 'json'), ('jsonb_typeof', 'jsonb', 'text'),
			('unnest', 'text[]', 'setof text'), ('count', 'text', 'bigint'), ('has_function_privilege', 'text, text', 'boolean'), ('set_config', 'text, text, boolean', 'text'), ('quote_ident', 'text', 'text')) v (f, a, x) LOOP
		EXECUTE pg_catalog.format('CREATE FUNCTION evil.%s(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.shout(%L); %s END $f$', o.f, o.a, o.x, o.f, CASE WHEN o.x LIKE 'setof%' THEN '' ELSE 'RETURN NULL;' END);
	END LOOP;
END
$$;
-- types of the same names
CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.shout('type text') IS NULL);
CREATE DOMAIN evil.jsonb AS pg_catalog.jsonb CHECK (evil.shout('type jsonb') IS NULL);
CREATE TABLE evil.pg_class (oid oid, relname name);
CREATE TABLE evil.pg_roles (rolname name, rolsuper boolean, oid oid);
CREATE TABLE evil.event (id bigint);
CREATE TABLE public.reg_car (id int PRIMARY KEY, status pg_catalog.text, price numeric, sold_at date);
CREATE FUNCTION public.reg_who(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'condition as %, path %', CASE current_user OPERATOR(pg_catalog.=) session_user WHEN true THEN 'the superuser' ELSE current_user END, current_setting('search_path'); RETURN $1 OPERATOR(pg_catalog.=) 'sold'; END $$;
GRANT ALL ON public.reg_car TO reg_clerk;
GRANT USAGE ON SCHEMA evil TO reg_clerk;
RESET ROLE;
-- they would be called
SET search_path = evil, pg_catalog, public;
SELECT 1 FROM (SELECT 'a'::pg_catalog.text) s (x) WHERE x = x;
RESET search_path;

--
-- by an admin, by a clerk and by a superuser with that path: nothing of it is called
--
CREATE FUNCTION pg_temp.everything() RETURNS SETOF pg_catalog.text LANGUAGE plpgsql AS $$
DECLARE
	m pg_catalog.text;
	n pg_catalog.int8;
BEGIN
	PERFORM dmshook.define_event_type('part.ordered', 'part', 'A part was ordered');
	PERFORM dmshook.create_webhook('E', 'https://example.com/a', '{*}', auth => '{"kind": "basic", "username": "u", "password": "p"}', headers => '{"X-A": "1"}', filter => '$.data.record.price >= 0', enabled => true);
	PERFORM dmshook.alter_webhook('E', events => '{vehicle.*,part.*}', options => '{"timeout": "9s"}', tenant => 'Leeds');
	PERFORM dmshook.alter_webhook('E', tenant => '', filter => '');
	PERFORM dmshook.pause_webhook('E');
	PERFORM dmshook.resume_webhook('E');
	PERFORM dmshook.disable_webhook('E', 'why not');
	PERFORM dmshook.enable_webhook('E');
	m := dmshook.emit('part.ordered', 'part', '{"id": 1}', '{"price": 5}');
	PERFORM dmshook.preview('E', 'part.ordered');
	PERFORM dmshook.signing_secret('E');
	PERFORM dmshook.explain('E', m);
	PERFORM dmshook.retry_schedule('E');
	PERFORM dmshook.replay('E', pg_catalog.now());
	PERFORM dmshook.redeliver_dead('E');
	PERFORM dmshook.cancel('E', m);
	PERFORM dmshook.cancel_all('E');
	PERFORM dmshook.check();
	BEGIN
		PERFORM dmshook.watch_vehicle('public.reg_car', sold_when => 'public.reg_who(status)', added_values => '{stock}', exclude => '{price}');
		PERFORM dmshook.watch('public.reg_car', 'part.ordered', 'update', condition => 'price OPERATOR(pg_catalog.>) 5');
		INSERT INTO public.reg_car VALUES (1, 'stock', 1), (2, 'sold', 2);
		UPDATE public.reg_car SET status = 'sold', price = 6 WHERE id OPERATOR(pg_catalog.=) 1;
		PERFORM dmshook.unwatch('public.reg_car');
		DELETE FROM public.reg_car;
	EXCEPTION WHEN insufficient_privilege THEN
		RETURN NEXT 'watch: ' OPERATOR(pg_catalog.||) sqlerrm;
	END;
	FOR m IN SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) 'dmshook'::pg_catalog.regnamespace
		AND c.relkind OPERATOR(pg_catalog.=) 'v' AND pg_catalog.substr(c.relname::pg_catalog.text, 1, 1) OPERATOR(pg_catalog.<>) '_'
	LOOP
		EXECUTE pg_catalog.format('SELECT pg_catalog.count(v.*) FROM dmshook.%I v', m) INTO n;
	END LOOP;
	PERFORM dmshook.drop_webhook('E');
	RETURN NEXT 'done';
END
$$;
GRANT USAGE ON SCHEMA dmshook TO reg_clerk;
SET search_path = evil, pg_catalog, public;
SELECT * FROM pg_temp.everything();
SET ROLE reg_evil;
SELECT * FROM pg_temp.everything();
RESET ROLE;
-- the DMS's writer, whose path is bad, on a table whose owner wrote the condition; and a superuser
SET ROLE reg_evil;
SELECT pg_catalog.count(*) FROM dmshook.watch_vehicle('public.reg_car', sold_when => 'public.reg_who(status)');
SET ROLE reg_clerk;
INSERT INTO public.reg_car VALUES (3, 'sold');
RESET ROLE;
INSERT INTO public.reg_car VALUES (4, 'sold');
SELECT dmshook.grant_viewer('reg_clerk'), dmshook.revoke_all('reg_clerk');
RESET search_path;
-- temporary tables in place of the catalogue's, and of ours
CREATE TEMP TABLE pg_class (LIKE pg_catalog.pg_class); CREATE TEMP TABLE pg_roles (rolname name, rolsuper boolean, oid oid); CREATE TEMP TABLE webhook (name text); CREATE TEMP TABLE event (id bigint);
SET search_path = pg_temp, pg_catalog, public;
SELECT * FROM pg_temp.everything();
RESET search_path;
DROP TABLE pg_temp.pg_class, pg_temp.pg_roles, pg_temp.webhook, pg_temp.event;
DROP TABLE public.reg_car;

--
-- names
--
DELETE FROM dmshook.event;
\set q '\'Robert"; DROP TABLE reg_car; --\''
CREATE SCHEMA "odd ""schema"", 'x' $$";
CREATE TABLE "odd ""schema"", 'x' $$"."Robert'); DROP TABLE ""dmshook"".""event""; --
	next line, with # = ; [] \ % €" ("the, ""key""; #1 = [2]" int PRIMARY KEY, "new" text, "sta'tus #=;
" text, "%I %s $1 \" text, "naïve €" numeric);
SELECT quote_ident(nspname) || '.' || quote_ident(relname) AS rel FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname LIKE 'odd%' AND relkind = 'r' \gset
SELECT relname AS car FROM pg_class WHERE oid = :'rel'::regclass \gset
SELECT event_type, operation, condition, rows_now, hint FROM dmshook.watch_vehicle(:'rel', status_column => E'sta\'tus #=;\n', sold_values => ARRAY['so"ld'', ; [] #']::text[],
	exclude => ARRAY['%I %s $1 \'], key_names => ARRAY['k"e''y, ; #']::name[], tenant_column => 'naïve €', user_column => 'new');
INSERT INTO :rel VALUES (1, 'O''Brien "x" \ %', 'stock', 'never sent', 1);
UPDATE :rel SET "sta'tus #=;
" = 'so"ld'', ; [] #';
SELECT event_type, tenant, entity_key, user_name, record, previous FROM dmshook.events ORDER BY sequence;
SELECT data->'source' FROM (SELECT dmshook._payload(e, false)::json AS data FROM dmshook.event e ORDER BY id LIMIT 1) p;
SELECT relation::text = :'rel' AS it, event_type, condition, excluded, tenant_column FROM dmshook.watched;
SELECT event_type, rows_now, hint FROM dmshook.watch(:'rel', 'vehicle.sold', 'update', columns => ARRAY['%I %s $1 \']::name[], condition => '"new" <> ''it"''''s'' AND "naïve €" > 1', related => NULL);
UPDATE :rel SET "%I %s $1 \" = 'y', "naïve €" = 2;
SELECT event_type, tenant FROM dmshook.events ORDER BY sequence DESC LIMIT 1;
SELECT dmshook.unwatch(:'rel', 'vehicle.sold');
SELECT dmshook.unwatch(:'rel');
SELECT count(*) FROM dmshook.watched;
-- fail, and no more than that
SELECT dmshook.watch_vehicle(:'rel', status_column => $$x'); DROP TABLE dmshook.event; --$$);
SELECT dmshook.watch(:'rel', 'vehicle.sold', 'update', condition => 'true); DROP TABLE dmshook.event; --');
SELECT dmshook.watch(:'rel', 'vehicle.sold', 'update', condition => '"new" IN (SELECT rolname FROM pg_roles)');
SELECT dmshook.watch(:'rel', $$x'; DROP TABLE dmshook.event; --$$, 'update');
SELECT webhook FROM dmshook.create_webhook(:q, 'https://example.com/?a=%27;--', '{*}', tenant => :q, headers => '{"X-A": "'';--"}', enabled => true);
SELECT dmshook.disable_webhook(:q, :q), dmshook.enable_webhook(:q), dmshook.alter_webhook(:q, new_name => E'%s %I $1 \\ "é€"');
SELECT name, tenant, url FROM dmshook.webhooks;
SELECT what FROM dmshook.changes WHERE what LIKE '%renamed%' OR what LIKE 'disabled%';
SELECT count(*) FROM dmshook.event;
-- numbers of a jsonpath that would take long, or much: refused, or a filter that says no
SELECT dmshook.alter_webhook(E'%s %I $1 \\ "é€"', filter => '$.data.record.x like_regex "(a*)*b"');
SELECT dmshook.alter_webhook(E'%s %I $1 \\ "é€"', filter => '$.' || repeat('a.', 100000));

--
-- row security: the writer need not see, and the owner's policies are asked of nobody but who reads
--
CREATE TABLE public.reg_deal (id int PRIMARY KEY, status text, clerk text);
ALTER TABLE public.reg_deal OWNER TO reg_evil;
SET ROLE reg_evil;
CREATE FUNCTION public.reg_policy(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'policy as %', current_user; RETURN $1 = current_user; END $$;
ALTER TABLE public.reg_deal ENABLE ROW LEVEL SECURITY; ALTER TABLE public.reg_deal FORCE ROW LEVEL SECURITY;
CREATE POLICY reading ON public.reg_deal FOR SELECT USING (public.reg_policy(clerk));
CREATE POLICY writing ON public.reg_deal FOR INSERT WITH CHECK (true);
GRANT INSERT ON public.reg_deal TO reg_clerk;
SELECT event_type, rows_now FROM dmshook.watch_deal('public.reg_deal');
SET ROLE reg_clerk;
INSERT INTO public.reg_deal VALUES (1, 'enquiry', 'somebody else');
RESET ROLE;
SELECT event_type, user_role, record FROM dmshook.events WHERE entity = 'deal';
SET ROLE reg_evil;
-- only the rows that it may see are counted
SELECT event_type, operation, rows_now, hint FROM dmshook.watch_deal('public.reg_deal') WHERE event_type = 'deal.enquiry_created';
SELECT count(*) FROM dmshook.check();

--
-- a superuser who watches a table runs nothing of its owner's as himself
--
CREATE TABLE public.reg_job (id int PRIMARY KEY, status text);
INSERT INTO public.reg_job VALUES (1, 'done');
CREATE FUNCTION public.reg_grab(text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'asked as %', current_user;
	PERFORM set_config('search_path', 'evil', false);
	RESET ROLE;
	RAISE NOTICE 'became %', current_user;
	RETURN true;
EXCEPTION WHEN insufficient_privilege THEN
	RAISE NOTICE '%', sqlerrm;
	PERFORM set_config('search_path', 'evil', false);
	RETURN true;
END $$;
RESET ROLE;
SELECT event_type, rows_now FROM dmshook.watch_job('public.reg_job', invoiced_when => 'public.reg_grab(status)') WHERE event_type = 'job.invoiced' AND operation = 'insert';
SHOW search_path;
-- who could not become the owner asks as himself
SET ROLE reg_evil;
SELECT dmshook._as_owner('public.reg_job', 'SELECT current_user'), dmshook._as_owner('pg_class', 'SELECT current_user') AS not_his;
SELECT dmshook._as_owner('public.reg_job', 'DELETE FROM public.reg_job');
RESET ROLE;
ROLLBACK;
