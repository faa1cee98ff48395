// The checks of a request by one or more limits, as a list at the request. Fields, Retry-After and rateLimitOf read it.

import type { RateLimitAction } from '../common/types.js';
import type { Draft } from '../headers/format.js';
import type { LimitedPolicy, StatedPolicies } from './stated.js';
import type { RefusalReason } from './types.js';

/** One check of a request by one limit. Getters may ask the limiter. */
export interface RequestCheck {
  /** The check before this one; set by `addCheck`. */
  previous: RequestCheck | undefined;
  /** Has counted the request. Policies of one source have unique names. */
  readonly source: object;
  readonly action: RateLimitAction;
  readonly reason: RefusalReason | undefined;
  readonly key: string;
  /** The name of the policy that decided; of a RuleLimiter's ban or list, that of the scope. */
  readonly policyName: string;
  /** Null unless a RuleLimiter has checked. */
  readonly rule: string | null;
  readonly scope: string | null;
  readonly warning: string | null;
  /** The policies to state in fields; undefined if there are none. */
  readonly stated: StatedPolicies | undefined;
  /** The policy to state as a limit, and its state; undefined if it is not known, or not to be stated. */
  limitFor(draft: Draft): LimitedPolicy | undefined;
  /** Seconds until this limit would allow the same request; 0 at once, Infinity never. */
  readonly retrySeconds: number;
  /** Whether this check and an earlier one of the same source have taken from one bucket. */
  countsAgain(earlier: RequestCheck): boolean;
  /** Gives back what an allowed check has taken. */
  refund(): void;
}

/** A property of a request: its last check. */
const LAST_CHECK = Symbol('relay-limiter check');

type Checked = { [LAST_CHECK]?: RequestCheck };

/** Adds a check to the list of a request. */
export function addCheck(request: object, check: RequestCheck): void {
  const checked = request as Checked;
  check.previous = checked[LAST_CHECK];
  checked[LAST_CHECK] = check;
}

/** The checks of a request up to this one, the first one first. */
export function listChecks(last: RequestCheck | undefined): RequestCheck[] {
  return last === undefined ? [] : [...listChecks(last.previous), last];
}

/** Whether an earlier check of the request has taken from the same bucket. */
export function isCountedTwice(last: RequestCheck): boolean {
  for (let check = last.previous; check !== undefined; check = check.previous) {
    if (check.source === last.source && last.countsAgain(check)) return true;
  }
  return false;
}

/** Seconds until every limit that has checked the request would allow the same request. */
export function longestRetrySeconds(last: RequestCheck): number {
  return Math.max(...listChecks(last).map(({ retrySeconds }) => retrySeconds));
}

/** The last check of a request. */
export function lastCheck(request: object): RequestCheck | undefined {
  return (request as Checked)[LAST_CHECK];
}
