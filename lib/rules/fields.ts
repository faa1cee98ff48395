// Reads fields of options, with the path of each value for errors.

import { invalidNumber, invalidValue, limiterError, show } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';
import { detachString } from '../common/strings.js';

export type Fields = Readonly<Record<string, unknown>>;

/** The entries of an object by names; those with the value undefined are left out. */
export function named(given: unknown, path: string): [name: string, value: unknown][] {
  if (!isRecord(given)) throw invalid(path, given, 'an object by names');
  const what = `a name in ${path}`;
  const entries: [string, unknown][] = [];
  for (const name of Object.keys(given)) {
    const value = given[name];
    if (value === undefined) continue;
    requireName(name, what);
    entries.push([detachString(name), value]);
  }
  return entries;
}

/**
 * Names like integers are refused, because objects list them first, whatever the order of declaration; and those of
 * Object.prototype, because an object without such a field seems to have it.
 */
export function requireName(name: string, what: string): void {
  if (name !== '' && !/^\d+$/.test(name) && !(name in Object.prototype)) return;
  throw invalid(what, name, 'a word that is neither a number nor a name of Object.prototype');
}

export function fields(given: unknown, path: string, names: readonly string[]): Fields {
  if (!isRecord(given)) throw invalid(path, given, 'an object');
  for (const name of Object.keys(given)) {
    if (names.includes(name)) continue;
    const message = `${path} must have no other fields than ${names.join(', ')}, got ${show(name)}`;
    throw limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
  }
  return given;
}

export function number(
  given: Fields,
  path: string,
  name: string,
  accepted: string,
  fits: (n: number) => boolean,
  fallback?: number,
): number {
  const value = given[name];
  if (value === undefined && fallback !== undefined) return fallback;
  if (typeof value === 'number' && Number.isFinite(value) && fits(value)) return value;
  throw invalidNumber('ERR_LIMITER_OPTION', `${path}.${name}`, value, accepted);
}

/** `rules.messages`, `rules["connects a minute"]`. */
export function at(path: string, name: string): string {
  return /^[a-z_$][\w$]*$/i.test(name) ? `${path}.${name}` : `${path}[${show(name)}]`;
}

export function tooMany(what: string, length: number, most: number): Error {
  const message = `${what} must be at most ${most}, got ${length}`;
  return limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
}

export function invalid(path: string, given: unknown, accepted: string): Error {
  return invalidValue('ERR_LIMITER_OPTION', path, given, accepted);
}
