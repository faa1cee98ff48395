// The fields of vendors from before and beside the drafts. Most families differ only in their names, so a table
// describes them.

import { readPolicies } from './drafts.js';
import type { FieldReader } from './fields.js';
import type { ResetReader } from './resets.js';
import { type Found, readTriple, type Triple } from './triples.js';
import { VENDOR_READERS } from './vendors.js';

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

type Reader = (fields: FieldReader, readReset: ResetReader) => Found;

/** The readers of all families, each with the names of its fields. */
const READERS: readonly (readonly [read: Reader, names: readonly string[]])[] = [
  ...FAMILIES.map((family): [Reader, string[]] => [
    (fields, readReset) => readTriple(fields, family, readReset),
    namesOf(family),
  ]),
  ...PREFIXES.map((prefix): [Reader, string[]] => [
    (fields) => ({ limits: [], policies: readPolicies(fields, `${prefix}-policy`) }),
    [`${prefix}-policy`],
  ]),
  ...VENDOR_READERS,
];

/** The position in `READERS` of the reader of each field. */
const READER_OF_FIELD = new Map(
  READERS.flatMap(([, names], position) => names.map((name) => [name, position] as const)),
);

/** The names of all fields of the draft's triple and of the families. */
export const FAMILY_FIELDS: readonly string[] = [
  ...namesOf(DRAFT_TRIPLE),
  ...READER_OF_FIELD.keys(),
];

function namesOf({ limit, remaining, reset, resetAfter }: Triple): string[] {
  const names = [limit, remaining, reset];
  return resetAfter === undefined ? names : [...names, resetAfter];
}

/** Reads the limits and policies of every family that has fields in the response. */
export function readFamilies(fields: FieldReader, readReset: ResetReader): Found {
  const found: Found = { limits: [], policies: [] };
  for (const position of positionsOf(fields)) {
    const { limits, policies } = (READERS[position] as (typeof READERS)[number])[0](
      fields,
      readReset,
    );
    found.limits.push(...limits);
    found.policies.push(...policies);
  }
  return found;
}

/** Returns the positions of the readers that have fields in the response, in order. */
function positionsOf(fields: FieldReader): number[] {
  const positions: number[] = [];
  for (const name of fields.names()) {
    const position = READER_OF_FIELD.get(name);
    if (position !== undefined && !positions.includes(position)) positions.push(position);
  }
  return positions.sort((a, b) => a - b);
}
