// The options of limitFetch for servers that say their limits in a way of their own, and its pauses after failures.

import {
  type LimitFetchOptions,
  limitFetch,
  limitInterceptor,
  PolicyLimiter,
} from 'relay-limiter/client';
import { describe, expect, it, vi } from 'vitest';
import {
  good,
  virtualPoolOf as poolOf,
  refusingVirtually as refusing,
  serveVirtually as serve,
  virtualFetch,
  watched,
} from './network.js';
import { hastyLimiter, left, NOW, pass, plenty, said, useVirtualTime } from './support.js';

useVirtualTime();

describe('the option read of limitFetch', () => {
  it('replaces the reading of headers, and may read the body', async () => {
    const server = serve(() => new Response('{"left":0}', { headers: { 'Retry-After': '99' } }));
    for (const read of [
      () => left(0, 30),
      async (response: Response) => left((await response.clone().json()).left, 30),
    ]) {
      const limiter = new PolicyLimiter({ ...plenty, random: () => 0 });
      const response = await limitFetch(virtualFetch, limiter, { read })(server.origin);
      expect(limiter.delaySeconds()).toBeCloseTo(31, 6);
      expect(await response.json()).toEqual({ left: 0 });
    }
  });

  it.each<[string, LimitFetchOptions]>([
    ['throws', { read: () => JSON.parse('{') }],
    ['rejects', { read: () => Promise.reject(new SyntaxError('no JSON')) }],
    ['is isRefusal and throws', { isRefusal: () => JSON.parse('{') }],
  ])('rejects the call if it %s, and its quota is spent', async (_, options) => {
    const server = serve(good);
    const limiter = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 60 }] });
    const limited = limitFetch(virtualFetch, limiter, options);
    await expect(limited(server.origin)).rejects.toThrow(SyntaxError);
    expect(server.received).toHaveLength(1);
    expect(limiter.delaySeconds()).toBe(60);
    expect(limiter.state().running).toBe(0);
  });

  it.each<[string, LimitFetchOptions]>([
    ['at once', { isRefusal: () => JSON.parse('{') }],
    ['later', { isRefusal: async () => JSON.parse('{') }],
  ])('frees the connection of a response that it cannot read, failing %s', async (_, options) => {
    let isCancelled = false;
    const cancel = () => {
      isCancelled = true;
    };
    const answer = async () => new Response(new ReadableStream({ cancel }));
    const limited = limitFetch(answer, new PolicyLimiter(plenty), options);
    await expect(limited('http://a.example')).rejects.toThrow(SyntaxError);
    expect(isCancelled).toBe(true);
  });

  it('rejects the call if it returns no RateLimitInfo', async () => {
    const server = serve(good);
    const read = () => ({ remaining: 1 }) as never;
    const limited = limitFetch(virtualFetch, new PolicyLimiter(plenty), { read });
    await expect(limited(server.origin)).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
  });
});

describe('the option isRefusal of limitFetch', () => {
  it('causes retries of responses with any status, and may read the body', async () => {
    const server = serve((_, at) => new Response(at === 0 ? '{"error":"THROTTLED"}' : '{}'));
    const isRefusal = async (response: Response) => 'error' in (await response.clone().json());
    const limiter = hastyLimiter();
    const response = await limitFetch(virtualFetch, limiter, { isRefusal })(server.origin);
    expect(await response.text()).toBe('{}');
    expect(server.received).toHaveLength(2);
    expect(limiter.state().rateShare).toBeLessThan(1);
  });

  it('can say that a 429 is none, or leave it to the default', async () => {
    for (const [refused, attempts] of [
      [false, 1],
      [undefined, 2],
    ] as const) {
      const server = serve(refusing(1, 429, NOW));
      const options = { isRefusal: () => refused };
      await limitFetch(virtualFetch, hastyLimiter(), options)(server.origin);
      expect(server.received).toHaveLength(attempts);
    }
  });

  it('receives what the response says about limits', async () => {
    const server = serve(() => new Response('', { headers: { 'X-RateLimit-Remaining': '0' } }));
    const isRefusal: LimitFetchOptions['isRefusal'] = (_, { limits }) => limits[0]?.remaining === 0;
    const options = { isRefusal, maxAttempts: 2 };
    await limitFetch(virtualFetch, hastyLimiter(), options)(server.origin);
    expect(server.received).toHaveLength(2);
  });
});

describe('limitFetch', () => {
  it('reads resets in the format that is given', async () => {
    const fields = { 'X-RateLimit-Remaining': '0', 'X-RateLimit-Reset': '60000' };
    const server = serve(() => new Response('', { headers: fields }));
    const limiter = new PolicyLimiter({ ...plenty, random: () => 0 });
    await limitFetch(virtualFetch, limiter, { resetFormat: 'delta-ms' })(server.origin);
    expect(limiter.delaySeconds()).toBeCloseTo(61, 6);
  });

  it('retries the statuses that are given', async () => {
    const server = serve(refusing(1, 502, {}));
    const options = { retryStatuses: [502] };
    const outcome = watched(
      limitFetch(virtualFetch, new PolicyLimiter(plenty), options)(server.origin),
    );
    await pass(0.49);
    expect(server.received).toHaveLength(1);
    await pass(0.52);
    expect(outcome.resolved).toMatchObject({ status: 200 });
  });

  it.each([500, 502, 504])(
    'retries after %i on another node of a pool, at once',
    async (status) => {
      const servers = [serve(refusing(9, status, {})), serve(refusing(9, status, {}))];
      const pool = poolOf([...servers, serve(good)]);
      const outcome = watched(limitFetch(virtualFetch, pool)('/'));
      await pass(0.001);
      expect(outcome.resolved).toMatchObject({ status: 200 });
    },
  );

  it('retries a POST with JSON-RPC if that is allowed', async () => {
    const call = (method: string) => ({ jsonrpc: '2.0', id: 1, method });
    const read = JSON.stringify(call('get_block'));
    const batch = JSON.stringify([call('get_block'), call('get_account')]);
    const mixed = JSON.stringify([call('get_block'), call('broadcast')]);
    const bytes = new TextEncoder().encode(read);
    const isRead = (method: string) => method !== 'broadcast';
    for (const [body, retryJsonRpc, attempts] of [
      [read, true, 2],
      [bytes, true, 2],
      [read, undefined, 1],
      [read, false, 1],
      [batch, isRead, 2],
      [mixed, isRead, 1],
      [mixed, true, 2],
      ['[]', true, 1],
      ['{"method":"get_block"}', true, 1],
      ['{"jsonrpc":"2.0","method":5}', true, 1],
      ['no JSON', true, 1],
      [new Blob([read]), true, 1],
    ] as const) {
      const server = serve(refusing(1, 429, NOW));
      const limited = limitFetch(virtualFetch, hastyLimiter(), { retryJsonRpc });
      await limited(server.origin, { method: 'POST', body });
      expect([body, server.received.length]).toEqual([body, attempts]);
    }
  });

  it('does not retry another method because of its JSON-RPC body', async () => {
    const server = serve(refusing(1, 429, NOW));
    const body = '{"jsonrpc":"2.0","method":"a"}';
    const limited = limitFetch(virtualFetch, hastyLimiter(), { retryJsonRpc: true });
    await limited(server.origin, { method: 'PATCH', body });
    expect(server.received).toHaveLength(1);
  });

  it.each<[LimitFetchOptions]>([
    [{ read: 1 as never }],
    [{ isRefusal: true as never }],
    [{ resetFormat: 'seconds' as never }],
    [{ retryStatuses: 502 as never }],
    [{ retryStatuses: ['502'] as never }],
    [{ retryJsonRpc: 'reads' as never }],
  ])('rejects the options %o', (options) => {
    expect(() => limitFetch(virtualFetch, new PolicyLimiter(plenty), options)).toThrow(
      expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }),
    );
  });
});

describe('limitFetch without a response', () => {
  it('pauses for half of 1, 2, 4, ... seconds at least and all of it at most', async () => {
    const sentAt: number[] = [];
    const gone: typeof fetch = async () => {
      sentAt.push(performance.now() / 1000);
      throw new TypeError('fetch failed');
    };
    for (const random of [0, 0.999_999]) {
      sentAt.length = 0;
      vi.spyOn(Math, 'random').mockReturnValue(random);
      const limited = limitFetch(gone, new PolicyLimiter(plenty), { maxAttempts: 5 });
      const outcome = watched(limited('http://a.example'));
      await pass(20);
      expect(outcome.rejected).toMatchObject({ message: 'fetch failed' });
      const pauses = sentAt.slice(1).map((time, n) => time - (sentAt[n] as number));
      const factor = random === 0 ? 0.5 : 1;
      expect(pauses.map((seconds) => Math.round(seconds * 100) / 100)).toEqual(
        [1, 2, 4, 8].map((seconds) => seconds * factor),
      );
    }
    vi.restoreAllMocks();
  });

  const failing: typeof fetch = async () => {
    throw new TypeError('fetch failed');
  };

  it('does not pause while other nodes are left, and does when none is', async () => {
    const good1 = serve(good);
    const pool = poolOf([{ origin: 'http://gone.example', received: [] }, good1]);
    for (let n = 0; n < 5; n += 1) {
      const outcome = watched(limitFetch(virtualFetch, pool)('/'));
      await pass(0.001);
      expect(outcome.resolved).toMatchObject({ status: 200 });
    }
    const alone = poolOf([{ origin: 'http://gone.example', received: [] }]);
    const outcome = watched(limitFetch(virtualFetch, alone)('/'));
    await pass(0.49);
    expect(outcome).toEqual({});
  });

  it('gives up at once if the deadline is before the next attempt', async () => {
    const limited = limitFetch(failing, new PolicyLimiter(plenty), { deadlineSeconds: 0.4 });
    await expect(limited('http://a.example')).rejects.toThrow('fetch failed');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('ends its pause when the signal aborts', async () => {
    const abort = new AbortController();
    const limited = limitFetch(failing, new PolicyLimiter(plenty));
    const outcome = watched(limited('http://a.example', { signal: abort.signal }));
    await pass(0.1);
    abort.abort('enough');
    await pass(0);
    expect(outcome).toEqual({ rejected: 'enough' });
    expect(vi.getTimerCount()).toBe(0);
  });
});

it('limitInterceptor takes read, isRefusal and resetFormat, and checks them', () => {
  const limiter = new PolicyLimiter(plenty);
  const options = { read: () => said(), isRefusal: () => true, resetFormat: 'epoch' } as const;
  expect(limitInterceptor(limiter, options)).toBeInstanceOf(Function);
  for (const wrong of [{ read: 1 }, { isRefusal: 1 }, { isCommon: 1 }, { resetFormat: 'x' }]) {
    expect(() => limitInterceptor(limiter, wrong as never)).toThrow(
      expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }),
    );
  }
});
