// Warnings about likely mistakes: each is emitted once if the mistake is made, and never without it.

import cluster from 'node:cluster';
import { EventEmitter } from 'node:events';
import { Server } from 'node:net';
import Fastify from 'fastify';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { ask, closeLater, type Middleware, outcomeOf, requestFrom } from '../http/support.js';
import { slowLimiter } from '../support/slow-limiter.js';
import { guardedVirtually } from '../ws/virtual.js';

const V6 = '2001:db8::1';
const FORWARDED = { headers: { 'x-forwarded-for': V6 } };

let http: typeof import('relay-limiter/http');
let fastifyPlugin: typeof import('relay-limiter/fastify').default;
let ws: typeof import('relay-limiter/ws');
let webSocket: typeof import('relay-limiter/websocket');
let net: typeof import('relay-limiter/net');
let address: typeof import('relay-limiter/address');
let limiters: typeof import('relay-limiter');
/** The codes of the emitted warnings. */
const codes: unknown[] = [];

// The package remembers per process which warnings it has emitted, so each test loads it again.
beforeEach(async () => {
  vi.resetModules();
  http = await import('relay-limiter/http');
  fastifyPlugin = (await import('relay-limiter/fastify')).default;
  ws = await import('relay-limiter/ws');
  webSocket = await import('relay-limiter/websocket');
  net = await import('relay-limiter/net');
  address = await import('relay-limiter/address');
  limiters = await import('relay-limiter');
  codes.length = 0;
  const emit = vi.spyOn(process, 'emitWarning').mockImplementation((warning, options) => {
    expect(warning).toMatch(/^[a-z]/);
    expect(options).toMatchObject({ type: 'RelayLimiterWarning' });
    codes.push((options as { code: string }).code);
  });
  return () => emit.mockRestore();
});
afterAll(() => void vi.resetModules());

/** A Fastify server with the plugin and one route. */
async function app(options: object, route: object = {}) {
  const fastify = Fastify();
  closeLater(() => fastify.close());
  await fastify.register(fastifyPlugin, { limit: 10, ...options });
  fastify.get('/', { config: { rateLimit: route } }, async () => '');
  return fastify;
}

describe('WARN_LIMITER_PROXY', () => {
  test.each(['x-forwarded-for', 'forwarded'])(
    'is emitted for a request with the header %s',
    async (name) => {
      const limit = http.rateLimit({ limit: 10 });
      await ask(limit);
      expect(codes).toEqual([]);
      for (let n = 0; n < 3; n += 1) await ask(limit, { headers: { [name]: 'for=192.0.2.1' } });
      await ask(http.rateLimit({ limit: 10 }), FORWARDED);
      expect(codes).toEqual(['WARN_LIMITER_PROXY']);
    },
  );

  test('is emitted by the Fastify plugin', async () => {
    const fastify = await app({});
    await fastify.inject({ url: '/', ...FORWARDED });
    expect(codes).toEqual(['WARN_LIMITER_PROXY']);
  });

  test('is emitted by a WebSocket guard only if it limits addresses', () => {
    const limiter = new limiters.RateLimiter();
    const guarded = (options: object) => guardedVirtually(options, ws.guardWebSocketServer);
    guarded({ messages: { limiter } }).connect(V6, FORWARDED.headers);
    guarded({ connections: { limiter } }).connect(V6);
    expect(codes).toEqual([]);
    guarded({ messages: { limiter, key: 'address' } }).connect(V6, FORWARDED.headers);
    expect(codes).toEqual(['WARN_LIMITER_PROXY']);
  });

  test('is not emitted if trustedProxies, a key or warnings: false is given', async () => {
    const key = () => 'a';
    const named = [{ trustedProxies: 'loopback' }, { trustedProxies: [] }];
    for (const options of [...named, { key }, { warnings: false }]) {
      await ask(http.rateLimit({ limit: 10, ...options }), FORWARDED);
      await (await app(options)).inject({ url: '/', ...FORWARDED });
    }
    const connections = { maxPerAddress: 5 };
    for (const options of [...named, { warnings: false }]) {
      const given = { connections, ...options };
      guardedVirtually(given, ws.guardWebSocketServer).connect(V6, FORWARDED.headers);
    }
    expect(codes).toEqual([]);
  });
});

describe('WARN_LIMITER_PER_REQUEST', () => {
  /** A request whose socket belongs to a server. */
  const received = () => {
    const request = requestFrom();
    Object.assign(request.socket, { server: new EventEmitter() });
    return request;
  };

  test('is emitted if the handler of a request creates the limit', async () => {
    await outcomeOf(http.rateLimit({ limit: 1 }), received());
    expect(codes).toEqual(['WARN_LIMITER_PER_REQUEST']);
  });

  test('is emitted if a Fastify handler creates a hook', async () => {
    const fastify = await app({});
    let made = 0;
    fastify.get('/wrong', async (request, reply) => {
      Object.assign(request.raw.socket, { server: fastify.server });
      fastify.rateLimit({ limit: 1 })(request, reply, () => {
        made += 1;
      });
      return '';
    });
    await fastify.inject('/wrong');
    expect([made, codes]).toEqual([1, ['WARN_LIMITER_PER_REQUEST']]);
  });

  test('is not emitted for an older limit, a shared limiter, or a request without a server', async () => {
    const limit = http.rateLimit({ limit: 10 });
    await null;
    await outcomeOf(limit, received());
    const limiter = new limiters.RateLimiter();
    await outcomeOf(http.rateLimit({ limiter }), received());
    await outcomeOf(http.rateLimit({ limit: 1 }), requestFrom());
    await outcomeOf(http.rateLimit({ limit: 1, warnings: false }), received());
    const fastify = Fastify();
    closeLater(() => fastify.close());
    fastify.addHook('onRequest', async ({ raw }) => {
      Object.assign(raw.socket, { server: fastify.server });
    });
    fastify.register(fastifyPlugin, { global: false });
    // The route's limit is created at its first request, since the plugin is loaded later.
    fastify.get('/', { config: { rateLimit: { limit: 1 } } }, async () => '');
    await fastify.inject('/');
    expect(codes).toEqual([]);
  });
});

describe('WARN_LIMITER_IPV6_KEY', () => {
  test.each([V6, `[${V6}]:443`, '::1'])('is emitted once for the key %s', async (key) => {
    const limit = http.rateLimit({ limit: 10, key: async () => key });
    await ask(limit);
    await ask(limit);
    expect(codes).toEqual(['WARN_LIMITER_IPV6_KEY']);
  });

  test('is emitted for a key of the Fastify plugin', async () => {
    await (await app({ key: () => V6 })).inject('/');
    expect(codes).toEqual(['WARN_LIMITER_IPV6_KEY']);
  });

  test('is emitted for the key of a rule for messages', () => {
    const messages = { limiter: new limiters.RateLimiter(), key: () => V6 };
    guardedVirtually({ messages }, ws.guardWebSocketServer).connect();
    expect(codes).toEqual(['WARN_LIMITER_IPV6_KEY']);
  });

  test('is not emitted for networks, IPv4, other keys, or keys of the package', async () => {
    const others = [address.addressKey(V6), '192.0.2.1', '::ffff:192.0.2.1', `user:${V6}`, 'a:b'];
    for (const key of others) await ask(http.rateLimit({ limit: 1, key: () => key }));
    await ask(http.rateLimit({ limit: 1, ipv6Subnet: 128 }), { address: V6 });
    await ask(http.rateLimit({ limit: 1, key: () => V6, warnings: false }));
    expect(codes).toEqual([]);
  });

  test('is not emitted for a key after the first 1,000 keys', async () => {
    let key = 'a';
    const limit = http.rateLimit({ limit: 10_000, key: () => key });
    for (let n = 0; n < 1000; n += 1) await ask(limit);
    key = V6;
    await ask(limit);
    expect(codes).toEqual([]);
  });
});

describe('WARN_LIMITER_COUNTED_TWICE', () => {
  const twice =
    (first: Middleware, second = first): Middleware =>
    (request, response, next) =>
      first(request, response, (error) => (error ? next(error) : second(request, response, next)));

  test.each([11, false] as const)(
    'is emitted if a limit counts a request twice, with headers: %s',
    async (headers) => {
      const limit = http.rateLimit({ limit: 10, headers });
      await ask(twice(limit));
      await ask(twice(limit));
      expect(codes).toEqual(['WARN_LIMITER_COUNTED_TWICE']);
    },
  );

  const rules = {
    all: { scope: 'user', action: ['page', 'login'], quota: 10, windowSeconds: 1 },
    logins: { scope: 'user', action: 'login only', quota: 10, windowSeconds: 1 },
    bytes: { scope: 'user', unit: 'bytes', rateLimit: 100 },
  };
  const byRules = () => {
    const scopes = { address: { kind: 'address' as const }, user: {} };
    const limiter = new limiters.RuleLimiter({ scopes, rules });
    return (action: string, user = 'alice', cost: number | Record<string, number> = 1) =>
      http.rateLimit({ limiter, action, cost, keys: () => ({ user }), headers: [] });
  };

  test('is emitted if a rule takes twice for one request', async () => {
    const limit = byRules();
    await ask(twice(limit('page'), limit('login')));
    expect(codes).toEqual(['WARN_LIMITER_COUNTED_TWICE']);
  });

  test('is not emitted if two checks of a RuleLimiter take from different buckets', async () => {
    const limit = byRules();
    await ask(twice(limit('page'), limit('login only')));
    await ask(twice(limit('page'), limit('login', 'bob')));
    await ask(twice(limit('page'), limit('login', 'alice', { requests: 0, bytes: 5 })));
    await ask(twice(limit('page'), byRules()('login')));
    expect(codes).toEqual([]);
  });

  test('is not emitted for several limits, several requests, or a hook that does not count again', async () => {
    const limiter = new limiters.RateLimiter();
    const limit = http.rateLimit({ limiter });
    await ask(limit);
    await ask(limit);
    await ask(twice(limit, http.rateLimit({ limiter, cost: 3, name: 'more' })));
    await ask(twice(http.rateLimit({ limit: 10, warnings: false })));
    const fastify = await app({ hook: 'preHandler' });
    const preHandler = fastify.rateLimit();
    fastify.get('/hook', { preHandler }, async (_, reply) => reply.callNotFound());
    await fastify.inject('/hook');
    expect(codes).toEqual([]);
  });
});

describe('WARN_LIMITER_NO_ADDRESS', () => {
  const upgraded = (options: object, info?: object) =>
    webSocket
      .guardWebSockets(options)
      .upgrade(new Request('http://localhost/'), info, () => undefined);
  const connections = { maxPerAddress: 5 };

  test.each([undefined, {}, { address: 'localhost' }])(
    'is emitted if a guard of WebSockets limits addresses and gets %o',
    (info) => {
      upgraded({ connections }, info);
      expect(codes).toEqual(['WARN_LIMITER_NO_ADDRESS']);
    },
  );

  test('is not emitted with an address, without limits by address, or with warnings: false', () => {
    upgraded({ connections }, { address: V6 });
    upgraded({ messages: { limiter: new limiters.RateLimiter() } });
    upgraded({ connections, warnings: false });
    expect(codes).toEqual([]);
  });
});

describe('WARN_LIMITER_CLUSTER', () => {
  beforeEach(() => {
    const { isWorker } = cluster;
    Object.assign(cluster, { isWorker: true });
    return () => void Object.assign(cluster, { isWorker });
  });

  const guards: [string, (own: object) => unknown][] = [
    ['a middleware', (own) => http.rateLimit({ limit: 1, ...own })],
    ['the Fastify plugin', (own) => app(own)],
    ['limits by address', (own) => net.guardLineServer(new Server(), { ...PER_ADDRESS, ...own })],
    [
      'a limit on messages by key',
      (own) => net.guardLineServer(new Server(), { ...byKey(), ...own }),
    ],
  ];
  const PER_ADDRESS = { connections: { maxPerAddress: 5 } };
  const byKey = () => ({ messages: { limiter: new limiters.RateLimiter(), key: () => 'all' } });

  test.each(guards)('is emitted once if a worker creates %s', async (_, make) => {
    await make({ warnings: false });
    expect(codes).toEqual([]);
    await make({});
    await make({});
    expect(codes).toEqual(['WARN_LIMITER_CLUSTER']);
  });

  test('is not emitted for a SharedRateLimiter, which all workers share', () => {
    const limiter = slowLimiter();
    const messages = { limiter, key: () => 'all' };
    net.guardLineServer(new Server(), { connections: { limiter }, messages });
    net.guardLineServer(new Server(), { messages: { limiter, key: 'address' } });
    http.rateLimit({ limiter });
    expect(codes).toEqual([]);
    net.guardLineServer(new Server(), { connections: { limiter, maxPerAddress: 1 } });
    expect(codes).toEqual(['WARN_LIMITER_CLUSTER']);
  });

  test('is not emitted for limits per connection, nor outside of workers', () => {
    const limiter = new limiters.RateLimiter();
    net.guardLineServer(new Server(), { messages: { limiter } });
    Object.assign(cluster, { isWorker: false });
    http.rateLimit({ limit: 1 });
    expect(codes).toEqual([]);
  });
});
