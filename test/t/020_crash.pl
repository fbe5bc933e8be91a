# kill -9 under load, of the server, the dispatcher, the launcher, a writer: what was committed arrives, what was not never does.
# test/soak/t/kills.pl does it a hundred times.
use strict;
use warnings;

use DmshookCrash;
use Test::More;

crash_test(
	name => 'crash',
	events => 2000,
	rate => 200,
	lives => [ map { my ($kill, @commit) = split; { kill => $kill, commit => \@commit, requests => 300 } }
		  'server on off', 'dispatcher off', 'server off', 'postmaster on', 'backend on off', 'launcher off', 'server off' ]);
done_testing();
