# Secrets in the dispatcher's memory: while they are used they are there; when a configuration is dropped nothing of them stays.
use strict;
use warnings;

# To look into a process that does not want it takes the right to trace, in the user namespace in which the server was started: a namespace of our own.
BEGIN
{
	if (!$ENV{DMSHOOK_TRACE})
	{
		my @unshare = qw(unshare --user --map-current-user --keep-caps);
		$ENV{DMSHOOK_TRACE} = 'yes';
		exec @unshare, $^X, (map { "-I$_" } @INC), $0 if system("@unshare true >/dev/null 2>&1") == 0;
		$ENV{DMSHOOK_TRACE} = 'no user namespace can be made here';
	}
}

use DmshookTest;
use MIME::Base64;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => $ENV{DMSHOOK_TRACE} if $ENV{DMSHOOK_TRACE} ne 'yes';
plan skip_all => 'process_vm_readv has another number here' if (POSIX::uname())[4] ne 'x86_64';

# A part of another process's memory, as far as it is there.
sub read_memory
{
	my ($pid, $from, $size) = @_;
	my $bytes = "\0" x $size;
	my $local = pack 'PQ', $bytes, $size;
	my $remote = pack 'QQ', $from, $size;
	my $n = syscall 310, $pid + 0, $local, 1, $remote, 1, 0;
	return $n < 0 ? undef : substr $bytes, 0, $n;
}

# Texts that a process has in memory of its own (what is shared holds the statements of this test: pg_stat_activity).
sub in_memory
{
	my ($pid, %needle) = @_;
	my %found;
	my $read = 0;
	open my $maps, '<', "/proc/$pid/maps" or die "maps: $!";
	for (<$maps>)
	{
		my ($from, $to, $rights, $inode, $name) = /^(\w+)-(\w+) (\S+) \S+ \S+ (\d+)\s*(.*)/ or next;
		next if $rights !~ /^rw-p/ || $name =~ /^\[v/;
		my $bytes = read_memory($pid, hex $from, hex($to) - hex($from)) // next;
		$read += length $bytes;
		for my $name (keys %needle)
		{
			$found{$name} += () = $bytes =~ /\Q$needle{$name}\E/g;
		}
	}
	die "the memory of process $pid cannot be read\n" if $read < 1_000_000;
	return join ' ', grep { $found{$_} } sort keys %found;
}

my $tmp = PostgreSQL::Test::Utils::tempdir;
sub put
{
	my ($file, $text) = @_;
	open my $f, '>', "$tmp/$file" or die "$tmp/$file: $!";
	chmod 0600, "$tmp/$file";
	print $f $text;
	close $f;
	return "$tmp/$file";
}

# Mutual TLS is not looked at here.
my %secret = (
	bearer => 'memory-of-bearer-' . 'x1' x 400, basic => 'memory-of-basic-77', api_key => 'memory-of-api-key-77', header => 'memory-of-header-77', oauth => 'memory-of-oauth-77',
	signing => 'whsec_' . encode_base64('memory of the secret that signs!', ''));
my %needle = (%secret, bearer => 'memory-of-bearer-', basic_header => substr(encode_base64("user:$secret{basic}", ''), 0, 20), raw => 'memory of the secret that signs!', token => 'memory-of-token.1');	# the URLs have its begin
put($_, $secret{$_}) for keys %secret;

# encrypted at rest: else they are in the shared buffers, as any row
my $server = DmshookTest->new('secrets', conf => "dmshook.secret_key_file = '" . put('keys', encode_base64('k' x 32, '') . "\n") . "'\n");
my $receiver = DmshookTest::Receiver->new;
my $headers = "json_build_object('X-Secret', pg_read_file('$tmp/header'))::jsonb";
my %auth = (
	bearer => "json_build_object('kind', 'bearer', 'token', pg_read_file('$tmp/bearer'))",
	basic => "json_build_object('kind', 'basic', 'username', 'user', 'password', pg_read_file('$tmp/basic'))",
	api_key => "json_build_object('kind', 'api_key', 'header', 'X-API-Key', 'key', pg_read_file('$tmp/api_key'))",
	oauth => "json_build_object('kind', 'oauth2', 'token_url', '" . $receiver->url('/token/memory-of-token') . "', 'client_id', 'dms', 'client_secret', pg_read_file('$tmp/oauth'))");
for my $name (sort keys %auth)
{
	my $url = $receiver->url($name eq 'oauth' ? '/protected/memory-of-token' : "/ok/$name");
	$server->sql(qq{SELECT FROM dmshook.create_webhook('$name', '$url', '{vehicle.*}', auth => $auth{$name}\::jsonb, headers => $headers, secret => pg_read_file('$tmp/signing'), enabled => true)});
}
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
$server->sql(q{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, 50) g});
$server->wait_sql(q{SELECT count(*) = 200 FROM dmshook.deliveries WHERE state = 'delivered'});
my $pid = $server->sql('SELECT pid FROM dmshook.dispatchers');
is(in_memory($pid, %needle), join(' ', sort keys %needle), 'what is used is in memory (the search works)');

# changed and dropped
$server->sql(q{SELECT dmshook.alter_webhook('bearer', auth => '{"kind": "none"}', headers => '{}'), dmshook.alter_webhook('basic', auth => '{"kind": "bearer", "token": "another"}', headers => '{}')});
$server->sql(qq{SELECT dmshook.rotate_secret('$_', keep_old => '0') IS NULL}) for qw(bearer basic);
$server->sql(qq{SELECT dmshook.drop_webhook('$_')}) for qw(api_key oauth);
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
$server->sql(q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": 99}', '{}')});
$server->wait_sql(q{SELECT count(*) = 102 FROM dmshook.deliveries WHERE state = 'delivered' AND webhook IN ('bearer', 'basic')});
is($server->sql('SELECT pid FROM dmshook.dispatchers'), $pid, 'the same process');
# a dropped webhook goes when nothing of it is under way
poll_until(sub { in_memory($pid, %needle) eq '' }, sub { 'still there: ' . in_memory($pid, %needle) });
is(in_memory($pid, %needle), '', 'nothing of them is in memory');

done_testing();
