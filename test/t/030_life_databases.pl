# Every database with the extension has a dispatcher, and none of them is in anybody's way.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use DmshookLife;

my $node = life_node('databases');
my $tablespace = PostgreSQL::Test::Utils::tempdir;

# An extension that requires ours, for CASCADE, and one that has nothing to do with it.
my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
for ([ 'dmshook_dependent', "requires = 'dmshook'\n" ], [ 'dmshook_other', '' ])
{
	my ($name, $more) = @$_;
	my $base = "$sharedir/extension/$name";
	unlink "$base.control", "$base--1.sql";
	append_to_file("$base.control", "default_version = '1'\n$more");
	append_to_file("$base--1.sql", "CREATE FUNCTION public.${name}() RETURNS int LANGUAGE sql RETURN 1;\n");
}

$node->start;
ok($node->poll_query_until('template1', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dmshook launcher'"),
	'there is a launcher');

# ---- CREATE and DROP EXTENSION ----

my $pid;
$node->safe_psql('template1', "CREATE DATABASE $_") for qw(plain cascade owned dms);
for my $db (qw(plain dms))
{
	$node->safe_psql($db, 'CREATE EXTENSION dmshook');
	like(wait_dispatcher($node, $db), qr/^\d+$/, "CREATE EXTENSION in $db");
}
$node->safe_psql('cascade', 'CREATE EXTENSION dmshook_dependent CASCADE');
like(wait_dispatcher($node, 'cascade'), qr/^\d+$/, 'CREATE EXTENSION CASCADE of another one');

$node->safe_psql('postgres', 'BEGIN; CREATE EXTENSION dmshook; ROLLBACK');
my ($rc, $out, $err) = $node->psql('postgres', "BEGIN; CREATE EXTENSION dmshook; PREPARE TRANSACTION 'x'");
like($err, qr/cannot PREPARE a transaction that has created, altered or dropped the extension/, 'not in a prepared transaction');
is(dispatcher($node, 'postgres'), '', 'a rolled-back CREATE EXTENSION starts nothing');

$pid = dispatcher($node, 'plain');
$node->safe_psql('plain', 'BEGIN; DROP EXTENSION dmshook; ROLLBACK');
is(dispatcher($node, 'plain'), $pid, 'a rolled-back DROP EXTENSION leaves it');

$node->safe_psql('plain', 'CREATE EXTENSION dmshook_other; ALTER EXTENSION dmshook_other UPDATE; DROP EXTENSION dmshook_other');
is(dispatcher($node, 'plain'), $pid, 'so do other extensions that come and go');
quick($node, 'plain', 'DROP EXTENSION dmshook', 'DROP EXTENSION');
ok(wait_no_dispatcher($node, 'plain'), 'and its dispatcher is gone');
quick($node, 'cascade', 'DROP SCHEMA dmshook CASCADE', 'DROP SCHEMA CASCADE');
ok(wait_no_dispatcher($node, 'cascade'), 'and its dispatcher is gone');

$node->safe_psql('owned', 'CREATE ROLE boss SUPERUSER; SET ROLE boss; CREATE EXTENSION dmshook');
$pid = wait_dispatcher($node, 'owned');
quick($node, 'owned', 'DROP OWNED BY boss', 'DROP OWNED');
ok(wait_no_dispatcher($node, 'owned'), 'and its dispatcher is gone');

$node->safe_psql('plain', 'CREATE EXTENSION dmshook');
$pid = wait_dispatcher($node, 'plain');
quick($node, 'plain', 'BEGIN; DROP EXTENSION dmshook; CREATE EXTENSION dmshook; COMMIT', 'dropped and created in one transaction');
isnt(wait_dispatcher($node, 'plain', $pid), $pid, 'another dispatcher, for the other tables');
claim($node, 'plain');
$node->reload;

# ---- commands that want the database for themselves ----

$pid = wait_dispatcher($node, 'plain');
quick($node, 'postgres', 'CREATE DATABASE copy TEMPLATE plain', 'CREATE DATABASE TEMPLATE');
wait_dispatcher($node, 'plain', $pid);
like(wait_dispatcher($node, 'copy'), qr/^\d+$/, 'the copy has a dispatcher too');

$pid = dispatcher($node, 'copy');
quick($node, 'postgres', 'ALTER DATABASE copy RENAME TO moved', 'RENAME');
isnt(wait_dispatcher($node, 'moved', $pid), '', 'its dispatcher is back, under the new name');

$pid = dispatcher($node, 'moved');
quick($node, 'postgres', 'BEGIN; ALTER DATABASE moved RENAME TO other; ROLLBACK', 'RENAME, rolled back');
isnt(wait_dispatcher($node, 'moved', $pid), '', 'its dispatcher is back, under the old name');

$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$tablespace'");
$pid = dispatcher($node, 'moved');
quick($node, 'postgres', 'ALTER DATABASE moved SET TABLESPACE elsewhere', 'SET TABLESPACE');
isnt(wait_dispatcher($node, 'moved', $pid), '', 'its dispatcher is back');

# somebody else is in it: the command fails, the dispatcher is back
my $session = $node->background_psql('moved');
$session->query_safe('SELECT 1');
$pid = dispatcher($node, 'moved');
($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE moved');
like($err, qr/is being accessed by other users/, 'DROP DATABASE fails while a person is in it');
like($err, qr/There is 1 other session/, 'and it is the person, not the dispatcher');
isnt(wait_dispatcher($node, 'moved', $pid), '', 'its dispatcher is back after the failure');
$session->quit;

# who may not do it stops nothing
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
$pid = dispatcher($node, 'moved');
for my $sql ('DROP DATABASE moved', 'ALTER DATABASE moved RENAME TO mine', 'CREATE DATABASE mine TEMPLATE moved',
	'ALTER DATABASE moved SET TABLESPACE pg_default')
{
	($rc, $out, $err) = $node->psql('postgres', "SET ROLE nobody; $sql");
	like($err, qr/must be owner|permission denied/, "not allowed: $sql");
}
is(dispatcher($node, 'moved'), $pid, 'a command without the right to it stops no dispatcher');

quick($node, 'postgres', 'DROP DATABASE moved', 'DROP DATABASE');
quick($node, 'postgres', 'DROP DATABASE plain WITH (FORCE)', 'DROP DATABASE FORCE');
$node->safe_psql('postgres', 'CREATE DATABASE brief');
quick($node, 'postgres', 'DROP DATABASE brief', 'DROP DATABASE of one just made');

# a loop of it: created, with the extension, dropped at once
for my $i (1 .. 5)
{
	$node->safe_psql('postgres', 'CREATE DATABASE brief');
	$node->safe_psql('brief', 'CREATE EXTENSION dmshook');
	quick($node, 'postgres', 'DROP DATABASE brief', "CREATE DATABASE, CREATE EXTENSION, DROP DATABASE: $i");
}

# ---- templates, and databases without connections ----

$pid = dispatcher($node, 'dms');
$node->safe_psql('postgres', 'ALTER DATABASE dms IS_TEMPLATE true');
ok(wait_no_dispatcher($node, 'dms'), 'a template has no dispatcher');
$node->safe_psql('postgres', 'ALTER DATABASE dms IS_TEMPLATE false');
isnt(wait_dispatcher($node, 'dms'), '', 'nor is it one any more');
$node->safe_psql('postgres', 'ALTER DATABASE dms ALLOW_CONNECTIONS false');
ok(wait_no_dispatcher($node, 'dms'), 'a database without connections has no dispatcher');
$node->safe_psql('postgres', 'ALTER DATABASE dms ALLOW_CONNECTIONS true');
isnt(wait_dispatcher($node, 'dms'), '', 'it has one again');

# ---- the log: nothing of all this was an error of a dispatcher ----

is(log_count($node, 'dmshook dispatcher of database'), 0, 'no dispatcher failed');
is(log_count($node, 'FATAL:'), 0, 'none was started where it could not be');
is(log_count($node, 'PANIC|was terminated by signal'), 0, 'no crash');

$node->stop;
done_testing();
