// What the two facades that ban share.

import { requireBanSeconds, requireCount, requireKey } from '../common/options.js';
import type { BansInForce } from '../common/types.js';
import type { BanningCore } from '../engine/engine.js';
import { Limiter } from './limiter.js';

export abstract class BanningLimiter extends Limiter {
  /** @internal */
  declare readonly core: BanningCore;

  /** Seconds a ban lasts, at least 0. */
  abstract readonly banDuration: number;

  /**
   * Bans a peer by hand, known or not, for `seconds` from now: more than 0 and at most `banDuration`, the default.
   * A ban that ends later stays. The peer's violations become at least `violations`, a whole number (default 0: they
   * stay as they are). If a ban begins, `onBan` and the channel of bans are told; shared bans spread it. Returns whether
   * the peer is banned now: false only if the limiter is full and can forget nobody for it. O(1). `removePeer` lifts
   * the ban.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK` for bad input, which changes nothing, and
   * `ERR_LIMITER_MEMORY` where a new peer finds no memory.
   * @example
   * nicks.ban('mallory', 600); // ten minutes
   */
  ban(peerKey: string, seconds = this.banDuration, violations = 0): boolean {
    requireKey(peerKey);
    requireBanSeconds(seconds, this.banDuration);
    requireCount(violations, 'violations');
    const now = this.now();
    const wasBanned = this.core.isBanned(peerKey, now);
    // As a snapshot of this one peer would: idle for an unknown time, no bucket.
    const numbers = Float64Array.of(violations, seconds, Infinity, Number.NaN, 0);
    if (this.core.restore({ keys: [peerKey], numbers }, now) === 0) return false;
    this.onRefusal?.(peerKey, seconds);
    if (!wasBanned) this.announceBan(peerKey, seconds);
    return true;
  }

  /**
   * How many bans are in force, and the `most` (default 100; a whole number of at least 0) of them that
   * have the longest left, longest first. Reads state, changes none. One pass over the bans, O(n log most)
   * at worst, that names no others: `getStatistics` names all.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  getBans(most = 100): BansInForce {
    requireCount(most, 'most');
    return this.core.longestBans(most, this.now());
  }
}
