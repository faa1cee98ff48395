// The wait that a response asks for: Retry-After, and fields of vendors beside it.

import type { FieldReader } from './fields.js';
import { parseDecimal } from './numbers.js';
import { MAX_RETRY_AFTER, parseRetryAfter, parseStandardRetryAfter } from './retry-after.js';

/** Fields in milliseconds of OpenAI and Azure, which are more precise than the `Retry-After` beside them. */
const MILLISECOND_FIELDS = ['retry-after-ms', 'x-ms-retry-after-ms'];

/** The names of all fields that `readWait` reads. */
export const WAIT_FIELDS: readonly string[] = ['retry-after', ...MILLISECOND_FIELDS];

/** Reads the wait that a response asks for. `now` returns epoch milliseconds. */
export function readWait(fields: FieldReader, now: () => number): number | null {
  const parse = fields.isStrict ? parseStandardRetryAfter : parseRetryAfter;
  let seconds = fields.read('retry-after', (text) => parse(text, now()));
  if (fields.isStrict) return seconds;
  for (const name of MILLISECOND_FIELDS) {
    const milliseconds = fields.read(name, parseDecimal);
    if (milliseconds !== null) seconds = Math.min(milliseconds / 1000, MAX_RETRY_AFTER);
  }
  return seconds;
}
