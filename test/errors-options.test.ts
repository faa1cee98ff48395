// Values that no function accepts as options or as any other argument: other objects than options, and revoked proxies.

import { createServer } from 'node:net';
import { runInNewContext } from 'node:vm';
import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  TokenBucket,
} from 'relay-limiter';
import { addressKey, addressResolver } from 'relay-limiter/address';
import { limitFetch, limitInterceptor, PolicyLimiter, UpstreamPool } from 'relay-limiter/client';
import { createDashboard } from 'relay-limiter/dashboard';
import plugin from 'relay-limiter/fastify';
import { formatRateLimitHeaders, parseProblem, parseRateLimitHeaders } from 'relay-limiter/headers';
import { rateLimit } from 'relay-limiter/http';
import { collectMetrics } from 'relay-limiter/metrics';
import { guardLineServer } from 'relay-limiter/net';
import { keepSnapshot, loadSnapshot, saveSnapshot } from 'relay-limiter/persist';
import { SharedBans, SharedRateLimiter } from 'relay-limiter/redis';
import { guardWebSocketServer } from 'relay-limiter/ws';
import { describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { codeOf } from './support/limiters.js';

/** A proxy that throws a TypeError whatever is done with it. */
function revoked(target: object = {}): never {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy as never;
}

describe('An argument that is not an object of options is rejected', () => {
  const limiter = new RateLimiter();
  const policies = [{ quota: 1, windowSeconds: 1 }];
  const requests = new PolicyLimiter({ policies });
  const pool = new UpstreamPool({ node: { policies: [{ w: 1, v: 1 }] } });
  const server = createServer();
  const webSockets = new WebSocketServer({ noServer: true });
  const READERS: [name: string, call: (options: never) => unknown][] = [
    ['RateLimiter', (options) => new RateLimiter(options)],
    ['OrderbookRateLimiter', (options) => new OrderbookRateLimiter(options)],
    ['DirectConnectionRateLimiter', (options) => new DirectConnectionRateLimiter(options)],
    ['TokenBucket', (options) => new TokenBucket(1, 1, options)],
    ['cleanup', (cleanup) => new RateLimiter({ cleanup })],
    ['a cleanup', (limits) => limiter.cleanupOldPeers(1, limits)],
    ['addressKey', (options) => addressKey('192.0.2.1', options)],
    ['clientAddress', (options) => addressResolver(options)],
    ['rateLimit', (options) => rateLimit(options)],
    ['guardWebSocketServer', (options) => guardWebSocketServer(webSockets, options)],
    ['guardLineServer', (options) => guardLineServer(server, options)],
    ['connections', (connections) => guardLineServer(server, { connections })],
    ['a rule of messages', (messages) => guardLineServer(server, { messages })],
    ['PolicyLimiter', (options) => new PolicyLimiter(options)],
    ['policies[0]', (policy) => new PolicyLimiter({ policies: [policy] })],
    ['update', (options) => requests.update({ policies: [], limits: [] } as never, 200, options)],
    ['UpstreamPool', (options) => new UpstreamPool({ node: { policies: [] } }, options)],
    ['limitFetch', (options) => limitFetch(fetch, requests, options)],
    ['limitInterceptor', (options) => limitInterceptor(requests, options)],
    ['parseRateLimitHeaders', (options) => parseRateLimitHeaders({}, options)],
    ['keepSnapshot', (options) => keepSnapshot(limiter, 'file', options)],
    ['createDashboard', (options) => createDashboard(options)],
    ['collectMetrics', (options) => collectMetrics(options)],
    ['SharedRateLimiter', (options) => new SharedRateLimiter(options)],
    ['SharedBans', (options) => new SharedBans(options)],
  ];

  test.each(READERS)('by %s', (name, call) => {
    class Nothing {}
    for (const [options, got] of [
      [new Map([['rateLimit', 5]]), 'a Map'],
      [new Set(), 'a Set'],
      [new Date(), 'a Date'],
      [new Error('options'), 'an Error'],
      [Promise.resolve({}), 'a Promise'],
      [new Headers(), 'a Headers'],
      [new Nothing(), 'an object'],
      [revoked(), 'a revoked proxy'],
      [revoked(() => {}), 'a revoked proxy'],
    ]) {
      const given = () => call(options as never);
      expect(codeOf(given), String(got)).toBe('ERR_LIMITER_OPTION');
      expect(given).toThrow(TypeError);
      // Rules are looked for in a list, which a revoked proxy might be.
      const mayBeNamed = got === 'a revoked proxy' ? /must be .*, got a revoked proxy$/ : undefined;
      expect(given).toThrow(
        mayBeNamed ?? `the options of ${name} must be an object of options, got ${got}`,
      );
    }
  });

  test('by acquire, with a rejected promise', async () => {
    for (const options of [new Map(), revoked()] as never[]) {
      for (const from of [requests, pool]) {
        await expect(from.acquire(options)).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
      }
    }
  });

  test('by the Fastify plugin and for its routes', async () => {
    for (const options of [new Map(), revoked()] as never[]) {
      const isRefused = { code: 'ERR_LIMITER_OPTION' };
      await expect(plugin({} as never, options)).rejects.toMatchObject(isRefused);
    }
  });

  test('unless it is an instance of a class that has options', () => {
    class Fields {
      rateLimit = 2;
    }
    class Getters {
      get rateLimit() {
        return 2;
      }
    }
    const others = [new Fields(), new Getters(), Object.create({ rateLimit: 2 })];
    for (const options of others) expect(new RateLimiter(options).rateLimit).toBe(2);
    const foreign = runInNewContext('({ rateLimit: 2 })');
    expect(new RateLimiter(foreign).rateLimit).toBe(2);
    expect(codeOf(() => new RateLimiter(runInNewContext('new Map()')))).toBe('ERR_LIMITER_OPTION');
  });
});

describe('A revoked proxy is rejected with a code as', () => {
  const limiter = new RateLimiter();
  const requests = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 1 }] });
  const pool = new UpstreamPool({ node: { policies: [{ w: 1, v: 1 }] } });
  const snapshot = { format: 1, limiter: 'RateLimiter' };
  const policySnapshot = requests.snapshot();

  test.each<[what: string, code: string, call: () => unknown]>([
    ['a clock', 'OPTION', () => new RateLimiter({ clock: revoked(() => 1) })],
    ['a rate', 'OPTION', () => new RateLimiter({ rateLimit: revoked() })],
    ['a key', 'KEY', () => limiter.check(revoked())],
    ['a cost', 'COST', () => limiter.check('peer', revoked())],
    ['the members of a group', 'OPTION', () => limiter.group(revoked([]))],
    ['a member of a group', 'KEY', () => limiter.group([revoked()])],
    ['the verdicts of a group', 'OPTION', () => limiter.group(['a']).check(1, revoked())],
    ['a snapshot', 'SNAPSHOT', () => limiter.restore(revoked())],
    [
      'the peers of a snapshot',
      'SNAPSHOT',
      () => limiter.restore({ ...snapshot, peers: revoked([]) }),
    ],
    [
      'a peer of a snapshot',
      'SNAPSHOT',
      () => limiter.restore({ ...snapshot, peers: [revoked()] }),
    ],
    ['a snapshot of policies', 'SNAPSHOT', () => requests.restore(revoked())],
    [
      'a list of that',
      'SNAPSHOT',
      () => requests.restore({ ...policySnapshot, limits: revoked([]) }),
    ],
    ['a snapshot of a pool', 'SNAPSHOT', () => pool.restore(revoked())],
    ['the nodes of that', 'SNAPSHOT', () => pool.restore({ ...pool.snapshot(), nodes: revoked() })],
    ['a node file', 'OPTION', () => new UpstreamPool(revoked())],
    ['a node', 'OPTION', () => new UpstreamPool({ node: revoked() })],
    ['its policies', 'OPTION', () => new UpstreamPool({ node: { policies: revoked([]) } })],
    ['a policy of it', 'OPTION', () => new UpstreamPool({ node: { policies: [revoked()] } })],
    ['what a server said', 'OPTION', () => requests.update(revoked(), 200)],
    ['a lease', 'OPTION', () => pool.fail(revoked())],
    ['the limiter of a fetch', 'OPTION', () => limitFetch(fetch, revoked())],
    ['the limiter of an interceptor', 'OPTION', () => limitInterceptor(revoked())],
    ['the limiter of a middleware', 'OPTION', () => rateLimit({ limiter: revoked() })],
    ['a guarded server', 'OPTION', () => guardLineServer(revoked())],
    ['a guarded server of ws', 'OPTION', () => guardWebSocketServer(revoked())],
    ['a kept limiter', 'OPTION', () => keepSnapshot(revoked(), 'file')],
    ['a limiter of a dashboard', 'OPTION', () => createDashboard({ limiters: { a: revoked() } })],
    ['the limiters of a dashboard', 'OPTION', () => createDashboard({ limiters: revoked() })],
    ['a client of a store', 'OPTION', () => new SharedRateLimiter({ client: revoked() })],
    ['headers', 'OPTION', () => parseRateLimitHeaders(revoked())],
    ['what headers say', 'OPTION', () => formatRateLimitHeaders(revoked())],
    ['their limits', 'OPTION', () => formatRateLimitHeaders({ limits: [revoked()] })],
  ])('%s', (_, code, call) => {
    expect(codeOf(call)).toBe(`ERR_LIMITER_${code}`);
  });

  test('a limiter that is saved or loaded, with a rejected promise', async () => {
    for (const wrong of [revoked(), {}, null, limiter.open('peer')] as never[]) {
      const refusal = { code: 'ERR_LIMITER_OPTION' };
      await expect(saveSnapshot(wrong, 'file')).rejects.toMatchObject(refusal);
      await expect(loadSnapshot(wrong, 'file')).rejects.toMatchObject(refusal);
    }
  });

  test('a problem, which is parsed as null', () => {
    expect(parseProblem(revoked())).toEqual({ problem: null, violated: [] });
  });
});
