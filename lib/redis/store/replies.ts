// What a store says, and what is said of it.

import { limiterError } from '../../errors.js';

/** The error for a store that cannot be used, and why. */
export function storeError(message: string, cause?: unknown): Error {
  return limiterError(Error, 'ERR_LIMITER_STORE', `the store cannot be used: ${message}`, cause);
}

/** The error for a reply that no script of ours gives. */
export function strangeReply(): Error {
  return storeError('its reply cannot be understood');
}

/** Whether it is a number as clients give it: they may map numbers to texts, and texts to buffers. */
export function isNumber(value: unknown): boolean {
  return value !== null && value !== '' && Number.isFinite(Number(value));
}
