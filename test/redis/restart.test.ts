// The store killed under load, and started again without what it knew.

import { SharedRateLimiter, type StateChange } from 'relay-limiter/redis';
import { describe, it } from 'vitest';
import { excess } from '../../out/examples/fleet/bound.js';
import { REAL_TIME } from '../support/real-time.js';
import { Flood } from './support/flood.js';
import { CLIENTS, NO_SERVER, sleep, startServer } from './support/store.js';

// One policy with each client.
const CASES = [
  ['share', 'node-redis'],
  ['closed', 'ioredis'],
] as const;

describe.skipIf(NO_SERVER).concurrent('a restart', () => {
  it.for(CASES)('is no burst (%s, %s)', REAL_TIME, async ([onStoreFailure, client], test) => {
    const { expect, onTestFinished } = test;
    const server = await startServer();
    onTestFinished(() => server.close());
    const connect = CLIENTS[client];
    const clients = await Promise.all([1, 2, 3].map(() => connect(server.url)));
    onTestFinished(() => clients.forEach(({ close }) => void close()));
    const limit = { rateLimit: 50, burstLimit: 20, onStoreFailure };
    const all = clients.map((one) => new SharedRateLimiter({ client: one.client, ...limit }));
    onTestFinished(async () => void (await Promise.all(all.map((one) => one.close()))));
    const changes: StateChange[] = [];
    all[0]?.on('state', (change) => changes.push(change));
    const stores = () => all.map((one) => one.getStats().store);
    await expect.poll(() => stores().map(({ nodes }) => nodes)).toEqual([3, 3, 3]);

    const flood = new Flood();
    flood.start(all);
    await sleep(0.7);
    await server.kill();
    await sleep(1);
    const before = flood.admissions.length;
    await sleep(0.5);
    const whileAway = flood.admissions.length - before;
    await server.start();
    await sleep(1.5);
    await flood.stop();

    expect(excess(flood.admissions, 50, 20)).toBeLessThanOrEqual(1e-6);
    if (onStoreFailure === 'share') expect(whileAway).toBeGreaterThan(0);
    else expect(whileAway).toBe(0);
    // A busy machine adds something to the tenth of a second.
    expect(flood.slowest).toBeLessThan(0.4);
    expect(changes.map(({ state }) => state)).toEqual(['down', 'up']);
    expect(changes[1]?.lostData).toBe(true);
    for (const store of stores())
      expect(store).toMatchObject({ state: 'up', inFlight: 0, downs: 1 });
    // It admits again.
    expect(performance.now() / 1000 - (flood.admissions.at(-1)?.at ?? 0)).toBeLessThan(1);
  });
});
