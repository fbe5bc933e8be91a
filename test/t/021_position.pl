# Ids become visible out of order: each committed event is sent once, whatever the transactions do, and the stored position goes on.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use Test::More;
use Time::HiRes qw(time);

my $server = DmshookTest->new('position', conf => "max_prepared_transactions = 10\nautovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;
$server->sql(sprintf q{SELECT dmshook.create_webhook('all', '%s', '{*}', enabled => true)}, $receiver->url('/ok/all'));

my $a = $server->session;
my $b = $server->session;
my $c = $server->session;

# Wait until so many requests were answered.
sub wait_ok
{
	my ($n) = @_;
	my $have;
	return poll_until(sub { ($have = $receiver->stats->{'path./ok/all.ok'} // 0) >= $n }, sub { "$n requests, got $have" });
}

sub committed { return $server->sql('SELECT count(*) FROM dmshook.event'); }

# All committed events have come, once each, and nothing else.
sub all_once
{
	my ($what) = @_;
	wait_ok(committed());
	my @requests = received($receiver);
	is(join(' ', repeats(@requests)), '', "$what: nothing twice");
	is(join(' ', sort map { $_->{id} } @requests),
		join(' ', sort split /\n/, $server->sql('SELECT message_id FROM dmshook.events')), '... and all that was committed');
}

sub stored { return $server->sql('SELECT low FROM dmshook.position WHERE webhook = 0 AND command = 0'); }

# ---- the counter-example of reader.c: short transactions, and xmax one above the last that ended ----

for my $i (1 .. 20)
{
	# b has the lower xid and ends first: no snapshot taken then lists a as running
	$b->query_safe('BEGIN; SELECT pg_current_xact_id()');
	$a->query_safe('BEGIN; SELECT pg_current_xact_id()');
	$a->query_safe(emit(10 * $i));
	$b->query_safe(emit(10 * $i + 1) . 'COMMIT');
	wait_ok(2 * $i - 1);
	$a->query_safe('COMMIT');
	wait_ok(2 * $i);
}
all_once('a lower id that becomes visible later');
my @order = map { $_->{sequence} } received($receiver);
ok($order[0] > $order[1], 'the one that was committed first was sent first');
wait_low($server);
pass('the stored position is at the end of the log');

# the same with a subtransaction that takes the id, and three ids of which the middle one is rolled back
$a->query_safe('BEGIN; SAVEPOINT s;' . emit(1000) . 'RELEASE s; SAVEPOINT s;' . emit(1001) . 'ROLLBACK TO s;' . emit(1002));
$b->query_safe(emit(1003));
wait_ok(41);
$a->query_safe('COMMIT');
wait_ok(43);
all_once('savepoints');
is($server->sql(q{SELECT count(*) FROM dmshook.events WHERE entity_key = '{"id": 1001}'}), 0, 'the one rolled back is not there');

# ---- ids held for seconds ----

my $end = $server->sql('SELECT max(id) FROM dmshook.event');
$a->query_safe('BEGIN;' . emit(2000));
$c->query_safe('BEGIN;' . emit(2001));
my $begin = time;
my $n = 0;
while (time - $begin < 2.5)
{
	$b->query_safe(emit(2100 + ++$n));
	wait_ok(43 + $n);
}
cmp_ok($n, '>=', 3, "beside open transactions the others' events go out ($n)");
is(stored(), $end, 'the stored position waits for them');
is($server->sql('SELECT gaps FROM dmshook.dispatchers'), 2, 'dispatchers shows two gaps');
$a->query_safe('COMMIT');
wait_ok(44 + $n);
$c->query_safe('ROLLBACK');
wait_low($server);
pass('after the end of both it goes on, though a rollback wakes nobody');
all_once('ids held for seconds');

# ---- an import that is rolled back ----

$a->query_safe(q{BEGIN; SELECT count(dmshook.emit('vehicle.added', 'vehicle', '{"id": 3000}', '{}')) FROM generate_series(1, 100000)});
$b->query_safe(emit(3001));
wait_ok(committed());
$a->query_safe('ROLLBACK');
$b->query_safe(emit(3002));
wait_ok(committed());
wait_low($server);
all_once('a rolled-back import of 100,000');

# and one that is committed behind a lower id still open, which the dispatcher does not live to see
$a->query_safe('BEGIN;' . emit(4000));
$b->query_safe(q{SELECT count(dmshook.emit('vehicle.added', 'vehicle', '{"id": 4001}', '{}')) FROM generate_series(1, 500)});
wait_ok(committed());
my $pid = dispatcher_pid($server);
$server->wait_sql('SELECT count(*) = (SELECT count(*) FROM dmshook.event) FROM dmshook.attempt WHERE final IS NOT NULL');
$server->sql("SELECT pg_terminate_backend($pid, 10000)");
wait_dispatcher_pid($server, $pid);
$b->query_safe(emit(4002));
wait_ok(committed());
$a->query_safe('COMMIT');
all_once('an id held across a restart of the dispatcher');
wait_low($server);

# ---- prepared transactions ----

$a->query_safe('BEGIN;' . emit(5000) . q{PREPARE TRANSACTION 'one'});
$a->query_safe('BEGIN;' . emit(5001) . q{PREPARE TRANSACTION 'two'});
$b->query_safe(emit(5002));
wait_ok(committed());
$pid = dispatcher_pid($server);
$server->sql("SELECT pg_terminate_backend($pid, 10000)");
wait_dispatcher_pid($server, $pid);
$b->query_safe(emit(5003));
wait_ok(committed());
$b->query_safe(q{COMMIT PREPARED 'one'});
all_once('a prepared transaction');
$b->query_safe(q{ROLLBACK PREPARED 'two'});
wait_low($server);
pass('and one that is rolled back');

# nothing else wakes the dispatcher: it sleeps without a timeout, for it knows of no gap
$a->query_safe('BEGIN;' . emit(5010) . q{PREPARE TRANSACTION 'three'});
wait_quiet($server);
my $before = committed();
$begin = time;
$b->query_safe(q{COMMIT PREPARED 'three'});
wait_ok($before + 1);
cmp_ok(time - $begin, '<', 5, sprintf('COMMIT PREPARED wakes the dispatcher (%.0f ms)', 1000 * (time - $begin)));

# ---- an old snapshot, and an old transaction that has nothing to do with events ----

$c->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dmshook.event');
$a->query_safe('BEGIN;' . emit(6000));
$b->query_safe(emit(6001));
wait_ok(committed());
$a->query_safe('ROLLBACK');
wait_low($server);
pass('an old snapshot does not hold the position up');
$c->query_safe('COMMIT; BEGIN; SELECT pg_current_xact_id()');
$a->query_safe('BEGIN;' . emit(6002));
$b->query_safe(emit(6003));
wait_ok(committed());
$a->query_safe('ROLLBACK');
$b->query_safe(emit(6004));
wait_ok(committed());
$server->wait_sql(q{SELECT gaps = 1 AND gap_holder ~ '^process' FROM dmshook.dispatchers});
cmp_ok(stored(), '<', $server->sql('SELECT max(id) FROM dmshook.event'), 'an old transaction does, and dispatchers names it');
$c->query_safe('COMMIT');
wait_low($server);
all_once('old transactions');

# ---- ids that did not come from the sequence ----

my $copy = q{INSERT INTO dmshook.event SELECT %s, nonce, at, type, tenant, old_tenant, entity, key, who, source, data FROM dmshook.event ORDER BY id LIMIT 1};
my $last = $server->sql('SELECT last_value FROM dmshook.event_id');
$a->query_safe('BEGIN;' . emit(7000));
$b->query_safe('BEGIN;' . sprintf($copy, $last + 1000) . ';' . emit(7001) . 'COMMIT');
wait_ok(committed());
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.alert WHERE kind = 'sequence_behind'});
pass('an id above the sequence raises an alert');
is($server->sql('SELECT detail FROM dmshook.alert'), sprintf('{"id": %d}', $last + 1000), '... that names it');
$b->query_safe(emit(7002)) for 1 .. 5;
cmp_ok($server->sql('SELECT max(id) FROM dmshook.event'), '>', $last + 1000, 'the next ids are above it');
$a->query_safe('COMMIT');
all_once('an id above the sequence');
wait_low($server);
pass('the stored position is at the end of the log');

is($server->sql('SELECT count(*) FROM dmshook.queue'), 0, 'nothing is in the queue');
is($server->sql(q{SELECT count(*) FROM dmshook.attempt WHERE final <> 'd'}), 0, 'nothing failed');
is($server->sql('SELECT count(*) FROM dmshook.position'), 1, 'there is one position');
$_->quit for $a, $b, $c;
$receiver->stop;
done_testing();
