// guardConnections with sockets of Node that are connected to nothing.

import { createServer, type Server, Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { RuleLimiter } from 'relay-limiter';
import {
  type ConnectionGuardOptions,
  type ConnectionVerdict,
  guardConnections,
} from 'relay-limiter/net';
import { ENGINES, manualClock } from '../support/limiters.js';

/** Longer than a socket takes for what it does in later ticks. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));

export class FakeSocket extends Socket {
  /** The bytes that the peer has sent and read, as the system counts them. */
  moved = 0;

  constructor(address?: string, port = 1234) {
    super();
    const field = (name: string, value: unknown) =>
      Object.defineProperty(this, name, { value, configurable: true });
    field('remoteAddress', address);
    field('remotePort', port);
    field('remoteFamily', address === undefined ? undefined : 'IPv4');
    Object.defineProperty(this, 'bytesRead', { get: () => this.moved });
  }

  override _read(): void {}

  /** Bytes arrive. */
  receive(bytes: Buffer | string): void {
    this.moved += bytes.length;
    this.push(bytes);
  }
}

/** A guarded server, the sockets that its listeners got, and what these received. */
export function guarded(options: ConnectionGuardOptions, server: Server = createServer()) {
  const verdicts: ConnectionVerdict[] = [];
  const errors: unknown[] = [];
  const passed: Socket[] = [];
  const received = new Map<Socket, string>();
  if (server instanceof TlsServer) server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    passed.push(socket);
    received.set(socket, '');
    socket.on('data', (chunk) => received.set(socket, received.get(socket) + String(chunk)));
    socket.on('end', () => received.set(socket, `${received.get(socket)}|end`));
  });
  const guard = guardConnections(server, {
    onVerdict: (verdict) => verdicts.push(verdict),
    onError: (error) => errors.push(error),
    ...options,
  });
  const connect = (address?: string, port?: number) => {
    const socket = new FakeSocket(address, port);
    server.emit('connection', socket);
    return socket;
  };
  return { server, guard, verdicts, errors, passed, received, connect };
}

/** The rules of a server for those who connect. */
export function connectRules(engine = ENGINES[0] as (typeof ENGINES)[number]) {
  return new RuleLimiter({
    engine,
    clock: manualClock(),
    scopes: {
      connection: {},
      address: { kind: 'address' },
      network: { from: 'address', ipv4Subnet: 24 },
      server: { single: true },
    },
    rules: {
      connects: { scope: 'address', action: 'connect', rateLimit: 0.001, burstLimit: 2 },
      network: { scope: 'network', action: 'connect', rateLimit: 0.001, burstLimit: 3 },
      everybody: { scope: 'server', action: 'connect', rateLimit: 0.001, burstLimit: 4 },
      messages: { scope: 'connection', rateLimit: 1 },
    },
    bans: { address: { violations: 2, withinSeconds: 60, seconds: 600 } },
    allow: { address: ['192.0.2.99'] },
    deny: { address: ['198.51.100.0/24'] },
  });
}
