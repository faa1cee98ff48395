// What is spent of a limiter's own policies. Each policy counts the amount of its unit in the cost of a request.
// The policies can be replaced while requests are under way; what is spent of a policy is kept.

import { amountOf, type Cost, REQUESTS } from './cost.js';
import type { TakenQuota } from './lease.js';
import { type Policy, unitOf } from './policies.js';
import {
  type AccountingOptions,
  createQuotas,
  type Quotas,
  resizeQuotas,
  restoreQuotas,
} from './windows/index.js';

/** Policies that are counted together. */
interface Account {
  readonly unit: string;
  readonly policies: readonly Policy[];
  readonly quotas: Quotas;
  /** The number of the last request before the account began, which counts later requests only. */
  readonly lastBefore: number;
}

export class ConfiguredQuotas {
  readonly #options: AccountingOptions;
  readonly #maxCosts = new Map<string, number>();
  #accounts: readonly Account[] = [];

  constructor(options: AccountingOptions, policies: readonly Policy[], now: number) {
    this.#options = options;
    this.replacePolicies(policies, 0, now);
  }

  /** Returns undefined if a state is invalid. `states` are those that `save` returned, `now` the time of that call. */
  static restore(
    options: AccountingOptions,
    policies: readonly Policy[],
    states: readonly unknown[],
    lastNumber: number,
    now: number,
  ): ConfiguredQuotas | undefined {
    const restored = new ConfiguredQuotas(options, policies, now);
    const accounts: Account[] = [];
    for (const account of restored.#accounts) {
      const own = account.policies.map((policy) => states[policies.indexOf(policy)]);
      const quotas = restoreQuotas(options, account.policies, own, now);
      if (quotas === undefined) return undefined;
      accounts.push({ ...account, quotas, lastBefore: lastNumber });
    }
    restored.#accounts = accounts;
    return restored;
  }

  /** The smallest quota of a unit; Infinity if no policy counts it. */
  maxCost(unit: string): number {
    return this.#maxCosts.get(unit) ?? Infinity;
  }

  /** Returns the first unit of the cost that exceeds a quota, so that the cost can never be taken. */
  exceededUnit(cost: Cost): string | undefined {
    for (const [unit, maxCost] of this.#maxCosts) {
      if (amountOf(cost, unit) > maxCost) return unit;
    }
    return undefined;
  }

  readyAt(cost: Cost, now: number): number {
    let ready = -Infinity;
    for (const { unit, quotas } of this.#accounts) {
      const amount = amountOf(cost, unit);
      if (counts(unit, amount)) ready = Math.max(ready, quotas.readyAt(amount, now));
    }
    return ready;
  }

  take(cost: Cost, now: number): void {
    for (const { unit, quotas } of this.#accounts) {
      const amount = amountOf(cost, unit);
      if (counts(unit, amount)) quotas.take(amount, now);
    }
  }

  /** Gives back `cost`, which is `taken.cost` or a part of it. */
  refund(cost: Cost, taken: TakenQuota, now: number): void {
    for (const { unit, quotas, lastBefore } of this.#accounts) {
      const amount = amountOf(cost, unit);
      if (amount <= 0 || taken.number <= lastBefore) continue;
      quotas.refund(amount, taken.at, now, amountOf(taken.cost, unit) - amount);
    }
  }

  /** Whether nothing of any quota is spent. */
  isFull(now: number): boolean {
    return this.#accounts.every(({ policies, quotas }) => {
      const quota = Math.min(...policies.map((policy) => policy.quota));
      return quotas.readyAt(quota, now) <= now;
    });
  }

  /** Returns the states of the windows, in the order of `policies`. */
  save(policies: readonly Policy[], now: number): number[][] {
    const states = new Map<Policy, number[]>();
    for (const { policies: own, quotas } of this.#accounts) {
      for (const [index, state] of quotas.save(now).entries())
        states.set(own[index] as Policy, state);
    }
    return policies.map((policy) => states.get(policy) ?? []);
  }

  /**
   * Replaces the policies. A policy continues one of the same unit: that with its name, else that with its window,
   * else the one whose window is closest. `lastNumber` is the number of the last request.
   */
  replacePolicies(policies: readonly Policy[], lastNumber: number, now: number): void {
    const previous = this.#accounts;
    this.#accounts = groupsOf(this.#options, policies).map((own) => {
      const unit = unitOf(own[0] as Policy);
      const source = predecessor(own, previous);
      const quotas =
        source && resizeQuotas(this.#options, own, source.policies, source.quotas, now);
      if (source !== undefined && quotas !== undefined) return { ...source, policies: own, quotas };
      const fresh = createQuotas(this.#options, own, now);
      return { unit, policies: own, quotas: fresh, lastBefore: lastNumber };
    });
    this.#maxCosts.clear();
    for (const policy of policies) {
      const unit = unitOf(policy);
      this.#maxCosts.set(unit, Math.min(policy.quota, this.maxCost(unit)));
    }
  }
}

/** A cost without requests waits for the quotas of requests too; of other units only what it has counts. */
function counts(unit: string, amount: number): boolean {
  return amount > 0 || unit === REQUESTS;
}

/** Returns the policies that are counted together: each alone, except with fixed windows. */
function groupsOf(options: AccountingOptions, policies: readonly Policy[]): Policy[][] {
  if (options.algorithm !== 'fixed') return policies.map((policy) => [policy]);
  const groups = new Map<string, Policy[]>();
  for (const policy of policies) {
    groups.set(unitOf(policy), [...(groups.get(unitOf(policy)) ?? []), policy]);
  }
  return [...groups.values()];
}

function predecessor(own: readonly Policy[], accounts: readonly Account[]): Account | undefined {
  const [policy] = own as [Policy];
  const { name, windowSeconds } = policy;
  const candidates = accounts.filter(({ unit }) => unit === unitOf(policy));
  const distance = ({ policies: [other] }: Account) => {
    return Math.abs(Math.log((other as Policy).windowSeconds / windowSeconds));
  };
  return (
    candidates.find(({ policies: [other] }) => name !== undefined && other?.name === name) ??
    candidates.sort((a, b) => distance(a) - distance(b))[0]
  );
}
