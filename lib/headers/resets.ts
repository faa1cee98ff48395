// The time until a quota resets. Servers give it in seconds from now, in seconds or milliseconds since the epoch,
// as a date, or as a duration.

import { parseHttpDate, secondsBetween } from './retry-after.js';
import { readCount } from './structured-fields.js';

/**
 * The format of a reset. `delta`: seconds from now; `epoch`: seconds or milliseconds since 1970; `date`: a date in
 * a format of HTTP, ISO 8601 or JavaScript; `auto`: the format is recognized from the text.
 */
export type ResetFormat = 'auto' | 'delta' | 'epoch' | 'date';

/**
 * The format that a field has unless the caller gives another one. `integer`: seconds from now as an Integer, the
 * only format that the drafts allow; `duration`: a duration in the format of Go, such as `6m0s`.
 */
export type FieldResetFormat = ResetFormat | 'integer' | 'duration';

/** Returns the seconds until a reset, at least 0; null for invalid text. */
export type ResetReader = (text: string, fieldFormat: FieldResetFormat) => number | null;

/**
 * Returns a reader for resets in `format`, or, if that is `auto`, in the format of the field. `now` returns epoch
 * milliseconds.
 */
export function createResetReader(format: ResetFormat, now: () => number): ResetReader {
  return (text, fieldFormat) => PARSERS[format === 'auto' ? fieldFormat : format](text, now);
}

// September 2001 in seconds and in milliseconds. Smaller numbers are taken for a wait, which is never as long.
const MIN_EPOCH_SECONDS = 1e9;
const MIN_EPOCH_MS = 1e12;

// ISO 8601 with a time zone, and the output of Date.prototype.toString(). Date.parse() reads both in the same way
// on every platform.
const ISO_DATE = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/;
const JAVASCRIPT_DATE =
  /^[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d{4} \d\d:\d\d:\d\d GMT[+-]\d{4}( \([\w ]+\))?$/;

const UNIT_SECONDS: Readonly<Record<string, number>> = {
  d: 86_400,
  h: 3600,
  m: 60,
  s: 1,
  ms: 1e-3,
  µs: 1e-6,
  ns: 1e-9,
};
const DURATION = /^(\d{1,9}(\.\d{1,9})?(ms|µs|ns|[dhms])){1,8}$/;
const DURATION_PART = /([\d.]+)(\D+)/g;

const PARSERS: Record<FieldResetFormat, (text: string, now: () => number) => number | null> = {
  auto(text, now) {
    if (/[a-z]/i.test(text)) return PARSERS.date(text, now);
    return Number(text) < MIN_EPOCH_SECONDS ? parseDecimal(text) : PARSERS.epoch(text, now);
  },
  delta: parseDecimal,
  epoch(text, now) {
    const time = parseDecimal(text);
    if (time === null) return null;
    return secondsBetween(now(), time < MIN_EPOCH_MS ? time * 1000 : time);
  },
  date(text, now) {
    const httpDate = parseHttpDate(text, now());
    if (httpDate !== null) return secondsBetween(now(), httpDate);
    const isOther = ISO_DATE.test(text) || JAVASCRIPT_DATE.test(text);
    const date = isOther ? Date.parse(text) : Number.NaN;
    return Number.isNaN(date) ? null : secondsBetween(now(), date);
  },
  integer: readCount,
  duration(text) {
    if (!DURATION.test(text)) return null;
    let seconds = 0;
    for (const [, amount, unit = ''] of text.matchAll(DURATION_PART)) {
      seconds += Number(amount) * (UNIT_SECONDS[unit] ?? 0);
    }
    return seconds;
  },
};

/** Returns a number without sign and exponent; null for anything else. */
export function parseDecimal(text: string): number | null {
  return /^\d{1,15}(\.\d{1,9})?$/.test(text) ? Number(text) : null;
}
