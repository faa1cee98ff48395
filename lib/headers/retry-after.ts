// Retry-After and the dates of HTTP (RFC 9110, sections 10.2.3 and 5.6.7).

import { invalidNumber } from '../common/errors.js';

/** The maximum of a Retry-After in seconds: 2^31 - 1, about 68 years, as for other delta-seconds of HTTP. */
export const MAX_RETRY_AFTER = 2_147_483_647;

/**
 * Returns the seconds to wait that a `Retry-After` value asks for, from 0 to 2,147,483,647; null if the value is
 * invalid. The value is a number of seconds, of which fractions are rounded up, or a date in any of the three formats
 * of HTTP: then the result is the time from `now` until that date, 0 if the date has passed.
 *
 * @param now the current time in epoch milliseconds, for dates; default: this machine's clock
 * @throws ERR_LIMITER_OPTION if `now` is not a finite number
 *
 * @example
 * import { parseRetryAfter } from 'relay-limiter/headers';
 *
 * console.log(parseRetryAfter('120')); // 120
 * const now = Date.parse('2026-01-01T00:00:00Z');
 * console.log(parseRetryAfter('Thu, 01 Jan 2026 00:00:30 GMT', now)); // 30
 * console.log(parseRetryAfter('soon')); // null
 */
export function parseRetryAfter(value: string, now: number = Date.now()): number | null {
  requireNow(now);
  if (typeof value !== 'string') return null;
  const text = value.trim();
  // HTTP allows whole seconds only, but some servers send fractions.
  if (/^\d+\.\d+$/.test(text)) return Math.min(Math.ceil(Number(text)), MAX_RETRY_AFTER);
  return parseStandardRetryAfter(text, now);
}

/** Returns the seconds of a value that RFC 9110 allows; null for any other value. */
export function parseStandardRetryAfter(text: string, now: number): number | null {
  // Number() would accept 1e9, 0x10, Infinity and the empty string.
  if (/^\d+$/.test(text)) return Math.min(Number(text), MAX_RETRY_AFTER);
  const date = parseHttpDate(text, now);
  return date === null ? null : Math.min(secondsBetween(now, date), MAX_RETRY_AFTER);
}

/** @throws ERR_LIMITER_OPTION unless `now` is a finite number */
export function requireNow(now: unknown): asserts now is number {
  if (!Number.isFinite(now)) {
    throw invalidNumber('ERR_LIMITER_OPTION', 'now', now, 'a finite number of epoch milliseconds');
  }
}

/** Returns the seconds from `now` until `date`, both in epoch milliseconds; 0 if `date` has passed. */
export function secondsBetween(now: number, date: number): number {
  return Math.max(0, (date - now) / 1000);
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const DAY = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)';
const LONG_DAY = '(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day';
const MONTH = `(?<month>${MONTHS.join('|')})`;
const TIME = '(?<hour>[01]\\d|2[0-3]):(?<minute>[0-5]\\d):(?<second>[0-5]\\d|60)';

const DATE_FORMATS = [
  // IMF-fixdate, rfc850-date and asctime-date: all are in UTC and case-sensitive.
  `${DAY}, (?<day>\\d\\d) ${MONTH} (?<year>\\d{4}) ${TIME} GMT`,
  `${LONG_DAY}, (?<day>\\d\\d)-${MONTH}-(?<year>\\d\\d) ${TIME} GMT`,
  `${DAY} ${MONTH} (?<day>\\d\\d| \\d) ${TIME} (?<year>\\d{4})`,
].map((format) => new RegExp(`^${format}$`));

/**
 * Returns an HTTP-date in epoch milliseconds; null for anything else, including a day that the month does not
 * have. `now` determines the century of a year with two digits: no date is more than 50 years ahead.
 */
export function parseHttpDate(text: string, now: number): number | null {
  // Many responses come within one second.
  if (text === latest.text) return latest.epochMs;
  const epochMs = readHttpDate(text, now);
  if (epochMs !== null && HAS_FULL_YEAR.test(text)) latest = { text, epochMs };
  return epochMs;
}

let latest: { readonly text: string; readonly epochMs: number | null } = {
  text: '',
  epochMs: null,
};
const HAS_FULL_YEAR = /\b\d{4}\b/;

function readHttpDate(text: string, now: number): number | null {
  for (const format of DATE_FORMATS) {
    const parts = format.exec(text)?.groups;
    if (parts !== undefined) return toEpochMs(parts, now);
  }
  return null;
}

function toEpochMs(parts: Record<string, string>, now: number): number | null {
  const { day, month = '', year = '', hour, minute, second } = parts;
  const inYear = (y: number) =>
    Date.UTC(y, MONTHS.indexOf(month), Number(day), Number(hour), Number(minute), Number(second));
  const date = year.length === 2 ? inCentury(Number(year), inYear, now) : inYear(Number(year));
  // Date.UTC turns the 30th of February into the 2nd of March. A leap second (60) may be the first second of the
  // next day, so the check looks at the second before.
  const checked = second === '60' ? date - 1000 : date;
  return new Date(checked).getUTCDate() === Number(day) ? date : null;
}

/** Returns the latest date with that two-digit year that is at most 50 years ahead of `now`. */
function inCentury(year: number, inYear: (year: number) => number, now: number): number {
  const horizon = new Date(now);
  horizon.setUTCFullYear(horizon.getUTCFullYear() + 50);
  const century = Math.floor(horizon.getUTCFullYear() / 100) * 100;
  const date = inYear(century + year);
  return date <= horizon.getTime() ? date : inYear(century - 100 + year);
}
