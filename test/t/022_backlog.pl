# A backlog is a position, not rows: a paused webhook with DMSHOOK_BACKLOG (20,000) events behind it, beside a healthy one.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use Test::More;
use Time::HiRes qw(time);

my $n = $ENV{DMSHOOK_BACKLOG} // 20000;
my $server = DmshookTest->new('backlog', conf => "shared_buffers = 256MB\nmax_wal_size = 4GB\n");
my $receiver = DmshookTest::Receiver->new(log => 0);
for my $name (qw(healthy paused))
{
	$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{*}', enabled => true)}, $name, $receiver->url("/ok/$name"));
}

# How many requests a webhook has made, all answered with 200.
sub requests
{
	my ($name) = @_;
	my $stats = $receiver->stats;
	my ($requests, $ok) = map { $stats->{"path./ok/$name.$_"} // 0 } qw(requests ok);
	die "$name: $requests requests, $ok of them good" if $requests != $ok;
	return $ok;
}

sub wait_requests
{
	my ($name, $wanted) = @_;
	my $got;
	return poll_until(sub { ($got = requests($name)) >= $wanted }, sub { "$wanted requests of $name, got $got" },
		$DmshookTest::patience + $n / 1000);
}

sub emit_many
{
	my ($many) = @_;
	for (my $done = 0; $done < $many; $done += 10000)
	{
		my $now = $many - $done < 10000 ? $many - $done : 10000;
		$server->sql(qq[SELECT count(dmshook.emit('vehicle.added', 'vehicle', jsonb_build_object('id', g), '{"make": "Volkswagen"}')) FROM generate_series(1, $now) g]);
	}
}

# Rows of our tables, but those of the configuration: (position, queue, skip, attempt of healthy, of paused).
my $counts = q{SELECT concat_ws(' ', (SELECT count(*) FROM dmshook.position), (SELECT count(*) FROM dmshook.queue), (SELECT count(*) FROM dmshook.skip),
	(SELECT count(*) FROM dmshook.attempt WHERE webhook = 1), (SELECT count(*) FROM dmshook.attempt WHERE webhook = 2))};

# ---- paused ----

emit_many(100);
wait_requests($_, 100) for qw(healthy paused);
$server->wait_sql($counts, '1 0 0 100 100');
pass('both are live: one position');

$server->sql(q{SELECT dmshook.pause_webhook('paused')});
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
my $begin = time;
emit_many($n);
wait_requests('healthy', 100 + $n);
my $live = time - $begin;
$server->wait_sql($counts, '2 0 0 ' . ($n + 100) . ' 100');
pass("$n events behind a paused webhook are one row more, of its position");
is(requests('paused'), 100, 'it gets nothing');
is($server->sql('SELECT low FROM dmshook.position WHERE webhook = 2'), 100, 'the row says where it is');
$server->wait_sql('SELECT low = (SELECT max(id) FROM dmshook.event) FROM dmshook.position WHERE webhook = 0');
pass('the reader is at the end');

my $pid = dispatcher_pid($server);
$server->sql("SELECT pg_terminate_backend($pid, 10000)");
wait_dispatcher_pid($server, $pid);
emit_many(10);
wait_requests('healthy', $n + 110);
$server->wait_sql($counts, '2 0 0 ' . ($n + 110) . ' 100');
is(requests('paused'), 100, 'nor after a restart of the dispatcher');
is(requests('healthy'), $n + 110, 'and the healthy one gets nothing twice');

# ---- resumed ----

$begin = time;
$server->sql(q{SELECT dmshook.resume_webhook('paused')});
wait_requests('paused', 105);
my $then = time;
emit_many(1);
wait_requests('healthy', $n + 111);
my $beside = time - $then;
wait_requests('paused', $n + 111);
my $drain = time - $begin;
note(sprintf 'live %.0f/s, beside the writing; drain %.0f/s; an event of the healthy one took %.0f ms meanwhile', $n / $live, $n / $drain, 1000 * $beside);
cmp_ok($beside, '<', 10, 'the healthy one is not held up by the drain');
$server->wait_sql($counts, '1 0 0 ' . ($n + 111) . ' ' . ($n + 111));
pass('resumed, it gets all, and its position is gone');
is($server->sql('SELECT count(DISTINCT event) FROM dmshook.attempt WHERE webhook = 2 AND final = ' . quote('d')), $n + 111, 'each of them');
is(requests('paused'), $n + 111, '... once');

# ---- what waits is cancelled ----

$server->sql(q{SELECT dmshook.pause_webhook('paused')});
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
my $some = int($n / 10);
emit_many($some);
wait_requests('healthy', $n + $some + 111);
is($server->sql(q{SELECT dmshook.cancel_all('paused')}), $some, 'cancel_all counts what waits');
$server->wait_sql($counts, '1 0 1 ' . ($n + $some + 111) . ' ' . ($n + 111));
pass('and is one row, of skip');
is($server->sql('SELECT upto FROM dmshook.skip'), $server->sql('SELECT max(id) FROM dmshook.event'), '... up to the last event');
$server->sql(q{SELECT dmshook.resume_webhook('paused')});
emit_many(1);
wait_requests($_, $n + $some + 112) for 'healthy';
wait_requests('paused', $n + 112);
$server->wait_sql($counts, '1 0 1 ' . ($n + $some + 112) . ' ' . ($n + 112));
is(requests('paused'), $n + 112, 'resumed, it gets what came afterwards');
is($server->sql(q{SELECT state, count(*) FROM dmshook.deliveries WHERE webhook = 'paused' AND sequence > } . ($n + 100) . ' GROUP BY 1 ORDER BY 1'),
	"cancelled|$some\ndelivered|12", 'the view says so');
$receiver->stop;
done_testing();
