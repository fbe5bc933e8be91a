# pg_upgrade from 15 to 17 with a full queue: the upgraded cluster goes on by itself, loses nothing and repeats nothing.
# 17 is that of Debian trixie, in the folder that test/majors makes (test/soak/run lets it, as root); without it nothing is tried.
use strict;
use warnings;

use DmshookTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $major = 17;
my $root = ($ENV{DMSHOOK_CACHE} // '/var/cache/dmshook') . "/pg$major";
my ($version) = run_command([ 'pg_config', '--version' ]);
my ($here) = $version =~ /(\d+)/;
plan skip_all => "this is PostgreSQL $here, not older than $major" if $here >= $major;
plan skip_all => "there is no PostgreSQL $major in $root: as root, MAJORS=$major ROOTS_ONLY=1 make test-majors makes it" if !-x "$root/usr/lib/postgresql/$major/bin/pg_upgrade";

my $stage = PostgreSQL::Test::Utils::tempdir;
my $built = system("$DmshookTest::top/test/soak/stage_major '$root' $major '$stage' >$stage/log 2>&1");
is($built, 0, "the extension is built for $major") or die slurp_file("$stage/log");
my $install = "$stage/usr/lib/postgresql/$major";

my $receiver = DmshookTest::Receiver->new;
my $old = DmshookTest->new('old', conf => "max_worker_processes = 12\n", extension => 0);
$old->sql('CREATE DATABASE dms');
$old->sql('CREATE EXTENSION dmshook', 'dms');
$old->sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text); SELECT count(*) FROM dmshook.watch_vehicle('vehicle')}, 'dms');
my $retries = '{"backoff": {"initial": "1s", "factor": 1, "max": "1s", "jitter": 0}, "max_attempts": 1000, "breaker": null}';
my @webhooks = ([ 'ok', '/ok/ok', '{}' ], [ 'paused', '/ok/paused', '{}' ], [ 'retry', '/switch/retry', $retries ],
	[ 'dead', '/switch/dead', '{"max_attempts": 1, "breaker": null}' ], [ 'hangs', '/hang', '{"timeout": "20s", "breaker": null, "backoff": {"intervals": ["1s"]}, "max_attempts": 1000}' ]);
my %secret = map { $_->[0] => $old->sql(sprintf(q{SELECT signing_secret FROM dmshook.create_webhook('%s', '%s', '{vehicle.*}', enabled => true, options => '%s')}, $_->[0], $receiver->url($_->[1]), $_->[2]), 'dms') } @webhooks;
$old->sql(q{SELECT dmshook.pause_webhook('paused')}, 'dms');
$old->sql(q{INSERT INTO vehicle SELECT g, 'in stock' FROM generate_series(1, 200) g}, 'dms');
my $states = q{SELECT string_agg(webhook || ' ' || state || ' ' || n, ', ' ORDER BY webhook, state) FROM (SELECT webhook, state, count(*) AS n FROM dmshook.deliveries WHERE event_type LIKE 'vehicle.%' GROUP BY 1, 2) x};
$old->wait_sql($states =~ s/WHERE/WHERE webhook <> 'hangs' AND/r, 'dead exhausted 200, ok delivered 200, paused waiting 200, retry retrying 200', 'dms');
$old->wait_sql(q{SELECT in_flight >= 32 FROM dmshook.dispatchers}, 't', 'dms');
my @ids = split /\n/, $old->sql(q{SELECT message_id FROM dmshook.events WHERE event_type LIKE 'vehicle.%' ORDER BY sequence}, 'dms');
is(scalar(@ids), 200, 'a full queue, and requests under way');
$old->node->stop('fast');

my $new = bless { node => PostgreSQL::Test::Cluster->new('new', install_path => $install) }, 'DmshookTest';
$new->node->init(extra => ['--encoding=UTF8']);
like(slurp_file($new->node->data_dir . '/PG_VERSION'), qr/^$major$/m, "(a cluster of $major)");
my $certs = certs();
$new->node->append_conf('postgresql.conf', "shared_preload_libraries = 'dmshook'\nmax_worker_processes = 12\ndmshook.allowed_networks = '127.0.0.0/8, ::1'\ndmshook.ca_file = '$certs/ca.pem'\n");
my ($bindir) = run_command([ 'pg_config', '--bindir' ]);
my $dir = PostgreSQL::Test::Utils::tempdir_short;
chdir $dir or die $!;
command_ok([ "$install/bin/pg_upgrade", '--no-sync', '-b', $bindir, '-B', "$install/bin", '-d', $old->node->data_dir, '-D', $new->node->data_dir, '-s', $dir, '-p', $old->node->port, '-P', $new->node->port ], "pg_upgrade from $here to $major");

my $n = () = $receiver->requests;
$receiver->set($_, 200) for qw(retry dead);
$new->node->start;
$new->wait_sql(q{SELECT state = 'running' FROM dmshook.dispatchers}, 't', 'dms');
pass('the upgraded cluster goes on by itself: nobody claims anything');
$new->wait_sql(q{SELECT count(*) = 200 FROM dmshook.deliveries WHERE webhook = 'retry' AND state = 'delivered'}, 't', 'dms');
is($new->sql(q{SELECT i.major || ' ' || (i.system_identifier = c.system_identifier) FROM dmshook.instance i, pg_control_system() c}, 'dms'), "$major true", 'it has noted what it is now');
$new->sql(q{SELECT dmshook.alter_webhook('hangs', url => '%s')} =~ s/%s/$receiver->url('\/ok\/hung')/er, 'dms');
$new->sql(q{SELECT dmshook.resume_webhook('paused'), dmshook.redeliver_dead('dead')}, 'dms');
$new->sql(q{UPDATE vehicle SET status = 'sold' WHERE id <= 10}, 'dms');
$new->wait_sql($states, join(', ', map { "$_ delivered 220" } qw(dead hangs ok paused retry)), 'dms');
pass('what was retried, paused, dead and under way is delivered, and what happens since');
my @since = split /\n/, $new->sql(q{SELECT message_id FROM dmshook.events WHERE event_type IN ('vehicle.status_changed', 'vehicle.sold') ORDER BY sequence}, 'dms');
my %sent;
my @requests = $receiver->requests;
splice @requests, 0, $n;
push @{ $sent{ $_->{path} } }, $_->{headers}{'webhook-id'} for grep { $_->{status} == 200 } @requests;
is(join(' ', sort @{ $sent{'/ok/ok'} }), join(' ', sort @since), 'what was delivered is not sent again');
is(join(' ', sort @{ $sent{$_} }), join(' ', sort @ids, @since), "$_: each once, under the id that it had") for qw(/ok/paused /switch/retry /switch/dead /ok/hung);
my ($one) = grep { $_->{path} eq '/ok/paused' } @requests;
is_deeply(verify($secret{paused}, $one), [ { standardwebhooks => 'ok', svix => 'ok' } ], 'signed with the secret of before');
is($new->sql(q{SELECT count(*) FROM dmshook.check() WHERE level = 'error'}, 'dms'), 0, 'all is well');
is($new->sql(q{SELECT string_agg(DISTINCT enabled::text, '') FROM dmshook.watched}, 'dms'), 'true', 'the tables are watched');
unlike(slurp_file($new->node->logfile), qr/PANIC|terminated by signal|TRAP|dispatcher of database "\w+" failed|not claimed/, 'the server log has no complaint of us');
$new->node->stop;
done_testing();
