// Policies as a user gives them: checked here, once, and named in every complaint.

import { limiterError, refused, show } from '../common/errors.js';
import { isArray } from '../common/kinds.js';
import { positive, readOptions } from '../common/options.js';

/** A quota: at most so many units in any time as long as its window. */
export interface Policy {
  /** Units a window: finite, greater than 0. */
  readonly quota: number;
  /** Seconds: finite, greater than 0. */
  readonly windowSeconds: number;
  /** The name a server may call it by. No two policies have the same. */
  readonly name?: string | undefined;
}

/**
 * A copy of the policies given. Throws `ERR_LIMITER_OPTION` for none, for one whose quota or window
 * is not a finite number greater than 0, for a name that two have, and for a window that two without
 * a name have.
 */
export function readPolicies(given: unknown): readonly Policy[] {
  if (!isArray(given) || given.length === 0) {
    const accepted = 'an array of at least one { quota, windowSeconds, name? }';
    if (Array.isArray(given)) throw optionError(`policies must be ${accepted}, got an empty one`);
    throw refused('ERR_LIMITER_OPTION', 'policies', given, accepted);
  }
  const policies = given.map(readPolicy);
  for (const [at, policy] of policies.entries()) {
    const first = policies.findIndex((other) => isSame(other, policy));
    if (first === at) continue;
    const what =
      policy.name === undefined
        ? `the window of policies[${first}], ${policy.windowSeconds} seconds, and neither has a name`
        : `the name of policies[${first}], ${show(policy.name)}`;
    throw optionError(`policies[${at}] must differ from the others: it has ${what}`);
  }
  return policies;
}

/** How a message calls a policy. */
export function describe({ name, quota, windowSeconds }: Policy): string {
  return `${name === undefined ? '' : `${show(name)}, `}${quota} in ${windowSeconds} s`;
}

function readPolicy(policy: unknown, at: number): Policy {
  const where = `policies[${at}]`;
  if (policy === undefined) throw refused('ERR_LIMITER_OPTION', where, policy, 'an object');
  const given = readOptions(where, policy, ['quota', 'windowSeconds', 'name']);
  const { name } = given;
  if (name !== undefined && typeof name !== 'string') {
    throw refused('ERR_LIMITER_OPTION', `${where}.name`, name, 'a string');
  }
  const called = name === undefined ? where : `${where} (${show(name)})`;
  const field = (key: string) => positive({ [`${called}.${key}`]: given[key] }, `${called}.${key}`);
  return { quota: field('quota'), windowSeconds: field('windowSeconds'), name };
}

function isSame(a: Policy, b: Policy): boolean {
  if (a.name !== undefined || b.name !== undefined) return a.name === b.name;
  return a.windowSeconds === b.windowSeconds;
}

function optionError(message: string): Error {
  return limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}
