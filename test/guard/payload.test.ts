// The length of the longest message that a guard with a RuleLimiter receives.

import {
  type EngineName,
  type RuleLimiterOptions as Options,
  RuleLimiter,
  type RuleSections,
} from 'relay-limiter';
import { guardWebSocketServer, type WebSocketGuardOptions } from 'relay-limiter/ws';
import { describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { ENGINES } from '../support/limiters.js';

const SCOPES = {
  connection: {},
  address: { kind: 'address' },
  network: { from: 'address', ipv4Subnet: 24 },
  account: {},
  server: { single: true },
} as const;
const GIVEN = 5000;

/** A rule by bytes with this burst. */
const bytes = (burstLimit: number, fields: object = {}) => ({
  scope: 'connection',
  unit: 'bytes',
  rateLimit: 1,
  burstLimit,
  ...fields,
});

function guarded(
  limits: RuleSections,
  options: WebSocketGuardOptions = {},
  engine: 'auto' | EngineName = 'auto',
) {
  const server = new WebSocketServer({ noServer: true, maxPayload: GIVEN });
  const limiter = new RuleLimiter({ engine, scopes: SCOPES, rules: {}, ...limits } as Options);
  const guard = guardWebSocketServer(server, { limiter, ...options });
  /** A client connects. The socket is destroyed, so the upgrade ends there. */
  const connect = () => {
    const socket = { destroyed: true, writable: false, on() {}, once() {}, destroy() {}, end() {} };
    const request = { socket, headers: {}, method: 'GET' };
    server.handleUpgrade(request as never, socket as never, Buffer.alloc(0), () => {});
  };
  return { server, guard, limiter, connect };
}

describe('maxPayload of a guarded server with a RuleLimiter', () => {
  const event = { action: 'event' };
  const message = { action: 'message' };
  const classified = { classify: () => undefined };
  test.each<[string, RuleSections, WebSocketGuardOptions, number]>([
    ['the burst of a rule by bytes', { rules: { a: bytes(100) } }, {}, 100],
    ['the whole bytes of a burst', { rules: { a: bytes(100.9) } }, {}, 100],
    ['the smallest burst', { rules: { a: bytes(100), b: bytes(90, { scope: 'server' }) } }, {}, 90],
    ['that of an address', { rules: { a: bytes(100, { scope: 'address' }) } }, {}, 100],
    ['that of its network', { rules: { a: bytes(100, { scope: 'network' }) } }, {}, 100],
    ['that of messages', { rules: { a: bytes(100, message) } }, {}, 100],
    ['the own one, which is lower', { rules: { a: bytes(6000) } }, {}, GIVEN],
    ['the own one without such a rule', { rules: { a: bytes(100, { unit: 'rows' }) } }, {}, GIVEN],
    [
      'the own one with a rule on dry run',
      { rules: { a: bytes(100, { dryRun: true }) } },
      {},
      GIVEN,
    ],
    [
      'the own one if not all have the key',
      { rules: { a: bytes(100, { scope: 'account' }) } },
      {},
      GIVEN,
    ],
    ['the own one if the rule is for others', { rules: { a: bytes(100, event) } }, {}, GIVEN],
    [
      'the own one if some messages have no rule',
      { rules: { a: bytes(100, message) } },
      classified,
      GIVEN,
    ],
    [
      'the largest of all actions',
      { rules: { a: bytes(200), b: bytes(100, message), c: bytes(150, event) } },
      classified,
      200,
    ],
    [
      'the largest of all plans',
      { rules: { a: bytes(100) }, plans: { paid: { a: { burstLimit: 300 } } } },
      {},
      300,
    ],
    [
      'the own one if a plan has no such rule',
      { rules: { a: bytes(100) }, plans: { paid: { a: null } } },
      {},
      GIVEN,
    ],
    [
      'the own one if an allow list has no limit',
      { rules: { a: bytes(100) }, allow: { address: ['10.0.0.0/8'] } },
      {},
      GIVEN,
    ],
  ])('is %s', (_, limits, options, expected) => {
    const { server, guard } = guarded(limits, options);
    expect(server.options.maxPayload).toBe(expected);
    guard.close();
    expect(server.options.maxPayload).toBe(GIVEN);
  });

  test('follows an update at the next connection, until the guard is closed', () => {
    const { server, limiter, connect, guard } = guarded({ rules: { a: bytes(100) } });
    const next = (rules: Options['rules']) => {
      limiter.update({ rules });
      connect();
      return server.options.maxPayload;
    };
    expect(next({ a: bytes(300) })).toBe(300);
    expect(next({ a: bytes(9000) })).toBe(GIVEN);
    expect(next({ a: bytes(50) })).toBe(50);
    guard.close();
    connect();
    expect(server.options.maxPayload).toBe(GIVEN);
  });

  test('stays as other code has set it meanwhile', () => {
    const { server, limiter, connect, guard } = guarded({ rules: { a: bytes(100) } });
    server.options.maxPayload = 70;
    limiter.update({ rules: { a: bytes(50) } });
    connect();
    guard.close();
    expect(server.options.maxPayload).toBe(70);
  });
});

test.each(ENGINES)('No message above maxPayload is allowed on the %s engine', (engine) => {
  const { server, limiter } = guarded(
    {
      rules: {
        a: bytes(100),
        b: bytes(60, { action: 'event' }),
        c: bytes(80, { scope: 'server' }),
      },
      plans: { paid: { c: { burstLimit: 90 } }, rich: { a: { burstLimit: 70 } } },
    },
    { classify: () => undefined },
    engine,
  );
  const bound = server.options.maxPayload as number;
  const allows = (cost: number) =>
    ['event', 'message'].some((action) =>
      [undefined, 'paid', 'rich'].some((plan) => {
        const { verdict } = limiter.peek({ connection: 'a' }, { bytes: cost }, action, plan);
        return verdict.outcome === 'allow';
      }),
    );
  expect([bound, allows(bound), allows(bound + 1)]).toEqual([90, true, false]);
});
