// Timers of ours, wherever the package runs.

/** A timer that is asked to wait longer fires at once. */
export const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

const { Deno: deno } = globalThis as { Deno?: { unrefTimer(timer: number): void } };

/** Keeps a timer from keeping its process alive. Browsers have no such thing, nor need it. */
export function unref(timer: unknown): void {
  // Older versions of Deno number their timers, as browsers do.
  if (typeof timer === 'number') deno?.unrefTimer(timer);
  else (timer as { unref?(): void }).unref?.();
}
