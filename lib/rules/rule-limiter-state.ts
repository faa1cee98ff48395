// What a RuleLimiter does with stored keys outside of checks: bans by hand, removal and cleanup, statistics, snapshots.

import { type Clock, readOptionalClock } from '../common/clock.js';
import { invalidValue, type LimiterError } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import { cleanupBudget, requireAge, requireCount } from '../common/options.js';
import type { BansInForce, CleanupLimits, EngineName, SharedTable } from '../common/types.js';
import type { Engine } from '../engine/engine.js';
import type { RulesConfig, RulesCore, SharedRulesCore } from '../engine/rules.js';
import { limiterChanged } from '../limiters/changes.js';
import { openTable, type SharedMembership } from '../limiters/shared-table.js';
import { banSeconds, type RuleBook } from './compile.js';
import { LimiterContext } from './limiter-context.js';
import type { ScopeSpec } from './sections.js';
import {
  differenceIn,
  requireSize,
  rulesText,
  type SharedRuleCore,
  SharedRules,
  scopesText,
} from './shared-rules.js';
import { joinSlices, restoreSlice, slicesOf } from './snapshot.js';
import { statsOf } from './stats.js';
import type { Keys, RuleBan, RuleSlice, RuleSnapshot, RuleStats } from './types.js';

/** What a limiter is made of. */
interface Parts {
  readonly engine: EngineName | 'auto' | undefined;
  readonly clock: Clock | undefined;
  readonly shared: string | undefined;
  readonly maxPeers: number;
  readonly scopes: readonly ScopeSpec[];
  readonly book: RuleBook;
  readonly random: () => number;
}

/** RuleLimiterState is the part of a RuleLimiter that is about stored keys. */
export abstract class RuleLimiterState {
  /** The engine that stores the keys of this limiter. */
  readonly engine: EngineName;
  /** The maximum number of keys stored of each scope. */
  readonly maxPeers: number;
  /** @internal */
  readonly core: RulesCore & Partial<SharedRulesCore>;
  /** @internal */
  readonly context: LimiterContext;
  readonly #clock: Clock | undefined;
  readonly #membership: SharedMembership | undefined;
  /** The rules of the file; undefined without a shared table. */
  #rules: SharedRules | undefined;

  /** @internal */
  protected constructor(parts: Parts) {
    const { clock, maxPeers, scopes, random } = parts;
    let { book } = parts;
    const { engine, core, membership } = openTable(parts, (selected, path) => {
      const single = scopes.map(({ kind }) => kind === 'single');
      const config: RulesConfig = { maxPeers, single, plan: book.plan };
      if (path === undefined) return selected.rules(config);
      const opened = this.#join(selected, path, config, parts);
      book = opened.book;
      return opened.core;
    });
    this.engine = engine;
    this.maxPeers = maxPeers;
    this.#clock = clock;
    this.core = core;
    this.#membership = membership;
    const report = (bans: readonly RuleBan[]) => this.report(bans);
    this.context = new LimiterContext(
      ...([scopes, book, random, report] as const),
      membership && ((isAllowed) => (core as SharedRuleCore).countListed(isAllowed)),
    );
  }

  /** Joins the file at `path`, or creates it, and adopts its rules. @throws `ERR_LIMITER_SHARED` */
  #join(
    engine: Engine,
    path: string,
    config: RulesConfig,
    { scopes, book }: Parts,
  ): { readonly core: SharedRuleCore; readonly book: RuleBook } {
    const text = rulesText(scopes, book);
    requireSize(text);
    const adopt = (attempt: number) => this.adoptRules(attempt);
    const shared = { path, scopes: scopesText(scopes), text, adopt };
    let core: SharedRuleCore;
    try {
      core = engine.rules({ ...config, shared }) as SharedRuleCore;
    } catch (error) {
      throw betterError(engine, path, text, error);
    }
    try {
      this.#rules = new SharedRules(core, scopes);
      return { core, book: this.#rules.join(text) };
    } catch (error) {
      core.detach();
      throw error;
    }
  }

  /**
   * The table that this limiter shares with other processes; undefined without the option `shared`. Reads the file:
   * O(attached limiters).
   */
  get shared(): SharedTable | undefined {
    return this.#membership?.state();
  }

  /** Decides by the rules that another process has set. `attempt` as in SharedRules.adopt. @internal */
  adoptRules(attempt = 0): void {
    this.context.use((this.#rules as SharedRules).adopt(attempt));
    // Not now: this happens in the middle of a call.
    queueMicrotask(() => limiterChanged(this));
  }

  /** Repeats a call until this limiter has had the rules of its file. @internal */
  withRules<Result>(call: () => Result): Result {
    for (let attempt = 0; ; attempt += 1) {
      let result: Result;
      try {
        result = call();
      } catch (error) {
        this.core.takeOutdated?.();
        this.adoptAfter(error, attempt);
        continue;
      }
      if (this.core.takeOutdated?.() !== true) return result;
      this.adoptRules(attempt);
    }
  }

  /**
   * Adopts the rules that another process has set, if a call has failed because of a plan or a unit that this limiter does
   * not know yet: repeat the call. Else throws the error. @internal
   */
  adoptAfter(error: unknown, attempt: number): void {
    if (!isUnknownName(error) || !this.adoptNewer(attempt)) throw error;
  }

  /** Adopts the rules that another process has set; false if this limiter has them already. @internal */
  adoptNewer(attempt = 0): boolean {
    if (this.#rules === undefined || this.#rules.isCurrent()) return false;
    this.adoptRules(attempt);
    return true;
  }

  /** Replaces the rules by what `next` makes of them, for all limiters that share a table. @internal */
  protected replaceRules(
    next: (before: RuleBook, rooms: readonly number[] | undefined) => RuleBook,
  ): void {
    for (let attempt = 0; ; attempt += 1) {
      this.adoptNewer(attempt);
      const { book: before } = this.context;
      const book = next(before, this.#rules?.rooms);
      const now = this.now();
      if (this.#rules === undefined) {
        if (book.plan !== before.plan) this.core.update(book.plan, now);
      } else if (!this.#rules.publish(book, before, now)) {
        continue;
      }
      this.context.use(book);
      limiterChanged(this);
      return;
    }
  }

  /** Leaves a shared table. @internal */
  protected leave(): void {
    this.#membership?.leave();
  }

  /**
   * Bans a key of a scope for `seconds`: greater than 0, Infinity for ever; default the first length of the scope's ban
   * policy. A ban in force that ends later stays: `unban` first. Changes no violations, and not the ladder of ban lengths.
   * `onBan` is not called. Returns whether the key is banned: false only if the scope is full and no key can be evicted.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION` (a single scope, invalid seconds, no seconds and no policy),
   * `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const limits = new RuleLimiter({ scopes: { address: { kind: 'address' } }, rules: {} });
   * limits.ban('address', '192.0.2.7', 600); // ten minutes
   * console.log(limits.check('192.0.2.7').outcome); // banned
   * console.log(limits.getBans('address').bans);
   * limits.unban('address', '192.0.2.7');
   */
  ban(scope: string, key: string, seconds?: number): boolean {
    const index = this.context.keys.indexOf(scope);
    const own = this.context.keys.keyOf(index, key);
    // The default length is that of the rules in force.
    if (seconds === undefined) this.adoptNewer();
    const length = banSeconds(this.context.book, index, seconds);
    return this.core.ban(index, own, length, this.now());
  }

  /**
   * Ends a ban in force; false if the key is not banned. Violations and the ladder of ban lengths stay.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  unban(scope: string, key: string): boolean {
    const index = this.context.keys.indexOf(scope);
    return this.core.unban(index, this.context.keys.keyOf(index, key), this.now());
  }

  /**
   * Returns the remaining seconds of a ban, Infinity if it is for ever, 0 without one.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  banSecondsLeft(scope: string, key: string): number {
    const index = this.context.keys.indexOf(scope);
    return this.core.banSecondsLeft(index, this.context.keys.keyOf(index, key), this.now());
  }

  /**
   * Returns the number of bans in force of a scope, and the `most` bans (default 100; a whole number of at least 0) that
   * end last: longest first, and equal ones in the order of their keys. One pass over the bans.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  getBans(scope: string, most = 100): BansInForce {
    requireCount(most, 'most');
    return this.core.longestBans(this.context.keys.indexOf(scope), most, this.now());
  }

  /** The names of the scopes that are not single, in the order of declaration. */
  get scopeNames(): string[] {
    return this.context.scopes.filter(({ kind }) => kind !== 'single').map(({ name }) => name);
  }

  /**
   * Forgets the buckets, violations and bans of the keys named; derived scopes may be named too. An unknown key is no
   * error. When a connection closes, remove the key of the connection only: removal of the address would lift its ban.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION` for a single scope.
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const limits = new RuleLimiter({
   *   scopes: { connection: {}, address: { kind: 'address' } },
   *   rules: { messages: { scope: 'connection', rateLimit: 50 } },
   * });
   * limits.check({ connection: 'c1', address: '192.0.2.7' });
   * limits.removePeer({ connection: 'c1' }); // when the connection closes
   */
  removePeer(keys: Keys | string): void {
    this.context.keys.each(keys, (scope, key) => this.core.removePeer(scope, key));
  }

  /**
   * Removes the keys that have been idle for more than `maxIdleSeconds` (any number but NaN; default 3600) and that are as
   * new: nothing used, no ban, no level. Their violations go with them. Returns how many it removed. A call without a
   * budget visits every key, O(n); a call with a budget may stop before the end, and `isCleaning` is then true.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  cleanup(maxIdleSeconds = 3600, limits?: CleanupLimits): number {
    requireAge(maxIdleSeconds, 'maxIdleSeconds');
    return this.core.cleanup(maxIdleSeconds, cleanupBudget(limits), this.now());
  }

  /** Whether the last cleanup with a budget stopped before its end. O(1). */
  get isCleaning(): boolean {
    return this.core.isCleaning();
  }

  /** Removes every key, with violations and bans, and resets single scopes. */
  clear(): void {
    this.core.clear();
    limiterChanged(this);
  }

  /**
   * Returns the outcomes of all checks, and counts by rule and by scope. Changes nothing. One pass over the bans.
   * @throws `ERR_LIMITER_CLOCK`.
   */
  getStats(): RuleStats {
    this.adoptNewer();
    return statsOf(this.core, this.context, this.now());
  }

  /**
   * Returns what a restart would lose, as a plain object that survives JSON, the same on either engine and any machine.
   * O(n log n) in one call: use `snapshotSlices` for a hundred thousand keys or more.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  snapshot(): RuleSnapshot {
    const now = this.now();
    return joinSlices(slicesOf(this.core, this.context, () => now));
  }

  /** Returns a snapshot in slices of about a thousand keys, as `RateLimiter.snapshotSlices`. */
  *snapshotSlices(): Generator<RuleSlice, void, undefined> {
    yield* slicesOf(this.core, this.context, () => this.now());
  }

  /**
   * Restores a snapshot or a slice of one, and returns the number of keys that it restored. A known key keeps the higher
   * number of violations, of its level and of used tokens, and the ban that ends later. Scopes and rules that this limiter
   * does not have are skipped.
   * @throws `ERR_LIMITER_SNAPSHOT` for an invalid snapshot or `ERR_LIMITER_CLOCK`, and then changes nothing;
   * `ERR_LIMITER_MEMORY` if there is no memory for a key.
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const create = () =>
   *   new RuleLimiter({
   *     scopes: { account: {} },
   *     rules: { events: { scope: 'account', quota: 600, windowSeconds: 3600 } },
   *   });
   * const limits = create();
   * limits.check('alice', 100);
   * const text = JSON.stringify(limits.snapshot());
   * const next = create(); // after a restart
   * next.restore(JSON.parse(text));
   * console.log(next.peek('alice').rules[0]?.remaining); // about 500
   */
  restore(snapshot: unknown): number {
    return restoreSlice(snapshot, this)(this.now());
  }

  /** Restores slices in steps of one slice each, as `RateLimiter.restoreSlices`. */
  *restoreSlices(slices: Iterable<unknown>): Generator<number, void, undefined> {
    if (!hasMethods(slices, Symbol.iterator)) {
      throw invalidValue('ERR_LIMITER_SNAPSHOT', 'the slices', slices, 'an iterable of snapshots');
    }
    const read: ReturnType<typeof restoreSlice>[] = [];
    for (const slice of slices) {
      read.push(restoreSlice(slice, this));
      yield 0;
    }
    let restored = 0;
    for (const restore of read) {
      restored += restore(this.now());
      yield restored;
    }
  }

  /** Called with the bans that a check has begun. @internal */
  protected abstract report(bans: readonly RuleBan[]): void;

  /** Reads the option `clock`; undefined without one: the engine then reads its own clock. @internal */
  now(): number | undefined {
    return readOptionalClock(this.#clock);
  }
}

/** Names the first difference, if the error is that a file has other scopes. */
function betterError(engine: Engine, path: string, text: string, error: unknown): unknown {
  if ((error as LimiterError | undefined)?.code !== 'ERR_LIMITER_SHARED') return error;
  try {
    const { rules } = engine.sharedFiles?.inspect(path) ?? {};
    return (rules !== undefined && differenceIn(path, rules, text, 'scopes')) || error;
  } catch {
    return error;
  }
}

/** Whether an error may be about a plan or a unit that does not exist. */
function isUnknownName(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ERR_LIMITER_OPTION' || code === 'ERR_LIMITER_COST';
}
