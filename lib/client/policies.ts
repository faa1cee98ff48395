// Reads the policies that a user gives. Error messages name the policy that is wrong.

import { invalidValue, limiterError, show } from '../common/errors.js';
import { isArray } from '../common/kinds.js';
import { positive, readOptions } from '../common/options.js';
import { REQUESTS } from './cost.js';

/**
 * How windows are counted. `bucket`: one token bucket per window; `sliding`: an exact sliding log; `fixed`:
 * fixed windows as in aiohivebot.
 */
export type Algorithm = 'bucket' | 'sliding' | 'fixed';

/** A quota: at most `quota` units in any interval of `windowSeconds`. */
export interface Policy {
  /** Units per window: finite, greater than 0. */
  readonly quota: number;
  /** The window's length in seconds: finite, greater than 0. */
  readonly windowSeconds: number;
  /** The name that the server uses for this policy. It must be unique. */
  readonly name?: string | undefined;
  /**
   * What the quota counts, such as `tokens`: the amount of that unit in the cost of a request. A cost that is a number
   * counts `requests`, or the unit of the policies if all of them have the same one. Default: the name if it is
   * `tokens` or ends with `-tokens`, else `requests`.
   */
  readonly unit?: string | undefined;
}

/** The policies of a limiter that has only the limits that responses report. An empty array of a user is an error. */
export const NO_POLICIES: readonly Policy[] = Object.freeze([]);

/**
 * Returns a copy of the given policies.
 * @throws ERR_LIMITER_OPTION if there is no policy, if a quota or window is not a finite number greater than
 * 0, if two policies have the same name, or if two policies without a name have the same unit and window
 */
export function readPolicies(given: unknown): readonly Policy[] {
  if (given === NO_POLICIES) return NO_POLICIES;
  if (!isArray(given) || given.length === 0) {
    const accepted = 'an array of at least one { quota, windowSeconds, name?, unit? }';
    if (Array.isArray(given)) throw optionError(`policies must be ${accepted}, got an empty array`);
    throw invalidValue('ERR_LIMITER_OPTION', 'policies', given, accepted);
  }
  const policies = given.map(readPolicy);
  for (const [index, policy] of policies.entries()) {
    const first = policies.findIndex((other) => isSame(other, policy));
    if (first === index) continue;
    const shared =
      policy.name === undefined
        ? `the window of policies[${first}], ${policy.windowSeconds} seconds, and neither has a name`
        : `the name of policies[${first}], ${show(policy.name)}`;
    throw optionError(`policies[${index}] must differ from the others: it has ${shared}`);
  }
  return policies;
}

/** Returns the description of a policy for an error message. */
export function describe(policy: Policy): string {
  const { name, quota, windowSeconds } = policy;
  const units = unitOf(policy) === REQUESTS ? 'units' : unitOf(policy);
  return `${name === undefined ? '' : `${show(name)}, `}${quota} ${units} in ${windowSeconds} s`;
}

/** Returns the unit that a policy counts. */
export function unitOf({ unit = REQUESTS }: Policy): string {
  return unit;
}

/** Returns the unit of a cost that is a number: that of all policies if it is the same, else `requests`. */
export function unitOfNumbers(policies: readonly Policy[]): string {
  const units = new Set(policies.map(unitOf));
  const [unit = REQUESTS] = units;
  return units.size === 1 ? unit : REQUESTS;
}

function readPolicy(policy: unknown, index: number): Policy {
  const path = `policies[${index}]`;
  if (policy === undefined) throw invalidValue('ERR_LIMITER_OPTION', path, policy, 'an object');
  const given = readOptions(path, policy, ['quota', 'windowSeconds', 'name', 'unit']);
  const { name, unit = isTokens(given['name']) ? given['name'] : REQUESTS } = given;
  if (name !== undefined && typeof name !== 'string') {
    throw invalidValue('ERR_LIMITER_OPTION', `${path}.name`, name, 'a string');
  }
  if (typeof unit !== 'string' || unit === '') {
    throw invalidValue('ERR_LIMITER_OPTION', `${path}.unit`, unit, 'a unit such as "tokens"');
  }
  const label = name === undefined ? path : `${path} (${show(name)})`;
  const field = (key: string) => positive({ [`${label}.${key}`]: given[key] }, `${label}.${key}`);
  return { quota: field('quota'), windowSeconds: field('windowSeconds'), name, unit };
}

/** Whether servers give a limit this name if it counts tokens. */
function isTokens(name: unknown): boolean {
  return typeof name === 'string' && /^([a-z]+-)*tokens$/.test(name);
}

function isSame(a: Policy, b: Policy): boolean {
  if (a.name !== undefined || b.name !== undefined) return a.name === b.name;
  return a.windowSeconds === b.windowSeconds && unitOf(a) === unitOf(b);
}

function optionError(message: string): Error {
  return limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}
