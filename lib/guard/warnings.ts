// What a listener throws is uncaught, as without a guard; what the guard asks or tells is for `onError`, since a
// peer may have found the message that makes it throw.

import { attempt } from '../common/callbacks.js';
import { show } from '../common/errors.js';

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
