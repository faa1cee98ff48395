// The Fastify plugin over real sockets: under load, and with clients that disconnect.

import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, connect } from 'node:net';
import autocannon from 'autocannon';
import Fastify from 'fastify';
import type { EngineName } from 'relay-limiter';
import rateLimit from 'relay-limiter/fastify';
import { expect, test } from 'vitest';
import { closeLater } from '../http/support.js';
import { ENGINES, manualClock } from '../support/limiters.js';
import { until } from '../support/sockets.js';

const HOUR = 3600;

test('the plugin passes exactly the limit under load on each engine', async () => {
  const load = async (engine: EngineName) => {
    const fastify = Fastify();
    closeLater(() => fastify.close());
    const options = { limit: 100, windowSeconds: HOUR, engine, clock: manualClock() };
    await fastify.register(rateLimit, options);
    fastify.get('/', async () => 'ok');
    const url = await fastify.listen({ host: '127.0.0.1', port: 0 });
    const result = await autocannon({ url, connections: 20, amount: 1000, timeout: 100 });
    expect(result['2xx']).toBe(100);
    expect(result['4xx']).toBe(900);
    expect([result.errors, result.timeouts, result['5xx']]).toEqual([0, 0, 0]);
  };
  await Promise.all(ENGINES.map(load));
});

test('the plugin answers a disconnected HTTP/2 session and ends it by GOAWAY', async () => {
  const fastify = Fastify({ http2: true, http2SessionTimeout: 0 });
  closeLater(() => fastify.close());
  const options = { limit: 1, windowSeconds: HOUR, disconnectThreshold: 1 };
  await fastify.register(rateLimit, options);
  fastify.get('/', async () => 'ok');
  const session = connectHttp2(await fastify.listen({ host: '127.0.0.1', port: 0 }));
  closeLater(async () => session.destroy());
  const ended = once(session, 'close');
  const statuses: unknown[] = [];
  for (let request = 0; request < 2; request += 1) {
    const stream = session.request({ ':path': '/' });
    const [headers] = await once(stream, 'response');
    statuses.push(headers[':status']);
    stream.resume();
    await once(stream, 'close');
  }
  expect(statuses).toEqual([200, 429]);
  await ended;
});

test('the plugin leaves nothing pending if a client disconnects during a key lookup', async () => {
  const lines: string[] = [];
  const logger = { stream: { write: (line: string) => void lines.push(line) }, level: 'error' };
  const fastify = Fastify({ logger });
  closeLater(() => fastify.close());
  const waiting: (() => void)[] = [];
  await fastify.register(rateLimit, {
    limit: 1,
    windowSeconds: HOUR,
    key: () => new Promise((_, reject) => waiting.push(() => reject(new Error('too late')))),
  });
  let reached = 0;
  fastify.get('/', async () => {
    reached += 1;
  });
  await fastify.listen({ host: '127.0.0.1', port: 0 });
  const { port } = fastify.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await until(() => waiting.length === 1);
  socket.resetAndDestroy();
  const connections = () =>
    new Promise((resolve) => fastify.server.getConnections((_, open) => resolve(open)));
  await expect.poll(connections).toBe(0);
  waiting[0]?.();
  await fastify.close();
  expect([reached, lines]).toEqual([0, []]);
});
