// parseRateLimitHeaders with the fields of a hostile server.

import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { runs } from '../support/runs.js';
import { NOTHING, parse } from './support.js';

afterEach(() => {
  vi.useRealTimers();
});

describe('a hostile server', () => {
  const most = 4_096;

  it('has its long fields ignored', () => {
    const longest = `"${'a'.repeat(most - 6)}";r=1`;
    expect(longest).toHaveLength(most);
    expect(parse({ RateLimit: longest }).limits).toHaveLength(1);
    const names = ['RateLimit', 'RateLimit-Policy', 'Retry-After', 'X-RateLimit-Limit'];
    const headers = Object.fromEntries(names.map((name) => [name, '1'.repeat(1_000_000)]));
    expect(parse(headers)).toStrictEqual({
      ...NOTHING,
      ignored: ['ratelimit-policy', 'ratelimit', 'x-ratelimit-limit', 'retry-after'],
    });
    expect(parse({ RateLimit: Array(10_000).fill('"a";r=1') }).ignored).toEqual(['ratelimit']);
  });

  it('has the items of a field after the first 64 ignored', () => {
    const items = Array.from({ length: 400 }, (_, n) => `"${n}";q=1`).join();
    const { policies, ignored } = parse({ 'RateLimit-Policy': items });
    expect(policies.map(({ name }) => name)).toEqual(Array.from({ length: 64 }, (_, n) => `${n}`));
    expect(ignored).toEqual(['ratelimit-policy[item]']);
    expect(parse({ 'RateLimit-Policy': items }, { strict: true })).toStrictEqual({
      ...NOTHING,
      ignored: ['ratelimit-policy'],
    });
  });

  const PIECES = [
    ...[
      '"',
      '%"',
      '\\',
      '\\"',
      ';',
      ',',
      '=',
      '(',
      ')',
      ':',
      '@',
      '%',
      '?1',
      '?',
      '*',
      ' ',
      '\t',
      'é',
      '\0',
    ],
    ...['0', '7', '-1', '1.0', '0.5', '999999999999999', '9999999999999999', '1795360890'],
    ...[
      'a',
      '"a"',
      ';q=1',
      ';w=60',
      ';r=5',
      ';t=9',
      ';a=5',
      ';c=1',
      ';qu="x"',
      ';pk=:YQ:',
      '5;w=1',
    ],
    ...[
      '-1',
      ', ',
      '32/40',
      '20:1',
      'limit=1',
      'reset=2',
      'remaining=3',
      '__proto__',
      'constructor',
      '1h',
      'ms',
      'GMT',
    ],
    ...['Sun, 22 Nov 2026 15:21:30 GMT', '2026-11-22T15:21:30Z'],
  ];
  const ITEMS = ['"a";q=1;w=60', '"b";r=5;t=9', 'c;a=5;w=1', '5;w=1', '5', '7', '60'];
  const NAMES = [
    ...['RateLimit', 'RateLimit-Policy', 'RateLimit-Partition', 'Retry-After', 'Date'],
    ...['RateLimit-Limit', 'RateLimit-Remaining', 'RateLimit-Reset'],
    ...[
      'X-RateLimit-Limit',
      'X-RateLimit-Remaining',
      'X-RateLimit-Reset',
      'X-RateLimit-Reset-After',
    ],
    'x-ratelimit-reset-tokens',
    ...['X-Shopify-Shop-Api-Call-Limit', 'X-App-Rate-Limit', 'X-HubSpot-RateLimit-Max'],
  ];
  const hostileField = fc.tuple(
    fc.constantFrom(...NAMES),
    fc.oneof(
      fc.array(fc.constantFrom(...PIECES), { maxLength: 12 }).map((pieces) => pieces.join('')),
      fc.array(fc.constantFrom(...ITEMS), { minLength: 1 }).map((items) => items.join()),
      fc.string(),
    ),
  );

  it('cannot cause an error, a number out of bounds or a repeated name', () => {
    const amount = (n: number | null) => n === null || (n >= 0 && n < 1e15);
    const options = fc.record({
      strict: fc.boolean(),
      resetFormat: fc.constantFrom('auto', 'delta', 'delta-ms', 'epoch', 'date'),
    });
    let read = 0;
    const check = fc.property(
      fc.array(hostileField, { minLength: 3 }),
      options,
      (headers, given) => {
        const { policies, limits, retryAfterSeconds, ignored } = parse(headers, given);
        for (const { quota, windowSeconds } of policies) {
          expect([quota, windowSeconds].every(amount)).toBe(true);
          expect(windowSeconds).not.toBe(0);
        }
        for (const { limit, remaining, resetSeconds, cost } of limits) {
          expect([limit, remaining, resetSeconds, cost].every(amount)).toBe(true);
        }
        expect(amount(retryAfterSeconds)).toBe(true);
        expect(new Set(ignored).size).toBe(ignored.length);
        read += policies.length + limits.length;
      },
    );
    fc.assert(check, runs(5000));
    // With this seed, some of the fields are valid.
    read = 0;
    fc.assert(check, { numRuns: 1000, seed: 1 });
    expect(read).toBeGreaterThan(100);
  });
});
