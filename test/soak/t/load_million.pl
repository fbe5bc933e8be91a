# A million rows: in one transaction, by one session in many, and rolled back (LOAD=0.01: a hundredth of that).
use strict;
use warnings;

use DmshookLoad;
use DmshookSoak;
use DmshookTest;
use Test::More;

my $million = scaled(1_000_000);
my $server = DmshookTest->new('million', conf => "shared_buffers = 256MB\nmax_wal_size = 4GB\n");
my $receiver = DmshookTest::Receiver->new(log => 0);
vehicles($server);
$server->sql(sprintf q{SELECT dmshook.create_webhook('all', '%s', '{vehicle.added}', enabled => true)}, $receiver->url('/ok/all'));
my $all = delivered($receiver, '/ok/all');
my $sent = 0;

# Everything once: counted by the receiver and in the log.
sub all_came
{
	my ($what) = @_;
	wait_moving($all, $sent, $what);
	$server->wait_sql(sprintf q{SELECT count(*) >= %d FROM dmshook.attempt WHERE final = 'd'}, $sent);
	is($all->(), $sent, "$what: $sent requests at the receiver");
	is($server->sql(q{SELECT count(*) || ' ' || count(DISTINCT event) FROM dmshook.attempt}), "$sent $sent", "$what: each event once in the log");
}

$server->sql(insert_vehicles(1, 1000));
$sent += 1000;
all_came('a beginning');
my $dispatcher = dispatcher_pid($server);
my $before = memory($dispatcher);

# ---- one transaction ----
$server->sql(insert_vehicles(10_000_000, $million));
$sent += $million;
all_came('one transaction');
my $after = memory($dispatcher);
cmp_ok($after, '<', $before + 48, sprintf 'the dispatcher holds a window of it, not all: %.1f MB, before %.1f', $after, $before);
is($server->sql('SELECT count(*) FROM dmshook.queue'), 0, 'no row of the queue');

# ---- a session that writes on and on; nobody has a webhook for it, so that it alone is looked at ----
$server->sql(q{SELECT dmshook.pause_webhook('all')});
my $session = $server->session;
my $pid = $session->query_safe('SELECT pg_backend_pid()');
my ($bulk, $single) = (scaled(100_000), scaled(5_000));
my @memory;
for my $round (0 .. 9)
{
	$session->query_safe(insert_vehicles(20_000_000 + $round * $bulk, $bulk));
	# and as applications write: a row a transaction, prepared, with subtransactions
	$session->query_safe(sprintf q{DO $$ BEGIN FOR i IN 1 .. %d LOOP
		BEGIN UPDATE vehicle SET notes = i::text, make = 'Audi' WHERE id = %d + i; EXCEPTION WHEN others THEN RAISE; END;
		IF i %% 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END $$}, $single, 20_000_000 + $round * $bulk);
	push @memory, memory($pid);
}
cmp_ok($memory[9], '<', $memory[1] + 4, sprintf 'a session that wrote %d rows does not grow: %.1f MB, after two tenths %.1f', $million, $memory[9], $memory[1]);
$session->quit;
$sent += 10 * $bulk;
$server->sql(q{SELECT dmshook.resume_webhook('all')});
all_came('resumed');

# ---- an import that is rolled back, beside others' writes ----
my $import = $server->session;
$import->query_safe('BEGIN');
$import->query_safe(insert_vehicles(40_000_000, $million));
$server->sql(insert_vehicles(50_000_000, 100));
$sent += 100;
all_came('beside an import that is open');
$import->query_safe('ROLLBACK');
$import->quit;
$server->sql(insert_vehicles(60_000_000, 100));
$sent += 100;
all_came('after its rollback');
$server->wait_sql('SELECT gaps = 0 AND behind_events = 0 FROM dmshook.dispatchers');
pass('the gap of its ids is closed');
is($server->sql('SELECT count(*) FROM vehicle WHERE id BETWEEN 40000000 AND 49999999'), 0, 'nothing of it is there');
is($server->sql(q{SELECT count(*) FROM dmshook.event WHERE (key->>'id')::bigint BETWEEN 40000000 AND 49999999}), 0, 'and no event');
is(dispatcher_pid($server), $dispatcher, 'it was one dispatcher all the time');
cmp_ok(memory($dispatcher), '<', $before + 48, sprintf 'and has not grown: %.1f MB', memory($dispatcher));
done_testing();
