// limitFetch over real HTTP: what it sends, repeats, obeys and gives up; with Node's fetch and undici's.

import { getEventListeners } from 'node:events';
import { limitFetch, PolicyLimiter, UpstreamPool } from 'relay-limiter/client';
import { parseRateLimitHeaders } from 'relay-limiter/headers';
import { fetch as undiciFetch } from 'undici';
import { describe, expect, it, vi } from 'vitest';
import { collectGarbage } from '../support/garbage.js';
import { manualClock } from '../support/limiters.js';
import { goneServer, refusing, serve, type TestServer } from './http.js';

type Fetch = typeof fetch;

const FETCHES: [name: string, fetch: Fetch][] = [
  ['the fetch of Node', fetch],
  ['the fetch of undici', undiciFetch as unknown as Fetch],
];

const plenty = { policies: [{ quota: 1000, windowSeconds: 1 }] };
const NOW = { 'Retry-After': '0' };

/** A limiter that refuses nothing, and forgets a block at once: its clock jumps. */
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

/** Quota that was given back can be told from quota that was spent. */
function single(): PolicyLimiter {
  return new PolicyLimiter({
    policies: [{ quota: 1, windowSeconds: 3600 }],
    algorithm: 'sliding',
    clock: manualClock(),
  });
}

function poolOf(servers: TestServer[], quota = 1000): UpstreamPool {
  const file = servers.map(({ origin }) => [origin, { policies: [{ w: 1, v: quota }] }]);
  return new UpstreamPool(Object.fromEntries(file));
}

describe.each(FETCHES)('%s', (_, plain) => {
  it('is sent what was given', async () => {
    const server = await serve((response, { method, url, body, headers }) => {
      response.end(JSON.stringify([method, url, body, headers['x-a']]));
    });
    const limited = limitFetch(plain, new PolicyLimiter(plenty));
    const url = `${server.origin}/a?b=c`;
    const json = async (...[input, init]: Parameters<Fetch>) => (await limited(input, init)).json();
    expect(await json(url)).toEqual(['GET', '/a?b=c', '', null]);
    expect(await json(new URL(url))).toEqual(['GET', '/a?b=c', '', null]);
    const init = { method: 'post', body: 'text', headers: { 'x-a': '1' } };
    expect(await json(url, init)).toEqual(['POST', '/a?b=c', 'text', '1']);
  });

  it('takes quota for each request, and waits for it', async () => {
    const server = await serve((response) => response.end());
    const limiter = new PolicyLimiter({
      policies: [{ quota: 2, windowSeconds: 0.2 }],
      algorithm: 'sliding',
    });
    const limited = limitFetch(plain, limiter);
    const start = performance.now();
    await Promise.all([1, 2, 3, 4, 5].map(() => limited(server.origin)));
    expect(performance.now() - start).toBeGreaterThanOrEqual(395);
    expect(server.received).toHaveLength(5);
  });

  it.each([429, 503])('repeats what was refused with %i', async (status) => {
    const server = await serve(refusing(2, status, NOW));
    const response = await limitFetch(plain, hastyLimiter())(server.origin);
    expect(await response.text()).toBe('yes');
    expect(server.received).toHaveLength(3);
  });

  it('waits as long as it is told', async () => {
    const server = await serve(refusing(1, 429, { 'Retry-After': '1' }));
    const start = performance.now();
    const response = await limitFetch(plain, new PolicyLimiter(plenty))(server.origin);
    expect(response.status).toBe(200);
    expect(performance.now() - start).toBeGreaterThan(990);
  });

  it('returns the last refusal, unread, when it gives up', async () => {
    const server = await serve(refusing(9, 429, NOW));
    const response = await limitFetch(plain, hastyLimiter())(server.origin);
    expect(response.status).toBe(429);
    expect(await response.text()).toBe('no');
    expect(server.received).toHaveLength(3);
  });

  it('repeats a body that is no stream', async () => {
    for (const body of ['text', new TextEncoder().encode('text'), new Blob(['text'])]) {
      const server = await serve(refusing(1, 503, NOW));
      const init = { method: 'PUT', body };
      const response = await limitFetch(plain, hastyLimiter())(server.origin, init);
      expect(response.status).toBe(200);
      expect(server.received.map((request) => request.body)).toEqual(['text', 'text']);
    }
  });

  it('does not repeat a stream', async () => {
    const server = await serve(refusing(1, 503, NOW));
    const init = { method: 'PUT', body: new Blob(['text']).stream(), duplex: 'half' as const };
    const response = await limitFetch(plain, hastyLimiter())(server.origin, init);
    expect(response.status).toBe(503);
    expect(server.received.map(({ body }) => body)).toEqual(['text']);
  });

  it('repeats after a connection that broke off', async () => {
    const server = await serve((response, _, at) => {
      if (at === 0) response.socket?.destroy();
      else response.end('yes');
    });
    const response = await limitFetch(plain, hastyLimiter())(server.origin);
    expect(await response.text()).toBe('yes');
  });

  it('fails as fetch does where there is never a response', async () => {
    const { origin } = await goneServer();
    const limited = limitFetch(plain, hastyLimiter());
    await expect(limited(origin)).rejects.toMatchObject({ cause: { code: 'ECONNREFUSED' } });
  });

  it('goes to the nodes of a pool, whatever host a URL names', async () => {
    const server = await serve((response) => response.end());
    const limited = limitFetch(plain, poolOf([server]));
    for (const url of ['/a?b#c', 'https://elsewhere.example/a?b', '//elsewhere.example//a']) {
      await limited(url);
    }
    await limited(new URL('http://elsewhere.example:81/a'));
    await limited('http://elsewhere.example//127.0.0.9/a');
    const urls = server.received.map(({ url }) => url);
    expect(urls).toEqual(['/a?b', '/a?b', '//a', '/a', '//127.0.0.9/a']);
  });

  it('repeats on another node', async () => {
    const servers = [await serve(refusing(9, 503, NOW)), await serve(refusing(9, 503, NOW))];
    const good = await serve(refusing(0, 503, NOW));
    const response = await limitFetch(plain, poolOf([...servers, good]))('/');
    expect(response.status).toBe(200);
    expect(servers.every(({ received }) => received.length <= 1)).toBe(true);
  });

  it('repeats on another node, though that is slower', async () => {
    const gone = await goneServer();
    const slow = await serve((response) => response.end());
    const pool = poolOf([gone, slow]);
    const { lease } = await pool.acquire({ exclude: [gone.origin] });
    pool.update(parseRateLimitHeaders({}), 200, { lease, latencySeconds: 60 });
    expect((await limitFetch(plain, pool)('/')).status).toBe(200);
    expect(pool.state().nodes[gone.origin]?.failureShare).toBeCloseTo(0.2);
  });

  it('leaves a node that is gone', async () => {
    const gone = await goneServer();
    const good = await serve((response) => response.end());
    const pool = poolOf([gone, good]);
    const limited = limitFetch(plain, pool);
    for (let at = 0; at < 12; at += 1) expect((await limited('/')).status).toBe(200);
    expect(good.received).toHaveLength(12);
    expect(pool.state().nodes[gone.origin]?.failureShare).toBeGreaterThan(0);
  });
});

describe('a Request', () => {
  it('is sent, and repeated with its body', async () => {
    const server = await serve(refusing(2, 429, NOW));
    const request = new Request(`${server.origin}/a`, {
      method: 'PUT',
      body: 'text',
      headers: { 'x-a': '1' },
    });
    const response = await limitFetch(fetch, hastyLimiter())(request);
    expect(response.status).toBe(200);
    const sent = server.received.map(({ method, url, body }) => `${method} ${url} ${body}`);
    expect(sent).toEqual(['PUT /a text', 'PUT /a text', 'PUT /a text']);
    expect(server.received[2]?.headers['x-a']).toBe('1');
    expect(request.bodyUsed).toBe(true);
  });

  it('goes to a node with all that it has, and what init changes', async () => {
    const servers = [await serve(refusing(9, 503, NOW)), await serve(refusing(9, 503, NOW))];
    const request = new Request('https://elsewhere.example/a', {
      method: 'PUT',
      body: 'text',
      headers: { 'x-a': '1' },
    });
    const limited = limitFetch(fetch, poolOf(servers), { maxAttempts: 2 });
    expect((await limited(request, { headers: { 'x-a': '2' } })).status).toBe(503);
    for (const { received } of servers) {
      expect(received).toHaveLength(1);
      expect(received[0]).toMatchObject({ method: 'PUT', url: '/a', body: 'text' });
      expect(received[0]?.headers['x-a']).toBe('2');
    }
  });

  it('is left by its signal', async () => {
    const limiter = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 60 }] });
    limiter.tryAcquire();
    const abort = new AbortController();
    const request = new Request('http://127.0.0.1:1/', { signal: abort.signal });
    const gone = limitFetch(fetch, limiter)(request);
    expect(limiter.state().waiting).toBe(1);
    abort.abort();
    await expect(gone).rejects.toMatchObject({ name: 'AbortError' });
    expect(limiter.state().waiting).toBe(0);
  });
});

describe('what is repeated', () => {
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
  ])('%s with %o: %i attempts', async (method, options, attempts) => {
    const server = await serve(refusing(9, 429, NOW));
    const response = await limitFetch(fetch, hastyLimiter(), options)(server.origin, { method });
    expect(response.status).toBe(429);
    expect(server.received).toHaveLength(attempts);
  });

  it.each([500, 502, 404, 403])('not %i', async (status) => {
    const server = await serve(refusing(9, status, NOW));
    const response = await limitFetch(fetch, hastyLimiter())(server.origin);
    expect(response.status).toBe(status);
    expect(server.received).toHaveLength(1);
  });

  it('not a POST whose connection broke off: it may have arrived', async () => {
    const server = await serve((response) => response.socket?.destroy());
    const post = limitFetch(fetch, hastyLimiter())(server.origin, { method: 'POST', body: 'x' });
    await expect(post).rejects.toThrow(TypeError);
    expect(server.received).toHaveLength(1);
  });

  it('in a new turn each time: other requests may come between', async () => {
    const server = await serve(refusing(1, 429, { 'Retry-After': '1' }));
    const limited = limitFetch(fetch, new PolicyLimiter(plenty), { priority: () => 1 });
    const [first, second] = await Promise.all([limited(`${server.origin}/1`), delayed()]);
    async function delayed() {
      await new Promise((resolve) => setTimeout(resolve, 100));
      return limited(`${server.origin}/2`);
    }
    expect([first?.status, second?.status]).toEqual([200, 200]);
    expect(server.received.map(({ url }) => url).slice(0, 2)).toEqual(['/1', '/1']);
  });
});

describe('connections', () => {
  it('are free again when a refusal is not read', async () => {
    const large = 'x'.repeat(1_000_000);
    const server = await serve((response, _, at) => {
      if (at < 20) response.writeHead(503, NOW).end(large);
      else response.end('yes');
    });
    const limited = limitFetch(fetch, hastyLimiter(), { maxAttempts: 21 });
    expect(await (await limited(server.origin)).text()).toBe('yes');
    // Those of cancelled responses are closed; one that nobody reads would stay.
    await expect.poll(() => server.connections()).toBeLessThanOrEqual(1);
  });
});

describe('signals and deadlines', () => {
  const oneAnHour = () => {
    const limiter = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 3600 }] });
    limiter.tryAcquire();
    return limiter;
  };

  it('a signal ends the waiting, with its reason, and nothing is sent', async () => {
    const server = await serve((response) => response.end());
    const abort = new AbortController();
    const gone = limitFetch(fetch, oneAnHour())(server.origin, { signal: abort.signal });
    abort.abort('enough');
    await expect(gone).rejects.toBe('enough');
    expect(server.received).toEqual([]);
  });

  it('a signal ends the waiting for another attempt', async () => {
    const server = await serve(refusing(9, 429, { 'Retry-After': '600' }));
    const limiter = new PolicyLimiter(plenty);
    const abort = new AbortController();
    const gone = limitFetch(fetch, limiter)(server.origin, { signal: abort.signal });
    await expect.poll(() => limiter.state().waiting).toBe(1);
    abort.abort('enough');
    await expect(gone).rejects.toBe('enough');
    expect(server.received).toHaveLength(1);
  });

  it('a signal ends a request under way; the node has not failed', async () => {
    const server = await serve(() => {});
    const pool = poolOf([server]);
    const abort = new AbortController();
    const gone = limitFetch(fetch, pool)('/', { signal: abort.signal });
    await expect.poll(() => server.received.length).toBe(1);
    abort.abort('enough');
    await expect(gone).rejects.toBe('enough');
    expect(server.received).toHaveLength(1);
    const state = pool.state().nodes[server.origin];
    expect(state).toMatchObject({ failureShare: 0, inFlight: 0 });
  });

  it('a deadline that cannot be met fails at once', async () => {
    const limited = limitFetch(fetch, oneAnHour(), { deadlineSeconds: 60 });
    await expect(limited('http://127.0.0.1:1/')).rejects.toMatchObject({
      code: 'ERR_LIMITER_DEADLINE',
      retryAfterSeconds: expect.closeTo(3600, 0),
    });
  });

  it('a deadline ends a request under way; the node has failed', async () => {
    const server = await serve(() => {});
    const pool = poolOf([server]);
    const limited = limitFetch(fetch, pool, { deadlineSeconds: 0.1 });
    await expect(limited('/')).rejects.toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    expect(server.received).toHaveLength(1);
    const state = pool.state().nodes[server.origin];
    expect(state?.failureShare).toBeCloseTo(0.2);
    expect(state).toMatchObject({ inFlight: 0 });
  });

  it('a deadline that was spent in the queue is no fault of the node', async () => {
    const server = await serve(() => {});
    const pool = new UpstreamPool({ [server.origin]: { policies: [{ w: 0.3, v: 1 }] } });
    await pool.acquire();
    const limited = limitFetch(fetch, pool, { deadlineSeconds: 0.4 });
    await expect(limited('/')).rejects.toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    expect(server.received).toHaveLength(1);
    expect(pool.state().nodes[server.origin]).toMatchObject({ failureShare: 0 });
  });

  it.each<[string, object, () => RequestInit]>([
    ['a deadline', { deadlineSeconds: 0.05 }, () => ({})],
    ['a signal', {}, () => ({ signal: AbortSignal.timeout(50) })],
  ])(
    '%s is not waited for again and again with a node that never answers',
    async (_, options, init) => {
      const hanging = await serve(() => {});
      const good = await serve((response) => response.end());
      const limited = limitFetch(fetch, poolOf([hanging, good]), options);
      let answered = 0;
      for (let n = 0; n < 20; n += 1) {
        const response = await limited('/', init()).catch(() => undefined);
        if (response !== undefined) answered += 1;
      }
      expect(hanging.received.length).toBeLessThanOrEqual(3);
      expect(answered).toBeGreaterThanOrEqual(17);
    },
  );

  it('a deadline may be longer than a timer', async () => {
    vi.useFakeTimers();
    try {
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
    } finally {
      vi.useRealTimers();
    }
  });

  it.each([undefined, 60])(
    'a signal that aborts when there is quota, before it is sent, spends nothing (deadline: %s)',
    async (deadlineSeconds) => {
      const limiter = single();
      const abort = new AbortController();
      const limited = limitFetch(fetch, limiter, { deadlineSeconds });
      const gone = limited('http://127.0.0.1:1/', { signal: abort.signal });
      abort.abort('enough');
      await expect(gone).rejects.toBe('enough');
      expect(limiter.delaySeconds()).toBe(0);
    },
  );

  it('a signal keeps nothing of the requests that it could have ended', async () => {
    const { signal } = new AbortController();
    const limited = limitFetch(async () => new Response(null), hastyLimiter(), {
      deadlineSeconds: 60,
    });
    for (let n = 0; n < 5; n += 1) await limited('http://a.example', { signal });
    // Where Node keeps those that follow a signal by AbortSignal.any.
    const kept = Object.getOwnPropertySymbols(signal).map((key) => Reflect.get(signal, key));
    expect(kept.filter((value) => value instanceof Set && value.size > 0)).toEqual([]);
  });

  it('a signal keeps nothing of a request of which nothing can be read any more', async () => {
    const { signal } = new AbortController();
    const followers: WeakRef<AbortSignal>[] = [];
    const answers = [() => new Response(null), () => new Response('text'), () => Promise.reject()];
    const answering: Fetch = async (_, init) => {
      if (init?.signal) followers.push(new WeakRef(init.signal));
      return await (answers[followers.length % 3] as () => Response)();
    };
    const limited = limitFetch(answering, hastyLimiter(), { deadlineSeconds: 60, maxAttempts: 1 });
    for (let n = 0; n < 30; n += 1) {
      const response = await limited('http://a.example', { signal }).catch(() => undefined);
      await response?.text();
    }
    expect(followers).toHaveLength(30);
    expect(getEventListeners(signal, 'abort').length).toBeLessThanOrEqual(1);
    await expect
      .poll(() => {
        collectGarbage();
        return followers.filter((follower) => follower.deref() !== undefined).length;
      })
      .toBe(0);
  });

  it('a deadline does not end the reading of a body, a signal does', async () => {
    const server = await serve((response) => {
      response.write('begun, ');
      setTimeout(() => response.end('done'), 200);
    });
    const limited = limitFetch(fetch, new PolicyLimiter(plenty), { deadlineSeconds: 0.15 });
    expect(await (await limited(server.origin)).text()).toBe('begun, done');
    const abort = new AbortController();
    const response = await limited(server.origin, { signal: abort.signal });
    abort.abort('enough');
    await expect(response.text()).rejects.toThrow();
  });

  it('the signal of a Request ends the reading of its body, whatever has been collected', async () => {
    const server = await serve((response) => response.write('begun, '));
    const abort = new AbortController();
    const request = new Request(server.origin, { signal: abort.signal });
    const response = await limitFetch(fetch, new PolicyLimiter(plenty))(request);
    const reading = response.text();
    await new Promise((resolve) => setTimeout(resolve, 10));
    collectGarbage();
    abort.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    expect(request.signal.aborted).toBe(true);
  });

  it('a refusal is returned where its Retry-After is beyond the deadline', async () => {
    const server = await serve(refusing(9, 429, { 'Retry-After': '60' }));
    const limited = limitFetch(fetch, new PolicyLimiter(plenty), { deadlineSeconds: 5 });
    const response = await limited(server.origin);
    expect(response.status).toBe(429);
    expect(await response.text()).toBe('no');
    expect(server.received).toHaveLength(1);
  });

  it('a refusal is returned where the queue is full', async () => {
    const server = await serve(refusing(9, 429, { 'Retry-After': '60' }));
    const limiter = new PolicyLimiter({ ...plenty, maxQueue: 0 });
    expect((await limitFetch(fetch, limiter)(server.origin)).status).toBe(429);
  });
});

describe('what can never be sent', () => {
  const mistakes: [string, () => Parameters<Fetch>][] = [
    ['a GET with a body', () => ['/', { body: 'a' }]],
    ['a field whose name is none', () => ['/', { headers: { 'a b': '1' } }]],
    ['a stream without duplex', () => ['/', { method: 'PUT', body: new Blob(['a']).stream() }]],
  ];
  it.each(mistakes)('%s: spends nothing, and no node is to blame', async (_, make) => {
    for (const [, plain] of FETCHES) {
      const server = await serve((response) => response.end());
      const pool = poolOf([server], 1);
      let sent = 0;
      const counting: Fetch = (input, init) => {
        sent += 1;
        return plain(input, init);
      };
      await expect(limitFetch(counting, pool)(...make())).rejects.toThrow(TypeError);
      expect(sent).toBe(1);
      expect(pool.state().nodes[server.origin]).toMatchObject({
        failureShare: 0,
        inFlight: 0,
        waitSeconds: 0,
      });
    }
  });

  it('a Request whose body has been read', async () => {
    for (const method of ['PUT', 'POST']) {
      const server = await serve((response) => response.end());
      const pool = poolOf([server], 1);
      const request = new Request('http://a.example/', { method, body: 'abc' });
      await request.text();
      await expect(limitFetch(fetch, pool)(request)).rejects.toThrow(TypeError);
      expect(pool.state().nodes[server.origin]).toMatchObject({ failureShare: 0, waitSeconds: 0 });
      const limiter = single();
      await expect(limitFetch(fetch, limiter)(request)).rejects.toThrow(TypeError);
      expect(limiter.delaySeconds()).toBe(0);
      // With another body it can.
      const response = await limitFetch(fetch, limiter)(
        new Request(server.origin, { method, body: 'abc' }),
        { body: 'other' },
      );
      expect(response.status).toBe(200);
      expect(server.received[0]?.body).toBe('other');
    }
  });

  it('a URL that is none', async () => {
    for (const [, plain] of FETCHES) {
      const limiter = single();
      await expect(limitFetch(plain, limiter)('not a url')).rejects.toThrow(TypeError);
      expect(limiter.delaySeconds()).toBe(0);
    }
  });
});

describe('what a response says', () => {
  /** Seconds for which a limiter waits when such a response has come. */
  async function waitAfter(
    status: number,
    fields: Record<string, string>,
    body = '',
    options = {},
  ): Promise<number> {
    const server = await serve((response) => response.writeHead(status, fields).end(body));
    const clock = manualClock();
    const limiter = new PolicyLimiter({ ...plenty, clock, ...options });
    const response = await limitFetch(fetch, limiter, { maxAttempts: 1 })(server.origin);
    expect(await response.text()).toBe(body);
    return limiter.delaySeconds();
  }

  it('is obeyed: the RateLimit of draft 11', async () => {
    expect(await waitAfter(200, { RateLimit: '"a";r=0;t=30' })).toBeGreaterThanOrEqual(30);
    expect(await waitAfter(200, { RateLimit: '"a";r=5;t=30' })).toBe(0);
  });

  it('is obeyed: Retry-After, as a date by the clock of the server', async () => {
    const retry = { Date: 'Sun, 06 Nov 1994 08:49:37 GMT' };
    const at = { ...retry, 'Retry-After': 'Sun, 06 Nov 1994 08:49:57 GMT' };
    expect(await waitAfter(503, at)).toBe(20);
  });

  it('is passed over if it comes from a cache', async () => {
    expect(await waitAfter(200, { RateLimit: '"a";r=0;t=30', Age: '5' })).toBe(0);
    expect(await waitAfter(200, { RateLimit: '"a";r=0;t=30', Age: '0' })).toBeGreaterThan(0);
    expect(await waitAfter(200, { RateLimit: '"a";r=0;t=30', Age: 'old' })).toBeGreaterThan(0);
  });

  const problem = JSON.stringify({
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    'violated-policies': ['a'],
  });
  const json = { 'Content-Type': 'application/problem+json; charset=utf-8' };

  it('is read from a problem body: only violated policies are blocked', async () => {
    const server = await serve((response) =>
      response.writeHead(429, { ...json, 'Retry-After': '20' }).end(problem),
    );
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
    const response = await limitFetch(fetch, limiter, { maxAttempts: 1 })(server.origin);
    expect(await response.json()).toEqual(JSON.parse(problem));
    expect(limiter.state().blockedSeconds).toBe(0);
    expect(limiter.delaySeconds()).toBe(20);
  });

  it.each([
    ['of another type', 429, {}],
    ['of a good response', 200, json],
  ])('is not read from a body %s', async (_, status, fields) => {
    const server = await serve((response) =>
      response.writeHead(status, { ...fields, 'Retry-After': '20' }).end(problem),
    );
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
    await limitFetch(fetch, limiter, { maxAttempts: 1 })(server.origin);
    expect(limiter.state().blockedSeconds).toBe(20);
  });

  it('is heard though a problem body never ends, or is too long', async () => {
    for (const end of [false, true]) {
      const server = await serve((response) => {
        response.writeHead(429, { ...json, 'Retry-After': '20' });
        if (end) response.end(`${problem}${' '.repeat(1_000_000)}`);
        else response.write(problem.slice(0, -1));
      });
      const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
      const response = await limitFetch(fetch, limiter, { maxAttempts: 1 })(server.origin);
      expect(response.status).toBe(429);
      expect(limiter.state().blockedSeconds).toBe(20);
      void response.body?.cancel();
    }
  });

  it('is not waited for beyond the deadline, nor when a signal aborts', async () => {
    const endless = async () =>
      new Response(new ReadableStream({}), {
        status: 429,
        headers: { 'Content-Type': 'application/problem+json', 'Retry-After': '3600' },
      });
    const start = performance.now();
    const late = limitFetch(endless, new PolicyLimiter(plenty), { deadlineSeconds: 0.05 });
    expect((await late('http://a.example')).status).toBe(429);
    for (const maxAttempts of [1, 3]) {
      const limited = limitFetch(endless, new PolicyLimiter(plenty), { maxAttempts });
      const abort = new AbortController();
      const gone = limited('http://a.example', { signal: abort.signal });
      setTimeout(() => abort.abort('enough'), 50);
      await expect(gone).rejects.toBe('enough');
    }
    expect(performance.now() - start).toBeLessThan(900);
  });

  it('goes to the node that said it', async () => {
    const spent = await serve((response) => response.setHeader('RateLimit', '"a";r=0;t=30').end());
    const free = await serve((response) => response.end());
    const pool = poolOf([spent, free]);
    const limited = limitFetch(fetch, pool);
    for (let at = 0; at < 30; at += 1) await limited('/');
    expect(spent.received).toHaveLength(1);
    expect(free.received).toHaveLength(29);
    expect(pool.state().nodes[spent.origin]).toMatchObject({ inFlight: 0 });
  });
});

describe('cost and priority', () => {
  it('are asked of each request', async () => {
    const server = await serve((response) => response.end());
    const asked: unknown[] = [];
    const limiter = new PolicyLimiter({
      policies: [{ quota: 10, windowSeconds: 3600 }],
      algorithm: 'sliding',
    });
    const cost = (request: object) => {
      asked.push(request);
      return 4;
    };
    const limited = limitFetch(fetch, limiter, { cost });
    await limited(`${server.origin}/a`, { method: 'put' });
    await limited(new Request(`${server.origin}/b`));
    expect(asked).toEqual([
      { url: `${server.origin}/a`, method: 'PUT' },
      { url: `${server.origin}/b`, method: 'GET' },
    ]);
    expect(limiter.delaySeconds(2)).toBe(0);
    expect(limiter.delaySeconds(3)).toBeGreaterThan(3000);
  });

  it('decide who goes first', async () => {
    const server = await serve((response) => response.end());
    const limiter = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 0.05 }] });
    limiter.tryAcquire();
    const limited = limitFetch(fetch, limiter, { priority: ({ url }) => Number(url.at(-1)) });
    await Promise.all([1, 3, 2].map((path) => limited(`${server.origin}/${path}`)));
    expect(server.received.map(({ url }) => url)).toEqual(['/3', '/2', '/1']);
  });

  it('above every quota is an error', async () => {
    const limited = limitFetch(fetch, new PolicyLimiter(plenty), { cost: () => 1001 });
    await expect(limited('http://127.0.0.1:1/')).rejects.toMatchObject({
      code: 'ERR_LIMITER_COST',
    });
  });
});

describe('the nodes of a pool', () => {
  const plain = (async (input: RequestInfo | URL) => new Response(String(input))) as Fetch;
  const urlOf = async (node: string, url: string, options = {}) => {
    const pool = new UpstreamPool({ [node]: { policies: [{ w: 1, v: 1 }] } });
    return (await limitFetch(plain, pool, options)(url)).text();
  };

  it('are hosts or origins', async () => {
    expect(await urlOf('a.example', '/x')).toBe('https://a.example/x');
    expect(await urlOf('a.example:81', '/x')).toBe('https://a.example:81/x');
    expect(await urlOf('a.example', '/x', { protocol: 'http' })).toBe('http://a.example/x');
    expect(await urlOf('http://a.example', '/x')).toBe('http://a.example/x');
    expect(await urlOf('[::1]:80', 'x', { protocol: 'http' })).toBe('http://[::1]/x');
  });

  it.each(['a.example/path', 'a b', '', 'http://user@a.example', 'ftp://a.example', 'a?b'])(
    'and nothing else: %s',
    (node) => {
      const pool = new UpstreamPool({ [node]: { policies: [{ w: 1, v: 1 }] } });
      expect(() => limitFetch(plain, pool)).toThrow(
        expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }),
      );
      expect(() => limitFetch(plain, pool)).toThrow(JSON.stringify(node));
    },
  );

  it('are sent no URL without a host of its own', async () => {
    for (const url of ['data:,b.example', 'mailto:a@b.example']) {
      await expect(urlOf('a.example', url)).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    }
  });
});

describe('options', () => {
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
  ])('%o is refused', (options) => {
    expect(() => limitFetch(fetch, new PolicyLimiter(plenty), options as object)).toThrow(
      expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }),
    );
  });

  it('so is what is no fetch, and what is no limiter', () => {
    for (const act of [
      () => limitFetch(7 as never, new PolicyLimiter(plenty)),
      () => limitFetch(fetch, {} as never),
    ]) {
      expect(act).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
    }
  });
});
