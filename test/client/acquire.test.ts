// PolicyLimiter.acquire: order, ageing, signals, deadlines, and waits longer than one timer can wait.

import fc from 'fast-check';
import {
  type AcquireOptions,
  PolicyLimiter,
  type PolicyLimiterOptions,
} from 'relay-limiter/client';
import { describe, expect, it, vi } from 'vitest';
import { runs } from '../support/runs.js';
import { pass, said, useVirtualTime } from './support.js';

const ONE_A_SECOND = [{ quota: 1, windowSeconds: 1 }];
const DAY = 86_400;

useVirtualTime();

/** Returns a limiter on the virtual clock of the fake timers. */
function limiterOf(options: Partial<PolicyLimiterOptions> = {}): PolicyLimiter {
  return new PolicyLimiter({ policies: ONE_A_SECOND, clock: () => Date.now() / 1000, ...options });
}

/** Returns a function that acquires, and the names of the calls that were served or rejected, in order. */
function noting(limiter: PolicyLimiter) {
  const served: string[] = [];
  const failed: Record<string, unknown> = {};
  const enter = (name: string, options?: AcquireOptions) => {
    limiter.acquire(options).then(
      () => served.push(name),
      (reason) => {
        failed[name] = reason;
      },
    );
  };
  return { served, failed, enter };
}

describe('PolicyLimiter.acquire', () => {
  it('resolves at once if quota is available, then one call after the other', async () => {
    const limiter = limiterOf();
    const { served, enter } = noting(limiter);
    for (const name of ['a', 'b', 'c']) enter(name);
    expect(limiter.state().waiting).toBe(2);
    await pass(0);
    expect(served).toEqual(['a']);
    await pass(0.999);
    expect(served).toEqual(['a']);
    await pass(0.001);
    expect(served).toEqual(['a', 'b']);
    await pass(1);
    expect(served).toEqual(['a', 'b', 'c']);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('serves higher priorities first, and first in, first out within a priority', async () => {
    const { served, enter } = noting(limiterOf());
    enter('first');
    enter('low 1', { priority: -1 });
    enter('normal 1');
    enter('high 1', { priority: 2 });
    enter('normal 2');
    enter('high 2', { priority: 2 });
    enter('low 2', { priority: -1 });
    await pass(10);
    expect(served).toEqual(['first', 'high 1', 'high 2', 'normal 1', 'normal 2', 'low 1', 'low 2']);
  });

  it('serves a call that has waited agingSeconds longer before one step of priority', async () => {
    const { served, enter } = noting(limiterOf({ agingSeconds: 3 }));
    enter('first');
    enter('old');
    // More calls arrive than are served, all of them with a higher priority.
    for (let n = 0; n < 8; n += 1) {
      enter(`high ${n}`, { priority: 1 });
      await pass(0.5);
    }
    await pass(20);
    expect(served.indexOf('old')).toBe(7);
    expect(served).toHaveLength(10);
  });

  it('does not let a small cost overtake a large one', async () => {
    const limiter = limiterOf({
      policies: [{ quota: 10, windowSeconds: 10 }],
      algorithm: 'sliding',
    });
    const { served, enter } = noting(limiter);
    enter('some', { cost: 5 });
    enter('all', { cost: 10 });
    enter('little');
    expect(limiter.tryAcquire()).toBe(false);
    expect(limiter.tryLease()).toBeNull();
    // `delaySeconds` does not count the waiting calls.
    expect(limiter.delaySeconds()).toBe(0);
    await pass(10);
    expect(served).toEqual(['some', 'all']);
    await pass(10);
    expect(served).toEqual(['some', 'all', 'little']);
  });

  it('serves in the order of a sorted list, whichever calls are aborted', async () => {
    const entry = fc.record({ priority: fc.integer({ min: -30, max: 30 }), leaves: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(entry, { minLength: 20, maxLength: 60, size: 'max' }),
        async (entries) => {
          const limiter = limiterOf();
          limiter.tryAcquire();
          const { served, enter } = noting(limiter);
          const controllers = entries.map(({ priority }, n) => {
            const controller = new AbortController();
            enter(String(n), { priority, signal: controller.signal });
            return controller;
          });
          for (const [n, { leaves }] of entries.entries()) if (leaves) controllers[n]?.abort();
          await pass(70);
          const expected = entries
            .map(({ priority, leaves }, n) => ({ priority, leaves, n }))
            .filter(({ leaves }) => !leaves)
            .sort((a, b) => b.priority - a.priority || a.n - b.n)
            .map(({ n }) => String(n));
          expect(served).toEqual(expected);
          expect(vi.getTimerCount()).toBe(0);
        },
      ),
      runs(),
    );
  });
});

describe('the signal of PolicyLimiter.acquire', () => {
  it('rejects the call at once with its reason, and nothing is spent', async () => {
    const limiter = limiterOf();
    limiter.tryAcquire();
    const before = JSON.stringify(limiter.snapshot());
    const { served, failed, enter } = noting(limiter);
    const controller = new AbortController();
    enter('leaves', { signal: controller.signal });
    enter('stays');
    controller.abort('enough');
    await pass(0);
    expect(failed).toEqual({ leaves: 'enough' });
    expect(JSON.stringify(limiter.snapshot())).toBe(before);
    // The next call is served at the time of the aborted one.
    await pass(1);
    expect(served).toEqual(['stays']);
  });

  it('frees quota at once for a next call of lower cost', async () => {
    const limiter = limiterOf({
      policies: [{ quota: 10, windowSeconds: 10 }],
      algorithm: 'sliding',
    });
    limiter.tryAcquire(5);
    const { served, enter } = noting(limiter);
    const controller = new AbortController();
    enter('all', { cost: 10, signal: controller.signal });
    enter('little');
    controller.abort();
    await pass(0);
    expect(served).toEqual(['little']);
  });

  it('rejects the call before it begins if it has already aborted', async () => {
    const limiter = limiterOf();
    const signal = AbortSignal.abort('never mind');
    await expect(limiter.acquire({ signal })).rejects.toBe('never mind');
    expect(limiter.tryAcquire()).toBe(true);
  });

  it('has no effect once the call is served', async () => {
    const limiter = limiterOf();
    limiter.tryAcquire();
    const controller = new AbortController();
    const lease = limiter.acquire({ signal: controller.signal });
    await pass(1);
    controller.abort();
    expect((await lease).cost).toBe(1);
    expect(limiter.delaySeconds()).toBe(1);
  });
});

describe('the deadline of PolicyLimiter.acquire', () => {
  it('rejects the call at once if it cannot be met, with the earliest time', async () => {
    const limiter = limiterOf();
    const { failed, enter } = noting(limiter);
    for (const name of ['now', 'in 1 s', 'in 2 s']) enter(name);
    enter('too late', { deadlineSeconds: 2.5 });
    enter('in 3 s', { deadlineSeconds: 3 });
    enter('high', { deadlineSeconds: 1, priority: 1 });
    await pass(0);
    expect(failed).toEqual({
      'too late': expect.objectContaining({ code: 'ERR_LIMITER_DEADLINE' }),
    });
    expect((failed['too late'] as { retryAfterSeconds: number }).retryAfterSeconds).toBeCloseTo(
      3,
      6,
    );
    expect(limiter.state().waiting).toBe(4);
  });

  it('of 0 allows only a call that can be served now', async () => {
    const limiter = limiterOf();
    await expect(limiter.acquire({ deadlineSeconds: 0 })).resolves.toMatchObject({ cost: 1 });
    await expect(limiter.acquire({ deadlineSeconds: 0 })).rejects.toMatchObject({
      code: 'ERR_LIMITER_DEADLINE',
      retryAfterSeconds: 1,
    });
  });

  it('has no effect once the call is served', async () => {
    const limiter = limiterOf();
    limiter.tryAcquire();
    const { served, enter } = noting(limiter);
    enter('in time', { deadlineSeconds: 100 });
    await pass(1);
    expect(served).toEqual(['in time']);
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([1e9, 1_795_000_000_123])('is met exactly, at %d ms', async (time) => {
    vi.setSystemTime(time);
    const { served, failed, enter } = noting(limiterOf());
    enter('first');
    enter('second', { deadlineSeconds: 1 });
    enter('third', { deadlineSeconds: 2 });
    await pass(3);
    expect(failed).toEqual({});
    expect(served).toEqual(['first', 'second', 'third']);
  });

  it('ends a wait that other calls have made longer', async () => {
    const limiter = limiterOf();
    const { served, failed, enter } = noting(limiter);
    enter('first');
    enter('patient', { deadlineSeconds: 2 });
    enter('important 1', { priority: 1 });
    enter('important 2', { priority: 1 });
    await pass(1.9);
    expect(failed).toEqual({});
    await pass(0.2);
    expect(served).toEqual(['first', 'important 1', 'important 2']);
    expect(failed).toEqual({ patient: expect.objectContaining({ code: 'ERR_LIMITER_DEADLINE' }) });
    expect(vi.getTimerCount()).toBe(0);
  });

  it('ends the wait of the first call as soon as the upstream asks for more time', async () => {
    const limiter = limiterOf();
    limiter.tryAcquire();
    const { failed, enter } = noting(limiter);
    enter('next', { deadlineSeconds: 5 });
    enter('no hurry');
    limiter.update(said({ retryAfterSeconds: 20 }), 429);
    await pass(0);
    expect(failed).toEqual({ next: expect.objectContaining({ retryAfterSeconds: 20 }) });
    expect(limiter.state().waiting).toBe(1);
  });
});

describe('the queue of PolicyLimiter', () => {
  it('is bounded by maxQueue', async () => {
    const limiter = limiterOf({ maxQueue: 2 });
    limiter.tryAcquire();
    const { served, failed, enter } = noting(limiter);
    for (const name of ['a', 'b', 'c']) enter(name);
    await pass(0);
    expect(failed).toEqual({ c: expect.objectContaining({ code: 'ERR_LIMITER_QUEUE' }) });
    await pass(2);
    expect(served).toEqual(['a', 'b']);
  });

  it('is served when quota is refunded', async () => {
    const limiter = limiterOf({ policies: [{ quota: 1, windowSeconds: 3600 }] });
    const lease = await limiter.acquire();
    const { served, enter } = noting(limiter);
    enter('waits');
    await pass(10);
    expect(served).toEqual([]);
    lease.refund();
    await pass(0);
    expect(served).toEqual(['waits']);
  });

  it('waits longer than one timer can: 30 days', async () => {
    const limiter = limiterOf({ policies: [{ quota: 1, windowSeconds: 30 * DAY }] });
    limiter.tryAcquire();
    const { served, failed, enter } = noting(limiter);
    enter('patient', { deadlineSeconds: 40 * DAY });
    enter('too late', { deadlineSeconds: 59 * DAY });
    await pass(30 * DAY - 1);
    expect(served).toEqual([]);
    // The second timer may be a millisecond late.
    await pass(1.01);
    expect(served).toEqual(['patient']);
    expect(failed).toEqual({
      'too late': expect.objectContaining({ retryAfterSeconds: 60 * DAY }),
    });
  });

  it('rejects the waiting calls when the clock fails', async () => {
    let broken = false;
    const clock = () => (broken ? Number.NaN : Date.now() / 1000);
    const limiter = limiterOf({ clock });
    limiter.tryAcquire();
    const { failed, enter } = noting(limiter);
    enter('a');
    enter('b', { deadlineSeconds: 10 });
    broken = true;
    await pass(1);
    const code = expect.objectContaining({ code: 'ERR_LIMITER_CLOCK' });
    expect(failed).toEqual({ a: code, b: code });
    broken = false;
    expect(limiter.tryAcquire()).toBe(true);
  });

  it('keeps the pace over thousands of calls', async () => {
    const policies = [{ quota: 100, windowSeconds: 10 }];
    const limiter = limiterOf({ policies });
    const { served, enter } = noting(limiter);
    for (let n = 0; n < 3000; n += 1) enter(String(n));
    await pass(100);
    // Ten in one burst, then nine per second.
    expect(served.length).toBeGreaterThanOrEqual(905);
    expect(served.length).toBeLessThanOrEqual(910);
    expect(served).toEqual(Array.from(served, (_, n) => String(n)));
  });
});
