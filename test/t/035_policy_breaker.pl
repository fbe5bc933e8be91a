# The circuit breaker: what waits is a position, probes go out, it survives a restart, one success closes it, and all is delivered once.
use strict;
use warnings;

use DmshookLoad;
use DmshookTest;
use Test::More;
use Time::HiRes qw(time);

my $n = 2000;
my $server = DmshookTest->new('breaker', conf => "autovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;
my $plan = '"max_attempts": 100, "backoff": {"initial": "50ms", "factor": 1}';

sub webhook
{
	my ($name, $type, $breaker) = @_;
	$receiver->set($name => 500);
	$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{%s}', enabled => true, options => '{%s, "breaker": %s}')}, $name,
		$receiver->url("/switch/$name"), $type, $plan, $breaker);
}

sub happen
{
	my ($type, $n) = @_;
	$server->sql(sprintf q{SELECT count(dmshook.emit('%s', split_part('%1$s', '.', 1), jsonb_build_object('id', g), '{}')) FROM generate_series(1, %d) g}, $type, $n);
}

sub requests { my ($name, $status) = @_; return $receiver->stats->{"path./switch/$name.requests"} // 0; }
sub state { my ($name) = @_; return $server->sql("SELECT state FROM dmshook.webhooks WHERE name = '$name'"); }

webhook('A', 'vehicle.sold', '{"failures": 6, "deliveries": 3, "probe": {"initial": "1s", "max": "2s"}}');
webhook('moved', 'deal.created', '{"failures": 3, "deliveries": 1, "probe": {"initial": "1h", "max": "2h"}}');
webhook('tested', 'job.created', '{"failures": 3, "deliveries": 1, "probe": {"initial": "1h", "max": "2h"}}');
webhook('without', 'customer.created', 'null');
happen('vehicle.sold', $n);
happen($_, 3) for qw(deal.created job.created customer.created);

# ---- open ----

$server->wait_sql(q{SELECT state FROM dmshook.webhooks WHERE name = 'A'}, 'circuit_open');
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.alerts WHERE webhook = 'A' AND kind = 'circuit_open'});
pass('after failures in a row the circuit opens, with an alert');
my $queued = $server->sql(q{SELECT count(*) FROM dmshook.queue q JOIN dmshook.webhook w ON w.id = q.webhook WHERE w.name = 'A'});
cmp_ok($queued, '<', 150, "what waits is a position: $queued rows for $n events");
is($server->sql(q{SELECT waiting FROM dmshook.health WHERE webhook = 'A'}), $n, 'health: all of them wait');
like($server->sql(q{SELECT why FROM dmshook.waiting WHERE webhook = 'A' ORDER BY sequence DESC LIMIT 1}),
	qr/^circuit open since \d\d:\d\d, probe (at \d\d:\d\d|is due); its receiver fails: /, 'waiting says why');
my $last = $server->sql(q{SELECT message_id FROM dmshook.events WHERE event_type = 'vehicle.sold' ORDER BY sequence DESC LIMIT 1});
like($server->sql("SELECT detail FROM dmshook.explain('A', '$last') WHERE step = 'waiting'"), qr/^circuit open since/, 'explain() says why');
like($server->sql(q{SELECT problem FROM dmshook.check() WHERE subject = 'A'}), qr/circuit is open since/, 'check() says it');

# ---- probes ----

$server->wait_sql(q{SELECT count(*) >= 2 FROM dmshook.attempts WHERE webhook = 'A' AND kind = 'probe'});
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'A' AND kind <> 'probe' AND at > (SELECT min(at) FROM dmshook.attempts WHERE webhook = 'A' AND kind = 'probe')}),
	0, 'nothing but probes goes out');
is($server->sql(q{SELECT bool_and(gap > interval '0.85 s') FROM (SELECT at - lag(at) OVER (ORDER BY at) AS gap FROM dmshook.attempts WHERE webhook = 'A' AND kind = 'probe') x}), 't', 'not more often than asked');
my $before = requests('A');
cmp_ok($before, '<', 150, "no attempts are burnt: $before requests");

# ---- a new dispatcher goes on ----

my $opened = $server->sql(q{SELECT circuit_open_since FROM dmshook.webhook_state WHERE webhook = (SELECT id FROM dmshook.webhook WHERE name = 'A')});
my $probes = $server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'A' AND kind = 'probe'});
$server->node->stop('fast');   # restart() takes other arguments in each major
$server->node->start;
$server->wait_sql("SELECT count(*) > $probes FROM dmshook.attempts WHERE webhook = 'A' AND kind = 'probe'");
is($server->sql(q{SELECT circuit_open_since FROM dmshook.webhook_state WHERE webhook = (SELECT id FROM dmshook.webhook WHERE name = 'A')}), $opened, 'after a restart it is open still');
is(state('A'), 'circuit_open', 'and is so called');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'A' AND kind <> 'probe' AND at > (SELECT min(at) FROM dmshook.attempts WHERE webhook = 'A' AND kind = 'probe')}),
	0, 'nothing but probes after the restart');

# ---- closed by the first success; all is delivered ----

$receiver->set(A => 200);
$server->wait_sql(q{SELECT state FROM dmshook.webhooks WHERE name = 'A'}, 'active');
$server->wait_sql("SELECT count(*) = $n FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'A' AND a.final = 'd'");
is($server->sql(q{SELECT count(*) FROM (SELECT event FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'A' AND a.outcome = 'o' GROUP BY event HAVING count(*) > 1) x}),
	0, "it drains: $n delivered, each once");
is($server->sql(q{SELECT kind FROM dmshook.attempts WHERE webhook = 'A' AND outcome = 'ok' ORDER BY id LIMIT 1}), 'probe', 'a probe was the first');
$server->wait_sql(q{SELECT string_agg(kind, ' ' ORDER BY kind) FROM dmshook.alerts WHERE webhook = 'A'}, 'circuit_closed circuit_open failing recovered');
pass('alerts, each once');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.position WHERE webhook = (SELECT id FROM dmshook.webhook WHERE name = 'A')});
$server->wait_sql(q{SELECT waiting = 0 AND state = 'active' AND oldest_waiting IS NULL FROM dmshook.health WHERE webhook = 'A'});
pass('nothing waits');

# the counts that the dispatcher keeps are those of the log, also across a restart
$server->wait_sql(q{SELECT string_agg(format('%s %s', c.ok = a.ok, c.failed = a.failed), ', ') FROM dmshook.webhook w
	CROSS JOIN LATERAL (SELECT sum(ok) AS ok, sum(failed) AS failed FROM dmshook.webhook_count k WHERE k.webhook = w.id) AS c
	CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE outcome = 'o') AS ok, count(*) FILTER (WHERE outcome <> 'o') AS failed FROM dmshook.attempt a WHERE a.webhook = w.id) AS a
	WHERE w.name = 'A'}, 't t');
pass('webhook_count is exact');
is($server->sql(q{SELECT success_1h = success_24h AND success_1h BETWEEN 90 AND 99.99 AND p99_ms >= p95_ms AND p95_ms >= p50_ms AND p50_ms > 0 AND length(trend) = 24 AND last_success_at > last_failure_at
	FROM dmshook.health WHERE webhook = 'A'}), 't', 'health: rates, latency, trend')
	or diag($server->sql(q{SELECT to_jsonb(h) FROM dmshook.health h WHERE webhook = 'A'}));

# ---- what else closes it: a new URL; a test that went well calls for a probe ----

is(state('moved'), 'circuit_open', 'another one is open, and will not be probed for an hour');
$server->sql(sprintf q{SELECT dmshook.alter_webhook('moved', url => '%s')}, $receiver->url('/ok/moved'));
$server->wait_sql(q{SELECT count(*) = 3 FROM dmshook.deliveries WHERE webhook = 'moved' AND state = 'delivered'});
$server->wait_sql(q{SELECT state FROM dmshook.webhooks WHERE name = 'moved'}, 'active');
pass('a new url closes it');

is(state('tested'), 'circuit_open', 'so is a third one');
$receiver->set(tested => 200);
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('tested')}), 't', 'its test goes well');
$server->wait_sql(q{SELECT count(*) = 3 FROM dmshook.deliveries WHERE webhook = 'tested' AND state = 'delivered'});
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'tested' AND kind = 'probe'}), 1, 'a test that went well is followed by a probe');

is(state('without'), 'failing', 'breaker null: there is none');

done_testing();
