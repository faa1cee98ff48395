// The scripts on a real server: their results are bit-identical to those of RateLimiter, and to those of the
// SimulatedStore on which simulations run.

import fc from 'fast-check';
import { RateLimiter } from 'relay-limiter';
import { describe, expect, it, onTestFinished } from 'vitest';
import { CHANGE, PAGE, VERSION } from '../../lib/redis/bans/ban-scripts.js';
import { createStoreClient } from '../../lib/redis/store/client.js';
import type { Limit } from '../../lib/redis/store/limit.js';
import {
  createScript,
  type ScriptClock,
  type ScriptName,
} from '../../lib/redis/store/limit-scripts.js';
import { runs } from '../support/runs.js';
import { evalAndPersist, expectTtl } from './support/eval.js';
import { SimulatedBans } from './support/simulated-bans.js';
import { SimulatedStore } from './support/simulated-store.js';
import { mappingClient, NO_STORE, PREFIX, storeOfTests } from './support/store.js';

// The test passes the time, in microseconds, as the last argument.
const CLOCK: ScriptClock = {
  read: 'local micros = tonumber(ARGV[#ARGV])\nlocal now = micros / 1000000',
  left: (_, expires) => `math.ceil(((${expires}) * 1000 - ARGV[#ARGV]) / 1000)`,
  expire: (key, expires) => `redis.call('PEXPIRE', ${key}, math.ceil(${expires} - micros / 1000))`,
};
const NEVER_LATE = '1e300';
const LETTERS = { allow: 'a', delay: 'w', disconnect: 'd' } as const;
const NO_LEASES = { leaseSeconds: 1, shortLeaseSeconds: 0.5 };

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
  const real = storeOfTests();
  let keys = 0;

  const textOf = (name: ScriptName, limit: Limit) => createScript(name, limit, 'run', CLOCK).text;
  const nameOf = (key: string) => `${PREFIX}:${key}`;
  const micros = (now: number) => String(Math.round(now * 1e6));

  const run = (
    name: ScriptName,
    limit: Limit,
    keys: string | string[],
    args: string[],
    now: number,
  ) =>
    real.client.eval(textOf(name, limit), {
      keys: [keys].flat().map(nameOf),
      arguments: [...args, micros(now)],
    });

  const runAndPersist = (
    name: ScriptName,
    limit: Limit,
    key: string,
    args: string[],
    now: number,
  ) => evalAndPersist(real.client, textOf(name, limit), [nameOf(key)], [...args, micros(now)]);

  /** Checks in mode `strict`, and expects this time to live, in seconds. */
  const checkForTtl = (limit: Limit, key: string, cost: number, now: number, seconds: number) => {
    const args = [NEVER_LATE, String(cost), micros(now)];
    return expectTtl(real.client, textOf('strict', limit), nameOf(key), args, seconds * 1000);
  };

  /** The same time as the store's clock could show it. */
  const rounded = (seconds: number) => Math.round(seconds * 1e6) / 1e6;

  it('return verdicts that are bit-identical to those of RateLimiter', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyLimit,
        number(1.1e9, 2e9),
        fc.array(fc.record({ step: anyStep, cost: anyCost }), { minLength: 1, maxLength: 30 }),
        async (limit, start, checks) => {
          const { rateLimit, burstLimit, disconnectThreshold } = limit;
          let now = rounded(start);
          const clock = () => now;
          const local = new RateLimiter({ rateLimit, burstLimit, disconnectThreshold, clock });
          keys += 1;
          const replies: unknown[] = [];
          const verdicts: unknown[] = [];
          for (const { step, cost } of checks) {
            now = rounded(now + step);
            const key = `strict-${keys}`;
            const latest = String(now + 1);
            replies.push(await runAndPersist('strict', limit, key, [latest, String(cost)], now));
            replies.push(await runAndPersist('read', limit, key, [latest], now));
            const [action] = local.check('p', cost);
            const tokens = local.getTokens('p');
            verdicts.push(action === 'allow' ? Math.floor(tokens) : [LETTERS[action], tokens]);
            verdicts.push([tokens, local.getViolationCount('p')]);
          }
          expect(replies.map(numbers)).toEqual(verdicts);
        },
      ),
      runs(),
    );
  });

  it.each(['node-redis', 'ioredis'])(
    'reply a text that a client with other types does not change (%s)',
    async (which) => {
      const mapped = await mappingClient(which, real.server.url);
      const store = createStoreClient(mapped.client);
      const limit = { rateLimit: 1, burstLimit: 1, disconnectThreshold: null, ...NO_LEASES };
      const { text } = createScript('strict', limit, 'run', CLOCK);
      const check = () => store.eval(text, [`${PREFIX}:second-${which}`], [NEVER_LATE, '1', '5']);
      const replies = [String(await check()), String(await check())];
      store.release();
      mapped.close();
      expect(replies).toEqual(['0', 'w0']);
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
    latest: fc.oneof(
      { weight: 10, arbitrary: fc.constant(1) },
      { weight: 9, arbitrary: fc.constant(1e300) },
      { weight: 1, arbitrary: fc.constant(-1) },
    ),
    call: fc.oneof(
      fc.record({ name: fc.constantFrom('strict', 'first'), rest: fc.tuple(anyCost) }),
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
          for (const { step, outage, latest, call } of calls) {
            now = rounded(now + step);
            let rest = '';
            if (outage !== undefined) {
              const { ago, lost, emptyUntil, halfUntil, back } = outage;
              rest = ` ${now - ago} ${lost} ${now + emptyUntil} ${now + halfUntil} ${back}`;
            }
            const args = [`${now + latest}${rest}`, ...call.rest.map(String)];
            const reply = await runAndPersist(call.name, limit, `lease-${keys}`, args, now);
            expect(numbers(reply)).toEqual(numbers(simulated.run(call.name, ['p'], args, now)));
          }
        },
      ),
      runs(150),
    );
  });

  const anyTime = fc.oneof(number(-50, 5), fc.constant(0), number(-2, 0));
  const anyChange = fc.record({
    lifted: fc.oneof(
      { weight: 2, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: anyTime },
    ),
    violations: fc.nat(20),
    more: fc.nat(3),
    terms: fc.array(fc.record({ made: anyTime, seconds: number(-60, 100) }), { maxLength: 8 }),
    peer: fc.constantFrom('p', 'q', '"\ud800{}%'),
  });
  const anyBanCall = fc.record({
    step: anyStep,
    call: fc.oneof(
      { weight: 4, arbitrary: fc.record({ changes: fc.array(anyChange, { maxLength: 3 }) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          telling: fc.constantFrom('take', 'free', ''),
          ahead: fc.oneof(fc.constant(0), number(0, 5)),
        }),
      },
      { weight: 1, arbitrary: fc.record({ size: fc.integer({ min: 1, max: 3 }) }) },
    ),
    least: fc.oneof(fc.constant(0), number(-5, 2)),
    isKnown: fc.boolean(),
  });

  it('of bans reply, publish and store the same as SimulatedBans', async () => {
    const listener = real.client.duplicate();
    onTestFinished(() => listener.destroy());
    await listener.connect();
    const withClock = (text: string) => {
      const clock = "local time = redis.call('TIME')\nlocal now = time[1] + time[2] / 1000000";
      expect(text).toContain(clock);
      return text.replace(clock, 'local now = tonumber(table.remove(ARGV))');
    };
    await fc.assert(
      fc.asyncProperty(fc.array(anyBanCall, { minLength: 1, maxLength: 25 }), async (calls) => {
        let clock = 1.7e9;
        keys += 1;
        const index = `${PREFIX}-${keys}:{bans}`;
        const published: string[] = [];
        const simulated: string[] = [];
        const bans = new SimulatedBans(
          () => clock,
          (message) => simulated.push(message),
        );
        await listener.subscribe(index, (message) => published.push(message));
        const names = [index, `${index}#peers`];
        const both = async (text: string, args: string[]) => {
          const values = text === PAGE ? args : [...args, String(clock)];
          const script = text === PAGE ? text : withClock(text);
          const reply = await real.client.eval(script, { keys: names, arguments: values });
          expect(numbers(reply)).toEqual(numbers(bans.eval(text, args)));
          return reply;
        };
        let known = ['', '0', '0'];
        for (const { step, call, least, isKnown } of calls) {
          clock += step;
          const { now } = bans;
          const head = [String(least === 0 ? 0 : now + least), `epoch-${clock}`];
          const beginning = [...head, ...(isKnown ? known : ['other', '0', '1'])];
          if ('changes' in call) {
            const values = call.changes.flatMap(({ peer, lifted, violations, more, terms }) => {
              const lift = lifted === undefined ? 0 : now + lifted;
              const texts = terms.map(({ made, seconds }) => ` ${now + made}:${now + seconds}`);
              return [JSON.stringify(peer), String(more), `${lift} ${violations}${texts.join('')}`];
            });
            await both(CHANGE, [...beginning, 'node', index, ...values]);
          } else if ('size' in call) {
            await both(PAGE, [String(now), String(call.size)]);
          } else {
            const reply = await both(VERSION, [
              ...[...beginning, call.telling, isKnown ? 'node' : 'other', String(call.ahead)],
            ]);
            const [epoch, version, , shift] = (reply as unknown[]).map(String) as [
              ...[string, string, string, string],
            ];
            known = [epoch, version, shift];
          }
        }
        await expect.poll(() => published.length).toBe(simulated.length);
        await listener.unsubscribe(index);
        expect(published.map(readMessage)).toEqual(simulated.map(readMessage));
      }),
      runs(60),
    );
  });

  it('refuse a foreign key and leave it unchanged', async () => {
    const limit = {
      rateLimit: 1,
      burstLimit: 1,
      disconnectThreshold: null,
      leaseSeconds: 1,
      shortLeaseSeconds: 1,
    };
    await real.client.set(`${PREFIX}:text`, 'hello');
    await real.client.hSet(`${PREFIX}:hash`, 'field', 'value');
    for (const key of ['text', 'hash']) {
      for (const name of ['strict', 'first', 'lease', 'read'] as const) {
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
    expect(await real.client.get(`${PREFIX}:text`)).toBe('hello');
    expect(await real.client.hGetAll(`${PREFIX}:hash`)).toEqual({ field: 'value' });
  });

  it('leave no debt if the burst is lowered while more is on lease', async () => {
    const limit = { rateLimit: 1, burstLimit: 100, disconnectThreshold: null, ...NO_LEASES };
    const lease = [NEVER_LATE, '1', '0', '0', '0', '1', '50', '50', '0'];
    const before = { ...limit, leaseSeconds: 60, shortLeaseSeconds: 60 };
    await run('lease', before, 'lowered', lease, 1);
    const after = { ...before, burstLimit: 10 };
    expect(await run('strict', after, 'lowered', [NEVER_LATE, '1'], 2)).toBe('w0');
    // The lease has ended: the bucket refills as one that was empty then.
    expect(await run('strict', after, 'lowered', [NEVER_LATE, '1'], 66)).toBe(4);
  });

  it('let every key expire', async () => {
    const times = { leaseSeconds: 10_000, shortLeaseSeconds: 0.5 };
    const limit = { rateLimit: 1, burstLimit: 1000, disconnectThreshold: null, ...times };
    // The lifetime of leases, the time to fill the bucket, and one second to spare.
    await checkForTtl(limit, 'good', 1, 1, 11_001);
    // And eight within which further checks do not renew it.
    await checkForTtl({ ...limit, burstLimit: 10, leaseSeconds: 30 }, 'bad', 11, 1, 3609);
  });

  it('renew the time to live of a steady peer once in eight seconds', async () => {
    const limit = { rateLimit: 1, burstLimit: 1000, disconnectThreshold: null, ...NO_LEASES };
    const key = nameOf('renewed');
    const start = 1.6e9;
    await checkForTtl(limit, 'renewed', 1, start, 1002);
    await real.client.persist(key);
    // The first check of a steady peer.
    await checkForTtl(limit, 'renewed', 1, start + 1, 1010);
    await real.client.persist(key);
    await run('strict', limit, 'renewed', [NEVER_LATE, '1'], start + 8.9);
    expect(await real.client.pTTL(key)).toBe(-1);
    await checkForTtl(limit, 'renewed', 1, start + 9.1, 1010);
  });

  it('set the time to live of another limit anew, and never to less than is left', async () => {
    const fast = { rateLimit: 10, burstLimit: 1000, disconnectThreshold: null, ...NO_LEASES };
    const slow = { ...fast, rateLimit: 1 };
    const key = nameOf('limits');
    const expectNotRenewed = async () => {
      await real.client.persist(key);
      await run('strict', fast, 'limits', [NEVER_LATE, '1'], 1.6e9);
      expect(await real.client.pTTL(key)).toBe(-1);
    };
    await checkForTtl(fast, 'limits', 1, 1.6e9, 102);
    await expectNotRenewed();
    await checkForTtl(slow, 'limits', 1, 1.6e9, 1010);
    await expectNotRenewed();
    await expectNotRenewed();
  });

  it('let a used key live no longer than is needed after the clock was set back', async () => {
    const limit = { rateLimit: 1, burstLimit: 10, disconnectThreshold: null, ...NO_LEASES };
    const start = 1.6e9;
    for (const now of [start, start + 1])
      await run('strict', limit, 'back', [NEVER_LATE, '1'], now);
    await checkForTtl(limit, 'back', 1, start - 86_400, 20);
  });

  it('refuse foreign values, and leave them unchanged', async () => {
    const limit = { rateLimit: 1, burstLimit: 10, disconnectThreshold: null, ...NO_LEASES };
    const key = `${PREFIX}:foreign`;
    const values = ['text', '12', 'a'.repeat(32), '0'.repeat(32), Buffer.alloc(32, 0xff)];
    for (const value of values) {
      await real.client.set(key, value);
      const before = await real.client.dump(key);
      for (const name of ['strict', 'first', 'read'] as const) {
        await expect(run(name, limit, 'foreign', [NEVER_LATE, '1'], 1.6e9)).rejects.toThrow(
          'not its own',
        );
      }
      expect(await real.client.dump(key)).toEqual(before);
    }
  });

  it('keep what a peer that comes once costs as one integer', async () => {
    const limit = { rateLimit: 1, burstLimit: 1000, disconnectThreshold: null, ...NO_LEASES };
    const encodings: unknown[] = [];
    for (const [name, now, times] of [
      ['strict', 1.6e9, 1],
      ['first', 1.6e9, 1],
      ['first', 1.6e9, 2],
      // A server whose clock has not been set.
      ['first', 5, 1],
      ['first', 5, 2],
    ] as const) {
      const key = `once-${encodings.length}`;
      const replies: unknown[] = [];
      for (let n = 0; n < times; n += 1) {
        replies.push(await run(name, limit, key, [NEVER_LATE, '10'], now));
      }
      encodings.push([await real.client.objectEncoding(`${PREFIX}:${key}`), replies.at(-1)]);
    }
    expect(encodings).toEqual([
      ['int', 990],
      ['int', 990],
      ['raw', 980],
      ['embstr', 990],
      ['raw', 980],
    ]);
  });
});

/** A message with the states of peers as numbers. */
function readMessage(text: string): unknown {
  const { peers, ...message } = JSON.parse(text);
  return { ...message, peers: peers.map(([key, value]: [string, string]) => [key, states(value)]) };
}

/** The numbers of a state. */
function states(value: string): number[] {
  return value.split(/[ :]/).map(Number);
}

function numbers(reply: unknown): unknown {
  if (Array.isArray(reply)) return reply.map(numbers);
  if (typeof reply === 'string' && /^\S+ \S+/.test(reply)) return states(reply);
  // The verdict of `strict`.
  if (typeof reply === 'string' && /^[adw][\d-]/.test(reply)) {
    return [reply[0], Number(reply.slice(1))];
  }
  return Number.isNaN(Number(reply)) ? reply : Number(reply);
}
