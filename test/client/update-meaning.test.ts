// PolicyLimiter.update: what a response means, and for how long it is believed.

import { describe, expect, it } from 'vitest';
import { burst, greedy, lease, left, limited, policyOf, ROOMY, said } from './support.js';

const wait = (seconds: number) => said({ retryAfterSeconds: seconds });

describe('Retry-After', () => {
  it.each([
    [undefined, 30],
    [200, 0],
    [201, 0],
    [202, 0],
    [302, 0],
    [403, 30],
    [404, 30],
    [429, 30],
    [500, 30],
    [503, 30],
  ])('of a response with the status %s blocks for %i of 30 seconds', (status, blocked) => {
    const { limiter } = greedy();
    limiter.update(wait(30), status, { lease: lease(limiter) });
    expect(limiter.state().blockedSeconds).toBe(blocked);
  });

  it('of a good status blocks if the caller says that the response is a refusal', () => {
    const { limiter } = greedy();
    limiter.update(wait(30), 200, { refused: true });
    expect(limiter.delaySeconds()).toBe(30);
  });
});

describe('a refusal', () => {
  it.each<[status: number, seconds: number, isRefused: boolean]>([
    [403, 0, false],
    [401, 0, false],
    [429, 0, true],
    [503, 0, true],
  ])('is not every response: %i', (status, seconds, isRefused) => {
    const { limiter } = greedy();
    limiter.update(wait(seconds), status);
    expect(limiter.state().rateShare).toBe(isRefused ? 0.5 : 1);
  });

  it('may be what the caller says, whatever the status is', () => {
    const { limiter } = greedy();
    limiter.update(said(), 429, { refused: false });
    expect(limiter.state().rateShare).toBe(1);
    limiter.update(said(), 200, { refused: true });
    expect(limiter.state().rateShare).toBe(0.5);
    expect(() => limiter.update(said(), 200, { refused: 1 as never })).toThrow(
      expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }),
    );
  });

  it('that a cache has kept is obeyed less its age', () => {
    for (const status of [429, 503]) {
      const { limiter } = greedy();
      limiter.update(wait(30), status, { ageSeconds: 3 });
      expect(limiter.delaySeconds()).toBe(27);
    }
    const { limiter } = greedy();
    limiter.update(left(0, 60), 429, { ageSeconds: 10 });
    expect(limiter.delaySeconds()).toBeCloseTo(51, 6);
  });

  it('that a cache has kept beyond its time gives no time', () => {
    for (const info of [wait(30), left(0, 30), left(5, 60)]) {
      const { limiter } = greedy();
      limiter.update(info, 429, { ageSeconds: 30 });
      expect(limiter.state().rateShare).toBe(0.5);
      // With this limiter, the backoff is 0 seconds.
      expect(limiter.delaySeconds()).toBe(0);
    }
  });

  it('with a reset that has passed gives no time', () => {
    const { limiter } = greedy(ROOMY, { random: () => 0.5 });
    limiter.update(left(0, 0, { exact: true }), 429);
    expect(limiter.state()).toMatchObject({ blockedSeconds: 0.5, rateShare: 0.5 });
  });
});

describe('a reset', () => {
  it.each([
    [0.25, undefined, 0.25],
    [1, undefined, 2],
    [1, true, 1],
    // In whole seconds, but seen by a clock with fractions of a second.
    [40.877, false, 41.877],
  ])('of %s s (exact: %s) ends after %s s', (reset, exact, delay) => {
    const { limiter } = greedy();
    limiter.update(left(0, reset, exact === undefined ? {} : { exact }));
    expect(limiter.delaySeconds()).toBeCloseTo(delay, 9);
  });

  it.each([
    [true, 5.05],
    [false, 6.5],
  ])('of 5 s (exact: %s) is spread over the seconds before %s', (exact, latest) => {
    const { limiter } = greedy(ROOMY, { random: () => 1 });
    limiter.update(left(0, 5, { exact }));
    expect(limiter.delaySeconds()).toBeCloseTo(latest, 9);
  });

  it.each<[string, [first: number, second: number], object, number]>([
    ['on which two responses agree is waited for', [3000, 2990], {}, 2991],
    ['that responses round differently is waited for', [3000, 2991.5], {}, 2991.5],
    ['that moves is waited for 600 seconds', [3000, 3000], {}, 600],
    ['of more than a day is waited for a day', [1e6, 1e6 - 10], {}, 86_400],
    ['is waited for maxWaitSeconds if given', [3000, 2990], { maxWaitSeconds: 700 }, 700],
  ])('%s: of %j s, 10 s apart', (_, [first, second], options, delay) => {
    const { limiter, clock } = greedy(ROOMY, options);
    limiter.update(left(5, first), 200, { lease: lease(limiter) });
    clock.now += 10;
    limiter.update(left(0, second), 200, { lease: lease(limiter) });
    expect(limiter.delaySeconds()).toBeCloseTo(delay, 6);
    clock.now += delay;
    expect(limiter.tryAcquire()).toBe(true);
  });

  it('on which responses agree within 10 seconds is waited for 600 seconds', () => {
    const { limiter, clock } = greedy();
    limiter.update(left(5, 3000), 200, { lease: lease(limiter) });
    clock.now += 9.9;
    limiter.update(left(0, 2990.1), 200, { lease: lease(limiter) });
    expect(limiter.delaySeconds()).toBeCloseTo(600, 6);
  });

  it('that is assumed does not slow down the pace with each report', () => {
    const { limiter, clock } = limited([{ quota: 1000, windowSeconds: 10, name: 'a' }], {
      burstShare: 0.5,
      random: () => 0,
    });
    let used = 0;
    for (let step = 0; step < 100; step += 1, clock.now += 0.05) {
      const taken = limiter.tryLease();
      if (taken === null) continue;
      used += 1;
      limiter.update(left(100 - used, null), 200, { lease: taken });
      taken.release();
    }
    expect(used).toBe(100);
  });
});

describe('a policy that a server reports once', () => {
  const lie = said({ policies: [policyOf(1, 999_999_999)] });

  it('is dropped when the server answers a probe well without repeating it', () => {
    const { limiter, clock } = greedy();
    limiter.update(lie);
    limiter.update(said(), 200, { lease: lease(limiter) });
    expect(limiter.delaySeconds()).toBe(600);
    clock.now += 600;
    limiter.update(said(), 200, { lease: lease(limiter) });
    expect(burst(limiter)).toBeGreaterThan(900);
  });

  it.each<[string, typeof lie, number]>([
    ['repeats it', lie, 200],
    ['refuses the probe', said(), 429],
  ])('stays if the server %s', (_, info, status) => {
    const { limiter, clock } = greedy();
    limiter.update(lie);
    lease(limiter);
    clock.now += 600;
    limiter.update(info, status, { lease: lease(limiter) });
    expect(limiter.delaySeconds()).toBe(600);
  });

  it('is dropped too if it is a limit of which nothing remains', () => {
    const { limiter, clock } = greedy();
    limiter.update(left(0, 999_999_999));
    clock.now += 600;
    limiter.update(said(), 200, { lease: lease(limiter) });
    expect(burst(limiter)).toBeGreaterThan(900);
  });

  it('stays after answers to requests that were no probe', () => {
    const { limiter, clock } = greedy();
    const before = lease(limiter);
    limiter.update(lie);
    lease(limiter);
    clock.now += 599;
    limiter.update(said(), 200, { lease: before });
    expect(limiter.delaySeconds()).toBeGreaterThan(0);
  });
});
