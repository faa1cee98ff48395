// Cleanup, opened peers and odd keys, on both engines and the model.

import { describe, expect, test } from 'vitest';
import { ODD_KEYS } from '../support/limiters.js';
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

  describe('cleanup', () => {
    test('removes fresh records that have been idle for longer', () => {
      const limiter = subject();
      limiter.check({ address: 'a', connection: 'a' }, { cost: 5 });
      limiter.check({ address: 'slow' }, { cost: [0, 10] });
      limiter.at(1010);
      expect(limiter.cleanup(10)).toBe(0);
      expect(limiter.cleanup(9)).toBe(2);
      expect(limiter.peers('address')).toBe(1);
      limiter.at(1020 - 2 ** -20);
      expect(limiter.cleanup(9)).toBe(0);
      limiter.at(1020);
      expect(limiter.cleanup(9)).toBe(1);
      expect(limiter.core.isCleaning()).toBe(false);
    });

    test('removes violations with the record, but no level that still drains', () => {
      const limiter = subject();
      limiter.check(PEER, REFUSED);
      limiter.check(PEER, REFUSED);
      limiter.check({ connection: 'without bans' }, REFUSED);
      limiter.at(1020 - 2 ** -10);
      expect(limiter.cleanup(1)).toBe(1);
      expect(limiter.violations('address', 'peer')).toBe(2);
      limiter.at(1020);
      expect(limiter.cleanup(1)).toBe(1);
      expect(limiter.statistics('address')).toMatchObject({ totalViolations: 0, topViolators: [] });
    });

    test('removes no ban in force, and no ban level that is still to be forgotten', () => {
      const limiter = subject();
      for (let n = 0; n < 3; n += 1) limiter.check(PEER, REFUSED);
      limiter.ban('address', 'by hand', 200);
      limiter.ban('address', 'for ever', Infinity);
      limiter.at(1150);
      expect(limiter.cleanup(10)).toBe(0);
      limiter.at(1200);
      expect(limiter.cleanup(10)).toBe(1);
      limiter.at(2100 - 2 ** -10);
      expect(limiter.cleanup(10)).toBe(0);
      expect(limiter.at(2100).cleanup(10)).toBe(1);
      expect(limiter.longestBans('address')).toEqual({ count: 1, bans: [['for ever', Infinity]] });
      expect(limiter.peers('address')).toBe(1);
    });

    test('does not keep a record for a ban level that is never forgotten', () => {
      const limiter = subject(100, {
        ...spec,
        bans: { address: { violations: 1, withinSeconds: 1, seconds: [100] } },
      });
      limiter.check(PEER, REFUSED);
      expect(limiter.at(1099).cleanup(10)).toBe(0);
      expect(limiter.at(1100).cleanup(10)).toBe(1);
      expect(limiter.check(PEER, REFUSED)).toMatchObject({ ban: 100 });
    });

    test('of a thousand records in steps removes the same as at once', () => {
      const limiter = subject();
      for (let n = 0; n < 1000; n += 1) {
        limiter.check({ connection: `c-${n}`, address: `a-${n}` }, { cost: n % 3 });
        if (n % 5 === 0) limiter.check({ address: `a-${n}` }, REFUSED);
      }
      limiter.at(2000);
      let removed = 0;
      do removed += limiter.core.cleanup(10, 0, limiter.now);
      while (limiter.core.isCleaning());
      expect(removed).toBe(666 + 666 + 67);
      for (const scope of ['connection', 'address']) expect(limiter.peers(scope)).toBe(0);
    });
  });

  describe('an opened peer', () => {
    const keys = { connection: 'c', address: 'a' };

    test('is checked as by its keys', () => {
      const limiter = subject();
      const peer = limiter.open(keys);
      expect(limiter.peers('address')).toBe(0);
      expect(peer.check({ cost: 6 })).toBe('allowed');
      expect(limiter.check(keys, { cost: 4 })).toBe('allowed');
      expect(peer.check()).toEqual({ delay: rounded(1), rule: 'messages' });
      expect(limiter.violations('address', 'a')).toBe(1);
      const again = limiter.open(keys);
      expect(again.check({ cost: [0, 10] })).toBe('allowed');
      expect(peer.check({ cost: [0, 1] })).toEqual({ delay: rounded(2), rule: 'slow' });
      limiter.ban('address', 'a', 30);
      for (const opened of [peer, again]) {
        expect(opened.check()).toEqual({ ban: 30, scope: 'address' });
      }
    });

    test('is found after its record was removed, evicted, cleared or cleaned up', () => {
      const limiter = subject(2);
      const peer = limiter.open(keys);
      const others = [limiter.open({ address: 'b' }), limiter.open({ address: 'c' })];
      const use = () => expect(peer.check({ cost: 9 })).toBe('allowed');
      use();
      limiter.removePeer('address', 'a');
      limiter.removePeer('connection', 'c');
      for (const other of others) other.check({ cost: 10 });
      use();
      for (const other of others) other.check({ cost: 10 });
      limiter.removePeer('connection', 'c');
      expect(limiter.peers('address')).toBe(2);
      limiter.now += 100;
      use();
      limiter.core.clear();
      use();
      limiter.now += 100;
      limiter.cleanup(50);
      use();
      expect(limiter.used(keys, 'bytes')).toBe(9);
    });

    test('is found while thousands of records come and go', () => {
      const limiter = subject();
      const peers = Array.from({ length: 200 }, (_, n) => limiter.open({ address: `${n}` }));
      const used = new Map<number, number>();
      for (let round = 0; round < 20; round += 1) {
        for (let n = 0; n < 150; n += 1) limiter.charge({ address: `round-${round}-${n}` });
        if (round > 2) {
          for (let n = 0; n < 150; n += 1) {
            limiter.removePeer('address', `round-${round - 3}-${n}`);
          }
        }
        for (let n = round; n < 200; n += 7) {
          const cost = [0, 0.25 + (n % 4) / 4];
          expect(peers[n]?.check({ cost })).toBe('allowed');
          used.set(n, (used.get(n) ?? 0) + (cost[1] as number));
        }
        if (round % 4 === 3) {
          const n = round * 5;
          limiter.removePeer('address', `${n}`);
          used.delete(n);
        }
      }
      for (let n = 0; n < 200; n += 1) {
        expect([n, limiter.used({ address: `${n}` }, 'slow')]).toEqual([n, used.get(n) ?? 0]);
      }
    });

    // A shared table has no room for so many more.
    test.skipIf(core === 'shared')(
      'is found after an update with more rules, and with other scopes',
      () => {
        const limiter = subject();
        const peer = limiter.open(keys);
        peer.check({ cost: 5 });
        const more = Object.fromEntries(
          Array.from({ length: 9 }, (_, n) => [
            `more ${n}`,
            { scope: n % 2 === 0 ? 'address' : 'connection', rate: 1, burst: 5 },
          ]),
        );
        limiter.update({ rules: { ...spec.rules, ...more } });
        expect(peer.check({ cost: 5 })).toBe('allowed');
        expect(peer.check({ cost: 5 })).toMatchObject({ rule: 'messages' });
        expect(limiter.peers('address')).toBe(1);
        expect(limiter.used(keys, 'more 8')).toBe(5);
      },
    );

    test('is opened again after adopt, which changes the version of the secret', () => {
      const limiter = subject();
      const before = limiter.core.secretVersion;
      limiter.core.adopt(Uint32Array.of(1, 2, 3, 4));
      // The model has no slots, and a shared table finds by itself that they are out of date.
      if (core === 'js' || core === 'native') expect(limiter.core.secretVersion).not.toBe(before);
      const peer = limiter.open(keys);
      expect(peer.check({ cost: 9 })).toBe('allowed');
      expect(limiter.check(keys, { cost: 2 })).toMatchObject({ rule: 'messages' });
      // With records the secret stays.
      const version = limiter.core.secretVersion;
      limiter.core.adopt(Uint32Array.of(5, 6, 7, 8));
      expect(limiter.core.secretVersion).toBe(version);
      expect(peer.check({ cost: 2 })).toMatchObject({ rule: 'messages' });
    });
  });

  test('every odd key is a peer of its own, by key and opened', () => {
    const limiter = subject();
    // A shared table stores no longer key.
    const isStored = (key: string) => core !== 'shared' || key.length <= 128;
    const stored = ODD_KEYS.filter(isStored);
    for (const [n, address] of ODD_KEYS.entries()) {
      const cost = [0, 1 + (n % 5)];
      expect(limiter.check({ address }, { cost })).toBe('allowed');
      expect(limiter.open({ address }).check({ cost })).toBe('allowed');
    }
    expect(limiter.peers('address')).toBe(ODD_KEYS.length);
    for (const [n, address] of ODD_KEYS.entries()) {
      expect([n, limiter.used({ address }, 'slow')]).toEqual([n, 2 + 2 * (n % 5)]);
      limiter.check({ address }, { cost: [0, 1000] });
      limiter.ban('address', address, 1000 + n);
    }
    const { count, bans } = limiter.longestBans('address');
    expect(count).toBe(ODD_KEYS.length);
    expect(bans.map(([key]) => key)).toEqual([...stored].reverse());
    const { totalViolations, unnamedOffenders } = limiter.statistics('address');
    const unnamed = ODD_KEYS.length - stored.length;
    expect([totalViolations, unnamedOffenders]).toEqual([ODD_KEYS.length, unnamed]);
    for (const address of ODD_KEYS) limiter.removePeer('address', address);
    expect(limiter.statistics('address')).toMatchObject({ peers: 0, totalViolations: 0 });
  });

  test('keys of more than 128 and 1024 units are different peers to their last unit', () => {
    const limiter = subject();
    for (const length of [127, 128, 129, 1023, 1024, 1025, 5000]) {
      const key = 'é'.repeat(length - 1);
      for (const last of ['a', 'b', 'ā']) {
        expect(limiter.check({ address: key + last }, { cost: 10 })).toBe('allowed');
        expect(limiter.check({ address: key + last })).toMatchObject({ rule: 'bytes' });
      }
    }
    const { peers, totalViolations, unnamedOffenders } = limiter.statistics('address');
    // A shared table stores none of more than 128 units.
    expect([peers, totalViolations, unnamedOffenders]).toEqual([
      21,
      21,
      core === 'shared' ? 15 : 0,
    ]);
  });
});
