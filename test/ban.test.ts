// ban(): a ban by hand, on both engines.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { BAN_CHANNEL, type Ban, type LimiterOptions, OrderbookRateLimiter } from 'relay-limiter';
import { describe, expect, onTestFinished, test } from 'vitest';
import { codeOf, manualClock, ODD_KEYS } from './support/limiters.js';
import { TABLES } from './support/tables.js';

const CASES = TABLES.flatMap((table) =>
  (['OrderbookRateLimiter', 'DirectConnectionRateLimiter'] as const).map((name) => ({
    table,
    name,
  })),
);

describe.each(CASES)('$name.ban on the $table.name', ({ table, name }) => {
  const { engine } = table;
  function limiterOf(options: LimiterOptions = {}) {
    const clock = manualClock();
    const limiter = new table[name]({ banDuration: 64, engine, clock, ...options });
    const check = (key: string) =>
      limiter instanceof OrderbookRateLimiter ? limiter.check(key) : limiter.checkMessage(key);
    return { clock, limiter, check };
  }

  test('refuses an unknown peer until banDuration is over', () => {
    const { clock, limiter, check } = limiterOf();
    expect(limiter.ban('mallory')).toBe(true);
    expect(limiter.isBanned('mallory')).toBe(true);
    expect(limiter.getViolationCount('mallory')).toBe(0);
    expect(limiter.getBans()).toEqual({ count: 1, bans: [['mallory', 64]] });
    expect(check('mallory')).toBe(false);
    clock.now += 63.5;
    expect(check('mallory')).toBe(false);
    clock.now += 0.5;
    expect(limiter.isBanned('mallory')).toBe(false);
    expect(check('mallory')).toBe(true);
  });

  test('bans a peer for the given seconds, and never shortens a ban', () => {
    const { clock, limiter } = limiterOf();
    limiter.ban('mallory', 10);
    expect(limiter.getBans().bans).toEqual([['mallory', 10]]);
    limiter.ban('mallory', 20);
    limiter.ban('mallory', 5);
    expect(limiter.getBans().bans).toEqual([['mallory', 20]]);
    clock.now += 20;
    expect(limiter.isBanned('mallory')).toBe(false);
    expect(limiter.ban('mallory', 1)).toBe(true);
    expect(limiter.getBans().bans).toEqual([['mallory', 1]]);
  });

  test('is listed before bans of the same end that began earlier', () => {
    const { clock, limiter, check } = limiterOf();
    const keys = ['b', 'd', 'a', 'c'];
    // The order is neither that of the keys nor that of the first checks.
    for (const key of [...keys].sort()) check(key);
    for (const key of keys) limiter.ban(key);
    const names = (most?: number) => limiter.getBans(most).bans.map(([key]) => key);
    expect(names()).toEqual(['c', 'a', 'd', 'b']);
    expect(names(3)).toEqual(['c', 'a', 'd']);
    const restored = limiterOf({ clock }).limiter;
    restored.restore(limiter.snapshot());
    expect(restored.getBans()).toEqual(limiter.getBans());
  });

  test('bans a peer that has a handle, and removePeer removes the ban', () => {
    const { limiter } = limiterOf();
    const opened = limiter.open('mallory');
    const check = () => ('check' in opened ? opened.check() : opened.checkMessage());
    expect(check()).toBe(true);
    limiter.ban('mallory');
    expect(check()).toBe(false);
    limiter.removePeer('mallory');
    expect(limiter.isBanned('mallory')).toBe(false);
    expect(check()).toBe(true);
  });

  test('keeps the violations of a peer', () => {
    const { limiter } = limiterOf();
    const offend = () =>
      limiter instanceof OrderbookRateLimiter
        ? limiter.check('mallory')
        : limiter.checkOrderbook('mallory');
    for (let n = 0; n < 4; n += 1) offend();
    limiter.ban('mallory', 10);
    expect(limiter.getViolationCount('mallory')).toBe(3);
  });

  test('raises the violations to the given number, and never lowers them', () => {
    const { limiter } = limiterOf();
    limiter.ban('mallory', 10, 7);
    limiter.ban('mallory', 10, 2);
    expect(limiter.getViolationCount('mallory')).toBe(7);
    expect(limiter.getOverview()).toMatchObject({
      totalViolations: 7,
      topViolators: [['mallory', 7]],
    });
  });

  test('calls onBan once and publishes once as a ban begins', () => {
    const heard: Ban[] = [];
    const published: unknown[] = [];
    const { limiter } = limiterOf({ onBan: (ban) => heard.push(ban) });
    const hear = (message: unknown) => published.push(message);
    subscribe(BAN_CHANNEL, hear);
    onTestFinished(() => void unsubscribe(BAN_CHANNEL, hear));
    limiter.ban('mallory', 10);
    limiter.ban('mallory', 20);
    const ban = { key: 'mallory', violations: 0, banDuration: 10 };
    expect(heard).toEqual([ban]);
    expect(published).toEqual([{ limiter, ...ban }]);
    expect(limiter.getOverview().bansBegun).toBe(0);
  });

  test('returns false only if every peer of a full limiter is banned', () => {
    const { limiter, check } = limiterOf({ maxPeers: 2 });
    for (const key of ['a', 'b']) check(key);
    expect(['c', 'd', 'e', 'd'].map((key) => limiter.ban(key))).toEqual([true, true, false, true]);
    expect(limiter.isBanned('e')).toBe(false);
    expect(limiter.getBans().count).toBe(2);
  });

  test('starts a ban that a snapshot contains', () => {
    const { limiter } = limiterOf();
    limiter.ban('mallory', 10);
    const other = limiterOf().limiter;
    other.restore(JSON.parse(JSON.stringify(limiter.snapshot())));
    expect(other.getBans().bans).toEqual([['mallory', 10]]);
  });

  test('accepts any string as a key', () => {
    const { limiter } = limiterOf();
    for (const key of ODD_KEYS) limiter.ban(key);
    expect(limiter.getBans().count).toBe(ODD_KEYS.length);
    for (const key of ODD_KEYS) expect(limiter.isBanned(key)).toBe(true);
  });

  test('throws for an invalid key or an invalid time, and changes nothing', () => {
    const { limiter } = limiterOf();
    expect(codeOf(() => limiter.ban(7 as never))).toBe('ERR_LIMITER_KEY');
    for (const seconds of [0, -1, 65, Number.NaN, Infinity, '7', null]) {
      expect(codeOf(() => limiter.ban('mallory', seconds as never))).toBe('ERR_LIMITER_OPTION');
    }
    for (const violations of [-1, 1.5, '1', null]) {
      expect(codeOf(() => limiter.ban('mallory', 1, violations as never))).toBe(
        'ERR_LIMITER_OPTION',
      );
    }
    expect(() => limiter.ban('mallory', 65)).toThrow(
      'seconds must be greater than 0 and at most banDuration (64), got 65',
    );
    const failing = limiterOf({ clock: () => Number.NaN }).limiter;
    expect(codeOf(() => failing.ban('mallory'))).toBe('ERR_LIMITER_CLOCK');
    expect([limiter.getOverview().peers, failing.getOverview().peers]).toEqual([0, 0]);
  });

  test('bans no peer if banDuration is 0', () => {
    const { limiter } = limiterOf();
    const none = new table[name]({ banDuration: 0, engine });
    expect(codeOf(() => none.ban('mallory'))).toBe('ERR_LIMITER_OPTION');
    expect(limiter.getBans().count).toBe(0);
  });
});
