// Warnings of the process, on every platform.

import { show } from './errors.js';

/**
 * Emits a warning: by `process.emitWarning`, or on the console where there is no process, as in browsers and workers of
 * an edge network.
 */
export function emitWarning(
  warning: string | Error,
  options?: { type: string; code: string },
): void {
  const { process } = globalThis as { process?: typeof globalThis.process };
  if (typeof process?.emitWarning === 'function') process.emitWarning(warning, options);
  else console.warn(options === undefined ? warning : `${options.code}: ${warning}`);
}

/**
 * Emits what a user's function threw while it was told of a request or a message: a client that finds out how to cause such
 * an error must not be able to end the process.
 */
export function warnOfError(error: unknown): void {
  emitWarning(error instanceof Error ? error : `a function of the options threw ${show(error)}`);
}
