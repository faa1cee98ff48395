// One node of a pool: what it allows, how fast it answers, how often it fails.

import type { RateLimitInfo } from '../headers/types.js';
import { FadingAverage } from './average.js';
import { Breaker, type BreakerState } from './breaker.js';
import { type Lease, OpenLeases } from './lease.js';
import type { Policy } from './policies.js';
import type { PolicyLimiter, PolicyLimiterState, UpdateContext } from './policy-limiter.js';
import { secondsUntil } from './time.js';

/** A node that was slow is tried again soon, since one slow answer is all that it costs. */
const LATENCY_HALF_LIFE_SECONDS = 10;
const FAILURES_HALF_LIFE_SECONDS = 60;
/** What a failure costs, in seconds, besides the time that the next try takes. */
const FAILURE_SECONDS = 1;

/** How things stand with a node; a copy. */
export interface NodeState extends Omit<PolicyLimiterState, 'waiting'> {
  /** Seconds until the next request may go there. */
  waitSeconds: number;
  /** Requests under way. */
  inFlight: number;
  /** From sending a request to its response, lately; nearly 0 where it has long not been used. */
  latencySeconds: number;
  /** The share of requests that failed lately. */
  failureShare: number;
  /** `open`: left alone since too many failed; `half-open`: the next one is a probe. */
  breaker: BreakerState;
}

export class UpstreamNode {
  readonly name: string;
  /** The highest cost that can go there. */
  readonly most: number;
  readonly #makeLimiter: () => PolicyLimiter;
  readonly #now: () => number;
  readonly #changed: () => void;
  readonly #breaker: Breaker;
  readonly #latency = new FadingAverage(LATENCY_HALF_LIFE_SECONDS);
  readonly #failures = new FadingAverage(FAILURES_HALF_LIFE_SECONDS, 0);
  readonly #open = new OpenLeases<NodeLease>();
  #limiter: PolicyLimiter;
  #isUpdating = false;

  constructor(
    name: string,
    policies: readonly Policy[],
    makeLimiter: () => PolicyLimiter,
    now: () => number,
    random: () => number,
    changed: () => void,
  ) {
    this.name = name;
    this.most = Math.min(...policies.map(({ quota }) => quota));
    this.#makeLimiter = makeLimiter;
    this.#now = now;
    this.#changed = () => {
      if (!this.#isUpdating) changed();
    };
    this.#breaker = new Breaker(random);
    this.#limiter = makeLimiter();
    this.#limiter.onChange(this.#changed);
  }

  /** Requests under way. */
  inFlight(now: number): number {
    return this.#open.size(now);
  }

  /** Until `cost` may go there; Infinity: never. */
  waitSeconds(cost: number, now: number): number {
    return Math.max(this.#limiter.delaySeconds(cost), secondsUntil(this.#breaker.readyAt(), now));
  }

  /** Until that much more can all have gone there, in requests of any size. */
  backlogSeconds(units: number): number {
    return this.#limiter.backlogSeconds(units);
  }

  /** Whether it has failed too often to be waited for. */
  isBroken(now: number): boolean {
    return this.#breaker.state(now) !== 'closed';
  }

  /** From sending a request to a good response: where it fails, one more try is needed. */
  expectedSeconds(now: number): number {
    const latency = this.#latency.value(now);
    return latency + this.#failures.value(now) * (latency + FAILURE_SECONDS);
  }

  /** To be called only where the wait is 0. */
  take(cost: number, now: number): NodeLease {
    const quota = this.#limiter.tryLease(cost) as Lease;
    const lease = new NodeLease(this, quota, now, (isSent) => this.#ended(lease, isSent));
    this.#breaker.take(lease, now);
    this.#open.forget(now);
    this.#open.add(lease);
    return lease;
  }

  /** A response came. `latencySeconds`: since it was sent. */
  update(
    lease: NodeLease,
    latencySeconds: number,
    info: RateLimitInfo,
    status: number | undefined,
    context: UpdateContext,
    now: number,
  ): void {
    this.#isUpdating = true;
    try {
      this.#limiter.update(info, status, { ...context, lease: lease.quota });
    } finally {
      this.#isUpdating = false;
    }
    lease.isAnswered = true;
    // From a cache: it was not the node that answered.
    if ((context.ageSeconds ?? 0) > 0) this.#changed();
    else this.#answered(lease, latencySeconds, status, now);
  }

  #answered(lease: NodeLease, latencySeconds: number, status: number | undefined, now: number) {
    if (status !== undefined && status >= 500) {
      this.#failed(lease, now);
      return;
    }
    this.#failures.add(0, now);
    this.#breaker.answered(lease);
    // A refusal is quickly made.
    if (status !== 429) this.#latency.add(latencySeconds, now);
    this.#changed();
  }

  /** No response came. */
  fail(lease: NodeLease, now: number): void {
    lease.isAnswered = true;
    this.#failed(lease, now);
    lease.release();
  }

  state(now: number): NodeState {
    const { waiting: _, ...limiter } = this.#limiter.state();
    return {
      waitSeconds: this.waitSeconds(Math.min(1, this.most), now),
      inFlight: this.inFlight(now),
      latencySeconds: this.#latency.value(now),
      failureShare: this.#failures.value(now),
      breaker: this.#breaker.state(now),
      ...limiter,
    };
  }

  snapshot() {
    return this.#limiter.snapshot();
  }

  /** Reads a snapshot; what comes back puts it in the place of what is known. */
  restore(snapshot: object): () => void {
    const limiter = this.#makeLimiter();
    limiter.restore(snapshot);
    return () => {
      this.#limiter = limiter;
      limiter.onChange(this.#changed);
    };
  }

  /** Who does not answer must not look fast: one that was given up would have taken longer still. */
  #ended(lease: NodeLease, isSent: boolean): void {
    const now = this.#now();
    this.#open.delete(lease);
    this.#breaker.ended(lease);
    const seconds = now - lease.at;
    const isSlow = seconds > this.#latency.value(now);
    if (isSent && !lease.isAnswered && isSlow) this.#latency.add(seconds, now);
  }

  #failed(lease: NodeLease, now: number): void {
    this.#failures.add(1, now);
    this.#breaker.failed(lease, this.#failures.value(now), now);
    this.#changed();
  }
}

/** The quota that a request has taken of a node. */
export class NodeLease implements Lease {
  readonly node: UpstreamNode;
  readonly quota: Lease;
  /** When it was taken, in seconds of the pool's clock. */
  readonly at: number;
  /** Set by the node, once it is known what came of the request. */
  isAnswered = false;
  readonly #ended: (isSent: boolean) => void;
  #isOpen = true;

  constructor(node: UpstreamNode, quota: Lease, at: number, ended: (isSent: boolean) => void) {
    this.node = node;
    this.quota = quota;
    this.at = at;
    this.#ended = ended;
  }

  get cost(): number {
    return this.quota.cost;
  }

  release(): void {
    this.#end(true);
    this.quota.release();
  }

  refund(): void {
    this.#end(false);
    this.quota.refund();
  }

  #end(isSent: boolean): void {
    if (this.#isOpen) this.#ended(isSent);
    this.#isOpen = false;
  }
}
