// Answers that are there at once or come by a promise, and what comes instead. Where nothing is promised,
// nothing waits.

import { show } from '../errors.js';

/** Goes on with a value now, or with a promised one when it is there. */
export function whenKnown<Value, Result>(
  value: Value | PromiseLike<Value>,
  goOn: (value: Value) => Result | PromiseLike<Result>,
): Result | PromiseLike<Result> {
  return isPromise(value) ? value.then(goOn) : goOn(value);
}

export function isPromise<Value>(value: Value | PromiseLike<Value>): value is PromiseLike<Value> {
  return typeof (value as PromiseLike<Value> | null | undefined)?.then === 'function';
}

/**
 * What was thrown, as an error: to those it is handed to undefined may mean that there is none, and some
 * strings the name of a way out.
 */
export function errorOf(thrown: unknown): Error {
  const isObject = typeof thrown === 'object' && thrown !== null;
  return isObject ? (thrown as Error) : new Error(`no error, but thrown: ${show(thrown)}`);
}
