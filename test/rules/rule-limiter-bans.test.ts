// RuleLimiter's contract of bans, on both engines: violations, the ladder, jitter, the channel, bans by hand.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { BAN_CHANNEL, type RuleBan, RuleLimiter, type RuleLimiterOptions } from 'relay-limiter';
import { beforeEach, describe, expect, test } from 'vitest';
import { ENGINES, type ManualClock, manualClock } from '../support/limiters.js';
import { ALLOWED, banned } from './verdicts.js';

describe.each(ENGINES)('Bans of RuleLimiter on the %s engine', (engine) => {
  let clock: ManualClock;
  beforeEach(() => {
    clock = manualClock(1000);
  });
  const create = (options: Partial<RuleLimiterOptions>) =>
    new RuleLimiter({ engine, clock, scopes: { peer: {} }, rules: {}, ...options });
  const policy = {
    violations: 3,
    withinSeconds: 30,
    seconds: [60, 600],
    forgetAfterSeconds: 1000,
  };
  const events: RuleBan[] = [];
  const withBans = (options: Partial<RuleLimiterOptions> = {}) => {
    events.length = 0;
    return create({
      rules: { messages: { scope: 'peer', rateLimit: 0.001, burstLimit: 1 } },
      bans: { peer: policy },
      onBan: (ban) => events.push(ban),
      ...options,
    });
  };

  test('begin with the refusal that reaches the violations, and climb the ladder', () => {
    const limits = withBans();
    const peer = limits.open('a');
    expect(peer.check()).toEqual(ALLOWED);
    expect([peer.check().outcome, peer.check().outcome]).toEqual(['delay', 'delay']);
    expect(peer.check()).toEqual(banned(60, 'peer', 'messages'));
    expect(events).toEqual([
      { scope: 'peer', key: 'a', rule: 'messages', violations: 3, banDuration: 60 },
    ]);
    clock.now += 20;
    expect(peer.check()).toEqual(banned(40, 'peer'));
    expect(limits.banSecondsLeft('peer', 'a')).toBe(40);
    clock.now += 40;
    for (let n = 0; n < 2; n += 1) expect(peer.check().outcome).toBe('delay');
    expect(peer.check()).toEqual(banned(600, 'peer', 'messages'));
    clock.now += 600 + 1000;
    limits.check('a');
    for (let n = 0; n < 3; n += 1) limits.check('a');
    expect(events.map(({ banDuration }) => banDuration)).toEqual([60, 600, 600]);
    clock.now += 600 + 2000;
    limits.check('a');
    for (let n = 0; n < 3; n += 1) limits.check('a');
    expect(events.map(({ violations }) => violations)).toEqual([3, 6, 9, 12]);
    expect(events.at(-1)?.banDuration).toBe(60);
    expect(limits.getStats().scopes['peer']).toMatchObject({
      violators: [['a', 12]],
      bans: 1,
      bansBegun: 4,
      totalViolations: 12,
    });
  });

  test('vary by the jitter, with one random number each, drawn ahead', () => {
    const draws = [0, 0.5, 0.75, 0.25];
    let drawn = 0;
    const limits = withBans({
      bans: { peer: { ...policy, violations: 1, seconds: 100, jitter: 0.5 } },
      random: () => draws[drawn++] as number,
    });
    expect(drawn).toBe(1);
    for (const key of ['a', 'b', 'c']) {
      limits.check(key);
      limits.check(key);
    }
    expect(events.map(({ banDuration }) => banDuration)).toEqual([50, 100, 125]);
    expect(drawn).toBe(4);
  });

  test('are published on the channel of bans', () => {
    const messages: unknown[] = [];
    const listener = (message: unknown) => void messages.push(message);
    const limits = withBans({ bans: { peer: { ...policy, violations: 1 } } });
    subscribe(BAN_CHANNEL, listener);
    limits.check('a');
    limits.check('a');
    limits.ban('peer', 'b', 60);
    unsubscribe(BAN_CHANNEL, listener);
    expect(messages).toEqual([{ limiter: limits, ...events[0] }]);
  });

  test('by hand last as long as they are told, and never become shorter', () => {
    const limits = withBans();
    expect(limits.ban('peer', 'a')).toBe(true);
    expect(limits.banSecondsLeft('peer', 'a')).toBe(60);
    limits.ban('peer', 'a', 10);
    expect(limits.banSecondsLeft('peer', 'a')).toBe(60);
    limits.ban('peer', 'a', Infinity);
    expect(limits.check('a')).toEqual(banned(Infinity, 'peer'));
    expect(limits.getBans('peer')).toEqual({ count: 1, bans: [['a', Infinity]] });
    expect(limits.unban('peer', 'a')).toBe(true);
    expect(limits.unban('peer', 'a')).toBe(false);
    expect(limits.check('a')).toEqual(ALLOWED);
    expect(events).toEqual([]);
  });
});
