// RuleContext: what a RuleLimiter and its opened peers share. It turns names into the numbers of the engine, and the
// engine's answers into verdicts.

import { callSafely } from '../common/callbacks.js';
import { invalidValue, show } from '../common/errors.js';
import { isRecord } from '../common/kinds.js';
import { requireCost } from '../common/options.js';
import { detachString } from '../common/strings.js';
import {
  AT_BAN_RULE,
  AT_BAN_SECONDS,
  AT_BEGUN,
  AT_COSTS,
  AT_DELAY,
  AT_RANDOM,
  AT_RULE,
  AT_SCOPE,
  AT_VIOLATIONS,
  AT_WARNING,
  MAX_RULES,
  RULE_BANNED,
  RULE_NUMBERS,
  RULE_WARNED,
  type RuleAnswer,
  type RuleKeys,
} from '../engine/rules.js';
import type { RuleBook } from './compile.js';
import { RemovedCounts } from './removed-counts.js';
import { type Listed, ON_ALLOW_LIST, ScopeKeys } from './scope-keys.js';
import { REQUESTS, type ScopeSpec } from './sections.js';
import type { Cost, Keys, RuleBan, RuleVerdict } from './types.js';
import { ALLOWED, verdict } from './verdicts.js';

/** The keys of a peer by scope, as the engine takes them. */
export interface ResolvedKeys {
  readonly keys: RuleKeys;
  /** A bit for each scope that has a key or is single. */
  readonly mask: number;
}

export class RuleContext {
  readonly scopes: readonly ScopeSpec[];
  readonly keys: ScopeKeys;
  /** Checks that lists have decided. */
  readonly listed: { allow: number; denied: number } = { allow: 0, denied: 0 };
  /** Counts of rules that updates have removed. */
  readonly removed: RemovedCounts;
  readonly #random: () => number;
  readonly #report: (bans: readonly RuleBan[]) => void;
  /** For each scope the random number of its next ban. */
  readonly #draws: number[];
  #book: RuleBook;
  #version = 0;
  /** The index of the unit of a cost that is a number; -1 if no rule has it. */
  #requests = -1;
  /** Shared verdicts with a warning, by the rule's id. */
  #warnings: (RuleVerdict | undefined)[] = [];

  /** `report` is called with the bans that a check has begun. */
  constructor(
    scopes: readonly ScopeSpec[],
    book: RuleBook,
    random: () => number,
    report: (bans: readonly RuleBan[]) => void,
  ) {
    this.scopes = scopes;
    this.keys = new ScopeKeys(scopes);
    this.removed = new RemovedCounts(scopes.length);
    this.#random = random;
    this.#report = report;
    this.#draws = scopes.map(() => 0);
    this.#book = book;
    this.use(book);
  }

  get book(): RuleBook {
    return this.#book;
  }

  /** Changes with each `use`. */
  get version(): number {
    return this.#version;
  }

  use(book: RuleBook): void {
    this.#book = book;
    this.#version += 1;
    this.#warnings = [];
    this.#requests = book.unitIndexes.get(REQUESTS) ?? -1;
    this.keys.setLists(book.sections.allow, book.sections.deny);
    for (const { index } of this.scopes) this.#draw(index);
  }

  /** @throws `ERR_LIMITER_OPTION` */
  planIndexOf(plan: string | undefined): number {
    if (plan === undefined) return 0;
    const index = this.#book.planIndexes.get(plan);
    if (index !== undefined) return index;
    const names = [...this.#book.planIndexes.keys()].join(', ');
    const accepted = names === '' ? 'absent, as there are no plans' : `one of ${names}`;
    throw invalidValue('ERR_LIMITER_OPTION', 'plan', plan, accepted);
  }

  hasPlan(plan: string): boolean {
    return this.#book.planIndexes.has(plan);
  }

  /** @throws `ERR_LIMITER_OPTION` */
  programOf(planIndex: number, action: string | undefined): number {
    const first = planIndex * this.#book.plan.actions;
    if (action === undefined) return first;
    if (typeof action !== 'string') {
      throw invalidValue('ERR_LIMITER_OPTION', 'action', action, 'a string');
    }
    return first + (this.#book.actionIndexes.get(action) ?? 0);
  }

  /** Returns the keys as an object that later changes of the caller's object do not affect. @throws `ERR_LIMITER_KEY` */
  ownKeys(keys: Keys | string): Keys {
    this.keys.resolve(keys);
    this.keys.forget();
    const given = typeof keys === 'string' ? { [this.keys.onlyName]: keys } : keys;
    const own: Record<string, string> = {};
    for (const [name, key] of Object.entries(given)) {
      if (key !== undefined) own[name] = detachString(key);
    }
    return Object.freeze(own);
  }

  /** @throws `ERR_LIMITER_KEY` */
  resolved(keys: Keys): ResolvedKeys {
    const mask = this.keys.resolve(keys);
    const own = this.keys.keys.map((key) => (key === undefined ? key : detachString(key)));
    this.keys.forget();
    return { keys: own, mask };
  }

  listedKeys(keys: Keys): Listed {
    const listed = this.keys.listed(this.keys.resolve(keys));
    this.keys.forget();
    return listed;
  }

  /**
   * Writes the costs and the random numbers of the next call of the engine, which must follow at once.
   * @throws `ERR_LIMITER_COST`
   */
  writeArguments(cost: Cost | undefined): void {
    const { length } = this.#book.units;
    for (let i = 0; i < length; i += 1) RULE_NUMBERS[AT_COSTS + i] = 0;
    if (cost !== undefined && typeof cost !== 'number') {
      this.#writeCosts(cost);
    } else {
      if (cost !== undefined) requireCost(cost);
      if (this.#requests >= 0) RULE_NUMBERS[AT_COSTS + this.#requests] = cost ?? 1;
    }
    const draws = this.#draws;
    for (let i = 0; i < draws.length; i += 1) RULE_NUMBERS[AT_RANDOM + i] = draws[i] as number;
  }

  /** Shapes the answer of a check, and reports the bans that it has begun. */
  verdictOf(answer: RuleAnswer | undefined, keys: RuleKeys): RuleVerdict {
    if (answer === undefined) return ALLOWED;
    const result = this.answerOf(answer);
    if (answer === RULE_BANNED && RULE_NUMBERS[AT_BEGUN] !== 0) this.#reportBans(keys);
    return result;
  }

  /** Shapes an answer. */
  answerOf(answer: RuleAnswer | undefined): RuleVerdict {
    if (answer === undefined) return ALLOWED;
    const rule = RULE_NUMBERS[AT_RULE] as number;
    if (answer === RULE_WARNED) return this.#warning(RULE_NUMBERS[AT_WARNING] as number);
    const scope = this.scopes[RULE_NUMBERS[AT_SCOPE] as number] as ScopeSpec;
    const outcome = answer === RULE_BANNED ? 'banned' : 'delay';
    const delay = RULE_NUMBERS[AT_DELAY] as number;
    return verdict(outcome, delay, rule < 0 ? null : this.#ruleName(rule), scope.name, null);
  }

  /** Counts a check that a list has decided. @throws `ERR_LIMITER_COST` */
  listedVerdict(listed: number, cost: Cost | undefined): RuleVerdict {
    this.writeArguments(cost);
    this.listed[listed === ON_ALLOW_LIST ? 'allow' : 'denied'] += 1;
    return this.listAnswer(listed);
  }

  listAnswer(listed: number): RuleVerdict {
    if (listed === ON_ALLOW_LIST) return ALLOWED;
    return verdict('denied', Infinity, null, (this.scopes[listed] as ScopeSpec).name, null);
  }

  #ruleName(id: number): string {
    return this.#book.ruleAt[id]?.spec.name as string;
  }

  #warning(id: number): RuleVerdict {
    const known = this.#warnings[id];
    if (known !== undefined) return known;
    const result = verdict('allow', 0, null, null, this.#ruleName(id));
    this.#warnings[id] = result;
    return result;
  }

  #writeCosts(cost: Readonly<Record<string, number>>): void {
    if (!isRecord(cost)) {
      const accepted = 'a finite number of at least 0, or an object of such numbers by unit';
      throw invalidValue('ERR_LIMITER_COST', 'a cost', cost, accepted);
    }
    if (this.#requests >= 0) RULE_NUMBERS[AT_COSTS + this.#requests] = 1;
    for (const unit in cost) {
      const index = this.#book.unitIndexes.get(unit);
      const value = cost[unit];
      if (index === undefined && unit !== REQUESTS) {
        const units = new Set([REQUESTS, ...this.#book.units]);
        const accepted = `a cost by units of rules: ${[...units].join(', ')}`;
        throw invalidValue('ERR_LIMITER_COST', 'a cost', unit, accepted);
      }
      if (value === undefined) continue;
      if (!(value >= 0 && value < Infinity)) requireCost(value, `a cost of ${show(unit)}`);
      if (index !== undefined) RULE_NUMBERS[AT_COSTS + index] = value;
    }
  }

  #reportBans(keys: RuleKeys): void {
    const begun = RULE_NUMBERS[AT_BEGUN] as number;
    const bans: RuleBan[] = [];
    for (const { index, name } of this.scopes) {
      if ((begun & (1 << index)) === 0) continue;
      bans.push({
        scope: name,
        key: keys[index] as string,
        rule: this.#ruleName(index * MAX_RULES + (RULE_NUMBERS[AT_BAN_RULE + index] as number)),
        violations: RULE_NUMBERS[AT_VIOLATIONS + index] as number,
        banDuration: RULE_NUMBERS[AT_BAN_SECONDS + index] as number,
      });
      this.#draw(index);
    }
    this.#report(bans);
  }

  /** Draws ahead, so that a function of the user never runs in the middle of a decision. */
  #draw(scope: number): void {
    const jitter = this.#book.plan.bans[scope]?.jitter ?? 0;
    if (jitter === 0) return;
    callSafely(() => {
      const drawn = this.#random();
      if (!(drawn >= 0 && drawn < 1)) {
        throw invalidValue('ERR_LIMITER_OPTION', 'random()', drawn, 'a number from 0 to below 1');
      }
      this.#draws[scope] = drawn;
    });
  }
}
