// What the guard of a ws server costs peers that keep to their limits: the server answers each message
// with one of its size, as a relay does at least.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { RateLimiter } from 'relay-limiter';
import { guardWebSocketServer, type WebSocketGuardOptions } from 'relay-limiter/ws';
import { WebSocketServer } from 'ws';
import { type Case, NO_PEERS, type Round } from './case.js';

// So much that nobody is limited.
const ENOUGH = { rateLimit: 1e9, burstLimit: 1e9 };
const CONNECTIONS = 8;
const PAYLOAD = 100;
const CHUNK = 1;
const MESSAGES = CONNECTIONS * CHUNK * 4_000;

const byCount = () => ({ limiter: new RateLimiter(ENOUGH) });
const byBytes = () => ({ limiter: new RateLimiter(ENOUGH), cost: 'bytes' as const });

const GUARDS: Readonly<Record<string, (() => WebSocketGuardOptions) | null>> = {
  unguarded: null,
  'by count': () => ({ messages: byCount(), onDelay: 'pause' }),
  'by count and bytes': () => ({ messages: [byCount(), byBytes()], onDelay: 'pause' }),
};

export const ws: Case = {
  name: 'ws',
  title: 'a message received and answered by a ws server, guarded or not',
  sizes: [NO_PEERS],
  contestants: () => Object.keys(GUARDS),
  rounds: 9,
  baseline: 'unguarded',
  // Each process has its luck with the core that the system gives it, and keeps it.
  fresh: true,
  metrics: [
    { name: 'cpu', unit: 'ns', label: "a message, of the server's CPU" },
    { name: 'wall', unit: 'ns', label: 'by the clock', aside: true },
  ],
  async prepare(contestant) {
    const guard = GUARDS[contestant];
    if (guard === undefined) throw new Error(`no such guard: ${contestant}`);
    if (guard !== null) await prove(guard());
    const { port, received } = await serve(guard?.(), true);
    const client = await connected(port, CONNECTIONS);
    const round = async (): Promise<Round> => {
      const start = performance.now();
      const before = process.cpuUsage();
      client.send(MESSAGES);
      await received(MESSAGES);
      const { user, system } = process.cpuUsage(before);
      const cpu = ((user + system) * 1e3) / MESSAGES;
      return { figures: { cpu, wall: ((performance.now() - start) * 1e6) / MESSAGES } };
    };
    // Until V8 has compiled it.
    await round();
    return round;
  },
};

const CLIENT = fileURLToPath(new URL('ws-client.js', import.meta.url));

async function connected(port: number, connections: number): Promise<ChildProcess> {
  const client = fork(CLIENT, [port, connections, PAYLOAD, CHUNK].map(String));
  await once(client, 'message');
  return client;
}

/** A server, and what waits until it has received so many messages more. */
async function serve(options: WebSocketGuardOptions | undefined, answers: boolean) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  if (options !== undefined) guardWebSocketServer(server, options);
  let left = 0;
  let done = () => {};
  server.on('connection', (socket) => {
    socket.on('message', (data) => {
      if (answers) socket.send(data);
      left -= 1;
      if (left === 0) done();
    });
  });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const received = (messages: number) =>
    new Promise<void>((resolve) => {
      left += messages;
      done = resolve;
    });
  return { server, port, received };
}

/** Its guard limits: by a limiter that is empty it lets nothing through. */
async function prove({ messages = [] }: WebSocketGuardOptions): Promise<void> {
  for (const rule of [messages].flat()) {
    const limiter = new RateLimiter({ rateLimit: 1e-9, burstLimit: 1, disconnectThreshold: 1 });
    // By bytes the first message is above the burst.
    const { server, port, received } = await serve({ messages: { ...rule, limiter } }, false);
    let passed = 0;
    server.on('connection', (socket) => socket.on('message', () => (passed += 1)));
    void received(Number.MAX_SAFE_INTEGER);
    const client = await connected(port, 1);
    client.send(20);
    const [socket] = server.clients;
    if (socket !== undefined) await once(socket, 'close');
    client.disconnect();
    server.close();
    if (passed > 1) throw new Error('it does not limit');
  }
}
