// The fields that vendors made up before and beside the drafts. Families differ in their names and in how
// they say a reset, and in nothing else: they are a table.

import { limitOfFields } from './drafts.js';
import type { FieldReader } from './fields.js';
import { decimal, type ResetReader, type UsualFormat } from './resets.js';
import type { ServiceLimit } from './types.js';

interface Family {
  /** Which of a vendor's limits; null where it has one. */
  name: string | null;
  limit: string;
  remaining: string;
  reset: string;
  /** Seconds from now, for certain: goes before `reset`. */
  resetAfter?: string;
  resets: UsualFormat;
}

const FAMILIES: readonly Family[] = [
  // GitHub, Zalando, Vimeo, Discord, X and many more.
  ...['x-ratelimit', 'x-rate-limit'].map((prefix) => ({
    name: null,
    limit: `${prefix}-limit`,
    remaining: `${prefix}-remaining`,
    reset: `${prefix}-reset`,
    resetAfter: `${prefix}-reset-after`,
    resets: 'auto' as const,
  })),
  // OpenAI.
  ...['requests', 'tokens'].map((name) => ({
    name,
    limit: `x-ratelimit-limit-${name}`,
    remaining: `x-ratelimit-remaining-${name}`,
    reset: `x-ratelimit-reset-${name}`,
    resets: 'duration' as const,
  })),
  // Anthropic.
  ...['requests', 'tokens', 'input-tokens', 'output-tokens'].map((name) => ({
    name,
    limit: `anthropic-ratelimit-${name}-limit`,
    remaining: `anthropic-ratelimit-${name}-remaining`,
    reset: `anthropic-ratelimit-${name}-reset`,
    resets: 'date' as const,
  })),
];

/** The limits of every family that the response has fields of. */
export function readFamilies(fields: FieldReader, readReset: ResetReader): ServiceLimit[] {
  return FAMILIES.flatMap((family) => {
    const limit = fields.read(family.limit, whole);
    const remaining = fields.read(family.remaining, wholeOrLess);
    const after = family.resetAfter ? fields.read(family.resetAfter, decimal) : null;
    const resetSeconds =
      after ?? fields.read(family.reset, (text) => readReset(text, family.resets));
    return limitOfFields({ name: family.name, limit, remaining, resetSeconds });
  });
}

function whole(text: string): number | null {
  return /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** Some servers count below 0 when they refuse: nothing is left. */
function wholeOrLess(text: string): number | null {
  return /^-\d{1,15}$/.test(text) ? 0 : whole(text);
}
