// What a user's function throws must reach the user, and must not break what called it.

/** Makes an error an uncaught exception, as one that a listener threw would be. */
export function surface(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Calls a user's function; what it throws surfaces, and undefined is returned then. */
export function safely<Result>(call: () => Result): Result | undefined {
  try {
    return call();
  } catch (error) {
    surface(error);
    return undefined;
  }
}
