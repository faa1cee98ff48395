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
import { RULE_NUMBERS, RULE_SLOTS } from '../dist/engine/rules.js';
import { buildPlan } from './rules/plans.js';
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

  describe('a rule limiter', () => {
    const addon = () => createRequire(import.meta.url)(engineInfo().path as string);
    const rule = { rate: 1, burst: 1, violation: false };
    const spec = {
      scopes: { keyed: false, single: true },
      rules: { one: { ...rule, scope: 'keyed' }, other: { ...rule, scope: 'single' } },
    };
    const plan = { ...buildPlan(spec).plan, added: new Uint16Array(2) };
    const ban = {
      ...{ violations: 1, withinSeconds: 1, seconds: [1], jitter: 0 },
      forgetAfterSeconds: Number.POSITIVE_INFINITY,
    };
    const create = (change: object = {}, ...buffers: unknown[]) => {
      const config = { maxPeers: 10, single: [false, true], plan: { ...plan, ...change } };
      const [numbers, slots] = buffers.length > 0 ? buffers : [RULE_NUMBERS, RULE_SLOTS];
      // Other limiters of the process have left their costs.
      RULE_NUMBERS.fill(0);
      return new (addon().RuleLimiter)(config, new BigUint64Array(2), numbers, slots);
    };

    test.each([
      ['of another size', new Float64Array(63), RULE_SLOTS],
      ['of another type', new Float32Array(64), RULE_SLOTS],
      ['without slots', RULE_NUMBERS, undefined],
      ['with too few slots', RULE_NUMBERS, new Int32Array(39)],
    ])('throws for buffers %s', (_, numbers, slots) => {
      expect(() => create({}, numbers, slots)).toThrow(TypeError);
    });

    test.each<[string, object]>([
      ['no plan', { plans: 0 }],
      ['too many plans', { plans: 257 }],
      ['a fraction of an action', { actions: 1.5 }],
      ['rates for other scopes', { rates: new Float64Array(25) }],
      ['rates of another type', { rates: new Float32Array(26) }],
      ['a rule that applies and has no slot', { applies: new Uint16Array([2, 1]) }],
      ['more slots than a record has', { slots: new Uint8Array([14, 1]) }],
      ['an unknown unit', { units: new Uint8Array(26).fill(8) }],
      ['bans of another number of scopes', { bans: [] }],
      ['a ban without a length', { bans: [{ ...ban, seconds: [] }, undefined] }],
      ['a ban of another length', { bans: [{ ...ban, seconds: [1, Number.NaN] }, undefined] }],
      ['a ban without a limit', { bans: [{ ...ban, violations: undefined }, undefined] }],
    ])('throws for a plan with %s, also in an update, and changes nothing', (_, change) => {
      expect(() => create(change)).toThrow(TypeError);
      const limiter = create();
      expect(() => limiter.update({ ...plan, ...change }, 1)).toThrow(TypeError);
      expect(limiter.peek(['peer'], 3, 0, 1).answer).toBeUndefined();
    });

    test('throws for an update from a plan that does not exist', () => {
      expect(() => create().update({ ...plan, origins: new Uint16Array([1]) }, 1)).toThrow(
        TypeError,
      );
    });

    test('throws for a scope, a program or a number that does not exist', () => {
      const limiter = create();
      const { callArguments, RuleLimiter } = addon();
      const set = (...numbers: number[]) => new Int32Array(callArguments, 16, 3).set(numbers);
      for (const [mask, program] of [
        [4, 0],
        [-1, 0],
        [1, 1],
        [1, -1],
      ] as const) {
        for (const call of ['check', 'checkPeer', 'refund', 'charge', 'open']) {
          set(limiter.number, mask, program);
          expect(() => RuleLimiter[call]('peer'), `${call} ${mask} ${program}`).toThrow(noKey);
        }
      }
      set(2 ** 20, 1, 0);
      expect(() => RuleLimiter.check('peer')).toThrow(noKey);
      for (const scope of [1, 2, -1, 'x']) {
        expect(() => limiter.ban(scope, 'peer', 1, 1)).toThrow(TypeError);
        expect(() => limiter.statistics(scope)).toThrow(TypeError);
        expect(() => limiter.openWalk(scope)).toThrow(TypeError);
      }
      set(limiter.number, 1, 0);
      expect(() => RuleLimiter.check(NO_KEY)).toThrow(noKey);
    });

    test('asks for the keys if the slots of an opened peer are empty', () => {
      const limiter = create();
      const { callArguments, RuleLimiter } = addon();
      RULE_SLOTS.fill(0);
      RULE_NUMBERS.fill(0.25, 0, 1);
      const now = 1000;
      new Float64Array(callArguments, 8, 1)[0] = now;
      new Int32Array(callArguments, 16, 3).set([limiter.number, 1, 0]);
      expect(RuleLimiter.checkPeer()).toBe(5);
      // A peer without a record has no place.
      RuleLimiter.open('peer');
      expect(RuleLimiter.checkPeer()).toBe(5);
      expect(RuleLimiter.checkAndOpen('peer')).toBeUndefined();
      expect(RuleLimiter.checkPeer()).toBe(5);
      expect(RuleLimiter.checkAndOpen('peer')).toBeUndefined();
      expect(RuleLimiter.checkPeer()).toBeUndefined();
      expect(limiter.peek(['peer'], 1, 0, now).used[0]).toBe(0.75);
    });
  });
});
