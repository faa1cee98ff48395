// refundWhen, ban and rateLimitOf: what is given back, when, and what is left.

import { type IncomingMessage, ServerResponse } from 'node:http';
import { OrderbookRateLimiter, RateLimiter, RuleLimiter } from 'relay-limiter';
import { type RateLimitMiddleware, rateLimit, rateLimitOf, refusalError } from 'relay-limiter/http';
import { SharedRateLimiter } from 'relay-limiter/redis';
import { describe, expect, test, vi } from 'vitest';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';
import { ask, outcomeOf, requestFrom } from './support.js';

/** Passes a request, and returns its response, which has not been sent yet. */
function pass(limit: RateLimitMiddleware, request: IncomingMessage = requestFrom()) {
  const response = new ServerResponse(request);
  let isPassed = false;
  limit(request, response, () => {
    isPassed = true;
  });
  return { response, isPassed };
}

/** Sends the response, as if the connection had taken it. */
function send(response: ServerResponse, statusCode: number): void {
  response.statusCode = statusCode;
  response.emit('finish');
}

describe.each(ENGINES)('rateLimit with the %s engine', (engine) => {
  const clock = manualClock();
  const own = { engine, clock };
  const failedOnly = (_: unknown, response: ServerResponse) => response.statusCode < 400;

  const sources: [string, () => object][] = [
    ['limit', () => ({ limit: 2, windowSeconds: 60, ...own })],
    [
      'a RuleLimiter',
      () => {
        const rules = { logins: { scope: 'address', quota: 2, windowSeconds: 60 } };
        return {
          limiter: new RuleLimiter({ ...own, scopes: { address: { kind: 'address' } }, rules }),
        };
      },
    ],
  ];

  describe.each(sources)('and %s', (_, source) => {
    test('counts only failed requests, if successful ones are given back', async () => {
      const limit = rateLimit({ ...source(), refundWhen: failedOnly });
      for (let n = 0; n < 5; n += 1) send(pass(limit).response, 200);
      send(pass(limit).response, 401);
      send(pass(limit).response, 403);
      expect((await ask(limit)).passed).toBe(false);
    });

    test('counts a request until its response has been sent', async () => {
      const limit = rateLimit({ ...source(), refundWhen: () => true });
      const [first, second] = [pass(limit), pass(limit)];
      expect((await ask(limit)).passed).toBe(false);
      send(first.response, 200);
      send(second.response, 200);
      expect(pass(limit).isPassed).toBe(true);
    });

    test('counts a request of a client that leaves before the response', async () => {
      const refundWhen = vi.fn(() => true);
      const limit = rateLimit({ ...source(), refundWhen });
      for (let n = 0; n < 2; n += 1) pass(limit).response.emit('close');
      expect((await ask(limit)).passed).toBe(false);
      expect(refundWhen).not.toHaveBeenCalled();
    });

    test('gives back exactly the cost, at most to a full bucket, and once', async () => {
      const limit = rateLimit({ ...source(), cost: 1.5, refundWhen: () => true });
      const { response } = pass(limit);
      expect((await ask(limit)).passed).toBe(false);
      send(response, 200);
      send(response, 200);
      const { fields } = await ask(limit);
      expect(fields['ratelimit']).toContain('r=0;t=15');
      const full = rateLimit({ ...source(), refundWhen: () => true });
      const { response: late } = pass(full);
      clock.now += 60;
      send(late, 200);
      expect((await ask(full)).fields['ratelimit']).toContain('r=1;t=30');
    });

    test('gives nothing back for a refused request', async () => {
      const refundWhen = vi.fn(() => true);
      const limit = rateLimit({
        ...source(),
        refundWhen,
        handler: (__, response, next) => {
          next();
          response.emit('finish');
        },
      });
      pass(limit);
      pass(limit);
      for (let n = 0; n < 3; n += 1) pass(limit);
      expect(refundWhen).not.toHaveBeenCalled();
    });

    test('waits for a promise, and only true gives back', async () => {
      for (const [answer, isPassed] of [
        [Promise.resolve(true), true],
        [true, true],
        [1, false],
        ['true', false],
        [undefined, false],
        [Promise.resolve(false), false],
      ] as const) {
        const limit = rateLimit({ ...source(), cost: 2, refundWhen: () => answer as never });
        send(pass(limit).response, 200);
        await Promise.resolve(answer);
        expect([answer, pass(limit).isPassed]).toEqual([answer, isPassed]);
      }
    });

    test('warns of what refundWhen throws, and gives nothing back', async () => {
      const failure = new Error('refund');
      const fails = [
        () => {
          throw failure;
        },
        () => Promise.reject(failure),
      ];
      for (const refundWhen of fails) {
        const limit = rateLimit({ ...source(), cost: 2, refundWhen });
        const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
        send(pass(limit).response, 200);
        // All microtasks run before an immediate.
        await new Promise((resolve) => setImmediate(resolve));
        expect(warn.mock.calls).toEqual([[failure, undefined]]);
        warn.mockRestore();
        expect(pass(limit).isPassed).toBe(false);
      }
    });
  });

  test('gives back to every rule that has paid, by the keys and the cost of the check', () => {
    const limiter = new RuleLimiter({
      ...own,
      scopes: { address: { kind: 'address' }, account: {} },
      rules: {
        logins: { scope: 'address', action: 'login', quota: 5, windowSeconds: 60 },
        tries: { scope: 'account', action: 'login', quota: 5, windowSeconds: 60 },
        bytes: { scope: 'address', unit: 'bytes', quota: 100, windowSeconds: 60 },
      },
    });
    const cost = { requests: 1, bytes: 30 };
    const keys = { account: 'alice' };
    const limit = rateLimit({
      limiter,
      action: 'login',
      keys: () => keys,
      cost: () => cost,
      refundWhen: failedOnly,
    });
    const left = () =>
      limiter
        .peek({ address: '192.0.2.1', account: 'alice' }, 1, 'login')
        .rules.map(({ remaining }) => remaining);
    const { response } = pass(limit);
    expect(left()).toEqual([4, 4, 70]);
    // What a function has returned may change afterwards.
    cost.bytes = 1;
    keys.account = 'bob';
    send(response, 200);
    expect(left()).toEqual([5, 5, 100]);
  });

  test('gives nothing back that an allow list has not let a request pay', () => {
    const rules = { all: { scope: 'address', quota: 5, windowSeconds: 60 } };
    const limiter = new RuleLimiter({
      ...own,
      scopes: { address: { kind: 'address' } },
      rules,
      allow: { address: ['192.0.2.1'] },
    });
    const limit = rateLimit({ limiter, cost: 2, refundWhen: () => true });
    const { response } = pass(limit);
    limiter.update({ allow: {} });
    limiter.charge('192.0.2.1', 3);
    send(response, 200);
    expect(limiter.peek('192.0.2.1').rules[0]?.remaining).toBe(2);
  });

  test('gives nothing back if an update has removed the plan, and survives', () => {
    const rules = { all: { scope: 'address', quota: 5, windowSeconds: 60 } };
    const limiter = new RuleLimiter({
      ...own,
      scopes: { address: { kind: 'address' } },
      rules,
      plans: { paid: { all: { quota: 9 } } },
    });
    const limit = rateLimit({ limiter, plan: 'paid', refundWhen: () => true });
    const { response } = pass(limit);
    limiter.update({ plans: {} });
    send(response, 200);
    expect(limiter.peek('192.0.2.1').rules[0]?.remaining).toBe(4);
  });

  test('rejects refundWhen with limiters that give nothing back', () => {
    const refundWhen = () => true;
    const limiters = [
      new RateLimiter(),
      new OrderbookRateLimiter(),
      new SharedRateLimiter({ mode: 'local' }),
    ];
    for (const limiter of limiters) {
      expect(codeOf(() => rateLimit({ limiter, refundWhen }))).toBe('ERR_LIMITER_OPTION');
    }
    const wrong = [{ refundWhen: true }, { refundWhen, disconnectThreshold: 5 }];
    for (const options of wrong) {
      const act = () => rateLimit({ limit: 1, ...options } as never);
      expect(codeOf(act)).toBe('ERR_LIMITER_OPTION');
    }
  });

  test('bans after so many refusals, for longer each time', async () => {
    const limit = rateLimit({
      limit: 1,
      windowSeconds: 600,
      ban: { violations: 2, withinSeconds: 600, seconds: [60, 300] },
      statusCode: ({ action }) => (action === 'disconnect' ? 403 : 429),
      ...own,
    });
    const statuses: unknown[] = [];
    const note = async () => {
      const { status, fields } = await ask(limit);
      statuses.push([status, fields['retry-after'], fields['connection']]);
    };
    for (let n = 0; n < 4; n += 1) await note();
    expect(statuses.splice(0)).toEqual([
      [200, undefined, undefined],
      [429, '601', undefined],
      [403, '60', 'close'],
      [403, '60', 'close'],
    ]);
    clock.now += 60;
    for (let n = 0; n < 2; n += 1) await note();
    expect(statuses).toEqual([
      [429, '541', undefined],
      [403, '300', 'close'],
    ]);
    limit.resetKey('192.0.2.1');
    expect((await ask(limit)).passed).toBe(true);
    limit.close();
  });

  test('rejects an invalid ban, and one beside a limiter or a disconnectThreshold', () => {
    const ban = { violations: 2, withinSeconds: 600, seconds: 60 };
    const wrong = [
      { limit: 1, ban: { violations: 0, withinSeconds: 1, seconds: 1 } },
      { limit: 1, ban: 5 },
      { limit: 1, ban, disconnectThreshold: 3 },
      { limiter: new RateLimiter(), ban },
    ];
    for (const options of wrong) {
      expect(codeOf(() => rateLimit(options as never))).toBe('ERR_LIMITER_OPTION');
    }
  });

  test('refuses an object as key or cost, also where a RuleLimiter counts', async () => {
    const base = { limit: 5, refundWhen: () => true, ...own };
    const key = rateLimit({ ...base, key: () => ({ key: 'a' }) as never });
    expect((await ask(key)).error).toMatchObject({ code: 'ERR_LIMITER_KEY' });
    const cost = rateLimit({ ...base, cost: () => ({ requests: 0 }) as never });
    expect((await ask(cost)).error).toMatchObject({ code: 'ERR_LIMITER_COST' });
  });
});

describe.each(ENGINES)('rateLimitOf with the %s engine', (engine) => {
  const clock = manualClock();
  const own = { engine, clock };

  test('returns what is left for allowed and for refused requests', async () => {
    const limit = rateLimit({ limit: 3, windowSeconds: 60, cost: 2, ...own });
    const [first, second] = [requestFrom(), requestFrom()];
    expect(rateLimitOf(first)).toBeUndefined();
    await outcomeOf(limit, first);
    expect(rateLimitOf(first)).toEqual({
      policy: '3-in-60s',
      limit: 3,
      remaining: 1,
      resetSeconds: 40,
    });
    expect((await outcomeOf(limit, second)).passed).toBe(false);
    expect(rateLimitOf(second)).toMatchObject({ remaining: 1 });
  });

  test('returns the tightest of all limits of the request', async () => {
    const rules = {
      'an hour': { scope: 'address', quota: 2, windowSeconds: 3600 },
      'a day': { scope: 'address', quota: 2, windowSeconds: 86_400 },
      bytes: { scope: 'address', unit: 'bytes', quota: 9, windowSeconds: 60 },
    };
    const limiter = new RuleLimiter({ ...own, scopes: { address: { kind: 'address' } }, rules });
    const byRules = rateLimit({ limiter });
    const many = rateLimit({ limit: 3, windowSeconds: 60, ...own });
    const request = requestFrom();
    await outcomeOf(byRules, request);
    // Among equals the one declared first.
    expect(rateLimitOf(request)).toMatchObject({ policy: 'an hour', remaining: 1 });
    await outcomeOf(many, request);
    expect(rateLimitOf(request)).toMatchObject({ policy: 'an hour', limit: 2 });
    const one = rateLimit({ limit: 2, windowSeconds: 86_400, name: 'slow', ...own });
    await outcomeOf(one, request);
    // Among equals the one that is full last.
    expect(rateLimitOf(request)).toEqual({
      policy: 'slow',
      limit: 2,
      remaining: 1,
      resetSeconds: 43_200,
    });
  });

  test('asks a limiter only if it is called, where no fields are sent', async () => {
    const limiter = new RateLimiter({ ...own, rateLimit: 1, burstLimit: 5 });
    const getTokens = vi.spyOn(limiter, 'getTokens');
    const limit = rateLimit({ limiter, headers: false });
    const request = requestFrom();
    await outcomeOf(limit, request);
    expect(getTokens).not.toHaveBeenCalled();
    expect(rateLimitOf(request)).toMatchObject({ remaining: 4 });
    await ask(limit);
    expect(rateLimitOf(request)).toMatchObject({ remaining: 4 });
    expect(getTokens).toHaveBeenCalledTimes(1);
  });

  test('returns nothing for a request that was skipped, failed, or is on a list', async () => {
    const skipped = requestFrom();
    await outcomeOf(rateLimit({ limit: 1, skip: () => true, ...own }), skipped);
    const failed = requestFrom();
    await outcomeOf(rateLimit({ limit: 1, cost: () => -1, ...own }), failed);
    const listed = requestFrom();
    const limiter = new RuleLimiter({
      ...own,
      scopes: { address: { kind: 'address' } },
      rules: { all: { scope: 'address', rateLimit: 1 } },
      allow: { address: ['192.0.2.1'] },
    });
    await outcomeOf(rateLimit({ limiter }), listed);
    expect([skipped, failed, listed].map(rateLimitOf)).toEqual([undefined, undefined, undefined]);
  });

  test('is at hand in handlers, messages and errors', async () => {
    const seen: unknown[] = [];
    const note = (request: IncomingMessage) => seen.push(rateLimitOf(request)?.remaining);
    const limit = rateLimit({
      limit: 1,
      handler: (request, _, next, refusal) => {
        note(request);
        next(refusalError(refusal));
      },
      ...own,
    });
    await ask(limit);
    await ask(limit);
    expect(seen).toEqual([0]);
  });
});
