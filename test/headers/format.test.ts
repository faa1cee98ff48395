// formatRateLimitHeaders: the exact fields, what a draft cannot express, and reading the fields back.

import fc from 'fast-check';
import {
  type FormatOptions,
  formatRateLimitHeaders,
  parseRateLimitHeaders,
  type QuotaPolicy,
  type RateLimitInfo,
  type RateLimitStatement,
  type ServiceLimit,
} from 'relay-limiter/headers';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { runs } from '../support/runs.js';

const NOW = Date.UTC(2026, 10, 22, 15, 20);

const TWO: RateLimitStatement = {
  policies: [
    { name: 'burst', quota: 100, windowSeconds: 60 },
    { name: 'daily', quota: 5000, windowSeconds: 86_400, partitionKey: 'QXBwLTk5OQ==' },
  ],
  limits: [
    { name: 'burst', remaining: 50, resetSeconds: 30 },
    { name: 'daily', remaining: 20, resetSeconds: 36_000, partitionKey: 'QXBwLTk5OQ==' },
  ],
};

function format(info: RateLimitStatement, draft: FormatOptions['draft'], now = NOW) {
  return formatRateLimitHeaders(info, { draft, now });
}

describe('formatRateLimitHeaders', () => {
  it('writes two policies in draft 11, the default', () => {
    const fields = {
      'RateLimit-Policy': '"burst";q=100;w=60, "daily";q=5000;w=86400;pk=:QXBwLTk5OQ==:',
      RateLimit: '"burst";r=50;t=30, "daily";r=20;t=36000;pk=:QXBwLTk5OQ==:',
    };
    expect(formatRateLimitHeaders(TWO)).toStrictEqual(fields);
    expect(format(TWO, 11)).toStrictEqual(fields);
  });

  it('writes the limit with the lowest remaining in draft 7', () => {
    expect(format(TWO, 7)).toStrictEqual({
      'RateLimit-Policy': '100;w=60, 5000;w=86400',
      RateLimit: 'limit=5000, remaining=20, reset=36000',
    });
  });

  it('writes three fields in draft 6', () => {
    expect(format(TWO, 6)).toStrictEqual({
      'RateLimit-Policy': '100;w=60, 5000;w=86400',
      'RateLimit-Limit': '5000',
      'RateLimit-Remaining': '20',
      'RateLimit-Reset': '36000',
    });
  });

  it('writes the reset in X-RateLimit as epoch seconds, rounded up', () => {
    const fields = { 'X-RateLimit-Limit': '5000', 'X-RateLimit-Remaining': '20' };
    const reset = NOW / 1000 + 36_000;
    expect(format(TWO, 'legacy')).toStrictEqual({ ...fields, 'X-RateLimit-Reset': `${reset}` });
    expect(format(TWO, 'legacy', NOW + 1)['X-RateLimit-Reset']).toBe(`${reset + 1}`);
  });
});

describe('formatRateLimitHeaders', () => {
  it('omits fields without a value', () => {
    for (const draft of [11, 7, 6, 'legacy'] as const) {
      expect(format({}, draft)).toStrictEqual({});
      expect(format({ policies: [], limits: [], retryAfterSeconds: null }, draft)).toStrictEqual(
        {},
      );
      expect(format({ retryAfterSeconds: 0 }, draft)).toStrictEqual({ 'Retry-After': '0' });
    }
    const limits = [{ name: 'a', remaining: 0 }];
    expect(format({ limits }, 11)).toStrictEqual({ RateLimit: '"a";r=0' });
    expect(format({ limits }, 'legacy')).toStrictEqual({ 'X-RateLimit-Remaining': '0' });
    expect(format({ limits: [{ limit: 5, resetSeconds: 1 }] }, 7)).toStrictEqual({
      RateLimit: 'limit=5, reset=1',
    });
  });

  it('rounds amounts down and durations up', () => {
    const info = {
      policies: [{ name: 'a', quota: 9.9, windowSeconds: 0.2 }],
      limits: [{ name: 'a', remaining: 3.99, resetSeconds: 1.01 }],
      retryAfterSeconds: 0.001,
    };
    expect(format(info, 11)).toStrictEqual({
      'RateLimit-Policy': '"a";q=9;w=1',
      RateLimit: '"a";r=3;t=2',
      'Retry-After': '1',
    });
    expect(format(info, 7)).toMatchObject({ RateLimit: 'limit=9, remaining=3, reset=2' });
  });

  it('escapes names, and writes units and parameters', () => {
    const parameters = {
      n: 5,
      d: -0.12345,
      tiny: 0.0001,
      yes: true,
      no: false,
      text: 'a "b" \\',
      'acme-title': 'fü\n🐘',
      at: new Date(NOW),
    };
    const policies = [{ name: 'my "best" \\ api', quota: 5, unit: 'content-bytes', parameters }];
    expect(format({ policies }, 11)).toStrictEqual({
      'RateLimit-Policy':
        '"my \\"best\\" \\\\ api";q=5;qu="content-bytes";n=5;d=-0.123;tiny=0;yes=?1;no=?0' +
        `;text="a \\"b\\" \\\\";acme-title=%"f%c3%bc%0a%f0%9f%90%98";at=@${NOW / 1000}`,
    });
  });
});

describe('formatRateLimitHeaders for a draft with one limit', () => {
  const POLICIES = TWO.policies ?? [];

  it.each([7, 6] as const)('omits what draft %s cannot express', (draft) => {
    const policies = [
      { name: 'bytes', quota: 10, windowSeconds: 60, unit: 'content-bytes' },
      { name: 'open', quota: 10 },
      { name: 'short', quota: 100, windowSeconds: 1, parameters: { burst: 7 } },
      { name: 'long', quota: 100, windowSeconds: 60, parameters: { burst: 8 } },
      { name: 'middle', quota: 100, windowSeconds: 30 },
      { name: 'as long', quota: 100, windowSeconds: 60 },
    ];
    const limits = [
      { name: 'bytes', remaining: 0, resetSeconds: 9 },
      { name: 'long', remaining: 3, resetSeconds: 9 },
    ];
    const fields = format({ policies, limits }, draft);
    expect(fields['RateLimit-Policy']).toBe('100;w=60;burst=8');
    expect(parseRateLimitHeaders(fields).limits).toMatchObject([{ limit: 100, remaining: 3 }]);
  });

  it('chooses the latest reset among limits with equal remaining, and one without it last', () => {
    const limits = [
      { limit: 1, resetSeconds: 99 },
      { limit: 2, remaining: 5, resetSeconds: 10 },
      { limit: 3, remaining: 5, resetSeconds: 20 },
      { limit: 4, remaining: 6, resetSeconds: 30 },
    ];
    expect(format({ limits }, 7)['RateLimit']).toBe('limit=3, remaining=5, reset=20');
  });

  it("takes limit and reset from the limit's policy, found by name and partition or by quota", () => {
    const policies = [
      { name: 'a', quota: 1, windowSeconds: 10, partitionKey: 'YQ==' },
      { name: 'a', quota: 2, windowSeconds: 20, partitionKey: 'Yg==' },
      { quota: 3, windowSeconds: 30 },
      { quota: 4, windowSeconds: 40 },
    ];
    const written = (limit: Partial<ServiceLimit>) =>
      format({ policies, limits: [limit] }, 7)['RateLimit'];
    expect(written({ name: 'a', partitionKey: 'Yg==' })).toBe('limit=2, reset=20');
    expect(written({ name: 'a' })).toBe('limit=1, reset=10');
    expect(written({ limit: 4 })).toBe('limit=4, reset=40');
    expect(written({ name: 'a', limit: 9, resetSeconds: 1 })).toBe('limit=9, reset=1');
  });

  it.each([7, 6] as const)('rejects a limit without a value that draft %s requires', (draft) => {
    const unknownLimit = () => format({ limits: [{ name: 'b', resetSeconds: 1 }] }, draft);
    const unknownReset = () => format({ policies: POLICIES, limits: [{ limit: 7 }] }, draft);
    expect(codeOf(unknownLimit)).toBe('ERR_LIMITER_OPTION');
    expect(unknownLimit).toThrow('limits[0].limit must be given for this draft, or known');
    expect(unknownReset).toThrow('limits[0].resetSeconds must be given for this draft, or known');
  });
});

describe('formatRateLimitHeaders', () => {
  const policy = (changes: object) => ({ policies: [{ name: 'a', quota: 1, ...changes }] });
  const limit = (changes: object) => ({ limits: [{ name: 'a', remaining: 1, ...changes }] });
  it.each<[info: unknown, words: string]>([
    [undefined, 'info must be an object with policies and limits, got undefined'],
    [{ policies: {} }, 'policies must be an array, got an object'],
    [{ limits: [null] }, 'limits[0] must be an object, got null'],
    [policy({ name: null }), 'policies[0].name must be a string of printable ASCII, got null'],
    [policy({ name: 'fü' }), 'policies[0].name must be a string of printable ASCII, got "fü"'],
    [limit({ name: 'a\nb' }), 'limits[0].name must be'],
    [
      policy({ quota: -1 }),
      'policies[0].quota must be a number of at least 0, of at most 15 digits',
    ],
    [policy({ quota: Number.NaN }), 'policies[0].quota must be'],
    [policy({ quota: '5' }), 'policies[0].quota must be'],
    [policy({ quota: 1e15 }), 'policies[0].quota must be'],
    [policy({ windowSeconds: 0 }), 'policies[0].windowSeconds must be a number greater than 0'],
    [policy({ unit: 'ü' }), 'policies[0].unit must be'],
    [policy({ partitionKey: 'a*b' }), 'policies[0].partitionKey must be base64, got "a*b"'],
    [policy({ parameters: { Burst: 1 } }), 'the keys of policies[0].parameters must be'],
    [policy({ parameters: { w: 1 } }), 'other than q, w, qu, pk, got "w"'],
    [policy({ parameters: { x: null } }), 'policies[0].parameters.x must be a string, a boolean'],
    [policy({ parameters: { x: 1e15 } }), 'policies[0].parameters.x must be'],
    [policy({ parameters: { x: 1e12 + 0.5 } }), 'policies[0].parameters.x must be'],
    [policy({ parameters: { x: '\ud800' } }), 'policies[0].parameters.x must be'],
    [policy({ parameters: { x: new Date('never') } }), 'policies[0].parameters.x must be'],
    [limit({ remaining: null }), 'limits[0].remaining must be'],
    [limit({ remaining: -1 }), 'limits[0].remaining must be'],
    [limit({ resetSeconds: Infinity }), 'limits[0].resetSeconds must be'],
    [{ retryAfterSeconds: -1 }, 'retryAfterSeconds must be'],
  ])('rejects %j', (info, words) => {
    const call = () => formatRateLimitHeaders(info as RateLimitStatement);
    expect(codeOf(call)).toBe('ERR_LIMITER_OPTION');
    expect(call).toThrow(words);
  });

  it.each([
    [{ draft: 8 }, "draft must be 11, 7, 6 or 'legacy', got 8"],
    [{ draft: '11' }, 'draft must be'],
    [{ now: 'today' }, 'now must be a finite number of epoch milliseconds'],
    [{ version: 11 }, 'unknown option "version"'],
  ])('rejects the options %j', (options, words) => {
    const call = () => formatRateLimitHeaders({}, options as FormatOptions);
    expect(codeOf(call)).toBe('ERR_LIMITER_OPTION');
    expect(call).toThrow(words);
  });
});

describe('parseRateLimitHeaders', () => {
  const ascii = fc.string({ unit: 'grapheme-ascii', maxLength: 20 });
  const most = 999_999_999_999_999;
  const count = fc.oneof(fc.nat(1000), fc.integer({ min: 0, max: most }));
  const window = fc.oneof(fc.integer({ min: 1, max: 90_000 }), fc.integer({ min: 1, max: most }));
  const nullable = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null });
  const key = fc
    .stringMatching(/^[a-z*][a-z0-9_.*-]{0,9}$/)
    .filter((name) => !['q', 'w', 'qu', 'pk'].includes(name));
  const bareItem = fc.oneof(
    fc.integer({ min: -most, max: most }),
    fc.integer({ min: -999_999_999, max: 999_999_999 }).map((n) => (n === 0 ? 0 : n / 1000)),
    fc.boolean(),
    fc.string({ unit: 'grapheme', maxLength: 4 }),
    fc.string({ unit: 'binary', maxLength: 4 }).filter(isWellFormed),
    fc.integer({ min: -1e10, max: 1e11 }).map((seconds) => new Date(seconds * 1000)),
  );
  const partitionKey = nullable(fc.uint8Array({ maxLength: 12 }).map(base64));
  const policy: fc.Arbitrary<QuotaPolicy> = fc.record({
    name: ascii,
    quota: count,
    windowSeconds: nullable(window),
    unit: fc.oneof(fc.constant('requests'), ascii),
    partitionKey,
    parameters: fc.dictionary(key, bareItem, { maxKeys: 4, noNullPrototype: true }),
  });
  const limit: fc.Arbitrary<ServiceLimit> = fc.record({
    name: ascii,
    limit: fc.constant(null),
    remaining: count,
    resetSeconds: nullable(count),
    partitionKey,
    cost: fc.constant(null),
  });
  const info: fc.Arbitrary<RateLimitInfo> = fc.record({
    policies: fc.array(policy, { maxLength: 5 }),
    limits: fc.array(limit),
    retryAfterSeconds: nullable(fc.nat()),
    ignored: fc.constant([]),
  });

  it('reads back all that draft 11 can express, lenient and strict', () => {
    fc.assert(
      fc.property(info, fc.boolean(), (said, strict) => {
        expect(parseRateLimitHeaders(format(said, 11), { now: NOW, strict })).toEqual(said);
      }),
      runs(1000),
    );
  });

  it('reads back one limit and the policies without names from the other drafts', () => {
    const told = fc.record({
      policies: fc.array(policy.map((one) => ({ ...one, unit: 'requests' }))),
      limits: fc.array(
        fc.record({ limit: count, remaining: count, resetSeconds: fc.nat(1e9 - 1) }),
      ),
      retryAfterSeconds: nullable(fc.nat()),
    });
    const drafts = fc.constantFrom(7 as const, 6 as const, 'legacy' as const);
    fc.assert(
      fc.property(told, drafts, (said, draft) => {
        const policies = draft === 'legacy' ? [] : longestOfQuota(said.policies);
        const limits = [...said.limits].sort(
          (a, b) => a.remaining - b.remaining || b.resetSeconds - a.resetSeconds,
        );
        expect(parseRateLimitHeaders(format(said, draft), { now: NOW })).toStrictEqual({
          policies: policies.map((one) => ({ ...one, name: null, partitionKey: null })),
          limits: limits.slice(0, 1).map((one) => ({ ...UNSAID, ...one })),
          retryAfterSeconds: said.retryAfterSeconds,
          ignored: [],
        });
      }),
      runs(1000),
    );
  });
});

const UNSAID = { name: null, partitionKey: null, cost: null };

/** Returns for each quota the first of the policies with the longest window, in the order of the quotas. */
function longestOfQuota(policies: QuotaPolicy[]): QuotaPolicy[] {
  const window = (one: QuotaPolicy) => one.windowSeconds ?? 0;
  const windowed = policies.filter((one) => one.windowSeconds !== null);
  const quotas = [...new Set(windowed.map(({ quota }) => quota))];
  return quotas.map((quota) => {
    const same = windowed.filter((one) => one.quota === quota);
    const longest = Math.max(...same.map(window));
    return same.find((one) => window(one) === longest) as QuotaPolicy;
  });
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}
