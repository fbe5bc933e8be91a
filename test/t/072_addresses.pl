# Whom it calls: odd spellings of forbidden addresses, allowed_addresses, allowed_ports, source_address (from a second address, in a network namespace of its own), proxy.
use strict;
use warnings;

# In a network namespace with two addresses, before anything else is loaded. The user stays the same, for the server does not run as root; of root's rights only those over this namespace.
BEGIN
{
	if (!$ENV{DMSHOOK_NETNS})
	{
		my @unshare = qw(unshare --user --map-current-user --net --keep-caps sh -c);
		my $setup = 'ip link set lo up && ip link add dms0 type veth peer name dms1 && ip address add 10.99.0.1/24 dev dms0 && ip address add 10.99.0.2/24 dev dms0 && ip link set dms0 up && ip link set dms1 up';
		my $why = qx(unshare --user --map-current-user --net --keep-caps sh -c '$setup' 2>&1);
		$ENV{DMSHOOK_NETNS} = $? == 0 ? 'yes' : "impossible here: $why";
		exec @unshare, "$setup && exec \"\$@\"", 'sh', $^X, (map { "-I$_" } @INC), $0 if $? == 0;
	}
}
my $namespace = $ENV{DMSHOOK_NETNS};

use DmshookTest;
use IPC::Open2 ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $server = DmshookTest->new('addresses', conf => "dmshook.allow_http = on\n");
my $receiver = DmshookTest::Receiver->new;
my $plain = DmshookTest::Receiver->new(plain => 1);
my $port = $receiver->port;

# Webhooks, each tested once: their attempts, or { refused => error } where the URL is refused when it is typed in.
my $n = 0;
sub attempts
{
	my (@urls) = @_;
	my ($sql, %options, %found) = ('');
	for (@urls)
	{
		my ($url, $options) = ref $_ ? @$_ : ($_, '{}');
		my $name = 'w' . ++$n;
		$sql .= "\\echo $name\nSELECT FROM dmshook.create_webhook('$name', " . quote($url) . q{, '{vehicle.sold}', options => } . quote($options) . ");\nSELECT FROM dmshook.test_webhook('$name');\n";
		$_ = $name;
	}
	my ($rc, $out, $err) = $server->node->psql('postgres', "\\set VERBOSITY default\n\\o /dev/null\n$sql", on_error_stop => 0);
	$found{ $_->{webhook} } = $_ for $server->rows(q{SELECT * FROM dmshook.attempts WHERE webhook ~ '^w[0-9]'});
	my @refused = $err =~ /^psql:[^\n]*(ERROR:  invalid URL.*?)(?=\npsql:|\z)/gms;
	$server->sql(q{SELECT dmshook.drop_webhook(name) FROM dmshook.webhooks WHERE name ~ '^w[0-9]'});
	return map { $found{$_} // { refused => shift @refused } } @urls;
}

sub attempt { return (attempts([@_ == 2 ? @_ : (@_, '{}')]))[0]; }

sub setting
{
	my ($name, $value, $sql, $wanted) = @_;
	$server->sql("ALTER SYSTEM SET dmshook.$name = " . quote($value));
	$server->sql('SELECT pg_reload_conf()');
	$server->wait_sql($sql, $wanted) if $sql;
}

sub connections { return $receiver->stats->{'connections.total'}; }

# ---- spellings ----

my @this_machine = (
	'127.0.0.1', '2130706433', '0x7f000001', '0X7F.0.0.1', '0177.0.0.1', '017700000001', '127.1', '127.0.1', '0x7f.1', '127.0.0.1.', '127.000.000.001', '127.1.2.3', '%31%32%37.0.0.1', '127%2e0%2e0%2e1',
	'localhost', 'LOCALHOST', 'localhost.', '%6cocalhost', '[::1]', '[0:0:0:0:0:0:0:1]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[::127.0.0.1]', '[::ffff:0:127.0.0.1]', '[64:ff9b::127.0.0.1]', '[64:ff9b:1::127.0.0.1]',
	'[2002:7f00:1::]', '[2001:0:7f00:1::]', '0', '0.0.0.0', '[::]', '0x0');
my @others = (
	'169.254.169.254', '2852039166', '0xa9fea9fe', '[::ffff:169.254.169.254]', '[fd00:ec2::254]', '100.100.100.200', '168.63.129.16', '192.0.0.192', '[fe80::a9fe:a9fe]', '10.0.0.1', '0x0a000001', '167772161', '012.0.0.1', '172.16.0.1', '192.168.1.1',
	'100.64.0.1', '[fe80::1]', '[fc00::1]', '224.0.0.1', '255.255.255.255', '240.0.0.1', '[ff02::1]', '198.18.0.1', '192.0.2.1', '[2001:db8::1]', '10.99.0.2');
my @no_url = ("ⓛocalhost", "loc\xc3\xa4lhost", 'localhost%00.example', '127.0.0.1%2fx', '[::1', '[::1%25lo]x', '127.0.0.1#@example.com', 'user@127.0.0.1', '127.0.0.1 .example', '127.0.0.1\\.example');

setting('allowed_networks', '', 'SELECT NOT ok FROM dmshook.test_webhook(' . quote('first') . ')')
	if $server->sql('SELECT count(*) FROM dmshook.create_webhook(\'first\', ' . quote($receiver->url('/ok')) . q{, '{vehicle.sold}')});
my $connections = connections();
my ($other, %outcome) = ('');
my @hosts = (@this_machine, @others);
my @attempts = attempts(map { "https://$_:$port/ok" } @hosts);
for my $host (@hosts)
{
	my $a = shift @attempts;
	$outcome{$host} = $a->{refused} ? 'refused' : $a->{outcome};
	# what is no address for the resolver either is not connected to
	$other .= "$host: " . ($a->{outcome} // $a->{refused}) . " $a->{error}\n" if !$a->{refused} && $a->{outcome} ne 'blocked_address' && $a->{outcome} ne 'dns_error';
}
is($other, '', 'no spelling of an address that is not public is connected to');
is(connections(), $connections, '... as the receiver has seen');
# the dot at the end is left to the resolver by older libcurls, and dropped by newer ones
is(join(' ', grep { $outcome{$_} eq 'dns_error' && !/^(127\.0\.0\.1|localhost)\.\z/ } @hosts), '', 'all but two are taken for the address that they mean, and refused as that') or diag explain \%outcome;
@attempts = attempts(map { "https://$_:$port/ok" } @no_url);
for my $host (@no_url)
{
	my $a = shift @attempts;
	like($a->{refused} // '', qr/invalid URL of a webhook/, 'refused when it is typed in: ' . $host =~ s/[^ -~]/?/gr) or diag explain $a;
}

# once the network is open they do arrive, so it was the guard that refused them
setting('allowed_networks', '127.0.0.0/8', 'SELECT ok FROM dmshook.test_webhook(' . quote('first') . ')');
my @open = ('2130706433', '0x7f000001', '0177.0.0.1', '127.1', '%31%32%37.0.0.1', 'LOCALHOST');
is(join(' ', map { $_->{outcome} } attempts(map { "https://$_:$port/ok" } @open)), join(' ', ('ok') x @open), 'they arrive where the network is open');
like(attempt("https://[::ffff:127.0.0.1]:$port/ok")->{outcome}, qr/^(ok|tls_error)$/, 'an IPv4-mapped one, too');
is(attempt("https://[::1]:$port/ok")->{outcome}, 'blocked_address', 'another address of this machine does not');

# ---- allowed_addresses, allowed_ports ----

is(attempt("https://localhost:$port/ok", '{"allowed_addresses": ["203.0.114.0/24", "127.0.0.1"]}')->{outcome}, 'ok', 'allowed_addresses: it is one of them');
my $a = attempt("https://localhost:$port/ok", '{"allowed_addresses": ["203.0.114.0/24", "127.0.0.2"]}');
is($a->{outcome}, 'blocked_address', 'allowed_addresses: it is not');
like($a->{error}, qr/"localhost" has the address 127\.0\.0\.1, which is not in the webhook's option allowed_addresses/, '... the error');
is(attempt("https://10.99.0.1:$port/ok", '{"allowed_addresses": "10.0.0.0/8"}')->{outcome}, 'blocked_address', 'allowed_addresses opens nothing');

$server->sql(q{SET dmshook.allowed_ports = '1-'; SELECT FROM dmshook.create_webhook('ssh', 'https://localhost:22/', '{vehicle.sold}')});
$server->sql(q{SELECT FROM dmshook.test_webhook('ssh')});
is($server->sql(q{SELECT outcome || ': ' || error FROM dmshook.attempts WHERE webhook = 'ssh'}), 'blocked_address: The port 22 is not among those of dmshook.allowed_ports.', 'a port is looked at again when it is connected to');
setting('allowed_ports', $port + 1 . '-', 'SELECT NOT ok FROM dmshook.test_webhook(' . quote('first') . ')');
like($server->sql(q{SELECT outcome || ': ' || hint FROM dmshook.attempts WHERE webhook = 'first' ORDER BY id DESC LIMIT 1}), qr/^blocked_address: .*dmshook\.allowed_ports/, 'allowed_ports: after a reload, on a kept connection');
like(attempt("https://localhost:$port/ok")->{refused}, qr/not among those of dmshook\.allowed_ports/, '... and no webhook can be made for it');
setting('allowed_ports', '443,8443,1024-', 'SELECT ok FROM dmshook.test_webhook(' . quote('first') . ')');

# ---- source_address ----

SKIP:
{
	skip "network namespaces are $namespace", 9 if $namespace ne 'yes';
	$server->sql('SELECT FROM dmshook.create_webhook(\'plain\', ' . quote($plain->url('/ok/plain', '127.0.0.1')) . q{, '{vehicle.sold}')});
	for my $source ('10.99.0.2', '10.99.0.1', '')
	{
		my $from = $source || '127.0.0.1';
		$server->sql("ALTER SYSTEM SET dmshook.source_address = '$source'");
		$server->sql('SELECT pg_reload_conf()');
		poll_until(sub {
			$server->sql(q{SELECT FROM dmshook.test_webhook('first')});
			return $server->sql(q{SELECT host(local_address) FROM dmshook.attempts WHERE webhook = 'first' ORDER BY id DESC LIMIT 1}) eq $from;
		}, "waited for a request from $from");
		is($server->sql(q{SELECT ok FROM dmshook.test_webhook('plain')}), 't', "from $from: it arrives");
		is(($receiver->requests)[-1]{from}, $from, "from $from: so the receiver sees it");
		is(($plain->requests)[-1]{from}, $from, "from $from: without TLS, too");
	}
}
like($server->sql_fails(q{ALTER SYSTEM SET dmshook.source_address = 'not an address'}), qr/name of a network interface/, 'source_address is checked');

# ---- proxy ----

my $tmp = PostgreSQL::Test::Utils::tempdir;
my $proxies = 0;
sub proxy
{
	my (@option) = @_;
	my $log = "$tmp/proxy" . ++$proxies;
	my $pid = IPC::Open2::open2(my $out, my $in, '/usr/bin/python3', "$DmshookTest::top/test/receiver/proxy.py", $log, @option);
	my ($proxy_port) = readline($out) =~ /^port: (\d+)$/ or die 'the proxy did not start';
	return { pid => $pid, in => $in, out => $out, log => $log, url => "http://localhost:$proxy_port", seen => sub {
		open my $f, '<', $log or return ();
		return map { JSON::PP->new->decode($_) } <$f>;
	} };
}
sub stop_proxy { my ($proxy) = @_; close $proxy->{in}; waitpid $proxy->{pid}, 0; }

# a test that goes on until it has gone through that proxy
sub through
{
	my ($proxy) = @_;
	setting('proxy', $proxy->{url});
	poll_until(sub { $server->sql(q{SELECT FROM dmshook.test_webhook('first')}); return $proxy->{seen}->(); }, 'waited for a CONNECT');
}

my $password = "$tmp/password";
append_to_file($password, "dms:canary-of-the-proxy\n");
chmod 0644, $password;
my $good = proxy('--auth', 'dms:canary-of-the-proxy');
$server->sql('ALTER SYSTEM SET dmshook.proxy_password_file = ' . quote($password));
setting('proxy', $good->{url});
$server->wait_log(qr/nothing can be sent through dmshook\.proxy.*group or world access/s);
like(attempt("https://localhost:$port/ok")->{error}, qr/dmshook\.proxy cannot be used/, 'a password file that others may read is refused, and nothing goes out');
is(scalar(() = $good->{seen}->()), 0, '... nor to the proxy');
chmod 0600, $password;
$server->sql('SELECT pg_reload_conf()');
poll_until(sub { $server->sql(q{SELECT ok FROM dmshook.test_webhook('first')}) eq 't' }, 'waited for the proxy to be used');
my ($seen) = $good->{seen}->();
is("$seen->{method} $seen->{target} $seen->{answer} $seen->{user}", "CONNECT localhost:$port 200 dms:canary-of-the-proxy", 'a tunnel through the proxy, with the credentials');
is(join(' ', sort grep { !/^(host|proxy-authorization|proxy-connection|user-agent)$/ } keys %{ $seen->{header} }), '', 'the proxy sees none of our headers');
$a = attempt("https://receiver.test:$port/ok");
like($a->{error}, qr/certificate of the receiver is not for the name "receiver\.test"/, 'a name that only the proxy knows; TLS is with the receiver, and checked');
is(attempt($plain->url('/ok', 'receiver.test'))->{outcome}, 'ok', 'plain http goes through a tunnel, too');
is($server->sql(q{SELECT http_version || ' ' || (response_headers !~* 'x-proxy') FROM dmshook.attempts WHERE url ~ 'receiver.test' AND outcome = 'ok'}), '1.1 true', 'the answer is the receiver\'s alone');
# an access token: both requests go through the proxy, and none of them past it
sub with_token
{
	my ($name, $url, $token_url) = @_;
	$server->sql(qq{SELECT FROM dmshook.create_webhook('$name', '$url', '{vehicle.sold}',
		auth => '{"kind": "oauth2", "token_url": "$token_url", "client_id": "c", "client_secret": "canary-of-the-client"}')});
}
with_token('oauth', "https://127.0.0.1:$port/protected/proxied", "https://localhost:$port/token/proxied");
with_token('token_inside', "https://receiver.test:$port/ok", "https://127.0.0.1:$port/token/inside");
my $earlier = () = $good->{seen}->();
my $direct = $receiver->stats->{'connections.total'};
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('oauth')}), 't', 'an access token is got, and used, behind a proxy');
my @tunnels = map { "$_->{method} $_->{target}" } ($good->{seen}->())[ $earlier .. $#{ [ $good->{seen}->() ] } ];
is(join(', ', grep { $_ eq "CONNECT 127.0.0.1:$port" } @tunnels), "CONNECT 127.0.0.1:$port", '... the request through a tunnel');
is($receiver->stats->{'connections.total'} - $direct, scalar(@tunnels), '... and no connection was made past it');
is(scalar($receiver->requests(sub { $_->{path} eq '/token/proxied' })), 1, '... to the token endpoint, too');

setting('allowed_networks', '', 'SELECT NOT ok FROM dmshook.test_webhook(' . quote('first') . ')');
$connections = connections();
my $asked = () = $good->{seen}->();
@attempts = attempts(map { "https://$_:$port/ok" } @hosts);
is(join(' ', map { my $b = shift @attempts; $b->{refused} || $b->{outcome} eq 'blocked_address' ? () : $_ } @hosts), '', 'behind a proxy: every spelling of such an address is refused');
is(scalar(() = $good->{seen}->()), $asked, 'the proxy was asked for none of them');
is(connections(), $connections, '... and nobody else either');
$server->sql(q{SELECT FROM dmshook.test_webhook('token_inside')});
like($server->sql(q{SELECT outcome || ': ' || error FROM dmshook.attempts WHERE webhook = 'token_inside'}), qr/^blocked_address: .*127\.0\.0\.1/, 'nor a token endpoint at one');
is(scalar(() = $good->{seen}->()), $asked, '... the proxy was not asked for it');
like(attempt("https://receiver.test:$port/ok", '{"allowed_addresses": "127.0.0.1"}')->{error}, qr/dmshook\.proxy looks up "receiver\.test", so the webhook's option allowed_addresses cannot be kept/, 'allowed_addresses behind a proxy: names are refused');
$server->sql(q{SET dmshook.allowed_ports = '1-'; SELECT FROM dmshook.create_webhook('smtp', 'https://receiver.test:25/', '{vehicle.sold}')});
$server->sql(q{SELECT FROM dmshook.test_webhook('smtp')});
is($server->sql(q{SELECT outcome || ' ' || (error ~ 'port 25') FROM dmshook.attempts WHERE webhook = 'smtp'}), 'blocked_address true', 'ports behind a proxy');
setting('allowed_networks', '127.0.0.0/8', 'SELECT ok FROM dmshook.test_webhook(' . quote('first') . ')');

my $refuses = proxy('--answer', '403');
through($refuses);
$a = attempt("https://receiver.test:$port/ok");
is("$a->{outcome}: $a->{error}", "connect_error: The proxy localhost answered 403 to CONNECT receiver.test:$port.", 'a proxy that refuses');
is($a->{status}, undef, '... its status is not the receiver\'s');
my $wants = proxy('--auth', 'somebody:else');
through($wants);
$a = attempt("https://receiver.test:$port/ok");
like("$a->{outcome}: $a->{error} $a->{hint}", qr/^connect_error: The proxy localhost answered 407.*proxy_password_file/, 'a proxy that wants other credentials');
my $mute = proxy('--mute');
setting('proxy', $mute->{url});
poll_until(sub { ($a = attempt("https://receiver.test:$port/ok", '{"timeout": "300ms"}'))->{outcome} eq 'timeout' }, sub { "waited for a timeout: $a->{outcome}: $a->{error}" });
$a = attempt("https://receiver.test:$port/ok", '{"timeout": "300ms"}');
like($a->{error}, qr/The proxy localhost port \d+ made no connection to receiver\.test within 300 ms/, 'a proxy that says nothing');
stop_proxy($_) for $refuses, $wants, $mute;
$a = attempt("https://receiver.test:$port/ok");
like("$a->{outcome}: $a->{error}", qr/^connect_error: The connection to receiver\.test through the proxy localhost port \d+ failed/, 'a proxy that is not there');
setting('proxy', '', 'SELECT ok FROM dmshook.test_webhook(' . quote('first') . ')');
is($server->sql(q{SELECT error FROM dmshook.attempts WHERE webhook = 'first' ORDER BY id DESC LIMIT 1}), '', 'without a proxy again');
my $before = () = $good->{seen}->();
stop_proxy($good);
like($server->sql_fails("ALTER SYSTEM SET dmshook.proxy = '$_'"), qr/must be a proxy that knows CONNECT/, "proxy is checked: $_") for 'socks5://localhost:1080', 'http://user:canary-of-the-proxy@localhost:3128', 'localhost';
unlike($server->sql_fails(q{ALTER SYSTEM SET dmshook.proxy = 'http://user:hush@localhost:3128'}) =~ s/^STATEMENT.*//mr, qr/hush/, '... and not shown');

my $text = slurp_file($server->node->logfile) =~ s/^.*STATEMENT:.*$//gmr;
$text .= $server->sql(q{SELECT string_agg(concat_ws(' ', a.error, a.hint, a.request_headers, a.response_headers), ' ') FROM dmshook.attempts a});
unlike($text, qr/canary-of-the-(?:proxy|client)/, 'no log line, error or view has the password');
unlike($text, qr/ZG1zOmNhbmFyeS1vZi10aGUtcHJveHk/, '... nor as it is sent');

done_testing();
