# The receiver and the verifiers themselves: a test that they let pass proves nothing otherwise.
use strict;
use warnings;

use DmshookTest;
use Digest::SHA qw(hmac_sha256_base64);
use HTTP::Tiny;
use MIME::Base64;
use Test::More;
use Time::HiRes qw(time);

my $secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
my $receiver = DmshookTest::Receiver->new(plain => 1, secrets => [$secret]);
my $http = HTTP::Tiny->new(timeout => 5, keep_alive => 1, max_redirect => 0);

sub post
{
	my ($path, $body, %headers) = @_;
	return $http->post($receiver->url($path, '127.0.0.1'), { content => $body // '{}', headers => \%headers });
}

sub signed
{
	my ($id, $at, $body) = @_;
	my $signature = hmac_sha256_base64("$id.$at.$body", decode_base64(substr $secret, 6));
	$signature .= '=' while length($signature) % 4;
	return ('webhook-id' => $id, 'webhook-timestamp' => $at, 'webhook-signature' => "v1,$signature");
}

# the public vector, and what must be refused
my %vector = (
	'webhook-id' => 'msg_p5jXN8AQM9LWM0D4loKWxJek',
	'webhook-timestamp' => '1614265330',
	'webhook-signature' => 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
my $body = '{"test": 2432232314}';
my $then = 1614265330;
my @cases = (
	[ 'the public vector', {%vector}, $body, $then, qr/^ok$/ ],
	[ 'the same among others', { %vector, 'webhook-signature' => "v1,AAAA v2,xx $vector{'webhook-signature'}" }, $body, $then, qr/^ok$/ ],
	[ 'another body', {%vector}, '{"test": 2432232315}', $then, qr/^failed/ ],
	[ 'a part of the signature', { %vector, 'webhook-signature' => substr($vector{'webhook-signature'}, 0, 11) }, $body, $then, qr/^failed/ ],
	[ 'no signature', { %vector, 'webhook-signature' => 'v1,' }, $body, $then, qr/^failed/ ],
	[ '301 s later', {%vector}, $body, $then + 301, qr/^failed/ ],
	[ '301 s earlier', {%vector}, $body, $then - 301, qr/^failed/ ]);
my $results = verify($secret, map { { headers => $_->[1], body => $_->[2], now => $_->[3] } } @cases);
for my $i (0 .. $#cases)
{
	like($results->[$i]{$_}, $cases[$i][4], "$_: $cases[$i][0]") for qw(standardwebhooks svix);
}

# what the paths promise
is(post('/ok')->{status}, 200, '/ok');
is(post('/status/418')->{status}, 418, '/status');
is(post('/gone')->{status}, 410, '/gone');
is(post('/redirect')->{status}, 302, '/redirect');
is(join(' ', map { post('/fail/2/502', '{}', 'webhook-id' => 'a')->{status} } 1 .. 3), '502 502 200', '/fail counts');
is(post('/fail/2/502', '{}', 'webhook-id' => 'b')->{status}, 502, '... each message');
is(post('/switch/x')->{status}, 500, '/switch');
$receiver->set('x', 204);
is(post('/switch/x')->{status}, 204, '... is switched');
is(length post('/big/100000')->{content}, 100000, '/big');
is(length post('/header/3000')->{headers}{'x-big'}, 3000, '/header');
is(post('/retry-after/Wed%2C%2021%20Oct/429')->{headers}{'retry-after'}, 'Wed, 21 Oct', '/retry-after');
is(post('/chunked')->{content}, 'one two', '/chunked');
is(post('/nolength')->{content}, "until the end\n", '/nolength');
is(post('/drip/1/10')->{content}, 'd' x 10, '/drip');
is(post('/early')->{status}, 200, '/early');
is(post('/continue')->{status}, 200, '/continue');
is(post('/echo', 'abc')->{content}, 'abc', '/echo');
is(post($_)->{status}, 599, $_) for qw(/close /reset /garbage /truncated);
my $begin = time;
is(post('/slow/300')->{status}, 200, '/slow');
cmp_ok(time - $begin, '>=', 0.3, '... is slow');
$http->timeout(1);
is(post('/hang')->{status}, 599, '/hang');
my $got = 0;
$http->post($receiver->url('/endless', '127.0.0.1'), { content => '', data_callback => sub { $got += length $_[0]; die if $got > 100000; } });
cmp_ok($got, '>', 100000, '/endless');

# what it keeps
$receiver->clear;
my $text = "{\"name\": \"J\xc3\xbcrgen \\u0001 \\\"x\\\"\"}";
post('/ok/here?a=b', $text, signed('msg_1', int time, $text), 'X-Thing' => 'y');
post('/ok/here', "\xff\0x", signed('msg_2', int time, "\xff\0y"));
my ($first, $second) = $receiver->wait_for(2, sub { $_->{path} =~ m{^/ok/here} });
is_deeply([ @$first{qw(method path status signature)}, $first->{headers}{'x-thing'} ], [ 'POST', '/ok/here?a=b', 200, 'ok', 'y' ], 'a request is kept');
utf8::encode(my $kept = $first->{body});
is($kept, $text, '... with its body');
is($second->{body}, "\xff\0x", '... also when it is no text');
is($second->{signature}, 'bad', 'a wrong signature is seen');
cmp_ok(abs($first->{at} / 1e6 - time), '<', 10, 'time of arrival');
my $stats = $receiver->stats;
is($stats->{'path./ok/here.ok'}, 2, 'counts by path');
is_deeply([ @$stats{qw(requests status.200 signature.ok signature.bad)} ], [ 2, 2, 1, 1 ], 'counts');

# TLS: each certificate is what its name says
my %expected = (good => 0, wrong => 62, expired => 10, unknown => 21, self => 18);
for my $cert (sort keys %expected)
{
	my $tls = DmshookTest::Receiver->new(cert => $cert);
	my $ca = certs() . '/ca.pem';
	my $out = qx{openssl s_client -connect 127.0.0.1:$tls->{port} -servername localhost -verify_hostname localhost -CAfile $ca </dev/null 2>&1};
	like($out, qr/Verify return code: $expected{$cert} /, "certificate $cert");
}

# stopped and started at the same port
my $port = $receiver->port;
$receiver->stop;
is(post('/ok')->{status}, 599, 'stopped');
$receiver->start;
is($receiver->port, $port, 'the same port again');
is(post('/ok')->{status}, 200, 'started');

done_testing();
