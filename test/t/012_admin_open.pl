# Every admin function left open in a transaction while deliveries of other webhooks go on; admins do not wait for each other; what commits late counts from where it began.
use strict;
use warnings;

use DmshookTest;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $server = DmshookTest->new('open', conf => "jit = off\nmax_prepared_transactions = 5\n");
my $receiver = DmshookTest::Receiver->new;
my $json = JSON::PP->new;

sub webhook
{
	my ($name, $path, %more) = @_;
	$more{events} //= '{vehicle.sold}';
	$more{enabled} //= 'true';
	my $more = join '', map { ", $_ => " . quote($more{$_}) } sort keys %more;
	return 'SELECT webhook FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($receiver->url($path)) . "$more)";
}
sub happen { my ($id, $type) = @_; return $server->sql('SELECT dmshook.emit(' . quote($type // 'vehicle.sold') . ", 'vehicle', '{\"id\": $id}', '{}')"); }
sub at { my ($path) = @_; return $receiver->requests(sub { $_[0]{path} eq $path }); }
sub keys_at { return sort { $a <=> $b } map { $json->decode($_->{body})->{data}{key}{id} } grep { !$_->{headers}{'dmshook-test'} } at($_[0]); }
sub wait_at { my ($path, $n) = @_; return $receiver->wait_for($n, sub { $_[0]{path} eq $path }); }

# "other" is the one whose deliveries must go on; "target" is what admins hold
$server->sql(webhook('other', '/ok/other') . ';' . webhook('target', '/switch/target', options => '{"backoff": {"intervals": ["1h", "1h"]}, "max_attempts": 3, "breaker": null}') . ';' . webhook('doomed', '/ok/doomed'));
$server->sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text); INSERT INTO vehicle VALUES (0, 'in stock')});
my $first = happen(0);
$server->wait_sql(q{SELECT state = 'retrying' FROM dmshook.deliveries WHERE webhook = 'target'});
$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.deliveries WHERE state = 'delivered'});
$receiver->set('target', 200);

# what is called, and left open
my $url = quote($receiver->url('/ok/elsewhere'));
my $since = q{now() - interval '1 hour'};
my @calls = (
	webhook('new', '/ok/new'),
	"SELECT dmshook.alter_webhook('target', url => $url, events => '{*}', tenant => 'Leeds', headers => '{\"X-A\": \"b\"}', options => '{\"ordering\": \"entity\"}', new_name => 'renamed')",
	q{SELECT dmshook.disable_webhook('target')},
	q{SELECT dmshook.disable_webhook('target'), dmshook.enable_webhook('target')},
	q{SELECT dmshook.pause_webhook('target')},
	q{SELECT dmshook.pause_webhook('target'), dmshook.resume_webhook('target')},
	q{SELECT dmshook.drop_webhook('target')},
	q{SELECT * FROM dmshook.test_webhook('target')},
	q{SELECT * FROM dmshook.preview('target')},
	q{SELECT * FROM dmshook.retry_schedule('target')},
	"SELECT dmshook.redeliver('other', '$first')",
	q{SELECT dmshook.redeliver_dead()},
	"SELECT dmshook.replay('other', $since)",
	"SELECT dmshook.cancel('target', '$first')",
	q{SELECT dmshook.cancel_all('target')},
	q{SELECT dmshook.signing_secret('target')},
	q{SELECT count(*) FROM dmshook.check()},
	q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')},
	q{SELECT dmshook.define_event_type('test_drive.booked', 'test_drive', 'A test drive was booked')},
	q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": -1}', '{}')},
	q{SELECT count(*) FROM dmshook.deliveries, dmshook.attempts, dmshook.waiting, dmshook.webhooks},
	q{SELECT count(*) FROM dmshook.webhook FOR UPDATE},
	'LOCK TABLE dmshook.webhook, dmshook.subscription, dmshook.webhook_secret, dmshook.webhook_version, dmshook.change, dmshook.command IN ROW EXCLUSIVE MODE');
$calls[-2] = 'SELECT count(*) FROM (SELECT FROM dmshook.webhook FOR UPDATE) w';

# functions that other parts have added since are called, too
my %more = (rotate_secret => q{SELECT dmshook.rotate_secret('target')}, erase => q{SELECT * FROM dmshook.erase('vehicle', '{"id": 0}')}, explain => "SELECT * FROM dmshook.explain('target', '$first')");
for my $name (sort keys %more)
{
	push @calls, $more{$name} if $server->sql("SELECT count(*) FROM pg_proc WHERE pronamespace = 'dmshook'::regnamespace AND proname = '$name'") > 0;
}

my $n = 0;
my %other = map { $_ => 1 } keys_at('/ok/other');
for my $call (@calls)
{
	(my $what = $call) =~ s/^SELECT (count\(\*\) FROM |\* FROM |webhook FROM )?|dmshook\.|\(.*//gs;
	my $session = $server->session('postgres');
	$session->query_safe('BEGIN');
	$session->query_safe($call);
	$n++;
	my $begin = time;
	my $id = happen($n);
	$server->wait_sql("SELECT state = 'delivered' FROM dmshook.deliveries WHERE webhook = 'other' AND message_id = '$id'");
	my $took = time - $begin;
	# and one that is tried again, from the queue
	ok($took < 20, sprintf '%s is left open: deliveries of others go on', $what);
	is($server->sql(q{SELECT state FROM dmshook.dispatchers}), 'running', '... the dispatcher waits for nothing');
	is($server->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND wait_event_type = 'Lock'}), 0, '... for no lock') ;
	$session->query_safe('ROLLBACK');
	$session->quit;
}
is(join(' ', keys_at('/ok/other')), join(' ', 0 .. $n), 'each event once; nothing that was rolled back') or diag explain [ keys_at('/ok/other') ];
is($server->sql(q{SELECT count(*) FROM dmshook.command WHERE done_at IS NULL}), 0, 'no command is left');
is($server->sql(q{SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM dmshook.webhooks}), 'doomed active, other active, target active', 'all rolled back');
is($server->sql(q{SELECT count(*) FROM dmshook.waiting WHERE webhook = 'target'}), 1, 'what waited still waits');

# ---- all left open together, and retries of the queue go on, too ----

$server->sql(webhook('flaky', '/fail/1/502', options => '{"backoff": {"intervals": ["500ms", "500ms"], "jitter": 0}, "breaker": null}'));
my @held;
my $k = 0;
for my $call ((grep { /alter_webhook|replay|redeliver\(/ } @calls), q{SELECT dmshook.disable_webhook('doomed')})
{
	my $session = $server->session('postgres');
	$session->query_safe("SET application_name = 'held'; BEGIN");
	$session->query_safe($call);
	push @held, $session;
}
my @ids = map { happen(++$n) } 1 .. 20;
$server->wait_sql(q{SELECT count(*) = 20 AND min(attempts) = 2 FROM dmshook.deliveries WHERE webhook = 'flaky' AND state = 'delivered'});
pass('retries go on while admins hold their changes');
# two admins at two webhooks
my $begin = time;
$server->sql(q{SET lock_timeout = '10s'; SELECT dmshook.pause_webhook('flaky'); SELECT dmshook.resume_webhook('flaky'); SELECT dmshook.alter_webhook('other', headers => '{"X-B": "c"}');
	SELECT dmshook.disable_webhook('flaky'); SELECT dmshook.enable_webhook('flaky'); SELECT dmshook.cancel_all('flaky')});
pass('admins of other webhooks do not wait');
is($server->sql(webhook('meanwhile', '/ok/meanwhile')), 'meanwhile', 'nor who makes one');
like($server->sql_fails(q{SET lock_timeout = '200ms'; SELECT dmshook.pause_webhook('target')}), qr/lock timeout/, 'only who wants the same one does');
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('target')}), 't', 'a webhook that somebody holds can be tested');
is($server->sql("SELECT dmshook.cancel('target', '$first')"), 't', 'and what waits for it called off');
$_->query_safe('ROLLBACK') for @held;
$_->quit for @held;
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.waiting WHERE webhook = 'target'});

# ---- committed late: it counts for the events since it was called ----

my $late = $server->session('postgres');
$late->query_safe('BEGIN');
$late->query_safe(webhook('late', '/ok/late', events => '{vehicle.added}'));
my @late = map { $n++; happen($n, 'vehicle.added'); $n } 1 .. 3;
# the dispatcher is beyond them
$server->wait_sql('SELECT behind_events = 0 FROM dmshook.dispatchers');
my $sold = happen(++$n);
$server->wait_sql("SELECT state = 'delivered' FROM dmshook.deliveries WHERE webhook = 'other' AND message_id = '$sold'");
is(() = at('/ok/late'), 0, 'created, not committed: nothing is sent');
$late->query_safe('COMMIT');
wait_at('/ok/late', 3);
push @late, ++$n;
happen($n, 'vehicle.added');
wait_at('/ok/late', 4);
is(join(' ', keys_at('/ok/late')), "@late", 'created and committed late: it gets the events since it was called, once each');

$late->query_safe('BEGIN');
$late->query_safe(q{SELECT dmshook.alter_webhook('late', events => '{vehicle.status_changed}')});
my $changed = ++$n;
happen($changed, 'vehicle.status_changed');
my $added = ++$n;
happen($added, 'vehicle.added');
wait_at('/ok/late', 5);
is((keys_at('/ok/late'))[-1], $added, 'altered, not committed: it still gets what it got');
$late->query_safe('COMMIT');
wait_at('/ok/late', 6);
is(join(' ', (keys_at('/ok/late'))[ -2, -1 ]), "$changed $added", 'committed: what it gets now since it was called, too');
happen(++$n, 'vehicle.added');
happen(++$n, 'vehicle.status_changed');
wait_at('/ok/late', 7);
is((keys_at('/ok/late'))[-1], $n, 'and from then on no other');

$late->query_safe('BEGIN');
$late->query_safe(q{SELECT dmshook.disable_webhook('late')});
happen(++$n, 'vehicle.status_changed');
wait_at('/ok/late', 8);
$late->query_safe('COMMIT');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL});
happen(++$n, 'vehicle.status_changed');
my $last = happen(++$n);
$server->wait_sql("SELECT state = 'delivered' FROM dmshook.deliveries WHERE webhook = 'other' AND message_id = '$last'");
is(scalar(my @x = at('/ok/late')), 8, 'disabled, committed late: what was sent until then was sent, nothing afterwards');

# prepared: neither there nor gone until it is decided
$server->sql(q{BEGIN; SELECT dmshook.enable_webhook('late'); PREPARE TRANSACTION 'enable'});
my $prepared = ++$n;
happen($prepared, 'vehicle.status_changed');
$last = happen(++$n);
$server->wait_sql("SELECT state = 'delivered' FROM dmshook.deliveries WHERE webhook = 'other' AND message_id = '$last'");
is(scalar(@x = at('/ok/late')), 8, 'enabled by a prepared transaction: not yet');
$server->sql(q{COMMIT PREPARED 'enable'});
wait_at('/ok/late', 9);
is((keys_at('/ok/late'))[-1], $prepared, 'COMMIT PREPARED: it gets what happened since');
$late->quit;

# ---- two at the same one: the second waits for the first, both count ----

my ($one, $two) = map { $server->session('postgres') } 1 .. 2;
$one->query_safe('BEGIN');
$one->query_safe(q{SELECT dmshook.alter_webhook('late', events => '{deal.created}')});
$two->query_until(qr/asked/, "\\echo asked\nSELECT dmshook.alter_webhook('late', method => 'PUT', options => '{\"timeout\": \"9s\"}');\n");
$server->wait_sql(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%alter_webhook%PUT%'});
$one->query_safe('COMMIT');
$two->query_safe('SELECT 1');
is($server->sql(q{SELECT events, method, options->>'timeout' FROM dmshook.webhooks WHERE name = 'late'}), '{deal.created}|PUT|9s', 'two changes of one webhook at once: neither is lost');
$one->quit;
$two->quit;
$server->sql(q{SELECT dmshook.emit('deal.created', 'deal', '{"id": 7777}', '{}')});
wait_at('/ok/late', 10);
my ($put) = (at('/ok/late'))[-1];
is("$put->{method} " . $json->decode($put->{body})->{type}, 'PUT deal.created', '... on the wire');

$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.waiting});
is($server->sql(q{SELECT count(*) FROM (SELECT FROM dmshook.attempt WHERE final = 'd' AND kind = 'd' GROUP BY event, webhook HAVING count(*) > 1) t}), 0, 'nothing was delivered twice');
unlike(PostgreSQL::Test::Utils::slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP|WARNING|deadlock/, 'the server log has no complaint');

done_testing();
