// The fields that the middleware sends for each kind of limiter, for several limits, and in each draft. They never
// promise more than the limiter admits.

import fc from 'fast-check';
import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  TokenBucket,
} from 'relay-limiter';
import { formatRateLimitHeaders, parseProblem } from 'relay-limiter/headers';
import { type Draft, rateLimit } from 'relay-limiter/http';
import { describe, expect, test, vi } from 'vitest';
import { ENGINES, manualClock } from '../support/limiters.js';
import { runs } from '../support/runs.js';
import { ask, type Middleware } from './support.js';

describe.each(ENGINES)('the rate limit fields with the %s engine', (engine) => {
  const clock = manualClock();
  const own = { engine, clock };

  test('describe a RateLimiter of the user, and close the connection on disconnect', async () => {
    const limiter = new RateLimiter({
      ...own,
      rateLimit: 10,
      burstLimit: 2,
      disconnectThreshold: 2,
    });
    const limit = rateLimit({ limiter });
    expect((await ask(limit)).fields).toEqual({
      'ratelimit-policy': '"2-in-0.2s";q=2;w=1',
      ratelimit: '"2-in-0.2s";r=1;t=1',
    });
    await ask(limit);
    expect((await ask(limit)).fields['connection']).toBeUndefined();
    const { body, fields, status } = await ask(limit);
    expect(status).toBe(429);
    expect(fields).toMatchObject({ connection: 'close', 'retry-after': '1' });
    expect(parseProblem(body).problem).toBe('abnormal-usage-detected');
    limit.resetKey('192.0.2.1');
    expect((await ask(limit)).passed).toBe(true);
  });

  test('state the tokens and the wait of a client that a RateLimiter disconnects', async () => {
    const options = { ...own, rateLimit: 0.01, burstLimit: 3, disconnectThreshold: 0 };
    const limit = rateLimit({ limiter: new RateLimiter(options), cost: 2 });
    await ask(limit);
    expect((await ask(limit)).fields).toMatchObject({
      ratelimit: '"3-in-300s";r=1;t=100',
      'retry-after': '100',
      connection: 'close',
    });
  });

  test('state no tokens if the refusal has another reason', async () => {
    const limiter = new RateLimiter({ ...own, rateLimit: 1, burstLimit: 5 });
    limiter.check = () => ['delay', 0];
    const { fields } = await ask(rateLimit({ limiter }));
    expect(fields).toMatchObject({ ratelimit: '"5-in-5s";r=0;t=0', 'retry-after': '1' });
  });

  test('describe the messages of a DirectConnectionRateLimiter, and 0 during a ban', async () => {
    const limiter = new DirectConnectionRateLimiter({
      ...own,
      messageRatePerSec: 0.5,
      messageBurst: 4,
      orderbookBanThreshold: 1,
      banDuration: 90.5,
    });
    const limit = rateLimit({ limiter });
    expect((await ask(limit)).fields).toEqual({
      'ratelimit-policy': '"4-in-8s";q=4;w=8',
      ratelimit: '"4-in-8s";r=3;t=2',
    });
    for (let n = 0; n < 3; n += 1) await ask(limit);
    expect((await ask(limit)).fields).toMatchObject({ 'retry-after': '2' });
    clock.now += 8;
    limiter.checkOrderbook('192.0.2.1');
    limiter.checkOrderbook('192.0.2.1');
    expect((await ask(limit)).fields).toMatchObject({
      ratelimit: '"4-in-8s";r=0;t=91',
      'retry-after': '91',
      connection: 'close',
    });
    clock.now += 30;
    // What is left of the ban, 60.5 seconds, rounded up.
    expect((await ask(limit)).fields).toMatchObject({
      ratelimit: '"4-in-8s";r=0;t=61',
      'retry-after': '61',
    });
    const still = new DirectConnectionRateLimiter({
      ...own,
      messageRatePerSec: 0,
      messageBurst: 1,
    });
    const once = rateLimit({ limiter: still });
    expect((await ask(once)).fields).toEqual({
      'ratelimit-policy': '"1";q=1',
      ratelimit: '"1";r=0;t=2147483647',
    });
    expect((await ask(once)).fields['retry-after']).toBeUndefined();
  });

  test('describe an OrderbookRateLimiter: one request per growing interval, then a ban', async () => {
    const limiter = new OrderbookRateLimiter({
      ...own,
      interval: 10,
      violationWarningThreshold: 2,
      violationSevereThreshold: 3,
      violationBanThreshold: 4,
      banDuration: 600,
    });
    const limit = rateLimit({ limiter });
    expect((await ask(limit)).fields).toEqual({
      'ratelimit-policy': '"1-in-10s";q=1;w=10',
      ratelimit: '"1-in-10s";r=0;t=10',
    });
    const waits: unknown[] = [];
    for (let n = 0; n < 5; n += 1) waits.push((await ask(limit)).fields['retry-after']);
    expect(waits).toEqual(['10', '60', '300', '300', '600']);
    clock.now += 599.75;
    expect((await ask(limit)).fields).toMatchObject({ connection: 'close', 'retry-after': '1' });
    clock.now += 0.25;
    expect((await ask(limit)).passed).toBe(true);
  });

  test('state all limits of one request', async () => {
    const second = rateLimit({ limit: 2, windowSeconds: 1, name: 'burst', ...own });
    const minute = rateLimit({ limit: 60, windowSeconds: 60, name: 'minute', ...own });
    const both: Middleware = (request, response, next) =>
      second(request, response, (error) =>
        error === undefined ? minute(request, response, next) : next(error),
      );
    expect((await ask(both)).fields).toEqual({
      'ratelimit-policy': '"burst";q=2;w=1, "minute";q=60;w=60',
      ratelimit: '"burst";r=1;t=1, "minute";r=59;t=1',
    });
    await ask(both);
    const { fields, body } = await ask(both);
    expect(fields['ratelimit']).toBe('"burst";r=0;t=1');
    expect(parseProblem(body).violated).toEqual(['burst']);
  });

  test.each<[Draft, object]>([
    [7, { ratelimit: 'limit=2, remaining=1, reset=1', 'ratelimit-policy': '2;w=1, 60;w=60' }],
    [
      6,
      {
        'ratelimit-policy': '2;w=1, 60;w=60',
        'ratelimit-limit': '2',
        'ratelimit-remaining': '1',
        'ratelimit-reset': '1',
      },
    ],
  ])('of draft %s state the lowest of several limits', async (headers, expected) => {
    const second = rateLimit({ limit: 2, windowSeconds: 1, headers, ...own });
    const minute = rateLimit({ limit: 60, windowSeconds: 60, headers, ...own });
    for (const [first, then] of [
      [second, minute],
      [minute, second],
    ] as const) {
      first.resetKey('192.0.2.1');
      then.resetKey('192.0.2.1');
      const { fields } = await ask((request, response, next) =>
        first(request, response, () => then(request, response, next)),
      );
      expect(fields['ratelimit-policy']).toHaveLength(14);
      const { 'ratelimit-policy': _, ...others } = expected as Record<string, string>;
      expect(fields).toMatchObject(others);
    }
  });

  test('are omitted with headers: false, except for Retry-After', async () => {
    const limit = rateLimit({ limit: 1, headers: false, ...own });
    expect((await ask(limit)).fields).toEqual({});
    expect(Object.keys((await ask(limit)).fields).sort()).toEqual([
      'content-length',
      'content-type',
      'retry-after',
    ]);
  });

  test('equal those of formatRateLimitHeaders in every draft', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_795_000_000_123 });
    const step = fc.record({
      wait: fc.constantFrom(0, 0.1, 1, 7.3),
      cost: fc.constantFrom(0, 1, 1, 1, 2.5),
    });
    const property = fc.asyncProperty(
      fc.constantFrom<Draft>(11, 7, 6, 'legacy'),
      fc.integer({ min: 1, max: 1000 }),
      fc.constantFrom(0.3, 1, 7, 60, 86_400),
      fc.array(step, { maxLength: 20 }),
      async (draft, limit, windowSeconds, steps) => {
        const name = 'a \\ "b"';
        let cost = 1;
        const middleware = rateLimit({
          limit,
          windowSeconds,
          name,
          headers: draft,
          cost: () => cost,
          ...own,
        });
        const rate = limit / windowSeconds;
        const bucket = new TokenBucket(limit, rate, { clock });
        for (const { wait, cost: next } of steps) {
          clock.now += wait;
          cost = next;
          const passes = bucket.consume(cost);
          const { passed, fields } = await ask(middleware);
          expect(passed).toBe(passes);
          const remaining = Math.floor(bucket.tokens);
          const more = (remaining + 1 - bucket.tokens) / rate;
          const full = (limit - bucket.tokens) / rate;
          const resetSeconds = draft === 'legacy' ? full : more;
          const said = formatRateLimitHeaders(
            {
              policies: [{ name, quota: limit, windowSeconds }],
              limits: [{ name, limit, remaining, resetSeconds }],
            },
            { draft },
          );
          for (const [field, value] of Object.entries(said)) {
            expect(String(fields[field.toLowerCase()])).toBe(value);
          }
        }
        middleware.close();
      },
    );
    try {
      await fc.assert(property, runs(60));
    } finally {
      vi.useRealTimers();
    }
  });

  test('state exactly the number of requests that are then allowed', async () => {
    const step = fc.record({ wait: fc.double({ min: 0, max: 5, noNaN: true }), count: fc.nat(4) });
    const property = fc.asyncProperty(
      fc.integer({ min: 1, max: 30 }),
      fc.constantFrom(1, 7, 60),
      fc.array(step, { minLength: 1, maxLength: 10 }),
      async (limit, windowSeconds, steps) => {
        const middleware = rateLimit({ limit, windowSeconds, ...own });
        let told = '';
        for (const { wait, count } of steps) {
          clock.now += wait;
          for (let n = 0; n <= count; n += 1) {
            told = String((await ask(middleware)).fields['ratelimit']);
          }
        }
        const remaining = Number(/r=(\d+)/.exec(told)?.[1]);
        for (let n = 0; n < remaining; n += 1) expect((await ask(middleware)).passed).toBe(true);
        expect((await ask(middleware)).passed).toBe(false);
        middleware.close();
      },
    );
    await fc.assert(property, runs());
  });
});
