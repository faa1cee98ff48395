// A snapshot that several limiters of one shared table restore, as processes do that start with it at the same time. The
// first one gives the table the secret of the snapshot, so the others have an old one.

import {
  DirectConnectionRateLimiter,
  OrderbookRateLimiter,
  RateLimiter,
  RuleLimiter,
  removeShared,
} from 'relay-limiter';
import { describe, expect, onTestFinished, test } from 'vitest';
import { TESTS_NATIVE } from '../support/limiters.js';
import { newName } from './support/members.js';

type Limiter = RateLimiter | OrderbookRateLimiter | DirectConnectionRateLimiter | RuleLimiter;

interface Subject {
  name: string;
  create(shared: string | undefined): Limiter;
  /** Uses some of what the key may, so that a snapshot has it. */
  use(limiter: Limiter, key: string): void;
  /** Makes it an offender. */
  offend(limiter: Limiter, key: string): void;
  violations(limiter: Limiter, key: string): number;
}

const SLOW = { rateLimit: 1e-9, burstLimit: 5 };

const SUBJECTS: Subject[] = [
  {
    name: 'RateLimiter',
    create: (shared) => new RateLimiter({ ...SLOW, maxPeers: 1000, shared }),
    use: (limiter, key) => void (limiter as RateLimiter).check(key, 2),
    offend: (limiter, key) => void (limiter as RateLimiter).check(key, 9),
    violations: (limiter, key) => (limiter as RateLimiter).getViolationCount(key),
  },
  {
    name: 'OrderbookRateLimiter',
    create: (shared) => new OrderbookRateLimiter({ interval: 1e6, maxPeers: 1000, shared }),
    use: (limiter, key) => void (limiter as OrderbookRateLimiter).check(key),
    offend: (limiter, key) => {
      for (let n = 0; n < 2; n += 1) (limiter as OrderbookRateLimiter).check(key);
    },
    violations: (limiter, key) => (limiter as OrderbookRateLimiter).getViolationCount(key),
  },
  {
    name: 'DirectConnectionRateLimiter',
    create: (shared) =>
      new DirectConnectionRateLimiter({
        ...{ messageRatePerSec: 1e-9, messageBurst: 5, orderbookInterval: 1e6 },
        ...{ maxPeers: 1000, shared },
      }),
    use: (limiter, key) => void (limiter as DirectConnectionRateLimiter).checkMessage(key, 2),
    offend: (limiter, key) => {
      for (let n = 0; n < 2; n += 1) (limiter as DirectConnectionRateLimiter).checkOrderbook(key);
    },
    violations: (limiter, key) => (limiter as DirectConnectionRateLimiter).getViolationCount(key),
  },
  {
    name: 'RuleLimiter',
    create: (shared) =>
      new RuleLimiter({
        ...{ scopes: { address: {} }, rules: { messages: { scope: 'address', ...SLOW } } },
        ...{ maxPeers: 1000, shared },
      }),
    use: (limiter, key) => void (limiter as RuleLimiter).check({ address: key }, 2),
    offend: (limiter, key) => void (limiter as RuleLimiter).check({ address: key }, 9),
    violations: (limiter, key) => (limiter as RuleLimiter).scope('address').getViolationCount(key),
  },
];

const OFFENDERS = Array.from({ length: 20 }, (_, n) => `offender ${n}`);
const OTHERS = Array.from({ length: 20 }, (_, n) => `other ${n}`);

/** Creates limiters with one table, until the test ends. */
function table({ create }: Subject): () => Limiter {
  const shared = newName();
  onTestFinished(() => {
    removeShared(shared);
  });
  return () => {
    const limiter = create(shared);
    onTestFinished(() => {
      limiter.close();
      limiter.close();
    });
    return limiter;
  };
}

/** A snapshot with offenders and others, as JSON. */
function savedBy({ create, use, offend }: Subject) {
  const limiter = create(undefined);
  for (const key of OFFENDERS) offend(limiter, key);
  for (const key of OTHERS) use(limiter, key);
  return JSON.parse(JSON.stringify(limiter.snapshot()));
}

describe.runIf(TESTS_NATIVE).each(SUBJECTS)('Limiters with one shared table: $name', (subject) => {
  test('restore the same snapshot one after the other', () => {
    const saved = savedBy(subject);
    const open = table(subject);
    const limiters = [open(), open(), open()];
    for (const limiter of limiters) {
      expect(limiter.restore(saved)).toBe(OFFENDERS.length + OTHERS.length);
      for (const key of OFFENDERS) expect(subject.violations(limiter, key)).toBe(1);
    }
    const fresh = table(subject)();
    for (const limiter of limiters) {
      const again = JSON.parse(JSON.stringify(limiter.snapshot()));
      expect(peersOf(again)).toEqual(peersOf(saved));
      fresh.clear();
      expect(fresh.restore(again)).toBe(OFFENDERS.length + OTHERS.length);
    }
  });

  test('save what another one has restored', () => {
    const open = table(subject);
    const [first, second] = [open(), open()];
    first.restore(savedBy(subject));
    const saved = JSON.parse(JSON.stringify(second.snapshot()));
    expect(peersOf(saved)).toEqual([OFFENDERS, OTHERS.length]);
    const other = table(subject)();
    expect(other.restore(saved)).toBe(OFFENDERS.length + OTHERS.length);
    for (const key of OFFENDERS) expect(subject.violations(other, key)).toBe(1);
  });

  test('give the table another secret after another one has done so', () => {
    const open = table(subject);
    const [first, second] = [open(), open()];
    const own = JSON.parse(JSON.stringify(usedOnce(subject, second).snapshot()));
    second.clear();
    first.restore(savedBy(subject));
    first.clear();
    // It has been the secret of the table before.
    expect(second.restore(own)).toBe(OTHERS.length);
    expect(peersOf(JSON.parse(JSON.stringify(first.snapshot())))).toEqual([[], OTHERS.length]);
  });
});

function usedOnce({ use }: Subject, limiter: Limiter): Limiter {
  for (const key of OTHERS) use(limiter, key);
  return limiter;
}

interface Saved {
  peers?: { key: string }[];
  digests?: { peers: unknown[] }[];
  scopes?: Saved[];
}

/** The keys of a snapshot, and the number of its digests. */
function peersOf({ scopes, ...saved }: Saved): [keys: string[], digests: number] {
  const { peers = [], digests = [] } = scopes?.[0] ?? saved;
  return [
    peers.map(({ key }) => key).sort(byNumber),
    digests.reduce((sum, group) => sum + group.peers.length, 0),
  ];
}

function byNumber(a: string, b: string): number {
  return Number(a.split(' ')[1]) - Number(b.split(' ')[1]);
}
