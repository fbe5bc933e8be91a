# Fifty webhooks whose receivers hang, beside a healthy one: it keeps delivering.
use strict;
use warnings;

use DmshookTest;
use Test::More;
use Time::HiRes qw(time);

my $hanging = 50;
my $n = 200;
my $server = DmshookTest->new('isolation', conf => "autovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;
my $dead = DmshookTest::Receiver->new(log => 0);

$server->sql(sprintf q{SELECT count(dmshook.create_webhook('hanging ' || i, '%s', '{vehicle.added}', enabled => true, options => '{"timeout": "60s"}')) FROM generate_series(1, %d) i},
	$dead->url('/hang'), $hanging);
$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{vehicle.sold}', enabled => true)}, @$_)
  for [ 'healthy', $receiver->url('/ok/healthy') ], [ 'slow', $receiver->url('/slow/100/slow') ];

# a load for the hanging ones that takes all the connections they may have
$server->sql(q{SELECT count(dmshook.emit('vehicle.added', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, 100) g});
$server->wait_sql(q{SELECT in_flight >= 60 FROM dmshook.dispatchers});
cmp_ok($server->sql('SELECT in_flight FROM dmshook.dispatchers'), '<=', 256, 'connections are bounded');

my $begin = time;
for (1 .. $n / 10)
{
	$server->sql(q{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, 10) g});
}
$receiver->wait_for($n, sub { $_[0]{path} eq '/ok/healthy' }, 45);
pass(sprintf 'a healthy webhook gets all %d events in %.1f s', $n, time - $begin);
$server->wait_sql("SELECT count(*) = $n FROM dmshook.attempts WHERE webhook = 'healthy'");
my ($late) = $server->rows(q{SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY s) AS p50, percentile_disc(0.99) WITHIN GROUP (ORDER BY s) AS p99
	FROM (SELECT extract(epoch FROM a.at - e.at) * 1000 AS s FROM dmshook.attempts a JOIN dmshook.events e USING (message_id) WHERE a.webhook = 'healthy') x});
diag(sprintf 'from the event to its request: median %.1f ms, p99 %.1f ms', @$late{qw(p50 p99)});
cmp_ok($late->{p99}, '<', 2000, 'none of them waits for those that hang');
$receiver->wait_for($n, sub { $_[0]{path} eq '/slow/100/slow' }, 45);
pass('a slow one gets all of them, too');
is($server->sql(q{SELECT count(*) FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name LIKE 'hanging%' AND a.outcome = 'o'}), 0, 'the others still hang');
is($server->sql(q{SELECT count(*) FROM dmshook.health WHERE webhook LIKE 'hanging%' AND waiting = 100}), $hanging, 'health: what waits for them is known');

done_testing();
