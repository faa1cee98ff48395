// The scripts on a real server: their results are bit-identical to those of RateLimiter, and to those of the
// SimulatedStore on which simulations run.

import fc from 'fast-check';
import { createClient } from 'redis';
import { RateLimiter } from 'relay-limiter';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BAN, LIFT } from '../../lib/redis/bans/ban-scripts.js';
import { createStoreClient } from '../../lib/redis/store/client.js';
import type { Limit } from '../../lib/redis/store/limit.js';
import { createScript, type ScriptName } from '../../lib/redis/store/limit-scripts.js';
import type { Store } from '../../out/examples/fleet/server.js';
import { SimulatedStore } from './support/simulated-store.js';
import { anyStore, mappingClient, NO_STORE, PREFIX } from './support/store.js';

// The test passes the time as the last argument.
const CLOCK = 'local now = tonumber(ARGV[#ARGV])';
const NEVER_LATE = '1e300';
const LETTERS = { allow: 'a', delay: 'w', disconnect: 'd' } as const;
const NO_LEASES = { leaseSeconds: 1, shortLeaseSeconds: 1 };

const number = (min: number, max: number) => fc.double({ min, max, noNaN: true });
const anyLimit: fc.Arbitrary<Limit> = fc.record({
  rateLimit: fc.oneof(number(0.001, 1000), fc.constant(1e-7), fc.constant(1e21)),
  burstLimit: number(1, 300),
  disconnectThreshold: fc.option(fc.nat(5)),
  leaseSeconds: number(0.1, 20),
  shortLeaseSeconds: number(0.05, 0.1),
});
const anyStep = fc.oneof(
  { weight: 5, arbitrary: number(0, 3) },
  { weight: 1, arbitrary: number(-2, 100) },
);
const anyCost = fc.oneof(fc.nat(3), number(0, 10), fc.constant(1000));

describe.skipIf(NO_STORE)('the Lua scripts', () => {
  let server: Store;
  let client: ReturnType<typeof createClient>;
  let keys = 0;
  beforeAll(async () => {
    server = await anyStore();
    client = createClient({ url: server.url });
    await client.connect();
  });
  afterAll(async () => {
    client.destroy();
    await server.close();
  });

  const run = (
    name: ScriptName,
    limit: Limit,
    keys: string | string[],
    args: string[],
    now: number,
  ) =>
    client.eval(createScript(name, limit, 'run', CLOCK).text, {
      keys: [keys].flat().map((key) => `${PREFIX}:${key}`),
      arguments: [...args, String(now)],
    });

  it('return verdicts that are bit-identical to those of RateLimiter', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyLimit,
        number(0, 2e9),
        fc.array(fc.record({ step: anyStep, cost: anyCost }), { minLength: 1, maxLength: 30 }),
        async (limit, start, checks) => {
          const { rateLimit, burstLimit, disconnectThreshold } = limit;
          let now = start;
          const clock = () => now;
          const local = new RateLimiter({ rateLimit, burstLimit, disconnectThreshold, clock });
          keys += 1;
          const replies: string[] = [];
          const verdicts: unknown[] = [];
          for (const { step, cost } of checks) {
            now += step;
            const args = [NEVER_LATE, String(cost)];
            replies.push(String(await run('strict', limit, `strict-${keys}`, args, now)));
            const [action] = local.check('p', cost);
            verdicts.push([LETTERS[action], local.getTokens('p')]);
          }
          expect(replies.map((text) => [text[0], Number(text.slice(1))])).toEqual(verdicts);
        },
      ),
      { numRuns: 100 },
    );
  });

  it.each(['node-redis', 'ioredis'])(
    'reply a text that a client with other types does not change (%s)',
    async (which) => {
      const mapped = await mappingClient(which, server.url);
      const store = createStoreClient(mapped.client);
      const limit = { rateLimit: 1, burstLimit: 1, disconnectThreshold: null, ...NO_LEASES };
      const { text } = createScript('strict', limit, 'run', CLOCK);
      const check = () => store.eval(text, [`${PREFIX}:second-${which}`], [NEVER_LATE, '1', '5']);
      const replies = [String(await check()), String(await check())];
      store.release();
      mapped.close();
      expect(replies).toEqual(['a0', 'w0']);
    },
  );

  const anyNode = fc.integer({ min: 1, max: 3 });
  const anyOutage = fc.oneof(
    { weight: 6, arbitrary: fc.constant(undefined) },
    {
      weight: 1,
      arbitrary: fc.record({
        ago: number(-5, 5),
        lost: number(0, 200),
        emptyUntil: number(-6, 5),
        halfUntil: number(-5, 5),
        back: fc.oneof(fc.constant(0), number(0, 10)),
      }),
    },
  );
  const anyCall = fc.record({
    step: anyStep,
    outage: anyOutage,
    isLate: fc.integer({ min: 0, max: 19 }).map((n) => n === 0),
    call: fc.oneof(
      fc.record({ name: fc.constant('strict' as const), rest: fc.tuple(anyCost) }),
      fc.record({ name: fc.constant('read' as const), rest: fc.constant([]) }),
      fc.record({
        name: fc.constant('release' as const),
        rest: fc.tuple(anyNode, fc.nat(5), number(0, 20), fc.nat(3)),
      }),
      fc.record({
        name: fc.constant('lease' as const),
        rest: fc
          .tuple(
            anyNode,
            fc.nat(5),
            number(0, 20),
            fc.nat(3),
            fc.nat(5),
            anyCost,
            anyCost,
            fc.nat(50),
          )
          .map(([node, known, left, violations, id, a, b, ahead]) => {
            return [node, known, left, violations, id, Math.min(a, b), Math.max(a, b), ahead];
          }),
      }),
    ),
  });

  it('return results that are bit-identical to those of SimulatedStore', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyLimit,
        fc.array(anyCall, { minLength: 1, maxLength: 40 }),
        async (limit, calls) => {
          let now = 1.7e9;
          const simulated = new SimulatedStore(limit, () => now);
          keys += 1;
          for (const { step, outage, isLate, call } of calls) {
            now += step;
            let rest = '';
            if (outage !== undefined) {
              const { ago, lost, emptyUntil, halfUntil, back } = outage;
              rest = ` ${now - ago} ${lost} ${now + emptyUntil} ${now + halfUntil} ${back}`;
            }
            const latest = isLate ? String(now - 1) : NEVER_LATE;
            const args = [`${latest}${rest}`, ...call.rest.map(String)];
            const reply = await run(call.name, limit, `lease-${keys}`, args, now);
            expect(numbers(reply)).toEqual(numbers(simulated.run(call.name, ['p'], args, now)));
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  it.each([
    ['BAN', BAN, ['60', '7']],
    ['LIFT', LIFT, []],
  ])('of bans change nothing after their latest time (%s)', async (name, text, values) => {
    const bans = `${PREFIX}-late-${name}:{bans}`;
    const keys = [bans, `${bans}:version`, `${bans}:p`];
    const change = (latest: string, script = text, rest = values) =>
      client.eval(script, {
        keys,
        arguments: ['"p"', 'epoch', 'node', latest, ...rest, bans],
      });
    expect(await change('1')).toBe('late');
    expect(await client.exists(keys)).toBe(0);
    // An existing ban stays unchanged.
    expect(await change(NEVER_LATE, BAN, ['600', '1'])).toBe(1);
    const ban = await client.get(`${bans}:p`);
    expect(await change('1')).toBe('late');
    expect(await client.get(`${bans}:p`)).toBe(ban);
    expect(await client.hGet(`${bans}:version`, 'version')).toBe('1');
  });

  it('refuse a foreign key and leave it unchanged', async () => {
    const limit = {
      rateLimit: 1,
      burstLimit: 1,
      disconnectThreshold: null,
      leaseSeconds: 1,
      shortLeaseSeconds: 1,
    };
    await client.set(`${PREFIX}:text`, 'hello');
    await client.hSet(`${PREFIX}:hash`, 'field', 'value');
    for (const key of ['text', 'hash']) {
      for (const name of ['strict', 'lease', 'read'] as const) {
        const args = [NEVER_LATE, '1', '0', '0', '0', '1', '1', '1', '1'];
        await expect(run(name, limit, key, args, 1)).rejects.toThrow('WRONGTYPE');
      }
    }
    // Leases of other peers are returned all the same.
    const lease = [NEVER_LATE, '1', '0', '0', '0', '5', '1', '1', '0'];
    await run('lease', { ...limit, burstLimit: 10 }, 'peer', lease, 1);
    const release = [NEVER_LATE, '1', '0', '0', '0', '0', '0', '0', '5', '1', '0'];
    const peers = ['text', 'hash', 'peer'];
    expect(await run('release', { ...limit, burstLimit: 10 }, peers, release, 1)).toBe(3);
    const read = await run('read', { ...limit, burstLimit: 10 }, 'peer', [NEVER_LATE], 1);
    expect(read).toEqual(['10', 0]);
    expect(await client.get(`${PREFIX}:text`)).toBe('hello');
    expect(await client.hGetAll(`${PREFIX}:hash`)).toEqual({ field: 'value' });
  });

  it('let every key expire', async () => {
    const times = { leaseSeconds: 10_000, shortLeaseSeconds: 0.5 };
    const limit = { rateLimit: 1, burstLimit: 1000, disconnectThreshold: null, ...times };
    /** Expects a time to live in seconds, minus what this test may have taken. */
    const expectTtl = async (key: string, seconds: number) => {
      const left = (await client.pTTL(`${PREFIX}:${key}`)) / 1000;
      expect(left).toBeGreaterThan(seconds - 200);
      expect(left).toBeLessThanOrEqual(seconds);
    };
    // The lifetime of leases, the time to fill the bucket, and one second to spare.
    await run('strict', limit, 'good', [NEVER_LATE, '1'], 1);
    await expectTtl('good', 11_001);
    const short = { ...limit, burstLimit: 10, leaseSeconds: 30 };
    await run('strict', short, 'bad', [NEVER_LATE, '11'], 1);
    await expectTtl('bad', 3601);
  });
});

function numbers(reply: unknown): unknown {
  if (Array.isArray(reply)) return reply.map(numbers);
  return reply === 'late' || reply === 'inf' ? reply : Number(reply);
}
