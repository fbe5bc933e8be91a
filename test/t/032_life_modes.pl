# Where there are no dispatchers, or too few workers; a standby; COMMIT PREPARED; tests asked of a dispatcher.
use strict;
use warnings;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use DmshookLife;

my ($rc, $out, $err, $begin, $log);

# ---- not preloaded ----

my $node = life_node('modes', shared_preload_libraries => "''");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE dms');
($rc, $out, $err) = $node->psql('dms', 'CREATE EXTENSION dmshook');
is($rc, 0, 'CREATE EXTENSION without preloading');
is($node->safe_psql('dms', 'SELECT count(*) FROM dmshook._slots()'), 0, 'no dispatcher');
is($node->safe_psql('dms', 'SELECT dmshook._wake()'), '', 'waking nobody is no error');
is($node->safe_psql('dms', "SELECT result FROM dmshook._test(1, 0, 0, 'webhook.test', 1000)"), 'no dispatcher', 'a test: no dispatcher');
quick($node, 'postgres', 'CREATE DATABASE copy TEMPLATE dms', 'CREATE DATABASE TEMPLATE');
quick($node, 'postgres', 'DROP DATABASE copy', 'DROP DATABASE');

# ---- single-user mode, preloaded ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dmshook'\n");
$node->stop;
for my $sql ('DROP EXTENSION dmshook', 'CREATE EXTENSION dmshook', 'CREATE DATABASE copy', 'ALTER DATABASE copy RENAME TO away', 'DROP DATABASE away')
{
	my $db = $sql =~ /EXTENSION/ ? 'dms' : 'postgres';
	my $result = run_log([ 'postgres', '--single', '-j', '-D', $node->data_dir, $db ],
		'<', \"$sql;\n\n", '>', \$out, '2>', \$err);
	ok($result && $err !~ /ERROR|FATAL|PANIC/, "single-user mode: $sql") or diag $err;
}

# ---- binary upgrade ----

my $port = $node->port;
command_ok([ 'pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, '-o', '-b', 'start' ], 'the server starts for pg_upgrade');
$node->poll_query_until('postgres', 'SELECT true');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dmshook%'"), 0, 'without us');
quick($node, 'postgres', 'CREATE DATABASE copy TEMPLATE dms', 'CREATE DATABASE TEMPLATE needs nobody then');
quick($node, 'postgres', 'DROP DATABASE copy', 'DROP DATABASE neither');
command_ok([ 'pg_ctl', '-w', '-D', $node->data_dir, 'stop' ], 'and stops');

# ---- as it should be; tests asked of the dispatcher ----

$node->append_conf('postgresql.conf', "dmshook.allowed_networks = '127.0.0.1'\n");
$node->start;
isnt(wait_dispatcher($node, 'dms'), '', 'preloaded: a dispatcher');
my $test = "SELECT result FROM dmshook._test(1, 0, 0, 'webhook.test', 5000)";
is($node->safe_psql('dms', $test), 'unclaimed', 'a test in a database that is not claimed');
claim($node, 'dms');
is($node->safe_psql('dms', $test), 'unknown webhook', 'asked right after the claim: it looks before it answers');
is($node->safe_psql('dms', 'SELECT state FROM dmshook.dispatchers'), 'running', 'it runs');

# a new database claims itself at the first webhook, a copy does not
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', 'CREATE EXTENSION dmshook');
wait_dispatcher($node, 'fresh');
is($node->safe_psql('fresh', 'SELECT state FROM dmshook.dispatchers'), 'unclaimed', 'a new database waits for its first use');
$node->safe_psql('fresh', "SELECT dmshook.create_webhook('w', 'https://127.0.0.1/', '{vehicle.sold}')");
ok($node->poll_query_until('fresh', "SELECT state = 'running' FROM dmshook.dispatchers"), 'its first webhook');
quick($node, 'postgres', 'CREATE DATABASE twin TEMPLATE fresh', 'a copy of it');
wait_dispatcher($node, 'twin');
is($node->safe_psql('twin', 'SELECT state FROM dmshook.dispatchers'), 'unclaimed', 'the copy sends nothing');
$node->safe_psql('twin', "SELECT dmshook.create_webhook('x', 'https://127.0.0.1/', '{vehicle.sold}')");
is($node->safe_psql('twin', $test), 'unclaimed', 'whatever is set up in it');
$node->safe_psql('twin', "SELECT dmshook.claim_database('copy')");
ok($node->poll_query_until('twin', "SELECT state = 'running' FROM dmshook.dispatchers"), 'until it is claimed');
$node->safe_psql('postgres', "DROP DATABASE $_") for qw(fresh twin);

# a receiver that takes connections and says nothing; the one who asks goes away: no ticket is lost
my $deaf = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64) or die $!;
$node->safe_psql('dms', sprintf "SELECT dmshook.create_webhook('deaf', 'https://127.0.0.1:%d/', '{vehicle.sold}', options => '{\"timeout\": \"20s\"}')", $deaf->sockport);
my $deaf_test = "SET statement_timeout = '20ms'; SELECT dmshook._test(1, 0, 0, 'webhook.test', 30000)";
my $cancelled = 0;
for (1 .. 20)
{
	($rc, $out, $err) = $node->psql('dms', $deaf_test);
	$cancelled++ if $err =~ /canceling statement due to statement timeout/;
}
is($cancelled, 20, 'who asked for a test can go away');
$begin = time;
is($node->safe_psql('dms', "SELECT result FROM dmshook._test(999, 0, 0, 'webhook.test', 5000)"), 'unknown webhook', 'the next one is not told that others are busy');
is($node->safe_psql('dms', "SELECT result FROM dmshook._test(1, 0, 0, 'webhook.test', 300)"), 'timeout', 'a test that takes too long');
my $pid = dispatcher($node, 'dms');
my $session = $node->background_psql('dms');
$node->safe_psql('dms', 'CREATE TABLE answer (result text)');
$session->query_until(qr/started/, "\\echo started\nINSERT INTO answer SELECT result FROM dmshook._test(1, 0, 0, 'webhook.test', 30000);\n");
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'INSERT INTO answer%' AND wait_event_type = 'Extension'");
$begin = time;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
$session->query('SELECT 1');
is($node->safe_psql('dms', 'SELECT result FROM answer'), 'no dispatcher', 'the dispatcher ends while a test is under way: it is answered');
cmp_ok(time - $begin, '<', 2, 'at once, with requests hanging');
$session->quit;
isnt(wait_dispatcher($node, 'dms', $pid), '', 'another one is there');

# ---- COMMIT PREPARED ----

sub insert_event
{
	return "SELECT txid_current(); INSERT INTO dmshook.event (id, nonce, at, type, entity, key, who, source, data)"
	  . " SELECT nextval('dmshook.event_id'), 1, now(), 'vehicle.sold', 'vehicle', '{\"id\": 1}', '{}', '{}', '{}';";
}
my $high = "SELECT high FROM dmshook._slots() WHERE database = (SELECT oid FROM pg_database WHERE datname = 'dms')";
my $before = $node->safe_psql('dms', $high);
$node->safe_psql('dms', "BEGIN; " . insert_event() . " PREPARE TRANSACTION 'p'");
is($node->safe_psql('dms', $high), $before, 'a prepared transaction: nothing yet');
$node->safe_psql('dms', "COMMIT PREPARED 'p'");
$begin = time;
$node->poll_query_until('dms', "SELECT high > $before FROM dmshook._slots() WHERE database = (SELECT oid FROM pg_database WHERE datname = 'dms')");
cmp_ok(time - $begin, '<', 5, 'COMMIT PREPARED wakes the dispatcher');

# ---- a standby ----

$node->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 5\nhot_standby = on\n");
$node->append_conf('pg_hba.conf', "local replication all trust\n");
$node->restart;
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', 'CREATE DATABASE later');
$node->safe_psql('later', 'CREATE EXTENSION dmshook');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dmshook%'"), 0, 'a standby has no dispatchers');
is($standby->safe_psql('dms', 'SELECT count(*) FROM dmshook._slots()'), 0, 'none in its view');
$node->stop('immediate');
$standby->promote;
isnt(wait_dispatcher($standby, $_), '', "promoted: one for $_") for qw(dms later);
is($standby->safe_psql('dms', 'SELECT state FROM dmshook.dispatchers'), 'running', 'it goes on where the other one was');
$standby->stop;

# ---- too few workers ----

my $small = life_node('small', max_worker_processes => 3);
$small->start;
$small->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two);
$small->safe_psql('one', 'CREATE EXTENSION dmshook');
isnt(wait_dispatcher($small, 'one'), '', 'the first one has a worker');
$log = -s $small->logfile;
$small->safe_psql('two', 'CREATE EXTENSION dmshook');
ok($small->poll_query_until('two', "SELECT state = 'starting' FROM dmshook.dispatchers"), 'the second one has none');
is(dispatcher($small, 'two'), '', 'and does not run');
ok(wait_log($small, qr/no background worker is free for a dmshook dispatcher/, $log), 'the log says so');
$begin = time;
$small->safe_psql('one', 'DROP EXTENSION dmshook');
isnt(wait_dispatcher($small, 'two'), '', 'it has one when a worker is free');
cmp_ok(time - $begin, '<', 10, 'soon');
is(log_count($small, 'no background worker is free for a dmshook dispatcher', $log), 1, 'once');

# databases are looked at one by one: many of them need no more workers
$small->safe_psql('postgres', "CREATE DATABASE none$_") for 1 .. 8;
$log = -s $small->logfile;
$small->restart;
isnt(wait_dispatcher($small, 'two'), '', 'found among others without the extension');
is(log_count($small, 'no background worker is free', $log), 0, 'with the one worker that there is');
$small->stop;

done_testing();
