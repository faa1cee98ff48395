// RuleLimiter's contract of what it stores, on both engines: updates, removal, cleanup, eviction, snapshots.

import { RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import { beforeEach, describe, expect, test } from 'vitest';
import { ENGINES, type ManualClock, manualClock } from '../support/limiters.js';
import { ALLOWED, banned } from './verdicts.js';

describe.each(ENGINES)('The state of RuleLimiter on the %s engine', (engine) => {
  let clock: ManualClock;
  beforeEach(() => {
    clock = manualClock(1000);
  });
  const create = (options: Partial<RuleLimiterOptions>) =>
    new RuleLimiter({ engine, clock, scopes: { peer: {} }, rules: {}, ...options });

  test('an update keeps what is used, and replaces the sections that are given', () => {
    const limits = create({
      rules: {
        messages: { scope: 'peer', rateLimit: 1, burstLimit: 10 },
        gone: { scope: 'peer', rateLimit: 1, burstLimit: 1 },
      },
      plans: { paid: { messages: { burstLimit: 20 } } },
      bans: { peer: { violations: 1, withinSeconds: 1, seconds: 5 } },
    });
    limits.check('a');
    limits.charge('a', 4);
    const rules = {
      messages: { scope: 'peer', rateLimit: 2, burstLimit: 8 },
      fresh: { scope: 'peer', rateLimit: 1, burstLimit: 3 },
    };
    limits.update({ rules });
    const left = (plan?: string) =>
      limits.peek('a', 1, undefined, plan).rules.map((r) => r.remaining);
    expect(left()).toEqual([3, 3]);
    expect(left('paid')).toEqual([15, 3]);
    expect(limits.getStats().rules).toEqual({
      messages: { scope: 'peer', checked: 1, refused: 0, dryRunRefused: 0 },
      fresh: { scope: 'peer', checked: 0, refused: 0, dryRunRefused: 0 },
    });
    limits.charge('a', 9);
    expect(limits.check('a')).toEqual(banned(5, 'peer', 'fresh'));
    limits.update({ bans: {} });
    clock.now += 4;
    expect(limits.check('a')).toEqual(banned(1, 'peer'));
  });

  test('an update that is wrong in its last rule changes nothing', () => {
    const limits = create({
      rules: { messages: { scope: 'peer', rateLimit: 1, burstLimit: 10 } },
      plans: { paid: { messages: { burstLimit: 20 } } },
    });
    const wrong = [
      { rules: { other: { scope: 'peer', rateLimit: 1 }, bad: { scope: 'peer' } }, plans: {} },
      { rules: { other: { scope: 'peer', rateLimit: 1 } } },
      { plans: { other: { messages: { burstLimit: 0 } } } },
      { allow: {}, deny: { peer: [1] } },
    ];
    for (const sections of wrong) {
      expect(() => limits.update(sections as never)).toThrow(
        expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }),
      );
    }
    expect(limits.peek('a', 1, undefined, 'paid').rules).toMatchObject([
      { rule: 'messages', limit: 20 },
    ]);
  });

  test('a removed peer is as new', () => {
    const limits = create({
      rules: { messages: { scope: 'peer', rateLimit: 1, burstLimit: 1 } },
      bans: { peer: { violations: 2, withinSeconds: 1, seconds: 5 } },
    });
    for (let n = 0; n < 4; n += 1) limits.check('a');
    limits.removePeer('a');
    expect(limits.getStats().scopes['peer']).toMatchObject({ peers: 0, violators: [], bans: 0 });
    expect(limits.check('a')).toEqual(ALLOWED);
    expect(() => limits.removePeer('nobody')).not.toThrow();
  });

  test('cleanup removes idle keys that are as new, and no others', () => {
    const limits = create({
      rules: { day: { scope: 'peer', quota: 100, windowSeconds: 86_400 } },
    });
    limits.check('a');
    limits.check('b', 50);
    clock.now += 4000;
    expect(limits.cleanup()).toBe(1);
    expect(limits.isCleaning).toBe(false);
    expect(limits.peek('b').rules[0]?.remaining).toBeLessThan(60);
    expect(limits.cleanup(86_400)).toBe(0);
    clock.now += 86_400;
    expect(limits.cleanup(3600, { budgetMs: 1000 })).toBe(1);
  });

  test('a full scope makes room, and delays for a second if all are banned', () => {
    const limits = create({
      maxPeers: 2,
      rules: { messages: { scope: 'peer', rateLimit: 1, burstLimit: 5 } },
    });
    limits.check('a');
    limits.check('b', 3);
    limits.check('c');
    expect(limits.getStats().scopes['peer']).toMatchObject({ peers: 2, evictions: 1 });
    expect(limits.peek('b').rules[0]?.remaining).toBe(2);
    limits.ban('peer', 'b', 60);
    limits.ban('peer', 'c', 60);
    const full = limits.check('d');
    expect(full).toEqual({ ...ALLOWED, outcome: 'delay', delaySeconds: 1, scope: 'peer' });
    expect(limits.getStats().scopes['peer']).toMatchObject({ peers: 2, refusedNewcomers: 1 });
    expect(limits.ban('peer', 'd', 60)).toBe(false);
  });

  test('reads its clock once a call, and its own without one', () => {
    const limits = create({ rules: { messages: { scope: 'peer', rateLimit: 1 } } });
    const peer = limits.open('a');
    const { reads } = clock;
    limits.check('a');
    peer.check();
    limits.peek('a');
    expect(clock.reads - reads).toBe(3);
    const own = new RuleLimiter({
      engine,
      scopes: { peer: {} },
      rules: { messages: { scope: 'peer', rateLimit: 1e-6, burstLimit: 1 } },
    });
    expect([own.check('a').outcome, own.check('a').outcome]).toEqual(['allow', 'delay']);
  });

  test('a snapshot restores everything that a restart would lose', () => {
    const options = {
      scopes: { peer: {}, address: { kind: 'address' as const }, server: { single: true } },
      rules: {
        day: { scope: 'peer', quota: 100, windowSeconds: 86_400 },
        fast: { scope: 'peer', rateLimit: 10 },
        address: { scope: 'address', rateLimit: 0.001, burstLimit: 1 },
      },
      bans: { address: { violations: 2, withinSeconds: 100, seconds: [60, 600] } },
    };
    const limits = create(options);
    limits.check({ peer: 'a', address: '192.0.2.1' });
    limits.charge({ peer: 'a' }, 40);
    for (let n = 0; n < 2; n += 1) limits.check({ address: '192.0.2.1' });
    limits.ban('peer', 'b', Infinity);
    clock.now += 20;
    const saved = JSON.parse(JSON.stringify(limits.snapshot()));
    expect(saved).toMatchObject({ format: 2, limiter: 'RuleLimiter' });
    for (const other of ENGINES) {
      const restored = new RuleLimiter({ ...options, engine: other, clock });
      expect(restored.restore(saved)).toBe(3);
      expect(restored.getBans('peer').bans).toEqual([['b', Infinity]]);
      expect(restored.check({ address: '192.0.2.1' })).toEqual(banned(40, 'address'));
      const [day, fast] = restored.peek({ peer: 'a' }).rules;
      expect(day?.remaining).toBeCloseTo(59 + (20 * 100) / 86_400, 9);
      expect(fast?.remaining).toBe(100);
      expect(restored.getStats().scopes['address']?.violators).toEqual([['192.0.2.1', 2]]);
      expect(JSON.parse(JSON.stringify(restored.snapshot())).scopes).toEqual(saved.scopes);
    }
    const sliced = create(options);
    const slices = JSON.parse(JSON.stringify([...limits.snapshotSlices()]));
    expect([...sliced.restoreSlices(slices)].at(-1)).toBe(3);
    expect(sliced.banSecondsLeft('address', '192.0.2.1')).toBe(40);
    // Scopes and rules that the limiter does not have are skipped.
    const less = create({
      scopes: { peer: {} },
      rules: { other: { scope: 'peer', rateLimit: 1 } },
    });
    less.restore(saved);
    expect(less.getBans('peer').count).toBe(1);
  });
});
