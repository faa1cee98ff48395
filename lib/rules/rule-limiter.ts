// RuleLimiter: all limits of a server in one call. It resolves names to numbers, reads the clock, decides lists, and
// shapes the engine's answers.

import { callSafely } from '../common/callbacks.js';
import { COMMON_OPTIONS, callback, commonOptions, readOptions } from '../common/options.js';
import { RULE_OUTDATED } from '../engine/rules.js';
import { BackgroundCleanup } from '../limiters/background-cleanup.js';
import { hasBanSubscribers, publishBan } from '../limiters/ban-channel.js';
import { compile, readSections } from './compile.js';
import type { RuleCall } from './limiter-context.js';
import { RuleLimiterState } from './rule-limiter-state.js';
import { RulePeer } from './rule-peer.js';
import { RuleScope } from './rule-scope.js';
import { ON_ALLOW_LIST } from './scope-keys.js';
import { readScopes } from './sections.js';
import { statesOf } from './stats.js';
import type {
  Cost,
  Keys,
  RuleBan,
  RuleLimiterOptions,
  RulePeek,
  RuleSections,
  RuleVerdict,
} from './types.js';
import { ALLOWED } from './verdicts.js';

const SECTIONS = ['rules', 'plans', 'bans', 'allow', 'deny'] as const;
const OPTIONS = ['scopes', ...SECTIONS, ...COMMON_OPTIONS, 'random'];

/**
 * RuleLimiter holds all limits of a server, and decides all of them in one call. A scope says what is counted: the
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
export class RuleLimiter extends RuleLimiterState {
  readonly #onBan: ((ban: RuleBan) => void) | undefined;
  readonly #background: BackgroundCleanup | undefined;
  #isClosed = false;

  /**
   * Creates a limiter without keys, or joins a shared table.
   * @throws `ERR_LIMITER_OPTION` for an invalid option, with its path, or too many scopes, rules, units or plans;
   * `ERR_LIMITER_ENGINE` if the requested engine is unavailable; `ERR_LIMITER_MEMORY`. With the option `shared`:
   * `ERR_LIMITER_SHARED` if the file cannot be used, or has other scopes, rules or another `maxPeers`.
   */
  constructor(options: RuleLimiterOptions) {
    const given = readOptions('RuleLimiter', options, OPTIONS);
    const { engine, clock, maxPeers, shared, onBan, cleanup } = commonOptions(given);
    const scopes = readScopes(given['scopes']);
    const random = callback<() => number>(given, 'random') ?? Math.random;
    const book = compile(scopes, readSections(given, scopes));
    super({ engine, clock, shared, maxPeers, scopes, book, random });
    this.#onBan = onBan as ((ban: RuleBan) => void) | undefined;
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
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const limits = new RuleLimiter({
   *   scopes: { connection: {}, account: {} },
   *   rules: {
   *     messages: { scope: 'connection', rateLimit: 50, burstLimit: 100 },
   *     bytes: { scope: 'connection', unit: 'bytes', rateLimit: 64_000 },
   *     logins: { scope: 'account', action: 'login', quota: 1, windowSeconds: 900 },
   *   },
   * });
   * limits.check({ connection: 'c1' }, { requests: 1, bytes: 512 });
   * limits.check({ connection: 'c1', account: 'alice' }, 1, 'login');
   * const { outcome, rule } = limits.check({ connection: 'c2', account: 'alice' }, 1, 'login');
   * console.log(outcome, rule); // delay logins
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
    const { context } = this;
    for (let attempt = 0; ; attempt += 1) {
      const now = this.now();
      let call: RuleCall;
      try {
        call = context.prepare(keys, cost, action, plan, bytes);
      } catch (error) {
        this.adoptAfter(error, attempt);
        continue;
      }
      const { listed } = call;
      context.setKind(call.program, call.mask);
      const answer =
        listed === undefined ? this.core.check(call.keys, call.mask, call.program, now) : undefined;
      if (answer === undefined) {
        context.release(call);
        if (listed === undefined) return ALLOWED;
        const verdict = context.listedVerdict(listed);
        if (verdict !== undefined) return verdict;
      } else if (answer === RULE_OUTDATED) {
        context.release(call);
      } else {
        const result = context.answerOf(answer);
        const bans = context.bansOf(answer, call.keys);
        context.release(call);
        if (bans !== undefined) context.report(bans);
        return result;
      }
      this.adoptRules(attempt);
    }
  }

  /**
   * Returns a cached handle of the peer with these keys; it never goes stale. Its checks return what `check` of the keys
   * returns, and are faster.
   * @throws `ERR_LIMITER_KEY`, or `ERR_LIMITER_OPTION` for an unknown plan.
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const limits = new RuleLimiter({
   *   scopes: { address: { kind: 'address' } },
   *   rules: { messages: { scope: 'address', rateLimit: 50 } },
   * });
   * const peer = limits.open('192.0.2.7'); // when a client connects
   * console.log(peer.check().outcome); // allow
   */
  open(keys: Keys | string, plan?: string): RulePeer {
    return new RulePeer(this, keys, plan);
  }

  /**
   * Returns the result of a check at this moment, and the state of each rule that applies. Changes and counts nothing. A
   * refusal that would begin a ban is `delay` here. O(rules).
   * @throws the errors of `check`
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const limits = new RuleLimiter({
   *   scopes: { account: {} },
   *   rules: { events: { scope: 'account', quota: 600, windowSeconds: 3600 } },
   * });
   * limits.check('alice', 100);
   * const { verdict, rules } = limits.peek('alice', 600);
   * for (const { rule, limit, remaining } of rules) {
   *   console.log(verdict.outcome, rule, limit, Math.floor(remaining)); // delay events 600 500
   * }
   */
  peek(keys: Keys | string, cost?: Cost, action?: string, plan?: string): RulePeek {
    return this.peekBytes(0, keys, cost, action, plan);
  }

  /** As `checkBytes`. @internal */
  peekBytes(
    bytes: number,
    keys: Keys | string,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): RulePeek {
    return this.withRules(() => this.#peek(bytes, keys, cost, action, plan));
  }

  #peek(
    bytes: number,
    keys: Keys | string,
    cost: Cost | undefined,
    action: string | undefined,
    plan: string | undefined,
  ): RulePeek {
    const now = this.now();
    const { context } = this;
    const call = context.prepare(keys, cost, action, plan, bytes);
    const { listed, mask, program } = call;
    const { answer, used } = this.core.peek(call.keys, mask, program, now);
    const current = listed === undefined ? context.answerOf(answer) : context.listAnswer(listed);
    context.release(call);
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
    this.withRules(() => this.#settle('refund', keys, cost, action, plan));
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
    this.withRules(() => this.#settle('charge', keys, cost, action, plan));
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
   * changed. With a shared table also `ERR_LIMITER_OPTION` for more rules than its records have room for, or sections of
   * more than 1 MiB, and `ERR_LIMITER_SHARED` while another process is stopped in a call.
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
    const { scopes } = this.context;
    this.replaceRules((before, rooms) =>
      compile(scopes, readSections(given, scopes, before.sections), before, rooms),
    );
  }

  /**
   * Stops the background cleanup that the option `cleanup` started. The limiter can still be used. A second call does
   * nothing, unless the table is shared: then the limiter leaves it, and each later call of another method throws
   * `ERR_LIMITER_SHARED`.
   */
  close(): void {
    this.#background?.stop();
    if (this.#isClosed) this.leave();
    this.#isClosed = true;
  }

  #settle(
    method: 'refund' | 'charge',
    keys: Keys | string,
    cost: Cost | undefined,
    action: string | undefined,
    plan: string | undefined,
  ): void {
    const { context } = this;
    for (let attempt = 0; ; attempt += 1) {
      const now = this.now();
      const call = context.prepare(keys, cost, action, plan);
      const isFree = call.listed === ON_ALLOW_LIST;
      if (!isFree) this.core[method](call.keys, call.mask, call.program, now);
      context.release(call);
      // Another process may have changed the list.
      if (!isFree || !this.adoptNewer(attempt)) return;
    }
  }

  /** @internal */
  protected override report(bans: readonly RuleBan[]): void {
    const isObserved = hasBanSubscribers();
    for (const ban of bans) {
      if (isObserved) publishBan({ limiter: this, ...ban });
      callSafely(() => this.#onBan?.(ban));
    }
  }
}
