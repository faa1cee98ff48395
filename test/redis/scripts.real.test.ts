// The scripts on a real server: the answers of RateLimiter, bit for bit, and those of the twin that
// simulations run on.

import fc from 'fast-check';
import { createClient } from 'redis';
import { RateLimiter } from 'relay-limiter';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BAN, LIFT } from '../../lib/redis/bans/ban-scripts.js';
import { storeClient } from '../../lib/redis/store/client.js';
import { type Limit, type ScriptName, script } from '../../lib/redis/store/limit-scripts.js';
import type { Store } from '../../out/examples/fleet/server.js';
import { anyStore, mappingClient, NO_STORE, PREFIX } from './support/store.js';
import { Twin } from './support/twin.js';

// Time is what the test says, by the last argument.
const CLOCK = 'local now = tonumber(ARGV[#ARGV])';
const NEVER_LATE = '1e300';
const NO_LEASES = { leaseSeconds: 1, dearSeconds: 1 };

const number = (min: number, max: number) => fc.double({ min, max, noNaN: true });
const anyLimit: fc.Arbitrary<Limit> = fc.record({
  rateLimit: fc.oneof(number(0.001, 1000), fc.constant(1e-7), fc.constant(1e21)),
  burstLimit: number(1, 300),
  disconnectThreshold: fc.option(fc.nat(5)),
  leaseSeconds: number(0.1, 20),
  dearSeconds: number(0.05, 0.1),
});
const anyStep = fc.oneof(
  { weight: 5, arbitrary: number(0, 3) },
  { weight: 1, arbitrary: number(-2, 100) },
);
const anyCost = fc.oneof(fc.nat(3), number(0, 10), fc.constant(1000));

describe.skipIf(NO_STORE)('the scripts', () => {
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

  const run = (name: ScriptName, limit: Limit, key: string, args: string[], now: number) =>
    client.eval(script(name, limit, 'run', CLOCK).text, {
      keys: [`${PREFIX}:${key}`],
      arguments: [...args, String(now)],
    });

  it('decide as a RateLimiter does, to the last bit', async () => {
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
          const replies: unknown[] = [];
          const verdicts: unknown[] = [];
          for (const { step, cost } of checks) {
            now += step;
            const args = [NEVER_LATE, String(cost)];
            replies.push(await run('strict', limit, `strict-${keys}`, args, now));
            const [action, delay] = local.check('p', cost);
            if (action === 'delay') verdicts.push(delay);
            else verdicts.push(action === 'allow' ? 1 : 0);
          }
          const said = replies.map((reply) => (reply === 'inf' ? Infinity : Number(reply)));
          expect(said).toEqual(verdicts);
        },
      ),
      { numRuns: 100 },
    );
  });

  // To a client that maps numbers to texts, the number that means allow is the text 1.
  it.each(['node-redis', 'ioredis'])(
    'say a delay of one second so that it is no 1 (%s)',
    async (which) => {
      const mapped = await mappingClient(which, server.url);
      const store = storeClient(mapped.client);
      const limit = { rateLimit: 1, burstLimit: 1, disconnectThreshold: null, ...NO_LEASES };
      const { text } = script('strict', limit, 'run', CLOCK);
      const check = () => store.eval(text, [`${PREFIX}:second-${which}`], [NEVER_LATE, '1', '5']);
      expect(String(await check())).toBe('1');
      const delay = String(await check());
      store.release();
      mapped.close();
      expect(delay).not.toBe('1');
      expect(Number(delay)).toBe(1);
    },
  );

  const anyHolder = fc.integer({ min: 1, max: 3 });
  const anyGap = fc.oneof(
    { weight: 6, arbitrary: fc.constant(undefined) },
    {
      weight: 1,
      arbitrary: fc.record({
        ago: number(0, 5),
        lost: number(0, 200),
        empty: number(-6, 5),
        held: number(-5, 5),
      }),
    },
  );
  const anyCall = fc.record({
    step: anyStep,
    gap: anyGap,
    isLate: fc.integer({ min: 0, max: 19 }).map((n) => n === 0),
    what: fc.oneof(
      fc.record({ name: fc.constant('strict' as const), rest: fc.tuple(anyCost) }),
      fc.record({ name: fc.constant('look' as const), rest: fc.constant([]) }),
      fc.record({
        name: fc.constant('leave' as const),
        rest: fc.tuple(anyHolder, fc.nat(5), number(0, 20), fc.nat(3)),
      }),
      fc.record({
        name: fc.constant('lease' as const),
        rest: fc
          .tuple(
            anyHolder,
            fc.nat(5),
            number(0, 20),
            fc.nat(3),
            fc.nat(5),
            anyCost,
            anyCost,
            fc.nat(50),
          )
          .map(([holder, known, left, told, id, a, b, ahead]) => {
            return [holder, known, left, told, id, Math.min(a, b), Math.max(a, b), ahead];
          }),
      }),
    ),
  });

  it('do what their twin does, to the last bit', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyLimit,
        fc.array(anyCall, { minLength: 1, maxLength: 40 }),
        async (limit, calls) => {
          let now = 1.7e9;
          const twin = new Twin(limit, () => now);
          keys += 1;
          for (const { step, gap, isLate, what } of calls) {
            now += step;
            const told = gap
              ? ` ${now - gap.ago} ${gap.lost} ${now + gap.empty} ${now + gap.held}`
              : '';
            const latest = isLate ? String(now - 1) : NEVER_LATE;
            const args = [`${latest}${told}`, ...what.rest.map(String)];
            const reply = await run(what.name, limit, `lease-${keys}`, args, now);
            expect(numbers(reply)).toEqual(numbers(twin.run(what.name, 'p', args, now)));
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  it.each([
    ['BAN', BAN, ['60', '7']],
    ['LIFT', LIFT, []],
  ])('%s changes nothing once its latest time has passed', async (name, text, what) => {
    const bans = `${PREFIX}-late-${name}:{bans}`;
    const keys = [bans, `${bans}:version`, `${bans}:p`];
    const change = (latest: string, script = text, rest = what) =>
      client.eval(script, {
        keys,
        arguments: ['"p"', 'epoch', 'node', latest, ...rest, bans],
      });
    expect(await change('1')).toBe('late');
    expect(await client.exists(keys)).toBe(0);
    // With a ban there, it stays as it is.
    expect(await change(NEVER_LATE, BAN, ['600', '1'])).toBe(1);
    const ban = await client.get(`${bans}:p`);
    expect(await change('1')).toBe('late');
    expect(await client.get(`${bans}:p`)).toBe(ban);
    expect(await client.hGet(`${bans}:version`, 'version')).toBe('1');
  });

  it('touch no key that is not theirs', async () => {
    const limit = {
      rateLimit: 1,
      burstLimit: 1,
      disconnectThreshold: null,
      leaseSeconds: 1,
      dearSeconds: 1,
    };
    await client.set(`${PREFIX}:text`, 'hello');
    await client.hSet(`${PREFIX}:hash`, 'field', 'value');
    for (const key of ['text', 'hash']) {
      for (const name of ['strict', 'lease', 'leave', 'look'] as const) {
        const args = [NEVER_LATE, '1', '0', '0', '0', '1', '1', '1', '1'];
        await expect(run(name, limit, key, args, 1)).rejects.toThrow('WRONGTYPE');
      }
    }
    expect(await client.get(`${PREFIX}:text`)).toBe('hello');
    expect(await client.hGetAll(`${PREFIX}:hash`)).toEqual({ field: 'value' });
  });

  it('leave nothing behind for ever', async () => {
    const times = { leaseSeconds: 10_000, dearSeconds: 0.5 };
    const limit = { rateLimit: 1, burstLimit: 1000, disconnectThreshold: null, ...times };
    /** Seconds, but for those that this test may have taken. */
    const expectTtl = async (key: string, seconds: number) => {
      const left = (await client.pTTL(`${PREFIX}:${key}`)) / 1000;
      expect(left).toBeGreaterThan(seconds - 200);
      expect(left).toBeLessThanOrEqual(seconds);
    };
    // When leases have ended it takes as long again to be full.
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
