// QuotaFallback: what a process may spend while the store does not answer. With the policy `share` it spreads its part of the
// quotas evenly, from nothing.

import { ConfiguredQuotas } from '../../client/configured-quotas.js';
import { type Cost, REQUESTS } from '../../client/cost.js';
import { type Policy, unitOf } from '../../client/policies.js';
import { secondsUntil } from '../../client/time.js';
import type { FailurePolicy } from '../limit/options.js';
import type { Spent } from './spent-log.js';

/** What a refund does not need to know of a request. */
const NO_NUMBER = { number: Infinity, numberUnit: REQUESTS } as const;

export class QuotaFallback {
  readonly #onStoreFailure: FailurePolicy;
  readonly #nodes: () => number;
  /** This process's part, with `share`; undefined while the store answers. */
  #quotas: ConfiguredQuotas | undefined;

  /** `nodes`: the number of processes that share the quotas. */
  constructor(onStoreFailure: FailurePolicy, nodes: () => number) {
    this.#onStoreFailure = onStoreFailure;
    this.#nodes = nodes;
  }

  /** The store does not answer from now on. */
  begin(policies: readonly Policy[], now: number): void {
    if (this.#onStoreFailure === 'share') this.#quotas = shareOf(policies, this.#nodes(), now);
  }

  /** The store answers again. */
  end(): void {
    this.#quotas = undefined;
  }

  replacePolicies(policies: readonly Policy[], now: number): void {
    if (this.#quotas !== undefined) this.begin(policies, now);
  }

  /** The seconds until the cost may be spent; Infinity if the policy spends nothing. */
  delay(cost: Cost, now: number): number {
    if (this.#onStoreFailure === 'open') return 0;
    return this.#quotas === undefined
      ? Infinity
      : secondsUntil(this.#quotas.readyAt(cost, now), now);
  }

  take(cost: Cost, now: number): void {
    this.#quotas?.take(cost, now);
  }

  /** Takes back a part of what was spent. */
  refund(spent: Spent, cost: Cost, now: number): void {
    this.#quotas?.refund(cost, { ...NO_NUMBER, cost: spent.cost, at: spent.at, owner: this }, now);
  }
}

/** Each process spreads what it may send as if all windows were longer by the number of processes. */
function shareOf(policies: readonly Policy[], nodes: number, now: number): ConfiguredQuotas {
  const longer = policies.map((policy) => {
    return { ...policy, windowSeconds: policy.windowSeconds * nodes };
  });
  const quotas = new ConfiguredQuotas({ algorithm: 'bucket', burstShare: 0 }, longer, now);
  // No process begins with a burst.
  quotas.take(Object.fromEntries(policies.map((policy) => [unitOf(policy), 1])), now);
  return quotas;
}
