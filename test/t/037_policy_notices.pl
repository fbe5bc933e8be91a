# Failure notifications: rows, NOTIFY, events to webhooks that subscribe; gathered; never about themselves.
use strict;
use warnings;

use DmshookTest;
use JSON::PP;
use Test::More;

my $server = DmshookTest->new('notices', conf => "autovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;
my $listener = $server->session;
$listener->query_safe('LISTEN dmshook');

sub webhook
{
	my ($name, $path, $events, $options) = @_;
	$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{%s}', enabled => true, options => '%s')}, $name, $receiver->url($path), $events, $options // '{}');
}

my $n = 0;
sub happen
{
	my ($many) = @_;
	$server->sql(sprintf q{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', %d + g), '{}')) FROM generate_series(1, %d) g}, $n, $many);
	$n += $many;
}

sub alerts { my ($webhook) = @_; return $server->sql("SELECT string_agg(kind, ' ' ORDER BY id) FROM dmshook.alerts WHERE webhook = '$webhook'"); }

# What the webhook Ops got so far: type => [payloads].
sub told
{
	my %told;
	for my $request ($receiver->requests(sub { $_[0]{path} eq '/ok/ops' }))
	{
		my $body = JSON::PP->new->decode($request->{body});
		push @{ $told{ $body->{type} } }, $body;
	}
	return \%told;
}

my $quick = '"max_attempts": 2, "backoff": {"initial": "100ms", "factor": 1}';
webhook('A', '/switch/a', 'vehicle.*', "{$quick, \"breaker\": null}");
webhook('Ops', '/ok/ops', 'webhook.*');
webhook('Self', '/status/500/self', 'webhook.*', "{$quick, \"breaker\": null}");
webhook('All', '/ok/all', '*');

# ---- a dead receiver with many deliveries is few notices ----

happen(60);
$server->wait_sql(q{SELECT count(*) = 60 FROM dmshook.dead_letters WHERE webhook = 'A'});
$server->wait_sql(q{SELECT count(*) >= 2 FROM dmshook.alerts WHERE webhook = 'A'});
is(join(' ', sort split / /, alerts('A')), 'delivery_exhausted failing', '60 deliveries given up: one alert of that, and one that it fails');
my ($alert) = $server->rows(q{SELECT * FROM dmshook.alerts WHERE webhook = 'A' AND kind = 'failing'});
like($alert->{detail}{error}, qr/500/, 'the alert has the error');
like($alert->{detail}{failing_since}, qr/^20..-..-..T/, 'and since when');
ok(!$alert->{acknowledged}, 'nobody has seen it yet');
my ($given_up) = $server->rows(q{SELECT * FROM dmshook.alerts WHERE webhook = 'A' AND kind = 'delivery_exhausted'});
cmp_ok($given_up->{detail}{count}, '>=', 1, 'of deliveries that were given up it says how many');
is($server->sql(sprintf q{SELECT count(*) FROM dmshook.dead_letters WHERE message_id = '%s'}, $given_up->{detail}{message_id}), 1, 'and which was the last');

# ---- told: NOTIFY, and events to who subscribes ----

my $heard = '';
my %heard;
poll_until(sub {
	$heard .= $listener->query('SELECT 1');
	%heard = map { my $notice = JSON::PP->new->decode($_); ("$notice->{webhook} $notice->{kind}" => $notice) } $heard =~ /notification "dmshook" with payload "(.*)" received/g;
	return $heard{'A failing'} && $heard{'A delivery_exhausted'};
}, sub { "notifications, got: $heard" });
is($heard{'A failing'}{alert}, $alert->{id}, 'NOTIFY dmshook: the alert by its number');
is_deeply($heard{'A failing'}{detail}, $alert->{detail}, 'and all of it, as JSON');

poll_until(sub { my $told = told(); $told->{'webhook.failing'} && $told->{'webhook.delivery_exhausted'} }, 'events to Ops');
my ($failing) = @{ told()->{'webhook.failing'} };
is_deeply($failing->{data}{key}, { name => 'A' }, 'webhook.failing: of which webhook');
is($failing->{data}{record}{alert}, $alert->{id}, 'webhook.failing: the alert');
is($failing->{data}{record}{error}, $alert->{detail}{error}, 'webhook.failing: the error');
is(scalar @{ told()->{'webhook.delivery_exhausted'} }, 1, 'webhook.delivery_exhausted: once');

# ---- it works again; it is gone ----

$receiver->set(a => 200);
happen(1);
poll_until(sub { told()->{'webhook.recovered'} }, 'webhook.recovered');
is_deeply(told()->{'webhook.recovered'}[0]{data}{key}, { name => 'A' }, 'webhook.recovered');
is($server->sql(q{SELECT count(*) FROM dmshook.alerts WHERE webhook = 'A' AND kind = 'recovered' AND detail->>'failing_since' IS NOT NULL}), 1, 'an alert, with since when it failed');
$receiver->set(a => 410);
happen(1);
poll_until(sub { told()->{'webhook.disabled'} }, 'webhook.disabled');
like(told()->{'webhook.disabled'}[0]{data}{record}{reason}, qr/410/, 'webhook.disabled, with the reason');

# ---- no notice about a notice ----

$server->wait_sql(q{SELECT count(*) >= 4 FROM dmshook.dead_letters WHERE webhook = 'Self'});
pass('a webhook that cannot be reached has dead letters of notices');
$server->wait_sql('SELECT low = (SELECT max(id) FROM dmshook.event) FROM dmshook.position WHERE webhook = 0');
is(alerts('Self'), '', 'and causes no notices itself');
is($server->sql(q{SELECT count(*) FROM dmshook.events WHERE event_type LIKE 'webhook.%' AND entity_key <> '{"name": "A"}'}), 0, 'nor events');
is($server->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'All' AND event_type LIKE 'webhook.%'}), 0, 'a webhook that subscribes to * gets none');
is_deeply([ sort keys %{ told() } ], [ map { "webhook.$_" } qw(delivery_exhausted disabled failing recovered) ], 'Ops got four kinds, and nothing else');
like($server->sql_fails(q{SELECT dmshook.emit('webhook.failing', 'webhook', '{"name": "A"}', '{}')}), qr/dmshook's own/, 'nobody else can raise such');

# ---- seen ----

like($server->sql(q{SELECT problem FROM dmshook.check() WHERE subject = 'alerts'}), qr/^2 alerts are not acknowledged: delivery_exhausted, disabled$/,
	'check(): those that are not over by themselves');
is($server->sql(q{SELECT count(dmshook.acknowledge(id)) FROM dmshook.alerts WHERE NOT acknowledged}), 4, 'acknowledged');
is($server->sql(q{SELECT count(*) FROM dmshook.check() WHERE subject = 'alerts'}), 0, 'check() is content');
$listener->quit;

done_testing();
