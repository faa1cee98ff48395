// Reads fields of snapshots, with the path of each value for errors. @throws `ERR_LIMITER_SNAPSHOT`

import { invalidNumber, limiterError, show } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';

export function requireNumber(given: unknown, path: string): number {
  if (typeof given === 'number' && given >= 0 && given < Infinity) return given;
  throw invalid(path, given, 'a finite number of at least 0');
}

/** Returns an object that has no fields but `names`. A missing field is undefined, which its reader rejects. */
export function fields(
  given: unknown,
  path: () => string,
  names: readonly string[],
): Readonly<Record<string, unknown>> {
  if (!isRecord(given)) throw invalid(path(), given, 'an object');
  for (const name of Object.keys(given)) {
    if (names.includes(name)) continue;
    const message = `${path()} must have ${names.join(', ')} and nothing else, got ${show(name)}`;
    throw limiterError(TypeError, 'ERR_LIMITER_SNAPSHOT', message);
  }
  return given;
}

export function invalid(path: string, given: unknown, accepted: string): Error {
  return invalidNumber('ERR_LIMITER_SNAPSHOT', path, given, accepted);
}
