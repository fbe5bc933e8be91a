// A webhook sender as one would write it on a job queue in PostgreSQL: jobs are there,
// and each is an HTTPS request with a Standard Webhooks signature, over kept connections.
//
//   node peers.mjs graphile|pgboss SOCKET_DIR URL CA_FILE SECRET COUNT CONNECTIONS
//
// Puts COUNT jobs with the rows of the table "vehicle" into the queue, says "ready" once they are in,
// works them off, says "cpu_us N" (of this process, while it worked) and ends.
import crypto from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import pg from 'pg';

const [which, host, url, ca, secret, countText, connectionsText] = process.argv.slice(2);
const count = Number(countText), connections = Number(connectionsText);
const database = { host, user: 'postgres', database: 'postgres' };
const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
const agent = new https.Agent({ keepAlive: true, maxSockets: connections, ca: fs.readFileSync(ca) });
let done = 0, finish, before;
const finished = new Promise(resolve => { finish = resolve; });

// one request; anything but 200 is an error, and the queue's to try again
function post(id, data) {
	const body = JSON.stringify(data);
	const at = Math.floor(Date.now() / 1000);
	const signature = crypto.createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64');
	return new Promise((resolve, reject) => {
		const request = https.request(url, { agent, method: 'POST', timeout: 15000, headers: { 'content-type': 'application/json',
			'content-length': Buffer.byteLength(body), 'webhook-id': id, 'webhook-timestamp': String(at), 'webhook-signature': `v1,${signature}` } }, response => {
			response.resume();
			response.on('end', () => {
				if (response.statusCode !== 200) return reject(new Error(`status ${response.statusCode}`));
				done += 1;
				if (done === count) finish();
				resolve();
			});
		});
		request.on('error', reject);
		request.on('timeout', () => request.destroy(new Error('timeout')));
		request.end(body);
	});
}

// jobs(n): the bodies, as a trigger would have written them
async function bodies() {
	const client = new pg.Client(database);
	await client.connect();
	const { rows } = await client.query(`SELECT json_build_object('type', 'vehicle.added', 'data', json_build_object('entity', 'vehicle', 'key', json_build_object('id', v.id), 'record', to_jsonb(v))) AS body FROM vehicle v ORDER BY id LIMIT ${count}`);
	await client.end();
	return rows.map(row => row.body);
}

async function graphile() {
	const { run, runMigrations, Logger } = await import('graphile-worker');
	const logger = new Logger(() => (level, message) => { if (level === 'error') console.error(message); });
	const pgPool = new pg.Pool({ ...database, max: 12 });
	await runMigrations({ pgPool, logger });
	const jobs = await bodies();
	for (let i = 0; i < jobs.length; i += 1000)
		await pgPool.query(`SELECT count(graphile_worker.add_job('post', payload := b)) FROM json_array_elements($1::json) AS b`, [JSON.stringify(jobs.slice(i, i + 1000))]);
	console.log('ready');
	before = process.cpuUsage();
	// its settings for throughput: a local queue that fetches many at once, completions in batches
	const runner = await run({ pgPool, logger, concurrency: connections, noHandleSignals: true, preset: { worker: { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
		taskList: { post: (payload, helpers) => post(`msg_${helpers.job.id}`, payload) } });
	await finished;
	const used = process.cpuUsage(before);
	await runner.stop();
	return used;
}

async function pgboss() {
	const { default: PgBoss } = await import('pg-boss');
	const boss = new PgBoss({ ...database, max: 12, supervise: false, schedule: false });
	boss.on('error', error => console.error(error.message));
	await boss.start();
	await boss.createQueue('post');
	const jobs = await bodies();
	for (let i = 0; i < jobs.length; i += 1000) await boss.insert(jobs.slice(i, i + 1000).map(data => ({ name: 'post', data })));
	console.log('ready');
	before = process.cpuUsage();
	// it looks for work twice a second at most: so a worker takes 2,000 at once, and there are two
	const options = { batchSize: 2000, pollingIntervalSeconds: 0.5 };
	for (let worker = 0; worker < 2; worker += 1)
		await boss.work('post', options, batch => Promise.all(batch.map(job => post(`msg_${job.id}`, job.data))));
	await finished;
	const used = process.cpuUsage(before);
	await boss.stop({ graceful: true, timeout: 10000 });
	return used;
}

const used = await { graphile, pgboss }[which]();
console.log(`cpu_us ${used.user + used.system}`);
process.exit(0);
