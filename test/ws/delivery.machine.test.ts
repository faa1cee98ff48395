// The memory of a server with a thousand subscribers, of which a hundred do not read.

import { expect, test } from 'vitest';
import { runJson } from '../support/processes.js';

const SCRIPT = `
  import { guardWebSocketServer } from 'relay-limiter/ws';
  import { once } from 'node:events';
  import { connect } from 'node:net';
  import { WebSocketServer } from 'ws';

  const SUBSCRIBERS = 1_000, SLOW = 100, ROUNDS = 150;
  const BYTES = 4_000, HEADER = 4, FRAME = HEADER + BYTES;
  const MAX_BUFFERED = 100_000;
  // Rounds that may be on their way: less than the bound, so that only those are slow that do not read.
  const WINDOW = 8;

  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', maxPayload: 1_000 });
  const guard = guardWebSocketServer(server, { delivery: { maxBufferedBytes: MAX_BUFFERED } });
  await once(server, 'listening');
  const upgrade = 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n' +
    'Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n';
  const peers = [];
  for (let n = 0; n < SUBSCRIBERS; n += 1) {
    const upgraded = once(server, 'connection');
    const peer = connect(server.address().port, '127.0.0.1');
    peer.write(upgrade);
    const [[socket]] = await Promise.all([upgraded, once(peer, 'data')]);
    peers.push({ peer, socket, isSlow: n % (SUBSCRIBERS / SLOW) === 0, bytes: 0, errors: 0 });
  }
  const slow = peers.filter(({ isSlow }) => isSlow);
  const readers = peers.filter(({ isSlow }) => !isSlow);
  for (const { peer } of slow) peer.pause();
  // A message begins with its number, as text of eight digits.
  const messageOf = (n) => String(n).padStart(8, '0').padEnd(BYTES, 'x');
  for (const reader of readers) {
    reader.peer.on('data', (chunk) => {
      const first = Math.ceil(reader.bytes / FRAME);
      for (let n = first; n * FRAME + HEADER + 8 <= reader.bytes + chunk.length; n += 1) {
        const start = n * FRAME - reader.bytes + HEADER;
        if (chunk.latin1Slice(start, start + 8) !== messageOf(n).slice(0, 8)) reader.errors += 1;
      }
      reader.bytes += chunk.length;
    });
  }

  const next = () => new Promise((resolve) => setImmediate(resolve));
  // The system's buffers take the first megabytes; then what is sent waits in this process.
  const filling = Buffer.alloc(MAX_BUFFERED / 2);
  for (const { socket } of slow) {
    while (socket.bufferedAmount < MAX_BUFFERED) {
      guard.send(socket, filling);
      if (socket.bufferedAmount > 0) await next();
    }
  }
  const inUse = () => { gc(); gc(); const { heapUsed, arrayBuffers } = process.memoryUsage(); return heapUsed + arrayBuffers; };
  const group = guard.group(peers.map(({ socket }) => socket));
  const before = inUse();
  let published = 0, mostBuffered = 0, mostInUse = 0;
  const publish = async (sendOne) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      sendOne(messageOf(published));
      published += 1;
      for (const { socket } of slow) mostBuffered = Math.max(mostBuffered, socket.bufferedAmount);
      const least = (published - WINDOW) * FRAME;
      while (readers.some(({ bytes }) => bytes < least)) await next();
    }
    mostInUse = Math.max(mostInUse, inUse());
  };
  // The same message to all, and a message to each: the second kind shares no memory.
  await publish((text) => group.send(text));
  await publish((text) => { for (const { socket } of peers) guard.send(socket, Buffer.from(text), { binary: false }); });
  while (readers.some(({ bytes }) => bytes < published * FRAME)) await next();
  console.log(JSON.stringify({
    growth: mostInUse - before,
    mostBuffered,
    readersWithErrors: readers.filter(({ bytes, errors }) => errors > 0 || bytes !== published * FRAME).length,
    ...guard.deliveries,
  }));
  process.exit();`;

test('A hundred of a thousand subscribers that do not read take no more memory as messages are published', () => {
  const outcome = runJson(SCRIPT, { flags: ['--expose-gc'] });
  const { growth, mostBuffered, readersWithErrors, droppedSlow } = outcome as {
    growth: number;
    mostBuffered: number;
    readersWithErrors: number;
    droppedSlow: number;
  };
  // Normally less than 1 MB. Without the bound, the 150 messages to each of the hundred take 65 MB.
  expect(growth).toBeLessThan(20 << 20);
  expect(mostBuffered).toBeLessThanOrEqual(100_000 + 50_010);
  expect(readersWithErrors).toBe(0);
  expect(droppedSlow).toBeGreaterThan(100 * 250);
});
