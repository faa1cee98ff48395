// SharedBans: bans and violations that all processes know.
//
// Each process sends what it finds to the store, which publishes it to all others. A process that was disconnected
// reads what it missed. Bans and lifts are merged by when they were made, so neither order nor repetition matters. A ban
// holds in the process that found it whether the store answers or not.

import { EventEmitter } from 'node:events';
import { callSafely } from '../../common/callbacks.js';
import { type Clock, monotonicSeconds, readClock } from '../../common/clock.js';
import { invalidValue } from '../../common/errors.js';
import {
  commonOptions,
  count,
  positive,
  readOptions,
  requireCount,
  requireKey,
} from '../../common/options.js';
import { detachString } from '../../common/strings.js';
import type { BansInForce } from '../../common/types.js';
import type { DirectConnectionRateLimiter } from '../../limiters/direct-connection-rate-limiter.js';
import type { OrderbookRateLimiter } from '../../limiters/orderbook-rate-limiter.js';
import { idOf, isName } from '../store/keys.js';
import { readDeadline, readPrefix } from '../store/options.js';
import type { RedisClient } from '../store/redis-client.js';
import type { BanState } from './ban-state.js';
import { BanSync } from './ban-sync.js';
import { createFollower, type Follower } from './followers.js';
import { LocalBans, type Moment } from './local-bans.js';
import type { SharedBan } from './shared-ban.js';

/** Options of `SharedBans`. */
export interface SharedBansOptions {
  /** A client of node-redis or ioredis. You close it yourself; a duplicate of it is used for the subscription. */
  client: RedisClient;
  /** What all keys begin with: 1 to 100 characters without braces. Default `rl`. */
  prefix?: string | undefined;
  /** Seconds after which a call of the store counts as failed, greater than 0. Default 0.1. */
  deadlineSeconds?: number | undefined;
  /**
   * The most peers known in this process: an integer of at least 1, or Infinity. Default 1,000,000. Beyond it,
   * violations without a ban are forgotten first, then bans that end soon.
   */
  maxPeers?: number | undefined;
  /** Monotonic seconds, by which bans end in this process. Default: the process's monotonic clock. */
  clock?: (() => number) | undefined;
}

/**
 * The events of `SharedBans`. An exception of a listener becomes an uncaught exception; bans are applied all the
 * same.
 */
export interface SharedBansEvents {
  /** Another process has banned a peer, or has reported a higher number of violations. */
  ban: [ban: SharedBan];
  /** Another process has lifted a ban that this process knows. */
  lift: [lift: { readonly key: string }];
  /** Bans of other processes arrive (`up`) or do not arrive (`down`). */
  state: [change: { readonly state: 'up' | 'down'; readonly reason?: Error }];
}

/** What `SharedBans.getStats` returns. */
export interface SharedBansStats {
  /** Bans in force that this process knows. */
  bans: number;
  /** `up` while bans of other processes arrive. */
  state: 'up' | 'down';
  /** Changes sent to the store. */
  sent: number;
  /** Changes received from other processes. */
  received: number;
  /** Changes that have not been sent yet. */
  waiting: number;
}

const OPTIONS = ['client', 'prefix', 'deadlineSeconds', 'maxPeers', 'clock'];

/**
 * Bans that all processes know, shared through Redis or Valkey.
 *
 * A ban holds at once in the process that finds it, and within a second in all others. While the store does not answer,
 * known bans hold, and new ones wait to be sent. docs/fleet.md describes the limits.
 *
 * @example
 * import { createClient } from 'redis';
 * import { OrderbookRateLimiter } from 'relay-limiter';
 * import { SharedBans } from 'relay-limiter/redis';
 *
 * const client = createClient({ url: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379' });
 * await client.connect();
 * const bans = new SharedBans({ client });
 * const orderbook = new OrderbookRateLimiter();
 * bans.share(orderbook); // Its bans reach all other processes, and theirs reach it.
 * bans.ban('203.0.113.7', 3600); // A ban by hand, for an hour.
 * await bans.close();
 * await client.close();
 */
export class SharedBans extends EventEmitter<SharedBansEvents> {
  readonly #clock: Clock;
  readonly #local: LocalBans;
  readonly #sync: BanSync;
  readonly #followers: Follower[] = [];
  #lastNow = Number.NEGATIVE_INFINITY;

  /** @throws `ERR_LIMITER_OPTION` for an invalid option or client. */
  constructor(options: SharedBansOptions) {
    super();
    const given = readOptions('SharedBans', options, OPTIONS);
    const { clock, maxPeers } = commonOptions(given);
    const deadlineSeconds = readDeadline(given);
    this.#clock = clock ?? monotonicSeconds;
    this.#local = new LocalBans(maxPeers);
    this.#sync = new BanSync(given['client'], readPrefix(given), deadlineSeconds, {
      onPeer: (key, state, isOwn) => this.#apply(key, state, isOwn),
      onCorrection: (seconds) => this.#local.correct(seconds),
      onState: (state, reason) =>
        callSafely(() => this.emit('state', { state, ...(reason !== undefined && { reason }) })),
      find: (key) => this.#local.stateOf(key, this.#now()),
      keys: () => this.#local.keys(),
    });
  }

  /**
   * Bans a peer in all processes for a number of seconds from now. If it has a ban that ends later, that ban stays; to
   * shorten a ban, lift it first.
   * `violations`: the peer's number of violations.
   * @throws `ERR_LIMITER_KEY`; `ERR_LIMITER_OPTION` unless `seconds` is finite and greater than 0, and `violations` a
   * whole number of at least 0.
   */
  ban(key: string, seconds: number, violations = 0): void {
    requireKey(key);
    positive({ seconds }, 'seconds');
    count({ violations }, 'violations', 0);
    this.#share(key, seconds, violations);
  }

  /**
   * Ends all bans of a peer that were made until now, in all processes, and forgets its violations, in the shared limiters
   * too. However late other processes hear of it, it does not end a ban that is made later.
   * @throws `ERR_LIMITER_KEY`
   */
  lift(key: string): void {
    requireKey(key);
    const id = detachString(idOf(key));
    this.#local.lift(id, this.#moment());
    this.#sync.forgetCount(id);
    this.#forgetInLimiters(key);
    this.#sync.send(id);
  }

  /** Whether a ban of any process is in force. O(1). @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK` */
  isBanned(key: string): boolean {
    return this.banSecondsLeft(key) > 0;
  }

  /**
   * Returns the seconds that a peer's ban has left, 0 if it has none. O(1). @throws `ERR_LIMITER_KEY`,
   * `ERR_LIMITER_CLOCK`
   */
  banSecondsLeft(key: string): number {
    requireKey(key);
    return this.#local.secondsLeft(idOf(key), readClock(this.#clock));
  }

  /**
   * Returns the bans in force of all processes, as far as this one knows them: those that end last come first. A key of more
   * than 128 UTF-16 code units is given as its digest. O(bans known). `most`: default 100.
   * @throws `ERR_LIMITER_OPTION` unless `most` is a whole number of at least 0; `ERR_LIMITER_CLOCK`
   *
   * @example
   * import { Redis } from 'ioredis';
   * import { SharedBans } from 'relay-limiter/redis';
   *
   * const client = new Redis(process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379');
   * const bans = new SharedBans({ client });
   * bans.ban('203.0.113.7', 3600);
   * const { count, bans: longest } = bans.getBans();
   * console.log(count, longest[0]?.[0]); // 1 203.0.113.7
   * await bans.close();
   * client.disconnect();
   */
  getBans(most = 100): BansInForce {
    requireCount(most, 'most');
    const bans = this.inForce().map(({ key, seconds }): [string, number] => [key, seconds]);
    bans.sort(([, a], [, b]) => b - a);
    return { count: bans.length, bans: bans.slice(0, most) };
  }

  /** Whether this process knows any ban, in force or over. O(1). @internal */
  get knowsBans(): boolean {
    return this.#local.hasBans;
  }

  /** The bans in force that this process knows, by their ids. O(bans known). @internal */
  inForce(): SharedBan[] {
    return this.#local.all(readClock(this.#clock)).filter(({ seconds }) => seconds > 0);
  }

  /**
   * Shares a limiter's bans and its peers' violations, which are summed over all processes within five seconds: other
   * processes get what this limiter finds, and the limiter takes over what they find, as `restore` does. If the limiter's `unban` ends a ban, `lift` ends it in all
   * processes. The limiters of a fleet may differ in their options.
   * @throws `ERR_LIMITER_OPTION` unless `limiter` is of one of these two classes and not shared yet.
   */
  share(limiter: OrderbookRateLimiter | DirectConnectionRateLimiter): void {
    const follower = createFollower(limiter);
    if (follower === undefined || limiter.onRefusal !== undefined) {
      const accepted =
        'an OrderbookRateLimiter or DirectConnectionRateLimiter that is not shared yet';
      throw invalidValue('ERR_LIMITER_OPTION', 'limiter', limiter, accepted);
    }
    limiter.onRefusal = (key, banSeconds) => {
      const violations = limiter.getViolationCount(key);
      if (banSeconds > 0) this.#share(key, banSeconds, violations, follower);
      else this.#countViolation(key, violations, follower);
    };
    limiter.onUnban = (key) => this.lift(key);
    this.#followers.push(follower);
    follower.apply(this.#local.all(this.#now()).filter(({ key }) => isName(key)));
  }

  /**
   * Resolves once bans of other processes arrive. Optional: call it if the process should not start with an unusable
   * store.
   * @throws (rejects with) `ERR_LIMITER_STORE` and the reason: no connection, a refused password.
   */
  ready(): Promise<void> {
    return this.#sync.ready();
  }

  /** Returns the counts of this process. O(bans known). */
  getStats(): SharedBansStats {
    const { state, sent, received, unsent } = this.#sync;
    return { bans: this.#local.countBans(this.#now()), state, sent, received, waiting: unsent };
  }

  /** Sends what is unsent, if the store answers, and ends the subscription. The client stays open. */
  async close(): Promise<void> {
    for (const { limiter } of this.#followers) {
      limiter.onRefusal = undefined;
      limiter.onUnban = undefined;
    }
    await this.#sync.close();
  }

  /** Applies a ban and sends it. `source`: the limiter that found it, and therefore has it already. */
  #share(key: string, seconds: number, violations: number, source?: Follower): void {
    const id = detachString(idOf(key));
    const moment = this.#moment();
    if (this.#local.add({ key: id, seconds, violations }, moment) === 'raised') {
      this.#tellFollowers(id, key, moment.here, source);
    }
    // The number that comes with the ban includes them.
    if (source !== undefined) this.#sync.forgetCount(id);
    this.#sync.send(id);
  }

  /** Counts a violation that a limiter has found, unless another limiter has counted it for the same peer. */
  #countViolation(key: string, violations: number, source: Follower): void {
    const id = detachString(idOf(key));
    const known = this.#local.find(id, this.#now())?.violations ?? 0;
    if (violations <= known + this.#sync.uncounted(id)) return;
    const uncounted = this.#sync.count(id);
    if (uncounted >= source.step || source.levels.includes(violations)) this.#sync.send(id);
  }

  /** Merges what the store knows of a peer. A process gets no events for its own changes. */
  #apply(key: string, state: BanState, isOwn: boolean): void {
    const moment = this.#moment();
    const effect = this.#local.merge(key, state, moment);
    if (effect === 'none') return;
    if (effect === 'ended') {
      this.#sync.forgetCount(key);
      this.#forgetInLimiters(key);
    }
    const ban = this.#local.find(key, moment.here);
    const isKnown = ban !== undefined && (ban.seconds > 0 || ban.violations > 0);
    // A digest is the name of no peer.
    if (isKnown && isName(key)) this.#tellFollowers(key, key, moment.here);
    if (isOwn) return;
    if (isKnown) callSafely(() => this.emit('ban', ban));
    else callSafely(() => this.emit('lift', { key }));
  }

  /** Makes the limiters take over what is known of a peer, on top of which come violations that the store does not know. */
  #tellFollowers(id: string, key: string, now: number, source?: Follower): void {
    const known = this.#local.find(id, now);
    if (known === undefined) return;
    const ban = { ...known, key, violations: known.violations + this.#sync.uncounted(id) };
    for (const follower of this.#followers) if (follower !== source) follower.apply([ban]);
  }

  #forgetInLimiters(key: string): void {
    for (const { limiter } of this.#followers) limiter.removePeer(key);
  }

  #moment(): Moment {
    return { here: this.#now(), fleet: this.#sync.clock.now() };
  }

  /** The time; the last known time if the caller's clock fails. Only a call by the user can report a failing clock. */
  #now(): number {
    try {
      this.#lastNow = readClock(this.#clock);
    } catch {}
    return this.#lastNow;
  }
}
