// What real servers send: tables of responses, and what parseRateLimitHeaders reads in them.

import { parseRateLimitHeaders, type ResponseHeaders } from 'relay-limiter/headers';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { NOTHING, parse } from './support.js';

const DATE = 'Sun, 22 Nov 2026 15:20:00 GMT';
/** Epoch seconds, 40 seconds after the date. */
const RESET = '1795360840';

type Row = [
  server: string,
  headers: Record<string, string | string[]>,
  limits: [name: string | null, limit: number | null, remaining: number | null, reset: unknown][],
  more?: { policies?: [name: string | null, quota: number, window: number][]; ignored?: string[] },
];

const ROWS: Row[] = [
  [
    'GitLab',
    {
      Date: DATE,
      'RateLimit-Limit': '2000',
      'RateLimit-Remaining': '1990',
      'RateLimit-Reset': RESET,
    },
    [[null, 2000, 1990, 40]],
  ],
  [
    'Bluesky',
    {
      Date: DATE,
      'ratelimit-limit': '3000',
      'ratelimit-remaining': '2999',
      'ratelimit-reset': RESET,
      'ratelimit-policy': '3000;w=300',
    },
    [[null, 3000, 2999, 40]],
    { policies: [[null, 3000, 300]] },
  ],
  [
    'GitHub',
    {
      Date: DATE,
      'X-RateLimit-Limit': '5000',
      'X-RateLimit-Remaining': '0',
      'X-RateLimit-Reset': RESET,
      'X-RateLimit-Used': '5000',
    },
    [[null, 5000, 0, 40]],
  ],
  [
    'Reddit',
    { 'x-ratelimit-remaining': '599.0', 'x-ratelimit-used': '1', 'x-ratelimit-reset': '371' },
    [[null, null, 599, 371]],
  ],
  [
    'Reddit behind two limiters',
    { 'x-ratelimit-remaining': '991, 98.0', 'x-ratelimit-reset': '300, 20' },
    [[null, null, 98, 20]],
  ],
  [
    'Brave Search',
    {
      'X-RateLimit-Limit': '1, 15000',
      'X-RateLimit-Policy': '1;w=1, 15000;w=2592000',
      'X-RateLimit-Remaining': '0, 1000',
      'X-RateLimit-Reset': '1, 1419704',
    },
    [
      [null, 1, 0, 1],
      [null, 15_000, 1000, 1_419_704],
    ],
    {
      policies: [
        [null, 1, 1],
        [null, 15_000, 2_592_000],
      ],
    },
  ],
  [
    'a proxy that adds its own lines',
    {
      'X-RateLimit-Limit': ['60', '100'],
      'X-RateLimit-Remaining': ['0', '40'],
      'X-RateLimit-Reset': ['30', '5'],
    },
    [
      [null, 60, 0, 30],
      [null, 100, 40, 5],
    ],
  ],
  [
    'Docker Hub',
    { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '76;w=21600' },
    [[null, 100, 76, null]],
    { policies: [[null, 100, 21_600]] },
  ],
  [
    'Envoy',
    {
      'x-ratelimit-limit': '10, 10;w=1;name="burst", 100;w=3600',
      'x-ratelimit-remaining': '3',
      'x-ratelimit-reset': '44',
    },
    [[null, 10, 3, 44]],
    {
      policies: [
        [null, 10, 1],
        [null, 100, 3600],
      ],
    },
  ],
  [
    'a server with a window beside each value',
    { 'ratelimit-limit': '10;w=1, 100;w=60', 'ratelimit-remaining': '9;w=1, 0;w=60' },
    [
      [null, 10, 9, null],
      [null, 100, 0, null],
    ],
    {
      policies: [
        [null, 10, 1],
        [null, 100, 60],
      ],
    },
  ],
  [
    'Azure OpenAI without a limit of tokens',
    {
      'x-ratelimit-limit-requests': '60',
      'x-ratelimit-remaining-requests': '59',
      'x-ratelimit-limit-tokens': '-1',
      'x-ratelimit-remaining-tokens': '-1',
      'x-ratelimit-reset-tokens': '0',
    },
    [['requests', 60, 59, null]],
  ],
  [
    'a server without a limit',
    { 'RateLimit-Limit': '-1', 'RateLimit-Remaining': '-1', 'RateLimit-Reset': '-1' },
    [],
  ],
  [
    'OpenAI',
    {
      'x-ratelimit-limit-requests': '500',
      'x-ratelimit-remaining-requests': '499',
      'x-ratelimit-reset-requests': '12ms',
      'x-ratelimit-limit-tokens': '30000',
      'x-ratelimit-remaining-tokens': '29000',
      'x-ratelimit-reset-tokens': '6m0s',
    },
    [
      ['requests', 500, 499, 0.012],
      ['tokens', 30_000, 29_000, 360],
    ],
  ],
  [
    'a server with the names of OpenAI and bare resets',
    {
      Date: DATE,
      'x-ratelimit-remaining-requests': '0',
      'x-ratelimit-reset-requests': '2.5',
      'x-ratelimit-remaining-tokens': '7',
      'x-ratelimit-reset-tokens': RESET,
    },
    [
      ['requests', null, 0, 2.5],
      ['tokens', null, 7, 40],
    ],
  ],
  [
    'Anthropic',
    {
      Date: DATE,
      'anthropic-ratelimit-requests-limit': '50',
      'anthropic-ratelimit-requests-remaining': '49',
      'anthropic-ratelimit-requests-reset': '2026-11-22T15:20:02Z',
      'anthropic-ratelimit-input-tokens-limit': '30000',
      'anthropic-ratelimit-input-tokens-remaining': '0',
      'anthropic-ratelimit-input-tokens-reset': '2026-11-22T15:21:00Z',
    },
    [
      ['requests', 50, 49, 2],
      ['input-tokens', 30_000, 0, 60],
    ],
  ],
  ['Shopify', { 'X-Shopify-Shop-Api-Call-Limit': '32/40' }, [[null, 40, 8, 0.5]]],
  ['Shopify on Plus', { 'X-Shopify-Shop-Api-Call-Limit': '400/400' }, [[null, 400, 0, 0.05]]],
  [
    'HubSpot',
    {
      'X-HubSpot-RateLimit-Daily': '250000',
      'X-HubSpot-RateLimit-Daily-Remaining': '249000',
      'X-HubSpot-RateLimit-Interval-Milliseconds': '10000',
      'X-HubSpot-RateLimit-Max': '100',
      'X-HubSpot-RateLimit-Remaining': '0',
    },
    [
      ['daily', 250_000, 249_000, null],
      ['interval', 100, 0, null],
    ],
    {
      policies: [
        ['daily', 250_000, 86_400],
        ['interval', 100, 10],
      ],
    },
  ],
  [
    'Riot Games',
    {
      'X-App-Rate-Limit': '20:1,100:120',
      'X-App-Rate-Limit-Count': '20:1,37:120',
      'X-Method-Rate-Limit': '2000:10',
      'X-Method-Rate-Limit-Count': '1:10',
    },
    [
      ['app-1', 20, 0, null],
      ['app-120', 100, 63, null],
      ['method-10', 2000, 1999, null],
    ],
    {
      policies: [
        ['app-1', 20, 1],
        ['app-120', 100, 120],
        ['method-10', 2000, 10],
      ],
    },
  ],
  [
    'Linear',
    {
      Date: DATE,
      'X-RateLimit-Requests-Limit': '5000',
      'X-RateLimit-Requests-Remaining': '4999',
      'X-RateLimit-Requests-Reset': `${RESET}000`,
      'X-RateLimit-Complexity-Limit': '250000',
      'X-RateLimit-Complexity-Remaining': '0',
      'X-RateLimit-Complexity-Reset': `${RESET}500`,
    },
    [
      ['requests', 5000, 4999, 40],
      ['complexity', 250_000, 0, 40.5],
    ],
  ],
  [
    'Jira',
    {
      Date: DATE,
      'X-RateLimit-Limit': '100',
      'X-RateLimit-Remaining': '0',
      'X-RateLimit-Reset': '2026-11-22T15:25Z',
    },
    [[null, 100, 0, 300]],
  ],
  [
    'a server with empty fields',
    { 'X-RateLimit-Limit': '', 'X-RateLimit-Remaining': '5', RateLimit: '', 'Retry-After': ' ' },
    [[null, null, 5, null]],
    { ignored: ['ratelimit', 'x-ratelimit-limit', 'retry-after'] },
  ],
];

describe('parseRateLimitHeaders', () => {
  it.each(ROWS)('reads what %s sends', (_, headers, limits, more = {}) => {
    const told = parseRateLimitHeaders(headers);
    const rows = told.limits.map(({ name, limit, remaining, resetSeconds }) => {
      return [name, limit, remaining, resetSeconds];
    });
    expect(rows).toEqual(limits);
    const { policies = [], ignored = [] } = more;
    expect(told.policies.map((p) => [p.name, p.quota, p.windowSeconds])).toEqual(policies);
    expect(told.ignored).toEqual(ignored);
  });

  it.each([
    ['x-ratelimit-remaining-tokens', 'tokens'],
    ['anthropic-ratelimit-output-tokens-remaining', 'output-tokens'],
    ['x-ratelimit-complexity-remaining', 'complexity'],
    ['x-ratelimit-endpoint-requests-remaining', 'requests'],
    ['x-ratelimit-remaining', undefined],
    ['ratelimit-remaining', undefined],
  ])('says what %s counts', (field, unit) => {
    expect(parse({ [field]: '5' }).limits[0]?.unit).toBe(unit);
  });

  it.each([
    ['X-RateLimit-Reset-After', '0.250', undefined],
    ['X-RateLimit-Reset-After', '1.000', true],
    ['X-RateLimit-Reset', '1', undefined],
    ['X-RateLimit-Reset', '1.0', true],
    ['X-RateLimit-Reset', '6m0s', undefined],
    ['X-RateLimit-Reset', '1000ms', true],
    // In whole seconds, but seen by a clock with fractions of a second.
    ['X-RateLimit-Reset', RESET, false],
  ])('says whether %s: %s is exact', (field, reset, exact) => {
    const told = parseRateLimitHeaders(
      { 'X-RateLimit-Remaining': '0', [field]: reset },
      { now: Date.UTC(2026, 10, 22, 15, 20) + 123 },
    );
    expect(told.limits[0]?.exact).toBe(exact);
  });

  it.each([
    [{ 'Retry-After': '2.0' }, 2],
    [{ 'Retry-After': '0.493' }, 1],
    [{ 'Retry-After': '1', 'retry-after-ms': '250' }, 0.25],
    [{ 'x-ms-retry-after-ms': '1500' }, 1.5],
    [{ 'Retry-After': '3', 'retry-after-ms': 'soon' }, 3],
  ])('reads the wait of %o', (headers, seconds) => {
    expect(parse(headers).retryAfterSeconds).toBe(seconds);
  });

  it('reads milliseconds from now as such if the format is given', () => {
    const headers = { 'X-RateLimit-Remaining': '0', 'X-RateLimit-Reset': '60000' };
    expect(parse(headers, { resetFormat: 'delta-ms' }).limits).toMatchObject([
      { resetSeconds: 60 },
    ]);
    expect(parse(headers).limits).toMatchObject([{ resetSeconds: 60_000 }]);
  });

  it('ignores lists whose values are no numbers, and limits without an amount', () => {
    expect(parse({ 'X-RateLimit-Limit': '10, many' }).ignored).toEqual(['x-ratelimit-limit']);
    expect(parse({ 'X-RateLimit-Remaining': '10,' }).ignored).toEqual(['x-ratelimit-remaining']);
    expect(parse({ 'X-RateLimit-Limit': '10, 20' })).toMatchObject({
      limits: [{ limit: 10 }],
      ignored: ['x-ratelimit-limit[item]'],
    });
    for (const text of ['32', '32/40/1', '32/x', '1/0']) {
      expect(parse({ 'X-Shopify-Shop-Api-Call-Limit': text }).limits).toEqual([]);
    }
    expect(parse({ 'X-App-Rate-Limit': '20:1,x' }).ignored).toEqual(['x-app-rate-limit']);
  });

  it('takes the tightest of lists with different lengths', () => {
    const headers = {
      'X-RateLimit-Limit': '100',
      'X-RateLimit-Remaining': '50, 3, 7',
      'X-RateLimit-Reset': '10, 20',
    };
    expect(parse(headers).limits).toMatchObject([{ limit: 100, remaining: 3, resetSeconds: 20 }]);
  });
});

describe('a container for fields', () => {
  const headers = { 'X-RateLimit-Remaining': '7', 'RETRY-AFTER': '3' };
  const raw = Object.entries(headers).flat();
  const containers: [name: string, container: ResponseHeaders][] = [
    ['a record', headers],
    ['Headers', new Headers(headers)],
    ['a Map', new Map(Object.entries(headers))],
    ['an array of pairs', Object.entries(headers)],
    ['rawHeaders of Node', raw],
    ['an object with get', { get: (name) => new Headers(headers).get(name) }],
  ];

  it.each(containers)('may be %s, with names in capitals', (_, container) => {
    expect(parse(container)).toMatchObject({ limits: [{ remaining: 7 }], retryAfterSeconds: 3 });
  });

  it.each<[string, unknown]>([
    ['a response', new Response(null, { headers })],
    ['a response of Node', { statusCode: 200, headers }],
    ['an odd number of texts', raw.slice(1)],
    ['an array of other values', [['a', 'b'], 'c']],
    ['pairs without names', [[1, 'b']]],
    ['a Map with other keys', new Map([[1, 'b']])],
    ['a promise', Promise.resolve(headers)],
  ])('is not %s', (_, container) => {
    expect(codeOf(() => parse(container as ResponseHeaders))).toBe('ERR_LIMITER_OPTION');
  });

  it('may be empty', () => {
    for (const empty of [{}, [], new Map(), new Headers()]) {
      expect(parse(empty)).toStrictEqual(NOTHING);
    }
  });
});
