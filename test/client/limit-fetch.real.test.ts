// limitFetch over real HTTP, with the fetch of Node and of undici: what it sends, retries and gives up.

import { limitFetch, PolicyLimiter, UpstreamPool } from 'relay-limiter/client';
import { parseRateLimitHeaders } from 'relay-limiter/headers';
import { fetch as undiciFetch } from 'undici';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '../support/garbage.js';
import { manualClock } from '../support/limiters.js';
import { seeded } from '../support/random.js';
import { goneServer, refusing, serve, type TestServer } from './http.js';
import { hastyLimiter, NOW, plenty, single } from './support.js';

type Fetch = typeof fetch;

const FETCHES: [name: string, fetch: Fetch][] = [
  ['the fetch of Node', fetch],
  ['the fetch of undici', undiciFetch as unknown as Fetch],
];

/** Returns a pool on a clock that stands still: there is no latency, so only `random` chooses the nodes. */
function poolOf(servers: Pick<TestServer, 'origin'>[], quota = 1000): UpstreamPool {
  const file = servers.map(({ origin }) => [origin, { policies: [{ w: 1, v: quota }] }]);
  return new UpstreamPool(Object.fromEntries(file), { clock: manualClock(), random: seeded(1) });
}

describe.each(FETCHES)('limitFetch with %s', (_, plain) => {
  it('sends what it was given', async () => {
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

  it.each([429, 503])('retries after status %i', async (status) => {
    const server = await serve(refusing(2, status, NOW));
    const response = await limitFetch(plain, hastyLimiter())(server.origin);
    expect(await response.text()).toBe('yes');
    expect(server.received).toHaveLength(3);
  });

  it('returns the last refusal, unread, when it gives up', async () => {
    const server = await serve(refusing(9, 429, NOW));
    const response = await limitFetch(plain, hastyLimiter())(server.origin);
    expect(response.status).toBe(429);
    expect(await response.text()).toBe('no');
    expect(server.received).toHaveLength(3);
  });

  it('repeats a body that is not a stream', async () => {
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

  it('retries after a broken connection', async () => {
    const server = await serve((response, _, at) => {
      if (at === 0) response.socket?.destroy();
      else response.end('yes');
    });
    const response = await limitFetch(plain, hastyLimiter())(server.origin);
    expect(await response.text()).toBe('yes');
  });

  it('rejects as fetch does if no response ever comes', async () => {
    const { origin } = await goneServer();
    const limited = limitFetch(plain, hastyLimiter());
    await expect(limited(origin)).rejects.toMatchObject({ cause: { code: 'ECONNREFUSED' } });
  });

  it('sends requests to the nodes of a pool, whatever host a URL names', async () => {
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

  it('retries on another node', async () => {
    const servers = [await serve(refusing(9, 503, NOW)), await serve(refusing(9, 503, NOW))];
    const good = await serve(refusing(0, 503, NOW));
    const response = await limitFetch(plain, poolOf([...servers, good]))('/');
    expect(response.status).toBe(200);
    expect(servers.every(({ received }) => received.length <= 1)).toBe(true);
  });

  it('retries on another node even if that is slower', async () => {
    const gone = await goneServer();
    const slow = await serve((response) => response.end());
    const pool = poolOf([gone, slow]);
    const { lease } = await pool.acquire({ exclude: [gone.origin] });
    pool.update(parseRateLimitHeaders({}), 200, { lease, latencySeconds: 60 });
    expect((await limitFetch(plain, pool)('/')).status).toBe(200);
    expect(pool.state().nodes[gone.origin]?.failureShare).toBeCloseTo(0.2);
  });

  it('avoids a node that is down', async () => {
    const gone = await goneServer();
    const good = await serve((response) => response.end());
    const pool = poolOf([gone, good]);
    const limited = limitFetch(plain, pool);
    for (let at = 0; at < 12; at += 1) expect((await limited('/')).status).toBe(200);
    expect(good.received).toHaveLength(12);
    expect(pool.state().nodes[gone.origin]?.failureShare).toBeGreaterThan(0);
  });
});

describe('a Request passed to limitFetch', () => {
  it('is sent and repeated with its body', async () => {
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

  it('is sent to a node with all its properties and the changes of init', async () => {
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
});

describe('limitFetch', () => {
  it('does not retry a POST after a broken connection, because it may have arrived', async () => {
    const server = await serve((response) => response.socket?.destroy());
    const post = limitFetch(fetch, hastyLimiter())(server.origin, { method: 'POST', body: 'x' });
    await expect(post).rejects.toThrow(TypeError);
    expect(server.received).toHaveLength(1);
  });
});

describe('a connection of limitFetch', () => {
  it('is freed when a refusal is not read', async () => {
    const large = 'x'.repeat(1_000_000);
    const server = await serve((response, _, at) => {
      if (at < 20) response.writeHead(503, NOW).end(large);
      else response.end('yes');
    });
    const limited = limitFetch(fetch, hastyLimiter(), { maxAttempts: 21 });
    expect(await (await limited(server.origin)).text()).toBe('yes');
    // Connections of cancelled responses are closed; one of an unread response would stay open.
    await expect.poll(() => server.connections()).toBeLessThanOrEqual(1);
  });
});

describe('a signal passed to limitFetch', () => {
  it('aborts a request under way, which is not a failure of the node', async () => {
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

  it('aborts the reading of a body', async () => {
    const server = await serve((response) => response.write('begun, '));
    const limited = limitFetch(fetch, new PolicyLimiter(plenty), { deadlineSeconds: 3600 });
    const abort = new AbortController();
    const response = await limited(server.origin, { signal: abort.signal });
    const reading = response.text();
    abort.abort('enough');
    await expect(reading).rejects.toThrow();
  });

  it('aborts the reading of a body through a Request, even after garbage collection', async () => {
    const server = await serve((response) => response.write('begun, '));
    const abort = new AbortController();
    const request = new Request(server.origin, { signal: abort.signal });
    const response = await limitFetch(fetch, new PolicyLimiter(plenty))(request);
    const reading = response.text();
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
    abort.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    expect(request.signal.aborted).toBe(true);
  });
});

describe('limitFetch', () => {
  const mistakes: [string, () => Parameters<Fetch>][] = [
    ['a GET with a body', () => ['/', { body: 'a' }]],
    ['a header with an invalid name', () => ['/', { headers: { 'a b': '1' } }]],
    ['a stream without duplex', () => ['/', { method: 'PUT', body: new Blob(['a']).stream() }]],
  ];
  it.each(mistakes)(
    'spends nothing and blames no node for %s, which can never be sent',
    async (_, make) => {
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
    },
  );

  it('spends nothing for a Request whose body has been read', async () => {
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
      // With another body it can be sent.
      const response = await limitFetch(fetch, limiter)(
        new Request(server.origin, { method, body: 'abc' }),
        { body: 'other' },
      );
      expect(response.status).toBe(200);
      expect(server.received[0]?.body).toBe('other');
    }
  });

  it('spends nothing for an invalid URL', async () => {
    for (const [, plain] of FETCHES) {
      const limiter = single();
      await expect(limitFetch(plain, limiter)('not a url')).rejects.toThrow(TypeError);
      expect(limiter.delaySeconds()).toBe(0);
    }
  });
});
