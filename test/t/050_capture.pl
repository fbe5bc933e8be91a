# Capture where a server's or a database's own ways matter: encodings, no preloading, dumps, locks, crashes.
use strict;
use warnings;
use utf8;
use Encode qw(encode decode);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $tmp = PostgreSQL::Test::Utils::tempdir;
my $node = PostgreSQL::Test::Cluster->new('capture');
$node->init(extra => ['--encoding=UTF8']);
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;

sub sql
{
	my ($database, $sql) = @_;
	return decode('UTF-8', $node->safe_psql($database, encode('UTF-8', $sql)));
}

#
# The library is not preloaded: writing works, and the settings that a session
# made before it was loaded count.
#
$node->safe_psql('postgres', 'CREATE DATABASE dms');
$node->safe_psql('dms', q{SET client_min_messages = error; CREATE EXTENSION dmshook; CREATE TABLE vehicle (id int PRIMARY KEY, status text);
	SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});
my $out = $node->safe_psql('dms', q{SET dmshook."user" = 'jane.smith'; INSERT INTO vehicle VALUES (1, 'sold');
	SELECT type, who ->> 'name' FROM dmshook.event ORDER BY id});
is($out, "vehicle.added|jane.smith\nvehicle.sold|jane.smith", 'without preloading, with a setting made before');
$node->safe_psql('dms', q{SET dmshook.capture = off; INSERT INTO vehicle VALUES (2, 'sold')});
is($node->safe_psql('dms', 'SELECT count(*) FROM dmshook.event'), 2, 'and so does dmshook.capture = off');
$node->safe_psql('dms', q{CREATE ROLE clerk LOGIN; GRANT ALL ON vehicle TO clerk});
my ($rc, $stdout, $stderr) = $node->psql('dms', q{SET dmshook.capture = off; INSERT INTO vehicle VALUES (3, 'sold')}, extra_params => [ '-U', 'clerk' ]);
is($node->safe_psql('dms', q{SELECT count(*) FROM dmshook.event WHERE key = '{"id": 3}'}), 2, 'which is not for everybody');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dmshook'\ndmshook.dispatchers = 0\nmax_prepared_transactions = 5\n");
$node->restart;

#
# Ids: each once, in the face of crashes just after checkpoints, and of many writers
#
my @ids;
$node->safe_psql('dms', 'CREATE EXTENSION amcheck');
for my $round (1 .. 3)
{
	push @ids, $node->safe_psql('dms', "INSERT INTO vehicle VALUES (100 + $round, 'x'); SELECT max(id) FROM dmshook.event");
	$node->safe_psql('dms', 'CHECKPOINT');
	push @ids, $node->safe_psql('dms', "INSERT INTO vehicle VALUES (200 + $round, 'x'); SELECT max(id) FROM dmshook.event");
	# many rows at once: their index entries are in WAL as what changed on the page
	$node->safe_psql('dms', "INSERT INTO vehicle SELECT 100 + 200 * $round + g, 'x' FROM generate_series(1, 100) g");
	$node->safe_psql('dms', "INSERT INTO vehicle SELECT 200 + 200 * $round + g, 'x' FROM generate_series(1, 100) g");
	$node->stop('immediate');
	$node->start;
	is($node->safe_psql('dms', q{SELECT bt_index_check('dmshook.event_pkey', true); SELECT count(*) FROM vehicle v WHERE id > 300 AND EXISTS (SELECT FROM dmshook.event e WHERE e.key = jsonb_build_object('id', v.id))}),
		"\n" . 200 * $round, "crash $round: the log's key is sound");
}
is(join(' ', sort { $a <=> $b } @ids), join(' ', @ids), 'ids rise through crashes');
is($node->safe_psql('dms', 'SELECT last_value >= (SELECT max(id) FROM dmshook.event) FROM dmshook.event_id'), 't', 'and the sequence is not behind them');
$node->append_conf('postgresql.conf', 'fsync = off');
$node->reload;
append_to_file("$tmp/write.sql", q{
\set n random(1, 1000000000)
BEGIN;
SAVEPOINT a;
INSERT INTO vehicle VALUES (:n, 'sold') ON CONFLICT DO NOTHING;
ROLLBACK TO a;
INSERT INTO vehicle VALUES (:n, 'sold') ON CONFLICT DO NOTHING;
COMMIT;
});
command_ok([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', 8, '-t', 50, '-f', "$tmp/write.sql", 'dms' ], 'many writers');
is($node->safe_psql('dms', q{SELECT count(*) FROM vehicle v WHERE id > 1000 AND 2 <> (SELECT count(*) FROM dmshook.event e WHERE e.key = jsonb_build_object('id', v.id))}),
	0, 'two events for each of their rows');

#
# A dump, restored: the numbers of columns are others, the rules are the same
#
$node->safe_psql('dms', q{DELETE FROM vehicle; CREATE TABLE stock (gone int, id int PRIMARY KEY, gone2 int, secret text, state text, branch text);
	ALTER TABLE stock DROP gone, DROP gone2;
	SELECT count(*) FROM dmshook.watch_vehicle('stock', status_column => 'state', exclude => '{secret}', tenant_column => 'branch', added_when => 'state IS NOT NULL')});
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', "$tmp/dump.sql", 'dms' ], 'pg_dump');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-f', "$tmp/dump.sql", 'copy' ], 'restored');
is($node->safe_psql('copy', q{SELECT count(*) FROM dmshook.watched WHERE hint IS NOT NULL}), 0, 'the rules are all right');
$out = $node->safe_psql('copy', q{SELECT setval('dmshook.event_id', 1000000);
	INSERT INTO stock VALUES (1, 'hush', 'Sold', 'Leeds');
	SELECT type, tenant, data FROM dmshook.event WHERE id > 1000000 ORDER BY id});
is($out, "1000000\n" . join("\n", map { qq{vehicle.$_|Leeds|{"entity":"vehicle","key":{"id":1},"record":{"id":1,"state":"Sold","branch":"Leeds"}}} } qw(added sold)),
	'and hold of the same columns by name');

#
# A writer that stays open: watch and unwatch give up soon, and other writers go on
#
my $writer = $node->background_psql('dms');
$writer->query_safe(q{BEGIN; INSERT INTO vehicle VALUES (1, 'x')});
for my $sql (q{SELECT count(*) FROM dmshook.watch_customer('vehicle')}, q{SELECT dmshook.unwatch('vehicle')})
{
	my $begin = time;
	($rc, $stdout, $stderr) = $node->psql('dms', $sql);
	my $took = time - $begin;
	like($stderr, qr/table "public.vehicle" is in use.*\nHINT:  Nothing was changed/s, 'a table in use is an error with a hint');
	cmp_ok($took, '<', 20, 'that comes soon');
}
$node->safe_psql('dms', q{INSERT INTO vehicle VALUES (2, 'x')});
$writer->query_safe('COMMIT');
$writer->quit;
is($node->safe_psql('dms', q{SHOW lock_timeout}), 0, 'lock_timeout is as it was');
is($node->safe_psql('dms', q{SELECT count(*) FROM dmshook.watch_customer('vehicle')}), 2, 'now it works');

#
# Databases that are not UTF-8; clients that speak another encoding than the database
#
for ([ LATIN1 => 'iso-8859-1' ], [ SQL_ASCII => 'UTF-8' ], [ EUC_JP => 'euc-jp' ])
{
	my ($encoding, $perl) = @$_;
	my $word = $encoding eq 'EUC_JP' ? '売約済み' : 'Geprüft';
	my $db = lc "db_$encoding";
	$node->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$encoding' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
	local $ENV{PGCLIENTENCODING} = $encoding eq 'SQL_ASCII' ? 'SQL_ASCII' : 'UTF8';
	sql($db, qq{SET client_min_messages = error; CREATE EXTENSION dmshook; CREATE TABLE "Bücher" (id int PRIMARY KEY, "Zustand ä" text, note text)})
	  unless $encoding eq 'EUC_JP';
	sql($db, qq{SET client_min_messages = error; CREATE EXTENSION dmshook; CREATE TABLE "車" (id int PRIMARY KEY, "状態" text, note text)})
	  if $encoding eq 'EUC_JP';
	my ($table, $column) = $encoding eq 'EUC_JP' ? ('車', '状態') : ('Bücher', 'Zustand ä');
	sql($db, qq{SELECT count(*) FROM dmshook.watch_vehicle('"$table"', status_column => '$column', sold_values => '{$word}')});
	sql($db, qq{INSERT INTO "$table" VALUES (1, '$word', 'a "b"')});
	is(sql($db, q{SELECT type, data FROM dmshook.event ORDER BY id}),
		join("\n", map { qq({"entity":"vehicle","key":{"id":1},"record":{"id":1,"$column":"$word","note":"a \\"b\\""}}) =~ s/^/vehicle.$_|/r } qw(added sold)),
		"$encoding: names, values and rules");
	is(sql($db, q{SELECT source ->> 'table' FROM dmshook.event LIMIT 1}), $table, "$encoding: source");
}
# a client in LATIN1 against UTF-8
{
	local $ENV{PGCLIENTENCODING} = 'LATIN1';
	$node->safe_psql('dms', encode('iso-8859-1', q{SET dmshook."user" = 'Jürgen'; INSERT INTO vehicle VALUES (7, 'Geprüft')}));
}
{
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	is(sql('dms', q{SELECT who ->> 'name', data -> 'record' ->> 'status' FROM dmshook.event WHERE type = 'customer.created'}), 'Jürgen|Geprüft', 'a client in another encoding');
}
# bytes that are no characters: a statement of the DMS never fails for them
$node->safe_psql('db_sql_ascii', q{INSERT INTO "} . encode('UTF-8', 'Bücher') . qq{" VALUES (2, E'\\xff\\xfe', 'x')});
is($node->safe_psql('db_sql_ascii', q{SELECT count(*) FROM dmshook.event WHERE key = '{"id": 2}'}), 1, 'SQL_ASCII: whatever bytes there are');

$node->stop;
done_testing();
