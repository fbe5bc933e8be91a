# What a DBA does to tables while they are written to and events are sent: VACUUM FULL, REINDEX, ALTER TABLE, CLUSTER, of the DMS's tables and of ours;
# a wraparound vacuum; ALTER EXTENSION UPDATE; the database moved, renamed and copied. Writers and deliveries go on, each event arrives once.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $receiver = DmshookTest::Receiver->new;
my $server = DmshookTest->new('tables', extension => 0, conf => <<'CONF');
max_worker_processes = 12
max_wal_size = 4GB
autovacuum_naptime = 1s
autovacuum_freeze_max_age = 100000
vacuum_freeze_table_age = 0
log_autovacuum_min_duration = 0
deadlock_timeout = 1s
CONF
my $tablespace = PostgreSQL::Test::Utils::tempdir;
my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);

sub sql { return $server->sql($_[0], $_[1] // 'dms'); }
sub requests_of { my ($path) = @_; return grep { $_->{path} eq $path } received($receiver); }

$server->sql('CREATE DATABASE dms');
sql('CREATE EXTENSION dmshook');
sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text, price int); CREATE TABLE deal (id int PRIMARY KEY, status text); CREATE TABLE stop (now boolean)});
sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle'); SELECT count(*) FROM dmshook.watch_deal('deal')});
my $options = '{"backoff": {"intervals": ["100ms"]}, "breaker": null, "max_attempts": 1000}';
sql(sprintf q{SELECT webhook FROM dmshook.create_webhook('%s', '%s', '{*}', enabled => true, options => '%s')}, $_->[0], $receiver->url($_->[1]), $options)
  for [ 'plain', '/ok/plain' ], [ 'retried', '/fail/1/500/retried' ];

# A writer: each row is added and sold, in two transactions; it goes on until it is told to stop.
my @writers;
sub start_writers
{
	sql('TRUNCATE stop');
	my ($from) = @_;
	for my $w (1 .. 2)
	{
		my $session = $server->session('dms', timeout => 10 * $DmshookTest::patience);
		$session->query_until(qr/begun/, sprintf(<<'SQL', $from + 1_000_000 * $w, $from + 1_000_000 * $w));
\echo begun
DO $$
DECLARE
	i int := %d;
BEGIN
	LOOP
		i := i + 1;
		INSERT INTO vehicle (id, status) VALUES (i, 'in stock');
		COMMIT;
		UPDATE vehicle SET status = 'sold' WHERE id = i;
		COMMIT;
		EXIT WHEN EXISTS (SELECT FROM stop);
		PERFORM pg_sleep(0.01);
	END LOOP;
	INSERT INTO deal VALUES (%d, 'completed');
END
$$;
SQL
		push @writers, $session;
	}
	return;
}

sub stop_writers
{
	sql('INSERT INTO stop VALUES (true)');
	for my $w (@writers)
	{
		$w->query('SELECT 1');
		is($w->{stderr} =~ s/^\s+|\s+$//gr, '', 'no writer had an error');
		eval { $w->quit };
	}
	@writers = ();
	return;
}

# Requests still come: so many more.
sub goes_on
{
	my ($what) = @_;
	my $n = $receiver->stats->{'status.200'} // 0;
	poll_until(sub { ($receiver->stats->{'status.200'} // 0) > $n + 10 }, "$what: nothing is sent any more");
	return pass($what);
}

# All that was committed has arrived at both, once; or so many twice, which were under way when the dispatcher was started anew.
sub all_arrived
{
	my ($what, $again) = @_;
	my $events = sql(q{SELECT count(*) FROM dmshook.event WHERE entity <> 'webhook'});
	$server->wait_sql(q{SELECT count(*) FROM dmshook.attempt WHERE final = 'd'}, 2 * $events, 'dms');
	my %known = map { $_ => 1 } split /\n/, sql(q{SELECT message_id FROM dmshook.events WHERE entity <> 'webhook'});
	for my $path ('/ok/plain', '/fail/1/500/retried')
	{
		my %got;
		$got{ $_->{id} }++ for grep { $_->{status} == 200 } requests_of($path);
		is(scalar(grep { !$got{$_} } keys %known), 0, "$what: $path: each of $events events has arrived");
		cmp_ok(scalar(grep { $got{$_} > 1 } keys %got), '<=', $again // 0, '... once' . ($again ? ', but for what was under way' : ''));
		is(scalar(grep { !$known{$_} } keys %got), 0, '... and no other');
	}
	return is(sql('SELECT count(*) * 2 FROM vehicle') + sql('SELECT count(*) FROM deal'), sql(q{SELECT count(*) FROM dmshook.event WHERE type IN ('vehicle.added', 'vehicle.sold', 'deal.created')}), "$what: each change has raised its events");
}

# ---- tables ----

start_writers(0);
goes_on('(load)');
my @ours = split /\n/, sql(q{SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'dmshook'::regnamespace AND c.relkind = 'r' ORDER BY c.relname});
for my $table (@ours, 'vehicle')
{
	sql("VACUUM FULL $table");
	sql("REINDEX TABLE $table");
	sql("REINDEX TABLE CONCURRENTLY $table");
}
goes_on('VACUUM FULL, REINDEX and REINDEX CONCURRENTLY of each table of ours, and of the DMS\'s');
sql("ALTER TABLE $_ ADD COLUMN admins_own int, ALTER COLUMN admins_own SET STATISTICS 10, SET (autovacuum_enabled = on)") for @ours;
sql(q{CLUSTER dmshook.attempt USING attempt_pkey; CLUSTER dmshook.event USING event_pkey; CREATE INDEX admins_index ON dmshook.event (type); ANALYZE});
goes_on('a column, a setting, an index that an admin adds to ours');
is(sql(q{SELECT bool_and(payload::json->>'id' = message_id) FROM (SELECT * FROM dmshook.deliveries LIMIT 5) d}), 't', '... views can be read');
sql("ALTER TABLE $_ DROP COLUMN admins_own") for @ours;
sql('DROP INDEX dmshook.admins_index');
goes_on('... and takes away');
sql("SET default_tablespace = ''; ALTER TABLE dmshook.attempt SET (fillfactor = 90); ALTER TABLE dmshook.queue SET UNLOGGED; ALTER TABLE dmshook.queue SET LOGGED");
sql(q{ALTER TABLE vehicle ADD colour text DEFAULT 'blue', ALTER price TYPE bigint; ALTER TABLE vehicle DROP price; ALTER TABLE vehicle ADD CONSTRAINT sane CHECK (id > 0); ALTER TABLE vehicle RENAME CONSTRAINT sane TO saner; ALTER TABLE vehicle REPLICA IDENTITY FULL});
goes_on('ALTER TABLE of the DMS\'s table');
like(sql(q{SELECT record FROM dmshook.events WHERE event_type = 'vehicle.sold' ORDER BY sequence DESC LIMIT 1}), qr/"colour":"blue"/, '... whose new column is sent');

# ---- a wraparound vacuum ----

sql('DO $$ BEGIN FOR i IN 1 .. 110000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$');
# those that were not written to for a while stand for all
my $old = q{SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'dmshook'::regnamespace AND c.relkind = 'r' AND age(c.relfrozenxid) > 100000};
$server->wait_sql($old, 0, 'dms');
$server->wait_log(qr/automatic aggressive vacuum to prevent wraparound of table "dms\.dmshook\.(event|attempt|webhook)"/);
pass('our tables were vacuumed against wraparound');
goes_on('... while all went on');
stop_writers();
all_arrived('tables');
# REINDEX takes a table first and its index then, whoever reads and then writes the other way round: the dispatcher gives way, and tries again
unlike(slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP|ERROR|could not be logged: (?!deadlock detected)|dispatcher of database "\w+" failed/, 'nobody had an error: neither the writers, nor the DBA, nor a dispatcher');

# ---- ALTER EXTENSION UPDATE while running ----

my $script = "$sharedir/extension/dmshook--0.1--0.1soak.sql";
unlink $script;
append_to_file($script, <<'SQL');
ALTER TABLE dmshook.attempt ADD COLUMN soak text;
ALTER TABLE dmshook.event ADD COLUMN soak text;
ALTER TABLE dmshook.queue ADD COLUMN soak text;
ALTER TABLE dmshook.webhook ADD COLUMN soak text;
ALTER TABLE dmshook.position ADD COLUMN soak text;
CREATE INDEX attempt_soak ON dmshook.attempt (at);
CREATE TABLE dmshook.soak (id int PRIMARY KEY);
CREATE OR REPLACE FUNCTION dmshook._clock(at timestamptz) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT 'soak ' || at::text $$;
CREATE OR REPLACE VIEW dmshook.soaked AS SELECT count(*) FROM dmshook.attempt;
SQL
start_writers(100_000_000);
goes_on('(load)');
my $pid = dispatcher_pid($server, 'dms');
my $size = $server->log_size;
sql(q{ALTER EXTENSION dmshook UPDATE TO '0.1soak'});
isnt(wait_dispatcher_pid($server, $pid, 'dms'), $pid, 'ALTER EXTENSION UPDATE while running: another dispatcher begins, with the new definitions');
goes_on('... and all goes on');
is(sql(q{SELECT extversion FROM pg_extension WHERE extname = 'dmshook'}), '0.1soak', '(it is another version now)');
my $session = $server->session('dms');
$session->query_safe('BEGIN; LOCK TABLE dmshook.queue IN ACCESS EXCLUSIVE MODE');
$server->wait_sql(q{SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.backend_type = 'dmshook dispatcher'}, 't', 'dms');
$session->query_safe('ALTER TABLE dmshook.queue ADD COLUMN waited text');
$session->query_safe('COMMIT');
$session->quit;
goes_on('... an update that the dispatcher must wait for, too');
stop_writers();
# another dispatcher begins with the new definitions
all_arrived('ALTER EXTENSION UPDATE', 32);
unlike(substr(slurp_file($server->node->logfile), $size), qr/PANIC|terminated by signal|TRAP|ERROR|could not be logged: (?!deadlock detected)|dispatcher of database "\w+" failed/, 'nobody had an error');
unlink $script;

# ---- the database, with deliveries under way ----

$server->sql("CREATE TABLESPACE elsewhere LOCATION '$tablespace'", 'postgres');
sql(q{SELECT dmshook.drop_webhook('plain'), dmshook.drop_webhook('retried')});
my $name = 'dms';
sql(sprintf(q{SELECT webhook FROM dmshook.create_webhook('slow', '%s', '{*}', enabled => true, options => '{"max_in_flight": 8}')}, $receiver->url('/slow/50/database')), $name);
my @commands = ('ALTER DATABASE dms SET TABLESPACE elsewhere', 'ALTER DATABASE dms RENAME TO moved', 'CREATE DATABASE copied TEMPLATE moved', 'ALTER DATABASE moved SET TABLESPACE pg_default', 'ALTER DATABASE moved RENAME TO dms');
my $sent = 0;
for my $command (@commands)
{
	$sent += 60;
	sql(q{SELECT count(dmshook.emit('deal.created', 'deal', jsonb_build_object('id', g), '{}')) FROM generate_series(1, 60) g}, $name);
	$server->wait_sql('SELECT in_flight > 0 FROM dmshook.dispatchers', 't', $name);
	$server->sql($command, 'postgres');
	$name = $1 if $command =~ /RENAME TO (\w+)/;
	$server->wait_sql(q{SELECT count(*) FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'slow' AND a.final = 'd'}, $sent, $name);
	pass("$command, with deliveries under way: all of them arrive");
}
my %ids = map { $_ => 1 } split /\n/, sql(q{SELECT message_id FROM dmshook.deliveries WHERE webhook = 'slow'}, $name);
my %got;
$got{ $_->{id} }++ for requests_of('/slow/50/database');
is_deeply([ sort keys %got ], [ sort keys %ids ], 'no other arrived');
# what was under way when the dispatcher was told to go is made again: at most all that was under way, each time
my $again = grep { $got{$_} > 1 } keys %got;
cmp_ok($again, '<=', 8 * @commands, "what came twice ($again) was under way");
$server->wait_sql(q{SELECT state = 'unclaimed' FROM dmshook.dispatchers}, 't', 'copied');
is($server->sql(q{SELECT count(*) FROM dmshook.attempt WHERE at > (SELECT min(at) FROM dmshook.attempt)}, 'copied') > 0, 1, '(the copy has a log)');
$server->sql('DROP DATABASE copied', 'postgres');
unlike(substr(slurp_file($server->node->logfile), $size), qr/PANIC|terminated by signal|TRAP|ERROR|could not be logged: (?!deadlock detected)|dispatcher of database "\w+" failed/, 'nobody had an error');
$server->node->stop;
done_testing();
