// How the page formats keys and numbers, without a browser.

import { describe, expect, test } from 'vitest';
import { momentOf, seriesOf } from '../../lib/dashboard/page/series.js';
import {
  bytes,
  clockTime,
  keyOf,
  keyText,
  milliseconds,
  share,
  short,
  timeLeft,
  visible,
} from '../../lib/dashboard/page/text.js';

test.each([
  ['mallory', 'mallory'],
  ['Zoë 😀', 'Zoë 😀'],
  ['a\0b\nc\x7f', 'a\\u{0}b\\u{a}c\\u{7f}'],
  ['\u202egnp.exe\u2066', '\\u{202e}gnp.exe\\u{2066}'],
  ['zero\u200bwidth\ufeff\u2028', 'zero\\u{200b}width\\u{feff}\\u{2028}'],
  ['half \ud83d!', 'half \\u{d83d}!'],
  ['\u{e0041}', '\\u{e0041}'],
  ['\u3164', '\\u{3164}'],
  ['\u2800', '\\u{2800}'],
  ['mallory\ufe0f', 'mallory\\u{fe0f}'],
  ['mallory\u034f', 'mallory\\u{34f}'],
  ['mallory\u00a0', 'mallory\\u{a0}'],
  ['a\u115fb\u3000c', 'a\\u{115f}b\\u{3000}c'],
  [' a b  c ', '\\u{20}a b \\u{20}c\\u{20}'],
  [' ', '\\u{20}'],
  ['\\u{202e}x', '\\\\u{202e}x'],
])('the key %j is shown as %s', (key, shown) => {
  expect(visible(key)).toBe(shown);
  expect(keyOf(shown)).toBe(key);
});

test.each(['\\', 'C:\\dir', '\\u{110000}', '\\u{}', '\\x'])(
  'keyOf does not change the invalid escape %j',
  (key) => {
    expect(keyOf(key)).toBe(key);
  },
);

test('a long key is shown by its beginning and its end, with the whole beside them', () => {
  expect(keyText('', 0)).toEqual({ short: '(empty)', whole: '(empty)' });
  const longest = 'k'.repeat(72);
  expect(keyText(longest, 72)).toEqual({ short: longest, whole: longest });
  const emoji = `${'😀'.repeat(99)}!`;
  const ends = `${'😀'.repeat(48)}…${'😀'.repeat(23)}!`;
  expect(keyText(emoji, 199)).toEqual({ short: ends, whole: emoji });
});

test('a truncated key is shown by its beginning and its hash', () => {
  expect(keyText('k'.repeat(60), 5000, 'abc')).toEqual({
    short: `${'k'.repeat(48)}… #abc`,
    whole: `${'k'.repeat(60)}… (5,000 units) #abc`,
  });
});

test('clockTime adds the date to times of other days', () => {
  const now = new Date(2026, 10, 29, 12).getTime();
  expect(clockTime(new Date(2026, 10, 29, 6, 15, 7).getTime(), now)).toBe('06:15:07');
  expect(clockTime(new Date(2026, 10, 28, 23, 59, 59).getTime(), now)).toBe('28 Nov 23:59:59');
});

test.each([
  [() => short(0), '0'],
  [() => short(2.34), '2.3'],
  [() => short(1234), '1,234'],
  [() => short(1_234_567), '1.23M'],
  [() => share(0, 7), '0%'],
  [() => share(7, 7), '100%'],
  [() => share(1, 10_000), '<0.1%'],
  [() => share(9999, 10_000), '>99.9%'],
  [() => share(996, 1000), '99.6%'],
  [() => share(1, 3), '33%'],
  [() => bytes(0), '0 B'],
  [() => bytes(16_656), '17 KB'],
  [() => bytes(3_210_000), '3.2 MB'],
  [() => milliseconds(3.21), '3.2 ms'],
  [() => milliseconds(2500), '2.5 s'],
  [() => timeLeft(-1), '0 s'],
  [() => timeLeft(59.2), '1 min 0 s'],
  [() => timeLeft(3600), '1 h 0 min'],
  [() => timeLeft(90_061), '1 d 1 h'],
])('%s formats as %s', (act, shown) => {
  expect(act()).toBe(shown);
});

describe('samples as columns', () => {
  const sample = (
    at: number,
    ...limiters: ([number, number, number, number, number, number | null] | null)[]
  ) => ({ at, seconds: 1, loopDelay: 2, limiters });

  test('of all limiters are summed, ignoring unknown values', () => {
    const both = sample(0, [1, 2, 3, 4, 5, 6], [10, 20, 30, 40, 50, null]);
    expect(momentOf(both, [0, 1])).toEqual({
      allow: 11,
      delay: 22,
      disconnect: 33,
      tracked: 44,
      banned: 55,
      bytes: 6,
      loopDelay: 2,
    });
    expect(momentOf(both, [1])).toMatchObject({ allow: 10, bytes: null });
    expect(momentOf(sample(0, null), [0])).toMatchObject({ allow: null, loopDelay: 2 });
  });

  test('have a gap where samples are missing', () => {
    const one: [number, number, number, number, number, number] = [1, 0, 0, 0, 0, 0];
    const { times, moments } = seriesOf(
      [sample(1000, one), sample(2000, one), sample(12_000, one)],
      [0],
    );
    expect(times).toEqual([0, 1, 2, 6.5, 11, 12]);
    expect(moments.map(({ allow }) => allow)).toEqual([1, 1, 1, null, 1, 1]);
  });

  test.each([0.05, 1, 60, 3600])('have no gap at an interval of %d s', (seconds) => {
    const one: [number, number, number, number, number, number] = [1, 0, 0, 0, 0, 0];
    // Timers fire late, sometimes very late.
    const spans = [seconds, seconds * 1.02, seconds * 7, seconds];
    let at = 1e12;
    const samples = spans.map((span) => {
      at += span * 1000;
      return { ...sample(at, one), seconds: span };
    });
    const { times, moments } = seriesOf(samples, [0]);
    expect(times).toHaveLength(5);
    expect(moments.every(({ allow }) => allow === 1)).toBe(true);
  });
});
