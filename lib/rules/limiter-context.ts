// LimiterContext: what a RuleLimiter and its opened peers share. It turns names into the numbers of the engine, and the
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
  MAX_SCOPES,
  MAX_UNITS,
  RULE_BANNED,
  RULE_NUMBERS,
  RULE_OUTDATED,
  RULE_WARNED,
  type RuleAnswer,
  type RuleKeys,
} from '../engine/rules.js';
import type { RuleBook } from './compile.js';
import { largestCost } from './largest-cost.js';
import { type Listed, ON_ALLOW_LIST, ScopeKeys } from './scope-keys.js';
import { BYTES, REQUESTS, type ScopeSpec } from './sections.js';
import type { Cost, Keys, RuleBan, RuleVerdict } from './types.js';
import { ALLOWED, verdict } from './verdicts.js';

/** The keys of a peer by scope, as the engine takes them. */
export interface ResolvedKeys {
  readonly keys: RuleKeys;
  /** A bit for each scope that has a key or is single. */
  readonly mask: number;
}

/** `LimiterContext.lastKind` is a program times this, plus a bit for each scope. */
export const KINDS_PER_PROGRAM: number = 2 ** MAX_SCOPES;

/** The random number that leaves the length of a ban as it is. */
const NO_JITTER = 0.5;

/** The arguments of a call by keys, as the engine takes them. The costs are in RULE_NUMBERS. */
export class RuleCall implements ResolvedKeys {
  /** The keys as they are given, then as they are resolved. */
  readonly keys: (string | undefined)[];
  mask = 0;
  program = 0;
  /** What the lists say. */
  listed: Listed;

  constructor(scopes: number) {
    this.keys = new Array(scopes).fill(undefined);
  }
}

export class LimiterContext {
  readonly scopes: readonly ScopeSpec[];
  readonly keys: ScopeKeys;
  /** Checks that lists have decided. */
  readonly listedCounts: { allow: number; denied: number } = { allow: 0, denied: 0 };
  readonly #random: () => number;
  readonly #report: (bans: readonly RuleBan[]) => void;
  readonly #countListed: ((isAllowed: boolean) => boolean) | undefined;
  /** For each scope the random number of its next ban; undefined before it is drawn. */
  readonly #draws: (number | undefined)[];
  /** Whether a ban may have jitter. Without, engines do not read random numbers. */
  #hasJitter = false;
  /** Whether requests are the only unit, and no ban has jitter: then few numbers belong to a check. */
  #isPlain = false;
  /** For the next call; undefined during a call. A getter of the user may call the limiter: that call creates its own. */
  #spareCall: RuleCall | undefined;
  #spareCosts: Float64Array | undefined;
  #book: RuleBook;
  #actions = 1;
  #units = 0;
  #lastKind = -1;
  #version = 0;
  /** The indexes of the units that guards count; -1 if no rule has the unit. */
  #requests = -1;
  #bytes = -1;
  /** Shared verdicts with a warning, by the rule's id. */
  #warnings: (RuleVerdict | undefined)[] = [];

  /**
   * `report` is called with the bans that a check has begun. `countListed` counts a check that a list has decided, in
   * place of `listedCounts`; false if the lists are out of date.
   */
  constructor(
    scopes: readonly ScopeSpec[],
    book: RuleBook,
    random: () => number,
    report: (bans: readonly RuleBan[]) => void,
    countListed?: (isAllowed: boolean) => boolean,
  ) {
    this.scopes = scopes;
    this.keys = new ScopeKeys(scopes);
    this.#random = random;
    this.#report = report;
    this.#countListed = countListed;
    this.#draws = scopes.map(() => undefined);
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

  /** The program of the last check and its scopes, as one number; -1 if a list has decided it. */
  get lastKind(): number {
    return this.#lastKind;
  }

  setKind(program: number, mask: number): void {
    this.#lastKind = program * KINDS_PER_PROGRAM + mask;
  }

  use(book: RuleBook): void {
    this.#book = book;
    this.#version += 1;
    this.#warnings = [];
    this.#actions = book.plan.actions;
    this.#units = book.units.length;
    this.#requests = book.unitIndexes.get(REQUESTS) ?? -1;
    this.#hasJitter = book.plan.bans.some((policy) => policy !== undefined && policy.jitter > 0);
    this.#bytes = book.unitIndexes.get(BYTES) ?? -1;
    this.#isPlain = this.#units === 1 && this.#requests === 0 && !this.#hasJitter;
    this.keys.setLists(book.sections.allow, book.sections.deny);
    this.#draw();
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
    const first = planIndex * this.#actions;
    return action === undefined ? first : first + this.#actionIndexOf(action);
  }

  /** The program of the rules that name the action of deliveries. */
  deliveryProgramOf(planIndex: number): number {
    return planIndex * this.#actions + this.#book.deliveryIndex;
  }

  /** Returns the keys as an object that later changes of the caller's object do not affect. @throws `ERR_LIMITER_KEY` */
  ownKeys(keys: Keys | string): Keys {
    const values = this.#read(keys);
    this.keys.resolve(values.slice());
    const own: Record<string, string> = {};
    for (const { name, index } of this.scopes) {
      const key = values[index];
      if (key !== undefined) own[name] = detachString(key);
    }
    return Object.freeze(own);
  }

  /** Resolves keys that `ownKeys` has returned. */
  resolved(keys: Keys): ResolvedKeys & { readonly listed: Listed } {
    const values = this.#read(keys);
    const mask = this.keys.resolve(values);
    const listed = this.keys.listed(values, mask);
    const own = values.map((key) => (key === undefined ? key : detachString(key)));
    return { keys: own, mask, listed };
  }

  #read(keys: Keys | string): (string | undefined)[] {
    const values = new Array<string | undefined>(this.scopes.length).fill(undefined);
    this.keys.read(keys, values);
    return values;
  }

  /**
   * Reads and resolves the arguments of a call by keys, and writes the costs to RULE_NUMBERS. First it reads, which may
   * run code of the user that calls a limiter; from then to the engine's answer no such code runs. Release the result.
   * `bytes`: the cost in the unit of this name, unless `cost` names it.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_OPTION`
   */
  prepare(
    keys: Keys | string,
    cost: Cost | undefined,
    action: string | undefined,
    plan: string | undefined,
    bytes = 0,
  ): RuleCall {
    const call = this.#spareCall ?? new RuleCall(this.scopes.length);
    this.#spareCall = undefined;
    this.keys.read(keys, call.keys);
    this.prepareCost(cost, bytes);
    call.program = this.programOf(plan === undefined ? 0 : this.planIndexOf(plan), action);
    call.mask = this.keys.resolve(call.keys);
    call.listed = this.keys.listed(call.keys, call.mask);
    return call;
  }

  /** Ends a call. Forgets its keys, so that they do not keep in memory what a caller cut them from. */
  release(call: RuleCall): void {
    const { keys } = call;
    for (let i = 0; i < keys.length; i += 1) keys[i] = undefined;
    this.#spareCall = call;
  }

  /** Reads a cost into RULE_NUMBERS, in the same way. @throws `ERR_LIMITER_COST` */
  prepareCost(cost: Cost | undefined, bytes = 0): void {
    if (cost === undefined && this.#isPlain) RULE_NUMBERS[AT_COSTS] = 1;
    else this.#prepareAnyCost(cost, bytes);
  }

  /**
   * The scope and the key with which a check asks a rule, after the check's costs are written; the key is '' in a single
   * scope. Undefined if the rule does not apply, or if the check costs nothing of its unit.
   */
  asked(
    rule: string,
    { keys, mask }: ResolvedKeys,
    program: number,
  ): { readonly scope: string; readonly key: string } | undefined {
    const placed = this.#book.rules.find(({ spec }) => spec.name === rule);
    if (placed === undefined) return undefined;
    const { scope } = placed.spec;
    const { applies, units } = this.#book.plan;
    const rules = applies[program * this.scopes.length + scope] as number;
    const isAsked = (mask >> scope) & (rules >> placed.slot) & 1;
    if (!isAsked || RULE_NUMBERS[AT_COSTS + (units[placed.id] as number)] === 0) return undefined;
    return { scope: (this.scopes[scope] as ScopeSpec).name, key: keys[scope] ?? '' };
  }

  /** See `largestCost`. */
  largestCost(unit: string, action: string | undefined, named: readonly string[]): number {
    return largestCost(this.#book, this.scopes, unit, action, named);
  }

  #prepareAnyCost(cost: Cost | undefined, bytes: number): void {
    if (cost === undefined || typeof cost === 'number') {
      if (cost !== undefined) requireCost(cost);
      for (let i = 0; i < this.#units; i += 1) RULE_NUMBERS[AT_COSTS + i] = 0;
      if (this.#requests >= 0) RULE_NUMBERS[AT_COSTS + this.#requests] = cost ?? 1;
      if (this.#bytes >= 0) RULE_NUMBERS[AT_COSTS + this.#bytes] = bytes;
    } else {
      this.#prepareCosts(cost, bytes);
    }
    if (this.#hasJitter) this.#writeDraws();
  }

  #prepareCosts(cost: Readonly<Record<string, number>>, bytes: number): void {
    const costs = this.#spareCosts ?? new Float64Array(MAX_UNITS);
    this.#spareCosts = undefined;
    const version = this.#version;
    this.#readCosts(cost, bytes, costs);
    // If a getter has updated the limiter, the units may have other indexes.
    if (version !== this.#version) this.#readCosts(cost, bytes, costs);
    for (let i = 0; i < this.#units; i += 1) RULE_NUMBERS[AT_COSTS + i] = costs[i] as number;
    this.#spareCosts = costs;
  }

  #writeDraws(): void {
    const draws = this.#draws;
    for (let i = 0; i < draws.length; i += 1) RULE_NUMBERS[AT_RANDOM + i] = draws[i] ?? NO_JITTER;
  }

  /** The bans that a check has begun; undefined if there are none. Read them before any code of the user runs. */
  bansOf(answer: RuleAnswer, keys: RuleKeys): RuleBan[] | undefined {
    const begun = answer === RULE_BANNED ? (RULE_NUMBERS[AT_BEGUN] as number) : 0;
    if (begun === 0) return undefined;
    return this.scopes
      .filter(({ index }) => (begun >> index) & 1)
      .map(({ index, name }) => ({
        scope: name,
        key: keys[index] as string,
        rule: this.#ruleName(index * MAX_RULES + (RULE_NUMBERS[AT_BAN_RULE + index] as number)),
        violations: RULE_NUMBERS[AT_VIOLATIONS + index] as number,
        banDuration: RULE_NUMBERS[AT_BAN_SECONDS + index] as number,
      }));
  }

  /** Reports bans, and draws the random numbers of the next ones. */
  report(bans: readonly RuleBan[]): void {
    for (const { scope } of bans) {
      const index = this.scopes.findIndex(({ name }) => name === scope);
      this.#draws[index] = undefined;
    }
    this.#draw();
    this.#report(bans);
  }

  /** The random number of the next ban of a scope. */
  drawn(scope: number): number {
    return this.#draws[scope] ?? NO_JITTER;
  }

  /** Shapes an answer. */
  answerOf(answer: RuleAnswer | undefined): RuleVerdict {
    // The caller asks again if it is out of date.
    if (answer === undefined || answer === RULE_OUTDATED) return ALLOWED;
    const rule = RULE_NUMBERS[AT_RULE] as number;
    if (answer === RULE_WARNED) return this.#warning(RULE_NUMBERS[AT_WARNING] as number);
    const scope = this.scopes[RULE_NUMBERS[AT_SCOPE] as number] as ScopeSpec;
    const outcome = answer === RULE_BANNED ? 'banned' : 'delay';
    const delay = RULE_NUMBERS[AT_DELAY] as number;
    return verdict(outcome, delay, rule < 0 ? null : this.#ruleName(rule), scope.name, null);
  }

  /** Counts a check that a list has decided. Undefined if the lists are out of date: check again. */
  listedVerdict(listed: number): RuleVerdict | undefined {
    this.#lastKind = -1;
    if (this.#countListed) {
      if (!this.#countListed(listed === ON_ALLOW_LIST)) return undefined;
    } else this.listedCounts[listed === ON_ALLOW_LIST ? 'allow' : 'denied'] += 1;
    return this.listAnswer(listed);
  }

  listAnswer(listed: number): RuleVerdict {
    if (listed === ON_ALLOW_LIST) return ALLOWED;
    return verdict('denied', Infinity, null, (this.scopes[listed] as ScopeSpec).name, null);
  }

  #actionIndexOf(action: string): number {
    if (typeof action !== 'string') {
      throw invalidValue('ERR_LIMITER_OPTION', 'action', action, 'a string');
    }
    return this.#book.actionIndexes.get(action) ?? 0;
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

  #readCosts(cost: Readonly<Record<string, number>>, bytes: number, costs: Float64Array): void {
    if (!isRecord(cost)) {
      const accepted = 'a finite number of at least 0, or an object of such numbers by unit';
      throw invalidValue('ERR_LIMITER_COST', 'a cost', cost, accepted);
    }
    costs.fill(0);
    if (this.#requests >= 0) costs[this.#requests] = 1;
    if (this.#bytes >= 0) costs[this.#bytes] = bytes;
    for (const unit in cost) {
      const index = this.#book.unitIndexes.get(unit);
      if (index === undefined && unit !== REQUESTS) {
        if (!Object.hasOwn(cost, unit)) continue;
        const units = new Set([REQUESTS, ...this.#book.units]);
        throw invalidValue('ERR_LIMITER_COST', 'a unit', unit, `one of ${[...units].join(', ')}`);
      }
      const value = cost[unit];
      if (value === undefined) continue;
      // The text of the name only if it is needed.
      if (!(typeof value === 'number' && value >= 0 && value < Infinity)) {
        requireCost(value, `a cost of ${show(unit)}`);
      }
      if (index !== undefined) costs[index] = value;
    }
  }

  /** Draws ahead what is missing, so that a function of the user never runs in the middle of a decision. */
  #draw(): void {
    for (const { index } of this.scopes) {
      const jitter = this.#book.plan.bans[index]?.jitter ?? 0;
      if (jitter === 0 || this.#draws[index] !== undefined) continue;
      // A length without jitter, if the user's function fails.
      this.#draws[index] = NO_JITTER;
      callSafely(() => {
        const drawn = this.#random();
        if (!(drawn >= 0 && drawn < 1)) {
          throw invalidValue('ERR_LIMITER_OPTION', 'random()', drawn, 'a number from 0 to below 1');
        }
        this.#draws[index] = drawn;
      });
    }
  }
}
