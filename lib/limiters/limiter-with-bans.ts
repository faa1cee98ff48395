// LimiterWithBans: the base of the two public limiters that ban.

import { requireBanSeconds, requireCount, requireKey } from '../common/options.js';
import type { BansInForce } from '../common/types.js';
import type { BanningCore } from '../engine/engine.js';
import { Limiter } from './limiter.js';

/** LimiterWithBans has the methods that all limiters with bans share: a type for functions that take any of them. */
export abstract class LimiterWithBans extends Limiter {
  /** @internal */
  declare readonly core: BanningCore;

  /** The length of a ban in seconds, at least 0. */
  abstract readonly banDuration: number;

  /**
   * Bans a peer for `seconds`, greater than 0 and at most `banDuration` (the default). The peer may be unknown. A ban
   * that ends later stays. `violations` is a whole number (default 0): the peer's violations are raised to it, never
   * lowered. If a ban begins, `onBan` is called and the ban is published on `BAN_CHANNEL`. Shared bans replicate the
   * ban. `unban` ends it.
   *
   * Returns whether the peer is banned: false only if the limiter is full and no peer can be evicted. O(1).
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION` or `ERR_LIMITER_CLOCK` for invalid input, and then changes nothing;
   * `ERR_LIMITER_MEMORY` if there is no memory for a new peer.
   * @example
   * import { OrderbookRateLimiter } from 'relay-limiter';
   *
   * const limiter = new OrderbookRateLimiter();
   * limiter.ban('mallory', 600); // ten minutes
   */
  ban(peerKey: string, seconds = this.banDuration, violations = 0): boolean {
    requireKey(peerKey);
    requireBanSeconds(seconds, this.banDuration);
    requireCount(violations, 'violations');
    const now = this.now();
    const wasBanned = this.core.isBanned(peerKey, now);
    // The peer as a snapshot lists it: violations, seconds left, idle for an unknown time, no bucket.
    const numbers = Float64Array.of(violations, seconds, Infinity, Number.NaN, 0);
    if (this.core.restore({ keys: [peerKey], numbers }, now) === 0) return false;
    this.onRefusal?.(peerKey, seconds);
    if (!wasBanned) this.announceBan(peerKey, seconds);
    return true;
  }

  /**
   * Ends a ban in force at once and returns true. The peer is left as if the time of its ban were over: an
   * `OrderbookRateLimiter` resets its violations and its interval, a `DirectConnectionRateLimiter` keeps its violations,
   * its bucket and its interval. Returns false, and changes nothing, without a ban in force. `removePeer` forgets the
   * whole peer. If the limiter's bans are shared, this is `SharedBans.lift`: the ban ends in all processes. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string; `ERR_LIMITER_CLOCK`.
   * @example
   * import { OrderbookRateLimiter } from 'relay-limiter';
   *
   * const limiter = new OrderbookRateLimiter();
   * limiter.ban('mallory', 600);
   * console.log(limiter.unban('mallory'), limiter.isBanned('mallory')); // true false
   * console.log(limiter.unban('mallory')); // false
   */
  unban(peerKey: string): boolean {
    requireKey(peerKey);
    if (!this.core.unban(peerKey, this.now())) return false;
    this.onUnban?.(peerKey);
    return true;
  }

  /**
   * Returns the seconds that a ban in force has left, at most `banDuration`; 0 without one. Changes nothing: unlike
   * `isBanned` it does not remove an expired ban. O(1).
   * @throws `ERR_LIMITER_KEY` unless the key is a string; `ERR_LIMITER_CLOCK`.
   * @example
   * import { OrderbookRateLimiter } from 'relay-limiter';
   *
   * const limiter = new OrderbookRateLimiter();
   * limiter.ban('mallory', 600);
   * console.log(`Retry-After: ${Math.ceil(limiter.banSecondsLeft('mallory'))}`);
   */
  banSecondsLeft(peerKey: string): number {
    requireKey(peerKey);
    return this.core.banSecondsLeft(peerKey, this.now());
  }

  /**
   * Returns the number of bans in force, and the `most` bans (default 100; a whole number of at least 0) that end last,
   * longest first. Changes nothing. One pass over n bans, at worst O(n log most). `getStatistics` lists all bans.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   * @example
   * import { OrderbookRateLimiter } from 'relay-limiter';
   *
   * const limiter = new OrderbookRateLimiter();
   * limiter.ban('mallory', 600);
   * const { count, bans } = limiter.getBans(10);
   * for (const [key, secondsLeft] of bans) console.log(`${key}: ${secondsLeft} seconds left`);
   * console.log(`${count} bans in force`);
   */
  getBans(most = 100): BansInForce {
    requireCount(most, 'most');
    return this.core.longestBans(most, this.now());
  }
}
