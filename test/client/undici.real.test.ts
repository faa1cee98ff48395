// limitInterceptor under undici 7: fetch, request and upgrades.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { limitInterceptor, PolicyLimiter, PolicyLimiterGroup } from 'relay-limiter/client';
import { parseRateLimitHeaders } from 'relay-limiter/headers';
import {
  Agent,
  buildConnector,
  type Dispatcher,
  interceptors,
  request,
  fetch as undiciFetch,
} from 'undici';
import { afterEach, describe, expect, it } from 'vitest';
import { type ManualClock, manualClock } from '../support/limiters.js';
import { uncaught } from '../support/uncaught.js';
import { goneServer, refusing, serve } from './http.js';
import { plenty, single, spent } from './support.js';

const open: Dispatcher[] = [];
afterEach(async () => {
  for (const agent of open.splice(0)) await agent.destroy();
});

function agentOf(...given: Parameters<typeof limitInterceptor>): Dispatcher {
  const agent = new Agent().compose(limitInterceptor(...given));
  open.push(agent);
  return agent;
}

/** Moves the clock of a limiter and wakes the requests that wait for quota. */
function pass(limiter: PolicyLimiter, clock: ManualClock, seconds: number): void {
  clock.now += seconds;
  limiter.update(parseRateLimitHeaders({}));
}

type Act = (url: string, dispatcher: Dispatcher, signal?: AbortSignal) => Promise<string>;

const CLIENTS: [name: string, act: Act][] = [
  [
    'undici.fetch',
    async (url, dispatcher, signal) => {
      const response = await undiciFetch(url, { dispatcher, signal: signal ?? null });
      return `${response.status} ${await response.text()}`;
    },
  ],
  [
    'undici.request',
    async (url, dispatcher, signal) => {
      const { statusCode, body } = await request(url, { dispatcher, signal });
      return `${statusCode} ${await body.text()}`;
    },
  ],
  [
    'the fetch of Node',
    async (url, dispatcher, signal) => {
      const init = { dispatcher, signal: signal ?? null };
      const response = await fetch(url, init as unknown as RequestInit);
      return `${response.status} ${await response.text()}`;
    },
  ],
];

describe.each(CLIENTS)('limitInterceptor under %s', (_, get) => {
  it('passes on what the server sends', async () => {
    const large = 'x'.repeat(1_000_000);
    const server = await serve((response) => response.end(large));
    expect(await get(server.origin, agentOf(new PolicyLimiter(plenty)))).toBe(`200 ${large}`);
  });

  it('waits for quota', async () => {
    const server = await serve((response) => response.end());
    const clock = manualClock();
    const limiter = single({ clock });
    const agent = agentOf(limiter);
    const both = [get(server.origin, agent), get(server.origin, agent)];
    await expect.poll(() => limiter.state().waiting).toBe(1);
    await Promise.race(both);
    expect(server.received).toHaveLength(1);
    pass(limiter, clock, 3599);
    expect(limiter.state().waiting).toBe(1);
    pass(limiter, clock, 1);
    expect(await Promise.all(both)).toEqual(['200 ', '200 ']);
  });

  it('obeys headers', async () => {
    const server = await serve((response) => response.setHeader('RateLimit', '"a";r=0;t=30').end());
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
    await get(server.origin, agentOf(limiter));
    expect(limiter.delaySeconds()).toBeGreaterThanOrEqual(30);
  });

  it('obeys Retry-After and retries nothing', async () => {
    const server = await serve(refusing(1, 429, { 'Retry-After': '20' }));
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
    expect(await get(server.origin, agentOf(limiter))).toBe('429 no');
    expect(limiter.delaySeconds()).toBe(20);
    expect(server.received).toHaveLength(1);
  });

  it('ignores the limits of a cached response', async () => {
    const fields = { RateLimit: '"a";r=0;t=30', Age: '9' };
    const server = await serve((response) => response.writeHead(200, fields).end());
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock() });
    await get(server.origin, agentOf(limiter));
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('removes an aborted request from the queue', async () => {
    const server = await serve((response) => response.end());
    const limiter = spent();
    const abort = new AbortController();
    const gone = get(server.origin, agentOf(limiter), abort.signal);
    await expect.poll(() => limiter.state().waiting).toBe(1);
    abort.abort();
    await expect(gone).rejects.toMatchObject({ name: 'AbortError' });
    expect(limiter.state().waiting).toBe(0);
    expect(server.received).toEqual([]);
  });

  it('aborts a request under way', async () => {
    const server = await serve(() => {});
    const abort = new AbortController();
    const limiter = new PolicyLimiter(plenty);
    const gone = get(server.origin, agentOf(limiter), abort.signal);
    await expect.poll(() => server.received.length).toBe(1);
    expect(limiter.state().running).toBe(1);
    abort.abort();
    await expect(gone).rejects.toMatchObject({ name: 'AbortError' });
    await expect.poll(() => limiter.state().running).toBe(0);
  });

  it('refunds quota only if nothing was sent', async () => {
    const server = await serve((response) => response.socket?.destroy());
    const limiter = single();
    const { origin } = await goneServer();
    await expect(get(origin, agentOf(limiter))).rejects.toThrow();
    expect(limiter.delaySeconds()).toBe(0);
    await expect(get(server.origin, agentOf(limiter))).rejects.toThrow();
    expect(limiter.delaySeconds()).toBe(3600);
  });

  it('fails with the errors of acquire', async () => {
    const { origin } = await goneServer();
    const code = (limiter: PolicyLimiter, options?: object) =>
      get(origin, agentOf(limiter, options)).catch((error) => (error.cause ?? error).code);
    expect(await code(spent(), { deadlineSeconds: 1 })).toBe('ERR_LIMITER_DEADLINE');
    expect(await code(spent({ maxQueue: 0 }))).toBe('ERR_LIMITER_QUEUE');
    expect(await code(new PolicyLimiter(plenty), { cost: () => 2000 })).toBe('ERR_LIMITER_COST');
  });
});

describe('limitInterceptor under undici.request', () => {
  it('does not queue a request that was aborted before it began', async () => {
    const limiter = spent();
    const dispatcher = agentOf(limiter);
    const gone = request('http://127.0.0.1:1', { dispatcher, signal: AbortSignal.abort('enough') });
    await expect(gone).rejects.toBe('enough');
    expect(limiter.state().waiting).toBe(0);
  });

  it('does not send a request that is aborted when it gets its lease', async () => {
    const server = await serve((response) => response.end());
    for (const turns of [0, 1, 2, 3, 5, 8]) {
      const limiter = single();
      const abort = new AbortController();
      const { signal } = abort;
      const gone = request(server.origin, { dispatcher: agentOf(limiter), signal });
      for (let turn = 0; turn < turns; turn += 1) await null;
      abort.abort('enough');
      await expect(gone).rejects.toBe('enough');
      expect(limiter.delaySeconds()).toBe(0);
    }
    expect(server.received).toEqual([]);
  });

  it('counts a request as under way until the headers of its response arrive', async () => {
    const policy = '"c";q=1;w=60;qu="concurrent-requests"';
    const server = await serve((response) => {
      response.setHeader('RateLimit-Policy', policy).write('begun');
    });
    const limiter = new PolicyLimiter(plenty);
    const dispatcher = agentOf(limiter);
    const first = await request(server.origin, { dispatcher });
    const second = await request(server.origin, { dispatcher });
    expect(limiter.delaySeconds()).toBe(0);
    for (const { body } of [first, second]) body.on('error', () => {}).destroy();
  });

  it('slows down a server that is faster than the reader', async () => {
    const size = 20_000_000;
    let written = 0;
    const server = await serve((response) => {
      const chunk = Buffer.alloc(100_000);
      const write = () => {
        while (written < size) {
          written += chunk.length;
          if (!response.write(chunk)) return response.once('drain', write);
        }
        return response.end();
      };
      write();
    });
    const dispatcher = agentOf(new PolicyLimiter(plenty));
    const { body } = await request(server.origin, { dispatcher });
    let read = 0;
    let buffered = 0;
    for await (const chunk of body) {
      read += chunk.length;
      // Gives the server time to send far more than one chunk.
      for (let turn = 0; turn < 20; turn += 1) await setImmediate();
      buffered = Math.max(buffered, body.readableLength);
    }
    expect(read).toBe(size);
    expect(buffered).toBeLessThan(1_000_000);
  });

  it('passes on early hints and ignores their limits', async () => {
    const server = await serve((response) => {
      response.writeEarlyHints({ link: '</a.css>; rel=preload', ratelimit: '"a";r=0;t=30' });
      response.end();
    });
    const limiter = single();
    const hints: number[] = [];
    await request(server.origin, {
      dispatcher: agentOf(limiter),
      onInfo: ({ statusCode }) => hints.push(statusCode),
    });
    expect(hints).toEqual([103]);
    expect(limiter.snapshot().limits).toEqual([]);
  });

  it('lets the retry interceptor of undici repeat a request, which waits each time', async () => {
    const server = await serve(refusing(1, 429, { 'Retry-After': '20' }));
    const clock = manualClock();
    const limiter = new PolicyLimiter({ ...plenty, clock });
    const retry = interceptors.retry({ maxTimeout: 1 });
    const agent = new Agent().compose(limitInterceptor(limiter), retry);
    open.push(agent);
    const answered = request(server.origin, { dispatcher: agent });
    await expect.poll(() => limiter.state().waiting).toBe(1);
    expect(server.received).toHaveLength(1);
    pass(limiter, clock, 20);
    expect((await answered).statusCode).toBe(200);
    expect(server.received).toHaveLength(2);
  });

  it('refunds a request that is aborted while its connection is made', async () => {
    const server = await serve((response) => response.end());
    const limiter = single();
    const abort = new AbortController();
    let goOn = () => {};
    const connector = buildConnector({});
    const connecting = new Promise<void>((resolve) => {
      const connect: buildConnector.connector = (options, then) => {
        goOn = () => connector(options, then);
        resolve();
      };
      const agent = new Agent({ connect }).compose(limitInterceptor(limiter));
      open.push(agent);
      request(server.origin, { dispatcher: agent, signal: abort.signal }).catch(() => {});
    });
    await connecting;
    expect(limiter.delaySeconds()).toBe(3600);
    abort.abort();
    goOn();
    await expect.poll(() => limiter.delaySeconds()).toBe(0);
    expect(server.received).toEqual([]);
  });

  it('limits each step of a redirection and keeps the history of URLs', async () => {
    const server = await serve((response, { url }) => {
      if (url === '/end') response.end('yes');
      else response.writeHead(302, { location: '/end' }).end();
    });
    const limiter = new PolicyLimiter({
      policies: [{ quota: 5, windowSeconds: 3600 }],
      algorithm: 'sliding',
      clock: manualClock(),
    });
    const redirect = interceptors.redirect({ maxRedirections: 3 });
    const dispatcher = new Agent().compose(limitInterceptor(limiter), redirect);
    open.push(dispatcher);
    const { context, body } = await request(`${server.origin}/begin`, { dispatcher });
    expect(await body.text()).toBe('yes');
    const { history } = context as { history: URL[] };
    expect(history.map(({ pathname }) => pathname)).toEqual(['/begin', '/end']);
    expect([limiter.delaySeconds(3), limiter.delaySeconds(4)]).toEqual([0, 3600]);
  });

  it('charges the cost that its option returns for a request', async () => {
    const server = await serve((response) => response.end());
    const asked: unknown[] = [];
    const limiter = single();
    const cost = (about: object) => {
      asked.push(about);
      return 0.5;
    };
    const dispatcher = agentOf(limiter, { cost });
    await request(`${server.origin}/a?b`, { dispatcher, method: 'PUT' });
    expect(asked).toEqual([{ url: `${server.origin}/a?b`, method: 'PUT' }]);
    expect([limiter.delaySeconds(0.5), limiter.delaySeconds(1)]).toEqual([0, 3600]);
  });

  it('uses the limiter of the origin, or none', async () => {
    const limited = await serve((response) => response.end());
    const free = await serve((response) => response.end());
    const limiter = single();
    const dispatcher = agentOf((origin) => (origin === limited.origin ? limiter : undefined));
    await request(free.origin, { dispatcher });
    expect(limiter.delaySeconds()).toBe(0);
    await request(limited.origin, { dispatcher });
    expect(limiter.delaySeconds()).toBe(3600);
    await request(new URL(free.origin), { dispatcher });
    expect(free.received).toHaveLength(2);
  });
});

it('limitInterceptor takes quota for an upgrade too', async () => {
  const http = createServer();
  http.on('upgrade', (_, socket) => {
    socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n');
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const limiter = single();
  const agent = agentOf(limiter);
  const { socket } = await agent.upgrade({ origin, path: '/', protocol: 'a' } as never);
  expect(limiter.delaySeconds()).toBe(3600);
  socket.destroy();
  http.close();
});

it.each<[given: unknown[]]>([
  [[undefined]],
  [[{}]],
  [[new PolicyLimiter(plenty), { maxAttempts: 3 }]],
  [[new PolicyLimiter(plenty), { cost: 1 }]],
  [[new PolicyLimiter(plenty), { deadlineSeconds: -1 }]],
])('limitInterceptor rejects %o', (given) => {
  const make = () => limitInterceptor(...(given as Parameters<typeof limitInterceptor>));
  expect(make).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
});

describe('a request body under limitInterceptor', () => {
  it('that fails while the request waits fails the request, and leaves the queue', async () => {
    const server = await serve((response) => response.end());
    const limiter = spent();
    const agent = agentOf(limiter);
    const body = new Readable({ read() {} });
    const failed = request(server.origin, { dispatcher: agent, method: 'POST', body });
    await expect.poll(() => limiter.state().waiting).toBe(1);
    body.destroy(new Error('no such file'));
    await expect(failed).rejects.toThrow('no such file');
    expect(limiter.state().waiting).toBe(0);
    expect(server.received).toEqual([]);
  });

  it('is closed if the request is aborted while it waits', async () => {
    const limiter = spent();
    const abort = new AbortController();
    const body = new Readable({ read() {} });
    const options = { dispatcher: agentOf(limiter), method: 'POST', body, signal: abort.signal };
    const gone = request('http://127.0.0.1:1', options as Parameters<typeof request>[1]);
    await expect.poll(() => limiter.state().waiting).toBe(1);
    abort.abort();
    await expect(gone).rejects.toMatchObject({ name: 'AbortError' });
    expect(body.destroyed).toBe(true);
  });

  it('may fail when it is closed because the request was aborted', async () => {
    const limiter = spent();
    const abort = new AbortController();
    const body = new Readable({
      read() {},
      destroy: (_, done) => done(new Error('cannot be closed')),
    });
    const options = { dispatcher: agentOf(limiter), method: 'POST', body, signal: abort.signal };
    const gone = request('http://127.0.0.1:1', options as Parameters<typeof request>[1]);
    await expect.poll(() => limiter.state().waiting).toBe(1);
    const failures = await uncaught(async () => {
      abort.abort();
      await expect(gone).rejects.toMatchObject({ name: 'AbortError' });
      await setImmediate();
    });
    expect(body.errored?.message).toBe('cannot be closed');
    expect(failures).toEqual([]);
  });

  it('that is a stream is sent', async () => {
    const server = await serve((response) => response.end('done'));
    const agent = agentOf(new PolicyLimiter(plenty));
    const body = Readable.from(['a', 'b']);
    const { body: answer } = await request(server.origin, {
      dispatcher: agent,
      method: 'POST',
      body,
    });
    expect(await answer.text()).toBe('done');
    expect(server.received[0]?.body).toBe('ab');
  });
});

describe('the responses under limitInterceptor', () => {
  it('are read by functions of the user, from their status and headers', async () => {
    const server = await serve((response) => response.setHeader('x-left', '0').end());
    for (const get of [undiciFetch, fetch]) {
      const limiter = new PolicyLimiter({ ...plenty, clock: manualClock(), random: () => 0 });
      const dispatcher = agentOf(limiter, {
        read: ({ headers }) => ({
          ...parseRateLimitHeaders({}),
          retryAfterSeconds: Number(headers.get('X-Left')) + 5,
        }),
        isRefusal: ({ status }) => status === 200,
      });
      const response = await (get as typeof fetch)(server.origin, { dispatcher } as RequestInit);
      expect(response.status).toBe(200);
      expect(limiter.delaySeconds()).toBe(5);
    }
  });

  it('fail the request if such a function throws', async () => {
    const server = await serve((response) => response.end());
    const dispatcher = agentOf(new PolicyLimiter(plenty), { read: () => JSON.parse('{') });
    await expect(request(server.origin, { dispatcher })).rejects.toThrow(SyntaxError);
  });

  it('have resets in the format that is given', async () => {
    const fields = { 'X-RateLimit-Remaining': '0', 'X-RateLimit-Reset': '60000' };
    const server = await serve((response) => response.writeHead(200, fields).end());
    const limiter = new PolicyLimiter({ ...plenty, clock: manualClock(), random: () => 0 });
    await request(server.origin, { dispatcher: agentOf(limiter, { resetFormat: 'delta-ms' }) });
    expect(limiter.delaySeconds()).toBeCloseTo(61, 6);
  });

  it('block all keys of a group if a refusal is about the common limits', async () => {
    const server = await serve((response) => response.writeHead(429, { 'Retry-After': '9' }).end());
    const common = new PolicyLimiter({ ...plenty, clock: manualClock() });
    const group = new PolicyLimiterGroup({ common });
    const dispatcher = agentOf(group, { isCommon: ({ status }) => status === 429 });
    await request(server.origin, { dispatcher });
    expect(common.state().blockedSeconds).toBe(9);
    expect(Object.values(group.state().keys)).toMatchObject([{ blockedSeconds: 0 }]);
  });
});
