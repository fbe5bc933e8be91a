=pod

=head1 NAME

DmshookTest - a throw-away server with dmshook, scripted receivers, and waiting without sleeping

=head1 SYNOPSIS

  use DmshookTest;
  use Test::More;

  my $server = DmshookTest->new('main');          # preloaded, extension made in database postgres
  my $receiver = DmshookTest::Receiver->new;      # https://localhost:PORT, logs its requests
  $server->sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text)});
  my $secret = $server->sql(sprintf q{SELECT signing_secret FROM dmshook.create_webhook('a', '%s', '{*}', enabled => true)},
      $receiver->url('/fail/2'));
  $server->sql(q{INSERT INTO vehicle VALUES (1, 'sold')});
  my @requests = $receiver->wait_for(3);          # or those that a condition holds for: wait_for(3, sub { $_->{path} eq '/ok' })
  is($requests[0]{headers}{'webhook-id'}, ...);   # also: at (us), connection, request, method, path, status, tls, body
  is_deeply(verify($secret, @requests), [({ standardwebhooks => 'ok', svix => 'ok' }) x 3]);
  $server->wait_sql(q{SELECT state = 'delivered' FROM dmshook.deliveries});
  done_testing();

=head1 OPTIONS of DmshookTest->new(name, ...)

  preload => 0              shared_preload_libraries without dmshook
  extension => 0            no CREATE EXTENSION
  conf => "a = b\n..."      further settings
  restart_after_crash => 1  as a server outside of tests does (Cluster.pm turns it off)
  fsync => 1                on (Cluster.pm turns it off)
  initdb => ['--encoding=LATIN1', ...]
  start => 0                only made

=head1 OPTIONS of DmshookTest::Receiver->new(...)

  cert => 'good'            or wrong, expired, unknown, self: test/receiver/certs
  plain => 1, mute => 1     http; accepts connections and never says a word
  secrets => [...]          it checks signatures itself: stats 'signature.ok', and 'signature' of a request
  log => 0                  keeps no requests, for load
  client_ca => FILE         a client certificate of that authority is required (client_optional => 1: asked for);
                            requests then have client (its common name) and resumed (the TLS session)
  threads => 2, address => '127.0.0.2', tls => '1.2', port => N

What is in a path is at the head of test/receiver/receiver.c.

=cut

package DmshookTest;

use strict;
use warnings;

use Exporter 'import';
use IO::Handle;
use IPC::Open2;
use IPC::Open3;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(poll_until verify certs quote);

our $top = $ENV{DMSHOOK_TOP} or die "run this with make test (TAP=FILE for one)\n";
our $patience = $PostgreSQL::Test::Utils::timeout_default // 180;

# Utils.pm turns STDERR into a log file: what ends a test is to be seen.
$SIG{__DIE__} = sub { diag($_[0]) if defined $^S && !$^S; };

# The folder with the tests' certificates; ca.pem there is what the server trusts.
sub certs
{
	my $dir = "$top/test/build/certs";
	# several test files may start at once
	open my $lock, '>', "$top/test/build/certs.lock" or die "$top/test/build/certs.lock: $!";
	flock $lock, 2;
	system("$top/test/receiver/certs", $dir) == 0 or die "no certificates";
	return $dir;
}

sub new
{
	my ($class, $name, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $self = bless { node => $node }, $class;
	my $certs = certs();

	$node->init(extra => $option{initdb} // ['--encoding=UTF8']);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dmshook'\n")
	  if $option{preload} // 1;
	$node->append_conf('postgresql.conf', <<"CONF");
dmshook.allowed_networks = '127.0.0.0/8, ::1'
dmshook.ca_file = '$certs/ca.pem'
log_statement = none
CONF
	$node->append_conf('postgresql.conf', "restart_after_crash = on\n") if $option{restart_after_crash};
	$node->append_conf('postgresql.conf', "fsync = on\n") if $option{fsync};
	$node->append_conf('postgresql.conf', $option{conf}) if $option{conf};
	if ($option{start} // 1)
	{
		$node->start;
		$self->sql('CREATE EXTENSION dmshook') if $option{extension} // 1;
	}
	return $self;
}

sub node { return $_[0]{node}; }

# Run SQL; dies on an error.
sub sql
{
	my ($self, $sql, $database) = @_;
	return $self->{node}->safe_psql($database // 'postgres', $sql);
}

# Run SQL that must fail; its messages.
sub sql_fails
{
	my ($self, $sql, $database) = @_;
	my ($rc, $out, $err) = $self->{node}->psql($database // 'postgres', $sql);
	die "this did not fail: $sql" if $rc == 0;
	return $err;
}

# Rows of a query as hashes.
sub rows
{
	my ($self, $sql, $database) = @_;
	my $json = $self->sql("SELECT coalesce(json_agg(r), '[]') FROM ($sql) r", $database);
	return @{ JSON::PP->new->decode($json) };
}

# Wait until a query says t (or what is wanted).
sub wait_sql
{
	my ($self, $sql, $wanted, $database) = @_;
	my ($psql, $last) = (undef, '');
	$wanted //= 't';
	# one psql for all the looks: starting it costs far more than the query
	poll_until(sub {
		$psql //= _psql_start($self->{node}, $database // 'postgres');
		my $answer = _psql_ask($psql, $sql);
		$last = $answer // 'psql ended: is the server there?';
		_psql_end($psql), undef $psql if !defined $answer;
		return defined $answer && $answer eq $wanted;
	}, sub { _psql_end($psql) if $psql; "waited for \"$wanted\" of: $sql\nlast answer: $last" });
	_psql_end($psql);
	return 1;
}

# A psql at the end of two pipes; its errors come with its output.
sub _psql_start
{
	my ($node, $database) = @_;
	my $pid = open3(my $in, my $out, undef, $node->installed_command('psql'), '-XAtq', '-d', $node->connstr($database));
	$in->autoflush(1);
	return { pid => $pid, in => $in, out => $out };
}

# Its answer; undef when it has ended.
sub _psql_ask
{
	my ($psql, $sql) = @_;
	my $answer = '';
	local $SIG{PIPE} = 'IGNORE';
	print { $psql->{in} } "$sql\n;\n\\echo -- end of answer\n" or return undef;
	while (defined(my $line = readline $psql->{out}))
	{
		return $answer =~ s/\n\z//r if $line eq "-- end of answer\n";
		$answer .= $line;
	}
	return undef;
}

sub _psql_end
{
	my ($psql) = @_;
	local ($?, $SIG{PIPE}) = (0, 'IGNORE');
	close $psql->{$_} for qw(in out);
	waitpid $psql->{pid}, 0;
}

# Wait until the server's log has a line; from an offset (log_size() of before).
sub log_size { return -s $_[0]{node}->logfile; }

sub wait_log
{
	my ($self, $pattern, $offset) = @_;
	my $text;
	poll_until(sub {
		$text = substr(slurp_file($self->{node}->logfile), $offset // 0);
		return $text =~ $pattern;
	}, "waited for $pattern in the server's log");
	return $text;
}

# A psql that stays: ->query($sql), ->query_safe, ->{stderr}, ->quit.
sub session
{
	my ($self, $database, %params) = @_;
	return $self->{node}->background_psql($database // 'postgres', on_error_stop => 0, %params);
}

# Call a sub until it returns true; dies with what (text or sub) when patience ends.
sub poll_until
{
	my ($sub, $what, $patience_here) = @_;
	my $end = time + ($patience_here // $patience);
	my $pause = 0.01;
	while (1)
	{
		my $result = $sub->();
		return $result if $result;
		die "timed out: " . (ref $what ? $what->() : $what // '') . "\n" if time > $end;
		sleep($pause);
		$pause *= 1.5 if $pause < 0.1;
	}
}

# Verify requests with the libraries that are not ours; one hash a request. No secret: each has its own.
sub verify
{
	my ($secret, @requests) = @_;
	my $json = JSON::PP->new->ascii;
	my $pid = open2(my $out, my $in, 'node', "$top/test/receiver/verify.mjs");
	print $in $json->encode({ headers => $_->{headers}, body => $_->{body}, secret => $secret // $_->{secret}, exists $_->{now} ? (at => $_->{now}) : () }), "\n"
	  for @requests;
	close $in;
	my @results = map { JSON::PP->new->decode($_) } <$out>;
	waitpid $pid, 0;
	die "verify.mjs failed" if $? || @results != @requests;
	return \@results;
}

# An SQL literal.
sub quote
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

package DmshookTest::Receiver;

use strict;
use warnings;

use HTTP::Tiny;
use IPC::Open2;
use JSON::PP;
use MIME::Base64;

my $count = 0;

sub new
{
	my ($class, %option) = @_;
	my $certs = DmshookTest::certs();
	my $self = bless { %option, address => $option{address} // '127.0.0.1' }, $class;
	$self->{log_file} = "$PostgreSQL::Test::Utils::tmp_check/receiver_$$" . '_' . ++$count . '.log'
	  if $option{log} // 1;
	unlink $self->{log_file} if $self->{log_file};
	$self->{command} = [
		"$DmshookTest::top/test/build/receiver", '--stdin', '--address', $self->{address},
		$option{plain} ? '--plain' : $option{mute} ? '--mute'
		: ('--cert', "$certs/" . ($option{cert} // 'good') . '.pem', '--key', "$certs/" . ($option{cert} // 'good') . '.key'),
		$self->{log_file} ? ('--log', $self->{log_file}) : (),
		$option{threads} ? ('--threads', $option{threads}) : (),
		$option{tls} ? ('--tls', $option{tls}) : (),
		$option{client_ca} ? ('--client-ca', $option{client_ca}) : (),
		$option{client_optional} ? '--client-optional' : (),
		map { ('--secret', $_) } @{ $option{secrets} // [] }
	];
	$self->start;
	return $self;
}

# Start (again, at the same port).
sub start
{
	my ($self) = @_;
	$self->{pid} = open2($self->{out}, $self->{in}, @{ $self->{command} }, '--port', $self->{port} // 0);
	my $lines = readline($self->{out}) // die "the receiver did not start";
	$lines .= readline($self->{out});
	$lines =~ /^port: (\d+)\ncontrol: (\d+)$/ or die "the receiver said: $lines";
	@$self{qw(port control)} = ($1, $2);
	return $self;
}

# End it; connections are closed, the port refuses.
sub stop
{
	my ($self) = @_;
	return if !$self->{pid};
	close $self->{in};
	local $?;
	waitpid $self->{pid}, 0;
	close $self->{out};
	delete $self->{pid};
}

sub DESTROY { local ($@, $?); $_[0]->stop; }

sub port { return $_[0]{port}; }

# Where a webhook is to be sent: url('/ok'); by name, or url('/ok', '127.0.0.1').
sub url
{
	my ($self, $path, $host) = @_;
	$host //= $self->{address} eq '127.0.0.1' ? 'localhost' : $self->{address} =~ /:/ ? "[$self->{address}]" : $self->{address};
	return ($self->{plain} ? 'http' : 'https') . "://$host:$self->{port}" . ($path // '/ok');
}

# All requests so far, oldest first, as hashes: see SYNOPSIS.
sub requests
{
	my ($self, $condition) = @_;
	my $requests = $self->{requests} //= [];
	# only what is new is read: a test may ask a hundred times
	if (open my $f, '<', $self->{log_file})
	{
		seek $f, $self->{read_to} // 0, 0;
		while (my $line = <$f>)
		{
			last if $line !~ /\n\z/;
			my $request = JSON::PP->new->utf8->decode($line);
			$request->{body} = decode_base64($request->{body_base64}) if exists $request->{body_base64};
			push @$requests, $request;
			$self->{read_to} = tell $f;
		}
	}
	return $condition ? grep { $condition->($_) } @$requests : @$requests;
}

# Wait until there are that many (for which the condition holds, given $_); all of them.
sub wait_for
{
	my ($self, $n, $condition, $patience) = @_;
	my @found;
	DmshookTest::poll_until(sub { (@found = $self->requests($condition)) >= $n },
		sub { "waited for $n requests at port $self->{port}, got " . @found . ' of ' . $self->requests }, $patience);
	return @found;
}

sub control
{
	my ($self, $path) = @_;
	my $response = HTTP::Tiny->new(timeout => 20)->get("http://127.0.0.1:$self->{control}$path");
	die "control port: $response->{status} $response->{content}" if !$response->{success};
	return $response->{content};
}

# Counters, as a hash: requests, 'status.200', 'path./ok.ok', 'signature.ok', 'connections.open' ...
sub stats
{
	my ($self) = @_;
	return { map { /^(\S.*) (-?\d+)$/ ? ($1, $2) : () } split /\n/, $self->control('/stats') };
}

# What /switch/NAME answers from now on, and what waits at /gate/NAME.
sub set { my ($self, $name, $status) = @_; $self->control("/set/$name/$status"); }

# Tokens of /token/NAME that were issued so far are good no more; what /token/NAME answers from now on.
sub revoke { my ($self, $name) = @_; $self->control("/revoke/$name"); }
sub set_token { my ($self, $name, $status) = @_; $self->control("/set/token-$name/$status"); }

# Counters to zero, and what /fail/N remembers.
sub clear { $_[0]->control('/clear'); }

1;
