// Snapshots of a rule limiter's engine, restored in the other engine. The model has digests of its own and takes part in
// differential.test.ts only.

import { describe, expect, test } from 'vitest';
import { ENGINES, ODD_KEYS, otherEngine } from '../support/limiters.js';
import type { RuleSpec } from './plans.js';
import { NONE, offender, PEER, REFUSED, restore, save, spec, used } from './saved.js';
import { RuleSubject, rounded } from './subject.js';

describe.each(ENGINES)('A snapshot of rules on the %s engine', (engine) => {
  const subject = (maxPeers?: number, of = spec) => new RuleSubject(engine, of, maxPeers);
  const other = (maxPeers?: number, of = spec) =>
    new RuleSubject(otherEngine(engine), of, maxPeers);
  const offend = (limiter: RuleSubject, address: string, times: number) => {
    for (let n = 0; n < times; n += 1) limiter.check({ address }, REFUSED);
  };

  test('lists offenders by key with all that is known of them', () => {
    const limiter = subject();
    offend(limiter, 'violator', 3);
    limiter.at(1016);
    limiter.check(PEER, { cost: [50, 50] });
    offend(limiter, 'banned', 4);
    limiter.check({ address: 'violator' }, { cost: [20, 1] });
    limiter.at(1024);
    limiter.ban('address', 'by hand', 100);
    limiter.ban('address', 'for ever', Infinity);
    limiter.ban('address', 'was banned', 1);
    offend(limiter, 'was banned', 1);
    offend(limiter, 'ban is over', 4);
    limiter.unban('address', 'ban is over');
    limiter.at(1028);
    const { offenders, order, others } = save(limiter);
    expect(order.slice(0, 3)).toEqual(['violator', 'banned', 'ban is over']);
    expect(order.slice(3).sort()).toEqual(['by hand', 'for ever']);
    expect(offenders).toEqual(
      new Map([
        // 3, less 28 seconds at 4 per 64 seconds; 8 messages of 20 are left after 12 seconds and so are not saved.
        ['violator', [3, 1.25, 0, NONE, NONE, 12, ...used()]],
        ['banned', [4, 0, 1, 20, NONE, 12, ...used()]],
        ['ban is over', [4, 0, 1, NONE, 4, 4, ...used()]],
        ['by hand', [0, 0, 0, 96, NONE, 4, ...used()]],
        ['for ever', [0, 0, 0, Infinity, NONE, 4, ...used()]],
      ]),
    );
    expect(others).toEqual([[12, ...used(50, 50)]]);
    // Reading it has changed nothing.
    expect(limiter.used(PEER, 'messages')).toBe(38);
    expect(limiter.violations('address', 'violator')).toBe(3);
  });

  test('has no tokens that are back within ten seconds, slot by slot', () => {
    const limiter = subject();
    const peers: [address: string, cost: number[]][] = [
      ['a', [10, 5]],
      ['b', [10, 5.25]],
      ['c', [10.25, 5]],
      ['d', [12, 6]],
    ];
    for (const [address, cost] of peers) limiter.check({ address }, { cost });
    expect(save(limiter).others.sort()).toEqual(
      [
        [0, ...used(NONE, 5.25)],
        [0, ...used(10.25)],
        [0, ...used(12, 6)],
      ].sort(),
    );
    limiter.at(1002);
    expect(save(limiter).others).toEqual([]);
  });

  test('makes the other engine return the same', () => {
    const before = subject();
    offend(before, 'violator', 3);
    for (const address of ['banned', 'forgets']) offend(before, address, 4);
    before.unban('address', 'forgets');
    before.check(PEER, { cost: [80, 40] });
    before.check({ address: 'violator' }, { cost: [70, 0] });
    before.ban('address', 'for ever', Infinity);
    before.at(1008);
    const after = other().at(before.now);
    expect(restore(after, save(before))).toBe(5);
    expect(after.statistics('address')).toMatchObject({
      ...{ peers: 4, totalViolations: 11, bansBegun: 0, evictions: 0 },
      topViolators: [
        ['banned', 4],
        ['forgets', 4],
        ['violator', 3],
      ],
    });
    expect(after.answers()).toEqual([0, 0, 0]);
    expect(save(after).offenders).toEqual(save(before).offenders);
    expect(save(after).others).toEqual(save(before).others);
    for (const limiter of [before, after]) {
      expect(limiter.check(PEER, { cost: [30, 0] })).toEqual({
        delay: rounded(2),
        rule: 'messages',
      });
      expect(limiter.used(PEER, 'bytes')).toBe(36);
      expect(limiter.check({ address: 'for ever' })).toEqual({ ban: Infinity, scope: 'address' });
      expect(limiter.at(1031).check({ address: 'banned' })).toEqual({ ban: 1, scope: 'address' });
      // 3 violations, less 2 in 32 seconds.
      limiter.at(1032);
      offend(limiter, 'violator', 2);
      expect(limiter.check({ address: 'violator' }, REFUSED)).toMatchObject({ ban: 32 });
      // The second ban of the one, and the first again of the other, since a level was forgotten.
      offend(limiter, 'banned', 3);
      expect(limiter.check({ address: 'banned' }, REFUSED)).toMatchObject({ ban: 64 });
      limiter.at(1256);
      offend(limiter, 'forgets', 3);
      expect(limiter.check({ address: 'forgets' }, REFUSED)).toMatchObject({ ban: 32 });
    }
  });

  test('survives the round trip with odd keys, long ones too', () => {
    const limiter = subject();
    for (const [n, address] of ODD_KEYS.entries()) {
      if (n % 3 === 0) limiter.check({ address }, REFUSED);
      if (n % 3 !== 1) limiter.check({ address }, { cost: [20 + n] });
      if (n % 3 === 1) limiter.ban('address', address, n % 2 === 0 ? Infinity : 50);
    }
    limiter.at(1004);
    const saved = save(limiter);
    const after = other().at(limiter.now);
    expect(restore(after, saved)).toBe(ODD_KEYS.length);
    expect(save(after).offenders).toEqual(saved.offenders);
    for (const [n, address] of ODD_KEYS.entries()) {
      const left = [
        n,
        after.used({ address }, 'messages'),
        after.banSecondsLeft('address', address),
      ];
      const banLeft = n % 3 !== 1 ? 0 : n % 2 === 0 ? Infinity : 46;
      expect(left).toEqual([n, n % 3 === 1 ? 0 : 16 + n, banLeft]);
      expect(after.violations('address', address)).toBe(n % 3 === 0 ? 1 : 0);
    }
  });

  test('is the same in steps of any size', () => {
    const limiter = subject();
    for (let n = 0; n < 100; n += 1) {
      limiter.check({ address: `${n}` }, { cost: [20 + n / 2] });
      if (n % 4 === 0) offend(limiter, `${n}`, 1 + (n % 3));
    }
    const whole = save(limiter, 'address', 1e6);
    expect([whole.order.length, whole.others.length]).toEqual([25, 75]);
    for (const most of [1, 2, 10]) {
      const saved = save(limiter, 'address', most);
      expect(saved.order).toEqual(whole.order);
      expect(saved.offenders).toEqual(whole.offenders);
      expect(saved.others.sort()).toEqual(whole.others.sort());
    }
  });

  test('is of one scope', () => {
    const limiter = subject();
    limiter.check({ address: 'x', account: 'y' }, { cost: [50] });
    offend(limiter, 'a', 1);
    limiter.ban('account', 'b', 10);
    expect(save(limiter).order).toEqual(['a']);
    expect(save(limiter, 'account').order).toEqual(['b']);
    const after = other().at(limiter.now);
    expect(restore(after, save(limiter, 'account'), 'account')).toBe(2);
    expect(after.used({ account: 'y' }, 'events')).toBe(50);
    expect(after.peers('address')).toBe(0);
  });

  describe('restored', () => {
    test('merges with known peers: the higher of each number, and the later end', () => {
      const limiter = subject();
      offend(limiter, 'peer', 2);
      limiter.check(PEER, { cost: [40, 40] });
      limiter.at(1016);
      const restoreRow = (...row: Parameters<typeof offender>) =>
        limiter.core.restore(0, offender(...row), limiter.now);
      // Known: 2 violations, level 1, 24 and 32 used.
      expect(restoreRow('peer', [1, 0.5, 3, NONE, 100, 8], used(30, 50))).toBe(1);
      expect(save(limiter).offenders.get('peer')).toEqual([2, 1, 3, NONE, 100, 0, ...used(24, 46)]);
      expect(restoreRow('peer', [9, 2.5, 1, 20, NONE, 0], used(90))).toBe(1);
      expect(save(limiter).offenders.get('peer')).toEqual([
        9,
        2.5,
        3,
        20,
        NONE,
        0,
        ...used(90, 46),
      ]);
      restoreRow('peer', [1, 0, 0, 10, NONE, 0]);
      expect(limiter.banSecondsLeft('address', 'peer')).toBe(20);
      restoreRow('peer', [1, 0, 0, Infinity, NONE, 0]);
      expect(limiter.banSecondsLeft('address', 'peer')).toBe(Infinity);
      expect(limiter.statistics('address')).toMatchObject({
        ...{ peers: 1, totalViolations: 9, topViolators: [['peer', 9]] },
      });
    });

    test('orders violators as they were restored', () => {
      const limiter = subject();
      const keys = ['c', 'a', 'b'];
      for (const key of keys)
        limiter.core.restore(0, offender(key, [5, 0, 0, NONE, NONE, 0]), 1000);
      expect(limiter.statistics('address').topViolators.map(([key]) => key)).toEqual(keys);
      expect(save(limiter).order).toEqual(keys);
    });

    test('keeps violations up to 2^53 - 1', () => {
      const limiter = subject();
      const most = Number.MAX_SAFE_INTEGER;
      limiter.core.restore(0, offender('peer', [most - 1, 0, 0, NONE, NONE, 0]), 1000);
      for (const violations of [most, most]) {
        limiter.check(PEER, REFUSED);
        expect(limiter.violations('address', 'peer')).toBe(violations);
      }
      expect(limiter.statistics('address').totalViolations).toBe(most);
    });

    test('evicts only peers with a lower cost', () => {
      const limiter = subject(3);
      offend(limiter, 'two', 2);
      limiter.ban('address', 'banned', 50);
      limiter.check(PEER, { cost: [50] });
      const restoreOne = (key: string, violations: number, banLeft = NONE) =>
        limiter.core.restore(0, offender(key, [violations, 0, 0, banLeft, NONE, 1]), limiter.now);
      expect(restoreOne('one', 1)).toBe(1);
      expect(limiter.used(PEER, 'messages')).toBe(0);
      expect(restoreOne('another', 1)).toBe(0);
      expect(restoreOne('three', 3)).toBe(1);
      expect(limiter.violations('address', 'one')).toBe(0);
      expect(restoreOne('banned too', 0, 5)).toBe(1);
      expect(limiter.violations('address', 'two')).toBe(0);
      expect(restoreOne('banned as well', 0, 5)).toBe(1);
      expect(restoreOne('no room', 0, 500)).toBe(0);
      expect(limiter.longestBans('address').count).toBe(3);
      expect(limiter.peers('address')).toBe(3);
    });

    test('keeps the tokens of added rules, although the saved refill was before them', () => {
      const more = { scope: 'address', rate: 0.25, burst: 100, unit: 2 };
      const { messages, bytes } = spec.rules as Record<string, RuleSpec>;
      for (const rules of [
        { messages, bytes, more },
        // In the slot of `bytes`.
        { messages, more },
      ] as Record<string, RuleSpec>[]) {
        const limiter = subject();
        const slot = Object.keys(rules).indexOf('more');
        const saved = [90, 70, 70].slice(0, slot + 1);
        limiter.at(1016).update({ rules });
        limiter.at(1024);
        limiter.core.restore(0, offender('peer', [1, 0, 0, NONE, NONE, 32], used(...saved)), 1024);
        expect(limiter.used(PEER, 'messages')).toBeCloseTo(90 - 32, 9);
        const left = limiter.used(PEER, 'more');
        expect(left).toBeGreaterThan(50);
        expect(left).toBeLessThan(70);
        expect(limiter.check(PEER, { cost: [0, 0, 1] })).toBe('allowed');
        expect(limiter.used(PEER, 'more')).toBeCloseTo(left + 1, 9);
      }
    });
  });
});
