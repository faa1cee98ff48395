// RuleSubject calls a RulesCore by the names of scopes, rules, plans and actions, at a time that only the test moves.

import type { BansInForce, EngineName } from '../../dist/common/types.js';
import type { Engine } from '../../dist/engine/engine.js';
import { jsEngine } from '../../dist/engine/js/index.js';
import { loadNative } from '../../dist/engine/native.js';
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
  RULE_DELAYED,
  RULE_NO_ROOM,
  RULE_NUMBERS,
  RULE_OUTDATED,
  RULE_SLOTS,
  RULE_WARNED,
  type RuleAnswer,
  type RuleKeys,
  type RulesConfig,
  type RulesCore,
  SLOT_WORDS,
} from '../../dist/engine/rules.js';
import { ENGINES, TESTS_NATIVE } from '../support/limiters.js';
import { RulesModel } from './model.js';
import { type BuiltPlan, buildConfig, buildPlan, type RulesSpec } from './plans.js';
import { createSharedCore } from './shared-core.js';

export type CoreName = EngineName | 'model' | 'shared';

/** The engines, the model, which must fulfil the same contract, and the native engine with a shared table. */
export const CORES: readonly CoreName[] = [
  ...ENGINES,
  'model',
  ...(TESTS_NATIVE ? (['shared'] as const) : []),
];

/** Those whose records are as large as the rules need, and whose clock may step back. */
export const PRIVATE_CORES: readonly CoreName[] = CORES.filter((name) => name !== 'shared');

export function createCore(name: CoreName, config: RulesConfig): RulesCore {
  if (name === 'model') return new RulesModel(config);
  if (name === 'shared') return createSharedCore(config);
  const engine: Engine = name === 'js' ? jsEngine : nativeEngine();
  return engine.rules(config);
}

function nativeEngine(): Engine {
  const binary = loadNative();
  if (binary.state !== 'loaded') throw new Error(binary.reason);
  return binary.engine;
}

/** By the name of a scope. */
export type Keys = Readonly<Record<string, string>>;

export interface CallOptions {
  /** The cost of unit 0, or of each unit. Default: 1. */
  cost?: number | readonly number[];
  action?: string;
  plan?: string;
  /** The random number of all scopes, or of each. Default: 0.5. */
  random?: number | readonly number[];
}

/** What a check returns, in words. */
export type Verdict =
  | 'allowed'
  | { warning: string }
  | { delay: number; rule: string }
  | { ban: number; scope: string; rule?: string; begun?: Record<string, NewBan> }
  | { full: string; delay: number };

export interface NewBan {
  seconds: number;
  violations: number;
  rule: string;
}

/** The delay of a rule: rounded up to a multiple of 2^-20 seconds, and one step more. */
export function rounded(seconds: number): number {
  return (Math.ceil(seconds * 2 ** 20) + 1) / 2 ** 20;
}

export class RuleSubject {
  now = 1000;
  readonly core: RulesCore;
  #built: BuiltPlan;

  constructor(name: CoreName, spec: RulesSpec, maxPeers?: number) {
    this.#built = buildPlan(spec);
    this.core = createCore(name, buildConfig(this.#built, maxPeers));
  }

  get built(): BuiltPlan {
    return this.#built;
  }

  /** Moves the time. */
  at(now: number): this {
    this.now = now;
    return this;
  }

  /** Replaces the whole specification but for its scopes. */
  update(spec: Omit<RulesSpec, 'scopes'>): void {
    this.#built = buildPlan({ scopes: this.#built.spec.scopes, ...spec }, this.#built);
    this.core.update(this.#built.plan, this.now);
  }

  check(keys: Keys, options: CallOptions = {}): Verdict {
    const [list, mask, program] = this.#arguments(keys, options);
    return this.#verdict(this.core.check(list, mask, program, this.now));
  }

  open(keys: Keys): OpenedPeer {
    const [list, mask] = this.#arguments(keys, {});
    const words = this.#built.scopes.length * SLOT_WORDS;
    this.core.open(list, mask);
    const slots = RULE_SLOTS.slice(0, words);
    return {
      check: (options = {}) => {
        const [list, mask, program] = this.#arguments(keys, options);
        RULE_SLOTS.fill(-1);
        RULE_SLOTS.set(slots);
        const answer = this.core.checkPeer(list, mask, program, this.now);
        slots.set(RULE_SLOTS.subarray(0, words));
        return this.#verdict(answer);
      },
    };
  }

  peek(keys: Keys, options: CallOptions = {}): { verdict: Verdict; used: Record<string, number> } {
    const [list, mask, program] = this.#arguments(keys, options);
    const { answer, used } = this.core.peek(list, mask, program, this.now);
    const rules = [...this.#built.slots.keys()];
    return {
      verdict: this.#verdict(answer),
      used: Object.fromEntries(rules.map((rule) => [rule, used[this.indexOf(rule)] as number])),
    };
  }

  /** The used tokens of a rule. */
  used(keys: Keys, rule: string, plan = ''): number {
    return this.peek(keys, { cost: 0, plan }).used[rule] as number;
  }

  refund(keys: Keys, options: CallOptions = {}): void {
    const [list, mask, program] = this.#arguments(keys, options);
    this.core.refund(list, mask, program, this.now);
  }

  charge(keys: Keys, options: CallOptions = {}): void {
    const [list, mask, program] = this.#arguments(keys, options);
    this.core.charge(list, mask, program, this.now);
  }

  ban(scope: string, key: string, seconds: number): boolean {
    return this.core.ban(this.scopeOf(scope), key, seconds, this.now);
  }

  unban(scope: string, key: string): boolean {
    return this.core.unban(this.scopeOf(scope), key, this.now);
  }

  banSecondsLeft(scope: string, key: string): number {
    return this.core.banSecondsLeft(this.scopeOf(scope), key, this.now);
  }

  longestBans(scope: string, most = 1000): BansInForce {
    return this.core.longestBans(this.scopeOf(scope), most, this.now);
  }

  violations(scope: string, key: string): number {
    return this.core.violations(this.scopeOf(scope), key);
  }

  removePeer(scope: string, key: string): void {
    this.core.removePeer(this.scopeOf(scope), key);
  }

  cleanup(maxIdle: number): number {
    return this.core.cleanup(maxIdle, Infinity, this.now);
  }

  statistics(scope: string) {
    const { memoryBytes: _, ...rest } = this.core.statistics(this.scopeOf(scope));
    return rest;
  }

  peers(scope: string): number {
    return this.statistics(scope).peers;
  }

  /** The counts of all checks: allowed, delayed and banned. */
  answers(): [allowed: number, delayed: number, banned: number] {
    const { allowed, delayed, banned } = this.core.totals();
    return [allowed, delayed, banned];
  }

  /** The counts of a rule: checked, refused, and refused on dry run. */
  counts(rule: string): [checked: number, refused: number, dryRunRefused: number] {
    const { checked, refused, dryRunRefused } = this.core.totals();
    const at = this.indexOf(rule);
    return [checked[at] as number, refused[at] as number, dryRunRefused[at] as number];
  }

  scopeOf(name: string): number {
    return this.#built.scopes.indexOf(name);
  }

  /** The index of a rule in results and totals. */
  indexOf(rule: string): number {
    const scope = this.scopeOf(this.#built.spec.rules[rule]?.scope as string);
    return scope * MAX_RULES + (this.#built.slots.get(rule) as number);
  }

  #arguments(keys: Keys, options: CallOptions): [keys: RuleKeys, mask: number, program: number] {
    const { scopes, plans, actions, spec } = this.#built;
    const { cost = 1, random = 0.5, action = '', plan = '' } = options;
    const costs = typeof cost === 'number' ? [cost] : cost;
    RULE_NUMBERS.fill(Number.NaN);
    for (let n = 0; n < MAX_UNITS; n += 1) RULE_NUMBERS[AT_COSTS + n] = costs[n] ?? 0;
    for (let n = 0; n < MAX_SCOPES; n += 1) {
      RULE_NUMBERS[AT_RANDOM + n] = typeof random === 'number' ? random : (random[n] ?? 0.5);
    }
    const mask = scopes.reduce((bits, scope, i) => {
      return scope in keys || spec.scopes[scope] === true ? bits | (1 << i) : bits;
    }, 0);
    // An action that no rule names is action 0.
    const program = plans.indexOf(plan) * actions.length + Math.max(0, actions.indexOf(action));
    return [scopes.map((scope) => keys[scope]), mask, program];
  }

  #verdict(answer: RuleAnswer | undefined): Verdict {
    const result = (at: number) => RULE_NUMBERS[at] as number;
    const scope = this.#built.scopes[result(AT_SCOPE)] as string;
    switch (answer) {
      case undefined:
        return 'allowed';
      case RULE_WARNED:
        return { warning: this.#ruleAt(result(AT_WARNING)) };
      case RULE_DELAYED: {
        const rule = this.#ruleAt(result(AT_RULE));
        if (this.#built.spec.rules[rule]?.scope !== scope) throw new Error('AT_SCOPE is wrong');
        return { delay: result(AT_DELAY), rule };
      }
      case RULE_NO_ROOM:
        if (result(AT_RULE) !== -1) throw new Error('AT_RULE is wrong');
        return { full: scope, delay: result(AT_DELAY) };
      case RULE_OUTDATED:
        throw new Error('nobody else changes the rules');
      case RULE_BANNED: {
        const ban = { ban: result(AT_DELAY), scope };
        if (result(AT_BEGUN) === 0) {
          if (result(AT_RULE) !== -1) throw new Error('AT_RULE is wrong');
          return ban;
        }
        return { ...ban, rule: this.#ruleAt(result(AT_RULE)), begun: this.#newBans() };
      }
    }
  }

  #newBans(): Record<string, NewBan> {
    const result = (at: number) => RULE_NUMBERS[at] as number;
    const bans: Record<string, NewBan> = {};
    for (const [i, scope] of this.#built.scopes.entries()) {
      if (((result(AT_BEGUN) >> i) & 1) === 0) continue;
      bans[scope] = {
        seconds: result(AT_BAN_SECONDS + i),
        violations: result(AT_VIOLATIONS + i),
        rule: this.#ruleAt(i * MAX_RULES + result(AT_BAN_RULE + i)),
      };
    }
    return bans;
  }

  #ruleAt(index: number): string {
    const rule = Object.keys(this.#built.spec.rules).find((name) => this.indexOf(name) === index);
    if (rule === undefined) throw new Error(`there is no rule ${index}`);
    return rule;
  }
}

export interface OpenedPeer {
  check(options?: CallOptions): Verdict;
}
