# ordering => 'entity': one vehicle's events arrive in order, one at a time, whatever fails; other vehicles do not wait.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $server = DmshookTest->new('ordered', conf => "autovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;
$server->sql(<<'SQL');
CREATE TABLE vehicle (id int PRIMARY KEY, status text NOT NULL, n int NOT NULL DEFAULT 0);
SELECT dmshook.watch('vehicle', 'vehicle.added', 'insert');
SELECT dmshook.watch('vehicle', 'vehicle.status_changed', 'update');
SQL

sub webhook
{
	my ($name, $path, $options) = @_;
	return $server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{*}', enabled => true, options => '%s')}, $name, $receiver->url($path), $options);
}

# What a path answered with 200, as [vehicle, n], by arrival.
sub arrived
{
	my ($path) = @_;
	return map { my $record = JSON::PP->new->decode($_->{body})->{data}{record}; [ @$record{qw(id n)} ] }
	  grep { $_->{path} eq $path && $_->{status} == 200 } $receiver->requests;
}

# Nothing overtook: for each vehicle the numbers ascend, by one. What was under way when a dispatcher ended may come again, at once.
sub in_order
{
	my ($what, $restarted, @arrived) = @_;
	my (%next, @wrong);
	for my $event (@arrived)
	{
		my ($id, $n) = @$event;
		push @wrong, "$id: $n" if $n != ($next{$id} // 0) && !($restarted && $n + 1 == ($next{$id} // 0));
		$next{$id} = $n + 1;
	}
	return is("@wrong", '', $what);
}

# No two requests of a vehicle at the same time: each attempt begins when the one before has ended.
sub one_at_a_time
{
	my ($name) = @_;
	return is($server->sql(sprintf <<'SQL', $name), 0, "$name: never two requests of a vehicle at once");
SELECT count(*) FROM (
	SELECT a.at, lag(a.at + make_interval(secs => a.duration_us / 1e6)) OVER (PARTITION BY e.key ORDER BY a.at) AS ended
	FROM dmshook.attempt a JOIN dmshook.event e ON e.id = a.event JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = '%s') x
WHERE at < ended - interval '2 ms'
SQL
}

# ---- retries: every event fails twice, and the dispatcher is restarted in the middle ----

my $vehicles = 12;
my $changes = 8;
webhook('ordered', '/fail/2/500/ordered', '{"ordering": "entity", "backoff": {"intervals": ["100ms"]}, "breaker": null, "max_attempts": 20}');
$server->sql("INSERT INTO vehicle SELECT g, 'new' FROM generate_series(1, $vehicles) g");
for my $n (1 .. $changes - 1)
{
	$server->sql("UPDATE vehicle SET n = $n, status = 's$n'");
	next if $n != 4;
	$server->wait_sql('SELECT count(*) > 5 FROM dmshook.attempt WHERE final IS NOT NULL');
	my $pid = dispatcher_pid($server);
	$server->sql("SELECT pg_terminate_backend($pid, 10000)");
	wait_dispatcher_pid($server, $pid);
}
$server->wait_sql(q{SELECT count(DISTINCT event) FROM dmshook.attempt WHERE webhook = 1 AND final = 'd'}, $vehicles * $changes);
in_order('each event failed twice, and the dispatcher was restarted: in order', 1, arrived('/fail/2/500/ordered'));
one_at_a_time('ordered');
$server->wait_sql('SELECT count(*) FROM dmshook.queue', 0);
pass('the queue is empty');
$server->sql(q{SELECT dmshook.drop_webhook('ordered')});

# ---- one vehicle's head fails for long: its followers wait, the others go ----

webhook('switch', '/switch/lane', '{"ordering": "entity", "backoff": {"intervals": ["200ms"]}, "breaker": null, "max_attempts": 1000}');
$receiver->set('lane', 200);
$server->sql("INSERT INTO vehicle SELECT g, 'new' FROM generate_series(101, 105) g");
$server->wait_sql(q{SELECT count(*) FROM dmshook.attempt WHERE webhook = 2 AND final = 'd'}, 5);
$receiver->set('lane', 500);
$server->sql("UPDATE vehicle SET n = 1, status = 'x' WHERE id = 101");
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.queue WHERE webhook = 2 AND attempts > 0});
$receiver->set('lane', 200);
# while its head waits for its next attempt, or has just made it: what matters is that nothing overtakes
$server->sql("UPDATE vehicle SET n = $_, status = 'y$_' WHERE id = 101") for 2 .. 5;
$server->wait_sql(q{SELECT count(*) FROM dmshook.attempt WHERE webhook = 2 AND final = 'd'}, 10);
in_order('after a head that failed its followers come in order', 0, arrived('/switch/lane'));

$receiver->set('lane', 500);
$server->sql("UPDATE vehicle SET n = 6, status = 'z' WHERE id = 101");
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.queue WHERE webhook = 2 AND attempts > 1});
$server->sql("UPDATE vehicle SET n = $_, status = 'z$_' WHERE id = 101") for 7 .. 30;
$server->wait_sql(q{SELECT count(*) FILTER (WHERE due_at IS NULL) = 24 AND count(*) FILTER (WHERE due_at IS NOT NULL) = 1 FROM dmshook.queue WHERE webhook = 2});
pass('followers wait without a due time, only the head is due');
is($server->sql(q{SELECT count(DISTINCT why) || ' ' || count(*) FROM dmshook.waiting WHERE webhook = 'switch' AND why ~ 'an earlier event of the same vehicle'}), '1 24',
	'waiting says why');
my $tried = $server->sql('SELECT count(DISTINCT event) FROM dmshook.attempt WHERE webhook = 2');
$server->sql('UPDATE vehicle SET n = 1 WHERE id = 102');
$server->wait_sql('SELECT count(DISTINCT event) FROM dmshook.attempt WHERE webhook = 2', $tried + 1);
pass('another vehicle is tried meanwhile');

# the dispatcher goes and comes: parked ones stay parked
my $pid = dispatcher_pid($server);
$server->sql("SELECT pg_terminate_backend($pid, 10000)");
wait_dispatcher_pid($server, $pid);
$server->sql('UPDATE vehicle SET n = 1 WHERE id = 103');
$server->wait_sql('SELECT count(DISTINCT event) FROM dmshook.attempt WHERE webhook = 2', $tried + 2);
is($server->sql('SELECT count(*) FROM dmshook.queue WHERE webhook = 2 AND due_at IS NULL'), 24, 'nor does a restart let them go');

# the head is called off: the next one is the head
$server->sql(q{SELECT dmshook.cancel('switch', message_id) FROM dmshook.events WHERE entity_key = '{"id": 101}' AND sequence IN
	(SELECT min(event) FROM dmshook.queue WHERE webhook = 2)});
$server->wait_sql('SELECT count(*) FILTER (WHERE due_at IS NULL) FROM dmshook.queue WHERE webhook = 2', 23);
pass('the head is cancelled: the next one is tried');
$receiver->set('lane', 200);
$server->wait_sql('SELECT count(*) FROM dmshook.queue', 0);
my @lane = arrived('/switch/lane');
is(join(' ', map { $_->[1] } grep { $_->[0] == 101 } @lane), join(' ', 0 .. 5, 7 .. 30), 'all the others arrive in order');
one_at_a_time('switch');
$server->sql(q{SELECT dmshook.drop_webhook('switch')});

# ---- dead letters: a head that is given up lets the next one go ----

webhook('dead', '/status/500/dead', '{"ordering": "entity", "backoff": {"intervals": ["50ms"]}, "breaker": null, "max_attempts": 3}');
$server->sql("INSERT INTO vehicle SELECT g, 'new' FROM generate_series(201, 203) g");
$server->sql("UPDATE vehicle SET n = $_ WHERE id > 200") for 1 .. 4;
$server->wait_sql(q{SELECT count(*) FROM dmshook.dead_letters WHERE webhook = 'dead'}, 15);
is($server->sql(<<'SQL'), 0, 'given up in order, each after its attempts');
SELECT count(*) FROM (
	SELECT a.event, lag(a.event) OVER (PARTITION BY e.key ORDER BY a.at, a.id) AS before
	FROM dmshook.attempt a JOIN dmshook.event e ON e.id = a.event WHERE a.webhook = 3) x WHERE event < before
SQL
is($server->sql('SELECT count(*) FROM dmshook.attempt WHERE webhook = 3'), 45, 'three attempts each');
one_at_a_time('dead');
$server->sql(q{SELECT dmshook.drop_webhook('dead')});

# ---- ordering switched on and off while rows wait ----

webhook('turned', '/switch/turned', '{"backoff": {"intervals": ["200ms"]}, "breaker": null, "max_attempts": 1000}');
$receiver->set('turned', 500);
$server->sql("INSERT INTO vehicle SELECT g, 'new' FROM generate_series(301, 303) g");
$server->sql("UPDATE vehicle SET n = $_ WHERE id > 300") for 1 .. 3;
$server->wait_sql('SELECT count(*) FILTER (WHERE attempts > 0) FROM dmshook.queue WHERE webhook = 4', 12);
pass('unordered, all are tried');
$server->sql(q{SELECT dmshook.alter_webhook('turned', options => '{"ordering": "entity"}')});
$server->sql("UPDATE vehicle SET n = $_ WHERE id > 300") for 4 .. 6;
$server->wait_sql('SELECT count(*) FILTER (WHERE due_at IS NOT NULL) = 3 AND count(*) FILTER (WHERE due_at IS NULL) = 18 FROM dmshook.queue WHERE webhook = 4');
pass('switched on: one of each vehicle is tried, the others wait');
$receiver->set('turned', 200);
$server->wait_sql('SELECT count(*) FROM dmshook.queue', 0);
in_order('and they arrive in order', 0, arrived('/switch/turned'));
$receiver->set('turned', 500);
$server->sql("UPDATE vehicle SET n = $_ WHERE id > 300") for 7 .. 9;
$server->wait_sql('SELECT count(*) FILTER (WHERE due_at IS NULL) FROM dmshook.queue WHERE webhook = 4', 6);
$server->sql(q{SELECT dmshook.alter_webhook('turned', options => '{"ordering": "none"}')});
$server->wait_sql('SELECT count(*) FILTER (WHERE due_at IS NULL) = 0 AND count(*) FILTER (WHERE attempts > 0) = 9 FROM dmshook.queue WHERE webhook = 4');
pass('switched off: all are tried');
$receiver->set('turned', 200);
$server->wait_sql('SELECT count(*) FROM dmshook.queue', 0);
my %got;
$got{"$_->[0] $_->[1]"}++ for arrived('/switch/turned');
is(join(', ', sort keys %got), join(', ', sort map { my $id = $_; map { "$id $_" } 0 .. 9 } 301 .. 303), 'and all arrive');
is(scalar(grep { $_ > 1 } values %got), 0, 'once each');
is($server->sql(q{SELECT count(*) FROM dmshook.dispatchers WHERE last_error <> ''}), 0, 'no error');
$receiver->stop;
done_testing();
