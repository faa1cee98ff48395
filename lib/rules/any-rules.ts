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
  peek(keys: Keys | string, cost?: Cost, action?: string, plan?: string): Promise<RulePeek>;
  refund(keys: Keys | string, cost?: Cost, action?: string, plan?: string): Promise<void>;
  charge(keys: Keys | string, cost?: Cost, action?: string, plan?: string): Promise<void>;
  update(sections: RuleSections): void;
  removePeer(keys: Keys | string): void;
  getStats(): RuleStats;
}

/** The peer of a connection. @internal */
export interface AnyRulePeer {
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
  peek(keys: Keys | string, cost?: Cost, action?: string, plan?: string): MaybePromise<RulePeek>;
  /** Nothing, or a promise. */
  refund(keys: Keys | string, cost?: Cost, action?: string, plan?: string): unknown;
  /** Nothing, or a promise. */
  charge(keys: Keys | string, cost?: Cost, action?: string, plan?: string): unknown;
  open(keys: Keys, plan?: string): AnyRulePeer;
  removePeer(keys: Keys): void;
}

/** Whether a limiter is an AsyncRuleLimiter. By its methods, as `isRuleLimiter` does. */
export function isAsyncRules(value: unknown): value is AsyncRuleLimiter {
  return hasMethods(value, 'checkAsync', 'charge', 'update');
}
