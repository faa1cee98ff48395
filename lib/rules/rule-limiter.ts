// RuleLimiter: all limits of a server in one call. It resolves names to numbers, reads the clock, decides lists, and
// shapes the engine's answers.

import { callSafely } from '../common/callbacks.js';
import { type Clock, readOptionalClock } from '../common/clock.js';
import { invalidNumber, invalidValue } from '../common/errors.js';
import { hasMethods } from '../common/kinds.js';
import {
  COMMON_OPTIONS,
  callback,
  cleanupBudget,
  commonOptions,
  readOptions,
  requireAge,
  requireCount,
} from '../common/options.js';
import type { BansInForce, CleanupLimits, EngineName } from '../common/types.js';
import type { RulesCore } from '../engine/rules.js';
import { selectEngine } from '../engine/select.js';
import { BackgroundCleanup } from '../limiters/background-cleanup.js';
import { hasBanSubscribers, publishBan } from '../limiters/ban-channel.js';
import { compile, readSections } from './compile.js';
import { RuleContext } from './rule-context.js';
import { RulePeer } from './rule-peer.js';
import { RuleScope } from './rule-scope.js';
import { ON_ALLOW_LIST } from './scope-keys.js';
import { readScopes } from './sections.js';
import { joinSlices, restoreSlice, slicesOf } from './snapshot.js';
import { statesOf, statsOf } from './stats.js';
import type {
  Cost,
  Keys,
  RuleBan,
  RuleLimiterOptions,
  RulePeek,
  RuleSections,
  RuleSlice,
  RuleSnapshot,
  RuleStats,
  RuleVerdict,
} from './types.js';
import { ALLOWED } from './verdicts.js';

const SECTIONS = ['rules', 'plans', 'bans', 'allow', 'deny'] as const;
const OPTIONS = ['scopes', ...SECTIONS, ...COMMON_OPTIONS, 'random'];

/**
 * RuleLimiter holds all limits of a server, and decides all of them in one call. A scope says who is counted: the
 * connection, the address, its network, the account, the whole server. A rule is a token bucket for each key of a scope.
 * A check names the keys, the cost and the action; every rule that applies is asked, and either all of them pay or none
 * does. Violations lead to bans, and plans give some peers other numbers.
 *
 * A rule admits at most its burst + rate x T in any T seconds. A delay that is waited for in full allows the check, if
 * nobody else has taken the tokens.
 * @example
 * import { RuleLimiter } from 'relay-limiter';
 *
 * const limits = new RuleLimiter({
 *   scopes: { connection: {}, address: { kind: 'address' } },
 *   rules: {
 *     connects: { scope: 'address', action: 'connect', quota: 12, windowSeconds: 1 },
 *     messages: { scope: 'connection', rateLimit: 50, burstLimit: 100 },
 *   },
 *   bans: { address: { violations: 20, withinSeconds: 60, seconds: [60, 600, 3600] } },
 *   allow: { address: ['10.0.0.0/8'] },
 * });
 * const { outcome, delaySeconds } = limits.check({ connection: 'c1', address: '192.0.2.7' });
 * console.log(outcome, delaySeconds); // allow 0
 */
export class RuleLimiter {
  /** The engine that stores the keys of this limiter. */
  readonly engine: EngineName;
  /** The maximum number of keys stored of each scope. */
  readonly maxPeers: number;
  /** @internal */
  readonly core: RulesCore;
  /** @internal */
  readonly context: RuleContext;
  readonly #clock: Clock | undefined;
  readonly #onBan: ((ban: RuleBan) => void) | undefined;
  readonly #background: BackgroundCleanup | undefined;

  /**
   * Creates a limiter without keys.
   * @throws `ERR_LIMITER_OPTION` for an invalid option, with its path, or too many scopes, rules, units or plans;
   * `ERR_LIMITER_ENGINE` if the requested engine is unavailable; `ERR_LIMITER_MEMORY`.
   */
  constructor(options: RuleLimiterOptions) {
    const given = readOptions('RuleLimiter', options, OPTIONS);
    const { engine: wish, clock, maxPeers, onBan, cleanup } = commonOptions(given);
    const scopes = readScopes(given['scopes']);
    const random = callback<() => number>(given, 'random') ?? Math.random;
    const book = compile(scopes, readSections(given, scopes));
    const engine = selectEngine(wish);
    this.engine = engine.name;
    this.maxPeers = maxPeers;
    this.#clock = clock;
    this.#onBan = onBan as ((ban: RuleBan) => void) | undefined;
    const single = scopes.map(({ kind }) => kind === 'single');
    this.core = engine.rules({ maxPeers, single, plan: book.plan });
    this.context = new RuleContext(scopes, book, random, (bans) => this.#report(bans));
    if (cleanup) this.#background = new BackgroundCleanup(this, cleanup);
  }

  /**
   * Checks one message or request of the peer with these keys, and takes its cost. In this order: a key on an allow list
   * is allowed and charged nothing; a key on a deny list is denied; a key with a ban is refused for the rest of the ban;
   * every rule that applies to the keys, the action and the plan is asked, and all of them take the cost of their unit,
   * or, if one refuses, none. A refusal is one violation of each scope with a refusing rule that counts.
   *
   * `keys`: by scope, or a string if exactly one scope needs a key. `cost`: default 1 request. `action`: default none; only
   * rules without `action` apply then. `plan`: default the base rules.
   *
   * If a new key needs room in a full scope and no key can be evicted, the check is delayed for a second with `rule`
   * null. O(rules that apply); an allowed check allocates nothing if its keys are texts or IPv4 addresses as sockets give
   * them; networks and IPv6 addresses are texts to be built, unless the peer is opened.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_COST`, `ERR_LIMITER_OPTION` (an unknown plan, an action that is no string) or
   * `ERR_LIMITER_CLOCK` for invalid input, and then changes nothing; `ERR_LIMITER_MEMORY` if there is no memory for a
   * new key.
   */
  check(keys: Keys | string, cost?: Cost, action?: string, plan?: string): RuleVerdict {
    return this.checkBytes(0, keys, cost, action, plan);
  }

  /** The check of a message in a guard: `bytes` is its cost in the unit of this name, unless `cost` names it. @internal */
  checkBytes(
    bytes: number,
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): RuleVerdict {
    const now = this.now();
    const { context } = this;
    context.prepare(keys, cost, action, plan, bytes);
    const { keys: own, listed } = context;
    const answer =
      listed === undefined
        ? this.core.check(own.keys, context.mask, context.program, now)
        : undefined;
    if (answer === undefined) {
      own.forget();
      return listed === undefined ? ALLOWED : context.listedVerdict(listed);
    }
    const result = context.answerOf(answer);
    const bans = context.bansOf(answer, own.keys);
    own.forget();
    if (bans !== undefined) context.report(bans);
    return result;
  }

  /**
   * Returns a cached handle of the peer with these keys; it never goes stale. Its checks return what `check` of the keys
   * returns, and are faster.
   * @throws `ERR_LIMITER_KEY`, or `ERR_LIMITER_OPTION` for an unknown plan.
   */
  open(keys: Keys | string, plan?: string): RulePeer {
    return new RulePeer(this, keys, plan);
  }

  /**
   * Returns the result of a check at this moment, and the state of each rule that applies. Changes and counts nothing. A
   * refusal that would begin a ban is `delay` here. O(rules).
   * @throws the errors of `check`
   */
  peek(keys: Keys | string, cost?: Cost, action?: string, plan?: string): RulePeek {
    const now = this.now();
    const { context } = this;
    context.prepare(keys, cost, action, plan);
    const { keys: own, listed, mask, program } = context;
    const { answer, used } = this.core.peek(own.keys, mask, program, now);
    const current = listed === undefined ? context.answerOf(answer) : context.listAnswer(listed);
    own.forget();
    return { verdict: current, rules: statesOf(context, mask, program, used) };
  }

  /**
   * Gives a cost back to every rule that applies, at most to a full bucket: for a request that turned out not to count.
   * Rules on dry run stay as they are, and so do keys on an allow list.
   * @throws the errors of `check`
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const limits = new RuleLimiter({
   *   scopes: { account: {} },
   *   rules: { logins: { scope: 'account', action: 'login', quota: 5, windowSeconds: 900 } },
   * });
   * const isPassword = (text: string) => text === 'secret';
   * limits.check('alice', 1, 'login');
   * if (isPassword('secret')) limits.refund('alice', 1, 'login'); // only failed logins count
   * console.log(limits.peek('alice', 1, 'login').rules[0]?.remaining); // 5
   */
  refund(keys: Keys | string, cost?: Cost, action?: string, plan?: string): void {
    this.#settle('refund', keys, cost, action, plan);
  }

  /**
   * Takes a cost from every rule that applies, without asking: for what a request turned out to cost. Buckets may go below
   * zero; checks are refused until they have refilled. Rules on dry run and keys on an allow list pay nothing.
   * @throws the errors of `check`
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const limits = new RuleLimiter({
   *   scopes: { account: {} },
   *   rules: { rows: { scope: 'account', unit: 'rows', rateLimit: 100, burstLimit: 1000 } },
   * });
   * if (limits.check('alice').outcome === 'allow') limits.charge('alice', { rows: 1200 });
   * console.log(limits.check('alice').outcome); // delay
   */
  charge(keys: Keys | string, cost?: Cost, action?: string, plan?: string): void {
    this.#settle('charge', keys, cost, action, plan);
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
    const length = seconds ?? this.context.book.plan.bans[index]?.seconds[0];
    if (typeof length !== 'number' || !(length > 0)) {
      const accepted = 'a number greater than 0, or Infinity';
      const otherwise = `${accepted}; the scope has no ban policy with a default`;
      const isMissing = seconds === undefined;
      throw invalidNumber(
        'ERR_LIMITER_OPTION',
        'seconds',
        seconds,
        isMissing ? otherwise : accepted,
      );
    }
    return this.core.ban(index, own, length, this.now());
  }

  /**
   * Ends a ban in force; false if there is none. Violations and the ladder of ban lengths stay.
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
   * end last, longest first. One pass over the bans.
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
   * Returns one scope with the methods of the other limiters, for a dashboard and for monitoring.
   * @throws `ERR_LIMITER_KEY` for an unknown scope, `ERR_LIMITER_OPTION` for a single one.
   */
  scope(name: string): RuleScope {
    return new RuleScope(this, name);
  }

  /**
   * Replaces sections while the limiter runs. A section that is given replaces that section whole; one that is not stays.
   * All or nothing. Rules are matched by name: tokens that are used stay used, a new rule starts full, and a rule with
   * another scope is a new rule. Bans in force keep their ends. Opened peers follow by themselves; a peer with a plan that
   * is gone gets the base rules. Visits no key.
   * @throws `ERR_LIMITER_OPTION` as the constructor does, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`; then nothing has
   * changed.
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const limits = new RuleLimiter({
   *   scopes: { address: { kind: 'address' } },
   *   rules: { messages: { scope: 'address', rateLimit: 10 } },
   * });
   * limits.update({ rules: { messages: { scope: 'address', rateLimit: 5 } } });
   */
  update(sections: RuleSections): void {
    const given = readOptions('update', sections, SECTIONS);
    const { scopes, book: before, removed } = this.context;
    const book = compile(scopes, readSections(given, scopes, before.sections), before);
    const totals = this.core.totals();
    this.core.update(book.plan, this.now());
    removed.add(before, book, totals);
    this.context.use(book);
  }

  /**
   * Forgets the buckets, violations and bans of the keys named; derived scopes may be named too. An unknown key is no
   * error.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION` for a single scope.
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
  }

  /** Stops the background cleanup that the option `cleanup` started. The limiter can still be used. */
  close(): void {
    this.#background?.stop();
  }

  /**
   * Returns the outcomes of all checks, and counts by rule and by scope. Changes nothing. One pass over the bans.
   * @throws `ERR_LIMITER_CLOCK`.
   */
  getStats(): RuleStats {
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
   */
  restore(snapshot: unknown): number {
    const restore = restoreSlice(snapshot, this.context);
    return restore(this.core, this.maxPeers, this.now());
  }

  /** Restores slices in steps of one slice each, as `RateLimiter.restoreSlices`. */
  *restoreSlices(slices: Iterable<unknown>): Generator<number, void, undefined> {
    if (!hasMethods(slices, Symbol.iterator)) {
      throw invalidValue('ERR_LIMITER_SNAPSHOT', 'the slices', slices, 'an iterable of snapshots');
    }
    const read: ReturnType<typeof restoreSlice>[] = [];
    for (const slice of slices) {
      read.push(restoreSlice(slice, this.context));
      yield 0;
    }
    let restored = 0;
    for (const restore of read) {
      restored += restore(this.core, this.maxPeers, this.now());
      yield restored;
    }
  }

  #settle(
    method: 'refund' | 'charge',
    keys: Keys | string,
    cost: Cost | undefined,
    action: string | undefined,
    plan: string | undefined,
  ): void {
    const now = this.now();
    const { context } = this;
    context.prepare(keys, cost, action, plan);
    const { keys: own, listed, mask, program } = context;
    if (listed !== ON_ALLOW_LIST) this.core[method](own.keys, mask, program, now);
    own.forget();
  }

  /** Reads the option `clock`; undefined without one: the engine then reads its own clock. @internal */
  now(): number | undefined {
    return readOptionalClock(this.#clock);
  }

  #report(bans: readonly RuleBan[]): void {
    const isObserved = hasBanSubscribers();
    for (const ban of bans) {
      if (isObserved) publishBan({ limiter: this, ...ban });
      callSafely(() => this.#onBan?.(ban));
    }
  }
}
