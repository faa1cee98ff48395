// One policy as a server tells it: its window, where that is tighter than what is configured, and what
// it said is left. A server is believed only so far: whatever it says, after the longest wait one
// request goes and asks again.

import type { OpenLeases, QuotaLease, Taken } from './lease.js';
import type { Policy } from './policies.js';
import { later } from './time.js';
import { type Accounting, freshQuotas, type Quotas, restoredQuotas } from './windows/index.js';

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

/** Which policy something is about; of those without a name, the one of that quota (draft 07). */
export interface PolicyKey {
  readonly name: string | null;
  readonly quota: number | null;
  readonly partitionKey: string | null;
}

/** What a response said is left, and what it says that of. */
export interface Told {
  readonly remaining: number;
  /** Units that the server may not have counted in that: under way with the request at some time. */
  readonly uncounted: number;
  /** Those of them that are under way still. */
  readonly underWay: number;
  readonly resetSeconds: number;
  /** The request's number. */
  readonly number: number;
}

/** What is left for how long, and how long nothing goes. Seconds are 0 where that is over. */
export interface Left {
  readonly remaining: number;
  readonly resetSeconds: number;
  readonly blockedSeconds: number;
}

/** What a snapshot keeps of a window. */
export interface SavedWindow {
  readonly quota: number;
  readonly windowSeconds: number;
  readonly unit: string;
  /** How long it still counts if it is not told again. */
  readonly staysSeconds: number;
  readonly state: readonly number[];
}

export class ServerPolicy {
  readonly key: PolicyKey;
  readonly #options: ServerOptions;
  readonly #open: OpenLeases<QuotaLease>;
  #unit = REQUESTS;
  #policy: Policy | undefined;
  #window: Quotas | undefined;
  /** The last request before the window: it counts none of those. */
  #lastBeforeWindow = -Infinity;
  #staysUntil = -Infinity;
  #remaining = Infinity;
  #resetAt = -Infinity;
  #blockedUntil = -Infinity;
  /** The newest request whose response has told what is left. */
  #toldBy = -Infinity;
  readonly #pacer: Pacer;
  /** The last request before this policy was heard of. */
  readonly #lastBefore: number;
  /** The last request or news; the request, if it was one, and what was before it. */
  #lastEvent: number;
  #lastNumber: number | undefined;
  #eventBefore: number;

  /** `last`: the number of the last request. */
  constructor(
    key: PolicyKey,
    options: ServerOptions,
    open: OpenLeases<QuotaLease>,
    last: number,
    now: number,
  ) {
    this.key = key;
    this.#options = options;
    this.#open = open;
    this.#pacer = new Pacer(now);
    this.#lastBefore = last;
    this.#lastEvent = now;
    this.#eventBefore = now;
  }

  get windowSeconds(): number | undefined {
    return this.#policy?.windowSeconds;
  }

  get countsRequests(): boolean {
    return this.#unit === REQUESTS;
  }

  isOver(now: number): boolean {
    return now >= Math.max(this.#resetAt, this.#staysUntil, this.#blockedUntil);
  }

  /** The policy was told once more; `covered`: what is configured is as tight. */
  tell(policy: Policy, given: string, covered: boolean, last: number, now: number): void {
    const { quota, windowSeconds } = policy;
    // The draft's own table of units has it both ways.
    const unit = given === 'request' ? REQUESTS : given;
    const isSame = this.#policy?.quota === quota && this.windowSeconds === windowSeconds;
    const isNew = !isSame || unit !== this.#unit;
    this.#unit = unit;
    this.#policy = policy;
    this.#staysUntil = later(now, windowSeconds);
    const counts = this.#unit === REQUESTS ? !covered : this.#unit === CONTENT_BYTES;
    if (!counts) this.#window = undefined;
    else if (isNew || this.#window === undefined) {
      this.#window = freshQuotas(this.#options, [policy], now);
      this.#lastBeforeWindow = last;
    }
  }

  /**
   * What is left was told. Of a request sent before the newest that was heard of, only less counts. Where an
   * old one tells less the server has counted it last, and with it all that has been answered.
   */
  tellLeft(
    { remaining: told, uncounted, underWay, resetSeconds, number }: Told,
    now: number,
  ): void {
    const isOld = now < this.#resetAt && number < this.#toldBy;
    const remaining = told - (this.countsRequests ? (isOld ? underWay : uncounted) : 0);
    if (isOld && remaining >= this.#remaining) return;
    this.#remaining = remaining;
    this.#heard(now);
    if (isOld) return;
    this.#toldBy = number;
    const jitter = remaining > 0 ? 0 : Math.min(JITTER_SHARE * resetSeconds, MOST_JITTER_SECONDS);
    const seconds = resetSeconds + MARGIN_SECONDS + jitter * this.#options.random();
    this.#resetAt = now + seconds;
    this.#pacer.spread(remaining, seconds, this.#options.burstShare, now);
  }

  /** Nothing goes for so long, whatever comes back. */
  block(seconds: number, now: number): void {
    const until = now + Math.min(seconds, this.#options.maxWaitSeconds);
    this.#blockedUntil = Math.max(this.#blockedUntil, until);
    this.#heard(now);
  }

  readyAt(cost: number, now: number): number {
    const charge = this.#charge(cost);
    let ready = this.#blockedUntil;
    if (now < this.#resetAt) ready = Math.max(ready, this.#leftReadyAt(charge));
    if (now < this.#staysUntil) ready = Math.max(ready, this.#windowReadyAt(charge, now));
    return Math.min(ready, this.#lastEvent + this.#options.maxWaitSeconds);
  }

  take(cost: number, number: number, now: number): void {
    this.#spend(this.#charge(cost), now);
    this.#eventBefore = this.#lastEvent;
    this.#lastEvent = now;
    this.#lastNumber = number;
  }

  /** Bytes of a response. */
  takeBytes(bytes: number, now: number): void {
    if (this.#unit === CONTENT_BYTES) this.#spend(bytes, now);
  }

  /** A request never arrived. What was told since it was taken is less by it, too. */
  giveBack({ cost, at, number }: Taken, now: number): void {
    const charge = this.#charge(cost);
    this.#remaining += charge;
    if (number > this.#lastBeforeWindow) this.#window?.giveBack(charge, at, now);
    if (number > this.#lastBefore) this.#pacer.giveBack(charge, at, now);
    if (number === this.#lastNumber) this.#lastEvent = this.#eventBefore;
  }

  /** What is left, for how long, and a block; undefined where all of that is over. */
  left(now: number): Left | undefined {
    const resetSeconds = this.countsRequests ? Math.max(0, this.#resetAt - now) : 0;
    const blockedSeconds = Math.max(0, this.#blockedUntil - now);
    if (resetSeconds === 0 && blockedSeconds === 0) return undefined;
    const remaining = resetSeconds > 0 ? Math.max(0, this.#remaining) : 0;
    return { remaining, resetSeconds, blockedSeconds };
  }

  /** Undoes `left`, after that time. */
  restoreLeft(
    { remaining, resetSeconds, blockedSeconds }: Left,
    elapsed: number,
    now: number,
  ): void {
    if (blockedSeconds > elapsed) this.block(blockedSeconds - elapsed, now);
    const seconds = resetSeconds - elapsed;
    if (seconds <= 0) return;
    this.#remaining = remaining;
    this.#resetAt = now + seconds;
    this.#pacer.spread(remaining, Math.max(seconds, 1), this.#options.burstShare, now);
  }

  /** What is spent of its window; undefined where it does not count. */
  window(now: number): SavedWindow | undefined {
    const counts = this.#window !== undefined || this.#unit === CONCURRENT_REQUESTS;
    if (this.#policy === undefined || !counts || now >= this.#staysUntil) return undefined;
    const [state = []] = this.#window?.save(now) ?? [];
    const { quota, windowSeconds } = this.#policy;
    return { quota, windowSeconds, unit: this.#unit, staysSeconds: this.#staysUntil - now, state };
  }

  /** Undoes `window`, after that time; false where the state is none. */
  restoreWindow(saved: SavedWindow, elapsed: number, now: number): boolean {
    const { quota, windowSeconds, unit, staysSeconds, state } = saved;
    const policy = { quota, windowSeconds };
    if (unit !== CONCURRENT_REQUESTS) {
      this.#window = restoredQuotas(this.#options, [policy], [state], now - elapsed);
      if (this.#window === undefined) return false;
    }
    this.#policy = policy;
    this.#unit = unit;
    this.#staysUntil = now + staysSeconds - elapsed;
    return true;
  }

  #heard(now: number): void {
    this.#lastEvent = now;
    this.#lastNumber = undefined;
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
    this.#rate = Math.max(0, units) / seconds;
    this.#capacity = Math.max(1, units * burstShare);
    // What went in the span before is no debt of this one's, but that it was full.
    this.#debt = Math.min(this.#debt, this.#capacity);
  }

  readyAt(cost: number): number {
    const missing = this.#debt + Math.min(cost, this.#capacity) - this.#capacity;
    return missing > 0 ? this.#at + missing / this.#rate : -Infinity;
  }

  take(cost: number, now: number): void {
    this.#settle(now);
    this.#debt += cost;
  }

  /** Of what was taken at that time, what has not been settled since. */
  giveBack(cost: number, at: number, now: number): void {
    this.#settle(now);
    const settled = now > at ? this.#rate * (now - at) : 0;
    this.#debt = Math.max(0, this.#debt - Math.max(0, cost - settled));
  }

  #settle(now: number): void {
    if (now > this.#at) this.#debt = Math.max(0, this.#debt - this.#rate * (now - this.#at));
    this.#at = now;
  }
}
