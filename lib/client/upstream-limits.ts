// All that decides when a request to one upstream can be sent: the quotas of the limiter's policies, what the
// upstream's responses report, and the recovery from refusals. It numbers the requests and knows their leases. It
// has no queue: PolicyLimiter decides which request is next.

import { readClock } from '../common/clock.js';
import { ConfiguredQuotas } from './configured-quotas.js';
import { amountOf, type Cost, minus, plus, positivePart, REQUESTS } from './cost.js';
import { JitterMeter } from './jitter.js';
import { type Lease, type LeaseEnd, OpenLeases, QuotaLease } from './lease.js';
import { costTooHigh, type LimiterSettings } from './options.js';
import { type Policy, unitOf, unitOfNumbers } from './policies.js';
import { Recovery } from './recovery.js';
import type { ResponseMeaning } from './response.js';
import { type AnsweredRequest, ServerPolicies } from './server-policies.js';
import { invalidSnapshot, type PolicySnapshot, readSnapshot, writeSnapshot } from './snapshot.js';
import { secondsUntil } from './time.js';
import type { AccountingOptions } from './windows/index.js';

/** The most units that `remaining` tells apart from any number of them. */
const MOST_UNITS = 2 ** 31;
/** What every request costs at least. */
const ONE_REQUEST = 1;

/** What is known of a response besides its meaning. */
export interface ResponseContext {
  readonly violated: readonly string[];
  readonly contentBytes: number;
  readonly lease: QuotaLease | undefined;
}

export class UpstreamLimits {
  readonly #settings: LimiterSettings;
  /** The policies as given, and with windows that are longer by the jitter. */
  #policies: readonly Policy[];
  #windows: readonly Policy[];
  #numberUnit: string;
  #quotas: ConfiguredQuotas;
  readonly #openLeases = new OpenLeases<QuotaLease>((lease) => this.#markCounted(lease));
  readonly #serverPolicies: ServerPolicies;
  #recovery: Recovery;
  readonly #jitter = new JitterMeter();
  readonly #accounting: AccountingOptions;
  /** The time at which a limit has units again of which a refusal said that nothing is left. */
  #refusedUntil = -Infinity;
  /** The number of the last request. Requests are numbered from 1. */
  #lastNumber = 0;
  #lastTakeAt = -Infinity;
  /** The units sent, and those of them that the server is assumed to have counted. */
  #sentUnits: Cost = 0;
  #countedUnits: Cost = 0;

  constructor(settings: LimiterSettings, now: number) {
    this.#settings = settings;
    this.#policies = settings.policies;
    this.#numberUnit = unitOfNumbers(settings.policies);
    this.#windows = withJitter(settings.policies, settings.jitterSeconds ?? 0);
    const { algorithm, burstShare, pacedSeconds, jitterSeconds } = settings;
    const measured =
      jitterSeconds === undefined ? { extraSeconds: () => this.#jitter.seconds } : {};
    this.#accounting = { algorithm, burstShare, pacedSeconds, ...measured };
    this.#quotas = new ConfiguredQuotas(this.#accounting, this.#windows, now);
    this.#serverPolicies = new ServerPolicies(settings, settings.policies, this.#openLeases);
    this.#recovery = this.#createRecovery();
  }

  get recovery(): Recovery {
    return this.#recovery;
  }

  get policies(): readonly Policy[] {
    return this.#policies;
  }

  /** The unit of a cost that is a number. */
  get numberUnit(): string {
    return this.#numberUnit;
  }

  /** The smallest configured quota of a unit; Infinity without one. */
  maxCost(unit: string): number {
    return this.#quotas.maxCost(unit);
  }

  /** Returns the unit in which the cost exceeds a configured quota, so that it can never be taken. */
  exceededUnit(cost: Cost): string | undefined {
    return this.#quotas.exceededUnit(cost);
  }

  /** @throws ERR_LIMITER_COST if the cost exceeds a configured quota */
  requireCost(cost: Cost): void {
    const unit = this.exceededUnit(cost);
    if (unit === undefined) return;
    const reason = unit === REQUESTS ? 'the smallest quota' : `the smallest quota of ${unit}`;
    throw costTooHigh(amountOf(cost, unit), this.maxCost(unit), reason);
  }

  /**
   * The time before which no request may be sent because the upstream refused one or sent `Retry-After`. A later report may
   * end the wait for a limit.
   */
  blockedUntil(now: number): number {
    const { blockedUntil } = this.#recovery;
    if (this.#refusedUntil <= now) return blockedUntil;
    const reported = this.#serverPolicies.readyAt(ONE_REQUEST, now);
    return Math.max(blockedUntil, Math.min(this.#refusedUntil, reported));
  }

  readyAt(cost: Cost, now: number): number {
    return Math.max(
      this.#quotas.readyAt(cost, now),
      this.#serverPolicies.readyAt(cost, now),
      this.#recovery.readyAt(),
    );
  }

  /** Whether `cost` can be taken now, and does not delay `first`, which cannot. */
  fitsBefore(cost: Cost, first: Cost, now: number): boolean {
    if (cost === first || this.#recovery.isLimiting) return false;
    if (!this.#serverPolicies.allowSharing(first, now) || this.readyAt(cost, now) > now)
      return false;
    const both = plus(cost, first);
    // Above a quota, `readyAt` is only a lower bound.
    return (
      this.exceededUnit(both) === undefined && this.readyAt(both, now) <= this.readyAt(first, now)
    );
  }

  /** Returns the most whole units that can be taken at `now`; Infinity without a limit. */
  remaining(unit: string, now: number): number {
    const isReady = (units: number) => {
      const cost = unit === REQUESTS ? units : { [REQUESTS]: 0, [unit]: units };
      return this.readyAt(cost, now) <= now;
    };
    let [low, high] = [0, Math.min(Math.floor(this.maxCost(unit)), MOST_UNITS) + 1];
    while (low + 1 < high) {
      const middle = Math.floor((low + high) / 2);
      if (isReady(middle)) low = middle;
      else high = middle;
    }
    return low === MOST_UNITS ? Infinity : low;
  }

  /** Whether the state is that of a new limiter, so that nothing is lost with it. */
  isFresh(now: number): boolean {
    const { blockedUntil, isRamping, rateShare } = this.#recovery;
    const isRecovered = blockedUntil <= now && rateShare === 1;
    const isAsFast = !isRamping || this.#policies.length === 0;
    return isRecovered && isAsFast && this.#quotas.isFull(now) && this.#serverPolicies.isEmpty(now);
  }

  /** Returns the seconds since the last request; Infinity before the first. */
  idleSeconds(now: number): number {
    return now - this.#lastTakeAt;
  }

  /** Takes `cost` without a lease. It cannot be given back. */
  take(cost: Cost, now: number): void {
    this.#take(cost, now);
    this.#countedUnits = plus(this.#countedUnits, cost);
  }

  takeLease(
    cost: Cost,
    now: number,
    onEnd: (lease: QuotaLease, end: LeaseEnd) => void,
    outer?: Lease,
  ): QuotaLease {
    this.#openLeases.expire(now);
    this.#take(cost, now);
    const taken = {
      cost,
      numberUnit: this.#numberUnit,
      at: now,
      number: this.#lastNumber,
      owner: this.#quotas,
    };
    const lease = new QuotaLease(taken, this.#countedUnits, onEnd, outer);
    this.#openLeases.add(lease);
    return lease;
  }

  endLease(lease: QuotaLease, { refund, correction }: LeaseEnd, now: number): void {
    lease.isSettled = true;
    this.#openLeases.delete(lease);
    const isOwn = lease.taken.owner === this.#quotas;
    if (refund && isOwn) this.#refund(lease.taken.cost, lease, now);
    if (correction !== undefined && isOwn) this.#correct(lease, correction, now);
    if (!refund || !isOwn) this.#markCounted(lease);
    // Sums of fractions accumulate rounding errors; without open leases the difference is 0.
    if (this.#openLeases.size(now) === 0) this.#countedUnits = this.#sentUnits;
  }

  /** Applies a response. */
  update(meaning: ResponseMeaning, context: ResponseContext, now: number): void {
    const { violated, lease, contentBytes } = context;
    const { isRefused } = meaning;
    const last = this.#lastNumber;
    const ownLease = lease?.taken.owner === this.#quotas ? lease : undefined;
    const number = ownLease?.taken.number;
    if (lease !== undefined && !isRefused) this.#jitter.add(now - lease.at, now);
    this.#serverPolicies.takeBytes(contentBytes, now);
    const answered = this.#answeredRequest(ownLease, now);
    const isSpent = this.#serverPolicies.apply(meaning, answered, last, now);
    if (ownLease !== undefined) this.#markCounted(ownLease);
    if (isRefused && isSpent) {
      this.#refusedUntil = this.#serverPolicies.readyAt(ONE_REQUEST, now);
    }
    const retryAfter = meaning.info.retryAfterSeconds;
    if (isWait(retryAfter)) {
      if (violated.length === 0) this.#recovery.block(retryAfter, last, now);
      for (const name of violated) this.#serverPolicies.block(name, retryAfter, last, now);
    } else if (isRefused && !isSpent) {
      this.#recovery.onRefusal(number, last, now);
    } else if (!isRefused) {
      this.#recovery.onGoodAnswer(number, now);
    }
  }

  /** Replaces the configured policies; what is spent of them is kept. */
  replacePolicies(policies: readonly Policy[], now: number): void {
    this.#policies = policies;
    this.#numberUnit = unitOfNumbers(policies);
    this.#windows = withJitter(policies, this.#settings.jitterSeconds ?? 0);
    this.#quotas.replacePolicies(this.#windows, this.#lastNumber, now);
    this.#serverPolicies.configure(policies);
    this.#recovery.setRate(slowestRate(policies));
  }

  save(now: number, takenAt: number): PolicySnapshot {
    return writeSnapshot(this.#settings, this.#policies, this.#quotas.save(this.#windows, now), {
      takenAt,
      blockedSeconds: secondsUntil(this.#recovery.blockedUntil, now),
      ...this.#serverPolicies.save(now),
    });
  }

  /**
   * Replaces the state by that of a snapshot.
   * @throws ERR_LIMITER_SNAPSHOT; then nothing has changed
   */
  restore(snapshot: object, now: number): void {
    const settings = this.#settings;
    const saved = readSnapshot(snapshot, settings, this.#policies);
    const elapsed = Math.max(0, readClock(settings.wallClock) - saved.takenAt);
    const states = saved.policies.map(({ state }) => state);
    const last = this.#lastNumber;
    const quotas = ConfiguredQuotas.restore(
      this.#accounting,
      this.#windows,
      states,
      last,
      now - elapsed,
    );
    const { limits, told } = saved;
    if (quotas === undefined || !this.#serverPolicies.restore(limits, told, elapsed, now)) {
      throw invalidSnapshot('invalid policy state');
    }
    this.#quotas = quotas;
    this.#refusedUntil = -Infinity;
    this.#recovery = this.#createRecovery();
    if (saved.blockedSeconds > elapsed) {
      this.#recovery.block(saved.blockedSeconds - elapsed, last, now);
    }
  }

  #take(cost: Cost, now: number): void {
    this.#lastNumber += 1;
    this.#lastTakeAt = now;
    this.#sentUnits = plus(this.#sentUnits, cost);
    this.#quotas.take(cost, now);
    this.#serverPolicies.take(cost, this.#lastNumber, now);
    this.#recovery.take(amountOf(cost, REQUESTS), this.#lastNumber, now);
  }

  #refund(cost: Cost, { taken, isCounted }: QuotaLease, now: number): void {
    this.#quotas.refund(cost, taken, now);
    if (isCounted) return;
    this.#serverPolicies.refund(taken, now);
    this.#recovery.refund(taken.number);
    this.#sentUnits = minus(this.#sentUnits, cost);
  }

  /**
   * Corrects the cost of a request that was sent. The server knows the actual cost: once it has reported what
   * remains after that request, only the limiter's own windows need the correction.
   */
  #correct(lease: QuotaLease, correction: Cost, now: number): void {
    const missing = positivePart(correction);
    this.#quotas.take(missing, now);
    this.#quotas.refund(positivePart(minus(0, correction)), lease.taken, now);
    if (lease.isCounted) return;
    this.#serverPolicies.take(missing, lease.taken.number, now);
  }

  /** Assumes that the server has counted the request: it was answered, or its lease has expired. */
  #markCounted(lease: QuotaLease): void {
    if (!lease.isCounted) this.#countedUnits = plus(this.#countedUnits, lease.taken.cost);
    lease.isCounted = true;
  }

  /**
   * Requests may overtake each other. So the server's report may not include any request that was under way at
   * some time while the answered one was. Without a lease, the answered request may be any that is under way.
   */
  #answeredRequest(lease: QuotaLease | undefined, now: number): AnsweredRequest {
    // Leases that have expired are not under way.
    const first = this.#openLeases.first(now);
    const allUnderWay = minus(this.#sentUnits, this.#countedUnits);
    if (lease !== undefined) {
      const { number, cost } = lease.taken;
      const underWay = lease.isCounted ? allUnderWay : minus(allUnderWay, cost);
      const uncounted = minus(minus(this.#sentUnits, lease.countedBefore), cost);
      return { number, underWay, uncounted, own: lease.isCounted ? 0 : cost };
    }
    const number = first?.taken.number ?? this.#lastNumber;
    return { number, underWay: allUnderWay, uncounted: allUnderWay, own: 0 };
  }

  #createRecovery(): Recovery {
    const { maxWaitSeconds, random } = this.#settings;
    const recovery = new Recovery(slowestRate(this.#policies), maxWaitSeconds, random);
    // Without policies nothing is known of the limits before the first answer.
    if (this.#policies.length === 0) recovery.startWithProbe();
    return recovery;
  }
}

function withJitter(policies: readonly Policy[], jitterSeconds: number): Policy[] {
  return policies.map((policy) => {
    return { ...policy, windowSeconds: policy.windowSeconds + jitterSeconds };
  });
}

/** Returns the requests per second that the policies allow in the long run. */
function slowestRate(policies: readonly Policy[]): number {
  const ofRequests = policies.filter((policy) => unitOf(policy) === REQUESTS);
  return Math.min(...ofRequests.map(({ quota, windowSeconds }) => quota / windowSeconds));
}

function isWait(seconds: unknown): seconds is number {
  return typeof seconds === 'number' && seconds > 0;
}
