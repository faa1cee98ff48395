// A store that is stopped or killed under load: no calls pile up, the bound holds, and the store is used again when it
// returns. failure.test.ts tests in virtual time how fast checks are answered in the meantime.

import { SharedRateLimiter } from 'relay-limiter/redis';
import { describe, it } from 'vitest';
import { excess } from '../../out/examples/fleet/bound.js';
import { Flood } from './support/flood.js';
import { CLIENTS, NO_SERVER, startServer } from './support/store.js';

const LIMIT = {
  rateLimit: 50,
  burstLimit: 20,
  deadlineSeconds: 0.5,
  onStoreFailure: 'closed' as const,
};
const ROUNDING = 1e-6;

const CASES = [
  ['is stopped', 'node-redis'],
  ['is killed', 'ioredis'],
] as const;

describe.skipIf(NO_SERVER).concurrent('SharedRateLimiter', () => {
  it.for(CASES)(
    'keeps the bound and uses a store again that %s under load (%s)',
    async ([what, client], test) => {
      const { expect, onTestFinished } = test;
      const server = await startServer();
      onTestFinished(() => server.close());
      const clients = await Promise.all([1, 2].map(() => CLIENTS[client](server.url)));
      onTestFinished(() => clients.forEach(({ close }) => void close()));
      const all = clients.map((one) => new SharedRateLimiter({ client: one.client, ...LIMIT }));
      onTestFinished(async () => void (await Promise.all(all.map((one) => one.close()))));
      const stores = () => all.map((one) => one.getStats().store);
      await expect.poll(() => stores().map(({ nodes }) => nodes)).toEqual([2, 2]);
      const flood = new Flood(all);
      await flood.untilAdmitted();

      if (what === 'is killed') await server.kill();
      else server.signal('SIGSTOP');
      await expect.poll(() => stores().map(({ state }) => state)).toEqual(['down', 'down']);
      const before = stores();
      // New peers: with the store up, each check would be a call.
      for (let round = 0; round < 100; round += 1) {
        const checks = Array.from({ length: 50 }, (_, at) => {
          return (all[at % 2] as SharedRateLimiter).checkAsync(`peer-${round}-${at}`);
        });
        for (const [action] of await Promise.all(checks)) expect(action).toBe('delay');
      }
      for (const [at, store] of stores().entries()) {
        expect(store.inFlight).toBeLessThanOrEqual(before[at]?.inFlight as number);
        expect(store.calls).toBe(before[at]?.calls);
      }

      if (what === 'is killed') await server.start();
      else server.signal('SIGCONT');
      await flood.untilAdmitted();
      await flood.stop();
      expect(excess(flood.admissions, LIMIT.rateLimit, LIMIT.burstLimit)).toBeLessThanOrEqual(
        ROUNDING,
      );
      await expect
        .poll(() => stores().map(({ state, inFlight }) => [state, inFlight]))
        .toEqual([
          ['up', 0],
          ['up', 0],
        ]);
    },
  );
});
