# Failure notices by e-mail: STARTTLS and a password, one mail of many, a server that is down, refused recipients, restarts.
use strict;
use warnings;
use utf8;
use DmshookTest;
use JSON::PP;
use IPC::Open2 ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = PostgreSQL::Test::Utils::tempdir;
my $certs = certs();
my $mails = "$tmp/mails";
my $port = PostgreSQL::Test::Cluster::get_free_port();

# The mail server: aiosmtpd; each mail is a line of JSON. It ends when its standard input does.
sub mail_server
{
	my (%option) = @_;
	my $pid = IPC::Open2::open2(my $out, my $in, '/usr/bin/python3', "$DmshookTest::top/test/receiver/mail.py",
		$port, $mails, map { ("--$_", $option{$_}) } sort keys %option);
	my $line = readline($out) // '';
	die "the mail server did not start" if $line ne "ready\n";
	return { pid => $pid, in => $in, out => $out };
}

sub stop_mail_server
{
	my ($server) = @_;
	close $server->{in};
	waitpid $server->{pid}, 0;
	return;
}

sub mails
{
	open my $f, '<', $mails or return ();
	return map { $_->{body} =~ s/\r//g; $_ } map { JSON::PP->new->utf8->decode($_) } grep { /\n\z/ } <$f>;
}

sub wait_mails
{
	my ($n) = @_;
	poll_until(sub { mails() >= $n }, sub { "waited for $n mails, got " . mails() });
	return mails();
}

my $password_file = "$tmp/password";
append_to_file($password_file, "postmaster:s3cret:word\n");
chmod 0600, $password_file;

my $server = DmshookTest->new('main', conf => <<"CONF");
dmshook.smtp_url = 'smtp://localhost:$port/db.example.com'
dmshook.smtp_password_file = '$password_file'
dmshook.alert_mail_to = 'ops\@example.com, boss\@example.com'
dmshook.alert_mail_from = 'dmshook\@db.example.com'
dmshook.alert_mail_delay = 2s
CONF
my $receiver = DmshookTest::Receiver->new;
my $smtp = mail_server(cert => "$certs/good.pem", key => "$certs/good.key", auth => 'postmaster:s3cret:word');

sub webhook
{
	my ($name, $path, $options) = @_;
	$server->sql(sprintf q{SELECT count(*) FROM dmshook.create_webhook(%s, '%s', '{vehicle.sold}', enabled => true, options => '%s')},
		quote($name), $receiver->url($path), $options);
	return;
}

sub set
{
	my (%settings) = @_;
	my $node = $server->node;
	$node->adjust_conf('postgresql.conf', "dmshook.$_", "'$settings{$_}'") for sort keys %settings;
	$node->reload;
	return;
}

$server->sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text); SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});

#
# Many dead deliveries of two webhooks are one mail; TLS and password are used
#
# names of tests are in ASCII: Cluster.pm of 18 dies of a wide character
sub ascii { return $_[0] =~ s/[^ -~]/?/gr; }
my $name = "M\x{fc}ller \x{20ac}";
utf8::encode($name);
webhook($name, '/switch/a', '{"max_attempts": 1, "breaker": null}');
webhook('Second', '/switch/b', '{"max_attempts": 1, "breaker": null}');
webhook('Well', '/ok', '{}');
$server->sql(q{INSERT INTO vehicle SELECT i, 'sold' FROM generate_series(1, 300) i});
$server->wait_sql(q{SELECT count(*) = 600 FROM dmshook.deliveries WHERE state = 'exhausted'});
my ($mail, @others) = wait_mails(1);
is(scalar(@others), 0, 'six hundred dead deliveries are one mail');
is_deeply($mail->{rcpt}, [ 'ops@example.com', 'boss@example.com' ], 'to both addresses');
is($mail->{from}, 'dmshook@db.example.com', 'from that address');
is($mail->{helo}, 'db.example.com', 'EHLO with the name in the URL');
ok($mail->{tls}, 'by TLS');
is($mail->{user}, 'postmaster', 'with user and password');
like($mail->{header}{$_}, qr/./, "header $_") for 'Date', 'Message-ID';
is($mail->{header}{To}, 'ops@example.com, boss@example.com', 'header To');
is($mail->{header}{'Auto-Submitted'}, 'auto-generated', 'no out-of-office answers');
like($mail->{header}{Subject}, qr/^\[dmshook postgres\] (Müller €|Second) is failing, and \d more$/, 'the subject, decoded');
like($mail->{body}, qr/^\S+Z  \Q$_\E is failing\n(    .*\n)*    error: .*500/m, ascii($_) . ' is failing, and why') for 'Müller €', 'Second';
like($mail->{body}, qr/^\S+Z  \Q$_\E: (a delivery was|\d+ deliveries were) given up$/m, ascii($_) . ': given up') for 'Müller €', 'Second';
unlike($mail->{body}, qr/Well/, 'nothing of the one that works');
unlike($mail->{raw}, qr/s3cret|whsec_/, 'no secret in it');
unlike($mail->{raw}, qr/[^\x00-\x7f]/, 'it is ASCII');
is($mail->{defects}, 0, 'Python\'s parser finds no defect');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.alerts WHERE sent_to IS NULL AND kind NOT LIKE 'circuit%'});
is($server->sql(q{SELECT DISTINCT sent_to FROM dmshook.alerts WHERE sent_to IS NOT NULL}), 'ops@example.com, boss@example.com', 'alerts.sent_to');

#
# It recovers: another mail, and by alert_to to somebody else; while the alert is locked by somebody, nothing stands still
#
$server->sql(q{SELECT dmshook.alter_webhook('Second', options => '{"alert_to": "second@example.com"}')});
$receiver->set('b', 200);
$server->sql(q{INSERT INTO vehicle VALUES (1001, 'sold')});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.alerts WHERE kind = 'recovered' AND webhook = 'Second'});
my $session = $server->session;
$session->query_safe(q{BEGIN});
$session->query_safe(q{SELECT count(*) FROM dmshook.acknowledge((SELECT id FROM dmshook.alerts WHERE kind = 'recovered'))});
my ($recovered) = grep { "@{ $_->{rcpt} }" eq 'second@example.com' } wait_mails(2);
like($recovered->{header}{Subject}, qr/^\[dmshook postgres\] Second has recovered$/, 'recovered: to alert_to');
$server->sql(q{INSERT INTO vehicle VALUES (1002, 'sold')});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'Well' AND state = 'delivered' AND entity_key = '{"id": 1002}'});
is($server->sql(q{SELECT sent_to IS NULL FROM dmshook.alerts WHERE kind = 'recovered'}), 't', 'sent_to waits for who has the alert');
$session->query_safe(q{COMMIT});
$session->quit;
$server->wait_sql(q{SELECT sent_to = 'second@example.com' AND acknowledged FROM dmshook.alerts WHERE kind = 'recovered'});
is(scalar(grep { "@{ $_->{rcpt} }" eq 'second@example.com' } mails()), 1, 'and it is not mailed twice');

#
# The server is down: once in the log, tried again, also after a restart of ours
#
stop_mail_server($smtp);
my $log = $server->log_size;
my $n = mails();
$receiver->set('b', 503);
$server->sql(q{SELECT dmshook.alter_webhook('Second', options => '{"alert_to": null}')});
$server->sql(q{INSERT INTO vehicle SELECT i, 'sold' FROM generate_series(2001, 2010) i});
$server->wait_log(qr/WARNING:  failure notifications could not be mailed to ops\@example\.com, boss\@example\.com\n.*DETAIL:  .*(connect|refused)/i, $log);
$server->wait_sql(q{SELECT count(*) = 10 FROM dmshook.deliveries WHERE webhook = 'Second' AND state = 'exhausted' AND (entity_key->>'id')::int > 2000});
$log = $server->log_size;
$server->node->restart;
$server->wait_log(qr/failure notifications could not be mailed/, $log);
$server->sql(q{INSERT INTO vehicle VALUES (1003, 'sold')});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'Well' AND state = 'delivered' AND entity_key = '{"id": 1003}'});
# no TLS now, and a recipient that it does not know
$smtp = mail_server(refuse => 'boss@example.com');
set(alert_mail_delay => '1s');
my $plain = $server->wait_log(qr/STARTTLS/, $log);
like($plain, qr/DETAIL:  .*STARTTLS/, 'a password is not sent without TLS');
is(scalar(mails()), $n, 'nor a mail');
$log = $server->log_size;
set(smtp_password_file => '');
my @now = wait_mails($n + 1);
like($now[$n]{body}, qr/Second is failing/, 'it was not forgotten');
ok(!$now[$n]{tls}, 'on this machine, without a password, it need not be TLS');
is_deeply($now[$n]{rcpt}, ['ops@example.com'], 'one recipient was refused');
like($server->wait_log(qr/could not be mailed to boss\@example\.com\n/, $log), qr/DETAIL:  the mail server said: 550 no such user/, 'the log says whom and why');
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.alerts WHERE sent_to = 'ops@example.com' AND kind = 'failing'});
like(slurp_file($server->node->logfile), qr/failure notifications can be mailed again/, 'the end of the streak is in the log');
stop_mail_server($smtp);

#
# What else may go wrong: said once, and the loop goes on
#
sub fails
{
	my ($what, $pattern, %settings) = @_;
	$log = $server->log_size;
	set(%settings);
	$server->sql(q{INSERT INTO dmshook.alert (webhook, kind) SELECT id, 'failing' FROM dmshook.webhook WHERE name = 'Second'});
	# the dispatcher knows of what it wrote itself; of this it hears by the reload
	set(alert_mail_delay => '1s');
	my $text = $server->wait_log($pattern, $log);
	like($text, $pattern, $what);
	# check() says the same
	my ($detail) = $text =~ /DETAIL:  (.*?)$/m;
	$server->wait_sql(sprintf q{SELECT problem LIKE 'failure notifications cannot be mailed%%' AND strpos(problem, %s) > 0 FROM dmshook.check() WHERE level = 'error' AND subject ~ 'smtp'}, quote($detail));
	unlike($text, qr/s3cret/, 'without the password');
	return;
}
$smtp = mail_server(cert => "$certs/unknown.pem", key => "$certs/unknown.key", auth => 'postmaster:s3cret:word');
fails('a certificate that nobody knows', qr/DETAIL:  .*certificate/, smtp_password_file => $password_file);
stop_mail_server($smtp);
$smtp = mail_server(cert => "$certs/good.pem", key => "$certs/good.key", auth => 'postmaster:another');
fails('a wrong password', qr/DETAIL:  user or password were refused; the mail server said: 535/, smtp_password_file => $password_file);
is($server->sql(q{SELECT count(*) FROM dmshook.check() WHERE subject = 'dmshook.smtp_password_file'}), 0, 'check() does not mind a file that nobody else can read');
chmod 0644, $password_file;
fails('a password file that others can read', qr/DETAIL:  password file ".*" has another owner, or group or world access/, smtp_password_file => $password_file);
fails('no password file', qr/DETAIL:  could not open password file ".*nowhere": No such file/, smtp_password_file => '/nowhere');
$server->sql(q{INSERT INTO vehicle VALUES (1004, 'sold')});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'Well' AND state = 'delivered' AND entity_key = '{"id": 1004}'});
stop_mail_server($smtp);

# a server that takes the mail and is then silent: QUIT holds up nothing
$smtp = mail_server(mute => 'QUIT', refuse => 'boss@example.com');
$n = mails();
set(smtp_password_file => '');
wait_mails($n + 1);
my $before = time;
$server->sql(q{INSERT INTO vehicle VALUES (1005, 'sold')});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'Well' AND state = 'delivered' AND entity_key = '{"id": 1005}'});
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.alerts WHERE sent_to IS NULL AND kind = 'failing'});
cmp_ok(time - $before, '<', 30, 'a server that does not answer QUIT holds up nobody');
stop_mail_server($smtp);

#
# TLS from the beginning; ten thousand that are given up are one mail, and the next one of that comes in an hour
#
$smtp = mail_server(cert => "$certs/good.pem", key => "$certs/good.key", auth => 'postmaster:s3cret:word', smtps => 'yes');
chmod 0600, $password_file;
set(smtp_url => "smtps://localhost:$port/db.example.com", smtp_password_file => $password_file, alert_mail_to => 'night@example.com');	# who has had no such mail yet
$n = mails();
$server->sql(q{INSERT INTO dmshook.alert (webhook, kind, detail) SELECT id, 'delivery_exhausted', '{"count": 1}' FROM dmshook.webhook, generate_series(1, 3000) WHERE name = 'Second'});
set(alert_mail_delay => '1s');
@now = wait_mails($n + 1);
ok($now[$n]{tls}, 'smtps://: TLS from the beginning');
is($now[$n]{user}, 'postmaster', '... and the password');
like($now[$n]{header}{Subject}, qr/Second: a delivery was given up, and \d{4} more$/, 'three thousand notices are one mail');
like($now[$n]{body}, qr/^\d+ more are not listed\.$/m, '... which lists some of them');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.alerts WHERE sent_to IS NULL AND kind = 'delivery_exhausted'});
$server->sql(q{INSERT INTO dmshook.alert (webhook, kind, detail) SELECT id, 'delivery_exhausted', '{"count": 1}' FROM dmshook.webhook WHERE name = 'Second'});
set(alert_mail_delay => '1s');
$server->wait_sql(q{SELECT clock_timestamp() > max(at) + interval '3 s' FROM dmshook.alert WHERE kind = 'delivery_exhausted'});
$server->sql(q{INSERT INTO dmshook.alert (webhook, kind) SELECT id, 'disabled' FROM dmshook.webhook WHERE name = 'Well'});
set(alert_mail_delay => '1s');
@now = wait_mails($n + 2);
like($now[$n + 1]{header}{Subject}, qr/Well was disabled, and 1 more$/, 'another one is held for an hour, unless something else is mailed');
stop_mail_server($smtp);

#
# Settings and options are checked
#
set(alert_mail_to => '');
$server->wait_sql(q{SELECT problem FROM dmshook.check() WHERE subject = 'dmshook.alert_mail_to'}, 'dmshook.smtp_url is set, but nobody is named to mail failure notifications to');
set(alert_mail_to => 'ops@example.com', smtp_url => '');
$server->wait_sql(q{SELECT problem FROM dmshook.check() WHERE subject = 'dmshook.smtp_url'}, 'addresses for failure notifications are named, but no mail server: nothing is mailed');
pass('check() sees what is set by half');
for (['smtp_url', 'mail.example.com'], ['smtp_url', 'smtp://user:word@mail.example.com'], ['alert_mail_to', 'ops'], ['alert_mail_to', "a\@b\nBcc: c\@d"],
	['alert_mail_from', 'a@b,c@d'])
{
	my ($setting, $value) = @$_;
	like($server->sql_fails("ALTER SYSTEM SET dmshook.$setting = " . quote($value)), qr/invalid value for parameter "dmshook\.$setting"/, "$setting: $value");
}
like($server->sql_fails(q{SELECT dmshook.alter_webhook('Well', options => '{"alert_to": "Boss <boss@example.com>"}')}), qr/invalid value for webhook option "alert_to"/, 'alert_to');

$server->node->stop;
done_testing();
