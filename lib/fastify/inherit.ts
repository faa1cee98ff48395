// Merges the options of the plugin with those of a route, which take precedence.

import { SUBNET_OPTIONS } from '../address/address-key.js';
import { limiterError, show } from '../common/errors.js';
import { usesSubnets } from '../guard/client-scopes.js';
import { EXCLUSIONS, NOT_WITH_RULES, RULE_OPTIONS } from '../http/options.js';
import { isRuleLimiter } from '../limiters/verdict.js';
import type { AnyRules } from '../rules/any-rules.js';

type Options = Readonly<Record<string, unknown>>;

const has = (options: Options, name: string) => options[name] !== undefined;

/** Drops each option of the plugin that an option of the route excludes, or that excludes one. */
export function inherit(plugin: Options, own: Options): Options {
  const merged: Record<string, unknown> = { ...own, ...plugin };
  for (const name of Object.keys(own)) if (has(own, name)) merged[name] = own[name];
  const drop = (names: readonly string[]) => {
    for (const name of names) if (!has(own, name)) delete merged[name];
  };
  for (const [name, excluded] of Object.entries(EXCLUSIONS)) {
    if (has(own, name)) drop(excluded);
    else if (excluded.some((other) => has(own, other))) drop([name]);
  }
  if (!hasOwnLimit(own)) return merged;
  if (has(merged, 'shared') && !has(own, 'shared')) throw missingName(merged['shared']);
  // The plugin's policy name describes the plugin's limit only.
  drop(['name']);
  // A route with another kind of limiter does not take the options that only the plugin's kind has.
  if (isRuleLimiter(merged['limiter'])) {
    drop(NOT_WITH_RULES);
    if (!usesSubnets(merged['limiter'] as AnyRules)) drop(SUBNET_OPTIONS);
  } else {
    drop(RULE_OPTIONS);
    if (typeof merged['cost'] === 'object') drop(['cost']);
    if (merged['limiter'] !== undefined) drop(['refundWhen']);
  }
  return merged;
}

/** The plugin's table has the plugin's limit. Without one of its own, the route's limit would hold for each process. */
function missingName(shared: unknown): Error {
  const message = `shared must be given with the limit of a route, since the plugin has it: a name other than ${show(shared)}`;
  return limiterError(TypeError, 'ERR_LIMITER_OPTION', message);
}

/** Whether a route has buckets of its own. */
export function hasOwnLimit(own: Options): boolean {
  return ['limiter', ...EXCLUSIONS.limiter].some((name) => has(own, name));
}
