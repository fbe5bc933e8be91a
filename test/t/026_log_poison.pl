# One result that cannot be logged, for whatever reason, holds up nobody else; it is tried again, and said.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $server = DmshookTest->new('log_poison', conf => "autovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;
$server->sql(sprintf q{SELECT dmshook.create_webhook('all', '%s', '{*}', enabled => true, options => '{"max_in_flight": 8}')}, $receiver->url('/slow/10/all'));

sub emit_many
{
	my ($many) = @_;
	return $server->sql(qq[SELECT count(dmshook.emit('vehicle.added', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, $many) g]);
}

my $logged = 0;
sub more_logged
{
	$logged += $_[0];
	return $server->wait_sql(q{SELECT count(DISTINCT event) FROM dmshook.attempt WHERE final = 'd'}, $logged);
}

sub last_id { return $server->sql('SELECT coalesce(max(id), 0) FROM dmshook.event'); }

# An index of attempt whose expression cannot be computed for these events, that are still to come.
sub poison
{
	my (@events) = @_;
	$server->sql(sprintf 'CREATE INDEX poison ON dmshook.attempt ((1 / (event * 0))) WHERE event IN (%s)', join ', ', @events);
}

# ---- in the middle of others ----

emit_many(50);
more_logged(50);
my $size = $server->log_size;
my $bad = last_id() + 20;
poison($bad);
emit_many(100);
more_logged(99);
pass('one bad result holds up none of those beside it');
$server->wait_log(qr/WARNING:  the result of a delivery could not be logged: division by zero\n.*DETAIL:  Event $bad, webhook "all"\.\n.*HINT:  Others can be; this one is tried again every ten seconds\./, $size);
pass('it is said which one it is');
$size = $server->log_size;
for (1 .. 5)
{
	emit_many(30);
	more_logged(30);
}
pass('nor those that come later');
is($server->sql("SELECT count(*) FROM dmshook.attempt WHERE event = $bad"), 0, 'it is not there');
unlike(substr(slurp_file($server->node->logfile), $size), qr/could not be logged/, 'and it is not said again and again');
$server->wait_sql('SELECT low = ' . ($bad - 1) . ' FROM dmshook.position WHERE webhook = 0 AND command = 0');
pass('the stored position waits for it: it is not lost in a crash');
is(join(' ', repeats(received($receiver))), '', 'nothing was sent twice');

# ---- repaired; a restart sends it again, with the same id ----

$server->sql('DROP INDEX dmshook.poison');
my $pid = dispatcher_pid($server);
$server->sql("SELECT pg_terminate_backend($pid, 10000)");
more_logged(1);
pass('repaired, it is logged');
is(join(' ', repeats(received($receiver))), $server->sql("SELECT message_id FROM dmshook.events WHERE sequence = $bad"), 'and was sent again by the next dispatcher, with the same id');
wait_low($server);

# ---- alone: is it the one, or the log? ----

$size = $server->log_size;
$bad = last_id() + 1;
poison($bad);
emit_many(1);
$server->wait_log(qr/WARNING:  results could not be logged: division by zero/, $size);
my $begin = time;
emit_many(1);
more_logged(1);
note(sprintf 'the next event was logged after %.0f ms', 1000 * (time - $begin));
$server->wait_log(qr/WARNING:  the result of a delivery could not be logged.*\n.*Event $bad,/, $size);
pass('a bad result alone does not stop what comes after it');
$begin = time;
emit_many(50);
more_logged(50);
pass('nor what follows');
# ---- the log is broken, and little is under way: little more is sent to find that out ----

wait_dispatcher_pid($server);
$size = $server->log_size;
$server->sql(sprintf 'DROP INDEX dmshook.poison; CREATE INDEX broken ON dmshook.attempt ((1 / (event * 0))) WHERE event > %d OR event = %d', last_id(), $bad);
my $before = $receiver->stats->{requests};
emit_many(1);
$server->wait_log(qr/WARNING:  results could not be logged/, $size);
emit_many(100);
my ($quiet, $since) = (0, time);
poll_until(sub {
	my $now = $receiver->stats->{requests};

	($quiet, $since) = ($now, time) if $now != $quiet;
	return time - $since > 3;
}, 'requests go on', 60);
cmp_ok($quiet - $before, '<=', 6, 'when nothing can be logged, few requests find that out (' . ($quiet - $before) . ')');
is($server->sql('SELECT last_error FROM dmshook.dispatchers'), 'division by zero', 'dispatchers shows why');
$server->sql('DROP INDEX dmshook.broken');
# with the one set aside before, which is tried now and then
more_logged(102);
pass('repaired, all goes on, and the one that was alone is logged, too');
wait_low($server);
is(scalar repeats(received($receiver)), 1, 'and nothing else was sent twice');
$receiver->stop;
done_testing();
