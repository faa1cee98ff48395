// The methods of PolicyLimiter: options, invalid arguments, the clock, costs and leases.

import { PolicyLimiter } from 'relay-limiter/client';
import { describe, expect, it, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { burst, limited, said } from './support.js';

const NAN = Number.NaN;
const ONE = [{ quota: 100, windowSeconds: 60 }];

describe('the options of PolicyLimiter', () => {
  it.each<[unknown, string]>([
    [
      [],
      'policies must be an array of at least one { quota, windowSeconds, name?, unit? }, got an empty',
    ],
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
  ])('must not have the policies %j', (policies, message) => {
    const create = () => new PolicyLimiter({ policies } as never);
    expect(codeOf(create)).toBe('ERR_LIMITER_OPTION');
    expect(create).toThrow(message);
  });

  it.each<[object, string]>([
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
  ])('must not be %j', (options, message) => {
    const create = () => new PolicyLimiter({ policies: ONE, ...options } as never);
    expect(codeOf(create)).toBe('ERR_LIMITER_OPTION');
    expect(create).toThrow(message);
  });

  it('may have several windows, and policies with and without names', () => {
    const policies = [
      { quota: 0.5, windowSeconds: 60 },
      { quota: 5, windowSeconds: 60, name: '' },
    ];
    expect(() => new PolicyLimiter({ policies, algorithm: undefined })).not.toThrow();
    expect(codeOf(() => new (PolicyLimiter as never as new () => unknown)())).toBe(
      'ERR_LIMITER_OPTION',
    );
  });

  it('are copied, so a policy that changes later has no effect', () => {
    const policy = { quota: 100, windowSeconds: 60 };
    const { limiter } = limited([policy]);
    policy.quota = 1;
    expect(limiter.delaySeconds(50)).toBe(0);
  });
});

describe('PolicyLimiter', () => {
  it('rejects invalid arguments and changes nothing', () => {
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

  it('returns a rejected promise from acquire, which never throws', async () => {
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

describe('the clock of PolicyLimiter', () => {
  it('is read once per call, and time stands still if it steps back', () => {
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

  it('is performance.now() by default', () => {
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

describe('a cost', () => {
  it('of 0 is granted while nothing is owed, and takes nothing', () => {
    const { limiter } = limited(ONE);
    for (let n = 0; n < 1000; n += 1) expect(limiter.tryAcquire(0)).toBe(true);
    expect(burst(limiter)).toBe(10);
    expect(limiter.tryAcquire(0)).toBe(true);
  });

  it('is taken from every window or from none', () => {
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

describe('a lease of PolicyLimiter', () => {
  it('ends once, and later calls have no effect', () => {
    const { limiter } = limited(ONE);
    const leases = Array.from({ length: 10 }, () => limiter.tryLease());
    leases[0]?.refund();
    leases[0]?.refund();
    leases[1]?.release();
    leases[1]?.refund();
    expect(burst(limiter)).toBe(1);
    expect(leases[0]?.cost).toBe(1);
  });

  it('from before a restore refunds nothing', () => {
    const { limiter } = limited(ONE);
    const lease = limiter.tryLease(10);
    limiter.restore(limiter.snapshot());
    lease?.refund();
    expect(burst(limiter)).toBe(0);
  });
});

it('PolicyLimiter.onChange calls a listener after refunds and updates until it is removed', () => {
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

it('PolicyLimiter.backlogSeconds returns the time for more units than a quota too', () => {
  const { limiter } = limited([{ quota: 10, windowSeconds: 10 }], { algorithm: 'sliding' });
  expect([10, 11, 20, 21].map((units) => limiter.backlogSeconds(units))).toEqual([0, 10, 10, 20]);
  expect(limiter.delaySeconds(11)).toBe(Infinity);
  expect(codeOf(() => limiter.backlogSeconds(-1))).toBe('ERR_LIMITER_COST');
});
