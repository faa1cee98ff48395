// limitFetch on a virtual clock and virtual servers: waiting, retries, signals and deadlines.

import { getEventListeners } from 'node:events';
import { limitFetch, PolicyLimiter, UpstreamPool } from 'relay-limiter/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { manualClock } from '../support/limiters.js';
import { seeded } from '../support/random.js';
import {
  good,
  never,
  refusingVirtually as refusing,
  serveVirtually as serve,
  type VirtualServer,
  virtualFetch,
} from './network.js';

type Fetch = typeof fetch;

// The fake timers also replace the default clock of limiters.
beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const pass = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);

const plenty = { policies: [{ quota: 1000, windowSeconds: 1 }] };
const NOW = { 'Retry-After': '0' };

/** Returns a limiter without delays: its clock jumps past every block. */
function hastyLimiter(): PolicyLimiter {
  let time = 0;
  return new PolicyLimiter({
    ...plenty,
    clock: () => {
      time += 1000;
      return time;
    },
  });
}

function poolOf(servers: VirtualServer[], quota = 1000): UpstreamPool {
  const file = servers.map(({ origin }) => [origin, { policies: [{ w: 1, v: quota }] }]);
  return new UpstreamPool(Object.fromEntries(file), { random: seeded(1) });
}

/** Returns the outcome of a promise, without waiting for it. */
function watched(promise: Promise<unknown>): { resolved?: unknown; rejected?: unknown } {
  const outcome: { resolved?: unknown; rejected?: unknown } = {};
  promise.then(
    (value) => {
      outcome.resolved = value;
    },
    (reason) => {
      outcome.rejected = reason;
    },
  );
  return outcome;
}

describe('limitFetch', () => {
  it('takes quota for each request and waits for it', async () => {
    const server = serve(good);
    const limiter = new PolicyLimiter({
      policies: [{ quota: 2, windowSeconds: 10 }],
      algorithm: 'sliding',
    });
    const limited = limitFetch(virtualFetch, limiter);
    for (let n = 0; n < 5; n += 1) void limited(server.origin);
    const sentAfter: number[] = [];
    for (const seconds of [0, 9.999, 0.001, 9.999, 0.001]) {
      await pass(seconds);
      sentAfter.push(server.received.length);
    }
    expect(sentAfter).toEqual([2, 2, 4, 4, 5]);
  });

  it('waits as long as Retry-After says', async () => {
    const server = serve(refusing(1, 429, { 'Retry-After': '10' }));
    const outcome = watched(limitFetch(virtualFetch, new PolicyLimiter(plenty))(server.origin));
    await pass(9.999);
    expect(outcome).toEqual({});
    await pass(0.001);
    expect(outcome.resolved).toMatchObject({ status: 200 });
  });

  it('stops waiting when the signal of a Request aborts', async () => {
    const limiter = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 60 }] });
    limiter.tryAcquire();
    const abort = new AbortController();
    const request = new Request('http://a.example', { signal: abort.signal });
    const gone = limitFetch(virtualFetch, limiter)(request);
    expect(limiter.state().waiting).toBe(1);
    abort.abort();
    await expect(gone).rejects.toMatchObject({ name: 'AbortError' });
    expect(limiter.state().waiting).toBe(0);
  });
});

describe('limitFetch', () => {
  it.each([
    ['GET', undefined, 3],
    ['get', undefined, 3],
    ['DELETE', undefined, 3],
    ['POST', undefined, 1],
    ['PATCH', undefined, 1],
    ['POST', { retryMethods: ['post'] }, 3],
    ['GET', { retryMethods: ['post'] }, 1],
    ['GET', { maxAttempts: 1 }, 1],
    ['GET', { maxAttempts: 5 }, 5],
  ])('sends a refused %s with %o %i times', async (method, options, attempts) => {
    const server = serve(refusing(9, 429, NOW));
    const response = await limitFetch(
      virtualFetch,
      hastyLimiter(),
      options,
    )(server.origin, { method });
    expect(response.status).toBe(429);
    expect(server.received).toHaveLength(attempts);
  });

  it.each([500, 502, 404, 403])('does not retry after status %i', async (status) => {
    const server = serve(refusing(9, status, NOW));
    const response = await limitFetch(virtualFetch, hastyLimiter())(server.origin);
    expect(response.status).toBe(status);
    expect(server.received).toHaveLength(1);
  });

  it('waits in the queue again before each retry', async () => {
    const server = serve(refusing(1, 429, { 'Retry-After': '10' }));
    const limited = limitFetch(virtualFetch, new PolicyLimiter(plenty), { priority: () => 1 });
    const first = watched(limited(`${server.origin}/1`));
    await pass(1);
    const second = watched(limited(`${server.origin}/2`));
    await pass(60);
    expect(server.received.map(({ url }) => url)).toEqual(['/1', '/1', '/2']);
    expect([first.resolved, second.resolved]).toMatchObject([{ status: 200 }, { status: 200 }]);
  });
});

describe('limitFetch', () => {
  /** Returns a limiter of one request per hour, of which `sent` are spent. */
  const oneAnHour = (sent = 1) => {
    const limiter = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 3600 }] });
    for (let n = 0; n < sent; n += 1) limiter.tryAcquire();
    return limiter;
  };

  it('rejects with the reason of a signal that aborts while it waits, and sends nothing', async () => {
    const server = serve(good);
    const abort = new AbortController();
    const gone = limitFetch(virtualFetch, oneAnHour())(server.origin, { signal: abort.signal });
    abort.abort('enough');
    await expect(gone).rejects.toBe('enough');
    expect(server.received).toEqual([]);
  });

  it('rejects with the reason of a signal that aborts while it waits for a retry', async () => {
    const server = serve(refusing(9, 429, { 'Retry-After': '600' }));
    const limiter = new PolicyLimiter(plenty);
    const abort = new AbortController();
    const gone = watched(
      limitFetch(virtualFetch, limiter)(server.origin, { signal: abort.signal }),
    );
    await pass(1);
    expect(limiter.state().waiting).toBe(1);
    abort.abort('enough');
    await pass(0);
    expect(gone).toEqual({ rejected: 'enough' });
    expect(server.received).toHaveLength(1);
  });

  it('rejects at once if a deadline cannot be met', async () => {
    const limited = limitFetch(virtualFetch, oneAnHour(), { deadlineSeconds: 60 });
    await expect(limited('http://a.example')).rejects.toMatchObject({
      code: 'ERR_LIMITER_DEADLINE',
      retryAfterSeconds: 3600,
    });
  });

  it('aborts a request at the deadline, which counts as a failure of the node', async () => {
    const server = serve(never);
    const pool = poolOf([server]);
    const gone = watched(limitFetch(virtualFetch, pool, { deadlineSeconds: 10 })('/'));
    await pass(9.999);
    expect(gone).toEqual({});
    await pass(0.001);
    expect(gone.rejected).toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    expect(server.received).toHaveLength(1);
    const state = pool.state().nodes[server.origin];
    expect(state).toMatchObject({ failureShare: expect.closeTo(0.2), inFlight: 0 });
  });

  it('does not count a deadline that passed in the queue as a failure of the node', async () => {
    const server = serve(never);
    const pool = new UpstreamPool({ [server.origin]: { policies: [{ w: 30, v: 1 }] } });
    await pool.acquire();
    const gone = watched(limitFetch(virtualFetch, pool, { deadlineSeconds: 40 })('/'));
    await pass(40);
    expect(gone.rejected).toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    expect(server.received).toHaveLength(1);
    expect(pool.state().nodes[server.origin]).toMatchObject({ failureShare: 0 });
  });

  it.each<[string, { deadlineSeconds?: number }]>([
    ['a deadline', { deadlineSeconds: 5 }],
    ['a signal', {}],
  ])('learns from %s that a node never answers', async (_, options) => {
    const hanging = serve(never);
    const answering = serve(good);
    const limited = limitFetch(virtualFetch, poolOf([hanging, answering]), options);
    const outcomes = [];
    for (let n = 0; n < 20; n += 1) {
      const abort = new AbortController();
      if (options.deadlineSeconds === undefined) setTimeout(() => abort.abort(), 5000);
      outcomes.push(watched(limited('/', { signal: abort.signal })));
      await pass(5);
    }
    expect(outcomes.every((outcome) => Object.keys(outcome).length === 1)).toBe(true);
    expect(hanging.received.length).toBeGreaterThan(0);
    expect(hanging.received.length).toBeLessThanOrEqual(3);
    expect(outcomes.filter(({ resolved }) => resolved).length).toBeGreaterThanOrEqual(17);
  });

  it('accepts a deadline longer than one timer can wait', async () => {
    const hanging = ((_, init) =>
      new Promise((_, reject) => {
        init?.signal?.addEventListener('abort', () => reject(init.signal?.reason));
      })) as Fetch;
    const days = 86_400;
    const limited = limitFetch(hanging, hastyLimiter(), { deadlineSeconds: 30 * days });
    let error: unknown;
    limited('http://a.example').catch((reason) => {
      error = reason;
    });
    await vi.advanceTimersByTimeAsync(29 * days * 1000);
    expect(error).toBeUndefined();
    await vi.advanceTimersByTimeAsync(days * 1000);
    expect(error).toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([undefined, 60])(
    'spends nothing if a signal aborts between the lease and the request (deadline: %s)',
    async (deadlineSeconds) => {
      const limiter = oneAnHour(0);
      const abort = new AbortController();
      const limited = limitFetch(virtualFetch, limiter, { deadlineSeconds });
      const gone = limited('http://a.example', { signal: abort.signal });
      abort.abort('enough');
      await expect(gone).rejects.toBe('enough');
      expect(limiter.delaySeconds()).toBe(0);
    },
  );

  it('keeps no memory of its requests on a signal', async () => {
    const { signal } = new AbortController();
    const limited = limitFetch(async () => new Response(null), hastyLimiter(), {
      deadlineSeconds: 60,
    });
    for (let n = 0; n < 5; n += 1) await limited('http://a.example', { signal });
    // Node stores the signals that AbortSignal.any derives from a signal in a Set.
    const kept = Object.getOwnPropertySymbols(signal).map((key) => Reflect.get(signal, key));
    expect(kept.filter((value) => value instanceof Set && value.size > 0)).toEqual([]);
  });

  it('adds one listener to a signal, however many requests use it', async () => {
    const { signal } = new AbortController();
    const answers = [() => new Response(null), () => new Response('text'), () => Promise.reject()];
    let sent = 0;
    const answering: Fetch = async () => (answers[sent++ % 3] as () => Response)();
    const limited = limitFetch(answering, hastyLimiter(), { deadlineSeconds: 60, maxAttempts: 1 });
    for (let n = 0; n < 30; n += 1) {
      const response = await limited('http://a.example', { signal }).catch(() => undefined);
      await response?.text();
    }
    expect(sent).toBe(30);
    expect(getEventListeners(signal, 'abort').length).toBeLessThanOrEqual(1);
  });

  it('does not abort the reading of a body at the deadline', async () => {
    let followed: AbortSignal | null | undefined;
    const answering: Fetch = async (_, init) => {
      followed = init?.signal;
      return new Response(new ReadableStream({}));
    };
    const limited = limitFetch(answering, new PolicyLimiter(plenty), { deadlineSeconds: 10 });
    const response = await limited('http://a.example');
    await pass(60);
    expect(response.status).toBe(200);
    expect(followed?.aborted).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('returns a refusal if its Retry-After is beyond the deadline', async () => {
    const server = serve(refusing(9, 429, { 'Retry-After': '60' }));
    const limited = limitFetch(virtualFetch, new PolicyLimiter(plenty), { deadlineSeconds: 5 });
    const response = await limited(server.origin);
    expect(response.status).toBe(429);
    expect(await response.text()).toBe('no');
    expect(server.received).toHaveLength(1);
  });

  it('returns a refusal if the queue is full', async () => {
    const server = serve(refusing(9, 429, { 'Retry-After': '60' }));
    const limiter = new PolicyLimiter({ ...plenty, maxQueue: 0 });
    expect((await limitFetch(virtualFetch, limiter)(server.origin)).status).toBe(429);
  });
});

describe('limitFetch', () => {
  /** Returns the delay of a limiter in seconds after such a response. */
  async function waitAfter(
    status: number,
    fields: Record<string, string>,
    body = '',
    options = {},
  ): Promise<number> {
    const server = serve(() => new Response(body, { status, headers: fields }));
    const clock = manualClock();
    const limiter = new PolicyLimiter({ ...plenty, clock, ...options });
    const response = await limitFetch(virtualFetch, limiter, { maxAttempts: 1 })(server.origin);
    expect(await response.text()).toBe(body);
    return limiter.delaySeconds();
  }

  it('obeys RateLimit of draft 11', async () => {
    expect(await waitAfter(200, { RateLimit: '"a";r=0;t=30' })).toBeGreaterThanOrEqual(30);
    expect(await waitAfter(200, { RateLimit: '"a";r=5;t=30' })).toBe(0);
  });

  it('obeys Retry-After as a date by the clock of the server', async () => {
    const retry = { Date: 'Sun, 06 Nov 1994 08:49:37 GMT' };
    const at = { ...retry, 'Retry-After': 'Sun, 06 Nov 1994 08:49:57 GMT' };
    expect(await waitAfter(503, at)).toBe(20);
  });

  it('ignores the limits of a cached response', async () => {
    expect(await waitAfter(200, { RateLimit: '"a";r=0;t=30', Age: '5' })).toBe(0);
    expect(await waitAfter(200, { RateLimit: '"a";r=0;t=30', Age: '0' })).toBeGreaterThan(0);
    expect(await waitAfter(200, { RateLimit: '"a";r=0;t=30', Age: 'old' })).toBeGreaterThan(0);
  });

  const problem = JSON.stringify({
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    'violated-policies': ['a'],
  });
  const json = { 'Content-Type': 'application/problem+json; charset=utf-8' };

  it('blocks only the policies that a problem body names as violated', async () => {
    const headers = { ...json, 'Retry-After': '20' };
    const server = serve(() => new Response(problem, { status: 429, headers }));
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
    const response = await limitFetch(virtualFetch, limiter, { maxAttempts: 1 })(server.origin);
    expect(await response.json()).toEqual(JSON.parse(problem));
    expect(limiter.state().blockedSeconds).toBe(0);
    expect(limiter.delaySeconds()).toBe(20);
  });

  it.each([
    ['of another type', 429, {}],
    ['of a good response', 200, json],
  ])('ignores the violated policies in a body %s', async (_, status, fields) => {
    const headers = { ...fields, 'Retry-After': '20' };
    const server = serve(() => new Response(problem, { status, headers }));
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
    await limitFetch(virtualFetch, limiter, { maxAttempts: 1 })(server.origin);
    expect(limiter.state().blockedSeconds).toBe(20);
  });

  /** Returns a refusal with a problem body that starts with `text` and never ends. */
  const endless = (text: string): Response => {
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode(text)),
    });
    return new Response(body, { status: 429, headers: { ...json, 'Retry-After': '3600' } });
  };

  it.each([
    ['never ends', problem.slice(0, -1)],
    ['is too long', `${problem}${' '.repeat(1_000_000)}`],
  ])('obeys a refusal whose problem body %s', async (_, text) => {
    const server = serve(() => endless(text));
    const limiter = new PolicyLimiter({ ...plenty, maxWaitSeconds: 1e6 });
    const outcome = watched(limitFetch(virtualFetch, limiter, { maxAttempts: 1 })(server.origin));
    await pass(1);
    expect(outcome.resolved).toMatchObject({ status: 429 });
    expect(limiter.state().blockedSeconds).toBeGreaterThan(3598);
  });

  it('stops reading a problem body at the deadline or when a signal aborts', async () => {
    const server = serve(() => endless(''));
    const options = { deadlineSeconds: 0.5 };
    const late = watched(
      limitFetch(virtualFetch, new PolicyLimiter(plenty), options)(server.origin),
    );
    await pass(0.499);
    expect(late).toEqual({});
    await pass(0.001);
    expect(late.resolved).toMatchObject({ status: 429 });
    for (const maxAttempts of [1, 3]) {
      const limited = limitFetch(virtualFetch, new PolicyLimiter(plenty), { maxAttempts });
      const abort = new AbortController();
      const gone = watched(limited(server.origin, { signal: abort.signal }));
      await pass(0.5);
      expect(gone).toEqual({});
      abort.abort('enough');
      await pass(0);
      expect(gone).toEqual({ rejected: 'enough' });
    }
  });

  it('applies the limits of a response to the node that sent it', async () => {
    const spent = serve(() => new Response('', { headers: { RateLimit: '"a";r=0;t=30' } }));
    const free = serve(good);
    const pool = poolOf([spent, free]);
    const limited = limitFetch(virtualFetch, pool);
    for (let at = 0; at < 30; at += 1) await limited('/');
    expect(spent.received).toHaveLength(1);
    expect(free.received).toHaveLength(29);
    expect(pool.state().nodes[spent.origin]).toMatchObject({ inFlight: 0 });
  });
});

describe('the cost and priority of limitFetch', () => {
  it('are computed for each request', async () => {
    const server = serve(good);
    const asked: unknown[] = [];
    const limiter = new PolicyLimiter({
      policies: [{ quota: 10, windowSeconds: 3600 }],
      algorithm: 'sliding',
    });
    const cost = (request: object) => {
      asked.push(request);
      return 4;
    };
    const limited = limitFetch(virtualFetch, limiter, { cost });
    await limited(`${server.origin}/a`, { method: 'put' });
    await limited(new Request(`${server.origin}/b`));
    expect(asked).toEqual([
      { url: `${server.origin}/a`, method: 'PUT' },
      { url: `${server.origin}/b`, method: 'GET' },
    ]);
    expect(limiter.delaySeconds(2)).toBe(0);
    expect(limiter.delaySeconds(3)).toBe(3600);
  });

  it('decide the order of requests', async () => {
    const server = serve(good);
    const limiter = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 1 }] });
    limiter.tryAcquire();
    const limited = limitFetch(virtualFetch, limiter, {
      priority: ({ url }) => Number(url.at(-1)),
    });
    for (const path of [1, 3, 2]) void limited(`${server.origin}/${path}`);
    await pass(3);
    expect(server.received.map(({ url }) => url)).toEqual(['/3', '/2', '/1']);
  });

  it('cause an error if the cost is above every quota', async () => {
    const limited = limitFetch(virtualFetch, new PolicyLimiter(plenty), { cost: () => 1001 });
    await expect(limited('http://a.example')).rejects.toMatchObject({
      code: 'ERR_LIMITER_COST',
    });
  });
});

describe('limitFetch with a pool', () => {
  const plain = (async (input: RequestInfo | URL) => new Response(String(input))) as Fetch;
  const urlOf = async (node: string, url: string, options = {}) => {
    const pool = new UpstreamPool({ [node]: { policies: [{ w: 1, v: 1 }] } });
    return (await limitFetch(plain, pool, options)(url)).text();
  };

  it('accepts hosts and origins as nodes', async () => {
    expect(await urlOf('a.example', '/x')).toBe('https://a.example/x');
    expect(await urlOf('a.example:81', '/x')).toBe('https://a.example:81/x');
    expect(await urlOf('a.example', '/x', { protocol: 'http' })).toBe('http://a.example/x');
    expect(await urlOf('http://a.example', '/x')).toBe('http://a.example/x');
    expect(await urlOf('[::1]:80', 'x', { protocol: 'http' })).toBe('http://[::1]/x');
  });

  it.each(['a.example/path', 'a b', '', 'http://user@a.example', 'ftp://a.example', 'a?b'])(
    'rejects the node %j',
    (node) => {
      const pool = new UpstreamPool({ [node]: { policies: [{ w: 1, v: 1 }] } });
      expect(() => limitFetch(plain, pool)).toThrow(
        expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }),
      );
      expect(() => limitFetch(plain, pool)).toThrow(JSON.stringify(node));
    },
  );

  it('rejects URLs that are not http or https', async () => {
    for (const url of ['data:,b.example', 'mailto:a@b.example']) {
      await expect(urlOf('a.example', url)).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    }
  });
});

describe('limitFetch', () => {
  it.each<[options: unknown]>([
    [{ maxAttempts: 0 }],
    [{ maxAttempts: 1.5 }],
    [{ retryMethods: 'GET' }],
    [{ retryMethods: [1] }],
    [{ deadlineSeconds: -1 }],
    [{ deadlineSeconds: '1' }],
    [{ protocol: 'ftp' }],
    [{ cost: 1 }],
    [{ priority: 1 }],
    [{ retries: 1 }],
    [null],
  ])('rejects the options %o', (options) => {
    expect(() => limitFetch(virtualFetch, new PolicyLimiter(plenty), options as object)).toThrow(
      expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }),
    );
  });

  it('rejects an invalid fetch or limiter', () => {
    for (const act of [
      () => limitFetch(7 as never, new PolicyLimiter(plenty)),
      () => limitFetch(virtualFetch, {} as never),
    ]) {
      expect(act).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
    }
  });
});
