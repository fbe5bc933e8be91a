--
-- Bodies in other shapes: the options format and numbers
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;

CREATE FUNCTION pg_temp.event(data json, source json = '{"database":"dms","schema":"public","table":"vehicle"}', tenant text = 'Leeds',
	who json = '{"name":"jane.smith","role":"dms_app","application":"dms-web"}', type text = 'vehicle.sold') RETURNS dmshook.event
LANGUAGE sql AS $$
	SELECT 918273::bigint, 42::bigint, '2026-11-23 07:25:00.123456+00'::timestamptz, type, tenant, NULL::text, 'vehicle', '{}'::jsonb, who, source, data, NULL::timestamptz
$$;
CREATE FUNCTION pg_temp.body(data json, options jsonb) RETURNS text LANGUAGE sql AS $$ SELECT dmshook._payload(pg_temp.event(data), false, options) $$;

-- as it is; options that do not matter
SELECT pg_temp.body('{"entity":"vehicle","key":{"id":42},"record":{"price":1.50}}', NULL);
SELECT dmshook._payload(pg_temp.event('{"entity":"vehicle"}'), false) = pg_temp.body('{"entity":"vehicle"}', '{"timeout": "1s"}') AS same,
	dmshook._payload(pg_temp.event('{"entity":"vehicle"}'), false) = pg_temp.body('{"entity":"vehicle"}', '{"format": "dmshook", "numbers": "json"}') AS same_too;

-- numbers that a receiver may round become strings, and nothing else
SELECT dmshook._payload(pg_temp.event(d), false, '{"numbers": "string"}')::json->'data' FROM (VALUES
	(json '{"a":0,"b":-1,"c":9007199254740991,"d":-9007199254740991,"e":9007199254740992,"f":-9007199254740992,"g":12345678901234567890}'),
	('{"a":1.5,"b":-0.25,"c":1e5,"d":-1E-7,"e":20.00,"f":[1,2.5,[3.5,{"x":4.5}]],"g":true,"h":null}'),
	('{"text":"1.5 and \"2.5\" \\","1.5":"9007199254740993","nested":{"2.5":1}}'),
	('[ 1.5 , 9007199254740993 , 7 ]'),
	('3.14')) AS v (d);

-- a CloudEvent
SELECT jsonb_pretty(pg_temp.body('{"entity":"vehicle","key":{"id":42},"record":{"price":1.50,"big":9007199254740993},"previous":{"status":"In stock"}}', '{"format": "cloudevents"}')::jsonb);
SELECT pg_temp.body('{"entity":"vehicle","key":{"id":42},"record":{"price":1.50,"big":9007199254740993}}', '{"format": "cloudevents", "numbers": "string"}');
-- a test; no tenant, no user, no table; keys of several columns; what must be encoded or left out
SELECT dmshook._payload(pg_temp.event('{"entity":"webhook","key":{},"record":{}}', '{"database":"dms","schema":null,"table":null}', NULL,
	'{"name":null,"role":"","application":"dmshook"}', 'webhook.test'), true, '{"format": "cloudevents"}');
SELECT pg_temp.body('{ "entity" : "vehicle" , "key" : {"no": "A/1 \"x\"", "of": null, "on": true, "year": 2026} , "record" : null }', '{"format": "cloudevents"}');
SELECT dmshook._payload(pg_temp.event('{"entity":"vehicle","key":{"id":1}}', '{"database":"d\"b","schema":"s p/a\\c\u0001e","table":"Öl%"}', E'a\tb\u0001\u007f\u0085c',
	'{"name":"tab\there\nünd \"so\" \\\\ \u0001 \u009f","role":"r","application":"a"}'), false, '{"format": "cloudevents"}');

-- headers as the views show them
SELECT dmshook._request_headers('{}', 'A', 'POST', 'm', 't', now(), 1, false, o)->>'content-type' AS content_type
	FROM (VALUES (jsonb '{}'), ('{"format": "dmshook"}'), ('{"format": "cloudevents"}'), (NULL)) AS v (o);
SELECT dmshook._request_headers('{}', 'A', 'GET', 'm', 't', now(), 1, false, '{"format": "cloudevents"}') ? 'content-type' AS has;

-- preview, and what is refused at the door
SELECT webhook FROM dmshook.create_webhook('shape', 'https://example.com/', '{vehicle.sold}', options => '{"format": "cloudevents", "numbers": "string"}');
SELECT headers->>'content-type' AS content_type, body::json->>'specversion' AS specversion, body::json->>'test' AS test FROM dmshook.preview('shape');
SELECT dmshook.alter_webhook('shape', options => '{"format": null, "numbers": null}');
SELECT headers->>'content-type' AS content_type, body::json->>'specversion' AS specversion FROM dmshook.preview('shape');
SELECT dmshook.alter_webhook('shape', options => '{"format": "cloudevent"}');
SELECT dmshook.alter_webhook('shape', options => '{"format": 1}');
SELECT dmshook.alter_webhook('shape', options => '{"numbers": "strings"}');
SELECT dmshook.alter_webhook('shape', options => '{"numbers": true}');
SELECT dmshook.alter_webhook('shape', headers => '{"content-type": "text/plain"}', options => '{"format": "cloudevents"}');
ROLLBACK;
