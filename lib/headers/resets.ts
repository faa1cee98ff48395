// When a quota comes back: servers say it in seconds from now, in seconds or milliseconds since the epoch,
// as a date, or as a duration.

import { parseHttpDate, secondsUntil } from './retry-after.js';
import { countOfItem } from './structured-fields.js';

/**
 * What a reset is: seconds from now (`delta`), seconds or milliseconds since the epoch (`epoch`), a date
 * of HTTP, of ISO 8601 or of JavaScript (`date`), or whatever it looks like (`auto`).
 */
export type ResetFormat = 'auto' | 'delta' | 'epoch' | 'date';

/** `integer`: delta, by the letter of the drafts. `duration`: as Go writes them. */
export type UsualFormat = ResetFormat | 'integer' | 'duration';

/** Seconds until a reset, not negative; null for what is none. `usual` is how the field's family says it. */
export type ResetReader = (text: string, usual: UsualFormat) => number | null;

/** Reads resets in `format`, or, where that is `auto`, as is usual. `now` gives epoch milliseconds. */
export function resetReader(format: ResetFormat, now: () => number): ResetReader {
  return (text, usual) => FORMATS[format === 'auto' ? usual : format](text, now);
}

// 2001 in seconds and in milliseconds; no wait is as long.
const FIRST_EPOCH = 1e9;
const FIRST_EPOCH_MS = 1e12;

// ISO 8601 with a zone, and what a Date of JavaScript shows: Date.parse() reads them alike everywhere.
const ISO_DATE = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/;
const SHOWN_DATE =
  /^[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d{4} \d\d:\d\d:\d\d GMT[+-]\d{4}( \([\w ]+\))?$/;

const UNITS: Readonly<Record<string, number>> = {
  d: 86_400,
  h: 3600,
  m: 60,
  s: 1,
  ms: 1e-3,
  µs: 1e-6,
  ns: 1e-9,
};
const DURATION = /^(\d{1,9}(\.\d{1,9})?(ms|µs|ns|[dhms])){1,8}$/;
const AMOUNT = /([\d.]+)(\D+)/g;

const FORMATS: Record<UsualFormat, (text: string, now: () => number) => number | null> = {
  auto(text, now) {
    if (/[a-z]/i.test(text)) return FORMATS.date(text, now);
    return Number(text) < FIRST_EPOCH ? decimal(text) : FORMATS.epoch(text, now);
  },
  delta: decimal,
  epoch(text, now) {
    const time = decimal(text);
    if (time === null) return null;
    return secondsUntil(time < FIRST_EPOCH_MS ? time * 1000 : time, now());
  },
  date(text, now) {
    const date = parseHttpDate(text, now());
    if (date !== null) return secondsUntil(date, now());
    const other = ISO_DATE.test(text) || SHOWN_DATE.test(text) ? Date.parse(text) : Number.NaN;
    return Number.isNaN(other) ? null : secondsUntil(other, now());
  },
  integer: countOfItem,
  duration(text) {
    if (!DURATION.test(text)) return null;
    let seconds = 0;
    for (const [, amount, unit = ''] of text.matchAll(AMOUNT)) {
      seconds += Number(amount) * (UNITS[unit] ?? 0);
    }
    return seconds;
  },
};

/** A number without sign or exponent; null for anything else. */
export function decimal(text: string): number | null {
  return /^\d{1,15}(\.\d{1,9})?$/.test(text) ? Number(text) : null;
}
