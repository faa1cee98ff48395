// Limits and bans on a cluster with a client of its user's, of some version, also after a server was killed: run by
// scripts/test-peers.mjs with the client's name and the folder where it is installed.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { SharedBans, SharedRateLimiter } from '../../dist/redis/index.js';
import { findServer } from '../../out/examples/fleet/server.js';
import { StoreCluster } from '../../out/soak/fleet/store-cluster.js';

const [name, folder] = process.argv.slice(2);
const require = createRequire(join(folder, 'package.json'));
const peer = require(name);
const prefix = `peer-${process.pid}`;
const channel = `${prefix}:{bans}`;
const cluster = await StoreCluster.start(findServer());

const CLIENTS = {
  redis: async () => {
    const rootNodes = cluster.ports.map((port) => ({ url: `redis://127.0.0.1:${port}` }));
    const client = peer.createCluster({ rootNodes });
    client.on('error', () => {});
    await client.connect();
    // Before version 5 it is disconnect.
    return { client, close: () => (client.destroy ?? client.disconnect).call(client) };
  },
  ioredis: async () => {
    const nodes = cluster.ports.map((port) => ({ host: '127.0.0.1', port }));
    const client = new peer.Cluster(nodes);
    client.on('error', () => {});
    return { client, close: () => client.disconnect() };
  },
};

/** Waits until a condition holds. */
async function until(holds) {
  const end = performance.now() + 60_000;
  while (!(await holds())) {
    assert.ok(performance.now() < end, `no ${holds} within a minute`);
    await sleep(20);
  }
}

const closers = [];
let peers = 0;

function limiterOf(client, options) {
  const limit = { rateLimit: 0.001, burstLimit: 2, mode: 'strict' };
  const limiter = new SharedRateLimiter({ client, prefix, ...limit, ...options });
  closers.push(() => limiter.close());
  return limiter;
}

/** Peers on all servers have two tokens each, and no third. */
async function limitsAreShared(limiter) {
  await limiter.ready();
  for (let n = 0; n < 50; n += 1) {
    peers += 1;
    const answers = [];
    for (let tries = 0; tries < 3; tries += 1) {
      answers.push((await limiter.checkAsync(`peer-${peers}`))[0]);
    }
    assert.deepEqual(answers, ['allow', 'allow', 'delay']);
  }
}

/** On the sharded channel, if the client has such subscriptions. */
async function bansAreShared(here, there) {
  peers += 1;
  const key = `peer-${peers}`;
  here.ban(key, 60);
  await until(() => there.isBanned(key));
  const { version } = require(`${name}/package.json`);
  const isSharded = name !== 'ioredis' || !version.startsWith('5.0.');
  const expected = isSharded ? { sharded: 2, plain: 0 } : { sharded: 0, plain: 2 };
  await until(async () => isDeepStrictEqual(await cluster.subscriptions(channel), expected));
}

async function survivesRestart(limiter, bans) {
  const stores = () => [limiter.getStats().store, ...bans.map((one) => one.getStats())];
  const start = await cluster.killServerOf(channel);
  await until(async () => {
    // Only a part that is used is known to be down.
    peers += 1;
    await limiter.checkAsync(`peer-${peers}`);
    return stores().every(({ state }) => state === 'down');
  });
  await start();
  await until(() => stores().every(({ state }) => state === 'up'));
  await bansAreShared(...bans);
  await bansAreShared(...[...bans].reverse());
  // Buckets that the server has lost are empty at first.
  await until(async () => (await limiter.checkAsync(`peer-${peers}`))[0] === 'allow');
}

try {
  const clients = await Promise.all([CLIENTS[name](), CLIENTS[name]()]);
  closers.push(...clients.map(({ close }) => close));
  const bans = clients.map(({ client }) => new SharedBans({ client, prefix }));
  closers.push(...bans.map((one) => () => one.close()));
  const [{ client }] = clients;
  await limitsAreShared(limiterOf(client, { deadlineSeconds: 60 }));
  await bansAreShared(...bans);
  const restarted = { prefix: `${prefix}-restarted`, rateLimit: 1, onStoreFailure: 'closed' };
  await survivesRestart(limiterOf(client, restarted), bans);
} finally {
  for (const close of closers.reverse()) await close();
  await cluster.close();
}
