// parseRetryAfter: all valid formats, and text that only resembles them.

import { parseRetryAfter } from 'relay-limiter/headers';
import { describe, expect, it, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';

const NOW = Date.UTC(2026, 10, 22, 15, 20);

describe('parseRetryAfter', () => {
  it.each([
    ['0', 0],
    ['120', 120],
    [' 120\t', 120],
    ['0010', 10],
    ['2147483647', 2_147_483_647],
    ['2147483648', 2_147_483_647],
    ['9'.repeat(400), 2_147_483_647],
    ['1.0', 1],
    ['0.493', 1],
    ['1.5', 2],
  ])('reads the seconds %j', (value, seconds) => {
    expect(parseRetryAfter(value, NOW)).toBe(seconds);
  });

  it.each([
    '',
    ' ',
    '1.',
    '.5',
    '1.5e3',
    '1e3',
    '0x10',
    '+5',
    '-5',
    '-0',
    '1_000',
    '١٢',
    'Infinity',
    'NaN',
    '1, 1',
    '5 5',
    '5s',
  ])('returns null for %j', (value) => {
    expect(parseRetryAfter(value, NOW)).toBe(null);
  });
});

describe('parseRetryAfter', () => {
  it.each([
    ['Sun, 22 Nov 2026 15:21:00 GMT', 60],
    ['Sunday, 22-Nov-26 15:21:00 GMT', 60],
    ['Sun Nov 22 15:21:00 2026', 60],
    ['Tue Dec  1 15:20:00 2026', 9 * 86_400],
    ['Sun, 22 Nov 2026 15:19:59 GMT', 0],
    ['Thu, 29 Feb 2096 00:00:00 GMT', 2_147_483_647],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
    ['Thu, 31 Dec 2026 23:59:60 GMT', 39 * 86_400 + 31_200],
  ])('reads the date %s', (value, seconds) => {
    expect(parseRetryAfter(value, NOW)).toBe(seconds);
  });

  it('returns fractions of a second if now has them', () => {
    expect(parseRetryAfter('Sun, 22 Nov 2026 15:21:00 GMT', NOW + 250)).toBe(59.75);
  });

  it.each([
    'Mon, 30 Feb 2026 00:00:00 GMT',
    'Sat, 29 Feb 2025 00:00:00 GMT',
    'Sun, 00 Nov 2026 15:21:00 GMT',
    'Sun, 31 Nov 2026 15:21:00 GMT',
    'Sun, 22 Nov 2026 24:00:00 GMT',
    'Sun, 22 Nov 2026 15:60:00 GMT',
    'Sun, 22 Nov 2026 15:21:61 GMT',
    'Sun, 22 Nov 2026 15:21:00 UTC',
    'Sun, 22 Nov 2026 15:21:00 +0000',
    'Sun, 22 Nov 2026 15:21:00',
    'Sun, 22 Nov 26 15:21:00 GMT',
    'Sun, 1 Nov 2026 15:21:00 GMT',
    'Sun, 22 November 2026 15:21:00 GMT',
    'sun, 22 nov 2026 15:21:00 gmt',
    'Sun 22 Nov 2026 15:21:00 GMT',
    'Sunday, 22 Nov 2026 15:21:00 GMT',
    'Sun, 22-Nov-26 15:21:00 GMT',
    'Sun Nov 1 15:21:00 2026',
    'Sun Nov 22 15:21:00 2026 GMT',
    '2026-11-22T15:21:00Z',
    'Sun, 22 Nov 2026 15:21:00 GMT, Sun, 22 Nov 2026 15:21:00 GMT',
    'soon',
  ])('returns null for the date %s', (value) => {
    expect(parseRetryAfter(value, NOW)).toBe(null);
  });

  it.each([
    // A year of two digits is at most 50 years ahead.
    ['Friday, 22-Nov-75 15:20:00 GMT', NOW, true],
    ['Sunday, 22-Nov-76 15:20:00 GMT', NOW, true],
    ['Sunday, 22-Nov-76 15:20:01 GMT', NOW, false],
    ['Sunday, 06-Nov-94 08:49:37 GMT', NOW, false],
    ['Tuesday, 29-Feb-00 08:49:37 GMT', NOW, false],
    ['Sunday, 22-Nov-10 15:20:00 GMT', Date.UTC(2099, 0, 1), true],
    ['Sunday, 22-Nov-98 15:20:00 GMT', Date.UTC(2099, 0, 1), false],
  ])('finds the century of %s at %d ms (ahead: %s)', (value, now, ahead) => {
    const seconds = parseRetryAfter(value, now);
    expect(seconds).not.toBe(null);
    expect((seconds as number) > 0).toBe(ahead);
  });
});

it("parseRetryAfter counts from this machine's clock by default", () => {
  vi.useFakeTimers({ toFake: ['Date'], now: NOW });
  try {
    expect(parseRetryAfter('Sun, 22 Nov 2026 15:21:40 GMT')).toBe(100);
  } finally {
    vi.useRealTimers();
  }
});

it('parseRetryAfter returns null for a value that is no string, and rejects an invalid now', () => {
  expect(parseRetryAfter(undefined as never, NOW)).toBe(null);
  expect(parseRetryAfter(5 as never, NOW)).toBe(null);
  expect(codeOf(() => parseRetryAfter('5', Number.NaN))).toBe('ERR_LIMITER_OPTION');
});
