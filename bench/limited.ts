// The middleware and plugins that are measured. Each sends the headers that its name says, and must first prove that it
// limits. The fake requests and responses contain only what all contestants need.

import fastifyRateLimit from '@fastify/rate-limit';
import { type DraftHeadersVersion, rateLimit as expressRateLimit } from 'express-rate-limit';
import Fastify from 'fastify';
import { type EngineName, type Rule, RuleLimiter } from 'relay-limiter';
import relayLimit from 'relay-limiter/fastify';
import { type Draft, rateLimit } from 'relay-limiter/http';

/** Calls the middleware of a contestant, which calls `next` if the request is allowed. */
export type Pass = (request: object, response: object, next: () => void) => void;

const WINDOW_SECONDS = 60;

/** Functions that create a contestant which allows `limit` requests per client and minute. */
const MAKERS: Readonly<Record<string, (limit: number) => Promise<Pass> | Pass>> = {
  'relay-limiter/http, draft 11': (limit) => ours(limit, 11),
  'relay-limiter/http, draft 11, TypeScript': (limit) => ours(limit, 11, 'js'),
  'relay-limiter/http, RuleLimiter, one rule': (limit) => byRules(limit, 1),
  'relay-limiter/http, RuleLimiter, three rules': (limit) => byRules(limit, 3),
  'express-rate-limit, draft 8 with a hash of the key': (limit) => express(limit, 'draft-8'),
  'relay-limiter/http, draft 7': (limit) => ours(limit, 7),
  'express-rate-limit, draft 7': (limit) => express(limit, 'draft-7'),
  'relay-limiter/http, legacy': (limit) => ours(limit, 'legacy'),
  'express-rate-limit, legacy': (limit) => express(limit, false),
  'relay-limiter/fastify, legacy': oursInFastify,
  '@fastify/rate-limit, legacy': theirsInFastify,
};

export const LIMITED = Object.keys(MAKERS);

/** Creates a contestant. @throws if it allows more or fewer requests than its limit. */
export async function proven(name: string, limit: number): Promise<Pass> {
  const make = MAKERS[name];
  if (make === undefined) throw new Error(`no such middleware: ${name}`);
  const clients = clientsOf(2);
  const pass = await make(3);
  let passed = 0;
  for (let n = 0; n < 10; n += 1) {
    pass((clients[n % 2] as Client).request(), new FakeResponse(), () => {
      passed += 1;
    });
    // Some contestants answer asynchronously.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  if (passed !== 6) throw new Error(`it does not limit: ${passed} of 10 requests passed, not 6`);
  return make(limit);
}

/** Returns clients with different addresses, each on a persistent connection. */
export function clientsOf(count: number): Client[] {
  return Array.from({ length: count }, (_, n) => new Client(n));
}

export class Client {
  readonly #socket: { remoteAddress: string; destroyed: boolean };

  constructor(n: number) {
    const remoteAddress = `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
    this.#socket = { remoteAddress, destroyed: false };
  }

  request(): object {
    return new FakeRequest(this.#socket);
  }
}

/** The fields of a request that Node, Express and Fastify read. */
class FakeRequest {
  readonly socket: { remoteAddress: string };
  readonly ip: string;
  readonly headers = {};
  readonly httpVersionMajor = 1;
  readonly app = APP;
  readonly routeOptions = ROUTE;
  readonly raw = this;

  constructor(socket: { remoteAddress: string }) {
    this.socket = socket;
    this.ip = socket.remoteAddress;
  }
}

const APP = { get: () => false };
const ROUTE = { config: {} };

/** Stores header fields, as Node's and Fastify's responses do. */
export class FakeResponse {
  headersSent = false;
  sent = false;
  statusCode = 200;
  writableEnded = false;
  readonly fields: Record<string, unknown> = {};
  readonly raw = this;

  setHeader(name: string, value: unknown): void {
    this.fields[name.toLowerCase()] = value;
  }
  append(name: string, value: unknown): void {
    this.fields[name.toLowerCase()] = value;
  }
  header(name: string, value: unknown): this {
    this.fields[name] = value;
    return this;
  }
  status(code: number): this {
    this.statusCode = code;
    return this;
  }
  code(code: number): this {
    return this.status(code);
  }
  type(): this {
    return this;
  }
  send(): void {}
  end(): void {}
}

function ours(limit: number, headers: Draft, engine?: EngineName): Pass {
  return rateLimit({ limit, windowSeconds: WINDOW_SECONDS, headers, engine }) as unknown as Pass;
}

/** Rules of the same rate, of which the first has the smallest burst. */
function byRules(limit: number, count: number): Pass {
  const rules = Array.from({ length: count }, (_, n): [string, Rule] => [
    `rule${n}`,
    { scope: 'address', rateLimit: limit / WINDOW_SECONDS, burstLimit: limit * (n + 1) },
  ]);
  const scopes = { address: { kind: 'address' } } as const;
  const limiter = new RuleLimiter({ scopes, rules: Object.fromEntries(rules) });
  return rateLimit({ limiter }) as unknown as Pass;
}

function express(limit: number, standardHeaders: DraftHeadersVersion | false): Pass {
  const legacyHeaders = standardHeaders === false;
  const windowMs = WINDOW_SECONDS * 1000;
  return expressRateLimit({ windowMs, limit, standardHeaders, legacyHeaders }) as unknown as Pass;
}

async function oursInFastify(limit: number): Promise<Pass> {
  const app = Fastify();
  await app.register(relayLimit, { limit, windowSeconds: WINDOW_SECONDS, headers: 'legacy' });
  return app.rateLimit() as unknown as Pass;
}

async function theirsInFastify(max: number): Promise<Pass> {
  const app = Fastify();
  await app.register(fastifyRateLimit, { max, timeWindow: WINDOW_SECONDS * 1000 });
  const hook = app.rateLimit() as unknown as (request: object, reply: object) => Promise<void>;
  // The hook throws if it refuses a request.
  return (request, reply, next) => void hook(request, reply).then(next, () => {});
}
