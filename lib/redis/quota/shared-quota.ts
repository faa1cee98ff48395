// The quota that the processes of a SharedPolicyLimiter share. This process leases some of it and spends the lease without
// calling the store. The next call reports what was spent and returns the rest. At most one call is in flight.
//
// A lease counts from its request, by this process's clock, less the most that clocks drift apart. So it ends here before
// the store counts the rest of it as spent.

import { amountOf, type Cost, type Costs, inUnit, REQUESTS, readCost } from '../../client/cost.js';
import type { Lease } from '../../client/lease.js';
import type { AcquireOptions, LimiterRequest, OuterLimiter } from '../../client/options.js';
import { readAcquireOptions } from '../../client/options.js';
import { type Policy, unitOf, unitOfNumbers } from '../../client/policies.js';
import { WaitQueue } from '../../client/queue.js';
import { secondsUntil } from '../../client/time.js';
import { ReplyClock } from '../store/reply-clock.js';
import { NoReplyError } from '../store/script-call.js';
import type { StateChange } from '../store/shard-health.js';
import {
  LATE_SECONDS,
  nowWithPauses,
  RETRY_SECONDS,
  startTimer,
  type Timer,
} from '../store/timing.js';
import {
  defaultLeaseSeconds,
  type QuotaWindow,
  type SharedQuotaConfig,
  windowsOf,
} from './options.js';
import { QuotaFallback } from './quota-fallback.js';
import { QuotaLease } from './quota-lease.js';
import { type QuotaReply, QuotaStore } from './quota-store.js';
import { SharedLease } from './shared-lease.js';
import { type Spent, SpentLog } from './spent-log.js';

/** More than clocks drift apart. */
const MAX_DRIFT = 0.01;
/** The pause between two heartbeats of a process, and the time for their replies. */
const HEARTBEATS_SECONDS = 6;
/** A block that is shorter is over before another process hears of it. */
const MIN_BLOCK_SECONDS = 0.01;

export interface SharedQuotaListener {
  onStoreState(change: StateChange): void;
  /** Another process may send nothing for so many seconds, so this one must not either. */
  onBlocked(seconds: number): void;
}

export class SharedQuota implements OuterLimiter {
  readonly #config: SharedQuotaConfig;
  readonly #store: QuotaStore;
  readonly #listener: SharedQuotaListener;
  readonly #clock: ReplyClock;
  readonly #queue: WaitQueue<Lease, LimiterRequest>;
  readonly #spent: SpentLog;
  #policies: readonly Policy[];
  #windows: readonly QuotaWindow[];
  #leaseSeconds: number;
  readonly #lease: QuotaLease;
  #lastCallId = 0;
  #epoch = '';
  #epochEnds = -Infinity;
  #callEnds: (() => void)[] = [];
  #isCalling = false;
  /** Whether to call again as soon as the call in flight has ended. */
  #isReportDue = false;
  #retryAt = -Infinity;
  #blockedUntil = -Infinity;
  #returnTimer: Timer | undefined;
  /** What this process may spend while the store does not answer. */
  readonly #fallback: QuotaFallback;
  /** Why the store refuses this quota's key; undefined if it does not. */
  #refusal: Error | undefined;

  constructor(config: SharedQuotaConfig, listener: SharedQuotaListener) {
    this.#config = config;
    this.#listener = listener;
    this.#clock = new ReplyClock(config.clock ?? nowWithPauses);
    // Throws before there is a store to close, and a reply has a time to go on with.
    this.#clock.read();
    this.#policies = config.policies;
    this.#windows = windowsOf(config.policies, config);
    this.#lease = new QuotaLease(unitsOf(config.policies));
    this.#leaseSeconds = this.#leaseSecondsFor(config.policies);
    this.#spent = new SpentLog(config.policies);
    this.#fallback = new QuotaFallback(config.onStoreFailure, () => {
      return Math.max(config.nodes, this.#store.maxNodes);
    });
    this.#queue = new WaitQueue<Lease, LimiterRequest>(
      {
        now: () => this.#clock.read(),
        delay: (now, { cost }) => this.#delay(cost, now),
        // Other processes may return what they hold at any moment.
        backlogDelay: () => 0,
        take: (now, { cost }, inner) => this.#take(cost, now, inner),
        outerOf: ({ cost, priority, within }) =>
          within && {
            tryTake: () => within.tryLease(cost),
            acquire: (deadlineSeconds, signal) =>
              within.acquire({ cost, priority, signal, deadlineSeconds }),
          },
      },
      { maxQueue: Infinity, onFull: 'reject', agingSeconds: config.agingSeconds },
    );
    this.#store = new QuotaStore({
      ...config,
      graceSeconds: Math.max(this.#leaseSeconds, HEARTBEATS_SECONDS) + config.deadlineSeconds,
      onChange: (change) => this.#onStoreState(change),
    });
  }

  get store(): QuotaStore {
    return this.#store;
  }

  /** The unit of a cost that is a number. */
  get numberUnit(): string {
    return unitOfNumbers(this.#policies);
  }

  tryLease(
    cost: number | Costs = 1,
    { within }: Pick<AcquireOptions, 'within'> = {},
  ): Lease | null {
    const read = inUnit(readCost(cost), this.numberUnit);
    const now = this.#clock.read();
    if (this.#queue.size > 0 || this.#delay(read, now) > 0) return null;
    const inner = within?.tryLease(cost);
    return inner === null ? null : this.#take(read, now, inner);
  }

  acquire(options?: AcquireOptions): Promise<Lease> {
    return this.#queue.enqueue(readAcquireOptions(options));
  }

  delaySeconds(cost: number | Costs = 1): number {
    const read = inUnit(readCost(cost), this.numberUnit);
    const now = this.#clock.read();
    if (this.#lease.covers(read, now)) return 0;
    if (this.#isDown) return this.#fallback.delay(read, now);
    return Math.max(this.#retryAt - now, this.#config.deadlineSeconds);
  }

  remaining(unit: string = REQUESTS): number {
    const now = this.#clock.read();
    if (!this.#lease.units.includes(unit)) return Infinity;
    if (this.#isDown && this.#config.onStoreFailure === 'open') return Infinity;
    return Math.floor(this.#lease.left(unit, now));
  }

  /** What responses say is the business of the limiters within this one. */
  update(): void {}

  /** Tells the other processes that nothing may be sent for so many seconds. */
  block(seconds: number): void {
    if (!(seconds >= MIN_BLOCK_SECONDS)) return;
    const until = this.#clock.read() + seconds;
    if (until <= this.#blockedUntil + MIN_BLOCK_SECONDS) return;
    this.#blockedUntil = until;
    this.#report();
  }

  replacePolicies(policies: readonly Policy[]): void {
    const now = this.#clock.read();
    this.#spent.replacePolicies(policies, now);
    this.#policies = policies;
    this.#windows = windowsOf(policies, this.#config);
    // What is on lease was leased for other windows.
    this.#lease.replaceUnits(unitsOf(policies));
    this.#leaseSeconds = this.#leaseSecondsFor(policies);
    this.#fallback.replacePolicies(policies, now);
    this.#retryAt = -Infinity;
    this.#report();
    this.#queue.wake();
  }

  /** Returns what is on lease, and unregisters this process. */
  async close(): Promise<void> {
    clearTimeout(this.#returnTimer);
    this.#report();
    while (this.#isCalling) await new Promise<void>((end) => this.#callEnds.push(end));
    clearTimeout(this.#returnTimer);
    await this.#store.close();
  }

  /** Takes back a part of what was spent: all of it if the request was never sent. */
  takeBack(spent: Spent, cost: Cost): void {
    const now = this.#clock.read();
    const isUnreported = this.#spent.takeBack(spent, cost, now);
    this.#fallback.refund(spent, cost, now);
    if (isUnreported) this.#lease.takeBack(cost, spent.leaseId);
    this.#scheduleReturn();
    this.#queue.wake();
  }

  /** Spends more than was taken, even beyond what is there. */
  spendMore(cost: Cost): void {
    this.#spent.add(cost, this.#clock.read());
    this.#scheduleReturn();
  }

  get #isDown(): boolean {
    return this.#store.state === 'down' || this.#refusal !== undefined;
  }

  #leaseSecondsFor(policies: readonly Policy[]): number {
    const { leaseSeconds, deadlineSeconds } = this.#config;
    return leaseSeconds ?? defaultLeaseSeconds(policies, deadlineSeconds);
  }

  /** The seconds until the cost may be there; Infinity while a call is in flight. Makes a call if that helps. */
  #delay(cost: Cost, now: number): number {
    if (this.#lease.covers(cost, now)) return 0;
    if (this.#isDown) {
      if (this.#refusal !== undefined && now >= this.#retryAt) this.#call(now, cost);
      return this.#fallback.delay(cost, now);
    }
    if (this.#isCalling) return Infinity;
    if (now >= this.#retryAt) this.#call(now, cost);
    return this.#isCalling ? Infinity : secondsUntil(this.#retryAt, now);
  }

  #take(cost: Cost, now: number, inner: Lease | undefined): Lease {
    const isLeased = this.#lease.covers(cost, now);
    if (isLeased) this.#lease.take(cost);
    else this.#fallback.take(cost, now);
    const spent = this.#spent.add(cost, now, isLeased ? this.#lease.id : 0);
    this.#scheduleReturn();
    return new SharedLease(this, spent, inner);
  }

  /** Reports what was spent and returns what is left; after the call in flight, if there is one. */
  #report(): void {
    if (this.#isCalling) this.#isReportDue = true;
    else if (this.#store.state === 'up') this.#call(this.#clock.readInReply());
  }

  /** Ends the lease. `cost`: what is needed. Without it, the call only reports what was spent. */
  #call(now: number, cost?: Cost): void {
    const { deadlineSeconds } = this.#config;
    this.#isCalling = true;
    this.#isReportDue = false;
    this.#lastCallId += 1;
    const id = this.#lastCallId;
    const known = this.#lease.isCurrent(now) ? this.#lease.id : 0;
    this.#lease.discard();
    const { units } = this.#lease;
    const first = units.map((unit) => (cost === undefined ? 0 : amountOf(cost, unit)));
    const block = Math.max(0, this.#blockedUntil - now);
    const leaseSeconds = this.#leaseSeconds;
    const end = (act: () => void) => {
      this.#isCalling = false;
      act();
      for (const resume of this.#callEnds.splice(0)) resume();
      if (this.#isReportDue) this.#report();
      this.#queue.wake();
    };
    // The store may fail the call at once, in the middle of a caller that calls the queue.
    let isReturning = false;
    const later = (act: () => void) => {
      if (isReturning) end(act);
      else {
        this.#isCalling = false;
        act();
      }
    };
    this.#store.call(
      {
        id,
        known,
        epoch: now < this.#epochEnds ? this.#epoch : '',
        newEpoch: `${this.#store.nodeId}-${id}`,
        windows: this.#windows,
        units,
        spent: this.#spent.report(id, units, now, deadlineSeconds + LATE_SECONDS),
        first,
        ahead: this.#lease.ahead(first, now, leaseSeconds),
        block,
        leaseSeconds,
        graceSeconds: Math.max(leaseSeconds, HEARTBEATS_SECONDS) + deadlineSeconds,
      },
      (reply) => later(() => this.#answered(reply, { id, units, requestedAt: now, leaseSeconds })),
      (error) => later(() => this.#failed(error)),
    );
    isReturning = true;
  }

  #answered(
    reply: QuotaReply | undefined,
    call: { id: number; units: readonly string[]; requestedAt: number; leaseSeconds: number },
  ): void {
    if (reply === undefined) {
      this.#failed(new NoReplyError('the store has executed a later call'));
      return;
    }
    const now = this.#clock.readInReply();
    if (this.#refusal !== undefined) this.#acceptedAgain();
    this.#spent.acknowledge(call.id);
    const ends = call.requestedAt + call.leaseSeconds * (1 - MAX_DRIFT);
    this.#lease.start(call.id, call.units, reply.granted, ends);
    if (reply.waitSeconds > 0) {
      const most = Math.max(call.leaseSeconds / 2, RETRY_SECONDS);
      this.#retryAt = now + Math.min(Math.max(reply.waitSeconds, 0.001), most);
    } else {
      this.#retryAt = -Infinity;
      this.#lease.countFrom(now);
    }
    this.#rememberEpoch(reply.epoch, now);
    clearTimeout(this.#returnTimer);
    this.#returnTimer = undefined;
    this.#scheduleReturn();
    const ownBlock = this.#blockedUntil - now;
    if (reply.blockedSeconds > Math.max(ownBlock, 0) + MIN_BLOCK_SECONDS) {
      this.#followBlock(now, reply.blockedSeconds);
    }
  }

  /** Another process has been blocked. If the limiter's clock fails, the next reply names the block again. */
  #followBlock(now: number, seconds: number): void {
    try {
      this.#listener.onBlocked(seconds);
      this.#blockedUntil = now + seconds;
    } catch {}
  }

  #failed(error: Error): void {
    const now = this.#clock.readInReply();
    this.#retryAt = now + RETRY_SECONDS;
    if (!(error instanceof NoReplyError) && this.#refusal === undefined) {
      this.#refusal = error;
      this.#fallback.begin(this.#policies, now);
      this.#listener.onStoreState({ state: 'down', shard: 0, reason: error });
    }
    this.#scheduleReturn();
  }

  /** The store does not refuse the quota's key any more. */
  #acceptedAgain(): void {
    this.#refusal = undefined;
    this.#fallback.end();
    this.#listener.onStoreState({ state: 'up', shard: 0 });
  }

  #rememberEpoch(epoch: string, now: number): void {
    const isAnother = this.#epoch !== '' && now < this.#epochEnds && epoch !== this.#epoch;
    this.#epoch = epoch;
    this.#epochEnds = now + Math.max(...this.#windows.map(({ seconds }) => seconds));
    if (!isAnother) return;
    this.#spent.reportAgain(now);
    this.#isReportDue = true;
  }

  /** What is not needed goes back soon, and what was spent is reported, before the lease ends. */
  #scheduleReturn(): void {
    if (this.#returnTimer !== undefined) return;
    const now = this.#clock.readInReply();
    if (this.#lease.isEmpty(now) && this.#spent.isEmpty) return;
    const shortest = Math.min(...this.#windows.map(({ seconds }) => seconds));
    const seconds = Math.min(this.#leaseSeconds / 2, Math.max(shortest, 0.05));
    this.#returnTimer = startTimer(() => {
      this.#returnTimer = undefined;
      // A waiting request makes a call of its own.
      if (this.#queue.size > 0 && !this.#isDown) this.#scheduleReturn();
      else this.#report();
    }, seconds * 1000);
  }

  #onStoreState(change: StateChange): void {
    const now = this.#clock.readInReply();
    if (change.state === 'down') this.#fallback.begin(this.#policies, now);
    else this.#fallback.end();
    if (change.state === 'up') {
      this.#retryAt = -Infinity;
      if (change.lostData === true) this.#spent.reportAgain(now);
      if (change.lostData === true || !this.#spent.isEmpty) this.#report();
    }
    this.#listener.onStoreState(change);
    this.#queue.wake();
  }
}

function unitsOf(policies: readonly Policy[]): string[] {
  return [...new Set(policies.map(unitOf))];
}
