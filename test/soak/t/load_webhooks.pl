# Ten thousand webhooks, a tenant each; half of them dead. What a delivery costs is to be what it costs beside ten; one of them altered is a matter of that one.
use strict;
use warnings;

use DmshookTest;
use Test::More;
use Time::HiRes qw(time);

my $many = int(10000 * ($ENV{LOAD} // 1));
my $events = 1000;
my $server = DmshookTest->new('webhooks', conf => "autovacuum = off\ndmshook.max_connections = 64\n");
my $receiver = DmshookTest::Receiver->new(log => 0);

sub dispatcher { return $server->sql('SELECT pid FROM dmshook.dispatchers'); }

# Processor time of the dispatcher, in us.
sub cpu
{
	my ($ns) = split ' ', PostgreSQL::Test::Utils::slurp_file("/proc/$_[0]/schedstat");
	return $ns / 1000;
}

# Memory of its own, in kB.
sub memory
{
	my ($kb) = PostgreSQL::Test::Utils::slurp_file("/proc/$_[0]/status") =~ /^RssAnon:\s+(\d+)/m;
	return $kb;
}

sub done { return $receiver->stats->{'path./ok/active.ok'} // 0; }

# What one delivery to the webhook that works costs the dispatcher: events that commit one by one. The best of three runs.
sub cost
{
	my ($what) = @_;
	my $pid = dispatcher();
	my $best;
	for (1 .. 3)
	{
		my $to = done() + $events;
		my $before = cpu($pid);
		$server->sql(qq{DO \$\$ BEGIN FOR i IN 1 .. $events LOOP PERFORM dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', i), '{}', tenant => 'active'); COMMIT; END LOOP; END \$\$});
		poll_until(sub { done() >= $to }, 'deliveries');
		$server->wait_sql('SELECT in_flight = 0 FROM dmshook.dispatchers');
		my $each = (cpu($pid) - $before) / $events;
		$best = $each if !defined $best || $each < $best;
	}
	is(dispatcher(), $pid, 'the same dispatcher');
	printf "# webhooks.cpu_per_delivery_%s: %.1f us\n", $what, $best;
	return $best;
}

sub create
{
	my ($from, $to) = @_;
	my $begin = time;
	my $pid = dispatcher();
	my $before = cpu($pid);
	for (my $i = $from; $i <= $to; $i += 500)
	{
		my $last = $i + 499 < $to ? $i + 499 : $to;
		$server->sql(sprintf q{SELECT count(dmshook.create_webhook('w' || i, CASE WHEN i %% 2 = 0 THEN '%s' ELSE '%s' END || i, '{vehicle.*,job.*}', tenant => CASE WHEN i %% 2 = 0 THEN 'dead' ELSE 't' || i END, enabled => true,
			options => '{"breaker": {"failures": 1, "deliveries": 1, "probe": {"initial": "1h", "max": "1h"}}, "disable_after": null}')) FROM generate_series(%d, %d) i},
			$receiver->url('/status/500/dead/'), $receiver->url('/ok/t/'), $i, $last);
		$server->wait_sql('SELECT NOT EXISTS (SELECT FROM dmshook.command WHERE done_at IS NULL)');
	}
	printf "# webhooks.create: %.2f ms, of which dispatcher: %.3f ms\n", 1000 * (time - $begin) / ($to - $from + 1), (cpu($pid) - $before) / 1000 / ($to - $from + 1);
}

$server->sql(sprintf q{SELECT dmshook.create_webhook('active', '%s', '{vehicle.sold}', tenant => 'active', enabled => true)}, $receiver->url('/ok/active'));
create(1, 10);
my $few = cost('beside_10');
create(11, $many);
my $idle = cost('beside_idle');
printf "# webhooks.memory: %d kB\n", memory(dispatcher());

# half of them die: one event for all of these, and one that then waits
$server->sql(q{SELECT dmshook.emit('job.created', 'job', '{"id": 1}', '{}', tenant => 'dead')});
$server->wait_sql(sprintf q{SELECT count(*) = %d FROM dmshook.webhook_state WHERE circuit_open_since IS NOT NULL}, int($many / 2));
$server->sql(q{SELECT dmshook.emit('job.created', 'job', '{"id": 2}', '{}', tenant => 'dead')});
my $dead = cost('beside_dead');
printf "# webhooks.memory_dead: %d kB\n", memory(dispatcher());
cmp_ok($_->[1], '<', 2 * $few + 50, "a delivery costs $_->[0] about what it costs beside ten") for [ 'beside idle ones', $idle ], [ 'beside dead ones', $dead ];

my $pid = dispatcher();
my $before = cpu($pid);
my $wall = time;
$server->sql(sprintf q{SELECT dmshook.alter_webhook('w%d', events => '{job.*}')}, $_) for map { 2 * $_ + 1 } 1 .. 10;
$server->wait_sql('SELECT NOT EXISTS (SELECT FROM dmshook.command WHERE done_at IS NULL)');
printf "# webhooks.alter_dispatcher_cpu: %.3f ms\n", (cpu($pid) - $before) / 10000;
for my $view (qw(health webhooks dispatchers), 'check()')
{
	my $begin = time;
	$server->sql("SELECT count(*) FROM (SELECT * FROM dmshook.$view) x");
	printf "# webhooks.%s: %.0f ms\n", $view, 1000 * (time - $begin);
}
$before = cpu($pid);
$server->sql(q{SELECT count(dmshook.drop_webhook(name)) FROM dmshook.webhooks WHERE name <> 'active'});
$server->wait_sql('SELECT NOT EXISTS (SELECT FROM dmshook.command WHERE done_at IS NULL)');
printf "# webhooks.drop_dispatcher_cpu: %.3f ms\n", (cpu($pid) - $before) / 1000 / $many;
cost('after_all');
done_testing();
