// RulePeer: an opened peer of a RuleLimiter. Its keys are resolved once; it remembers where the engine has found its
// records, so that a check reads no key. An outdated slot is harmless: the engine then looks up the key.

import { detachString } from '../common/strings.js';
import {
  RULE_OUTDATED,
  RULE_SLOTS,
  type RuleKeys,
  type RulesCore,
  SLOT_WORDS,
} from '../engine/rules.js';
import type { RequireKeys } from './any-rules.js';
import { type AwaitedRule, findAwaited } from './awaited.js';
import type { LimiterContext } from './limiter-context.js';
import type { Listed } from './scope-keys.js';
import { MESSAGE } from './sections.js';
import type { Classification, Cost, Keys, RulePeek, RuleVerdict } from './types.js';
import { ALLOWED } from './verdicts.js';

/** The part of a RuleLimiter that its peers need. */
interface Owner {
  readonly core: RulesCore;
  readonly context: LimiterContext;
  now(): number | undefined;
  adoptRules(attempt: number): void;
  adoptAfter(error: unknown, attempt: number): void;
  adoptNewer(): boolean;
  checkBytes(bytes: number, keys: Keys, cost?: Cost, action?: string, plan?: string): RuleVerdict;
  peek(keys: Keys, cost?: Cost, action?: string, plan?: string): RulePeek;
  peekBytes(bytes: number, keys: Keys, cost?: Cost, action?: string, plan?: string): RulePeek;
  refund(keys: Keys, cost?: Cost, action?: string, plan?: string): void;
  charge(keys: Keys, cost?: Cost, action?: string, plan?: string): void;
}

/** The scopes with a field for each word of their slot. */
const FIELD_SCOPES = 3;
const FIELD_WORDS = FIELD_SCOPES * SLOT_WORDS;
const NO_SLOTS: number[] = [];

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
  // The slots of the first three scopes; those of more scopes are in an array. V8 stores small integers in the object
  // itself, so a check of a peer that is in no cache waits for the memory of one object.
  #place0 = 0;
  #low0 = 0;
  #high0 = 0;
  #place1 = 0;
  #low1 = 0;
  #high1 = 0;
  #place2 = 0;
  #low2 = 0;
  #high2 = 0;
  #otherSlots: number[] = NO_SLOTS;
  readonly #limiter: Owner;
  /** By scope, as the engine takes them, with a bit in `#mask` for each scope that has a key or is single. */
  #scopeKeys: RuleKeys;
  #mask: number;
  #secretVersion = 0;
  /** These are as of `#version` of the context; -1: of none. */
  #version = -1;
  #planIndex = 0;
  /** The program of a message in a guard. */
  #messageProgram = 0;
  #listed: Listed;
  // A check reads none of the next: they are last, in the last cache line of the object.
  #keys: Keys;
  #plan: string | undefined;
  #requireAssignable: RequireKeys | undefined;

  /** @internal */
  constructor(limiter: Owner, keys: Keys | string, plan: string | undefined) {
    const { context } = limiter;
    requirePlan(limiter, plan);
    this.#limiter = limiter;
    this.#keys = context.ownKeys(keys);
    this.#plan = plan === undefined ? undefined : detachString(plan);
    const { keys: scopeKeys, mask } = context.resolved(this.#keys);
    this.#scopeKeys = scopeKeys;
    this.#mask = mask;
    this.#openSlots();
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
      const { context } = this.#limiter;
      for (let attempt = 0; ; attempt += 1) {
        const now = this.#limiter.now();
        context.prepareCost(undefined, bytes);
        if (this.#version !== context.version) this.#refresh();
        const decided = this.#decide(this.#messageProgram, now, attempt);
        if (decided !== undefined) return decided;
      }
    }
    const { action = MESSAGE, cost, keys, plan = this.#latestPlan() } = message;
    if (keys === undefined && plan === this.#plan) return this.#checkBytes(bytes, cost, action);
    return this.#limiter.checkBytes(bytes, { ...this.#keys, ...keys }, cost, action, plan);
  }

  /**
   * Checks a message that a guard delivers to the peer: the requests that it costs, and its bytes. Only the rules that name
   * the action `delivery` apply: the others limit what the peer does, and somebody else has sent this message.
   * @throws the errors of `RuleLimiter.check`
   * @internal
   */
  checkDelivery(bytes: number, requests: number | undefined): RuleVerdict {
    const { context } = this.#limiter;
    for (let attempt = 0; ; attempt += 1) {
      const now = this.#limiter.now();
      context.prepareCost(requests, bytes);
      if (this.#version !== context.version) this.#refresh();
      const program = context.deliveryProgramOf(this.#planIndex);
      const decided = this.#decide(program, now, attempt);
      if (decided !== undefined) return decided;
    }
  }

  /** What `checkMessage` would return now. Counts and changes nothing. @throws the errors of `checkMessage` @internal */
  peekMessage(bytes: number, message: Classification = {}): RuleVerdict {
    const { action = MESSAGE, cost, keys, plan = this.#latestPlan() } = message;
    const all = { ...this.#keys, ...keys };
    return this.#limiter.peekBytes(bytes, all, cost, action, plan).verdict;
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
  ): AwaitedRule | undefined {
    const of = { context: this.#limiter.context, keys: this.#keys, plan: this.#latestPlan() };
    return findAwaited(of, rules, isAwaited, bytes, message);
  }

  /** The key of a scope, with keys of a message; undefined if it has none or is single. @internal */
  keyIn(scope: string, keys?: Keys): string | undefined {
    const { context } = this.#limiter;
    const scopeKeys =
      keys === undefined ? this.#scopeKeys : context.resolved({ ...this.#keys, ...keys }).keys;
    return scopeKeys[context.scopes.findIndex(({ name }) => name === scope)];
  }

  /** From now on `assign` throws what this throws for its keys. @internal */
  restrict(requireAssignable: RequireKeys): void {
    this.#requireAssignable = requireAssignable;
  }

  /**
   * Adds keys of more scopes or replaces keys, and takes another plan: by default it keeps the plan.
   * @throws `ERR_LIMITER_KEY`, also for the keys that a guard gives to the peer of a connection; `ERR_LIMITER_OPTION` for
   * an unknown plan. Then nothing has changed.
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
    requirePlan(this.#limiter, plan);
    const added = context.ownKeys(keys);
    this.#requireAssignable?.(added);
    const all = context.ownKeys({ ...this.#keys, ...added });
    const { keys: scopeKeys, mask } = context.resolved(all);
    this.#scopeKeys = scopeKeys;
    this.#mask = mask;
    this.#openSlots();
    this.#keys = all;
    if (plan !== undefined) this.#plan = detachString(plan);
    this.#version = -1;
  }

  /** As `RuleLimiter.peek` of its keys and its plan. */
  peek(cost?: Cost, action?: string): RulePeek {
    return this.#limiter.peek(this.#keys, cost, action, this.#latestPlan());
  }

  /** As `RuleLimiter.refund` of its keys and its plan. */
  refund(cost?: Cost, action?: string): void {
    this.#limiter.refund(this.#keys, cost, action, this.#latestPlan());
  }

  /** As `RuleLimiter.charge` of its keys and its plan. */
  charge(cost?: Cost, action?: string): void {
    this.#limiter.charge(this.#keys, cost, action, this.#latestPlan());
  }

  /** Undefined, the base rules, if an update has removed the plan. */
  #currentPlan(): string | undefined {
    const plan = this.#plan;
    return plan !== undefined && this.#limiter.context.hasPlan(plan) ? plan : undefined;
  }

  /** The same by the rules in force: another process may have removed the plan, or added it again. */
  #latestPlan(): string | undefined {
    if (this.#plan !== undefined) this.#limiter.adoptNewer();
    return this.#currentPlan();
  }

  #checkBytes(bytes: number, cost: Cost | undefined, action: string | undefined): RuleVerdict {
    const { context } = this.#limiter;
    for (let attempt = 0; ; attempt += 1) {
      const now = this.#limiter.now();
      try {
        context.prepareCost(cost, bytes);
      } catch (error) {
        this.#limiter.adoptAfter(error, attempt);
        continue;
      }
      // No code of the user runs from here to the engine's answer.
      if (this.#version !== context.version) this.#refresh();
      const program = context.programOf(this.#planIndex, action);
      const decided = this.#decide(program, now, attempt);
      if (decided !== undefined) return decided;
    }
  }

  /** The check, after its costs are written. Undefined if the rules have changed: check again, at the next attempt. */
  #decide(program: number, now: number | undefined, attempt: number): RuleVerdict | undefined {
    const { context, core } = this.#limiter;
    if (this.#listed !== undefined) {
      const listed = context.listedVerdict(this.#listed);
      if (listed === undefined) this.#limiter.adoptRules(attempt);
      return listed;
    }
    if (this.#secretVersion !== core.secretVersion) this.#openSlots();
    this.#writeSlots();
    context.setKind(program, this.#mask);
    const answer = core.checkPeer(this.#scopeKeys, this.#mask, program, now);
    this.#updateSlots();
    if (answer === undefined) return ALLOWED;
    if (answer === RULE_OUTDATED) {
      this.#limiter.adoptRules(attempt);
      return undefined;
    }
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

  #openSlots(): void {
    const { core } = this.#limiter;
    core.open(this.#scopeKeys, this.#mask);
    this.#secretVersion = core.secretVersion;
    this.#keepFields();
    const scopes = this.#scopeKeys.length;
    this.#otherSlots =
      scopes > FIELD_SCOPES
        ? Array.from(RULE_SLOTS.subarray(FIELD_WORDS, scopes * SLOT_WORDS))
        : NO_SLOTS;
  }

  /** Copies the slots to RULE_SLOTS. */
  #writeSlots(): void {
    RULE_SLOTS[0] = this.#place0;
    RULE_SLOTS[1] = this.#low0;
    RULE_SLOTS[2] = this.#high0;
    RULE_SLOTS[3] = this.#place1;
    RULE_SLOTS[4] = this.#low1;
    RULE_SLOTS[5] = this.#high1;
    RULE_SLOTS[6] = this.#place2;
    RULE_SLOTS[7] = this.#low2;
    RULE_SLOTS[8] = this.#high2;
    const others = this.#otherSlots;
    for (let i = 0; i < others.length; i += 1) RULE_SLOTS[FIELD_WORDS + i] = others[i] as number;
  }

  /** Copies the slots that a check has updated in RULE_SLOTS: only the place of a record changes. */
  #updateSlots(): void {
    if (
      RULE_SLOTS[0] !== this.#place0 ||
      RULE_SLOTS[3] !== this.#place1 ||
      RULE_SLOTS[6] !== this.#place2
    ) {
      this.#keepFields();
    }
    const others = this.#otherSlots;
    for (let i = 0; i < others.length; i += 1) {
      const word = RULE_SLOTS[FIELD_WORDS + i] as number;
      if (word !== others[i]) others[i] = word;
    }
  }

  #keepFields(): void {
    this.#place0 = RULE_SLOTS[0] as number;
    this.#low0 = RULE_SLOTS[1] as number;
    this.#high0 = RULE_SLOTS[2] as number;
    this.#place1 = RULE_SLOTS[3] as number;
    this.#low1 = RULE_SLOTS[4] as number;
    this.#high1 = RULE_SLOTS[5] as number;
    this.#place2 = RULE_SLOTS[6] as number;
    this.#low2 = RULE_SLOTS[7] as number;
    this.#high2 = RULE_SLOTS[8] as number;
  }
}

/** @throws `ERR_LIMITER_OPTION` for an unknown plan */
function requirePlan(limiter: Owner, plan: string | undefined): void {
  for (let attempt = 0; ; attempt += 1) {
    try {
      limiter.context.planIndexOf(plan);
      return;
    } catch (error) {
      limiter.adoptAfter(error, attempt);
    }
  }
}
