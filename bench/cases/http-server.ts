// The cost of a limit in a whole server: requests over real connections, with and without a limit.

import { execFile as execFileWithCallback } from 'node:child_process';
import { createServer, type RequestListener } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import fastifyRateLimit from '@fastify/rate-limit';
import express from 'express';
import { rateLimit as expressRateLimit } from 'express-rate-limit';
import Fastify from 'fastify';
import relayLimit from 'relay-limiter/fastify';
import { rateLimit } from 'relay-limiter/http';
import { type Case, NO_PEERS, type Round } from './case.js';

const execFile = promisify(execFileWithCallback);
const AUTOCANNON = createRequire(import.meta.url).resolve('autocannon/autocannon.js');

/** The fields of autocannon's report that are used. */
interface Load {
  /** Seconds. */
  duration: number;
  '2xx': number;
  '4xx': number;
  non2xx: number;
  errors: number;
}

const CONNECTIONS = 20;
const SECONDS = 2;
const WINDOW_SECONDS = 60;

/** Functions that start a server. It answers 'ok', and refuses a client after `limit` requests per minute. */
const SERVERS: Readonly<Record<string, (limit: number) => Promise<string>>> = {
  'node:http, no limit': () => listen((_, response) => response.end('ok')),
  'node:http, relay-limiter/http'(limit) {
    const middleware = rateLimit({ limit, windowSeconds: WINDOW_SECONDS });
    return listen((request, response) => {
      middleware(request, response, () => response.end('ok'));
    });
  },
  'Express, no limit': () => inExpress(),
  'Express, relay-limiter/http, draft 7': (limit) =>
    inExpress(rateLimit({ limit, windowSeconds: WINDOW_SECONDS, headers: 7 })),
  'Express, express-rate-limit, draft 7': (limit) =>
    inExpress(
      expressRateLimit({
        limit,
        windowMs: WINDOW_SECONDS * 1000,
        standardHeaders: 'draft-7',
        legacyHeaders: false,
      }),
    ),
  'Fastify, no limit': () => inFastify(async () => {}),
  'Fastify, relay-limiter/fastify, legacy': (limit) =>
    inFastify(async (app) => {
      await app.register(relayLimit, { limit, windowSeconds: WINDOW_SECONDS, headers: 'legacy' });
    }),
  'Fastify, @fastify/rate-limit, legacy': (limit) =>
    inFastify(async (app) => {
      await app.register(fastifyRateLimit, { max: limit, timeWindow: WINDOW_SECONDS * 1000 });
    }),
};

export const httpServer: Case = {
  name: 'http-server',
  title: `a whole server, ${CONNECTIONS} connections of one client, all requests allowed`,
  sizes: [NO_PEERS],
  contestants: () => Object.keys(SERVERS),
  rounds: 7,
  fresh: false,
  metrics: [
    { name: 'ns', unit: 'ns', label: "server's processor time per request" },
    { name: 'wall', unit: 'ns', label: 'time per request' },
  ],
  async prepare(contestant) {
    const start = SERVERS[contestant];
    if (start === undefined) throw new Error(`no such server: ${contestant}`);
    if (!contestant.endsWith('no limit')) await prove(await start(3));
    const url = await start(1e12);
    await load(url, ['--duration', String(SECONDS)]);
    return async (): Promise<Round> => {
      const before = process.cpuUsage();
      const result = await load(url, ['--duration', String(SECONDS)]);
      const { user, system } = process.cpuUsage(before);
      const { errors, non2xx, duration, '2xx': answered } = result;
      if (errors + non2xx > 0) throw new Error(`${errors + non2xx} requests were not answered`);
      const ns = ((user + system) * 1e3) / answered;
      return { figures: { ns, wall: (duration * 1e9) / answered } };
    };
  },
};

/** Runs autocannon in a separate process, so that its work is not measured. */
async function load(url: string, options: string[]): Promise<Load> {
  const args = [AUTOCANNON, '--json', '--connections', String(CONNECTIONS), ...options, url];
  const { stdout } = await execFile(process.execPath, args);
  return JSON.parse(stdout);
}

/** @throws if the server allows more or fewer requests than its limit. */
async function prove(url: string): Promise<void> {
  const { '2xx': passed, '4xx': refused } = await load(url, ['--amount', '200']);
  if (passed !== 3 || refused !== 197)
    throw new Error(`it does not limit: ${passed} passed, not 3`);
}

function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    });
  });
}

function inExpress(...middleware: express.RequestHandler[]): Promise<string> {
  const app = express();
  for (const each of middleware) app.use(each);
  app.get('/', (_, response) => void response.end('ok'));
  return listen(app);
}

async function inFastify(limit: (app: Fastify.FastifyInstance) => Promise<void>): Promise<string> {
  const app = Fastify();
  await limit(app);
  app.get('/', async () => 'ok');
  return app.listen({ host: '127.0.0.1', port: 0 });
}
