// SharedRateLimiter on a real server, with each client: its verdicts, and how often it calls the store. Buckets
// refill so slowly that they get no token during a test.

import { SharedRateLimiter, type SharedRateLimiterOptions } from 'relay-limiter/redis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Store } from '../../out/examples/fleet/server.js';
import { codeOf, ODD_KEYS } from '../support/limiters.js';
import { run } from '../support/processes.js';
import {
  anyStore,
  CLIENTS,
  mappingClient,
  NO_DEADLINE,
  NO_STORE,
  PREFIX,
  type TestClient,
} from './support/store.js';

let server: Store;
beforeAll(async () => {
  if (NO_STORE === false) server = await anyStore();
});
afterAll(() => server?.close());

describe.skipIf(NO_STORE).each(Object.entries(CLIENTS))(
  'SharedRateLimiter with %s',
  (name, connect) => {
    let redis: TestClient;
    const open: SharedRateLimiter[] = [];
    let prefixes = 0;
    beforeAll(async () => {
      redis = await connect(server.url);
    });
    afterEach(async () => {
      await Promise.all(open.splice(0).map((limiter) => limiter.close()));
    });
    afterAll(() => redis?.close());

    function limiter(options: SharedRateLimiterOptions = {}): SharedRateLimiter {
      prefixes += 1;
      const { client } = redis;
      const prefix = `${PREFIX}-${name}-${options.prefix ?? prefixes}`;
      const made = new SharedRateLimiter({ client, ...NO_DEADLINE, ...options, prefix });
      open.push(made);
      return made;
    }

    it('makes one call per check in mode strict, and returns the verdicts of RateLimiter', async () => {
      const shared = limiter({
        mode: 'strict',
        rateLimit: 0.001,
        burstLimit: 3,
        disconnectThreshold: 3,
      });
      const verdicts = [];
      for (let i = 0; i < 6; i += 1) verdicts.push(await shared.checkAsync('p'));
      expect(verdicts.map(([action]) => action)).toEqual([
        ...['allow', 'allow', 'allow'],
        ...['delay', 'delay', 'disconnect'],
      ]);
      // A thousand seconds, minus the time that the test has taken.
      expect(verdicts[3]?.[1]).toBeGreaterThan(800);
      expect(verdicts[3]?.[1]).toBeLessThanOrEqual(1000);
      expect(await shared.checkAsync('q', 4)).toEqual(['delay', Infinity]);
      expect(await shared.getViolationCount('p')).toBe(3);
      expect(shared.getStats()).toMatchObject({
        verdicts: { allow: 3, delay: 3, disconnect: 1 },
        store: { state: 'up', calls: 8, failures: 0, inFlight: 0 },
      });
      expect(codeOf(() => shared.check('p'))).toBe('ERR_LIMITER_OPTION');
    });

    it('covers most checks by leases', async () => {
      const shared = limiter({ rateLimit: 100, burstLimit: 1000 });
      for (let i = 0; i < 1000; i += 1) {
        const verdict = await shared.checkAsync('steady');
        expect(verdict).toEqual(['allow', 0]);
      }
      expect(shared.getStats().store.calls).toBeLessThanOrEqual(100);
      expect(shared.getStats().fallbackVerdicts).toBe(0);
    });

    it('answers a covered check at once, and requests a lease for another', async () => {
      const shared = limiter({ rateLimit: 0.001, burstLimit: 20 });
      expect(shared.check('p')).toEqual(['delay', NO_DEADLINE.deadlineSeconds]);
      await expect.poll(() => shared.getStats().leasedTokens).toBeGreaterThan(0);
      expect(shared.check('p')).toEqual(['allow', 0]);
      const { calls } = shared.getStats().store;
      expect(shared.check('p')).toEqual(['allow', 0]);
      expect(shared.getStats().store.calls).toBe(calls);
      expect(await shared.getViolationCount('p')).toBe(0);
    });

    it('remembers a refusal, and counts violations in the meantime', async () => {
      const shared = limiter({ rateLimit: 0.001, burstLimit: 5, disconnectThreshold: 6 });
      for (let i = 0; i < 5; i += 1) expect(await shared.checkAsync('p')).toEqual(['allow', 0]);
      expect((await shared.checkAsync('p'))[0]).toBe('delay');
      const { calls } = shared.getStats().store;
      for (let i = 0; i < 4; i += 1) expect(shared.check('p')[0]).toBe('delay');
      expect(shared.check('p')).toEqual(['disconnect', 0]);
      expect(shared.getStats().store.calls).toBe(calls);
      expect(await shared.getViolationCount('p')).toBe(6);
    });

    it('shares a bucket and its violations between two nodes', async () => {
      const a = limiter({ rateLimit: 0.001, burstLimit: 40, prefix: 'two' });
      const b = limiter({
        rateLimit: 0.001,
        burstLimit: 40,
        prefix: 'two',
        disconnectThreshold: 2,
      });
      let allowed = 0;
      for (let i = 0; i < 60; i += 1) {
        const [action] = await (i % 2 === 0 ? a : b).checkAsync('p');
        if (action === 'allow') allowed += 1;
      }
      expect(allowed).toBe(40);
      expect((await b.checkAsync('p'))[0]).toBe('disconnect');
      a.removePeer('p');
      await expect.poll(() => b.getViolationCount('p')).toBe(21);
    });

    it('returns unspent tokens if a peer is removed, and if it closes', async () => {
      const options = { rateLimit: 0.001, burstLimit: 100, prefix: 'back' };
      const a = limiter(options);
      // The second check of a peer requests a lease.
      for (const key of ['p', 'q', 'p', 'q']) await a.checkAsync(key);
      expect(a.getStats().leasedTokens).toBeGreaterThan(10);
      a.removePeer('p');
      // close() is called before the store has answered.
      expect(a.check('r')[0]).toBe('delay');
      await a.close();
      const b = limiter(options);
      expect(await b.checkAsync('r', 100)).toEqual(['allow', 0]);
      for (const key of ['p', 'q']) {
        expect(await b.checkAsync(key, 98)).toEqual(['allow', 0]);
        expect((await b.checkAsync(key))[0]).toBe('delay');
      }
    });

    it('makes few calls for many checks at once, and admits the whole burst', async () => {
      const shared = limiter({ rateLimit: 0.001, burstLimit: 100 });
      const verdicts = await Promise.all(Array.from({ length: 300 }, () => shared.checkAsync('p')));
      expect(verdicts.filter(([action]) => action === 'allow')).toHaveLength(100);
      expect(shared.getStats().store.calls).toBeLessThanOrEqual(3);
    });

    it('keeps at most maxPeers peers, and returns the tokens of evicted ones', async () => {
      const shared = limiter({ rateLimit: 0.001, burstLimit: 50, maxPeers: 10 });
      for (let i = 0; i < 200; i += 1) await shared.checkAsync(`peer-${i >> 1}`);
      expect(shared.getStats().trackedPeers).toBeLessThanOrEqual(10);
      expect(shared.getStats().evictions).toBeGreaterThanOrEqual(90);
      expect(await shared.checkAsync('peer-0', 48)).toEqual(['allow', 0]);
    });

    it.each(['strict', 'leased'] as const)(
      'treats every string as a key of its own (%s)',
      async (mode) => {
        const shared = limiter({ mode, rateLimit: 0.001, burstLimit: 1 });
        const first = await Promise.all(ODD_KEYS.map((key) => shared.checkAsync(key)));
        expect(first.every(([action]) => action === 'allow')).toBe(true);
        const second = await Promise.all(ODD_KEYS.map((key) => shared.checkAsync(key)));
        expect(second.every(([action]) => action === 'delay')).toBe(true);
      },
    );

    it.each(['strict', 'leased'] as const)(
      'returns the same verdicts if the client maps numbers to strings (%s)',
      async (mode) => {
        const mapped = await mappingClient(name, server.url);
        open.push({ close: async () => mapped.close() } as SharedRateLimiter);
        const { client } = mapped;
        const shared = limiter({
          client,
          mode,
          rateLimit: 0.001,
          burstLimit: 4,
          disconnectThreshold: 3,
        });
        const actions: string[] = [];
        for (let i = 0; i < 7; i += 1) actions.push((await shared.checkAsync('p'))[0]);
        expect(actions).toEqual([
          ...['allow', 'allow', 'allow', 'allow'],
          ...['delay', 'delay', 'disconnect'],
        ]);
        expect(await shared.getViolationCount('p')).toBe(3);
        expect(shared.getStats().store).toMatchObject({ state: 'up', failures: 0 });
      },
    );

    it('refuses invalid keys, costs and times without a call', async () => {
      const shared = limiter();
      await expect(shared.checkAsync(1 as never)).rejects.toMatchObject({
        code: 'ERR_LIMITER_KEY',
      });
      await expect(shared.checkAsync('p', -1)).rejects.toMatchObject({ code: 'ERR_LIMITER_COST' });
      expect(codeOf(() => shared.check('p', Number.NaN))).toBe('ERR_LIMITER_COST');
      const broken = limiter({ clock: () => Number.NaN });
      await expect(broken.checkAsync('p')).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOCK' });
      expect(shared.getStats().store.calls).toBe(0);
    });

    it('counts the processes that share the limit', async () => {
      const options = { prefix: 'nodes' };
      const all = [limiter(options), limiter(options), limiter(options)];
      await expect.poll(() => all.map((node) => node.getStats().store.nodes)).toEqual([3, 3, 3]);
      await (all[2] as SharedRateLimiter).close();
      await expect.poll(() => all[0]?.getStats().store.nodes).toBe(2);
    });
  },
);

// A timer for this deadline would keep the process alive for eleven days.
it.skipIf(NO_STORE)(
  'SharedRateLimiter with node-redis does not keep the process alive after close()',
  () => {
    const script = `
        import { createClient } from 'redis';
        import { SharedRateLimiter } from 'relay-limiter/redis';
        const client = await createClient({ url: '${server.url}' }).connect();
        const options = { client, deadlineSeconds: 1e6, prefix: '${PREFIX}-exit' };
        const limiter = new SharedRateLimiter(options);
        await limiter.checkAsync('p');
        await limiter.close();
        await client.close();
        console.log('closed');
      `;
    const { status, stdout } = run(script);
    expect(stdout).toBe('closed');
    expect(status).toBe(0);
  },
);
