# What a receiver's answer makes of the next attempt: Retry-After, 410, 429 and 503, nothing but failures, a port that refuses.
use strict;
use warnings;

use DmshookTest;
use POSIX qw(strftime setlocale LC_TIME);
use Test::More;
use Time::HiRes qw(time);

setlocale(LC_TIME, 'C');
my $server = DmshookTest->new('answers', conf => "autovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;

sub webhook
{
	my ($name, $path, $options, $port) = @_;
	$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{%s.*}', enabled => true, options => '%s')}, $name,
		$receiver->url($path), 'vehicle', $options);
}

# One event for all webhooks that are enabled.
my $n = 0;
sub happen { return $server->sql(sprintf q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": %d}', '{}')}, ++$n); }

# ---- Retry-After: in seconds, as a date, never less than our own delay, never more than a day ----

my $date = strftime('%a,%%20%d%%20%b%%20%Y%%20%H:%M:%S%%20GMT', gmtime(time + 3000));
my %asked = (
	seconds => [ '/retry-after/700/503', '{"backoff": {"initial": "1s", "jitter": 0}}', 700, 715 ],
	on_500  => [ '/retry-after/700/500', '{"backoff": {"initial": "1s", "jitter": 0}}', 700, 715 ],
	date    => [ "/retry-after/$date/429", '{"backoff": {"initial": "1s", "jitter": 0}}', 2900, 3001 ],
	less    => [ '/retry-after/1/503', '{"backoff": {"initial": "600s", "jitter": 0}}', 600, 615 ],
	more    => [ '/retry-after/9999999/503', '{"backoff": {"initial": "1s", "jitter": 0}}', 86400, 86415 ],
	nonsense => [ '/retry-after/soon/503', '{"backoff": {"initial": "60s", "jitter": 0}}', 60, 75 ],
	none    => [ '/status/500', '{"backoff": {"initial": "60s", "jitter": 0}}', 60, 75 ],
	last    => [ '/retry-after/5/503', '{"max_attempts": 1}' ],
	short   => [ '/retry-after/2/503', '{"backoff": {"initial": "100ms", "jitter": 0}}' ]);
webhook($_, $asked{$_}[0], $asked{$_}[1]) for sort keys %asked;
happen();
for my $name (sort grep { defined $asked{$_}[2] } keys %asked)
{
	my ($least, $most) = @{ $asked{$name} }[2, 3];
	$server->wait_sql("SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = '$name' AND state = 'retrying'");
	my $after = $server->sql(sprintf q{SELECT extract(epoch FROM d.next_attempt_at - a.at - make_interval(secs => a.duration_ms / 1000.0))
		FROM dmshook.deliveries d JOIN dmshook.attempts a USING (webhook, message_id) WHERE d.webhook = '%s'}, $name);
	cmp_ok($after, '>=', $least - 0.01, "Retry-After, $name: again after $least s, not before");
	cmp_ok($after, '<=', $most, "Retry-After, $name: nor much later");
}
$server->wait_sql(q{SELECT state = 'exhausted' FROM dmshook.deliveries WHERE webhook = 'last'});
pass('Retry-After of the last attempt changes nothing');
my ($first, $second) = $receiver->wait_for(2, sub { $_[0]{path} eq '/retry-after/2/503' });
cmp_ok(($second->{at} - $first->{at}) / 1e6, '>=', 1.99, 'Retry-After: 2 is waited for');
$server->sql(sprintf q{SELECT dmshook.drop_webhook('%s')}, $_) for sort keys %asked;

# ---- 410: disabled at once, with a reason and an alert; what comes then is skipped, and explain() says so ----

webhook('gone', '/switch/gone', '{"backoff": {"initial": "10m"}}');
$receiver->set(gone => 410);
my $message = happen();
$server->wait_sql(q{SELECT state FROM dmshook.webhooks WHERE name = 'gone'}, 'disabled');
like($server->sql(q{SELECT why FROM dmshook.webhooks WHERE name = 'gone'}), qr/^the receiver answered 410 Gone/, '410: disabled, with the reason');
is($server->sql(q{SELECT count(*) FROM dmshook.alerts WHERE webhook = 'gone' AND kind = 'disabled' AND detail->>'reason' LIKE 'the receiver answered 410%'}), 1, '410: an alert');
is($server->sql(q{SELECT by_role || ' ' || left(what, 14) FROM dmshook.changes WHERE webhook = 'gone' ORDER BY id DESC LIMIT 1}), 'dmshook disabled: the ', '410: in changes');
like($server->sql(q{SELECT problem FROM dmshook.check() WHERE subject = 'gone' AND problem LIKE 'it was disabled%'}), qr/by itself: the receiver answered 410/, '410: check() says so');
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
my $skipped = happen();
like($server->sql("SELECT detail FROM dmshook.explain('gone', '$skipped') WHERE NOT ok"), qr/was disabled, and events of that time are skipped; it still is: the receiver answered 410/, '410: explain() of a later event');
is($server->sql("SELECT step || ' ' || ok FROM dmshook.explain('gone', '$message') WHERE step LIKE 'attempt%'"), 'attempt 1 false', '410: explain() of the one that was sent');
is(scalar $receiver->requests(sub { $_[0]{path} eq '/switch/gone' }), 1, '410: one request');

# enabled again it sends, and one more failure does not disable it
$receiver->set(gone => 500);
$server->sql(q{SELECT dmshook.alter_webhook('gone', options => '{"backoff": {"initial": "100ms", "factor": 1}}'), dmshook.enable_webhook('gone')});
$message = happen();
$server->wait_sql("SELECT attempts >= 2 FROM dmshook.deliveries WHERE webhook = 'gone' AND message_id = '$message'");
$receiver->set(gone => 200);
$server->wait_sql("SELECT state FROM dmshook.deliveries WHERE webhook = 'gone' AND message_id = '$message'", 'delivered');
is($server->sql(q{SELECT state FROM dmshook.webhooks WHERE name = 'gone'}), 'active', 'enabled again: it works');

# ---- disable_after: nothing but failures for so long ----

webhook('hopeless', '/status/500/hopeless', '{"disable_after": "2s", "breaker": null, "max_attempts": 100, "backoff": {"initial": "200ms", "factor": 1}}');
webhook('patient', '/status/500/patient', '{"disable_after": "1 day", "breaker": null, "max_attempts": 100, "backoff": {"initial": "200ms", "factor": 1}}');
happen();
$server->wait_sql(q{SELECT state FROM dmshook.webhooks WHERE name = 'hopeless'}, 'disabled');
like($server->sql(q{SELECT why FROM dmshook.webhooks WHERE name = 'hopeless'}), qr/^every request has failed/, 'disable_after: disabled, with the reason');
my ($since) = $server->rows(q{SELECT min(a.at) AS first, max(a.at) - min(a.at) >= '1.7 s' AS long_enough FROM dmshook.attempts a WHERE webhook = 'hopeless'});
ok($since->{long_enough}, 'disable_after: not before');
is($server->sql(q{SELECT count(*) FROM dmshook.alerts WHERE webhook = 'hopeless' AND kind = 'disabled'}), 1, 'disable_after: one alert');
is($server->sql(q{SELECT enabled FROM dmshook.webhooks WHERE name = 'patient'}), 't', 'disable_after: another webhook has more time');
$server->sql(q{SELECT dmshook.drop_webhook('patient')});

# ---- 429 and 503 slow down: the other one fails just as often, and goes on ----

$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{job.*}', enabled => true, options => '{"breaker": null, "max_attempts": 1}')}, @$_)
  for [ 'busy', $receiver->url('/status/503/busy') ], [ 'broken', $receiver->url('/status/500/broken') ];
$server->sql(q{SELECT count(dmshook.emit('job.created', 'job', jsonb_build_object('id', g), '{}')) FROM generate_series(1, 1000) g});
$server->wait_sql(q{SELECT count(*) = 1000 FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'broken'});
my $busy = $server->sql(q{SELECT count(*) FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'busy'});
cmp_ok($busy, '<', 500, "503: slowed down ($busy requests while the other had 1000)");
cmp_ok($busy, '>', 0, '503: not stopped');

# ---- a port that refuses: one quick retry, which the plan does not count ----

my $refused = DmshookTest::Receiver->new;
$server->sql(sprintf q{SELECT dmshook.create_webhook('refused', '%s', '{customer.*}', enabled => true, options => '{"backoff": {"initial": "1h", "jitter": 0}}')}, $refused->url('/ok'));
$refused->stop;
$server->sql(q{SELECT dmshook.emit('customer.created', 'customer', '{"id": 1}', '{}')});
$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.attempts WHERE webhook = 'refused'});
my ($one, $two) = $server->rows(q{SELECT outcome, extract(epoch FROM at) AS at FROM dmshook.attempts WHERE webhook = 'refused' ORDER BY id});
is("$one->{outcome} $two->{outcome}", 'connect_error connect_error', 'refused: tried twice');
cmp_ok($two->{at} - $one->{at}, '>=', 0.25, 'refused: after a quarter second at least');
my ($queued) = $server->rows(q{SELECT q.attempts, q.quick, extract(epoch FROM q.due_at) AS due FROM dmshook.queue q JOIN dmshook.webhook w ON w.id = q.webhook WHERE w.name = 'refused'});
is("$queued->{attempts} $queued->{quick}", '2 1', 'refused: one of two attempts was the quick one');
cmp_ok($queued->{due} - $two->{at}, '>=', 3599, 'refused: then the plan, from its beginning');
cmp_ok($queued->{due} - $two->{at}, '<=', 3630, 'refused: then the plan, its first delay');

done_testing();
