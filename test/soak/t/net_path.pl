# Packets on their way, by nftables: dropped, rejected, lost at random, forgotten by a firewall, cut off in the middle. Each has its outcome and hint, a kept connection that died silently costs no attempt, and the webhook beside it notices nothing.
use strict;
use warnings;

# In a network namespace, before anything else is loaded. The user stays the same, for the server does not run as root;
# of root's rights only those over this namespace.
BEGIN
{
	if (!$ENV{DMSHOOK_NETNS})
	{
		my @unshare = qw(unshare --user --map-current-user --net --keep-caps sh -c);
		my $setup = 'PATH=$PATH:/usr/sbin:/sbin && export PATH && ip link set lo up && nft add table inet dms && nft add chain inet dms in \'{ type filter hook input priority 0; }\'';
		my $why = do { open my $f, '-|', @unshare, "($setup) 2>&1" or die $!; local $/; my $said = <$f>; close $f; $said; };
		$ENV{DMSHOOK_NETNS} = $? == 0 ? 'yes' : "impossible here: $why";
		exec @unshare, "$setup && exec \"\$@\"", 'sh', $^X, (map { "-I$_" } @INC), $0 if $? == 0;
	}
}

use DmshookTest;
use File::Spec;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => "network namespaces and nft (package nftables) are $ENV{DMSHOOK_NETNS}" if $ENV{DMSHOOK_NETNS} ne 'yes';

# a receiver each at an address of its own
my @addresses = map { "127.0.1.$_" } 1 .. 9;
my $tmp = PostgreSQL::Test::Utils::tempdir;
system('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '10', '-subj', '/CN=dms', '-addext', 'subjectAltName=' . join(',', map { "IP:$_" } @addresses),
	'-keyout', "$tmp/dms.key", '-out', "$tmp/dms.pem") == 0 or die 'no certificate';
my $server = DmshookTest->new('net_path', conf => "dmshook.ca_file = '$tmp/dms.pem'\n");
my @names = qw(drop reset unreachable prohibited half forgets cut lossy beside);
my (%receiver, %address);
@address{@names} = @addresses;
$receiver{$_} = DmshookTest::Receiver->new(cert => File::Spec->abs2rel("$tmp/dms", certs()), address => $address{$_}) for @names;

sub nft { my ($what) = @_; system('nft', $what) == 0 or die "nft $what"; return; }
# what reaches a receiver: dropped, or worse; and nothing of it any more
sub rule { my ($name, $what) = @_; nft("add rule inet dms in ip daddr $address{$name} $what"); return; }
sub no_rules { nft('flush chain inet dms in'); return; }

sub create
{
	my ($name, $url, %options) = @_;
	$server->sql('SELECT FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($url) . q{, '{vehicle.*}', enabled => true, options => } . quote(JSON::PP->new->encode({ breaker => undef, %options })) . ')');
	return;
}
my ($n, $message) = (0);
sub happen { my ($bytes) = @_; $message = $server->sql(sprintf q{SELECT dmshook.emit('vehicle.sold', 'vehicle', '{"id": %d}', jsonb_build_object('notes', repeat('n', %d)))}, ++$n, $bytes // 0); return; }
sub wait_state { my ($name, $state) = @_; return $server->wait_sql("SELECT state FROM dmshook.deliveries WHERE webhook = '$name' AND message_id = '$message'", $state); }
sub attempts { my ($name) = @_; return $server->rows("SELECT * FROM dmshook.attempts WHERE webhook = '$name' AND message_id = '$message' ORDER BY id"); }
sub forget { $server->sql(q{SELECT dmshook.drop_webhook(name) FROM dmshook.webhooks WHERE name <> 'beside'}); no_rules(); return; }
sub failed
{
	my ($name, $outcome, $error, $hint) = @_;
	wait_state($name, 'exhausted');
	my @a = attempts($name);
	is($a[-1]{outcome}, $outcome, "$name: $outcome") or diag explain $a[-1];
	like("$a[-1]{error} $a[-1]{hint}", qr/$error.*$hint/, "$name: the error, the hint");
	return $a[-1];
}

create('beside', $receiver{beside}->url('/ok/beside'));

# ---- no connection ----

rule('drop', 'drop');
rule('reset', 'meta l4proto tcp reject with tcp reset');
rule('unreachable', 'reject with icmp host-unreachable');
rule('prohibited', 'reject with icmp admin-prohibited');
create($_, $receiver{$_}->url('/ok'), connect_timeout => '2s', max_attempts => 1) for qw(drop reset unreachable prohibited);
create('no route', 'https://8.8.8.8/', max_attempts => 1);
happen();
wait_state('beside', 'delivered');
failed('drop', 'timeout', qr/No connection to 127\.0\.1\.1 port \d+ within 2000 ms\./, qr/firewall/);
failed('reset', 'connect_error', qr/The connection to 127\.0\.1\.2 port \d+ was refused\./, qr/listens/);
failed('unreachable', 'connect_error', qr/The connection to 127\.0\.1\.3 port \d+ failed: No route to host\./, qr/routes and the firewall/);
failed('prohibited', 'connect_error', qr/The connection to 127\.0\.1\.4 port \d+ failed: /, qr/routes and the firewall/);
failed('no route', 'connect_error', qr/The connection to 8\.8\.8\.8 port 443 failed: Network is unreachable\./, qr/routes/);
cmp_ok((attempts('beside'))[0]{id}, '<', (attempts('drop'))[0]{id}, 'the one beside them had it before they gave up');
forget();

# ---- half-open: the peer is gone without a word, while it was to answer, while we sent ----

create('half', $receiver{half}->url('/slow/600000'), timeout => '3s', connect_timeout => '2s', max_attempts => 1);
happen();
$receiver{half}->wait_for(1);
rule('half', 'drop');
wait_state('beside', 'delivered');
my $a = failed('half', 'timeout', qr/127\.0\.1\.5 did not answer within 3000 ms\./, qr/same webhook-id/);
ok(defined $a->{tls_ms} && !defined $a->{first_byte_ms}, 'half: how far it came is in the timings');
forget();

# it takes no more of a long body, with the first connection and with a kept one
create('half', $receiver{half}->url('/ok'), timeout => '8s', connect_timeout => '2s', backoff => { intervals => ['500ms'] }, max_attempts => 100);
happen();
wait_state('half', 'delivered');
rule('half', 'tcp flags != syn drop');
happen(900_000);
$server->wait_sql("SELECT count(*) >= 1 FROM dmshook.attempts WHERE webhook = 'half' AND message_id = '$message'");
like((attempts('half'))[0]{outcome}, qr/^(connect_error|timeout)$/, 'half: within a long body');
wait_state('beside', 'delivered');
no_rules();
wait_state('half', 'delivered');
pass('half: it arrives once packets do');
forget();

# ---- a firewall that forgot a kept connection: no attempt is lost ----

create('forgets', $receiver{forgets}->url('/ok'), timeout => '120s', connect_timeout => '2s', max_attempts => 1);
for my $bytes (0, 900_000)
{
	happen();
	wait_state('forgets', 'delivered');
	my %old = map { $_ => 1 } qx(ss -Htn dst $address{forgets}) =~ /127\.0\.\d+\.\d+:(\d+)\s+\Q$address{forgets}\E:/g;
	is(scalar keys %old, 1, 'forgets: a connection is kept');
	rule('forgets', "tcp sport $_ drop") for keys %old;
	happen($bytes);
	wait_state('forgets', 'delivered');
	my @a = attempts('forgets');
	is("$a[0]{outcome} " . @a, 'ok 1', "forgets: a new connection, within the same attempt ($bytes bytes)") or diag explain \@a;
	cmp_ok($a[0]{duration_ms}, '>', 1000, '... after what TCP took to notice');
	no_rules();
}
forget();

# ---- cut off in the middle of an answer ----

create('cut', $receiver{cut}->url('/drip/100/100000'), timeout => '60s', max_attempts => 1);
happen();
poll_until(sub { qx(ss -Htni src $address{cut}) =~ /bytes_acked:(\d{4,})/ }, 'waited for the answer to begin');
rule('cut', 'meta l4proto tcp reject with tcp reset');
$a = failed('cut', 'protocol_error', qr/127\.0\.1\.7 ended the connection in the middle of its response\./, qr/webhook-id/);
is($a->{status}, 200, 'cut: the status is there');
forget();

# ---- a tenth of all packets is lost; then all of them for a while ----

rule('lossy', 'numgen random mod 10 == 0 drop');
nft("add rule inet dms in ip saddr $address{lossy} numgen random mod 10 == 0 drop");
create('lossy', $receiver{lossy}->url('/ok/lossy'), backoff => { intervals => ['200ms'] }, max_attempts => 1000);
my $events = 300;
$server->sql("SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, $events) g");
$server->wait_sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'lossy' AND state = 'delivered'}, $events);
my %seen = map { $_->{headers}{'webhook-id'} => 1 } $receiver{lossy}->requests;
is(scalar keys %seen, $events, 'lossy: all of them arrive, none is invented');
no_rules();
rule('lossy', 'drop');
$server->sql(q{SELECT dmshook.alter_webhook('lossy', options => '{"connect_timeout": "500ms", "timeout": "2s"}')});
$server->sql("SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, $events) g");
$server->wait_sql(q{SELECT count(*) > 10 FROM dmshook.attempts WHERE webhook = 'lossy' AND outcome = 'timeout'});
no_rules();
$server->wait_sql(q{SELECT count(*) FROM dmshook.deliveries WHERE webhook = 'lossy' AND state = 'delivered'}, 2 * $events);
pass('cut off and connected again: all of them arrive');

is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'beside' AND outcome <> 'ok'}), 0, 'the webhook beside them had no failure');
$server->wait_sql(q{SELECT count(*) = (SELECT count(*) FROM dmshook.events WHERE event_type = 'vehicle.sold') FROM dmshook.deliveries WHERE webhook = 'beside' AND state = 'delivered'});
pass('... and got everything');
unlike(slurp_file($server->node->logfile), qr/PANIC|terminated by signal|TRAP/, 'the server is well');

done_testing();
