--
-- Filters: what is one, what it says, and what is refused at the door
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.subscription; DELETE FROM dmshook.change;

-- both forms
SELECT dmshook._check_filter(f) FROM unnest(ARRAY['$.data.record.price > 10000', '$.data.record ? (@.price > 10000)', 'exists($.data.record.sold_at)',
	'!($.tenant == "Leeds") && $.data.record.no like_regex "^A"', 'strict $.data.record.list[*] ? (@ > 1).size()', '($.a == 1) is unknown', '$.type starts with "vehicle."']) AS f;

-- fail: no jsonpath; no condition
SELECT dmshook._check_filter('$.data.record.price >');
SELECT dmshook._check_filter('price > 10000');
SELECT dmshook._check_filter('$.data.record.no like_regex "("');
SELECT dmshook._check_filter('$.data.record.sold');
SELECT dmshook._check_filter('$.data.record.price + 1');
SELECT dmshook._check_filter('true');
SELECT dmshook._check_filter('($.a > 1).type()');
SELECT dmshook.create_webhook('F', 'https://example.com/', '{vehicle.sold}', filter => '$.data.record.price = 1');

-- what it says
CREATE FUNCTION pg_temp.event(data json) RETURNS dmshook.event LANGUAGE sql AS $$
	SELECT 1::bigint, 42::bigint, '2026-11-23 07:25:00+00'::timestamptz, 'vehicle.sold', 'Leeds', NULL::text, 'vehicle', '{}'::jsonb, '{"name":"jane"}'::json, '{}'::json, data, NULL::timestamptz
$$;
SELECT filter, (dmshook._filter_verdict(filter, e)).*, dmshook._filter_holds(filter, e) AS holds
	FROM pg_temp.event('{"record":{"price":20000,"name":"x","list":[1,2],"sold":false}}') e, unnest(ARRAY[
	'$.data.record.price > 10000', '$.data.record.price < 10000', '$.data.record.prise > 10000', '$.data.record.name > 10000', '$.data.record.price / 0 > 1',
	'$.data.record ? (@.price > 10000)', '$.data.record ? (@.price < 10000)', '$.data.record ? (@.prise > 1)', '$.data.record.list ? (@ == 2)', '$.data.record ? (@.sold == false)',
	'$.tenant == "Leeds" && $.type == "vehicle.sold" && $.sequence == 1 && $.user.name == "jane"', '$.id starts with "msg_"',
	'strict $.data.record.prise ? (@ > 1)', 'strict $.data.record.list[7] ? (@ > 1)', '$.data.record ? (@.price > $limit)']) AS filter;
SELECT (dmshook._filter_verdict('$.a == 1', e)).*, dmshook._filter_holds('$.a == 1', e) FROM pg_temp.event('{"record":{"text":"\u0000"}}') e;
SELECT dmshook._filter_holds('$.a == 1', NULL) AS of_null;
-- an error never quotes a value; what the filter itself has may be said
SELECT filter, (dmshook._filter_verdict(filter, e)).verdict, (dmshook._filter_verdict(filter, e)).error ~ 'Jane|Doe|secret' AS told
	FROM pg_temp.event('{"record":{"name":"Jane \"id\" Doe","born":"secret"}}') e, unnest(ARRAY[
	'$.data.record.name.datetime() ? (@ > 1)', '$.data.record.born.datetime("YYYY-MM-DD") ? (@ > 1)', '$.data.record.name.double() ? (@ > 1)', '$.data.record.born.double() ? (@ > 1)',
	'$.data.record.name.datetime("HH24:MI") ? (@ > "id")', 'strict $.data.record.id ? (@ == "id")', 'strict $.data.record.name.id ? (@ == 1)']) AS filter;
SELECT dmshook._filter_verdict('$.data.record.born.datetime() ? (@ > 1)', e) FROM pg_temp.event('{"record":{"born":"secret"}}') e;
SELECT dmshook._filter_holds(f, pg_temp.event('{"record":{"price":1}}')) FROM unnest(ARRAY['$.data.record.price == 1', '$.data.record.price == 2', '$.data.record.price == 1', NULL]) AS f;

-- tried on recent events
SELECT hint FROM dmshook.create_webhook('none yet', 'https://example.com/', '{vehicle.sold}', filter => '$.data.record.price > 10000');
SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', n), jsonb_build_object('price', n * 1000, 'name', 'car ' || n), tenant => CASE WHEN n % 2 = 0 THEN 'Leeds' END)) FROM generate_series(1, 20) n;
SELECT hint FROM dmshook.create_webhook('some', 'https://example.com/', '{vehicle.sold}', filter => '$.data.record.price > 10000');
SELECT hint FROM dmshook.create_webhook('tenant', 'https://example.com/', '{vehicle.sold}', filter => '$.data.record ? (@.price > 10000)', tenant => 'Leeds');
SELECT hint FROM dmshook.create_webhook('other', 'https://example.com/', '{deal.*}', filter => '$.data.record.price > 10000');
SELECT hint FROM dmshook.create_webhook('misspelt', 'https://example.com/', '{vehicle.sold}', filter => '$.data.record.prise > 10000');
-- fail: on an event
DO $$
BEGIN
	PERFORM dmshook.create_webhook('fails', 'https://example.com/', '{vehicle.sold}', filter => 'strict $.data.record.prise ? (@ > 10000)');
EXCEPTION WHEN invalid_parameter_value THEN
	RAISE NOTICE '%', regexp_replace(SQLERRM, 'msg_\w+', 'msg_...');
END
$$;

-- altered
SELECT dmshook.alter_webhook('some', filter => '$.data.record.price > 15000');
SELECT dmshook.alter_webhook('some', filter => '$.data.record.price > 15000');
SELECT dmshook.alter_webhook('some', filter => '$.x');
SELECT dmshook.alter_webhook('some', url => 'https://example.com/2');
SELECT name, filter FROM dmshook.webhooks ORDER BY name;
SELECT dmshook.alter_webhook('some', filter => '');
SELECT name, filter FROM dmshook.webhooks WHERE name = 'some';
SELECT s.filter FROM dmshook.subscription s JOIN dmshook.webhook w ON w.id = s.webhook WHERE w.name = 'some' ORDER BY s.id;
SELECT webhook, what FROM dmshook.changes WHERE what LIKE '%filter%' ORDER BY id;

-- views and counts: what is filtered out is no delivery
SELECT dmshook.enable_webhook('tenant'), dmshook.pause_webhook('tenant');
SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', n), jsonb_build_object('price', n * 1000), tenant => 'Leeds')) FROM generate_series(8, 13) n;
SELECT entity_key, state FROM dmshook.deliveries WHERE webhook = 'tenant' ORDER BY sequence;
SELECT entity_key FROM dmshook.waiting WHERE webhook = 'tenant' ORDER BY sequence;
SELECT dmshook.replay('tenant', now() - interval '1 hour', clock_timestamp());
SELECT dmshook.disable_webhook('tenant');
SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', n), jsonb_build_object('price', n * 1000), tenant => 'Leeds')) FROM generate_series(8, 13) n;
SELECT substring(dmshook.enable_webhook('tenant') FROM '\d+ events were skipped');
ROLLBACK;
