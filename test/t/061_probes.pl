# An open circuit: who is the probe, what becomes of those that wait, and how it ends.
use strict;
use warnings;
use DmshookTest;
use Test::More;

my $server = DmshookTest->new('main');
my $receiver = DmshookTest::Receiver->new;

sub create
{
	my ($name, $type) = @_;
	$receiver->set($name, 500);
	$server->sql(sprintf q{SELECT * FROM dmshook.create_webhook('%s', %s, '{%s}', options => '{"max_attempts": 4, "backoff": {"intervals": ["300ms"]},
		"breaker": {"failures": 3, "deliveries": 2, "probe": {"initial": "300ms", "max": "300ms"}}}')}, $name, quote($receiver->url("/switch/$name")), $type);
	return $server->sql("SELECT dmshook.enable_webhook('$name')");
}

# Nothing else happens in the database: probes wake the dispatcher by themselves, down to the last attempt.
create('few', 'vehicle.sold');
$server->sql(q{SELECT dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', n), '{}') FROM generate_series(1, 3) n});
$server->wait_sql(q{SELECT count(*) = 3 FROM dmshook.dead_letters WHERE webhook = 'few'});
is(scalar($receiver->requests(sub { $_[0]{path} eq '/switch/few' })), 12, 'four attempts each, and no more');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'few' AND kind = 'probe' AND attempt = 4}), 3, 'the last of each is a probe');
is($server->sql(q{SELECT circuit_open_since IS NOT NULL FROM dmshook.webhook_state JOIN dmshook.webhook w ON w.id = webhook WHERE w.name = 'few'}), 't', 'it is still open');

# What was tried goes before what never was, but for a probe now and then: the others wait without rows.
create('many', 'job.created');
$server->sql(q{SELECT dmshook.emit('job.created', 'job', jsonb_build_object('id', n), '{}') FROM generate_series(1, 300) n});
$server->wait_sql(q{SELECT count(*) >= 10 FROM dmshook.attempts WHERE webhook = 'many' AND kind = 'probe'});
my ($again, $fresh) = split /\|/, $server->sql(q{SELECT count(*) FILTER (WHERE attempt > 1), count(*) FILTER (WHERE attempt = 1)
	FROM (SELECT attempt FROM dmshook.attempts WHERE webhook = 'many' AND kind = 'probe' ORDER BY at LIMIT 10) p});
cmp_ok($again, '>=', 7, 'most probes are further attempts');
cmp_ok($fresh, '>=', 1, 'one was never tried before');
cmp_ok($server->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'many' AND state = 'waiting' AND attempts = 0}), '>=', 200, 'the others wait');

# It ends: found by a probe, drained, told.
$receiver->set('many', 200);
$server->wait_sql(q{SELECT count(*) = 300 FROM dmshook.deliveries WHERE webhook = 'many' AND state IN ('delivered', 'exhausted')});
cmp_ok($server->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'many' AND state = 'delivered'}), '>=', 280, 'delivered');
$server->wait_sql(q{SELECT array_agg(kind ORDER BY id) @> '{failing,circuit_open,recovered,circuit_closed}' FROM dmshook.alerts WHERE webhook = 'many'});
is($server->sql(q{SELECT count(*) FROM dmshook.alerts WHERE webhook = 'many' AND kind = 'recovered'}), 1, 'told once');

done_testing();
