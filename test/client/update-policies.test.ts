// PolicyLimiter.update with policies of a server, and with the reports of a hostile server.

import fc from 'fast-check';
import type { RateLimitInfo } from 'relay-limiter/headers';
import { describe, expect, it } from 'vitest';
import { runs } from '../support/runs.js';
import { burst, greedy, lease, left, limited, policyOf, said } from './support.js';

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

  it.each([
    ['repeats it', [policyOf(1, 3600)], false],
    ['does not repeat it', [], true],
  ])(
    'are dropped after a probe that is answered well, unless the answer %s',
    (_, policies, isDropped) => {
      const { limiter, clock } = greedy();
      limiter.update(said({ policies: [policyOf(1, 3600)] }));
      lease(limiter).release();
      expect(limiter.delaySeconds()).toBe(600);
      clock.now += 600;
      const probe = lease(limiter);
      limiter.update(said({ policies }), 200, { lease: probe });
      expect(limiter.delaySeconds()).toBe(isDropped ? 0 : 600);
    },
  );

  it('are met again when enough of the leases have expired that no one ends', () => {
    const { limiter, clock } = greedy();
    for (let n = 0; n < 4; n += 1) {
      lease(limiter);
      clock.now += 1;
    }
    limiter.update(said({ policies: [policyOf(2, 900, { unit: 'concurrent-requests' })] }));
    // Fewer than two are left when the third one expires, a minute after it was taken.
    expect(limiter.delaySeconds()).toBe(58);
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

  it('confirms no reset by repeating one that is too far away to be told from a later one', () => {
    for (const resetSeconds of [1e300, 2 ** 53]) {
      const { limiter, clock } = greedy();
      for (let report = 0; report < 3; report += 1) {
        limiter.update(left(0, resetSeconds));
        expect(limiter.delaySeconds()).toBeLessThanOrEqual(600);
        clock.now += limiter.delaySeconds();
        expect(limiter.tryAcquire()).toBe(true);
      }
    }
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
    // By default a day, until a reset on which reports agree. They do so by chance, too.
    const wait = fc.constantFrom(undefined, 600, 7);
    const reports = fc.array(fc.tuple(info, status), { maxLength: 10 });
    fc.assert(
      fc.property(algorithm, wait, reports, (how, maxWaitSeconds, news) => {
        const options = { algorithm: how, maxWaitSeconds };
        const { limiter, clock } = limited([{ quota: 1e6, windowSeconds: 1 }], options);
        for (const [what, code] of news) {
          limiter.update(what as unknown as RateLimitInfo, code);
          for (let probe = 0; probe < 3; probe += 1) {
            const delay = limiter.delaySeconds();
            expect(delay).toBeGreaterThanOrEqual(0);
            expect(delay).toBeLessThanOrEqual(maxWaitSeconds ?? 86_400);
            clock.now += delay;
            expect(limiter.tryAcquire()).toBe(true);
          }
        }
        const { limits } = limiter.snapshot();
        expect(JSON.parse(JSON.stringify(limits))).toEqual(limits);
      }),
      runs(),
    );
  });
});
