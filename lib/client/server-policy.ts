// One policy as a server tells it: its window, where that is tighter than what is configured, and what
// it said is left. A server is believed only so far: whatever it says, after the longest wait one
// request goes and asks again.

import type { OpenLeases } from './lease.js';
import type { Policy } from './policies.js';
import { later } from './time.js';
import { type Accounting, freshQuotas, type Quotas } from './windows/index.js';

/** What policies count, as far as it is known here; of others only "nothing left" means something. */
export const REQUESTS = 'requests';
const CONTENT_BYTES = 'content-bytes';
const CONCURRENT_REQUESTS = 'concurrent-requests';

/** Times are told in whole seconds, which some servers round down. */
const MARGIN_SECONDS = 1;
/** Clients that wait for the same reset should not all come at once. */
const JITTER_SHARE = 0.1;
const MOST_JITTER_SECONDS = 3;

/** How a limiter counts, and how long it waits at most. */
export interface ServerOptions extends Accounting {
  readonly maxWaitSeconds: number;
  readonly random: () => number;
}

/** What a response said is left, and what it says that of. */
export interface Told {
  /** Units left, after those that went since the request was sent. */
  readonly remaining: number;
  readonly resetSeconds: number;
  /** When the request was sent: all units sent by then. */
  readonly mark: number;
}

export class ServerPolicy {
  readonly name: string | null;
  readonly partitionKey: string | null;
  readonly #options: ServerOptions;
  readonly #open: OpenLeases;
  #unit = REQUESTS;
  #policy: Policy | undefined;
  #window: Quotas | undefined;
  #staysUntil = -Infinity;
  #remaining = Infinity;
  #resetAt = -Infinity;
  #mark = -Infinity;
  readonly #pacer: Pacer;
  /** The last request or news. */
  #lastEvent: number;

  constructor(
    name: string | null,
    partitionKey: string | null,
    options: ServerOptions,
    open: OpenLeases,
    now: number,
  ) {
    this.name = name;
    this.partitionKey = partitionKey;
    this.#options = options;
    this.#open = open;
    this.#pacer = new Pacer(now);
    this.#lastEvent = now;
  }

  get windowSeconds(): number | undefined {
    return this.#policy?.windowSeconds;
  }

  get countsRequests(): boolean {
    return this.#unit === REQUESTS;
  }

  isOver(now: number): boolean {
    return now >= this.#resetAt && now >= this.#staysUntil;
  }

  /** The policy was told once more; `covered`: what is configured is as tight. */
  tell(policy: Policy, unit: string, covered: boolean, now: number): void {
    const { quota, windowSeconds } = policy;
    const isNew = this.#policy?.quota !== quota || this.windowSeconds !== windowSeconds;
    // The draft's own table of units has it both ways.
    this.#unit = unit === 'request' ? REQUESTS : unit;
    this.#policy = policy;
    this.#staysUntil = later(now, windowSeconds);
    const counts = this.#unit === REQUESTS ? !covered : this.#unit === CONTENT_BYTES;
    if (!counts) this.#window = undefined;
    else if (isNew || this.#window === undefined) {
      this.#window = freshQuotas(this.#options, [policy], now);
    }
  }

  /** What is left was told. Of a request sent before the newest that was heard of, only less counts. */
  tellLeft({ remaining, resetSeconds, mark }: Told, now: number): void {
    const isOld = now < this.#resetAt && mark < this.#mark;
    if (isOld && remaining >= this.#remaining) return;
    this.#remaining = remaining;
    this.#lastEvent = now;
    if (isOld) return;
    this.#mark = mark;
    const jitter = remaining > 0 ? 0 : Math.min(JITTER_SHARE * resetSeconds, MOST_JITTER_SECONDS);
    const seconds = resetSeconds + MARGIN_SECONDS + jitter * this.#options.random();
    this.#resetAt = now + seconds;
    this.#pacer.spread(remaining, seconds, this.#options.burstShare, now);
  }

  /** Nothing goes for so long. */
  block(seconds: number, mark: number, now: number): void {
    this.#remaining = 0;
    this.#resetAt = Math.max(this.#resetAt, now + seconds);
    this.#mark = mark;
    this.#lastEvent = now;
  }

  readyAt(cost: number, now: number): number {
    const charge = this.#charge(cost);
    let ready = -Infinity;
    if (now < this.#resetAt) ready = this.#leftReadyAt(charge);
    if (now < this.#staysUntil) ready = Math.max(ready, this.#windowReadyAt(charge, now));
    return Math.min(ready, this.#lastEvent + this.#options.maxWaitSeconds);
  }

  take(cost: number, now: number): void {
    this.#spend(this.#charge(cost), now);
    this.#lastEvent = now;
  }

  /** Bytes of a response. */
  takeBytes(bytes: number, now: number): void {
    if (this.#unit === CONTENT_BYTES) this.#spend(bytes, now);
  }

  /** A request that never arrived. What was told since then does not count it anyway. */
  giveBack(cost: number, mark: number): void {
    if (mark > this.#mark) this.#remaining += this.#charge(cost);
  }

  /** What is left and for how long, in seconds; undefined where that is over. */
  left(now: number): { remaining: number; resetSeconds: number } | undefined {
    if (now >= this.#resetAt || this.#unit !== REQUESTS) return undefined;
    return { remaining: Math.max(0, this.#remaining), resetSeconds: this.#resetAt - now };
  }

  /** Undoes `left`. */
  restore(remaining: number, resetSeconds: number, now: number): void {
    this.#remaining = remaining;
    this.#resetAt = now + resetSeconds;
    this.#pacer.spread(remaining, Math.max(resetSeconds, 1), this.#options.burstShare, now);
  }

  #charge(cost: number): number {
    return this.#unit === REQUESTS ? cost : 0;
  }

  #spend(units: number, now: number): void {
    this.#remaining -= units;
    this.#window?.take(units, now);
    this.#pacer.take(units, now);
  }

  #leftReadyAt(charge: number): number {
    if (this.#remaining <= 0 || this.#remaining < charge) return this.#resetAt;
    const paces = this.#options.algorithm === 'bucket' && this.#unit === REQUESTS;
    return paces ? Math.min(this.#pacer.readyAt(charge), this.#resetAt) : -Infinity;
  }

  #windowReadyAt(charge: number, now: number): number {
    const quota = this.#policy?.quota ?? Infinity;
    if (this.#unit === CONCURRENT_REQUESTS) return this.#open.fewerThanAt(quota, now);
    // A server's quota may change; what is above it goes when all of it is there.
    return this.#window?.readyAt(Math.min(charge, quota), now) ?? -Infinity;
  }
}

/** Spreads what is left over the time left: a share at once, the rest evenly. */
class Pacer {
  #debt = 0;
  #at: number;
  #rate = Infinity;
  #capacity = 1;

  constructor(now: number) {
    this.#at = now;
  }

  spread(units: number, seconds: number, burstShare: number, now: number): void {
    this.#settle(now);
    this.#rate = units / seconds;
    this.#capacity = Math.max(1, units * burstShare);
  }

  readyAt(cost: number): number {
    const missing = this.#debt + Math.min(cost, this.#capacity) - this.#capacity;
    return missing > 0 ? this.#at + missing / this.#rate : -Infinity;
  }

  take(cost: number, now: number): void {
    this.#settle(now);
    this.#debt += cost;
  }

  #settle(now: number): void {
    if (now > this.#at) this.#debt = Math.max(0, this.#debt - this.#rate * (now - this.#at));
    this.#at = now;
  }
}
