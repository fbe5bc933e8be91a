# No connection slot, no background worker, no file descriptor is left: it goes on or says so in the log, and is back to work when they return.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $server = DmshookTest->new('limits', restart_after_crash => 1, conf => "jit = off\nautovacuum = off\nmax_connections = 12\nmax_worker_processes = 4\nmax_logical_replication_workers = 0\n");
my $node = $server->node;
my $receiver = DmshookTest::Receiver->new;
my $hooks = 40;
my $options = '{"backoff": {"intervals": ["500ms"], "jitter": 0}, "max_attempts": 1000, "breaker": null, "disable_after": null}';
$server->sql(sprintf q{SELECT count(dmshook.create_webhook('w' || g, '%s' || g, '{*}', enabled => true, options => '%s')) FROM generate_series(1, %d) g},
	$receiver->url('/slow/100/w', '127.0.0.1'), $options, $hooks);

my $emit = q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": 1}', '{}')};
sub all_delivered
{
	my ($what) = @_;
	$server->wait_sql(qq{SELECT count(*) = $hooks * (SELECT count(*) FROM dmshook.event WHERE entity <> 'webhook') FROM (SELECT DISTINCT event, webhook FROM dmshook.attempt WHERE final = 'd') d});
	is($server->sql('SELECT count(*) FROM dmshook.queue') + $server->sql('SELECT count(*) FROM dmshook.dead_letters'), 0, "$what: all of it was delivered");
	return;
}

$server->sql($emit);
all_delivered('to begin with');

# ---- connection slots ----

my $first = $server->session;
$first->query_safe('SELECT 1');
my @others;
while ($node->psql('postgres', 'SELECT 1') == 0)
{
	push @others, $server->session;
	die 'slots do not run out' if @others > 20;
}
my ($rc, $out, $err) = $node->psql('postgres', 'SELECT 1');
like($err, qr/too many clients|remaining connection slots/, 'no connection slot is left');
my $pid = $first->query_safe('SELECT pid FROM dmshook.dispatchers');
$first->query_safe("SELECT pg_terminate_backend($pid, 60000)");
poll_until(sub { my $now = $first->query_safe('SELECT pid FROM dmshook.dispatchers WHERE state = \'running\''); $now ne '' && $now ne $pid }, 'another dispatcher');
pass('a dispatcher needs none to start');
my $before = $receiver->stats->{requests};
$first->query_safe($emit);
poll_until(sub { $receiver->stats->{requests} >= $before + $hooks }, 'it sends');
pass('nor to send');
$_->quit for @others;
$first->quit;
all_delivered('connections are back');

# ---- background workers: other databases' dispatchers have them all ----

my $size = $server->log_size;
for my $name (qw(one two three four))
{
	$server->sql("CREATE DATABASE $name");
	$server->sql('CREATE EXTENSION dmshook', $name);
}
$server->wait_log(qr/LOG:  no background worker is free for a dmshook dispatcher.*HINT:  Increase max_worker_processes/s, $size);
pass('no worker is left: the log says so, and what to do');
$pid = dispatcher_pid($server);
$server->sql("SELECT pg_terminate_backend($pid, 60000)");
$server->sql($emit);
# whoever is first gets the one that is free; all but one of the others go
$server->sql("DROP DATABASE $_") for qw(one two three);
wait_dispatcher_pid($server, $pid);
all_delivered('workers are back');
$server->sql('DROP DATABASE four');

# ---- file descriptors of the dispatcher ----

sub descriptors
{
	my ($limit) = @_;
	# the soft limit, so that it can be raised again
	return system('prlimit', '--pid', $pid, "--nofile=$limit:") == 0;
}

# a new one has no kept connections; its limit is what it has open then, and a few
my $old = dispatcher_pid($server);
$server->sql("SELECT pg_terminate_backend($old, 60000)");
$pid = wait_dispatcher_pid($server, $old);
$server->wait_sql(q{SELECT state = 'running' FROM dmshook.dispatchers});
my ($was) = slurp_file("/proc/$pid/limits") =~ /^Max open files\s+(\d+)/m;
$size = $server->log_size;
# its descriptors cannot be counted from outside (no one may look into it): the lowest limit with which a few requests go through
ok(descriptors(60), 'a limit of 60 descriptors for 40 connections and the server\'s files');
$server->sql($emit) for 1 .. 5;
$server->wait_sql(q{SELECT count(*) > 0 FROM dmshook.attempts WHERE outcome = 'internal_error' AND error ~ 'file descriptor' AND hint ~ 'ulimit -n'});
pass('attempts say so');
$server->wait_log(qr/WARNING:  no file descriptor was left for a request of dmshook.*HINT:  Raise the limit/s, $size);
pass('and the log');
is(dispatcher_pid($server), $pid, 'it lives');
ok(descriptors($was), 'the limit is raised again');
all_delivered('descriptors are back');
is(dispatcher_pid($server), $pid, 'by the same dispatcher');

unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'no crash');
$receiver->stop;
done_testing();
