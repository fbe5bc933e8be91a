# Who we are to the receiver: OAuth 2.0 client credentials, client certificates; and that no other host gets any of it.
use strict;
use warnings;

use DmshookTest;
use JSON::PP;
use List::Util qw(uniq);
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;

my $server = DmshookTest->new('main');
my $receiver = DmshookTest::Receiver->new;		# token endpoint, too, by another name
my $elsewhere = DmshookTest::Receiver->new;
my $secret = 's3cret/of+the %client:&=';		# all that may go wrong in a header or a form
my $certs = certs();
my $dir = PostgreSQL::Test::Utils::tempdir;
my $quick = '"backoff": {"intervals": ["100ms"], "jitter": 0}, "breaker": null';

sub json { my ($text) = @_; $text =~ s/(["\\])/\\$1/g; $text =~ s/\n/\\n/g; return "\"$text\""; }
sub json_object { my (%member) = @_; return '{' . join(', ', map { json($_) . ': ' . json($member{$_}) } sort keys %member) . '}'; }

# auth of a client at the token endpoint PATH
sub oauth
{
	my ($path, %more) = @_;
	return json_object(kind => 'oauth2', token_url => $receiver->url($path, '127.0.0.1'), client_id => 'dms client', client_secret => $secret, %more);
}

# A webhook that is sent vehicle.NAME
sub create
{
	my ($name, $url, $auth, %more) = @_;
	$server->sql("SELECT dmshook.define_event_type('vehicle.$name', 'vehicle', 'a test')");
	$server->sql(sprintf q{SELECT count(*) FROM dmshook.create_webhook(%s, %s, %s, auth => %s, enabled => true, options => %s, method => %s)},
		map { quote($_) } $name, $url, "{vehicle.$name}", $auth, '{' . ($more{options} // $quick) . '}', $more{method} // 'POST');
}

# N events for it
sub emit
{
	my ($name, $n) = @_;
	$server->sql(sprintf q{SELECT count(dmshook.emit('vehicle.%s', 'vehicle', jsonb_build_object('id', i), '{}')) FROM generate_series(1, %d) i}, $name, $n // 1);
}

# How many of it are in a state
sub ended
{
	my ($name, $state, $n) = @_;
	$server->wait_sql("SELECT count(*) FROM dmshook.deliveries WHERE webhook = '$name' AND state = '$state'", $n);
}

sub got { my ($path) = @_; return $receiver->requests(sub { $_[0]{path} =~ /^\Q$path\E(\?|$)/ }); }
sub attempts { my ($name) = @_; return $server->rows("SELECT outcome, status, error, hint, attempt FROM dmshook.attempts WHERE webhook = '$name' ORDER BY id"); }
sub try_it { my ($name) = @_; return ($server->rows("SELECT ok, status, error, hint FROM dmshook.test_webhook('$name')"))[0]; }

#
# One token for many, asked for once
#
create('many', $receiver->url('/protected/many'), oauth('/token/many/3600/300', scope => 'a:read b', audience => 'https://receiver/'),
	options => "$quick, \"max_in_flight\": 20");
emit('many', 60);
ended('many', 'delivered', 60);
my @asked = got('/token/many/3600/300');
is(scalar @asked, 1, 'sixty deliveries at once asked for one token');
is($asked[0]{method}, 'POST', 'token request: method');
is($asked[0]{headers}{'content-type'}, 'application/x-www-form-urlencoded', 'token request: content type');
is($asked[0]{headers}{accept}, 'application/json', 'token request: accept');
is($asked[0]{body}, 'grant_type=client_credentials&scope=a%3Aread%20b&audience=https%3A%2F%2Freceiver%2F', 'token request: body');
my @basic = split /:/, decode_base64($asked[0]{headers}{authorization} =~ s/^Basic //r), -1;
is_deeply([ map { s/%([0-9A-F]{2})/chr hex $1/ger } @basic ], [ 'dms client', $secret ], 'token request: id and secret, form-encoded, in the header');
ok(!(grep { /^(webhook|dmshook)-/ } keys %{ $asked[0]{headers} }), 'token request: nothing of a delivery');
is_deeply([ uniq map { $_->{headers}{authorization} } got('/protected/many') ], ['Bearer many.1'], 'all carried it');
is($server->sql(q{SELECT string_agg(DISTINCT request_headers->>'authorization', ',') FROM dmshook.attempts WHERE webhook = 'many'}), 'Bearer ***', 'attempts mask it');

# a 401 renews once, for all that met it, and burns no attempt
$receiver->revoke('many');
emit('many', 40);
ended('many', 'delivered', 100);
is(scalar got('/token/many/3600/300'), 2, 'revoked: one more token');
is($server->sql(q{SELECT count(*), count(*) FILTER (WHERE status = 200 AND attempt = 1) FROM dmshook.attempts WHERE webhook = 'many'}), '100|100', 'revoked: no attempt was burnt');
ok((grep { $_->{status} == 401 } got('/protected/many')) > 0, 'revoked: the receiver did refuse');
is_deeply(try_it('many'), { ok => JSON::PP::true, status => 200, error => undef, hint => 'It works.' }, 'a test uses the token');
is(scalar got('/token/many/3600/300'), 2, 'a test asks for none of its own');

# again, where body and query are made for the request
$server->sql(q{CREATE FUNCTION made(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('made', $1->'data'->'key'->'id') $$});
create('made', $receiver->url('/protected/made'), oauth('/token/made'), options => "$quick, \"transform\": \"public.made\"");
create('query', $receiver->url('/protected/query?a=b'), oauth('/token/query'), method => 'GET');
for my $round (1 .. 2)
{
	emit($_, 2) for qw(made query);
	ended($_, 'delivered', 2 * $round) for qw(made query);
	$receiver->revoke($_) for qw(made query);
}
is_deeply([ sort map { $_->{body} } grep { $_->{status} == 200 } got('/protected/made') ], [ ('{"made": 1}') x 2, ('{"made": 2}') x 2 ], 'renewed: bodies of a transform');
is(scalar(grep { $_->{status} == 200 && $_->{path} =~ m{^/protected/query\?a=b&id=msg_} } got('/protected/query')), 4, 'renewed: query strings');

# in the body, where the server wants it there
create('body', $receiver->url('/protected/body'), oauth('/token/body', client_auth => 'body'));
emit('body');
ended('body', 'delivered', 1);
my ($in_body) = got('/token/body');
is($in_body->{headers}{authorization}, undef, 'client_auth body: no header');
my %form = map { s/%([0-9A-F]{2})/chr hex $1/ger } map { split /=/, $_, 2 } split /&/, $in_body->{body};
is_deeply(\%form, { grant_type => 'client_credentials', client_id => 'dms client', client_secret => $secret }, 'client_auth body: the form');

# until shortly before it ends
create('short', $receiver->url('/protected/short'), oauth('/token/short/1'));
DmshookTest::poll_until(sub { emit('short'); got('/token/short/1') >= 3 }, 'waited for a third token');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.deliveries WHERE webhook = 'short' AND state <> 'delivered'});
my @at = map { $_->{at} } got('/token/short/1');
ok($at[$_] - $at[ $_ - 1 ] > 700_000, 'a token of a second was used for four fifths of it') for 1, 2;

#
# What fails at the token endpoint
#
$receiver->set_token('dead', 401);
create('dead', $receiver->url('/protected/dead'), oauth('/token/dead'), options => "$quick, \"max_attempts\": 2");
emit('dead', 20);
ended('dead', 'exhausted', 20);
cmp_ok(scalar got('/token/dead'), '<=', 4, 'twenty deliveries, two attempts each: the token endpoint was asked a few times');
is(scalar got('/protected/dead'), 0, 'and the receiver not at all');
my ($failed, @others) = attempts('dead');
is(scalar @others, 39, 'each is an attempt');
is($failed->{outcome}, 'http_error', 'refused: outcome');
is($failed->{status}, undef, 'refused: the receiver gave no status');
is($failed->{error}, 'No access token: the token endpoint at 127.0.0.1 answered 401 (invalid_client: The client is unknown).', 'refused: error');
like($failed->{hint}, qr/client_id and client_secret/, 'refused: hint');
$receiver->set_token('dead', 400);
my $echo = try_it('dead');
is($echo->{error}, 'No access token: the token endpoint at 127.0.0.1 answered 400 (invalid_client: Basic *** grant_type=client_credentials).', 'a server that repeats the secret: it is masked');
$receiver->set_token('dead', 200);
is(try_it('dead')->{ok}, JSON::PP::true, 'a test asks at once, also shortly after failures');

# a receiver that refuses every token gets a second, and no third
create('scope', $receiver->url('/status/401'), oauth('/token/scope'), options => "$quick, \"max_attempts\": 1");
emit('scope', 3);
ended('scope', 'exhausted', 3);
emit('scope', 3);
ended('scope', 'exhausted', 6);
is(scalar got('/token/scope'), 2, 'always 401: two tokens');
is($server->sql(q{SELECT count(*), count(*) FILTER (WHERE status = 401) FROM dmshook.attempts WHERE webhook = 'scope'}), '6|6', 'always 401: these are failed attempts');
like((attempts('scope'))[0]{hint}, qr/refuses a new access token, too: check scope/, 'always 401: hint');

my $gone = DmshookTest::Receiver->new;
my $gone_url = $gone->url('/token/x');
$gone->stop;
for (
	[ 'refuses', $gone_url, 'connect_error', qr/^No access token from localhost\. .*refused/, qr/token endpoint that fails, not the receiver/ ],
	[ 'blocked', 'https://10.1.2.3/token', 'blocked_address', qr/^No access token from 10\.1\.2\.3\./, qr/allowed_networks/ ],
	[ 'hangs', $receiver->url('/hang'), 'timeout', qr/^No access token from localhost\. .*within 400 ms/, qr/token endpoint that fails/ ],
	[ 'moved', $receiver->url('/redirect/302/' . $elsewhere->port), 'redirect', qr/redirect to https:\/\/localhost/, qr/Redirects are not followed: set token_url/ ],
	[ 'text', $receiver->url('/ok'), 'protocol_error', qr/answered 200 with something else than a JSON object/, qr/token_url/ ],
	[ 'endless', $receiver->url('/big/3000000'), 'protocol_error', qr/something else than a JSON object/, qr/token_url/ ],
	[ 'missing', $receiver->url('/nowhere'), 'http_error', qr/localhost answered 404\./, qr/Check token_url/ ])
{
	my ($name, $url, $outcome, $error, $hint) = @$_;
	create($name, $receiver->url("/ok/$name"), json_object(kind => 'oauth2', token_url => $url, client_id => 'c', client_secret => $secret), options => "$quick, \"timeout\": \"400ms\"");
	my $result = try_it($name);
	is((attempts($name))[0]{outcome}, $outcome, "token endpoint $name: outcome");
	like($result->{error}, $error, "token endpoint $name: error");
	like($result->{hint}, $hint, "token endpoint $name: hint");
	is(scalar got("/ok/$name"), 0, "token endpoint $name: the receiver got nothing");
}

# nor does one that tells what it was sent get the token into the log
create('mirror', $receiver->url('/mirror'), oauth('/token/mirror'));
ok(try_it('mirror')->{ok}, 'a receiver that repeats the token');
is($server->sql(q{SELECT count(*), count(*) FILTER (WHERE response_body LIKE '%Bearer ***%' AND NOT a::text LIKE '%mirror.1%') FROM dmshook.attempts a WHERE webhook = 'mirror'}), '1|1', 'it is masked');

# a receiver that redirects takes the token nowhere
create('redirects', $receiver->url('/redirect/302/' . $elsewhere->port), oauth('/token/redirects'));
is(try_it('redirects')->{status}, 302, 'a receiver that redirects: 302');
is(scalar $elsewhere->requests, 0, 'nothing went to where the token endpoint and the receiver pointed');

my $log = slurp_file($server->node->logfile);
my %form_of = (plain => $secret, encoded => $secret =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger);
$form_of{base64} = encode_base64("dms%20client:$form_of{encoded}", '');
for my $form (sort keys %form_of)
{
	is(index($log, $form_of{$form}), -1, "the log has no secret, $form");
	is($server->sql('SELECT count(*) FROM dmshook.attempt a WHERE strpos(a::text, ' . quote($form_of{$form}) . ') > 0'), 0, "attempts have no secret, $form");
}
is($server->sql(q{SELECT count(*) FROM dmshook.attempt a WHERE a::text LIKE '%many.1%'}), 0, 'attempts have no token');

#
# Client certificates
#
# issue NAME CN DAYS
sub issue
{
	my ($name, $cn, $days) = @_;
	system_or_bail('openssl', 'req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', "$dir/$name.key", '-subj', "/CN=$cn", '-out', "$dir/$name.csr");
	system_or_bail('openssl', 'x509', '-req', '-in', "$dir/$name.csr", '-CA', "$certs/ca.pem", '-CAkey', "$certs/ca.key", '-set_serial', '0x' . unpack('H*', $name), '-days', $days, '-out', "$dir/$name.pem");
}
sub mtls { my ($base) = @_; return json_object(kind => 'mtls', certificate => slurp_file("$base.pem"), key => slurp_file("$base.key")); }

issue('second', 'second client', 5);
my $asks = DmshookTest::Receiver->new(client_ca => "$certs/ca.pem", client_optional => 1);
my $wants = DmshookTest::Receiver->new(client_ca => "$certs/ca.pem");
my %auth = (first => mtls("$certs/client"), second => mtls("$dir/second"), none => '{"kind": "none"}');
my %client = (first => 'client', second => 'second client', none => '');
chomp(my $libcurl = `pkg-config --modversion libcurl`);
for my $path (qw(ok drop))
{
	# the same receiver for all three; after /drop each request makes a connection, and resumes a session where it can
	create("$path$_", $asks->url("/$path/$_"), $auth{$_}, options => "$quick, \"max_in_flight\": 2, \"max_attempts\": 8") for qw(first second none);
	for my $round (1 .. 4)
	{
		$server->sql(join ';', map { "SELECT count(dmshook.emit('vehicle.$path$_', 'vehicle', jsonb_build_object('id', i), '{}')) FROM generate_series(1, 5) i" } qw(first second none));
		ended("$path$_", 'delivered', 5 * $round) for qw(first second none);
	}
	for my $name (qw(first second none))
	{
		my @requests = $asks->requests(sub { $_[0]{path} eq "/$path/$name" });
		is_deeply([ uniq map { $_->{client} } @requests ], [ $client{$name} ], "/$path, $name: each request came under its own certificate");
		ok((uniq map { $_->{connection} } @requests) < @requests, "/$path, $name: connections were used again") if $path eq 'ok';
		next if $path ne 'drop';
	SKIP:
		{
			# a bare client of libcurl 8.23 does not either, with a certificate; without one it does
			skip "libcurl $libcurl resumes no sessions that were made with a client certificate", 1 if $name ne 'none' && $libcurl =~ /^8\.(\d+)/ && $1 >= 8;
			ok((grep { $_->{resumed} } @requests) > 0, "/$path, $name: sessions were resumed");
		}
	}
}

# another certificate counts for the next request
$server->sql('SELECT dmshook.alter_webhook(\'okfirst\', auth => ' . quote($auth{second}) . ')');
$server->wait_sql(q{SELECT (dmshook.test_webhook('okfirst')).ok});
is(($asks->requests(sub { $_[0]{path} eq '/ok/first' }))[-1]{client}, 'second client', 'altered: the new certificate');

create('required', $wants->url('/ok'), $auth{first});
ok(try_it('required')->{ok}, 'a receiver that requires a certificate');
create('without', $wants->url('/ok'), $auth{none});
# its alert may be overtaken by the end of the connection: then the error is another, now and then
my $without;
poll_until(sub { $without = try_it('without'); $without->{error} !~ /Broken pipe|ended the connection|connection .* broke/ }, 'waited for an alert');
ok(!$without->{ok}, 'the same, without one');
like($without->{hint}, qr/client certificate/, 'without one: hint');
create('unknown', $wants->url('/ok'), mtls("$certs/unknown"));
my $unknown;
poll_until(sub { $unknown = try_it('unknown'); $unknown->{error} !~ /Broken pipe|ended the connection|connection .* broke/ }, 'waited for an alert');
like($unknown->{error}, qr/refused the client certificate: .*unknown ca/, 'of an unknown authority: error');
like($unknown->{hint}, qr/authority/, 'of an unknown authority: hint');
ok(!(grep { $_->{client} ne 'client' } $wants->requests), 'the receiver has seen no request without its certificate');

is($server->sql(q{SELECT string_agg(webhook, ',' ORDER BY webhook) FROM dmshook.health WHERE certificate_expires_at BETWEEN now() + interval '4 days' AND now() + interval '6 days'}),
	'dropsecond,okfirst,oksecond', 'health: when certificates end');
is($server->sql(q{SELECT string_agg(subject, ',' ORDER BY subject) FROM dmshook.check() WHERE level = 'warning' AND problem ~ '^its client certificate expires at'}),
	'dropsecond,okfirst,oksecond', 'check() warns of those that end within two weeks');

done_testing();
