// Compiles the sections of a RuleLimiter to the numbers of an engine, and keeps what the facade needs to ask and to
// answer by name.

import { invalidNumber, show } from '../common/errors.js';
import {
  COUNTS_VIOLATION,
  DRY_RUN,
  MAX_RULES,
  type RuleBanConfig,
  type RulePlan,
} from '../engine/rules.js';
import { tooMany } from './fields.js';
import {
  type BucketSpec,
  bucketsIn,
  DELIVERY,
  type Lists,
  type PlanSpec,
  REQUESTS,
  type RuleSpec,
  readBans,
  readLists,
  readPlans,
  readRules,
  type ScopeSpec,
} from './sections.js';

/** The sections as `update` replaces them. */
export interface Sections {
  readonly rules: readonly RuleSpec[];
  readonly plans: readonly PlanSpec[];
  readonly bans: readonly (RuleBanConfig | undefined)[];
  readonly allow: Lists;
  readonly deny: Lists;
}

/** Reads the sections that are given, and takes those that are not from `before`. @throws `ERR_LIMITER_OPTION` */
export function readSections(
  given: Readonly<Record<string, unknown>>,
  scopes: readonly ScopeSpec[],
  before?: Sections,
): Sections {
  const lists = (name: 'allow' | 'deny') =>
    before !== undefined && given[name] === undefined
      ? before[name]
      : readLists(given[name], name, scopes);
  const keeps = (name: 'rules' | 'plans' | 'bans') =>
    before !== undefined && given[name] === undefined ? before : undefined;
  return {
    rules: keeps('rules')?.rules ?? readRules(given['rules'], scopes),
    plans: keeps('plans')?.plans ?? readPlans(given['plans']),
    bans: keeps('bans')?.bans ?? readBans(given['bans'], scopes),
    allow: lists('allow'),
    deny: lists('deny'),
  };
}

/** A rule and its place: the slot of its scope, and the id `scope * MAX_RULES + slot`, by which an engine names it. */
export interface PlacedRule {
  readonly spec: RuleSpec;
  readonly slot: number;
  readonly id: number;
}

/** The compiled sections. */
export interface RuleBook {
  readonly sections: Sections;
  /** In the order of declaration. */
  readonly rules: readonly PlacedRule[];
  /** The rule of each id. */
  readonly ruleAt: readonly (PlacedRule | undefined)[];
  readonly units: readonly string[];
  /** The index of a unit by its name. */
  readonly unitIndexes: ReadonlyMap<string, number>;
  /** The index of an action; all actions without an index have index 0. */
  readonly actionIndexes: ReadonlyMap<string, number>;
  /** The index of a check by the rules that name the action of deliveries, without those that count every action. */
  readonly deliveryIndex: number;
  /** The index of a plan; the base plan has index 0 and no name. */
  readonly planIndexes: ReadonlyMap<string, number>;
  /** For the engine. */
  readonly plan: RulePlan;
}

/** The seconds of a ban by hand: those given, or the first of the scope's policy. @throws `ERR_LIMITER_OPTION` */
export function banSeconds(book: RuleBook, scope: number, seconds: number | undefined): number {
  const length = seconds ?? book.plan.bans[scope]?.seconds[0];
  if (typeof length === 'number' && length > 0) return length;
  const accepted = 'a number greater than 0, or Infinity';
  const otherwise = `${accepted}; the scope has no ban policy with a default`;
  const expected = seconds === undefined ? otherwise : accepted;
  throw invalidNumber('ERR_LIMITER_OPTION', 'seconds', seconds, expected);
}

/**
 * Compiles sections. Rules keep the slots that they have in `before`. If only lists have changed, the engine's plan is
 * that of `before`. @throws `ERR_LIMITER_OPTION` for a plan
 */
export function compile(
  scopes: readonly ScopeSpec[],
  sections: Sections,
  before?: RuleBook,
  rooms?: readonly number[],
): RuleBook {
  const { rules, plans, bans } = before?.sections ?? {};
  if (before !== undefined && sections.rules === rules && sections.plans === plans) {
    const plan = sections.bans === bans ? before.plan : withBans(before.plan, sections.bans);
    return { ...before, sections, plan };
  }
  return compileRules(scopes, sections, before, rooms);
}

/** Where the rules of another process are: the slot of each rule, and for each scope the number of slots. */
export interface Places {
  readonly rules: readonly number[];
  readonly slots: readonly number[];
}

/** Compiles the sections of another process. The rules get the same slots as there. */
export function compileAt(
  scopes: readonly ScopeSpec[],
  sections: Sections,
  { rules, slots }: Places,
): RuleBook {
  const placed = sections.rules.map((spec, i) => placedAt(spec, rules[i] as number));
  return compileRules(scopes, sections, {
    rules: placed,
    plan: { slots: Uint8Array.from(slots) },
    planIndexes: new Map(),
  });
}

/** The same plan as an update that adds no rule and no plan. */
export function withoutAdditions(plan: RulePlan): RulePlan {
  return withBans(plan, plan.bans);
}

/** What the next book depends on. */
interface Before extends Pick<RuleBook, 'rules' | 'planIndexes'> {
  readonly plan: Pick<RulePlan, 'slots'>;
}

/** The same rules and plans with other bans. */
function withBans(plan: RulePlan, bans: RulePlan['bans']): RulePlan {
  const added = new Uint16Array(plan.added.length);
  return { ...plan, added, origins: Uint16Array.from({ length: plan.plans }, (_, i) => i), bans };
}

function compileRules(
  scopes: readonly ScopeSpec[],
  sections: Sections,
  before: Before | undefined,
  rooms?: readonly number[],
): RuleBook {
  const { rules: specs, plans, bans } = sections;
  const slots = Uint8Array.from(before?.plan.slots ?? scopes.map(() => 0));
  const added = new Uint16Array(scopes.length);
  const rules = place(scopes, specs, before, slots, added, rooms);
  const units = [...new Set([REQUESTS, ...specs.map(({ unit }) => unit)])].filter(
    (unit) => unit !== REQUESTS || specs.some((spec) => spec.unit === unit),
  );
  const unitIndexes = new Map(units.map((unit, i) => [unit, i]));
  const { actionIndexes, deliveryIndex, classes } = classify(specs);
  const planIndexes = new Map(plans.map(({ name }, i) => [name, i + 1]));
  const base = specs.map(({ bucket }) => bucket);
  const names = new Set(specs.map(({ name }) => name));
  const buckets = [base, ...plans.map((plan) => bucketsIn(plan, specs, names))];
  const plan: RulePlan = {
    plans: plans.length + 1,
    actions: classes.length,
    applies: applying(scopes.length, rules, classes, buckets),
    ...numbersOf(scopes.length, rules, buckets),
    ...factsOf(scopes.length, rules, unitIndexes),
    slots,
    added,
    origins: Uint16Array.of(0, ...plans.map(({ name }) => before?.planIndexes.get(name) ?? 0)),
    bans,
  };
  const ruleAt = new Array<PlacedRule | undefined>(scopes.length * MAX_RULES).fill(undefined);
  for (const rule of rules) ruleAt[rule.id] = rule;
  return {
    sections,
    rules,
    ruleAt,
    units,
    unitIndexes,
    actionIndexes,
    deliveryIndex,
    planIndexes,
    plan,
  };
}

/**
 * Gives each rule a slot of its scope: its old one, else one that no rule ever had, else the lowest free one. Raises
 * `slots` and marks new rules in `added`. `rooms`: the most slots of each scope, MAX_RULES by default.
 * @throws `ERR_LIMITER_OPTION` if there are more rules
 */
function place(
  scopes: readonly ScopeSpec[],
  specs: readonly RuleSpec[],
  before: Before | undefined,
  slots: Uint8Array,
  added: Uint16Array,
  rooms: readonly number[] = [],
): PlacedRule[] {
  const taken = new Uint16Array(slots.length);
  const known = specs.map(({ name, scope }) => {
    const old = before?.rules.find(({ spec }) => spec.name === name && spec.scope === scope);
    if (old !== undefined) (taken[scope] as number) |= 1 << old.slot;
    return old?.slot;
  });
  return specs.map((spec, i) => {
    const { scope } = spec;
    let slot = known[i];
    if (slot === undefined) {
      const room = rooms[scope] ?? MAX_RULES;
      slot = freeSlot(taken[scope] as number, slots[scope] as number, room);
      if (slot >= room) throw tooManyRules(scopes[scope] as ScopeSpec, specs, room);
      (taken[scope] as number) |= 1 << slot;
      (added[scope] as number) |= 1 << slot;
      slots[scope] = Math.max(slots[scope] as number, slot + 1);
    }
    return placedAt(spec, slot);
  });
}

function placedAt(spec: RuleSpec, slot: number): PlacedRule {
  return { spec, slot, id: spec.scope * MAX_RULES + slot };
}

/** The records of a shared file have room for some rules more than when it was created. */
function tooManyRules({ name, index }: ScopeSpec, specs: readonly RuleSpec[], room: number): Error {
  const { length } = specs.filter(({ scope }) => scope === index);
  return tooMany(`rules of the scope ${show(name)} in this shared table`, length, room);
}

function freeSlot(taken: number, used: number, room: number): number {
  if (used < room) return used;
  let slot = 0;
  while ((taken >> slot) & 1) slot += 1;
  return slot;
}

/** Actions that are limited by the same rules share an index. Class 0 is the rules without an action. */
function classify(specs: readonly RuleSpec[]) {
  const applyTo = (action: string | undefined) =>
    specs.map(
      ({ actions }) => actions === undefined || (action !== undefined && actions.includes(action)),
    );
  const classes: (readonly boolean[])[] = [];
  const indexes = new Map<string, number>();
  const indexOf = (rules: readonly boolean[]) => {
    const text = String(rules);
    const index = indexes.get(text) ?? classes.push(rules) - 1;
    indexes.set(text, index);
    return index;
  };
  indexOf(applyTo(undefined));
  const actionIndexes = new Map<string, number>();
  for (const action of new Set(specs.flatMap(({ actions }) => actions ?? []))) {
    actionIndexes.set(action, indexOf(applyTo(action)));
  }
  const deliveryIndex = indexOf(specs.map(({ actions }) => actions?.includes(DELIVERY) === true));
  return { actionIndexes, deliveryIndex, classes };
}

function applying(
  scopes: number,
  rules: readonly PlacedRule[],
  classes: readonly (readonly boolean[])[],
  buckets: readonly (readonly (BucketSpec | null)[])[],
): Uint16Array {
  const inClasses = classes.map((own) => slotsOf(scopes, rules, (i) => own[i] === true));
  const applies = new Uint16Array(buckets.length * classes.length * scopes);
  let next = 0;
  for (const own of buckets) {
    const inPlan = slotsOf(scopes, rules, (i) => own[i] !== null);
    for (const inClass of inClasses) {
      for (let scope = 0; scope < scopes; scope += 1) {
        applies[next] = (inPlan[scope] as number) & (inClass[scope] as number);
        next += 1;
      }
    }
  }
  return applies;
}

/** For each scope a bit for each slot of a rule that is chosen. */
function slotsOf(
  scopes: number,
  rules: readonly PlacedRule[],
  isChosen: (rule: number) => boolean,
): Uint16Array {
  const slots = new Uint16Array(scopes);
  for (let i = 0; i < rules.length; i += 1) {
    const { spec, slot } = rules[i] as PlacedRule;
    if (isChosen(i)) (slots[spec.scope] as number) |= 1 << slot;
  }
  return slots;
}

function numbersOf(
  scopes: number,
  rules: readonly PlacedRule[],
  buckets: readonly (readonly (BucketSpec | null)[])[],
): Pick<RulePlan, 'rates' | 'bursts' | 'warnBelow'> {
  const length = buckets.length * scopes * MAX_RULES;
  const rates = new Float64Array(length);
  const bursts = new Float64Array(length);
  const warnBelow = new Float64Array(length);
  let first = 0;
  for (const own of buckets) {
    for (let i = 0; i < rules.length; i += 1) {
      const { spec, id } = rules[i] as PlacedRule;
      const bucket = own[i] ?? spec.bucket;
      rates[first + id] = bucket.rate;
      bursts[first + id] = bucket.burst;
      warnBelow[first + id] = bucket.warnBelow;
    }
    first += scopes * MAX_RULES;
  }
  return { rates, bursts, warnBelow };
}

function factsOf(
  scopes: number,
  rules: readonly PlacedRule[],
  unitIndexes: ReadonlyMap<string, number>,
): Pick<RulePlan, 'units' | 'flags' | 'ranks'> {
  const units = new Uint8Array(scopes * MAX_RULES);
  const flags = new Uint8Array(scopes * MAX_RULES);
  const ranks = new Uint8Array(scopes * MAX_RULES);
  for (const [rank, { spec, id }] of rules.entries()) {
    units[id] = unitIndexes.get(spec.unit) as number;
    flags[id] = (spec.dryRun ? DRY_RUN : 0) | (spec.violation ? COUNTS_VIOLATION : 0);
    ranks[id] = rank;
  }
  return { units, flags, ranks };
}
