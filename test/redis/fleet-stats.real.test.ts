// What all processes report, on a real server and through both clients.

import { SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { REPORT, readFleetReply } from '../../lib/redis/store/fleet-scripts.js';
import { SimulatedStore } from './support/simulated-store.js';
import {
  ioRedis,
  NO_DEADLINE,
  NO_STORE,
  nodeRedis,
  PREFIX,
  storeOfTests,
} from './support/store.js';

describe.skipIf(NO_STORE)('SharedRateLimiter.getFleetStats on a real server', () => {
  const real = storeOfTests();

  const start = async (open: typeof ioRedis | typeof nodeRedis, options: object) => {
    const own = await open(real.server.url);
    const limiter = new SharedRateLimiter({ client: own.client, ...NO_DEADLINE, ...options });
    onTestFinished(async () => {
      await limiter.close();
      own.close();
    });
    return limiter;
  };

  it('adds up what processes with different clients and modes have done', async () => {
    const options = { prefix: `${PREFIX}-fleet`, rateLimit: 0.001, burstLimit: 2 };
    const one = await start(ioRedis, { ...options, mode: 'strict' });
    const two = await start(nodeRedis, options);
    const odd = 'a|b "{}" \ud800 ü';
    for (let n = 0; n < 5; n += 1) await one.checkAsync(odd);
    await two.checkAsync(odd);
    await one.getFleetStats();
    const { nodes, verdicts, offenders } = await two.getFleetStats();
    expect(nodes).toBe(2);
    expect(verdicts).toEqual({ allow: 2, delay: 4, disconnect: 0 });
    expect(offenders).toEqual([{ key: odd, refusals: 4 }]);
  });

  it('leaves a key alone that is not its own', async () => {
    const prefix = `${PREFIX}-not-fleet`;
    const key = `${prefix}{0}#fleet`;
    await real.client.hSet(key, 'foreign', '1');
    const limiter = await start(ioRedis, { prefix });
    await expect(limiter.getFleetStats()).rejects.toThrow(/WRONGTYPE/);
    expect((await limiter.checkAsync('p'))[0]).toBe('allow');
    await limiter.close();
    expect(await real.client.hGetAll(key)).toEqual({ foreign: '1' });
  });

  it('replies what SimulatedStore replies, and drops reports of processes that are gone', async () => {
    const limit = { rateLimit: 1, burstLimit: 1, disconnectThreshold: null };
    const times = { leaseSeconds: 1, shortLeaseSeconds: 1 };
    const simulated = new SimulatedStore({ ...limit, ...times }, () => 1.7e9);
    const key = `${PREFIX}-reports{0}#fleet`;
    const none = '0 0 0 0 0';
    const names = ['allow', 'delay', 'disconnect', 'fallback', 'overload'] as const;
    const both = async (...args: string[]) => {
      const reply = await real.client.eval(REPORT, { keys: [key], arguments: args });
      const [totals, , ...reports] = (reply as string[]).map(String);
      const [expected, , ...others] = simulated.eval(REPORT, [key], args) as string[];
      const withoutTime = (texts: string[]) => texts.map((text) => text.replace(/^\d+\|/, '|'));
      expect(totals).toBe(expected);
      const isReport = (text: string) => text.includes('|');
      expect(withoutTime(reports.filter(isReport)).sort()).toEqual(withoutTime(others).sort());
      return readFleetReply(names, reply);
    };
    await both('1', '5 4 3 2 1', none, '[["p",3]]', 'totals');
    await both('2', '1 1 1 1 9007199254740000', none, '[]', 'all');
    // Again, an older one, and one after a loss of its field.
    await both('1', '5 4 3 2 1', none, '[["p",3]]', 'all');
    await both('1', '4 4 3 2 0', none, '[["p",3]]', 'all');
    const last = await both('3', '9 9 9 9 9', '8 8 8 8 8', '[["p",1]]', 'all');
    expect(last?.totals).toEqual({
      ...{ allow: 7, delay: 6, disconnect: 5, fallback: 4, overload: 9007199254740002 },
    });
    expect(last?.refused.filter((peers) => peers.length > 0)).toHaveLength(2);
    for (let node = 1000; node < 1200; node += 1) {
      await real.client.hSet(key, String(node), `1000|${none}|[]`);
    }
    await real.client.eval(REPORT, { keys: [key], arguments: ['1', none, none, '[]', 'totals'] });
    expect((await real.client.hKeys(key)).sort()).toEqual(['1', '2', '3', 'most', 'relay-limiter']);
    expect(await real.client.ttl(key)).toBeGreaterThan(80_000);
  });
});
