// Builds the flat arrays of a RulePlan from scopes, rules and plans as plain data. Independent of the compiler in
// lib/rules, so that an error there cannot hide an error of an engine.

import {
  COUNTS_VIOLATION,
  DRY_RUN,
  MAX_RULES,
  type RuleBanConfig,
  type RulePlan,
  type RulesConfig,
} from '../../dist/engine/rules.js';

export interface RuleSpec {
  scope: string;
  /** Tokens per second. */
  rate: number;
  burst: number;
  /** Default: 0, never. */
  warnBelow?: number;
  /** Default: unit 0. */
  unit?: number;
  /** Default: every action. */
  actions?: readonly string[];
  dryRun?: boolean;
  /** Default: true. */
  violation?: boolean;
}

/** What a plan changes of a rule; null: the rule does not apply. */
export type PlanSpec = Readonly<
  Record<string, Partial<Pick<RuleSpec, 'rate' | 'burst' | 'warnBelow'>> | null>
>;

export interface BanSpec {
  violations: number;
  withinSeconds: number;
  seconds: readonly number[];
  jitter?: number;
  forgetAfterSeconds?: number;
}

export interface RulesSpec {
  /** By name, in order; true: one state serves all peers. */
  scopes: Readonly<Record<string, boolean>>;
  /** By name, in the order of declaration. */
  rules: Readonly<Record<string, RuleSpec>>;
  plans?: Readonly<Record<string, PlanSpec>>;
  /** By scope. */
  bans?: Readonly<Record<string, BanSpec>>;
}

/** A rule plan, and the names that its numbers stand for. */
export interface BuiltPlan {
  readonly spec: RulesSpec;
  readonly plan: RulePlan;
  readonly scopes: readonly string[];
  /** The slot of each rule in its scope. */
  readonly slots: ReadonlyMap<string, number>;
  /** The names of plans by index; the base plan is ''. */
  readonly plans: readonly string[];
  /** The names of actions by index; action 0, which no rule names, is ''. */
  readonly actions: readonly string[];
}

/** The rules of `previous` keep their slots, other rules take the lowest free slots of their scope. */
export function buildPlan(spec: RulesSpec, previous?: BuiltPlan): BuiltPlan {
  const scopes = Object.keys(spec.scopes);
  const rules = Object.entries(spec.rules);
  const plans = ['', ...Object.keys(spec.plans ?? {})];
  const actions = ['', ...new Set(rules.flatMap(([, { actions = [] }]) => actions))];
  const slots = placeRules(spec, previous);
  const numbers = () => new Float64Array(plans.length * scopes.length * MAX_RULES);
  const plan = {
    plans: plans.length,
    actions: actions.length,
    applies: new Uint16Array(plans.length * actions.length * scopes.length),
    rates: numbers(),
    bursts: numbers(),
    warnBelow: numbers(),
    units: new Uint8Array(scopes.length * MAX_RULES),
    flags: new Uint8Array(scopes.length * MAX_RULES),
    ranks: new Uint8Array(scopes.length * MAX_RULES),
    slots: new Uint8Array(scopes.length),
    added: new Uint16Array(scopes.length),
    origins: Uint16Array.from(plans, (name) => Math.max(0, previous?.plans.indexOf(name) ?? 0)),
    bans: scopes.map((scope) => banConfig(spec.bans?.[scope])),
  };
  if (previous !== undefined) plan.slots.set(previous.plan.slots);
  for (const [rank, [name, rule]] of rules.entries()) {
    const scope = scopes.indexOf(rule.scope);
    const slot = slots.get(name) as number;
    const index = scope * MAX_RULES + slot;
    plan.units[index] = rule.unit ?? 0;
    plan.flags[index] =
      (rule.dryRun === true ? DRY_RUN : 0) | (rule.violation === false ? 0 : COUNTS_VIOLATION);
    plan.ranks[index] = rank;
    plan.slots[scope] = Math.max(plan.slots[scope] as number, slot + 1);
    if (!keepsSlot(name, rule, previous)) plan.added[scope] = addBit(plan.added[scope], slot);
    for (const [p, planName] of plans.entries()) {
      const changed = p === 0 ? {} : spec.plans?.[planName]?.[name];
      const merged = { warnBelow: 0, ...rule, ...changed };
      const at = p * scopes.length * MAX_RULES + index;
      plan.rates[at] = merged.rate;
      plan.bursts[at] = merged.burst;
      plan.warnBelow[at] = merged.warnBelow;
      for (const [a, action] of actions.entries()) {
        if (changed === null || !(rule.actions?.includes(action) ?? true)) continue;
        const bits = (p * actions.length + a) * scopes.length + scope;
        plan.applies[bits] = addBit(plan.applies[bits], slot);
      }
    }
  }
  return { spec, plan, scopes, slots, plans, actions };
}

export function buildConfig(built: BuiltPlan, maxPeers = 1_000_000): RulesConfig {
  const single = built.scopes.map((name) => built.spec.scopes[name] === true);
  return { maxPeers, single, plan: built.plan };
}

function placeRules({ rules }: RulesSpec, previous: BuiltPlan | undefined): Map<string, number> {
  const slots = new Map<string, number>();
  const taken = new Map<string, Set<number>>();
  const place = (name: string, scope: string, slot: number) => {
    slots.set(name, slot);
    taken.set(scope, (taken.get(scope) ?? new Set()).add(slot));
  };
  for (const [name, rule] of Object.entries(rules)) {
    if (keepsSlot(name, rule, previous)) {
      place(name, rule.scope, previous?.slots.get(name) as number);
    }
  }
  for (const [name, { scope }] of Object.entries(rules)) {
    if (slots.has(name)) continue;
    let slot = 0;
    while (taken.get(scope)?.has(slot) === true) slot += 1;
    if (slot === MAX_RULES) throw new Error(`too many rules for scope ${scope}`);
    place(name, scope, slot);
  }
  return slots;
}

function keepsSlot(name: string, { scope }: RuleSpec, previous: BuiltPlan | undefined): boolean {
  return previous?.spec.rules[name]?.scope === scope;
}

function addBit(bits: number | undefined, bit: number): number {
  return (bits as number) | (1 << bit);
}

function banConfig(spec: BanSpec | undefined): RuleBanConfig | undefined {
  return spec && { jitter: 0, forgetAfterSeconds: Infinity, ...spec };
}

/** Rules of the scope `address`. */
export const addressRules = (of: Record<string, Partial<RuleSpec>>): RulesSpec['rules'] =>
  Object.fromEntries(
    Object.entries(of).map(([name, rule]) => [
      name,
      { scope: 'address', rate: 1, burst: 100, ...rule },
    ]),
  );
