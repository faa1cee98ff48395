// Random rules, plans and bans. Names of rules belong to one scope, and come and go, so that slots are reused.

import type { Random } from '../support/random.js';
import type { BanSpec, PlanSpec, RuleSpec, RulesSpec } from './plans.js';

const RATES = [0.001, 0.1, 1 / 3, 1, 2.7, 10, 500];
const BURSTS = [0.5, 1, 3, 10, 33.3, 1000];
const SHARES = [0, 0, 0.2, 0.5, 1];
const ACTIONS = ['connect', 'event', 'report'];
const PLANS = ['free', 'paid', 'other', 'last'];
const COUNTS = [0, 1, 1, 2, 2, 3, 5, 6, 13];

export function randomScopes(random: Random): RulesSpec['scopes'] {
  const scopes: [string, boolean][] = [];
  for (let n = random.pick([1, 1, 2, 2, 2, 3, 3, 8]); n > 0; n -= 1)
    scopes.push([`scope ${n}`, random() < 0.2]);
  return Object.fromEntries(scopes);
}

/** All rates are multiplied by `speed`. */
export function randomSpec(random: Random, scopes: RulesSpec['scopes'], speed = 1): RulesSpec {
  const rules: [string, RuleSpec][] = [];
  const bans: [string, BanSpec][] = [];
  for (const [scope, isSingle] of Object.entries(scopes)) {
    const names = Array.from({ length: 20 }, (_, n) => `${scope}, rule ${n}`);
    for (let n = random.pick(COUNTS); n > 0; n -= 1) {
      const [name] = names.splice(random.below(names.length), 1) as [string];
      rules.push([name, randomRule(random, scope, speed)]);
    }
    if (!isSingle && random() < 0.6) bans.push([scope, randomBans(random)]);
  }
  const shuffled = rules
    .map((rule) => ({ rule, order: random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ rule }) => rule);
  const plans = PLANS.filter(() => random() < 0.5).map((name): [string, PlanSpec] => [
    name,
    randomPlan(
      random,
      shuffled.map(([rule]) => rule),
      speed,
    ),
  ]);
  return {
    scopes,
    rules: Object.fromEntries(shuffled),
    plans: Object.fromEntries(random() < 0.5 ? plans : plans.reverse()),
    bans: Object.fromEntries(bans),
  };
}

function randomRule(random: Random, scope: string, speed: number): RuleSpec {
  const actions = ACTIONS.filter(() => random() < 0.5);
  return {
    ...{ scope, rate: random.pick(RATES) * speed, burst: random.pick(BURSTS) },
    ...{ warnBelow: random.pick(SHARES), unit: random.pick([0, 0, 0, 1, 2, 7]) },
    ...(random() < 0.6 || actions.length === 0 ? {} : { actions }),
    ...{ dryRun: random() < 0.15, violation: random() < 0.8 },
  };
}

function randomPlan(random: Random, rules: readonly string[], speed: number): PlanSpec {
  const plan: [string, PlanSpec[string]][] = [];
  for (const rule of rules) {
    const dice = random();
    if (dice < 0.2) plan.push([rule, null]);
    else if (dice < 0.4)
      plan.push([rule, { rate: random.pick(RATES) * speed, burst: random.pick(BURSTS) }]);
    else if (dice < 0.5) plan.push([rule, { warnBelow: random.pick(SHARES) }]);
  }
  return Object.fromEntries(plan);
}

function randomBans(random: Random): BanSpec {
  return {
    ...{ violations: random.pick([1, 2, 3, 4.5, 20]), withinSeconds: random.pick([0.5, 10, 3600]) },
    seconds: random.pick([[1], [0.1, 1, 60], [5, 50], [10, Infinity], [1 / 3]]),
    jitter: random.pick([0, 0.1, 0.9]),
    forgetAfterSeconds: random.pick([Infinity, 0.5, 10, 100]),
  };
}
