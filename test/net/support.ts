// Servers of lines and their clients for tests. `stopAll` closes all of them.

import { once } from 'node:events';
import {
  type AddressInfo,
  connect,
  createServer,
  type NetConnectOpts,
  type Server,
  type Socket,
} from 'node:net';
import { guardLineServer, type LineGuardOptions, type LineVerdict } from 'relay-limiter/net';

const started: (() => void)[] = [];

/** Call it in `afterEach`. */
export function stopAll(): void {
  for (const stop of started.splice(0)) stop();
}

export function stopLater(stop: () => void): void {
  started.push(stop);
}

/** A guarded server that records its verdicts and lines. */
export async function guarded(options: LineGuardOptions, server: Server = createServer()) {
  const lines: string[] = [];
  const verdicts: LineVerdict[] = [];
  const sockets: Socket[] = [];
  const guard = guardLineServer(server, {
    onVerdict: (verdict) => verdicts.push(verdict),
    // A peer on a slow machine gets enough time to read its farewell.
    closeGraceSeconds: 600,
    ...options,
  });
  server.on('connection', (socket) => {
    sockets.push(socket);
    socket.on('line', (line) => lines.push(line));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  started.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { server, guard, lines, verdicts, sockets, port: (server.address() as AddressInfo).port };
}

export function client(port: number, options: Partial<NetConnectOpts> = {}): Socket {
  const socket = connect({ port, host: '127.0.0.1', ...options } as NetConnectOpts);
  socket.on('error', () => {});
  started.push(() => socket.destroy());
  return socket;
}

export async function connected(
  port: number,
  options: Partial<NetConnectOpts> = {},
): Promise<Socket> {
  const socket = client(port, options);
  await once(socket, 'connect');
  return socket;
}

/** Everything that the socket receives until it is closed. */
export async function allOf(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk) => (text += chunk));
  await once(socket, 'close');
  return text;
}
