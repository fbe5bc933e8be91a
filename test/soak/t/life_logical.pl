# Logical replication: a publication FOR ALL TABLES whose subscriber lacks our tables, capture at the subscriber, session_replication_role, a restore of data alone.
use strict;
use warnings;

use DmshookTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $receiver = DmshookTest::Receiver->new;
my $conf = "wal_level = logical\nmax_wal_senders = 8\nmax_replication_slots = 8\nwal_retrieve_retry_interval = '200ms'\nmax_worker_processes = 16\n";
my $pub = DmshookTest->new('publisher', conf => $conf, extension => 0);
my $sub = DmshookTest->new('subscriber', conf => $conf, extension => 0);
my $tmp = PostgreSQL::Test::Utils::tempdir;

sub vehicles { my ($server) = @_; return $server->sql('SELECT count(*) FROM vehicle'); }
sub arrived { my ($what) = @_; $sub->wait_sql('SELECT count(*) FROM vehicle', vehicles($pub)); return pass($what); }
sub webhook { my ($server, $name, $database) = @_; return $server->sql(sprintf(q{SELECT webhook FROM dmshook.create_webhook('%s', '%s', '{*}', enabled => true)}, $name, $receiver->url("/ok/$name")), $database); }
sub keys_at { my ($path) = @_; return join ' ', sort { $a <=> $b } map { JSON::PP->new->decode($_->{body})->{data}{key}{id} } $receiver->requests(sub { $_[0]{path} eq "/ok/$path" }); }
# Only what was raised so far; the last of it is at the receiver.
sub wait_keys { my ($path, @keys) = @_; $receiver->wait_for(scalar @keys, sub { $_[0]{path} eq "/ok/$path" }); return is(keys_at($path), join(' ', sort { $a <=> $b } @keys), "$path was told of these"); }

# ---- FOR ALL TABLES ----

$_->sql('CREATE TABLE vehicle (id int PRIMARY KEY, status text)') for $pub, $sub;
$pub->sql('INSERT INTO vehicle VALUES (1, NULL); CREATE PUBLICATION everything FOR ALL TABLES');
$sub->sql(sprintf q{CREATE SUBSCRIPTION dms CONNECTION '%s' PUBLICATION everything}, $pub->node->connstr('postgres') =~ s/'/''/gr);
arrived('(the tables of the DMS are replicated)');
my ($rc, $out, $err) = $pub->node->psql('postgres', 'CREATE EXTENSION dmshook');
is($rc, 0, 'CREATE EXTENSION where there is a publication FOR ALL TABLES');
like($err, qr/WARNING:  publication "everything" publishes the tables of dmshook, too\nDETAIL:  .*subscription stops.*secrets.*\nHINT:  .*CREATE EXTENSION dmshook;/, '... warns, and says what to do');
my $size = $sub->log_size;
$pub->sql(q{INSERT INTO vehicle VALUES (2, NULL)});
$sub->wait_log(qr/logical replication target relation "dmshook\.\w+" does not exist/, $size);
is(vehicles($sub), 1, 'the subscription has stopped, as the warning says');
my $check = $pub->sql(q{SELECT level, problem, hint FROM dmshook.check() WHERE subject = 'publication everything'});
like($check, qr/^warning\|.*subscription stops.*CREATE EXTENSION dmshook;.*DROP PUBLICATION everything; CREATE PUBLICATION everything FOR TABLES IN SCHEMA/, 'check() names the remedy');

$sub->sql('CREATE EXTENSION dmshook');
arrived('the remedy: with the extension on the subscriber it goes on');
$pub->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});
webhook($pub, 'publisher');
$pub->sql(q{INSERT INTO vehicle VALUES (3, NULL)});
wait_keys('publisher', 3);
arrived('... with webhooks and events, too');
is($sub->sql('SELECT (SELECT count(*) FROM dmshook.event) + (SELECT count(*) FROM dmshook.webhook) + (SELECT count(*) FROM dmshook.webhook_secret)'), 0, '... of which nothing gets there');
is($sub->sql(q{SELECT count(*) FROM dmshook.check() WHERE level = 'error'}), 0, '... where all is well');

$pub->sql('BEGIN; DROP PUBLICATION everything; CREATE PUBLICATION everything FOR TABLES IN SCHEMA public; COMMIT');
is($pub->sql(q{SELECT count(*) FROM dmshook.check() WHERE subject LIKE 'publication%'}), 0, 'the other remedy: check() has nothing to say any more');
$sub->sql('DROP EXTENSION dmshook');
$pub->sql(q{INSERT INTO vehicle VALUES (4, NULL)});
wait_keys('publisher', 3, 4);
arrived('... and the subscriber needs no extension');

# ---- capture at the subscriber: only where it is asked for ----

$sub->sql('CREATE EXTENSION dmshook');
$sub->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});
webhook($sub, 'subscriber');
$pub->sql(q{INSERT INTO vehicle VALUES (5, NULL)});
arrived('(a row was replicated)');
$sub->sql(q{INSERT INTO vehicle VALUES (105, NULL)});
wait_keys('subscriber', 105);
is($sub->sql('SELECT count(*) FROM dmshook.event'), 1, 'what replication writes raises nothing there, what sessions write does');
my @watch = ('ALTER TABLE vehicle ENABLE ALWAYS TRIGGER "00_dmshook_insert"', 'ALTER TABLE vehicle ENABLE ALWAYS TRIGGER "00_dmshook_update"');
$sub->sql(join ';', @watch);
is($sub->sql(q{SELECT string_agg(DISTINCT enabled || coalesce(hint, ''), ' ') FROM dmshook.watched WHERE hint IS NULL OR hint !~ 'no row'}), 'true', 'dmshook.watched finds nothing wrong with ENABLE ALWAYS');
$sub->sql(q{DELETE FROM vehicle WHERE id = 105});
$pub->sql(q{INSERT INTO vehicle SELECT g, NULL FROM generate_series(201, 400) g});
wait_keys('subscriber', 105, 201 .. 400);
$pub->sql(q{UPDATE vehicle SET status = 'sold' WHERE id BETWEEN 201 AND 203});
wait_keys('subscriber', 105, 201 .. 400, (201 .. 203) x 2);
wait_keys('publisher', 3, 4, 5, 201 .. 400, (201 .. 203) x 2);
is($sub->sql(q{SELECT count(DISTINCT type) FROM dmshook.event WHERE key = '{"id": 201}'}), 3, 'ENABLE ALWAYS: each of the events is raised there, too');
my $previous = $sub->sql(q{SELECT data->>'previous' FROM dmshook.event WHERE type = 'vehicle.sold' LIMIT 1});
is($previous, '{"status":null}', '... with what was before');
$sub->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle', user_column => 'status')});
is($sub->sql(q{SELECT string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger WHERE tgrelid = 'vehicle'::regclass}), 'A', 'watch_vehicle() again leaves them ENABLE ALWAYS');
$sub->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});

# rows that the first synchronization of a table copies
$_->sql('CREATE TABLE job (id int PRIMARY KEY, status text)') for $pub, $sub;
$pub->sql('INSERT INTO job SELECT g, NULL FROM generate_series(1001, 1003) g');
$sub->sql(q{SELECT count(*) FROM dmshook.watch_job('job')});
$sub->sql('ALTER TABLE job ENABLE ALWAYS TRIGGER "00_dmshook_insert"; ALTER SUBSCRIPTION dms REFRESH PUBLICATION');
wait_keys('subscriber', 105, 201 .. 400, (201 .. 203) x 2, 1001 .. 1003);

# ---- session_replication_role ----

$pub->sql(q{SET session_replication_role = replica; INSERT INTO vehicle VALUES (6, NULL)});
$pub->sql(q{INSERT INTO vehicle VALUES (7, NULL)});
wait_keys('publisher', 3, 4, 5, 7, 201 .. 400, (201 .. 203) x 2);
is($pub->sql(q{SELECT count(*) FROM dmshook.event WHERE key = '{"id": 6}'}), 0, 'session_replication_role = replica: no event');
is($pub->sql(q{SET session_replication_role = local; INSERT INTO vehicle VALUES (8, NULL); SELECT count(*) FROM dmshook.event WHERE key = '{"id": 8}'}), 1, 'local: as always');

# ---- a restore of data alone ----

my @connect = ('-h', $pub->node->host, '-p', $pub->node->port);
$pub->sql("CREATE DATABASE $_") for qw(target other);
command_ok([ 'pg_dump', @connect, '-Fc', '-f', "$tmp/all.dump", 'postgres' ], 'dumped');
# the tables of the DMS into a database that has webhooks of its own
$pub->sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text); CREATE TABLE job (id int PRIMARY KEY, status text); CREATE EXTENSION dmshook}, 'target');
$pub->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')}, 'target');
webhook($pub, 'target', 'target');
{
	local $ENV{PGOPTIONS} = '-c dmshook.capture=off';
	command_ok([ 'pg_restore', @connect, '--exit-on-error', '--data-only', '-t', 'vehicle', '-d', 'target', "$tmp/all.dump" ], 'data of a table restored with dmshook.capture off');
}
is($pub->sql('SELECT count(*) FROM vehicle', 'target') . ' ' . $pub->sql('SELECT count(*) FROM dmshook.event', 'target'), vehicles($pub) . ' 0', 'all rows, no event');
$pub->sql(q{INSERT INTO vehicle VALUES (9, NULL)}, 'target');
wait_keys('target', 9);
# the whole database: first what is in it, then its data
command_ok([ 'pg_restore', @connect, '--exit-on-error', '--schema-only', '-d', 'other', "$tmp/all.dump" ], 'a whole database: its schema');
{
	local $ENV{PGOPTIONS} = '-c dmshook.capture=off';
	command_ok([ 'pg_restore', @connect, '--exit-on-error', '--data-only', '-d', 'other', "$tmp/all.dump" ], '... then its data');
}
my $events = 'SELECT count(*), max(id) FROM dmshook.event';
is($pub->sql($events, 'other'), $pub->sql($events), 'its events are those of the dump, no other');
is($pub->sql('SELECT count(*) FROM dmshook.webhook_secret', 'other'), 1, 'with the webhooks');
my $n = () = $receiver->requests;
$pub->sql(q{INSERT INTO vehicle VALUES (10, NULL)}, 'other');
$pub->wait_log(qr/WARNING:  database "other" is not claimed by dmshook: nothing is sent/);
is($pub->sql('SELECT state FROM dmshook.dispatchers', 'other'), 'unclaimed', 'it sends nothing until it is claimed');
$pub->sql(q{SELECT dmshook.claim_database('takeover')}, 'other');
$pub->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE entity_key = '{"id": 10}' AND state = 'delivered'}, 't', 'other');
is(scalar(my @all = $receiver->requests), $n + 1, 'then what happened since, and nothing that was delivered');
unlike(PostgreSQL::Test::Utils::slurp_file($_->node->logfile), qr/PANIC|terminated by signal|TRAP|dispatcher of database "\w+" failed/, 'the server log has no complaint of us') for $pub, $sub;
$_->node->stop for $sub, $pub;
done_testing();
