// PeerGroup's contract, on both engines.

import { describe, expect, test, vi } from 'vitest';
import { codeOf, manualClock } from './support/limiters.js';
import { TABLES } from './support/tables.js';

describe.each(TABLES)(
  'PeerGroup on the $name',
  ({ engine, RateLimiter, DirectConnectionRateLimiter }) => {
    const clock = manualClock();
    const create = (disconnectThreshold: number | null = null) =>
      new RateLimiter({
        ...{ rateLimit: 1, burstLimit: 2, disconnectThreshold, engine, clock },
        maxPeers: 100_000,
      });

    test('returns one verdict per member in the order of keys()', () => {
      const limiter = create(2);
      for (let n = 0; n < 2; n += 1) limiter.check('late');
      for (let n = 0; n < 3; n += 1) limiter.check('gone');
      const group = limiter.group(['new', 'late', 'gone']);
      expect([...group.check()]).toEqual([0, 1, 2]);
      expect(limiter.getViolationCount('late')).toBe(1);
      expect(limiter.getViolationCount('gone')).toBe(2);
      expect(limiter.check('new')).toEqual(['allow', 0]);
      expect(limiter.check('new')[0]).toBe('delay');
    });

    // V8 hashes all strings of one great length alike: in a Map each would be compared with all before it.
    test('accepts long keys as members, and gives none of them to a Map', () => {
      const group = create().group(['short']);
      const maps = [vi.spyOn(Map.prototype, 'has'), vi.spyOn(Map.prototype, 'set')];
      maps.push(vi.spyOn(Map.prototype, 'get'), vi.spyOn(Map.prototype, 'delete'));
      const key = (n: number) => `${n}`.padStart(65_536, 'x');
      for (let n = 0; n < 3; n += 1) group.add(key(n));
      group.add(key(1));
      const wereDeleted = [key(0), key(0)].map((one) => group.delete(one));
      const longest = maps.map(({ mock }) =>
        Math.max(...mock.calls.map(([id]) => String(id).length)),
      );
      vi.restoreAllMocks();
      expect([...group.keys()]).toEqual(['short', key(2), key(1)]);
      expect(wereDeleted).toEqual([true, false]);
      expect(longest).toEqual([129, 129, 129, 129]);
    });

    test('accepts keys and peers as members, each only once', () => {
      const limiter = create();
      const group = limiter.group(['a', limiter.open('b'), 'a']);
      group.add(limiter.open('a'));
      group.add('c');
      expect(group.size).toBe(3);
      expect([...group.keys()]).toEqual(['a', 'b', 'c']);
      expect(group.delete(limiter.open('a'))).toBe(true);
      expect(group.delete('a')).toBe(false);
      group.add('a');
      expect([...group.keys()].sort()).toEqual(['a', 'b', 'c']);
      limiter.check('a', 2);
      const byKey = Object.fromEntries([...group.check()].map((v, i) => [[...group.keys()][i], v]));
      expect(byKey).toEqual({ a: 1, b: 0, c: 0 });
      expect([...limiter.group().check()]).toEqual([]);
    });

    test('accepts changes of its members between checks and during a read of the clock', () => {
      const limiter = create();
      const group = limiter.group(['a']);
      expect([...group.check()]).toEqual([0]);
      group.add('b');
      expect([...group.check(2)]).toEqual([1, 0]);
      group.delete('a');
      expect([...group.check()]).toEqual([1]);
      let visit = () => {};
      const restless = new RateLimiter({
        engine,
        clock: () => {
          visit();
          return 5;
        },
      });
      const room = restless.group(['a', 'b']);
      visit = () => room.delete('a');
      expect([...room.check(1, new Uint8Array(2).fill(9))]).toEqual([0, 9]);
      visit = () => room.add('c');
      expect(codeOf(() => room.check(1, new Uint8Array(1)))).toBe('ERR_LIMITER_OPTION');
      visit = () => room.add('d');
      expect(room.check()).toHaveLength(3);
      restless.clear();
      const verdicts = new Uint8Array(2);
      visit = () => structuredClone(verdicts, { transfer: [verdicts.buffer] });
      expect(codeOf(() => room.check(1, verdicts))).toBe('ERR_LIMITER_OPTION');
      expect(restless.getStats().trackedPeers).toBe(0);
    });

    test('keeps the bucket of a removed member', () => {
      const limiter = create();
      const group = limiter.group(['a']);
      group.check(2);
      group.delete('a');
      expect(limiter.check('a')[0]).toBe('delay');
    });

    test('takes the cost from each member', () => {
      const group = create().group(['a', 'b']);
      expect([...group.check(2)]).toEqual([0, 0]);
      expect([...group.check(0)]).toEqual([0, 0]);
      expect([...group.check(0.5)]).toEqual([1, 1]);
      expect([...group.check(3)]).toEqual([1, 1]);
    });

    test('writes only the bytes of its members into a given array', () => {
      const group = create().group(['a', 'b']);
      const verdicts = new Uint8Array(8).fill(9);
      expect(group.check(2, verdicts.subarray(2))).toHaveLength(6);
      expect([...verdicts]).toEqual([9, 9, 0, 0, 9, 9, 9, 9]);
      group.check(1, verdicts);
      expect([...verdicts]).toEqual([1, 1, 0, 0, 9, 9, 9, 9]);
    });

    test('throws for invalid input before it checks any member', () => {
      const limiter = create();
      const group = limiter.group(['a', 'b']);
      expect(codeOf(() => group.check(-1))).toBe('ERR_LIMITER_COST');
      expect(codeOf(() => group.check(Number.NaN))).toBe('ERR_LIMITER_COST');
      expect(codeOf(() => group.check(1, new Uint8Array(1)))).toBe('ERR_LIMITER_OPTION');
      for (const array of [[0, 0], new Uint16Array(2), Object.create(Uint8Array.prototype)]) {
        expect(codeOf(() => group.check(1, array as never))).toBe('ERR_LIMITER_OPTION');
      }
      for (const members of ['peer', 5, null, {}]) {
        expect(codeOf(() => limiter.group(members as never))).toBe('ERR_LIMITER_OPTION');
      }
      expect(codeOf(() => group.add(1 as never))).toBe('ERR_LIMITER_KEY');
      expect(codeOf(() => group.add(null as never))).toBe('ERR_LIMITER_KEY');
      expect(codeOf(() => group.add({} as never))).toBe('ERR_LIMITER_KEY');
      expect(codeOf(() => group.delete(undefined as never))).toBe('ERR_LIMITER_KEY');
      expect(codeOf(() => limiter.group([7] as never))).toBe('ERR_LIMITER_KEY');
      expect(group.size).toBe(2);
      expect(limiter.getStats().trackedPeers).toBe(0);
    });

    test('returns the right verdicts if the table grows during a check', () => {
      const limiter = create();
      limiter.check('first', 2);
      const keys = ['first', ...Array.from({ length: 50_000 }, (_, n) => `peer-${n}`), 'last'];
      const group = limiter.group(keys);
      const verdicts = group.check(2);
      expect(verdicts[0]).toBe(1);
      expect(verdicts.indexOf(1, 1)).toBe(-1);
      expect(limiter.getStats().trackedPeers).toBe(keys.length);
      expect(group.check().indexOf(0)).toBe(-1);
    });

    test('counts violations of its members, whatever happens to the records of the offenders', () => {
      const limiter = create();
      const keys = Array.from({ length: 400 }, (_, n) => `member ${n}`);
      const group = limiter.group(keys);
      const expectCounts = (countOf: (n: number) => number) => {
        expect(group.check(3)).toEqual(new Uint8Array(400).fill(1));
        expect(keys.map((key) => limiter.getViolationCount(key))).toEqual(
          keys.map((_, n) => countOf(n)),
        );
      };
      const offend = (from: number, end: number) => {
        for (let n = from; n < end; n += 1) limiter.check(`other ${n}`, 3);
      };
      for (let n = 1; n <= 3; n += 1) expectCounts(() => n);
      // The table of the offenders grows, and moves them.
      offend(0, 1000);
      expectCounts(() => 4);
      // It does not grow here: others get the memory of removed members.
      for (const key of keys.slice(0, 200)) limiter.removePeer(key);
      offend(1000, 1200);
      for (let n = 1; n <= 2; n += 1) expectCounts((i) => (i < 200 ? n : n + 4));
      limiter.clear();
      offend(0, 400);
      for (let n = 1; n <= 2; n += 1) expectCounts(() => n);
      expect(limiter.getStats().totalViolations).toBe(400 + 2 * 400);
    });

    test('returns 0, 1 and 2 for allowed, refused and banned connections', () => {
      const limiter = new DirectConnectionRateLimiter({
        messageRatePerSec: 1,
        messageBurst: 2,
        orderbookBanThreshold: 1,
        engine,
        clock,
      });
      limiter.checkMessage('late', 2);
      limiter.checkOrderbook('banned');
      limiter.checkOrderbook('banned');
      const group = limiter.group(['new', limiter.open('late'), 'banned']);
      expect([...group.check()]).toEqual([0, 1, 2]);
      expect(limiter.getViolationCount('late')).toBe(0);
    });
  },
);
