// SharedRulePeer: an opened peer of a SharedRuleLimiter. Its keys are resolved once.

import type { MaybePromise } from '../../common/maybe-promise.js';
import { detachString } from '../../common/strings.js';
import type { RequireKeys } from '../../rules/any-rules.js';
import { type AwaitedRule, findAwaited, keyIn } from '../../rules/awaited.js';
import type { LimiterContext } from '../../rules/limiter-context.js';
import type { Listed } from '../../rules/scope-keys.js';
import { MESSAGE } from '../../rules/sections.js';
import type { Classification, Cost, Keys, RulePeek, RuleVerdict } from '../../rules/types.js';
import { type Decided, type SharedRules, toIds, type Wish } from './shared-rules.js';

/** The part of a SharedRuleLimiter that its peers need. */
interface Owner {
  readonly core: SharedRules;
  readonly context: LimiterContext;
  requireLeases(): void;
  checkBytes(
    bytes: number,
    keys: Keys,
    cost?: Cost,
    action?: string,
    plan?: string,
  ): MaybePromise<RuleVerdict>;
  peek(keys: Keys, cost?: Cost, action?: string, plan?: string): Promise<RulePeek>;
  refund(keys: Keys, cost?: Cost, action?: string, plan?: string): Promise<void>;
  charge(keys: Keys, cost?: Cost, action?: string, plan?: string): Promise<void>;
}

/**
 * SharedRulePeer is a handle of the keys of one peer; it never goes stale, owns no resources and need not be closed.
 * @example
 * import { createClient } from 'redis';
 * import { SharedRuleLimiter } from 'relay-limiter/redis';
 *
 * const client = createClient({ url: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379' });
 * await client.connect();
 * const limits = new SharedRuleLimiter({
 *   client,
 *   scopes: { connection: {}, account: {} },
 *   rules: {
 *     messages: { scope: 'connection', rateLimit: 50 },
 *     events: { scope: 'account', quota: 600, windowSeconds: 3600 },
 *   },
 * });
 * const peer = limits.open({ connection: 'c1' });
 * console.log((await peer.checkAsync()).outcome); // allow
 * peer.assign({ account: 'alice' }); // at login
 * console.log((await peer.checkAsync(2)).outcome); // allow
 * await limits.close();
 * await client.close();
 */
export class SharedRulePeer {
  readonly #limiter: Owner;
  #keys: Keys;
  #plan: string | undefined;
  /** By scope, as the store knows them, and a bit for each scope that has a key or is single. */
  #ids: readonly (string | undefined)[] = [];
  #mask = 0;
  /** These are as of `#version` of the context; -1: of none. */
  #version = -1;
  #planIndex = 0;
  #listed: Listed;
  #requireAssignable: RequireKeys | undefined;

  /** @internal */
  constructor(limiter: Owner, keys: Keys | string, plan: string | undefined) {
    const { context } = limiter;
    context.planIndexOf(plan);
    this.#limiter = limiter;
    this.#keys = context.ownKeys(keys);
    this.#plan = plan === undefined ? undefined : detachString(plan);
    this.#resolve();
  }

  /** The keys as they were given. */
  get keys(): Keys {
    return this.#keys;
  }

  /** The name of the plan; undefined: the base rules. */
  get plan(): string | undefined {
    return this.#plan;
  }

  /** As `SharedRuleLimiter.check` of its keys and its plan. */
  check(cost?: Cost, action?: string): RuleVerdict {
    this.#limiter.requireLeases();
    return this.#check('ahead', 0, cost, action);
  }

  /** As `SharedRuleLimiter.checkAsync` of its keys and its plan. */
  async checkAsync(cost?: Cost, action?: string): Promise<RuleVerdict> {
    return this.#check('async', 0, cost, action);
  }

  /** As `SharedRuleLimiter.checkLocally` of its keys and its plan. */
  checkLocally(cost?: Cost, action?: string): RuleVerdict | undefined {
    return this.#check('local', 0, cost, action);
  }

  /**
   * Checks a message in a guard: one request and its bytes, with the action `message`. A promise if the store must answer.
   * @throws (or rejects with) the errors of `RuleLimiter.check` @internal
   */
  checkMessage(bytes: number, message: Classification = {}): MaybePromise<RuleVerdict> {
    const { action = MESSAGE, cost, keys, plan = this.#currentPlan() } = message;
    if (keys === undefined && plan === this.#plan) return this.#check('async', bytes, cost, action);
    return this.#limiter.checkBytes(bytes, { ...this.#keys, ...keys }, cost, action, plan);
  }

  /** As `RulePeer.checkDelivery`. @internal */
  checkDelivery(bytes: number, requests: number | undefined): MaybePromise<RuleVerdict> {
    const { context } = this.#limiter;
    const now = this.#limiter.core.now();
    context.prepareCost(requests, bytes);
    if (this.#version !== context.version) this.#refresh();
    return this.#decide('async', context.deliveryProgramOf(this.#planIndex), now);
  }

  /** As `RulePeer.findAwaited`. @internal */
  findAwaited(
    rules: Iterable<string>,
    isAwaited: (rule: string, key: string) => boolean,
    bytes: number,
    message: Classification = {},
  ): AwaitedRule | undefined {
    const of = { context: this.#limiter.context, keys: this.#keys, plan: this.#currentPlan() };
    return findAwaited(of, rules, isAwaited, bytes, message);
  }

  /** The key of a scope, with keys of a message; undefined if it has none or is single. @internal */
  keyIn(scope: string, keys?: Keys): string | undefined {
    return keyIn(this.#limiter.context, { ...this.#keys, ...keys }, scope);
  }

  /** As `RulePeer.restrict`. @internal */
  restrict(requireAssignable: RequireKeys): void {
    this.#requireAssignable = requireAssignable;
  }

  /**
   * Adds keys of more scopes or replaces keys, and takes another plan: by default it keeps the plan.
   * @throws `ERR_LIMITER_KEY`, also for the keys that a guard gives to the peer of a connection; `ERR_LIMITER_OPTION` for
   * an unknown plan. Then nothing has changed.
   */
  assign(keys: Keys, plan?: string): void {
    const { context } = this.#limiter;
    context.planIndexOf(plan);
    const added = context.ownKeys(keys);
    this.#requireAssignable?.(added);
    this.#keys = context.ownKeys({ ...this.#keys, ...added });
    if (plan !== undefined) this.#plan = detachString(plan);
    this.#resolve();
  }

  /** As `SharedRuleLimiter.peek` of its keys and its plan. */
  peek(cost?: Cost, action?: string): Promise<RulePeek> {
    return this.#limiter.peek(this.#keys, cost, action, this.#currentPlan());
  }

  /** As `SharedRuleLimiter.refund` of its keys and its plan. */
  refund(cost?: Cost, action?: string): Promise<void> {
    return this.#limiter.refund(this.#keys, cost, action, this.#currentPlan());
  }

  /** As `SharedRuleLimiter.charge` of its keys and its plan. */
  charge(cost?: Cost, action?: string): Promise<void> {
    return this.#limiter.charge(this.#keys, cost, action, this.#currentPlan());
  }

  /** Undefined, the base rules, if an update has removed the plan. */
  #currentPlan(): string | undefined {
    const plan = this.#plan;
    return plan !== undefined && this.#limiter.context.hasPlan(plan) ? plan : undefined;
  }

  #check<Given extends Wish>(
    wish: Given,
    bytes: number,
    cost: Cost | undefined,
    action: string | undefined,
  ): Decided[Given] {
    const { context, core } = this.#limiter;
    const now = core.now();
    context.prepareCost(cost, bytes);
    if (this.#version !== context.version) this.#refresh();
    return this.#decide(wish, context.programOf(this.#planIndex, action), now);
  }

  #decide<Given extends Wish>(wish: Given, program: number, now: number): Decided[Given] {
    const call = { keys: this.#ids, mask: this.#mask, program, listed: this.#listed };
    return this.#limiter.core.decide(wish, call, now);
  }

  #resolve(): void {
    const { keys, mask } = this.#limiter.context.resolved(this.#keys);
    const ids = keys.slice();
    toIds(ids);
    this.#ids = ids;
    this.#mask = mask;
    this.#version = -1;
  }

  #refresh(): void {
    const { context } = this.#limiter;
    this.#planIndex = context.planIndexOf(this.#currentPlan());
    this.#listed = context.resolved(this.#keys).listed;
    this.#version = context.version;
  }
}
