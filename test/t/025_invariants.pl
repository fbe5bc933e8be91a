# No transaction while anything waits on the network; what ends a dispatcher, its database or its extension is not held up by deliveries under way.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $server = DmshookTest->new('invariants', conf => "max_worker_processes = 16\nmax_prepared_transactions = 5\nautovacuum = off\nwal_level = replica\nmax_wal_senders = 3\n");
my $receiver = DmshookTest::Receiver->new;
my $options = '{"max_in_flight": 64, "timeout": "60s", "backoff": {"intervals": ["100ms"]}, "breaker": null, "max_attempts": 1000}';

# A database with a webhook whose 64 requests hang.
sub hanging
{
	my ($database, $path) = @_;
	$server->sql("CREATE DATABASE $database") if $database ne 'postgres';
	$server->sql('CREATE EXTENSION dmshook', $database) if $database ne 'postgres';
	return hang($database, $path);
}

sub hang
{
	my ($database, $path) = @_;
	my $before = $receiver->stats->{'connections.open'} // 0;
	$server->sql(sprintf(q{SELECT dmshook.create_webhook('hangs', '%s', '{*}', enabled => true, options => '%s')}, $receiver->url($path), $options), $database);
	$server->sql(q[SELECT count(dmshook.emit('vehicle.added', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, 100) g], $database);
	$server->wait_sql('SELECT max(in_flight) FROM dmshook.dispatchers', 64, $database);
	poll_until(sub { $receiver->stats->{'connections.open'} >= $before + 64 }, 'connections');
	return dispatcher_pid($server, $database);
}

# How long it takes, in seconds.
sub quick
{
	my ($what, $limit, $sub) = @_;
	my $begin = time;
	$sub->();
	my $took = time - $begin;
	return cmp_ok($took, '<', $limit, sprintf '%s (%.0f ms)', $what, 1000 * $took);
}

# ---- nothing is open while 64 receivers hang ----

my $pid = hanging('postgres', '/hang');
my $activity = "FROM pg_stat_activity WHERE pid = $pid";
$server->wait_sql("SELECT state = 'idle' $activity");
is($server->sql(<<"SQL"), 0, 'while 64 receivers hang no transaction and no snapshot of the dispatcher is open');
CREATE FUNCTION looks(n int) RETURNS bigint LANGUAGE plpgsql AS \$\$
DECLARE
	open bigint := 0;
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM pg_stat_clear_snapshot();
		open := open + (SELECT count(*) FILTER (WHERE xact_start IS NOT NULL OR backend_xid IS NOT NULL OR backend_xmin IS NOT NULL) $activity);
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN open;
END
\$\$;
SELECT looks(150);
SQL
is($server->sql('SELECT in_flight FROM dmshook.dispatchers'), 64, '(they do)');
is($server->sql("SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype <> 'virtualxid' AND NOT (locktype = 'advisory')"), 0, 'nor has it a lock');
is($server->sql("SELECT wait_event_type $activity"), 'Extension', 'it sleeps in the extension');
my $begin = time;
my ($before) = slurp_file("/proc/$pid/stat") =~ /\) \S (?:\S+ ){10}(\d+ \d+)/;
$server->sql('VACUUM dmshook.event');
$server->sql('SELECT 1') while time - $begin < 1;
my ($after) = slurp_file("/proc/$pid/stat") =~ /\) \S (?:\S+ ){10}(\d+ \d+)/;
my $ticks = eval { my ($a, $b) = map { my ($u, $s) = split / /; $u + $s } $before, $after; $b - $a };
cmp_ok($ticks, '<=', 30, 'nor does it spin');

# what it does meanwhile: a test of another webhook, at once
$server->sql(sprintf q{SELECT dmshook.create_webhook('well', '%s', '{*}', enabled => true)}, $receiver->url('/ok/well'));
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('well')}), 't', 'beside them a test of another webhook is made');
$server->sql(emit(1));
$receiver->wait_for(1, sub { $_->{path} eq '/ok/well' && $_->{body} !~ /"test"/ });
pass('and its deliveries');

# ---- it ends when told to ----

$begin = time;
is($server->sql("SELECT pg_terminate_backend($pid, 20000)"), 't', 'pg_terminate_backend');
cmp_ok(time - $begin, '<', 2, sprintf('... ends it within 2 s (%.0f ms)', 1000 * (time - $begin)));
$pid = wait_dispatcher_pid($server, $pid);
$server->wait_sql('SELECT max(in_flight) FROM dmshook.dispatchers', 64);
quick('a fast shutdown', 5, sub { $server->node->stop('fast') });
unlike(slurp_file($server->node->logfile), qr/terminating background worker "dmshook|PANIC|exited with exit code 1\n.*dmshook dispatcher/, '... a quiet one');
$server->node->start;
$pid = wait_dispatcher_pid($server);
$server->wait_sql('SELECT max(in_flight) FROM dmshook.dispatchers', 64);
pass('after the start it goes on');
# smart: a server that only has dispatchers left stops
quick('a smart shutdown', 10, sub { $server->node->stop('smart') });
$server->node->start;
wait_dispatcher_pid($server);
is($server->sql('SELECT count(*) FROM dmshook.event'), 101, 'nothing is lost');

# ---- settings of the database ----

my %settings = (
	default_transaction_read_only => 'on',
	default_transaction_isolation => 'serializable',
	default_transaction_deferrable => 'on',
	statement_timeout => '1ms',
	lock_timeout => '1ms',
	idle_in_transaction_session_timeout => '1ms',
	synchronous_commit => 'remote_apply',
	session_replication_role => 'origin',
	search_path => 'nowhere',
	row_security => 'off',
	enable_indexscan => 'off',
	DateStyle => 'German',
	IntervalStyle => 'sql_standard',
	TimeZone => 'Asia/Kolkata',
	bytea_output => 'escape',
	extra_float_digits => '-10',
	xmloption => 'document',
	standard_conforming_strings => 'off',
	client_min_messages => 'debug5',
	commit_delay => '100000',
	work_mem => '64kB');
$server->sql('CREATE DATABASE pinned');
$server->sql('CREATE EXTENSION dmshook', 'pinned');
$server->sql(sprintf(q{SELECT dmshook.create_webhook('%s', '%s', '{*}', enabled => true, options => '{"backoff": {"intervals": ["50ms"]}}')},
	$_->[0], $receiver->url($_->[1])), 'pinned') for [ 'good', '/ok/pinned' ], [ 'fails', '/fail/1/500/pinned' ];
$server->sql(join '', map { "ALTER DATABASE pinned SET $_ = '$settings{$_}';" } sort keys %settings);
# commits wait for a standby that is not there, unless they say otherwise (not where max_wal_senders is 0, as Cluster.pm has it)
$server->sql(q{ALTER SYSTEM SET synchronous_standby_names = 'missing'});
$server->sql('SELECT pg_reload_conf()');
$pid = dispatcher_pid($server, 'pinned');
$server->sql("SELECT pg_terminate_backend($pid, 10000)");
wait_dispatcher_pid($server, $pid, 'pinned');
# sessions of this test have none of them
$ENV{PGOPTIONS} = join ' ', map { "-c $_" } qw(default_transaction_read_only=off default_transaction_deferrable=off
	statement_timeout=0 lock_timeout=0 idle_in_transaction_session_timeout=0 synchronous_commit=local client_min_messages=notice enable_indexscan=on);
my $size = $server->log_size;
for my $i (1 .. 20)
{
	$server->sql(emit($i), 'pinned');
}
my %requests;
poll_until(sub {
	%requests = ();
	$requests{"$_->{path} $_->{status}"}++ for received($receiver);
	return ($requests{'/ok/pinned 200'} // 0) >= 20 && ($requests{'/fail/1/500/pinned 200'} // 0) >= 20;
}, sub { join ', ', map { "$_: $requests{$_}" } sort keys %requests });
pass('settings of the database do not keep a dispatcher from its work');
$server->wait_sql("SELECT count(*) = 40 FROM dmshook.attempt WHERE final = 'd'", undef, 'pinned');
$server->wait_sql("SELECT count(*) = 0 FROM dmshook.queue", undef, 'pinned');
$server->wait_sql("SELECT low >= 20 FROM dmshook.position WHERE webhook = 0", undef, 'pinned');
pass('nor from logging it');
unlike(substr(slurp_file($server->node->logfile), $size), qr/could not be logged|dispatcher of database "pinned" failed/, 'and it does not fail');
my ($first) = $receiver->requests(sub { $_->{path} eq '/ok/pinned' });
like($first->{body}, qr/"timestamp": ?"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"/, 'nor do they change the body');
$server->sql('ALTER SYSTEM RESET synchronous_standby_names');
$server->sql('SELECT pg_reload_conf()');
delete $ENV{PGOPTIONS};

# ---- the database is dropped with deliveries under way ----

$pid = hanging('doomed', '/hang/doomed');
quick('DROP DATABASE with deliveries under way', 5, sub { $server->sql('DROP DATABASE doomed') });
is($server->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), 0, 'its dispatcher is gone');
$server->sql('CREATE DATABASE doomed');
$server->sql('CREATE EXTENSION dmshook', 'doomed');
is($server->sql('SELECT count(*) FROM dmshook.event', 'doomed'), 0, 'another of that name begins anew');
hang('doomed', '/hang/again');
pass('and has a dispatcher');
quick('ALTER DATABASE RENAME with deliveries under way', 5, sub { $server->sql('ALTER DATABASE doomed RENAME TO renamed') });
$server->sql('SELECT 1', 'renamed');
wait_dispatcher_pid($server, 0, 'renamed');
pass('the dispatcher is back under the new name');

# ---- the extension is dropped with deliveries under way ----

$pid = dispatcher_pid($server, 'renamed');
$server->wait_sql('SELECT max(in_flight) FROM dmshook.dispatchers', 64, 'renamed');
$size = $server->log_size;
quick('DROP EXTENSION with deliveries under way', 5, sub { $server->sql('DROP EXTENSION dmshook', 'renamed') });
$server->wait_sql("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
pass('its dispatcher goes');
$server->sql('CREATE EXTENSION dmshook', 'renamed');
hang('renamed', '/hang/recreated');
pass('CREATE EXTENSION again: a new one sends');
my $session = $server->session('renamed');
$session->query_safe('BEGIN; DROP EXTENSION dmshook');
$session->query_safe('ROLLBACK');
$session->quit;
$server->sql(emit(7), 'renamed');
$server->sql(sprintf(q{SELECT dmshook.create_webhook('fine', '%s', '{*}', enabled => true)}, $receiver->url('/ok/renamed')), 'renamed');
$server->sql(emit(8), 'renamed');
$receiver->wait_for(1, sub { $_->{path} eq '/ok/renamed' });
pass('a DROP EXTENSION that is rolled back leaves it sending');
unlike(substr(slurp_file($server->node->logfile), $size), qr/PANIC|was terminated by signal|could not be logged/, 'nothing of this is an error');
$server->node->stop('fast');
$receiver->stop;
done_testing();
