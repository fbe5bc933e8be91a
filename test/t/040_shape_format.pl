# Bodies in other shapes: CloudEvents against the rules of its specification, numbers as strings, and that what was sent stays what was sent.
use strict;
use warnings;
use DmshookTest;
use IPC::Open2;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $json = JSON::PP->new->canonical->utf8;

# For each body: "ok", or the rule that it breaks
sub validate
{
	my $pid = open2(my $out, my $in, "$DmshookTest::top/test/cloudevents/validate");
	binmode $in, ':utf8';
	print $in "$_\n" for @_;
	close $in;
	chomp(my @said = <$out>);
	waitpid $pid, 0;
	die 'validate failed' if $?;
	return @said;
}

# the validator itself
my $good = '{"specversion":"1.0","id":"a","source":"/a","type":"t"';
my @said = validate("$good}", "$good,\"subject\":\"\"}", "$good,\"userName\":\"x\"}", "$good,\"user\":{\"name\":\"x\"}}", "$good,\"sequence\":5000000000}",
	"$good,\"tenant\":\"a\\tb\"}", '{"specversion":"1.0","id":"a","type":"t"}', "$good,\"time\":\"2026-11-23 07:25:00+00\"}");
is(shift @said, 'ok', 'the validator accepts a CloudEvent');
isnt($_, 'ok', "and no other: $_") for @said;

my $server = DmshookTest->new('main');
my $receiver = DmshookTest::Receiver->new;
$server->sql(q{CREATE TABLE vehicle (id bigint PRIMARY KEY, status text, price numeric(12,2), odometer bigint, notes text);
	SELECT dmshook.watch_vehicle('vehicle')});

my %secret = map {
	my ($name, $options) = @$_;
	($name, $server->sql(sprintf q{SELECT signing_secret FROM dmshook.create_webhook('%s', '%s', '{vehicle.*}', enabled => true, options => '%s')},
		$name, $receiver->url("/ok/$name"), $options))
} [ plain => '{}' ], [ cloud => '{"format": "cloudevents"}' ], [ strings => '{"numbers": "string"}' ], [ both => '{"format": "cloudevents", "numbers": "string"}' ];

$server->sql(q{INSERT INTO vehicle VALUES (42, 'In stock', 18999.95, 9007199254740993, E'Jürgen \u0085 "x" \\\\ \t\u0001')});
$server->sql(q{SET dmshook."user" = 'jane.smith'; UPDATE vehicle SET status = 'sold', price = 18500});
my %got;
for my $name (qw(plain cloud strings both))
{
	# added; status_changed and sold
	my @requests = $receiver->wait_for(3, sub { $_->{path} eq "/ok/$name" });
	is_deeply(verify($secret{$name}, @requests), [ ({ standardwebhooks => 'ok', svix => 'ok' }) x 3 ], "$name: signed as sent");
	$got{$name} = { map { ($json->decode(encode($_->{body}))->{type} => $_) } @requests };
	is(join(' ', sort keys %{ $got{$name} }), 'vehicle.added vehicle.sold vehicle.status_changed', '... the types');
	is($requests[0]{headers}{'content-type'}, $name =~ /cloud|both/ ? 'application/cloudevents+json' : 'application/json', '... the content type');
}

sub encode { my ($text) = @_; utf8::encode($text) if utf8::is_utf8($text); return $text; }

sub body { my ($name, $type) = @_; return $json->decode(encode($got{$name}{$type}{body})); }

is_deeply([ validate(map { my $name = $_; map { my $b = $_->{body}; utf8::decode($b) if !utf8::is_utf8($b); $b } values %{ $got{$name} } } qw(cloud both)) ],
	[ ('ok') x 6 ], 'CloudEvents as the specification has them');

my $plain = body('plain', 'vehicle.sold');
my $cloud = body('cloud', 'vehicle.sold');
is_deeply($cloud->{data}, $plain->{data}, 'the same data');
delete $cloud->{data};
is_deeply($cloud, {
	specversion => '1.0', id => $plain->{id}, source => '/postgres/public/vehicle', type => 'vehicle.sold', subject => 'vehicle/42',
	time => $plain->{timestamp}, datacontenttype => 'application/json', sequence => sprintf('%019d', $plain->{sequence}),
	tenant => 'public', username => 'jane.smith', userrole => $plain->{user}{role}, application => $plain->{user}{application} },
	'attributes') or diag $json->encode($cloud);
is($plain->{id}, $got{cloud}{'vehicle.sold'}{headers}{'webhook-id'}, 'id is the webhook-id');

like($got{plain}{'vehicle.added'}{body}, qr/"price":18999\.95,"odometer":9007199254740993\b/, 'numbers as they are');
like($got{$_}{'vehicle.added'}{body}, qr/"price":"18999\.95","odometer":"9007199254740993"/, "numbers as strings: $_") for qw(strings both);
like($got{$_}{'vehicle.sold'}{body}, qr/"key":\{"id": ?42\}.*"previous":\{.*"price":"18999\.95"/, "previous too, and 42 is left alone: $_") for qw(strings both);
is(body('strings', 'vehicle.added')->{data}{record}{notes}, body('plain', 'vehicle.added')->{data}{record}{notes}, 'text is left alone');

# What was sent stays what was sent, whatever the options are by then
sub payloads_as_sent
{
	my ($what, $name) = @_;
	my %sent = map { (encode($_->{headers}{'webhook-id'}) => encode($_->{body})) } $receiver->requests(sub { $_->{path} eq "/ok/$name" && !$_->{headers}{'dmshook-test'} });
	for my $view (qw(attempts deliveries))
	{
		my %shown = map { split /\|/, $_, 2 } split /\n/,
		  $server->sql(qq{SELECT message_id || '|' || payload FROM dmshook.$view WHERE webhook = '$name'} . ($view eq 'attempts' ? q{ AND kind = 'delivery'} : ''));
		is_deeply(\%shown, \%sent, "$what: $view of $name");
	}
}
$server->wait_sql(q{SELECT count(*) = 12 FROM dmshook.deliveries WHERE state = 'delivered'});
payloads_as_sent('sent', $_) for qw(plain cloud strings both);
$server->sql(q{SELECT dmshook.alter_webhook('plain', options => '{"format": "cloudevents"}'), dmshook.alter_webhook('cloud', options => '{"format": null, "numbers": "string"}'),
	dmshook.alter_webhook('strings', options => '{"numbers": "json"}')});
payloads_as_sent('altered', $_) for qw(plain cloud strings both);
is($server->sql(q{SELECT DISTINCT request_headers->>'content-type' FROM dmshook.attempts WHERE webhook = 'cloud'}), 'application/cloudevents+json', 'the headers of then');

# a delivery that waits is sent as the webhook is when it is sent
my $before = () = $receiver->requests;
$server->sql(q{SELECT dmshook.pause_webhook('both')});
$server->sql(q{INSERT INTO vehicle VALUES (43, 'In stock', 1.50, 1, '')});
$receiver->wait_for(4, sub { $_->{path} eq '/ok/plain' });
$server->sql(q{SELECT dmshook.alter_webhook('both', options => '{"format": null}'), dmshook.resume_webhook('both')});
my ($late) = grep { $_->{body} =~ /"id": ?43/ } $receiver->wait_for(4, sub { $_->{path} eq '/ok/both' });
is($late->{headers}{'content-type'}, 'application/json', 'the present format for what waited');
like($late->{body}, qr/^\{"id":"msg_.*"price":"1\.50"/, '... and its body');
$server->wait_sql(q{SELECT count(*) = 16 FROM dmshook.deliveries WHERE state = 'delivered'});
payloads_as_sent('both formats', 'both');

# tests and previews
my ($test) = $server->rows(q{SELECT ok, error, message_id FROM dmshook.test_webhook('plain', 'vehicle.sold')});
ok($test->{ok}, 'a test') or diag $test->{error};
my ($sent) = $receiver->wait_for(1, sub { $_->{headers}{'dmshook-test'} });
is(join(' ', validate($sent->{body})), 'ok', '... is a CloudEvent');
ok($json->decode(encode($sent->{body}))->{test}, '... and says that it is a test');
is($server->sql(qq{SELECT payload FROM dmshook.attempts WHERE message_id = '$test->{message_id}'}), encode($sent->{body}), '... as the view has it');
is($server->sql(qq{SELECT event_type FROM dmshook.attempts WHERE message_id = '$test->{message_id}'}), 'vehicle.sold', '... with its type');
is($server->sql(q{SELECT body::json->>'specversion' FROM dmshook.preview('plain', 'vehicle.sold')}), '1.0', 'preview');

done_testing();
