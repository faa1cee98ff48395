// SharedRuleLimiter: all limits of a fleet of servers, in Redis or Valkey, with the verdicts of RuleLimiter.

import { limiterError } from '../../common/errors.js';
import type { MaybePromise } from '../../common/maybe-promise.js';
import type { StatedVerdict } from '../../rules/any-rules.js';
import { ON_ALLOW_LIST } from '../../rules/scope-keys.js';
import { statesOf } from '../../rules/stats.js';
import type { Cost, Keys, RulePeek, RuleVerdict } from '../../rules/types.js';
import { storeError } from '../store/replies.js';
import { readSharedRuleOptions, type SharedRuleLimiterOptions } from './options.js';
import { SharedRuleLimiterState } from './shared-rule-limiter-state.js';
import { SharedRulePeer } from './shared-rule-peer.js';
import { type Decided, toIds, type Wish } from './shared-rules.js';

/**
 * SharedRuleLimiter is a `RuleLimiter` that any number of processes share through Redis or Valkey: scopes, rules, plans,
 * lists and bans work as there, and so do the verdicts.
 *
 * All processes together admit at most the burst + rate x T of a rule and key in any T seconds, if all have the same
 * options. What a process admits while the store is down is the exception: see `onStoreFailure`. No check takes longer
 * than `deadlineSeconds`, and none rejects because the store is down. A ban holds at once in the process that finds it, and
 * within a second in all others. docs/fleet.md says what each mode costs.
 * @example
 * import { createClient } from 'redis';
 * import { SharedRuleLimiter } from 'relay-limiter/redis';
 *
 * const client = createClient({ url: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379' });
 * await client.connect();
 * const limits = new SharedRuleLimiter({
 *   client,
 *   scopes: { connection: {}, address: { kind: 'address' } },
 *   rules: {
 *     messages: { scope: 'connection', rateLimit: 50, burstLimit: 100 },
 *     events: { scope: 'address', action: 'event', quota: 600, windowSeconds: 3600 },
 *   },
 *   bans: { address: { violations: 20, withinSeconds: 60, seconds: [60, 600, 3600] } },
 * });
 * const keys = { connection: 'c1', address: '192.0.2.7' };
 * const { outcome, delaySeconds } = await limits.checkAsync(keys, 1, 'event');
 * console.log(outcome, delaySeconds); // allow 0
 * await limits.close();
 * await client.close();
 */
export class SharedRuleLimiter extends SharedRuleLimiterState {
  /**
   * Creates a limiter. Its first call of the store is made at once.
   * @throws `ERR_LIMITER_OPTION` for an invalid option or client; `ERR_LIMITER_ENGINE` if the engine is unavailable.
   */
  constructor(options: SharedRuleLimiterOptions) {
    super(readSharedRuleOptions(options));
  }

  /**
   * Returns a verdict at once, for mode `leased`. If leases or remembered refusals do not decide the check, it requests
   * leases and returns a delay of `deadlineSeconds` with `rule` null, the longest that the reply may take; this is no
   * violation. `checkAsync` waits for the reply instead. A ban that the check begins holds from the next check on.
   * @throws the errors of `RuleLimiter.check`; `ERR_LIMITER_OPTION` in mode `strict`.
   */
  check(keys: Keys | string, cost?: Cost, action?: string, plan?: string): RuleVerdict {
    this.requireLeases();
    return this.#decide('ahead', 0, keys, cost, action, plan);
  }

  /**
   * Returns the verdict, as `RuleLimiter.check` does: at once if leases, a remembered refusal, a list or a ban decide it,
   * otherwise after a call of the store, within `deadlineSeconds`. In mode `leased` a refusal holds until the tokens are
   * there, and at least until ten such checks would be allowed, or for a quarter of a second, whichever is sooner.
   * @throws (rejects with) the errors of `RuleLimiter.check`.
   */
  async checkAsync(
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): Promise<RuleVerdict> {
    return this.checkBytes(0, keys, cost, action, plan);
  }

  /**
   * Returns the verdict if it is known without a reply of the store; in mode `strict` only that of a list or a ban.
   * Otherwise undefined, and then the check has had no effect. Guards call it first, so that what is known waits for no
   * promise.
   * @throws the errors of `RuleLimiter.check`.
   */
  checkLocally(
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): RuleVerdict | undefined {
    return this.#decide('local', 0, keys, cost, action, plan);
  }

  /** The check of a message in a guard: `bytes` is its cost in the unit of this name, unless `cost` names it. @internal */
  checkBytes(
    bytes: number,
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): MaybePromise<RuleVerdict> {
    return this.#decide('async', bytes, keys, cost, action, plan);
  }

  /** The check of a request, with what its rules have left. @internal */
  checkStated(
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): MaybePromise<StatedVerdict> {
    const { context, core } = this;
    const now = core.now();
    const call = context.prepare(keys, cost, action, plan);
    toIds(call.keys);
    const stated = core.state(call, now);
    context.release(call);
    return stated;
  }

  /**
   * Returns a handle of the peer with these keys, which resolves its keys once. Its checks return what the checks of its
   * keys return. @throws `ERR_LIMITER_KEY`, or `ERR_LIMITER_OPTION` for an unknown plan.
   */
  open(keys: Keys | string, plan?: string): SharedRulePeer {
    return new SharedRulePeer(this, keys, plan);
  }

  /**
   * Resolves with the result of a check at this moment, and the state of each rule that applies, after a call of the store.
   * Changes and counts nothing. What is on lease to this process counts as left, what is on lease to others as used.
   * @throws (rejects with) the errors of `RuleLimiter.check`; `ERR_LIMITER_STORE` if the store does not answer.
   */
  async peek(keys: Keys | string, cost?: Cost, action?: string, plan?: string): Promise<RulePeek> {
    return this.peekBytes(0, keys, cost, action, plan);
  }

  /** As `checkBytes`. @internal */
  async peekBytes(
    bytes: number,
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): Promise<RulePeek> {
    const { context, core } = this;
    // A clock that fails rejects the call, as in a check.
    core.now();
    const call = context.prepare(keys, cost, action, plan, bytes);
    toIds(call.keys);
    const { mask, program } = call;
    const peek = core.peek(call);
    context.release(call);
    const { verdict, used } = await asStoreError(peek);
    return { verdict, rules: statesOf(context, mask, program, used) };
  }

  /**
   * Gives a cost back to every rule that applies, as `RuleLimiter.refund`. Resolves when the store has done so.
   * @throws (rejects with) the errors of `RuleLimiter.check`; `ERR_LIMITER_STORE` if the store does not answer.
   */
  async refund(keys: Keys | string, cost?: Cost, action?: string, plan?: string): Promise<void> {
    await this.#settle(-1, keys, cost, action, plan);
  }

  /**
   * Takes a cost from every rule that applies without asking, as `RuleLimiter.charge`. Resolves when the store has done so.
   * In mode `leased` processes spend what they have on lease nevertheless.
   * @throws (rejects with) the errors of `RuleLimiter.check`; `ERR_LIMITER_STORE` if the store does not answer.
   */
  async charge(keys: Keys | string, cost?: Cost, action?: string, plan?: string): Promise<void> {
    await this.#settle(1, keys, cost, action, plan);
  }

  /** @throws `ERR_LIMITER_OPTION` in mode `strict` @internal */
  requireLeases(): void {
    if (this.mode === 'leased') return;
    const message = "check() must be called in mode 'leased', got 'strict'";
    const advice = 'call checkAsync() instead';
    throw limiterError(TypeError, 'ERR_LIMITER_OPTION', `${message}; ${advice}`);
  }

  #decide<Given extends Wish>(
    wish: Given,
    bytes: number,
    keys: Keys | string,
    cost: Cost | undefined,
    action: string | undefined,
    plan: string | undefined,
  ): Decided[Given] {
    const { context, core } = this;
    const now = core.now();
    const call = context.prepare(keys, cost, action, plan, bytes);
    toIds(call.keys);
    const result = core.decide(wish, call, now);
    context.release(call);
    return result;
  }

  async #settle(
    sign: 1 | -1,
    keys: Keys | string,
    cost: Cost | undefined,
    action: string | undefined,
    plan: string | undefined,
  ): Promise<void> {
    const { context, core } = this;
    const call = context.prepare(keys, cost, action, plan);
    toIds(call.keys);
    const isFree = call.listed === ON_ALLOW_LIST;
    const settled = isFree ? undefined : core.settle(call, sign);
    context.release(call);
    if (settled !== undefined) await asStoreError(settled);
  }
}

/** Rejects with an `ERR_LIMITER_STORE` if the call of the store fails. */
async function asStoreError<Value>(call: Promise<Value>): Promise<Value> {
  try {
    return await call;
  } catch (error) {
    throw storeError((error as Error).message, error);
  }
}
