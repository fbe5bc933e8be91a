# Filters: what holds is sent and nothing else, today, after a restart and for what waited; an error is seen, and disturbs nobody.
use strict;
use warnings;
use DmshookTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $json = JSON::PP->new->canonical->utf8;
my $server = DmshookTest->new('main', conf => "max_worker_processes = 4\n");
my $receiver = DmshookTest::Receiver->new;

sub create
{
	my ($name, $filter, %more) = @_;
	$more{options} //= q('{}');
	$more{events} //= q('{vehicle.*}');
	return $server->sql(sprintf 'SELECT hint FROM dmshook.create_webhook(%s, %s, filter => %s, enabled => true, %s)', quote($name),
		quote($receiver->url("/ok/$name")), defined $filter ? quote($filter) : 'NULL', join ', ', map { "$_ => $more{$_}" } sort keys %more);
}

my $id = 0;

sub emit
{
	my ($record, %more) = @_;
	$id++;
	return $server->sql(sprintf q{SELECT dmshook.emit('%s', 'vehicle', '{"id": %d}', %s)}, $more{type} // 'vehicle.sold', $id, quote($record));
}

sub sent
{
	my ($name) = @_;
	return join ' ', sort { $a <=> $b } map { $json->decode($_->{body})->{data}{key}{id} } $receiver->requests(sub { $_->{path} eq "/ok/$name" && !$_->{headers}{'dmshook-test'} });
}

# A mark that every webhook gets, after all that was before it
sub settle
{
	emit('{"price": 99999, "sold": true, "vip": true}');
	my $mark = $id;
	for my $name (@_)
	{
		$receiver->wait_for(1, sub { $_->{path} eq "/ok/$name" && $_->{body} =~ /"id": ?$mark\b/ });
	}
	$server->wait_sql(sprintf q{SELECT count(*) = %d FROM dmshook.deliveries WHERE entity_key = '{"id": %d}' AND state = 'delivered' AND webhook IN (%s)}, scalar @_, $mark, join ', ', map { quote($_) } @_);
	return $mark;
}

#
# Both forms
#
create('all', undef);
create('predicate', '$.data.record.price > 10000');
create('condition', '$.data.record ? (@.price > 10000 && @.sold == true)');
create('type', '$.type == "vehicle.sold"');
emit('{"price": 20000, "sold": true}');     # 1
emit('{"price": 20000, "sold": false}');
emit('{"price": 5, "sold": true}');
emit('{"price": "much", "sold": true}');
emit('{"sold": true}');
emit('{}');
emit('{"price": 10000.01, "sold": true}', type => 'vehicle.added');
my $mark = settle(qw(all predicate condition type));
is(sent('all'), "1 2 3 4 5 6 7 $mark", 'without a filter');
is(sent('predicate'), "1 2 7 $mark", 'a predicate: true, and neither false nor unknown');
is(sent('condition'), "1 7 $mark", 'a path with a condition');
is(sent('type'), "1 2 3 4 5 6 $mark", 'the whole payload is seen');
is($server->sql(q{SELECT string_agg(entity_key->>'id', ' ' ORDER BY sequence) FROM dmshook.deliveries WHERE webhook = 'predicate'}), "1 2 7 $mark", 'what is filtered out is no delivery');
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('predicate', 'vehicle.sold', '{"id": 3}')}), 't', 'a test is sent, whatever the filter says');

#
# It counts for events that commit after it was altered; what waits is judged as when it came
#
$server->sql(q{SELECT dmshook.pause_webhook('predicate')});
emit('{"price": 20000}');                   # 9
emit('{"price": 200}');
$server->sql(q{SELECT dmshook.alter_webhook('predicate', filter => '$.data.record.price < 10000 || $.data.record.vip == true')});
emit('{"price": 20000}');                   # 11
emit('{"price": 200}');
is($server->sql(q{SELECT string_agg(entity_key->>'id', ' ' ORDER BY sequence) FROM dmshook.deliveries WHERE webhook = 'predicate' AND state = 'waiting'}), '9 12', 'the views judge likewise');
$server->node->restart;
$server->sql(q{SELECT dmshook.resume_webhook('predicate')});
my $next = settle(qw(all predicate));
is(sent('predicate'), "1 2 7 $mark 9 12 $next" =~ s/(.*)/join ' ', sort { $a <=> $b } split ' ', $1/er, 'after a restart, too');

#
# A replay goes by the filter that there is now
#
my $n = $server->sql(q{SELECT dmshook.replay('predicate', now() - interval '1 hour', clock_timestamp())});
is($n, 5, 'a replay counts what the filter holds for');   # 3 10 12, the two marks
$receiver->wait_for(1 + split(' ', sent('predicate')), sub { $_->{path} eq '/ok/predicate' });
$server->wait_sql(q{SELECT count(*) = 5 FROM dmshook.attempts WHERE webhook = 'predicate' AND kind = 'replay'});
is($server->sql(q{SELECT string_agg(e.entity_key->>'id', ' ' ORDER BY e.sequence) FROM dmshook.attempts a JOIN dmshook.events e USING (message_id) WHERE a.kind = 'replay'}),
	"3 $mark 10 12 $next" =~ s/(.*)/join ' ', sort { $a <=> $b } split ' ', $1/er, '... and sends just that');

#
# An error is an attempt that says why, retried by plan; an altered filter mends it
#
my $short = q('{"backoff": {"initial": "200ms", "factor": 1, "jitter": 0}, "max_attempts": 300}');
$server->sql(q{DELETE FROM dmshook.event});      # nothing that the filter would be tried on
create('strict', 'strict $.data.record.price ? (@ > 10)', options => $short);
emit('{"price": 20}');                      # good
my $good = $id;
emit('{"vip": true}');
my $vip = $id;
emit('{"vip": false}');
my $plain = $id;
$server->wait_sql(qq{SELECT count(*) = 2 FROM dmshook.deliveries WHERE webhook = 'strict' AND state = 'retrying' AND attempts > 1 AND entity_key IN ('{"id": $vip}', '{"id": $plain}')});
is(sent('strict'), $good, 'an error does not stop the others');
my ($attempt) = $server->rows(q{SELECT DISTINCT outcome, status, error, hint FROM dmshook.attempts WHERE webhook = 'strict' AND outcome <> 'ok'});
is($attempt->{outcome}, 'internal_error', 'it is an attempt');
like($attempt->{error}, qr/^the filter failed: JSON object does not contain key "price"$/, '... that says why');
like($attempt->{hint}, qr/alter_webhook/, '... and what to do');
$server->sql(q{SELECT dmshook.alter_webhook('strict', filter => '$.data.record.vip == true')});
$server->wait_sql(qq{SELECT string_agg(state, ' ' ORDER BY sequence) FROM dmshook.deliveries WHERE webhook = 'strict'}, 'delivered delivered cancelled');
is(sent('strict'), "$good $vip", 'the new filter judges what the old one could not');
is($server->sql(qq{SELECT error FROM dmshook.deliveries WHERE webhook = 'strict' AND state = 'cancelled'}), 'the filter failed before, and now rejects the event', '... also against it');

# given up, mended, sent again by hand
$server->sql(q{DELETE FROM dmshook.event});
create('dead', 'strict $.data.record.price ? (@ > 10)', options => q('{"max_attempts": 1}'));
emit('{"vip": true}') for 1 .. 2;
$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.dead_letters WHERE webhook = 'dead'});
$server->sql(q{SELECT dmshook.alter_webhook('dead', filter => '$.data.record.vip == true'), dmshook.redeliver_dead('dead')});
$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.deliveries WHERE webhook = 'dead' AND state = 'delivered'});
is(scalar($receiver->requests(sub { $_->{path} eq '/ok/dead' })), 2, 'dead letters of a filter are sent again');

#
# A payload that jsonb does not know; a filter that is none (a table written by hand)
#
$server->sql(q{SELECT dmshook.define_event_type('note.added', 'note', 'A note'); CREATE TABLE note (id int PRIMARY KEY, text json);
	SELECT dmshook.watch('note', 'note.added', 'insert')});
create('note', '$.data.record.id > 0', events => q('{note.*}'), options => $short);
$server->sql(q{INSERT INTO note VALUES (1, '"a\u0000b"'), (2, '"ab"')});
$server->wait_sql(q{SELECT string_agg(DISTINCT coalesce(error, state), '; ') FROM dmshook.deliveries WHERE webhook = 'note'},
	'delivered; the filter failed: the payload cannot be read as jsonb: unsupported Unicode escape sequence');
$server->sql(q{SELECT dmshook.alter_webhook('note', filter => '$.data.record.id > 1');
	UPDATE dmshook.subscription SET filter = '$.' WHERE filter = '$.data.record.id > 1'; SELECT dmshook.alter_webhook('note', options => '{"timeout": "9s"}')});
$server->sql(q{INSERT INTO note VALUES (3, '1')});
$server->wait_sql(q{SELECT error ~ '^the filter failed: invalid filter: syntax error' FROM dmshook.attempts WHERE webhook = 'note' ORDER BY id DESC LIMIT 1});
$server->sql(q{SELECT dmshook.drop_webhook('note')});
pass('what cannot be judged is an attempt');

#
# One that takes long: cancelled, seen, and nobody waits for it
#
create('slow', '$.data.record.list[*] ? (exists($.data.record.list[*] ? (@ > 100000000)))', options => q('{"max_attempts": 2}'));
my $offset = $server->log_size;
my $before = $server->sql(q{SELECT pid FROM dmshook.dispatchers});
$server->sql(q{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', 100000 + n), jsonb_build_object('list', (SELECT jsonb_agg(i) FROM generate_series(1, 5000) i))))
	FROM generate_series(1, 20) n});
$receiver->wait_for(20, sub { $_->{path} eq '/ok/all' && $_->{body} =~ /"id": ?1000\d\d/ });
$server->wait_sql(q{SELECT count(*) = 20 FROM dmshook.deliveries WHERE webhook = 'slow' AND state IN ('retrying', 'exhausted')});
like($server->sql(q{SELECT error FROM dmshook.attempts WHERE webhook = 'slow' ORDER BY id LIMIT 1}), qr/^the filter failed: it took longer than 1000 ms$/, 'it is cancelled, in the helper');
like($server->sql(q{SELECT error FROM dmshook.attempts WHERE webhook = 'slow' ORDER BY id DESC LIMIT 1}), qr/^the filter failed: it took longer than 1000 ms before, and rests for \d+ s$/, 'and not tried again and again');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'slow' AND error ~ 'longer than 1000 ms$' AND attempt = 1}), '1', '... but once');
is($server->sql(q{SELECT pid FROM dmshook.dispatchers}), $before, 'the dispatcher is the same');
unlike(substr(slurp_file($server->node->logfile), $offset), qr/ERROR|FATAL|PANIC/, 'nothing in the log of the server');
$server->sql(q{SELECT dmshook.alter_webhook('slow', filter => '$.data.record.vip == true')});
$next = settle(qw(all slow));
is(sent('slow'), $next, 'mended');

# refused at the door, where there are such events to try it on
like($server->sql_fails(q{SELECT dmshook.alter_webhook('slow', filter => '$.data.record.list[*] ? (exists($.data.record.list[*] ? (@ > 100000000)))')}),
	qr/the filter took \d+ ms on event msg_.*HINT:  It may take 100 ms/s, 'one that is too slow is refused');

done_testing();
