// SharedRuleLimiter: all limits of a fleet of servers, in Redis or Valkey, with the verdicts of RuleLimiter.

import { EventEmitter } from 'node:events';
import { callSafely } from '../../common/callbacks.js';
import { invalidNumber, limiterError } from '../../common/errors.js';
import type { MaybePromise } from '../../common/maybe-promise.js';
import { readOptions, requireCount } from '../../common/options.js';
import type { BansInForce } from '../../common/types.js';
import { hasBanSubscribers, publishBan } from '../../limiters/ban-channel.js';
import { limiterChanged } from '../../limiters/changes.js';
import type { StatedVerdict } from '../../rules/any-rules.js';
import { LimiterContext } from '../../rules/limiter-context.js';
import { RuleScope } from '../../rules/rule-scope.js';
import { ON_ALLOW_LIST } from '../../rules/scope-keys.js';
import { statesOf, statsOf } from '../../rules/stats.js';
import type {
  Cost,
  Keys,
  RuleBan,
  RulePeek,
  RuleSections,
  RuleVerdict,
} from '../../rules/types.js';
import type { FailurePolicy } from '../limit/options.js';
import { idOf } from '../store/keys.js';
import { storeError } from '../store/replies.js';
import {
  readSharedRuleOptions,
  SECTIONS,
  type SharedRuleConfig,
  type SharedRuleLimiterOptions,
  type SharedRuleMode,
} from './options.js';
import { SharedRulePeer } from './shared-rule-peer.js';
import type {
  RuleFleetStats,
  SharedRuleLimiterEvents,
  SharedRuleStats,
} from './shared-rule-stats.js';
import { type Decided, SharedRules, toIds, type Wish } from './shared-rules.js';

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
export class SharedRuleLimiter extends EventEmitter<SharedRuleLimiterEvents> {
  readonly mode: SharedRuleMode;
  readonly onStoreFailure: FailurePolicy;
  /** The maximum number of keys kept of each scope in this process. */
  readonly maxPeers: number;
  /** @internal */
  readonly context: LimiterContext;
  /** @internal */
  readonly core: SharedRules;
  readonly #config: SharedRuleConfig;
  #closing: Promise<void> | undefined;

  /**
   * Creates a limiter. Its first call of the store is made at once.
   * @throws `ERR_LIMITER_OPTION` for an invalid option or client; `ERR_LIMITER_ENGINE` if the engine is unavailable.
   */
  constructor(options: SharedRuleLimiterOptions) {
    super();
    const config = readSharedRuleOptions(options);
    this.#config = config;
    this.mode = config.mode;
    this.onStoreFailure = config.onStoreFailure;
    this.maxPeers = config.maxPeers;
    const { scopes, book, random } = config;
    this.context = new LimiterContext(scopes, book, random, (bans) => this.#report(bans));
    this.core = new SharedRules(config, this.context, {
      onState: (change) => callSafely(() => this.emit('state', change)),
      onRules: () => {
        limiterChanged(this);
        callSafely(() => this.emit('rules'));
      },
      onFailure: (error) => callSafely(() => this.emit('failure', error)),
    });
    this.core.bans.shared.on('state', (change) => this.emit('bans', change));
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

  /**
   * Bans a key of a scope in all processes: as `RuleLimiter.ban`. @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION` (a single
   * scope, invalid seconds, no seconds and no policy).
   */
  ban(scope: string, key: string, seconds?: number): boolean {
    const [index, id] = this.#idOf(scope, key);
    const length = seconds ?? this.context.book.plan.bans[index]?.seconds[0];
    if (typeof length !== 'number' || !(length > 0)) {
      const accepted = 'a number greater than 0, or Infinity';
      const otherwise = `${accepted}; the scope has no ban policy with a default`;
      const isMissing = seconds === undefined;
      const expected = isMissing ? otherwise : accepted;
      throw invalidNumber('ERR_LIMITER_OPTION', 'seconds', seconds, expected);
    }
    this.core.bans.ban(index, id, length);
    return true;
  }

  /** Ends a ban in force in all processes; false if this process knows none. @throws as `ban` */
  unban(scope: string, key: string): boolean {
    return this.core.bans.lift(...this.#idOf(scope, key));
  }

  /** Returns the remaining seconds of a ban of any process, Infinity if it is for ever, 0 without one. @throws as `ban` */
  banSecondsLeft(scope: string, key: string): number {
    return this.core.bans.secondsLeft(...this.#idOf(scope, key));
  }

  /** As `RuleLimiter.getBans`: the bans of all processes. O(bans of all scopes). @throws as `ban` */
  getBans(scope: string, most = 100): BansInForce {
    requireCount(most, 'most');
    return this.core.bans.longest(this.context.keys.indexOf(scope), most);
  }

  /** The names of the scopes that are not single, in the order of declaration. */
  get scopeNames(): string[] {
    return this.context.scopes.filter(({ kind }) => kind !== 'single').map(({ name }) => name);
  }

  /** Returns one scope as `RuleLimiter.scope` does: the bans of all processes, and the counts of this one. */
  scope(name: string): RuleScope {
    return new RuleScope(this, name);
  }

  /**
   * Replaces sections for all processes while they run, as `RuleLimiter.update`. The others follow within a second. What
   * peers have used stays, since the store counts it by the names of scope and rule; what is on lease of rules with other
   * numbers goes back with the next check of its key. A check that waits for the store meanwhile may be delayed for a quarter
   * of a second. The rules are kept in the store: a process that starts later with rules that were in force before adopts the
   * current ones, one with rules that never were keeps them until the next update.
   * @throws (rejects with) `ERR_LIMITER_OPTION`, and then nothing has changed; `ERR_LIMITER_MEMORY`; `ERR_LIMITER_STORE` if the
   * store does not answer within `deadlineSeconds`: the rules may be replaced later then, if the call has reached it.
   *
   * @example
   * import { createClient } from 'redis';
   * import { SharedRuleLimiter } from 'relay-limiter/redis';
   *
   * const client = createClient({ url: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379' });
   * await client.connect();
   * const limits = new SharedRuleLimiter({
   *   client,
   *   prefix: 'chat',
   *   deadlineSeconds: 5,
   *   scopes: { address: { kind: 'address' } },
   *   rules: { messages: { scope: 'address', rateLimit: 50 } },
   * });
   * await limits.update({ rules: { messages: { scope: 'address', rateLimit: 5 } } });
   * await limits.close();
   * await client.close();
   */
  async update(sections: RuleSections): Promise<void> {
    await this.core.update(readOptions('update', sections, SECTIONS));
  }

  /**
   * Returns what is on lease for the keys named to the store; call it when the peer has left this process. Buckets,
   * violations and bans stay in the store, so a peer cannot reset them by coming back; only `getStats` of this process
   * forgets the violations. Derived scopes may be named too.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION` for a single scope.
   */
  removePeer(keys: Keys | string): void {
    this.context.keys.each(keys, (scope, key) => this.core.removePeer(scope, key));
  }

  /**
   * Resolves once the store has answered. Optional: call it if the process should not start with an unusable store.
   * @throws (rejects with) `ERR_LIMITER_STORE` and the reason.
   */
  async ready(): Promise<void> {
    await this.core.store.ready();
  }

  /** Returns the counts of this process. O(keys x rules). @throws `ERR_LIMITER_CLOCK` */
  getStats(): SharedRuleStats {
    const { core } = this;
    const { fallbackVerdicts, overloadVerdicts } = core.failures;
    const { state, nodes, counters } = core.store;
    return {
      ...statsOf(core, this.context, core.now()),
      fallbackVerdicts,
      overloadVerdicts,
      leasedTokens: core.leasedTokens,
      fleet: core.store.fleet.totals,
      store: { state, nodes, ...counters },
    };
  }

  /**
   * Returns what all processes with this `prefix` have done: outcomes, bans, and the keys that they refuse most. One call of
   * the store, O(processes + bans). Other processes report every five seconds, so their part may be so old.
   * @throws (rejects with) `ERR_LIMITER_STORE` if the store does not answer within `deadlineSeconds`, or after `close`.
   *
   * @example
   * import { createClient } from 'redis';
   * import { SharedRuleLimiter } from 'relay-limiter/redis';
   *
   * const client = createClient({ url: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379' });
   * await client.connect();
   * const limits = new SharedRuleLimiter({
   *   client,
   *   prefix: 'logins',
   *   deadlineSeconds: 5,
   *   scopes: { address: { kind: 'address' } },
   *   rules: { logins: { scope: 'address', quota: 1, windowSeconds: 900 } },
   * });
   * await limits.ready();
   * for (let n = 0; n < 3; n += 1) await limits.checkAsync('203.0.113.7');
   * const { offenders } = await limits.getFleetStats();
   * console.log(offenders); // [ { scope: 'address', key: '203.0.113.7', refusals: 2 } ]
   * await limits.close();
   * await client.close();
   */
  async getFleetStats(): Promise<RuleFleetStats> {
    const { store, bans } = this.core;
    const { offenders, ...totals } = await store.fleet.read();
    const keyed = this.context.scopes.filter(({ kind }) => kind !== 'single');
    const counts = keyed.map(({ name, index }) => [name, bans.longest(index, 0).count]);
    return { ...totals, nodes: store.nodes, bans: Object.fromEntries(counts), offenders };
  }

  /**
   * Returns all leases to the store and unregisters this process. O(leases). The client stays open. Make no checks
   * afterwards. A second call does no harm.
   */
  close(): Promise<void> {
    this.#closing ??= this.core.close();
    return this.#closing;
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

  #idOf(scope: string, key: string): [scope: number, id: string] {
    const { keys } = this.context;
    const index = keys.indexOf(scope);
    return [index, idOf(keys.keyOf(index, key))];
  }

  #report(bans: readonly RuleBan[]): void {
    const isObserved = hasBanSubscribers();
    for (const ban of bans) {
      if (isObserved) publishBan({ limiter: this, ...ban });
      callSafely(() => this.#config.onBan?.(ban));
    }
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
