// A store that is killed under load and started again without its data. failure.test.ts and leases.test.ts test in
// virtual time exactly how much is admitted when.

import { SharedRateLimiter, type StateChange } from 'relay-limiter/redis';
import { describe, it } from 'vitest';
import { excess } from '../../out/examples/fleet/bound.js';
import { Flood } from './support/flood.js';
import { CLIENTS, NO_SERVER, startServer } from './support/store.js';

// Each policy is tested with one of the clients.
const CASES = [
  ['share', 'node-redis'],
  ['closed', 'ioredis'],
] as const;
const LIMIT = { rateLimit: 50, burstLimit: 20, deadlineSeconds: 0.5 };
const ROUNDING = 1e-6;

describe.skipIf(NO_SERVER).concurrent('SharedRateLimiter', () => {
  it.for(CASES)(
    'grants no extra burst after a restart of the store (%s, %s)',
    async ([onStoreFailure, client], test) => {
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
      if (onStoreFailure === 'share') await flood.untilAdmitted();
      else {
        // Once all leases are spent or have ended, every check is delayed.
        const leased = () => all.reduce((sum, one) => sum + one.getStats().leasedTokens, 0);
        await expect.poll(leased).toBe(0);
        for (let n = 0; n < 100; n += 1) {
          for (const one of all) expect((await one.checkAsync('flood'))[0]).toBe('delay');
        }
      }
      await server.start();
      await expect.poll(() => changes.some(({ lostData }) => lostData)).toBe(true);
      await expect.poll(() => stores().map(({ state }) => state)).toEqual(['up', 'up', 'up']);
      await flood.untilAdmitted();
      await flood.stop();

      const shared = onStoreFailure === 'share' ? flood.downSeconds() * LIMIT.rateLimit : 0;
      const tokens = excess(flood.admissions, LIMIT.rateLimit, LIMIT.burstLimit);
      expect(tokens).toBeLessThanOrEqual(shared + ROUNDING);
      // The events alternate between down and up.
      changes.forEach(({ state }, at) => void expect(state).toBe(at % 2 === 0 ? 'down' : 'up'));
      await expect.poll(() => stores().map(({ inFlight }) => inFlight)).toEqual([0, 0, 0]);
    },
  );
});
