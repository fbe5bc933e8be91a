# Secrets never seen: a canary for each kind of secret goes through every function and failure, with everything logged
# that PostgreSQL can log; then none of them is in the log, in any view, in the statistics, or anywhere in the data directory.
use strict;
use warnings;
use DmshookTest;
use IPC::Open2 ();
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = PostgreSQL::Test::Utils::tempdir;
my $certs = certs();

#
# The canaries. Those of SQL come out of files by a volatile function, so that no text of a statement, and no constant
# of the caller's plan, holds one: what is found was put there by us.
#
my %canary = (
	(map { $_ => "canary-$_-7Qp/x+Zt9=" } qw(basic bearer api_key header refused url smtp other github oauth oauth_body password_file proxy)),
	map { my $n = $_; $n => 'whsec_' . encode_base64(join('', map { chr((7 * length($n) + 29 * ord($n) + 13 * $_) % 256) } 1 .. 32), '') } qw(signing older),
);
# a private key of v1a: any 32 bytes are one
$canary{ed25519} = 'whsk_' . encode_base64(join('', map { chr((53 * $_ + 17) % 256) } 1 .. 32), '');
# in the middle of the private key of a certificate; and an access token, whose name the receiver takes out of its URL
my $client_key = slurp_file("$certs/client.key");
$canary{mtls} = (split /\n/, $client_key)[2];
$canary{token} = 'canary-token-7Qp.1';
my $key = join '', map { chr((41 * $_ + 5) % 256) } 1 .. 32;
$canary{keyfile} = encode_base64($key, '');
$canary{control} = 'canary-of-control-found';	# what is no secret must be found: the scans work

sub put
{
	my ($file, $text) = @_;
	open my $f, '>', "$tmp/$file" or die "$tmp/$file: $!";
	chmod 0600, "$tmp/$file";
	print $f $text;
	close $f;
	return "$tmp/$file";
}
put("canary_$_", $canary{$_}) for keys %canary;
put('canary_client_key', $client_key);

# The forms in which they might be found: as they are, in base64 as for basic, without prefix, and the raw key.
my %form = map { ($_ => $canary{$_}) } keys %canary;
$form{basic_header} = encode_base64("user:$canary{basic}", '');
$form{"${_}_encoded"} = $canary{$_} =~ s{([^A-Za-z0-9._~-])}{sprintf '%%%02X', ord $1}ger for qw(oauth oauth_body);
$form{proxy_header} = encode_base64("dms:$canary{proxy}", '');
$form{oauth_header} = encode_base64("dms:$form{oauth_encoded}", '');
$form{"bare_$_"} = $canary{$_} =~ s/^whsec_//r for qw(signing older);
$form{bare_ed25519} = $canary{ed25519} =~ s/^whsk_//r;
$form{raw_ed25519_key} = decode_base64($form{bare_ed25519});
$form{raw_key} = $key;
$form{hex_key} = unpack 'H*', $key;
# the begin of each is enough
my %needle = map { ($_ => substr $form{$_}, 0, /control|token|encoded/ ? 99 : /key|bare|_header|mtls/ ? 20 : 14 + length $_) } keys %form;

sub found
{
	my ($text) = @_;
	return join ' ', grep { index($text, $needle{$_}) >= 0 } sort keys %needle;
}

is(found("x $canary{control} $form{basic_header}"), 'basic_header control', 'the scan finds what is there');

my $mail_port = PostgreSQL::Test::Cluster::get_free_port();
my $mail_pid = IPC::Open2::open2(my $mail_out, my $mail_in, '/usr/bin/python3', "$DmshookTest::top/test/receiver/mail.py",
	$mail_port, "$tmp/mails", '--cert', "$certs/good.pem", '--key', "$certs/good.key", '--auth', 'postmaster:another');
readline($mail_out) eq "ready\n" or die "the mail server did not start";

my $server = DmshookTest->new('main', conf => <<"CONF");
shared_preload_libraries = 'dmshook, pg_stat_statements, auto_explain'
dmshook.secret_key_file = '@{[ put('keys', "$canary{keyfile}\n") ]}'
dmshook.smtp_url = 'smtp://localhost:$mail_port'
dmshook.smtp_password_file = '@{[ put('password', "postmaster:$canary{smtp}\n") ]}'
dmshook.proxy_password_file = '@{[ put('proxy', "dms:$canary{proxy}\n") ]}'
dmshook.alert_mail_to = 'ops\@example.com'
dmshook.alert_mail_delay = 1s
log_min_messages = debug5
log_min_error_statement = debug5
log_error_verbosity = verbose
log_statement = all
log_duration = on
log_min_duration_statement = 0
log_lock_waits = on
track_activity_query_size = 64kB
pg_stat_statements.track = all
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_verbose = on
auto_explain.log_analyze = on
auto_explain.log_triggers = on
CONF
my $node = $server->node;
my $receiver = DmshookTest::Receiver->new;
my $unknown = DmshookTest::Receiver->new(cert => 'unknown');
my $mute = DmshookTest::Receiver->new(mute => 1);

# All that clients are shown, of one session that stays, and of one that looks on and listens.
my $seen = '';
my $session = $server->session('postgres', on_error_die => 0);
my $looker = $server->session('postgres', on_error_die => 0);
$looker->query('LISTEN dmshook');

# Run; what was shown is kept. Returns the error, '' where there was none.
sub run
{
	my ($sql) = @_;
	$session->{stderr} = '';
	$seen .= $session->query($sql) . "\n";
	my $error = $session->{stderr};
	$seen .= "$error\n";
	$seen .= $looker->query(q{SELECT string_agg(query, ' ') FROM pg_stat_activity}) . "\n";
	return $error;
}

sub fails
{
	my ($what, $sql, $expected) = @_;
	like(run($sql), qr/ERROR:.*$expected/s, $what);
	return;
}

run(q{CREATE EXTENSION pg_stat_statements});
run(qq{CREATE FUNCTION canary(name text, rest text = '') RETURNS text LANGUAGE plpgsql VOLATILE AS
	'BEGIN RETURN pg_read_file(''$tmp/canary_'' || name) || rest; END'});
run(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text)});
run(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});

my %auth = (
	basic => q{json_build_object('kind', 'basic', 'username', 'user', 'password', canary('basic'))},
	bearer => q{json_build_object('kind', 'bearer', 'token', canary('bearer'))},
	api_key => q{json_build_object('kind', 'api_key', 'header', 'X-API-Key', 'key', canary('api_key'))},
);
my $headers = q{json_build_object('X-Secret', canary('header'))};

#
# Every kind of secret at every kind of receiver; all that admins can call
#
put('canary_token_url', $receiver->url('/token/canary-token-7Qp'));
put('canary_broken_url', $receiver->url('/token/canary-broken'));
$auth{oauth} = q{json_build_object('kind', 'oauth2', 'token_url', canary('token_url'), 'client_id', 'dms', 'client_secret', canary('oauth'))};
$auth{oauth_body} = q{json_build_object('kind', 'oauth2', 'token_url', canary('broken_url'), 'client_id', 'dms', 'client_secret', canary('oauth_body'), 'client_auth', 'body')};
$auth{mtls} = qq{json_build_object('kind', 'mtls', 'certificate', pg_read_file('$certs/client.pem'), 'key', canary('client_key'))};
$auth{password_file} = qq{json_build_object('kind', 'basic', 'username', 'user', 'password_file', '$tmp/canary_password_file')};
$receiver->set_token('canary-broken', 400);		# repeats what it was sent
my $asks = DmshookTest::Receiver->new(client_ca => "$certs/ca.pem");

my %path = (
	oauth => $receiver->url('/mirror'), oauth_body => $receiver->url('/mirror'), mtls => $asks->url('/ok'), password_file => $receiver->url('/mirror'),
	basic => $receiver->url('/mirror'), bearer => $receiver->url('/mirror/500'), api_key => $receiver->url('/mirror/302'),
	redirect => $receiver->url('/mirror/301'), reset => $receiver->url('/reset'), garbage => $receiver->url('/garbage'),
	unknown => $unknown->url('/ok'), mute => $mute->url('/ok'), refused => 'https://localhost:' . PostgreSQL::Test::Cluster::get_free_port() . '/', dns => 'https://nobody.invalid/',
);
for my $name (sort keys %path)
{
	# those that answer have the time to do so, on a machine that is busy, too
	my $options = sprintf q{'{"max_attempts": 2, "backoff": {"intervals": ["10ms"]}, "timeout": "%s", "breaker": {"failures": 3, "deliveries": 1}}'}, $name =~ /^(mute|dns)$/ ? '300ms' : '20s';
	my $auth = $auth{$name} // $auth{ $name eq 'redirect' ? 'basic' : 'bearer' };
	is(run(qq{SELECT webhook, hint FROM dmshook.create_webhook('$name', '$path{$name}', '{vehicle.*}', secret => canary('signing'), auth => $auth\::jsonb,
		headers => $headers\::jsonb, enabled => true, options => $options)}), '', "webhook $name");
}
is(run(qq{SELECT dmshook.alter_webhook('basic', auth => $auth{bearer}\::jsonb); SELECT dmshook.alter_webhook('basic', auth => $auth{basic}\::jsonb, headers => $headers\::jsonb)}), '', 'altered');
run(qq{SELECT ok, status, response, error, hint FROM dmshook.test_webhook('$_')}) for sort keys %path;
run(q{INSERT INTO vehicle SELECT i, 'new' FROM generate_series(1, 3) i; UPDATE vehicle SET status = 'sold'});
$server->wait_sql(q{SELECT count(*) > 0 AND count(*) FILTER (WHERE state <> 'delivered') = 0 FROM dmshook.deliveries WHERE webhook = 'basic'});
# each has failed as often as its breaker allows
$server->wait_sql(q{SELECT count(DISTINCT webhook) = 13 FROM dmshook.attempts WHERE webhook <> 'basic' AND kind = 'delivery'});
run(q{SELECT * FROM dmshook.preview('basic')});
run(q{SELECT * FROM dmshook.explain('bearer', (SELECT max(message_id) FROM dmshook.deliveries))});
run(q{SELECT * FROM dmshook.check()});
run(qq{SELECT dmshook.$_('api_key')}) for qw(pause_webhook resume_webhook disable_webhook enable_webhook cancel_all);
run(q{SELECT dmshook.redeliver_dead('bearer'); SELECT dmshook.replay('basic', now() - interval '1 hour')});
run(q{SELECT length(dmshook.signing_secret('basic'))});
is(run(q{SELECT length(dmshook.rotate_secret('basic', secret => canary('older'))), length(dmshook.rotate_secret('basic', keep_old => '0'))}), '', 'rotated');
is(run(q{SELECT dmshook.rotate_secret('basic', secret => canary('signing')) IS NULL}), '', 'to a secret of before');
is(run(q{SELECT dmshook.alter_webhook('reset', options => '{"signature": ["github"]}'); SELECT dmshook.rotate_secret('reset', keep_old => '0', secret => canary('github')) IS NULL}), '', 'and to one of GitHub');
like(run(q{SELECT dmshook.alter_webhook('garbage', options => '{"signature": ["standard", "standard-ed25519"]}');
	SELECT dmshook.rotate_secret('garbage', keep_old => '0', secret => canary('ed25519')) IS NULL}), qr/^[^\n]*NOTICE:  give the receiver the public key whpk_[^\n]*$/, 'to a private key');
run(q{SELECT ok, error FROM dmshook.test_webhook('garbage'); SELECT public_key FROM dmshook.webhooks WHERE name = 'garbage'; SELECT dmshook.sign(canary('ed25519'), 'msg_1', now(), 'body') IS NULL});
fails('a private key that is cut', q{SELECT dmshook.rotate_secret('garbage', secret => left(canary('ed25519'), 40))}, 'invalid signing secret');
run(q{SELECT dmshook.sign(canary('signing'), 'msg_1', now(), 'body') IS NULL, dmshook.verify(canary('github'), '{"x-hub-signature-256": "sha256=00"}', 'body')});
run(q{SELECT dmshook.alter_webhook('redirect', new_name => 'renamed')});
is(run(q{SELECT dmshook.reencrypt_secrets()}), '', 'encrypted again');
unlike(run("SELECT * FROM $_"), qr/ERROR/, $_ =~ s/\(.*//sr) for q{dmshook.retry_schedule('basic')}, q{dmshook.acknowledge((SELECT min(id) FROM dmshook.alerts))},
	q{dmshook.define_event_type('vehicle.lost', 'vehicle', 'It was lost')}, q{dmshook.watch('vehicle', 'vehicle.lost', 'delete')}, q{dmshook.unwatch('vehicle')},
	q{dmshook.watch_customer('vehicle')}, q{dmshook.watch_deal('vehicle', 'status')}, q{dmshook.watch_job('vehicle', 'status')}, q{dmshook.unwatch_all()},
	q{dmshook.sequence_of((SELECT max(message_id) FROM dmshook.deliveries))}, q{dmshook.erase('vehicle', '{"id": 1}')};
run(q{CREATE ROLE clerk; SELECT dmshook.grant_viewer('clerk', payloads => true); SELECT dmshook.grant_admin('clerk'); SELECT dmshook.grant_emitter('clerk'); SELECT dmshook.revoke_all('clerk')});
fails('a claim', q{SELECT dmshook.claim_database('copy')}, 'claimed already');
run(q{SELECT dmshook.cancel(webhook, message_id) FROM dmshook.deliveries WHERE state = 'retrying' LIMIT 1; SELECT dmshook.redeliver(webhook, message_id) FROM dmshook.deliveries WHERE state = 'delivered' LIMIT 1});
run(qq{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": 9}', json_build_object('note', canary('control'))::jsonb)});
run(qq{DO \$\$ BEGIN RAISE LOG '%', canary('control'); END \$\$});

# what the receivers were sent
my ($mirrored) = $receiver->requests(sub { $_[0]{path} eq '/mirror' });
is($mirrored->{headers}{'x-secret'}, $canary{header}, 'the receiver gets the secrets');
my @logged = split /\n/, $server->sql(q{SELECT response_headers || ' ' || response_body FROM dmshook.attempts WHERE webhook IN ('basic', 'bearer', 'api_key', 'oauth', 'password_file') AND kind = 'test'});
is(scalar(grep { /"x-secret": "\*\*\*"/ && /"webhook-signature": "v1,/ } grep { /mirror|webhook/ } @logged), 5, 'what they send back is logged with the secrets masked');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'basic' AND kind = 'test' AND response_body ~ '"authorization": "Basic \*\*\*"' AND response_headers::text ~ 'X-Mirror.*Basic \*\*\*'}),
	1, 'also what our Authorization header had');

#
# Every way to get it wrong
#
my $url = $receiver->url;
fails('a signing secret that is none', qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', secret => canary('refused'))}, 'invalid signing secret');
fails('one that is too long', qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', secret => repeat(canary('signing'), 5))}, 'invalid signing secret');
fails('a secret that is in use', q{SELECT dmshook.rotate_secret('basic', secret => canary('signing'))}, 'is the signing secret');
fails('one that does not fit', q{SELECT dmshook.rotate_secret('bearer', secret => canary('refused'))}, 'invalid signing secret');
fails('a private key that is none', q{SELECT dmshook.rotate_secret('bearer', secret => 'whsk_' || canary('refused'))}, 'invalid signing secret');
fails('signing with none', q{SELECT dmshook.sign('whsec_' || canary('refused'), 'msg_1', now(), 'body')}, 'signing secret');
fails('verifying with none', q{SELECT dmshook.verify('whsk_' || canary('refused'), '{}', 'body')}, 'signing secret');
fails("auth: $_", qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', auth => ($_)::jsonb)}, 'HINT') for
	q{json_build_object('kind', 'bearer', 'tokn', canary('refused'))},
	q{json_build_object('kind', 'bearer', 'token', canary('refused', chr(10)))}, q{json_build_object('kind', 'bearer', 'token', json_build_array(canary('refused')))},
	q{json_build_object('kind', 'basic', 'username', 'a:b', 'password', canary('refused'))}, q{json_build_object('kind', 'basic', 'password', canary('refused'))},
	q{json_build_object('kind', 'api_key', 'header', 'Host', 'key', canary('refused'))}, q{to_json(canary('refused'))},
	q{json_build_object('kind', 'bearer', 'token', canary('refused'), 'more', canary('refused'))};
fails('a key of another certificate', qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', auth => json_build_object('kind', 'mtls', 'certificate', pg_read_file('$certs/good.pem'), 'key', canary('client_key'))::jsonb)}, 'HINT');
fails('a key that is none', qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', auth => json_build_object('kind', 'mtls', 'certificate', pg_read_file('$certs/client.pem'), 'key', translate(canary('client_key'), 'ABC', 'BCA'))::jsonb)}, 'HINT');
fails('a file that has no password', qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', auth => '{"kind": "bearer", "token_file": "$tmp/canary_client_key"}')}, 'HINT');
fails('a token URL with a password', qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', auth => json_build_object('kind', 'oauth2', 'token_url', 'https://dms:' || canary('url') || '\@localhost/', 'client_id', 'dms', 'client_secret', canary('oauth'))::jsonb)}, 'URL|HINT');
fails('another receiver', q{SELECT dmshook.alter_webhook('oauth', url => 'https://elsewhere.example/')}, 'another receiver');
fails("headers: $_", qq{SELECT dmshook.alter_webhook('basic', headers => ($_)::jsonb)}, 'header') for
	q{json_build_object('X-A', canary('refused', chr(13)))}, q{json_build_object('webhook-id', canary('refused'))}, q{json_build_object('Authorization', canary('refused'))},
	q{json_build_object('X-A', json_build_object('x', canary('refused')))}, q{json_build_array(canary('refused'))}, q{json_build_object('X-A', repeat(canary('refused'), 1000))};
fails('a URL with a password', q{SELECT dmshook.create_webhook('bad', 'https://user:' || canary('url') || '@localhost/', '{*}')}, 'invalid URL');
fails('a name that is taken', qq{SELECT dmshook.create_webhook('basic', '$url', '{*}', secret => canary('signing'), auth => $auth{bearer}\::jsonb)}, 'already exists');
fails('an unknown webhook', qq{SELECT dmshook.alter_webhook('nobody', auth => $auth{bearer}\::jsonb)}, 'does not exist');
fails('an unknown event', qq{SELECT dmshook.create_webhook('bad', '$url', '{no.such}', secret => canary('signing'), auth => $auth{bearer}\::jsonb)}, 'no.such');
fails('a read only transaction', qq{BEGIN READ ONLY; SELECT dmshook.alter_webhook('bearer', auth => json_build_object('kind', 'bearer', 'token', canary('other'))::jsonb)}, 'read-only');
run('ROLLBACK');
# inside ours: something is wrong with the tables
run(q{SELECT setval('dmshook.secret_id', 1, false)});
fails('a row that cannot be stored', qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', secret => canary('signing'), auth => $auth{bearer}\::jsonb)}, 'duplicate key');
run(q{SELECT setval('dmshook.secret_id', 1000)});
run(q{ALTER TABLE dmshook.webhook_secret ADD CONSTRAINT never CHECK (id < 0) NOT VALID});
fails('nor this one', qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', secret => canary('signing'), auth => $auth{bearer}\::jsonb)}, 'violates check constraint');
run(q{ALTER TABLE dmshook.webhook_secret DROP CONSTRAINT never});
# somebody else has it: the CONTEXT of a timeout, a cancelled statement
my $holder = $server->session;
$holder->query(q{BEGIN; LOCK dmshook.webhook_secret});
fails('a timeout', qq{SET lock_timeout = '50ms'; SELECT dmshook.alter_webhook('bearer', auth => json_build_object('kind', 'bearer', 'token', canary('other'))::jsonb)}, 'timeout');
fails('another', qq{SET lock_timeout = 0; SET statement_timeout = '50ms'; SELECT dmshook.create_webhook('bad', '$url', '{*}', secret => canary('signing'), auth => $auth{bearer}\::jsonb)}, 'timeout');
run('SET statement_timeout = 0');
$holder->query('ROLLBACK');
$holder->quit;

#
# A row that was changed, a key that is not there
#
run(q{UPDATE dmshook.webhook_secret SET value = overlay(value placing 'AAAA' from 21 for 4) WHERE webhook = (SELECT id FROM dmshook.webhook WHERE name = 'dns')});
fails('a value that was changed', q{SELECT dmshook.signing_secret('dns')}, 'cannot be decrypted');
put('keys', encode_base64('another key of 32 bytes in all!!', '') . "\n");
$node->reload;
$server->wait_sql(q{SELECT error ~ 'is not in dmshook.secret_key_file' FROM dmshook.test_webhook('basic')});
fails('a key that is not there', q{SELECT dmshook.signing_secret('basic')}, 'is not in dmshook.secret_key_file');
run(q{SELECT * FROM dmshook.check()});
put('keys', "$canary{keyfile} \t$canary{keyfile}\n");
$node->reload;
$server->wait_sql(q{SELECT problem ~ 'line 1' FROM dmshook._vault()});
fails('a file that is none', qq{SELECT dmshook.create_webhook('bad', '$url', '{*}', secret => canary('signing'))}, 'line 1 of key file');
put('keys', "$canary{keyfile}\n");
$node->reload;
$server->wait_sql(q{SELECT ok FROM dmshook.test_webhook('basic')});
run(q{SELECT dmshook.drop_webhook('mute'); SELECT dmshook.drop_webhook('dns')});

# a proxy that does not know the password
my $proxy_pid = IPC::Open2::open2(my $proxy_out, my $proxy_in, '/usr/bin/python3', "$DmshookTest::top/test/receiver/proxy.py", "$tmp/proxied", '--answer', '407');
my ($proxy_port) = readline($proxy_out) =~ /^port: (\d+)$/ or die 'the proxy did not start';
run("ALTER SYSTEM SET dmshook.proxy = 'http://localhost:$proxy_port'");
$node->reload;
$server->wait_sql(q{SELECT error ~ 'proxy' FROM dmshook.test_webhook('basic')});
like(slurp_file("$tmp/proxied"), qr/"user": "dms:\Q$canary{proxy}\E"/, 'it was told');
run('ALTER SYSTEM RESET dmshook.proxy');
$node->reload;
$server->wait_sql(q{SELECT ok FROM dmshook.test_webhook('basic')});
close $proxy_in;
waitpid $proxy_pid, 0;

# a mail server that does not know the password
$server->wait_log(qr/could not be mailed/);

#
# No core file of the dispatcher, and nobody but root looks into its memory
#
my $pid = $server->sql('SELECT pid FROM dmshook.dispatchers');
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
sub memory { my ($p) = @_; open my $f, '<', "/proc/$p/mem" or return 0; return 1; }
SKIP: {
	skip 'root may look at everything', 1 if $> == 0 && memory(1);
	ok(memory($postmaster) && !memory($pid), 'the dispatcher\'s memory cannot be read, as the postmaster\'s can');
}

# nothing was left out
my $this = slurp_file(__FILE__);
is(join(' ', grep { $this !~ /\b$_\b/ } split /\n/, $server->sql(q{SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'dmshook'::regnamespace AND proname !~ '^_' AND prorettype <> 'trigger'::regtype})),
	'', 'every function was called');

#
# The search: heap, indexes, WAL, statistics, everything that the server wrote
#
$server->sql('CHECKPOINT');
sub files_with
{
	my $needles = put('needles', join "\n", map { $needle{$_} } @_);
	local $ENV{LC_ALL} = 'C';
	open my $grep, '-|', 'grep', '-rlaF', '-f', $needles, $node->data_dir or die "grep: $!";
	my @files = map { chomp; substr $_, length $node->data_dir } <$grep>;
	close $grep;
	return @files;
}
like(join(' ', files_with('control')), qr{base/.*pg_wal/|pg_wal/.*base/}, 'what is no secret is in heap and WAL');
is(join(' ', files_with(grep { $_ ne 'control' && $needle{$_} !~ /\n/ } keys %needle)), '', 'no secret is anywhere in the data directory');

# without encryption they are in their table, and nowhere that anybody looks
is(run(q{SELECT dmshook.reencrypt_secrets(plaintext => true)}), '', 'decrypted');
$node->append_conf('postgresql.conf', "dmshook.secret_key_file = ''\n");
$node->reload;
$server->wait_sql(q{SELECT key_id IS NULL AND problem IS NULL FROM dmshook._vault()});
is(run(qq{SELECT dmshook.alter_webhook('bearer', url => '$path{basic}')}), '', 'altered');
is(run(qq{SELECT dmshook.alter_webhook('api_key', url => '$path{basic}', auth => $auth{bearer}\::jsonb, headers => '{}')}), '', 'altered');
run(q{SELECT length(dmshook.signing_secret('api_key'))});
run(q{SELECT ok, response FROM dmshook.test_webhook('bearer')});
run(q{SELECT * FROM dmshook.check()});

my @relations = split /\n/, $server->sql(q{SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'dmshook'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY 1});
cmp_ok(scalar(@relations), '>', 25, 'tables and views to look at');
my %rows = map { $_ => $server->sql("SELECT v::text FROM $_ v") } @relations;
like(found(delete $rows{'dmshook.webhook_secret'}), qr/bearer.*header.*signing/, 'in their table they are');
is(found(join "\n", values %rows), 'control', 'in no view and no other table (what is no secret is)');
my $statements = $server->sql('SELECT query FROM pg_stat_statements') . $server->sql('SELECT * FROM pg_stat_activity');
like($statements, qr/dmshook\.webhook_secret/, 'our statements are in pg_stat_statements');
is(found($statements), '', 'without a secret');
like($seen, qr/Asynchronous notification "dmshook" with payload .*"kind": "failing"/, 'who listened all the while heard of failures');
is(found($seen), '', 'no client was shown one, in an error, a hint, a notification or pg_stat_activity');
$session->quit;
$looker->quit;
$node->stop;
my $log = slurp_file($node->logfile);
like($log, qr/DEBUG: .*Query Text: .*dmshook\._secret_put/s, 'the server\'s log has it all');
is(found($log), 'control', 'but no secret');

close $mail_in;
waitpid $mail_pid, 0;
done_testing();
