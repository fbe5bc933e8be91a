-- sign(), verify(), the options "signature" and "signature_header", imported secrets, rotation
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dmshook;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\set v1 whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
\set private whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==
\set public whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=
\set id msg_p5jXN8AQM9LWM0D4loKWxJek
\set body '{"test": 2432232314}'
\set right1 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
\set right1a 'v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=='

-- sign(): the public vectors, and those that GitHub's documentation has
SELECT dmshook.sign(:'v1', :'id', to_timestamp(1614265330), :'body') = :'right1' AS v1,
	dmshook.sign(:'v1', :'id', to_timestamp(1614265330.999999), :'body') = :'right1' AS whole_seconds,
	dmshook.sign(:'private', :'id', to_timestamp(1614265330), :'body') = :'right1a' AS v1a,
	dmshook.sign('whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=', :'id', to_timestamp(1614265330), :'body') = :'right1a' AS seed_alone,
	dmshook.sign('It''s a Secret to Everybody', NULL, NULL, 'Hello, World!') AS github;
SELECT dmshook.sign(NULL, 'x', now(), 'y') IS NULL AS no_secret, dmshook.sign(:'v1', 'x', now(), NULL) IS NULL AS no_body;
-- fail
SELECT dmshook.sign('whsec_', 'x', now(), 'y');
SELECT dmshook.sign('whsec_c2hvcnQ=', 'x', now(), 'y');
SELECT dmshook.sign('whsk_c2hvcnQ=', 'x', now(), 'y');
SELECT dmshook.sign('whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvw==', 'x', now(), 'y');
SELECT dmshook.sign(:'public', 'x', now(), 'y');
SELECT dmshook.sign('', 'x', now(), 'y');
SELECT dmshook.sign(repeat('x', 1025), 'x', now(), 'y');
SELECT dmshook.sign(:'v1', NULL, now(), 'y');
SELECT dmshook.sign(:'private', 'x', NULL, 'y');
SELECT dmshook.sign(:'v1', 'x', '1969-12-31 23:59:59+00', 'y');
SELECT dmshook.sign(:'v1', 'x', 'infinity', 'y');

-- verify(): what must be accepted and refused
CREATE TEMP TABLE cases (n serial, what text, secret text, headers jsonb, body text, tolerance interval);
CREATE FUNCTION pg_temp.h(at text, signature text, id text = 'msg_p5jXN8AQM9LWM0D4loKWxJek') RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_object('webhook-id', id, 'webhook-timestamp', at, 'webhook-signature', signature) $$;
-- of today, signed by us; of the vectors only the age is wrong
CREATE FUNCTION pg_temp.now_and(seconds int) RETURNS text LANGUAGE sql AS $$ SELECT (floor(extract(epoch FROM clock_timestamp())) + seconds)::bigint::text $$;
CREATE FUNCTION pg_temp.signed(secret text, seconds int) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT pg_temp.h(t, dmshook.sign(secret, 'msg_1', to_timestamp(t::bigint), 'body'), 'msg_1') FROM pg_temp.now_and(seconds) AS t $$;
INSERT INTO cases (what, secret, headers, body, tolerance) VALUES
	('v1', :'v1', pg_temp.h('1614265330', :'right1'), :'body', NULL),
	('v1a, public key', :'public', pg_temp.h('1614265330', :'right1a'), :'body', NULL),
	('v1a, private key', :'private', pg_temp.h('1614265330', :'right1a'), :'body', NULL),
	('a number', :'v1', pg_temp.h('1614265330', :'right1') || '{"webhook-timestamp": 1614265330}', :'body', NULL),
	('names in capitals', :'v1', '{"X-Other": 1, "Webhook-ID": "msg_p5jXN8AQM9LWM0D4loKWxJek", "WEBHOOK-TIMESTAMP": "1614265330", "Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}', :'body', NULL),
	('a list', :'v1', pg_temp.h('1614265330', 'v1,h0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v2,abc ' || :'right1a' || ' ' || :'right1' || ' v1,'), :'body', NULL),
	('a list, v1a', :'public', pg_temp.h('1614265330', 'v1a,' || repeat('A', 86) || '== ' || :'right1' || ' ' || :'right1a'), :'body', NULL),
	('now', :'v1', pg_temp.signed(:'v1', 0), 'body', '5 minutes'),
	('290 s old', :'v1', pg_temp.signed(:'v1', -290), 'body', '5 minutes'),
	('290 s ahead', :'v1', pg_temp.signed(:'v1', 290), 'body', '5 minutes'),
	('v1a, 290 s old', :'public', pg_temp.signed(:'private', -290), 'body', '5 minutes'),
	('a day old, two are right', :'v1', pg_temp.signed(:'v1', -86400), 'body', '2 days'),
	('github', 'It''s a Secret to Everybody', '{"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}', 'Hello, World!', '5 minutes'),
	('github, in capitals', 'It''s a Secret to Everybody', '{"x-hub-signature-256": "sha256=757107EA0EB2509FC211221CCE984B8A37570B6D7586C22C46F4379C8B043E17"}', 'Hello, World!', '5 minutes');
SELECT what, dmshook.verify(secret, headers, body, tolerance) AS accepted FROM cases ORDER BY n;
-- another body, another id, another secret: none of them
SELECT count(*) AS all_cases, count(*) FILTER (WHERE dmshook.verify(secret, headers, body || ' ', tolerance)) AS other_body,
	count(*) FILTER (WHERE secret LIKE 'wh%' AND dmshook.verify(secret, headers || '{"webhook-id": "msg_x"}' - '{Webhook-ID}'::text[], body, tolerance)) AS other_id,
	count(*) FILTER (WHERE dmshook.verify(CASE WHEN secret LIKE 'whsec%' THEN secret || 'BBBB' WHEN secret LIKE 'wh%' THEN 'whpk_' || encode(sha256(''), 'base64') ELSE 'x' END, headers, body, tolerance)) AS other_secret
FROM cases;

TRUNCATE cases;
INSERT INTO cases (what, secret, headers, body, tolerance) VALUES
	('no version', :'v1', pg_temp.h('1614265330', 'v1,'), :'body', NULL),
	('8 characters', :'v1', pg_temp.h('1614265330', left(:'right1', 3 + 8)), :'body', NULL),
	('8 characters of v1a', :'public', pg_temp.h('1614265330', left(:'right1a', 4 + 8)), :'body', NULL),
	('empty', :'v1', pg_temp.h('1614265330', ''), :'body', NULL),
	('301 s old', :'v1', pg_temp.signed(:'v1', -301), 'body', '5 minutes'),
	('301 s ahead', :'v1', pg_temp.signed(:'v1', 310), 'body', '5 minutes'),
	('v1a, 301 s old', :'public', pg_temp.signed(:'private', -301), 'body', '5 minutes'),
	('v1a, 301 s ahead', :'public', pg_temp.signed(:'private', 310), 'body', '5 minutes'),
	('no tolerance', :'v1', pg_temp.signed(:'v1', -10), 'body', '0'),
	('negative tolerance', :'v1', pg_temp.signed(:'v1', 0), 'body', '-1 s'),
	('negative', :'v1', pg_temp.h('-1614265330', :'right1'), :'body', NULL),
	('a fraction', :'v1', pg_temp.h('1614265330.0', :'right1'), :'body', NULL),
	('a number with a fraction', :'v1', pg_temp.h('1614265330', :'right1') || '{"webhook-timestamp": 1614265330.0}', :'body', NULL),
	('a blank', :'v1', pg_temp.h(' 1614265330', :'right1'), :'body', NULL),
	('another time', :'v1', pg_temp.h('1614265331', :'right1'), :'body', NULL),
	('no id', :'v1', pg_temp.h('1614265330', :'right1') - 'webhook-id', :'body', NULL),
	('no timestamp', :'v1', pg_temp.h('1614265330', :'right1') - 'webhook-timestamp', :'body', NULL),
	('no signature', :'v1', pg_temp.h('1614265330', :'right1') - 'webhook-signature', :'body', NULL),
	('a name twice', :'v1', pg_temp.h('1614265330', :'right1') || '{"Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek"}', :'body', NULL),
	('an array', :'v1', pg_temp.h('1614265330', :'right1') || '{"webhook-id": ["msg_p5jXN8AQM9LWM0D4loKWxJek"]}', :'body', NULL),
	('null', :'v1', pg_temp.h('1614265330', :'right1') || '{"webhook-id": null}', :'body', NULL),
	('no object', :'v1', '[]', :'body', NULL),
	('no headers', :'v1', '{}', :'body', NULL),
	('SQL null', :'v1', NULL, :'body', NULL),
	('body null', :'v1', pg_temp.h('1614265330', :'right1'), NULL, NULL),
	('secret null', NULL, pg_temp.h('1614265330', :'right1'), :'body', NULL),
	('v1 with the public key', :'public', pg_temp.h('1614265330', :'right1'), :'body', NULL),
	('v1a with a shared secret', :'v1', pg_temp.h('1614265330', :'right1a'), :'body', NULL),
	('github, no prefix', 'It''s a Secret to Everybody', '{"X-Hub-Signature-256": "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}', 'Hello, World!', NULL),
	('github, cut', 'It''s a Secret to Everybody', '{"X-Hub-Signature-256": "sha256=757107ea"}', 'Hello, World!', NULL),
	('github, a digit', 'It''s a Secret to Everybody', '{"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e18"}', 'Hello, World!', NULL),
	('github, absent', 'It''s a Secret to Everybody', '{"webhook-id": "x"}', 'Hello, World!', NULL);
SELECT what, dmshook.verify(secret, headers, body, tolerance) AS accepted FROM cases ORDER BY n;
-- GitHub's covers no time: with a secret that Standard Webhooks may use it counts only where any age is right
SELECT dmshook.verify(:'v1', h, 'body') AS replayed, dmshook.verify(:'v1', h, 'body', NULL) AS any_age,
	dmshook.verify(:'v1', h || '{"webhook-signature": "v1,"}', 'body', NULL) AS beside_a_wrong_one
FROM (SELECT jsonb_build_object('x-hub-signature-256', 'sha256=87b7bcdd672d056b7380c5ae3ffd9cffbd91c8c28a318f8e754373a544999bb5')) AS v (h);
-- fail: a secret that is none
SELECT dmshook.verify('whsec_', pg_temp.h('1614265330', :'right1'), :'body', NULL);
SELECT dmshook.verify('whpk_', pg_temp.h('1614265330', :'right1a'), :'body', NULL);
SELECT dmshook.verify('', '{}', '');

BEGIN;
DELETE FROM dmshook.webhook; DELETE FROM dmshook.webhook_version; DELETE FROM dmshook.webhook_secret; DELETE FROM dmshook.change; DELETE FROM dmshook.command;
-- the option
SELECT o, dmshook._check_options(jsonb_build_object('signature', o::jsonb)) IS NOT NULL AS ok
FROM unnest(ARRAY['"standard"', '"standard-ed25519"', '"github"', '["github"]', '["github", "standard", "standard-ed25519"]', 'null']) AS o;
SELECT dmshook._check_options('{"signature": []}');
SELECT dmshook._check_options('{"signature": "Standard"}');
SELECT dmshook._check_options('{"signature": ["github", "github"]}');
SELECT dmshook._check_options('{"signature": ["github", 1]}');
SELECT dmshook._check_options('{"signature": {"github": true}}');
SELECT dmshook._check_options('{"signature_header": "X-Dealer-Signature"}');
SELECT dmshook._check_options('{"signature_header": "X Dealer"}');
SELECT dmshook._check_options('{"signature_header": "Host"}');
SELECT dmshook._check_options('{"signature_header": "Webhook-Signature"}');
SELECT dmshook._check_options('{"signature_header": "x-hub-signature-256"}');
SELECT dmshook._check_options('{"signature_header": 1}');

-- what is made, and what people are told
CREATE VIEW made AS
	SELECT w.name, s.kind, left(s.value, 5) AS secret, length(s.value), s.expires_at IS NOT NULL AS expires, w.public_key ~ '^whpk_[A-Za-z0-9+/]{43}=$' AS public
	FROM dmshook.webhook w JOIN dmshook.webhook_secret s ON s.webhook = w.id AND s.kind LIKE 'signing%' ORDER BY w.id, s.id;
SELECT webhook, left(signing_secret, 5) AS secret, regexp_replace(hint, 'whpk_[A-Za-z0-9+/]{43}=', 'whpk_...') AS hint
FROM (VALUES ('S', '{}'), ('E', '{"signature": "standard-ed25519"}'), ('H', '{"signature": ["github"]}'),
	('A', '{"signature": ["github", "standard-ed25519", "standard"]}')) AS v (n, o),
	LATERAL dmshook.create_webhook(n, 'https://example.com/', '{vehicle.sold}', options => o::jsonb);
SELECT * FROM made;
-- imported ones
SELECT webhook, signing_secret, hint FROM dmshook.create_webhook('E2', 'https://example.com/', '{vehicle.sold}', options => '{"signature": ["standard-ed25519", "github"]}', secret => :'private');
SELECT name, public_key = :'public' AS public FROM dmshook.webhooks WHERE name = 'E2';
SELECT webhook, signing_secret FROM dmshook.create_webhook('H2', 'https://example.com/', '{vehicle.sold}', options => '{"signature": "github"}', secret => 'any text');
SELECT webhook, signing_secret = :'v1' AS same FROM dmshook.create_webhook('H3', 'https://example.com/', '{vehicle.sold}', options => '{"signature": "github"}', secret => :'v1');
SELECT * FROM made WHERE name ~ '.[0-9]';
-- fail: one that the schemes have no use for, or a broken one
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', options => '{"signature": ["github", "standard"]}', secret => 'any text');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', secret => :'private');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', options => '{"signature": "standard-ed25519"}', secret => :'v1');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', options => '{"signature": "standard-ed25519"}', secret => :'public');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', options => '{"signature": "github"}', secret => 'whsec_typo');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', options => '{"signature": "github"}', secret => '');
-- fail: names of headers that are somebody's already
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"X-HUB-Signature-256": "x"}', options => '{"signature": "github"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', headers => '{"X-Sig": "x"}', options => '{"signature_header": "x-sig"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "api_key", "header": "X-Sig", "key": "k"}', options => '{"signature_header": "x-sig"}');
SELECT dmshook.create_webhook('x', 'https://example.com/', '{vehicle.sold}', auth => '{"kind": "bearer", "token": "k"}', options => '{"signature_header": "Authorization"}');
SELECT dmshook.alter_webhook('H', headers => '{"x-hub-signature-256": "x"}');
SELECT count(*) FROM dmshook.create_webhook('S2', 'https://example.com/', '{vehicle.sold}', headers => '{"x-hub-signature-256": "x"}');
SELECT dmshook.alter_webhook('S2', options => '{"signature": "github"}');
SELECT dmshook.drop_webhook('S2');

-- preview
SELECT count(dmshook.alter_webhook(n, options => '{"signature_header": "X-Sig"}')) FROM unnest('{S,E,H,A}'::text[]) n;
SELECT n, p.headers->'webhook-signature' AS standard, p.headers->'x-hub-signature-256' AS github, p.headers->'x-sig' AS legacy
FROM unnest('{S,E,H,A}'::text[]) n, dmshook.preview(n) p;

-- altered: what is missing is made, what is of no use any more goes
SELECT regexp_replace(dmshook.alter_webhook('S', options => '{"signature": ["standard", "standard-ed25519"]}'), 'whpk_[A-Za-z0-9+/]{43}=', 'whpk_...');
SELECT * FROM made WHERE name = 'S';
SELECT dmshook.alter_webhook('S', options => '{"signature": null}');
SELECT * FROM made WHERE name = 'S';
CREATE TEMP TABLE before AS SELECT dmshook.signing_secret('H') AS secret;
SELECT dmshook.alter_webhook('H', options => '{"signature": ["standard", "github"]}');
SELECT dmshook.signing_secret('H') = secret AS still_the_same FROM before;
SELECT dmshook.alter_webhook('H2', options => '{"signature": ["standard", "github"]}');
SELECT dmshook.signing_secret('H2', 'github') AS github, dmshook.signing_secret('H2') ~ '^whsec_' AS standard;
SELECT * FROM made WHERE name = 'H2';
SELECT dmshook.alter_webhook('H2', options => '{"signature": ["github"]}');
SELECT dmshook.signing_secret('H2');
SELECT dmshook.signing_secret('H2', 'standard');

-- rotation: the new one, and the old one for a while
TRUNCATE before;
INSERT INTO before SELECT dmshook.rotate_secret('S');
SELECT secret = dmshook.signing_secret('S') AS is_new FROM before;
SELECT kind, expires_at > now() + interval '23 hours' AND expires_at < now() + interval '25 hours' AS old FROM dmshook.webhook_secret s JOIN dmshook.webhook w ON w.id = s.webhook WHERE w.name = 'S' AND s.kind = 'signing' ORDER BY s.id;
-- within the overlap: no longer than was promised, at most three old ones
SELECT dmshook.rotate_secret('S', '1 hour') ~ '^whsec_' AS again;
SELECT expires_at < now() + interval '2 hours' AS old FROM dmshook.webhook_secret s JOIN dmshook.webhook w ON w.id = s.webhook WHERE w.name = 'S' AND s.kind = 'signing' ORDER BY s.id;
SELECT dmshook.rotate_secret('S', '2 hours', :'v1') = :'v1' AS imported;
SELECT dmshook.rotate_secret('S', '2 hours') ~ '^whsec_' AS oldest_goes;
SELECT kind, expires, count(*) FROM made WHERE name = 'S' GROUP BY 1, 2 ORDER BY 1, 2;
-- back to an old one: it is not there twice
SELECT dmshook.rotate_secret('S', '2 hours', :'v1') = :'v1' AS back;
SELECT kind, expires, count(*) FROM made WHERE name = 'S' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT dmshook.rotate_secret('S', '0') ~ '^whsec_' AS at_once;
SELECT kind, expires, count(*) FROM made WHERE name = 'S' GROUP BY 1, 2 ORDER BY 1, 2;
-- a key pair: its public half changes with it
TRUNCATE before;
INSERT INTO before SELECT public_key FROM dmshook.webhooks WHERE name = 'E';
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT dmshook.rotate_secret('E') ~ '^whsk_' AS rotated;
SELECT public_key <> secret AS new_key, public_key ~ '^whpk_' AS public FROM dmshook.webhooks, before WHERE name = 'E';
SELECT kind, expires, count(*) FROM made WHERE name = 'E' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT dmshook.rotate_secret('E', secret => :'private') = :'private' AS imported;
SELECT public_key = :'public' AS public FROM dmshook.webhooks WHERE name = 'E';
RESET client_min_messages;
-- of several kinds all, or the one that is given; GitHub's header has room for one
SELECT dmshook.rotate_secret('H3') ~ '^whsec_' AS github_alone;
SELECT dmshook.rotate_secret('H2', secret => 'another text') AS text;
SELECT * FROM made WHERE name = 'H2';
SELECT dmshook.rotate_secret('H2', '0') ~ '^whsec_' AS no_text;
SELECT * FROM made WHERE name = 'H2';
SET client_min_messages = warning;
SELECT dmshook.rotate_secret('A') ~ '^whsec_' AS all_of_them;
SELECT kind, expires, count(*) FROM made WHERE name = 'A' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT dmshook.rotate_secret('A', '0', :'private') = :'private' AS one;
SELECT kind, expires, count(*) FROM made WHERE name = 'A' GROUP BY 1, 2 ORDER BY 1, 2;
RESET client_min_messages;
\set VERBOSITY default
-- fail
SELECT dmshook.rotate_secret('A', secret => :'private');
SELECT dmshook.rotate_secret('A', secret => 'any text');
SELECT dmshook.rotate_secret('A', secret => :'public');
SELECT dmshook.rotate_secret('S', secret => 'whsec_typo');
SELECT dmshook.rotate_secret('S', '-1 second');
SELECT dmshook.rotate_secret('S', '2 years');
SELECT dmshook.rotate_secret('S', NULL);
SELECT dmshook.rotate_secret('Z');
SELECT dmshook.signing_secret('S', 'github');

-- what is over is removed, and the dispatcher told to forget it
DELETE FROM dmshook.command;
UPDATE dmshook.webhook_secret SET expires_at = clock_timestamp() WHERE expires_at IS NOT NULL AND webhook = (SELECT id FROM dmshook.webhook WHERE name = 'E');
SELECT dmshook._remove_expired_secrets();
SELECT kind, expires, count(*) FROM made WHERE name = 'E' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT w.name, c.kind FROM dmshook.command c JOIN dmshook.webhook w ON w.id = c.webhook;

-- changes say what was done, and no secret
SELECT DISTINCT regexp_replace(what, '^created.*', 'created') FROM dmshook.changes WHERE what !~ '^(altered|created|dropped)' ORDER BY 1;
SELECT count(*) FROM dmshook.changes WHERE what ~ 'whsec_|whsk_|any text|another text';
ROLLBACK;
