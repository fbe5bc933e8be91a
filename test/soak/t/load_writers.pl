# 1,000 writers at once; and what others could notice of us while they write: locks, snapshots, autovacuum (LOAD=0.1: a tenth).
use strict;
use warnings;

use DmshookLoad;
use DmshookSoak;
use DmshookTest;
use IPC::Run;
use Test::More;
use Time::HiRes qw(sleep time);

my $writers = scaled(1_000);
my $each = 50;
# memory: a thousand backends of some MB each
my $server = DmshookTest->new('writers', conf => sprintf "max_connections = %d\nshared_buffers = 256MB\nmax_wal_size = 4GB\nautovacuum_naptime = 1s\n", $writers + 50);
my $receiver = DmshookTest::Receiver->new(log => 0);
my $node = $server->node;
vehicles($server);
$server->sql('CREATE TABLE unwatched (LIKE vehicle INCLUDING ALL); CREATE SEQUENCE vehicle_id START 1000000');
$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{vehicle.added}', enabled => true, options => '%s')}, @$_)
  for [ 'ours', $receiver->url('/ok/ours'), '{}' ], [ 'again', $receiver->url('/fail/1/again'), '{"backoff": {"intervals": ["1s"]}, "breaker": null, "disable_after": null}' ];
$server->sql(q{SELECT dmshook.alter_webhook('again', filter => '$.data.key.id % 10 == 0')});

# ---- locks of a writer ----
sub locks
{
	my ($table) = @_;
	my $session = $server->session;
	$session->query_safe('BEGIN');
	$session->query_safe("INSERT INTO $table VALUES ($_, 'AB', 'Audi', 'In stock', '')") for 1 .. 2;
	$session->query_safe("UPDATE $table SET status = 'Sold' WHERE id = 1");
	my $locks = $session->query_safe(q{SELECT string_agg(replace(l.relation::regclass::text, 'unwatched', 'vehicle') || ' ' || l.mode, ', ' ORDER BY 1) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')});
	my $ours = $session->query_safe(q{SELECT string_agg(DISTINCT l.mode, ',') FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'dmshook'::regnamespace AND c.relkind = 'r'});
	$session->query_safe('ROLLBACK');
	$session->quit;
	return ($locks, $ours);
}
my ($with, $ours) = locks('vehicle');
my ($without) = locks('unwatched');
is(join(' ', sort split /, /, $with), join(' ', sort split /, /, $without), 'a writer holds the same locks on its table with us as without');
is($ours, 'RowExclusiveLock', 'and of ours what an INSERT takes');

# ---- the load ----
my $dir = PostgreSQL::Test::Utils::tempdir();
PostgreSQL::Test::Utils::append_to_file("$dir/write.sql", q{INSERT INTO vehicle SELECT g, 'AB' || g, 'Volkswagen', 'In stock', 'Full service history, two owners' FROM (SELECT nextval('vehicle_id') AS g) s;} . "\n");
my ($out, $err) = ('', '');
my $load = IPC::Run::start([ $node->installed_command('pgbench'), '-n', '-c', $writers, '-j', 2, '-t', $each, '-M', 'prepared', '-f', "$dir/write.sql", '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$out, '2>', \$err);

# what can be seen of our processes meanwhile, from one session
my $watch = $server->session;
my ($samples, $oldest, $longest_gap, $foreign) = (0, 0, 0, '');
my $count = delivered($receiver, '/ok/ours');
my $all = $writers * $each;
my $last = time;
my $got = -1;
my $moved = time;
while ($got < $all)
{
	my ($age, $locks) = split /\|/, $watch->query_safe(q{SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)) FILTER (WHERE a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL), 0),
		(SELECT string_agg(DISTINCT l.relation::regclass::text || ' ' || l.mode, ', ') FROM pg_locks l JOIN pg_stat_activity o ON o.pid = l.pid JOIN pg_class c ON c.oid = l.relation
			WHERE o.backend_type LIKE 'dmshook%' AND c.relnamespace = 'public'::regnamespace)
		FROM pg_stat_activity a WHERE a.backend_type LIKE 'dmshook%'});
	my $now = time;
	$samples++;
	# the first of them waits for a thousand connections to be made
	$longest_gap = $now - $last if $samples > 1 && $now - $last > $longest_gap;
	$last = $now;
	$oldest = $age if $age > $oldest;
	$foreign = $locks if $locks;
	my $n = $count->();
	($got, $moved) = ($n, $now) if $n != $got;
	die "stuck at $got of $all: $err" if $now - $moved > $DmshookTest::patience;
	$load->pump_nb if $load->pumpable;
	sleep 0.02;
}
$load->finish;
like($out, qr/number of transactions actually processed: $all\/$all/, "$writers writers wrote $all rows") or diag($err);
$server->wait_sql(sprintf q{SELECT count(*) >= %d FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'ours' AND a.final = 'd'}, $all);
is($server->sql(q{SELECT count(*) || ' ' || count(DISTINCT a.event) FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'ours'}), "$all $all", 'each of them delivered, once');
$server->wait_sql('SELECT gaps = 0 AND behind_events = 0 FROM dmshook.dispatchers');
is($foreign, '', "no process of ours was seen with a lock on a table of the DMS ($samples samples)");
# a second, and on a machine that has no time for anybody as much more as the looks themselves were late
cmp_ok($oldest, '<', 1 + 5 * $longest_gap, sprintf 'no snapshot of ours was older than a second: %.3f s at most (the looks were %.3f s apart at most)', $oldest, $longest_gap);
$watch->quit;

# ---- autovacuum ----
$server->wait_sql(q{SELECT count(*) FROM dmshook.queue}, 0);
my $ids = 1_000_000_000;
for my $table (qw(event attempt queue))
{
	# its statistics come when the process that writes says so: a little work makes it
	poll_until(sub {
		$server->sql(insert_vehicles($ids += 100, 100));
		return $server->sql(qq{SELECT autovacuum_count > 0 OR autoanalyze_count > 0 FROM pg_stat_user_tables WHERE schemaname = 'dmshook' AND relname = '$table'}) eq 't';
	}, "autovacuum of dmshook.$table");
	pass("autovacuum sees dmshook.$table");
}
is($server->sql(q{SELECT count(*) FROM pg_class c, unnest(c.reloptions) o WHERE c.relnamespace = 'dmshook'::regnamespace AND o ~ 'autovacuum_enabled=(false|off)'}), 0, 'and is turned off for none');
done_testing();
