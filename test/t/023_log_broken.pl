# What cannot be logged is not sent.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $server = DmshookTest->new('log_broken', conf => "autovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;
$server->sql(sprintf q{SELECT dmshook.create_webhook('all', '%s', '{*}', enabled => true, options => '{"max_in_flight": 8}')}, $receiver->url('/slow/20/all'));

sub emit_many
{
	my ($many) = @_;
	return $server->sql(qq[SELECT count(dmshook.emit('vehicle.added', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, $many) g]);
}

sub wait_logged
{
	my ($n) = @_;
	return $server->wait_sql(q{SELECT count(DISTINCT event) FROM dmshook.attempt WHERE final = 'd'}, $n);
}

sub last_id { return $server->sql('SELECT max(id) FROM dmshook.event'); }

# An index of attempt whose expression cannot be computed: for none of the rows there are, for those of later events that the condition names.
sub break_log
{
	my ($condition) = @_;
	return $server->sql(sprintf 'CREATE INDEX broken ON dmshook.attempt ((1 / (event * 0))) WHERE event > %d AND %s', last_id(), $condition);
}

# Requests since this was called last.
my $seen = 0;
sub news
{
	my @all = received($receiver);
	my @new = @all[ $seen .. $#all ];
	$seen = @all;
	return @new;
}

emit_many(50);
wait_logged(50);
is(scalar news(), 50, 'all is well');

# ---- no result can be written ----

my $size = $server->log_size;
break_log('true');
emit_many(500);
$server->wait_log(qr/WARNING:  results could not be logged: division by zero/, $size);
# what was under way ends within 20 ms; then there is silence, though it tries to write again and again
my $quiet = $receiver->stats->{requests};
my $since = time;
poll_until(sub {
	my $now = $receiver->stats->{requests};

	($quiet, $since) = ($now, time) if $now != $quiet;
	return time - $since > 3;
}, sub { "requests go on: $quiet" }, 30);
pass('nothing goes out while nothing can be logged');
my @out = news();
cmp_ok(scalar @out, '<=', 64, 'what went out before it was noticed is little (' . @out . ')');
is(join(' ', repeats(@out)), '', '... and nothing of it twice');
is($server->sql('SELECT last_error FROM dmshook.dispatchers'), 'division by zero', 'dispatchers shows why');
is($server->sql('SELECT count(*) FROM dmshook.attempt'), 50, 'no attempt is there');
my $log = slurp_file($server->node->logfile);
my $warnings = () = substr($log, $size) =~ /results could not be logged/g;
is($warnings, 1, 'it is said once');
like(substr($log, $size), qr/HINT:  Nothing is sent until the log can be written again/, '... with a hint');

$server->sql('DROP INDEX dmshook.broken');
wait_logged(550);
$server->wait_log(qr/LOG:  results can be logged again/, $size);
my @rest = news();
is(join(' ', repeats(@out, @rest)), '', 'repaired: all is delivered, and nothing is sent twice, for memory knew what had come back');
is(@out + @rest, 500, '... each of them');
$server->wait_sql(q{SELECT last_error IS NULL OR last_error = '' FROM dmshook.dispatchers});

# ---- the same, and the dispatcher is restarted meanwhile: what was under way or not logged is sent again, nothing else ----

break_log('true');
emit_many(300);
$server->wait_log(qr/WARNING:  results could not be logged.*results can be logged again.*WARNING:  results could not be logged/s, $size);
my $pid = dispatcher_pid($server);
$server->sql("SELECT pg_terminate_backend($pid, 10000)");
is($server->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), 0, 'a dispatcher that cannot log ends when told to');
$server->wait_sql(q{SELECT last_error = 'division by zero' FROM dmshook.dispatchers WHERE pid <> } . $pid);
$quiet = $receiver->stats->{requests};
$since = time;
poll_until(sub {
	my $now = $receiver->stats->{requests};

	($quiet, $since) = ($now, time) if $now != $quiet;
	return time - $since > 2;
}, 'requests go on', 30);
$server->sql('DROP INDEX dmshook.broken');
wait_logged(850);
@out = news();
my %n;
$n{ $_->{id} }++ for @out;
is(scalar keys %n, 300, 'all of them came');
is(scalar(grep { $_ > 2 } values %n), 0, 'none more than once for each of the two dispatchers');
cmp_ok(@out - 300, '<=', 64, 'few were repeated (' . (@out - 300) . ')');

# ---- the log is locked: it waits, and so does the sending; nothing is lost ----

my $session = $server->session;
$session->query_safe('BEGIN; LOCK TABLE dmshook.attempt IN EXCLUSIVE MODE');
emit_many(200);
$server->wait_sql(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND wait_event_type = 'Lock'});
cmp_ok(scalar(my @before = news()), '<=', 64, 'the log is locked: what goes out is little');
$pid = dispatcher_pid($server);
my $begin = time;
is($server->sql("SELECT pg_terminate_backend($pid, 20000)"), 't', 'a dispatcher that waits for the lock ends when told to');
cmp_ok(time - $begin, '<', 5, '... at once');
$server->wait_sql(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND wait_event_type = 'Lock'});
$session->query_safe('ROLLBACK');
wait_logged(1050);
%n = ();
$n{ $_->{id} }++ for @before, news();
is(scalar keys %n, 200, 'unlocked: all are delivered');
is(scalar(grep { $_ > 2 } values %n), 0, 'at most once by each of the two dispatchers');
$session->quit;

is($server->sql('SELECT count(*) FROM dmshook.queue'), 0, 'the queue is empty');
$receiver->stop;
done_testing();
