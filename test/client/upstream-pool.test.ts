// UpstreamPool: leases, the queue, snapshots and invalid arguments.

import fc from 'fast-check';
import { type Lease, UpstreamPool } from 'relay-limiter/client';
import { describe, expect, it, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { runs } from '../support/runs.js';
import { watched } from './network.js';
import { MANY, node, poolOf } from './pools.js';
import { left, mostIn, now, pass, type Sent, said, useVirtualTime } from './support.js';

useVirtualTime();

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

describe('a lease of UpstreamPool', () => {
  it('settles at the actual cost, and counts once however often it is ended', async () => {
    const pool = new UpstreamPool(
      { a: { policies: [{ w: 60, v: 1000, unit: 'tokens' }] } },
      { algorithm: 'sliding', clock: now },
    );
    const { lease } = await pool.acquire({ cost: { tokens: 900 } });
    expect(lease.costs).toEqual({ requests: 1, tokens: 900 });
    expect(() => lease.settle({ tokens: -1 })).toThrow('the cost in "tokens" must be');
    expect(node(pool, 'a').inFlight).toBe(1);
    lease.settle({ tokens: 100 });
    lease.release();
    lease.refund();
    expect(node(pool, 'a').inFlight).toBe(0);
    await expect(pool.acquire({ cost: { tokens: 901 }, deadlineSeconds: 0 })).rejects.toMatchObject(
      { code: 'ERR_LIMITER_DEADLINE' },
    );
    await pool.acquire({ cost: { tokens: 900 }, deadlineSeconds: 0 });
  });
});

describe('the end of UpstreamPool', () => {
  it('by close rejects the waiting calls and all later ones, but no lease', async () => {
    const pool = poolOf({ a: [1, 10] });
    const { lease } = await pool.acquire();
    const waiting = [pool.acquire(), pool.acquire({ deadlineSeconds: 60 })];
    pool.close();
    for (const call of [...waiting, pool.acquire(), pool.run(() => 1)]) {
      await expect(call).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
    }
    expect(vi.getTimerCount()).toBe(0);
    const outcome = watched(pool.idle().then(() => 'idle'));
    await pass(1);
    expect(outcome).toEqual({});
    lease.release();
    await pass(0);
    expect(outcome).toEqual({ resolved: 'idle' });
  });

  it('by drain serves the waiting calls, and resolves when all leases have ended', async () => {
    const pool = poolOf({ a: [1, 10] });
    const done: string[] = [];
    for (const name of ['a', 'b']) void pool.run(() => done.push(name));
    const drained = pool.drain().then(() => done.push('drained'));
    await expect(pool.acquire()).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
    await pass(10);
    await drained;
    expect(done).toEqual(['a', 'b', 'drained']);
  });

  it('by idle resolves at once if nothing runs or waits, and after calls that failed', async () => {
    const pool = poolOf({ a: [1, 10] });
    await pool.idle();
    const { lease } = await pool.acquire();
    const abort = new AbortController();
    const waiting = pool.acquire({ signal: abort.signal });
    lease.release();
    const outcome = watched(pool.idle().then(() => 'idle'));
    abort.abort('enough');
    await expect(waiting).rejects.toBe('enough');
    await pass(0);
    expect(outcome).toEqual({ resolved: 'idle' });
    const again = new AbortController();
    const gone = pool.acquire({ signal: again.signal });
    const next = watched(pool.idle().then(() => 'idle'));
    again.abort('enough');
    await expect(gone).rejects.toBe('enough');
    await pass(0);
    expect(next).toEqual({ resolved: 'idle' });
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
    runs(60),
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
    const broken = { ...saved, nodes: { ...saved.nodes, b: { ...saved.nodes['b'], limits: [7] } } };
    expect(() => pool.restore(broken)).toThrow(/node "b": a limit of the snapshot must be/);
    expect(codeOf(() => pool.restore(broken))).toBe('ERR_LIMITER_SNAPSHOT');
    expect(pool.snapshot()).toEqual(before);
  });

  it('is restored for all nodes but those whose policies have changed, and returns these', async () => {
    const pool = poolOf({ a: [2, 60], b: [1, 60] });
    for (let at = 0; at < 3; at += 1) await pool.acquire();
    const next = poolOf({ a: [2, 60], b: [7, 60] });
    expect(next.restore(pool.snapshot())).toEqual(['b']);
    expect(node(next, 'a').waitSeconds).toBe(60);
    expect(node(next, 'b').waitSeconds).toBe(0);
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
    ['a run without a function', () => pool.run(7 as never)],
    ['a failure without a lease', async () => pool.fail(undefined as never)],
  ])('rejects %s', async (_, act) => {
    await expect((async () => act())()).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
    expect(node(pool, 'a')).toMatchObject({ latencySeconds: 0, failureShare: 0 });
  });
});
