# The system's clock jumps an hour forwards, back, and back once more: nothing waits an hour for it, nothing is lost, nothing that was delivered is sent again.
# Made by a small library (test/soak/clock.c) in the server's processes: its clock is the system's, plus what stands in a file.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use Fcntl;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $library = "$PostgreSQL::Test::Utils::tmp_check/clock.so";
my $shift = "$PostgreSQL::Test::Utils::tmp_check/clock.shift";
system('cc', qw(-O2 -Wall -Wextra -Werror -shared -fPIC -o), $library, "$DmshookTest::top/test/soak/clock.c", '-ldl') == 0 or die 'no library';

# All processes of the server see it at once: one aligned word of a file that they have mapped.
sub set_clock
{
	my ($seconds) = @_;
	sysopen my $f, $shift, O_WRONLY | O_CREAT or die "$shift: $!";
	syswrite $f, pack 'q', $seconds;
	close $f;
	return;
}

set_clock(0);
my $server = DmshookTest->new('clock', start => 0, restart_after_crash => 1, conf => "jit = off\nautovacuum = off\ndmshook.allow_http = on\n");
{
	local @ENV{qw(LD_PRELOAD CLOCK_SHIFT)} = ($library, $shift);
	$server->node->start;
}
$server->sql('CREATE EXTENSION dmshook');
# without TLS: certificates of today are not valid yet an hour ago
my $receiver = DmshookTest::Receiver->new(plain => 1);

# retries, a circuit that is open, a rate, and one that just works
my $again = '"backoff": {"intervals": ["2s"], "jitter": 0}, "max_attempts": 1000, "disable_after": null';
my %hook = (
	ok => [ '/ok/ok', '{}' ],
	retries => [ '/switch/retries', "{$again, \"breaker\": null}" ],
	open => [ '/switch/open', "{$again, \"breaker\": {\"failures\": 3, \"deliveries\": 1, \"probe\": {\"initial\": \"1s\", \"max\": \"2s\"}}}" ],
	rate => [ '/ok/rate', '{"rate_limit": 5}' ]);
$server->sql(sprintf q{SELECT FROM dmshook.create_webhook('%s', '%s', '{*}', enabled => true, options => '%s')}, $_, $receiver->url($hook{$_}[0]), $hook{$_}[1])
  for sort keys %hook;

my $events = 0;
sub emit_some
{
	my ($n) = @_;
	$events += $n;
	return $server->sql("SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, $n) g");
}

sub count { my ($path) = @_; return $receiver->stats->{"path.$path.requests"} // 0; }

# Whatever the clock says, all of them go on: further attempts, probes, new events at their rate.
sub all_go_on
{
	my ($what) = @_;
	my %before = map { $_ => count($hook{$_}[0]) } qw(retries open);
	emit_some(10);
	poll_until(sub { count($hook{$_}[0]) >= $events }, sub { "$what: $_ has " . count($hook{$_}[0]) . " of $events" }) for qw(ok rate);
	poll_until(sub { count($hook{retries}[0]) >= $before{retries} + 2 * $events }, sub { "$what: retries: " . count($hook{retries}[0]) . ", before $before{retries}" });
	poll_until(sub { count($hook{open}[0]) >= $before{open} + 3 }, sub { "$what: probes: " . count($hook{open}[0]) . ", before $before{open}" });
	return pass("$what: deliveries, retries, probes and the rate go on");
}

sub clock_is
{
	my ($seconds) = @_;
	return $server->sql(sprintf 'SELECT abs(extract(epoch FROM clock_timestamp()) - %d) < 600', time + $seconds);
}

emit_some(20);
$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.webhooks WHERE name IN ('retries', 'open') AND state IN ('failing', 'circuit_open')});
$server->wait_sql(q{SELECT state FROM dmshook.webhooks WHERE name = 'open'}, 'circuit_open');
all_go_on('before');

set_clock(3600);
is(clock_is(3600), 't', 'the clock is an hour ahead');
all_go_on('an hour ahead');

my $size = $server->log_size;
my $pid = dispatcher_pid($server);
set_clock(0);
is(clock_is(0), 't', 'an hour back, it is right again');
$server->wait_log(qr/LOG:  the system's clock was set back by 36\d\d seconds/, $size);
all_go_on('an hour back');
isnt(dispatcher_pid($server), $pid, 'by a new dispatcher');

# ---- who waits while it is set back: a test for its answer, the launcher for a moment to try again ----

$server->sql(sprintf q{SELECT FROM dmshook.create_webhook('hangs', '%s', '{webhook.test}', options => '{"timeout": "10min"}')}, $receiver->url('/hang'));
$server->sql(q{ALTER TABLE dmshook.instance RENAME TO away});
$pid = dispatcher_pid($server);
$size = $server->log_size;
$server->sql("SELECT pg_terminate_backend($pid, 60000)");
$server->wait_log(qr/dmshook dispatcher of database "postgres" failed: relation "dmshook.instance" does not exist/, $size);
set_clock(-3600);
is(clock_is(-3600), 't', 'an hour behind, while the launcher waits to try again');
$server->sql(q{ALTER TABLE dmshook.away RENAME TO instance});
$server->wait_sql(q{SELECT state = 'running' FROM dmshook.dispatchers});
pass('it does try');

# nobody answers: the dispatcher stands still
$pid = dispatcher_pid($server);
kill 'STOP', $pid;
my $waiting = IPC::Run::start([ 'psql', '-XAtc', q{SELECT * FROM dmshook.test_webhook('hangs', timeout => '5 s')}, $server->node->connstr('postgres') ], '<', \undef, '>', \my $out, '2>', \my $err);
$server->wait_sql(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'dmshook.test_webhook' AND wait_event_type = 'Extension' AND pid <> pg_backend_pid()});
set_clock(-7200);
poll_until(sub { eval { $waiting->pump_nb }; !$waiting->pumpable }, 'who waits for a test gives up');
eval { $waiting->finish };
like("$out$err", qr/no dispatcher is running|did not answer/, "who waits for a test gives up in time, though the clock was set back: $out$err");
kill 'CONT', $pid;
$server->wait_sql("SELECT state = 'running' AND pid <> $pid FROM dmshook.dispatchers");

# ---- what was true all the time ----

all_go_on('two hours behind');
$receiver->set($_, 200) for qw(retries open);
$server->wait_sql(qq{SELECT count(*) = 4 * $events FROM dmshook.deliveries WHERE state = 'delivered' AND webhook <> 'hangs'});
for my $name (sort keys %hook)
{
	my %n;
	$n{ $_->{id} }++ for grep { $_->{path} eq $hook{$name}[0] } received($receiver, 200);
	is(scalar keys %n, $events, "$name: each event arrived");
	is(scalar(grep { $_ > 1 } values %n), 0, '... once');
}
set_clock(0);
is($server->sql(q{SELECT count(*) FROM dmshook.dead_letters}), 0, 'none was given up');
unlike(slurp_file($server->node->logfile), qr/PANIC|terminated by signal/, 'no crash');
$receiver->stop;
done_testing();
