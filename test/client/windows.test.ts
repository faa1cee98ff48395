// The three ways of counting: what six hours of endless demand look like, and what never happens.

import fc from 'fast-check';
import { PolicyLimiter } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { POLICIES, SIX_HOURS } from '../../examples/strategies/policies.js';
import {
  fixedWindows,
  refusals,
  slidingLog,
  tokenBuckets,
} from '../../examples/strategies/servers.js';
import { runs } from '../support/runs.js';
import { limited, mostIn, type Sent, sentOf, takes } from './support.js';

const SAFE = ['bucket', 'sliding'] as const;

const known = new Map<string, number[]>();

/** Returns the times of all requests in seconds from the start. The pause after a request is `between` seconds. */
function sendTimes(options: object, between = 0, start = 0): readonly number[] {
  const key = JSON.stringify([options, between, start]);
  const times = known.get(key) ?? simulate(options, between, start);
  known.set(key, times);
  return times;
}

function simulate(options: object, between: number, start: number): number[] {
  let now = start;
  const limiter = new PolicyLimiter({ policies: POLICIES, clock: () => now, ...options });
  const times: number[] = [];
  while (now - start < SIX_HOURS) {
    const delay = limiter.delaySeconds();
    if (delay === 0) {
      if (!limiter.tryAcquire()) throw new Error('it may go, and does not');
      times.push(now - start);
    }
    now += delay === 0 ? between : delay;
  }
  return times;
}

const units = (times: readonly number[]): Sent[] => times.map((at) => ({ at, cost: 1 }));
const gapsOf = (times: readonly number[]) =>
  times.slice(1).map((at, n) => ({ from: times[n] as number, gap: at - (times[n] as number) }));

describe('PolicyLimiter in six hours of endless demand under 240/60, 1800/600, 9000/3600, 21600/10800', () => {
  // Epoch seconds have coarse steps, whose errors must not add up.
  describe.each([0, 1.7e9])('on a clock that starts at %d', (start) => {
    it('exceeds no window with bucket, sends 41,000 of 43,200, and pauses below a second', () => {
      const times = sendTimes({}, 0, start);
      for (const { quota, windowSeconds } of POLICIES) {
        expect(mostIn(windowSeconds, units(times))).toBeLessThanOrEqual(quota);
      }
      expect(times.length).toBeGreaterThanOrEqual(41_000);
      expect(Math.max(...gapsOf(times).map(({ gap }) => gap))).toBeLessThan(1);
      expect(times.filter((at) => at < 599.9)).toHaveLength(1799);
    });

    it('exceeds no window with sliding, and sends at least 43,000 of 43,200', () => {
      const times = sendTimes({ algorithm: 'sliding' }, 0, start);
      for (const { quota, windowSeconds } of POLICIES) {
        expect(mostIn(windowSeconds, units(times))).toBe(quota);
      }
      expect(times.length).toBeGreaterThanOrEqual(43_000);
    });
  });

  it('uses every unit with an even bucket, half a second apart', () => {
    const times = sendTimes({ burstShare: 0 });
    expect(times).toHaveLength(43_200);
    const gaps = gapsOf(times).map(({ gap }) => gap);
    expect(Math.min(...gaps)).toBeCloseTo(0.5, 5);
    expect(Math.max(...gaps)).toBeCloseTo(0.5, 5);
  });

  it('has the pauses of aiohivebot with fixed', () => {
    // 0.19 seconds between requests, which is how fast they were answered there, one after the other.
    const times = sendTimes({ algorithm: 'fixed' }, 0.19);
    const sentIn = (seconds: number) => times.filter((at) => at < seconds).length;
    expect([60, 600, 3600, 7200].map(sentIn)).toEqual([240, 1800, 9000, 18_000]);
    const blocks = gapsOf(times).filter(({ gap }) => gap > 100);
    const [first, second, third, fourth, fifth] = blocks;
    expect(first?.from).toBeGreaterThan(460);
    expect(first?.from).toBeLessThan(464);
    expect(first?.gap).toBeGreaterThan(136);
    expect(first?.gap).toBeLessThan(139);
    expect([second, third, fourth].map((block) => Math.round(block?.from ?? 0))).toEqual([
      1061, 1661, 2262,
    ]);
    expect(fifth?.from).toBeGreaterThan(2840);
    expect(fifth?.from).toBeLessThan(2850);
    expect(fifth?.gap).toBeGreaterThan(750);
    expect(fifth?.gap).toBeLessThan(760);
    // The second hour has the same shape.
    expect(blocks.slice(5, 10).map(({ from }) => Math.round(from))).toEqual([
      4061, 4661, 5262, 5862, 6444,
    ]);
    // In the third hour the longest window is spent, and a probe is sent every 900 seconds.
    const probes = blocks.filter(({ from }) => from > 8000 && from < 10_800);
    expect(probes.map(({ gap }) => Math.round(gap))).toEqual([900, 900, 693]);
    expect(times.length).toBe(43_204);
  });
});

describe('servers', () => {
  const strategies: [string, object][] = [
    ['bucket', {}],
    ['an even bucket', { burstShare: 0 }],
    ['a bucket with half of the quota in one burst', { burstShare: 0.5 }],
    ['sliding', { algorithm: 'sliding' }],
  ];

  it.each(strategies)('refuse no request of %s', (_, options) => {
    const times = sendTimes(options);
    expect(refusals(slidingLog(POLICIES), times)).toBe(0);
    expect(refusals(tokenBuckets(POLICIES), times)).toBe(0);
    const phase = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
    fc.assert(
      fc.property(fc.array(phase, { minLength: 4, maxLength: 4 }), (phases) => {
        expect(refusals(fixedWindows(POLICIES, phases), times)).toBe(0);
      }),
      runs(20),
    );
  });

  it('refuse requests of fixed, so they do limit', () => {
    expect(refusals(slidingLog(POLICIES), sendTimes({ algorithm: 'fixed' }))).toBeGreaterThan(100);
  });

  it('refuse no request of a limiter whose jitterSeconds covers the differences in arrival', () => {
    const sent = sendTimes({ jitterSeconds: 1 });
    // The worst case: some requests are late, and those after them are not.
    const arrived = sent.map((at) => at + (at % 120 < 60 ? 1 : 0)).sort((a, b) => a - b);
    expect(refusals(slidingLog(POLICIES), arrived)).toBe(0);
    const unaware = sendTimes({ algorithm: 'sliding' }).map((at) => at + (at % 120 < 60 ? 1 : 0));
    expect(refusals(slidingLog(POLICIES), unaware)).toBeGreaterThan(0);
  });
});

const policy = fc.record({
  quota: fc.integer({ min: 1, max: 40 }),
  windowSeconds: fc.integer({ min: 1, max: 50 }),
});
const policies = fc
  .uniqueArray(policy, {
    selector: ({ windowSeconds }) => windowSeconds,
    minLength: 1,
    maxLength: 3,
  })
  .filter((given) => given.length > 0);
const burstShare = fc.constantFrom(0, 0.01, 0.1, 0.3, 0.5, 0.9);

/** A step of the test: a pause, then a take of a cost, possibly after waiting for its delay. */
const step = fc.record({
  // Eighths add up without rounding.
  pause: fc.integer({ min: 0, max: 100 }).map((n) => n / 8),
  units: fc.integer({ min: 0, max: 320 }),
  waits: fc.boolean(),
  refunds: fc.constantFrom('never', 'never', 'at once', 'later'),
});

describe.each(SAFE)('%s', (algorithm) => {
  it('never exceeds a quota, with refunds in any order at any time', () => {
    fc.assert(
      fc.property(fc.constantFrom(0.1, 0.5), takes, (burstShare, all) => {
        const quota = { quota: 20, windowSeconds: 100 };
        const { limiter, clock } = limited([quota], { algorithm, burstShare });
        const sent = sentOf(all, limiter, clock);
        expect(mostIn(100, sent)).toBeLessThanOrEqual(20 + 1e-6);
      }),
      runs(300),
    );
  });

  it('never exceeds a quota in any interval of its window, with any takes and refunds', () => {
    const steps = fc.array(step, { maxLength: 80 });
    const grain = fc.constantFrom(1, 8);
    fc.assert(
      fc.property(policies, burstShare, grain, steps, (given, share, eighths, all) => {
        const { limiter, clock } = limited(given, { algorithm, burstShare: share });
        const smallest = Math.min(...given.map(({ quota }) => quota));
        const sent: Sent[] = [];
        const later: (() => void)[] = [];
        for (const { pause, units: count, waits, refunds } of all) {
          const cost = Math.min(count / eighths, smallest);
          clock.now += pause;
          if (pause > 6) for (const refund of later.splice(0)) refund();
          if (waits) {
            const delay = limiter.delaySeconds(cost);
            expect(delay).toBeLessThan(Infinity);
            clock.now += delay;
          }
          const lease = limiter.tryLease(cost);
          if (waits) expect(lease).not.toBeNull();
          if (lease === null) continue;
          const entry = { at: clock.now, cost };
          sent.push(entry);
          const refund = () => {
            lease.refund();
            entry.cost = 0;
          };
          if (refunds === 'at once') refund();
          if (refunds === 'later') later.push(refund);
        }
        for (const { quota, windowSeconds } of given) {
          expect(mostIn(windowSeconds, sent)).toBeLessThanOrEqual(quota + 1e-6);
        }
      }),
      runs(500),
    );
  });

  it('grants every cost up to the smallest quota in the end, and none above it', () => {
    fc.assert(
      fc.property(
        policies,
        burstShare,
        fc.double({ min: 0, max: 1, noNaN: true }),
        (given, share, part) => {
          const { limiter, clock } = limited(given, { algorithm, burstShare: share });
          const smallest = Math.min(...given.map(({ quota }) => quota));
          for (let n = 0; n < 5; n += 1) {
            const delay = limiter.delaySeconds(smallest * part);
            const longest = Math.max(...given.map(({ windowSeconds }) => windowSeconds));
            expect(delay).toBeLessThanOrEqual(longest * 25);
            clock.now += delay;
            expect(limiter.tryAcquire(smallest * part)).toBe(true);
          }
          expect(limiter.delaySeconds(smallest * 1.001)).toBe(Infinity);
          expect(limiter.tryAcquire(smallest * 1.001)).toBe(false);
        },
      ),
      runs(),
    );
  });

  it('grants after the delay it returns, and not before a window has passed, on any clock', () => {
    const time = fc.double({ min: 0, max: 1.8e9, noNaN: true });
    const seconds = fc.double({ min: 1e-3, max: 1e5, noNaN: true });
    fc.assert(
      fc.property(time, seconds, fc.integer({ min: 1, max: 5 }), (start, windowSeconds, quota) => {
        const { limiter, clock } = limited([{ quota, windowSeconds }], { algorithm }, start);
        const sent: number[] = [];
        for (let n = 0; n < 12; n += 1) {
          clock.now += limiter.delaySeconds();
          expect(limiter.tryAcquire()).toBe(true);
          sent.push(clock.now);
        }
        for (const [n, at] of sent.slice(quota).entries()) {
          const before = sent[n] as number;
          // A server may compute the window in either way.
          expect(at - before).toBeGreaterThanOrEqual(windowSeconds);
          expect(at - windowSeconds).toBeGreaterThanOrEqual(before);
        }
      }),
      runs(1000),
    );
  });

  it('is unchanged if all takes are refunded at once', () => {
    fc.assert(
      fc.property(policies, fc.array(step, { maxLength: 20 }), (given, all) => {
        const one = limited(given, { algorithm });
        const twin = limited(given, { algorithm });
        for (const { pause, units: count } of all) {
          one.clock.now += pause;
          twin.clock.now += pause;
          const leases = Array.from({ length: count % 7 }, () => one.limiter.tryLease());
          for (const lease of leases) lease?.refund();
          expect(one.limiter.delaySeconds()).toBeCloseTo(twin.limiter.delaySeconds(), 6);
          if (count % 3 === 0) {
            expect(one.limiter.tryAcquire()).toBe(twin.limiter.tryAcquire());
          }
        }
      }),
      runs(),
    );
  });

  it('uses a small quota completely: one per second is one every second', () => {
    for (const quota of [1, 2, 3, 5, 9]) {
      const { limiter, clock } = limited([{ quota, windowSeconds: 1 }], { algorithm });
      const start = clock.now;
      let sent = 0;
      while (clock.now - start < 100) {
        if (limiter.tryAcquire()) sent += 1;
        clock.now += limiter.delaySeconds();
      }
      expect(sent).toBeGreaterThanOrEqual(100 * quota);
      expect(sent).toBeLessThanOrEqual(101 * quota);
    }
  });
});
