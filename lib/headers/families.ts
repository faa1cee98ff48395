// The vendor fields from before and beside the drafts. The families differ only in their names and in the
// format of their resets, so a table describes them.

import { limitOfFields } from './drafts.js';
import type { FieldReader } from './fields.js';
import { type FieldResetFormat, parseDecimal, type ResetReader } from './resets.js';
import type { ServiceLimit } from './types.js';

interface VendorFamily {
  /** The name of the limit; null if the vendor has only one. */
  name: string | null;
  limit: string;
  remaining: string;
  reset: string;
  /** A field that is always in seconds from now. It overrides `reset`. */
  resetAfter?: string;
  resetFormat: FieldResetFormat;
}

const FAMILIES: readonly VendorFamily[] = [
  // GitHub, Zalando, Vimeo, Discord, X and many more.
  ...['x-ratelimit', 'x-rate-limit'].map((prefix) => ({
    name: null,
    limit: `${prefix}-limit`,
    remaining: `${prefix}-remaining`,
    reset: `${prefix}-reset`,
    resetAfter: `${prefix}-reset-after`,
    resetFormat: 'auto' as const,
  })),
  // OpenAI.
  ...['requests', 'tokens'].map((name) => ({
    name,
    limit: `x-ratelimit-limit-${name}`,
    remaining: `x-ratelimit-remaining-${name}`,
    reset: `x-ratelimit-reset-${name}`,
    resetFormat: 'duration' as const,
  })),
  // Anthropic.
  ...['requests', 'tokens', 'input-tokens', 'output-tokens'].map((name) => ({
    name,
    limit: `anthropic-ratelimit-${name}-limit`,
    remaining: `anthropic-ratelimit-${name}-remaining`,
    reset: `anthropic-ratelimit-${name}-reset`,
    resetFormat: 'date' as const,
  })),
];

/** Reads the limits of every family that has fields in the response. */
export function readFamilies(fields: FieldReader, readReset: ResetReader): ServiceLimit[] {
  return FAMILIES.flatMap((family) => {
    const limit = fields.read(family.limit, parseInteger);
    const remaining = fields.read(family.remaining, parseRemaining);
    const after = family.resetAfter ? fields.read(family.resetAfter, parseDecimal) : null;
    const resetSeconds =
      after ?? fields.read(family.reset, (text) => readReset(text, family.resetFormat));
    return limitOfFields({ name: family.name, limit, remaining, resetSeconds });
  });
}

function parseInteger(text: string): number | null {
  return /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** Some servers count below 0 when they refuse requests: then 0 units remain. */
function parseRemaining(text: string): number | null {
  return /^-\d{1,15}$/.test(text) ? 0 : parseInteger(text);
}
