// Counts of violations around 2^53 - 1, the most that a snapshot may hold, on both engines.

import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  type SnapshotPeer,
} from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock, TESTS_NATIVE } from './support/limiters.js';

const MOST = Number.MAX_SAFE_INTEGER;

type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter;

describe.each(ENGINES)('On the %s engine', (engine) => {
  const clock = manualClock();
  const options = { engine, clock } as const;
  const kinds: [name: string, make: () => Limiter, refuse: (limiter: Limiter) => void][] = [
    [
      'RateLimiter',
      () => new RateLimiter({ ...options, burstLimit: 1 }),
      (limiter) => (limiter as RateLimiter).check('peer', 2),
    ],
    [
      'OrderbookRateLimiter',
      () => new OrderbookRateLimiter({ ...options, violationBanThreshold: MOST }),
      (limiter) => (limiter as OrderbookRateLimiter).check('peer'),
    ],
    [
      'DirectConnectionRateLimiter',
      () => new DirectConnectionRateLimiter({ ...options, orderbookBanThreshold: MOST }),
      (limiter) => (limiter as DirectConnectionRateLimiter).checkOrderbook('peer'),
    ],
  ];
  const peer = (key: string, violations: number): SnapshotPeer => ({
    ...{ key, violations, banSecondsLeft: null, idleSeconds: 0, bucket: null },
  });

  test.each(kinds)('violations of a %s stop at 2^53 - 1', (limiter, make, refuse) => {
    let subject = make();
    subject.restore({ format: 2, limiter, digests: [], peers: [peer('peer', MOST - 2)] });
    for (let n = 1; n < 6; n += 1) {
      refuse(subject);
      const violations = Math.min(MOST, MOST - 2 + n);
      expect(subject.getViolationCount('peer')).toBe(violations);
      const overview = { totalViolations: violations, topViolators: [['peer', violations]] };
      expect(subject.getOverview()).toMatchObject(overview);
      const snapshot = JSON.parse(JSON.stringify(subject.snapshot()));
      expect(snapshot.peers).toMatchObject([{ key: 'peer', violations }]);
      subject = make();
      expect(subject.restore(snapshot)).toBe(1);
    }
  });

  test.each(kinds)('totalViolations of a %s are exact up to 2^53 - 1', (limiter, make) => {
    const subject = make();
    const counts = [1, 5, ...Array<number>(500).fill(MOST), 3, MOST - 1, 7];
    const keys = counts.map((_, n) => `peer-${n}`);
    const peers = counts.map((violations, n) => peer(keys[n] as string, violations));
    expect(subject.restore({ format: 2, limiter, peers, digests: [] })).toBe(counts.length);
    expect(subject.getOverview().totalViolations).toBe(MOST);
    const total = () => subject.getOverview().totalViolations;
    for (const key of keys.slice(2, 501)) {
      subject.removePeer(key);
      expect(total()).toBe(MOST);
    }
    // One at 2^53 - 1 is left, and one a little below it.
    subject.removePeer(keys[501] as string);
    expect(total()).toBe(MOST);
    subject.removePeer(keys[0] as string);
    for (const n of [1, 502]) subject.removePeer(keys[n] as string);
    expect(total()).toBe(MOST);
    subject.removePeer(keys[504] as string);
    expect(total()).toBe(MOST - 1);
    subject.removePeer(keys[503] as string);
    expect(subject.getOverview()).toMatchObject({ totalViolations: 0, topViolators: [] });
    subject.restore({ format: 2, limiter, peers, digests: [] });
    subject.clear();
    expect(total()).toBe(0);
  });
});

test.runIf(TESTS_NATIVE)(
  'Both engines return the same results after a restore of large counts',
  () => {
    const clock = manualClock();
    const engines = ['native', 'js'] as const;
    const limiters = engines.map((engine) => new RateLimiter({ engine, clock, burstLimit: 1 }));
    const peers = [MOST, 2 ** 52, 2 ** 52, MOST - 1].map((violations, n) => {
      return { key: `${n}`, violations, banSecondsLeft: null, idleSeconds: 0 };
    });
    const answers = limiters.map((limiter) => {
      limiter.restore({ format: 1, limiter: 'RateLimiter', peers });
      const seen: unknown[] = [];
      for (let n = 0; n < 12; n += 1) {
        seen.push(limiter.check(`${n % 4}`, 2));
        if (n % 5 === 4) limiter.removePeer(`${n % 4}`);
        const { memoryBytes: _, ...overview } = limiter.getOverview();
        seen.push(overview, limiter.snapshot());
      }
      return seen;
    });
    expect(answers[0]).toEqual(answers[1]);
  },
);
