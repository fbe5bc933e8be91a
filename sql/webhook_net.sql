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
ROLLBACK;
