// RuleScopes is the part of JsRuleLimiter that concerns one scope at a time: bans by hand, cleanup, statistics and
// snapshots. Counterpart of native/limiters/rules/limiter.h.

import { monotonicSeconds } from '../../../common/clock.js';
import type { BansInForce } from '../../../common/types.js';
import { Keys } from '../../../tables/keys.js';
import type {
  RuleDigestColumns,
  RuleOffenderColumns,
  RulePlan,
  RuleScopeStatistics,
  RuleSnapshotStep,
  RulesConfig,
} from '../../rules.js';
import { reserveRulesStack, reserveStack } from '../stack.js';
import { Sweep } from '../sweep.js';
import { Rates } from './rates.js';
import { restoreDigests, restoreOffenders, restoreSingle } from './restore.js';
import { NONE, ScopeState } from './scope.js';
import { saveSingle, walkScope } from './snapshot.js';

export abstract class RuleScopes {
  protected readonly keys = new Keys();
  protected readonly scopes: readonly ScopeState[];
  protected readonly rates: Rates;
  readonly #sweep = new Sweep();

  protected constructor({ maxPeers, single, plan }: RulesConfig) {
    this.rates = new Rates(plan, single.length);
    this.scopes = single.map((isSingle, i) => {
      return new ScopeState(i, isSingle, plan.slots[i] as number, maxPeers, this.rates);
    });
    this.setPolicies(plan);
  }

  get secretVersion(): number {
    return this.keys.secretVersion;
  }

  ban(index: number, text: string, seconds: number, now = monotonicSeconds()): boolean {
    reserveRulesStack();
    const time = this.rates.time(now);
    const scope = this.scopes[index] as ScopeState;
    scope.lookUp(this.keys.find(text));
    if (scope.place === NONE && !scope.admit(time)) return false;
    scope.stage(text, false, true, time);
    scope.commit(text, time);
    scope.offenders.ban(scope.key, time + seconds, scope.policy, time);
    return true;
  }

  unban(index: number, text: string, now = monotonicSeconds()): boolean {
    reserveStack();
    const { offenders } = this.scopes[index] as ScopeState;
    return offenders.endBan(this.keys.find(text), this.rates.time(now));
  }

  banSecondsLeft(index: number, text: string, now = monotonicSeconds()): number {
    const scope = this.scopes[index] as ScopeState;
    scope.lookUp(this.keys.find(text));
    return scope.banSecondsLeft(this.rates.time(now));
  }

  longestBans(index: number, most: number, now = monotonicSeconds()): BansInForce {
    return (this.scopes[index] as ScopeState).offenders.longestBans(most, this.rates.time(now));
  }

  violations(index: number, text: string): number {
    return (this.scopes[index] as ScopeState).offenders.violations(this.keys.find(text));
  }

  removePeer(index: number, text: string): void {
    reserveStack();
    const scope = this.scopes[index] as ScopeState;
    scope.remove(this.keys.find(text));
    scope.pending.remove(text);
  }

  cleanup(maxIdle: number, budgetMs: number, now = monotonicSeconds()): number {
    reserveStack();
    const time = this.rates.time(now);
    const passes = this.scopes.flatMap((scope) => scope.passes(maxIdle, time));
    return this.#sweep.run(passes, budgetMs);
  }

  isCleaning(): boolean {
    return this.#sweep.isUnderway;
  }

  statistics(index: number): RuleScopeStatistics {
    return (this.scopes[index] as ScopeState).statistics();
  }

  snapshot(index: number, most: number, now: () => number | undefined): Iterable<RuleSnapshotStep> {
    const time = () => this.rates.time(now() ?? monotonicSeconds());
    return walkScope(this.scopes[index] as ScopeState, this.rates, this.keys, most, time);
  }

  restore(index: number, offenders: RuleOffenderColumns, now = monotonicSeconds()): number {
    const scope = this.scopes[index] as ScopeState;
    return restoreOffenders(scope, this.rates, this.keys, offenders, this.rates.time(now));
  }

  adopt(secret: Uint32Array): void {
    const isEmpty = this.scopes.every(({ isSingle, records, pending }) => {
      return isSingle || (records.size === 0 && pending.isEmpty);
    });
    if (isEmpty) this.keys.adopt(secret);
  }

  restoreDigests(index: number, digests: RuleDigestColumns, now = monotonicSeconds()): number {
    const scope = this.scopes[index] as ScopeState;
    return restoreDigests(scope, this.rates, digests, this.rates.time(now));
  }

  saveSingle(index: number, now = monotonicSeconds()): Float64Array {
    return saveSingle(this.scopes[index] as ScopeState, this.rates, this.rates.time(now));
  }

  restoreSingle(index: number, numbers: Float64Array, now = monotonicSeconds()): void {
    restoreSingle(this.scopes[index] as ScopeState, this.rates, numbers, this.rates.time(now));
  }

  clear(): void {
    reserveStack();
    for (const scope of this.scopes) scope.clear();
    this.#sweep.stop();
  }

  protected setPolicies({ slots, bans }: RulePlan): void {
    for (const scope of this.scopes) {
      scope.slots = slots[scope.index] as number;
      scope.policy = bans[scope.index];
    }
  }
}
