// SharedRuleLimiter on a real server, with each client: what several nodes admit together, bans of all, and what goes back
// to the store. Buckets refill so slowly that they get no token during a test.

import { createClient } from 'redis';
import { SharedRuleLimiter, type SharedRuleLimiterOptions } from 'relay-limiter/redis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Store } from '../../../out/examples/fleet/server.js';
import { ENGINES } from '../../support/limiters.js';
import {
  anyStore,
  CLIENTS,
  mappingClient,
  NO_DEADLINE,
  NO_STORE,
  PREFIX,
  type TestClient,
} from '../support/store.js';

type Options = Omit<SharedRuleLimiterOptions, 'client'>;

const RULES: Options = {
  scopes: { connection: {}, address: { kind: 'address' }, server: { single: true } },
  rules: {
    messages: { scope: 'connection', rateLimit: 1e-6, burstLimit: 40 },
    events: { scope: 'address', rateLimit: 1e-6, burstLimit: 100 },
    everybody: { scope: 'server', rateLimit: 1e-6, burstLimit: 500 },
  },
};

let server: Store;
beforeAll(async () => {
  if (NO_STORE === false) server = await anyStore();
});
afterAll(() => server?.close());

describe.skipIf(NO_STORE).each(Object.entries(CLIENTS))(
  'SharedRuleLimiter with %s',
  (name, connect) => {
    const clients: TestClient[] = [];
    const open: SharedRuleLimiter[] = [];
    let prefixes = 0;
    afterEach(async () => {
      await Promise.all(open.splice(0).map((limiter) => limiter.close()));
      for (const { close } of clients.splice(0)) close();
    });

    /** Nodes of one fleet, each with a client of its own. */
    async function fleet(nodes: number, options: Options): Promise<SharedRuleLimiter[]> {
      prefixes += 1;
      const prefix = `${PREFIX}-rules-${prefixes}-${name}`;
      const made: SharedRuleLimiter[] = [];
      for (let n = 0; n < nodes; n += 1) {
        const client = await connect(server.url);
        clients.push(client);
        made.push(
          new SharedRuleLimiter({ client: client.client, prefix, ...NO_DEADLINE, ...options }),
        );
      }
      open.push(...made);
      await Promise.all(made.map((limiter) => limiter.ready()));
      return made;
    }

    it.each(['leased', 'strict'] as const)(
      'admits no more than each rule allows, of many checks at once by three nodes in mode %s',
      async (mode) => {
        const nodes = await fleet(3, { ...RULES, mode });
        const admitted = new Map<string, number>();
        const count = (bucket: string) => admitted.set(bucket, (admitted.get(bucket) ?? 0) + 1);
        const worker = async (limiter: SharedRuleLimiter, first: number) => {
          for (let n = 0; n < 60; n += 1) {
            const connection = `c${(first + n) % 5}`;
            const address = `192.0.2.${(first + n) % 2}`;
            const { outcome } = await limiter.checkAsync({ connection, address });
            if (outcome === 'allow') for (const bucket of [connection, address]) count(bucket);
          }
        };
        const workers = nodes.flatMap((limiter, node) =>
          Array.from({ length: 5 }, (_, at) => worker(limiter, node + at)),
        );
        await Promise.all(workers);
        for (const [bucket, tokens] of admitted) {
          expect(tokens, bucket).toBeLessThanOrEqual(bucket.startsWith('c') ? 40 : 100);
        }
        const all = [...admitted].filter(([bucket]) => bucket.startsWith('c'));
        const total = all.reduce((sum, [, tokens]) => sum + tokens, 0);
        // 900 checks for 200 tokens: in mode strict none is left over.
        expect(total).toBeGreaterThan(mode === 'strict' ? 199 : 100);
      },
    );

    it('returns its leases to the store when it closes', async () => {
      const [first, second] = (await fleet(2, RULES)) as [SharedRuleLimiter, SharedRuleLimiter];
      const keys = { connection: 'c', address: '192.0.2.7' };
      for (let n = 0; n < 8; n += 1) await first.checkAsync(keys);
      expect(first.getStats().leasedTokens).toBeGreaterThan(0);
      await first.close();
      const { rules } = await second.peek(keys);
      expect(rules.map(({ rule, remaining }) => [rule, Math.round(remaining)])).toEqual([
        ['messages', 32],
        ['events', 92],
        ['everybody', 492],
      ]);
    });

    it.each(ENGINES)('bans on all nodes, and counts offenders on the %s engine', async (engine) => {
      const [first, second] = (await fleet(2, {
        ...RULES,
        engine,
        mode: 'strict',
        rules: { messages: { scope: 'address', rateLimit: 1e-6, burstLimit: 1 } },
        bans: { address: { violations: 2.5, withinSeconds: 1e6, seconds: [6000, 60_000] } },
      })) as [SharedRuleLimiter, SharedRuleLimiter];
      const keys = { address: '192.0.2.7' };
      const outcomes: string[] = [];
      for (const limiter of [first, first, second, first, second]) {
        outcomes.push((await limiter.checkAsync(keys)).outcome);
      }
      expect(outcomes.slice(0, 4)).toEqual(['allow', 'delay', 'delay', 'banned']);
      await expect.poll(() => second.banSecondsLeft('address', '192.0.2.7')).toBeGreaterThan(5000);
      expect(await second.checkAsync(keys)).toMatchObject({ outcome: 'banned', scope: 'address' });
      const stats = first.getStats().scopes['address'];
      expect(stats).toMatchObject({ totalViolations: 2, bansBegun: 1, bans: 1 });
      expect(stats?.violators).toEqual([['192.0.2.7', 2]]);
      expect(first.scope('address').getOverview()).toMatchObject({
        verdicts: { allow: 1, delay: 1, disconnect: 1 },
      });
      expect(second.unban('address', '192.0.2.7')).toBe(true);
      await expect.poll(() => first.banSecondsLeft('address', '192.0.2.7')).toBe(0);
    });

    it('keeps a peer apart from a name that only looks like its key, and long names as digests', async () => {
      const [limiter] = (await fleet(1, {
        scopes: { 'a:b': {}, a: {} },
        mode: 'strict',
        rules: {
          c: { scope: 'a:b', rateLimit: 1e-6, burstLimit: 1 },
          'b:c': { scope: 'a', rateLimit: 1e-6, burstLimit: 1 },
        },
      })) as [SharedRuleLimiter];
      const long = 'x'.repeat(10_000);
      for (const keys of [
        { 'a:b': 'k' },
        { a: 'k' },
        { a: '{k}' },
        { a: long },
        { a: `${long}x` },
      ]) {
        expect((await limiter.checkAsync(keys)).outcome).toBe('allow');
        expect((await limiter.checkAsync(keys)).outcome).toBe('delay');
      }
    });
  },
);

describe.skipIf(NO_STORE)('SharedRuleLimiter', () => {
  it.each(['node-redis', 'ioredis'])(
    'reads the replies of a client with other types (%s)',
    async (which) => {
      const { client, close } = await mappingClient(which, server.url);
      const prefix = `${PREFIX}-mapped-${which}`;
      const limiter = new SharedRuleLimiter({ client, prefix, ...NO_DEADLINE, ...RULES });
      const verdicts: string[] = [];
      for (let n = 0; n < 41; n += 1) {
        verdicts.push((await limiter.checkAsync({ connection: 'c' })).outcome);
      }
      await limiter.close();
      close();
      expect(verdicts.indexOf('delay')).toBe(40);
    },
  );

  it('refuses the key of somebody else, names it, and leaves it as it is', async () => {
    const client = createClient({ url: server.url });
    await client.connect();
    const prefix = `${PREFIX}-foreign`;
    const key = `{${prefix}}:rules:connection:messages:c`;
    await client.set(key, 'mine');
    const limiter = new SharedRuleLimiter({ client, prefix, ...NO_DEADLINE, ...RULES });
    const errors: Error[] = [];
    limiter.on('failure', (error) => errors.push(error));
    expect((await limiter.checkAsync({ connection: 'c' })).outcome).toBe('delay');
    expect(errors.map(({ message }) => message)).toEqual([expect.stringContaining('WRONGTYPE')]);
    expect((await limiter.checkAsync({ connection: 'd' })).outcome).toBe('allow');
    await limiter.close();
    expect(await client.get(key)).toBe('mine');
    client.destroy();
  });
});
