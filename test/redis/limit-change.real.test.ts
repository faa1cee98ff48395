// A limit that is changed while nodes run, on a real server and through both clients.

import { SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { CHANGE_LIMIT, SYNC_LIMIT } from '../../lib/redis/store/limit-version.js';
import { SimulatedStore } from './support/simulated-store.js';
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

  it('stores what SimulatedStore stores', async () => {
    const limit = { rateLimit: 1, burstLimit: 1, disconnectThreshold: null };
    const times = { leaseSeconds: 1, shortLeaseSeconds: 1 };
    const simulated = new SimulatedStore({ ...limit, ...times }, () => Date.now() / 1000);
    const key = `${PREFIX}-texts{0}#limit`;
    const both = async (script: string, ...args: string[]) => {
      const reply = String(await real.client.eval(script, { keys: [key], arguments: args }));
      const expected = String(simulated.eval(script, [key], args));
      // All but the number, which is a time.
      const [mark, number, ...limits] = reply.split('|');
      const [expectedMark, expectedNumber, ...expectedLimits] = expected.split('|');
      expect([mark, limits]).toEqual([expectedMark, expectedLimits]);
      if (script === CHANGE_LIMIT) {
        expect(Math.abs(Number(number) - Number(expectedNumber))).toBeLessThan(600_000);
      }
      return reply;
    };
    expect(await both(SYNC_LIMIT, '')).toBe('');
    const first = await both(CHANGE_LIMIT, '2 1 -', '1 1 -', '');
    for (let n = 3; n < 16; n += 1) await both(CHANGE_LIMIT, `${n} = 5`, 'ignored', first);
    // One that was the limit before, and one that is the limit already.
    await both(CHANGE_LIMIT, '9 1 =', '15 1 5', '');
    const last = await both(CHANGE_LIMIT, '9 1 5', '9 1 5', '');
    expect(last.split('|').at(-1)).toBe('1 1 -');
    expect(await both(SYNC_LIMIT, first)).toBe(last);
    await real.client.del(key);
    simulated.flush();
    expect(await both(SYNC_LIMIT, last)).toBe(last);
    expect(await real.client.ttl(key)).toBeGreaterThan(80_000);
    // A change after a loss of data exceeds what a node remembers of before, also if that is of a clock that was set back.
    await real.client.del(key);
    simulated.flush();
    const ahead = `rll1|9000000000000|${last.split('|').slice(2).join('|')}`;
    expect(await both(CHANGE_LIMIT, '= 7 -', 'ignored', ahead)).toMatch(
      /^rll1\|9000000000001\|9 7 -\|9 1 5\|/,
    );
  });
});
