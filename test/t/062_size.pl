# Round after round of events, retention of a second: what is removed makes room for what comes, so the tables and their indexes stop growing.
use strict;
use warnings;

use DmshookTest;
use Test::More;

my $events = 2000;		# a round
my $rounds = 8;
# VACUUM is called by hand, so that the sizes do not depend on when autovacuum looks
my $server = DmshookTest->new('size', conf => "autovacuum = off\ndmshook.retention = 1s\n");
my $receiver = DmshookTest::Receiver->new(log => 0);
my @size;

$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{vehicle.*}', enabled => true)}, @$_)
  for [ 'works', $receiver->url('/ok/works') ], [ 'retries', $receiver->url('/fail/1/retries') ];
$server->sql(q{SELECT dmshook.alter_webhook('retries', options => '{"backoff": {"intervals": ["10ms"]}, "breaker": null}')});
my @tables = split /\n/, $server->sql(q{SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c WHERE c.relnamespace = 'dmshook'::pg_catalog.regnamespace AND c.relkind = 'r' ORDER BY 1});

for my $round (1 .. $rounds)
{
	$server->sql(qq{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', g), jsonb_build_object('id', g, 'notes', repeat(md5(g::text), 10)))) FROM generate_series(1, $events) g});
	my $all = $round * $events;
	$server->wait_sql(q{SELECT NOT EXISTS (SELECT FROM dmshook.event) AND NOT EXISTS (SELECT FROM dmshook.attempt WHERE event > 0) AND NOT EXISTS (SELECT FROM dmshook.queue)});
	my $stats = $receiver->stats;
	is($stats->{"path.$_.ok"} // 0, $all, "round $round: $_ got all there were before they went") for '/ok/works', '/fail/1/retries';
	$server->sql('VACUUM ' . join(', ', @tables));
	push @size, $server->sql('SELECT sum(pg_catalog.pg_total_relation_size(t::pg_catalog.regclass)) FROM (VALUES ' . join(', ', map { '(' . quote($_) . ')' } @tables) . ') v(t)');
}
diag("kB after each round: @{[map { int($_ / 1024) } @size]}");
cmp_ok($size[$rounds - 1], '<=', 1.3 * $size[2], 'the tables have stopped growing: after the last round they are at most 1.3 times what they were after the third');

done_testing();
