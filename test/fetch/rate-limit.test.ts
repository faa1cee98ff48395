// The limit of web-standard requests without a server: its decisions, its fields on any response, and the client's
// address, on both engines and a clock that the test sets.

import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
} from 'relay-limiter';
import { type ClientInfo, type FetchRateLimit, rateLimit, rateLimitOf } from 'relay-limiter/fetch';
import { parseProblem } from 'relay-limiter/headers';
import { SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, test, vi } from 'vitest';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';

const CLIENT: ClientInfo = { address: '192.0.2.1' };
const OTHER: ClientInfo = { address: '192.0.2.2' };

const requestWith = (headers: Record<string, string> = {}, init: RequestInit = {}) =>
  new Request('http://localhost/', { headers, ...init });

const ok = () => new Response('ok');

/** A request of the client, answered by `next`. */
const ask = (limit: FetchRateLimit, info = CLIENT, headers: Record<string, string> = {}) =>
  limit(requestWith(headers), ok, info);

const statuses = async (limit: FetchRateLimit, infos: readonly ClientInfo[]) => {
  const found: number[] = [];
  for (const info of infos) found.push((await ask(limit, info)).status);
  return found;
};

const codeOfRejection = (promise: Promise<unknown>) =>
  promise.then(
    () => 'resolved',
    (error) => (error as { code?: string }).code ?? error,
  );

describe.each(ENGINES)('rateLimit of fetch with the %s engine', (engine) => {
  const clock = manualClock();
  const own = { engine, clock };

  test('passes a burst, then refilled tokens, and states what is left', async () => {
    const limit = rateLimit({ limit: 2, windowSeconds: 60, ...own });
    for (const remaining of [1, 0]) {
      const response = await ask(limit);
      expect([response.status, await response.text()]).toEqual([200, 'ok']);
      expect(response.headers.get('ratelimit-policy')).toBe('"2-in-60s";q=2;w=60');
      expect(response.headers.get('ratelimit')).toBe(`"2-in-60s";r=${remaining};t=30`);
    }
    const refused = await ask(limit);
    expect(refused.status).toBe(429);
    expect(refused.headers.get('ratelimit')).toBe('"2-in-60s";r=0;t=30');
    expect(refused.headers.get('retry-after')).toBe('30');
    expect((await ask(limit, OTHER)).status).toBe(200);
    clock.now += 30;
    expect(await statuses(limit, [CLIENT, CLIENT])).toEqual([200, 429]);
  });

  test('sends problem details to programs and a sentence to browsers', async () => {
    const limit = rateLimit({ limit: 1, windowSeconds: 5, name: 'api', ...own });
    await ask(limit);
    const refused = await ask(limit, CLIENT, { accept: 'application/json' });
    const { headers } = refused;
    expect(headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
    const problem = parseProblem(await refused.text(), 429);
    expect(problem).toEqual({ problem: 'quota-exceeded', violated: ['api'] });
    const text = await ask(limit, CLIENT, { accept: 'text/html,*/*;q=0.8' });
    expect(await text.text()).toBe('Too many requests. Try again in 5 seconds.\n');
  });

  test('does not call next for a refused request', async () => {
    const limit = rateLimit({ limit: 1, ...own });
    const next = vi.fn(ok);
    await limit(requestWith(), next, CLIENT);
    await limit(requestWith(), next, CLIENT);
    expect(next).toHaveBeenCalledTimes(1);
  });

  test('gives the info of the call to the functions of the options', async () => {
    interface Info extends ClientInfo {
      readonly user: string;
    }
    const info = { address: '192.0.2.1', user: 'ann' };
    const calls: unknown[] = [];
    const noted =
      <Result>(name: string, result: Result) =>
      (_: Request, given: Info, ...more: unknown[]) => {
        calls.push([name, given === info, more.length]);
        return result;
      };
    const limit = rateLimit<Info>({
      limit: noted('limit', 1),
      key: noted('key', Promise.resolve('ann')),
      cost: noted('cost', 1),
      skip: noted('skip', false),
      message: noted('message', { error: 'slow down' }),
      ...own,
    });
    const request = requestWith();
    await limit(request, ok, info);
    const refused = await limit(requestWith(), ok, info);
    expect(await refused.json()).toEqual({ error: 'slow down' });
    const once = ['skip', 'key', 'cost', 'limit'].map((name) => [name, true, 0]);
    expect(calls).toEqual([...once, ...once, ['message', true, 1]]);
  });

  test('answers a refusal by its handler, and adds the fields', async () => {
    const handler = vi.fn(async () => Response.redirect('http://localhost/slow', 303));
    const limit = rateLimit({ limit: 1, handler, ...own });
    await ask(limit);
    const refused = await ask(limit);
    expect([refused.status, refused.headers.get('location')]).toEqual([
      303,
      'http://localhost/slow',
    ]);
    expect(refused.headers.get('retry-after')).toBe('60');
    expect(refused.headers.get('ratelimit')).toBe('"1-in-60s";r=0;t=60');
    expect(handler).toHaveBeenCalledWith(
      expect.any(Request),
      CLIENT,
      expect.objectContaining({ key: '192.0.2.1', reason: 'rate' }),
    );
  });

  test('checks all rules of a RuleLimiter by address and by own keys', async () => {
    const limiter = new RuleLimiter({
      scopes: { address: { kind: 'address' }, connection: {}, user: {} },
      rules: {
        requests: { scope: 'address', action: 'message', quota: 3, windowSeconds: 60 },
        uploads: { scope: 'user', unit: 'bytes', quota: 1000, windowSeconds: 60 },
        each: { scope: 'connection', quota: 1, windowSeconds: 60 },
      },
      plans: { paid: { uploads: { quota: 5000 } } },
      deny: { address: ['198.51.100.0/24'] },
      ...own,
    });
    const limit = rateLimit({
      limiter,
      keys: (request) => ({ user: request.headers.get('user') ?? undefined }),
      plan: (request) => request.headers.get('plan') ?? undefined,
      cost: (request) => ({ requests: 1, bytes: Number(request.headers.get('bytes')) }),
    });
    const asked = (headers: Record<string, string>, info = CLIENT) => ask(limit, info, headers);
    expect((await asked({ user: 'ann', bytes: '800' })).status).toBe(200);
    const refused = await asked({ user: 'ann', bytes: '800' });
    expect(refused.status).toBe(429);
    // 36 seconds and a fraction: the delay of a rule is rounded up.
    expect(refused.headers.get('retry-after')).toBe('37');
    expect(parseProblem(await refused.text(), 429)?.violated).toEqual(['uploads']);
    expect((await asked({ user: 'ann', bytes: '800', plan: 'paid' })).status).toBe(200);
    expect((await asked({})).status).toBe(200);
    expect((await asked({})).status).toBe(429);
    const denied = await asked({}, { address: '198.51.100.7' });
    expect([denied.status, denied.headers.get('retry-after')]).toEqual([403, null]);
    limit.resetKey({ address: '192.0.2.1' });
    expect((await asked({})).status).toBe(200);
  });

  test('gives back what refundWhen names, by the response of next', async () => {
    const refundWhen = vi.fn((_: Request, response: Response) => response.status === 200);
    const limit = rateLimit({ limit: 1, refundWhen, ...own });
    const answered = (status: number, init: RequestInit = {}) =>
      limit(requestWith({}, init), () => new Response(null, { status }), CLIENT);
    for (let n = 0; n < 3; n += 1) expect((await answered(200)).status).toBe(200);
    // A client that has left has not seen its response.
    expect((await answered(200, { signal: AbortSignal.abort() })).status).toBe(200);
    expect((await answered(200)).status).toBe(429);
    expect(refundWhen).toHaveBeenCalledTimes(3);
    clock.now += 60;
    expect((await answered(401)).status).toBe(401);
    expect((await answered(200)).status).toBe(429);
  });

  test('gives back for a request without a signal, as tests and some servers make them', async () => {
    const limit = rateLimit({ limit: 1, refundWhen: () => true, ...own });
    const request = () => ({ headers: new Headers() }) as Request;
    for (let n = 0; n < 2; n += 1) {
      expect((await limit(request(), ok, CLIENT)).status).toBe(200);
    }
  });

  test('counts a request whose handler throws, and passes the error on', async () => {
    const limit = rateLimit({ limit: 1, refundWhen: () => true, ...own });
    const thrown = new Error('broken');
    const fails = [
      () => {
        throw thrown;
      },
      () => Promise.reject(thrown),
    ];
    for (const next of fails) {
      expect(await codeOfRejection(limit(requestWith(), next, CLIENT))).toBe(thrown);
      expect((await ask(limit)).status).toBe(429);
      clock.now += 60;
    }
  });

  test.each([
    ['RateLimiter', () => new RateLimiter({ rateLimit: 1, burstLimit: 2, ...own }), 2],
    ['OrderbookRateLimiter', () => new OrderbookRateLimiter({ ...own }), 1],
    [
      'DirectConnectionRateLimiter',
      () => new DirectConnectionRateLimiter({ messageBurst: 2, ...own }),
      2,
    ],
  ])('takes a %s', async (_, make, burst) => {
    const limit = rateLimit({ limiter: make() });
    const infos = Array.from({ length: burst + 1 }, () => CLIENT);
    expect(await statuses(limit, infos)).toEqual([...Array(burst).fill(200), 429]);
  });

  test('waits for a SharedRateLimiter', async () => {
    const limiter = new SharedRateLimiter({ mode: 'local', rateLimit: 1, burstLimit: 2, ...own });
    const limit = rateLimit({ limiter });
    expect(await statuses(limit, [CLIENT, CLIENT, CLIENT, OTHER])).toEqual([200, 200, 429, 200]);
    await limiter.close();
  });

  test('tells rateLimitOf what is left, in next and after it', async () => {
    const limit = rateLimit({ limit: 5, windowSeconds: 50, headers: false, ...own });
    const request = requestWith();
    expect(rateLimitOf(request)).toBeUndefined();
    const state = { policy: '5-in-50s', limit: 5, remaining: 4, resetSeconds: 10 };
    const response = await limit(request, () => Response.json(rateLimitOf(request)), CLIENT);
    expect(await response.json()).toEqual(state);
    expect(response.headers.has('ratelimit')).toBe(false);
    expect(rateLimitOf(request)).toEqual(state);
  });

  test('states two limits of one request together', async () => {
    const outer = rateLimit({ limit: 10, name: 'all', ...own });
    const inner = rateLimit({ limit: 2, name: 'few', ...own });
    const request = requestWith();
    const response = await outer(request, () => inner(request, ok, CLIENT), CLIENT);
    expect(response.headers.get('ratelimit-policy')).toBe('"all";q=10;w=60, "few";q=2;w=60');
    expect(response.headers.get('ratelimit')).toBe('"all";r=9;t=6, "few";r=1;t=30');
  });
});

describe('The response to an allowed request', () => {
  const limit = rateLimit({ limit: 1000, windowSeconds: 1000, engine: 'js', clock: () => 0 });
  const through = (response: Response) => limit(requestWith(), () => response, CLIENT);

  test('is the same object if its headers can be changed', async () => {
    const response = ok();
    expect(await through(response)).toBe(response);
    expect(response.headers.get('ratelimit')).toMatch(/^"1000-in-1000s";r=\d+;t=1$/);
  });

  test('is a copy with the fields if its headers are immutable', async () => {
    const redirect = Response.redirect('http://localhost/there', 307);
    const copy = await through(redirect);
    expect(copy).not.toBe(redirect);
    expect([copy.status, copy.headers.get('location')]).toEqual([307, 'http://localhost/there']);
    expect(copy.headers.has('ratelimit')).toBe(true);
    const fetched = await through(await fetch('data:text/plain,hello'));
    expect([fetched.status, await fetched.text()]).toEqual([200, 'hello']);
    expect(fetched.headers.get('content-type')).toBe('text/plain');
    expect(fetched.headers.has('ratelimit')).toBe(true);
  });

  test('keeps several cookies when it is copied', async () => {
    const headers = new Headers([
      ['set-cookie', 'a=1'],
      ['set-cookie', 'b=2'],
    ]);
    const response = new Response('ok', { headers });
    vi.spyOn(response.headers, 'set').mockImplementation(() => {
      throw new TypeError('immutable');
    });
    expect((await through(response)).headers.getSetCookie()).toEqual(['a=1', 'b=2']);
  });

  test('passes unchanged if it cannot be copied', async () => {
    const error = Response.error();
    expect(await through(error)).toBe(error);
    // As the handler of a server that has upgraded the connection returns it.
    expect(await through(undefined as never)).toBeUndefined();
  });

  test('keeps the fields that its handler has set', async () => {
    const response = await through(new Response('ok', { headers: { RateLimit: '"own";r=1;t=1' } }));
    expect(response.headers.get('ratelimit')).toBe('"own";r=1;t=1');
    expect(response.headers.has('ratelimit-policy')).toBe(true);
  });
});

describe('The address of a client', () => {
  const own = { limit: 1, engine: 'js', clock: () => 0 } as const;
  const forwarded = (chain: string) => ({ 'x-forwarded-for': chain });

  test('is not that of X-Forwarded-For without trusted proxies', async () => {
    const limit = rateLimit({ ...own, warnings: false });
    expect((await ask(limit, CLIENT, forwarded('203.0.113.1'))).status).toBe(200);
    expect((await ask(limit, CLIENT, forwarded('203.0.113.2'))).status).toBe(429);
  });

  test('is that of X-Forwarded-For if the connection is of a trusted proxy', async () => {
    const limit = rateLimit({ ...own, trustedProxies: ['192.0.2.1'] });
    const through = async (info: ClientInfo, chain: string) =>
      (await ask(limit, info, forwarded(chain))).status;
    expect(await through(CLIENT, '6.6.6.6, 203.0.113.1')).toBe(200);
    expect(await through(CLIENT, '7.7.7.7, 203.0.113.1')).toBe(429);
    expect(await through(CLIENT, '203.0.113.2')).toBe(200);
    expect(await through(OTHER, '203.0.113.3')).toBe(200);
    expect(await through(OTHER, '203.0.113.4')).toBe(429);
  });

  test('may come from a proxy where no address of a connection is known', async () => {
    const limit = rateLimit({ ...own, trustedProxies: (_, hop) => hop === 0 });
    expect((await limit(requestWith(forwarded('6.6.6.6, 203.0.113.1')), ok)).status).toBe(200);
    expect((await limit(requestWith(forwarded('7.7.7.7, 203.0.113.1')), ok)).status).toBe(429);
    expect(await codeOfRejection(limit(requestWith(), ok))).toBe('ERR_LIMITER_KEY');
  });

  test('is that of the IPv6 network', async () => {
    const limit = rateLimit(own);
    const infos = ['2001:db8::1', '2001:db8::2', '2001:db8:1::1'].map((address) => ({ address }));
    expect(await statuses(limit, infos)).toEqual([200, 429, 200]);
  });

  test.each([
    undefined,
    null,
    {},
    { address: '' },
    { address: 'localhost' },
    { address: 5 },
    'text',
  ])('is needed without a key, and is none in %o', async (info) => {
    const next = vi.fn(ok);
    const limit = rateLimit(own);
    expect(await codeOfRejection(limit(requestWith(), next, info as never))).toBe(
      'ERR_LIMITER_KEY',
    );
    const rules = { all: { scope: 'address', quota: 1, windowSeconds: 1 } };
    const limiter = new RuleLimiter({ scopes: { address: { kind: 'address' } }, rules });
    const byRules = rateLimit({ limiter });
    expect(await codeOfRejection(byRules(requestWith(), next, info as never))).toBe(
      'ERR_LIMITER_KEY',
    );
    expect(next).not.toHaveBeenCalled();
    expect((await rateLimit({ ...own, key: () => 'a' })(requestWith(), next)).status).toBe(200);
  });
});

describe('rateLimit of fetch', () => {
  const own = { limit: 1, key: () => 'a', engine: 'js', clock: () => 0 } as const;

  test('rejects arguments that are no request and no function', async () => {
    const limit = rateLimit(own);
    for (const request of [undefined, null, {}, { headers: {} }, 'http://localhost/']) {
      expect(await codeOfRejection(limit(request as never, ok))).toBe('ERR_LIMITER_OPTION');
    }
    expect(await codeOfRejection(limit(requestWith(), ok() as never))).toBe('ERR_LIMITER_OPTION');
    expect((await limit(requestWith(), ok)).status).toBe(200);
  });

  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['no limit', {}],
    ['an unknown option', { limit: 1, windowMs: 5 }],
    ['a handler that is no function', { limit: 1, handler: {} }],
    ['a key and proxies', { limit: 1, key: () => 'a', trustedProxies: 'loopback' }],
    ['refunds of a limiter that has none', { limiter: new RateLimiter(), refundWhen: () => true }],
  ])('throws for %s', (_, options) => {
    expect(codeOf(() => rateLimit(options as never))).toBe('ERR_LIMITER_OPTION');
  });

  test('rejects what a function of the options throws, and does not call next', async () => {
    const thrown = new Error('broken');
    const fail = () => {
      throw thrown;
    };
    const later = async () => fail();
    const next = vi.fn(ok);
    for (const call of [fail, later]) {
      const failing = [{ key: call }, { cost: call }, { skip: call }, { limit: call }];
      for (const option of failing) {
        const limit = rateLimit({ ...own, ...option });
        expect(await codeOfRejection(limit(requestWith(), next))).toBe(thrown);
      }
    }
    expect(next).not.toHaveBeenCalled();
    for (const option of [
      { message: fail },
      { message: later },
      { handler: fail },
      { handler: later },
    ]) {
      const limit = rateLimit({ ...own, ...option });
      await limit(requestWith(), ok);
      expect(await codeOfRejection(limit(requestWith(), ok))).toBe(thrown);
    }
  });

  test.each([
    ['its handler', 'a response', { handler: () => 'no' }],
    ['its message', 'a text or an object', { message: () => undefined }],
  ])('rejects what %s returns if that is not %s', async (_, __, option) => {
    const limit = rateLimit({ ...own, ...(option as object) });
    await limit(requestWith(), ok);
    expect(await codeOfRejection(limit(requestWith(), ok))).toBe('ERR_LIMITER_OPTION');
  });

  test('warns of what refundWhen throws, and counts the request', async () => {
    const limit = rateLimit({
      ...own,
      refundWhen() {
        throw new Error('broken');
      },
    });
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    expect((await limit(requestWith(), ok)).status).toBe(200);
    expect(warn.mock.calls.map(([error]) => String(error))).toEqual(['Error: broken']);
    warn.mockRestore();
    expect((await limit(requestWith(), ok)).status).toBe(429);
  });

  test('reports each verdict with the request', async () => {
    const onVerdict = vi.fn();
    const limit = rateLimit({ ...own, onVerdict });
    const requests = [requestWith(), requestWith()];
    for (const request of requests) await limit(request, ok);
    const verdicts = onVerdict.mock.calls.map(([{ request, did, key }]) => [request, did, key]);
    expect(verdicts).toEqual([
      [requests[0], 'passed', 'a'],
      [requests[1], 'refused', 'a'],
    ]);
  });

  test('does not count skipped requests and gives them no fields', async () => {
    const limit = rateLimit({ ...own, skip: (request) => request.headers.has('free') });
    const free = await limit(requestWith({ free: '' }), ok);
    expect([free.status, free.headers.has('ratelimit')]).toEqual([200, false]);
    expect((await limit(requestWith(), ok)).status).toBe(200);
  });
});
