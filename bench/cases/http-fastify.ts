// The cost of a limit in a whole Fastify server: routing, hooks, and Node's own requests and responses. The network is
// left out, because its noise is larger than the difference to be measured.

import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import fastifyRateLimit from '@fastify/rate-limit';
import Fastify, { type FastifyInstance } from 'fastify';
import relayLimit from 'relay-limiter/fastify';
import { type Case, NO_PEERS, type Round } from './case.js';

const BATCH = 50_000;
const CONNECTIONS = 20;
const WINDOW_SECONDS = 60;

const THEIRS = '@fastify/rate-limit, legacy';

const LIMITS: Readonly<Record<string, (app: FastifyInstance, limit: number) => unknown>> = {
  'no limit': () => {},
  'relay-limiter/fastify, legacy': (app, limit) =>
    app.register(relayLimit, { limit, windowSeconds: WINDOW_SECONDS, headers: 'legacy' }),
  [THEIRS]: (app, limit) =>
    app.register(fastifyRateLimit, { max: limit, timeWindow: WINDOW_SECONDS * 1000 }),
  'relay-limiter/fastify, draft 11': (app, limit) =>
    app.register(relayLimit, { limit, windowSeconds: WINDOW_SECONDS }),
};

export const httpFastify: Case = {
  name: 'http-fastify',
  title: `a whole Fastify server without the network, ${CONNECTIONS} connections of one client, all requests allowed`,
  sizes: [NO_PEERS],
  contestants: () => Object.keys(LIMITS),
  rounds: 15,
  fresh: false,
  baseline: THEIRS,
  metrics: [{ name: 'ns', unit: 'ns', label: 'processor time per request' }],
  async prepare(contestant) {
    const limited = LIMITS[contestant];
    if (limited === undefined) throw new Error(`no such server: ${contestant}`);
    if (contestant !== 'no limit') await prove(await serverWith(limited, 3));
    const server = await serverWith(limited, 1e12);
    const round = async (): Promise<Round> => {
      const before = process.cpuUsage();
      for (let n = 0; n < BATCH; n += 1) {
        const status = await server(n);
        if (status !== 200) throw new Error(`a request was answered with ${status}`);
      }
      const { user, system } = process.cpuUsage(before);
      return { figures: { ns: ((user + system) * 1e3) / BATCH } };
    };
    // The first round warms up V8's compiled code.
    await round();
    return round;
  },
};

/** Answers the n-th request; resolves with the status. */
type Server = (n: number) => Promise<number>;

async function serverWith(
  limited: (app: FastifyInstance, limit: number) => unknown,
  limit: number,
): Promise<Server> {
  const app = Fastify();
  await limited(app, limit);
  app.get('/', async () => 'ok');
  await app.ready();
  const sockets = Array.from({ length: CONNECTIONS }, connection);
  return (n) =>
    new Promise((resolve) => {
      const request = new IncomingMessage(sockets[n % CONNECTIONS] as Socket);
      const headers = { host: 'localhost' };
      const version = { httpVersionMajor: 1, httpVersionMinor: 1 };
      Object.assign(request, { method: 'GET', url: '/', headers, ...version });
      app.routing(request, new Answer(request, resolve));
    });
}

function connection(): Socket {
  return Object.defineProperty(new Socket(), 'remoteAddress', { value: '127.0.0.1' });
}

/** A response that signals its end itself, because there is no network that would do so. */
class Answer extends ServerResponse {
  readonly #done: (status: number) => void;

  constructor(request: IncomingMessage, done: (status: number) => void) {
    super(request);
    this.#done = done;
  }

  override end(...given: unknown[]): this {
    super.end(...(given as []));
    this.#done(this.statusCode);
    return this;
  }
}

/** @throws if the server allows more or fewer requests than its limit. */
async function prove(server: Server): Promise<void> {
  const statuses: number[] = [];
  for (let n = 0; n < 5; n += 1) statuses.push(await server(n));
  if (`${statuses}` !== '200,200,200,429,429') throw new Error(`it does not limit: ${statuses}`);
}
