/*
 * server.js - receivers of every kind of behaviour, good and bad, for
 * transport_test.c. Listens on ports of 127.0.0.1 that the system picks, prints
 * "name port" for each and then "ready"; ends when its standard input does.
 *
 * What a receiver does is in the path: /status/404, /hang, ... (see answer()).
 */
'use strict';
const fs = require('fs');
const http2 = require('http2');
const net = require('net');
const tls = require('tls');
const faults = require('./faults.js');

const dir = process.argv[2];
const pem = (name) => fs.readFileSync(`${dir}/${name}`);
const pair = (name) => ({ cert: pem(`${name}.crt`), key: pem(`${name}.key`) });
let closed = 0;

// One request, as far as it has come: { line, headers, body, size } or null.
function take(buffer) {
	const end = buffer.indexOf('\r\n\r\n');
	if (end < 0) return null;
	const head = buffer.subarray(0, end).toString('latin1');
	const length = /^content-length: *(\d+)/im.exec(head);
	const size = end + 4 + (length ? Number(length[1]) : 0);
	return { head, path: head.split(' ')[1], size, whole: buffer.length >= size, raw: buffer.subarray(0, size) };
}

function respond(socket, status, headers, body) {
	const lines = [`HTTP/1.1 ${status} Whatever`, ...headers, `Content-Length: ${body.length}`, '', ''];
	socket.write(Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), Buffer.from(body)]));
}

// Write for ever, at the speed of the reader.
function pour(socket, chunk) {
	const more = () => {
		while (!socket.destroyed && socket.write(chunk));
	};
	socket.on('drain', more);
	more();
}

function answer(socket, request, nth) {
	const url = new URL(request.path, 'https://any');
	const [, verb, argument] = url.pathname.split('/');
	switch (verb) {
	case 'echo': return respond(socket, 200, ['Content-Type: text/plain'], request.raw);
	case 'status': return respond(socket, argument, [], 'said so');
	case 'retry': return respond(socket, 503, [`Retry-After: ${url.searchParams.get('value')}`], '');
	case 'redirect': return respond(socket, 302, ['Location: https://user:canary@other.test/new?token=canary'], '');
	case 'relative': return respond(socket, 308, ['Location: /elsewhere'], '');
	case 'big': return respond(socket, 200, [], Buffer.alloc(Number(argument), 'x'));
	case 'bigerror': return respond(socket, 500, [], Buffer.alloc(Number(argument), 'x'));
	case 'nul': return respond(socket, 200, ['X-Raw: \xff\xfe'], Buffer.from([0x61, 0, 0xff, 0x62]));
	case 'empty': return socket.write('HTTP/1.1 204 No Content\r\n\r\n');
	case 'interim': return socket.write('HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
	case 'endlessbody':
		socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
		return pour(socket, Buffer.from(`2000\r\n${'x'.repeat(0x2000)}\r\n`));
	case 'endlessheaders':
		socket.write('HTTP/1.1 200 OK\r\n');
		return pour(socket, Buffer.from(`X-More: ${'x'.repeat(1000)}\r\n`));
	case 'endlessline':
		socket.write('HTTP/1.1 200 OK\r\nX-Long: ');
		return pour(socket, Buffer.alloc(8192, 'x'));
	case 'endlessinterim': return pour(socket, Buffer.from(`HTTP/1.1 103 Early Hints\r\nX-More: ${'x'.repeat(500)}\r\n\r\n`));
	case 'longheaders': return respond(socket, 200, Array.from({ length: 40 }, (_, i) => `X-${i}: ${'y'.repeat(500)}`), 'ok');
	case 'slowbody': return socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc');
	case 'drip': {
		socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n');
		const timer = setInterval(() => socket.destroyed ? clearInterval(timer) : socket.write('x'), 20);
		return;
	}
	case 'hang': return;
	case 'close': closed++; return socket.end();
	case 'closed': return respond(socket, 200, [], String(closed));
	case 'half': return socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it');
	case 'reset': return socket.resetAndDestroy ? (socket._parent || socket).resetAndDestroy() : socket.destroy();
	case 'garbage': return socket.end('SSH-2.0-OpenSSH_9.2p1\r\n');
	case 'http0': return socket.end('HTTP/7.0 200 OK\r\n\r\n');
	// answers, then closes the connection without saying so
	case 'leave': respond(socket, 200, [], 'bye'); return setTimeout(() => socket.end(), 5);
	// the second request on a connection gets no answer: the race of a kept connection
	case 'once': return nth > 1 ? socket.destroy() : respond(socket, 200, [], 'once');
	default: return respond(socket, 404, [], 'no such behaviour');
	}
}

function serve(socket) {
	let buffer = Buffer.alloc(0);
	let nth = 0;
	let refused = false;
	socket.on('error', () => {});
	socket.setNoDelay(true);
	socket.on('data', (data) => {
		// TLS where none is spoken: as nginx and others do
		if (data[0] === 0x16) return socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n');
		buffer = buffer.length ? Buffer.concat([buffer, data]) : data;
		for (;;) {
			const request = take(buffer);
			// an answer before the body has come; the rest is read, lest a reset overtakes it
			if (request && !refused && request.path === '/early') {
				refused = true;
				respond(socket, 413, ['Connection: close'], 'too much');
			}
			if (!request || !request.whole) return;
			buffer = buffer.subarray(request.size);
			if (refused) return socket.end();
			answer(socket, request, ++nth);
		}
	});
}

const ca = pem('ca.crt');
const quiet = (server) => server.on('tlsClientError', () => {}).on('error', () => {});
const secure = (options) => quiet(tls.createServer({ ALPNProtocols: ['http/1.1'], ...options }, serve));
const h2 = http2.createSecureServer({ ...pair('good'), allowHTTP1: false });
h2.on('stream', (stream, headers) => {
	const path = headers[':path'];
	stream.on('error', () => {});
	if (path === '/reset') return stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
	if (path === '/hang') return;
	// a connection that was kept dies under all that go over it
	if (path === '/die' && stream.session.kept) return stream.session.destroy();
	if (path === '/ok') stream.session.kept = true;
	// read to its end: of a body that nobody has read node resets the stream, now and then before the answer is through
	stream.resume().on('end', () => {
		stream.respond({ ':status': 200, 'content-type': 'text/plain' });
		stream.end(JSON.stringify(headers));
	});
}).on('error', () => {}).on('sessionError', () => {});

const servers = {
	good: secure(pair('good')),
	expired: secure(pair('expired')),
	future: secure(pair('future')),
	wrongname: secure(pair('wrongname')),
	unknown: secure(pair('unknown')),
	selfsigned: secure(pair('selfsigned')),
	client: secure({ ...pair('good'), ca, requestCert: true, rejectUnauthorized: true }),
	old: secure({ ...pair('good'), minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }),
	tls12: secure({ ...pair('good'), maxVersion: 'TLSv1.2' }),
	h2,
	plain: net.createServer(serve),
	deaf: net.createServer((socket) => socket.on('error', () => {})),
	hangup: net.createServer((socket) => { socket.on('error', () => {}); socket.once('data', () => socket.end()); }),
	...faults.servers(pair, () => servers.good.address().port)
};

let left = Object.keys(servers).length;
for (const [name, server] of Object.entries(servers)) {
	server.listen(0, '127.0.0.1', 1024, () => {
		console.log(name, server.address().port);
		if (--left === 0) console.log('ready');
	});
}
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
