// Random scopes, rules, plans, bans and lists of a RuleLimiter, for the model and as the limiter's options.

import type { Rule, RuleLimiterOptions, RuleNumbers, RuleSections, Scope } from 'relay-limiter';
import type { Random } from '../test/support/random.js';
import type { ModelBans, ModelRule, RuleLimits } from './model/rule-records.js';

/** True: one bucket for everybody. */
export const RULE_SCOPES: Readonly<Record<string, boolean>> = {
  connection: false,
  account: false,
  address: false,
  network: false,
  server: true,
};
export const SCOPE_OPTIONS: Readonly<Record<string, Scope>> = {
  connection: {},
  account: {},
  address: { kind: 'address' },
  network: { from: 'address', ipv4Subnet: 24, ipv6Subnet: 48 },
  server: { single: true },
};
/** The scopes with records. */
export const KEYED_SCOPES: readonly string[] = ['connection', 'account', 'address', 'network'];
/** The scopes that a check names. */
export const OWN_SCOPES: readonly string[] = ['connection', 'account', 'address'];
/** The first is the base plan. */
export const PLANS: readonly (string | undefined)[] = [undefined, 'paid', 'free'];
export const ACTION = 'event';

const RATES = [0.001, 0.01, 1 / 3, 2.7, 10, 500];
const BURSTS = [1, 1.5, 3, 10, 40];
const SINGLE_RATES = [10, 500];
const SINGLE_BURSTS = [40, 5000];
const MONTH = 30 * 86_400;
const RULE_NAMES = Array.from({ length: 12 }, (_, n) => `rule ${n}`);

/** What an update can change. */
export interface RuleSetup {
  readonly rules: readonly ModelRule[];
  readonly bans: Readonly<Record<string, ModelBans>>;
  readonly allow: Readonly<Record<string, readonly string[]>>;
  readonly deny: Readonly<Record<string, readonly string[]>>;
}

/** By scope: a random key. */
export type AnyKey = (scope: string) => string;

/** `anyKey`: lists name such keys now and then. */
export function randomSetup(random: Random, anyKey: AnyKey): RuleSetup {
  const names = RULE_NAMES.slice(0, 1 + random.below(7));
  return { rules: names.map((name) => newRule(random, name)), ...othersOf(random, anyKey) };
}

/** Other numbers, bans and lists; some rules go, and others come, perhaps with the name of one that has gone. */
export function changedSetup(random: Random, { rules }: RuleSetup, anyKey: AnyKey): RuleSetup {
  const kept = rules.filter(() => random() < 0.9);
  const changed = kept.map((rule) => (random() < 0.6 ? withNumbers(random, rule) : rule));
  const free = RULE_NAMES.filter((name) => !kept.some((rule) => rule.name === name));
  for (let n = random.pick([0, 0, 1, 2]); n > 0 && free.length > 0; n -= 1) {
    const [name] = free.splice(random.below(free.length), 1) as [string];
    changed.splice(random.below(changed.length + 1), 0, newRule(random, name));
  }
  return { rules: changed, ...othersOf(random, anyKey) };
}

/** The names of rules that are new in `after`: a rule of another scope is a new rule. */
export function addedRules(before: RuleSetup, after: RuleSetup): string[] {
  const isKnown = (rule: ModelRule) =>
    before.rules.some(({ name, scope }) => name === rule.name && scope === rule.scope);
  return after.rules.filter((rule) => !isKnown(rule)).map(({ name }) => name);
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

function newRule(random: Random, name: string): ModelRule {
  const rule = withNumbers(random, {
    name,
    scope: random.pick(Object.keys(RULE_SCOPES)),
    action: random() < 0.7 ? undefined : ACTION,
    unit: random() < 0.7 ? 'requests' : 'bytes',
  });
  const [base, ...others] = rule.plans as [RuleLimits, ...ModelRule['plans']];
  // No other rule has this rate: a rule in the place of one that has gone changes a rate.
  return { ...rule, plans: [{ ...base, rate: base.rate * (1 + random() / 1000) }, ...others] };
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

function othersOf(random: Random, anyKey: AnyKey): Omit<RuleSetup, 'rules'> {
  const list = () =>
    Object.fromEntries(
      KEYED_SCOPES.filter(() => random() < 0.2).map((scope) => [scope, [anyKey(scope)]]),
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
