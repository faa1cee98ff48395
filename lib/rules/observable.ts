// The limiters that metrics and the dashboard accept: those with one kind of key, and RuleLimiters.

import { invalidValue, show } from '../common/errors.js';
import { hasMethods, isRecord } from '../common/kinds.js';
import { isObservable, type ObservableLimiter } from '../limiters/stats.js';
import type { RuleStats } from './types.js';

/** ObservableRules is a RuleLimiter, or an object with these methods. */
export interface ObservableRules {
  /** The names of the scopes that are not single. */
  readonly scopeNames: readonly string[];
  /** Returns one of these scopes. */
  scope(name: string): ObservableLimiter;
  /** Returns the statistics of all rules and scopes. */
  getStats(): RuleStats;
}

/** Limiters by the names under which they are shown. */
export type NamedLimiters = Readonly<Record<string, ObservableLimiter | ObservableRules>>;

/** Whether a value has the methods of a RuleLimiter. */
export function isRules(value: unknown): value is ObservableRules {
  return typeof value === 'object' && hasMethods(value, 'scope', 'getStats');
}

/** Reads an option with limiters by name. @throws `ERR_LIMITER_OPTION` unless it has at least one, and only limiters. */
export function namedLimiters(
  given: unknown,
): [name: string, limiter: ObservableLimiter | ObservableRules][] {
  const entries = isRecord(given) ? Object.entries(given) : [];
  if (entries.length === 0) {
    throw invalidValue(
      'ERR_LIMITER_OPTION',
      'limiters',
      given,
      'an object with at least one limiter, by name',
    );
  }
  return entries.map(([name, limiter]) => {
    if (isRules(limiter) || isObservable(limiter)) return [name, limiter];
    throw invalidValue('ERR_LIMITER_OPTION', `limiters[${show(name)}]`, limiter, 'a limiter');
  });
}
