// PolicyLimiter: when requests to one upstream may go, by quotas of one's own and by what it says.

import { readClock } from '../common/clock.js';
import { refused, refusedNumber } from '../common/errors.js';
import { isArray, isRecord } from '../common/kinds.js';
import { nonNegative, readOptions, requireCost } from '../common/options.js';
import type { RateLimitInfo } from '../headers/types.js';
import { type Lease, OpenLeases, QuotaLease } from './lease.js';
import type { AcquireOptions, Settings } from './options.js';
import { costTooHigh, type PolicyLimiterOptions, readRequest, readSettings } from './options.js';
import { WaitQueue } from './queue.js';
import { Recovery } from './recovery.js';
import { isRefusal } from './response.js';
import { type Origin, ServerPolicies } from './server-policies.js';
import { type PolicySnapshot, readSnapshot, unreadable, writeSnapshot } from './snapshot.js';
import { secondsUntil } from './time.js';
import { freshQuotas, type Quotas, restoredQuotas } from './windows/index.js';

/** What else is known of a response. */
export interface UpdateContext {
  /** The lease of its request: how much has gone since is known then, not only guessed. */
  lease?: Lease | undefined;
  /** Its `Age`, in seconds: a cached response says nothing about now, and changes nothing. */
  ageSeconds?: number | undefined;
  /** Policies that its problem body names as violated: its `Retry-After` blocks only those. */
  violated?: readonly string[] | undefined;
  /** Bytes of its body, where the server has quotas of those. */
  contentBytes?: number | undefined;
}

/** How things stand; a copy. */
export interface PolicyLimiterState {
  /** Seconds for which the upstream wants to be left alone. */
  blockedSeconds: number;
  /** Whether requests are held back after a block: a probe first, then more with each answer. */
  ramping: boolean;
  /** The share of the rate in use, 1 but after refusals that gave no time. */
  rateShare: number;
  /** How many `acquire` calls wait. */
  waiting: number;
}

/**
 * Obeys several quotas at once on one upstream, each in a window of its own, and what the upstream's
 * responses say: they can only make it stricter than its own policies. Quota is taken when a request is
 * sent, and goes back if it never was.
 */
export class PolicyLimiter {
  readonly #settings: Settings;
  readonly #smallestQuota: number;
  #quotas: Quotas;
  readonly #open = new OpenLeases<QuotaLease>((lease) => this.#count(lease));
  readonly #server: ServerPolicies;
  #recovery: Recovery;
  readonly #queue: WaitQueue<Lease>;
  readonly #listeners = new Set<() => void>();
  /** Requests so far: their numbers. */
  #requests = 0;
  /** Units sent, and those of them that the server has counted, as far as is known. */
  #sent = 0;
  #counted = 0;
  #now = -Infinity;

  /** @throws `ERR_LIMITER_OPTION` for what is not accepted, naming it; `ERR_LIMITER_CLOCK`. */
  constructor(options: PolicyLimiterOptions) {
    this.#settings = readSettings(options);
    const { policies } = this.#settings;
    this.#smallestQuota = Math.min(...policies.map(({ quota }) => quota));
    this.#server = new ServerPolicies(this.#settings, policies, this.#open);
    this.#recovery = this.#freshRecovery();
    this.#quotas = freshQuotas(this.#settings, this.#windows(), this.#readClock());
    this.#queue = new WaitQueue<Lease>(
      {
        now: () => this.#readClock(),
        delay: (cost, now) => this.#delay(cost, now),
        take: (cost, now) => this.#lease(cost, now),
      },
      this.#settings,
    );
  }

  /**
   * Takes `cost` units (default 1; finite, at least 0) if they may go now and no `acquire` waits for
   * its turn. They cannot be given back. O(policies); allocates nothing.
   * @throws `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`, changing nothing.
   */
  tryAcquire(cost = 1): boolean {
    requireCost(cost);
    const now = this.#readClock();
    if (!this.#mayGo(cost, now)) return false;
    this.#take(cost, now);
    this.#counted += cost;
    return true;
  }

  /** `tryAcquire` with a lease; null where it may not go now. */
  tryLease(cost = 1): Lease | null {
    requireCost(cost);
    const now = this.#readClock();
    return this.#mayGo(cost, now) ? this.#lease(cost, now) : null;
  }

  /**
   * Seconds until `cost` units (default 1) may go: 0 for now, Infinity for never (above a quota of the
   * policies given). The `acquire` calls that wait go first, and are not counted in. Changes nothing.
   * @throws `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`.
   */
  delaySeconds(cost = 1): number {
    requireCost(cost);
    if (cost > this.#smallestQuota) return Infinity;
    return this.#delay(cost, this.#readClock());
  }

  /**
   * Seconds before which `units`, in requests of any size, cannot all have gone, even if nobody else
   * sends. Never Infinity: they may be more than a quota. Changes nothing.
   * @throws `ERR_LIMITER_COST`, `ERR_LIMITER_CLOCK`.
   */
  backlogSeconds(units: number): number {
    requireCost(units);
    return this.#delay(units, this.#readClock());
  }

  /**
   * Waits for `cost` units and takes them. First in, first out within a priority. A call that waits
   * keeps the process alive. Rejects, nothing spent, with the signal's reason when that aborts;
   * `ERR_LIMITER_DEADLINE` (with `retryAfterSeconds`) as soon as the deadline cannot be met;
   * `ERR_LIMITER_QUEUE` when too many wait; `ERR_LIMITER_COST` for a cost above a quota; and
   * `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  async acquire(options?: AcquireOptions): Promise<Lease> {
    const request = readRequest(options);
    if (request.cost > this.#smallestQuota) throw costTooHigh(request.cost, this.#smallestQuota);
    return this.#queue.enter(request);
  }

  /**
   * Takes in what a response said, and its status: to be called for every response, good ones too,
   * since those end the caution after a refusal. Give the lease where there is one. Numbers that make
   * no sense are passed over.
   * @throws `ERR_LIMITER_OPTION` for arguments of the wrong kind, `ERR_LIMITER_CLOCK`, changing nothing.
   */
  update(info: RateLimitInfo, status?: number, context?: UpdateContext): void {
    requireInfo(info, status);
    const { lease, ageSeconds, violated, contentBytes } = readContext(context);
    const now = this.#readClock();
    if (ageSeconds > 0) return;
    const last = this.#requests;
    const own = lease?.taken.owner === this.#quotas ? lease : undefined;
    this.#server.takeBytes(contentBytes, now);
    const spent = this.#server.apply(info, this.#origin(own, now), last, now);
    if (own !== undefined) this.#count(own);
    const refusal = status !== undefined && isRefusal(status);
    const retryAfter = info.retryAfterSeconds;
    const redirected = status !== undefined && status >= 300 && status < 400;
    if (isWait(retryAfter) && !redirected) {
      if (violated.length === 0) this.#recovery.block(retryAfter, last, now);
      for (const name of violated) this.#server.block(name, retryAfter, last, now);
    } else if (refusal && !spent) {
      this.#recovery.refused(own?.taken.number, last, now);
    } else if (!refusal) {
      this.#recovery.answered(own?.taken.number, now);
    }
    this.#changed();
  }

  /** How things stand. Changes nothing. @throws `ERR_LIMITER_CLOCK` */
  state(): PolicyLimiterState {
    return {
      blockedSeconds: secondsUntil(this.#recovery.blockedUntil, this.#readClock()),
      ramping: this.#recovery.ramping,
      rateShare: this.#recovery.share,
      waiting: this.#queue.size,
    };
  }

  /**
   * Calls `listener` after every refund, release, update and restore: a delay may be another then.
   * Returns what ends that. What a listener throws, the call throws that it was told of.
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /**
   * What is spent, blocked and left, as plain data that JSON keeps, for `restore` after a restart.
   * @throws `ERR_LIMITER_CLOCK`
   */
  snapshot(): PolicySnapshot {
    const now = this.#readClock();
    const { policies, wallClock } = this.#settings;
    return writeSnapshot(this.#settings, policies, this.#quotas.save(now), {
      takenAt: Math.max(0, readClock(wallClock)),
      blockedSeconds: secondsUntil(this.#recovery.blockedUntil, now),
      ...this.#server.save(now),
    });
  }

  /**
   * Puts a snapshot in the place of what this limiter knows: call it before the first request. Time that
   * has passed since, by the wall clock, counts; if that went back, none has. Leases from before are
   * worth nothing any more.
   * @throws `ERR_LIMITER_SNAPSHOT` for one that cannot be read whole, or is of other policies, another
   * algorithm or burst share; `ERR_LIMITER_CLOCK`. Nothing has changed then.
   */
  restore(snapshot: object): void {
    const settings = this.#settings;
    const saved = readSnapshot(snapshot, settings, settings.policies);
    const now = this.#readClock();
    const elapsed = Math.max(0, readClock(settings.wallClock) - saved.takenAt);
    const states = saved.policies.map(({ state }) => state);
    const quotas = restoredQuotas(settings, this.#windows(), states, now - elapsed);
    const { limits, told } = saved;
    if (quotas === undefined || !this.#server.restore(limits, told, elapsed, now)) {
      throw unreadable('the state of a policy is none');
    }
    this.#quotas = quotas;
    this.#recovery = this.#freshRecovery();
    if (saved.blockedSeconds > elapsed) {
      this.#recovery.block(saved.blockedSeconds - elapsed, this.#requests, now);
    }
    this.#changed();
  }

  // One read a call. A clock that steps back stands still.
  #readClock(): number {
    const now = readClock(this.#settings.clock);
    if (now > this.#now) this.#now = now;
    return this.#now;
  }

  #mayGo(cost: number, now: number): boolean {
    if (cost > this.#smallestQuota || this.#queue.size > 0) return false;
    return this.#readyAt(cost, now) <= now;
  }

  #readyAt(cost: number, now: number): number {
    return Math.max(
      this.#quotas.readyAt(cost, now),
      this.#server.readyAt(cost, now),
      this.#recovery.readyAt(),
    );
  }

  #delay(cost: number, now: number): number {
    return secondsUntil(this.#readyAt(cost, now), now);
  }

  #take(cost: number, now: number): void {
    this.#requests += 1;
    this.#sent += cost;
    this.#quotas.take(cost, now);
    this.#server.take(cost, this.#requests, now);
    this.#recovery.take(cost, this.#requests, now);
  }

  #lease(cost: number, now: number): QuotaLease {
    this.#open.forget(now);
    this.#take(cost, now);
    const lease = new QuotaLease(
      { cost, at: now, number: this.#requests, owner: this.#quotas },
      this.#counted,
      (settled, refund) => this.#settle(settled, refund),
    );
    this.#open.add(lease);
    return lease;
  }

  #settle(lease: QuotaLease, refund: boolean): void {
    const now = this.#readClock();
    lease.settled = true;
    this.#open.delete(lease);
    if (refund && lease.taken.owner === this.#quotas) this.#giveBack(lease, now);
    else this.#count(lease);
    // Sums of fractions drift; nothing under way is nothing.
    if (this.#open.size(now) === 0) this.#counted = this.#sent;
    this.#changed();
  }

  #giveBack({ taken, isCounted }: QuotaLease, now: number): void {
    this.#quotas.giveBack(taken.cost, taken.at, now);
    if (isCounted) return;
    this.#server.giveBack(taken, now);
    this.#recovery.giveBack(taken.number);
    this.#sent -= taken.cost;
  }

  /** Its request has been answered, or is not waited for any more. */
  #count(lease: QuotaLease): void {
    if (!lease.isCounted) this.#counted += lease.cost;
    lease.isCounted = true;
  }

  /**
   * Requests overtake each other: what was under way at any time while this one was, the server may not
   * have counted in what it says. Without a lease, any that is under way may be the one that was answered.
   */
  #origin(lease: QuotaLease | undefined, now: number): Origin {
    if (lease !== undefined) {
      const { number, cost } = lease.taken;
      const underWay = this.#sent - this.#counted - (lease.isCounted ? 0 : cost);
      return { number, underWay, uncounted: this.#sent - lease.counted - cost };
    }
    const number = this.#open.first(now)?.taken.number ?? this.#requests;
    const underWay = this.#sent - this.#counted;
    return { number, underWay, uncounted: underWay };
  }

  #changed(): void {
    this.#queue.wake();
    for (const listener of this.#listeners) listener();
  }

  #windows() {
    const { policies, jitterSeconds } = this.#settings;
    return policies.map(({ quota, windowSeconds }) => {
      return { quota, windowSeconds: windowSeconds + jitterSeconds };
    });
  }

  #freshRecovery(): Recovery {
    const { policies, maxWaitSeconds, random } = this.#settings;
    const rates = policies.map(({ quota, windowSeconds }) => quota / windowSeconds);
    return new Recovery(Math.min(...rates), maxWaitSeconds, random);
  }
}

function isWait(seconds: unknown): seconds is number {
  return typeof seconds === 'number' && seconds > 0;
}

function requireInfo(info: unknown, status: unknown): void {
  const { policies, limits }: Partial<RateLimitInfo> = isRecord(info) ? info : {};
  if (!isArray(policies) || !isArray(limits)) {
    const accepted = 'a RateLimitInfo, as parseRateLimitHeaders returns it';
    throw refused('ERR_LIMITER_OPTION', 'info', info, accepted);
  }
  if (status !== undefined && !Number.isInteger(status)) {
    throw refusedNumber('ERR_LIMITER_OPTION', 'status', status, 'a status code');
  }
}

function readContext(context: unknown) {
  const names = ['lease', 'ageSeconds', 'violated', 'contentBytes'];
  const given = readOptions('update', context, names);
  const { lease, violated = [] } = given;
  if (lease !== undefined && !(lease instanceof QuotaLease)) {
    throw refused('ERR_LIMITER_OPTION', 'lease', lease, 'a lease of a PolicyLimiter');
  }
  if (!Array.isArray(violated) || violated.some((name) => typeof name !== 'string')) {
    throw refused('ERR_LIMITER_OPTION', 'violated', violated, 'an array of names');
  }
  return {
    lease,
    violated: violated as string[],
    ageSeconds: nonNegative(given, 'ageSeconds', 0),
    contentBytes: nonNegative(given, 'contentBytes', 0),
  };
}
