# A receiver that takes one request a second, with 100,000 events waiting for it; and bodies of 1 MB, 1,000 times (LOAD=0.01: a hundredth).
use strict;
use warnings;

use DmshookLoad;
use DmshookSoak;
use DmshookTest;
use Test::More;

my $server = DmshookTest->new('slow', conf => "shared_buffers = 256MB\nmax_wal_size = 4GB\n");
my $receiver = DmshookTest::Receiver->new(log => 0);
vehicles($server);
$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '%s', enabled => true, options => '%s')}, @$_)
  for [ 'slow', $receiver->url('/slow/1000'), '{vehicle.added}', '{"max_in_flight": 1}' ], [ 'healthy', $receiver->url('/ok/healthy'), '{vehicle.added}', '{}' ],
  [ 'large', $receiver->url('/ok/large'), '{deal.created}', '{"max_in_flight": 32}' ];
my $healthy = delivered($receiver, '/ok/healthy');
my $slow = delivered($receiver, '/slow/1000');

# ---- one a second ----
my $waiting = scaled(100_000);
$server->sql(insert_vehicles(1, $waiting));
wait_moving($healthy, $waiting, 'the healthy one');
cmp_ok($slow->(), '<', $waiting / 2, 'the healthy one has all, the slow one hardly any: ' . $slow->());
$server->wait_sql(sprintf q{SELECT count(*) = %d FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'healthy'}, $waiting);
is($server->sql('SELECT count(*) FROM dmshook.queue'), 0, 'what waits is no row of the queue');
cmp_ok($server->sql('SELECT count(*) FROM dmshook.position'), '<=', 4, 'but a place in the log: a row for each webhook and the reader at most');
my $dispatcher = dispatcher_pid($server);
cmp_ok(memory($dispatcher), '<', 96, sprintf 'and not in memory: %.1f MB', memory($dispatcher));
my $had = $slow->();
poll_until(sub { $slow->() > $had }, 'the slow one to get on');
pass('the slow one gets on');
# it mends: the rest goes out, each event once
$server->sql(sprintf q{SELECT dmshook.alter_webhook('slow', url => '%s', options => '{"max_in_flight": 32}')}, $receiver->url('/ok/slow'));
my $mended = delivered($receiver, '/ok/slow');
wait_moving(sub { $mended->() + $slow->() }, $waiting, 'the slow one, mended');
$server->wait_sql(sprintf q{SELECT count(*) >= %d FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'slow' AND a.final = 'd'}, $waiting);
is($server->sql(q{SELECT count(*) || ' ' || count(DISTINCT a.event) FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'slow'}), "$waiting $waiting", 'each event once');

# ---- large ----
my $large = scaled(1_000);
my $bytes = 1_000_000;
# what does not compress, so that it is out of line in the log
$server->sql(sprintf q{SELECT count(dmshook.emit('deal.created', 'deal', jsonb_build_object('id', g), jsonb_build_object('id', g, 'text', (SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, %d) i)))) FROM generate_series(1, %d) g},
	$bytes / 32, $large);
# small ones beside them
$server->sql(insert_vehicles(1_000_000, 1000));
wait_moving($healthy, $waiting + 1000, 'small ones beside large ones');
wait_moving(delivered($receiver, '/ok/large'), $large, 'bodies of 1 MB');
my $large_sent = q{SELECT count(*) = %d FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'large' AND a.final = 'd'};
$server->wait_sql(sprintf $large_sent, $large);
is($server->sql(q{SELECT count(*) || ' ' || count(DISTINCT event) FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'large'}), "$large $large", 'each once');
is(dispatcher_pid($server), $dispatcher, 'by the same dispatcher');
cmp_ok(memory($dispatcher), '<', 320, sprintf '%d MB went through %.1f MB of memory', $large * $bytes / 1e6, memory($dispatcher));
# too large a body is no request, and stops nobody
$server->sql(q{SELECT dmshook.emit('deal.created', 'deal', '{"id": 0}', jsonb_build_object('text', repeat('x', 1100000)))});
$server->wait_sql(q{SELECT count(*) > 0 FROM dmshook.attempts WHERE webhook = 'large' AND outcome = 'too_large' AND error ~ 'max_body'});
$server->sql(q{SELECT dmshook.emit('deal.created', 'deal', '{"id": -1}', '{}')});
$server->wait_sql(sprintf $large_sent, $large + 1);
pass('a larger one is no request, says why, and holds nobody up');
done_testing();
