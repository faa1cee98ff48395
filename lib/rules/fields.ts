// Reads fields of options, with the path of each value for errors.

import { invalidNumber, invalidValue, limiterError, show } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';

export type Fields = Readonly<Record<string, unknown>>;

/** The path of a value, such as `rules.messages` or `rules["connects a minute"]`: a text only if an error needs it. */
export type Path = string | FieldPath;

class FieldPath {
  readonly #parent: Path;
  readonly #name: string;

  constructor(parent: Path, name: string) {
    this.#parent = parent;
    this.#name = name;
  }

  toString(): string {
    const name = this.#name;
    return /^[a-z_$][\w$]*$/i.test(name)
      ? `${this.#parent}.${name}`
      : `${this.#parent}[${show(name)}]`;
  }
}

export function at(parent: Path, name: string): Path {
  return new FieldPath(parent, name);
}

/**
 * The entries of an object by names; those with the value undefined are left out. A name of a property is a string of its
 * own, not a piece of another one.
 */
export function named(given: unknown, path: Path): [name: string, value: unknown][] {
  if (!isRecord(given)) throw invalid(path, given, 'an object by names');
  const entries: [string, unknown][] = [];
  for (const name of Object.keys(given)) {
    const value = given[name];
    if (value === undefined) continue;
    if (!isName(name)) throw invalidName(`a name in ${path}`, name);
    entries.push([name, value]);
  }
  return entries;
}

export function requireName(name: string, what: string): void {
  if (!isName(name)) throw invalidName(what, name);
}

/**
 * Names like integers are refused, because objects list them first, whatever the order of declaration; and those of
 * Object.prototype, because an object without such a field seems to have it.
 */
function isName(name: string): boolean {
  return name !== '' && !/^\d+$/.test(name) && !(name in Object.prototype);
}

function invalidName(what: string, name: string): Error {
  return invalid(what, name, 'a word that is neither a number nor a name of Object.prototype');
}

export function fields(given: unknown, path: Path, names: readonly string[]): Fields {
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
  path: Path,
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

export function tooMany(what: string, length: number, most: number): Error {
  const message = `${what} must be at most ${most}, got ${length}`;
  return limiterError(RangeError, 'ERR_LIMITER_OPTION', message);
}

export function invalid(path: Path, given: unknown, accepted: string): Error {
  return invalidValue('ERR_LIMITER_OPTION', String(path), given, accepted);
}
