// The option `within`: limiters whose requests take the quota of another limiter too, at the same moment.

import { PolicyLimiter, type PolicyLimiterOptions } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { seeded } from '../support/random.js';
import { left, mostIn, now, pass, type Sent, said, useVirtualTime } from './support.js';

useVirtualTime();

/** Returns a limiter of one policy on the virtual clock of the fake timers. */
function limiterOf(
  quota: number,
  windowSeconds: number,
  options: Partial<PolicyLimiterOptions> = {},
): PolicyLimiter {
  const policies = [{ quota, windowSeconds }];
  return new PolicyLimiter({ policies, algorithm: 'sliding', clock: now, ...options });
}

describe('a limiter within another', () => {
  it('takes and gives back the quota of both', async () => {
    const outer = limiterOf(10, 60);
    const inner = limiterOf(5, 60, { within: outer });
    const lease = await inner.acquire({ cost: 3 });
    expect([inner.remaining(), outer.remaining()]).toEqual([2, 7]);
    expect(outer.state().running).toBe(1);
    lease.refund();
    expect([inner.remaining(), outer.remaining()]).toEqual([5, 10]);
    expect(outer.state().running).toBe(0);
    (await inner.acquire({ cost: 3 })).settle(1);
    expect([inner.remaining(), outer.remaining()]).toEqual([4, 9]);
    expect(inner.tryAcquire(2)).toBe(true);
    expect([inner.remaining(), outer.remaining()]).toEqual([2, 7]);
  });

  it('counts what it takes without a lease as running in neither', () => {
    const outer = limiterOf(100, 1, { maxConcurrent: 1 });
    const limiter = limiterOf(100, 1, { within: outer, maxConcurrent: 1 });
    expect([limiter.tryAcquire(), limiter.tryAcquire(), limiter.tryAcquire()]).toEqual([
      true,
      true,
      true,
    ]);
    expect([outer.state().running, limiter.state().running]).toEqual([0, 0]);
    expect(outer.remaining()).toBe(97);
  });

  it('answers by the stricter of both', () => {
    const outer = limiterOf(3, 60);
    const inner = limiterOf(5, 10, { within: outer });
    expect(inner.remaining()).toBe(3);
    outer.tryAcquire(3);
    expect(inner.tryLease()).toBeNull();
    expect(inner.tryAcquire()).toBe(false);
    expect(inner.delaySeconds()).toBe(60);
    expect(limiterOf(5, 10).remaining()).toBe(5);
  });

  it('holds no quota of either while it waits for the other', async () => {
    const outer = limiterOf(1, 10);
    const inner = limiterOf(1, 30, { within: outer });
    inner.tryAcquire();
    void inner.acquire();
    await pass(20);
    expect(outer.remaining()).toBe(1);
    outer.tryAcquire();
    await pass(9.9);
    // Both are ready at the 30th second.
    expect(inner.state().waiting).toBe(1);
    await pass(0.2);
    expect(inner.state().waiting).toBe(0);
    expect([inner.remaining(), outer.remaining()]).toEqual([0, 0]);
  });

  it('never sends more than the outer quota, however long the inner ones have held requests back', async () => {
    const outer = limiterOf(10, 1);
    const inners = [0, 1, 2].map(() => limiterOf(1000, 1, { within: outer }));
    for (const inner of inners) inner.update(said({ retryAfterSeconds: 10 }), 429);
    const sent: Sent[] = [];
    for (let n = 0; n < 120; n += 1) {
      const inner = inners[n % 3] as PolicyLimiter;
      void inner.acquire().then((lease) => {
        sent.push({ at: now(), cost: 1 });
        inner.update(said(), 200, { lease });
        lease.release();
      });
    }
    await pass(9.9);
    expect(sent).toHaveLength(0);
    expect(outer.remaining()).toBe(10);
    await pass(30);
    expect(sent).toHaveLength(120);
    expect(mostIn(1, sent)).toBeLessThanOrEqual(10);
  });

  it('exceeds no quota of either and serves every request, whatever the upstream says', async () => {
    const random = seeded(11);
    for (let run = 0; run < 40; run += 1) {
      const outer = limiterOf(7, 3, { maxQueue: 1000 });
      const quotas = [2, 5, 30];
      const inners = quotas.map((quota) => limiterOf(quota, 5, { within: outer }));
      const all: Sent[] = [];
      const own: Sent[][] = [[], [], []];
      let served = 0;
      for (let n = 0; n < 60; n += 1) {
        const which = Math.floor(random() * 3);
        const inner = inners[which] as PolicyLimiter;
        const cost = 1 + Math.floor(random() * 2);
        const end = random();
        void inner.acquire({ cost, priority: Math.floor(random() * 3) }).then(async (lease) => {
          served += 1;
          if (end < 0.1) return lease.refund();
          const entry = { at: now(), cost };
          all.push(entry);
          own[which]?.push(entry);
          await new Promise((resolve) => setTimeout(resolve, 1000 * random()));
          const info = said({ retryAfterSeconds: end < 0.3 ? 2 : null });
          inner.update(info, end < 0.3 ? 429 : 200, { lease, within: end < 0.2 });
          lease.release();
        });
        await pass(random() * 0.3);
      }
      await pass(600);
      expect(served).toBe(60);
      expect(mostIn(3, all)).toBeLessThanOrEqual(7);
      for (const [which, sent] of own.entries()) {
        expect(mostIn(5, sent)).toBeLessThanOrEqual(quotas[which] as number);
      }
      expect(outer.state()).toMatchObject({ running: 0, waiting: 0 });
    }
  });

  it('leaves the queue of the outer one with its signal and its deadline', async () => {
    const outer = limiterOf(1, 10);
    const inner = limiterOf(100, 1, { within: outer });
    outer.tryAcquire();
    const abort = new AbortController();
    const aborted = inner.acquire({ signal: abort.signal });
    const late = inner.acquire({ deadlineSeconds: 12 });
    const last = inner.acquire();
    late.catch(() => {});
    await pass(1);
    expect(outer.state().waiting).toBe(1);
    abort.abort('enough');
    await expect(aborted).rejects.toBe('enough');
    await pass(9.1);
    await late;
    await pass(10);
    await last;
    expect(outer.state()).toMatchObject({ waiting: 0, running: 2 });
    const tooLate = inner.acquire({ deadlineSeconds: 3 });
    await expect(tooLate).rejects.toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    await pass(0);
    expect(outer.state().waiting).toBe(0);
  });

  it('rejects its calls when the outer one is closed', async () => {
    const outer = limiterOf(1, 10);
    const inner = limiterOf(100, 1, { within: outer });
    outer.tryAcquire();
    const calls = [inner.acquire(), inner.acquire()];
    await pass(1);
    outer.close();
    for (const call of calls) {
      await expect(call).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
    }
  });

  it('blocks alone, unless a response is about the outer limits', () => {
    const outer = limiterOf(100, 1);
    const [one, two] = [0, 1].map(() => limiterOf(100, 1, { within: outer })) as [
      PolicyLimiter,
      PolicyLimiter,
    ];
    one.update(said({ retryAfterSeconds: 5 }), 429);
    expect([one.delaySeconds(), two.delaySeconds()]).toEqual([5, 0]);
    one.update({ ...left(0, 50), retryAfterSeconds: 9 }, 429, { within: true });
    expect([one.state().blockedSeconds, two.state().blockedSeconds]).toEqual([5, 0]);
    expect(two.delaySeconds()).toBeGreaterThan(50);
    expect(outer.state().blockedSeconds).toBe(two.delaySeconds());
  });

  it('may be a third one for a single request', async () => {
    const [outer, third] = [limiterOf(10, 60), limiterOf(10, 60)];
    const inner = limiterOf(10, 60, { within: outer });
    const lease = await inner.acquire({ within: third });
    expect([inner, outer, third].map((limiter) => limiter.remaining())).toEqual([9, 9, 9]);
    lease.refund();
    expect([inner, outer, third].map((limiter) => limiter.remaining())).toEqual([10, 10, 10]);
    expect(codeOf(() => limiterOf(1, 1, { within: 7 as never }))).toBe('ERR_LIMITER_OPTION');
  });
});
