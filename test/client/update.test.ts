// What responses say: lower at once, higher only as far as is certain, never above one's own policies;
// blocks, probes and ramps; and servers that mean ill.

import fc from 'fast-check';
import type { Lease, PolicyLimiter } from 'relay-limiter/client';
import type { RateLimitInfo } from 'relay-limiter/headers';
import { describe, expect, it } from 'vitest';
import {
  burst,
  left,
  limited,
  mostIn,
  policyOf,
  type Quota,
  said,
  sentOf,
  takes,
} from './support.js';

const ROOMY = [{ quota: 1000, windowSeconds: 60 }];
const GREEDY = { algorithm: 'sliding', random: () => 0 } as const;
const greedy = (policies: readonly Quota[] = ROOMY, options = {}) =>
  limited(policies, { ...GREEDY, ...options });

function lease(limiter: PolicyLimiter, cost?: number): Lease {
  const taken = limiter.tryLease(cost);
  if (taken === null) throw new Error('it may not go');
  return taken;
}

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
        { numRuns: 30 },
      );
    },
  );

  it('of a cached response has no effect', () => {
    const { limiter } = greedy();
    limiter.update(left(0, 60), 429, { ageSeconds: 1 });
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

describe('policies that a server reports', () => {
  const tight = (more = {}) => said({ policies: [policyOf(10, 10, more)] });

  it('limit requests if they are tighter, until one window after their last report', () => {
    const { limiter, clock } = greedy();
    limiter.update(tight());
    expect(burst(limiter)).toBe(10);
    expect(limiter.delaySeconds()).toBe(10);
    clock.now += 10;
    expect(burst(limiter)).toBe(990);
  });

  it('keep their count while they are repeated, and restart it when they change', () => {
    const { limiter, clock } = greedy();
    limiter.update(tight());
    expect(burst(limiter)).toBe(10);
    clock.now += 5;
    limiter.update(tight());
    expect(limiter.delaySeconds()).toBe(5);
    limiter.update(said({ policies: [policyOf(20, 10)] }));
    expect(burst(limiter)).toBe(20);
  });

  it('allow a cost above their quota when the whole quota is available', () => {
    const { limiter } = greedy();
    limiter.update(tight());
    expect(limiter.tryAcquire(50)).toBe(true);
    expect(limiter.delaySeconds()).toBeLessThanOrEqual(600);
  });

  it('count the bytes of a response when it has ended', () => {
    const { limiter, clock } = greedy();
    const info = said({ policies: [policyOf(1000, 10, { unit: 'content-bytes' })] });
    limiter.update(info);
    expect(burst(limiter, 50)).toBe(50);
    limiter.update(info, 200, { contentBytes: 999 });
    expect(limiter.delaySeconds()).toBe(0);
    limiter.update(info, 200, { contentBytes: 999 });
    expect(limiter.delaySeconds()).toBe(10);
    clock.now += 10;
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('restart their count when their unit changes', () => {
    const { limiter } = greedy();
    limiter.update(said({ policies: [policyOf(10, 10, { unit: 'content-bytes' })] }));
    limiter.update(said(), 200, { contentBytes: 10 });
    limiter.update(said({ policies: [policyOf(10, 10)] }));
    expect(burst(limiter)).toBe(10);
  });

  it('bound the number of requests under way', () => {
    const { limiter } = greedy();
    limiter.update(said({ policies: [policyOf(2, 10, { unit: 'concurrent-requests' })] }));
    const [first] = [lease(limiter), lease(limiter)];
    expect(limiter.tryLease()).toBeNull();
    first?.release();
    expect(limiter.tryLease()).not.toBeNull();
  });

  it('stop counting once they are as wide as a configured policy', () => {
    const { limiter } = greedy();
    limiter.update(said({ policies: [policyOf(10, 60)] }));
    expect(burst(limiter)).toBe(10);
    limiter.update(said({ policies: [policyOf(5000, 60)] }));
    expect(burst(limiter)).toBe(990);
  });

  it('of an unknown unit limit requests only when nothing remains', () => {
    const { limiter } = greedy();
    const policies = [policyOf(5, 10, { unit: 'dollars' })];
    limiter.update({ ...left(1, 10), policies });
    expect(burst(limiter)).toBe(1000);
    const other = greedy();
    other.limiter.update({ ...left(0, 10), policies });
    expect(other.limiter.delaySeconds()).toBeCloseTo(11, 6);
  });
});

describe('Retry-After', () => {
  const blocked = (seconds: number) => said({ retryAfterSeconds: seconds });

  it('blocks, then allows one probe, then more requests with each answer', () => {
    const { limiter, clock } = greedy();
    limiter.update(blocked(20), 429);
    expect(limiter.delaySeconds()).toBe(20);
    expect(limiter.state()).toMatchObject({ blockedSeconds: 20, ramping: true });
    clock.now += 20;
    const sent: number[] = [];
    for (let round = 0; round < 5; round += 1) {
      const leases: Lease[] = [];
      for (let next = limiter.tryLease(); next && leases.length < 999; next = limiter.tryLease()) {
        leases.push(next);
      }
      sent.push(leases.length);
      for (const one of leases) limiter.update(said(), 200, { lease: one });
    }
    expect(sent.slice(0, 4)).toEqual([1, 2, 4, 8]);
    expect(sent[4]).toBeGreaterThan(100);
    expect(limiter.state().ramping).toBe(false);
  });

  it('blocks again when the probe is refused', () => {
    const { limiter, clock } = greedy();
    limiter.update(blocked(20), 503);
    clock.now += 20;
    limiter.update(blocked(30), 503, { lease: lease(limiter) });
    expect(limiter.delaySeconds()).toBe(30);
    clock.now += 30;
    expect(burst(limiter)).toBe(1);
  });

  it('waits 10 seconds at most for the answer to a probe, and not at all after its refund', () => {
    const { limiter, clock } = greedy();
    limiter.update(blocked(20), 429);
    clock.now += 20;
    const probe = lease(limiter);
    expect(limiter.delaySeconds()).toBe(10);
    probe.refund();
    expect(limiter.delaySeconds()).toBe(0);
    lease(limiter);
    clock.now += 10;
    expect(burst(limiter)).toBe(2);
  });

  it('is not ended by answers to earlier requests', () => {
    const { limiter, clock } = greedy();
    const before = lease(limiter);
    limiter.update(blocked(20), 429, { lease: lease(limiter) });
    clock.now += 20;
    limiter.update(said(), 200, { lease: before });
    expect(burst(limiter)).toBe(1);
  });

  it('applies before the remaining amount of the same response (draft 11, B.3)', () => {
    const { limiter, clock } = greedy();
    limiter.update({ ...left(15, 40), retryAfterSeconds: 20 }, 429);
    clock.now += 20;
    let sent = 0;
    for (let at = 20; at < 40; at += 1) {
      for (let next = limiter.tryLease(); next; next = limiter.tryLease()) {
        sent += 1;
        limiter.update(said(), 200, { lease: next });
      }
      clock.now += 1;
    }
    expect(sent).toBe(15);
  });

  it('of a redirection does not block other requests', () => {
    const { limiter } = greedy();
    limiter.update(blocked(20), 302);
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('blocks only the policies that a problem body names', () => {
    const { limiter, clock } = greedy();
    limiter.update(blocked(20), 429, { violated: ['a', 'b'] });
    expect(limiter.delaySeconds()).toBe(20);
    expect(limiter.state()).toMatchObject({ blockedSeconds: 0, ramping: false });
    clock.now += 20;
    expect(burst(limiter)).toBe(1000);
  });

  it('for a policy is not ended by answers to requests under way', () => {
    const { limiter } = greedy();
    const [first, last] = [lease(limiter), lease(limiter)];
    limiter.update(blocked(30), 429, { violated: ['a'], lease: first });
    limiter.update(left(5, 20), 200, { lease: last });
    expect(limiter.delaySeconds()).toBe(30);
  });

  it('for a policy ends at its time, even if the remaining amount must last longer', () => {
    const { limiter, clock } = greedy();
    limiter.update(left(500, 3000));
    limiter.update(blocked(5), 429, { violated: ['a'] });
    expect(limiter.delaySeconds()).toBe(5);
    clock.now += 5;
    expect(burst(limiter)).toBe(500);
  });

  it('of 30 days allows a probe after maxWaitSeconds', () => {
    const { limiter, clock } = greedy(ROOMY, { maxWaitSeconds: 100 });
    limiter.update(blocked(30 * 86_400), 429);
    expect(limiter.delaySeconds()).toBe(100);
    clock.now += 100;
    expect(burst(limiter)).toBe(1);
  });
});

describe('a refusal without a time', () => {
  it('causes a random backoff, and its maximum doubles each time', () => {
    const { limiter, clock } = greedy(ROOMY, { random: () => 0.999999 });
    for (const most of [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]) {
      limiter.update(said(), 429, { lease: lease(limiter) });
      expect(limiter.state().blockedSeconds).toBeCloseTo(most, 2);
      clock.now += Math.max(most, limiter.delaySeconds());
    }
    // A good answer resets the backoff.
    clock.now += limiter.delaySeconds();
    limiter.update(said(), 200, { lease: lease(limiter) });
    clock.now += limiter.delaySeconds();
    limiter.update(said(), 429, { lease: lease(limiter) });
    expect(limiter.state().blockedSeconds).toBeCloseTo(1, 2);
    const { limiter: lucky } = greedy();
    lucky.update(said(), 429);
    expect(lucky.state().blockedSeconds).toBe(0);
  });

  it('halves the rate once for all requests under way, and good answers raise it in steps', () => {
    const { limiter, clock } = greedy([{ quota: 60, windowSeconds: 60 }]);
    const leases = Array.from({ length: 5 }, () => lease(limiter));
    for (const one of leases) limiter.update(said(), 429, { lease: one });
    expect(limiter.state().rateShare).toBe(0.5);
    clock.now += 10;
    lease(limiter);
    // One request per two seconds, however much of the window is left.
    limiter.update(said(), 200);
    expect(limiter.delaySeconds()).toBeCloseTo(2, 6);
    const share = limiter.state().rateShare;
    expect(share).toBeCloseTo(0.5 + 1 / 64, 6);
    for (let n = 0; n < 40; n += 1) limiter.update(said(), 200);
    expect(limiter.state()).toMatchObject({ rateShare: 1, ramping: false });
  });

  it('never delays a request by more than maxWaitSeconds after the previous one', () => {
    const day = [{ quota: 24, windowSeconds: 86_400 }];
    const { limiter, clock } = greedy(day, { maxWaitSeconds: 600 });
    for (let n = 0; n < 8; n += 1) {
      limiter.update(said(), 503, { lease: lease(limiter) });
      clock.now += limiter.delaySeconds();
    }
    lease(limiter);
    limiter.update(said(), 200);
    expect(limiter.state().rateShare).toBeLessThan(0.05);
    expect(limiter.delaySeconds()).toBe(600);
  });

  it('counts once while its backoff lasts', () => {
    const { limiter, clock } = greedy(ROOMY, { random: () => 0.5 });
    for (let n = 0; n < 5; n += 1) limiter.update(said(), 429);
    limiter.update(said(), 200);
    expect(limiter.state()).toEqual({
      blockedSeconds: 0.5,
      ramping: true,
      rateShare: 0.5,
      waiting: 0,
    });
    clock.now += 0.5;
    expect(burst(limiter)).toBe(1);
  });

  it('has no effect if the response says that nothing remains', () => {
    const { limiter } = greedy();
    limiter.update(left(0, 10), 429);
    expect(limiter.state()).toMatchObject({ rateShare: 1, blockedSeconds: 0 });
    expect(limiter.delaySeconds()).toBeCloseTo(11, 6);
  });

  it('may have a Retry-After of 0', () => {
    const { limiter } = greedy();
    limiter.update(said({ retryAfterSeconds: 0 }), 429);
    expect(limiter.state().rateShare).toBe(0.5);
  });
});

describe('requests of cost 0', () => {
  it('are delayed by the backoff too', () => {
    const { limiter, clock } = greedy(ROOMY, { random: () => 0.999 });
    let sent = 0;
    for (let tenths = 0; tenths < 6000; tenths += 1) {
      const taken = limiter.tryLease(0);
      if (taken !== null) {
        sent += 1;
        limiter.update(said(), 429, { lease: taken });
        taken.release();
      }
      clock.now += 0.1;
    }
    // The requests are 1, 2, 4, ... seconds apart.
    expect(sent).toBeLessThanOrEqual(11);
    expect(limiter.state().rateShare).toBe(1 / 64);
  });
});

describe('a refund', () => {
  it('restores the state before the request, whatever the server has reported', () => {
    const policies = [policyOf(30, 3600)];
    const news: [string, (limiter: PolicyLimiter) => void][] = [
      ['a tighter policy', (limiter) => limiter.update(said({ policies }))],
      ['what is left', (limiter) => limiter.update(left(100, 1000))],
      ['both', (limiter) => limiter.update({ ...left(100, 1000), policies })],
      ['a refusal', (limiter) => limiter.update(said(), 429)],
    ];
    const step = fc.record({
      pause: fc.constantFrom(0, 0, 1, 7, 100),
      cost: fc.constantFrom(0, 1, 2, 3),
      count: fc.integer({ min: 1, max: 5 }),
      kept: fc.boolean(),
      reverse: fc.boolean(),
    });
    for (const algorithm of ['bucket', 'sliding'] as const) {
      fc.assert(
        fc.property(fc.constantFrom(...news), fc.array(step, { maxLength: 20 }), (said, steps) => {
          const [, tell] = said;
          const one = limited([{ quota: 60, windowSeconds: 60 }], { ...GREEDY, algorithm });
          const twin = limited([{ quota: 60, windowSeconds: 60 }], { ...GREEDY, algorithm });
          for (const { limiter } of [one, twin]) tell(limiter);
          for (const { pause, cost, count, kept, reverse } of steps) {
            one.clock.now += pause;
            twin.clock.now += pause;
            const leases = Array.from({ length: count }, () => one.limiter.tryLease(cost));
            for (const taken of reverse ? leases.reverse() : leases) taken?.refund();
            expect(one.limiter.delaySeconds()).toBeCloseTo(twin.limiter.delaySeconds(), 6);
            if (kept) expect(one.limiter.tryAcquire(cost)).toBe(twin.limiter.tryAcquire(cost));
          }
        }),
      );
    }
  });

  it('never leads to more than a policy of the server allows, at any time', () => {
    for (const algorithm of ['bucket', 'sliding'] as const) {
      fc.assert(
        fc.property(takes, (all) => {
          const { limiter, clock } = limited(ROOMY, { algorithm, burstShare: 0.5 });
          const tell = () => limiter.update(said({ policies: [policyOf(20, 100)] }));
          tell();
          const sent = sentOf(all, limiter, clock, tell);
          expect(mostIn(100, sent)).toBeLessThanOrEqual(20 + 1e-6);
        }),
        { numRuns: 200 },
      );
    }
  });

  it('of a probe allows another probe', () => {
    const { limiter, clock } = greedy(ROOMY, { maxWaitSeconds: 30 });
    limiter.update(left(0, 1000));
    clock.now += 30;
    const probe = lease(limiter);
    expect(limiter.delaySeconds()).toBe(30);
    probe.refund();
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('does not end the block of a policy', () => {
    const { limiter } = greedy();
    const under = lease(limiter, 5);
    limiter.update(said({ retryAfterSeconds: 20 }), 429, { violated: ['a'] });
    under.refund();
    expect(limiter.delaySeconds()).toBe(20);
  });

  it('does not speed up pacing that began after its request', () => {
    const { limiter } = limited(ROOMY, { random: () => 0 });
    const before = lease(limiter);
    limiter.update(left(51, 99));
    expect(burst(limiter)).toBe(5);
    before.refund();
    expect(limiter.delaySeconds()).toBeGreaterThan(0);
  });

  it('of a request sent before a report does not advance the next probe', () => {
    const { limiter, clock } = greedy(ROOMY, { maxWaitSeconds: 30 });
    limiter.update(left(5, 1000));
    const before = lease(limiter);
    clock.now += 10;
    limiter.update(left(0, 1000));
    before.refund();
    expect(limiter.delaySeconds()).toBe(30);
  });

  it('gives a policy back only units that it has counted', () => {
    const { limiter } = greedy();
    const before = lease(limiter, 5);
    limiter.update(said({ policies: [policyOf(10, 10)] }));
    expect(burst(limiter)).toBe(10);
    before.refund();
    expect(limiter.delaySeconds()).toBe(10);
  });
});

describe('a hostile server', () => {
  it('cannot fill the memory: the limiter keeps 16 of 1,000 policies', () => {
    const { limiter } = greedy();
    for (let n = 0; n < 1000; n += 1) {
      const name = `p${n}`;
      limiter.update({ ...left(500, 1e9, { name }), policies: [policyOf(500, 1e9, { name })] });
    }
    const many = Array.from({ length: 1000 }, (_, n) => `q${n}`);
    limiter.update(
      said({
        policies: many.map((name) => policyOf(400, 1e9, { name })),
        limits: many.flatMap((name) => left(400, 1e9, { name }).limits),
      }),
    );
    expect(limiter.snapshot().limits).toHaveLength(16);
  });

  it('cannot evict a limit that is reported again and again', () => {
    const { limiter } = greedy();
    for (let n = 0; n < 100; n += 1) {
      limiter.update(left(50, 1e9, { name: 'kept' }));
      limiter.update(left(500, 1e9, { name: `p${n}` }));
    }
    expect(burst(limiter)).toBe(50);
  });

  it('cannot delay a probe by more than maxWaitSeconds, with any numbers', () => {
    const amount = fc.oneof(
      fc.constantFrom(0, 1, 2 ** 31, 999_999_999_999_999, 1e300, Number.NaN, Infinity, -1, 0.5),
      fc.integer({ min: 0, max: 1000 }),
    );
    const unit = fc.constantFrom('requests', 'content-bytes', 'concurrent-requests', 'x');
    const name = fc.constantFrom(null, 'a', 'b');
    const info = fc.record({
      policies: fc.array(
        fc.record({
          name,
          quota: amount,
          windowSeconds: fc.option(amount),
          unit,
          partitionKey: name,
        }),
        { maxLength: 20 },
      ),
      limits: fc.array(
        fc.record({
          name,
          limit: name,
          remaining: fc.option(amount),
          resetSeconds: fc.option(amount),
        }),
        { maxLength: 20 },
      ),
      retryAfterSeconds: fc.option(amount),
    });
    const status = fc.constantFrom(undefined, 200, 403, 429, 503);
    const algorithm = fc.constantFrom('bucket' as const, 'sliding' as const, 'fixed' as const);
    fc.assert(
      fc.property(algorithm, fc.array(fc.tuple(info, status), { maxLength: 10 }), (how, news) => {
        const { limiter, clock } = limited([{ quota: 1e6, windowSeconds: 1 }], { algorithm: how });
        for (const [what, code] of news) {
          limiter.update(what as unknown as RateLimitInfo, code);
          for (let probe = 0; probe < 3; probe += 1) {
            const delay = limiter.delaySeconds();
            expect(delay).toBeGreaterThanOrEqual(0);
            expect(delay).toBeLessThanOrEqual(600);
            clock.now += delay;
            expect(limiter.tryAcquire()).toBe(true);
          }
        }
        const { limits } = limiter.snapshot();
        expect(JSON.parse(JSON.stringify(limits))).toEqual(limits);
      }),
    );
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
