// One policy as a server reports it: its window, if that is tighter than the configured policies, and what
// remains of it. Trust in a server is limited: whatever it reports, one request is sent as a probe after
// `maxWaitSeconds`, and a policy is dropped if the server answers its probe well without repeating it.

import { amountOf, type Cost, REQUESTS } from './cost.js';
import type { OpenLeases, QuotaLease, TakenQuota } from './lease.js';
import { Pacer } from './pacer.js';
import type { Policy } from './policies.js';
import { ResetAgreement } from './reset-agreement.js';
import type { PolicyKey, RemainingReport, RemainingState, WindowState } from './server-report.js';
import { addSeconds } from './time.js';
import {
  type AccountingOptions,
  createQuotas,
  type Quotas,
  restoreQuotas,
} from './windows/index.js';

// The units that this package can count. For any other unit, only a remaining amount of 0 has an effect.
const CONTENT_BYTES = 'content-bytes';
const CONCURRENT_REQUESTS = 'concurrent-requests';

/** Most servers report times in whole seconds, which some of them round down. */
const MARGIN_SECONDS = 1;
/**
 * Clients that wait for the same reset should not all send their requests at the same time. An exact reset is that of a
 * short window, of which 10 % would be lost each time.
 */
const JITTER_SHARE = 0.1;
const EXACT_JITTER_SHARE = 0.01;
const MAX_JITTER_SECONDS = 3;

export interface ServerPolicyOptions extends AccountingOptions {
  /** The longest wait that a server can cause. */
  readonly maxWaitSeconds: number;
  /** The longest wait until a reset that reports have confirmed. */
  readonly maxConfirmedWaitSeconds: number;
  readonly random: () => number;
}

export class ServerPolicy {
  readonly key: PolicyKey;
  /** The position in the order of the last reports. Higher is later. */
  order = 0;
  readonly #options: ServerPolicyOptions;
  readonly #openLeases: OpenLeases<QuotaLease>;
  #unit = REQUESTS;
  #policy: Policy | undefined;
  #window: Quotas | undefined;
  /** The number of the last request before `#window` was created, which counts later requests only. */
  #lastBeforeWindow = -Infinity;
  #staysUntil = -Infinity;
  #remaining = Infinity;
  /** The lowest report of the window, and the units taken that no report has answered since. */
  #lowest = -Infinity;
  #unreported = 0;
  #resetAt = -Infinity;
  readonly #agreement = new ResetAgreement();
  #blockedUntil = -Infinity;
  /** The number of the newest request among those whose responses reported what remains. */
  #newestReporter = -Infinity;
  readonly #pacer: Pacer;
  #isPaced = true;
  /** What a window has by the reports; it is assumed of the next one before its first report. */
  #reportedWindow: { readonly quota: number; readonly seconds: number } | undefined;
  /** The number of the last request that was sent only as a probe. */
  #lastProbe = Number.NaN;
  /** The number of the last request before this policy became known. */
  readonly #lastBefore: number;
  /** The time of the last event: a request or a report. */
  #lastEventAt: number;
  /** The request's number if the last event was a request, and the time of the event before it. */
  #lastEventNumber: number | undefined;
  #previousEventAt: number;

  /** @param lastNumber the number of the last request */
  constructor(
    key: PolicyKey,
    options: ServerPolicyOptions,
    openLeases: OpenLeases<QuotaLease>,
    lastNumber: number,
    now: number,
  ) {
    this.key = key;
    this.#options = options;
    this.#openLeases = openLeases;
    this.#pacer = new Pacer(now);
    this.#lastBefore = lastNumber;
    this.#lastEventAt = now;
    this.#previousEventAt = now;
  }

  get windowSeconds(): number | undefined {
    return this.#policy?.windowSeconds;
  }

  get countsRequests(): boolean {
    return this.#unit === REQUESTS;
  }

  /** Whether a report says that nothing remains, until a time that has not come. */
  isSpent(now: number): boolean {
    return this.#remaining <= 0 && now < this.#resetAt;
  }

  isExpired(now: number): boolean {
    return now >= Math.max(this.#resetAt, this.#staysUntil, this.#blockedUntil);
  }

  /** Sets what a limit without a policy counts. */
  setUnit(unit: string): void {
    if (this.#policy === undefined) this.#unit = unit;
  }

  /** Applies a report of the policy. `isCovered`: a configured policy is at least as tight. */
  updatePolicy(
    policy: Policy,
    reportedUnit: string,
    isCovered: boolean,
    lastNumber: number,
    now: number,
  ): void {
    const { quota, windowSeconds } = policy;
    // The drafts spell this unit in both ways: "request" in their table of units, "requests" elsewhere.
    const unit = reportedUnit === 'request' ? REQUESTS : reportedUnit;
    const isSame = this.#policy?.quota === quota && this.windowSeconds === windowSeconds;
    const isNew = !isSame || unit !== this.#unit;
    this.#unit = unit;
    this.#policy = policy;
    this.#staysUntil = addSeconds(now, windowSeconds);
    const counts = this.#unit === REQUESTS ? !isCovered : this.#unit === CONTENT_BYTES;
    if (!counts) this.#window = undefined;
    else if (isNew || this.#window === undefined) {
      this.#window = createQuotas(this.#options, [policy], now);
      this.#lastBeforeWindow = lastNumber;
    }
  }

  /**
   * Applies a report of what remains. Two amounts are certain to remain, and the larger one counts. One is that of the
   * newest request with a report, less all requests that the server may not have counted in it. The other is the lowest
   * report of the window, less the requests that no report has answered since: the server counted that request last, and
   * before it all those that other reports answer.
   */
  updateRemaining(report: RemainingReport, now: number): void {
    const { uncounted, underWay, resetSeconds, isExact, isAssumed, number } = report;
    const isSameWindow = now < this.#resetAt;
    const isOld = isSameWindow && number < this.#newestReporter;
    if (isOld && report.remaining >= this.#lowest) return;
    if (isSameWindow && report.remaining <= this.#lowest) {
      this.#lowest = report.remaining;
      this.#unreported = Math.max(0, this.#unreported - this.#charge(report.own));
    } else {
      // A new window, units that were restored, or an answer that was overtaken.
      this.#lowest = report.remaining;
      this.#unreported = this.#charge(uncounted);
    }
    const ofOrder = report.remaining - this.#charge(isOld ? underWay : uncounted);
    const ofNewest = isOld ? Math.min(this.#remaining, ofOrder) : ofOrder;
    const remaining = Math.max(ofNewest, this.#lowest - this.#unreported);
    this.#remaining = remaining;
    this.#noteReport(now);
    if (!isOld) {
      this.#newestReporter = number;
      const share = isExact ? EXACT_JITTER_SHARE : JITTER_SHARE;
      const maxJitter = Math.min(share * resetSeconds, MAX_JITTER_SECONDS);
      const jitter = remaining > 0 ? 0 : maxJitter;
      const margin = isExact ? 0 : MARGIN_SECONDS;
      this.#agreement.add(now + resetSeconds, isAssumed, now);
      this.#resetAt = now + resetSeconds + margin + jitter * this.#options.random();
      this.#rememberWindow(report);
      // Spread over an assumed time, which begins anew with each report, the units would get fewer and fewer.
      this.#isPaced = !isAssumed;
    }
    this.#pacer.spread(remaining, this.#resetAt - now, this.#options.burstShare, now);
  }

  /** Allows no request for `seconds`, even if quota is given back. */
  block(seconds: number, now: number): void {
    const until = now + Math.min(seconds, this.#options.maxWaitSeconds);
    this.#blockedUntil = Math.max(this.#blockedUntil, until);
    this.#noteReport(now);
  }

  readyAt(cost: Cost, now: number): number {
    return Math.min(this.#allowedAt(cost, now), this.#probeAt);
  }

  /**
   * Whether units that are taken now delay the request of `cost` only as far as these units are missing. They would also
   * put off a probe, and take one of the requests that may be under way.
   */
  allowsSharing(cost: Cost, now: number): boolean {
    return this.#unit !== CONCURRENT_REQUESTS && this.#allowedAt(cost, now) <= this.#probeAt;
  }

  /** Whether the request of that number was sent only as a probe. */
  isProbe(number: number): boolean {
    return number === this.#lastProbe;
  }

  take(cost: Cost, number: number, now: number): void {
    if (this.#probeAt <= now && this.#allowedAt(cost, now) > now) this.#lastProbe = number;
    if (now >= this.#resetAt) this.#beginReportedWindow(now);
    this.#spend(this.#charge(cost), now);
    this.#previousEventAt = this.#lastEventAt;
    this.#lastEventAt = now;
    this.#lastEventNumber = number;
  }

  /** Counts the bytes of a response. */
  takeBytes(bytes: number, now: number): void {
    if (this.#unit === CONTENT_BYTES) this.#spend(bytes, now);
  }

  /** Undoes the take of a request that was never sent. Reports since then were reduced by its cost too. */
  refund({ cost, at, number }: TakenQuota, now: number): void {
    const charge = this.#charge(cost);
    this.#remaining += charge;
    this.#unreported = Math.max(0, this.#unreported - charge);
    if (number > this.#lastBeforeWindow) this.#window?.refund(charge, at, now);
    if (number > this.#lastBefore) this.#pacer.refund(charge, at, now);
    if (number === this.#lastEventNumber) this.#lastEventAt = this.#previousEventAt;
  }

  /** Returns what remains, for how long, and the block; undefined if all of this has expired. */
  saveRemaining(now: number): RemainingState | undefined {
    const resetSeconds = this.countsRequests ? Math.max(0, this.#resetAt - now) : 0;
    const blockedSeconds = Math.max(0, this.#blockedUntil - now);
    if (resetSeconds === 0 && blockedSeconds === 0) return undefined;
    const remaining = resetSeconds > 0 ? Math.max(0, this.#remaining) : 0;
    const agreed = resetSeconds > 0 ? this.#agreement.save(now) : undefined;
    return { remaining, resetSeconds, blockedSeconds, ...(agreed && { agreed }) };
  }

  /** Restores what `saveRemaining` returned `elapsed` seconds ago. */
  restoreRemaining(saved: RemainingState, elapsed: number, now: number): void {
    const { remaining, resetSeconds, blockedSeconds, agreed } = saved;
    if (blockedSeconds > elapsed) this.block(blockedSeconds - elapsed, now);
    const seconds = resetSeconds - elapsed;
    if (seconds <= 0) return;
    this.#remaining = remaining;
    this.#resetAt = now + seconds;
    if (agreed !== undefined) this.#agreement.restore(agreed, elapsed, now);
    this.#pacer.spread(remaining, Math.max(seconds, 1), this.#options.burstShare, now);
  }

  /** Returns what is spent of the window; undefined if the window does not count. */
  saveWindow(now: number): WindowState | undefined {
    const counts = this.#window !== undefined || this.#unit === CONCURRENT_REQUESTS;
    if (this.#policy === undefined || !counts || now >= this.#staysUntil) return undefined;
    const [state = []] = this.#window?.save(now) ?? [];
    const { quota, windowSeconds } = this.#policy;
    return { quota, windowSeconds, unit: this.#unit, staysSeconds: this.#staysUntil - now, state };
  }

  /** Restores what `saveWindow` returned `elapsed` seconds ago. Returns false for an invalid state. */
  restoreWindow(saved: WindowState, elapsed: number, now: number): boolean {
    const { quota, windowSeconds, unit, staysSeconds, state } = saved;
    const policy = { quota, windowSeconds };
    if (unit !== CONCURRENT_REQUESTS) {
      this.#window = restoreQuotas(this.#options, [policy], [state], now - elapsed);
      if (this.#window === undefined) return false;
    }
    this.#policy = policy;
    this.#unit = unit;
    this.#staysUntil = now + staysSeconds - elapsed;
    return true;
  }

  /** The first report in a window has the longest reset, which is the length of the window. */
  #rememberWindow({ remaining, quota, resetSeconds, isAssumed }: RemainingReport): void {
    if (isAssumed || quota === null || remaining > quota) {
      this.#reportedWindow = undefined;
      return;
    }
    const known = this.#reportedWindow?.quota === quota ? this.#reportedWindow.seconds : 0;
    this.#reportedWindow = { quota, seconds: Math.max(known, resetSeconds) };
  }

  /** Until the first answer of a new window, no more requests are sent than the last one allowed. */
  #beginReportedWindow(now: number): void {
    if (this.#reportedWindow === undefined) return;
    const { quota, seconds } = this.#reportedWindow;
    this.#remaining = quota;
    this.#resetAt = now + seconds;
    this.#lowest = quota;
    this.#unreported = 0;
    this.#newestReporter = -Infinity;
    this.#isPaced = false;
  }

  /** The time from which a request is sent, whatever the server has reported. */
  get #probeAt(): number {
    const { maxWaitSeconds, maxConfirmedWaitSeconds } = this.#options;
    const probeAt = this.#lastEventAt + maxWaitSeconds;
    if (!this.#agreement.isConfirmed) return probeAt;
    const confirmedAt = Math.min(this.#resetAt, this.#lastEventAt + maxConfirmedWaitSeconds);
    return Math.max(probeAt, confirmedAt);
  }

  /** Returns the time at which the server's report allows the request. */
  #allowedAt(cost: Cost, now: number): number {
    const charge = this.#charge(cost);
    let ready = this.#blockedUntil;
    if (now < this.#resetAt) ready = Math.max(ready, this.#remainingReadyAt(charge));
    if (now < this.#staysUntil) ready = Math.max(ready, this.#windowReadyAt(charge, now));
    return ready;
  }

  #noteReport(now: number): void {
    this.#lastEventAt = now;
    this.#lastEventNumber = undefined;
  }

  #charge(cost: Cost): number {
    return amountOf(cost, this.#unit);
  }

  #spend(units: number, now: number): void {
    this.#remaining -= units;
    this.#unreported += units;
    this.#window?.take(units, now);
    this.#pacer.take(units, now);
  }

  #remainingReadyAt(charge: number): number {
    if (this.#remaining <= 0 || this.#remaining < charge) return this.#resetAt;
    const isPaced = this.#isPaced && this.#options.algorithm === 'bucket';
    return isPaced ? Math.min(this.#pacer.readyAt(charge), this.#resetAt) : -Infinity;
  }

  #windowReadyAt(charge: number, now: number): number {
    const quota = this.#policy?.quota ?? Infinity;
    if (this.#unit === CONCURRENT_REQUESTS) return this.#openLeases.fewerThanAt(quota, now);
    // A server's quota may change, so a cost above it waits until the whole quota is available.
    return this.#window?.readyAt(Math.min(charge, quota), now) ?? -Infinity;
  }
}
