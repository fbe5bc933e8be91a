# kill -9 at random moments, a hundred times: of the server, the postmaster alone, the dispatcher, the launcher, a writer.
# Every committed event arrives, none is invented, what is repeated was under way or not yet logged.
#
#   KILLS=20       how often; EVENTS=1000 times that: so many are written
#   SEED=N         the same choices again (soak/run prints it)
use strict;
use warnings;

use DmshookCrash;
use Test::More;

my $kills = $ENV{KILLS} || 20;
my $events = $ENV{EVENTS} || 1000 * $kills;
my $seed = $ENV{SEED} || time;
srand $seed;
diag("seed: $seed");

# each event is answered nearly twice with 200; one kill in six comes as early as it can
my @what = qw(server server postmaster dispatcher dispatcher launcher backend backend);
my @lives = map {
	{
		kill => $what[ rand @what ],
		commit => [ [qw(on off)], ['off'], ['on'] ]->[ rand 3 ],
		requests => rand() < 1 / 6 ? 0 : int rand 3.6 * $events / ($kills + 1),
	}
} 1 .. $kills;
my %n;
$n{ $_->{kill} }++ for @lives;
note(join ', ', map { "$_ $n{$_}" } sort keys %n);
crash_test(name => 'kills', lives => \@lives, events => $events, rate => 400, customers => 20000, clients => 6);
done_testing();
