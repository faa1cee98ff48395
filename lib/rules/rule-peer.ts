// RulePeer: an opened peer of a RuleLimiter. Its keys are resolved once; it remembers where the engine has found its
// records, so that a check reads no key. An outdated slot is harmless: the engine then looks up the key.

import { detachString } from '../common/strings.js';
import { RULE_SLOTS, type RuleKeys, type RulesCore, SLOT_WORDS } from '../engine/rules.js';
import type { RuleContext } from './rule-context.js';
import type { Listed } from './scope-keys.js';
import { MESSAGE } from './sections.js';
import type { Classification, Cost, Keys, RulePeek, RuleVerdict } from './types.js';
import { ALLOWED } from './verdicts.js';

/** The part of a RuleLimiter that its peers need. */
interface Owner {
  readonly core: RulesCore;
  readonly context: RuleContext;
  now(): number | undefined;
  checkBytes(bytes: number, keys: Keys, cost?: Cost, action?: string, plan?: string): RuleVerdict;
  peek(keys: Keys, cost?: Cost, action?: string, plan?: string): RulePeek;
  refund(keys: Keys, cost?: Cost, action?: string, plan?: string): void;
  charge(keys: Keys, cost?: Cost, action?: string, plan?: string): void;
}

/**
 * RulePeer is a cached handle of the keys of one peer; it never goes stale, owns no resources and need not be closed.
 * @example
 * import { RuleLimiter } from 'relay-limiter';
 *
 * const limits = new RuleLimiter({
 *   scopes: { connection: {}, account: {} },
 *   rules: {
 *     messages: { scope: 'connection', rateLimit: 50 },
 *     events: { scope: 'account', quota: 600, windowSeconds: 3600 },
 *   },
 * });
 * const peer = limits.open({ connection: 'c1' });
 * console.log(peer.check().outcome); // allow
 * peer.assign({ account: 'alice' }); // at login
 * console.log(peer.check(2).outcome); // allow
 */
export class RulePeer {
  readonly #limiter: Owner;
  #keys: Keys;
  #plan: string | undefined;
  /** By scope, as the engine takes them, with a bit in `#mask` for each scope that has a key or is single. */
  #scopeKeys: RuleKeys;
  #mask: number;
  /** A plain array: a typed array for each peer takes three times the memory, and as many cache misses. */
  #slots: number[];
  #secretVersion = 0;
  /** These are as of `#version` of the context; -1: of none. */
  #version = -1;
  #planIndex = 0;
  /** The program of a message in a guard. */
  #messageProgram = 0;
  #listed: Listed;

  /** @internal */
  constructor(limiter: Owner, keys: Keys | string, plan: string | undefined) {
    const { context } = limiter;
    context.planIndexOf(plan);
    this.#limiter = limiter;
    this.#keys = context.ownKeys(keys);
    this.#plan = plan === undefined ? undefined : detachString(plan);
    const { keys: scopeKeys, mask } = context.resolved(this.#keys);
    this.#scopeKeys = scopeKeys;
    this.#mask = mask;
    this.#slots = this.#openSlots();
  }

  /** The keys as they were given. */
  get keys(): Keys {
    return this.#keys;
  }

  /** The name of the plan; undefined: the base rules. */
  get plan(): string | undefined {
    return this.#plan;
  }

  /**
   * Checks the peer, with the same result as `RuleLimiter.check` of its keys and its plan.
   * @throws the errors of `RuleLimiter.check`
   */
  check(cost?: Cost, action?: string): RuleVerdict {
    return this.#checkBytes(0, cost, action);
  }

  /**
   * Checks a message in a guard: one request and its bytes, with the action `message`. An allowed message without `message`
   * looks up no name and allocates nothing.
   * @throws the errors of `RuleLimiter.check`
   * @internal
   */
  checkMessage(bytes: number, message?: Classification): RuleVerdict {
    if (message === undefined) {
      const now = this.#limiter.now();
      const { context } = this.#limiter;
      context.prepareCost(undefined, bytes);
      if (this.#version !== context.version) this.#refresh();
      return this.#decide(this.#messageProgram, now);
    }
    const { action = MESSAGE, cost, keys, plan = this.#currentPlan() } = message;
    if (keys === undefined && plan === this.#plan) return this.#checkBytes(bytes, cost, action);
    return this.#limiter.checkBytes(bytes, { ...this.#keys, ...keys }, cost, action, plan);
  }

  /**
   * The first of some rules that `checkMessage` would ask with a key that `isAwaited` accepts; '' is the key of a single
   * scope. Counts and changes nothing.
   * @throws the errors of `checkMessage`
   * @internal
   */
  findAwaited(
    rules: Iterable<string>,
    isAwaited: (rule: string, key: string) => boolean,
    bytes: number,
    message: Classification = {},
  ): { readonly rule: string; readonly scope: string; readonly key: string } | undefined {
    const { context } = this.#limiter;
    const { action = MESSAGE, cost, plan = this.#currentPlan() } = message;
    context.prepareCost(cost, bytes);
    const resolved = context.resolved({ ...this.#keys, ...message.keys });
    const program = context.programOf(context.planIndexOf(plan), action);
    // What is on a list takes from no bucket.
    if (resolved.listed !== undefined) return undefined;
    for (const rule of rules) {
      const asked = context.asked(rule, resolved, program);
      if (asked !== undefined && isAwaited(rule, asked.key)) return { rule, ...asked };
    }
    return undefined;
  }

  /** The key of a scope, with keys of a message; undefined if it has none or is single. @internal */
  keyIn(scope: string, keys?: Keys): string | undefined {
    const { context } = this.#limiter;
    const scopeKeys =
      keys === undefined ? this.#scopeKeys : context.resolved({ ...this.#keys, ...keys }).keys;
    return scopeKeys[context.scopes.findIndex(({ name }) => name === scope)];
  }

  /**
   * Adds keys of more scopes or replaces keys, and takes another plan: by default it keeps the plan.
   * @throws `ERR_LIMITER_KEY`, or `ERR_LIMITER_OPTION` for an unknown plan; then nothing has changed.
   * @example
   * import { RuleLimiter } from 'relay-limiter';
   *
   * const limits = new RuleLimiter({
   *   scopes: { connection: {}, account: {} },
   *   rules: { events: { scope: 'account', quota: 600, windowSeconds: 3600 } },
   *   plans: { paid: { events: { quota: 20_000 } } },
   * });
   * const peer = limits.open({ connection: 'c1' });
   * peer.assign({ account: 'alice' }, 'paid'); // at login
   * console.log(peer.plan, peer.peek().rules[0]?.limit); // paid 20000
   */
  assign(keys: Keys, plan?: string): void {
    const { context } = this.#limiter;
    context.planIndexOf(plan);
    const all = context.ownKeys({ ...this.#keys, ...context.ownKeys(keys) });
    const { keys: scopeKeys, mask } = context.resolved(all);
    this.#scopeKeys = scopeKeys;
    this.#mask = mask;
    this.#slots = this.#openSlots();
    this.#keys = all;
    if (plan !== undefined) this.#plan = detachString(plan);
    this.#version = -1;
  }

  /** As `RuleLimiter.peek` of its keys and its plan. */
  peek(cost?: Cost, action?: string): RulePeek {
    return this.#limiter.peek(this.#keys, cost, action, this.#currentPlan());
  }

  /** As `RuleLimiter.refund` of its keys and its plan. */
  refund(cost?: Cost, action?: string): void {
    this.#limiter.refund(this.#keys, cost, action, this.#currentPlan());
  }

  /** As `RuleLimiter.charge` of its keys and its plan. */
  charge(cost?: Cost, action?: string): void {
    this.#limiter.charge(this.#keys, cost, action, this.#currentPlan());
  }

  /** Undefined, the base rules, if an update has removed the plan. */
  #currentPlan(): string | undefined {
    const plan = this.#plan;
    return plan !== undefined && this.#limiter.context.hasPlan(plan) ? plan : undefined;
  }

  #checkBytes(bytes: number, cost: Cost | undefined, action: string | undefined): RuleVerdict {
    const { context } = this.#limiter;
    const now = this.#limiter.now();
    context.prepareCost(cost, bytes);
    // No code of the user runs from here to the engine's answer.
    if (this.#version !== context.version) this.#refresh();
    return this.#decide(context.programOf(this.#planIndex, action), now);
  }

  /** The check, after its costs are written. */
  #decide(program: number, now: number | undefined): RuleVerdict {
    const { context, core } = this.#limiter;
    if (this.#listed !== undefined) return context.listedVerdict(this.#listed);
    if (this.#secretVersion !== core.secretVersion) this.#slots = this.#openSlots();
    const slots = this.#slots;
    for (let i = 0; i < slots.length; i += 1) RULE_SLOTS[i] = slots[i] as number;
    context.setKind(program, this.#mask);
    const answer = core.checkPeer(this.#scopeKeys, this.#mask, program, now);
    for (let i = 0; i < slots.length; i += SLOT_WORDS) {
      if (RULE_SLOTS[i] !== slots[i]) this.#copySlot(i);
    }
    if (answer === undefined) return ALLOWED;
    const result = context.answerOf(answer);
    const bans = context.bansOf(answer, this.#scopeKeys);
    if (bans !== undefined) context.report(bans);
    return result;
  }

  #refresh(): void {
    const { context } = this.#limiter;
    this.#planIndex = context.planIndexOf(this.#currentPlan());
    this.#messageProgram = context.programOf(this.#planIndex, MESSAGE);
    this.#listed = context.resolved(this.#keys).listed;
    this.#version = context.version;
  }

  #copySlot(first: number): void {
    for (let i = first; i < first + SLOT_WORDS; i += 1) this.#slots[i] = RULE_SLOTS[i] as number;
  }

  #openSlots(): number[] {
    const { core } = this.#limiter;
    core.open(this.#scopeKeys, this.#mask);
    this.#secretVersion = core.secretVersion;
    return Array.from(RULE_SLOTS.subarray(0, this.#scopeKeys.length * SLOT_WORDS));
  }
}
