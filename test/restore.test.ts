// restore(): which snapshots it accepts, and what it keeps of two snapshots.

import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { ENGINES, manualClock } from './support/limiters.js';
import { countOf, written } from './support/snapshots.js';

const HOUR = 3600;

describe.each(ENGINES)('restore on the %s engine', (engine) => {
  const clock = manualClock();

  test('accepts any digests, however similar they are', () => {
    const words = (n: number) => n.toString(16).padStart(16, '0');
    const alike = [
      (n: number) => words(7) + words(n + 1),
      (n: number) => words(n + 1) + words(7),
      (n: number) => words(0) + words(n + 1),
    ];
    for (const digestOf of alike) {
      const limiter = new RateLimiter({ rateLimit: 0.01, burstLimit: 100, engine, clock });
      const peers = Array.from({ length: 5000 }, (_, n) => [digestOf(n), null, 1, 1]);
      const offender = { key: 'offender', violations: 3, banSecondsLeft: null, idleSeconds: 1 };
      const restored = limiter.restore({
        ...{ format: 2, limiter: 'RateLimiter' },
        peers: [{ ...offender, bucket: null }],
        digests: [{ secret: words(1) + words(2), peers }],
      });
      expect(restored).toBe(5001);
      expect(countOf(limiter.snapshot())).toBe(5001);
      expect(limiter.getViolationCount('offender')).toBe(3);
    }
  });

  test('of an older snapshot by key keeps the later time of a digest', () => {
    const limiters = [
      () => new OrderbookRateLimiter({ interval: HOUR, engine, clock }),
      () => new DirectConnectionRateLimiter({ orderbookInterval: HOUR, engine, clock }),
    ] as const;
    for (const make of limiters) {
      const ask = (limiter: ReturnType<typeof make>) =>
        limiter instanceof OrderbookRateLimiter
          ? limiter.check('peer')
          : limiter.checkOrderbook('peer');
      const older = make();
      ask(older);
      ask(older);
      clock.now += HOUR;
      const newer = make();
      ask(newer);
      clock.now += 60;
      const restored = make();
      restored.restore(written(newer.snapshot()));
      restored.restore(written(older.snapshot()));
      expect(ask(restored)).toBe(false);
    }
  });

  test('of invalid slices throws an error with a code', () => {
    const limiter = new RateLimiter({ engine });
    for (const slices of [5, null, {}]) {
      expect(() => limiter.restoreSlices(slices as never).next()).toThrow(
        expect.objectContaining({ code: 'ERR_LIMITER_SNAPSHOT' }),
      );
    }
    const huge = { format: 2, limiter: 'RateLimiter', peers: new Array(2 ** 32 - 1), digests: [] };
    expect(() => limiter.restore(huge)).toThrow('peers.length must be at most 67108864');
    const zero = { secret: '0'.repeat(32), peers: [['0'.repeat(32), null, 1, 1]] };
    expect(() => limiter.restore({ ...huge, peers: [], digests: [zero] })).toThrow('not all 0');
  });
});

describe.each(ENGINES)('restore on the %s engine of an invalid snapshot', (engine) => {
  const limiter = new RateLimiter({ engine });
  const digest = '0123456789abcdef'.repeat(2);
  const of = (...digests: unknown[]) => ({ format: 2, limiter: 'RateLimiter', peers: [], digests });
  const group = (...peers: unknown[]) => of({ secret: digest, peers });

  test.each<[string, unknown, string]>([
    ['no digests', { ...of(), digests: undefined }, 'digests must be an array, got undefined'],
    ['a group that is none', of(7), 'digests[0] must be an object, got 7'],
    ['a secret too short', of({ secret: 'abc', peers: [] }), 'digests[0].secret must be 32'],
    ['no peers', of({ secret: digest }), 'digests[0].peers must be an array, got undefined'],
    ['a row too short', group([digest, 1]), 'digests[0].peers[0] must be an array of'],
    ['capitals', group([digest.toUpperCase(), 1, null, null]), 'digests[0].peers[0][0] must be 32'],
    [
      'a time before',
      group([digest, -1, null, null]),
      'digests[0].peers[0][1] must be null or a finite',
    ],
    ['tokens without time', group([digest, null, 1, null]), 'digests[0].peers[0][3] must be null'],
    [
      'no tokens',
      group([digest, null, Infinity, 1]),
      'digests[0].peers[0][2] must be null or a finite',
    ],
    ['nothing', group([digest, null, null, null]), 'digests[0].peers[0] must be a digest with'],
  ])('with %s', (_, snapshot, message) => {
    for (const act of [
      () => limiter.restore(snapshot),
      () => [...limiter.restoreSlices([of(), snapshot])],
    ]) {
      expect(act).toThrow(
        expect.objectContaining({
          code: 'ERR_LIMITER_SNAPSHOT',
          message: expect.stringContaining(message),
        }),
      );
    }
    expect(countOf(limiter.snapshot())).toBe(0);
  });

  test('still reads snapshots of format 1', () => {
    const peer = { key: 'offender', violations: 3, banSecondsLeft: null, idleSeconds: 5 };
    const old = { format: 1, limiter: 'RateLimiter', peers: [peer] };
    expect(new RateLimiter({ engine }).restore(old)).toBe(1);
    expect(() => limiter.restore({ ...old, digests: [] })).toThrow('nothing else, got "digests"');
    const withBucket = { ...old, peers: [{ ...peer, bucket: null }] };
    expect(() => limiter.restore(withBucket)).toThrow('nothing else, got "bucket"');
  });

  test('keeps peers of sixteen secrets, and none of another secret', () => {
    const own = new RateLimiter({ rateLimit: 1e-3, burstLimit: 10, engine });
    own.check('known');
    const others = Array.from({ length: 17 }, (_, n) => {
      const other = new RateLimiter({ rateLimit: 1e-3, burstLimit: 10, engine });
      other.check(`peer ${n}`, 5);
      return other.snapshot();
    });
    const restored = others.map((snapshot) => own.restore(snapshot));
    expect(restored).toEqual([...Array(16).fill(1), 0]);
    expect(own.getTokens('peer 15')).toBe(5);
    expect(own.getTokens('peer 16')).toBe(10);
    // One that has come back makes place for another secret.
    own.check('peer 0', 0);
    expect(own.restore(others[16])).toBe(1);
    expect(own.getTokens('peer 16')).toBe(5);
  });
});
