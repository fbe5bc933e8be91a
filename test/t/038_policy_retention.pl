# What is old enough goes, what waits stays until max_wait and then expires with an alert, dead letters stay longer. Settings in seconds.
use strict;
use warnings;

use DmshookTest;
use JSON::PP;
use Test::More;

my $server = DmshookTest->new('retention', conf => "autovacuum = off\ndmshook.retention = 2s\ndmshook.dead_letter_retention = 1h\ndmshook.max_wait = 1h\n");
my $receiver = DmshookTest::Receiver->new;

sub webhook
{
	my ($name, $path, $type, $options) = @_;
	$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{%s}', enabled => true, options => '%s')}, $name, $receiver->url($path), $type, $options // '{}');
}

sub happen
{
	my ($type, $n) = @_;
	return $server->sql(sprintf q{SELECT dmshook.emit('%s', split_part('%1$s', '.', 1), jsonb_build_object('id', g), '{}') FROM generate_series(1, %d) g}, $type, $n);
}

sub setting
{
	my (%set) = @_;
	$server->sql("ALTER SYSTEM SET $_ = '$set{$_}'") for sort keys %set;
	$server->sql('SELECT pg_reload_conf()');
}

# Events of each type, and attempts of them.
my $events = q{SELECT coalesce(string_agg(format('%s %s', type, n), ', ' ORDER BY type), '') FROM (SELECT type, count(*) AS n FROM dmshook.event WHERE type NOT LIKE 'webhook.%' GROUP BY type) x};
my $attempts = q{SELECT coalesce(string_agg(format('%s %s', type, n), ', ' ORDER BY type), '') FROM (
	SELECT coalesce(e.type, 'no event') AS type, count(*) AS n FROM dmshook.attempt a LEFT JOIN dmshook.event e ON e.id = a.event WHERE a.event > 0 AND e.type NOT LIKE 'webhook.%' OR e.id IS NULL GROUP BY 1) x};

webhook('sold', '/ok/sold', 'vehicle.sold');
webhook('dead', '/status/400/dead', 'deal.created', '{"max_attempts": 1, "breaker": null}');
webhook('retrying', '/status/500/retrying', 'job.created', '{"backoff": {"initial": "1h"}}');
webhook('paused', '/ok/paused', 'job.invoiced');
webhook('ops', '/ok/ops', 'webhook.*');
webhook('deaf', '/ok/deaf', 'webhook.*');
my $listener = $server->session;
$listener->query_safe('LISTEN dmshook');

happen('vehicle.sold', 300);
happen('deal.created', 5);
happen('job.created', 7);
$server->wait_sql(q{SELECT count(*) = 7 FROM dmshook.queue});
$server->sql(q{SELECT dmshook.pause_webhook('paused')});
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
happen('job.invoiced', 20);
happen('customer.created', 50);		# for nobody
$receiver->wait_for(300, sub { $_[0]{path} eq '/ok/sold' });

# the paused webhook holds back what came after what waits for it; what came before goes
$server->wait_sql($events, 'customer.created 50, deal.created 5, job.created 7, job.invoiced 20');
is($server->sql($attempts), 'deal.created 5, job.created 7', 'delivered events go with their attempts; dead letters, retries and what waits stay');

# long after retention still
happen('vehicle.sold', 1);
$server->wait_sql(q{SELECT max(at) < clock_timestamp() - interval '4 s' FROM dmshook.event});
is($server->sql($events), 'customer.created 50, deal.created 5, job.created 7, job.invoiced 20, vehicle.sold 1', 'never what is still to be delivered, nor what is behind it');
is($server->sql(q{SELECT count(*) FROM dmshook.dead_letters WHERE webhook = 'dead' AND payload IS NOT NULL}), 5, 'dead letters can be looked at, and sent again');
is($server->sql(q{SELECT waiting FROM dmshook.health WHERE webhook = 'paused'}), 20, 'all of them wait');

# resumed, it gets them; then they go as well
$server->sql(q{SELECT dmshook.resume_webhook('paused')});
$receiver->wait_for(20, sub { $_[0]{path} eq '/ok/paused' });
$server->wait_sql($events, 'deal.created 5, job.created 7');
is($server->sql($attempts), 'deal.created 5, job.created 7', 'delivered, they go as well');

# ---- max_wait: what waits longer is final, with an alert ----

setting('dmshook.retention' => '1h');
$server->sql(q{SELECT dmshook.pause_webhook('paused')});
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
my ($message) = split /\n/, happen('job.invoiced', 3);
setting('dmshook.max_wait' => '2s');
$server->wait_sql(q{SELECT count(*) = 3 FROM dmshook.deliveries WHERE webhook = 'paused' AND state = 'expired'});
pass('what waited longer than max_wait is expired');
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.alerts WHERE webhook = 'paused' AND kind = 'expired'});
is($server->sql(q{SELECT detail->>'count' FROM dmshook.alerts WHERE webhook = 'paused' AND kind = 'expired'}), 3, 'with an alert, which says how many');
my $heard = '';
poll_until(sub { $heard .= $listener->query('SELECT 1'); $heard =~ /"kind": "expired"/ }, sub { "NOTIFY, got: $heard" });
pass('NOTIFY dmshook');
my ($told) = $receiver->wait_for(1, sub { $_[0]{path} eq '/ok/ops' && $_[0]{body} =~ /"name": ?"paused"/ });
my $body = JSON::PP->new->decode($told->{body});
is($body->{type}, 'webhook.expired', 'an event to webhooks that subscribe to such');
is($body->{data}{record}{count}, 3, 'it says how many, too');
is($server->sql("SELECT detail FROM dmshook.explain('paused', '$message') WHERE step = 'expired'"), 'it waited longer than dmshook.max_wait allows', 'explain() says so');
like($server->sql(q{SELECT problem FROM dmshook.check() WHERE subject = 'alerts'}), qr/expired/, 'check() says so');
$server->wait_sql(q{SELECT count(*) = 7 FROM dmshook.deliveries WHERE webhook = 'retrying' AND state = 'expired'});
pass('what was tried, and is to be tried again much later, expires too');
$server->wait_sql(q{SELECT count(*) >= 1 FROM dmshook.alerts WHERE webhook = 'retrying' AND kind = 'expired'});
is($server->sql(q{SELECT string_agg(detail->>'count', ' ') FROM dmshook.alerts WHERE webhook = 'retrying' AND kind = 'expired'}), 7, 'one alert of that');
is($server->sql('SELECT count(*) FROM dmshook.queue'), 0, 'the queue is empty');

# a disabled webhook's retries expire as well
setting('dmshook.max_wait' => '1h');
$server->sql(q{SELECT dmshook.alter_webhook('retrying', new_name => 'disabled')});
happen('job.created', 1);
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.queue});
$server->sql(q{SELECT dmshook.disable_webhook('disabled')});
setting('dmshook.max_wait' => '2s');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.queue});
is($server->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'disabled' AND state = 'expired'}), 8, 'so do those of a disabled webhook');
is($server->sql(q{SELECT count(*) FROM dmshook.alerts WHERE webhook = 'disabled' AND kind = 'expired'}), 1, 'which is gathered for an hour, for the next alert of that');

# notices that expire cause none
$server->sql(q{SELECT dmshook.pause_webhook('deaf')});
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
webhook('gone', '/status/410/gone', 'vehicle.added');
happen('vehicle.added', 1);
$server->wait_sql(q{SELECT count(*) >= 1 FROM dmshook.deliveries WHERE webhook = 'deaf' AND state = 'expired' AND event_type = 'webhook.disabled'});
my $before = $server->sql(q{SELECT last_success_at FROM dmshook.health WHERE webhook = 'sold'});
happen('vehicle.sold', 1);
$server->wait_sql(qq{SELECT last_success_at > '$before' FROM dmshook.health WHERE webhook = 'sold'});	# stored where notices are
is($server->sql(q{SELECT count(*) FROM dmshook.alerts WHERE webhook = 'deaf'}), 0, 'a notice that expires causes no notice');

# resumed, it gets nothing of what expired, but what comes
$server->sql(q{SELECT dmshook.resume_webhook('paused')});
happen('job.invoiced', 1);
$receiver->wait_for(21, sub { $_[0]{path} eq "/ok/paused" });
is(scalar $receiver->requests(sub { $_[0]{path} eq '/ok/paused' }), 21, 'what expired is not sent later');


# ---- in the end everything goes ----

setting('dmshook.retention' => '2s', 'dmshook.dead_letter_retention' => '2s');
$server->wait_sql($events, '');
is($server->sql($attempts), '', 'dead letters go after their own time');
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command');
pass('so do commands long done');
is($server->sql(q{SELECT string_agg(c.n || '', ' ') FROM (SELECT count(*) AS n FROM dmshook.position WHERE webhook <> 0 UNION ALL SELECT count(*) FROM dmshook.queue) c}), '0 0', 'nothing is left behind');

done_testing();
