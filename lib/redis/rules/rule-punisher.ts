// Violations and the bans that they lead to. The store keeps the level and the ban level of each offender, so violations
// are summed over all nodes; SharedBans tells all of them the bans.

import { MAX_SCOPES, type RuleBanConfig } from '../../engine/rules.js';
import type { LimiterContext } from '../../rules/limiter-context.js';
import type { RuleBan } from '../../rules/types.js';
import { KeyMap } from '../../tables/key-map.js';
import type { SharedRuleConfig } from './options.js';
import type { RuleBans } from './rule-bans.js';
import { keyPart } from './rule-keys.js';
import { FOREVER_SECONDS } from './rule-scripts.js';
import type { RuleStore } from './rule-store.js';

/** Offenders whose violations wait to be told, of each scope. Beyond it the oldest are forgotten. */
const MAX_UNTOLD = 100_000;
/** A node in mode `leased` may keep so many violations to itself, as a share of those that lead to a ban. */
const UNTOLD_SHARE = 1 / 20;
/** A number that Lua reads, and that stands for infinity. */
const MANY = 1e308;

/** A violation: a scope with a ban policy, the key, and the rule that it broke. */
export interface Violation {
  readonly scope: number;
  readonly id: string;
  readonly rule: string;
}

interface Told extends Violation {
  readonly count: number;
}

export class RulePunisher {
  /** Bans that checks of this process have begun, by scope. */
  readonly bansBegun: Float64Array = new Float64Array(MAX_SCOPES);
  readonly #config: SharedRuleConfig;
  readonly #store: RuleStore;
  readonly #context: LimiterContext;
  readonly #bans: RuleBans;
  readonly #prefixes: readonly string[];
  /** Violations that the store does not know, by scope and key. */
  readonly #untold: readonly KeyMap<number>[];
  /** Offenders of whom a call is in flight. */
  readonly #inFlight: readonly KeyMap<true>[];

  constructor(config: SharedRuleConfig, store: RuleStore, context: LimiterContext, bans: RuleBans) {
    this.#config = config;
    this.#store = store;
    this.#context = context;
    this.#bans = bans;
    this.#prefixes = config.scopes.map(({ name }) => store.offenderPrefix(name));
    this.#untold = config.scopes.map(() => new KeyMap<number>());
    this.#inFlight = config.scopes.map(() => new KeyMap<true>());
  }

  /** The policy of a scope. */
  policyOf(scope: number): RuleBanConfig | undefined {
    return this.#context.book.plan.bans[scope];
  }

  /**
   * Counts violations of scopes with a ban policy. Undefined if the store need not be told yet; else resolves with the bans
   * that begin. Rejects never: violations that cannot be told are forgotten.
   */
  count(violations: readonly Violation[]): Promise<RuleBan[]> | undefined {
    const told: Told[] = [];
    for (const violation of violations) {
      const { scope, id } = violation;
      const untold = this.#untold[scope] as KeyMap<number>;
      const policy = this.policyOf(scope);
      if (policy === undefined) continue;
      const count = (untold.get(id) ?? 0) + 1;
      const isKept = count < this.#step(policy) || this.#inFlight[scope]?.has(id) === true;
      if (isKept) {
        // Deleted first, so that it moves to the end.
        untold.delete(id);
        untold.set(id, count);
        if (untold.size > MAX_UNTOLD)
          for (const oldest of untold.keys()) {
            untold.delete(oldest);
            break;
          }
      } else {
        untold.delete(id);
        told.push({ ...violation, count });
      }
    }
    return told.length === 0 || this.#store.state === 'down' ? undefined : this.#tell(told);
  }

  #step({ violations }: RuleBanConfig): number {
    return this.#config.mode === 'strict' ? 1 : Math.max(1, Math.floor(violations * UNTOLD_SHARE));
  }

  async #tell(told: readonly Told[]): Promise<RuleBan[]> {
    for (const { scope, id } of told) this.#inFlight[scope]?.set(id, true);
    const keys = told.map(({ scope, id }) => this.#prefixes[scope] + keyPart(id));
    const args = told.map((one) => this.#argument(one));
    let words: number[] = [];
    try {
      words = (await this.#store.run('punish', keys, args)).split(' ').map(Number);
    } catch {
      // Not told again: the store may have counted them although its reply is missing.
    }
    for (const { scope, id } of told) this.#inFlight[scope]?.delete(id);
    const begun: RuleBan[] = [];
    for (const [at, { scope, id, rule }] of told.entries()) {
      const seconds = words[2 * at] ?? 0;
      const violations = words[2 * at + 1] ?? 0;
      if (!(seconds > 0)) continue;
      this.#bans.ban(scope, id, seconds, violations);
      (this.bansBegun[scope] as number) += 1;
      const banDuration = seconds >= FOREVER_SECONDS / 10 ? Infinity : seconds;
      const { name } = this.#config.scopes[scope] as SharedRuleConfig['scopes'][number];
      begun.push({ scope: name, key: id, rule, violations, banDuration });
    }
    if (begun.length > 0) this.#context.report(begun);
    return begun;
  }

  #argument({ scope, count }: Told): string {
    const policy = this.policyOf(scope) as RuleBanConfig;
    const { violations, withinSeconds, jitter, forgetAfterSeconds, seconds } = policy;
    const random = this.#context.drawn(scope);
    const forget = Math.min(forgetAfterSeconds, MANY);
    const steps = seconds.map((length) => Math.min(length, FOREVER_SECONDS));
    return [count, violations, withinSeconds, jitter, random, forget, ...steps].join(' ');
  }
}
