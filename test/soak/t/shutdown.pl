# Fast, immediate and smart shutdown while 200 receivers hang: as quick as those of the same server without dmshook, and nothing is lost.
use strict;
use warnings;

use DmshookTest;
use Test::More;
use Time::HiRes qw(time);

my $hooks = 200;
my $rounds = 3;
my $server = DmshookTest->new('shutdown', restart_after_crash => 1, conf => "jit = off\nautovacuum = off\n");
my $node = $server->node;
my $receiver = DmshookTest::Receiver->new;

# one each, so that none waits for another; longer than any stop may take
$server->sql(sprintf q{SELECT count(dmshook.create_webhook('w' || g, '%s' || g, '{*}', enabled => true, options => '{"timeout": "10min", "breaker": null}')) FROM generate_series(1, %d) g},
	$receiver->url('/hang/'), $hooks);
my $message = $server->sql(q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": 1}', '{}')});

sub preload { my ($library) = @_; $node->append_conf('postgresql.conf', "shared_preload_libraries = '$library'\n"); return; }

# Seconds that the server takes to stop.
sub stop
{
	my ($mode) = @_;
	my $begin = time;
	$node->stop($mode);
	return time - $begin;
}

sub median { my @sorted = sort { $a <=> $b } @_; return $sorted[ $#sorted / 2 ]; }

my $asked = 0;
for my $mode (qw(fast immediate smart))
{
	my (@with, @without);
	for (1 .. $rounds)
	{
		# they hang: handshakes are over, the requests are there
		$asked += $hooks;
		poll_until(sub { $receiver->stats->{requests} >= $asked }, 'all of them hang');
		push @with, stop($mode);
		preload('');
		$node->start;
		# what stops is a server that has settled: no recovery, no checkpoint is under way
		$server->wait_sql('SELECT NOT pg_is_in_recovery()');
		push @without, stop($mode);
		preload('dmshook');
		$node->start;
	}
	my ($with, $without) = (median(@with), median(@without));
	# a quarter of a second is what a stop takes when nothing else goes on: on a slower machine two seconds are more
	my $slow = $without > 0.25 ? $without / 0.25 : 1;
	cmp_ok($with, '<=', $without + 2 * $slow, sprintf '%s shutdown while %d receivers hang: %.2f s, without dmshook %.2f s', $mode, $hooks, $with, $without);
}

# none of it was an attempt that failed, and nothing is lost
is($server->sql('SELECT count(*) FROM dmshook.attempt'), 0, 'what was under way is no failed attempt');
$server->sql(sprintf q{SELECT FROM dmshook.webhooks w, dmshook.alter_webhook(w.name, url => '%s' || w.name)}, $receiver->url('/ok/'));
$server->sql(q{SELECT pg_terminate_backend(pid, 60000) FROM dmshook.dispatchers});
$server->wait_sql(q{SELECT count(*) FROM dmshook.deliveries WHERE state = 'delivered'}, $hooks);
my @ok = $receiver->wait_for($hooks, sub { $_[0]{path} =~ m{^/ok/} });
# again, where the dispatcher was ended between an answer and its row
is(scalar(keys %{ { map { $_->{path} => 1 } @ok } }), $hooks, 'in the end each of them gets it');
is_deeply([ grep { $_ ne $message } map { $_->{headers}{'webhook-id'} } $receiver->requests ], [], 'always with the same webhook-id');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|terminating background worker|dmshook dispatcher of database "postgres" failed/, 'and quietly');
done_testing();
