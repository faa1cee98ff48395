// What the reference model of RuleLimiter stores of one key of one scope, and how time changes it. It shares no code with
// the limiter and its engines.

/** A rule as the model knows it. Numbers are by plan; null: the rule does not apply in that plan. */
export interface ModelRule {
  readonly name: string;
  readonly scope: string;
  /** Undefined: every action. */
  readonly action: string | undefined;
  readonly unit: string;
  readonly dryRun: boolean;
  readonly violation: boolean;
  /** The first is the base plan. */
  readonly plans: readonly (RuleLimits | null)[];
}

export interface RuleLimits {
  readonly rate: number;
  readonly burst: number;
  readonly warnBelow: number;
}

export interface ModelBans {
  readonly violations: number;
  readonly withinSeconds: number;
  readonly seconds: readonly number[];
  readonly jitter: number;
  readonly forgetAfterSeconds: number;
}

export interface RuleRecord {
  /** The instant of the last refill. */
  at: number;
  /** By rule; absent: nothing. */
  used: Map<string, number>;
  violations: number;
  level: number;
  levelAt: number;
  banLevel: number;
  /** The end of the last ban; -Infinity: none. */
  banEnd: number;
  /** Restored under a digest and not back yet: it is not in the table. */
  isPending: boolean;
}

export function freshRecord(at: number): RuleRecord {
  const punishment = { level: 0, levelAt: -Infinity, banLevel: 0, banEnd: -Infinity };
  return { at, used: new Map(), violations: 0, ...punishment, isPending: false };
}

/** The rate of a rule in a plan; if it does not apply there, that of the base plan. */
export function rateOf(rule: ModelRule, plan: number): number {
  return (rule.plans[plan] ?? (rule.plans[0] as RuleLimits)).rate;
}

/** The rate that a rule had among earlier rules; 0 if it was not there. */
function pastRate(rules: ReadonlyMap<string, ModelRule>, rule: ModelRule, plan: number): number {
  const past = rules.get(rule.name);
  return past === undefined || past.scope !== rule.scope ? 0 : rateOf(past, plan);
}

export function secondsBetween(then: number, now: number): number {
  return Math.max(0, now - then);
}

/** The number of updates with changed rates that a limiter remembers. */
const CHANGES = 8;

/** The rules of a limiter, and the rates that they had before. */
export class RuleRates {
  rules: readonly ModelRule[];
  #before: { until: number; rules: ReadonlyMap<string, ModelRule> }[] = [];

  constructor(rules: readonly ModelRule[]) {
    this.rules = rules;
  }

  update(rules: readonly ModelRule[], now: number): void {
    const before = new Map(this.rules.map((rule) => [rule.name, rule]));
    const isSame = (rule: ModelRule) =>
      rule.plans.every((_, plan) => rateOf(rule, plan) === pastRate(before, rule, plan));
    if (rules.length !== this.rules.length || !rules.every(isSame)) {
      this.#before = [...this.#before, { until: now, rules: before }].slice(-CHANGES);
    }
    this.rules = rules;
  }

  /** The used tokens of a rule at `now`, at the rates of a plan. */
  usedAt(record: RuleRecord, rule: ModelRule, plan: number, now: number): number {
    let used = record.used.get(rule.name) ?? 0;
    let { at } = record;
    for (const { until, rules } of this.#before) {
      const end = Math.min(until, now);
      if (!(end > at)) continue;
      const rate = pastRate(rules, rule, plan);
      // Not for a rule that was not there: 0 times the time since a single scope's beginning is no number.
      if (rate > 0) used = Math.max(0, used - (end - at) * rate);
      at = end;
    }
    return Math.max(0, used - secondsBetween(at, now) * rateOf(rule, plan));
  }

  refill(record: RuleRecord, scope: string, plan: number, now: number): void {
    if (!(now > record.at)) return;
    const own = this.rules.filter((rule) => rule.scope === scope);
    for (const rule of own) record.used.set(rule.name, this.usedAt(record, rule, plan, now));
    record.at = now;
  }

  /** The used tokens of a rule that a snapshot stores: 0 if it is full again within ten seconds. */
  saved(record: RuleRecord, rule: ModelRule, now: number): number {
    const seconds = this.usedAt(record, rule, 0, now) / rateOf(rule, 0);
    return seconds > 10 ? (record.used.get(rule.name) ?? 0) : 0;
  }
}

export function isBanned({ banEnd }: RuleRecord, now: number): boolean {
  return now < banEnd;
}

export function levelAt(record: RuleRecord, bans: ModelBans, now: number): number {
  const seconds = secondsBetween(record.levelAt, now);
  return Math.max(0, record.level - seconds * (bans.violations / bans.withinSeconds));
}

export function banLevelAt(record: RuleRecord, bans: ModelBans, now: number): number {
  if (bans.forgetAfterSeconds === Infinity) return record.banLevel;
  const seconds = secondsBetween(record.banEnd, now);
  return Math.max(0, record.banLevel - Math.floor(seconds / bans.forgetAfterSeconds));
}

/** Counts a violation for a ban. Returns the length of the ban that begins; 0 if none does. */
export function punish(record: RuleRecord, bans: ModelBans, random: number, now: number): number {
  record.level = levelAt(record, bans, now) + 1;
  record.levelAt = Math.max(record.levelAt, now);
  if (record.level < bans.violations) return 0;
  const step = banLevelAt(record, bans, now);
  const base = bans.seconds[Math.min(step, bans.seconds.length - 1)] as number;
  const length = base * (1 + bans.jitter * (2 * random - 1));
  record.level = 0;
  record.banLevel = step + 1;
  record.banEnd = now + length;
  return length;
}
