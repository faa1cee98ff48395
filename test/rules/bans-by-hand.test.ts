// Bans by hand on both engines and the model.

import { describe, expect, test } from 'vitest';
import { banningSubject, PEER, REFUSED, untilBan } from './banning.js';
import type { BanSpec, RuleSpec } from './plans.js';
import { CORES } from './subject.js';

describe.each(CORES)('A ban by hand on the %s core', (core) => {
  const banning = (policy?: Partial<BanSpec>, rule?: Partial<RuleSpec>) =>
    banningSubject(core, policy, rule);

  test('prolongs a ban but never shortens it', () => {
    const limiter = banning();
    expect(limiter.ban('address', 'peer', 10)).toBe(true);
    expect(limiter.banSecondsLeft('address', 'peer')).toBe(10);
    expect(limiter.ban('address', 'peer', 5)).toBe(true);
    expect(limiter.banSecondsLeft('address', 'peer')).toBe(10);
    expect(limiter.ban('address', 'peer', 20)).toBe(true);
    expect(limiter.at(1005).banSecondsLeft('address', 'peer')).toBe(15);
    expect(limiter.ban('address', 'peer', Infinity)).toBe(true);
    expect(limiter.ban('address', 'peer', 5)).toBe(true);
    expect(limiter.check(PEER)).toEqual({ ban: Infinity, scope: 'address' });
  });

  test('of a new peer stores a record without violations', () => {
    const limiter = banning();
    expect(limiter.banSecondsLeft('address', 'peer')).toBe(0);
    limiter.ban('address', 'peer', 10);
    expect(limiter.statistics('address')).toMatchObject({
      ...{ peers: 1, totalViolations: 0, topViolators: [], bansBegun: 0 },
    });
    expect(limiter.violations('address', 'peer')).toBe(0);
    expect(limiter.answers()).toEqual([0, 0, 0]);
  });

  test('changes neither the violations nor the levels', () => {
    const limiter = banning({ seconds: [10, 20, 30] });
    limiter.check(PEER, REFUSED);
    limiter.check(PEER, REFUSED);
    limiter.ban('address', 'peer', 5);
    limiter.unban('address', 'peer');
    // The third violation, and the first step of the ladder.
    expect(limiter.check(PEER, REFUSED)).toMatchObject({
      begun: { address: { seconds: 10, violations: 3 } },
    });
    limiter.ban('address', 'peer', 50);
    limiter.at(1050);
    expect(untilBan(limiter)).toBe(20);
  });

  // A shared table keeps the latest time.
  test.skipIf(core === 'shared')(
    'leaves no time of a level, if the clock steps back after it',
    () => {
      const limiter = banning({ violations: 2, withinSeconds: 10 });
      limiter.ban('address', 'peer', 5);
      limiter.at(900).unban('address', 'peer');
      // More than ten seconds between two violations, in which the first drains.
      expect(limiter.check(PEER, REFUSED)).not.toHaveProperty('ban');
      expect(limiter.at(920).check(PEER, REFUSED)).not.toHaveProperty('ban');
      expect(limiter.check(PEER, REFUSED)).toHaveProperty('ban');
    },
  );

  test('keeps forgotten what is forgotten of the ban level', () => {
    const limiter = banning({ seconds: [10, 20, 30, 40], forgetAfterSeconds: 100 });
    for (const seconds of [10, 20, 30]) {
      expect(untilBan(limiter)).toBe(seconds);
      limiter.now += seconds;
    }
    // Two of three levels.
    limiter.now += 250;
    limiter.ban('address', 'peer', 10);
    limiter.now += 5;
    // The ban is in force: nothing is forgotten during it.
    limiter.ban('address', 'peer', 500);
    limiter.now += 500;
    expect(untilBan(limiter)).toBe(20);
  });

  test('ends with unban, which keeps violations and levels', () => {
    const limiter = banning({ seconds: [10, 20, 30], forgetAfterSeconds: 100 });
    expect(limiter.unban('address', 'peer')).toBe(false);
    expect(limiter.peers('address')).toBe(0);
    untilBan(limiter);
    expect(limiter.at(1004).unban('address', 'peer')).toBe(true);
    expect(limiter.unban('address', 'peer')).toBe(false);
    expect(limiter.banSecondsLeft('address', 'peer')).toBe(0);
    expect(limiter.violations('address', 'peer')).toBe(3);
    expect(limiter.check(PEER)).toBe('allowed');
    expect(untilBan(limiter)).toBe(20);
    // The last ban ended with unban.
    limiter.unban('address', 'peer');
    limiter.at(1104 - 2 ** -20);
    expect(untilBan(limiter)).toBe(30);
    limiter.unban('address', 'peer');
    limiter.now += 100;
    expect(untilBan(limiter)).toBe(30);
  });

  test('is over at its end: unban finds none', () => {
    const limiter = banning();
    limiter.ban('address', 'peer', 10);
    expect(limiter.at(1010).unban('address', 'peer')).toBe(false);
    expect(limiter.check(PEER)).toBe('allowed');
  });

  test('ends with removePeer, which forgets everything', () => {
    const limiter = banning({ seconds: [10, 20, 30] });
    untilBan(limiter);
    limiter.removePeer('address', 'peer');
    limiter.removePeer('address', 'nobody');
    expect(limiter.banSecondsLeft('address', 'peer')).toBe(0);
    expect(limiter.violations('address', 'peer')).toBe(0);
    expect(limiter.statistics('address')).toMatchObject({ peers: 0, totalViolations: 0 });
    expect(limiter.check(PEER)).toBe('allowed');
    expect(untilBan(limiter)).toBe(10);
  });
});
