// SharedBans: bans and levels of violations that all processes know of.
//
// What one learns, it tells the store, which tells all others at once. Who was away reads what it missed.
// Of two bans the one that ends later stays, so it does not matter who tells first, or twice. Bans hold in
// this process whether the store is there or not.

import { EventEmitter } from 'node:events';
import { type Clock, monotonicSeconds, readClock } from '../../clock.js';
import { DirectConnectionRateLimiter } from '../../direct-connection-rate-limiter.js';
import { refused } from '../../errors.js';
import { KeySet } from '../../key-map.js';
import { isInstance } from '../../kinds.js';
import { commonOptions, count, positive, readOptions, requireKey } from '../../options.js';
import { OrderbookRateLimiter } from '../../orderbook-rate-limiter.js';
import { safely } from '../../surface.js';
import { copyOf } from '../../text.js';
import { DEFAULT_DEADLINE_SECONDS, prefixOf } from '../limit/options.js';
import type { RedisClient } from '../store/client.js';
import { idOf, isName } from '../store/keys.js';
import { BanStore, type Told } from './ban-sync.js';
import { BanBook } from './local-bans.js';
import type { SharedBan } from './shared-ban.js';

export interface SharedBansOptions {
  /** A client of node-redis or ioredis. It stays yours; a duplicate of it listens. */
  client: RedisClient;
  /** What all keys begin with; without braces. Default `relay-limiter`. */
  prefix?: string | undefined;
  /** Seconds after which the store is waited for no longer, greater than 0. Default 0.1. */
  deadlineSeconds?: number | undefined;
  /**
   * Most peers known here at once: an integer of at least 1, or Infinity. Default 1,000,000. Beyond it, levels of
   * violations are forgotten before bans, and of bans those that end soon.
   */
  maxPeers?: number | undefined;
  /** Monotonic seconds, by which bans end here. Default: the process's monotonic clock. */
  clock?: (() => number) | undefined;
}

/** What a listener throws surfaces as an uncaught exception; bans are taken over all the same. */
export interface SharedBansEvents {
  /** Another process has banned a peer, or found it on a higher level of violations. */
  ban: [ban: SharedBan];
  /** Another process has lifted a ban. */
  lift: [lift: { readonly key: string }];
  /**
   * The store refuses the key of one peer: something else lies there. The ban holds here alone. A name of more
   * than 128 units is given as its digest.
   */
  failure: [failure: { readonly key: string; readonly error: Error }];
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

const NOTHING = { seconds: 0, violations: 0 };
const OPTIONS = ['client', 'prefix', 'deadlineSeconds', 'maxPeers', 'clock'];

export class SharedBans extends EventEmitter<SharedBansEvents> {
  readonly #clock: Clock;
  readonly #book: BanBook;
  readonly #store: BanStore;
  readonly #limiters: Follower[] = [];
  #lastNow = Number.NEGATIVE_INFINITY;

  /** @throws `ERR_LIMITER_OPTION` for a wrong option, or a client that is none. */
  constructor(options: SharedBansOptions) {
    super();
    const given = readOptions('SharedBans', options, OPTIONS);
    const { clock, maxPeers } = commonOptions(given);
    const deadlineSeconds = positive(given, 'deadlineSeconds', DEFAULT_DEADLINE_SECONDS);
    this.#clock = clock ?? monotonicSeconds;
    this.#book = new BanBook(maxPeers);
    this.#store = new BanStore(given['client'], prefixOf(given), deadlineSeconds, {
      told: (told) => this.#hear(told),
      all: (bans, isNews) => this.#replace(bans, isNews),
      mine: () => this.#book.all(this.#now()),
      find: (key) => this.#book.entry(key, this.#now()),
      onFailure: (key, error) => safely(() => this.emit('failure', { key, error })),
      onState: (state, reason) =>
        safely(() => this.emit('state', { state, ...(reason !== undefined && { reason }) })),
    });
  }

  /**
   * Bans a peer everywhere for so many seconds from now; a ban that ends later stays. `violations`: how many it has.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION` unless `seconds` is finite and greater than 0, and `violations` a
   * whole number of at least 0.
   */
  ban(key: string, seconds: number, violations = 0): void {
    requireKey(key);
    positive({ seconds }, 'seconds');
    count({ violations }, 'violations', 0);
    this.#tell(key, seconds, violations);
  }

  /** Ends a ban everywhere and forgets the violations; also in the limiters that are shared. @throws `ERR_LIMITER_KEY` */
  lift(key: string): void {
    requireKey(key);
    const id = copyOf(idOf(key));
    this.#forget(id, key);
    this.#store.tell(id, 'lift');
  }

  /** Whether a ban is in force, found by whomever. O(1). @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK` */
  isBanned(key: string): boolean {
    return this.banSecondsLeft(key) > 0;
  }

  /** Seconds that a peer's ban has left; 0 if there is none. @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK` */
  banSecondsLeft(key: string): number {
    requireKey(key);
    return this.#book.secondsLeft(idOf(key), readClock(this.#clock));
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
    follower.take(this.#book.all(this.#now()).filter(({ key }) => isName(key)));
  }

  /**
   * Resolves once bans of others arrive. Need not be called: it is for who would rather not start than start
   * with a store that cannot be used.
   * @throws (rejects with) `ERR_LIMITER_STORE`, saying why: no connection, a password refused.
   */
  ready(): Promise<void> {
    return this.#store.ready();
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
    const id = copyOf(idOf(key));
    if (!this.#book.add({ key: id, seconds, violations }, now)) return;
    const ban = this.#book.entry(id, now);
    if (ban === undefined) return;
    for (const follower of this.#limiters) if (follower !== from) follower.take([{ ...ban, key }]);
    this.#store.tell(id, 'ban');
  }

  /** One's own as well: so all have what the store has, in whatever order a ban and a lift got there. */
  #hear({ key, seconds, violations, isLifted, isOwn }: Told): void {
    if (isLifted) {
      this.#forget(key, key);
      if (!isOwn) safely(() => this.emit('lift', { key }));
    } else if (this.#book.add({ key, seconds, violations }, this.#now())) {
      const ban = { key, seconds, violations };
      if (isName(key)) for (const follower of this.#limiters) follower.take([ban]);
      if (!isOwn) safely(() => this.emit('ban', ban));
    }
  }

  /** All there are: what is not among them has been lifted. */
  #replace(bans: readonly SharedBan[], isNews: (key: string) => boolean): void {
    const keys = new KeySet();
    for (const { key } of bans) keys.add(key);
    const lifted = this.#book.all(this.#now()).filter(({ key }) => !keys.has(key));
    for (const { key } of lifted) {
      if (!isNews(key)) this.#hear({ key, ...NOTHING, isLifted: true, isOwn: false });
    }
    for (const ban of bans) {
      if (!isNews(ban.key)) this.#hear({ ...ban, isLifted: false, isOwn: false });
    }
  }

  #forget(id: string, key: string): void {
    this.#book.delete(id);
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
  if (isInstance(limiter, OrderbookRateLimiter)) {
    const { violationWarningThreshold, violationSevereThreshold, violationBanThreshold } = limiter;
    const levels = [violationWarningThreshold, violationSevereThreshold, violationBanThreshold];
    return { limiter, levels, take: taker(limiter, 'OrderbookRateLimiter') };
  }
  if (isInstance(limiter, DirectConnectionRateLimiter)) {
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
