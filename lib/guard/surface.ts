// What a user's function throws must reach the user, and must not break what called it. What a listener
// throws is uncaught, as without a guard; what the guard asks or tells is for `onError`, since a peer may have
// found the message that makes it throw.

import { show } from '../errors.js';

/** Makes an error an uncaught exception, as one that a listener threw would be. */
export function surface(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Calls a user's function; undefined where it throws, which `failed` is told. */
export function attempt<Result>(
  call: () => Result,
  failed: (error: unknown) => void,
): Result | undefined {
  try {
    return call();
  } catch (error) {
    failed(error);
    return undefined;
  }
}

/** The same; what it throws surfaces. */
export function safely<Result>(call: () => Result): Result | undefined {
  return attempt(call, surface);
}

/** The default of `onError`. */
export function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : `a guard caught ${show(error)}`);
}

/** The same function, whose own errors are warnings. */
export function harmless<Arguments extends unknown[]>(
  call: (...of: Arguments) => void,
): (...of: Arguments) => void {
  return (...of) => attempt(() => call(...of), warn);
}
