# Each function that people call, left open in a transaction: the DMS writes on, deliveries go on, other admins work; who must wait is named here.
use strict;
use warnings;

use DmshookTest;
use Test::More;

my $server = DmshookTest->new('open', conf => "jit = off\nmax_worker_processes = 12\n");
my $receiver = DmshookTest::Receiver->new;
my $url = quote($receiver->url('/ok/elsewhere'));

$server->sql(sprintf q{SELECT webhook FROM dmshook.create_webhook('%s', '%s', '{*}', enabled => true, options => '{"max_attempts": 1, "breaker": null, "disable_after": null}')}, @$_)
  for [ 'other', $receiver->url('/ok/other') ], [ 'target', $receiver->url('/switch/target') ], [ 'third', $receiver->url('/ok/third') ];
$server->sql('CREATE TABLE vehicle (id int PRIMARY KEY, status text); CREATE TABLE deal (id int PRIMARY KEY, status text); CREATE TABLE customer (id int PRIMARY KEY, name text); CREATE TABLE free (id int PRIMARY KEY); CREATE ROLE somebody');
$server->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle'); SELECT count(*) FROM dmshook.watch('free', 'vehicle.added', 'insert')});
$server->sql('INSERT INTO free VALUES (0)');
$server->wait_sql(q{SELECT state = 'exhausted' FROM dmshook.deliveries WHERE webhook = 'target'});
my $first = $server->sql('SELECT message_id FROM dmshook.events ORDER BY sequence LIMIT 1');
my $alert = $server->sql('SELECT min(id) FROM dmshook.alerts');

# what is called; and whom it makes wait: writers of a table whose triggers it makes, all of them, or admins of the same thing
my @calls = (
	[ q{watch_vehicle('vehicle', added_values => '{new}')}, 'vehicle' ],
	[ q{watch_deal('deal')}, 'deal' ], [ q{watch_job('deal')}, 'deal' ], [ q{watch_customer('customer')}, 'customer' ], [ q{watch('customer', 'customer.updated', 'update')}, 'customer' ],
	[ q{unwatch('vehicle')}, 'vehicle' ], [ q{unwatch_all()}, 'vehicle free' ],
	[ q{define_event_type('test_drive.booked', 'test_drive', 'A test drive was booked')} ],
	[ "create_webhook('new', $url, '{*}', enabled => true)" ],
	[ "alter_webhook('target', url => $url, events => '{*}', headers => '{\"X-A\": \"b\"}', new_name => 'renamed')" ],
	(map { [ "${_}_webhook('target')" ] } qw(enable disable pause resume drop test)),
	[ q{preview('target')} ], [ q{signing_secret('target')} ], [ q{rotate_secret('target')} ], [ q{reencrypt_secrets()}, 'secrets' ],
	[ q{sign('whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0', 'msg_1', now(), '{}')} ], [ q{verify('whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0', '{}', '{}')} ],
	[ "acknowledge($alert)" ], [ "redeliver('target', '$first')" ], [ q{redeliver_dead()} ], [ q{replay('target', now() - interval '1 hour')} ],
	[ "cancel('target', '$first')" ], [ q{cancel_all('target')} ], [ q{erase('vehicle', '{"id": 0}')} ],
	[ q{emit('vehicle.sold', 'vehicle', '{"id": -1}', '{}')} ],
	[ q{grant_viewer('somebody', payloads => true)} ], [ q{grant_admin('somebody')} ], [ q{grant_emitter('somebody')} ], [ q{revoke_all('somebody')} ],
	[ "explain('target', '$first')" ], [ q{retry_schedule('target')} ], [ q{check()} ], [ "sequence_of('$first')" ]);
my %called = map { $_->[0] =~ /^(\w+)/; $1 => 1 } @calls;
# claim_database() has a database of its own, below; capture() is the trigger's
$called{$_} = 1 for qw(claim_database capture);
is($server->sql(q{SELECT string_agg(DISTINCT p.proname, ' ' ORDER BY p.proname) FROM pg_proc p WHERE p.pronamespace = 'dmshook'::regnamespace AND p.proname !~ '^_'}), join(' ', sort keys %called), 'every function that people call is tried');

my $n = 0;
sub tried
{
	my ($call, $waits, $database, $claimed) = @_;
	my $what = $call =~ s/\(.*//r;
	my $session = $server->session($database);
	$session->query_safe('BEGIN');
	$session->query_safe("SELECT count(*) FROM dmshook.$call");
	$n++;
	for my $table (qw(free vehicle deal customer))
	{
		next if $waits =~ /\b$table\b/;
		$server->sql("SET lock_timeout = '10s'; INSERT INTO $table (id) VALUES ($n)", $database);
	}
	pass("$what is left open: the DMS writes on" . ($waits ? ", but for: $waits" : ''));
	if ($claimed)
	{
		$server->sql(q{SET lock_timeout = '10s'; SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": %d}', '{}')} =~ s/%d/1000 + $n/er);
		$server->wait_sql(sprintf q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'other' AND entity_key = '{"id": %d}' AND state = 'delivered'}, 1000 + $n);
		pass('... deliveries go on');
		is($server->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND wait_event_type = 'Lock'}), 0, '... the dispatcher waits for nobody');
	}
	my $secret = $waits eq 'secrets' ? '' : q{SELECT dmshook.rotate_secret('third');};
	my $third = $waits eq 'admins' ? '' : qq{SELECT dmshook.alter_webhook('third', headers => '{"X-C": "d"}'), dmshook.pause_webhook('third'); $secret SELECT dmshook.resume_webhook('third');};
	$server->sql(qq{SET lock_timeout = '10s'; BEGIN; SELECT webhook FROM dmshook.create_webhook('meanwhile', $url, '{*}'); $third SELECT count(*) FROM dmshook.check(); ROLLBACK}, $database);
	pass('... other admins work');
	is($server->sql(q{SELECT count(*) FROM pg_locks WHERE NOT granted}, $database), 0, '... nobody waits');
	$session->query_safe('ROLLBACK');
	$session->quit;
	return;
}
tried($_->[0], $_->[1] // '', 'postgres', 1) for @calls;
is($server->sql(q{SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM dmshook.webhooks}) =~ s/failing/active/r, 'other active, target active, third active', 'all was rolled back');
is($server->sql(q{SELECT count(*) FROM dmshook.command WHERE done_at IS NULL}), 0, 'no command is left');

# a table whose triggers are made: its writers wait until that is decided, and then write
my $session = $server->session('postgres');
$session->query_safe('BEGIN');
$session->query_safe(q{SELECT count(*) FROM dmshook.watch_deal('deal')});
like($server->sql_fails(q{SET lock_timeout = '100ms'; INSERT INTO deal (id) VALUES (-1)}), qr/lock timeout/, 'writers of a table wait while its triggers are being made, as for any trigger');
is($server->sql(q{SELECT count(*) >= 0 FROM deal}), 't', '... readers do not');
$session->query_safe('COMMIT');
$server->sql('INSERT INTO deal (id) VALUES (-1)');
is($server->sql(q{SELECT count(*) FROM dmshook.event WHERE type = 'deal.created' AND key = '{"id": -1}'}), 1, 'then they write, and are captured');
# the other way round: a writer that is left open makes watch_...() give up soon, so that others do not queue behind it
$session->query_safe('BEGIN; INSERT INTO customer (id) VALUES (-1)');
like($server->sql_fails(q{SELECT count(*) FROM dmshook.watch_customer('customer')}), qr/table "public.customer" is in use: its lock could not be had within 2 seconds/, 'a writer that stays open: watch_...() gives up');
$server->sql('INSERT INTO customer (id) VALUES (-2)');
$session->query_safe('ROLLBACK');
$session->quit;

# ---- claim_database(), in a copy ----

for my $mode (qw(copy takeover))
{
	$server->sql("CREATE DATABASE a_$mode TEMPLATE postgres", 'template1');
	# as a copy all webhooks are changed
	tried("claim_database('$mode')", $mode eq 'copy' ? 'admins' : '', "a_$mode", 0);
	is($server->sql(q{SELECT state FROM dmshook.dispatchers}, "a_$mode"), 'unclaimed', "claim_database('$mode') was not committed: unclaimed");
}
unlike(PostgreSQL::Test::Utils::slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP|deadlock|dispatcher of database "\w+" failed/, 'the server log has no complaint');
$server->node->stop;
done_testing();
