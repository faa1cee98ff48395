// The error for a file that is not exactly what a save has written.

import { limiterError } from '../common/errors.js';

export function damaged(name: string, why: string, cause?: unknown): Error {
  const message = `${name} must be a complete snapshot file, got a damaged one: ${why}`;
  return limiterError(Error, 'ERR_LIMITER_SNAPSHOT', message, cause);
}
