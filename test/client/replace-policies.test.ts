// PolicyLimiter.update with policies: new limits while requests wait and are under way.

import fc from 'fast-check';
import type { Algorithm } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { runs } from '../support/runs.js';
import { burst, left, limited, mostIn, policyOf, type Sent, said } from './support.js';

const MINUTE = { quota: 10, windowSeconds: 60 };

describe('PolicyLimiter.update with policies', () => {
  it.each<Algorithm>(['bucket', 'sliding'])('keeps what is spent: %s', (algorithm) => {
    const { limiter, clock } = limited([MINUTE], { algorithm, burstShare: 0.5 });
    limiter.tryAcquire(4);
    limiter.update([{ quota: 12, windowSeconds: 60 }]);
    const left = burst(limiter);
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(8);
    clock.now += 70;
    expect(limiter.delaySeconds(12)).toBeLessThanOrEqual(60);
  });

  it('keeps what is spent of fixed windows of the same length, and begins others anew', () => {
    const { limiter } = limited([MINUTE], { algorithm: 'fixed' });
    const remaining = () => limiter.snapshot().policies[0]?.state[0];
    limiter.tryAcquire(4);
    limiter.update([{ quota: 12, windowSeconds: 60 }]);
    expect(remaining()).toBe(8);
    limiter.update([{ quota: 12, windowSeconds: 30 }]);
    expect(remaining()).toBe(12);
  });

  it('keeps all that is spent if the quota becomes smaller', () => {
    const { limiter, clock } = limited([MINUTE], { algorithm: 'sliding' });
    limiter.tryAcquire(8);
    limiter.update([{ quota: 5, windowSeconds: 60 }]);
    clock.now += 59;
    expect(limiter.remaining()).toBe(0);
    clock.now += 1;
    expect(limiter.remaining()).toBe(5);
  });

  it('counts what was spent by a new policy too, as far as it is known', () => {
    const { limiter, clock } = limited([MINUTE], { algorithm: 'sliding' });
    limiter.tryAcquire(10);
    clock.now += 50;
    limiter.update([MINUTE, { quota: 15, windowSeconds: 3600, name: 'hour' }]);
    clock.now += 20;
    expect(limiter.remaining()).toBe(5);
    // A policy is known by its name even if its window has another length.
    limiter.tryAcquire(5);
    limiter.update([{ quota: 100, windowSeconds: 1800, name: 'hour' }]);
    expect(limiter.remaining()).toBe(85);
  });

  it('knows the windows of limits without a reset by the new policies', () => {
    const { limiter } = limited([MINUTE], { random: () => 0 });
    limiter.update([{ quota: 10, windowSeconds: 7, name: 'a' }]);
    limiter.update(left(0, null));
    // A second more, because the server says nothing exact.
    expect(limiter.delaySeconds()).toBe(8);
    // What the server reports of a policy as tight as a configured one is not counted again.
    limiter.update(said({ policies: [policyOf(10, 7)] }));
    expect(limiter.snapshot().told).toEqual([]);
  });

  it('sets the pace after a refusal, which is half of what they allow', () => {
    const { limiter, clock } = limited([MINUTE], { algorithm: 'sliding', random: () => 0 });
    limiter.update(said(), 429);
    limiter.update([{ quota: 100, windowSeconds: 10 }]);
    clock.now += 1;
    expect(limiter.tryAcquire()).toBe(true);
    limiter.update(said(), 200);
    // Each good answer raises the share of the rate of 10 per second by 1/64, from a half.
    expect(limiter.delaySeconds()).toBeCloseTo(1 / 5, 2);
  });

  it('serves waiting calls that fit now, and rejects those that never will', async () => {
    const { limiter } = limited([MINUTE], { algorithm: 'sliding' });
    limiter.tryAcquire(10);
    const [all, one] = [limiter.acquire({ cost: 9 }), limiter.acquire()];
    limiter.update([{ quota: 8, windowSeconds: 60 }]);
    await expect(all).rejects.toMatchObject({ code: 'ERR_LIMITER_COST' });
    expect(limiter.state().waiting).toBe(1);
    limiter.update([{ quota: 11, windowSeconds: 60 }]);
    await expect(one).resolves.toMatchObject({ cost: 1 });
  });

  it('lets leases of before refund what their policies still count', () => {
    const { limiter } = limited([MINUTE], { algorithm: 'sliding' });
    const lease = limiter.tryLease(4);
    limiter.update([MINUTE, { quota: 3, windowSeconds: 1, unit: 'tokens' }]);
    lease?.refund();
    expect(limiter.remaining()).toBe(10);
  });

  it('lets leases of before refund nothing of what a new policy has not counted', () => {
    const { limiter } = limited([MINUTE], { algorithm: 'sliding' });
    const lease = limiter.tryLease({ tokens: 3 });
    limiter.update([MINUTE, { quota: 3, windowSeconds: 60, unit: 'tokens' }]);
    limiter.tryAcquire({ tokens: 3 });
    lease?.refund();
    expect(limiter.remaining('tokens')).toBe(0);
    expect(limiter.remaining()).toBe(9);
  });

  it('rejects invalid policies, and nothing changes', () => {
    const { limiter } = limited([MINUTE]);
    for (const policies of [[], [{ quota: 0, windowSeconds: 1 }], [MINUTE, MINUTE]]) {
      expect(codeOf(() => limiter.update(policies))).toBe('ERR_LIMITER_OPTION');
    }
    expect(limiter.snapshot().policies).toMatchObject([MINUTE]);
  });

  it('never leads to more than the largest quota of a window', () => {
    const step = fc.record({
      pause: fc.constantFrom(0, 0, 1, 5, 31),
      cost: fc.integer({ min: 1, max: 4 }),
      quota: fc.option(fc.integer({ min: 5, max: 20 }), { freq: 3 }),
      refunds: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 40, maxLength: 80, size: 'max' }),
        fc.constantFrom<Algorithm>('bucket', 'sliding'),
        (steps, algorithm) => {
          const { limiter, clock } = limited([{ quota: 20, windowSeconds: 60 }], { algorithm });
          const sent: Sent[] = [];
          let end = () => {};
          for (const { pause, cost, quota, refunds } of steps) {
            if (quota !== null) limiter.update([{ quota, windowSeconds: 60 }]);
            const lease = limiter.tryLease(cost);
            const entry = { at: clock.now, cost };
            end();
            if (lease !== null) {
              sent.push(entry);
              end = () => {
                if (!refunds) return lease.release();
                lease.refund();
                entry.cost = 0;
              };
            }
            clock.now += pause;
          }
          end();
          expect(mostIn(60, sent)).toBeLessThanOrEqual(20);
        },
      ),
      runs(),
    );
  });
});
