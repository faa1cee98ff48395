// PolicyLimiter.run and wrap, bounds of what runs and waits, the end of a limiter, and its events.

import { type LimiterEvent, PolicyLimiter, type PolicyLimiterOptions } from 'relay-limiter/client';
import { describe, expect, it, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { left, pass, said, useVirtualTime } from './support.js';

useVirtualTime();

const sleep = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Returns a limiter on the virtual clock of the fake timers. */
function limiterOf(options: Partial<PolicyLimiterOptions> = {}): PolicyLimiter {
  const policies = [{ quota: 1000, windowSeconds: 1 }];
  const clock = () => Date.now() / 1000;
  return new PolicyLimiter({ policies, algorithm: 'sliding', clock, ...options });
}

describe('PolicyLimiter.run', () => {
  it('resolves to the result of the function, and the lease ends then', async () => {
    const limiter = limiterOf();
    const result = limiter.run(async () => {
      await sleep(1);
      return 'done';
    });
    await pass(0.5);
    expect(limiter.state().running).toBe(1);
    await pass(0.5);
    expect(await result).toBe('done');
    expect(limiter.state().running).toBe(0);
  });

  it('rejects with what the function throws, and the quota is spent', async () => {
    const limiter = limiterOf({ policies: [{ quota: 1, windowSeconds: 60 }] });
    const error = new Error('broken');
    const run = limiter.run(() => {
      throw error;
    });
    await expect(run).rejects.toBe(error);
    expect(limiter.state().running).toBe(0);
    expect(limiter.delaySeconds()).toBe(60);
  });

  it('passes the lease to the function, which may refund or settle it', async () => {
    const limiter = limiterOf({ policies: [{ quota: 1, windowSeconds: 60 }] });
    await limiter.run((lease) => lease.refund());
    expect(limiter.delaySeconds()).toBe(0);
  });

  it('takes the options of acquire', async () => {
    const limiter = limiterOf({ policies: [{ quota: 5, windowSeconds: 60 }] });
    await limiter.run(() => {}, { cost: 5 });
    const late = limiter.run(() => {}, { deadlineSeconds: 1 });
    await expect(late).rejects.toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    const signal = AbortSignal.abort('no');
    await expect(limiter.run(() => {}, { signal })).rejects.toBe('no');
    await expect(limiter.run(7 as never)).rejects.toMatchObject({ code: 'ERR_LIMITER_OPTION' });
  });
});

describe('PolicyLimiter.wrap', () => {
  it('returns a function with the same arguments, this and result', async () => {
    const limiter = limiterOf();
    const counter = {
      count: 1,
      add: limiter.wrap(async function (this: { count: number }, a: number, b: number) {
        this.count += a + b;
        return this.count;
      }),
    };
    expect(await counter.add(2, 3)).toBe(6);
  });

  it('takes options that depend on the arguments', async () => {
    const limiter = limiterOf({ policies: [{ quota: 10, windowSeconds: 60 }] });
    const send = limiter.wrap(
      (list: number[]) => list.length,
      (list) => ({ cost: list.length }),
    );
    expect(await send([1, 2, 3])).toBe(3);
    expect(limiter.remaining()).toBe(7);
    expect(codeOf(() => limiter.wrap('x' as never))).toBe('ERR_LIMITER_OPTION');
  });
});

describe('maxConcurrent', () => {
  it('bounds the leases that are open, and each end serves the next call', async () => {
    const limiter = limiterOf({ maxConcurrent: 3 });
    let running = 0;
    let most = 0;
    const runs = Array.from({ length: 10 }, () =>
      limiter.run(async () => {
        running += 1;
        most = Math.max(most, running);
        await sleep(1);
        running -= 1;
      }),
    );
    expect(limiter.state()).toMatchObject({ running: 3, waiting: 7 });
    await pass(4);
    await Promise.all(runs);
    expect(most).toBe(3);
  });

  it('counts a lease once, however often it is ended', async () => {
    const limiter = limiterOf({ maxConcurrent: 2 });
    const lease = await limiter.acquire();
    await limiter.acquire();
    lease.release();
    lease.release();
    lease.refund();
    lease.settle(0);
    expect(limiter.state().running).toBe(1);
    expect([limiter.tryAcquire(), limiter.tryLease() !== null, limiter.tryAcquire()]).toEqual([
      true,
      true,
      false,
    ]);
  });

  it('counts a job of any length: longer than a minute, too', async () => {
    const limiter = limiterOf({ maxConcurrent: 1 });
    const order: string[] = [];
    void limiter.run(async () => {
      await sleep(600);
      order.push('long');
    });
    void limiter.run(() => order.push('next'));
    await pass(599);
    expect(order).toEqual([]);
    await pass(1);
    expect(order).toEqual(['long', 'next']);
  });

  it('leaves no calls without a lease', () => {
    const limiter = limiterOf({ maxConcurrent: 1 });
    const lease = limiter.tryLease();
    expect(limiter.hasPlace).toBe(false);
    expect([limiter.tryAcquire(), limiter.tryLease(), limiter.remaining()]).toEqual([
      false,
      null,
      0,
    ]);
    lease?.release();
    expect([limiter.hasPlace, limiter.tryAcquire()]).toEqual([true, true]);
  });

  it('lets the deadline of a waiting call pass', async () => {
    const limiter = limiterOf({ maxConcurrent: 1 });
    void limiter.run(() => sleep(100));
    const late = limiter.acquire({ deadlineSeconds: 5 });
    late.catch(() => {});
    await pass(4.9);
    expect(limiter.state().waiting).toBe(1);
    await pass(0.2);
    await expect(late).rejects.toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    expect(limiter.state().waiting).toBe(0);
  });

  it.each([0, -1, 1.5, '3', Number.NaN])('must not be %j', (maxConcurrent) => {
    expect(codeOf(() => limiterOf({ maxConcurrent } as object))).toBe('ERR_LIMITER_OPTION');
  });
});

describe('a full queue', () => {
  const full = (options: Partial<PolicyLimiterOptions>) =>
    limiterOf({ policies: [{ quota: 1, windowSeconds: 1 }], maxQueue: 2, ...options });

  it("with onFull 'wait' lets further calls wait for a place, in the order of their calls", async () => {
    const limiter = full({ onFull: 'wait' });
    const served: string[] = [];
    const enter = (name: string, priority = 0) =>
      limiter.acquire({ priority }).then(() => served.push(name));
    for (const name of ['now', 'a', 'b', 'c', 'd']) void enter(name);
    // Its priority counts from the moment when it has a place.
    void enter('high', 9);
    expect(limiter.state().waiting).toBe(5);
    await pass(10);
    expect(served).toEqual(['now', 'a', 'b', 'c', 'high', 'd']);
  });

  it('serves the call that gets the place of an aborted one at once if it is the first now', async () => {
    const limiter = limiterOf({
      policies: [{ quota: 2, windowSeconds: 4 }],
      maxQueue: 2,
      onFull: 'wait',
    });
    limiter.tryAcquire();
    await pass(2);
    limiter.tryAcquire();
    const abort = new AbortController();
    const served: string[] = [];
    void limiter.acquire({ cost: 2 }).then(() => served.push('large'));
    const aborted = limiter.acquire({ cost: 2, signal: abort.signal });
    void limiter.acquire({ priority: 9 }).then(() => served.push('urgent'));
    abort.abort('enough');
    await expect(aborted).rejects.toBe('enough');
    await pass(1.999);
    expect(served).toEqual([]);
    // The first unit is free again, the second one two seconds later.
    await pass(0.001);
    expect(served).toEqual(['urgent']);
    await pass(4);
    expect(served).toEqual(['urgent', 'large']);
  });

  it('drops calls that wait for a place by their signals and deadlines', async () => {
    const limiter = full({ onFull: 'wait' });
    limiter.tryAcquire();
    const abort = new AbortController();
    for (let n = 0; n < 2; n += 1) void limiter.acquire();
    const aborted = limiter.acquire({ signal: abort.signal });
    abort.abort('enough');
    await expect(aborted).rejects.toBe('enough');
    const inTime = limiter.acquire({ deadlineSeconds: 3.5 });
    await expect(limiter.acquire({ deadlineSeconds: 3.5 })).rejects.toMatchObject({
      code: 'ERR_LIMITER_DEADLINE',
      retryAfterSeconds: 4,
    });
    await pass(3);
    await expect(inTime).resolves.toMatchObject({ cost: 1 });
  });

  it('tells a producer by ready() when there is a place', async () => {
    const limiter = full({ onFull: 'wait' });
    limiter.tryAcquire();
    let produced = 0;
    void (async () => {
      for (; produced < 20; produced += 1) {
        await limiter.ready();
        void limiter.acquire();
      }
    })();
    await pass(0);
    expect(produced).toBe(2);
    await pass(3);
    expect(produced).toBe(5);
    expect(limiter.state().waiting).toBeLessThanOrEqual(2);
  });

  it('has valid options only', () => {
    expect(codeOf(() => full({ onFull: 'drop' as never }))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => full({ onFull: 'wait', maxQueue: 0 }))).toBe('ERR_LIMITER_OPTION');
  });
});

describe('the end of a limiter', () => {
  const slow = () => limiterOf({ policies: [{ quota: 1, windowSeconds: 1 }] });

  it('by close rejects the waiting calls and all later ones, but no lease', async () => {
    const limiter = slow();
    const lease = await limiter.acquire();
    const waiting = [limiter.acquire(), limiter.acquire({ deadlineSeconds: 9 })];
    limiter.close();
    for (const call of [...waiting, limiter.acquire(), limiter.run(() => 1)]) {
      await expect(call).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
    }
    expect([limiter.tryAcquire(), limiter.tryLease()]).toEqual([false, null]);
    expect(vi.getTimerCount()).toBe(0);
    expect(limiter.state()).toMatchObject({ waiting: 0, running: 1 });
    lease.release();
    await limiter.idle();
  });

  it('by drain serves the waiting calls, and resolves when all leases have ended', async () => {
    const limiter = slow();
    const done: string[] = [];
    for (const name of ['a', 'b', 'c'])
      void limiter.run(() => sleep(5).then(() => done.push(name)));
    const drained = limiter.drain().then(() => done.push('drained'));
    await expect(limiter.acquire()).rejects.toMatchObject({ code: 'ERR_LIMITER_CLOSED' });
    await pass(10);
    await drained;
    expect(done).toEqual(['a', 'b', 'c', 'drained']);
  });

  it('by idle resolves at once if nothing runs or waits, and lets new calls in', async () => {
    const limiter = slow();
    await limiter.idle();
    const abort = new AbortController();
    await limiter.run(() => {});
    const waiting = limiter.acquire({ signal: abort.signal });
    waiting.catch(() => {});
    let isIdle = false;
    const idle = limiter.idle().then(() => {
      isIdle = true;
    });
    await pass(0.5);
    expect(isIdle).toBe(false);
    abort.abort();
    await idle;
    expect(limiter.delaySeconds()).toBe(0.5);
  });
});

describe('the events of PolicyLimiter', () => {
  const NAMES: LimiterEvent[] = ['waiting', 'refused', 'blocked', 'resumed', 'idle'];
  const noting = (limiter: PolicyLimiter) => {
    const seen: unknown[] = [];
    for (const name of NAMES) limiter.on(name, (event) => seen.push([name, event]));
    return seen;
  };

  it('tell of waiting, and of the end of all work once', async () => {
    const limiter = limiterOf({ policies: [{ quota: 1, windowSeconds: 1 }] });
    const seen = noting(limiter);
    const leases = [limiter.acquire(), limiter.acquire(), limiter.acquire()];
    expect(seen).toEqual([
      ['waiting', { waiting: 1 }],
      ['waiting', { waiting: 2 }],
    ]);
    await pass(3);
    for (const lease of await Promise.all(leases)) lease.release();
    limiter.update(said(), 200);
    expect(seen.slice(2)).toEqual([['idle', {}]]);
  });

  it('tell once that all work has ended if close rejects many calls', async () => {
    const limiter = limiterOf({ policies: [{ quota: 1, windowSeconds: 60 }] });
    limiter.tryAcquire();
    const seen = noting(limiter);
    const waiting = [limiter.acquire(), limiter.acquire(), limiter.acquire()];
    limiter.close();
    for (const call of waiting) await expect(call).rejects.toThrow('closed');
    expect(seen.slice(3)).toEqual([['idle', {}]]);
  });

  it('tell of refusals, blocks that become longer, and the first good answer', async () => {
    const limiter = limiterOf();
    const seen = noting(limiter);
    limiter.update(said({ retryAfterSeconds: 10 }), 429);
    limiter.update(said({ retryAfterSeconds: 5 }), 429);
    limiter.update(said({ retryAfterSeconds: 20 }), 503);
    limiter.update(said(), 200);
    await pass(20);
    limiter.update(said(), 200);
    limiter.update(said(), 200);
    expect(seen).toEqual([
      ['refused', { status: 429, retryAfterSeconds: 10 }],
      ['blocked', { seconds: 10 }],
      ['refused', { status: 429, retryAfterSeconds: 5 }],
      ['refused', { status: 503, retryAfterSeconds: 20 }],
      ['blocked', { seconds: 20 }],
      ['resumed', {}],
    ]);
  });

  it('tell that calls are blocked until the reset, once a refusal says that a limit has nothing left', async () => {
    const limiter = limiterOf({ random: () => 0 });
    const seen = noting(limiter);
    limiter.update(left(0, 30, { exact: true }), 200);
    expect(limiter.state().blockedSeconds).toBe(0);
    expect(seen).toEqual([]);
    limiter.update(left(0, 30, { exact: true }), 403);
    limiter.update(left(0, 30, { exact: true }), 403);
    expect(limiter.state().blockedSeconds).toBe(30);
    await pass(10);
    limiter.update(left(0, 20, { exact: true }), 200);
    expect(limiter.state().blockedSeconds).toBe(20);
    await pass(20);
    expect(limiter.state().blockedSeconds).toBe(0);
    limiter.update(left(9, 30, { exact: true }), 200);
    const refused = ['refused', { status: 403, retryAfterSeconds: null }];
    expect(seen).toEqual([refused, ['blocked', { seconds: 30 }], refused, ['resumed', {}]]);
  });

  it('tell that such a block has ended as soon as a response says that something is left', () => {
    const limiter = limiterOf({ random: () => 0 });
    const seen = noting(limiter);
    limiter.update(left(0, 30, { exact: true }), 429);
    limiter.update(left(5, 30, { exact: true }), 200);
    expect(limiter.state().blockedSeconds).toBe(0);
    expect(seen.slice(1)).toEqual([
      ['blocked', { seconds: 30 }],
      ['resumed', {}],
    ]);
  });

  it('are heard until the listener is removed', () => {
    const limiter = limiterOf();
    let calls = 0;
    const remove = limiter.on('idle', () => {
      calls += 1;
    });
    limiter.tryLease()?.release();
    remove();
    limiter.tryLease()?.release();
    expect(calls).toBe(1);
    expect(codeOf(() => limiter.on('done' as never, () => {}))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => limiter.on('idle', 7 as never))).toBe('ERR_LIMITER_OPTION');
  });
});
