-- Where a webhook may go: ports of its URL, the option allowed_addresses.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
-- ok
SHOW dmshook.allowed_ports;
SELECT webhook FROM dmshook.create_webhook('a', 'https://example.com:8443/', '{vehicle.sold}',
	options => '{"allowed_addresses": ["203.0.114.0/24", "2a00:1450::/32", "198.50.0.7"]}');
SELECT options FROM dmshook.webhooks WHERE name = 'a';
SELECT webhook FROM dmshook.create_webhook('b', 'https://example.com:1024/', '{vehicle.sold}', options => '{"allowed_addresses": "203.0.114.0/24, 198.50.0.7"}');
-- fail: ports
SELECT dmshook.create_webhook('x', 'https://example.com:22/', '{vehicle.sold}');
SELECT dmshook.create_webhook('x', 'https://example.com:1023/', '{vehicle.sold}');
SELECT dmshook.alter_webhook('a', url => 'https://example.com:25/');
SET LOCAL dmshook.allow_http = on;
SELECT dmshook.create_webhook('x', 'http://example.com/', '{vehicle.sold}');
-- ok: where it is permitted
SET LOCAL dmshook.allowed_ports = '443, 25, 80';
SELECT dmshook.alter_webhook('a', url => 'https://example.com:25/');
SELECT webhook FROM dmshook.create_webhook('c', 'http://example.com/', '{vehicle.sold}');
-- fail: and no other
SELECT dmshook.alter_webhook('a', url => 'https://example.com:8443/');
-- fail: the setting
SET LOCAL dmshook.allowed_ports = '';
SET LOCAL dmshook.allowed_ports = '443,https';
SET LOCAL dmshook.allowed_ports = '9000-8000';
SET LOCAL dmshook.allowed_ports = '443,65536';
CREATE ROLE regress_net;
SET LOCAL ROLE regress_net;
SET LOCAL dmshook.allowed_ports = '22';
RESET ROLE;
-- fail: the option
SELECT dmshook._check_options('{"allowed_addresses": []}');
SELECT dmshook._check_options('{"allowed_addresses": ""}');
SELECT dmshook._check_options('{"allowed_addresses": [""]}');
SELECT dmshook._check_options('{"allowed_addresses": [7]}');
SELECT dmshook._check_options('{"allowed_addresses": ["203.0.114.0/24,1.2.3.4"]}');
SELECT dmshook._check_options('{"allowed_addresses": ["203.0.114.1/24"]}');
SELECT dmshook._check_options('{"allowed_addresses": ["example.com"]}');
SELECT dmshook._check_options('{"allowed_addresses": {"a": 1}}');

-- ca_certificate: one that has ended is taken, and said; two; one that cannot be read; something else
\set good '-----BEGIN CERTIFICATE-----\nMIIBiDCCAS+gAwIBAgIUKH7662zVm5JWm/8sDxXuypUf2/MwCgYIKoZIzj0EAwIw\nGTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIzMjAwNzI2WhgPMjEy\nNjEwMzAyMDA3MjZaMBkxFzAVBgNVBAMMDnRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI\nzj0CAQYIKoZIzj0DAQcDQgAEnRpqaQSQQ1hpxahVkqAP/hxwb3j5wVIWRQIjzV7O\naKmNkrq1DFUmMZ7nT9vT7cexE5lrTgJAwZmrskZDNnRrDqNTMFEwHQYDVR0OBBYE\nFMXqWig56Si+z+YnoDhcNAKvlYCRMB8GA1UdIwQYMBaAFMXqWig56Si+z+YnoDhc\nNAKvlYCRMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgAeX3mp5I\nfHNeRdPOXGP6WeZBzmI98ZMcSL9561P5+7sCICVMRkfkGtFqBLPrOcMnIMczNk2E\neKmIyD64/yiJaevy\n-----END CERTIFICATE-----\n'
\set old '-----BEGIN CERTIFICATE-----\nMIIBFjCBvQIUZarEEBVkFqTXYp4W20AEi8/PJmQwCgYIKoZIzj0EAwIwDjEMMAoG\nA1UEAwwDb2xkMB4XDTE5MDEwMTAwMDAwMFoXDTIwMDEwMTAwMDAwMFowDjEMMAoG\nA1UEAwwDb2xkMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEnRpqaQSQQ1hpxahV\nkqAP/hxwb3j5wVIWRQIjzV7OaKmNkrq1DFUmMZ7nT9vT7cexE5lrTgJAwZmrskZD\nNnRrDjAKBggqhkjOPQQDAgNIADBFAiARqWd+RMd1Vd+j5vXTNvGvlhb1OT7bQeVO\nAwGkslzeeAIhAOZsX0Qxy7jcvvdHJGgjSpp0iYtuSNBNrMJim/+qW6fB\n-----END CERTIFICATE-----\n'
SELECT hint FROM dmshook.create_webhook('old', 'https://example.com/', '{vehicle.sold}', options => jsonb_build_object('ca_certificate', :'good'::text || :'old'::text));
SELECT dmshook.alter_webhook('old', options => jsonb_build_object('ca_certificate', :'good'::text));
SELECT dmshook.alter_webhook('old', options => jsonb_build_object('ca_certificate', :'old'::text));
SELECT dmshook.alter_webhook('old', options => '{"timeout": "1s"}');
SELECT dmshook._ca_expires(:'old'), dmshook._ca_expires('none');
SELECT dmshook._check_options(jsonb_build_object('ca_certificate', replace(:'good', 'MII', 'MIX')));
SELECT dmshook._check_options(jsonb_build_object('ca_certificate', :'good'::text || E'-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n'));
SELECT dmshook._check_options(jsonb_build_object('ca_certificate', :'good'::text || repeat(' ', 300000)));

-- certificates that are about to expire
INSERT INTO dmshook.webhook_state (webhook, certificate_expires_at, last_hint)
	SELECT w.id, now() + v.days * interval '1 day', v.hint FROM (VALUES ('a', 13.9, NULL), ('b', 14.1, 'Look.'), ('c', -1, 'Look.')) AS v (name, days, hint) JOIN dmshook.webhook w USING (name);
UPDATE dmshook.webhook SET enabled = true;
SELECT webhook, round(extract(epoch FROM certificate_expires_at - now()) / 86400, 1) AS days, regexp_replace(hint, 'at [-0-9: UTC+]+', 'at ...') AS hint FROM dmshook.health WHERE webhook IN ('a', 'b', 'c') ORDER BY 1;
SELECT level, subject, regexp_replace(problem, 'at [-0-9: UTC+]+', 'at ...') AS problem, hint FROM dmshook.check() WHERE problem LIKE '%certificate%' ORDER BY 2;
-- the url has changed, and nobody knows the new receiver's
UPDATE dmshook.webhook_state SET certificate_expires_at = 'infinity';
SELECT webhook, certificate_expires_at, hint FROM dmshook.health WHERE webhook IN ('a', 'b', 'c') ORDER BY 1;
SELECT count(*) FROM dmshook.check() WHERE problem LIKE '%certificate%';

-- ciphers by their numbers
SELECT dmshook._tls_cipher(x'1301'::int::smallint), dmshook._tls_cipher((x'C02F'::int - 65536)::smallint), dmshook._tls_cipher(-1::smallint), dmshook._tls_cipher(NULL);
ROLLBACK;
