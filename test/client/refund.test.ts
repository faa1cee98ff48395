// Refunds of a PolicyLimiter beside the reports of a server.

import fc from 'fast-check';
import type { PolicyLimiter } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { runs } from '../support/runs.js';
import {
  burst,
  GREEDY,
  greedy,
  lease,
  left,
  limited,
  mostIn,
  policyOf,
  ROOMY,
  said,
  sentOf,
  takes,
} from './support.js';

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
        runs(),
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
        runs(200),
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
