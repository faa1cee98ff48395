// The option `shared` of HTTP limits: one table for all limits of its name, as other processes have them.

import { mkdtempSync, rmSync } from 'node:fs';
import { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Fastify from 'fastify';
import plugin from 'relay-limiter/fastify';
import { rateLimit as fetchLimit } from 'relay-limiter/fetch';
import { type RateLimitOptions, rateLimit } from 'relay-limiter/http';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { codeOf, TESTS_NATIVE } from '../support/limiters.js';
import { type Middleware, requestFrom } from './support.js';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'relay-limiter-test-'));
  return () => rmSync(folder, { recursive: true });
});

const table = (name = 'api') => ({ maxPeers: 1000, shared: join(folder, name) });
const key = () => 'alice';

/** A limit that leaves its table when the test ends. */
function limitOf(options: RateLimitOptions = {}) {
  const limit = rateLimit({ limit: 3, windowSeconds: 1e6, key, ...table(), ...options });
  leave(limit);
  return limit;
}

function leave(limit: { close(): void }): void {
  onTestFinished(() => {
    limit.close();
    limit.close();
  });
}

/** Passes a request through a middleware. Its status: that of a refusal, or `outcome`. */
function statusOf(limit: Middleware, outcome = 200): Promise<number> {
  const request = requestFrom();
  const response = new ServerResponse(request);
  return new Promise((resolve, reject) => {
    response.end = (() => {
      resolve(response.statusCode);
      return response;
    }) as typeof response.end;
    limit(request, response, (error) => {
      if (error !== undefined) return reject(error);
      response.statusCode = outcome;
      response.emit('finish');
      return resolve(outcome);
    });
  });
}

describe.runIf(TESTS_NATIVE)('The option shared of an HTTP limit', () => {
  test('makes limits of one name share their buckets, and those of another name not', async () => {
    const [one, two, other] = [limitOf(), limitOf(), limitOf(table('other'))];
    const statuses = [];
    for (const limit of [one, two, one, two, one, other]) statuses.push(await statusOf(limit));
    expect(statuses).toEqual([200, 200, 200, 429, 429, 200]);
  });

  test('holds with bans and refunds too', async () => {
    const options: RateLimitOptions = {
      ban: { violations: 2, withinSeconds: 1e6, seconds: 1e6 },
      refundWhen: (_, response) => response.statusCode === 204,
    };
    const [one, two] = [limitOf(options), limitOf(options)];
    for (let n = 0; n < 5; n += 1) expect(await statusOf(n % 2 ? one : two, 204)).toBe(204);
    for (let n = 0; n < 3; n += 1) expect(await statusOf(n % 2 ? one : two)).toBe(200);
    expect([await statusOf(one), await statusOf(two)]).toEqual([429, 429]);
    one.resetKey('alice'); // the ban of both
    expect(await statusOf(two)).toBe(200);
  });

  test('is one limit over middleware, fetch handlers and Fastify', async () => {
    const limit = fetchLimit({ limit: 3, windowSeconds: 1e6, key, ...table() });
    leave(limit as never);
    const app = Fastify();
    await app.register(plugin, { limit: 3, windowSeconds: 1e6, key, ...table() });
    onTestFinished(() => app.close());
    app.get('/', async () => 'hello');
    expect(await statusOf(limitOf())).toBe(200);
    expect((await app.inject('/')).statusCode).toBe(200);
    expect(await statusOf(limitOf())).toBe(200);
    expect((await app.inject('/')).statusCode).toBe(429);
  });

  test('must be given with the limit of a route of Fastify if the plugin has it', async () => {
    const create = async () => {
      const app = Fastify();
      await app.register(plugin, { limit: 3, windowSeconds: 1e6, key, ...table() });
      onTestFinished(() => app.close());
      const add = (path: string, own: object) =>
        app.get(path, { config: { rateLimit: own } }, async () => path);
      return { app, add };
    };
    const wrong = await create();
    expect(() => wrong.add('/one', { limit: 1 })).toThrow(
      /^shared must be given with the limit of a route, .* a name other than/,
    );
    const { app, add } = await create();
    add('/two', { limit: 1, shared: table('two').shared });
    add('/three', { cost: 3 });
    add('/four', { limiter: undefined });
    expect((await app.inject('/two')).statusCode).toBe(200);
    expect((await app.inject('/two')).statusCode).toBe(429);
    expect((await app.inject('/three')).statusCode).toBe(200);
    expect((await app.inject('/four')).statusCode).toBe(429);
  });

  test('is refused with other numbers under its name, a function as limit, a limiter and a clock', () => {
    limitOf();
    const codes = [
      { limit: 4 },
      { limit: () => 3 },
      { clock: () => 1 },
      { shared: '../api' },
      { shared: 5 },
    ].map((wrong) => codeOf(() => limitOf(wrong as never)));
    expect(codes).toEqual(['ERR_LIMITER_SHARED', ...new Array(4).fill('ERR_LIMITER_OPTION')]);
  });
});
