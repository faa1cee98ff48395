// UpstreamPool and nodes that hang, fail, reject, or become slow; time limits of attempts; and what a node file says of
// how requests are sent.

import { limitFetch, UpstreamPool } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { never, serveVirtually, virtualFetch, virtualPoolOf } from './network.js';
import { learn, MANY, node, poolOf, request } from './pools.js';
import { now, pass, said, useVirtualTime } from './support.js';

useVirtualTime();

/** Sends `rate` requests per second for `seconds`. `answer` returns seconds and a status, or null for no answer. */
async function load(
  pool: UpstreamPool,
  rate: number,
  seconds: number,
  answer: (host: string) => [seconds: number, status: number] | null,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (let n = 0; n < rate * seconds; n += 1) {
    void pool.acquire().then(async ({ node: host, lease }) => {
      counts[host] = (counts[host] ?? 0) + 1;
      const [latency, status] = answer(host) ?? [];
      if (latency === undefined || status === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 30_000));
        pool.fail(lease);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, latency * 1000));
      pool.update(said(), status, { lease });
      lease.release();
    });
    await pass(1 / rate);
  }
  return counts;
}

describe('a node of UpstreamPool', () => {
  it('that never answers gets a probe now and then', async () => {
    const pool = poolOf({ dead: MANY, good: MANY });
    const counts = await load(pool, 10, 120, (host) => (host === 'dead' ? null : [0.08, 200]));
    expect(counts['dead']).toBeLessThanOrEqual(6);
    expect(counts['good']).toBeGreaterThan(1190);
  });

  it('that stops answering is left as soon as it is silent for longer than usual', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    await learn(pool, 'a', 0.05);
    await learn(pool, 'b', 0.2);
    expect((await pool.acquire()).node).toBe('a');
    await pass(1.1);
    expect(node(pool, 'a').silentSeconds).toBeCloseTo(1.1);
    for (let n = 0; n < 10; n += 1) expect((await pool.acquire()).node).toBe('b');
  });

  it('that is silent gets nothing even while the others have no quota left', async () => {
    const pool = poolOf({ a: MANY, b: [1, 10] });
    await learn(pool, 'a', 0.05);
    await request(pool, 'b', 0.2);
    await pool.acquire();
    await pass(2);
    let went: string | undefined;
    void pool.acquire().then((grant) => {
      went = grant.node;
    });
    await pass(5);
    expect(went).toBeUndefined();
    await pass(5);
    expect(went).toBe('b');
  });

  it.each([401, 403, 404, 500, 502])('that answers %i at once gets little', async (status) => {
    const pool = poolOf({ bad: MANY, good: MANY });
    const counts = await load(pool, 20, 30, (host) =>
      host === 'bad' ? [0.001, status] : [0.02, 200],
    );
    expect(counts['bad']).toBeLessThan(20);
  });

  it('is not to blame for rejections if the other nodes reject as many', async () => {
    const pool = poolOf({ fast: MANY, slow: MANY });
    const counts = await load(pool, 20, 10, (host) => [host === 'fast' ? 0.02 : 0.3, 404]);
    expect(counts['fast']).toBeGreaterThan(150);
    expect(node(pool, 'fast').rejectedShare).toBeGreaterThan(0.9);
    expect(node(pool, 'fast').failureShare).toBe(0);
  });

  it('that was slow before a pause gets one request, not all', async () => {
    const pool = poolOf({ slow: MANY, good: MANY });
    await learn(pool, 'good', 0.1);
    await learn(pool, 'slow', 5);
    await pass(120);
    await learn(pool, 'good', 0.1);
    const hosts: string[] = [];
    for (let n = 0; n < 20; n += 1) hosts.push((await pool.acquire()).node);
    expect(hosts.filter((host) => host === 'slow')).toHaveLength(1);
  });

  it('that failed gets one request at a time until it answers', async () => {
    const pool = poolOf({ a: MANY, b: MANY });
    await learn(pool, 'b', 1);
    const { lease } = await pool.acquire({ exclude: ['b'] });
    pool.fail(lease);
    await pass(30);
    const hosts: string[] = [];
    for (let n = 0; n < 10; n += 1) hosts.push((await pool.acquire()).node);
    expect(hosts.filter((host) => host === 'a')).toHaveLength(1);
  });

  it('has at most maxConcurrent requests under way', async () => {
    const pool = poolOf({ a: MANY, b: MANY }, { maxConcurrent: 2 });
    const grants = [];
    for (let n = 0; n < 4; n += 1) grants.push(await pool.acquire());
    expect([node(pool, 'a').inFlight, node(pool, 'b').inFlight]).toEqual([2, 2]);
    const next = pool.acquire();
    await pass(1);
    expect(pool.state().waiting).toBe(1);
    grants[1]?.lease.release();
    expect((await next).node).toBe(grants[1]?.node);
  });
});

describe('UpstreamPool.update with nodes', () => {
  const file = (quotas: Record<string, number>) =>
    Object.fromEntries(
      Object.entries(quotas).map(([host, v]) => [host, { policies: [{ w: 60, v }] }]),
    );

  it('adds, changes and removes nodes, and keeps what is known of the others', async () => {
    const pool = poolOf({ a: [2, 60], b: [2, 60] });
    const grants = [];
    for (let n = 0; n < 4; n += 1) grants.push(await pool.acquire());
    const waiting = pool.acquire();
    pool.update(JSON.stringify(file({ b: 3, c: 1 })));
    expect(pool.nodes).toEqual(['b', 'c']);
    const hosts = [(await waiting).node, (await pool.acquire()).node];
    expect(hosts.sort()).toEqual(['b', 'c']);
    expect(node(pool, 'b').waitSeconds).toBe(60);
    // Leases of a removed node can still be ended and answered.
    for (const { lease } of grants) {
      pool.update(said(), 200, { lease });
      lease.release();
    }
  });

  it('changes how requests are sent to a node, and which costs it accepts', async () => {
    const policies = [{ w: 60, v: 2 }];
    const pool = new UpstreamPool({ 'a.example': { policies, path: '/old' } });
    const urls: string[] = [];
    const limited = limitFetch(async (input) => {
      urls.push(String(input));
      return new Response();
    }, pool);
    await limited('/x');
    const changed = { policies: [{ w: 60, v: 5 }], path: '/new', timeoutSeconds: 7 };
    pool.update({ 'a.example': changed });
    await limited('/x');
    expect(urls).toEqual(['https://a.example/old/x', 'https://a.example/new/x']);
    expect(pool.settingsOf('a.example')).toMatchObject({ path: '/new', timeoutSeconds: 7 });
    expect(pool.settingsOf('b.example')).toBeUndefined();
    const { lease } = await pool.acquire({ cost: 3 });
    expect(lease.cost).toBe(3);
    await expect(pool.acquire({ cost: 6 })).rejects.toMatchObject({ code: 'ERR_LIMITER_COST' });
  });

  it('rejects an invalid file, and nothing changes', () => {
    const pool = poolOf({ a: MANY });
    expect(() => pool.update('{ "b": {} }')).toThrow('node "b" must have policies');
    expect(pool.nodes).toEqual(['a']);
  });
});

describe('UpstreamPool.run', () => {
  it('passes the node, ends the lease, and counts an error as a failure of the node', async () => {
    const pool = poolOf({ a: MANY });
    expect(await pool.run((host) => `from ${host}`)).toBe('from a');
    expect(node(pool, 'a').failureShare).toBe(0);
    const broken = pool.run(() => Promise.reject(new Error('no connection')));
    await expect(broken).rejects.toThrow('no connection');
    expect(node(pool, 'a')).toMatchObject({ inFlight: 0, failureShare: 0.2 });
    await pool.drain();
    await expect(pool.acquire()).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
  });
});

describe('limitFetch with a pool', () => {
  it('repeats a request that is not answered in time on another node', async () => {
    const hanging = serveVirtually(never);
    const good = serveVirtually(() => new Response('yes'));
    const pool = virtualPoolOf([hanging, good]);
    const limited = limitFetch(virtualFetch, pool, { attemptSeconds: 5 });
    const all = Array.from({ length: 20 }, () => limited('/x').then((one) => one.status));
    await pass(6);
    expect(await Promise.all(all)).toEqual(Array(20).fill(200));
    expect(good.received).toHaveLength(20);
    expect(hanging.received.length).toBeGreaterThan(0);
  });

  it.each([
    ['soon, because the other node answers', {}, 'x', 3],
    ['after attemptSeconds if that is given', { attemptSeconds: 30 }, 'x', 30],
    ['after 30 seconds if it cannot be repeated', {}, undefined, 30],
  ])('gives up a probe of a node that never answers %s', async (_, options, body, seconds) => {
    const hanging = serveVirtually(never);
    // One request per second and node, so that the other node cannot take all.
    const pool = virtualPoolOf([hanging, serveVirtually(() => new Response('yes'))], 1);
    const limited = limitFetch((input, init) => spying(input, init), pool, options);
    const method = body === undefined ? 'POST' : 'PUT';
    const abortedAfter: number[] = [];
    const spying: typeof fetch = async (input, init) => {
      const start = now();
      init?.signal?.addEventListener('abort', () => abortedAfter.push(now() - start));
      return virtualFetch(input, init);
    };
    const call = () => limited('/x', { method, body: 'x' }).catch(() => {});
    // The first requests go to both nodes alike, because nothing is known of them.
    for (let n = 0; n < 4; n += 1) void call();
    await pass(40);
    abortedAfter.length = 0;
    for (let n = 0; n < 60; n += 1, await pass(0.75)) void call();
    await pass(60);
    expect(abortedAfter.length).toBeGreaterThan(0);
    for (const after of abortedAfter) expect(after).toBeCloseTo(seconds, 1);
  });

  it('aborts an attempt after 30 seconds by default, and throws if none was answered', async () => {
    const pool = virtualPoolOf([serveVirtually(never), serveVirtually(never)]);
    const outcome = limitFetch(virtualFetch, pool, { maxAttempts: 2 })('/x');
    outcome.catch(() => {});
    await pass(59);
    expect(pool.state().nodes).toMatchObject({});
    await pass(2);
    await expect(outcome).rejects.toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
  });

  it('sends the path, the headers and the key of the node, and obeys its time limit', async () => {
    const requests: { url: string; headers: Headers }[] = [];
    const spying: typeof fetch = async (input, init) => {
      const sent = new Request(input, init);
      requests.push({ url: sent.url, headers: sent.headers });
      return init?.signal && requests.length === 1
        ? new Promise((_, reject) => {
            init.signal?.addEventListener('abort', () => reject(init.signal?.reason));
          })
        : new Response('yes');
    };
    const entry = { policies: [{ w: 1, v: 100 }], path: '/v3/rpc/', timeoutSeconds: 2 };
    const { UpstreamPool } = await import('relay-limiter/client');
    const pool = new UpstreamPool(
      { 'node.example': { ...entry, headers: { 'X-Client': 'tests' }, key: 'secret' } },
      { clock: now },
    );
    const limited = limitFetch(spying, pool);
    const response = limited('/blocks?x=1', { headers: { accept: 'text/plain' } });
    await pass(10);
    expect((await response).status).toBe(200);
    expect(requests).toHaveLength(2);
    await limited(new Request('https://any.example/y', { headers: { accept: 'text/html' } }));
    expect(requests.map(({ url }) => url)).toEqual([
      'https://node.example/v3/rpc/blocks?x=1',
      'https://node.example/v3/rpc/blocks?x=1',
      'https://node.example/v3/rpc/y',
    ]);
    for (const [at, accept] of ['text/plain', 'text/plain', 'text/html'].entries()) {
      const headers = requests[at]?.headers;
      expect(headers?.get('accept')).toBe(accept);
      expect(headers?.get('x-client')).toBe('tests');
      expect(headers?.get('authorization')).toBe('Bearer secret');
    }
    expect(JSON.stringify(pool.state())).not.toContain('secret');
  });
});
