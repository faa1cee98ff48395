// One node of a pool: its limits, its latency and its failures.

import type { RateLimitInfo } from '../headers/types.js';
import { DecayingAverage } from './average.js';
import { Breaker, type BreakerState } from './breaker.js';
import { amountOf, type Cost, type Costs, readCost } from './cost.js';
import { type Lease, type LinkedLease, OpenLeases } from './lease.js';
import type { NodeSettings } from './node-file.js';
import type { UpdateContext } from './options.js';
import { type Policy, unitOf } from './policies.js';
import type { PolicyLimiter, PolicyLimiterState } from './policy-limiter.js';
import { isMismatch } from './snapshot.js';
import { secondsUntil } from './time.js';

/** Short, so that a slow node is soon tried again: that costs no more than one slow answer. */
const LATENCY_HALF_LIFE_SECONDS = 10;
const FAILURES_HALF_LIFE_SECONDS = 60;
/** The assumed cost of a failure in seconds, besides the time of the next attempt. */
const FAILURE_SECONDS = 1;
/** The share of rejected requests by which a node may differ from the others by chance. */
const REJECTIONS_TOLERANCE = 0.2;
/** A node is silent if it answers nothing for this many times its latency, and for at least that many seconds. */
const SILENT_LATENCIES = 3;
const SILENT_SECONDS = 1;

/** The state of a node; a copy. */
export interface NodeState extends Omit<PolicyLimiterState, 'waiting' | 'running'> {
  /** Seconds until the next request may be sent to the node. */
  waitSeconds: number;
  /** The number of requests under way. */
  inFlight: number;
  /**
   * The recent average time from sending a request to its response, in seconds. It approaches 0 while the node
   * is not used.
   */
  latencySeconds: number;
  /** Seconds since the last sign of life while requests are under way; 0 if none are. */
  silentSeconds: number;
  /** The share of recent requests that failed. */
  failureShare: number;
  /** The share of recent requests that were rejected: answered by a status of 400 to 499 other than 429. */
  rejectedShare: number;
  /** `open`: too many requests failed, so none are sent; `half-open`: the next request is a probe. */
  breaker: BreakerState;
}

export class UpstreamNode {
  readonly name: string;
  readonly #createLimiter: (settings: NodeSettings) => PolicyLimiter;
  readonly #now: () => number;
  readonly #onChange: () => void;
  readonly #breaker: Breaker;
  readonly #latency = new DecayingAverage(LATENCY_HALF_LIFE_SECONDS);
  readonly #failures = new DecayingAverage(FAILURES_HALF_LIFE_SECONDS, 0);
  readonly #rejections = new DecayingAverage(FAILURES_HALF_LIFE_SECONDS, 0);
  readonly #openLeases = new OpenLeases<NodeLease>();
  /** Whether the last result of the node was an answer. */
  #isProven = false;
  #lastAnswerAt = -Infinity;
  #settings: NodeSettings;
  #limiter: PolicyLimiter;
  #isUpdating = false;

  constructor(
    name: string,
    settings: NodeSettings,
    createLimiter: (settings: NodeSettings) => PolicyLimiter,
    now: () => number,
    random: () => number,
    onChange: () => void,
  ) {
    this.name = name;
    this.#settings = settings;
    this.#createLimiter = createLimiter;
    this.#now = now;
    this.#onChange = () => {
      if (!this.#isUpdating) onChange();
    };
    this.#breaker = new Breaker(random);
    this.#limiter = createLimiter(settings);
    this.#limiter.onChange(this.#onChange);
  }

  get settings(): NodeSettings {
    return this.#settings;
  }

  /** Replaces the settings; what is spent and learnt is kept. */
  configure(settings: NodeSettings): void {
    this.#settings = settings;
    this.#limiter.update(settings.policies);
  }

  /** Returns the number of requests under way. */
  inFlight(now: number): number {
    return this.#openLeases.size(now);
  }

  /** Returns the unit in which the cost exceeds a quota of the node. */
  exceededUnit(cost: Cost): string | undefined {
    const exceeds = (policy: Policy) => amountOf(cost, unitOf(policy)) > policy.quota;
    const found = this.#settings.policies.find(exceeds);
    return found && unitOf(found);
  }

  /** The smallest quota of a unit; Infinity without one. */
  maxCost(unit: string): number {
    const own = this.#settings.policies.filter((policy) => unitOf(policy) === unit);
    return Math.min(...own.map(({ quota }) => quota));
  }

  /** Returns the seconds until `cost` can be taken; Infinity means never, or not before a request has ended. */
  waitSeconds(cost: Cost, now: number): number {
    if (!this.#limiter.hasPlace) return Infinity;
    return Math.max(this.#limiter.delaySeconds(cost), secondsUntil(this.#breaker.readyAt(), now));
  }

  /** Returns the seconds before which `units`, in requests of any size, cannot all be sent. */
  backlogSeconds(units: Cost): number {
    return this.#limiter.backlogSeconds(units);
  }

  /** Whether the breaker is not closed: then it makes no sense to wait for this node. */
  isBroken(now: number): boolean {
    return this.#breaker.state(now) !== 'closed';
  }

  /**
   * Whether the node is known to answer: the last result was an answer, and it is not silent. Until it is, it should
   * have one request under way at a time, the probe, while there are nodes that are.
   */
  isSound(now: number): boolean {
    const limit = Math.max(SILENT_SECONDS, SILENT_LATENCIES * this.#latency.last);
    return this.#isProven && !this.isBroken(now) && this.#silence(now) <= limit;
  }

  /** The average latency of the last answers. */
  get latencySeconds(): number {
    return this.#latency.last;
  }

  /** Returns the share of recent requests that were rejected; undefined if none was answered yet. */
  get rejectedShare(): number | undefined {
    return this.#isProven ? this.#rejections.last : undefined;
  }

  /**
   * Returns the expected seconds from sending a request to a good response: a failure needs one more attempt. Old bad
   * news lose weight, but only for one request at a time, so that a probe shows first whether the node is better now.
   * `usualRejections`: the share of requests that other nodes reject, so that this one is not to blame for as many.
   */
  expectedSeconds(now: number, usualRejections: number): number {
    const isProbe = this.inFlight(now) === 0;
    const recent = (average: DecayingAverage) => (isProbe ? average.value(now) : average.last);
    const latency = Math.max(recent(this.#latency), this.#silence(now));
    const excess = recent(this.#rejections) - usualRejections - REJECTIONS_TOLERANCE;
    const failures = Math.min(1, recent(this.#failures) + Math.max(0, excess));
    return latency + failures * (latency + FAILURE_SECONDS);
  }

  /** Takes `cost`. Must be called only if `waitSeconds` is 0. `onEnd` is called when the lease ends. */
  take(cost: Cost, now: number, onEnd: () => void): NodeLease {
    const quota = this.#limiter.tryLease(cost) as Lease;
    const lease = new NodeLease(this, quota, now, (isSent) => {
      this.#onLeaseEnd(lease, isSent);
      onEnd();
    });
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
    this.#isProven = true;
    this.#lastAnswerAt = now;
    // A node refuses faster than it answers, so refusals would make it look fast.
    if (status !== 429) {
      this.#latency.add(latencySeconds, now);
      this.#rejections.add(status !== undefined && status >= 400 ? 1 : 0, now);
    }
    this.#onChange();
  }

  /** Records that no response came. */
  fail(lease: NodeLease, now: number): void {
    this.#addIfSlow(now - lease.at, now);
    lease.isAnswered = true;
    this.#recordFailure(lease, now);
    lease.release();
  }

  state(now: number): NodeState {
    const { waiting: _, running: __, ...limiter } = this.#limiter.state();
    const quota = Math.min(...this.#settings.policies.map((policy) => policy.quota));
    return {
      waitSeconds: this.waitSeconds(Math.min(1, quota), now),
      inFlight: this.inFlight(now),
      latencySeconds: this.#latency.value(now),
      silentSeconds: this.#silence(now),
      failureShare: this.#failures.value(now),
      rejectedShare: this.#rejections.value(now),
      breaker: this.#breaker.state(now),
      ...limiter,
    };
  }

  snapshot() {
    return this.#limiter.snapshot();
  }

  /**
   * Reads a snapshot. Returns a function that replaces the node's state by it, or null if it belongs to a node with
   * other policies or options.
   * @throws ERR_LIMITER_SNAPSHOT if it is invalid
   */
  restore(snapshot: object): (() => void) | null {
    const limiter = this.#createLimiter(this.#settings);
    try {
      limiter.restore(snapshot);
    } catch (error) {
      if (isMismatch(error)) return null;
      throw error;
    }
    return () => {
      this.#limiter = limiter;
      limiter.onChange(this.#onChange);
    };
  }

  /** Seconds without an answer while requests are under way. */
  #silence(now: number): number {
    const first = this.#openLeases.first(now);
    if (first === undefined || first.isAnswered) return 0;
    return Math.max(0, now - Math.max(this.#lastAnswerAt, first.at));
  }

  /**
   * Counts the time of a request that the caller gave up as latency, if it is above the average: a node that
   * does not answer must not look fast, and the answer would have taken even longer.
   */
  #onLeaseEnd(lease: NodeLease, isSent: boolean): void {
    const now = this.#now();
    this.#openLeases.delete(lease);
    this.#breaker.end(lease);
    if (isSent && !lease.isAnswered) this.#addIfSlow(now - lease.at, now);
  }

  #addIfSlow(seconds: number, now: number): void {
    if (seconds > this.#latency.value(now)) this.#latency.add(seconds, now);
  }

  #recordFailure(lease: NodeLease, now: number): void {
    this.#isProven = false;
    this.#failures.add(1, now);
    this.#breaker.fail(lease, this.#failures.value(now), now);
    this.#onChange();
  }
}

/** The quota that a request has taken from a node. */
export class NodeLease implements Lease, LinkedLease {
  previous: LinkedLease | undefined = undefined;
  next: LinkedLease | undefined = undefined;
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

  get costs(): Costs {
    return this.quota.costs;
  }

  release(): void {
    this.#end(true);
    this.quota.release();
  }

  refund(): void {
    this.#end(false);
    this.quota.refund();
  }

  settle(actual: number | Costs): void {
    readCost(actual);
    this.#end(true);
    this.quota.settle(actual);
  }

  #end(isSent: boolean): void {
    if (this.#isOpen) this.#onEnd(isSent);
    this.#isOpen = false;
  }
}
