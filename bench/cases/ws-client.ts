// The client of the ws case, in a process of its own: writes frames that were made beforehand, in chunks
// as TCP brings them from a busy peer, and as many as it is told; reads and forgets what comes back.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

// `payload`: bytes of a message; `chunk`: messages in a chunk.
const [port, connections, payload, chunk] = process.argv.slice(2).map(Number) as [
  number,
  number,
  number,
  number,
];

const FRAME = Buffer.concat([
  // FIN and text, masked, a length of one byte, the mask, which is zero: the server unmasks all the same.
  Buffer.from([0x81, 0x80 | payload, 0, 0, 0, 0]),
  Buffer.alloc(payload, 'm'),
]);
const CHUNK = Buffer.concat(Array.from({ length: chunk }, () => FRAME));

async function upgraded(): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.write(
    `GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
  );
  await once(socket, 'data');
  return socket.resume();
}

const sockets: Socket[] = [];
for (let n = 0; n < connections; n += 1) sockets.push(await upgraded());

async function send(socket: Socket, chunks: number): Promise<void> {
  for (let n = 0; n < chunks; n += 1) {
    if (!socket.write(CHUNK)) await once(socket, 'drain');
  }
}

// Whoever asked is gone.
process.on('disconnect', () => process.exit());
process.on('message', (messages: number) => {
  const chunks = messages / chunk / connections;
  for (const socket of sockets) void send(socket, chunks);
});
process.send?.('ready');
