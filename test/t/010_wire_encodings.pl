# Databases that are not UTF-8 send UTF-8; a body too large, or one that cannot be written as UTF-8, is a failed attempt that people see, and stops nothing else.
use strict;
use warnings;
use utf8;

use DmshookTest;
use Encode qw(decode encode);
use JSON::PP;
use Test::More;

my $server = DmshookTest->new('encodings', conf => "dmshook.max_body = '20kB'\n");
my $receiver = DmshookTest::Receiver->new;
my %secret;

# everything in UTF-8 here, whatever the database
sub sql
{
	my ($database, $sql) = @_;
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	return decode('UTF-8', $server->sql(encode('UTF-8', $sql), $database));
}
sub rows { return @{ JSON::PP->new->decode(sql($_[0], "SELECT coalesce(json_agg(r), '[]') FROM ($_[1]) r")) }; }
sub wait_for
{
	my ($database, $sql) = @_;
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	return $server->wait_sql(encode('UTF-8', $sql), 't', $database);
}

sub database
{
	my ($name, $encoding) = @_;
	$server->sql("CREATE DATABASE $name ENCODING '$encoding' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
	$server->sql('CREATE EXTENSION dmshook', $name);
	sql($name, q{CREATE TABLE vehicle (id text PRIMARY KEY, status text, note text);
		SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});
	return $name;
}

sub webhook
{
	my ($database, $name, $path, $more) = @_;
	$secret{$path} = sql($database, 'SELECT signing_secret FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($receiver->url($path))
		  . ", '{vehicle.sold}', enabled => true, options => '{\"backoff\": {\"intervals\": [\"1s\"], \"jitter\": 0}, \"max_attempts\": 2}'" . ($more // '') . ')');
}

sub to
{
	my ($path, $n) = @_;
	return $receiver->wait_for($n // 1, sub { $_[0]{path} =~ /^\Q$path\E(\?|$)/ });
}

# ---- LATIN1, WIN1252 and EUC_JP ----

my %note = (latin1 => 'Müller & Söhne £5 ñ', win1252 => '“quoted” – €5 Žižek', euc_jp => '中古車 プリウス');
my %encoding = (latin1 => 'LATIN1', win1252 => 'WIN1252', euc_jp => 'EUC_JP');
for my $db (sort keys %note)
{
	my $note = $note{$db};
	database($db, $encoding{$db});
	webhook($db, "an $note", "/ok/$db", q{, headers => } . quote(qq({"X-Note": "plain"})));
	webhook($db, 'get', "/ok/$db-get", q{, method => 'GET'});
	sql($db, 'INSERT INTO vehicle VALUES (' . quote($note) . ", 'sold', " . quote($note) . ')');
	my ($r) = to("/ok/$db");
	my $sent = JSON::PP->new->decode($r->{body});
	is($sent->{data}{record}{note}, $note, "$db: the record is UTF-8");
	is($sent->{data}{key}{id}, $note, "$db: the key, too");
	is($r->{headers}{'content-length'}, length encode('UTF-8', $r->{body}), "$db: content-length counts UTF-8");
	is_deeply(verify($secret{"/ok/$db"}, $r), [ { standardwebhooks => 'ok', svix => 'ok' } ], "$db: the signature is that of UTF-8");
	(my $name = $r->{headers}{'dmshook-webhook'}) =~ s/%(..)/chr hex $1/ge;
	is(decode('UTF-8', $name), "an $note", "$db: so is the webhook's name in its header");
	wait_for($db, q{SELECT count(*) = 2 FROM dmshook.deliveries WHERE state = 'delivered'});
	is((rows($db, 'SELECT payload FROM dmshook.attempts WHERE webhook LIKE ' . quote('an %')))[0]{payload}, $r->{body}, "$db: attempts.payload is what was sent");
	is((rows($db, 'SELECT payload FROM dmshook.deliveries WHERE webhook LIKE ' . quote('an %')))[0]{payload}, $r->{body}, "$db: deliveries.payload, too");
	my ($get) = to("/ok/$db-get");
	my ($key) = $get->{path} =~ /&key=([^&]*)/;
	$key =~ s/%(..)/chr hex $1/ge;
	is(JSON::PP->new->utf8->decode($key)->{id}, $note, "$db: a query string is UTF-8");
	is_deeply(verify($secret{"/ok/$db-get"}, $get), [ { standardwebhooks => 'ok', svix => 'ok' } ], "$db: its signature");
	is((rows($db, q{SELECT url FROM dmshook.attempts WHERE webhook = 'get'}))[0]{url}, $receiver->url($get->{path}), "$db: attempts.url is where it went");

	# what a receiver says that this database has no character for
	sql($db, 'SELECT dmshook.alter_webhook(' . quote('get') . ', url => ' . quote($receiver->url('/echo')) . ", method => 'POST')");
	sql($db, q{INSERT INTO vehicle VALUES ('echo', 'sold')});
	to('/echo', 1);
	wait_for($db, q{SELECT count(*) = 1 FROM dmshook.attempts WHERE sequence = (SELECT max(sequence) FROM dmshook.events) AND webhook = 'get' AND response_body = payload});
	pass("$db: a response of ours comes back as it was");
	sql($db, 'SELECT dmshook.alter_webhook(' . quote('get') . ', url => ' . quote($receiver->url('/binary')) . ')');
	is((rows($db, q{SELECT response FROM dmshook.test_webhook('get')}))[0]{response}, '???text?(', "$db: what it has no character for becomes a question mark");
	sql($db, 'SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks');
}

# ---- what cannot be UTF-8 ----

database('raw', 'SQL_ASCII');
webhook('raw', 'post', '/ok/raw');
webhook('raw', 'get', '/ok/raw-get', q{, method => 'GET'});
{
	local $ENV{PGCLIENTENCODING} = 'SQL_ASCII';
	$server->sql("INSERT INTO vehicle VALUES ('1', 'sold', 'fine')", 'raw');
	$server->sql("INSERT INTO vehicle VALUES ('2', 'sold', 'M\xfcller')", 'raw');
	$server->sql("INSERT INTO vehicle VALUES ('3', 'sold', 'M\xc3\xbcller')", 'raw');
	to('/ok/raw', 2);
	to('/ok/raw-get', 2);
	$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.deliveries WHERE webhook = 'post' AND state = 'delivered'}, 't', 'raw');
	pass('an event that cannot be written as UTF-8 stops no other');
	my ($third) = grep { $_->{path} eq '/ok/raw' && $_->{body} =~ /Müller/ } $receiver->requests;
	ok($third, 'UTF-8 in a database without an encoding is sent as it is');
	$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.dead_letters WHERE webhook = 'post' AND attempts = 2}, 't', 'raw');
	my $bad = $server->sql(q{SELECT outcome, attempt, status IS NULL, error, hint FROM dmshook.attempts WHERE webhook = 'post' AND outcome <> 'ok' ORDER BY id}, 'raw');
	is(scalar(split /\n/, $bad), 2, 'it is tried as often as any other');
	like($bad, qr/^internal_error\|1\|t\|invalid byte sequence for encoding "UTF8": 0xfc.*\|.*cannot be written as UTF-8.*exclude/, 'and the log says what it is, and what to do');
	is($server->sql(q{SELECT count(record) FROM dmshook.events WHERE entity = 'vehicle'}, 'raw'), 6, 'views show it');
	is($server->sql(q{SELECT state FROM dmshook.dispatchers}, 'raw'), 'running', 'the dispatcher is well');
	is($server->sql(q{SELECT count(*) FROM dmshook.waiting WHERE webhook = 'post'}, 'raw'), 0, 'and nothing is left over');
}

# ---- too large ----

sql('postgres', q{CREATE TABLE vehicle (id text PRIMARY KEY, status text, note text); SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});
webhook('postgres', 'post', '/ok/large');
webhook('postgres', 'get', '/ok/large-get', q{, method => 'GET'});
webhook('postgres', 'ordered', '/ok/ordered');
sql('postgres', q{SELECT dmshook.alter_webhook('ordered', options => '{"ordering": "entity"}')});
# each in a transaction of its own
sql('postgres', q{INSERT INTO vehicle VALUES ('1', 'sold', 'small')});
sql('postgres', q{INSERT INTO vehicle VALUES ('2', 'sold', repeat('large ', 10000))});
sql('postgres', q{INSERT INTO vehicle VALUES ('3', 'sold', 'small')});
sql('postgres', q{INSERT INTO vehicle SELECT '4', 'sold', repeat('x', 20480 - 400)});
my @small = to('/ok/large', 3);
is(join(' ', sort map { JSON::PP->new->decode($_->{body})->{data}{key}{id} } @small), '1 3 4', 'a body above dmshook.max_body stops no other; one below it is sent');
to('/ok/ordered', 3);
my @get = to('/ok/large-get', 4);
is(scalar @get, 4, 'a request without a body is sent, however large the row');
wait_for('postgres', q{SELECT count(*) = 1 FROM dmshook.dead_letters WHERE webhook = 'post'});
my ($large) = rows('postgres', q{SELECT * FROM dmshook.attempts WHERE webhook = 'post' AND outcome <> 'ok' ORDER BY id LIMIT 1});
is($large->{outcome}, 'too_large', 'a failed attempt');
like($large->{error}, qr/the body has [5-7]\d{4} bytes, more than dmshook\.max_body allows/, 'the error says how large');
like($large->{hint}, qr/exclude.*dmshook\.max_body/, 'the hint says what to do');
is($large->{status}, undef, 'no status');
wait_for('postgres', q{SELECT count(*) = 3 FROM dmshook.deliveries WHERE webhook = 'ordered' AND state = 'delivered'});
pass('nor in a webhook with an order');
is((rows('postgres', q{SELECT length(payload) AS n FROM dmshook.deliveries WHERE webhook = 'post' AND entity_key = '{"id": "2"}'}))[0]{n} > 60000, 1, 'its payload is in the view');

# raised, it can be sent again
sql('postgres', q{ALTER SYSTEM SET dmshook.max_body = '1MB'});
sql('postgres', q{SELECT pg_reload_conf()});
poll_until(sub {
	sql('postgres', q{SELECT dmshook.redeliver_dead('post')});
	my $state = '';
	wait_for('postgres', q{SELECT state IN ('delivered', 'exhausted') FROM dmshook.deliveries WHERE webhook = 'post' AND entity_key = '{"id": "2"}'});
	return sql('postgres', q{SELECT state FROM dmshook.deliveries WHERE webhook = 'post' AND entity_key = '{"id": "2"}'}) eq 'delivered';
}, 'the large one is delivered');
my ($again) = grep { length $_->{body} > 60000 } to('/ok/large', 4);
is_deeply(verify($secret{'/ok/large'}, $again), [ { standardwebhooks => 'ok', svix => 'ok' } ], 'a large body, sent again when the limit is higher; signed');
unlike(PostgreSQL::Test::Utils::slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP|WARNING:.*(could not|failed)/, 'the server log has no complaint');

done_testing();
