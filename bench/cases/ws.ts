// The cost of a ws server's guard for peers within their limits. The server answers each message with one of the same
// size, the minimum that a relay does. Guarded and unguarded servers run in one process, round by round: two processes
// would differ by their cores and caches, and more than by the guard.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { RateLimiter, RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import { guardWebSocketServer, type WebSocketGuardOptions } from 'relay-limiter/ws';
import { WebSocketServer } from 'ws';
import { type Case, NO_PEERS, type Round } from './case.js';

// Limits that no peer reaches.
const NO_LIMITS = { rateLimit: 1e9, burstLimit: 1e9 };
const CONNECTIONS = 8;
const PAYLOAD = 100;
const CHUNK = 1;
const MESSAGES = CONNECTIONS * CHUNK * 1_000;
/** Rounds until V8 has compiled the code. */
const WARM_UP = 10;
/** Pairs per round; the figure of a round is their median. */
const PAIRS = 15;

const byCount = () => ({ limiter: new RateLimiter(NO_LIMITS) });
const byBytes = () => ({ limiter: new RateLimiter(NO_LIMITS), cost: 'bytes' as const });

const rulesOf = (rules: RuleLimiterOptions['rules']) =>
  new RuleLimiter({ scopes: { connection: {}, address: { kind: 'address' } }, rules });
const ONE_RULE = { messages: { scope: 'connection', ...NO_LIMITS } };
const THREE_RULES = {
  ...ONE_RULE,
  bytes: { scope: 'connection', unit: 'bytes', ...NO_LIMITS },
  address: { scope: 'address', ...NO_LIMITS },
};

const GUARDS: Readonly<Record<string, (() => WebSocketGuardOptions) | null>> = {
  // The control: the server compared with itself shows the error of the other figures.
  unguarded: null,
  'by count': () => ({ messages: byCount(), onDelay: 'pause' }),
  'by count and bytes': () => ({ messages: [byCount(), byBytes()], onDelay: 'pause' }),
  'one rule': () => ({ limiter: rulesOf(ONE_RULE), onDelay: 'pause' }),
  'three rules of two scopes': () => ({ limiter: rulesOf(THREE_RULES), onDelay: 'pause' }),
};

export const ws: Case = {
  name: 'ws',
  title: 'messages that a ws server receives and answers, with and without a guard, in pairs',
  sizes: [NO_PEERS],
  contestants: () => Object.keys(GUARDS),
  rounds: 25,
  baseline: 'unguarded',
  fresh: true,
  metrics: [
    { name: 'time', unit: '%', label: 'time per message, unguarded = 100' },
    { name: 'rate', unit: '%', label: 'messages per second, unguarded = 100', aside: true },
    { name: 'cpu', unit: 'ns', label: "server's processor time per message", aside: true },
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

/** Returns the cost per message of both servers. They alternate in going first. */
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

  /** Measures processor time: wall-clock time also contains other work on the machine. On an idle core both are equal. */
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

/** Starts a server. `received` waits until a given number of further messages has arrived. */
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

/** Proves that the guard limits: with empty limiters it passes no message. */
async function prove(options: WebSocketGuardOptions): Promise<void> {
  for (const strict of strictOptions(options)) {
    // With a limit by bytes, the first message already exceeds the burst.
    const { server, port, received } = await serve(strict, false);
    let passed = 0;
    server.on('connection', (socket) => socket.on('message', () => (passed += 1)));
    void received(Number.MAX_SAFE_INTEGER);
    const client = await connected(port, 1);
    client.send(20);
    const [socket] = server.clients;
    // Not by `once`: it rejects if a message is too long, which is an 'error' before the 'close'.
    await new Promise((resolve) => socket?.once('close', resolve));
    client.disconnect();
    server.close();
    if (passed > 1) throw new Error('it does not limit');
  }
}

/** For each limit of a guard, the options of one with this limit only, which bans for the second message. */
function strictOptions({ messages = [], limiter }: WebSocketGuardOptions): WebSocketGuardOptions[] {
  const strict = { rateLimit: 1e-9, burstLimit: 1 };
  const byMessages = [messages].flat().map((rule) => ({
    messages: { ...rule, limiter: new RateLimiter({ ...strict, disconnectThreshold: 1 }) },
  }));
  const rules = Object.entries(limiter?.getStats().rules ?? {});
  const byRules = rules.map(([name, { scope }]) => ({
    limiter: new RuleLimiter({
      scopes: { connection: {}, address: { kind: 'address' } },
      rules: {
        [name]: { ...THREE_RULES[name as keyof typeof THREE_RULES], action: 'message', ...strict },
      },
      bans: { [scope]: { violations: 1, withinSeconds: 1, seconds: 60 } },
    }),
  }));
  return [...byMessages, ...byRules];
}
