// Snapshots of PolicyLimiter: a restart does not double a quota, and an invalid snapshot changes nothing.

import fc from 'fast-check';
import type { PolicySnapshot } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { runs } from '../support/runs.js';
import { burst, left, limited, mostIn, policyOf, type Quota, type Sent, said } from './support.js';

const ALGORITHMS = ['bucket', 'sliding', 'fixed'] as const;
const THREE_HOURS: Quota[] = [
  { quota: 240, windowSeconds: 60 },
  { quota: 21_600, windowSeconds: 10_800, name: 'long' },
];

/** Returns a function that starts the limiter of a next process, and the wall clock of all processes. */
function processes(policies: readonly Quota[], options: object) {
  const wall = { now: 1_800_000_000 };
  const start = () => limited(policies, { wallClock: () => wall.now, random: () => 0, ...options });
  return { wall, start };
}

const throughJson = (snapshot: object): PolicySnapshot => JSON.parse(JSON.stringify(snapshot));

describe.each(ALGORITHMS)('a snapshot of %s', (algorithm) => {
  it('restores the delays, less the time in between', () => {
    const { wall, start } = processes(THREE_HOURS, { algorithm });
    const old = start();
    for (let n = 0; n < 500; n += 1) {
      const delay = old.limiter.delaySeconds();
      old.clock.now += delay;
      wall.now += delay;
      old.limiter.tryAcquire();
    }
    const snapshot = throughJson(old.limiter.snapshot());
    const fresh = start();
    fresh.clock.now = 5;
    for (const seconds of [0, 7, 100, 10_000]) {
      wall.now += seconds;
      old.clock.now += seconds;
      fresh.limiter.restore(snapshot);
      for (const cost of [1, 30, 240]) {
        expect(fresh.limiter.delaySeconds(cost)).toBeCloseTo(old.limiter.delaySeconds(cost), 4);
      }
      fresh.clock.now += 1;
      wall.now += 1;
      old.clock.now += 1;
    }
  });

  it('equals the next snapshot after a restore', () => {
    const { start } = processes(THREE_HOURS, { algorithm });
    const { limiter } = start();
    burst(limiter);
    limiter.update({ ...left(7, 60), retryAfterSeconds: 10 }, 429);
    const snapshot = throughJson(limiter.snapshot());
    const fresh = start();
    fresh.limiter.restore(snapshot);
    expect(throughJson(fresh.limiter.snapshot())).toEqual(snapshot);
    expect(throughJson(start().limiter.snapshot())).not.toEqual(snapshot);
  });

  it('refills nothing if the wall clock went back', () => {
    const { wall, start } = processes(THREE_HOURS, { algorithm });
    const { limiter } = start();
    burst(limiter);
    const snapshot = limiter.snapshot();
    wall.now -= 1e6;
    const fresh = start();
    fresh.limiter.restore(snapshot);
    expect(fresh.limiter.delaySeconds()).toBeCloseTo(limiter.delaySeconds(), 6);
    expect(fresh.limiter.delaySeconds()).toBeGreaterThan(0);
  });
});

describe.each(['bucket', 'sliding'] as const)('a limiter with %s', (algorithm) => {
  it('never exceeds a quota, however often it is restarted', () => {
    const policy = fc.record({
      quota: fc.integer({ min: 1, max: 40 }),
      windowSeconds: fc.integer({ min: 1, max: 50 }),
    });
    const policies = fc.uniqueArray(policy, {
      selector: ({ windowSeconds }) => windowSeconds,
      minLength: 1,
      maxLength: 3,
    });
    const step = fc.record({
      pause: fc.integer({ min: 0, max: 80 }).map((n) => n / 8),
      cost: fc.integer({ min: 0, max: 5 }),
      restarts: fc.boolean(),
      clockSetBack: fc.integer({ min: 0, max: 20 }),
    });
    fc.assert(
      fc.property(policies, fc.array(step, { maxLength: 60 }), (given, steps) => {
        const { wall, start } = processes(given, { algorithm });
        let process = start();
        let time = 0;
        const sent: Sent[] = [];
        for (const { pause, cost, restarts, clockSetBack } of steps) {
          if (process.limiter.tryAcquire(cost)) sent.push({ at: time, cost });
          const snapshot = throughJson(process.limiter.snapshot());
          time += pause;
          wall.now += pause;
          process.clock.now += pause;
          if (!restarts) continue;
          if (clockSetBack === 20) wall.now -= 1000;
          process = start();
          process.limiter.restore(snapshot);
        }
        for (const { quota, windowSeconds } of given) {
          expect(mostIn(windowSeconds, sent)).toBeLessThanOrEqual(quota);
        }
      }),
      runs(300),
    );
  });
});

it('a snapshot keeps a block and what remains', () => {
  const { wall, start } = processes(THREE_HOURS, { algorithm: 'sliding' });
  const { limiter } = start();
  limiter.update({ ...left(7, 60), retryAfterSeconds: 10 }, 429);
  limiter.update(left(0, 3, { name: 'b' }));
  const snapshot = throughJson(limiter.snapshot());
  wall.now += 8;
  const fresh = start();
  fresh.limiter.restore(snapshot);
  expect(fresh.limiter.state().blockedSeconds).toBe(2);
  fresh.clock.now += 2;
  for (let answers = 0; answers < 30; answers += 1) fresh.limiter.update(said());
  expect(burst(fresh.limiter)).toBe(7);
  wall.now += 100;
  const later = start();
  later.limiter.restore(snapshot);
  expect(burst(later.limiter)).toBe(240);
});

it('a snapshot keeps several limits without a name', () => {
  const { start } = processes(THREE_HOURS, { algorithm: 'sliding' });
  const { limiter } = start();
  const nameless = (quota: number) => ({ name: null, limit: quota });
  limiter.update(left(0, 500, nameless(21_600)));
  limiter.update(left(200, 30, nameless(240)));
  const fresh = start();
  fresh.limiter.restore(throughJson(limiter.snapshot()));
  expect(fresh.limiter.delaySeconds()).toBe(limiter.delaySeconds());
  // Further reports change the same limits.
  fresh.limiter.update(left(1, 30, nameless(240)));
  expect(fresh.limiter.snapshot().limits).toHaveLength(2);
});

describe.each(ALGORITHMS)('a snapshot of %s', (algorithm) => {
  it('keeps what is spent of policies that the server reported', () => {
    const { wall, start } = processes([{ quota: 1e6, windowSeconds: 1 }], {
      algorithm,
      maxWaitSeconds: 1e6,
    });
    const old = start();
    const policies = [policyOf(100, 3600), policyOf(50, 1800, { name: null })];
    old.limiter.update(said({ policies }));
    for (let n = 0; n < 20; n += 1) {
      old.limiter.tryAcquire();
      old.clock.now += 5;
      wall.now += 5;
    }
    const snapshot = throughJson(old.limiter.snapshot());
    for (const seconds of [0, 100, 1000]) {
      wall.now += seconds;
      old.clock.now += seconds;
      const fresh = start();
      fresh.limiter.restore(snapshot);
      for (const cost of [1, 10, 50]) {
        expect(fresh.limiter.delaySeconds(cost)).toBeCloseTo(old.limiter.delaySeconds(cost), 4);
      }
    }
    // More than a window after the last report.
    wall.now += 3600;
    const later = start();
    later.limiter.restore(snapshot);
    expect(later.limiter.snapshot().told).toEqual([]);
  });
});

it('a snapshot keeps a limit on concurrent requests', () => {
  const { start } = processes(THREE_HOURS, { algorithm: 'sliding' });
  const { limiter } = start();
  limiter.update(said({ policies: [policyOf(2, 60, { unit: 'concurrent-requests' })] }));
  const fresh = start();
  fresh.limiter.restore(throughJson(limiter.snapshot()));
  fresh.limiter.tryLease();
  fresh.limiter.tryLease();
  expect(fresh.limiter.tryLease()).toBeNull();
});

describe('a snapshot keeps that responses agreed on a reset', () => {
  /** Returns a limiter of which nothing remains for an hour, by reports of so many seconds. */
  const spent = (seconds: number, { wall, start }: ReturnType<typeof processes>) => {
    const { limiter, clock } = start();
    limiter.update(left(1, 3600));
    clock.now += seconds;
    wall.now += seconds;
    limiter.update(left(0, 3600 - seconds));
    return throughJson(limiter.snapshot());
  };

  it.each([
    ['confirmed', 10, 0, 3591.5],
    ['confirmed before a pause', 10, 100, 3491.5],
    ['not confirmed', 9, 0, 600],
  ])('so a probe is sent at the reset or after maxWaitSeconds: %s', (_, seconds, pause, delay) => {
    const all = processes(THREE_HOURS, { algorithm: 'sliding', random: () => 0.5 });
    const snapshot = spent(seconds, all);
    all.wall.now += pause;
    const { limiter } = all.start();
    limiter.restore(snapshot);
    // A second and half of three are the margin and the jitter.
    expect(limiter.delaySeconds()).toBeCloseTo(delay === 600 ? 600 : delay + 1, 6);
  });

  it('and further responses of the next process go on agreeing', () => {
    const all = processes(THREE_HOURS, { algorithm: 'sliding' });
    const snapshot = spent(9, all);
    all.wall.now += 100;
    const { limiter, clock } = all.start();
    limiter.restore(snapshot);
    clock.now += 1;
    limiter.update(left(0, 3490));
    expect(limiter.delaySeconds()).toBeCloseTo(3491, 6);
  });

  it('unless it is of a version without that', () => {
    const all = processes(THREE_HOURS, { algorithm: 'sliding' });
    const snapshot = spent(10, all);
    const limits = snapshot.limits.map(({ agreed: _, ...limit }) => limit);
    const { limiter } = all.start();
    limiter.restore({ ...snapshot, limits });
    expect(limiter.delaySeconds()).toBe(600);
  });

  it('but not on one that is too far away, whatever the snapshot says', () => {
    const all = processes(THREE_HOURS, { algorithm: 'sliding' });
    const [limit] = spent(10, all).limits;
    const far = { ...limit, resetSeconds: 1e300, agreed: { resetSeconds: 1e300, seconds: 1e300 } };
    const { limiter } = all.start();
    limiter.restore({ ...spent(10, all), limits: [far] });
    expect(limiter.delaySeconds()).toBe(600);
  });
});

it('a snapshot can be restored after infinite values from a server', () => {
  const { limiter } = limited(THREE_HOURS);
  const info = said({ retryAfterSeconds: Infinity });
  limiter.update(info, 429, { violated: ['x'] });
  limiter.update(info, 429);
  const fresh = limited(THREE_HOURS);
  fresh.limiter.restore(throughJson(limiter.snapshot()));
  expect(fresh.limiter.delaySeconds()).toBe(600);
});

it('PolicyLimiter.restore replaces the state and keeps the waiting calls', async () => {
  const { limiter } = limited(THREE_HOURS, { algorithm: 'sliding' });
  const empty = limiter.snapshot();
  burst(limiter);
  limiter.update(said({ retryAfterSeconds: 100 }), 429);
  const waiting = limiter.acquire();
  limiter.restore(empty);
  await expect(waiting).resolves.toMatchObject({ cost: 1 });
  expect(burst(limiter)).toBe(239);
});

it('a snapshot keeps the block of one policy beside what remains of it', () => {
  const { limiter, clock } = limited(THREE_HOURS, { algorithm: 'sliding' });
  limiter.update(left(7, 500));
  limiter.update(said({ retryAfterSeconds: 100 }), 429, { violated: ['a'] });
  const saved = throughJson(limiter.snapshot());
  const { limiter: next } = limited(THREE_HOURS, { algorithm: 'sliding', clock });
  next.restore(saved);
  expect(next.delaySeconds()).toBe(100);
  clock.now += 101;
  expect(burst(next)).toBe(7);
});

describe('PolicyLimiter.restore', () => {
  const { limiter } = limited(THREE_HOURS);
  limiter.tryAcquire(24);
  const good = throughJson(limiter.snapshot());
  const [first, second] = good.policies as [object, object];
  const limit = {
    ...{ name: null, quota: 7, partitionKey: null },
    ...{ remaining: 1, resetSeconds: 1, blockedSeconds: 0 },
  };
  const window = {
    ...{ name: 'x', partitionKey: null, quota: 5, windowSeconds: 60 },
    ...{ unit: 'requests', staysSeconds: 60, state: [] },
  };

  it.each<[unknown, string]>([
    [null, 'a snapshot must be an object, got null'],
    [[], 'must be an object, got an array'],
    [{}, 'version of the snapshot must be 1, got undefined'],
    [{ ...good, version: 2 }, 'version of the snapshot must be 1, got 2'],
    [{ ...good, limiter: 'RateLimiter' }, 'limiter of the snapshot must be "PolicyLimiter"'],
    [
      { ...good, algorithm: 'sliding' },
      'algorithm of the snapshot must be "bucket", got "sliding"',
    ],
    [{ ...good, burstShare: 0.2 }, 'burstShare of the snapshot must be 0.1, got 0.2'],
    [{ ...good, takenAt: null }, 'takenAt of the snapshot must be a finite number of at least 0'],
    [{ ...good, blockedSeconds: -1 }, 'blockedSeconds of the snapshot must be'],
    [{ ...good, policies: {} }, 'policies of the snapshot must be an array'],
    [{ ...good, policies: [first] }, 'it has 1 policies, but the limiter has 2'],
    [
      { ...good, policies: [second, first] },
      'its policies[0] must be the policy 240 units in 60 s',
    ],
    [
      { ...good, policies: [first, { ...second, name: null }] },
      'its policies[1] must be the policy "long", 21600 units in 10800 s',
    ],
    [{ ...good, policies: [first, { ...second, state: 'full' }] }, 'invalid policy state'],
    [{ ...good, policies: [first, { ...second, state: [1, 2] }] }, 'invalid policy state'],
    [{ ...good, policies: [first, { ...second, state: [null] }] }, 'invalid policy state'],
    [{ ...good, limits: [7] }, 'a limit of the snapshot must be an object'],
    [{ ...good, limits: [{ name: 7 }] }, 'name of the snapshot must be a string or null'],
    [
      { ...good, limits: [{ name: null, partitionKey: null }] },
      'remaining of the snapshot must be',
    ],
    [{ ...good, limits: [{ ...limit, quota: '7' }] }, 'quota of the snapshot must be'],
    [{ ...good, limits: [{ ...limit, agreed: 7 }] }, 'agreed of the snapshot must be an object'],
    [
      { ...good, limits: [{ ...limit, agreed: { resetSeconds: 1, seconds: -1 } }] },
      'seconds of the snapshot must be a finite number of at least 0',
    ],
    [
      { ...good, limits: [{ ...limit, agreed: { resetSeconds: null, seconds: 1 } }] },
      'resetSeconds of the snapshot must be a finite number of at least 0',
    ],
    [{ ...good, told: undefined }, 'told of the snapshot must be an array'],
    [{ ...good, told: [{ ...window, unit: 7 }] }, 'unit of the snapshot must be a string'],
    [{ ...good, told: [{ ...window, staysSeconds: -1 }] }, 'staysSeconds of the snapshot must'],
    [{ ...good, told: [{ ...window, quota: 0 }] }, 'a server policy has a quota or a window of 0'],
    [{ ...good, told: [window, { ...window, state: ['x'] }] }, 'invalid policy state'],
  ])('rejects %j', (snapshot, message) => {
    const restore = () => limiter.restore(snapshot as object);
    expect(codeOf(restore)).toBe('ERR_LIMITER_SNAPSHOT');
    expect(restore).toThrow(message);
    expect({ ...limiter.snapshot(), takenAt: 0 }).toEqual({ ...good, takenAt: 0 });
  });

  it.each<['sliding' | 'fixed', number[]]>([
    ['sliding', [-1]],
    ['sliding', [1, 1]],
    ['sliding', [-1, 0]],
    ['sliding', [-1, 1, -2, 1]],
    ['fixed', []],
    ['fixed', [1]],
  ])('rejects a state of %s that is %j', (algorithm, state) => {
    const { limiter } = limited([{ quota: 5, windowSeconds: 5 }], { algorithm });
    const snapshot = limiter.snapshot();
    const policies = [{ ...snapshot.policies[0], state }];
    expect(codeOf(() => limiter.restore({ ...snapshot, policies }))).toBe('ERR_LIMITER_SNAPSHOT');
    expect(burst(limiter)).toBeGreaterThan(0);
  });

  it('limits the missing units to the quota', () => {
    const { limiter } = limited([{ quota: 100, windowSeconds: 90 }], { wallClock: () => 0 });
    const snapshot = limiter.snapshot();
    limiter.restore({ ...snapshot, policies: [{ ...snapshot.policies[0], state: [1e300] }] });
    expect(limiter.delaySeconds(100)).toBeCloseTo(190, 6);
  });
});
