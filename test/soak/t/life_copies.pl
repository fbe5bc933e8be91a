# Copies of a cluster: a dump in another cluster, a physical copy that is kept quiet, a standby promoted in the middle of everything, a restore to a point in time.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use File::Path;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $receiver = DmshookTest::Receiver->new;
my $server = DmshookTest->new('primary', conf => <<"CONF");
wal_level = replica
max_wal_senders = 5
max_worker_processes = 12
autovacuum = off
CONF
my $node = $server->node;
mkdir $node->archive_dir;
$node->append_conf('postgresql.conf', sprintf "archive_mode = on\narchive_command = 'cp \"%%p\" \"%s/%%f\"'\n", $node->archive_dir);
$node->restart;

# As $server, for a node that was made from a backup.
sub as_server { my ($n) = @_; return bless { node => $n }, 'DmshookTest'; }
sub webhook { my ($name, $path, $more) = @_; return $server->sql(sprintf q{SELECT signing_secret FROM dmshook.create_webhook('%s', '%s', '{*}', enabled => true %s)}, $name, $receiver->url($path), $more // ''); }
sub ids { my ($s, $where) = @_; return [ sort split /\n/, $s->sql('SELECT message_id FROM dmshook.events' . ($where ? " WHERE $where" : '')) ]; }
sub ids_at { my ($path) = @_; my %n; $n{ $_->{id} }++ for grep { $_->{path} eq $path } received($receiver); return \%n; }
sub states { my ($s, $name) = @_; return $s->sql("SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM dmshook.deliveries WHERE webhook = '$name' GROUP BY 1) x"); }
sub count_at { my ($path) = @_; return scalar grep { $_->{path} eq $path } received($receiver); }

$server->sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text); SELECT count(*) FROM dmshook.watch('vehicle', 'vehicle.added', operation => 'insert')});
my $secret = webhook('live', '/ok/live', q{, auth => '{"kind": "bearer", "token": "hush-hush"}'});
webhook('waits', '/ok/waits');
$server->sql(q{SELECT dmshook.pause_webhook('waits')});
$server->sql('INSERT INTO vehicle SELECT g, NULL FROM generate_series(1, 50) g');
$server->wait_sql(q{SELECT count(*) = 50 FROM dmshook.deliveries WHERE webhook = 'live' AND state = 'delivered'});
my $first = ids($server);

# ---- a dump, restored into another cluster ----

my $other = DmshookTest->new('other', extension => 0, conf => "max_worker_processes = 12\n");
isnt($other->sql('SELECT system_identifier FROM pg_control_system()'), $server->sql('SELECT system_identifier FROM pg_control_system()'), '(another cluster)');
my $tmp = PostgreSQL::Test::Utils::tempdir;
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-f', "$tmp/dump", 'postgres' ], 'dumped');
for my $mode (qw(takeover copy))
{
	$other->sql("CREATE DATABASE $mode");
	command_ok([ 'pg_restore', '-h', $other->node->host, '-p', $other->node->port, '--exit-on-error', '-d', $mode, "$tmp/dump" ], 'restored into another cluster');
	$other->sql("INSERT INTO vehicle VALUES (1000, '$mode')", $mode);
	$other->wait_log(qr/WARNING:  database "$mode" is not claimed by dmshook: nothing is sent\n.*DETAIL:.*restored or copied.*\n.*HINT:.*claim_database\('takeover'\).*claim_database\('copy'\)/);
	is($other->sql('SELECT state FROM dmshook.dispatchers', $mode), 'unclaimed', "$mode: dispatchers.state says so, too");
	like($other->sql(q{SELECT level || ' ' || problem || ' ' || hint FROM dmshook.check() WHERE subject = 'database'}, $mode), qr/^error .*not claimed.*nothing is sent.*claim_database\('takeover'\)/, '... and check()');
}
is(count_at('/ok/live') + count_at('/ok/waits'), 50, 'nothing was sent by either');
$other->sql(q{SELECT dmshook.claim_database('copy')}, 'copy');
$other->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL}, 't', 'copy');
is($other->sql(q{SELECT count(*) FROM dmshook.webhooks WHERE enabled OR auth_kind <> 'none'}, 'copy'), 0, 'copy: webhooks are disabled, credentials gone');
is($other->sql(q{SELECT count(*) FROM dmshook.waiting}, 'copy'), 0, '... and nothing waits');
is($other->sql(sprintf(q{SELECT count(*) FROM dmshook.webhook_secret WHERE value = %s OR value LIKE '%%hush%%'}, quote($secret)), 'copy'), 0, '... and no secret is left');
$other->sql(q{SELECT dmshook.claim_database('takeover')}, 'takeover');
$other->sql(q{SELECT dmshook.resume_webhook('waits')}, 'takeover');
$other->wait_sql(q{SELECT count(*) = 51 FROM dmshook.deliveries WHERE webhook = 'waits' AND state = 'delivered'}, 't', 'takeover');
my %waits = %{ ids_at('/ok/waits') };
is_deeply([ grep { !$waits{$_} } @$first ], [], 'takeover: what waited is sent, under the ids that it had');
is(count_at('/ok/live'), 51, '... of what was delivered only what has happened since');
is($other->sql(q{SELECT count(*) FROM dmshook.check() WHERE level = 'error'}, 'takeover'), 0, '... and all is well');
$other->node->stop;

# ---- physical copies: a backup that is kept quiet; a standby ----

$node->backup('b');
my $quiet = PostgreSQL::Test::Cluster->new('quiet');
$quiet->init_from_backup($node, 'b');
$quiet->append_conf('postgresql.conf', "dmshook.dispatchers = 0\narchive_mode = off\n");
$quiet->start;
my $quietly = as_server($quiet);
my $n = () = received($receiver);
$quietly->sql(q{SELECT dmshook.resume_webhook('waits'); INSERT INTO vehicle VALUES (2000, 'quiet')});
like($quietly->sql(q{SELECT problem FROM dmshook.check() WHERE level = 'error'}), qr/dispatchers is 0: events are kept, but nothing is sent/, 'a physical copy with dmshook.dispatchers = 0: check() says that it sends nothing');
is($quietly->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher'}), 0, '... it has no dispatcher');
is($quietly->sql('SELECT dmshook._identity_matches()'), 't', '... though it takes itself for the original: nothing tells it from a promoted standby');
$quiet->stop;

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->append_conf('postgresql.conf', "archive_mode = off\n");
$standby->start;
my $second = as_server($standby);
is($second->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher'}), 0, 'a standby has no dispatcher');
like($second->sql_fails(q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": 1}', '{}')}), qr/recovery|read-only/, '... and takes no events');
is($second->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'live' AND state = 'delivered'}), 50, '... but its views can be read');
is(scalar(my @all = received($receiver)), $n, 'neither has sent anything');

# what is committed is on the standby, too, or nobody was told that it is
$server->sql(q{ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()});
$server->wait_sql(q{SELECT sync_state = 'sync' FROM pg_stat_replication});
$server->sql(q{SELECT dmshook.resume_webhook('waits')});
$server->sql(q{CREATE TABLE IF NOT EXISTS told (n int)});
my @writers = map { $server->session('postgres', timeout => 10 * $DmshookTest::patience) } 1 .. 2;
for my $w (0 .. $#writers)
{
	# each writes and commits until the server is gone
	$writers[$w]->query_until(qr/begun/, sprintf(<<'SQL', 100000 * ($w + 1)));
\echo begun
DO $$ BEGIN FOR i IN 1 .. 100000 LOOP INSERT INTO vehicle VALUES (%d + i, 'load'); COMMIT; END LOOP; END $$;
SQL
}
poll_until(sub { count_at('/ok/live') > 300 }, 'load');
$node->stop('immediate');
is($second->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher'}), 0, 'the primary dies under load: the standby still sends nothing');
$standby->promote;
$second->wait_sql(q{SELECT state = 'running' FROM dmshook.dispatchers});
pass('promoted, it goes on by itself');
is($second->sql('SELECT count(*) FROM dmshook.check() WHERE level = \'error\''), 0, '... and all is well');
$second->sql(q{INSERT INTO vehicle VALUES (3000, 'promoted')});
my $committed = ids($second);
my $many = @$committed;
$second->wait_sql(q{SELECT count(*) FROM dmshook.deliveries WHERE state = 'delivered'}, 2 * $many);
for my $path (qw(/ok/live /ok/waits))
{
	# those of the other cluster are not of this one
	my %got = %{ ids_at($path) };
	is_deeply([ grep { !$got{$_} } @$committed ], [], "$path: each committed event has arrived");
	my %known = map { $_ => 1 } @$committed;
	my @invented = grep { !$known{$_} && !$waits{$_} } keys %got;
	is(scalar @invented, 0, "$path: and nothing that is not there now") or diag explain \@invented;
}
note(sprintf '%d events, %d requests to /ok/live', $many, count_at('/ok/live'));
$standby->stop;
eval { $_->quit } for @writers;

# ---- a restore to a point in time ----

# the old primary, without its standby
$node->append_conf('postgresql.conf', "dmshook.dispatchers = 0\n");
unlink $node->data_dir . '/postgresql.auto.conf';
append_to_file($node->data_dir . '/postgresql.auto.conf', '');
$node->start;
$server->sql(q{SELECT dmshook.alter_webhook('live', url => '%s')} =~ s/%s/$receiver->url('\/ok\/before')/er);
$node->backup('p');
$server->sql(q{TRUNCATE vehicle; INSERT INTO vehicle SELECT g, 'before' FROM generate_series(1, 20) g});
my $before = ids($server, q{record->>'status' = 'before'});
$server->sql(q{SELECT pg_create_restore_point('here')});
my $at = $server->sql('SELECT max(sequence) FROM dmshook.events');
$server->sql(q{INSERT INTO vehicle SELECT g, 'undone' FROM generate_series(21, 40) g});
my $undone = ids($server, q{record->>'status' = 'undone'});
$node->adjust_conf('postgresql.conf', 'dmshook.dispatchers', '1');
$node->reload;
# the original goes on, and sends what will be undone
$server->wait_sql(q{SELECT count(*) = 40 FROM dmshook.deliveries WHERE webhook = 'live' AND state = 'delivered' AND sequence IN (SELECT sequence FROM dmshook.events WHERE record->>'status' IN ('before', 'undone'))});
$server->sql('SELECT pg_switch_wal()');
$node->stop;
my %sent = %{ ids_at('/ok/before') };
is_deeply([ grep { !$sent{$_} } @$before, @$undone ], [], '(the original sent what happened before the point and after it)');
my $pitr = PostgreSQL::Test::Cluster->new('pitr');
$pitr->init_from_backup($node, 'p', has_restoring => 1, standby => 0);
$pitr->append_conf('postgresql.conf', "recovery_target_name = 'here'\nrecovery_target_action = 'promote'\narchive_mode = off\ndmshook.dispatchers = 0\n");
$n = () = received($receiver);
$pitr->start;
my $restored = as_server($pitr);
$restored->wait_sql('SELECT NOT pg_is_in_recovery()');
is_deeply([ map { scalar @{ ids($restored, "record->>'status' = '$_'") } } qw(before undone) ], [ 20, 0 ], 'restored to the point: events before it, none after');
is($restored->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher'}), 0, '... with dmshook.dispatchers = 0 it sends nothing');
$restored->sql(q{INSERT INTO vehicle SELECT g, 'anew' FROM generate_series(21, 90) g});
is(scalar(@all = received($receiver)), $n, '... whatever happens there');
my $anew = ids($restored, q{record->>'status' = 'anew'});
my %undone = map { $_ => 1 } @$undone;
is_deeply([ grep { $undone{$_} } @$anew ], [], '... the ids of what was undone do not come again');
cmp_ok($restored->sql(qq{SELECT count(*) FROM dmshook.events WHERE sequence IN (SELECT g FROM generate_series($at + 1, $at + 100) g) AND record->>'status' = 'anew'}), '>', 0, '... though their numbers do');
$pitr->adjust_conf('postgresql.conf', 'dmshook.dispatchers', '1');
$pitr->reload;
$restored->wait_sql(q{SELECT count(*) = 90 FROM dmshook.deliveries WHERE webhook = 'live' AND state = 'delivered' AND sequence IN (SELECT sequence FROM dmshook.events WHERE record->>'status' IN ('before', 'anew'))});
%sent = %{ ids_at('/ok/before') };
is_deeply([ grep { !$sent{$_} } @$anew ], [], 'in the place of the original it goes on by itself: what happens now is sent');
is_deeply([ grep { $sent{$_} < 2 } @$before ], [], '... and what was not yet sent at the point, under the same ids');
is_deeply([ grep { $sent{$_} != 1 } @$undone ], [], '... nothing that was undone');
is($restored->sql(q{SELECT count(*) FROM dmshook.check() WHERE level = 'error'}), 0, '... all is well');
unlike(slurp_file($_->logfile), qr/PANIC|terminated by signal|TRAP|dispatcher of database "\w+" failed/, 'no complaint of us in the log of ' . $_->name) for $node, $standby, $pitr, $quiet, $other->node;
$pitr->stop;
done_testing();
