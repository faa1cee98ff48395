// The Fastify plugin in real Fastify, without sockets: which requests it limits, options of routes, its fields, and
// errors.

import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify';
import { addressKey } from 'relay-limiter/address';
import rateLimit, {
  type FastifyRateLimitOptions,
  type Handler,
  type RefusalError,
  refusalError,
} from 'relay-limiter/fastify';
import { parseProblem, parseRateLimitHeaders } from 'relay-limiter/headers';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { SOURCES } from '../http/shared-limiter.js';
import { closeLater } from '../http/support.js';
import { manualClock } from '../support/limiters.js';
import { few } from '../support/sockets.js';

const HOUR = 3600;

async function ask(fastify: FastifyInstance, given: InjectOptions | string) {
  const { statusCode, headers, body } = await fastify.inject(given);
  const strict = { strict: true };
  const info = parseRateLimitHeaders(headers as Record<string, string>, strict);
  expect(info.ignored).toEqual([]);
  return { status: statusCode, headers, body, info, remaining: info.limits[0]?.remaining };
}

const statuses = async (fastify: FastifyInstance, asked: (InjectOptions | string)[]) => {
  const found: number[] = [];
  for (const each of asked) found.push((await ask(fastify, each)).status);
  return found;
};

describe.each(SOURCES)('the plugin with %s', (_, source) => {
  const clock = manualClock();
  const convert = source(clock);

  async function app(options: FastifyRateLimitOptions): Promise<FastifyInstance> {
    const fastify = Fastify();
    closeLater(() => fastify.close());
    await fastify.register(rateLimit, convert({ clock, ...options }));
    return fastify;
  }

  test('limits every route of its context and child contexts by shared buckets', async () => {
    const fastify = await app({ limit: 3, windowSeconds: 60 });
    fastify.get('/a', async () => 'a');
    fastify.register(async (child) => child.post('/b', async () => 'b'), { prefix: '/child' });
    expect(await ask(fastify, '/a')).toMatchObject({ status: 200, body: 'a', remaining: 2 });
    expect(await ask(fastify, { method: 'POST', url: '/child/b' })).toMatchObject({ remaining: 1 });
    expect(await ask(fastify, '/a')).toMatchObject({ remaining: 0 });
    const refused = await ask(fastify, '/a');
    expect(refused).toMatchObject({
      status: 429,
      headers: {
        'ratelimit-policy': '"3-in-60s";q=3;w=60',
        ratelimit: '"3-in-60s";r=0;t=20',
        'retry-after': '20',
        'content-type': 'application/problem+json; charset=utf-8',
      },
    });
    expect(parseProblem(refused.body, 429)).toEqual({
      problem: 'quota-exceeded',
      violated: ['3-in-60s'],
    });
    expect((await ask(fastify, { url: '/a', remoteAddress: '192.0.2.9' })).status).toBe(200);
    clock.now += 20;
    expect(await statuses(fastify, ['/a', '/a'])).toEqual([200, 429]);
  });

  test('a route can be unlimited, have its own limit, or its own cost', async () => {
    const fastify = await app({ limit: 10, windowSeconds: HOUR, name: 'all' });
    fastify.get('/all', async () => '');
    fastify.get('/free', { config: { rateLimit: false } }, async () => '');
    fastify.get(
      '/own',
      { config: { rateLimit: { limit: 1, windowSeconds: HOUR } } },
      async () => '',
    );
    fastify.get('/dear', { config: { rateLimit: { cost: 4 } } }, async () => '');
    const free = await ask(fastify, '/free');
    expect(free.info.policies).toEqual([]);
    expect(await ask(fastify, '/dear')).toMatchObject({ status: 200, remaining: 6 });
    expect(await ask(fastify, '/all')).toMatchObject({ status: 200, remaining: 5 });
    const own = await ask(fastify, '/own');
    expect(own.info.policies).toMatchObject([{ name: '1-in-3600s', quota: 1 }]);
    expect(await statuses(fastify, ['/own', '/dear', '/dear', '/all'])).toEqual([
      429, 200, 429, 200,
    ]);
  });

  test('a config object on several routes limits each of them; GET and HEAD are one route', async () => {
    const fastify = await app({ global: false });
    const config = { rateLimit: { limit: 2, windowSeconds: HOUR } };
    fastify.get('/a', { config }, async () => 'text');
    fastify.get('/b', { config }, async () => 'text');
    fastify.get('/unlimited', async () => '');
    const head = { method: 'HEAD', url: '/a' } as const;
    expect(await statuses(fastify, ['/a', head, head, '/a', '/b', '/b', '/b'])).toEqual([
      200, 200, 429, 429, 200, 200, 429,
    ]);
    expect((await ask(fastify, head)).body).toBe('');
    expect((await ask(fastify, '/unlimited')).headers['ratelimit']).toBeUndefined();
  });

  test('routes with the same limiter share it', async () => {
    const fastify = await app({ limit: 100 });
    const limiter = few(2, { disconnectThreshold: 2 });
    fastify.get('/a', { config: { rateLimit: { limiter } } }, async () => '');
    fastify.get('/b', { config: { rateLimit: { limiter, name: 'b' } } }, async () => '');
    expect(await statuses(fastify, ['/a', '/b', '/a'])).toEqual([200, 200, 429]);
    const given = await ask(fastify, '/b');
    expect(given.headers['connection']).toBe('close');
    expect(parseProblem(given.body)).toEqual({
      problem: 'abnormal-usage-detected',
      violated: ['b'],
    });
  });

  test('app.rateLimit returns hooks for routes and for the not-found handler', async () => {
    const fastify = await app({ limit: 5, windowSeconds: HOUR });
    const second = fastify.rateLimit({ limit: 1, windowSeconds: HOUR, name: 'second' });
    fastify.get('/', { onRequest: second }, async () => '');
    fastify.get('/two', { onRequest: [second] }, async () => '');
    const notFound = fastify.rateLimit();
    fastify.setNotFoundHandler({ preHandler: notFound }, (_, reply) => {
      reply.code(404).send('nothing');
    });
    const both = await ask(fastify, '/');
    expect(both.info.limits.map(({ name, remaining }) => [name, remaining])).toEqual([
      ['5-in-3600s', 4],
      ['second', 0],
    ]);
    const refused = await ask(fastify, '/two');
    expect(parseProblem(refused.body, 429).violated).toEqual(['second']);
    // The plugin has counted a request for which there is no route: its hook does not count it again.
    const missing = Array.from({ length: 4 }, () => '/missing');
    expect(await statuses(fastify, missing)).toEqual([404, 404, 404, 429]);
  });

  type Registering = (fastify: FastifyInstance, options: FastifyRateLimitOptions) => unknown;

  describe.each<[string, Registering]>([
    ['awaited', async (fastify, options) => fastify.register(rateLimit, options)],
    ['not awaited', (fastify, options) => void fastify.register(rateLimit, options)],
    ['in another plugin', (fastify, options) => void fastify.register(asParent(options))],
  ])('the plugin, %s', (_, register) => {
    /** An app that registers the plugin between routes, and between contexts with routes. */
    async function appWith(options: FastifyRateLimitOptions, own?: object) {
      const fastify = Fastify();
      closeLater(() => fastify.close());
      const config = own === undefined ? {} : { rateLimit: own };
      fastify.get('/before', { config }, async () => '');
      fastify.register(async (child) => child.get('/below-before', { config }, async () => ''));
      await register(fastify, options);
      fastify.get('/after', { config }, async () => '');
      fastify.register(async (child) => child.get('/below-after', { config }, async () => ''));
      return fastify;
    }
    const routes = ['/before', '/below-before', '/after', '/below-after'];

    test('limits every route of its context and child contexts, and unknown routes', async () => {
      const fastify = await appWith({ limit: 5, windowSeconds: HOUR, clock: manualClock() });
      const found: unknown[] = [];
      for (const url of [...routes, '/missing']) found.push((await ask(fastify, url)).remaining);
      expect(found).toEqual([4, 3, 2, 1, 0]);
      const again = [...routes, '/missing', { method: 'HEAD', url: '/before' } as const];
      expect(await statuses(fastify, again)).toEqual([429, 429, 429, 429, 429, 429]);
    });

    test('limits each of these routes by options of its own, HEAD as GET', async () => {
      const options = { global: false, windowSeconds: HOUR, clock: manualClock() };
      const fastify = await appWith(options, { limit: 2 });
      for (const url of routes) {
        const asked = [url, { method: 'HEAD', url } as const, url];
        expect(await statuses(fastify, asked)).toEqual([200, 200, 429]);
      }
      expect((await ask(fastify, '/missing')).info.policies).toEqual([]);
    });

    test('has buckets of their own for routes with different constraints', async () => {
      const fastify = Fastify();
      closeLater(() => fastify.close());
      const config = { rateLimit: { limit: 1 } };
      for (const host of ['a.example', /^b/]) {
        fastify.get('/', { config, constraints: { host } }, async () => '');
      }
      await register(fastify, { global: false, windowSeconds: HOUR, clock: manualClock() });
      const at = (host: string) => ({ url: '/', headers: { host } });
      const hosts = [at('a.example'), at('b.example'), at('a.example'), at('b.example')];
      expect(await statuses(fastify, hosts)).toEqual([200, 200, 429, 429]);
    });

    test('does not limit routes with rateLimit: false', async () => {
      const fastify = Fastify();
      closeLater(() => fastify.close());
      const config = { rateLimit: false };
      fastify.get('/before', { config }, async () => '');
      await register(fastify, { limit: 1 });
      fastify.get('/after', { config }, async () => '');
      for (const url of ['/before', '/after']) {
        expect(await ask(fastify, url)).toMatchObject({ status: 200, info: { policies: [] } });
      }
    });
  });

  /** A plugin, as fastify-plugin makes them, that registers the rate limit in its parent context. */
  function asParent(options: FastifyRateLimitOptions) {
    const plugin = async (fastify: FastifyInstance) => {
      await fastify.register(rateLimit, options);
    };
    return Object.assign(plugin, { [Symbol.for('skip-override')]: true });
  }

  describe('invalid options of a route', () => {
    afterAll(() => void vi.resetModules());

    const config = { rateLimit: { limit: 0 } };
    const addRoute = async (fastify: FastifyInstance) => {
      fastify.get('/wrong', { config }, async () => '');
    };

    test.each<[string, (fastify: FastifyInstance) => unknown]>([
      ['the route', (fastify) => void fastify.get('/wrong', { config }, async () => '')],
      ['a child context with the route', (fastify) => void fastify.register(addRoute)],
    ])('fail the start if the plugin is registered before and after %s', async (_, add) => {
      for (const isFirst of [true, false]) {
        const fastify = Fastify();
        closeLater(() => fastify.close());
        if (isFirst) fastify.register(rateLimit, { limit: 5 });
        add(fastify);
        if (!isFirst) fastify.register(rateLimit, { limit: 5 });
        await expect(fastify.ready()).rejects.toMatchObject({
          code: 'ERR_LIMITER_OPTION',
          message: expect.stringMatching(/limit must be a whole number of at least 1, got 0$/),
        });
      }
    });

    test('fail the start with an error that names the route, not one that is not limited', async () => {
      const fastify = Fastify();
      closeLater(() => fastify.close());
      fastify.register(async (child) => addRoute(child));
      fastify.register(async (child) => {
        child.get('/named', { config }, async () => '');
        child.register(rateLimit, { limit: 5 });
      });
      await expect(fastify.ready()).rejects.toThrow(
        /^config\.rateLimit of GET \/named: limit must/,
      );
    });

    test('are thrown where the route is added if the plugin is loaded', async () => {
      const fastify = await app({ limit: 5 });
      const add = () => fastify.get('/', { config }, async () => '');
      expect(add).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
      fastify.register(async (child) => addRoute(child));
      await expect(fastify.ready()).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    });

    test('fail its requests if Fastify was created before the package was loaded', async () => {
      const fastify = Fastify();
      closeLater(() => fastify.close());
      await addRoute(fastify);
      vi.resetModules();
      const { default: loadedLater } = await import('relay-limiter/fastify');
      fastify.register(loadedLater, { limit: 5 });
      for (let request = 0; request < 2; request += 1) {
        const { status, body } = await ask(fastify, '/wrong');
        expect([status, body]).toEqual([500, expect.stringContaining('ERR_LIMITER_OPTION')]);
      }
    });
  });

  test('a request that a route passes to the not-found handler is counted once', async () => {
    const fastify = await app({ limit: 2, windowSeconds: HOUR, hook: 'preHandler' });
    fastify.setNotFoundHandler({ preHandler: fastify.rateLimit() }, (_, reply) => {
      reply.code(404).send('nothing');
    });
    fastify.get('/', async (_, reply) => reply.callNotFound());
    expect(await statuses(fastify, ['/', '/', '/'])).toEqual([404, 404, 429]);
  });

  test('plugin options without a limit are defaults for routes with a limit', async () => {
    const clock = manualClock();
    const fastify = await app({
      global: false,
      windowSeconds: 6,
      engine: 'js',
      clock,
      maxPeers: 10,
    });
    fastify.get('/', { config: { rateLimit: { limit: 6 } } }, async () => '');
    fastify.get('/unlimited', async () => '');
    const { info } = await ask(fastify, '/');
    expect(info.policies).toMatchObject([{ quota: 6, windowSeconds: 6 }]);
    expect((await ask(fastify, '/unlimited')).info.policies).toEqual([]);
  });

  test('a key can depend on the body, in a later hook, by a promise', async () => {
    const fastify = await app({
      limit: 1,
      windowSeconds: HOUR,
      hook: 'preHandler',
      key: async ({ body }) => String((body as { user: string }).user),
      headers: 'legacy',
    });
    fastify.post('/', async () => '');
    const of = (user: string) => ({ method: 'POST', url: '/', payload: { user } }) as const;
    expect(await statuses(fastify, [of('a'), of('b'), of('a')])).toEqual([200, 200, 429]);
    const { headers } = await ask(fastify, of('b'));
    expect(headers).toMatchObject({ 'x-ratelimit-limit': '1', 'x-ratelimit-remaining': '0' });
  });

  test("the plugin sends the user's text, JSON or error, or calls the handler", async () => {
    const fastify = await app({ limit: 1, windowSeconds: HOUR });
    const add = (url: string, own: object) =>
      fastify.get(
        url,
        { config: { rateLimit: { limit: 1, windowSeconds: HOUR, ...own } } },
        async () => '',
      );
    add('/text', { message: 'später', statusCode: 503 });
    add('/json', { message: { error: 'slow down' } });
    add('/function', { message: async (_: never, __: never, { key }: never) => `not ${key}` });
    add('/none', { message: () => undefined });
    add('/handler', {
      handler: (_: never, reply: { send(payload: unknown): void }, refusal: object) =>
        reply.send({ refusal }),
    });
    add('/throws', {
      handler: () => {
        throw Object.assign(new Error('thrown'), { statusCode: 418 });
      },
    });
    add('/rejects', { message: () => Promise.reject(new Error('rejected')) });
    const second = async (url: string) => {
      await ask(fastify, url);
      return ask(fastify, url);
    };
    expect(await second('/text')).toMatchObject({ status: 503, body: 'später' });
    expect(await second('/json')).toMatchObject({ status: 429, body: '{"error":"slow down"}' });
    expect(await second('/function')).toMatchObject({ status: 429, body: 'not 127.0.0.1' });
    expect(JSON.parse((await second('/none')).body)).toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    const handled = await second('/handler');
    expect(JSON.parse(handled.body).refusal).toMatchObject({
      policy: '1-in-3600s',
      action: 'delay',
    });
    expect(handled.headers['retry-after']).toBe('3600');
    expect(await second('/throws')).toMatchObject({ status: 418 });
    expect(await second('/rejects')).toMatchObject({ status: 429 });
    expect((await ask(fastify, '/rejects')).body).toContain('rejected');
  });

  test('a refusal passes through an asynchronous onSend hook', async () => {
    const fastify = Fastify();
    closeLater(() => fastify.close());
    fastify.addHook('onSend', async (_, __, payload) => {
      await new Promise((resolve) => setImmediate(resolve));
      return payload;
    });
    await fastify.register(rateLimit, {
      limit: 1,
      windowSeconds: HOUR,
      handler: (_, reply) => reply.send({ slow: 1 }),
    });
    const add = (url: string, handler: Handler) =>
      fastify.get(url, { config: { rateLimit: { limit: 1, handler } } }, async () => 'ok');
    fastify.get('/', async () => 'ok');
    add('/returned', async (_, reply) => reply.send({ slow: 1 }));
    add('/awaited', async (_, reply) => {
      await reply.send({ slow: 1 });
    });
    for (const url of ['/', '/returned', '/awaited']) {
      expect((await ask(fastify, url)).body).toBe('ok');
      expect(await ask(fastify, url)).toMatchObject({ status: 429, body: '{"slow":1}' });
    }
  });

  test('the plugin sends the result of a handler, like that of a route handler', async () => {
    const fastify = await app({ limit: 1, windowSeconds: HOUR });
    const add = (url: string, handler: Handler) =>
      fastify.get(url, { config: { rateLimit: { limit: 1, handler } } }, async () => 'ok');
    add('/async', async () => ({ slow: 1 }));
    add('/sync', () => ({ slow: 1 }));
    add('/both', async (_, reply) => {
      reply.send({ slow: 1 });
      return { slow: 2 };
    });
    add('/null', async () => null);
    for (const url of ['/async', '/sync', '/both']) {
      await ask(fastify, url);
      expect(await ask(fastify, url)).toMatchObject({ status: 429, body: '{"slow":1}' });
    }
    await ask(fastify, '/null');
    expect(await ask(fastify, '/null')).toMatchObject({ status: 429, body: 'null' });
  });

  test('a refusal can be an error, and a ban can have its own status code', async () => {
    const fastify = await app({
      limit: 1,
      windowSeconds: HOUR,
      disconnectThreshold: 2,
      statusCode: ({ action }) => (action === 'disconnect' ? 403 : 429),
      handler: (_, __, refusal) => {
        throw refusalError(refusal);
      },
    });
    fastify.setErrorHandler<RefusalError>((error, _, reply) => {
      const { code, statusCode, refusal } = error;
      reply.code(statusCode).send({ code, seconds: refusal.retryAfterSeconds });
    });
    fastify.get('/', async () => '');
    await ask(fastify, '/');
    const body = '{"code":"ERR_LIMITER_REFUSED","seconds":3600}';
    const refused = await ask(fastify, '/');
    expect(refused).toMatchObject({ status: 429, body, headers: { 'retry-after': '3600' } });
    const banned = await ask(fastify, '/');
    expect(banned).toMatchObject({ status: 403, body, headers: { connection: 'close' } });
  });

  test("errors of the options' functions fail the request", async () => {
    const fastify = await app({ limit: 1, windowSeconds: HOUR });
    const add = (url: string, key: () => unknown) =>
      fastify.get(url, { config: { rateLimit: { key: key as never } } }, async () => '');
    add('/throws', () => {
      throw new Error('no database');
    });
    add('/rejects', () => Promise.reject(undefined));
    add('/number', () => 5);
    for (const url of ['/throws', '/rejects', '/number']) {
      expect((await ask(fastify, url)).status).toBe(500);
    }
    expect((await ask(fastify, '/number')).body).toContain('ERR_LIMITER_KEY');
  });

  test('a skipped request has no fields and no verdict', async () => {
    const told: unknown[] = [];
    const fastify = await app({
      limit: 1,
      windowSeconds: HOUR,
      skip: ({ method }) => method === 'OPTIONS',
      onVerdict: ({ did, request }) => told.push([did, request.url]),
    });
    fastify.get('/', async () => '');
    fastify.options('/', async () => '');
    const options = { method: 'OPTIONS', url: '/' } as const;
    expect(await statuses(fastify, [options, options, '/', '/'])).toEqual([200, 200, 200, 429]);
    expect((await ask(fastify, options)).headers['ratelimit']).toBeUndefined();
    expect(told).toEqual([
      ['passed', '/'],
      ['refused', '/'],
    ]);
  });

  test("the plugin ignores a spoofed X-Forwarded-For, even with Fastify's trustProxy", async () => {
    const fastify = Fastify({ trustProxy: true });
    closeLater(() => fastify.close());
    await fastify.register(rateLimit, { limit: 1, windowSeconds: HOUR });
    fastify.get('/', async () => '');
    const from = (address: string) => ({ url: '/', headers: { 'x-forwarded-for': address } });
    expect(await statuses(fastify, [from('192.0.2.1'), from('192.0.2.2')])).toEqual([200, 429]);
  });

  test('two registrations have separate limits', async () => {
    const fastify = await app({ limit: 2, windowSeconds: HOUR, name: 'a' });
    await fastify.register(rateLimit, { limit: 1, windowSeconds: HOUR, name: 'b' });
    fastify.get('/', async () => '');
    const { info } = await ask(fastify, '/');
    expect(info.limits.map(({ name, remaining }) => [name, remaining])).toEqual([
      ['a', 1],
      ['b', 0],
    ]);
    expect(parseProblem((await ask(fastify, '/')).body).violated).toEqual(['b']);
  });

  test('the options of a route apply to the nearest registration only', async () => {
    const fastify = await app({ limit: 9, windowSeconds: HOUR, name: 'outer' });
    await fastify.register(async (child) => {
      await child.register(rateLimit, { limit: 5, windowSeconds: HOUR, name: 'inner' });
      child.get('/own', { config: { rateLimit: { limit: 3, name: 'own' } } }, async () => '');
      child.get('/free', { config: { rateLimit: false } }, async () => '');
      const hooks = [child.rateLimit(), child.rateLimit({ cost: 2, message: 'inner' })];
      child.get('/hook', { onRequest: hooks, config: { rateLimit: false } }, async () => '');
      await child.register(async (grandchild) => grandchild.get('/below', async () => ''));
    });
    fastify.get('/above', { config: { rateLimit: { limit: 2, name: 'above' } } }, async () => '');
    const told = async (url: string) =>
      (await ask(fastify, url)).info.limits.map(({ name, remaining }) => [name, remaining]);
    expect(await told('/own')).toEqual([
      ['outer', 8],
      ['own', 2],
    ]);
    expect(await told('/free')).toEqual([]);
    expect(await told('/hook')).toEqual([
      ['inner', 4],
      ['inner', 2],
    ]);
    expect(await told('/below')).toEqual([
      ['outer', 7],
      ['inner', 1],
    ]);
    expect(await told('/above')).toEqual([['above', 1]]);
  });

  test('buckets depend on method and constraints, but not on a trailing slash', async () => {
    const fastify = await app({ global: false });
    const config = { rateLimit: { limit: 1, windowSeconds: HOUR } };
    fastify.get('/x', { config }, async () => '');
    fastify.post('/x', { config }, async () => '');
    for (const host of ['a.example', /^b/]) {
      fastify.get('/host', { config, constraints: { host } }, async () => '');
    }
    fastify.register(async (child) => child.post('/', { config }, async () => ''), {
      prefix: '/login',
    });
    const of = (method: 'HEAD' | 'POST', url: string) => ({ method, url });
    const at = (host: string) => ({ url: '/host', headers: { host } });
    expect(await statuses(fastify, ['/x', of('POST', '/x'), of('HEAD', '/x')])).toEqual([
      200, 200, 429,
    ]);
    const hosts = [at('a.example'), at('b.example'), at('a.example'), at('b.example')];
    expect(await statuses(fastify, hosts)).toEqual([200, 200, 429, 429]);
    const login = [of('POST', '/login'), of('POST', '/login/'), of('POST', '/login')];
    expect(await statuses(fastify, login)).toEqual([200, 429, 429]);
  });

  test('undefined options of a route default to those of the plugin', async () => {
    const fastify = await app({
      limit: 5,
      windowSeconds: HOUR,
      key: () => 'everybody',
      statusCode: 503,
    });
    const own = { cost: 4, key: undefined, limit: undefined, statusCode: undefined };
    fastify.get('/', { config: { rateLimit: own } }, async () => '');
    fastify.get('/null', { config: { rateLimit: null as never } }, async () => '');
    expect(await ask(fastify, { url: '/', remoteAddress: '192.0.2.1' })).toMatchObject({
      status: 200,
      remaining: 1,
    });
    expect((await ask(fastify, { url: '/', remoteAddress: '192.0.2.2' })).status).toBe(503);
    expect(await ask(fastify, '/null')).toMatchObject({ status: 200, remaining: 0 });
  });

  test("the key can be request.ip with Fastify's trustProxy", async () => {
    const fastify = Fastify({ trustProxy: 'loopback' });
    closeLater(() => fastify.close());
    await fastify.register(rateLimit, { limit: 1, key: ({ ip }) => addressKey(ip) });
    fastify.get('/', async () => '');
    const from = (address: string) => ({ url: '/', headers: { 'x-forwarded-for': address } });
    const asked = [from('2001:db8::1'), from('2001:db8::2'), from('192.0.2.2')];
    expect(await statuses(fastify, asked)).toEqual([200, 429, 200]);
  });

  test.each<[string, object]>([
    ['no limit', {}],
    ['a limit of 0, though nobody is limited by it yet', { global: false, limit: 0 }],
    ['a window of 0, though no route has a limit yet', { global: false, windowSeconds: 0 }],
    ['an engine that is none, though no route has a limit yet', { global: false, engine: 'fast' }],
    ['a name that headers cannot say, though no route has a limit', { global: false, name: 'ü' }],
    ['global that is none', { limit: 1, global: 'no' }],
    ['a hook that is none', { limit: 1, hook: 'onSend' }],
    ["an option of @fastify/rate-limit's", { max: 5, timeWindow: 1000 }],
  ])('registration rejects: %s', async (_, options) => {
    const fastify = Fastify();
    closeLater(() => fastify.close());
    const registered = async () => fastify.register(rateLimit, options as never);
    await expect(registered()).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
  });

  test.each<[string, unknown]>([
    ['a number', 5],
    ['text', 'yes'],
    ['an unknown option', { max: 5 }],
    ['an unknown option, undefined', { max: undefined }],
    ['a limit that is none', { limit: 0 }],
  ])('adding a route rejects: %s', async (_, config) => {
    const fastify = await app({ limit: 5 });
    let error: unknown;
    try {
      fastify.get('/', { config: { rateLimit: config as never } }, async () => '');
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: 'ERR_LIMITER_OPTION' });
  });
});
