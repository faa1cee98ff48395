// Random scopes, rules, plans, bans and lists of a RuleLimiter, for the model and as the limiter's options.

import type { Rule, RuleLimiterOptions, RuleNumbers, RuleSections } from 'relay-limiter';
import type { Random } from '../test/support/random.js';
import type { ModelBans, ModelRule, RuleLimits } from './model/rule-records.js';

/** True: one bucket for everybody. */
export const RULE_SCOPES: Readonly<Record<string, boolean>> = {
  connection: false,
  account: false,
  server: true,
};
export const KEYED_SCOPES: readonly string[] = ['connection', 'account'];
/** The first is the base plan. */
export const PLANS: readonly (string | undefined)[] = [undefined, 'paid', 'free'];
export const ACTION = 'event';

const RATES = [0.001, 0.01, 1 / 3, 2.7, 10, 500];
const BURSTS = [1, 1.5, 3, 10, 40];
const SINGLE_RATES = [10, 500];
const SINGLE_BURSTS = [40, 5000];
const MONTH = 30 * 86_400;

/** What an update can change. */
export interface RuleSetup {
  readonly rules: readonly ModelRule[];
  readonly bans: Readonly<Record<string, ModelBans>>;
  readonly allow: Readonly<Record<string, readonly string[]>>;
  readonly deny: Readonly<Record<string, readonly string[]>>;
}

/** `keys`: lists name one of these now and then. */
export function randomSetup(random: Random, keys: readonly string[]): RuleSetup {
  const scopes = Object.keys(RULE_SCOPES);
  const rules = Array.from({ length: 1 + random.below(7) }, (_, n) =>
    withNumbers(random, {
      name: `rule ${n}`,
      scope: random.pick(scopes),
      action: random() < 0.7 ? undefined : ACTION,
      unit: random() < 0.7 ? 'requests' : 'bytes',
    }),
  );
  return { rules, ...othersOf(random, keys) };
}

/** Other numbers, bans and lists. The rules keep their names, scopes, actions and units. */
export function changedSetup(
  random: Random,
  { rules }: RuleSetup,
  keys: readonly string[],
): RuleSetup {
  const changed = rules.map((rule) => (random() < 0.6 ? withNumbers(random, rule) : rule));
  return { rules: changed, ...othersOf(random, keys) };
}

/** The sections of the limiter's options. */
export function sectionsOf({
  rules,
  bans,
  allow,
  deny,
}: RuleSetup): RuleSections & Pick<RuleLimiterOptions, 'rules'> {
  const base = rules.map(({ name, scope, action, unit, dryRun, violation, plans }) => {
    const rule: Rule = { scope, action, unit, dryRun, violation, ...numbersOf(plans[0]) };
    return [name, rule] as const;
  });
  const plans = PLANS.flatMap((plan, i) => {
    if (plan === undefined) return [];
    return [[plan, Object.fromEntries(rules.map((rule) => [rule.name, numbersOf(rule.plans[i])]))]];
  });
  return { rules: Object.fromEntries(base), plans: Object.fromEntries(plans), bans, allow, deny };
}

function numbersOf(limits: RuleLimits | null | undefined): RuleNumbers | null {
  if (!limits) return null;
  return { rateLimit: limits.rate, burstLimit: limits.burst, warnBelow: limits.warnBelow };
}

function withNumbers(
  random: Random,
  { name, scope, action, unit }: Pick<ModelRule, 'name' | 'scope' | 'action' | 'unit'>,
): ModelRule {
  // Everybody pays for a bucket of a single scope.
  const isSingle = RULE_SCOPES[scope];
  const limits = (): RuleLimits => ({
    rate: random.pick(isSingle ? SINGLE_RATES : RATES),
    burst: random.pick(isSingle ? SINGLE_BURSTS : BURSTS),
    warnBelow: random.pick([0, 0, 0.3, 1]),
  });
  const others = PLANS.slice(1).map(() => (random() < 0.2 ? null : limits()));
  const flags = { dryRun: random() < 0.2, violation: random() < 0.8 };
  return { ...{ name, scope, action, unit }, ...flags, plans: [limits(), ...others] };
}

function othersOf(random: Random, keys: readonly string[]): Omit<RuleSetup, 'rules'> {
  const list = () =>
    Object.fromEntries(
      KEYED_SCOPES.filter(() => random() < 0.2).map((scope) => [scope, [random.pick(keys)]]),
    );
  const bans = KEYED_SCOPES.filter(() => random() < 0.7).map((scope) => [
    scope,
    randomBans(random),
  ]);
  return { bans: Object.fromEntries(bans), allow: list(), deny: list() };
}

function randomBans(random: Random): ModelBans {
  return {
    violations: random.pick([1, 2, 5.5, 20]),
    withinSeconds: random.pick([0.5, 10, 3600]),
    seconds: random.pick([[3], [60, 600, 3600], [1, MONTH], [Infinity]]),
    jitter: random.pick([0, 0.1, 0.9]),
    forgetAfterSeconds: random.pick([Infinity, 5, 3600]),
  };
}
