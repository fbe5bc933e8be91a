# pg_upgrade goes through with the library preloaded on both sides, and the upgraded database knows what it is.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DmshookLife;

my $old = life_node('old');
$old->start;
$old->safe_psql('postgres', 'CREATE DATABASE dms');
$old->safe_psql('dms', 'CREATE EXTENSION dmshook');
claim($old, 'dms');
$old->reload;
isnt(wait_dispatcher($old, 'dms'), '', 'a dispatcher before');
$old->stop;

my $new = life_node('new');
my ($bindir) = run_command([ 'pg_config', '--bindir' ]);
my $dir = PostgreSQL::Test::Utils::tempdir_short;
chdir $dir or die $!;
command_ok([ 'pg_upgrade', '--no-sync', '-b', $bindir, '-B', $bindir, '-d', $old->data_dir, '-D', $new->data_dir,
		'-s', $dir, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
$new->start;
isnt(wait_dispatcher($new, 'dms'), '', 'a dispatcher after');

# From 15 to 15 it cannot be told from a copy: the system identifier is another one, the major the same.
is($new->safe_psql('dms', 'SELECT state FROM dmshook.dispatchers'), 'unclaimed', 'of the same major: it might be a copy');

# What an older major leaves behind.
my $pid = dispatcher($new, 'dms');
is($new->safe_psql('dms', 'SELECT count(*) FROM dmshook.instance'), 1, 'pg_upgrade carries the row');
$new->safe_psql('dms', 'UPDATE dmshook.instance SET major = major - 1; SELECT dmshook._wake()');
ok($new->poll_query_until('dms', "SELECT state = 'running' FROM dmshook.dispatchers"), 'from an older major: it goes on');
is( $new->safe_psql('dms', 'SELECT (i.system_identifier, i.major) = (c.system_identifier, current_setting(\'server_version_num\')::int / 10000)'
		  . ' FROM dmshook.instance i, pg_control_system() c'),
	't', 'and has noted what it is now');
is(dispatcher($new, 'dms'), $pid, 'without a new start');
$new->stop;
done_testing();
