// Calls of a user's functions. An error that such a function throws, or rejects with, reaches the user, but does not break
// the caller.

import { isPromise } from './maybe-promise.js';

/** Throws an error as an uncaught exception, in a microtask. */
export function surface(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/**
 * Calls a user's function. If it throws, calls `failed` with the error and returns undefined. If it returns a promise, which
 * nobody awaits, `failed` gets what the promise rejects with: an unhandled rejection would end the process.
 */
export function tryCall<Result>(
  call: () => Result,
  failed: (error: unknown) => void,
): Result | undefined {
  try {
    const result = call();
    if (isPromise(result)) Promise.resolve(result).catch((error) => void failed(error));
    return result;
  } catch (error) {
    failed(error);
    return undefined;
  }
}

/** Calls a user's function. If it throws or rejects, the error becomes an uncaught exception. */
export function callSafely<Result>(call: () => Result): Result | undefined {
  return tryCall(call, surface);
}
