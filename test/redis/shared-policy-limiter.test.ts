// SharedPolicyLimiter in virtual time: the moments on which the bound depends, and what processes tell one another.

import { afterEach, describe, expect, it, vi } from 'vitest';
import { PolicyLimiter } from '../../lib/client/index.js';
import { SharedPolicyLimiter, type SharedPolicyLimiterOptions } from '../../lib/redis/index.js';
import { QuotaWorld } from './support/quota-world.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const answer = (given: {
  retryAfterSeconds?: number;
  remaining?: number;
  resetSeconds?: number;
}) => {
  const { retryAfterSeconds = null, remaining = null, resetSeconds = null } = given;
  const limit = { name: null, limit: 10, partitionKey: null, cost: null, remaining, resetSeconds };
  return {
    policies: [],
    limits: remaining === null ? [] : [limit],
    retryAfterSeconds,
    ignored: [],
  };
};

describe('SharedPolicyLimiter with two processes', () => {
  it('sends the quota once, whichever process asks', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    a.request(20);
    b.request(20);
    await world.run(9.9);
    expect(a.sent + b.sent).toBe(10);
    expect(Math.min(a.sent, b.sent)).toBeGreaterThan(0);
    await world.run(10);
    expect(a.sent + b.sent).toBe(20);
  });

  it('counts a unit for a window after it was sent, not after it was reported', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    a.request(10);
    await world.run(0.1);
    const last = Math.max(...a.sentAt);
    b.request(10);
    await world.run(11);
    expect(b.sent).toBe(10);
    // Ages are shortened by a hundredth, because clocks drift.
    expect(Math.max(...b.sentAt)).toBeLessThan(last + 10.2);
    expect(Math.min(...b.sentAt)).toBeGreaterThanOrEqual(Math.min(...a.sentAt) + 10);
  });

  it('counts all that a killed process held as spent', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    a.request(1);
    await world.run(0.1);
    // The second one is on lease already.
    a.isCut = true;
    a.request(1);
    await world.run(0.01);
    expect(a.sent).toBe(2);
    b.request(20);
    await world.run(9.8);
    expect(b.sent).toBe(8);
  });

  it('does not spend a lease that the store may count as spent', async () => {
    const world = new QuotaWorld();
    const a = world.start();
    a.request(1);
    await world.run(0.1);
    a.isCut = true;
    expect(a.limiter.remaining()).toBe(1);
    await world.run(1.89);
    expect(a.limiter.remaining()).toBe(0);
    expect(a.limiter.tryAcquire()).toBe(false);
  });

  it('counts what was reported twice only once', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    a.request(2);
    await world.run(0.1);
    a.losesReplies = true;
    a.request(1);
    await world.run(0.05);
    a.losesReplies = false;
    await world.run(2);
    expect(a.sent).toBe(3);
    b.request(20);
    await world.run(7);
    expect(b.sent).toBe(7);
  });

  it('returns what it does not need', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    a.request(3);
    await world.run(0.1);
    expect(a.limiter.remaining()).toBeGreaterThan(0);
    b.request(7);
    await world.run(2.5);
    expect(b.sent).toBe(7);
  });

  it('returns its lease when it closes', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    a.request(1);
    await world.run(0.1);
    const closed = a.limiter.close();
    await world.run(0.2);
    await closed;
    b.request(9);
    await world.run(0.2);
    expect(b.sent).toBe(9);
    await expect(a.limiter.acquire()).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_LIMITER_CLOSED' }),
    );
  });

  it('serves a large request although others send small ones all the time', async () => {
    const world = new QuotaWorld();
    const [a, b, c] = [world.start(), world.start(), world.start()];
    for (let index = 0; index < 100; index += 1) {
      b.request(1);
      c.request(1);
    }
    await world.run(1);
    a.request(1, 8);
    await world.run(20);
    expect(a.sent).toBe(1);
  });

  it('spreads requests evenly with bucket', async () => {
    const world = new QuotaWorld();
    const policies = [{ quota: 20, windowSeconds: 10 }];
    const options = { policies, algorithm: 'bucket' } as const;
    const [a, b] = [world.start(options), world.start(options)];
    a.request(50);
    b.request(50);
    await world.run(0.9);
    expect(a.sent + b.sent).toBe(2);
    await world.run(9);
    expect(a.sent + b.sent).toBeGreaterThan(17);
    expect(a.sent + b.sent).toBeLessThanOrEqual(20);
  });

  it('takes amounts of several units together', async () => {
    const world = new QuotaWorld();
    const policies = [
      { quota: 10, windowSeconds: 10 },
      { quota: 100, windowSeconds: 10, unit: 'tokens' },
    ];
    const [a, b] = [world.start({ policies }), world.start({ policies })];
    const first = a.limiter.acquire({ cost: { tokens: 90 } });
    await world.run(0.1);
    expect((await first).costs).toEqual({ requests: 1, tokens: 90 });
    const second = b.limiter.acquire({ cost: { tokens: 20 } });
    await world.run(1);
    expect(b.limiter.state().waiting).toBe(1);
    // The answer cost less, so the rest is free again.
    (await first).settle({ tokens: 50 });
    await world.run(3);
    expect((await second).costs).toEqual({ requests: 1, tokens: 20 });
  });

  it('gives back the quota of a request that was never sent', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    const leases = Array.from({ length: 10 }, () => a.limiter.acquire());
    await world.run(1);
    for (const lease of await Promise.all(leases)) lease.refund();
    b.request(10);
    await world.run(4);
    expect(b.sent).toBe(10);
  });

  it('counts what an answer cost more, even beyond the quota', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    const lease = a.limiter.acquire();
    await world.run(0.1);
    (await lease).settle(12);
    await world.run(2);
    b.request(1);
    await world.run(7.5);
    expect(b.sent).toBe(0);
    await world.run(3);
    expect(b.sent).toBe(1);
  });

  it('obeys new policies, and what was spent counts in them', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    a.request(6);
    await world.run(1);
    const policies = [{ quota: 8, windowSeconds: 20 }];
    a.limiter.update(policies);
    b.limiter.update(policies);
    b.request(10);
    await world.run(15);
    expect(b.sent).toBe(2);
    await world.run(4.5);
    expect(b.sent).toBe(8);
  });
});

describe('SharedPolicyLimiter tells all processes', () => {
  it('of a refusal with Retry-After', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    b.request(1);
    await world.run(0.1);
    const blocked = vi.fn();
    b.limiter.on('blocked', blocked);
    a.limiter.update(answer({ retryAfterSeconds: 5 }), 429);
    await world.run(2);
    b.request(1);
    await world.run(2.8);
    expect(b.sent).toBe(1);
    expect(blocked).toHaveBeenCalledTimes(1);
    expect(b.limiter.state().blockedSeconds).toBeLessThan(0.3);
    await world.run(0.2);
    expect(b.sent).toBe(2);
    // The block is told once: it does not go from one process to another for ever.
    await world.run(10);
    expect(blocked).toHaveBeenCalledTimes(1);
    expect(a.calls + b.calls).toBeLessThan(20);
  });

  it('of a limit of which nothing remains', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    a.request(1);
    await world.run(0.1);
    a.limiter.update(answer({ remaining: 0, resetSeconds: 6 }), 200);
    await world.run(0.5);
    b.request(1);
    await world.run(5);
    expect(b.sent).toBe(0);
    await world.run(6);
    expect(b.sent).toBe(1);
  });

  it('but not of a limit that is not spent', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    a.limiter.update(answer({ remaining: 3, resetSeconds: 60 }), 200);
    b.request(5);
    await world.run(1);
    expect(b.sent).toBe(5);
  });
});

describe('SharedPolicyLimiter without the store', () => {
  /** Two processes that know each other, and notice that the store is away. */
  async function withoutStore(onStoreFailure: SharedPolicyLimiterOptions['onStoreFailure']) {
    const world = new QuotaWorld();
    const processes = [world.start({ onStoreFailure }), world.start({ onStoreFailure })] as const;
    const [a, b] = processes;
    const states: string[] = [];
    a.limiter.onStoreState(({ state }) => states.push(state));
    await world.run(6);
    world.isAway = true;
    await world.run(10);
    return { world, a, b, states };
  }

  it('sends nothing with the policy closed, and goes on when the store is back', async () => {
    const { world, a, states } = await withoutStore('closed');
    a.request(3);
    await world.run(5);
    expect(a.sent).toBe(0);
    expect(a.limiter.storeStats()).toMatchObject({ state: 'down', downs: 1 });
    world.isAway = false;
    await world.run(1);
    expect(a.sent).toBe(3);
    expect(states).toEqual(['down', 'up']);
  });

  it('takes the whole quota with the policy open', async () => {
    const { world, a, b } = await withoutStore('open');
    a.request(20);
    b.request(20);
    await world.run(5);
    expect([a.sent, b.sent]).toEqual([10, 10]);
  });

  it('takes its share with the policy share, evenly', async () => {
    const { world, a, b } = await withoutStore('share');
    a.request(50);
    b.request(50);
    await world.run(20);
    // Two processes share 10 in 10 seconds, so each sends one in two seconds.
    for (const { sent } of [a, b]) {
      expect(sent).toBeGreaterThanOrEqual(9);
      expect(sent).toBeLessThanOrEqual(15);
    }
  });

  it('tells the store afterwards what it has sent', async () => {
    const { world, a, b } = await withoutStore('open');
    a.request(7);
    await world.run(1);
    expect(a.sent).toBe(7);
    world.isAway = false;
    await world.run(1);
    b.request(10);
    await world.run(5);
    expect(b.sent).toBe(3);
  });

  it('does not send the quota again if the store has lost its data', async () => {
    const world = new QuotaWorld();
    const [a, b] = [world.start(), world.start()];
    b.request(1);
    await world.run(0.1);
    a.request(9);
    await world.run(3);
    expect(a.sent).toBe(9);
    world.store.flush();
    b.request(10);
    await world.run(6.5);
    expect(b.sent).toBe(1);
    await world.run(20);
    expect(b.sent).toBe(11);
  });

  it('is not stopped by a reply that is no reply of the script', async () => {
    const world = new QuotaWorld();
    const a = world.start({ onStoreFailure: 'open' });
    vi.spyOn(world.store, 'call').mockReturnValue(['what?']);
    a.request(3);
    await world.run(2);
    expect(a.sent).toBe(0);
    vi.restoreAllMocks();
    world.time.install();
    await world.run(2);
    expect(a.sent).toBe(3);
  });

  it('lets the failure policy decide if the store refuses the key', async () => {
    const world = new QuotaWorld();
    const a = world.start({ onStoreFailure: 'open' });
    const states: unknown[] = [];
    a.limiter.onStoreState(({ state, reason }) => states.push([state, reason?.message]));
    const refuse = vi.spyOn(world.store, 'call').mockImplementation(() => {
      throw new Error('WRONGTYPE another key');
    });
    a.request(3);
    await world.run(2);
    expect(a.sent).toBe(3);
    refuse.mockRestore();
    a.request(1);
    await world.run(2);
    expect(states).toEqual([
      ['down', expect.stringContaining('WRONGTYPE')],
      ['up', undefined],
    ]);
  });
});

describe('SharedPolicyLimiter', () => {
  const client = { eval() {}, evalSha() {}, connect() {}, on() {}, off() {} };
  const policies = [{ quota: 10, windowSeconds: 10 }];

  it('is a PolicyLimiter', async () => {
    const world = new QuotaWorld();
    const { limiter } = world.start();
    expect(limiter).toBeInstanceOf(PolicyLimiter);
    const double = limiter.wrap(async (n: number) => 2 * n);
    const results = Promise.all([double(4), limiter.run((lease) => lease.cost)]);
    await world.run(0.2);
    expect(await results).toEqual([8, 1]);
  });

  it('grants at once by tryAcquire what it has leased, and asks for the rest', async () => {
    const world = new QuotaWorld();
    const { limiter } = world.start();
    expect(limiter.tryAcquire()).toBe(false);
    await world.run(0.2);
    expect(limiter.tryAcquire()).toBe(true);
  });

  it.each<[object, RegExp]>([
    [
      { client, policies },
      /^name must be a string of 1 to 100 characters without braces, got undefined/,
    ],
    [{ client, policies, name: 'a{b}' }, /^name must be/],
    [{ policies, name: 'a' }, /^client must be a client of node-redis or ioredis, got undefined/],
    [{ client, name: 'a' }, /^policies must be/],
    [
      { client, policies, name: 'a', algorithm: 'fixed' },
      /^algorithm must be 'bucket' or 'sliding'/,
    ],
    [{ client, policies, name: 'a', leaseSeconds: 1 }, /^leaseSeconds must be at least twice/],
    [{ client, policies, name: 'a', onStoreFailure: 'x' }, /^onStoreFailure must be/],
    [{ client, policies, name: 'a', nodes: 0 }, /^nodes must be/],
    [{ client, policies, name: 'a', within: 1 }, /^unknown option "?within/],
  ])('refuses wrong options: %#', (options, message) => {
    expect(() => new SharedPolicyLimiter(options as SharedPolicyLimiterOptions)).toThrow(
      expect.objectContaining({
        code: 'ERR_LIMITER_OPTION',
        message: expect.stringMatching(message),
      }),
    );
  });
});
