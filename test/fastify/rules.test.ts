// The plugin with a RuleLimiter, refunds and what is left; and the options of a route: hook, group and ban.

import Fastify, { type FastifyInstance, type FastifyRequest, type InjectOptions } from 'fastify';
import { RateLimiter, RuleLimiter } from 'relay-limiter';
import rateLimit, { type FastifyRateLimitOptions, rateLimitOf } from 'relay-limiter/fastify';
import { describe, expect, test } from 'vitest';
import { closeLater } from '../http/support.js';
import { ENGINES, manualClock } from '../support/limiters.js';

const HOUR = 3600;

async function app(options: FastifyRateLimitOptions): Promise<FastifyInstance> {
  const fastify = Fastify();
  closeLater(() => fastify.close());
  await fastify.register(rateLimit, options);
  return fastify;
}

async function ask(fastify: FastifyInstance, given: InjectOptions | string) {
  const { statusCode, headers, body } = await fastify.inject(given);
  return { status: statusCode, headers, body };
}

const statuses = async (fastify: FastifyInstance, asked: (InjectOptions | string)[]) => {
  const found: number[] = [];
  for (const each of asked) found.push((await ask(fastify, each)).status);
  return found;
};

describe.each(ENGINES)('the plugin with a RuleLimiter and the %s engine', (engine) => {
  const clock = manualClock();
  const limitsOf = () =>
    new RuleLimiter({
      engine,
      clock,
      scopes: { address: { kind: 'address' }, account: {} },
      rules: {
        all: { scope: 'address', quota: 5, windowSeconds: HOUR },
        logins: { scope: 'address', action: 'login', quota: 2, windowSeconds: HOUR },
        accounts: { scope: 'account', quota: 3, windowSeconds: HOUR },
      },
      bans: { address: { violations: 3, withinSeconds: HOUR, seconds: 60 } },
      deny: { address: ['198.51.100.0/24'] },
    });

  test('limits routes by their actions, costs and keys, in the same buckets', async () => {
    const fastify = await app({
      limiter: limitsOf(),
      keys: ({ headers }: FastifyRequest) => ({ account: headers['account'] as string }),
    });
    fastify.get('/', async () => '');
    fastify.get('/login', { config: { rateLimit: { action: 'login' } } }, async () => '');
    fastify.get('/dear', { config: { rateLimit: { cost: { requests: 2 } } } }, async () => '');
    const account = { account: 'alice' };
    expect((await ask(fastify, { url: '/', headers: account })).headers).toMatchObject({
      'ratelimit-policy': '"all";q=5;w=3600, "accounts";q=3;w=3600',
      ratelimit: '"accounts";r=2;t=1200',
    });
    expect((await ask(fastify, '/login')).headers['ratelimit']).toBe('"logins";r=1;t=1800');
    expect((await ask(fastify, '/dear')).headers['ratelimit']).toBe('"all";r=1;t=720');
    expect((await ask(fastify, '/dear')).status).toBe(429);
    expect((await ask(fastify, '/')).status).toBe(200);
    const denied = await ask(fastify, { url: '/', remoteAddress: '198.51.100.3' });
    expect(denied.status).toBe(403);
    expect(denied.headers['retry-after']).toBeUndefined();
    expect(await statuses(fastify, ['/', '/'])).toEqual([429, 429]);
    expect((await ask(fastify, '/')).headers).toMatchObject({
      'retry-after': '60',
      connection: 'close',
    });
  });

  test('lets a route have a limit of its own, of another kind', async () => {
    const fastify = await app({
      limiter: limitsOf(),
      keys: () => ({ account: 'a' }),
      plan: () => undefined,
      cost: { requests: 1 },
      refundWhen: () => false,
    });
    const limiter = new RateLimiter({ rateLimit: 1 / HOUR, burstLimit: 2 });
    fastify.get('/one', { config: { rateLimit: { limit: 1, clock } } }, async () => '');
    fastify.get('/two', { config: { rateLimit: { limiter } } }, async () => '');
    expect(await statuses(fastify, ['/one', '/one', '/two', '/two', '/two'])).toEqual([
      200, 429, 200, 200, 429,
    ]);
    const other = await app({ limit: 1, name: 'mine', ipv6Subnet: 48, clock });
    const config = { rateLimit: { limiter: limitsOf(), action: 'login' } };
    other.get('/', { config }, async () => '');
    expect(await statuses(other, ['/', '/', '/'])).toEqual([200, 200, 429]);
  });

  test('applies the subnets of the plugin to a text scope of addresses', async () => {
    const fastify = await app({ limit: 1, ipv6Subnet: 48, clock });
    const limiter = new RuleLimiter({
      engine,
      clock,
      scopes: { address: {} },
      rules: { all: { scope: 'address', quota: 1, windowSeconds: HOUR } },
    });
    fastify.get('/', { config: { rateLimit: { limiter } } }, async () => '');
    await fastify.inject({ url: '/', remoteAddress: '2001:db8:1:2::3' });
    expect(limiter.peek('2001:db8:1::/48').rules[0]?.remaining).toBe(0);
  });

  test('gives back requests when their responses have been sent', async () => {
    const fastify = await app({
      limiter: limitsOf(),
      action: 'login',
      refundWhen: (_, reply) => reply.statusCode < 400,
    });
    fastify.get('/', async () => '');
    fastify.get('/wrong', async (_, reply) => reply.code(401).send());
    const asked = ['/', '/', '/', '/wrong', '/', '/wrong', '/'];
    expect(await statuses(fastify, asked)).toEqual([200, 200, 200, 401, 200, 401, 429]);
  });
});

test('rateLimitOf returns what is left to a handler, an error handler and a message', async () => {
  const fastify = await app({
    limit: 2,
    windowSeconds: HOUR,
    clock: manualClock(),
    message: (request: FastifyRequest) => ({ left: rateLimitOf(request)?.remaining }),
  });
  fastify.get('/', async (request) => rateLimitOf(request));
  expect(JSON.parse((await ask(fastify, '/')).body)).toEqual({
    policy: '2-in-3600s',
    limit: 2,
    remaining: 1,
    resetSeconds: 1800,
  });
  await ask(fastify, '/');
  expect(JSON.parse((await ask(fastify, '/')).body)).toEqual({ left: 0 });
});

describe('the option group', () => {
  const group = 'otp';

  test('gives routes shared buckets, apart from those of the plugin', async () => {
    const fastify = await app({ limit: 3, windowSeconds: HOUR, clock: manualClock() });
    fastify.get('/send', { config: { rateLimit: { limit: 2, group } } }, async () => '');
    fastify.get('/resend', { config: { rateLimit: { limit: 2, group } } }, async () => '');
    const other = { config: { rateLimit: { limit: 2, group: 'other' } } };
    fastify.get('/other', other, async () => '');
    fastify.get('/plain', { config: { rateLimit: { group: 'plain' } } }, async () => '');
    fastify.get(
      '/hook',
      { config: { rateLimit: false }, onRequest: fastify.rateLimit({ limit: 2, group }) },
      async () => '',
    );
    fastify.get('/', async () => '');
    expect(await statuses(fastify, ['/send', '/resend', '/send', '/resend', '/hook'])).toEqual([
      200, 200, 429, 429, 429,
    ]);
    expect(await statuses(fastify, ['/other', '/other', '/other'])).toEqual([200, 200, 429]);
    expect(await statuses(fastify, ['/plain', '/plain', '/plain', '/plain', '/'])).toEqual([
      200, 200, 200, 429, 200,
    ]);
  });

  test('lets its routes differ in other options, such as the cost', async () => {
    const fastify = await app({ global: false, windowSeconds: HOUR, clock: manualClock() });
    fastify.get('/a', { config: { rateLimit: { limit: 4, group } } }, async () => '');
    fastify.get('/b', { config: { rateLimit: { limit: 4, group, cost: 3 } } }, async () => '');
    expect(await statuses(fastify, ['/a', '/b', '/a', '/b'])).toEqual([200, 200, 429, 429]);
  });

  test('is rejected where its limits differ, with a limiter, at the plugin, or if it is no name', async () => {
    const fastify = await app({ limit: 3, clock: manualClock() });
    const add = (options: object) => () =>
      fastify.get(`/${Math.random()}`, { config: { rateLimit: options } }, async () => '');
    add({ limit: 2, group })();
    const wrong = [
      { limit: 3, group },
      { limit: 2, windowSeconds: 5, group },
      { limiter: new RateLimiter(), group: 'a' },
      { group: 5 },
      { group: '' },
    ];
    for (const options of wrong) {
      expect(add(options)).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
    }
    const plugin = async () => void (await app({ limit: 3, group } as never));
    await expect(plugin()).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
  });
});

describe('the option hook of a route', () => {
  type Route = { config: { rateLimit: { hook: 'preHandler' | 'onRequest' | 'preValidation' } } };
  const late: Route = { config: { rateLimit: { hook: 'preHandler' } } };
  const early: Route = { config: { rateLimit: { hook: 'onRequest' } } };

  /** The user hooks that a request has passed when it is counted. */
  async function stagesOf(fastify: FastifyInstance, url: string) {
    await fastify.inject(url);
    const { body } = await fastify.inject({ url, headers: { accept: 'application/json' } });
    return JSON.parse(body) as string[];
  }

  function withHooks(fastify: FastifyInstance): void {
    fastify.decorateRequest('stages');
    for (const stage of ['onRequest', 'preValidation', 'preHandler'] as const) {
      fastify.addHook(stage, async (request) => {
        const passed = request as { stages?: string[] };
        passed.stages = [...(passed.stages ?? []), stage];
      });
    }
  }

  const options: FastifyRateLimitOptions = {
    limit: 1,
    windowSeconds: HOUR,
    clock: manualClock(),
    key: ({ url }: FastifyRequest) => url,
    message: (request: FastifyRequest) => (request as { stages?: string[] }).stages ?? [],
  };
  const AFTER_REQUEST = ['onRequest'];
  const BEFORE_HANDLER = ['onRequest', 'preValidation', 'preHandler'];

  test.each(['before', 'after'])(
    'counts a route at its own hook, if it is added %s the plugin',
    async (when) => {
      const fastify = Fastify();
      closeLater(() => fastify.close());
      withHooks(fastify);
      const addRoutes = () => {
        fastify.get('/late', late, async () => '');
        fastify.get('/early', early, async () => '');
        fastify.get('/plain', async () => '');
        fastify.register(async (child) => child.get('/child', late, async () => ''));
      };
      if (when === 'before') addRoutes();
      await fastify.register(rateLimit, options);
      if (when === 'after') addRoutes();
      expect(await stagesOf(fastify, '/early')).toEqual(AFTER_REQUEST);
      expect(await stagesOf(fastify, '/plain')).toEqual(AFTER_REQUEST);
      expect(await stagesOf(fastify, '/late')).toEqual(BEFORE_HANDLER);
      expect(await stagesOf(fastify, '/child')).toEqual(BEFORE_HANDLER);
    },
  );

  test('goes before the hook of the plugin', async () => {
    const fastify = Fastify();
    closeLater(() => fastify.close());
    withHooks(fastify);
    await fastify.register(rateLimit, { ...options, hook: 'preHandler' });
    fastify.get('/early', early, async () => '');
    fastify.get('/plain', async () => '');
    expect(await stagesOf(fastify, '/early')).toEqual(AFTER_REQUEST);
    expect(await stagesOf(fastify, '/plain')).toEqual(BEFORE_HANDLER);
  });

  test('does not count a request twice, nor a route without options of its own', async () => {
    const fastify = await app({ limit: 3, windowSeconds: HOUR, clock: manualClock() });
    fastify.get('/late', late, async () => '');
    fastify.get('/', async () => '');
    expect(await statuses(fastify, ['/', '/late', '/', '/late'])).toEqual([200, 200, 200, 429]);
  });

  test('is rejected if it is none of the three', async () => {
    const fastify = await app({ limit: 3 });
    const add = () =>
      fastify.get('/', { config: { rateLimit: { hook: 'preParsing' } } } as never, async () => '');
    expect(add).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
  });
});

test('the option ban of a route bans after so many refusals', async () => {
  const clock = manualClock();
  const fastify = await app({ global: false, clock });
  const ban = { violations: 2, withinSeconds: HOUR, seconds: 600 };
  const own = {
    limit: 1,
    windowSeconds: HOUR,
    ban,
    statusCode: ({ action }: { action: string }) => (action === 'disconnect' ? 403 : 429),
  };
  // In this program the types of @fastify/rate-limit declare the same property.
  fastify.get('/', { config: { rateLimit: own as never } }, async () => '');
  expect(await statuses(fastify, ['/', '/', '/', '/'])).toEqual([200, 429, 403, 403]);
  clock.now += 600;
  expect(await statuses(fastify, ['/'])).toEqual([429]);
});
