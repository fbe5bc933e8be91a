# What admins call, against a dispatcher that sends: tests, sending by hand, calling off, and what the views say of it.
use strict;
use warnings;
use DmshookTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $json = JSON::PP->new->canonical;

#
# A library that is not preloaded
#
my $bare = DmshookTest->new('bare', preload => 0, conf => "shared_preload_libraries = 'auto_explain'\n");
my ($rc, $out, $err) = $bare->node->psql('postgres', q{SELECT webhook FROM dmshook.create_webhook('A', 'https://localhost/', '{*}')});
is($out, 'A', 'a webhook can be made without the library');
like($err, qr/WARNING:  dmshook is not preloaded/, 'with a warning');
like($err, qr/shared_preload_libraries = 'auto_explain, dmshook'/, 'and the line for postgresql.conf');
is($bare->sql(q{SELECT subject FROM dmshook.check()}), q{shared_preload_libraries}, q{check() says so})
  or diag $bare->sql('SELECT * FROM dmshook.check()');
(undef, undef, $err) = $bare->node->psql('postgres', q{SELECT * FROM dmshook.test_webhook('A')});
like($err, qr/no dispatcher is running.*check\(\)/s, 'a test is refused');
$bare->node->stop;

#
# No room for a dispatcher: the launchers of dmshook and of logical replication take both
#
my $full = DmshookTest->new('full', conf => "max_worker_processes = 2\n");
$full->wait_sql(q{SELECT count(*) = 1 FROM dmshook.check() WHERE level = 'error' AND problem = 'no dispatcher is running for this database' AND hint LIKE 'max_worker_processes is 2,%'});
$full->node->stop;

my $server = DmshookTest->new('main');
my $receiver = DmshookTest::Receiver->new;

sub create
{
	my ($name, $path, %more) = @_;
	$more{events} //= q('{vehicle.*}');
	return $server->sql(sprintf 'SELECT signing_secret FROM dmshook.create_webhook(%s, %s, %s)', quote($name), quote($receiver->url($path)),
		join ', ', map { "$_ => $more{$_}" } sort keys %more);
}

sub emit
{
	my ($id, $type) = @_;
	$type //= 'vehicle.sold';
	return $server->sql(qq{SELECT dmshook.emit('$type', 'vehicle', '{"id": $id}', '{"id": $id, "price": 9999.50}')});
}

# Requests to a path, by webhook-id
sub got
{
	my ($path) = @_;
	return map { $_->{headers}{'webhook-id'} } $receiver->requests(sub { $_[0]{path} eq $path });
}

#
# Tests
#
my $secret = create('A', '/ok/a', headers => q('{"X-Dealer": "17"}'), auth => q('{"kind": "bearer", "token": "hush"}'));
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.dispatchers WHERE state = 'running'});
# the dispatcher reads the configuration when it is woken; a test may come before that
my $test = q{SELECT ok, status, duration_ms > 0, remote_address, message_id, response IS NOT NULL, error, hint FROM dmshook.test_webhook('A')};
my @result = split /\|/, $server->sql($test), -1;
is_deeply([@result[0 .. 3, 5 .. 7]], ['t', 200, 't', '127.0.0.1', 't', '', "It works. It is disabled: SELECT dmshook.enable_webhook('A')."], 'a test of a disabled webhook');
my ($request) = $receiver->wait_for(1);
is($request->{headers}{'webhook-id'}, $result[4], 'has that message id');
is($request->{headers}{'dmshook-test'}, 1, 'is marked in a header');
is($json->decode($request->{body})->{test}, JSON::PP::true, 'and in the body');
is_deeply(verify($secret, $request), [ { standardwebhooks => 'ok', svix => 'ok' } ], 'is signed');
is($request->{headers}{authorization}, 'Bearer hush', 'with its credentials');
is($server->sql(q{SELECT kind, outcome, event_type, message_id FROM dmshook.attempts}), "test|ok|webhook.test|$result[4]", 'is in the log');
is($server->sql(q{SELECT payload FROM dmshook.attempts}), $request->{body}, 'with its body, byte for byte');
# what the view says of the headers is what was sent, but for what is masked
my %shown = %{ $json->decode($server->sql(q{SELECT request_headers FROM dmshook.attempts})) };
my %sent = %{ $request->{headers} };
delete @sent{qw(host content-length accept)};
is(delete $shown{authorization}, 'Bearer ***', 'credentials are masked');
is(delete $shown{'x-dealer'}, '***', 'so are values of custom headers');
is(delete $shown{'webhook-signature'}, 'v1,***', 'and the signature');
delete @sent{qw(authorization x-dealer webhook-signature)};
is_deeply(\%shown, \%sent, 'all other headers are shown as they were');
is($server->sql(q{SELECT count(*) FROM dmshook.deliveries}), 0, 'a test is no delivery');
my $preview = $json->decode($server->sql(q{SELECT body FROM dmshook.preview('A')}));
my $body = $json->decode($request->{body});
delete @{$_}{qw(id timestamp)} for $preview, $body;
is_deeply($body, $preview, 'preview() showed it');

is($server->sql(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dmshook.webhook; SELECT ok, status FROM dmshook.test_webhook('A'); COMMIT}),
	"1\nt|200", 'a test in a transaction with an older snapshot');

my $sample = emit(42);
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('A', 'vehicle.sold', '{"id": 42}')}), 't', 'a test with an event from the log');
($request) = reverse $receiver->wait_for(3);
isnt($request->{headers}{'webhook-id'}, $sample, 'has a message id of its own');
is($json->decode($request->{body})->{data}{record}{price}, 9999.5, 'and the data of the event');
$preview = $json->decode($server->sql(q{SELECT body FROM dmshook.preview('A', 'vehicle.sold')}));
$body = $json->decode($request->{body});
delete $_->{id} for $preview, $body;
is_deeply($body, $preview, 'preview() showed that, too');

create('broken', '/status/500');
like($server->sql(q{SELECT ok, status, error, hint FROM dmshook.test_webhook('broken')}), qr/^f\|500\|.+\|.+$/, 'a test that fails says what and what to do');
create('hangs', '/hang', options => q('{"timeout": "20s"}'));
like($server->sql(q{SELECT ok, error FROM dmshook.test_webhook('hangs', timeout => '300 ms')}), qr/^f\|no result within/, 'one that takes too long');
$server->sql(q{SELECT dmshook.drop_webhook('hangs')});
my $wrong = DmshookTest::Receiver->new(cert => 'unknown');
$server->sql(sprintf q{SELECT dmshook.alter_webhook('broken', url => '%s')}, $wrong->url('/ok'));
$server->wait_sql(q{SELECT (dmshook.test_webhook('broken')).error IS NOT NULL AND (SELECT outcome = 'tls_error' FROM dmshook.attempts WHERE webhook = 'broken' ORDER BY id DESC LIMIT 1)});
$server->sql(q{SELECT dmshook.drop_webhook('broken')});

#
# Deliveries
#
like($server->sql(q{SELECT dmshook.enable_webhook('A')}), qr/^Webhook "A" is enabled: events that commit from now on are sent\.$/, 'enabled, and tested');
my $first = emit(1);
$server->wait_sql(qq{SELECT state = 'delivered' FROM dmshook.deliveries WHERE message_id = '$first'});
is($server->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE entity_key = '{"id": 42}'}), 0, 'what happened before it was enabled is not sent');
($request) = $receiver->wait_for(1, sub { $_->{headers}{'webhook-id'} eq $first });
is($server->sql(qq{SELECT payload FROM dmshook.deliveries WHERE message_id = '$first'}), $request->{body}, 'payload of the delivery');
is($server->sql(qq{SELECT payload FROM dmshook.attempts WHERE message_id = '$first'}), $request->{body}, 'payload of the attempt');
is($server->sql('SELECT count(*) FROM dmshook.check()'), 0, 'check() has nothing to say') or diag $server->sql('SELECT * FROM dmshook.check()');

create('G', '/ok/g?a=b', method => q('GET'), enabled => 'true', events => q('{vehicle.added}'));
my $added = emit(2, 'vehicle.added');
$server->wait_sql(qq{SELECT count(*) = 2 FROM dmshook.deliveries WHERE message_id = '$added' AND state = 'delivered'});
($request) = $receiver->wait_for(1, sub { $_->{request} =~ m{^GET /ok/g} || $_->{path} =~ m{^/ok/g} });
like($server->sql(qq{SELECT url FROM dmshook.attempts WHERE message_id = '$added' AND webhook = 'G'}), qr{/ok/g\?a=b&id=$added&type=vehicle\.added&}, 'url of a GET');
my ($tested) = $server->rows(q{SELECT ok, message_id FROM dmshook.test_webhook('G', 'vehicle.added')});
($request) = $receiver->wait_for(1, sub { ($_->{headers}{'webhook-id'} // '') eq $tested->{message_id} });
my ($logged) = $server->rows(qq{SELECT url, event_type FROM dmshook.attempts WHERE message_id = '$tested->{message_id}'});
is($logged->{url} =~ s{^https://[^/]+}{}r, join('?', $request->{path}, $request->{query} // ()), 'url of a test without a body, with its query string') or diag explain $request;
is($logged->{event_type}, 'vehicle.added', '... and its type');

# a test that failed is no test that was never made
create('X', '/status/500/x');
like($server->sql(q{SELECT ok FROM dmshook.test_webhook('X')}), qr/^f$/, 'a test that fails');
like($server->sql(q{SELECT dmshook.enable_webhook('X')}), qr/ Nothing has got through yet; the last test failed at \d\d:\d\d \(The receiver answered 500 .*\): SELECT \* FROM dmshook\.test_webhook\('X'\)\.$/, 'enable_webhook() says so');
$server->sql(q{SELECT dmshook.drop_webhook('X')});
is($server->sql(qq{SELECT payload IS NULL FROM dmshook.deliveries WHERE message_id = '$added' AND webhook = 'G'}), 't', 'it has no payload');

#
# Sending by hand
#
my $before = () = got('/ok/a');
like($server->sql(qq{SELECT dmshook.redeliver('A', '$first')}), qr/was delivered\) is sent again/, 'redeliver()');
$server->wait_sql(qq{SELECT string_agg(kind || ' ' || outcome, ', ' ORDER BY id) = 'delivery ok, redelivery ok' FROM dmshook.attempts WHERE message_id = '$first'});
is(scalar(grep { $_ eq $first } got('/ok/a')), 2, 'with the same message id');
$server->wait_sql(qq{SELECT state = 'delivered' FROM dmshook.deliveries WHERE message_id = '$first'});

create('D', '/switch/d', enabled => 'true', options => q('{"max_attempts": 1}'));
my @dead = map { emit($_) } 11 .. 15;
$server->wait_sql(q{SELECT count(*) = 5 FROM dmshook.dead_letters WHERE webhook = 'D'});
is($server->sql(q{SELECT DISTINCT state, attempts, status, error IS NOT NULL, hint IS NOT NULL FROM dmshook.dead_letters}), 'exhausted|1|500|t|t', 'dead letters');
$receiver->set('d', 200);
is($server->sql(q{SELECT dmshook.redeliver_dead('D')}), 5, 'redeliver_dead() says how many');
$server->wait_sql(q{SELECT count(*) = 5 FROM dmshook.deliveries WHERE webhook = 'D' AND state = 'delivered'});
is($server->sql(q{SELECT count(*) FROM dmshook.dead_letters}), 0, 'no letter is dead any more');
is($server->sql(q{SELECT dmshook.redeliver_dead()}), 0, 'so there is none to send');

create('late', '/ok/late', enabled => 'true', events => q('{vehicle.sold}'));
my $new = emit(16);
$server->wait_sql(qq{SELECT count(*) = 3 FROM dmshook.deliveries WHERE message_id = '$new' AND state = 'delivered'});
is($server->sql(q{SELECT dmshook.replay('late', now() - interval '1 day', missing => true)}), 7, 'replay() says how many');
$server->wait_sql(q{SELECT count(*) = 7 FROM dmshook.attempts WHERE webhook = 'late' AND kind = 'replay' AND outcome = 'ok'});
$receiver->wait_for(8, sub { $_->{path} eq '/ok/late' });
is_deeply([ sort { $a cmp $b } got('/ok/late') ], [ sort { $a cmp $b } $sample, $first, @dead, $new ], 'what it had missed, and what came the normal way, once each');
is($server->sql(q{SELECT dmshook.replay('late', now() - interval '1 day', missing => true)}), 0, 'nothing is missing now');

#
# Calling off
#
$server->sql(q{SELECT dmshook.pause_webhook('late')});
my @waits = map { emit($_) } 21 .. 25;
$server->wait_sql(q{SELECT count(*) = 5 FROM dmshook.waiting WHERE webhook = 'late' AND why = 'its webhook is paused'});
is($server->sql(qq{SELECT dmshook.cancel('late', '$waits[1]')}), 't', 'cancel() of one that waits');
$server->wait_sql(qq{SELECT state = 'cancelled' FROM dmshook.deliveries WHERE webhook = 'late' AND message_id = '$waits[1]'});
is($server->sql(qq{SELECT dmshook.cancel('late', '$waits[1]')}), 'f', 'is done once');
like($server->sql(q{SELECT dmshook.resume_webhook('late')}), qr/4 events that waited are sent now/, 'resume_webhook() says how many');
$receiver->wait_for(12, sub { $_->{path} eq '/ok/late' });
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.waiting});
ok(!(grep { $_ eq $waits[1] } got('/ok/late')), 'what was cancelled is not sent');
$server->sql(q{SELECT dmshook.pause_webhook('late')});
emit($_) for 31 .. 33;
$server->wait_sql(q{SELECT count(*) = 3 FROM dmshook.waiting});
is($server->sql(q{SELECT dmshook.cancel_all('late')}), 3, 'cancel_all()');
$server->wait_sql(q{SELECT count(*) = 3 FROM dmshook.deliveries WHERE webhook = 'late' AND state = 'cancelled' AND entity_key->>'id' LIKE '3_'});
my $after = emit(34);
$server->sql(q{SELECT dmshook.resume_webhook('late')});
$server->wait_sql(qq{SELECT state = 'delivered' FROM dmshook.deliveries WHERE webhook = 'late' AND message_id = '$after'});
is(scalar(got('/ok/late')), 13, 'and nothing else');

#
# Life
#
$server->sql(q{SELECT dmshook.disable_webhook('late', 'stocktaking')});
emit($_) for 41 .. 43;
like($server->sql(q{SELECT dmshook.enable_webhook('late')}), qr/3 events were skipped while it was disabled/, 'enable_webhook() counts what was skipped');
$after = emit(44);
$server->wait_sql(qq{SELECT state = 'delivered' FROM dmshook.deliveries WHERE webhook = 'late' AND message_id = '$after'});
is(scalar(got('/ok/late')), 14, 'what happened meanwhile is not sent');

create('moves', '/switch/old', enabled => 'true', options => q('{"backoff": {"initial": "1s", "jitter": 0}}'));
my $moved = emit(51);
$server->wait_sql(qq{SELECT state = 'retrying' FROM dmshook.deliveries WHERE webhook = 'moves' AND message_id = '$moved'});
$server->sql(sprintf q{SELECT dmshook.alter_webhook('moves', url => '%s', headers => '{"X-New": "1"}')}, $receiver->url('/ok/new'));
$server->wait_sql(qq{SELECT state = 'delivered' FROM dmshook.deliveries WHERE webhook = 'moves' AND message_id = '$moved'});
($request) = $receiver->wait_for(1, sub { $_->{path} eq '/ok/new' });
is($request->{headers}{'x-new'}, 1, 'a change counts from the next attempt');
like($server->sql(qq{SELECT string_agg(url, ' ' ORDER BY id) FROM dmshook.attempts WHERE webhook = 'moves'}), qr{/switch/old( \S+/switch/old)* \S+/ok/new$}, 'each attempt has the url of then');

$server->sql(q{SELECT dmshook.pause_webhook('moves')});
my $gone = emit(52);
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.waiting WHERE webhook = 'moves'});
$server->sql(q{SELECT dmshook.drop_webhook('moves')});
$server->wait_sql(qq{SELECT state = 'cancelled' FROM dmshook.deliveries WHERE webhook = 'moves' AND message_id = '$gone'});
is($server->sql(q{SELECT count(*) FROM dmshook.waiting}), 0, 'nothing waits for what was dropped');
cmp_ok($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'moves'}), '>=', 2, 'its log stays');

#
# Left open, no function makes the others wait
#
my @calls = (
	q{SELECT dmshook.alter_webhook('D', options => '{"timeout": "9s"}')}, q{SELECT dmshook.disable_webhook('D')}, q{SELECT dmshook.pause_webhook('D')},
	q{SELECT dmshook.drop_webhook('D')}, qq{SELECT dmshook.redeliver('D', '$dead[0]')}, q{SELECT dmshook.redeliver_dead()},
	q{SELECT dmshook.replay('D', now() - interval '1 day')}, q{SELECT dmshook.cancel_all('D')}, q{SELECT dmshook.signing_secret('D')},
	sprintf(q{SELECT dmshook.create_webhook('X', '%s', '{*}')}, $receiver->url('/ok')));
for my $call (@calls)
{
	my ($function) = $call =~ /dmshook\.(\w+)/;
	my $session = $server->session;
	$session->query_safe("BEGIN; $call");
	my $id = emit(60);
	ok($server->wait_sql(qq{SELECT count(*) = 3 FROM dmshook.deliveries WHERE message_id = '$id' AND state = 'delivered'}), "deliveries go on while $function() is not committed");
	$session->query_safe('ROLLBACK');
	$session->quit;
}

#
# The rest of the views
#
my $offset = $server->log_size;
is($server->sql(q{SELECT dmshook.signing_secret('A')}), $secret, 'signing_secret()');
like($server->wait_log(qr/signing secret of webhook "A" was read/, $offset), qr/was read by role/, 'is in the server log');
my $holder = $server->session;
$holder->query_safe(q{BEGIN; SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": 70}', '{}')});
emit(71);
$server->wait_sql(q{SELECT gaps = 1 AND gap_holder ~ '^process \d+ .*idle in transaction' AND oldest_gap_age IS NOT NULL FROM dmshook.dispatchers});
$holder->query_safe('COMMIT');
$holder->quit;
$server->wait_sql(q{SELECT gaps = 0 AND behind_events = 0 AND behind IS NULL AND gap_holder IS NULL FROM dmshook.dispatchers});
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.waiting});
is($server->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE entity_key IN ('{"id": 70}', '{"id": 71}') AND state <> 'delivered'}), 0, 'both were delivered');
is($server->sql(q{SELECT count(*) FROM dmshook.changes WHERE what ~ 'hush|whsec_'}), 0, 'no secret in changes');
unlike(slurp_file($server->node->logfile), qr/hush|\Q$secret\E/, 'nor in the server log');

$server->node->stop;
done_testing();
