// Values as Structured Fields write them. What they cannot write is refused under the name it was given by.

import {
  isAscii,
  isValidKeyStr,
  serializeBoolean,
  serializeDate,
  serializeString,
} from 'structured-headers';
import { refused, refusedNumber } from '../common/errors.js';

/** The largest Integer: 15 digits. */
const MOST = 999_999_999_999_999;
const MOST_DECIMAL = 1e12;

/** An amount, rounded down: no more than there is. */
export function amount(name: string, given: unknown): number {
  return whole(name, given, Math.floor, 0);
}

/** A duration, rounded up: no sooner than it is. */
export function seconds(name: string, given: unknown): number {
  return whole(name, given, Math.ceil, 0);
}

/** The same of a window, which is never 0. */
export function period(name: string, given: unknown): number {
  return whole(name, given, Math.ceil, 1);
}

function whole(name: string, given: unknown, round: (n: number) => number, least: number): number {
  const rounded = typeof given === 'number' && given >= 0 ? round(given) : Number.NaN;
  if (rounded >= least && rounded <= MOST) return rounded;
  const accepted = `a number ${least > 0 ? 'greater than' : 'of at least'} 0, of 15 digits at the most`;
  throw refusedNumber('ERR_LIMITER_OPTION', name, given, accepted);
}

/** Null stays null, and undefined becomes it. */
export function optional<T>(
  write: (name: string, given: unknown) => T,
  name: string,
  given: unknown,
): T | null {
  return given === undefined || given === null ? null : write(name, given);
}

export function quoted(name: string, given: unknown): string {
  if (typeof given === 'string' && isAscii(given)) return serializeString(given);
  throw refused('ERR_LIMITER_OPTION', name, given, 'a string of printable ASCII');
}

/** A partition key, given in base64. */
export function bytes(name: string, given: unknown): string {
  try {
    if (typeof given === 'string') return `:${btoa(atob(given))}:`;
  } catch {}
  throw refused('ERR_LIMITER_OPTION', name, given, 'base64');
}

/** Parameters that no draft names: `;key=value` for each. */
export function extensions(
  name: string,
  given: object | undefined,
  reserved: readonly string[],
): string {
  return Object.entries(given ?? {})
    .map(([key, value]) => {
      if (isValidKeyStr(key) && !reserved.includes(key)) {
        return parameter(key, bareItem(`${name}.${key}`, value));
      }
      const accepted = `lower-case keys of Structured Fields other than ${reserved.join(', ')}`;
      throw refused('ERR_LIMITER_OPTION', `the keys of ${name}`, key, accepted);
    })
    .join('');
}

/** Nothing for null. */
export function parameter(key: string, value: string | number | null): string {
  return value === null ? '' : `;${key}=${value}`;
}

function bareItem(name: string, given: unknown): string {
  const written = WRITERS[typeof given]?.(given as never) ?? null;
  if (written !== null) return written;
  const accepted = 'a string, a boolean, a Date, or a number of 15 digits (12 before a point)';
  throw refused('ERR_LIMITER_OPTION', name, given, accepted);
}

/** By the type of the value; null for one that cannot be written. */
const WRITERS: Readonly<Record<string, (value: never) => string | null>> = {
  boolean: serializeBoolean,
  string: (text: string) => (isAscii(text) ? serializeString(text) : displayString(text)),
  number(n: number) {
    if (Number.isInteger(n)) return Math.abs(n) <= MOST ? String(n) : null;
    // Decimals have three digits after the point.
    return Math.abs(n) < MOST_DECIMAL ? String(Math.round(n * 1000) / 1000) : null;
  },
  object(date: unknown) {
    const valid = date instanceof Date && !Number.isNaN(date.getTime());
    return valid ? serializeDate(date) : null;
  },
};

// serializeDisplayString() of structured-headers 2.1.0 writes a line feed as %a instead of %0a.
function displayString(text: string): string | null {
  try {
    return `%"${encodeURIComponent(text).replace(/%../g, (code) => code.toLowerCase())}"`;
  } catch {
    return null; // A lone surrogate.
  }
}
