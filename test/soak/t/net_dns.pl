# The real resolver against a name server of our own: down, silent, slow, wrong, empty, changing. Each has its outcome and hint, kept connections go on without it, and nobody waits for somebody else's name.
use strict;
use warnings;

# In namespaces with a resolv.conf of our own, before anything else is loaded. The user stays the same, for the server
# does not run as root; of root's rights only those over these namespaces.
BEGIN
{
	if (!$ENV{DMSHOOK_NETNS})
	{
		my $resolv = "$ENV{TESTDATADIR}/net_dns.resolv.conf";
		open my $f, '>', $resolv or die "$resolv: $!";
		print $f "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
		close $f;
		my @unshare = qw(unshare --user --map-current-user --net --mount --keep-caps sh -c);
		my $setup = "ip link set lo up && mount --bind '$resolv' /etc/resolv.conf";
		my $why = qx(unshare --user --map-current-user --net --mount --keep-caps sh -c "$setup" 2>&1);
		$ENV{DMSHOOK_NETNS} = $? == 0 ? 'yes' : "impossible here: $why";
		exec @unshare, "$setup && exec \"\$@\"", 'sh', $^X, (map { "-I$_" } @INC), $0 if $? == 0;
	}
}

use DmshookTest;
use File::Spec;
use IPC::Open2 ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => "namespaces are $ENV{DMSHOOK_NETNS}" if $ENV{DMSHOOK_NETNS} ne 'yes';

my $tmp = PostgreSQL::Test::Utils::tempdir;
system('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '10', '-subj', '/CN=dms', '-addext', 'subjectAltName=DNS:*.dms.test,IP:127.0.0.9',
	'-keyout', "$tmp/dms.key", '-out', "$tmp/dms.pem") == 0 or die 'no certificate';
my @cert = (cert => File::Spec->abs2rel("$tmp/dms", certs()));
my $server = DmshookTest->new('net_dns', conf => "dmshook.ca_file = '$tmp/dms.pem'\n");
my $receiver = DmshookTest::Receiver->new(@cert, address => '127.0.0.1');
my $beside = DmshookTest::Receiver->new(@cert, address => '127.0.0.9');
my $port = $receiver->port;

# ---- the name server ----

my %zone = (
	good => 'a 127.0.0.1', both => 'a ::1 127.0.0.1', dead => 'a 127.0.0.77 127.0.0.1', many => join(' ', 'a', map { "127.0.0.$_" } reverse 1 .. 20),
	slow => 'slow 700 127.0.0.1', tcp => 'tcp 127.0.0.1', private => 'a 10.1.2.3', mixed => 'a 169.254.169.254 127.0.0.1', metadata => 'a 169.254.169.254', kept => 'a 127.0.0.1', moves => 'a 127.0.0.1',
	map { $_ => $_ } qw(none servfail refused formerr silent noise other cut loop));
my $dns;

sub zone
{
	my (%change) = @_;
	%zone = (%zone, %change);
	open my $f, '>', "$tmp/zone.new" or die $!;
	print $f "$_.dms.test $zone{$_}\n" for sort keys %zone;
	close $f;
	rename "$tmp/zone.new", "$tmp/zone" or die $!;
	return;
}

sub start_dns
{
	my $pid = IPC::Open2::open2(my $out, my $in, '/usr/bin/python3', "$DmshookTest::top/test/receiver/dns.py", "$tmp/zone");
	readline($out) =~ /^ready/ or die 'the name server did not start';
	$dns = { pid => $pid, in => $in, out => $out };
	return;
}
sub stop_dns { close $dns->{in}; waitpid $dns->{pid}, 0; undef $dns; return; }

zone();
start_dns();

# ---- webhooks ----

sub create
{
	my ($name, $url, %options) = @_;
	$server->sql('SELECT FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($url) . q{, '{vehicle.*}', enabled => true, options => } . quote(JSON::PP->new->encode({ breaker => undef, %options })) . ')');
	return;
}
sub at { my ($name) = @_; return "https://$name.dms.test:$port/ok/$name"; }
my ($n, $message) = (0);
sub happen { $message = $server->sql(sprintf q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": %d}', '{}')}, ++$n); return; }
sub delivered { my ($name) = @_; return $server->wait_sql("SELECT state FROM dmshook.deliveries WHERE webhook = '$name' AND message_id = '$message'", 'delivered'); }

# each name, all at once; what fails has one attempt, and time enough that the resolver itself gives up
create('beside', $beside->url('/ok/beside'));
create($_, at($_), max_attempts => 1, timeout => '60s', connect_timeout => '50s') for sort keys %zone;
create('impatient', at('silent'), max_attempts => 1, connect_timeout => '300ms');
create('nowhere', at('nowhere'), max_attempts => 1);
my $hooks = 3 + keys %zone;
happen();
$server->wait_sql('SELECT count(DISTINCT webhook) FROM dmshook.attempts', $hooks);
my %a = map { $_->{webhook} => $_ } $server->rows('SELECT * FROM dmshook.attempts');

is($a{$_}{outcome}, 'ok', "$_: it arrives") or diag explain $a{$_} for qw(good both dead many slow tcp mixed kept moves beside);
cmp_ok($a{slow}{dns_ms}, '>=', 690, 'slow: dns_ms tells');
is($a{dead}{remote_address}, '127.0.0.1', 'dead: of two addresses the one that listens');
for my $name (qw(none servfail refused formerr silent noise other cut loop nowhere))
{
	is($a{$name}{outcome}, 'dns_error', "$name: dns_error") or diag explain $a{$name};
	like("$a{$name}{error} $a{$name}{hint}", qr/^The name "$name\.dms\.test" could not be resolved\. .*name resolution of the database server/, "$name: the error, the hint");
}
is($a{impatient}{outcome}, 'timeout', 'silent, less patient: timeout');
like("$a{impatient}{error} $a{impatient}{hint}", qr/^The name "silent\.dms\.test" was not resolved within 300 ms\. .*name servers/, '... the error, the hint');
for my $name (qw(private metadata))
{
	is($a{$name}{outcome}, 'blocked_address', "$name: blocked_address");
}
is($server->sql("SELECT count(*) FROM dmshook.attempts WHERE webhook = 'beside' AND id < (SELECT id FROM dmshook.attempts WHERE webhook = 'slow')"), 1, 'whoever has an address waited for none of them');
$server->sql("SELECT dmshook.drop_webhook(name) FROM dmshook.webhooks WHERE name NOT IN ('beside', 'good', 'kept', 'moves')");

# ---- the name server is down: who is connected goes on ----

create('late', at('late'), backoff => { intervals => ['300ms'] }, max_attempts => 1000);
zone(late => 'a 127.0.0.1');
stop_dns();
for (1 .. 3)
{
	happen();
	delivered($_) for qw(beside kept good);
}
pass('down: kept connections need no name');
$server->wait_sql(q{SELECT count(*) >= 3 FROM dmshook.attempts WHERE webhook = 'late' AND outcome = 'dns_error'});
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'late' AND outcome NOT IN ('dns_error')}), 0, 'down: dns_error');
start_dns();
$server->wait_sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'late' AND state = 'delivered'}, 3);
pass('up again: all of them arrive');

# ---- a name that moves while its receiver goes, and one that is turned on us ----

my $there = DmshookTest::Receiver->new(@cert, address => '127.0.0.2', port => $port);
$server->sql(q{SELECT dmshook.alter_webhook(name, options => '{"backoff": {"intervals": ["500ms"], "jitter": 0}, "max_attempts": 1000}') FROM dmshook.webhooks WHERE name IN ('moves', 'good')});
zone(moves => 'a 127.0.0.2', good => 'a 169.254.169.254');
happen();
delivered($_) for qw(moves good);
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook IN ('moves', 'good') AND message_id = } . quote($message) . ' AND connect_ms = 0'), 2, 'moved: the connection stays where it is while it lives');
$receiver->stop;
happen();
delivered('moves');
is(scalar $there->requests(sub { $_[0]{path} eq '/ok/moves' }), 1, 'moved: found at its new address');
$server->wait_sql(q{SELECT outcome FROM dmshook.attempts WHERE webhook = 'good' ORDER BY id DESC LIMIT 1}, 'blocked_address');
pass('turned on us: the new address is judged');
delivered('beside');
$server->sql(q{SELECT dmshook.drop_webhook(name) FROM dmshook.webhooks WHERE name <> 'beside'});

# ---- very many names that nobody answers for: threads and memory are bounded, and nobody waits ----

my $pid = $server->sql(q{SELECT pid FROM dmshook.dispatchers});
my $status = sub { my ($key) = @_; return slurp_file("/proc/$pid/status") =~ /^$key:\s+(\d+)/m ? $1 : die "no $key"; };
my $memory = $status->('RssAnon');
zone('*' => 'silent');
$server->sql(sprintf q{SELECT count(dmshook.create_webhook('s' || g, 'https://s' || g || '.dms.test:%d/', '{vehicle.*}', enabled => true, options => '{"connect_timeout": "200ms", "backoff": {"intervals": ["100ms"]}, "breaker": null, "max_attempts": 1000}')) FROM generate_series(1, 200) g}, $port);
my ($most, $kb) = (0, 0);
for (1 .. 30)
{
	happen();
	delivered('beside');
	my ($threads, $now) = ($status->('Threads'), $status->('RssAnon'));
	$most = $threads if $threads > $most;
	$kb = $now if $now > $kb;
}
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'beside' AND outcome <> 'ok'}), 0, 'silent names: the webhook beside them delivers, each at once');
cmp_ok($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook ~ '^s[0-9]'}), '>', 0, '... while they fail');
cmp_ok($most, '>', 5, '... lookups are under way');
# two hundred a second are begun at most, as webhooks that fail take turns, and the resolver gives each up after a second
cmp_ok($most, '<=', 600, "... threads are bounded ($most)");
cmp_ok($kb, '<=', $memory + 30_000, "... memory is bounded ($memory kB, then $kb kB)");
is($server->sql(q{SELECT pid FROM dmshook.dispatchers}), $pid, 'it is the same dispatcher');
unlike(slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP/, 'the server is well');

stop_dns();
done_testing();
