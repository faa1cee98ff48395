// The package with a client of its user's, of some version: run by scripts/test-peers.mjs with the client's name, the
// folder where it is installed, and the address of a store.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { limitInterceptor, PolicyLimiter } from '../../dist/client/index.js';
import { SharedBans, SharedRateLimiter } from '../../dist/redis/index.js';

const [name, folder, url] = process.argv.slice(2);
const peer = createRequire(join(folder, 'package.json'))(name);
const prefix = `peer-${process.pid}`;

const CLIENTS = {
  redis: async () => {
    const client = await peer.createClient({ url }).connect();
    // Before version 5 it is disconnect.
    return { client, close: () => (client.destroy ?? client.disconnect).call(client) };
  },
  ioredis: async () => {
    const client = new (peer.Redis ?? peer)(url);
    return { client, close: () => client.disconnect() };
  },
};

/** Two tokens for each of the modes, and no third. */
async function limitsAreShared(client, mode) {
  const options = { client, mode, prefix: `${prefix}-${mode}`, deadlineSeconds: 60 };
  const limiter = new SharedRateLimiter({ ...options, rateLimit: 0.001, burstLimit: 2 });
  await limiter.ready();
  const answers = [];
  for (let n = 0; n < 3; n += 1) answers.push((await limiter.checkAsync('peer'))[0]);
  assert.deepEqual(answers, ['allow', 'allow', 'delay'], mode);
  await limiter.close();
}

async function bansAreShared(one, another) {
  const [here, there] = [one, another].map(
    (client) => new SharedBans({ client, prefix, deadlineSeconds: 60 }),
  );
  await Promise.all([here.ready(), there.ready()]);
  const told = once(there, 'ban');
  here.ban('peer', 60);
  assert.equal((await told)[0].key, 'peer');
  assert.equal(there.isBanned('peer'), true);
  await Promise.all([here.close(), there.close()]);
}

/** A request waits for the quota of the next window, and fails at once if that comes after its deadline. */
async function requestsWait() {
  let served = 0;
  const server = createServer((_, response) => {
    served += 1;
    response.end('answer');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${server.address().port}`;
  const limited = (windowSeconds, options) => {
    const limiter = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds }] });
    const dispatcher = new peer.Agent().compose(limitInterceptor(limiter, options));
    const request = async () => {
      const { statusCode, body } = await peer.request(origin, { dispatcher });
      assert.deepEqual([statusCode, await body.text()], [200, 'answer']);
    };
    return { request, close: () => dispatcher.close() };
  };
  const short = limited(0.2);
  for (let n = 0; n < 3; n += 1) await short.request();
  const hour = limited(3600, { deadlineSeconds: 60 });
  await hour.request();
  await assert.rejects(hour.request(), { code: 'ERR_LIMITER_DEADLINE' });
  assert.equal(served, 4);
  for (const { close } of [short, hour]) await close();
  server.close();
}

if (name === 'undici') {
  await requestsWait();
} else {
  const clients = await Promise.all([CLIENTS[name](), CLIENTS[name]()]);
  const [one, another] = clients.map(({ client }) => client);
  for (const mode of ['strict', 'leased']) await limitsAreShared(one, mode);
  await bansAreShared(one, another);
  for (const { close } of clients) close();
}
