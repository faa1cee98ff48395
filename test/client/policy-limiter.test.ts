// PolicyLimiter's calls: what is accepted, what costs and leases do, and what bad input leaves alone.

import { PolicyLimiter } from 'relay-limiter/client';
import { describe, expect, it, test, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { burst, limited, said } from './support.js';

const NAN = Number.NaN;
const ONE = [{ quota: 100, windowSeconds: 60 }];

describe('options', () => {
  test.each<[unknown, string]>([
    [[], 'policies must be an array of at least one { quota, windowSeconds, name? }, got an empty'],
    [undefined, 'policies must be an array of at least one'],
    [{}, 'policies must be an array of at least one'],
    [[7], 'the options of policies[0] must be an object of options, got 7'],
    [[undefined], 'policies[0] must be an object, got undefined'],
    [
      [
        { quota: 1, windowSeconds: 1 },
        { quota: 0, windowSeconds: 9 },
      ],
      'policies[1].quota must be a',
    ],
    [[{ quota: -1, windowSeconds: 1 }], 'policies[0].quota must be a finite number greater than 0'],
    [[{ quota: Infinity, windowSeconds: 1 }], 'policies[0].quota must be a finite number'],
    [[{ quota: NAN, windowSeconds: 1 }], 'policies[0].quota must be a finite number'],
    [[{ quota: '5', windowSeconds: 1 }], 'policies[0].quota must be a finite number'],
    [
      [{ windowSeconds: 1 }],
      'policies[0].quota must be a finite number greater than 0, got undefined',
    ],
    [
      [{ quota: 1, windowSeconds: 0, name: 'x' }],
      'policies[0] ("x").windowSeconds must be a finite',
    ],
    [[{ quota: 1, windowSeconds: -2 }], 'policies[0].windowSeconds must be a finite number'],
    [[{ quota: 1, windowSeconds: Infinity }], 'policies[0].windowSeconds must be a finite number'],
    [[{ quota: 1, windowSeconds: 1, name: 7 }], 'policies[0].name must be a string, got 7'],
    [[{ quota: 1, windowSeconds: 1, v: 7 }], 'unknown option "v" of policies[0]; it takes quota'],
    [
      [
        { quota: 1, windowSeconds: 1, name: 'burst' },
        { quota: 2, windowSeconds: 2, name: 'burst' },
      ],
      'policies[1] must differ from the others: it has the name of policies[0], "burst"',
    ],
    [
      [
        { quota: 1, windowSeconds: 60 },
        { quota: 2, windowSeconds: 60 },
      ],
      'policies[1] must differ from the others: it has the window of policies[0], 60 seconds',
    ],
  ])('policies %j', (policies, message) => {
    const create = () => new PolicyLimiter({ policies } as never);
    expect(codeOf(create)).toBe('ERR_LIMITER_OPTION');
    expect(create).toThrow(message);
  });

  test.each<[object, string]>([
    [{ algorithm: 'leaky' }, `algorithm must be 'bucket', 'sliding' or 'fixed', got "leaky"`],
    [{ burstShare: 1 }, 'burstShare must be at least 0 and below 1'],
    [{ burstShare: -0.1 }, 'burstShare must be a finite number of at least 0, got -0.1'],
    [{ maxWaitSeconds: 0 }, 'maxWaitSeconds must be a finite number greater than 0, got 0'],
    [{ jitterSeconds: NAN }, 'jitterSeconds must be a finite number of at least 0, got NaN'],
    [{ maxQueue: 1.5 }, 'maxQueue must be a whole number from 0'],
    [{ agingSeconds: -1 }, 'agingSeconds must be a finite number of at least 0'],
    [{ clock: 5 }, 'clock must be a function, got 5'],
    [{ wallClock: 5 }, 'wallClock must be a function, got 5'],
    [{ random: 5 }, 'random must be a function, got 5'],
    [{ quota: 5 }, 'unknown option "quota" of PolicyLimiter; it takes policies, algorithm'],
  ])('%j', (options, message) => {
    const create = () => new PolicyLimiter({ policies: ONE, ...options } as never);
    expect(codeOf(create)).toBe('ERR_LIMITER_OPTION');
    expect(create).toThrow(message);
  });

  it('are accepted: several windows, a name beside a window without one', () => {
    const policies = [
      { quota: 0.5, windowSeconds: 60 },
      { quota: 5, windowSeconds: 60, name: '' },
    ];
    expect(() => new PolicyLimiter({ policies, algorithm: undefined })).not.toThrow();
    expect(codeOf(() => new (PolicyLimiter as never as new () => unknown)())).toBe(
      'ERR_LIMITER_OPTION',
    );
  });

  it('are copied: a policy that changes later changes nothing', () => {
    const policy = { quota: 100, windowSeconds: 60 };
    const { limiter } = limited([policy]);
    policy.quota = 1;
    expect(limiter.delaySeconds(50)).toBe(0);
  });
});

describe('bad input', () => {
  it('is refused, and changes nothing', () => {
    const { limiter, clock } = limited(ONE);
    const before = limiter.snapshot();
    for (const cost of [-1, NAN, Infinity, '1', null]) {
      for (const call of ['tryAcquire', 'tryLease', 'delaySeconds'] as const) {
        expect(codeOf(() => limiter[call](cost as never))).toBe('ERR_LIMITER_COST');
      }
    }
    const update = (...given: unknown[]) => codeOf(() => limiter.update(...(given as [never])));
    expect(update(undefined)).toBe('ERR_LIMITER_OPTION');
    expect(update({})).toBe('ERR_LIMITER_OPTION');
    expect(update(said(), 'ok')).toBe('ERR_LIMITER_OPTION');
    expect(update(said({ retryAfterSeconds: 9 }), 429, { lease: {} })).toBe('ERR_LIMITER_OPTION');
    expect(update(said({ retryAfterSeconds: 9 }), 429, { violated: [7] })).toBe(
      'ERR_LIMITER_OPTION',
    );
    expect(update(said({ retryAfterSeconds: 9 }), 429, { age: 7 })).toBe('ERR_LIMITER_OPTION');
    const { now } = clock;
    clock.now = NAN;
    for (const call of [
      () => limiter.tryAcquire(),
      () => limiter.delaySeconds(),
      () => limiter.update(said({ retryAfterSeconds: 9 }), 429),
      () => limiter.snapshot(),
    ]) {
      expect(codeOf(call)).toBe('ERR_LIMITER_CLOCK');
    }
    clock.now = now;
    expect({ ...limiter.snapshot(), takenAt: 0 }).toEqual({ ...before, takenAt: 0 });
  });

  it('makes acquire reject, never throw', async () => {
    const { limiter } = limited(ONE);
    for (const [options, code] of [
      [7, 'ERR_LIMITER_OPTION'],
      [{ weight: 5 }, 'ERR_LIMITER_OPTION'],
      [{ priority: NAN }, 'ERR_LIMITER_OPTION'],
      [{ deadlineSeconds: -1 }, 'ERR_LIMITER_OPTION'],
      [{ signal: {} }, 'ERR_LIMITER_OPTION'],
      [{ signal: null }, 'ERR_LIMITER_OPTION'],
      [{ cost: -1 }, 'ERR_LIMITER_COST'],
      [{ cost: 101 }, 'ERR_LIMITER_COST'],
    ]) {
      await expect(limiter.acquire(options as never)).rejects.toMatchObject({ code });
    }
    expect(burst(limiter)).toBe(10);
  });
});

describe('time', () => {
  it('is read once a call, and stands still where the clock steps back', () => {
    const { limiter, clock } = limited([{ quota: 10, windowSeconds: 10 }], {
      algorithm: 'sliding',
    });
    burst(limiter);
    clock.reads = 0;
    limiter.tryAcquire();
    limiter.delaySeconds();
    limiter.update(said());
    expect(clock.reads).toBe(3);
    clock.now -= 1000;
    expect(limiter.delaySeconds()).toBe(10);
    clock.now += 1009;
    expect(limiter.delaySeconds()).toBe(1);
  });

  it('is told by performance.now() without a clock', () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      const limiter = new PolicyLimiter({ policies: [{ quota: 1, windowSeconds: 3600 }] });
      expect([limiter.tryAcquire(), limiter.tryAcquire()]).toEqual([true, false]);
      vi.advanceTimersByTime(600_000);
      expect(limiter.delaySeconds()).toBe(3000);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('costs', () => {
  it('of 0 go while nothing is owed, and take nothing', () => {
    const { limiter } = limited(ONE);
    for (let n = 0; n < 1000; n += 1) expect(limiter.tryAcquire(0)).toBe(true);
    expect(burst(limiter)).toBe(10);
    expect(limiter.tryAcquire(0)).toBe(true);
  });

  it('are taken from every window, or from none', () => {
    const { limiter, clock } = limited(
      [
        { quota: 5, windowSeconds: 1 },
        { quota: 7, windowSeconds: 100 },
      ],
      { algorithm: 'sliding' },
    );
    expect(burst(limiter)).toBe(5);
    clock.now += 1;
    expect(limiter.tryAcquire(3)).toBe(false);
    expect(burst(limiter)).toBe(2);
    expect(limiter.delaySeconds()).toBe(99);
    expect(limiter.delaySeconds(6)).toBe(Infinity);
  });
});

describe('a lease', () => {
  it('is settled once: what comes second does nothing', () => {
    const { limiter } = limited(ONE);
    const leases = Array.from({ length: 10 }, () => limiter.tryLease());
    leases[0]?.refund();
    leases[0]?.refund();
    leases[1]?.release();
    leases[1]?.refund();
    expect(burst(limiter)).toBe(1);
    expect(leases[0]?.cost).toBe(1);
  });

  it('of an earlier state gives nothing back to a restored one', () => {
    const { limiter } = limited(ONE);
    const lease = limiter.tryLease(10);
    limiter.restore(limiter.snapshot());
    lease?.refund();
    expect(burst(limiter)).toBe(0);
  });
});

it('tells its listeners of refunds and of what responses say, until they leave', () => {
  const { limiter } = limited(ONE);
  let heard = 0;
  const leave = limiter.onChange(() => {
    heard += 1;
  });
  limiter.tryLease()?.refund();
  limiter.update(said());
  limiter.tryAcquire();
  expect(heard).toBe(2);
  leave();
  limiter.update(said());
  expect(heard).toBe(2);
});
