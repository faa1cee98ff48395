// Policies of several units: costs that are taken as a whole, corrections after the answer, and what remains.

import fc from 'fast-check';
import { type Costs, PolicyLimiter } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { runs } from '../support/runs.js';
import { limited, mostIn, type Sent } from './support.js';

const REQUESTS_AND_TOKENS = [
  { quota: 10, windowSeconds: 60 },
  { quota: 1000, windowSeconds: 60, unit: 'tokens' },
];
const ofBoth = (options = {}) => limited(REQUESTS_AND_TOKENS, { algorithm: 'sliding', ...options });

describe('a cost of several units', () => {
  it('is taken as a whole or not at all', () => {
    const { limiter, clock } = ofBoth();
    expect(limiter.tryAcquire({ requests: 1, tokens: 900 })).toBe(true);
    expect(limiter.tryAcquire({ requests: 1, tokens: 200 })).toBe(false);
    expect(limiter.remaining()).toBe(9);
    expect(limiter.remaining('tokens')).toBe(100);
    expect(limiter.delaySeconds({ tokens: 200 })).toBe(60);
    clock.now += 60;
    expect(limiter.tryAcquire({ requests: 1, tokens: 200 })).toBe(true);
  });

  it('counts one request if it does not say how many', () => {
    const { limiter } = ofBoth();
    limiter.tryAcquire({ tokens: 10 });
    expect(limiter.remaining()).toBe(9);
    limiter.tryAcquire({ requests: 0, tokens: 10 });
    expect(limiter.remaining()).toBe(9);
    expect(limiter.remaining('tokens')).toBe(980);
  });

  it('that is a number leaves all other units alone, and does not wait for them', () => {
    const { limiter } = ofBoth();
    limiter.tryAcquire({ tokens: 1000 });
    expect(limiter.tryAcquire(9)).toBe(true);
    expect(limiter.remaining('tokens')).toBe(0);
  });

  it('may have units that no policy counts', () => {
    const { limiter } = ofBoth();
    expect(limiter.tryAcquire({ images: 5 })).toBe(true);
    expect(limiter.remaining('images')).toBe(Infinity);
  });

  it('that exceeds a quota is an error of acquire, which names the unit', async () => {
    const { limiter } = ofBoth();
    expect(limiter.delaySeconds({ tokens: 1001 })).toBe(Infinity);
    await expect(limiter.acquire({ cost: { tokens: 1001 } })).rejects.toMatchObject({
      code: 'ERR_LIMITER_COST',
      message: 'a cost must be at most the smallest quota of tokens, 1000, got 1001',
    });
  });

  it.each<[given: unknown, message: string]>([
    [{ tokens: -1 }, 'the cost in "tokens" must be a finite number of at least 0, got -1'],
    [{ tokens: '5' }, 'the cost in "tokens" must be a finite number of at least 0, got "5"'],
    [null, 'a cost must be a finite number of at least 0, or an object'],
    [[1], 'a cost must be a finite number of at least 0, or an object'],
  ])('must not be %j', (cost, message) => {
    const { limiter } = ofBoth();
    expect(codeOf(() => limiter.tryAcquire(cost as number))).toBe('ERR_LIMITER_COST');
    expect(() => limiter.tryLease(cost as number)).toThrow(message);
    expect(limiter.remaining()).toBe(10);
  });

  it('may name a unit like a member of objects', () => {
    const policies = [{ quota: 3, windowSeconds: 1, unit: '__proto__' }];
    const { limiter } = limited(policies, { algorithm: 'sliding' });
    expect(limiter.tryAcquire(JSON.parse('{ "__proto__": 2 }'))).toBe(true);
    expect(limiter.tryAcquire(JSON.parse('{ "__proto__": 2 }'))).toBe(false);
  });

  it('meets a deadline by the costs of all units before it', async () => {
    const { limiter } = ofBoth();
    limiter.tryAcquire({ tokens: 1000 });
    const closed = (error: unknown) => error;
    for (let n = 0; n < 3; n += 1) limiter.acquire({ cost: { tokens: 400 } }).catch(closed);
    const late = limiter.acquire({ cost: { tokens: 1 }, deadlineSeconds: 100 });
    await expect(late).rejects.toMatchObject({ code: 'ERR_LIMITER_DEADLINE' });
    limiter.acquire({ cost: { tokens: 1 }, deadlineSeconds: 130 }).catch(closed);
    expect(limiter.state().waiting).toBe(4);
    limiter.close();
  });
});

describe('Lease.settle', () => {
  const taken = (tokens: number, options = {}) => {
    const { limiter, clock } = ofBoth(options);
    const lease = limiter.tryLease({ tokens });
    if (lease === null) throw new Error('no quota is available');
    return { limiter, clock, lease };
  };

  it('gives back what was taken too much', () => {
    const { limiter, lease } = taken(900);
    expect(lease.costs).toEqual({ requests: 1, tokens: 900 });
    lease.settle({ tokens: 300 });
    expect(limiter.remaining('tokens')).toBe(700);
    expect(limiter.remaining()).toBe(9);
    expect(limiter.state().running).toBe(0);
  });

  it('takes what was taken too little, even if it exceeds the quota', () => {
    const { limiter, clock, lease } = taken(900);
    lease.settle({ tokens: 1500 });
    expect(limiter.remaining('tokens')).toBe(0);
    clock.now += 59;
    expect(limiter.remaining('tokens')).toBe(0);
    clock.now += 1;
    expect(limiter.remaining('tokens')).toBe(1000);
  });

  it('corrects requests if it is a number', () => {
    const { limiter } = ofBoth();
    limiter.tryLease(6)?.settle(2);
    expect(limiter.remaining()).toBe(8);
  });

  it('counts whole units where a bucket does', () => {
    const policies = [{ quota: 4, windowSeconds: 8 }];
    const { limiter } = limited(policies, { algorithm: 'bucket', burstShare: 0 });
    limiter.tryLease(1)?.settle(0.5);
    expect(limiter.delaySeconds()).toBeCloseTo(2, 6);
  });

  it('ends the lease: neither settle nor refund counts again', () => {
    const { limiter, lease } = taken(900);
    lease.settle({ tokens: 300 });
    lease.settle({ tokens: 0 });
    lease.refund();
    expect(limiter.remaining('tokens')).toBe(700);
    const other = limiter.tryLease({ tokens: 100 });
    other?.release();
    other?.settle({ tokens: 0 });
    expect(limiter.remaining('tokens')).toBe(600);
  });

  it('rejects an invalid cost, and the lease stays open', () => {
    const { limiter, lease } = taken(900);
    expect(codeOf(() => lease.settle({ tokens: Number.NaN }))).toBe('ERR_LIMITER_COST');
    expect(limiter.state().running).toBe(1);
  });

  it('never leads to more than a quota in a window if no actual cost exceeds its estimate', () => {
    const step = fc.record({
      pause: fc.constantFrom(0, 1, 7, 20),
      tokens: fc.integer({ min: 0, max: 40 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      algorithm: fc.constant(0),
    });
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 40, maxLength: 80, size: 'max' }),
        fc.constantFrom<'bucket' | 'sliding'>('bucket', 'sliding'),
        (steps, algorithm) => {
          const policies = [{ quota: 100, windowSeconds: 30, unit: 'tokens' }];
          const { limiter, clock } = limited(policies, { algorithm });
          const sent: Sent[] = [];
          let settleLast = () => {};
          for (const { pause, tokens, share } of steps) {
            const lease = limiter.tryLease({ tokens });
            const entry = { at: clock.now, cost: tokens };
            settleLast();
            if (lease !== null) {
              sent.push(entry);
              settleLast = () => {
                entry.cost = Math.floor(tokens * share);
                lease.settle({ tokens: entry.cost });
              };
            }
            clock.now += pause;
          }
          settleLast();
          expect(mostIn(30, sent)).toBeLessThanOrEqual(100);
        },
      ),
      runs(),
    );
  });
});

describe('a policy with a unit', () => {
  it('may have the window of a policy of another unit, but not of the same', () => {
    const tokens = { quota: 5, windowSeconds: 60, unit: 'tokens' };
    expect(() => new PolicyLimiter({ policies: [...REQUESTS_AND_TOKENS, tokens] })).toThrow(
      'policies[2] must differ from the others: it has the window of policies[1], 60 seconds',
    );
    expect(codeOf(() => new PolicyLimiter({ policies: [{ ...tokens, unit: '' }] }))).toBe(
      'ERR_LIMITER_OPTION',
    );
  });

  it.each(['bucket', 'sliding', 'fixed'] as const)('is counted by %s', (algorithm) => {
    const { limiter, clock } = ofBoth({ algorithm, burstShare: 0.5 });
    let tokens = 0;
    while (tokens < 5000 && limiter.tryAcquire({ tokens: 50 })) tokens += 50;
    expect(tokens).toBeGreaterThan(0);
    expect(tokens).toBeLessThanOrEqual(500);
    expect(limiter.delaySeconds({ tokens: 50 } satisfies Costs)).toBeGreaterThan(0);
    clock.now += 61;
    expect(limiter.tryAcquire({ tokens: 50 })).toBe(true);
  });

  it('is kept in a snapshot', () => {
    const { limiter } = ofBoth();
    limiter.tryAcquire({ tokens: 700 });
    const saved = JSON.parse(JSON.stringify(limiter.snapshot()));
    const next = ofBoth().limiter;
    next.restore(saved);
    expect(next.remaining('tokens')).toBe(300);
    const { limiter: other } = limited(
      [
        { quota: 10, windowSeconds: 60 },
        { quota: 1000, windowSeconds: 60, unit: 'bytes' },
      ],
      { algorithm: 'sliding' },
    );
    expect(codeOf(() => other.restore(saved))).toBe('ERR_LIMITER_SNAPSHOT');
  });
});

describe('a cost that is a number', () => {
  const tokens = [{ quota: 12_000, windowSeconds: 60, name: 'tokens' }];

  it('counts the unit of all policies, and one request', () => {
    const { limiter } = limited(tokens, { algorithm: 'sliding' });
    const taken = limiter.tryLease(1500);
    expect(taken?.cost).toBe(1500);
    expect(taken?.costs).toEqual({ requests: 1, tokens: 1500 });
    expect(limiter.remaining('tokens')).toBe(10_500);
    expect(limiter.delaySeconds(12_001)).toBe(Infinity);
    taken?.settle(900);
    expect(limiter.remaining('tokens')).toBe(11_100);
  });

  it('is charged to the limit of that unit that a server reports, and one to that of requests', () => {
    const { limiter } = limited(tokens, { algorithm: 'sliding', random: () => 0 });
    const limit = { limit: null, partitionKey: null, cost: null, resetSeconds: 60 };
    const report = (requests: number, left: number) => ({
      policies: [],
      limits: [
        { ...limit, name: 'requests', unit: 'requests', remaining: requests },
        { ...limit, name: 'tokens', unit: 'tokens', remaining: left },
      ],
      retryAfterSeconds: null,
      ignored: [],
    });
    limiter.update(report(3, 4000), 200);
    expect(limiter.tryAcquire(1500)).toBe(true);
    expect(limiter.tryAcquire(1500)).toBe(true);
    expect(limiter.tryAcquire(1500)).toBe(false);
    expect(limiter.tryAcquire(1000)).toBe(true);
    expect(limiter.tryAcquire(0)).toBe(false);
  });

  it('counts requests if the policies count different units', () => {
    const { limiter } = ofBoth();
    expect(limiter.tryLease(3)?.costs).toEqual({ requests: 3 });
  });
});
