// A simulation of processes with a SharedPolicyLimiter, a store and the network between them, in virtual time.

import type { Lease } from '../../../lib/client/index.js';
import { SharedPolicyLimiter, type SharedPolicyLimiterOptions } from '../../../lib/redis/index.js';
import { type Random, seeded } from '../../support/random.js';
import {
  driftingClock,
  MAX_DRIFT,
  type NetworkOptions,
  SimulatedNetwork,
} from './simulated-network.js';
import { SimulatedQuotaStore } from './simulated-quota-store.js';
import { VirtualTime } from './virtual-time.js';

export interface QuotaScenario extends NetworkOptions {
  seed: number;
  processes: number;
  seconds: number;
  policies: { quota: number; windowSeconds: number; unit?: string }[];
  algorithm: 'bucket' | 'sliding';
  leaseSeconds: number;
  policy: 'share' | 'open' | 'closed';
  /** `one`: every request is sent and costs one unit. `any`: large costs, requests that are never sent, lower actual costs. */
  costs: 'one' | 'any';
  /** Requests of all processes together, as a multiple of what the first policy allows in the long run. */
  load: number;
  /** How often a process ends without closing and is replaced. */
  restarts: number;
}

/** A request: when it was sent and what it cost. */
export interface Sent {
  readonly at: number;
  readonly costs: Readonly<Record<string, number>>;
}

export class QuotaSimulation {
  readonly time = new VirtualTime();
  readonly store: SimulatedQuotaStore;
  readonly sent: Sent[] = [];
  /** What the processes did, as they are replaced. */
  readonly limiters: SharedPolicyLimiter[] = [];
  /** When the store was down for some process. */
  downSeconds = 0;
  readonly #random: Random;
  readonly #scenario: QuotaScenario;
  readonly #network: SimulatedNetwork;
  /** Storms and calms of all processes. */
  #loadFactor = 1;

  constructor(scenario: QuotaScenario) {
    this.#scenario = scenario;
    this.#random = seeded(scenario.seed);
    this.time.install();
    this.store = new SimulatedQuotaStore(driftingClock(this.time, this.#random, 1.7e9));
    this.#network = new SimulatedNetwork(this.time, this.#random, scenario, this.store);
  }

  async run(): Promise<void> {
    const { processes, seconds, restarts } = this.#scenario;
    for (let index = 0; index < processes; index += 1) this.#start(index);
    for (let index = 0; index < restarts; index += 1) {
      const at = this.#random() * seconds;
      this.time.after(at, () => this.#start(this.#random.below(processes)));
    }
    this.#changeLoad();
    await this.time.run(seconds);
  }

  /** The most that was sent of a policy in any interval of its window, in excess of its quota. */
  excess(): number {
    return Math.max(...this.#scenario.policies.map((policy) => excessOf(this.sent, policy)));
  }

  #start(index: number): void {
    const { policies, algorithm, leaseSeconds, policy, processes } = this.#scenario;
    const options: SharedPolicyLimiterOptions = {
      client: this.#network.client(),
      name: 'api',
      policies,
      algorithm,
      leaseSeconds,
      deadlineSeconds: 0.1,
      onStoreFailure: policy,
      nodes: processes,
      maxQueue: 20,
      clock: driftingClock(this.time, this.#random, this.#random() * 1e6),
      random: this.#random,
    };
    const limiter = new SharedPolicyLimiter(options);
    let downSince: number | undefined;
    limiter.onStoreState(({ state }) => {
      if (downSince !== undefined) this.downSeconds += this.time.now - downSince;
      downSince = state === 'down' ? this.time.now : undefined;
    });
    this.limiters[index] = limiter;
    this.#keepSending(index, limiter);
  }

  #keepSending(index: number, limiter: SharedPolicyLimiter): void {
    // A process that has died sends nothing more, not even what waits.
    if (this.limiters[index] !== limiter) return;
    const { load, policies, processes } = this.#scenario;
    const [{ quota, windowSeconds } = { quota: 1, windowSeconds: 1 }] = policies;
    const rate = ((load * quota) / windowSeconds / processes) * Math.max(1, this.#loadFactor);
    this.time.after((this.#random() * 2) / rate, () => {
      if (this.#loadFactor > 0) void this.#send(index, limiter);
      this.#keepSending(index, limiter);
    });
  }

  async #send(index: number, limiter: SharedPolicyLimiter): Promise<void> {
    const cost = this.#randomCost();
    const deadlineSeconds = this.#random() < 0.5 ? this.#random() * 5 : Infinity;
    const lease = await limiter.acquire({ cost, deadlineSeconds }).catch(() => undefined);
    if (lease === undefined || this.limiters[index] !== limiter) return;
    const sent = { at: this.time.now, costs: { ...lease.costs } as Record<string, number> };
    const kind = this.#scenario.costs === 'one' ? 1 : this.#random();
    // It may never be sent, or cost less than was taken, as its answer says later.
    if (kind > 0.1) this.sent.push(sent);
    this.time.after(this.#random() * 2, () => this.#end(lease, kind, sent.costs));
  }

  #end(lease: Lease, kind: number, costs: Record<string, number>): void {
    if (kind < 0.1) lease.refund();
    else if (kind > 0.3) lease.release();
    else {
      for (const unit of Object.keys(costs)) {
        if (unit !== 'requests') costs[unit] = Math.floor((costs[unit] as number) / 2);
      }
      lease.settle(costs);
    }
  }

  /** Mostly one of each unit, sometimes up to the smallest quota. */
  #randomCost(): Record<string, number> {
    const cost: Record<string, number> = { requests: 1 };
    const units = new Set(this.#scenario.policies.map(({ unit = 'requests' }) => unit));
    for (const unit of units) {
      const quotas = this.#scenario.policies.filter(
        (policy) => (policy.unit ?? 'requests') === unit,
      );
      const most = Math.floor(Math.min(...quotas.map(({ quota }) => quota)));
      cost[unit] =
        this.#scenario.costs === 'one' || this.#random() < 0.9 ? 1 : 1 + this.#random.below(most);
    }
    return cost;
  }

  #changeLoad(): void {
    this.#loadFactor = this.#loadFactor === 0 ? 10 : this.#random.pick([0, 1, 1]);
    const seconds = this.#random() * 1.5 * this.#scenario.leaseSeconds;
    this.time.after(this.#loadFactor === 10 ? 0.3 : seconds, () => this.#changeLoad());
  }
}

/** Half-open intervals that begin with a request suffice: any other one contains no more than one of them. */
export function excessOf(
  sent: readonly Sent[],
  { quota, windowSeconds, unit = 'requests' }: QuotaScenario['policies'][number],
): number {
  // Clocks drift apart by a thousandth, and so does a window.
  const seconds = windowSeconds * (1 - 2 * MAX_DRIFT);
  let [worst, sum, first] = [-Infinity, 0, 0];
  for (const { at, costs } of sent) {
    sum += costs[unit] ?? 0;
    for (; (sent[first] as Sent).at <= at - seconds; first += 1) {
      sum -= (sent[first] as Sent).costs[unit] ?? 0;
    }
    worst = Math.max(worst, sum - quota);
  }
  return worst;
}
