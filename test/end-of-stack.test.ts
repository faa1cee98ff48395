// Checks near the end of the stack, on both engines: a call that throws leaves every count right, and in
// the TypeScript engine nothing changed. From each of the last frames one call is made, so that whatever it
// calls in turn runs out of stack once.

import { setFlagsFromString } from 'node:v8';
import {
  type Ban,
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
} from 'relay-limiter';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';
import { seeded } from './support/random.js';

type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;

const FRAMES = 120;

/** Calls `act` from each of the last frames; counts those in which it threw a RangeError. */
function nearTheEnd(act: () => void): number {
  let frames = 0;
  let thrown = 0;
  const descend = () => {
    try {
      descend();
    } catch {
      // This frame is one of the last.
    }
    frames += 1;
    if (frames > FRAMES) return;
    try {
      act();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      thrown += 1;
    }
  };
  descend();
  return thrown;
}

// When V8 optimizes a function is chance, and so is what stack it needs then.
beforeAll(() => {
  for (const flag of ['--no-opt', '--no-sparkplug', '--no-flush-bytecode'])
    setFlagsFromString(flag);
});
afterAll(() => {
  for (const flag of ['--opt', '--sparkplug', '--flush-bytecode']) setFlagsFromString(flag);
});

describe.each(ENGINES)('On the %s engine', (engine) => {
  const clock = manualClock();
  const heard: Ban[] = [];
  const options = { engine, clock, maxPeers: 20, onBan: (ban: Ban) => void heard.push(ban) };
  const kinds: [
    name: string,
    make: () => Limiter,
    verdict: (limiter: Limiter, key: string) => string,
  ][] = [
    [
      'RateLimiter',
      () => new RateLimiter({ ...options, rateLimit: 1, burstLimit: 2, disconnectThreshold: 9 }),
      (limiter, key) => (limiter as RateLimiter).check(key)[0],
    ],
    [
      'a handle of RateLimiter',
      () => new RateLimiter({ ...options, rateLimit: 1, burstLimit: 2 }),
      (limiter, key) => opened(limiter as RateLimiter, key).check()[0],
    ],
    [
      'OrderbookRateLimiter',
      () => new OrderbookRateLimiter({ ...options, violationBanThreshold: 3, banDuration: 9 }),
      (limiter, key) => ((limiter as OrderbookRateLimiter).check(key) ? 'allow' : 'refuse'),
    ],
    [
      'DirectConnectionRateLimiter',
      () =>
        new DirectConnectionRateLimiter({ ...options, orderbookBanThreshold: 3, banDuration: 9 }),
      (limiter, key) =>
        (limiter as DirectConnectionRateLimiter).checkOrderbook(key) ? 'allow' : 'refuse',
    ],
    [
      'messages of DirectConnectionRateLimiter',
      () => new DirectConnectionRateLimiter({ ...options, messageBurst: 2, messageRatePerSec: 1 }),
      (limiter, key) =>
        (limiter as DirectConnectionRateLimiter).checkMessage(key) ? 'allow' : 'refuse',
    ],
  ];

  const peers = new Map<string, ReturnType<RateLimiter['open']>>();
  const opened = (limiter: RateLimiter, key: string) => {
    const known = peers.get(key);
    if (known !== undefined) return known;
    const peer = limiter.open(key);
    peers.set(key, peer);
    return peer;
  };

  test.each(kinds)(
    'counts are right after checks near the end of the stack by %s',
    (_, make, verdict) => {
      const random = seeded(1);
      peers.clear();
      heard.length = 0;
      const limiter = make();
      const keys = Array.from({ length: 40 }, (_, n) => `${n}`.padEnd(n % 5 === 0 ? 200 : 1, '-'));
      let subject = make();
      let asked: string[] = [];
      let said: string[] = [];
      let at = 0;
      // Calls nothing once it has the answer.
      const ask = () => {
        at += 1;
        said[at] = verdict(subject, asked[at] as string);
      };
      // What has not run yet V8 compiles first, for which it needs more stack than all of these frames.
      for (let i = 0; i < 5000; i += 1) {
        clock.now += random();
        at = 0;
        asked = ['', random.pick(keys)];
        ask();
      }
      peers.clear();
      heard.length = 0;
      subject = limiter;
      const answers = new Map<string, number>();
      let [thrown, answered] = [0, 0];
      for (let round = 0; round < 60; round += 1) {
        clock.now += random() * 2;
        at = 0;
        asked = Array.from({ length: FRAMES + 1 }, () => random.pick(keys));
        said = new Array<string>(FRAMES + 1).fill('');
        thrown += nearTheEnd(ask);
        for (const one of said) {
          if (one === '') continue;
          answered += 1;
          answers.set(one, (answers.get(one) ?? 0) + 1);
        }
        const overview = limiter.getOverview();
        const { allow, delay, disconnect } = overview.verdicts;
        expect(allow).toBe(answers.get('allow') ?? 0);
        const counted = allow + delay + disconnect;
        // The native engine does not see where JavaScript's stack ends: a limiter that bans may have
        // counted a refusal for which its facade finds no stack.
        if (engine === 'native') expect(counted).toBeLessThanOrEqual(answered + thrown);
        else expect(counted).toBe(answered);
        const counts = keys.map((key) => limiter.getViolationCount(key));
        expect(overview.totalViolations).toBe(counts.reduce((a, b) => a + b, 0));
        expect(overview.peers).toBeLessThanOrEqual(20);
        expect(overview.topViolators.map(([, violations]) => violations)).toEqual(
          counts
            .filter((count) => count > 0)
            .sort((a, b) => b - a)
            .slice(0, 10),
        );
      }
      expect(thrown).toBeGreaterThan(60);
      expect(answered).toBeGreaterThan(600);
      if (engine === 'js') expect(heard).toHaveLength(limiter.getOverview().bansBegun);
      for (const key of keys) limiter.removePeer(key);
      const empty = { peers: 0, trackedPeers: 0, totalViolations: 0, unnamedOffenders: 0 };
      expect(limiter.getOverview()).toMatchObject({ ...empty, topViolators: [] });
      for (const key of keys) expect(verdict(limiter, key)).toBe('allow');
    },
  );
});
