// What a store replies, and the errors made of it.

import { limiterError } from '../../common/errors.js';

/** An `ERR_LIMITER_STORE`. `cause` is the client's error, if the store itself reported one. */
export function storeError(message: string, cause?: unknown): Error {
  return limiterError(Error, 'ERR_LIMITER_STORE', `store error: ${message}`, cause);
}

/** The error for a call without a reply in time. */
export function timeoutError(): Error {
  return storeError('no reply within the deadline');
}

/** The error for a call that a closed limiter does not make. `owner`: the name of its class. */
export function closedError(owner: string): Error {
  return storeError(`${owner} is closed`);
}

/** The error for a reply that a script of this package does not return. */
export function invalidReplyError(): Error {
  return storeError('invalid reply to a script');
}

/** The text of an error, or of whatever else a client rejects with. An error of several addresses has only a code. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message || String((error as { code?: unknown }).code ?? error.name);
}

/** Whether a script refused a key because it holds something that this package did not write. */
export function isForeignKeyMessage(message: string): boolean {
  return /^(ERR )?WRONGTYPE/.test(message);
}

/** Whether a value is a number as a client returns it: clients may map numbers to strings, and strings to buffers. */
export function isNumeric(value: unknown): boolean {
  return value !== null && value !== '' && Number.isFinite(Number(value));
}
