// The heap that waiting messages take during a pause.

import { expect, test } from 'vitest';
import { runJson } from '../support/processes.js';

const SCRIPT = `
  import { RateLimiter } from 'relay-limiter';
  import { guardWebSocketServer } from 'relay-limiter/ws';
  import { connect } from 'node:net';
  import { once } from 'node:events';
  import { WebSocketServer } from 'ws';
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  const limiter = new RateLimiter({ rateLimit: 0.1, burstLimit: 1, clock: () => 0 });
  const guard = guardWebSocketServer(server, {
    messages: { limiter },
    onDelay: 'pause',
    maxPauseSeconds: 3600,
  });
  await once(server, 'listening');
  const upgrade = 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n' +
    'Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n';
  const peers = [];
  for (let n = 0; n < 40; n += 1) {
    const peer = connect(server.address().port, '127.0.0.1');
    peer.write(upgrade);
    await once(peer, 'data');
    peers.push(peer.resume());
  }
  const sockets = [...server.clients].map((client) => client._socket);
  const frame = Buffer.from([0x82, 0x81, 0, 0, 0, 0, 120]);
  const frames = Buffer.concat(Array(1700).fill(frame));
  const inUse = () => { gc(); return process.memoryUsage().heapUsed; };
  const before = inUse();
  const expected = sockets.map(({ bytesRead }) => bytesRead + frames.length);
  for (const peer of peers) peer.write(frames);
  while (sockets.some(({ bytesRead }, n) => bytesRead < expected[n])) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const perConnection = (inUse() - before) / peers.length;
  console.log(JSON.stringify({ perConnection, waiting: guard.connections }));
  process.exit();`;

test('A message that waits takes about the 150 bytes that the guard counts for it', () => {
  const outcome = runJson(SCRIPT, { flags: ['--expose-gc'] });
  const { perConnection, waiting } = outcome as { perConnection: number; waiting: number };
  expect(waiting).toBe(40);
  // Normally 250 KB for 1698 messages, including the other memory of a connection.
  expect(perConnection).toBeGreaterThan(50 << 10);
  expect(perConnection).toBeLessThan(1000 << 10);
});
