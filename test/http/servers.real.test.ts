// The middleware in real servers, called by real clients: node:http, HTTP/2 and Unix sockets. Express is in
// express.real.test.ts.

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { connect, constants, createServer as createHttp2 } from 'node:http2';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import autocannon from 'autocannon';
import { type EngineName, RuleLimiter } from 'relay-limiter';
import { limitFetch, PolicyLimiter } from 'relay-limiter/client';
import { parseProblem } from 'relay-limiter/headers';
import { rateLimit } from 'relay-limiter/http';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from '../support/limiters.js';
import { few, until } from '../support/sockets.js';
import {
  closeLater,
  type Middleware,
  type Served,
  serve,
  statuses,
  strictly,
  times,
} from './support.js';

/** A window so long that no token comes back while a test runs. */
const HOUR = 3600;

function answering(...chain: Middleware[]) {
  return (request: IncomingMessage, response: ServerResponse) => {
    const run = (at: number, error?: unknown): void => {
      if (error !== undefined) {
        response.statusCode = 500;
        response.end(String((error as { code?: string }).code));
      } else if (at === chain.length) response.end('ok');
      else (chain[at] as Middleware)(request, response, (failed) => run(at + 1, failed));
    };
    run(0);
  };
}

describe.each(ENGINES)('rateLimit in node:http with the %s engine', (engine) => {
  test('sends the fields of draft 11 and problem details', async () => {
    const clock = manualClock();
    const limit = rateLimit({ limit: 2, windowSeconds: HOUR, engine, clock });
    const { origin } = await serve(answering(limit));
    const first = await fetch(origin);
    expect(await first.text()).toBe('ok');
    const policy = { name: '2-in-3600s', quota: 2, windowSeconds: HOUR, unit: 'requests' };
    expect(strictly(first.headers)).toMatchObject({
      policies: [policy],
      limits: [{ name: '2-in-3600s', remaining: 1, resetSeconds: 1800 }],
      retryAfterSeconds: null,
    });
    await statuses([origin]);
    const refused = await fetch(origin);
    expect(refused.status).toBe(429);
    expect(strictly(refused.headers)).toMatchObject({
      policies: [policy],
      limits: [{ remaining: 0, resetSeconds: 1800 }],
      retryAfterSeconds: 1800,
    });
    expect(parseProblem(await refused.text(), 429)).toEqual({
      problem: 'quota-exceeded',
      violated: ['2-in-3600s'],
    });
    const head = await fetch(origin, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([429, '']);
    expect(Number(head.headers.get('content-length'))).toBeGreaterThan(0);
  });
});

test('rateLimit passes exactly the limit under load on each engine', async () => {
  const clock = manualClock();
  const load = async (engine: EngineName) => {
    const limit = rateLimit({ limit: 100, windowSeconds: HOUR, engine, clock });
    const { origin: url } = await serve(answering(limit));
    const result = await autocannon({ url, connections: 20, amount: 1000, timeout: 3600 });
    expect(result['2xx']).toBe(100);
    expect(result['4xx']).toBe(900);
    expect([result.errors, result.timeouts, result['5xx']]).toEqual([0, 0, 0]);
  };
  await Promise.all(ENGINES.map(load));
});

test('rateLimit never refuses a client that obeys its fields', async () => {
  let refused = 0;
  const limit = rateLimit({
    limit: 25,
    windowSeconds: 0.5,
    onVerdict: ({ did }) => {
      if (did === 'refused') refused += 1;
    },
  });
  const { origin } = await serve(answering(limit));
  const polite = limitFetch(
    fetch,
    new PolicyLimiter({ policies: [{ quota: 1e6, windowSeconds: 1 }] }),
  );
  for (let n = 0; n < 30; n += 1) {
    const response = await polite(origin);
    expect(response.status).toBe(200);
    await response.arrayBuffer();
  }
  expect(refused).toBe(0);
});

test('rateLimit ignores a spoofed X-Forwarded-For', async () => {
  const limit = rateLimit({ limit: 2, windowSeconds: HOUR });
  const { origin } = await serve(answering(limit));
  const found: number[] = [];
  for (let n = 0; n < 5; n += 1) {
    found.push(...(await statuses([origin], { headers: { 'x-forwarded-for': `192.0.2.${n}` } })));
  }
  expect(found).toEqual([200, 200, 429, 429, 429]);
  const behind = rateLimit({ limit: 1, windowSeconds: HOUR, trustedProxies: 'loopback' });
  const proxied = await serve(answering(behind));
  // The entries that the client wrote, before the proxy's own entry, do not count.
  const of = (...hops: string[]) =>
    statuses([proxied.origin], { headers: { 'x-forwarded-for': hops.join(', ') } });
  expect(await of('198.51.100.1', '192.0.2.1')).toEqual([200]);
  expect(await of('198.51.100.2', '192.0.2.1')).toEqual([429]);
  expect(await of('192.0.2.2')).toEqual([200]);
  expect(await of('\u00ff, <script>', '192.0.2.3')).toEqual([200]);
});

test('rateLimit fails on a Unix socket without a key or a trusted proxy', async () => {
  const of = async (middleware: Middleware) => {
    const path = join(tmpdir(), `relay-limiter-${randomUUID()}.sock`);
    const server = createServer(answering(middleware));
    await once(server.listen(path), 'listening');
    closeLater(() => new Promise((resolve) => server.close(() => resolve())));
    return async (headers: Record<string, string> = {}) => {
      const [response] = await once(get({ socketPath: path, headers, agent: false }), 'response');
      let body = '';
      for await (const chunk of response) body += chunk;
      return [response.statusCode, body.slice(0, 15)];
    };
  };
  const options = { limit: 1, windowSeconds: HOUR };
  const plain = await of(rateLimit(options));
  expect(await plain()).toEqual([500, 'ERR_LIMITER_KEY']);
  const keyed = await of(rateLimit({ ...options, key: () => 'everybody' }));
  expect([(await keyed())[0], (await keyed())[0]]).toEqual([200, 429]);
  const trusted = await of(rateLimit({ ...options, trustedProxies: (_, hop) => hop === 0 }));
  expect(await trusted({ 'x-forwarded-for': '192.0.2.1' })).toEqual([200, 'ok']);
  expect(await trusted({ 'x-forwarded-for': '192.0.2.2' })).toEqual([200, 'ok']);
  expect((await trusted({ 'x-forwarded-for': '192.0.2.1' }))[0]).toBe(429);
});

test('rateLimit survives a client that disconnects during a key lookup', async () => {
  const limiter = few(3);
  const waiting: (() => void)[] = [];
  let asked = 0;
  const limit = rateLimit({
    limiter,
    key: () => {
      asked += 1;
      return new Promise((resolve) => waiting.push(() => resolve('everybody')));
    },
  });
  let gone = 0;
  const answer = answering(limit);
  const { port } = await serve((request, response) => {
    response.on('close', () => (gone += 1));
    answer(request, response);
  });
  const clients = [1, 2, 3].map(() => {
    const socket = connectTcp(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    return socket;
  });
  await until(() => asked === 3);
  for (const socket of clients) socket.resetAndDestroy();
  await until(() => gone === 3);
  for (const answer of waiting.splice(0)) answer();
  const last = fetch(`http://127.0.0.1:${port}`);
  await until(() => waiting.length === 1);
  waiting[0]?.();
  // The requests were counted: a client cannot avoid the cost of its requests by disconnecting.
  expect((await last).status).toBe(429);
});

test('rateLimit does not touch a response that has started', async () => {
  let reached = 0;
  const begin: Middleware = (_, response, next) => {
    response.writeHead(200, { 'Content-Type': 'text/plain' });
    response.write('begun');
    next();
    response.end(', ended');
  };
  const limit = rateLimit({ limit: 1, windowSeconds: HOUR });
  const count: Middleware = () => {
    reached += 1;
  };
  const { origin } = await serve(answering(begin, limit, count));
  for (let n = 0; n < 2; n += 1) {
    const response = await fetch(origin);
    expect(await response.text()).toBe('begun, ended');
    expect(response.headers.get('ratelimit')).toBeNull();
  }
  expect(reached).toBe(1);
});

test('rateLimit counts OPTIONS unless skipped, and sees no upgrades', async () => {
  const limit = rateLimit({
    limit: 1,
    windowSeconds: HOUR,
    skip: ({ method }) => method === 'OPTIONS',
  });
  const server: Served & { upgrades?: number } = await upgrading(answering(limit));
  expect(await statuses(times(2, server.origin), { method: 'OPTIONS' })).toEqual([200, 200]);
  const upgrade = { Connection: 'Upgrade', Upgrade: 'websocket' };
  const { port } = server;
  for (let n = 0; n < 3; n += 1) {
    const asking = request({ port, host: '127.0.0.1', headers: upgrade, agent: false }).end();
    const [response, socket] = await once(asking, 'upgrade');
    expect(response.statusCode).toBe(101);
    socket.destroy();
  }
  expect(await statuses(times(2, server.origin))).toEqual([200, 429]);
});

async function upgrading(listener: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createServer(listener);
  server.on('upgrade', (_, socket) => {
    socket.end(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    );
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  closeLater(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(() => resolve()));
  });
  const { port } = server.address() as AddressInfo;
  return { origin: `http://127.0.0.1:${port}`, port };
}

test('rateLimit over HTTP/2 omits connection fields and ends sessions by GOAWAY', async () => {
  const limiter = few(1, { disconnectThreshold: 1 });
  const limit = rateLimit({ limiter });
  const slow: (() => void)[] = [];
  const server = createHttp2((request, response) => {
    if (request.url === '/slow') {
      slow.push(() => response.end('ok'));
      return;
    }
    limit(request as unknown as IncomingMessage, response as unknown as ServerResponse, (error) => {
      response.statusCode = error === undefined ? 200 : 500;
      response.end('ok');
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const warnings: Error[] = [];
  const warned = (warning: Error) => warnings.push(warning);
  process.on('warning', warned);
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  closeLater(async () => {
    process.off('warning', warned);
    session.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  const ask = async () => {
    const stream = session.request({ ':path': '/' });
    const [headers] = await once(stream, 'response');
    stream.resume();
    await once(stream, 'close');
    return headers;
  };
  expect(await ask()).toMatchObject({ ':status': 200, ratelimit: '"1-in-1000s";r=0;t=1000' });
  const waiting = session.request({ ':path': '/slow' });
  await until(() => slow.length === 1);
  const goaway = once(session, 'goaway');
  const ended = once(session, 'close');
  const refused = await ask();
  expect(refused).toMatchObject({ ':status': 429, 'retry-after': '1000' });
  expect(refused['connection']).toBeUndefined();
  const [code] = await goaway;
  expect(code).toBe(constants.NGHTTP2_NO_ERROR);
  // A request that has started is still answered.
  slow[0]?.();
  const [headers] = await once(waiting, 'response');
  expect(headers[':status']).toBe(200);
  waiting.resume();
  await ended;
  expect(warnings).toEqual([]);
});

test('rateLimit closes the connection of a disconnected client', async () => {
  const limiter = few(1, { disconnectThreshold: 2 });
  const { port } = await serve(answering(rateLimit({ limiter })));
  const socket = connectTcp(port, '127.0.0.1');
  let answers = '';
  socket.on('data', (data) => {
    answers += data;
  });
  const asking = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';
  for (const seen of [1, 2, 3]) {
    socket.write(asking);
    while (answers.split('HTTP/1.1 ').length <= seen) await once(socket, 'data');
  }
  await once(socket, 'close');
  expect(answers.match(/HTTP\/1\.1 \d+/g)).toEqual([
    'HTTP/1.1 200',
    'HTTP/1.1 429',
    'HTTP/1.1 429',
  ]);
});

test('rateLimit gives back a request when a server has sent its response', async () => {
  const limit = rateLimit({ limit: 1, refundWhen: (_, response) => response.statusCode === 200 });
  let finished: Promise<unknown> = Promise.resolve();
  const { origin } = await serve((request, response) => {
    finished = once(response, 'finish');
    limit(request, response, () => response.end('Hello'));
  });
  for (let n = 0; n < 3; n += 1) {
    const answer = await fetch(origin);
    await answer.text();
    expect(answer.status).toBe(200);
    await finished;
  }
});

test('rateLimit counts an HTTP/2 session as one connection, until it closes', async () => {
  const rules = { all: { scope: 'connection', quota: 2, windowSeconds: HOUR } };
  const limiter = new RuleLimiter({ scopes: { connection: {} }, rules });
  const limit = rateLimit({ limiter });
  const server = createHttp2((request, response) => {
    limit(request as unknown as IncomingMessage, response as unknown as ServerResponse, () =>
      response.end('ok'),
    );
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const sessions = [connect(origin), connect(origin)] as const;
  closeLater(async () => {
    for (const session of sessions) session.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  const found: unknown[] = [];
  for (const session of [sessions[0], sessions[0], sessions[0], sessions[1]]) {
    const stream = session.request({ ':path': '/' });
    const [headers] = await once(stream, 'response');
    found.push(headers[':status']);
    stream.resume();
    await once(stream, 'close');
  }
  expect(found).toEqual([200, 200, 429, 200]);
  const peers = () => limiter.getStats().scopes['connection']?.peers;
  expect(peers()).toBe(2);
  for (const session of sessions) session.close();
  await until(() => peers() === 0);
});
