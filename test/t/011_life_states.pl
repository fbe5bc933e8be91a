# A webhook's life: created, tested, enabled, paused, disabled, altered, renamed, dropped; who gets what; each count exact.
use strict;
use warnings;

use DmshookTest;
use JSON::PP;
use Test::More;

my $server = DmshookTest->new('life', conf => "jit = off\n");
my $receiver = DmshookTest::Receiver->new;
my $json = JSON::PP->new;
my $every_second = '{"backoff": {"initial": "1s", "factor": 1, "max": "1s", "jitter": 0}, "max_attempts": 300}';

sub webhook
{
	my ($name, $path, %more) = @_;
	$more{events} //= '{vehicle.sold}';
	my $more = join '', map { ", $_ => " . quote($more{$_}) } sort keys %more;
	return $server->sql('SELECT signing_secret FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($receiver->url($path)) . "$more)");
}

# Events with keys $from to $to, each in a transaction of its own; seen when the sentinel got them, and nothing else is under way.
my $last = 0;
webhook('sentinel', '/ok/sentinel', events => '{*}', enabled => 'true');
sub happen
{
	my ($n, $type, $tenant) = @_;
	$type //= 'vehicle.sold';
	my ($entity) = split /\./, $type;
	$tenant = defined $tenant ? quote($tenant) : 'NULL';
	$server->sql(join "\n", map { $last++; "SELECT dmshook.emit('$type', '$entity', '{\"id\": $last}', '{}', tenant => $tenant);" } 1 .. $n);
	settle();
	return $last - $n + 1 .. $last;
}
sub settle
{
	$server->wait_sql(q{SELECT count(*) FILTER (WHERE state <> 'delivered') = 0 AND count(*) = (SELECT count(*) FROM dmshook.events WHERE event_type NOT LIKE 'webhook.%') FROM dmshook.deliveries WHERE webhook = 'sentinel'});
	$server->wait_sql(q{SELECT concat_ws(' ', behind_events, in_flight) FROM dmshook.dispatchers}, '0 0');
}

# Keys of the events that came to a path, in the order in which they came; tests left out.
sub keys_of { return join ' ', map { $json->decode($_->{body})->{data}{key}{id} } grep { !$_->{headers}{'dmshook-test'} } at($_[0]); }
sub at { my ($path) = @_; return $receiver->requests(sub { $_[0]{path} eq $path }); }
sub came
{
	my ($path, $n) = @_;
	$receiver->wait_for($n, sub { $_[0]{path} eq $path && !$_[0]{headers}{'dmshook-test'} });
	settle();
	return keys_of($path);
}
sub states { my ($name) = @_; return $server->sql('SELECT state, count(*) FROM dmshook.deliveries WHERE webhook = ' . quote($name) . ' GROUP BY state ORDER BY state') =~ s/\n/ /gr; }
sub tested { my ($args) = @_; return ($server->rows("SELECT * FROM dmshook.test_webhook($args)"))[0]; }

# ---- created: nothing happens ----

my $secret = webhook('a', '/ok/a', options => '{"max_in_flight": 1}');
happen(3);
is(keys_of('/ok/a'), '', 'created, not enabled: nothing is sent');
is(states('a'), '', '... and nothing waits');
is($server->sql(q{SELECT state, why FROM dmshook.webhooks WHERE name = 'a'}), 'disabled|never enabled', 'state and why');

# ---- tested ----

my $t = tested(q{'a'});
my ($r) = $receiver->wait_for(1, sub { $_[0]{path} eq '/ok/a' });
is_deeply([ @$t{qw(ok status error remote_address)} ], [ JSON::PP::true, 200, undef, '127.0.0.1' ], 'a test of a disabled webhook is sent');
like($t->{hint}, qr/It works\. It is disabled: SELECT dmshook\.enable_webhook\('a'\)/, 'the hint says what is next');
cmp_ok($t->{duration_ms}, '>', 0, 'duration_ms');
is($r->{headers}{'dmshook-test'}, 1, 'dmshook-test: 1');
is($r->{headers}{'dmshook-event'}, 'webhook.test', 'dmshook-event');
is($r->{headers}{'webhook-id'}, $t->{message_id}, 'the message id that was told');
my $sent = $json->decode($r->{body});
ok($sent->{test} && JSON::PP::is_bool($sent->{test}), '"test": true');
is("$sent->{type} $sent->{id}", "webhook.test $t->{message_id}", 'type and id');
is_deeply(verify($secret, $r), [ { standardwebhooks => 'ok', svix => 'ok' } ], 'signed as any other');

# a sample from the log; what preview() shows is what is sent
my ($preview) = $server->rows(q{SELECT * FROM dmshook.preview('a', 'vehicle.sold', '{"id": 2}')});
$t = tested(q{'a', 'vehicle.sold', '{"id": 2}'});
$r = ($receiver->wait_for(2, sub { $_[0]{path} eq '/ok/a' }))[1];
$sent = $json->decode($r->{body});
is_deeply([ @$sent{qw(type test)}, $sent->{data}{key}{id} ], [ 'vehicle.sold', JSON::PP::true, 2 ], 'a test with a sample: that event, marked as a test');
is($r->{headers}{'dmshook-test'}, 1, '... in the header, too');
is(scalar(grep { $_->{headers}{'webhook-id'} eq $r->{headers}{'webhook-id'} } $receiver->requests), 1, '... with a message id of its own');
my $shown = $json->decode($preview->{body});
delete @$_{qw(id timestamp)} for $shown, $sent;
is_deeply($shown, $sent, 'preview: the body that is then sent, but for id and time');
is("$preview->{method} $preview->{url}", "$r->{method} " . $receiver->url($r->{path}), 'preview: where to');
my %headers = map { $_ => $r->{headers}{$_} } grep { !/^(host|accept|content-length|webhook-(id|timestamp|signature))$/ } keys %{ $r->{headers} };
my %shown = map { $_ => $preview->{headers}{$_} } grep { !/^webhook-(id|timestamp|signature)$/ } keys %{ $preview->{headers} };
is_deeply(\%shown, \%headers, 'preview: headers');
$t = tested(q{'a', 'deal.completed'});
$r = ($receiver->wait_for(3, sub { $_[0]{path} eq '/ok/a' }))[2];
is($json->decode($r->{body})->{type}, 'deal.completed', 'a type of which there is none in the log: a made-up one');

# methods without a body likewise
webhook('get', '/ok/get', method => 'GET');
($preview) = $server->rows(q{SELECT * FROM dmshook.preview('get', 'vehicle.sold', '{"id": 1}')});
$t = tested(q{'get', 'vehicle.sold', '{"id": 1}'});
($r) = $receiver->wait_for(1, sub { $_[0]{path} =~ m{^/ok/get} });
like($r->{path}, qr/&test=true$/, 'GET: the query string says that it is a test');
(my $url = $receiver->url($r->{path})) =~ s/(id=msg_|timestamp=)[^&]*/$1/g;
$preview->{url} =~ s/(id=msg_|timestamp=)[^&]*/$1/g;
is($preview->{url}, $url, 'GET: preview shows the URL');

is($server->sql(q{SELECT kind, outcome, count(*), count(DISTINCT message_id) FROM dmshook.attempts WHERE webhook = 'a' GROUP BY 1, 2}), 'test|ok|3|3', 'tests are in attempts');
is(states('a'), '', 'not in deliveries');

# a failing one, and what cannot be tested
webhook('bad', '/status/503');
$t = tested(q{'bad'});
is_deeply([ @$t{qw(ok status)} ], [ JSON::PP::false, 503 ], 'a test that fails says so');
like($t->{error}, qr/503/, '... with the error');
like($t->{hint}, qr/./, '... and a hint');
is($server->sql(q{SELECT state FROM dmshook.webhooks WHERE name = 'bad'}), 'disabled', '... and no more comes of it');
webhook('hang', '/hang', options => '{"timeout": "1s"}');
$t = tested(q{'hang', timeout => '300ms'});
is($t->{ok}, JSON::PP::false, 'a test that takes longer than its timeout');
like("$t->{error} $t->{hint}", qr/no result within .*still be under way/, '... says so');
like($server->sql_fails(q{BEGIN; SELECT 1 FROM dmshook.create_webhook('new', 'https://localhost/', '{*}'); SELECT * FROM dmshook.test_webhook('new')}),
	qr/made or altered in this transaction.*HINT:.*commit first/s, 'made in this transaction: refused, with a hint');
like($server->sql_fails(q{BEGIN; SELECT dmshook.alter_webhook('a', method => 'PUT'); SELECT * FROM dmshook.test_webhook('a')}), qr/commit first/, 'altered in this transaction: refused, too');
like($server->sql_fails(q{SELECT * FROM dmshook.test_webhook('a', 'vehicle.sold', '{"id": 99}')}), qr/no event "vehicle.sold" with key.*HINT/s, 'no such sample: refused, with a hint');
$server->sql(q{SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks WHERE name IN ('get', 'bad', 'hang')});

# ---- enabled ----

like($server->sql(q{SELECT dmshook.enable_webhook('a')}), qr/is enabled: events that commit from now on are sent\.$/, 'enabled; nothing was skipped, nothing waits');
my @now = happen(2);
is(came('/ok/a', 2), "@now", 'events since then are sent, none before');
is(states('a'), 'delivered|2', 'deliveries');
is($server->sql(q{SELECT state FROM dmshook.webhooks WHERE name = 'a'}), 'active', 'state');

# ---- paused ----

$server->sql(q{SELECT dmshook.pause_webhook('a')});
my @paused = happen(20);
# a webhook that is less than 10,000 ids behind holds back the reader's place instead of having one: ids that nobody got make it more
$server->sql(q{BEGIN; SELECT count(dmshook.emit('vehicle.sold', 'vehicle', '{}', '{}')) FROM generate_series(1, 12000); ROLLBACK});
push @paused, happen(20);
is(keys_of('/ok/a'), "@now", 'paused: nothing is sent');
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.position WHERE webhook = (SELECT id FROM dmshook.webhook WHERE name = 'a')});
is($server->sql(q{SELECT count(*) FROM dmshook.queue}), 0, 'events queue as one position, not as rows');
is(states('a'), 'delivered|2 waiting|40', 'they are seen as waiting');
is($server->sql(q{SELECT count(*), min(why) FROM dmshook.waiting WHERE webhook = 'a'}), '40|its webhook is paused', 'why they wait');
is($server->sql(q{SELECT state, why FROM dmshook.webhooks WHERE name = 'a'}), 'paused|paused by hand', 'state and why');
is(tested(q{'a'})->{ok}, JSON::PP::true, 'it can be tested');
is(keys_of('/ok/a'), "@now", '... which sends nothing else');
like($server->sql(q{SELECT dmshook.resume_webhook('a')}), qr/is resumed: 40 events that waited are sent now/, 'resumed; the hint counts');
is(came('/ok/a', 42), "@now @paused", 'all are sent, once each, in order');
is(states('a'), 'delivered|42', 'and none waits');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.position WHERE webhook = (SELECT id FROM dmshook.webhook WHERE name = 'a')});
pass('it has no position of its own any more');

# ---- disabled ----

# three wait behind a pause, one in the queue for its retry
webhook('retry', '/switch/retry', enabled => 'true', options => $every_second);
my ($retried) = happen(1);
$receiver->wait_for(1, sub { $_[0]{path} eq '/switch/retry' });
$server->wait_sql(q{SELECT state = 'retrying' FROM dmshook.deliveries WHERE webhook = 'retry'});
$server->sql(q{SELECT dmshook.pause_webhook('a')});
my @waiting = happen(3);
$server->wait_sql(q{SELECT count(*) = 4 FROM dmshook.deliveries WHERE webhook = 'retry' AND state = 'retrying'});
$server->sql(q{SELECT dmshook.disable_webhook('a', 'stocktaking'), dmshook.disable_webhook('retry')});
happen(5);
is(states('a'), 'delivered|43 waiting|3', 'disabled: new events are skipped, what waits stays');
is($server->sql(q{SELECT state, why FROM dmshook.webhooks WHERE name = 'a'}), 'disabled|stocktaking', 'state and reason');
is($server->sql(q{SELECT DISTINCT why FROM dmshook.waiting WHERE webhook = 'a'}), 'its webhook is disabled: stocktaking', 'why they wait');
like($server->sql(q{SELECT dmshook.resume_webhook('a')}), qr/It is disabled: nothing is sent until/, 'resumed, but disabled');
my $tries = () = at('/switch/retry');
$receiver->set('retry', 200);
happen(1);
is(states('a'), 'delivered|43 waiting|3', 'nothing is sent');
like($server->sql(q{SELECT dmshook.enable_webhook('a')}), qr/6 events were skipped while it was disabled.* 3 events that waited are sent now/, 'enabled; the hint counts what was skipped, and what waits');
is(came('/ok/a', 46), "@now @paused $retried @waiting", 'what waited is sent; what was skipped is not');
is(states('a'), 'delivered|46', 'deliveries');
is(scalar(my @x = at('/switch/retry')), $tries, 'a retry of a disabled webhook waits, too');
is(states('retry'), 'retrying|4', 'it is still there');
$server->sql(q{SELECT dmshook.enable_webhook('retry')});
$server->wait_sql(q{SELECT count(*) = 4 FROM dmshook.deliveries WHERE webhook = 'retry' AND state = 'delivered'});
settle();
my %retried = map { $_ => 1 } split / /, keys_of('/switch/retry');
is(join(' ', sort { $a <=> $b } keys %retried), "$retried @waiting", 'enabled, it goes on; events skipped meanwhile are not sent');
is(states('retry'), 'delivered|4', 'deliveries');
$server->sql(q{SELECT dmshook.drop_webhook('retry')});

# ---- altered: from the next attempt on, and the log shows what was then ----

my $old_secret = webhook('b', '/switch/b', enabled => 'true', headers => '{"X-Old": "1"}',
	options => $every_second);
my ($failing) = happen(1);
$receiver->wait_for(1, sub { $_[0]{path} eq '/switch/b' });
my $new_url = $receiver->url('/ok/b');
$server->sql("SELECT dmshook.alter_webhook('b', url => '$new_url', method => 'PUT', headers => '{\"X-New\": \"2\"}', auth => '{\"kind\": \"bearer\", \"token\": \"t\"}', new_name => 'bee')");
my ($put) = $receiver->wait_for(1, sub { $_[0]{path} eq '/ok/b' });
my ($first) = at('/switch/b');
is($put->{method}, 'PUT', 'altered: the next attempt of what waits goes out so');
is($put->{headers}{'webhook-id'}, $first->{headers}{'webhook-id'}, '... the same message');
is($put->{body}, $first->{body}, '... the same body');
is_deeply([ @{ $put->{headers} }{qw(x-old x-new authorization dmshook-webhook)} ], [ undef, '2', 'Bearer t', 'bee' ], '... with the new headers, auth and name');
$server->wait_sql(q{SELECT state = 'delivered' FROM dmshook.deliveries WHERE webhook = 'bee'});
my @attempts = $server->rows(q{SELECT * FROM dmshook.attempts WHERE webhook = 'bee' ORDER BY id});
my $before = $attempts[0];
is("$before->{method} $before->{url}", 'POST ' . $receiver->url('/switch/b'), 'an attempt of before is shown as it was then: where to');
is_deeply([ @{ $before->{request_headers} }{qw(x-old x-new authorization dmshook-webhook)} ], [ '***', undef, undef, 'b' ], '... its headers');
is("$attempts[-1]{method} $attempts[-1]{url}", "PUT $new_url", 'the last one as it was: where to');
is_deeply([ @{ $attempts[-1]{request_headers} }{qw(x-old x-new authorization dmshook-webhook)} ], [ undef, '***', 'Bearer ***', 'bee' ], '... its headers');
is(scalar(grep { $_->{payload} eq $first->{body} } @attempts), scalar @attempts, '... and each with its payload');
is($server->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'b'}), 0, 'renamed: found under the new name');
is_deeply(verify($old_secret, $put), [ { standardwebhooks => 'ok', svix => 'ok' } ], 'the signing secret stays');
# to a method without a body, while it waits
$receiver->set('c', 500);
webhook('c', '/switch/c', enabled => 'true', options => $every_second);
my ($to_get) = happen(1);
$receiver->wait_for(1, sub { $_[0]{path} eq '/switch/c' });
$server->sql(q{SELECT dmshook.alter_webhook('c', method => 'DELETE', url => } . quote($receiver->url('/ok/c?q=1')) . ')');
my ($get) = $receiver->wait_for(1, sub { $_[0]{path} =~ m{^/ok/c} });
like("$get->{method} $get->{path}", qr{^DELETE /ok/c\?q=1&id=msg_.*&type=vehicle\.sold}, 'a method without a body: the retry has a query string');
$server->wait_sql(q{SELECT state = 'delivered' FROM dmshook.deliveries WHERE webhook = 'c'});
is($server->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'c' AND payload IS NULL}), 1, '... and no payload');
ok($server->sql(q{SELECT bool_and((payload IS NOT NULL) = (method = 'POST')) AND count(*) >= 2 FROM dmshook.attempts WHERE webhook = 'c'}) eq 't', 'attempts of then have theirs');

# events and tenant
my $n = () = at('/ok/a');
$server->sql(q{SELECT dmshook.alter_webhook('a', events => '{deal.completed}')});
happen(1);
my ($deal) = happen(1, 'deal.completed');
is(came('/ok/a', 47) =~ s/.* //r, $deal, 'events altered: the new ones');
is(() = at('/ok/a'), $n + 1, '... and no others');
$server->sql(q{SELECT dmshook.alter_webhook('a', tenant => 'Leeds')});
happen(1, 'deal.completed');
happen(1, 'deal.completed', 'York');
my ($leeds) = happen(1, 'deal.completed', 'Leeds');
is(came('/ok/a', 48) =~ s/.* //r, $leeds, 'tenant altered: that one only');
$server->sql(q{SELECT dmshook.alter_webhook('a', tenant => '')});
my ($any) = happen(1, 'deal.completed', 'York');
is(came('/ok/a', 49) =~ s/.* //r, $any, 'and any again');

# ---- dropped ----

webhook('d', '/switch/d', enabled => 'true', options => '{"backoff": {"intervals": ["1h"], "jitter": 0}, "max_attempts": 2}');
my ($parked) = happen(1);
$server->wait_sql(q{SELECT state = 'retrying' FROM dmshook.deliveries WHERE webhook = 'd'});
$server->sql(q{SELECT dmshook.pause_webhook('d')});
happen(4);
is(states('d'), 'retrying|1 waiting|4', 'before it is dropped');
$n = () = at('/switch/d');
$receiver->set('d', 200);
$server->sql(q{SELECT dmshook.drop_webhook('d')});
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL});
is(states('d'), 'cancelled|5', 'dropped: what waited is cancelled, and the log stays under its name');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'd'}), 1, '... with its attempts');
is($server->sql(q{SELECT count(*) FROM dmshook.queue}), 0, 'nothing in the queue');
is($server->sql(q{SELECT count(*) FROM dmshook.position WHERE webhook > 0}), 0, 'no position');
webhook('d', '/ok/d', enabled => 'true');
my ($d) = happen(1);
is(came('/ok/d', 1), $d, 'another one of that name gets what is its own');
is(() = at('/switch/d'), $n, 'nothing is sent to the dropped one');
is($server->sql(q{SELECT state, count(*) FROM dmshook.deliveries WHERE webhook = 'd' GROUP BY 1 ORDER BY 1}), "cancelled|5\ndelivered|1", 'the log has both');
$server->sql(q{SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks WHERE name <> 'sentinel'});

# ---- who gets what: patterns and tenants ----

my %events = (all => '{*}', deals => '{deal.*}', two => '{vehicle.sold,job.created}', overlap => '{vehicle.*,vehicle.sold,*}', own => '{webhook.*}');
webhook("p $_", "/ok/p-$_", events => $events{$_}, enabled => 'true') for sort keys %events;
my %got;
for my $type (qw(vehicle.sold vehicle.added deal.created job.created customer.updated)) { ($got{$type}) = happen(1, $type); }
is(keys_of('/ok/p-all'), join(' ', @got{qw(vehicle.sold vehicle.added deal.created job.created customer.updated)}), '* is all but webhook.*');
is(keys_of('/ok/p-deals'), $got{'deal.created'}, 'deal.*');
is(keys_of('/ok/p-two'), join(' ', @got{qw(vehicle.sold job.created)}), 'two types');
is(keys_of('/ok/p-overlap'), keys_of('/ok/p-all'), 'patterns that overlap: once each');
is(() = at('/ok/p-own'), 0, 'webhook.*: none of them');
$server->sql(q{SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks WHERE name <> 'sentinel'});

$server->sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text, branch text); SELECT count(*) FROM dmshook.watch_vehicle('vehicle', tenant_column => 'branch')});
webhook("t $_", "/ok/t-$_", events => '{vehicle.*}', tenant => $_, enabled => 'true') for qw(Leeds York Hull);
webhook('t any', '/ok/t-any', events => '{vehicle.*}', enabled => 'true');
sub types_of { return join ' ', map { my $e = $json->decode($_->{body}); "$e->{type}/$e->{tenant}" } at($_[0]); }
$server->sql(q{INSERT INTO vehicle VALUES (1, 'in stock', 'Leeds')});
settle();
$server->sql(q{UPDATE vehicle SET status = 'reserved', branch = 'York'});
settle();
$server->sql(q{UPDATE vehicle SET status = 'in stock'});
settle();
is(types_of('/ok/t-Leeds'), 'vehicle.added/Leeds vehicle.status_changed/York', 'a tenant gets its own, and hears that a row left it');
is(types_of('/ok/t-York'), 'vehicle.status_changed/York vehicle.status_changed/York', 'the other tenant hears that it came');
is(types_of('/ok/t-Hull'), '', 'a third one hears nothing');
is(types_of('/ok/t-any'), 'vehicle.added/Leeds vehicle.status_changed/York vehicle.status_changed/York', 'one without a tenant hears all, once');
$server->sql(q{SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks WHERE name <> 'sentinel'});

# ---- one event to twenty ----

webhook("f $_", "/ok/f-$_", enabled => 'true') for 1 .. 20;
my @fan = happen(10);
$server->wait_sql(q{SELECT count(*) = 200 FROM dmshook.deliveries WHERE webhook LIKE 'f %' AND state = 'delivered'});
is(scalar(grep { join(' ', sort { $a <=> $b } split / /, keys_of("/ok/f-$_")) eq "@fan" } 1 .. 20), 20, 'twenty webhooks get each event, once');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook LIKE 'f %'}), 200, '... in 200 requests');
my %bodies = map { $_->{body} => 1 } map { at("/ok/f-$_") } 1 .. 20;
is(scalar keys %bodies, 10, '... with ten bodies');

# ---- the whole, at the end ----

is($server->sql(q{SELECT count(*) FROM dmshook.waiting}), 0, 'nothing waits');
is($server->sql(q{SELECT count(*) FROM dmshook.command WHERE done_at IS NULL}), 0, 'no command is undone');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE kind <> 'test'}), scalar(grep { !$_->{headers}{'dmshook-test'} } $receiver->requests), 'as many requests are logged as came');
is($server->sql(q{SELECT count(*) FROM (SELECT FROM dmshook.attempt WHERE final IS NOT NULL AND kind = 'd' GROUP BY event, webhook HAVING count(*) > 1) t}), 0, 'no delivery ended twice');
is($server->sql(q{SELECT count(*) FROM dmshook.changes WHERE what ~ 'whsec_|Bearer|"t"'}), 0, 'changes has no secret');
unlike(PostgreSQL::Test::Utils::slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP|WARNING/, 'the server log has no complaint');

done_testing();
