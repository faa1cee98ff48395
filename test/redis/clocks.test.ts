// A user's clock that fails while replies of the store arrive: nothing is left pending, and no exception escapes.

import { afterEach, describe, expect, it, vi } from 'vitest';
import { QuotaWorld } from './support/quota-world.js';
import { World } from './support/world.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** A clock that fails while `fails` is set. */
function fallible(now: () => number) {
  const clock = Object.assign(
    () => {
      if (clock.fails) throw new Error('broken clock');
      return now();
    },
    { fails: false },
  );
  return clock;
}

/** Collects what a promise settles to. */
function outcome(promise: Promise<unknown>): unknown[] {
  const outcomes: unknown[] = [];
  promise.then(
    (value) => outcomes.push(value),
    (error) => outcomes.push((error as Error).message),
  );
  return outcomes;
}

describe('SharedPolicyLimiter', () => {
  it.each([
    ['a grant', {}],
    ['a refusal', { isCut: true }],
  ])('settles a request if its clock fails when %s arrives, and goes on', async (_, network) => {
    const world = new QuotaWorld();
    const clock = fallible(() => world.time.now);
    const process = world.start({ clock });
    await world.run(1);
    Object.assign(process, network);
    const first = outcome(process.limiter.acquire());
    clock.fails = true;
    await world.run(0.5);
    expect(first).toEqual(['broken clock']);
    clock.fails = false;
    process.isCut = false;
    process.request(3);
    await world.run(2);
    expect(process.sent).toBe(3);
    expect(process.limiter.storeStats()).toMatchObject({ state: 'up', inFlight: 0 });
  });

  it('closes although its clock fails', async () => {
    const world = new QuotaWorld();
    const clock = fallible(() => world.time.now);
    const process = world.start({ clock });
    await world.run(1);
    process.request(2);
    await world.run(0.1);
    process.request(1, 8);
    clock.fails = true;
    const closed = outcome(process.limiter.close());
    await world.run(1);
    expect(closed).toEqual([undefined]);
  });

  it('hears of a block of another process although its clock failed when that was named first', async () => {
    const world = new QuotaWorld();
    const clock = fallible(() => world.time.now);
    const [blocked, other] = [world.start(), world.start({ clock })];
    await world.run(1);
    other.request();
    await world.run(0.1);
    blocked.limiter.update({ policies: [], limits: [], retryAfterSeconds: 60, ignored: [] }, 429);
    await world.run(0.1);
    clock.fails = true;
    // It returns what it has on lease, and the reply names the block.
    await world.run(2);
    clock.fails = false;
    expect(other.limiter.state().blockedSeconds).toBe(0);
    other.request();
    await world.run(3);
    expect(other.limiter.state().blockedSeconds).toBeGreaterThan(50);
    expect(other.limiter.storeStats().state).toBe('up');
  });

  it('refuses a clock that fails at once', () => {
    const world = new QuotaWorld();
    expect(() => world.start({ clock: () => Number.NaN })).toThrow(/clock/);
  });
});

describe('SharedRateLimiter in mode leased', () => {
  it('answers a check if its clock fails when the reply arrives, and closes', async () => {
    const world = new World(0, { rateLimit: 10, burstLimit: 100 });
    const clock = fallible(() => world.time.now);
    const node = world.start({ clock });
    await world.time.run(1);
    for (let n = 0; n < 3; n += 1) {
      clock.fails = false;
      const verdict = outcome(node.checkAsync(n === 0 ? 'first' : 'p'));
      clock.fails = true;
      await world.time.run(0.2);
      expect(verdict).toEqual([['allow', 0]]);
    }
    const closed = outcome(node.close());
    await world.time.run(1);
    expect(closed).toEqual([undefined]);
    expect(world.leasedInStore()).toBe(0);
  });
});
