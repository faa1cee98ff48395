// The middleware with a RuleLimiter: the keys of a request, its fields, refusals, lists, bans and plans.

import { RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import { parseProblem } from 'relay-limiter/headers';
import { type RateLimitOptions, type RequestVerdict, rateLimit } from 'relay-limiter/http';
import { describe, expect, test } from 'vitest';
import { codeOf, ENGINES, manualClock } from '../support/limiters.js';
import { ask, type Middleware, outcomeOf, requestFrom } from './support.js';

const SCOPES = { connection: {}, address: { kind: 'address' }, account: {} } as const;

describe.each(ENGINES)('rateLimit with a RuleLimiter and the %s engine', (engine) => {
  const clock = manualClock();

  function limitsOf(options: Omit<RuleLimiterOptions, 'scopes'> & Partial<RuleLimiterOptions>) {
    return new RuleLimiter({ scopes: SCOPES, engine, clock, ...options });
  }

  const ACCOUNT: RateLimitOptions['keys'] = ({ headers }) => ({
    account: headers['account'] as string | undefined,
  });

  test('states every rule that applies as a policy, and the tightest as the limit', async () => {
    const limiter = limitsOf({
      rules: {
        minute: { scope: 'address', quota: 10, windowSeconds: 60 },
        'a second': { scope: 'address', rateLimit: 2, burstLimit: 5 },
        watched: { scope: 'address', rateLimit: 1, dryRun: true },
        login: { scope: 'address', action: 'login', quota: 1, windowSeconds: 1 },
        account: { scope: 'account', quota: 3, windowSeconds: 1 },
      },
    });
    const limit = rateLimit({ limiter });
    expect((await ask(limit)).fields).toEqual({
      'ratelimit-policy': '"minute";q=10;w=60, "a second";q=5;w=3',
      ratelimit: '"a second";r=4;t=1',
    });
    const both = rateLimit({ limiter, keys: ACCOUNT, action: 'login' });
    const { fields } = await ask(both, { headers: { account: 'a' } });
    expect(fields).toEqual({
      'ratelimit-policy':
        '"minute";q=10;w=60, "a second";q=5;w=3, "login";q=1;w=1, "account";q=3;w=1',
      ratelimit: '"login";r=0;t=1',
    });
  });

  test('states the limit on requests in older drafts, and in draft 11 the unit', async () => {
    const limiter = limitsOf({
      rules: {
        requests: { scope: 'address', quota: 10, windowSeconds: 10 },
        bytes: { scope: 'address', unit: 'bytes', quota: 1000, windowSeconds: 10 },
      },
    });
    const cost = { bytes: 400 };
    expect((await ask(rateLimit({ limiter, cost }))).fields).toEqual({
      'ratelimit-policy': '"requests";q=10;w=10, "bytes";q=1000;qu="bytes";w=10',
      ratelimit: '"bytes";r=600;t=1',
    });
    const six = rateLimit({ limiter, cost, headers: [6, 'legacy'] });
    expect((await ask(six)).fields).toMatchObject({
      'ratelimit-policy': '10;w=10',
      'ratelimit-limit': 10,
      'ratelimit-remaining': 8,
      'ratelimit-reset': 1,
      'x-ratelimit-limit': 10,
      'x-ratelimit-remaining': 8,
    });
    // The bytes refuse, so no request is left until they allow one.
    const seven = await ask(rateLimit({ limiter, cost, headers: 7 }));
    expect(seven).toMatchObject({
      passed: false,
      fields: { ratelimit: 'limit=10, remaining=0, reset=3', 'retry-after': '3' },
    });
  });

  test('names the refusing rule in the fields, in the body and to its functions', async () => {
    const limiter = limitsOf({
      rules: {
        few: { scope: 'account', quota: 1, windowSeconds: 100 },
        many: { scope: 'address', quota: 100, windowSeconds: 100 },
      },
    });
    const verdicts: Partial<RequestVerdict<unknown>>[] = [];
    const limit = rateLimit({
      limiter,
      keys: ACCOUNT,
      onVerdict: ({ request, ...verdict }) => verdicts.push(verdict),
    });
    const asking = { headers: { account: 'alice' } };
    await ask(limit, asking);
    const { passed, status, fields, body } = await ask(limit, asking);
    expect([passed, status]).toEqual([false, 429]);
    expect(fields).toMatchObject({
      'ratelimit-policy': '"few";q=1;w=100, "many";q=100;w=100',
      ratelimit: '"few";r=0;t=100',
      'retry-after': '101',
    });
    expect(fields['connection']).toBeUndefined();
    expect(parseProblem(body)).toEqual({ problem: 'quota-exceeded', violated: ['few'] });
    expect(verdicts).toMatchObject([
      { action: 'allow', policy: 'few', rule: null, scope: null, key: '192.0.2.1' },
      {
        action: 'delay',
        reason: 'rate',
        policy: 'few',
        rule: 'few',
        scope: 'account',
        key: 'alice',
      },
    ]);
    expect(limiter.peek({ address: '192.0.2.1' }).rules[0]?.remaining).toBe(99);
  });

  test('checks requests as messages, unless it is given another action or plan', async () => {
    const limiter = limitsOf({
      rules: {
        messages: { scope: 'address', action: 'message', quota: 1, windowSeconds: 10 },
        searches: { scope: 'address', action: 'search', quota: 3, windowSeconds: 10 },
      },
      plans: { paid: { messages: { quota: 5 } } },
    });
    const remaining = async (options: RateLimitOptions) => {
      const { fields } = await ask(rateLimit({ limiter, ...options }));
      return fields['ratelimit'];
    };
    expect(await remaining({})).toBe('"messages";r=0;t=10');
    expect(await remaining({ action: 'search' })).toBe('"searches";r=2;t=4');
    expect(await remaining({ action: async () => 'search' })).toBe('"searches";r=1;t=4');
    expect(await remaining({ plan: 'paid' })).toBe('"messages";r=3;t=2');
    expect(await remaining({ plan: async () => 'paid' })).toBe('"messages";r=2;t=2');
    expect(await remaining({ action: () => undefined })).toBeUndefined();
  });

  test('denies an address on a deny list with 403, and without a promise to let it in', async () => {
    const limiter = limitsOf({
      rules: { all: { scope: 'address', rateLimit: 1 } },
      deny: { address: ['198.51.100.0/24'] },
    });
    const from = { address: '198.51.100.7' };
    const { passed, status, fields, body } = await ask(rateLimit({ limiter }), from);
    expect([passed, status]).toEqual([false, 403]);
    expect(Object.keys(fields).sort()).toEqual(['connection', 'content-length', 'content-type']);
    expect(JSON.parse(body)).toEqual({
      type: 'about:blank',
      status: 403,
      detail: 'This client is not allowed.',
    });
    const custom = rateLimit({
      limiter,
      statusCode: ({ reason }) => (reason === 'denied' ? 404 : 429),
    });
    expect((await ask(custom, from)).status).toBe(404);
    expect((await ask(rateLimit({ limiter, statusCode: 503 }), from)).status).toBe(503);
  });

  test('lets an address on an allow list pass without fields, whatever it has used', async () => {
    const limiter = limitsOf({
      rules: { all: { scope: 'address', quota: 1, windowSeconds: 60 } },
      allow: { address: ['10.0.0.0/8'] },
    });
    const limit = rateLimit({ limiter, refundWhen: () => true });
    for (let n = 0; n < 3; n += 1) {
      expect(await ask(limit, { address: '10.1.2.3' })).toMatchObject({ passed: true, fields: {} });
    }
  });

  test('refuses a banned key with the rest of the ban, and closes its connection', async () => {
    const limiter = limitsOf({
      rules: { all: { scope: 'address', quota: 1, windowSeconds: 60 } },
      bans: { address: { violations: 2, withinSeconds: 600, seconds: 300 } },
    });
    const limit = rateLimit({ limiter });
    await ask(limit);
    expect((await ask(limit)).fields['connection']).toBeUndefined();
    const begun = await ask(limit);
    expect(begun).toMatchObject({
      passed: false,
      status: 429,
      fields: { connection: 'close', 'retry-after': '300', ratelimit: '"all";r=0;t=300' },
    });
    expect(parseProblem(begun.body)).toEqual({
      problem: 'abnormal-usage-detected',
      violated: ['all'],
    });
    clock.now += 100;
    const during = await ask(limit);
    expect(during.fields).toMatchObject({ connection: 'close', 'retry-after': '200' });
    // A ban is no policy.
    expect(parseProblem(during.body).violated).toEqual([]);
    clock.now += 200;
    expect((await ask(limit)).passed).toBe(true);
    limiter.ban('address', '192.0.2.9', Infinity);
    const forever = await ask(limit, { address: '192.0.2.9', headers: { accept: 'text/html' } });
    expect(forever.fields['retry-after']).toBeUndefined();
    expect(forever.body).toBe('This client is banned.\n');
  });

  test('reports warnings of allowed requests', async () => {
    const limiter = limitsOf({
      rules: { all: { scope: 'address', quota: 4, windowSeconds: 60, warnBelow: 0.5 } },
    });
    const warnings: unknown[] = [];
    const limit = rateLimit({ limiter, onVerdict: ({ warning }) => warnings.push(warning) });
    for (let n = 0; n < 4; n += 1) await ask(limit);
    expect(warnings).toEqual([null, null, 'all', 'all']);
  });

  test('counts addresses by the subnets of the scope, and derived networks', async () => {
    const limiter = limitsOf({
      scopes: {
        address: { kind: 'address', ipv6Subnet: 56 },
        network: { from: 'address', ipv4Subnet: 24, ipv6Subnet: 32 },
      },
      rules: {
        address: { scope: 'address', quota: 2, windowSeconds: 60 },
        network: { scope: 'network', quota: 3, windowSeconds: 60 },
      },
    });
    const verdicts: RequestVerdict<unknown>[] = [];
    const limit = rateLimit({ limiter, onVerdict: (verdict) => verdicts.push(verdict) });
    for (const address of ['2001:db8::1', '2001:db8:0:ff::2', '2001:db8:0:1::3', '2001:db8:1::4']) {
      await ask(limit, { address });
    }
    expect(verdicts.map(({ rule }) => rule)).toEqual([null, null, 'address', null]);
    await ask(limit, { address: '2001:db8:2::5' });
    expect(verdicts.at(-1)).toMatchObject({
      rule: 'network',
      scope: 'network',
      key: '2001:db8:2::5',
    });
  });

  test('uses the address key if the scope of addresses is one of texts', async () => {
    const limiter = limitsOf({
      scopes: { address: {} },
      rules: { all: { scope: 'address', quota: 1, windowSeconds: 60 } },
    });
    const limit = rateLimit({ limiter });
    expect((await ask(limit, { address: '2001:db8::1' })).passed).toBe(true);
    expect((await ask(limit, { address: '2001:db8::2' })).passed).toBe(false);
    expect(limiter.peek('2001:db8::/64').rules[0]?.remaining).toBe(0);
  });

  test('counts a text scope of addresses by the subnets of the options, as the guards do', async () => {
    const limiter = limitsOf({
      scopes: { address: {} },
      rules: { all: { scope: 'address', quota: 1, windowSeconds: 60 } },
    });
    const limit = rateLimit({ limiter, ipv6Subnet: 56, ipv4Subnet: 24 });
    expect((await ask(limit, { address: '2001:db8:1:1ff::5' })).passed).toBe(true);
    expect((await ask(limit, { address: '2001:db8:1:100::6' })).passed).toBe(false);
    expect(limiter.peek('2001:db8:1:100::/56').rules[0]?.remaining).toBe(0);
    expect((await ask(limit, { address: '192.0.2.1' })).passed).toBe(true);
    expect((await ask(limit, { address: '192.0.2.2' })).passed).toBe(false);
  });

  test('rejects a limiter in which the scope address or connection has another kind', () => {
    const invalid = (scopes: RuleLimiterOptions['scopes']) =>
      codeOf(() => rateLimit({ limiter: limitsOf({ scopes, rules: {} }) }));
    expect(invalid({ address: { single: true } })).toBe('ERR_LIMITER_OPTION');
    expect(invalid({ connection: { kind: 'address' } })).toBe('ERR_LIMITER_OPTION');
  });

  test('limits each connection, and removes its key when it closes', async () => {
    const limiter = limitsOf({
      rules: { messages: { scope: 'connection', quota: 1, windowSeconds: 60 } },
    });
    const limit = rateLimit({ limiter });
    const second = rateLimit({ limiter, name: undefined });
    const request = requestFrom();
    expect((await outcomeOf(limit, request)).passed).toBe(true);
    expect((await outcomeOf(second, request)).passed).toBe(false);
    expect((await ask(limit)).passed).toBe(true);
    expect(limiter.getStats().scopes['connection']?.peers).toBe(2);
    expect(request.socket.listenerCount('close')).toBe(1);
    request.socket.destroy();
    await new Promise((resolve) => request.socket.once('close', resolve));
    expect(limiter.getStats().scopes['connection']?.peers).toBe(1);
  });

  test('removes the key of a connection from several limiters by one listener', async () => {
    const rules = { all: { scope: 'connection', rateLimit: 1 } };
    const limiters = Array.from({ length: 12 }, () => limitsOf({ rules }));
    const request = requestFrom();
    for (const limiter of limiters) await outcomeOf(rateLimit({ limiter }), request);
    const peers = () =>
      limiters.map((limiter) => limiter.getStats().scopes['connection']?.peers as number);
    expect(peers()).toEqual(limiters.map(() => 1));
    expect(request.socket.listenerCount('close')).toBe(1);
    request.socket.destroy();
    await new Promise((resolve) => request.socket.once('close', resolve));
    expect(peers()).toEqual(limiters.map(() => 0));
  });

  test('does not name a connection that has closed while its keys were determined', async () => {
    const limiter = limitsOf({
      rules: { all: { scope: 'connection', quota: 5, windowSeconds: 60 } },
    });
    let settle: (keys: Record<string, string>) => void = () => {};
    const keys = () => new Promise<Record<string, string>>((resolve) => (settle = resolve));
    const limit = rateLimit({ limiter, keys });
    const request = requestFrom();
    const outcome = outcomeOf(limit, request);
    request.socket.destroy();
    await new Promise((resolve) => request.socket.once('close', resolve));
    settle({});
    expect((await outcome).passed).toBe(true);
    expect(limiter.getStats().scopes['connection']?.peers).toBe(0);
  });

  test('believes only trusted proxies, and does not limit the connection of a proxy', async () => {
    const limiter = limitsOf({
      rules: {
        connections: { scope: 'connection', quota: 1, windowSeconds: 60 },
        addresses: { scope: 'address', quota: 2, windowSeconds: 60 },
      },
    });
    const limit = rateLimit({ limiter, trustedProxies: '192.0.2.1' });
    const request = requestFrom();
    const behind = (client: string) => {
      const next = requestFrom();
      Object.defineProperty(next, 'socket', { value: request.socket });
      next.headers['x-forwarded-for'] = client;
      return outcomeOf(limit, next);
    };
    const passed: boolean[] = [];
    for (const client of ['203.0.113.1', '203.0.113.1', '203.0.113.1', '203.0.113.2']) {
      passed.push((await behind(client)).passed);
    }
    expect(passed).toEqual([true, true, false, true]);
    // Not of the proxy: the header is spoofed.
    const spoofed = { address: '198.51.100.1', headers: { 'x-forwarded-for': '203.0.113.3' } };
    await ask(limit, spoofed);
    expect(limiter.peek({ address: '203.0.113.3' }).rules[0]?.remaining).toBe(2);
    expect(limiter.peek({ address: '198.51.100.1' }).rules[0]?.remaining).toBe(1);
  });

  test.each(['address', 'connection'])('rejects keys with the scope %s', async (scope) => {
    const limiter = limitsOf({ rules: { all: { scope: 'address', quota: 1, windowSeconds: 60 } } });
    const given: { key: string | undefined } = { key: '203.0.113.1' };
    const limit = rateLimit({ limiter, keys: () => ({ [scope]: given.key }) });
    const { passed, error } = await ask(limit);
    expect([passed, error]).toMatchObject([false, { code: 'ERR_LIMITER_KEY' }]);
    // Undefined is no key: the address of the socket counts.
    given.key = undefined;
    expect((await ask(limit)).passed).toBe(true);
    expect(limiter.peek({ address: '192.0.2.1' }).rules[0]?.remaining).toBe(0);
  });

  test('fails a request without an address if the limiter counts addresses', async () => {
    const limiter = limitsOf({ rules: { all: { scope: 'address', rateLimit: 1 } } });
    const request = requestFrom();
    Object.defineProperty(request, 'socket', { value: {} });
    expect(await outcomeOf(rateLimit({ limiter }), request)).toMatchObject({
      passed: false,
      error: { code: 'ERR_LIMITER_KEY' },
    });
    const accounts = new RuleLimiter({
      scopes: { account: {} },
      rules: { all: { scope: 'account', rateLimit: 1 } },
    });
    const keys = () => ({ account: 'a' });
    expect((await outcomeOf(rateLimit({ limiter: accounts, keys }), request)).passed).toBe(true);
  });

  test('fails a request without a charge if a function throws or returns nonsense', async () => {
    const limiter = limitsOf({ rules: { all: { scope: 'address', quota: 9, windowSeconds: 60 } } });
    const failure = new Error('no database');
    const fails = () => {
      throw failure;
    };
    for (const option of ['keys', 'action', 'plan', 'cost', 'skip'] as const) {
      for (const given of [fails, () => Promise.reject(failure)]) {
        const { passed, error, fields } = await ask(rateLimit({ limiter, [option]: given }));
        expect([passed, error, fields]).toEqual([false, failure, {}]);
      }
    }
    const nonsense: [keyof RateLimitOptions, unknown, string][] = [
      ['keys', 'alice', 'ERR_LIMITER_KEY'],
      ['keys', null, 'ERR_LIMITER_KEY'],
      ['keys', [], 'ERR_LIMITER_KEY'],
      ['keys', { account: 5 }, 'ERR_LIMITER_KEY'],
      ['keys', { user: 'a' }, 'ERR_LIMITER_KEY'],
      ['keys', { address: 'nobody' }, 'ERR_LIMITER_KEY'],
      ['cost', -1, 'ERR_LIMITER_COST'],
      ['cost', Number.NaN, 'ERR_LIMITER_COST'],
      ['cost', { rows: 5 }, 'ERR_LIMITER_COST'],
      ['cost', 'much', 'ERR_LIMITER_COST'],
      ['action', 5, 'ERR_LIMITER_OPTION'],
      ['plan', 'unknown', 'ERR_LIMITER_OPTION'],
    ];
    for (const [option, value, code] of nonsense) {
      const limit = rateLimit({ limiter, [option]: () => value });
      expect(await ask(limit)).toMatchObject({ passed: false, error: { code }, fields: {} });
    }
    expect(limiter.peek({ address: '192.0.2.1' }).rules[0]?.remaining).toBe(9);
    expect(limiter.getStats().outcomes.allow).toBe(0);
  });

  test('rejects options that a RuleLimiter leaves without effect, and its own without one', () => {
    const limiter = limitsOf({ rules: { all: { scope: 'address', rateLimit: 1 } } });
    const wrong: Record<string, unknown>[] = [
      { limiter, key: () => 'a' },
      { limiter, name: 'mine' },
      { limiter, ipv6Subnet: 56 },
      { limiter, limit: 5 },
      { limiter, ban: { violations: 1, withinSeconds: 1, seconds: 1 } },
      { limiter, keys: 'address' },
      { limiter, action: 5 },
      { limiter, plan: {} },
      { limiter, cost: { bytes: -1 } },
      { limit: 5, keys: () => ({}) },
      { limit: 5, action: 'login' },
      { limit: 5, plan: 'paid' },
      { limit: 5, cost: { bytes: 1 } },
    ];
    for (const options of wrong) {
      expect(codeOf(() => rateLimit(options as never))).toBe('ERR_LIMITER_OPTION');
    }
    const named = limitsOf({ rules: { größe: { scope: 'address', rateLimit: 1 } } });
    expect(codeOf(() => rateLimit({ limiter: named }))).toBe('ERR_LIMITER_OPTION');
    expect(() => rateLimit({ limiter: named })).toThrow(
      'for the option headers, rules["größe"].name must be a string of printable ASCII, got "größe"',
    );
    rateLimit({ limiter: named, headers: false });
    rateLimit({ limiter: named, headers: 6 });
  });

  test('follows an update, and leaves out rules that the fields cannot express', async () => {
    const limiter = limitsOf({ rules: { old: { scope: 'address', quota: 5, windowSeconds: 60 } } });
    const limit = rateLimit({ limiter });
    await ask(limit);
    limiter.update({
      rules: {
        old: { scope: 'address', quota: 10, windowSeconds: 60 },
        größe: { scope: 'address', quota: 20, windowSeconds: 60 },
      },
    });
    expect((await ask(limit)).fields).toEqual({
      'ratelimit-policy': '"old";q=10;w=60',
      ratelimit: '"old";r=8;t=6',
    });
    limiter.update({ rules: {} });
    expect(await ask(limit)).toMatchObject({ passed: true, fields: {} });
  });

  test('answers requests of one connection as those of many', async () => {
    const quota = { scope: 'address', quota: 3, windowSeconds: 60 } as const;
    const steps: ((limiter: RuleLimiter) => void)[] = [
      () => {},
      () => {},
      (limiter) => limiter.update({ rules: { all: { ...quota, quota: 5 }, more: quota } }),
      () => {},
      () => {},
      () => {},
      (limiter) => limiter.removePeer({ address: '192.0.2.1' }),
      (limiter) => limiter.ban('address', '192.0.2.1', 9),
      (limiter) => limiter.unban('address', '192.0.2.1'),
      (limiter) => limiter.update({ allow: { address: ['192.0.2.0/24'] } }),
      (limiter) => limiter.update({ allow: {}, deny: { address: ['192.0.2.0/24'] } }),
      (limiter) => limiter.update({ deny: {}, plans: { paid: { more: { quota: 50 } } } }),
    ];
    const [one, many] = await Promise.all(
      [true, false].map(async (isOne) => {
        const limiter = limitsOf({ rules: { all: quota } });
        const limit = rateLimit({ limiter });
        const { socket } = requestFrom();
        const outcomes = [];
        const send = (middleware: Middleware) => {
          const request = requestFrom();
          if (isOne) request.socket = socket;
          return outcomeOf(middleware, request);
        };
        for (const step of steps) {
          step(limiter);
          outcomes.push(await send(limit));
        }
        return [...outcomes, await send(rateLimit({ limiter, plan: 'paid' }))];
      }),
    );
    expect(one).toEqual(many);
    const refused = one?.flatMap(({ passed }, n) => (passed ? [] : [n]));
    // The last token of the rule `more`, the ban and the deny list.
    expect(refused).toEqual([5, 7, 10]);
  });

  test('states other limits of the request beside it, and waits for all of them', async () => {
    const limiter = limitsOf({
      rules: {
        hour: { scope: 'address', quota: 2, windowSeconds: 3600 },
        bytes: { scope: 'address', unit: 'bytes', rateLimit: 10 },
      },
    });
    const rules = rateLimit({ limiter });
    const one = rateLimit({ limit: 1, windowSeconds: 5, name: 'one', engine, clock });
    const both: typeof rules = Object.assign(
      ((request, response, next) =>
        rules(request, response, () => one(request, response, next))) as typeof rules,
      rules,
    );
    expect((await ask(both)).fields).toEqual({
      'ratelimit-policy': '"hour";q=2;w=3600, "bytes";q=100;qu="bytes";w=10, "one";q=1;w=5',
      ratelimit: '"hour";r=1;t=1800, "one";r=0;t=5',
    });
    // The rule has nothing left for the same request again, for half an hour.
    expect((await ask(both)).fields['retry-after']).toBe('1801');
  });

  test('states each rule once if it has checked a request twice, as of the last check', async () => {
    const limiter = limitsOf({
      rules: {
        all: { scope: 'address', quota: 9, windowSeconds: 60 },
        logins: { scope: 'address', action: 'login', quota: 20, windowSeconds: 60 },
      },
    });
    const first = rateLimit({ limiter, warnings: false });
    const second = rateLimit({ limiter, action: 'login', warnings: false });
    const both: Middleware = (request, response, next) =>
      first(request, response, () => second(request, response, next));
    expect((await ask(both)).fields).toEqual({
      'ratelimit-policy': '"all";q=9;w=60, "logins";q=20;w=60',
      ratelimit: '"all";r=7;t=7',
    });
  });

  test('resets keys by scope', async () => {
    const limiter = limitsOf({
      rules: { all: { scope: 'address', quota: 1, windowSeconds: 60 } },
    });
    const limit = rateLimit({ limiter });
    await ask(limit);
    expect((await ask(limit)).passed).toBe(false);
    limit.resetKey({ address: '192.0.2.1' });
    expect((await ask(limit)).passed).toBe(true);
    expect(codeOf(() => limit.resetKey({ user: 'a' }))).toBe('ERR_LIMITER_KEY');
    limit.close();
    expect((await ask(limit)).passed).toBe(false);
  });

  test('tells a full scope as a wait of a second, without a violated policy', async () => {
    const limiter = limitsOf({
      maxPeers: 1,
      rules: { all: { scope: 'address', quota: 1, windowSeconds: 60 } },
    });
    limiter.ban('address', '198.51.100.1', 60);
    const { passed, fields, body } = await ask(rateLimit({ limiter }));
    expect(passed).toBe(false);
    expect(fields).toMatchObject({ 'retry-after': '1', ratelimit: '"all";r=0;t=1' });
    expect(parseProblem(body)).toEqual({ problem: 'quota-exceeded', violated: [] });
  });
});
