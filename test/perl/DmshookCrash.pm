=pod

=head1 NAME

DmshookCrash - kill -9 under load, life after life; then what was committed is compared with what arrived

=head1 SYNOPSIS

  use DmshookCrash;
  crash_test(
      name => 'crash',
      lives => [ { kill => 'server', commit => [qw(on off)], requests => 300 }, ... ],
      events => 2000,           # written at least, in a last life without a crash
      rate => 200);             # transactions a second of each kind of writer

What is killed, when so many requests more were answered: C<server>, the postmaster and all its children at one
moment, as when the power goes; C<postmaster>, it alone, and the children notice; C<dispatcher>, C<launcher>;
C<backend>, one that writes. In lives where nobody waits for commits and the server is killed the WAL writer
stands still: what nobody flushes stays in memory, where kill -9 finds it.

Two webhooks, one that works and one whose receiver fails once for each event. Further: customers (1000), how many
rows writers meet at; clients (4), of each kind of writer.

=cut

package DmshookCrash;

use strict;
use warnings;

use Exporter 'import';
use DmshookLoad;
use DmshookTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use Time::Local;

our @EXPORT = qw(crash_test);

my @paths = ('/ok/plain', '/fail/1/500/retried');
my ($server, $receiver, %option);
my (@scripts, @writers);
my %met;						# prepared transactions, by how many crashes they outlived

sub crash_test
{
	%option = (customers => 1000, clients => 4, @_);
	$server = DmshookTest->new($option{name}, restart_after_crash => 1, conf => <<'CONF');
max_prepared_transactions = 50
autovacuum = off
checkpoint_timeout = 30s
wal_buffers = 16MB
jit = off
CONF
	$receiver = DmshookTest::Receiver->new;
	$server->sql(<<"SQL");
CREATE TABLE vehicle (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL, price int);
CREATE TABLE customer (id int PRIMARY KEY, name text);
INSERT INTO customer SELECT g, 'nobody' FROM generate_series(1, $option{customers}) g;
SELECT dmshook.watch_vehicle('vehicle');
SELECT dmshook.watch_customer('customer');
SQL
	$server->sql(sprintf q{SELECT dmshook.create_webhook('plain', '%s', '{*}', enabled => true)}, $receiver->url($paths[0]));
	$server->sql(sprintf q{SELECT dmshook.create_webhook('retried', '%s', '{vehicle.*}', enabled => true,
		options => '{"backoff": {"intervals": ["300ms"]}, "breaker": null, "max_attempts": 50}')}, $receiver->url($paths[1]));
	write_scripts();

	my @lives = (0);			# when each began
	my @ends;					# and the one before ended
	my $begin = time;
	for my $life (@{ $option{lives} })
	{
		# without the WAL writer what nobody flushes stays in memory, where kill -9 finds it
		kill 'STOP', $server->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'})
		  if $life->{kill} eq 'server' && "@{ $life->{commit} }" eq 'off';
		start_writers($_) for @{ $life->{commit} };
		wait_more($life->{requests});
		note(sprintf '%.1f s: kill -9 of the %s', time - $begin, $life->{kill});
		push @ends, $life->{kill} =~ /^(server|postmaster)$/ ? kill_server($1 eq 'server') : kill_child($life->{kill});
		# what was on its way to the receiver may be read late: the next life begins where its dispatcher does
		wait_dispatcher_pid($server);
		push @lives, $server->sql(q{SELECT extract(epoch FROM min(backend_start)) FROM pg_stat_activity WHERE backend_type = 'dmshook dispatcher'});
		end_prepared();
		note(sprintf '%.1f s: up again', time - $begin);
	}
	note(keys(%met) . ' prepared transactions were met again');

	# a last life: writers come and go, nothing crashes, until there is enough to compare (a slow machine
	# commits less before each crash)
	start_writers('on');
	wait_more(200);
	$server->wait_sql("SELECT count(*) > $option{events} FROM dmshook.event WHERE entity <> 'webhook'");
	note(sprintf '%.1f s: the last life', time - $begin);
	end_writers();
	$server->wait_sql(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'});
	end_prepared('all');
	compare(\@lives, \@ends);
	$receiver->stop;
	return;
}

# What a writer does: each of these ends in its own way, or by the crash. Only the first kind prepares: that flushes WAL.
sub write_scripts
{
	@scripts = map { "$PostgreSQL::Test::Utils::tmp_check/$option{name}_$_.sql" } qw(waits hurries);
	for my $script (@scripts)
	{
		append_to_file($script, <<"CUSTOMER" . <<'SQL' . ($script =~ /waits/ ? <<'PREPARED' : '') . <<'SQL');
\\set customer random(1, $option{customers})
CUSTOMER
\set way random(1, 10)
\set price random(1, 1000000000)
BEGIN;
INSERT INTO vehicle (status, price) VALUES ('In stock', :price) RETURNING id AS id \gset
SAVEPOINT s;
UPDATE vehicle SET status = 'sold' WHERE id = :id;
\if :way <= 3
ROLLBACK TO s;
\else
RELEASE s;
\endif
UPDATE customer SET name = 'name ' || :price WHERE id = :customer;
\if :way = 1 or :way = 4
ROLLBACK;
\elif :way = 7
\sleep 100 ms
COMMIT;
SQL
\elif :way = 5
PREPARE TRANSACTION ':price';
\sleep 20 ms
COMMIT PREPARED ':price';
\elif :way = 6
PREPARE TRANSACTION ':price';
ROLLBACK PREPARED ':price';
PREPARED
\else
COMMIT;
\endif
SQL
	}
	return;
}

# Writers for as long as the server lives. In some lives there are only such as do not wait for their commits:
# nobody but the dispatcher flushes WAL then.
sub start_writers
{
	my ($commit) = @_;
	local $ENV{PGOPTIONS} = "-c synchronous_commit=$commit";
	local $ENV{PGAPPNAME} = 'pgbench';	# Cluster.pm names the test's file
	push @writers, IPC::Run::start(
		[ 'pgbench', '-n', '-M', 'simple', '-f', $scripts[ $commit eq 'off' ], '-c', $option{clients}, '-R', $option{rate}, '-T', 3600,
			'--random-seed', int rand 1e9, '-h', $server->node->host, '-p', $server->node->port, 'postgres' ],
		'<', \undef, '>', '/dev/null', '2>', "$PostgreSQL::Test::Utils::tmp_check/pgbench.log");
	return;
}

sub end_writers
{
	$_->kill_kill(grace => 5) for @writers;
	@writers = ();
	return;
}

# Until so many more requests were answered; or so many events written, where the machine is too slow to keep up.
sub wait_more
{
	my ($n) = @_;
	my $stop = ($receiver->stats->{'status.200'} // 0) + $n;
	my $last = $server->sql('SELECT last_value FROM dmshook.event_id') + $n;
	return poll_until(sub { ($receiver->stats->{'status.200'} // 0) >= $stop || $server->sql('SELECT last_value FROM dmshook.event_id') >= $last }, "$n more requests");
}

# Until a query says t; patience begins anew whenever its second column changes.
sub wait_done
{
	my ($sql) = @_;
	my $before = '';
	while (1)
	{
		my ($done, $now);
		poll_until(sub {
			($done, $now) = split /\|/, $server->sql($sql);
			return $done eq 't' || $now ne $before;
		}, sub { "no progress: $sql\nlast answer: $done|$now" });
		return if $done eq 't';
		$before = $now;
	}
}

# The postmaster; with all its children at once, as when the power goes: none of them may write on. Or it alone:
# they notice. Starts it again; when it was killed.
sub kill_server
{
	my ($all) = @_;
	my ($pid) = split /\n/, slurp_file($server->node->data_dir . '/postmaster.pid');
	my @children = grep { state_of($_) =~ /^\S $pid / } map { m{(\d+)} } glob '/proc/[0-9]*';
	kill 'STOP', $pid, @children if $all;
	my $end = time;
	kill 'KILL', $pid, $all ? @children : ();
	$server->node->{_pid} = undef;
	# a WAL writer that stands still notices nothing
	kill 'CONT', @children;
	poll_until(sub { !grep { state_of($_) =~ /^[^ZX]/ } $pid, @children }, 'the processes are gone');
	end_writers();
	# one that nobody has reaped yet would be taken for a server that lives
	unlink $server->node->data_dir . '/postmaster.pid', $server->node->host . '/.s.PGSQL.' . $server->node->port . '.lock';
	$server->node->start;
	return $end;
}

# One child: the postmaster ends the others and begins anew. When it was killed.
sub kill_child
{
	my ($which) = @_;
	my ($pid, $size, $end);
	poll_until(sub {
		$size = $server->log_size;
		$pid = $server->sql($which eq 'backend'
			? q{SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench' AND state <> 'idle' ORDER BY random() LIMIT 1}
			: "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dmshook $which' AND (datname = 'postgres' OR datname IS NULL)");
		$end = time;
		# a writer may have ended by itself: one that is gone is no crash
		return $pid ne '' && kill 'KILL', $pid;
	}, "there is a $which");
	$server->wait_log(qr/all server processes terminated; reinitializing/, $size);
	end_writers();
	# the others exit in their own time
	$server->wait_sql('SELECT true');
	return $end;
}

# State, parent and so on of a process, from /proc; '' when it is gone.
sub state_of
{
	my ($pid) = @_;
	open my $f, '<', "/proc/$pid/stat" or return '';
	return (readline($f) // '') =~ /.*\) (.*)/ ? $1 : '';
}

# What a crash left prepared ends in one of two ways, or stays for another life, or two.
sub end_prepared
{
	my ($all) = @_;
	for my $gid (split /\n/, $server->sql('SELECT gid FROM pg_prepared_xacts ORDER BY gid'))
	{
		my $way = $gid % 3;
		next if $way == 2 && !$all && ++$met{$gid} < 3;
		$met{$gid} //= 1;
		$server->sql(($way == 0 ? 'ROLLBACK' : 'COMMIT') . " PREPARED '$gid'");
	}
	return;
}

# What is true now.
sub compare
{
	my ($lives, $ends) = @_;
	wait_done(<<'SQL');
SELECT (SELECT count(*) FROM dmshook.attempt WHERE webhook = 1 AND final = 'd') >= (SELECT count(*) FROM dmshook.event WHERE entity <> 'webhook')
	AND (SELECT count(*) FROM dmshook.attempt WHERE webhook = 2 AND final = 'd') >= (SELECT count(*) FROM dmshook.event WHERE entity = 'vehicle')
	AND NOT EXISTS (SELECT FROM dmshook.queue),
	(SELECT max(id) FROM dmshook.attempt)
SQL
	$server->wait_sql('SELECT low = (SELECT max(id) FROM dmshook.event) FROM dmshook.position WHERE webhook = 0 AND command = 0');

	my %events = map { split /\|/ } split /\n/, $server->sql(q{SELECT message_id, entity FROM dmshook.events WHERE entity <> 'webhook'});
	is($server->sql(<<'SQL'), $server->sql('SELECT count(*) FROM vehicle'), 'an event for each row that is there, and no other');
SELECT count(DISTINCT v.id) FROM dmshook.event e LEFT JOIN vehicle v ON e.key = jsonb_build_object('id', v.id) WHERE e.type = 'vehicle.added'
SQL
	is($server->sql(q{SELECT count(*) FROM vehicle WHERE status = 'sold'}),
		$server->sql(q{SELECT count(*) FROM dmshook.event WHERE type = 'vehicle.sold'}), 'sold ones too');
	cmp_ok(scalar keys %events, '>', $option{events}, keys(%events) . ' events were committed');

	my @received = received($receiver);
	for my $w (0, 1)
	{
		my $name = $paths[$w];
		my @all = grep { $_->{path} eq $name } @received;
		my @got = grep { $_->{status} == 200 } @all;
		my %wanted = map { $_ => 1 } grep { $w == 0 || $events{$_} eq 'vehicle' } keys %events;
		my %seen = map { $_->{id} => 1 } @got;
		my @missing = grep { !$seen{$_} } keys %wanted;
		my @extra = grep { !$wanted{$_} } map { $_->{id} } @all;

		is(scalar @missing, 0, "$name: nothing that was committed is missing") or diag(join ' ', @missing[ 0 .. ($#missing > 9 ? 9 : $#missing) ]);
		is(scalar @extra, 0, "$name: nothing was received that is not committed") or diag(join ' ', @extra[ 0 .. ($#extra > 9 ? 9 : $#extra) ]);

		my ($repeats, $in_life, $old) = count_repeats($lives, $ends, @got);
		is($in_life, 0, "$name: no success twice within a life");
		is($old, 0, "... what is repeated after a crash had been sent shortly before it");
		cmp_ok($repeats, '<=', @$ends * 1000, "... and is not much ($repeats)");
	}
	is($server->sql(q{SELECT count(*) FROM (SELECT FROM dmshook.attempt WHERE final = 'd' GROUP BY webhook, event HAVING count(*) > 1) twice}),
		0, 'what was logged as delivered is not sent again: repeats are what a crash took out of the log, or found under way');
	is($server->sql('SELECT webhook, state, count(*) FROM dmshook.deliveries GROUP BY 1, 2 ORDER BY 1, 2'),
		sprintf("plain|delivered|%d\nretried|delivered|%d", scalar keys %events, scalar grep { $_ eq 'vehicle' } values %events), 'each delivery is delivered');
	is($server->sql('SELECT count(*) FROM dmshook.queue'), 0, 'the queue is empty');
	is($server->sql('SELECT count(*) FROM dmshook.position'), 1, 'one position is left');
	unlike(slurp_file($server->node->logfile), qr/PANIC|could not be logged|dmshook dispatcher of database "postgres" failed/, 'no dispatcher failed by itself');
	return;
}

# Repeated successes: how many; of these within a life; and of what had ended long before the crash (or was not under way).
sub count_repeats
{
	my ($lives, $ends, @got) = @_;
	my (%last, %in_life);
	my ($repeats, $in_life, $old, $life) = (0, 0, 0, 0);
	for my $request (sort { $a->{at} <=> $b->{at} } @got)
	{
		my $id = $request->{id};

		while ($life < $#$lives && $request->{at} >= $lives->[ $life + 1 ])
		{
			$life++;
			%in_life = ();
		}
		$in_life++ if $in_life{$id}++;
		if (defined $last{$id})
		{
			$repeats++;
			$old++ if $request->{at} >= $lives->[$life] && $ends->[ $life - 1 ] - $last{$id} > 4;
		}
		$last{$id} = $request->{at};
	}
	return ($repeats, $in_life, $old);
}

1;
