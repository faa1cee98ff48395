// limitFetch on a virtual clock and virtual servers: what it reads of responses, costs, nodes and options.

import { limitFetch, PolicyLimiter, UpstreamPool } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { manualClock } from '../support/limiters.js';
import {
  good,
  virtualPoolOf as poolOf,
  serveVirtually as serve,
  virtualFetch,
  watched,
} from './network.js';
import { pass, plenty, useVirtualTime } from './support.js';

type Fetch = typeof fetch;

// The fake timers also replace the default clock of limiters.
useVirtualTime();

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
    ['of a failure', 500, json],
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
    await limited(`${server.origin}/a`, { method: 'put', body: 'text' });
    await limited(new Request(`${server.origin}/b`));
    expect(asked).toEqual([
      { url: `${server.origin}/a`, method: 'PUT', body: 'text' },
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
