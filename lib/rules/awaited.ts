// What guards ask of the keys of an opened peer, whatever limiter has opened it.

import type { LimiterContext } from './limiter-context.js';
import { MESSAGE } from './sections.js';
import type { Classification, Keys } from './types.js';

/** A rule that a message asks, with its scope and key; the key is '' in a single scope. */
export interface AwaitedRule {
  readonly rule: string;
  readonly scope: string;
  readonly key: string;
}

/** The keys and the plan of a peer. */
interface PeerKeys {
  readonly context: LimiterContext;
  readonly keys: Keys;
  readonly plan: string | undefined;
}

/**
 * The first of some rules that a message of a peer would ask with a key that `isAwaited` accepts. Counts and changes
 * nothing. @throws the errors of `RuleLimiter.check`
 */
export function findAwaited(
  { context, keys, plan: ownPlan }: PeerKeys,
  rules: Iterable<string>,
  isAwaited: (rule: string, key: string) => boolean,
  bytes: number,
  message: Classification,
): AwaitedRule | undefined {
  const { action = MESSAGE, cost, plan = ownPlan } = message;
  context.prepareCost(cost, bytes);
  const resolved = context.resolved({ ...keys, ...message.keys });
  const program = context.programOf(context.planIndexOf(plan), action);
  // What is on a list takes from no bucket.
  if (resolved.listed !== undefined) return undefined;
  for (const rule of rules) {
    const asked = context.asked(rule, resolved, program);
    if (asked !== undefined && isAwaited(rule, asked.key)) return { rule, ...asked };
  }
  return undefined;
}

/** The key of a scope; undefined if it has none or is single. */
export function keyIn(context: LimiterContext, keys: Keys, scope: string): string | undefined {
  return context.resolved(keys).keys[context.scopes.findIndex(({ name }) => name === scope)];
}
