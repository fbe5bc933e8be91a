# Dispatchers and the launcher come back, whatever ends them; and end when they are told to.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use DmshookLife;

my $node = life_node('restart');
$node->start;
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two none);
for my $db (qw(one two))
{
	$node->safe_psql($db, 'CREATE EXTENSION dmshook');
	claim($node, $db);
}
$node->reload;
my $one = wait_dispatcher($node, 'one');
my $two = wait_dispatcher($node, 'two');

# ---- the server ----

$node->restart;
isnt(wait_dispatcher($node, $_), '', "after a restart of the server there is one for $_") for qw(one two);
is(dispatcher($node, 'none'), '', 'and none where the extension is not');

# ---- a dispatcher ----

$one = dispatcher($node, 'one');
my $begin = time;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($one, 5000)");
cmp_ok(time - $begin, '<', 1, 'pg_terminate_backend ends it at once');
my $next = wait_dispatcher($node, 'one', $one);
isnt($next, '', 'another one is there');
cmp_ok(time - $begin, '<', 3, 'at once');

$two = dispatcher($node, 'two');
kill 'KILL', $two;
isnt(wait_dispatcher($node, $_), '', "after kill -9 of a dispatcher there is one for $_") for qw(one two);
is(log_count($node, 'all server processes terminated; reinitializing'), 1, 'after the one crash that kill -9 always is');

# ---- the launcher ----

$one = dispatcher($node, 'one');
my $launcher = launcher($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dmshook launcher' AND pid <> $launcher")
  or fail 'no launcher';
# by now it would have started a second one; the next event shows that it watches over the first
is(dispatcher($node, 'one'), $one, 'a new launcher goes on with the dispatchers that there are');
is($node->safe_psql('one', 'SELECT pid FROM dmshook.dispatchers'), $one, 'knowing which they are');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($one)");
isnt(wait_dispatcher($node, 'one', $one), '', 'and watches over them');
is(log_count($node, 'another process dispatches'), 0, 'without starting a second one');

$launcher = launcher($node);
$one = dispatcher($node, 'one');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'dmshook %'");
isnt(wait_dispatcher($node, 'one', $one), '', 'launcher and dispatchers together');
is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND datname = 'one'"),
	1, 'one each');

# ---- dmshook.dispatchers ----

$node->safe_psql('postgres', 'ALTER SYSTEM SET dmshook.dispatchers = 0');
$node->reload;
ok(wait_no_dispatcher($node, $_), "dmshook.dispatchers = 0: none for $_") for qw(one two);
$node->safe_psql('none', 'CREATE EXTENSION dmshook');
$node->safe_psql('two', 'DROP EXTENSION dmshook');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET dmshook.dispatchers');
$node->reload;
isnt(wait_dispatcher($node, $_), '', "dmshook.dispatchers = 1: one for $_") for qw(one none);
is(dispatcher($node, 'two'), '', 'none where the extension was dropped meanwhile');

# ---- settings of the database reach background workers, and do no harm ----

my %hostile = (
	default_transaction_read_only => 'on',
	default_transaction_isolation => 'serializable',
	default_transaction_deferrable => 'on',
	statement_timeout => '1ms',
	lock_timeout => '1ms',
	idle_in_transaction_session_timeout => '1ms',
	idle_session_timeout => '1ms',
	search_path => 'public',
	synchronous_commit => 'remote_apply',
	session_replication_role => 'origin',
	row_security => 'off',
	enable_indexscan => 'off',
	bytea_output => 'escape',
	TimeZone => 'Asia/Kolkata',
	role => 'weak');
$node->safe_psql('one', 'CREATE ROLE weak');
$node->safe_psql('postgres', join('', map { "ALTER DATABASE one SET $_ = '$hostile{$_}';" } sort keys %hostile));
$one = dispatcher($node, 'one');
my $log = -s $node->logfile;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($one)");
$next = wait_dispatcher($node, 'one', $one);
isnt($next, '', 'a dispatcher under hostile settings');
$node->reload;
$node->safe_psql('postgres', "ALTER SYSTEM SET dmshook.response_limit = 1024; SELECT pg_reload_conf()");
is(dispatcher($node, 'one'), $next, 'it stays');
is(log_count($node, 'dmshook dispatcher of database|could not be logged', $log), 0, 'it did not fail');
$node->safe_psql('postgres', 'ALTER DATABASE one RESET ALL');

# ---- failures: said once, tried again, ever more rarely ----

$log = -s $node->logfile;
$node->safe_psql('none', 'ALTER TABLE dmshook.instance RENAME TO away');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND datname = 'none'");
ok(wait_log($node, qr/dmshook dispatcher of database "none" failed: relation "dmshook.instance" does not exist/, $log), 'a failure is said');
# the third failure comes 1 + 2 seconds after the first
$begin = time;
my %seen;
while (time - $begin < 3.5)
{
	my $pid = dispatcher($node, 'none');
	$seen{$pid} = 1 if $pid;
	sleep 0.02;
}
is(log_count($node, 'dmshook dispatcher of database "none" failed', $log), 1, 'a streak of it once');
cmp_ok(scalar keys %seen, '<=', 3, 'and it is not started over and over');
isnt(dispatcher($node, 'one'), '', 'the others do not mind');
$node->safe_psql('none', 'ALTER TABLE dmshook.away RENAME TO instance');
isnt(wait_dispatcher($node, 'none'), '', 'it is back when the cause is gone');

# ---- it waits for a lock and is told to end ----

my $session = $node->background_psql('one');
$session->query_safe('BEGIN; LOCK TABLE dmshook.instance, dmshook.event, dmshook.position, dmshook.command');
$one = dispatcher($node, 'one');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($one)");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND datname = 'one' AND wait_event_type = 'Lock'")
  or fail 'the next one does not wait';
$one = dispatcher($node, 'one');
$begin = time;
is($node->safe_psql('postgres', "SELECT pg_terminate_backend($one, 5000)"), 't', 'told to end while it waits for a lock');
cmp_ok(time - $begin, '<', 1, 'it ends at once');
$session->query_safe('ROLLBACK');
$session->quit;
isnt(wait_dispatcher($node, 'one', $one), '', 'another one is there');

# ---- idle ----

$one = wait_dispatcher($node, 'one');
my $idle = switches(launcher($node));
my $idle_one = switches($one);
$begin = time;
sleep 0.5 while time - $begin < 3;
cmp_ok(switches(launcher($node)) - $idle, '<=', 1, 'the launcher sleeps');
cmp_ok(switches($one) - $idle_one, '<=', 1, 'a dispatcher without events too');

is(log_count($node, 'PANIC'), 0, 'no PANIC');
is(log_count($node, 'FATAL:  (?!the database system is)'), 0, 'nor anything FATAL but in people who connected too early');

# ---- shutting down ----

$begin = time;
$node->stop('fast');
cmp_ok(time - $begin, '<', 5, 'the server stops at once');
is(log_count($node, 'terminating background worker "dmshook'), 0, 'quietly');
done_testing();

# How often a process went to sleep by itself.
sub switches
{
	my ($pid) = @_;
	my ($n) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $n;
}
