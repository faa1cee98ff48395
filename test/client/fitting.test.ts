// Small requests behind a large one that waits: they are served if they fit into what is left, and do not delay it.

import fc from 'fast-check';
import { PolicyLimiter, type PolicyLimiterOptions } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { left, now, pass, said, useVirtualTime } from './support.js';

useVirtualTime();

const TEN: PolicyLimiterOptions['policies'] = [{ quota: 10, windowSeconds: 10 }];

function limiterOf(more: Partial<PolicyLimiterOptions> = {}): PolicyLimiter {
  const options = { policies: TEN, algorithm: 'sliding', jitterSeconds: 0, clock: now } as const;
  return new PolicyLimiter({ ...options, random: () => 0, ...more });
}

/** Returns a function that acquires, and the names of the calls in the order in which they were served. */
function noting(limiter: PolicyLimiter) {
  const start = now();
  const served: Record<string, number> = {};
  const enter = (name: string, cost: number | Record<string, number>, more = {}) =>
    limiter.acquire({ cost, ...more }).then((lease) => {
      served[name] = now() - start;
      return lease;
    });
  return { served, enter };
}

describe('a small request behind a large one', () => {
  it('takes what would be left unused until the large one can be sent', async () => {
    const { served, enter } = noting(limiterOf());
    void enter('first', 7);
    void enter('large', 6);
    void enter('small', 2);
    void enter('larger than the rest', 3);
    await pass(0);
    expect(served).toEqual({ first: 0, small: 0 });
    await pass(10);
    expect(served).toMatchObject({ large: 10, 'larger than the rest': 10 });
  });

  it('waits if the large one would have to wait for it', async () => {
    const { served, enter } = noting(limiterOf());
    void enter('first', 5);
    await pass(4);
    void enter('second', 3);
    // At 10 seconds 5 of the 8 are free again, and with the 2 that are left 7.
    void enter('large', 7);
    void enter('small', 1);
    await pass(6);
    expect(served).toMatchObject({ large: 10 });
    expect(served).not.toHaveProperty('small');
  });

  it('is served when it comes, even if its deadline is before the turn of the large one', async () => {
    const limiter = limiterOf();
    const { served, enter } = noting(limiter);
    void enter('first', 7);
    void enter('large', 6);
    await enter('small', 2, { deadlineSeconds: 1 });
    expect(served).toEqual({ first: 0, small: 0 });
    await expect(enter('late', 2, { deadlineSeconds: 1 })).rejects.toMatchObject({
      code: 'ERR_LIMITER_DEADLINE',
    });
  });

  it('never fits with the algorithm bucket, where each unit delays the large one', async () => {
    const { served, enter } = noting(limiterOf({ algorithm: 'bucket', burstShare: 0.5 }));
    void enter('first', 2);
    void enter('large', 5);
    void enter('small', 1);
    await pass(0);
    expect(served).toEqual({ first: 0 });
  });

  it('needs all its units, and does not take the place of the large one', async () => {
    const policies = [...TEN, { quota: 100, windowSeconds: 10, unit: 'tokens' }];
    const { served, enter } = noting(limiterOf({ policies, maxConcurrent: 2 }));
    void enter('first', { tokens: 70 });
    void enter('large', { tokens: 60 });
    void enter('small', { tokens: 10 });
    await pass(0);
    expect(served).toEqual({ first: 0 });
    const free = noting(limiterOf({ policies }));
    void free.enter('first', { requests: 9, tokens: 10 });
    void free.enter('large', { requests: 1, tokens: 95 });
    void free.enter('many', { requests: 2, tokens: 1 });
    void free.enter('small', { requests: 1, tokens: 1 });
    await pass(0);
    expect(free.served).toEqual({ first: 0, small: 0 });
  });

  it('needs the quota of the outer limiter too', async () => {
    const within = limiterOf({ policies: [{ quota: 8, windowSeconds: 10 }] });
    const { served, enter } = noting(limiterOf({ within }));
    void enter('first', 7);
    void enter('large', 6);
    void enter('more than the outer one has', 2);
    void enter('small', 1);
    await pass(0);
    expect(served).toEqual({ first: 0, small: 0 });
  });

  it('waits while the limiter recovers from a refusal', async () => {
    const limiter = limiterOf();
    const { served, enter } = noting(limiter);
    limiter.update(said({ retryAfterSeconds: 1 }), 429);
    await pass(1);
    void enter('first', 5);
    void enter('large', 6);
    void enter('small', 1);
    await pass(0);
    expect(Object.keys(served)).toEqual(['first']);
  });

  it('does not put off the probe that the large one waits for', async () => {
    const limiter = limiterOf({ policies: [{ quota: 1000, windowSeconds: 1 }] });
    limiter.update(left(5, 10_000));
    const { served, enter } = noting(limiter);
    void enter('large', 6);
    for (let n = 0; n < 60; n += 1, await pass(10)) void enter(`small ${n}`, 1);
    await pass(1);
    expect(served['large']).toBe(600);
  });

  it('stops when reports delay the large one by more than a second', async () => {
    const limiter = limiterOf({ policies: [{ quota: 1000, windowSeconds: 1 }] });
    const { served, enter } = noting(limiter);
    const report = () => limiter.update(left(5, 50.5));
    report();
    void enter('large', 6);
    // Each answer moves the reset, as those of a token bucket do.
    for (let n = 0; n < 10; n += 1, await pass(1)) void enter(`small ${n}`, 1).then(report);
    await pass(45);
    expect(served['large']).toBeLessThan(55);
  });
});

interface Request {
  readonly cost: number;
  readonly pause: number;
}

it('The first of the waiting requests is never delayed by those behind it', async () => {
  const request = fc.record({
    cost: fc.integer({ min: 0, max: 10 }),
    pause: fc.constantFrom(0, 0, 0.5, 3),
  });
  const requests = fc.array(request, { minLength: 3, maxLength: 10, size: 'max' });
  let fitting = 0;
  /** Returns when the first is served, and checks the quota. */
  const firstServedAt = async (before: Request[], cost: number, later: Request[]) => {
    const limiter = limiterOf();
    const { served, enter } = noting(limiter);
    const start = now();
    const sent: { at: number; cost: number }[] = [];
    const send = (name: string, cost: number) =>
      void enter(name, cost).then(() => sent.push({ at: now() - start, cost }));
    for (const { cost, pause } of before) {
      if (limiter.tryAcquire(cost)) sent.push({ at: now() - start, cost });
      await pass(pause);
    }
    const count = sent.length;
    send('first', cost);
    for (const [n, { cost, pause }] of later.entries()) {
      send(`later ${n}`, cost);
      await pass(pause);
    }
    await pass(300);
    expect(sent).toHaveLength(count + 1 + later.length);
    for (const { at } of sent) {
      const inWindow = sent.filter((one) => one.at >= at && one.at < at + 10);
      expect(inWindow.reduce((sum, one) => sum + one.cost, 0)).toBeLessThanOrEqual(10);
    }
    const first = served['first'] as number;
    fitting += later.filter((_, n) => (served[`later ${n}`] as number) < first).length;
    return first;
  };
  await fc.assert(
    fc.asyncProperty(
      requests,
      fc.integer({ min: 1, max: 10 }),
      requests,
      async (before, cost, later) => {
        const alone = await firstServedAt(before, cost, []);
        expect(await firstServedAt(before, cost, later)).toBe(alone);
      },
    ),
    { seed: 1, numRuns: 60 },
  );
  expect(fitting).toBeGreaterThan(20);
});
