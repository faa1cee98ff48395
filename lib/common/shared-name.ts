// The names of shared tables.

import { invalidValue, type LimiterError } from './errors.js';

const NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/;
/** Absolute on some system. Which of them are absolute on this one decides `sharedPathOf`. */
const ABSOLUTE_PATH = /^(?:\/|\\\\|[A-Za-z]:[\\/])[^\0]+$/;

/** Whether a text is a name, and not a path. */
export function isSharedName(text: string): boolean {
  return NAME.test(text);
}

/** @throws `ERR_LIMITER_OPTION` unless `value` is a name or an absolute path. */
export function requireShared(value: unknown): asserts value is string {
  if (typeof value !== 'string' || !(NAME.test(value) || ABSOLUTE_PATH.test(value))) {
    throw invalidShared(value);
  }
}

export function invalidShared(value: unknown): LimiterError {
  return invalidValue(
    'ERR_LIMITER_OPTION',
    'shared',
    value,
    "a name (1 to 64 letters, digits, '.', '_' and '-', the first no '.') or an absolute path",
  );
}
