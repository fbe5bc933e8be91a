# A thousand databases of which three have the extension: these are found, also after a restart, with few workers; the launcher sleeps, and nobody notices.
# DATABASES=1000 says how many; each takes some 7 MB and a quarter of a second.
use strict;
use warnings;

use DmshookLife;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $databases = $ENV{DATABASES} || 1000;
# no more workers than three dispatchers, the launcher, that of logical replication, and one to look with
my $server = DmshookTest->new('thousand', extension => 0, conf => "max_worker_processes = 6\nautovacuum = off\nmax_wal_size = 1GB\nmax_connections = 30\n");
my $node = $server->node;
my $receiver = DmshookTest::Receiver->new;
my @with = map { "d$_" } (1, int($databases / 2), $databases);

sub switches { my ($n) = slurp_file("/proc/$_[0]/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m; return $n; }
sub all_send
{
	my ($what, $key) = @_;
	$server->sql(sprintf(q{SELECT dmshook.emit('vehicle.added', 'vehicle', '{"id": %d}', '{}')}, $key), $_) for @with;
	for my $d (@with) { $receiver->wait_for(1, sub { $_[0]{path} eq "/ok/$d" && $_[0]{body} =~ /"key": ?\{"id": ?$key\}/ }); }
	return pass($what);
}

# an emptied template: what a database is made of takes most of the time
$server->sql('CREATE DATABASE empty TEMPLATE template0');
$server->sql('DROP SCHEMA information_schema CASCADE; VACUUM FULL', 'empty');
$server->sql('ALTER DATABASE empty IS_TEMPLATE true');
# one psql for all of them, with the statements from its input
my $sql = join '', map { "CREATE DATABASE d$_ TEMPLATE empty STRATEGY " . ($_ % 2 ? 'wal_log' : 'file_copy') . ";\n" } 1 .. $databases;
my $begin = time;
$server->sql($sql, 'template1');
note(sprintf '%d databases made in %d s', $databases, time - $begin);
for my $d (@with)
{
	$server->sql('CREATE EXTENSION dmshook', $d);
	$server->sql(sprintf(q{SELECT webhook FROM dmshook.create_webhook('w', '%s', '{*}', enabled => true)}, $receiver->url("/ok/$d")), $d);
}
all_send('three of a thousand have the extension: each of them sends', 1);
is($server->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dmshook%'}, 'template1'), 4, 'there are three dispatchers and the launcher');

my $size = $server->log_size;
$node->restart;
# a database is connected to at once while the launcher still looks at the others
is($server->sql('SELECT 1', 'd2'), 1, 'after a restart others connect meanwhile');
all_send('after a restart they are found among the others', 2);
# the launcher has looked at all of them when it sleeps
my ($launcher, $at) = (launcher($node), -1);
poll_until(sub { my $was = $at; $at = switches($launcher); select undef, undef, undef, 0.5; return $was == $at; }, 'the launcher does not sleep');
$server->sql('SELECT 1', 'template1') for 1 .. 20;
cmp_ok(switches($launcher) - $at, '<=', 2, 'then the launcher sleeps');
is($server->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dmshook%'}, 'template1'), 4, 'the three have dispatchers, the others none');
is(log_count($node, 'no background worker is free', $size), 0, 'and the few workers were enough');

# a database that gets the extension now, among a thousand; one that is dropped, renamed
my $d = 'd' . int($databases / 3);
$server->sql("DROP DATABASE d2; ALTER DATABASE d$databases RENAME TO last", 'template1');
$with[-1] = 'last';
$server->sql('DROP EXTENSION dmshook', shift @with);
$server->sql('CREATE EXTENSION dmshook', $d);
$server->sql(sprintf(q{SELECT webhook FROM dmshook.create_webhook('w', '%s', '{*}', enabled => true)}, $receiver->url("/ok/$d")), $d);
$server->sql(sprintf(q{SELECT dmshook.alter_webhook('w', url => '%s')}, $receiver->url('/ok/last')), 'last');
push @with, $d;
all_send('one more, one less, one renamed: those that have it send', 3);
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal|TRAP|FATAL:  (?!the database system is)|dmshook dispatches for at most|dispatcher of database/, 'the server log has no complaint');
$node->stop;
done_testing();
