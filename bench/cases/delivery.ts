// The cost of publishing a message to many WebSockets that read: by `send` of ws, of the guard, and of a group. All of
// them send to the same connections, in turn.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { RateLimiter } from 'relay-limiter';
import { guardWebSocketServer, type WebSocketGuardOptions } from 'relay-limiter/ws';
import { type WebSocket, WebSocketServer } from 'ws';
import { type Case, NO_PEERS, type Round } from './case.js';

const SUBSCRIBERS = 200;
const TEXT = 'm'.repeat(500);
const MESSAGES = 30;
const WARM_UP = 10;
/** Pairs per round; the figure of a round is their median. */
const PAIRS = 9;

const CLIENT = fileURLToPath(new URL('ws-client.js', import.meta.url));
const NO_LIMITS = { rateLimit: 1e9, burstLimit: 1e9 };

type Publish = () => void;
type Guard = ReturnType<typeof guardWebSocketServer>;

const byWs = (sockets: readonly WebSocket[]): Publish => {
  return () => {
    for (const socket of sockets) socket.send(TEXT);
  };
};
const one = (sockets: readonly WebSocket[], guard: Guard): Publish => {
  return () => {
    for (const socket of sockets) guard.send(socket, TEXT);
  };
};
const all = (sockets: readonly WebSocket[], guard: Guard): Publish => {
  const group = guard.group(sockets);
  return () => group.send(TEXT);
};

interface Contestant {
  readonly options?: () => WebSocketGuardOptions;
  readonly publish: (sockets: readonly WebSocket[], guard: Guard) => Publish;
}

const limited = () => ({ delivery: { limiter: new RateLimiter(NO_LIMITS) } });

const CONTESTANTS: Readonly<Record<string, Contestant>> = {
  // The control.
  ws: { publish: byWs },
  'guard.send': { publish: one },
  'guard.send, a limiter': { publish: one, options: limited },
  'group.send': { publish: all },
  'group.send, a limiter': { publish: all, options: limited },
};

export const delivery: Case = {
  name: 'delivery',
  title: `publishing a message to ${SUBSCRIBERS} WebSockets, per connection`,
  sizes: [NO_PEERS],
  contestants: () => Object.keys(CONTESTANTS),
  rounds: 9,
  baseline: 'ws',
  fresh: true,
  metrics: [
    { name: 'time', unit: '%', label: 'time per message, ws = 100' },
    { name: 'cpu', unit: 'ns', label: "server's processor time per message", aside: true },
  ],
  async prepare(contestant) {
    const { publish, options } = CONTESTANTS[contestant] ?? {};
    if (publish === undefined) throw new Error(`no such way to publish: ${contestant}`);
    const server = new WebSocketServer({ host: '127.0.0.1', port: 0, maxPayload: 1_000 });
    const guard = guardWebSocketServer(server, options?.());
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await once(fork(CLIENT, [port, SUBSCRIBERS, 1, 1].map(String)), 'message');
    const sockets = [...server.clients];
    const [theirs, ours] = [byWs(sockets), publish(sockets, guard)];
    const pair = async (n: number): Promise<[number, number]> => {
      if (n % 2 === 0) return [await cost(theirs, sockets), await cost(ours, sockets)];
      const cpu = await cost(ours, sockets);
      return [await cost(theirs, sockets), cpu];
    };
    for (let n = 0; n < WARM_UP; n += 1) await pair(n);
    return async (): Promise<Round> => {
      const ratios: number[] = [];
      const costs: number[] = [];
      for (let n = 0; n < PAIRS; n += 1) {
        const [plain, cpu] = await pair(n);
        ratios.push(cpu / plain);
        costs.push(cpu);
      }
      const { droppedSlow, droppedRate } = guard.deliveries;
      if (droppedSlow + droppedRate > 0) throw new Error('it has dropped messages');
      return { figures: { time: 100 * median(ratios), cpu: median(costs) } };
    };
  },
};

/** Processor time per message and connection, until the system has taken all messages. */
async function cost(publish: Publish, sockets: readonly WebSocket[]): Promise<number> {
  const before = process.cpuUsage();
  for (let n = 0; n < MESSAGES; n += 1) {
    publish();
    // The subscribers read meanwhile.
    do await new Promise(setImmediate);
    while (sockets.some(({ bufferedAmount }) => bufferedAmount > 0));
  }
  const { user, system } = process.cpuUsage(before);
  return ((user + system) * 1e3) / MESSAGES / SUBSCRIBERS;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
