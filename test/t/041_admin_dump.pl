# A dump restored: nothing is sent until it is claimed; what a superuser and an owner who is none can dump.
use strict;
use warnings;
use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $server = DmshookTest->new('main');
my $node = $server->node;
my $receiver = DmshookTest::Receiver->new;
my $tmp = PostgreSQL::Test::Utils::tempdir;

sub got { my ($path) = @_; return sort map { $_->{headers}{'webhook-id'} } $receiver->requests(sub { $_[0]{path} eq $path }); }

$node->safe_psql('postgres', 'CREATE ROLE dms_owner LOGIN; CREATE DATABASE dms OWNER dms_owner');
$node->safe_psql('dms', 'CREATE EXTENSION dmshook; CREATE TABLE vehicle (id int PRIMARY KEY, status text); ALTER TABLE vehicle OWNER TO dms_owner');
$node->safe_psql('dms', q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle'); SELECT dmshook.define_event_type('valuation.made', 'valuation', 'A valuation was made')});
$node->safe_psql('dms', sprintf q{SELECT count(*) FROM dmshook.create_webhook('%s', '%s', '{vehicle.*}', enabled => true, auth => '{"kind": "bearer", "token": "hush"}')}, @$_)
  for ['live', $receiver->url('/ok/live')], ['paused', $receiver->url('/ok/paused')], ['dead', $receiver->url('/switch/dead')];
$node->safe_psql('dms', q{SELECT dmshook.pause_webhook('paused'); SELECT dmshook.alter_webhook('dead', options => '{"max_attempts": 1}')});
$node->safe_psql('dms', q{INSERT INTO vehicle VALUES (1, 'in stock'); UPDATE vehicle SET status = 'sold'});
$node->safe_psql('dms', q{CREATE ROLE clerk; CREATE ROLE auditor; CREATE ROLE boss; CREATE ROLE feeder; CREATE ROLE gone;
	SELECT dmshook.grant_viewer('clerk'), dmshook.grant_viewer('auditor', payloads => true), dmshook.grant_admin('boss'), dmshook.grant_emitter('feeder'), dmshook.grant_admin('gone');
	SELECT dmshook.revoke_all('gone')});
my $granted = $node->safe_psql('dms', 'SELECT * FROM dmshook.grants ORDER BY role');
is($granted, "auditor|t|t|f|f\nboss|t|t|t|t\nclerk|t|f|f|f\nfeeder|f|f|f|t", 'grants');
# whatever a role may do with anything of ours
my $rights = q{SELECT string_agg(concat_ws(' ', what, grantee::regrole, privilege_type), E'\n' ORDER BY what, grantee::regrole::text, privilege_type) FROM (
	SELECT c.oid::regclass::text AS what, a.* FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'dmshook'::regnamespace
	UNION ALL SELECT p.oid::regprocedure::text, a.* FROM pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace = 'dmshook'::regnamespace
	UNION ALL SELECT n.nspname, a.* FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'dmshook') r};
my $all_rights = $node->safe_psql('dms', $rights);
# three events: added, status_changed, sold
$server->wait_sql(q{SELECT count(*) FILTER (WHERE state = 'delivered') = 3 AND count(*) FILTER (WHERE state = 'waiting') = 3
	AND count(*) FILTER (WHERE state = 'exhausted') = 3 FROM dmshook.deliveries}, 't', 'dms');
my @live = got('/ok/live');
is(scalar(@live), 3, 'three events were sent');
# a notice may have taken an id between theirs
my $last = $node->safe_psql('dms', q{SELECT max(sequence) FROM dmshook.deliveries});

#
# What may be dumped by whom
#
my @dump = ('pg_dump', '-h', $node->host, '-p', $node->port, '-Fc');
command_ok([ @dump, '-f', "$tmp/super.dump", 'dms' ], 'a superuser dumps it');
like($node->safe_psql('dms', q{SELECT level, hint FROM dmshook.check() WHERE subject = 'pg_dump'}),
	qr/^notice\|GRANT pg_read_all_data TO dms_owner, or dump with --exclude-table-data 'dmshook\.\*'\.$/, 'check() tells the owner what it takes');
command_fails([ @dump, '-U', 'dms_owner', '-f', "$tmp/owner.dump", 'dms' ], 'an owner who is no superuser cannot, as it is');
command_ok([ @dump, '-U', 'dms_owner', '--exclude-table-data', 'dmshook.*', '-f', "$tmp/without.dump", 'dms' ], 'but without our tables');
$node->safe_psql('dms', 'GRANT pg_read_all_data TO dms_owner');
command_ok([ @dump, '-U', 'dms_owner', '-f', "$tmp/owner.dump", 'dms' ], 'and with pg_read_all_data whole');
is($node->safe_psql('dms', q{SELECT count(*) FROM dmshook.check() WHERE subject = 'pg_dump'}), 0, 'then check() has nothing to say of it');

sub restore
{
	my ($database, $dump) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '--exit-on-error', '-d', $database, "$tmp/$dump.dump" ], "$dump.dump restored as $database");
	$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.dispatchers WHERE state = 'unclaimed'}, 't', $database);
	is($node->safe_psql($database, q{SELECT count(*) FROM dmshook.instance}), 0, 'it is not claimed');
	like($node->safe_psql($database, q{SELECT problem FROM dmshook.check() WHERE subject = 'database'}), qr/not claimed/, 'check() says so');
	# what the DMS does there is kept
	$node->safe_psql($database, q{UPDATE vehicle SET status = 'in stock'});
	return;
}

#
# The place of the original is taken: what waited goes out, nothing twice
#
for my $dump ('super', 'owner')
{
	my $database = "new_$dump";
	my $from = @{ [ $receiver->requests ] };
	restore($database, $dump);
	is($node->safe_psql($database, q{SELECT string_agg(name, ',' ORDER BY name) FROM dmshook.event_type WHERE NOT builtin}), 'valuation.made', 'with the event types that people made');
	is($node->safe_psql($database, q{SELECT count(*) FROM dmshook.deliveries WHERE state = 'exhausted'}), 3, 'and the dead letters');
	is($node->safe_psql($database, 'SELECT * FROM dmshook.grants ORDER BY role'), $granted, 'and the grants');
	is($node->safe_psql($database, $rights), $all_rights, 'each right of each role');
	(undef, undef, my $err) = $node->psql($database, q{SELECT * FROM dmshook.test_webhook('live')});
	like($err, qr/not claimed/, 'a test is refused');
	is(scalar(@{ [ $receiver->requests ] }), $from, 'nothing was sent');
	like($node->safe_psql($database, q{SELECT dmshook.claim_database('takeover')}), qr/sends now/, 'takeover');
	# the change made meanwhile goes out
	$server->wait_sql(qq{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'live' AND state = 'delivered' AND sequence > $last}, 't', $database);
	my ($fourth) = $node->safe_psql($database, qq{SELECT message_id FROM dmshook.deliveries WHERE webhook = 'live' AND sequence > $last});
	is($node->safe_psql($database, q{SELECT dmshook.resume_webhook('paused')}), 'Webhook "paused" is resumed: 4 events that waited are sent now.', 'what waited is still there');
	$server->wait_sql(q{SELECT count(*) = 4 FROM dmshook.deliveries WHERE webhook = 'paused' AND state = 'delivered'}, 't', $database);
	my @now = (($receiver->requests)[ $from .. @{ [ $receiver->requests ] } - 1 ]);
	is_deeply([ sort map { $_->{headers}{'webhook-id'} } grep { $_->{path} eq '/ok/paused' } @now ], [ sort @live, $fourth ], 'and is sent, with the message ids it had');
	is_deeply([ map { $_->{headers}{'webhook-id'} } grep { $_->{path} eq '/ok/live' } @now ], [$fourth], 'what was delivered is not sent again');
	is($node->safe_psql($database, q{SELECT count(*) FROM dmshook.check() WHERE level = 'error'}), 0, 'all is well');
	$node->safe_psql('postgres', "DROP DATABASE $database");
}

#
# A copy beside it
#
my $from = @{ [ $receiver->requests ] };
restore('copy', 'super');
my $secret = $node->safe_psql('dms', q{SELECT dmshook.signing_secret('live')});
like($node->safe_psql('copy', q{SELECT dmshook.claim_database('copy')}), qr/3 webhooks are disabled/, 'copy');
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.dispatchers WHERE state = 'running'}, 't', 'copy');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL}, 't', 'copy');
is($node->safe_psql('copy', q{SELECT count(*) FROM dmshook.waiting}), 0, 'nothing waits');
is($node->safe_psql('copy', q{SELECT string_agg(DISTINCT state, ',' ORDER BY state) FROM dmshook.deliveries}), 'cancelled,delivered,exhausted', 'what waited was cancelled');
isnt($node->safe_psql('copy', q{SELECT dmshook.signing_secret('live')}), $secret, 'its secret is another one');
is($node->safe_psql('copy', q{SELECT count(*) FROM dmshook.webhook_secret WHERE value ~ 'hush'}), 0, 'credentials are gone');
$node->safe_psql('copy', sprintf q{SELECT dmshook.alter_webhook('live', url => '%s'); SELECT dmshook.enable_webhook('live')}, $receiver->url('/ok/copy'));
$node->safe_psql('copy', q{UPDATE vehicle SET status = 'sold'});
$server->wait_sql(qq{SELECT count(*) = 2 FROM dmshook.deliveries WHERE webhook = 'live' AND state = 'delivered' AND sequence > $last}, 't', 'copy');
my @now = (($receiver->requests)[ $from .. @{ [ $receiver->requests ] } - 1 ]);
is_deeply([ map { $_->{path} } @now ], [ '/ok/copy', '/ok/copy' ], 'only what happened after it was enabled is sent, and only to where it was pointed');
ok(!exists $now[0]{headers}{authorization}, 'without credentials');

# without the data of our tables there is no webhook, and the first one made claims the database
$node->safe_psql('postgres', 'CREATE DATABASE bare');
command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '--exit-on-error', '-d', 'bare', "$tmp/without.dump" ], 'restored without our data');
is($node->safe_psql('bare', q{SELECT count(*) FROM dmshook.check() WHERE subject = 'database'}), 0, 'that is a new start');
$node->safe_psql('bare', sprintf q{SELECT count(*) FROM dmshook.create_webhook('fresh', '%s', '{vehicle.*}', enabled => true)}, $receiver->url('/ok/fresh'));
$node->safe_psql('bare', q{UPDATE vehicle SET status = 'in stock'});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE state = 'delivered'}, 't', 'bare');

$node->stop;
done_testing();
