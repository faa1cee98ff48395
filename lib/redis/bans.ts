// SharedBans: bans and levels of violations that all processes know of.
//
// What one learns, it tells the store, which tells all others at once. Who was away reads what it missed.
// Of two bans the one that ends later stays, so it does not matter who tells first, or twice. Bans hold in
// this process whether the store is there or not.

import { EventEmitter } from 'node:events';
import { type Clock, monotonicSeconds, readClock } from '../clock.js';
import { DirectConnectionRateLimiter } from '../direct-connection-rate-limiter.js';
import { refused } from '../errors.js';
import { callback, positive, readOptions, requireKey } from '../options.js';
import { OrderbookRateLimiter } from '../orderbook-rate-limiter.js';
import { BanBook } from './ban-book.js';
import { BanStore, type Told } from './ban-store.js';
import type { RedisClient } from './client.js';
import { prefixOf } from './options.js';

export interface SharedBansOptions {
  /** A client of node-redis or ioredis. It stays yours; a duplicate of it listens. */
  client: RedisClient;
  /** What all keys begin with; without braces. Default `relay-limiter`. */
  prefix?: string | undefined;
  /** Monotonic seconds, by which bans end here. Default: the process's monotonic clock. */
  clock?: (() => number) | undefined;
}

export interface SharedBan {
  readonly key: string;
  /** Seconds that the ban has left; 0: no ban, a level of violations alone. */
  readonly seconds: number;
  readonly violations: number;
}

export interface SharedBansEvents {
  /** Another process has banned a peer, or found it on a higher level of violations. */
  ban: [ban: SharedBan];
  /** Another process has lifted a ban. */
  lift: [lift: { readonly key: string }];
  /** Bans of others arrive (`up`), or do not for now. */
  state: [change: { readonly state: 'up' | 'down'; readonly reason?: Error }];
}

export interface SharedBansStats {
  /** Bans known here that are not over. */
  bans: number;
  /** `up` while what others find arrives. */
  state: 'up' | 'down';
  /** Told to the store, heard from others, and still to be told. */
  sent: number;
  received: number;
  waiting: number;
}

export class SharedBans extends EventEmitter<SharedBansEvents> {
  readonly #clock: Clock;
  readonly #book = new BanBook();
  readonly #store: BanStore;
  readonly #limiters: Follower[] = [];
  #lastNow = Number.NEGATIVE_INFINITY;

  /** @throws `ERR_LIMITER_OPTION` for a wrong option, or a client that is none. */
  constructor(options: SharedBansOptions) {
    super();
    const given = readOptions('SharedBans', options, ['client', 'prefix', 'clock']);
    this.#clock = callback<Clock>(given, 'clock') ?? monotonicSeconds;
    this.#store = new BanStore(given['client'], prefixOf(given), {
      told: (told) => this.#hear(told),
      all: (bans) => this.#replace(bans),
      mine: () => this.#book.all(this.#now()),
      find: (key) => this.#book.entry(key, this.#now()),
      onState: (state, reason) =>
        this.emit('state', { state, ...(reason !== undefined && { reason }) }),
    });
  }

  /**
   * Bans a peer everywhere for so many seconds from now; a ban that ends later stays. `violations`: how many it has.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION` unless `seconds` is finite and greater than 0.
   */
  ban(key: string, seconds: number, violations = 0): void {
    requireKey(key);
    positive({ seconds }, 'seconds');
    this.#tell(key, seconds, violations);
  }

  /** Ends a ban everywhere and forgets the violations; also in the limiters that are shared. @throws `ERR_LIMITER_KEY` */
  lift(key: string): void {
    requireKey(key);
    this.#forget(key);
    this.#store.tell(key, 'lift');
  }

  /** Whether a ban is in force, found by whomever. O(1). @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK` */
  isBanned(key: string): boolean {
    return this.banSecondsLeft(key) > 0;
  }

  /** Seconds that a peer's ban has left; 0 if there is none. @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK` */
  banSecondsLeft(key: string): number {
    requireKey(key);
    return this.#book.secondsLeft(key, readClock(this.#clock));
  }

  /**
   * Shares the bans of a limiter, and its peers' levels of violations, from now on: what this one finds the
   * others hear of; what they find it takes over, as `restore` does. The limiters may differ in their options.
   * @throws `ERR_LIMITER_OPTION` for what is neither of the two, or is shared already.
   */
  share(limiter: OrderbookRateLimiter | DirectConnectionRateLimiter): void {
    const follower = followerOf(limiter);
    if (follower === undefined || limiter.onRefusal !== undefined) {
      const accepted = 'an OrderbookRateLimiter or DirectConnectionRateLimiter, shared once';
      throw refused('ERR_LIMITER_OPTION', 'limiter', limiter, accepted);
    }
    limiter.onRefusal = (key, banSeconds) => {
      const violations = limiter.getViolationCount(key);
      const isLevel = follower.levels.includes(violations);
      if (banSeconds > 0 || isLevel) this.#tell(key, banSeconds, violations, follower);
    };
    this.#limiters.push(follower);
    follower.take(this.#book.all(this.#now()));
  }

  getStats(): SharedBansStats {
    const { state, counters } = this.#store;
    return { bans: this.#book.bans(this.#now()), state, ...counters, waiting: this.#store.waiting };
  }

  /** Tells what is still to be told if that can be done at once, and listens no more. The client stays open. */
  async close(): Promise<void> {
    for (const { limiter } of this.#limiters) limiter.onRefusal = undefined;
    await this.#store.close();
  }

  /** `from`: the limiter that found it, and knows it. */
  #tell(key: string, seconds: number, violations: number, from?: Follower): void {
    const now = this.#now();
    if (!this.#book.add({ key, seconds, violations }, now)) return;
    const ban = this.#book.entry(key, now);
    if (ban === undefined) return;
    for (const follower of this.#limiters) if (follower !== from) follower.take([ban]);
    this.#store.tell(key, 'ban');
  }

  #hear(told: Told): void {
    if (told.isLifted) {
      this.#forget(told.key);
      this.emit('lift', { key: told.key });
    } else if (this.#book.add(told, this.#now())) {
      for (const follower of this.#limiters) follower.take([told]);
      this.emit('ban', told);
    }
  }

  /** All there are: what is not among them has been lifted. */
  #replace(bans: readonly SharedBan[]): void {
    const keys = new Set(bans.map(({ key }) => key));
    for (const { key } of this.#book.all(this.#now())) {
      if (!keys.has(key)) this.#hear({ key, seconds: 0, violations: 0, isLifted: true });
    }
    for (const ban of bans) this.#hear({ ...ban, isLifted: false });
  }

  #forget(key: string): void {
    this.#book.delete(key);
    for (const { limiter } of this.#limiters) limiter.removePeer(key);
  }

  /** Outside of a caller's call a clock that fails would be heard of by nobody. */
  #now(): number {
    try {
      this.#lastNow = readClock(this.#clock);
    } catch {}
    return this.#lastNow;
  }
}

/** A limiter that takes over what others find. */
interface Follower {
  readonly limiter: OrderbookRateLimiter | DirectConnectionRateLimiter;
  /** Numbers of violations at which others are told. */
  readonly levels: readonly number[];
  take(bans: readonly SharedBan[]): void;
}

function followerOf(limiter: unknown): Follower | undefined {
  if (limiter instanceof OrderbookRateLimiter) {
    const { violationWarningThreshold, violationSevereThreshold, violationBanThreshold } = limiter;
    const levels = [violationWarningThreshold, violationSevereThreshold, violationBanThreshold];
    return { limiter, levels, take: taker(limiter, 'OrderbookRateLimiter') };
  }
  if (limiter instanceof DirectConnectionRateLimiter) {
    const levels = [Math.ceil(limiter.orderbookBanThreshold / 2)];
    return { limiter, levels, take: taker(limiter, 'DirectConnectionRateLimiter') };
  }
  return undefined;
}

function taker(limiter: Follower['limiter'], name: string): Follower['take'] {
  return (bans) => {
    const peers = bans.map(({ key, seconds, violations }) => {
      const banSecondsLeft = seconds > 0 ? seconds : null;
      return { key, violations, banSecondsLeft, idleSeconds: null };
    });
    if (peers.length === 0) return;
    try {
      limiter.restore({ format: 1, limiter: name, peers });
    } catch {
      // No memory, or a clock that fails: that must not keep the bans from others. They hold here.
    }
  };
}
