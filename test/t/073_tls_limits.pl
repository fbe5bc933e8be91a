# TLS as attempts and health show it (version, cipher, the certificate's end), and limits against receivers that mean harm: slow drips, compressed bombs, hanging.
use strict;
use warnings;

use DmshookTest;
use File::Spec;
use IO::Compress::Gzip ();
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $server = DmshookTest->new('tls', conf => "dmshook.allow_http = on\n");
my $certs = certs();
my $tmp = PostgreSQL::Test::Utils::tempdir;
my $new = DmshookTest::Receiver->new;
my $old = DmshookTest::Receiver->new(tls => '1.2');

sub create
{
	my ($name, $url, %options) = @_;
	$server->sql('SELECT FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($url) . q{, '{vehicle.sold}', enabled => true, options => } . quote(JSON::PP->new->encode(\%options)) . ')');
}

sub test
{
	my ($name) = @_;
	$server->sql('SELECT FROM dmshook.test_webhook(' . quote($name) . ')');
	return ($server->rows('SELECT *, octet_length(response_body) AS size FROM dmshook.attempts WHERE webhook = ' . quote($name) . ' ORDER BY id DESC LIMIT 1'))[0];
}

# ---- TLS ----

create('new', $new->url('/ok'));
create('old', $old->url('/ok'));
for my $kept (0, 1)
{
	my ($a, $b) = (test('new'), test('old'));
	my $what = $kept ? 'a kept connection' : 'a new connection';
	is($a->{tls_version}, 'TLSv1.3', "$what: 1.3");
	like($a->{tls_cipher}, qr/^TLS_(AES|CHACHA)/, "$what: its cipher");
	is($b->{tls_version}, 'TLSv1.2', "$what: 1.2");
	like($b->{tls_cipher}, qr/^TLS_ECDHE_ECDSA_WITH_/, "$what: its cipher");
}
my $ends = qx(openssl x509 -in '$certs/good.pem' -noout -enddate);
$ends =~ s/^notAfter=|\n//g;
$server->wait_sql('SELECT certificate_expires_at = ' . quote($ends) . q{ AND hint IS NULL FROM dmshook.health WHERE webhook = 'new'});
pass('health.certificate_expires_at is what openssl says');

# one that ends in ten days
system('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '10', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost',
	'-keyout', "$tmp/soon.key", '-out', "$tmp/soon.pem") == 0 or die 'no certificate';
my $soon = DmshookTest::Receiver->new(cert => File::Spec->abs2rel("$tmp/soon", $certs));
create('soon', $soon->url('/ok'), ca_certificate => slurp_file("$tmp/soon.pem"));
is(test('soon')->{outcome}, 'ok', 'a certificate that ends soon is still good');
$server->wait_sql(q{SELECT hint ~ 'certificate of the receiver expires at' FROM dmshook.health WHERE webhook = 'soon'});
is($server->sql(q{SELECT round(extract(epoch FROM certificate_expires_at - now()) / 86400) FROM dmshook.health WHERE webhook = 'soon'}), 10, 'health knows when');
is($server->sql(q{SELECT string_agg(subject || ': ' || (problem ~ 'certificate of its receiver expires at'), ', ') FROM dmshook.check() WHERE problem ~ 'certificate'}), 'soon: true', 'check() warns of it, and of no other');
# it is renewed: seen with the next new connection
$server->sql('SELECT FROM dmshook.alter_webhook(\'soon\', url => ' . quote($new->url('/ok')) . q{, options => '{"ca_certificate": null}')});
is(test('soon')->{outcome}, 'ok', 'another receiver');
$server->wait_sql('SELECT certificate_expires_at = ' . quote($ends) . q{ AND hint IS NULL FROM dmshook.health WHERE webhook = 'soon'});
is($server->sql(q{SELECT count(*) FROM dmshook.check() WHERE problem ~ 'certificate'}), 0, 'check() no longer');
$server->node->restart;
$server->wait_sql(q{SELECT ok FROM dmshook.test_webhook('old')});
is($server->sql('SELECT certificate_expires_at = ' . quote($ends) . q{ FROM dmshook.health WHERE webhook = 'soon'}), 't', 'it is remembered over a restart');

# ---- a receiver that means harm, by plain http ----

my $zeros = "\0" x 20_000_000;
IO::Compress::Gzip::gzip(\$zeros, \my $bomb) or die;
my $listener = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1') or die $!;
my $pid = fork // die;
if (!$pid)
{
	$SIG{CHLD} = 'IGNORE';
	$SIG{PIPE} = 'IGNORE';
	$SIG{TERM} = 'DEFAULT';   # Cluster.pm of 17 and later dies by it, and its END blocks stop the server
	while (1)
	{
		my $c = $listener->accept // next;
		next if fork;
		my ($line, $all) = (scalar(<$c>) // '', '');
		while (defined(my $h = <$c>)) { $all .= $h; last if $h =~ /^\r?$/; }
		$c->autoflush(1);
		if ($line =~ /bomb/) { print $c "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\nX-Asked: " . ($all =~ /^(accept-encoding|te):/im ? 'yes' : 'no') . "\r\nContent-Length: " . length($bomb) . "\r\n\r\n$bomb"; }
		# a byte now and then, for ever: of the header, of the body
		elsif ($line =~ /headers/) { print $c "HTTP/1.1 200 OK\r\nX-Slow: "; while (print $c 'x') { select undef, undef, undef, 0.05; } }
		else { print $c "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"; while (print $c 'x') { select undef, undef, undef, 0.05; } }
		close $c;
		POSIX::_exit(0);
	}
}
my $evil = 'http://127.0.0.1:' . $listener->sockport;
close $listener;

create('bomb', "$evil/bomb");
my $a = test('bomb');
is($a->{outcome}, 'ok', 'a gzip bomb is an answer like any other');
like($a->{response_headers}, qr/x-asked: no/i, 'compression is not asked for');
cmp_ok($a->{size}, '<=', 3 * 16384, 'and its bytes stay what they are: dmshook.response_limit, with replaced ones');
unlike($a->{response_body}, qr/\0/, '... not unpacked');
for my $what ('headers', 'body')
{
	create($what, "$evil/$what", timeout => '700ms', max_attempts => 1);
	$a = test($what);
	is($a->{outcome}, 'timeout', "a slow drip of its $what is cut off by the timeout");
	cmp_ok($a->{duration_ms}, '>=', 690, '... not before');
	cmp_ok($a->{duration_ms}, '<', 3000, '... nor much later');
}
kill 'TERM', $pid;
waitpid $pid, 0;

# ---- at most so many under way ----

create('few', $new->url('/slow/150/few'), max_in_flight => 3);
my $before = () = $new->requests;
$server->sql(q{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', i), '{}')) FROM generate_series(1, 24) i});
$new->wait_for(24, sub { $_->{path} eq '/slow/150/few' });
my @few = grep { $_->{path} eq '/slow/150/few' } $new->requests;
my $most = 0;
for my $r (@few)
{
	# a request takes 150 ms from when it was read
	my $at_once = grep { $_->{at} <= $r->{at} && $_->{at} > $r->{at} - 140_000 } @few;
	$most = $at_once if $at_once > $most;
}
is($most, 3, 'max_in_flight: three at once, never more');

done_testing();
