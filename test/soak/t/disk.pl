# No room on disk, for tables and then for WAL (small tmpfs): the DMS gets PostgreSQL's own error, nothing goes out that cannot be logged, and when there is room again everything does.
use strict;
use warnings;

# In a mount namespace with two tmpfs, before anything else is loaded. The user stays the same, for the server does
# not run as root; of root's rights only those over this namespace.
BEGIN
{
	if (!$ENV{DMSHOOK_MOUNTS})
	{
		my $dir = "$ENV{TESTDATADIR}/disk_mounts";
		mkdir $dir;
		mkdir "$dir/$_" for qw(tables wal);
		my $setup = "mount -t tmpfs -o size=64m,mode=700 none $dir/tables && mount -t tmpfs -o size=40m,mode=700 none $dir/wal";
		my @unshare = qw(unshare --user --map-current-user --mount --keep-caps sh -c);
		my $why = qx(unshare --user --map-current-user --mount --keep-caps sh -c '$setup' 2>&1);
		$ENV{DMSHOOK_MOUNTS} = $? == 0 ? $dir : "impossible here: $why";
		exec @unshare, "$setup && exec \"\$@\"", 'sh', $^X, (map { "-I$_" } @INC), $0 if $? == 0;
	}
}

use DmshookLoad;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => "no tmpfs can be mounted: $ENV{DMSHOOK_MOUNTS}" if $ENV{DMSHOOK_MOUNTS} =~ /^impossible/;
my ($tables, $wal) = map { "$ENV{DMSHOOK_MOUNTS}/$_" } qw(tables wal);
my $no_room = qr/could not (?:extend|write to) file ".*": (?:No space left on device|wrote only)/;

my $server = DmshookTest->new('disk', extension => 0, restart_after_crash => 1, initdb => [ '--encoding=UTF8', '--wal-segsize=1', "--waldir=$wal/pg_wal" ],
	conf => "jit = off\nautovacuum = off\nmin_wal_size = 2MB\nmax_wal_size = 4MB\nwal_recycle = off\nwal_keep_size = 0\n");
my $node = $server->node;
my $receiver = DmshookTest::Receiver->new;
mkdir "$tables/space";
$server->sql("CREATE TABLESPACE small LOCATION '$tables/space'");
$server->sql('CREATE DATABASE dms TABLESPACE small');
sub sql { return $server->sql($_[0], 'dms'); }
sub wait_sql { return $server->wait_sql($_[0], $_[1] // 't', 'dms'); }
sql('CREATE EXTENSION dmshook');
sql(q{CREATE TABLE vehicle (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text, notes text)});
sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});
# four at a time, each for a while: much is still to be sent when the disk is full
sql(sprintf q{SELECT FROM dmshook.create_webhook('all', '%s', '{*}', enabled => true, options => '{"max_in_flight": 4}')}, $receiver->url('/slow/30/all'));

# All the room there is, to the last byte; and back.
sub fill
{
	my ($dir) = @_;
	open my $f, '>', "$dir/fill" or die "$dir/fill: $!";
	my $block = "\0" x 4096;
	1 while syswrite $f, $block;
	close $f;
	return;
}
sub make_room { unlink "$_[0]/fill" or die "$_[0]/fill: $!"; return; }

# One of the DMS's transactions: its error, or undef.
sub sale
{
	my ($rc, $out, $err) = $node->psql('dms', q{INSERT INTO vehicle (status, notes) SELECT 'sold', repeat(md5(g::text), 20) FROM generate_series(1, 20) g});
	return $rc == 0 ? undef : $err;
}

sub sales
{
	for (1 .. $_[0])
	{
		my $error = sale();
		die "the DMS cannot write: $error" if defined $error;
	}
	return;
}

# Until the DMS hears of it.
sub sell_until_full
{
	my $error;
	poll_until(sub { $error = sale(); defined $error }, 'the disk is full');
	return $error;
}

# Everything that was committed has been delivered; how many requests were too many.
sub all_delivered
{
	my ($what) = @_;
	wait_sql(q{SELECT count(*) = (SELECT count(*) FROM dmshook.event WHERE entity = 'vehicle') FROM dmshook.attempt WHERE final = 'd'});
	my %committed = map { $_ => 1 } split /\n/, sql(q{SELECT message_id FROM dmshook.events});
	my @requests = received($receiver);
	my %n;
	$n{ $_->{id} }++ for @requests;
	is(scalar(grep { !$n{$_} } keys %committed), 0, "$what: each committed event arrived (" . keys(%committed) . ')');
	is(scalar(grep { !$committed{$_} } keys %n), 0, '... and nothing else');
	is(sql('SELECT count(*) FROM dmshook.queue'), 0, '... none of them failed');
	return @requests - keys %n;
}

# ---- tables ----

my $size = $server->log_size;
sales(20);
fill($tables);
like(sell_until_full(), qr/ERROR:  could not extend file ".*": (?:No space left on device|wrote only).*HINT:  Check free disk space/s, 'no room for tables: the DMS gets the error that PostgreSQL has for it');
$server->wait_log(qr/WARNING:  results could not be logged: $no_room/, $size);
# four were under way; then there is silence, though the dispatcher tries again and again
my ($before, $again) = (0, 0);
poll_until(sub {
	my $now = $receiver->stats->{requests};
	$again = $now == $before ? $again + 1 : 0;
	$before = $now;
	return $again >= 20;
}, 'requests end');
cmp_ok(sql(q{SELECT count(*) FROM dmshook.event}), '>', $before, "most of what was committed waits ($before were sent)");
like(sql('SELECT last_error FROM dmshook.dispatchers'), $no_room, 'dispatchers says why');
my $pid = sql('SELECT pid FROM dmshook.dispatchers');
my $warnings = () = substr(slurp_file($node->logfile), $size) =~ /results could not be logged/g;
is($warnings, 1, 'the log has it once');
make_room($tables);
is(all_delivered('room for tables'), 0, 'nothing is sent twice');
is(sql('SELECT pid FROM dmshook.dispatchers'), $pid, 'by the same dispatcher');
$server->wait_log(qr/LOG:  results can be logged again/, $size);
is(sale(), undef, 'the DMS writes again');

# the same with a dispatcher that starts while there is no room
sales(10);
fill($tables);
sell_until_full();
$pid = sql('SELECT pid FROM dmshook.dispatchers');
sql("SELECT pg_terminate_backend($pid, 60000)");
wait_sql("SELECT pid <> $pid AND last_error ~ 'could not extend' FROM dmshook.dispatchers");
make_room($tables);
cmp_ok(all_delivered('a dispatcher that started without room'), '<=', 64, 'only what was under way, or came back and could not be logged, is sent twice');

# ---- WAL ----

$size = $server->log_size;
sales(10);
fill($wal);
my $error = sell_until_full();
$server->wait_log(qr/PANIC:  could not write to file "pg_wal\/.*": No space left on device/, $size);
like($error, qr/PANIC|server closed the connection|in recovery mode|not accept|terminating connection|refused|No such file/, 'no room for WAL: PostgreSQL stops, as it does without us');
make_room($wal);
# with room, it comes back by itself; if there was none for its recovery, it has ended, and is started by people
poll_until(sub {
	return 1 if $node->psql('dms', 'SELECT 1', timeout => 60) == 0;
	if (substr(slurp_file($node->logfile), $size) =~ /database system is shut down/)
	{
		$node->{_pid} = undef;
		$node->start;
	}
	return 0;
}, 'the server is back');
is(sale(), undef, 'the DMS writes again');
# the log of these requests was lost with what was not flushed
cmp_ok(all_delivered('room for WAL'), '<=', 200, 'little is sent twice');
is(sql('SELECT count(*) FROM dmshook.position'), 1, 'one position is left');
unlike(slurp_file($node->logfile), qr/dmshook dispatcher of database "dms" failed/, 'no dispatcher failed');
$node->stop;
done_testing();
