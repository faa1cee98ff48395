// The client of the ws case, in a separate process. On a message from its parent it writes that number of prepared frames,
// in chunks as TCP delivers them from a busy peer. It reads the answers and discards them.

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
  // FIN and text, masked, a length of one byte, and a mask of zero, which the server applies as any other mask.
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

// The parent process has ended.
process.on('disconnect', () => process.exit());
process.on('message', (messages: number) => {
  const chunks = messages / chunk / connections;
  for (const socket of sockets) void send(socket, chunks);
});
process.send?.('ready');
