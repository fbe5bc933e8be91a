// verify.mjs - check requests with verifiers that are not ours: the npm
// libraries standardwebhooks and svix, installed by test/run-tests into
// test/build/node_modules (DMSHOOK_NODE_MODULES names another folder).
//
// A secret that is a public key ("whpk_...") has no library among them that knows v1a: Node's own
// Ed25519 takes their place, {"ed25519": "ok"}.
//
// In: a JSON line for each request, {"headers": {...}, "body": "...", "secret": "whsec_..."};
// "at": seconds since 1970, instead of the clock.  Out: a JSON line for each,
// {"standardwebhooks": "ok", "svix": "failed: why"}.
import { createPublicKey, verify as verifySignature } from 'node:crypto';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import path from 'node:path';

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = process.env.DMSHOOK_NODE_MODULES ?? path.join(here, '..', 'build', 'node_modules');
const require = createRequire(path.join(modules, 'x.js'));
const libraries = { standardwebhooks: require('standardwebhooks').Webhook, svix: require('svix').Webhook };
const clock = Date.now;

function verify(Webhook, { headers, body, secret }) {
	try {
		new Webhook(secret).verify(body, headers);
		return 'ok';
	} catch (e) {
		// both parse an empty body as JSON after the signature was found right
		if (body === '' && e instanceof SyntaxError)
			return 'ok';
		return `failed: ${e.message}`;
	}
}

function verifyPublic({ headers, body, secret }) {
	const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(secret.slice('whpk_'.length), 'base64')]);
	const key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
	const message = Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`);
	const right = (headers['webhook-signature'] ?? '').split(' ').filter((s) => s.startsWith('v1a,'))
		.some((s) => verifySignature(null, message, key, Buffer.from(s.slice('v1a,'.length), 'base64')));
	return { ed25519: right ? 'ok' : 'failed: no right v1a' };
}

for await (const line of createInterface({ input: process.stdin })) {
	if (line.trim() === '')
		continue;
	const request = JSON.parse(line);
	Date.now = request.at === undefined ? clock : () => request.at * 1000;
	console.log(JSON.stringify(request.secret.startsWith('whpk_') ? verifyPublic(request) : Object.fromEntries(
		Object.entries(libraries).map(([name, Webhook]) => [name, verify(Webhook, request)]))));
}
