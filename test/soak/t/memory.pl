# The dispatcher has no more memory (prlimit on its address space, so little that a body, a thread or a plan does not fit): it starts again or goes on, nothing is lost, nobody else notices.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $server = DmshookTest->new('memory', restart_after_crash => 1, conf => "jit = off\nautovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;
my $mb = 1024 * 1024;
$server->sql(q{CREATE TABLE vehicle (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text, notes text)});
$server->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});
# what fails for want of memory is soon tried again, and often
my $options = '{"backoff": {"intervals": ["300ms"], "jitter": 0}, "max_attempts": 1000, "breaker": null, "disable_after": null}';
$server->sql(sprintf q{SELECT FROM dmshook.create_webhook('w%d', '%s', '{*}', enabled => true, options => '%s')}, $_, $receiver->url("/ok/w$_"), $options) for 1 .. 4;

# So much more address space than it has now; undef: what it had at first.
sub limit
{
	my ($pid, $more) = @_;
	my $as = 'unlimited';
	if (defined $more)
	{
		my ($now) = slurp_file("/proc/$pid/status") =~ /^VmSize:\s+(\d+) kB/m;
		$as = $now * 1024 + $more;
	}
	# the soft limit, so that it can be raised again
	return system('prlimit', '--pid', $pid, "--as=$as:unlimited") == 0;
}

sub sell
{
	my ($n, $size) = @_;
	return $server->sql("INSERT INTO vehicle (status, notes) SELECT 'in stock', repeat('x', $size) FROM generate_series(1, $n) g");
}

# All events by all webhooks; requests beyond the first of each.
sub all_delivered
{
	my ($what) = @_;
	$server->wait_sql(q{SELECT count(*) = 4 * (SELECT count(*) FROM dmshook.event) FROM (SELECT DISTINCT event, webhook FROM dmshook.attempt WHERE final = 'd') d});
	my %committed = map { $_ => 1 } split /\n/, $server->sql(q{SELECT message_id FROM dmshook.events});
	my %n;
	$n{"$_->{path} $_->{id}"}++ for received($receiver, 200);
	is(scalar keys %n, 4 * keys %committed, "$what: all that was committed arrives, and nothing else (" . keys(%n) . ')');
	is(scalar(grep { !$committed{ (split ' ', $_)[1] } } keys %n), 0, '... with the webhook-ids of the events');
	is($server->sql('SELECT count(*) FROM dmshook.dead_letters'), 0, '... none was given up');
	return;
}

sell(10, 100);
all_delivered('to begin with');

# ---- there is room for some of what it is to send: it ends with an error, and the next one goes on ----

my $size = $server->log_size;
my $pid = dispatcher_pid($server);
$server->sql(qq{SELECT FROM generate_series(1, 4) g, dmshook.pause_webhook('w' || g)});
sell(60, 800_000);
ok(limit($pid, 20 * $mb), 'a limit of 20 MB more for bodies of 48 MB');
$server->sql(qq{SELECT FROM generate_series(1, 4) g, dmshook.resume_webhook('w' || g)});
$server->wait_log(qr/LOG:  dmshook dispatcher of database "postgres" failed: out of memory/, $size);
isnt(wait_dispatcher_pid($server, $pid), $pid, 'it ends with a clear line in the log, and another one starts');
all_delivered('out of memory while reading');

# ---- so little that anything may fail: each way, in its own time ----

my %how;
for my $more (map { $_ * 64 * 1024 } 0, 1, 2, 4, 8, 16, 32, 64, 128)
{
	$pid = dispatcher_pid($server);
	my $before = $server->sql('SELECT count(*) FROM dmshook.attempt');
	$size = $server->log_size;
	# it may have gone since
	next if !limit($pid, $more);
	sell(30, 50_000);
	# it shows: an attempt that failed, an end; or there was enough
	poll_until(sub {
		return $how{ended}++ + 1 if dispatcher_pid($server) ne $pid;
		return $how{'failed attempts'}++ + 1 if $server->sql("SELECT count(*) FROM dmshook.attempt WHERE id > $before AND outcome <> 'o'") > 0;
		return $how{enough}++ + 1 if $server->sql(q{SELECT count(*) = 4 * (SELECT count(*) FROM dmshook.event) FROM dmshook.attempt WHERE final = 'd'}) eq 't';
		return 0;
	}, sub { "with $more bytes more: nothing happens" });
	limit($pid, undef) if dispatcher_pid($server) eq $pid;
	all_delivered(sprintf '%d kB more', $more / 1024);
}
cmp_ok(($how{ended} // 0) + ($how{'failed attempts'} // 0), '>', 0, 'it was too little; ways that it took: ' . join ', ', map { "$_ $how{$_}" } sort keys %how);
my $log = slurp_file($server->node->logfile);
unlike($log, qr/PANIC|terminated by signal|all server processes terminated/, 'the server never noticed');
unlike($log, qr/ERROR:(?!.*out of memory)/, 'and nobody else did');
$receiver->stop;
done_testing();
