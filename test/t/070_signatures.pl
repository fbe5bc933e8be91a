# Signatures of live requests, by verifiers that are not ours: several schemes, a header of choice, and rotation with its overlap, which ends by itself.
use strict;
use warnings;
use utf8;
use DmshookTest;
use Digest::SHA qw(hmac_sha256_hex);
use Encode qw(encode);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $server = DmshookTest->new('main');
sub sql { return $server->sql(encode('UTF-8', $_[0])); }
my $receiver = DmshookTest::Receiver->new;
$server->sql(q{CREATE TABLE vehicle (id int PRIMARY KEY, status text, name text)});
$server->sql(q{SELECT count(*) FROM dmshook.watch_vehicle('vehicle')});

sub create
{
	my ($name, %more) = @_;
	return sql(sprintf 'SELECT signing_secret FROM dmshook.create_webhook(%s, %s, %s, enabled => true%s)', quote($name), quote($receiver->url("/ok/$name")),
		q('{vehicle.sold}'), join '', map { ", $_ => " . quote($more{$_}) } sort keys %more);
}

# A car is sold: the request that a webhook gets for it.
my $car = 0;
sub sell
{
	my (@names) = @_;
	$car++;
	sql("INSERT INTO vehicle VALUES ($car, 'sold', 'Škoda ✓ $car')");
	return map { my $name = $_; ($receiver->wait_for(1, sub { $_[0]{path} eq "/ok/$name" && $_[0]{body} =~ /"key": ?\{"id": ?$car\}/ }))[0] } @names;
}

sub public_key { return $server->sql("SELECT public_key FROM dmshook.webhooks WHERE name = '$_[0]'"); }
sub rotate
{
	my ($name, @more) = @_;
	return $server->sql("SELECT dmshook.rotate_secret(" . join(', ', quote($name), @more) . ')');
}
sub github { my ($secret, $request) = @_; return 'sha256=' . hmac_sha256_hex(encode('UTF-8', $request->{body}), encode('UTF-8', $secret)); }
sub signatures { return [ map { s/,.*//r } split / /, $_[0]{headers}{'webhook-signature'} // '' ]; }
# Pairs of a secret and a request, for one run of the verifiers: what they say, "ok ok" of two libraries.
sub said
{
	my @cases;
	while (my ($secret, $request) = splice @_, 0, 2) { push @cases, { %$request, secret => $secret }; }
	return [ map { my $r = $_; join ' ', map { $r->{$_} =~ s/:.*//sr } sort keys %$r } @{ verify(undef, @cases) } ];
}

#
# Each scheme, and all of them at once
#
my %secret;
$secret{standard} = create('standard', options => '{"signature_header": "X-Dealer-Signature"}');
$secret{pair} = create('pair', options => '{"signature": "standard-ed25519"}');
$secret{github} = create('github', options => '{"signature": ["github"], "signature_header": "X-Legacy"}', secret => 'any text: ä');
$secret{all} = create('all', options => '{"signature": ["standard", "standard-ed25519", "github"]}');
$secret{github} = 'any text: ä';	# psql gave bytes
my %r;
@r{qw(standard pair github all)} = sell(qw(standard pair github all));

is_deeply(said($secret{standard}, $r{standard}, public_key('pair'), $r{pair}, public_key('all'), $r{pair}, public_key('pair'), { %{ $r{pair} }, body => "$r{pair}{body} " },
		$secret{all}, $r{all}, public_key('all'), $r{all}, $secret{standard}, { %{ $r{standard} }, body => "$r{standard}{body} " }),
	[ 'ok ok', 'ok', 'failed', 'failed', 'ok ok', 'ok', 'failed failed' ],
	'v1 by libraries, which pass over v1a; v1a by Node with the public key, but not with another; no other body');
is($r{standard}{headers}{'x-dealer-signature'}, $r{standard}{headers}{'webhook-signature'}, '... the same under a name of choice');
ok(!exists $r{standard}{headers}{'x-hub-signature-256'}, '... and no other');

is_deeply(signatures($r{pair}), ['v1a'], 'Ed25519: one signature');

is($r{github}{headers}{'x-hub-signature-256'}, github($secret{github}, $r{github}), 'GitHub: the HMAC of the body by an imported text');
is($r{github}{headers}{'x-legacy'}, $r{github}{headers}{'x-hub-signature-256'}, '... the same under a name of choice');
ok(!exists $r{github}{headers}{'webhook-signature'}, '... and no other');
is($r{github}{headers}{'webhook-id'} =~ /^msg_/ && $r{github}{headers}{'webhook-timestamp'} =~ /^\d+$/, 1, '... the key of idempotency is there nevertheless');

is_deeply(signatures($r{all}), [ 'v1', 'v1a' ], 'all: both');
is($r{all}{headers}{'x-hub-signature-256'}, github($secret{all}, $r{all}), '... and GitHub, with the same secret as text');

# SQL agrees; what it shows is masked
my $headers = sub { return quote(JSON::PP->new->encode($_[0]{headers})) };
for my $case ([ $secret{standard}, 'standard' ], [ public_key('pair'), 'pair' ], [ $secret{pair}, 'pair' ], [ $secret{github}, 'github' ], [ $secret{all}, 'all' ], [ public_key('all'), 'all' ])
{
	my ($secret, $name) = @$case;
	my $body = $r{$name}{body};
	is(sql(sprintf 'SELECT dmshook.verify(%1$s, %2$s, %3$s), dmshook.verify(%1$s, %2$s, %3$s || \' \')', quote($secret), $headers->($r{$name}), quote($body)),
		't|f', "verify() of $name");
}
is($server->sql(q{SELECT request_headers->>'webhook-signature', request_headers->>'x-hub-signature-256' FROM dmshook.attempts WHERE webhook = 'all' ORDER BY at DESC LIMIT 1}),
	'v1,*** v1a,***|sha256=***', 'attempts mask them');

#
# Rotation: both sign
#
my $old_public = public_key('all');
my $new = rotate('all', q('1 hour'));
isnt($new, $secret{all}, 'a new secret');
($r{all}) = sell('all');
is_deeply(signatures($r{all}), [ 'v1', 'v1', 'v1a', 'v1a' ], 'in the overlap two of each');
is_deeply(said(map { ($_, $r{all}) } $new, $secret{all}, public_key('all'), $old_public), [ 'ok ok', 'ok ok', 'ok', 'ok' ], '... right with either secret, and either public key');
isnt(public_key('all'), $old_public, '... of which the new one is shown');
is($r{all}{headers}{'x-hub-signature-256'}, github($new, $r{all}), '... GitHub\'s is the new one\'s');
# twice within it
my $newest = rotate('all', q('1 hour'));
($r{all}) = sell('all');
is_deeply(said(map { ($_, $r{all}) } $newest, $new, $secret{all}), [ ('ok ok') x 3 ], 'rotated twice: three sign');
# all at once
my $last = rotate('all', q('0'));
($r{all}) = sell('all');
is_deeply(signatures($r{all}), [ 'v1', 'v1a' ], 'keep_old 0: one of each');
is_deeply(said(map { ($_, $r{all}) } $last, $newest, $secret{all}), [ 'ok ok', 'failed failed', 'failed failed' ], '... the new one, and none of the old');
is($server->sql(q{SELECT count(*) FROM dmshook.webhook_secret s JOIN dmshook.webhook w ON w.id = s.webhook WHERE w.name = 'all'}), 2, '... which is gone');

#
# The overlap ends by itself
#
$new = rotate('standard', q('3 seconds'));
my $until = $server->sql(q{SELECT extract(epoch FROM expires_at) FROM dmshook.webhook_secret WHERE expires_at IS NOT NULL});
($r{standard}) = sell('standard');
SKIP: {
	skip 'the machine is too slow', 1 if $r{standard}{headers}{'webhook-timestamp'} >= $until;
	is_deeply(said(map { ($_, $r{standard}) } $secret{standard}, $new), [ 'ok ok', 'ok ok' ], 'before its end both sign');
}
poll_until(sub { time > $until }, 'the end of the overlap');
($r{standard}) = sell('standard');
is_deeply(said(map { ($_, $r{standard}) } $secret{standard}, $new), [ 'failed failed', 'ok ok' ], 'after its end the old one does not sign, and the new one does');
is_deeply(signatures($r{standard}), ['v1'], '... at all');
is($server->sql(q{SELECT count(*) FROM dmshook.webhook_secret WHERE expires_at < now()}), 1, '... though its row is still there');
# housekeeping removes it
$server->sql(q{SELECT pg_reload_conf()});
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.webhook_secret WHERE expires_at IS NOT NULL});
$server->wait_sql(q{SELECT count(*) = 0 FROM dmshook.command WHERE done_at IS NULL});
($r{standard}) = sell('standard');
is_deeply(signatures($r{standard}), ['v1'], 'its row is removed, and the new one still signs');
my $after = $r{standard};

#
# Altered: what is needed is made, and counts from the next attempt
#
like($server->sql(q{SELECT dmshook.alter_webhook('standard', options => '{"signature": ["standard", "standard-ed25519"], "signature_header": null}')}),
	qr/new key pair was made.*public key whpk_/, 'altered: says what was made');
($r{standard}) = sell('standard');
is_deeply(said($new, $after, $new, $r{standard}, public_key('standard'), $r{standard}), [ 'ok ok', 'ok ok', 'ok' ], '... and signs with both');
ok(!exists $r{standard}{headers}{'x-dealer-signature'}, '... no longer under a name of choice');

#
# A key of dmshook.secret_key_file is lost: what cannot be decrypted cannot sign, and a rotation mends it
#
my $key_file = PostgreSQL::Test::Utils::tempdir . '/key';
sub new_key { unlink $key_file; append_to_file($key_file, $_[0] . "\n"); chmod 0600, $key_file; }
new_key('a' x 43 . '=');
$server->sql("ALTER SYSTEM SET dmshook.secret_key_file = '$key_file'");
$server->sql('SELECT pg_reload_conf()');
$server->wait_sql(q{SELECT problem IS NULL AND key_id IS NOT NULL FROM dmshook._vault()});
create('sealed', options => '{"signature": ["standard", "standard-ed25519"]}');
rotate('sealed');
is($server->sql(q{SELECT count(*) FROM dmshook.webhook_secret s JOIN dmshook.webhook w ON w.id = s.webhook WHERE w.name = 'sealed' AND s.key_id IS NOT NULL AND s.value !~ '^wh'}), 4, 'encrypted, those of the overlap too');
my ($before) = sell('sealed');
is_deeply(signatures($before), [ 'v1', 'v1', 'v1a', 'v1a' ], '... and they sign');
new_key('b' x 43 . '=');
$server->sql('SELECT pg_reload_conf()');
like($server->sql_fails(q{SELECT dmshook.signing_secret('sealed')}), qr/cannot be read/, 'the key is lost');
$secret{sealed} = rotate('sealed');
($r{sealed}) = sell('sealed');
is_deeply(said($secret{sealed}, $r{sealed}, public_key('sealed'), $r{sealed}), [ 'ok ok', 'ok' ], '... and a rotation makes another one, at once');
is_deeply(signatures($r{sealed}), [ 'v1', 'v1a' ], '... beside which the lost ones do not sign');

#
# What is signed is UTF-8, in a database of another encoding too
#
$server->sql(q{CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$server->sql('CREATE EXTENSION dmshook', 'latin');
is($server->sql(q{SELECT dmshook.sign(U&'s\00e4cret', NULL, NULL, U&'b\00f6dy'), dmshook.verify(U&'s\00e4cret', jsonb_build_object('x-hub-signature-256', dmshook.sign(U&'s\00e4cret', NULL, NULL, U&'b\00f6dy')), U&'b\00f6dy')}, 'latin'),
	'sha256=' . hmac_sha256_hex(encode('UTF-8', 'bödy'), encode('UTF-8', 'säcret')) . '|t', 'LATIN1: it is UTF-8 that is signed');

#
# Secrets stay in
#
is($server->sql(q{SELECT dmshook.signing_secret('pair')}), $secret{pair}, 'signing_secret() of a key pair');
my $seen = join "\n", map { $server->sql("SELECT string_agg(t::text, ' ') FROM dmshook.$_ t") } qw(webhooks changes attempts deliveries);
$seen .= slurp_file($server->node->logfile);
is(join(' ', grep { index($seen, $_) >= 0 } values %secret, $new, $newest, $last), '', 'no secret in views, changes or the server log');

done_testing();
