// The package's own timers on all runtimes, and the async context in which it creates them.

/** The longest delay of a timer. A timer with a longer delay fires at once. */
export const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

const { Deno: deno } = globalThis as { Deno?: { unrefTimer(timer: number): void } };

/** Lets the process exit while the timer is pending. Does nothing in browsers. */
export function unref(timer: unknown): void {
  // In older versions of Deno a timer is a number, as in browsers.
  if (typeof timer === 'number') deno?.unrefTimer(timer);
  else (timer as { unref?(): void }).unref?.();
}

/** From node:async_hooks; undefined in browsers. Not imported, because an import would fail in browsers. */
const AsyncLocalStorage =
  globalThis.process?.getBuiltinModule?.('node:async_hooks')?.AsyncLocalStorage;
const runAsLoaded = AsyncLocalStorage?.snapshot();

/**
 * Calls `act` in the async context in which the package was loaded. A timer, a promise or a connection keeps the
 * context in which it was created, with the stores of every AsyncLocalStorage in it, as long as it exists. So objects
 * that serve more than one call are created with this function, outside of any caller's context.
 */
export function detached<Result>(act: () => Result): Result {
  return runAsLoaded === undefined ? act() : runAsLoaded(act);
}

/** Returns a function that calls others in the current async context. */
export function captureContext(): (act: () => void) => void {
  return AsyncLocalStorage?.snapshot() ?? ((act) => act());
}
