// The fields of vendors from before and beside the drafts. Most families differ only in their names, so a table
// describes them.

import { readPolicies } from './drafts.js';
import type { FieldReader } from './fields.js';
import type { ResetReader } from './resets.js';
import { type Found, readTriple, type Triple } from './triples.js';
import { VENDOR_FIELDS, VENDOR_READERS } from './vendors.js';

/** The three fields of the drafts -00 to -06. */
export const DRAFT_TRIPLE: Triple = {
  name: null,
  limit: 'ratelimit-limit',
  remaining: 'ratelimit-remaining',
  reset: 'ratelimit-reset',
  countsBelowZero: false,
};

/** Fields of GitHub, Zalando, Vimeo, Discord, X and many more. */
const PREFIXES = ['x-ratelimit', 'x-rate-limit'];

const FAMILIES: readonly Triple[] = [
  ...PREFIXES.map((prefix) => ({
    name: null,
    limit: `${prefix}-limit`,
    remaining: `${prefix}-remaining`,
    reset: `${prefix}-reset`,
    resetAfter: `${prefix}-reset-after`,
    countsBelowZero: true,
  })),
  // OpenAI, Azure, Groq and others.
  ...['requests', 'tokens'].map((unit) => tripleOf(unit, (part) => `x-ratelimit-${part}-${unit}`)),
  // Anthropic.
  ...['requests', 'tokens', 'input-tokens', 'output-tokens'].map((unit) =>
    tripleOf(unit, (part) => `anthropic-ratelimit-${unit}-${part}`),
  ),
  // Linear.
  ...['requests', 'complexity'].map((unit) =>
    tripleOf(unit, (part) => `x-ratelimit-${unit}-${part}`),
  ),
  {
    ...tripleOf('requests', (part) => `x-ratelimit-endpoint-requests-${part}`),
    name: 'endpoint-requests',
  },
];

/** Returns a family whose limit is named by what it counts. */
function tripleOf(unit: string, field: (part: string) => string): Triple {
  return {
    name: unit,
    unit,
    limit: field('limit'),
    remaining: field('remaining'),
    reset: field('reset'),
    countsBelowZero: true,
  };
}

/** The names of all fields of the draft's triple and of the families. */
export const FAMILY_FIELDS: readonly string[] = [
  ...PREFIXES.map((prefix) => `${prefix}-policy`),
  ...[DRAFT_TRIPLE, ...FAMILIES].flatMap(({ limit, remaining, reset, resetAfter = [] }) =>
    [limit, remaining, reset].concat(resetAfter),
  ),
  ...VENDOR_FIELDS,
];

/** Reads the limits and policies of every family that has fields in the response. */
export function readFamilies(fields: FieldReader, readReset: ResetReader): Found {
  const found = [
    ...FAMILIES.map((family) => readTriple(fields, family, readReset)),
    ...VENDOR_READERS.map((read) => read(fields)),
  ];
  return {
    limits: found.flatMap(({ limits }) => limits),
    policies: [
      ...PREFIXES.flatMap((prefix) => readPolicies(fields, `${prefix}-policy`)),
      ...found.flatMap(({ policies }) => policies),
    ],
  };
}
