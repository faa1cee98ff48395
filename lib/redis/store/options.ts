// Options that everything in the store has: limits and bans alike.

import { invalidValue } from '../../common/errors.js';
import { positive } from '../../common/options.js';

type Given = Readonly<Record<string, unknown>>;

export const DEFAULT_DEADLINE_SECONDS = 0.1;
/** Short, since every key begins with it. */
const DEFAULT_PREFIX = 'rl';

/** What keys begin with. Braces are refused because they would choose the server of a cluster. */
export function readPrefix(given: Given): string {
  const prefix = given['prefix'] === undefined ? DEFAULT_PREFIX : given['prefix'];
  if (typeof prefix !== 'string' || !/^[^{}]{1,100}$/.test(prefix)) {
    const accepted = 'a string of 1 to 100 characters without braces';
    throw invalidValue('ERR_LIMITER_OPTION', 'prefix', prefix, accepted);
  }
  return prefix;
}

export function readDeadline(given: Given): number {
  return positive(given, 'deadlineSeconds', DEFAULT_DEADLINE_SECONDS);
}

/**
 * Reads `leaseSeconds`; undefined means the default. A lease starts with its request: one that is shorter than the longest
 * wait for the reply could end before the reply arrives.
 */
export function readLeaseSeconds(given: Given, deadlineSeconds: number): number | undefined {
  if (given['leaseSeconds'] === undefined) return undefined;
  const seconds = positive(given, 'leaseSeconds');
  if (seconds >= 2 * deadlineSeconds) return seconds;
  const accepted = `at least twice deadlineSeconds, ${2 * deadlineSeconds}`;
  throw invalidValue('ERR_LIMITER_OPTION', 'leaseSeconds', seconds, accepted);
}
