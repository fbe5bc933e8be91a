-- alter_webhook(): NULL leaves, '' and none remove, options merge
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
-- what other tests left is not seen here
DELETE FROM dmshook.event; DELETE FROM dmshook.webhook; DELETE FROM dmshook.webhook_version; DELETE FROM dmshook.webhook_secret; DELETE FROM dmshook.subscription; DELETE FROM dmshook.change; DELETE FROM dmshook.command;
SELECT count(*) FROM dmshook.create_webhook('A', 'https://example.com/a', '{vehicle.sold}', auth => '{"kind": "basic", "username": "u", "password": "hush"}',
	headers => '{"X-A": "hush"}', tenant => 'Leeds', options => '{"timeout": "10s"}');
SELECT count(*) FROM dmshook.create_webhook('B', 'https://example.com/b', '{*}');
CREATE TEMP VIEW now_is AS SELECT name, url, events, tenant, method, auth_kind, headers, options FROM dmshook.webhooks WHERE name <> 'B';
CREATE TEMP VIEW versions AS SELECT (SELECT count(*) FROM dmshook.webhook_version) AS versions, (SELECT count(*) FROM dmshook.subscription) AS subscriptions,
	(SELECT count(*) FROM dmshook.command) AS commands, (SELECT what FROM dmshook.changes ORDER BY id DESC LIMIT 1) AS what;
TABLE versions;

-- nothing
SELECT dmshook.alter_webhook('A');
SELECT dmshook.alter_webhook('A', url => 'https://example.com/a', events => '{vehicle.sold}', method => 'post', tenant => 'Leeds', options => '{"timeout": "10s"}',
	auth => '{"kind": "basic", "username": "u", "password": "hush"}', headers => '{"X-A": "hush"}', new_name => 'A');
TABLE versions;
-- one at a time
SELECT dmshook.alter_webhook('A', url => 'https://example.com/c');
TABLE versions;
SELECT dmshook.alter_webhook('A', method => 'GET');
SELECT dmshook.alter_webhook('A', events => '{deal.*}');
TABLE versions;
SELECT dmshook.alter_webhook('A', tenant => '');
TABLE versions;
SELECT dmshook.alter_webhook('A', auth => '{"kind": "bearer", "token": "hush"}');
TABLE now_is;
TABLE versions;
SELECT dmshook.alter_webhook('A', auth => '{"kind": "none"}', headers => '{}');
TABLE now_is;
TABLE versions;
SELECT dmshook.alter_webhook('A', options => '{"max_attempts": 3}');
SELECT dmshook.alter_webhook('A', options => '{"timeout": null, "ordering": "entity"}');
TABLE now_is;
TABLE versions;
SELECT dmshook.alter_webhook('A', new_name => 'C');
TABLE now_is;
TABLE versions;
-- a new password is a change, though nothing of it shows
SELECT dmshook.alter_webhook('C', auth => '{"kind": "bearer", "token": "hush1"}');
SELECT dmshook.alter_webhook('C', auth => '{"kind": "bearer", "token": "hush2"}');
SELECT value FROM dmshook.webhook_secret s JOIN dmshook.webhook w ON w.id = s.webhook WHERE w.name = 'C' AND s.kind <> 'signing';
SELECT count(*) FROM dmshook.changes WHERE what ~ 'hush';

-- fail
SELECT dmshook.alter_webhook('A', url => 'https://example.com/');
SELECT dmshook.alter_webhook(NULL, url => 'https://example.com/');
SELECT dmshook.alter_webhook('C', url => 'http://example.com/');
SELECT dmshook.alter_webhook('C', url => '');
SELECT dmshook.alter_webhook('C', events => '{}');
SELECT dmshook.alter_webhook('C', events => '{vehicle.solt}');
SELECT dmshook.alter_webhook('C', method => 'SEND');
SELECT dmshook.alter_webhook('C', filter => '$.x');
SELECT dmshook.alter_webhook('C', auth => '{"kind": "basic"}');
SELECT dmshook.alter_webhook('C', headers => '{"Host": "x"}');
SELECT dmshook.alter_webhook('C', headers => '{"Authorization": "x"}');
SELECT dmshook.alter_webhook('C', options => '{"timeot": "10s"}');
SELECT dmshook.alter_webhook('C', options => '[]');
SELECT dmshook.alter_webhook('C', new_name => 'B');
SELECT dmshook.alter_webhook('C', new_name => '');
TABLE now_is;
ROLLBACK;
