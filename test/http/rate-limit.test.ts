// The middleware without a server: its decisions, its fields and its calls, on both engines and a clock that the test
// sets.

import { OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { parseProblem } from 'relay-limiter/headers';
import {
  rateLimit as createLimit,
  type RateLimitOptions,
  type RequestVerdict,
  refusalError,
} from 'relay-limiter/http';
import { describe, expect, test, vi } from 'vitest';
import { manualClock } from '../support/limiters.js';
import { SOURCES } from './shared-limiter.js';
import { ask, type Middleware, outcomeOf, requestFrom } from './support.js';

const TEXT = { accept: 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8' };

describe.each(SOURCES)('rateLimit with %s', (_, source) => {
  const clock = manualClock();
  const own = { clock };
  const convert = source(clock);
  const rateLimit = (options: RateLimitOptions) => createLimit(convert({ ...options }));

  test('passes a burst, then refilled tokens, and sends each client its own state', async () => {
    const limit = rateLimit({ limit: 3, windowSeconds: 60, ...own });
    for (const remaining of [2, 1, 0]) {
      const { passed, fields } = await ask(limit);
      expect(passed).toBe(true);
      expect(fields).toEqual({
        'ratelimit-policy': '"3-in-60s";q=3;w=60',
        ratelimit: `"3-in-60s";r=${remaining};t=20`,
      });
    }
    expect(await ask(limit)).toMatchObject({
      passed: false,
      status: 429,
      fields: { ratelimit: '"3-in-60s";r=0;t=20', 'retry-after': '20' },
    });
    expect((await ask(limit, { address: '192.0.2.2' })).passed).toBe(true);
    clock.now += 20;
    expect((await ask(limit)).passed).toBe(true);
    expect((await ask(limit)).passed).toBe(false);
  });

  test('sends a sufficient Retry-After in whole seconds, rounded up', async () => {
    const limit = rateLimit({ limit: 7, windowSeconds: 60, ...own });
    for (let n = 0; n < 7; n += 1) await ask(limit);
    clock.now += 0.4;
    const { fields } = await ask(limit);
    expect(fields['retry-after']).toBe('9');
    clock.now += 9;
    expect((await ask(limit)).passed).toBe(true);
  });

  test('sends problem details to programs and a sentence to browsers', async () => {
    const limit = rateLimit({ limit: 1, windowSeconds: 5, name: 'api "v1"', ...own });
    await ask(limit);
    const { body, fields } = await ask(limit);
    expect(fields['content-type']).toBe('application/problem+json; charset=utf-8');
    expect(parseProblem(body, 429)).toEqual({ problem: 'quota-exceeded', violated: ['api "v1"'] });
    expect(JSON.parse(body).detail).toBe('Too many requests. Try again in 5 seconds.');
    for (const accept of ['*/*', 'application/json', 'text/html, application/problem+json']) {
      expect((await ask(limit, { headers: { accept } })).body).toBe(body);
    }
    clock.now += 4;
    const text = await ask(limit, { headers: TEXT });
    expect(text.fields['content-type']).toBe('text/plain; charset=utf-8');
    expect(text.body).toBe('Too many requests. Try again in 1 second.\n');
    expect(text.fields['content-length']).toBe(text.body.length);
  });

  test("sends the user's text, JSON, status code, or calls the handler", async () => {
    const options = { limit: 1, ...own };
    const second = async (more: object) => {
      const limit = rateLimit({ ...options, ...more });
      await ask(limit);
      return ask(limit);
    };
    expect(await second({ message: 'später', statusCode: 503 })).toMatchObject({
      status: 503,
      body: 'später',
      fields: { 'content-type': 'text/plain; charset=utf-8', 'content-length': 7 },
    });
    expect(await second({ message: { error: 'slow down' } })).toMatchObject({
      body: '{"error":"slow down"}',
      fields: { 'content-type': 'application/json; charset=utf-8' },
    });
    const message = async (_: unknown, __: unknown, { retryAfterSeconds }: never) =>
      `in ${retryAfterSeconds}`;
    expect((await second({ message })).body).toBe('in 60');
    for (const none of [undefined, 5]) {
      expect(await second({ message: () => none })).toMatchObject({
        error: { code: 'ERR_LIMITER_OPTION' },
      });
    }
    const refusals: unknown[] = [];
    const handler = (_: unknown, response: never, next: () => void, refusal: unknown) => {
      refusals.push(refusal, (response as { statusCode: number }).statusCode);
      next();
    };
    expect(await second({ handler })).toMatchObject({
      passed: true,
      fields: { 'retry-after': '60' },
    });
    expect(refusals).toEqual([
      {
        policy: '1-in-60s',
        key: '192.0.2.1',
        action: 'delay',
        reason: 'rate',
        rule: null,
        scope: null,
        statusCode: 429,
        limit: 1,
        remaining: 0,
        retryAfterSeconds: 60,
      },
      429,
    ]);
  });

  test('charges the whole cost or nothing, and never a cost above the burst', async () => {
    const cost = (request: { headers: object }) => Number(Object.values(request.headers)[0]);
    const limit = rateLimit({ limit: 10, windowSeconds: 10, cost, ...own });
    const of = (n: string) => ask(limit, { headers: { n } });
    expect((await of('7')).fields['ratelimit']).toBe('"10-in-10s";r=3;t=1');
    expect((await of('5')).fields).toMatchObject({
      ratelimit: '"10-in-10s";r=3;t=1',
      'retry-after': '2',
    });
    expect((await of('3')).passed).toBe(true);
    const never = await of('11');
    expect(never.passed).toBe(false);
    expect(never.fields['retry-after']).toBeUndefined();
    expect(JSON.parse(never.body).detail).toContain('always');
    expect((await of('0')).passed).toBe(true);
    expect((await of('-1')).error).toMatchObject({ code: 'ERR_LIMITER_COST' });
    expect((await of('x')).error).toMatchObject({ code: 'ERR_LIMITER_COST' });
    expect((await ask(rateLimit({ limit: 3, cost: 2, ...own }))).fields['ratelimit']).toContain(
      'r=1;',
    );
  });

  test('sends a wait that is long enough for every limit of the request', async () => {
    const refusals: unknown[] = [];
    const hour = rateLimit({ limit: 2, windowSeconds: 3600, name: 'hour', headers: false, ...own });
    const second = rateLimit({
      limit: 1,
      windowSeconds: 1,
      handler: (_, response, __, refusal) => {
        refusals.push(refusal.retryAfterSeconds);
        response.end(String(response.getHeader('retry-after')));
      },
      ...own,
    });
    const both: Middleware = (request, response, next) =>
      hour(request, response, (error) => (error ? next(error) : second(request, response, next)));
    expect((await ask(both)).passed).toBe(true);
    // The limit per hour has one token left, more than this request costs. The next one comes in 1,800 seconds.
    expect((await ask(both)).body).toBe('1800');
    expect(refusals).toEqual([1800]);
    clock.now += 1800;
    expect((await ask(both)).passed).toBe(true);
    const standard = rateLimit({ limit: 1, windowSeconds: 5, ...own });
    await ask(standard);
    const all: Middleware = (request, response, next) =>
      hour(request, response, (error) => (error ? next(error) : standard(request, response, next)));
    clock.now += 1800;
    await ask(all);
    clock.now += 1800;
    await ask(standard);
    const { body, fields } = await ask(all);
    expect(fields['retry-after']).toBe('1800');
    expect(JSON.parse(body).detail).toContain('1800 seconds');
  });

  test('ignores an earlier limit with enough tokens in the wait', async () => {
    const many = rateLimit({ limit: 10, windowSeconds: 3600, ...own });
    const one = rateLimit({ limit: 1, windowSeconds: 5, ...own });
    const both: Middleware = (request, response, next) =>
      many(request, response, () => one(request, response, next));
    await ask(both);
    expect((await ask(both)).fields['retry-after']).toBe('5');
  });

  test('sends the current interval of an OrderbookRateLimiter, even if it allows', async () => {
    const limiter = new OrderbookRateLimiter({
      interval: 10,
      violationWarningThreshold: 3,
      ...own,
    });
    const limit = rateLimit({ limiter });
    expect((await ask(limit)).fields['ratelimit']).toBe('"1-in-10s";r=0;t=10');
    for (let n = 0; n < 3; n += 1) await ask(limit);
    clock.now += 60;
    const { passed, fields } = await ask(limit);
    expect([passed, fields['ratelimit']]).toEqual([true, '"1-in-10s";r=0;t=60']);
    clock.now += 60;
    expect((await ask(limit)).passed).toBe(true);
    expect((await ask(limit)).fields['retry-after']).toBe('60');
  });

  test('skips requests by a value or a promise, without fields', async () => {
    const skips = [
      ({ method }: { method?: string | undefined }) => method === 'OPTIONS',
      async ({ method }: { method?: string | undefined }) => method === 'OPTIONS',
    ];
    for (const skip of skips) {
      const limit = rateLimit({ limit: 1, skip, ...own });
      await ask(limit);
      expect((await ask(limit)).passed).toBe(false);
      expect(await ask(limit, { method: 'OPTIONS' })).toMatchObject({ passed: true, fields: {} });
    }
  });

  test('accepts promises from all functions, including limit', async () => {
    const later = <T>(value: T) => Promise.resolve(value);
    const limit = rateLimit({
      limit: ({ headers }) => later(headers['plan'] === 'paid' ? 5 : 2),
      key: ({ headers }) => later(String(headers['user'])),
      cost: () => later(1),
      ...own,
    });
    const passes = async (user: string, plan: string) => {
      let passed = 0;
      while ((await ask(limit, { headers: { user, plan } })).passed) passed += 1;
      return passed;
    };
    expect(await passes('a', 'free')).toBe(2);
    expect(await passes('b', 'paid')).toBe(5);
    expect(await passes('a', 'paid')).toBe(5);
    const { fields } = await ask(limit, { headers: { user: 'c', plan: 'paid' } });
    expect(fields['ratelimit-policy']).toBe('"5-in-60s";q=5;w=60');
  });

  test('bounds the number of limits, and fails a request with an invalid limit', async () => {
    let limits = 0;
    const limit = rateLimit({ limit: () => (limits += 1), ...own });
    for (let n = 0; n < 100; n += 1) expect((await ask(limit)).passed).toBe(true);
    expect((await ask(limit)).error).toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    limits = 41;
    expect((await ask(limit)).passed).toBe(true);
    for (const wrong of [0, 1.5, -1, Number.NaN, '5', undefined]) {
      const bad = rateLimit({ limit: () => wrong as number, ...own });
      expect((await ask(bad)).error).toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    }
    limit.close();
  });

  test("passes errors of the options' functions to next without a charge", async () => {
    const failure = new Error('no database');
    const thrown = [
      () => {
        throw failure;
      },
      () => Promise.reject(failure),
    ];
    for (const fails of thrown) {
      for (const option of ['key', 'cost', 'skip', 'limit'] as const) {
        const limiter = new RateLimiter({ ...own, rateLimit: 1, burstLimit: 5 });
        const source = option === 'limit' ? own : { limiter };
        const limit = rateLimit({ ...source, [option]: fails } as never);
        expect(await ask(limit)).toMatchObject({ passed: false, error: failure, fields: {} });
        expect(limiter.getStats().trackedPeers).toBe(0);
      }
      for (const option of ['handler', 'message']) {
        const limit = rateLimit({ limit: 1, [option]: fails, ...own });
        await ask(limit);
        expect(await ask(limit)).toMatchObject({ passed: false, error: failure });
      }
    }
  });

  test('passes any thrown value to next as an error', async () => {
    for (const thrown of [undefined, null, 'route', 'router', 0]) {
      const atOnce = () => {
        throw thrown;
      };
      for (const key of [atOnce, () => Promise.reject(thrown)]) {
        const { passed, error } = await ask(rateLimit({ limit: 1, key, ...own }));
        expect(passed).toBe(false);
        expect(error).toBeInstanceOf(Error);
      }
    }
    for (const key of [() => 5, () => undefined, () => null, async () => ({})]) {
      const { error } = await ask(rateLimit({ limit: 1, key: key as never, ...own }));
      expect(error).toMatchObject({ code: 'ERR_LIMITER_KEY' });
    }
  });

  test('accepts a function as statusCode, and fails on an invalid result', async () => {
    const limit = rateLimit({
      limit: 1,
      disconnectThreshold: 2,
      statusCode: ({ action }) => (action === 'disconnect' ? 403 : 429),
      ...own,
    });
    const statuses: number[] = [];
    for (let n = 0; n < 3; n += 1) statuses.push((await ask(limit)).status);
    expect(statuses).toEqual([200, 429, 403]);
    const answers = [200, 429.5, '429', undefined, Promise.resolve(429)];
    for (const answer of answers) {
      const statusCode = () => answer as never;
      const wrong = rateLimit({ limit: 1, statusCode, ...own });
      await ask(wrong);
      expect((await ask(wrong)).error).toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    }
  });

  test('passes refusalError to the error handler', async () => {
    const limit = rateLimit({
      limit: 1,
      windowSeconds: 60,
      handler: (_, __, next, refusal) => next(refusalError(refusal)),
      ...own,
    });
    await ask(limit);
    const { passed, error, fields } = await ask(limit);
    expect(passed).toBe(false);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({
      code: 'ERR_LIMITER_REFUSED',
      message: 'Too many requests. Try again in 60 seconds.',
      statusCode: 429,
      status: 429,
      refusal: { key: '192.0.2.1', action: 'delay', retryAfterSeconds: 60 },
    });
    expect(fields).toMatchObject({ 'retry-after': '60', ratelimit: '"1-in-60s";r=0;t=60' });
  });

  test('fails a request without an address, unless its client has disconnected', async () => {
    const limit = rateLimit({ limit: 1, ...own });
    for (const address of [undefined, '', 'localhost', '1']) {
      const request = requestFrom();
      Object.defineProperty(request, 'socket', { value: { remoteAddress: address } });
      const { passed, error } = await outcomeOf(limit, request);
      expect(passed).toBe(false);
      expect(error).toMatchObject({ code: 'ERR_LIMITER_KEY' });
    }
    const mock = requestFrom();
    Object.defineProperty(mock, 'socket', { value: undefined });
    expect(await outcomeOf(limit, mock)).toMatchObject({
      passed: false,
      error: { code: 'ERR_LIMITER_KEY' },
    });
    const keyed = rateLimit({ limit: 1, key: () => 'a', ...own });
    expect((await outcomeOf(keyed, mock)).passed).toBe(true);
    const gone = requestFrom();
    Object.defineProperty(gone, 'socket', { value: { destroyed: true } });
    const next = vi.fn();
    limit(gone, {} as never, next);
    expect(next).not.toHaveBeenCalled();
  });

  test('uses networks as keys, and X-Forwarded-For of trusted proxies only', async () => {
    const addressesOf = async (options: object, asking: object[]) => {
      const keys: string[] = [];
      const onVerdict = ({ key }: RequestVerdict<unknown>) => keys.push(key);
      const limit = rateLimit({ limit: 100, onVerdict, ...options, ...own });
      for (const each of asking) await ask(limit, each);
      return keys;
    };
    expect(
      await addressesOf({}, [
        { address: '::ffff:192.0.2.7' },
        { address: '2001:db8::1' },
        { address: '2001:db8::ffff' },
        { headers: { 'x-forwarded-for': '198.51.100.9' } },
      ]),
    ).toEqual(['192.0.2.7', '2001:db8::/64', '2001:db8::/64', '192.0.2.1']);
    expect(
      await addressesOf({ ipv6Subnet: 48, ipv4Subnet: 24 }, [{ address: '2001:db8:1:2::1' }, {}]),
    ).toEqual(['2001:db8:1::/48', '192.0.2.0/24']);
    const forwarded = { 'x-forwarded-for': '203.0.113.5, 198.51.100.9' };
    expect(
      await addressesOf({ trustedProxies: '192.0.2.0/24' }, [
        { headers: forwarded },
        { address: '198.51.100.1', headers: forwarded },
        { headers: { 'x-forwarded-for': 'nobody, 2001:db8::1%eth0, x' } },
      ]),
    ).toEqual(['198.51.100.9', '198.51.100.1', '192.0.2.1']);
  });

  test('calls onVerdict before it acts, and isolates its exceptions', async () => {
    const told: unknown[] = [];
    const limit = rateLimit({
      limit: 1,
      onVerdict: ({ request, ...verdict }) => told.push([request.method, verdict]),
      ...own,
    });
    await ask(limit);
    await ask(limit);
    const rules = { rule: null, scope: null, warning: null };
    const common = { kind: 'request', key: '192.0.2.1', policy: '1-in-60s', ...rules };
    expect(told).toEqual([
      ['GET', { ...common, action: 'allow', delaySeconds: 0, did: 'passed' }],
      ['GET', { ...common, action: 'delay', reason: 'rate', delaySeconds: 60, did: 'refused' }],
    ]);
    const failure = new Error('listener');
    const fails = [
      () => {
        throw failure;
      },
      () => Promise.reject(failure),
    ];
    for (const onVerdict of fails) {
      const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
      expect((await ask(rateLimit({ limit: 1, onVerdict, ...own }))).passed).toBe(true);
      // All microtasks run before an immediate.
      await new Promise((resolve) => setImmediate(resolve));
      expect(warn.mock.calls).toEqual([[failure, undefined]]);
      warn.mockRestore();
    }
  });
});
