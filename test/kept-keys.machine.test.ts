// What is kept of a key: its own few units, never the message it was cut from, and of a long one no text unless
// it must be named. 30 MB of messages pass; a bound is a third of it or more away from either.

import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { detachString } from '../dist/common/strings.js';
import { collectGarbage } from './support/garbage.js';
import { ENGINES, manualClock } from './support/limiters.js';

const MEGABYTE = 1 << 20;
const MESSAGES = 300;
const MESSAGE_LENGTH = 100_000;

/** Until this call its argument is held. */
function release(_held: unknown): void {}

/** Megabytes of V8's heap that stay after `fill`, while what it returns is held. */
function megabytesKeptBy(fill: () => unknown): number {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  const held = fill();
  collectGarbage();
  const after = process.memoryUsage().heapUsed;
  release(held);
  return (after - before) / MEGABYTE;
}

/** The text of message n, flat, with its number at the start. */
const message = (n: number, length = MESSAGE_LENGTH) =>
  Buffer.from(`peer-of-message-${String(n).padStart(9, '0')}`.padEnd(length, 'x')).toString();

/** Gives each message's key, cut out of it, to `use`; 30 MB pass by. */
function forEachSlice(use: (key: string) => void, keyLength = 25): void {
  for (let n = 0; n < MESSAGES; n += 1) use(message(n).slice(0, keyLength));
}

/** What `of` makes of each slice. */
function piecesOf(of: (key: string) => string, keyLength: number): string[] {
  const pieces: string[] = [];
  forEachSlice((key) => pieces.push(of(key)), keyLength);
  return pieces;
}

test('a slice keeps its message, and a copy of it does not', () => {
  const slices = () => piecesOf((key) => key, 25);
  expect(megabytesKeptBy(slices)).toBeGreaterThan(20);
  for (const length of [25, 128, 300]) {
    const copies = () => piecesOf(detachString, length);
    expect(megabytesKeptBy(copies), `${length} units`).toBeLessThan(5);
  }
});

describe.each(ENGINES)('%s', (engine) => {
  const clock = manualClock();
  const options = { engine, clock };
  const KEEPERS: [string, keyLength: number, () => unknown][] = [25, 300].flatMap(
    (length): [string, number, () => unknown][] => [
      [
        'peers and violators',
        length,
        () => {
          const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, ...options });
          forEachSlice((key) => {
            for (let i = 0; i < 2; i += 1) limiter.check(key);
          }, length);
          expect(limiter.getStats().totalViolations).toBe(MESSAGES);
          return limiter;
        },
      ],
      [
        'opened peers',
        length,
        () => {
          const limiter = new RateLimiter(options);
          const peers: unknown[] = [];
          forEachSlice((key) => {
            const peer = limiter.open(key);
            peer.check();
            peers.push(peer);
          }, length);
          return peers;
        },
      ],
      [
        'members of a group',
        length,
        () => {
          const group = new RateLimiter(options).group();
          forEachSlice((key) => group.add(key), length);
          group.check();
          return group;
        },
      ],
      [
        'times and bans',
        length,
        () => {
          const limiter = new OrderbookRateLimiter({ violationBanThreshold: 1, ...options });
          forEachSlice((key) => {
            for (let i = 0; i < 3; i += 1) limiter.check(key);
          }, length);
          expect(limiter.getStatistics().bannedPeers.length).toBe(MESSAGES);
          return limiter;
        },
      ],
      [
        'connections and their bans',
        length,
        () => {
          const limiter = new DirectConnectionRateLimiter({ orderbookBanThreshold: 1, ...options });
          forEachSlice((key) => {
            limiter.checkMessage(key);
            for (let i = 0; i < 2; i += 1) limiter.checkOrderbook(key);
          }, length);
          expect(limiter.getStatistics().bannedConnections.length).toBe(MESSAGES);
          return limiter;
        },
      ],
    ],
  );

  test.each(KEEPERS)(
    '%s, keys of %i units cut out of a message: it is let go',
    (_, _length, fill) => {
      expect(megabytesKeptBy(fill)).toBeLessThan(5);
    },
  );

  test('of peers with keys of 64 KiB no text is kept, and of offenders until they are forgiven', () => {
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, ...options });
    const checkAll = () => {
      for (let n = 0; n < 400; n += 1) limiter.check(message(n, 65_536));
      return limiter;
    };
    const forgive = () => {
      limiter.cleanupOldPeers(-1);
      return limiter;
    };
    expect(megabytesKeptBy(checkAll)).toBeLessThan(5);
    // 25 MB of text, which the native engine holds outside of V8's heap.
    const named = engine === 'js' ? 10 : -5;
    expect(megabytesKeptBy(checkAll)).toBeGreaterThan(named);
    expect(megabytesKeptBy(forgive)).toBeLessThan(-named);
  });

  test('a flood of offenders with keys of 64 KiB takes no more than its room', () => {
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, maxPeers: 100, ...options });
    const flood = () => {
      for (let n = 0; n < 1000; n += 1) {
        for (let i = 0; i < 2; i += 1) limiter.check(message(n, 65_536));
      }
      return limiter;
    };
    // 62 MB of text.
    expect(megabytesKeptBy(flood)).toBeLessThan(12);
  });
});
