// emitWarning: a warning of the process, on every platform.

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
