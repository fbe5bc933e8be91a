# A transaction that is open for an hour, in what it means to us: it keeps its xid, its snapshot and its ids while very much happens (LOAD=0.01).
use strict;
use warnings;

use DmshookLoad;
use DmshookSoak;
use DmshookTest;
use Test::More;

my $rounds = 20;
my $each = scaled(10_000);
my $server = DmshookTest->new('old', conf => "shared_buffers = 256MB\nmax_wal_size = 4GB\n");
my $receiver = DmshookTest::Receiver->new(log => 0);
vehicles($server);
$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{vehicle.added}', enabled => true, options => '%s')}, @$_)
  for [ 'ours', $receiver->url('/ok/ours'), '{}' ], [ 'tenth', $receiver->url('/fail/1/tenth'), '{"backoff": {"intervals": ["1s"]}, "breaker": null, "disable_after": null}' ];
$server->sql(q{SELECT dmshook.alter_webhook('tenth', filter => '$.data.key.id % 10 == 0')});
my $ours = delivered($receiver, '/ok/ours');

# it has written, and so has ids that nobody sees; another one has a snapshot only
my $old = $server->session;
$old->query_safe('BEGIN; ' . insert_vehicles(1, 100));
my $old_pid = $old->query_safe('SELECT pg_backend_pid()');
my $report = $server->session;
$report->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM vehicle');

my (@memory, $sent);
for my $round (1 .. $rounds)
{
	# as many roll back: gaps that cannot be closed while the old one is there
	$server->sql(sprintf q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP %s; IF i %% 2 = 0 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END $$},
		"INSERT INTO vehicle SELECT 1000000000 + $round * 1000 + i, 'AB', 'Audi', 'In stock', ''");
	$server->sql(insert_vehicles($round * 1_000_000, $each));
	$sent += $each + 100;
	wait_moving($ours, $sent, "round $round");
	push @memory, memory(dispatcher_pid($server));
}
is($ours->(), $sent, "$sent events of others went out beside it");
cmp_ok($memory[-1], '<', $memory[1] + 16, sprintf 'what waits for it costs no memory: %.1f MB, after two rounds %.1f', $memory[-1], $memory[1]);
is($server->sql("SELECT gaps > 0 AND gap_holder LIKE 'process $old_pid %' FROM dmshook.dispatchers"), 't', 'dispatchers says who holds us up');
is($ours->() && $server->sql(q{SELECT count(*) FROM dmshook.attempt a JOIN dmshook.event e ON e.id = a.event WHERE (e.key->>'id')::int <= 100}), 0, 'nothing of it went out');

# a dispatcher that starts now begins before the gap, and sends nothing twice
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.queue});
$server->wait_sql(sprintf q{SELECT count(*) = %d FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'ours'}, $sent);
my $pid = dispatcher_pid($server);
$server->sql("SELECT pg_terminate_backend($pid)");
wait_dispatcher_pid($server, $pid);
$server->sql(insert_vehicles(500_000_000, 100));
$sent += 100;
wait_moving($ours, $sent, 'after a restart');
$server->wait_sql(q{SELECT behind_events = 0 AND gaps > 0 FROM dmshook.dispatchers});
is($ours->(), $sent, 'nothing twice after a restart of the dispatcher');

# it commits: its events are late, and all go out
$old->query_safe('COMMIT');
$sent += 100;
wait_moving($ours, $sent, 'what was late');
$server->wait_sql('SELECT gaps = 0 FROM dmshook.dispatchers');
$server->wait_sql(sprintf q{SELECT count(*) = %d FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'ours' AND a.final = 'd'}, $sent);
is($server->sql(q{SELECT count(DISTINCT event) FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'ours'}), $sent, 'each event once, the late ones too');
is($ours->(), $sent, 'and no request more');
$report->query_safe('COMMIT');
$_->quit for $old, $report;
done_testing();
