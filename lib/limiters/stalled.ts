// If a process does not go on in the middle of a change of a shared table, that part of the table is stalled until it
// does or ends. Checks of its peers are refused for a moment; all other calls throw. Whatever only follows a check, such
// as the delay of a refusal, or the removal of a closed connection's peer, must not fail for it.

import type { LimiterError } from '../common/errors.js';

/** Returns what `read` returns, or `otherwise` if that part of a shared table is stalled. @throws all other errors */
export function unlessStalled<Result>(read: () => Result, otherwise: Result): Result {
  try {
    return read();
  } catch (error) {
    requireStalled(error);
    return otherwise;
  }
}

/** @throws the error if it is another one */
export function requireStalled(error: unknown): void {
  if ((error as LimiterError | undefined)?.code !== 'ERR_LIMITER_SHARED') throw error;
}

/** Does what only follows a check. It is left out if that part of a shared table is stalled. */
export function tryStalled(act: () => void): void {
  unlessStalled(act, undefined);
}

/** Removes the peer of a closed connection. A peer that cannot be removed now is left to cleanup and eviction. */
export function forget(limiter: { removePeer(key: string): void }, key: string): void {
  unlessStalled(() => limiter.removePeer(key), undefined);
}
