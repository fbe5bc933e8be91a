# Secrets at rest: encrypted with a key file, rotated, dumped, with keys that are wrong or missing.
use strict;
use warnings;
use DmshookTest;
use File::Copy;
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = PostgreSQL::Test::Utils::tempdir;
my $file = "$tmp/keys";
my @key = map { my $n = $_; join '', map { chr((37 * $n + 11 * $_) % 256) } 1 .. 32 } 1 .. 3;
my @line = (encode_base64($key[0], ''), unpack('H*', $key[1]), encode_base64($key[2], ''));

sub write_keys
{
	my ($text, $mode) = @_;
	unlink $file;
	open my $f, '>', $file or die "$file: $!";
	chmod $mode // 0600, $file;
	print $f $text;
	close $f;
	return;
}

my $server = DmshookTest->new('main');
my $node = $server->node;
my $receiver = DmshookTest::Receiver->new;

# After a reload the dispatcher and new sessions know the file as it is: waits until a session does.
sub reload
{
	my ($wanted) = @_;
	$node->reload;
	$server->wait_sql(q{SELECT coalesce(key_id, problem, '') FROM dmshook._vault()}, $wanted) if defined $wanted;
	return;
}

# One test request after the other until it says what is wanted: the dispatcher reloads when it gets to it.
sub wait_test
{
	my ($webhook, $wanted) = @_;
	$server->wait_sql("SELECT ok = $wanted FROM dmshook.test_webhook('$webhook')");
	return;
}

sub key_ids { return $server->sql('SELECT coalesce(key_id, \'-\'), count(*) FROM dmshook.webhook_secret GROUP BY 1 ORDER BY 1'); }

sub create
{
	my ($name, @more) = @_;
	return $server->sql(sprintf q{SELECT signing_secret FROM dmshook.create_webhook('%s', '%s', '{vehicle.*}', enabled => true,
		options => '{"max_attempts": 100, "backoff": {"initial": "1s", "factor": 1, "jitter": 0}}' %s)},
		$name, $receiver->url("/ok/$name"), join '', map { ", $_" } @more);
}

my @id = map { substr `printf '%s' '$_' | base64 -d | sha256sum`, 0, 16 } map { encode_base64($_, '') } @key;

#
# Without a key file secrets are stored as they are; with one they are not
#
$server->sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text)});
$server->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});
my $plain_secret = create('plain', q{auth => '{"kind": "bearer", "token": "token-of-plain"}'});
is($server->sql(q{SELECT count(*) FROM dmshook.webhook_secret WHERE webhook = 1 AND key_id IS NULL AND position('token-of-plain' in value) > 0}), 1,
	'without a key file a credential is stored as it is');
is($server->sql('SELECT dmshook.reencrypt_secrets()'), 0, 'and reencrypt_secrets() has nothing to do');

write_keys("# of the tests\n\n  $line[0]  \n");
$server->sql("ALTER SYSTEM SET dmshook.secret_key_file = '$file'");
reload($id[0]);
my $secret = create('sealed', q{auth => '{"kind": "bearer", "token": "token-of-sealed"}'}, q{headers => '{"X-Tenant": "value-of-header"}'});
like(key_ids(), qr/^-\|2\n$id[0]\|3$/, 'with one, new secrets are encrypted with its key; the id of the key is the begin of its SHA-256');
is($server->sql(q{SELECT count(*) FROM dmshook.webhook_secret WHERE webhook = 2 AND value ~ 'token|whsec|value|X-T'}), 0, 'nothing of them can be read');
is($server->sql(q{SELECT count(DISTINCT substr(value, 1, 16)) = count(*) FROM dmshook.webhook_secret WHERE webhook = 2}), 't', 'each has a nonce of its own');
is($server->sql(q{SELECT dmshook.signing_secret('sealed')}), $secret, 'who may read it reads it');
wait_test('sealed', 'true');
my ($request) = $receiver->wait_for(1, sub { $_[0]{path} eq '/ok/sealed' });
is($request->{headers}{authorization}, 'Bearer token-of-sealed', 'the receiver gets the credential');
is($request->{headers}{'x-tenant'}, 'value-of-header', 'and the header');
is_deeply(verify($secret, $request), [ { standardwebhooks => 'ok', svix => 'ok' } ], 'and a right signature');
like($server->sql(q{SELECT level, problem, hint FROM dmshook.check() WHERE subject = 'secrets'}),
	qr/^warning\|dmshook\.secret_key_file is set, but 2 secrets are stored in plain text\|SELECT dmshook\.reencrypt_secrets\(\)$/, 'check() finds what is in plain text');
is($server->sql('SELECT dmshook.reencrypt_secrets()'), 2, 'reencrypt_secrets() encrypts it');
is(key_ids(), "$id[0]|5", 'all of it');
is($server->sql(q{SELECT dmshook.signing_secret('plain')}), $plain_secret, 'it is the same secret');
is($server->sql(q{SELECT count(*) FROM dmshook.check() WHERE subject = 'secrets'}), 0, 'check() is content');
is($server->sql('SELECT dmshook.reencrypt_secrets()'), 0, 'a second call has nothing to do');
like($server->sql('SELECT what FROM dmshook.changes WHERE webhook IS NULL'), qr/^2 secrets encrypted with key $id[0]$/, 'changes says so');

#
# What is stored is bound to its webhook and kind
#
$server->sql(q{CREATE TABLE kept AS SELECT * FROM dmshook.webhook_secret});
$server->sql(q{UPDATE dmshook.webhook_secret s SET value = k.value FROM kept k WHERE s.webhook = 1 AND s.kind = 'auth' AND k.webhook = 2 AND k.kind = 'auth'});
like($server->sql_fails(q{SELECT dmshook._secret(1, 'auth')}), qr/is not what was stored/, 'another webhook\'s value is refused');
$server->sql(q{UPDATE dmshook.webhook_secret s SET value = k.value FROM kept k WHERE s.webhook = 1 AND s.kind = 'auth' AND k.webhook = 1 AND k.kind = 'signing'});
like($server->sql_fails(q{SELECT dmshook._secret(1, 'auth')}), qr/is not what was stored/, 'another kind\'s too');
for my $value (
	q{overlay(k.value placing CASE substr(k.value, 30, 1) WHEN 'A' THEN 'B' ELSE 'A' END from 30 for 1)}, q{left(k.value, 36)},
	q{'AAAA'}, q{''}, q{k.value || '===='}, q{repeat('=', 60)})
{
	$server->sql(qq{UPDATE dmshook.webhook_secret s SET value = $value FROM kept k WHERE s.id = k.id AND s.webhook = 1 AND s.kind = 'auth'});
	like($server->sql_fails(q{SELECT dmshook._secret(1, 'auth')}), qr/is not what was stored/, "and $value");
}
like($server->sql(q{SELECT level, subject, problem FROM dmshook.check() WHERE subject = 'plain' AND level = 'error'}), qr/^error\|plain\|its secret "auth" is not what was stored.*it cannot send$/, 'check() says so');
$server->sql(q{UPDATE dmshook.webhook_secret s SET value = k.value FROM kept k WHERE s.id = k.id});

#
# Rotation: a new first line; the others still decrypt
#
write_keys("$line[1]\n$line[0]\n");
reload($id[1]);
like($server->sql(q{SELECT problem FROM dmshook.check() WHERE subject = 'secrets'}), qr/^5 secrets are encrypted with another key than the first/, 'a new key comes first: check() says what is still under the old one');
is($server->sql('SELECT dmshook.reencrypt_secrets()'), 5, 'which reencrypt_secrets() counts');
is(key_ids(), "$id[1]|5", 'and moves to the new one');
write_keys("$line[1]\n");
reload($id[1]);
wait_test('plain', 'true');
wait_test('sealed', 'true');
pass('then the old line can go');

# back to plain text: only when asked for
is($server->sql('SELECT dmshook.reencrypt_secrets(plaintext => true)'), 5, 'decrypted on demand');
is(key_ids(), '-|5', 'all of it');
is($server->sql('SELECT dmshook.signing_secret(\'sealed\')'), $secret, 'and still the same');
is($server->sql('SELECT dmshook.reencrypt_secrets()'), 5, 'and encrypted again');

#
# A key is missing: what needs it stops, and says so; the rest goes on
#
$server->sql("ALTER SYSTEM RESET dmshook.secret_key_file");
reload('');
create('open');
$server->sql("ALTER SYSTEM SET dmshook.secret_key_file = '$file'");
write_keys("$line[2]\n");
reload($id[2]);
wait_test('sealed', 'false');
is($server->sql(q{SELECT error, hint FROM dmshook.test_webhook('sealed')}),
	"its secret \"headers\" is encrypted with key $id[1], which is not in dmshook.secret_key_file|"
	  . 'Add this key to the file as a further line, then SELECT pg_reload_conf(). If it is lost, set the secret again.', 'a test says which key it lacks');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'sealed' AND kind = 'test' AND outcome = 'internal_error' AND event_type = 'webhook.test' AND payload::json->>'test' = 'true'}),
	$server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'sealed' AND outcome = 'internal_error'}), 'its row in the log can be read');
my $from = @{ [ $receiver->requests ] };
$server->sql(q{INSERT INTO vehicle VALUES (1, 'new')});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'open' AND state = 'delivered'});
pass('a webhook whose secrets are not encrypted goes on');
$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.attempts WHERE kind = 'delivery' AND webhook <> 'open' AND outcome = 'internal_error' AND error ~ 'is encrypted with key' AND hint ~ 'pg_reload_conf'});
is($server->sql(q{SELECT string_agg(DISTINCT state, ',') FROM dmshook.deliveries WHERE webhook <> 'open' AND event_type = 'vehicle.added'}), 'retrying', 'the others wait, with the reason in the log');
is_deeply([ map { $_->{path} } grep { $_->{headers}{'dmshook-event'} eq 'vehicle.added' } $receiver->requests ], ['/ok/open'], 'nothing of theirs was sent');
is($server->sql(q{SELECT string_agg(level || ' ' || subject, ',' ORDER BY subject) FROM dmshook.check() WHERE problem ~ 'it cannot send'}), 'error plain,error sealed', 'check() names them');
like($server->sql_fails(q{SELECT dmshook.signing_secret('sealed')}), qr/the secret of a webhook cannot be read.*$id[1]/s, 'the secret cannot be shown');
my ($rc, $out, $err) = $node->psql('postgres', 'SELECT dmshook.reencrypt_secrets()');
is($out, 1, 'reencrypt_secrets() moves what it can');
like($err, qr/WARNING:  5 secrets cannot be decrypted.*Of: plain, sealed\./s, 'and names what it cannot');

# garbage in the table ends nobody
my $pid = $server->sql('SELECT pid FROM dmshook.dispatchers');
$server->sql(q[INSERT INTO dmshook.webhook_secret (webhook, kind, value) SELECT id, 'headers', '{"X-A": "canary' FROM dmshook.webhook WHERE name = 'open'; INSERT INTO dmshook.command (webhook, kind) SELECT id, 'reload' FROM dmshook.webhook WHERE name = 'open']);
$server->wait_sql(q{SELECT NOT ok AND error = 'its secret "headers" is not what was stored: it is no JSON object' FROM dmshook.test_webhook('open')});
is($server->sql('SELECT pid FROM dmshook.dispatchers'), $pid, 'a secret that is garbage is its webhook\'s problem alone');
$server->sql(q{DELETE FROM dmshook.webhook_secret WHERE kind = 'headers' AND webhook = (SELECT id FROM dmshook.webhook WHERE name = 'open'); INSERT INTO dmshook.command (webhook, kind) SELECT id, 'reload' FROM dmshook.webhook WHERE name = 'open'});
wait_test('open', 'true');

# lost for good: new ones take their place, and what does not touch them works
is($server->sql(sprintf q{SELECT dmshook.alter_webhook('sealed', url => '%s') ~ 'is altered'}, $receiver->url('/ok/moved')), 't', 'a url can be changed all the same');
is($server->sql(q{SELECT dmshook.alter_webhook('sealed', auth => '{"kind": "none"}', headers => '{}') ~ 'is altered'}), 't', 'what cannot be read can be removed');
is($server->sql(q{SELECT count(*) FROM dmshook.webhook_secret WHERE webhook = 2 AND kind <> 'signing'}), 0, 'and is gone');

# the file is there again, nobody has reloaded: a session that meets an unknown key looks
write_keys("$line[2]\n$line[1]\n");
is($server->sql(q{SELECT dmshook.signing_secret('sealed')}), $secret, 'with the key as a further line it can be read');
reload($id[2]);
wait_test('plain', 'true');
is($server->sql('SELECT dmshook.reencrypt_secrets()'), 3, 'and moved to the first key');
$server->wait_sql(q{SELECT count(*) = 3 FROM dmshook.deliveries WHERE state = 'delivered' AND event_type = 'vehicle.added'});
pass('what waited is delivered');

#
# A file that cannot be used
#
sub refused
{
	my ($problem, $what) = @_;
	reload();
	$server->wait_sql(sprintf q{SELECT problem ~ %s FROM dmshook._vault()}, quote($problem));
	like($server->sql_fails(sprintf q{SELECT dmshook.create_webhook('none', '%s', '{*}')}, $receiver->url), qr/ERROR:  a secret cannot be encrypted: $problem.*HINT:  Put the file right/s, "$what: nothing is stored");
	like($server->sql(q{SELECT level, problem FROM dmshook.check() WHERE subject = 'secrets'}), qr/^error\|$problem.*; 3 webhooks have encrypted secrets and cannot send$/, 'check() says so');
	return;
}
unlink $file;
refused('could not open key file ".*": No such file or directory', 'the file is gone');
wait_test('plain', 'false');
write_keys("$line[2]\n", 0640);
refused('key file ".*" has another owner, or group or world access', 'others may read it');
write_keys('');
refused('key file ".*" has no key', 'it is empty');
write_keys("$line[2]\nwhsec_not_a_key_but_secret\n");
refused('line 2 of key file ".*" is not a key of 32 bytes in base64 or hex', 'a line is none');
write_keys(encode_base64('a' x 31, '') . "\n");
refused('line 1 of key file ".*" is not a key of 32 bytes in base64 or hex', 'a key is short');
my $log = slurp_file($node->logfile);
like($log, qr/WARNING:  secrets that are encrypted cannot be used: line 2 of key file/, 'the dispatcher says so in the server\'s log');
unlike($log, qr/not_a_key_but_secret/, 'without what stands there');
unlike($log, qr/\Q$line[2]\E/, 'and no key');

#
# At start, and restored elsewhere: the dump has the ciphertext
#
write_keys("$line[2]\n");
$node->restart;
wait_test('plain', 'true');
pass('read at start');
# in the data directory
copy($file, $node->data_dir . '/keys') or die "copy: $!";
chmod 0600, $node->data_dir . '/keys';
for my $path ('keys', $node->data_dir . '/keys')
{
	$server->sql("ALTER SYSTEM SET dmshook.secret_key_file = '$path'");
	$node->reload;
	$server->wait_sql("SELECT current_setting('dmshook.secret_key_file') = '$path'");
	like($server->sql(q{SELECT level, problem FROM dmshook.check() WHERE subject = 'secrets'}), qr/^warning\|dmshook\.secret_key_file is in the data directory/, "check() warns of $path");
}
wait_test('plain', 'true');
$server->sql("ALTER SYSTEM SET dmshook.secret_key_file = '$file'");
reload($id[2]);
my @dump = ('pg_dump', '-h', $node->host, '-p', $node->port, '-Fp');
command_ok([ @dump, '-f', "$tmp/all.sql", 'postgres' ], 'dumped');
my $dump = slurp_file("$tmp/all.sql");
unlike($dump, qr/\Q$secret\E|token-of-plain/, 'the dump has no secret');
like($dump, qr/\t$id[2]\t/, 'but what they are encrypted to');
$server->sql('CREATE DATABASE copy');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'copy', '-f', "$tmp/all.sql" ], 'restored');
is($server->sql(q{SELECT dmshook.signing_secret('sealed')}, 'copy'), $secret, 'with the key file the restored secret is read');
$server->sql(q{SELECT dmshook.claim_database('copy')}, 'copy');
isnt($server->sql(q{SELECT dmshook.signing_secret('sealed')}, 'copy'), $secret, 'a copy has secrets of its own');
is($server->sql(q{SELECT count(*) FROM dmshook.webhook_secret WHERE kind <> 'signing' OR key_id IS DISTINCT FROM '} . $id[2] . q{'}, 'copy'), 0, 'encrypted, and no other');

# what is not owner's is nobody's
$server->sql(q{CREATE ROLE nobody_special LOGIN});
like($server->sql_fails(q{SET ROLE nobody_special; SELECT value FROM dmshook.webhook_secret}), qr/permission denied/, 'others cannot read the table');
like($server->sql_fails(q{SET ROLE nobody_special; SELECT dmshook.reencrypt_secrets(plaintext => true)}), qr/permission denied/, 'nor decrypt it');
my $admin = q{SELECT dmshook.grant_admin('nobody_special'); SET ROLE nobody_special; };
is($server->sql($admin . 'SELECT dmshook.reencrypt_secrets()') =~ s{.*\n}{}sr, 0, 'an admin may encrypt');
like($server->sql_fails($admin . 'SELECT dmshook.reencrypt_secrets(plaintext => true)'), qr/only a superuser may store secrets in plain text/, 'but not decrypt');

$node->stop;
done_testing();
