// UpstreamPool: which node a request goes to.

import { describe, expect, it } from 'vitest';
import { failing, learn, MANY, node, poolOf, request, spread } from './pools.js';
import { now, pass, said, useVirtualTime } from './support.js';

useVirtualTime();

describe('UpstreamPool', () => {
  it('spreads requests evenly over nodes without a history', async () => {
    const counts = await spread(poolOf({ a: MANY, b: MANY, c: MANY }), 300);
    for (const host of ['a', 'b', 'c']) expect(counts[host]).toBeGreaterThan(90);
  });

  it.each<[what: string, a: number, b: number, expected: 'a' | 'b' | 'both']>([
    ['the faster node', 0.05, 0.2, 'a'],
    ['the faster node if it is second', 0.2, 0.05, 'b'],
    ['either node if the difference is within a tenth', 0.1, 0.105, 'both'],
    ['either node if the difference is within a millisecond', 0.0002, 0.001, 'both'],
  ])('chooses %s', async (_, a, b, expected) => {
    const pool = poolOf({ a: MANY, b: MANY });
    await learn(pool, 'a', a);
    await learn(pool, 'b', b);
    const counts = await spread(pool, 20);
    if (expected === 'both') expect(Object.keys(counts)).toHaveLength(2);
    else expect(counts).toEqual({ [expected]: 20 });
  });

  it('weighs latency by failures', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    await learn(pool, 'a', 0.05);
    await learn(pool, 'b', 0.2);
    await failing(pool, 'a', 2);
    expect(await spread(pool, 10)).toEqual({ b: 10 });
    await learn(pool, 'a', 0.05);
    expect(node(pool, 'a').failureShare).toBeCloseTo(0.36 * 0.8 ** 5);
    expect(await spread(pool, 10)).toEqual({ a: 10 });
  });

  it('considers a node without an answer at least as slow as the time it was given', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    await learn(pool, 'b', 0.05);
    const hanging = await pool.acquire({ exclude: ['b'] });
    await pass(2);
    hanging.lease.release();
    expect(node(pool, 'a').latencySeconds).toBeCloseTo(2);
    expect(node(pool, 'a').failureShare).toBe(0);
    await learn(pool, 'b', 0.05);
    expect(await spread(pool, 10)).toEqual({ b: 10 });
    // A wait shorter than the average has no effect, nor has a request that was never sent.
    const soon = await pool.acquire({ exclude: ['b'] });
    await pass(0.01);
    soon.lease.release();
    const never = await pool.acquire({ exclude: ['b'] });
    await pass(30);
    never.lease.refund();
    expect(node(pool, 'a').latencySeconds).toBeLessThan(2);
  });

  it('leaves a node that has not answered for longer than another one takes', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    await learn(pool, 'a', 0.1);
    await learn(pool, 'b', 0.3);
    const waiting = await pool.acquire();
    expect(waiting.node).toBe('a');
    await pass(0.2);
    expect((await pool.acquire()).node).toBe('a');
    await pass(0.5);
    // Not yet silent for so long that it gets only a probe.
    expect((await pool.acquire()).node).toBe('b');
  });

  it.each([
    [500, { failureShare: 1, rejectedShare: 0 }],
    [499, { failureShare: 0, rejectedShare: 1 }],
    [400, { failureShare: 0, rejectedShare: 1 }],
    [399, { failureShare: 0, rejectedShare: 0 }],
  ])('counts answers with the status %i as %j', async (status, shares) => {
    const pool = poolOf({ a: MANY });
    for (let n = 0; n < 30 && node(pool, 'a').breaker === 'closed'; n += 1) {
      await request(pool, 'a', 0.1, status);
    }
    const { failureShare, rejectedShare } = node(pool, 'a');
    expect(failureShare).toBeCloseTo(shares.failureShare, 0);
    expect(rejectedShare).toBeCloseTo(shares.rejectedShare, 0);
  });

  it('does not blame a node for rejections by which it differs from the others by chance', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    for (let n = 0; n < 40; n += 1) {
      await request(pool, 'a', 0.1, 404);
      await request(pool, 'b', 0.15, n % 8 === 0 ? 200 : 404);
    }
    expect(node(pool, 'b').rejectedShare).toBeLessThan(node(pool, 'a').rejectedShare);
    expect(await spread(pool, 10)).toEqual({ a: 10 });
  });

  it('serves the queue once per response and once per release', async () => {
    let reads = 0;
    const clock = () => {
      reads += 1;
      return now();
    };
    const pool = poolOf({ a: [1, 60] }, { clock });
    const { lease } = await pool.acquire();
    const waiting = pool.acquire();
    const readsOf = (act: () => void) => {
      reads = 0;
      act();
      return reads;
    };
    // Both calls read the clock twice themselves; the queue reads it as well.
    const ofUpdate = readsOf(() => pool.update(said(), 200, { lease }));
    const ofRelease = readsOf(() => lease.release());
    expect(ofUpdate).toBe(ofRelease);
    expect(ofRelease).toBeGreaterThan(2);
    await pass(60);
    await expect(waiting).resolves.toMatchObject({ node: 'a' });
  });

  it('counts a forgotten lease as under way for a minute', async () => {
    const pool = poolOf({ a: MANY });
    await pool.acquire();
    await pass(59);
    expect(node(pool, 'a').inFlight).toBe(1);
    await pass(1);
    expect(node(pool, 'a').inFlight).toBe(0);
  });

  it('never counts the time in its own queue as latency', async () => {
    const pool = poolOf({ a: [1, 10] });
    await pool.acquire();
    const waiting = pool.acquire();
    await pass(10);
    const { lease } = await waiting;
    await pass(0.25);
    pool.update(said(), 200, { lease });
    expect(node(pool, 'a').latencySeconds).toBeCloseTo(0.25);
  });

  it('uses a ready node at once, or waits for one that will have answered before it', async () => {
    const pool = poolOf({ fast: [1, 1], slow: MANY });
    await request(pool, 'slow', 2);
    await request(pool, 'fast', 0.1);
    let went: string | undefined;
    pool.acquire().then((grant) => {
      went = grant.node;
    });
    // `fast` is ready in one second and answers 0.1 seconds later.
    await pass(0.999);
    expect(went).toBeUndefined();
    await pass(0.001);
    expect(went).toBe('fast');
    // The answer of `slow` is as early as that of `fast`.
    await request(pool, 'slow', 0.1);
    for (let at = 0; at < 20; at += 1) await request(pool, 'slow', 0.1);
    expect((await pool.acquire()).node).toBe('slow');
  });

  it('does not wait for a better node if that would miss the deadline', async () => {
    const pool = poolOf({ fast: [1, 1], slow: MANY });
    await request(pool, 'slow', 2);
    await request(pool, 'fast', 0.1);
    expect((await pool.acquire({ deadlineSeconds: 0.5 })).node).toBe('slow');
  });

  it('serves all requests while its choice changes with each clock reading', async () => {
    // Each reading moves the clock, so that waiting for `fast` starts to pay.
    let late = 0;
    const clock = () => {
      late += 0.001;
      return now() + late;
    };
    const pool = poolOf({ fast: [1, 1], slow: MANY }, { clock });
    await request(pool, 'slow', 0.5);
    await request(pool, 'fast', 0.1);
    for (let at = 0; at < 300; at += 1) {
      pool.acquire().then(({ lease }) => lease.release());
      await pass(0.001);
    }
    await pass(60);
    expect(pool.state().waiting).toBe(0);
  });

  it('leaves no node idle while many requests wait for a better one', async () => {
    const pool = poolOf({ fast: [10, 1], slow: [1, 1] });
    await request(pool, 'slow', 4);
    await request(pool, 'fast', 0.1);
    await pass(1);
    const counts: Record<string, number> = {};
    for (let at = 0; at < 60; at += 1) {
      pool.acquire().then(async ({ node, lease }) => {
        counts[node] = (counts[node] ?? 0) + 1;
        await new Promise((resolve) => setTimeout(resolve, node === 'fast' ? 100 : 4000));
        pool.update(said(), 200, { lease });
        lease.release();
      });
    }
    await pass(6);
    expect((counts['fast'] ?? 0) + (counts['slow'] ?? 0)).toBe(60);
    expect(counts['slow']).toBeGreaterThanOrEqual(3);
  });

  it('tries a slow node again when it has not been used for a while', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    await request(pool, 'a', 1);
    for (let times = 0; times < 4; times += 1) {
      await request(pool, 'b', 0.1);
      const { node, lease } = await pool.acquire();
      expect(node).toBe('b');
      lease.refund();
      await pass(10);
    }
    await request(pool, 'b', 0.1);
    expect(node(pool, 'a').latencySeconds).toBeCloseTo(1 / 16);
    expect((await pool.acquire()).node).toBe('a');
  });

  it('chooses only nodes that accept the cost', async () => {
    const pool = poolOf({ small: [5, 1], large: [50, 1] });
    await learn(pool, 'large', 1);
    for (let at = 0; at < 4; at += 1) {
      expect((await pool.acquire({ cost: 10 })).node).toBe('large');
    }
    await expect(pool.acquire({ cost: 51 })).rejects.toMatchObject({ code: 'ERR_LIMITER_COST' });
  });

  it('counts neither refusals nor cached responses as latency', async () => {
    const pool = poolOf({ a: MANY });
    const { lease } = await pool.acquire();
    pool.update(said(), 429, { lease, latencySeconds: 9 });
    pool.update(said(), 200, { lease, latencySeconds: 9, ageSeconds: 3 });
    expect(node(pool, 'a')).toMatchObject({ latencySeconds: 0, failureShare: 0 });
  });
});

describe('excluded nodes of UpstreamPool', () => {
  it('are avoided while there are others', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    for (let at = 0; at < 10; at += 1) {
      expect((await pool.acquire({ exclude: ['a', 'unknown'] })).node).toBe('b');
    }
  });

  it.each<[seconds: number, expected: string]>([
    [0.9, 'b'],
    [1.1, 'a'],
  ])(
    'are avoided if another node is ready within a second: after %d s the choice is %s',
    async (seconds, expected) => {
      const pool = poolOf({ a: MANY, b: [1, seconds] });
      await request(pool, 'b', 0.1);
      let went: string | undefined;
      pool.acquire({ exclude: ['a'] }).then(({ node }) => {
        went = node;
      });
      await pass(1);
      expect(went).toBe(expected);
    },
  );

  it('are used if the others fail or do not exist', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    await failing(pool, 'b', 5);
    expect((await pool.acquire({ exclude: ['a'] })).node).toBe('a');
    expect((await poolOf({ a: MANY }).acquire({ exclude: ['a'] })).node).toBe('a');
  });
});
