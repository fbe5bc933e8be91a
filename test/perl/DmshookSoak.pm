# What the soaks under load share: sizes, memory of a process, waiting as long as something moves.
package DmshookSoak;
use strict;
use warnings;
use Exporter 'import';
use DmshookTest;
use Test::More;

our @EXPORT = qw(scaled memory wait_moving delivered vehicles insert_vehicles);

# LOAD=0.01 make soak SOAK=load_million: so much of what the test is about, at least 10.
sub scaled
{
	my ($n) = @_;
	my $scaled = int($n * ($ENV{LOAD} // 1));
	return $scaled < 10 ? 10 : $scaled;
}

# MB of private memory of a process.
sub memory
{
	my ($pid) = @_;
	open my $f, '<', "/proc/$pid/status" or die "/proc/$pid/status: $!";
	my ($kb) = map { /^RssAnon:\s+(\d+) kB/ ? $1 : () } <$f>;
	return $kb / 1024;
}

# Wait until a count reaches n; as long as it grows, however slowly, it is waited for.
sub wait_moving
{
	my ($count, $n, $what) = @_;
	my $got = $count->();
	while ($got < $n)
	{
		my $before = $got;
		poll_until(sub { ($got = $count->()) > $before }, sub { "$what: stuck at $got of $n" });
	}
	return $got;
}

# A count of what a path of a receiver answered with 200, for wait_moving().
sub delivered
{
	my ($receiver, $path) = @_;
	return sub { $receiver->stats->{"path.$path.ok"} // 0 };
}

# The watched table of the DMS.
sub vehicles
{
	my ($server) = @_;
	$server->sql(q{CREATE TABLE vehicle (id bigint PRIMARY KEY, registration text, make text, status text NOT NULL, notes text)});
	$server->sql(q{SELECT dmshook.watch_vehicle('vehicle')});
}

# SQL that writes n of them, from a number on.
sub insert_vehicles
{
	my ($from, $n) = @_;
	return sprintf q{INSERT INTO vehicle SELECT g, 'AB' || g, 'Volkswagen', 'In stock', 'Full service history, two owners' FROM generate_series(%d, %d) g}, $from, $from + $n - 1;
}

1;
