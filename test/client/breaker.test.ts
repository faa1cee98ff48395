// The circuit breaker of the nodes of UpstreamPool.

import { describe, expect, it } from 'vitest';
import { failing, learn, MANY, node, poolOf, request, spread } from './pools.js';
import { pass, said, useVirtualTime } from './support.js';

useVirtualTime();

describe('the breaker of a node', () => {
  it('opens at the fifth failure in a row, and all requests go to other nodes', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    await failing(pool, 'a', 4);
    expect(node(pool, 'a')).toMatchObject({ breaker: 'closed', waitSeconds: 0 });
    await failing(pool, 'a', 1);
    const { breaker, waitSeconds } = node(pool, 'a');
    expect(breaker).toBe('open');
    expect(waitSeconds).toBeGreaterThanOrEqual(0.5);
    expect(waitSeconds).toBeLessThanOrEqual(1);
    await learn(pool, 'b', 5);
    expect(await spread(pool, 20)).toEqual({ b: 20 });
  });

  it('opens if two of three requests fail, but not if one of three does', async () => {
    for (const [pattern, breaker] of [
      ['xx.xx.xx.xx.xx.', 'open'],
      ['x..x..x..x..x..', 'closed'],
    ] as const) {
      const pool = poolOf({ a: MANY });
      for (const result of pattern) {
        if (node(pool, 'a').breaker === 'open') break;
        const { lease } = await pool.acquire();
        pool.update(said(), result === 'x' ? 500 : 200, { lease });
      }
      expect(node(pool, 'a').breaker).toBe(breaker);
    }
  });

  it('allows one probe, waits for its answer, and closes after a good one', async () => {
    const pool = poolOf({ a: MANY });
    await failing(pool, 'a', 5);
    await pass(1);
    expect(node(pool, 'a').breaker).toBe('half-open');
    const { lease } = await pool.acquire();
    let others = 0;
    for (let at = 0; at < 3; at += 1) {
      pool.acquire().then(() => {
        others += 1;
      });
    }
    await pass(30);
    expect(others).toBe(0);
    pool.update(said(), 200, { lease });
    lease.release();
    await pass(0);
    expect(others).toBe(3);
    expect(node(pool, 'a').breaker).toBe('closed');
  });

  it('doubles its pause with each failed probe, up to a minute', async () => {
    const pool = poolOf({ a: MANY }, { random: () => 1 - 2 ** -53 });
    await failing(pool, 'a', 5);
    const pauses = [node(pool, 'a').waitSeconds];
    for (let at = 0; at < 7; at += 1) {
      await pass(61);
      await failing(pool, 'a', 1);
      pauses.push(node(pool, 'a').waitSeconds);
    }
    expect(pauses.map(Math.round)).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
  });

  it('starts with a short pause again after a good probe', async () => {
    const pool = poolOf({ a: MANY });
    await failing(pool, 'a', 5);
    for (let at = 0; at < 4; at += 1) {
      await pass(60);
      await failing(pool, 'a', 1);
    }
    await pass(60);
    await request(pool, 'a', 0.1);
    await failing(pool, 'a', 5);
    expect(node(pool, 'a').waitSeconds).toBeLessThanOrEqual(1);
  });

  it('counts its pause from the answer of a probe, not from the end of its lease', async () => {
    const pool = poolOf({ a: MANY });
    await failing(pool, 'a', 5);
    await pass(1);
    const { lease } = await pool.acquire();
    pool.update(said(), 500, { lease });
    expect(node(pool, 'a').waitSeconds).toBeLessThanOrEqual(2);
  });

  it('ignores late answers to requests before the probe', async () => {
    const pool = poolOf({ a: MANY });
    const { lease: early } = await pool.acquire();
    await failing(pool, 'a', 5);
    pool.update(said(), 200, { lease: early });
    expect(node(pool, 'a').breaker).toBe('open');
    await pass(1);
    await pool.acquire();
    pool.fail(early);
    expect(node(pool, 'a').breaker).toBe('half-open');
  });

  it('allows another probe if the first was never sent or has no known result', async () => {
    for (const end of ['refund', 'release'] as const) {
      const pool = poolOf({ a: MANY });
      await failing(pool, 'a', 5);
      await pass(1);
      const { lease } = await pool.acquire();
      expect(node(pool, 'a').waitSeconds).toBe(60);
      lease[end]();
      expect(node(pool, 'a').waitSeconds).toBe(0);
    }
  });

  it('delays requests while those of all nodes are open', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    await failing(pool, 'a', 5);
    await failing(pool, 'b', 5);
    const grant = pool.acquire();
    expect(pool.state().waiting).toBe(1);
    await pass(1);
    await grant;
  });
});
