// Calls of a user's functions. An error that such a function throws reaches the user, but does not break the caller.

/** Throws an error as an uncaught exception, in a microtask. */
export function surface(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Calls a user's function. If it throws, calls `failed` with the error and returns undefined. */
export function tryCall<Result>(
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

/** Calls a user's function. If it throws, the error becomes an uncaught exception, and the result is undefined. */
export function callSafely<Result>(call: () => Result): Result | undefined {
  return tryCall(call, surface);
}
