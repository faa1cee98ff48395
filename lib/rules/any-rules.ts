// Either kind of RuleLimiter, as guards use it: one that answers at once, or one that answers by promises if it must.

import { hasMethods } from '../common/kinds.js';
import type { MaybePromise } from '../common/maybe-promise.js';
import type { AwaitedRule } from './awaited.js';
import type { LimiterContext } from './limiter-context.js';
import type {
  Classification,
  Cost,
  Keys,
  RulePeek,
  RuleSections,
  RuleStats,
  RuleVerdict,
} from './types.js';

/** A RuleLimiter whose checks return promises: a `SharedRuleLimiter` of `relay-limiter/redis`. */
export interface AsyncRuleLimiter {
  /** As `SharedRuleLimiter.checkAsync`. */
  checkAsync(
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): Promise<RuleVerdict>;
  /** As `SharedRuleLimiter.checkLocally`: the verdict if it is known at once; otherwise undefined. */
  checkLocally(
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): RuleVerdict | undefined;
  /** As `SharedRuleLimiter.peek`: what a check would find now. Changes nothing. */
  peek(keys: Keys | string, cost?: Cost, action?: string, plan?: string): Promise<RulePeek>;
  /** As `SharedRuleLimiter.refund`: gives a cost back to every rule that applies. */
  refund(keys: Keys | string, cost?: Cost, action?: string, plan?: string): Promise<void>;
  /** As `SharedRuleLimiter.charge`: takes a cost from every rule that applies, without a verdict. */
  charge(keys: Keys | string, cost?: Cost, action?: string, plan?: string): Promise<void>;
  /** As `SharedRuleLimiter.update`: replaces sections, in this process only. */
  update(sections: RuleSections): void;
  /** As `SharedRuleLimiter.removePeer`: the peer has left this process. */
  removePeer(keys: Keys | string): void;
  /** As `SharedRuleLimiter.getStats`: the statistics of this process. */
  getStats(): RuleStats;
}

/**
 * What a check that answers by a promise has found, for the fields of an HTTP response. @internal
 */
export interface StatedVerdict {
  readonly verdict: RuleVerdict;
  /**
   * Writes to RULE_NUMBERS and to the context what a check leaves there, for `QuotaReader.afterCheck`. False if the rules
   * have not been asked: a list or the failure policy has decided, or an update has replaced them.
   */
  recall(): boolean;
}

/** Throws for keys that must not be given. @internal */
export type RequireKeys = (keys: Keys) => void;

/** The peer of a connection. @internal */
export interface AnyRulePeer {
  restrict(requireAssignable: RequireKeys): void;
  readonly keys: Keys;
  /** Not if checks may need a promise. */
  check(cost?: Cost, action?: string): RuleVerdict;
  keyIn(scope: string, keys?: Keys): string | undefined;
  checkMessage(bytes: number, message?: Classification): MaybePromise<RuleVerdict>;
  checkDelivery(bytes: number, requests: number | undefined): MaybePromise<RuleVerdict>;
  /** Absent if it would need a promise. */
  peekMessage?(bytes: number, message?: Classification): RuleVerdict;
  findAwaited(
    rules: Iterable<string>,
    isAwaited: (rule: string, key: string) => boolean,
    bytes: number,
    message?: Classification,
  ): AwaitedRule | undefined;
}

/** A RuleLimiter or a SharedRuleLimiter. @internal */
export interface AnyRules {
  readonly context: LimiterContext;
  checkBytes(
    bytes: number,
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): MaybePromise<RuleVerdict>;
  /** Absent if checks answer at once. */
  checkStated?(
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): MaybePromise<StatedVerdict>;
  peek(keys: Keys | string, cost?: Cost, action?: string, plan?: string): MaybePromise<RulePeek>;
  /** Nothing, or a promise. */
  refund(keys: Keys | string, cost?: Cost, action?: string, plan?: string): unknown;
  /** Nothing, or a promise. */
  charge(keys: Keys | string, cost?: Cost, action?: string, plan?: string): unknown;
  open(keys: Keys, plan?: string): AnyRulePeer;
  removePeer(keys: Keys | string): void;
}

/** Whether a limiter is an AsyncRuleLimiter. By its methods, as `isRuleLimiter` does. */
export function isAsyncRules(value: unknown): value is AsyncRuleLimiter {
  return hasMethods(value, 'checkAsync', 'charge', 'update');
}
