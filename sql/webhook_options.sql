-- options: each one, its bounds, and what is refused
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
-- what other tests left is not seen here
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.webhook_version; DELETE FROM dmshook.webhook_secret; DELETE FROM dmshook.subscription; DELETE FROM dmshook.change; DELETE FROM dmshook.command;
SELECT count(*) FROM dmshook.create_webhook('w', 'https://example.com/', '{vehicle.sold}');

-- the default plan: 14 attempts, 79 hours in all
SELECT * FROM dmshook.retry_schedule('w');
SELECT max(elapsed) >= interval '72 hours' AS at_least_72_hours FROM dmshook.retry_schedule('w');
-- exponential, with a cap
SELECT dmshook.alter_webhook('w', options => '{"max_attempts": 6, "backoff": {"initial": "2s", "factor": 10, "max": "10 minutes", "jitter": 0}}');
SELECT * FROM dmshook.retry_schedule('w');
-- a list: one attempt more than intervals
SELECT dmshook.alter_webhook('w', options => '{"max_attempts": null, "backoff": {"intervals": ["5s", "5m", "30m", "2h"]}}');
SELECT * FROM dmshook.retry_schedule('w');
-- a list, and more attempts than it has: the last one repeats
SELECT dmshook.alter_webhook('w', options => '{"max_attempts": 7}');
SELECT * FROM dmshook.retry_schedule('w');
-- never again
SELECT dmshook.alter_webhook('w', options => '{"max_attempts": 1, "backoff": null}');
SELECT * FROM dmshook.retry_schedule('w');
SELECT options FROM dmshook.webhooks;
-- fail
SELECT * FROM dmshook.retry_schedule('v');

-- intervals as people write them
SELECT dmshook._check_options(jsonb_build_object('timeout', t)), t
FROM unnest('{15s, 15 s, 15 seconds, 00:00:15, PT15S, 0.25s, 250ms, 1m, 1 min, 1h}'::text[]) t;
SELECT dmshook._check_options(jsonb_build_object('backoff', jsonb_build_object('max', t))), t FROM unnest('{30d, 30 days, 1 month, 1 day 2:03}'::text[]) t;

-- ok: an authority of one's own
SELECT dmshook._check_options(jsonb_build_object('ca_certificate',
	E'-----BEGIN CERTIFICATE-----\nMIIBiDCCAS+gAwIBAgIUKH7662zVm5JWm/8sDxXuypUf2/MwCgYIKoZIzj0EAwIw\nGTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIzMjAwNzI2WhgPMjEy\nNjEwMzAyMDA3MjZaMBkxFzAVBgNVBAMMDnRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI\nzj0CAQYIKoZIzj0DAQcDQgAEnRpqaQSQQ1hpxahVkqAP/hxwb3j5wVIWRQIjzV7O\naKmNkrq1DFUmMZ7nT9vT7cexE5lrTgJAwZmrskZDNnRrDqNTMFEwHQYDVR0OBBYE\nFMXqWig56Si+z+YnoDhcNAKvlYCRMB8GA1UdIwQYMBaAFMXqWig56Si+z+YnoDhc\nNAKvlYCRMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgAeX3mp5I\nfHNeRdPOXGP6WeZBzmI98ZMcSL9561P5+7sCICVMRkfkGtFqBLPrOcMnIMczNk2E\neKmIyD64/yiJaevy\n-----END CERTIFICATE-----\n'));
SELECT dmshook.alter_webhook('w', options => jsonb_build_object('ca_certificate',
	E'-----BEGIN CERTIFICATE-----\nMIIBiDCCAS+gAwIBAgIUKH7662zVm5JWm/8sDxXuypUf2/MwCgYIKoZIzj0EAwIw\nGTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIzMjAwNzI2WhgPMjEy\nNjEwMzAyMDA3MjZaMBkxFzAVBgNVBAMMDnRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI\nzj0CAQYIKoZIzj0DAQcDQgAEnRpqaQSQQ1hpxahVkqAP/hxwb3j5wVIWRQIjzV7O\naKmNkrq1DFUmMZ7nT9vT7cexE5lrTgJAwZmrskZDNnRrDqNTMFEwHQYDVR0OBBYE\nFMXqWig56Si+z+YnoDhcNAKvlYCRMB8GA1UdIwQYMBaAFMXqWig56Si+z+YnoDhc\nNAKvlYCRMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgAeX3mp5I\nfHNeRdPOXGP6WeZBzmI98ZMcSL9561P5+7sCICVMRkfkGtFqBLPrOcMnIMczNk2E\neKmIyD64/yiJaevy\n-----END CERTIFICATE-----\n'));
SELECT options FROM dmshook.webhooks;
SELECT what FROM dmshook.changes ORDER BY id DESC LIMIT 1;

-- fail
SELECT dmshook._check_options('[]');
SELECT dmshook._check_options('"15s"');
SELECT dmshook._check_options('{"timeot": "15s"}');
SELECT dmshook._check_options('{"colour": "red"}');
SELECT dmshook._check_options('{"timeout": 15}');
SELECT dmshook._check_options('{"timeout": "soon"}');
SELECT dmshook._check_options('{"timeout": ""}');
SELECT dmshook._check_options('{"timeout": "-5s"}');
SELECT dmshook._check_options('{"timeout": "0s"}');
SELECT dmshook._check_options('{"timeout": "2 hours"}');
SELECT dmshook._check_options('{"timeout": "2024-01-01"}');
SELECT dmshook._check_options('{"timeout": "99999999999999999999 years"}');
SELECT dmshook._check_options('{"connect_timeout": "x"}');
SELECT dmshook._check_options('{"max_attempts": 0}');
SELECT dmshook._check_options('{"max_attempts": 1.5}');
SELECT dmshook._check_options('{"max_attempts": "3"}');
SELECT dmshook._check_options('{"max_attempts": 1e100}');
SELECT dmshook._check_options('{"max_in_flight": 0}');
SELECT dmshook._check_options('{"backoff": "5s"}');
SELECT dmshook._check_options('{"backoff": {"initial": "5s", "faktor": 2}}');
SELECT dmshook._check_options('{"backoff": {"factor": 0.5}}');
SELECT dmshook._check_options('{"backoff": {"jitter": 2}}');
SELECT dmshook._check_options('{"backoff": {"initial": "1h", "max": "1m"}}');
SELECT dmshook._check_options('{"backoff": {"max": "31 days"}}');
SELECT dmshook._check_options('{"backoff": {"intervals": []}}');
SELECT dmshook._check_options('{"backoff": {"intervals": "5s"}}');
SELECT dmshook._check_options('{"backoff": {"intervals": ["5s", 7]}}');
SELECT dmshook._check_options('{"backoff": {"intervals": ["5s", "x"]}}');
SELECT dmshook._check_options('{"backoff": {"intervals": ["5s"], "factor": 2}}');
SELECT dmshook._check_options(jsonb_build_object('backoff', jsonb_build_object('intervals', array_fill('1s'::text, '{51}'))));
SELECT dmshook._check_options('{"ordering": "strict"}');
SELECT dmshook._check_options('{"ordering": true}');
SELECT dmshook._check_options('{"http_version": 2}');
SELECT dmshook._check_options('{"http_version": "3"}');
SELECT dmshook._check_options('{"success": "200-"}');
SELECT dmshook._check_options('{"success": "200-700"}');
SELECT dmshook._check_options('{"success": ""}');
SELECT dmshook._check_options('{"no_retry": "4xx"}');
SELECT dmshook._check_options('{"ca_certificate": "my certificate"}');
SELECT dmshook._check_options('{"ca_certificate": "-----BEGIN CERTIFICATE-----\nAAAA"}');
SELECT dmshook._check_options('{"ca_certificate": "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----"}');
-- ok: delivery policy, and what bodies look like
SELECT dmshook._check_options('{"breaker": {"failures": 20, "deliveries": 5, "probe": {"initial": "30s", "max": "15m"}}, "rate_limit": 2.5, "disable_after": "5 days"}');
SELECT dmshook._check_options('{"breaker": null, "rate_limit": null, "disable_after": null, "format": "cloudevents", "numbers": "string"}');
-- fail
SELECT dmshook._check_options('{"breaker": 20}');
SELECT dmshook._check_options('{"breaker": {"failures": 0}}');
SELECT dmshook._check_options('{"breaker": {"failure": 20}}');
SELECT dmshook._check_options('{"breaker": {"probe": {"initial": "1h", "max": "1m"}}}');
SELECT dmshook._check_options('{"rate_limit": 0}');
SELECT dmshook._check_options('{"rate_limit": "ten"}');
SELECT dmshook._check_options('{"disable_after": "later"}');
SELECT dmshook._check_options('{"alert_to": "ops@example.com; boss@example.com"}');
SELECT dmshook._check_options('{"format": "xml"}');
SELECT dmshook._check_options('{"numbers": "float"}');
-- fail: of later versions, and not ignored
DO $$
DECLARE
	o text;
BEGIN
	FOREACH o IN ARRAY '{retention}'::text[] LOOP
		BEGIN
			PERFORM dmshook._check_options(jsonb_build_object(o, null));
			RAISE NOTICE '% was accepted', o;
		EXCEPTION WHEN feature_not_supported THEN
			RAISE NOTICE '%', SQLERRM;
		END;
	END LOOP;
END
$$;
SELECT dmshook._check_options('{"retention": "30d"}');
ROLLBACK;
