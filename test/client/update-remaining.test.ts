// PolicyLimiter.update with a report of what remains: a lower amount counts at once, a higher one only as far as is
// certain, and none raises the configured policies.

import fc from 'fast-check';
import type { Lease } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { runs } from '../support/runs.js';
import { burst, greedy, lease, left, limited, policyOf, ROOMY, said } from './support.js';

/**
 * Returns how many requests a server refuses that allows 40 in 10 seconds and reports what remains. The client has
 * eight connections with random delays.
 */
function refusedOutOfOrder(algorithm: 'bucket' | 'sliding', random: (at: number) => number) {
  const { limiter, clock } = limited(ROOMY, { algorithm, random: () => 0 });
  const quota = 40;
  const events: { at: number; act: () => void }[] = [];
  const after = (seconds: number, act: () => void) => events.push({ at: clock.now + seconds, act });
  const start = clock.now;
  const end = () => start + 10 * (Math.floor((clock.now - start) / 10) + 1);
  let window = 0;
  let used = 0;
  let refused = 0;
  let delays = 0;
  const arrive = (taken: Lease) => {
    if (end() !== window) used = 0;
    window = end();
    if (used === quota) refused += 1;
    else used += 1;
    const info = left(quota - used, window - clock.now);
    after(random(delays++), () => {
      limiter.update(info, 200, { lease: taken });
      taken.release();
      send();
    });
  };
  const send = () => {
    const taken = limiter.tryLease();
    if (taken !== null) after(random(delays++), () => arrive(taken));
    else after(limiter.delaySeconds(), send);
  };
  // The first answer reports the limit before the other connections start.
  send();
  for (let others = 0; others < 7; others += 1) after(2, send);
  for (let steps = 0; steps < 600; steps += 1) {
    events.sort((a, b) => b.at - a.at);
    const next = events.pop();
    clock.now = next?.at ?? clock.now;
    next?.act();
  }
  return refused;
}

describe('a reported remaining amount', () => {
  it('limits requests at once if it is lower, until one second after its reset', () => {
    const { limiter, clock } = greedy();
    limiter.update(left(3, 20));
    expect(burst(limiter)).toBe(3);
    expect(limiter.delaySeconds()).toBeCloseTo(21, 6);
    clock.now += 21;
    expect(burst(limiter)).toBe(1000 - 3);
  });

  it('never raises what the configured policies allow', () => {
    const { limiter } = greedy([{ quota: 5, windowSeconds: 60 }]);
    limiter.update(left(1_000_000, 60));
    expect(burst(limiter)).toBe(5);
    limiter.update(left(1_000_000, 60));
    expect(limiter.delaySeconds()).toBe(60);
  });

  it('is reduced by requests sent after the answered one', () => {
    const { limiter } = greedy();
    const first = lease(limiter);
    for (let n = 0; n < 4; n += 1) lease(limiter);
    limiter.update(left(10, 60), 200, { lease: first });
    expect(burst(limiter)).toBe(6);
  });

  it('is reduced by all requests under way if the answered one is unknown', () => {
    const { limiter, clock } = greedy();
    const leases = Array.from({ length: 4 }, () => lease(limiter, 2));
    leases[0]?.release();
    limiter.update(left(10, 60));
    expect(burst(limiter)).toBe(4);
    // A forgotten lease counts for a minute at most.
    clock.now += 61;
    limiter.update(left(10, 60));
    expect(burst(limiter)).toBe(10);
  });

  it('is raised by newer responses and only lowered by older ones', () => {
    const { limiter } = greedy();
    const [first, second, third] = [lease(limiter), lease(limiter), lease(limiter)];
    limiter.update(left(3, 60), 200, { lease: second });
    // 3 less the third request and less the first, which may not have arrived. The report for the first is older.
    limiter.update(left(900, 60), 200, { lease: first });
    expect(limiter.delaySeconds(1)).toBe(0);
    expect(limiter.delaySeconds(2)).toBeGreaterThan(0);
    limiter.update(left(50, 60), 200, { lease: third });
    // Both other requests were under way with the third, so the server may not have counted them.
    expect(limiter.delaySeconds(48)).toBe(0);
    expect(limiter.delaySeconds(49)).toBeGreaterThan(0);
    limiter.update(left(12, 60), 200, { lease: first });
    // All three requests are answered, so the server has counted them.
    expect(burst(limiter)).toBe(12);
  });

  it('grows by the refund of a request sent after the answered one', () => {
    const { limiter } = greedy();
    const first = lease(limiter);
    const second = lease(limiter);
    limiter.update(left(2, 60), 200, { lease: first });
    second.refund();
    first.refund();
    expect(burst(limiter)).toBe(2);
  });

  it('is reduced by an earlier request under way, and grows by its refund', () => {
    const { limiter } = greedy();
    lease(limiter, 2).release();
    const [first, second] = [lease(limiter, 3), lease(limiter)];
    limiter.update(left(10, 60), 200, { lease: second });
    expect(limiter.delaySeconds(7)).toBe(0);
    expect(limiter.delaySeconds(8)).toBeGreaterThan(0);
    first?.refund();
    expect(burst(limiter)).toBe(10);
  });

  it('is not reduced by a request answered before, even if its lease is still open', () => {
    const { limiter } = greedy();
    const first = lease(limiter);
    limiter.update(said(), 200, { lease: first });
    limiter.update(left(10, 60), 200, { lease: lease(limiter) });
    first.refund();
    expect(burst(limiter)).toBe(10);
  });

  it('is reduced by a request answered in the meantime, which may have arrived later', () => {
    const { limiter } = greedy();
    const [first, second] = [lease(limiter), lease(limiter)];
    limiter.update(said(), 200, { lease: first });
    first?.release();
    limiter.update(left(10, 60), 200, { lease: second });
    expect(burst(limiter)).toBe(9);
  });

  it('is not reduced by a lease that has been open for a minute', () => {
    const { limiter, clock } = greedy();
    lease(limiter);
    clock.now += 60;
    limiter.update(left(10, 60), 200, { lease: lease(limiter) });
    expect(burst(limiter)).toBe(10);
  });

  it('is not reduced by a request refunded before the report', () => {
    const { limiter } = greedy();
    const [first, second] = [lease(limiter), lease(limiter, 5)];
    second?.refund();
    limiter.update(left(10, 60), 200, { lease: first });
    expect(burst(limiter)).toBe(10);
  });

  it('is what the lowest report says once all requests of a burst are answered', () => {
    const { limiter } = greedy();
    const leases = Array.from({ length: 5 }, () => lease(limiter));
    for (const [n, one] of leases.entries()) {
      limiter.update(left(14 - n, 60), 200, { lease: one });
      one.release();
    }
    expect(burst(limiter)).toBe(10);
  });

  it('counts requests of a burst that were answered without a report as not counted', () => {
    const { limiter } = greedy();
    const leases = Array.from({ length: 5 }, () => lease(limiter));
    limiter.update(left(14, 60), 200, { lease: leases[0] });
    for (const one of leases.slice(1)) limiter.update(said(), 200, { lease: one });
    expect(burst(limiter)).toBe(10);
  });

  it('does not become positive by a refund smaller than the missing units', () => {
    const { limiter } = greedy();
    const [first, second] = [lease(limiter), lease(limiter), lease(limiter, 4)];
    limiter.update(left(2, 60), 200, { lease: first });
    second?.refund();
    // 2 less 4.
    expect(limiter.delaySeconds()).toBeGreaterThan(0);
  });

  it.each(['bucket', 'sliding'] as const)(
    'is never exceeded when requests and answers overtake each other (%s)',
    (algorithm) => {
      fc.assert(
        fc.property(fc.array(fc.nat(), { minLength: 200, maxLength: 200 }), (numbers) => {
          const random = (at: number) => ((numbers[at % 200] ?? 0) % 1000) / 1000;
          expect(refusedOutOfOrder(algorithm, random)).toBe(0);
        }),
        runs(30),
      );
    },
  );

  it('of a cached response has no effect', () => {
    const { limiter } = greedy();
    limiter.update(left(0, 60), 200, { ageSeconds: 1 });
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('lasts for the window of its policy if no reset is reported', () => {
    const named = greedy([{ quota: 1000, windowSeconds: 30, name: 'a' }]);
    named.limiter.update(left(0, null));
    expect(named.limiter.delaySeconds()).toBeCloseTo(31, 6);
    const told = greedy();
    told.limiter.update({ ...left(0, null), policies: [policyOf(500, 12)] });
    expect(told.limiter.delaySeconds()).toBeCloseTo(13, 6);
    const unknown = greedy();
    unknown.limiter.update(left(0, null));
    expect(unknown.limiter.delaySeconds()).toBeCloseTo(61, 6);
  });

  it('of 0 adds a random wait, so that clients do not return together', () => {
    const { limiter } = greedy(ROOMY, { random: () => 0.5 });
    limiter.update(left(0, 20));
    expect(limiter.delaySeconds()).toBeCloseTo(22, 6);
    limiter.update(left(0, 300, { name: 'b' }));
    expect(limiter.delaySeconds()).toBeCloseTo(302.5, 6);
  });

  it('is spread by bucket over the time left, with a share in one burst', () => {
    const { limiter, clock } = limited(ROOMY, { random: () => 0 });
    limiter.update(left(50, 99));
    expect(burst(limiter)).toBe(5);
    expect(limiter.delaySeconds()).toBeCloseTo(2, 6);
    let sent = 5;
    for (let seconds = 0; seconds < 99; seconds += 1) {
      clock.now += 1;
      sent += burst(limiter);
    }
    expect(sent).toBe(50);
  });

  it('is kept per name and partition, and each one limits requests', () => {
    const { limiter } = greedy();
    limiter.update(left(5, 60, { partitionKey: 'YQ==' }));
    limiter.update(left(3, 60, { partitionKey: 'Yg==' }));
    limiter.update(left(7, 60, { name: null, limit: 10 }));
    expect(burst(limiter)).toBe(3);
    limiter.update(left(9, 60, { partitionKey: 'Yg==' }));
    expect(burst(limiter)).toBe(2);
  });
});

it('a late answer does not subtract requests that newer answers have counted', () => {
  const { limiter, clock } = greedy();
  const slow = lease(limiter);
  for (let n = 1; n <= 60; n += 1) {
    const fast = lease(limiter);
    limiter.update(left(99 - n, 10), 200, { lease: fast });
    fast.release();
  }
  clock.now += 12;
  const fast = lease(limiter);
  limiter.update(left(99, 60), 200, { lease: fast });
  fast.release();
  limiter.update(left(99, 1), 200, { lease: slow });
  slow.release();
  // All units that remain, less the slow request, which the server may not have counted.
  expect(burst(limiter)).toBe(98);
});

it('requests sent before a report do not slow down the pace after it', () => {
  const { limiter, clock } = limited(ROOMY, { random: () => 0 });
  limiter.update(left(0, 5));
  for (clock.now += 6; !limiter.tryAcquire(100); clock.now += 1);
  limiter.update(left(100, 50));
  expect(limiter.delaySeconds()).toBeLessThan(1);
});
