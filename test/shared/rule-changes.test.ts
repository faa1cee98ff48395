// RuleLimiters with one shared table while another process changes the rules in the middle of a call.

import { RuleLimiter, type RuleLimiterOptions, removeShared } from 'relay-limiter';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { RULE_OUTDATED } from '../../dist/engine/rules.js';
import { codeOf, TESTS_NATIVE } from '../support/limiters.js';
import { newName } from './support/members.js';

const SLOW = 1e-9;
const KEYS = { peer: 'alice' };

const peerRule = { scope: 'peer', rateLimit: SLOW, burstLimit: 20 } as const;
const serverRule = { scope: 'server', rateLimit: SLOW, burstLimit: 20 } as const;
const OPTIONS = {
  scopes: { peer: {}, server: { single: true } },
  rules: { first: peerRule, everybody: serverRule },
  maxPeers: 100,
} as const satisfies RuleLimiterOptions;
/** Gives the slots of both rules to other rules. */
const UPDATE = { rules: { second: peerRule, others: serverRule } };

type Method = 'totals' | 'saveSingle' | 'walk' | 'statistics' | 'restoreSingle' | 'restoreDigests';

/** Two limiters that share a table, until the test ends. */
function pair(options: Partial<RuleLimiterOptions> = {}): [RuleLimiter, RuleLimiter] {
  const shared = newName();
  onTestFinished(() => {
    removeShared(shared);
  });
  return [0, 1].map(() => {
    const limiter = new RuleLimiter({ ...OPTIONS, ...options, shared });
    onTestFinished(() => {
      limiter.close();
      limiter.close();
    });
    return limiter;
  }) as [RuleLimiter, RuleLimiter];
}

/** What is internal of a limiter and of an opened peer. */
interface Internals {
  readonly core: Record<string, (...args: unknown[]) => unknown>;
}
interface GuardedPeer {
  checkMessage(bytes: number): unknown;
  checkDelivery(bytes: number, requests: number): unknown;
}
const coreOf = (limiter: RuleLimiter) => (limiter as unknown as Internals).core;
const opened = (limiter: RuleLimiter) => limiter.open(KEYS) as unknown as GuardedPeer;

/** Calls `change` before the call number `nth` of a method of the engine. */
function before(limiter: RuleLimiter, method: Method, change: () => void, nth = 1): void {
  const core = coreOf(limiter);
  const original = core[method]?.bind(core);
  let calls = 0;
  vi.spyOn(core, method).mockImplementation((...args) => {
    calls += 1;
    if (calls === nth) change();
    return original?.(...args);
  });
}

const left = (limiter: RuleLimiter) =>
  Object.fromEntries(limiter.peek(KEYS).rules.map((state) => [state.rule, state.remaining]));

describe.runIf(TESTS_NATIVE)('An update by another process', () => {
  const saved = (options: Partial<RuleLimiterOptions>, cost: number) => {
    const source = new RuleLimiter({ ...OPTIONS, ...options });
    source.check(KEYS, cost);
    return source.snapshot();
  };

  test('in the middle of a restore leaves the used tokens with their rules', () => {
    const methods: [Method, number][] = [
      ['statistics', 25],
      ['restoreSingle', 5],
      ['restoreDigests', 5],
    ];
    for (const [method, cost] of methods) {
      const [one, two] = pair();
      before(one, method, () => two.update(UPDATE));
      one.restore(saved({}, cost));
      expect({ method, left: left(one) }).toEqual({ method, left: { second: 20, others: 20 } });
    }
  });

  test('in the middle of a restore takes what the snapshot has of the new rules', () => {
    const [one, two] = pair();
    before(one, 'statistics', () => two.update(UPDATE));
    const source = new RuleLimiter({ ...OPTIONS, ...UPDATE });
    source.check(KEYS, 5);
    source.check(KEYS, 20);
    expect(one.restore(source.snapshot())).toBe(1);
    expect(left(two)['second']).toBeCloseTo(15);
    expect(left(two)['others']).toBeCloseTo(15);
  });

  test.each([
    ['digests', 4],
    ['offenders', 21],
  ])('in the middle of a snapshot names the rules in force, for %s', (_, cost) => {
    for (let nth = 1; nth <= 3; nth += 1) {
      const [one, two] = pair();
      const change = () => {
        two.update(UPDATE);
        two.check(KEYS, 3);
      };
      one.check(KEYS, cost);
      before(one, 'walk', change, nth);
      const { scopes } = one.snapshot();
      const [peer] = scopes;
      const used = cost > 20 ? peer?.peers[0]?.used : peer?.digests[0]?.peers[0]?.[2];
      // The offenders are visited in the second step.
      const isOver = cost > 20 && nth === 3;
      expect({ nth, used }).toEqual({ nth, used: isOver ? {} : { second: 3 } });
    }
  });

  test('in the middle of a snapshot names the rules in force of a single scope', () => {
    const [one, two] = pair();
    before(one, 'saveSingle', () => {
      two.update(UPDATE);
      two.check({}, 3);
    });
    one.check({}, 1);
    const single = one.snapshot().scopes.find(({ scope }) => scope === 'server')?.single;
    expect(single?.used).toEqual({ others: 3 });
  });

  test('in the middle of statistics counts for the rules in force', () => {
    const [one, two] = pair();
    one.check(KEYS);
    before(one, 'totals', () => {
      two.update(UPDATE);
      for (let n = 0; n < 2; n += 1) two.check(KEYS);
    });
    const { rules, outcomes } = one.getStats();
    expect(outcomes.allow).toBe(3);
    expect(Object.keys(rules)).toEqual(['second', 'others']);
    expect(rules['second']?.checked).toBe(2);
  });

  test('again and again is an error', () => {
    const calls: [string, (limiter: RuleLimiter) => unknown][] = [
      ['check', (limiter) => limiter.check(KEYS)],
      ['check of an opened peer', (limiter) => limiter.open(KEYS).check()],
      ['message', (limiter) => opened(limiter).checkMessage(0)],
      ['delivery', (limiter) => opened(limiter).checkDelivery(0, 1)],
      ['peek', (limiter) => limiter.peek(KEYS)],
      ['charge', (limiter) => limiter.charge(KEYS)],
      ['getStats', (limiter) => limiter.getStats()],
      ['snapshot', (limiter) => limiter.snapshot()],
      ['ban', (limiter) => limiter.ban('peer', 'alice', 1)],
      ['update', (limiter) => limiter.update(UPDATE)],
    ];
    const codes = calls.map(([name, call]) => {
      const [limiter] = pair();
      const core = coreOf(limiter);
      for (const method of ['check', 'checkPeer']) {
        vi.spyOn(core, method).mockReturnValue(RULE_OUTDATED);
      }
      vi.spyOn(core, 'takeOutdated').mockReturnValue(true);
      vi.spyOn(core, 'publish').mockReturnValue(false);
      vi.spyOn(core, 'isCurrent').mockReturnValue(false);
      return [name, codeOf(() => call(limiter))];
    });
    expect(codes).toEqual(calls.map(([name]) => [name, 'ERR_LIMITER_SHARED']));
  });
});
