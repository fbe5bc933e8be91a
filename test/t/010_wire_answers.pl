# What comes back, or does not: each kind of answer and fault has its outcome, its error, its hint, and what was received; and no secret in any of them.
use strict;
use warnings;

use DmshookTest;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $server = DmshookTest->new('answers');
my $receiver = DmshookTest::Receiver->new;
my @all_secrets;

# What is tried, all at once; each webhook is sent one event, once.
my %try;
sub try_it
{
	my ($name, $url, %options) = @_;
	$try{$name} = { %options, url => $url };
}

sub send_all
{
	my $sql = '';
	for my $name (sort keys %try)
	{
		my %options = %{ $try{$name} };
		my $token = "token-of-$name";
		$token =~ tr/ /-/;
		push @all_secrets, $token;
		$sql .= 'SELECT signing_secret FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($options{url}) . ", '{vehicle.sold}', enabled => true, auth => "
		  . quote(qq({"kind": "bearer", "token": "$token"})) . ', options => '
		  . quote(JSON::PP->new->encode({ max_attempts => 1, timeout => $options{timeout} // '20s', connect_timeout => $options{connect_timeout} // '15s' })) . ");\n";
	}
	push @all_secrets, split /\n/, $server->sql($sql);
	$server->sql(q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": 1}', '{"colour": "red"}')});
	my $n = keys %try;
	$server->wait_sql(q{SELECT count(*) FROM dmshook.attempts a JOIN dmshook.webhooks w ON w.name = a.webhook}, $n);
	my %a = map { $_->{webhook} => $_ } $server->rows('SELECT a.* FROM dmshook.attempts a JOIN dmshook.webhooks w ON w.name = a.webhook');
	return \%a;
}

sub forget
{
	$server->sql('SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks');
	%try = ();
}

# A failure in the log: outcome, status, what the error and the hint say.
sub failed
{
	my ($a, $outcome, $status, $error, $hint, $state) = @_;
	my $name = $a->{webhook};
	is($a->{outcome}, $outcome, "$name: $outcome") or diag explain $a;
	is($a->{status}, $status, "$name: status");
	like($a->{error}, $error, "$name: the error");
	like($a->{hint}, $hint, "$name: the hint");
	like($a->{error}, qr/^[A-Z"\/0-9a-z].{10,}\.$/, "$name: a sentence");
	is($server->sql('SELECT state, attempts, error = ' . quote($a->{error}) . ' FROM dmshook.deliveries WHERE webhook = ' . quote($name)), 'exhausted|1|t', "$name: given up");
	is($server->sql('SELECT error = ' . quote($a->{error}) . ' AND hint = ' . quote($a->{hint}) . ' FROM dmshook.dead_letters WHERE webhook = ' . quote($name)), 't', "$name: a dead letter that says so");
}

sub worked
{
	my ($a, $status) = @_;
	is_deeply([ @$a{qw(outcome status error hint)} ], [ 'ok', $status // 200, undef, undef ], "$a->{webhook}: ok") or diag explain $a;
}

# ---- answers ----

my %path = (
	ok => '/ok', created => '/status/201', 'no content' => '/status/204', moved => '/redirect', forever => '/redirect/308', gone => '/gone', teapot => '/status/418', unauthorized => '/status/401',
	broken => '/status/500', away => '/status/503', chunked => '/chunked', nolength => '/nolength', continue => '/continue', early => '/early', binary => '/binary', big => '/big/300000',
	'big header' => '/header/20000', drip => '/drip/2/20', endless => '/endless', close => '/close', reset => '/reset', garbage => '/garbage', truncated => '/truncated', odd => '/status/299');
try_it($_, $receiver->url($path{$_})) for keys %path;
try_it('hang', $receiver->url('/hang'), timeout => '1s');
try_it('slow', $receiver->url('/slow/300'));
my $a = send_all();

worked($a->{$_}) for qw(ok chunked nolength continue early binary big drip endless slow), 'big header';
worked($a->{created}, 201);
worked($a->{'no content'}, 204);
worked($a->{odd}, 299);
like($a->{ok}{response_headers}, qr/^HTTP\/1\.1 200 .*content-length: \d+/is, 'response_headers');
is($a->{chunked}{response_body}, 'one two', 'a chunked body');
is($a->{nolength}{response_body}, "until the end\n", 'a body until the end of the connection');
like($a->{continue}{response_headers}, qr/200/, '100 Continue is not the answer');
is($a->{drip}{response_body}, 'd' x 20, 'a body in pieces');
cmp_ok($a->{slow}{first_byte_ms}, '>=', 290, 'first_byte_ms of a slow one');
is($server->sql(q{SELECT response_body = E'\uFFFD\uFFFD\uFFFDtext\uFFFD(' FROM dmshook.attempts WHERE webhook = 'binary'}), 't', 'bytes that are no text: replaced; a zero byte goes')
	or diag explain $a->{binary};
is($server->sql(q{SELECT response_headers ~ E'(?i)x-bytes: \uFFFD\uFFFD' FROM dmshook.attempts WHERE webhook = 'binary'}), 't', '... in headers, too');
is(length $a->{big}{response_body}, 16384, 'a big body is capped at dmshook.response_limit');
like($a->{endless}{response_body}, qr/^.{16384}$/s, 'one without an end, too');
cmp_ok(length $a->{'big header'}{response_headers}, '<=', 16384, 'headers are capped');
like($a->{'big header'}{response_headers}, qr/hhhhhhhh/, '... and there');

failed($a->{broken}, 'http_error', 500, qr/answered 500 Internal Server Error/, qr/response_body/);
failed($a->{away}, 'http_error', 503, qr/answered 503/, qr/overloaded/);
failed($a->{gone}, 'http_error', 410, qr/answered 410 Gone/, qr/new one/);
failed($a->{teapot}, 'http_error', 418, qr/answered 418/, qr/response_body/);
failed($a->{unauthorized}, 'http_error', 401, qr/answered 401 Unauthorized/, qr/auth/);
failed($a->{moved}, 'redirect', 302, qr{answered 302, a redirect to https://localhost:\d+/ok\.}, qr/not followed/);
failed($a->{forever}, 'redirect', 308, qr{answered 308, a redirect to}, qr/not followed/);
failed($a->{close}, 'protocol_error', undef, qr/without a response/, qr/webhook-id/);
failed($a->{reset}, 'connect_error', undef, qr/broke before the response/, qr/webhook-id/);
failed($a->{garbage}, 'protocol_error', undef, qr/not valid HTTP/, qr/port/);
failed($a->{truncated}, 'protocol_error', 200, qr/in the middle of its response/, qr/webhook-id/);
is($a->{truncated}{response_body}, "only ten\r\n", 'what came of it is there');
failed($a->{hang}, 'timeout', undef, qr/localhost did not answer within 1000 ms/, qr/option timeout/);
cmp_ok($a->{hang}{duration_ms}, '>=', 990, 'hang: it took its time');
is($a->{hang}{first_byte_ms}, undef, 'hang: no first byte');
like($a->{hang}{remote_address}, qr/^127\.0\.0\.1$/, 'hang: the address is known');
is((grep { $_->{path} eq '/ok' } $receiver->requests), 1, 'a redirect is not followed');
is($server->sql(q{SELECT state || ': ' || why FROM dmshook.webhooks WHERE name = 'broken'}), 'failing: The receiver answered 500 Internal Server Error.', 'webhooks.state and why');
forget();

# ---- what is logged of a response is a setting ----

$server->sql(q{ALTER SYSTEM SET dmshook.response_limit = 10});
$server->sql(q{SELECT pg_reload_conf()});
# the dispatcher reads it between two turns: asked until it has
$server->sql('SELECT 1 FROM dmshook.create_webhook(\'limit\', ' . quote($receiver->url('/big/5000')) . q{, '{vehicle.sold}')});
$server->wait_sql(q{SELECT length(response) FROM dmshook.test_webhook('limit')}, 10);
pass('dmshook.response_limit is heeded after a reload');
$server->sql(q{ALTER SYSTEM SET dmshook.response_limit = 0});
$server->sql(q{SELECT pg_reload_conf()});
$server->wait_sql(q{SELECT ok AND coalesce(length(response), 0) = 0 FROM dmshook.test_webhook('limit')});
pass('... and may be nothing');
$server->sql(q{ALTER SYSTEM RESET dmshook.response_limit});
$server->sql(q{SELECT pg_reload_conf()});
forget();

# ---- faults on the way ----

my %tls = map { $_ => DmshookTest::Receiver->new(cert => $_) } qw(expired wrong unknown self);
my $plain = DmshookTest::Receiver->new(plain => 1);
my $http = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die $!;
my $http_server = fork // die $!;
if ($http_server == 0)
{
	$SIG{TERM} = 'DEFAULT';   # Cluster.pm of 17 and later dies by it, and its END blocks stop the server
	# as web servers answer what is no HTTP
	while (my $connection = $http->accept)
	{
		sysread $connection, my $hello, 1000;
		syswrite $connection, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
	}
	POSIX::_exit(0);
}
my $mute = DmshookTest::Receiver->new(mute => 1);
my $old = DmshookTest::Receiver->new(tls => '1.2');
my $ended = DmshookTest::Receiver->new;
my $refused = $ended->url('/ok');
$ended->stop;
try_it("tls $_", $tls{$_}->url('/ok')) for keys %tls;
try_it('plain', 'https://localhost:' . $http->sockport . '/ok');
(my $waits = $plain->url('/ok')) =~ s/^http:/https:/;
try_it('plain that waits', $waits, connect_timeout => '1s');
try_it('mute', $mute->url('/ok'), connect_timeout => '1s', timeout => '10s');
try_it('tls 1.2', $old->url('/ok'));
try_it('refused', $refused);
try_it('no name', 'https://does-not-exist.invalid/ok', timeout => '10s');
try_it('private', 'https://10.1.2.3/ok');
try_it('metadata', 'https://169.254.169.254/latest');
try_it('by number', $receiver->url('/ok', '127.0.0.1'));
$a = send_all();

worked($a->{'tls 1.2'});
is($a->{'tls 1.2'}{tls_version}, 'TLSv1.2', 'tls_version');
worked($a->{'by number'});
failed($a->{'tls expired'}, 'tls_error', undef, qr/certificate of localhost has expired/, qr/renew/);
failed($a->{'tls wrong'}, 'tls_error', undef, qr/not for the name "localhost"/, qr/url/);
failed($a->{'tls unknown'}, 'tls_error', undef, qr/unknown authority/, qr/ca_certificate/);
failed($a->{'tls self'}, 'tls_error', undef, qr/self-signed/, qr/ca_certificate/);
failed($a->{plain}, 'tls_error', undef, qr/does not speak TLS/, qr/plain http/);
failed($a->{'plain that waits'}, 'timeout', undef, qr/TLS handshake/, qr/HTTPS port/);
failed($a->{mute}, 'timeout', undef, qr/TLS handshake with localhost.* was not done within 1000 ms/, qr/HTTPS port/);
failed($a->{refused}, 'connect_error', undef, qr/connection to localhost .*was refused/, qr/Nothing listens/);
failed($a->{'no name'}, $a->{'no name'}{outcome} eq 'timeout' ? 'timeout' : 'dns_error', undef, qr/"does-not-exist\.invalid"/, qr/name resolution|name servers/);
failed($a->{private}, 'blocked_address', undef, qr/10\.1\.2\.3 is not public/, qr/dmshook\.allowed_networks/);
failed($a->{metadata}, 'blocked_address', undef, qr/169\.254\.169\.254 is not public/, qr/dmshook\.allowed_networks/);
is($_->requests, 0, 'not a byte of HTTP to whom is not trusted') for values %tls, $plain;
for my $name ('tls expired', 'tls wrong')
{
	is($a->{$name}{remote_address}, '127.0.0.1', "$name: the address is known");
	ok(defined $a->{$name}{connect_ms} && !defined $a->{$name}{first_byte_ms}, "$name: how far it came is in the timings");
}
kill 'TERM', $http_server;
waitpid $http_server, 0;
forget();

# ---- an option for one, a setting for all ----

my $self = slurp_file(certs() . '/self.pem');
$server->sql('SELECT 1 FROM dmshook.create_webhook(\'own ca\', ' . quote($tls{self}->url('/ok')) . q{, '{vehicle.sold}', options => } . quote(JSON::PP->new->encode({ ca_certificate => $self })) . ')');
is($server->sql(q{SELECT ok, status FROM dmshook.test_webhook('own ca')}), 't|200', 'ca_certificate: a certificate of its own is trusted');
$server->sql(q{SELECT dmshook.alter_webhook('own ca', url => } . quote($receiver->url('/ok')) . ')');
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('own ca')}), 'f', '... and then no other');
forget();

try_it('loopback', $receiver->url('/ok'));
try_it('loopback by number', $receiver->url('/ok', '127.0.0.1'));
try_it('ipv6', 'https://[::1]:' . $receiver->port . '/ok');
my $before = $receiver->requests;
$server->sql(q{ALTER SYSTEM SET dmshook.allowed_networks = ''});
$server->sql(q{SELECT pg_reload_conf()});
$server->sql('SELECT 1 FROM dmshook.create_webhook(\'probe\', ' . quote($receiver->url('/status/204')) . q{, '{vehicle.added}')});
$server->wait_sql(q{SELECT NOT ok FROM dmshook.test_webhook('probe')});
$server->sql(q{SELECT dmshook.drop_webhook('probe')});
$a = send_all();
failed($a->{loopback}, 'blocked_address', undef, qr/"localhost" has the address (127\.0\.0\.1|::1), which is not public \(.*\)/, qr/superuser .*dmshook\.allowed_networks/);
failed($a->{'loopback by number'}, 'blocked_address', undef, qr/The address 127\.0\.0\.1 is not public/, qr/add 127\.0\.0\.1/);
failed($a->{ipv6}, 'blocked_address', undef, qr/The address ::1 is not public/, qr/add ::1/);
is((grep { $_->{path} eq '/ok' } $receiver->requests), (grep { $_->{path} eq '/ok' } ($receiver->requests)[0 .. $before - 1]), 'nothing went there, not on a kept connection either');
forget();

# ---- nothing that is said holds a secret ----

my $text = $server->sql(q{SELECT string_agg(concat_ws(' ', a.error, a.hint, a.url, a.request_headers, a.payload), ' ') FROM dmshook.attempts a})
  . $server->sql(q{SELECT string_agg(s::text, ' ') FROM dmshook.webhook_state s}) . $server->sql(q{SELECT string_agg(c::text, ' ') FROM dmshook.changes c})
  . $server->sql(q{SELECT string_agg(d::text, ' ') FROM dmshook.dead_letters d}) . slurp_file($server->node->logfile);
cmp_ok(scalar @all_secrets, '>', 60, 'secrets are looked for');
is(join(' ', grep { index($text, $_) >= 0 } @all_secrets), '', 'no error, hint, view or log line has one');
unlike($text, qr/whsec_/, 'nor anything that looks like one');
unlike(slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP/, 'the server is well');

done_testing();
