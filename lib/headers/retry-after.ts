// Retry-After, and the dates of HTTP (RFC 9110, sections 10.2.3 and 5.6.7).

import { refusedNumber } from '../common/errors.js';

/** The most seconds that a Retry-After is taken for: 68 years, 2^31 - 1, as for other delta-seconds. */
export const MOST_RETRY_AFTER = 2_147_483_647;

/**
 * Seconds to wait that a Retry-After asks for, from 0 to 2,147,483,647: whole ones where it gives
 * seconds; where it gives a date, in any of the three forms of HTTP, those from `now` to it, 0 if it
 * is past. Null for anything else.
 *
 * @param now epoch milliseconds that dates count from; default: this machine's clock
 * @throws ERR_LIMITER_OPTION for a `now` that is no finite number
 */
export function parseRetryAfter(value: string, now: number = Date.now()): number | null {
  requireNow(now);
  if (typeof value !== 'string') return null;
  const text = value.trim();
  // Number() would take 1.5, 1e9, 0x10, Infinity and the empty string.
  if (/^\d+$/.test(text)) return Math.min(Number(text), MOST_RETRY_AFTER);
  const date = parseHttpDate(text, now);
  return date === null ? null : Math.min(secondsUntil(date, now), MOST_RETRY_AFTER);
}

/** Throws `ERR_LIMITER_OPTION` unless `now` is a time. */
export function requireNow(now: unknown): asserts now is number {
  if (!Number.isFinite(now)) {
    throw refusedNumber('ERR_LIMITER_OPTION', 'now', now, 'a finite number of epoch milliseconds');
  }
}

/** Never negative. Both in epoch milliseconds. */
export function secondsUntil(date: number, now: number): number {
  return Math.max(0, (date - now) / 1000);
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const DAY = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)';
const LONG_DAY = '(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day';
const MONTH = `(?<month>${MONTHS.join('|')})`;
const TIME = '(?<hour>[01]\\d|2[0-3]):(?<minute>[0-5]\\d):(?<second>[0-5]\\d|60)';

const FORMS = [
  // IMF-fixdate, rfc850, asctime: all of them UTC, and case-sensitive.
  `${DAY}, (?<day>\\d\\d) ${MONTH} (?<year>\\d{4}) ${TIME} GMT`,
  `${LONG_DAY}, (?<day>\\d\\d)-${MONTH}-(?<year>\\d\\d) ${TIME} GMT`,
  `${DAY} ${MONTH} (?<day>\\d\\d| \\d) ${TIME} (?<year>\\d{4})`,
].map((form) => new RegExp(`^${form}$`));

/**
 * An HTTP-date as epoch milliseconds; null for anything else, also for a day that its month does not
 * have. `now` tells the century of a year of two digits: no date is more than 50 years ahead.
 */
export function parseHttpDate(text: string, now: number): number | null {
  for (const form of FORMS) {
    const parts = form.exec(text)?.groups;
    if (parts !== undefined) return epochOf(parts, now);
  }
  return null;
}

function epochOf(parts: Record<string, string>, now: number): number | null {
  const { day, month = '', year = '', hour, minute, second } = parts;
  const inYear = (y: number) =>
    Date.UTC(y, MONTHS.indexOf(month), Number(day), Number(hour), Number(minute), Number(second));
  const date = year.length === 2 ? newest(Number(year), inYear, now) : inYear(Number(year));
  // The 30th of February would be the 2nd of March. A leap second may be the next day's first.
  const start = second === '60' ? date - 1000 : date;
  return new Date(start).getUTCDate() === Number(day) ? date : null;
}

/** The last date with that year in its century which is at most 50 years ahead of `now`. */
function newest(year: number, inYear: (year: number) => number, now: number): number {
  const horizon = new Date(now);
  horizon.setUTCFullYear(horizon.getUTCFullYear() + 50);
  const century = Math.floor(horizon.getUTCFullYear() / 100) * 100;
  const date = inYear(century + year);
  return date <= horizon.getTime() ? date : inYear(century - 100 + year);
}
