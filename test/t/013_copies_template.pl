# CREATE DATABASE ... TEMPLATE of a busy database: the copy sends nothing until it is claimed; claimed in place of the original it loses nothing and repeats nothing; claimed as a copy nothing of it reaches anybody.
use strict;
use warnings;

use DmshookTest;
use JSON::PP;
use Test::More;

my $server = DmshookTest->new('copies', extension => 0, conf => "jit = off\nmax_worker_processes = 16\n");
my $receiver = DmshookTest::Receiver->new;
my $json = JSON::PP->new;

sub at { my ($path) = @_; return $receiver->requests(sub { $_[0]{path} eq $path }); }
sub ids_at { return sort map { $_->{headers}{'webhook-id'} } at($_[0]); }
sub webhook
{
	my ($name, $path, %more) = @_;
	$more{events} //= '{vehicle.sold}';
	$more{enabled} //= 'true';
	my $more = join '', map { ", $_ => " . quote($more{$_}) } sort keys %more;
	return $server->sql('SELECT signing_secret FROM dmshook.create_webhook(' . quote($name) . ', ' . quote($receiver->url($path)) . "$more)", 'dms');
}
sub happen { my ($database, $n) = @_; return split /\n/, $server->sql("SELECT dmshook.emit('vehicle.sold', 'vehicle', jsonb_build_object('id', i), '{}') FROM generate_series(1, $n) i", $database); }
sub states { my ($database, $name) = @_; return $server->sql('SELECT state, count(*) FROM dmshook.deliveries WHERE webhook = ' . quote($name) . ' GROUP BY 1 ORDER BY 1', $database) =~ s/\n/ /gr; }
sub wait_states { my ($database, $name, $wanted) = @_; poll_until(sub { states($database, $name) eq $wanted }, sub { "$database, $name: $wanted, is " . states($database, $name) }); return pass("$database, $name: $wanted"); }
sub check { return $server->sql(q{SELECT string_agg(subject || ': ' || problem, E'\n') FROM dmshook.check() WHERE level = 'error'}, $_[0]); }

$server->sql('CREATE DATABASE dms');
$server->sql('CREATE EXTENSION dmshook', 'dms');
my $secret = webhook('ok', '/ok/ok', auth => '{"kind": "bearer", "token": "top-secret-token"}', headers => '{"X-Key": "secret-header"}');
webhook('paused', '/ok/paused');
webhook('retry', '/switch/retry', options => '{"backoff": {"initial": "1s", "factor": 1, "max": "1s", "jitter": 0}, "max_attempts": 1000, "breaker": null}');
webhook('dead', '/switch/dead', options => '{"max_attempts": 1, "breaker": null}');
webhook('disabled', '/ok/disabled', enabled => 'false');
$server->sql(q{SELECT dmshook.pause_webhook('paused')}, 'dms');
my @ids = happen('dms', 30);
wait_states('dms', 'ok', 'delivered|30');
wait_states('dms', 'retry', 'retrying|30');
wait_states('dms', 'dead', 'exhausted|30');
wait_states('dms', 'paused', 'waiting|30');
my %before = map { my $w = $_; $w => { map { split /\|/ } split /\n/, $server->sql("SELECT message_id, payload FROM dmshook.deliveries WHERE webhook = '$w'", 'dms') } } qw(ok paused);

# ---- copied while it sends ----

$server->sql('CREATE DATABASE taken TEMPLATE dms');
$server->sql('CREATE DATABASE beside TEMPLATE dms');
$server->wait_sql(q{SELECT state = 'running' FROM dmshook.dispatchers}, 't', 'dms');
pass('the original goes on after it was copied');
my %fresh;
for my $copy (qw(taken beside))
{
	$server->wait_sql(q{SELECT state = 'unclaimed' FROM dmshook.dispatchers}, 't', $copy);
	like(check($copy), qr/not claimed .*nothing is sent/, "$copy: check() says that nothing is sent");
	like($server->sql_fails(q{SELECT * FROM dmshook.test_webhook('ok')}, $copy), qr/not claimed.*claim_database/s, "$copy: a test is refused, with a hint");
	like($server->sql(q{SELECT dmshook.resume_webhook('paused')}, $copy), qr/not claimed/, "$copy: so says resume_webhook()");
	$fresh{$copy} = [ happen($copy, 3) ];
	is($server->sql(q{SELECT count(*) FROM dmshook.waiting WHERE webhook = 'ok'}, $copy), 3, "$copy: what happens there waits");
}
# the original stops: from now on all that comes is of the copies
$server->sql(q{SELECT dmshook.pause_webhook(name) FROM dmshook.webhooks WHERE enabled AND name <> 'paused'}, 'dms');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL}, 't', 'dms');
$server->wait_sql(q{SELECT in_flight = 0 FROM dmshook.dispatchers}, 't', 'dms');
my $n = () = $receiver->requests;
$receiver->set($_, 200) for qw(retry dead);
my @twins = happen('dms', 1);
is(scalar(my @x = $receiver->requests), $n, 'nothing comes from a copy');
is(join(' ', ids_at('/ok/ok')), join(' ', sort @ids), 'only the original has sent, each once');

# who may claim, and how
$server->sql('CREATE ROLE admin LOGIN CREATEDB');
$server->sql('GRANT USAGE ON SCHEMA dmshook TO admin; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dmshook TO admin', 'taken');
like($server->sql_fails(q{SET ROLE admin; SELECT dmshook.claim_database('takeover')}, 'taken'), qr/only a superuser/, 'only a superuser claims');
like($server->sql_fails(q{SELECT dmshook.claim_database('mine')}, 'taken'), qr/unknown mode "mine".*HINT:.*takeover.*copy/s, 'an unknown mode is refused, with a hint');
like($server->sql_fails(q{SELECT dmshook.claim_database('takeover')}, 'dms'), qr/claimed already/, 'what is claimed need not be');
# not committed: nothing yet
my $session = $server->session('taken');
$session->query_safe('BEGIN');
$session->query_safe(q{SELECT dmshook.claim_database('takeover')});
is($server->sql(q{SELECT state FROM dmshook.dispatchers}, 'taken'), 'unclaimed', 'claimed and not committed: still nothing');
$session->query_safe('ROLLBACK');
$session->quit;
is(scalar(@x = $receiver->requests), $n, '... is sent');

# ---- in place of the original ----

like($server->sql(q{SELECT dmshook.claim_database('takeover')}, 'taken'), qr/sends now, what waited first.*dispatchers = 0/, 'takeover: says what to do with the original');
wait_states('taken', 'ok', 'delivered|33');
wait_states('taken', 'paused', 'delivered|33');
wait_states('taken', 'retry', 'delivered|33');
wait_states('taken', 'dead', 'delivered|3 exhausted|30');
is(check('taken'), '', 'check() has nothing to say');
my @new = @{ $fresh{taken} };
my @sent = $receiver->requests;
splice @sent, 0, $n;
my %sent;
push @{ $sent{ $_->{path} } }, $_->{headers}{'webhook-id'} for @sent;
is(join(' ', sort @{ $sent{'/ok/ok'} }), join(' ', sort @new), 'takeover: what was delivered is not sent again, what happened since is');
is(join(' ', sort @{ $sent{'/ok/paused'} }), join(' ', sort @ids, @new), '... what waited is, with its message ids');
is(join(' ', sort @{ $sent{'/switch/retry'} }), join(' ', sort @ids, @new), '... what was retried goes on');
is(join(' ', sort @{ $sent{'/switch/dead'} }), join(' ', sort @new), '... dead letters stay');
is_deeply([ sort keys %sent ], [ '/ok/ok', '/ok/paused', '/switch/dead', '/switch/retry' ], '... and nothing else');
my ($waited) = grep { $_->{path} eq '/ok/paused' && $_->{headers}{'webhook-id'} eq $ids[0] } @sent;
is($waited->{body}, $before{paused}{ $ids[0] }, '... with its payload, which names the database of then') or diag $waited->{body};
my ($signed) = grep { $_->{path} eq '/ok/ok' } @sent;
is_deeply(verify($secret, $signed), [ { standardwebhooks => 'ok', svix => 'ok' } ], '... signed with the same secret');
is($signed->{headers}{authorization}, 'Bearer top-secret-token', '... and with the credentials');
is($server->sql(q{SELECT dmshook.redeliver_dead()}, 'taken'), 30, 'and they can be sent again there');
wait_states('taken', 'dead', 'delivered|33');
isnt($twins[0], $new[0], 'events of the two have different message ids');
is($server->sql(q{SELECT what FROM dmshook.changes ORDER BY id DESC LIMIT 2}, 'taken') =~ /database claimed: takeover/, 1, 'changes says who claimed it');

# ---- beside it ----

$n = () = $receiver->requests;
like($server->sql(q{SELECT dmshook.claim_database('copy')}, 'beside'), qr/5 webhooks are disabled, their secrets are new, auth and headers are removed, and what waited is cancelled/, 'copy: says what it does');
$server->wait_sql(q{SELECT state = 'running' FROM dmshook.dispatchers}, 't', 'beside');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL}, 't', 'beside');
is($server->sql(q{SELECT count(*) FROM dmshook.waiting}, 'beside'), 0, 'copy: nothing waits');
is($server->sql(q{SELECT state, count(*) FROM dmshook.deliveries GROUP BY 1 ORDER BY 1}, 'beside'), "cancelled|72\ndelivered|30\nexhausted|30", 'copy: what waited is cancelled, what was is as it was');
is($server->sql(q{SELECT string_agg(DISTINCT state || ': ' || why, ', ') FROM dmshook.webhooks}, 'beside'), 'disabled: this database is a copy', 'copy: all are disabled, and say why');
my $text = join ' ', map { $server->sql("SELECT string_agg(t::text, ' ') FROM dmshook.$_ t", 'beside') } qw(webhook webhook_secret webhook_version change);
unlike($text, qr/top-secret-token|secret-header|\Q$secret\E/, 'copy: no secret of the original is left');
is($server->sql(q{SELECT count(*) FROM dmshook.webhooks WHERE auth_kind <> 'none' OR headers <> '{}'}, 'beside'), 0, 'copy: no auth, no headers');
# it can be used: pointed elsewhere, a receiver that trusts the old secret refuses it
$server->sql('SELECT dmshook.alter_webhook(' . quote('ok') . ', url => ' . quote($receiver->url('/ok/beside')) . q{), dmshook.enable_webhook('ok')}, 'beside');
my ($there) = happen('beside', 1);
my ($r) = $receiver->wait_for(1, sub { $_[0]{path} eq '/ok/beside' });
is($r->{headers}{'webhook-id'}, $there, 'copy: enabled by hand, it sends what happens from then on');
like(verify($secret, $r)->[0]{standardwebhooks}, qr/^failed/, '... with a secret of its own');
is_deeply(verify($server->sql(q{SELECT dmshook.signing_secret('ok')}, 'beside'), $r), [ { standardwebhooks => 'ok', svix => 'ok' } ], '... that its receiver can be given');
is($server->sql(q{SELECT dmshook.redeliver_dead()}, 'beside'), 30, 'dead letters of a copy are not sent unless its webhook is enabled');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL}, 't', 'beside');
is(scalar(@x = $receiver->requests), $n + 1, 'nothing else has left it');

# a copy of a copy is unclaimed again; a copy of a database that was never used claims itself
$server->sql('CREATE DATABASE third TEMPLATE beside');
$server->wait_sql(q{SELECT state = 'unclaimed' FROM dmshook.dispatchers}, 't', 'third');
pass('a copy of a copy is not claimed');
$server->sql('CREATE DATABASE fresh');
$server->sql('CREATE EXTENSION dmshook', 'fresh');
$server->sql('CREATE DATABASE fresh2 TEMPLATE fresh');
$server->sql('SELECT 1 FROM dmshook.create_webhook(' . quote('w') . ', ' . quote($receiver->url('/ok/fresh')) . q{, '{vehicle.sold}', enabled => true)}, 'fresh2');
happen('fresh2', 1);
$receiver->wait_for(1, sub { $_[0]{path} eq '/ok/fresh' });
pass('a copy of a database that was never used is as new');

# the original goes on where it was
$server->sql(q{SELECT dmshook.resume_webhook('ok')}, 'dms');
wait_states('dms', 'ok', 'delivered|31');
is((grep { $_ eq $twins[0] } ids_at('/ok/ok')), 1, 'the original goes on');
my $log = PostgreSQL::Test::Utils::slurp_file($server->node->logfile);
my %unclaimed;
$unclaimed{$1}++ while $log =~ /WARNING:  database "(\w+)" is not claimed by dmshook: nothing is sent\n/g;
is_deeply([ sort keys %unclaimed ], [ qw(beside taken third) ], 'the server log says of each copy, and of nothing else, that it is not claimed');
unlike($log, qr/PANIC|terminated by signal|TRAP|WARNING:  (?!database "\w+" is not claimed)/, 'the server log has no other complaint');

done_testing();
