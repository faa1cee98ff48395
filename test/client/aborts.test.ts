// A signal that aborts in each state of a call of limitFetch: the call rejects at once with the reason, nothing goes on, and
// only what was sent is spent.

import { limitFetch, PolicyLimiter, type PolicyLimiterOptions } from 'relay-limiter/client';
import { describe, expect, it, vi } from 'vitest';
import { onAbort } from '../../lib/client/deadline.js';
import { watched } from './network.js';
import { now, pass, useVirtualTime } from './support.js';

useVirtualTime();

const QUOTA = 5;

/** Returns a limiter of five requests per hour, of which `sent` are spent. */
function limiterOf(sent: number, options: Partial<PolicyLimiterOptions> = {}): PolicyLimiter {
  const policies = [{ quota: QUOTA, windowSeconds: 3600 }];
  const limiter = new PolicyLimiter({
    policies,
    algorithm: 'sliding',
    clock: now,
    maxWaitSeconds: 1e6,
    random: () => 0.5,
    ...options,
  });
  for (let n = 0; n < sent; n += 1) limiter.tryAcquire();
  return limiter;
}

/** A body of which nothing arrives until it is cancelled. */
class SilentBody {
  isCancelled = false;
  readonly stream = new ReadableStream({
    cancel: () => {
      this.isCancelled = true;
    },
  });
}

interface State {
  limiter: PolicyLimiter;
  /** The limiter within which it is. */
  outer?: PolicyLimiter;
  /** Answers each request; without it none is sent. */
  answer?: (signal: AbortSignal | null | undefined) => Promise<Response>;
  /** Bodies that no one reads after the call. */
  bodies?: SilentBody[];
  /** The calls of others, which still wait. */
  others?: number;
}

const hanging = (signal: AbortSignal | null | undefined): Promise<Response> =>
  new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason));
  });

function refusing(headers: Record<string, string>): State {
  const body = new SilentBody();
  const answer = async () => new Response(body.stream, { status: 429, headers });
  return { limiter: limiterOf(0), answer, bodies: [body] };
}

const STATES: [state: string, create: () => State][] = [
  ['waits for quota', () => ({ limiter: limiterOf(QUOTA) })],
  [
    'waits for a place in the queue',
    () => {
      const limiter = limiterOf(QUOTA, { maxQueue: 1, onFull: 'wait' });
      limiter.acquire().catch(() => {});
      return { limiter, others: 1 };
    },
  ],
  [
    'waits for a lease to end',
    () => {
      const limiter = limiterOf(0, { maxConcurrent: 1 });
      void limiter.acquire();
      return { limiter };
    },
  ],
  [
    'waits for the outer limiter',
    () => {
      const outer = limiterOf(QUOTA);
      return { limiter: limiterOf(0, { within: outer }), outer };
    },
  ],
  [
    'waits for a block to end',
    () => {
      const limiter = limiterOf(0);
      const refusal = { policies: [], limits: [], retryAfterSeconds: 900, ignored: [] };
      limiter.update(refusal, 429);
      return { limiter };
    },
  ],
  ['waits for the answer', () => ({ limiter: limiterOf(0), answer: hanging })],
  [
    'waits for the body of a refusal',
    () => refusing({ 'Retry-After': '600', 'Content-Type': 'application/problem+json' }),
  ],
  ['waits for a retry', () => refusing({ 'Retry-After': '600' })],
  [
    'pauses after no response',
    () => ({ limiter: limiterOf(0), answer: () => Promise.reject(new TypeError('gone')) }),
  ],
];

describe('a signal that aborts while a call of limitFetch', () => {
  it.each(STATES)('%s rejects it, and only what was sent is spent', async (_, create) => {
    const { limiter, outer, answer, bodies = [], others = 0 } = create();
    const limiters = outer === undefined ? [limiter] : [limiter, outer];
    const before = limiters.map((one) => one.snapshot().policies.map(({ state }) => state.length));
    const { running } = limiter.state();
    let sent = 0;
    const fetch: typeof globalThis.fetch = async (_input, init) => {
      sent += 1;
      return await (answer as NonNullable<typeof answer>)(init?.signal);
    };
    const abort = new AbortController();
    const limited = limitFetch(fetch, limiter);
    const outcome = watched(limited('http://a.example', { signal: abort.signal }));
    await pass(0.25);
    expect(outcome).toEqual({});
    abort.abort('enough');
    await pass(0);
    expect(outcome).toEqual({ rejected: 'enough' });
    expect(sent).toBe(answer === undefined ? 0 : 1);
    for (const body of bodies) expect(body.isCancelled).toBe(true);
    for (const one of limiters) {
      expect(one.state()).toMatchObject({
        waiting: one === limiter ? others : 0,
        running: one === limiter ? running : 0,
      });
    }
    // A log has two numbers for each request.
    const after = limiters.map((one) => one.snapshot().policies.map(({ state }) => state.length));
    expect(after).toEqual(before.map((states) => states.map((length) => length + 2 * sent)));
    for (const one of limiters) one.close();
    expect(vi.getTimerCount()).toBe(0);
    await pass(7200);
    expect(sent).toBe(answer === undefined ? 0 : 1);
  });
});

describe('onAbort', () => {
  it('calls nothing that was cancelled', () => {
    const abort = new AbortController();
    const called: string[] = [];
    onAbort(abort.signal, () => called.push('a'));
    const cancel = onAbort(abort.signal, () => called.push('b'));
    cancel();
    abort.abort();
    expect(called).toEqual(['a']);
  });
});
