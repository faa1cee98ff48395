// Which peers have records, and what happens in full scopes, on both engines and the model. A scope of at most sixteen peers
// compares all of them, so there it is no chance which one is evicted.

import { describe, expect, test } from 'vitest';
import type { RulesSpec } from './plans.js';
import { CORES, RuleSubject, rounded } from './subject.js';

const PEER = { address: 'peer' };
const REFUSED = { cost: 1000 };

const spec: RulesSpec = {
  scopes: { connection: false, address: false, account: false },
  rules: {
    messages: { scope: 'connection', rate: 1, burst: 10 },
    bytes: { scope: 'address', rate: 1, burst: 10 },
    slow: { scope: 'address', rate: 0.5, burst: 10, unit: 1 },
    'does not count': { scope: 'address', rate: 1, burst: 2, unit: 2, violation: false },
    events: { scope: 'account', rate: 1, burst: 10, actions: ['event'] },
  },
  bans: { address: { violations: 3, withinSeconds: 30, seconds: [100], forgetAfterSeconds: 1000 } },
};

describe.each(CORES)('On the %s core', (core) => {
  const subject = (maxPeers?: number, of: RulesSpec = spec) => new RuleSubject(core, of, maxPeers);
  const fill = (limiter: RuleSubject, scope: string, count: number) => {
    for (let n = 0; n < count; n += 1) limiter.ban(scope, `banned-${n}`, 500);
  };

  describe('a record exists', () => {
    test('after a charge, a violation or a ban, and not before', () => {
      const limiter = subject();
      const key = (address: string) => ({ address });
      limiter.check(key('free of charge'), { cost: 0 });
      limiter.check(key('other unit'), { cost: [0, 0, 0, 9] });
      limiter.check(key('does not count'), { cost: [0, 0, 3] });
      limiter.check({ account: 'without a rule' }, { cost: 5 });
      limiter.peek(key('peeked'));
      limiter.refund(key('refunded'));
      limiter.charge(key('charged nothing'), { cost: 0 });
      limiter.unban('address', 'never banned');
      limiter.banSecondsLeft('address', 'never banned');
      limiter.violations('address', 'nobody');
      limiter.removePeer('address', 'nobody');
      limiter.open(key('opened')).check({ cost: 0 });
      for (const scope of ['address', 'account', 'connection'])
        expect(limiter.peers(scope)).toBe(0);
      limiter.check(key('charged'), { cost: [0, 2 ** -1000] });
      expect(limiter.peers('address')).toBe(1);
      limiter.check(key('violator'), REFUSED);
      expect(limiter.peers('address')).toBe(2);
      limiter.ban('address', 'banned', 1);
      expect(limiter.peers('address')).toBe(3);
      limiter.charge(key('charged too'), { cost: 1 });
      expect(limiter.peers('address')).toBe(4);
      limiter.check(key('charged'));
      limiter.check(key('violator'), REFUSED);
      expect(limiter.peers('address')).toBe(4);
      // Nothing is used any more, but only a cleanup removes it.
      limiter.at(2000).check(key('charged'), { cost: 0 });
      expect(limiter.peers('address')).toBe(4);
    });

    test('in each scope that needs one', () => {
      const limiter = subject();
      limiter.check({ connection: 'c', address: 'a', account: 'x' }, { cost: 1 });
      expect(limiter.peers('connection')).toBe(1);
      expect(limiter.peers('address')).toBe(1);
      expect(limiter.peers('account')).toBe(0);
      limiter.check({ connection: 'd', address: 'b' }, { cost: [0, 1] });
      expect(limiter.peers('connection')).toBe(1);
      expect(limiter.peers('address')).toBe(2);
    });

    test('until it is removed', () => {
      const limiter = subject();
      limiter.check(PEER, { cost: 10 });
      limiter.removePeer('connection', 'peer');
      expect(limiter.check(PEER)).toEqual({ delay: rounded(1), rule: 'bytes' });
      limiter.removePeer('address', 'peer');
      expect(limiter.peers('address')).toBe(0);
      expect(limiter.check(PEER, { cost: 10 })).toBe('allowed');
    });
  });

  describe('a full scope', () => {
    test('has exactly maxPeers records', () => {
      const limiter = subject(100);
      for (let n = 0; n < 1000; n += 1) {
        expect(limiter.check({ address: `peer-${n}` })).toBe('allowed');
        expect(limiter.peers('address')).toBe(Math.min(n + 1, 100));
      }
      expect(limiter.statistics('address')).toMatchObject({
        ...{ evictions: 900, lossyEvictions: 900, refusedNewcomers: 0 },
      });
    });

    test('evicts a fresh peer, and loses nothing', () => {
      const limiter = subject(3);
      for (const address of ['a', 'b']) limiter.check({ address }, { cost: [9, 2] });
      limiter.check({ address: 'fresh' }, { cost: [3, 1] });
      limiter.at(1003).check({ address: 'new' });
      expect(limiter.statistics('address')).toMatchObject({ evictions: 1, lossyEvictions: 0 });
      for (const address of ['a', 'b']) expect(limiter.used({ address }, 'bytes')).toBe(6);
    });

    test('evicts the peer that is fresh soonest, by the slowest of its rules', () => {
      const limiter = subject(3);
      limiter.check({ address: '9 seconds' }, { cost: [9, 1] });
      limiter.check({ address: '8 seconds' }, { cost: [8, 3] });
      limiter.check({ address: '10 seconds' }, { cost: [0, 5] });
      limiter.check({ address: 'new' }, { cost: 10 });
      expect(limiter.used({ address: '8 seconds' }, 'bytes')).toBe(0);
      expect(limiter.used({ address: '9 seconds' }, 'bytes')).toBe(9);
      expect(limiter.statistics('address')).toMatchObject({ evictions: 1, lossyEvictions: 1 });
    });

    test('reckons with the rates of the base plan', () => {
      const limiter = subject(2, {
        scopes: { address: false },
        rules: {
          a: { scope: 'address', rate: 1, burst: 1000 },
          b: { scope: 'address', rate: 1, burst: 1000, unit: 1 },
        },
        plans: { paid: { a: { rate: 100 } } },
      });
      limiter.check({ address: 'paid' }, { cost: 500, plan: 'paid' });
      limiter.check({ address: 'base' }, { cost: [0, 400] });
      limiter.at(1001).check({ address: 'new' }, { plan: 'paid' });
      expect(limiter.used({ address: 'base' }, 'b')).toBe(0);
      expect(limiter.used({ address: 'paid' }, 'a')).toBe(499);
    });

    test('evicts peers without violations first, then those with the fewest, least recently active first', () => {
      const limiter = subject(4);
      const offend = (address: string, times: number) => {
        for (let n = 0; n < times; n += 1) limiter.check({ address }, REFUSED);
      };
      offend('once, at first', 1);
      limiter.now += 1;
      offend('twice', 2);
      limiter.now += 1;
      offend('once, later', 1);
      limiter.check({ address: 'used' }, { cost: [10, 10] });
      limiter.now += 1;
      const gone = ['used', 'once, at first', 'once, later', 'twice'];
      for (let n = 0; n < 4; n += 1) {
        expect(limiter.check({ address: `new-${n}` }, { cost: [10, 10] })).toBe('allowed');
        for (let i = 0; i < 20; i += 1) limiter.check({ address: `new-${n}` }, { cost: 0.001 });
        const left = gone.slice(n + 1).map((address) => limiter.violations('address', address) > 0);
        expect([n, left]).toEqual([n, left.map(() => true)]);
        expect(limiter.violations('address', gone[n] as string)).toBe(0);
        expect(limiter.used({ address: gone[n] as string }, 'bytes')).toBe(0);
        limiter.ban('address', `new-${n}`, 500);
      }
      expect(limiter.statistics('address')).toMatchObject({ evictions: 4, lossyEvictions: 4 });
    });

    test('evicts a peer with a ban that is over as any other', () => {
      const limiter = subject(2);
      limiter.ban('address', 'by hand', 50);
      for (let n = 0; n < 3; n += 1) limiter.check({ address: 'offender' }, REFUSED);
      limiter.at(1050).check({ address: 'new' }, { cost: 10 });
      expect(limiter.peers('address')).toBe(2);
      expect(limiter.statistics('address').lossyEvictions).toBe(0);
      expect(limiter.violations('address', 'offender')).toBe(3);
      limiter.ban('address', 'new', 1000);
      limiter.at(1101).check({ address: 'newer' });
      expect(limiter.violations('address', 'offender')).toBe(0);
      expect(limiter.statistics('address')).toMatchObject({ evictions: 2, lossyEvictions: 1 });
    });

    test('of banned peers has no room for a new one, and changes nothing', () => {
      const limiter = subject(3);
      fill(limiter, 'address', 3);
      const full = { full: 'address', delay: 1 };
      limiter.check({ connection: 'known' }, { cost: 4 });
      for (const connection of ['known', 'new']) {
        expect(limiter.check({ connection, address: 'new' })).toEqual(full);
      }
      expect(limiter.used({ connection: 'known' }, 'messages')).toBe(4);
      expect([limiter.peers('connection'), limiter.peers('address')]).toEqual([1, 3]);
      expect(limiter.violations('address', 'new')).toBe(0);
      expect(limiter.statistics('address')).toMatchObject({ refusedNewcomers: 2, evictions: 0 });
      expect(limiter.statistics('connection')).toMatchObject({ refusedNewcomers: 0, evictions: 0 });
      expect(limiter.answers()).toEqual([1, 2, 0]);
      expect(limiter.counts('messages')).toEqual([3, 0, 0]);
      expect(limiter.counts('bytes')).toEqual([2, 0, 0]);
      // What needs no record is allowed.
      expect(limiter.check({ address: 'new' }, { cost: 0 })).toBe('allowed');
      expect(limiter.peek({ address: 'new' }).verdict).toBe('allowed');
      expect(limiter.check({ address: 'banned-0' })).toEqual({ ban: 500, scope: 'address' });
      limiter.unban('address', 'banned-1');
      expect(limiter.check({ connection: 'new', address: 'new' })).toBe('allowed');
      expect(limiter.banSecondsLeft('address', 'banned-0')).toBe(500);
      expect([limiter.peers('connection'), limiter.peers('address')]).toEqual([2, 3]);
    });

    test('is the first of several, and no other scope evicts for the check', () => {
      const limiter = subject(2);
      const keys = { connection: 'new', address: 'new', account: 'new' };
      for (const connection of ['a', 'b']) limiter.check({ connection }, { cost: 10 });
      fill(limiter, 'address', 2);
      fill(limiter, 'account', 2);
      const check = () => limiter.check(keys, { action: 'event' });
      expect(check()).toEqual({ full: 'address', delay: 1 });
      limiter.removePeer('address', 'banned-0');
      expect(check()).toEqual({ full: 'account', delay: 1 });
      for (const connection of ['a', 'b'])
        expect(limiter.used({ connection }, 'messages')).toBe(10);
      expect([limiter.peers('connection'), limiter.peers('address')]).toEqual([2, 1]);
      limiter.removePeer('account', 'banned-0');
      expect(check()).toBe('allowed');
      expect(limiter.statistics('connection').evictions).toBe(1);
      expect(limiter.statistics('account').refusedNewcomers).toBe(1);
    });

    test('stores nothing of a refused check without room, and the answer stays', () => {
      const limiter = subject(2, {
        scopes: { connection: false, address: false },
        rules: {
          a: { scope: 'connection', rate: 1, burst: 1 },
          b: { scope: 'address', rate: 1, burst: 1 },
          dry: { scope: 'address', rate: 1, burst: 100, dryRun: true },
        },
        bans: {
          address: { violations: 1, withinSeconds: 1, seconds: [60] },
          connection: { violations: 2, withinSeconds: 1, seconds: [70] },
        },
      });
      fill(limiter, 'address', 2);
      const keys = { connection: 'x', address: 'x' };
      const refused = { delay: Infinity, rule: 'a' };
      expect(limiter.check(keys, { cost: 2 })).toEqual(refused);
      expect(limiter.violations('connection', 'x')).toBe(1);
      expect(limiter.violations('address', 'x')).toBe(0);
      expect(limiter.banSecondsLeft('address', 'x')).toBe(0);
      expect(limiter.peek(keys).used).toEqual({ a: 0, b: 0, dry: 0 });
      expect(limiter.statistics('address')).toMatchObject({ peers: 2, refusedNewcomers: 1 });
      expect(limiter.counts('b')).toEqual([1, 1, 0]);
      expect(limiter.answers()).toEqual([0, 1, 0]);
      expect(limiter.check(keys, { cost: 2 })).toMatchObject({
        ...{ ban: 70, scope: 'connection', rule: 'a' },
        begun: { connection: { seconds: 70, violations: 2, rule: 'a' } },
      });
      expect(limiter.statistics('address')).toMatchObject({ peers: 2, refusedNewcomers: 2 });
    });

    test('refuses no check for rules on dry run alone, and stores nothing of what they take', () => {
      const limiter = subject(2, {
        scopes: { connection: false, address: false },
        rules: {
          a: { scope: 'connection', rate: 1, burst: 2 },
          dry: { scope: 'address', rate: 1, burst: 2, dryRun: true },
        },
      });
      fill(limiter, 'address', 2);
      const keys = { connection: 'x', address: 'x' };
      for (let n = 0; n < 2; n += 1) expect(limiter.check(keys)).toBe('allowed');
      expect(limiter.check(keys)).toEqual({ delay: rounded(1), rule: 'a' });
      expect(limiter.check({ address: 'x' }, { cost: 3 })).toBe('allowed');
      expect(limiter.peek(keys).used).toEqual({ a: 2, dry: 0 });
      expect(limiter.counts('dry')).toEqual([4, 0, 1]);
      expect(limiter.answers()).toEqual([3, 1, 0]);
      expect(limiter.statistics('address')).toMatchObject({ peers: 2, refusedNewcomers: 3 });
    });

    test('refuses charges and bans by hand without room', () => {
      const limiter = subject(2);
      expect(limiter.ban('address', 'a', 10)).toBe(true);
      expect(limiter.ban('address', 'b', 10)).toBe(true);
      expect(limiter.ban('address', 'c', 10)).toBe(false);
      expect(limiter.ban('address', 'b', 20)).toBe(true);
      limiter.charge({ connection: 'c', address: 'c' });
      expect(limiter.used({ address: 'c' }, 'bytes')).toBe(0);
      expect(limiter.used({ connection: 'c' }, 'messages')).toBe(1);
      expect(limiter.at(1010).ban('address', 'c', 10)).toBe(true);
      expect(limiter.peers('address')).toBe(2);
      expect(limiter.banSecondsLeft('address', 'b')).toBe(10);
    });

    test('has room for an offender and for a ban by hand if a peer can be evicted', () => {
      const limiter = subject(1);
      limiter.check({ address: 'a' }, { cost: 5 });
      limiter.check({ address: 'b' }, REFUSED);
      expect(limiter.violations('address', 'b')).toBe(1);
      limiter.ban('address', 'c', 10);
      expect(limiter.violations('address', 'b')).toBe(0);
      expect(limiter.statistics('address')).toMatchObject({
        ...{ peers: 1, evictions: 2, totalViolations: 0, topViolators: [] },
      });
    });
  });
});
