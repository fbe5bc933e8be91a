# rate_limit is exact, in bursts of at most half a second's worth; max_in_flight holds; neither delays anybody else.
use strict;
use warnings;

use DmshookTest;
use Test::More;
use Time::HiRes qw(time);

my $rate = 40;
my $server = DmshookTest->new('rate', conf => "autovacuum = off\n");
my $receiver = DmshookTest::Receiver->new;

sub webhook
{
	my ($name, $path, $options, $type) = @_;
	$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{%s}', enabled => true, options => '%s')}, $name, $receiver->url($path), $type // 'vehicle.sold', $options);
}

sub happen
{
	my ($type, $n) = @_;
	$server->sql(sprintf q{SELECT count(dmshook.emit('%s', split_part('%1$s', '.', 1), jsonb_build_object('id', g), '{}')) FROM generate_series(1, %d) g}, $type, $n);
}

# When its requests came, in s.
sub arrivals { my ($path) = @_; return map { $_->{at} / 1e6 } $receiver->requests(sub { $_[0]{path} eq $path }); }

webhook('limited', '/ok/limited', qq({"rate_limit": $rate}));
webhook('slow', '/ok/slow', '{"rate_limit": 2}', 'deal.created');
webhook('healthy', '/ok/healthy', '{}');
webhook('narrow', '/slow/100/narrow', '{"max_in_flight": 2}', 'job.created');

# ---- exact: from the 41st (whatever was saved up is gone) over six seconds; the machine's hiccups are given three tries ----

my ($healthy_at, $exact, @said);
for my $try (1 .. 3)
{
	my $n = 1 + $rate + 6 * $rate;
	my $before = arrivals('/ok/limited');
	happen('deal.created', 11) if $try == 1;
	happen('job.created', 20) if $try == 1;
	happen('vehicle.sold', $n);
	$receiver->wait_for($before + $n, sub { $_[0]{path} eq '/ok/limited' });
	my @at = arrivals('/ok/limited');
	@at = sort { $a <=> $b } @at[ $before .. $#at ];
	is(scalar @at, $n, "try $try: $n requests");
	my $seconds = $at[-1] - $at[$rate];
	my $found = ($n - 1 - $rate) / $seconds;
	push @said, sprintf '%.2f/s', $found;
	cmp_ok($found, '<=', $rate * 1.05, "not faster than $rate/s: $said[-1]");

	# half a second's worth that was saved up, and what comes in; the rest is for a machine that hiccups
	my ($most, $j) = (0, 0);
	for my $i (0 .. $#at)
	{
		$j++ while $at[$i] - $at[$j] > 1;
		$most = $i - $j + 1 if $i - $j + 1 > $most;
	}
	cmp_ok($most, '<=', $rate * 2, "no burst: at most $most in a second");
	if ($try == 1)
	{
		my @healthy = arrivals('/ok/healthy');
		is(scalar @healthy, $n, 'a healthy webhook has got all of them meanwhile');
		cmp_ok($healthy[-1] - $healthy[0], '<', $seconds, 'and sooner');
	}
	$exact = $found >= $rate * 0.95;
	last if $exact;
}
ok($exact, "within 5 % over six seconds: @said");

# two a second, in the same time
my @slow = map { $_->{at} / 1e6 } $receiver->wait_for(11, sub { $_[0]{path} eq '/ok/slow' });
@slow = sort { $a <=> $b } @slow;
my $took = $slow[10] - $slow[1];
my $found = 9 / $took;
# one that was held up by the machine, and the one that was saved up meanwhile
cmp_ok(9, '<=', 2 * $took + 1, sprintf '2 a second: not faster (%.3f)', $found);
cmp_ok($found, '>=', 1.5, '2 a second: not much slower');

# while it waits, the view says why
happen('vehicle.sold', 100);
like($server->sql(q{SELECT why FROM dmshook.waiting WHERE webhook = 'limited' ORDER BY sequence DESC LIMIT 1}), qr/at most 40 a second go \(rate_limit\)/, 'waiting says why');

# ---- no more in flight than allowed ----

$receiver->wait_for(20, sub { $_[0]{path} eq '/slow/100/narrow' });
$server->wait_sql(q{SELECT count(*) = 20 FROM dmshook.attempts WHERE webhook = 'narrow'});
is($server->sql(<<'SQL'), 2, 'max_in_flight: never more than two at once, and two');
SELECT max(n) FROM (
	SELECT count(*) AS n FROM dmshook.attempts a JOIN dmshook.attempts b
		ON b.webhook = a.webhook AND b.at <= a.at AND b.at + make_interval(secs => b.duration_ms / 1000.0) > a.at
	WHERE a.webhook = 'narrow' GROUP BY a.id) x
SQL

# a change counts at once
$server->sql(q{SELECT dmshook.alter_webhook('limited', options => '{"rate_limit": null}')});
$server->wait_sql(q{SELECT waiting = 0 FROM dmshook.health WHERE webhook = 'limited'});
pass('without the limit all goes at once');

# ---- those that never had a success begin their further requests in turn, 5 ms apart ----

# a lower bound, so a slow machine cannot break it: the k-th further request is not before its turn, and should
# the first ones have ended meanwhile, which would let others begin at once, then two seconds have passed
webhook("hangs $_", '/hang', '{"timeout": "2s", "max_attempts": 1, "breaker": null}', 'job.completed') for 1 .. 5;
happen('job.completed', 40);
$server->wait_sql(q{SELECT count(*) >= 105 FROM dmshook.attempts WHERE webhook LIKE 'hangs %'});
cmp_ok($server->sql(q{SELECT 1000 * extract(epoch FROM max(at) - min(at)) FROM (SELECT at FROM dmshook.attempts WHERE webhook LIKE 'hangs %' ORDER BY at LIMIT 105) x}),
	'>=', 99 * 5, 'a hundred requests of webhooks that hang take their turns');

done_testing();
