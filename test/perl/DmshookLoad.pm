# What the tests under load share: requests read fast, writers, crashes, sums of what was sent.
package DmshookLoad;
use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use DmshookTest;

our @EXPORT = qw(received repeats dispatcher_pid wait_dispatcher_pid wait_quiet wait_low emit);

# Requests that a receiver got, oldest first: { at (s), path, status, id, sequence, attempt, label of the path }.
# No JSON parser is fast enough for tens of thousands of them.
sub received
{
	my ($receiver, $status) = @_;
	my @requests;
	open my $f, '<', $receiver->{log_file} or die "$receiver->{log_file}: $!";
	while (my $line = <$f>)
	{
		last if $line !~ /\n\z/;
		my ($at, $path, $code) = $line =~ /^\{"at": (\d+), .*?"path": "([^"]*)", "status": (\d+),/ or die "not a request: $line";
		next if defined $status && $code != $status;
		my ($id) = $line =~ /"webhook-id": "([^"]*)"/;
		my ($attempt) = $line =~ /"dmshook-attempt": "(\d+)"/;
		my ($sequence) = $line =~ /\\"sequence\\": ?(\d+)/;
		push @requests, { at => $at / 1e6, path => $path, status => $code, id => $id, sequence => $sequence, attempt => $attempt };
	}
	return @requests;
}

# Ids that came more than once among such requests.
sub repeats
{
	my %n;
	$n{ $_->{id} }++ for @_;
	return grep { $n{$_} > 1 } sort keys %n;
}

sub dispatcher_pid
{
	my ($server, $database) = @_;
	return $server->sql(sprintf q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND datname = '%s'},
		$database // 'postgres');
}

# Wait for a dispatcher that is not the one named.
sub wait_dispatcher_pid
{
	my ($server, $not, $database) = @_;
	$database //= 'postgres';
	$server->wait_sql(sprintf q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND datname = '%s' AND pid <> %d},
		$database, $not // 0);
	return dispatcher_pid($server, $database);
}

# Wait until the dispatcher sleeps, with nothing due: only a wake-up moves it again.
sub wait_quiet
{
	my ($server) = @_;
	return $server->wait_sql(q{SELECT state = 'idle' AND state_change < clock_timestamp() - interval '1.5 s' FROM pg_stat_activity
		WHERE backend_type = 'dmshook dispatcher' AND datname = current_database()});
}

# Wait until the stored position is at the end of the log.
sub wait_low
{
	my ($server) = @_;
	return $server->wait_sql('SELECT low = (SELECT max(id) FROM dmshook.event) FROM dmshook.position WHERE webhook = 0 AND command = 0');
}

# SQL that raises an event; its record may be given.
sub emit
{
	my ($key, $record) = @_;
	return sprintf q{SELECT dmshook.emit('vehicle.added', 'vehicle', '{"id": %d}', '%s');}, $key, $record // '{}';
}

1;
