// What a user's function throws must reach the user, and must not break what called it.

/** Makes an error an uncaught exception, as one that a listener threw would be. */
export function surface(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Calls a user's function; undefined where it throws, which `failed` is told. */
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

/** The same; what it throws surfaces. */
export function callSafely<Result>(call: () => Result): Result | undefined {
  return tryCall(call, surface);
}
