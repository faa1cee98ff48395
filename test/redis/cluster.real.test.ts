// A cluster of three servers: peers are spread over all of them, and the bound holds while a slot moves.

import { SharedBans, SharedRateLimiter } from 'relay-limiter/redis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { shardOf } from '../../lib/redis/store/keys.js';
import { excess } from '../../out/examples/fleet/bound.js';
import { findServer } from '../../out/examples/fleet/server.js';
import { StoreCluster } from '../../out/soak/fleet/store-cluster.js';
import { Flood } from './support/flood.js';
import { NO_DEADLINE, NO_SERVER, type TestClient } from './support/store.js';

let cluster: StoreCluster;
beforeAll(async () => {
  if (NO_SERVER === false) cluster = await StoreCluster.start(findServer() as string);
});
afterAll(() => cluster?.close());

describe.skipIf(NO_SERVER).each(['nodeRedis', 'ioRedis'] as const)(
  'on a cluster, with %s,',
  (connect) => {
    let redis: TestClient;
    const open: { close(): Promise<void> }[] = [];
    beforeAll(async () => {
      redis = await cluster[connect]();
    });
    afterEach(async () => {
      await Promise.all(open.splice(0).map((one) => one.close()));
    });
    afterAll(() => redis?.close());

    function limiter(mode: 'leased' | 'strict', rateLimit: number, burstLimit: number) {
      const { client } = redis;
      const limit = { mode, rateLimit, burstLimit, ...NO_DEADLINE, prefix: connect };
      const made = new SharedRateLimiter({ client, ...limit });
      open.push(made);
      return made;
    }

    it.each(['strict', 'leased'] as const)(
      'SharedRateLimiter spreads peers over all servers (%s)',
      async (mode) => {
        const shared = limiter(mode, 0.001, 3);
        const keys = Array.from({ length: 200 }, (_, i) => `${mode}-${i}`);
        for (let i = 0; i < 4; i += 1) {
          const verdicts = await Promise.all(keys.map((key) => shared.checkAsync(key)));
          const allowed = verdicts.filter(([action]) => action === 'allow').length;
          expect(allowed).toBe(i < 3 ? 200 : 0);
        }
        for (const size of await cluster.sizes()) expect(size).toBeGreaterThan(20);
        expect(shared.getStats()).toMatchObject({ fallbackVerdicts: 0, store: { state: 'up' } });
      },
    );

    it('SharedRateLimiter keeps the bound while a slot moves', async () => {
      const nodes = [1, 2, 3].map(() => limiter('leased', 100, 40));
      const flood = new Flood(nodes);
      await flood.untilAdmitted();
      await cluster.moveSlotOf(`{${shardOf('flood')}}`);
      await flood.untilAdmitted();
      await flood.stop();
      expect(excess(flood.admissions, 100, 40)).toBeLessThanOrEqual(1e-6);
      for (const node of nodes) expect(node.getStats().fallbackVerdicts).toBe(0);
    });

    describe('SharedBans', () => {
      const channel = `${connect}:{bans}`;

      async function bansOf(...clients: object[]): Promise<[SharedBans, SharedBans]> {
        const made = clients.map(
          (client) => new SharedBans({ client, prefix: connect, ...NO_DEADLINE }),
        );
        open.push(...made);
        for (const one of made) await expect.poll(() => one.getStats().state).toBe('up');
        return made as [SharedBans, SharedBans];
      }

      /** Bans a peer, and waits until the other process has got the message. A reading of all bans does not count. */
      async function untilReceived(from: SharedBans, to: SharedBans): Promise<void> {
        let n = 0;
        const { received } = to.getStats();
        await expect
          .poll(() => {
            n += 1;
            from.ban(`${connect} ${n}`, 600);
            return to.getStats().received;
          })
          .toBeGreaterThan(received);
      }

      it('shares and lifts bans on the server that has their hash slot', async () => {
        const [a, b] = await bansOf(redis.client, redis.client);
        a.ban('p', 600);
        await expect.poll(() => b.isBanned('p')).toBe(true);
        b.lift('p');
        await expect.poll(() => a.isBanned('p')).toBe(false);
        expect(await cluster.subscriptions(channel)).toEqual({ sharded: 2, plain: 0 });
      });

      it('follows its hash slot to another server', async () => {
        const [a, b] = await bansOf(redis.client, redis.client);
        await untilReceived(a, b);
        await cluster.moveSlotOf(channel);
        await untilReceived(a, b);
        await untilReceived(b, a);
        await expect.poll(() => cluster.subscriptions(channel)).toEqual({ sharded: 2, plain: 0 });
        for (const one of [a, b]) await expect.poll(() => one.getStats().state).toBe('up');
      });

      it('subscribes again when the server was killed and is back', async () => {
        const [a, b] = await bansOf(redis.client, redis.client);
        await untilReceived(a, b);
        const start = await cluster.killServerOf(channel);
        await expect.poll(() => b.getStats().state).toBe('down');
        await start();
        await untilReceived(a, b);
        // The process that bans may subscribe again after the one that receives.
        await expect.poll(() => cluster.subscriptions(channel)).toEqual({ sharded: 2, plain: 0 });
        expect(b.isBanned(`${connect} 1`)).toBe(true);
      });

      it('is on the channel of all servers while the sharded one is forbidden, and not afterwards', async () => {
        await cluster.sendToAll('ACL SETUSER default -ssubscribe');
        const [a, b] = await bansOf(redis.client, redis.client).finally(async () => {
          await cluster.sendToAll('ACL SETUSER default +ssubscribe');
        });
        await untilReceived(a, b);
        // A process tries the sharded channel again after at most a second.
        await expect.poll(() => cluster.subscriptions(channel)).toEqual({ sharded: 2, plain: 0 });
        await untilReceived(a, b);
        for (const one of [a, b]) expect(one.getStats().state).toBe('up');
      });

      it('reaches a process whose client has no sharded subscriptions, and is reached by it', async () => {
        const names = ['sSubscribe', 'ssubscribe', 'nodeClient', 'nodes'];
        const client = new Proxy(redis.client, {
          get(target, name) {
            if (names.includes(String(name))) return undefined;
            const value = Reflect.get(target, name, target);
            return typeof value === 'function' ? value.bind(target) : value;
          },
        });
        const [a, b] = await bansOf(redis.client, client);
        await untilReceived(a, b);
        await untilReceived(b, a);
        expect(await cluster.subscriptions(channel)).toEqual({ sharded: 1, plain: 1 });
      });
    });
  },
);
