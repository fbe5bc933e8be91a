# What goes over the wire: methods, headers, bodies, query strings, signatures, credentials; and that the views show that very thing.
use strict;
use warnings;
use utf8;

use DmshookTest;
use Encode qw(decode encode);
use JSON::PP;
use List::Util qw(first);
use MIME::Base64;
use Test::More;
use Time::HiRes qw(time);

my $server = DmshookTest->new('wire');
my $receiver = DmshookTest::Receiver->new;
my @everyday = qw(host user-agent accept webhook-id webhook-timestamp webhook-signature dmshook-event dmshook-webhook dmshook-attempt);
my $message_id = qr/^msg_[0-9A-Za-z]{22}$/;

# SQL in UTF-8, answers as characters
sub sql { return decode('UTF-8', $server->sql(encode('UTF-8', $_[0]))); }
sub rows { return @{ JSON::PP->new->decode(sql("SELECT coalesce(json_agg(r), '[]') FROM ($_[0]) r")) }; }

# A webhook that is enabled; its signing secret.
sub webhook
{
	my ($name, $url, %more) = @_;
	my $more = join '', map { ", $_ => " . quote($more{$_}) } sort keys %more;
	return sql('SELECT signing_secret FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($url)
		  . ", '{vehicle.sold}', enabled => true$more)");
}

sub percent_decoded
{
	my ($text) = @_;
	$text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
	return decode('UTF-8', $text, Encode::FB_CROAK);
}

# Requests to a path, without its query.
sub to
{
	my ($path, $n) = @_;
	return $receiver->wait_for($n // 1, sub { $_[0]{path} =~ /^\Q$path\E(\?|$)/ });
}

sub logged
{
	my ($webhook) = @_;
	my $name = quote($webhook);
	$server->wait_sql(encode('UTF-8', "SELECT count(*) > 0 FROM dmshook.deliveries WHERE webhook = $name AND state = 'delivered'"));
	return (rows("SELECT * FROM dmshook.attempts WHERE webhook = $name ORDER BY id"))[0];
}

sub verified
{
	my ($secret, $request, $what) = @_;
	is_deeply(verify($secret, $request), [ { standardwebhooks => 'ok', svix => 'ok' } ], "$what: the signature, by libraries that are not ours");
	my %forged = (%$request, body => "$request->{body} ");
	like(verify($secret, \%forged)->[0]{standardwebhooks}, qr/^failed/, "$what: it is of this body");
}

sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text, make text, price numeric, branch text, note text);
	SELECT count(*) FROM dmshook.watch_vehicle('vehicle', tenant_column => 'branch')});

# ---- each method ----

my %secret;
$secret{$_} = webhook("by $_", $receiver->url('/ok/' . lc $_), method => $_) for qw(POST PUT PATCH GET DELETE);
$secret{'GET?'} = webhook('has a query', $receiver->url('/ok/query?site=12&x=a%20b'), method => 'GET');
$secret{'POST?'} = webhook('has a query and a body', $receiver->url('/ok/body?site=12'));
$secret{'GET/'} = webhook('ends in a question mark', $receiver->url('/ok/mark?'), method => 'GET');
$server->wait_sql(q{SELECT state = 'running' FROM dmshook.dispatchers});

my $begin = time;
sql(q{BEGIN; SET LOCAL dmshook."user" = 'jürgen "J" müller'; SET LOCAL TimeZone = 'Asia/Kolkata'; SET application_name = 'dms-web';
	INSERT INTO vehicle VALUES (42, 'sold', 'Citroën "DS"', 16995.50, 'Köln', E'line\nbreak\ttab \\\\ back 🚗 </script>'); COMMIT});
my ($event) = rows(q{SELECT * FROM dmshook.events WHERE event_type = 'vehicle.sold'});

my %body;
for my $method (qw(POST PUT PATCH))
{
	my ($r) = to('/ok/' . lc $method);
	my $a = logged("by $method");
	is($r->{method}, $method, "$method");
	is_deeply([ sort keys %{ $r->{headers} } ], [ sort @everyday, 'content-type', 'content-length' ], "$method: these headers and no others");
	is($r->{headers}{'content-type'}, 'application/json', "$method: content-type");
	is($r->{headers}{'content-length'}, length encode('UTF-8', $r->{body}), "$method: content-length");
	verified($secret{$method}, $r, $method);
	is($a->{payload}, $r->{body}, "$method: attempts.payload is the body, byte for byte");
	is((rows("SELECT payload FROM dmshook.deliveries WHERE webhook = 'by $method'"))[0]{payload}, $r->{body}, "$method: so is deliveries.payload");
	is("$a->{method} $a->{url}", "$method " . $receiver->url('/ok/' . lc $method), "$method: in the log with its URL");
	$body{ $r->{body} }++;
}
is_deeply([ values %body ], [3], 'one body for all');

my ($post) = to('/ok/post');
my $sent = JSON::PP->new->decode($post->{body});
my $h = $post->{headers};
is($h->{'user-agent'}, 'dmshook/0.1', 'user-agent');
like($h->{host}, qr/^localhost:\d+$/, 'host');
like($h->{'webhook-id'}, $message_id, 'webhook-id');
like($h->{'webhook-timestamp'}, qr/^\d{10}$/, 'webhook-timestamp');
cmp_ok($h->{'webhook-timestamp'}, '>=', int($begin), 'it is of now');
cmp_ok($h->{'webhook-timestamp'}, '<=', time, 'and not later');
like($h->{'webhook-signature'}, qr{^v1,[A-Za-z0-9+/]{43}=$}, 'webhook-signature');
is($h->{'dmshook-event'}, 'vehicle.sold', 'dmshook-event');
is($h->{'dmshook-webhook'}, 'by POST', 'dmshook-webhook');
is($h->{'dmshook-attempt'}, 1, 'dmshook-attempt');
ok(!exists $h->{'dmshook-test'} && !exists $sent->{test}, 'not marked as a test');

like($post->{body}, qr/^\{"id":"msg_\w{22}","type":"vehicle\.sold","version":1,"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z","sequence":\d+,"source":\{/, 'the envelope begins so');
is($sent->{id}, $h->{'webhook-id'}, 'id is webhook-id');
is($sent->{id}, $event->{message_id}, '... and the message id that the views show');
is($sent->{sequence}, $event->{sequence}, 'sequence');
is_deeply($sent->{source}, { database => 'postgres', schema => 'public', table => 'vehicle' }, 'source');
is($sent->{tenant}, 'Köln', 'tenant');
is_deeply($sent->{user}, { name => 'jürgen "J" müller', role => sql('SELECT current_user'), application => 'dms-web' }, 'user');
is_deeply([ sort keys %$sent ], [ sort qw(id type version timestamp sequence source tenant user data) ], 'and nothing else');
is_deeply($sent->{data}{key}, { id => 42 }, 'key');
is($sent->{data}{entity}, 'vehicle', 'entity');
is_deeply($sent->{data}{record}, { id => 42, status => 'sold', make => 'Citroën "DS"', price => 16995.50, branch => 'Köln', note => "line\nbreak\ttab \\ back 🚗 </script>" }, 'record');
like($post->{body}, qr/"price":16995\.50[,}]/, 'a number as PostgreSQL writes it');

# ---- without a body ----

for my $method (qw(GET DELETE))
{
	my ($r) = to('/ok/' . lc $method);
	my $a = logged("by $method");
	is($r->{method}, $method, "$method");
	is_deeply([ sort keys %{ $r->{headers} } ], [ sort @everyday ], "$method: these headers and no others");
	is($r->{body}, '', "$method: no body");
	verified($secret{$method}, $r, $method);
	my ($path, $query) = split /\?/, $r->{path}, 2;
	my @pairs = map { [ map { percent_decoded($_) } split /=/, $_, 2 ] } split /&/, $query;
	is(join(' ', map { $_->[0] } @pairs), 'id type timestamp sequence entity key', "$method: what the query string has");
	my %value = map { @$_ } @pairs;
	is($value{$_}, $sent->{$_}, "$method: $_ in the query string") for qw(type timestamp sequence);
	is($value{id}, $r->{headers}{'webhook-id'}, "$method: id in the query string");
	is($value{id}, $sent->{id}, "$method: the same for all webhooks");
	is($value{entity}, 'vehicle', "$method: entity in the query string");
	is_deeply(JSON::PP->new->decode($value{key}), { id => 42 }, "$method: key in the query string");
	is($a->{url}, $receiver->url($r->{path}), "$method: attempts.url has it, too");
	is($a->{payload}, undef, "$method: no payload in the log");
	is((rows("SELECT payload FROM dmshook.deliveries WHERE webhook = 'by $method'"))[0]{payload}, undef, "$method: nor of the delivery");
}

my ($with_query) = to('/ok/query');
like($with_query->{path}, qr{^/ok/query\?site=12&x=a%20b&id=msg_\w{22}&type=vehicle\.sold&timestamp=}, 'a URL that has a query: ours is added');
is(logged('has a query')->{url}, $receiver->url($with_query->{path}), '... in the log likewise');
verified($secret{'GET?'}, $with_query, 'a URL with a query');
my ($query_and_body) = to('/ok/body');
is($query_and_body->{path}, '/ok/body?site=12', 'with a body the URL stays as it is');
is($query_and_body->{body}, $post->{body}, '... and the body the same');
my ($mark) = to('/ok/mark');
like($mark->{path}, qr{^/ok/mark\?&?id=msg_\w{22}&type=}, 'a URL that ends in a question mark gets no second one');
is(logged('ends in a question mark')->{url}, $receiver->url($mark->{path}), '... in the log likewise');
sql('SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks');

# ---- keys and types that need encoding ----

$secret{odd} = webhook('Büro "Süd" 50% für ✓', $receiver->url('/ok/odd'), method => 'GET');
my $odd = '{"vin": "A&B=c d/é?#+%41", "n": 12345678901234567890.50}';
my $id = sql("SELECT dmshook.emit('vehicle.sold', 'vehicle', '$odd', '{}')");
my ($r) = to('/ok/odd');
my %value = map { split /=/, $_, 2 } split /&/, ($r->{path} =~ /\?(.*)/)[0];
is($value{id}, $id, 'emit() returns the message id');
unlike($r->{path}, qr/[^!-~]|[ "<>]/, 'a query string has ASCII only, and nothing that needs encoding');
is_deeply(JSON::PP->new->allow_bignum->decode(percent_decoded($value{key}))->{vin}, 'A&B=c d/é?#+%41', 'a key with all that is special in a URL');
like(percent_decoded($value{key}), qr/12345678901234567890\.50/, '... and a number beyond 2^53');
verified($secret{odd}, $r, 'odd key');
is(percent_decoded($r->{headers}{'dmshook-webhook'}), 'Büro "Süd" 50% für ✓', 'a name beyond ASCII is percent-encoded');
unlike($r->{headers}{'dmshook-webhook'}, qr/[^ -~]/, '... entirely');
is($r->{headers}{'dmshook-webhook'}, 'B%C3%BCro "S%C3%BCd" 50%25 f%C3%BCr %E2%9C%93', '... and no more than that');
is((first { 1 } rows('SELECT name FROM dmshook.webhooks'))->{name}, 'Büro "Süd" 50% für ✓', 'people see the name');
sql('SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks');

# ---- credentials and custom headers ----

my %auth = (
	none => [ '{"kind": "none"}', undef, undef ],
	basic => [ '{"kind": "basic", "username": "dealer", "password": "s3cret:Grün"}', 'authorization', 'Basic ' . encode_base64(encode('UTF-8', 'dealer:s3cret:Grün'), '') ],
	bearer => [ '{"kind": "bearer", "token": "tok.en-~+/=="}', 'authorization', 'Bearer tok.en-~+/==' ],
	key => [ '{"kind": "api_key", "header": "X-Dealer-Key", "key": "k3y k3y"}', 'x-dealer-key', 'k3y k3y' ]);
webhook("auth $_", $receiver->url("/ok/auth-$_"), auth => $auth{$_}[0]) for keys %auth;
webhook('headers', $receiver->url('/ok/headers'), headers => '{"X-Site": "north 40", "X-Trace-Id": "c0ffee", "Accept-Language": "de, en;q=0.5"}',
	auth => '{"kind": "bearer", "token": "both"}');
sql("INSERT INTO vehicle VALUES (43, 'sold', 'Kia')");
for my $kind (sort keys %auth)
{
	my ($request) = to("/ok/auth-$kind");
	my (undef, $header, $wanted) = @{ $auth{$kind} };
	is_deeply([ sort grep { $_ !~ /^content-/ } keys %{ $request->{headers} } ], [ sort @everyday, $header // () ], "auth $kind: headers");
	is($request->{headers}{$header}, $wanted, "auth $kind: its value") if $header;
	my $a = logged("auth $kind");
	is($a->{request_headers}{$header}, $kind eq 'key' ? '***' : ucfirst($kind) . ' ***', "auth $kind: masked in the log") if $header;
}
my ($custom) = to('/ok/headers');
is_deeply({ map { $_ => $custom->{headers}{$_} } qw(x-site x-trace-id accept-language authorization) },
	{ 'x-site' => 'north 40', 'x-trace-id' => 'c0ffee', 'accept-language' => 'de, en;q=0.5', authorization => 'Bearer both' }, 'custom headers');
is_deeply([ sort keys %{ $custom->{headers} } ], [ sort @everyday, qw(content-type content-length x-site x-trace-id accept-language authorization) ], '... and no others');

# what the log says that was sent is what was sent, but for what is masked
my $a = logged('headers');
my %shown = %{ $a->{request_headers} };
my %real = map { $_ => $custom->{headers}{$_} } grep { !/^(host|accept|content-length)$/ } keys %{ $custom->{headers} };
is($shown{$_}, '***', "$_ is masked") for qw(x-site x-trace-id accept-language);
is($shown{authorization}, 'Bearer ***', 'so are credentials');
is($shown{'webhook-signature'}, 'v1,***', 'and the signature');
for (qw(x-site x-trace-id accept-language authorization webhook-signature)) { delete $shown{$_}; delete $real{$_}; }
is_deeply(\%shown, \%real, 'attempts.request_headers says what was sent');

# no view shows a secret
my @secrets = (values %secret, 's3cret', 'tok.en-', 'k3y k3y', 'c0ffee', 'north 40', encode_base64(encode('UTF-8', 'dealer:s3cret:Grün'), ''));
for my $view (qw(webhooks attempts deliveries changes events waiting dead_letters dispatchers))
{
	my $text = sql("SELECT string_agg(v::text, ' ') FROM dmshook.$view v");
	my @found = grep { index($text, $_) >= 0 } @secrets;
	is("@found", '', "no secret in dmshook.$view");
}
my $log = PostgreSQL::Test::Utils::slurp_file($server->node->logfile);
is(join(' ', grep { index($log, encode('UTF-8', $_)) >= 0 } @secrets), '', 'nor in the server log');
sql('SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks');

# ---- connections are kept, nothing else is ----

$receiver = DmshookTest::Receiver->new;
webhook('cookie', $receiver->url('/cookie'));
for my $i (1 .. 3)
{
	sql("SELECT dmshook.emit('vehicle.sold', 'vehicle', '{\"id\": $i}', '{}')");
	to('/cookie', $i);
}
my @kept = to('/cookie', 3);
is((grep { exists $_->{headers}{cookie} } @kept), 0, 'a cookie is not sent back');
is($kept[2]{connection}, $kept[1]{connection}, 'the connection is kept');
$server->wait_sql(q{SELECT count(*) = 3 FROM dmshook.attempts WHERE webhook = 'cookie'});
my @timings = rows(q{SELECT * FROM dmshook.attempts WHERE webhook = 'cookie' ORDER BY id});
for my $t (@timings)
{
	my $what = "request $t->{sequence}";
	is_deeply([ @$t{qw(local_address remote_address http_version)} ], [ '127.0.0.1', '127.0.0.1', '1.1' ], "$what: addresses and version");
	like($t->{tls_version}, qr/^TLSv1\.[23]$/, "$what: TLS version");
	is((grep { !defined } @$t{qw(duration_ms dns_ms connect_ms tls_ms first_byte_ms)}), 0, "$what: all timings");
	cmp_ok($t->{duration_ms}, '>', 0, "$what: duration");
	cmp_ok($t->{duration_ms} + 0.01, '>=', $t->{dns_ms} + $t->{connect_ms} + $t->{tls_ms} + $t->{first_byte_ms}, "$what: the whole is not less than its parts");
}
cmp_ok($timings[0]{tls_ms}, '>', 0, 'the first one shakes hands');
is($timings[2]{tls_ms} + $timings[2]{connect_ms} + $timings[2]{dns_ms}, 0, 'on a kept connection there is no handshake');

done_testing();
