// A flood over eight thousand connections from as many addresses, held back by pauses: the server's memory, and how long
// honest clients wait for an answer meanwhile. The flood, the honest clients and the server are processes of their own.

import { expect, test } from 'vitest';
import { runJson } from '../support/processes.js';

/** Shared by both kinds of client: opens WebSockets from addresses of their own, without a package that would buffer. */
const CLIENTS = `
  import { once } from 'node:events';
  import { connect } from 'node:net';
  const upgrade = 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n' +
    'Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n';
  const frame = Buffer.from([0x82, 0x81, 0, 0, 0, 0, 120]);
  const open = async (n) => {
    const localAddress = '127.' + [1 + (n >> 16), (n >> 8) & 255, 1 + (n & 127) + ((n >> 7) & 1) * 127].join('.');
    const peer = connect({ port: Number(process.env.PORT), host: '127.0.0.1', localAddress });
    peer.on('error', () => {});
    peer.write(upgrade);
    await once(peer, 'data');
    return peer;
  };
  const openAll = async (first, count) => {
    const peers = [];
    for (let n = 0; n < count; n += 50) {
      const some = Array.from({ length: Math.min(50, count - n) }, (_, i) => open(first + n + i));
      peers.push(...await Promise.all(some));
    }
    return peers;
  };`;

const FLOOD = `${CLIENTS}
  const peers = await openAll(0, Number(process.env.COUNT));
  // A read of the server takes at most 64 KB of these at once; the rest waits in the buffers of the system.
  const message = Buffer.concat([Buffer.from([0x82, 0x80 | 126, 4000 >> 8, 4000 & 255, 0, 0, 0, 0]), Buffer.alloc(4000)]);
  const flood = (count) => {
    const frames = Buffer.concat(Array(count).fill(message));
    for (const peer of peers) peer.write(frames);
  };
  process.once('message', () => {
    for (const peer of peers) peer.resume();
    flood(18);
    setInterval(() => flood(2), 1000);
    process.send('flooding');
  });
  process.on('disconnect', () => process.exit());
  process.send('open');`;

const HONEST = `${CLIENTS}
  const ROUNDS = 200;
  const peers = await openAll(100_000, ROUNDS);
  process.on('message', async () => {
    const waits = [];
    for (let n = 0; n < ROUNDS; n += 1) {
      const peer = peers[n];
      const start = performance.now();
      peer.write(frame);
      await once(peer, 'data');
      waits.push(performance.now() - start);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    process.send(waits.sort((a, b) => a - b)[ROUNDS / 2]);
  });
  process.on('disconnect', () => process.exit());
  process.send('open');`;

const SCRIPT = `
  import { RuleLimiter } from 'relay-limiter';
  import { guardWebSocketServer } from 'relay-limiter/ws';
  import { spawn } from 'node:child_process';
  import { once } from 'node:events';
  import { setTimeout } from 'node:timers/promises';
  import { WebSocketServer } from 'ws';
  const { FLOOD, HONEST, COUNT } = process.env;
  const RATE = 1, BURST = 1, HONEST_CONNECTIONS = 200;
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', maxPayload: 5000 });
  const limiter = new RuleLimiter({
    scopes: { connection: {}, address: { kind: 'address' } },
    rules: {
      messages: { scope: 'connection', rateLimit: RATE, burstLimit: BURST },
      connects: { scope: 'address', action: 'connect', quota: 5, windowSeconds: 1 },
    },
  });
  const guard = guardWebSocketServer(server, { limiter, onDelay: 'pause', maxPauseSeconds: 3600 });
  // Only the honest clients, whose messages are short, get answers.
  server.on('connection', (socket) => socket.on('message', (data) => {
    if (data.length < 10) socket.send(data);
  }));
  await once(server, 'listening');
  const start = async (script) => {
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      env: { ...process.env, PORT: server.address().port },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    await once(child, 'message');
    return child;
  };
  const flood = await start(FLOOD);
  const honest = await start(HONEST);
  const median = async () => {
    honest.send('measure');
    const [milliseconds] = await once(honest, 'message');
    return milliseconds;
  };
  const inUse = () => {
    gc();
    gc();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const silent = await median();
  const begin = performance.now();
  flood.send('flood');
  await once(flood, 'message');
  // The bursts pass, and the buffers of the system fill up.
  await setTimeout(5000);
  const before = inUse();
  const flooded = await median();
  await setTimeout(3000);
  const after = inUse();
  const seconds = (performance.now() - begin) / 1000;
  const { passed } = guard.getStats().messages;
  console.log(JSON.stringify({
    connections: guard.connections,
    growth: after - before,
    silent,
    flooded,
    passed,
    most: (Number(COUNT) + HONEST_CONNECTIONS) * (BURST + RATE * seconds) + 1000,
  }));
  process.exit();`;

const COUNT = 8_000;

interface FloodOutcome {
  connections: number;
  growth: number;
  silent: number;
  flooded: number;
  passed: number;
  most: number;
}

test('A flood over eight thousand paused connections takes no more memory and delays honest clients little', () => {
  const env = { FLOOD, HONEST, COUNT: `${COUNT}` };
  const outcome = runJson(SCRIPT, { env, flags: ['--expose-gc'] }) as FloodOutcome;
  const { connections, growth, silent, flooded, passed, most } = outcome;
  console.log(
    `flood: an honest client waits ${silent.toFixed(2)} ms, under the flood ${flooded.toFixed(2)} ms; ` +
      `${(growth / 2 ** 20).toFixed(1)} MB more`,
  );
  expect(connections).toBe(COUNT + 200);
  // Of 512 MB that are read and wait. Without pauses, 64 MB more would be read each second.
  expect(growth).toBeLessThan(50 << 20);
  expect(passed).toBeGreaterThan(COUNT);
  expect(passed).toBeLessThanOrEqual(most);
  // Normally below 2, on two cores that do nothing else. A server that reads everything takes a hundred times as long.
  expect(flooded).toBeLessThan(10 * Math.max(silent, 1));
});
