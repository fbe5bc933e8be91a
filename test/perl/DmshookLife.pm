# What the tests of the dispatchers' life share: a server, and who runs for which database.
package DmshookLife;
use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(life_node dispatcher wait_dispatcher wait_no_dispatcher launcher quick log_count wait_log claim);

# A server with the library preloaded.
sub life_node
{
	my ($name, %settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	%settings = (
		shared_preload_libraries => "'dmshook'",
		max_worker_processes => 16,
		max_prepared_transactions => 5,
		restart_after_crash => 'on',
		autovacuum => 'off',
		%settings);
	$node->append_conf('postgresql.conf', join('', map { "$_ = $settings{$_}\n" } sort keys %settings));
	return $node;
}

# Process id of the database's dispatcher, or ''. Asked from a database that nobody drops.
sub dispatcher
{
	my ($node, $database) = @_;
	return $node->safe_psql('template1',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND datname = '$database'");
}

sub launcher
{
	my ($node) = @_;
	return $node->safe_psql('template1', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dmshook launcher'");
}

# Wait until there is a dispatcher that has settled (it is idle), and not the one named; returns its pid.
sub wait_dispatcher
{
	my ($node, $database, $not) = @_;
	$not = 0 unless $not;
	$node->poll_query_until('template1',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND datname = '$database'"
		  . " AND state = 'idle' AND pid <> $not")
	  or diag "no dispatcher for $database";
	return dispatcher($node, $database);
}

sub wait_no_dispatcher
{
	my ($node, $database) = @_;
	return $node->poll_query_until('template1',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher' AND datname = '$database'");
}

# The statement succeeds, and at once.
sub quick
{
	my ($node, $database, $sql, $what) = @_;
	my $begin = time;
	my ($rc, $out, $err) = $node->psql($database, $sql);
	my $took = time - $begin;
	ok($rc == 0 && $took < 5, sprintf('%s (%.2f s)', $what, $took)) or diag $err;
}

# How often the server's log has it.
sub log_count
{
	my ($node, $pattern, $from) = @_;
	my $log = slurp_file($node->logfile);
	my $n = () = substr($log, $from || 0) =~ /$pattern/g;
	return $n;
}

# Wait until the log has it, after what it had at the offset.
sub wait_log
{
	my ($node, $pattern, $from) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if substr(slurp_file($node->logfile), $from) =~ $pattern;
		usleep(100_000);
	}
	return 0;
}

# Say that this database may send, as dmshook.claim_database() does.
sub claim
{
	my ($node, $database) = @_;
	$node->safe_psql($database, <<'SQL');
INSERT INTO dmshook.instance (system_identifier, database, major)
	SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database()),
		current_setting('server_version_num')::int / 10000
	FROM pg_control_system();
INSERT INTO dmshook.position (webhook, command, low) VALUES (0, 0, 0);
SQL
}

1;
