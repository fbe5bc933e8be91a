# Filters that take long: a helper evaluates them, the dispatcher stands still for nobody, and who gets what is the same.
use strict;
use warnings;
use DmshookTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $json = JSON::PP->new->canonical->utf8;
my $server = DmshookTest->new('main');
my $receiver = DmshookTest::Receiver->new;

# Quick where "vip" is there, else each of the list with each.
my $heavy = '$.data.record.vip == true || exists($.data.record.list[*] ? (exists($.data.record.list[*] ? (@ > 100000000))))';
my $id = 0;

sub create
{
	my ($name, $filter, $options, $path) = @_;
	$server->sql(sprintf 'SELECT dmshook.create_webhook(%s, %s, %s, filter => %s, enabled => true, options => %s)', quote($name), quote($receiver->url($path // "/ok/$name")),
		quote('{vehicle.*}'), defined $filter ? quote($filter) : 'NULL', quote($options // '{}'));
}

# n events with a list of so many; every third of them is wanted. Returns the ids that are.
sub happen
{
	my ($n, $list) = @_;
	$server->sql(sprintf q{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', %d + g), jsonb_build_object('vip', g %% 3 = 0, 'list', l.l)))
		FROM generate_series(1, %d) g, (SELECT jsonb_agg(i) AS l FROM generate_series(1, %d) i) l}, $id, $n, $list);
	$id += $n;
	return map { $id - $n + $_ } grep { $_ % 3 == 0 } 1 .. $n;
}

sub ids
{
	my ($path) = @_;
	return map { $json->decode($_->{body})->{data}{key}{id} } $receiver->requests(sub { $_->{path} eq $path });
}

sub sorted { return join ' ', sort { $a <=> $b } @_ }
my $helpers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dmshook transformer'};

#
# Who gets what
#
create('all', undef);
create('heavy', $heavy);
create('ordered', $heavy, '{"ordering": "entity"}');
create('retried', $heavy, '{"backoff": {"initial": "100ms", "factor": 1}, "breaker": null}', '/fail/1/retried');
my @wanted = happen(300, 100);
$receiver->wait_for(300, sub { $_->{path} eq '/ok/all' });
my ($of_all, $heavy_before) = (0, 0);
for ($receiver->requests)
{
	$of_all++ if $_->{path} eq '/ok/all';
	$heavy_before++ if $_->{path} eq '/ok/heavy';
	last if $of_all == 300;
}
cmp_ok($heavy_before, '<', 100, 'the others have theirs long before');
cmp_ok($server->sql($helpers), '>=', 1, 'there is a helper');
$server->wait_sql(q{SELECT string_agg(n || '', ' ') = '100 100 100' FROM (SELECT count(*) AS n FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name <> 'all' AND a.final = 'd' GROUP BY w.id) x});
is(sorted(ids("/ok/$_")), "@wanted", "$_: what the filter lets through") for 'heavy', 'ordered';
is(sorted(keys %{ { map { $_ => 1 } ids('/fail/1/retried') } }), "@wanted", 'retried: the same');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook IN ('heavy', 'ordered')}), 200, 'what it rejects leaves no attempt');
is($server->sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'heavy'}), 100, '... and is no delivery');
is($server->sql(q{SELECT count(*) FROM dmshook.queue}), 0, '... nor in the queue');
is($server->sql(sprintf q{SELECT detail FROM dmshook.explain('heavy', (SELECT message_id FROM dmshook.events WHERE entity_key = '{"id": 1}')) WHERE step = 'filter' AND NOT ok}), "the filter does not hold: $heavy", 'explain() says so');
$server->wait_sql(q{SELECT min(p.low) >= (SELECT max(e.id) FROM dmshook.event e) FROM dmshook.position p});
pass('places have moved on');

#
# Over a crash and a restart, with some under way. A helper that goes because the server stops has not failed
#
push @wanted, happen(150, 100);
$receiver->wait_for(110, sub { $_->{path} eq '/ok/heavy' });
$server->node->stop('immediate');
$server->node->start;
$receiver->wait_for(130, sub { $_->{path} eq '/ok/heavy' });
$server->node->restart;
$server->wait_sql(q{SELECT count(*) = 150 FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'heavy' AND a.final = 'd'});
$server->wait_sql(q{SELECT min(p.low) >= (SELECT max(e.id) FROM dmshook.event e) FROM dmshook.position p});
is(sorted(keys %{ { map { $_ => 1 } ids('/ok/heavy') } }), "@wanted", 'after a crash: all that it lets through, nothing else');
is($server->sql(q{SELECT count(*), min(error) FROM dmshook.attempts WHERE webhook = 'heavy' AND outcome <> 'ok'}), '0|', '... and no attempt failed');

#
# A replay of what an older filter rejected goes by the one that there is now, which is slow, too
#
$server->sql(sprintf q{SELECT dmshook.alter_webhook('heavy', filter => %s)}, quote($heavy =~ s/== true/== false/r));
happen(30, 100);
$receiver->wait_for(20, sub { $_->{path} eq '/ok/heavy' && $json->decode($_->{body})->{data}{key}{id} > 450 });
is($server->sql(q{SELECT dmshook.replay('heavy', now() - interval '1 hour', clock_timestamp(), missing => true)}), 300, 'a replay of what it never got');
$server->wait_sql(q{SELECT count(*) = 300 FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'heavy' AND a.kind = 'y' AND a.final = 'd'});
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.position WHERE command > 0});
is(scalar(keys %{ { map { $_ => 1 } ids('/ok/heavy') } }), 470, '... sends just that, and ends');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'heavy' AND kind = 'replay'}), 300, '... each once');

#
# One that fails in the helper is an attempt; mended, it goes on
#
$server->sql(q{SELECT dmshook.drop_webhook(n) FROM unnest('{ordered,retried}'::text[]) n});
$server->sql('DELETE FROM dmshook.event');		# else it would be tried on these, and refused
create('strict', 'strict $.data.record ? (!exists($.data.record.list[*] ? (exists($.data.record.list[*] ? (@ > 100000000))))).nothing ? (@ > 1)',
	'{"max_attempts": 1000, "breaker": null, "backoff": {"initial": "200ms", "factor": 1}}');
happen(60, 100);
$server->wait_sql(q{SELECT count(*) >= 60 FROM dmshook.queue q JOIN dmshook.webhook w ON w.id = q.webhook WHERE w.name = 'strict' AND q.attempts > 0});
is($server->sql(q{SELECT DISTINCT error FROM dmshook.attempts WHERE webhook = 'strict'}), 'the filter failed: JSON object does not contain key "nothing"', 'an error in the helper');
$server->sql(q{SELECT dmshook.alter_webhook('strict', filter => '$.data.record.vip == true')});
$server->wait_sql(q{SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT d.state, count(*) AS n FROM dmshook.deliveries d WHERE webhook = 'strict' GROUP BY 1) x}, 'cancelled 40, delivered 20');
pass('mended: the new one decides');
unlike(slurp_file($server->node->logfile), qr/PANIC|TRAP|signal 11|exited with exit code 1$/, 'nobody crashed');

done_testing();
