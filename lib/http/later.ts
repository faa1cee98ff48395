// Answers that are there at once or come by a promise, and what comes instead. Where nothing is promised,
// nothing waits.

import { show } from '../common/errors.js';

/** An answer now, or the promise of one. */
export type Now<Value> = Value | PromiseLike<Value>;

/** Goes on with a value now, or with a promised one when it is there. */
export function whenKnown<Value, Result>(
  value: Now<Value>,
  goOn: (value: Value) => Now<Result>,
): Now<Result> {
  return isPromise(value) ? value.then(goOn) : goOn(value);
}

export function isPromise<Value>(value: Now<Value>): value is PromiseLike<Value> {
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
