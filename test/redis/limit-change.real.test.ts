// A limit that is changed while nodes run, on a real server and through both clients.

import { SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  type CLIENTS,
  ioRedis,
  NO_DEADLINE,
  NO_STORE,
  nodeRedis,
  PREFIX,
  storeOfTests,
  until,
} from './support/store.js';

describe.skipIf(NO_STORE)('SharedRateLimiter.update on a real server', () => {
  const real = storeOfTests();

  const start = async (which: keyof typeof CLIENTS, options: object) => {
    const own = await (which === 'ioredis' ? ioRedis : nodeRedis)(real.server.url);
    const limiter = new SharedRateLimiter({ client: own.client, ...NO_DEADLINE, ...options });
    onTestFinished(async () => {
      await limiter.close();
      own.close();
    });
    return limiter;
  };

  it.each([
    ['node-redis', 'ioredis'],
    ['ioredis', 'node-redis'],
  ] as const)('reaches nodes that run and nodes that start later (%s, %s)', async (from, to) => {
    const options = { prefix: `${PREFIX}-${from}`, rateLimit: 0.001, burstLimit: 10 };
    const one = await start(from, options);
    const two = await start(to, { ...options, mode: 'strict' });
    for (let n = 0; n < 10; n += 1) await one.checkAsync('p');
    await Promise.all([one.ready(), two.ready()]);
    await one.update({ burstLimit: 5, disconnectThreshold: 1 });
    await until(() => two.burstLimit === 5);
    expect(await two.checkAsync('p')).toEqual(['disconnect', 0]);
    const late = await start(to, options);
    // The new limit is in force before the first check.
    expect(await late.checkWithTokens('q')).toEqual(['allow', 0, 4]);
  });

  it('leaves a key alone that is not its own', async () => {
    const prefix = `${PREFIX}-foreign`;
    const key = `${prefix}{0}#limit`;
    await real.client.set(key, 'foreign');
    const limiter = await start('ioredis', { prefix });
    await expect(limiter.update({ rateLimit: 1 })).rejects.toThrow(/WRONGTYPE/);
    expect((await limiter.checkAsync('p'))[0]).toBe('allow');
    expect(await real.client.get(key)).toBe('foreign');
  });
});
