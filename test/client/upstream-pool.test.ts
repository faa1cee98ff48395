// UpstreamPool: which node a request goes to, when one is left alone, the one queue, and restarts.

import fc from 'fast-check';
import {
  type Lease,
  type NodeFile,
  UpstreamPool,
  type UpstreamPoolOptions,
} from 'relay-limiter/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { seeded } from '../support/random.js';
import { left, mostIn, type Sent, said } from './support.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const now = () => Date.now() / 1000;
const pass = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);

/** Returns a pool of nodes with those quotas, on the virtual clock of the fake timers. */
function poolOf(
  quotas: Record<string, [quota: number, seconds: number]>,
  options: UpstreamPoolOptions = {},
): UpstreamPool {
  const file: NodeFile = Object.fromEntries(
    Object.entries(quotas).map(([host, [v, w]]) => [host, { policies: [{ w, v }] }]),
  );
  return new UpstreamPool(file, {
    algorithm: 'sliding',
    clock: now,
    wallClock: now,
    random: seeded(1),
    ...options,
  });
}

const MANY: [number, number] = [1000, 1];
const node = (pool: UpstreamPool, host: string) => {
  const state = pool.state().nodes[host];
  if (state === undefined) throw new Error(`no node ${host}`);
  return state;
};

/** Sends one request to `host`, which is answered after `seconds`. */
async function request(pool: UpstreamPool, host: string, seconds: number, status = 200) {
  const others = pool.nodes.filter((name) => name !== host);
  const grant = await pool.acquire({ exclude: others });
  expect(grant.node).toBe(host);
  pool.update(said(), status, { lease: grant.lease, latencySeconds: seconds });
  grant.lease.release();
}

/** Sends enough requests to make the average latency stable. */
async function learn(pool: UpstreamPool, host: string, seconds: number): Promise<void> {
  for (let times = 0; times < 5; times += 1) await request(pool, host, seconds);
}

async function failing(pool: UpstreamPool, host: string, times: number): Promise<void> {
  const others = pool.nodes.filter((name) => name !== host);
  for (let at = 0; at < times; at += 1) {
    const { node, lease } = await pool.acquire({ exclude: others });
    expect(node).toBe(host);
    pool.fail(lease);
  }
}

/** Acquires `times` leases without an end, and returns how many went to each node. */
async function spread(pool: UpstreamPool, times: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (let at = 0; at < times; at += 1) {
    const { node } = await pool.acquire();
    counts[node] = (counts[node] ?? 0) + 1;
  }
  return counts;
}

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
    // The answer of `slow` is no longer later.
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
      pool.acquire().then(({ node }) => {
        counts[node] = (counts[node] ?? 0) + 1;
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
      expect((await pool.acquire()).node).toBe('b');
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

describe('a lease of UpstreamPool', () => {
  it('counts as under way until it ends for the first time', async () => {
    const pool = poolOf({ a: MANY });
    const grants = [await pool.acquire(), await pool.acquire(), await pool.acquire()];
    const [first, second, third] = grants.map(({ lease }) => lease);
    expect(node(pool, 'a').inFlight).toBe(3);
    first?.refund();
    first?.release();
    expect(node(pool, 'a').inFlight).toBe(2);
    pool.fail(second as Lease);
    expect(node(pool, 'a').inFlight).toBe(1);
    third?.release();
    expect(node(pool, 'a').inFlight).toBe(0);
    expect(third?.cost).toBe(1);
  });
});

describe('the queue of UpstreamPool', () => {
  it('is first in, first out for all nodes, and the first available node serves it', async () => {
    const pool = poolOf({ a: [1, 3], b: [1, 2] });
    const order: string[] = [];
    const enter = (name: string, priority = 0) => {
      pool.acquire({ priority }).then(({ node }) => order.push(`${name}:${node}@${now() - start}`));
    };
    const start = now();
    for (const name of ['1', '2', '3', '4']) enter(name);
    enter('urgent', 1);
    expect(pool.state().waiting).toBe(3);
    await pass(6);
    const first = order.slice(0, 2).map((text) => text.replace(/:.*@/, '@'));
    expect(first).toEqual(['1@0', '2@0']);
    expect(order.slice(2)).toEqual(['urgent:b@2', '3:a@3', '4:b@4']);
  });

  it('drops an aborted request at once, and nothing is spent', async () => {
    const pool = poolOf({ a: [1, 10] });
    await pool.acquire();
    const before = pool.snapshot();
    const abort = new AbortController();
    const gone = pool.acquire({ signal: abort.signal });
    const reason = new Error('enough');
    abort.abort(reason);
    await expect(gone).rejects.toBe(reason);
    expect(pool.state().waiting).toBe(0);
    expect(pool.snapshot()).toEqual(before);
  });

  it('rejects a deadline that no node can meet, with the earliest time', async () => {
    const pool = poolOf({ a: [1, 3], b: [1, 2] });
    await pool.acquire();
    await pool.acquire();
    const late = pool.acquire({ deadlineSeconds: 1.9 });
    await expect(late).rejects.toMatchObject({
      code: 'ERR_LIMITER_DEADLINE',
      retryAfterSeconds: 2,
    });
    const inTime = pool.acquire({ deadlineSeconds: 2.1 });
    await pass(2);
    expect((await inTime).node).toBe('b');
  });

  it('counts the requests that wait before one against the quotas of all nodes', async () => {
    const pool = poolOf({ a: [10, 10], b: [10, 10] });
    for (let at = 0; at < 20; at += 1) await pool.acquire();
    for (let at = 0; at < 19; at += 1) void pool.acquire();
    // Both nodes together accept 20 in 10 seconds.
    void pool.acquire({ deadlineSeconds: 10.1 });
    expect(pool.state().waiting).toBe(20);
    const oneTooMany = pool.acquire({ deadlineSeconds: 10.1 });
    await expect(oneTooMany).rejects.toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
  });

  it('rejects more than maxQueue requests', async () => {
    const pool = poolOf({ a: [1, 10] }, { maxQueue: 1 });
    await pool.acquire();
    void pool.acquire();
    await expect(pool.acquire()).rejects.toMatchObject({ code: 'ERR_LIMITER_QUEUE' });
  });

  it('moves on when a refund frees a node', async () => {
    const pool = poolOf({ a: [2, 60], b: [2, 60] });
    const grants = [];
    for (let at = 0; at < 4; at += 1) grants.push(await pool.acquire());
    let went: string | undefined;
    pool.acquire().then(({ node }) => {
      went = node;
    });
    const [{ node: host, lease }] = grants as [(typeof grants)[0]];
    lease.refund();
    await pass(0);
    expect(went).toBe(host);
  });

  it('obeys what each node reports', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    const { lease, node: host } = await pool.acquire();
    pool.update(left(0, 30), 200, { lease });
    const { lease: second, node: other } = await pool.acquire();
    expect(other).not.toBe(host);
    pool.update(said({ retryAfterSeconds: 5 }), 429, { lease: second });
    let went: string | undefined;
    pool.acquire().then(({ node }) => {
      went = node;
    });
    await pass(4.9);
    expect(went).toBeUndefined();
    await pass(0.2);
    expect(went).toBe(other);
  });
});

it('UpstreamPool never exceeds the quotas of a node and serves every request', async () => {
  const quota = fc.tuple(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 20 }));
  const step = fc.record({
    pause: fc.integer({ min: 0, max: 1500 }),
    cost: fc.integer({ min: 1, max: 3 }),
    latency: fc.integer({ min: 1, max: 3000 }),
    result: fc.constantFrom('good', 'good', 'good', 'failed', 'refund', 'refused', 'forgotten'),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(quota, { minLength: 1, maxLength: 4 }),
      fc.array(step, { maxLength: 60 }),
      fc.constantFrom('bucket', 'sliding'),
      async (quotas, steps, algorithm) => {
        const hosts: Record<string, [number, number]> = { most: [3, 1] };
        for (const [at, own] of quotas.entries()) hosts[`node${at}`] = own;
        const pool = poolOf(hosts, { algorithm });
        const sent: Record<string, Sent[]> = {};
        let served = 0;
        for (const { pause, cost, latency, result } of steps) {
          pool.acquire({ cost }).then(async ({ node, lease }) => {
            served += 1;
            if (result === 'refund') return lease.refund();
            sent[node] = [...(sent[node] ?? []), { at: now(), cost }];
            await new Promise((resolve) => setTimeout(resolve, latency));
            if (result === 'failed') pool.fail(lease);
            if (result === 'refused') pool.update(said({ retryAfterSeconds: 1 }), 429, { lease });
            if (result === 'good') pool.update(said(), 200, { lease });
            if (result !== 'forgotten') lease.release();
          });
          await vi.advanceTimersByTimeAsync(pause);
        }
        await pass(3600);
        expect(served).toBe(steps.length);
        expect(pool.state().waiting).toBe(0);
        for (const [host, [most, seconds]] of Object.entries(hosts)) {
          expect(mostIn(seconds, sent[host] ?? [])).toBeLessThanOrEqual(most);
        }
      },
    ),
    { numRuns: 60 },
  );
});

describe('a snapshot of UpstreamPool', () => {
  it('keeps what is spent on every node over a restart', async () => {
    const pool = poolOf({ a: [2, 60], b: [1, 60] });
    for (let at = 0; at < 3; at += 1) await pool.acquire();
    const saved = JSON.parse(JSON.stringify(pool.snapshot()));
    await pass(20);
    const next = poolOf({ a: [2, 60], b: [1, 60], c: [1, 60] });
    next.restore(saved);
    expect(node(next, 'a').waitSeconds).toBe(40);
    expect(node(next, 'b').waitSeconds).toBe(40);
    expect(node(next, 'c').waitSeconds).toBe(0);
  });

  it('changes nothing if one of its nodes is invalid, and the error names that node', async () => {
    const pool = poolOf({ a: [2, 60], b: [1, 60] });
    const saved = pool.snapshot();
    for (let at = 0; at < 3; at += 1) await pool.acquire();
    const before = pool.snapshot();
    const other = poolOf({ b: [7, 60] }).snapshot();
    const broken = { ...saved, nodes: { ...saved.nodes, ...other.nodes } };
    expect(() => pool.restore(broken)).toThrow(/node "b": .*cannot be restored/);
    expect(codeOf(() => pool.restore(broken))).toBe('ERR_LIMITER_SNAPSHOT');
    expect(pool.snapshot()).toEqual(before);
  });

  it.each([
    ['null', null],
    ['of a limiter', { version: 1, limiter: 'PolicyLimiter' }],
    ['of another version', { version: 2, limiter: 'UpstreamPool', nodes: {} }],
    ['without nodes', { version: 1, limiter: 'UpstreamPool' }],
    ['with nodes in an array', { version: 1, limiter: 'UpstreamPool', nodes: [] }],
    ['with a node that is null', { version: 1, limiter: 'UpstreamPool', nodes: { a: null } }],
  ])('is rejected: %s', (_, snapshot) => {
    const pool = poolOf({ a: MANY });
    expect(codeOf(() => pool.restore(snapshot as object))).toBe('ERR_LIMITER_SNAPSHOT');
  });

  it('serves the waiting requests, and older leases refund nothing', async () => {
    const pool = poolOf({ a: [1, 60] });
    const fresh = pool.snapshot();
    const { lease } = await pool.acquire();
    let went = false;
    pool.acquire().then(() => {
      went = true;
    });
    pool.restore(fresh);
    await pass(0);
    expect(went).toBe(true);
    lease.refund();
    expect(node(pool, 'a')).toMatchObject({ inFlight: 1, waitSeconds: 60 });
  });
});

describe('UpstreamPool', () => {
  const pool = poolOf({ a: MANY });
  it.each<[what: string, act: () => unknown]>([
    ['an exclude that is not an array', () => pool.acquire({ exclude: 'a' as never })],
    ['an unknown option', () => pool.acquire({ node: 'a' } as object)],
    ['options that are a number', () => pool.acquire(7 as never)],
    ['an update without a lease', async () => pool.update(said(), 200, {} as never)],
    [
      'a lease of another pool',
      async () => {
        const { lease } = await poolOf({ a: MANY }).acquire();
        pool.update(said(), 200, { lease });
      },
    ],
    [
      'a latency below 0',
      async () => {
        const { lease } = await pool.acquire();
        pool.update(said(), 200, { lease, latencySeconds: -1 });
      },
    ],
    [
      'an update without info',
      async () => {
        const { lease } = await pool.acquire();
        pool.update(undefined as never, 200, { lease });
      },
    ],
    ['a failure without a lease', async () => pool.fail(undefined as never)],
  ])('rejects %s', async (_, act) => {
    await expect((async () => act())()).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    expect(node(pool, 'a')).toMatchObject({ latencySeconds: 0, failureShare: 0 });
  });
});
