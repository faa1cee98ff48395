// One node of a pool: its limits, its latency and its failures.

import type { RateLimitInfo } from '../headers/types.js';
import { DecayingAverage } from './average.js';
import { Breaker, type BreakerState } from './breaker.js';
import { type Lease, OpenLeases } from './lease.js';
import type { UpdateContext } from './options.js';
import type { Policy } from './policies.js';
import type { PolicyLimiter, PolicyLimiterState } from './policy-limiter.js';
import { secondsUntil } from './time.js';

/** Short, so that a slow node is soon tried again: that costs no more than one slow answer. */
const LATENCY_HALF_LIFE_SECONDS = 10;
const FAILURES_HALF_LIFE_SECONDS = 60;
/** The assumed cost of a failure in seconds, besides the time of the next attempt. */
const FAILURE_SECONDS = 1;

/** The state of a node; a copy. */
export interface NodeState extends Omit<PolicyLimiterState, 'waiting'> {
  /** Seconds until the next request may be sent to the node. */
  waitSeconds: number;
  /** The number of requests under way. */
  inFlight: number;
  /**
   * The recent average time from sending a request to its response, in seconds. It approaches 0 while the node
   * is not used.
   */
  latencySeconds: number;
  /** The share of recent requests that failed. */
  failureShare: number;
  /** `open`: too many requests failed, so none are sent; `half-open`: the next request is a probe. */
  breaker: BreakerState;
}

export class UpstreamNode {
  readonly name: string;
  /** The highest cost that the node accepts. */
  readonly maxCost: number;
  readonly #createLimiter: () => PolicyLimiter;
  readonly #now: () => number;
  readonly #onChange: () => void;
  readonly #breaker: Breaker;
  readonly #latency = new DecayingAverage(LATENCY_HALF_LIFE_SECONDS);
  readonly #failures = new DecayingAverage(FAILURES_HALF_LIFE_SECONDS, 0);
  readonly #openLeases = new OpenLeases<NodeLease>();
  #limiter: PolicyLimiter;
  #isUpdating = false;

  constructor(
    name: string,
    policies: readonly Policy[],
    createLimiter: () => PolicyLimiter,
    now: () => number,
    random: () => number,
    onChange: () => void,
  ) {
    this.name = name;
    this.maxCost = Math.min(...policies.map(({ quota }) => quota));
    this.#createLimiter = createLimiter;
    this.#now = now;
    this.#onChange = () => {
      if (!this.#isUpdating) onChange();
    };
    this.#breaker = new Breaker(random);
    this.#limiter = createLimiter();
    this.#limiter.onChange(this.#onChange);
  }

  /** Returns the number of requests under way. */
  inFlight(now: number): number {
    return this.#openLeases.size(now);
  }

  /** Returns the seconds until `cost` can be taken; Infinity means never. */
  waitSeconds(cost: number, now: number): number {
    return Math.max(this.#limiter.delaySeconds(cost), secondsUntil(this.#breaker.readyAt(), now));
  }

  /** Returns the seconds before which `units`, in requests of any size, cannot all be sent. */
  backlogSeconds(units: number): number {
    return this.#limiter.backlogSeconds(units);
  }

  /** Whether the breaker is not closed: then it makes no sense to wait for this node. */
  isBroken(now: number): boolean {
    return this.#breaker.state(now) !== 'closed';
  }

  /** Returns the expected seconds from sending a request to a good response: a failure needs one more attempt. */
  expectedSeconds(now: number): number {
    const latency = this.#latency.value(now);
    return latency + this.#failures.value(now) * (latency + FAILURE_SECONDS);
  }

  /** Takes `cost`. Must be called only if `waitSeconds` is 0. */
  take(cost: number, now: number): NodeLease {
    const quota = this.#limiter.tryLease(cost) as Lease;
    const lease = new NodeLease(this, quota, now, (isSent) => this.#onLeaseEnd(lease, isSent));
    this.#breaker.start(lease, now);
    this.#openLeases.expire(now);
    this.#openLeases.add(lease);
    return lease;
  }

  /** Records a response. `latencySeconds` is the time since the request was sent. */
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
    // A cached response does not come from the node, so it says nothing about latency and failures.
    if ((context.ageSeconds ?? 0) > 0) this.#onChange();
    else this.#recordAnswer(lease, latencySeconds, status, now);
  }

  #recordAnswer(
    lease: NodeLease,
    latencySeconds: number,
    status: number | undefined,
    now: number,
  ): void {
    if (status !== undefined && status >= 500) {
      this.#recordFailure(lease, now);
      return;
    }
    this.#failures.add(0, now);
    this.#breaker.succeed(lease);
    // A node refuses faster than it answers, so refusals would make it look fast.
    if (status !== 429) this.#latency.add(latencySeconds, now);
    this.#onChange();
  }

  /** Records that no response came. */
  fail(lease: NodeLease, now: number): void {
    lease.isAnswered = true;
    this.#recordFailure(lease, now);
    lease.release();
  }

  state(now: number): NodeState {
    const { waiting: _, ...limiter } = this.#limiter.state();
    return {
      waitSeconds: this.waitSeconds(Math.min(1, this.maxCost), now),
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

  /** Reads a snapshot. Returns a function that replaces the node's state by it. */
  restore(snapshot: object): () => void {
    const limiter = this.#createLimiter();
    limiter.restore(snapshot);
    return () => {
      this.#limiter = limiter;
      limiter.onChange(this.#onChange);
    };
  }

  /**
   * Counts the time of a request that the caller gave up as latency, if it is above the average: a node that
   * does not answer must not look fast, and the answer would have taken even longer.
   */
  #onLeaseEnd(lease: NodeLease, isSent: boolean): void {
    const now = this.#now();
    this.#openLeases.delete(lease);
    this.#breaker.end(lease);
    const seconds = now - lease.at;
    const isSlow = seconds > this.#latency.value(now);
    if (isSent && !lease.isAnswered && isSlow) this.#latency.add(seconds, now);
  }

  #recordFailure(lease: NodeLease, now: number): void {
    this.#failures.add(1, now);
    this.#breaker.fail(lease, this.#failures.value(now), now);
    this.#onChange();
  }
}

/** The quota that a request has taken from a node. */
export class NodeLease implements Lease {
  readonly node: UpstreamNode;
  readonly quota: Lease;
  /** The time of the take, in seconds of the pool's clock. */
  readonly at: number;
  /** The node sets this once the result of the request is known. */
  isAnswered = false;
  readonly #onEnd: (isSent: boolean) => void;
  #isOpen = true;

  constructor(node: UpstreamNode, quota: Lease, at: number, onEnd: (isSent: boolean) => void) {
    this.node = node;
    this.quota = quota;
    this.at = at;
    this.#onEnd = onEnd;
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
    if (this.#isOpen) this.#onEnd(isSent);
    this.#isOpen = false;
  }
}
