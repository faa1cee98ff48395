// What a SharedRuleLimiter does besides checks: bans by hand, changes of rules, statistics, its beginning and its end.

import { EventEmitter } from 'node:events';
import { callSafely } from '../../common/callbacks.js';
import { readOptions, requireCount } from '../../common/options.js';
import type { BansInForce } from '../../common/types.js';
import { hasBanSubscribers, publishBan } from '../../limiters/ban-channel.js';
import { limiterChanged } from '../../limiters/changes.js';
import { banSeconds } from '../../rules/compile.js';
import { LimiterContext } from '../../rules/limiter-context.js';
import { RuleScope } from '../../rules/rule-scope.js';
import { statsOf } from '../../rules/stats.js';
import type { Keys, RuleBan, RuleSections } from '../../rules/types.js';
import type { FailurePolicy } from '../limit/options.js';
import { idOf } from '../store/keys.js';
import { SECTIONS, type SharedRuleConfig, type SharedRuleMode } from './options.js';
import type {
  RuleFleetStats,
  SharedRuleLimiterEvents,
  SharedRuleStats,
} from './shared-rule-stats.js';
import { SharedRules } from './shared-rules.js';

/** SharedRuleLimiterState is the part of a SharedRuleLimiter that makes no checks. */
export abstract class SharedRuleLimiterState extends EventEmitter<SharedRuleLimiterEvents> {
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

  /** @internal */
  protected constructor(config: SharedRuleConfig) {
    super();
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
   * Bans a key of a scope in all processes: as `RuleLimiter.ban`. @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION` (a single
   * scope, invalid seconds, no seconds and no policy).
   */
  ban(scope: string, key: string, seconds?: number): boolean {
    const [index, id] = this.#idOf(scope, key);
    const length = banSeconds(this.context.book, index, seconds);
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
