// What @fastify/rate-limit promises in its documentation and its tests, asked of the plugin.

import Fastify, {
  type FastifyInstance,
  type FastifyRequest,
  type FastifyServerOptions,
  type InjectOptions,
} from 'fastify';
import { RateLimiter, RuleLimiter } from 'relay-limiter';
import { addressKey } from 'relay-limiter/address';
import rateLimit, {
  type FastifyRateLimitOptions,
  type RequestVerdict,
  type RouteRateLimitOptions,
  rateLimitOf,
  refusalError,
} from 'relay-limiter/fastify';
import { afterEach, expect } from 'vitest';
import { type Behaviour, differs, held, testBehaviours } from '../http/behaviours/table.js';
import { sharedLimiter } from '../http/shared-limiter.js';
import { manualClock } from '../support/limiters.js';

const clock = manualClock();
const open: FastifyInstance[] = [];
afterEach(async () => {
  for (const fastify of open.splice(0)) await fastify.close();
});

const MINUTE = { windowSeconds: 60, clock };
const LEGACY = { headers: 'legacy' } as const;

/** An app with the plugin, and a route `/` with options of its own. */
async function app(
  options: FastifyRateLimitOptions,
  own?: RouteRateLimitOptions | boolean,
  server: FastifyServerOptions = {},
): Promise<FastifyInstance> {
  const fastify = Fastify(server);
  open.push(fastify);
  await fastify.register(rateLimit, 'limiter' in options ? options : { ...MINUTE, ...options });
  // In this program the types of @fastify/rate-limit declare the same property.
  const config = own === undefined ? {} : { rateLimit: own as never };
  fastify.get('/', { config }, async () => 'hello');
  return fastify;
}

/** An app that limits only the route `/`. */
const routeApp = (own: RouteRateLimitOptions) => app({ global: false }, { ...MINUTE, ...own });

async function statuses(fastify: FastifyInstance, asked: number | (string | InjectOptions)[]) {
  const all = typeof asked === 'number' ? Array.from({ length: asked }, () => '/') : asked;
  const found: number[] = [];
  for (const each of all) found.push((await fastify.inject(each)).statusCode);
  return found;
}

async function last(fastify: FastifyInstance, count: number, asked: string | InjectOptions = '/') {
  for (let n = 1; n < count; n += 1) await fastify.inject(asked);
  return fastify.inject(asked);
}

const by = (key: string, url = '/'): InjectOptions => ({ url, headers: { key } });
const ofKey = ({ headers }: FastifyRequest) => String(headers['key']);
const from = (remoteAddress: string): InjectOptions => ({ url: '/', remoteAddress });

/** Asks both an app with a global limit and one with a limit of a route. */
async function both(
  options: RouteRateLimitOptions,
  check: (fastify: FastifyInstance) => Promise<unknown>,
) {
  await check(await app(options));
  await check(await routeApp(options));
}

/** What onVerdict is told of. */
async function verdictsOf(options: RouteRateLimitOptions, count: number) {
  const verdicts: RequestVerdict<FastifyRequest>[] = [];
  await statuses(await app({ ...options, onVerdict: (one) => verdicts.push(one) }), count);
  return verdicts;
}

const BAN = { violations: 2, withinSeconds: 60, seconds: 60 };
const FORBIDDEN = ({ action }: { action: string }) => (action === 'disconnect' ? 403 : 429);

const limits: Behaviour[] = [
  held('requests above the limit get 429, and the fields count down', async () => {
    const fastify = await app({ limit: 2, ...LEGACY });
    const left: unknown[] = [];
    for (let n = 0; n < 3; n += 1) {
      const { statusCode, headers } = await fastify.inject('/');
      left.push([statusCode, headers['x-ratelimit-limit'], headers['x-ratelimit-remaining']]);
    }
    expect(left).toEqual([
      [200, '2', '1'],
      [200, '2', '0'],
      [429, '2', '0'],
    ]);
  }),
  held('a client passes again after the window', async () => {
    const fastify = await app({ limit: 2 });
    expect(await statuses(fastify, 3)).toEqual([200, 200, 429]);
    clock.now += 60;
    expect(await statuses(fastify, 3)).toEqual([200, 200, 429]);
  }),
  held('Retry-After says when', async () => {
    expect((await last(await app({ limit: 1 }), 2)).headers['retry-after']).toBe('60');
  }),
  held('the limit may be a function of the request', async () => {
    await both(
      { limit: (request) => (ofKey(request) === 'pro' ? 2 : 1), key: ofKey },
      async (one) =>
        expect(await statuses(one, [by('pro'), by('pro'), by('pro'), by('a'), by('a')])).toEqual([
          200, 200, 429, 200, 429,
        ]),
    );
  }),
  held('the limit may come by a promise', async () => {
    await both({ limit: async () => 1 }, async (one) =>
      expect(await statuses(one, 2)).toEqual([200, 429]),
    );
  }),
  held('clients with different limits do not disturb each other', async () => {
    const fastify = await app({ limit: (request) => Number(ofKey(request)), key: ofKey });
    const asked = ['1', '2', '1', '2', '2'].map((key) => by(key));
    expect(await statuses(fastify, asked)).toEqual([200, 200, 429, 200, 429]);
  }),
  held('a second client is not limited while the first one waits', async () => {
    const fastify = await app({ limit: 1 });
    const asked = [from('192.0.2.1'), from('192.0.2.1'), from('192.0.2.2')];
    expect(await statuses(fastify, asked)).toEqual([200, 429, 200]);
  }),
  held('the key may be a function', async () => {
    await both({ limit: 1, key: ofKey }, async (one) =>
      expect(await statuses(one, [by('a'), by('b'), by('a')])).toEqual([200, 200, 429]),
    );
  }),
  held('the key may come by a promise', async () => {
    const fastify = await app({ limit: 1, key: async (request) => ofKey(request) });
    expect(await statuses(fastify, [by('a'), by('b'), by('a')])).toEqual([200, 200, 429]);
  }),
  held('an error of the key fails the request', async () => {
    const fastify = await app({ limit: 1, key: () => Promise.reject(new Error('no key')) });
    expect(await statuses(fastify, 1)).toEqual([500]);
  }),
  held('IPv6 clients count by their /64', async () => {
    const fastify = await app({ limit: 1 });
    const asked = [from('2001:db8::1'), from('2001:db8::2'), from('2001:db8:0:1::1')];
    expect(await statuses(fastify, asked)).toEqual([200, 429, 200]);
  }),
  held('the length of an IPv6 network can be set', async () => {
    const fastify = await app({ limit: 1, ipv6Subnet: 48 });
    expect(await statuses(fastify, [from('2001:db8::1'), from('2001:db8:0:1::1')])).toEqual([
      200, 429,
    ]);
  }),
  held('forms of one address are one client', async () => {
    const fastify = await app({ limit: 1 });
    expect(await statuses(fastify, [from('::ffff:1.2.3.4'), from('1.2.3.4')])).toEqual([200, 429]);
  }),
  held("the address may be Fastify's request.ip", async () => {
    const key = ({ ip }: FastifyRequest) => addressKey(ip);
    const fastify = await app({ limit: 1, key }, undefined, { trustProxy: true });
    const via = (client: string) => ({ url: '/', headers: { 'x-forwarded-for': client } });
    const asked = [via('2001:db8::1'), via('2001:db8::2'), via('2001:db8:1::1')];
    expect(await statuses(fastify, asked)).toEqual([200, 429, 200]);
  }),
  held('an allow list of addresses excludes clients', async () => {
    const limiter = new RuleLimiter({
      clock,
      scopes: { address: { kind: 'address' } },
      rules: { all: { scope: 'address', quota: 1, windowSeconds: 60 } },
      allow: { address: ['192.0.2.1'] },
    });
    const fastify = await app({ limiter });
    const one = [from('192.0.2.1'), from('192.0.2.1')];
    const other = [from('192.0.2.2'), from('192.0.2.2')];
    expect(await statuses(fastify, [...one, ...other])).toEqual([200, 200, 200, 429]);
  }),
  held('an allow list may be a function', async () => {
    await both({ limit: 1, key: ofKey, skip: (request) => ofKey(request) === 'vip' }, async (one) =>
      expect(await statuses(one, [by('vip'), by('vip'), by('a'), by('a')])).toEqual([
        200, 200, 200, 429,
      ]),
    );
  }),
  held('an allow list may ask by a promise', async () => {
    const fastify = await app({ limit: 1, skip: async (request) => ofKey(request) === 'vip' });
    expect(await statuses(fastify, [by('vip'), by('vip'), by('a'), by('a')])).toEqual([
      200, 200, 200, 429,
    ]);
  }),
  held('a client on the allow list gets no fields', async () => {
    const { headers } = await (await app({ limit: 1, skip: () => true, ...LEGACY })).inject('/');
    expect(headers['x-ratelimit-limit']).toBeUndefined();
  }),
  differs('the default limit is 1,000', 'a limit must be given'),
  differs('a limit or window of NaN means the default', 'an error at registration'),
  differs('an invalid ipv6Subnet means 64', 'an error at registration'),
  differs('the window may be a text such as `1 minute`', '`windowSeconds: 60`'),
  differs('the window may be a function', 'one window for each registration or route'),
];

const refusals: Behaviour[] = [
  held('a body of your own for a refusal (errorResponseBuilder)', async () => {
    await both(
      {
        limit: 1,
        message: (_, __, { limit, retryAfterSeconds }) => ({ limit, retryAfterSeconds }),
      },
      async (one) =>
        expect((await last(one, 2)).json()).toEqual({ limit: 1, retryAfterSeconds: 60 }),
    );
  }),
  held('a refusal as an error for setErrorHandler', async () => {
    const fastify = await app({
      limit: 1,
      handler: (_, __, refusal) => {
        throw refusalError(refusal);
      },
    });
    fastify.setErrorHandler((error: Error & { statusCode?: number }, _, reply) =>
      reply.code(418).send({ was: error.statusCode }),
    );
    fastify.get('/a', async () => '');
    const { statusCode, body } = await last(fastify, 2, '/a');
    expect([statusCode, JSON.parse(body)]).toEqual([418, { was: 429 }]);
  }),
  held('an error of your own in place of a refusal', async () => {
    const handler = () => {
      throw Object.assign(new Error('mine'), { statusCode: 402 });
    };
    expect((await last(await app({ limit: 1, handler }), 2)).statusCode).toBe(402);
  }),
  held('an async handler that answers', async () => {
    const handler = async () => ({ mine: true });
    expect((await last(await app({ limit: 1, handler }), 2)).json()).toEqual({ mine: true });
  }),
  held('each allowed request is reported (onExceeding)', async () => {
    const verdicts = await verdictsOf({ limit: 2 }, 3);
    expect(verdicts.filter(({ did }) => did === 'passed')).toHaveLength(2);
  }),
  held('each refusal is reported, with request and key (onExceeded)', async () => {
    const refused = (await verdictsOf({ limit: 1 }, 3)).filter(({ did }) => did === 'refused');
    expect(refused.map(({ key, request }) => [key, request.url])).toEqual([
      ['127.0.0.1', '/'],
      ['127.0.0.1', '/'],
    ]);
  }),
  held('a ban is reported (onBanReach)', async () => {
    const verdicts = await verdictsOf({ limit: 1, ban: BAN }, 4);
    expect(verdicts.map(({ action }) => action)).toEqual([
      'allow',
      'delay',
      'disconnect',
      'disconnect',
    ]);
  }),
  held('after so many refusals a client is banned with 403', async () => {
    await both({ limit: 1, ban: BAN, statusCode: FORBIDDEN }, async (one) =>
      expect(await statuses(one, 4)).toEqual([200, 429, 403, 403]),
    );
  }),
  held(
    'the ban comes after n refusals (ban: n), although violations drain between them',
    async () => {
      for (const n of [1, 2, 3]) {
        const ban = { violations: n + 0.5, withinSeconds: 60, seconds: 60 };
        const fastify = await app({ limit: 1, ban, statusCode: FORBIDDEN });
        const found: number[] = [];
        for (let sent = 0; sent < n + 2; sent += 1) {
          found.push(...(await statuses(fastify, 1)));
          clock.now += 1;
        }
        expect(found).toEqual([200, ...Array(n).fill(429), 403]);
      }
    },
  ),
  held('the first refusal may ban', async () => {
    const options = { limit: 1, ban: { ...BAN, violations: 1 }, statusCode: FORBIDDEN };
    expect(await statuses(await app(options), 3)).toEqual([200, 403, 403]);
  }),
  held('a ban ends', async () => {
    const fastify = await app({ limit: 1, ban: BAN });
    await statuses(fastify, 4);
    clock.now += 60;
    expect(await statuses(fastify, 1)).toEqual([200]);
  }),
  held('a body of your own may say that it is a ban', async () => {
    const message = (_: unknown, __: unknown, { action }: { action: string }) => action;
    const fastify = await app({ limit: 1, ban: BAN, message });
    expect((await last(fastify, 3)).body).toBe('disconnect');
  }),
  held('a refused request does not reach later hooks nor the handler', async () => {
    const fastify = await app({ limit: 1 });
    let reached = 0;
    fastify.addHook('preValidation', async () => {
      reached += 1;
    });
    await last(fastify, 3);
    expect(reached).toBe(1);
  }),
  differs(
    'a refusal is an error, which goes to the error handler',
    'an answer, unless `handler` throws an error of it',
  ),
  differs(
    'a request during the wait begins the window anew (continueExceeding)',
    'a refused request takes nothing, so a client that waits for Retry-After passes',
  ),
  differs(
    'the wait grows with each refusal (exponentialBackoff)',
    '`ban` with lengths that grow, or an `OrderbookRateLimiter`',
  ),
];

const headers: Behaviour[] = [
  held('fields of draft 6 (enableDraftSpec)', async () => {
    const { headers } = await (await app({ limit: 2, headers: 6 })).inject('/');
    expect(headers).toMatchObject({ 'ratelimit-limit': '2', 'ratelimit-remaining': '1' });
    expect(headers['x-ratelimit-limit']).toBeUndefined();
  }),
  held('fields of draft 6 of a route', async () => {
    const { headers } = await (await routeApp({ limit: 2, headers: 6 })).inject('/');
    expect(headers).toMatchObject({ 'ratelimit-limit': '2', 'ratelimit-remaining': '1' });
  }),
  held('the reset of draft 6 counts down', async () => {
    const fastify = await app({ limit: 1, windowSeconds: 64, headers: 6 });
    await fastify.inject('/');
    clock.now += 16;
    expect((await fastify.inject('/')).headers['ratelimit-reset']).toBe('48');
  }),
  held('no fields at all', async () => {
    await both({ limit: 1, headers: false }, async (one) => {
      for (const { headers } of [await one.inject('/'), await one.inject('/')]) {
        expect(Object.keys(headers).filter((name) => name.includes('ratelimit'))).toEqual([]);
      }
    });
  }),
  held('a handler can leave out single fields of a refusal', async () => {
    const fastify = await app({
      limit: 1,
      ...LEGACY,
      handler: (_, reply) => {
        reply.removeHeader('retry-after').removeHeader('x-ratelimit-reset');
        return 'refused';
      },
    });
    const { headers } = await last(fastify, 2);
    expect(headers['x-ratelimit-limit']).toBe('1');
    expect([headers['retry-after'], headers['x-ratelimit-reset']]).toEqual([undefined, undefined]);
  }),
  differs(
    'single fields can be switched off (addHeaders, addHeadersOnExceeding)',
    '`headers: false`, or remove them in a hook: half of a statement misleads clients',
  ),
  differs('X-RateLimit-Reset is in seconds from now', 'in epoch seconds, as elsewhere'),
];

const routes: Behaviour[] = [
  held('a route can have a limit of its own', async () => {
    const fastify = await app({ limit: 3 }, { limit: 1 });
    fastify.get('/other', async () => '');
    expect(await statuses(fastify, ['/', '/', '/other', '/other', '/other', '/other'])).toEqual([
      200, 429, 200, 200, 200, 429,
    ]);
  }),
  held('with global: false only routes with options are limited', async () => {
    expect(await statuses(await app({ global: false, limit: 1 }), 3)).toEqual([200, 200, 200]);
  }),
  held('a route can be left out', async () => {
    expect(await statuses(await app({ limit: 1 }, false), 3)).toEqual([200, 200, 200]);
  }),
  held('invalid options of a route are an error where it is added', async () => {
    const fastify = await app({ limit: 1 });
    const add = () => fastify.get('/a', { config: { rateLimit: 'yes' as never } }, async () => '');
    expect(add).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
  }),
  held('a route may have other config', async () => {
    const fastify = await app({ limit: 1 });
    const config = { mine: 5, rateLimit: { limit: 2 } };
    fastify.get('/a', { config }, async ({ routeOptions }) => routeOptions.config);
    expect((await fastify.inject('/a')).json()).toMatchObject({ mine: 5 });
  }),
  held("a route takes the plugin's window unless it names its own", async () => {
    const fastify = await app({ global: false, windowSeconds: 30 }, { limit: 1 });
    expect((await last(fastify, 2)).headers['retry-after']).toBe('30');
  }),
  held("a route's hooks run beside that of the plugin", async () => {
    const fastify = await app({ limit: 1 });
    let calls = 0;
    const onRequest = async () => {
      calls += 1;
    };
    fastify.get('/a', { onRequest }, async () => '');
    fastify.get('/b', { onRequest: [onRequest, onRequest] }, async () => '');
    await fastify.inject({ url: '/a', remoteAddress: '192.0.2.1' });
    await fastify.inject({ url: '/b', remoteAddress: '192.0.2.2' });
    expect(calls).toBe(3);
  }),
  held('hook: preHandler counts after the hooks before', async () => {
    const fastify = Fastify();
    open.push(fastify);
    fastify.decorateRequest('user', '');
    const ofUser = (request: FastifyRequest) => (request as { user?: string }).user ?? '';
    fastify.addHook('preValidation', async (request) => {
      (request as { user?: string }).user = ofKey(request);
    });
    const options = { ...MINUTE, limit: 1, hook: 'preHandler', key: ofUser } as const;
    await fastify.register(rateLimit, options);
    fastify.get('/', async () => '');
    expect(await statuses(fastify, [by('a'), by('b'), by('a')])).toEqual([200, 200, 429]);
  }),
  held('hook: preValidation of a route', async () => {
    const fastify = await routeApp({ limit: 1, hook: 'preValidation' });
    expect(await statuses(fastify, 2)).toEqual([200, 429]);
  }),
  held('hook: undefined means onRequest', async () => {
    expect(await statuses(await app({ limit: 1, hook: undefined }), 2)).toEqual([200, 429]);
  }),
  held('HEAD and GET of a route share a limit, and count once', async () => {
    const fastify = await routeApp({ limit: 2 });
    const head = { method: 'HEAD', url: '/' } as const;
    expect(await statuses(fastify, [head, '/', head])).toEqual([200, 200, 429]);
  }),
  held('the allow list of a route goes before that of the plugin', async () => {
    const fastify = await app({ limit: 1, skip: () => true }, { skip: () => false });
    fastify.get('/other', async () => '');
    expect(await statuses(fastify, ['/', '/', '/other', '/other'])).toEqual([200, 429, 200, 200]);
  }),
  held('a context below can have options of its own', async () => {
    const fastify = await app({ limit: 5 });
    await fastify.register(async (child) => {
      await child.register(rateLimit, { ...MINUTE, limit: 1, key: ofKey });
      child.get('/child', async () => '');
    });
    expect(await statuses(fastify, [by('a', '/child'), by('a', '/child')])).toEqual([200, 429]);
  }),
  held('several registrations in different contexts', async () => {
    const fastify = Fastify();
    open.push(fastify);
    for (const limit of [1, 2]) {
      await fastify.register(async (child) => {
        await child.register(rateLimit, { ...MINUTE, limit });
        child.get(`/${limit}`, async () => '');
      });
    }
    expect(await statuses(fastify, ['/1', '/1', '/2', '/2', '/2'])).toEqual([
      200, 429, 200, 200, 429,
    ]);
  }),
  held('app.rateLimit(options) is a hook of a route', async () => {
    const fastify = await app({ global: false });
    const preHandler = fastify.rateLimit({ limit: 1 });
    fastify.get('/a', { preHandler }, async () => '');
    expect(await statuses(fastify, ['/a', '/a'])).toEqual([200, 429]);
  }),
  held('app.rateLimit() does not count a request twice', async () => {
    const fastify = await app({ limit: 2 });
    fastify.get('/a', { preHandler: fastify.rateLimit() }, async () => '');
    expect(await statuses(fastify, ['/a', '/a', '/a'])).toEqual([200, 200, 429]);
  }),
  held(
    'app.rateLimit with other options than a limit counts by the limit of the plugin',
    async () => {
      const fastify = await app({ global: false, limit: 1 });
      const preHandler = fastify.rateLimit({ statusCode: 420 });
      fastify.get('/a', { preHandler }, async () => '');
      expect(await statuses(fastify, ['/a', '/a'])).toEqual([200, 420]);
    },
  ),
  held('requests without a route can be limited', async () => {
    const fastify = await app({ limit: 1 });
    expect(await statuses(fastify, ['/missing', '/missing'])).toEqual([404, 429]);
  }),
  held('a not-found handler can have a limit of its own', async () => {
    const fastify = await app({ global: false });
    fastify.setNotFoundHandler({ preHandler: fastify.rateLimit({ limit: 1 }) }, (_, reply) => {
      reply.code(404).send('none');
    });
    expect(await statuses(fastify, ['/missing', '/missing'])).toEqual([404, 429]);
  }),
  held('routes of a group share a limit (groupId)', async () => {
    const fastify = await app({ limit: 9 });
    const config = { rateLimit: { limit: 2, group: 'otp' } };
    for (const url of ['/send', '/resend']) fastify.get(url, { config }, async () => '');
    expect(await statuses(fastify, ['/send', '/resend', '/send', '/resend'])).toEqual([
      200, 200, 429, 429,
    ]);
  }),
  held('groups and routes without one do not share', async () => {
    const fastify = await app({ global: false });
    const own = (group?: string) => ({ config: { rateLimit: { limit: 1, group } } });
    fastify.get('/a', own('a'), async () => '');
    fastify.get('/b', own('b'), async () => '');
    fastify.get('/c', own(), async () => '');
    const asked = ['/a', '/b', '/c', '/a', '/b', '/c'];
    expect(await statuses(fastify, asked)).toEqual([200, 200, 200, 429, 429, 429]);
  }),
  held('a group that is no text is an error', async () => {
    const fastify = await app({ limit: 1 });
    const config = { rateLimit: { limit: 1, group: 5 as never } };
    expect(() => fastify.get('/a', { config }, async () => '')).toThrow(/group/);
  }),
  differs('only routes that are added after the plugin are limited', 'every route of the context'),
  differs('hook may be preParsing', 'onRequest, preValidation or preHandler'),
  differs(
    'a route and app.rateLimit together count a request once',
    'each hook with options of its own counts',
  ),
];

const checks: Behaviour[] = [
  held('a handler can ask for what is left', async () => {
    const fastify = await app({ limit: 2 });
    fastify.get('/a', async (request) => rateLimitOf(request));
    expect((await fastify.inject('/a')).json()).toMatchObject({ limit: 2, remaining: 1 });
  }),
  held('a check by hand (createRateLimit)', async () => {
    const limiter = new RateLimiter({ rateLimit: 1 / 60, burstLimit: 1, clock });
    const fastify = await app({ global: false });
    fastify.get('/a', async ({ ip }, reply) => {
      const [action] = limiter.check(addressKey(ip));
      return reply.code(action === 'allow' ? 200 : 429).send();
    });
    expect(await statuses(fastify, ['/a', '/a'])).toEqual([200, 429]);
  }),
  held('a look by hand that counts nothing (increment: false)', async () => {
    const limiter = new RuleLimiter({
      clock,
      scopes: { address: { kind: 'address' } },
      rules: { all: { scope: 'address', quota: 1, windowSeconds: 60 } },
    });
    const fastify = await app({ limiter });
    for (let n = 0; n < 3; n += 1) {
      expect(limiter.peek('127.0.0.1').verdict.outcome).toBe('allow');
    }
    expect(await statuses(fastify, 2)).toEqual([200, 429]);
    expect(limiter.peek('127.0.0.1').verdict.outcome).toBe('delay');
  }),
  held('only failed logins count', async () => {
    const fastify = await app({ limit: 2, refundWhen: (_, { statusCode }) => statusCode < 400 });
    fastify.get('/login', async (request, reply) =>
      reply.code(ofKey(request) === 'right' ? 200 : 401).send(),
    );
    const asked = ['right', 'right', 'wrong', 'right', 'wrong', 'right'];
    const found = await statuses(
      fastify,
      asked.map((key) => by(key, '/login')),
    );
    expect(found).toEqual([200, 200, 401, 200, 401, 429]);
  }),
  held('counts shared by Redis', async () => {
    const limiter = sharedLimiter(clock, { mode: 'local', rateLimit: 1, burstLimit: 1 });
    expect(await statuses(await app({ limiter }), 2)).toEqual([200, 429]);
    await limiter.close();
  }),
  held('a store that fails can let requests pass (skipOnError)', async () => {
    const options = { rateLimit: 1, burstLimit: 1, onStoreFailure: 'open' } as const;
    const limiter = sharedLimiter(clock, options, { isAway: true });
    expect(await statuses(await app({ limiter }), 2)).toEqual([200, 200]);
    await limiter.close();
  }),
  held('a store that fails can refuse requests', async () => {
    const options = { rateLimit: 1, burstLimit: 1, onStoreFailure: 'closed' } as const;
    const limiter = sharedLimiter(clock, options, { isAway: true });
    expect(await statuses(await app({ limiter }), 1)).toEqual([429]);
    await limiter.close();
  }),
  held('closing the app closes the limits', async () => {
    const fastify = await app({ limit: 1 });
    await fastify.close();
    expect(await fastify.inject('/').catch(({ code }) => code)).toBe(
      'FST_ERR_REOPENED_CLOSE_SERVER',
    );
  }),
  differs('a store of your own', 'a limiter of this package, in the process or by Redis'),
  differs('a store that fails makes an error of the request', '`onStoreFailure` decides instead'),
];

testBehaviours('@fastify/rate-limit', 55, {
  limits,
  refusals,
  'its fields': headers,
  'its routes': routes,
  'checks by hand and stores': checks,
});
