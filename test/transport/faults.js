/*
 * faults.js - a receiver that goes wrong at a given point, for faults.c: what an
 * HTTP server must never do, at the level of bytes and packets. server.js starts it.
 *
 * /kept/POINT/HOW     the first request of a connection is answered; then the connection ends:
 *                     POINT: idle (5 ms after the answer), first (the next request's first bytes), head
 *                     (its header has come), whole (all of it has); HOW: end (TLS says so), fin (TCP only), half (FIN,
 *                     and still reading), reset
 * /say/NAME           the bytes of answers[NAME], then as it says
 * /fired              how many connections ended as /kept/ says, or heard more than they had asked for (later)
 */
'use strict';
const net = require('net');
const tls = require('tls');
const zlib = require('zlib');

let fired = 0;

const ok = (body, more = '') => `HTTP/1.1 200 OK\r\n${more}Content-Length: ${body.length}\r\n\r\n${body}`;
const chunked = (head = '') => `HTTP/1.1 200 OK\r\n${head}Transfer-Encoding: chunked\r\n\r\n`;

// Bytes that unpack to a thousand times their size, again and again: the innermost to nothing at all (empty blocks).
function bomb(layers) {
	let bytes = Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]), Buffer.alloc(5000000, Buffer.from([0, 0, 0, 0xff, 0xff]))]);
	for (let i = 1; i < layers; i++) bytes = zlib.gzipSync(bytes, { level: 1 });
	return bytes;
}
const chunk = (bytes) => Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);

// What is said, and what then: nothing (it stays open), end, reset, or again (the second part, for ever: the number is ms)
const answers = {
	resetbody: ['HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it', 'reset'],
	cutheaders: ['HTTP/1.1 200 OK\r\nContent-Le', 'end'],
	resetheaders: ['HTTP/1.1 200 OK\r\nContent-Le', 'reset'],
	cuthundred: ['HTTP/1.1 100 Continue\r\n\r\n', 'end'],
	cutstatus: ['HTTP/1.', 'end'],
	http09: ['<html>hello</html>\n', 'end'],
	http09open: ['<html>hello</html>\n'],
	nothing: ['\r\n\r\n', 'end'],
	negative: ['HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello', 'end'],
	words: ['HTTP/1.1 200 OK\r\nContent-Length: some\r\n\r\nhello', 'end'],
	twolengths: ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello', 'end'],
	hugelength: ['HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello', 'end'],
	toolong: [ok('right') + ok('wrong')],
	later: [ok('right'), 10, ok('wrong'), 'once'],
	badchunk: [chunked() + 'zz\r\nhello\r\n0\r\n\r\n', 'end'],
	hugechunk: [chunked() + 'fffffffffffffffff\r\nhello', 'end'],
	nolastchunk: [chunked() + '5\r\nhello\r\n', 'end'],
	both: [chunked('Content-Length: 3\r\n') + '5\r\nhello\r\n0\r\n\r\n'],
	trailers: [chunked() + '5\r\nhello\r\n0\r\n', 0, `X-More: ${'x'.repeat(1000)}\r\n`],
	extension: [chunked() + '5;a=', 0, 'x'.repeat(8000)],
	tegzip: [Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n`), chunk(zlib.gzipSync('hello')), Buffer.from('0\r\n\r\n')])],
	tebomb: [Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, gzip, gzip, chunked\r\n\r\n'), chunk(bomb(3))])],
	switching: ['HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n'],
	hundred: ['HTTP/1.1 100 Continue\r\n\r\n'],
	slowinterim: ['', 20, 'HTTP/1.1 102 Processing\r\n\r\n'],
	slowheader: ['HTTP/1.1 200 OK\r\nX-Slow: ', 20, 'x'],
	emptylines: ['', 20, '\r\n'],
	gigabyte: ['HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n', 0, 'x'.repeat(65536)],
	300: ['HTTP/1.1 300 Multiple Choices\r\nContent-Length: 0\r\n\r\n'],
	307: ['HTTP/1.1 307 Temporary Redirect\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n'],
	nostatus: ['HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n', 'end'],
	999: ['HTTP/1.1 999 Much\r\nContent-Length: 0\r\n\r\n', 'end']
};

function finish(socket, raw, how) {
	if (how === 'reset') raw.resetAndDestroy();
	else if (how === 'fin') raw.destroy();
	else if (how === 'half') raw.end();
	else if (how === 'end') socket.end();
}

function say(socket, raw, [what, then, more, once]) {
	const bytes = Buffer.from(what, 'latin1');
	if (bytes.length) socket.write(bytes);
	if (typeof then === 'string') {
		// what was said is to be on its way first
		return then === 'reset' ? setTimeout(() => raw.resetAndDestroy(), 20) : finish(socket, raw, then);
	}
	if (then === undefined) return;
	if (then === 0) {
		const pour = () => { while (!socket.destroyed && socket.write(more)); };
		socket.on('drain', pour);
		return pour();
	}
	const timer = setInterval(() => {
		if (socket.destroyed) return clearInterval(timer);
		socket.write(more, () => { if (once) fired++; });
		if (once) clearInterval(timer);
	}, then);
}

function serve(socket, raw) {
	let head = Buffer.alloc(0);
	let body = -1;	// bytes that are still to come; -1: the header is
	let nth = 0;
	let over = false;
	const now = (how) => { over = true; fired++; socket.pause(); finish(socket, raw, how); };
	socket.on('error', () => {});
	raw.on('error', () => {});
	socket.on('data', (data) => {
		while (!over && data.length > 0) {
			if (body < 0) {
				head = Buffer.concat([head, data]);
				data = Buffer.alloc(0);
			}
			const line = /^\w+ (\S+) /.exec(head.subarray(0, 200).toString('latin1'));
			const [, verb, what, how] = line ? line[1].split('/') : [];
			const due = (point) => verb === 'kept' && nth > 0 && what === point;
			if (due('first')) return now(how);
			if (body < 0) {
				const end = head.indexOf('\r\n\r\n');
				if (end < 0) return;
				if (due('head')) return now(how);
				const length = /^content-length: *(\d+)/im.exec(head.subarray(0, end).toString('latin1'));
				body = length ? Number(length[1]) : 0;
				data = head.subarray(end + 4);
				if (verb === 'early') {
					// an answer before the body has come: stall reads no more, reset ends it, close too, silent without a word
					over = true;
					socket.pause();
					if (what !== 'silent') socket.write(`HTTP/1.1 ${how || 413} Early\r\nContent-Length: 5\r\n\r\nearly`);
					if (what === 'reset') setTimeout(() => raw.resetAndDestroy(), 20);
					if (what === 'close' || what === 'silent') setTimeout(() => raw.destroy(), 20);
					return;
				}
			}
			const part = Math.min(body, data.length);
			body -= part;
			data = data.subarray(part);
			if (body > 0) return;
			if (due('whole')) return now(how);
			body = -1;
			head = Buffer.alloc(0);
			nth++;
			if (verb === 'say') say(socket, raw, answers[what]);
			else socket.write(ok(verb === 'fired' ? String(fired) : `${verb} ${nth}`));
			if (verb === 'kept' && what === 'idle') setTimeout(() => now(how), 5);
		}
	});
}

// Servers whose TLS handshake goes wrong: before TLS, or between two that would agree.
const raw = (what) => net.createServer((socket) => { socket.on('error', () => {}); what(socket); });

function between(port, change) {
	return raw((socket) => {
		const good = net.connect(port(), '127.0.0.1');
		let said = 0;
		good.on('error', () => {});
		socket.on('close', () => good.destroy()).pipe(good);
		good.on('data', (data) => { change(socket, data, said); said += data.length; });
	});
}

exports.servers = (pair, port) => {
	const secureContext = tls.createSecureContext(pair('good'));
	return {
		faulty: net.createServer({ noDelay: true }, (socket) => serve(new tls.TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] }), socket)),
		noise: raw((socket) => socket.once('data', () => socket.end(Buffer.alloc(5000, 'noise \0\xff', 'latin1')))),
		alert: raw((socket) => socket.once('data', () => socket.end(Buffer.from([21, 3, 3, 0, 2, 2, 40])))),
		flood: raw((socket) => socket.once('data', () => {
			// a handshake message of 16 MB, in records without end
			const record = Buffer.concat([Buffer.from([22, 3, 3, 64, 0]), Buffer.from([11, 0xff, 0xff, 0xff]), Buffer.alloc(16380)]);
			const pour = () => { while (!socket.destroyed && socket.write(record)); };
			socket.on('drain', pour);
			pour();
		})),
		warnings: raw((socket) => socket.once('data', () => {
			const timer = setInterval(() => socket.destroyed ? clearInterval(timer) : socket.write(Buffer.from([21, 3, 3, 0, 2, 1, 100])), 1);
		})),
		corrupt: between(port, (socket, data, said) => {
			const bytes = Buffer.from(data);
			for (let i = 0; i < bytes.length; i++) if (said + i > 200) bytes[i] ^= 0x5a;
			socket.write(bytes);
		}),
		cut: between(port, (socket, data) => { socket.write(data.subarray(0, 100)); socket.end(); }),
		resetshake: between(port, (socket, data) => { socket.write(data.subarray(0, 100)); setTimeout(() => socket.resetAndDestroy(), 20); }),
		dripshake: between(port, (socket, data) => {
			let at = 0;
			const timer = setInterval(() => socket.destroyed || at >= data.length ? clearInterval(timer) : socket.write(data.subarray(at, ++at)), 10);
		})
	};
};
