// PolicyLimiterGroup: a limiter for each key over common limits, alone and with limitFetch.

import {
  limitFetch,
  PolicyLimiter,
  PolicyLimiterGroup,
  type PolicyLimiterGroupOptions,
  type UpstreamPool,
} from 'relay-limiter/client';
import { describe, expect, it, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { serveVirtually, virtualFetch, virtualPoolOf, watched } from './network.js';
import { left, mostIn, now, pass, type Sent, said, useVirtualTime } from './support.js';

useVirtualTime();

const groupOf = (options: PolicyLimiterGroupOptions = {}) =>
  new PolicyLimiterGroup({ algorithm: 'sliding', clock: now, random: () => 0, ...options });

describe('PolicyLimiterGroup', () => {
  it('limits each key by itself, and all keys together', async () => {
    const group = groupOf({
      policies: [{ quota: 2, windowSeconds: 1 }],
      common: [{ quota: 5, windowSeconds: 1 }],
    });
    const sent: (Sent & { key: string })[] = [];
    for (const key of ['a', 'b', 'c', 'd']) {
      for (let n = 0; n < 10; n += 1) {
        void group.run(() => sent.push({ key, at: now(), cost: 1 }), { key });
      }
    }
    await pass(20);
    expect(sent).toHaveLength(40);
    expect(mostIn(1, sent)).toBe(5);
    for (const key of group.keys) {
      expect(
        mostIn(
          1,
          sent.filter((one) => one.key === key),
        ),
      ).toBeLessThanOrEqual(2);
    }
    // The optimum: 40 requests at 5 per second.
    expect((sent.at(-1)?.at ?? 0) - (sent[0]?.at ?? 0)).toBeLessThan(10);
  });

  it('has only the limits of responses for a key without policies', async () => {
    const group = groupOf({ common: [{ quota: 50, windowSeconds: 1 }] });
    const lease = await group.acquire({ key: 'route' });
    group.update(left(2, 5, { exact: true }), 200, { lease });
    lease.release();
    const started: number[] = [];
    for (let n = 0; n < 4; n += 1) void group.run(() => started.push(now()), { key: 'route' });
    await pass(4);
    expect(started).toHaveLength(2);
    await pass(2);
    expect(started).toHaveLength(4);
  });

  it('lets the first request of a key without policies wait for its answer alone', async () => {
    const group = groupOf();
    const sent: number[] = [];
    const ask = () =>
      group.run(
        async (lease) => {
          sent.push(now());
          await new Promise((resolve) => setTimeout(resolve, 300));
          group.update(said(), 200, { lease });
        },
        { key: 'a' },
      );
    const start = now();
    for (let n = 0; n < 7; n += 1) void ask();
    await pass(2);
    expect(sent.map((at) => Math.round((at - start) * 10) / 10)).toEqual([
      0, 0.3, 0.3, 0.6, 0.6, 0.6, 0.6,
    ]);
  });

  it('blocks one key by its refusal, and all by one that is about the common limits', async () => {
    const group = groupOf({ common: [{ quota: 50, windowSeconds: 1 }] });
    const refused = said({ retryAfterSeconds: 10 });
    const [a, b] = [await group.acquire({ key: 'a' }), await group.acquire({ key: 'b' })];
    group.update(said(), 200, { lease: b });
    group.update(refused, 429, { lease: a });
    expect(group.limiter('a').delaySeconds()).toBe(10);
    expect(group.limiter('b').delaySeconds()).toBe(0);
    group.update(refused, 429, { lease: b, within: true });
    expect(group.limiter('b').delaySeconds()).toBe(10);
    expect(group.limiter('new').delaySeconds()).toBe(10);
  });

  it('removes limiters that are idle and as new ones, and no others', async () => {
    const group = groupOf({ policies: [{ quota: 5, windowSeconds: 30 }], idleSeconds: 100 });
    await group.run(() => {}, { key: 'idle' });
    const lease = await group.acquire({ key: 'open' });
    const blocked = await group.acquire({ key: 'blocked' });
    group.update(said({ retryAfterSeconds: 500 }), 429, { lease: blocked });
    blocked.release();
    const told = await group.acquire({ key: 'told' });
    group.update(left(3, 900), 200, { lease: told });
    told.release();
    await pass(99);
    group.cleanup();
    expect(group.keys).toEqual(['idle', 'open', 'blocked', 'told']);
    await pass(2);
    group.cleanup();
    expect(group.keys.sort()).toEqual(['blocked', 'open', 'told']);
    lease.release();
    await pass(1000);
    // The ramp of the blocked key ends with good answers.
    for (let n = 0; n < 16; n += 1) group.limiter('blocked').update(said(), 200);
    await pass(200);
    group.cleanup();
    expect(group.keys).toEqual([]);
  });

  it('has a bounded number of limiters however many keys come and go', async () => {
    const group = groupOf({ policies: [{ quota: 5, windowSeconds: 1 }], idleSeconds: 10 });
    for (let n = 0; n < 2000; n += 1) {
      await group.run(() => {}, { key: `host ${n}` });
      await pass(0.1);
    }
    expect(group.keys.length).toBeLessThan(150);
  });

  it('removes idle limiters although an older one is in use', async () => {
    const group = groupOf({ policies: [{ quota: 5, windowSeconds: 1 }], idleSeconds: 10 });
    await group.run(() => {}, { key: 'busy' });
    for (const key of ['a', 'b', 'c']) await group.run(() => {}, { key });
    for (let n = 0; n < 15; n += 1) {
      await pass(1);
      await group.run(() => {}, { key: 'busy' });
    }
    expect(group.keys).toEqual(['busy']);
  });

  it('replaces the policies of all keys', async () => {
    const group = groupOf({ policies: [{ quota: 5, windowSeconds: 30 }] });
    await group.acquire({ key: 'a', cost: 5 });
    group.update([{ quota: 8, windowSeconds: 30 }]);
    expect(group.limiter('a').remaining()).toBe(3);
    expect(group.limiter('b').remaining()).toBe(8);
    expect(codeOf(() => group.update([]))).toBe('ERR_LIMITER_OPTION');
  });

  it('drains and closes all its limiters, but not a common one that was given', async () => {
    const common = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 1 }], clock: now });
    const group = groupOf({ common });
    const done: string[] = [];
    for (const key of ['a', 'b']) void group.run(() => done.push(key), { key });
    const drained = group.drain();
    await expect(group.acquire({ key: 'c' })).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
    await pass(2);
    await drained;
    expect(done).toEqual(['a', 'b']);
    common.tryAcquire();
    const other = groupOf({ common });
    const waiting = other.acquire({ key: 'a' });
    other.close();
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
    await expect(other.acquire({ key: 'a' })).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
    const last = common.acquire();
    await pass(2);
    await expect(last).resolves.toMatchObject({ cost: 1 });
  });

  it('is idle only when all limiters are, whichever begin meanwhile', async () => {
    const group = groupOf({ policies: [{ quota: 5, windowSeconds: 1 }] });
    const a = await group.acquire({ key: 'a' });
    const outcome = watched(group.idle().then(() => 'idle'));
    const b = await group.acquire({ key: 'b' });
    a.release();
    await pass(1);
    expect(outcome).toEqual({});
    b.release();
    await pass(0);
    expect(outcome).toEqual({ resolved: 'idle' });
  });

  it.each(['close', 'drain'] as const)(
    'accepts no calls after %s, by any of its limiters',
    async (end) => {
      const group = groupOf({ policies: [{ quota: 5, windowSeconds: 1 }] });
      const before = group.limiter('a');
      await group[end]();
      for (const limiter of [before, group.limiter('a'), group.limiter('new')]) {
        expect(limiter.tryAcquire()).toBe(false);
        await expect(limiter.acquire()).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
      }
    },
  );

  it('leaves no call waiting for the common limits when it is closed', async () => {
    const group = groupOf({ common: [{ quota: 1, windowSeconds: 1 }] });
    void group.acquire({ key: 'a' });
    const waiting = group.acquire({ key: 'b' });
    group.close();
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
    expect(group.state().common).toMatchObject({ waiting: 0 });
    expect(vi.getTimerCount()).toBe(0);
  });

  it('may bound the leases of each key, and of all keys together', async () => {
    const policies = [{ quota: 100, windowSeconds: 1 }];
    const group = groupOf({ policies, maxConcurrent: 2, common: { policies, maxConcurrent: 3 } });
    const running: string[] = [];
    const most = { a: 0, b: 0, all: 0 };
    const work = async (key: 'a' | 'b') => {
      running.push(key);
      most.all = Math.max(most.all, running.length);
      most[key] = Math.max(most[key], running.filter((other) => other === key).length);
      await new Promise((resolve) => setTimeout(resolve, 1000));
      running.splice(running.indexOf(key), 1);
    };
    const done: string[] = [];
    for (let n = 0; n < 12; n += 1) {
      const key = n % 2 === 0 ? 'a' : 'b';
      void group.run(() => work(key).then(() => done.push(key)), { key });
    }
    await pass(4);
    expect(done).toHaveLength(12);
    expect(most).toEqual({ a: 2, b: 2, all: 3 });
  });

  it.each([
    [{ policies: [] }, 'policies must be'],
    [{}, 'policies must be'],
    ['10/s', 'the options of common must be'],
    [{ policies: [{ quota: 1, windowSeconds: 1 }], maxConcurrent: 0 }, 'maxConcurrent must be'],
    [{ policies: [{ quota: 1, windowSeconds: 1 }], maxQueue: 1 }, 'unknown option "maxQueue"'],
  ])('must not have the common limits %j', (common, message) => {
    expect(() => groupOf({ common } as object)).toThrow(message);
  });

  it('accepts only keys that are strings, and leases of its own', async () => {
    const group = groupOf();
    await expect(group.acquire({} as never)).rejects.toMatchObject({ code: 'ERR_LIMITER_KEY' });
    await expect(group.run(7 as never, { key: 'a' })).rejects.toMatchObject({
      code: 'ERR_LIMITER_OPTION',
    });
    const lease = await groupOf().acquire({ key: 'a' });
    expect(codeOf(() => group.update(said(), 200, { lease }))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => groupOf({ policies: [] }))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => groupOf({ within: 7 } as object))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => groupOf({ idleSeconds: -1 }))).toBe('ERR_LIMITER_OPTION');
    expect(group.state()).toEqual({ common: undefined, keys: {} });
  });
});

describe('limitFetch with a PolicyLimiterGroup', () => {
  it('may be made of the options of a group', async () => {
    const server = serveVirtually(() => new Response('yes'));
    const limited = limitFetch(virtualFetch, { policies: [{ quota: 2, windowSeconds: 3600 }] });
    await Promise.all([limited(server.origin), limited(server.origin)]);
    void limited(server.origin);
    await pass(3000);
    expect(server.received).toHaveLength(2);
    expect(codeOf(() => limitFetch(virtualFetch, { policies: [], quota: 2 } as object))).toBe(
      'ERR_LIMITER_OPTION',
    );
  });

  const yes = () => new Response('yes');

  it('has a limiter for each host, so that the refusal of one blocks no other', async () => {
    const bad = serveVirtually(
      () => new Response('', { status: 429, headers: { 'Retry-After': '60' } }),
    );
    const good = serveVirtually(yes);
    const group = groupOf();
    const limited = limitFetch(virtualFetch, group, { maxAttempts: 1 });
    expect((await limited(`${bad.origin}/x`)).status).toBe(429);
    expect((await limited(`${good.origin}/x`)).status).toBe(200);
    expect(group.keys).toEqual([new URL(bad.origin).host, new URL(good.origin).host]);
    expect(group.limiter(new URL(bad.origin).host).state().blockedSeconds).toBe(60);
  });

  it('chooses by the key of a request', async () => {
    const server = serveVirtually(yes);
    const group = groupOf();
    const key = ({ method, url }: { method: string; url: string }) =>
      `${method} ${new URL(url).pathname.split('/')[1]}`;
    const limited = limitFetch(virtualFetch, group, { key });
    await limited(`${server.origin}/users/1`);
    await limited(`${server.origin}/users/2`, { method: 'POST' });
    expect(group.keys).toEqual(['GET users', 'POST users']);
  });
});

describe('limitFetch around a limited fetch', () => {
  /** Returns the requests that a server receives, all of which are answered well. */
  const counting = () => {
    const sent: Sent[] = [];
    const server = serveVirtually(() => {
      sent.push({ at: now(), cost: 1 });
      return new Response('yes');
    });
    return { sent, server };
  };
  const ten = () =>
    new PolicyLimiter({
      random: () => 0.5,
      policies: [{ quota: 10, windowSeconds: 1 }],
      algorithm: 'sliding',
      clock: now,
    });
  const blockedFor = (seconds: number) => {
    const limiter = new PolicyLimiter({
      policies: [{ quota: 1000, windowSeconds: 1 }],
      algorithm: 'sliding',
      clock: now,
    });
    limiter.update(said({ retryAfterSeconds: seconds }), 429);
    return limiter;
  };

  it.each([
    ['outer', (a: PolicyLimiter, b: PolicyLimiter) => limitFetch(limitFetch(virtualFetch, b), a)],
    ['inner', (a: PolicyLimiter, b: PolicyLimiter) => limitFetch(limitFetch(virtualFetch, a), b)],
  ])('never exceeds the %s quota while the other limiter holds requests back', async (_, nest) => {
    const { sent, server } = counting();
    const quota = ten();
    const limited = nest(quota, blockedFor(10));
    const all = Promise.all(Array.from({ length: 110 }, () => limited(server.origin)));
    await pass(9.9);
    expect([sent.length, quota.remaining()]).toEqual([0, 10]);
    await pass(60);
    await all;
    expect(sent).toHaveLength(110);
    expect(mostIn(1, sent)).toBeLessThanOrEqual(10);
  });

  it('counts each attempt in both, with the cost of each', async () => {
    const server = serveVirtually((_, at) => new Response('', { status: at === 0 ? 503 : 200 }));
    const [outer, inner] = [ten(), ten()];
    const limited = limitFetch(limitFetch(virtualFetch, inner, { cost: () => 3 }), outer, {
      cost: () => 2,
    });
    const response = limited(server.origin);
    await pass(0.9);
    expect(server.received).toHaveLength(2);
    expect((await response).status).toBe(200);
    expect([outer.state().running, inner.state().running]).toEqual([0, 0]);
    expect([outer.snapshot(), inner.snapshot()].map(({ policies }) => policies[0]?.state)).toEqual([
      [expect.any(Number), 2, expect.any(Number), 2],
      [expect.any(Number), 3, expect.any(Number), 3],
    ]);
  });

  it.each([
    [
      'inside',
      (pool: UpstreamPool, limiter: PolicyLimiter) =>
        limitFetch(limitFetch(virtualFetch, pool), limiter),
    ],
    [
      'outside',
      (pool: UpstreamPool, limiter: PolicyLimiter) =>
        limitFetch(limitFetch(virtualFetch, limiter), pool),
    ],
  ])('may have a pool %s, whose nodes learn from their failures', async (_, nest) => {
    const gone = serveVirtually(() => Promise.reject(new TypeError('gone')));
    const good = serveVirtually(() => new Response('yes'));
    const pool = virtualPoolOf([gone, good]);
    const limiter = ten();
    const limited = nest(pool, limiter);
    const responses: Response[] = [];
    for (let n = 0; n < 8; n += 1) {
      responses.push(await limited('/'));
      await pass(1);
    }
    expect(responses.map(({ status }) => status)).toEqual(Array.from({ length: 8 }, () => 200));
    expect(good.received).toHaveLength(8);
    expect(gone.received.length).toBeGreaterThan(0);
    const { nodes } = pool.state();
    expect(nodes[gone.origin]).toMatchObject({ inFlight: 0, rejectedShare: 0 });
    expect(nodes[gone.origin]?.failureShare).toBeGreaterThan(0);
    expect(nodes[good.origin]).toMatchObject({ inFlight: 0, failureShare: 0 });
    expect(limiter.state()).toMatchObject({ running: 0, waiting: 0 });
  });

  it('lets both obey what a response says', async () => {
    const headers = { 'Retry-After': '10' };
    const server = serveVirtually(() => new Response('no', { status: 429, headers }));
    const [outer, inner] = [ten(), ten()];
    const limited = limitFetch(limitFetch(virtualFetch, inner), outer, { maxAttempts: 1 });
    expect((await limited(server.origin)).status).toBe(429);
    expect([outer, inner].map((limiter) => limiter.state().blockedSeconds)).toEqual([10, 10]);
  });

  it('takes both quotas, one after the other, if both are pools', async () => {
    const server = serveVirtually(() => new Response('yes'));
    const [inner, outer] = [virtualPoolOf([server]), virtualPoolOf([server], 1)];
    const limited = limitFetch(limitFetch(virtualFetch, inner), outer);
    const all = Promise.all([limited('/a'), limited('/b')]);
    await pass(0);
    expect(server.received).toEqual([{ method: 'GET', url: '/a' }]);
    await pass(1.1);
    expect((await all).map(({ status }) => status)).toEqual([200, 200]);
    for (const pool of [inner, outer]) {
      expect(pool.state().nodes[server.origin]).toMatchObject({ inFlight: 0, failureShare: 0 });
    }
  });

  it('may have a group inside and another outside', async () => {
    const { sent, server } = counting();
    const group = groupOf({ policies: [{ quota: 10, windowSeconds: 1 }] });
    const limited = limitFetch(limitFetch(virtualFetch, group), groupOf({ common: blockedFor(5) }));
    const all = Promise.all(Array.from({ length: 30 }, () => limited(server.origin)));
    await pass(30);
    await all;
    expect(mostIn(1, sent)).toBeLessThanOrEqual(10);
  });
});
