# Transforms: bodies that a function makes, as the role that set it, in a helper process; what fails or takes long is seen, and delays nobody.
use strict;
use warnings;
use DmshookTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $json = JSON::PP->new->canonical->utf8;
my $server = DmshookTest->new('main');
my $receiver = DmshookTest::Receiver->new;

$server->sql(q{
CREATE FUNCTION f_small(payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('car', payload->'data'->'key'->'id', 'price', payload->'data'->'record'->'price') $$;
CREATE FUNCTION f_text(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'id=' || ($1->'data'->'key'->>'id') || ';ü' $$;
CREATE FUNCTION f_who(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('user', current_user, 'path', current_setting('search_path'), 'zone', current_setting('timezone'), 'id', $1->'data'->'key'->'id') $$;
CREATE FUNCTION f_fail(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no such car: %', $1->'data'->'key'->>'id'; END $$;
CREATE FUNCTION f_null(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$;
CREATE TABLE note (x int);
GRANT INSERT ON note TO public;
CREATE FUNCTION f_write(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.note VALUES (1); RETURN '{}'; END $$;
CREATE FUNCTION f_sleep(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN '{}'; END $$;
CREATE FUNCTION f_set(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('timezone', 'Asia/Tokyo', false), pg_advisory_lock(7); RETURN '{}'; END $$;
CREATE FUNCTION f_role(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN SET ROLE postgres; RETURN '{}'; END $$;
CREATE FUNCTION f_big(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT repeat('x', 300000) $$;
CREATE FUNCTION f_wrong(text) RETURNS text LANGUAGE sql AS $$ SELECT $1 $$;
CREATE FUNCTION f_secret(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE ROLE admin LOGIN;
GRANT USAGE ON SCHEMA dmshook TO admin;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dmshook TO admin;
REVOKE EXECUTE ON FUNCTION f_secret(jsonb) FROM public;
});

my $once = '"max_attempts": 1';

sub create
{
	my ($name, $function, $more, %param) = @_;
	return $server->node->safe_psql('postgres', sprintf(q{SELECT signing_secret FROM dmshook.create_webhook(%s, %s, '{vehicle.*}', enabled => true, options => %s)},
		quote($name), quote($receiver->url("/ok/$name")), quote('{' . join(', ', ($more ? $more : ()), ($function ? "\"transform\": \"$function\"" : ())) . '}')), %param);
}

sub emit { my ($id) = @_; $server->sql(qq{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": $id}', '{"id": $id, "price": 18500.50}')}); }

sub bodies { my ($name) = @_; return map { my $b = $_->{body}; utf8::encode($b) if utf8::is_utf8($b); $b } $receiver->requests(sub { $_->{path} eq "/ok/$name" }); }

#
# What is refused at the door
#
like($server->sql_fails(qq{SELECT dmshook.create_webhook('x', 'https://localhost/', '{*}', options => '{"transform": "$_->[0]"}')}), $_->[1], "refused: $_->[0]") for
	[ 'f_small', qr/there is no function "f_small" that takes jsonb.*HINT:  Name it with its schema/s ], [ 'public.nope', qr/there is no function/ ],
	[ 'public.f_wrong(text)', qr/cannot be a transform/ ], [ 'public.f_small(jsonb); DROP TABLE note', qr/there is no function|syntax|expected/ ], [ '', qr/invalid value for webhook option "transform"/ ],
	[ 'pg_catalog.jsonb_array_elements', qr/cannot be a transform/ ], [ 'pg_catalog.jsonb_array_length(jsonb)', qr/cannot be a transform/ ];
my ($rc, $out, $err) = $server->node->psql('postgres', q{SELECT dmshook.create_webhook('x', 'https://localhost/', '{*}', options => '{"transform": "public.f_secret"}')}, extra_params => [ '-U', 'admin' ]);
like($err, qr/permission denied for function public.f_secret/, 'refused: a function that the admin may not call');

like($server->sql_fails(q{SELECT dmshook.create_webhook('x', 'https://localhost/', '{*}', method => 'GET', options => '{"transform": "public.f_small"}')}),
	qr/a GET request has no body that a transform could make.*HINT:  Use POST, PUT or PATCH/s, 'refused: where there is no body');

#
# What is sent
#
my $secret = create('small', 'public.f_small');
create('text', 'public.f_text(jsonb)');
create('plain', undef);
emit(42);
my ($request) = $receiver->wait_for(1, sub { $_->{path} eq '/ok/small' });
like($server->sql_fails(q{SELECT dmshook.alter_webhook('small', method => 'delete')}), qr/a DELETE request has no body/, 'refused: to take the body away');
{
	my ($rc, $out, $err) = $server->node->psql('postgres', q{SELECT body::json->>'type' FROM dmshook.preview('small')});
	is($out, 'webhook.test', 'preview() shows the body before it');
	like($err, qr/NOTICE:  this is the body before the transform public\.f_small\(jsonb\)\nHINT:  SELECT public\.f_small\('\{.*\}'::jsonb\) shows what would be sent/, '... and says so');
}
is($request->{body}, '{"car": 42, "price": 18500.50}', 'the body that the function makes');
is_deeply(verify($secret, $request), [ { standardwebhooks => 'ok', svix => 'ok' } ], 'signed as sent');
$receiver->wait_for(1, sub { $_->{path} eq '/ok/text' });
is_deeply([ bodies('text') ], [ "id=42;\xc3\xbc" ], 'a body that is no JSON');
$receiver->wait_for(1, sub { $_->{path} eq '/ok/plain' });
$server->wait_sql(q{SELECT count(*) = 3 FROM dmshook.deliveries WHERE state = 'delivered'});
is($server->sql(q{SELECT payload FROM dmshook.deliveries WHERE webhook = 'small'}), $request->{body}, 'what was sent is in the log');
is($server->sql(q{SELECT payload FROM dmshook.attempts WHERE webhook = 'text'}), "id=42;\xc3\xbc", '... whatever it is');
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('small', 'vehicle.sold')}), 't', 'a test');
is($server->sql(q{SELECT payload FROM dmshook.attempts WHERE webhook = 'small' AND kind = 'test'}), '{"car": 42, "price": 18500.50}', '... with the function');
is($server->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook transformer'}), '1', 'one helper');

# a payload of three hundred kB, there and back; many at once
create('big', 'public.f_big', '"max_in_flight": 4');
$server->sql(q{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', n), jsonb_build_object('x', repeat('y', 200000)))) FROM generate_series(100, 103) n});
$receiver->wait_for(4, sub { $_->{path} eq '/ok/big' && length $_->{body} == 300000 });
$receiver->wait_for(4, sub { $_->{path} eq '/ok/small' && $_->{body} =~ /"car": 1[01]\d,/ });
pass('large ones');
$server->sql(q{SELECT dmshook.drop_webhook('big')});

#
# As whom, and where
#
create('who', 'public.f_who', undef, extra_params => [ '-U', 'admin' ]);
create('set', 'public.f_set');
create($_, "public.f_$_", $once) for qw(fail null write role);
emit(50);
$receiver->wait_for(1, sub { $_->{path} eq '/ok/set' });
emit(51);
$receiver->wait_for(2, sub { $_->{path} eq '/ok/who' });
is_deeply([ sort { $a->{id} <=> $b->{id} } map { $json->decode($_) } bodies('who') ],
	[ map { { id => $_, user => 'admin', path => 'pg_catalog, pg_temp', zone => 'UTC' } } 50, 51 ], 'as the role that set it, and nothing of another call is left');
$server->wait_sql(q{SELECT count(*) = 8 FROM dmshook.dead_letters WHERE webhook IN ('fail', 'null', 'write', 'role')});
my %error = map { split /\|/, $_, 2 } split /\n/, $server->sql(q{SELECT DISTINCT webhook || '|' || error FROM dmshook.dead_letters WHERE sequence = (SELECT max(sequence) FROM dmshook.dead_letters)});
is($error{fail}, 'the transform public.f_fail(jsonb) failed: no such car: 51', 'an error');
is($error{null}, 'the transform public.f_null(jsonb) failed: function public.f_null(jsonb) returned null', 'a NULL');
like($error{write}, qr/cannot execute INSERT in a read-only transaction/, 'it may not write');
like($error{role}, qr/cannot set parameter "role" within security-/, 'nor become another role');
is($server->sql(q{SELECT DISTINCT outcome FROM dmshook.attempts WHERE webhook = 'fail'}), 'internal_error', 'the outcome');
is($server->sql(q{SELECT count(*) FROM dmshook.dead_letters WHERE payload IS NOT NULL}), '0', 'no payload was sent, none is shown');
is($server->sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7}), '0', 'locks are gone');

# mended, and sent again
$server->sql(q{CREATE OR REPLACE FUNCTION f_fail(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('ok', true) $$; SELECT dmshook.redeliver_dead('fail')});
$receiver->wait_for(2, sub { $_->{path} eq '/ok/fail' && $_->{body} eq '{"ok": true}' });
pass('mended');
# what it may no longer do
$server->sql(q{REVOKE EXECUTE ON FUNCTION f_who(jsonb) FROM public; DROP FUNCTION f_null(jsonb)});
emit(52);
$server->wait_sql(q{SELECT error FROM dmshook.attempts WHERE webhook = 'who' ORDER BY id DESC LIMIT 1}, 'the transform public.f_who(jsonb) failed: role "admin" may not call function public.f_who(jsonb)');
$server->wait_sql(q{SELECT error ~ 'function "?public.f_null\(jsonb\)"? does not exist' FROM dmshook.attempts WHERE webhook = 'null' ORDER BY id DESC LIMIT 1});
$server->sql(q{SELECT dmshook.drop_webhook(name) FROM dmshook.webhooks WHERE name NOT IN ('small', 'plain', 'text')});

#
# One that sleeps: cancelled, and nobody waits for it
#
create('sleep', 'public.f_sleep', '"max_attempts": 1, "max_in_flight": 4');
emit(60);
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.dead_letters WHERE webhook = 'sleep'});
is($server->sql(q{SELECT error FROM dmshook.dead_letters WHERE webhook = 'sleep'}), 'the transform public.f_sleep(jsonb) took longer than 1000 ms', 'cancelled after a second');
$server->sql(q{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', n), '{}')) FROM generate_series(201, 230) n});
$receiver->wait_for(30, sub { $_->{path} eq '/ok/small' && $_->{body} =~ /"car": 2[0-3]\d,/ });
is($server->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook transformer'}), '2', 'slow ones have a helper of their own');
cmp_ok($server->sql(q{SELECT count(*) FROM dmshook.dead_letters WHERE webhook = 'sleep'}), '<', 25, '... which still sleeps when the others have been served');

#
# A helper that dies fails the call that it had; another one comes
#
$server->wait_sql(q{SELECT count(*) = 1 FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dmshook transformer' AND wait_event = 'PgSleep') x});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.dead_letters WHERE webhook = 'sleep' AND error = 'the process that called the function ended'});
$server->wait_sql(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dmshook transformer' AND wait_event = 'PgSleep'});
emit(80);
$receiver->wait_for(1, sub { $_->{path} eq '/ok/small' && $_->{body} =~ /"car": 80,/ });
pass('the others go on');
$server->sql(q{SELECT dmshook.drop_webhook('sleep')});

# one that does not let itself be cancelled
$server->sql(q{CREATE FUNCTION f_stubborn(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN LOOP BEGIN PERFORM pg_sleep(30); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$});
create('stubborn', 'public.f_stubborn', $once);
emit(90);
$server->wait_sql(q{SELECT error FROM dmshook.dead_letters WHERE webhook = 'stubborn'}, 'the function did not end in time, nor when it was cancelled');
emit(91);
$receiver->wait_for(1, sub { $_->{path} eq '/ok/small' && $_->{body} =~ /"car": 91,/ });
pass('and one that cannot be cancelled is ended');
$server->sql(q{SELECT dmshook.drop_webhook('stubborn')});

#
# DROP EXTENSION and DROP DATABASE while one is called
#
$server->sql(q{CREATE DATABASE other});
$server->sql(q{CREATE EXTENSION dmshook; CREATE FUNCTION f_sleep(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN '{}'; END $$}, 'other');
$server->sql(sprintf(q{SELECT dmshook.create_webhook('sleep', %s, '{*}', enabled => true, options => '{"transform": "public.f_sleep"}')}, quote($receiver->url('/ok/other'))), 'other');
$server->sql(q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": 1}', '{}')}, 'other');
$server->wait_sql(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dmshook transformer' AND datname = 'other'});
$server->sql(q{DROP DATABASE other});
is($server->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dmshook%' AND datname = 'other'}), '0', 'DROP DATABASE');
$server->sql(q{DROP EXTENSION dmshook CASCADE});
$server->wait_sql(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dmshook transformer'});
pass('DROP EXTENSION');
unlike(slurp_file($server->node->logfile), qr/PANIC|TRAP|signal 11|terminated by signal/, 'nobody crashed');

$server->node->stop;

#
# No room for a helper; another encoding
#
my $small = DmshookTest->new('small', conf => "max_worker_processes = 3\n", initdb => [ '--encoding=LATIN1', '--no-locale' ]);
$small->sql(q{CREATE FUNCTION f(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('name', $1->'data'->'record'->'name') $$});
$small->sql(sprintf q{SELECT dmshook.create_webhook('a', %s, '{*}', enabled => true, options => '{"transform": "public.f", "backoff": {"intervals": ["500ms"]}, "max_attempts": 1000}')}, quote($receiver->url('/ok/latin')));
$small->sql(q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": 1}', jsonb_build_object('name', 'J' || chr(252) || 'rgen'))});
$small->wait_sql(q{SELECT count(*) > 0 FROM dmshook.attempts WHERE error = 'no process could be started for the transform' AND hint ~ 'max_worker_processes'});
pass('no room for a helper is said');
$small->node->append_conf('postgresql.conf', "max_worker_processes = 8\n");
$small->node->restart;
$receiver->wait_for(1, sub { $_->{path} eq '/ok/latin' });
is_deeply([ bodies('latin') ], [ "{\"name\": \"J\xc3\xbcrgen\"}" ], 'sent once there is; as UTF-8');

done_testing();
