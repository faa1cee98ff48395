// parseRateLimitHeaders beyond the vectors: options, families, and what structured-headers cannot parse.

import {
  parseRateLimitHeaders,
  type ResetFormat,
  type ResponseHeaders,
} from 'relay-limiter/headers';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { NOTHING, NOW, parse } from './support.js';

afterEach(() => {
  vi.useRealTimers();
});

function limits(headers: ResponseHeaders, options = {}) {
  return parse(headers, options).limits.map(({ name, limit, remaining, resetSeconds }) => {
    return [name, limit, remaining, resetSeconds];
  });
}

describe('parseRateLimitHeaders', () => {
  it('returns nothing for headers without limits', () => {
    expect(parse({ 'content-type': 'text/plain' })).toStrictEqual(NOTHING);
    expect(parse({})).toStrictEqual(NOTHING);
  });

  it('accepts names in any case, and several lines', () => {
    const expected = [
      ['a', null, 1, 5],
      ['b', null, 2, 6],
    ];
    expect(limits({ RATELIMIT: ['"a";r=1;t=5', ' "b";r=2;t=6 '] })).toEqual(expected);
    expect(limits({ RateLimit: '"a";r=1;t=5', ratelimit: '"b";r=2;t=6' })).toEqual(expected);
  });

  it('accepts undefined for an absent field, as in Node', () => {
    expect(parse({ ratelimit: undefined, 'retry-after': '3' }).retryAfterSeconds).toBe(3);
  });

  it.each([undefined, null, 'RateLimit: "a";r=1', 7])('rejects %s as headers', (headers) => {
    const call = () => parse(headers as never);
    expect(codeOf(call)).toBe('ERR_LIMITER_OPTION');
    expect(call).toThrow(/headers must be a Headers object, a record or an array of pairs/);
  });
});

describe('parseRateLimitHeaders', () => {
  it.each([
    [{ now: Number.NaN }, /now must be a finite number of epoch milliseconds, got NaN/],
    [{ now: new Date() }, /now must be/],
    [{ strict: 'yes' }, /strict must be true or false, got "yes"/],
    [
      { resetFormat: 'seconds' },
      /resetFormat must be 'auto', 'delta', 'delta-ms', 'epoch' or 'date'/,
    ],
    [{ lenient: true }, /unknown option "lenient".* now, strict, resetFormat/],
  ])('rejects the options %o', (options, words) => {
    const call = () => parseRateLimitHeaders({}, options as never);
    expect(codeOf(call)).toBe('ERR_LIMITER_OPTION');
    expect(call).toThrow(words);
  });
});

describe('the time of parseRateLimitHeaders', () => {
  const headers = {
    'X-RateLimit-Remaining': '0',
    'X-RateLimit-Reset': String(NOW / 1000 + 90),
    'Retry-After': 'Sun, 22 Nov 2026 15:21:00 GMT',
  };

  it("is the server's own Date by default, even if its clock is wrong", () => {
    const told = parseRateLimitHeaders({ ...headers, Date: 'Sun, 22 Nov 2026 15:20:00 GMT' });
    expect(told.retryAfterSeconds).toBe(60);
    expect(told.limits[0]?.resetSeconds).toBe(90);
  });

  it("is this machine's clock without a valid Date", () => {
    vi.useFakeTimers({ toFake: ['Date'], now: NOW });
    const told = parseRateLimitHeaders({ ...headers, Date: 'today' });
    expect(told.limits[0]?.resetSeconds).toBe(90);
  });

  it('is the option now if that is given', () => {
    const told = parse({ ...headers, Date: 'Sun, 22 Nov 2026 10:00:00 GMT' });
    expect(told.retryAfterSeconds).toBe(60);
  });
});

describe('a reset', () => {
  const NEVER = null;
  it.each<[reset: string, format: ResetFormat, seconds: number | null]>([
    ['90', 'auto', 90],
    ['1.5', 'auto', 1.5],
    ['999999999', 'auto', 999_999_999],
    ['1795360890', 'auto', 90],
    ['1795360890000', 'auto', 90],
    ['1795360000', 'auto', 0],
    ['2026-11-22T15:21:30Z', 'auto', 90],
    ['2026-11-22T16:21:30.250+01:00', 'auto', 90.25],
    ['Sun Nov 22 2026 15:21:30 GMT+0000 (Coordinated Universal Time)', 'auto', 90],
    ['Sunday, 22-Nov-26 15:21:30 GMT', 'auto', 90],
    ['Sun, 22 Nov 2026 15:21:30 GMT', 'date', 90],
    ['1795360890', 'date', NEVER],
    ['2026-11-22T15:21:30', 'auto', NEVER],
    ['2026-11-22', 'auto', NEVER],
    ['2026-99-22T15:21:30Z', 'auto', NEVER],
    ['soon 5', 'auto', NEVER],
    ['-5', 'auto', NEVER],
    ['1e3', 'auto', NEVER],
    ['0x10', 'auto', NEVER],
    ['Infinity', 'auto', NEVER],
    ['9'.repeat(400), 'auto', NEVER],
    ['', 'auto', NEVER],
    ['5', 'epoch', 0],
    ['1795360890.1', 'epoch', 90.1],
    ['1795360890', 'delta', 1_795_360_890],
    ['2026-11-22T15:21:30Z', 'delta', NEVER],
  ])('of %j in the format %s is read as %s', (reset, resetFormat, seconds) => {
    const headers = { 'X-RateLimit-Remaining': '0', 'X-RateLimit-Reset': reset };
    expect(limits(headers, { resetFormat })).toEqual([[null, null, 0, seconds]]);
    const ignored = seconds === NEVER ? ['x-ratelimit-reset'] : [];
    expect(parse(headers, { resetFormat }).ignored).toEqual(ignored);
  });

  it('has the same formats in the three fields of the drafts', () => {
    const triple = (reset: string) => ({ 'RateLimit-Limit': '5', 'RateLimit-Reset': reset });
    expect(limits(triple('1795360890'))).toEqual([[null, 5, null, 90]]);
    expect(limits(triple('6m0s'))).toEqual([[null, 5, null, 360]]);
    expect(limits(triple('1'), { resetFormat: 'epoch' })).toEqual([[null, 5, null, 0]]);
  });

  it('that is invalid is replaced by a valid one', () => {
    const headers = { 'X-RateLimit-Reset': '9', 'X-RateLimit-Reset-After': 'soon' };
    expect(limits(headers)).toEqual([[null, null, null, 9]]);
    expect(parse(headers).ignored).toEqual(['x-ratelimit-reset-after']);
  });
});

describe('parseRateLimitHeaders', () => {
  it.each([
    ['1s', 1],
    ['6m0s', 360],
    ['12ms', 0.012],
    ['1h2m3.5s', 3723.5],
    ['1d', 86_400],
    ['5', 5],
    ['5 s', null],
    ['s', null],
    ['-1s', null],
  ])('reads the limits of OpenAI with a reset of %s', (reset, seconds) => {
    const headers = {
      'x-ratelimit-limit-requests': '60',
      'x-ratelimit-remaining-requests': '59',
      'x-ratelimit-reset-requests': reset,
      'x-ratelimit-limit-tokens': '150000',
      'x-ratelimit-remaining-tokens': '149984',
    };
    expect(limits(headers)).toEqual([
      ['requests', 60, 59, seconds],
      ['tokens', 150_000, 149_984, null],
    ]);
  });

  it('reads a remaining amount below 0 as 0, in vendor fields only', () => {
    const left = (text: string) => parse({ 'X-RateLimit-Remaining': text });
    expect(left('-1').limits).toMatchObject([{ remaining: 0 }]);
    expect(left('-1').ignored).toEqual([]);
    expect(left('-').ignored).toEqual(['x-ratelimit-remaining']);
    expect(left('-3.0').limits).toMatchObject([{ remaining: 0 }]);
    expect(parse({ 'RateLimit-Remaining': '-1' }).ignored).toEqual(['ratelimit-remaining']);
    expect(parse({ 'X-RateLimit-Remaining': '-1' }, { strict: true })).toStrictEqual(NOTHING);
  });

  it('reads the limits of Anthropic', () => {
    const headers = {
      'anthropic-ratelimit-requests-limit': '50',
      'anthropic-ratelimit-requests-remaining': '49',
      'anthropic-ratelimit-requests-reset': '2026-11-22T15:20:02Z',
      'anthropic-ratelimit-output-tokens-remaining': '8000',
    };
    expect(limits(headers)).toEqual([
      ['requests', 50, 49, 2],
      ['output-tokens', null, 8000, null],
    ]);
  });
});

describe('generations of fields', () => {
  const TRIPLE = { 'RateLimit-Limit': '10', 'RateLimit-Remaining': '9', 'RateLimit-Reset': '8' };
  const LEGACY = { 'X-RateLimit-Limit': '10', 'X-RateLimit-Remaining': '7' };

  it('are read from the newest to the oldest', () => {
    expect(limits({ ...TRIPLE, ...LEGACY })).toEqual([[null, 10, 9, 8]]);
    expect(limits({ ...TRIPLE, RateLimit: 'limit=5, remaining=4, reset=3' })).toEqual([
      [null, 5, 4, 3],
    ]);
  });

  it('are read if a newer one is invalid', () => {
    const headers = { RateLimit: '"a";r=', 'RateLimit-Reset': 'x', ...LEGACY };
    expect(limits(headers)).toEqual([[null, 10, 7, null]]);
    expect(parse(headers).ignored).toEqual(['ratelimit', 'ratelimit-reset']);
  });

  it('up to -03 have policies in RateLimit-Limit, which RateLimit-Policy overrides', () => {
    const headers = { 'RateLimit-Limit': '10, 10;w=1, 50, 1000\t;\tw=3600;c="a ; b"' };
    expect(parse(headers).policies).toMatchObject([
      { quota: 10, windowSeconds: 1 },
      { quota: 1000, windowSeconds: 3600, parameters: { c: 'a ; b' } },
    ]);
    expect(parse(headers).ignored).toEqual(['ratelimit-limit[item]']);
    expect(parse({ 'RateLimit-Limit': '10, 100' })).toMatchObject({
      limits: [{ limit: 10 }],
      ignored: ['ratelimit-limit[item]'],
    });
    expect(parse({ ...headers, 'RateLimit-Policy': '7;w=9' }).policies).toMatchObject([
      { quota: 7, windowSeconds: 9 },
    ]);
  });

  it('of the next draft give the cost and the partition schemes', () => {
    const headers = {
      RateLimit: 'default;a=50;w=30;c=5, api;a=1;c=x',
      'RateLimit-Partition': '"api";user_id;method, 5',
    };
    expect(parse(headers)).toStrictEqual({
      ...NOTHING,
      limits: [
        {
          name: 'default',
          limit: null,
          remaining: 50,
          resetSeconds: 30,
          partitionKey: null,
          cost: 5,
        },
      ],
      partitions: [{ name: 'api', keys: ['user_id', 'method'] }],
      ignored: ['ratelimit[item]', 'ratelimit-partition[item]'],
    });
    expect(parse(headers, { strict: true })).toStrictEqual({ ...NOTHING, ignored: ['ratelimit'] });
  });
});

describe('structured fields', () => {
  const policy = (parameters: string, options = {}) =>
    parse({ 'RateLimit-Policy': `"a";q=10${parameters}, "b";q=1` }, options).policies[0];

  it.each([
    [';x=@1795360800', new Date(NOW)],
    [';x=@-1;y', new Date(-1000)],
    [';x=10.0', 10],
    [';x=-10.50', -10.5],
    [';x=10.000;y', 10],
    [';x', true],
    [';x=?0', false],
    [';x=t/1.0', 't/1.0'],
    [';x="@1, =1.0 \\" =@2"', '@1, =1.0 " =@2'],
    [';x=%"=@1 =1.0 \\"', '=@1 =1.0 \\'],
    [';x=%"a%0a%f0%9f%90%98"', 'a\n🐘'],
    [';x=%"%ef%bb%bf";y=1.0', '\ufeff'],
    [';x=%"%ef%bb%bf%ef%bb%bfa%ef%bb%bf"', '\ufeff\ufeffa\ufeff'],
    [';x=:YQ:\t', 'YQ=='],
  ])('may have a parameter %s', (parameters, value) => {
    for (const strict of [false, true]) {
      expect(policy(parameters, { strict })?.parameters['x']).toStrictEqual(value);
    }
  });

  it('distinguish 10.0 and dates from Integers', () => {
    const limit = '"a";r=1;t=10.0, "b";r=@5;t=1, "c";r=7;t=1, "d";r=-0;t=1';
    expect(limits({ RateLimit: limit })).toEqual([
      ['c', null, 7, 1],
      ['d', null, 0, 1],
    ]);
    expect(parse({ RateLimit: 'limit=1.0, reset=5' }).ignored).toEqual(['ratelimit']);
  });

  it('keep parameters of any name', () => {
    expect(policy(';constructor=1')?.parameters).toStrictEqual({ constructor: 1 });
    const proto = parse({ 'RateLimit-Policy': '"a";q=1;__proto__=1' });
    expect(proto.ignored).toEqual(['ratelimit-policy']);
    expect(parse([['__proto__', 'x']])).toStrictEqual(NOTHING);
  });

  const invalid = [
    '"',
    '"a',
    '"a =@1',
    '%"=1.0',
    'a;=@1',
    '@',
    '1.0',
    '@1;q=1',
    '%"x";q=1',
    '=1.0',
  ];
  it.each([...invalid, '"a";q=1;x=%"\u0141"', '"\u0141";q=1', '"a";q=1;x=%"%ef%bb"'])(
    'are ignored if they are invalid: %s',
    (text) => {
      expect(parse({ 'RateLimit-Policy': text }).ignored).toEqual(['ratelimit-policy']);
    },
  );
});
