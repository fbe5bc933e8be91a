# A month of days, with the clock moved in the data: what is removed makes room for what comes, so no table and no index grows after the first days.
use strict;
use warnings;

use DmshookTest;
use Test::More;

my $events = 300;		# a day
my $days = 30;
# VACUUM is called by hand, so that the sizes do not depend on when autovacuum looks
my $server = DmshookTest->new('size', conf => "autovacuum = off\n");
my $receiver = DmshookTest::Receiver->new(log => 0);
my @size;

my @webhook = ([ 'works', '/ok/works', '{}' ], [ 'retries', '/fail/1/retries', '{"backoff": {"intervals": ["10ms"]}, "breaker": null}' ],
	[ 'dead', '/status/400/dead', '{"max_attempts": 1, "breaker": null, "disable_after": null}' ]);
$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{vehicle.*}', enabled => true, options => '%s')}, $_->[0], $receiver->url($_->[1]), $_->[2]) for @webhook;
my @tables = split /\n/, $server->sql(q{SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c WHERE c.relnamespace = 'dmshook'::pg_catalog.regnamespace AND c.relkind = 'r' ORDER BY 1});

my $vacuum = 'VACUUM ' . join ', ', @tables;

sub sizes
{
	return { map { split /\|/ } split /\n/, $server->sql('SELECT t, pg_catalog.pg_total_relation_size(t::pg_catalog.regclass) FROM (VALUES ' . join(', ', map { '(' . quote($_) . ')' } @tables) . ') v(t)') };
}

for my $day (1 .. $days)
{
	my $all = $day * $events;
	$server->sql(qq{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', g), jsonb_build_object('id', g, 'notes', repeat(md5(g::text), 10)))) FROM generate_series(1, $events) g});
	$server->wait_sql(sprintf q{SELECT count(*) = %d FROM dmshook.attempt WHERE final IS NOT NULL AND at > clock_timestamp() - interval '1 day'}, 3 * $events);
	# half a year later: it all goes, a batch at a time. Every ten days a reload makes the dispatcher look at once
	$server->sql(join '; ', (map { sprintf q{UPDATE dmshook.%s SET %s = %2$s - interval '%3$d days' WHERE %2$s > clock_timestamp() - interval '1 day'}, @$_, 180 + $day }
			[ 'event', 'at' ], [ 'attempt', 'at' ], [ 'webhook_count', 'at' ], [ 'alert', 'at' ], [ 'command', 'done_at' ]), $vacuum);
	if ($day % 10 == 0)
	{
		$server->wait_sql(q{SELECT pg_reload_conf() AND NOT EXISTS (SELECT FROM dmshook.event WHERE type NOT LIKE 'webhook.%') AND NOT EXISTS (SELECT FROM dmshook.attempt) AND NOT EXISTS (SELECT FROM dmshook.queue)});
		my $stats = $receiver->stats;
		is($stats->{"path.$_.ok"} // 0, $all, "day $day: $_ got all there were before they went") for '/ok/works', '/fail/1/retries';
	}
	next if $day != 10 && $day != $days;
	$server->sql($vacuum);
	push @size, sizes();
}
# what leaked would be three times as large
for my $table (@tables)
{
	my ($before, $after) = map { $_->{$table} } @size;
	cmp_ok($after, '<=', 1.6 * $before + 131072, "$table: as large after a month as after ten days ($before, $after bytes)");
}
my ($ten, $month) = map { my $of = $_; my $sum = 0; $sum += $of->{$_} for @tables; $sum } @size;
cmp_ok($month, '<=', 1.3 * $ten, "all of them: at most 1.3 times ($ten, $month bytes)");

done_testing();
