/*
 * Which rows raise which events. The rules are the arguments of one trigger
 * per table and operation; src/capture_rules.c has their grammar.
 *
 * The functions that people call run as they are called, for a condition is
 * written for the caller's search_path; all names in them are qualified.
 * What they call next has a fixed search_path. Only the table's owner may
 * have a trigger made: its condition, and what it reads of related rows, is his
 * (capture_condition.c). So nobody but dmshook's owner may use capture()
 * in a CREATE TRIGGER of his own, for that takes no more than the TRIGGER privilege;
 * _set_triggers() does it, for whom the table belongs to.
 */
CREATE FUNCTION dmshook.capture() RETURNS trigger
	AS 'MODULE_PATHNAME', 'dmshook_capture' LANGUAGE C;
COMMENT ON FUNCTION dmshook.capture IS 'the trigger that raises events; made by dmshook.watch_vehicle() and its like';

CREATE FUNCTION dmshook.emit(event_type text, entity text, key jsonb, record jsonb, previous jsonb DEFAULT NULL, tenant text DEFAULT NULL)
	RETURNS text AS 'MODULE_PATHNAME', 'dmshook_emit' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION dmshook.emit IS 'raise an event by hand, in this transaction; returns its message id';

CREATE FUNCTION dmshook._watchable(rel regclass) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_watchable' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._watchable IS 'kind of a table that can be watched by the caller; else an error';

CREATE FUNCTION dmshook._column_refs(rel regclass, columns text[]) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_column_refs' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._column_refs IS 'columns as a trigger''s arguments name them: by name and number';

CREATE FUNCTION dmshook._quote_item(item text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_quote_item' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION dmshook._quote_item IS 'a name or value as a trigger''s arguments write it';

CREATE FUNCTION dmshook._rule_test(rel regclass, column_name name, vals text[], condition text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_rule_test' LANGUAGE C STABLE;
COMMENT ON FUNCTION dmshook._rule_test IS 'a condition, or a column and its values, as a trigger''s arguments write it; NULL: neither';

CREATE FUNCTION dmshook._event_entity(event_type text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_event_entity' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._event_entity IS 'entity of an event type; an error with the nearest one where there is none';

CREATE FUNCTION dmshook._trigger_args(args bytea) RETURNS text[]
	AS 'MODULE_PATHNAME', 'dmshook_sql_trigger_args' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION dmshook._trigger_args IS 'pg_trigger.tgargs as texts';

CREATE FUNCTION dmshook._rules(rel oid, args text[], wait boolean = true, OUT event_type text, OUT condition text, OUT columns name[], OUT excluded name[],
	OUT tenant_column name, OUT predicate text, OUT tested name, OUT vals text[], OUT problem text) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'dmshook_sql_rules' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._rules IS 'the rules in a trigger''s arguments, as people read them; not wait: a problem, where the table is locked';

CREATE VIEW dmshook.watched AS
	SELECT t.tgrelid::pg_catalog.regclass AS relation,
		r.event_type,
		CASE WHEN t.tgtype & 4 <> 0 THEN 'insert' WHEN t.tgtype & 8 <> 0 THEN 'delete' ELSE 'update' END AS operation,
		r.condition, r.columns, r.excluded, r.tenant_column,
		t.tgname AS trigger_name,
		t.tgenabled IN ('O', 'A') AS enabled,
		CASE WHEN t.tgenabled NOT IN ('O', 'A') THEN 'the trigger is disabled: ALTER TABLE ... ENABLE TRIGGER' ELSE r.problem END AS hint
	FROM pg_catalog.pg_trigger t
	CROSS JOIN LATERAL dmshook._rules(t.tgrelid, dmshook._trigger_args(t.tgargs), false) WITH ORDINALITY AS r
	WHERE t.tgfoid = 'dmshook.capture'::pg_catalog.regproc AND t.tgparentid = 0
	ORDER BY t.tgrelid::pg_catalog.regclass::text, t.tgname <> '00_dmshook_insert', t.tgname <> '00_dmshook_update', r.ordinality;
COMMENT ON VIEW dmshook.watched IS 'which rows raise which events';
COMMENT ON COLUMN dmshook.watched.relation IS 'the table';
COMMENT ON COLUMN dmshook.watched.operation IS 'insert, update or delete';
COMMENT ON COLUMN dmshook.watched.condition IS 'when: always; changed columns; becomes (true now and not before); leaves (true before and not now); is; not';
COMMENT ON COLUMN dmshook.watched.columns IS 'the columns that are looked at';
COMMENT ON COLUMN dmshook.watched.excluded IS 'the columns that are never sent';
COMMENT ON COLUMN dmshook.watched.tenant_column IS 'the branch or dealership of a row; NULL: the table''s schema is the tenant';
COMMENT ON COLUMN dmshook.watched.hint IS 'what is wrong with it, and what follows; NULL: nothing';

CREATE FUNCTION dmshook.define_event_type(event_type text, entity text, description text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	IF event_type IS NULL OR entity IS NULL OR description IS NULL THEN
		RAISE 'event_type, entity and description must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF define_event_type.event_type !~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$' OR octet_length(define_event_type.event_type) > 100 THEN
		RAISE 'malformed event type "%"', define_event_type.event_type USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write an entity and what happened to it, in small letters: part.ordered';
	END IF;
	IF define_event_type.entity !~ '^[a-z][a-z0-9_]*$' THEN
		RAISE 'malformed entity "%"', define_event_type.entity USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use small letters, digits and underscores: part';
	END IF;
	IF define_event_type.event_type LIKE 'webhook.%' OR EXISTS (SELECT FROM dmshook.event_type t WHERE t.name = define_event_type.event_type AND t.builtin) THEN
		RAISE 'event type "%" is dmshook''s own', define_event_type.event_type USING ERRCODE = 'duplicate_object',
			HINT = 'Choose another name.';
	END IF;
	INSERT INTO dmshook.event_type AS t (name, entity, description)
		VALUES (define_event_type.event_type, define_event_type.entity, define_event_type.description)
		ON CONFLICT (name) DO UPDATE SET entity = excluded.entity, description = excluded.description
			WHERE (t.entity, t.description) IS DISTINCT FROM (excluded.entity, excluded.description);
	PERFORM dmshook._claim_if_new();
END
$$;
COMMENT ON FUNCTION dmshook.define_event_type IS 'add an event type to the catalogue, or change its entity and description';

/* Foreign keys and the columns wanted of the rows behind them, as a trigger's arguments name them. */
CREATE FUNCTION dmshook._related_args(rel regclass, related jsonb) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	example constant text := 'Name foreign keys, and for each the columns to send: {"status_id": ["code", "name"]}';
	wanted record;
	columns text[];
	key record;
	keys int;
	result text[] := '{}';
BEGIN
	IF jsonb_typeof(related) <> 'object' OR related = '{}' THEN
		RAISE 'related must be an object with a foreign key in it' USING ERRCODE = 'invalid_parameter_value', HINT = example;
	END IF;
	FOR wanted IN SELECT e.key AS name, e.value AS list FROM jsonb_each(related) e LOOP
		IF jsonb_typeof(wanted.list) <> 'array' OR wanted.list = '[]' OR jsonb_path_exists(wanted.list, 'strict $[*] ? (@.type() <> "string")') THEN
			RAISE 'related "%" must be a list of columns', wanted.name USING ERRCODE = 'invalid_parameter_value', HINT = example;
		END IF;
		/* a foreign key of several columns: "branch,number" */
		columns := CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = rel AND a.attname = wanted.name AND NOT a.attisdropped)
			THEN ARRAY[wanted.name] ELSE regexp_split_to_array(btrim(wanted.name), '\s*,\s*') END;
		PERFORM dmshook._column_refs(rel, columns);
		/* clones for the partitions of the other table do not count */
		SELECT f.*, count(*) OVER () AS n INTO key FROM (
			SELECT DISTINCT c.confrelid, c.confkey,
				ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, o), pg_attribute a WHERE a.attrelid = rel AND a.attnum = k.n ORDER BY k.o) AS names
			FROM pg_constraint c
			WHERE c.conrelid = rel AND c.contype = 'f'
				AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = c.conparentid AND p.conrelid = rel)) f
			WHERE f.names @> columns AND f.names <@ columns AND cardinality(f.names) = cardinality(columns);
		keys := coalesce(key.n, 0);
		IF keys <> 1 THEN
			RAISE '%', CASE keys WHEN 0 THEN format('there is no foreign key on column "%s" of table "%s"', array_to_string(columns, ','), rel)
				ELSE format('column "%s" of table "%s" has foreign keys to different tables', array_to_string(columns, ','), rel) END
				USING ERRCODE = 'invalid_parameter_value',
				HINT = coalesce('Foreign keys of this table: ' || (SELECT string_agg(DISTINCT format('%s to %s', (SELECT string_agg(a.attname, ',' ORDER BY k.o)
						FROM unnest(c.conkey) WITH ORDINALITY k(n, o), pg_attribute a WHERE a.attrelid = rel AND a.attnum = k.n), c.confrelid::regclass), ', ')
					FROM pg_constraint c WHERE c.conrelid = rel AND c.contype = 'f'), 'This table has no foreign keys; a receiver can look rows up by what is in the record.');
		END IF;
		result := result || format('related: %s = %s.%s#%s; %s; %s',
			dmshook._column_refs(rel, columns),
			dmshook._quote_item((SELECT n.nspname FROM pg_class c, pg_namespace n WHERE c.oid = key.confrelid AND n.oid = c.relnamespace)),
			dmshook._quote_item((SELECT c.relname FROM pg_class c WHERE c.oid = key.confrelid)),
			key.confrelid::oid,
			dmshook._column_refs(key.confrelid, ARRAY(SELECT a.attname::text FROM unnest(key.confkey, key.names) k(n, name), pg_attribute a
				WHERE a.attrelid = key.confrelid AND a.attnum = k.n ORDER BY array_position(columns, k.name))),
			dmshook._column_refs(key.confrelid, ARRAY(SELECT jsonb_array_elements_text(wanted.list))));
	END LOOP;
	RETURN result;
END
$$;
COMMENT ON FUNCTION dmshook._related_args IS 'rows behind foreign keys as a capture trigger''s arguments name them';

/* The arguments that say what is sent of a row, and whose it is. */
CREATE FUNCTION dmshook._watch_head(rel regclass, entity text, key_columns name[], key_names name[], include name[], exclude name[],
	tenant_column name, user_column name, related jsonb) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	head text[];
	keys name[] := key_columns;
	part text;
BEGIN
	PERFORM dmshook._watchable(rel);
	IF keys IS NULL THEN
		SELECT array_agg(a.attname ORDER BY k.ordinality) INTO keys
			FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ordinality), pg_attribute a
			WHERE i.indrelid = rel AND i.indisprimary AND a.attrelid = rel AND a.attnum = k.attnum;
	END IF;
	IF coalesce(cardinality(keys), 0) = 0 THEN
		RAISE 'table "%" has no primary key', rel USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Say which columns tell its rows apart: key_columns => ''{id}''';
	END IF;
	IF key_names IS NOT NULL AND cardinality(key_names) <> cardinality(keys) THEN
		RAISE 'key_names has % names for % key columns', cardinality(key_names), cardinality(keys) USING ERRCODE = 'invalid_parameter_value',
			HINT = format('Give one name for each of: %s', array_to_string(keys, ', '));
	END IF;
	IF (SELECT count(DISTINCT n) <> count(*) FROM unnest(coalesce(key_names, keys)) n) THEN
		RAISE 'a name stands twice in the key' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Give every key column a name of its own.';
	END IF;
	head := ARRAY['entity: ' || entity, 'table: ' || rel::oid];
	FOR i IN 1 .. cardinality(keys) LOOP
		part := concat_ws(', ', part, dmshook._column_refs(rel, ARRAY[keys[i]::text]) || coalesce(' as ' || dmshook._quote_item(key_names[i]), ''));
		IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = rel AND a.attname = keys[i] AND a.atttypid = 'json'::regtype) THEN
			RAISE 'column "%" is json and cannot be part of a key', keys[i] USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Use a column that tells rows apart, or jsonb.';
		END IF;
	END LOOP;
	head := head || ('key: ' || part);
	IF include IS NOT NULL THEN
		IF cardinality(include) = 0 THEN
			RAISE 'include must name columns' USING ERRCODE = 'invalid_parameter_value',
				HINT = 'NULL sends all columns but the excluded ones.';
		END IF;
		head := head || ('include: ' || dmshook._column_refs(rel, include::text[]));
	END IF;
	IF cardinality(exclude) > 0 THEN
		head := head || ('exclude: ' || dmshook._column_refs(rel, exclude::text[]));
	END IF;
	IF tenant_column IS NOT NULL THEN
		head := head || ('tenant: ' || dmshook._column_refs(rel, ARRAY[tenant_column::text]));
	END IF;
	IF user_column IS NOT NULL THEN
		head := head || ('user: ' || dmshook._column_refs(rel, ARRAY[user_column::text]));
	END IF;
	IF related IS NOT NULL THEN
		head := head || dmshook._related_args(rel, related);
		SELECT r.problem INTO part FROM dmshook._rules(rel, head || 'x.y: always'::text) r WHERE r.problem LIKE '%: related rows are not sent';
		IF part IS NOT NULL THEN
			RAISE '%', part USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Related rows are read by a plain table''s unique index, and only what the watched table''s owner may read: GRANT SELECT on these columns to the owner, or leave them out of related.';
		END IF;
	END IF;
	RETURN head;
END
$$;
COMMENT ON FUNCTION dmshook._watch_head IS 'the arguments of a capture trigger that say what is sent of a row';

/* A trigger's arguments without the rules of an event type, and without groups that are left empty. */
CREATE FUNCTION dmshook._without_type(args text[], event_type text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	result text[] := '{}';
	pending text[] := '{}';
	has_rule boolean := false;
	arg text;
BEGIN
	FOREACH arg IN ARRAY args || 'entity: '::text LOOP
		IF arg LIKE 'entity: %' THEN
			IF has_rule THEN
				result := result || pending;
			END IF;
			pending := '{}';
			has_rule := false;
		END IF;
		IF arg = 'moves: paired' OR starts_with(arg, event_type || ': ') THEN
			CONTINUE;
		END IF;
		has_rule := has_rule OR split_part(arg, ':', 1) LIKE '%.%';
		pending := pending || arg;
	END LOOP;
	RETURN result;
END
$$;
COMMENT ON FUNCTION dmshook._without_type IS 'a capture trigger''s arguments without the rules of an event type';

/* Create, replace or drop the trigger of one operation. */
CREATE FUNCTION dmshook._set_trigger(rel regclass, operation text, args text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	trigger_name text := '00_dmshook_' || operation;
	old text[];
	fires "char";
BEGIN
	SELECT dmshook._trigger_args(t.tgargs), t.tgenabled INTO old, fires FROM pg_trigger t WHERE t.tgrelid = rel AND t.tgname = trigger_name;
	IF cardinality(args) = 0 THEN
		IF old IS NOT NULL THEN
			EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, rel);
		END IF;
	ELSIF old IS DISTINCT FROM args OR fires NOT IN ('O', 'A') THEN
		EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s FOR EACH ROW EXECUTE FUNCTION dmshook.capture(%s)',
			trigger_name, upper(operation), rel, (SELECT string_agg(quote_literal(a), ', ' ORDER BY n) FROM unnest(args) WITH ORDINALITY u(a, n)));
		-- somebody wants it on a subscriber, too
		IF fires = 'A' THEN
			EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', rel, trigger_name);
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook._set_trigger IS 'create, replace or drop the capture trigger of one operation';

/*
 * Put the triggers of a table in place: three sets of arguments. The lock that
 * CREATE TRIGGER takes waits for open writers, and stops the others behind it: so it
 * must not wait for long.
 */
CREATE FUNCTION dmshook._set_triggers(rel regclass, inserts text[], updates text[], deletes text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' SET client_min_messages = warning AS $$
DECLARE
	caller CONSTANT text := dmshook._noted_caller();	-- first of all
BEGIN
	IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = rel AND pg_has_role(caller, c.relowner, 'USAGE')) THEN
		RAISE 'must be owner of table "%" to watch it', rel USING ERRCODE = 'insufficient_privilege',
			HINT = 'Call dmshook.watch...() as its owner, or as a superuser.';
	END IF;
	/* halves of moves between partitions find each other through all three triggers */
	IF (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = rel) AND cardinality(inserts || updates || deletes) > 0 THEN
		inserts := array_prepend('moves: paired', inserts);
		updates := array_prepend('moves: paired', updates);
		deletes := array_prepend('moves: paired', deletes);
	END IF;
	PERFORM dmshook._set_trigger(rel, 'insert', inserts);
	PERFORM dmshook._set_trigger(rel, 'update', updates);
	PERFORM dmshook._set_trigger(rel, 'delete', deletes);
EXCEPTION WHEN lock_not_available THEN
	RAISE 'table "%" is in use: its lock could not be had within 2 seconds', rel USING ERRCODE = 'lock_not_available',
		HINT = 'Nothing was changed. A transaction that wrote to it is still open (see pg_stat_activity); try again when it has ended.';
END
$$;
COMMENT ON FUNCTION dmshook._set_triggers IS 'put the capture triggers of a table in place';

/* The arguments of a table's capture trigger for an operation; {} where there is none. */
CREATE FUNCTION dmshook._trigger_rules(rel regclass, operation text) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce((SELECT dmshook._trigger_args(t.tgargs) FROM pg_trigger t
		WHERE t.tgrelid = rel AND t.tgname = '00_dmshook_' || operation AND t.tgfoid = 'dmshook.capture'::regproc), '{}')
$$;
COMMENT ON FUNCTION dmshook._trigger_rules IS 'arguments of a table''s capture trigger';

CREATE FUNCTION dmshook._as_owner(rel regclass, query text) RETURNS text
	AS 'MODULE_PATHNAME', 'dmshook_sql_as_owner' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION dmshook._as_owner IS 'the text that a query gives, asked as the owner of a table; as the caller where that one could not become the owner';

/*
 * Count the rows for which each rule is true now, and where no row has a status
 * that a rule waits for, say which there are.
 */
CREATE FUNCTION dmshook._rows_now(rel regclass, args text[], only_types text[], OUT event_type text, OUT condition text, OUT rows_now bigint, OUT hint text)
	RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	source text := format(CASE WHEN (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = rel) THEN '%s' ELSE 'ONLY %s' END, rel);
	rule record;
	counts bigint[];
	queries text[] := '{}';
	common text;
	n int := 0;
BEGIN
	FOR rule IN SELECT * FROM dmshook._rules(rel, args) r WHERE r.event_type = ANY (only_types) LOOP
		queries := queries || CASE WHEN rule.predicate IS NULL THEN 'NULL::bigint' ELSE format('count(*) FILTER (WHERE %s)', rule.predicate) END;
	END LOOP;
	IF cardinality(queries) = 0 THEN
		RETURN;
	END IF;
	BEGIN
		counts := dmshook._as_owner(rel, format('SELECT ARRAY[%s, count(*)] FROM %s', array_to_string(queries, ', '), source))::bigint[];
	EXCEPTION WHEN OTHERS THEN
		counts := NULL;
		common := 'the rows could not be counted: ' || sqlerrm;
	END;
	FOR rule IN SELECT * FROM dmshook._rules(rel, args) r WHERE r.event_type = ANY (only_types) LOOP
		n := n + 1;
		event_type := rule.event_type;
		condition := rule.condition;
		rows_now := counts[n];
		hint := CASE WHEN rule.predicate IS NOT NULL THEN common END;
		IF rows_now = 0 AND rule.tested IS NOT NULL AND rule.condition LIKE 'becomes %' AND counts[cardinality(counts)] > 0 THEN
			hint := dmshook._as_owner(rel, format('SELECT string_agg(format(''%%s (%%s)'', coalesce(v, ''NULL''), c), '', '' ORDER BY c DESC, v)
				FROM (SELECT %I::text AS v, count(*) AS c FROM %s GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5) s', rule.tested, source));
			hint := format('no row has %s %s; most common: %s: pass %s', rule.tested,
				(SELECT string_agg(quote_literal(v), ' or ') FROM unnest(rule.vals) v), hint,
				CASE WHEN rule.event_type IN ('vehicle.sold', 'vehicle.added', 'deal.created', 'deal.completed', 'job.invoiced', 'job.completed')
					THEN split_part(rule.event_type, '.', 2) WHEN rule.event_type = 'deal.enquiry_created' THEN 'enquiry' ELSE 'other' END || '_values');
		END IF;
		IF rows_now = 0 AND hint IS NULL AND rule.tested IS NOT NULL THEN
			/* an empty table, but its type knows */
			SELECT format('no value of %s is %s; its values are: %s', rule.tested, array_to_string(rule.vals, ' or '), string_agg(l.enumlabel, ', ' ORDER BY l.enumsortorder)) INTO hint
				FROM pg_attribute a, pg_enum l
				WHERE a.attrelid = rel AND a.attname = rule.tested AND l.enumtypid = a.atttypid
				HAVING NOT bool_or(lower(l.enumlabel) = ANY (lower(rule.vals::text)::text[]));
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION dmshook._rows_now IS 'for how many rows each rule is true now, and a hint where that is none';

/*
 * Put rules in place and say what they are. rules: "insert vehicle.added: always".
 * only_type NULL: they replace all rules of the table; else those of that type.
 */
CREATE FUNCTION dmshook._watch(rel regclass, head text[], rules text[], only_type text,
	OUT event_type text, OUT operation text, OUT condition text, OUT trigger_name text, OUT rows_now bigint, OUT hint text)
	RETURNS SETOF record
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	kind text := dmshook._watchable(rel);
	operations constant text[] := '{insert,update,delete}';
	args text[];
	news text[] := '{}';
	lost text;
	about text;
	more text;
	result jsonb := '[]';
BEGIN
	IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = rel AND t.tgparentid <> 0 AND t.tgfoid = 'dmshook.capture'::regproc) THEN
		RAISE 'the table that "%" is a partition of is watched already', rel USING ERRCODE = 'duplicate_object',
			HINT = format('Call this for %s.', (SELECT relid FROM pg_partition_ancestors(rel) WITH ORDINALITY ORDER BY ordinality DESC LIMIT 1));
	END IF;
	SELECT string_agg(DISTINCT w.event_type, ', ') INTO lost FROM dmshook.watched w
		WHERE only_type IS NULL AND w.relation = rel AND NOT EXISTS (SELECT FROM unnest(rules) r WHERE split_part(split_part(r, ' ', 2), ':', 1) = w.event_type);
	IF lost IS NOT NULL THEN
		RAISE NOTICE 'rules of table "%" that were there before are gone: %', rel, lost;
	END IF;
	IF kind = 'parent' THEN
		about := 'rows of the tables that inherit from it raise nothing: watch each of these';
	END IF;
	/* watch() beside watch_vehicle(): what one leaves out the other may send */
	SELECT format('other events of this table leave out %s, these do not', string_agg(DISTINCT x::text, ', ')) INTO more
		FROM dmshook.watched w, unnest(w.excluded) x
		WHERE only_type IS NOT NULL AND w.relation = rel AND w.event_type <> only_type
			AND x <> ALL (SELECT unnest(r.excluded) FROM dmshook._rules(rel, head || substr(rules[1], strpos(rules[1], ' ') + 1)) r)
		HAVING count(*) > 0;
	about := concat_ws('; ', about, more);

	FOR i IN 1 .. 3 LOOP
		SELECT CASE WHEN count(*) = 0 THEN '{}' ELSE head || array_agg(substr(r, length(operations[i]) + 2) ORDER BY n) END INTO args
			FROM unnest(rules) WITH ORDINALITY u(r, n) WHERE starts_with(r, operations[i] || ' ');
		/* counted before the lock is taken */
		result := result || coalesce((SELECT jsonb_agg(jsonb_build_object('o', operations[i], 'e', c.event_type, 'c', c.condition, 'n', c.rows_now, 'h', c.hint))
			FROM dmshook._rows_now(rel, args, ARRAY(SELECT r.event_type FROM dmshook._rules(rel, args) r)) c), '[]');
		IF only_type IS NOT NULL THEN
			args := dmshook._without_type(dmshook._trigger_rules(rel, operations[i]), only_type) || args;
		END IF;
		news := news || jsonb_build_array(args)::text;
	END LOOP;
	PERFORM dmshook._claim_if_new();
	PERFORM dmshook._warn_not_preloaded();
	PERFORM dmshook._note_caller();
	PERFORM dmshook._set_triggers(rel,
		ARRAY(SELECT jsonb_array_elements_text(news[1]::jsonb -> 0)),
		ARRAY(SELECT jsonb_array_elements_text(news[2]::jsonb -> 0)),
		ARRAY(SELECT jsonb_array_elements_text(news[3]::jsonb -> 0)));
	RETURN QUERY SELECT r.e, r.o, r.c, '00_dmshook_' || r.o, r.n, nullif(concat_ws('; ', r.h, nullif(about, '')), '')
		FROM jsonb_to_recordset(result) AS r(o text, e text, c text, n bigint, h text);
END
$$;
COMMENT ON FUNCTION dmshook._watch IS 'put a table''s rules in place and say what they are';

CREATE FUNCTION dmshook.watch_vehicle(rel regclass, status_column name DEFAULT 'status', sold_values text[] DEFAULT '{sold}', sold_when text DEFAULT NULL,
	added_values text[] DEFAULT NULL, added_when text DEFAULT NULL,
	key_columns name[] DEFAULT NULL, key_names name[] DEFAULT NULL, include name[] DEFAULT NULL, exclude name[] DEFAULT '{}',
	tenant_column name DEFAULT NULL, user_column name DEFAULT NULL, related jsonb DEFAULT NULL)
	RETURNS TABLE (event_type text, operation text, condition text, trigger_name text, rows_now bigint, hint text)
LANGUAGE plpgsql AS $$
DECLARE
	sold pg_catalog.text := dmshook._rule_test(rel, status_column, sold_values, sold_when);
	added pg_catalog.text := dmshook._rule_test(rel, status_column, added_values, added_when);
	status pg_catalog.text := dmshook._column_refs(rel, ARRAY[status_column]::pg_catalog.text[]);
BEGIN
	RETURN QUERY SELECT * FROM dmshook._watch(rel,
		dmshook._watch_head(rel, 'vehicle', key_columns, key_names, include, exclude, tenant_column, user_column, related),
		pg_catalog.array_remove(ARRAY[
			'insert vehicle.added: ' OPERATOR(pg_catalog.||) COALESCE('becomes ' OPERATOR(pg_catalog.||) added, 'always'),
			'insert vehicle.sold: becomes ' OPERATOR(pg_catalog.||) sold,
			'update vehicle.added: becomes ' OPERATOR(pg_catalog.||) added,
			'update vehicle.status_changed: changed ' OPERATOR(pg_catalog.||) status,
			'update vehicle.sold: becomes ' OPERATOR(pg_catalog.||) sold], NULL), NULL);
END
$$;
COMMENT ON FUNCTION dmshook.watch_vehicle IS 'raise vehicle.added, vehicle.status_changed and vehicle.sold for a table''s rows';

CREATE FUNCTION dmshook.watch_deal(rel regclass, status_column name DEFAULT 'status', enquiry_values text[] DEFAULT '{enquiry}', created_values text[] DEFAULT NULL,
	completed_values text[] DEFAULT '{completed}', lost_values text[] DEFAULT '{lost,cancelled}',
	enquiry_when text DEFAULT NULL, created_when text DEFAULT NULL, completed_when text DEFAULT NULL,
	key_columns name[] DEFAULT NULL, key_names name[] DEFAULT NULL, include name[] DEFAULT NULL, exclude name[] DEFAULT '{}',
	tenant_column name DEFAULT NULL, user_column name DEFAULT NULL, related jsonb DEFAULT NULL)
	RETURNS TABLE (event_type text, operation text, condition text, trigger_name text, rows_now bigint, hint text)
LANGUAGE plpgsql AS $$
DECLARE
	enquiry pg_catalog.text := dmshook._rule_test(rel, status_column, enquiry_values, enquiry_when);
	created pg_catalog.text := dmshook._rule_test(rel, status_column, created_values, created_when);
	lost pg_catalog.text := dmshook._rule_test(rel, status_column, lost_values, NULL);
	completed pg_catalog.text := dmshook._rule_test(rel, status_column, completed_values, completed_when);
	status pg_catalog.text := dmshook._column_refs(rel, ARRAY[status_column]::pg_catalog.text[]);
BEGIN
	/* the clause with a condition comes last: it goes on to the end */
	RETURN QUERY SELECT * FROM dmshook._watch(rel,
		dmshook._watch_head(rel, 'deal', key_columns, key_names, include, exclude, tenant_column, user_column, related),
		pg_catalog.array_remove(ARRAY[
			'insert deal.enquiry_created: becomes ' OPERATOR(pg_catalog.||) enquiry,
			'insert deal.created: ' OPERATOR(pg_catalog.||) COALESCE('becomes ' OPERATOR(pg_catalog.||) created, 'not ' OPERATOR(pg_catalog.||) enquiry, 'always'),
			'insert deal.completed: becomes ' OPERATOR(pg_catalog.||) completed,
			'update deal.created: ' OPERATOR(pg_catalog.||) COALESCE('becomes ' OPERATOR(pg_catalog.||) created,
				'not ' OPERATOR(pg_catalog.||) lost OPERATOR(pg_catalog.||) '; leaves ' OPERATOR(pg_catalog.||) enquiry,
				'leaves ' OPERATOR(pg_catalog.||) enquiry),
			'update deal.status_changed: changed ' OPERATOR(pg_catalog.||) status,
			'update deal.completed: becomes ' OPERATOR(pg_catalog.||) completed], NULL), NULL);
END
$$;
COMMENT ON FUNCTION dmshook.watch_deal IS 'raise deal.enquiry_created, deal.created, deal.status_changed and deal.completed for a table''s rows';

CREATE FUNCTION dmshook.watch_job(rel regclass, status_column name DEFAULT 'status', invoiced_values text[] DEFAULT '{invoiced}', completed_values text[] DEFAULT '{completed}',
	invoiced_when text DEFAULT NULL, completed_when text DEFAULT NULL,
	key_columns name[] DEFAULT NULL, key_names name[] DEFAULT NULL, include name[] DEFAULT NULL, exclude name[] DEFAULT '{}',
	tenant_column name DEFAULT NULL, user_column name DEFAULT NULL, related jsonb DEFAULT NULL)
	RETURNS TABLE (event_type text, operation text, condition text, trigger_name text, rows_now bigint, hint text)
LANGUAGE plpgsql AS $$
DECLARE
	invoiced pg_catalog.text := dmshook._rule_test(rel, status_column, invoiced_values, invoiced_when);
	completed pg_catalog.text := dmshook._rule_test(rel, status_column, completed_values, completed_when);
BEGIN
	RETURN QUERY SELECT * FROM dmshook._watch(rel,
		dmshook._watch_head(rel, 'job', key_columns, key_names, include, exclude, tenant_column, user_column, related),
		pg_catalog.array_remove(ARRAY[
			'insert job.created: always',
			'insert job.invoiced: becomes ' OPERATOR(pg_catalog.||) invoiced,
			'insert job.completed: becomes ' OPERATOR(pg_catalog.||) completed,
			'update job.invoiced: becomes ' OPERATOR(pg_catalog.||) invoiced,
			'update job.completed: becomes ' OPERATOR(pg_catalog.||) completed], NULL), NULL);
END
$$;
COMMENT ON FUNCTION dmshook.watch_job IS 'raise job.created, job.invoiced and job.completed for a table''s rows';

CREATE FUNCTION dmshook.watch_customer(rel regclass, columns name[] DEFAULT NULL,
	key_columns name[] DEFAULT NULL, key_names name[] DEFAULT NULL, include name[] DEFAULT NULL, exclude name[] DEFAULT '{}',
	tenant_column name DEFAULT NULL, user_column name DEFAULT NULL, related jsonb DEFAULT NULL)
	RETURNS TABLE (event_type text, operation text, condition text, trigger_name text, rows_now bigint, hint text)
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT * FROM dmshook._watch(rel,
		dmshook._watch_head(rel, 'customer', key_columns, key_names, include, exclude, tenant_column, user_column, related),
		ARRAY['insert customer.created: always',
			pg_catalog.concat_ws(' ', 'update customer.updated: changed', dmshook._column_refs(rel, columns::pg_catalog.text[]))], NULL);
END
$$;
COMMENT ON FUNCTION dmshook.watch_customer IS 'raise customer.created and customer.updated for a table''s rows; columns: changes of these count, NULL: of any';

CREATE FUNCTION dmshook._watch_one(rel regclass, type text, operations text, columns name[], test text, head text[])
	RETURNS TABLE (event_type text, operation text, condition text, trigger_name text, rows_now bigint, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	wanted text[] := regexp_split_to_array(btrim(lower(operations)), '\s*(,|\s+or\s+)\s*');
	one text;
	rules text[] := '{}';
BEGIN
	IF type IS NULL THEN
		RAISE 'event_type must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF wanted IS NULL OR NOT wanted <@ '{insert,update,delete}' THEN
		RAISE 'operation "%" is none of insert, update and delete', operations USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Several may be joined: insert or update.';
	END IF;
	IF columns IS NOT NULL AND NOT 'update' = ANY (wanted) THEN
		RAISE 'columns are looked at on update only' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Leave columns NULL; a condition says which rows count.';
	END IF;
	FOREACH one IN ARRAY wanted LOOP
		rules := rules || format('%s %s: %s', one, type,
			CASE WHEN one <> 'update' THEN coalesce('is ' || test, 'always')
				WHEN cardinality(columns) > 0 THEN concat_ws('; ', 'changed ' || dmshook._column_refs(rel, columns::text[]), 'is ' || test)
				ELSE coalesce('becomes ' || test, 'changed') END);
	END LOOP;
	RETURN QUERY SELECT * FROM dmshook._watch(rel, head, rules, type);
END
$$;
COMMENT ON FUNCTION dmshook._watch_one IS 'the part of dmshook.watch() that needs no search_path of the caller';

CREATE FUNCTION dmshook.watch(rel regclass, event_type text, operation text, columns name[] DEFAULT NULL, condition text DEFAULT NULL, entity text DEFAULT NULL,
	key_columns name[] DEFAULT NULL, key_names name[] DEFAULT NULL, include name[] DEFAULT NULL, exclude name[] DEFAULT '{}',
	tenant_column name DEFAULT NULL, user_column name DEFAULT NULL, related jsonb DEFAULT NULL)
	RETURNS TABLE (event_type text, operation text, condition text, trigger_name text, rows_now bigint, hint text)
LANGUAGE sql AS $$
	SELECT w.* FROM dmshook._watch_one(watch.rel, watch.event_type, watch.operation, watch.columns,
		dmshook._rule_test(watch.rel, NULL, NULL, watch.condition),
		dmshook._watch_head(watch.rel, COALESCE(watch.entity, dmshook._event_entity(watch.event_type)), watch.key_columns, watch.key_names,
			watch.include, watch.exclude, watch.tenant_column, watch.user_column, watch.related)) AS w
$$;
COMMENT ON FUNCTION dmshook.watch IS 'raise an event type for a table''s rows on insert, update or delete (or several: insert or update). On update: when one of columns changes (and the condition is true), or when the condition becomes true, or when anything changes';

CREATE FUNCTION dmshook.unwatch(rel regclass, event_type text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM dmshook._watchable(rel);
	IF NOT EXISTS (SELECT FROM dmshook.watched w WHERE w.relation = rel AND (unwatch.event_type IS NULL OR w.event_type = unwatch.event_type)) THEN
		RAISE 'table "%" raises no % events', rel, coalesce(unwatch.event_type, 'dmshook') USING ERRCODE = 'undefined_object',
			HINT = 'SELECT * FROM dmshook.watched shows what is watched.';
	END IF;
	PERFORM dmshook._note_caller();
	IF unwatch.event_type IS NULL THEN
		PERFORM dmshook._set_triggers(rel, '{}', '{}', '{}');
	ELSE
		PERFORM dmshook._set_triggers(rel,
			dmshook._without_type(dmshook._trigger_rules(rel, 'insert'), unwatch.event_type),
			dmshook._without_type(dmshook._trigger_rules(rel, 'update'), unwatch.event_type),
			dmshook._without_type(dmshook._trigger_rules(rel, 'delete'), unwatch.event_type));
	END IF;
END
$$;
COMMENT ON FUNCTION dmshook.unwatch IS 'raise no more events for a table''s rows: of one type, or at all';

CREATE FUNCTION dmshook.unwatch_all() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	rel regclass;
BEGIN
	FOR rel IN SELECT DISTINCT w.relation FROM dmshook.watched w LOOP
		PERFORM dmshook.unwatch(rel);
	END LOOP;
END
$$;
COMMENT ON FUNCTION dmshook.unwatch_all IS 'raise no more events for any table';
