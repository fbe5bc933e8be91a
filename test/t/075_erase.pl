# dmshook.erase(): a person's data leave the log, the dispatcher's memory and the files of the tables, while it runs; payload_retention.
use strict;
use warnings;

use DmshookTest;
use File::Find;
use Test::More;

my $server = DmshookTest->new('erase', conf => "autovacuum = off\nmax_worker_processes = 16\n");
my $receiver = DmshookTest::Receiver->new;
my $canary = 'CaNaRyQ7x';
my $other = 'OtHeRpErSoN';

# Files of the data directory that hold a string: all but WAL (of which nothing is promised) and logs.
sub files_with
{
	my ($what) = @_;
	$server->sql('CHECKPOINT');
	my %name = map { split /\|/ } split /\n/, $server->sql(q{SELECT pg_relation_filenode(oid) || '|' || oid::regclass FROM pg_class WHERE pg_relation_filenode(oid) IS NOT NULL});
	my @found;
	my $dir = $server->node->data_dir;
	find({ no_chdir => 1, wanted => sub {
		return if !-f $_ || m{^\Q$dir\E/(pg_wal|log)/};
		open my $f, '<:raw', $_ or return;
		local $/;
		my $bytes = <$f>;
		my $n = () = $bytes =~ /$what/g;
		(my $file = $_) =~ s{.*/}{};
		push @found, ($name{$file} // $_) . " $n" if $n;
	} }, $dir);
	return join ', ', sort @found;
}

sub webhook
{
	my ($name, $path, %option) = @_;
	my $options = join ', ', map { "\"$_\": $option{$_}" } sort keys %option;
	$server->sql(sprintf q{SELECT dmshook.create_webhook('%s', '%s', '{customer.*,deal.*}', enabled => true, options => '{%s}')}, $name, $receiver->url($path), $options);
}

sub emit
{
	my ($type, $id, $record, $previous) = @_;
	return $server->sql(sprintf q{SELECT dmshook.emit('%s', NULL, '{"id": %d}', %s, %s)}, $type, $id, $record, $previous // 'NULL');
}

$server->sql(q{
	CREATE FUNCTION f_body(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('shaped', $1->'data'->'record') $$;
	CREATE FUNCTION f_fail(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no place for %', $1->'data'->'record'->>'name'; END $$;
});
webhook('echo', '/echo');
webhook('shaped', '/echo/shaped', transform => '"public.f_body"');
webhook('late', '/gate/late', timeout => '"10min"', transform => '"public.f_body"', max_in_flight => 1, max_attempts => 1);
webhook('quotes', '/ok/quotes', transform => '"public.f_fail"', max_attempts => 1);
webhook('retries', '/status/500/retries', backoff => '{"initial": "1h"}', breaker => 'null');
webhook('paused', '/ok/paused');
$server->sql(q{SELECT dmshook.pause_webhook('paused'), dmshook.pause_webhook('late')});
$server->sql(q{SELECT dmshook.create_webhook('notices', '} . $receiver->url('/ok/notices') . q{', '{webhook.*}', enabled => true)});
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');

# the person: a small row, a large one (stored out of line), a copy in a deal, a test; and somebody else
my $person = emit('customer.created', 42, qq{'{"name": "$canary", "email": "x\@$canary.example"}'});
$server->sql(qq{CREATE TABLE big AS SELECT string_agg(md5(i::text), '$canary') AS x FROM generate_series(1, 1500) i});
emit('customer.updated', 42, q{(SELECT jsonb_build_object('name', x) FROM big)}, qq{'{"name": "$canary"}'});
$server->sql('DROP TABLE big');
my $deal = emit('deal.created', 7, qq{'{"price": 1, "customer_id": 42, "buyer": "$canary"}'});
emit('deal.created', 8, qq{'{"price": 2, "customer_id": 43, "buyer": "$other"}'});
emit('customer.created', 43, qq{'{"name": "$other"}'});
$server->wait_sql(q{SELECT count(*) = 10 FROM dmshook.deliveries WHERE state = 'delivered' AND webhook IN ('echo', 'shaped')});
$server->wait_sql(q{SELECT count(*) = 5 FROM dmshook.dead_letters WHERE webhook = 'quotes'});
$server->wait_sql(q{SELECT count(*) = 5 FROM dmshook.deliveries WHERE state = 'retrying' AND webhook = 'retries'});
$server->wait_sql(q{SELECT count(*) > 0 FROM dmshook.webhook_state WHERE last_error ~ 'no place for'});
$server->wait_sql(q{SELECT count(*) > 0 FROM dmshook.event WHERE type = 'webhook.failing'});
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('echo', 'customer.created', '{"id": 42}')}), 't', 'a test of it');
is($server->sql(q{SELECT ok FROM dmshook.test_webhook('echo', 'customer.created', '{"id": 43}')}), 't', 'and of another');
$server->sql('ANALYZE');
my $before = files_with($canary);
like($before, qr/$_/, "before: it is in $_") for 'dmshook.event \d', 'dmshook.attempt \d', 'pg_toast.pg_toast_\d+ \d\d', 'dmshook.webhook_state', 'dmshook.alert \d';
unlike($before, qr/pg_statistic/, 'ANALYZE has copied nothing of it');

# an old snapshot holds the old rows; a request is under way, others wait
my $old = $server->session;
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dmshook.event');
$server->sql(q{SELECT dmshook.resume_webhook('late')});
$receiver->wait_for(1, sub { $_->{path} =~ /late/ });
my $waiting = $server->sql(q{SELECT count(*) FROM dmshook.waiting WHERE entity IN ('customer', 'deal') AND entity_key <> '{"id": 8}' AND entity_key <> '{"id": 43}'});
my ($erased) = $server->rows(q{SELECT * FROM dmshook.erase('customer', '{"id": 42}', '$.data.record.customer_id == 42')});
is($erased->{events}, 3, 'events: of the customer, and the deal that matches');
cmp_ok($erased->{payloads}, '>=', 3 + 3 + 3 + 1, 'payloads: echoed, shaped, those that failed, the test');
is($erased->{cancelled}, $waiting, 'what waited is cancelled');
cmp_ok($waiting, '>=', 3 + 3 + 2, '... it is what was paused, retried, and waits behind the one that is under way');
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
is($server->sql(qq{SELECT count(*) FROM dmshook.$_ v WHERE v::text ~ '$canary'}), '0', "$_: nothing") for qw(events deliveries attempts dead_letters waiting webhooks health alerts changes event attempt webhook_state command alert);
is($server->sql(q{SELECT string_agg(format('%s %s', event_type, entity_key), ', ' ORDER BY sequence) FROM dmshook.events WHERE erased_at IS NOT NULL AND event_type NOT LIKE 'webhook.%'}),
	'customer.created {"id": 42}, customer.updated {"id": 42}, deal.created {"id": 7}', 'the rows stay');
is($server->sql(q{SELECT count(*) FROM dmshook.attempts WHERE webhook = 'echo' AND kind = 'delivery' AND erased_at IS NOT NULL AND status = 200 AND payload IS NULL AND response_body IS NULL}), '3', 'and what was sent when');
is($server->sql(qq{SELECT count(*) FROM dmshook.attempts WHERE payload ~ '$other' AND response_body ~ '$other'}), '5', 'the other person is as before: two echoes, two that were shaped, a test');
is($server->sql(q{SELECT DISTINCT error FROM dmshook.attempts WHERE webhook = 'quotes' AND erased_at IS NOT NULL}), 'erased', 'an error that quoted it');
like($server->sql(q{SELECT what FROM dmshook.changes ORDER BY id DESC LIMIT 1}), qr/^erased customer \{"id": 42\}, and what matched: 3 events, \d+ payloads; \d+ cancelled$/, 'it is written to changes, without the path');
cmp_ok($server->sql('SELECT count(*) FROM dmshook.scrub'), '>', 0, 'pages wait to be cleaned');
like(files_with($canary), qr/dmshook.event/, '... for somebody still sees them');

# the request that was under way ends, and that of the other person comes after it
$receiver->set('late', 200);
$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.attempts WHERE webhook = 'late' AND erased_at IS NULL AND outcome = 'ok'});
is($server->sql(q{SELECT count(*) FROM dmshook.attempt a JOIN dmshook.event e ON e.id = a.event JOIN dmshook.webhook w ON w.id = a.webhook WHERE w.name = 'late' AND e.erased_at IS NOT NULL AND a.outcome = 'o'
	AND a.body IS NULL AND a.response_body IS NULL}), '1', 'what was under way is logged, without a body');
is(scalar($receiver->requests(sub { $_->{path} =~ /late/ })), 3, 'what waited behind it was not sent');
$server->sql(q{SELECT dmshook.resume_webhook('paused')});
$receiver->wait_for(2, sub { $_->{path} =~ /paused/ });
$server->wait_sql(q{SELECT string_agg(state, ',' ORDER BY sequence) FROM dmshook.deliveries WHERE webhook = 'paused'}, 'cancelled,cancelled,cancelled,delivered,delivered');
is(scalar($receiver->requests(sub { $_->{path} =~ /paused/ && ($_->{body} // '') =~ /$canary/ })), 0, 'nor to one that was paused');
like($server->sql_fails(qq{SELECT dmshook.redeliver('echo', '$person')}), qr/message "$person" was erased/, 'it cannot be sent again');
is($server->sql(qq{SELECT dmshook.redeliver_dead('quotes')}), '2', 'nor with the dead: of five');
is($server->sql(qq{SELECT dmshook.replay('echo', now() - interval '1 hour', event_types => '{customer.*}')}), '1', 'nor replayed');
$server->wait_sql(q{SELECT count(*) = 2 FROM dmshook.attempts WHERE webhook = 'quotes' AND kind = 'redelivery'});

# nobody sees the old rows any more
$old->query_safe('COMMIT');
$old->quit;
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.scrub');
is(files_with($canary), '', 'it is in no file of the data directory');
$server->sql('VACUUM');
is(files_with($canary), '', 'nor after VACUUM');
like(files_with($other), qr/dmshook.event \d/, 'the other person is');

# VACUUM comes first: it takes the rows away, but not their bytes
$server->sql(q{ALTER SYSTEM SET dmshook.dispatchers = 0; SELECT pg_reload_conf()});
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.dispatchers});
$server->sql(qq{SELECT * FROM dmshook.erase('customer', '{"id": 43}', '\$.data.record.customer_id == 43'); });
$server->sql('VACUUM');
note('left by VACUUM alone: ', files_with($other));
is($server->sql(qq{SELECT count(*) FROM dmshook.$_ v WHERE v::text ~ '$other'}), '0', "$_: nothing, without a dispatcher") for qw(event attempt);
$server->sql(q{ALTER SYSTEM SET dmshook.dispatchers = 1; SELECT pg_reload_conf()});
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.scrub');
is(files_with($other), '', 'what VACUUM left behind is cleaned, too');
$server->node->stop('immediate');
$server->node->start;
is(files_with($canary) . files_with($other), '', 'nor does recovery bring it back');

#
# In the midst of it: requests are under way, results come in, rows are logged while erase() runs
#
my $busy = 'Zq9xK';		# short: it fits between two rows
$server->sql(qq{SELECT count(dmshook.emit('customer.updated', NULL, '{"id": 60}', jsonb_build_object('name', '$busy' || g))) FROM generate_series(1, 600) g});
$receiver->wait_for(20, sub { ($_->{body} // '') =~ /$busy/ });
my ($midst) = $server->rows(q{SELECT * FROM dmshook.erase('customer', '{"id": 60}')});
is($midst->{events}, 600, 'erased in the midst of being sent');
note("cancelled: $midst->{cancelled}, payloads: $midst->{payloads}");
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.deliveries WHERE entity_key = '{"id": 60}' AND state IN ('waiting', 'retrying')});
$server->wait_sql(q{SELECT sum(in_flight) = 0 FROM dmshook.dispatchers});
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.dispatchers WHERE waiting > 0});
is($server->sql(qq{SELECT count(*) FROM dmshook.$_ v WHERE v::text ~ '$busy'}), '0', "$_: nothing was logged of it afterwards") for qw(event attempt webhook_state alert);
diag($server->sql(qq{SELECT w.name, a.event, a.at, a.kind, a.outcome, a.final, c.at AS ordered, c.done_at, e.erased_at, left(a.response_body, 60), left(a.error, 60), a.duration_us
	FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook JOIN dmshook.event e ON e.id = a.event, (SELECT * FROM dmshook.command WHERE kind = 'erase' ORDER BY id DESC LIMIT 1) AS c
	WHERE a::text ~ '$busy' ORDER BY a.id LIMIT 5}))
  if $server->sql(qq{SELECT count(*) FROM dmshook.attempt v WHERE v::text ~ '$busy'}) > 0;
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.scrub');
is(files_with($busy), '', '... nor left in a file');

#
# A page that was cleaned has nothing but its rows: neither in its free space nor in what alignment leaves between two
#
$server->sql(q{CREATE TABLE page (x text) WITH (autovacuum_enabled = off); INSERT INTO page SELECT repeat('~', 50) FROM generate_series(1, 80)});
$server->sql(q{DELETE FROM page});
$server->sql(q{INSERT INTO page VALUES ('kept')});	# so that VACUUM keeps the page
$server->sql(q{VACUUM page});
$server->sql(q{INSERT INTO page SELECT repeat('x', 9 + i % 8) FROM generate_series(1, 40) i});
like(files_with('~{4}'), qr/^page \d{3}$/, 'before: much of it');
my $between = files_with('x~{2,7}(?!~)');
like($between, qr/^page [1-9]\d$/, '... between rows, too');
is($server->sql(q{SELECT dmshook._scrub_page('page'::regclass, 0)}), 't', 'cleaned');
unlike(files_with('~{2}'), qr{\bpage \d}, '... nothing of it is left');
is($server->sql(q{SELECT count(*) FILTER (WHERE x ~ '^x{9,16}$'), count(*) FROM page}), '40|41', '... but the rows');

#
# An erase that is left open stops nobody: neither deliveries nor retention
#
emit('customer.created', 50, qq{'{"name": "kept"}'});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'echo' AND state = 'delivered' AND entity_key = '{"id": 50}'});
my $open = $server->session;
$open->query_safe(q{BEGIN; SELECT * FROM dmshook.erase('customer', '{"id": 50}')});
emit('customer.created', 51, qq{'{"name": "kept"}'});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'echo' AND state = 'delivered' AND entity_key = '{"id": 51}'});
# what is under way to a webhook that is dropped is logged still; here that would take longer than the retention
$server->wait_sql(q{SELECT sum(in_flight) = 0 FROM dmshook.dispatchers});
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.dispatchers WHERE waiting > 0});
$server->sql($_) for q{SELECT dmshook.drop_webhook(name) FROM dmshook.webhooks WHERE name NOT IN ('echo', 'paused')}, q{SELECT dmshook.pause_webhook('paused')},
	q{ALTER SYSTEM SET dmshook.payload_retention = '2s'}, q{SELECT pg_reload_conf()};
$server->wait_sql('SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL');
emit('customer.created', 52, qq{'{"name": "kept"}'});		# waits for the paused one
$server->wait_sql(q{SELECT erased_at IS NOT NULL AND record IS NULL FROM dmshook.events WHERE entity_key = '{"id": 51}'});
is($server->sql(q{SELECT erased_at IS NULL AND record IS NOT NULL FROM dmshook.events WHERE entity_key = '{"id": 50}'}), 't', 'payload_retention: what somebody has locked is left out');
$open->query_safe('ROLLBACK');
$open->quit;
$server->wait_sql(q{SELECT erased_at IS NOT NULL AND record IS NULL FROM dmshook.events WHERE entity_key = '{"id": 50}'});
is($server->sql(q{SELECT count(*) FROM dmshook.attempt a JOIN dmshook.event e ON e.id = a.event WHERE e.erased_at IS NOT NULL AND (a.body IS NOT NULL OR a.response_body IS NOT NULL OR a.response_headers IS NOT NULL)}), '0',
	'attempts are blanked with their events') or diag($server->sql(q{SELECT w.name, w.dropped_at, a.id, a.event, a.at, a.kind, a.outcome, a.final, e.at, e.erased_at, e.key, left(a.response_headers, 60), left(a.response_body, 60), left(a.body, 20), left(a.error, 60), a.duration_us
	FROM dmshook.attempt a JOIN dmshook.webhook w ON w.id = a.webhook JOIN dmshook.event e ON e.id = a.event
	WHERE e.erased_at IS NOT NULL AND (a.body IS NOT NULL OR a.response_body IS NOT NULL OR a.response_headers IS NOT NULL)}));
$server->wait_sql(q{SELECT now() > at + interval '3 s' FROM dmshook.events WHERE entity_key = '{"id": 52}'});
$server->sql(q{SELECT pg_reload_conf()});
emit('customer.created', 53, qq{'{"name": "kept"}'});
$server->wait_sql(q{SELECT count(*) = 1 FROM dmshook.deliveries WHERE webhook = 'echo' AND state = 'delivered' AND entity_key = '{"id": 53}'});
is($server->sql(q{SELECT record->>'name' FROM dmshook.events WHERE entity_key = '{"id": 52}'}), 'kept', 'what waits is never blanked');
$server->sql(q{SELECT dmshook.resume_webhook('paused')});
my ($late) = $receiver->wait_for(1, sub { $_->{path} =~ /paused/ && $_->{body} =~ /"id":\s*52\b/ });
like($late->{body}, qr/"name":\s*"kept"/, '... and sent in full');
$server->wait_sql(q{SELECT erased_at IS NOT NULL FROM dmshook.events WHERE entity_key = '{"id": 52}'});

done_testing();
