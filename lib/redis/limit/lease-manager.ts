// Mode `leased`: a node leases tokens ahead of their use and spends them without calling the store.
//
// The node counts a lease's lifetime from the request, by its own clock, and subtracts the most that two clocks may
// drift apart. The store counts the lifetime from the grant. So the lease ends at the node before the store treats
// its tokens as spent, and no token is spent twice. At most one request per peer is in flight.

import { ALLOWED, DISCONNECTED } from '../../common/check-results.js';
import { detached } from '../../common/timers.js';
import { type CheckResult, RateLimitAction } from '../../common/types.js';
import { delaySeconds } from '../../tables/arithmetic.js';
import { KeyMap } from '../../tables/key-map.js';
import { LEASED_SHARE } from '../store/limit.js';
import { invalidReplyError } from '../store/replies.js';
import { ReplyClock } from '../store/reply-clock.js';
import { CallbackCall } from '../store/script-call.js';
import { RETRY_SECONDS } from '../store/timing.js';
import type { ChangeableLimit } from './changeable-limit.js';
import type { LeaseRecords, RecordIndex } from './lease-records.js';
import {
  type LeaseReply,
  type LeaseRequest,
  PendingCheck,
  readLeaseReply,
} from './lease-request.js';
import { LeaseReturns } from './lease-returns.js';
import type { LimitStore } from './limit-store.js';
import type { SharedLimitConfig } from './options.js';
import { RecentPeers } from './recent-peers.js';
import { RecordKeeper } from './record-keeper.js';
import {
  type CheckOwner,
  FirstCheck,
  type FirstCheckOwner,
  type Receiver,
} from './strict-check.js';

/** More than clocks drift apart: a quartz drifts by 1 in 10,000, a clock that is being corrected by 1 in 2,000. */
const MAX_DRIFT = 0.01;
/** Tokens requested ahead of use for a peer without a history. */
const FIRST_AHEAD = 10;
/** A refusal holds until this many tokens have come, or RETRY_SECONDS: a request per token would be expensive. */
const RETRY_TOKENS = 10;
/** Records that are changed in one turn of the event loop. */
const SLICE_SIZE = 10_000;

export class LeaseManager {
  readonly #config: SharedLimitConfig;
  readonly #store: LimitStore;
  readonly #records: LeaseRecords;
  readonly #clock: ReplyClock;
  readonly #returns: LeaseReturns;
  readonly #keeper: RecordKeeper;
  readonly #requests = new KeyMap<LeaseRequest>();
  /** Peers without a record whose next check is not their first. */
  readonly #recent: RecentPeers;
  readonly #owner: FirstCheckOwner;
  /** First checks of peers without a reply so far. */
  #firstChecks = 0;
  #onFirstChecksEnd: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  #lastLeaseId = 0;

  constructor(config: SharedLimitConfig, owner: CheckOwner, records: LeaseRecords) {
    const { store, limit, count } = owner;
    this.#config = config;
    this.#store = store;
    this.#records = records;
    const now = () => this.#clock.readInReply();
    this.#owner = { store, limit, count, now, firstCheckEnds: () => this.#firstCheckEnds() };
    this.#clock = new ReplyClock(config.clock ?? (() => records.now()));
    this.#returns = new LeaseReturns(store, records, this.#clock);
    this.#recent = new RecentPeers(config.leaseSeconds);
    this.#keeper = new RecordKeeper(config, records, {
      hasRequest: (key) => this.#requests.has(key),
      isDown: (key) => store.isDown(key),
      release: (key) => this.release(key),
    });
  }

  get trackedPeers(): number {
    return this.#records.size;
  }

  get evictions(): number {
    return this.#keeper.evictions;
  }

  leasedTokens(): number {
    return this.#records.total(this.#clock.readInReply());
  }

  /** The unspent tokens of a peer's lease; null while the store is down. */
  tokensOf(key: string): number | null {
    if (this.#store.isDown(key)) return null;
    const index = this.#records.find(key);
    return index === undefined ? 0 : this.#records.left(index, this.#clock.readInReply());
  }

  /** The verdict if a lease or a remembered refusal covers the check; otherwise undefined. */
  checkLocally(key: string, cost: number, givenNow?: number): CheckResult | undefined {
    const records = this.#records;
    if (records.spend(key, cost, givenNow)) return ALLOWED;
    const index = records.find(key);
    if (index === undefined) return undefined;
    const now = givenNow ?? records.now();
    if (!records.spendReserve(index, cost, now)) return this.#rememberedRefusal(index, cost, now);
    this.#renew(key, now);
    return ALLOWED;
  }

  /** The verdict unless it needs a reply of the store; undefined if it does. */
  checkWithoutReply(key: string, cost: number, givenNow?: number): CheckResult | undefined {
    const known = this.checkLocally(key, cost, givenNow);
    if (known !== undefined) return known;
    if (this.#store.isDown(key)) return this.#store.fallbackVerdict(key, cost);
    return cost > this.#config.burstLimit ? this.#refuseForever(key) : undefined;
  }

  /** Requests a lease that covers the next check, and returns DELAY for as long as the reply may take. */
  requestAhead(key: string, cost: number, now = this.#records.now()): CheckResult {
    if (this.#store.isDown(key)) return this.#store.fallbackVerdict(key, cost);
    if (cost > this.#config.burstLimit) return this.#refuseForever(key);
    if (!this.#requests.has(key)) {
      if (this.#store.isFull(key)) return this.#store.overloadVerdict();
      this.#request(key, [], cost, now);
    }
    return [RateLimitAction.DELAY, this.#config.deadlineSeconds];
  }

  /**
   * Asks the store, counts the verdict, and passes it on with the tokens that are left in the bucket if the store replies
   * them. The first check of a peer is one cheap call; a lease is requested from the second on, since many peers come only
   * once.
   */
  checkRemotely(key: string, cost: number, receive: Receiver, now = this.#records.now()): void {
    const isRequested = this.#requests.has(key);
    const verdict = this.#verdictWithoutCall(key, cost, isRequested);
    if (verdict !== undefined) {
      this.#owner.count(key, verdict);
      receive(verdict, null);
    } else if (isRequested || this.#records.find(key) !== undefined || this.#recent.add(key, now)) {
      this.#awaitLease(key, cost, receive, now);
    } else {
      const heldUntil = now + this.#config.shortLeaseSeconds * (1 - MAX_DRIFT);
      this.#firstChecks += 1;
      this.#store.call(key, new FirstCheck(this.#owner, key, cost, receive, heldUntil));
    }
  }

  #verdictWithoutCall(key: string, cost: number, isRequested: boolean): CheckResult | undefined {
    if (this.#store.isDown(key)) return this.#store.fallbackVerdict(key, cost);
    if (cost > this.#config.burstLimit) return this.#refuseForever(key);
    if (!isRequested && this.#store.isFull(key)) return this.#store.overloadVerdict();
    return undefined;
  }

  #firstCheckEnds(): void {
    this.#firstChecks -= 1;
    if (this.#firstChecks === 0) this.#onFirstChecksEnd?.();
  }

  #awaitLease(key: string, cost: number, receive: Receiver, now: number): void {
    const counted = (result: CheckResult) => {
      this.#owner.count(key, result);
      receive(result);
    };
    const check: PendingCheck = new PendingCheck(cost, counted, (wasBlocked) => {
      return this.#store.lateVerdict(key, cost, check.startedAt, wasBlocked);
    });
    const request = this.#requests.get(key);
    if (request === undefined) this.#request(key, [check], cost, now);
    else request.checks.push(check);
    if (!check.isDone) this.#store.deadlines.add(check);
  }

  /** Violations that have not been reported to the store. */
  unreportedViolations(key: string): number {
    const index = this.#records.find(key);
    return index === undefined ? 0 : this.#records.unreported(index);
  }

  /** Returns the unspent tokens of the peer's lease; if a request is in flight, after its reply. */
  release(key: string): void {
    const request = this.#requests.get(key);
    if (request === undefined) this.#returns.return(key);
    else request.isReleased = true;
  }

  /**
   * The limit was changed. Refusals of the limit before it end. If the burst is lower, leases shrink alike, so that they hold
   * no more than it together. If the rate is lower, the store must confirm a lease before it is spent: the peer's key lives
   * only for as long as the bucket needs to refill by the rate before. In slices, since there may be many peers.
   */
  limitChanged(before: ChangeableLimit): void {
    const share = Math.min(1, this.#config.burstLimit / before.burstLimit);
    const isSlower = this.#config.rateLimit < before.rateLimit;
    // From the last record to the first: a deletion moves the last one to its place, and new ones come last.
    let index = this.#records.size;
    const slice = () => {
      index = Math.min(index, this.#records.size);
      for (let n = 0; n < SLICE_SIZE && index > 0; n += 1) {
        index -= 1;
        this.#records.endRefusal(index);
        if (share < 1) this.#records.shrink(index, share);
        if (isSlower) this.#records.suspend(index);
      }
      if (index > 0) setImmediate(slice);
    };
    slice();
  }

  /** Returns all leases, those too that are being requested. */
  close(): Promise<void> {
    this.#closing ??= this.#returnAll();
    return this.#closing;
  }

  async #returnAll(): Promise<void> {
    const ends = [...this.#requests.values()].map((request) => {
      return new Promise<void>((resolve) => {
        request.onEnd = resolve;
      });
    });
    if (this.#firstChecks > 0) {
      ends.push(
        new Promise((resolve) => {
          this.#onFirstChecksEnd = resolve;
        }),
      );
    }
    await Promise.all(ends);
    await this.#returns.returnAll();
  }

  #rememberedRefusal(index: RecordIndex, cost: number, now: number): CheckResult | undefined {
    const seconds = this.#records.refusedSeconds(index, cost, now);
    if (seconds === 0) return undefined;
    const more = (cost - this.#records.refusedCost(index)) / this.#config.rateLimit;
    return this.#refuse(index, seconds + more);
  }

  /** Refuses a cost above the burst, which needs no call. */
  #refuseForever(key: string): CheckResult {
    const index = this.#keeper.findOrInsert(key, this.#clock.readInReply());
    return index === undefined ? [RateLimitAction.DELAY, Infinity] : this.#refuse(index, Infinity);
  }

  /** Counts a violation. */
  #refuse(index: RecordIndex, delay: number): CheckResult {
    const threshold = this.#config.disconnectThreshold ?? Infinity;
    if (this.#records.addViolation(index) >= threshold) return DISCONNECTED;
    return [RateLimitAction.DELAY, delay];
  }

  #renew(key: string, now: number): void {
    if (this.#requests.has(key) || this.#store.isDown(key) || this.#store.isFull(key)) return;
    this.#request(key, [], 0, now);
  }

  /** `previous`: the request whose reply did not cover all of its checks. */
  #request(
    key: string,
    checks: PendingCheck[],
    cost: number,
    now: number,
    previous?: LeaseRequest,
  ): void {
    const index = this.#keeper.findOrInsert(key, now);
    if (index === undefined) {
      for (const check of checks) check.answer([RateLimitAction.DELAY, RETRY_SECONDS]);
      return;
    }
    const records = this.#records;
    const { isReleased = false, onEnd } = previous ?? {};
    const request: LeaseRequest = {
      checks,
      includedChecks: checks.length,
      cost,
      isReleased,
      onEnd,
    };
    const all = Math.max(
      cost,
      checks.reduce((sum, check) => sum + check.cost, 0),
    );
    // What is left of a lease that has ended must not become part of the next one.
    records.discardIfEnded(index, now);
    const violations = records.takeUnreported(index);
    this.#lastLeaseId += 1;
    const { burstLimit, rateLimit } = this.#config;
    const leaseId = this.#lastLeaseId;
    const args = [
      this.#store.nodeId,
      String(records.leaseId(index)),
      String(records.left(index, now)),
      String(violations),
      String(leaseId),
      String(cost),
      String(all),
      String(this.#tokensAhead(index, now)),
    ];
    const answered = (value: unknown) => {
      this.#requests.delete(key);
      const reply = readLeaseReply(value);
      if (reply === undefined) this.#failed(key, request, invalidReplyError());
      else
        this.#answered(key, request, reply, { requestedAt: now, leaseId, burstLimit, rateLimit });
    };
    const failed = (error: Error) => {
      this.#requests.delete(key);
      this.#failed(key, request, error);
    };
    this.#requests.set(key, request);
    this.#store.call(
      key,
      new CallbackCall('lease', [this.#store.keyOf(key)], args, answered, failed),
    );
  }

  /** Twice the last grant if it was used up within half a lease, the same if within a lease, otherwise half of it. */
  #tokensAhead(index: RecordIndex, now: number): number {
    const { leaseSeconds, burstLimit } = this.#config;
    const last = this.#records.lastGrant(index);
    const secondsLeft = this.#records.ends(index) - now;
    const ahead = secondsLeft > leaseSeconds / 2 ? last * 2 : secondsLeft > 0 ? last : last / 2;
    return Math.floor(Math.min(Math.max(ahead, FIRST_AHEAD), burstLimit * LEASED_SHARE));
  }

  #answered(
    key: string,
    request: LeaseRequest,
    { granted, isCarried, tokens, violations, lifetime }: LeaseReply,
    sent: { requestedAt: number; leaseId: number; burstLimit: number; rateLimit: number },
  ): void {
    const now = this.#clock.readInReply();
    const records = this.#records;
    const index = records.find(key);
    if (index === undefined) {
      // The request came after close() had returned the peer's lease.
      this.#failed(key, request);
      return;
    }
    records.setReported(index, violations);
    if (granted > 0) {
      const ends = sent.requestedAt + lifetime * (1 - MAX_DRIFT);
      const share = Math.min(1, this.#config.burstLimit / sent.burstLimit);
      records.grant(index, granted * share, isCarried, ends, sent.leaseId);
    } else if (isCarried) records.resume(index);
    // The script has set the time to live of a limit before a lower one: see limitChanged.
    const isOutdated = this.#config.rateLimit < sent.rateLimit;
    if (isOutdated) records.suspend(index);
    if (request.includedChecks === 0 && request.cost > 0 && granted === 0) {
      records.refuse(index, request.cost, now + this.#delay(tokens, request.cost));
    }
    const uncovered = request.checks.filter((check, at) => {
      if (check.isDone) return false;
      if (isOutdated) return true;
      const { cost } = check;
      if (records.spend(key, cost, now) || records.spendReserve(index, cost, now)) {
        check.answer(ALLOWED);
      } else if (at >= request.includedChecks && tokens >= cost) {
        return true;
      } else {
        const delay = this.#delay(tokens, cost);
        records.refuse(index, cost, now + delay);
        check.answer(this.#refuse(index, delay));
      }
      return false;
    });
    const [next] = uncovered;
    // Detached: the reply came in the async context of the first request's caller, the next request serves others.
    if (next !== undefined) detached(() => this.#request(key, uncovered, next.cost, now, request));
    else this.#ended(key, request);
  }

  #delay(tokens: number, cost: number): number {
    const { rateLimit, burstLimit } = this.#config;
    const delay = delaySeconds(tokens, cost, rateLimit, burstLimit);
    return Math.max(delay, Math.min(RETRY_SECONDS, RETRY_TOKENS / rateLimit));
  }

  #failed(key: string, request: LeaseRequest, error?: unknown): void {
    for (const check of request.checks) {
      if (!check.isDone) check.answer(this.#store.fallbackVerdict(key, check.cost, error));
    }
    this.#ended(key, request);
  }

  #ended(key: string, { isReleased, onEnd }: LeaseRequest): void {
    if (isReleased) this.release(key);
    onEnd?.();
  }
}
