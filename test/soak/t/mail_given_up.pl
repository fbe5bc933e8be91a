# A mail server that refuses for good: ten tries with growing pauses, then the alerts of then are left, said once; later ones are tried anew, and a reload has all tried again.
use strict;
use warnings;

use DmshookTest;
use IPC::Open2 ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = PostgreSQL::Test::Utils::tempdir;
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $delay = 10;		# ms; the pauses after it are so long, then twice as long each time
my $server = DmshookTest->new('mail', conf => <<"CONF");
dmshook.smtp_url = 'smtp://localhost:$port/db.example.com'
dmshook.alert_mail_to = 'ops\@example.com'
dmshook.alert_mail_delay = ${delay}ms
log_line_prefix = '%n %p '
CONF
my $receiver = DmshookTest::Receiver->new(log => 0);

# nobody listens at that port. What a webhook's failing writes is what the dispatcher hears of by itself
sub fails
{
	my ($name) = @_;
	$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{vehicle.sold}', enabled => true, options => '{"max_attempts": 1, "breaker": null}')}, $name, $receiver->url('/status/500'));
	$server->sql(q{SELECT count(dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', g), '{}')) FROM generate_series(1, 30) g});
	$server->wait_sql(sprintf q{SELECT count(*) = 1 FROM dmshook.alerts WHERE webhook = '%s' AND kind = 'failing'}, $name);
}

sub times { return map { /^(\d+\.\d+) /m ? $1 : () } @_; }

my $from = $server->log_size;
fails('first');
my $text = $server->wait_log(qr/WARNING:  \d+ failure notifications? were not mailed to ops\@example\.com\n.*DETAIL:  10 tries failed; the last one: .*\n.*HINT:  They stand in dmshook\.alerts, without sent_to\./, $from);
pass('after ten tries it is given up, and said');
is(() = $text =~ /failure notifications could not be mailed/g, 1, 'the first failure was said, the others were not');
my ($begun) = $text =~ /^(\d+\.\d+) .*failure notifications could not be mailed/m;
my ($ended) = $text =~ /^(\d+\.\d+) .*were not mailed/m;
my $pauses = 0;
$pauses += $delay * 2**$_ / 1000 for 0 .. 8;
cmp_ok($ended - $begun, '>=', 0.99 * $pauses, sprintf 'the nine pauses grew: %.1f s in all, at least %.1f', $ended - $begun, $pauses);
is($server->sql(q{SELECT count(*) FROM dmshook.alerts WHERE sent_to IS NOT NULL}), 0, 'nothing was mailed');
$server->wait_sql(q{SELECT problem LIKE 'failure notifications cannot be mailed%' FROM dmshook.check() WHERE level = 'error' AND subject ~ 'smtp'});
pass('check() goes on saying so');

# an alert that comes later is another mail, and has ten tries of its own
$from = $server->log_size;
fails('second');
$text = $server->wait_log(qr/failure notifications? were not mailed to/, $from);
my ($n) = $text =~ /WARNING:  (\d+) failure notifications? were not mailed/;
my $first = $server->sql(q{SELECT count(*) FROM dmshook.alerts WHERE webhook = 'first' AND kind = 'failing'});
cmp_ok($n, '<=', $server->sql(q{SELECT count(*) FROM dmshook.alerts}) - $first, "later ones ($n) are tried, those given up are not with them");

# the server is there at last: nobody asks it for what was given up, until a reload says so
my $mails = "$tmp/mails";
my $pid = IPC::Open2::open2(my $out, my $in, '/usr/bin/python3', "$DmshookTest::top/test/receiver/mail.py", $port, $mails);
is(scalar(readline $out), "ready\n", 'a mail server');
$server->node->reload;
$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.alerts WHERE kind = 'failing' AND sent_to = 'ops@example.com'});
pass('after a reload both are mailed');
close $in;
waitpid $pid, 0;
done_testing();
