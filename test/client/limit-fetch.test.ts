// limitFetch on a virtual clock and virtual servers: waiting, retries, signals and deadlines.

import { getEventListeners } from 'node:events';
import { limitFetch, PolicyLimiter, UpstreamPool } from 'relay-limiter/client';
import { describe, expect, it, vi } from 'vitest';
import {
  good,
  never,
  virtualPoolOf as poolOf,
  refusingVirtually as refusing,
  serveVirtually as serve,
  virtualFetch,
  watched,
} from './network.js';
import { hastyLimiter, NOW, pass, plenty, useVirtualTime } from './support.js';

type Fetch = typeof fetch;

// The fake timers also replace the default clock of limiters.
useVirtualTime();

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

  it('sends nothing, and spends nothing, if its lease comes at the deadline', async () => {
    const limiter = new PolicyLimiter({
      policies: [{ quota: 1, windowSeconds: 10 }],
      algorithm: 'sliding',
    });
    limiter.tryAcquire();
    const server = serve(good);
    const gone = watched(limitFetch(virtualFetch, limiter, { deadlineSeconds: 10 })(server.origin));
    await pass(10);
    expect(gone.rejected).toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    expect(server.received).toEqual([]);
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('leaves the signal of a request that has ended alone', async () => {
    const signals: AbortSignal[] = [];
    const answers = [async () => new Response(null), () => Promise.reject(new Error('gone'))];
    const answering: Fetch = (_, init) => {
      signals.push(init?.signal as AbortSignal);
      return (answers.shift() as () => Promise<Response>)();
    };
    const options = { deadlineSeconds: 60, maxAttempts: 1 };
    const limited = limitFetch(answering, new PolicyLimiter(plenty), options);
    const abort = new AbortController();
    const init = { signal: abort.signal };
    await limited('http://a.example', init);
    await expect(limited('http://a.example', init)).rejects.toThrow('gone');
    abort.abort();
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, false]);
    expect(vi.getTimerCount()).toBe(0);
  });

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
