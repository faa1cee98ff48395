// RuleScope: one scope of a RuleLimiter, with the methods that the other limiters have for those who watch them.

import type { BansInForce, LimiterOverview } from '../common/types.js';
import type { RulesCore } from '../engine/rules.js';
import type { LimiterContext } from './limiter-context.js';
import { scopeVerdicts } from './stats.js';

/** The part of a RuleLimiter that its scopes need. */
interface Owner {
  readonly core: Pick<RulesCore, 'totals' | 'statistics' | 'violations' | 'removePeer'>;
  readonly context: LimiterContext;
  ban(scope: string, key: string, seconds?: number): boolean;
  unban(scope: string, key: string): boolean;
  banSecondsLeft(scope: string, key: string): number;
  getBans(scope: string, most?: number): BansInForce;
}

/**
 * RuleScope shows one scope of a RuleLimiter as the other limiters show themselves: its counts, its violators and its
 * bans. It holds no state of its own. Keys are texts, or addresses and networks, as in `RuleLimiter.ban`. All methods
 * with a key throw `ERR_LIMITER_KEY` if the scope cannot have it.
 * @example
 * import { RuleLimiter } from 'relay-limiter';
 *
 * const limits = new RuleLimiter({
 *   scopes: { address: { kind: 'address' } },
 *   rules: { messages: { scope: 'address', rateLimit: 10 } },
 * });
 * const addresses = limits.scope('address');
 * addresses.ban('192.0.2.7', 600);
 * console.log(addresses.isBanned('192.0.2.7'), addresses.getBans().count); // true 1
 */
export class RuleScope {
  /** The name of the scope. */
  readonly name: string;
  /** The maximum length of a ban by hand in seconds: none. */
  readonly maxBanSeconds: number = Infinity;
  readonly #limiter: Owner;
  readonly #index: number;

  /** @internal */
  constructor(limiter: Owner, name: string) {
    this.#limiter = limiter;
    this.#index = limiter.context.keys.indexOf(name);
    this.name = name;
  }

  /** The length of a key's first ban in seconds, Infinity for ever; 0 if the scope has no ban policy. */
  get banDuration(): number {
    return this.#limiter.context.book.plan.bans[this.#index]?.seconds[0] ?? 0;
  }

  /**
   * Returns the statistics that all limiters share. `trackedPeers` equals `peers`. `verdicts` says what the rules of the
   * scope have answered, see `RuleScopeStats`. O(rules).
   */
  getOverview(): LimiterOverview {
    const { core } = this.#limiter;
    const counts = core.statistics(this.#index);
    const verdicts = scopeVerdicts(this.#index, core.totals(), counts.bansBegun);
    return { ...counts, trackedPeers: counts.peers, verdicts };
  }

  /** Returns the violations of a key, at most 2^53 - 1; 0 for an unknown key. O(1). */
  getViolationCount(key: string): number {
    const { core, context } = this.#limiter;
    return core.violations(this.#index, context.keys.keyOf(this.#index, key));
  }

  /** Removes a key with its buckets, its violations and its ban. An unknown key is no error. O(1). */
  removePeer(key: string): void {
    const { core, context } = this.#limiter;
    core.removePeer(this.#index, context.keys.keyOf(this.#index, key));
  }

  /** As `RuleLimiter.getBans` of this scope. */
  getBans(most?: number): BansInForce {
    return this.#limiter.getBans(this.name, most);
  }

  /** Returns whether a ban of the key is in force. O(1). */
  isBanned(key: string): boolean {
    return this.banSecondsLeft(key) > 0;
  }

  /** As `RuleLimiter.banSecondsLeft` of this scope. */
  banSecondsLeft(key: string): number {
    return this.#limiter.banSecondsLeft(this.name, key);
  }

  /** As `RuleLimiter.ban` of this scope. */
  ban(key: string, seconds?: number): boolean {
    return this.#limiter.ban(this.name, key, seconds);
  }

  /** As `RuleLimiter.unban` of this scope: violations and the ladder of ban lengths stay. */
  unban(key: string): boolean {
    return this.#limiter.unban(this.name, key);
  }
}
