// Timers of the package's own, wherever it runs, and the async context in which it makes them.

/** A timer that is asked to wait longer fires at once. */
export const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

const { Deno: deno } = globalThis as { Deno?: { unrefTimer(timer: number): void } };

/** Keeps a timer from keeping its process alive. Browsers have no such thing, nor need it. */
export function unref(timer: unknown): void {
  // Older versions of Deno number their timers, as browsers do.
  if (typeof timer === 'number') deno?.unrefTimer(timer);
  else (timer as { unref?(): void }).unref?.();
}

/**
 * That of node:async_hooks; undefined in browsers, which have no such contexts. An import of it would keep the package
 * out of them.
 */
const AsyncLocalStorage =
  globalThis.process?.getBuiltinModule?.('node:async_hooks')?.AsyncLocalStorage;
const runAsLoaded = AsyncLocalStorage?.snapshot();

/**
 * Calls `act` outside of any caller's async context: in that in which the package was loaded. A timer, a promise or a
 * connection keeps the context in which it is made, and the stores of every AsyncLocalStorage in it, for as long as it
 * lives. So whatever serves more than one caller's call is made here.
 */
export function detached<Result>(act: () => Result): Result {
  return runAsLoaded === undefined ? act() : runAsLoaded(act);
}

/** `act`, to be called in the async context of now, whoever calls it. */
export function inThisContext(act: () => void): () => void {
  const run = AsyncLocalStorage?.snapshot();
  return run === undefined ? act : () => run(act);
}
