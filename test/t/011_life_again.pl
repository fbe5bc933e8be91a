# Sending again: retries by either plan, dead letters, redeliver, replay, cancel; the same webhook-id and body each time, and exact counts.
use strict;
use warnings;

use DmshookTest;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $server = DmshookTest->new('again', conf => "jit = off\n");
my $receiver = DmshookTest::Receiver->new;
my $json = JSON::PP->new;
my %secret;

sub webhook
{
	my ($name, $path, %more) = @_;
	$more{events} //= '{vehicle.sold}';
	$more{enabled} //= 'true';
	my $more = join '', map { ", $_ => " . quote($more{$_}) } sort keys %more;
	$secret{$name} = $server->sql('SELECT signing_secret FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($receiver->url($path)) . "$more)");
}

# Events, each in a transaction of its own; their message ids.
my $last = 0;
sub happen
{
	my ($n, $type) = @_;
	$type //= 'vehicle.sold';
	my ($entity) = split /\./, $type;
	return split /\n/, $server->sql(join "\n", map { $last++; "SELECT dmshook.emit('$type', '$entity', '{\"id\": $last}', '{\"colour\": \"red\"}');" } 1 .. $n);
}
sub at { my ($path) = @_; return $receiver->requests(sub { $_[0]{path} eq $path }); }
sub ids_at { return map { $_->{headers}{'webhook-id'} } at($_[0]); }
sub wait_at { my ($path, $n) = @_; return $receiver->wait_for($n, sub { $_[0]{path} eq $path }); }
sub states { my ($name) = @_; return $server->sql('SELECT state, count(*) FROM dmshook.deliveries WHERE webhook = ' . quote($name) . ' GROUP BY state ORDER BY state') =~ s/\n/ /gr; }
sub wait_states { my ($name, $wanted) = @_; poll_until(sub { states($name) eq $wanted }, sub { "$name: $wanted, is " . states($name) }); return $wanted; }
sub wait_commands { $server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL}); }
sub count { my ($sql) = @_; return $server->sql("SELECT count(*) FROM $sql"); }
my $thrice = '{"backoff": {"intervals": ["300ms", "300ms"], "jitter": 0}, "max_attempts": 3}';

# ---- the plans, as retry_schedule() tells them ----

webhook('default', '/ok/default', enabled => 'false');
my @plan = $server->rows(q{SELECT attempt, extract(epoch FROM delay) AS delay, extract(epoch FROM elapsed) AS elapsed FROM dmshook.retry_schedule('default')});
is(scalar @plan, 14, 'the default plan: 14 attempts');
cmp_ok($plan[-1]{elapsed}, '>=', 72 * 3600, '... over 72 hours at least');
cmp_ok($plan[-1]{elapsed}, '<', 80 * 3600, '... and not 80');
my ($delay, $elapsed) = (0, 0);
my $wrong = 0;
for my $i (0 .. 13)
{
	$delay = $i == 0 ? 0 : $i == 1 ? 5 : $delay * 4 > 43200 ? 43200 : $delay * 4;
	$elapsed += $delay;
	$wrong++ if $plan[$i]{attempt} != $i + 1 || abs($plan[$i]{delay} - $delay) > 0.001 || abs($plan[$i]{elapsed} - $elapsed) > 0.001;
}
is($wrong, 0, '... 5 s, four times as much each time, 12 h at most') or diag explain \@plan;
webhook('list', '/ok/list', enabled => 'false', options => '{"backoff": {"intervals": ["5s", "5m", "30m", "2h"]}, "max_attempts": 5}');
is($server->sql(q{SELECT string_agg(delay::text, ' ' ORDER BY attempt) FROM dmshook.retry_schedule('list')}), '00:00:00 00:00:05 00:05:00 00:30:00 02:00:00', 'a list of intervals');

# ---- fails twice, then works ----

webhook('twice', '/fail/2/502', options => $thrice);
# 503 asks to be spared: it is, and tried again
webhook('spared', '/fail/1/503', options => $thrice);
my ($id) = happen(1);
my @r = wait_at('/fail/2/502', 3);
wait_states('twice', 'delivered|1');
is(scalar(my @all = at('/fail/2/502')), 3, 'three requests');
is(join(' ', map { $_->{headers}{'webhook-id'} } @r), "$id $id $id", 'the same webhook-id');
is(join(' ', map { $_->{headers}{'dmshook-attempt'} } @r), '1 2 3', 'dmshook-attempt');
is(scalar(grep { $_->{body} eq $r[0]{body} } @r), 3, 'the same body');
is_deeply(verify($secret{twice}, @r), [ ({ standardwebhooks => 'ok', svix => 'ok' }) x 3 ], 'each with a signature of its own time');
cmp_ok($r[$_]{at} - $r[ $_ - 1 ]{at}, '>=', 290_000, "interval $_ is kept") for 1, 2;
is($server->sql(q{SELECT string_agg(concat_ws(' ', attempt, kind, outcome, status), ', ' ORDER BY id) FROM dmshook.attempts WHERE webhook = 'twice'}),
	'1 delivery http_error 502, 2 delivery http_error 502, 3 delivery ok 200', 'the log');
is($server->sql(q{SELECT attempts, status, error IS NULL FROM dmshook.deliveries WHERE webhook = 'twice'}), '3|200|t', 'the delivery');
wait_states('spared', 'delivered|1');
is($server->sql(q{SELECT attempts, status, error IS NULL FROM dmshook.deliveries WHERE webhook = 'spared'}), '2|200|t', 'a delivery after 503');
is(count('dmshook.queue'), 0, 'nothing is left in the queue');
$server->sql(q{SELECT dmshook.drop_webhook('spared')});

# while it waits, people see until when and why
webhook('hour', '/status/500', options => '{"backoff": {"intervals": ["1h"], "jitter": 0}, "max_attempts": 2}');
happen(1);
wait_states('hour', 'retrying|1');
is($server->sql(q{SELECT next_attempt_at BETWEEN last_attempt_at + interval '59 min' AND last_attempt_at + interval '61 min' FROM dmshook.deliveries WHERE webhook = 'hour'}), 't', 'next_attempt_at');
like($server->sql(q{SELECT why FROM dmshook.waiting WHERE webhook = 'hour'}), qr/attempt 1 failed: .*500/, 'waiting.why');
like($server->sql_fails(q{SELECT dmshook.redeliver('hour', message_id) FROM dmshook.deliveries WHERE webhook = 'hour'}), qr/still open.*HINT:.*waiting/s, 'what is open is not redelivered');
# a new plan counts from the next attempt on; an exponential one with jitter stays within it
webhook('jitter', '/status/500/jitter', options => '{"backoff": {"initial": "100s", "factor": 2, "max": "1h", "jitter": 0.2}, "breaker": null}');
happen(50);
wait_states('jitter', 'retrying|50');
is(count(q{dmshook.deliveries WHERE webhook = 'jitter' AND next_attempt_at - last_attempt_at BETWEEN interval '79 s' AND interval '122 s'}), 50, 'jitter stays within its bounds');
cmp_ok(count(q{(SELECT DISTINCT round(extract(epoch FROM next_attempt_at - last_attempt_at)) FROM dmshook.deliveries WHERE webhook = 'jitter') d}), '>', 10, '... and spreads');
is($server->sql(q{SELECT dmshook.cancel_all(name) FROM dmshook.webhooks WHERE name IN ('hour', 'jitter') ORDER BY name}), "51\n50", 'cancel_all() counts what is retried');
wait_states('jitter', 'cancelled|50');
$server->sql(q{SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks});

# ---- given up, and sent again by hand ----

webhook('dead', '/switch/dead', options => $thrice);
my @dead = happen(3);
my ($other) = happen(1, 'deal.created');
wait_states('dead', 'exhausted|3');
is(scalar(@all = at('/switch/dead')), 9, 'three attempts each, no more');
is(count('dmshook.queue'), 0, 'nothing is left in the queue');
is($server->sql(q{SELECT count(*), min(attempts), min(status), min(error), count(hint) FROM dmshook.dead_letters WHERE webhook = 'dead'}), '3|3|500|The receiver answered 500 Internal Server Error.|3', 'dead letters');
my %body = map { $_->{headers}{'webhook-id'} => $_->{body} } at('/switch/dead');
webhook('never', '/status/404', options => '{"no_retry": "400-499", "backoff": {"intervals": ["1s"]}}');
happen(1);
wait_states('never', 'exhausted|1');
is(count(q{dmshook.attempts WHERE webhook = 'never'}), 1, 'no_retry: given up at once');
$server->sql(q{SELECT dmshook.drop_webhook('never')});
wait_states('dead', 'exhausted|4');
push @dead, ($server->sql(q{SELECT message_id FROM dmshook.dead_letters ORDER BY sequence DESC LIMIT 1}));

# one, which fails again: three more attempts
my $n = () = at('/switch/dead');
like($server->sql("SELECT dmshook.redeliver('dead', '$dead[0]')"), qr/^Message $dead[0] \(vehicle\.sold, was exhausted\) is sent again to webhook "dead"\.$/, 'redeliver() says what it does');
wait_at('/switch/dead', $n + 1);
wait_states('dead', 'exhausted|4');
poll_until(sub { my @x = at('/switch/dead'); states('dead') eq 'exhausted|4' && @x >= $n + 1 && count('dmshook.queue') == 0 }, 'the redelivery fails');
$receiver->set('dead', 200);
my @before = at('/switch/dead');
$server->sql("SELECT dmshook.redeliver('dead', '$dead[0]')");
wait_states('dead', 'delivered|1 exhausted|3');
my @again = (at('/switch/dead'))[ scalar @before .. scalar(@before) ];
is($again[0]{headers}{'webhook-id'}, $dead[0], 'redelivered: the same webhook-id');
is($again[0]{body}, $body{ $dead[0] }, '... the same body');
is_deeply(verify($secret{dead}, $again[0]), [ { standardwebhooks => 'ok', svix => 'ok' } ], '... signed anew');
is($server->sql("SELECT kind, outcome FROM dmshook.attempts WHERE message_id = '$dead[0]' ORDER BY id DESC LIMIT 1"), 'redelivery|ok', '... in the log as such');
# what was delivered can be, too
$server->sql("SELECT dmshook.redeliver('dead', '$dead[0]')");
$receiver->wait_for(2 + @before, sub { $_[0]{path} eq '/switch/dead' });
wait_states('dead', 'delivered|1 exhausted|3');
is((ids_at('/switch/dead'))[-1], $dead[0], 'what was delivered can be sent again');
# all others
is($server->sql(q{SELECT dmshook.redeliver_dead('dead')}), 3, 'redeliver_dead() counts');
wait_states('dead', 'delivered|4');
wait_at('/switch/dead', @before + 5);
my @now = (at('/switch/dead'))[ @before + 2 .. @before + 4 ];
is(join(' ', sort map { $_->{headers}{'webhook-id'} } @now), join(' ', sort @dead[1 .. 3]), 'redeliver_dead: each once, with its webhook-id');
is($server->sql(q{SELECT dmshook.redeliver_dead('dead')}), 0, 'none is left');
wait_commands();
is(scalar(@all = at('/switch/dead')), @before + 5, 'and nothing more is sent');
is(count('dmshook.dead_letters'), 1, 'the dead letter of another webhook is not touched');	# "never", which was dropped
like($server->sql_fails("SELECT dmshook.redeliver('dead', '$other')"), qr/was not for webhook "dead".*HINT/s, 'what was not for it is refused');

# ---- replay ----

my $sold = count(q{dmshook.events WHERE event_type = 'vehicle.sold'});
$receiver->clear;
webhook('late', '/ok/late', enabled => 'true');
is(states('late'), '', 'a new webhook: nothing of before');
is($server->sql(q{SELECT dmshook.replay('late', now() - interval '1 hour')}), $sold, 'replay() counts');
wait_states('late', "delivered|$sold");
my @late = at('/ok/late');
is(scalar @late, $sold, 'all of the past is sent, once');
is(join(' ', map { $_->{headers}{'webhook-id'} } sort { $json->decode($a->{body})->{sequence} <=> $json->decode($b->{body})->{sequence} } @late),
	$server->sql(q{SELECT string_agg(message_id, ' ' ORDER BY sequence) FROM dmshook.events WHERE event_type = 'vehicle.sold'}), 'with the message ids of then');
is(scalar(grep { $_->{body} eq $body{ $_->{headers}{'webhook-id'} } } grep { exists $body{ $_->{headers}{'webhook-id'} } } @late), scalar keys %body, '... and the bodies');
is($server->sql(q{SELECT DISTINCT kind FROM dmshook.attempts WHERE webhook = 'late'}), 'replay', 'in the log as such');
# what it never got, only
my @new = happen(2);
wait_states('late', 'delivered|' . ($sold + 2));
is($server->sql(q{SELECT dmshook.replay('late', now() - interval '1 hour', missing => true)}), 0, 'missing: nothing is');
$server->sql(q{SELECT dmshook.disable_webhook('late')});
my @missed = happen(3);
wait_states('dead', 'delivered|9');
is($server->sql(q{SELECT dmshook.replay('late', now() - interval '1 hour', missing => true)}), 3, 'missing: what happened while it was disabled');
wait_commands();
is(scalar(@late = at('/ok/late')), $sold + 2, 'disabled: a replay waits');
like($server->sql(q{SELECT dmshook.enable_webhook('late')}), qr/3 events were skipped/, 'enabled');
wait_states('late', 'delivered|' . ($sold + 5));
@late = at('/ok/late');
is(join(' ', sort map { $_->{headers}{'webhook-id'} } @late[ $sold + 2 .. $sold + 4 ]), join(' ', sort @missed), 'then it is sent, that and no more');
is(scalar @late, $sold + 5, 'exactly');
# a type, a time
is($server->sql(q{SELECT dmshook.replay('late', now() - interval '1 hour', event_types => '{deal.*}')}), 0, 'a type it does not subscribe to');
is($server->sql(q{SELECT dmshook.replay('late', (SELECT at FROM dmshook.events ORDER BY sequence DESC LIMIT 1), (SELECT at FROM dmshook.events ORDER BY sequence DESC LIMIT 1))}), 1, 'a time: the one event at it');
$receiver->wait_for($sold + 6, sub { $_[0]{path} eq '/ok/late' });
wait_commands();
wait_states('late', 'delivered|' . ($sold + 5));
is((ids_at('/ok/late'))[-1], $missed[-1], '... is sent');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.position WHERE command > 0});
pass('a replay that has ended leaves no position');

# ---- cancel ----

$server->sql(q{SELECT dmshook.pause_webhook('late')});
my @paused = happen(5);
wait_states('dead', 'delivered|14');
is($server->sql("SELECT dmshook.cancel('late', '$paused[1]')"), 't', 'cancel() of what waits');
is($server->sql("SELECT dmshook.cancel('late', '$new[0]')"), 'f', 'cancel() of what was delivered: too late');
wait_commands();
is(states('late'), 'cancelled|1 delivered|' . ($sold + 5) . ' waiting|4', 'one is cancelled');
$n = () = at('/ok/late');
$server->sql(q{SELECT dmshook.resume_webhook('late')});
wait_states('late', 'cancelled|1 delivered|' . ($sold + 9));
is(join(' ', sort((ids_at('/ok/late'))[ $n .. $n + 3 ])), join(' ', sort @paused[ 0, 2, 3, 4 ]), 'the others are sent');
is(() = at('/ok/late'), $n + 4, '... and it is not');
is($server->sql("SELECT dmshook.redeliver('late', '$paused[1]')") =~ /was cancelled/, 1, 'what was cancelled can be sent again');
wait_states('late', 'delivered|' . ($sold + 10));
is((ids_at('/ok/late'))[-1], $paused[1], '... it is');
# all that waits: in the log, and in the queue
$receiver->set('dead', 500);
$server->sql(q{SELECT dmshook.alter_webhook('dead', options => '{"backoff": {"intervals": ["1h"]}, "max_attempts": 2}')});
$server->sql(q{SELECT dmshook.pause_webhook('late')});
happen(6);
wait_states('dead', 'delivered|14 retrying|6');
is($server->sql(q{SELECT dmshook.cancel('dead', message_id) FROM dmshook.deliveries WHERE webhook = 'dead' AND state = 'retrying' ORDER BY sequence LIMIT 1}), 't', 'cancel() of what is retried');
wait_states('dead', 'cancelled|1 delivered|14 retrying|5');
is($server->sql(q{SELECT dmshook.cancel_all('late')}), 6, 'cancel_all() counts what waits in the log');
is($server->sql(q{SELECT dmshook.cancel_all('dead')}), 5, '... and what is retried');
wait_commands();
is(states('late'), 'cancelled|6 delivered|' . ($sold + 10), 'all that waited is cancelled');
is(states('dead'), 'cancelled|6 delivered|14', '... and all that was retried');
is(count('dmshook.queue'), 0, 'nothing is left in the queue');
$receiver->set('dead', 200);
$n = () = at('/ok/late');
$server->sql(q{SELECT dmshook.resume_webhook('late')});
my ($next) = happen(1);
wait_states('late', 'cancelled|6 delivered|' . ($sold + 11));
wait_states('dead', 'cancelled|6 delivered|15');
is((ids_at('/ok/late'))[$n], $next, 'what happens afterwards is sent, and nothing of before');
is(() = at('/ok/late'), $n + 1, '... exactly');

# ---- who did it ----

my @did = split /\n/, $server->sql(q{SELECT split_part(what, ' ', 1) FROM dmshook.changes WHERE what ~ '^(redeliver|replay|cancel)' ORDER BY id});
is(join(' ', sort @did), join(' ', sort(qw(cancel cancel cancel cancel cancel cancel), ('redeliver') x 5, ('replay') x 3)), 'changes says what was sent and called off by hand') or diag $server->sql(q{SELECT webhook, what FROM dmshook.changes ORDER BY id});
is($server->sql(q{SELECT count(*) FROM dmshook.attempts}), $server->sql(q{SELECT count(*) FROM dmshook.attempt WHERE outcome IS NOT NULL}), 'attempts is all of them');
unlike(PostgreSQL::Test::Utils::slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP|WARNING/, 'the server log has no complaint');

done_testing();
