// Mode `leased`: a node takes tokens ahead of their use, and spends them without asking anybody.
//
// It stops using a lease at the time it asked plus the lifetime, by its own clock, less what two clocks
// may drift apart; the store takes it for spent until the time it granted plus the lifetime. So nothing
// is spent that the store gives to somebody else. For one peer one question is under way at a time.

import { readOptionalClock } from '../../clock.js';
import { delaySeconds } from '../../engine/js/arithmetic.js';
import { MOST_KEYS } from '../../engine/js/table.js';
import { KeyMap } from '../../key-map.js';
import { ALLOWED, DISCONNECTED } from '../../rate-limiter.js';
import { detached } from '../../timers.js';
import { type CheckResult, RateLimitAction } from '../../types.js';
import { Pending } from '../store/deadlines.js';
import { LEASED_SHARE } from '../store/limit-scripts.js';
import { isNumber, strangeReply } from '../store/replies.js';
import { CallBack } from '../store/script-call.js';
import type { Leases, Place } from './lease-records.js';
import { RETRY_SECONDS, type Store } from './limit-store.js';
import type { SharedSettings } from './options.js';

/** Clocks differ by less: a quartz by a ten thousandth, one that is being corrected by a two-thousandth. */
const DRIFT = 0.01;
/** Tokens asked for ahead of use, of a peer that nothing is known of. */
const FIRST_AHEAD = 10;
/** A refusal lasts until so many tokens have come, if that is soon: to ask for one at a time is dear. */
const RETRY_TOKENS = 10;

/** Leases that go back at once when all do. */
const RETURNS_AT_ONCE = 1000;

/** A check that waits for an answer. */
class Waiter extends Pending {
  readonly cost: number;
  readonly #resolve: (result: CheckResult) => void;
  readonly #late: () => CheckResult;

  constructor(cost: number, resolve: (result: CheckResult) => void, late: () => CheckResult) {
    super();
    this.cost = cost;
    this.#resolve = resolve;
    this.#late = late;
  }

  answer(result: CheckResult): void {
    if (this.end()) this.#resolve(result);
  }

  override expire(): void {
    this.#resolve(this.#late());
  }
}

/** A question under way. */
interface Ask {
  /** Who waits; of these the first `asked` are part of the question. */
  waiters: Waiter[];
  readonly asked: number;
  /** The least that is wanted; 0 if it is asked ahead of use. */
  readonly cost: number;
  /** The peer has left meanwhile. */
  isGone: boolean;
  /** Closing waits for the end of it. */
  onEnd: (() => void) | undefined;
}

type Reply = [
  granted: string,
  carried: number,
  tokens: string,
  violations: number,
  lifetime: string,
];

function isReply(reply: unknown): reply is Reply {
  return Array.isArray(reply) && reply.length === 5 && reply.every(isNumber);
}

export class Leased {
  readonly #settings: SharedSettings;
  readonly #store: Store;
  readonly #leases: Leases;
  readonly #asks = new KeyMap<Ask>();
  /** What goes back to the store. */
  readonly #returns = new Set<Promise<unknown>>();
  #closed: Promise<void> | undefined;
  readonly #threshold: number;
  #lastLease = 0;
  #hand = 0;
  #lastNow = Number.NEGATIVE_INFINITY;
  evictions = 0;

  constructor(settings: SharedSettings, store: Store, leases: Leases) {
    this.#settings = settings;
    this.#store = store;
    this.#leases = leases;
    this.#threshold = settings.disconnectThreshold ?? Infinity;
  }

  get trackedPeers(): number {
    return this.#leases.size;
  }

  leasedTokens(): number {
    return this.#leases.total(this.#now());
  }

  /** The answer that a lease or a cached refusal gives; undefined if the store has to be asked. */
  known(key: string, cost: number, given?: number): CheckResult | undefined {
    const leases = this.#leases;
    if (leases.spend(key, cost, given)) return ALLOWED;
    const place = leases.find(key);
    if (place === undefined) return undefined;
    const now = given ?? leases.now();
    if (!leases.spendReserve(place, cost, now)) return this.#stillRefused(place, cost, now);
    this.#renew(key, now);
    return ALLOWED;
  }

  /** Has the store asked, so that the next check is covered; says what to do until then. */
  askAhead(key: string, cost: number, now = this.#leases.now()): CheckResult {
    if (this.#store.isDown(key)) return this.#store.fallback(key, cost);
    if (cost > this.#settings.burstLimit) return this.#never(key);
    if (!this.#asks.has(key)) this.#ask(key, [], cost, now);
    return [RateLimitAction.DELAY, this.#settings.deadlineSeconds];
  }

  ask(key: string, cost: number, now = this.#leases.now()): Promise<CheckResult> {
    if (this.#store.isDown(key)) return Promise.resolve(this.#store.fallback(key, cost));
    if (cost > this.#settings.burstLimit) return Promise.resolve(this.#never(key));
    return new Promise((resolve) => {
      const late = () => this.#store.fallback(key, cost);
      const waiter = new Waiter(cost, resolve, late);
      const ask = this.#asks.get(key);
      if (ask === undefined) this.#ask(key, [waiter], cost, now);
      else ask.waiters.push(waiter);
      if (!waiter.isDone) this.#store.deadlines.add(waiter);
    });
  }

  /** Violations that the store has not been told of. */
  unreported(key: string): number {
    const place = this.#leases.find(key);
    return place === undefined ? 0 : this.#leases.unreported(place);
  }

  /** Gives back what is left of the peer's lease; of one that is being asked for, when it is there. */
  leave(key: string): void {
    const ask = this.#asks.get(key);
    if (ask === undefined) this.#giveBack(key);
    else ask.isGone = true;
  }

  /** Gives back all of them, also those that are being asked for by now. */
  close(): Promise<void> {
    this.#closed ??= this.#giveAllBack();
    return this.#closed;
  }

  async #giveAllBack(): Promise<void> {
    const ends = [...this.#asks.values()].map((ask) => {
      return new Promise<void>((resolve) => {
        ask.onEnd = resolve;
      });
    });
    await Promise.all(ends);
    for (let place = this.#leases.size - 1; place >= 0; place -= 1) {
      // A check that came after all may have forgotten others meanwhile.
      if (place < this.#leases.size) this.#giveBack(this.#leases.keyAt(place));
      if (this.#returns.size >= RETURNS_AT_ONCE) await Promise.all(this.#returns);
    }
    await Promise.all(this.#returns);
  }

  /** A clock that fails is the caller's matter in a check. Here nobody would hear of it: the last time stands. */
  #now(): number {
    try {
      this.#lastNow = readOptionalClock(this.#settings.clock) ?? this.#leases.now();
    } catch {}
    return this.#lastNow;
  }

  #stillRefused(place: Place, cost: number, now: number): CheckResult | undefined {
    const seconds = this.#leases.refusedSeconds(place, cost, now);
    if (seconds === 0) return undefined;
    const more = (cost - this.#leases.refusedCost(place)) / this.#settings.rateLimit;
    return this.#violation(place, seconds + more);
  }

  /** A cost above the burst: no need to ask. */
  #never(key: string): CheckResult {
    const place = this.#placeOf(key, this.#now());
    return place === undefined
      ? [RateLimitAction.DELAY, Infinity]
      : this.#violation(place, Infinity);
  }

  #violation(place: Place, delay: number): CheckResult {
    if (this.#leases.addViolation(place) >= this.#threshold) return DISCONNECTED;
    return [RateLimitAction.DELAY, delay];
  }

  #renew(key: string, now: number): void {
    if (this.#asks.has(key) || this.#store.isDown(key)) return;
    this.#ask(key, [], 0, now);
  }

  /** `before`: the question of which some have got no answer yet. */
  #ask(key: string, waiters: Waiter[], cost: number, now: number, before?: Ask): void {
    const place = this.#placeOf(key, now);
    if (place === undefined) {
      for (const waiter of waiters) waiter.answer([RateLimitAction.DELAY, RETRY_SECONDS]);
      return;
    }
    const leases = this.#leases;
    const { isGone = false, onEnd } = before ?? {};
    const ask: Ask = { waiters, asked: waiters.length, cost, isGone, onEnd };
    const all = Math.max(
      cost,
      waiters.reduce((sum, waiter) => sum + waiter.cost, 0),
    );
    // What is left of a lease that is over must not go on as part of the next one.
    leases.endIfOver(place, now);
    const told = leases.tell(place);
    this.#lastLease += 1;
    const lease = this.#lastLease;
    const args = [
      this.#store.holder,
      String(leases.lease(place)),
      String(leases.left(place, now)),
      String(told),
      String(lease),
      String(cost),
      String(all),
      String(this.#ahead(place, now)),
    ];
    const answered = (reply: unknown) => {
      this.#asks.delete(key);
      if (isReply(reply)) this.#answered(key, ask, reply, { asked: now, lease });
      else this.#failed(key, ask, strangeReply());
    };
    const failed = (error: Error) => {
      this.#asks.delete(key);
      this.#failed(key, ask, error);
    };
    this.#asks.set(key, ask);
    this.#store.call(key, new CallBack('lease', this.#store.keyOf(key), args, answered, failed));
  }

  /** As much as it used up in half a lease's time or less, twice over; half of what it did not use up. */
  #ahead(place: Place, now: number): number {
    const { leaseSeconds, burstLimit } = this.#settings;
    const before = this.#leases.granted(place);
    const rest = this.#leases.until(place) - now;
    const ahead = rest > leaseSeconds / 2 ? before * 2 : rest > 0 ? before : before / 2;
    return Math.floor(Math.min(Math.max(ahead, FIRST_AHEAD), burstLimit * LEASED_SHARE));
  }

  #answered(
    key: string,
    ask: Ask,
    [granted, carried, left, violations, lifetime]: Reply,
    { asked, lease }: { asked: number; lease: number },
  ): void {
    const now = this.#now();
    const leases = this.#leases;
    const place = leases.find(key);
    if (place === undefined) {
      // Closing has given it up, and the check came after that.
      this.#failed(key, ask);
      return;
    }
    leases.known(place, Number(violations));
    if (Number(granted) > 0) {
      const until = asked + Number(lifetime) * (1 - DRIFT);
      leases.grant(place, Number(granted), Number(carried) === 1, until, lease);
    }
    const tokens = Number(left);
    if (ask.asked === 0 && ask.cost > 0 && Number(granted) === 0) {
      leases.refuse(place, ask.cost, now + this.#delay(tokens, ask.cost));
    }
    const rest = ask.waiters.filter((waiter, at) => {
      if (waiter.isDone) return false;
      const { cost } = waiter;
      if (leases.spend(key, cost, now) || leases.spendReserve(place, cost, now)) {
        waiter.answer(ALLOWED);
      } else if (at >= ask.asked && tokens >= waiter.cost) {
        return true;
      } else {
        const delay = this.#delay(tokens, waiter.cost);
        leases.refuse(place, waiter.cost, now + delay);
        waiter.answer(this.#violation(place, delay));
      }
      return false;
    });
    const [next] = rest;
    // For others than the caller in whose context the first answer came.
    if (next !== undefined) detached(() => this.#ask(key, rest, next.cost, now, ask));
    else this.#ended(key, ask);
  }

  #delay(tokens: number, cost: number): number {
    const { rateLimit, burstLimit } = this.#settings;
    const delay = delaySeconds(tokens, cost, rateLimit, burstLimit);
    return Math.max(delay, Math.min(RETRY_SECONDS, RETRY_TOKENS / rateLimit));
  }

  #failed(key: string, ask: Ask, error?: unknown): void {
    for (const waiter of ask.waiters) {
      if (!waiter.isDone) waiter.answer(this.#store.fallback(key, waiter.cost, error));
    }
    this.#ended(key, ask);
  }

  #ended(key: string, { isGone, onEnd }: Ask): void {
    if (isGone) this.leave(key);
    onEnd?.();
  }

  /** The peer's place; undefined if there is no room. Looks at two others, and forgets those that are idle. */
  #placeOf(key: string, now: number): Place | undefined {
    const known = this.#leases.find(key);
    if (known !== undefined) return known;
    this.#sweep(now);
    this.#sweep(now);
    const most = Math.min(this.#settings.maxPeers, MOST_KEYS);
    if (this.#leases.size >= most && !this.#evict()) return undefined;
    return this.#leases.insert(key);
  }

  #sweep(now: number): void {
    const key = this.#nextAtHand();
    if (key === undefined || this.#asks.has(key)) return;
    const place = this.#leases.find(key) as Place;
    if (this.#leases.isIdle(place, now)) this.#leases.delete(key);
    else if (this.#leases.left(place, now) === 0) this.#report(key, place, now);
  }

  /** Violations of a peer that has not asked for long are told before it is forgotten. */
  #report(key: string, place: Place, now: number): void {
    const isOld = now - this.#leases.until(place) > this.#settings.leaseSeconds;
    if (isOld && !this.#store.isDown(key)) this.leave(key);
  }

  #evict(): boolean {
    for (let tries = 0; tries < 8; tries += 1) {
      const key = this.#nextAtHand();
      if (key === undefined || this.#asks.has(key)) continue;
      this.evictions += 1;
      this.leave(key);
      return true;
    }
    return false;
  }

  #nextAtHand(): string | undefined {
    if (this.#leases.size === 0) return undefined;
    if (this.#hand >= this.#leases.size) this.#hand = 0;
    const key = this.#leases.keyAt(this.#hand);
    this.#hand += 1;
    return key;
  }

  /** Forgets the peer here, and tells the store what it does not know. */
  #giveBack(key: string): void {
    const place = this.#leases.find(key);
    if (place === undefined) return;
    const left = this.#leases.left(place, this.#now());
    const told = this.#leases.unreported(place);
    const lease = this.#leases.lease(place);
    this.#leases.delete(key);
    if ((left === 0 && told === 0) || this.#store.isDown(key)) return;
    const args = [this.#store.holder, String(lease), String(left), String(told)];
    // Where it does not get there the store takes it for spent, until its time is over.
    const back = this.#store.reply('leave', key, args).catch(() => {});
    this.#returns.add(back);
    back.then(() => this.#returns.delete(back));
  }
}
