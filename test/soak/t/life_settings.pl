# ALTER DATABASE and ALTER ROLE SET: isolation, read only, timeouts, synchronous_commit with a standby that is missing; the dispatcher and its helper go on, admins' functions do what they say. Single-user mode: what happens there is sent later.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $receiver = DmshookTest::Receiver->new;
my $server = DmshookTest->new('settings', conf => "max_worker_processes = 12\nautovacuum = off\nwal_level = replica\nmax_wal_senders = 3\n");
my $me = $server->sql('SELECT current_user');
$server->sql('CREATE TABLE vehicle (id int PRIMARY KEY, status text)');
$server->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});
$server->sql(q{CREATE FUNCTION shape(payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN jsonb_build_object('shaped', payload->'data'->'key'); END $$});
my @paths = ('/ok/plain', '/fail/1/500/retried', '/ok/filtered', '/ok/shaped');
my %more = ('/ok/filtered' => q{, filter => '$.data.record.status == "in stock"'}, '/ok/shaped' => q{, options => '{"transform": "public.shape"}'}, '/fail/1/500/retried' => q{, options => '{"backoff": {"intervals": ["100ms"]}, "breaker": null}'});
$server->sql(sprintf q{SELECT webhook FROM dmshook.create_webhook('%s', '%s', '{*}', enabled => true %s)}, ($_ =~ /(\w+)$/)[0], $receiver->url($_), $more{$_} // '') for @paths;

my %settings = (
	default_transaction_isolation => 'serializable',
	default_transaction_read_only => 'on',
	default_transaction_deferrable => 'on',
	statement_timeout => '1ms',
	lock_timeout => '1ms',
	idle_in_transaction_session_timeout => '1ms',
	idle_session_timeout => '1ms',
	synchronous_commit => 'remote_apply',
	session_replication_role => 'origin',
	search_path => 'nowhere',
	TimeZone => 'Asia/Kolkata',
	row_security => 'off');

# Sessions of this test are without them; the dispatcher is started again, so it has them.
my $without = join ' ', map { "-c $_" } 'default_transaction_isolation=read\\ committed', qw(default_transaction_read_only=off default_transaction_deferrable=off
	statement_timeout=0 lock_timeout=0 idle_in_transaction_session_timeout=0 idle_session_timeout=0 synchronous_commit=local search_path=public);
my $id = 0;

sub anew
{
	my ($what) = @_;
	my $pid = dispatcher_pid($server);
	$server->sql("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type LIKE 'dmshook %' AND backend_type <> 'dmshook launcher'");
	wait_dispatcher_pid($server, $pid);
	my $from = $id + 1;
	$id += 10;
	$server->sql("INSERT INTO vehicle (id, status) VALUES ($_, 'in stock')") for $from .. $id;
	for my $path (@paths)
	{
		poll_until(sub { my $n = grep { $_->{path} eq $path && $_->{status} == 200 } received($receiver); return $n >= $id }, "$what: $path");
	}
	$server->wait_sql(sprintf q{SELECT count(*) = %d FROM dmshook.attempt WHERE final = 'd'}, $id * @paths);
	$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.queue});
	return pass("$what: events, retries, filters and transforms go on, and are logged");
}

$server->sql(q{ALTER SYSTEM SET synchronous_standby_names = 'missing'; SELECT pg_reload_conf()});
local $ENV{PGOPTIONS} = $without;
for my $whose ("DATABASE postgres", "ROLE $me", "ROLE $me IN DATABASE postgres", 'ROLE ALL', 'SYSTEM')
{
	my $size = $server->log_size;
	my %these = %settings;
	delete $these{idle_session_timeout} if $whose eq 'SYSTEM';
	$server->sql("ALTER $whose SET $_ = '$these{$_}'") for sort keys %these;
	$server->sql('SELECT pg_reload_conf()');
	anew("ALTER $whose SET");
	unlike(substr(slurp_file($server->node->logfile), $size), qr/could not be logged|dispatcher of database "\w+" failed|PANIC|ERROR/, '... without an error');
	$server->sql("ALTER $whose RESET $_") for sort keys %these;
	$server->sql('SELECT pg_reload_conf()');
}

# a commit of the DMS waits for the standby, as it asked for; the dispatcher and everybody else do not
{
	local $ENV{PGOPTIONS} = '-c synchronous_commit=on';
	my $session = $server->session('postgres');
	$id++;
	$session->query_until(qr/begun/, "\\echo begun\nINSERT INTO vehicle (id, status) VALUES ($id, 'in stock');\n");
	local $ENV{PGOPTIONS} = $without;
	$server->wait_sql(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT%'});
	$id++;
	$server->sql("INSERT INTO vehicle (id, status) VALUES ($id, 'in stock')");
	poll_until(sub { my $n = grep { $_->{path} eq '/ok/plain' } received($receiver); return $n >= $id - 1 }, 'an event of another session');
	is(scalar(grep { $_->{path} eq '/ok/plain' } received($receiver)), $id - 1, 'a commit waits for a missing standby: it is not sent, what others commit is');
	$server->sql(q{SELECT dmshook.pause_webhook('plain'), dmshook.resume_webhook('plain')});
	$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL});
	pass('... admins\' functions work');
	$server->sql(q{ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()});
	poll_until(sub { my $n = grep { $_->{path} eq '/ok/plain' } received($receiver); return $n >= $id }, 'the event of the one that waited');
	pass('... when it need not wait any more its event is sent');
	$session->quit;
}
delete $ENV{PGOPTIONS};

# ---- sessions whose transactions are serializable, or read only ----

$server->sql('ALTER DATABASE postgres SET default_transaction_isolation = serializable');
my $n = () = received($receiver);
$server->sql(sprintf q{SELECT webhook FROM dmshook.create_webhook('mine', '%s', '{*}')}, $receiver->url('/ok/mine'));
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('mine')}), 't', 'serializable: test_webhook()');
$server->sql(q{SELECT dmshook.enable_webhook('mine')});
$server->sql(q{SELECT dmshook.alter_webhook('mine', headers => '{"X-A": "b"}'), dmshook.rotate_secret('mine'), dmshook.pause_webhook('mine')});
$id++;
$server->sql("INSERT INTO vehicle (id, status) VALUES ($id, 'in stock')");
$server->sql(q{SELECT dmshook.resume_webhook('mine')});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'mine' AND state = 'delivered'});
is($server->sql(q{SELECT dmshook.replay('mine', now() - interval '1 day', missing => true) > 0}), 't', '... create, alter, enable, pause, resume, rotate, replay');
$server->wait_sql(q{SELECT count(*) = (SELECT count(*) FROM dmshook.event) FROM dmshook.deliveries WHERE webhook = 'mine' AND state = 'delivered'});
$server->sql('ALTER DATABASE postgres RESET default_transaction_isolation; ALTER DATABASE postgres SET default_transaction_read_only = on');
is($server->sql(q{SELECT count(*) FROM dmshook.check() WHERE level = 'error'}), 0, 'read only: check() works');
for my $view (split /\n/, $server->sql(q{SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'dmshook'::regnamespace AND c.relkind = 'v' AND c.relname !~ '^_' ORDER BY 1}))
{
	is($server->sql("SELECT count(*) >= 0 FROM (SELECT * FROM dmshook.$view LIMIT 5) v"), 't', "read only: dmshook.$view");
}
like($server->sql_fails(q{SELECT dmshook.pause_webhook('mine')}), qr/in a read-only transaction/, 'read only: a change is refused by PostgreSQL\'s own error');
$server->sql('SET default_transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_read_only');

# ---- single-user mode ----

$n = $server->sql('SELECT count(*) FROM dmshook.event');
$server->node->stop;
my ($out, $err);
for my $sql ("INSERT INTO vehicle VALUES (9001, 'in stock')", "UPDATE vehicle SET status = 'sold' WHERE id = 9001", q{SELECT dmshook.emit('vehicle.added', 'vehicle', '{"id": 9002}', '{}')}, 'VACUUM FULL dmshook.attempt', 'REINDEX DATABASE postgres', q{SELECT dmshook.alter_webhook('mine', headers => '{"X-Single": "user"}')})
{
	my $ok = run_log([ 'postgres', '--single', '-j', '-D', $server->node->data_dir, 'postgres' ], '<', \"$sql;\n\n", '>', \$out, '2>', \$err);
	ok($ok && $err !~ /ERROR|FATAL|PANIC/, "single-user mode: $sql") or diag $err;
}
$server->node->start;
is($server->sql('SELECT count(*) FROM dmshook.event') - $n, 4, 'four events happened there');
$server->wait_sql(q{SELECT count(*) = 4 FROM dmshook.deliveries WHERE webhook = 'mine' AND state = 'delivered' AND entity_key->>'id' IN ('9001', '9002')});
my ($last) = reverse $receiver->requests(sub { $_[0]{path} eq '/ok/mine' });
is($last->{headers}{'x-single'}, 'user', 'they are sent, and what was changed there holds');
unlike(slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP|dispatcher of database "\w+" failed|could not be logged/, 'the server log has no complaint of us');
$server->node->stop;
done_testing();
