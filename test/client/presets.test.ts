// The presets against strict mocks of the vendors: nothing that the preset can foresee is refused, and what is refused all
// the same is repeated in time.

import { limitFetch, PolicyLimiter, PolicyLimiterGroup, presets } from 'relay-limiter/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Bucket, json, type Mock, mockOf, now, runAll, Window } from './vendors.js';

type Options = RequestInit & { path?: string };

// The fake timers also replace the default clock of limiters. The time is 10 seconds after a full minute.
beforeEach(() => {
  vi.useFakeTimers({ now: 1_795_360_810_000 });
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const repeat = <T>(count: number, make: (n: number) => T): T[] =>
  Array.from({ length: count }, (_, n) => make(n));

/** Returns a function that prepares a call of `path` by a limited fetch. */
function calling(limited: typeof fetch) {
  return ({ path = '/', ...init }: Options = {}) => {
    return () => limited(`https://api.example${path}`, init);
  };
}

const post = (body: unknown, path = '/'): Options => {
  return { method: 'POST', path, body: JSON.stringify(body) };
};

const all = (count: number, status = 200) => repeat(count, () => status);

describe('presets.github', () => {
  const limitedBy = ({ fetch }: Mock) => {
    const { group, fetch: options } = presets.github();
    return calling(limitFetch(fetch, new PolicyLimiterGroup(group), options));
  };

  /** The primary limit in a window, 900 points and 80 content-creating requests in any minute. */
  function github(quota: number, seconds: number) {
    const resources = {
      core: new Window(quota, seconds),
      search: new Window(30, 60),
    };
    const points: { at: number; points: number; content: number }[] = [];
    return mockOf(({ method, path }, refuse) => {
      const name = path.startsWith('/search/') ? 'search' : 'core';
      const primary = resources[name];
      const isAllowed = primary.take(1);
      const headers = {
        'x-ratelimit-limit': String(primary.quota),
        'x-ratelimit-remaining': String(primary.left),
        'x-ratelimit-reset': String(Math.ceil(now() + primary.resetSeconds)),
        'x-ratelimit-resource': name,
      };
      points.push({
        at: now(),
        points: method === 'GET' ? 1 : 5,
        content: method === 'GET' ? 0 : 1,
      });
      const recent = points.filter(({ at }) => at > now() - 60);
      const sum = (key: 'points' | 'content') => recent.reduce((total, one) => total + one[key], 0);
      if (isAllowed && sum('points') <= 900 && sum('content') <= 80) return json({}, 200, headers);
      refuse();
      const message = isAllowed
        ? 'You have exceeded a secondary rate limit.'
        : 'API rate limit exceeded';
      return json({ message }, 403, headers);
    });
  }

  it('obeys the primary limit and the secondary ones', async () => {
    const mock = github(250, 300);
    const call = limitedBy(mock);
    const calls = [
      ...repeat(200, () => call()),
      ...repeat(100, () => call({ method: 'POST', body: '{}' })),
    ];
    const { statuses, lastAt } = await runAll(calls, 700);
    expect(statuses).toEqual(all(300));
    expect(mock.refused).toEqual([]);
    // 250 of the first window, and the rest in the next one, which begins after 290 seconds.
    expect(lastAt).toBeLessThan(300);
  });

  it('keeps to 900 points and 80 writes a minute', async () => {
    const mock = github(1e6, 3600);
    const call = limitedBy(mock);
    const writes = repeat(160, () => call({ method: 'PATCH', body: '{}' }));
    const { statuses } = await runAll([...repeat(1000, () => call()), ...writes], 600);
    expect(statuses).toEqual(all(1160));
    expect(mock.refused).toEqual([]);
  });

  it('has at most 100 requests under way, of all resources together', async () => {
    let underWay = 0;
    const mock = mockOf((_, refuse) => {
      if (underWay <= 100) return json({});
      refuse();
      return json({ message: 'You have exceeded a secondary rate limit.' }, 403);
    });
    const call = limitedBy({
      ...mock,
      fetch: async (input, init) => {
        underWay += 1;
        return mock.fetch(input, init).finally(() => {
          underWay -= 1;
        });
      },
    });
    const query = post({ query: '{ viewer { login } }' }, '/graphql');
    // So many good answers that neither resource is limited by their number any more.
    await runAll(
      repeat(40, (n) => call(n % 2 === 0 ? {} : query)),
      10,
    );
    const { statuses } = await runAll(
      repeat(300, (n) => call(n % 2 === 0 ? {} : query)),
      60,
    );
    expect(statuses).toEqual(all(300));
    expect(mock.refused).toEqual([]);
  });

  it.each([
    ['GET', '/user', undefined, 'core', { requests: 1, points: 1 }],
    ['POST', '/repos/a/b/issues', { query: 'a' }, 'core', { requests: 1, points: 5, content: 1 }],
    ['GET', '/search/code?q=a', undefined, 'code_search', { requests: 1, points: 1 }],
    ['GET', '/search/issues?q=a', undefined, 'search', { requests: 1, points: 1 }],
    ['GET', '/api/v3/search/users', undefined, 'search', { requests: 1, points: 1 }],
    ['POST', '/graphql', { query: '{ viewer { login } }' }, 'graphql', { requests: 1, points: 1 }],
    [
      'POST',
      '/graphql',
      { query: ' mutation { a }' },
      'graphql',
      { requests: 1, points: 5, content: 1 },
    ],
  ])('knows the resource and the cost of %s %s %j', (method, path, body, key, cost) => {
    const { fetch: options } = presets.github();
    const request = { method, url: `https://api.github.com${path}`, body: JSON.stringify(body) };
    expect(options.key?.(request)).toBe(key);
    expect(options.cost?.(request)).toEqual(cost);
  });

  it('waits a minute after a secondary refusal that gives no time', async () => {
    const at: number[] = [];
    const mock = mockOf(() => {
      at.push(now());
      const message = 'You have exceeded a secondary rate limit. Please wait.';
      return at.length === 1 ? json({ message }, 403, { 'x-ratelimit-remaining': '99' }) : json({});
    });
    const { statuses } = await runAll([limitedBy(mock)()], 100);
    expect(statuses).toEqual([200]);
    expect((at[1] as number) - (at[0] as number)).toBeCloseTo(60, 0);
  });

  it.each<[string, Record<string, string>, string[]]>([
    ['secondary', { 'retry-after': '20', 'x-ratelimit-remaining': '10' }, ['/repos/a']],
    ['primary', { 'x-ratelimit-remaining': '0' }, ['/repos/a', '/search/issues']],
  ])(
    'holds back all resources after a %s refusal only where it concerns them',
    async (_, headers, sent) => {
      const mock = mockOf(({ path }, refuse) => {
        if (path !== '/repos/a' || mock.calls.length > 1) return json({});
        refuse();
        return json({ message: 'no' }, 403, {
          'x-ratelimit-reset': String(now() + 20),
          ...headers,
        });
      });
      const call = limitedBy(mock);
      const running = runAll([call({ path: '/repos/a' })], 15);
      await running;
      const { statuses } = await runAll([call({ path: '/search/issues' })], 1);
      expect(mock.calls.map(({ path }) => path)).toEqual(sent);
      expect(statuses).toHaveLength(sent.length - 1);
    },
  );

  it('returns a 403 for want of rights at once', async () => {
    const mock = mockOf(() => json({ message: 'Resource not accessible' }, 403));
    const { statuses } = await runAll([limitedBy(mock)()], 1);
    expect(statuses).toEqual([403]);
    expect(mock.calls).toHaveLength(1);
  });

  it('does not hold back other resources because the search is spent', async () => {
    const mock = github(5000, 3600);
    const call = limitedBy(mock);
    const searches = repeat(31, () => call({ path: '/search/issues' }));
    await runAll(searches, 20);
    const { statuses } = await runAll([call({ path: '/user' })], 2);
    expect(statuses).toEqual([200]);
  });

  it('counts a GraphQL query as a read, and a mutation as a write', () => {
    const { cost } = presets.github().fetch;
    const costOf = (query: string) => {
      return cost?.({ url: '/graphql', method: 'POST', body: JSON.stringify({ query }) });
    };
    expect(costOf('query { viewer { login } }')).toEqual({ requests: 1, points: 1 });
    expect(costOf('mutation { a }')).toEqual({ requests: 1, points: 5, content: 1 });
  });
});

describe('presets.discord', () => {
  const limitedBy = ({ fetch }: Mock) => {
    const { group, fetch: options } = presets.discord();
    return calling(limitFetch(fetch, new PolicyLimiterGroup(group), options));
  };
  const channel = (n: number) => `/api/v10/channels/12345678901234567${n}/messages`;

  function discord() {
    const routes = new Map<string, Window>();
    const global = new Window(50, 1);
    return mockOf(({ method, path }, refuse) => {
      const key = `${method} ${path}`;
      const route = routes.get(key) ?? new Window(5, 5, { aligned: false });
      routes.set(key, route);
      const isAllowed = global.take(1) && route.take(1);
      const headers = {
        'X-RateLimit-Limit': '5',
        'X-RateLimit-Remaining': String(route.left),
        'X-RateLimit-Reset-After': route.resetSeconds.toFixed(3),
      };
      if (isAllowed) return json({}, 200, headers);
      refuse();
      return json({ retry_after: route.resetSeconds }, 429, headers);
    });
  }

  it('uses each route fully, and all of them together', async () => {
    const mock = discord();
    const call = limitedBy(mock);
    const calls = repeat(100, (n) => call({ ...post({}), path: channel(n % 5) }));
    const { statuses, lastAt } = await runAll(calls, 60);
    expect(statuses).toEqual(all(100));
    expect(mock.refused).toEqual([]);
    // Four windows of five seconds, of which the last needs no end.
    expect(lastAt).toBeLessThan(22);
  });

  it('waits for the fraction of a second that the body of a refusal says', async () => {
    const at: number[] = [];
    const mock = mockOf(() => {
      at.push(now());
      if (at.length > 1) return json({});
      return json({ retry_after: 0.3, global: false }, 429, { 'Retry-After': '1' });
    });
    await runAll([limitedBy(mock)(post({}, channel(1)))], 5);
    expect((at[1] as number) - (at[0] as number)).toBeCloseTo(0.35, 2);
  });

  it.each<[string, Record<string, string>, number]>([
    ['global', { 'X-RateLimit-Global': 'true' }, 1],
    ['route', { 'X-RateLimit-Remaining': '0', 'X-RateLimit-Reset-After': '9.000' }, 2],
  ])('holds back all routes only after a refusal by the %s limit', async (_, headers, sent) => {
    const mock = mockOf((_call, refuse) => {
      if (mock.calls.length > 1) return json({});
      refuse();
      return json({ retry_after: 9 }, 429, { 'Retry-After': '9', ...headers });
    });
    const call = limitedBy(mock);
    await runAll([call({ ...post({}), path: channel(1) })], 1);
    await runAll([call({ ...post({}), path: channel(2) })], 1);
    expect(mock.calls).toHaveLength(sent);
  });

  it('tells routes apart as Discord does', () => {
    const { key } = presets.discord().fetch;
    const of = (path: string, method = 'GET') =>
      key?.({ url: `https://d.example/api/v10${path}`, method });
    const [a, b] = ['123456789012345678', '876543210987654321'];
    expect(of(`/channels/${a}/messages/${b}`)).toBe(`GET /channels/${a}/messages/:id`);
    expect(of(`/channels/${a}/messages/${b}`)).toBe(of(`/channels/${a}/messages/${a}`));
    expect(of(`/channels/${a}`)).not.toBe(of(`/channels/${b}`));
    expect(of(`/channels/${a}`)).not.toBe(of(`/channels/${a}`, 'PATCH'));
    expect(of(`/users/${a}`)).toBe(of(`/users/${b}`));
    const reaction = (emoji: string) =>
      of(`/channels/${a}/messages/${b}/reactions/${emoji}/@me`, 'PUT');
    expect(reaction('a')).toBe(reaction('b'));
  });
});

/** Returns a duration as Go writes it. */
const duration = (seconds: number) =>
  seconds < 1 ? `${Math.round(seconds * 1000)}ms` : `${seconds.toFixed(2)}s`;

describe('presets.openai', () => {
  const question = (tokens: number) => {
    return post({ messages: ['x'.repeat(400)], max_tokens: tokens - 110 }, '/v1/chat/completions');
  };

  function openai(tokensPerMinute: number) {
    const requests = new Bucket(500, 500 / 60);
    const tokens = new Bucket(tokensPerMinute, tokensPerMinute / 60);
    return mockOf(({ body }, refuse) => {
      const needed = JSON.stringify(body['messages']).length / 4 + Number(body['max_tokens']);
      const isAllowed = tokens.left >= needed && requests.take(1) && tokens.take(needed);
      const headers = {
        'x-ratelimit-limit-requests': '500',
        'x-ratelimit-remaining-requests': String(Math.floor(requests.left)),
        'x-ratelimit-reset-requests': duration((500 - requests.left) / requests.perSecond),
        'x-ratelimit-limit-tokens': String(tokensPerMinute),
        'x-ratelimit-remaining-tokens': String(Math.floor(tokens.left)),
        'x-ratelimit-reset-tokens': duration((tokensPerMinute - tokens.left) / tokens.perSecond),
      };
      if (isAllowed) return json({}, 200, headers);
      refuse();
      return json({ error: { code: 'rate_limit_exceeded' } }, 429, {
        ...headers,
        'retry-after-ms': '900',
      });
    });
  }

  it('keeps to requests and tokens at the same time', async () => {
    const mock = openai(30_000);
    const { limiter, fetch } = presets.openai();
    const call = calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch));
    const { statuses, lastAt } = await runAll(
      repeat(60, () => call(question(1000))),
      400,
    );
    expect(statuses).toEqual(all(60));
    expect(mock.refused).toEqual([]);
    expect(lastAt).toBeGreaterThan(60);
    expect(lastAt).toBeLessThan(180);
  });

  it('returns a spent budget at once, and repeats other refusals', async () => {
    for (const [code, attempts] of [
      ['insufficient_quota', 1],
      ['rate_limit_exceeded', 3],
    ] as const) {
      const mock = mockOf(() => json({ error: { code } }, 429, { 'retry-after-ms': '100' }));
      const { limiter, fetch } = presets.openai();
      const call = calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch));
      const { statuses } = await runAll([call(question(1000))], 10);
      expect(statuses).toEqual([429]);
      expect(mock.calls).toHaveLength(attempts);
    }
  });
});

describe('presets.anthropic', () => {
  const message = () => post({ messages: ['x'.repeat(4000)], max_tokens: 500 }, '/v1/messages');

  function anthropic() {
    const buckets = {
      requests: new Bucket(50, 50 / 60),
      'input-tokens': new Bucket(30_000, 500),
      'output-tokens': new Bucket(8_000, 8_000 / 60),
    };
    return mockOf(({ body }, refuse) => {
      const needed = {
        requests: 1,
        'input-tokens': JSON.stringify(body['messages']).length / 4,
        'output-tokens': Number(body['max_tokens']),
      };
      const names = Object.keys(buckets) as (keyof typeof buckets)[];
      const isAllowed = names.every((name) => buckets[name].left >= needed[name]);
      if (isAllowed) for (const name of names) buckets[name].take(needed[name]);
      const headers: Record<string, string> = {};
      for (const name of names) {
        const { capacity, left, perSecond } = buckets[name];
        const fullAt = new Date(Date.now() + ((capacity - left) / perSecond) * 1000);
        headers[`anthropic-ratelimit-${name}-limit`] = String(capacity);
        headers[`anthropic-ratelimit-${name}-remaining`] = String(Math.floor(left));
        headers[`anthropic-ratelimit-${name}-reset`] = fullAt.toISOString();
      }
      if (isAllowed) return json({}, 200, headers);
      refuse();
      return json({ error: { type: 'rate_limit_error' } }, 429, { ...headers, 'Retry-After': '5' });
    });
  }

  it('keeps to requests, input tokens and output tokens at the same time', async () => {
    const mock = anthropic();
    const { limiter, fetch } = presets.anthropic();
    const call = calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch));
    const { statuses } = await runAll(
      repeat(40, () => call(message())),
      600,
    );
    expect(statuses).toEqual(all(40));
    expect(mock.refused).toEqual([]);
  });

  it('repeats a request that finds the service overloaded', async () => {
    const mock = mockOf(() => json({}, mock.calls.length === 1 ? 529 : 200));
    const { limiter, fetch } = presets.anthropic();
    const call = calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch));
    const { statuses } = await runAll([call(message())], 10);
    expect(statuses).toEqual([200]);
  });
});

describe('presets.shopifyRest', () => {
  it('uses the bucket and its leak fully', async () => {
    const bucket = new Bucket(40, 2);
    const mock = mockOf((_, refuse) => {
      const isAllowed = bucket.take(1);
      const used = Math.ceil(40 - bucket.left);
      const headers = { 'X-Shopify-Shop-Api-Call-Limit': `${used}/40` };
      if (isAllowed) return json({}, 200, headers);
      refuse();
      return json({}, 429, { ...headers, 'Retry-After': '2.0' });
    });
    const { limiter, fetch } = presets.shopifyRest();
    const call = calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch));
    const { statuses, lastAt } = await runAll(
      repeat(100, () => call()),
      120,
    );
    expect(statuses).toEqual(all(100));
    expect(mock.refused).toEqual([]);
    // 40 at once and the other 60 at 2 per second.
    expect(lastAt).toBeLessThan(32);
  });
});

describe('presets.shopifyGraphQL', () => {
  /** A mock whose queries request `cost` points. */
  function shopify(cost: number) {
    const bucket = new Bucket(2000, 100);
    return mockOf((_, refuse) => {
      const isAllowed = bucket.take(cost);
      if (!isAllowed) refuse();
      const throttleStatus = {
        maximumAvailable: 2000,
        currentlyAvailable: Math.floor(bucket.left),
        restoreRate: 100,
      };
      const errors = [{ message: 'Throttled', extensions: { code: 'THROTTLED' } }];
      return json({
        ...(isAllowed ? { data: {} } : { errors }),
        extensions: { cost: { requestedQueryCost: cost, throttleStatus } },
      });
    });
  }
  const query = post({ query: '{ shop { name } }' }, '/admin/api/graphql.json');

  it('uses the bucket and its leak fully', async () => {
    const mock = shopify(200);
    const { limiter, fetch } = presets.shopifyGraphQL({ pointsOf: () => 200 });
    const call = calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch));
    const { statuses, lastAt } = await runAll(
      repeat(30, () => call(query)),
      200,
    );
    expect(statuses).toEqual(all(30));
    expect(mock.refused).toEqual([]);
    // 10 queries at once, and one every 2 seconds.
    expect(lastAt).toBeLessThan(42);
  });

  it('repeats a query that was throttled with the status 200, when its points are restored', async () => {
    const mock = shopify(500);
    const { limiter, fetch } = presets.shopifyGraphQL();
    const limited = limitFetch(mock.fetch, new PolicyLimiter(limiter), {
      ...fetch,
      maxAttempts: 9,
    });
    const answers: Promise<unknown>[] = [];
    const call = calling(async (...request) => {
      const response = await limited(...request);
      answers.push(response.json());
      return response;
    });
    await runAll(
      repeat(6, () => call(query)),
      200,
    );
    expect(mock.refused.length).toBeGreaterThan(0);
    expect(await Promise.all(answers)).toEqual(
      repeat(6, () => expect.objectContaining({ data: {} })),
    );
  });
});

describe('presets.binance', () => {
  function binance({ others = 0 } = {}) {
    const minute = new Window(6000, 60);
    let isBanned = false;
    const mock = mockOf(({ body }, refuse) => {
      if (minute.left === 6000) minute.take(others);
      const isAllowed = minute.take(Number(body['weight'] ?? 50));
      const headers = { 'X-MBX-USED-WEIGHT-1M': String(minute.used) };
      if (isAllowed) return json({}, 200, headers);
      refuse();
      const status = isBanned ? 418 : 429;
      isBanned = true;
      return json({}, status, {
        ...headers,
        'Retry-After': String(Math.ceil(minute.resetSeconds)),
      });
    });
    const { limiter, fetch } = presets.binance({ weightOf: () => 50 });
    return { mock, call: calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch)) };
  }

  it('keeps to the weight of a minute', async () => {
    const { mock, call } = binance();
    const { statuses } = await runAll(
      repeat(300, () => call()),
      300,
    );
    expect(statuses).toEqual(all(300));
    expect(mock.refused).toEqual([]);
  });

  it('leaves what other processes have used of it', async () => {
    const { mock, call } = binance({ others: 4000 });
    await runAll([call()], 1);
    const { statuses } = await runAll(
      repeat(60, () => call()),
      300,
    );
    expect(statuses).toEqual(all(60));
    expect(mock.refused).toEqual([]);
  });

  it('stops for as long as a ban says', async () => {
    const at: number[] = [];
    const mock = mockOf(() => {
      at.push(now());
      return at.length === 1 ? json({}, 418, { 'Retry-After': '120' }) : json({});
    });
    const { limiter, fetch } = presets.binance();
    const { statuses } = await runAll(
      [calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch))()],
      200,
    );
    expect(statuses).toEqual([200]);
    expect((at[1] as number) - (at[0] as number)).toBeGreaterThanOrEqual(120);
  });
});

describe('presets.hive', () => {
  const rpc = (method: string) => post({ jsonrpc: '2.0', id: 1, method });

  it('keeps to all windows of a node', async () => {
    const log: number[] = [];
    const mock = mockOf((_, refuse) => {
      log.push(now());
      const isOver = [
        [240, 60],
        [1800, 600],
      ].some(([quota = 0, seconds = 0]) => log.filter((at) => at > now() - seconds).length > quota);
      if (!isOver) return json({ result: {} });
      refuse();
      return json({}, 503);
    });
    const { limiter, fetch } = presets.hive();
    const call = calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch));
    const { statuses } = await runAll(
      repeat(700, () => call(rpc('block_api.get_block'))),
      600,
    );
    expect(statuses).toEqual(all(700));
    expect(mock.refused).toEqual([]);
  });

  it('repeats calls that read, and none that broadcasts a transaction', async () => {
    for (const [method, attempts] of [
      ['block_api.get_block', 2],
      ['condenser_api.broadcast_transaction', 1],
    ] as const) {
      const mock = mockOf(() => json({}, mock.calls.length === 1 ? 502 : 200));
      const { limiter, fetch } = presets.hive();
      const call = calling(limitFetch(mock.fetch, new PolicyLimiter(limiter), fetch));
      await runAll([call(rpc(method))], 10);
      expect(mock.calls).toHaveLength(attempts);
    }
  });
});

it('a server without a preset needs functions for its cost, its field and its refusals', async () => {
  const bucket = new Bucket(10, 1);
  const mock = mockOf(({ body }, refuse) => {
    const { length } = body['queries'] as unknown[];
    const isAllowed = bucket.take(length);
    const fields = { 'x-points-left': String(Math.floor(bucket.left)) };
    if (isAllowed) return json({ ok: true }, 200, fields);
    refuse();
    return json({ error: 'busy' }, 200, fields);
  });
  const policies = [{ quota: 20, windowSeconds: 10, unit: 'points' }];
  const limiter = new PolicyLimiter({ policies, burstShare: 0.5 });
  const call = calling(
    limitFetch(mock.fetch, limiter, {
      retryMethods: ['POST'],
      cost: ({ body }) => ({ requests: 1, points: JSON.parse(String(body)).queries.length }),
      read: (response) => {
        const remaining = Number(response.headers.get('x-points-left'));
        const limit = { name: 'points', unit: 'points', limit: null, remaining, resetSeconds: 1 };
        const more = { exact: true, partitionKey: null, cost: null };
        return {
          policies: [],
          limits: [{ ...limit, ...more }],
          retryAfterSeconds: null,
          ignored: [],
        };
      },
      isRefusal: async (response) => (await response.clone().json()).error === 'busy' || undefined,
    }),
  );
  const { statuses } = await runAll(
    repeat(20, () => call(post({ queries: ['a', 'b'] }))),
    120,
  );
  expect(statuses).toEqual(all(20));
  expect(mock.refused).toEqual([]);
});

it.each([
  () => presets.openai({ tokens: 1 } as never),
  () => presets.discord(null as never),
  () => presets.binance({ weight: 1 } as never),
  () => new PolicyLimiter(presets.shopifyRest({ requestsPerSecond: 0 }).limiter),
  () => new PolicyLimiter(presets.anthropic({ requestsPerMinute: Number.NaN }).limiter),
])('presets reject options that they do not accept (%#)', (make) => {
  expect(make).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
});
