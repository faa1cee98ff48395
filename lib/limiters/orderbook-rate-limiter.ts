// OrderbookRateLimiter: one request an interval, an interval that grows with violations, a ban.

import {
  DEFAULT_BAN_DURATION,
  DEFAULT_ORDERBOOK_RATE_INTERVAL,
  DEFAULT_ORDERBOOK_RATE_LIMIT,
  DEFAULT_VIOLATION_BAN_THRESHOLD,
  DEFAULT_VIOLATION_SEVERE_THRESHOLD,
  DEFAULT_VIOLATION_WARNING_THRESHOLD,
} from '../common/constants.js';
import {
  COMMON_OPTIONS,
  commonOptions,
  count,
  nonNegative,
  positive,
  readOptions,
  requireKey,
} from '../common/options.js';
import type { CleanupLimits, LimiterOptions, LimiterTotals, Violator } from '../common/types.js';
import { type OrderbookCore, SEAT } from '../engine/engine.js';
import { BanningLimiter } from './banning-limiter.js';
import { NOWHERE, Opened } from './peer-handle.js';

export interface OrderbookRateLimiterOptions extends LimiterOptions {
  /** Accepted and unused, as in the reference: one request an interval. Greater than 0; default 1. */
  rateLimit?: number | undefined;
  /** Seconds between two requests that are allowed, at least 0. Default 10. */
  interval?: number | undefined;
  /** Violations at which the next request starts a ban (0: the first request). Default 100. */
  violationBanThreshold?: number | undefined;
  /** Violations from which the interval is six times as long. Default 10. */
  violationWarningThreshold?: number | undefined;
  /** Violations from which the interval is thirty times as long. Default 50. */
  violationSevereThreshold?: number | undefined;
  /** Seconds a ban lasts, at least 0. Default 3600. */
  banDuration?: number | undefined;
}

export interface OrderbookStatistics extends LimiterTotals {
  totalViolations: number;
  trackedPeers: number;
  /** Keys of bans that are not over, in the order the bans began. */
  bannedPeers: string[];
  /** At most ten, most violations first; ties in the order of their first violation. */
  topViolators: Violator[];
}

/** How hard a peer is held back: by its violations, against the thresholds. */
export type BackoffLevel = 'NORMAL' | 'MODERATE' | 'SEVERE' | 'BANNED';

/** A key with its place remembered: it owns nothing and needs no closing. */
export interface OrderbookPeer {
  readonly key: string;
  /** Answers what the limiter's own check of `key` would, always. */
  check(): boolean;
}

const OPTIONS = [
  'rateLimit',
  'interval',
  'violationBanThreshold',
  'violationWarningThreshold',
  'violationSevereThreshold',
  'banDuration',
  ...COMMON_OPTIONS,
];

/**
 * For requests that are dear to answer (reference: JoinMarket-NG, `maker.rate_limiting`): one an
 * interval for each peer; every refusal is a violation, and violations lengthen the interval to six
 * and thirty times, then end in a ban. A peer's first request is always allowed.
 */
export class OrderbookRateLimiter extends BanningLimiter {
  /** @internal */
  declare readonly core: OrderbookCore;
  readonly rateLimit: number;
  readonly interval: number;
  readonly violationBanThreshold: number;
  readonly violationWarningThreshold: number;
  readonly violationSevereThreshold: number;
  readonly banDuration: number;

  /** @throws `ERR_LIMITER_OPTION` for a wrong option, `ERR_LIMITER_ENGINE` where the engine asked for cannot run. */
  constructor(options?: OrderbookRateLimiterOptions) {
    const given = readOptions('OrderbookRateLimiter', options, OPTIONS);
    const rateLimit = positive(given, 'rateLimit', DEFAULT_ORDERBOOK_RATE_LIMIT);
    const common = commonOptions(given);
    const config = {
      interval: nonNegative(given, 'interval', DEFAULT_ORDERBOOK_RATE_INTERVAL),
      violationBanThreshold: count(given, 'violationBanThreshold', DEFAULT_VIOLATION_BAN_THRESHOLD),
      violationWarningThreshold: count(
        given,
        'violationWarningThreshold',
        DEFAULT_VIOLATION_WARNING_THRESHOLD,
      ),
      violationSevereThreshold: count(
        given,
        'violationSevereThreshold',
        DEFAULT_VIOLATION_SEVERE_THRESHOLD,
      ),
      banDuration: nonNegative(given, 'banDuration', DEFAULT_BAN_DURATION),
      maxPeers: common.maxPeers,
    };
    super('OrderbookRateLimiter', common, config.banDuration, (engine) => engine.orderbook(config));
    this.rateLimit = rateLimit;
    this.interval = config.interval;
    this.violationBanThreshold = config.violationBanThreshold;
    this.violationWarningThreshold = config.violationWarningThreshold;
    this.violationSevereThreshold = config.violationSevereThreshold;
    this.banDuration = config.banDuration;
  }

  /**
   * Whether this request may be answered. A refusal counts a violation, also during a ban; the ban
   * begins with the request after the threshold was reached. O(1); allocates nothing when allowed.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK` for bad input, which changes nothing, and
   * `ERR_LIMITER_MEMORY` where a new peer finds no memory.
   */
  check(peerNick: string): boolean {
    requireKey(peerNick);
    const now = this.now();
    const refusal = this.core.check(peerNick, now);
    return this.allows(peerNick, refusal);
  }

  /**
   * Whether a ban is in force. A ban that is over is lifted here, its violations with it. Never
   * starts a ban: a peer at the threshold is banned by its next request.
   * @throws `ERR_LIMITER_KEY`, `ERR_LIMITER_CLOCK`.
   */
  isBanned(peerNick: string): boolean {
    requireKey(peerNick);
    return this.core.isBanned(peerNick, this.now());
  }

  /** The level a peer's violations put it on; for logs and people. @throws `ERR_LIMITER_KEY`. */
  getBackoffLevel(peerNick: string): BackoffLevel {
    const violations = this.getViolationCount(peerNick);
    if (violations >= this.violationBanThreshold) return 'BANNED';
    if (violations >= this.violationSevereThreshold) return 'SEVERE';
    if (violations >= this.violationWarningThreshold) return 'MODERATE';
    return 'NORMAL';
  }

  /**
   * Forgets the peers whose last allowed request is more than `maxAge` seconds ago (any number but
   * NaN; default 3600) and every ban that is over; a ban in force stays, with its violations. With a budget it may stop before its
   * end, and `isCleaning` is true.
   * @throws `ERR_LIMITER_OPTION`, `ERR_LIMITER_CLOCK`.
   */
  cleanupOldEntries(maxAge = 3600, limits?: CleanupLimits): void {
    this.cleanup(maxAge, 'maxAge', limits);
  }

  /**
   * Counts, all bans and the worst offenders. Reads state, changes none. It names every ban, O(n log n):
   * with many of them `getOverview` and `getBans` are for who asks often.
   * @throws `ERR_LIMITER_CLOCK`, `ERR_LIMITER_MEMORY`.
   */
  getStatistics(): OrderbookStatistics {
    const banned = this.core.bannedKeys(this.now());
    const { tracked, ...counts } = this.core.statistics();
    return { trackedPeers: tracked, bannedPeers: banned, ...counts };
  }

  /** A peer with its key bound. @throws `ERR_LIMITER_KEY` unless the key is a string. */
  open(peerNick: string): OrderbookPeer {
    requireKey(peerNick);
    return new OpenedPeer(peerNick, this);
  }
}

/** A peer of an OrderbookRateLimiter, its place in the engine remembered. */
class OpenedPeer extends Opened implements OrderbookPeer {
  #place = NOWHERE;
  readonly #limiter: OrderbookRateLimiter;

  constructor(key: string, limiter: OrderbookRateLimiter) {
    super(key);
    this.#limiter = limiter;
  }

  check(): boolean {
    const { core } = this.#limiter;
    const now = this.#limiter.now();
    this.seat(this.#place);
    const refusal = core.checkPeer(this.key, now);
    if (SEAT[0] !== this.#place) this.#place = this.follow();
    return this.#limiter.allows(this.key, refusal);
  }
}
