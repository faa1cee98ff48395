// The fields of vendors whose limits have a form of their own: Shopify, HubSpot and Riot Games.

import type { FieldReader } from './fields.js';
import { limitOf, policyOf } from './limits.js';
import { parseDecimal } from './numbers.js';
import type { Found } from './triples.js';

const NOTHING: Found = { limits: [], policies: [] };

const DAY_SECONDS = 86_400;

const SHOPIFY = 'x-shopify-shop-api-call-limit';
const HUBSPOT = 'x-hubspot-ratelimit';
const HUBSPOT_PARTS = [
  ...['daily', 'daily-remaining', 'secondly', 'secondly-remaining'],
  ...['max', 'remaining', 'interval-milliseconds'],
];

/** The readers of all vendors, each with the names of its fields. */
export const VENDOR_READERS: readonly (readonly [
  read: (fields: FieldReader) => Found,
  names: readonly string[],
])[] = [
  [readShopify, [SHOPIFY]],
  [readHubSpot, HUBSPOT_PARTS.map((part) => `${HUBSPOT}-${part}`)],
  ...['app', 'method'].map(
    (type) =>
      [
        (fields: FieldReader) => readRiot(fields, type),
        [`x-${type}-rate-limit`, `x-${type}-rate-limit-count`],
      ] as const,
  ),
];

/** Every plan of Shopify's REST API empties a full bucket in this time. */
const SHOPIFY_BUCKET_SECONDS = 20;

/** Shopify: `32/40` is what a leaky bucket contains, and its size. */
function readShopify(fields: FieldReader): Found {
  const [used, size] = fields.read(SHOPIFY, (text) => parsePair(text, '/')) ?? [];
  if (used === undefined || size === undefined || size === 0) return NOTHING;
  // The bucket leaks one request in this time, so no more than what remains can be sent within it.
  const reset = { seconds: SHOPIFY_BUCKET_SECONDS / size, isExact: true };
  return {
    limits: [limitOf({ name: null, unit: 'requests' }, size, size - used, reset)],
    policies: [],
  };
}

/** HubSpot: a limit per day, and one per interval of some seconds. */
function readHubSpot(fields: FieldReader): Found {
  const read = (part: string) => fields.read(`${HUBSPOT}-${part}`, parseDecimal);
  const interval = (read('interval-milliseconds') ?? 0) / 1000;
  const windows = [
    { name: 'daily', quota: read('daily'), left: read('daily-remaining'), seconds: DAY_SECONDS },
    { name: 'secondly', quota: read('secondly'), left: read('secondly-remaining'), seconds: 1 },
    { name: 'interval', quota: read('max'), left: read('remaining'), seconds: interval },
  ];
  const known = windows.filter(({ seconds }) => seconds > 0);
  return {
    limits: known.flatMap(({ name, quota, left }) =>
      quota === null && left === null ? [] : [limitOf({ name }, quota, left, null)],
    ),
    policies: known.flatMap(({ name, quota, seconds }) =>
      quota === null ? [] : [policyOf(name, quota, seconds)],
    ),
  };
}

/** Riot Games: `20:1,100:120` is a quota per window in seconds, and another field counts the requests of each. */
function readRiot(fields: FieldReader, type: string): Found {
  const parse = (text: string) => {
    const pairs = text.split(',').map((item) => parsePair(item.trim(), ':'));
    return pairs.includes(null) ? null : (pairs as [number, number][]);
  };
  const quotas = fields.read(`x-${type}-rate-limit`, parse) ?? [];
  const counts = fields.read(`x-${type}-rate-limit-count`, parse) ?? [];
  const valid = quotas.filter(([quota, seconds]) => quota > 0 && seconds > 0);
  return {
    policies: valid.map(([quota, seconds]) => policyOf(`${type}-${seconds}`, quota, seconds)),
    limits: valid.flatMap(([quota, seconds]) => {
      const counted = counts.find(([, window]) => window === seconds)?.[0];
      if (counted === undefined) return [];
      return [limitOf({ name: `${type}-${seconds}` }, quota, quota - counted, null)];
    }),
  };
}

function parsePair(text: string, separator: string): [number, number] | null {
  const [first = '', second = '', ...others] = text.split(separator);
  const [a, b] = [parseDecimal(first), parseDecimal(second)];
  return a === null || b === null || others.length > 0 ? null : [a, b];
}
