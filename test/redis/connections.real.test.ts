// Connections of a client that fail in a way of their own: cut without an error, or without a queue for commands.

import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { SharedBans, SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, it, vi } from 'vitest';
import { BadNetwork } from '../../out/soak/fleet/bad-network.js';
import { closeAfterTest, ownServer, withServer } from './support/bans.js';
import { NO_DEADLINE, NO_SERVER } from './support/store.js';

/** Clients with the options that docs/fleet.md names for connections that are cut without an error. */
const WITH_TIMEOUT = {
  async 'node-redis'(port: number): Promise<object> {
    const socket = { port, socketTimeout: 300, reconnectStrategy: 50 };
    const client = createClient({ socket, pingInterval: 100 });
    client.on('error', () => {});
    closeAfterTest(() => client.destroy());
    return client.connect();
  },
  async ioredis(port: number): Promise<object> {
    const client = new Redis({ port, socketTimeout: 300, retryStrategy: () => 50 });
    client.on('error', () => {});
    closeAfterTest(() => client.disconnect());
    return client;
  },
};

function withoutQueue(port: number): Redis {
  const client = new Redis({ port, enableOfflineQueue: false, retryStrategy: () => 50 });
  client.on('error', () => {});
  closeAfterTest(() => client.disconnect());
  return client;
}

function bansOf(client: object, prefix: string): SharedBans {
  const bans = new SharedBans({ client, prefix });
  closeAfterTest(() => bans.close());
  return bans;
}

describe.skipIf(NO_SERVER)('a connection that is cut without an error', () => {
  withServer();

  it.each(Object.entries(WITH_TIMEOUT))(
    'is replaced by SharedRateLimiter and SharedBans with socketTimeout (%s)',
    async (prefix, connect) => {
      const network = await BadNetwork.start(ownServer().port);
      closeAfterTest(() => network.close());
      const client = await connect(network.port);
      const limiter = new SharedRateLimiter({ client, prefix, onStoreFailure: 'closed' });
      closeAfterTest(() => limiter.close());
      const bans = bansOf(client, prefix);
      const elsewhere = bansOf(await connect(ownServer().port), prefix);
      // Not ready(), which rejects if the server is too slow for the timeout: the next attempt succeeds.
      const states = () =>
        [limiter.getStats().store, bans.getStats(), elsewhere.getStats()].map(({ state }) => state);
      await expect.poll(states).toEqual(['up', 'up', 'up']);

      network.loseConnections();
      let peers = 0;
      const isAdmitted = async () => {
        peers += 1;
        const [action] = await limiter.checkAsync(`peer-${peers}`);
        return action === 'allow';
      };
      // Each is a new peer, which only the store can admit.
      await expect.poll(isAdmitted).toBe(true);
      // The subscription has been replaced, too.
      elsewhere.ban('mallory', 1000);
      await expect.poll(() => bans.isBanned('mallory')).toBe(true);
      await expect.poll(() => bans.getStats().state).toBe('up');
    },
  );
});

describe.skipIf(NO_SERVER)('an ioredis client with enableOfflineQueue: false', () => {
  withServer();

  it('shares bans and limits, also if they are created before it is connected', async () => {
    const [here, there] = [1, 2].map(() => withoutQueue(ownServer().port)) as [Redis, Redis];
    const bans = [here, there].map((client) => bansOf(client, 'no-queue'));
    const limit = {
      ...{ prefix: 'no-queue', rateLimit: 0.001, burstLimit: 3 },
      ...{ onStoreFailure: 'closed' as const, ...NO_DEADLINE },
    };
    const limiters = [here, there].map((client) => new SharedRateLimiter({ client, ...limit }));
    for (const limiter of limiters) closeAfterTest(() => limiter.close());
    expect([here.status, there.status]).toEqual(['connecting', 'connecting']);

    const all = () => [...bans, ...limiters.map((one) => one.getStats().store)];
    const states = () =>
      all().map((one) => (one instanceof SharedBans ? one.getStats() : one).state);
    await expect.poll(states).toEqual(['up', 'up', 'up', 'up']);
    await Promise.all([...bans, ...limiters].map((one) => one.ready()));
    bans[0]?.ban('mallory', 1000);
    await expect.poll(() => bans[1]?.isBanned('mallory')).toBe(true);
    const verdicts = [];
    for (let n = 0; n < 4; n += 1) verdicts.push(await limiters[n % 2]?.checkAsync('peer'));
    expect(verdicts.map((verdict) => verdict?.[0])).toEqual(['allow', 'allow', 'allow', 'delay']);
  });
});

describe.skipIf(NO_SERVER)('a client of ioredis', () => {
  withServer();

  it('writes the checks of one turn of the event loop together', async () => {
    const client = new Redis({ port: ownServer().port });
    closeAfterTest(() => client.disconnect());
    const options = { client, mode: 'strict', rateLimit: 1, burstLimit: 100 } as const;
    const limiter = new SharedRateLimiter({ ...options, ...NO_DEADLINE });
    closeAfterTest(() => limiter.close());
    await limiter.checkAsync('peer');
    const one = vi.spyOn(client.stream, '_write');
    const several = vi.spyOn(client.stream, '_writev' as '_write');
    const checks = Promise.all(Array.from({ length: 50 }, () => limiter.checkAsync('peer')));
    await new Promise((resolve) => setImmediate(resolve));
    // And perhaps a heartbeat.
    expect(one.mock.calls.length + several.mock.calls.length).toBeLessThan(5);
    expect((await checks).map(([action]) => action)).toEqual(Array(50).fill('allow'));
  });
});
