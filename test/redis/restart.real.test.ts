// The store killed under load, and started again without what it knew. Exactly how much is admitted when,
// failure.test.ts and leases.test.ts say in virtual time.

import { SharedRateLimiter, type StateChange } from 'relay-limiter/redis';
import { describe, it } from 'vitest';
import { excess } from '../../out/examples/fleet/bound.js';
import { Flood } from './support/flood.js';
import { CLIENTS, NO_SERVER, startServer } from './support/store.js';

// One policy with each client.
const CASES = [
  ['share', 'node-redis'],
  ['closed', 'ioredis'],
] as const;
const LIMIT = { rateLimit: 50, burstLimit: 20, deadlineSeconds: 0.5 };
const ROUNDING = 1e-6;

describe.skipIf(NO_SERVER).concurrent('a restart', () => {
  it.for(CASES)('is no burst (%s, %s)', async ([onStoreFailure, client], test) => {
    const { expect, onTestFinished } = test;
    const server = await startServer();
    onTestFinished(() => server.close());
    const connect = CLIENTS[client];
    const clients = await Promise.all([1, 2, 3].map(() => connect(server.url)));
    onTestFinished(() => clients.forEach(({ close }) => void close()));
    const all = clients.map((one) => {
      return new SharedRateLimiter({ client: one.client, ...LIMIT, onStoreFailure });
    });
    onTestFinished(async () => void (await Promise.all(all.map((one) => one.close()))));
    const changes: StateChange[] = [];
    all[0]?.on('state', (change) => changes.push(change));
    const stores = () => all.map((one) => one.getStats().store);
    await expect.poll(() => stores().map(({ nodes }) => nodes)).toEqual([3, 3, 3]);

    const flood = new Flood(all);
    await expect.poll(() => flood.admissions.length).toBeGreaterThan(LIMIT.burstLimit);
    await server.kill();
    await expect.poll(() => stores().map(({ state }) => state)).toEqual(['down', 'down', 'down']);
    if (onStoreFailure === 'share') await flood.isAdmitted();
    else {
      // What was on lease is spent, or over; the rest waits for the store.
      const leased = () => all.reduce((sum, one) => sum + one.getStats().leasedTokens, 0);
      await expect.poll(leased).toBe(0);
      for (let n = 0; n < 100; n += 1) {
        for (const one of all) expect((await one.checkAsync('flood'))[0]).toBe('delay');
      }
    }
    await server.start();
    await expect.poll(() => changes.some(({ lostData }) => lostData)).toBe(true);
    await expect.poll(() => stores().map(({ state }) => state)).toEqual(['up', 'up', 'up']);
    await flood.isAdmitted();
    await flood.stop();

    const shared = onStoreFailure === 'share' ? flood.aloneSeconds() * LIMIT.rateLimit : 0;
    const over = excess(flood.admissions, LIMIT.rateLimit, LIMIT.burstLimit);
    expect(over).toBeLessThanOrEqual(shared + ROUNDING);
    // Down and up by turns.
    changes.forEach(({ state }, at) => void expect(state).toBe(at % 2 === 0 ? 'down' : 'up'));
    await expect.poll(() => stores().map(({ inFlight }) => inFlight)).toEqual([0, 0, 0]);
  });
});
