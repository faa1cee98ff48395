// What the guard of a ws server costs peers that keep to their limits: the server answers each message
// with one of its size, as a relay does at least. In one process, round by round beside the same server
// unguarded: two processes have each their luck with cores and caches, which is larger than what is measured.

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
const MESSAGES = CONNECTIONS * CHUNK * 1_000;
/** Before V8 has compiled it. */
const WARM_UP = 10;
/** Pairs in a round: its figure is their median. */
const PAIRS = 15;

const byCount = () => ({ limiter: new RateLimiter(ENOUGH) });
const byBytes = () => ({ limiter: new RateLimiter(ENOUGH), cost: 'bytes' as const });

const GUARDS: Readonly<Record<string, (() => WebSocketGuardOptions) | null>> = {
  // The control: what it is beside itself tells how far the others can be believed.
  unguarded: null,
  'by count': () => ({ messages: byCount(), onDelay: 'pause' }),
  'by count and bytes': () => ({ messages: [byCount(), byBytes()], onDelay: 'pause' }),
};

export const ws: Case = {
  name: 'ws',
  title: 'messages received and answered by a ws server, guarded or not, in pairs',
  sizes: [NO_PEERS],
  contestants: () => Object.keys(GUARDS),
  rounds: 25,
  baseline: 'unguarded',
  fresh: true,
  metrics: [
    { name: 'time', unit: '%', label: 'time of a message, of the unguarded' },
    { name: 'rate', unit: '%', label: 'messages a second, of the unguarded', aside: true },
    { name: 'cpu', unit: 'ns', label: "a message, of the server's CPU", aside: true },
  ],
  async prepare(contestant) {
    const guard = GUARDS[contestant];
    if (guard === undefined) throw new Error(`no such guard: ${contestant}`);
    if (guard !== null) await prove(guard());
    const [plain, guarded] = [await Subject.start(), await Subject.start(guard?.())];
    for (let n = 0; n < WARM_UP; n += 1) await inTurn(n, plain, guarded);
    return async (): Promise<Round> => {
      const ratios: number[] = [];
      const costs: number[] = [];
      for (let n = 0; n < PAIRS; n += 1) {
        const [theirs, ours] = await inTurn(n, plain, guarded);
        ratios.push(ours / theirs);
        costs.push(ours);
      }
      const time = 100 * median(ratios);
      return { figures: { time, rate: 1e4 / time, cpu: median(costs) } };
    };
  },
};

/** The cost of a message of each, who goes first by turns. */
async function inTurn(n: number, plain: Subject, guarded: Subject): Promise<[number, number]> {
  if (n % 2 === 0) {
    const theirs = await plain.cost();
    return [theirs, await guarded.cost()];
  }
  const ours = await guarded.cost();
  return [await plain.cost(), ours];
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** A server with its clients. */
class Subject {
  readonly #client: ChildProcess;
  readonly #received: (messages: number) => Promise<void>;

  private constructor(client: ChildProcess, received: (messages: number) => Promise<void>) {
    this.#client = client;
    this.#received = received;
  }

  static async start(options?: WebSocketGuardOptions): Promise<Subject> {
    const { port, received } = await serve(options, true);
    return new Subject(await connected(port, CONNECTIONS), received);
  }

  /** Processor time, since the clock tells what others do on the machine too: of one core it is the same. */
  async cost(): Promise<number> {
    const before = process.cpuUsage();
    this.#client.send(MESSAGES);
    await this.#received(MESSAGES);
    const { user, system } = process.cpuUsage(before);
    return ((user + system) * 1e3) / MESSAGES;
  }
}

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
