// RuleLosses finds out which records a full limiter has evicted, and tells the model. Which ones it evicts is not
// reproducible.

import type { RuleLimiter } from 'relay-limiter';
import { addressIn } from './addresses.js';
import type { RuleQuery } from './model/rule-answers.js';
import type { RuleModel } from './model/rule-model.js';
import { isBanned } from './model/rule-records.js';
import { ACTION, KEYED_SCOPES, PLANS } from './rule-setup.js';

/** The present limiter, its model, the keys of all scopes, and the time. */
interface Round {
  readonly limiter: () => RuleLimiter;
  readonly model: () => RuleModel;
  readonly keysOf: (keys: RuleQuery['keys']) => RuleQuery['keys'];
  readonly now: () => number;
}

export class RuleLosses {
  /** By scope: records with used tokens that the limiter has evicted, as far as calls have shown. */
  readonly lossy = new Map<string, number>();
  readonly #round: Round;

  constructor(round: Round) {
    this.#round = round;
  }

  /** Begins again, for a new limiter. */
  clear(): void {
    this.lossy.clear();
  }

  findAll(): void {
    for (const scope of KEYED_SCOPES) {
      for (const key of [...this.#round.model().records(scope).keys()]) this.findIn(scope, key);
    }
  }

  /** Tells the model which of these keys are evicted. A ban in force never is. */
  find(keys: RuleQuery['keys']): void {
    if (!this.#isFull) return;
    for (const [scope, key] of Object.entries(this.#round.keysOf(keys))) this.findIn(scope, key);
  }

  findIn(scope: string, key: string): void {
    const now = this.#round.now();
    const model = this.#round.model();
    const limiter = this.#round.limiter();
    const record = this.#isFull ? model.find(scope, key) : undefined;
    if (record === undefined || isBanned(record, now)) return;
    // What is used depends on the plan that asks.
    const plan = PLANS.findIndex((_, i) => model.isUsed(scope, record, i, now));
    const isStored =
      record.violations > 0
        ? limiter.scope(scope).getViolationCount(key) > 0
        : plan >= 0 && this.#hasUsed(scope, key, plan);
    if (isStored) return;
    // Nothing shows whether the limiter still has such a record, which a later check may refill at these rates.
    if (plan < 0 && model.isUsedUnseen(scope, record, now)) limiter.removePeer({ [scope]: key });
    const isLoss = model.isUsed(scope, record, 0, now) && !record.isPending;
    if (isLoss) this.lossy.set(scope, (this.lossy.get(scope) ?? 0) + 1);
    model.lose(scope, key);
  }

  /** Forgets keys of a full limiter, unless they are banned: they may be evicted, and are not used again. */
  forget(keys: RuleQuery['keys']): void {
    if (!this.#isFull) return;
    const model = this.#round.model();
    for (const [scope, key] of Object.entries(this.#round.keysOf(keys))) {
      const record = model.find(scope, key);
      if (record !== undefined && !isBanned(record, this.#round.now())) model.lose(scope, key);
    }
  }

  get #isFull(): boolean {
    return this.#round.model().options.maxPeers < Infinity;
  }

  #hasUsed(scope: string, key: string, plan: number): boolean {
    const keys = scope === 'network' ? { address: addressIn(key) } : { [scope]: key };
    const { rules } = this.#round.limiter().peek(keys, 0, ACTION, PLANS[plan]);
    return rules.some((rule) => rule.scope === scope && rule.remaining < rule.limit);
  }
}
