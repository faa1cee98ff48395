// How keys are stored: as copies of their own units, and a long key as a short alias.

import { DirectConnectionRateLimiter, OrderbookRateLimiter, RateLimiter } from 'relay-limiter';
import { describe, expect, test } from 'vitest';
import { detachString } from '../dist/common/strings.js';
import { Keys, keep } from '../dist/tables/keys.js';
import { sipHash128 } from '../dist/tables/siphash.js';
import { ENGINES, manualClock, ODD_KEYS } from './support/limiters.js';

/** Code units that `act` reads of a text, one by one. */
function unitsReadOf(text: string, act: () => unknown): number {
  const { charCodeAt } = String.prototype;
  let units = 0;
  String.prototype.charCodeAt = function (at) {
    if (this.length === text.length) units += 1;
    return charCodeAt.call(this, at);
  };
  try {
    act();
  } finally {
    String.prototype.charCodeAt = charCodeAt;
  }
  return units;
}

/** The text of message n, flat, with its number at the start. */
const message = (n: number, length: number) =>
  Buffer.from(`peer-of-message-${String(n).padStart(9, '0')}`.padEnd(length, 'x')).toString();

test('detachString returns an equal string', () => {
  for (const key of ODD_KEYS) expect(detachString(key)).toBe(key);
  for (const length of [127, 128, 129, 255, 256, 257]) {
    expect(detachString(message(1, length).slice(0, length))).toBe(message(1, length));
  }
});

test.each(ENGINES)(
  'the %s engine lists offenders with keys of 64 KiB until they are removed',
  (engine) => {
    const clock = manualClock();
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 1, engine, clock });
    const key = (n: number) => message(n, 65_536);
    for (let n = 0; n < 20; n += 1) for (let i = 0; i < 2; i += 1) limiter.check(key(n));
    expect(limiter.getStats().topViolators[9]).toEqual([key(9), 1]);
    for (let n = 0; n < 10; n += 1) limiter.removePeer(key(n));
    expect(limiter.getStats().topViolators[0]).toEqual([key(10), 1]);
    limiter.cleanupOldPeers(-1);
    expect(limiter.getStats()).toMatchObject({ trackedPeers: 0, totalViolations: 0 });
  },
);

describe('Keys of the TypeScript engine', () => {
  test('finds a key of up to 128 units unchanged, and a longer key as an alias of 129 units', () => {
    const keys = new Keys();
    for (const key of ODD_KEYS) {
      const found = keys.find(key);
      expect(keys.find(detachString(key))).toBe(found);
      expect(keep(found)).toBe(found);
      if (key.length <= 128) expect(found).toBe(key);
      else expect(found.length).toBe(129);
    }
    expect(new Set(ODD_KEYS.map((key) => keys.find(key))).size).toBe(ODD_KEYS.length);
  });

  test('gives an alias to one key only: the alias as a key has another alias, and so has the key in another table', () => {
    const keys = new Keys();
    const alias = keys.find('k'.repeat(1000));
    expect(keys.find(alias)).not.toBe(alias);
    expect(new Keys().find('k'.repeat(1000))).not.toBe(alias);
  });

  // V8 hashes such keys by their length only, so a Map would compare each key with all earlier ones. The Map gets the
  // short aliases instead.
  test('gives 300 keys of 64 KiB and of one length 300 short aliases', () => {
    const keys = new Keys();
    const aliases = new Set<string>();
    for (let n = 0; n < 300; n += 1) aliases.add(keys.find(message(n, 65_536)));
    expect(aliases.size).toBe(300);
    for (const alias of aliases) expect(alias.length).toBe(129);
  });

  test('does not hash a long key of an opened peer again until its record moves', () => {
    const key = message(1, 65_536);
    const options = { engine: 'js', clock: manualClock() } as const;
    const limiter = new RateLimiter({ rateLimit: 1, burstLimit: 2, ...options });
    const book = new OrderbookRateLimiter({ violationBanThreshold: 2, ...options });
    const direct = new DirectConnectionRateLimiter({ orderbookBanThreshold: 3, ...options });
    const [one, nick, connection] = [limiter.open(key), book.open(key), direct.open(key)];
    const checkAll = () => {
      one.check();
      nick.check();
      connection.checkMessage();
      connection.checkOrderbook();
    };
    for (let i = 0; i < 2; i += 1) checkAll();
    const hashed = unitsReadOf(key, () => {
      // Into the bans.
      for (let i = 0; i < 5; i += 1) checkAll();
    });
    // Copied once, as it becomes the last limiter's offender.
    expect(hashed).toBe(key.length);
    expect([limiter, book, direct].map((one) => one.getViolationCount(key))).toEqual([5, 5, 6]);
    expect([book.isBanned(key), direct.isBanned(key)]).toEqual([true, true]);
    expect(unitsReadOf(key, checkAll)).toBe(0);
    // By key it is each time.
    expect(unitsReadOf(key, () => limiter.check(key))).toBeGreaterThanOrEqual(key.length);
    // Where another lies now it is found all the same.
    limiter.removePeer(key);
    limiter.check('another');
    expect(one.check(2)).toEqual(['allow', 0]);
    expect(limiter.getTokens('another')).toBe(1);
    expect(limiter.getTokens(key)).toBe(0);
  });

  // Those of the authors: key 00 01 .. 0f, messages 00 01 .. of so many bytes.
  test.each([
    [0, 'a3817f04ba25a8e66df67214c7550293'],
    [2, '8177228da4a45dc7fca38bdef60affe4'],
    [4, 'f88164c12d9c8faf7d0f6e7c7bcd5579'],
    [6, '14eeca338b208613485ea0308fd7a15e'],
    [8, '3b62a9ba6258f5610f83e264f31497b4'],
    [16, '6ee2a4ca67b054bbfd3315bf85230577'],
  ])('SipHash-2-4-128 of %i bytes is as published', (length, hash) => {
    const bytes = Buffer.from(Array.from({ length }, (_, n) => n));
    const secret = new Uint32Array([0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c]);
    const words = Buffer.alloc(16);
    for (const [i, word] of sipHash128(bytes.toString('utf16le'), secret, 2, 4).entries()) {
      words.writeUInt32LE(word, 4 * i);
    }
    expect(words.toString('hex')).toBe(hash);
  });

  test('hashes each unit and the length of a long text', () => {
    const secret = new Uint32Array(4);
    const text = message(1, 200);
    const hashes = new Set(
      [text, `${text}\0`, `${text}\0\0`].map((t) => `${sipHash128(t, secret)}`),
    );
    for (let i = 0; i < 200; i += 1) {
      hashes.add(`${sipHash128(`${text.slice(0, i)}\u4e00${text.slice(i + 1)}`, secret)}`);
    }
    expect(hashes.size).toBe(203);
  });
});
