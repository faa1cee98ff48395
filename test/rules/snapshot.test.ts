// Snapshots of a rule limiter's engine, restored in the other engine. The model has digests of its own and takes part in
// differential.test.ts only.

import { describe, expect, test } from 'vitest';
import {
  MAX_RULES,
  RULE_DIGEST_NUMBERS,
  RULE_OFFENDER_NUMBERS,
  type RuleDigestColumns,
  type RuleOffenderColumns,
} from '../../dist/engine/rules.js';
import { ENGINES, ODD_KEYS, otherEngine } from '../support/limiters.js';
import type { RuleSpec, RulesSpec } from './plans.js';
import { RuleSubject, rounded } from './subject.js';

const PEER = { address: 'peer' };
const REFUSED = { cost: [1000] };

const spec: RulesSpec = {
  scopes: { address: false, account: false, server: true },
  rules: {
    messages: { scope: 'address', rate: 1, burst: 100 },
    bytes: { scope: 'address', rate: 0.5, burst: 100, unit: 1 },
    events: { scope: 'account', rate: 1, burst: 100 },
    everybody: { scope: 'server', rate: 1, burst: 1e6 },
  },
  bans: {
    address: {
      violations: 4,
      withinSeconds: 64,
      seconds: [32, 64, Infinity],
      forgetAfterSeconds: 256,
    },
  },
};

/** What `snapshot` yields for a scope, joined. */
interface Saved {
  offenders: Map<string, number[]>;
  order: string[];
  columns: RuleOffenderColumns;
  digests: RuleDigestColumns[];
  /** The numbers of all digests. */
  others: number[][];
}

function save(limiter: RuleSubject, scope = 'address', most = 7): Saved {
  const keys: string[] = [];
  const rows: number[][] = [];
  const digests: RuleDigestColumns[] = [];
  const others: number[][] = [];
  const steps = limiter.core.snapshot(limiter.scopeOf(scope), most, () => limiter.now);
  for (const step of steps) {
    keys.push(...step.offenders.keys);
    rows.push(...rowsOf(step.offenders.numbers, RULE_OFFENDER_NUMBERS));
    others.push(...rowsOf(step.digests.numbers, RULE_DIGEST_NUMBERS));
    if (step.digests.digests.length > 0) digests.push(step.digests);
  }
  return {
    offenders: new Map(keys.map((key, i) => [key, rows[i] as number[]])),
    order: keys,
    columns: { keys, numbers: Float64Array.from(rows.flat()) },
    ...{ digests, others },
  };
}

function rowsOf(numbers: Float64Array, width: number): number[][] {
  return Array.from({ length: numbers.length / width }, (_, i) => [
    ...numbers.subarray(i * width, (i + 1) * width),
  ]);
}

function restore(limiter: RuleSubject, saved: Saved, scope = 'address'): number {
  const index = limiter.scopeOf(scope);
  let restored = limiter.core.restore(index, saved.columns, limiter.now);
  for (const digests of saved.digests) {
    restored += limiter.core.restoreDigests(index, digests, limiter.now);
  }
  return restored;
}

/** The columns of used tokens: those that are given, and NaN for the other slots. */
const used = (...tokens: number[]) =>
  Array.from({ length: MAX_RULES }, (_, slot) => tokens[slot] ?? Number.NaN);
const NONE = Number.NaN;

/** Columns of one offender. */
function offender(
  key: string,
  [violations, level, banLevel, banLeft, sinceBan, idle]: number[],
  tokens = used(),
): RuleOffenderColumns {
  const row = [violations, level, banLevel, banLeft, sinceBan, idle, ...tokens] as number[];
  return { keys: [key], numbers: Float64Array.from(row) };
}

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

  describe('restores peers under digests, which', () => {
    /** A limiter with these peers under the digests of the other engine. */
    const withPending = (maxPeers?: number) => {
      const before = other();
      for (const [address, cost] of [
        ['peer', [60, 40]],
        ['second', [50]],
        ['third', [40]],
      ] as const) {
        before.check({ address }, { cost });
      }
      const limiter = subject(maxPeers).at(1008);
      before.at(1008);
      expect(restore(limiter, save(before))).toBe(Math.min(3, maxPeers ?? 3));
      return limiter;
    };

    test('count as peers from their first check on', () => {
      const limiter = withPending();
      expect(limiter.peers('address')).toBe(0);
      expect(limiter.peek(PEER, { cost: 0 }).used).toMatchObject({ messages: 52, bytes: 36 });
      expect(limiter.peers('address')).toBe(0);
      expect(limiter.check(PEER, { cost: [10] })).toBe('allowed');
      expect(limiter.peers('address')).toBe(1);
      expect(limiter.used(PEER, 'messages')).toBe(62);
      limiter.at(1010);
      const peer = limiter.open({ address: 'second' });
      expect(peer.check({ cost: [61] })).toEqual({ delay: rounded(1), rule: 'messages' });
      expect(limiter.violations('address', 'second')).toBe(1);
      expect(peer.check({ cost: [60] })).toBe('allowed');
      limiter.charge({ address: 'third' }, { cost: [1] });
      expect(limiter.used({ address: 'third' }, 'messages')).toBe(31);
      expect(limiter.peers('address')).toBe(3);
      expect(save(limiter).others.length).toBe(2);
    });

    test('keep their tokens when they are banned, and lose them with removePeer and clear', () => {
      const limiter = withPending();
      limiter.ban('address', 'peer', 1);
      limiter.at(1010);
      expect(limiter.used(PEER, 'messages')).toBe(50);
      limiter.removePeer('address', 'second');
      expect(limiter.used({ address: 'second' }, 'messages')).toBe(0);
      limiter.core.clear();
      expect(limiter.used({ address: 'third' }, 'messages')).toBe(0);
      expect(save(limiter).others).toEqual([]);
    });

    test('are saved again while they wait', () => {
      const limiter = withPending();
      limiter.at(1012);
      expect(save(limiter).others.sort()).toEqual(
        [
          [12, ...used(60, 40)],
          [12, ...used(50)],
          [12, ...used(40)],
        ].sort(),
      );
      const after = other().at(1012);
      expect(restore(after, save(limiter))).toBe(3);
      expect(after.used(PEER, 'messages')).toBe(48);
    });

    test('leave a peer that is stored as it is', () => {
      const before = other();
      before.check(PEER, { cost: [60] });
      const limiter = subject();
      limiter.check(PEER, { cost: [5] });
      restore(limiter, save(before));
      expect(limiter.used(PEER, 'messages')).toBe(5);
      expect(limiter.check(PEER, { cost: [5] })).toBe('allowed');
      expect(limiter.used(PEER, 'messages')).toBe(10);
    });

    test('are at most maxPeers, and get a record as any newcomer', () => {
      const limiter = withPending(2);
      for (const address of ['a', 'b']) limiter.ban('address', address, 100);
      const full = { full: 'address', delay: 1 };
      for (const address of ['peer', 'second', 'third']) {
        expect(limiter.check({ address }, { cost: [1] })).toEqual(full);
      }
      limiter.at(1108);
      for (const address of ['peer', 'second', 'third']) {
        expect(limiter.check({ address }, { cost: [1] })).toBe('allowed');
      }
      expect(limiter.peers('address')).toBe(2);
    });

    test('belong to own keys after the secret was adopted', () => {
      const before = other();
      before.check(PEER, { cost: [60] });
      const saved = save(before);
      const [digests] = saved.digests as [RuleDigestColumns];
      const limiter = subject();
      limiter.core.adopt(digests.secret);
      expect(restore(limiter, saved)).toBe(1);
      expect(limiter.used(PEER, 'messages')).toBe(60);
      expect(limiter.check(PEER, { cost: [20] })).toBe('allowed');
      const [again] = save(limiter).digests as [RuleDigestColumns];
      expect(again.secret).toEqual(digests.secret);
      expect(again.digests).toEqual(digests.digests);
    });
  });
});
