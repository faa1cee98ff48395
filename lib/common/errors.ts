// The errors of this package, each with a stable `code`. A limited request is a result and not an error, unless the
// user requests an error for it.

import { isRevoked, kindOf } from './kinds.js';

/** The codes of this package's errors. They never change; messages may. */
export type LimiterErrorCode =
  | 'ERR_LIMITER_OPTION'
  | 'ERR_LIMITER_KEY'
  | 'ERR_LIMITER_COST'
  | 'ERR_LIMITER_CLOCK'
  | 'ERR_LIMITER_ENGINE'
  | 'ERR_LIMITER_SNAPSHOT'
  | 'ERR_LIMITER_MEMORY'
  | 'ERR_LIMITER_DEADLINE'
  | 'ERR_LIMITER_QUEUE'
  | 'ERR_LIMITER_CLOSED'
  | 'ERR_LIMITER_STORE'
  | 'ERR_LIMITER_SHARED'
  | 'ERR_LIMITER_REFUSED';

/** An error of this package. Identify it by `code`, because messages may change. */
export type LimiterError<E extends Error = Error> = E & { readonly code: LimiterErrorCode };

type ErrorClass<E extends Error> = new (message: string, options?: ErrorOptions) => E;

/** Creates an error of the given class with a `code`. */
export function limiterError<E extends Error>(
  Class: ErrorClass<E>,
  code: LimiterErrorCode,
  message: string,
  cause?: unknown,
): LimiterError<E> {
  const error = cause === undefined ? new Class(message) : new Class(message, { cause });
  return Object.assign(error, { code });
}

/** Creates the TypeError for a value that is not accepted. */
export function invalidValue(
  code: LimiterErrorCode,
  name: string,
  given: unknown,
  accepted: string,
): LimiterError<TypeError> {
  ignoreRejection(given);
  return limiterError(TypeError, code, `${name} must be ${accepted}, got ${show(given)}`);
}

/** The same for an argument that must be a number: a RangeError for a number, a TypeError for any other value. */
export function invalidNumber(
  code: LimiterErrorCode,
  name: string,
  given: unknown,
  accepted: string,
): LimiterError {
  if (typeof given !== 'number') return invalidValue(code, name, given, accepted);
  return limiterError(RangeError, code, `${name} must be ${accepted}, got ${show(given)}`);
}

/** The promise of an async function that must not be async: nobody awaits it, and its rejection would end the process. */
function ignoreRejection(given: unknown): void {
  if (typeof given !== 'object' || given === null || kindOf(given) !== 'Promise') return;
  Promise.resolve(given).catch(() => {});
}

/** A short description of any value for an error message. Never throws. */
export function show(value: unknown): string {
  if (typeof value === 'string') {
    return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  }
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'symbol') return 'a symbol';
  if (isRevoked(value)) return 'a revoked proxy';
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object' && value !== null) return showKind(kindOf(value));
  return Object.is(value, -0) ? '-0' : String(value);
}

/** `an object`, `a Map`, `an Error`. */
function showKind(kind: string): string {
  if (kind === 'Object' || !/^\w{1,40}$/.test(kind)) return 'an object';
  return `${/^[AEIO]/.test(kind) ? 'an' : 'a'} ${kind}`;
}
