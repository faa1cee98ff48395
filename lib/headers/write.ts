// Writes values as Structured Fields. A value that they cannot represent is an error, which names the option that
// holds the value.

import {
  isAscii,
  isValidKeyStr,
  serializeBoolean,
  serializeDate,
  serializeString,
} from 'structured-headers';
import { invalidNumber, invalidValue } from '../common/errors.js';

/** The largest Integer: 15 digits. */
const MAX_INTEGER = 999_999_999_999_999;
/** Decimals must be smaller: 12 digits before the point. */
const DECIMAL_LIMIT = 1e12;

/** Rounds an amount down, so that no client is promised more than there is. */
export function writeAmount(name: string, given: unknown): number {
  return round(name, given, Math.floor, 0);
}

/** Rounds a duration up, so that no client comes too early. */
export function writeSeconds(name: string, given: unknown): number {
  return round(name, given, Math.ceil, 0);
}

/** Rounds the length of a window up; it must not be 0. */
export function writeWindow(name: string, given: unknown): number {
  return round(name, given, Math.ceil, 1);
}

function round(name: string, given: unknown, to: (n: number) => number, min: number): number {
  const rounded = typeof given === 'number' && given >= 0 ? to(given) : Number.NaN;
  if (rounded >= min && rounded <= MAX_INTEGER) return rounded;
  const accepted = `a number ${min > 0 ? 'greater than' : 'of at least'} 0, of at most 15 digits`;
  throw invalidNumber('ERR_LIMITER_OPTION', name, given, accepted);
}

/** Writes a value that may be absent: null and undefined become null. */
export function writeOptional<T>(
  write: (name: string, given: unknown) => T,
  name: string,
  given: unknown,
): T | null {
  return given === undefined || given === null ? null : write(name, given);
}

export function writeString(name: string, given: unknown): string {
  if (typeof given === 'string' && isAscii(given)) return serializeString(given);
  throw invalidValue('ERR_LIMITER_OPTION', name, given, 'a string of printable ASCII');
}

/** Writes a partition key, which is given in base64. */
export function writeBytes(name: string, given: unknown): string {
  try {
    if (typeof given === 'string') return `:${btoa(atob(given))}:`;
  } catch {}
  throw invalidValue('ERR_LIMITER_OPTION', name, given, 'base64');
}

/** Writes the parameters that no draft defines: `;key=value` for each. */
export function writeExtensions(
  name: string,
  given: object | undefined,
  reserved: readonly string[],
): string {
  return Object.entries(given ?? {})
    .map(([key, value]) => {
      if (isValidKeyStr(key) && !reserved.includes(key)) {
        return writeParameter(key, writeBareItem(`${name}.${key}`, value));
      }
      const accepted = `lower-case keys of Structured Fields other than ${reserved.join(', ')}`;
      throw invalidValue('ERR_LIMITER_OPTION', `the keys of ${name}`, key, accepted);
    })
    .join('');
}

/** Writes a parameter; null becomes the empty string. */
export function writeParameter(key: string, value: string | number | null): string {
  return value === null ? '' : `;${key}=${value}`;
}

function writeBareItem(name: string, given: unknown): string {
  const written = WRITERS[typeof given]?.(given as never) ?? null;
  if (written !== null) return written;
  const accepted = 'a string, a boolean, a Date, or a number of 15 digits (12 before a point)';
  throw invalidValue('ERR_LIMITER_OPTION', name, given, accepted);
}

/** The writers by the type of the value. They return null for a value that cannot be represented. */
const WRITERS: Readonly<Record<string, (value: never) => string | null>> = {
  boolean: serializeBoolean,
  string: (text: string) => (isAscii(text) ? serializeString(text) : writeDisplayString(text)),
  number(n: number) {
    if (Number.isInteger(n)) return Math.abs(n) <= MAX_INTEGER ? String(n) : null;
    // Decimals have at most three digits after the point.
    return Math.abs(n) < DECIMAL_LIMIT ? String(Math.round(n * 1000) / 1000) : null;
  },
  object(date: unknown) {
    const isValid = date instanceof Date && !Number.isNaN(date.getTime());
    return isValid ? serializeDate(date) : null;
  },
};

// Replaces serializeDisplayString() of structured-headers 2.1.0, which writes a line feed as %a instead of %0a.
function writeDisplayString(text: string): string | null {
  try {
    return `%"${encodeURIComponent(text).replace(/%../g, (code) => code.toLowerCase())}"`;
  } catch {
    return null; // The text contains a lone surrogate.
  }
}
