// PolicyLimiter.update with refusals: blocks, probes, ramps and backoff.

import type { Lease } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { burst, greedy, lease, left, ROOMY, said } from './support.js';

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

  it('waits one second at most for the answer to a probe, and not at all after its refund', () => {
    const { limiter, clock } = greedy();
    limiter.update(blocked(20), 429);
    clock.now += 20;
    const probe = lease(limiter);
    expect(limiter.delaySeconds()).toBe(1);
    probe.refund();
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('allows twice as many requests each second if no answer comes', () => {
    const { limiter, clock } = greedy();
    limiter.update(blocked(20), 429);
    clock.now += 20;
    const sent: number[] = [];
    for (let second = 0; second < 4; second += 1) {
      sent.push(burst(limiter));
      clock.now += 1;
    }
    expect(sent).toEqual([1, 2, 4, 8]);
    expect(burst(limiter)).toBeGreaterThan(900);
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
      running: 0,
    });
    clock.now += 0.5;
    expect(burst(limiter)).toBe(1);
  });

  it('causes no backoff if the response says that nothing remains: the reset is the time', () => {
    const { limiter } = greedy();
    limiter.update(left(0, 10), 429);
    expect(limiter.state()).toMatchObject({ rateShare: 1, ramping: false });
    expect(limiter.state().blockedSeconds).toBeCloseTo(11, 6);
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
