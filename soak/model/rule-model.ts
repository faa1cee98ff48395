// The reference model of RuleLimiter: one record for each key, in plain objects. It is exact. In a full table the limiter
// evicts records of its own choice; `lose` tells the model about one that is gone.

import {
  ALLOWED,
  type Asked,
  allows,
  longestOf,
  type ModelBan,
  type ModelVerdict,
  type RuleQuery,
  type SavedPeer,
} from './rule-answers.js';
import {
  banLevelAt,
  freshRecord,
  isBanned,
  levelAt,
  type ModelBans,
  punish,
  RuleRates,
  type RuleRecord,
  secondsBetween,
} from './rule-records.js';
import { savedRecord, savedSingle } from './rule-restart.js';

export interface ModelOptions {
  /** The names of the scopes, in their order; true: one bucket for everybody. */
  readonly scopes: Readonly<Record<string, boolean>>;
  readonly maxPeers: number;
  readonly rates: RuleRates;
  bans: Readonly<Record<string, ModelBans>>;
  allow: Readonly<Record<string, readonly string[]>>;
  deny: Readonly<Record<string, readonly string[]>>;
  /** What `random` of the limiter returns. */
  readonly random: number;
  /** The keys of all scopes, from those that a caller gives. */
  readonly keysOf: (keys: RuleQuery['keys']) => RuleQuery['keys'];
}

/** What an update replaces. */
export type ModelSections = Pick<ModelOptions, 'bans' | 'allow' | 'deny'> &
  Pick<RuleRates, 'rules'>;

const MOST_USED = 2 ** 53;
const SINGLE = '';

export class RuleModel {
  readonly options: ModelOptions;
  readonly outcomes = { allow: 0, delay: 0, banned: 0, denied: 0 };
  /** By rule. */
  readonly checked = new Map<string, number>();
  readonly refused = new Map<string, number>();
  readonly dryRunRefused = new Map<string, number>();
  /** By scope. */
  readonly refusedNewcomers = new Map<string, number>();
  readonly bansBegun = new Map<string, number>();
  /** The bans that the last check has begun. */
  begun: ModelBan[] = [];
  readonly #records = new Map<string, Map<string, RuleRecord>>();
  /** By scope: the records that have been banned, so that bans can be counted. */
  readonly #punished = new Map<string, Set<RuleRecord>>();

  constructor(options: ModelOptions) {
    this.options = options;
    for (const scope of Object.keys(options.scopes)) {
      this.#records.set(scope, new Map());
      this.#punished.set(scope, new Set());
    }
    this.clear();
  }

  check(given: RuleQuery, now: number): ModelVerdict {
    const verdict = this.#decide(this.#resolved(given), now, true);
    this.outcomes[verdict.outcome] += 1;
    return verdict;
  }

  /** The verdict of a check, and the used tokens of the rules that apply. Changes nothing. */
  peek(given: RuleQuery, now: number): { verdict: ModelVerdict; used: [string, number][] } {
    const query = this.#resolved(given);
    const used = this.#ask(query, now, false).map(({ rule, record }): [string, number] => {
      return [rule.name, record.used.get(rule.name) ?? 0];
    });
    return { verdict: this.#decide(query, now, false), used };
  }

  /** `sign`: 1 for a charge, -1 for a refund. */
  settle(given: RuleQuery, sign: 1 | -1, now: number): void {
    const query = this.#resolved(given);
    if (this.#isAllowListed(query)) return;
    const asked = this.#ask(query, now, true).filter(({ rule }) => !rule.dryRun);
    for (const { rule, record, cost } of asked) {
      if (sign === 1 && cost > 0 && !this.#store(rule.scope, query, record, now)) continue;
      const sum = (record.used.get(rule.name) ?? 0) + sign * cost;
      record.used.set(rule.name, Math.min(Math.max(0, sum), MOST_USED));
    }
  }

  /** Rules that have gone, and those of another scope, lose their counts, and records what they have used of them. */
  update({ rules, ...others }: ModelSections, now: number): void {
    const { rates } = this.options;
    for (const { name, scope } of rates.rules) {
      if (rules.some((rule) => rule.name === name && rule.scope === scope)) continue;
      for (const counts of [this.checked, this.refused, this.dryRunRefused]) counts.delete(name);
      for (const record of this.records(scope).values()) record.used.delete(name);
    }
    rates.update(rules, now);
    Object.assign(this.options, others);
  }

  /** False if there is no space for the key. */
  ban(scope: string, key: string, seconds: number, now: number): boolean {
    const record = this.find(scope, key) ?? freshRecord(now);
    if (!this.#store(scope, { keys: { [scope]: key } }, record, now)) return false;
    const bans = this.options.bans[scope];
    if (bans !== undefined) record.banLevel = banLevelAt(record, bans, now);
    record.banEnd = Math.max(record.banEnd, now + seconds);
    this.#punished.get(scope)?.add(record);
    return true;
  }

  unban(scope: string, key: string, now: number): boolean {
    const record = this.find(scope, key);
    if (record === undefined || !isBanned(record, now)) return false;
    record.banEnd = now;
    return true;
  }

  find(scope: string, key: string): RuleRecord | undefined {
    return this.#records.get(scope)?.get(key);
  }

  records(scope: string): ReadonlyMap<string, RuleRecord> {
    return this.#records.get(scope) as Map<string, RuleRecord>;
  }

  lose(scope: string, key: string): void {
    const record = this.find(scope, key);
    if (record === undefined) return;
    this.#punished.get(scope)?.delete(record);
    this.#records.get(scope)?.delete(key);
  }

  clear(): void {
    for (const [scope, records] of this.#records) {
      records.clear();
      this.#punished.get(scope)?.clear();
      if (this.options.scopes[scope]) records.set(SINGLE, freshRecord(-Infinity));
    }
  }

  /** Returns the number of records that it removes from tables. */
  cleanup(maxIdle: number, now: number): number {
    let removed = 0;
    for (const [scope, records] of this.#records) {
      if (this.options.scopes[scope]) continue;
      for (const [key, record] of records) {
        if (!(secondsBetween(record.at, now) > maxIdle)) continue;
        if (this.isUsed(scope, record, 0, now) || this.#isRemembered(scope, record, now)) continue;
        if (!record.isPending) removed += 1;
        this.lose(scope, key);
      }
    }
    return removed;
  }

  /** Whether a rule that applies in a plan has used tokens at its rates. */
  isUsed(scope: string, record: RuleRecord, plan: number, now: number): boolean {
    const { rates } = this.options;
    return rates.rules.some((rule) => {
      return rule.scope === scope && rule.plans[plan] && rates.usedAt(record, rule, plan, now) > 0;
    });
  }

  /** Whether a rule has used tokens at the rates of a plan in which it does not apply. No peek shows them. */
  isUsedUnseen(scope: string, record: RuleRecord, now: number): boolean {
    const { rates } = this.options;
    return rates.rules.some((rule) => {
      const isUsed = (plan: number) => rates.usedAt(record, rule, plan, now) > 0;
      return rule.scope === scope && rule.plans.some((limits, plan) => !limits && isUsed(plan));
    });
  }

  bannedCount(scope: string, now: number): number {
    const records = this.#punished.get(scope) as Set<RuleRecord>;
    for (const record of records) {
      // The clock of a full limiter does not step back.
      if (!isBanned(record, now) && this.options.maxPeers < Infinity) records.delete(record);
    }
    return [...records].filter((record) => isBanned(record, now)).length;
  }

  /** The model of a new limiter that restores a snapshot of this one. `isNamed`: whether it lists a key by its text. */
  restarted(isNamed: (peer: SavedPeer) => boolean, now: number): RuleModel {
    const { rates } = this.options;
    const after = new RuleModel({ ...this.options, rates: new RuleRates(rates.rules) });
    for (const [scope, records] of this.#records) {
      if (this.options.scopes[scope]) {
        after.#records
          .get(scope)
          ?.set(
            SINGLE,
            savedSingle(this.options, scope, this.find(scope, SINGLE) as RuleRecord, now),
          );
        continue;
      }
      for (const [key, record] of records) {
        const isOffender = record.violations > 0 || isBanned(record, now);
        const isListed = isNamed({ scope, key, isOffender });
        const saved = savedRecord(this.options, scope, record, isListed, now);
        if (saved === undefined) continue;
        after.#records.get(scope)?.set(key, saved);
        if (isBanned(saved, now)) after.#punished.get(scope)?.add(saved);
      }
    }
    return after;
  }

  #decide(query: RuleQuery, now: number, changes: boolean): ModelVerdict {
    this.begun = [];
    if (this.#isAllowListed(query)) return ALLOWED;
    for (const [scope, key] of this.#keysInOrder(query)) {
      if (this.options.deny[scope]?.includes(key)) {
        return { ...ALLOWED, outcome: 'denied', delaySeconds: Infinity, scope };
      }
    }
    const ban = this.#longestBan(query, now);
    if (ban !== undefined) return ban;
    const asked = this.#ask(query, now, changes);
    const refusing = asked.filter((one) => !one.rule.dryRun && !allows(one));
    if (refusing.length > 0) return this.#refuse(query, asked, refusing, now, changes);
    return this.#allow(query, asked, now, changes);
  }

  #allow(query: RuleQuery, asked: readonly Asked[], now: number, changes: boolean): ModelVerdict {
    const charged = asked.filter((one) => one.cost > 0 && allows(one));
    const tryOnly = new Set<string>();
    for (const scope of changes ? this.#scopesOf(charged) : []) {
      if (this.#hasSpace(scope, query, now)) continue;
      const own = charged.filter(({ rule }) => rule.scope === scope);
      if (own.every(({ rule }) => rule.dryRun)) {
        tryOnly.add(scope);
        continue;
      }
      for (const { rule } of asked) count(this.checked, rule.name);
      count(this.refusedNewcomers, scope);
      return { ...ALLOWED, outcome: 'delay', delaySeconds: 1, scope };
    }
    for (const scope of tryOnly) count(this.refusedNewcomers, scope);
    let least = Infinity;
    let warning: string | null = null;
    for (const one of asked) {
      const { rule, record, cost, limits } = one;
      const used = Math.min((record.used.get(rule.name) ?? 0) + cost, MOST_USED);
      if (changes) this.#charge(query, one, tryOnly.has(rule.scope), now);
      const share = (limits.burst - used) / limits.burst;
      if (rule.dryRun || !(share < limits.warnBelow) || !(share < least)) continue;
      least = share;
      warning = rule.name;
    }
    return { ...ALLOWED, warning };
  }

  #refuse(
    query: RuleQuery,
    asked: readonly Asked[],
    refusing: readonly Asked[],
    now: number,
    changes: boolean,
  ): ModelVerdict {
    const longest = longestOf(refusing);
    const answer = { ...ALLOWED, outcome: 'delay' as const, ...longest };
    if (!changes) return answer;
    const violating = refusing.filter(({ rule, cost }) => {
      return rule.violation && cost > 0 && !this.options.scopes[rule.scope];
    });
    const trying = asked.filter((one) => one.rule.dryRun && one.cost > 0 && allows(one));
    const stored = this.#scopesOf([...violating, ...trying]);
    const full = new Set(stored.filter((scope) => !this.#hasSpace(scope, query, now)));
    for (const scope of full) count(this.refusedNewcomers, scope);
    for (const one of asked)
      this.#charge(query, one, !one.rule.dryRun || full.has(one.rule.scope), now);
    for (const { rule } of refusing) count(this.refused, rule.name);
    for (const scope of this.#scopesOf(violating)) {
      if (full.has(scope)) continue;
      const own = violating.filter(({ rule }) => rule.scope === scope);
      this.#violate(query, scope, own, now);
    }
    if (this.begun.length === 0) return answer;
    const ban = this.begun.reduce((a, b) => (b.banDuration > a.banDuration ? b : a));
    const { rule, scope, banDuration } = ban;
    return { ...ALLOWED, outcome: 'banned', delaySeconds: banDuration, rule, scope };
  }

  /** Counts a rule that was asked, and lets it take its cost. */
  #charge(query: RuleQuery, one: Asked, isFree: boolean, now: number): void {
    const { rule, record, cost } = one;
    count(this.checked, rule.name);
    if (rule.dryRun && !allows(one)) count(this.dryRunRefused, rule.name);
    if (isFree || !allows(one) || cost === 0) return;
    this.#store(rule.scope, query, record, now);
    record.used.set(rule.name, Math.min((record.used.get(rule.name) ?? 0) + cost, MOST_USED));
  }

  #violate(query: RuleQuery, scope: string, own: readonly Asked[], now: number): void {
    const { record } = own[0] as Asked;
    const key = query.keys[scope] as string;
    this.#store(scope, query, record, now);
    record.violations = Math.min(record.violations + 1, Number.MAX_SAFE_INTEGER);
    const policy = this.options.bans[scope];
    const banDuration = policy ? punish(record, policy, this.options.random, now) : 0;
    if (banDuration === 0) return;
    this.#punished.get(scope)?.add(record);
    count(this.bansBegun, scope);
    const { violations } = record;
    this.begun.push({ scope, key, rule: longestOf(own).rule, violations, banDuration });
  }

  /** The rules that apply, in the order of their declaration, with refilled records. */
  #ask({ keys, cost, action, plan }: RuleQuery, now: number, changes: boolean): Asked[] {
    const { rates, scopes } = this.options;
    const views = new Map<string, RuleRecord>();
    const asked: Asked[] = [];
    for (const rule of rates.rules) {
      const { scope } = rule;
      const limits = rule.plans[plan];
      const key = scopes[scope] ? SINGLE : keys[scope];
      const isForAction = rule.action === undefined || rule.action === action;
      if (!limits || key === undefined || !isForAction) continue;
      let record = views.get(scope);
      if (record === undefined) {
        const found = this.find(scope, key) ?? freshRecord(now);
        record = changes ? found : { ...found, used: new Map(found.used) };
        rates.refill(record, scope, plan, now);
        views.set(scope, record);
      }
      asked.push({
        rule,
        limits,
        record,
        cost: cost[rule.unit] ?? (rule.unit === 'requests' ? 1 : 0),
      });
    }
    return asked;
  }

  /** Puts a record into its table. False if there is no space. */
  #store(
    scope: string,
    { keys }: Pick<RuleQuery, 'keys'>,
    record: RuleRecord,
    now: number,
  ): boolean {
    if (this.options.scopes[scope]) return true;
    const key = keys[scope] as string;
    if (!this.#hasSpace(scope, { keys }, now)) {
      return false;
    }
    record.isPending = false;
    this.#records.get(scope)?.set(key, record);
    return true;
  }

  /** Only bans can keep a full table from taking a newcomer. */
  #hasSpace(scope: string, { keys }: Pick<RuleQuery, 'keys'>, now: number): boolean {
    const { maxPeers, scopes } = this.options;
    if (scopes[scope] || maxPeers === Infinity) return true;
    const known = this.find(scope, keys[scope] as string);
    if (known !== undefined && isBanned(known, now)) return true;
    return this.bannedCount(scope, now) < maxPeers;
  }

  #longestBan(query: RuleQuery, now: number): ModelVerdict | undefined {
    let longest: ModelVerdict | undefined;
    for (const [scope, key] of this.#keysInOrder(query)) {
      const left = (this.find(scope, key)?.banEnd ?? -Infinity) - now;
      if (!(left > (longest?.delaySeconds ?? 0))) continue;
      longest = { ...ALLOWED, outcome: 'banned', delaySeconds: left, scope };
    }
    return longest;
  }

  #isRemembered(scope: string, record: RuleRecord, now: number): boolean {
    const policy = this.options.bans[scope];
    if (isBanned(record, now)) return true;
    if (policy === undefined) return false;
    if (levelAt(record, policy, now) > 0) return true;
    return policy.forgetAfterSeconds < Infinity && banLevelAt(record, policy, now) > 0;
  }

  #resolved(query: RuleQuery): RuleQuery {
    return { ...query, keys: this.options.keysOf(query.keys) };
  }

  #isAllowListed(query: RuleQuery): boolean {
    return this.#keysInOrder(query).some(([scope, key]) => {
      return this.options.allow[scope]?.includes(key);
    });
  }

  #keysInOrder({ keys }: RuleQuery): [string, string][] {
    const names = Object.keys(this.options.scopes).filter((scope) => keys[scope] !== undefined);
    return names.map((scope) => [scope, keys[scope] as string]);
  }

  #scopesOf(asked: readonly Asked[]): string[] {
    const names = new Set(asked.map(({ rule }) => rule.scope));
    return Object.keys(this.options.scopes).filter((scope) => names.has(scope));
  }
}

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
