// What responses say: lower at once, higher only as far as is certain, never above one's own policies;
// blocks, probes and ramps; and servers that mean ill.

import fc from 'fast-check';
import type { Lease, PolicyLimiter } from 'relay-limiter/client';
import type { RateLimitInfo } from 'relay-limiter/headers';
import { describe, expect, it, test } from 'vitest';
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
 * How many requests a server of 40 in a window of 10 seconds refuses, that tells what is left, to a
 * client of eight connections of any delay.
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
  // The first tells of the limit, before the others go.
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

describe('what is left', () => {
  it('is obeyed at once when it is less, until its reset and a second of margin', () => {
    const { limiter, clock } = greedy();
    limiter.update(left(3, 20));
    expect(burst(limiter)).toBe(3);
    expect(limiter.delaySeconds()).toBeCloseTo(21, 6);
    clock.now += 21;
    expect(burst(limiter)).toBe(1000 - 3);
  });

  it('never raises what the own policies allow', () => {
    const { limiter } = greedy([{ quota: 5, windowSeconds: 60 }]);
    limiter.update(left(1_000_000, 60));
    expect(burst(limiter)).toBe(5);
    limiter.update(left(1_000_000, 60));
    expect(limiter.delaySeconds()).toBe(60);
  });

  it('is less what was sent since the request that it answers', () => {
    const { limiter } = greedy();
    const first = lease(limiter);
    for (let n = 0; n < 4; n += 1) lease(limiter);
    limiter.update(left(10, 60), 200, { lease: first });
    expect(burst(limiter)).toBe(6);
  });

  it('is less all that is under way where the request is not known', () => {
    const { limiter, clock } = greedy();
    const leases = Array.from({ length: 4 }, () => lease(limiter, 2));
    leases[0]?.release();
    limiter.update(left(10, 60));
    expect(burst(limiter)).toBe(4);
    // Who forgets to release is not counted for longer than a minute.
    clock.now += 61;
    limiter.update(left(10, 60));
    expect(burst(limiter)).toBe(10);
  });

  it('is raised by newer responses, and by older ones only lowered', () => {
    const { limiter } = greedy();
    const [first, second, third] = [lease(limiter), lease(limiter), lease(limiter)];
    limiter.update(left(3, 60), 200, { lease: second });
    // Three less the third request, and the first, which may be on its way still. That knows less.
    limiter.update(left(900, 60), 200, { lease: first });
    expect(limiter.delaySeconds(1)).toBe(0);
    expect(limiter.delaySeconds(2)).toBeGreaterThan(0);
    limiter.update(left(50, 60), 200, { lease: third });
    // So may both others have been: they were under way with it.
    expect(limiter.delaySeconds(48)).toBe(0);
    expect(limiter.delaySeconds(49)).toBeGreaterThan(0);
    limiter.update(left(12, 60), 200, { lease: first });
    // All three have been answered, so the server has counted them.
    expect(burst(limiter)).toBe(12);
  });

  it('grows by a refund of what was sent after the request that told it', () => {
    const { limiter } = greedy();
    const first = lease(limiter);
    const second = lease(limiter);
    limiter.update(left(2, 60), 200, { lease: first });
    second.refund();
    first.refund();
    expect(burst(limiter)).toBe(2);
  });

  it('is less what was sent before and is still under way, and grows when that was never sent', () => {
    const { limiter } = greedy();
    lease(limiter, 2).release();
    const [first, second] = [lease(limiter, 3), lease(limiter)];
    limiter.update(left(10, 60), 200, { lease: second });
    expect(limiter.delaySeconds(7)).toBe(0);
    expect(limiter.delaySeconds(8)).toBeGreaterThan(0);
    first?.refund();
    expect(burst(limiter)).toBe(10);
  });

  it('is not less what was answered before, however long its lease is kept', () => {
    const { limiter } = greedy();
    const first = lease(limiter);
    limiter.update(said(), 200, { lease: first });
    limiter.update(left(10, 60), 200, { lease: lease(limiter) });
    first.refund();
    expect(burst(limiter)).toBe(10);
  });

  it('is less what was answered while its request was under way: it may have come before', () => {
    const { limiter } = greedy();
    const [first, second] = [lease(limiter), lease(limiter)];
    limiter.update(said(), 200, { lease: first });
    first?.release();
    limiter.update(left(10, 60), 200, { lease: second });
    expect(burst(limiter)).toBe(9);
  });

  it('is not less what nobody has ended for a minute', () => {
    const { limiter, clock } = greedy();
    lease(limiter);
    clock.now += 60;
    limiter.update(left(10, 60), 200, { lease: lease(limiter) });
    expect(burst(limiter)).toBe(10);
  });

  it('is not less what was refunded before it was told', () => {
    const { limiter } = greedy();
    const [first, second] = [lease(limiter), lease(limiter, 5)];
    second?.refund();
    limiter.update(left(10, 60), 200, { lease: first });
    expect(burst(limiter)).toBe(10);
  });

  it('does not become more than nothing by refunds of more than was told', () => {
    const { limiter } = greedy();
    const [first, second] = [lease(limiter), lease(limiter), lease(limiter, 4)];
    limiter.update(left(2, 60), 200, { lease: first });
    second?.refund();
    // Two less four.
    expect(limiter.delaySeconds()).toBeGreaterThan(0);
  });

  it.each(['bucket', 'sliding'] as const)(
    'is never exceeded (%s) by requests and answers that overtake each other',
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

  it('of a cached response says nothing', () => {
    const { limiter } = greedy();
    limiter.update(left(0, 60), 429, { ageSeconds: 1 });
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('lasts as long as the window of its policy where no reset is told', () => {
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

  it('waits a little longer at random, so that not all come back at once', () => {
    const { limiter } = greedy(ROOMY, { random: () => 0.5 });
    limiter.update(left(0, 20));
    expect(limiter.delaySeconds()).toBeCloseTo(22, 6);
    limiter.update(left(0, 300, { name: 'b' }));
    expect(limiter.delaySeconds()).toBeCloseTo(302.5, 6);
  });

  it('is spread by bucket over the time left, a share of it at once', () => {
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

  it('is kept apart for names and partitions, and all are obeyed', () => {
    const { limiter } = greedy();
    limiter.update(left(5, 60, { partitionKey: 'YQ==' }));
    limiter.update(left(3, 60, { partitionKey: 'Yg==' }));
    limiter.update(left(7, 60, { name: null, limit: 10 }));
    expect(burst(limiter)).toBe(3);
    limiter.update(left(9, 60, { partitionKey: 'Yg==' }));
    expect(burst(limiter)).toBe(2);
  });
});

describe('policies that a server tells', () => {
  const tight = (more = {}) => said({ policies: [policyOf(10, 10, more)] });

  it('are obeyed where they are tighter, and forgotten a window after they were told last', () => {
    const { limiter, clock } = greedy();
    limiter.update(tight());
    expect(burst(limiter)).toBe(10);
    expect(limiter.delaySeconds()).toBe(10);
    clock.now += 10;
    expect(burst(limiter)).toBe(990);
  });

  it('keep their count while they are told again, and start afresh when they change', () => {
    const { limiter, clock } = greedy();
    limiter.update(tight());
    expect(burst(limiter)).toBe(10);
    clock.now += 5;
    limiter.update(tight());
    expect(limiter.delaySeconds()).toBe(5);
    limiter.update(said({ policies: [policyOf(20, 10)] }));
    expect(burst(limiter)).toBe(20);
  });

  it('let a cost above their quota go when all of it is there', () => {
    const { limiter } = greedy();
    limiter.update(tight());
    expect(limiter.tryAcquire(50)).toBe(true);
    expect(limiter.delaySeconds()).toBeLessThanOrEqual(600);
  });

  it('count bytes when the response has ended', () => {
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

  it('start afresh when they count something else', () => {
    const { limiter } = greedy();
    limiter.update(said({ policies: [policyOf(10, 10, { unit: 'content-bytes' })] }));
    limiter.update(said(), 200, { contentBytes: 10 });
    limiter.update(said({ policies: [policyOf(10, 10)] }));
    expect(burst(limiter)).toBe(10);
  });

  it('bound how many requests are under way', () => {
    const { limiter } = greedy();
    limiter.update(said({ policies: [policyOf(2, 10, { unit: 'concurrent-requests' })] }));
    const [first] = [lease(limiter), lease(limiter)];
    expect(limiter.tryLease()).toBeNull();
    first?.release();
    expect(limiter.tryLease()).not.toBeNull();
  });

  it('count no more once they are as wide as one’s own', () => {
    const { limiter } = greedy();
    limiter.update(said({ policies: [policyOf(10, 60)] }));
    expect(burst(limiter)).toBe(10);
    limiter.update(said({ policies: [policyOf(5000, 60)] }));
    expect(burst(limiter)).toBe(990);
  });

  it('count what nobody knows only when nothing of it is left', () => {
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

  it('blocks, then lets one request probe, then more with each answer', () => {
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

  it('does not wait for ever for the answer to a probe, nor for one that was never sent', () => {
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

  it('is not ended by answers to requests from before', () => {
    const { limiter, clock } = greedy();
    const before = lease(limiter);
    limiter.update(blocked(20), 429, { lease: lease(limiter) });
    clock.now += 20;
    limiter.update(said(), 200, { lease: before });
    expect(burst(limiter)).toBe(1);
  });

  it('comes first, then what is left: draft 11, B.3', () => {
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

  it('of a redirection is about that one request', () => {
    const { limiter } = greedy();
    limiter.update(blocked(20), 302);
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('keeps only those policies back that a problem names', () => {
    const { limiter, clock } = greedy();
    limiter.update(blocked(20), 429, { violated: ['a', 'b'] });
    expect(limiter.delaySeconds()).toBe(20);
    expect(limiter.state()).toMatchObject({ blockedSeconds: 0, ramping: false });
    clock.now += 20;
    expect(burst(limiter)).toBe(1000);
  });

  it('of a policy is ended by no answer that was under way', () => {
    const { limiter } = greedy();
    const [first, last] = [lease(limiter), lease(limiter)];
    limiter.update(blocked(30), 429, { violated: ['a'], lease: first });
    limiter.update(left(5, 20), 200, { lease: last });
    expect(limiter.delaySeconds()).toBe(30);
  });

  it('of a policy ends when it says, however long what is left must last', () => {
    const { limiter, clock } = greedy();
    limiter.update(left(500, 3000));
    limiter.update(blocked(5), 429, { violated: ['a'] });
    expect(limiter.delaySeconds()).toBe(5);
    clock.now += 5;
    expect(burst(limiter)).toBe(500);
  });

  test('of 30 days is asked about after maxWaitSeconds', () => {
    const { limiter, clock } = greedy(ROOMY, { maxWaitSeconds: 100 });
    limiter.update(blocked(30 * 86_400), 429);
    expect(limiter.delaySeconds()).toBe(100);
    clock.now += 100;
    expect(burst(limiter)).toBe(1);
  });
});

describe('a refusal that says nothing', () => {
  it('is answered by a backoff that doubles, at random below that', () => {
    const { limiter, clock } = greedy(ROOMY, { random: () => 0.999999 });
    for (const most of [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]) {
      limiter.update(said(), 429, { lease: lease(limiter) });
      expect(limiter.state().blockedSeconds).toBeCloseTo(most, 2);
      clock.now += Math.max(most, limiter.delaySeconds());
    }
    // A good answer ends the row.
    clock.now += limiter.delaySeconds();
    limiter.update(said(), 200, { lease: lease(limiter) });
    clock.now += limiter.delaySeconds();
    limiter.update(said(), 429, { lease: lease(limiter) });
    expect(limiter.state().blockedSeconds).toBeCloseTo(1, 2);
    const { limiter: lucky } = greedy();
    lucky.update(said(), 429);
    expect(lucky.state().blockedSeconds).toBe(0);
  });

  it('halves the rate, once for all requests that were under way, and it comes back in steps', () => {
    const { limiter, clock } = greedy([{ quota: 60, windowSeconds: 60 }]);
    const leases = Array.from({ length: 5 }, () => lease(limiter));
    for (const one of leases) limiter.update(said(), 429, { lease: one });
    expect(limiter.state().rateShare).toBe(0.5);
    clock.now += 10;
    lease(limiter);
    // One in two seconds, however much the window still has.
    limiter.update(said(), 200);
    expect(limiter.delaySeconds()).toBeCloseTo(2, 6);
    const share = limiter.state().rateShare;
    expect(share).toBeCloseTo(0.5 + 1 / 64, 6);
    for (let n = 0; n < 40; n += 1) limiter.update(said(), 200);
    expect(limiter.state()).toMatchObject({ rateShare: 1, ramping: false });
  });

  it('never paces one request for longer than maxWaitSeconds after the one before', () => {
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

  it('counts once while it lasts, whoever else is refused', () => {
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

  it('is none where the response says that nothing is left', () => {
    const { limiter } = greedy();
    limiter.update(left(0, 10), 429);
    expect(limiter.state()).toMatchObject({ rateShare: 1, blockedSeconds: 0 });
    expect(limiter.delaySeconds()).toBeCloseTo(11, 6);
  });

  it('is also a Retry-After of no time', () => {
    const { limiter } = greedy();
    limiter.update(said({ retryAfterSeconds: 0 }), 429);
    expect(limiter.state().rateShare).toBe(0.5);
  });
});

describe('requests that cost nothing', () => {
  it('are backed off from as others are', () => {
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
    // 1 + 2 + 4 + ... seconds apart.
    expect(sent).toBeLessThanOrEqual(11);
    expect(limiter.state().rateShare).toBe(1 / 64);
  });
});

describe('a refund', () => {
  it('is as if nothing had been sent, whatever the server has said', () => {
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

  it('never leads to more than a policy of the server allows, whenever it comes', () => {
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

  it('of a probe lets another one go', () => {
    const { limiter, clock } = greedy(ROOMY, { maxWaitSeconds: 30 });
    limiter.update(left(0, 1000));
    clock.now += 30;
    const probe = lease(limiter);
    expect(limiter.delaySeconds()).toBe(30);
    probe.refund();
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('ends no block of a policy', () => {
    const { limiter } = greedy();
    const under = lease(limiter, 5);
    limiter.update(said({ retryAfterSeconds: 20 }), 429, { violated: ['a'] });
    under.refund();
    expect(limiter.delaySeconds()).toBe(20);
  });

  it('makes no pace faster that knew nothing of its request', () => {
    const { limiter } = limited(ROOMY, { random: () => 0 });
    const before = lease(limiter);
    limiter.update(left(51, 99));
    expect(burst(limiter)).toBe(5);
    before.refund();
    expect(limiter.delaySeconds()).toBeGreaterThan(0);
  });

  it('of a request before the news is no reason to ask earlier', () => {
    const { limiter, clock } = greedy(ROOMY, { maxWaitSeconds: 30 });
    limiter.update(left(5, 1000));
    const before = lease(limiter);
    clock.now += 10;
    limiter.update(left(0, 1000));
    before.refund();
    expect(limiter.delaySeconds()).toBe(30);
  });

  it('gives a policy back only what that has counted', () => {
    const { limiter } = greedy();
    const before = lease(limiter, 5);
    limiter.update(said({ policies: [policyOf(10, 10)] }));
    expect(burst(limiter)).toBe(10);
    before.refund();
    expect(limiter.delaySeconds()).toBe(10);
  });
});

describe('a hostile server', () => {
  it('cannot fill the memory: a thousand policies are sixteen', () => {
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

  it('cannot drive out what is told again and again', () => {
    const { limiter } = greedy();
    for (let n = 0; n < 100; n += 1) {
      limiter.update(left(50, 1e9, { name: 'kept' }));
      limiter.update(left(500, 1e9, { name: `p${n}` }));
    }
    expect(burst(limiter)).toBe(50);
  });

  it('cannot make it wait for longer than maxWaitSeconds for a probe, nor stop time', () => {
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

test('an answer that comes late takes away nothing that newer ones have counted', () => {
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
  // All that is left, but what the slow one may have been of it.
  expect(burst(limiter)).toBe(98);
});

test('what went when nothing was told is not paced afterwards', () => {
  const { limiter, clock } = limited(ROOMY, { random: () => 0 });
  limiter.update(left(0, 5));
  for (clock.now += 6; !limiter.tryAcquire(100); clock.now += 1);
  limiter.update(left(100, 50));
  expect(limiter.delaySeconds()).toBeLessThan(1);
});
