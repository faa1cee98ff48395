// Makes an error of any thrown value.

import { show } from '../common/errors.js';

/**
 * Returns a thrown object unchanged, and wraps any other value in an error. Callers pass the result to `next`, where
 * undefined means "no error" and the strings 'route' and 'router' have a special meaning.
 */
export function toError(thrown: unknown): Error {
  const isObject = typeof thrown === 'object' && thrown !== null;
  return isObject ? (thrown as Error) : new Error(`a thrown value is no error: ${show(thrown)}`);
}
