// unban() and banSecondsLeft(), on both engines.

import {
  type Ban,
  DirectConnectionRateLimiter,
  type LimiterOptions,
  OrderbookRateLimiter,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { codeOf, manualClock, ODD_KEYS } from './support/limiters.js';
import { comparable } from './support/snapshots.js';
import { TABLES } from './support/tables.js';

const NAMES = ['OrderbookRateLimiter', 'DirectConnectionRateLimiter'] as const;
const CASES = TABLES.flatMap((table) => NAMES.map((name) => ({ table, name })));

describe.each(CASES)('A ban of $name on the $table.name', ({ table, name }) => {
  const { engine } = table;
  function limiterOf(options: LimiterOptions = {}) {
    const clock = manualClock();
    const limiter = new table[name]({ banDuration: 64, engine, clock, ...options });
    const offend = (key: string) =>
      limiter instanceof OrderbookRateLimiter ? limiter.check(key) : limiter.checkOrderbook(key);
    const stateOf = () => {
      const { memoryBytes: _, ...overview } = limiter.getOverview();
      return { overview, bans: limiter.getBans(), snapshot: comparable(limiter.snapshot()) };
    };
    return { clock, limiter, offend, stateOf };
  }

  test('has less seconds left as time passes, and 0 from its end on', () => {
    const { clock, limiter } = limiterOf();
    const peer = limiter.open('mallory');
    const left = () => {
      expect(peer.banSecondsLeft()).toBe(limiter.banSecondsLeft('mallory'));
      return peer.banSecondsLeft();
    };
    expect(left()).toBe(0);
    limiter.ban('mallory', 10);
    expect(left()).toBe(10);
    clock.now += 2.5;
    expect(left()).toBe(7.5);
    expect(limiter.banSecondsLeft('alice')).toBe(0);
    clock.now += 7.5;
    expect(left()).toBe(0);
    clock.now += 1e9;
    expect(left()).toBe(0);
    clock.now -= 2e9;
    // A clock that stepped back: the ban lasts for its whole length again, as for a check.
    expect(left()).toBe(table.isShared ? 0 : 64);
  });

  test('is changed by no banSecondsLeft, neither in force nor over', () => {
    const { clock, limiter, offend, stateOf } = limiterOf();
    for (let n = 0; n < 4; n += 1) offend('mallory');
    limiter.ban('mallory', 10);
    const inForce = stateOf();
    limiter.banSecondsLeft('mallory');
    limiter.banSecondsLeft('alice');
    expect(stateOf()).toEqual(inForce);
    clock.now += 10;
    const over = stateOf();
    limiter.banSecondsLeft('mallory');
    expect(limiter.unban('mallory')).toBe(false);
    expect(stateOf()).toEqual(over);
    expect(limiter.getViolationCount('mallory')).toBe(3);
  });

  test('ended by unban leaves what a ban leaves that isBanned finds over', () => {
    // The first limiter unbans each peer at the instant at which the ban of the second is over.
    const [ended, over] = [limiterOf(), limiterOf()];
    const keys = ['unknown before', 'known', 'offender', 'x'.repeat(300)];
    for (const { limiter, offend } of [ended, over]) {
      offend('known');
      for (let n = 0; n < 6; n += 1) offend('offender');
      if (limiter instanceof DirectConnectionRateLimiter) limiter.checkMessage('offender', 5);
    }
    for (const key of keys) {
      ended.limiter.ban(key, 20);
      over.limiter.ban(key, 10);
    }
    for (const { clock } of [ended, over]) clock.now += 10;
    for (const key of keys) {
      expect(ended.limiter.unban(key)).toBe(true);
      expect(over.limiter.isBanned(key)).toBe(false);
    }
    expect(ended.stateOf()).toEqual(over.stateOf());
    for (const key of keys) expect(ended.offend(key)).toBe(over.offend(key));
    expect(ended.stateOf()).toEqual(over.stateOf());
    for (const { clock, limiter } of [ended, over]) {
      clock.now += 5000;
      limiter.cleanupOldEntries(60);
    }
    expect(ended.stateOf()).toEqual(over.stateOf());
    expect(ended.limiter.getOverview().peers).toBe(0);
  });

  test('ends once, for the peer only, and for its handle too', () => {
    const { limiter, offend } = limiterOf();
    const peer = limiter.open('mallory');
    const check = () => ('check' in peer ? peer.check() : peer.checkMessage());
    for (const key of ['mallory', 'eve']) limiter.ban(key);
    expect(check()).toBe(false);
    expect(limiter.unban('mallory')).toBe(true);
    expect([limiter.unban('mallory'), limiter.unban('nobody')]).toEqual([false, false]);
    expect([limiter.isBanned('mallory'), limiter.isBanned('eve')]).toEqual([false, true]);
    expect(limiter.getBans()).toEqual({ count: 1, bans: [['eve', 64]] });
    expect(check()).toBe(true);
    expect(offend('mallory') || limiter instanceof OrderbookRateLimiter).toBe(true);
    expect(limiter.getOverview().peers).toBe(2);
  });

  test('that is ended can begin again, and is announced again', () => {
    const heard: Ban[] = [];
    const { limiter } = limiterOf({ onBan: (ban) => heard.push(ban) });
    limiter.ban('mallory', 10);
    limiter.unban('mallory');
    limiter.ban('mallory', 5);
    expect(limiter.banSecondsLeft('mallory')).toBe(5);
    expect(heard.map(({ banDuration }) => banDuration)).toEqual([10, 5]);
  });

  test('that is ended is in no snapshot and makes the peer evictable', () => {
    const { limiter, offend } = limiterOf({ maxPeers: 2 });
    for (const key of ['a', 'b']) limiter.ban(key);
    expect(limiter.ban('c')).toBe(false);
    limiter.unban('a');
    expect(limiter.snapshot().peers.map(({ key }) => key)).toEqual(['b']);
    expect(limiter.ban('c')).toBe(true);
    offend('d');
    expect([limiter.isBanned('b'), limiter.isBanned('c')]).toEqual([true, true]);
    expect(limiter.getOverview()).toMatchObject({ peers: 2, evictions: 1 });
  });

  test('accepts any string as a key', () => {
    const { limiter } = limiterOf();
    for (const key of ODD_KEYS) limiter.ban(key, 10);
    for (const key of ODD_KEYS) expect(limiter.banSecondsLeft(key)).toBe(10);
    for (const [n, key] of ODD_KEYS.entries()) {
      expect(limiter.unban(key)).toBe(true);
      expect(limiter.getBans().count).toBe(ODD_KEYS.length - n - 1);
    }
  });

  test('has no seconds and no end for an invalid key or a failing clock', () => {
    const { limiter } = limiterOf();
    limiter.ban('mallory', 10);
    let now = 0;
    const failing = limiterOf({ clock: () => now }).limiter;
    failing.ban('mallory', 10);
    now = Number.NaN;
    for (const method of ['unban', 'banSecondsLeft'] as const) {
      for (const key of [1, undefined, null, {}, ['mallory']]) {
        expect(codeOf(() => limiter[method](key as never))).toBe('ERR_LIMITER_KEY');
      }
      expect(() => limiter[method](1 as never)).toThrow('a peer key must be a string, got 1');
      expect(codeOf(() => failing[method]('mallory'))).toBe('ERR_LIMITER_CLOCK');
    }
    now = 1;
    expect([limiter, failing].map((each) => each.getBans().count)).toEqual([1, 1]);
  });

  test('is read with one reading of the clock, of the user or of the engine', () => {
    const { clock, limiter } = limiterOf();
    limiter.ban('mallory', 10);
    const { reads } = clock;
    limiter.banSecondsLeft('mallory');
    limiter.unban('mallory');
    expect(clock.reads - reads).toBe(2);
    const own = new table[name]({ engine, banDuration: 3600 });
    own.ban('mallory');
    expect(own.banSecondsLeft('mallory')).toBeGreaterThan(0);
    expect(own.banSecondsLeft('mallory')).toBeLessThanOrEqual(3600);
    expect(own.unban('mallory')).toBe(true);
    expect(own.banSecondsLeft('mallory')).toBe(0);
  });
});

describe.each(TABLES)('unban on the $name', (table) => {
  const clock = manualClock();

  test('of an OrderbookRateLimiter resets the violations and the interval', () => {
    const limiter = new table.OrderbookRateLimiter({
      violationBanThreshold: 3,
      engine: table.engine,
      clock,
    });
    for (let n = 0; n < 6; n += 1) limiter.check('mallory');
    expect([limiter.isBanned('mallory'), limiter.getBackoffLevel('mallory')]).toEqual([
      true,
      'BANNED',
    ]);
    limiter.unban('mallory');
    expect([limiter.getViolationCount('mallory'), limiter.check('mallory')]).toEqual([0, true]);
    expect([limiter.check('mallory'), limiter.getViolationCount('mallory')]).toEqual([false, 1]);
  });

  test('of a DirectConnectionRateLimiter keeps violations, bucket and interval', () => {
    const limiter = new table.DirectConnectionRateLimiter({
      orderbookBanThreshold: 3,
      engine: table.engine,
      clock,
    });
    limiter.checkMessage('mallory', 15);
    for (let n = 0; n < 5; n += 1) limiter.checkOrderbook('mallory');
    expect([limiter.isBanned('mallory'), limiter.getViolationCount('mallory')]).toEqual([true, 4]);
    limiter.unban('mallory');
    expect(limiter.getViolationCount('mallory')).toBe(4);
    expect(limiter.getTokens('mallory')).toBe(5);
    // The interval is not over, and the violations are at the threshold: a new ban begins.
    expect([limiter.checkOrderbook('mallory'), limiter.isBanned('mallory')]).toEqual([false, true]);
  });
});
