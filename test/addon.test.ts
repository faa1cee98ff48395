// The addon: what the facades rely on and never show.

import { createRequire } from 'node:module';
import {
  DirectConnectionRateLimiter,
  engineInfo,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import {
  BAN_BEGINS,
  DISCONNECT,
  REFUSED,
  VERDICT_ALLOW,
  VERDICT_DELAY,
  VERDICT_DISCONNECT,
} from '../dist/engine/engine.js';
import { TESTS_NATIVE } from './support/limiters.js';

const engine = 'native';
// The raw functions and the handles, which are nobody's business outside.
const coreOf = (limiter: object) => (limiter as { core: Record<string, Call> }).core;
type Call = (...rest: unknown[]) => unknown;

const NO_KEY = 5;
const noKey = expect.objectContaining({ code: 'ERR_LIMITER_KEY' });

describe.runIf(TESTS_NATIVE)('the addon', () => {
  test.each([
    ['RateLimiter', 'check', 'checkPeer', () => new RateLimiter({ engine })],
    [
      'OrderbookRateLimiter',
      'check',
      'checkPeer',
      () => new OrderbookRateLimiter({ engine, interval: 0 }),
    ],
    [
      'DirectConnectionRateLimiter',
      'checkMessage',
      'checkPeer',
      () => new DirectConnectionRateLimiter({ engine }),
    ],
    [
      'DirectConnectionRateLimiter',
      'checkOrderbook',
      'checkPeerOrderbook',
      () => new DirectConnectionRateLimiter({ engine, orderbookInterval: 0 }),
    ],
  ])('%s.%s reads no key of a peer whose record has not moved', (_, check, checkPeer, create) => {
    const limiter = create();
    const core = coreOf(limiter);
    const peer = limiter.open('peer') as unknown as Record<string, Call>;
    const checkAgain = () => core[checkPeer]?.(NO_KEY);
    peer[check]?.();
    // Its seat is what the last check has left.
    expect(checkAgain()).toBeUndefined();
    limiter.removePeer('peer');
    expect(checkAgain).toThrow(noKey);
  });

  test('a number that is no limiter’s is refused', () => {
    const limiter = new RateLimiter({ engine });
    const addon = createRequire(import.meta.url)(engineInfo().path as string);
    const number = new Int32Array(addon.callArguments, 16, 1);
    // Small numbers may be those of limiters that other tests have made.
    for (const nobody of [-1, 2 ** 20, 2 ** 31 - 1, -(2 ** 31)]) {
      number[0] = nobody;
      const { RateLimiter, OrderbookLimiter, LeaseTable } = addon;
      for (const call of [RateLimiter.check, OrderbookLimiter.isBanned, LeaseTable.spend]) {
        expect(() => call('peer')).toThrow(noKey);
      }
    }
    expect(limiter.check('peer')[0]).toBe('allow');
  });

  test('a group of another limiter is refused, and so is what is none', () => {
    const [core, other] = [
      coreOf(new RateLimiter({ engine })),
      coreOf(new RateLimiter({ engine })),
    ];
    const group = other['openGroup']?.();
    for (const stranger of [group, undefined, {}]) {
      expect(() => core['checkGroup']?.(stranger, [], new Uint8Array(0), 1)).toThrow(noKey);
      expect(() => core['addMember']?.(stranger, 'peer')).toThrow(noKey);
    }
    expect(other['checkGroup']?.(group, [], new Uint8Array(0), 1)).toBeUndefined();
  });

  test('checks return the constants of engine.ts', () => {
    const now = 1000;
    const limits = { engine, burstLimit: 1, disconnectThreshold: 2 } as const;
    const checks = (core: Record<string, Call>, ...rest: unknown[]) =>
      [1, 2, 3].map(() => core['check']?.('peer', ...rest));
    const answers = checks(coreOf(new RateLimiter(limits)), 1, now);
    expect(answers).toEqual([undefined, expect.any(Number), DISCONNECT]);
    const bans = { engine, interval: 10, violationBanThreshold: 1 } as const;
    const refusals = checks(coreOf(new OrderbookRateLimiter(bans)), now);
    expect(refusals).toEqual([undefined, REFUSED, BAN_BEGINS]);

    const core = coreOf(new RateLimiter(limits));
    const group = core['openGroup']?.();
    core['addMember']?.(group, 'peer');
    const verdicts = [1, 2, 3].map(() => {
      const verdict = new Uint8Array([255]);
      core['checkGroup']?.(group, ['peer'], verdict, 1, now);
      return verdict[0];
    });
    expect(verdicts).toEqual([VERDICT_ALLOW, VERDICT_DELAY, VERDICT_DISCONNECT]);
  });
});
