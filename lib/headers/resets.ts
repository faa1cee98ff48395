// The time until a quota resets. Servers give it in seconds or milliseconds from now, in seconds or milliseconds
// since the epoch, as a date, or as a duration.

import { parseDecimal } from './numbers.js';
import { parseHttpDate, secondsBetween } from './retry-after.js';

/**
 * The format of a reset. `delta`: seconds from now, or a duration such as `6m0s`; `delta-ms`: milliseconds from now;
 * `epoch`: seconds or milliseconds since 1970; `date`: a date in a format of HTTP, ISO 8601 or JavaScript; `auto`: the
 * format is recognized from the text.
 */
export type ResetFormat = 'auto' | 'delta' | 'delta-ms' | 'epoch' | 'date';

/** The formats by their names in the option `resetFormat`. */
export const RESET_FORMATS: readonly unknown[] = [
  'auto',
  'delta',
  'delta-ms',
  'epoch',
  'date',
] satisfies ResetFormat[];

/** The time until a reset. */
export interface Reset {
  /** At least 0. */
  readonly seconds: number;
  /** Whether the server gave a fraction of a second, so that it has not rounded the time to whole seconds. */
  readonly isExact: boolean;
}

/** Reads the text of a reset; null for invalid text. */
export type ResetReader = (text: string) => Reset | null;

/** Returns a reader for resets in `format`. `now` returns epoch milliseconds. */
export function createResetReader(format: ResetFormat, now: () => number): ResetReader {
  const read = READERS[format];
  return (text) => read(text, now);
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
  us: 1e-6,
  ns: 1e-9,
};
const DURATION = /^(\d{1,9}(\.\d{1,9})?(ms|µs|us|ns|[dhms])){1,8}$/;
const DURATION_PART = /([\d.]+)(\D+)/g;
/** Whether a duration has units below a second or fractions. */
const HAS_FRACTION = /\.|ms|µs|us|ns/;

const READERS: Record<ResetFormat, (text: string, now: () => number) => Reset | null> = {
  auto(text, now) {
    const number = parseDecimal(text);
    if (number === null) return readDuration(text) ?? READERS.date(text, now);
    return number < MIN_EPOCH_SECONDS ? readSeconds(text) : READERS.epoch(text, now);
  },
  delta: (text) => readSeconds(text) ?? readDuration(text),
  'delta-ms'(text) {
    const milliseconds = parseDecimal(text);
    if (milliseconds === null) return null;
    return { seconds: milliseconds / 1000, isExact: milliseconds % 1000 !== 0 };
  },
  epoch(text, now) {
    const time = parseDecimal(text);
    if (time === null) return null;
    const milliseconds = time < MIN_EPOCH_MS ? time * 1000 : time;
    return { seconds: secondsBetween(now(), milliseconds), isExact: milliseconds % 1000 !== 0 };
  },
  date(text, now) {
    const httpDate = parseHttpDate(text, now());
    if (httpDate !== null) return { seconds: secondsBetween(now(), httpDate), isExact: false };
    const isOther = ISO_DATE.test(text) || JAVASCRIPT_DATE.test(text);
    const date = isOther ? Date.parse(text) : Number.NaN;
    if (Number.isNaN(date)) return null;
    return { seconds: secondsBetween(now(), date), isExact: date % 1000 !== 0 };
  },
};

function readSeconds(text: string): Reset | null {
  const seconds = parseDecimal(text);
  return seconds === null ? null : { seconds, isExact: text.includes('.') };
}

function readDuration(text: string): Reset | null {
  if (!DURATION.test(text)) return null;
  let seconds = 0;
  for (const [, amount, unit = ''] of text.matchAll(DURATION_PART)) {
    seconds += Number(amount) * (UNIT_SECONDS[unit] ?? 0);
  }
  return { seconds, isExact: HAS_FRACTION.test(text) };
}
